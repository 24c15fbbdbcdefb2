// Spans of the timeline (include/aft/trace.h). A span costs one load and branch while no trace runs.
#pragma once
#include <atomic>
#include <cstdint>
#include <set>
#include <string>

namespace aft {

extern std::atomic<bool> trace_on;
int64_t trace_now();  // nanoseconds
enum class SpanKind { kernel, loop };  // a call; what one thread does of a parallel loop
void trace_event(const char *name, SpanKind kind, int64_t begin, int64_t end);

// The variants of kernels that were called since start_trace or the last time, each once; their events are dropped.
std::set<std::string> take_traced_kernels();

// The kernel that this thread is in, for the parts that other threads take of its loops.
const char *traced_kernel();
void set_traced_kernel(const char *name);

// `name` must live as long as the program.
class TraceSpan {
public:
    explicit TraceSpan(const char *name, SpanKind kind = SpanKind::kernel) : name_(name), kind_(kind), begin_(trace_on.load(std::memory_order_relaxed) ? trace_now() : -1) {
        if (begin_ >= 0) before_ = traced_kernel(), set_traced_kernel(name);
    }
    ~TraceSpan() {
        if (begin_ < 0) return;
        trace_event(name_, kind_, begin_, trace_now());
        set_traced_kernel(before_);
    }
    TraceSpan(const TraceSpan &) = delete;

private:
    const char *name_, *before_ = nullptr;
    SpanKind kind_;
    int64_t begin_;
};

}  // namespace aft
