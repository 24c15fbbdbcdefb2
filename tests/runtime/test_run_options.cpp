// Keys of a run, TOML, learning rates, metrics, recipes.
#include <cmath>

#include "aft/training.h"
#include "models/training/metrics.h"
#include "runtime/files.h"
#include "runtime/toml.h"
#include "test_files.h"

namespace aft {
namespace {

using test::TemporaryFolder;

TEST(Toml, ReadsWhatSettingsNeed) {
    const auto items = parse_toml("# comment\n\n a = 1_000 # behind\nb-c = \"x # \\\"y\\\"\\n\\\\\"\r\nd='C:\\x'\nf = -3e-3\ng = true", "x.toml");
    ASSERT_EQ(items.size(), 5u);
    EXPECT_EQ(items[0].text, "1000");
    EXPECT_EQ(items[0].line, 3);
    EXPECT_EQ(items[1].key, "b-c");
    EXPECT_EQ(items[1].text, "x # \"y\"\n\\");
    EXPECT_EQ(items[2].text, "C:\\x");
    EXPECT_TRUE(items[2].quoted && !items[3].quoted);
    EXPECT_EQ(items[3].text, "-3e-3");
    EXPECT_EQ(items[4].text, "true");
}

TEST(Toml, RefusesTheRestWithTheLine) {
    for (const char *text : {"a = 1\n[table]", "a = 1\nb = [1, 2]", "a = 1\nb =", "a = 1\nb", "a = 1\n= 2", "a = 1\nb = 1 2", "a = 1\nb = \"x", "a = 1\nb = 'x", "a = 1\na = 2",
                             "a = 1\nb = \"\\q\"", "a = 1\nb = \"\\u00ff\"", "a = 1\nb = \"\\u00\"", "a = 1\nb = \"\\"})
        EXPECT_ERROR(parse_toml(text, "x.toml"), "x.toml: line 2");
}

TEST(Toml, QuotedTextComesBack) {
    std::string all;
    for (int c = 0; c < 256; c++) all += char(c);
    EXPECT_EQ(parse_toml("a = " + toml_quoted(all), "x")[0].text, all);
}

TEST(RunOptions, RoundTrip) {
    RunOptions options;
    int number = 3;
    for (const RunKey &key : run_keys()) {
        if (key.text) continue;
        const std::string before = get_key(options, key.name);
        set_key(options, key.name, before == "true" ? "false" : before == "false" ? "true" : std::to_string(number++));
    }
    set_key(options, "mixer", "conv");
    set_key(options, "schedule", "cosine");
    set_key(options, "memory_limit", "512M");
    set_key(options, "learning_rate", "0.00012345678901234567");
    set_key(options, "prompt", "\"quoted\"\n\xff");
    set_key(options, "data", "a b/'c'.txt");
    RunOptions back;
    read_toml(back, to_toml(options), "config.toml");
    for (const RunKey &key : run_keys()) EXPECT_EQ(get_key(back, key.name), get_key(options, key.name)) << key.name;
    EXPECT_EQ(back.model, options.model);
    EXPECT_EQ(back.training.memory_limit, 512 << 20);
    EXPECT_EQ(back.training.learning_rate, 0.00012345678901234567);
}

TEST(RunOptions, ErrorsNameTheKey) {
    const auto expect = [](const std::string &text, const std::string &part) {
        RunOptions options;
        EXPECT_ERROR(read_toml(options, "steps = 3\n" + text, "r.toml"), part);
        EXPECT_ERROR(read_toml(options, "steps = 3\n" + text, "r.toml"), "r.toml: line 2");
    };
    expect("learning-rte = 1", "unknown key 'learning-rte'");
    expect("batch = \"3\"", "'batch' must be a number");
    expect("batch = 3.5", "'batch' is '3.5'; it must be an integer");
    expect("batch = 99999999999999999999", "'batch'");
    expect("learning_rate = fast", "'learning_rate' is 'fast'");
    expect("learning_rate = nan", "'learning_rate'");
    expect("learning_rate = inf", "'learning_rate'");
    expect("linear_bias = 1", "'linear_bias'");
    expect("data = 3", "'data' must be a string");
    expect("schedule = \"step\"", "'schedule': there is no schedule 'step'");
    expect("mixer = \"softmax\"", "'mixer': there is no mixer 'softmax'");
    expect("memory_limit = \"4X\"", "'memory_limit'");
    expect("memory_limit = \"-1G\"", "'memory_limit'");
    expect("seed = -1", "'seed'");
}

TEST(RunOptions, CheckNamesTheKey) {
    const auto expect = [](const char *key, const char *value) {
        RunOptions options;
        options.training.data = "x", options.training.out = "y";
        check(options.training);
        set_key(options, key, value);
        EXPECT_ERROR(check(options.training), std::string("'") + key + "'");
    };
    for (const char *key : {"steps", "batch", "keep", "log_every", "sample_bytes", "learning_rate", "epsilon"}) expect(key, "0");
    for (const char *key : {"micro_batch", "warmup", "eval_every", "eval_batches", "save_every", "sample_every", "clip", "weight_decay", "beta1", "min_learning_rate"}) expect(key, "-1");
    expect("beta2", "1");
    expect("micro_batch", "33");
    expect("min_learning_rate", "1");
    expect("data", "");
    expect("out", "");
}

TEST(RunOptions, FuzzReadsOrThrows) {
    const std::string text = to_toml(RunOptions());
    test::Dice dice{11};
    for (int trial = 0; trial < 1000; trial++) {
        RunOptions options;
        const std::string mutant = test::mutate(text, text.size(), dice);
        test::error_of([&] {
            read_toml(options, mutant, "x");
            check(options.model);
            check(options.training);
        });
    }
}

TEST(LearningRate, Schedules) {
    TrainingOptions o;
    o.learning_rate = 2, o.warmup = 100, o.steps = 1100, o.min_learning_rate = 0.5;
    for (const Schedule schedule : {Schedule::inverse_sqrt, Schedule::cosine, Schedule::linear, Schedule::constant}) {
        o.schedule = schedule;
        EXPECT_DOUBLE_EQ(learning_rate_at(o, 1), 0.02);
        EXPECT_DOUBLE_EQ(learning_rate_at(o, 50), 1);
        EXPECT_DOUBLE_EQ(learning_rate_at(o, 100), 2);
    }
    const auto at = [&](Schedule schedule, int64_t step) {
        o.schedule = schedule;
        return learning_rate_at(o, step);
    };
    EXPECT_DOUBLE_EQ(at(Schedule::inverse_sqrt, 400), 1);
    EXPECT_DOUBLE_EQ(at(Schedule::inverse_sqrt, 1000000), 0.5);
    EXPECT_DOUBLE_EQ(at(Schedule::cosine, 600), 1.25);
    EXPECT_DOUBLE_EQ(at(Schedule::cosine, 1100), 0.5);
    EXPECT_DOUBLE_EQ(at(Schedule::linear, 350), 1.625);
    EXPECT_DOUBLE_EQ(at(Schedule::linear, 1100), 0.5);
    EXPECT_DOUBLE_EQ(at(Schedule::constant, 1100), 2);
    o.warmup = 0, o.min_learning_rate = 0;
    EXPECT_DOUBLE_EQ(at(Schedule::inverse_sqrt, 4), 1);  // Vaswani's rule with a warm-up of one step
    EXPECT_DOUBLE_EQ(at(Schedule::inverse_sqrt, 1), 2);
}

TEST(Recipes, AreReadAndHaveTheirSizes) {
    const auto parameters = [](const std::string &name) {
        RunOptions options;
        const std::string path = std::string(AFT_SOURCE_DIR) + "/recipes/" + name + ".toml";
        read_toml(options, read_file(path, 1 << 20), path);
        options.training.data = "x", options.training.out = "y";
        check(options.training);
        check(options.model);
        return parameter_count(options.model);
    };
    EXPECT_EQ(parameters("enwik8-local-24x256"), 30'352'128);
    EXPECT_EQ(parameters("enwik8-local-12x512"), 41'755'904);
    EXPECT_EQ(parameters("enwik8-simple-24x256"), 17'769'216);
    EXPECT_EQ(parameters("enwik8-full-24x256"), 30'352'128);
    EXPECT_EQ(parameters("tiny-local"), 956'928);
    EXPECT_EQ(parameters("tiny-full"), 956'928);
    EXPECT_EQ(parameters("tiny-conv"), 770'240);
    EXPECT_EQ(parameters("tiny-simple"), 825'856);
    EXPECT_EQ(parameters("small-local"), 5'862'624);
    EXPECT_LT(parameters("demo-local"), 1'000'000);
}

TEST(Metrics, LinesBehindTheStepAreDropped) {
    const TemporaryFolder folder;
    const std::string path = folder / "metrics.jsonl";
    {
        MetricsFile file(path, 0);
        for (int64_t step = 1; step <= 5; step++) {
            MetricsLine line;
            line.step = step, line.split = "train", line.loss = 1.5, line.bits_per_character = NAN;
            if (step == 2) line.gradient_norm = 3;
            file.append(line);
        }
    }
    const std::string whole = test::slurp(path);
    EXPECT_EQ(whole.substr(0, whole.find('\n')), R"({"step":1,"split":"train","loss":1.5,"memory_bytes":0,"seconds":0.0})");
    test::spill(path, whole + "{\"step\":3,\"spl");  // a line that a kill cut
    { MetricsFile file(path, 3); }
    EXPECT_EQ(test::slurp(path), whole.substr(0, whole.find("{\"step\":4")));
    { MetricsFile file(path, 0); }
    EXPECT_EQ(test::slurp(path), "");
    EXPECT_ERROR(MetricsFile(folder / "missing/metrics.jsonl", 0), "missing/metrics.jsonl");
}

}  // namespace
}  // namespace aft
