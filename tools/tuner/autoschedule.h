// Halide's own autoschedulers beside our schedules: each makes a schedule for the algorithm in the incumbent's formulation (its
// block extents) and the sizes that a shape calls the kernel with; the candidate goes through the worker as every other.
//
// They give schedules, not knob values, so nothing is recorded: the figures are for comparison. They may cut loops without
// guards, so that a kernel refuses sizes below its tile: such cases are counted; a wrong result still rules a candidate out.
#pragma once
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "tools/tuner/session.h"

namespace aft::tool {

// The names to try: those given, or all for CPUs when "all" is among them. Throws UsageError for one that is unknown or not
// for CPUs, Error when a plugin is not in the manifest's folder.
std::vector<std::string> autoschedulers_of(const std::vector<std::string> &names, const Manifest &manifest);

// {symbol, shapes: [{shape, seconds, candidates: [{name, status, message, ratio, noise, seconds, cases, refused, schedule}]}]};
// seconds: the incumbent's median, then the candidate's; ratio: candidate over incumbent; schedule: a file, what it chose.
nlohmann::json compare_autoschedulers(const TuneTask &task, const TuneOptions &options, const std::vector<std::string> &names);

// A table of several results, with the reasons of those that are not in it.
std::string autoscheduler_table(const nlohmann::json &results, const std::vector<std::string> &names);

}  // namespace aft::tool
