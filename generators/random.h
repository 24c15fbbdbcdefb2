// Dropout with masks that are computed, never stored: Philox4x32-10 (Salmon et al. 2011), a counter-based generator.
//
//   words = philox(key, counter = (8 (column / 64) + column % 8, row + first_row, stream, step))
//   half  = column / 8 % 8: the low (even) or high 16 bits of words[half / 2]
//   y = residual + (those bits >= p 2^16 ? x / (1 - p) : 0),  p rounded up to a multiple of 2^-16
//
// Half a word decides a column, so ten rounds make eight; and a half of eight counters side by side decides eight columns side by side,
// so nothing is shuffled. The same call in backward, on the gradient, applies the same mask. runtime/random.h is the same on the host.
#pragma once
#include <Halide.h>

#include <array>
#include <functional>
#include <vector>

#include "generators/request.h"
#include "generators/vector_math.h"

namespace aft {

// Ten rounds in 64-bit lanes, of which the low halves count: a 32 x 32 bit product is then one instruction, and the high
// halves need no masking between rounds, nor here in what is returned.
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
    return {a, b, c, d};
}

struct DropoutScalars {
    Halide::Expr key_low, key_high, stream, step, first_row, probability;
};

struct Dropout {
    static constexpr int lanes = 8, columns = 8 * lanes;  // of a group: counters, and what their halves decide
    Halide::Var c{"c"}, r{"r"}, lane{"lane"}, group{"group"};
    Halide::Func words{"words"}, halves{"halves"}, y{"y"};  // the words of a counter as a tuple; the half of each column

    Dropout(Halide::Func x, Halide::Func residual, const DropoutScalars &s) {
        using namespace Halide;
        const auto random = philox({group * lanes + lane, r + s.first_row, s.stream, s.step}, {s.key_low, s.key_high});
        words(lane, group, r) = Tuple(random[0], random[1], random[2], random[3]);
        std::vector<Expr> high;  // the half that counts is the high one: what lies below it does not change the comparison
        for (int word = 0; word < 4; word++)
            for (int shift : {16, 0}) high.push_back(cast<uint32_t>(words(c % lanes, c / columns, r)[word] << cast<uint64_t>(shift)));
        halves(c, r) = mux(c / lanes % lanes, high);  // eight halves of a group, as it has eight lanes
        const Expr threshold = ceil(min(s.probability * 65536.0f, 65535.0f));
        const Expr kept = select(halves(c, r) >= cast<uint32_t>(threshold) << 16, x(c, r) * (65536.0f / (65536.0f - threshold)), 0.0f);
        y(c, r) = residual.defined() ? residual(c, r) + kept : kept;
    }
};

std::function<void(Dropout &)> plan_dropout(const Request &request);

}  // namespace aft
