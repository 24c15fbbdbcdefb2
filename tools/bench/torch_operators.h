// `aft bench --peer torch`: the same workloads in PyTorch (tools/peers/torch_ops.py), one program for all of them, whose
// samples are taken in turn with ours.
#pragma once
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "tools/bench/measure.h"
#include "tools/bench/peer.h"
#include "tools/bench/workload.h"
#include "tools/command.h"

namespace aft::tool {

struct PeerOptions {
    std::string name, python = "python3", folder = AFT_PEERS_DIR;
    std::vector<std::string> forms = {"eager", "compiled"};
};
void add_peer_options(CLI::App &app, PeerOptions &options, const std::string &group);
void check(const PeerOptions &options);  // throws UsageError for a name that is not known

class TorchOperators {
public:
    explicit TorchOperators(const PeerOptions &options);  // says in one warning when there is no such peer

    bool ready() const { return bool(peer_); }
    const std::vector<std::string> &forms() const { return options_.forms; }

    // A workload made ready in one form. Its samples are NaN from where the peer fails on.
    struct Prepared {
        Sampler sampler;
        std::string note;
        int64_t id;
    };
    // Empty, and said once per kernel and form, when the peer cannot do it.
    std::optional<Prepared> prepare(const Workload &workload, const std::string &form, double least_seconds);
    void drop(int64_t id);

private:
    nlohmann::json ask(const nlohmann::json &question);  // an empty object when the peer is gone

    PeerOptions options_;
    std::unique_ptr<Peer> peer_;
};

}  // namespace aft::tool
