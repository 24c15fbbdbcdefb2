#include "tools/bench/cold.h"

#include <cmath>
#include <limits>
#include <memory>

#include "aft/tensor.h"
#include "aft/threads.h"
#include "tools/bench/machine.h"

namespace aft::tool {
namespace {

constexpr double bytes_a_token = 64 << 20;  // the linear layers of the model of 24 layers of 256 channels have 69 MB of weights

}  // namespace

void empty_caches() {
    static Tensor memory = [] {
        Tensor t({2 * cache_bytes(3) / 4});
        t.fill(0);
        return t;
    }();
    const int threads = thread_count();
    on_all_threads(threads, [&](int thread) {
        volatile float *p = memory.data();
        const int64_t lines = memory.elements() / 16;
        for (int64_t n = lines * thread / threads; n < lines * (thread + 1) / threads; n++) p[16 * n] = p[16 * n] + 1;  // one store per cache line
    });
}

std::function<void()> layer_by_layer(const Workload &work) {
    const auto layers = std::make_shared<std::vector<std::function<void()>>>(work.layers(int64_t(std::ceil(bytes_a_token / work.layer_bytes))));
    return [layers, at = size_t(0)]() mutable {
        (*layers)[at]();
        if (++at == layers->size()) at = 0;
    };
}

Sampler cold_sampler(const Workload &work, double least_seconds, int64_t most_calls) {
    if (work.layers) return warm_sampler(layer_by_layer(work), least_seconds);
    return [run = work.run, least_seconds, most_calls] {
        std::vector<double> times;
        for (double spent = 0; times.empty() || (spent < least_seconds && int64_t(times.size()) < most_calls); spent += times.back()) {
            empty_caches();
            const double start = now();
            run();
            times.push_back(now() - start);
        }
        return Sample{median(times), int64_t(times.size())};
    };
}

double footprint(const Workload &work, bool cold) {
    if (!cold) return work.bytes;
    return work.layer_bytes > 0 ? std::max(work.layer_bytes, bytes_a_token) : std::numeric_limits<double>::infinity();
}

}  // namespace aft::tool
