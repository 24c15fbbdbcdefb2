// Moves shared by the kernels that work row by row on [R, C].
#pragma once
#include "generators/column_sums.h"
#include "generators/row_reduction.h"
#include "schedules/plan.h"

namespace aft {

constexpr auto guard = Halide::TailStrategy::GuardWithIf;  // any extent, and safe in place: no element is computed twice

// A reduction of one row at a time, inside the loop `row` of `at`: the partial results in registers, then a tree.
inline void reduce_row(RowReduction &s, Halide::Func at, const Halide::Var &row, int lanes) {
    using namespace Halide;
    const auto place = [&](Func f, int width) {
        f.compute_at(at, row).store_in(MemoryType::Stack).bound_extent(s.r, 1).bound(s.u, 0, width);
        f.vectorize(s.u, std::min(lanes, width)).unroll(s.u);
    };
    place(s.partial, s.width);
    s.partial.update(0).reorder(s.u, s.steps).vectorize(s.u, lanes).unroll(s.u);
    s.partial.update(1).reorder(s.u, s.rest).vectorize(s.u, lanes).unroll(s.u);
    int width = s.width;
    for (Func &fold : s.folds) place(fold, width /= 2);
}

// Loops of a stage over [C, R]: vectors along the row, `rows` rows a task.
template <class Stage>
void row_loops(Stage stage, const Halide::Var &c, const Halide::Var &r, const Halide::Var &task, int lanes, int vectors, int rows) {
    stage.split(r, task, r, rows, guard).parallel(task).vectorize(c, lanes, guard);
    if (vectors > 1) stage.unroll(c, vectors, guard);
}

// Sums down the columns: whole rows in order, one stream; the partial sums of a block of rows stay in L1.
inline ColumnSumsPlan plan_column_sums(const Machine &machine, Knobs &knobs) {
    const int lanes = machine.lanes;
    const int rows = knobs("rows_per_block", 64, {32, 64, 128}, "a task; its partial sums cost one row of traffic");
    const int unroll = knobs("unroll_rows", 4, {1, 2, 4, 8}, "rows added per load and store of a partial sum");
    return {rows, [=](ColumnSums &s) {
                using namespace Halide;
                RVar outer{"outer"}, inner{"inner"};
                s.partial.compute_root().parallel(s.block).vectorize(s.c, lanes, guard);
                s.partial.update().split(s.row, outer, inner, unroll).reorder(inner, s.c, outer, s.block);
                s.partial.update().parallel(s.block).vectorize(s.c, lanes, guard).unroll(inner);
                Var co{"co"};
                s.sums.update().split(s.c, co, s.c, lanes, guard).vectorize(s.c);
                s.total.compute_at(s.sums, co).vectorize(s.c);
                s.total.update().reorder(s.c, s.blocks).vectorize(s.c);
            }};
}

}  // namespace aft
