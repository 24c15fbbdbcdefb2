#include "tools/bench/shape_lists.h"

#include <fstream>
#include <iterator>

#include "tools/command.h"

namespace aft::tool {

std::string shape_list_names() {
    std::string names;
    for (const ShapeList &list : shape_lists()) names += (names.empty() ? "" : ", ") + list.name;
    return names;
}

std::string shape_list(const std::string &name) {
    for (const ShapeList &list : shape_lists())
        if (list.name == name) return list.text;
    std::ifstream file(name);
    std::string text{std::istreambuf_iterator<char>(file), {}};
    if (!file) throw UsageError("cannot read the shapes file '" + name + "', and there is no list of that name: " + shape_list_names());
    return text;
}

}  // namespace aft::tool
