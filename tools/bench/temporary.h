// Names for what a measurement leaves on disk while it runs.
#pragma once
#include <filesystem>
#include <string>

#include "aft/error.h"

namespace aft::tool {

// FOLDER/aft_NAME_ and the letters that mkdtemp and mkstemp replace, in the folder of TMPDIR or the system's own. Error: there is no such
// folder.
inline std::string temporary_pattern(const std::string &name) {
    std::error_code none;
    const std::filesystem::path folder = std::filesystem::temp_directory_path(none);
    if (none) throw Error("no folder for temporary files (" + none.message() + "): set TMPDIR to one that exists");
    return (folder / ("aft_" + name + '_' + std::string(6, 'X'))).string();
}

}  // namespace aft::tool
