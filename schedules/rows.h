// Moves shared by the kernels that work row by row on [R, C].
#pragma once
#include "generators/row_reduction.h"

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

}  // namespace aft
