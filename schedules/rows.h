// Moves shared by the kernels that work row by row on [R, C].
#pragma once
#include "generators/column_sums.h"
#include "generators/row_reduction.h"
#include "schedules/plan.h"

namespace aft {

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

// Sums down the columns, a block of rows a task: either along whole rows, one stream, with the block's sums in L1; or down one
// strip of columns after the other, with its sums in registers.
inline ColumnSumsPlan plan_column_sums(const Machine &machine, Knobs &knobs) {
    const int lanes = machine.lanes;
    const int rows = knobs("rows_per_block", 64, {32, 64, 128}, "a task; its partial sums cost one row of traffic");
    const int unroll = knobs("unroll_rows", 4, {1, 2, 4, 8}, "rows added a turn: along whole rows, per load and store of a sum");
    const int vectors = knobs("vectors", 1, {1, 2, 4}, "of a row, a turn");
    const int strip = knobs("strip_vectors", 0, {0, 2, 4, 8}, "loop order: 0 goes along whole rows; n down strips of n vectors, whose sums stay in registers");
    knobs.require(strip == 0 || vectors == 1, "a strip has its own number of vectors");
    return {rows, strip != 0, [=](ColumnSums &s) {
                using namespace Halide;
                RVar outer{"outer"}, inner{"inner"};
                Var co{"co"};
                auto add = s.strip.update();
                add.split(s.row, outer, inner, unroll);
                if (strip == 0) {
                    s.strip.compute_root().parallel(s.block).vectorize(s.c, lanes, guard);
                    add.reorder(inner, s.c, outer, s.block).parallel(s.block).vectorize(s.c, lanes, guard).unroll(inner);
                    if (vectors > 1) add.unroll(s.c, vectors, guard);
                } else {
                    s.partial.compute_root().parallel(s.block).split(s.c, co, s.c, strip * lanes, guard).vectorize(s.c, lanes, guard).unroll(s.c);
                    s.strip.compute_at(s.partial, co).store_in(MemoryType::Stack).bound_extent(s.c, strip * lanes).bound_extent(s.block, 1);
                    s.strip.vectorize(s.c, lanes).unroll(s.c);
                    add.reorder(s.c, inner, outer).vectorize(s.c, lanes).unroll(s.c).unroll(inner);
                }
                s.sums.update().split(s.c, co, s.c, lanes, guard).vectorize(s.c);
                s.total.compute_at(s.sums, co).vectorize(s.c);
                s.total.update().reorder(s.c, s.blocks).vectorize(s.c);
            }};
}

}  // namespace aft
