// Sampling, and generation against the parallel logits of the same text.
#include "aft/generate.h"

#include <algorithm>
#include <cmath>
#include <thread>

#include "tests/runtime/test_files.h"

namespace aft {
namespace {

// Probabilities 0.1, 0.6, 0.3: in the order of their size, tokens 1, 2, 0 take [0, 0.6), [0.6, 0.9), [0.9, 1).
const float logits[] = {std::log(0.1f), std::log(0.6f), std::log(0.3f)};

int32_t drawn(double u, double temperature = 1, int64_t top_k = 0, double top_p = 1) {
    return sample(logits, 3, {.temperature = temperature, .top_k = top_k, .top_p = top_p}, u);
}

TEST(Sample, EachTokenHasItsShareOfTheUnitInterval) {
    for (const auto &[u, token] : {std::pair{0.0, 1}, {0.599, 1}, {0.601, 2}, {0.899, 2}, {0.901, 0}, {1 - 0x1p-53, 0}}) EXPECT_EQ(drawn(u), token) << u;
}

TEST(Sample, TemperatureSharpensAndFlattens) {
    for (const double u : {0.0, 0.7, 0.999}) EXPECT_EQ(drawn(u, 0), 1) << u;
    EXPECT_EQ(drawn(0.999, 0.05), 1);
    const double first = std::sqrt(0.6) / (std::sqrt(0.1) + std::sqrt(0.6) + std::sqrt(0.3));  // temperature 2 takes roots
    EXPECT_EQ(drawn(first - 1e-3, 2), 1);
    EXPECT_EQ(drawn(first + 1e-3, 2), 2);
    const float equal[] = {1, 3, 3};
    EXPECT_EQ(sample(equal, 3, {.temperature = 0}, 0.9), 1) << "greedy takes the lowest of equals";
}

TEST(Sample, TopKAndTopPCutTheTail) {
    EXPECT_EQ(drawn(0.999, 1, 1), 1);
    EXPECT_EQ(drawn(0.6 / 0.9 - 1e-3, 1, 2), 1);
    EXPECT_EQ(drawn(0.6 / 0.9 + 1e-3, 1, 2), 2);
    EXPECT_EQ(drawn(0.999, 1, 2), 2);
    EXPECT_EQ(drawn(0.999, 1, 100), 0);
    EXPECT_EQ(drawn(0.999, 1, 0, 0.5), 1);
    EXPECT_EQ(drawn(0.999, 1, 0, 0.7), 2);
    EXPECT_EQ(drawn(0.999, 1, 0, 0.95), 0);
    EXPECT_EQ(drawn(0.999, 1, 0, 1e-9), 1) << "one token always stays";
}

TEST(Sample, RefusesImpossibleOptions) {
    EXPECT_ERROR(check(SamplingOptions{.temperature = -1}), "temperature");
    EXPECT_ERROR(check(SamplingOptions{.temperature = NAN}), "temperature");
    EXPECT_ERROR(check(SamplingOptions{.top_k = -1}), "top-k");
    EXPECT_ERROR(check(SamplingOptions{.top_p = 0}), "top-p");
    EXPECT_ERROR(check(SamplingOptions{.top_p = 1.5}), "top-p");
}

constexpr int64_t T = 24;

LanguageModel byte_model(MixerKind mixer) {
    ModelConfig c;
    c.mixer = mixer;
    c.context = T, c.channels = 20, c.layers = 2, c.window = 5, c.bias_rank = 6, c.heads = 10, c.taps = 7, c.initializer_range = 0.3;
    LanguageModel model(c);
    model.initialise(1);
    return model;
}

std::string generated(const LanguageModel &model, const std::string &prompt, int64_t tokens, const SamplingOptions &options, GeneratedText *result = nullptr) {
    std::string text;
    const GeneratedText done = generate(model, prompt, tokens, options, [&](uint8_t byte) { return text += char(byte), true; });
    if (result) *result = done;
    return text;
}

class Greedy : public testing::TestWithParam<MixerKind> {};
INSTANTIATE_TEST_SUITE_P(, Greedy, testing::Values(MixerKind::simple, MixerKind::full, MixerKind::local, MixerKind::conv), [](const auto &info) { return std::string(name_of(info.param)); });

// Past the context too, where the state restarts from the last half of it.
TEST_P(Greedy, EqualsTheArgMaxOfTheParallelLogits) {
    LanguageModel model = byte_model(GetParam());
    const std::string prompt = "some";
    GeneratedText result;
    const std::string text = prompt + generated(model, prompt, 60, {.temperature = 0}, &result);
    ASSERT_EQ(text.size(), prompt.size() + 60);
    size_t first = 0;  // of the window that the state holds
    int64_t restarts = 0, decided = 0;
    for (size_t at = prompt.size(); at < text.size(); at++) {
        if (at - first > size_t(T)) first = at - size_t(T / 2), restarts++;
        Tensor tokens({1, int64_t(at - first)}, DType::i32);
        for (size_t n = first; n < at; n++) tokens.data<int32_t>()[n - first] = uint8_t(text[n]);
        const Tensor parallel = model.logits(tokens);
        const float *row = parallel.data() + (tokens.size(1) - 1) * 256;
        const auto best = std::max_element(row, row + 256);
        float second = -INFINITY;
        for (const float *x = row; x < row + 256; x++)
            if (x != best) second = std::max(second, *x);
        if (*best - second < 4e-5f) continue;  // closer than the two forms agree (test_language_model.cpp)
        EXPECT_EQ(uint8_t(text[at]), best - row) << "byte " << at;
        decided++;
    }
    EXPECT_GT(decided, 50);
    EXPECT_EQ(result.restarts, restarts);
    EXPECT_GT(restarts, 2);
}

TEST(Generate, ASeedIsAText) {
    const LanguageModel model = byte_model(MixerKind::local);
    const std::string text = generated(model, "a", 20, {.seed = 5});
    EXPECT_EQ(generated(model, "a", 20, {.seed = 5}), text);
    EXPECT_NE(generated(model, "a", 20, {.seed = 6}), text);
    EXPECT_EQ(generated(model, "a", 7, {.seed = 5}), text.substr(0, 7));
}

TEST(Generate, ThreadsShareAModel) {
    const LanguageModel model = byte_model(MixerKind::local);
    std::vector<std::string> texts(4);
    std::vector<std::thread> threads;
    for (size_t n = 0; n < texts.size(); n++) threads.emplace_back([&, n] { texts[n] = generated(model, "a", 100, {.seed = n}); });
    for (std::thread &thread : threads) thread.join();
    for (size_t n = 0; n < texts.size(); n++) EXPECT_EQ(texts[n], generated(model, "a", 100, {.seed = n})) << n;
}

TEST(Generate, StopsAtTheEndOfTheContextOrWhenItIsTold) {
    const LanguageModel model = byte_model(MixerKind::simple);
    GeneratedText result;
    EXPECT_EQ(generated(model, "abc", 100, {.slide = false}, &result).size(), size_t(T - 3 + 1));  // the last byte needs no room behind it
    EXPECT_TRUE(result.full);
    EXPECT_EQ(result.restarts, 0);
    EXPECT_EQ(generated(model, std::string(T, 'x'), 1, {.slide = false}, &result).size(), 1u);
    EXPECT_FALSE(result.full);
    EXPECT_EQ(generated(model, "abc", 0, {}), "");
    int count = 0;
    EXPECT_EQ(generate(model, "abc", 100, {}, [&](uint8_t) { return ++count < 4; }).tokens, 4);
}

TEST(Generate, RefusesWhatDoesNotFit) {
    const LanguageModel model = byte_model(MixerKind::simple);
    EXPECT_ERROR(generated(model, std::string(T + 1, 'x'), 1, {}), "the prompt has 25 bytes; the model's context is 24");
    EXPECT_ERROR(generated(model, "", 1, {}), "the prompt is empty");
    EXPECT_ERROR(generated(model, "a", -1, {}), "-1 tokens");
    ModelConfig config = model.config();
    config.vocabulary = 19;
    EXPECT_ERROR(generated(LanguageModel(config), "a", 1, {}), "a vocabulary of 19");
}

}  // namespace
}  // namespace aft
