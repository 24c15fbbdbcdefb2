// aft train and aft eval as a user calls them.
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cmath>
#include <iterator>
#include <map>
#include <nlohmann/json.hpp>
#include <thread>

#include "tests/tools/program.h"

namespace aft::test {
namespace {

using nlohmann::json;

struct SmallRun {
    TemporaryFolder folder;
    std::string text = folder / "text", keys;

    SmallRun() {
        std::ofstream out(text);
        for (int line = 0; line < 400; line++) out << "line " << line << " of a text with a pattern\n";
        keys = " --mixer simple --layers 1 --channels 16 --context 24 --batch 4 --warmup 5 --eval-every 5 --eval-batches 1 --save-every 5 --data " + text;
    }
    std::string run(const std::string &name) const { return folder / name; }
    std::string model_of(const std::string &name, int step) const { return slurp(run(name) + "/checkpoints/step-" + std::to_string(step) + "/model.safetensors"); }
};

// Starts aft and returns its process; output goes nowhere.
pid_t start(const std::vector<std::string> &words) {
    const pid_t child = fork();
    if (child == 0) {
        std::vector<char *> argv;
        for (const std::string &word : words) argv.push_back(const_cast<char *>(word.c_str()));
        argv.push_back(nullptr);
        (void)!freopen("/dev/null", "w", stdout);
        (void)!freopen("/dev/null", "w", stderr);
        execv(AFT_PROGRAM, argv.data());
        _exit(127);
    }
    return child;
}

std::vector<std::string> words_of(const std::string &text) {
    std::istringstream in(text);
    return {std::istream_iterator<std::string>(in), {}};
}

pid_t start_long_run(const SmallRun &setup, const std::string &name) {
    return start(words_of("aft train --steps 100000" + setup.keys + " --eval-every 0 --out " + setup.run(name)));
}

// The step of the newest checkpoint as soon as it is `step` or later; what it is after half a minute otherwise.
int wait_for_checkpoint(const std::string &run, int step) {
    int latest = 0;
    for (int wait = 0; wait < 3000 && latest < step; wait++) {
        std::this_thread::sleep_for(std::chrono::milliseconds(10));
        const std::string name = slurp(run + "/latest");
        if (name.starts_with("step-")) latest = std::stoi(name.substr(5));
    }
    return latest;
}

// Sends the signal and returns how the program ended.
int end(pid_t child, int signal) {
    kill(child, signal);
    int status = 0;
    waitpid(child, &status, 0);
    return status;
}

int interrupt_at_step_10(const SmallRun &setup, const std::string &name, int signal) {
    const pid_t child = start_long_run(setup, name);
    wait_for_checkpoint(setup.run(name), 10);
    return end(child, signal);
}

TEST(Train, KilledAndResumedRunRepeatsTheBits) {
    const SmallRun setup;
    const std::string keys = setup.keys + " --eval-every 0 --keep 1000000";
    const int status = interrupt_at_step_10(setup, "killed", SIGKILL);
    ASSERT_TRUE(WIFSIGNALED(status));
    std::string latest = slurp(setup.run("killed") + "/latest");
    ASSERT_TRUE(latest.starts_with("step-")) << latest;
    const int reached = std::stoi(latest.substr(5)), steps = reached + 10;
    Outcome resumed = run_aft("train --resume " + setup.run("killed") + " --steps " + std::to_string(steps));
    ASSERT_EQ(resumed.code, 0) << resumed.err;
    EXPECT_TRUE(holds(resumed.err, "resumed at step " + std::to_string(reached))) << resumed.err;
    const Outcome done = run_aft("train --resume " + setup.run("killed"));
    EXPECT_TRUE(done.code == 0 && holds(done.err, "nothing is left to do")) << done.err;
    const Outcome whole = run_aft("train --steps " + std::to_string(steps) + keys + " --out " + setup.run("whole"));
    ASSERT_EQ(whole.code, 0) << whole.err;
    EXPECT_FALSE(setup.model_of("whole", steps).empty());
    EXPECT_EQ(setup.model_of("killed", steps), setup.model_of("whole", steps));
}

TEST(Train, CtrlCSavesAndStops) {
    const SmallRun setup;
    const int status = interrupt_at_step_10(setup, "run", SIGINT);
    ASSERT_TRUE(WIFEXITED(status));
    EXPECT_EQ(WEXITSTATUS(status), 0);
    const std::string metrics = slurp(setup.run("run") + "/metrics.jsonl"), latest = slurp(setup.run("run") + "/latest");
    const size_t last = metrics.rfind("{\"step\":");
    ASSERT_NE(last, std::string::npos);
    EXPECT_EQ("step-" + std::to_string(json::parse(metrics.substr(last))["step"].get<int>()) + "\n", latest) << "the last step was not saved";
}

TEST(Train, UnderNohupAHangupIsNoEnd) {
    const SmallRun setup;
    const auto before = signal(SIGHUP, SIG_IGN);  // the program inherits it, as under nohup
    const pid_t child = start_long_run(setup, "run");
    signal(SIGHUP, before);
    const int reached = wait_for_checkpoint(setup.run("run"), 10);
    kill(child, SIGHUP);
    EXPECT_GE(wait_for_checkpoint(setup.run("run"), reached + 20), reached + 20);
    const int status = end(child, SIGTERM);
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
}

TEST(Train, AFolderIsEnoughToResumeFromAnywhere) {
    const SmallRun setup;
    std::string keys = setup.keys;
    keys.replace(keys.find(setup.text), setup.text.size(), "text");  // where the text lies is the working folder
    ASSERT_EQ(std::system(("cd " + setup.folder.path() + " && " + AFT_PROGRAM + " train --quiet --steps 5" + keys + " --out run >/dev/null").c_str()), 0);
    const Outcome resumed = run_aft("train --steps 6 --resume " + setup.run("run")), valid = run_aft("eval --model " + setup.run("run"));
    EXPECT_EQ(resumed.code, 0) << resumed.err;
    EXPECT_EQ(valid.code, 0) << valid.err;
}

TEST(Train, AReaderThatGoesAwayEndsNoRun) {
    const SmallRun setup;
    const std::string command = std::string(AFT_PROGRAM) + " train --steps 20 --verbose" + setup.keys + " --out " + setup.run("run") + " 2>&1 | true";
    ASSERT_EQ(std::system(command.c_str()), 0);
    EXPECT_GE(wait_for_checkpoint(setup.run("run"), 20), 20);
}

TEST(Train, TrainsEvaluatesAndReports) {
    const SmallRun setup;
    const Outcome trained = run_aft("train --json --quiet --steps 40 --learning-rate 0.01 --seed 3" + setup.keys + " --out " + setup.run("run"));
    ASSERT_EQ(trained.code, 0) << trained.err;
    EXPECT_EQ(trained.err, "");
    const json result = json::parse(trained.out);
    EXPECT_EQ(result["step"], 40);
    EXPECT_FALSE(result["interrupted"]);
    EXPECT_TRUE(holds(slurp(setup.run("run") + "/config.toml"), "seed = 3\n"));

    const Outcome valid = run_aft("eval --json --model " + setup.run("run") + " --data " + setup.text + " --split valid --stride 8");
    ASSERT_EQ(valid.code, 0) << valid.err;
    const json score = json::parse(valid.out);
    for (const char *key : {"loss", "bits_per_character", "top1", "top5", "count", "context", "stride"}) EXPECT_TRUE(score.contains(key)) << key;
    EXPECT_EQ(score["count"].get<int64_t>(), int64_t(std::filesystem::file_size(setup.text)) / 100 * 5 + int64_t(std::filesystem::file_size(setup.text)) % 100 * 5 / 100 - 1);
    EXPECT_NEAR(score["bits_per_character"].get<double>(), score["loss"].get<double>() / std::log(2.0), 1e-12);
    EXPECT_LE(score["top1"], score["top5"]);
    EXPECT_EQ(score["context"], 24);
    EXPECT_EQ(score["stride"], 8);

    const Outcome again = run_aft("train --steps 40" + setup.keys + " --out " + setup.run("run"));
    EXPECT_EQ(again.code, 1);
    EXPECT_TRUE(holds(again.err, "--resume")) << again.err;
}

TEST(Train, ListsThePresets) {
    const Outcome text = run_aft("train --list");
    EXPECT_EQ(text.code, 0) << text.err;
    const Outcome list = run_aft("train --list --json");
    ASSERT_EQ(list.code, 0) << list.err;
    std::map<std::string, int64_t> sizes;
    for (const json &preset : json::parse(list.out)) sizes[preset["name"]] = preset["parameters"];
    for (const char *name : {"tiny-local", "tiny-simple", "tiny-full", "tiny-conv", "small-local", "demo-local", "enwik8-full-24x256"}) EXPECT_TRUE(sizes.contains(name)) << name;
    EXPECT_EQ(sizes["enwik8-local-24x256"], 30'352'128);
}

TEST(Train, BadInputIsNamed) {
    const SmallRun setup;
    const auto expect = [&](const std::string &arguments, int code, const std::string &part) {
        const Outcome outcome = run_aft("train " + arguments);
        EXPECT_EQ(outcome.code, code) << arguments << "\n" << outcome.err;
        EXPECT_TRUE(holds(outcome.err, part)) << arguments << "\n" << outcome.err;
    };
    const std::string out = " --out " + setup.run("bad");
    expect("--data " + setup.text, 2, "--out");
    expect(out, 2, "--data");
    expect("--data " + setup.text + out + " --channels big", 2, "'channels' is 'big'");
    expect("--data " + setup.text + out + " --no-such-key 3", 2, "--no-such-key");
    expect("--data " + setup.text + out + " --preset no-such", 2, "tiny-local");
    expect("--data " + setup.text + out + " --threads 0", 2, "--threads");
    expect("--data " + setup.text + out + " --layers 0", 1, "'layers' is 0");
    expect("--data " + setup.text + out + " --dropout 1", 1, "'dropout'");
    expect("--data /nonexistent/text" + out, 1, "/nonexistent/text");
    std::ofstream(setup.run("empty"));
    expect("--data " + setup.run("empty") + out, 1, "is empty");
    expect("--data " + setup.text + out + " --context 100000 --bias-rank 1", 1, "bytes; one context of 100000");
    expect("--resume " + setup.run("nothing"), 1, "config.toml");
    std::ofstream(setup.run("recipe.toml")) << "steps = 10\nchanels = 3\n";
    expect("--config " + setup.run("recipe.toml") + " --data " + setup.text + out, 1, "line 2: unknown key 'chanels'");
    expect("--preset tiny-simple --data " + setup.text + " --out " + setup.text + "/run", 1, "Not a directory");
    EXPECT_FALSE(std::filesystem::exists(setup.run("bad"))) << "a refused run left a folder";
}

// The limit on file sizes stands for a full disk: writes fail, and the checkpoint before stays.
TEST(Train, AFullDiskLeavesTheLastCheckpoint) {
    const SmallRun setup;
    ASSERT_EQ(run_aft("train --steps 5" + setup.keys + " --out " + setup.run("run")).code, 0);
    const std::string command = "trap '' XFSZ; ulimit -f 40; exec " + std::string(AFT_PROGRAM) + " train --resume " + setup.run("run") + " --steps 20 2>" + setup.run("err");
    const int status = std::system(("sh -c \"" + command + "\"").c_str());
    ASSERT_TRUE(WIFEXITED(status));
    EXPECT_EQ(WEXITSTATUS(status), 1);
    EXPECT_TRUE(holds(slurp(setup.run("err")), "File too large")) << slurp(setup.run("err"));
    EXPECT_EQ(slurp(setup.run("run") + "/latest"), "step-5\n");
    const Outcome resumed = run_aft("train --resume " + setup.run("run") + " --steps 10");
    EXPECT_EQ(resumed.code, 0) << resumed.err;
    EXPECT_EQ(slurp(setup.run("run") + "/latest"), "step-10\n");
}

}  // namespace
}  // namespace aft::test
