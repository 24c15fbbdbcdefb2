// AFT-simple on a CPU core: whole rows of channels per time step, several vectors in flight; the state stays in L1.
//
// A scan is a stream: rows of the inputs are read in order of their addresses, so the loop over channels is inside the loop over
// time although the state then lives in L1 and not in registers. The processor's prefetchers follow such rows, but a step has fifty
// instructions per line of each tensor, so few lines are in flight, and stores wait for theirs in order: what is computed and what
// is fetched hardly overlap. So the loop asks for lines a row ahead, for those of results too. Of the time out of L3 on one Emerald
// Rapids core, [4, 2048, 512], with AVX2: causal forward 0.84, backward 0.58 (its keys go back in time, where lines come one by one),
// bidirectional 0.75 and 0.83. Two rows ahead are no better.
// Measured on one Zen 3 core (AVX2), [1, 64, 512] in L2, per element: causal forward 0.71 ns, the form with squares and clamps before it 0.94.
// Of the 41 vector instructions per 16 elements of that step with AVX-512, 30 need one of the two units of 512 bits, besides a division; it
// was 37 of 49, and by a scheduling model (llvm-mca, Ice Lake) a turn takes 0.70 of the cycles. Two steps a turn take 1.07 to 1.4 of the time.
// 16 registers do not hold the constants of two exp, so each vector loads them again, and what a core keeps in flight is counted in instructions:
// two vectors side by side share them. On Zen 3 in L2, per pass: 0.91 to 0.95 of the time forward, 0.90 to 0.93 backward.
// Zen 3 rather does without asking ahead going back: 0.85 of the queries' kernel (schedules/tuned/avx2).
// Threads: the caller cuts batch and channels into tasks (models/mixers/simple.cpp); a kernel call is serial.
#include "generators/aft_simple.h"
#include "generators/fetch_ahead.h"
#include "schedules/plan.h"

namespace aft {
namespace {

using namespace Halide;

// A turn takes `vectors` vectors, `at_once` of which are computed side by side.
void along_row(Stage stage, const Var &c, int lanes, int vectors, int at_once) {
    Var co{"co"}, ci{"ci"};
    stage.split(c, co, ci, lanes * vectors, TailStrategy::GuardWithIf).vectorize(ci, lanes * at_once).unroll(ci);
}

void schedule_aft_simple(AftSimple &a, int lanes, int vectors, int at_once, int steps, const RVar &turn) {
    if (!a.is_scan) {
        along_row(a.y, a.c, lanes, vectors, at_once);
        return;
    }
    for (int stage = 0; stage < a.stages; stage++) {
        if (stage != a.scan) {
            along_row(a.y.update(stage), a.c, lanes, 1, 1);
            continue;
        }
        RVar of_turn{"of_turn"};
        Stage scan = a.y.update(stage);
        if (steps > 1) scan.split(a.step.x, turn, of_turn, steps).reorder(of_turn, a.c, turn, a.b).unroll(of_turn);
        else scan.reorder(a.c, a.step.x, a.b);
        along_row(scan, a.c, lanes, vectors, at_once);
    }
}

}  // namespace

AftSimplePlan plan_aft_simple(const Request &request) {
    return planned(request, [&](const Machine &machine, Knobs &knobs) -> AftSimplePlan {
        const int lanes = machine.lanes;
        const int vectors = knobs("vectors", machine.vector_registers >= 32 ? 4 : 2, {1, 2, 4, 8},
                                  "independent chains of exp, divide and accumulate hide each other's latency");
        const int at_once = vectors_at_once(machine, knobs);
        knobs.require(vectors % at_once == 0, "a turn's vectors are whole groups of those computed side by side");
        const int steps = knobs.only(request.part == "scan", "steps", 1, {1, 2, 4}, "of time, a turn: the state is loaded and stored once for all of them");
        const int ahead = knobs("ahead", 1, {0, 1, 2, 4}, "turns of the loop over time after which the lines of inputs and results, which come from memory, are wanted");
        return {[=, lines = request.fetch_ahead](AftSimple &a) {
            const RVar turn = steps > 1 ? RVar("turn") : a.step.x;
            schedule_aft_simple(a, lanes, vectors, at_once, steps, turn);
            if (ahead == 0) return;
            const Var co{"co"};
            const VarOrRVar time = a.is_scan ? VarOrRVar(turn) : VarOrRVar(a.t);
            for (const char *input : {"query", "key", "value", "output_gradient", "half", "GR", "num", "den"}) lines->loads(a.y, co, input, ahead, time);
            for (int n = 0; n < a.results; n++) lines->stores(a.y, n, co, ahead, time);
        }};
    });
}

}  // namespace aft
