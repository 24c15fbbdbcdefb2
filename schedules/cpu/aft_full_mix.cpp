// The products of AFT-full on a CPU core: a call runs on one core; models/mixers/full.cpp hands out blocks.
//
// The tile of rows x 16 channels x 2: AVX-512 12 x 2 vectors are 24 accumulators; a weight's turn costs 2 loads + 12 broadcasts + 24
// FMA, all from memory in its order: bound by the FMA ports. Panels run inside tiles: the panels' pack stays in L2, a tile's
// weights are read from L3 once. AVX2: 3 rows x 4 vectors.
//
// Measured on one Zen 4 core (peak 117 GFLOP/s), the whole causal forward of [4, 1024, 512] with d' = 256: 54 ms, 85 GFLOP/s of useful
// work = 73 % of FMA, where products of 256 x 256 blocks and passes between them took 80 ms. This kernel is 83 % of it, w = u v^T
// 7 %, packing the keys 3 %.
#include "generators/aft_full_mix.h"
#include "schedules/plan.h"

namespace aft {
namespace {

using namespace Halide;
constexpr auto guard = TailStrategy::GuardWithIf;

// Splits a panel's 16 channels into vectors.
struct Lanes {
    int lanes;
    Var lo{"lo"}, li{"li"};

    template <class Stage>
    void vectorize(Stage s, Var l) const { s.split(l, lo, li, lanes).vectorize(li).unroll(lo); }
};

void schedule_forward(FullForward &f, int lanes) {
    const int rows = f.extents.rows;
    const Lanes in{lanes};
    Var panel{"out_panel"}, l{"out_l"}, lo{"out_lo"}, li{"out_li"}, tile{"out_tile"}, ti{"out_ti"};
    f.out.split(f.c, panel, l, full_panel, guard).split(l, lo, li, lanes).split(f.t, tile, ti, rows, guard);
    f.out.reorder(li, lo, ti, panel, tile).vectorize(li).unroll(lo).unroll(ti);

    // Between blocks the sums rest on the stack: 24 loads and stores for 24 FMA a row of the block.
    f.sums.compute_at(f.out, panel).store_in(MemoryType::Stack).bound_extent(f.l, full_panel).bound_extent(f.part, 2).bound_extent(f.t, rows);
    in.vectorize(f.sums, f.l);
    f.sums.unroll(f.part).unroll(f.t);
    in.vectorize(f.sums.update().reorder(f.l, f.part, f.t, f.blocks.x), f.l);
    f.sums.update().unroll(f.part).unroll(f.t);
    f.scale.compute_at(f.sums, f.blocks.x).store_in(MemoryType::Register).bound_extent(f.l, full_panel);
    in.vectorize(f.scale, f.l);
    f.product.compute_at(f.sums, f.blocks.x).store_in(MemoryType::Register).bound_extent(f.l, full_panel).bound_extent(f.part, 2).bound_extent(f.t, rows);
    in.vectorize(f.product, f.l);
    f.product.unroll(f.part).unroll(f.t);
    in.vectorize(f.product.update().reorder(f.l, f.part, f.t, f.r.x, f.r.y), f.l);
    f.product.update().unroll(f.part).unroll(f.t).unroll(f.r.x);
}

}  // namespace

FullMixPlan plan_aft_full_mix(const Request &request) {
    return planned(request, [&](const Machine &machine, Knobs &knobs) -> FullMixPlan {
        const int lanes = machine.lanes, registers = machine.vector_registers;
        const bool mix = request.part == "mix";
        const int rows = knobs.only(mix, "tile_rows", registers == 32 ? 12 : 3, {2, 3, 4, 6, 12}, "two accumulators a row and vector; a vector of keys feeds this many FMA");
        const int unroll = knobs.only(mix, "unroll", 4, {1, 2, 4}, "weights per turn of the sum");
        knobs.require(!mix || rows * 2 * full_panel / lanes + 1 < registers, "accumulators and a broadcast fit the registers");

        FullMixPlan plan;
        plan.tile = {rows, unroll};
        plan.forward = [=](FullForward &f) { schedule_forward(f, lanes); };
        plan.tiles = [=](FullTiles &f) {
            Var ko{"ko"}, ki{"ki"};
            f.out.bound(f.i, 0, full_granule);
            f.out.split(f.k, ko, ki, lanes, guard).reorder(f.i, ki, ko, f.tile).unroll(f.i).parallel(f.tile).never_partition({f.tile});
            f.piece.compute_at(f.out, ko).store_in(MemoryType::Stack).bound_extent(f.i, full_granule).vectorize(f.k, lanes, TailStrategy::RoundUp).unroll(f.i);
        };
        return plan;
    });
}

}  // namespace aft
