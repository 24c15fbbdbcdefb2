// What the operating system says of this machine: processor, caches, and how busy others keep it.
#pragma once
#include <cstdint>
#include <string>

namespace aft::tool {

std::string cpu_model();
int cpu_count();

// Of the data cache of a level (1, 2, 3), in bytes; a level that this CPU lacks is as large as the next lower one.
int64_t cache_bytes(int level);
int cache_sharing(int level);  // CPUs that share one such cache
// All caches of a level that `threads` threads on CPUs of their own can use.
int64_t cache_bytes(int level, int threads);

// CPU time of this machine that other programs used while it was watched, in CPUs.
class Neighbours {
public:
    Neighbours();
    double busy_cpus() const;

private:
    double wall_, machine_, own_;
};

std::string date_and_time();  // ISO 8601, local
int64_t peak_memory_bytes();  // of this process: the most that was resident since its start or the last reset
void reset_peak_memory();

}  // namespace aft::tool
