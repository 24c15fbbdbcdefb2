// The recipes of recipes/*.toml, embedded at build time: the presets of `aft train`.
#pragma once
#include <span>
#include <string_view>

namespace aft::tool {

struct Recipe {
    const char *name;  // the file's name without .toml
    std::string_view text;
};
std::span<const Recipe> recipes();

}  // namespace aft::tool
