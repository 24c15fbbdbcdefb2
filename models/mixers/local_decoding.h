// Decoding of AFT-local: the tokens that left the window are three numbers per channel, those inside are a ring.
// State [far (num, den, max) 3 x B x C, ring of keys B x s x C, ring of values B x s x C]; constant cost per token.
#pragma once
#include <vector>

#include "aft/mixer.h"

namespace aft {

MixerState start_local(int64_t batch, int64_t channels, int64_t window);
// Brings the state behind the tokens of key and value [B, T, C].
void push_local(const Tensor &key, const Tensor &value, int64_t window, MixerState &state);

// What a token's position says of the ring's keys, for all sequences and channels.
struct LocalWeights {
    explicit LocalWeights(int64_t window);
    void find(const MixerTensors &parameters, int64_t t);  // of token t

    int64_t inside = 0;            // keys in the window, in the first slots of the ring
    Tensor w, weights;             // [s] f64: w in the order of the ring; [s rounded up to chunks]: exp(w - top)
    double top = 0, spread = 0;    // of w, the 0 of older tokens included
    float far_weight = 0;          // exp(-top), or 0 when no token has left the window

private:
    Tensor row_;
};

// One token through one layer, for the channels [first, last): the views are made once and serve all tokens. Channels do not
// meet, so ranges may be stepped by different threads; `first` is a multiple of 32 and `last` too or the end.
class LocalStep {
public:
    // query, key, value and output [B, 1, C]; all tensors of the state are taken in place, its position is the caller's.
    LocalStep(const MixerTensors &in, const MixerState &state, const Tensor &output, int64_t first, int64_t last);
    // Takes token t in and gives its output.
    void run(int64_t t, const LocalWeights &weights);

private:
    void fold(const Tensor &key, const Tensor &value, int64_t first, int64_t count);
    void replace(Tensor &ring, const Tensor &row, int64_t slot) const;
    void mix(const LocalWeights &weights);
    void mix_exactly(const LocalWeights &weights, int64_t first_sequence, int64_t last_sequence, int64_t first, int64_t last);
    void mix_without_window();

    int64_t window_;
    Tensor query_, key_, value_, y_;           // [B, c]; key and value [B, 1, c]
    Tensor far_, num_, den_, max_, keys_, values_, spread_;  // [3, B, c], [B, c], rings [B, s, c]
};

}  // namespace aft
