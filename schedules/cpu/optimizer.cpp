// AdamW on a CPU core: a stream of 32 bytes an element (four tensors read and written), bound by memory.
//
// Measured on one Zen 4 core, AVX-512, 30 M elements: 17.8 ms, 54 GB/s, 1.9 times memcpy's rate (in place: each line that is
// written was just read). The sum of squares reads 30 GB/s, as memcpy moves.
#include "generators/fetch_ahead.h"
#include "generators/optimizer.h"
#include "schedules/rows.h"

namespace aft {

using namespace Halide;

std::function<void(AdamWUpdate &)> plan_adamw(const Request &request) {
    return planned(request, [&](const Machine &machine, Knobs &knobs) -> std::function<void(AdamWUpdate &)> {
        const int lanes = machine.lanes;
        const int elements = knobs("elements_per_task", 16384, {1024, 4096, 16384, 65536}, "half a MiB of traffic a task: its handing out does not show");
        const int vectors = knobs("vectors", 2, {1, 2, 4}, "independent vectors hide the latency of the root and the division");
        const int run = knobs("run_vectors", 1, {1, 2, 4, 8}, "of one tensor before the next tensor's turn: four streams, each a page of DRAM");
        knobs.require(vectors * run <= 8, "a turn of the loop fits the instruction cache");
        const int ahead = knobs.later("ahead", 0, {0, 2, 4, 8}, "turns after which a line, which comes from memory and is written, is wanted");
        return [=, lines = request.fetch_ahead](AdamWUpdate &a) {
            Var task{"task"};
            auto update = a.state.update();
            update.split(a.i, task, a.i, elements, guard).parallel(task).vectorize(a.i, run * lanes, guard).unroll(a.i, vectors, guard);
            if (ahead) lines->owns(a.state, a.i, a.state, ahead);
        };
    });
}

SumOfSquaresPlan plan_sum_of_squares(const Request &request) {
    return planned(request, [](const Machine &machine, Knobs &knobs) -> SumOfSquaresPlan {
        const int lanes = machine.lanes;
        const int pieces = knobs("pieces_per_task", 16, {4, 16, 64}, "with pieces of some thousand elements: 256 KiB a task");
        const int sums = knobs("sum_vectors", 4, {2, 4, 8}, "independent partial sums hide the latency of an FMA");
        return {sums * lanes, [=](SumOfSquares &s) {
                    Var task{"task"};
                    s.y.update().split(s.block, task, s.block, pieces, guard).parallel(task);
                    for (RowReduction &sum : s.sums) reduce_row(sum, s.y, s.block, lanes);
                }};
    });
}

}  // namespace aft
