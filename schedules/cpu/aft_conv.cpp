// AFT-conv on a CPU core. A piece (models/mixers/conv.cpp) lives in L2; these kernels run on one core each.
//
// The sums: a tile of rows x a panel of channels x (num, den), taps inside. A tap costs a load of the taps and two loads and
// two FMA a row; unrolled over `unroll` taps, rows t + j meet again, so a turn needs rows + unroll - 1 loads per part for
// rows x unroll FMA: bound by the FMA ports.
#include "generators/aft_conv.h"
#include "schedules/panels.h"

namespace aft {
namespace {

using namespace Halide;

// inside: the loop over panels runs inside the one over tiles of rows.
void schedule_mix(ConvMix &m, Func out, Var c, Var t, ConvTile tile, int lanes, bool inside) {
    Var panel{"out_panel"}, l{"out_l"}, lo{"out_lo"}, li{"out_li"}, to{"out_tile"}, ti{"out_ti"};
    out.split(c, panel, l, window_panel, guard).split(l, lo, li, lanes).split(t, to, ti, tile.rows, guard);
    out.reorder(li, lo, ti, to, panel).vectorize(li).unroll(lo).unroll(ti);
    if (inside) out.reorder(panel, to);
    const Lanes in{lanes};
    m.sums.compute_at(out, inside ? panel : to).store_in(MemoryType::Register).bound_extent(m.l, window_panel).bound_extent(m.part, 2).bound_extent(m.t, tile.rows);
    in.vectorize(m.sums, m.l);
    m.sums.unroll(m.part).unroll(m.t);
    in.vectorize(m.sums.update().reorder(m.l, m.part, m.t, m.j.x, m.j.y), m.l);
    m.sums.update().unroll(m.part).unroll(m.t).unroll(m.j.x);
    const auto scanned = [&](Func f) {  // of one panel: stays in L1 until its tiles have used it
        (inside ? f.compute_root() : f.compute_at(out, panel)).bound_extent(m.l, window_panel).bound_extent(m.part, 2);
        in.vectorize(f, m.l);
        f.unroll(m.part);
        in.vectorize(f.update().reorder(m.l, m.part, m.scan.x, m.panel), m.l);
        f.update().unroll(m.part);
    };
    if (m.form == WindowForm::both) scanned(m.prefix);
    scanned(m.suffix);
    in.vectorize(m.state, m.l);
    m.state.unroll(m.part);
    m.whole.compute_at(m.state, m.panel).store_in(MemoryType::Register).bound_extent(m.l, window_panel).bound_extent(m.part, 2);
    in.vectorize(m.whole, m.l);
    m.whole.unroll(m.part);
    in.vectorize(m.whole.update().reorder(m.l, m.part, m.all.x, m.panel), m.l);
    m.whole.update().unroll(m.part);
}

// One sum a row and vector: a turn of rows x unroll FMA loads rows + unroll - 1 rows of the pack and `unroll` of the taps.
void schedule_sums(ConvSums &m, Func out, Var c, Var t, int lanes, bool inside) {
    Var panel{"out_panel"}, l{"out_l"}, lo{"out_lo"}, li{"out_li"}, q{"out_q"}, i{"out_i"};
    const int rows = m.tile.rows;
    out.split(c, panel, l, window_panel, guard).split(l, lo, li, lanes).split(t, q, i, rows, guard);
    if (inside)
        out.reorder(li, lo, i, panel, q);
    else
        out.reorder(li, lo, i, q, panel);
    out.vectorize(li).unroll(lo).unroll(i).always_partition(panel).always_partition(q);
    const Lanes in{lanes};
    const LoopLevel at(out, inside ? panel : q);
    const auto registers = [&](Func f) {
        f.compute_at(at).store_in(MemoryType::Register).bound_extent(m.l, window_panel).bound_extent(m.i, rows);
        in.vectorize(f, m.l);
        f.unroll(m.i);
    };
    registers(m.sums);
    in.vectorize(m.sums.update().reorder(m.l, m.i, m.j.x, m.j.y), m.l);
    m.sums.update().unroll(m.i).unroll(m.j.x);
    const auto side = [&](ConvSums::Side &s) {
        s.base.compute_root().vectorize(m.c, lanes);
        s.base.update().reorder(m.c, m.scan.x).vectorize(m.c, lanes);
        registers(s.near);
        in.vectorize(s.near.update().reorder(m.l, m.step.x), m.l);
        s.near.update().unroll(m.step.x);
    };
    side(m.prefix);
    if (m.form == WindowForm::both) side(m.suffix);
    m.state.vectorize(m.c, lanes, guard);
}

}  // namespace

ConvPlan plan_aft_conv(const Request &request) {
    return planned(request, [&](const Machine &machine, Knobs &knobs) -> ConvPlan {
        const int lanes = machine.lanes, registers = machine.vector_registers, vectors = window_panel / lanes;
        const bool pair = request.part == "pair", mix = request.part == "mix" || pair, filter = request.part == "filter";
        const int rows = knobs.only(mix, "tile_rows", pair ? (registers == 32 ? 6 : 2) : registers == 32 ? 12 : 4, {2, 3, 4, 6, 12}, "a sum a row and vector; a load of the taps feeds them all");
        const int unroll = knobs.only(mix, "unroll", 4, {1, 2, 4, 8}, "taps a turn: rows of the pack that meet again stay in registers");
        knobs.require(((pair ? 2 : 1) * rows + 2) * vectors <= registers, "sums, a row of the pack and one of the taps fit the registers");
        const bool inside = knobs.only(mix, "panels_inside", 0, {0, 1}, "1: rows of the epilogue are read whole, and the sums wait in L2; 0: a panel's sums stay in L1");
        const int filter_taps = knobs.only(filter, "filter_taps", registers == 32 ? 8 : 4, {2, 4, 8}, "sums of the filter's gradient; each row of keys feeds them all");
        const int filter_rows = knobs.only(filter, "filter_rows", 4, {1, 2, 4}, "rows a turn: rows of queries that meet again stay in registers");
        knobs.require((filter_taps + 3) * vectors <= registers, "sums, two rows of keys and one of queries fit the registers");
        const int step_vectors = knobs.only(request.part == "step", "step_vectors", 8, {2, 4, 8, 16}, "decoding: vectors of channels in a task");

        ConvPlan plan;
        plan.tile = {rows, unroll};
        plan.keys = [=](ConvKeys &k, Expr single) {
            const Lanes in{lanes};
            k.pack.reorder(k.l, k.part, k.panel, k.p);
            in.vectorize(k.pack, k.l);
            k.pack.unroll(k.part);
            k.pack.never_partition(k.p).always_partition(k.panel);
            k.weight.compute_root().vectorize(k.h, lanes, guard);
            k.pack.specialize(single);  // else each channel's head is gathered
        };
        plan.queries = [=](ConvQueries &q, Expr single) {
            const Lanes in{lanes};
            q.pack.reorder(q.l, q.part, q.panel, q.p);
            in.vectorize(q.pack, q.l);
            q.pack.unroll(q.part);
            q.scaled.compute_at(q.pack, q.panel).store_in(MemoryType::Register).bound_extent(q.l, window_panel);
            in.vectorize(q.scaled, q.l);
            q.scaled.specialize(single);
            q.rescale.compute_root().vectorize(q.h, lanes, guard);
            q.query_gradient.vectorize(q.c, lanes, guard);
            q.slack.vectorize(q.c, lanes, guard);
            q.slack.update().reorder(q.c, q.r.x).vectorize(q.c, lanes, guard);
        };
        plan.values = [=](ConvValues &v) {
            Var co{"co"}, ci{"ci"};
            v.weights.compute_root().vectorize(v.h, lanes, guard);
            v.pack.split(v.c, co, ci, lanes, guard).vectorize(ci).never_partition(v.p).always_partition(co);
        };
        plan.total = [=](ConvTotal &f) {
            Var co{"co"}, ci{"ci"};
            f.total.split(f.c, co, ci, 4 * lanes, guard).vectorize(ci, lanes);
            f.sum.compute_at(f.total, co).vectorize(f.c, lanes);
            f.sum.update().reorder(f.c, f.r.x).vectorize(f.c, lanes, guard);
        };
        plan.sums = [=](ConvPlain &f) { schedule_sums(f.mix, f.out, f.c, f.t, lanes, inside); };
        plan.forward = [=](ConvForward &f) { schedule_sums(f.mix, f.y, f.c, f.t, lanes, inside); };
        plan.backward = [=](ConvBackward &f) { schedule_mix(f.mix, f.gradient, f.c, f.t, {rows, unroll}, lanes, inside); };
        plan.filter = [=](ConvFilter &f) {
            Var jo{"jo"}, ji{"ji"};
            const Lanes in{lanes};
            f.products.split(f.j, jo, ji, filter_taps, guard).reorder(f.l, ji, jo, f.panel).unroll(ji);
            in.vectorize(f.products, f.l);
            f.sum.compute_at(f.products, jo).store_in(MemoryType::Register).bound_extent(f.l, window_panel).bound_extent(f.j, filter_taps);
            in.vectorize(f.sum, f.l);
            f.sum.unroll(f.j);
            in.vectorize(f.sum.update().reorder(f.l, f.j, f.r.x), f.l);
            f.sum.update().unroll(f.j).unroll(f.r.x, filter_rows, guard);
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
