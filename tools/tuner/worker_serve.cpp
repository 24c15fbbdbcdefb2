// The worker's side: prepares, then forks a child for each candidate and watches it.
#include <dlfcn.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>

#include "aft/error.h"
#include "aft/threads.h"
#include "runtime/halide_hooks.h"
#include "tests/reference/operator_case.h"
#include "tools/bench/cold.h"
#include "tools/bench/measure.h"
#include "tools/bench/workload.h"
#include "tools/tuner/process.h"
#include "tools/tuner/variant.h"
#include "tools/tuner/worker.h"

namespace aft::tool {
namespace {

using nlohmann::json;
using reference::OperatorCase;

void write_line(int to, const json &line) {
    const std::string text = line.dump(-1, ' ', true, json::error_handler_t::replace) + "\n";
    for (size_t at = 0; at < text.size();) {
        const ssize_t put = write(to, text.data() + at, text.size() - at);
        if (put < 0 && errno != EINTR) return;
        if (put > 0) at += size_t(put);
    }
}

struct Prepared {
    std::string symbol;
    const KernelTable *incumbent = nullptr;
    std::vector<OperatorCase> cases;  // those that take the variant, each with its oracle's results kept
    std::vector<std::string> shapes, arguments;
    std::vector<int> cpus;
    double wall_s = 0;
    int64_t memory_bytes = 0;
    bool cold = false;
    std::string complaint;
};

const WorkloadMaker &maker_of(const std::string &kernel, const WorkShape &shape) {
    for (const WorkloadMaker &maker : workload_makers())
        if (maker.times(kernel) && maker.takes(shape)) return maker;
    throw Error(kernel + ": there is no workload of shape " + to_string(shape));
}

Prepared prepare(const json &setup) {
    const std::string kernel = setup.at("kernel");
    Prepared p;
    p.symbol = setup.at("symbol"), p.cpus = setup.at("cpus").get<std::vector<int>>(), p.memory_bytes = setup.at("memory_mib").get<int64_t>() << 20;
    p.cold = setup.value("cold", false);
    p.incumbent = &kernel_table(setup.at("target").get<std::string>());
    const CountingTable counting = counting_table(*p.incumbent, p.symbol);
    use_kernel_table(*counting.table);
    const auto takes_variant = [&](const auto &run) {
        const int64_t before = counting.calls();
        run();
        return counting.calls() > before;
    };
    double gate_s = 0, calls_s = 0;
    for (const OperatorCase &c : reference::operator_cases()) {
        if (std::ranges::find(c.kernels, kernel) == c.kernels.end() || c.large) continue;
        if (!takes_variant([&] { c.run(c.inputs()); })) continue;
        OperatorCase kept = c;
        kept.oracle = [results = c.oracle(reference::to_arrays(c.inputs()))](const reference::Arrays &) { return results; };
        const double start = now();
        const reference::Check check = reference::check_against_oracle(kept);
        gate_s += now() - start;
        if (!check.passed && p.complaint.empty()) p.complaint = c.name + ": " + check.message;
        p.cases.push_back(std::move(kept));
    }
    if (p.cases.empty()) throw Error(p.symbol + ": no operator case takes this variant, so a candidate could not be checked");
    for (const std::string text : setup.at("shapes")) {
        const WorkShape shape = parse_shape(text);
        const Workload work = maker_of(kernel, shape).make(shape);
        counting.forget();
        const double start = now();
        if (p.cold && !work.layers) empty_caches();
        if (takes_variant(work.run)) p.shapes.push_back(text), p.arguments.push_back(counting.arguments()), calls_s += now() - start;
    }
    use_kernel_table(*p.incumbent);
    p.wall_s = setup.at("wall_s");
    // What the incumbent takes, with room for slower ones: they are stopped early once they are timed.
    if (p.wall_s <= 0) p.wall_s = 10 + 10 * gate_s + 60 * calls_s;
    return p;
}

// --- in the candidate's own process

struct Stage {  // what the candidate is at, for the message when it does not survive that
    int to;
    void operator()(const std::string &text) const { write_line(to, {{"stage", text}}); }
};

const KernelTable &load(const Prepared &p, const std::string &object) {
    void *library = dlopen(object.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (!library) throw Error(dlerror());
    void *run = dlsym(library, p.symbol.c_str());
    if (!run) throw Error(object + " has no function " + p.symbol);
    const HalideHooks hooks = halide_hooks();
    if (void *set = dlsym(library, "halide_set_error_handler")) reinterpret_cast<decltype(&halide_set_error_handler)>(set)(hooks.on_error);
    if (void *set = dlsym(library, "halide_set_custom_do_par_for")) reinterpret_cast<decltype(&halide_set_custom_do_par_for)>(set)(hooks.do_par_for);
    return table_with(*p.incumbent, p.symbol, run);
}

bool gate(const Prepared &p, const KernelTable &candidate, const json &request, const Stage &stage, Verdict &verdict) {
    const bool determinism = request.at("determinism"), refusals = request.value("refusals", false);
    set_thread_count(2);  // parallel loops in parallel
    use_kernel_table(candidate);
    for (const OperatorCase &c : p.cases) {
        stage("in case " + c.name);
        reference::Check check;
        verdict.cases++;
        try {
            check = reference::check_against_oracle(c);
        } catch (const Error &error) {
            if (!refusals) throw;
            if (verdict.refused++ == 0) verdict.message = c.name + ": " + error.what();
            continue;
        }
        verdict.gate_error = std::max(verdict.gate_error, check.worst);
        if (check.passed && determinism) check = reference::check_determinism(c);
        if (check.passed) continue;
        verdict.status = "wrong", verdict.message = c.name + ": " + check.message;
        return false;
    }
    if (verdict.refused < verdict.cases) return true;
    verdict.status = "failed";
    return false;
}

// Pairs of samples, incumbent and candidate in alternating order; false when it is stopped as too slow.
bool time_shape(const Prepared &p, const KernelTable &candidate, const json &request, const std::string &text, ShapeTime &found) {
    const std::string kernel = p.symbol.substr(0, p.symbol.find("__"));
    const WorkShape shape = parse_shape(text);
    const Workload work = maker_of(kernel, shape).make(shape);
    const KernelTable *tables[] = {p.incumbent, &candidate};
    const bool alone = p.cold && !work.layers;  // each call behind emptied caches
    const std::function<void()> run = p.cold && work.layers ? layer_by_layer(work) : work.run;
    const auto timed = [&](int which, int64_t calls) {
        use_kernel_table(*tables[which]);
        if (alone) empty_caches();
        const double start = now();
        for (int64_t n = 0; n < calls; n++) run();
        return (now() - start) / double(calls);
    };
    const double slow = request.at("slow"), budget = request.at("seconds");
    found.shape = text, found.flops = work.flops, found.bytes = work.bytes;
    double first[2] = {};
    const auto wall = [start = now()] { return now() - start; };
    for (int which : {0, 1}) timed(which, 1), first[which] = timed(which, 1);
    const int64_t calls = alone ? 1 : std::max<int64_t>(1, int64_t(2e-3 / std::min(first[0], first[1])));
    const double pair = alone ? 0.5 * wall() : double(calls) * (first[0] + first[1]);  // emptying takes longer than the call
    const int rounds = std::clamp(int(budget / pair), request.at("least_rounds").get<int>(), request.at("most_rounds").get<int>());
    std::vector<double> times[2], ratios;
    const auto finish = [&] {
        found.seconds = median(times[1]), found.incumbent_seconds = median(times[0]);
        found.spread = middle_deviation(times[1], found.seconds) / found.seconds;
        const Ratio ratio = middle_ratio(ratios);
        found.ratio = ratio.centre, found.ratio_spread = ratio.spread, found.rounds = int(ratio.pairs);
    };
    for (int round = 0; round < rounds; round++) {
        double seconds[2];
        for (int turn : {0, 1}) {
            const int which = turn ^ (round % 2);
            seconds[which] = timed(which, calls);
        }
        for (int which : {0, 1}) times[which].push_back(seconds[which]);
        ratios.push_back(seconds[1] / seconds[0]);
        // Clearly too slow already: two pairs for a far one, four for a near one.
        finish();
        if ((round == 1 && std::ranges::min(ratios) > 1.25 * slow) || (round == 3 && found.ratio - found.ratio_spread > slow)) return false;
    }
    return true;
}

Verdict judge(const Prepared &p, const json &request, const Stage &stage) {
    Verdict verdict;
    stage("while it was loaded");
    const KernelTable &candidate = load(p, request.at("object"));
    if (!gate(p, candidate, request, stage, verdict)) return verdict;
    verdict.status = "ok";
    pin_to(p.cpus);
    set_thread_count(int(std::max<size_t>(1, p.cpus.size())));  // new threads, pinned too
    std::vector<std::string> shapes = request.at("shapes");
    if (shapes.empty()) shapes = p.shapes;
    double logs = 0, variance = 0;
    for (const std::string &shape : shapes) {
        stage("while it was timed at " + shape);
        ShapeTime found;
        const bool finished = time_shape(p, candidate, request, shape, found);
        verdict.shapes.push_back(found);
        logs += std::log(found.ratio);
        const double error = Ratio{found.ratio, found.ratio_spread, size_t(found.rounds)}.error();
        variance += error * error;
        if (finished) continue;
        verdict.status = "slow";
        break;
    }
    const auto count = double(std::max<size_t>(1, verdict.shapes.size()));
    verdict.ratio = std::exp(logs / count), verdict.noise = std::sqrt(variance) / count;
    return verdict;
}

double time_limit(const Prepared &p, const json &request) {
    return candidate_time(p.wall_s, request.at("seconds"), request.at("shapes"), p.shapes);
}

int64_t address_space() {
    int64_t pages = 0;
    std::ifstream("/proc/self/statm") >> pages;
    return pages * sysconf(_SC_PAGESIZE);
}

[[noreturn]] void candidate_process(const Prepared &p, const json &request, int to) {
    setpgid(0, 0);
    prctl(PR_SET_PDEATHSIG, SIGKILL);  // a killed worker leaves no hanging candidate
    const auto limit = [](auto what, int64_t value) {
        const rlimit r{rlim_t(value), rlim_t(value)};
        setrlimit(what, &r);
    };
    limit(RLIMIT_CORE, 0);
    limit(RLIMIT_AS, address_space() + p.memory_bytes);
    limit(RLIMIT_CPU, int64_t(time_limit(p, request) * double(std::max<size_t>(2, p.cpus.size()))) + 1);
    Verdict verdict;
    const auto failed = [&](const char *status, const std::string &message) { verdict.status = status, verdict.message = message; };
    try {
        verdict = judge(p, request, Stage{to});
    } catch (const std::bad_alloc &) {
        failed("memory", "it needs more than " + std::to_string(p.memory_bytes >> 20) + " MiB");
    } catch (const std::exception &error) {
        const std::string message = error.what();
        failed(message.find("ut of memory") == std::string::npos ? "failed" : "memory", message);
    }
    write_line(to, verdict);
    _exit(0);
}

// --- in the worker

json watch(const Prepared &p, const json &request) {
    const double wall_s = time_limit(p, request), start = now(), deadline = start + wall_s;
    int channel[2];
    if (pipe(channel) != 0) throw Error(std::string("no pipe: ") + std::strerror(errno));
    const pid_t child = fork();
    if (child < 0) throw Error(std::string("no process for a candidate: ") + std::strerror(errno));
    if (child == 0) {
        close(channel[0]);
        candidate_process(p, request, channel[1]);
    }
    close(channel[1]);
    std::string text;
    bool hung = false;
    while (true) {
        pollfd wait{channel[0], POLLIN, 0};
        const int found = poll(&wait, 1, int(std::max(0.0, deadline - now()) * 1000) + 1);
        if (found < 0 && errno == EINTR) continue;
        if (found <= 0) {
            hung = true;
            break;
        }
        char some[4096];
        const ssize_t got = read(channel[0], some, sizeof some);
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) break;
        text.append(some, size_t(got));
    }
    close(channel[0]);
    kill(-child, SIGKILL), kill(child, SIGKILL);  // it is done, or it is at fault
    int status = 0;
    waitpid(child, &status, 0);
    Verdict verdict;
    std::string stage;
    for (size_t at = 0, end; (end = text.find('\n', at)) != std::string::npos; at = end + 1) {
        const json line = json::parse(text.substr(at, end - at), nullptr, false);
        if (line.is_discarded()) continue;
        if (line.contains("stage")) stage = line.at("stage");
        else verdict = line.get<Verdict>();
    }
    if (verdict.status.empty()) {
        const bool out_of_time = hung || (WIFSIGNALED(status) && WTERMSIG(status) == SIGXCPU);
        verdict.status = out_of_time ? "hung" : "crashed";
        verdict.message = (out_of_time ? "took longer than " + std::to_string(int(std::ceil(wall_s))) + " s" : describe_status(status)) + " " + stage;
    }
    verdict.seconds = now() - start;
    return verdict;
}

bool read_line(int from, std::string &buffer, std::string &line) {
    size_t end;
    while ((end = buffer.find('\n')) == std::string::npos) {
        char some[4096];
        const ssize_t got = read(from, some, sizeof some);
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) return false;
        buffer.append(some, size_t(got));
    }
    line = buffer.substr(0, end);
    buffer.erase(0, end + 1);
    return true;
}

}  // namespace

int serve_worker(int in, int out) {
    const int replies = dup(out);
    dup2(2, out);  // what a candidate prints must not stand among the replies
    set_thread_count(1);  // a fork takes only the calling thread along
    std::string buffer, line;
    if (!read_line(in, buffer, line)) return 0;
    Prepared prepared;
    try {
        prepared = prepare(json::parse(line));
    } catch (const std::exception &error) {
        write_line(replies, {{"error", error.what()}});
        return 1;
    }
    write_line(replies, {{"shapes", prepared.shapes}, {"arguments", prepared.arguments}, {"cases", prepared.cases.size()}, {"wall_s", prepared.wall_s}, {"complaint", prepared.complaint}});
    while (read_line(in, buffer, line)) write_line(replies, watch(prepared, json::parse(line)));
    return 0;
}

}  // namespace aft::tool
