// AFT-simple on a CPU core: whole rows of channels per time step, several vectors in flight; the state stays in L1.
//
// A scan is a stream: rows of the inputs are read in order of their addresses, which the prefetchers follow, so the loop
// over channels is inside the loop over time although the state then lives in L1 and not in registers.
// Measured on one Zen 4 core (512-bit operations in two halves), [1, 128, 512] in cache, per element: causal forward 0.66 ns
// (the exact form alone: 1.08), backward 1.42 (1.89); bidirectional 0.65 (1.01) and 0.90 (1.05). A loop that reads three such
// tensors from DRAM and writes one takes 0.57. On an Emerald Rapids core the causal forward takes 0.78, and 1.3 out of L3, where
// that loop takes 0.6. Of the 53 vector instructions per 16 elements of the bounded forward step 25 need one of the two
// multipliers, besides a division; backward has 35 and 5 in its two passes.
// Threads: the caller cuts batch and channels into tasks (models/mixers/simple.cpp); a kernel call is serial.
#include "generators/aft_simple.h"
#include "generators/fetch_ahead.h"
#include "schedules/plan.h"

namespace aft {
namespace {

using namespace Halide;

void rows(Stage stage, const Var &c, int lanes, int vectors) {
    Var co{"co"}, ci{"ci"};
    stage.split(c, co, ci, lanes * vectors, TailStrategy::GuardWithIf).vectorize(ci, lanes).unroll(ci);
}

void schedule_aft_simple(AftSimple &a, int lanes, int vectors) {
    if (!a.is_scan) {
        rows(a.y, a.c, lanes, vectors);
        return;
    }
    for (int stage = 0; stage < a.stages; stage++) {
        if (stage == a.scan)
            rows(a.y.update(stage).reorder(a.c, a.step.x, a.b), a.c, lanes, vectors);
        else
            rows(a.y.update(stage), a.c, lanes, 1);
    }
}

}  // namespace

AftSimplePlan plan_aft_simple(const Request &request) {
    return planned(request, [&](const Machine &machine, Knobs &knobs) -> AftSimplePlan {
        const int lanes = machine.lanes;
        const int vectors = knobs("vectors", machine.vector_registers >= 32 ? 4 : 2, {1, 2, 4, 8},
                                  "independent chains of exp, divide and accumulate hide each other's latency");
        // Out of L3 on a Xeon: 0.95 to 0.98 of the time, and the keys' backward as before.
        const int ahead = knobs("ahead", machine.vector_registers >= 32 ? 8 : 0, {0, 2, 4, 8, 16}, "turns of the loop over channels after which a row's lines, which come from memory, are wanted");
        return {[=, lines = request.fetch_ahead](AftSimple &a) {
            schedule_aft_simple(a, lanes, vectors);
            if (ahead)
                for (const char *input : {"query", "key", "value", "output_gradient", "half", "G", "GR", "num", "den"}) lines->loads(a.y, Var("co"), input, ahead);
        }};
    });
}

}  // namespace aft
