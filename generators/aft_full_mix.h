// The products of AFT-full (SPEC F1, F5): a register tile sums a whole row of weights. Formulas: generators/aft_full.h.
//
//   [num | den][t] = sum_(J <= I) exp(m_J - m_I) sum_{t' in J} E[t, t'] [e V | e][t']        e = exp(K - m_J), t in I
//   [S | P][t']    = sum_(I >= J) exp(m_J - m_I) sum_{t in I} E[t, t'] [G | G R][t]          t' in J
//
// m_J is the maximum of K over the keys up to the end of block J, so a block is packed once, whoever reads it: forward walks the blocks of
// keys upwards and multiplies its sums by exp(m_(J-1) - m_J) <= 1 on entering J; backward walks the blocks of queries downwards,
// with exp(m_I - m_(I+1)) on entering I. On the diagonal the sum of a tile ends (backward: begins) with the tile, not with
// the block: of what is computed for nothing only a tile's own corner is left.
//
// Layouts (Halide dimension 0 first):
//   pack     (l, part, row, panel)   16 channels a panel: (e V, e), zero where there is no row (aft_window_keys_f32), or (G, G R)
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
    Halide::Func pack, tiles, maxima;  // maxima (c, block): m of each block, or one for all
    Halide::Expr rows, block, count;   // of the pack; of a block; maxima
    Halide::Expr first, C;             // pairs of a query t and a key t' exist where t' <= t + first
};

enum class FullDirection { up, down };  // the way of the sums: over the keys of a query, or over the queries of a key

// sums(l, part, t, panel) = sum_J scale_J .. sum_(k in J) tiles[t, k] pack[l, part, k, panel]
struct FullSums {
    Halide::Var l{"l"}, part{"part"}, t{"t"}, panel{"panel"}, n{"n"};
    Halide::RDom r, blocks;
    Halide::Func scale{"scale"}, product{"product"}, sums{"sums"};
    FullTile extents;

    FullSums(const FullMixInputs &in, FullDirection direction, FullTile extents) : extents(extents) {
        using namespace Halide;
        const int rows = extents.rows, unroll = extents.unroll;
        const bool up = direction == FullDirection::up;
        const Expr block_count = ceil_div(in.rows, in.block);
        blocks = RDom(0, block_count, "blocks");
        r = RDom(0, unroll, 0, in.block / unroll, "r");
        const Expr at = n * in.block + r.y * unroll, tile = t / rows * rows;
        r.where(at < in.rows);
        r.where(up ? at < tile + rows + in.first : at > tile - in.first - unroll);
        const Expr row = unsafe_promise_clamped(at + r.x, 0, in.rows - 1);
        product(l, part, t, panel, n) += in.tiles(t % full_granule, row, t / full_granule) * in.pack(l, part, row, panel);

        const Expr channel = inside(panel * full_panel + l, in.C);
        const auto maximum = [&](Expr n) { return in.maxima(channel, clamp(n, 0, in.count - 1)); };
        scale(l, panel, n) = exp_to_zero(min(up ? maximum(n - 1) - maximum(n) : maximum(n) - maximum(n + 1), 0.0f));
        const Expr block = up ? Expr(blocks) : block_count - 1 - blocks;
        sums(l, part, t, panel) = 0.0f;
        sums(l, part, t, panel) = sums(l, part, t, panel) * scale(l, panel, block) + product(l, part, t, panel, block);
    }
};

// (y, den) of some queries; sums = (num, den).
struct FullForward {
    Halide::Var c{"c"}, t{"t"};
    FullSums mix;
    Halide::Func out{"out"};

    FullForward(Halide::Func query, Halide::Expr queries, const FullMixInputs &in, FullTile extents) : mix(in, FullDirection::up, extents) {
        using namespace Halide;
        const auto sum = [&](int part) { return mix.sums(c % full_panel, part, t, c / full_panel); };
        const Gate gate(query(inside(c, in.C), inside(t, queries)));
        out(c, t) = Tuple(gate.of_ratio(sum(0), sum(1)), sum(1));
    }
};

// (dK, dV) of some keys; sums = (S, P).
struct FullBackward {
    Halide::Var c{"c"}, t{"t"};
    FullSums mix;
    Halide::Func out{"out"};

    FullBackward(Halide::Func key, Halide::Func value, Halide::Expr keys, const FullMixInputs &in, FullTile extents) : mix(in, FullDirection::down, extents) {
        using namespace Halide;
        const auto sum = [&](int part) { return mix.sums(c % full_panel, part, t, c / full_panel); };
        const Expr channel = inside(c, in.C), row = inside(t, keys), e = exp_to_zero(min(key(channel, row) - in.maxima(channel, 0), 0.0f)), dv = e * sum(0);
        out(c, t) = Tuple(dv * value(channel, row) - e * sum(1), dv);
    }
};

struct FullQueriesInputs {
    Halide::Func query, output, den, output_gradient;  // (c, t)
    Halide::Expr gradient_factor, C;
};

// dQ, and the pack (G, G R); G = 0 for the elements of the exact path, ExactRule::backward's comparison.
struct FullQueries {
    Halide::Var c{"c"}, t{"t"}, l{"l"}, part{"part"}, panel{"panel"};
    Halide::Func alone{"alone"}, query_gradient{"query_gradient"}, pack{"pack"};

    explicit FullQueries(const FullQueriesInputs &in) {
        using namespace Halide;
        const Expr at = inside(c, in.C), den = in.den(at, t), dy = in.output_gradient(at, t), y = in.output(at, t);
        const Expr is_exact = den < least_den(dy, y, in.gradient_factor);
        const GateBackward back(Gate(in.query(at, t)), dy, y, max(den, smallest_den));
        alone(c, t) = Tuple(back.dQ, select(is_exact, 0.0f, back.G), select(is_exact, 0.0f, back.GR));
        query_gradient(c, t) = alone(c, t)[0];
        const Expr channel = panel * full_panel + l;
        const Tuple pair = alone(inside(channel, in.C), t);
        pack(l, part, t, panel) = select(likely(channel < in.C), select(part == 0, pair[1], pair[2]), 0.0f);
    }
};

// Weights [R, L] as tiles of their rows, or of their columns.
struct FullTiles {
    Halide::Var i{"i"}, k{"k"}, tile{"tile"};
    Halide::Func piece{"piece"}, out{"out"};

    FullTiles(Halide::Func weights, Halide::Expr R, Halide::Expr L, bool columns) {
        using namespace Halide;
        const Expr t = tile * full_granule + i;
        if (columns) {  // side by side in memory already
            out(i, k, tile) = select(likely(k < R) && likely(t < L), weights(inside(t, L), inside(k, R)), 0.0f);
        } else {
            piece(k, i, tile) = select(likely(k < L) && likely(t < R), weights(inside(k, L), inside(t, R)), 0.0f);
            out(i, k, tile) = piece(k, i, tile);
        }
    }
};

struct FullMixPlan {
    FullTile tile;
    std::function<void(FullForward &)> forward;
    std::function<void(FullBackward &)> backward;
    std::function<void(FullQueries &)> queries;
    std::function<void(FullTiles &)> tiles;
    void drop_moves() { no_moves(forward, backward, queries, tiles); }
};
FullMixPlan plan_aft_full_mix(const Request &request);

}  // namespace aft
