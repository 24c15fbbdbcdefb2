// The gradient of AFT-full's bias on a CPU core: the Goto loops of schedules/cpu/gemm.cpp around a register tile.
//
//   for chunk of channels  { pack its keys, L2;  for tile of queries in parallel { copy it, L1;  for columns of keys { tile } } }
//
// AVX-512: 12 x 32, 24 accumulators; AVX2: 6 x 16. Each tile is summed in a fixed order, whatever the threads.
#include "generators/aft_full_pairs.h"
#include "schedules/plan.h"

namespace aft {
namespace {

using namespace Halide;

void schedule_pairs(FullPairs &f, int lanes) {
    const int rows = f.extents.rows, columns = f.extents.columns, width = 2 * full_panel;
    Var io{"io"}, ii{"ii"}, jo{"jo"}, ji{"ji"}, ko{"ko"}, ki{"ki"}, lo{"lo"}, li{"li"};
    auto tiles = f.out.update();
    tiles.split(f.j, jo, ji, columns, guard).split(f.i, io, ii, rows, guard).vectorize(ji, lanes).unroll(ji).unroll(ii);
    tiles.reorder(ji, ii, jo, io, f.chunks).parallel(io);
    tiles.never_partition({io, f.chunks}).always_partition(jo);  // schedules/cpu/gemm.cpp

    f.product.compute_at(f.out, jo).store_in(MemoryType::Register).bound_extent(f.j, columns).bound_extent(f.i, rows);
    f.product.vectorize(f.j, lanes).unroll(f.j).unroll(f.i);
    f.product.update().reorder(f.j, f.i, f.r.x, f.r.y).vectorize(f.j, lanes).unroll(f.j).unroll(f.i).unroll(f.r.x);

    // The factors of a tile's rows are the same, and the indices of a panel are made once for all rows.
    f.scale.compute_root().vectorize(f.l, lanes);
    f.factor.compute_at(f.out, io).store_in(MemoryType::Stack).bound_extent(f.l, full_panel).bound_storage(f.panel, f.extents.depth + 1).vectorize(f.l, lanes);
    f.rows.compute_at(f.out, io).store_in(MemoryType::Stack).bound_extent(f.i, rows).bound_storage(f.k, f.extents.depth * width + 16);
    f.rows.split(f.k, ko, ki, lanes, guard).vectorize(ki).reorder(ki, f.i, ko).unroll(f.i);

    f.columns.compute_at(f.out, f.chunks).store_in(MemoryType::Heap).bound_extent(f.j, columns).align_storage(f.j, lanes);
    f.columns.split(f.k, ko, ki, width).reorder(f.j, ki, ko, f.column).vectorize(f.j, lanes).unroll(f.j).unroll(ki).parallel(f.column);
    f.pair.compute_at(f.columns, ko).store_in(MemoryType::Stack).bound_extent(f.l, full_panel).bound_extent(f.part, 2).bound_extent(f.j, columns);
    f.pair.split(f.l, lo, li, lanes).vectorize(li).unroll(lo).unroll(f.part);
}

}  // namespace

FullPairsPlan plan_aft_full_pairs(const Request &request) {
    return planned(request, [&](const Machine &machine, Knobs &knobs) -> FullPairsPlan {
        const int lanes = machine.lanes, registers = machine.vector_registers;
        const int vectors = knobs("tile_vectors", 2, {1, 2, 3}, "vectors of keys that a query's broadcast meets");
        const int rows = knobs("tile_rows", registers == 32 ? 12 : 6, {3, 4, 6, 12}, "queries of a tile; divides the granule of a block");
        knobs.require(rows * vectors + vectors + 1 <= registers, "accumulators, vectors of keys and a broadcast fit the registers");
        const int depth = knobs("depth", 16, {8, 16, 32}, "panels of channels: 16 are 512 k, 24 KiB of a tile's queries (L1) and 576 KiB of 288 keys (L2)");
        const int unroll = knobs("unroll", 4, {1, 2, 4}, "k of a turn");
        return {{rows, vectors * lanes, depth, unroll}, [=](FullPairs &f) { schedule_pairs(f, lanes); }};
    });
}

}  // namespace aft
