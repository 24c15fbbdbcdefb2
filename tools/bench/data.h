// Tensors that workloads run on.
#pragma once
#include "aft/tensor.h"

namespace aft::tool {

// Numbers about normal, times `scale`; the same for a shape and seed. (Never zeros: some memory and some arithmetic units
// are faster on them.)
Tensor random_data(const Shape &shape, double scale = 1, uint32_t seed = 1);
Tensor random_tokens(const Shape &shape, int32_t vocabulary, uint32_t seed = 1);  // i32 in [0, vocabulary)

}  // namespace aft::tool
