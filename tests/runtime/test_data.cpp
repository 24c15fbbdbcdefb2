// Splits, training batches, evaluation windows.
#include "aft/data.h"

#include <cmath>

#include "runtime/sha1.h"
#include "test_files.h"

namespace aft {
namespace {

using test::TemporaryFolder;

std::string pattern(size_t size) {
    std::string text;
    for (size_t n = 0; n < size; n++) text += char((n * 7919 + n / 256) % 256);
    return text;
}

std::span<const uint8_t> bytes_of(const std::string &text) { return {reinterpret_cast<const uint8_t *>(text.data()), text.size()}; }

TEST(Data, Sha1) {
    EXPECT_EQ(sha1(""), "da39a3ee5e6b4b0d3255bfef95601890afd80709");
    EXPECT_EQ(sha1("abc"), "a9993e364706816aba3e25717850c26c9cd0d89d");
    EXPECT_EQ(sha1(std::string(1'000'000, 'a')), "34aa973cd4c4daa4f61eeb2bdbad27316534016f");
}

TEST(Data, Splits) {
    const TemporaryFolder folder;
    test::spill(folder / "x", pattern(1013));
    const ByteData data({folder / "x", "", ""}, 16);
    EXPECT_EQ(data.split(Split::train).size(), 911u);
    EXPECT_EQ(data.split(Split::valid).size(), 50u);
    EXPECT_EQ(data.split(Split::test).size(), 52u);
    EXPECT_EQ(data.split(Split::valid)[0], uint8_t(pattern(1013)[911]));
    EXPECT_TRUE(test::holds(data.description(), "911 + 50 + 52"));

    test::spill(folder / "v", pattern(40));
    const ByteData files({folder / "x", folder / "v", ""}, 16);
    EXPECT_EQ(files.split(Split::train).size(), 1013u);
    EXPECT_EQ(files.split(Split::valid).size(), 40u);
    EXPECT_ERROR(files.split(Split::test), "the test split has 0 bytes");
}

TEST(Data, BadFilesAreNamed) {
    const TemporaryFolder folder;
    test::spill(folder / "empty", "");
    test::spill(folder / "short", pattern(64));
    test::spill(folder / "cut", pattern(70));
    EXPECT_ERROR(ByteData({folder / "missing", "", ""}, 16), "missing': No such file");
    EXPECT_ERROR(ByteData({folder / "empty", "", ""}, 16), "empty' is empty");
    EXPECT_ERROR(ByteData({folder / "short", "", ""}, 64), "has 64 bytes; one context of 64");
    EXPECT_ERROR(ByteData({folder / "cut", "", ""}, 64), "has 63 bytes; one context of 64");
    EXPECT_ERROR(ByteData({folder / "cut", folder / "empty", ""}, 16), "valid file");
    EXPECT_ERROR(ByteData({folder / "cut", "", folder / "cut"}, 16), "without a validation file");
    EXPECT_ERROR(ByteData({"", "", ""}, 16), "--data");
    EXPECT_ERROR(ByteData({folder.path(), "", ""}, 16), "is a folder");
    EXPECT_ERROR(split_of("dev"), "train, valid, test");
}

TEST(Data, BatchesAreAFunctionOfSeedStepAndSequence) {
    const std::string text = pattern(3000);
    const auto bytes = bytes_of(text);
    const Batch whole = training_batch(bytes, 33, 5, 7, 0, 6), part = training_batch(bytes, 33, 5, 7, 4, 2);
    for (int64_t n = 0; n < 6 * 33; n++) {
        if (n % 33 != 32) { EXPECT_EQ(whole.targets.data<int32_t>()[n], whole.tokens.data<int32_t>()[n + 1]); }
        if (n >= 4 * 33) { EXPECT_EQ(whole.tokens.data<int32_t>()[n], part.tokens.data<int32_t>()[n - 4 * 33]); }
    }
    const auto differs = [&](const Batch &other) { return !std::equal(whole.tokens.data<int32_t>(), whole.tokens.data<int32_t>() + 6 * 33, other.tokens.data<int32_t>()); };
    EXPECT_TRUE(differs(training_batch(bytes, 33, 6, 7, 0, 6)));
    EXPECT_TRUE(differs(training_batch(bytes, 33, 5, 8, 0, 6)));
    EXPECT_TRUE(differs(training_batch(bytes, 33, 5, 7, 1, 6)));
    EXPECT_ERROR(training_batch(bytes, 3000, 0, 0, 0, 1), "no window");
    EXPECT_EQ(training_batch(bytes, 2999, 0, 0, 0, 1).targets.data<int32_t>()[2998], bytes[2999]);
}

TEST(Data, BatchesOfAllMachinesAreTheSame) {  // these numbers must never change: a resumed run depends on them
    std::string text(256, '\0');
    for (size_t n = 0; n < 256; n++) text[n] = char(n);
    const Batch batch = training_batch(bytes_of(text), 1, 1, 2, 0, 8);
    std::string starts;
    for (int n = 0; n < 8; n++) starts += std::to_string(batch.tokens.data<int32_t>()[n]) + " ";
    EXPECT_EQ(starts, "229 183 232 207 194 106 139 12 ");
}

TEST(Data, WindowsCoverEveryStart) {
    const std::string text = pattern(37);
    std::string bytes(37, '\0');
    for (size_t n = 0; n < 37; n++) bytes[n] = char(n);
    std::array<int, 37> seen{};
    for (int64_t step = 0; step < 2000; step++) seen[size_t(training_batch(bytes_of(bytes), 4, 0, step, 0, 1).tokens.data<int32_t>()[0])]++;
    for (int n = 0; n < 33; n++) EXPECT_GT(seen[size_t(n)], 25) << n;
    for (int n = 33; n < 37; n++) EXPECT_EQ(seen[size_t(n)], 0) << n;
}

TEST(Data, EveryByteIsPredictedOnce) {
    for (const size_t size : {2u, 5u, 8u, 9u, 10u, 16u, 17u, 50u})
        for (const int64_t T : {1, 3, 8})
            for (int64_t stride = 1; stride <= T; stride++) {
                std::string text(size, '\0');
                for (size_t n = 0; n < size; n++) text[n] = char(n);
                const EvaluationWindows windows(bytes_of(text), T, stride);
                std::vector<int> predicted(size, 0);
                for (int64_t w = 0; w < windows.count(); w++) {
                    const Batch batch = windows.batch(std::vector<int64_t>{w});
                    int counted = 0;
                    for (int64_t t = 0; t < T; t++) {
                        const int32_t target = batch.targets.data<int32_t>()[t];
                        if (target < 0) continue;
                        counted++, predicted[size_t(target)]++;
                        EXPECT_EQ(batch.tokens.data<int32_t>()[t], target - 1);  // the byte before it
                        if (w > 0) { EXPECT_GE(t, T - stride); }  // with at least T - stride bytes of context
                    }
                    EXPECT_GT(counted, 0) << size << " " << T << " " << stride;
                }
                EXPECT_EQ(predicted[0], 0);
                for (size_t n = 1; n < size; n++) EXPECT_EQ(predicted[n], 1) << size << " " << T << " " << stride << " byte " << n;
                EXPECT_EQ(windows.predictions(), int64_t(size) - 1);
            }
}

TEST(Data, ChosenWindowsAreSpread) {
    const std::string text = pattern(1001);
    const EvaluationWindows windows(bytes_of(text), 10, 10);
    EXPECT_EQ(windows.count(), 100);
    EXPECT_EQ(windows.choose(4), (std::vector<int64_t>{0, 25, 50, 75}));
    EXPECT_EQ(windows.choose(0).size(), 100u);
    EXPECT_EQ(windows.choose(1000).back(), 99);
    EXPECT_ERROR(EvaluationWindows(bytes_of(text), 10, 11), "stride of 11");
    EXPECT_ERROR(EvaluationWindows(bytes_of(text), 10, 0), "stride of 0");
}

TEST(Data, UnigramEntropy) {
    EXPECT_DOUBLE_EQ(unigram_entropy(bytes_of("aabb")), 1.0);
    EXPECT_DOUBLE_EQ(unigram_entropy(bytes_of("aaaa")), 0.0);
    EXPECT_NEAR(unigram_entropy(bytes_of("aaab")), -(0.75 * std::log2(0.75) + 0.25 * std::log2(0.25)), 1e-15);
}

}  // namespace
}  // namespace aft
