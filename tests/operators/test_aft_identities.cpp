// Identities of AFT-full (SPEC "The operators"), its decoding, and its memory.
#include <gtest/gtest.h>

#include <cmath>

#include "aft/error.h"
#include "models/mixers/full.h"
#include "tests/operators/mixer_problem.h"

namespace aft {
namespace {

using namespace reference;

// Every result of `found` against the oracle's, in the contract's bound.
void expect_equal(const Tensors &found, const Results &expected) {
    const double bound = 0x1p-24 * aft_bound(found.at("output").size(1));
    for (const auto &[name, result] : expected) {
        const Array x = to_array(found.at(name));
        for (size_t n = 0; n < x.size(); n++)
            ASSERT_LE(std::abs(x[n] - result.value[n]), bound * result.magnitude[n] + 1e-30) << name << " element " << n;
    }
}

// Multiples of 1/64 and a shift of 2^7: the shifted inputs are exact, so the results must agree.
TEST(AftFullIdentities, ShiftsOfKeyColumnsAndBiasRowsChangeNothing) {
    for (bool causal : {true, false}) {
        Tensors in = biased_problem(2, 40, 5, 0), shifted = in;
        for (const char *name : {"key", "position_bias"}) {
            Tensor x = in[name].clone();
            for (int64_t n = 0; n < x.elements(); n++) x.data()[n] = std::round(x.data()[n] * 64) / 64;
            in[name] = x, shifted[name] = x.clone();
        }
        for (int64_t n = 0; n < shifted["key"].elements(); n++) shifted["key"].data()[n] += float(n % 5 - 2) * 128;
        for (int64_t n = 0; n < shifted["position_bias"].elements(); n++) shifted["position_bias"].data()[n] += float(n / 40 % 3 - 1) * 128;
        expect_equal(run_mixer({MixerKind::full, causal, 0}, shifted), aft_bias_oracle(to_arrays(in), causal, int64_t(1) << 40));
    }
}

// One step for each token, from the start and behind a prefill, equals the row of the parallel form.
TEST(AftFullIdentities, DecodingEqualsTheParallelForm) {
    constexpr int64_t B = 2, T = 37, C = 19;
    for (int64_t D : {0, 6})
        for (double keys : {1.0, 80.0, 4000.0})
            for (int64_t prefilled : {0, 20}) {
                const Tensors in = biased_problem(B, T, C, D, keys);
                const MixerTensors all = mixer_tensors(in);
                const auto part = [&](int64_t begin, int64_t end) {
                    MixerTensors x = all;
                    for (Tensor *y : {&x.query, &x.key, &x.value}) *y = y->slice(1, begin, end);
                    return x;
                };
                const auto mixer = make_mixer({MixerKind::full, true, 0});
                Arena arena;
                MixerState state = mixer->start(all, B, C, T);
                Tensor output({B, T, C});
                const Results expected = aft_bias_oracle(to_arrays(in), true, int64_t(1) << 40);
                output.copy_from(run_mixer({MixerKind::full, true, 0}, in)["output"]);
                if (prefilled) mixer->prefill(part(0, prefilled), state, arena);
                for (int64_t t = prefilled; t < T; t++) {
                    Tensor y = output.slice(1, t, t + 1);
                    mixer->step(part(t, t + 1), state, y, arena);
                }
                EXPECT_EQ(state.position, T);
                const Array y = to_array(output);
                const Result &wanted = expected.at("output");
                for (size_t n = 0; n < y.size(); n++)
                    ASSERT_LE(std::abs(y[n] - wanted.value[n]), 0x1p-24 * aft_bound(T) * wanted.magnitude[n] + 1e-30) << "keys " << keys << " element " << n;
                Tensor one({B, 1, C});
                EXPECT_THROW(mixer->step(part(0, 1), state, one, arena), Error);
            }
}

// Parameter gradients are added to, activation gradients overwritten.
TEST(AftFullIdentities, ParameterGradientsAccumulate) {
    const Tensors in = biased_problem(2, 21, 5, 4);
    const MixerTensors x = mixer_tensors(in);
    MixerTensors dx;
    for (auto member : {&MixerTensors::query, &MixerTensors::key, &MixerTensors::value, &MixerTensors::bias_u, &MixerTensors::bias_v})
        dx.*member = Tensor((x.*member).shape()), (dx.*member).fill(0);
    const auto mixer = make_mixer({MixerKind::full, true, 0});
    const Tensors once = run_mixer({MixerKind::full, true, 0}, in);
    for (int pass = 0; pass < 2; pass++) {
        Arena arena;
        MixerSaved saved;
        Tensor output({2, 21, 5});
        mixer->forward(x, output, saved, arena);
        mixer->backward(x, output, saved, in.at("output_gradient"), dx, arena);
    }
    for (int64_t n = 0; n < dx.bias_u.elements(); n++) {
        EXPECT_NEAR(dx.bias_u.data()[n], 2 * once.at("bias_u_gradient").data()[n], 1e-5);
        EXPECT_NEAR(dx.bias_v.data()[n], 2 * once.at("bias_v_gradient").data()[n], 1e-5);
    }
    for (int64_t n = 0; n < dx.key.elements(); n++) EXPECT_EQ(dx.key.data()[n], once.at("key_gradient").data()[n]);
}

// Where Q = -180 the output is below the smallest float, and yet the gradients are not: the exact path makes them. (Of AFT-simple
// docs/numerics.md says that it loses them.)
TEST(AftIdentities, ShutGatesKeepTheirGradients) {
    for (const MixerKind kind : {MixerKind::full, MixerKind::local, MixerKind::conv})
        for (bool causal : {true, false}) {
            Tensors in = biased_problem(2, 40, 6, 3);
            for (int64_t n = 0; n < in["query"].elements(); n++) in["query"].data()[n] -= 180;
            for (const char *name : {"value", "output_gradient"})
                for (int64_t n = 0; n < in[name].elements(); n++) in[name].data()[n] *= 1e29f;
            const bool conv = kind == MixerKind::conv;
            if (conv) in.erase("bias_u"), in.erase("bias_v"), in["filter"] = random_tensor({6, 5}, 1, 5);
            const int64_t window = kind == MixerKind::local ? 7 : 0;
            SCOPED_TRACE(std::string(name_of(kind)) + (causal ? " causal" : ""));
            const Arrays arrays = to_arrays(in);
            expect_equal(run_mixer({kind, causal, window}, in), conv ? aft_conv_oracle(arrays, causal) : aft_bias_oracle(arrays, causal, window ? window : 40));
        }
}

// Backward reads what forward made, so another tensor's shape is refused by name; AFT-simple needs none.
TEST(AftIdentities, BackwardWantsTheOutputOfForward) {
    for (const MixerKind kind : {MixerKind::full, MixerKind::local, MixerKind::conv, MixerKind::simple}) {
        Tensors in = biased_problem(1, 9, 4, 2);
        if (kind == MixerKind::conv) in = {{"query", in["query"]}, {"key", in["key"]}, {"value", in["value"]}, {"output_gradient", in["output_gradient"]}, {"filter", random_tensor({4, 3}, 1, 5)}};
        if (kind == MixerKind::simple) in.erase("bias_u"), in.erase("bias_v");
        const MixerTensors x = mixer_tensors(in);
        MixerTensors dx;
        for (auto member : {&MixerTensors::query, &MixerTensors::key, &MixerTensors::value}) dx.*member = Tensor((x.*member).shape());
        const auto mixer = make_mixer({kind, true, kind == MixerKind::local ? 3 : 0});
        Arena arena;
        MixerSaved saved;
        Tensor output({1, 9, 4});
        mixer->forward(x, output, saved, arena);
        if (!mixer->reads_output()) {
            EXPECT_EQ(kind, MixerKind::simple);
            EXPECT_NO_THROW(mixer->backward(x, {}, saved, in.at("output_gradient"), dx, arena));
            continue;
        }
        EXPECT_NO_THROW(mixer->backward(x, output, saved, in.at("output_gradient"), dx, arena));
        for (const Tensor &wrong : {Tensor(), Tensor({1, 8, 4})}) {
            try {
                mixer->backward(x, wrong, saved, in.at("output_gradient"), dx, arena);
                ADD_FAILURE() << name_of(kind);
            } catch (const Error &error) {
                EXPECT_NE(std::string(error.what()).find("'output'"), std::string::npos) << error.what();
            }
        }
    }
}

size_t peak(int64_t T, bool causal) {
    const FullSettings before = full_settings();
    full_settings().workspace_bytes = 0;  // as at the lengths where T x T does not fit
    full_settings().block = 64;
    const size_t peak = peak_of_passes({MixerKind::full, causal, 0}, biased_problem(1, T, 4, 2));
    full_settings() = before;
    return peak;
}

TEST(AftFullMemory, GrowsLinearlyWithLength) {
    for (bool causal : {true, false}) {
        const size_t one = peak(2048, causal), two = peak(4096, causal);
        EXPECT_LT(double(two), 2.1 * double(one)) << "causal " << causal;
        EXPECT_LT(two, size_t(8) << 20);  // 4096 x 4096 floats would be 64 MiB
    }
}

}  // namespace
}  // namespace aft
