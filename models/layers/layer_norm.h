// Layer norm over the last axis: y = (x - mean) rstd weight + bias, rstd = 1 / sqrt(variance + epsilon).
#pragma once
#include "aft/arena.h"
#include "aft/tensor.h"

namespace aft {

struct LayerNorm {
    Tensor weight, bias, weight_gradient, bias_gradient;
    float epsilon = 1e-5f;

    struct Saved {
        Tensor mean, rstd;  // [R]
    };

    // x, y [R, C]; `saved` is allocated from the arena.
    void forward(const Tensor &x, Tensor &y, Saved &saved, Arena &arena) const;
    // sum = x + branch, y = LN(sum), in one pass.
    void forward_residual(const Tensor &x, const Tensor &branch, Tensor &sum, Tensor &y, Saved &saved, Arena &arena) const;
    // x_gradient = residual_gradient + the gradient through the norm; parameter gradients +=.
    void backward(const Tensor &x, const Saved &saved, const Tensor &y_gradient, const Tensor &residual_gradient, Tensor &x_gradient) const;
};

}  // namespace aft
