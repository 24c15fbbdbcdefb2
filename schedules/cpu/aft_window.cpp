// AFT-local on a CPU core. A piece (models/mixers/local.cpp) lives in L2; these kernels run on one core each, so that a
// piece's packing, product and epilogue find each other's data there.
//
// The product: a tile of rows x 16 channels x (num, den). AVX-512: 6 rows x 2 vectors are 12 accumulators, enough to hide the
// latency of FMA; a column of the table costs 2 loads (of the pack, from L2) + 6 broadcasts, one after the other in memory, + 12 FMA.
// Twelve rows are no faster: their epilogue has 48 rows of queries and results under way. AVX2: 3 rows x 4 vectors, each vector meeting all rows
// before the next is loaded, which just fits 16 registers: 2 rows take 1.00 of the forward's time for a window of 32 and 1.31 for 128 (a Zen 3).
// For the same reason the rows of forward's epilogue are a loop there: unrolled, LLVM keeps one of the sums in memory while it adds, 1.16 and 1.40.
// A panel's visit of four tiles, whose rows of the pack are then in L1: 1.07 and 0.97, backward 1.13 and 1.05.
//
// Panels run inside tiles. The other order keeps a panel's pack in L1, but its epilogue reads Q and writes the results in pieces of 64
// bytes a row apart, which no prefetcher follows. On one core of a Xeon with a slow L3 (25 GB/s), [4, 1024, 512], the whole operator
// forward takes 0.63 of that order's time for a window of 32 and 0.86 for 128 (AVX2: 0.74), backward 0.77 and 0.94 (AVX2: 0.91).
//
// What a call reads or writes once comes from L3 or DRAM, in rows of 2 KiB of which a tile takes 64 bytes each, so the lines of the next tile's
// rows are asked for while this one is computed; along the row, some panels ahead, gained nothing. The range is a plain stream and yet
// gains as much by lines of four rows ahead: the processor's own streams end at each page. Calls in turn on that Xeon, in several
// minutes: forward 0.71 to 0.91 of the time for a window of 32, 0.92 for 128, backward 0.82 to 0.95 and 0.96; [2, 1024, 256] on
// two cores 0.95 and 0.94. In a model of the kernels written with intrinsics, a range found while packing, against a guessed
// maximum, was no faster than the range with its lines asked for.
#include "generators/aft_window.h"
#include "generators/fetch_ahead.h"
#include "schedules/panels.h"

namespace aft {
namespace {

using namespace Halide;

void schedule_mix(WindowMix &m, Func consumer, Var at, int lanes, bool rows_inside) {
    // The tile is a register tile, never memory: a whole panel of channels, in one vector or in two.
    m.sums.compute_at(consumer, at).store_in(MemoryType::Register).bound_extent(m.l, window_panel).bound_extent(m.part, 2).bound_extent(m.t, m.extents.rows);
    const Lanes in{lanes};
    in.vectorize(m.sums, m.l);
    m.sums.unroll(m.part).unroll(m.t);
    in.sum_tile(m.sums.update(), m.l, m.part, m.t, rows_inside, m.k.x, m.k.y);
    m.sums.update().unroll(m.k.x);

    const auto carried = [&](Func &states, Func &block, RDom &rows) {
        states.compute_root();
        in.vectorize(states, m.l);
        states.unroll(m.part);
        in.vectorize(states.update().reorder(m.l, m.part, m.tiles.x, m.panel), m.l);
        states.update().unroll(m.part);
        block.compute_at(states, m.tiles.x).store_in(MemoryType::Register).bound_extent(m.l, window_panel).bound_extent(m.part, 2);
        in.vectorize(block, m.l);
        block.unroll(m.part);
        in.vectorize(block.update().reorder(m.l, m.part, rows.x), m.l);
        block.update().unroll(m.part).unroll(rows.x);
    };
    if (m.form != WindowForm::reversed) carried(m.prefix, m.block, m.in_tile);
    if (m.form != WindowForm::causal) carried(m.suffix, m.last, m.in_last);
    in.vectorize(m.state, m.l);
}

struct Tiles {
    Var at, row;  // the loops of a register tile and of one of its rows
};

// c into panels and vectors, t into tiles. inside: panels run inside tiles.
Tiles tiled(Func out, Var c, Var t, int rows, int lanes, bool inside, bool unrolled) {
    Var panel{"out_panel"}, l{"out_l"}, lo{"out_lo"}, li{"out_li"}, tile{"out_tile"}, ti{"out_ti"};
    out.split(c, panel, l, window_panel, guard).split(l, lo, li, lanes).split(t, tile, ti, rows, guard);
    out.reorder(li, lo, ti, tile, panel).vectorize(li).unroll(lo);
    if (unrolled) out.unroll(ti);
    if (inside) out.reorder(panel, tile);
    return {inside ? panel : tile, ti};
}

}  // namespace

WindowPlan plan_aft_window(const Request &request) {
    return planned(request, [&](const Machine &machine, Knobs &knobs) -> WindowPlan {
        const int lanes = machine.lanes, registers = machine.vector_registers;
        const bool back = request.part == "mix_back", mix = back || request.part == "mix", apply = request.part == "apply", tiled_part = mix || apply, dots = request.part == "dots", queries = request.part == "queries";
        const int rows = knobs.only(tiled_part, "tile_rows", apply ? 4 : registers == 32 ? 6 : 3, {2, 3, 4, 6, 12}, "two accumulators a row and vector; a vector of keys feeds this many FMA");
        const int unroll = knobs.only(tiled_part, "unroll", rows % 2 ? 1 : rows % 4 ? 2 : 4, {1, 2, 4}, "columns of the table a turn");
        const bool rows_inside = knobs.only(mix, "rows_inside", registers == 16, {0, 1}, "1: a vector of keys meets all rows before the next is loaded: the rows' weights stay in registers, not the vectors");
        const int vectors = knobs.only(apply, "tile_vectors", registers == 32 ? 4 : 2, {2, 4}, "vectors of a row of v; each weight is broadcast for this many FMA");
        const int panel_vectors = 2 * window_panel / lanes, held = apply ? vectors + 1 : rows_inside ? rows + 1 : panel_vectors + 1;
        knobs.require(rows * (apply ? vectors : panel_vectors) + held <= registers, "accumulators, the numbers held of one side and one of the other fit the registers");
        knobs.require(rows % unroll == 0, "the table's width before and behind is a multiple of 4, a tile adds its rows");
        const bool inside = knobs.only(mix, "panels_inside", 1, {0, 1}, "1: rows of the epilogue are read and written whole; 0: a panel's pack stays in L1");
        const bool unrolled = mix && knobs.later("rows_unrolled", back || registers == 32, {0, 1}, "1: the rows of a tile's epilogue are unrolled; 0: a loop, whose numbers take no register from the product's sums");
        const int ahead = mix ? knobs.later("ahead", 1, {0, 1, 2}, "tiles after which the rows of the epilogue are wanted in L2") : 0;
        const int rows_ahead = knobs.only(queries || request.part == "range", "rows_ahead", 4, {0, 4, 8}, "rows after which what is read and written once is wanted in L2");
        const int at_once = queries ? vectors_at_once(machine, knobs) : 1;
        const int dot_rows = knobs.only(dots, "dot_rows", 4, {2, 4, 6}, "rows of a tile of dot products; each loads a vector for dot_columns FMA");
        const int dot_columns = knobs.only(dots, "dot_columns", registers == 32 ? 4 : 2, {1, 2, 4}, "columns of that tile; divides the table's width");
        const int dot_unroll = knobs.only(dots, "dot_unroll", 2, {1, 2}, "vectors a turn: a panel has two of 16 lanes, so its addresses are made once");
        knobs.require(dot_rows * dot_columns + dot_columns + 1 <= registers, "partial sums, vectors of one side and one of the other fit the registers");
        const int task_rows = knobs.only(request.part == "rows", "task_rows", 64, {16, 64, 256}, "rows of a task: some microseconds");

        WindowPlan plan;
        plan.tile = {rows, unroll};
        plan.lanes = lanes;
        plan.dot_rows = dot_rows;
        plan.range = [=, lines = request.fetch_ahead](WindowRange &w) {
            w.range.vectorize(w.c, lanes, guard);
            w.range.update().reorder(w.c, w.r.x).vectorize(w.c, lanes, guard);
            if (rows_ahead) lines->loads_rows_on(w.range, w.c, "x", rows_ahead);
        };
        plan.keys = [=](WindowKeys &w) {
            const Lanes in{lanes};
            w.pack.reorder(w.l, w.part, w.panel, w.p);
            in.vectorize(w.pack, w.l);
            w.pack.unroll(w.part);
            w.pack.never_partition(w.p).always_partition(w.panel);
            w.weight.compute_at(w.pack, w.panel).store_in(MemoryType::Register).bound_extent(w.l, window_panel);
            in.vectorize(w.weight, w.l);
        };
        plan.queries = [=, lines = request.fetch_ahead](WindowQueries &q) {
            one_pass(q, at_once * lanes);
            if (!rows_ahead) return;
            for (const char *input : {"output_gradient", "query", "output", "den"}) lines->loads_rows_on(q.gradients, Var("co"), input, rows_ahead);
            lines->stores_rows_on(q.gradients, 2, Var("co"), rows_ahead);  // dQ: the others stand in L2
        };
        plan.query_pack = [=](WindowQueryPack &w) {
            const Lanes in{lanes};
            w.pack.reorder(w.l, w.part, w.panel, w.p);
            in.vectorize(w.pack, w.l);
            w.pack.unroll(w.part);
            w.pack.never_partition(w.p).always_partition(w.panel);
            w.rescale.compute_root().vectorize(w.c, lanes, guard);
        };
        const auto mixed = [=, lines = request.fetch_ahead](WindowMix &mix, Func out, Var c, Var t, const char *read) {
            const Tiles tiles = tiled(out, c, t, rows, lanes, inside, unrolled);
            schedule_mix(mix, out, tiles.at, lanes, rows_inside);
            if (ahead) {
                const Var turn = unrolled ? tiles.at : tiles.row;
                lines->loads_rows_on(out, turn, read, ahead * rows);
                lines->stores_rows_on(out, turn, ahead * rows);
            }
        };
        plan.forward = [=](WindowForward &w) { mixed(w.mix, w.y, w.c, w.t, "query"); };
        plan.backward = [=](WindowBackward &w) { mixed(w.mix, w.gradient, w.c, w.t, "value"); };
        plan.total = [=](WindowTotal &w) {
            const Lanes in{lanes};
            in.vectorize(w.total, w.l);
            w.sum.compute_at(w.total, w.panel).store_in(MemoryType::Register).bound_extent(w.l, window_panel).bound_extent(w.part, 2);
            in.vectorize(w.sum.unroll(w.part), w.l);
            in.vectorize(w.sum.update().reorder(w.l, w.part, w.r.x, w.panel).unroll(w.part), w.l);
        };
        plan.dots = [=](WindowDots &w) {
            Var to{"to"}, ti{"ti"}, tb{"tb"};
            RVar ko{"ko"}, ki{"ki"};
            w.dots.update().split(w.t, to, ti, dot_rows, guard).split(w.seen.x, ko, ki, dot_columns, guard).reorder(ki, ti, ko, to).unroll(ki).unroll(ti);
            w.dots.update().split(to, tb, to, 8, guard).parallel(tb);
            w.total.compute_at(w.dots, ko).store_in(MemoryType::Register).bound_extent(w.k, dot_columns).bound_extent(w.i, dot_rows).bound_extent(w.tile, 1);
            w.total.unroll(w.k).unroll(w.i);
            w.total.update().reorder(w.lane.x, w.k, w.i, w.tile).atomic().vectorize(w.lane.x).unroll(w.k).unroll(w.i);
            w.partial.compute_at(w.dots, ko).store_in(MemoryType::Register);
            w.partial.bound_extent(w.l, lanes).bound_extent(w.k, dot_columns).bound_extent(w.i, dot_rows).bound_extent(w.tile, 1);
            w.partial.vectorize(w.l).unroll(w.k).unroll(w.i);
            auto sums = w.partial.update();
            sums.reorder(w.l, w.k, w.i, w.r.x, w.r.y, w.tile).vectorize(w.l).unroll(w.k).unroll(w.i);
            if (dot_unroll > 1) sums.unroll(w.r.x, dot_unroll, guard);
        };
        plan.table = [=](WindowTable &w) {  // some rows: what calls it runs in parallel
            w.extremes.compute_root();
            for (Func *side : {&w.high, &w.low}) {
                side->compute_at(w.extremes, w.t).store_in(MemoryType::Register);
                side->update().atomic().vectorize(w.lane.x);
            }
            w.partial.compute_at(w.extremes, w.t).store_in(MemoryType::Register).bound_extent(w.l, lanes).vectorize(w.l);
            w.partial.update().reorder(w.l, w.r.x).vectorize(w.l);
            w.rows.vectorize(w.t, lanes, guard);
            w.table.vectorize(w.k, lanes, guard);
        };
        plan.transpose = [=](WindowTranspose &w) {
            w.out.bound(w.i, 0, window_granule).vectorize(w.i).parallel(w.granule, std::max(1, task_rows / window_granule), guard);
        };
        plan.bias_gradient = [=](WindowBiasGradient &w) {
            w.out.vectorize(w.k, lanes, guard).parallel(w.t, task_rows, guard);
            w.sum.compute_at(w.out, w.t).vectorize(w.k, lanes);
            w.sum.update().reorder(w.k, w.r.x, w.t).vectorize(w.k, lanes, guard);
        };
        plan.apply = [=](WindowApply &w) {
            Var tb{"tb"}, to{"to"}, ti{"ti"}, xo{"xo"}, xi{"xi"};
            auto out = w.out.update();
            out.split(w.x, xo, xi, vectors * lanes, guard).split(w.t, to, ti, rows, guard).reorder(xi, ti, xo, to);
            out.vectorize(xi, lanes).unroll(xi).unroll(ti);
            out.split(to, tb, to, 8, guard).parallel(tb);  // a tile alone is 3 microseconds of work: less than handing it over
            w.sum.compute_at(w.out, xo).store_in(MemoryType::Register).bound_extent(w.x, vectors * lanes).bound_extent(w.i, rows).bound_extent(w.tile, 1);
            w.sum.vectorize(w.x, lanes).unroll(w.x).unroll(w.i);
            w.sum.update().reorder(w.x, w.i, w.k.x, w.k.y, w.tile).vectorize(w.x, lanes).unroll(w.x).unroll(w.i).unroll(w.k.x);
            // The clamp of a row is one number a column; it is the steady state of x that has plain loads.
            w.sum.update().never_partition(w.k.y);
            out.never_partition({tb, to}).always_partition(xo);
        };
        return plan;
    });
}

}  // namespace aft
