#include "tools/bench/limits.h"

#include <algorithm>
#include <cmath>
#include <ctime>
#include <limits>
#include <memory>
#include <numeric>

#include "aft/tensor.h"
#include "aft/threads.h"
#include "kernel_table.h"
#include "tools/bench/cold.h"
#include "tools/bench/machine.h"
#include "tools/bench/measure.h"
#include "tools/bench/probes.h"

namespace aft::tool {
namespace {

constexpr int rounds = 7, memory_rounds = 3;  // a pass over memory takes longer than a sample
constexpr double sample_seconds = 0.008;

int64_t rounded(double bytes) { return int64_t(1) << std::lround(std::log2(std::max(bytes, 1.0))); }

// Results must be used, or the loops go. One a thread: a line that threads share would bound the loops of the first caches.
thread_local volatile float sink;

double thread_seconds() {
    timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return double(t.tv_sec) + 1e-9 * double(t.tv_nsec);
}

// Flops per second, by each thread's own CPU time: the loop touches no memory, so that what other programs take of the CPU is no
// part of the limit.
double fma_rate(const Probes &probe, int threads) {
    constexpr int64_t repeats = 10'000;
    std::vector<double> rates(static_cast<size_t>(threads));
    on_all_threads(threads, [&](int thread) {
        const double start = thread_seconds();
        double spent = 0, flops = 0;
        for (; spent < sample_seconds; spent = thread_seconds() - start) sink = probe.fma(repeats), flops += double(repeats * probe.flops_per_repeat);
        rates[size_t(thread)] = flops / spent;
    });
    return std::accumulate(rates.begin(), rates.end(), 0.0);
}

// Samplers of the seconds per byte of the four loops, in the order of Bandwidth. Each thread takes its time from where all have
// started: on a busy machine they wait for each other longer than a loop takes.
std::vector<Sampler> streams(const Probes &probe, int threads, int64_t bytes) {
    const int64_t floats = std::max(bytes / threads / 4 / (4 * probe_step), int64_t(1)) * 4 * probe_step, half = floats / 2, quarter = floats / 4;
    const auto data = std::make_shared<std::vector<Tensor>>();
    for (int thread = 0; thread < threads; thread++) data->emplace_back(Shape{floats});
    on_all_threads(threads, [&](int thread) { (*data)[size_t(thread)].fill(0.1f); });  // first touch: pages near the thread's CPU
    const auto stream = [&](int64_t used, const std::function<float(float *)> &loop) -> Sampler {
        const auto run = [=](int64_t passes) {
            std::vector<double> seconds(static_cast<size_t>(threads));
            on_all_threads(threads, [&](int thread) {
                const double start = now();
                for (int64_t n = 0; n < passes; n++) sink = loop((*data)[size_t(thread)].data());
                seconds[size_t(thread)] = now() - start;
            });
            return *std::ranges::max_element(seconds);
        };
        return [=, touched = 4 * double(threads * used), passes = std::make_shared<int64_t>(1)] {
            run(1);  // what ran before left other data in the caches
            double spent = run(*passes);
            for (; spent < 0.5 * sample_seconds; spent = run(*passes)) *passes = std::max(2 * *passes, int64_t(double(*passes) * 0.9 * sample_seconds / (spent + 1e-6)));
            return Sample{spent / double(*passes) / touched, *passes};
        };
    };
    return {stream(floats, [=](float *p) { return probe.read(p, floats); }), stream(2 * half, [=](float *p) { return probe.copy(p, p + half, half); }),
            stream(4 * quarter, [=](float *p) { return probe.triad(p, p + quarter, p + 2 * quarter, p + 3 * quarter, quarter); }),
            stream(2 * half, [=](float *p) { return probe.update(p, half); })};
}

template <class Seconds>
Bandwidth bandwidth(std::span<const Measurement> times, Seconds seconds) {
    return {1 / seconds(times[0]), 1 / seconds(times[1]), 1 / seconds(times[2]), 1 / seconds(times[3])};
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

double measure_fma_peak(int threads) {
    double best = 0;
    for (int round = 0; round < rounds; round++) best = std::max(best, fma_rate(probes(kernels().target), std::min(threads, thread_count())));
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
        // Half way (in powers) between this level's edges; memory: beyond the last cache, of which streams find nothing again.
        const double total = memory ? std::max(2.0 * double(below), 256.0 * (1 << 20)) : std::sqrt(double(below) * double(limits.capacity[size_t(level)]));
        limits.bandwidth[size_t(level)] = bandwidth(measure(streams(probes(limits.target), threads, int64_t(total)), memory ? memory_rounds : rounds), [](const Measurement &m) { return m.best(); });
    }
    return limits;
}

std::string Bound::name() const { return by_memory ? level_name(level) : "FMA"; }

Bound bound_of(const Workload &workload, const Limits &limits, bool cold) {
    Bound bound;
    const double among = footprint(workload, cold);
    bound.level = limits.level_of(among);
    const auto found = std::isfinite(among) ? limits.in_turn.find(rounded(among)) : limits.in_turn.end();
    const Bandwidth &bandwidth = found == limits.in_turn.end() ? limits.bandwidth[size_t(bound.level)] : found->second;
    const double arithmetic = workload.flops / limits.fma, memory = bandwidth.seconds(workload);
    bound.by_memory = memory > arithmetic;
    bound.seconds = std::max(arithmetic, memory);
    return bound;
}

void LimitsInTurn::add(const Workload &workload, bool cold) {
    const double among = footprint(workload, cold);
    if (std::isfinite(among) && bound_of(workload, best_, cold).by_memory) footprints_.insert(rounded(among));
}

std::vector<Sampler> LimitsInTurn::samplers() const {
    const Probes &probe = probes(best_.target);
    std::vector<Sampler> all = {[&probe, threads = best_.threads] { return Sample{1 / fma_rate(probe, threads), 1}; }};
    for (const int64_t bytes : footprints_)
        for (Sampler &stream : streams(probe, best_.threads, bytes)) all.push_back(std::move(stream));
    return all;
}

Limits LimitsInTurn::seen(std::span<const Measurement> times) const {
    const auto median = [](const Measurement &m) { return m.centre(); };
    Limits limits = best_;
    limits.fma = 1 / median(times[0]);
    size_t at = 1;
    for (const int64_t bytes : footprints_) limits.in_turn[bytes] = bandwidth(times.subspan(at, 4), median), at += 4;
    return limits;
}

}  // namespace aft::tool
