// Dropout whose mask is a function of (seed, step, stream, row, column): recomputed in backward, never stored, the same
// for any micro-batch and after a resume.
#pragma once
#include <cstdint>

#include "aft/tensor.h"

namespace aft {

struct Dropout {
    float probability = 0;  // 0 = off
    uint64_t seed = 0;
    int32_t step = 0;
    int32_t first_row = 0;  // row of the whole batch at which this micro-batch starts

    bool on() const { return probability > 0; }
    // y = dropout(x); also the gradient's form. x, y [R, C]; one stream per place in the model.
    void apply(const Tensor &x, int32_t stream, Tensor &y) const;
    // y = residual + dropout(x)
    void apply_residual(const Tensor &x, const Tensor &residual, int32_t stream, Tensor &y) const;
};

}  // namespace aft
