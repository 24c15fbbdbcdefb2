// Decoding with AFT-simple: prefill and steps give the rows of the parallel form.
#include <gtest/gtest.h>

#include <cmath>

#include "aft/error.h"
#include "aft/mixer.h"
#include "tests/reference/operator_case.h"

namespace aft {
namespace {

MixerTensors slice(const MixerTensors &x, int64_t begin, int64_t end) {
    MixerTensors part;
    part.query = x.query.slice(1, begin, end), part.key = x.key.slice(1, begin, end), part.value = x.value.slice(1, begin, end);
    return part;
}

void expect_rows(int64_t B, int64_t T, int64_t C, int64_t prompt, float keys, float last) {
    const Shape shape = {B, T, C};
    MixerTensors in;
    in.query = reference::random_tensor(shape, 1, 1), in.key = reference::random_tensor(shape, keys, 2), in.value = reference::random_tensor(shape, 1, 3);
    for (int64_t n = 0; n < C; n++) in.key.data()[(T - 1) * C + n] += last;
    const auto mixer = make_mixer(MixerOptions{});
    Arena arena;
    MixerSaved saved;
    Tensor parallel(shape), step({B, 1, C});
    mixer->forward(in, parallel, saved, arena);

    MixerState state = mixer->start({}, B, C, T);
    if (prompt > 0) mixer->prefill(slice(in, 0, prompt), state, arena);
    EXPECT_EQ(state.position, prompt);
    const double bound = 0x1p-24 * (128 + 4 * std::sqrt(double(T)));
    for (int64_t t = prompt; t < T; t++) {
        mixer->step(slice(in, t, t + 1), state, step, arena);
        for (int64_t b = 0; b < B; b++)
            for (int64_t c = 0; c < C; c++)  // |V| < 5: a bound on the sum of the magnitudes
                ASSERT_NEAR(step.data()[b * C + c], parallel.data()[(b * T + t) * C + c], 5 * bound) << "b=" << b << " t=" << t << " c=" << c;
    }
    EXPECT_EQ(state.position, T);
}

TEST(DecodingSimple, StepsAreTheRowsOfTheParallelForm) {
    expect_rows(1, 40, 33, 0, 1, 0);
    expect_rows(3, 300, 65, 200, 1, 0);
    expect_rows(2, 150, 64, 149, 80, 0);
    expect_rows(2, 150, 64, 100, 1, 1e4f);
}

TEST(DecodingSimple, StateIsThreeValuesPerChannel) {
    const MixerState state = make_mixer(MixerOptions{})->start({}, 2, 48, 1 << 20);
    int64_t elements = 0;
    for (const Tensor &tensor : state.tensors) elements += tensor.elements();
    EXPECT_EQ(elements, 2 * 3 * 48);
}

TEST(DecodingSimple, RefusesABidirectionalMixer) {
    MixerOptions options;
    options.causal = false;
    EXPECT_THROW(make_mixer(options)->start({}, 1, 4, 8), Error);
}

}  // namespace
}  // namespace aft
