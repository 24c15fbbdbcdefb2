// The one seam of all dense products (docs/architecture.md): today the Halide kernels of the table in use.
//
// Operands are 2-D f32 tensors, row-major with any row stride, the last axis contiguous. K = 0 is a product of zeros.
// All are deterministic for a shape at any thread count.
#pragma once
#include "aft/tensor.h"

namespace aft::gemm {

enum class Into { overwrite, add };  // C = product, or C += product

void nn(const Tensor &a, const Tensor &b, Tensor &c, Into into = Into::overwrite);  // C[M,N] = A[M,K] B[K,N]
void nt(const Tensor &a, const Tensor &b, Tensor &c, Into into = Into::overwrite);  // C[M,N] = A[M,K] B[N,K]^T
void tn(const Tensor &a, const Tensor &b, Tensor &c, Into into = Into::overwrite);  // C[M,N] = A[K,M]^T B[K,N]

// A linear layer's forward forms: x [M, K], weight [N, K], bias [N].
void linear(const Tensor &x, const Tensor &weight, const Tensor &bias, Tensor &y);
void linear_residual(const Tensor &x, const Tensor &weight, const Tensor &bias, const Tensor &residual, Tensor &y);
void linear_gelu(const Tensor &x, const Tensor &weight, const Tensor &bias, Tensor &y, Tensor &slope);  // slope = GELU' there, for the way back

// dx = (dy W) * slope: dy [M, N], weight [N, K], slope (of linear_gelu) and dx [M, K].
void input_gradient_gelu(const Tensor &dy, const Tensor &weight, const Tensor &slope, Tensor &dx);

}  // namespace aft::gemm
