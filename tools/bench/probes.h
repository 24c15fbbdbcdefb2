// Bare loops that run at a limit of the machine: arithmetic, and the memory's streams. They exist once per instruction
// set of the kernel tables, and the set of the table in use is taken, so that a kernel is compared with what its own
// instructions can reach.
#pragma once
#include <cstdint>
#include <string_view>

namespace aft::tool {

struct Probes {
    std::string_view target;
    int64_t flops_per_repeat;
    float (*fma)(int64_t repeats);
    float (*read)(const float *a, int64_t count);
    float (*copy)(float *out, const float *a, int64_t count);
    float (*update)(float *a, int64_t count);
    float (*triad)(float *out, const float *a, const float *b, const float *c, int64_t count);
};

constexpr int64_t probe_step = 128;  // counts are multiples of it, pointers aligned to 64 bytes

const Probes &probes(std::string_view target);  // throws Error for a target without probes

}  // namespace aft::tool
