// What a run of `aft bench` found: as a table for people, in Google Benchmark's JSON form for programs, and compared with
// an earlier run.
#pragma once
#include <nlohmann/json.hpp>

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "tools/bench/limits.h"
#include "tools/bench/measure.h"

namespace aft::tool {

struct Result {
    std::string name;  // unique in a run, the same from run to run
    Workload work;     // without its function
    Measurement time;
    Bound bound;
    bool cold = false;
    std::optional<Measurement> one_thread;     // in turn with `time`, which had them all
    std::map<std::string, Measurement> peers;  // by form: "eager", "compiled" ...
    std::map<std::string, std::string> notes;  // how that form computes it: "dense", "grouped conv1d" ...

    double share() const { return bound.seconds / time.centre(); }  // of the limit
    double scaling() const { return one_thread->centre() / time.centre(); }
};

std::string format_seconds(double seconds);     // "1.234 ms"
std::string format_rate(const Workload &work, const Bound &bound, double seconds);  // in the unit of what binds: GFLOP/s or GB/s
std::string format_limits(const Limits &one, const Limits &all);

std::string table_head(bool ratios);
std::string table_line(const Result &result);  // one line, and one for one thread and for each peer

// {"context": {...}, "benchmarks": [...]}
nlohmann::json bench_context(const Limits *limits, double busy_cpus);
nlohmann::json to_json(const Result &result);
// Our results for a program that reads Google Benchmark's files: seconds per call, further figures as counters.
nlohmann::json benchmark_entry(const std::string &name, const Measurement &time, const nlohmann::json &counters);
void expect_writable(const std::string &path);  // before the work, whose results would be lost; empty: no file is wanted

struct Timed {
    double seconds = 0, spread = 0;  // spread: share of the time; 0 when the file has none
    double limit = 0;                // seconds of the binding limit, measured in turn with it; 0 when the file has none
};
// A file of that form, Google Benchmark's own included.
struct Run {
    nlohmann::json context = nlohmann::json::object();
    std::map<std::string, Timed> times;  // by name
};
Run read_run(const std::string &path);  // throws Error when it is none

// What two contexts should share for figures to be compared, and do not: "threads 1 and 2"; empty when nothing.
std::string differences(const nlohmann::json &before, const nlohmann::json &after);

// The two runs side by side, name by name: old time, new time, ratio (above 1: faster now), the same of the shares of the limit,
// and whether the difference is beyond the spread of both. Where both runs know the share it decides: it holds still while the
// machine's own speed changes from one run to the next.
struct Comparison {
    std::string name;
    Timed before, after;
    double ratio() const { return before.seconds / after.seconds; }
    std::optional<double> share_ratio() const;
    const char *verdict() const;  // "faster", "slower", "same"
};
std::vector<Comparison> compare(const std::map<std::string, Timed> &before, const std::map<std::string, Timed> &after);
std::string format(const std::vector<Comparison> &comparisons);
nlohmann::json to_json(const std::vector<Comparison> &comparisons);

}  // namespace aft::tool
