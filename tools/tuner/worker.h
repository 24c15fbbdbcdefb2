// The process that runs candidates: `aft tune-worker`. It prepares the oracles' results once, then forks a child for each
// candidate: the child loads it, checks it against the oracles with poisoned and guarded memory, times it beside the
// incumbent, and is killed when it takes too long or too much memory. So the worker itself never runs candidate code.
//
// Both sides speak JSON, one object a line. First the set-up; then one line for each candidate.
#pragma once
#include <sys/types.h>

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "aft/error.h"

namespace aft::tool {

struct WorkerSetup {
    std::string kernel, symbol, target;
    std::vector<std::string> shapes;  // of the workloads; those that take another variant are left out
    std::vector<int> cpus;            // the timed calls run there, one thread on each
    double wall_s = 0;                // of a candidate; 0: from what the incumbent takes
    int64_t memory_mib = 4096;        // that a candidate may add
    bool cold = false;                // calls are cold (tools/bench/cold.h)
};

struct WorkerRequest {
    std::string object;         // the shared object
    double slow = 1.2;          // time over the incumbent's at which measuring stops
    double seconds = 0.3;       // of timing, for each shape
    int least_rounds = 5, most_rounds = 15;
    std::vector<std::string> shapes;  // to time; empty: all
    bool determinism = false;   // same bits with one and two threads
    bool refusals = false;      // a case that the kernel refuses with an error is counted, not a failure
};

// Seconds after which a candidate is stopped: what the gate takes, and room for a machine that times it at a third of its speed for a while.
inline double candidate_time(double gate_s, double timed_s, const std::vector<std::string> &asked, const std::vector<std::string> &all) {
    return gate_s + 3 * timed_s * double((asked.empty() ? all : asked).size());
}

struct ShapeTime {
    std::string shape;
    double seconds = 0, incumbent_seconds = 0;  // medians
    double spread = 0;                          // median absolute deviation / median
    double ratio = 0, ratio_spread = 0;         // of candidate over incumbent, pair by pair: median, median absolute deviation
    int rounds = 0;
    double flops = 0, bytes = 0;
};

struct Verdict {
    // ok; slow (stopped early); wrong (gate); failed (an error of the kernel); crashed; hung; memory; unbuilt
    std::string status, message;
    double ratio = 0;        // geometric mean over the shapes; 0 when there is none
    double noise = 0;        // its standard error, as a fraction
    double gate_error = 0;   // the worst, in units of what is allowed
    int cases = 0, refused = 0;
    std::vector<ShapeTime> shapes;
    double seconds = 0;
    bool measured() const { return status == "ok" || status == "slow"; }
};

void to_json(nlohmann::json &json, const ShapeTime &time);
void from_json(const nlohmann::json &json, ShapeTime &time);
void to_json(nlohmann::json &json, const Verdict &verdict);
void from_json(const nlohmann::json &json, Verdict &verdict);

/// None of the shapes reaches the variant.
class NotTimed : public Error {
public:
    explicit NotTimed(const std::string &symbol) : Error(symbol + ": none of the shapes takes this variant") {}
};

// The parent's side.
class Worker {
public:
    explicit Worker(WorkerSetup setup);  // starts it and waits until it is ready; throws Error with its reason if it is not
    ~Worker();
    Worker(const Worker &) = delete;

    const std::vector<std::string> &shapes() const { return shapes_; }  // that take this variant
    const std::vector<std::string> &arguments() const { return arguments_; }  // shape by shape: what the kernel is called with (tools/tuner/variant.h)
    int cases() const { return cases_; }
    const std::string &complaint() const { return complaint_; }  // about the incumbent's own gate; "" for none
    Verdict judge(const WorkerRequest &request);  // a worker that dies is started again

private:
    void start();
    void stop();
    void send(const nlohmann::json &line);
    nlohmann::json receive(double seconds);  // throws Error at the end of the stream or of the time

    WorkerSetup setup_;
    std::vector<std::string> shapes_, arguments_;
    int cases_ = 0, in_ = -1, out_ = -1;
    double wall_s_ = 0;
    std::string complaint_, buffer_;
    pid_t process_ = -1;
};

// The worker's side; returns at the end of its input.
int serve_worker(int in, int out);

}  // namespace aft::tool
