// AFT-conv on a CPU core. A piece (models/mixers/conv.cpp) lives in L2; these kernels run on one core each.
//
// The sums: a tile of rows x one vector of channels x (num, den), taps inside. A tap costs a load of the taps and two loads and
// two FMA a row; unrolled over `unroll` taps, rows t + j meet again, so a turn needs rows + unroll - 1 loads per part for
// rows x unroll FMA: bound by the FMA ports.
#include "generators/aft_conv.h"
#include "schedules/plan.h"

namespace aft {
namespace {

using namespace Halide;
constexpr auto guard = TailStrategy::GuardWithIf;

void schedule_mix(ConvMix &m, Func out, Var c, Var t, ConvTile tile, int lanes) {
    Var block{"block"}, ci{"ci"}, to{"to"}, ti{"ti"};
    out.split(c, block, ci, lanes, guard).split(t, to, ti, tile.rows, guard).reorder(ci, ti, to, block).vectorize(ci).unroll(ti);
    m.sums.compute_at(out, to).store_in(MemoryType::Register).bound_extent(m.c, lanes).bound_extent(m.t, tile.rows).bound_extent(m.part, 2);
    m.sums.vectorize(m.c, lanes).unroll(m.t).unroll(m.part);
    m.sums.update().reorder(m.c, m.part, m.t, m.j.x, m.j.y).vectorize(m.c, lanes).unroll(m.part).unroll(m.t).unroll(m.j.x);
    const auto scanned = [&](Func f) {  // a block of channels at a time would be read again for the state
        f.compute_root().vectorize(m.c, lanes, guard).unroll(m.part);
        f.update().reorder(m.c, m.part, m.scan.x).vectorize(m.c, lanes, guard).unroll(m.part);
        f.bound_extent(m.part, 2);
    };
    if (m.form != WindowForm::reversed) scanned(m.prefix);
    if (m.form != WindowForm::causal) scanned(m.suffix);
    m.state.vectorize(m.c, lanes, guard);
}

}  // namespace

ConvPlan plan_aft_conv(const Request &request) {
    return planned(request, [&](const Machine &machine, Knobs &knobs) -> ConvPlan {
        const int lanes = machine.lanes, registers = machine.vector_registers;
        const int rows = knobs("tile_rows", registers == 32 ? 6 : 4, {2, 3, 4, 6, 12}, "two accumulators a row; a load of the taps feeds them all");
        const int unroll = knobs("unroll", 4, {1, 2, 4, 8}, "taps a turn: rows of the pack that meet again stay in registers");
        knobs.require(2 * rows + 2 <= registers, "accumulators, a row of the pack and one of the taps fit the registers");
        const int filter_taps = knobs("filter_taps", 8, {4, 8}, "accumulators of the filter's gradient; each row of keys feeds them all");
        const int filter_rows = knobs("filter_rows", 4, {1, 2, 4}, "rows a turn: rows of queries that meet again stay in registers");
        const int step_vectors = knobs("step_vectors", 8, {2, 4, 8, 16}, "decoding: vectors of channels in a task");

        ConvPlan plan;
        plan.tile = {rows, unroll};
        plan.keys = [=](ConvKeys &k) {
            k.pack.bound(k.part, 0, 2).reorder(k.c, k.part, k.p).vectorize(k.c, lanes, guard).unroll(k.part);
            k.weight.compute_at(k.pack, k.p).vectorize(k.h, lanes, guard);
        };
        plan.queries = [=](ConvQueries &q) {
            Var block{"block"}, ci{"ci"};
            q.pack.bound(q.part, 0, 2).split(q.c, block, ci, lanes, guard).reorder(ci, q.part, block, q.p).vectorize(ci).unroll(q.part);
            q.scaled.compute_at(q.pack, block).store_in(MemoryType::Register).bound_extent(q.c, lanes).vectorize(q.c, lanes);
            q.rescale.compute_root().vectorize(q.h, lanes, guard);
            q.query_gradient.vectorize(q.c, lanes, guard);
            q.slack.vectorize(q.c, lanes, guard);
            q.slack.update().reorder(q.c, q.r.x).vectorize(q.c, lanes, guard);
        };
        plan.forward = [=](ConvForward &f) { schedule_mix(f.mix, f.y, f.c, f.t, {rows, unroll}, lanes); };
        plan.backward = [=](ConvBackward &f) { schedule_mix(f.mix, f.gradient, f.c, f.t, {rows, unroll}, lanes); };
        plan.total = [=](ConvTotal &f) {
            f.total.bound(f.part, 0, 2).vectorize(f.c, lanes, guard).unroll(f.part);
            f.total.update().reorder(f.c, f.part, f.r.x).vectorize(f.c, lanes, guard).unroll(f.part);
        };
        plan.filter = [=](ConvFilter &f) {
            Var block{"block"}, ci{"ci"}, jo{"jo"}, ji{"ji"};
            f.products.split(f.c, block, ci, lanes, guard).split(f.j, jo, ji, filter_taps, guard).reorder(ci, ji, jo, block).vectorize(ci).unroll(ji);
            f.sum.compute_at(f.products, jo).store_in(MemoryType::Register).bound_extent(f.c, lanes).bound_extent(f.j, filter_taps).vectorize(f.c, lanes).unroll(f.j);
            f.sum.update().reorder(f.c, f.j, f.r.x).vectorize(f.c, lanes).unroll(f.j).unroll(f.r.x, filter_rows, guard);
        };
        plan.heads = [=](ConvHeads &f) {
            Var block{"block"}, hi{"hi"}, task{"task"}, ti{"ti"};
            f.sums.split(f.h, block, hi, lanes, guard).split(f.t, task, ti, 64, guard).reorder(hi, block, ti, task).vectorize(hi).parallel(task);
            f.sum.compute_at(f.sums, block).bound_extent(f.h, lanes).vectorize(f.h, lanes);
            f.sum.update().reorder(f.h, f.r.x).vectorize(f.h, lanes);
        };
        plan.step = [=](ConvStep &f) {
            Var block{"block"}, ci{"ci"}, task{"task"};
            f.result.split(f.c, block, ci, step_vectors * lanes, guard).fuse(block, f.b, task).vectorize(ci, lanes, guard).parallel(task);
            for (Func x : {f.top, f.far, f.weight, f.den}) x.compute_root();
            f.top.vectorize(f.h, lanes, guard).update().reorder(f.h, f.ring.x, f.b).vectorize(f.h, lanes, guard);
            f.far.vectorize(f.h, lanes, guard), f.weight.vectorize(f.h, lanes, guard);
            f.den.vectorize(f.h, lanes, guard).update().reorder(f.h, f.ring.x, f.b).vectorize(f.h, lanes, guard);
            f.num.compute_at(f.result, task).vectorize(f.c, lanes, guard);
            f.num.update().reorder(f.c, f.ring.x, f.b).vectorize(f.c, lanes, guard);
        };
        return plan;
    });
}

}  // namespace aft
