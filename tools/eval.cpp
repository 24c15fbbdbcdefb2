// aft eval: loss, bits per character and accuracy of a model on a split.
#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <numbers>

#include "aft/checkpoint.h"
#include "aft/data.h"
#include "aft/error.h"
#include "aft/training.h"
#include "tools/command.h"
#include "tools/progress.h"

namespace aft::tool {
namespace {

struct Options {
    std::string model, split = "valid";
    DataFiles files;
    int64_t stride = 0, context = 0, eval_batches = 0, batch = 8;
};

struct Score {
    double loss = 0;  // summed
    int64_t top1 = 0, top5 = 0, count = 0;

    // One prediction: logits [V] of the byte `target`.
    void add(const float *logits, int64_t V, int32_t target) {
        const double most = *std::max_element(logits, logits + V);
        double sum = 0;
        int64_t before = 0;  // likelier tokens; of equals the lower one counts as likelier
        for (int64_t v = 0; v < V; v++) {
            sum += std::exp(logits[v] - most);
            before += logits[v] > logits[target] || (logits[v] == logits[target] && v < target);
        }
        loss += most + std::log(sum) - logits[target];
        top1 += before < 1, top5 += before < 5, count++;
    }
};

int evaluate(Options o, const Common &common) {
    LanguageModel model = load_language_model(o.model);
    const int64_t T = o.context ? o.context : model.config().context;
    if (T < 1 || T > model.config().context) throw UsageError(fmt::format("--context {} is impossible: the model's is {}", T, model.config().context));
    const int64_t stride = o.stride ? o.stride : T;
    if (stride < 1 || stride > T) throw UsageError(fmt::format("--stride {} is impossible: give 1 to the context, {}", stride, T));
    if (o.files.data.empty()) {  // the text it was trained on
        if (!std::filesystem::exists(o.model + "/config.toml")) throw UsageError("no data: give --data PATH");
        o.files = read_run_options(o.model).training.files();
    }
    const ByteData data(o.files, T);
    const auto bytes = data.split(split_of(o.split));
    const EvaluationWindows windows(bytes, T, stride);
    const std::vector<int64_t> chosen = windows.choose(o.eval_batches * o.batch);
    ProgressLine line(common.quiet);
    line.print("data: " + data.description() + "; split " + o.split);

    Score score;
    for (size_t first = 0; first < chosen.size(); first += size_t(o.batch)) {
        const auto some = std::span(chosen).subspan(first, std::min(size_t(o.batch), chosen.size() - first));
        const Batch batch = windows.batch(some);
        const Tensor logits = model.logits(batch.tokens);
        const int64_t V = logits.size(2);
        for (int64_t n = 0; n < batch.targets.elements(); n++)
            if (const int32_t target = batch.targets.data<int32_t>()[n]; target >= 0) {
                if (target >= V) throw Error(fmt::format("the text holds the byte {}; the model's vocabulary is {}", target, V));
                score.add(logits.data() + n * V, V, target);
            }
        line.update(fmt::format("{}/{} windows  {:.4f} bits/char", first + some.size(), chosen.size(), score.loss / double(score.count) / std::numbers::ln2));
    }
    const double loss = score.loss / double(score.count), count = double(score.count);
    const nlohmann::ordered_json json = {{"loss", loss},          {"bits_per_character", loss / std::numbers::ln2},
                                         {"top1", score.top1 / count}, {"top5", score.top5 / count},
                                         {"count", score.count},  {"context", T},
                                         {"stride", stride},      {"split", o.split},
                                         {"unigram_entropy", unigram_entropy(bytes)}};
    if (common.json)
        fmt::print("{}\n", json.dump(2));
    else
        fmt::print("{}: {:.4f} bits per character (bytes without context: {:.4f}), loss {:.4f} nats, top-1 {:.2f} %, top-5 {:.2f} %, {} bytes, context {}, stride {}\n", o.split,
                   loss / std::numbers::ln2, unigram_entropy(bytes), loss, 100 * score.top1 / count, 100 * score.top5 / count, score.count, T, stride);
    return exit_done;
}

const Command command{"eval", "Loss and bits per character of a model on a split", Group::model, [](CLI::App &app, const Common &common) {
    auto o = std::make_shared<Options>();
    app.add_option("--model", o->model, "A run's folder (its best checkpoint) or a checkpoint's")->required();
    app.add_option("--data", o->files.data, "Text (default: that of the run)");
    app.add_option("--valid", o->files.valid, "Validation text (then all of --data is the training split)");
    app.add_option("--test", o->files.test, "Test text, with --valid");
    app.add_option("--split", o->split, "train, valid or test")->check(CLI::IsMember({"train", "valid", "test"}))->capture_default_str();
    app.add_option("--stride", o->stride, "Bytes between windows (default: the context); smaller gives each byte more context")->check(at_least(1));
    app.add_option("--context", o->context, "Shorter windows than the model's context")->check(at_least(1));
    app.add_option("--batch", o->batch, "Windows per pass")->check(at_least(1))->capture_default_str();
    app.add_option("--eval-batches", o->eval_batches, "At most this many passes, spread over the split (default: all)")->check(at_least(0));
    app.footer("Example: aft eval --model runs/first --split test --stride 128");
    return [o, &common] { return evaluate(*o, common); };
}};

}  // namespace
}  // namespace aft::tool
