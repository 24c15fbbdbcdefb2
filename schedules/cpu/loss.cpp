// Softmax cross-entropy on a CPU core: one exp an element; all passes over a row after the first find it in L1.
//
// Measured on one Zen 4 core, AVX-512, with the gradient: 0.42 ns an element at [64, 256] and 0.37 at [32, 8192], in cache:
// bound by exp, by the passes over the row and by the folds of short rows, not by memory. To keep exp z alone and to compute z
// again for its sum made rows of 256 take 0.47.
#include "generators/loss.h"

#include "schedules/rows.h"

namespace aft {

using namespace Halide;

SoftmaxCrossEntropyPlan plan_softmax_cross_entropy(const Request &request) {
    return planned(request, [](const Machine &machine, Knobs &knobs) -> SoftmaxCrossEntropyPlan {
        const int lanes = machine.lanes;
        const int rows = knobs("rows_per_task", 8, {4, 8, 32}, "a task is some microseconds, far above the cost of handing it out");
        const int sums = knobs("sum_vectors", 2, {1, 2, 4}, "independent partial sums hide the latency of an addition");
        const int vectors = knobs("vectors", 2, {1, 2, 4}, "independent vectors hide the latency of exp");
        return {sums * lanes, [=](SoftmaxCrossEntropy &s) {
                    Var task{"task"};
                    const bool gradient = s.dlogits.defined();
                    Func at = gradient ? s.dlogits : s.loss;
                    if (gradient) {
                        row_loops(s.dlogits, s.c, s.r, task, lanes, vectors, rows);
                        s.loss.split(s.r, task, s.r, rows, guard).parallel(task);
                        s.loss.compute_with(s.dlogits, s.r);
                    } else {
                        s.loss.split(s.r, task, s.r, rows, guard).parallel(task);
                    }
                    s.kept.compute_at(at, s.r).store_in(MemoryType::Stack).bound_extent(s.r, 1).vectorize(s.c, lanes, guard).unroll(s.c, vectors, guard);
                    s.row_loss.compute_at(at, s.r).bound_extent(s.r, 1);
                    for (RowReduction &reduction : s.reductions) reduce_row(reduction, at, s.r, lanes);
                }};
    });
}

}  // namespace aft
