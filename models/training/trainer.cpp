// The training loop: micro-batches, clip, AdamW, evaluation, checkpoints, metrics. A step is a function of (keys, data,
// step) alone, so a resumed run repeats the bits of an uninterrupted one.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <numbers>

#include "aft/error.h"
#include "aft/generate.h"
#include "aft/training.h"
#include "models/training/checkpoint.h"
#include "models/training/metrics.h"
#include "models/training/optimizer.h"
#include "runtime/files.h"
#include "runtime/log.h"

namespace aft {
namespace {

double now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

AdamWOptions optimizer_options(const TrainingOptions &o) {
    return {.beta1 = o.beta1, .beta2 = o.beta2, .epsilon = o.epsilon, .weight_decay = o.weight_decay, .clip = o.clip};
}

// Weight of the newest step in the speed that the remaining time is estimated with.
constexpr double speed_memory = 0.1;

}  // namespace

int64_t choose_micro_batch(const LanguageModel &model, const TrainingOptions &o) {
    const int64_t T = model.config().context;
    if (o.micro_batch > 0) return std::min(o.micro_batch, o.batch);
    const int64_t fixed = 4 * 4 * model.parameters().values.elements();  // values, gradients, two moments
    int64_t fitting = 1;
    while (fitting < o.batch && fixed + model.training_bytes(fitting + 1, T) <= o.memory_limit) fitting++;
    const int64_t passes = (o.batch + fitting - 1) / fitting;
    return (o.batch + passes - 1) / passes;  // equal passes rather than a small last one
}

struct Trainer::Parts {
    RunOptions options;
    RunFolder folder;
    ByteData data;
    LanguageModel model;
    AdamW optimizer;
    TrainingState state;
    int64_t micro = 1;
    std::string last_checkpoint;
    double speed = 0;  // seconds of a step, averaged

    explicit Parts(const RunOptions &o)
        : options((check(o.training), check(o.model), o)), folder(o.training.out), data(o.training.files(), o.model.context), model(o.model),
          optimizer(model.parameters().values.elements(), model.parameters().decayed, optimizer_options(o.training)), micro(choose_micro_batch(model, o.training)) {}

    void save(bool best, const TrainingCallbacks &callbacks) {
        state.first_moment = optimizer.first_moment(), state.second_moment = optimizer.second_moment();
        last_checkpoint = folder.save(model, state, best, options.training.keep);
        if (callbacks.checkpoint) callbacks.checkpoint(state.step, last_checkpoint);
    }

    [[noreturn]] void diverged(const std::string &what, const Batch &batch, int64_t first_sequence, int64_t step) {
        const std::string first = model.first_non_finite(batch.tokens, batch.targets, {.seed = options.training.seed, .step = step, .first_sequence = first_sequence});
        throw Error("step " + std::to_string(step) + ": the " + what + " is not finite; first not finite: " + (first.empty() ? "the loss itself" : first) +
                    "; last good checkpoint: " + (last_checkpoint.empty() ? "none" : last_checkpoint) + ". Lower the learning rate or clip the gradient");
    }

    // One optimizer step; returns the mean loss in nats.
    double train_step(int64_t step, double &gradient_norm) {
        const TrainingOptions &o = options.training;
        const int64_t T = options.model.context;
        const auto bytes = data.split(Split::train);
        double sum = 0;
        Batch batch;
        int64_t first = 0;
        for (; first < o.batch; first += micro) {
            const int64_t count = std::min(micro, o.batch - first);
            batch = training_batch(bytes, T, o.seed, step, first, count);
            const double loss = model.accumulate_gradient(batch.tokens, batch.targets, 1.0 / double(o.batch * T), {.seed = o.seed, .step = step, .first_sequence = first});
            if (!std::isfinite(loss)) diverged("loss", batch, first, step);
            sum += loss;
        }
        ParameterSet &p = model.parameters();
        gradient_norm = optimizer.step(p.values, p.gradients, learning_rate_at(o, step), step);
        if (!std::isfinite(gradient_norm)) {
            p.gradients.fill(0);
            diverged("gradient", batch, std::max<int64_t>(first - micro, 0), step);
        }
        state.step = step, state.sequences += o.batch;
        return sum / double(o.batch * T);
    }

    TrainingEvaluation evaluate() {
        const TrainingOptions &o = options.training;
        const EvaluationWindows windows(data.split(Split::valid), options.model.context, options.model.context);
        const std::vector<int64_t> chosen = windows.choose(o.eval_batches * o.batch);
        double sum = 0;
        int64_t count = 0;
        for (size_t first = 0; first < chosen.size(); first += size_t(micro)) {
            const Batch batch = windows.batch(std::span(chosen).subspan(first, std::min(size_t(micro), chosen.size() - first)));
            const Tensor losses = model.losses(batch.tokens, batch.targets);
            for (int64_t n = 0; n < losses.elements(); n++)
                if (batch.targets.data<int32_t>()[n] >= 0) sum += losses.data()[n], count++;
        }
        const double loss = sum / double(std::max<int64_t>(count, 1));
        const bool best = loss < state.best_loss;
        if (best) state.best_loss = loss, state.best_step = state.step;
        return {state.step, loss, loss / std::numbers::ln2, count, best};
    }

    std::string sample(int64_t step) {
        std::string text;
        generate(model, options.training.prompt, options.training.sample_bytes, {.temperature = 0.8, .seed = options.training.seed + uint64_t(step)}, [&](uint8_t byte) {
            text.push_back(char(byte));
            return true;
        });
        return text;
    }
};

Trainer::Trainer(std::unique_ptr<Parts> parts) : parts_(std::move(parts)) {}

Trainer::Trainer(const RunOptions &options) : parts_(std::make_unique<Parts>(options)) {
    Parts &p = *parts_;
    if (p.folder.holds_run())
        throw Error(p.folder.path() + " already holds a run: resume it with --resume, or give another folder with --out");
    p.state.seed = options.training.seed;
    p.model.initialise(options.training.seed);
    write_file_atomic(p.folder.path() + "/config.toml", to_toml(options));
}

Trainer Trainer::resume(const RunOptions &options) {
    auto parts = std::make_unique<Parts>(options);
    const std::string latest = parts->folder.latest();
    if (latest.empty()) {  // killed before its first checkpoint: the run starts anew, which gives the same bits
        parts->state.seed = options.training.seed;
        parts->model.initialise(options.training.seed);
    } else {
        load_parameters(parts->model, latest);
        parts->state = load_training_state(parts->model, latest);
        parts->optimizer.first_moment().copy_from(parts->state.first_moment);
        parts->optimizer.second_moment().copy_from(parts->state.second_moment);
        parts->last_checkpoint = latest;
    }
    write_file_atomic(parts->folder.path() + "/config.toml", to_toml(options));
    return Trainer(std::move(parts));
}

Trainer::~Trainer() = default;
Trainer::Trainer(Trainer &&) noexcept = default;

const RunOptions &Trainer::options() const { return parts_->options; }
LanguageModel &Trainer::model() { return parts_->model; }
const ByteData &Trainer::data() const { return parts_->data; }
int64_t Trainer::step() const { return parts_->state.step; }
int64_t Trainer::micro_batch() const { return parts_->micro; }

TrainingResult Trainer::run(const TrainingCallbacks &callbacks, const std::atomic<bool> *stop) {
    Parts &p = *parts_;
    const TrainingOptions &o = p.options.training;
    MetricsFile metrics(p.folder.path() + "/metrics.jsonl", p.state.step);
    TrainingResult result;
    int64_t saved = p.last_checkpoint.empty() ? -1 : p.state.step;
    while (p.state.step < o.steps && !(stop && *stop)) {
        const int64_t step = p.state.step + 1;
        const double start = now();
        double norm = 0;
        result.loss = p.train_step(step, norm);
        const double seconds = now() - start;
        p.state.seconds += seconds;
        p.speed = p.speed > 0 ? (1 - speed_memory) * p.speed + speed_memory * seconds : seconds;

        const double bits = result.loss / std::numbers::ln2, rate = learning_rate_at(o, step), tokens = double(o.batch * p.options.model.context) / seconds;
        if (step % o.log_every == 0 || step == o.steps)
            metrics.append({step, "train", result.loss, bits, rate, norm, tokens, std::nullopt, peak_memory_bytes(), p.state.seconds});
        if (callbacks.progress)
            callbacks.progress({step, o.steps, result.loss, bits, rate, norm, tokens, p.state.seconds, p.speed * double(o.steps - step)});

        const bool last = step == o.steps;
        bool best = false;
        if (o.eval_every > 0 && (step % o.eval_every == 0 || last)) {
            const TrainingEvaluation evaluation = p.evaluate();
            best = evaluation.best;
            metrics.append({step, "valid", evaluation.loss, evaluation.bits_per_character, std::nullopt, std::nullopt, std::nullopt, std::nullopt, peak_memory_bytes(), p.state.seconds});
            if (callbacks.evaluation) callbacks.evaluation(evaluation);
        }
        if (o.sample_every > 0 && step % o.sample_every == 0 && callbacks.sample) callbacks.sample(step, p.sample(step));
        if (best || last || (o.save_every > 0 && step % o.save_every == 0)) p.save(best, callbacks), saved = step;
    }
    result.interrupted = stop && *stop && p.state.step < o.steps;
    if (saved != p.state.step && p.state.step > 0) p.save(false, callbacks);
    result.step = p.state.step;
    result.best_loss = p.state.best_step > 0 ? p.state.best_loss : std::nan("");
    result.best_step = p.state.best_step;
    result.checkpoint = p.last_checkpoint;
    return result;
}

}  // namespace aft
