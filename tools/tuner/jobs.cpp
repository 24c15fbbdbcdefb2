// What `aft tune` is asked to tune.
#include "tools/tuner/jobs.h"

#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "aft/error.h"
#include "kernel_table.h"
#include "runtime/files.h"
#include "tools/bench/workload.h"
#include "tools/command.h"
#include "tools/tuner/tuned_record.h"
#include "tools/tuner/variant.h"

namespace aft::tool {
namespace {

using nlohmann::json;
namespace fs = std::filesystem;

bool matches(const std::string &glob, const std::string &kernel, const std::string &symbol) { return tool::matches(glob, kernel) || tool::matches(glob, symbol); }

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

// Before the requirements.
double combinations(const Space &space) {
    double product = 1;
    for (const TunedKnob &knob : space.knobs) product *= double(knob.candidates.size());
    return product;
}

}  // namespace

std::vector<Job> find_jobs(const std::vector<std::string> &filters, const std::vector<std::string> &shapes, const Manifest &manifest, const KernelTable &table) {
    std::vector<WorkShape> given;
    for (const std::string &text : shapes) given.push_back(parse_shape(text));
    std::vector<Job> jobs;
    for (const VariantInfo &variant : variants_of(table)) {
        if (std::ranges::none_of(filters, [&](const std::string &glob) { return matches(glob, variant.kernel, variant.symbol); })) continue;
        const auto entry = std::ranges::find(manifest.kernels, variant.symbol, &ManifestEntry::symbol);
        if (entry == manifest.kernels.end()) throw Error("the build in '" + manifest.build_dir + "' has no kernel " + variant.symbol + ": build the project again");
        jobs.push_back({make_task(manifest, *entry, variant.report), shapes_for(variant.kernel, given)});
    }
    for (const std::string &glob : filters)
        if (std::ranges::none_of(jobs, [&](const Job &job) { return matches(glob, job.task.entry->kernel, job.task.entry->symbol); }))
            throw UsageError("--filter '" + glob + "' matches no kernel of the table " + table.target + ": aft tune --list shows them");
    for (const WorkShape &shape : given)
        if (std::ranges::none_of(jobs, [&](const Job &job) { return std::ranges::find(job.shapes, to_string(shape)) != job.shapes.end(); }))
            throw UsageError("no workload times these kernels at the shape " + to_string(shape) + ": aft bench --list shows what each takes");
    return jobs;
}

std::string obstacle(const Job &job, bool searched) {
    if (searched && job.task.space.points.size() < 2) return "its space has one point";
    if (job.shapes.empty()) return "no workload times it at these shapes";
    return "";
}

json listed(const Job &job) {
    json knobs = json::array();
    for (const TunedKnob &knob : job.task.space.knobs) knobs.push_back({{"name", knob.name}, {"default", knob.fallback}, {"candidates", knob.candidates}, {"reason", knob.reason}});
    return {{"symbol", job.task.entry->symbol}, {"kernel", job.task.entry->kernel}, {"knobs", knobs},        {"combinations", combinations(job.task.space)}, {"valid_points", job.task.space.points.size()}, {"left_out", job.task.space.left_out},
            {"incumbent", job.task.incumbent},  {"origin", job.task.origin},        {"shapes", job.shapes}, {"obstacle", obstacle(job)}};
}

std::string listed_text(const Job &job) {
    std::string text = fmt::format("{}: {} of {:.0f} combinations are valid; now {} ({})\n", job.task.entry->symbol, job.task.space.points.size(), combinations(job.task.space),
                                   to_text(job.task.incumbent), job.task.origin);
    for (const TunedKnob &knob : job.task.space.knobs) text += fmt::format("    {:<16} {}  default {}: {}\n", knob.name, json(knob.candidates).dump(), knob.fallback, knob.reason);
    for (const auto &[reason, points] : job.task.space.left_out) text += fmt::format("    requires         {}: {} combinations do not\n", reason, points);
    if (const std::string reason = obstacle(job); !reason.empty()) text += fmt::format("    not tuned: {}\n", reason);
    return text;
}

std::string record_file(const std::string &out, const Manifest &manifest, const Job &job, size_t jobs) {
    const fs::path place = out.empty() ? manifest.tuned : out;
    if (place.extension() == ".json") {
        if (jobs > 1) throw UsageError("--out names one file and the filter " + std::to_string(jobs) + " kernels: give a folder");
        return place.string();
    }
    return (place / job.task.entry->target / (job.task.entry->record + ".json")).string();
}

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

std::vector<KnobValues> first_values(const std::vector<std::string> &texts, const std::vector<Job> &jobs) {
    std::vector<KnobValues> first;
    for (const std::string &text : texts) {
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

}  // namespace aft::tool
