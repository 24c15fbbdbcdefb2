// Dropout with masks that are computed, never stored: Philox4x32-10 (Salmon et al. 2011), a counter-based generator.
//
//   words = philox(key, counter = (column / 4, row + first_row, stream, step)),  column % 4 picks the word
//   y = residual + (word >= p 2^32 ? x / (1 - p) : 0)
//
// The same call in backward, on the gradient, applies the same mask. runtime/random.h is the same function on the host.
#pragma once
#include <Halide.h>

#include <array>
#include <functional>

#include "generators/request.h"
#include "generators/vector_math.h"

namespace aft {

// Ten rounds in 64-bit lanes, of which the low halves count: a 32 x 32 bit product is then one instruction, and the high
// halves need no masking between rounds.
inline std::array<Halide::Expr, 4> philox(std::array<Halide::Expr, 4> counter, std::array<Halide::Expr, 2> key) {
    using namespace Halide;
    const auto wide = [](uint64_t value) { return Expr(value); };
    const auto low = [&](Expr x) { return x & wide(0xffffffffu); };
    for (auto *words : {&counter[0], &counter[1], &counter[2], &counter[3], &key[0], &key[1]}) *words = cast<uint64_t>(cast<uint32_t>(*words));
    auto [a, b, c, d] = counter;
    for (int round = 0; round < 10; round++) {
        const Expr first = low(a) * wide(0xD2511F53u), second = low(c) * wide(0xCD9E8D57u);
        const Expr key_a = low(key[0] + wide(uint64_t(round) * 0x9E3779B9u)), key_c = low(key[1] + wide(uint64_t(round) * 0xBB67AE85u));
        a = (second >> wide(32)) ^ b ^ key_a, c = (first >> wide(32)) ^ d ^ key_c;
        b = second, d = first;
    }
    return {cast<uint32_t>(a), cast<uint32_t>(b), cast<uint32_t>(c), cast<uint32_t>(d)};
}

struct DropoutScalars {
    Halide::Expr key_low, key_high, stream, step, first_row, probability;
};

struct Dropout {
    Halide::Var c{"c"}, r{"r"}, word{"word"}, quad{"quad"};
    Halide::Func bits{"bits"}, words{"words"}, y{"y"};  // bits: the four words of a quad as a tuple; words: side by side

    Dropout(Halide::Func x, Halide::Func residual, const DropoutScalars &s) {
        using namespace Halide;
        const auto random = philox({quad, r + s.first_row, s.stream, s.step}, {s.key_low, s.key_high});
        bits(quad, r) = Tuple(random[0], random[1], random[2], random[3]);
        words(word, quad, r) = mux(word, {bits(quad, r)[0], bits(quad, r)[1], bits(quad, r)[2], bits(quad, r)[3]});
        const Expr threshold = cast<uint32_t>(ceil(min(s.probability * 4294967296.0f, 4294967040.0f)));
        const Expr kept = select(words(c % 4, c / 4, r) >= threshold, x(c, r) * (1.0f / (1.0f - s.probability)), 0.0f);
        y(c, r) = residual.defined() ? residual(c, r) + kept : kept;
    }
};

std::function<void(Dropout &)> plan_dropout(const Request &request);

}  // namespace aft
