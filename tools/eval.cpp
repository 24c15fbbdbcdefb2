// `aft eval`: loss and metrics of a model on a split. Each byte is predicted once: windows of T targets moved by the
// stride, of which only the last `stride` count after the first window.
#include <nlohmann/json.hpp>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <numbers>

#include "aft/checkpoint.h"
#include "aft/data.h"
#include "aft/error.h"
#include "tools/command.h"

namespace aft::tool {
namespace {

struct Options {
    std::string model, split = "valid";
    DataFiles files;
    int64_t stride = 0, batches = 0, batch = 8;
};

struct Sums {
    double loss = 0;
    int64_t count = 0, top1 = 0, top5 = 0;
};

// Log-softmax in double of each row that counts.
void add(Sums &sums, const Tensor &logits, const Tensor &targets) {
    const int64_t V = logits.size(2);
    for (int64_t r = 0; r < targets.elements(); r++) {
        const int32_t target = targets.data<int32_t>()[r];
        if (target < 0) continue;
        const float *row = logits.data() + r * V;
        const float top = *std::max_element(row, row + V);
        double total = 0;
        for (int64_t v = 0; v < V; v++) total += std::exp(double(row[v]) - top);
        sums.loss += std::log(total) + top - row[target];
        sums.count++;
        const auto better = std::count_if(row, row + V, [&](float x) { return x > row[target]; });
        sums.top1 += better < 1, sums.top5 += better < 5;
    }
}

int run(const Options &o, const Common &common) {
    LanguageModel model = load_language_model(o.model);
    const int64_t T = model.config().context, stride = o.stride ? o.stride : T;
    if (stride > T) throw UsageError("--stride " + std::to_string(stride) + ": it is at most the model's context, " + std::to_string(T));
    const ByteData data(o.files, T);
    const auto bytes = data.split(split_of(o.split));
    const EvaluationWindows windows(bytes, T, stride);
    const std::vector<int64_t> chosen = windows.choose(o.batches * o.batch);
    const auto start = std::chrono::steady_clock::now();
    Sums sums;
    for (size_t first = 0; first < chosen.size(); first += size_t(o.batch)) {
        const size_t count = std::min(size_t(o.batch), chosen.size() - first);
        const Batch batch = windows.batch(std::span(chosen).subspan(first, count));
        add(sums, model.logits(batch.tokens), batch.targets);
        spdlog::debug("{} of {} windows", first + count, chosen.size());
    }
    if (sums.count == 0) throw Error("the split has no byte to predict");
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    const double loss = sums.loss / double(sums.count), bits = loss / std::numbers::ln2;
    const double top1 = double(sums.top1) / double(sums.count), top5 = double(sums.top5) / double(sums.count);
    if (common.json) {
        const nlohmann::json out = {{"split", o.split}, {"loss", loss}, {"bits_per_character", bits}, {"top1", top1}, {"top5", top5}, {"count", sums.count},
                                    {"context", T}, {"stride", stride}, {"unigram_entropy", unigram_entropy(bytes)}, {"seconds", seconds}};
        std::puts(out.dump(1).c_str());
    } else {
        std::printf("%s: %.4f bits per character (loss %.4f nats), top-1 %.1f %%, top-5 %.1f %%, %lld bytes predicted, context %lld, stride %lld\n", o.split.c_str(),
                    bits, loss, 100 * top1, 100 * top5, static_cast<long long>(sums.count), static_cast<long long>(T), static_cast<long long>(stride));
        std::printf("unigram entropy of the split: %.4f bits per character\n", unigram_entropy(bytes));
    }
    return exit_done;
}

const Command command{"eval", "Loss and metrics of a model on a split", Group::model, [](CLI::App &app, const Common &common) {
    auto o = std::make_shared<Options>();
    app.add_option("--model", o->model, "A run's folder (its best checkpoint, else its latest) or a checkpoint's")->required();
    app.add_option("--data", o->files.data, "The text")->required();
    app.add_option("--valid", o->files.valid, "The validation text, when it is a file of its own");
    app.add_option("--test", o->files.test, "The test text, when it is a file of its own");
    app.add_option("--split", o->split, "train, valid or test")->capture_default_str()->check(CLI::IsMember({"train", "valid", "test"}));
    app.add_option("--stride", o->stride, "Targets that count per window (default: the context)")->check(CLI::PositiveNumber);
    app.add_option("--eval-batches", o->batches, "At most so many batches, spread over the split; 0 = all")->check(CLI::NonNegativeNumber);
    app.add_option("--batch", o->batch, "Windows at a time")->capture_default_str()->check(CLI::PositiveNumber);
    app.footer("Example: aft eval --model runs/first --data input.txt --split test");
    return [o, &common] { return run(*o, common); };
}};

}  // namespace
}  // namespace aft::tool
