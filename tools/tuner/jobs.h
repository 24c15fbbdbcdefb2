// What `aft tune` is asked to tune: kernels with their spaces, the shapes that time them, the places of their records.
#pragma once
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "tools/tuner/session.h"

namespace aft {
struct KernelTable;
}

namespace aft::tool {

struct Job {
    TuneTask task;
    std::vector<std::string> shapes;
};

// The table's variants that one of the globs names, by kernel or by symbol, at the shapes that are given (as B=8,T=1024; none: those of the
// paper's models). UsageError for a glob or a shape that fits none.
std::vector<Job> find_jobs(const std::vector<std::string> &filters, const std::vector<std::string> &shapes, const Manifest &manifest, const KernelTable &table);

// Why a kernel is not tuned; "" when it is. An autoscheduler, unlike a search, needs no knobs.
std::string obstacle(const Job &job, bool searched = true);

// `aft tune --list`: one kernel's knobs, candidates, reasons, requirements, and what the build uses now.
nlohmann::json listed(const Job &job);
std::string listed_text(const Job &job);

// Where the job's record goes: into the folder `out` ("": the one that the build reads), or to the file of this name, for one job only.
std::string record_file(const std::string &out, const Manifest &manifest, const Job &job, size_t jobs);

// Throws if a record cannot be written there: said before the search, which would be in vain. Makes no folder.
void expect_place(const std::string &record);

// --try: values of some kernel's knobs; the others pass them by.
std::vector<KnobValues> first_values(const std::vector<std::string> &texts, const std::vector<Job> &jobs);

}  // namespace aft::tool
