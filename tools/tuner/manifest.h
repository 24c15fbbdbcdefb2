// What the build wrote about itself (cmake/AftKernels.cmake): how each kernel object is made. With it the tuner makes a
// candidate exactly as the build would make the kernel, with other knob values.
#pragma once
#include <string>
#include <vector>

namespace aft::tool {

struct ManifestEntry {
    std::string symbol, kernel, variant, target;
    std::string record;                   // file name of its records, without .json
    std::string program, generator;       // the family's generator program, the generator in it
    std::vector<std::string> parameters;  // name=value
    std::string halide_target;
    std::vector<std::string> records;     // those that the build considered, best first
};

struct Manifest {
    std::string build_dir, halide, runtime, tuned, compiler;
    std::string autoschedulers;  // the folder of Halide's plugins
    std::vector<ManifestEntry> kernels;
};

// Throws Error when there is no build tree with generator programs and a linker.
Manifest read_manifest(const std::string &build_dir);

}  // namespace aft::tool
