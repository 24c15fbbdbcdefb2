#include "models/mixers/local_decoding.h"

#include <algorithm>
#include <cmath>

#include "aft/error.h"
#include "kernel_table.h"
#include "models/mixers/mixers.h"
#include "runtime/parallel.h"

namespace aft {
namespace {

constexpr int64_t chunk = 16;        // of generators/local_step.h
constexpr double spread_limit = 40;  // of K and w together, for the factored form: generators/local_step.h

// w[t, t'] of the newest inside keys, oldest first.
void bias_of(const MixerTensors &in, int64_t t, Tensor &w) {
    const int64_t inside = w.size(0), first = t + 1 - inside;
    if (in.position_bias.defined())
        std::copy_n(in.position_bias.data() + t * in.position_bias.stride(0) + first, inside, w.data<double>());
    else
        kernels().local_step_bias_f64(in.bias_u.select(0, t), in.bias_v.slice(0, first, t + 1), w);
}

// The state of what left the window takes in tokens [B, n, C].
void fold(const Tensor &key, const Tensor &value, MixerState &state) {
    Tensor num = state.tensors[0].select(0, 0), den = state.tensors[0].select(0, 1), max = state.tensors[0].select(0, 2);
    kernels().local_step_fold_f32(key, value, num, den, max);
}

// Sequences [first, last) with K + w in double; w in the order of the ring.
void step_exactly(const MixerTensors &in, const MixerState &state, const Tensor &w, int64_t first, int64_t last, Tensor &y) {
    const auto part = [&](const Tensor &x) { return x.slice(0, first, last); };
    const int64_t inside = w.size(0);
    Tensor out = part(y);
    kernels().aft_local_step_f32(part(in.query.select(1, 0)), part(state.tensors[1]).slice(1, 0, inside), part(state.tensors[2]).slice(1, 0, inside), w,
                                 state.tensors[0].slice(1, first, last), out);
    count_exact_elements(out.elements());
}

// s = 0: only sums, as in AFT-simple.
void step_without_window(const MixerTensors &in, const MixerState &state, Tensor &output) {
    const int64_t B = in.query.size(0), C = in.query.size(2), plane = B * C;
    for (int64_t b = 0; b < B; b++) {
        const double *far = state.tensors[0].data<double>() + b * C;
        for (int64_t c = 0; c < C; c++)
            output.data()[b * output.stride(0) + c] = float(far[c] / far[plane + c] / (1 + std::exp(-double(in.query.data()[b * in.query.stride(0) + c]))));
    }
}

}  // namespace

MixerState start_local(int64_t batch, int64_t channels, int64_t window) {
    Tensor far({3, batch, channels}, DType::f64), keys({batch, window, channels}), values({batch, window, channels});
    std::fill_n(far.data<double>(), 2 * batch * channels, 0.0);
    std::fill_n(far.data<double>() + 2 * batch * channels, batch * channels, -1e300);
    return {{far, keys, values}, 0};
}

void push_local(const Tensor &key, const Tensor &value, int64_t window, MixerState &state) {
    const int64_t B = value.size(0), T = value.size(1), C = value.size(2), p = state.position;
    if (state.tensors.size() != 3 || state.tensors[0].shape() != Shape{3, B, C}) throw Error("AFT-local: the decoding state does not fit tokens of shape " + to_string(value.shape()));
    // Tokens leave the window in their order: first those of the ring, then new ones that never enter it.
    if (window > 0)
        for (int64_t t = std::max<int64_t>(0, p - window); t < std::min(p, p + T - window); t++)
            fold(state.tensors[1].slice(1, t % window, t % window + 1), state.tensors[2].slice(1, t % window, t % window + 1), state);
    if (T > window) fold(key.slice(1, 0, T - window), value.slice(1, 0, T - window), state);
    if (window > 0)
        parallel_for(B, [&](int64_t b) {
            for (int64_t n = std::max<int64_t>(0, T - window); n < T; n++) {
                const int64_t at = (b * window + (p + n) % window) * C;
                std::copy_n(key.data() + b * key.stride(0) + n * key.stride(1), C, state.tensors[1].data() + at);
                std::copy_n(value.data() + b * value.stride(0) + n * value.stride(1), C, state.tensors[2].data() + at);
            }
        });
    state.position += T;
}

void step_local(const MixerTensors &in, int64_t window, const MixerState &state, Tensor &output, Arena &arena) {
    const int64_t t = state.position - 1, B = in.query.size(0), C = in.query.size(2);
    if (window == 0) return step_without_window(in, state, output);
    const ArenaScope scope(arena);
    const int64_t inside = std::min(window, t + 1);  // keys t - inside + 1 .. t lie in the first slots of the ring
    const bool has_far = t >= window;
    Tensor row = arena.allocate({inside}, DType::f64), w = arena.allocate({inside}, DType::f64);
    bias_of(in, t, row);
    std::rotate_copy(row.data<double>(), row.data<double>() + (inside - (t + 1) % window % inside) % inside, row.data<double>() + inside, w.data<double>());

    const auto [least, most] = std::minmax_element(w.data<double>(), w.data<double>() + inside);
    const double top = has_far ? std::max(*most, 0.0) : *most, spread_of_w = top - (has_far ? std::min(*least, 0.0) : *least);
    Tensor y = output.select(1, 0);
    if (spread_of_w > spread_limit) return step_exactly(in, state, w, 0, B, y);

    Tensor weights = arena.allocate({(inside + chunk - 1) / chunk * chunk}), spread = arena.allocate({B, C});
    weights.fill(0);
    for (int64_t n = 0; n < inside; n++) weights.data()[n] = float(std::exp(w.data<double>()[n] - top));
    kernels().local_step_mix_f32(in.query.select(1, 0), state.tensors[1].slice(1, 0, inside), state.tensors[2].slice(1, 0, inside), weights, state.tensors[0].select(0, 0),
                                 state.tensors[0].select(0, 1), state.tensors[0].select(0, 2), has_far ? float(std::exp(-top)) : 0.0f, y, spread);
    // By sequence, so that a sequence has the same bits in any batch.
    const float limit = float(spread_limit - spread_of_w);
    for (int64_t b = 0; b < B; b++) {
        int beyond = 0;
        for (const float *x = spread.data() + b * C, *end = x + C; x < end; x++) beyond |= *x > limit;
        if (beyond) step_exactly(in, state, w, b, b + 1, y);
    }
}

}  // namespace aft
