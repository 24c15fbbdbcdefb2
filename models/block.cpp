#include "models/block.h"

#include "kernel_table.h"
#include "runtime/gemm_provider.h"

namespace aft {
namespace {

Tensor optional_value(const ParameterSet &p, const std::string &name) { return p.has(name) ? p.value(name) : Tensor(); }
Tensor optional_gradient(const ParameterSet &p, const std::string &name) { return p.has(name) ? p.gradient(name) : Tensor(); }

void look(const Probe &probe, const std::string &block, const char *what, const Tensor &value) {
    if (probe) probe(block + "." + what, value);
}

}  // namespace

LayerNorm layer_norm_of(const ParameterSet &p, const std::string &name, double epsilon) {
    return {p.value(name + ".weight"), p.value(name + ".bias"), p.gradient(name + ".weight"), p.gradient(name + ".bias"), float(epsilon)};
}

Linear linear_of(const ParameterSet &p, const std::string &name) {
    return {p.value(name + ".weight"), optional_value(p, name + ".bias"), p.gradient(name + ".weight"), optional_gradient(p, name + ".bias")};
}

Block::Block(const ModelConfig &config, const ParameterSet &p, int64_t index, const Mixer &mixer)
    : config_(config), mixer_(mixer), name_("blocks." + std::to_string(index)), index_(index),
      mixer_stream_(int32_t(1 + 2 * index)), mlp_stream_(int32_t(2 + 2 * index)) {
    const int64_t C = config.channels, keys = config.mixer == MixerKind::conv ? config.head_count() : C, rows = 2 * C + keys;
    const std::string m = name_ + ".mixer.";
    norm1_ = layer_norm_of(p, name_ + ".norm1", config.layer_norm_epsilon);
    norm2_ = layer_norm_of(p, name_ + ".norm2", config.layer_norm_epsilon);
    fused_.weight = p.value(m + "query.weight", {rows, C});
    fused_.weight_gradient = p.gradient(m + "query.weight", {rows, C});
    if (config.linear_bias) {
        fused_.bias = p.value(m + "query.bias", {rows});
        fused_.bias_gradient = p.gradient(m + "query.bias", {rows});
    }
    if (config.output_projection) output_ = linear_of(p, m + "output");
    up_ = linear_of(p, name_ + ".mlp.up");
    down_ = linear_of(p, name_ + ".mlp.down");
    for (auto [tensors, get] : {std::pair{&parameters_, &optional_value}, std::pair{&gradients_, &optional_gradient}}) {
        tensors->position_bias = get(p, m + "position_bias");
        tensors->bias_u = get(p, m + "bias_u");
        tensors->bias_v = get(p, m + "bias_v");
        tensors->filter = get(p, m + "filter");
        tensors->gamma = get(p, m + "gamma");
        tensors->beta = get(p, m + "beta");
    }
}

int64_t Block::saved_floats() const {
    const int64_t C = config_.channels;
    return 5 * C + fused_.weight.size(0) + 2 * config_.hidden_size() + 4 + (keeps_mixed() ? C : 0);
}

// The fused projection [B * T, query | key | value] as three views.
MixerTensors Block::views(const Tensor &fused, int64_t B, int64_t T) const {
    const int64_t C = config_.channels, width = fused.size(1);
    const Tensor all = fused.reshape({B, T, width});
    MixerTensors in = parameters_;
    in.query = all.slice(2, 0, C);
    in.key = all.slice(2, C, width - C);
    in.value = all.slice(2, width - C, width);
    return in;
}

// y = residual + dropout(down(GELU(up(normed))))
void Block::mlp(const Tensor &normed, const Tensor &residual, Tensor &y, const Dropout &dropout, Tensor &hidden, Tensor &slope, Arena &arena) const {
    const int64_t R = normed.size(0);
    hidden = arena.allocate({R, up_.weight.size(0)});
    slope = arena.allocate({R, up_.weight.size(0)});
    const ArenaScope scope(arena);
    gemm::linear_gelu(normed, up_.weight, up_.bias_or_zero(arena), hidden, slope);
    const Tensor bias = down_.bias_or_zero(arena);
    if (!dropout.on()) {
        gemm::linear_residual(hidden, down_.weight, bias, residual, y);
        return;
    }
    Tensor branch = arena.allocate({R, y.size(1)});
    gemm::linear(hidden, down_.weight, bias, branch);
    dropout.apply_residual(branch, residual, mlp_stream_, y);
}

void Block::forward(const Tensor &x, Tensor &y, int64_t B, int64_t T, const Dropout &dropout, Saved &s, Arena &arena, const Probe &probe) const {
    const int64_t R = x.size(0), C = config_.channels;
    s.x = x;
    s.normed1 = arena.allocate({R, C});
    norm1_.forward(x, s.normed1, s.norm1, arena);
    s.fused = arena.allocate({R, fused_.weight.size(0)});
    fused_.forward(s.normed1, s.fused, arena);
    look(probe, name_, "mixer projections", s.fused);

    s.middle = arena.allocate({R, C});
    s.normed2 = arena.allocate({R, C});
    s.mixed = keeps_mixed() ? arena.allocate({R, C}) : s.normed2;  // normed2 is free until the norm writes it
    {
        // The mixer keeps its own part in the arena, so its output is allocated first, above what is kept.
        Tensor mixed = s.mixed, shaped = mixed.reshape({B, T, C});
        mixer_.forward(views(s.fused, B, T), shaped, s.mixer, arena);
        look(probe, name_, "mixer output", mixed);
        const ArenaScope scope(arena);
        Tensor branch = mixed;
        if (config_.output_projection) {
            branch = arena.allocate({R, C});
            output_.forward(mixed, branch, arena);
        }
        if (dropout.on()) {
            dropout.apply_residual(branch, x, mixer_stream_, s.middle);
        } else {
            kernels().add_f32(x, branch, s.middle);
        }
    }
    norm2_.forward(s.middle, s.normed2, s.norm2, arena);
    mlp(s.normed2, s.middle, y, dropout, s.hidden, s.slope, arena);
    look(probe, name_, "mlp hidden", s.hidden);
    look(probe, name_, "output", y);
}

void Block::backward(const Saved &s, const Tensor &y_gradient, Tensor &x_gradient, int64_t B, int64_t T, const Dropout &dropout, Arena &arena,
                     const Probe &probe) const {
    const ArenaScope all(arena);
    const int64_t R = y_gradient.size(0), C = config_.channels;
    Tensor middle_gradient = arena.allocate({R, C});
    {
        const ArenaScope scope(arena);
        Tensor branch = y_gradient;
        if (dropout.on()) dropout.apply(y_gradient, mlp_stream_, branch = arena.allocate({R, C}));
        down_.parameters_backward(s.hidden, branch);
        Tensor pre_gradient = arena.allocate({R, up_.weight.size(0)});
        gemm::input_gradient_gelu(branch, down_.weight, s.slope, pre_gradient);
        up_.parameters_backward(s.normed2, pre_gradient);
        Tensor normed_gradient = arena.allocate({R, C});
        up_.input_backward(pre_gradient, normed_gradient);
        norm2_.backward(s.middle, s.norm2, normed_gradient, y_gradient, middle_gradient);
    }
    look(probe, name_, "gradient behind the mixer", middle_gradient);
    Tensor branch = middle_gradient;
    if (dropout.on()) dropout.apply(middle_gradient, mixer_stream_, branch = arena.allocate({R, C}));
    if (config_.output_projection) {
        output_.parameters_backward(s.mixed, branch);
        Tensor mixed_gradient = arena.allocate({R, C});
        output_.input_backward(branch, mixed_gradient);
        branch = mixed_gradient;
    }
    Tensor fused_gradient = arena.allocate({R, fused_.weight.size(0)});
    MixerTensors gradient = views(fused_gradient, B, T);
    gradient.position_bias = gradients_.position_bias, gradient.bias_u = gradients_.bias_u, gradient.bias_v = gradients_.bias_v;
    gradient.filter = gradients_.filter, gradient.gamma = gradients_.gamma, gradient.beta = gradients_.beta;
    mixer_.backward(views(s.fused, B, T), s.mixed.reshape({B, T, C}), s.mixer, branch.reshape({B, T, C}), gradient, arena);
    look(probe, name_, "gradient of the mixer projections", fused_gradient);
    fused_.parameters_backward(s.normed1, fused_gradient);
    Tensor normed_gradient = arena.allocate({R, C});
    fused_.input_backward(fused_gradient, normed_gradient);
    norm1_.backward(s.x, s.norm1, normed_gradient, middle_gradient, x_gradient);
    look(probe, name_, "gradient of the input", x_gradient);
}

MixerState Block::start(int64_t batch) const { return mixer_.start(parameters_, batch, config_.channels, config_.context); }

void Block::prefill(const Saved &s, int64_t B, int64_t T, MixerState &state, Arena &arena) const { mixer_.prefill(views(s.fused, B, T), state, arena); }

int64_t Block::packed_floats() const {
    return fused_.packed_floats() + (config_.output_projection ? output_.packed_floats() : 0) + up_.packed_floats() + down_.packed_floats();
}

// In the order in which a step reads them: one stream.
Block::Packed Block::packed(const Tensor &memory) const {
    Packed p;
    int64_t at = 0;
    const auto place = [&](const Linear &layer, PackedLinear &packed) {
        packed = layer.packed(memory.slice(0, at, at + layer.packed_floats()));
        at += layer.packed_floats();
    };
    place(fused_, p.fused);
    if (config_.output_projection) place(output_, p.output);
    place(up_, p.up);
    place(down_, p.down);
    return p;
}

void Block::step(const Tensor &x, Tensor &y, const Packed &packed, MixerState &state, Arena &arena) const {
    const ArenaScope scope(arena);
    const int64_t B = x.size(0), C = config_.channels;
    LayerNorm::Saved ignored;
    Tensor normed = arena.allocate({B, C}), fused = arena.allocate({B, fused_.weight.size(0)}), mixed = arena.allocate({B, C}), middle = arena.allocate({B, C});
    Tensor hidden = arena.allocate({B, up_.weight.size(0)});
    norm1_.forward(x, normed, ignored, arena);
    packed.fused.forward(normed, fused);
    Tensor shaped = mixed.reshape({B, 1, C});
    mixer_.step(views(fused, B, 1), state, shaped, arena);
    if (config_.output_projection) {
        packed.output.forward_residual(mixed, x, middle);
        norm2_.forward(middle, normed, ignored, arena);
    } else {
        norm2_.forward_residual(x, mixed, middle, normed, ignored, arena);
    }
    packed.up.forward_gelu(normed, hidden);
    packed.down.forward_residual(hidden, middle, y);
}

}  // namespace aft
