#include "tools/bench/machine.h"

#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <fstream>
#include <sstream>

#include "tools/bench/measure.h"

namespace aft::tool {
namespace {

std::string first_line(const std::string &path) {
    std::ifstream file(path);
    std::string line;
    std::getline(file, line);
    return line;
}

struct Cache {
    int64_t bytes = 0;
    int sharing = 1;
};

int count_of_list(const std::string &list) {  // "0-3,8"
    std::istringstream parts(list);
    int count = 0, from = 0, to = 0;
    for (std::string part; std::getline(parts, part, ',');) {
        const int found = std::sscanf(part.c_str(), "%d-%d", &from, &to);
        count += found == 2 ? to - from + 1 : found;
    }
    return std::max(count, 1);
}

Cache find_cache(int level) {
    const std::string root = "/sys/devices/system/cpu/cpu0/cache/index";
    for (int index = 0; index < 8; index++) {
        const std::string folder = root + std::to_string(index) + "/";
        if (first_line(folder + "level") != std::to_string(level) || first_line(folder + "type") == "Instruction") continue;
        const std::string size = first_line(folder + "size");  // "32K"
        if (const int64_t kilobytes = std::atoll(size.c_str()); kilobytes > 0)
            return {kilobytes << (size.ends_with('M') ? 20 : 10), count_of_list(first_line(folder + "shared_cpu_list"))};
    }
    if (level == 1) return {32 << 10, 1};  // of every x86 since 2008 at least
    return level == 2 ? Cache{std::max(find_cache(1).bytes, int64_t(256) << 10), 1} : find_cache(level - 1);
}

const Cache &cache(int level) {
    static const Cache all[] = {find_cache(1), find_cache(2), find_cache(3)};
    return all[std::clamp(level, 1, 3) - 1];
}

double ticks() { return double(sysconf(_SC_CLK_TCK)); }

double machine_seconds() {  // that all CPUs were not idle; a virtual CPU's stolen time counts as used
    std::istringstream line(first_line("/proc/stat"));
    std::string name;
    double user = 0, nice = 0, system = 0, idle = 0, wait = 0, irq = 0, softirq = 0, steal = 0;
    line >> name >> user >> nice >> system >> idle >> wait >> irq >> softirq >> steal;
    return (user + nice + system + irq + softirq + steal) / ticks();
}

double own_seconds() {
    double sum = 0;
    for (const int who : {RUSAGE_SELF, RUSAGE_CHILDREN}) {
        rusage used{};
        getrusage(who, &used);
        sum += double(used.ru_utime.tv_sec + used.ru_stime.tv_sec) + 1e-6 * double(used.ru_utime.tv_usec + used.ru_stime.tv_usec);
    }
    return sum;
}

}  // namespace

std::string cpu_model() {
    std::ifstream file("/proc/cpuinfo");
    for (std::string line; std::getline(file, line);)
        if (line.starts_with("model name")) return line.substr(std::min(line.find(':') + 2, line.size()));
    return "unknown CPU";
}

int cpu_count() { return int(sysconf(_SC_NPROCESSORS_ONLN)); }

int64_t cache_bytes(int level) { return cache(level).bytes; }
int cache_sharing(int level) { return cache(level).sharing; }

int64_t cache_bytes(int level, int threads) {
    const Cache &one = cache(level);
    return one.bytes * std::max(1, threads / one.sharing);
}

Neighbours::Neighbours() : wall_(now()), machine_(machine_seconds()), own_(own_seconds()) {}

double Neighbours::busy_cpus() const {
    const double wall = now() - wall_;
    return wall > 0 ? std::max(0.0, (machine_seconds() - machine_ - (own_seconds() - own_)) / wall) : 0;
}

std::string date_and_time() {
    char text[64];
    const std::time_t time = std::time(nullptr);
    std::tm local{};
    localtime_r(&time, &local);
    std::strftime(text, sizeof text, "%FT%T%z", &local);
    return text;
}

// Not ru_maxrss: a child starts with its parent's, and it cannot be reset.
int64_t peak_memory_bytes() {
    std::ifstream status("/proc/self/status");
    for (std::string line; std::getline(status, line);)
        if (line.starts_with("VmHWM:")) return std::atoll(line.c_str() + 6) * 1024;
    return 0;
}

void reset_peak_memory() { std::ofstream("/proc/self/clear_refs") << "5"; }

}  // namespace aft::tool
