#include "models/mixers/local_decoding.h"

#include <algorithm>
#include <cmath>

#include "aft/error.h"
#include "kernel_table.h"
#include "models/mixers/mixers.h"

namespace aft {
namespace {

constexpr int64_t chunk = 16;        // of generators/local_step.h
constexpr double spread_limit = 40;  // of K and w together, for the factored form: generators/local_step.h
constexpr int64_t block = 32;        // channels of a sequence that go to the exact path together

// What a token's position says of the ring's keys, for all sequences and channels.
struct RingWeights {
    int64_t inside;             // keys in the window, in the first slots of the ring
    Tensor w, weights;          // [inside] f64: w in the order of the ring; [inside rounded up to chunks]: exp(w - r), 0 beyond
    double spread = 0;          // of w, the 0 of older tokens included
    float far_weight = 0;       // exp(-r), or 0 when no token has left the window

    RingWeights(const MixerTensors &parameters, int64_t window, int64_t t, Arena &arena) : inside(std::min(window, t + 1)) {
        const int64_t first = t + 1 - inside;
        w = arena.allocate({inside}, DType::f64), weights = arena.allocate({(inside + chunk - 1) / chunk * chunk});
        const Tensor oldest_first = arena.allocate({inside}, DType::f64);
        double *row = oldest_first.data<double>(), *ring = w.data<double>();
        if (parameters.position_bias.defined()) {
            std::copy_n(parameters.position_bias.data() + t * parameters.position_bias.stride(0) + first, inside, row);
        } else {
            Tensor found = oldest_first;
            kernels().local_step_bias_f64(parameters.bias_u.select(0, t), parameters.bias_v.slice(0, first, t + 1), found);
        }
        std::rotate_copy(row, row + (inside - (t + 1) % window % inside) % inside, row + inside, ring);
        const bool has_far = t >= window;
        const auto [least, most] = std::minmax_element(row, row + inside);
        const double r = has_far ? std::max(*most, 0.0) : *most;
        spread = r - (has_far ? std::min(*least, 0.0) : *least);
        if (has_far) far_weight = float(std::exp(-r));
        for (int64_t n = 0; n < inside; n++) weights.data()[n] = float(std::exp(ring[n] - r));
        std::fill(weights.data() + inside, weights.data() + weights.elements(), 0.0f);
    }
};

// s = 0: only sums, as in AFT-simple.
void mix_without_window(const Tensor &query, const Tensor &far, Tensor &y) {
    const Tensor nums = far.select(0, 0), dens = far.select(0, 1);
    for (int64_t b = 0; b < y.size(0); b++) {
        const double *num = nums.data<double>() + b * nums.stride(0), *den = dens.data<double>() + b * dens.stride(0);
        for (int64_t c = 0; c < y.size(1); c++)
            y.data()[b * y.stride(0) + c] = float(num[c] / den[c] / (1 + std::exp(-double(query.data()[b * query.stride(0) + c]))));
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
    Tensor num = state.tensors[0].select(0, 0), den = state.tensors[0].select(0, 1), max = state.tensors[0].select(0, 2);
    // Tokens leave the window in their order: first those of the ring, then new ones that never enter it.
    if (window > 0)
        for (int64_t t = std::max<int64_t>(0, p - window); t < std::min(p, p + T - window); t++)
            kernels().local_step_fold_f32(state.tensors[1], state.tensors[2], int32_t(t % window), 1, num, den, max);
    if (T > window) kernels().local_step_fold_f32(key, value, 0, int32_t(T - window), num, den, max);
    if (window > 0)
        for (int64_t b = 0; b < B; b++)
            for (int64_t n = std::max<int64_t>(0, T - window); n < T; n++) {
                const int64_t at = (b * window + (p + n) % window) * C;
                std::copy_n(key.data() + b * key.stride(0) + n * key.stride(1), C, state.tensors[1].data() + at);
                std::copy_n(value.data() + b * value.stride(0) + n * value.stride(1), C, state.tensors[2].data() + at);
            }
    state.position += T;
}

void step_local(const MixerTensors &in, int64_t window, const MixerState &state, Tensor &output, Arena &arena) {
    const Tensor query = in.query.select(1, 0), &far = state.tensors[0];
    Tensor y = output.select(1, 0);
    if (window == 0) return mix_without_window(query, far, y);
    const ArenaScope scope(arena);
    const RingWeights ring(in, window, state.position - 1, arena);
    const Tensor keys = state.tensors[1].slice(1, 0, ring.inside), values = state.tensors[2].slice(1, 0, ring.inside);
    const int64_t B = y.size(0), C = y.size(1);
    const auto exactly = [&](int64_t b0, int64_t b1, int64_t c0, int64_t c1) {  // with K + w in double
        const auto part = [&](const Tensor &x, int axis) { return x.slice(axis, b0, b1).slice(x.rank() - 1, c0, c1); };
        Tensor out = part(y, 0);
        kernels().aft_local_step_f32(part(query, 0), part(keys, 0), part(values, 0), ring.w, part(far, 1), out);
        count_exact_elements(out.elements());
    };
    if (ring.spread > spread_limit) return exactly(0, B, 0, C);
    Tensor spread = arena.allocate({B, C});  // of K
    kernels().local_step_mix_f32(query, keys, values, ring.weights, far.select(0, 0), far.select(0, 1), far.select(0, 2), ring.far_weight, y, spread);
    // By sequence and block of channels, so that a sequence has the same bits in any batch.
    const float limit = float(spread_limit - ring.spread);
    for (int64_t b = 0; b < B; b++)
        for (int64_t c0 = 0; c0 < C; c0 += block) {
            const int64_t c1 = std::min(C, c0 + block);
            bool beyond = false;
            for (int64_t c = c0; c < c1; c++) beyond |= spread.data()[b * C + c] > limit;
            if (beyond) exactly(b, b + 1, c0, c1);
        }
}

}  // namespace aft
