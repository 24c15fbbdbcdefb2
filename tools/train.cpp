// aft train: a run from a preset, a recipe or flags; resuming; Ctrl-C saves and stops.
#include <spdlog/fmt/fmt.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cmath>
#include <csignal>
#include <cstdio>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <utility>

#include "aft/error.h"
#include "aft/threads.h"
#include "aft/trace.h"
#include "aft/training.h"
#include "runtime/files.h"
#include "tools/bench/limits.h"
#include "tools/command.h"
#include "tools/progress.h"
#include "tools/recipes.h"

namespace aft::tool {
namespace {

struct Options {
    std::string preset, config, resume;
    bool list = false;
    std::string trace;
    int64_t trace_steps = 2;
    std::map<std::string, std::string> given;      // key -> text of its flag
    std::map<std::string, CLI::Option *> options;  // key -> flag
    const CLI::Option *seed = nullptr;
};

std::atomic<bool> stop = false;

// The first signal asks the trainer to save and stop; the second ends the program as usual (SA_RESETHAND). A hangup that is
// ignored already stays so: nohup means that the run outlives its terminal. A pipe whose reader went away ends no run either.
void install_signal_handlers() {
    struct sigaction action {};
    action.sa_handler = [](int) {
        stop = true;
        const int before = errno;
        static constexpr char said[] = "\naft: saving behind this step; a second signal ends at once\n";
        (void)!write(STDERR_FILENO, said, sizeof said - 1);
        errno = before;
    };
    action.sa_flags = int(SA_RESETHAND);
    for (const int signal : {SIGINT, SIGTERM}) sigaction(signal, &action, nullptr);
    signal(SIGPIPE, SIG_IGN);
    struct sigaction hangup {};
    sigaction(SIGHUP, nullptr, &hangup);
    if (hangup.sa_handler != SIG_IGN) sigaction(SIGHUP, &action, nullptr);
}

int list_recipes(const Common &common) {
    nlohmann::ordered_json all = nlohmann::ordered_json::array();
    for (const Recipe &recipe : recipes()) {
        RunOptions options;
        read_toml(options, recipe.text, recipe.name);
        std::string title = recipe.text.substr(0, recipe.text.find('\n'));
        title.erase(0, title.find_first_not_of("# "));
        const int64_t parameters = parameter_count(options.model);
        if (common.json)
            all.push_back({{"name", recipe.name}, {"parameters", parameters}, {"description", title}});
        else
            fmt::print("{:<22} {:>11} parameters  {}\n", recipe.name, parameters, title);
    }
    if (common.json) fmt::print("{}\n", all.dump(2));
    return exit_done;
}

RunOptions run_options(const Options &o, const Common &common) {
    RunOptions options;
    if (!o.resume.empty()) {
        if (!o.preset.empty() || !o.config.empty()) throw UsageError("--resume takes every key from its folder: leave out --preset and --config");
        options = read_run_options(o.resume);
    } else if (!o.preset.empty()) {
        read_toml(options, find_recipe(o.preset).text, o.preset);
    } else if (!o.config.empty()) {
        read_toml(options, read_file(o.config, 1 << 20), o.config);
    }
    try {
        for (const auto &[key, option] : o.options)
            if (option->count() > 0) set_key(options, key, o.given.at(key));
    } catch (const Error &error) {
        throw UsageError(error.what());
    }
    if (o.seed->count() > 0) options.training.seed = common.seed;
    if (!o.resume.empty()) options.training.out = o.resume;
    if (options.training.data.empty()) throw UsageError("no data: give --data PATH (any file)");
    if (options.training.out.empty()) throw UsageError("no folder for the run: give --out DIR");
    return options;
}

std::string progress_text(const TrainingProgress &p) {
    return fmt::format("step {}/{}  {:.3f} bits/char  lr {:.2e}  grad {:.2f}  {:.0f} tokens/s  ETA {}", p.step, p.steps, p.bits_per_character, p.learning_rate, p.gradient_norm,
                       p.tokens_per_second, duration(p.remaining_seconds));
}

void append_sample(const std::string &folder, int64_t step, const std::string &text) {
    const std::unique_ptr<FILE, int (*)(FILE *)> file(std::fopen((folder + "/samples.txt").c_str(), "ab"), std::fclose);
    if (!file) return;  // a sample is no reason to stop
    fmt::print(file.get(), "== step {}\n", step);
    std::fwrite(text.data(), 1, text.size(), file.get());
    std::fputs("\n", file.get());
}

int report(const Trainer &trainer, const TrainingResult &result, int64_t parameters, double entropy, const Common &common) {
    const std::string &out = trainer.options().training.out;
    const bool evaluated = !std::isnan(result.best_loss);
    const double bits = result.best_loss / std::log(2.0);
    if (common.json) {
        nlohmann::ordered_json json = {{"step", result.step},           {"loss", result.loss},         {"interrupted", result.interrupted}, {"parameters", parameters},
                                       {"unigram_entropy", entropy},    {"out", out},                  {"checkpoint", result.checkpoint}};
        if (evaluated) json["best_step"] = result.best_step, json["best_loss"] = result.best_loss, json["best_bits_per_character"] = bits;
        fmt::print("{}\n", json.dump(2, ' ', false, nlohmann::json::error_handler_t::replace));
        return exit_done;
    }
    if (evaluated) fmt::print("validation: {:.4f} bits per character at step {} (bytes without context: {:.4f})\n", bits, result.best_step, entropy);
    if (result.interrupted) fmt::print("stopped at step {}; continue with: aft train --resume {}\n", result.step, out);
    fmt::print("model: {}\n", out);
    return exit_done;
}

int train(const Options &o, const Common &common) {
    if (o.list) return list_recipes(common);
    const RunOptions options = run_options(o, common);
    if (!o.trace.empty()) write_trace(o.trace);  // an empty one: where it cannot be written, the run has not begun yet
    install_signal_handlers();
    Trainer trainer = o.resume.empty() ? Trainer(options) : Trainer::resume(options);
    const TrainingOptions &t = options.training;
    ProgressLine line(common.quiet);
    const int64_t parameters = parameter_count(options.model);
    const auto held_out = t.eval_every > 0 ? trainer.data().split(Split::valid) : trainer.data().split(Split::train);
    const double entropy = unigram_entropy(held_out);
    line.print("data: " + trainer.data().description());
    line.print(fmt::format("model: AFT-{}, {} parameters; {} sequences of {} bytes a step in passes of {}; bytes without context: {:.3f} bits/char", name_of(options.model.mixer),
                           parameters, t.batch, options.model.context, trainer.micro_batch(), entropy));
    if (trainer.step() > 0) line.print(fmt::format("resumed at step {}{}", trainer.step(), trainer.step() < t.steps ? "" : ": nothing is left to do; give more --steps"));

    TrainingCallbacks callbacks;
    callbacks.peak_flops = measure_fma_peak(thread_count());
    const int64_t begun = trainer.step();
    int64_t traced = -1;  // steps; negative while no trace runs
    const auto end_trace = [&] { write_trace(o.trace), line.print(fmt::format("trace of {} steps: {}", std::exchange(traced, -1), o.trace)); };
    callbacks.progress = [&](const TrainingProgress &p) {
        line.update(progress_text(p), p.step == 1 || p.step == p.steps);
        if (traced >= 0 && ++traced == o.trace_steps) end_trace();
        if (!o.trace.empty() && p.step == begun + 1) start_trace(), traced = 0;  // behind the first step, which lays the memory out
    };
    callbacks.evaluation = [&](const TrainingEvaluation &e) {
        line.print(fmt::format("step {}  validation {:.4f} bits/char over {} bytes{}", e.step, e.bits_per_character, e.count, e.best ? " (best)" : ""));
    };
    callbacks.checkpoint = [&](int64_t, const std::string &folder) {
        if (common.verbose) line.print("saved " + folder);
    };
    callbacks.sample = [&](int64_t step, const std::string &text) {
        line.print(fmt::format("step {}  sample: {}", step, text));
        append_sample(t.out, step, text);
    };
    const TrainingResult result = trainer.run(callbacks, &stop);
    if (traced >= 0) end_trace();  // the run was shorter than that
    return report(trainer, result, parameters, entropy, common);
}

void add_keys(CLI::App &app, Options &o) {
    const RunOptions defaults;
    for (const RunKey &key : run_keys()) {
        if (key.name == "seed") continue;  // a common option
        std::string flag = "--" + key.name;
        std::ranges::replace(flag, '_', '-');
        const std::string fallback = key.name == "prompt" ? "" : get_key(defaults, key.name);
        o.options[key.name] = app.add_option(flag, o.given[key.name], key.help)->group(key.group)->multi_option_policy(CLI::MultiOptionPolicy::TakeLast)->type_name(fallback.empty() ? "TEXT" : fallback);
    }
}

const Command command{"train", "Trains a language model on the bytes of a file", Group::model, [](CLI::App &app, const Common &common) {
    auto o = std::make_shared<Options>();
    CLI::Option *preset = app.add_option("--preset", o->preset, "A recipe of this program (see --list)");
    app.add_option("--config", o->config, "A recipe file (TOML); flags go over it")->excludes(preset);
    app.add_option("--resume", o->resume, "Continue the run in this folder; takes every key from it");
    app.add_flag("--list", o->list, "List the presets");
    add_keys(app, *o);
    app.add_option("--trace", o->trace, "Write a timeline of kernels to this file (Chrome trace), of the steps behind the first one")->group("Run");
    app.add_option("--trace-steps", o->trace_steps, "Steps of that timeline")->check(CLI::Range(1, 1000))->capture_default_str()->group("Run");
    o->seed = app.get_option("--seed");
    app.footer("Example: aft train --preset tiny-local --data input.txt --out runs/first --steps 500");
    return [o, &common] { return train(*o, common); };
}};

}  // namespace
}  // namespace aft::tool
