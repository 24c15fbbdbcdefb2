// A workload: one kernel (or operator) at one shape, ready to be called again and again; what `aft bench` times and what
// `aft tune` times candidates with. Each family registers its own in tools/bench/workloads_<family>.cpp.
#pragma once
#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

namespace aft::tool {

// "M=4096,N=1536,K=512" or "B=8,T=1024,C=512": names are the letters of SPEC.
using WorkShape = std::map<std::string, int64_t>;
WorkShape parse_shape(const std::string &text);  // throws UsageError
std::string to_string(const WorkShape &shape);

struct Workload {
    std::string kernel;  // entry of the kernel list, or the operator's name
    WorkShape shape;
    double flops = 0;    // useful floating-point operations of one call; exp and division count once
    double bytes = 0;    // least memory traffic of one call: every input read once, every output written once
    double written = 0;  // that part of `bytes` which is written
    double updated = 0;  // that part of `written` which is updated in place (and so counts twice in `bytes`)
    std::function<void()> run;  // allocates nothing

    // Of decoding's kernels, for cold calls (tools/bench/cold.h): `run` on the weights of each of `count` layers, with the same activations.
    std::function<std::vector<std::function<void()>>(int64_t count)> layers = {};
    double layer_bytes = 0;  // of the weights of one

    std::string name() const;  // "gemm_nn_f32/K:512/M:4096/N:1536"
};

struct WorkloadMaker {
    std::string kernel;
    std::vector<std::string> letters;     // the shape it takes
    std::vector<WorkShape> model_shapes;  // those of the paper's models
    std::function<Workload(const WorkShape &)> make;
    std::vector<std::string> kernels = {};  // of an operator: those that the tuner times by it

    bool times(const std::string &name) const;  // itself, or one of `kernels`
    bool takes(const WorkShape &shape) const;  // all the letters and no other
};

// Sorted by kernel.
const std::vector<WorkloadMaker> &workload_makers();

struct RegisterWorkloads {
    explicit RegisterWorkloads(std::function<std::vector<WorkloadMaker>()> make);
};

}  // namespace aft::tool
