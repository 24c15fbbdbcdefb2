#include "tools/tuner/process.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <fstream>
#include <sstream>
#include <thread>

#include "aft/error.h"

namespace aft::tool {

void pin_to(const std::vector<int> &cpus) {
    if (cpus.empty()) return;
    cpu_set_t set;
    CPU_ZERO(&set);
    for (int cpu : cpus) CPU_SET(size_t(cpu), &set);
    sched_setaffinity(0, sizeof set, &set);
}

std::vector<int> allowed_cpus() {
    cpu_set_t set;
    std::vector<int> cpus;
    if (sched_getaffinity(0, sizeof set, &set) != 0) return cpus;
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++)
        if (CPU_ISSET(size_t(cpu), &set)) cpus.push_back(cpu);
    return cpus;
}

Cores::Cores(int threads) : measuring(allowed_cpus()) {
    const auto count = std::ptrdiff_t(std::min(size_t(threads), measuring.size()));
    compiling.assign(measuring.begin(), measuring.end() - count);
    measuring.erase(measuring.begin(), measuring.end() - count);
    apart = !compiling.empty();
    if (!apart) compiling = measuring;
}

std::string describe_status(int status) {
    if (WIFSIGNALED(status)) return "killed by signal " + std::to_string(WTERMSIG(status)) + " (" + strsignal(WTERMSIG(status)) + ")";
    return WEXITSTATUS(status) == 0 ? "" : "exit code " + std::to_string(WEXITSTATUS(status));
}

Ended run_process(const std::vector<std::string> &command, const ProcessLimits &limits, const std::string &log_file) {
    std::vector<char *> argv;
    for (const std::string &word : command) argv.push_back(const_cast<char *>(word.c_str()));
    argv.push_back(nullptr);
    const int log = open(log_file.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (log < 0) throw Error("cannot write '" + log_file + "': " + std::strerror(errno));
    const pid_t child = fork();
    if (child < 0) {
        close(log);
        throw Error(std::string("cannot start '") + argv[0] + "': " + std::strerror(errno));
    }
    if (child == 0) {  // only calls that are safe between fork and exec
        setpgid(0, 0);
        prctl(PR_SET_PDEATHSIG, SIGKILL);  // the caller's thread waits for it
        dup2(log, 1), dup2(log, 2);
        const rlimit memory{rlim_t(limits.memory_bytes), rlim_t(limits.memory_bytes)}, none{0, 0};
        setrlimit(RLIMIT_AS, &memory);
        setrlimit(RLIMIT_CORE, &none);
        pin_to(limits.cpus);
        execvp(argv[0], argv.data());
        _exit(127);
    }
    close(log);
    using Clock = std::chrono::steady_clock;
    const auto deadline = Clock::now() + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(limits.wall_s));
    int status = 0;
    Ended ended;
    while (true) {
        const pid_t got = waitpid(child, &status, WNOHANG);
        if (got == child) {
            ended.how = describe_status(status);
            break;
        }
        if (got < 0 && errno != EINTR) throw Error(std::string("lost the process '") + argv[0] + "': " + std::strerror(errno));
        if (Clock::now() > deadline) {
            kill(-child, SIGKILL), kill(child, SIGKILL);
            waitpid(child, &status, 0);
            ended.how = "took longer than " + std::to_string(int(limits.wall_s)) + " s";
            break;
        }
        std::this_thread::sleep_for(std::chrono::milliseconds(2));
    }
    ended.ok = ended.how.empty();
    std::ostringstream text;
    text << std::ifstream(log_file).rdbuf();
    ended.output = text.str();
    if (ended.output.size() > 4000) ended.output.erase(0, ended.output.size() - 4000);
    return ended;
}

}  // namespace aft::tool
