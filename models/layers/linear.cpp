#include "models/layers/linear.h"

#include "kernel_table.h"
#include "runtime/gemm_provider.h"

namespace aft {

// The epilogue wants a bias; a layer without one gives zeros.
Tensor Linear::bias_or_zero(Arena &arena) const {
    if (bias.defined()) return bias;
    Tensor zero = arena.allocate({weight.size(0)});
    zero.fill(0);
    return zero;
}

void Linear::forward(const Tensor &x, Tensor &y, Arena &arena) const {
    const ArenaScope scope(arena);
    if (bias.defined())
        gemm::linear(x, weight, bias, y);
    else
        gemm::nt(x, weight, y);
}

void Linear::parameters_backward(const Tensor &x, const Tensor &y_gradient) const {
    Tensor weights = weight_gradient, biases = bias_gradient;
    gemm::tn(y_gradient, x, weights, gemm::Into::add);
    if (bias.defined()) kernels().column_sum_f32(y_gradient, 1, biases);
}

void Linear::input_backward(const Tensor &y_gradient, Tensor &x_gradient) const { gemm::nn(y_gradient, weight, x_gradient); }

}  // namespace aft
