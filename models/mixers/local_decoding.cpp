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
constexpr int64_t block = 32;        // channels of a sequence that go to the exact path together

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
        parallel_for(B, [&](int64_t b) {
            for (int64_t n = std::max<int64_t>(0, T - window); n < T; n++) {
                const int64_t at = (b * window + (p + n) % window) * C;
                std::copy_n(key.data() + b * key.stride(0) + n * key.stride(1), C, state.tensors[1].data() + at);
                std::copy_n(value.data() + b * value.stride(0) + n * value.stride(1), C, state.tensors[2].data() + at);
            }
        });
    state.position += T;
}

LocalWeights::LocalWeights(int64_t window)
    : w({window}, DType::f64), weights({(window + chunk - 1) / chunk * chunk}), row_({window}, DType::f64) {}

void LocalWeights::find(const MixerTensors &parameters, int64_t t) {
    const int64_t window = w.size(0), first = std::max<int64_t>(0, t + 1 - window);
    inside = t + 1 - first;
    if (window == 0) return;
    double *row = row_.data<double>();  // oldest first
    if (parameters.position_bias.defined()) {
        std::copy_n(parameters.position_bias.data() + t * parameters.position_bias.stride(0) + first, inside, row);
    } else {
        Tensor found = row_.slice(0, 0, inside);
        kernels().local_step_bias_f64(parameters.bias_u.select(0, t), parameters.bias_v.slice(0, first, t + 1), found);
    }
    double *ring = w.data<double>();
    std::rotate_copy(row, row + (inside - (t + 1) % window % inside) % inside, row + inside, ring);
    const bool has_far = t >= window;
    const auto [least, most] = std::minmax_element(row, row + inside);
    top = has_far ? std::max(*most, 0.0) : *most;
    spread = top - (has_far ? std::min(*least, 0.0) : *least);
    far_weight = has_far ? float(std::exp(-top)) : 0.0f;
    for (int64_t n = 0; n < inside; n++) weights.data()[n] = float(std::exp(ring[n] - top));
    std::fill(weights.data() + inside, weights.data() + weights.elements(), 0.0f);
}

LocalStep::LocalStep(const MixerTensors &in, const MixerState &state, const Tensor &output, int64_t first, int64_t last) : window_(state.tensors.at(1).size(1)) {
    const auto part = [&](const Tensor &x) { return x.slice(2, first, last); };
    query_ = part(in.query).select(1, 0), key_ = part(in.key), value_ = part(in.value), y_ = part(output).select(1, 0);
    far_ = part(state.tensors[0]), keys_ = part(state.tensors[1]), values_ = part(state.tensors[2]);
    num_ = far_.select(0, 0), den_ = far_.select(0, 1), max_ = far_.select(0, 2);
    spread_ = Tensor({query_.size(0), last - first});
}

void LocalStep::run(int64_t t, const LocalWeights &weights) {
    if (window_ == 0) {
        fold(key_, value_, 0, 1);
        return mix_without_window();
    }
    const int64_t slot = t % window_;
    if (t >= window_) fold(keys_, values_, slot, 1);
    replace(keys_, key_, slot);
    replace(values_, value_, slot);
    mix(weights);
}

void LocalStep::fold(const Tensor &key, const Tensor &value, int64_t first, int64_t count) {
    kernels().local_step_fold_f32(key, value, int32_t(first), int32_t(count), num_, den_, max_);
}

void LocalStep::replace(Tensor &ring, const Tensor &row, int64_t slot) const {
    for (int64_t b = 0; b < row.size(0); b++)
        std::copy_n(row.data() + b * row.stride(0), row.size(2), ring.data() + b * ring.stride(0) + slot * ring.stride(1));
}

void LocalStep::mix(const LocalWeights &w) {
    const int64_t B = y_.size(0), C = y_.size(1);
    if (w.spread > spread_limit) return mix_exactly(w, 0, B, 0, C);
    if (w.inside == window_)
        kernels().local_step_mix_f32(query_, keys_, values_, w.weights, num_, den_, max_, w.far_weight, y_, spread_);
    else
        kernels().local_step_mix_f32(query_, keys_.slice(1, 0, w.inside), values_.slice(1, 0, w.inside), w.weights.slice(0, 0, (w.inside + chunk - 1) / chunk * chunk), num_, den_, max_, w.far_weight,
                                     y_, spread_);
    // By sequence and block of channels, so that a sequence has the same bits in any batch and any cut.
    const float limit = float(spread_limit - w.spread);
    for (int64_t b = 0; b < B; b++)
        for (int64_t first = 0; first < C; first += block) {
            const int64_t last = std::min(C, first + block);
            int beyond = 0;
            for (int64_t c = first; c < last; c++) beyond |= spread_.data()[b * C + c] > limit;
            if (beyond) mix_exactly(w, b, b + 1, first, last);
        }
}

// With K + w in double.
void LocalStep::mix_exactly(const LocalWeights &w, int64_t first_sequence, int64_t last_sequence, int64_t first, int64_t last) {
    const auto part = [&](const Tensor &x, int axis) { return x.slice(axis, first_sequence, last_sequence).slice(x.rank() - 1, first, last); };
    Tensor out = part(y_, 0);
    kernels().aft_local_step_f32(part(query_, 0), part(keys_, 0).slice(1, 0, w.inside), part(values_, 0).slice(1, 0, w.inside), w.w.slice(0, 0, w.inside), part(far_, 1), out);
    count_exact_elements(out.elements());
}

// s = 0: only sums, as in AFT-simple.
void LocalStep::mix_without_window() {
    for (int64_t b = 0; b < y_.size(0); b++) {
        const double *num = num_.data<double>() + b * num_.stride(0), *den = den_.data<double>() + b * den_.stride(0);
        for (int64_t c = 0; c < y_.size(1); c++)
            y_.data()[b * y_.stride(0) + c] = float(num[c] / den[c] / (1 + std::exp(-double(query_.data()[b * query_.stride(0) + c]))));
    }
}

}  // namespace aft
