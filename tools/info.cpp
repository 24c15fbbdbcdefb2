// `aft info`: what this build and this machine are: version, CPU, kernel tables and where their schedules came from.
#include <spdlog/version.h>

#include <cstdio>
#include <fstream>
#include <nlohmann/json.hpp>

#include "aft/threads.h"
#include "aft/version.h"
#include "kernel_table.h"
#include "runtime/cpu.h"
#include "tools/command.h"

namespace aft::tool {
namespace {

using nlohmann::json;

std::string cpu_model() {
    std::ifstream in("/proc/cpuinfo");
    for (std::string line; std::getline(in, line);)
        if (line.starts_with("model name")) return line.substr(line.find(':') + 2);
    return "unknown";
}

json cpu_features() {
    __builtin_cpu_init();
    json features = json::array();
    const auto add = [&](const char *name, bool there) {
        if (there) features.push_back(name);
    };
    add("avx2", __builtin_cpu_supports("avx2"));
    add("fma", __builtin_cpu_supports("fma"));
    add("f16c", __builtin_cpu_supports("f16c"));
    add("avx512f", __builtin_cpu_supports("avx512f"));
    add("avx512bw", __builtin_cpu_supports("avx512bw"));
    add("avx512cd", __builtin_cpu_supports("avx512cd"));
    add("avx512dq", __builtin_cpu_supports("avx512dq"));
    add("avx512vl", __builtin_cpu_supports("avx512vl"));
    add("avx512bf16", __builtin_cpu_supports("avx512bf16"));
    return features;
}

std::string version_of(int major, int minor, int patch) { return std::to_string(major) + "." + std::to_string(minor) + "." + std::to_string(patch); }

json dependencies() {
    return {{"Halide", AFT_HALIDE_VERSION},
            {"CLI11", CLI11_VERSION},
            {"nlohmann-json", version_of(NLOHMANN_JSON_VERSION_MAJOR, NLOHMANN_JSON_VERSION_MINOR, NLOHMANN_JSON_VERSION_PATCH)},
            {"spdlog", version_of(SPDLOG_VER_MAJOR, SPDLOG_VER_MINOR, SPDLOG_VER_PATCH)},
            {"compiler", __VERSION__}};
}

json kernels_of(const KernelTable &table) {
    json list = json::array();
    table.each([&](const auto &kernel) {
        for (const auto &variant : kernel.variants) {
            const json report = json::parse(variant.report);
            list.push_back({{"name", variant.name}, {"kernel", kernel.name}, {"origin", report.at("origin")}, {"knobs", report.at("knobs")}});
        }
    });
    return list;
}

json describe() {
    json tables = json::array();
    for (const KernelTable *table : kernel_tables)
        tables.push_back({{"target", table->target}, {"runs", cpu_runs(table->target)}, {"in_use", table == &kernels()}, {"kernels", kernels_of(*table)}});
    return {{"version", AFT_VERSION},
            {"cpu", {{"model", cpu_model()}, {"features", cpu_features()}}},
            {"threads", thread_count()},
            {"devices", {"cpu"}},
            {"tables", tables},
            {"dependencies", dependencies()}};
}

void print(const json &info) {
    std::printf("aft %s\n", info["version"].get<std::string>().c_str());
    std::printf("cpu      %s\n        ", info["cpu"]["model"].get<std::string>().c_str());
    for (const json &feature : info["cpu"]["features"]) std::printf(" %s", feature.get<std::string>().c_str());
    std::printf("\nthreads  %d\ndevices  cpu\n", info["threads"].get<int>());
    for (const json &table : info["tables"]) {
        std::printf("table    %s: %zu compiled kernels%s\n", table["target"].get<std::string>().c_str(), table["kernels"].size(),
                    table["in_use"] ? ", in use" : table["runs"] ? "" : ", not for this CPU");
        for (const json &kernel : table["kernels"]) {
            std::string knobs;
            for (const auto &[name, value] : kernel["knobs"].items()) knobs += " " + name + "=" + value.dump();
            std::printf("  %-52s %s:%s\n", kernel["name"].get<std::string>().c_str(), kernel["origin"].get<std::string>().c_str(), knobs.c_str());
        }
    }
    std::printf("built with\n");
    for (const auto &[name, version] : info["dependencies"].items()) std::printf("  %-14s %s\n", name.c_str(), version.get<std::string>().c_str());
}

const Command command{"info", "Version, CPU, kernel tables and the record each kernel came from", Group::kernels, [](CLI::App &app, const Common &common) {
    app.footer("Example: aft info --json");
    return [&common] {
        const json info = describe();
        if (common.json)
            std::printf("%s\n", info.dump(1).c_str());
        else
            print(info);
        return exit_done;
    };
}};

}  // namespace
}  // namespace aft::tool
