// `aft op`: one operator on the tensors of a file, its results into another: for comparison with other programs.
#include <nlohmann/json.hpp>

#include <algorithm>
#include <cstdio>
#include <optional>

#include "aft/error.h"
#include "aft/mixer.h"
#include "aft/safetensors.h"
#include "tools/command.h"

namespace aft::tool {
namespace {

using Settings = std::map<std::string, std::string>;

struct Entry {
    const char *name, *meaning;
};

struct Operator {
    const char *name, *meaning;
    std::vector<Entry> settings, inputs, outputs;
    TensorMap (*run)(const TensorMap &inputs, const Settings &settings);
};

// --- settings: KEY=VALUE

bool truth(const std::string &key, const std::string &value) {
    if (value == "true" || value == "1") return true;
    if (value == "false" || value == "0") return false;
    throw UsageError("--set " + key + "=" + value + ": it is true or false");
}

int64_t count(const std::string &key, const std::string &value) {
    const bool digits = !value.empty() && value.size() <= 9 && std::ranges::all_of(value, [](char c) { return c >= '0' && c <= '9'; });
    if (!digits) throw UsageError("--set " + key + "=" + value + ": it is a whole number from 0 to 999999999");
    return std::stoll(value);
}

std::optional<std::string> find(const Settings &settings, const std::string &key) {
    const auto found = settings.find(key);
    return found == settings.end() ? std::nullopt : std::optional(found->second);
}

// --- mixer

constexpr std::pair<const char *, Tensor MixerTensors::*> mixer_members[] = {
    {"query", &MixerTensors::query},   {"key", &MixerTensors::key},       {"value", &MixerTensors::value},
    {"bias_u", &MixerTensors::bias_u}, {"bias_v", &MixerTensors::bias_v}, {"position_bias", &MixerTensors::position_bias},
    {"filter", &MixerTensors::filter}, {"gamma", &MixerTensors::gamma},   {"beta", &MixerTensors::beta}};

MixerOptions mixer_options(const Settings &settings) {
    const auto variant = find(settings, "variant"), window = find(settings, "window");
    if (!variant) throw UsageError("the mixer needs --set variant=full, local, simple or conv");
    MixerOptions options;
    try {
        options.kind = mixer_kind(*variant);
    } catch (const Error &error) {
        throw UsageError("--set variant=" + *variant + ": " + error.what());
    }
    options.causal = truth("causal", find(settings, "causal").value_or("false"));
    const bool local = options.kind == MixerKind::local;
    if (local && !window) throw UsageError("variant=local needs --set window=S");
    if (!local && window) throw UsageError("--set window=" + *window + ": a window belongs to variant=local only");
    if (window) options.window = count("window", *window);
    if (find(settings, "grid")) throw Error("grid needs the 2-D convolution, which this build does not have");
    return options;
}

// The library takes the first T rows of a longer bias (a model's); here a bias is the sequence's own.
void check_rows(const char *name, const Tensor &x, int64_t T) {
    if (x.defined() && x.size(0) != T)
        throw Error(std::string("the tensor '") + name + "' has the shape " + to_string(x.shape()) + "; it must have T = " + std::to_string(T) + " rows");
}

TensorMap run_mixer(const TensorMap &inputs, const Settings &settings) {
    const MixerOptions options = mixer_options(settings);
    MixerTensors in, gradient;
    for (const auto &[name, member] : mixer_members)
        if (const auto found = inputs.find(name); found != inputs.end()) in.*member = found->second;
    check_mixer_tensors(options, in);
    const int64_t T = in.query.size(1);
    check_rows("position_bias", in.position_bias, T);
    check_rows("bias_u", in.bias_u, T);

    const auto mixer = make_mixer(options);
    Arena arena;
    MixerSaved saved;
    Tensor output(in.query.shape());
    mixer->forward(in, output, saved, arena);
    TensorMap results = {{"output", output}};

    const auto found = inputs.find("output_gradient");
    if (found == inputs.end()) return results;
    const Tensor &output_gradient = found->second;
    if (output_gradient.dtype() != DType::f32) throw Error(std::string("the tensor 'output_gradient' is ") + name_of(output_gradient.dtype()) + "; it must be F32");
    if (output_gradient.shape() != output.shape())
        throw Error("the tensor 'output_gradient' has the shape " + to_string(output_gradient.shape()) + "; it must be [B, T, C] = " + to_string(output.shape()));
    for (const auto &[name, member] : mixer_members) {
        if (!(in.*member).defined()) continue;
        gradient.*member = Tensor((in.*member).shape());
        (gradient.*member).fill(0);  // gradients of parameters are added to
        results[std::string(name) + "_gradient"] = gradient.*member;
    }
    mixer->backward(in, output, saved, output_gradient, gradient, arena);
    return results;
}

const Operator operators[] = {
    {"mixer",
     "AFT in the place of attention (docs/numerics.md, F1-F7)",
     {{"variant", "full, local, simple or conv"},
      {"causal", "true: a token sees itself and the past (default: false)"},
      {"window", "s of local: the bias counts for |t - t'| < s"},
      {"grid", "ROWSxCOLUMNS of a 2-D convolution (not in this build)"}},
     {{"query", "[B, T, C]"},
      {"key", "[B, T, C]; conv: [B, T, H]"},
      {"value", "[B, T, C]"},
      {"position_bias", "[T, T]; full and local, or instead bias_u and bias_v"},
      {"bias_u", "[T, d']"},
      {"bias_v", "[T, d']"},
      {"filter", "[H, s]; conv"},
      {"gamma", "[H]; conv, with beta: re-parameterises the filter"},
      {"beta", "[H]; conv"},
      {"output_gradient", "[B, T, C]; optional: then the gradients are computed too"}},
     {{"output", "[B, T, C]"}, {"X_gradient", "the gradient of every input tensor X, in its shape"}},
     run_mixer},
};

// --- the command

struct Options {
    std::string name, input, output;
    std::vector<std::string> set;
    bool list = false;
};

nlohmann::json to_json(const std::vector<Entry> &entries) {
    auto object = nlohmann::json::object();
    for (const Entry &entry : entries) object[entry.name] = entry.meaning;
    return object;
}

int list(bool json) {
    if (json) {
        auto all = nlohmann::json::array();
        for (const Operator &o : operators)
            all.push_back({{"name", o.name}, {"meaning", o.meaning}, {"settings", to_json(o.settings)}, {"inputs", to_json(o.inputs)}, {"outputs", to_json(o.outputs)}});
        std::printf("%s\n", nlohmann::json{{"operators", all}}.dump(1).c_str());
        return exit_done;
    }
    for (const Operator &o : operators) {
        std::printf("%s: %s\n", o.name, o.meaning);
        const auto section = [](const char *title, const char *prefix, const std::vector<Entry> &entries) {
            std::printf("  %s\n", title);
            for (const Entry &entry : entries) std::printf("    %s%-*s %s\n", prefix, int(22 - std::string_view(prefix).size()), entry.name, entry.meaning);
        };
        section("settings", "--set ", o.settings);
        section("inputs (F32)", "", o.inputs);
        section("outputs (F32)", "", o.outputs);
    }
    return exit_done;
}

const Operator &operator_named(const std::string &name) {
    for (const Operator &o : operators)
        if (name == o.name) return o;
    throw UsageError("there is no operator '" + name + "': aft op --list names them");
}

Settings parse_settings(const Operator &o, const std::vector<std::string> &pairs) {
    Settings settings;
    for (const std::string &pair : pairs) {
        const size_t equals = pair.find('=');
        if (equals == std::string::npos) throw UsageError("--set " + pair + ": it is KEY=VALUE");
        const std::string key = pair.substr(0, equals);
        if (std::ranges::none_of(o.settings, [&](const Entry &entry) { return key == entry.name; }))
            throw UsageError("--set " + pair + ": the operator " + o.name + " has no setting '" + key + "' (aft op --list names them)");
        if (!settings.emplace(key, pair.substr(equals + 1)).second) throw UsageError("--set " + key + " is given twice");
    }
    return settings;
}

int run(const Options &options, bool json) {
    if (options.list) return list(json);
    if (options.name.empty()) throw UsageError("give the operator's name; aft op --list names them");
    if (options.input.empty() || options.output.empty()) throw UsageError("--input and --output are needed");
    const Operator &o = operator_named(options.name);
    const Settings settings = parse_settings(o, options.set);

    const TensorMap inputs = read_safetensors(options.input);
    for (const auto &[name, tensor] : inputs)
        if (std::ranges::none_of(o.inputs, [&](const Entry &entry) { return name == entry.name; }))
            throw Error(options.input + ": the tensor '" + name + "' is not used by the operator " + o.name + "; take it out of the file");
    const TensorMap results = o.run(inputs, settings);
    write_safetensors(options.output, results);

    nlohmann::json shapes;
    for (const auto &[name, tensor] : results) {
        shapes[name] = tensor.shape();
        if (!json) std::printf("%-26s F32 %s\n", name.c_str(), to_string(tensor.shape()).c_str());
    }
    if (json) std::printf("%s\n", nlohmann::json{{"operator", o.name}, {"output", options.output}, {"tensors", shapes}, {"exact_path", exact_path_count()}}.dump().c_str());
    return exit_done;
}

const Command command{"op", "Runs one operator on tensors from a file", Group::kernels, [](CLI::App &app, const Common &common) {
    auto o = std::make_shared<Options>();
    app.add_option("operator", o->name, "Name of the operator: mixer");
    app.add_option("--input", o->input, "Safetensors file with the inputs");
    app.add_option("--output", o->output, "Safetensors file for the results");
    app.add_option("--set", o->set, "Setting of the operator, KEY=VALUE; may be repeated")->expected(1)->take_all();
    app.add_flag("--list", o->list, "Names every operator with its settings and tensors");
    app.footer("Example: aft op mixer --input in.safetensors --output out.safetensors --set variant=local --set causal=true --set window=32");
    return [o, &common] { return run(*o, common.json); };
}};

}  // namespace
}  // namespace aft::tool
