// Layer norm on a CPU core: bound by memory. A row is read from memory once; the further passes find it in L1.
//
// Measured on one Zen 4 core, AVX-512, as a fraction of memcpy's rate for the same bytes, [2048, 256] (in L2 and L3, memcpy
// 96 GB/s) and [2048, 1024]: forward 0.45, 0.62; with residual 0.58, 0.66; backward 0.89, 0.93; parameters 0.74, 0.72.
// Forward is 47 ns a row of 256: three dependent passes and three folds; neighbouring rows overlap only in part.
#include "generators/normalization.h"
#include "schedules/plan.h"
#include "schedules/rows.h"

namespace aft {

using namespace Halide;

RowPlan<LayerNormForward> plan_layer_norm_forward(const Request &request) {
    return planned(request, [](const Machine &machine, Knobs &knobs) -> RowPlan<LayerNormForward> {
        const int lanes = machine.lanes;
        const int rows = knobs("rows_per_task", 16, {4, 16, 64}, "a task is some microseconds, far above the cost of handing it out");
        const int sums = knobs("sum_vectors", 4, {1, 2, 4}, "independent partial sums hide the latency of an addition");
        const int vectors = knobs("vectors", 2, {1, 2, 4}, "vectors a turn of the writing loop");
        return {sums * lanes, [=](LayerNormForward &n) {
            Var task{"task"};
            row_loops(n.y, n.c, n.r, task, lanes, vectors, rows);
            n.statistics.split(n.r, task, n.r, rows, guard).parallel(task);
            n.statistics.compute_with(n.y, n.r);
            for (RowReduction &s : n.sums) reduce_row(s, n.y, n.r, lanes);
        }};
    });
}

RowPlan<LayerNormBackward> plan_layer_norm_backward(const Request &request) {
    return planned(request, [](const Machine &machine, Knobs &knobs) -> RowPlan<LayerNormBackward> {
        const int lanes = machine.lanes;
        const int rows = knobs("rows_per_task", 16, {4, 16, 64}, "a task is some microseconds, far above the cost of handing it out");
        const int sums = knobs("sum_vectors", 2, {1, 2, 4}, "two sums each: independent chains hide the latency of an addition");
        const int vectors = knobs("vectors", 2, {1, 2, 4}, "vectors a turn of the writing loop");
        return {sums * lanes, [=](LayerNormBackward &n) {
            Var task{"task"};
            row_loops(n.dx, n.c, n.r, task, lanes, vectors, rows);
            for (RowReduction &s : n.sums) reduce_row(s, n.dx, n.r, lanes);
        }};
    });
}

ColumnSumsPlan plan_layer_norm_parameters_backward(const Request &request) { return planned(request, plan_column_sums); }

}  // namespace aft
