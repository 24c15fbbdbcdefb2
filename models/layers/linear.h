// A linear layer y = x W^T + b with explicit gradients. x is [R, K], weight [N, K], bias [N] or undefined.
#pragma once
#include "aft/arena.h"
#include "aft/tensor.h"

namespace aft {

// A linear layer whose weight was copied into the order in which products with a few rows read it (generators/gemm_panels.h).
// It does not see later changes of the layer's weight.
struct PackedLinear {
    Tensor panels, bias;
    Tensor next;  // panels of the product behind this one, which threads read while they wait (read_ahead); may be undefined

    void forward(const Tensor &x, Tensor &y) const;
    void forward_residual(const Tensor &x, const Tensor &residual, Tensor &y) const;  // y = residual + x W^T + b
    void forward_gelu(const Tensor &x, Tensor &y) const;                              // y = GELU(x W^T + b)

private:
    void announce_next() const;
};

struct Linear {
    Tensor weight, bias, weight_gradient, bias_gradient;

    void forward(const Tensor &x, Tensor &y, Arena &arena) const;

    // weight and bias gradients += those of y_gradient [R, N].
    void parameters_backward(const Tensor &x, const Tensor &y_gradient) const;
    void input_backward(const Tensor &y_gradient, Tensor &x_gradient) const;

    Tensor bias_or_zero(Arena &arena) const;
    int64_t packed_floats() const;               // of the panels, a multiple of a cache line
    PackedLinear packed(Tensor memory) const;    // memory: packed_floats() of them
};

}  // namespace aft
