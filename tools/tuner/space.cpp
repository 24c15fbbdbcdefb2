#include "tools/tuner/space.h"

#include <algorithm>
#include <charconv>
#include <nlohmann/json.hpp>
#include <sstream>

#include "aft/error.h"

namespace aft::tool {

int Space::find(const Point &point) const {
    const auto at = std::ranges::lower_bound(points, point);
    return at != points.end() && *at == point ? int(at - points.begin()) : -1;
}

int Space::find(const KnobValues &values) const {
    Point point;
    for (const TunedKnob &knob : knobs) {
        const auto value = values.find(knob.name);
        if (value == values.end()) return -1;
        const auto at = std::ranges::find(knob.candidates, value->second);
        if (at == knob.candidates.end()) return -1;
        point.push_back(int(at - knob.candidates.begin()));
    }
    return find(point);
}

KnobValues Space::values(int point) const {
    KnobValues values;
    for (size_t k = 0; k < knobs.size(); k++) values[knobs[k].name] = knobs[k].candidates[size_t(points[size_t(point)][k])];
    return values;
}

std::string Space::text(int point) const { return to_text(values(point)); }

std::string to_text(const KnobValues &values) {
    std::string text;
    for (const auto &[name, value] : values) text += (text.empty() ? "" : ",") + name + ":" + std::to_string(value);
    return text;
}

KnobValues knob_values(const std::string &text) {
    KnobValues values;
    std::istringstream in(text);
    for (std::string pair; std::getline(in, pair, ',');) {
        const size_t colon = pair.find(':');
        int value = 0;
        const char *end = pair.data() + pair.size();
        if (colon == std::string::npos || std::from_chars(pair.data() + colon + 1, end, value).ptr != end || colon + 1 == pair.size()) throw Error("'" + pair + "' is no knob:value");
        values[pair.substr(0, colon)] = value;
    }
    return values;
}

Space space_of(const nlohmann::json &report) {
    Space space;
    space.fingerprint = report.at("fingerprint");
    for (const auto &k : report.at("space")) {
        TunedKnob knob{k.at("name"), k.at("default"), k.at("candidates"), k.at("reason")};
        std::ranges::sort(knob.candidates);  // neighbours in value are neighbours in the search
        knob.candidates.erase(std::unique(knob.candidates.begin(), knob.candidates.end()), knob.candidates.end());
        space.knobs.push_back(std::move(knob));
    }
    return space;
}

std::vector<Point> product_of(const std::vector<TunedKnob> &knobs) {
    double size = 1;
    for (const TunedKnob &knob : knobs) size *= double(knob.candidates.size());
    if (size > 1e6) throw Error("a knob space of " + std::to_string(int64_t(size)) + " combinations is too large: give its knobs fewer candidates");
    std::vector<Point> points{{}};
    for (const TunedKnob &knob : knobs) {
        std::vector<Point> longer;
        for (const Point &point : points)
            for (int c = 0; c < int(knob.candidates.size()); c++) longer.push_back(point), longer.back().push_back(c);
        points = std::move(longer);
    }
    return points;
}

}  // namespace aft::tool
