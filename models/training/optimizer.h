// AdamW over flat buffers (Loshchilov and Hutter 2019): all parameters in one tensor, all gradients in another.
#pragma once
#include <cstdint>

#include "aft/tensor.h"

namespace aft {

struct AdamWOptions {
    double beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8, weight_decay = 0;
    double clip = 0;  // largest norm of the whole gradient; 0: off
};

class AdamW {
public:
    // The first `decayed` of the parameters are decayed. Moments start at 0. Throws Error for impossible numbers.
    AdamW(int64_t parameters, int64_t decayed, AdamWOptions options);

    // One step, counted from 1, on values and gradients [parameters]. Returns the norm of the gradient before clipping;
    // gradients are 0 afterwards. A norm that is not finite is returned with nothing changed: the caller decides.
    double step(Tensor &values, Tensor &gradients, double learning_rate, int64_t step);

    Tensor &first_moment() { return first_moment_; }  // [parameters], for checkpoints
    Tensor &second_moment() { return second_moment_; }
    const AdamWOptions &options() const { return options_; }

private:
    double norm(const Tensor &gradients);

    int64_t parameters_, decayed_;
    AdamWOptions options_;
    Tensor first_moment_, second_moment_, partial_;
};

}  // namespace aft
