// The tuner's search strategies on recorded times: the order of candidates depends on the seed and these alone.
#include <gtest/gtest.h>

#include <limits>
#include <set>

#include "aft/error.h"
#include "tools/tuner/search.h"

namespace aft::tool {
namespace {

// A space of 4 x 3 x 5 points less those that break a requirement, and the times recorded for it: some points failed.
struct Recorded {
    Space space;
    std::vector<double> scores;

    Recorded() {
        space.knobs = {{"rows", 4, {2, 4, 8, 16}, ""}, {"vectors", 1, {1, 2, 4}, ""}, {"tile", 8, {4, 8, 12, 16, 24}, ""}};
        for (const Point &point : product_of(space.knobs)) {
            if (point[0] == 3 && point[1] == 2) continue;
            space.points.push_back(point);
            const double slow = 1 + 0.1 * (point[0] - 2) * (point[0] - 2) + 0.05 * (point[1] - 1) * (point[1] - 1) + 0.03 * (point[2] - 3) * (point[2] - 3) - 0.01 * point[0] * point[2];
            scores.push_back(point[2] == 4 && point[1] == 2 ? std::numeric_limits<double>::infinity() : slow);
        }
    }

    // Every candidate that a search asks for. One is under way while the one before it is told, as in the tuner.
    std::vector<int> sequence(const std::string &strategy, int start, uint64_t seed) const {
        const auto search = make_search(strategy, space, start, seed);
        std::vector<int> asked;
        for (auto point = search->next(); point;) {
            asked.push_back(*point);
            const auto following = search->next();
            search->tell(*point, scores[size_t(*point)]);
            point = following;
        }
        return asked;
    }
};

TEST(Search, TheOrderDependsOnTheSeedAndTheRecordedTimesAlone) {
    const Recorded recorded;
    const int points = int(recorded.space.points.size()), start = 17;
    for (const char *strategy : {"random", "descent", "guided"})
        for (uint64_t seed = 0; seed < 20; seed++) {
            const auto asked = recorded.sequence(strategy, start, seed);
            EXPECT_EQ(asked, recorded.sequence(strategy, start, seed)) << strategy << " " << seed;
            EXPECT_NE(asked, recorded.sequence(strategy, start, seed + 1)) << strategy << " " << seed;
            std::set<int> different(asked.begin(), asked.end());
            EXPECT_EQ(int(different.size()), points - 1) << strategy << ": each point once, the incumbent's never";
            EXPECT_EQ(asked.size(), different.size()) << strategy;
            EXPECT_FALSE(different.contains(start)) << strategy;
            EXPECT_EQ(int(recorded.sequence(strategy, -1, seed).size()), points) << strategy << " without an incumbent";
        }
}

// What was told matters to those that learn, and not to random.
TEST(Search, OtherTimesGiveAnotherOrder) {
    const Recorded recorded;
    Recorded other = recorded;
    for (double &score : other.scores) score = 1 / score;
    EXPECT_EQ(recorded.sequence("random", 0, 1), other.sequence("random", 0, 1));
    EXPECT_NE(recorded.sequence("descent", 0, 1), other.sequence("descent", 0, 1));
    EXPECT_NE(recorded.sequence("guided", 0, 1), other.sequence("guided", 0, 1));
    EXPECT_THROW(make_search("best", recorded.space, 0, 1), Error);
}

}  // namespace
}  // namespace aft::tool
