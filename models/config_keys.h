// The keys of ModelConfig.
#pragma once
#include "aft/config.h"

namespace aft {

// One place lists the keys: config.json, recipes and flags follow it. (`mixer` is an enum and stands apart.)
template <class Config, class Visit>
void visit_config_keys(Config &config, Visit visit) {
    visit("vocabulary", config.vocabulary);
    visit("context", config.context);
    visit("channels", config.channels);
    visit("layers", config.layers);
    visit("hidden", config.hidden);
    visit("window", config.window);
    visit("heads", config.heads);
    visit("taps", config.taps);
    visit("factorized_bias", config.factorized_bias);
    visit("bias_rank", config.bias_rank);
    visit("bias_std", config.bias_std);
    visit("filter_reparameterization", config.filter_reparameterization);
    visit("output_projection", config.output_projection);
    visit("linear_bias", config.linear_bias);
    visit("dropout", config.dropout);
    visit("initializer_range", config.initializer_range);
    visit("layer_norm_epsilon", config.layer_norm_epsilon);
}

}  // namespace aft
