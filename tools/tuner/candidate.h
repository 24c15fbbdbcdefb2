// A candidate: the kernel's object made by its generator with other knob values, as a shared object that carries a Halide
// runtime of its own (libaft's is private, docs/architecture.md).
#pragma once
#include <string>

#include "tools/tuner/manifest.h"
#include "tools/tuner/process.h"
#include "tools/tuner/space.h"

namespace aft::tool {

struct Built {
    bool ok = false;
    std::string object;   // the shared object
    std::string message;  // why there is none
    double seconds = 0;
};

// Into `folder`, which is made and emptied first. `more`: further arguments of the generator program, for example "knobs=rows:4"; `emit`: what
// it writes, an object among it.
Built build_candidate(const Manifest &manifest, const ManifestEntry &entry, const std::vector<std::string> &more, const std::string &folder, const ProcessLimits &limits,
                      const std::string &emit = "object");

// Fills space.points: the generator program answers which combinations the plan accepts. Throws Error when it fails.
void find_valid_points(const Manifest &manifest, const ManifestEntry &entry, Space &space, const std::string &folder);

}  // namespace aft::tool
