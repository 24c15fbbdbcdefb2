// `aft op mixer` on small files, against the formula computed here.
#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "aft/safetensors.h"
#include "tests/tools/program.h"

namespace aft::test {
namespace {

constexpr int64_t B = 2, T = 5, C = 3;

// Some values in (-1, 1), different for each tensor.
Tensor values(Shape shape, double phase) {
    Tensor x(std::move(shape));
    for (int64_t n = 0; n < x.elements(); n++) x.data()[n] = float(std::sin(phase + 1.7 * double(n)));
    return x;
}
TensorMap activations() { return {{"query", values({B, T, C}, 1)}, {"key", values({B, T, C}, 2)}, {"value", values({B, T, C}, 3)}}; }

TensorMap with(TensorMap tensors, const std::string &name, Tensor x) {
    tensors[name] = std::move(x);
    return tensors;
}

// Weight of key s for query t: w(t, s), before exp; cut by causality.
using Bias = double (*)(int64_t t, int64_t s);

double expected(const TensorMap &in, int64_t b, int64_t t, int64_t c, bool causal, Bias w) {
    const auto at = [&](const char *name, int64_t s) { return double(in.at(name).data()[(b * T + s) * C + c]); };
    double num = 0, den = 0;
    for (int64_t s = 0; s < (causal ? t + 1 : T); s++) {
        const double e = std::exp(at("key", s) + w(t, s));
        num += e * at("value", s), den += e;
    }
    return num / den / (1 + std::exp(-at("query", t)));
}

// `whole` is `in` with a key for every channel.
void expect_output(const TensorMap &in, const std::string &settings, bool causal, Bias w, const TensorMap &whole) {
    const TemporaryFolder folder;
    write_safetensors(folder / "in", in);
    const Outcome o = run_aft("op mixer --input " + (folder / "in") + " --output " + (folder / "out") + " " + settings);
    ASSERT_EQ(o.code, 0) << o.err;
    const TensorMap out = read_safetensors(folder / "out");
    ASSERT_EQ(out.size(), 1u);
    const Tensor &y = out.at("output");
    ASSERT_EQ(y.shape(), (Shape{B, T, C}));
    for (int64_t b = 0; b < B; b++)
        for (int64_t t = 0; t < T; t++)
            for (int64_t c = 0; c < C; c++) EXPECT_NEAR(y.data()[(b * T + t) * C + c], expected(whole, b, t, c, causal, w), 2e-6) << settings << " " << b << t << c;
}
void expect_output(const TensorMap &in, const std::string &settings, bool causal, Bias w) { expect_output(in, settings, causal, w, in); }

double no_bias(int64_t, int64_t) { return 0; }
double dense_bias(int64_t t, int64_t s) { return std::sin(4 + 1.7 * double(t * T + s)); }
double local_bias(int64_t t, int64_t s) { return std::abs(t - s) < 2 ? dense_bias(t, s) : 0; }

TEST(Op, SimpleIsTheFormula) {
    expect_output(activations(), "--set variant=simple --set causal=true", true, no_bias);
    expect_output(activations(), "--set variant=simple --set causal=false", false, no_bias);
    expect_output(activations(), "--set variant=simple", false, no_bias);
}

TEST(Op, FullIsTheFormula) {
    const TensorMap in = with(activations(), "position_bias", values({T, T}, 4));
    expect_output(in, "--set variant=full --set causal=true", true, dense_bias);
    expect_output(in, "--set variant=full", false, dense_bias);
}

TEST(Op, LocalIsTheFormula) {
    const TensorMap in = with(activations(), "position_bias", values({T, T}, 4));
    expect_output(in, "--set variant=local --set window=2 --set causal=true", true, local_bias);
    expect_output(in, "--set variant=local --set window=2", false, local_bias);
    expect_output(in, "--set variant=local --set window=0", false, no_bias);
}

TEST(Op, FactorisedBiasIsAProduct) {
    const TensorMap in = with(with(activations(), "bias_u", values({T, 2}, 5)), "bias_v", values({T, 2}, 6));
    const Bias product = [](int64_t t, int64_t s) { return std::sin(5 + 1.7 * 2 * t) * std::sin(6 + 1.7 * 2 * s) + std::sin(5 + 1.7 * (2 * t + 1)) * std::sin(6 + 1.7 * (2 * s + 1)); };
    expect_output(in, "--set variant=full --set causal=true", true, product);
}

// One head: its key counts for every channel, its three taps for the offsets -2 ... 0 (causal) or -1 ... 1.
TEST(Op, ConvIsTheFormula) {
    TensorMap whole = activations();
    TensorMap in = with(with(activations(), "key", values({B, T, 1}, 2)), "filter", values({1, 3}, 4));
    for (int64_t n = 0; n < B * T * C; n++) whole.at("key").data()[n] = in.at("key").data()[n / C];
    static const auto tap = [](int64_t j) { return j >= 0 && j < 3 ? std::sin(4 + 1.7 * double(j)) : 0; };
    expect_output(in, "--set variant=conv --set causal=true", true, [](int64_t t, int64_t s) { return tap(s - t + 2); }, whole);
    expect_output(in, "--set variant=conv", false, [](int64_t t, int64_t s) { return tap(s - t + 1); }, whole);
    // F7: gamma (w - mean) / sqrt(variance + 1e-5) + beta over the taps, and 0 outside of them as before.
    const Tensor gamma({1}), beta({1});
    gamma.data()[0] = 2, beta.data()[0] = -1;
    const Bias gated = [](int64_t t, int64_t s) {
        const double mean = (tap(0) + tap(1) + tap(2)) / 3;
        double variance = 0;
        for (int64_t j = 0; j < 3; j++) variance += (tap(j) - mean) * (tap(j) - mean) / 3;
        const int64_t j = s - t + 2;
        return j >= 0 && j < 3 ? 2 * (tap(j) - mean) / std::sqrt(variance + 1e-5) - 1 : 0;
    };
    expect_output(with(with(in, "gamma", gamma), "beta", beta), "--set variant=conv --set causal=true", true, gated, whole);
}

TEST(Op, GradientsAreFiniteDifferences) {
    const TemporaryFolder folder;
    const TensorMap in = with(activations(), "output_gradient", values({B, T, C}, 5));
    write_safetensors(folder / "in", in);
    const Outcome o = run_aft("op mixer --json --input " + (folder / "in") + " --output " + (folder / "out") + " --set variant=simple --set causal=true");
    ASSERT_EQ(o.code, 0) << o.err;
    EXPECT_EQ(nlohmann::json::parse(o.out).at("tensors").size(), 4u);
    const TensorMap out = read_safetensors(folder / "out");
    const auto loss = [&](const TensorMap &at) {
        double sum = 0;
        for (int64_t b = 0; b < B; b++)
            for (int64_t t = 0; t < T; t++)
                for (int64_t c = 0; c < C; c++) sum += expected(at, b, t, c, true, no_bias) * in.at("output_gradient").data()[(b * T + t) * C + c];
        return sum;
    };
    for (const char *name : {"query", "key", "value"})
        for (int64_t n = 0; n < B * T * C; n += 4) {
            const float h = 1.0f / 256;  // exact steps: the values are fp32
            const Tensor up = in.at(name).clone(), down = in.at(name).clone();
            up.data()[n] += h, down.data()[n] -= h;
            const double slope = (loss(with(in, name, up)) - loss(with(in, name, down))) / (double(up.data()[n]) - double(down.data()[n]));
            EXPECT_NEAR(out.at(std::string(name) + "_gradient").data()[n], slope, 2e-5) << name << " " << n;
        }
}

void expect_refused(const TensorMap &in, const std::string &settings, int code, const std::string &part) {
    const TemporaryFolder folder;
    write_safetensors(folder / "in", in);
    const Outcome o = run_aft("op mixer --input " + (folder / "in") + " --output " + (folder / "out") + " " + settings);
    EXPECT_EQ(o.code, code) << o.err;
    EXPECT_NE(o.err.find(part), std::string::npos) << "wanted: " << part << "\n" << o.err;
    EXPECT_FALSE(std::filesystem::exists(folder / "out"));
}

TEST(Op, RefusesTensorsByName) {
    const std::string simple = "--set variant=simple";
    TensorMap in = activations();
    in.erase("value");
    expect_refused(in, simple, 1, "'value'");
    expect_refused(with(activations(), "extra", values({2}, 1)), simple, 1, "'extra'");
    expect_refused(with(activations(), "position_bias", values({T, T}, 1)), simple, 1, "'position_bias'");
    expect_refused(with(activations(), "key", values({B, T, C + 1}, 1)), simple, 1, "'key'");
    expect_refused(with(activations(), "output_gradient", values({B, C, T}, 1)), simple, 1, "'output_gradient'");
    for (const char *name : {"query", "key", "value", "output_gradient"}) {
        Tensor wide({B, T, C}, DType::f64);
        std::fill_n(wide.data<double>(), wide.elements(), 0.0);
        expect_refused(with(activations(), name, wide), simple, 1, std::string("'") + name + "'");
    }
    expect_refused(with(activations(), "query", values({0, T, C}, 1)), simple, 1, "'query' has the shape [0, 5, 3]; it must be [B, T, C] = [1 or more");
    expect_refused(activations(), "--set variant=full", 1, "'position_bias'");
    expect_refused(with(activations(), "position_bias", values({T + 1, T + 1}, 1)), "--set variant=full", 1, "'position_bias'");
    expect_refused(with(activations(), "position_bias", values({T, T + 1}, 1)), "--set variant=full", 1, "'position_bias'");
    expect_refused(with(activations(), "bias_u", values({T, 2}, 1)), "--set variant=full", 1, "'bias_v'");
}

TEST(Op, RefusesSettings) {
    expect_refused(activations(), "", 2, "variant");
    expect_refused(activations(), "--set variant=best", 2, "best");
    expect_refused(activations(), "--set variant=simple --set color=red", 2, "color");
    expect_refused(activations(), "--set variant=simple --set causal=maybe", 2, "maybe");
    expect_refused(activations(), "--set variant=simple --set causal", 2, "KEY=VALUE");
    expect_refused(activations(), "--set variant=simple --set variant=full", 2, "twice");
    expect_refused(activations(), "--set variant=simple --set window=3", 2, "window");
    expect_refused(activations(), "--set variant=local", 2, "window");
    expect_refused(activations(), "--set variant=local --set window=-1", 2, "window");
    expect_refused(activations(), "--set variant=conv --set grid=1x5", 1, "grid needs the 2-D convolution, which this build does not have");
}

TEST(Op, RefusesFiles) {
    const TemporaryFolder folder;
    EXPECT_EQ(run_aft("op mixer --set variant=simple --input /nonexistent --output " + (folder / "out")).code, 1);
    EXPECT_EQ(run_aft("op mixer --set variant=simple --output " + (folder / "out")).code, 2);
    EXPECT_EQ(run_aft("op bogus --input a --output b").code, 2);
    write_safetensors(folder / "in", activations());
    const Outcome o = run_aft("op mixer --set variant=simple --input " + (folder / "in") + " --output " + (folder / "missing/out"));
    EXPECT_EQ(o.code, 1);
    EXPECT_TRUE(o.err.starts_with("aft: error: ")) << o.err;
}

TEST(Op, ListNamesTheOperators) {
    const Outcome o = run_aft("op --list");
    EXPECT_EQ(o.code, 0);
    EXPECT_NE(o.out.find("position_bias"), std::string::npos);
    EXPECT_EQ(nlohmann::json::parse(run_aft("op --list --json").out).at("operators")[0].at("name"), "mixer");
}

}  // namespace
}  // namespace aft::test
