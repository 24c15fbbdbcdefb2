#include "tools/bench/data.h"

namespace aft::tool {
namespace {

uint32_t next(uint32_t &state) {  // xorshift (Marsaglia 2003): quick, and more than good enough here
    state ^= state << 13, state ^= state >> 17, state ^= state << 5;
    return state;
}

}  // namespace

Tensor random_data(const Shape &shape, double scale, uint32_t seed) {
    Tensor t(shape);
    uint32_t state = 2463534242u + 7919u * seed;
    for (int64_t n = 0; n < t.elements(); n++) {
        // The sum of four 8-bit uniforms has the shape of a normal near enough.
        const uint32_t bits = next(state);
        const int sum = int(bits & 255) + int(bits >> 8 & 255) + int(bits >> 16 & 255) + int(bits >> 24) - 510;
        t.data()[n] = float(scale * sum / 147.8);
    }
    return t;
}

Tensor random_tokens(const Shape &shape, int32_t vocabulary, uint32_t seed) {
    Tensor t(shape, DType::i32);
    uint32_t state = 2463534242u + 7919u * seed;
    for (int64_t n = 0; n < t.elements(); n++) t.data<int32_t>()[n] = int32_t(next(state) % uint32_t(vocabulary));
    return t;
}

}  // namespace aft::tool
