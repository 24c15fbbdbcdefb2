// Decoding of AFT-conv: the tokens that left the taps are a sum per channel and two numbers per head, those inside are a ring.
// State [num B x C, den B x H, max B x H (in double), ring of keys B x s x H, ring of values B x s x C]; constant cost per token.
#pragma once
#include "aft/mixer.h"

namespace aft {

MixerState start_conv(const Tensor &filter, int64_t batch, int64_t channels, int64_t length);
// Brings the state behind the tokens of key [B, T, H] and value [B, T, C].
void push_conv(const Tensor &key, const Tensor &value, MixerState &state);
// The output [B, 1, C] of the newest token, which push_conv has taken in.
void step_conv(const MixerTensors &in, const MixerState &state, Tensor &output, Arena &arena);

}  // namespace aft
