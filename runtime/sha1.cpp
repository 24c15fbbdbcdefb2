#include "runtime/sha1.h"

#include <array>
#include <bit>
#include <cstdint>
#include <cstring>

namespace aft {
namespace {

using State = std::array<uint32_t, 5>;

void add_block(State &state, const unsigned char *block) {
    std::array<uint32_t, 80> w;
    for (size_t t = 0; t < 16; t++) w[t] = uint32_t(block[4 * t]) << 24 | uint32_t(block[4 * t + 1]) << 16 | uint32_t(block[4 * t + 2]) << 8 | block[4 * t + 3];
    for (size_t t = 16; t < 80; t++) w[t] = std::rotl(w[t - 3] ^ w[t - 8] ^ w[t - 14] ^ w[t - 16], 1);
    auto [a, b, c, d, e] = state;
    for (size_t t = 0; t < 80; t++) {
        const uint32_t f = t < 20 ? (b & c) | (~b & d) : t < 40 ? b ^ c ^ d : t < 60 ? (b & c) | (b & d) | (c & d) : b ^ c ^ d;
        const uint32_t k = t < 20 ? 0x5A827999 : t < 40 ? 0x6ED9EBA1 : t < 60 ? 0x8F1BBCDC : 0xCA62C1D6;
        const uint32_t next = std::rotl(a, 5) + f + e + k + w[t];
        e = d, d = c, c = std::rotl(b, 30), b = a, a = next;
    }
    state = {state[0] + a, state[1] + b, state[2] + c, state[3] + d, state[4] + e};
}

}  // namespace

std::string sha1(std::string_view bytes) {
    State state = {0x67452301, 0xEFCDAB89, 0x98BADCFE, 0x10325476, 0xC3D2E1F0};
    const auto *data = reinterpret_cast<const unsigned char *>(bytes.data());
    const size_t whole = bytes.size() / 64 * 64, rest = bytes.size() - whole;
    for (size_t at = 0; at < whole; at += 64) add_block(state, data + at);
    std::array<unsigned char, 128> tail{};
    if (rest) std::memcpy(tail.data(), data + whole, rest);
    tail[rest] = 0x80;
    const size_t length = rest < 56 ? 64 : 128;
    for (size_t n = 0; n < 8; n++) tail[length - 1 - n] = static_cast<unsigned char>(uint64_t(bytes.size()) * 8 >> (8 * n));
    for (size_t at = 0; at < length; at += 64) add_block(state, tail.data() + at);
    std::string text;
    for (const uint32_t word : state)
        for (int shift = 28; shift >= 0; shift -= 4) text += "0123456789abcdef"[word >> shift & 15];
    return text;
}

}  // namespace aft
