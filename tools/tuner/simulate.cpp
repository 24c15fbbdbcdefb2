#include "tools/tuner/simulate.h"

#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>
#include <set>

#include "aft/error.h"
#include "tools/tuner/search.h"
#include "tools/tuner/worker.h"

namespace aft::tool {
namespace {

using nlohmann::json;

constexpr const char *strategies[] = {"random", "descent", "guided"};
constexpr int counts[] = {4, 8, 12, 16, 24, 32, 48};  // candidates tried
constexpr double most_noise = 0.1;

struct Recorded {
    Space space;
    std::vector<double> scores;  // by point
    int start = -1;
};

Recorded recorded(std::istream &in) {
    std::string line;
    std::getline(in, line);
    const json first = json::parse(line);
    std::map<KnobValues, double> scores = {{first.at("incumbent").get<KnobValues>(), 1.0}};
    while (std::getline(in, line)) {
        const json entry = json::parse(line, nullptr, false);
        if (!entry.is_object() || !entry.contains("verdict")) continue;
        const Verdict verdict = entry.at("verdict").get<Verdict>();
        if (verdict.measured() && verdict.noise > most_noise) continue;  // such a time says nothing
        scores[knob_values(entry.at("knobs"))] = verdict.measured() ? verdict.ratio : std::numeric_limits<double>::infinity();
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

Recorded read_journal(const std::string &file) {
    std::ifstream in(file);
    try {
        return recorded(in);
    } catch (const std::exception &) {
        throw Error("'" + file + "' is no journal of aft tune (they lie in <build>/tune/<target>)");
    }
}

}  // namespace

namespace {

// Mean over the seeds of the best score found with n candidates; beyond the space's size, its best.
std::map<int, double> mean_best(const Recorded &r, const char *strategy, int seeds) {
    std::map<int, double> sums;
    for (int seed = 0; seed < seeds; seed++) {
        const auto search = make_search(strategy, r.space, r.start, uint64_t(seed));
        double best = 1;
        int n = 0;
        for (const int count : counts) {
            for (; n < count; n++) {
                const auto point = search->next();
                if (!point) break;
                best = std::min(best, r.scores[size_t(*point)]);
                search->tell(*point, r.scores[size_t(*point)]);
            }
            sums[count] += best / seeds;
        }
    }
    return sums;
}

}  // namespace

json simulate(const std::vector<std::string> &journals, int seeds) {
    json result = {{"journals", json::array()}, {"strategies", json::object()}};
    std::map<std::string, std::map<int, double>> logs;
    for (const std::string &journal : journals) {
        const Recorded r = read_journal(journal);
        result["journals"].push_back({{"journal", journal}, {"points", r.space.points.size()}, {"best", std::ranges::min(r.scores)}});
        for (const char *strategy : strategies)
            for (const auto &[n, best] : mean_best(r, strategy, seeds)) logs[strategy][n] += std::log(best) / double(journals.size());
    }
    for (const auto &[strategy, means] : logs)
        for (const auto &[n, log] : means) result["strategies"][strategy][std::to_string(n)] = std::exp(log);
    return result;
}

std::string simulation_text(const json &simulation) {
    std::string text;
    for (const json &j : simulation.at("journals"))
        text += fmt::format("{}: {} recorded points, the best at {:.3f} of the incumbent's time\n", std::filesystem::path(j.at("journal").get<std::string>()).stem().string(),
                            j.at("points").get<int>(), j.at("best").get<double>());
    text += fmt::format("mean of the best found\n{:<10}", "");
    for (const int n : counts) text += fmt::format("{:>6} tried", n);
    for (const auto &[name, best] : simulation.at("strategies").items()) {
        text += fmt::format("\n{:<10}", name);
        for (const int n : counts) text += fmt::format("{:>12.3f}", best.at(std::to_string(n)).get<double>());
    }
    return text + "\n";
}

}  // namespace aft::tool
