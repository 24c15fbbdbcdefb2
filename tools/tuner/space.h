// A knob space and its valid points. A point is one candidate's place per knob; points that break a requirement of the
// plan are left out (the generator program answers that for all points at once, in milliseconds).
#pragma once
#include <map>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

namespace aft::tool {

struct TunedKnob {
    std::string name;
    int fallback = 0;
    std::vector<int> candidates;
    std::string reason;
};

using Point = std::vector<int>;  // index of the candidate, knob by knob
using KnobValues = std::map<std::string, int>;

struct Space {
    std::vector<TunedKnob> knobs;
    std::string fingerprint;
    std::vector<Point> points;  // the valid ones, in lexical order
    std::map<std::string, int> left_out;  // how many points each requirement excludes (the first that one breaks)

    int find(const Point &point) const;         // its number, or -1
    int find(const KnobValues &values) const;
    KnobValues values(int point) const;
    std::string text(int point) const;          // "depth:512,rows:14", as generators take it
};

// From a kernel's report: the knobs and the fingerprint, no points yet.
Space space_of(const nlohmann::json &report);

// All combinations; throws Error beyond a million.
std::vector<Point> product_of(const std::vector<TunedKnob> &knobs);

std::string to_text(const KnobValues &values);
KnobValues knob_values(const std::string &text);  // its inverse; throws Error

}  // namespace aft::tool
