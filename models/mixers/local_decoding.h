// Decoding of AFT-local: the tokens that left the window are three numbers per channel, those inside are a ring.
// State [far (num, den, max) 3 x B x C, ring of keys B x s x C, ring of values B x s x C]; constant cost per token.
#pragma once
#include "aft/mixer.h"

namespace aft {

MixerState start_local(int64_t batch, int64_t channels, int64_t window);
// Brings the state behind the tokens of key and value [B, T, C].
void push_local(const Tensor &key, const Tensor &value, int64_t window, MixerState &state);
// The output [B, 1, C] of the newest token, which push_local has taken in.
void step_local(const MixerTensors &in, int64_t window, const MixerState &state, Tensor &output, Arena &arena);

}  // namespace aft
