// The products of AFT-full on a CPU core: a call runs on one core; models/mixers/full.cpp hands out blocks.
//
// The tile of rows x 16 channels x 2: AVX-512 12 x 2 vectors are 24 accumulators; a weight's turn costs 2 loads + 12 broadcasts + 24
// FMA, all from memory in its order: bound by the FMA ports. Panels run inside tiles: the panels' pack stays in L2, a tile's
// weights are read from L3 once. AVX2: 3 rows x 4 vectors, each vector meeting all rows before the next is loaded; the other way round, four
// vectors and a weight beside 12 sums are one register too many for LLVM, which spills (on a Zen 3 forward 1.12, backward 1.3 to 1.4 of the time).
//
// Measured on one Zen 4 core (peak 117 GFLOP/s), the whole causal forward of [4, 1024, 512] with d' = 256: 54 ms, 85 GFLOP/s of useful
// work = 73 % of FMA, where products of 256 x 256 blocks and passes between them took 80 ms. This kernel is 83 % of it, w = u v^T
// 7 %, packing the keys 3 %.
//
// On one Emerald Rapids core (peak 150 to 170): 51 ms forward. The turn of the product takes 86 % of this kernel and waits for nothing
// but, a tenth of its time, the pack's lines from L2. Tiles of 4 rows (4 % faster on Zen 4) take 1.08 to 1.15 of the time there; tiles
// inside panels with the pack in L1, and panels that sum all blocks at once, 1.05. One division a result instead of three, and the lines of
// Q and of the results asked for before the sums (0.98 of the time by itself; backward 1.02): 0.90.
#include "generators/aft_full_mix.h"
#include "generators/fetch_ahead.h"
#include "schedules/panels.h"

namespace aft {
namespace {

using namespace Halide;

void schedule_sums(FullSums &m, Func out, Var c, Var t, int lanes, bool inside, bool rows_inside) {
    const int rows = m.extents.rows;
    const Lanes in{lanes};
    Var panel{"out_panel"}, l{"out_l"}, lo{"out_lo"}, li{"out_li"}, tile{"out_tile"}, ti{"out_ti"};
    out.split(c, panel, l, full_panel, guard).split(l, lo, li, lanes).split(t, tile, ti, rows, guard);
    out.reorder(li, lo, ti, panel, tile).vectorize(li).unroll(lo).unroll(ti);

    // Between blocks the sums rest in L1: 24 loads and stores for 24 FMA a row of the block.
    if (inside)
        m.sums.compute_at(out, tile).bound_extent(m.l, full_panel).bound_extent(m.part, 2).bound_extent(m.t, rows);
    else
        m.sums.compute_at(out, panel).store_in(MemoryType::Stack).bound_extent(m.l, full_panel).bound_extent(m.part, 2).bound_extent(m.t, rows);
    in.vectorize(m.sums, m.l);
    m.sums.unroll(m.part).unroll(m.t);
    in.vectorize(m.sums.update().reorder(m.l, m.part, m.t, m.panel, m.blocks.x), m.l);
    m.sums.update().unroll(m.part).unroll(m.t);
    m.scale.compute_root();
    in.vectorize(m.scale, m.l);
    m.product.compute_at(m.sums, m.panel).store_in(MemoryType::Register).bound_extent(m.l, full_panel).bound_extent(m.part, 2).bound_extent(m.t, rows);
    in.vectorize(m.product, m.l);
    m.product.unroll(m.part).unroll(m.t);
    in.sum_tile(m.product.update(), m.l, m.part, m.t, rows_inside, m.r.x, m.r.y);
    m.product.update().unroll(m.r.x);
}

void schedule_queries(FullQueries &f, int lanes) {
    const Lanes in{lanes};
    f.query_gradient.vectorize(f.c, lanes, guard).never_partition(f.t);
    f.pack.reorder(f.l, f.part, f.panel, f.t);
    in.vectorize(f.pack, f.l);
    f.pack.unroll(f.part).never_partition(f.t).always_partition(f.panel).compute_with(f.query_gradient, f.t);
    f.alone.compute_at(f.query_gradient, f.t).hoist_storage_root().vectorize(f.c, lanes, guard);
}

}  // namespace

FullMixPlan plan_aft_full_mix(const Request &request) {
    return planned(request, [&](const Machine &machine, Knobs &knobs) -> FullMixPlan {
        const int lanes = machine.lanes, registers = machine.vector_registers;
        const bool back = request.part == "mix_back", mix = back || request.part == "mix";
        const int rows = knobs.only(mix, "tile_rows", registers == 32 ? 12 : 3, {2, 3, 4, 6, 12}, "two accumulators a row and vector; a vector of keys feeds this many FMA");
        const int unroll = knobs.only(mix, "unroll", 4, {1, 2, 4}, "weights per turn of the sum");
        const bool inside = knobs.only(mix, "panels_inside", 1, {0, 1}, "1: a tile's weights of a block stay in L1 for all panels; 0: a panel sums all blocks");
        knobs.require(!mix || rows * 2 * full_panel / lanes + 1 < registers, "accumulators and a broadcast fit the registers");
        const bool rows_inside = mix && knobs.later("rows_inside", registers == 16, {0, 1}, "1: a vector of the pack meets all rows before the next is loaded: the rows' weights stay in registers, not the vectors");
        const int ahead = knobs.only(mix, "ahead", registers == 32 ? 2 : 0, {0, 2, 4, 8}, "turns of the product after which a line of the pack, which comes from L2, is wanted");
        const bool owned = knobs.only(mix, "owned", registers == 32 && !back, {0, 1}, "1: a tile's lines of the results are asked for, to be written, before its sums; with them those of what they meet");
        const auto fetch = [=, lines = request.fetch_ahead](FullSums &m, Func out) {
            if (ahead) lines->loads(m.product, m.r.y, "pack", ahead);
            if (!owned) return;
            lines->owns(out, Var("out_panel"), out, 0);
            for (const char *read : {"query", "key", "value"}) lines->loads(out, Var("out_panel"), read, 0);
        };
        FullMixPlan plan;
        plan.tile = {rows, unroll};
        plan.forward = [=](FullForward &f) { schedule_sums(f.mix, f.out, f.c, f.t, lanes, inside, rows_inside), fetch(f.mix, f.out); };
        plan.backward = [=](FullBackward &f) { schedule_sums(f.mix, f.out, f.c, f.t, lanes, inside, rows_inside), fetch(f.mix, f.out); };
        plan.queries = [=](FullQueries &f) { schedule_queries(f, lanes); };
        plan.tiles = [=](FullTiles &f) {
            Var ko{"ko"}, ki{"ki"};
            f.out.bound(f.i, 0, full_granule);
            if (!f.piece.defined()) {
                f.out.vectorize(f.i).parallel(f.tile).never_partition(f.tile).always_partition(f.k);
                return;
            }
            f.out.split(f.k, ko, ki, lanes, guard).reorder(f.i, ki, ko, f.tile).unroll(f.i).parallel(f.tile).never_partition({f.tile});
            f.piece.compute_at(f.out, ko).store_in(MemoryType::Stack).bound_extent(f.i, full_granule).vectorize(f.k, lanes, TailStrategy::RoundUp).unroll(f.i);
        };
        return plan;
    });
}

}  // namespace aft
