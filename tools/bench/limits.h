// The machine's own limits, measured: what a kernel's time is held against (the roofline of Williams et al. 2009).
//
// limit of a call = max(flops / FMA peak, bytes / bandwidth of the cache level that holds the call's data). The bandwidth
// is that of a bare loop with the same share of writes: read only, 3 reads and 1 write, or copy, and between them by
// linear interpolation of the time per byte. What is updated in place is held against a loop that does so: a line that is
// written over without having been read is fetched first, which the bytes do not count.
#pragma once
#include <array>
#include <map>
#include <string>

#include "tools/bench/workload.h"

namespace aft::tool {

struct Bandwidth {  // bytes per second
    double read = 0, copy = 0, triad = 0, update = 0;

    double at(double written_share) const;
    double seconds(const Workload &workload) const;
};

struct Limits {
    static constexpr int levels = 4;  // L1, L2, L3, memory

    std::string target;
    int threads = 1;
    double fma = 0;  // flops per second
    std::array<Bandwidth, levels> bandwidth;
    std::array<int64_t, levels> capacity{};  // bytes; of memory: without bound

    std::map<int64_t, Bandwidth> last_cache;           // by the bytes that the loops run over

    int level_of(double bytes) const;  // the lowest that holds them
    void measure_last_cache(double bytes);  // adds what a call with so many bytes is held against, if it lies there
    const Bandwidth &bandwidth_for(double bytes, int level) const;
};

const char *level_name(int level);  // "L1", "L2", "L3", "DRAM"

double measure_fma_peak(int threads);  // of the kernel table in use; flops per second

// All limits for `threads` threads, each with data of its own. Takes a second or two.
Limits measure_limits(int threads);

struct Bound {
    double seconds = 0;
    bool by_memory = false;
    int level = 0;

    std::string name() const;  // "FMA", "L2", "DRAM" ...
};
Bound bound_of(const Workload &workload, const Limits &limits, bool cold);

}  // namespace aft::tool
