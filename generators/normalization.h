// Layer norm over the last axis of [R, C] (Ba et al. 2016), forward and backward.
//
//   y = (x - mean) rstd weight + bias      mean = sum x / C      rstd = 1 / sqrt(sum (x - mean)^2 / C + epsilon)
//
// Forward sums a row twice: a first mean m0, then the moments of d = x - m0, which correct it:
//   delta = sum d / C      variance = sum d^2 / C - delta^2      y = ((x - m0) - delta) rstd weight + bias
// d is exact where x is near its mean, and delta is of the size of m0's rounding, so nothing cancels and a large common
// offset of a row costs no accuracy. The residual form normalises sum = x + branch and gives the sum too. (In one pass, with
// m0 the row's first element, the variance loses the digits of (mean - m0)^2 / variance, which can be C: not accurate enough.)
//
// Backward, with h = (x - mean) rstd and g = dy weight:
//   dx = residual_gradient + rstd (g - sum g / C - h sum (g h) / C)
//   dweight = sum_r dy h      dbias = sum_r dy      (generators/column_sums.h)
#pragma once
#include <Halide.h>

#include <functional>

#include "generators/column_sums.h"
#include "generators/request.h"
#include "generators/row_reduction.h"
#include "generators/vector_math.h"

namespace aft {

struct LayerNormForward {
    Halide::Var c{"c"}, r{"r"};
    std::vector<RowReduction> sums;  // sum x; sum d and sum d^2
    Halide::Func y{"y"}, statistics{"statistics"};  // (y) or (sum, y); (mean, rstd)

    // `branch` is undefined in the plain form; `width`: partial sums of a row (generators/row_reduction.h).
    LayerNormForward(Halide::Func x, Halide::Func branch, Halide::Func weight, Halide::Func bias, Halide::Expr epsilon, Halide::Expr C,
                     Halide::Expr R, int width) {
        using namespace Halide;
        const Expr over_C = 1.0f / C, row = inside(r, R);
        const auto at = [&](Expr c) { return branch.defined() ? x(c, row) + branch(c, row) : x(c, row); };
        const RowReduction first("first", RowReduction::sum, r, C, width, [&](Expr k) { return Terms{at(k)}; });
        // strict: or (x - m0) - delta becomes x - (m0 + delta), which is the rounding that delta is there to undo
        const Expr m0 = first.result() * over_C;
        const auto d = [&](Expr c) { return strict_float(at(c) - m0); };
        const RowReduction moments("moments", RowReduction::sum, r, C, width, [&](Expr k) { return Terms{d(k), d(k) * d(k)}; });
        const Expr delta = moments.result(0) * over_C, square = moments.result(1) * over_C;
        const Expr rstd = 1.0f / sqrt(max(square - delta * delta, 0.0f) + epsilon);
        sums = {first, moments};
        const Expr normal = strict_float(d(c) - delta) * (rstd * weight(c)) + bias(c);
        if (branch.defined())
            y(c, r) = Tuple(at(c), normal);
        else
            y(c, r) = normal;
        statistics(r) = Tuple(m0 + delta, rstd);
    }
};

struct LayerNormBackward {
    Halide::Var c{"c"}, r{"r"};
    std::vector<RowReduction> sums;  // of g and of g h / rstd
    Halide::Func dx{"dx"};

    LayerNormBackward(Halide::Func x, Halide::Func weight, Halide::Func mean, Halide::Func rstd, Halide::Func dy,
                      Halide::Func residual_gradient, Halide::Expr C, Halide::Expr R, int width) {
        using namespace Halide;
        const Expr row = inside(r, R);
        const auto g = [&](Expr c) { return dy(c, row) * weight(c); };
        const auto centred = [&](Expr c) { return x(c, row) - mean(row); };
        const RowReduction slopes("slopes", RowReduction::sum, r, C, width, [&](Expr k) { return Terms{g(k), g(k) * centred(k)}; });
        const Expr level = slopes.result(0) / C, slope = slopes.result(1) / C * rstd(row) * rstd(row);
        sums = {slopes};
        dx(c, r) = residual_gradient(c, row) + rstd(row) * (g(c) - level - centred(c) * slope);
    }
};

// (dweight, dbias)
inline ColumnSums layer_norm_parameters_backward(Halide::Func x, Halide::Func mean, Halide::Func rstd, Halide::Func dy,
                                                 Halide::Expr accumulate, Halide::Expr C, Halide::Expr R, int rows_per_block, bool whole_strips) {
    return ColumnSums(C, R, accumulate, rows_per_block, whole_strips, [&](Halide::Expr c, Halide::Expr r) {
        return Terms{dy(c, r) * ((x(c, r) - mean(r)) * rstd(r)), dy(c, r)};
    });
}

template <class Kernel>
struct RowPlan {
    int width;  // partial sums of a row
    std::function<void(Kernel &)> schedule;
};
RowPlan<LayerNormForward> plan_layer_norm_forward(const Request &request);
RowPlan<LayerNormBackward> plan_layer_norm_backward(const Request &request);
ColumnSumsPlan plan_layer_norm_parameters_backward(const Request &request);

}  // namespace aft
