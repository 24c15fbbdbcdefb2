// Softmax cross-entropy of any row length, with its gradient (generators/loss.h has the formula).
#pragma once
#include "aft/arena.h"
#include "aft/tensor.h"

namespace aft {

// logits, dlogits [R, V], which may be the same memory; targets [R]; loss [R]. `arena` gives scratch.
void softmax_cross_entropy(const Tensor &logits, const Tensor &targets, float smoothing, float scale, Tensor &loss, Tensor &dlogits, Arena &arena);

}  // namespace aft
