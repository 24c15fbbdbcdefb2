// `aft bench step` and `aft bench decode`: whole training steps and decoding, held against the machine's limits.
#pragma once
#include <functional>

#include "tools/command.h"

namespace aft::tool {

// Adds the two subcommands to `bench`; the returned function runs the one that was asked for, or is empty when none was.
std::function<std::function<int()>()> add_model_benchmarks(CLI::App &bench, const Common &common);

}  // namespace aft::tool
