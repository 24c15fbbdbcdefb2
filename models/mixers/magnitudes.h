// How large a tensor's rows and elements are: what decides whether fp32 holds a product, or the fast path an element.
#pragma once
#include "aft/tensor.h"

namespace aft {

double largest_norm(const Tensor &x, int64_t rows);  // sqrt(max sum x^2) over the first rows of x [., D]
float largest_magnitude(const Tensor &x);            // max |x| of x [B, T, C]

}  // namespace aft
