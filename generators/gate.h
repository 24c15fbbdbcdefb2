// The gate sigma(Q) by one exp that neither overflows nor underflows early: with u = exp(-|Q| / 2) and one_plus = 1 + u^2,
//   sigma = root^2 / one_plus,  root = Q < 0 ? u : 1        sigma (1 - sigma) = (u / one_plus)^2
// A factor meets one root, or u, at a time (times_square): so x sigma keeps its digits where sigma alone is below the smallest float.
#pragma once
#include <Halide.h>

#include "generators/vector_math.h"

namespace aft {

struct Gate {
    Halide::Expr u, root, one_plus;

    explicit Gate(Halide::Expr Q) : u(exp_half(-Halide::abs(Q))), root(Halide::select(Q < 0, u, 1.0f)), one_plus(1.0f + u * u) {}

    // sigma x
    Halide::Expr times(Halide::Expr x) const { return times_square(x, root) / one_plus; }

    // (sigma R, R) with R = num / den: one division. As written: regrouped, each would have its own.
    Halide::Tuple of_ratio(Halide::Expr num, Halide::Expr den) const {
        const Halide::Expr scaled = num / (den * one_plus);
        return Halide::Tuple(times_square(scaled, root), strict_product(scaled, one_plus));
    }
};

}  // namespace aft
