// What a language model is made of, and its config.json (Hugging Face manner).
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "aft/mixer.h"

namespace aft {

/// Every choice of SPEC "The language model" is a key. Names are the keys of config.json.
struct ModelConfig {
    std::string model_type = "aft_language_model";
    MixerKind mixer = MixerKind::local;
    int64_t vocabulary = 256;
    int64_t context = 1024;        ///< T: longest sequence, learned positions
    int64_t channels = 256;        ///< C
    int64_t layers = 24;           ///< L
    int64_t hidden = 0;            ///< width of the MLP; 0 = 4 C
    int64_t window = 32;           ///< s of AFT-local
    int64_t heads = 0;             ///< H of AFT-conv; 0 = C
    int64_t taps = 32;             ///< filter length of AFT-conv
    bool factorized_bias = true;   ///< w = u v^T (F6), else dense [T, T]
    int64_t bias_rank = 256;       ///< d'
    double bias_std = 0.1;         ///< standard deviation of u and v (dense: of w) at the start
    bool filter_reparameterization = true;  ///< F7
    bool output_projection = false;
    bool linear_bias = true;
    double dropout = 0.1;
    double initializer_range = 0.02;
    double layer_norm_epsilon = 1e-5;

    int64_t hidden_size() const { return hidden ? hidden : 4 * channels; }
    int64_t head_count() const { return heads ? heads : channels; }
    MixerOptions mixer_options() const { return {mixer, true, window}; }

    bool operator==(const ModelConfig &) const = default;
};

/// Throws an Error that names the key whose value is impossible (sizes < 1 or absurd, heads that do not divide the
/// channels, probabilities outside [0, 1), a model beyond 2^31 parameters ...).
void check(const ModelConfig &config);

/// JSON text of a config and back. Reading ignores the Hugging Face bookkeeping keys (architectures,
/// transformers_version), accepts torch_dtype "float32" only, fills missing keys with the defaults, refuses unknown
/// keys, wrong types and impossible values with an Error that names the key; `origin` names the file in messages.
std::string to_json(const ModelConfig &config);
ModelConfig config_from_json(const std::string &text, const std::string &origin = "config.json");

/// Number of parameters: the sum over parameter_shapes().
int64_t parameter_count(const ModelConfig &config);

/// Floating-point operations of one token in forward at full context: 2 per weight of the linear layers, 4 per channel and pair
/// of tokens that has a weight of its own (window, taps, or all). A training step is three times that.
double flops_per_token(const ModelConfig &config);

struct ParameterShape {
    std::string name;  ///< as in the file (docs/checkpoints.md)
    Shape shape;
    bool decayed;      ///< weight decay applies: linear-layer weights only
};
/// All parameters in the order of the file.
std::vector<ParameterShape> parameter_shapes(const ModelConfig &config);

}  // namespace aft
