// What the four operators share: names, the choice of one, the check of their tensors.
#include "aft/mixer.h"

#include <atomic>

#include "aft/error.h"
#include "models/mixers/mixers.h"

namespace aft {
namespace {

std::atomic<int64_t> exact_elements = 0;

using Member = Tensor MixerTensors::*;

struct Named {
    const char *name;
    Member member;
};
constexpr Named parameters[] = {{"position_bias", &MixerTensors::position_bias}, {"bias_u", &MixerTensors::bias_u}, {"bias_v", &MixerTensors::bias_v},
                                {"filter", &MixerTensors::filter},               {"gamma", &MixerTensors::gamma},   {"beta", &MixerTensors::beta}};

// "[B, T, C]" with letters for what is free and numbers for what is known; 0 is free.
void expect(const char *name, const Tensor &x, const Shape &shape, const std::string &letters) {
    if (!x.defined()) throw Error(std::string("the tensor '") + name + "' is missing; it is needed with the shape " + letters);
    if (x.dtype() != DType::f32) throw Error(std::string("the tensor '") + name + "' is " + name_of(x.dtype()) + "; it must be F32");
    bool fits = x.rank() == int(shape.size());
    for (int axis = 0; fits && axis < x.rank(); axis++) fits = shape[size_t(axis)] == 0 ? x.size(axis) > 0 : x.size(axis) == shape[size_t(axis)];
    if (!fits) {
        std::string wanted;
        for (size_t axis = 0; axis < shape.size(); axis++) wanted += (axis ? ", " : "") + (shape[axis] ? std::to_string(shape[axis]) : "1 or more");
        throw Error(std::string("the tensor '") + name + "' has the shape " + to_string(x.shape()) + "; it must be " + letters + " = [" + wanted + "]");
    }
    if (x.stride(x.rank() - 1) != 1 && x.size(x.rank() - 1) > 1) throw Error(std::string("the last axis of '") + name + "' must be contiguous");
}

void refuse(const char *name, const Tensor &x, const char *why) {
    if (x.defined()) throw Error(std::string("the tensor '") + name + "' is not used: " + why);
}

void check_bias(const MixerTensors &in, int64_t T) {
    if (in.position_bias.defined()) {
        for (const char *name : {"bias_u", "bias_v"})
            refuse(name, name[5] == 'u' ? in.bias_u : in.bias_v, "position_bias is given; give one or the other");
        const int64_t longest = in.position_bias.rank() > 0 ? in.position_bias.size(0) : 0;
        expect("position_bias", in.position_bias, {std::max(longest, T), std::max(longest, T)}, "[T, T]");
        return;
    }
    if (!in.bias_u.defined() && !in.bias_v.defined())
        throw Error("the tensor 'position_bias' is missing: AFT-full and AFT-local need it, or 'bias_u' and 'bias_v'");
    expect("bias_u", in.bias_u, {0, 0}, "[T, d']");
    expect("bias_v", in.bias_v, in.bias_u.shape(), "[T, d']");
    if (in.bias_u.size(0) < T) expect("bias_u", in.bias_u, {T, 0}, "[T, d']");
}

}  // namespace

const char *name_of(MixerKind kind) {
    switch (kind) {
        case MixerKind::full: return "full";
        case MixerKind::local: return "local";
        case MixerKind::simple: return "simple";
        case MixerKind::conv: return "conv";
    }
    return "?";
}

MixerKind mixer_kind(const std::string &name) {
    for (MixerKind kind : {MixerKind::full, MixerKind::local, MixerKind::simple, MixerKind::conv})
        if (name == name_of(kind)) return kind;
    throw Error("there is no mixer '" + name + "': it is one of full, local, simple, conv");
}

std::unique_ptr<Mixer> make_mixer(const MixerOptions &options) {
    if (options.window < 0) throw Error("a window of " + std::to_string(options.window) + " is impossible: give 0 or more");
    switch (options.kind) {
        case MixerKind::full: return make_full_mixer(options);
        case MixerKind::local: return make_local_mixer(options);
        case MixerKind::simple: return make_simple_mixer(options);
        case MixerKind::conv: return make_conv_mixer(options);
    }
    throw Error("unknown mixer");
}

void check_mixer_output(const MixerTensors &in, const Tensor &output) { expect("output", output, in.value.shape(), "[B, T, C]"); }

void check_mixer_tensors(const MixerOptions &options, const MixerTensors &in) {
    expect("query", in.query, {0, 0, 0}, "[B, T, C]");
    const int64_t B = in.query.size(0), T = in.query.size(1), C = in.query.size(2);
    expect("value", in.value, {B, T, C}, "[B, T, C]");
    const bool conv = options.kind == MixerKind::conv, biased = options.kind == MixerKind::full || options.kind == MixerKind::local;
    if (conv)
        expect("key", in.key, {B, T, 0}, "[B, T, H]");
    else
        expect("key", in.key, {B, T, C}, "[B, T, C]");
    for (const auto &[name, member] : parameters) {
        const std::string n = name;
        const bool bias = n.find("bias") != std::string::npos;
        if ((bias && !biased) || (!bias && !conv)) refuse(name, in.*member, (std::string("AFT-") + name_of(options.kind) + " has none").c_str());
    }
    if (biased) check_bias(in, T);
    if (conv) {
        const int64_t H = in.key.size(2);
        if (C % H != 0) throw Error("the tensor 'key' has " + std::to_string(H) + " heads, which do not divide the " + std::to_string(C) + " channels of 'query'");
        expect("filter", in.filter, {H, 0}, "[H, s]");
        if (in.gamma.defined() || in.beta.defined()) {
            expect("gamma", in.gamma, {H}, "[H]");
            expect("beta", in.beta, {H}, "[H]");
        }
    }
}

int64_t exact_path_count() { return exact_elements; }
void count_exact_elements(int64_t count) { exact_elements += count; }

}  // namespace aft
