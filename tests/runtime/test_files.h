// Helpers of the tests that work on files.
#pragma once
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

#include "aft/error.h"

namespace aft::test {

/// A folder that goes away with the test.
class TemporaryFolder {
public:
    TemporaryFolder() {
        static int count = 0;
        path_ = (std::filesystem::temp_directory_path() / ("aft-test-" + std::to_string(getpid()) + "-" + std::to_string(count++))).string();
        std::filesystem::remove_all(path_);
        std::filesystem::create_directories(path_);
    }
    ~TemporaryFolder() {
        std::error_code ignored;
        std::filesystem::remove_all(path_, ignored);
    }
    const std::string &path() const { return path_; }
    std::string operator/(const std::string &name) const { return path_ + "/" + name; }

private:
    std::string path_;
};

inline std::string slurp(const std::string &path) {
    std::ifstream file(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

inline void spill(const std::string &path, const std::string &bytes) { std::ofstream(path, std::ios::binary) << bytes; }

/// The message of the aft::Error that the call throws; "" when it returns.
template <class Call>
std::string error_of(Call call) {
    try {
        call();
    } catch (const Error &error) {
        return error.what();
    }
    return "";
}

inline bool holds(const std::string &text, const std::string &part) { return text.find(part) != std::string::npos; }

#define EXPECT_ERROR(statement, part)                                                                        \
    do {                                                                                                     \
        const std::string message = ::aft::test::error_of([&] { statement; });                               \
        EXPECT_TRUE(::aft::test::holds(message, part)) << "message: '" << message << "', expected in it: '" << part << "'"; \
    } while (false)

/// Small and the same everywhere (std::distributions are not).
struct Dice {
    uint64_t state;
    uint64_t next() {
        uint64_t z = state += 0x9E3779B97F4A7C15;
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
        return z ^ (z >> 31);
    }
    uint64_t below(uint64_t n) { return next() % n; }
};

/// One random change to a file: flipped, overwritten, inserted or deleted bytes, a cut, or numbers and characters that
/// mean something in JSON, put into the first `header` bytes.
inline std::string mutate(std::string bytes, size_t header, Dice &dice) {
    static const char *const pieces[] = {"{", "}", "[", "]", "\"", ",", ":", "-1", "0", "18446744073709551615", "9223372036854775807", "4611686018427387904", "1e999", "null", "\\u0000", "F64", "I8", "\xff"};
    const auto at = [&](size_t size) { return size_t(dice.below(std::max<size_t>(size, 1))); };
    for (uint64_t change = 0, changes = 1 + dice.below(3); change < changes && !bytes.empty(); change++) {
        const size_t reach = std::min(bytes.size(), dice.below(2) ? header : bytes.size());
        const size_t where = at(reach);
        switch (dice.below(6)) {
            case 0: bytes[where] = char(bytes[where] ^ (1 << dice.below(8))); break;
            case 1: bytes[where] = char(dice.next()); break;
            case 2: bytes.resize(at(bytes.size())); break;
            case 3: bytes.insert(where, pieces[dice.below(std::size(pieces))]); break;
            case 4: bytes.erase(where, 1 + dice.below(8)); break;
            default: {
                const std::string piece = pieces[dice.below(std::size(pieces))];
                bytes.replace(where, std::min(piece.size(), bytes.size() - where), piece);
            }
        }
    }
    return bytes;
}

}  // namespace aft::test
