#include "runtime/trace.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <mutex>
#include <tuple>
#include <vector>

#include "aft/trace.h"
#include "runtime/files.h"

namespace aft {

std::atomic<bool> trace_on = false;

namespace {

struct Event {
    const char *name;
    SpanKind kind;
    int64_t begin, end;
    int thread;
};

constexpr size_t most_events = 2'000'000;

std::mutex mutex;  // of what follows
std::vector<Event> events;
int threads = 0;

thread_local int this_thread = -1;
thread_local const char *kernel = nullptr;

}  // namespace

int64_t trace_now() { return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

void trace_event(const char *name, SpanKind kind, int64_t begin, int64_t end) {
    const std::lock_guard lock(mutex);
    if (this_thread < 0) this_thread = threads++;
    if (events.size() < most_events) events.push_back({name, kind, begin, end, this_thread});
}

std::set<std::string> take_traced_kernels() {
    const std::lock_guard lock(mutex);
    std::set<std::string> names;
    for (const Event &e : events)
        if (e.kind == SpanKind::kernel) names.insert(e.name);
    events.clear();
    return names;
}

const char *traced_kernel() { return kernel; }
void set_traced_kernel(const char *name) { kernel = name; }

void start_trace() {
    const std::lock_guard lock(mutex);
    events.clear();
    trace_on = true;
}

void write_trace(const std::string &path) {
    trace_on = false;
    const std::lock_guard lock(mutex);
    // By thread and time, what encloses before what it encloses.
    std::ranges::stable_sort(events, [](const Event &a, const Event &b) { return std::tuple(a.thread, a.begin, -a.end) < std::tuple(b.thread, b.begin, -b.end); });
    int64_t first = events.empty() ? 0 : events.front().begin;
    for (const Event &e : events) first = std::min(first, e.begin);
    std::string text = "{\"displayTimeUnit\": \"ms\", \"traceEvents\": [";
    char line[256];
    for (size_t n = 0; n < events.size(); n++) {
        const Event &e = events[n];
        std::snprintf(line, sizeof line, "%s\n{\"name\": \"%s\", \"cat\": \"%s\", \"ph\": \"X\", \"ts\": %.3f, \"dur\": %.3f, \"pid\": 1, \"tid\": %d}", n ? "," : "", e.name, e.kind == SpanKind::kernel ? "kernel" : "loop",
                      double(e.begin - first) * 1e-3, double(e.end - e.begin) * 1e-3, e.thread);
        text += line;
    }
    write_file_atomic(path, text + "\n]}\n");
    events.clear();
}

}  // namespace aft
