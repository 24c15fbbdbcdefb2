// The safetensors reader and writer: round trips, the layout other programs expect, and hostile files.
#include "aft/safetensors.h"

#include "test_files.h"

namespace aft {
namespace {

using test::Dice;
using test::TemporaryFolder;

TensorMap sample_tensors() {
    TensorMap tensors;
    Tensor a({2, 3}), b({4}, DType::i64), c({5}, DType::u8), d({}, DType::f64), e({0, 7}, DType::i32);
    for (int n = 0; n < 6; n++) a.data()[n] = float(n) / 3;
    for (int n = 0; n < 4; n++) b.data<int64_t>()[n] = -n * (int64_t(1) << 40);
    for (int n = 0; n < 5; n++) c.data<uint8_t>()[n] = uint8_t(250 + n);
    d.data<double>()[0] = 1.0 / 3;
    tensors = {{"a", a}, {"b.weight", b}, {"c", c}, {"scalar", d}, {"empty", e}};
    return tensors;
}

std::string with_header(const std::string &header, const std::string &data) {
    std::string bytes;
    for (int n = 0; n < 8; n++) bytes += char(uint64_t(header.size()) >> (8 * n));
    return bytes + header + data;
}

TEST(Safetensors, ReadsIntoMemoryThatFitsOrWritesNothing) {
    const TemporaryFolder folder;
    Tensor a({2, 3}), b({4});
    a.fill(1), b.fill(2);
    write_safetensors(folder / "x", {{"a", a}, {"b", b}});
    Tensor to_a({2, 3}), to_b({4});
    to_a.fill(7), to_b.fill(7);
    EXPECT_ERROR(read_safetensors_into(folder / "x", {{"a", to_a}, {"b", Tensor({5})}}), "'b' is F32 [4]; wanted is F32 [5]");
    EXPECT_ERROR(read_safetensors_into(folder / "x", {{"a", to_a}}), "'b' is not known");
    EXPECT_ERROR(read_safetensors_into(folder / "x", {{"a", to_a}, {"b", to_b}, {"c", Tensor({1})}}), "1 tensors are missing");
    EXPECT_EQ(to_a.data()[5], 7);
    read_safetensors_into(folder / "x", {{"a", to_a}, {"b", to_b}});
    EXPECT_EQ(to_a.data()[5], 1);
    EXPECT_EQ(to_b.data()[3], 2);
}

TEST(Safetensors, RoundTrip) {
    const TemporaryFolder folder;
    const TensorMap tensors = sample_tensors();
    write_safetensors(folder / "x.safetensors", tensors, {{"format", "aft"}, {"quote", "\"\n\xc3\xa9"}});
    Metadata metadata;
    const TensorMap back = read_safetensors(folder / "x.safetensors", metadata);
    EXPECT_EQ(metadata, (Metadata{{"format", "aft"}, {"quote", "\"\n\xc3\xa9"}}));
    ASSERT_EQ(back.size(), tensors.size());
    for (const auto &[name, tensor] : tensors) {
        ASSERT_TRUE(back.contains(name)) << name;
        EXPECT_EQ(back.at(name).shape(), tensor.shape());
        EXPECT_EQ(back.at(name).dtype(), tensor.dtype());
        EXPECT_EQ(std::string(reinterpret_cast<char *>(back.at(name).raw()), tensor.bytes()), std::string(reinterpret_cast<char *>(tensor.raw()), tensor.bytes()));
    }
    const std::string bytes = test::slurp(folder / "x.safetensors");
    EXPECT_EQ((8 + uint64_t(uint8_t(bytes[0])) + 256 * uint64_t(uint8_t(bytes[1]))) % 8, 0u) << "the data must be aligned";
    EXPECT_EQ(bytes[8], '{');
    EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder.path()), {}), 1) << "a temporary was left";
}

TEST(Safetensors, OrderAndViews) {
    const TemporaryFolder folder;
    Tensor x({2, 3});
    for (int n = 0; n < 6; n++) x.data()[n] = float(n);
    write_safetensors_ordered(folder / "x", {{"z", x}, {"a", x.transpose(0, 1)}});
    Metadata metadata;
    const auto infos = read_safetensors_header(folder / "x", metadata);
    ASSERT_EQ(infos.size(), 2u);
    EXPECT_EQ(infos[0].name, "z");
    EXPECT_EQ(infos[1].shape, (Shape{3, 2}));
    const Tensor back = read_safetensors(folder / "x").at("a");
    const float expected[] = {0, 3, 1, 4, 2, 5};
    for (int n = 0; n < 6; n++) EXPECT_EQ(back.data()[n], expected[n]);
}

TEST(Safetensors, ReadsWhatOthersWrite) {
    const TemporaryFolder folder;  // spaces, keys in any order, no padding
    test::spill(folder / "x", with_header(R"( {"a" : {"data_offsets":[0,4], "shape":[1], "dtype":"F32"}})", std::string("\0\0\x80\x3f", 4)).erase(0, 0));
    EXPECT_ERROR(read_safetensors(folder / "x"), "does not start with '{'");
    test::spill(folder / "x", with_header(R"({"a" : {"data_offsets":[0,4], "shape":[1], "dtype":"F32"}}   )", std::string("\0\0\x80\x3f", 4)));
    EXPECT_EQ(read_safetensors(folder / "x").at("a").data()[0], 1.0f);
    test::spill(folder / "x", with_header("{}", ""));
    EXPECT_TRUE(read_safetensors(folder / "x").empty());
}

TEST(Safetensors, RefusesByName) {
    const TemporaryFolder folder;
    const std::string path = folder / "x";
    const auto expect = [&](const std::string &header, size_t data, const std::string &part) {
        test::spill(path, with_header(header, std::string(data, '\0')));
        EXPECT_ERROR(read_safetensors(path), part);
        EXPECT_ERROR(read_safetensors(path), path);
    };
    const auto entry = [](const std::string &dtype, const std::string &shape, const std::string &offsets) {
        return R"({"dtype":")" + dtype + R"(","shape":)" + shape + R"(,"data_offsets":)" + offsets + "}";
    };
    const auto one = [&](const std::string &dtype, const std::string &shape, const std::string &offsets) { return "{\"w\":" + entry(dtype, shape, offsets) + "}"; };
    expect(one("BF16", "[2]", "[0,4]"), 4, "type 'BF16'");
    expect(one("F32", "[2]", "[0,8]"), 4, "outside");
    expect(one("F32", "[2]", "[8,0]"), 8, "backwards");
    expect(one("F32", "[3]", "[0,8]"), 8, "needs 12");
    expect(one("F32", "[-2]", "[0,8]"), 8, "must not be negative");
    expect(one("F32", "[2]", "[-1,8]"), 8, "must not be negative");
    expect(one("F32", "[2.0]", "[0,8]"), 8, "must be an integer");
    expect(one("F32", "[4611686018427387904,4,0]", "[0,0]"), 0, "impossible shape");
    expect(one("F32", "[9223372036854775807,2]", "[0,8]"), 8, "impossible shape");
    expect(one("F32", "[18446744073709551615]", "[0,8]"), 8, "too large");
    expect(one("F32", "[4611686018427387904]", "[0,8]"), 8, "impossible shape");
    expect(one("F32", "[1,1,1,1,1,1,2]", "[0,8]"), 8, "7 axes");
    expect(one("F32", "[2]", "[0,4,8]"), 8, "3 numbers");
    expect(one("F32", "2", "[0,8]"), 8, "must be a list");
    expect(one("F32", "[2]", "[0,8]"), 12, "end at byte 8");
    expect(one("F32", "[2]", "[4,12]"), 12, "gap");
    expect("{\"a\":" + entry("F32", "[2]", "[0,8]") + ",\"b\":" + entry("F32", "[2]", "[4,12]") + "}", 12, "overlap");
    expect("{\"a\":" + entry("F32", "[2]", "[0,8]") + ",\"a\":" + entry("F32", "[2]", "[0,8]") + "}", 8, "twice");
    expect(R"({"a":{"dtype":"F32","dtype":"F32","shape":[],"data_offsets":[0,4]}})", 4, "twice");
    expect(R"({"a":{"dtype":"F32","shape":[]}})", 4, "'data_offsets' is missing");
    expect(R"({"a":{"dtype":"F32","shape":[],"data_offsets":[0,4],"x":0}})", 4, "unknown key 'x'");
    expect(R"({"__metadata__":{"a":1}})", 0, "must be a string");
    expect(R"({"a":[]})", 0, "must be an object");
    expect("{\"a\":" + std::string(100000, '[') + "}", 0, "nested deeper");
    expect("{\"a\":", 0, "no valid JSON");
    test::spill(path, std::string("\xff\xff\xff\xff\xff\xff\xff\x7f{}", 10));
    EXPECT_ERROR(read_safetensors(path), "at most 100000000");
    test::spill(path, std::string("\0\0\0\5\0\0\0\0{}", 10));  // 80 MB
    EXPECT_ERROR(read_safetensors(path), "truncated");
    test::spill(path, "");
    EXPECT_ERROR(read_safetensors(path), "0 bytes");
    EXPECT_ERROR(read_safetensors(folder / "missing"), "No such file");
    EXPECT_ERROR(read_safetensors(folder.path()), "is a folder");
}

TEST(Safetensors, TruncationAtEveryByte) {
    const TemporaryFolder folder;
    write_safetensors(folder / "x", sample_tensors());
    const std::string bytes = test::slurp(folder / "x");
    for (size_t length = 0; length < bytes.size(); length++) {
        test::spill(folder / "cut", bytes.substr(0, length));
        EXPECT_NE(test::error_of([&] { read_safetensors(folder / "cut"); }), "") << length;
    }
}

TEST(Safetensors, FuzzReadsOrThrows) {
    const TemporaryFolder folder;
    write_safetensors(folder / "x", sample_tensors(), {{"format", "aft"}});
    const std::string bytes = test::slurp(folder / "x");
    const size_t header = bytes.find("   ") == std::string::npos ? bytes.size() - 90 : bytes.find("   ");
    Dice dice{20210528};
    int read = 0;
    for (int trial = 0; trial < 1000; trial++) {
        test::spill(folder / "mutant", test::mutate(bytes, header, dice));
        read += test::error_of([&] { read_safetensors(folder / "mutant"); }).empty();
    }
    EXPECT_GT(read, 0);  // changes of the data alone
    EXPECT_LT(read, 700);
}

TEST(Safetensors, UnwritablePlaceLeavesNothing) {
    const TemporaryFolder folder;
    EXPECT_ERROR(write_safetensors(folder / "missing/x", sample_tensors()), "No such file");
    EXPECT_ERROR(write_safetensors(folder.path(), sample_tensors()), "a folder of this name");
    if (std::filesystem::exists("/dev/full")) {
        Tensor large({1 << 16});
        large.fill(0);
        EXPECT_ERROR(write_safetensors("/dev/full", {{"x", large}}), "No space left");
    }
}

}  // namespace
}  // namespace aft
