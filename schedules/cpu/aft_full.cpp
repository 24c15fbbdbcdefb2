// The elementwise kernels of AFT-full on a CPU: channels (or keys) along the vector, rows over the threads.
//
// They move memory: a row of C floats is read in its order, and a task is some rows, so that a thread's share is a
// stream. All sums over t are in registers or L1 and keep their order for any number of threads. Loops over rows and tasks are not
// partitioned: the last turn's copy of what is inside would read element by element.
#include "generators/aft_full.h"
#include "schedules/plan.h"

namespace aft {
namespace {

using namespace Halide;

struct Numbers {
    int lanes, rows, step_vectors;
};

void schedule_range(AftRange &r, const Numbers &n) {
    r.result.vectorize(r.c, n.lanes, guard).parallel(r.b);
    r.result.update().reorder(r.c, r.key_time, r.b).vectorize(r.c, n.lanes, guard).parallel(r.b);
}

void schedule_tile(AftTile &e, const Numbers &n) {
    Var task{"task"};
    if (e.result.has_update_definition())
        e.result.update().split(e.t, task, e.t, n.rows, guard).vectorize(e.x, n.lanes, guard).parallel(task).never_partition({e.t, task});
    else
        e.result.split(e.t, task, e.t, n.rows, guard).vectorize(e.x, n.lanes, guard).parallel(task).never_partition({e.t, task});
}

void schedule_reference(AftReference &r, const Numbers &n) {
    Var task{"task"};
    r.result.split(r.t, task, r.t, n.rows, guard).parallel(task);
    r.result.update().split(r.t, task, r.t, n.rows, guard).reorder(r.lanes, r.t, task).parallel(task).never_partition({r.t, task});
    r.partial.compute_at(r.result, r.t).bound_extent(r.lane, n.lanes).vectorize(r.lane, n.lanes);
    r.partial.update().reorder(r.lane, r.steps, r.t).vectorize(r.lane, n.lanes);
}

void schedule_products(AftProducts &p, const Numbers &n) {
    Var task{"task"}, xo{"xo"}, xi{"xi"};
    const int lanes = n.lanes / 2;  // of doubles
    p.v_wide.compute_root().vectorize(p.x, lanes, guard).parallel(p.d);
    p.result.split(p.t, task, p.t, n.rows, guard).vectorize(p.x, lanes, guard).parallel(task);
    p.u_wide.compute_at(p.result, task);
    p.result.update().split(p.t, task, p.t, n.rows, guard).reorder(p.x, p.inner, p.t, task).vectorize(p.x, lanes, guard).parallel(task);
}

void schedule_step(AftStep &s, const Numbers &n) {
    Var block{"block"}, ci{"ci"}, task{"task"};
    const int width = n.step_vectors * n.lanes;
    s.result.split(s.c, block, ci, width, guard).fuse(block, s.b, task).vectorize(ci, n.lanes, guard).parallel(task);
    s.top.compute_at(s.result, task).vectorize(s.c, n.lanes, guard);
    s.top.update().reorder(s.c, s.keys, s.b).vectorize(s.c, n.lanes, guard);
    s.sums.compute_at(s.result, task).vectorize(s.c, n.lanes, guard);
    s.sums.update().reorder(s.c, s.keys, s.b).vectorize(s.c, n.lanes, guard);
}

}  // namespace

AftFullPlan plan_aft_full(const Request &request) {
    return planned(request, [&](const Machine &machine, Knobs &knobs) -> AftFullPlan {
        const int rows = knobs.only(request.part == "rows", "rows", 16, {4, 8, 16, 32}, "rows of a task: 16 x 512 channels are 32 KiB per tensor, some microseconds");
        const int step_vectors = knobs.only(request.part == "step", "step_vectors", 8, {2, 4, 8, 16}, "decoding: vectors of channels in a task; whole cache lines, and tasks enough at B = 1");
        const Numbers n = {machine.lanes, rows, step_vectors};
        return {.lanes = n.lanes,
                .range = [=](AftRange &r) { schedule_range(r, n); },
                .tile = [=](AftTile &e) { schedule_tile(e, n); },
                .reference = [=](AftReference &r) { schedule_reference(r, n); },
                .products = [=](AftProducts &p) { schedule_products(p, n); },
                .step = [=](AftStep &s) { schedule_step(s, n); }};
    });
}

}  // namespace aft
