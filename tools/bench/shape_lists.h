// Lists of shapes for `aft bench --shapes`: files, and those of recipes/shapes/ that are embedded at build time.
#pragma once
#include <string>
#include <vector>

namespace aft::tool {

struct ShapeList {
    std::string name, text;
};
const std::vector<ShapeList> &shape_lists();

std::string shape_list_names();                    // "enwik8-24x256, speed-table"
std::string shape_list(const std::string &name);   // the text of a list or of a file; throws UsageError when it is neither

}  // namespace aft::tool
