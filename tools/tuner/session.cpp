#include "tools/tuner/session.h"

#include <signal.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cmath>
#include <cstdlib>
#include <deque>
#include <filesystem>
#include <future>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>

#include "aft/error.h"
#include "runtime/files.h"
#include "tools/bench/machine.h"
#include "tools/bench/measure.h"
#include "tools/tuner/candidate.h"
#include "tools/tuner/journal.h"
#include "tools/tuner/search.h"
#include "tools/tuner/tuned_record.h"

namespace aft::tool {
namespace {

using nlohmann::json;
namespace fs = std::filesystem;

std::atomic<int> interrupt_count = 0;

// A winner is better than the incumbent by at least this much and by three standard errors, and nowhere this much worse.
constexpr double least_gain = 0.01, most_loss = 0.03, most_noise = 0.05;  // noisier than that, something else had the machine
constexpr int finalists = 3;

std::string clock_text(double seconds) {
    char text[32];
    std::snprintf(text, sizeof text, "%d:%02d", int(seconds) / 60, int(seconds) % 60);
    return text;
}

class Session {
public:
    Session(const TuneTask &task, const TuneOptions &options)
        : task_(task), entry_(*task.entry), space_(task.space), options_(options), cores_(options.threads),
          folder_(task.manifest->build_dir + "/tune/" + entry_.target), work_(folder_ + "/" + entry_.record + ".work"),
          setup_{entry_.kernel, entry_.symbol, entry_.target, options.shapes, cores_.measuring, options.wall_s, options.memory_mib, options.cold} {}
    ~Session() {
        std::error_code ignored;
        fs::remove_all(work_, ignored);
    }

    json run() {
        Worker worker(setup_);
        if (!worker.complaint().empty()) spdlog::warn("warning: {}: the incumbent fails its own gate: {}", entry_.symbol, worker.complaint());
        if (worker.shapes().empty()) throw NotTimed(entry_.symbol);
        setup_.shapes = worker.shapes();
        // The time of its generator stands for the code of the kernel, which the space does not show.
        json conditions = {{"symbol", entry_.symbol}, {"fingerprint", space_.fingerprint}, {"incumbent", task_.incumbent}, {"shapes", worker.shapes()}, {"cpu", cpu_model()},
                           {"threads", options_.threads}, {"halide_target", entry_.halide_target}, {"generator", fs::last_write_time(entry_.program).time_since_epoch().count()}};
        if (options_.cold) conditions["cache"] = "cold";  // without it: warm, as in journals of before
        Journal journal(folder_ + "/" + entry_.record + ".jsonl", conditions, options_.resume);
        if (!journal.note().empty()) spdlog::warn("warning: {}: {}", entry_.symbol, journal.note());
        spdlog::info("{}: {} valid points, {} operator cases, timed at {}", entry_.symbol, space_.points.size(), worker.cases(), json(few_of(worker.shapes())).dump());
        search(worker, journal);
        if (concluded(journal.result())) {
            spdlog::info("{}: nothing new since its final check", entry_.symbol);
            json result = journal.result();
            result["resumed"] = resumed_;
            return result;
        }
        const json result = finish();
        if (result.at("status") != "interrupted") journal.conclude(result);
        return result;
    }

private:
    // The final check, too, is not repeated: it saw these candidates, and the record that it wrote is there.
    bool concluded(const json &result) const {
        if (!result.is_object() || resumed_ != tried_ || result.value("tried", json()) != tried_) return false;
        return result.value("status", json()) == "kept" || (result.value("record", json()) == options_.out && fs::exists(options_.out));
    }

    Built build(const std::string &knobs, const std::string &where) const {
        return build_candidate(*task_.manifest, entry_, {"knobs=" + knobs}, work_ + "/" + where, {.wall_s = 120, .cpus = cores_.compiling});
    }

    std::deque<int> first_points() const {
        std::deque<int> points;
        for (const KnobValues &given : options_.first) {
            KnobValues values = task_.incumbent;
            for (const auto &[name, value] : given) values[name] = value;
            const int point = values.size() == task_.incumbent.size() ? space_.find(values) : -1;
            if (point < 0) spdlog::warn("warning: {}: {} is no valid point of its space: it is not tried", entry_.symbol, to_text(given));
            if (point >= 0 && point != space_.find(task_.incumbent) && std::ranges::find(points, point) == points.end()) points.push_back(point);
        }
        return points;
    }

    // The next point is chosen before the one under way is told, always: so the order does not depend on who is faster.
    void search(Worker &worker, Journal &journal) {
        struct Pending {
            int point;
            std::string knobs;
            std::future<Built> built;
        };
        const auto strategy = make_search(options_.strategy, space_, space_.find(task_.incumbent), options_.seed);
        const int all = int(space_.points.size()) - (space_.find(task_.incumbent) >= 0), most = options_.most ? std::min(options_.most, all) : all;
        const double start = now();
        std::deque<Pending> pending;
        int asked = 0, last_said = 0;
        std::deque<int> first = first_points();
        const std::set<int> not_again(first.begin(), first.end());
        const auto choose = [&]() -> std::optional<int> {
            if (!first.empty()) {
                const int point = first.front();
                first.pop_front();
                return point;
            }
            while (true)
                if (const auto point = strategy->next(); !point || !not_again.contains(*point)) return point;
        };
        double said_at = start;
        const auto refill = [&] {
            while (pending.size() < 2 && (options_.most == 0 || asked < options_.most)) {
                const auto point = choose();
                if (!point) return;
                asked++;
                Pending next{*point, space_.text(*point), {}};
                if (!journal.known().contains(next.knobs))
                    next.built = std::async(cores_.apart ? std::launch::async : std::launch::deferred,
                                            [this, knobs = next.knobs, where = std::to_string(asked % 3)] { return build(knobs, where); });
                pending.push_back(std::move(next));
            }
        };
        for (refill(); !pending.empty(); refill()) {
            Pending now_one = std::move(pending.front());
            pending.pop_front();
            const bool known = !now_one.built.valid();
            if (!known && (interrupts() > 0 || now() - start > options_.budget_s)) break;
            Verdict verdict;
            if (known) {
                verdict = journal.known().at(now_one.knobs);
                resumed_++;
            } else {
                const Built built = now_one.built.get();
                if (built.ok) {
                    verdict = worker.judge({.object = built.object, .slow = 1.15 * best_ratio_, .seconds = options_.seconds, .least_rounds = 5, .most_rounds = 15,
                                            .shapes = few_of(worker.shapes())});
                } else {
                    verdict.status = "unbuilt", verdict.message = built.message;
                }
                journal.add(now_one.knobs, verdict);
                spdlog::debug("{} {} {:.3f} {}", now_one.knobs, verdict.status, verdict.ratio, verdict.message);
            }
            tried_++;
            counts_[verdict.status]++;
            if (!verdict.measured() && verdict.status != "unbuilt") spdlog::warn("warning: {}: {}: {}: {}", entry_.symbol, now_one.knobs, verdict.status, verdict.message);
            strategy->tell(now_one.point, verdict.measured() ? verdict.ratio : std::numeric_limits<double>::infinity());
            if (verdict.status == "ok") good_.emplace_back(verdict.ratio, now_one.point);
            const bool better = verdict.status == "ok" && verdict.ratio < best_ratio_;
            if (better) best_ratio_ = verdict.ratio, best_text_ = now_one.knobs;
            if (!known && (better || now() - said_at > 5)) {
                const int left = most - tried_;
                const double each = (now() - start) / std::max(1, tried_ - resumed_), to_go = std::min(each * left, options_.budget_s - (now() - start));
                spdlog::info("{}: {} tried, {} left, best {:.3f} of the incumbent's time ({}), {} to go", entry_.symbol, tried_, left, best_ratio_,
                             best_text_.empty() ? "the incumbent" : best_text_, clock_text(std::max(0.0, to_go)));
                said_at = now(), last_said = tried_;
            }
        }
        for (Pending &p : pending)
            if (p.built.valid()) p.built.wait();
        if (last_said != tried_) spdlog::info("{}: {} tried in {}, best {:.3f}", entry_.symbol, tried_, clock_text(now() - start), best_ratio_);
    }

    // The best few from a fresh compile, with every operator case, every shape, more pairs.
    json finish() {
        json result = {{"symbol", entry_.symbol}, {"kernel", entry_.kernel}, {"status", "kept"}, {"tried", tried_}, {"resumed", resumed_}, {"valid_points", space_.points.size()},
                       {"counts", counts_}, {"search_ratio", best_ratio_}, {"best", best_text_}};
        std::ranges::sort(good_);
        std::erase_if(good_, [](const auto &g) { return g.first > 1 - 0.5 * least_gain; });
        if (good_.size() > finalists) good_.resize(finalists);
        if (good_.empty() || interrupts() > 1) {
            if (interrupts() > 0) result["status"] = "interrupted";
            return result;
        }
        Worker worker(setup_);
        Winner winner;
        for (const auto &[ratio, point] : good_) {
            if (interrupts() > 1) break;
            const Built built = build(space_.text(point), "final");
            if (!built.ok) continue;
            WorkerRequest last = {.object = built.object, .slow = 1.2, .seconds = 4 * options_.seconds, .least_rounds = 9, .most_rounds = 41, .shapes = {}, .determinism = true};
            Verdict v = worker.judge(last);
            if (v.status == "ok" && v.ratio < 1 - least_gain && v.ratio > 1 - 3 * v.noise) {  // a gain that the noise hides: more pairs
                last.seconds *= 4, last.most_rounds *= 4;
                v = worker.judge(last);
            }
            if (v.status != "ok") spdlog::warn("warning: {}: {} did not survive the final check: {} {}", entry_.symbol, space_.text(point), v.status, v.message);
            const double margin = std::max(least_gain, 3 * v.noise);
            const bool wins = v.status == "ok" && v.noise < most_noise && v.ratio < 1 - margin && std::ranges::none_of(v.shapes, [](const ShapeTime &s) {
                return s.ratio > 1 + most_loss + 2 * s.ratio_spread / std::sqrt(double(s.rounds));
            });
            spdlog::info("{}: {} from a fresh compile: {:.3f} +- {:.3f} of the incumbent's time{}", entry_.symbol, space_.text(point), v.ratio, v.noise, wins ? "" : ": no winner");
            if (wins && (winner.knobs.empty() || v.ratio < winner.verdict.ratio)) winner.knobs = space_.values(point), winner.verdict = v;
        }
        if (winner.knobs.empty()) {
            if (interrupts() > 0) result["status"] = "interrupted";
            return result;
        }
        winner.incumbent = task_.incumbent, winner.threads = options_.threads, winner.cold = options_.cold, winner.tried = tried_, winner.strategy = options_.strategy, winner.seed = options_.seed;
        winner.incumbent_origin = task_.origin == "default" ? task_.origin : fs::path(task_.origin).filename().string();
        make_folders(fs::absolute(options_.out).parent_path().string());
        write_file_atomic(options_.out, make_record(*task_.manifest, entry_, space_, winner).dump(1) + "\n");
        result["status"] = "improved", result["record"] = options_.out, result["ratio"] = winner.verdict.ratio, result["noise"] = winner.verdict.noise;
        result["knobs"] = winner.knobs, result["shapes"] = winner.verdict.shapes;
        return result;
    }

    const TuneTask &task_;
    const ManifestEntry &entry_;
    const Space &space_;
    const TuneOptions &options_;
    Cores cores_;
    std::string folder_, work_;
    WorkerSetup setup_;
    int tried_ = 0, resumed_ = 0;
    double best_ratio_ = 1;
    std::string best_text_;
    std::map<std::string, int> counts_;
    std::vector<std::pair<double, int>> good_;
};

}  // namespace

std::vector<std::string> few_of(const std::vector<std::string> &shapes) {
    constexpr size_t most = 3;
    if (shapes.size() <= most) return shapes;
    std::vector<std::string> few;
    for (size_t n = 0; n < most; n++) few.push_back(shapes[n * (shapes.size() - 1) / (most - 1)]);
    return few;
}

void remove_abandoned(const std::string &tune) {
    constexpr std::string_view asked = ".asked.";
    std::error_code ignored;
    std::vector<fs::path> abandoned;
    for (const auto &target : fs::directory_iterator(tune, ignored))
        for (const auto &entry : fs::directory_iterator(target, ignored)) {
            const std::string name = entry.path().filename().string();
            const size_t mark = name.rfind(asked);
            const int asker = mark == name.npos ? 0 : std::atoi(name.c_str() + mark + asked.size());
            const bool gone = asker > 0 && kill(asker, 0) != 0 && errno == ESRCH;  // a question waits for no search, so its asker may live
            if (gone || name.ends_with(".work")) abandoned.push_back(entry.path());
        }
    for (const fs::path &folder : abandoned) fs::remove_all(folder, ignored);
}

TuneTask make_task(const Manifest &manifest, const ManifestEntry &entry, const std::string &report) {
    const json parsed = json::parse(report);
    TuneTask task{&manifest, &entry, space_of(parsed), parsed.at("knobs").get<KnobValues>(), parsed.at("origin")};
    // A folder of its own: a search may be at work on the same kernel.
    const std::string work = manifest.build_dir + "/tune/" + entry.target + "/" + entry.record + ".asked." + std::to_string(getpid());  // remove_abandoned() knows this name
    find_valid_points(manifest, entry, task.space, work);
    fs::remove_all(work);
    return task;
}

json tune(const TuneTask &task, const TuneOptions &options) { return Session(task, options).run(); }

void watch_interrupts() {
    struct sigaction action {};
    action.sa_handler = [](int) {
        if (++interrupt_count > 2) _exit(130);
    };
    sigaction(SIGINT, &action, nullptr);
    sigaction(SIGTERM, &action, nullptr);
}

int interrupts() { return interrupt_count; }

}  // namespace aft::tool
