// `aft verify`: every kernel of this build against its oracle, on this machine: the operator cases of tests/reference, with
// poisoned and guarded memory.
#include <spdlog/spdlog.h>

#include <cstdio>
#include <nlohmann/json.hpp>
#include <set>

#include "aft/trace.h"
#include "kernel_table.h"
#include "runtime/cpu.h"
#include "runtime/trace.h"
#include "tests/reference/operator_case.h"
#include "tools/command.h"

namespace aft::tool {
namespace {

using reference::Check;
using reference::OperatorCase;

struct Options {
    std::vector<std::string> filters = {"*"};
    bool large = false;
};

// What the filters choose: cases by their own name or by a kernel's, and the kernels to report.
struct Selection {
    std::vector<const OperatorCase *> cases;
    std::set<std::string> kernels;
    bool everything = false;
};

Selection select(const Options &options) {
    Selection selection;
    std::set<const OperatorCase *> chosen;
    for (const std::string &filter : options.filters) {
        bool matched = false, only_large = false;
        for (const OperatorCase &c : reference::operator_cases()) {
            std::set<std::string> named;
            for (const std::string &kernel : c.kernels)
                if (matches(filter, kernel)) named.insert(kernel);
            if (named.empty() && matches(filter, c.name)) named.insert(c.kernels.begin(), c.kernels.end());
            if (named.empty()) continue;
            if (c.large && !options.large) {
                only_large = true;
                continue;
            }
            matched = true;
            if (chosen.insert(&c).second) selection.cases.push_back(&c);
            selection.kernels.insert(named.begin(), named.end());
        }
        selection.everything |= filter == "*";
        if (!matched) throw UsageError("--filter '" + filter + "' matches no kernel and no case" + (only_large ? " but large ones: add --large" : ""));
    }
    return selection;
}

Check check(const OperatorCase &c) {
    spdlog::debug("{}", c.name);
    try {
        return reference::check_against_oracle(c);
    } catch (const std::exception &error) {
        Check failed;
        failed.passed = false;
        failed.message = error.what();
        return failed;
    }
}

std::string reproduce(const char *target, const OperatorCase &c) {
    return std::string("aft verify --target ") + target + (c.large ? " --large" : "") + " --filter '" + c.name + "'";
}

// The compiled variants of a table that no case has called.
std::vector<std::string> not_reached(const KernelTable &table, const std::set<std::string> &called) {
    std::vector<std::string> names;
    table.each([&](const auto &kernel) {
        for (const auto &variant : kernel.variants)
            if (!called.contains(variant.name)) names.push_back(variant.name);
    });
    return names;
}

// One table: a line per kernel as soon as its cases are done.
nlohmann::json verify_table(const KernelTable &table, const Selection &selection, bool json) {
    use_kernel_table(table.target);
    std::map<const OperatorCase *, Check> done;
    auto kernels = nlohmann::json::array(), failures = nlohmann::json::array();
    std::set<std::string> called;
    bool all_passed = true;
    start_trace();
    table.each([&](const auto &kernel) {
        int count = 0;
        bool passed = true;
        double worst = 0;
        std::vector<const OperatorCase *> failed;
        for (const OperatorCase *c : selection.cases) {
            if (std::ranges::find(c->kernels, kernel.name) == c->kernels.end() || !selection.kernels.contains(kernel.name)) continue;
            const bool first = !done.contains(c);
            const Check &result = first ? done[c] = check(*c) : done[c];
            called.merge(take_traced_kernels());
            count++;
            worst = std::max(worst, result.worst);
            passed = passed && result.passed;
            if (first && !result.passed) {
                failed.push_back(c);
                failures.push_back({{"case", c->name}, {"message", result.message}, {"reproduce", reproduce(table.target, *c)}});
            }
        }
        if (count == 0) {
            if (!selection.everything) return;
            passed = false;  // a kernel that nothing checks
        }
        all_passed = all_passed && passed;
        kernels.push_back({{"kernel", kernel.name}, {"cases", count}, {"worst", worst}, {"passed", passed}});
        if (json) return;
        std::printf("%-7s %-40s %3d case%s  worst %8.4f  %s\n", table.target, kernel.name, count, count == 1 ? " " : "s", worst,
                    passed ? "pass" : count ? "FAIL" : "FAIL (no case names it)");
        for (const OperatorCase *c : failed)
            std::printf("    %s\n      %s\n      reproduce: %s\n", c->name.c_str(), done[c].message.c_str(), reproduce(table.target, *c).c_str());
        std::fflush(stdout);
    });
    const std::vector<std::string> missed = selection.everything ? not_reached(table, called) : std::vector<std::string>();
    if (!json)
        for (const std::string &name : missed) std::printf("%-7s %s  FAIL (no case reaches this variant)\n", table.target, name.c_str());
    return {{"target", table.target}, {"passed", all_passed && missed.empty()}, {"kernels", kernels}, {"failures", failures}, {"variants_not_reached", missed}};
}

int run(const Options &options, const Common &common) {
    const Selection selection = select(options);
    auto tables = nlohmann::json::array(), skipped = nlohmann::json::array();
    size_t kernels = 0, failed = 0;
    if (!common.json) std::printf("worst: largest error in units of what the numerics contract allows (docs/numerics.md)\n");
    for (const KernelTable *table : kernel_tables) {
        if (!common.target.empty() && common.target != table->target) continue;
        if (!cpu_runs(table->target)) {
            skipped.push_back(table->target);
            spdlog::warn("the table {} is skipped: this CPU cannot run it", table->target);
            continue;
        }
        tables.push_back(verify_table(*table, selection, common.json));
        for (const auto &kernel : tables.back()["kernels"]) kernels++, failed += !kernel["passed"];
    }
    const bool passed = kernels > 0 && std::ranges::all_of(tables, [](const auto &table) { return table["passed"].template get<bool>(); });
    if (common.json)
        std::printf("%s\n", nlohmann::json{{"passed", passed}, {"cases", selection.cases.size()}, {"tables", tables}, {"skipped", skipped}}.dump(1).c_str());
    else
        std::printf("%zu of %zu kernels pass, %zu cases on %zu table%s\n", kernels - failed, kernels, selection.cases.size(), tables.size(), tables.size() == 1 ? "" : "s");
    return passed ? exit_done : exit_failed;
}

const Command command{"verify", "Checks every kernel of this build against its oracle", Group::kernels, [](CLI::App &app, const Common &common) {
    auto o = std::make_shared<Options>();
    app.add_option("--filter", o->filters, "Globs over the names of kernels and of cases")->capture_default_str();
    app.add_flag("--large", o->large, "Also the large cases (T = 65,536), which take minutes");
    app.footer("Example: aft verify --target avx2 --filter 'aft_simple*'");
    return [o, &common] { return run(*o, common); };
}};

}  // namespace
}  // namespace aft::tool
