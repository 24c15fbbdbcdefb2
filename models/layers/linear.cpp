#include "models/layers/linear.h"

#include "kernel_table.h"
#include "runtime/gemm_provider.h"
#include "runtime/parallel.h"

namespace aft {
namespace {

constexpr int64_t panel_rows = 32;  // generators/gemm_panels.h

Shape panels_of(const Tensor &weight) { return {(weight.size(0) + panel_rows - 1) / panel_rows, weight.size(1), panel_rows}; }

}  // namespace

// The epilogue wants a bias; a layer without one gives zeros.
Tensor Linear::bias_or_zero(Arena &arena) const {
    if (bias.defined()) return bias;
    Tensor zero = arena.allocate({weight.size(0)});
    zero.fill(0);
    return zero;
}

int64_t Linear::packed_floats() const {
    const Shape panels = panels_of(weight);
    return panels[0] * panels[1] * panels[2];
}

PackedLinear Linear::packed(Tensor memory) const {
    PackedLinear p{memory.reshape(panels_of(weight)), bias.defined() ? bias : Tensor::zeros({weight.size(0)}), {}};
    kernels().gemm_panels_pack_f32(weight, p.panels);
    return p;
}

void PackedLinear::announce_next() const { read_ahead(next.raw(), int64_t(next.bytes())); }

void PackedLinear::forward(const Tensor &x, Tensor &y) const {
    announce_next();
    kernels().gemm_panels_bias_f32(x, panels, bias, y);
}

void PackedLinear::forward_residual(const Tensor &x, const Tensor &residual, Tensor &y) const {
    announce_next();
    kernels().gemm_panels_bias_residual_f32(x, panels, bias, residual, y);
}

void PackedLinear::forward_gelu(const Tensor &x, Tensor &y) const {
    announce_next();
    kernels().gemm_panels_bias_gelu_f32(x, panels, bias, y);
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
