#include "tools/recipes.h"

#include "tools/command.h"

namespace aft::tool {

const Recipe &find_recipe(const std::string &name) {
    for (const Recipe &recipe : recipes())
        if (recipe.name == name) return recipe;
    std::string known;
    for (const Recipe &recipe : recipes()) known += (known.empty() ? "" : ", ") + recipe.name;
    throw UsageError("there is no preset '" + name + "'; there are " + known);
}

}  // namespace aft::tool
