// Tuned records (docs/tuning.md) as the tuner writes and compares them; schedules/record.h reads them in the build.
#pragma once
#include <nlohmann/json_fwd.hpp>
#include <string>

#include "tools/tuner/manifest.h"
#include "tools/tuner/space.h"
#include "tools/tuner/worker.h"

namespace aft::tool {

struct Winner {
    KnobValues knobs, incumbent;
    std::string incumbent_origin;  // "default" or the record's file name
    Verdict verdict;               // of the fresh compile
    int threads = 1, tried = 0;
    bool cold = false;             // its calls were
    std::string strategy;
    uint64_t seed = 0;
};

nlohmann::json make_record(const Manifest &manifest, const ManifestEntry &entry, const Space &space, const Winner &winner);

// What changed between two records or two folders of records (<dir>/<target>/<name>.json or <dir>/<name>.json), as JSON
// {records: [{name, change, cache: [old, new], knobs: {name: [old, new]}, shapes: [{shape, old_seconds, new_seconds, ratio}]}]}.
nlohmann::json compare_records(const std::string &before, const std::string &after);
std::string comparison_text(const nlohmann::json &comparison);

}  // namespace aft::tool
