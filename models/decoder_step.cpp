#include "models/decoder_step.h"

#include <algorithm>

#include "kernel_table.h"
#include "runtime/parallel.h"

namespace aft {
namespace {

constexpr int64_t panel = 32;       // columns: generators/gemm_panels.h
constexpr int64_t few_rows = 8;     // whose norm each part makes for itself: some 50 ns a row, a meeting some 500
constexpr int most_parts = 32;      // of parallel_phases

}  // namespace

DecoderStep::DecoderStep(const LanguageModel::Parts &model, const std::vector<Block::Packed> &packed, const PackedLinear &head, std::vector<MixerState> &states, int64_t batch, int threads)
    : model_(model), states_(states), batch_(batch), threads_(threads), parts_(std::min(threads, most_parts)), norm_by_part_(batch <= few_rows) {
    const ModelConfig &config = model.config;
    const int64_t C = config.channels;
    x_ = Tensor({batch, C}), y_ = Tensor({batch, C}), mixed_ = Tensor({batch, C}), hidden_ = Tensor({batch, config.hidden_size()});
    fused_ = Tensor({batch, 2 * C + (config.mixer == MixerKind::conv ? config.head_count() : C)}), logits_ = Tensor({batch, config.vocabulary});
    normed_ = by_part({batch, C}), middle_ = by_part({batch, C}), mean_ = by_part({batch}), rstd_ = by_part({batch});

    stretches_.emplace_back();
    if (config.mixer == MixerKind::local)
        for (const MixerState &state : states) weights_.emplace_back(state.tensors.at(1).size(1));
    add([this](int part) {
        if (part == 0) model_.embed(tokens_, position_, x_);
        for (size_t l = size_t(part); l < weights_.size(); l += size_t(parts_)) weights_[l].find(model_.blocks[l].parameters_, position_);
    });
    Tensor x = x_, y = y_;
    for (size_t l = 0; l < states.size(); l++) {
        add_block(l, model.blocks[l], packed[l], states[l], x, y);
        std::swap(x, y);
    }
    add_behind_norm(norm(model.norm, x), [parts = columns(head, normed_, logits_)](int part) mutable {
        Columns &p = parts[size_t(part)];
        p.layer.forward(p.x, p.y);
    });
}

void DecoderStep::run(const Tensor &tokens, int64_t position, Tensor &logits) {
    tokens_ = tokens, position_ = position;
    for (const Stretch &stretch : stretches_) {
        parallel_phases(int(stretch.phases.size()), parts_, [&](int phase, int part) { stretch.phases[size_t(phase)](part); });
        if (stretch.then) stretch.then();
    }
    if (!weights_.empty())
        for (MixerState &state : states_) state.position++;  // other mixers count themselves
    logits.copy_from(logits_);
}

// Whole panels; of the last one what there is.
DecoderStep::Range DecoderStep::range(int64_t columns, int part) const {
    const int64_t panels = (columns + panel - 1) / panel;
    return {std::min(columns, panels * part / parts_ * panel), std::min(columns, panels * (part + 1) / parts_ * panel)};
}

// A tensor for each part, the same one for all where rows are cut.
std::vector<Tensor> DecoderStep::by_part(Shape shape) const {
    std::vector<Tensor> all(static_cast<size_t>(parts_), Tensor(shape));
    for (size_t part = 1; norm_by_part_ && part < all.size(); part++) all[part] = Tensor(shape);
    return all;
}

std::vector<DecoderStep::Columns> DecoderStep::columns(const PackedLinear &layer, const std::vector<Tensor> &x, const Tensor &y, const std::vector<Tensor> &residual) const {
    std::vector<Columns> parts;
    for (int part = 0; part < parts_; part++) {
        const auto [first, last] = range(y.size(1), part);
        Columns p;
        p.layer = {layer.panels.slice(0, first / panel, (last + panel - 1) / panel), layer.bias.slice(0, first, last)};
        p.x = x[size_t(part)], p.y = y.slice(1, first, last);
        if (!residual.empty()) p.residual = residual[size_t(part)].slice(1, first, last);
        parts.push_back(std::move(p));
    }
    return parts;
}

// normed = LN(x), or with a branch middle = x + branch, normed = LN(middle): of all rows, or of the part's.
DecoderStep::Phase DecoderStep::norm(const LayerNorm &norm, const Tensor &x, const Tensor &branch) {
    struct Rows {
        Tensor x, branch, middle, normed, mean, rstd;
    };
    std::vector<Rows> parts;
    for (int part = 0; part < parts_; part++) {
        const auto rows = [&](const Tensor &all) { return norm_by_part_ ? all : all.slice(0, batch_ * part / parts_, batch_ * (part + 1) / parts_); };
        const size_t p = size_t(part);
        parts.push_back({rows(x), branch.defined() ? rows(branch) : Tensor(), rows(middle_[p]), rows(normed_[p]), rows(mean_[p]), rows(rstd_[p])});
    }
    return [&norm, parts](int part) mutable {
        Rows &r = parts[size_t(part)];
        if (r.branch.defined())
            kernels().residual_layer_norm_forward_f32(r.x, r.branch, norm.weight, norm.bias, norm.epsilon, r.middle, r.normed, r.mean, r.rstd);
        else
            kernels().layer_norm_forward_f32(r.x, norm.weight, norm.bias, norm.epsilon, r.normed, r.mean, r.rstd);
    };
}

void DecoderStep::add_behind_norm(Phase norm, Phase phase) {
    if (norm_by_part_)
        return add([norm = std::move(norm), phase = std::move(phase)](int part) { norm(part), phase(part); });
    add(std::move(norm));
    add(std::move(phase));
}

void DecoderStep::add_block(size_t index, const Block &block, const Block::Packed &packed, MixerState &state, const Tensor &x, const Tensor &y) {
    const MixerTensors in = block.views(fused_, batch_, 1);
    const Tensor mixed = mixed_.reshape({batch_, 1, mixed_.size(1)});
    const auto rows = [&](const Tensor &all) { return all.select(1, 0); };
    const bool by_channels = !weights_.empty();
    std::vector<LocalStep> mixers;
    for (int part = 0; by_channels && part < parts_; part++) {
        const auto [first, last] = range(mixed_.size(1), part);
        mixers.emplace_back(in, state, mixed, first, last);
    }
    add_behind_norm(norm(block.norm1_, x), [this, index, mixers, query = columns(packed.query, normed_, rows(in.query)), key = columns(packed.key, normed_, rows(in.key)),
                                            value = columns(packed.value, normed_, rows(in.value))](int part) mutable {
        for (auto *layer : {&query, &key, &value}) {
            Columns &p = (*layer)[size_t(part)];
            p.layer.forward(p.x, p.y);
        }
        if (!mixers.empty()) mixers[size_t(part)].run(position_, weights_[index]);
    });
    if (!by_channels) {
        stretches_.back().then = [this, &block, &state, in, out = mixed]() mutable {
            arena_.reset();
            block.mixer_.step(in, state, out, arena_);
        };
        stretches_.emplace_back();
    }
    const auto with_residual = [](std::vector<Columns> parts) -> Phase {
        return [parts = std::move(parts)](int part) mutable {
            Columns &p = parts[size_t(part)];
            p.layer.forward_residual(p.x, p.residual, p.y);
        };
    };
    const std::vector<Tensor> mixed_everywhere(size_t(parts_), mixed_), hidden_everywhere(size_t(parts_), hidden_);
    std::vector<Tensor> middle = middle_;
    if (block.config_.output_projection) {
        std::ranges::fill(middle, middle_[0]);
        add(with_residual(columns(packed.output, mixed_everywhere, middle[0], std::vector<Tensor>(size_t(parts_), x))));
    }
    add_behind_norm(block.config_.output_projection ? norm(block.norm2_, middle[0]) : norm(block.norm2_, x, mixed_), [parts = columns(packed.up, normed_, hidden_)](int part) mutable {
        Columns &p = parts[size_t(part)];
        p.layer.forward_gelu(p.x, p.y);
    });
    add(with_residual(columns(packed.down, hidden_everywhere, y, middle)));
}

}  // namespace aft
