#include "tools/tuner/manifest.h"

#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "aft/error.h"

namespace aft::tool {

Manifest read_manifest(const std::string &build_dir) {
    const std::string advice = "; tuning needs the build tree: configure and build the project, and give its folder with --build-dir";
    const std::string file = build_dir + "/kernels/manifest.json";
    std::ifstream in(file);
    if (!in) throw Error("'" + file + "' cannot be read" + advice);
    Manifest manifest;
    try {
        const auto json = nlohmann::json::parse(in);
        manifest = {build_dir, json.at("halide"), json.at("runtime"), json.at("tuned"), json.at("compiler"), json.at("autoschedulers"), {}};
        for (const auto &k : json.at("kernels"))
            manifest.kernels.push_back({k.at("symbol"), k.at("kernel"), k.at("variant"), k.at("target"), k.at("record"), k.at("program"), k.at("generator"),
                                        k.at("parameters"), k.at("halide_target"), k.at("records")});
    } catch (const nlohmann::json::exception &error) {
        throw Error("'" + file + "' is no manifest of this version (" + error.what() + ")" + advice);
    }
    for (const ManifestEntry &kernel : manifest.kernels)
        if (access(kernel.program.c_str(), X_OK) != 0) throw Error("the generator program '" + kernel.program + "' is not there" + advice);
    if (access(manifest.runtime.c_str(), R_OK) != 0) throw Error("Halide's run time '" + manifest.runtime + "' is not there" + advice);
    if (access(manifest.compiler.c_str(), X_OK) != 0) throw Error("the compiler '" + manifest.compiler + "', which links candidates, is not there" + advice);
    return manifest;
}

}  // namespace aft::tool
