// The parent's side of the worker.
#include "tools/tuner/worker.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <nlohmann/json.hpp>

#include "aft/error.h"
#include "tools/bench/measure.h"
#include "tools/tuner/process.h"

namespace aft::tool {

using nlohmann::json;

void to_json(json &j, const ShapeTime &t) {
    j = {{"shape", t.shape}, {"seconds", t.seconds}, {"incumbent_seconds", t.incumbent_seconds}, {"spread", t.spread}, {"ratio", t.ratio},
         {"ratio_spread", t.ratio_spread}, {"rounds", t.rounds}, {"flops", t.flops}, {"bytes", t.bytes}};
}

void from_json(const json &j, ShapeTime &t) {
    j.at("shape").get_to(t.shape), j.at("seconds").get_to(t.seconds), j.at("incumbent_seconds").get_to(t.incumbent_seconds), j.at("spread").get_to(t.spread);
    j.at("ratio").get_to(t.ratio), j.at("ratio_spread").get_to(t.ratio_spread), j.at("rounds").get_to(t.rounds), j.at("flops").get_to(t.flops), j.at("bytes").get_to(t.bytes);
}

void to_json(json &j, const Verdict &v) {
    j = {{"status", v.status}, {"message", v.message}, {"ratio", v.ratio}, {"noise", v.noise}, {"gate_error", v.gate_error},
         {"cases", v.cases}, {"refused", v.refused}, {"shapes", v.shapes}, {"seconds", v.seconds}};
}

void from_json(const json &j, Verdict &v) {
    j.at("status").get_to(v.status), j.at("message").get_to(v.message), j.at("ratio").get_to(v.ratio), j.at("noise").get_to(v.noise);
    v.refused = j.value("refused", 0);  // journals of older versions lack it
    j.at("gate_error").get_to(v.gate_error), j.at("cases").get_to(v.cases), j.at("shapes").get_to(v.shapes), j.at("seconds").get_to(v.seconds);
}

Worker::Worker(WorkerSetup setup) : setup_(std::move(setup)) { start(); }
Worker::~Worker() { stop(); }

void Worker::start() {
    int to[2], from[2];
    if (pipe2(to, O_CLOEXEC) != 0 || pipe2(from, O_CLOEXEC) != 0) throw Error(std::string("no pipe to a worker: ") + std::strerror(errno));
    signal(SIGPIPE, SIG_IGN);
    process_ = fork();
    if (process_ < 0) throw Error(std::string("cannot start a worker: ") + std::strerror(errno));
    if (process_ == 0) {
        setpgid(0, 0);  // Ctrl-C is the tuner's
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        dup2(to[0], 0), dup2(from[1], 1);
        execl("/proc/self/exe", "aft", "tune-worker", nullptr);
        _exit(127);
    }
    close(to[0]), close(from[1]);
    in_ = to[1], out_ = from[0];
    buffer_.clear();
    send({{"kernel", setup_.kernel}, {"symbol", setup_.symbol}, {"target", setup_.target}, {"shapes", setup_.shapes}, {"cpus", setup_.cpus},
          {"wall_s", setup_.wall_s}, {"memory_mib", setup_.memory_mib}, {"cold", setup_.cold}});
    const json ready = receive(3600);
    if (ready.contains("error")) throw Error(ready.at("error").get<std::string>());
    shapes_ = ready.at("shapes"), arguments_ = ready.at("arguments"), cases_ = ready.at("cases"), wall_s_ = ready.at("wall_s"), complaint_ = ready.at("complaint");
}

void Worker::stop() {
    if (process_ < 0) return;
    close(in_), close(out_);
    kill(-process_, SIGKILL), kill(process_, SIGKILL);
    waitpid(process_, nullptr, 0);
    process_ = -1;
}

void Worker::send(const json &line) {
    const std::string text = line.dump() + "\n";
    for (size_t at = 0; at < text.size();) {
        const ssize_t put = write(in_, text.data() + at, text.size() - at);
        if (put < 0 && errno == EINTR) continue;
        if (put < 0) throw Error("the worker does not listen any more");
        at += size_t(put);
    }
}

json Worker::receive(double seconds) {
    const double deadline = now() + seconds;
    while (true) {
        if (const size_t end = buffer_.find('\n'); end != std::string::npos) {
            const std::string line = buffer_.substr(0, end);
            buffer_.erase(0, end + 1);
            return json::parse(line);
        }
        pollfd wait{out_, POLLIN, 0};
        const int found = poll(&wait, 1, int(std::max(0.0, deadline - now()) * 1000) + 1);
        if (found < 0 && errno == EINTR) continue;
        if (found <= 0) throw Error("the worker does not answer");
        char some[4096];
        const ssize_t got = read(out_, some, sizeof some);
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) throw Error("the worker ended");
        buffer_.append(some, size_t(got));
    }
}

Verdict Worker::judge(const WorkerRequest &r) {
    Verdict verdict;
    for (int attempt = 0; attempt < 2; attempt++) try {
        send({{"object", r.object}, {"slow", r.slow}, {"seconds", r.seconds}, {"least_rounds", r.least_rounds}, {"most_rounds", r.most_rounds},
              {"shapes", r.shapes}, {"determinism", r.determinism}, {"refusals", r.refusals}});
        return receive(2 * candidate_time(wall_s_, r.seconds, r.shapes, shapes_) + 60).get<Verdict>();
    } catch (const std::exception &error) {  // the worker itself is gone: the candidate is at fault only if that happens again
        stop();
        start();
        verdict.status = "crashed", verdict.message = error.what();
    }
    return verdict;
}

}  // namespace aft::tool
