// What LanguageModel and Decoder are made of (private).
#pragma once
#include <optional>
#include <vector>

#include "aft/language_model.h"
#include "models/block.h"

namespace aft {

struct LanguageModel::Parts {
    explicit Parts(const ModelConfig &config);

    ModelConfig config;
    ParameterSet parameters;
    std::unique_ptr<Mixer> mixer;
    std::vector<Block> blocks;
    LayerNorm norm;
    Linear head;
    Tensor embedding, embedding_gradient, position, position_gradient;
    Arena arena;
    Probe probe;  // set only by first_non_finite

    void check_tokens(const Tensor &tokens, const char *what) const;

    // x [B * T, C] = embedding + position (rows first_position ...), before dropout.
    void embed(const Tensor &tokens, int64_t first_position, Tensor &x) const;

    // Final norm's input without dropout, activations of one block at a time. `after` sees each block's saved tensors.
    Tensor forward(const Tensor &tokens, Arena &arena, const std::function<void(size_t block, const Block::Saved &)> &after = {}) const;

    double accumulate(const Tensor &tokens, const Tensor &targets, double scale, const TrainingPass &pass);
};

struct Decoder::Parts {
    const LanguageModel::Parts *model = nullptr;
    int64_t batch = 0, position = 0;
    std::vector<MixerState> states;
    std::vector<Block::Packed> packed;  // made by the first step, dropped by reset
    PackedLinear packed_head;
    Arena arena;

    void pack();
};

constexpr int32_t embedding_stream = 0;  // dropout streams: blocks take 1 + 2 l and 2 + 2 l

}  // namespace aft
