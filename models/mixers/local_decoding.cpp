#include "models/mixers/local_decoding.h"

#include <algorithm>
#include <cmath>

#include "aft/error.h"
#include "kernel_table.h"
#include "runtime/parallel.h"

namespace aft {
namespace {

// w[t, t'] of the window, in double: an fp32 dot product of large factors would lose the contract's digits.
double bias_of(const MixerTensors &in, int64_t t, int64_t key) {
    if (in.position_bias.defined()) return in.position_bias.data()[t * in.position_bias.stride(0) + key];
    const float *u = in.bias_u.data() + t * in.bias_u.stride(0), *v = in.bias_v.data() + key * in.bias_v.stride(0);
    double sum = 0;
    for (int64_t d = 0; d < in.bias_u.size(1); d++) sum += double(u[d]) * v[d];
    return sum;
}

// (num, den, max) takes in one token of weight exp(key); relative to the running maximum, so nothing overflows.
void fold(double *far, int64_t next, double key, double value) {
    double &num = far[0], &den = far[next], &max = far[2 * next];
    if (key > max) {
        const double keep = std::exp(max - key);
        num = num * keep + value, den = den * keep + 1, max = key;
    } else {
        const double add = std::exp(key - max);
        num += add * value, den += add;
    }
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
    const int64_t B = value.size(0), T = value.size(1), C = value.size(2), plane = B * C;
    if (state.tensors.size() != 3 || state.tensors[0].shape() != Shape{3, B, C}) throw Error("AFT-local: the decoding state does not fit tokens of shape " + to_string(value.shape()));
    parallel_for(B, [&](int64_t b) {
        for (int64_t n = 0; n < T; n++) {
            const int64_t t = state.position + n;
            const float *k = key.data() + b * key.stride(0) + n * key.stride(1), *v = value.data() + b * value.stride(0) + n * value.stride(1);
            double *far = state.tensors[0].data<double>() + b * C;
            float *ring_k = nullptr, *ring_v = nullptr;
            if (window > 0) {
                const int64_t at = (b * window + t % window) * C;
                ring_k = state.tensors[1].data() + at, ring_v = state.tensors[2].data() + at;
            }
            for (int64_t c = 0; c < C; c++) {
                if (window == 0)
                    fold(far + c, plane, k[c], v[c]);
                else {
                    if (t >= window) fold(far + c, plane, ring_k[c], ring_v[c]);  // token t - s leaves
                    ring_k[c] = k[c], ring_v[c] = v[c];
                }
            }
        }
    });
    state.position += T;
}

void step_local(const MixerTensors &in, int64_t window, const MixerState &state, Tensor &output, Arena &arena) {
    const int64_t t = state.position - 1;
    if (window == 0) return step_without_window(in, state, output);
    const ArenaScope scope(arena);
    const int64_t inside = std::min(window, t + 1);  // keys t - inside + 1 .. t lie in the first slots of the ring
    Tensor w = arena.allocate({inside}, DType::f64);
    for (int64_t key = t - inside + 1; key <= t; key++) w.data<double>()[key % window] = bias_of(in, t, key);
    Tensor y = output.select(1, 0);
    kernels().aft_local_step_f32(in.query.select(1, 0), state.tensors[1].slice(1, 0, inside), state.tensors[2].slice(1, 0, inside), w, state.tensors[0], y);
}

}  // namespace aft
