// The whole language model in double, plain loops over named parameters: an evaluation that shares nothing with the
// library but the parameter names (SPEC "The language model").
#pragma once
#include <map>
#include <string>
#include <vector>

#include "aft/language_model.h"
#include "tests/reference/operator_case.h"

namespace aft::reference {

Arrays parameters_of(const LanguageModel &model);

// [B, T, V]; tokens [B, T] as integers. No dropout.
Array logits(const ModelConfig &config, const Arrays &parameters, const Array &tokens);

// Sum over all targets of -log softmax(logits)[target].
double loss(const ModelConfig &config, const Arrays &parameters, const Array &tokens, const Array &targets);

}  // namespace aft::reference
