// The recipes that were embedded at build time (recipes/*.toml): `aft train --preset NAME`.
#pragma once
#include <string>
#include <vector>

namespace aft::tool {

struct Recipe {
    std::string name, text;
};
const std::vector<Recipe> &recipes();
const Recipe &find_recipe(const std::string &name);  // throws UsageError, which names those that there are

}  // namespace aft::tool
