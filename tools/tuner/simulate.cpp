#include "tools/tuner/simulate.h"

#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>

#include "aft/error.h"
#include "tools/tuner/search.h"
#include "tools/tuner/worker.h"

namespace aft::tool {
namespace {

using nlohmann::json;

KnobValues values_of(const std::string &text) {
    KnobValues values;
    std::istringstream in(text);
    for (std::string pair; std::getline(in, pair, ',');) values[pair.substr(0, pair.find(':'))] = std::stoi(pair.substr(pair.find(':') + 1));
    return values;
}

struct Recorded {
    Space space;
    std::vector<double> scores;  // by point
    int start = -1;
};

Recorded read_journal(const std::string &file) {
    std::ifstream in(file);
    std::string line;
    std::getline(in, line);
    const json first = json::parse(line, nullptr, false);
    if (!first.is_object() || !first.contains("incumbent")) throw Error("'" + file + "' is no journal of aft tune (they lie in <build>/tune/<target>)");
    std::map<KnobValues, double> scores = {{first.at("incumbent").get<KnobValues>(), 1.0}};
    while (std::getline(in, line)) {
        const json entry = json::parse(line, nullptr, false);
        if (!entry.is_object() || !entry.contains("verdict")) continue;
        const Verdict verdict = entry.at("verdict").get<Verdict>();
        scores[values_of(entry.at("knobs"))] = verdict.measured() ? verdict.ratio : std::numeric_limits<double>::infinity();
    }
    Recorded r;
    std::map<std::string, std::set<int>> candidates;
    for (const auto &[values, score] : scores)
        for (const auto &[name, value] : values) candidates[name].insert(value);
    for (const auto &[name, values] : candidates) r.space.knobs.push_back({name, *values.begin(), {values.begin(), values.end()}, ""});
    std::vector<std::pair<Point, double>> points;
    for (const auto &[values, score] : scores) {
        Point point;
        for (const TunedKnob &knob : r.space.knobs) point.push_back(int(std::ranges::find(knob.candidates, values.at(knob.name)) - knob.candidates.begin()));
        points.emplace_back(point, score);
    }
    std::ranges::sort(points);
    for (const auto &[point, score] : points) r.space.points.push_back(point), r.scores.push_back(score);
    r.start = r.space.find(first.at("incumbent").get<KnobValues>());
    return r;
}

}  // namespace

json simulate(const std::string &journal, int seeds) {
    const Recorded r = read_journal(journal);
    const int most = int(r.space.points.size()) - 1;
    json result = {{"points", r.space.points.size()}, {"best", std::ranges::min(r.scores)}, {"strategies", json::object()}};
    for (const char *strategy : {"random", "descent", "guided"}) {
        std::map<int, double> sums;
        for (int seed = 0; seed < seeds; seed++) {
            const auto search = make_search(strategy, r.space, r.start, uint64_t(seed));
            double best = 1;
            for (int n = 1; n <= most; n++) {
                const auto point = search->next();
                if (!point) break;
                best = std::min(best, r.scores[size_t(*point)]);
                search->tell(*point, r.scores[size_t(*point)]);
                if (n == 4 || n == 8 || n == 12 || n == 16 || n == 24 || n == 32) sums[n] += best;
            }
        }
        for (const auto &[n, sum] : sums) result["strategies"][strategy][std::to_string(n)] = sum / seeds;
    }
    return result;
}

std::string simulation_text(const json &simulation) {
    std::string text = fmt::format("{} recorded points, the best at {:.3f} of the incumbent's time; mean of the best found\n{:<10}", simulation.at("points").get<int>(),
                                   simulation.at("best").get<double>(), "");
    std::vector<int> counts;
    for (const auto &[n, value] : simulation.at("strategies").at("random").items()) counts.push_back(std::stoi(n));
    std::ranges::sort(counts);
    for (const int n : counts) text += fmt::format("{:>8} tried", n);
    for (const auto &[name, best] : simulation.at("strategies").items()) {
        text += fmt::format("\n{:<10}", name);
        for (const int n : counts) text += fmt::format("{:>14.3f}", best.at(std::to_string(n)).get<double>());
    }
    return text + "\n";
}

}  // namespace aft::tool
