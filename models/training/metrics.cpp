#include "models/training/metrics.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cerrno>
#include <cmath>
#include <filesystem>
#include <system_error>

#include "aft/error.h"
#include "runtime/files.h"
#include "runtime/json.h"

namespace aft {
namespace {

// The part of the file that belongs to a run at `step`: whole lines up to it.
std::string lines_until(const std::string &text, int64_t step) {
    std::string kept;
    for (size_t begin = 0; begin < text.size();) {
        const size_t end = text.find('\n', begin);
        if (end == std::string::npos) break;
        const Json line = Json::parse(text.begin() + int64_t(begin), text.begin() + int64_t(end), nullptr, false);
        if (line.is_object() && line.contains("step") && line["step"].is_number_integer() && line["step"].get<int64_t>() <= step) kept.append(text, begin, end + 1 - begin);
        begin = end + 1;
    }
    return kept;
}

}  // namespace

std::string to_json(const MetricsLine &line) {
    nlohmann::ordered_json json;
    const auto put = [&](const char *key, std::optional<double> value) {
        if (value && std::isfinite(*value)) json[key] = *value;
    };
    json["step"] = line.step;
    json["split"] = line.split;
    put("loss", line.loss);
    put("bits_per_character", line.bits_per_character);
    put("learning_rate", line.learning_rate);
    put("gradient_norm", line.gradient_norm);
    put("tokens_per_second", line.tokens_per_second);
    put("model_flops_utilisation", line.model_flops_utilisation);
    json["memory_bytes"] = line.memory_bytes;
    put("seconds", line.seconds);
    return json.dump();
}

MetricsFile::MetricsFile(const std::string &path, int64_t step) : path_(path) {
    if (std::filesystem::exists(path)) {
        const std::string text = read_file(path, uint64_t(1) << 32), kept = lines_until(text, step);
        if (kept.size() != text.size()) write_file_atomic(path, kept);
    }
    descriptor_ = open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    if (descriptor_ < 0) throw Error("cannot write '" + path + "': " + std::generic_category().message(errno));
}

MetricsFile::~MetricsFile() { close(descriptor_); }

void MetricsFile::append(const MetricsLine &line) {
    const std::string text = to_json(line) + "\n";
    for (size_t at = 0; at < text.size();) {  // one write in nearly every case, so that a kill cuts no line
        const ssize_t put = write(descriptor_, text.data() + at, text.size() - at);
        if (put < 0 && errno == EINTR) continue;
        if (put < 0) throw Error("cannot write '" + path_ + "': " + std::generic_category().message(errno) + "; the last checkpoint is intact: free some space and resume");
        at += size_t(put);
    }
}

int64_t peak_memory_bytes() {
    struct rusage usage {};
    getrusage(RUSAGE_SELF, &usage);
    return int64_t(usage.ru_maxrss) * 1024;  // Linux counts in KiB
}

}  // namespace aft
