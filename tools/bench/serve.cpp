// aft bench-peer: what `aft bench --against` starts of each build (against.h). Questions come on stdin, answers go to stdout, one
// line of JSON each: {"prepare": kernel, "shape", "least_seconds"} or {"prepare": "step" or "decode", "preset", "batch", "context",
// "least_seconds"} to {"id"} or {"missing": why}; {"run": id} to {"seconds", "calls"}. Builds of different versions speak to each other:
// what is asked here today must be answered tomorrow.
#include <cstdio>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>

#include "aft/error.h"
#include "aft/version.h"
#include "kernel_table.h"
#include "runtime/json.h"
#include "tools/bench/measure.h"
#include "tools/bench/model_step.h"
#include "tools/bench/workload.h"
#include "tools/command.h"

namespace aft::tool {
namespace {

using nlohmann::json;

void say(const json &answer) {
    std::puts(answer.dump().c_str());
    std::fflush(stdout);
}

std::function<void()> prepare(const json &question) {
    const std::string what = question.at("prepare");
    if (question.contains("preset")) {
        const ModelConfig config = model_of(question.at("preset"), question.at("context"));
        const int64_t batch = question.at("batch");
        if (what == "step") return [step = std::make_shared<ModelStep>(config, batch)] { step->run(); };
        if (what == "decode") return [decoding = std::make_shared<ModelDecoding>(config, batch)] { decoding->make_room(1), decoding->run(); };
    } else {
        const WorkShape shape = question.at("shape");
        for (const WorkloadMaker &maker : workload_makers())
            if (maker.kernel == what && maker.takes(shape)) return maker.make(shape).run;
    }
    throw Error("it has no " + what + " of this kind");
}

int serve() {
    say({{"ready", "aft " AFT_VERSION}, {"note", std::string("table ") + kernels().target}});
    std::vector<Sampler> samplers;
    for (std::string line; std::getline(std::cin, line);) {
        const json question = parse_json(line, "a question");
        if (question.contains("prepare")) {
            try {
                samplers.push_back(warm_sampler(prepare(question), question.at("least_seconds")));
                say({{"id", samplers.size() - 1}});
            } catch (const std::runtime_error &error) {  // of this question alone
                say({{"missing", error.what()}});
            }
        } else {
            const Sample sample = samplers.at(question.at("run"))();
            say({{"seconds", sample.seconds}, {"calls", sample.calls}});
        }
    }
    return exit_done;
}

const Command command{"bench-peer", "", Group::hidden, [](CLI::App &, const Common &) { return serve; }};

}  // namespace
}  // namespace aft::tool
