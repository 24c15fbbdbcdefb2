// Elementwise kernels on a CPU core: bound by memory (add) or by some 40 operations an element (GELU).
#include "generators/activation.h"

#include "schedules/rows.h"

namespace aft {

std::function<void(Elementwise &)> plan_elementwise(const Request &request) {
    return planned(request, [](const Machine &machine, Knobs &knobs) -> std::function<void(Elementwise &)> {
        const int lanes = machine.lanes;
        const int rows = knobs("rows_per_task", 16, {4, 16, 64}, "a task is some microseconds, far above the cost of handing it out");
        const int vectors = knobs("vectors", 2, {1, 2, 4}, "independent vectors hide the latency of the polynomials");
        return [=](Elementwise &e) {
            Halide::Var task{"task"};
            row_loops(e.result, e.c, e.r, task, lanes, vectors, rows);
        };
    });
}

ColumnSumsPlan plan_column_sum(const Request &request) { return planned(request, plan_column_sums); }

}  // namespace aft
