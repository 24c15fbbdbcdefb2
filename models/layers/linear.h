// A linear layer y = x W^T + b with explicit gradients. x is [R, K], weight [N, K], bias [N] or undefined.
#pragma once
#include "aft/arena.h"
#include "aft/tensor.h"

namespace aft {

struct Linear {
    Tensor weight, bias, weight_gradient, bias_gradient;

    void forward(const Tensor &x, Tensor &y, Arena &arena) const;

    // weight and bias gradients += those of y_gradient [R, N].
    void parameters_backward(const Tensor &x, const Tensor &y_gradient) const;
    void input_backward(const Tensor &y_gradient, Tensor &x_gradient) const;

    Tensor bias_or_zero(Arena &arena) const;
};

}  // namespace aft
