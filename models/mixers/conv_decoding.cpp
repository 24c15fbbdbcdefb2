#include "models/mixers/conv_decoding.h"

#include <algorithm>
#include <cmath>

#include "aft/error.h"
#include "kernel_table.h"
#include "models/mixers/conv_filter.h"
#include "runtime/parallel.h"

namespace aft {
namespace {

enum Part { num, den, max, ring_keys, ring_values };

}  // namespace

MixerState start_conv(const Tensor &filter, int64_t batch, int64_t channels, int64_t length) {
    if (!filter.defined() || filter.rank() != 2) throw Error("AFT-conv: decoding starts with the filter [H, s]");
    const int64_t H = filter.size(0), slots = std::min(filter.size(1), length);
    MixerState state{{Tensor({batch, channels}, DType::f64), Tensor({batch, H}, DType::f64), Tensor({batch, H}, DType::f64), Tensor({batch, slots, H}),
                      Tensor({batch, slots, channels})}, 0};
    for (int part : {num, den}) std::fill_n(state.tensors[size_t(part)].data<double>(), state.tensors[size_t(part)].elements(), 0.0);
    std::fill_n(state.tensors[max].data<double>(), batch * H, -1e300);
    return state;
}

void push_conv(const Tensor &key, const Tensor &value, MixerState &state) {
    const int64_t B = value.size(0), T = value.size(1), C = value.size(2), H = key.size(2);
    if (state.tensors.size() != 5 || state.tensors[num].shape() != Shape{B, C} || state.tensors[den].shape() != Shape{B, H})
        throw Error("AFT-conv: the decoding state does not fit tokens of shape " + to_string(value.shape()));
    const int64_t slots = state.tensors[ring_keys].size(1), group = C / H;
    parallel_for(B, [&](int64_t b) {
        double *n = state.tensors[num].data<double>() + b * C, *d = state.tensors[den].data<double>() + b * H, *m = state.tensors[max].data<double>() + b * H;
        for (int64_t i = 0; i < T; i++) {
            const int64_t t = state.position + i;
            float *k = state.tensors[ring_keys].data() + (b * slots + t % slots) * H, *v = state.tensors[ring_values].data() + (b * slots + t % slots) * C;
            if (t >= slots)  // token t - s leaves
                for (int64_t h = 0; h < H; h++) {
                    const double top = std::max(m[h], double(k[h])), keep = std::exp(m[h] - top), add = std::exp(k[h] - top);
                    d[h] = d[h] * keep + add, m[h] = top;
                    for (int64_t c = h * group; c < (h + 1) * group; c++) n[c] = n[c] * keep + add * v[c];
                }
            std::copy_n(key.data() + b * key.stride(0) + i * key.stride(1), H, k);
            std::copy_n(value.data() + b * value.stride(0) + i * value.stride(1), C, v);
        }
    });
    state.position += T;
}

void step_conv(const MixerTensors &in, const MixerState &state, Tensor &output, Arena &arena) {
    const int64_t C = in.query.size(2), H = in.key.size(2), slots = state.tensors[ring_keys].size(1), t = state.position - 1, inside = std::min(slots, t + 1);
    const ConvFilterTaps filter(in, true);
    const ArenaScope scope(arena);
    Tensor w = arena.allocate({inside, H}, DType::f64), head = arena.allocate({C}, DType::i32);
    for (int64_t key = t - inside + 1; key <= t; key++)
        for (int64_t h = 0; h < H; h++) w.data<double>()[key % slots * H + h] = filter.row(h)[filter.taps - 1 - (t - key)];
    for (int64_t c = 0; c < C; c++) head.data<int32_t>()[c] = int32_t(c / (C / H));
    Tensor y = output.select(1, 0);
    kernels().aft_conv_step_f32(in.query.select(1, 0), state.tensors[ring_keys].slice(1, 0, inside), state.tensors[ring_values].slice(1, 0, inside), w, state.tensors[num],
                                state.tensors[den], state.tensors[max], head, y);
}

}  // namespace aft
