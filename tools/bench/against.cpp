#include "tools/bench/against.h"

#include <spdlog/fmt/fmt.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <optional>

#include "aft/error.h"
#include "aft/threads.h"
#include "runtime/files.h"
#include "tools/bench/machine.h"
#include "tools/bench/peer.h"
#include "tools/bench/results.h"

namespace aft::tool {
namespace {

using nlohmann::json;

// A median beyond three standard errors is rare by chance; code that moved in memory is worth up to 1 %.
constexpr double noise_factor = 3, least_difference = 0.01;
// Of one start: where a call is short, more turns cost little beside starting and preparing.
constexpr int most_turns = 5;
constexpr double seconds_of_a_start = 0.5;

struct Duel {
    Measurement ours, theirs;

    Ratio faster_by() const { return ratio(theirs, ours); }
    const char *verdict() const {
        const Ratio r = faster_by();
        return verdict_of(r.centre, std::max(least_difference, noise_factor * r.error()));
    }
};

class Program {
public:
    Program(std::string path, const Common &common) : path_(std::move(path)) {
        std::vector<std::string> command = {path_, "bench-peer", "--threads", std::to_string(thread_count())};
        if (!common.target.empty()) command.insert(command.end(), {"--target", common.target});
        peer_ = guarded([&] { return std::make_unique<Peer>(command); });
    }
    json ask(const json &question) {
        return guarded([&] { return peer_->ask(question); });
    }
    std::string description() const { return peer_->version() + ", " + peer_->note(); }

private:
    template <class Work>
    auto guarded(Work work) -> decltype(work()) {
        try {
            return work();
        } catch (const Error &error) {
            throw Error("'" + path_ + "' does not serve as the other build: " + error.what());
        }
    }

    std::string path_;
    std::unique_ptr<Peer> peer_;
};

// What a program lacks, or nothing when both are ready.
std::optional<std::string> prepare(Program &program, const json &question, json &run) {
    const json answer = program.ask(question);
    if (!answer.contains("id")) return answer.value("missing", "it gives no reason");
    run = {{"run", answer.at("id")}};
    return std::nullopt;
}

// Empty when one of the two cannot do it.
std::optional<Duel> hold(const Contest &contest, const AgainstOptions &options, const Common &common, std::string &description) {
    Duel duel;
    json question = contest.question;
    question["least_seconds"] = options.least_seconds;
    for (int sample = 0; sample < options.samples; sample++) {
        Program ours("/proc/self/exe", common), theirs(options.program, common);
        description = theirs.description();
        json run[2];
        Program *programs[] = {&ours, &theirs};
        for (int which : {0, 1})
            if (const auto missing = prepare(*programs[which], question, run[which])) {
                spdlog::warn("warning: {} is left out: {} build says: {}", contest.name, which ? "the other" : "this", *missing);
                return std::nullopt;
            }
        Measurement start[2];
        const int first = sample % 2;
        const double begin = now();
        for (int turn = 0; turn < most_turns && (turn == 0 || now() - begin < seconds_of_a_start); turn++)
            for (int which : {first, 1 - first, 1 - first, first}) {  // a steady drift adds as much to one as to the other
                const json answer = programs[which]->ask(run[which]);
                start[which].samples.push_back({answer.value("seconds", 0.0), answer.value("calls", int64_t(0))});
            }
        if (!(start[1].centre() > 0)) throw Error("'" + options.program + "' gives no time for " + contest.name);
        duel.ours.samples.push_back({start[0].centre(), start[0].calls()}), duel.theirs.samples.push_back({start[1].centre(), start[1].calls()});
    }
    return duel;
}

std::string text_of(const std::string &name, const Duel &duel) {
    const Ratio r = duel.faster_by();
    return fmt::format("{:<64} {:>11} {:>5.1f}% {:>11} {:>5.1f}% {:>7.3f} x +- {:.3f} {}\n", name, format_seconds(duel.ours.centre()), 100 * duel.ours.spread(),
                       format_seconds(duel.theirs.centre()), 100 * duel.theirs.spread(), r.centre, r.centre * r.error(), duel.verdict());
}

json entry_of(const std::string &name, const Duel &duel) {
    const Ratio r = duel.faster_by();
    return benchmark_entry(name, duel.ours, {{"other_time", duel.theirs.centre() * 1e9}, {"other_spread", duel.theirs.spread()}, {"ratio", r.centre},
                                             {"ratio_error", r.centre * r.error()}, {"verdict", duel.verdict()}});
}

}  // namespace

int bench_against(const AgainstOptions &options, const std::vector<Contest> &contests, const Common &common) {
    expect_writable(options.output);
    const Neighbours neighbours;
    std::string description;
    json entries = json::array();
    double logarithms = 0;
    std::map<std::string, int> verdicts;
    for (const Contest &contest : contests) {
        const auto duel = hold(contest, options, common, description);
        if (!duel) continue;
        if (!common.json && entries.empty())
            fmt::print("this build against {} ({})\n{:<64} {:>11} {:>6} {:>11} {:>6} {}\n", options.program, description, "", "this", "spread", "other", "spread", "this is faster by");
        if (!common.json) std::fputs(text_of(contest.name, *duel).c_str(), stdout), std::fflush(stdout);
        entries.push_back(entry_of(contest.name, *duel));
        logarithms += std::log(duel->faster_by().centre), verdicts[duel->verdict()]++;
    }
    if (entries.empty()) throw Error("'" + options.program + "' and this build have none of this in common");
    const double mean = std::exp(logarithms / double(entries.size()));
    if (!common.json) {
        std::string text = fmt::format("geometric mean of {} (above 1: this build is faster): {:.3f} x", entries.size(), mean);
        for (const auto &[verdict, count] : verdicts) text += fmt::format(", {} {}", count, verdict);
        std::puts(text.c_str());
    }
    const double busy = neighbours.busy_cpus();
    if (busy > 0.1) spdlog::warn("warning: other programs used {:.1f} of {} CPUs during this run", busy, cpu_count());
    json file = {{"context", bench_context(nullptr, busy)}, {"benchmarks", entries}};
    file["context"]["against"] = {{"program", options.program}, {"description", description}, {"threads", thread_count()}, {"geometric_mean", mean}, {"verdicts", verdicts}};
    if (common.json) std::puts(file.dump(2).c_str());
    if (!options.output.empty()) write_file_atomic(options.output, file.dump(2) + "\n");
    return exit_done;
}

}  // namespace aft::tool
