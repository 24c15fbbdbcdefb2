// AdamW with decoupled weight decay (Loshchilov and Hutter 2019, algorithm 2), and the partial sums of a gradient norm.
//
//   g = gradient_scale gradient      m = beta1 m + (1 - beta1) g      v = beta2 v + (1 - beta2) g^2
//   p = p - learning_rate (weight_decay p + (m / correction1) / (sqrt(v / correction2) + epsilon))      gradient = 0
//
// All four tensors are updated in place in one pass. sum_of_squares cuts x into as many equal pieces as y has elements.
#pragma once
#include <Halide.h>

#include <functional>

#include "generators/request.h"
#include "generators/row_reduction.h"

namespace aft {

struct AdamWScalars {
    Halide::Expr learning_rate, beta1, beta2, epsilon, weight_decay, correction1, correction2, gradient_scale;
};

struct AdamWUpdate {
    Halide::Var i{"i"};
    Halide::Var one{"one"};  // generators/kernel_generator.h, "In place"
    Halide::Func state{"state"};  // (parameter, first moment, second moment, gradient)

    explicit AdamWUpdate(const AdamWScalars &s) {
        using namespace Halide;
        const Expr none = undef<float>();
        state(i, one) = Tuple(none, none, none, none);
        const Expr p = state(i, one)[0], g = state(i, one)[3] * s.gradient_scale;
        const Expr m = s.beta1 * state(i, one)[1] + (1.0f - s.beta1) * g;
        const Expr v = s.beta2 * state(i, one)[2] + (1.0f - s.beta2) * (g * g);
        const Expr step = (m * (1.0f / s.correction1)) / (sqrt(v * (1.0f / s.correction2)) + s.epsilon);
        state(i, one) = Tuple(p - s.learning_rate * (s.weight_decay * p + step), m, v, 0.0f);
    }
};

struct SumOfSquares {
    Halide::Var block{"block"};
    Halide::Func y{"y"};
    std::vector<RowReduction> sums;

    SumOfSquares(Halide::Func x, Halide::Expr N, int width) {
        using namespace Halide;
        y(block) = undef<float>();
        const Expr length = ceil_div(N, y.output_buffer().dim(0).extent());
        const RowReduction squares("squares", RowReduction::sum, block, length, width, [&](Expr k) {
            const Expr n = block * length + k, value = x(inside(n, N));
            return Terms{select(likely(n < N), value * value, 0.0f)};
        });
        sums = {squares};
        y(block) = squares.result();
    }
};

std::function<void(AdamWUpdate &)> plan_adamw(const Request &request);
struct SumOfSquaresPlan {
    int width;  // partial sums of a piece (generators/row_reduction.h)
    std::function<void(SumOfSquares &)> schedule;
};
SumOfSquaresPlan plan_sum_of_squares(const Request &request);

}  // namespace aft
