// The gate sigma(Q) by one exp that neither overflows nor underflows early: with u = exp(-|Q| / 2) and one_plus = 1 + u^2,
//   sigma = root^2 / one_plus,  root = Q < 0 ? u : 1        1 - sigma = other_root^2 / one_plus,  other_root = Q < 0 ? 1 : u
// A factor meets one root at a time (times_square): so x sigma keeps its digits where sigma alone is below the smallest float.
#pragma once
#include <Halide.h>

#include "generators/vector_math.h"

namespace aft {

struct Gate {
    Halide::Expr u, root, other_root, one_plus;

    explicit Gate(Halide::Expr Q) : u(exp_half(-Halide::abs(Q))), root(Halide::select(Q < 0, u, 1.0f)), other_root(Halide::select(Q < 0, 1.0f, u)), one_plus(1.0f + u * u) {}

    // sigma x
    Halide::Expr times(Halide::Expr x) const { return times_square(x, root) / one_plus; }

    // sigma num / den: one division.
    Halide::Expr of_ratio(Halide::Expr num, Halide::Expr den) const { return times_square(num / (den * one_plus), root); }
};

constexpr float smallest_den = 0x1p-64f;  // ExactRule::smallest

// What den must reach for a query to stay on the fast path in backward: ExactRule::backward of models/mixers/exact_path.h, by the same comparisons.
inline Halide::Expr least_den(Halide::Expr dY, Halide::Expr y, Halide::Expr gradient_factor) {
    using namespace Halide;
    const Expr limit = max(abs(dY) * gradient_factor, smallest_den);
    return select(abs(dY) > 0x1p47f && abs(y) < 0x1p-126f, 3e38f, limit);
}

// The way back of y = sigma(Q) R, R = num / den, for one query. R itself is not kept: it meets sigma wherever it is wanted, and that is y.
//   G = dY sigma / den        G R = dY y / den        dQ = dY y (1 - sigma)
struct GateBackward {
    Halide::Expr G, GR, dQ;

    GateBackward(const Gate &gate, Halide::Expr dY, Halide::Expr y, Halide::Expr den) {
        const auto times = strict_product;  // as written: regrouped, each result would have a division of its own
        const Halide::Expr inverse = 1.0f / (den * gate.one_plus);
        G = times(times(dY, gate.root), times(gate.root, inverse));
        GR = times(times(dY, times(inverse, gate.one_plus)), y);
        dQ = times(times_square(dY, y, gate.other_root), times(inverse, den));
    }
};

}  // namespace aft
