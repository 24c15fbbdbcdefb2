// aft bench step, aft bench decode, the workloads of every family, the shape lists. No test looks at how fast anything is.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>

#include "tests/tools/program.h"

namespace aft::test {
namespace {

using nlohmann::json;

json benchmarks_of(const std::string &arguments) {
    const Outcome ran = run_aft(arguments + " --json");
    EXPECT_EQ(ran.code, 0) << ran.err;
    return json::parse(ran.out, nullptr, false);
}

TEST(BenchWorkloads, EveryFamilyRunsAndCountsItsBytes) {
    TemporaryFolder folder;
    std::ofstream(folder / "tiny.txt") << "gemm_nt_bias_f32 M=16,N=24,K=8\naft_simple_* B=2,T=8,C=16\naft_full_* B=2,T=8,C=16,D=4\naft_local_* B=2,T=8,C=16,D=4,W=3\n"
                                          "aft_conv_* B=2,T=8,C=16,H=4,S=3\n*layer_norm_* R=16,C=32\ngelu_* R=16,C=32\nadd_f32 R=16,C=32\ncolumn_sum_f32 R=16,C=32\n"
                                          "dropout_* R=16,C=32\nsoftmax_cross_entropy_* R=16,V=33\nembedding_* B=2,T=8,C=16\nposition_backward_f32 B=2,T=8,C=16\n"
                                          "decode_full B=2,T=8,C=16,D=4\ndecode_local B=2,T=8,C=16,D=4,W=3\ndecode_conv B=2,T=8,C=16,H=4,S=3\nadamw_f32 N=1000\nsum_of_squares_f32 N=5000\n";
    const json found = benchmarks_of("bench --samples 1 --min-time 0 --threads 1 --shapes " + (folder / "tiny.txt"));
    std::map<std::string, json> by_kernel;
    for (const json &entry : found.at("benchmarks")) {
        const std::string name = entry.at("name");
        by_kernel[name.substr(0, name.find('/'))] = entry;
        EXPECT_GT(entry.at("share_of_limit").get<double>(), 0) << name;
        EXPECT_FALSE(entry.at("limited_by").get<std::string>().empty()) << name;
    }
    for (const char *op : {"aft_simple", "aft_full", "aft_local", "aft_conv"})
        for (const char *form : {"_causal_forward", "_causal_backward", "_bidirectional_forward", "_bidirectional_backward"}) EXPECT_TRUE(by_kernel.contains(std::string(op) + form)) << op << form;
    for (const char *kernel : {"layer_norm_forward_f32", "layer_norm_backward_f32", "residual_layer_norm_forward_f32", "softmax_cross_entropy_f32", "softmax_cross_entropy_loss_f32", "position_backward_f32", "decode_full", "decode_local", "decode_conv", "adamw_f32", "embedding_forward_f32",
                               "embedding_backward_f32", "dropout_f32", "dropout_residual_f32", "gelu_forward_f32", "gelu_backward_f32"})
        EXPECT_TRUE(by_kernel.contains(kernel)) << kernel;
    // Bytes of the least traffic, counted by hand: 4 tensors of 256 floats; 7 of them; 8 of 1,000.
    const auto bytes = [&](const char *kernel) { return by_kernel[kernel].at("bytes_per_second").get<double>() * by_kernel[kernel].at("real_time").get<double>() * 1e-9; };
    EXPECT_NEAR(bytes("aft_simple_causal_forward"), 4 * 1024, 1e-6 * 4096);
    EXPECT_NEAR(bytes("aft_local_causal_backward"), 7 * 1024, 1e-6 * 7168);
    EXPECT_NEAR(bytes("adamw_f32"), 32'000, 0.1);
}

TEST(BenchWorkloads, EveryShippedListIsTaken) {
    int lists = 0;
    for (const auto &entry : std::filesystem::directory_iterator(std::string(AFT_SOURCE_DIR) + "/recipes/shapes")) {
        const Outcome ran = run_aft("bench --list --shapes " + entry.path().stem().string());
        EXPECT_EQ(ran.code, 0) << ran.err;
        EXPECT_GT(std::ranges::count(ran.out, '\n'), 4) << entry.path();
        lists++;
    }
    EXPECT_GE(lists, 5);
    const Outcome none = run_aft("bench --list --shapes no-such-list");
    EXPECT_EQ(none.code, 2);
    EXPECT_NE(none.err.find("speed-table"), std::string::npos) << none.err;
}

TEST(BenchStep, CountsTheModelsFlops) {
    const json found = benchmarks_of("bench step --preset tiny-local --context 64 --batch 1 2 --samples 3 --threads 1");
    ASSERT_EQ(found.at("benchmarks").size(), 2u);
    double batch = 0;
    for (const json &entry : found.at("benchmarks")) {
        batch++;
        EXPECT_EQ(entry.at("name"), "step/tiny-local/batch:" + std::to_string(int(batch)) + "/context:64/aft");
        EXPECT_EQ(entry.at("samples"), 3);
        const double seconds = entry.at("real_time").get<double>() * 1e-9, tokens = 64 * batch, peak = entry.at("fma_peak_in_turn");
        EXPECT_LE(peak, 1.5 * found.at("context").at("limits").at("fma_flops_per_second").get<double>());  // the same unit; that one is the best of some
        EXPECT_NEAR(entry.at("tokens_per_second").get<double>() * seconds, tokens, 1e-6 * tokens);
        // 3 (22 C^2 L + 512 C + band) flops a token, band = 4 s C L: the model of recipes/tiny-local.toml.
        const double L = 4, C = 128, s = 32, flops = 3 * (22 * C * C * L + 512 * C + 4 * s * C * L);
        EXPECT_NEAR(entry.at("model_flops_utilisation").get<double>() * peak * seconds / tokens, flops, 1e-6 * flops);
        EXPECT_GT(entry.at("peak_memory_bytes").get<double>(), 1e6);
        EXPECT_GE(entry.at("spread").get<double>(), 0);
    }
    const Outcome text = run_aft("bench step --preset tiny-local --context 64 --batch 1 --samples 1");
    for (const char *part : {"tokens/s", "spread", "FMA peak", "GB"}) EXPECT_NE(text.out.find(part), std::string::npos) << part;
}

TEST(BenchStep, RefusesWhatIsWrong) {
    for (const char *arguments : {"step --preset nothing", "step --batch 0", "step --samples 0", "step --peer jax", "step --peer-forms quick", "step --peer-forms formula", "decode --batch 0", "decode --peer torch", "nothing"})
        EXPECT_EQ(run_aft(std::string("bench ") + arguments).code, 2) << arguments;
}

TEST(BenchDecode, HoldsTokensAgainstTheWeights) {
    const json found = benchmarks_of("bench decode --preset tiny-local --context 64 --batch 1 3 --samples 1 --threads 1");
    ASSERT_EQ(found.at("benchmarks").size(), 3u);
    const json &one = found.at("benchmarks")[0], &three = found.at("benchmarks")[1], &startup = found.at("benchmarks")[2];
    const double L = 4, C = 128, V = 256;
    EXPECT_NEAR(one.at("weight_bytes").get<double>(), 4 * (11 * C * C * L + C * V), 1);
    for (const json *entry : {&one, &three}) {
        EXPECT_GT(entry->at("share_of_limit").get<double>(), 0);
        EXPECT_GT(entry->at("share_of_fma_peak").get<double>(), 0);
    }
    EXPECT_NEAR(three.at("tokens_per_second").get<double>(), 3 * three.at("tokens_per_second_of_a_sequence").get<double>(), 1e-3 * three.at("tokens_per_second").get<double>());
    EXPECT_EQ(startup.at("name"), "startup/tiny-local");
    EXPECT_GT(startup.at("real_time").get<double>(), 0);
    EXPECT_EQ(benchmarks_of("bench decode --no-startup --preset tiny-simple --context 64 --samples 1 --threads 1").at("benchmarks").size(), 1u);
}

}  // namespace
}  // namespace aft::test
