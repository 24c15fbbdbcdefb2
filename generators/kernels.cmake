# THE list of kernels. One entry each:
#   aft_kernel(NAME GENERATOR family:generator ARGUMENTS <C++ parameters> [PARAMS generator parameters]
#              [VARIANTS <name>[:<C++ predicate over the arguments>] ...])      the first variant that fits is called
# Halide's argument order is inputs, then outputs; `Tensor &` is an output, a scalar is int32_t or float.

# --- gemm: C = op(A) op(B) with epilogues (generators/gemm.h)
foreach (layout nn nt tn)
    aft_kernel(gemm_${layout}_f32 GENERATOR gemm:gemm PARAMS layout=${layout}
               ARGUMENTS "const Tensor &a, const Tensor &b, int32_t accumulate, Tensor &c"
               VARIANTS "skinny:c.size(0) <= 8" large)
endforeach ()
aft_kernel(gemm_nt_bias_f32 GENERATOR gemm:gemm PARAMS layout=nt epilogue=bias
           ARGUMENTS "const Tensor &a, const Tensor &b, const Tensor &bias, Tensor &c" VARIANTS "skinny:c.size(0) <= 8" large)
aft_kernel(gemm_nt_bias_residual_f32 GENERATOR gemm:gemm PARAMS layout=nt epilogue=bias_residual
           ARGUMENTS "const Tensor &a, const Tensor &b, const Tensor &bias, const Tensor &residual, Tensor &c"
           VARIANTS "skinny:c.size(0) <= 8" large)
aft_kernel(gemm_nt_bias_gelu_f32 GENERATOR gemm:gemm PARAMS layout=nt epilogue=bias_gelu
           ARGUMENTS "const Tensor &a, const Tensor &b, const Tensor &bias, Tensor &c, Tensor &pre"
           VARIANTS "skinny:c.size(0) <= 8" large)
aft_kernel(gemm_nn_gelu_backward_f32 GENERATOR gemm:gemm PARAMS layout=nn epilogue=gelu_backward
           ARGUMENTS "const Tensor &a, const Tensor &b, const Tensor &pre, Tensor &c" VARIANTS large)

# --- normalization: layer norm over the last axis (generators/normalization.h)
aft_kernel(layer_norm_forward_f32 GENERATOR normalization:layer_norm_forward
           ARGUMENTS "const Tensor &x, const Tensor &weight, const Tensor &bias, float epsilon, Tensor &y, Tensor &mean, Tensor &rstd")
aft_kernel(residual_layer_norm_forward_f32 GENERATOR normalization:layer_norm_forward PARAMS residual=true
           ARGUMENTS "const Tensor &x, const Tensor &branch, const Tensor &weight, const Tensor &bias, float epsilon, Tensor &sum, Tensor &y, Tensor &mean, Tensor &rstd")
aft_kernel(layer_norm_backward_f32 GENERATOR normalization:layer_norm_backward
           ARGUMENTS "const Tensor &x, const Tensor &weight, const Tensor &mean, const Tensor &rstd, const Tensor &dy, const Tensor &residual_gradient, Tensor &dx")
aft_kernel(layer_norm_parameters_backward_f32 GENERATOR normalization:layer_norm_parameters_backward
           ARGUMENTS "const Tensor &x, const Tensor &mean, const Tensor &rstd, const Tensor &dy, int32_t accumulate, Tensor &dweight, Tensor &dbias")
