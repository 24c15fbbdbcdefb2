#include "tools/bench/results.h"

#include <spdlog/fmt/fmt.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>

#include "aft/error.h"
#include "aft/version.h"
#include "runtime/files.h"
#include "runtime/json.h"
#include "tools/bench/machine.h"

namespace aft::tool {
namespace {

using nlohmann::json;

// Median deviations of two runs add to noise; three of them are rare by chance, and below 2 % nothing is believed.
constexpr double noise_factor = 3, least_difference = 0.02;

double unit_seconds(const std::string &unit) {
    if (unit == "ns") return 1e-9;
    if (unit == "us") return 1e-6;
    if (unit == "ms") return 1e-3;
    if (unit == "s") return 1;
    throw Error("time_unit '" + unit + "' is none of ns, us, ms, s");
}

std::string line(const Result &result, const std::string &name, const Measurement &time, const std::string &tail) {
    return fmt::format("{:<64} {:>11} {:>6.1f}% {:>14} {}\n", name, format_seconds(time.centre()), 100 * time.spread(),
                       format_rate(result.work, result.bound, time.centre()), tail);
}

}  // namespace

std::string format_seconds(double seconds) {
    if (seconds >= 1) return fmt::format("{:.3f} s", seconds);
    if (seconds >= 1e-3) return fmt::format("{:.3f} ms", seconds * 1e3);
    return fmt::format("{:.3f} us", seconds * 1e6);
}

std::string format_rate(const Workload &work, const Bound &bound, double seconds) {
    return bound.by_memory ? fmt::format("{:.1f} GB/s", work.bytes / seconds * 1e-9) : fmt::format("{:.1f} GFLOP/s", work.flops / seconds * 1e-9);
}

std::string format_limits(const Limits &one, const Limits &all) {
    const bool both = all.threads > 1;
    const auto line = [&](const std::string &what, const std::string &x, const std::string &y) { return fmt::format("{:<24}{:>12}", what, x) + (both ? fmt::format("{:>12}", y) : "") + "\n"; };
    const auto number = [](double rate) { return fmt::format("{:.1f}", rate * 1e-9); };
    std::string text = fmt::format("limits of this machine ({}, table {})\n", cpu_model(), all.target);
    text += line("", "1 thread", fmt::format("{} threads", all.threads)) + line("FMA, GFLOP/s", number(one.fma), number(all.fma));
    for (int level = 0; level < Limits::levels; level++) {
        const Bandwidth &a = one.bandwidth[size_t(level)], &b = all.bandwidth[size_t(level)];
        const auto row = [&](const char *what, double x, double y) { text += line(fmt::format("{} {}, GB/s", level_name(level), what), number(x), number(y)); };
        row("read", a.read, b.read), row("copy", a.copy, b.copy), row("3 reads 1 write", a.triad, b.triad), row("in place", a.update, b.update);
    }
    return text;
}

std::string table_head(bool ratios) {
    return fmt::format("{:<64} {:>11} {:>7} {:>14} {:>7} of {}\n", "kernel", "time", "spread", "rate", "share", ratios ? "limit / ours is faster by" : "limit");
}

std::string table_line(const Result &result) {
    std::string text = line(result, result.name, result.time, fmt::format("{:>6.1f}% of {}", 100 * result.share(), result.bound.name()));
    // Ratios of two medians; their spreads add.
    const auto ratio = [&](const Measurement &time) {
        const double r = time.centre() / result.time.centre();
        return fmt::format("{:>6.2f} x +- {:.2f}", r, r * (time.spread() + result.time.spread()));
    };
    if (result.one_thread) text += line(result, "  one thread", *result.one_thread, ratio(*result.one_thread));
    for (const auto &[form, time] : result.peers) {
        const auto note = result.notes.find(form);
        text += line(result, "  torch " + form + (note == result.notes.end() || note->second.empty() ? "" : " (" + note->second + ")"), time, ratio(time));
    }
    return text;
}

json bench_context(const Limits *limits, double busy_cpus) {
    char host[256] = "";
    gethostname(host, sizeof host - 1);
    double load[3] = {};
    getloadavg(load, 3);
    json context = {{"date", date_and_time()},
                    {"host_name", host},
                    {"executable", "aft"},
                    {"aft_version", AFT_VERSION},
                    {"cpu_model", cpu_model()},
                    {"num_cpus", cpu_count()},
                    {"load_avg", load},
                    {"cpus_used_by_others", busy_cpus},
                    {"library_build_type", "release"},
                    {"caches", json::array()}};
    for (int level = 1; level <= 3; level++)
        context["caches"].push_back({{"type", level == 1 ? "Data" : "Unified"}, {"level", level}, {"size", cache_bytes(level)}, {"num_sharing", cache_sharing(level)}});
    if (limits) {
        json measured = {{"threads", limits->threads}, {"target", limits->target}, {"fma_flops_per_second", limits->fma}};
        for (int level = 0; level < Limits::levels; level++) {
            const Bandwidth &b = limits->bandwidth[size_t(level)];
            measured[level_name(level)] = {{"read_bytes_per_second", b.read}, {"copy_bytes_per_second", b.copy}, {"three_reads_one_write_bytes_per_second", b.triad}, {"update_bytes_per_second", b.update}};
        }
        context["limits"] = measured;
    }
    return context;
}

json benchmark_entry(const std::string &name, const Measurement &time, const json &counters) {
    json entry = {{"name", name},
                  {"run_name", name},
                  {"run_type", "iteration"},
                  {"repetitions", 1},
                  {"repetition_index", 0},
                  {"iterations", time.calls()},
                  {"real_time", time.centre() * 1e9},
                  {"cpu_time", time.centre() * 1e9},
                  {"time_unit", "ns"},
                  {"samples", time.samples.size()},
                  {"spread", time.spread()},
                  {"best_time", time.best() * 1e9},
                  {"mode_time", half_sample_mode(time.seconds()) * 1e9}};
    entry.update(counters);
    return entry;
}

json to_json(const Result &result) {
    json counters = {{"flops_per_second", result.work.flops / result.time.centre()},
                     {"bytes_per_second", result.work.bytes / result.time.centre()},
                     {"limit_time", result.bound.seconds * 1e9},
                     {"limited_by", result.bound.name()},
                     {"share_of_limit", result.share()},
                     {"cache", result.cold ? "cold" : "warm"}};
    if (result.one_thread) {
        counters["one_thread_time"] = result.one_thread->centre() * 1e9;
        counters["one_thread_spread"] = result.one_thread->spread();
        counters["scaling"] = result.scaling();
    }
    for (const auto &[form, time] : result.peers) {
        counters["torch_" + form + "_time"] = time.centre() * 1e9;
        counters["torch_" + form + "_spread"] = time.spread();
        counters["torch_" + form + "_ratio"] = time.centre() / result.time.centre();
        if (const auto note = result.notes.find(form); note != result.notes.end() && !note->second.empty()) counters["torch_" + form + "_note"] = note->second;
    }
    return benchmark_entry(result.name, result.time, counters);
}

void expect_writable(const std::string &path) {
    if (!path.empty()) AtomicFile probe(path);
}

std::string differences(const json &before, const json &after) {
    std::string text;
    for (const char *key : {"/cpu_model", "/limits/threads", "/limits/target"}) {
        const json::json_pointer where(key);
        if (before.contains(where) && after.contains(where) && before[where] != after[where])
            text += (text.empty() ? "" : ", ") + where.back() + " " + before[where].dump() + " and " + after[where].dump();
    }
    return text;
}

Run read_run(const std::string &path) {
    const json whole = parse_json(read_file(path, int64_t(1) << 28), path);
    try {
        Run run;
        run.context = whole.value("context", json::object());
        for (const json &entry : whole.at("benchmarks")) {
            // With repetitions Google Benchmark adds aggregates: the median stands for its run then.
            const bool aggregate = entry.value("run_type", "") == "aggregate";
            if (aggregate && entry.value("aggregate_name", "") != "median") continue;
            const std::string name = entry.value("run_name", entry.at("name").get<std::string>());
            run.times[name] = {entry.at("real_time").get<double>() * unit_seconds(entry.value("time_unit", "ns")), entry.value("spread", 0.0), entry.value("limit_time", 0.0) * 1e-9};
        }
        return run;
    } catch (const Error &error) {
        throw Error("'" + path + "': " + error.what());
    } catch (const json::exception &) {
        throw Error("'" + path + "' is not a result of aft bench --output: it lacks the list 'benchmarks' of entries with 'name' and 'real_time'");
    }
}

std::optional<double> Comparison::share_ratio() const {
    if (!(before.limit > 0 && after.limit > 0)) return std::nullopt;
    return ratio() * after.limit / before.limit;
}

const char *Comparison::verdict() const {
    return verdict_of(share_ratio().value_or(ratio()), std::max(least_difference, noise_factor * (before.spread + after.spread)));
}

std::vector<Comparison> compare(const std::map<std::string, Timed> &before, const std::map<std::string, Timed> &after) {
    std::vector<Comparison> found;
    for (const auto &[name, time] : after)
        if (const auto old = before.find(name); old != before.end()) found.push_back({name, old->second, time});
    return found;
}

std::string format(const std::vector<Comparison> &comparisons) {
    if (comparisons.empty()) return "no name is in both runs: nothing to compare\n";
    std::string text = fmt::format("{:<64} {:>11} {:>11} {:>7} {:>10}\n", "compared", "before", "after", "ratio", "of shares");
    double logarithms = 0, of_shares = 0;
    bool all_known = true;
    for (const Comparison &c : comparisons) {
        const auto share = c.share_ratio();
        text += fmt::format("{:<64} {:>11} {:>11} {:>7.3f} {:>10} {}\n", c.name, format_seconds(c.before.seconds), format_seconds(c.after.seconds), c.ratio(),
                            share ? fmt::format("{:.3f}", *share) : "-", c.verdict());
        logarithms += std::log(c.ratio()), of_shares += std::log(share.value_or(1));
        all_known = all_known && share;
    }
    const double count = double(comparisons.size());
    return text + fmt::format("{:<64} {:>31.3f} {:>10}\n", "geometric mean (above 1: faster now)", std::exp(logarithms / count),
                              all_known ? fmt::format("{:.3f}", std::exp(of_shares / count)) : "-");
}

json to_json(const std::vector<Comparison> &comparisons) {
    json all = json::array();
    for (const Comparison &c : comparisons) {
        all.push_back({{"name", c.name}, {"before", c.before.seconds * 1e9}, {"after", c.after.seconds * 1e9}, {"ratio", c.ratio()}, {"verdict", c.verdict()}});
        if (const auto share = c.share_ratio()) all.back()["share_ratio"] = *share;
    }
    return all;
}

}  // namespace aft::tool
