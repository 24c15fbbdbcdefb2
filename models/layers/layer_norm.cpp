#include "models/layers/layer_norm.h"

#include "kernel_table.h"

namespace aft {
namespace {

LayerNorm::Saved allocate(int64_t rows, Arena &arena) { return {arena.allocate({rows}), arena.allocate({rows})}; }

}  // namespace

void LayerNorm::forward(const Tensor &x, Tensor &y, Saved &saved, Arena &arena) const {
    saved = allocate(x.size(0), arena);
    kernels().layer_norm_forward_f32(x, weight, bias, epsilon, y, saved.mean, saved.rstd);
}

void LayerNorm::forward_residual(const Tensor &x, const Tensor &branch, Tensor &sum, Tensor &y, Saved &saved, Arena &arena) const {
    saved = allocate(x.size(0), arena);
    kernels().residual_layer_norm_forward_f32(x, branch, weight, bias, epsilon, sum, y, saved.mean, saved.rstd);
}

void LayerNorm::backward(const Tensor &x, const Saved &saved, const Tensor &y_gradient, const Tensor &residual_gradient,
                         Tensor &x_gradient) const {
    Tensor weights = weight_gradient, biases = bias_gradient;
    kernels().layer_norm_parameters_backward_f32(x, saved.mean, saved.rstd, y_gradient, 1, weights, biases);
    kernels().layer_norm_backward_f32(x, weight, saved.mean, saved.rstd, y_gradient, residual_gradient, x_gradient);
}

}  // namespace aft
