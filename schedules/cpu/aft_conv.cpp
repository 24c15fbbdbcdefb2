// AFT-conv on a CPU core. A piece (models/mixers/conv.cpp) lives in L2; these kernels run on one core each.
//
// The sums: a tile of rows x a panel of channels, taps inside. A turn of `unroll` taps loads rows + unroll - 1 rows of the pack and
// `unroll` of the taps for rows x unroll FMA: bound by the FMA ports. The panels of a tile of rows follow each other, so that the rows
// of the results and of what they need are read and written whole, while the FMA run: pieces of 64 bytes a row apart come from memory
// at a third of the rate. (The sums of a tile or of a piece through memory, and then row by row, took 1.05 times as long; prefetching
// Q four panels ahead 1.05 to 1.4 times.)
#include "generators/aft_conv.h"
#include "schedules/panels.h"

namespace aft {
namespace {

using namespace Halide;

// inside: the loop over panels runs inside the one over tiles of rows.
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
    for (ConvSums::Side &s : m.sides) {
        s.base.compute_root().vectorize(m.c, lanes);
        s.base.update().reorder(m.c, m.scan.x).vectorize(m.c, lanes);
        registers(s.near);
        in.vectorize(s.near.update().reorder(m.l, m.step.x), m.l);
        s.near.update().unroll(m.step.x);
    }
    m.state.vectorize(m.c, lanes, guard);
}

}  // namespace

ConvPlan plan_aft_conv(const Request &request) {
    return planned(request, [&](const Machine &machine, Knobs &knobs) -> ConvPlan {
        const int lanes = machine.lanes, registers = machine.vector_registers, vectors = window_panel / lanes;
        const bool plain = request.part == "sums", mix = request.part == "mix" || plain, filter = request.part == "filter";
        const int rows = knobs.only(mix, "tile_rows", registers == 32 ? 12 : 4, {2, 3, 4, 6, 12}, "a sum a row and vector; a load of the taps feeds them all");
        const int unroll = knobs.only(mix, "unroll", 4, {1, 2, 4, 8}, "taps a turn: rows of the pack that meet again stay in registers");
        knobs.require((rows + 2) * vectors <= registers, "sums, a row of the pack and one of the taps fit the registers");
        const bool inside = knobs.only(mix, "panels_inside", !plain, {0, 1}, "1: rows of the epilogue are read whole; 0: a panel's pack stays in L1");
        const int filter_taps = knobs.only(filter, "filter_taps", registers == 32 ? 8 : 4, {2, 4, 8}, "sums of the filter's gradient; each row of keys feeds them all");
        const int filter_rows = knobs.only(filter, "filter_rows", 4, {1, 2, 4}, "rows a turn: rows of queries that meet again stay in registers");
        knobs.require((filter_taps + 3) * vectors <= registers, "sums, two rows of keys and one of queries fit the registers");
        const int step_vectors = knobs.only(request.part == "step", "step_vectors", 8, {2, 4, 8, 16}, "decoding: vectors of channels in a task");
        const int at_once = request.part == "queries" ? vectors_at_once(machine, knobs) : 1;

        ConvPlan plan;
        plan.tile = {rows, unroll};
        plan.lanes = lanes;
        plan.values = [=](ConvValues &v) {
            Var co{"co"}, ci{"ci"};
            v.weights.compute_root().vectorize(v.h, lanes, guard);
            v.pack.split(v.c, co, ci, lanes, guard).vectorize(ci).never_partition(v.p).always_partition(co);
        };
        plan.carry = [=](ConvCarry &f) { f.carried.vectorize(f.c, lanes, guard); };
        plan.total = [=](ConvTotal &f) {
            Var co{"co"}, ci{"ci"};
            f.total.split(f.c, co, ci, 4 * lanes, guard).vectorize(ci, lanes);
            f.sum.compute_at(f.total, co).vectorize(f.c, lanes);
            f.sum.update().reorder(f.c, f.r.x).vectorize(f.c, lanes, guard);
        };
        plan.queries = [=](WindowQueries &q) { one_pass(q, at_once * lanes); };
        plan.sums = [=](ConvPlain &f) { schedule_sums(f.mix, f.out, f.c, f.t, lanes, inside); };
        plan.forward = [=](ConvForward &f) { schedule_sums(f.mix, f.y, f.c, f.t, lanes, inside); };
        plan.backward = [=](ConvBackward &f) { schedule_sums(f.mix, f.gradient, f.c, f.t, lanes, inside); };
        plan.heads = [=](ConvHeads &f) {
            if (f.group == ConvGroup::uniform) {
                f.partial.compute_at(f.sums, f.h).store_in(MemoryType::Register).bound_extent(f.l, lanes).vectorize(f.l);
                f.partial.update().reorder(f.l, f.r.x).vectorize(f.l);
                f.sum.compute_at(f.sums, f.h).store_in(MemoryType::Register);
                f.sum.update().atomic().vectorize(f.lane.x);
                return;
            }
            Var block{"block"}, hi{"hi"};
            f.sums.split(f.h, block, hi, lanes, guard).vectorize(hi);
            if (f.group == ConvGroup::single) return;
            f.sum.compute_at(f.sums, block).store_in(MemoryType::Register).bound_extent(f.h, lanes).vectorize(f.h);
            f.sum.update().reorder(f.h, f.r.x).vectorize(f.h);
        };
        plan.filter = [=](ConvFilter &f) {
            Var jo{"jo"}, ji{"ji"};
            const Lanes in{lanes};
            auto products = f.products.update();
            products.split(f.j, jo, ji, filter_taps, guard).reorder(f.l, ji, jo, f.panel).unroll(ji);
            in.vectorize(products, f.l);
            f.sum.compute_at(f.products, jo).store_in(MemoryType::Register).bound_extent(f.l, window_panel).bound_extent(f.j, filter_taps);
            in.vectorize(f.sum, f.l);
            f.sum.unroll(f.j);
            in.vectorize(f.sum.update().reorder(f.l, f.j, f.r.x), f.l);
            f.sum.update().unroll(f.j).unroll(f.r.x, filter_rows, guard);
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
