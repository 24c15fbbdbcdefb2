// The program `aft`: options that all subcommands share, exit codes, logs. Each subcommand is a file of its own.
//
// Exit codes: 0 done, 1 failed, 2 wrong usage. Results on stdout; progress, logs and errors on stderr.
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <cstdio>

#include "aft/error.h"
#include "aft/log.h"
#include "aft/threads.h"
#include "aft/version.h"
#include "kernel_table.h"
#include "tools/command.h"

namespace aft::tool {
namespace {

std::vector<const Command *> &registry() {
    static std::vector<const Command *> all;
    return all;
}

const char *title(Group group) {
    switch (group) {
        case Group::model: return "Models";
        case Group::run: return "Running";
        case Group::kernels: return "Kernels";
        case Group::hidden: return "";  // the program's own processes
    }
    return "";
}

void add_common(CLI::App &app, Common &common) {
    const auto group = "Common";
    app.add_option("--threads", common.threads, "Threads to use (default: all cores)")->check(CLI::Range(1, 4096))->group(group);
    app.add_option("--target", common.target, "Force a kernel table, for example avx2 (default: the best this CPU runs)")->group(group);
    app.add_option("--device", common.device, "Where to run: cpu")->check(CLI::IsMember({"cpu"}))->group(group);
    app.add_option("--seed", common.seed, "Seed of everything random")->check(at_least(0))->group(group);
    app.add_flag("--json", common.json, "Machine-readable result on stdout")->group(group);
    app.add_flag("--quiet", common.quiet, "No progress and no information, only warnings")->group(group);
    app.add_flag("--verbose", common.verbose, "More information")->excludes("--quiet")->group(group);
}

void install_log(const Common &common) {
    auto logger = std::make_shared<spdlog::logger>("aft", std::make_shared<spdlog::sinks::stderr_sink_mt>());
    logger->set_pattern("aft: %v");
    logger->set_level(common.quiet ? spdlog::level::warn : common.verbose ? spdlog::level::debug : spdlog::level::info);
    spdlog::set_default_logger(logger);
    set_log_callback([](LogLevel level, const std::string &message) {
        switch (level) {
            case LogLevel::debug: spdlog::debug("{}", message); break;
            case LogLevel::info: spdlog::info("{}", message); break;
            case LogLevel::warning: spdlog::warn("warning: {}", message); break;
        }
    });
}

int fail(const std::string &message, int code) {
    std::fprintf(stderr, "aft: error: %s\n", message.c_str());
    return code;
}

int usage(const CLI::App &app, const std::string &message) {
    std::string name = "aft";
    for (const CLI::App *at = &app; !at->get_subcommands().empty(); name += " " + at->get_name()) at = at->get_subcommands().front();
    return fail(message + " (see " + name + " --help)", exit_usage);
}

// A result that did not reach its reader (a full disk, a closed stdout) is a failure.
int delivered(int code) {
    if (std::fflush(stdout) == 0 && !std::ferror(stdout)) return code;
    return fail("the result could not be written to stdout", exit_failed);
}

int run(int argc, char **argv) {
    CLI::App app{"aft: attention-free Transformers, compiled"};
    app.set_version_flag("--version", "aft " AFT_VERSION);
    app.require_subcommand(1);
    app.footer("Example: aft train --preset tiny-local --data input.txt --out runs/first");
    Common common;
    Command::Run chosen;
    std::vector<const Command *> sorted = registry();
    std::ranges::stable_sort(sorted, {}, [](const Command *c) { return std::pair(c->group, c->name); });
    for (const Command *command : sorted) {
        CLI::App *sub = app.add_subcommand(command->name, command->description)->group(title(command->group));
        add_common(*sub, common);
        sub->final_callback([&chosen, start = command->setup(*sub, common)] { chosen = start; });
    }
    // CLI11 would only say that a subcommand is missing.
    if (argc > 1 && argv[1][0] != '-' && std::ranges::none_of(sorted, [&](const Command *c) { return c->name == argv[1]; }))
        return usage(app, "there is no subcommand '" + std::string(argv[1]) + "'");
    try {
        app.parse(argc, argv);
    } catch (const CLI::Success &wanted) {  // --help, --version
        return app.exit(wanted);
    } catch (const CLI::ParseError &error) {
        return usage(app, error.what());
    }
    install_log(common);
    try {
        if (common.threads) set_thread_count(common.threads);
        use_kernel_table(common.target);
        return delivered(chosen());
    } catch (const UsageError &error) {
        return usage(app, error.what());
    } catch (const std::bad_alloc &) {
        return fail("out of memory: use a smaller batch, context or model", exit_failed);
    } catch (const std::exception &error) {
        return fail(error.what(), exit_failed);
    }
}

}  // namespace

Command::Command(std::string name, std::string description, Group group, Setup setup)
    : name(std::move(name)), description(std::move(description)), group(group), setup(std::move(setup)) {
    registry().push_back(this);
}

const std::vector<const Command *> &commands() { return registry(); }

}  // namespace aft::tool

int main(int argc, char **argv) { return aft::tool::run(argc, argv); }
