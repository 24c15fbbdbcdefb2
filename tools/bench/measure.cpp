#include "tools/bench/measure.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <memory>

#include "runtime/parallel.h"

namespace aft::tool {
namespace {

// A call longer than this finds the caches as good as cold after its first few percent: a warming call tells nothing.
constexpr double no_warming_beyond = 0.05;

}  // namespace

double now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

double median(std::vector<double> values) {
    if (values.empty()) return 0;
    const size_t half = values.size() / 2;
    std::ranges::nth_element(values, values.begin() + std::ptrdiff_t(half));
    if (values.size() % 2) return values[half];
    return 0.5 * (values[half] + *std::max_element(values.begin(), values.begin() + std::ptrdiff_t(half)));
}

double middle_deviation(std::vector<double> values, double middle) {
    for (double &v : values) v = std::abs(v - middle);
    return median(std::move(values));
}

double half_sample_mode(std::vector<double> values) {
    if (values.empty()) return 0;
    std::ranges::sort(values);
    size_t first = 0, count = values.size();
    while (count > 2) {
        const size_t half = (count + 1) / 2;
        size_t tightest = first;
        for (size_t at = first; at + half <= first + count; at++)
            if (values[at + half - 1] - values[at] < values[tightest + half - 1] - values[tightest]) tightest = at;
        first = tightest, count = half;
    }
    return count == 1 ? values[first] : 0.5 * (values[first] + values[first + 1]);
}

std::vector<double> Measurement::seconds() const {
    std::vector<double> all;
    for (const Sample &sample : samples) all.push_back(sample.seconds);
    return all;
}

double Measurement::centre() const { return median(seconds()); }

double Measurement::spread() const {
    const double middle = centre();
    return middle > 0 ? middle_deviation(seconds(), middle) / middle : 0;
}

double Measurement::best() const {
    const std::vector<double> all = seconds();
    return all.empty() ? 0 : *std::ranges::min_element(all);
}

int64_t Measurement::calls() const {
    int64_t sum = 0;
    for (const Sample &sample : samples) sum += sample.calls;
    return sum;
}

// The median's standard error is 1.2533 sigma / sqrt(n), sigma = 1.4826 MAD.
double Ratio::error() const { return pairs && centre > 0 ? 1.8582 * spread / centre / std::sqrt(double(pairs)) : 0; }

Ratio middle_ratio(std::vector<double> ratios) {
    const double centre = median(ratios);
    const size_t pairs = ratios.size();
    return {centre, middle_deviation(std::move(ratios), centre), pairs};
}

Ratio ratio(const Measurement &of, const Measurement &over) {
    std::vector<double> ratios;
    for (size_t n = 0; n < std::min(of.samples.size(), over.samples.size()); n++) ratios.push_back(of.samples[n].seconds / over.samples[n].seconds);
    return middle_ratio(std::move(ratios));
}

const char *verdict_of(double ratio, double noise) {
    const double difference = std::abs(std::log(ratio));
    return difference < noise ? "same" : ratio > 1 ? "faster" : "slower";
}

Sampler warm_sampler(std::function<void()> run, double least_seconds) {
    return [run = std::move(run), least_seconds, estimate = std::make_shared<double>(0)] {
        if (*estimate == 0) run();  // the first call of all touches fresh memory
        if (*estimate < no_warming_beyond) {
            const double start = now();
            run();
            if (*estimate == 0) *estimate = std::max(now() - start, 1e-9);
        }
        Sample sample;
        const double start = now();
        for (double spent = 0; sample.calls == 0 || spent < least_seconds; spent = now() - start) {
            // In few looks at the clock: the remaining time in one go, or half of it while the estimate is rough.
            const int64_t more = std::clamp(int64_t(0.6 * (least_seconds - spent) / *estimate), int64_t(1), int64_t(1) << 30);
            for (int64_t n = 0; n < more; n++) run();
            sample.calls += more;
            *estimate = (now() - start) / double(sample.calls);
        }
        sample.seconds = (now() - start) / double(sample.calls);
        return sample;
    };
}

void on_all_threads(int threads, const std::function<void(int)> &task) {
    std::atomic<int> ready = 0;
    parallel_for(threads, [&](int64_t thread) {
        ready++;
        while (ready < threads) __builtin_ia32_pause();
        task(int(thread));
    });
}

std::vector<Measurement> measure(std::span<const Sampler> samplers, int rounds) {
    std::vector<Measurement> found(samplers.size());
    for (int round = 0; round < rounds; round++)
        for (size_t n = 0; n < samplers.size(); n++) {
            const size_t at = round % 2 ? samplers.size() - 1 - n : n;
            found[at].samples.push_back(samplers[at]());
        }
    return found;
}

}  // namespace aft::tool
