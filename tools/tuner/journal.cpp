#include "tools/tuner/journal.h"

#include <filesystem>
#include <fstream>
#include <optional>

#include "aft/error.h"

namespace aft::tool {

using nlohmann::json;

namespace {

// Nothing for a line that this program did not write whole: the last one of a killed run, or one that was edited.
std::optional<Verdict> verdict_of(const json &entry) {
    if (!entry.is_object() || !entry.contains("verdict") || !entry.value("knobs", json()).is_string()) return std::nullopt;
    try {
        return entry.at("verdict").get<Verdict>();
    } catch (const json::exception &) {
        return std::nullopt;
    }
}

}  // namespace

Journal::Journal(std::string file, const json &conditions, bool resume) : file_(std::move(file)) {
    std::filesystem::create_directories(std::filesystem::path(file_).parent_path());
    bool keep = false;
    if (std::ifstream in(file_); in) {
        std::string line;
        std::getline(in, line);
        const json first = json::parse(line, nullptr, false);
        keep = resume && first == conditions;
        if (resume && !keep) note_ = "the journal was made under other conditions (kernel's code, knob space, incumbent, shapes, CPU, warm or cold calls): it starts anew";
        while (keep && std::getline(in, line)) {
            const json entry = json::parse(line, nullptr, false);
            if (entry.is_object() && entry.contains("result")) result_ = entry.at("result");
            if (const auto verdict = verdict_of(entry)) known_[entry.at("knobs")] = *verdict;
        }
    }
    if (keep) {
        std::ofstream(file_, std::ios::app) << "\n";  // ends a half line
        return;
    }
    if (std::filesystem::exists(file_)) std::filesystem::rename(file_, file_ + ".previous");
    if (!(std::ofstream(file_) << conditions.dump() << "\n").flush()) throw Error("cannot write the journal '" + file_ + "'");
}

void Journal::add(const std::string &knobs, const Verdict &verdict) {
    known_[knobs] = verdict;
    write({{"knobs", knobs}, {"verdict", verdict}});
}

void Journal::conclude(const json &result) {
    result_ = result;
    write({{"result", result}});
}

void Journal::write(const json &line) const {
    if (!(std::ofstream(file_, std::ios::app) << line.dump(-1, ' ', true, json::error_handler_t::replace) << "\n").flush())
        throw Error("cannot write the journal '" + file_ + "'");
}

}  // namespace aft::tool
