// `aft tune`: finds schedules for this machine's kernels, checks them, and writes records that the build uses
// (docs/tuning.md). The kernels that it is asked for are tools/tuner/jobs.h, the search of one tools/tuner/session.h.
#include <spdlog/fmt/fmt.h>
#include <spdlog/spdlog.h>

#include <cstdio>
#include <nlohmann/json.hpp>
#include <optional>
#include <ranges>

#include "aft/error.h"
#include "aft/threads.h"
#include "kernel_table.h"
#include "runtime/files.h"
#include "tools/bench/machine.h"
#include "tools/bench/measure.h"
#include "tools/command.h"
#include "tools/tuner/autoschedule.h"
#include "tools/tuner/budget.h"
#include "tools/tuner/jobs.h"
#include "tools/tuner/session.h"
#include "tools/tuner/simulate.h"
#include "tools/tuner/tuned_record.h"
#include "tools/tuner/variant.h"
#include "tools/tuner/worker.h"

namespace aft::tool {
namespace {

using nlohmann::json;

struct Options {
    std::vector<std::string> filters = {"*"}, shapes, compare, autoschedulers, simulate;
    std::string budget = "10m", out, build_dir = AFT_BUILD_DIR;
    std::vector<std::string> first;
    TuneOptions tune;
    bool list = false, dry_run = false;
};

// "90", "90s", "10m", "1.5h"
double seconds_of(const std::string &text) {
    size_t end = 0;
    double value = 0;
    try {
        value = std::stod(text, &end);
    } catch (const std::exception &) {
    }
    const std::string unit = text.substr(end);
    const double scale = unit.empty() || unit == "s" ? 1 : unit == "m" ? 60 : unit == "h" ? 3600 : 0;
    if (end == 0 || scale == 0 || !(value > 0) || value > 1e6) throw UsageError("--budget '" + text + "' is no time: write 90s, 10m or 2h");
    return value * scale;
}

// The result of `work`; null, and a line that says so, for a variant that no shape reaches: the next kernel's turn.
template <class Work>
json timed_or_said(const Options &options, const Job &job, const Work &work) {
    try {
        return work();
    } catch (const NotTimed &) {
        spdlog::info("{}: no shape {} takes this variant: not tuned{}", job.task.entry->symbol, options.shapes.empty() ? "of the models" : "of --shape",
                     options.shapes.empty() ? " (--shape gives others)" : "");
        return nullptr;
    }
}

// Shapes that the user gave and no variant takes are a mistake; those of the models need not reach every variant.
void expect_results(const Options &options, const json &results) {
    if (results.empty() && !options.shapes.empty() && interrupts() == 0) throw Error("none of the shapes of --shape takes a variant of these kernels: nothing was timed");
}

// --autoscheduler: Halide's beside ours, and nothing is recorded.
int try_autoschedulers(const Options &options, const Common &common, double budget_s, const std::vector<Job> &jobs, const std::vector<std::string> &names) {
    json results = json::array();
    const double end = now() + budget_s;
    if (!options.dry_run) watch_interrupts();
    for (size_t n = 0; n < jobs.size() && interrupts() == 0; n++) {
        const Job &job = jobs[n];
        TuneOptions o = options.tune;
        o.shapes = job.shapes, o.threads = common.threads ? common.threads : 1, o.budget_s = std::max(0.0, end - now()) / double(jobs.size() - n);
        if (!options.dry_run) {
            const json result = timed_or_said(options, job, [&] { return compare_autoschedulers(job.task, o, names); });
            if (!result.is_null()) results.push_back(result);
            continue;
        }
        results.push_back({{"symbol", job.task.entry->symbol}, {"autoschedulers", names}, {"shapes", few_of(job.shapes)}});
        if (!common.json) std::printf("%s: %s at %s\n", job.task.entry->symbol.c_str(), fmt::format("{}", fmt::join(names, ", ")).c_str(), fmt::format("{}", fmt::join(few_of(job.shapes), " ")).c_str());
    }
    expect_results(options, results);
    if (common.json)
        std::puts(json{{"autoschedulers", names}, {"kernels", results}, {"interrupted", interrupts() > 0}}.dump(1).c_str());
    else if (!options.dry_run)
        std::fputs(autoscheduler_table(results, names).c_str(), stdout);
    return exit_done;
}

// Says what became of one kernel's search.
void print_result(const json &result, const Job &job) {
    const std::string &symbol = job.task.entry->symbol, status = result.at("status");
    if (status == "improved")
        fmt::print("{}: {:.3f} of the incumbent's time with {} -> {}\n", symbol, result.at("ratio").get<double>(), to_text(result.at("knobs").get<KnobValues>()), result.at("record").get<std::string>());
    else if (status == "kept")
        fmt::print("{}: nothing better than the incumbent; {} candidates tried\n", symbol, result.at("tried").get<int>());
    else
        fmt::print("{}: interrupted; {} candidates tried (--resume goes on from here)\n", symbol, result.at("tried").get<int>());
    std::fflush(stdout);
}

// A search for each kernel, in turn, until the budget is spent.
int search_all(const Options &options, const Common &common, double budget_s, const Manifest &manifest, const std::vector<Job> &jobs) {
    const std::vector<KnobValues> first = first_values(options.first, jobs);
    std::vector<std::string> records;
    std::vector<size_t> points;
    for (const Job &job : jobs) records.push_back(record_file(options.out, manifest, job, jobs.size())), points.push_back(job.task.space.points.size());
    Budget budget(budget_s, points);
    if (!options.dry_run) {
        for (const std::string &record : records) expect_place(record);
        watch_interrupts();
    }
    const double start = now();
    json results = json::array();
    std::vector<std::string> not_reached;
    for (size_t n = 0; n < jobs.size() && interrupts() == 0; n++) {
        const Job &job = jobs[n];
        const double before = now();
        if (budget.spent(before - start)) {
            for (const Job &later : jobs | std::views::drop(n)) not_reached.push_back(later.task.entry->symbol);
            break;
        }
        TuneOptions o = options.tune;
        o.first = first, o.shapes = job.shapes, o.out = records[n], o.seed = common.seed, o.threads = common.threads ? common.threads : 1;
        o.budget_s = budget.next(before - start);
        if (options.dry_run) {
            results.push_back({{"symbol", job.task.entry->symbol}, {"valid_points", points[n]}, {"shapes", job.shapes}, {"budget_seconds", o.budget_s}, {"record", o.out}});
            if (!common.json) fmt::print("{}: {} points in {:.0f} s at {} -> {}\n", job.task.entry->symbol, points[n], o.budget_s, fmt::join(job.shapes, " "), o.out);
            continue;
        }
        const json result = timed_or_said(options, job, [&] { return tune(job.task, o); });
        budget.take(o.budget_s, now() - before);
        if (result.is_null()) continue;
        results.push_back(result);
        if (!common.json) print_result(result, job);
    }
    expect_results(options, results);
    if (common.json)
        std::puts(json{{"kernels", results}, {"not_reached", not_reached}, {"interrupted", interrupts() > 0}}.dump(1).c_str());
    else if (!not_reached.empty())
        fmt::print("no time was left for {}: give a longer --budget, with --resume\n", fmt::join(not_reached, ", "));
    return exit_done;
}

int tune_all(const Options &options, const Common &common) {
    const Manifest manifest = read_manifest(options.build_dir);
    const std::vector<std::string> autoschedulers = autoschedulers_of(options.autoschedulers, manifest);
    const bool searched = autoschedulers.empty();
    const double budget_s = seconds_of(options.budget);
    const std::string work = manifest.build_dir + "/tune";
    make_folders(work);
    std::optional<FolderLock> lock;  // a question waits for no search
    if (!options.list && !options.dry_run) {
        lock.emplace(work, "another aft tune works in '" + work + "': wait for it, stop it, or give another --build-dir");
        remove_abandoned(work);
    }
    std::vector<Job> jobs = find_jobs(options.filters, options.shapes, manifest, kernels());
    if (options.list) {
        json all = json::array();
        for (const Job &job : jobs) {
            if (common.json)
                all.push_back(listed(job));
            else
                std::fputs(listed_text(job).c_str(), stdout);
        }
        if (common.json) std::puts(all.dump(1).c_str());
        return exit_done;
    }
    const std::string first_obstacle = jobs[0].task.entry->symbol + ": " + obstacle(jobs[0], searched);
    std::erase_if(jobs, [&](const Job &job) { return !obstacle(job, searched).empty(); });
    if (jobs.empty()) throw UsageError("none of these kernels can be tuned (" + first_obstacle + "): aft tune --list says why");
    return searched ? search_all(options, common, budget_s, manifest, jobs) : try_autoschedulers(options, common, budget_s, jobs, autoschedulers);
}

int run(const Options &options, const Common &common) {
    if (options.compare.size() == 2) {
        const json comparison = compare_records(options.compare[0], options.compare[1]);
        std::fputs(common.json ? (comparison.dump(1) + "\n").c_str() : comparison_text(comparison).c_str(), stdout);
        return exit_done;
    }
    if (!options.simulate.empty()) {
        const json found = simulate(options.simulate, 200);
        std::fputs(common.json ? (found.dump(1) + "\n").c_str() : simulation_text(found).c_str(), stdout);
        return exit_done;
    }
    return tune_all(options, common);
}

const Command command{"tune", "Search schedules for this machine; the build uses what it finds", Group::kernels, [](CLI::App &app, const Common &common) {
    auto o = std::make_shared<Options>();
    const auto what = "What to tune", how = "How", out = "Records";
    app.add_option("--filter", o->filters, "Globs over the names of kernels and of their compiled variants")->group(what);
    app.add_option("--shape", o->shapes, "Sizes to time at, for example B=8,T=1024,C=512 (default: those of the paper's models)")->group(what);
    app.add_flag("--list", o->list, "Print each kernel's knobs, candidates, reasons and the size of its space, and stop")->group(what);
    app.add_flag("--dry-run", o->dry_run, "Say what would be tuned and where its record would go, and stop")->group(what);
    app.add_option("--budget", o->budget, "Time for all kernels, their final checks included as far as these can be foreseen: 90s, 10m, 2h")->group(how)->capture_default_str();
    app.add_option("--strategy", o->tune.strategy, "descent, guided or random")->check(CLI::IsMember({"descent", "guided", "random"}))->group(how)->capture_default_str();
    app.add_option("--autoscheduler", o->autoschedulers, "Instead of a search: Halide's own Adams2019, Mullapudi2016, Li2018 or all of them, beside our schedules; a table, no record")->group(how);
    app.add_option("--try", o->first, "Knob values to try first, for example tile_rows:8,unroll:2 (several; the rest as in what the build uses)")->group(how);
    app.add_option("--candidates", o->tune.most, "Candidates of a kernel at most; 0: as the budget allows")->check(at_least(0))->group(how)->capture_default_str();
    app.add_flag("--cold", o->tune.cold, "Time cold calls, as decoding makes them: its products with the weights of one layer after the other, any other kernel behind emptied caches")->group(how);
    app.add_flag("--resume", o->tune.resume, "Take up an interrupted search: what was measured under the same conditions is not repeated")->group(how);
    app.add_option("--candidate-time", o->tune.wall_s, "Seconds after which a candidate is stopped; 0: from what the incumbent takes")->check(at_least(0))->group(how);
    app.add_option("--candidate-memory", o->tune.memory_mib, "MiB that a candidate may take")->check(at_least(1))->group(how)->capture_default_str();
    app.add_option("--build-dir", o->build_dir, "The build tree with the generator programs")->group(how)->capture_default_str();
    app.add_option("--out", o->out, "Folder of the records (<out>/<target>/<kernel>[_<variant>].json) or one file (default: the folder that the build reads)")->group(out);
    app.add_option("--compare", o->compare, "Two records or two folders of them: what changed")->expected(2)->group(out);
    app.add_option("--simulate", o->simulate, "Journals of earlier runs: how the strategies would have done on their times")->group(how);
    app.footer("Example: aft tune --filter 'aft_*' --budget 20m --threads 1");
    return [o, &common] { return run(*o, common); };
}};

const Command worker{"tune-worker", "", Group::hidden, [](CLI::App &, const Common &) { return [] { return serve_worker(0, 1); }; }};

}  // namespace
}  // namespace aft::tool
