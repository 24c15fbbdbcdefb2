// Models in folders: config.json and model.safetensors (docs/checkpoints.md).
#pragma once
#include <string>

#include "aft/language_model.h"

namespace aft {

/// The folder with config.json and model.safetensors that `path` means: a run's folder gives its best checkpoint, else its
/// latest; a checkpoint's folder is itself. Throws an Error that says what is missing.
std::string find_checkpoint(const std::string &path);

/// The model in find_checkpoint(path). Names, types and shapes are checked against its config before a tensor is read; a file that is
/// missing, damaged or of another model is an Error that names it.
LanguageModel load_language_model(const std::string &path);

/// Creates the folder; each file appears whole or not at all. Throws Error when it cannot be written.
void save_language_model(const LanguageModel &model, const std::string &folder);

}  // namespace aft
