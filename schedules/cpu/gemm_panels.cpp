// Products with packed weights on a CPU core: a register tile of rows of A by half a panel, one or two, panels in the order of memory.
//
// One row is bound by reading the weight: a vector of a panel feeds one FMA. Its lines asked for eight turns ahead (the processor's own
// prefetch ends with each page): 0.98 of a step of one sequence; 16 turns 0.99. From some 8 rows on (AVX-512: 8 x 32, 2 loads + 8
// broadcasts + 16 FMA per k) the FMA units bind; a panel stays in L1 or L2 while all rows pass over it.
// Eight turns ahead, many rows: 1.04 of the tokens a second at batch 64 (a Xeon, weights in L3); 32 turns are no better. With few rows and
// panels in pairs (aft tune --cold): 0.63 to 0.78 of a step's time at batch 4, 0.80 at batch 2; with AVX2 on that
// Xeon the eight turns alone, which a Zen 3 does without (below), 0.78 at batch 4. One row, panels in pairs and two steps a turn: 0.94 to 0.99, AVX2 0.90 to 0.97.
// While 64 rows pass over a panel in eight tiles, a line a turn brings the next one, to the end of which the last tile comes: 0.90 of a
// step's time. Without the eight turns ahead 0.92, two lines a turn 0.94; tiles of 12 or 13 rows, for which LLVM runs out of registers, 1.2.
//
// AVX2: 3 rows x 4 vectors leave LLVM one register short, which it spills every turn, and read a panel from L2 21 times for 64 rows. Half a
// panel, 6 rows x 2 vectors, is the tile of products with unpacked weights (gemm.cpp): 0.49 to 0.50 of a cold product's time on a Zen 3 (64 rows,
// two threads), whose own prefetch is disturbed by the eight turns ahead (0.53 to 0.58 with them). Whole decoding at batch 64: 0.59 to 0.70, at batch 4: 0.84 to 0.89.
// Panels are dealt to the threads one by one; each is summed by one of them.
#include "generators/fetch_ahead.h"
#include "generators/gemm_panels.h"
#include "schedules/plan.h"

namespace aft {
namespace {

using namespace Halide;

struct Numbers {
    int lanes, unroll, ahead, next_lines;
    FetchAhead *lines;
};

void schedule_product(PanelProduct &p, const Numbers &n) {
    const int lanes = n.lanes;
    Var io{"io"}, ii{"ii"}, jo{"jo"}, part{"part"}, ji{"ji"};
    p.c.split(p.j, jo, ji, std::max(p.columns, gemm_panel), guard).split(p.i, io, ii, p.rows, guard);
    if (p.columns < gemm_panel)
        p.c.split(ji, part, ji, p.columns).reorder(ji, ii, io, part, jo);
    else
        p.c.reorder(ji, ii, io, jo);
    p.c.vectorize(ji, lanes).unroll(ji).unroll(ii).parallel(jo);
    p.product.compute_at(p.c, io).store_in(MemoryType::Register).bound_extent(p.j, p.columns).bound_extent(p.i, p.rows);
    p.product.vectorize(p.j, lanes).unroll(p.j).unroll(p.i);
    p.product.update().reorder(p.j, p.i, p.r).vectorize(p.j, lanes).unroll(p.j).unroll(p.i).unroll(p.r, n.unroll, guard);
    if (n.ahead) n.lines->loads(p.product, p.r.x, "b", n.ahead);
    if (n.next_lines) n.lines->next_stream(p.product, p.r.x, "b", n.next_lines, p.c, io, jo);
}

void schedule_pack(PanelPack &p, int lanes) {
    Var ko{"ko"}, ki{"ki"};
    p.panels.split(p.k, ko, ki, lanes, guard).reorder(p.l, ki, ko, p.panel).vectorize(p.l, lanes).unroll(p.l).unroll(ki).parallel(p.panel);
    p.tile.compute_at(p.panels, ko).store_in(MemoryType::Stack).vectorize(p.k, lanes, TailStrategy::RoundUp).unroll(p.j);  // a transpose through the stack, not gathers
}

}  // namespace

PanelPlan plan_gemm_panels(const Request &request) {
    return planned(request, [&](const Machine &machine, Knobs &knobs) -> PanelPlan {
        const int lanes = machine.lanes;
        const bool product = request.part == "product", single = request.variant == "single", few = request.variant == "few", many = request.variant == "many";
        const bool wide = machine.vector_registers == 32;
        const int rows = single ? 1 : knobs.only(product, "tile_rows", few ? 4 : wide ? 8 : 6, {3, 4, 6, 8, 12}, "rows of A that a vector of a panel feeds");
        const int columns = knobs.only(product, "tile_columns", single || (few && wide) ? 2 * gemm_panel : wide ? gemm_panel : gemm_panel / 2, {gemm_panel / 2, gemm_panel, 2 * gemm_panel},
                                       "half a panel: twice the rows for each of its vectors; two side by side: more sums in flight, but two streams");
        const int unroll = knobs.only(product, "unroll", single ? 2 : 4, {1, 2, 4, 8}, "steps of k per turn");
        const int ahead = knobs.only(product, "ahead", product && (wide || single) ? 8 : 0, {0, 8, 32}, "turns after which a line of a panel, which comes from memory, is wanted");
        const int next_lines = knobs.only(product && many, "next_lines", many ? 1 : 0, {0, 1, 2, 4}, "lines of the next panel asked for a turn, while this one's are in cache");
        const int vectors = columns / lanes;
        knobs.require(!product || rows * vectors + 2 <= machine.vector_registers, "accumulators, a broadcast and a vector of B fit the registers");
        return {rows, columns, [=, lines = request.fetch_ahead](PanelProduct &p) {
                    schedule_product(p, {lanes, unroll, ahead, next_lines, lines});
                }, [=](PanelPack &p) { schedule_pack(p, lanes); }};
    });
}

}  // namespace aft
