#include "models/training/checkpoint.h"

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <map>
#include <optional>

#include "aft/error.h"
#include "aft/safetensors.h"
#include "runtime/json.h"

namespace aft {
namespace {

namespace fs = std::filesystem;

constexpr const char *config_name = "config.json", *model_name = "model.safetensors", *state_name = "training_state.safetensors";

const std::string &writable(const std::string &folder) {
    check_writable(folder);
    return folder;
}

// N of "step-N"; nothing else is ever followed or deleted.
std::optional<int64_t> step_of(const std::string &name) {
    int64_t step = 0;
    if (!name.starts_with("step-")) return {};
    const auto [end, error] = std::from_chars(name.data() + 5, name.data() + name.size(), step);
    if (error != std::errc() || end != name.data() + name.size() || step < 0 || name != "step-" + std::to_string(step)) return {};
    return step;
}

std::vector<int64_t> steps_in(const std::string &checkpoints) {
    std::vector<int64_t> steps;
    std::error_code error;
    for (const auto &entry : fs::directory_iterator(checkpoints, error))
        if (const auto step = step_of(entry.path().filename().string()); step && entry.is_directory()) steps.push_back(*step);
    std::sort(steps.begin(), steps.end());
    return steps;
}

// The step that `latest` or `best` names, if the file is there.
std::optional<int64_t> named_step(const std::string &run, const std::string &which) {
    const std::string path = run + "/" + which;
    if (!fs::exists(path)) return {};
    std::string name = read_file(path, 100);
    while (!name.empty() && (name.back() == '\n' || name.back() == '\r')) name.pop_back();
    const auto step = step_of(name);
    if (!step) throw Error("'" + path + "' holds '" + printable(name) + "'; it must name a checkpoint, such as step-100");
    return step;
}

std::string folder_of(const std::string &run, int64_t step) { return run + "/checkpoints/step-" + std::to_string(step); }

bool is_model(const std::string &folder) { return fs::exists(folder + "/" + config_name); }

std::string latest_of(const std::string &run) {
    const auto steps = steps_in(run + "/checkpoints");
    if (const auto step = named_step(run, "latest")) {
        if (is_model(folder_of(run, *step))) return folder_of(run, *step);
        std::string others;
        for (const int64_t other : steps) others += (others.empty() ? "" : ", ") + ("step-" + std::to_string(other));
        throw Error("'" + run + "/latest' names step-" + std::to_string(*step) + ", which is not there; there are: " + (others.empty() ? "none" : others));
    }
    return steps.empty() ? "" : folder_of(run, steps.back());
}

template <class Value>
Tensor scalar(Value value, DType dtype) {
    Tensor tensor({}, dtype);
    *tensor.data<Value>() = value;
    return tensor;
}

void save_state(const TrainingState &state, const std::string &path) {
    write_safetensors_ordered(path, {{"step", scalar(state.step, DType::i64)},
                                     {"sequences", scalar(state.sequences, DType::i64)},
                                     {"seed", scalar(int64_t(state.seed), DType::i64)},
                                     {"best_loss", scalar(state.best_loss, DType::f64)},
                                     {"best_step", scalar(state.best_step, DType::i64)},
                                     {"seconds", scalar(state.seconds, DType::f64)},
                                     {"first_moment", state.first_moment},
                                     {"second_moment", state.second_moment}});
}

}  // namespace

std::string find_checkpoint(const std::string &path) {
    if (!fs::is_directory(path)) throw Error("there is no model folder '" + path + "': give a run's folder or a checkpoint's");
    if (is_model(path)) return path;
    if (const auto step = named_step(path, "best")) {
        if (is_model(folder_of(path, *step))) return folder_of(path, *step);
        throw Error("'" + path + "/best' names step-" + std::to_string(*step) + ", which is not there");
    }
    const std::string latest = latest_of(path);
    if (latest.empty()) throw Error("'" + path + "' holds no model: neither config.json nor a checkpoint (has the run been saved yet?)");
    return latest;
}

void load_parameters(LanguageModel &model, const std::string &folder) {
    const std::string path = folder + "/" + model_name;
    std::map<std::string, Shape> wanted;
    for (const ParameterShape &parameter : parameter_shapes(model.config())) wanted[parameter.name] = parameter.shape;
    Metadata metadata;
    for (const TensorInfo &info : read_safetensors_header(path, metadata)) {
        const auto found = wanted.find(info.name);
        if (found == wanted.end()) throw Error(path + ": the tensor '" + printable(info.name) + "' is no parameter of the model in config.json");
        if (info.dtype != DType::f32 || info.shape != found->second)
            throw Error(path + ": the tensor '" + info.name + "' is " + name_of(info.dtype) + " " + to_string(info.shape) + "; config.json wants F32 " + to_string(found->second));
        wanted.erase(found);
    }
    if (!wanted.empty()) throw Error(path + ": the tensor '" + wanted.begin()->first + "' is missing (" + std::to_string(wanted.size()) + " in all)");
    TensorMap destinations;
    for (const std::string &name : model.parameters().names()) destinations[name] = model.parameters().value(name);
    read_safetensors_into(path, destinations);
}

LanguageModel load_language_model(const std::string &path) {
    const std::string folder = find_checkpoint(path), config = folder + "/" + config_name;
    LanguageModel model(config_from_json(read_file(config, 1 << 20), config));
    load_parameters(model, folder);
    return model;
}

void save_language_model(const LanguageModel &model, const std::string &folder) {
    make_folders(folder);
    write_file_atomic(folder + "/" + config_name, to_json(model.config()));
    std::vector<std::pair<std::string, Tensor>> tensors;
    for (const std::string &name : model.parameters().names()) tensors.emplace_back(name, model.parameters().value(name));
    write_safetensors_ordered(folder + "/" + model_name, tensors, {{"format", "pt"}});
}

TrainingState load_training_state(const LanguageModel &model, const std::string &folder) {
    const std::string path = folder + "/" + state_name;
    const Shape flat = {model.parameters().values.elements()};
    const std::map<std::string, std::pair<DType, Shape>> wanted = {
        {"step", {DType::i64, {}}},      {"sequences", {DType::i64, {}}}, {"seed", {DType::i64, {}}},          {"best_loss", {DType::f64, {}}},
        {"best_step", {DType::i64, {}}}, {"seconds", {DType::f64, {}}},   {"first_moment", {DType::f32, flat}}, {"second_moment", {DType::f32, flat}}};
    Metadata metadata;
    size_t found = 0;
    for (const TensorInfo &info : read_safetensors_header(path, metadata)) {
        const auto entry = wanted.find(info.name);
        if (entry == wanted.end()) throw Error(path + ": the tensor '" + printable(info.name) + "' is not known");
        if (entry->second != std::pair(info.dtype, info.shape))
            throw Error(path + ": the tensor '" + info.name + "' is " + name_of(info.dtype) + " " + to_string(info.shape) + "; it must be " +
                        name_of(entry->second.first) + " " + to_string(entry->second.second));
        found++;
    }
    if (found != wanted.size()) throw Error(path + ": " + std::to_string(wanted.size() - found) + " of its tensors are missing");
    const TensorMap tensors = read_safetensors(path);
    const auto integer = [&](const char *name) { return *tensors.at(name).data<int64_t>(); };
    const auto number = [&](const char *name) { return *tensors.at(name).data<double>(); };
    TrainingState state{integer("step"), integer("sequences"), uint64_t(integer("seed")), number("best_loss"), integer("best_step"), number("seconds"),
                        tensors.at("first_moment"), tensors.at("second_moment")};
    if (state.step < 0 || state.sequences < 0) throw Error(path + ": a negative step");
    return state;
}

RunFolder::RunFolder(const std::string &path)
    : path_(path), lock_(writable(path), "another program trains in '" + path + "': wait for it, stop it, or choose another --out") {
    remove_temporaries(path);
    remove_temporaries(path + "/checkpoints");
}

bool RunFolder::holds_run() const { return fs::exists(path_ + "/config.toml") || fs::exists(path_ + "/checkpoints"); }

std::string RunFolder::latest() const { return latest_of(path_); }

void RunFolder::repair_best(int64_t step) {
    if (step > 0 && named_step(path_, "best") != step && is_model(folder_of(path_, step))) write_file_atomic(path_ + "/best", "step-" + std::to_string(step) + "\n");
}

std::string RunFolder::save(const LanguageModel &model, const TrainingState &state, bool best, int64_t keep) {
    const std::string checkpoints = path_ + "/checkpoints", name = "step-" + std::to_string(state.step);
    make_folders(checkpoints);
    AtomicFolder folder(checkpoints + "/" + name);
    save_language_model(model, folder.path());
    save_state(state, folder.path() + "/" + state_name);
    folder.publish();
    write_file_atomic(path_ + "/latest", name + "\n");
    if (best) write_file_atomic(path_ + "/best", name + "\n");

    const auto best_step = named_step(path_, "best");
    int64_t newer = 0;
    const std::vector<int64_t> steps = steps_in(checkpoints);
    for (auto step = steps.rbegin(); step != steps.rend(); ++step) {
        if (*step > state.step) continue;  // of a longer run that was resumed from here; it goes when it is written again
        if (++newer <= keep || *step == best_step) continue;
        // Out of sight first: a folder that is half deleted must not look like a checkpoint.
        const std::string old = folder_of(path_, *step), gone = old + temporary_mark + "old";
        std::error_code ignored;
        fs::rename(old, gone, ignored);
        fs::remove_all(gone, ignored);
    }
    return checkpoints + "/" + name;
}

}  // namespace aft
