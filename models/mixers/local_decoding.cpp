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
// Of the factored form, generators/local_step.h. A new reference has `margin` to grow in: later keys may be larger.
constexpr double spread_limit = 40;  // of w
constexpr double lowest = -30, highest = 5, margin = 5;  // of K - m
constexpr int64_t block = 32;        // channels of a sequence that are in one form
constexpr int32_t factored = -1;     // in the place of the position since which a block is raw

// Some sequences and channels of a state.
struct Part {
    Tensor num, den, max;  // [b, c] f64
    Tensor keys, values;   // [b, s, c]

    static Tensor cut(const Tensor &x, int axis, int64_t b0, int64_t b1, int64_t c0, int64_t c1) {
        const bool whole = b1 - b0 == x.size(axis) && c1 - c0 == x.size(x.rank() - 1);
        return whole ? x : x.slice(axis, b0, b1).slice(x.rank() - 1, c0, c1);
    }
    Part(const MixerState &state, int64_t b0, int64_t b1, int64_t c0, int64_t c1)
        : keys(cut(state.tensors[1], 0, b0, b1, c0, c1)), values(cut(state.tensors[2], 0, b0, b1, c0, c1)) {
        const Tensor far = cut(state.tensors[0], 1, b0, b1, c0, c1);
        num = far.select(0, 0), den = far.select(0, 1), max = far.select(0, 2);
    }
};

// Calls what(b, c0, c1, since) for each block of one sequence, or of all.
template <class What>
void each_block(const MixerState &state, int64_t b, What what) {
    const int64_t C = state.tensors[0].size(2), blocks = state.tensors[3].size(1);
    int32_t *since = state.tensors[3].data<int32_t>() + b * blocks;
    for (int64_t n = 0; n < blocks; n++) what(b, n * block, std::min(C, (n + 1) * block), since[n]);
}
template <class What>
void each_block(const MixerState &state, What what) {
    for (int64_t b = 0; b < state.tensors[0].size(1); b++) each_block(state, b, what);
}

// A step of many sequences asks this of each block while the other threads wait: a bare pass over the numbers.
int64_t raw_blocks(const MixerState &state) {
    const int32_t *since = state.tensors[3].data<int32_t>();
    const int64_t all = state.tensors[3].elements();
    return all - std::count(since, since + all, factored);
}

bool fits(const Tensor &key, const MixerState &state, int64_t b, int64_t c0, int64_t c1) {
    const double *m = state.tensors[0].data<double>() + 2 * state.tensors[0].stride(0) + b * state.tensors[0].stride(1);
    const float *k = key.data() + b * key.stride(0);
    bool beyond = false;
    for (int64_t c = c0; c < c1; c++) beyond |= !(k[c] - m[c] >= lowest && k[c] - m[c] <= highest);
    return !beyond;
}

// From e, e V to K, V: right to some units of the last place of e. Once for a key, or they would add up.
void make_raw(const Part &p, int64_t inside) {
    for (int64_t c = 0; c < p.num.size(1); c++) {
        double &m = p.max.data<double>()[c];
        for (int64_t n = 0; n < inside; n++) {
            float &k = p.keys.data()[n * p.keys.stride(1) + c], &v = p.values.data()[n * p.values.stride(1) + c];
            v /= k, k = float(m + std::log(double(k)));
        }
        if (p.den.data<double>()[c] == 0) m = -1e300;
    }
}

// From K, V to e, e V if all keys and what left the window are within reach of one m.
bool make_factored(const Part &p, int64_t inside) {
    const int64_t C = p.num.size(1);
    double m[block];
    for (int64_t c = 0; c < C; c++) {
        double low = 1e300, top = p.max.data<double>()[c];
        for (int64_t n = 0; n < inside; n++) {
            const double k = p.keys.data()[n * p.keys.stride(1) + c];
            low = std::min(low, k), top = std::max(top, k);
        }
        m[c] = top + margin;
        if (low - m[c] < lowest) return false;
    }
    for (int64_t c = 0; c < C; c++) {
        const double rise = std::exp(p.max.data<double>()[c] - m[c]);
        p.num.data<double>()[c] *= rise, p.den.data<double>()[c] *= rise, p.max.data<double>()[c] = m[c];
        for (int64_t n = 0; n < inside; n++) {
            float &k = p.keys.data()[n * p.keys.stride(1) + c], &v = p.values.data()[n * p.values.stride(1) + c];
            k = float(std::exp(k - m[c])), v *= k;
        }
    }
    return true;
}

// Tokens [b, t, c] behind the p that raw blocks have seen. They leave the window in their order: first those of the ring, then new
// ones that never enter it.
void push_raw(const Tensor &key, const Tensor &value, int64_t window, int64_t p, Part part) {
    const int64_t B = key.size(0), T = key.size(1), C = key.size(2);
    if (window > 0)
        for (int64_t t = std::max<int64_t>(0, p - window); t < std::min(p, p + T - window); t++)
            kernels().local_step_fold_f32(part.keys, part.values, int32_t(t % window), 1, part.num, part.den, part.max);
    if (T > window) kernels().local_step_fold_f32(key, value, 0, int32_t(T - window), part.num, part.den, part.max);
    if (window > 0)
        for (int64_t b = 0; b < B; b++)
            for (int64_t n = std::max<int64_t>(0, T - window); n < T; n++) {
                const int64_t at = b * part.keys.stride(0) + (p + n) % window * part.keys.stride(1);
                std::copy_n(key.data() + b * key.stride(0) + n * key.stride(1), C, part.keys.data() + at);
                std::copy_n(value.data() + b * value.stride(0) + n * value.stride(1), C, part.values.data() + at);
            }
}

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
    Tensor far({3, batch, channels}, DType::f64), keys({batch, window, channels}), values({batch, window, channels}), raw({batch, (channels + block - 1) / block}, DType::i32);
    std::fill_n(far.data<double>(), 2 * batch * channels, 0.0);
    std::fill_n(far.data<double>() + 2 * batch * channels, batch * channels, -1e300);
    std::fill_n(raw.data<int32_t>(), raw.elements(), 0);
    return {{far, keys, values, raw}, 0};
}

void push_local(const Tensor &key, const Tensor &value, int64_t window, MixerState &state) {
    const int64_t B = value.size(0), T = value.size(1), C = value.size(2), p = state.position, held = std::min(p, window);
    if (state.tensors.size() != 4 || state.tensors[0].shape() != Shape{3, B, C}) throw Error("AFT-local: the decoding state does not fit tokens of shape " + to_string(value.shape()));
    const Tensor k = key.select(1, 0), v = value.select(1, 0);
    parallel_for(B, [&](int64_t sequence) {
        each_block(state, sequence, [&](int64_t b, int64_t c0, int64_t c1, int32_t &since) {
            if (since == factored && !(T == 1 && fits(k, state, b, c0, c1))) make_raw(Part(state, b, b + 1, c0, c1), held), since = int32_t(p);
        });
    });
    const int64_t raw = raw_blocks(state), all = state.tensors[3].elements();
    const auto push = [&](int64_t b0, int64_t b1, int64_t c0, int64_t c1, bool is_raw) {
        Part part(state, b0, b1, c0, c1);
        if (is_raw) return push_raw(Part::cut(key, 0, b0, b1, c0, c1), Part::cut(value, 0, b0, b1, c0, c1), window, p, part);
        Tensor row = part.keys.select(1, p % window), value_row = part.values.select(1, p % window);
        kernels().local_step_push_f32(Part::cut(k, 0, b0, b1, c0, c1), Part::cut(v, 0, b0, b1, c0, c1), part.max, p >= window, part.num, part.den, row, value_row);
    };
    if (raw == 0 || raw == all)
        push(0, B, 0, C, raw > 0);
    else
        each_block(state, [&](int64_t b, int64_t c0, int64_t c1, int32_t &since) { push(b, b + 1, c0, c1, since != factored); });
    state.position += T;
    if (raw == 0 || window == 0) return;
    each_block(state, [&](int64_t b, int64_t c0, int64_t c1, int32_t &since) {
        if (since == factored || (since > 0 && state.position - since < window)) return;
        if (make_factored(Part(state, b, b + 1, c0, c1), std::min(state.position, window))) since = factored;
    });
}

void step_local(const MixerTensors &in, int64_t window, MixerState &state, Tensor &output, Arena &arena) {
    const Tensor query = in.query.select(1, 0);
    Tensor y = output.select(1, 0);
    if (window == 0) return mix_without_window(query, state.tensors[0], y);
    const ArenaScope scope(arena);
    const RingWeights ring(in, window, state.position - 1, arena);
    const int64_t B = y.size(0), C = y.size(1);
    if (ring.spread > spread_limit)
        each_block(state, [&](int64_t b, int64_t c0, int64_t c1, int32_t &since) {
            if (since == factored) make_raw(Part(state, b, b + 1, c0, c1), ring.inside), since = int32_t(state.position);
        });
    const auto mix = [&](int64_t b0, int64_t b1, int64_t c0, int64_t c1, bool is_raw) {
        const Part part(state, b0, b1, c0, c1);
        const Tensor q = Part::cut(query, 0, b0, b1, c0, c1), keys = part.keys.slice(1, 0, ring.inside), values = part.values.slice(1, 0, ring.inside);
        Tensor out = Part::cut(y, 0, b0, b1, c0, c1);
        if (!is_raw) return kernels().local_step_mix_f32(q, keys, values, ring.weights, part.num, part.den, ring.far_weight, out);
        kernels().aft_local_step_f32(q, keys, values, ring.w, Part::cut(state.tensors[0], 1, b0, b1, c0, c1), out);  // with K + w in double
        count_exact_elements(out.elements());
    };
    if (raw_blocks(state) == 0) return mix(0, B, 0, C, false);
    each_block(state, [&](int64_t b, int64_t c0, int64_t c1, int32_t &since) { mix(b, b + 1, c0, c1, since != factored); });
}

}  // namespace aft
