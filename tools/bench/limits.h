// The machine's own limits, measured: what a kernel's time is held against (the roofline of Williams et al. 2009).
//
// limit of a call = max(flops / FMA peak, bytes / bandwidth of the cache level that holds the call's data). The bandwidth
// is that of a bare loop with the same share of writes: read only, 3 reads and 1 write, or copy, and between them by
// linear interpolation of the time per byte. What is updated in place is held against a loop that does so: a line that is
// written over without having been read is fetched first, which the bytes do not count.
#pragma once
#include <array>
#include <map>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "tools/bench/measure.h"
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

    std::map<int64_t, Bandwidth> in_turn;     // by the bytes that the loops ran over; see LimitsInTurn

    int level_of(double bytes) const;  // the lowest that holds them
};

const char *level_name(int level);  // "L1", "L2", "L3", "DRAM"

double measure_fma_peak(int threads);  // of the kernel table in use; flops per second

// All limits of the kernel table in use for `threads` threads, each with data of its own, at their best: what the machine does
// when it is left alone. Takes a second or two.
Limits measure_limits(int threads);

struct Bound {
    double seconds = 0;
    bool by_memory = false;
    int level = 0;

    std::string name() const;  // "FMA", "L2", "DRAM" ...
};
Bound bound_of(const Workload &workload, const Limits &limits, bool cold);

// The limits that bind some calls, as samplers to be measured in turn with them; the medians are what the machine gave meanwhile.
class LimitsInTurn {
public:
    explicit LimitsInTurn(const Limits &best) : best_(best) {}

    void add(const Workload &workload, bool cold);  // its memory's loops where their own passes leave the data as its calls find it
    std::vector<Sampler> samplers() const;   // the first is the FMA peak's
    Limits seen(std::span<const Measurement> times) const;  // of those samplers

private:
    const Limits best_;
    std::set<int64_t> footprints_;  // bytes
};

}  // namespace aft::tool
