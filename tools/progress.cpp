#include "tools/progress.h"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>

namespace aft::tool {
namespace {

constexpr double plain_interval = 5;  // seconds between lines in a log file
constexpr double terminal_interval = 0.1;

double now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

}  // namespace

ProgressLine::ProgressLine(bool quiet) : quiet_(quiet), terminal_(isatty(STDERR_FILENO)) {}

ProgressLine::~ProgressLine() {
    if (width_) std::fputc('\n', stderr);
}

void ProgressLine::update(const std::string &text, bool always) {
    if (quiet_ || (!always && now() - last_ < (terminal_ ? terminal_interval : plain_interval))) return;
    last_ = now();
    if (!terminal_) {
        std::fprintf(stderr, "%s\n", text.c_str());
        return;
    }
    std::fprintf(stderr, "\r%s%s", text.c_str(), std::string(width_ > text.size() ? width_ - text.size() : 0, ' ').c_str());
    std::fflush(stderr);
    width_ = text.size();
}

void ProgressLine::print(const std::string &text) {
    if (quiet_) return;
    if (width_) std::fprintf(stderr, "\r%s\r", std::string(width_, ' ').c_str());
    width_ = 0;
    std::fprintf(stderr, "%s\n", text.c_str());
}

std::string duration(double seconds) {
    const auto s = int64_t(std::llround(std::clamp(seconds, 0.0, 1e9)));
    const auto two = [](int64_t n) { return std::string(n < 10 ? "0" : "").append(std::to_string(n)); };
    if (s >= 3600) return std::to_string(s / 3600) + " h " + two(s / 60 % 60) + " min";
    if (s >= 60) return std::to_string(s / 60) + " min " + two(s % 60) + " s";
    return std::to_string(s) + " s";
}

}  // namespace aft::tool
