// config.json and the parameters that follow from it.
#include "aft/config.h"

#include <set>

#include "test_files.h"

namespace aft {
namespace {

ModelConfig enwik8(MixerKind mixer, int64_t layers, int64_t channels) {
    ModelConfig config;
    config.mixer = mixer, config.layers = layers, config.channels = channels;
    return config;
}

TEST(Config, PublishedParameterCounts) {
    EXPECT_EQ(parameter_count(enwik8(MixerKind::local, 24, 256)), 30'352'128);
    EXPECT_EQ(parameter_count(enwik8(MixerKind::local, 12, 512)), 41'755'904);
    EXPECT_EQ(parameter_count(enwik8(MixerKind::simple, 24, 256)), 17'769'216);
    EXPECT_EQ(parameter_count(enwik8(MixerKind::full, 24, 256)), 30'352'128);
}

TEST(Config, CountIsTheSumOfTheShapes) {
    for (MixerKind kind : {MixerKind::full, MixerKind::local, MixerKind::simple, MixerKind::conv})
        for (int bits = 0; bits < 16; bits++) {
            ModelConfig config = enwik8(kind, 3, 24);
            config.context = 17, config.heads = 6, config.taps = 5, config.bias_rank = 7, config.hidden = bits & 1 ? 50 : 0;
            config.factorized_bias = bits & 1, config.output_projection = bits & 2, config.linear_bias = bits & 4, config.filter_reparameterization = bits & 8;
            int64_t total = 0;
            std::set<std::string> names;
            for (const ParameterShape &parameter : parameter_shapes(config)) {
                int64_t elements = 1;
                for (int64_t size : parameter.shape) elements *= size;
                total += elements;
                EXPECT_TRUE(names.insert(parameter.name).second) << parameter.name;
                EXPECT_EQ(parameter.decayed, parameter.shape.size() == 2 && test::holds(parameter.name, ".weight") && !parameter.name.starts_with("embedding") &&
                                                 !parameter.name.starts_with("position")) << parameter.name;
            }
            EXPECT_EQ(total, parameter_count(config));
            EXPECT_EQ(names.contains("head.bias"), config.linear_bias);
            EXPECT_EQ(names.contains("blocks.2.mixer.output.weight"), config.output_projection);
            EXPECT_EQ(names.contains("blocks.0.mixer.position_bias"), (kind == MixerKind::full || kind == MixerKind::local) && !config.factorized_bias);
            EXPECT_EQ(names.contains("blocks.0.mixer.gamma"), kind == MixerKind::conv && config.filter_reparameterization);
        }
}

TEST(Config, ShapesAndOrderOfConv) {
    ModelConfig config = enwik8(MixerKind::conv, 1, 8);
    config.heads = 2, config.taps = 3, config.context = 4;
    std::string text;
    for (const ParameterShape &parameter : parameter_shapes(config)) text += parameter.name + to_string(parameter.shape) + "\n";
    EXPECT_EQ(text,
              "embedding.weight[256, 8]\nposition.weight[4, 8]\nblocks.0.norm1.weight[8]\nblocks.0.norm1.bias[8]\nblocks.0.mixer.query.weight[8, 8]\n"
              "blocks.0.mixer.query.bias[8]\nblocks.0.mixer.key.weight[2, 8]\nblocks.0.mixer.key.bias[2]\nblocks.0.mixer.value.weight[8, 8]\n"
              "blocks.0.mixer.value.bias[8]\nblocks.0.mixer.filter[2, 3]\nblocks.0.mixer.gamma[2]\nblocks.0.mixer.beta[2]\nblocks.0.norm2.weight[8]\n"
              "blocks.0.norm2.bias[8]\nblocks.0.mlp.up.weight[32, 8]\nblocks.0.mlp.up.bias[32]\nblocks.0.mlp.down.weight[8, 32]\nblocks.0.mlp.down.bias[8]\n"
              "norm.weight[8]\nnorm.bias[8]\nhead.weight[256, 8]\nhead.bias[256]\n");
}

TEST(Config, RoundTrip) {
    ModelConfig config = enwik8(MixerKind::conv, 5, 96);
    config.heads = 12, config.taps = 7, config.dropout = 0.1 + 1e-17, config.bias_std = 1.0 / 3, config.linear_bias = false, config.hidden = 100;
    EXPECT_EQ(config_from_json(to_json(config)), config);
    EXPECT_EQ(config_from_json(to_json(ModelConfig())), ModelConfig());
}

TEST(Config, MissingKeysAreDefaultsAndBookkeepingIsIgnored) {
    EXPECT_EQ(config_from_json("{}"), ModelConfig());
    EXPECT_EQ(config_from_json(R"({"architectures": ["X"], "transformers_version": "4.1", "torch_dtype": "float32", "dropout": 0})").dropout, 0.0);
}

TEST(Config, ErrorsNameTheKey) {
    const auto expect = [](const std::string &text, const std::string &part) {
        EXPECT_ERROR(config_from_json(text, "run/config.json"), part);
        EXPECT_ERROR(config_from_json(text, "run/config.json"), "run/config.json");
    };
    expect(R"({"chanels": 3})", "unknown key 'chanels'");
    expect(R"({"channels": "256"})", "'channels' is a string");
    expect(R"({"channels": 256.0})", "'channels' is a number with a fraction");
    expect(R"({"channels": 0})", "'channels' is 0");
    expect(R"({"context": -1})", "'context' is -1");
    expect(R"({"layers": 1000000000000})", "'layers'");
    expect(R"({"layers": 18446744073709551615})", "too large");
    expect(R"({"linear_bias": 1})", "'linear_bias'");
    expect(R"({"dropout": 1.0})", "'dropout' is 1.0");
    expect(R"({"dropout": "x"})", "'dropout'");
    expect(R"({"dropout": 1e999})", "no valid JSON");
    expect(R"({"layer_norm_epsilon": 0})", "'layer_norm_epsilon'");
    expect(R"({"mixer": "local", "mixer": "full"})", "twice");
    expect(R"({"mixer": "softmax"})", "'mixer'");
    expect(R"({"mixer": "conv", "channels": 10, "heads": 4})", "'heads' is 4");
    expect(R"({"model_type": "gpt2"})", "'model_type'");
    expect(R"({"torch_dtype": "bfloat16"})", "'torch_dtype'");
    expect(R"({"channels": 65536, "hidden": 1048576})", "parameters");
    expect(R"({"context": 100000, "factorized_bias": false})", "parameters");
    expect("[]", "must be an object");
    expect("", "no valid JSON");
    expect("{} {}", "no valid JSON");
    expect(std::string(1000, '[') + std::string(1000, ']'), "nested deeper");
}

TEST(Config, FuzzReadsOrThrows) {
    const std::string text = to_json(enwik8(MixerKind::conv, 2, 64));
    test::Dice dice{7};
    int read = 0;
    for (int trial = 0; trial < 1000; trial++) {
        const std::string mutant = test::mutate(text, text.size(), dice);
        read += test::error_of([&] { parameter_shapes(config_from_json(mutant)); }).empty();
    }
    EXPECT_GT(read, 0);
    for (size_t length = 0; length + 2 < text.size(); length++) EXPECT_NE(test::error_of([&] { config_from_json(text.substr(0, length)); }), "") << length;
}

}  // namespace
}  // namespace aft
