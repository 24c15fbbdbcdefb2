// Random numbers that are a function of where they are used: (seed, stream, index) gives the value, on any machine, in any
// order, with any number of threads. The generator is Philox4x32-10 (Salmon et al. 2011); the dropout kernels compute the
// same words (generators/random.h).
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

// A word is kept by dropout when it is at least this: probability * 2^32, rounded up. probability < 1.
uint32_t dropout_threshold(float probability);

// (word + 1/2) / 2^32, in (0, 1).
double uniform(uint32_t word);

// The standard normal quantile of p in (0, 1), by arithmetic and square roots alone (no libm function), so that its bits
// are those of every IEEE machine. Relative error about 1e-15 (Wichura 1988, AS 241).
double normal_quantile(double p);

// Element n of the tensor (row-major) from word n % 4 of the counter (n / 4, stream). Any strides.
void fill_uniform(Tensor &x, double low, double high, uint64_t seed, uint32_t stream);
void fill_normal(Tensor &x, double mean, double deviation, uint64_t seed, uint32_t stream);

}  // namespace aft
