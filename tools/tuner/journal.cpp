#include "tools/tuner/journal.h"

#include <filesystem>
#include <fstream>

#include "aft/error.h"

namespace aft::tool {

using nlohmann::json;

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
            const json entry = json::parse(line, nullptr, false);  // the last line of a killed run may be half a line
            if (entry.is_object() && entry.contains("result")) result_ = entry.at("result");
            if (entry.is_object() && entry.contains("knobs") && entry.contains("verdict")) known_[entry.at("knobs")] = entry.at("verdict").get<Verdict>();
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
