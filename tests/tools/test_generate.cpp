// aft generate and aft logits as a user calls them.
#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "aft/checkpoint.h"
#include "aft/safetensors.h"
#include "tests/reference/language_model_oracle.h"
#include "tests/tools/program.h"

namespace aft::test {
namespace {

using nlohmann::json;

constexpr int64_t T = 24, V = 256;

// A small model with random weights in a folder.
struct SavedModel {
    TemporaryFolder folder;
    LanguageModel model;
    std::string path = folder / "model";

    static ModelConfig config(MixerKind mixer) {
        ModelConfig c;
        c.mixer = mixer;
        c.context = T, c.channels = 20, c.layers = 2, c.window = 5, c.bias_rank = 6, c.heads = 10, c.taps = 7, c.initializer_range = 0.3;
        return c;
    }
    explicit SavedModel(MixerKind mixer) : model(config(mixer)) {
        model.initialise(1);
        save_language_model(model, path);
    }
};

TEST(Generate, StdoutHoldsTheContinuationAlone) {
    const SavedModel saved(MixerKind::local);
    const std::string arguments = "generate --model " + saved.path + " --prompt abc --tokens 9 --seed 4";
    const Outcome plain = run_aft(arguments), echo = run_aft(arguments + " --echo"), as_json = run_aft(arguments + " --json --temperature 0");
    ASSERT_EQ(plain.code, 0) << plain.err;
    EXPECT_EQ(plain.out.size(), 9u);
    EXPECT_EQ(plain.err, "");
    EXPECT_EQ(echo.out, "abc" + plain.out);
    const json result = json::parse(as_json.out);
    EXPECT_EQ(result["prompt"], "abc");
    EXPECT_EQ(result["tokens"], 9);
    EXPECT_FALSE(result["full"]);
}

TEST(Generate, TheEndOfTheContextIsSaidOnStderr) {
    const SavedModel saved(MixerKind::conv);
    const std::string arguments = "generate --model " + saved.path + " --prompt abc --tokens 40";
    const Outcome slides = run_aft(arguments), stops = run_aft(arguments + " --no-slide"), quiet = run_aft(arguments + " --quiet");
    EXPECT_EQ(slides.out.size(), 40u);
    EXPECT_TRUE(holds(slides.err, "restarted")) << slides.err;
    EXPECT_EQ(stops.out, slides.out.substr(0, size_t(T - 3 + 1)));
    EXPECT_TRUE(holds(stops.err, "the context of 24 is full")) << stops.err;
    EXPECT_EQ(quiet.out, slides.out);
    EXPECT_EQ(quiet.err, "");
}

TEST(Generate, BadInputIsNamed) {
    const SavedModel saved(MixerKind::simple);
    const auto expect = [&](const std::string &arguments, int code, const std::string &part) {
        const Outcome outcome = run_aft("generate " + arguments);
        EXPECT_EQ(outcome.code, code) << arguments << "\n" << outcome.err;
        EXPECT_TRUE(holds(outcome.err, part)) << arguments << "\n" << outcome.err;
        EXPECT_EQ(outcome.out, "");
    };
    const std::string model = "--model " + saved.path;
    expect("", 2, "--model");
    expect("--model " + (saved.folder / "none"), 1, "there is no model folder");
    expect("--model " + (saved.folder / ""), 1, "holds no model");
    expect(model + " --prompt " + std::string(T + 1, 'x'), 1, "the prompt has 25 bytes; the model's context is 24");
    expect(model + " --prompt ''", 1, "the prompt is empty");
    expect(model + " --temperature -1", 2, "temperature");
    expect(model + " --top-k -1", 2, "top-k");
    expect(model + " --top-p 0", 2, "top-p");
    std::filesystem::resize_file(saved.path + "/model.safetensors", 1000);
    expect(model, 1, "model.safetensors: the header needs");
}

class EachMixer : public testing::TestWithParam<MixerKind> {};
INSTANTIATE_TEST_SUITE_P(, EachMixer, testing::Values(MixerKind::simple, MixerKind::full, MixerKind::local, MixerKind::conv), [](const auto &info) { return std::string(name_of(info.param)); });

TEST_P(EachMixer, LogitsEqualTheOracleInDouble) {
    const SavedModel saved(GetParam());
    Tensor tokens({2, 21}, DType::u8);
    for (int64_t n = 0; n < tokens.elements(); n++) tokens.data<uint8_t>()[n] = uint8_t(n * 89);
    const std::string in = saved.folder / "in", out = saved.folder / "out";
    write_safetensors(in, {{"tokens", tokens}});
    const Outcome outcome = run_aft("logits --model " + saved.path + " --input " + in + " --output " + out);
    ASSERT_EQ(outcome.code, 0) << outcome.err;
    EXPECT_EQ(outcome.out, "");
    const reference::Array fast = reference::to_array(read_safetensors(out).at("logits"));
    const reference::Array slow = reference::logits(saved.model.config(), reference::parameters_of(saved.model), reference::to_array(tokens));
    ASSERT_EQ(fast.shape, (Shape{2, 21, V}));
    double largest = 0;
    for (const double v : slow.values) largest = std::max(largest, std::abs(v));
    for (size_t n = 0; n < fast.size(); n++) ASSERT_NEAR(fast[n], slow[n], 64 * 0x1p-24 * largest) << "at " << n;  // as in test_language_model.cpp
}

TEST(Logits, RefusesTensorsByName) {
    const SavedModel saved(MixerKind::simple);
    const auto expect = [&](const TensorMap &tensors, const std::string &part) {
        write_safetensors(saved.folder / "in", tensors);
        const Outcome outcome = run_aft("logits --model " + saved.path + " --input " + (saved.folder / "in") + " --output " + (saved.folder / "out"));
        EXPECT_EQ(outcome.code, 1);
        EXPECT_TRUE(holds(outcome.err, part)) << outcome.err;
        EXPECT_FALSE(std::filesystem::exists(saved.folder / "out"));
    };
    const auto tokens = [](Shape shape, int64_t value) {
        const Tensor x(std::move(shape), DType::i64);
        std::fill_n(x.data<int64_t>(), x.elements(), value);
        return x;
    };
    expect({}, "'tokens' [B, T] is missing");
    expect({{"tokens", tokens({1, 2}, 0)}, {"extra", tokens({1}, 0)}}, "'extra' is not used");
    expect({{"tokens", tokens({2}, 0)}}, "must be a non-empty [B, T], not [2]");
    expect({{"tokens", tokens({0, 2}, 0)}}, "must be a non-empty [B, T]");
    expect({{"tokens", tokens({1, 2}, 256)}}, "'tokens' holds 256; the model's vocabulary is 256");
    expect({{"tokens", tokens({1, 2}, int64_t(1) << 32)}}, "'tokens' holds 4294967296");
    expect({{"tokens", tokens({1, 2}, -1)}}, "'tokens' holds -1");
    expect({{"tokens", tokens({1, T + 1}, 0)}}, "25 tokens: the model's context is 24");
    Tensor floats({1, 2});
    floats.fill(1);
    expect({{"tokens", floats}}, "'tokens' is F32");
}

}  // namespace
}  // namespace aft::test
