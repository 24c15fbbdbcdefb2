// How long `aft generate` takes from its start to the first byte of its text.
#pragma once
#include "aft/config.h"
#include "tools/bench/measure.h"

namespace aft::tool {

// Saves a model of random weights to a temporary folder and starts this very program on it, again and again.
Measurement time_to_first_token(const ModelConfig &config, int threads, int samples);

}  // namespace aft::tool
