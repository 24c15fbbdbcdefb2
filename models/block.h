// One block of the language model: x = x + dropout(mixer(LN(x))), x = x + dropout(MLP(LN(x))).
#pragma once
#include <functional>
#include <memory>

#include "aft/language_model.h"
#include "aft/mixer.h"
#include "models/layers/dropout.h"
#include "models/layers/layer_norm.h"
#include "models/layers/linear.h"

namespace aft {

// Looks at a named intermediate (LanguageModel::first_non_finite); empty in training.
using Probe = std::function<void(const std::string &name, const Tensor &value)>;

class Block {
public:
    // What backward wants of forward; arena memory.
    struct Saved {
        Tensor x, normed1, fused, mixed, middle, normed2, hidden, slope;
        LayerNorm::Saved norm1, norm2;
        MixerSaved mixer;
    };

    Block(const ModelConfig &config, const ParameterSet &parameters, int64_t index, const Mixer &mixer);

    // y = block(x), [B * T, C]; x must live as long as `saved`.
    void forward(const Tensor &x, Tensor &y, int64_t B, int64_t T, const Dropout &dropout, Saved &saved, Arena &arena, const Probe &probe = {}) const;

    // x_gradient from y_gradient (both [B * T, C], may not be the same); parameter gradients +=.
    void backward(const Saved &saved, const Tensor &y_gradient, Tensor &x_gradient, int64_t B, int64_t T, const Dropout &dropout, Arena &arena,
                  const Probe &probe = {}) const;

    MixerState start(int64_t batch) const;
    void prefill(const Saved &saved, int64_t B, int64_t T, MixerState &state, Arena &arena) const;
    // The weights once more, packed for step: each decoder has its own.
    struct Packed {
        PackedLinear fused, output, up, down;
    };
    int64_t packed_floats() const;
    Packed packed(const Tensor &memory) const;  // memory: packed_floats() of them
    // One token per sequence, x and y [B, C].
    void step(const Tensor &x, Tensor &y, const Packed &packed, MixerState &state, Arena &arena) const;

    // Floats that Saved holds for each row, without the mixer's own.
    int64_t saved_floats() const;

private:
    // Whether the mixer's output is read again, by backward or by the output layer's weight gradient.
    bool keeps_mixed() const { return config_.output_projection || mixer_.reads_output(); }
    MixerTensors views(const Tensor &fused, int64_t B, int64_t T) const;
    void mlp(const Tensor &normed, const Tensor &residual, Tensor &y, const Dropout &dropout, Tensor &hidden, Tensor &slope, Arena &arena) const;

    const ModelConfig &config_;
    const Mixer &mixer_;
    std::string name_;
    int64_t index_;
    LayerNorm norm1_, norm2_;
    Linear fused_, output_, up_, down_;  // fused: query, key and value
    MixerTensors parameters_, gradients_;
    int32_t mixer_stream_, mlp_stream_;
};

LayerNorm layer_norm_of(const ParameterSet &parameters, const std::string &name, double epsilon);
Linear linear_of(const ParameterSet &parameters, const std::string &name);

}  // namespace aft
