// The language model's forward and backward over a batch (include/aft/language_model.h).
#include "aft/language_model.h"

#include <algorithm>
#include <cmath>

#include "aft/error.h"
#include "kernel_table.h"
#include "models/language_model_parts.h"
#include "models/layers/cross_entropy.h"
#include "runtime/gemm_provider.h"
#include "runtime/random.h"

namespace aft {
namespace {

// Rows whose logits are held at a time: 512 x 256 x 4 bytes twice stay in a core's L2.
constexpr int64_t head_rows = 512;

double sum_of(const Tensor &losses) {
    double sum = 0;
    for (int64_t n = 0; n < losses.elements(); n++) sum += losses.data()[n];
    return sum;
}

bool is_finite(const Tensor &x) {
    const Tensor dense = x.contiguous() ? x : x.clone();
    return std::all_of(dense.data(), dense.data() + dense.elements(), [](float v) { return std::isfinite(v); });
}

}  // namespace

LanguageModel::Parts::Parts(const ModelConfig &c)
    : config((check(c), c)), parameters(parameter_shapes(c)), mixer(make_mixer(c.mixer_options())) {
    blocks.reserve(size_t(config.layers));
    for (int64_t l = 0; l < config.layers; l++) blocks.emplace_back(config, parameters, l, *mixer);
    norm = layer_norm_of(parameters, "norm", config.layer_norm_epsilon);
    head = linear_of(parameters, "head");
    embedding = parameters.value("embedding.weight"), embedding_gradient = parameters.gradient("embedding.weight");
    position = parameters.value("position.weight"), position_gradient = parameters.gradient("position.weight");
}

void LanguageModel::Parts::check_tokens(const Tensor &tokens, const char *what) const {
    if (tokens.rank() != 2 || tokens.dtype() != DType::i32 || !tokens.contiguous() || tokens.elements() == 0)
        throw Error(std::string(what) + " must be a dense, non-empty i32 tensor [B, T], not " + name_of(tokens.dtype()) + " " + to_string(tokens.shape()));
    if (tokens.size(1) > config.context)
        throw Error(std::string(what) + " of " + std::to_string(tokens.size(1)) + " tokens: the model's context is " + std::to_string(config.context));
    const int32_t *first = tokens.data<int32_t>();
    const int32_t most = *std::max_element(first, first + tokens.elements());
    if (most >= config.vocabulary)
        throw Error(std::string(what) + " hold the token " + std::to_string(most) + ": the vocabulary is " + std::to_string(config.vocabulary));
}

void LanguageModel::Parts::embed(const Tensor &tokens, int64_t first_position, Tensor &x) const {
    const int64_t B = tokens.size(0), T = tokens.size(1);
    Tensor shaped = x.reshape({B, T, config.channels});
    kernels().embedding_forward_f32(tokens, embedding, position.slice(0, first_position, first_position + T), shaped);
}

Tensor LanguageModel::Parts::forward(const Tensor &tokens, Arena &arena, const std::function<void(size_t, const Block::Saved &)> &after) const {
    const int64_t B = tokens.size(0), T = tokens.size(1), R = B * T;
    Tensor x = arena.allocate({R, config.channels}), y = arena.allocate({R, config.channels});
    embed(tokens, 0, x);
    for (size_t l = 0; l < blocks.size(); l++) {
        const ArenaScope scope(arena);
        Block::Saved saved;
        blocks[l].forward(x, y, B, T, Dropout(), saved, arena);
        if (after) after(l, saved);
        std::swap(x, y);
    }
    return x;
}

double LanguageModel::Parts::accumulate(const Tensor &tokens, const Tensor &targets, double scale, const TrainingPass &pass) {
    check_tokens(tokens, "tokens");
    if (targets.shape() != tokens.shape()) throw Error("targets " + to_string(targets.shape()) + " do not fit the tokens " + to_string(tokens.shape()));
    const int64_t B = tokens.size(0), T = tokens.size(1), R = B * T, C = config.channels, V = config.vocabulary;
    const Dropout dropout{float(config.dropout), pass.seed, int32_t(pass.step), int32_t(pass.first_sequence * T)};
    arena.reset();

    std::vector<Block::Saved> saved(blocks.size());
    Tensor x = arena.allocate({R, C});
    embed(tokens, 0, x);
    if (dropout.on()) {
        Tensor kept = arena.allocate({R, C});
        dropout.apply(x, embedding_stream, kept);
        x = kept;
    }
    if (probe) probe("embedding", x);
    for (size_t l = 0; l < blocks.size(); l++) {
        Tensor y = arena.allocate({R, C});
        blocks[l].forward(x, y, B, T, dropout, saved[l], arena, probe);
        x = y;
    }
    Tensor normed = arena.allocate({R, C}), losses = arena.allocate({R}), gradient = arena.allocate({R, C}), other = arena.allocate({R, C});
    LayerNorm::Saved norm_saved;
    norm.forward(x, normed, norm_saved, arena);
    for (int64_t first = 0; first < R; first += head_rows) {
        const ArenaScope scope(arena);
        const int64_t end = std::min(R, first + head_rows);
        const Tensor rows = normed.slice(0, first, end);
        Tensor logits = arena.allocate({end - first, V}), logits_gradient = arena.allocate({end - first, V});
        Tensor loss = losses.slice(0, first, end), rows_gradient = other.slice(0, first, end);
        head.forward(rows, logits, arena);
        if (probe) probe("logits", logits);
        softmax_cross_entropy(logits, targets.reshape({R}).slice(0, first, end), 0.0f, float(scale), loss, logits_gradient, arena);
        head.parameters_backward(rows, logits_gradient);
        head.input_backward(logits_gradient, rows_gradient);
    }
    Tensor zero = gradient;
    zero.fill(0);  // the last norm has no residual branch beside it
    Tensor current = arena.allocate({R, C});
    norm.backward(x, norm_saved, other, zero, current);
    for (size_t l = blocks.size(); l-- > 0;) {
        blocks[l].backward(saved[l], current, other, B, T, dropout, arena, probe);
        std::swap(current, other);
    }
    if (dropout.on()) {
        dropout.apply(current, embedding_stream, other);
        std::swap(current, other);
    }
    const Tensor shaped = current.reshape({B, T, C});
    Tensor position_rows = position_gradient.slice(0, 0, T);
    kernels().embedding_backward_f32(tokens, shaped, 1, embedding_gradient);
    kernels().position_backward_f32(shaped, 1, position_rows);
    return sum_of(losses);
}

LanguageModel::LanguageModel(const ModelConfig &config) : parts_(std::make_unique<Parts>(config)) {}
LanguageModel::~LanguageModel() = default;
LanguageModel::LanguageModel(LanguageModel &&) noexcept = default;
LanguageModel &LanguageModel::operator=(LanguageModel &&) noexcept = default;

const ModelConfig &LanguageModel::config() const { return parts_->config; }
ParameterSet &LanguageModel::parameters() { return parts_->parameters; }
const ParameterSet &LanguageModel::parameters() const { return parts_->parameters; }

void LanguageModel::initialise(uint64_t seed) {
    uint32_t stream = 0;
    for (const ParameterShape &shape : parameter_shapes(parts_->config)) {
        Tensor value = parts_->parameters.value(shape.name);
        const auto ends = [&](const char *end) { return shape.name.ends_with(end); };
        const bool gain = ends("norm1.weight") || ends("norm2.weight") || shape.name == "norm.weight";
        stream++;  // every tensor has its own, so a new parameter does not change the others
        if (gain)
            value.fill(1);
        else if (ends(".bias") || ends(".gamma") || ends(".beta"))
            value.fill(0);
        else if (ends("bias_u") || ends("bias_v") || ends("position_bias"))
            fill_normal(value, 0, parts_->config.bias_std, seed, stream);
        else if (ends(".filter"))
            fill_normal(value, 0, 1, seed, stream);
        else
            fill_normal(value, 0, parts_->config.initializer_range, seed, stream);
    }
}

double LanguageModel::accumulate_gradient(const Tensor &tokens, const Tensor &targets, double scale, const TrainingPass &pass) {
    return parts_->accumulate(tokens, targets, scale, pass);
}

Tensor LanguageModel::losses(const Tensor &tokens, const Tensor &targets) {
    Parts &p = *parts_;
    p.check_tokens(tokens, "tokens");
    if (targets.shape() != tokens.shape()) throw Error("targets " + to_string(targets.shape()) + " do not fit the tokens " + to_string(tokens.shape()));
    const int64_t R = tokens.elements();
    p.arena.reset();
    const Tensor x = p.forward(tokens, p.arena);
    Tensor losses({R}), normed = p.arena.allocate(x.shape());
    LayerNorm::Saved ignored;
    p.norm.forward(x, normed, ignored, p.arena);
    for (int64_t first = 0; first < R; first += head_rows) {
        const ArenaScope scope(p.arena);
        const int64_t end = std::min(R, first + head_rows);
        Tensor logits = p.arena.allocate({end - first, p.config.vocabulary}), loss = losses.slice(0, first, end);
        p.head.forward(normed.slice(0, first, end), logits, p.arena);
        kernels().softmax_cross_entropy_loss_f32(logits, targets.reshape({R}).slice(0, first, end), 0.0f, loss);
    }
    return losses.reshape(tokens.shape());
}

Tensor LanguageModel::logits(const Tensor &tokens) {
    Parts &p = *parts_;
    p.check_tokens(tokens, "tokens");
    p.arena.reset();
    const Tensor x = p.forward(tokens, p.arena);
    Tensor logits({tokens.elements(), p.config.vocabulary}), normed = p.arena.allocate(x.shape());
    LayerNorm::Saved ignored;
    p.norm.forward(x, normed, ignored, p.arena);
    p.head.forward(normed, logits, p.arena);
    return logits.reshape({tokens.size(0), tokens.size(1), p.config.vocabulary});
}

int64_t LanguageModel::training_bytes(int64_t B, int64_t T) const {
    const ModelConfig &c = parts_->config;
    const int64_t R = B * T, C = c.channels;
    // Kept per row and layer: the block's tensors, the mixer's denominator; in backward of one block: the
    // gradients of the widest tensors and the mixer's packed operands. The mixer's tables (exp of the bias) are per layer.
    const int64_t kept = (parts_->blocks.front().saved_floats() + C) * c.layers, working = 2 * c.hidden_size() + 16 * C;
    const bool wide = c.mixer == MixerKind::full || (c.mixer == MixerKind::local && c.window > 512);
    const int64_t tables = c.mixer == MixerKind::simple ? 0 : T * (wide ? T : c.window + 32) * c.layers;
    return 4 * (R * (kept + working) + tables);
}

std::string LanguageModel::first_non_finite(const Tensor &tokens, const Tensor &targets, const TrainingPass &pass) {
    Parts &p = *parts_;
    for (const std::string &name : p.parameters.names())
        if (!is_finite(p.parameters.value(name))) return name;
    std::string found;
    const Tensor kept = p.parameters.gradients.clone();
    p.parameters.gradients.fill(0);
    p.probe = [&](const std::string &name, const Tensor &value) {
        if (found.empty() && !is_finite(value)) found = name;
    };
    p.accumulate(tokens, targets, 1.0, pass);
    p.probe = {};
    for (const std::string &name : p.parameters.names())
        if (found.empty() && !is_finite(p.parameters.gradient(name))) found = "gradient of " + name;
    p.parameters.gradients.copy_from(kept);
    return found;
}

}  // namespace aft
