// Child processes with limits. Each is the leader of its own group: Ctrl-C reaches the tuner only, which decides.
#pragma once
#include <sys/types.h>

#include <string>
#include <vector>

namespace aft::tool {

struct ProcessLimits {
    double wall_s = 60;
    int64_t memory_bytes = int64_t(8) << 30;  // of address space
    std::vector<int> cpus;                    // empty: any
};

struct Ended {
    bool ok = false;
    std::string how;     // "", "exit code 1", "killed by signal 11 (Segmentation fault)", "took longer than 60 s"
    std::string output;  // stdout and stderr, the last 4,000 characters
};

// Runs a program to its end; throws Error only when it cannot be started at all.
Ended run_process(const std::vector<std::string> &command, const ProcessLimits &limits, const std::string &log_file);

std::string describe_status(int wait_status);  // "" for exit code 0

void pin_to(const std::vector<int> &cpus);  // this thread and those it starts
std::vector<int> allowed_cpus();

// The last cores measure, the others compile. With none left, compiling and measuring take turns.
struct Cores {
    std::vector<int> measuring, compiling;
    bool apart = false;
    explicit Cores(int threads);
};

}  // namespace aft::tool
