// The keys of a run: one table from which come set_key (recipes, config.toml, flags), get_key and to_toml.
#include <charconv>
#include <cmath>
#include <map>
#include <numbers>

#include "aft/error.h"
#include "aft/training.h"
#include "models/config_keys.h"
#include "runtime/files.h"
#include "runtime/json.h"
#include "runtime/toml.h"

namespace aft {
namespace {

[[noreturn]] void refuse(const std::string &text, const std::string &wanted) { throw Error("is '" + printable(text) + "'; it must be " + wanted); }

template <class Number>
Number parse_number(const std::string &text, const char *wanted) {
    Number number{};
    const char *begin = text.data() + (text.starts_with('+') ? 1 : 0), *end = text.data() + text.size();
    const auto [stopped, error] = std::from_chars(begin, end, number);
    if (error != std::errc() || stopped != end) refuse(text, wanted);
    return number;
}

void parse(const std::string &text, int64_t &value) { value = parse_number<int64_t>(text, "an integer"); }
void parse(const std::string &text, uint64_t &value) { value = parse_number<uint64_t>(text, "an integer, 0 or more"); }
void parse(const std::string &text, double &value) {
    const double number = parse_number<double>(text, "a number");
    if (!std::isfinite(number)) refuse(text, "a finite number");
    value = number;
}
void parse(const std::string &text, bool &value) {
    if (text != "true" && text != "false") refuse(text, "true or false");
    value = text == "true";
}
void parse(const std::string &text, std::string &value) { value = text; }

std::string format(int64_t value) { return std::to_string(value); }
std::string format(uint64_t value) { return std::to_string(value); }
std::string format(bool value) { return value ? "true" : "false"; }
std::string format(const std::string &value) { return value; }
std::string format(double value) {  // the shortest text that reads back as the same number
    char text[40];
    return {text, std::to_chars(text, text + sizeof text, value).ptr};
}

// "4G", "512M", "1000000"
int64_t parse_bytes(const std::string &text) {
    static constexpr std::string_view units = "KMGT";
    const size_t unit = text.empty() ? std::string_view::npos : units.find(char(std::toupper(static_cast<unsigned char>(text.back()))));
    const bool scaled = unit != std::string_view::npos;
    const double number = parse_number<double>(scaled ? text.substr(0, text.size() - 1) : text, "a number of bytes such as 4G or 512M");
    const double bytes = number * (scaled ? std::ldexp(1.0, 10 * int(unit + 1)) : 1.0);
    if (!(bytes >= 1 && bytes < 0x1p62)) refuse(text, "at least 1 byte and less than 2^62");
    return int64_t(bytes);
}

std::string format_bytes(int64_t bytes) {
    for (int unit = 3; unit >= 0; unit--)
        if (const int64_t scale = int64_t(1) << (10 * (unit + 1)); bytes % scale == 0) return std::to_string(bytes / scale) + "KMGT"[unit];
    return std::to_string(bytes);
}

struct Entry {
    RunKey key;
    std::function<void(RunOptions &, const std::string &)> set;
    std::function<std::string(const RunOptions &)> get;
};

const std::map<std::string, std::string> model_help = {
    {"vocabulary", "Number of tokens; 256 for bytes"},
    {"context", "T: longest sequence, learned positions"},
    {"channels", "C: width of the model"},
    {"layers", "L: number of blocks"},
    {"hidden", "Width of the MLP; 0 = 4 C"},
    {"window", "s of AFT-local"},
    {"heads", "H of AFT-conv; 0 = C"},
    {"taps", "Filter length of AFT-conv"},
    {"factorized_bias", "w = u v^T of rank bias_rank, else a dense [T, T] bias"},
    {"bias_rank", "d': rank of the factorised position bias"},
    {"bias_std", "Standard deviation of u and v (dense: of w) at the start"},
    {"filter_reparameterization", "Normalised filters with gain and offset (AFT-conv)"},
    {"output_projection", "A linear layer behind the mixer"},
    {"linear_bias", "Biases on the linear layers"},
    {"dropout", "Probability of dropout after the embedding and on each branch"},
    {"initializer_range", "Standard deviation of weights at the start"},
    {"layer_norm_epsilon", "Epsilon of layer norm"},
};

std::vector<Entry> make_entries() {
    std::vector<Entry> entries;
    entries.push_back({{"mixer", "Model", "full, local, simple or conv", true},
                       [](RunOptions &o, const std::string &text) { o.model.mixer = mixer_kind(text); },
                       [](const RunOptions &o) { return std::string(name_of(o.model.mixer)); }});
    ModelConfig shape;
    visit_config_keys(shape, [&](const char *key, auto &value) {
        using Value = std::remove_reference_t<decltype(value)>;
        const auto offset = reinterpret_cast<std::byte *>(&value) - reinterpret_cast<std::byte *>(&shape);
        const auto at = [offset](const ModelConfig &c) { return reinterpret_cast<Value *>(reinterpret_cast<std::byte *>(const_cast<ModelConfig *>(&c)) + offset); };
        entries.push_back({{key, "Model", model_help.at(key)},
                           [at](RunOptions &o, const std::string &text) { parse(text, *at(o.model)); },
                           [at](const RunOptions &o) { return format(*at(o.model)); }});
    });
    const auto add = [&](const char *name, const char *group, auto TrainingOptions::*member, const char *help) {
        using Value = std::remove_reference_t<decltype(std::declval<TrainingOptions &>().*member)>;
        entries.push_back({{name, group, help, std::is_same_v<Value, std::string>},
                           [member](RunOptions &o, const std::string &text) { parse(text, o.training.*member); },
                           [member](const RunOptions &o) { return format(o.training.*member); }});
    };
    using O = TrainingOptions;
    add("data", "Data", &O::data, "Text to train on: any file; enwik8 is known by its checksum");
    add("valid", "Data", &O::valid, "Validation text (then all of data is for training)");
    add("test", "Data", &O::test, "Test text, with valid");
    add("steps", "Optimisation", &O::steps, "Training steps");
    add("batch", "Optimisation", &O::batch, "Sequences per step");
    add("micro_batch", "Optimisation", &O::micro_batch, "Sequences per pass; 0 = as the memory limit allows");
    entries.push_back({{"memory_limit", "Optimisation", "Memory for parameters, moments and activations, such as 4G", true},
                       [](RunOptions &o, const std::string &text) { o.training.memory_limit = parse_bytes(text); },
                       [](const RunOptions &o) { return format_bytes(o.training.memory_limit); }});
    add("learning_rate", "Optimisation", &O::learning_rate, "Largest learning rate");
    entries.push_back({{"schedule", "Optimisation", "inverse_sqrt, cosine, linear or constant", true},
                       [](RunOptions &o, const std::string &text) { o.training.schedule = schedule_of(text); },
                       [](const RunOptions &o) { return std::string(name_of(o.training.schedule)); }});
    add("warmup", "Optimisation", &O::warmup, "Steps of linear warm-up");
    add("min_learning_rate", "Optimisation", &O::min_learning_rate, "Where schedules end");
    add("weight_decay", "Optimisation", &O::weight_decay, "AdamW's decay of the linear layers' weights");
    add("beta1", "Optimisation", &O::beta1, "AdamW: decay of the first moment");
    add("beta2", "Optimisation", &O::beta2, "AdamW: decay of the second moment");
    add("epsilon", "Optimisation", &O::epsilon, "AdamW: epsilon");
    add("clip", "Optimisation", &O::clip, "Largest norm of the gradient; 0 = off");
    add("seed", "Optimisation", &O::seed, "Seed of weights, batches and dropout");
    add("out", "Run", &O::out, "The run's folder");
    add("eval_every", "Run", &O::eval_every, "Steps between evaluations; 0 = never");
    add("eval_batches", "Run", &O::eval_batches, "Batches per evaluation; 0 = the whole split");
    add("save_every", "Run", &O::save_every, "Steps between checkpoints; 0 = at the end only");
    add("keep", "Run", &O::keep, "Newest checkpoints that stay, besides the best");
    add("log_every", "Run", &O::log_every, "Steps between lines of metrics.jsonl");
    add("sample_every", "Run", &O::sample_every, "Steps between samples of text; 0 = never");
    add("sample_bytes", "Run", &O::sample_bytes, "Bytes per sample");
    add("prompt", "Run", &O::prompt, "What samples continue");
    return entries;
}

const std::vector<Entry> &entries() {
    static const std::vector<Entry> all = make_entries();
    return all;
}

const Entry &entry(const std::string &name) {
    for (const Entry &entry : entries())
        if (entry.key.name == name) return entry;
    std::string known;
    for (const Entry &entry : entries()) known += (known.empty() ? "" : ", ") + entry.key.name;
    throw Error("unknown key '" + printable(name) + "'; known keys: " + known);
}

}  // namespace

const char *name_of(Schedule schedule) {
    switch (schedule) {
        case Schedule::inverse_sqrt: return "inverse_sqrt";
        case Schedule::cosine: return "cosine";
        case Schedule::linear: return "linear";
        case Schedule::constant: return "constant";
    }
    return "?";
}

Schedule schedule_of(const std::string &name) {
    for (const Schedule schedule : {Schedule::inverse_sqrt, Schedule::cosine, Schedule::linear, Schedule::constant})
        if (name == name_of(schedule)) return schedule;
    throw Error("there is no schedule '" + printable(name) + "': it is one of inverse_sqrt, cosine, linear, constant");
}

double learning_rate_at(const TrainingOptions &o, int64_t step) {
    const double warmup = double(std::max<int64_t>(o.warmup, 1)), now = double(step), peak = o.learning_rate;
    if (now <= warmup) return peak * now / warmup;
    const double progress = double(o.steps) > warmup ? std::min(1.0, (now - warmup) / (double(o.steps) - warmup)) : 1.0;
    switch (o.schedule) {
        case Schedule::inverse_sqrt: return std::max(o.min_learning_rate, peak * std::sqrt(warmup / now));
        case Schedule::cosine: return o.min_learning_rate + (peak - o.min_learning_rate) * 0.5 * (1 + std::cos(std::numbers::pi * progress));
        case Schedule::linear: return o.min_learning_rate + (peak - o.min_learning_rate) * (1 - progress);
        case Schedule::constant: return peak;
    }
    return peak;
}

void check(const TrainingOptions &o) {
    const auto require = [](bool holds, const char *key, const std::string &value, const char *wanted) {
        if (!holds) throw Error(std::string("'") + key + "' is " + value + "; it must be " + wanted);
    };
    const auto integer = [&](const char *key, int64_t value, int64_t least, int64_t most) {
        require(value >= least && value <= most, key, std::to_string(value), ("from " + std::to_string(least) + " to " + std::to_string(most)).c_str());
    };
    constexpr int64_t many = int64_t(1) << 31;
    integer("steps", o.steps, 1, many - 1);
    integer("batch", o.batch, 1, 1 << 20);
    integer("micro_batch", o.micro_batch, 0, o.batch);
    integer("memory_limit", o.memory_limit, 1, int64_t(1) << 62);
    integer("warmup", o.warmup, 0, many);
    integer("keep", o.keep, 1, many);
    integer("log_every", o.log_every, 1, many);
    integer("sample_bytes", o.sample_bytes, 1, many);
    for (const auto &[key, value] : {std::pair{"eval_every", o.eval_every}, {"eval_batches", o.eval_batches}, {"save_every", o.save_every}, {"sample_every", o.sample_every}})
        integer(key, value, 0, many);
    integer("seed", o.seed > uint64_t(INT64_MAX) ? -1 : int64_t(o.seed), 0, INT64_MAX);
    require(o.learning_rate > 0, "learning_rate", format(o.learning_rate), "more than 0");
    require(o.min_learning_rate >= 0 && o.min_learning_rate <= o.learning_rate, "min_learning_rate", format(o.min_learning_rate), "from 0 to learning_rate");
    require(o.weight_decay >= 0, "weight_decay", format(o.weight_decay), "0 or more");
    for (const auto &[key, value] : {std::pair{"beta1", o.beta1}, {"beta2", o.beta2}}) require(value >= 0 && value < 1, key, format(value), "at least 0 and less than 1");
    require(o.epsilon > 0, "epsilon", format(o.epsilon), "more than 0");
    require(o.clip >= 0, "clip", format(o.clip), "0 (off) or more");
    require(!o.data.empty(), "data", "missing", "a file: --data PATH");
    require(!o.out.empty(), "out", "missing", "a folder: --out DIR");
    require(o.sample_every == 0 || !o.prompt.empty(), "prompt", "empty", "one byte or more when samples are asked for");
}

const std::vector<RunKey> &run_keys() {
    static const std::vector<RunKey> keys = [] {
        std::vector<RunKey> all;
        for (const Entry &entry : entries()) all.push_back(entry.key);
        return all;
    }();
    return keys;
}

void set_key(RunOptions &options, const std::string &name, const std::string &text) {
    const Entry &found = entry(name);
    try {
        found.set(options, text);
    } catch (const Error &error) {
        const std::string what = error.what();
        throw Error("'" + name + (what.starts_with("is ") ? "' " : "': ") + what);
    }
}

std::string get_key(const RunOptions &options, const std::string &name) { return entry(name).get(options); }

void read_toml(RunOptions &options, const std::string &text, const std::string &origin) {
    for (const TomlItem &item : parse_toml(text, origin)) {
        const std::string where = origin + ": line " + std::to_string(item.line) + ": ";
        try {
            const bool text_key = entry(item.key).key.text;
            if (text_key != item.quoted && item.key != "memory_limit")
                throw Error("'" + item.key + "' must be " + (text_key ? "a string in quotes" : "a number, true or false, without quotes"));
            set_key(options, item.key, item.text);
        } catch (const Error &error) {
            throw Error(where + error.what());
        }
    }
}

std::string to_toml(const RunOptions &options) {
    std::string text, group;
    for (const auto &[key, set, get] : entries()) {
        if (key.group != group) text += (text.empty() ? "# " : "\n# ") + (group = key.group) + "\n";
        text += key.name + " = " + (key.text ? toml_quoted(get(options)) : get(options)) + "\n";
    }
    return text;
}

RunOptions read_run_options(const std::string &folder) {
    const std::string path = folder + "/config.toml";
    RunOptions options;
    read_toml(options, read_file(path, 1 << 20), path);
    options.training.out = folder;
    return options;
}

}  // namespace aft
