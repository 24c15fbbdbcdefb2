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
};

// A vector of channels at a time: what its results share stays in registers.
template <class Queries>
void one_pass(Queries &q, int lanes) {
    Halide::Var co{"co"}, ci{"ci"};
    q.gradients.update().split(q.c, co, ci, lanes, guard).vectorize(ci).never_partition(q.t).always_partition(co);
    q.alone.compute_at(q.gradients, co).store_in(Halide::MemoryType::Register).bound_extent(q.c, lanes).vectorize(q.c);
}

}  // namespace aft
