#include "runtime/gemm_provider.h"

#include "kernel_table.h"

namespace aft::gemm {
namespace {

// An inner extent of 0 leaves nothing for a kernel to read (Halide refuses clamped reads of nothing).
bool is_empty_sum(int64_t K, Tensor &c, Into into) {
    if (K > 0) return false;
    if (into == Into::overwrite) c.fill(0);
    return true;
}

}  // namespace

void nn(const Tensor &a, const Tensor &b, Tensor &c, Into into) {
    if (!is_empty_sum(a.size(1), c, into)) kernels().gemm_nn_f32(a, b, into == Into::add, c);
}

void nt(const Tensor &a, const Tensor &b, Tensor &c, Into into) {
    if (!is_empty_sum(a.size(1), c, into)) kernels().gemm_nt_f32(a, b, into == Into::add, c);
}

void tn(const Tensor &a, const Tensor &b, Tensor &c, Into into) {
    if (!is_empty_sum(a.size(0), c, into)) kernels().gemm_tn_f32(a, b, into == Into::add, c);
}

void linear(const Tensor &x, const Tensor &weight, const Tensor &bias, Tensor &y) { kernels().gemm_nt_bias_f32(x, weight, bias, y); }

void linear_residual(const Tensor &x, const Tensor &weight, const Tensor &bias, const Tensor &residual, Tensor &y) {
    kernels().gemm_nt_bias_residual_f32(x, weight, bias, residual, y);
}

void linear_gelu(const Tensor &x, const Tensor &weight, const Tensor &bias, Tensor &y, Tensor &slope) {
    kernels().gemm_nt_bias_gelu_f32(x, weight, bias, y, slope);
}

void input_gradient_gelu(const Tensor &dy, const Tensor &weight, const Tensor &slope, Tensor &dx) {
    kernels().gemm_nn_gelu_backward_f32(dy, weight, slope, dx);
}

}  // namespace aft::gemm
