// The host's Philox against published vectors, against the dropout kernels bit for bit, and the moments of its normals.
#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "aft/error.h"
#include "kernel_table.h"
#include "runtime/cpu.h"
#include "runtime/random.h"

namespace aft {
namespace {

TEST(Philox, EqualsTheVectorsOfRandom123) {
    EXPECT_EQ(Philox(0)({0, 0, 0, 0}), (Philox::Words{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
    EXPECT_EQ(Philox(~0ull)({~0u, ~0u, ~0u, ~0u}), (Philox::Words{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
    EXPECT_EQ(Philox(0x299f31d0a4093822)({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}), (Philox::Words{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(Philox, MasksOfTheKernelAreTheHosts) {
    const uint64_t seed = 0xFEDCBA9876543210;
    const int32_t stream = -7, step = 123456, first_row = 0x7FFFFFF0;  // the sum wraps: counters are unsigned
    for (const KernelTable *table : kernel_tables) {
        if (!cpu_runs(table->target)) continue;
        for (const auto &[R, C] : {std::pair<int64_t, int64_t>{1, 1}, {3, 33}, {40, 256}, {17, 511}})
            for (float probability : {0.0f, 0.1f, 0.5f, 1e-10f, 0.99999994f}) {
                const DropoutMask mask(seed, uint32_t(stream), uint32_t(step), probability);
                const auto key = mask.philox.key;
                Tensor x({R, C}), y({R, C});
                x.fill(1);
                table->dropout_f32(x, int32_t(key[0]), int32_t(key[1]), stream, step, first_row, probability, y);
                for (int64_t r = 0; r < R; r++)
                    for (int64_t c = 0; c < C; c++)
                        ASSERT_EQ(y.data()[r * C + c], mask.keeps(uint32_t(r) + uint32_t(first_row), uint32_t(c)) ? float(mask.scale()) : 0.0f)
                            << table->target << " p=" << probability << " row " << r << " column " << c;
            }
    }
}

// The share kept, within five standard deviations, over all places in a group and in a word; and no two columns decided by the same bits.
TEST(Philox, MasksKeepTheShareTheySay) {
    constexpr int64_t rows = 20000, columns = 128;
    for (float probability : {0.1f, 0.5f}) {
        const DropoutMask mask(42, 3, 7, probability);
        const double p = 1 - 1 / mask.scale();
        EXPECT_NEAR(p, probability, 1.0 / 65536);
        std::vector<int64_t> kept(columns), both(columns);
        for (int64_t r = 0; r < rows; r++)
            for (int64_t c = 0; c < columns; c++) {
                const bool one = mask.keeps(uint32_t(r), uint32_t(c));
                kept[size_t(c)] += one, both[size_t(c)] += one && mask.keeps(uint32_t(r), uint32_t((c + 8) % columns));
            }
        for (int64_t c = 0; c < columns; c++) {
            EXPECT_NEAR(double(kept[size_t(c)]) / rows, 1 - p, 5 * std::sqrt(p * (1 - p) / rows)) << c;
            EXPECT_NEAR(double(both[size_t(c)]) / rows, (1 - p) * (1 - p), 5 * 0.5 / std::sqrt(double(rows))) << c;
        }
    }
}

TEST(Philox, RefusesAnImpossibleProbability) {
    for (float probability : {-0.1f, 1.0f, NAN}) EXPECT_THROW(DropoutMask(1, 2, 3, probability), Error);
}

TEST(Normal, QuantileInvertsTheDistribution) {
    for (double p : {1e-300, 1e-40, 1e-10, 0.5 / 4294967296, 1e-3, 0.02, 0.07499, 0.07501, 0.3, 0.5, 0.7, 0.9251, 0.999, 1 - 1e-9}) {
        const double z = normal_quantile(p), back = 0.5 * std::erfc(-z / std::sqrt(2.0));
        EXPECT_NEAR(back / p, 1, 1e-14 * (10 + z * z)) << p;  // d log Phi / dz is about z in the tail
    }
}

TEST(Normal, FillHasItsMomentsAndIsAFunctionOfSeedAndStream) {
    const int64_t N = 1 << 18;
    Tensor x({N}), again({N}), other({N}), uniform_values({N});
    fill_normal(x, 3, 0.5, 42, 1), fill_normal(again, 3, 0.5, 42, 1), fill_normal(other, 3, 0.5, 42, 2);
    fill_uniform(uniform_values, -2, 2, 42, 3);
    double sum = 0, squares = 0, cubes = 0, fourths = 0, equal = 0, uniform_squares = 0;
    for (int64_t n = 0; n < N; n++) {
        const double z = (double(x.data()[n]) - 3) / 0.5, u = uniform_values.data()[n];
        sum += z, squares += z * z, cubes += z * z * z, fourths += z * z * z * z, uniform_squares += u * u;
        ASSERT_EQ(x.data()[n], again.data()[n]);
        ASSERT_LE(std::abs(u), 2);
        ASSERT_EQ(uniform_values.data()[n], float(-2 + 4 * Philox(42).uniform(uint64_t(n), 3)));
        equal += x.data()[n] == other.data()[n];
    }
    const double five_sigma = 5 / std::sqrt(double(N));
    EXPECT_NEAR(sum / N, 0, five_sigma);
    EXPECT_NEAR(squares / N, 1, five_sigma * std::sqrt(2.0));
    EXPECT_NEAR(cubes / N, 0, five_sigma * std::sqrt(15.0));
    EXPECT_NEAR(fourths / N, 3, five_sigma * std::sqrt(96.0));
    EXPECT_NEAR(uniform_squares / N, 4.0 / 3, five_sigma * std::sqrt(64.0 / 45));
    EXPECT_LT(equal, N / 1000);
}

TEST(Normal, FillOfAViewEqualsTheFillOfADenseTensor) {
    Tensor dense({5, 7}), wide({5, 9});
    wide.fill(-1);
    Tensor view = wide.slice(1, 0, 7);
    fill_normal(dense, 0, 1, 9, 9), fill_normal(view, 0, 1, 9, 9);
    for (int64_t r = 0; r < 5; r++) {
        for (int64_t c = 0; c < 7; c++) EXPECT_EQ(dense.data()[r * 7 + c], wide.data()[r * 9 + c]);
        EXPECT_EQ(wide.data()[r * 9 + 8], -1);
    }
}

}  // namespace
}  // namespace aft
