// aft bench: times kernels and operators and holds each against the limit of this machine that binds it.
#include <spdlog/fmt/fmt.h>
#include <spdlog/spdlog.h>

#include <cmath>
#include <cstdio>
#include <optional>
#include <ranges>
#include <sstream>

#include "aft/error.h"
#include "aft/threads.h"
#include "runtime/files.h"
#include "tools/bench/against.h"
#include "tools/bench/cold.h"
#include "tools/bench/limits.h"
#include "tools/bench/machine.h"
#include "tools/bench/measure.h"
#include "tools/bench/results.h"
#include "tools/bench/roofline.h"
#include "tools/bench/shape_lists.h"
#include "tools/bench/step.h"
#include "tools/bench/torch_operators.h"
#include "tools/bench/workload.h"
#include "tools/command.h"

namespace aft::tool {
namespace {

using nlohmann::json;

// Workloads that are timed in turn are held in memory together.
constexpr double most_bytes_together = 1e9;

struct Options {
    std::vector<std::string> filters = {"*"}, shapes, shape_files, compare;
    std::string output, plot, against;
    int samples = 9;
    double least_seconds = 0.02;
    bool cold = false, list = false, scaling = false;
    PeerOptions peer;
};

struct Choice {
    const WorkloadMaker *maker;
    WorkShape shape;

    std::string name() const {
        Workload named;
        named.kernel = maker->kernel, named.shape = shape;
        return named.name();
    }
};

// Shapes that the user gave, each for the kernels of a glob.
std::vector<std::pair<std::string, WorkShape>> given_shapes(const Options &options) {
    std::vector<std::pair<std::string, WorkShape>> given;
    for (const std::string &shape : options.shapes) given.emplace_back("*", parse_shape(shape));
    for (const std::string &path : options.shape_files) {
        std::istringstream file(shape_list(path));
        int number = 0;
        for (std::string text; std::getline(file, text);) {
            number++;
            std::istringstream words(text.substr(0, text.find('#')));
            std::string glob, shape, more;
            if (!(words >> glob)) continue;
            if (!(words >> shape) || words >> more) throw UsageError(path + ":" + std::to_string(number) + ": a line is KERNEL SHAPE, for example: gemm_nt_* M=4096,N=1536,K=512");
            try {
                given.emplace_back(glob, parse_shape(shape));
            } catch (const UsageError &error) {
                throw UsageError(path + ":" + std::to_string(number) + ": " + error.what());
            }
        }
    }
    if (given.empty() && !options.shape_files.empty()) throw UsageError("--shapes " + fmt::format("{}", fmt::join(options.shape_files, " ")) + " lists no shape");
    return given;
}

std::vector<Choice> choose(const Options &options) {
    const auto given = given_shapes(options);
    std::vector<bool> used(given.size()), matched(options.filters.size());
    std::vector<Choice> chosen;
    for (const WorkloadMaker &maker : workload_makers()) {
        std::vector<WorkShape> shapes;
        if (given.empty()) shapes = maker.model_shapes;
        for (size_t n = 0; n < given.size(); n++)
            if (matches(given[n].first, maker.kernel) && maker.takes(given[n].second)) shapes.push_back(given[n].second), used[n] = true;
        for (const WorkShape &shape : shapes) {
            const Choice choice{&maker, shape};
            bool wanted = false;
            for (size_t n = 0; n < options.filters.size(); n++)
                if (matches(options.filters[n], maker.kernel) || matches(options.filters[n], choice.name())) wanted = matched[n] = true;
            if (wanted) chosen.push_back(choice);
        }
    }
    for (size_t n = 0; n < given.size(); n++)
        if (!used[n]) throw UsageError("no kernel '" + given[n].first + "' takes the shape " + to_string(given[n].second) + ": aft bench --list shows what each takes");
    for (size_t n = 0; n < matched.size(); n++)
        if (!matched[n]) throw UsageError("no kernel matches --filter '" + options.filters[n] + "'" + (given.empty() ? "" : " at these shapes") + ": aft bench --list shows all");
    return chosen;
}

void list(const std::vector<Choice> &choices, bool as_json) {
    json all = json::array();
    for (const Choice &choice : choices) {
        if (as_json)
            all.push_back({{"kernel", choice.maker->kernel}, {"shape", choice.shape}, {"name", choice.name()}});
        else
            std::puts(fmt::format("{:<36} {}", choice.maker->kernel, to_string(choice.shape)).c_str());
    }
    if (as_json) std::puts(all.dump(2).c_str());
}

// One workload of a group: where its samplers stand, ours first, then ours on one thread and those of the peer's forms.
struct Timing {
    Result result;
    size_t ours;
    std::optional<size_t> one_thread;
    std::vector<std::tuple<std::string, size_t, int64_t>> peers;  // form, sampler, the peer's number for it
};

Sampler sampler(const Workload &work, const Options &options) {
    return options.cold ? cold_sampler(work, options.least_seconds) : warm_sampler(work.run, options.least_seconds);
}

Sampler on_one_thread(Sampler sampler) {
    return [sampler = std::move(sampler), all = thread_count()] {
        set_thread_count(1);
        const Sample sample = sampler();
        set_thread_count(all);
        return sample;
    };
}

// Nothing when this build lacks what the workload needs (said, and the others are timed).
std::optional<Result> make_result(const Choice &choice, const Options &options) {
    try {
        Result result;
        result.work = choice.maker->make(choice.shape);
        result.name = result.work.name() + (options.cold ? "/cold" : "");
        result.cold = options.cold;
        return result;
    } catch (const Error &error) {
        spdlog::warn("warning: {} is left out: {}", choice.name(), error.what());
        return std::nullopt;
    }
}

std::vector<Result> run(const std::vector<Choice> &choices, const Options &options, const Limits &limits, TorchOperators *torch, bool print) {
    std::vector<Result> results;
    if (print) std::fputs(table_head(options.scaling || (torch && torch->ready())).c_str(), stdout);
    for (size_t first = 0; first < choices.size();) {
        std::vector<Timing> group;
        std::vector<Sampler> samplers;
        LimitsInTurn in_turn(limits);
        double bytes = 0;
        for (; first < choices.size() && (group.empty() || bytes < most_bytes_together); first++) {
            const Choice &choice = choices[first];
            spdlog::debug("preparing {}", choice.name());
            auto result = make_result(choice, options);
            if (!result) continue;
            const Workload call = result->work;
            bytes += std::max(call.bytes, call.layers ? footprint(call, options.cold) : 0);
            result->work.run = {}, result->work.layers = {};
            in_turn.add(call, options.cold);
            Timing timing{std::move(*result), samplers.size(), {}, {}};
            samplers.push_back(sampler(call, options));
            if (options.scaling) {
                timing.one_thread = samplers.size();
                samplers.push_back(on_one_thread(sampler(call, options)));
            }
            for (const std::string &form : torch ? torch->forms() : std::vector<std::string>())
                if (auto prepared = torch->prepare(timing.result.work, form, options.least_seconds)) {
                    timing.peers.emplace_back(form, samplers.size(), prepared->id);
                    timing.result.notes[form] = prepared->note;
                    samplers.push_back(std::move(prepared->sampler));
                }
            group.push_back(std::move(timing));
        }
        const size_t calls = samplers.size();
        for (Sampler &sampler : in_turn.samplers()) samplers.push_back(std::move(sampler));
        const std::vector<Measurement> times = measure(samplers, options.samples);
        const Limits seen = in_turn.seen(std::span(times).subspan(calls));
        for (Timing &timing : group) {
            timing.result.time = times[timing.ours];
            timing.result.bound = bound_of(timing.result.work, seen, options.cold);
            if (timing.one_thread) timing.result.one_thread = times[*timing.one_thread];
            for (const auto &[form, at, id] : timing.peers) {
                const std::vector<double> seconds = times[at].seconds();
                if (std::ranges::all_of(seconds, [](double s) { return std::isfinite(s); })) timing.result.peers[form] = times[at];
                torch->drop(id);
            }
            if (print) std::fputs(table_line(timing.result).c_str(), stdout);
            results.push_back(std::move(timing.result));
        }
        std::fflush(stdout);
    }
    return results;
}

std::map<std::string, Timed> times_of(const std::vector<Result> &results) {
    std::map<std::string, Timed> times;
    for (const Result &result : results) times[result.name] = {result.time.centre(), result.time.spread(), result.bound.seconds};
    return times;
}

void warn_of_differences(const json &before, const json &after) {
    if (const std::string found = differences(before, after); !found.empty()) spdlog::warn("warning: the two runs differ in more than the code: {}", found);
}

int compare_files(const Options &options, bool as_json) {
    const Run before = read_run(options.compare[0]), after = read_run(options.compare[1]);
    const auto found = compare(before.times, after.times);
    warn_of_differences(before.context, after.context);
    std::fputs(as_json ? (to_json(found).dump(2) + "\n").c_str() : format(found).c_str(), stdout);
    return exit_done;
}

int bench(const Options &options, const Common &common) {
    if (options.compare.size() == 2) return compare_files(options, common.json);
    check(options.peer);
    if (!options.peer.name.empty() && options.cold) throw UsageError("--peer times warm calls: leave out --cold");
    if (options.scaling && thread_count() == 1) throw UsageError("--scaling holds several threads against one: give --threads 2 or more");
    const std::vector<Choice> choices = choose(options);
    if (options.list) return list(choices, common.json), exit_done;
    if (!options.against.empty()) {
        std::vector<Contest> contests;
        for (const Choice &choice : choices) contests.push_back({choice.name(), {{"prepare", choice.maker->kernel}, {"shape", choice.shape}}});
        return bench_against({options.against, options.samples, options.least_seconds, options.output}, contests, common);
    }
    const Run before = options.compare.empty() ? Run() : read_run(options.compare[0]);

    for (const std::string &file : {options.output, options.plot}) expect_writable(file);

    const Neighbours neighbours;
    const Limits all = measure_limits(thread_count());
    if (!common.json) std::fputs((format_limits(thread_count() == 1 ? all : measure_limits(1), all) + "\n").c_str(), stdout);
    std::unique_ptr<TorchOperators> torch;
    if (!options.peer.name.empty()) torch = std::make_unique<TorchOperators>(options.peer);
    const std::vector<Result> results = run(choices, options, all, torch.get(), !common.json);
    torch.reset();  // its CPU time counts as ours from here
    const double busy = neighbours.busy_cpus();
    if (busy > 0.1) spdlog::warn("warning: other programs used {:.1f} of {} CPUs during this run: its figures are too low", busy, cpu_count());

    json file = {{"context", bench_context(&all, busy)}, {"benchmarks", json::array()}};
    for (const Result &result : results) file["benchmarks"].push_back(to_json(result));
    const auto comparison = compare(before.times, times_of(results));
    if (!options.compare.empty()) {
        warn_of_differences(before.context, file["context"]);
        if (!common.json) std::fputs(("\n" + format(comparison)).c_str(), stdout);
        file["comparison"] = to_json(comparison);
    }
    if (common.json) std::puts(file.dump(2).c_str());
    if (!options.output.empty()) write_file_atomic(options.output, file.dump(2) + "\n");
    if (!options.plot.empty()) write_file_atomic(options.plot, roofline_svg(results, all));
    return exit_done;
}

const Command command{"bench", "Time kernels and hold them against this machine's limits", Group::kernels, [](CLI::App &app, const Common &common) {
    auto o = std::make_shared<Options>();
    const auto what = "What to time", how = "How", out = "Results";
    app.add_option("--filter", o->filters, "Kernels whose name (or name/M:8/...) fits one of these globs")->group(what);
    app.add_option("--shape", o->shapes, "Sizes, for example M=4096,N=1536,K=512, for all kernels that take these letters")->group(what);
    app.add_option("--shapes", o->shape_files, "File of such lines, KERNEL-GLOB SHAPE (# starts a comment), or a list of this program: " + shape_list_names())->group(what);
    app.add_flag("--list", o->list, "Say what would be timed, and stop")->group(what);
    app.add_option("--samples", o->samples, "Samples of each, taken in turn")->check(CLI::Range(1, 1000))->group(how)->capture_default_str();
    app.add_option("--min-time", o->least_seconds, "Seconds of each sample")->check(CLI::Range(0.0, 60.0))->group(how)->capture_default_str();
    app.add_flag("--cold", o->cold, "Cold calls: a decoding product meets the weights of one layer after the other, any other kernel emptied caches")->group(how);
    app.add_flag("--scaling", o->scaling, "Time each on one thread too, in turn, and print what the others gain")->group(how);
    add_peer_options(app, o->peer, "Peer");
    auto *against = app.add_option("--against", o->against, "Another build's aft: hold this build against it, each sample a fresh start of both")->group(how);
    app.add_option("--output", o->output, "Write the results to a file, in Google Benchmark's JSON form")->group(out);
    app.add_option("--compare", o->compare, "Hold this run against a file of --output; two files: compare them and run nothing")->expected(1, 2)->group(out);
    app.add_option("--plot", o->plot, "Draw the roofline to an SVG file")->group(out);
    for (const char *other : {"--cold", "--scaling", "--peer", "--compare", "--plot"}) against->excludes(app.get_option(other));
    app.footer("Example: aft bench --filter 'gemm_*' --threads 1 --output before.json");
    const auto model_benchmark = add_model_benchmarks(app, common);
    return [o, model_benchmark, &common] {
        const auto chosen = model_benchmark();
        return chosen ? chosen() : bench(*o, common);
    };
}};

}  // namespace
}  // namespace aft::tool
