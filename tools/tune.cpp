// `aft tune`: finds schedules for this machine's kernels, checks them, and writes records that the build uses
// (docs/tuning.md). The search of one kernel is tools/tuner/session.h.
#include <spdlog/fmt/fmt.h>
#include <spdlog/spdlog.h>

#include <cstdio>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <ranges>

#include "aft/error.h"
#include "aft/threads.h"
#include "kernel_table.h"
#include "runtime/files.h"
#include "tools/bench/machine.h"
#include "tools/bench/measure.h"
#include "tools/bench/workload.h"
#include "tools/command.h"
#include "tools/tuner/autoschedule.h"
#include "tools/tuner/search.h"
#include "tools/tuner/session.h"
#include "tools/tuner/simulate.h"
#include "tools/tuner/tuned_record.h"
#include "tools/tuner/variant.h"
#include "tools/tuner/worker.h"

namespace aft::tool {
namespace {

using nlohmann::json;
namespace fs = std::filesystem;

struct Options {
    std::vector<std::string> filters = {"*"}, shapes, compare, autoschedulers, simulate;
    std::string budget = "10m", out, build_dir = AFT_BUILD_DIR;
    std::vector<std::string> first;
    TuneOptions tune;
    bool list = false, dry_run = false;
};

bool matches(const std::string &glob, const std::string &kernel, const std::string &symbol) { return tool::matches(glob, kernel) || tool::matches(glob, symbol); }

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

// The shapes at which a kernel is timed: the user's that a workload of it takes, else those of the paper's models.
std::vector<std::string> shapes_for(const std::string &kernel, const std::vector<WorkShape> &given) {
    std::vector<std::string> all;
    for (const WorkloadMaker &maker : workload_makers()) {
        if (!maker.times(kernel)) continue;
        for (const WorkShape &shape : given.empty() ? maker.model_shapes : given)
            if (maker.takes(shape)) all.push_back(to_string(shape));
    }
    return all;
}

struct Job {
    TuneTask task;
    std::vector<std::string> shapes;
};

std::vector<Job> find_jobs(const Options &options, const Manifest &manifest, const KernelTable &table) {
    std::vector<WorkShape> given;
    for (const std::string &text : options.shapes) given.push_back(parse_shape(text));
    std::vector<Job> jobs;
    for (const VariantInfo &variant : variants_of(table)) {
        if (std::ranges::none_of(options.filters, [&](const std::string &glob) { return matches(glob, variant.kernel, variant.symbol); })) continue;
        const auto entry = std::ranges::find(manifest.kernels, variant.symbol, &ManifestEntry::symbol);
        if (entry == manifest.kernels.end()) throw Error("the build in '" + manifest.build_dir + "' has no kernel " + variant.symbol + ": build the project again");
        jobs.push_back({make_task(manifest, *entry, variant.report), shapes_for(variant.kernel, given)});
    }
    for (const std::string &glob : options.filters)
        if (std::ranges::none_of(jobs, [&](const Job &job) { return matches(glob, job.task.entry->kernel, job.task.entry->symbol); }))
            throw UsageError("--filter '" + glob + "' matches no kernel of the table " + table.target + ": aft tune --list shows them");
    for (const WorkShape &shape : given)
        if (std::ranges::none_of(jobs, [&](const Job &job) { return std::ranges::find(job.shapes, to_string(shape)) != job.shapes.end(); }))
            throw UsageError("no workload times these kernels at the shape " + to_string(shape) + ": aft bench --list shows what each takes");
    return jobs;
}

// Why a kernel is not tuned; "" when it is. An autoscheduler needs no knobs.
std::string obstacle(const Job &job, bool searched = true) {
    if (searched && job.task.space.points.size() < 2) return "its space has one point";
    if (job.shapes.empty()) return "no workload times it at these shapes";
    return "";
}

json listed(const Job &job) {
    json knobs = json::array();
    for (const TunedKnob &knob : job.task.space.knobs) knobs.push_back({{"name", knob.name}, {"default", knob.fallback}, {"candidates", knob.candidates}, {"reason", knob.reason}});
    double product = 1;
    for (const TunedKnob &knob : job.task.space.knobs) product *= double(knob.candidates.size());
    return {{"symbol", job.task.entry->symbol}, {"kernel", job.task.entry->kernel}, {"knobs", knobs},        {"combinations", product}, {"valid_points", job.task.space.points.size()}, {"left_out", job.task.space.left_out},
            {"incumbent", job.task.incumbent},  {"origin", job.task.origin},        {"shapes", job.shapes}, {"obstacle", obstacle(job)}};
}

void print_list(const std::vector<Job> &jobs) {
    for (const Job &job : jobs) {
        const json j = listed(job);
        std::printf("%s: %zu of %.0f combinations are valid; now %s (%s)\n", j["symbol"].get<std::string>().c_str(), job.task.space.points.size(), j["combinations"].get<double>(),
                    to_text(job.task.incumbent).c_str(), job.task.origin.c_str());
        for (const TunedKnob &knob : job.task.space.knobs) std::printf("    %-16s %s  default %d: %s\n", knob.name.c_str(), json(knob.candidates).dump().c_str(), knob.fallback, knob.reason.c_str());
        for (const auto &[reason, points] : job.task.space.left_out) std::printf("    requires         %s: %d combinations do not\n", reason.c_str(), points);
        if (!obstacle(job).empty()) std::printf("    not tuned: %s\n", obstacle(job).c_str());
    }
}

std::string record_file(const Options &options, const Manifest &manifest, const Job &job, size_t count) {
    const fs::path out = options.out.empty() ? manifest.tuned : options.out;
    if (out.extension() == ".json") {
        if (count > 1) throw UsageError("--out names one file and the filter " + std::to_string(count) + " kernels: give a folder");
        return out.string();
    }
    return (out / job.task.entry->target / (job.task.entry->record + ".json")).string();
}

// Said before the search: a record that cannot be written would be a search in vain. Makes no folder.
void expect_place(const std::string &record) {
    if (fs::is_directory(record)) throw Error("the record '" + record + "' cannot be written: there is a folder of this name");
    fs::path folder = fs::absolute(record).parent_path();
    while (!fs::exists(folder)) folder = folder.parent_path();
    try {
        check_writable(folder.string());
    } catch (const Error &error) {
        throw Error("the record '" + record + "' cannot be written: " + error.what());
    }
}

// --try: values of some kernel's knobs; the others pass them by.
std::vector<KnobValues> first_values(const Options &options, const std::vector<Job> &jobs) {
    std::vector<KnobValues> first;
    for (const std::string &text : options.first) {
        try {
            first.push_back(knob_values(text));
        } catch (const Error &error) {
            throw UsageError(std::string("--try: ") + error.what());
        }
        const auto suits = [&](const Job &job) {
            return std::ranges::all_of(first.back(), [&](const auto &value) { return std::ranges::find(job.task.space.knobs, value.first, &TunedKnob::name) != job.task.space.knobs.end(); });
        };
        if (first.back().empty() || std::ranges::none_of(jobs, suits)) throw UsageError("--try '" + text + "': no kernel of --filter has these knobs: aft tune --list shows them");
    }
    return first;
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
int try_autoschedulers(const Options &options, const Common &common, const std::vector<Job> &jobs, const std::vector<std::string> &names) {
    json results = json::array();
    const double end = now() + seconds_of(options.budget);
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

int tune_all(const Options &options, const Common &common) {
    const Manifest manifest = read_manifest(options.build_dir);
    const std::vector<std::string> autoschedulers = autoschedulers_of(options.autoschedulers, manifest);
    const bool searched = autoschedulers.empty();
    const KernelTable &table = kernels();
    const double budget = seconds_of(options.budget);
    const std::string work = manifest.build_dir + "/tune";
    make_folders(work);
    std::optional<FolderLock> lock;  // a question waits for no search
    if (!options.list && !options.dry_run) {
        lock.emplace(work, "another aft tune works in '" + work + "': wait for it, stop it, or give another --build-dir");
        remove_abandoned(work);
    }
    std::vector<Job> jobs = find_jobs(options, manifest, table);
    if (options.list) {
        json all = json::array();
        for (const Job &job : jobs) all.push_back(listed(job));
        if (common.json)
            std::puts(all.dump(1).c_str());
        else
            print_list(jobs);
        return exit_done;
    }
    const std::string first_obstacle = jobs[0].task.entry->symbol + ": " + obstacle(jobs[0], searched);
    std::erase_if(jobs, [&](const Job &job) { return !obstacle(job, searched).empty(); });
    if (jobs.empty()) throw UsageError("none of these kernels can be tuned (" + first_obstacle + "): aft tune --list says why");
    if (!searched) return try_autoschedulers(options, common, jobs, autoschedulers);

    const std::vector<KnobValues> first = first_values(options, jobs);
    if (!options.dry_run)
        for (const Job &job : jobs) expect_place(record_file(options, manifest, job, jobs.size()));

    // What is left of the budget goes to the kernels that are left in proportion to the size of their space, within a factor of ten. What
    // their final checks will take on top of their searches, as those so far did, comes off: the last kernel ends about in time.
    double weights = 0, checks = 0;
    const auto weight = [](const Job &job) { return std::clamp(std::sqrt(double(job.task.space.points.size())), 2.0, 20.0); };
    for (const Job &job : jobs) weights += weight(job);
    const double end = now() + budget;
    json results = json::array();
    std::vector<std::string> not_reached;
    const auto interrupted = [&] { return interrupts() > 0; };
    if (!options.dry_run) watch_interrupts();
    for (size_t n = 0; n < jobs.size(); n++) {
        const Job &job = jobs[n];
        TuneOptions o = options.tune;
        const double start = now();
        if (n > 0 && start > end) {
            for (const Job &later : jobs | std::views::drop(n)) not_reached.push_back(later.task.entry->symbol);
            break;
        }
        const double share = std::max(0.0, end - start) * weight(job) / weights;
        o.first = first;
        o.shapes = job.shapes, o.budget_s = std::max(share / 4, share - (n ? checks / double(n) : 0)), o.seed = common.seed, o.threads = common.threads ? common.threads : 1;
        o.out = record_file(options, manifest, job, jobs.size());
        if (options.dry_run) {
            const json plan = {{"symbol", job.task.entry->symbol}, {"valid_points", job.task.space.points.size()}, {"shapes", job.shapes}, {"budget_seconds", o.budget_s}, {"record", o.out}};
            results.push_back(plan);
            if (!common.json)
                std::printf("%s: %zu points in %.0f s at %s -> %s\n", job.task.entry->symbol.c_str(), job.task.space.points.size(), o.budget_s,
                            fmt::format("{}", fmt::join(job.shapes, " ")).c_str(), o.out.c_str());
            continue;
        }
        const json result = timed_or_said(options, job, [&] { return tune(job.task, o); });
        weights -= weight(job), checks += std::max(0.0, now() - start - o.budget_s);
        if (result.is_null()) continue;
        results.push_back(result);
        if (!common.json) {
            if (result.at("status") == "improved")
                std::printf("%s: %.3f of the incumbent's time with %s -> %s\n", job.task.entry->symbol.c_str(), result.at("ratio").get<double>(),
                            to_text(result.at("knobs").get<KnobValues>()).c_str(), o.out.c_str());
            else
                std::printf("%s: %s; %d candidates tried%s\n", job.task.entry->symbol.c_str(), result.at("status") == "kept" ? "nothing better than the incumbent" : "interrupted",
                            result.at("tried").get<int>(), result.at("status") == "kept" ? "" : " (--resume goes on from here)");
            std::fflush(stdout);
        }
        if (interrupted()) break;
    }
    expect_results(options, results);
    if (common.json)
        std::puts(json{{"kernels", results}, {"not_reached", not_reached}, {"interrupted", interrupted()}}.dump(1).c_str());
    else if (!not_reached.empty())
        std::printf("no time was left for %s: give a longer --budget, with --resume\n", fmt::format("{}", fmt::join(not_reached, ", ")).c_str());
    return exit_done;
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
