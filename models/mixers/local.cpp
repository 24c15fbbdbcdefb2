// AFT-local: decoding, and what forward and backward share.
#include "models/mixers/local.h"

#include <cmath>

#include "aft/error.h"
#include "kernel_table.h"
#include "models/mixers/local_decoding.h"
#include "models/mixers/mixers.h"

namespace aft {
namespace local {

void carry(const Tensor &carried, const Tensor &low, const Tensor &high, const Tensor &total) {
    const float *l = low.data(), *h = high.data(), *t = total.data();
    float *s = carried.data();
    for (int64_t c = 0; c < low.size(0); c++) {
        const float scale = std::exp(std::min(l[c] - h[c], 0.0f));
        for (int64_t part = 0; part < 2; part++) {
            const int64_t n = (c / panel * 2 + part) * panel + c % panel;
            s[n] = s[n] * scale + t[n];
        }
    }
}

MixerState LocalMixer::start(const MixerTensors &, int64_t batch, int64_t channels, int64_t length) const {
    if (!options_.causal) throw Error("decoding needs a causal mixer: a bidirectional one sees the future");
    return start_local(batch, channels, std::min(options_.window, length));
}

void LocalMixer::prefill(const MixerTensors &in, MixerState &state, Arena &) const { push_local(in.key, in.value, state.tensors.at(1).size(1), state); }

void LocalMixer::step(const MixerTensors &in, MixerState &state, Tensor &output, Arena &arena) const {
    check_mixer_tensors(options_, in);
    const int64_t window = state.tensors.at(1).size(1), longest = (in.position_bias.defined() ? in.position_bias : in.bias_u).size(0);
    if (state.position >= longest)
        throw Error("AFT-local has no position bias for token " + std::to_string(state.position + 1) + ": its bias ends at " + std::to_string(longest));
    push_local(in.key, in.value, window, state);
    step_local(in, window, state, output, arena);
}

}  // namespace local

std::unique_ptr<Mixer> make_local_mixer(const MixerOptions &options) { return std::make_unique<local::LocalMixer>(options); }

}  // namespace aft
