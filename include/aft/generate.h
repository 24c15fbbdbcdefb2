// Sampling from a language model, one constant-cost step per token.
#pragma once
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "aft/language_model.h"

namespace aft {

struct SamplingOptions {
    double temperature = 1.0;  ///< 0 is greedy: the arg-max, the lowest token of equals
    int64_t top_k = 0;         ///< keep the k likeliest tokens; 0 = all
    double top_p = 1.0;        ///< keep the smallest set of likeliest tokens whose probability reaches p (nucleus sampling, Holtzman et al. 2020)
    uint64_t seed = 0;
    bool slide = true;         ///< at the end of the context restart from the last half of it; else stop
};

/// Throws an Error that names the value which is impossible.
void check(const SamplingOptions &options);

/// The token drawn from logits [V] with the uniform number `u` in [0, 1). Pure: same arguments, same token.
int32_t sample(const float *logits, int64_t vocabulary, const SamplingOptions &options, double u);

struct GeneratedText {
    int64_t tokens = 0;    ///< how many were written
    int64_t restarts = 0;  ///< how often the context was full and the state was rebuilt
    bool full = false;     ///< stopped early at the end of the context (slide off)
};

/// Continues `prompt` (1 .. context bytes; a longer one is an Error) by `tokens` bytes, each given to `emit` as it is
/// drawn; emit returns false to stop. The model must have a vocabulary of 256. Any number of threads may generate from one
/// model while nobody changes its parameters.
GeneratedText generate(const LanguageModel &model, const std::string &prompt, int64_t tokens, const SamplingOptions &options,
                       const std::function<bool(uint8_t)> &emit);

}  // namespace aft
