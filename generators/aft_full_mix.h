// The products of AFT-full (SPEC F1, F5): a register tile sums a whole row of weights. Formulas: generators/aft_full.h.
//
//   [num | den][t] = sum_J exp(m_J - m_I) sum_{t' in J} E[t, t'] [e V | e][t']        e = exp(K - m_J)
//
// m_J is the maximum of K over the keys up to the end of block J, so a block of keys is packed once, whichever queries read it: the sums
// walk the blocks upwards and are multiplied by exp(m_(J-1) - m_J) <= 1 on entering J. On the diagonal the sum of a tile ends
// with the tile, not with the block: of what is computed for nothing only a tile's own corner is left.
//
// Layouts (Halide dimension 0 first):
//   pack     (l, part, row, panel)   16 channels a panel: (e V, e), zero where there is no row (aft_window_keys_f32)
//   tiles    (i, k, tile)            E[tile * granule + i, k]: in the order in which a tile of queries reads it, zero beyond it
#pragma once
#include <Halide.h>

#include <functional>

#include "generators/aft_full.h"

namespace aft {

constexpr int full_panel = 16;    // channels
constexpr int full_granule = 12;  // rows of a tile in memory; every tile height divides it

// The numbers of a plan that the formulation needs.
struct FullTile {
    int rows;    // of a register tile
    int unroll;  // weights that a turn of the product takes; divides the length of a block
};

struct FullMixInputs {
    Halide::Func pack, tiles, maxima;  // maxima (c, block): m of each block
    Halide::Expr rows, block, count;   // of the pack; of a block; blocks
    Halide::Expr first, C;             // query t of the result sees keys up to t + first
};

// (y, R, den) of some queries; sums = (num, den).
struct FullForward {
    Halide::Var l{"l"}, part{"part"}, t{"t"}, panel{"panel"}, n{"n"}, c{"c"};
    Halide::RDom r, blocks;
    Halide::Func scale{"scale"}, product{"product"}, sums{"sums"}, out{"out"};
    FullTile extents;

    FullForward(Halide::Func query, Halide::Expr queries, const FullMixInputs &in, FullTile extents) : extents(extents) {
        using namespace Halide;
        const int rows = extents.rows, unroll = extents.unroll;
        blocks = RDom(0, in.count, "blocks");
        r = RDom(0, unroll, 0, in.block / unroll, "r");
        const Expr at = n * in.block + r.y * unroll;
        r.where(at < in.rows);
        r.where(at < t / rows * rows + rows + in.first);
        const Expr row = unsafe_promise_clamped(at + r.x, 0, in.rows - 1);
        product(l, part, t, panel, n) += in.tiles(t % full_granule, row, t / full_granule) * in.pack(l, part, row, panel);

        const Expr channel = inside(panel * full_panel + l, in.C);
        scale(l, panel, n) = exp_to_zero(min(in.maxima(channel, max(n - 1, 0)) - in.maxima(channel, n), 0.0f));
        sums(l, part, t, panel) = 0.0f;
        sums(l, part, t, panel) = sums(l, part, t, panel) * scale(l, panel, blocks) + product(l, part, t, panel, blocks);

        const Expr num = sums(c % full_panel, 0, t, c / full_panel), den = sums(c % full_panel, 1, t, c / full_panel), ratio = num / den;
        out(c, t) = Tuple(Gate(query(inside(c, in.C), inside(t, queries))).times(ratio), ratio, den);
    }
};

// Weights [R, L] as tiles.
struct FullTiles {
    Halide::Var i{"i"}, k{"k"}, tile{"tile"};
    Halide::Func piece{"piece"}, out{"out"};

    FullTiles(Halide::Func weights, Halide::Expr R, Halide::Expr L) {
        using namespace Halide;
        const Expr t = tile * full_granule + i;
        piece(k, i, tile) = select(likely(k < L) && likely(t < R), weights(inside(k, L), inside(t, R)), 0.0f);
        out(i, k, tile) = piece(k, i, tile);
    }
};

struct FullMixPlan {
    FullTile tile;
    std::function<void(FullForward &)> forward;
    std::function<void(FullTiles &)> tiles;
    void drop_moves() { no_moves(forward, tiles); }
};
FullMixPlan plan_aft_full_mix(const Request &request);

}  // namespace aft
