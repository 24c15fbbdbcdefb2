// Cold calls of a workload that knows layers: as many as a token's weights are, one after the other.
#include <gtest/gtest.h>

#include <cmath>

#include "tools/bench/cold.h"

namespace aft::tool {
namespace {

struct Counted {
    std::vector<int> calls;  // the layers, as they were called
    int64_t made = 0;
    Workload work;

    explicit Counted(double layer_bytes) {
        work.bytes = layer_bytes + 100, work.layer_bytes = layer_bytes;
        work.run = [] { FAIL() << "the warm call"; };
        work.layers = [this](int64_t count) {
            made = count;
            std::vector<std::function<void()>> all;
            for (int n = 0; n < count; n++) all.push_back([this, n] { calls.push_back(n); });
            return all;
        };
    }
};

TEST(Cold, LayersInTurn) {
    Counted counted(24 << 20);
    const std::function<void()> run = layer_by_layer(counted.work);
    EXPECT_EQ(counted.made, 3) << "no fewer bytes than a token reads";
    for (int n = 0; n < 7; n++) run();
    EXPECT_EQ(counted.calls, (std::vector<int>{0, 1, 2, 0, 1, 2, 0}));
    Counted large(1e9);
    layer_by_layer(large.work);
    EXPECT_EQ(large.made, 1);
}

TEST(Cold, SamplesAreOfLayers) {
    Counted counted(32 << 20);
    EXPECT_GT(cold_sampler(counted.work, 0)().calls, 0);
    EXPECT_GT(counted.calls.size(), 0u);
}

TEST(Cold, Footprints) {
    const Counted small(1 << 20), large(1e9);
    EXPECT_EQ(footprint(small.work, false), small.work.bytes);
    EXPECT_EQ(footprint(small.work, true), double(64 << 20));
    EXPECT_EQ(footprint(large.work, true), 1e9);
    EXPECT_TRUE(std::isinf(footprint(Workload(), true)));
}

}  // namespace
}  // namespace aft::tool
