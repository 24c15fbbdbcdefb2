// The trainer and its checkpoints: bits of a resumed run, kills, damage, values that are not finite.
#include <gtest/gtest.h>

#include <algorithm>

#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

#include "tests/runtime/test_files.h"
#include "aft/checkpoint.h"
#include "aft/safetensors.h"
#include "aft/threads.h"
#include "aft/training.h"
#include "models/training/checkpoint.h"
#include "runtime/files.h"

namespace aft {
namespace {

using test::TemporaryFolder;
namespace fs = std::filesystem;

// A small model on a text with a period, so that a few steps learn something.
struct RunSetup {
    TemporaryFolder folder;
    RunOptions options;

    RunSetup() {
        std::string text;
        while (text.size() < 4000) text += "the quick brown fox jumps over the lazy dog " + std::to_string(text.size() % 7) + ".\n";
        test::spill(folder / "text", text);
        options.model.mixer = MixerKind::simple;
        options.model.layers = 2, options.model.channels = 24, options.model.context = 20, options.model.dropout = 0.1;
        TrainingOptions &t = options.training;
        t.data = folder / "text", t.out = folder / "run";
        t.steps = 20, t.batch = 4, t.micro_batch = 3, t.warmup = 5, t.eval_every = 6, t.eval_batches = 2, t.save_every = 5, t.weight_decay = 0.1, t.seed = 9;
    }
    RunOptions to(const std::string &name) const {
        RunOptions changed = options;
        changed.training.out = folder / name;
        return changed;
    }
    std::string model_of(const std::string &name, int64_t step) const { return test::slurp(folder / (name + "/checkpoints/step-" + std::to_string(step) + "/model.safetensors")); }
};

TrainingResult train(const RunOptions &options, const TrainingCallbacks &callbacks = {}, const std::atomic<bool> *stop = nullptr) { return Trainer(options).run(callbacks, stop); }

// Stops behind the given step, as Ctrl-C does.
TrainingResult train_until(Trainer &trainer, int64_t step) {
    std::atomic<bool> stop = false;
    TrainingCallbacks callbacks;
    callbacks.progress = [&](const TrainingProgress &p) { stop = p.step >= step; };
    return trainer.run(callbacks, &stop);
}

TEST(Training, ResumedRunRepeatsTheBits) {
    const RunSetup setup;
    train(setup.to("whole"));
    for (const int64_t cut : {1, 10, 13}) {
        const std::string name = "cut" + std::to_string(cut);
        {
            Trainer trainer(setup.to(name));
            const TrainingResult result = train_until(trainer, cut);
            EXPECT_TRUE(result.interrupted);
            EXPECT_EQ(result.step, cut);
        }
        Trainer trainer = Trainer::resume(read_run_options(setup.folder / name));
        EXPECT_EQ(trainer.step(), cut);
        EXPECT_FALSE(trainer.run().interrupted);
        EXPECT_EQ(setup.model_of(name, 20), setup.model_of("whole", 20)) << cut;
        EXPECT_EQ(test::slurp(setup.folder / (name + "/best")), test::slurp(setup.folder / "whole/best"));
        EXPECT_TRUE(std::isnan(trainer.run().loss)) << "a loss without a step";
    }
}

TEST(Training, BitsDoNotDependOnThreads) {
    const RunSetup setup;
    const int before = thread_count();
    for (const int threads : {1, 2}) {
        set_thread_count(threads);
        train(setup.to("threads" + std::to_string(threads)));
    }
    set_thread_count(before);
    EXPECT_EQ(setup.model_of("threads1", 20), setup.model_of("threads2", 20));
}

TEST(Training, LearnsAndReports) {
    RunSetup setup;
    setup.options.training.steps = 120, setup.options.training.eval_every = 40, setup.options.training.learning_rate = 1e-2;
    double first = 0, last = 0;
    int evaluations = 0;
    TrainingCallbacks callbacks;
    callbacks.progress = [&](const TrainingProgress &p) {
        if (p.step == 1) first = p.loss;
        last = p.loss;
        EXPECT_TRUE(std::isfinite(p.gradient_norm) && p.tokens_per_second > 0 && p.remaining_seconds >= 0);
        const double tokens = double(setup.options.training.batch * setup.options.model.context);
        EXPECT_NEAR(p.remaining_seconds, double(p.steps - p.step) * tokens / p.tokens_per_second, 1e-9 * p.remaining_seconds) << "not at the present speed";
    };
    callbacks.evaluation = [&](const TrainingEvaluation &e) {
        evaluations++;
        EXPECT_GT(e.count, 0);
    };
    const TrainingResult result = train(setup.options, callbacks);
    EXPECT_NEAR(first, std::log(256.0), 0.1);  // at the start every byte is as likely
    EXPECT_LT(last, 2.5);
    EXPECT_EQ(evaluations, 3);
    EXPECT_LT(result.best_loss, 2.6);
    EXPECT_FALSE(result.interrupted);
    EXPECT_EQ(find_checkpoint(setup.options.training.out), setup.options.training.out + "/checkpoints/step-" + std::to_string(result.best_step));
}

TEST(Training, SpeedForgetsTheFirstStep) {  // which takes longer; metrics.jsonl has each step's own speed
    RunSetup setup;
    setup.options.training.steps = 2, setup.options.training.log_every = 1;
    double speed = 0;
    TrainingCallbacks callbacks;
    callbacks.progress = [&](const TrainingProgress &p) { speed = p.tokens_per_second; };
    train(setup.options, callbacks);
    const std::string metrics = test::slurp(setup.folder / "run/metrics.jsonl");
    const size_t second = metrics.find("{\"step\":2,\"split\":\"train\"");
    ASSERT_NE(second, std::string::npos);
    EXPECT_DOUBLE_EQ(speed, nlohmann::json::parse(metrics.substr(second, metrics.find('\n', second) - second)).at("tokens_per_second").get<double>());
}

TEST(Training, MicroBatchesAddUp) {
    RunSetup setup;
    setup.options.model.dropout = 0;
    setup.options.training.steps = 3, setup.options.training.batch = 6;
    setup.options.training.micro_batch = 6;
    train(setup.to("one"));
    setup.options.training.micro_batch = 2;
    train(setup.to("three"));
    const LanguageModel one = load_language_model(setup.folder / "one"), three = load_language_model(setup.folder / "three");
    // Equal up to the order of sums; AdamW's first steps divide a small gradient by itself, hence the room.
    double difference = 0;
    for (int64_t n = 0; n < one.parameters().values.elements(); n++) difference += std::abs(double(one.parameters().values.data()[n]) - three.parameters().values.data()[n]);
    EXPECT_LT(difference / double(one.parameters().values.elements()), 1e-5);
}

TEST(Training, MicroBatchFollowsFromTheMemoryLimit) {
    const RunSetup setup;
    const LanguageModel model(setup.options.model);
    TrainingOptions o = setup.options.training;
    o.batch = 100, o.micro_batch = 0;
    EXPECT_EQ(choose_micro_batch(model, o), 100);
    o.memory_limit = 1;
    EXPECT_EQ(choose_micro_batch(model, o), 1);
    const int64_t fixed = model.parameters().values.elements() * 16;
    o.memory_limit = fixed + model.training_bytes(60, 20);
    EXPECT_EQ(choose_micro_batch(model, o), 50);  // two passes of 60 and 40 are two of 50
    o.memory_limit = fixed + model.training_bytes(49, 20);
    EXPECT_EQ(choose_micro_batch(model, o), 34);
}

TEST(Training, CheckpointsThatStay) {
    RunSetup setup;
    setup.options.training.eval_every = 0, setup.options.training.save_every = 4, setup.options.training.keep = 2;
    train(setup.options);
    std::vector<std::string> names;
    for (const auto &entry : fs::directory_iterator(setup.options.training.out + "/checkpoints")) names.push_back(entry.path().filename());
    std::ranges::sort(names);
    EXPECT_EQ(names, (std::vector<std::string>{"step-16", "step-20"}));
    EXPECT_EQ(test::slurp(setup.options.training.out + "/latest"), "step-20\n");
    EXPECT_FALSE(fs::exists(setup.options.training.out + "/best"));
}

TEST(Training, StopsAtValuesThatAreNotFinite) {
    RunSetup setup;
    setup.options.training.eval_every = 0;
    for (const bool first : {true, false}) {
        Trainer trainer(setup.to(first ? "first" : "later"));
        TrainingCallbacks callbacks;
        const int64_t broken = first ? 1 : 8;
        const auto damage = [&] { trainer.model().parameters().value("blocks.1.mlp.up.weight").data()[3] = std::numeric_limits<float>::quiet_NaN(); };
        if (first) damage();
        callbacks.progress = [&](const TrainingProgress &p) {
            if (p.step == broken - 1) damage();
        };
        const std::string message = test::error_of([&] { trainer.run(callbacks); });
        EXPECT_TRUE(test::holds(message, "the loss of step " + std::to_string(broken) + " is not a number")) << message;
        EXPECT_TRUE(test::holds(message, "blocks.1.mlp.up.weight")) << message;
        EXPECT_TRUE(test::holds(message, first ? "No checkpoint was written yet" : "step-5'")) << message;
        EXPECT_EQ(trainer.step(), broken - 1);
    }
    EXPECT_EQ(test::slurp(setup.folder / "later/latest"), "step-5\n");
    EXPECT_EQ(Trainer::resume(read_run_options(setup.folder / "later")).step(), 5);
}

// What broke the run is in its newest checkpoint already: the message names the one before it, and resuming from there works.
TEST(Training, ABrokenCheckpointIsNotCalledGood) {
    RunSetup setup;
    setup.options.training.eval_every = 0;
    for (const int64_t broken : {5, 10}) {
        const std::string run = setup.folder / ("run" + std::to_string(broken));
        {
            Trainer trainer(setup.to("run" + std::to_string(broken)));
            TrainingCallbacks callbacks;
            callbacks.progress = [&](const TrainingProgress &p) {
                if (p.step == broken) trainer.model().parameters().values.fill(std::numeric_limits<float>::quiet_NaN());  // before it is saved
            };
            const std::string message = test::error_of([&] { trainer.run(callbacks); });
            EXPECT_TRUE(test::holds(message, "the loss of step " + std::to_string(broken + 1))) << message;
            EXPECT_TRUE(test::holds(message, broken == 5 ? "No good checkpoint is left: '" + run + "/checkpoints/step-5' leads" : "The last good checkpoint is '" + run + "/checkpoints/step-5' (")) << message;
        }
        EXPECT_ERROR(Trainer::resume(read_run_options(run)).run(), "No good checkpoint is left");
        if (broken == 5) continue;
        test::spill(run + "/latest", "step-5\n");
        EXPECT_EQ(Trainer::resume(read_run_options(run)).run().step, 20);
    }
}

TEST(Training, AFolderHoldsOneRunAtATime) {
    const RunSetup setup;
    {
        Trainer trainer(setup.options);
        EXPECT_ERROR(Trainer::resume(setup.options), "another program trains");
    }
    EXPECT_ERROR(Trainer(setup.options), "--resume");
    RunOptions changed = setup.options;
    changed.model.channels = 32;
    EXPECT_ERROR(Trainer::resume(changed), "'channels' is 32");
    EXPECT_ERROR(read_run_options(setup.folder / "missing"), "missing/config.toml");
}

TEST(Training, BadPlacesAndOptionsAreFoundBeforeTraining) {
    RunSetup setup;
    RunOptions options = setup.options;
    options.training.out = options.training.data + "/run";
    EXPECT_ERROR(Trainer{options}, "Not a directory");
    options = setup.options;
    options.model.context = 5000;
    EXPECT_ERROR(Trainer{options}, "has 4");
    EXPECT_FALSE(fs::exists(setup.options.training.out));
    options = setup.options;
    options.model.vocabulary = 100;
    EXPECT_ERROR(Trainer{options}, "'vocabulary' is 100");
}

TEST(Training, AKillAtAnyMomentLeavesARunThatResumes) {
    const RunSetup setup;
    train(setup.to("whole"));
    const std::string run = setup.folder / "run";
    {
        Trainer trainer(setup.options);
        train_until(trainer, 12);
    }
    // Killed before the first checkpoint of a run: from the start.
    fs::create_directories(setup.folder / "young");
    RunOptions young = setup.to("young");
    test::spill(setup.folder / "young/config.toml", to_toml(young));
    EXPECT_EQ(Trainer::resume(read_run_options(setup.folder / "young")).step(), 0);
    // While a checkpoint was written, while `latest` was, while an old checkpoint was deleted, between `latest` and `best`.
    const std::string mark = temporary_mark;
    fs::copy(run + "/checkpoints/step-12", run + "/checkpoints/step-15" + mark + "1-0", fs::copy_options::recursive);
    fs::resize_file(run + "/checkpoints/step-15" + mark + "1-0/model.safetensors", 1000);
    test::spill(run + "/latest" + mark + "1-1", "step-");
    fs::create_directories(run + "/checkpoints/step-1" + mark + "old");
    fs::remove(run + "/best");
    fs::create_directories(run + "/checkpoints/step-99x");
    Trainer trainer = Trainer::resume(read_run_options(run));
    EXPECT_EQ(trainer.step(), 12);
    EXPECT_TRUE(fs::exists(run + "/best"));
    EXPECT_FALSE(fs::exists(run + "/checkpoints/step-15" + mark + "1-0"));
    trainer.run();
    EXPECT_EQ(setup.model_of("run", 20), setup.model_of("whole", 20));
    EXPECT_TRUE(fs::exists(run + "/checkpoints/step-99x"));  // not ours
    // Metrics: one line per training step.
    const std::string metrics = test::slurp(run + "/metrics.jsonl");
    for (int64_t step = 1; step <= 20; step++) {
        const std::string line = "{\"step\":" + std::to_string(step) + ",\"split\":\"train\"";
        const size_t at = metrics.find(line);
        ASSERT_NE(at, std::string::npos) << step;
        EXPECT_EQ(metrics.find(line, at + 1), std::string::npos) << step;
    }
}

TEST(Checkpoints, DamageIsNamed) {
    RunSetup setup;
    setup.options.training.steps = 5, setup.options.training.eval_every = 0;
    train(setup.options);
    const std::string run = setup.options.training.out, folder = run + "/checkpoints/step-5";
    const std::string model = test::slurp(folder + "/model.safetensors"), state = test::slurp(folder + "/training_state.safetensors");
    for (const auto &[name, bytes] : {std::pair{"/model.safetensors", model}, std::pair{"/training_state.safetensors", state}}) {
        for (size_t length = 0; length < bytes.size(); length += length < 3000 ? 97 : 4001) {
            test::spill(folder + name, bytes.substr(0, length));
            EXPECT_ERROR(Trainer::resume(setup.options), name);
        }
        test::Dice dice{3};
        for (int trial = 0; trial < 60; trial++) {
            test::spill(folder + name, test::mutate(bytes, 2000, dice));
            test::error_of([&] { Trainer::resume(setup.options); });
        }
        test::spill(folder + name, bytes);
    }
    EXPECT_EQ(Trainer::resume(setup.options).step(), 5);
    const std::string config = test::slurp(folder + "/config.json");
    test::spill(folder + "/config.json", "{\"channels\": 24");
    EXPECT_ERROR(load_language_model(run), "config.json: no valid JSON");
    std::string wider = config;
    wider.replace(wider.find("\"layers\": 2"), 11, "\"layers\": 3");
    test::spill(folder + "/config.json", wider);
    EXPECT_ERROR(load_language_model(run), "'blocks.2.mixer.key.bias' is missing");
    EXPECT_ERROR(Trainer::resume(setup.options), "differs");
    test::spill(folder + "/config.json", config);
    test::spill(run + "/latest", "../../x\n");
    EXPECT_ERROR(load_language_model(run), "it must name a checkpoint");
    test::spill(run + "/latest", "step-4\n");
    EXPECT_ERROR(load_language_model(run), "names step-4, which is not there; there are: step-5");
    fs::remove(run + "/latest");
    load_language_model(run);
    EXPECT_ERROR(load_language_model(setup.folder / "none"), "there is no model folder");
    EXPECT_ERROR(load_language_model(setup.folder.path()), "holds no model");
}

TEST(Checkpoints, TensorsMustBeThoseOfTheConfig) {
    const TemporaryFolder folder;
    const RunSetup setup;
    LanguageModel model(setup.options.model);
    model.initialise(1);
    save_language_model(model, folder / "m");
    const LanguageModel back = load_language_model(folder / "m");
    for (const std::string &name : model.parameters().names()) {
        const Tensor a = model.parameters().value(name), b = back.parameters().value(name);
        EXPECT_TRUE(std::equal(a.data(), a.data() + a.elements(), b.data())) << name;
    }
    const TensorMap tensors = read_safetensors(folder / "m/model.safetensors");
    const auto expect = [&](TensorMap changed, const std::string &part) {
        write_safetensors(folder / "m/model.safetensors", changed);
        EXPECT_ERROR(load_language_model(folder / "m"), part);
    };
    TensorMap changed = tensors;
    changed["extra"] = Tensor({1});
    expect(changed, "'extra' is no parameter");
    changed = tensors;
    changed.erase("head.bias");
    expect(changed, "'head.bias' is missing");
    changed = tensors;
    changed["head.bias"] = Tensor({128, 2});
    expect(changed, "'head.bias' is F32 [128, 2]; config.json wants F32 [256]");
    changed["head.bias"] = Tensor({256}, DType::f64);
    expect(changed, "'head.bias' is F64");
}

}  // namespace
}  // namespace aft
