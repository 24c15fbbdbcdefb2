// The loops that touch a limit of the machine and nothing else. Included once per instruction set by probes.cpp, which
// defines for it: TARGET (function attribute), Vector (its type), SET(x), LOAD(p), STORE(p, v), ADD(a, b), FMA(a, b, c),
// REGISTERS (accumulators that hide the FMA's latency and leave registers for its other operands).
//
// Element counts are multiples of `probe_step`; pointers are aligned to 64 bytes.

TARGET float fma(int64_t repeats) {  // repeats x REGISTERS vector FMAs
    Vector sum[REGISTERS];
    for (int r = 0; r < REGISTERS; r++) sum[r] = SET(0.001f * float(r));
    const Vector scale = SET(0.999f), shift = SET(0.0001f);  // settles at 0.1: no subnormal, no overflow
    for (int64_t n = 0; n < repeats; n++) {
#pragma GCC unroll 24
        for (int r = 0; r < REGISTERS; r++) sum[r] = FMA(sum[r], scale, shift);
    }
    for (int r = 1; r < REGISTERS; r++) sum[0] = ADD(sum[0], sum[r]);
    return sum[0][0];
}

TARGET float read(const float *a, int64_t count) {
    Vector sum[8];
    for (int r = 0; r < 8; r++) sum[r] = SET(0.0f);
    for (int64_t n = 0; n < count; n += 8 * lanes) {
#pragma GCC unroll 8
        for (int r = 0; r < 8; r++) sum[r] = ADD(sum[r], LOAD(a + n + r * lanes));
    }
    for (int r = 1; r < 8; r++) sum[0] = ADD(sum[0], sum[r]);
    return sum[0][0];
}

TARGET float copy(float *out, const float *a, int64_t count) {
    for (int64_t n = 0; n < count; n += 8 * lanes) {
#pragma GCC unroll 8
        for (int r = 0; r < 8; r++) STORE(out + n + r * lanes, LOAD(a + n + r * lanes));
    }
    return out[0];
}

TARGET float update(float *a, int64_t count) {  // in place: 1 read and 1 write of the same lines
    const Vector scale = SET(0.999f), shift = SET(0.0001f);
    for (int64_t n = 0; n < count; n += 8 * lanes) {
#pragma GCC unroll 8
        for (int r = 0; r < 8; r++) STORE(a + n + r * lanes, FMA(LOAD(a + n + r * lanes), scale, shift));
    }
    return a[0];
}

TARGET float triad(float *out, const float *a, const float *b, const float *c, int64_t count) {  // 3 reads, 1 write
    for (int64_t n = 0; n < count; n += 4 * lanes) {
#pragma GCC unroll 4
        for (int r = 0; r < 4; r++) {
            const int64_t at = n + r * lanes;
            STORE(out + at, FMA(LOAD(a + at), LOAD(b + at), LOAD(c + at)));
        }
    }
    return out[0];
}
