// Tuning one variant of one kernel: search, final check of the best, record.
#pragma once
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "tools/tuner/manifest.h"
#include "tools/tuner/space.h"

namespace aft::tool {

struct TuneOptions {
    std::vector<std::string> shapes;  // of this kernel; empty: those of the models
    double budget_s = 600;            // of search; the final check comes on top
    std::string out;                  // the record's file
    std::string strategy = "descent";
    uint64_t seed = 0;
    int threads = 1;
    bool resume = false;
    bool cold = false;                // calls are cold (tools/bench/cold.h)
    double wall_s = 0;                // of a candidate; 0: from the incumbent
    int64_t memory_mib = 4096;
    int most = 0;                     // candidates at most; 0: no limit
    double seconds = 0.25;            // of timing, for each shape
    std::vector<KnobValues> first;    // tried before the strategy's; a knob that one leaves out is as in the incumbent
};

struct TuneTask {
    const Manifest *manifest;
    const ManifestEntry *entry;
    Space space;                // with its valid points
    KnobValues incumbent;       // what the table of this build has
    std::string origin;         // "default" or the record's file
};

// At most three of the shapes, spread over the list: enough to rank candidates. The final check takes all.
std::vector<std::string> few_of(const std::vector<std::string> &shapes);

// Folders that searches and questions were killed over. For who holds the lock of `tune` (<build>/tune): of running searches there is only one.
void remove_abandoned(const std::string &tune);

TuneTask make_task(const Manifest &manifest, const ManifestEntry &entry, const std::string &report);

// {kernel, status: "improved" | "kept" | "interrupted", tried, ratio, ..., record: file}
nlohmann::json tune(const TuneTask &task, const TuneOptions &options);

// Ctrl-C: the first one ends the search, and the best so far is checked and recorded; the second one ends that too.
void watch_interrupts();
int interrupts();

}  // namespace aft::tool
