#include "tools/bench/torch_operators.h"

#include <spdlog/spdlog.h>

#include <limits>

#include "aft/error.h"
#include "aft/threads.h"

namespace aft::tool {

using nlohmann::json;

void add_peer_options(CLI::App &app, PeerOptions &o, const std::string &group) {
    app.add_option("--peer", o.name, "Time the same in another program too, sample by sample in turn: torch")->group(group);
    app.add_option("--peer-python", o.python, "The Python that has PyTorch")->group(group)->capture_default_str();
    app.add_option("--peer-folder", o.folder, "Where the peer's programs are")->group(group)->capture_default_str();
    app.add_option("--peer-forms", o.forms, "eager, compiled, bf16 (autocast), formula (as the paper writes it, AFT-local), with commas")
        ->check(CLI::IsMember({"eager", "compiled", "bf16", "formula"}))->delimiter(',')->group(group);
}

void check(const PeerOptions &o) {
    if (!o.name.empty() && o.name != "torch") throw UsageError("--peer '" + o.name + "' is not known: torch");
}

TorchOperators::TorchOperators(const PeerOptions &options) : options_(options) {
    try {
        peer_ = std::make_unique<Peer>(std::vector<std::string>{options.python, options.folder + "/torch_ops.py"});
    } catch (const Error &error) {
        spdlog::warn("warning: no peer torch ({}): {}; the rest goes on without it", options.python, error.what());
    }
}

json TorchOperators::ask(const json &question) {
    if (!peer_) return json::object();
    try {
        return peer_->ask(question);
    } catch (const Error &error) {
        spdlog::warn("warning: the peer torch failed: {}; the rest goes on without it", error.what());
        peer_.reset();
        return json::object();
    }
}

std::optional<TorchOperators::Prepared> TorchOperators::prepare(const Workload &w, const std::string &form, double least_seconds) {
    const json answer = ask({{"prepare", w.kernel}, {"shape", w.shape}, {"form", form}, {"threads", thread_count()}});
    if (!answer.contains("id")) {
        if (answer.contains("missing")) spdlog::info("torch {}, {}: {}", form, w.name(), answer.at("missing").get<std::string>());
        return std::nullopt;
    }
    const int64_t id = answer.at("id");
    const auto sampler = [this, id, least_seconds] {
        const json sample = ask({{"run", id}, {"least_seconds", least_seconds}});
        return Sample{sample.value("seconds", std::numeric_limits<double>::quiet_NaN()), sample.value("calls", int64_t(0))};
    };
    return Prepared{sampler, answer.value("note", ""), id};
}

void TorchOperators::drop(int64_t id) { ask({{"drop", id}}); }

}  // namespace aft::tool
