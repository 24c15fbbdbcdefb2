// Text as bytes: files, splits, training batches, evaluation windows.
#pragma once
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "aft/tensor.h"

namespace aft {

enum class Split { train, valid, test };

/// "train", "valid", "test"; the reverse throws Error for another name.
const char *name_of(Split split);
Split split_of(const std::string &name);

struct DataFiles {
    std::string data;   ///< the text
    std::string valid;  ///< when given, `data` is the training split as a whole, and this is the validation split
    std::string test;   ///< with `valid`: the test split
};

/// The bytes of a run, in memory. enwik8 (by name, size and checksum) is cut into 90 M / 5 M / 5 M, any other file into
/// 90 / 5 / 5 %. Reads only after construction: any number of threads may share it.
class ByteData {
public:
    /// Throws an Error that names the path and its size for a file that is missing, empty, or shorter than one context
    /// and the byte behind it.
    ByteData(const DataFiles &files, int64_t context);

    /// Throws Error when there is no such split (files were given one by one, without a test file).
    std::span<const uint8_t> split(Split split) const;

    /// One line for people: "text.txt: 1003854 + 55769 + 55771 bytes (90 / 5 / 5 %)".
    const std::string &description() const { return description_; }

private:
    std::vector<std::string> files_;  // their contents; the spans point into them
    std::span<const uint8_t> splits_[3];
    std::string description_;
};

/// Entropy of the byte frequencies in bits per character: what a model without any context reaches.
double unigram_entropy(std::span<const uint8_t> bytes);

struct Batch {
    Tensor tokens, targets;  ///< [B, T] i32; a target < 0 does not count
};

/// `count` windows of T + 1 bytes at random places. A pure function of (bytes, T, seed, step, sequence): neither the
/// split into micro-batches nor the machine matters. Needs at least T + 1 bytes.
Batch training_batch(std::span<const uint8_t> bytes, int64_t T, uint64_t seed, int64_t step, int64_t first_sequence, int64_t count);

/// Windows of T targets moved by `stride` (1 .. T); after the first window only the last `stride` targets count, so that
/// each byte is predicted once. The first byte of the split is input only. The last window may be shorter.
class EvaluationWindows {
public:
    EvaluationWindows(std::span<const uint8_t> bytes, int64_t T, int64_t stride);

    int64_t count() const { return count_; }              ///< windows
    int64_t predictions() const { return predictions_; }  ///< bytes predicted by all of them
    /// The given windows, each < count(). Missing positions are token 0 and target -1.
    Batch batch(std::span<const int64_t> windows) const;
    /// `most` windows spread evenly over the split (all of them when most is 0 or large enough), in order.
    std::vector<int64_t> choose(int64_t most) const;

private:
    std::span<const uint8_t> bytes_;
    int64_t T_, stride_, count_, predictions_;
};

}  // namespace aft
