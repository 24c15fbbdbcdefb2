// Random numbers that are a function of where they are used: (seed, stream, index) gives the value, on any machine, in any
// order, with any number of threads. The generator is Philox4x32-10 (Salmon et al. 2011).
#pragma once
#include <array>
#include <cstdint>

#include "aft/tensor.h"

namespace aft {

struct Philox {
    using Words = std::array<uint32_t, 4>;
    std::array<uint32_t, 2> key;

    explicit Philox(uint64_t seed) : key{uint32_t(seed), uint32_t(seed >> 32)} {}
    Words operator()(Words counter) const;

    // Number `index` of a stream, in (0, 1): the value that fill_uniform(x, 0, 1, seed, stream) rounds to element `index`.
    double uniform(uint64_t index, uint32_t stream) const;
};

// Dropout's decisions (generators/random.h): each takes half a word, so the probability is rounded up to a multiple of 2^-16, and what
// is kept is scaled by 1 / (1 - that). 0 <= probability < 1, or it throws Error.
struct DropoutMask {
    Philox philox;
    uint32_t stream, step, threshold;

    DropoutMask(uint64_t seed, uint32_t stream, uint32_t step, float probability);
    bool keeps(uint32_t row, uint32_t column) const;
    double scale() const { return 65536.0 / (65536.0 - threshold); }
};

// (word + 1/2) / 2^32, in (0, 1).
double uniform(uint32_t word);

// The standard normal quantile of p in (0, 1), by arithmetic and square roots alone (no libm function), so that its bits
// are those of every IEEE machine. Relative error about 1e-15 (Wichura 1988, AS 241).
double normal_quantile(double p);

// Element n of the tensor (row-major) from word n % 4 of the counter (n / 4, stream). Any strides.
void fill_uniform(Tensor &x, double low, double high, uint64_t seed, uint32_t stream);
void fill_normal(Tensor &x, double mean, double deviation, uint64_t seed, uint32_t stream);

}  // namespace aft
