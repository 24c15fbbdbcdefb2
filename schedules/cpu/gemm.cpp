// GEMM on a CPU core: the Goto loops around a register tile.
//
//   for jb (panels of B that fit L2)  for block of k  { pack B;  for io in parallel { pack A;  for jo { tile } } }
//
// The AVX-512 tile of 6 x 64 needs 4 loads + 6 broadcasts + 24 FMA per k: bound by the FMA ports. AVX2: 6 x 16.
// Measured on one Emerald Rapids core whose other thread is busy (peak 168 GFLOP/s), the median of nn, nt, tn at twelve shapes of the
// models: 80 % of FMA, 1.02 of MKL. 8 x 32 reads as much of B for 16 FMA: 1.07 to 1.28 of the time (nn, nt).
// AVX2 on a Zen 3: a tile's rows of A wait for memory as they are copied, 8 % of a product with N = 256. Those of the next tile asked for while
// this one's are copied: 0.94 to 1.01 of the time where N is 256 (mostly 0.97 to 0.99), 0.98 to 1.01 beyond; spread over the panels of the tile's
// turn: no better. tn on AVX-512: 0.98 to 1.02, not taken. B packed half as wide, so that it fits L2: 1.0 to 1.04 where N is 768 and up.
// A panel of B in L1 and blocks of packed rows of A in L2, with which that order's loops read least: 0.93 to 1.12 of the time, not taken; the FMA
// loop alone, its operands in L1 or L2, runs at 91 to 97 % of FMA there. GELU and its slope, two vectors side by side: 15 % of their product's
// time at K = 256, one by one 18.
// Tiles of C are split by shape, each summed in a fixed order of k, so the bits do not depend on the threads.
#include "generators/fetch_ahead.h"
#include "generators/gemm.h"
#include "schedules/plan.h"

namespace aft {
namespace {

using namespace Halide;

struct Numbers {
    int lanes, unroll;
    int at_once = 1;              // vectors that the epilogue computes side by side
    bool panels_outside = false;  // loop order: jo outside io
    bool next_a = false;          // ask for the next tile's rows of A
    FetchAhead *fetch = nullptr;
};

void schedule_b(Gemm &g, int lanes) {
    g.b_packed.compute_at(g.c, g.blocks).store_in(MemoryType::Heap);
    g.b_packed.bound_extent(g.j, g.extents.columns).align_storage(g.j, lanes).vectorize(g.j, lanes).unroll(g.j).parallel(g.panel);
    if (g.layout == GemmLayout::nt) {  // a tile of lanes x columns through the stack instead of gathers
        Var ko{"ko"}, ki{"ki"};
        g.b_packed.split(g.k, ko, ki, lanes, TailStrategy::RoundUp).reorder(g.j, ki, ko, g.panel).unroll(ki);
        g.b_tile.compute_at(g.b_packed, ko).store_in(MemoryType::Stack).vectorize(g.k, lanes).unroll(g.j);
    }
}

void schedule_a(Gemm &g, int lanes, Var io) {
    const int rows = g.extents.rows, depth = g.extents.depth;
    g.a_packed.compute_at(g.c, io);
    if (g.layout == GemmLayout::tn) {
        g.a_packed.store_in(MemoryType::Stack).bound_extent(g.i, rows).bound_storage(g.k, depth + lanes);
        g.a_packed.reorder(g.i, g.k, g.panel).vectorize(g.i, rows);
    } else {
        // A row stride that is no power of two keeps the rows of a tile in different sets of L1.
        g.a_packed.store_in(MemoryType::Stack).bound_extent(g.i, rows).bound_storage(g.k, depth + 16).vectorize(g.k, lanes, TailStrategy::GuardWithIf);
    }
}

void schedule_gemm(Gemm &g, const Numbers &n) {
    const int rows = g.extents.rows, columns = g.extents.columns;
    const bool blocked = g.extents.blocked;
    const int lanes = n.lanes;
    Var io{"io"}, ii{"ii"}, jo{"jo"}, ji{"ji"}, jb{"jb"};

    auto tiles = g.c.update();
    tiles.split(g.j, jo, ji, columns, guard).split(jo, jb, jo, g.panels_at_once, guard).split(g.i, io, ii, rows, guard);
    if (g.inner_products())
        tiles.vectorize(ji, columns).unroll(ii);
    else
        tiles.vectorize(ji, n.at_once * lanes).unroll(ji).unroll(ii);
    if (blocked && n.panels_outside)
        tiles.reorder(ji, ii, io, jo, g.blocks, jb).parallel(jo);
    else if (blocked)
        tiles.reorder(ji, ii, jo, io, g.blocks, jb).parallel(io);
    else
        tiles.reorder(ji, ii, io, jo, g.blocks, jb).parallel(jb);

    // Halide partitions the outermost loop that it can and leaves its first and last turn as they are, inner loops included: here
    // the loops over blocks, of which most products have one, whose packing would then read element by element.
    // So only the loops that copy are partitioned, and those of the tile test a guard that costs nothing.
    if (blocked) tiles.never_partition({jb, g.blocks}).always_partition(jo);

    // The accumulators: a register tile, never memory.
    g.product.compute_at(g.c, blocked && !n.panels_outside ? jo : io).store_in(MemoryType::Register);
    g.product.bound_extent(g.j, columns).bound_extent(g.i, rows).unroll(g.i);
    if (g.inner_products()) {
        g.product.unroll(g.j);
        g.product.update().reorder(g.lane.x, g.j, g.i).atomic().vectorize(g.lane.x).unroll(g.j).unroll(g.i);
        g.partial.compute_at(g.c, io).store_in(MemoryType::Register).bound_extent(g.l, lanes).bound_extent(g.j, columns).bound_extent(g.i, rows);
        g.partial.vectorize(g.l).unroll(g.j).unroll(g.i);
        g.partial.update().reorder(g.l, g.j, g.i, g.r.x).vectorize(g.l).unroll(g.j).unroll(g.i);
        return;
    }
    g.product.vectorize(g.j, lanes).unroll(g.j);
    g.product.update().reorder(g.j, g.i, g.r).vectorize(g.j, lanes).unroll(g.j).unroll(g.i).unroll(g.r, n.unroll, guard);
    if (!blocked) return;
    // What the epilogue writes and reads comes in while the tile is summed (0.96 to 1.0 of the time; B ahead of the sum: no gain).
    const Var turn = n.panels_outside ? io : jo;
    n.fetch->stores(g.c, turn, 0);
    for (const char *read : {"residual", "slope"}) n.fetch->loads(g.c, turn, read, 0);
    if (g.extents.pack_b) schedule_b(g, lanes);
    if (g.extents.pack_a) schedule_a(g, lanes, io);
    if (n.next_a) n.fetch->loads(g.a_packed, g.k, "a", 1, g.c, io);
}

}  // namespace

GemmPlan plan_gemm(const Request &request, GemmLayout layout, GemmEpilogue epilogue) {
    return planned(request, [&](const Machine &machine, Knobs &knobs) -> GemmPlan {
        const int lanes = machine.lanes, registers = machine.vector_registers;
        if (layout == GemmLayout::nt && request.variant != "large") {
            // Bound by reading B. One row: its vector of A feeds many rows of B; more rows: a square tile loads least. An odd
            // number of rows, or Halide takes the rows of c for aligned (generators/kernel_generator.h, "In place").
            const bool single = request.variant == "single";
            const int rows = single ? 1 : knobs("tile_rows", registers == 32 ? 5 : 3, {3, 5}, "rows of A that a vector of B feeds");
            const int columns = knobs("tile_columns", single ? 8 : 4, {4, 8, 16}, "rows of B read at once: streams for the prefetcher");
            knobs.require(rows * columns + rows + 1 <= registers, "accumulators, vectors of A and one of B fit the registers");
            return {{.rows = rows, .columns = columns, .depth = 0, .panels = 8, .blocked = false, .lanes = lanes}, [=](Gemm &g) { schedule_gemm(g, {lanes, 1}); }};
        }
        if (request.variant == "skinny") {
            const int vectors = knobs("tile_vectors", 2, {1, 2, 4}, "columns of B in flight hide the memory latency");
            const int unroll = knobs("unroll", 4, {1, 2, 4, 8}, "steps of k per turn");
            return {{.rows = 8, .columns = vectors * lanes, .depth = 0, .panels = 8, .blocked = false},
                    [=](Gemm &g) { schedule_gemm(g, {lanes, unroll}); }};
        }
        // 32 registers: a wide tile loads least, and its few rows of A are read where they lie; half of L2 is left to what passes
        // through it, and to a second thread of the core. tn reads A across its rows, so it copies them, in shorter blocks.
        const bool wide = registers == 32, tn = layout == GemmLayout::tn;
        const int vectors = knobs("tile_vectors", wide ? 4 : 2, wide ? std::vector<int>{2, 3, 4} : std::vector<int>{2, 3}, "each broadcast of A feeds this many FMA");
        const int rows = knobs("tile_rows", 6, {4, 6, 8, 12, 14}, "tall tiles: a row of A costs a broadcast per vector of B");
        knobs.require(rows * vectors + vectors + 1 <= registers, "accumulators, vectors of B and a broadcast fit the registers");
        const int depth = knobs("depth", wide ? tn ? 256 : 1024 : 512, {256, 320, 512, 1024}, "a row panel of A stays in L1, a panel of B in L2");
        const int width = knobs("width", wide && !tn ? 256 : 512, {256, 512, 1024}, wide ? "depth x width x 4 bytes: half of L2" : "depth x width x 4 bytes: twice L2; panels come from L3 in their order");
        const int unroll = knobs("unroll", wide ? 2 : 4, {1, 2, 4, 8}, "steps of k per turn");
        const bool pack_a = knobs.later("pack_a", wide && !tn ? 0 : 1, {0, 1}, "0: rows of A are read where they lie: no copy, but far apart");
        knobs.require(pack_a || tn || rows <= 8, "rows of A that are read where they lie take an address register each, of 16");
        const bool pack_b = layout == GemmLayout::nt || knobs.later("pack_b", 1, {0, 1}, "0: rows of B, which lie along the vector, are read in place");
        const bool panels_outside = knobs.later("panels_outside", 0, {0, 1}, "loop order: 0 a row panel of A stays in L1, 1 a panel of B does");
        knobs.require(!panels_outside || !pack_a, "packed rows of A are shared by the panels inside their loop");
        const int at_once = epilogue == GemmEpilogue::bias_gelu ? vectors_at_once(machine, knobs) : 1;
        knobs.require(vectors % at_once == 0, "the epilogue takes whole rows of the tile");
        const bool next_a = pack_a && !wide;
        const int columns = vectors * lanes;
        knobs.require(rows * depth * 4 <= machine.l1_bytes, "a row panel of A fits L1");
        knobs.require(depth * width * 4 <= 2 * machine.l2_bytes, "what is packed of B at a time fits twice L2");
        return {{.rows = rows, .columns = columns, .depth = depth, .panels = width / columns, .blocked = true, .pack_a = pack_a, .pack_b = pack_b},
                [=](Gemm &g) { schedule_gemm(g, {lanes, unroll, at_once, panels_outside, next_a, request.fetch_ahead}); }};
    });
}

}  // namespace aft
