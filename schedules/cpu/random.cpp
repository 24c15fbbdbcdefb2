// Dropout on a CPU core. A vector of 64-bit lanes makes 4 words a lane by 20 products, 20 shifts and 20 three-way xors, for 64 columns.
//
// Measured on one Emerald Rapids core, AVX-512: 0.49 to 0.58 ns an element, 60 to 76 % of the rate of the same streams in L3 (0.65 to
// 0.83 of the time that a word a column took): bound by the ten rounds and by memory about equally.
#include "generators/random.h"

#include "schedules/rows.h"

namespace aft {

using namespace Halide;

std::function<void(Dropout &)> plan_dropout(const Request &request) {
    return planned(request, [](const Machine &machine, Knobs &knobs) -> std::function<void(Dropout &)> {
        const int lanes = machine.lanes;
        const int rows = knobs("rows_per_task", 16, {4, 16, 64}, "a task is some microseconds, far above the cost of handing it out");
        const int vectors = knobs("vectors", 2, {1, 2, 4}, "vectors a turn of the writing loop");
        const int groups = knobs("groups", 2, {1, 2, 4}, "independent chains of ten dependent rounds hide the latency of the products");
        const bool fused = knobs("fused", 0, {0, 1}, "0: a row's halves are made first and wait in L1; 1: those of a few groups, before they are used");
        return [=](Dropout &d) {
            Var task{"task"}, go{"go"}, co{"co"}, group{"group"}, half{"half"};
            if (fused) d.y.split(d.c, co, d.c, groups * d.columns, guard);
            row_loops(d.y, d.c, d.r, task, lanes, vectors, rows);
            // Whole groups, for it is scratch.
            d.halves.compute_at(d.y, fused ? co : d.r).store_in(MemoryType::Stack).bound_extent(d.r, 1).align_bounds(d.c, d.columns);
            d.halves.split(d.c, go, d.c, groups * d.columns, TailStrategy::RoundUp).split(d.c, group, d.c, d.columns).split(d.c, half, d.c, d.lanes);
            d.halves.vectorize(d.c).unroll(half).unroll(group);
            d.words.compute_at(d.halves, go).store_in(MemoryType::Stack).bound_extent(d.r, 1).bound(d.lane, 0, d.lanes).vectorize(d.lane).unroll(d.group);
        };
    });
}

}  // namespace aft
