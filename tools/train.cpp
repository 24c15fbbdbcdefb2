// `aft train`: trains a language model, or resumes a run. Any key of a recipe is a flag over it.
#include <nlohmann/json.hpp>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <atomic>
#include <cmath>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <map>

#include "aft/error.h"
#include "aft/training.h"
#include "runtime/files.h"
#include "tools/command.h"
#include "tools/recipes.h"

namespace aft::tool {
namespace {

struct Options {
    std::string preset, config, resume;
    std::map<std::string, std::string> keys;  // flags over the recipe, by key
    std::vector<std::pair<std::string, CLI::Option *>> flags;
    const CLI::Option *seed = nullptr;
    bool list = false;
};

std::atomic<bool> stop = false;
void on_signal(int signal) {
    stop = true;
    std::signal(signal, SIG_DFL);  // a second one ends the program at once
}

int list_presets(const Common &common) {
    nlohmann::json out = nlohmann::json::array();
    for (const Recipe &recipe : recipes()) {
        RunOptions options;
        read_toml(options, std::string(recipe.text), recipe.name);
        const int64_t count = parameter_count(options.model);
        if (common.json)
            out.push_back({{"name", recipe.name}, {"parameters", count}, {"mixer", name_of(options.model.mixer)}, {"context", options.model.context}});
        else
            std::printf("%-22s AFT-%-6s %2lld x %-4lld T = %-5lld %11lld parameters\n", recipe.name, name_of(options.model.mixer), static_cast<long long>(options.model.layers),
                        static_cast<long long>(options.model.channels), static_cast<long long>(options.model.context), static_cast<long long>(count));
    }
    if (common.json) std::puts(out.dump(1).c_str());
    return exit_done;
}

RunOptions options_of(const Options &o, const Common &common) {
    RunOptions run;
    const int sources = int(!o.preset.empty()) + int(!o.config.empty()) + int(!o.resume.empty());
    if (sources > 1) throw UsageError("give one of --preset, --config and --resume");
    if (!o.resume.empty()) {
        run = read_run_options(o.resume);
        run.training.out = o.resume;
    }
    if (!o.preset.empty()) {
        std::string names;
        bool found = false;
        for (const Recipe &recipe : recipes()) {
            names += std::string(names.empty() ? "" : ", ") + recipe.name;
            if (o.preset == recipe.name) read_toml(run, std::string(recipe.text), recipe.name), found = true;
        }
        if (!found) throw UsageError("there is no preset '" + o.preset + "'; there are " + names);
    }
    if (!o.config.empty()) read_toml(run, read_file(o.config, 1 << 20), o.config);
    try {
        for (const auto &[key, flag] : o.flags)
            if (flag->count()) set_key(run, key, flag->as<std::string>());
        if (o.seed->count()) run.training.seed = common.seed;
        check(run.model), check(run.training);
    } catch (const Error &error) {
        throw UsageError(error.what());
    }
    if (run.training.data.empty()) throw UsageError("--data is missing: the text to train on");
    if (run.training.out.empty()) throw UsageError("--out is missing: the run's folder");
    return run;
}

std::string clock(double seconds) {
    char text[32];
    const long s = std::lround(seconds);
    if (s >= 3600) std::snprintf(text, sizeof text, "%ld:%02ld:%02ld", s / 3600, s / 60 % 60, s % 60);
    else std::snprintf(text, sizeof text, "%ld:%02ld", s / 60, s % 60);
    return text;
}

// One updating line on a terminal, a line now and then elsewhere.
struct Progress {
    bool terminal = isatty(STDERR_FILENO), quiet = false, open = false;
    double shown = -1e9;

    void step(const TrainingProgress &p) {
        if (quiet) return;
        const double pause = terminal ? 0.1 : 10;
        if (p.seconds - shown < pause && p.step != p.steps && p.step != 1) return;
        shown = p.seconds;
        std::fprintf(stderr, "%sstep %lld/%lld  %.4f bits per character  lr %.2e  |g| %.3f  %.0f tokens/s  ETA %s%s", terminal ? "\r\033[K" : "", static_cast<long long>(p.step),
                     static_cast<long long>(p.steps), p.bits_per_character, p.learning_rate, p.gradient_norm, p.tokens_per_second, clock(p.remaining_seconds).c_str(),
                     terminal ? "" : "\n");
        open = terminal;
    }
    void line(const std::string &text) {
        if (quiet) return;
        if (open) std::fputc('\n', stderr);
        open = false;
        std::fprintf(stderr, "%s\n", text.c_str());
    }
};

int run(const Options &o, const Common &common) {
    if (o.list) return list_presets(common);
    const RunOptions options = options_of(o, common);
    Trainer trainer = o.resume.empty() ? Trainer(options) : Trainer::resume(options);
    Progress progress;
    progress.quiet = common.quiet;
    progress.line(trainer.data().description());
    char text[256];
    std::snprintf(text, sizeof text, "AFT-%s, %lld parameters; %lld sequences of %lld in passes of %lld; unigram entropy of the validation text: %.4f bits per character",
                  name_of(options.model.mixer), static_cast<long long>(trainer.model().parameters().values.elements()), static_cast<long long>(options.training.batch),
                  static_cast<long long>(options.model.context), static_cast<long long>(trainer.micro_batch()), unigram_entropy(trainer.data().split(Split::valid)));
    progress.line(text);
    if (!o.resume.empty()) progress.line("resumed at step " + std::to_string(trainer.step()));

    TrainingCallbacks callbacks;
    callbacks.progress = [&](const TrainingProgress &p) { progress.step(p); };
    callbacks.evaluation = [&](const TrainingEvaluation &e) {
        std::snprintf(text, sizeof text, "step %lld: validation %.4f bits per character%s", static_cast<long long>(e.step), e.bits_per_character, e.best ? " (best)" : "");
        progress.line(text);
    };
    callbacks.sample = [&](int64_t step, const std::string &sample) { progress.line("step " + std::to_string(step) + " writes: " + sample); };
    std::signal(SIGINT, on_signal);
    std::signal(SIGTERM, on_signal);
    const TrainingResult result = trainer.run(callbacks, &stop);
    progress.line((result.interrupted ? "stopped at step " : "done: step ") + std::to_string(result.step) + ", checkpoint " + result.checkpoint +
                  (result.interrupted ? "; continue with aft train --resume " + options.training.out : ""));
    if (common.json) {
        nlohmann::json out = {{"step", result.step}, {"loss", result.loss}, {"checkpoint", result.checkpoint}, {"interrupted", result.interrupted}};
        if (!std::isnan(result.best_loss)) out["best_loss"] = result.best_loss, out["best_bits_per_character"] = result.best_loss / std::log(2.0), out["best_step"] = result.best_step;
        std::puts(out.dump(1).c_str());
    }
    return exit_done;
}

const Command command{"train", "Train a language model, or resume a run", Group::model, [](CLI::App &app, const Common &common) {
    auto o = std::make_shared<Options>();
    app.add_flag("--list", o->list, "List the presets");
    app.add_option("--preset", o->preset, "A recipe that is built in (--list)");
    app.add_option("--config", o->config, "A recipe file (TOML)");
    app.add_option("--resume", o->resume, "Continue the run in this folder; needs nothing else");
    for (const RunKey &key : run_keys()) {
        if (key.name == "seed") continue;  // the common --seed
        std::string flag = "--" + key.name;
        std::ranges::replace(flag, '_', '-');
        o->flags.emplace_back(key.name, app.add_option(flag, o->keys[key.name], key.help)->group(key.group));
    }
    o->seed = app.get_option("--seed");
    app.footer("Example: aft train --preset tiny-local --data input.txt --out runs/first --steps 500");
    return [o, &common] { return run(*o, common); };
}};

}  // namespace
}  // namespace aft::tool
