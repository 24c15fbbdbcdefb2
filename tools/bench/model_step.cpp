#include "tools/bench/model_step.h"

#include <algorithm>

#include "tools/bench/data.h"
#include "tools/recipes.h"

namespace aft::tool {
namespace {

LanguageModel random_model(const ModelConfig &config) {
    LanguageModel model(config);
    model.initialise(1);
    return model;
}

}  // namespace

ModelConfig model_of(const std::string &preset, int64_t context) {
    RunOptions options;
    read_toml(options, find_recipe(preset).text, preset);
    if (context) options.model.context = context;
    return options.model;
}

ModelStep::ModelStep(const ModelConfig &config, int64_t batch)
    : model_(random_model(config)), optimizer_(model_.parameters().values.elements(), model_.parameters().decayed, {.weight_decay = 0.5, .clip = 1}),
      tokens_(random_tokens({batch, config.context}, int32_t(config.vocabulary), 1)), targets_(random_tokens({batch, config.context}, int32_t(config.vocabulary), 2)) {}

void ModelStep::run() {
    steps_++;
    model_.accumulate_gradient(tokens_, targets_, 1.0 / double(tokens_.elements()), {.seed = 1, .step = steps_});
    optimizer_.step(model_.parameters().values, model_.parameters().gradients, 1e-4, steps_);
}

ModelDecoding::ModelDecoding(const ModelConfig &config, int64_t batch)
    : model_(random_model(config)), decoder_(model_.decoder(batch)), prompt_(random_tokens({batch, std::min<int64_t>(config.context / 2, 256)}, int32_t(config.vocabulary), 1)),
      token_(random_tokens({batch}, int32_t(config.vocabulary), 2)) {
    decoder_.prefill(prompt_);
}

int64_t ModelDecoding::room() const { return model_.config().context - prompt_.size(1); }

void ModelDecoding::make_room(int64_t tokens) {
    if (decoder_.position() + tokens > model_.config().context) decoder_.reset(), decoder_.prefill(prompt_);
}

void ModelDecoding::run() { decoder_.step(token_); }

}  // namespace aft::tool
