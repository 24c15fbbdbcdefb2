// AFT-simple on a CPU core: whole rows of channels per time step, several vectors in flight; the state stays in L1.
//
// A scan is a stream: rows of the inputs are read in order of their addresses, which the prefetchers follow, so the loop
// over channels is inside the loop over time although the state then lives in L1 and not in registers.
// Measured on one Zen 4 core (512-bit operations in two halves), [4, 2048, 512], per element: causal forward 1.45 ns = 39 % of
// a loop that reads three such tensors and writes one (0.57), backward 3.2 ns = 32 % of four read and three written (1.04);
// bidirectional 1.35 and 1.59 (66 %). Rows of 256 channels: 1.1 (53 %), 3.5; bidirectional 1.0 and 1.13 (93 %). About 55 vector
// operations per 16 elements make the forward pass compute-bound here, not the stream.
// Threads: the caller cuts batch and channels into tasks (models/mixers/simple.cpp); a kernel call is serial.
#include "generators/aft_simple.h"
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
        return {[=](AftSimple &a) { schedule_aft_simple(a, lanes, vectors); }};
    });
}

}  // namespace aft
