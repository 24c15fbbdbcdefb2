#include "tools/bench/limits.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <ctime>
#include <limits>
#include <numeric>

#include "aft/tensor.h"
#include "kernel_table.h"
#include "runtime/parallel.h"
#include "tools/bench/machine.h"
#include "tools/bench/measure.h"
#include "tools/bench/probes.h"

namespace aft::tool {
namespace {

constexpr int rounds = 7;
constexpr double sample_seconds = 0.008;

// Results must be used, or the loops go. One a thread: a line that threads share would bound the loops of the first caches.
thread_local volatile float sink;

// Each thread runs `task(thread)`, all start together: a thread waits for the others, so no one serves two tasks. So
// `threads` may not be more than the pool has.
void on_all_threads(int threads, const std::function<void(int)> &task) {
    std::atomic<int> ready = 0;
    parallel_for(threads, [&](int64_t thread) {
        ready++;
        while (ready < threads) __builtin_ia32_pause();
        task(int(thread));
    });
}

double thread_seconds() {
    timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return double(t.tv_sec) + 1e-9 * double(t.tv_nsec);
}

// Best of the rounds' times per call of `task` on each thread: a limit is what the machine can do when it is left alone.
// Each thread takes its time from where all have started: on a busy machine they wait for each other longer than a loop takes.
double seconds_per_call(int threads, const std::function<void(int)> &task) {
    int64_t calls = 1;
    std::vector<double> seconds(static_cast<size_t>(threads));
    const auto run = [&] {
        on_all_threads(threads, [&](int thread) {
            const double start = now();
            for (int64_t n = 0; n < calls; n++) task(thread);
            seconds[size_t(thread)] = now() - start;
        });
        return *std::ranges::max_element(seconds);
    };
    double spent = run();
    for (spent = run(); spent < 0.5 * sample_seconds; spent = run()) calls = std::max(2 * calls, int64_t(double(calls) * sample_seconds / (spent + 1e-6) * 0.9));
    std::vector<double> times = {spent};
    for (int round = 1; round < rounds; round++) times.push_back(run());
    return *std::ranges::min_element(times) / double(calls);
}

Bandwidth measure_bandwidth(const Probes &probe, int threads, int64_t bytes_per_thread) {
    const int64_t floats = std::max(bytes_per_thread / 4 / (4 * probe_step), int64_t(1)) * 4 * probe_step, half = floats / 2, quarter = floats / 4;
    std::vector<Tensor> data;
    for (int thread = 0; thread < threads; thread++) data.emplace_back(Shape{floats});
    on_all_threads(threads, [&](int thread) {
        Tensor mine = data[size_t(thread)];
        mine.fill(0.1f);  // first touch: pages near the thread's CPU
    });
    const auto rate = [&](int64_t used, const std::function<float(float *)> &loop) {
        return double(threads) * double(used) * 4 / seconds_per_call(threads, [&](int thread) { sink = loop(data[size_t(thread)].data()); });
    };
    Bandwidth found;
    found.read = rate(floats, [&](float *p) { return probe.read(p, floats); });
    found.copy = rate(2 * half, [&](float *p) { return probe.copy(p, p + half, half); });
    found.triad = rate(4 * quarter, [&](float *p) { return probe.triad(p, p + quarter, p + 2 * quarter, p + 3 * quarter, quarter); });
    found.update = rate(2 * half, [&](float *p) { return probe.update(p, half); });
    return found;
}

}  // namespace

double Bandwidth::at(double written_share) const {
    const double share = std::clamp(written_share, 0.0, 0.5);
    const double low = share < 0.25 ? read : triad, high = share < 0.25 ? triad : copy, part = std::fmod(share, 0.25) / 0.25;
    return share == 0.5 ? copy : 1 / ((1 - part) / low + part / high);
}

double Bandwidth::seconds(const Workload &work) const {
    const double in_place = 2 * work.updated, rest = work.bytes - in_place, written = work.written - work.updated;
    return (in_place > 0 ? in_place / update : 0) + (rest > 0 ? rest / at(written / rest) : 0);
}

int Limits::level_of(double bytes) const {
    int level = 0;
    while (level < levels - 1 && bytes > double(capacity[size_t(level)])) level++;
    return level;
}

const char *level_name(int level) {
    static const char *const names[] = {"L1", "L2", "L3", "DRAM"};
    return names[level];
}

// By each thread's own CPU time: the loop touches no memory, so that what other programs take of the CPU is no part of the limit.
double measure_fma_peak(int threads) {
    threads = std::min(threads, thread_count());
    const Probes &probe = probes(kernels().target);
    constexpr int64_t repeats = 10'000;
    std::vector<double> rates(static_cast<size_t>(threads));
    double best = 0;
    for (int round = 0; round < rounds; round++) {
        on_all_threads(threads, [&](int thread) {
            const double start = thread_seconds();
            double spent = 0, flops = 0;
            for (; spent < sample_seconds; spent = thread_seconds() - start) sink = probe.fma(repeats), flops += double(repeats * probe.flops_per_repeat);
            rates[size_t(thread)] = flops / spent;
        });
        best = std::max(best, std::accumulate(rates.begin(), rates.end(), 0.0));
    }
    return best;
}

Limits measure_limits(int threads) {
    Limits limits;
    limits.target = kernels().target;
    limits.threads = threads = std::min(threads, thread_count());
    limits.fma = measure_fma_peak(threads);
    for (int level = 0; level < Limits::levels; level++) {
        const bool memory = level == Limits::levels - 1;
        const int64_t below = level ? limits.capacity[size_t(level - 1)] : cache_bytes(1, threads) / 4;
        limits.capacity[size_t(level)] = memory ? std::numeric_limits<int64_t>::max() : cache_bytes(level + 1, threads);
        // Half way (in powers) between this level's edges; memory: far beyond the last cache.
        const double total = memory ? std::max(8.0 * double(below), 256.0 * (1 << 20)) : std::sqrt(double(below) * double(limits.capacity[size_t(level)]));
        limits.bandwidth[size_t(level)] = measure_bandwidth(probes(kernels().target), threads, int64_t(total / threads));
    }
    return limits;
}

std::string Bound::name() const { return by_memory ? level_name(level) : "FMA"; }

Bound bound_of(const Workload &workload, const Limits &limits, bool cold) {
    Bound bound;
    bound.level = cold ? Limits::levels - 1 : limits.level_of(workload.bytes);
    const double arithmetic = workload.flops / limits.fma, memory = limits.bandwidth[size_t(bound.level)].seconds(workload);
    bound.by_memory = memory > arithmetic;
    bound.seconds = std::max(arithmetic, memory);
    return bound;
}

}  // namespace aft::tool
