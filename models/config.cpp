// The language model's choices: config.json, their limits, and the parameters that follow from them (SPEC "The language model").
#include "aft/config.h"

#include <algorithm>
#include <cmath>

#include "aft/error.h"
#include "models/config_keys.h"
#include "runtime/json.h"

namespace aft {
namespace {

struct IntegerLimit {
    const char *key;
    int64_t ModelConfig::*member;
    int64_t least, most;
};
// The upper limits only keep products of two of them, times the layers, inside 64 bits; parameter_count decides.
constexpr IntegerLimit integer_limits[] = {
    {"vocabulary", &ModelConfig::vocabulary, 1, 1 << 20}, {"context", &ModelConfig::context, 1, 1 << 22}, {"channels", &ModelConfig::channels, 1, 1 << 16},
    {"layers", &ModelConfig::layers, 1, 4096},            {"hidden", &ModelConfig::hidden, 0, 1 << 20},   {"window", &ModelConfig::window, 0, 1 << 30},
    {"heads", &ModelConfig::heads, 0, 1 << 16},           {"taps", &ModelConfig::taps, 1, 1 << 16},       {"bias_rank", &ModelConfig::bias_rank, 1, 1 << 16},
};

struct NumberLimit {
    const char *key;
    double ModelConfig::*member;
    double least, below;
    bool least_allowed;
};
constexpr NumberLimit number_limits[] = {
    {"bias_std", &ModelConfig::bias_std, 0, 1e4, true},
    {"dropout", &ModelConfig::dropout, 0, 1, true},
    {"initializer_range", &ModelConfig::initializer_range, 0, 1e4, true},
    {"layer_norm_epsilon", &ModelConfig::layer_norm_epsilon, 0, 1, false},
};

std::string shown(double value) { return Json(value).dump(); }

// Adds the weight and, when there is one, the bias of a linear layer.
void add_linear(std::vector<ParameterShape> &shapes, const std::string &name, int64_t out, int64_t in, bool bias) {
    shapes.push_back({name + ".weight", {out, in}, true});
    if (bias) shapes.push_back({name + ".bias", {out}, false});
}

void add_norm(std::vector<ParameterShape> &shapes, const std::string &name, int64_t C) {
    shapes.push_back({name + ".weight", {C}, false});
    shapes.push_back({name + ".bias", {C}, false});
}

void add_mixer(std::vector<ParameterShape> &shapes, const std::string &name, const ModelConfig &config) {
    const int64_t C = config.channels, H = config.head_count(), T = config.context;
    const bool conv = config.mixer == MixerKind::conv;
    add_linear(shapes, name + ".query", C, C, config.linear_bias);
    add_linear(shapes, name + ".key", conv ? H : C, C, config.linear_bias);
    add_linear(shapes, name + ".value", C, C, config.linear_bias);
    if (config.output_projection) add_linear(shapes, name + ".output", C, C, config.linear_bias);
    if (conv) {
        shapes.push_back({name + ".filter", {H, config.taps}, false});
        if (!config.filter_reparameterization) return;
        shapes.push_back({name + ".gamma", {H}, false});
        shapes.push_back({name + ".beta", {H}, false});
    } else if (config.mixer != MixerKind::simple) {
        if (config.factorized_bias) {
            shapes.push_back({name + ".bias_u", {T, config.bias_rank}, false});
            shapes.push_back({name + ".bias_v", {T, config.bias_rank}, false});
        } else {
            shapes.push_back({name + ".position_bias", {T, T}, false});
        }
    }
}

std::vector<ParameterShape> list_parameters(const ModelConfig &config, int64_t layers) {
    const int64_t C = config.channels;
    std::vector<ParameterShape> shapes;
    shapes.push_back({"embedding.weight", {config.vocabulary, C}, false});
    shapes.push_back({"position.weight", {config.context, C}, false});
    for (int64_t layer = 0; layer < layers; layer++) {
        const std::string block = "blocks." + std::to_string(layer);
        add_norm(shapes, block + ".norm1", C);
        add_mixer(shapes, block + ".mixer", config);
        add_norm(shapes, block + ".norm2", C);
        add_linear(shapes, block + ".mlp.up", config.hidden_size(), C, config.linear_bias);
        add_linear(shapes, block + ".mlp.down", C, config.hidden_size(), config.linear_bias);
    }
    add_norm(shapes, "norm", C);
    add_linear(shapes, "head", config.vocabulary, C, config.linear_bias);
    return shapes;
}

int64_t count(const std::vector<ParameterShape> &shapes) {
    int64_t total = 0;
    for (const ParameterShape &parameter : shapes) {
        int64_t elements = 1;
        for (const int64_t size : parameter.shape) elements *= size;
        total += elements;
    }
    return total;
}

}  // namespace

void check(const ModelConfig &config) {
    for (const auto &[key, member, least, most] : integer_limits)
        if (config.*member < least || config.*member > most)
            throw Error(std::string("'") + key + "' is " + std::to_string(config.*member) + "; it must be from " + std::to_string(least) + " to " + std::to_string(most));
    for (const auto &[key, member, least, below, least_allowed] : number_limits) {
        const double value = config.*member;
        if (!(value > least || (least_allowed && value == least)) || !(value < below))
            throw Error(std::string("'") + key + "' is " + shown(value) + "; it must be " + (least_allowed ? "at least " : "more than ") + shown(least) +
                        " and less than " + shown(below));
    }
    if (config.mixer == MixerKind::conv && config.channels % config.head_count() != 0)
        throw Error("'heads' is " + std::to_string(config.heads) + ", which does not divide 'channels' (" + std::to_string(config.channels) + ")");
    const int64_t parameters = parameter_count(config);
    if (parameters > (int64_t(1) << 31) - 1)
        throw Error("the model would have " + std::to_string(parameters) + " parameters, more than 2^31 - 1: make 'channels', 'layers', 'hidden', 'vocabulary' or the position bias smaller");
}

std::string to_json(const ModelConfig &config) {
    nlohmann::ordered_json json;
    json["model_type"] = config.model_type;
    json["torch_dtype"] = "float32";
    json["mixer"] = name_of(config.mixer);
    visit_config_keys(config, [&](const char *key, const auto &value) { json[key] = value; });
    return json.dump(2) + "\n";
}

ModelConfig config_from_json(const std::string &text, const std::string &origin) {
    const Json json = parse_json(text, origin);
    JsonObject object(json, origin);
    ModelConfig config;
    object.read("model_type", config.model_type);
    if (config.model_type != ModelConfig().model_type)
        throw Error(object.name("model_type") + " is '" + printable(config.model_type) + "'; this program reads '" + ModelConfig().model_type + "'");
    std::string dtype = "float32", mixer = name_of(config.mixer);
    object.read("torch_dtype", dtype);
    if (dtype != "float32") throw Error(object.name("torch_dtype") + " is '" + printable(dtype) + "'; only 'float32' is read");
    object.ignore("architectures");
    object.ignore("transformers_version");
    object.read("mixer", mixer);
    try {
        config.mixer = mixer_kind(printable(mixer));
    } catch (const Error &error) {
        throw Error(object.name("mixer") + ": " + error.what());
    }
    visit_config_keys(config, [&](const char *key, auto &value) { object.read(key, value); });
    object.finish();
    try {
        check(config);
    } catch (const Error &error) {
        throw Error(origin + ": " + error.what());
    }
    return config;
}

int64_t parameter_count(const ModelConfig &config) {
    const int64_t none = count(list_parameters(config, 0));
    return none + config.layers * (count(list_parameters(config, 1)) - none);
}

double flops_per_token(const ModelConfig &c) {
    const double C = double(c.channels), T = double(c.context), keys = c.mixer == MixerKind::conv ? double(c.head_count()) : C;
    double pairs = 0;
    if (c.mixer == MixerKind::full) pairs = (T + 1) / 2;
    if (c.mixer == MixerKind::local) pairs = std::min(T, double(c.window));
    if (c.mixer == MixerKind::conv) pairs = std::min(T, double(c.taps));
    const double layer = 2 * C * (2 * C + keys + 2 * double(c.hidden_size()) + (c.output_projection ? C : 0)) + 4 * pairs * C;
    return layer * double(c.layers) + 2 * C * double(c.vocabulary);
}

std::vector<ParameterShape> parameter_shapes(const ModelConfig &config) {
    check(config);
    return list_parameters(config, config.layers);
}

}  // namespace aft
