// metrics.jsonl: one JSON object a line, appended as the run goes.
#pragma once
#include <cstdint>
#include <optional>
#include <string>

namespace aft {

struct MetricsLine {
    int64_t step = 0;
    std::string split;  ///< "train", "valid"
    double loss = 0, bits_per_character = 0;
    std::optional<double> learning_rate, gradient_norm, tokens_per_second, model_flops_utilisation;
    int64_t memory_bytes = 0;  ///< most that the program held so far
    double seconds = 0;
};

std::string to_json(const MetricsLine &line);

class MetricsFile {
public:
    /// Lines behind `step`, and what is no whole line (of a killed run), are dropped.
    MetricsFile(const std::string &path, int64_t step);
    ~MetricsFile();
    MetricsFile(const MetricsFile &) = delete;
    MetricsFile &operator=(const MetricsFile &) = delete;

    void append(const MetricsLine &line);  ///< throws Error when the line cannot be written

private:
    std::string path_;
    int descriptor_ = -1;
};

/// The most memory that this program held so far.
int64_t peak_memory_bytes();

}  // namespace aft
