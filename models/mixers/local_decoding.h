// Decoding of AFT-local: the tokens that left the window are three numbers per channel, those inside are a ring; constant cost per
// token. State [far (num, den, max) 3 x B x C, ring of e^(K - max) B x s x C, ring of e^(K - max) V B x s x C], so that a step needs no
// exp of the window. A block of channels whose keys are too far apart for that is raw: its rings hold K and V. Last tensor of the
// state [B, blocks] i32: the position since which a block is raw, or -1.
#pragma once
#include "aft/mixer.h"

namespace aft {

MixerState start_local(int64_t batch, int64_t channels, int64_t window);
// Brings the state behind the tokens of key and value [B, T, C].
void push_local(const Tensor &key, const Tensor &value, int64_t window, MixerState &state);
// The output [B, 1, C] of the newest token, which push_local has taken in.
void step_local(const MixerTensors &in, int64_t window, MixerState &state, Tensor &output, Arena &arena);

}  // namespace aft
