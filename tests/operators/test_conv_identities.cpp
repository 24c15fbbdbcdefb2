// Identities of AFT-conv (SPEC "The operators"), its decoding state, its memory.
#include <gtest/gtest.h>

#include <cmath>

#include "aft/error.h"
#include "tests/operators/mixer_problem.h"

namespace aft {
namespace {

using namespace reference;

constexpr int64_t B = 2, T = 45, H = 3, G = 7, C = H * G, taps = 8;

Tensors problem(int64_t b = B, int64_t t = T, int64_t c = C, int64_t h = H) {
    return {{"query", random_tensor({b, t, c}, 1, 1)}, {"key", random_tensor({b, t, h}, 1, 2)}, {"value", random_tensor({b, t, c}, 1, 3)},
            {"output_gradient", random_tensor({b, t, c}, 1, 4)}, {"filter", random_tensor({h, taps}, 1, 5)}};
}

// The key of its head for each channel.
Tensor broadcast_to_channels(const Tensor &key) {
    Tensor wide({key.size(0), key.size(1), C});
    for (int64_t n = 0; n < key.size(0) * key.size(1); n++)
        for (int64_t c = 0; c < C; c++) wide.data()[n * C + c] = key.data()[n * H + c / G];
    return wide;
}

// Each of two fast results is within the contract's bound of the truth, hence within twice of the other.
void expect_near(const Tensor &a, const Tensor &b, const Array &magnitude, const char *name) {
    ASSERT_EQ(a.shape(), b.shape()) << name;
    const Array x = to_array(a), y = to_array(b);
    for (size_t n = 0; n < x.size(); n++) ASSERT_LE(std::abs(x[n] - y[n]), 2 * 0x1p-24 * aft_bound(T) * magnitude[n] + 2e-30) << name << " element " << n;
}

// Full attends with one w for all channels: so head by head.
TEST(AftConvIdentities, IsFullWithAToeplitzBias) {
    for (bool causal : {true, false}) {
        const Tensors in = problem();
        const Tensors conv = run_mixer({MixerKind::conv, causal, 0}, in);
        const Results truth = aft_conv_oracle(to_arrays(in), causal);
        const int64_t before = causal ? taps - 1 : taps / 2;
        for (int64_t h = 0; h < H; h++) {
            Tensors head;
            for (const char *name : {"query", "value", "output_gradient"}) head[name] = in.at(name).slice(2, h * G, (h + 1) * G).clone();
            head["key"] = broadcast_to_channels(in.at("key")).slice(2, h * G, (h + 1) * G).clone();
            Tensor w({T, T});
            w.fill(0);
            for (int64_t t = 0; t < T; t++)
                for (int64_t j = 0; j < taps; j++)
                    if (const int64_t key = t + j - before; key >= 0 && key < T) w.data()[t * T + key] = in.at("filter").data()[h * taps + j];
            head["position_bias"] = w;
            const Tensors full = run_mixer({MixerKind::full, causal, 0}, head);
            for (const char *name : {"output", "query_gradient", "value_gradient"}) {
                Array magnitude = to_array(full.at(name));
                const Array &all = truth.at(name).magnitude;
                for (size_t n = 0; n < magnitude.size(); n++) magnitude[n] = all[n / size_t(G) * size_t(C) + size_t(h * G) + n % size_t(G)];
                expect_near(conv.at(name).slice(2, h * G, (h + 1) * G).clone(), full.at(name), magnitude, name);
            }
        }
    }
}

TEST(AftConvIdentities, FreshGatesMakeItSimple) {
    for (bool causal : {true, false}) {
        Tensors in = problem();
        Tensor gamma({H}), beta({H});
        gamma.fill(0), beta.fill(0);
        in["gamma"] = gamma, in["beta"] = beta;
        Tensors plain = {{"query", in["query"]}, {"key", broadcast_to_channels(in["key"])}, {"value", in["value"]}, {"output_gradient", in["output_gradient"]}};
        const Tensors conv = run_mixer({MixerKind::conv, causal, 0}, in), simple = run_mixer({MixerKind::simple, causal, 0}, plain);
        const Results truth = aft_conv_oracle(to_arrays(in), causal);
        for (const char *name : {"output", "query_gradient", "value_gradient"}) expect_near(conv.at(name), simple.at(name), truth.at(name).magnitude, name);
        for (int64_t n = 0; n < H * taps; n++) ASSERT_EQ(conv.at("filter_gradient").data()[n], 0) << "gamma is 0, so the raw filter has no say";
    }
}

// Multiples of 1/64 and a shift of a multiple of 2^7: the shifted keys are exact.
TEST(AftConvIdentities, ShiftsOfKeyColumnsChangeNothing) {
    for (bool causal : {true, false}) {
        Tensors in = problem(), shifted = in;
        Tensor key = in["key"].clone();
        for (int64_t n = 0; n < key.elements(); n++) key.data()[n] = std::round(key.data()[n] * 64) / 64;
        in["key"] = key, shifted["key"] = key.clone();
        for (int64_t n = 0; n < key.elements(); n++) shifted["key"].data()[n] += float(n % H - 1) * 128;
        const Tensors a = run_mixer({MixerKind::conv, causal, 0}, in), b = run_mixer({MixerKind::conv, causal, 0}, shifted);
        const Results truth = aft_conv_oracle(to_arrays(in), causal);
        for (const auto &[name, found] : a) expect_near(found, b.at(name), truth.at(name).magnitude, name.c_str());
    }
}

// Parameter gradients are added to, activation gradients overwritten.
TEST(AftConvIdentities, ParameterGradientsAccumulate) {
    const Tensors in = problem(), once = run_mixer({MixerKind::conv, true, 0}, in);
    MixerTensors x, dx;
    x.query = in.at("query"), x.key = in.at("key"), x.value = in.at("value"), x.filter = in.at("filter");
    dx.query = Tensor(x.query.shape()), dx.key = Tensor(x.key.shape()), dx.value = Tensor(x.value.shape()), dx.filter = Tensor(x.filter.shape());
    dx.filter.fill(0);
    const auto mixer = make_mixer({MixerKind::conv, true, 0});
    for (int pass = 0; pass < 2; pass++) {
        Arena arena;
        MixerSaved saved;
        Tensor output({B, T, C});
        mixer->forward(x, output, saved, arena);
        mixer->backward(x, output, saved, in.at("output_gradient"), dx, arena);
    }
    for (int64_t n = 0; n < H * taps; n++) {
        const float found = once.at("filter_gradient").data()[n];
        EXPECT_NEAR(dx.filter.data()[n], 2 * found, 4 * 0x1p-24 * std::abs(found));
    }
    for (int64_t n = 0; n < dx.key.elements(); n++) ASSERT_EQ(dx.key.data()[n], once.at("key_gradient").data()[n]);
}

// Every step from the start is the row of the oracle; the state is C + 2 H (in double) + s (C + H).
TEST(AftConvDecoding, StepsAreTheRowsOfTheParallelForm) {
    for (int64_t prompt : {0, 3, 20}) {
        const Tensors in = problem();
        MixerTensors all;
        all.query = in.at("query"), all.key = in.at("key"), all.value = in.at("value"), all.filter = in.at("filter");
        const auto part = [&](int64_t begin, int64_t end) {
            MixerTensors x = all;
            for (Tensor *y : {&x.query, &x.key, &x.value}) *y = y->slice(1, begin, end);
            return x;
        };
        const auto mixer = make_mixer({MixerKind::conv, true, 0});
        MixerState state = mixer->start(all, B, C, 1 << 20);
        int64_t bytes = 0;
        for (const Tensor &tensor : state.tensors) bytes += int64_t(tensor.bytes());
        EXPECT_EQ(bytes, B * (8 * (C + 2 * H) + 4 * taps * (C + H)));
        Arena arena;
        if (prompt) mixer->prefill(part(0, prompt), state, arena);
        Arrays arrays = to_arrays(in);
        arrays.erase("output_gradient");
        const Result wanted = aft_conv_oracle(arrays, true).at("output");
        Tensor y({B, 1, C});
        for (int64_t t = prompt; t < T; t++) {
            mixer->step(part(t, t + 1), state, y, arena);
            for (int64_t n = 0; n < B * C; n++) {
                const size_t at = size_t((n / C * T + t) * C + n % C);
                ASSERT_LE(std::abs(y.data()[n] - wanted.value[at]), 0x1p-24 * aft_bound(T) * wanted.magnitude[at] + 1e-30) << "token " << t;
            }
        }
        EXPECT_EQ(state.position, T);
    }
    EXPECT_THROW(make_mixer({MixerKind::conv, false, 0})->start({}, 1, 4, 8), Error);
}

TEST(AftConvMemory, GrowsLinearlyWithLength) {
    for (bool causal : {true, false}) {
        const auto peak = [&](int64_t length) { return peak_of_passes({MixerKind::conv, causal, 0}, problem(1, length, 16, 4)); };
        const size_t one = peak(16384), two = peak(32768);
        EXPECT_LT(double(two), 2.1 * double(one)) << "causal " << causal;
        EXPECT_LT(two, size_t(32) << 20);  // 32768 x 32768 floats would be 4 GiB
    }
}

}  // namespace
}  // namespace aft
