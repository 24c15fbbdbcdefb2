// Training a language model: the keys of a run, the learning rate, the trainer.
#pragma once
#include <atomic>
#include <cstdint>
#include <functional>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "aft/config.h"
#include "aft/data.h"
#include "aft/language_model.h"

namespace aft {

enum class Schedule { inverse_sqrt, cosine, linear, constant };

/// "inverse_sqrt", "cosine", "linear", "constant"; the reverse throws Error for another name.
const char *name_of(Schedule schedule);
Schedule schedule_of(const std::string &name);

struct TrainingOptions {
    std::string data, valid, test;  ///< files (DataFiles)
    std::string out;                ///< the run's folder
    int64_t steps = 1000;
    int64_t batch = 32;             ///< sequences per step
    int64_t micro_batch = 0;        ///< sequences per pass; 0 = as many as the memory limit allows
    int64_t memory_limit = int64_t(4) << 30;  ///< bytes for parameters, moments and activations
    double learning_rate = 3e-3;
    Schedule schedule = Schedule::inverse_sqrt;
    int64_t warmup = 100;
    double min_learning_rate = 0;
    double weight_decay = 0.5;
    double beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8;
    double clip = 1.0;              ///< largest norm of the gradient; 0 = off
    uint64_t seed = 0;
    int64_t eval_every = 250;       ///< steps between evaluations; 0 = never
    int64_t eval_batches = 20;      ///< batches per evaluation; 0 = the whole split
    int64_t save_every = 500;       ///< steps between checkpoints; 0 = at the end only
    int64_t keep = 3;               ///< newest checkpoints that stay, besides the best
    int64_t log_every = 1;          ///< steps between lines of metrics.jsonl
    int64_t sample_every = 0;       ///< steps between samples of text; 0 = never
    int64_t sample_bytes = 200;
    std::string prompt = "\n";      ///< what samples continue

    DataFiles files() const { return {data, valid, test}; }
};

/// Throws an Error that names the key whose value is impossible.
void check(const TrainingOptions &options);

/// The learning rate of a step, counted from 1. It rises linearly over `warmup` steps to learning_rate; then
///   inverse_sqrt: learning_rate sqrt(warmup / step)  (Vaswani et al. 2017), not below min_learning_rate
///   cosine, linear: falls to min_learning_rate at the last step;   constant: stays.
double learning_rate_at(const TrainingOptions &options, int64_t step);

/// Every key of a run: what config.toml holds.
struct RunOptions {
    ModelConfig model;
    TrainingOptions training;
};

struct RunKey {
    std::string name;   ///< as in TOML; the flag is --name with '-' for '_'
    std::string group;  ///< "Model", "Data", "Optimisation", "Run"
    std::string help;
    bool text = false;  ///< a string in TOML
};
const std::vector<RunKey> &run_keys();

/// Sets one key from text. Throws an Error that names the key when it is unknown or the text does not fit its type.
void set_key(RunOptions &options, const std::string &name, const std::string &text);
std::string get_key(const RunOptions &options, const std::string &name);

/// Sets the keys of a TOML text; `origin` names it in messages. Throws an Error that names the line.
void read_toml(RunOptions &options, const std::string &text, const std::string &origin);
/// All keys, grouped.
std::string to_toml(const RunOptions &options);

/// The keys of the run in a folder (its config.toml), for resuming it. Throws Error when there is none or it is damaged.
RunOptions read_run_options(const std::string &folder);

struct TrainingProgress {
    int64_t step, steps;
    double loss;  ///< nats per byte, of the step's batch
    double bits_per_character, learning_rate, gradient_norm, tokens_per_second;
    double seconds;            ///< of training so far, over all resumed parts
    double remaining_seconds;  ///< at the present speed
};

struct TrainingEvaluation {
    int64_t step;
    double loss, bits_per_character;
    int64_t count;  ///< predictions
    bool best;      ///< better than every one before
};

/// Called on the thread that trains; empty ones are skipped.
struct TrainingCallbacks {
    std::function<void(const TrainingProgress &)> progress;  ///< after every step
    std::function<void(const TrainingEvaluation &)> evaluation;
    std::function<void(int64_t step, const std::string &text)> sample;
    std::function<void(int64_t step, const std::string &folder)> checkpoint;
    double peak_flops = 0;  ///< floating-point operations per second of the cores in use: metrics say which share a step uses; 0: unknown
};

struct TrainingResult {
    int64_t step = 0;
    double loss = std::numeric_limits<double>::quiet_NaN();  ///< of the last step; NaN when none was left to do
    double best_loss = 0;      ///< on the validation split; NaN when there was no evaluation
    int64_t best_step = 0;
    bool interrupted = false;  ///< the stop flag was seen; the checkpoint is written
    std::string checkpoint;    ///< folder of the last checkpoint
};

/// One training run in a folder. A step's result depends on (keys, data, step) alone, so a resumed run repeats the bits of
/// an uninterrupted one. Not thread-safe.
class Trainer {
public:
    /// A new run: the folder must be writable and must not hold a run yet. Throws Error for impossible options or data.
    explicit Trainer(const RunOptions &options);
    /// Continues the run in options.training.out from its latest checkpoint; model keys must be those of the run.
    static Trainer resume(const RunOptions &options);
    ~Trainer();
    Trainer(Trainer &&) noexcept;

    const RunOptions &options() const;
    LanguageModel &model();
    const ByteData &data() const;
    int64_t step() const;         ///< steps done
    int64_t micro_batch() const;  ///< sequences per pass

    /// Trains to options.steps, or until *stop becomes true: then the step is finished, a checkpoint written, and the call
    /// returns. A loss or gradient that is not finite, or a folder that cannot be written, is an Error; the last
    /// checkpoint stays as it is.
    TrainingResult run(const TrainingCallbacks &callbacks = {}, const std::atomic<bool> *stop = nullptr);

private:
    struct Parts;
    explicit Trainer(std::unique_ptr<Parts> parts);
    std::unique_ptr<Parts> parts_;
};

/// Sequences per pass that fit the memory limit: from the shape alone, never from threads; at least 1.
int64_t choose_micro_batch(const LanguageModel &model, const TrainingOptions &options);

}  // namespace aft
