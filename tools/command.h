// A subcommand of `aft`: tools/NAME.cpp registers itself with one static object.
//
//   const Command command{"logits", "Logits of given tokens", Group::run, [](CLI::App &app, const Common &common) {
//       auto o = std::make_shared<Options>();
//       app.add_option("--model", o->model, "...")->required();
//       return [o, &common] { ...; return exit_done; };
//   }};
#pragma once
#include <fnmatch.h>
#include <spdlog/fmt/fmt.h>

#include <CLI/CLI.hpp>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace aft::tool {

constexpr int exit_done = 0, exit_failed = 1, exit_usage = 2;

// Options of every subcommand.
struct Common {
    int threads = 0;        // 0: all cores
    std::string target;     // "": the best table
    std::string device = "cpu";
    uint64_t seed = 0;
    bool json = false, quiet = false, verbose = false;
};

// Wrong usage that CLI11 cannot see: exit code 2.
class UsageError : public std::runtime_error {
    using std::runtime_error::runtime_error;
};

// A number from `least` on. (CLI11's own check prints the largest double in full.)
inline CLI::Validator at_least(double least) {
    return {[least](std::string &text) {
                double value = 0;
                const bool fits = CLI::detail::lexical_cast(text, value) && value >= least;
                return fits ? std::string() : fmt::format("{} is impossible: give {:g} or more", text, least);
            },
            fmt::format("{:g} or more", least)};
}

// Of --filter. A name fits itself, brackets of its own and all.
inline bool matches(const std::string &glob, const std::string &name) { return glob == name || fnmatch(glob.c_str(), name.c_str(), 0) == 0; }

// The order of the groups in `aft --help`.
enum class Group { model, run, kernels, hidden };

struct Command {
    using Run = std::function<int()>;
    using Setup = std::function<Run(CLI::App &app, const Common &common)>;

    std::string name, description;
    Group group;
    Setup setup;

    Command(std::string name, std::string description, Group group, Setup setup);
};

const std::vector<const Command *> &commands();

}  // namespace aft::tool
