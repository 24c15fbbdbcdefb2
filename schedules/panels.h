// Moves shared by the kernels whose channels lie in panels of 16.
#pragma once
#include "schedules/plan.h"

namespace aft {

// Splits a panel's channels into vectors.
struct Lanes {
    int lanes;
    Halide::Var lo{"lo"}, li{"li"};

    template <class Stage>
    void vectorize(Stage s, Halide::Var l) const { s.split(l, lo, li, lanes).vectorize(li).unroll(lo); }

    // The same of the sums of a register tile, whose rows are t and whose loops over terms are `terms`. rows_inside: a vector of channels meets
    // all rows before the next is loaded, so that the rows' numbers stay in registers; else the vectors stay while rows pass.
    template <class... Terms>
    void sum_tile(Halide::Stage s, Halide::Var l, Halide::Var part, Halide::Var t, bool rows_inside, Terms... terms) const {
        vectorize(s, l);
        if (rows_inside)
            s.reorder(li, t, lo, part, terms...);
        else
            s.reorder(li, lo, part, t, terms...);
        s.unroll(part).unroll(t);
    }
};

// `lanes` channels at a time, of one vector or of two that share the constants: what their results share stays in registers.
template <class Queries>
void one_pass(Queries &q, int lanes) {
    Halide::Var co{"co"}, ci{"ci"};
    q.gradients.update().split(q.c, co, ci, lanes, guard).vectorize(ci).never_partition(q.t).always_partition(co);
    q.alone.compute_at(q.gradients, co).store_in(Halide::MemoryType::Register).bound_extent(q.c, lanes).vectorize(q.c);
}

}  // namespace aft
