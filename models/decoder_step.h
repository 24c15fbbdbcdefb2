// One token of each sequence through the whole model: phases, each cut into a part per thread, that the threads pass together
// (runtime/parallel.h). All views are made once. Per block, with a row per sequence:
//
//   normed = LN(x);  query, key, value = linear(normed);  mixed = mixer(...)        by channels, which do not meet
//   middle = x + linear(mixed)                                                      by columns; only with an output projection
//   middle = x + mixed;  normed = LN(middle);  hidden = GELU(linear(normed))        by columns
//   y = middle + linear(hidden)                                                     by columns
//
// A layer norm of a few rows costs less than a meeting: each part makes its own. Who makes what depends on the number of threads,
// the bits do not: a column is summed by one thread in one order (generators/gemm_panels.h).
#pragma once
#include <functional>
#include <vector>

#include "models/language_model_parts.h"
#include "models/mixers/local_decoding.h"

namespace aft {

class DecoderStep {
public:
    // The model, its packed weights and the states must outlive it.
    DecoderStep(const LanguageModel::Parts &model, const std::vector<Block::Packed> &packed, const PackedLinear &head, std::vector<MixerState> &states, int64_t batch, int threads);
    DecoderStep(const DecoderStep &) = delete;

    int threads() const { return threads_; }
    // tokens [B, 1] i32 at `position`; logits [B, V].
    void run(const Tensor &tokens, int64_t position, Tensor &logits);

private:
    using Phase = std::function<void(int part)>;
    // Phases, then what the caller does with the whole pool: the step of a mixer whose channels are not cut here.
    struct Stretch {
        std::vector<Phase> phases;
        std::function<void()> then;
    };
    // A part of a linear layer's columns: its panels and their place in the output.
    struct Columns {
        PackedLinear layer;
        Tensor x, residual, y;
    };
    struct Range {
        int64_t first, last;
    };

    Range range(int64_t columns, int part) const;
    std::vector<Tensor> by_part(Shape shape) const;
    std::vector<Columns> columns(const PackedLinear &layer, const std::vector<Tensor> &x, const Tensor &y, const std::vector<Tensor> &residual = {}) const;
    Phase norm(const LayerNorm &norm, const Tensor &x, const Tensor &branch = {});
    void add(Phase phase) { stretches_.back().phases.push_back(std::move(phase)); }
    void add_behind_norm(Phase norm, Phase phase);
    void add_block(size_t index, const Block &block, const Block::Packed &packed, MixerState &state, const Tensor &x, const Tensor &y);

    const LanguageModel::Parts &model_;
    std::vector<MixerState> &states_;
    const int64_t batch_;
    const int threads_, parts_;
    const bool norm_by_part_;
    std::vector<Stretch> stretches_;
    std::vector<LocalWeights> weights_;  // by layer; AFT-local only
    Tensor x_, y_, fused_, mixed_, hidden_, logits_;
    std::vector<Tensor> normed_, middle_, mean_, rstd_;  // by part
    Tensor tokens_;                                      // of the token at hand
    int64_t position_ = 0;
    Arena arena_;
};

}  // namespace aft
