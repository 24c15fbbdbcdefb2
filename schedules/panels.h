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

}  // namespace aft
