#include "tools/bench/shape_lists.h"

#include <filesystem>
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
    if (std::filesystem::is_directory(name)) throw UsageError("the shapes file '" + name + "' is a folder");
    std::ifstream file(name);  // a pipe too
    std::string text{std::istreambuf_iterator<char>(file), {}};
    if (!file) throw UsageError("cannot read the shapes file '" + name + "', and there is no list of that name: " + shape_list_names());
    return text;
}

}  // namespace aft::tool
