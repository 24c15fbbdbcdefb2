// Whole training steps and decoding.
//
// Model-flops utilisation of a step: 3 (22 C^2 L + 2 C V + band) flops per token over the FMA peak of the threads in use,
// where 22 C^2 = 2 (3 C^2 + 8 C^2) are the projections and the MLP, 2 C^2 more with an output projection, and band the
// multiply-adds of the operator's own pairs; 3: backward is twice the forward. Nothing recomputed counts.
#include "tools/bench/step.h"

#include <spdlog/fmt/fmt.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>

#include "aft/error.h"
#include "aft/threads.h"
#include "aft/training.h"
#include "runtime/files.h"
#include "tools/bench/against.h"
#include "tools/bench/limits.h"
#include "tools/bench/machine.h"
#include "tools/bench/measure.h"
#include "tools/bench/model_step.h"
#include "tools/bench/peer.h"
#include "tools/bench/results.h"
#include "tools/bench/startup.h"
#include "tools/bench/torch_operators.h"

namespace aft::tool {
namespace {

using nlohmann::json;

struct Options {
    std::string preset = "enwik8-local-24x256", output, against;
    PeerOptions peer;
    std::vector<int64_t> batches;
    int64_t context = 0;
    int samples = 7;
    bool startup = false;
};

// Of samples that --against takes: several steps of a small model, many tokens, one step of a large one.
constexpr double least_seconds_against = 0.1;

std::string step_name(const Options &o, const ModelConfig &config, int64_t batch) {
    return "step/" + o.preset + "/batch:" + std::to_string(batch) + "/context:" + std::to_string(config.context);
}

std::string decode_name(const Options &o, const ModelConfig &, int64_t batch) { return "decode/" + o.preset + "/batch:" + std::to_string(batch); }

struct Row {
    std::string form;
    Measurement time;
    double memory = 0;
};

std::vector<std::string> peer_command(const Options &o, const ModelConfig &c, int64_t batch, const std::string &form) {
    const auto text = [](int64_t n) { return std::to_string(n); };
    return {o.peer.python, o.peer.folder + "/torch_peer.py", "--mixer",  name_of(c.mixer),      "--form",   form,           "--layers", text(c.layers), "--channels",   text(c.channels),   "--context",
            text(c.context), "--window", text(c.window), "--rank",          text(c.bias_rank), "--heads", text(c.heads), "--taps", text(c.taps), "--vocabulary", text(c.vocabulary),
            "--batch",   text(batch),    "--threads", text(thread_count()), "--dropout", fmt::format("{}", c.dropout)};
}

json run_step(const Options &o, const ModelConfig &config, int64_t batch, const Limits &best, bool print) {
    reset_peak_memory();
    ModelStep training(config, batch);
    training.run(), training.run();
    std::vector<Row> rows = {{"aft", {}, 0}};
    std::vector<std::unique_ptr<Peer>> peers;
    if (!o.peer.name.empty())
        for (const std::string &form : o.peer.forms) {
            try {
                peers.push_back(std::make_unique<Peer>(peer_command(o, config, batch, form)));
                const std::string &note = peers.back()->note();
                rows.push_back({peers.back()->version() + " " + form + (note.empty() ? "" : ", " + note), {}, 0});
            } catch (const Error &error) {
                spdlog::warn("warning: no peer torch {}: {}", form, error.what());
            }
        }
    const LimitsInTurn in_turn(best);
    const Sampler fma_peak = in_turn.samplers().front();
    Measurement peak;
    for (int sample = 0; sample < o.samples; sample++) {
        peak.samples.push_back(fma_peak());
        const double start = now();
        training.run();
        rows[0].time.samples.push_back({now() - start, 1});
        for (size_t p = 0; p < peers.size(); p++) {
            if (!peers[p]) continue;
            try {
                const Peer::Step step = peers[p]->step();
                rows[p + 1].time.samples.push_back({step.seconds, 1});
                rows[p + 1].memory = step.memory_bytes;
            } catch (const Error &error) {
                spdlog::warn("warning: the peer {} failed: {}", rows[p + 1].form, error.what());
                peers[p].reset(), rows[p + 1].time.samples.clear();
            }
        }
    }
    rows[0].memory = double(peak_memory_bytes());
    const double tokens = double(batch * config.context), flops = 3 * flops_per_token(config) * tokens;
    const std::string name = step_name(o, config, batch);
    const double fma = in_turn.seen({&peak, 1}).fma;
    json entries = json::array();
    for (const Row &row : rows) {
        if (row.time.samples.empty()) continue;
        const double seconds = row.time.centre(), share = flops / seconds / fma, ratio = rows[0].time.centre() > 0 ? seconds / rows[0].time.centre() : 0;
        entries.push_back(benchmark_entry(name + "/" + row.form, row.time,
                                          {{"tokens_per_second", tokens / seconds}, {"model_flops_utilisation", share}, {"fma_peak_in_turn", fma}, {"peak_memory_bytes", row.memory}, {"time_over_ours", ratio}}));
        if (print)
            fmt::print("{:<44} {:<36} {:>9.0f} tokens/s  {:>6.1f} ms  spread {:>4.1f} %  {:>5.1f} % of FMA peak  {:>6.2f} GB{}\n", name, row.form, tokens / seconds, 1e3 * seconds,
                       100 * row.time.spread(), 100 * share, row.memory * 1e-9, &row == &rows[0] ? "" : fmt::format("  we are {:.2f} x", ratio));
    }
    std::fflush(stdout);
    return entries;
}

json run_decode(const Options &o, const ModelConfig &config, int64_t batch, const Limits &best, bool print) {
    ModelDecoding decoding(config, batch);
    // The first of a sample finds the caches as the limits' loops leave them.
    const int64_t together = std::min<int64_t>(32, decoding.room());
    const Sampler sampler = [&] {
        decoding.make_room(together);
        const double start = now();
        for (int64_t n = 0; n < together; n++) decoding.run();
        return Sample{(now() - start) / double(together), together};
    };
    sampler();
    // Every weight of the linear layers is read once a step, whatever the batch.
    const double weights = 4 * double(config.layers) * double(config.channels) * (2 * double(config.channels) + double(config.mixer == MixerKind::conv ? config.head_count() : config.channels) +
                                                                                 2 * double(config.hidden_size()) + (config.output_projection ? double(config.channels) : 0)) +
                           4 * double(config.channels * config.vocabulary);
    Workload work;
    work.bytes = weights, work.flops = flops_per_token(config) * double(batch);
    LimitsInTurn in_turn(best);
    in_turn.add(work, false);
    std::vector<Sampler> samplers = in_turn.samplers();
    samplers.insert(samplers.begin(), sampler);
    const std::vector<Measurement> times = measure(samplers, 2 * o.samples);
    const Measurement &time = times[0];
    const Limits limits = in_turn.seen(std::span(times).subspan(1));
    const Bound bound = bound_of(work, limits, false);
    const double seconds = time.centre(), share = bound.seconds / seconds;
    const std::string name = decode_name(o, config, batch);
    if (print) {
        fmt::print("{:<44} {:>9.0f} tokens/s  {:>8.1f} a sequence  {:>7.3f} ms a token  spread {:>4.1f} %  {:>5.1f} % of {} ({:.0f} MB of weights)\n", name, double(batch) / seconds, 1 / seconds,
                   1e3 * seconds, 100 * time.spread(), 100 * share, bound.name(), 1e-6 * weights);
        std::fflush(stdout);
    }
    return json::array({benchmark_entry(name, time, {{"tokens_per_second", double(batch) / seconds}, {"tokens_per_second_of_a_sequence", 1 / seconds},
                                                     {"weight_bytes", weights}, {"limited_by", bound.name()}, {"share_of_limit", share}, {"share_of_fma_peak", work.flops / seconds / limits.fma}})});
}

// From the program's start to its first byte of text, with the model's file in the page cache.
json run_startup(const Options &o, const ModelConfig &config, bool print) {
    const Measurement time = time_to_first_token(config, thread_count(), o.samples);
    const std::string name = "startup/" + o.preset;
    if (print)
        fmt::print("{:<44} {:>9.3f} s to the first token  spread {:>4.1f} %  ({:.1f} M parameters)\n", name, time.centre(), 100 * time.spread(), 1e-6 * double(parameter_count(config)));
    return benchmark_entry(name, time, {{"parameters", parameter_count(config)}});
}

struct Kind {
    const char *what;  // as aft bench-peer knows it
    std::string (*name)(const Options &, const ModelConfig &, int64_t batch);
    json (*run)(const Options &, const ModelConfig &, int64_t batch, const Limits &best, bool print);
};
const Kind steps{"step", step_name, run_step}, decodings{"decode", decode_name, run_decode};

int run(const Options &o, const Common &common, const Kind &kind) {
    check(o.peer);
    if (std::ranges::count(o.peer.forms, "formula")) throw UsageError("--peer-forms: 'formula' is a form of operators, not of whole models");
    const ModelConfig config = model_of(o.preset, o.context);
    if (!o.against.empty()) {
        std::vector<Contest> contests;
        for (const int64_t batch : o.batches) contests.push_back({kind.name(o, config, batch), {{"prepare", kind.what}, {"preset", o.preset}, {"batch", batch}, {"context", config.context}}});
        return bench_against({o.against, o.samples, least_seconds_against, o.output}, contests, common);
    }
    expect_writable(o.output);
    const Neighbours neighbours;
    const Limits limits = measure_limits(thread_count());
    json entries = json::array();
    for (const int64_t batch : o.batches)
        for (const json &entry : kind.run(o, config, batch, limits, !common.json)) entries.push_back(entry);
    if (o.startup) entries.push_back(run_startup(o, config, !common.json));
    const double busy = neighbours.busy_cpus();
    if (busy > 0.1) spdlog::warn("warning: other programs used {:.1f} of {} CPUs during this run: its figures are too low", busy, cpu_count());
    const json file = {{"context", bench_context(&limits, busy)}, {"benchmarks", entries}};
    if (common.json) std::puts(file.dump(2).c_str());
    if (!o.output.empty()) write_file_atomic(o.output, file.dump(2) + "\n");
    return exit_done;
}

void add_options(CLI::App &app, Options &o, int64_t least_batch) {
    app.add_option("--preset", o.preset, "The model: a preset of aft train --list")->capture_default_str();
    app.add_option("--batch", o.batches, "Sequences; several sizes one after the other")->check(CLI::Range(int64_t(1), int64_t(1) << 16));
    app.add_option("--context", o.context, "Bytes of a sequence (default: the preset's)")->check(CLI::Range(int64_t(1), int64_t(1) << 24));
    app.add_option("--samples", o.samples, "Samples; with a peer, taken in turn")->check(CLI::Range(1, 1000))->capture_default_str();
    app.add_option("--output", o.output, "Write the results to a file, in Google Benchmark's JSON form");
    app.add_option("--against", o.against, "Another build's aft: hold this build against it, each sample a fresh start of both");
    o.batches = {least_batch};
    app.fallthrough();
}

}  // namespace

std::function<std::function<int()>()> add_model_benchmarks(CLI::App &bench, const Common &common) {
    auto step_options = std::make_shared<Options>(), decode_options = std::make_shared<Options>();
    CLI::App *step = bench.add_subcommand("step", "Whole training steps: tokens/s, share of the FMA peak, memory");
    add_options(*step, *step_options, 2);
    add_peer_options(*step, step_options->peer, "Peer");
    step->get_option("--against")->excludes(step->get_option("--peer"));
    step->footer("Example: aft bench step --preset enwik8-local-24x256 --batch 2 --peer torch");
    CLI::App *decode = bench.add_subcommand("decode", "Decoding: tokens/s, share of the bound set by reading the weights");
    add_options(*decode, *decode_options, 1);
    decode->add_flag("--startup,!--no-startup", decode_options->startup, "Time the start of the program up to its first token too")->default_val(true);
    decode->footer("Example: aft bench decode --preset enwik8-local-24x256 --batch 1 64");
    bench.require_subcommand(0, 1);
    // fallthrough() is for the common options; those of bench itself would go unused.
    const auto refuse = [&bench](const CLI::App &app) {
        for (const CLI::Option *option : bench.get_options())
            if (option->count() > 0 && option->get_group() != "Common")
                throw UsageError("bench " + app.get_name() + (app.get_option_no_throw(option->get_name()) ? ": give it its " + option->get_name() + " behind its name" : " has no " + option->get_name()));
    };
    return [=, &common]() -> std::function<int()> {
        for (const CLI::App *app : {step, decode})
            if (app->parsed()) refuse(*app);
        if (step->parsed()) return [=, &common] { return run(*step_options, common, steps); };
        if (decode->parsed()) return [=, &common] { return run(*decode_options, common, decodings); };
        return {};
    };
}

}  // namespace aft::tool
