// The training loop: batches in micro-batches, AdamW, evaluation, checkpoints, metrics (include/aft/training.h).
#include <algorithm>
#include <chrono>
#include <cmath>
#include <filesystem>
#include <limits>
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

AdamWOptions adamw(const TrainingOptions &o) {
    AdamWOptions options;
    options.beta1 = o.beta1, options.beta2 = o.beta2, options.epsilon = o.epsilon, options.weight_decay = o.weight_decay, options.clip = o.clip;
    return options;
}

const RunOptions &checked(const RunOptions &options) {
    check(options.model);
    check(options.training);
    if (options.model.vocabulary < 256) throw Error("'vocabulary' is " + std::to_string(options.model.vocabulary) + "; text needs all 256 byte values");
    if (options.training.sample_every > 0 && options.model.vocabulary != 256) throw Error("'sample_every' needs a 'vocabulary' of 256");
    return options;
}

}  // namespace

int64_t choose_micro_batch(const LanguageModel &model, const TrainingOptions &o) {
    if (o.micro_batch > 0) return o.micro_batch;
    const int64_t T = model.config().context;
    const int64_t fixed = model.parameters().values.elements() * 4 * int64_t(sizeof(float));  // values, gradients, two moments
    const auto bytes = [&](int64_t sequences) { return fixed + model.training_bytes(sequences, T); };
    int64_t fits = 1, too_many = o.batch + 1;
    while (too_many - fits > 1) {
        const int64_t middle = (fits + too_many) / 2;
        (bytes(middle) <= o.memory_limit ? fits : too_many) = middle;
    }
    if (bytes(1) > o.memory_limit)
        log(LogLevel::warning, "one sequence needs about " + std::to_string(bytes(1) >> 20) + " MiB, more than the memory limit of " + std::to_string(o.memory_limit >> 20) + " MiB");
    const int64_t passes = (o.batch + fits - 1) / fits;
    return (o.batch + passes - 1) / passes;  // passes of nearly equal size
}

struct Trainer::Parts {
    // The order is that of the checks: options and data before the folder is touched, the folder before memory is taken.
    RunOptions options;
    ByteData data;
    RunFolder folder;
    LanguageModel model;
    AdamW optimizer;
    TrainingState state;
    std::unique_ptr<MetricsFile> metrics;
    int64_t micro_batch;
    std::string last_checkpoint, good_checkpoint;  // good: a finite step followed
    double started = 0;  // now() - state.seconds at the start of run()

    explicit Parts(const RunOptions &o)
        : options(checked(o)), data(o.training.files(), o.model.context), folder(o.training.out), model(o.model),
          optimizer(model.parameters().values.elements(), model.parameters().decayed, adamw(o.training)), micro_batch(choose_micro_batch(model, o.training)) {
        data.split(Split::train);
        if (o.training.eval_every > 0) data.split(Split::valid);
    }

    const TrainingOptions &training() const { return options.training; }
    int64_t context() const { return options.model.context; }

    void begin() {
        RunOptions kept = options;
        for (std::string *file : {&kept.training.data, &kept.training.valid, &kept.training.test})
            if (!file->empty()) *file = std::filesystem::absolute(*file).string();  // a run is resumed from any folder
        write_file_atomic(folder.path() + "/config.toml", to_toml(kept));
        metrics = std::make_unique<MetricsFile>(folder.path() + "/metrics.jsonl", state.step);
    }

    // Gradients of one batch; returns the mean loss in nats.
    double accumulate(int64_t step) {
        const int64_t B = training().batch;
        const double count = double(B * context());
        double sum = 0;
        for (int64_t first = 0; first < B; first += micro_batch) {
            const Batch batch = batch_of(step, first);
            sum += model.accumulate_gradient(batch.tokens, batch.targets, 1 / count, {training().seed, step, first});
        }
        return sum / count;
    }

    Batch batch_of(int64_t step, int64_t first) const {
        const int64_t sequences = std::min(micro_batch, training().batch - first);
        return training_batch(data.split(Split::train), context(), training().seed, step, first, sequences);
    }

    // The newest checkpoint may hold the parameters that led to a value that is not finite.
    std::string where_to_return() const {
        if (last_checkpoint.empty()) return "No checkpoint was written yet";
        if (good_checkpoint == last_checkpoint) return "The last good checkpoint is '" + good_checkpoint + "'";
        if (good_checkpoint.empty() || !std::filesystem::exists(good_checkpoint)) return "No good checkpoint is left: '" + last_checkpoint + "' leads to it";
        return "The last good checkpoint is '" + good_checkpoint + "' (the one behind it leads here; to resume from the good one, write its name, step-N, into '" + folder.path() +
               "/latest')";
    }

    [[noreturn]] void not_finite(int64_t step, const char *what, double value) {
        std::string culprit;
        for (int64_t first = 0; first < training().batch && culprit.empty(); first += micro_batch) {
            const Batch batch = batch_of(step, first);
            culprit = model.first_non_finite(batch.tokens, batch.targets, {training().seed, step, first});
        }
        throw Error(std::string("the ") + what + " of step " + std::to_string(step) + " is " + (std::isnan(value) ? "not a number" : "infinite") +
                    (culprit.empty() ? "" : "; the first value that is not finite: " + culprit) + ". " + where_to_return() +
                    "; try a smaller --learning-rate, a longer --warmup or a smaller --clip");
    }

    // One step; returns the loss and sets the norm of the gradient.
    double train_step(int64_t step, double &gradient_norm) {
        model.parameters().gradients.fill(0);
        const double loss = accumulate(step);
        if (!std::isfinite(loss)) not_finite(step, "loss", loss);
        gradient_norm = optimizer.step(model.parameters().values, model.parameters().gradients, learning_rate_at(training(), step), step);
        if (!std::isfinite(gradient_norm)) not_finite(step, "gradient", gradient_norm);
        good_checkpoint = last_checkpoint;
        state.step = step;
        state.sequences += training().batch;
        return loss;
    }

    TrainingEvaluation evaluate() {
        const EvaluationWindows windows(data.split(Split::valid), context(), context());
        const std::vector<int64_t> chosen = windows.choose(training().eval_batches * training().batch);
        TrainingEvaluation result{state.step, 0, 0, 0, false};
        for (size_t first = 0; first < chosen.size(); first += size_t(micro_batch)) {
            const Batch batch = windows.batch(std::span(chosen).subspan(first, std::min(size_t(micro_batch), chosen.size() - first)));
            const Tensor losses = model.losses(batch.tokens, batch.targets);
            for (int64_t n = 0; n < losses.elements(); n++)
                if (batch.targets.data<int32_t>()[n] >= 0) result.loss += losses.data()[n], result.count++;
        }
        result.loss /= double(result.count);
        result.bits_per_character = result.loss / std::numbers::ln2;
        result.best = result.loss < state.best_loss;
        if (result.best) state.best_loss = result.loss, state.best_step = state.step;
        return result;
    }

    void save(bool best) {
        state.seed = training().seed;
        state.seconds = now() - started;
        state.first_moment = optimizer.first_moment();
        state.second_moment = optimizer.second_moment();
        last_checkpoint = folder.save(model, state, best, training().keep);
    }

    std::string sample() {
        std::string text;
        SamplingOptions sampling;
        sampling.temperature = 0.8;
        sampling.seed = training().seed + uint64_t(state.step);
        const std::string prompt = training().prompt.substr(0, size_t(context()));
        generate(model, prompt, training().sample_bytes, sampling, [&](uint8_t byte) { return text += char(byte), true; });
        return text;
    }

    MetricsLine line(const char *split, double loss) const {
        MetricsLine line;
        line.step = state.step, line.split = split, line.loss = loss, line.bits_per_character = loss / std::numbers::ln2;
        line.memory_bytes = peak_memory_bytes(), line.seconds = now() - started;
        return line;
    }
};

Trainer::Trainer(std::unique_ptr<Parts> parts) : parts_(std::move(parts)) {}
Trainer::~Trainer() = default;
Trainer::Trainer(Trainer &&) noexcept = default;

Trainer::Trainer(const RunOptions &options) : parts_(std::make_unique<Parts>(options)) {
    Parts &p = *parts_;
    if (p.folder.holds_run())
        throw Error("'" + p.folder.path() + "' holds a run already: continue it with --resume " + p.folder.path() + ", or choose another --out");
    p.model.initialise(options.training.seed);
    p.begin();
}

Trainer Trainer::resume(const RunOptions &options) {
    const RunOptions before = read_run_options(options.training.out);
    for (const RunKey &key : run_keys())
        if (key.group == "Model" && get_key(before, key.name) != get_key(options, key.name))
            throw Error("'" + key.name + "' is " + get_key(options, key.name) + "; the run in '" + options.training.out + "' has " + get_key(before, key.name) +
                        ", and a model keeps its shape when it is resumed");
    auto parts = std::make_unique<Parts>(options);
    Parts &p = *parts;
    const std::string folder = p.folder.latest();
    if (folder.empty()) {  // killed before the first checkpoint: from the start
        p.model.initialise(options.training.seed);
    } else {
        const std::string path = folder + "/config.json";
        if (config_from_json(read_file(path, 1 << 20), path) != options.model) throw Error("'" + path + "' differs from the run's config.toml");
        load_parameters(p.model, folder);
        p.state = load_training_state(p.model, folder);
        p.optimizer.first_moment().copy_from(p.state.first_moment);
        p.optimizer.second_moment().copy_from(p.state.second_moment);
        p.last_checkpoint = folder;
        p.folder.repair_best(p.state.best_step);
    }
    p.begin();
    return Trainer(std::move(parts));
}

const RunOptions &Trainer::options() const { return parts_->options; }
LanguageModel &Trainer::model() { return parts_->model; }
const ByteData &Trainer::data() const { return parts_->data; }
int64_t Trainer::step() const { return parts_->state.step; }
int64_t Trainer::micro_batch() const { return parts_->micro_batch; }

TrainingResult Trainer::run(const TrainingCallbacks &callbacks, const std::atomic<bool> *stop) {
    Parts &p = *parts_;
    const TrainingOptions &o = p.training();
    p.started = now() - p.state.seconds;
    TrainingResult result;
    const int64_t first_step = p.state.step;
    double step_seconds = 0;  // decaying mean, without evaluations and checkpoints
    const auto asked_to_stop = [&] { return stop && stop->load(std::memory_order_relaxed); };

    while (p.state.step < o.steps && !asked_to_stop()) {
        const int64_t step = p.state.step + 1;
        const double begin = now();
        double gradient_norm = 0;
        result.loss = p.train_step(step, gradient_norm);
        const double seconds = now() - begin;
        // A first step, whose memory is new, takes twice as long: it counts only until there is a second.
        step_seconds = step - first_step > 2 ? 0.9 * step_seconds + 0.1 * seconds : seconds;

        const double tokens = double(o.batch * p.context()), elapsed = now() - p.started;
        const TrainingProgress progress{step, o.steps, result.loss, result.loss / std::numbers::ln2, learning_rate_at(o, step), gradient_norm, tokens / step_seconds,
                                        elapsed, step_seconds * double(o.steps - step)};
        if (step % o.log_every == 0 || step == o.steps) {
            MetricsLine line = p.line("train", result.loss);
            line.learning_rate = progress.learning_rate, line.gradient_norm = gradient_norm, line.tokens_per_second = tokens / seconds;
            if (callbacks.peak_flops > 0) line.model_flops_utilisation = 3 * flops_per_token(p.model.config()) * tokens / seconds / callbacks.peak_flops;
            p.metrics->append(line);
        }
        if (callbacks.progress) callbacks.progress(progress);

        const bool last = step == o.steps || asked_to_stop();
        bool best = false;
        if (o.eval_every > 0 && (step % o.eval_every == 0 || step == o.steps)) {
            const TrainingEvaluation evaluation = p.evaluate();
            if (!std::isfinite(evaluation.loss)) p.not_finite(step, "validation loss", evaluation.loss);
            best = evaluation.best;
            p.metrics->append(p.line("valid", evaluation.loss));
            if (callbacks.evaluation) callbacks.evaluation(evaluation);
        }
        if (o.sample_every > 0 && step % o.sample_every == 0 && callbacks.sample) callbacks.sample(step, p.sample());
        if (last || best || (o.save_every > 0 && step % o.save_every == 0)) {
            p.save(best);
            if (callbacks.checkpoint) callbacks.checkpoint(step, p.last_checkpoint);
        }
    }
    // A stop that came during the evaluation of a step without a checkpoint, or before the first step of a new run.
    if (asked_to_stop() && p.last_checkpoint != p.folder.path() + "/checkpoints/step-" + std::to_string(p.state.step)) {
        p.save(false);
        if (callbacks.checkpoint) callbacks.checkpoint(p.state.step, p.last_checkpoint);
    }
    result.step = p.state.step;
    result.best_step = p.state.best_step;
    result.best_loss = std::isfinite(p.state.best_loss) ? p.state.best_loss : std::numeric_limits<double>::quiet_NaN();
    result.interrupted = p.state.step < o.steps;
    result.checkpoint = p.last_checkpoint;
    return result;
}

}  // namespace aft
