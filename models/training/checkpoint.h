// A run's folder: config.toml, metrics.jsonl, checkpoints/step-N/, and the text files `latest` and `best` that name one
// (docs/checkpoints.md). Every change is a rename: a kill at any moment leaves a folder that resumes.
#pragma once
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "aft/checkpoint.h"
#include "aft/tensor.h"
#include "runtime/files.h"

namespace aft {

/// What resuming needs besides the parameters.
struct TrainingState {
    int64_t step = 0;       ///< steps done; the next batch is a function of (seed, step + 1)
    int64_t sequences = 0;  ///< read so far
    uint64_t seed = 0;
    double best_loss = std::numeric_limits<double>::infinity();
    int64_t best_step = 0;
    double seconds = 0;  ///< of training so far
    Tensor first_moment, second_moment;  ///< [N] f32, in the order of ParameterSet::values
};

/// Checks config, names, types and shapes, then reads the parameters.
void load_parameters(LanguageModel &model, const std::string &folder);
TrainingState load_training_state(const LanguageModel &model, const std::string &folder);

/// One program at a time holds a run's folder.
class RunFolder {
public:
    /// Creates the folder when it is missing, proves that it can be written, locks it, deletes what a killed run left.
    explicit RunFolder(const std::string &path);

    const std::string &path() const { return path_; }
    bool holds_run() const;

    /// Writes checkpoints/step-N, then `latest` (and `best`), then deletes what is older than the `keep` newest. Returns the
    /// checkpoint's folder.
    std::string save(const LanguageModel &model, const TrainingState &state, bool best, int64_t keep);

    /// After a kill between `latest` and `best`: makes `best` name this step when its checkpoint is there.
    void repair_best(int64_t step);

    /// Folder of the checkpoint that `latest` names; "" when there is none.
    std::string latest() const;

private:
    std::string path_;
    FolderLock lock_;
};

}  // namespace aft
