// What `aft bench step` and `aft bench decode` time: a training step and a token of a model with random weights and tokens.
#pragma once
#include <string>

#include "aft/training.h"
#include "models/training/optimizer.h"

namespace aft::tool {

// The model of a preset of `aft train --list`, with another context when `context` is not 0; throws UsageError when there is none.
ModelConfig model_of(const std::string &preset, int64_t context);

class ModelStep {
public:
    ModelStep(const ModelConfig &config, int64_t batch);
    void run();  // gradient and update

private:
    LanguageModel model_;
    AdamW optimizer_;
    Tensor tokens_, targets_;
    int64_t steps_ = 0;
};

// Sequences behind a prompt of half the context, 256 tokens at most.
class ModelDecoding {
public:
    ModelDecoding(const ModelConfig &config, int64_t batch);
    int64_t room() const;  // tokens that fit behind the prompt
    void make_room(int64_t tokens);  // starts again with the prompt when so many do not fit any more
    void run();  // one token of each sequence

private:
    LanguageModel model_;
    Decoder decoder_;
    Tensor prompt_, token_;
};

}  // namespace aft::tool
