// How the tuner's time is shared among kernels (tools/tuner/budget.h).
#include <gtest/gtest.h>

#include "tools/tuner/budget.h"

namespace aft::tool {
namespace {

TEST(Budget, IsSharedByTheRootOfTheSpaces) {
    Budget budget(100, {16, 64, 1});  // weights 4, 8, 2: the least
    EXPECT_DOUBLE_EQ(budget.next(0), 100 * 4.0 / 14);
    budget.take(budget.next(0), budget.next(0));
    EXPECT_DOUBLE_EQ(budget.next(30), 70 * 8.0 / 10);
    budget.take(56, 56);
    EXPECT_DOUBLE_EQ(budget.next(90), 10);
    EXPECT_DOUBLE_EQ(Budget(100, {1000000, 1}).next(0), 100 * 20.0 / 22) << "the largest weight is ten times the least";
}

// Two kernels alike, whose final checks take 10 s each: 40 s of search, 10 of check, twice.
TEST(Budget, LeavesTimeForTheFinalChecks) {
    Budget budget(100, {9, 9});
    EXPECT_DOUBLE_EQ(budget.next(0), 50) << "nothing is known of checks yet";
    budget.take(40, 50);
    EXPECT_DOUBLE_EQ(budget.next(50), 40);
    Budget slow(100, {9, 9});
    slow.take(10, 80);
    EXPECT_DOUBLE_EQ(slow.next(80), 5) << "a quarter of its share is left to any search";
}

TEST(Budget, EndsTheSearchButNotBeforeTheFirstKernel) {
    Budget budget(1, {4, 4});
    EXPECT_FALSE(budget.spent(2));
    budget.take(1, 2);
    EXPECT_TRUE(budget.spent(2));
    EXPECT_FALSE(budget.spent(0.5));
}

}  // namespace
}  // namespace aft::tool
