// The whole model against its double oracle: logits, gradients, decoding, loss at the start, micro-batches, threads.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "aft/error.h"
#include "aft/threads.h"
#include "runtime/random.h"
#include "tests/reference/language_model_oracle.h"

namespace aft {
namespace {

using reference::Array;
using reference::Arrays;

ModelConfig small(MixerKind mixer) {
    ModelConfig c;
    c.mixer = mixer;
    c.vocabulary = 19, c.context = 24, c.channels = 20, c.layers = 2, c.hidden = 36, c.window = 5, c.bias_rank = 6, c.heads = 10, c.taps = 7;
    c.dropout = 0;
    c.initializer_range = 0.3;  // large enough that every part matters
    return c;
}

Tensor tokens_of(int64_t B, int64_t T, int64_t vocabulary, uint64_t seed) {
    Tensor tokens({B, T}, DType::i32);
    const Philox random(seed);
    for (int64_t n = 0; n < B * T; n++) tokens.data<int32_t>()[n] = int32_t(random.uniform(uint64_t(n), 7) * double(vocabulary));
    return tokens;
}

// Fresh values for everything, gains and gates included: a start of 0 or 1 would hide what it multiplies.
void randomise(LanguageModel &model) {
    model.initialise(1);
    uint32_t stream = 1000;
    for (const std::string &name : model.parameters().names()) {
        Tensor value = model.parameters().value(name);
        const bool gain = name.find("norm") != std::string::npos && name.ends_with("weight");
        if (gain || name.ends_with("bias") || name.ends_with("gamma") || name.ends_with("beta")) fill_normal(value, gain ? 1 : 0, 0.3, 5, stream++);
    }
}

class EachMixer : public testing::TestWithParam<MixerKind> {};
INSTANTIATE_TEST_SUITE_P(, EachMixer, testing::Values(MixerKind::simple, MixerKind::full, MixerKind::local, MixerKind::conv),
                         [](const auto &info) { return std::string(name_of(info.param)); });

void expect_logits(const ModelConfig &config) {
    LanguageModel model(config);
    randomise(model);
    const Tensor tokens = tokens_of(2, 21, config.vocabulary, 3);
    const Array fast = reference::to_array(model.logits(tokens));
    const Array slow = reference::logits(config, reference::parameters_of(model), reference::to_array(tokens));
    double largest = 0;
    for (double v : slow.values) largest = std::max(largest, std::abs(v));
    // Rounding of some 10 chained sums of up to 36 terms: 64 epsilon of the largest logit.
    for (size_t n = 0; n < fast.size(); n++) ASSERT_NEAR(fast[n], slow[n], 64 * 0x1p-24 * largest) << "at " << n;
}

TEST_P(EachMixer, LogitsEqualTheOracle) { expect_logits(small(GetParam())); }

TEST_P(EachMixer, LogitsEqualTheOracleWithTheOtherChoices) {
    ModelConfig config = small(GetParam());
    config.output_projection = true, config.factorized_bias = false, config.filter_reparameterization = false;
    expect_logits(config);
    config.linear_bias = false;
    expect_logits(config);
}

TEST_P(EachMixer, GradientsAreFiniteDifferencesOfTheOracle) {
    for (bool other : {false, true}) {
        ModelConfig config = small(GetParam());
        config.output_projection = other, config.factorized_bias = !other;
        LanguageModel model(config);
        randomise(model);
        const Tensor tokens = tokens_of(2, 19, config.vocabulary, 3), targets = tokens_of(2, 19, config.vocabulary, 4);
        targets.data<int32_t>()[5] = -1;
        const Array t = reference::to_array(tokens), wanted = reference::to_array(targets);
        Arrays parameters = reference::parameters_of(model);
        const double sum = model.accumulate_gradient(tokens, targets, 0.5, {});
        const double expected = reference::loss(config, parameters, t, wanted);
        EXPECT_NEAR(sum, expected, 1e-5 * expected);
        for (const std::string &name : model.parameters().names()) {
            Array &values = parameters.at(name);
            const Array gradient = reference::to_array(model.parameters().gradient(name));
            double largest = 0;
            for (double g : gradient.values) largest = std::max(largest, std::abs(g));
            for (size_t n = 0; n < values.size(); n += std::max<size_t>(1, values.size() / 5)) {
                const double at = values[n], h = 1e-5;
                values[n] = at + h;
                const double above = reference::loss(config, parameters, t, wanted);
                values[n] = at - h;
                const double below = reference::loss(config, parameters, t, wanted);
                values[n] = at;
                ASSERT_NEAR(gradient[n], 0.5 * (above - below) / (2 * h), 256 * 0x1p-24 * (largest + 0.1) + 1e-6) << name << " at " << n;
            }
        }
    }
}

TEST_P(EachMixer, DecodingEqualsTheParallelLogits) {
    const ModelConfig config = small(GetParam());
    LanguageModel model(config);
    randomise(model);
    const int64_t B = 3, T = config.context, V = config.vocabulary;
    const Tensor tokens = tokens_of(B, T, V, 8);
    const Tensor parallel = model.logits(tokens);
    for (int64_t prompt : {int64_t(1), int64_t(9)}) {
        Decoder decoder = model.decoder(B);
        Tensor logits = decoder.prefill(tokens.slice(1, 0, prompt).clone());
        for (int64_t t = prompt - 1; t < T; t++) {
            if (t >= prompt) logits = decoder.step(tokens.select(1, t).clone());
            for (int64_t b = 0; b < B; b++)
                for (int64_t v = 0; v < V; v++) ASSERT_NEAR(logits.data()[b * V + v], parallel.data()[(b * T + t) * V + v], 2e-5) << "token " << t;
        }
        EXPECT_EQ(decoder.position(), T);
        EXPECT_THROW(decoder.step(tokens.select(1, 0).clone()), Error);
    }
}

// A sequence decodes to the same bits alone and in a batch, on one thread and on three.
TEST_P(EachMixer, SameDecodingBitsForAnyBatchAndThreadCount) {
    const ModelConfig config = small(GetParam());
    LanguageModel model(config);
    randomise(model);
    const int64_t B = 9, T = config.context, V = config.vocabulary;
    const Tensor tokens = tokens_of(B, T, V, 8);
    const int before = thread_count();
    Decoder all = model.decoder(B), alone = model.decoder(1);
    for (int64_t t = 0; t < T; t++) {
        set_thread_count(3);
        const Tensor wanted = all.step(tokens.select(1, t).clone());
        set_thread_count(1);
        const Tensor logits = alone.step(tokens.slice(0, 4, 5).select(1, t).clone());
        ASSERT_EQ(std::memcmp(logits.data(), wanted.data() + 4 * V, size_t(V) * 4), 0) << "token " << t;
    }
    set_thread_count(before);
}

TEST(LanguageModel, ADecoderSeesChangedParametersFromItsResetOn) {
    LanguageModel model(small(MixerKind::local)), other(small(MixerKind::local));
    model.initialise(1), other.initialise(2);
    const Tensor token = tokens_of(1, 1, small(MixerKind::local).vocabulary, 8).select(1, 0).clone();
    Decoder decoder = model.decoder(1), fresh = other.decoder(1);
    decoder.step(token);
    model.initialise(2);
    decoder.reset();
    const Tensor logits = decoder.step(token), wanted = fresh.step(token);
    EXPECT_EQ(std::memcmp(logits.data(), wanted.data(), logits.bytes()), 0);
}

TEST_P(EachMixer, SameGradientBitsForAnyThreadCount) {
    ModelConfig config = small(GetParam());
    config.dropout = 0.2;
    const Tensor tokens = tokens_of(3, 20, config.vocabulary, 3), targets = tokens_of(3, 20, config.vocabulary, 4);
    std::vector<Array> found;
    const int before = thread_count();
    for (int threads : {1, 2}) {
        set_thread_count(threads);
        LanguageModel model(config);
        randomise(model);
        model.accumulate_gradient(tokens, targets, 1, {.seed = 3, .step = 4});
        found.push_back(reference::to_array(model.parameters().gradients));
    }
    set_thread_count(before);
    EXPECT_EQ(found[0].values, found[1].values);
}

TEST(LanguageModel, LossAtTheStartIsNearUniform) {
    ModelConfig config;
    config.context = 64, config.layers = 2, config.channels = 64, config.bias_rank = 16;
    LanguageModel model(config);
    model.initialise(1);
    const Tensor tokens = tokens_of(4, 64, 256, 1), targets = tokens_of(4, 64, 256, 2), losses = model.losses(tokens, targets);
    double mean = 0;
    for (int64_t n = 0; n < losses.elements(); n++) mean += losses.data()[n] / double(losses.elements());
    EXPECT_NEAR(mean, std::log(256.0), 0.15);
}

TEST(LanguageModel, MicroBatchesWithDropoutAddUpToTheBatch) {
    ModelConfig config = small(MixerKind::local);
    config.dropout = 0.3;
    const Tensor tokens = tokens_of(4, 20, config.vocabulary, 3), targets = tokens_of(4, 20, config.vocabulary, 4);
    LanguageModel whole(config), parts(config);
    randomise(whole), randomise(parts);
    const TrainingPass pass{.seed = 9, .step = 2};
    const double loss = whole.accumulate_gradient(tokens, targets, 0.1, pass);
    double sum = 0;
    for (int64_t b : {0, 1, 3}) {
        const int64_t end = b == 1 ? 3 : b + 1;
        TrainingPass part = pass;
        part.first_sequence = b;
        sum += parts.accumulate_gradient(tokens.slice(0, b, end), targets.slice(0, b, end), 0.1, part);
    }
    EXPECT_NEAR(sum, loss, 1e-5 * loss);
    const Tensor &a = whole.parameters().gradients, &b = parts.parameters().gradients;
    for (int64_t n = 0; n < a.elements(); n++) ASSERT_NEAR(a.data()[n], b.data()[n], 1e-5) << n;  // other masks would differ by 0.1
}

TEST(LanguageModel, NamesTheFirstThingThatIsNotFinite) {
    LanguageModel model(small(MixerKind::local));
    randomise(model);
    const Tensor tokens = tokens_of(1, 20, 19, 3);
    EXPECT_EQ(model.first_non_finite(tokens, tokens, {}), "");
    model.parameters().value("blocks.1.mlp.up.weight").fill(3e38f);
    EXPECT_EQ(model.first_non_finite(tokens, tokens, {}), "blocks.1.mlp hidden");
    model.parameters().value("blocks.1.mlp.up.weight").data()[3] = NAN;
    EXPECT_EQ(model.first_non_finite(tokens, tokens, {}), "blocks.1.mlp.up.weight");
}

TEST(LanguageModel, RefusesWhatDoesNotFit) {
    LanguageModel model(small(MixerKind::simple));
    model.initialise(1);
    EXPECT_THROW(model.logits(tokens_of(1, 25, 19, 1)), Error);                   // longer than the context
    EXPECT_THROW(model.logits(tokens_of(1, 5, 200, 1)), Error);                   // tokens outside the vocabulary
    EXPECT_THROW(model.losses(tokens_of(1, 5, 19, 1), tokens_of(1, 6, 19, 1)), Error);
    EXPECT_THROW(model.logits(Tensor({2, 3})), Error);                            // not i32
}

}  // namespace
}  // namespace aft
