// Elementwise kernels on a CPU core: bound by memory (add) or by some 40 operations an element (GELU).
//
// Measured on one Zen 4 core, AVX-512, as a fraction of memcpy's rate for the same bytes, [2048, 256] and [2048, 1024]:
// add 0.90, 0.89; column sum 0.80, 0.88; GELU 0.26, 0.33 (0.31 ns an element) and its backward 0.21, 0.36 (0.60 ns).
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
