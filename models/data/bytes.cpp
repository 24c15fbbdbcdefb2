#include "aft/data.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <filesystem>

#include "aft/error.h"
#include "runtime/files.h"
#include "runtime/sha1.h"

namespace aft {
namespace {

constexpr uint64_t most_bytes = uint64_t(1) << 36;  // a text stands in memory as a whole

// As published beside the file (mattmahoney.net/dc/textdata.html).
constexpr uint64_t enwik8_bytes = 100'000'000;
constexpr const char *enwik8_sha1 = "57b8363b814821dc9d47aa4d41f58733519076b2";

std::string read_text(const std::string &path, const char *what, int64_t context) {
    if (path.empty()) throw Error(std::string("no ") + what + " file is given: name one with --" + what + " PATH");
    std::string text = read_file(path, most_bytes);
    if (text.empty()) throw Error("the " + std::string(what) + " file '" + path + "' is empty");
    if (int64_t(text.size()) < context + 1)
        throw Error("the " + std::string(what) + " file '" + path + "' has " + std::to_string(text.size()) + " bytes; one context of " + std::to_string(context) +
                    " and the byte behind it need " + std::to_string(context + 1) + ": take a longer file or a smaller --context");
    return text;
}

std::span<const uint8_t> bytes_of(const std::string &text, size_t begin, size_t end) {
    return {reinterpret_cast<const uint8_t *>(text.data()) + begin, end - begin};
}

// SplitMix64's finaliser (Steele, Lea, Flood 2014): every bit of the result depends on every bit of x.
uint64_t mix(uint64_t x) {
    x += 0x9E3779B97F4A7C15;
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EB;
    return x ^ (x >> 31);
}

}  // namespace

const char *name_of(Split split) {
    switch (split) {
        case Split::train: return "train";
        case Split::valid: return "valid";
        case Split::test: return "test";
    }
    return "?";
}

Split split_of(const std::string &name) {
    for (const Split split : {Split::train, Split::valid, Split::test})
        if (name == name_of(split)) return split;
    throw Error("there is no split '" + name + "': it is one of train, valid, test");
}

ByteData::ByteData(const DataFiles &files, int64_t context) {
    if (files.valid.empty() && !files.test.empty()) throw Error("a test file is given without a validation file: give --valid PATH too, or neither");
    files_.reserve(3);
    files_.push_back(read_text(files.data, "data", context));
    const std::string &text = files_[0];
    std::string how;
    if (files.valid.empty()) {
        const bool named = std::filesystem::path(files.data).filename() == "enwik8";
        const bool enwik8 = named && text.size() == enwik8_bytes && sha1(text) == enwik8_sha1;
        const size_t train = enwik8 ? 90'000'000 : text.size() / 100 * 90 + text.size() % 100 * 90 / 100;
        const size_t valid = enwik8 ? 5'000'000 : text.size() / 100 * 5 + text.size() % 100 * 5 / 100;
        splits_[0] = bytes_of(text, 0, train);
        splits_[1] = bytes_of(text, train, train + valid);
        splits_[2] = bytes_of(text, train + valid, text.size());
        how = enwik8 ? "enwik8" : named ? "90 / 5 / 5 %; not the published enwik8" : "90 / 5 / 5 %";
    } else {
        splits_[0] = bytes_of(text, 0, text.size());
        files_.push_back(read_text(files.valid, "valid", context));
        splits_[1] = bytes_of(files_[1], 0, files_[1].size());
        if (!files.test.empty()) {
            files_.push_back(read_text(files.test, "test", context));
            splits_[2] = bytes_of(files_[2], 0, files_[2].size());
        }
        how = "files";
    }
    if (int64_t(splits_[0].size()) < context + 1)
        throw Error("the training split of '" + files.data + "' (" + std::to_string(text.size()) + " bytes) has " + std::to_string(splits_[0].size()) +
                    " bytes; one context of " + std::to_string(context) + " and the byte behind it need " + std::to_string(context + 1) +
                    ": take a longer file or a smaller --context");
    description_ = files.data + ": ";
    for (int n = 0; n < 3; n++) description_ += (n ? " + " : "") + std::to_string(splits_[n].size());
    description_ += " bytes (" + how + ")";
}

std::span<const uint8_t> ByteData::split(Split split) const {
    const auto bytes = splits_[size_t(split)];
    if (bytes.size() < 2) throw Error(std::string("the ") + name_of(split) + " split has " + std::to_string(bytes.size()) + " bytes; two are the least (" + description_ + ")");
    return bytes;
}

double unigram_entropy(std::span<const uint8_t> bytes) {
    std::array<int64_t, 256> counts{};
    for (const uint8_t byte : bytes) counts[byte]++;
    double bits = 0;
    for (const int64_t count : counts)
        if (count > 0) bits -= double(count) / double(bytes.size()) * std::log2(double(count) / double(bytes.size()));
    return bits;
}

Batch training_batch(std::span<const uint8_t> bytes, int64_t T, uint64_t seed, int64_t step, int64_t first_sequence, int64_t count) {
    if (int64_t(bytes.size()) < T + 1) throw Error(std::to_string(bytes.size()) + " bytes hold no window of " + std::to_string(T + 1));
    Batch batch{Tensor({count, T}, DType::i32), Tensor({count, T}, DType::i32)};
    const uint64_t starts = bytes.size() - uint64_t(T);
    for (int64_t n = 0; n < count; n++) {
        const uint64_t random = mix(mix(mix(seed) ^ uint64_t(step)) ^ uint64_t(first_sequence + n));
        const auto start = size_t(static_cast<unsigned __int128>(random) * starts >> 64);
        int32_t *tokens = batch.tokens.data<int32_t>() + n * T, *targets = batch.targets.data<int32_t>() + n * T;
        for (int64_t t = 0; t < T; t++) tokens[t] = bytes[start + size_t(t)], targets[t] = bytes[start + size_t(t) + 1];
    }
    return batch;
}

EvaluationWindows::EvaluationWindows(std::span<const uint8_t> bytes, int64_t T, int64_t stride) : bytes_(bytes), T_(T), stride_(stride) {
    if (stride < 1 || stride > T) throw Error("a stride of " + std::to_string(stride) + " is impossible: give 1 to the context, " + std::to_string(T));
    if (bytes.size() < 2) throw Error("a text of " + std::to_string(bytes.size()) + " bytes holds nothing to predict; two are the least");
    predictions_ = int64_t(bytes.size()) - 1;
    count_ = 1 + (predictions_ > T ? (predictions_ - T + stride - 1) / stride : 0);
}

Batch EvaluationWindows::batch(std::span<const int64_t> windows) const {
    Batch batch{Tensor({int64_t(windows.size()), T_}, DType::i32), Tensor({int64_t(windows.size()), T_}, DType::i32)};
    for (size_t n = 0; n < windows.size(); n++) {
        const int64_t start = windows[n] * stride_, first_counted = windows[n] == 0 ? 0 : T_ - stride_;
        int32_t *tokens = batch.tokens.data<int32_t>() + int64_t(n) * T_, *targets = batch.targets.data<int32_t>() + int64_t(n) * T_;
        for (int64_t t = 0; t < T_; t++) {
            const bool inside = start + t < predictions_;
            tokens[t] = inside ? bytes_[size_t(start + t)] : 0;
            targets[t] = inside && t >= first_counted ? bytes_[size_t(start + t) + 1] : -1;
        }
    }
    return batch;
}

std::vector<int64_t> EvaluationWindows::choose(int64_t most) const {
    const int64_t chosen = most > 0 ? std::min(most, count_) : count_;
    std::vector<int64_t> windows;
    for (int64_t n = 0; n < chosen; n++) windows.push_back(int64_t(static_cast<__int128>(n) * count_ / chosen));
    return windows;
}

}  // namespace aft
