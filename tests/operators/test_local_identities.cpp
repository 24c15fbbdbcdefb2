// Identities of AFT-local (SPEC "The operators"), its decoding, and its memory.
#include <gtest/gtest.h>

#include <cmath>

#include "aft/error.h"
#include "tests/operators/mixer_problem.h"

namespace aft {
namespace {

using namespace reference;

// The results that both have, each within the contract's bound of the truth (`magnitudes`), hence within twice of each other.
void expect_same(const Tensors &a, const Tensors &b, const Results &magnitudes, int64_t T) {
    const double bound = 2 * 0x1p-24 * aft_bound(T);
    for (const auto &[name, found] : a) {
        ASSERT_TRUE(b.contains(name)) << name;
        const Array x = to_array(found), y = to_array(b.at(name));
        const Array &magnitude = magnitudes.at(name).magnitude;
        for (size_t n = 0; n < x.size(); n++) ASSERT_LE(std::abs(x[n] - y[n]), bound * magnitude[n] + 2e-30) << name << " element " << n;
    }
}

TEST(AftLocalIdentities, NoWindowIsSimple) {
    constexpr int64_t T = 70;
    for (bool causal : {true, false}) {
        const Tensors in = biased_problem(2, T, 19, 0);
        Tensors plain = in;
        plain.erase("position_bias");
        Tensors local = run_mixer({MixerKind::local, causal, 0}, in);
        const Tensor bias = local.at("position_bias_gradient");
        for (int64_t n = 0; n < bias.elements(); n++) ASSERT_EQ(bias.data()[n], 0) << "a bias outside every window has a gradient";
        local.erase("position_bias_gradient");
        expect_same(local, run_mixer({MixerKind::simple, causal, 0}, plain), aft_bias_oracle(to_arrays(in), causal, 0), T);
    }
}

TEST(AftLocalIdentities, AWindowOfAllIsFull) {
    constexpr int64_t T = 45;
    for (bool causal : {true, false})
        for (int64_t D : {0, 6})
            for (int64_t window : {T, T + 1, 10 * T}) {
                const Tensors in = biased_problem(2, T, 19, D);
                expect_same(run_mixer({MixerKind::local, causal, window}, in), run_mixer({MixerKind::full, causal, 0}, in), aft_bias_oracle(to_arrays(in), causal, window), T);
            }
}

// Multiples of 1/64 and a shift of a multiple of 2^7: the shifted keys are exact, so the results must agree. (A row of w may
// be shifted for AFT-full only: beyond the window of AFT-local w stays 0.)
TEST(AftLocalIdentities, ShiftsOfKeyColumnsChangeNothing) {
    constexpr int64_t T = 60, C = 5;
    for (bool causal : {true, false}) {
        Tensors in = biased_problem(2, T, C, 4), shifted = in;
        Tensor keys = in["key"].clone();
        for (int64_t n = 0; n < keys.elements(); n++) keys.data()[n] = std::round(keys.data()[n] * 64) / 64;
        in["key"] = keys, shifted["key"] = keys.clone();
        for (int64_t n = 0; n < keys.elements(); n++) shifted["key"].data()[n] += float(n % C - 2) * 128;
        expect_same(run_mixer({MixerKind::local, causal, 9}, shifted), run_mixer({MixerKind::local, causal, 9}, in), aft_bias_oracle(to_arrays(in), causal, 9), T);
    }
}

// One step for each token, from the start and behind prefills shorter and longer than the window, is the row of the oracle.
TEST(AftLocalDecoding, StepsAreTheRowsOfTheParallelForm) {
    constexpr int64_t B = 2, T = 53, C = 35;
    for (int64_t D : {0, 6})
        for (double keys : {1.0, 80.0, 4000.0})
            for (int64_t window : {0, 1, 7, 60})
                for (int64_t prompt : {0, 5, 30}) {
                    Tensors in = biased_problem(B, T, C, D, keys);
                    for (int64_t c = 0; c < C; c++) in["key"].data()[(T - 2) * C + c] += 9000;  // one huge key near the end
                    const MixerTensors all = mixer_tensors(in);
                    const auto part = [&](int64_t begin, int64_t end) {
                        MixerTensors x = all;
                        for (Tensor *y : {&x.query, &x.key, &x.value}) *y = y->slice(1, begin, end);
                        return x;
                    };
                    const auto mixer = make_mixer({MixerKind::local, true, window});
                    Arena arena;
                    MixerState state = mixer->start(all, B, C, T);
                    if (prompt) mixer->prefill(part(0, prompt), state, arena);
                    Arrays arrays = to_arrays(in);
                    arrays.erase("output_gradient");
                    const Result wanted = aft_bias_oracle(arrays, true, window).at("output");
                    Tensor y({B, 1, C});
                    for (int64_t t = prompt; t < T; t++) {
                        mixer->step(part(t, t + 1), state, y, arena);
                        for (int64_t b = 0; b < B; b++)
                            for (int64_t c = 0; c < C; c++) {
                                const size_t n = size_t((b * T + t) * C + c);
                                ASSERT_LE(std::abs(y.data()[b * C + c] - wanted.value[n]), 0x1p-24 * aft_bound(T) * wanted.magnitude[n] + 1e-30)
                                    << "window " << window << " keys " << keys << " token " << t << " channel " << c;
                            }
                    }
                    EXPECT_EQ(state.position, T);
                }
}

// 3 C for what left the window (in double: two floats each), 2 s C for the ring, a number for 32 channels; nothing that
// grows with the length.
TEST(AftLocalDecoding, StateIsConstant) {
    const int64_t B = 2, C = 48, window = 32;
    const Tensors in = biased_problem(1, 40, C, 4);
    const MixerState state = make_mixer({MixerKind::local, true, window})->start(mixer_tensors(in), B, C, 1 << 20);
    int64_t bytes = 0;
    for (const Tensor &tensor : state.tensors) bytes += tensor.elements() * (tensor.dtype() == DType::f64 ? 8 : 4);
    EXPECT_LE(bytes, B * (3 * C * 8 + 2 * window * C * 4 + (C + 31) / 32 * 4));
}

TEST(AftLocalMemory, GrowsLinearlyWithLength) {
    for (bool causal : {true, false}) {
        const auto peak = [&](int64_t T) { return peak_of_passes({MixerKind::local, causal, 8}, biased_problem(1, T, 16, 4)); };
        const size_t one = peak(16384), four = peak(65536);
        EXPECT_LT(double(four), 4.4 * double(one)) << "causal " << causal;  // a tenth for what two lengths leave between tensors
        EXPECT_LT(four, size_t(64) << 20);  // 65536 x 65536 floats would be 16 GiB
    }
}

}  // namespace
}  // namespace aft
