#include "tools/tuner/autoschedule.h"

#include <spdlog/fmt/fmt.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>

#include "aft/error.h"
#include "tools/bench/machine.h"
#include "tools/bench/measure.h"
#include "tools/command.h"
#include "tools/tuner/candidate.h"
#include "tools/tuner/journal.h"
#include "tools/tuner/worker.h"

namespace aft::tool {
namespace {

using nlohmann::json;
namespace fs = std::filesystem;

const std::vector<std::string> for_cpus = {"Adams2019", "Mullapudi2016", "Li2018"};

// The plugin's file: libautoschedule_adams2019.so.
std::string plugin_of(const std::string &name, const Manifest &manifest) {
    std::string lower = name;
    std::ranges::transform(lower, lower.begin(), [](unsigned char c) { return char(std::tolower(c)); });
    return manifest.autoschedulers + "/libautoschedule_" + lower + ".so";
}

// The one file of a folder whose name ends so; "" when there is none.
std::string file_with(const std::string &folder, const std::string &ending) {
    for (const auto &entry : fs::directory_iterator(folder))
        if (entry.path().string().ends_with(ending)) return entry.path().string();
    return "";
}

}  // namespace

std::vector<std::string> autoschedulers_of(const std::vector<std::string> &names, const Manifest &manifest) {
    std::vector<std::string> chosen;
    const auto add = [&](const std::string &name) {
        if (std::ranges::find(chosen, name) == chosen.end()) chosen.push_back(name);
    };
    for (const std::string &name : names) {
        if (name == "all") {
            for (const std::string &each : for_cpus) add(each);
            continue;
        }
        const std::string known = fmt::format("{}", fmt::join(for_cpus, ", "));
        if (name == "Anderson2021") throw UsageError("--autoscheduler Anderson2021 makes schedules for CUDA only, and these are kernels for CPUs: " + known + ", all");
        if (std::ranges::find(for_cpus, name) == for_cpus.end()) throw UsageError("--autoscheduler '" + name + "' is none of Halide's: " + known + ", all");
        add(name);
    }
    for (const std::string &name : chosen)
        if (const std::string plugin = plugin_of(name, manifest); !fs::exists(plugin))
            throw Error("the autoscheduler " + name + " is not there: this Halide was installed without its plugin '" + plugin + "'");
    return chosen;
}

json compare_autoschedulers(const TuneTask &task, const TuneOptions &options, const std::vector<std::string> &names) {
    const ManifestEntry &entry = *task.entry;
    const Manifest &manifest = *task.manifest;
    const Cores cores(options.threads);
    const std::string base = manifest.build_dir + "/tune/" + entry.target + "/" + entry.record, work = base + ".autoscheduled.work";
    Worker worker({entry.kernel, entry.symbol, entry.target, options.shapes, cores.measuring, options.wall_s, options.memory_mib, options.cold});
    if (worker.shapes().empty()) throw NotTimed(entry.symbol);
    json conditions = {{"symbol", entry.symbol}, {"fingerprint", task.space.fingerprint}, {"incumbent", task.incumbent}, {"cpu", cpu_model()},
                       {"threads", options.threads}, {"halide_target", entry.halide_target}, {"halide", manifest.halide}};
    if (options.cold) conditions["cache"] = "cold";
    Journal journal(base + ".autoscheduled.jsonl", conditions, options.resume);
    if (!journal.note().empty()) spdlog::warn("warning: {}: {}", entry.symbol, journal.note());

    const auto judge = [&](const std::string &name, const std::string &shape, const std::string &arguments, const std::string &kept) {
        std::vector<std::string> more = {"-p", plugin_of(name, manifest), "autoscheduler=" + name, "estimates=" + arguments};
        if (name != "Li2018") more.push_back("autoscheduler.parallelism=" + std::to_string(options.threads));  // Li2018's is fixed
        if (!task.incumbent.empty()) more.push_back("knobs=" + to_text(task.incumbent));
        const Built built = build_candidate(manifest, entry, more, work, {.wall_s = 120, .cpus = cores.compiling}, "object,schedule");
        if (const std::string schedule = file_with(work, ".schedule.h"); !schedule.empty()) fs::copy_file(schedule, kept, fs::copy_options::overwrite_existing);
        Verdict verdict;
        if (built.ok) return worker.judge({.object = built.object, .slow = 20, .seconds = options.seconds, .least_rounds = 5, .most_rounds = 15, .shapes = {shape}, .refusals = true});
        verdict.status = "unbuilt", verdict.message = built.message;
        return verdict;
    };

    json result = {{"symbol", entry.symbol}, {"shapes", json::array()}, {"resumed", 0}};
    const double start = now();
    const std::vector<std::string> few = few_of(worker.shapes());
    for (size_t n = 0; n < worker.shapes().size(); n++) {
        const std::string &shape = worker.shapes()[n];
        if (std::ranges::find(few, shape) == few.end()) continue;
        json row = {{"shape", shape}, {"seconds", 0}, {"candidates", json::array()}};
        for (const std::string &name : names) {
            const std::string key = name + " " + shape, schedule = base + "." + name + "." + shape + ".schedule.h";
            const bool known = journal.known().contains(key);
            if (!known && (interrupts() > 0 || now() - start > options.budget_s)) continue;
            const Verdict verdict = known ? journal.known().at(key) : judge(name, shape, worker.arguments()[n], schedule);
            if (known)
                result["resumed"] = result["resumed"].get<int>() + 1;
            else
                journal.add(key, verdict);
            json candidate = {{"name", name}, {"status", verdict.status}, {"message", verdict.message}, {"cases", verdict.cases}, {"refused", verdict.refused}};
            if (fs::exists(schedule)) candidate["schedule"] = schedule;
            if (verdict.measured() && !verdict.shapes.empty()) {
                candidate["ratio"] = verdict.ratio, candidate["noise"] = verdict.noise, candidate["seconds"] = verdict.shapes[0].seconds;
                row["seconds"] = verdict.shapes[0].incumbent_seconds;
            }
            spdlog::info("{} {}: {} {}{}", entry.symbol, shape, name, verdict.measured() ? fmt::format("{:.3f} of our time's", verdict.ratio) : verdict.status,
                         verdict.message.empty() ? "" : ": " + verdict.message);
            row["candidates"].push_back(candidate);
        }
        if (!row["candidates"].empty()) result["shapes"].push_back(row);
    }
    std::error_code ignored;
    fs::remove_all(work, ignored);
    return result;
}

std::string autoscheduler_table(const json &results, const std::vector<std::string> &names) {
    std::string text = fmt::format("{:<58} {:>12}", "time of Halide's autoschedulers over ours", "ours, us");
    for (const std::string &name : names) text += fmt::format(" {:>14}", name);
    text += "\n";
    std::map<std::string, std::string> notes;  // one for each kernel, autoscheduler and kind
    bool partial = false;
    for (const json &r : results)
        for (const json &s : r.at("shapes")) {
            const double ours = s.at("seconds");
            text += fmt::format("{:<58} {:>12}", r.at("symbol").get<std::string>() + " " + s.at("shape").get<std::string>(), ours > 0 ? fmt::format("{:.1f}", 1e6 * ours) : "-");
            for (const std::string &name : names) {
                const auto c = std::ranges::find_if(s.at("candidates"), [&](const json &each) { return each.at("name") == name; });
                if (c == s.at("candidates").end()) {
                    text += fmt::format(" {:>14}", "not tried");
                    continue;
                }
                const std::string status = c->at("status"), message = c->at("message");
                const int refused = c->at("refused");
                if (c->contains("ratio")) {
                    text += fmt::format(" {:>14}", fmt::format("{:.2f}{}", c->at("ratio").get<double>(), refused ? "*" : ""));
                    partial |= refused > 0;
                } else {
                    text += fmt::format(" {:>14}", status);
                }
                if (!message.empty())
                    notes.emplace(r.at("symbol").get<std::string>() + " " + name, refused && status != "wrong" ? fmt::format("refuses {} of {} operator cases, the first: {}", refused, c->at("cases").get<int>(), message)
                                                                                          : status + ": " + message);
            }
            text += "\n";
        }
    if (partial) text += "* it refuses some sizes with an error, so it could not stand in for the kernel\n";
    for (const auto &[what, note] : notes) text += "  " + what + " " + note + "\n";
    return text;
}

}  // namespace aft::tool
