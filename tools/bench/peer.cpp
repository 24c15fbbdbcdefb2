#include "tools/bench/peer.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <fstream>

#include "aft/error.h"
#include "tools/bench/temporary.h"

namespace aft::tool {
namespace {

constexpr int patience_ms = 600'000;  // a compiled form takes minutes to get warm

std::string last_line(const std::string &path) {
    std::ifstream in(path);
    std::string last;
    for (std::string line; std::getline(in, line);)
        if (!line.empty()) last = line;
    return last;
}

}  // namespace

Peer::Peer(const std::vector<std::string> &command) {
    int to[2], from[2];
    log_ = temporary_pattern("peer");
    const int log = mkstemp(log_.data());
    if (log < 0 || pipe2(to, O_CLOEXEC) != 0 || pipe2(from, O_CLOEXEC) != 0) throw Error(std::string("no pipe to the peer: ") + std::strerror(errno));
    signal(SIGPIPE, SIG_IGN);
    std::vector<char *> argv;
    for (const std::string &word : command) argv.push_back(const_cast<char *>(word.c_str()));
    argv.push_back(nullptr);
    process_ = fork();
    if (process_ == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        dup2(to[0], 0), dup2(from[1], 1), dup2(log, 2);
        execvp(argv[0], argv.data());
        dprintf(2, "%s\n", std::strerror(errno));
        _exit(127);
    }
    close(to[0]), close(from[1]), close(log);
    in_ = to[1], out_ = from[0];
    if (process_ < 0) give_up("it cannot be started");
    const auto ready = nlohmann::json::parse(line(), nullptr, false);
    if (!ready.is_object() || !ready.contains("ready")) give_up("its first line is no JSON");
    version_ = ready.at("ready"), note_ = ready.value("note", "");
}

Peer::~Peer() {
    if (in_ >= 0) close(in_), close(out_);
    if (process_ > 0) kill(process_, SIGKILL), waitpid(process_, nullptr, 0);
    std::error_code ignored;
    std::filesystem::remove(log_, ignored);
}

void Peer::give_up(const std::string &why) {
    const std::string last = last_line(log_);
    if (in_ >= 0) close(in_), close(out_);
    if (process_ > 0) kill(process_, SIGKILL), waitpid(process_, nullptr, 0);
    std::error_code ignored;
    std::filesystem::remove(log_, ignored);
    process_ = -1, in_ = -1;
    throw Error(why + (last.empty() ? "" : ": " + last));
}

std::string Peer::line() {
    while (true) {
        if (const size_t end = buffer_.find('\n'); end != std::string::npos) {
            const std::string found = buffer_.substr(0, end);
            buffer_.erase(0, end + 1);
            return found;
        }
        pollfd wait{out_, POLLIN, 0};
        const int ready = poll(&wait, 1, patience_ms);
        if (ready < 0 && errno == EINTR) continue;
        if (ready <= 0) give_up("it does not answer");
        char some[4096];
        const ssize_t got = read(out_, some, sizeof some);
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) give_up("it ended");
        buffer_.append(some, size_t(got));
    }
}

nlohmann::json Peer::ask(const nlohmann::json &question) {
    if (in_ < 0) throw Error("it ended before");
    const std::string text = question.dump() + "\n";
    for (size_t at = 0; at < text.size();) {
        const ssize_t put = write(in_, text.data() + at, text.size() - at);
        if (put < 0 && errno == EINTR) continue;
        if (put <= 0) give_up("it does not listen");
        at += size_t(put);
    }
    auto answer = nlohmann::json::parse(line(), nullptr, false);
    if (!answer.is_object()) give_up("its answer is no JSON");
    return answer;
}

Peer::Step Peer::step() {
    if (in_ < 0) throw Error("it ended before");
    if (write(in_, "step\n", 5) != 5) give_up("it does not listen");
    const auto answer = nlohmann::json::parse(line(), nullptr, false);
    if (!answer.is_object() || !answer.contains("seconds")) give_up("its answer is no time");
    return {answer.at("seconds"), answer.value("memory_bytes", 0.0)};
}

}  // namespace aft::tool
