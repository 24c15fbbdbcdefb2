// aft bench --peer torch: what is said to the peer, what becomes of its answers, and what happens without one. A shell script
// stands in for PyTorch; where AFT_PEER_PYTHON names a Python with PyTorch, the real one is asked too.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <nlohmann/json.hpp>

#include "tests/tools/program.h"

namespace aft::test {
namespace {

using nlohmann::json;

const std::string tiny = "bench --json --samples 3 --min-time 0 --threads 1 --filter gemm_n?_f32 --shape M=32,N=48,K=16 --peer torch ";

// The peer's two programs, as scripts that keep what they are asked in the file `asked`.
struct FakePeer {
    TemporaryFolder folder;
    std::string options = "--peer-python sh --peer-folder " + (folder / "") + " ";

    explicit FakePeer(const std::string &run = "echo '{\"seconds\": 1.5, \"calls\": 1}'") {
        std::ofstream(folder / "torch_ops.py") << "echo '{\"ready\": \"Fake 1\"}'\nwhile read -r line; do\n  echo \"$line\" >> " << (folder / "asked")
                                               << "\n  case \"$line\" in\n    *prepare*gemm_nn*compiled*|*compiled*prepare*gemm_nn*) echo '{\"missing\": \"no such form\"}';;\n"
                                                  "    *prepare*) echo '{\"id\": 7, \"note\": \"by hand\"}';;\n    *run*) " << run << ";;\n    *drop*) echo '{}';;\n  esac\ndone\n";
        std::ofstream(folder / "torch_peer.py") << "echo \"$@\" >> " << (folder / "asked") << "\necho '{\"ready\": \"Fake 1\", \"note\": \"dense\"}'\nwhile read -r line; do " << run << "; done\n";
    }
    int count(const std::string &part) const {
        std::ifstream file(folder / "asked");
        int n = 0;
        for (std::string line; std::getline(file, line);) n += line.find(part) != std::string::npos;
        return n;
    }
};

json benchmarks_of(const Outcome &ran) {
    EXPECT_EQ(ran.code, 0) << ran.err;
    const json whole = json::parse(ran.out, nullptr, false);
    return whole.is_object() ? whole.at("benchmarks") : json::array();
}

TEST(BenchPeer, TakesItsSamplesInTurnAndPrintsRatios) {
    const FakePeer peer;
    const json found = benchmarks_of(run_aft(tiny + peer.options));
    ASSERT_EQ(found.size(), 2u);
    for (const json &entry : found) {
        EXPECT_DOUBLE_EQ(entry.at("torch_eager_time").get<double>(), 1.5e9);
        EXPECT_NEAR(entry.at("torch_eager_ratio").get<double>(), 1.5e9 / entry.at("real_time").get<double>(), 1e-6 * entry.at("torch_eager_ratio").get<double>());
        EXPECT_EQ(entry.at("torch_eager_note"), "by hand");
        EXPECT_EQ(entry.contains("torch_compiled_time"), entry.at("name").get<std::string>().starts_with("gemm_nt"));  // what it cannot do is left out
    }
    EXPECT_EQ(peer.count("\"prepare\""), 4);
    EXPECT_EQ(peer.count("\"run\""), 3 * 3);
    EXPECT_EQ(peer.count("\"drop\""), 3);
    std::string text = tiny;
    const Outcome ran = run_aft(text.erase(text.find("--json "), 7) + peer.options + "--peer-forms eager");
    EXPECT_NE(ran.out.find("torch eager (by hand)"), std::string::npos) << ran.out;
    EXPECT_NE(ran.out.find(" x +- "), std::string::npos) << ran.out;
}

TEST(BenchPeer, AMissingOneIsSaidInALineAndTheRestRuns) {
    for (const std::string options : {"--peer-python /nowhere/python", "--peer-python sh --peer-folder /nowhere"}) {
        const Outcome ran = run_aft(tiny + options);
        const json found = benchmarks_of(ran);
        ASSERT_EQ(found.size(), 2u);
        EXPECT_FALSE(found[0].contains("torch_eager_time"));
        EXPECT_NE(ran.err.find("no peer torch"), std::string::npos) << ran.err;
        std::istringstream lines(ran.err);
        int about_peer = 0;
        for (std::string line; std::getline(lines, line);) about_peer += line.find("peer") != std::string::npos;
        EXPECT_EQ(about_peer, 1) << ran.err;
    }
}

TEST(BenchPeer, OneThatDiesIsLeftOut) {
    const FakePeer peer("exit 3");
    const Outcome ran = run_aft(tiny + peer.options);
    const json found = benchmarks_of(ran);
    ASSERT_EQ(found.size(), 2u);
    for (const json &entry : found) EXPECT_FALSE(entry.contains("torch_eager_time"));
    EXPECT_NE(ran.err.find("the peer torch failed"), std::string::npos) << ran.err;
    const json steps = benchmarks_of(run_aft("bench step --json --preset tiny-simple --context 32 --batch 1 --samples 2 --peer torch " + peer.options));
    EXPECT_EQ(steps.size(), 1u);
}

TEST(BenchPeer, RefusesWhatIsNotKnown) {
    EXPECT_EQ(run_aft("bench --peer jax").code, 2);
    EXPECT_EQ(run_aft("bench --peer torch --cold --filter add_f32").code, 2);
    EXPECT_EQ(run_aft("bench --peer torch --peer-forms quick").code, 2);
}

TEST(BenchPeer, GoesOnWithoutAFolderForTemporaryFiles) {
    const FakePeer peer;
    const Outcome ran = run_aft(tiny + peer.options, "TMPDIR=/no/such/folder");
    EXPECT_NE(ran.err.find("no peer torch"), std::string::npos) << ran.err;
    EXPECT_NE(ran.err.find("set TMPDIR to one that exists"), std::string::npos) << ran.err;
    const json found = benchmarks_of(ran);  // exit code 0
    ASSERT_FALSE(found.empty());
    EXPECT_FALSE(found[0].contains("torch_eager_time"));
}

TEST(BenchPeer, AStepIsTheSameModel) {
    const FakePeer peer("echo '{\"seconds\": 0.5, \"memory_bytes\": 3e9}'");
    const json found = benchmarks_of(run_aft("bench step --json --preset tiny-local --context 32 --batch 2 --samples 3 --threads 1 --peer torch " + peer.options + "--peer-forms eager,bf16"));
    ASSERT_EQ(found.size(), 3u);
    EXPECT_EQ(found[1].at("name"), "step/tiny-local/batch:2/context:32/Fake 1 eager, dense");
    EXPECT_DOUBLE_EQ(found[1].at("tokens_per_second").get<double>(), 128);
    EXPECT_DOUBLE_EQ(found[1].at("peak_memory_bytes").get<double>(), 3e9);
    EXPECT_NEAR(found[1].at("time_over_ours").get<double>(), 5e8 / found[0].at("real_time").get<double>(), 1e-6 * found[1].at("time_over_ours").get<double>());
    for (const char *words : {"--mixer local", "--context 32", "--batch 2", "--threads 1", "--form bf16"}) EXPECT_GT(peer.count(words), 0) << words;
}

std::string real_python() {
    const char *python = std::getenv("AFT_PEER_PYTHON");
    return python ? python : "";
}

TEST(BenchPeer, RealPyTorchComputesTheSameOperators) {
    if (real_python().empty()) GTEST_SKIP() << "AFT_PEER_PYTHON names no Python with PyTorch";
    EXPECT_EQ(std::system((real_python() + " " AFT_SOURCE_DIR "/tools/peers/torch_mixers.py >/dev/null").c_str()), 0);
}

TEST(BenchPeer, RealPyTorchDoesEveryWorkload) {
    if (real_python().empty()) GTEST_SKIP() << "AFT_PEER_PYTHON names no Python with PyTorch";
    TemporaryFolder folder;
    std::ofstream(folder / "tiny.txt") << "gemm_* M=16,N=24,K=8\naft_simple_* B=2,T=8,C=16\naft_full_* B=2,T=8,C=16,D=4\naft_local_* B=2,T=8,C=16,D=4,W=3\naft_conv_* B=2,T=8,C=16,H=4,S=3\n"
                                          "*layer_norm_* R=16,C=32\ngelu_* R=16,C=32\nadd_f32 R=16,C=32\ncolumn_sum_f32 R=16,C=32\ndropout_* R=16,C=32\nsoftmax_cross_entropy_f32 R=16,V=33\n"
                                          "embedding_* B=2,T=8,C=16\nadamw_f32 N=1000\nsum_of_squares_f32 N=5000\n";
    const Outcome ran = run_aft("bench --json --samples 1 --min-time 0 --threads 1 --peer torch --peer-forms eager,bf16,formula --peer-python " + real_python() + " --shapes " + (folder / "tiny.txt"));
    for (const json &entry : benchmarks_of(ran)) {
        const std::string name = entry.at("name");
        EXPECT_TRUE(entry.contains("torch_eager_time") && entry.contains("torch_bf16_time")) << name;
        EXPECT_EQ(entry.contains("torch_formula_time"), name.starts_with("aft_local_")) << name;
    }
    const json steps = benchmarks_of(run_aft("bench step --json --preset tiny-local --context 32 --batch 1 --samples 1 --peer torch --peer-forms eager,bf16 --peer-python " + real_python()));
    EXPECT_EQ(steps.size(), 3u);
}

}  // namespace
}  // namespace aft::test
