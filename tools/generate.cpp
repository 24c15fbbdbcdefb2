// `aft generate`: a continuation of a prompt, streamed; one constant-cost step per token.
#include <nlohmann/json.hpp>
#include <spdlog/spdlog.h>

#include <chrono>
#include <cstdio>

#include "aft/checkpoint.h"
#include "aft/error.h"
#include "aft/generate.h"
#include "tools/command.h"

namespace aft::tool {
namespace {

struct Options {
    std::string model, prompt = "\n";
    int64_t tokens = 400;
    SamplingOptions sampling;
    bool echo = false, no_slide = false;
};

int run(const Options &o, const Common &common) {
    SamplingOptions sampling = o.sampling;
    sampling.seed = common.seed;
    sampling.slide = !o.no_slide;
    try {
        check(sampling);
    } catch (const Error &error) {
        throw UsageError(error.what());
    }
    const LanguageModel model = load_language_model(o.model);
    std::string text;
    bool broken = false;  // the reader of stdout went away
    const auto put = [&](const char *bytes, size_t count) {
        if (!common.json && (std::fwrite(bytes, 1, count, stdout) != count || std::fflush(stdout))) broken = true;
    };
    if (o.echo) put(o.prompt.data(), o.prompt.size());
    const auto start = std::chrono::steady_clock::now();
    const GeneratedText done = generate(model, o.prompt, o.tokens, sampling, [&](uint8_t byte) {
        text.push_back(char(byte));
        put(text.data() + text.size() - 1, 1);
        return !broken;
    });
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    if (broken) throw Error("the text could not be written to stdout");
    if (done.restarts) spdlog::info("the context of {} bytes was full {} time(s): the state restarted from its last half", model.config().context, done.restarts);
    if (done.full) spdlog::info("stopped after {} bytes: the context of {} is full", done.tokens, model.config().context);
    spdlog::debug("{} bytes in {:.2f} s, {:.0f} bytes/s", done.tokens, seconds, double(done.tokens) / seconds);
    if (common.json) {
        nlohmann::json out = {{"prompt", o.prompt}, {"text", text}, {"tokens", done.tokens}, {"restarts", done.restarts}, {"full", done.full}, {"seconds", seconds}};
        std::puts(out.dump(1, ' ', true, nlohmann::json::error_handler_t::replace).c_str());  // bytes that are no UTF-8 become U+FFFD
    }
    return exit_done;
}

const Command command{"generate", "Continue a prompt, byte by byte", Group::model, [](CLI::App &app, const Common &common) {
    auto o = std::make_shared<Options>();
    app.add_option("--model", o->model, "A run's folder (its best checkpoint, else its latest) or a checkpoint's")->required();
    app.add_option("--prompt", o->prompt, "Text to continue (default: a line feed)");
    app.add_option("--tokens", o->tokens, "Bytes to write")->capture_default_str()->check(at_least(0));
    app.add_option("--temperature", o->sampling.temperature, "0 is greedy")->capture_default_str();
    app.add_option("--top-k", o->sampling.top_k, "Draw from the k likeliest bytes; 0 = all")->capture_default_str();
    app.add_option("--top-p", o->sampling.top_p, "Draw from the likeliest bytes that together reach this probability")->capture_default_str();
    app.add_flag("--echo", o->echo, "Write the prompt first");
    app.add_flag("--no-slide", o->no_slide, "Stop when the context is full instead of restarting from its last half");
    app.footer("Example: aft generate --model runs/first --prompt 'KING:' --tokens 400 --temperature 0.8 --seed 1");
    return [o, &common] { return run(*o, common); };
}};

}  // namespace
}  // namespace aft::tool
