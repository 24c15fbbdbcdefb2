// Which kernel table a CPU can run. __builtin_cpu_supports asks cpuid and, for the vector state, the operating system.
#pragma once
#include <string_view>

namespace aft {

inline bool cpu_runs(std::string_view target) {
    __builtin_cpu_init();
    const bool v3 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
    if (target == "avx2") return v3;
    if (target == "avx512")
        return v3 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512cd") &&
               __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq");
    return false;
}

inline const char *best_cpu_target() { return cpu_runs("avx512") ? "avx512" : "avx2"; }

}  // namespace aft
