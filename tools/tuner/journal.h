// What was tried, a line for each: <build>/tune/<target>/<record>.jsonl, and what the final check made of it. The first line
// says under which conditions; a run that resumes under the same ones repeats nothing. Lines are written as they come, so a
// kill loses none.
#pragma once
#include <map>
#include <nlohmann/json.hpp>
#include <string>

#include "tools/tuner/worker.h"

namespace aft::tool {

class Journal {
public:
    // conditions: everything that ratios depend on. With `resume`, verdicts under the same conditions are kept; else, or
    // when they differ (said in `note`), the old file moves to <file>.previous.
    Journal(std::string file, const nlohmann::json &conditions, bool resume);

    const std::map<std::string, Verdict> &known() const { return known_; }  // by knob values, as text
    const std::string &note() const { return note_; }
    void add(const std::string &knobs, const Verdict &verdict);
    const nlohmann::json &result() const { return result_; }  // of the last search that came to its end; null: none did
    void conclude(const nlohmann::json &result);

private:
    void write(const nlohmann::json &line) const;

    std::string file_, note_;
    nlohmann::json result_;
    std::map<std::string, Verdict> known_;
};

}  // namespace aft::tool
