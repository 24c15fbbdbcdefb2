// Another program that does the same work: started once, then asked for one timed step at a time, so that its samples and ours
// alternate (tools/peers/; one line of JSON per answer).
#pragma once
#include <sys/types.h>

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace aft::tool {

class Peer {
public:
    // Starts `command` and waits until it says that it is ready; throws Error with its last words when it does not.
    explicit Peer(const std::vector<std::string> &command);
    ~Peer();
    Peer(const Peer &) = delete;

    struct Step {
        double seconds = 0, memory_bytes = 0;
    };
    Step step();
    nlohmann::json ask(const nlohmann::json &question);  // the answer, an object; throws Error when there is none
    const std::string &version() const { return version_; }
    const std::string &note() const { return note_; }  // how it does the work

private:
    std::string line();
    [[noreturn]] void give_up(const std::string &why);

    pid_t process_ = -1;
    int in_ = -1, out_ = -1;
    std::string buffer_, log_, version_, note_;
};

}  // namespace aft::tool
