// Shapes and views.
#include <gtest/gtest.h>

#include <numeric>
#include <vector>

#include "aft/tensor.h"
#include "test_files.h"

namespace aft {
namespace {

TEST(Shape, SixAxesAtMost) {
    Shape shape = {1, 2, 3, 4, 5, 6};
    EXPECT_EQ(to_string(shape), "[1, 2, 3, 4, 5, 6]");
    EXPECT_ERROR(shape.push_back(7), "7 axes");
    EXPECT_EQ(shape.size(), 6u);
    EXPECT_ERROR(Shape({1, 2, 3, 4, 5, 6, 7}), "7 axes");
    const std::vector<int64_t> many(7, 1);
    EXPECT_ERROR(Shape(many.begin(), many.end()), "7 axes");
}

TEST(Shape, InsertAndErase) {
    Shape shape = {2, 3};
    shape.insert(0, 1), shape.insert(3, 4), shape.insert(2, 9);
    EXPECT_EQ(shape, Shape({1, 2, 9, 3, 4}));
    shape.erase(2), shape.erase(3), shape.erase(0);
    EXPECT_EQ(shape, Shape({2, 3}));
    EXPECT_FALSE(shape == Shape({2}));
    EXPECT_FALSE(shape == Shape({2, 4}));
}

TEST(Tensor, ViewsShareMemory) {
    Tensor x({2, 3, 4});
    std::iota(x.data(), x.data() + 24, 0.0f);
    const Tensor view = x.transpose(0, 2).select(1, 1).slice(0, 1, 3);  // [channel 1 and 2, both rows] at the second index
    EXPECT_EQ(view.shape(), Shape({2, 2}));
    const Tensor dense = view.clone();
    EXPECT_EQ(std::vector<float>(dense.data(), dense.data() + 4), (std::vector<float>{5, 17, 6, 18}));
    const Tensor repeated = x.select(0, 0).select(0, 0).repeat(0, 2).clone();
    EXPECT_EQ(repeated.shape(), Shape({2, 4}));
    EXPECT_EQ(std::vector<float>(repeated.data(), repeated.data() + 8), (std::vector<float>{0, 1, 2, 3, 0, 1, 2, 3}));
    EXPECT_ERROR(x.slice(2, 3, 5), "axis 2");
    EXPECT_ERROR(x.select(3, 0), "axis 3");
    EXPECT_ERROR(x.transpose(0, 2).reshape({24}), "reshape");
    Tensor six({1, 1, 1, 1, 1, 1});
    EXPECT_ERROR(six.repeat(0, 2), "7 axes");
}

}  // namespace
}  // namespace aft
