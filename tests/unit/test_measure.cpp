// The figures that are made of samples: the middle of a ratio of times taken in turn, its error, and what is said of it.
#include <gtest/gtest.h>

#include <cmath>

#include "tools/bench/measure.h"

namespace aft::tool {
namespace {

Measurement measurement(const std::vector<double> &seconds) {
    Measurement m;
    for (const double s : seconds) m.samples.push_back({s, 1});
    return m;
}

// The machine was three times as slow in half of the pairs: both were, so the ratio stands.
TEST(Measure, ARatioIsThatOfThePairs) {
    const Ratio r = ratio(measurement({2, 6, 2, 6.6, 2}), measurement({1, 3, 1, 3, 1}));
    EXPECT_DOUBLE_EQ(r.centre, 2);
    EXPECT_EQ(r.pairs, 5u);
    EXPECT_DOUBLE_EQ(r.spread, 0);  // one pair of five is off
    EXPECT_DOUBLE_EQ(r.error(), 0);
}

TEST(Measure, TheErrorOfAMiddleFallsWithTheRootOfThePairs) {
    const Ratio few = middle_ratio({1.0, 1.1, 1.2});
    EXPECT_DOUBLE_EQ(few.centre, 1.1);
    EXPECT_NEAR(few.spread, 0.1, 1e-15);
    EXPECT_NEAR(few.error(), 1.2533 * 1.4826 * 0.1 / 1.1 / std::sqrt(3), 1e-4 * few.error());
    std::vector<double> many;
    for (int n = 0; n < 12; n++) many.insert(many.end(), {1.0, 1.1, 1.2});
    EXPECT_NEAR(middle_ratio(many).error(), few.error() / std::sqrt(12), 1e-12);
    EXPECT_EQ(middle_ratio({}).error(), 0);
}

TEST(Measure, AVerdictNeedsADifferenceBeyondTheNoise) {
    EXPECT_STREQ(verdict_of(1.05, 0.03), "faster");
    EXPECT_STREQ(verdict_of(0.95, 0.03), "slower");
    EXPECT_STREQ(verdict_of(1.02, 0.03), "same");
    EXPECT_STREQ(verdict_of(0.98, 0.03), "same");
}

}  // namespace
}  // namespace aft::tool
