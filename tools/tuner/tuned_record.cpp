#include "tools/tuner/tuned_record.h"

#include <cmath>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "aft/error.h"
#include "aft/version.h"
#include "tools/bench/machine.h"

namespace aft::tool {

using nlohmann::json;
namespace fs = std::filesystem;

json make_record(const Manifest &manifest, const ManifestEntry &entry, const Space &space, const Winner &winner) {
    json shapes = json::array();
    for (const ShapeTime &s : winner.verdict.shapes)
        shapes.push_back({{"shape", s.shape}, {"median_seconds", s.seconds}, {"spread", s.spread}, {"incumbent_seconds", s.incumbent_seconds}, {"ratio", s.ratio},
                          {"ratio_spread", s.ratio_spread}, {"pairs", s.rounds}, {"gflops", s.flops / s.seconds * 1e-9}, {"gigabytes_per_second", s.bytes / s.seconds * 1e-9}});
    return {{"kernel", entry.kernel}, {"variant", entry.variant}, {"target", entry.target}, {"target_features", entry.halide_target},
            {"dtype", entry.kernel.substr(entry.kernel.rfind('_') + 1)}, {"knobs", winner.knobs}, {"fingerprint", space.fingerprint}, {"shapes", shapes},
            {"ratio", winner.verdict.ratio}, {"noise", winner.verdict.noise}, {"incumbent", {{"knobs", winner.incumbent}, {"origin", winner.incumbent_origin}}},
            {"gate", {{"cases", winner.verdict.cases}, {"worst_error", winner.verdict.gate_error}, {"unit", "of the allowed error"}, {"same_bits_for_1_and_2_threads", true}}},
            {"cpu", cpu_model()}, {"threads", winner.threads}, {"cache", winner.cold ? "cold" : "warm"}, {"search", {{"strategy", winner.strategy}, {"seed", winner.seed}, {"tried", winner.tried}, {"valid_points", space.points.size()}}},
            {"versions", {{"aft", AFT_VERSION}, {"halide", manifest.halide}}}, {"date", date_and_time()}};
}

namespace {

json shape_times(const json &record);

// Everything that a comparison reads is there and of its type.
bool is_record(const json &record) try {
    (void)record.at("knobs").get<KnobValues>(), (void)record.value("kernel", ""), (void)record.value("cache", ""), (void)shape_times(record);
    return true;
} catch (const json::exception &) {
    return false;
}

std::map<std::string, json> records_of(const std::string &place) {
    std::map<std::string, json> all;
    const auto add = [&](const fs::path &file, const std::string &name) {
        std::ifstream in(file);
        const json record = json::parse(in, nullptr, false);
        if (!is_record(record)) throw Error("'" + file.string() + "' is no tuned record");
        all[name] = record;
    };
    if (fs::is_directory(place)) {
        for (const auto &entry : fs::recursive_directory_iterator(place))
            if (entry.path().extension() == ".json") add(entry.path(), fs::relative(entry.path(), place).replace_extension().string());
    } else if (fs::exists(place)) {
        add(place, "");
    } else {
        throw Error("there is no record or folder '" + place + "'");
    }
    return all;
}

json shape_times(const json &record) {
    json times = json::object();
    for (const json &s : record.value("shapes", json::array()))
        if (s.is_object() && s.contains("shape")) times[s.at("shape").get<std::string>()] = s.value("median_seconds", 0.0);
    return times;
}

std::string cache_of(const json &record) { return record.value("cache", "warm"); }  // records of before know no other

json knob_changes(const json &a, const json &b) {
    json changed = json::object();
    for (const auto &[name, value] : a.at("knobs").items())
        if (!b.at("knobs").contains(name) || b.at("knobs").at(name) != value) changed[name] = {value, b.at("knobs").value(name, json())};
    for (const auto &[name, value] : b.at("knobs").items())
        if (!a.at("knobs").contains(name)) changed[name] = {json(), value};
    return changed;
}

}  // namespace

json compare_records(const std::string &before, const std::string &after) {
    auto old_ones = records_of(before), new_ones = records_of(after);
    if (fs::is_directory(before) != fs::is_directory(after)) throw Error("compare two records or two folders, not one of each");
    json list = json::array();
    for (const auto &[name, a] : old_ones) {
        const auto found = new_ones.find(name);
        const std::string shown = name.empty() ? a.value("kernel", "record") : name;
        if (found == new_ones.end()) {
            list.push_back({{"name", shown}, {"change", "only in the old"}});
            continue;
        }
        const json &b = found->second;
        const json knobs = knob_changes(a, b), times_a = shape_times(a), times_b = shape_times(b);
        json shapes = json::array();
        for (const auto &[shape, seconds] : times_b.items())
            if (times_a.contains(shape) && times_a.at(shape).get<double>() > 0)
                shapes.push_back({{"shape", shape}, {"old_seconds", times_a.at(shape)}, {"new_seconds", seconds}, {"ratio", seconds.get<double>() / times_a.at(shape).get<double>()}});
        list.push_back({{"name", shown}, {"change", knobs.empty() ? "same knobs" : "other knobs"}, {"cache", {cache_of(a), cache_of(b)}}, {"knobs", knobs}, {"shapes", shapes}});
    }
    for (const auto &[name, b] : new_ones)
        if (!old_ones.contains(name)) list.push_back({{"name", name}, {"change", "only in the new"}});
    return {{"records", list}};
}

std::string comparison_text(const json &comparison) {
    std::string text = comparison.at("records").empty() ? "there is no record in either\n" : "";
    char line[256];
    for (const json &r : comparison.at("records")) {
        text += r.at("name").get<std::string>() + ": " + r.at("change").get<std::string>();
        const json knobs = r.value("knobs", json::object());  // items() only refers to it
        for (const auto &[knob, pair] : knobs.items()) text += "  " + knob + " " + pair[0].dump() + " -> " + pair[1].dump();
        if (const json cache = r.value("cache", json::array({"warm", "warm"})); cache != json::array({"warm", "warm"}))
            text += "  timed " + cache[0].get<std::string>() + " -> " + cache[1].get<std::string>();
        text += "\n";
        for (const json &s : r.value("shapes", json::array())) {
            std::snprintf(line, sizeof line, "    %-32s %10.1f -> %10.1f us  x %.3f\n", s.at("shape").get<std::string>().c_str(), 1e6 * s.at("old_seconds").get<double>(),
                          1e6 * s.at("new_seconds").get<double>(), s.at("ratio").get<double>());
            text += line;
        }
    }
    return text;
}

}  // namespace aft::tool
