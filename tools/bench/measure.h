// Timing. Samples of several candidates are taken in turn, so that what drifts (clock rate, other programs) hits all of
// them alike; the centre is the median and the spread the median absolute deviation, since times have a long tail to one
// side: the mean follows the tail, the minimum follows luck.
#pragma once
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

namespace aft::tool {

double now();  // seconds of the steady clock

double median(std::vector<double> values);
double middle_deviation(std::vector<double> values, double middle);  // median absolute deviation
double half_sample_mode(std::vector<double> values);  // the densest place (Bickel & Fruehwirth 2006): centre when more than half is disturbed

struct Sample {
    double seconds = 0;  // of one call
    int64_t calls = 0;   // that were timed for it
};
using Sampler = std::function<Sample()>;

struct Measurement {
    std::vector<Sample> samples;

    std::vector<double> seconds() const;
    double centre() const;  // median seconds of a call
    double spread() const;  // median absolute deviation / centre
    double best() const;
    int64_t calls() const;
};

// How long one takes by the other's time, from the pairs of samples that were taken in turn: what slows both drops out of each pair.
struct Ratio {
    double centre = 0, spread = 0;  // median, median absolute deviation
    size_t pairs = 0;

    double error() const;  // standard error of the median, as a fraction of it
};
Ratio middle_ratio(std::vector<double> ratios);
Ratio ratio(const Measurement &of, const Measurement &over);

// "faster", "slower" or "same" for a time `ratio` times as long before as now, of which a difference below `noise` (a fraction) says nothing.
const char *verdict_of(double ratio, double noise);

// Times as many calls together as take `least_seconds`; caches hold what the call before left there.
Sampler warm_sampler(std::function<void()> run, double least_seconds);

// Each thread runs `task(thread)`, all start together: a thread waits for the others, so no one serves two tasks. So
// `threads` may not be more than the pool has.
void on_all_threads(int threads, const std::function<void(int)> &task);

// `rounds` samples of each, in turn: forwards in even rounds, backwards in odd ones.
std::vector<Measurement> measure(std::span<const Sampler> samplers, int rounds);

}  // namespace aft::tool
