// Decoding of AFT-local on a CPU: channels along the vector, sequences over the threads.
//
// At batch 1 a kernel is 1 to 3 us of work, less than handing a part of it to another thread is worth: a task is a sequence of
// 256 channels, and a loop of one task never leaves its thread.
#include "generators/local_step.h"
#include "schedules/plan.h"

namespace aft {
namespace {

using namespace Halide;
constexpr int task_channels = 256;

struct Numbers {
    int lanes, vectors;
};

void schedule_bias(LocalBias &s, int lanes) {
    Var no{"no"}, ni{"ni"};
    s.w.split(s.n, no, ni, 4, guard);  // four rows share the vector of u and hide the latency of the sums
    s.partial.compute_at(s.w, no).store_in(MemoryType::Register).bound_extent(s.n, 4).bound_extent(s.l, lanes).vectorize(s.l, lanes).unroll(s.n);
    s.partial.update().reorder(s.l, s.n, s.steps).vectorize(s.l, lanes).unroll(s.n);
    s.total.compute_at(s.w, no).bound_extent(s.n, 4).unroll(s.n);
    s.total.update().reorder(s.lane, s.n).atomic().vectorize(s.lane, lanes).unroll(s.n);
}

void schedule_fold(LocalFold &s, int lanes) {
    Var block{"block"}, ci{"ci"}, task{"task"};
    s.far.update().split(s.c, block, ci, task_channels, guard).fuse(block, s.b, task).reorder(ci, s.tokens, task, s.one).vectorize(ci, lanes, guard).parallel(task);
}

void schedule_push(LocalPush &s, int lanes) {
    Var block{"block"}, ci{"ci"}, task{"task"};
    s.state.update().split(s.c, block, ci, task_channels, guard).fuse(block, s.b, task).reorder(ci, task, s.one).vectorize(ci, lanes, guard).parallel(task);
}

void schedule_mix(LocalMix &s, const Numbers &n) {
    Var block{"block"}, ci{"ci"}, co{"co"}, task{"task"};
    const int tile = n.vectors * n.lanes;
    s.result.split(s.c, block, ci, task_channels, guard).fuse(block, s.b, task).split(ci, co, ci, tile, guard);
    s.result.reorder(ci, co, task).vectorize(ci, n.lanes, guard).parallel(task);
    const auto place = [&](auto stage) { stage.vectorize(s.c, n.lanes).unroll(s.c); };
    s.sums.compute_at(s.result, co).bound_extent(s.c, tile), place(s.sums);
    place(s.sums.update().reorder(s.c, s.chunks, s.b));
    s.part.compute_at(s.sums, s.chunks).bound_extent(s.c, tile), place(s.part);
    place(s.part.update().reorder(s.c, s.in_chunk, s.b, s.chunk));
}

}  // namespace

LocalStepPlan plan_local_step(const Request &request) {
    return planned(request, [&](const Machine &machine, Knobs &knobs) -> LocalStepPlan {
        const int lanes = machine.lanes;
        const int vectors = knobs.only(request.part == "mix", "tile_vectors", lanes == 16 ? 4 : 2, {1, 2, 4, 8}, "vectors of channels whose sums are in registers at a time");
        return {.lanes = lanes / 2,
                .bias = [=](LocalBias &s) { schedule_bias(s, lanes / 2); },
                .fold = [=](LocalFold &s) { schedule_fold(s, lanes / 2); },
                .push = [=](LocalPush &s) { schedule_push(s, lanes); },
                .mix = [=](LocalMix &s) { schedule_mix(s, {lanes, vectors}); }};
    });
}

}  // namespace aft
