// Decoding of AFT-local on a CPU: channels along the vector, sequences over the threads.
//
// At batch 1 a kernel is 1 to 3 us of work, less than handing a part of it to another thread is worth: a task is a sequence of
// 256 channels, and a loop of one task never leaves its thread.
#include "generators/local_step.h"
#include "schedules/plan.h"

namespace aft {
namespace {

using namespace Halide;
constexpr int task_channels = 256, line = 16;  // line: floats of a line of the cache

struct Numbers {
    int lanes, vectors, rows;
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

// In registers: the sums of a tile of channels over all keys. By rows: the sums of a wide tile in L1, to which a few keys are added at a
// time, so that the ring is read in the order of its addresses. A mixer's step of 64 sequences of 256 channels on two Zen 3 cores takes, of the
// time of the first form, 0.77 with a window of 32 (4 MB, out of L3) and 0.85 with one of 512 (67 MB, out of memory). With lines asked for
// 8 keys ahead it takes 1.10 and 1.06 of that.
void schedule_mix(LocalMix &s, const Numbers &n) {
    Var block{"block"}, ci{"ci"}, co{"co"}, task{"task"};
    const int tile = n.vectors * n.lanes;
    s.result.split(s.c, block, ci, task_channels, guard).fuse(block, s.b, task).split(ci, co, ci, tile, guard);
    s.result.reorder(ci, co, task).vectorize(ci, n.lanes, guard).parallel(task);
    const auto place = [&](auto stage) {
        stage.vectorize(s.c, n.lanes);
        if (n.rows == 0) stage.unroll(s.c);
    };
    s.sums.compute_at(s.result, co).bound_extent(s.c, tile), place(s.sums);
    place(s.sums.update().reorder(s.c, s.chunks, s.b));
    s.part.compute_at(s.sums, s.chunks).bound_extent(s.c, tile), place(s.part);
    if (n.rows == 0) {
        place(s.part.update().reorder(s.c, s.in_chunk, s.b, s.chunk));
        return;
    }
    RVar together{"together"}, turn{"turn"};
    s.sums.store_in(MemoryType::Stack), s.part.store_in(MemoryType::Stack);
    s.part.update().split(s.in_chunk, turn, together, n.rows).vectorize(s.c, line).reorder(together, s.c, turn, s.b, s.chunk).unroll(together);
}

}  // namespace

LocalStepPlan plan_local_step(const Request &request) {
    return planned(request, [&](const Machine &machine, Knobs &knobs) -> LocalStepPlan {
        const int lanes = machine.lanes;
        const bool mix = request.part == "mix";
        const int rows = knobs.only(mix, "rows", 4, {0, 2, 4, 8}, "keys that are added to the sums of a tile at a time; 0: all, the sums in registers");
        const int vectors = knobs.only(mix, "tile_vectors", task_channels / lanes, {1, 2, 4, 8, 16, 32}, "vectors of channels of a tile");
        knobs.require(rows == 0 ? vectors <= 8 : vectors * lanes <= task_channels, "the sums of a tile fit the registers, or a task is one tile of rows at most");
        return {.lanes = lanes / 2,
                .bias = [=](LocalBias &s) { schedule_bias(s, lanes / 2); },
                .fold = [=](LocalFold &s) { schedule_fold(s, lanes / 2); },
                .push = [=](LocalPush &s) { schedule_push(s, lanes); },
                .mix = [=](LocalMix &s) { schedule_mix(s, {lanes, vectors, rows}); }};
    });
}

}  // namespace aft
