// How the search strategies compare, without measuring again: each searches the space of a journal that holds many of its
// points, and is told the recorded times.
#pragma once
#include <nlohmann/json_fwd.hpp>
#include <string>

namespace aft::tool {

// {points, best, strategies: {name: {"4": mean of the best ratio found with 4 candidates, ...}}} over `seeds` searches each.
// Throws Error for a file that is no journal.
nlohmann::json simulate(const std::string &journal, int seeds);
std::string simulation_text(const nlohmann::json &simulation);

}  // namespace aft::tool
