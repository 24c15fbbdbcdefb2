// How the search strategies compare, without measuring again: each searches the space of a journal that holds many of its
// points, and is told the recorded times.
#pragma once
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

namespace aft::tool {

// {journals: [{journal, points, best}], strategies: {name: {"4": ..., "8": ...}}}: the ratio to the incumbent's time of the best
// that was found with so many candidates, mean over `seeds` searches, geometric mean over the journals. Points whose time is
// too uncertain are left out. Throws Error for a file that is no journal.
nlohmann::json simulate(const std::vector<std::string> &journals, int seeds);
std::string simulation_text(const nlohmann::json &simulation);

}  // namespace aft::tool
