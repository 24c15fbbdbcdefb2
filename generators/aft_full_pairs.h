// The gradient of AFT-full's position bias (SPEC "Backward"): what a pair of query and key gives, summed over batch and channels.
//
//   products[t, t'] = sum_(b, c) exp(m_J - m_I) (G[t] e[t'] V[t'] - G[t] R[t] e[t'])      e = exp(K - m_J), t in block I, t' in J
//
// and dw = E (.) products (generators/aft_full.h). It is a matrix product over k = (sequence, panel of channels, part, channel), 32 k a
// panel: queries come packed as the sums of dK and dV read them (generators/aft_full_mix.h), relative to their own block, and get
// the factor while a tile of them is copied; the keys, all of one block, are packed as columns side by side on the way.
// A tile whose keys all lie in its queries' future is zero and costs nothing.
#pragma once
#include <Halide.h>

#include <functional>

#include "generators/aft_full_mix.h"

namespace aft {

// The numbers of a plan that the formulation needs.
struct FullPairsTile {
    int rows, columns;  // of a register tile: queries, keys
    int depth;          // most panels of channels whose packed keys are held at a time
    int unroll;         // k that a turn of the product takes; divides the k of a panel
};

struct FullPairsInputs {
    Halide::Func queries;      // (l, part, t, panel, b)
    Halide::Func key, value;   // (c, t', b)
    Halide::Func maxima;       // (c, b, block), from the keys' own block on
    Halide::Expr R, L, B, C, panels, block, count;  // queries, keys; of a block; maxima
    Halide::Expr first;        // pairs exist where t' <= t + first
};

struct FullPairs {
    Halide::Var i{"i"}, j{"j"}, k{"k"}, l{"l"}, part{"part"}, panel{"panel"}, column{"column"}, n{"n"}, tile{"tile"};
    Halide::RDom r, chunks;
    Halide::Func scale{"scale"}, factor{"factor"}, rows{"rows"}, pair{"pair"}, columns{"columns"}, product{"product"}, out{"out"};
    FullPairsTile extents;

    FullPairs(const FullPairsInputs &in, FullPairsTile extents) : extents(extents) {
        using namespace Halide;
        const int width = 2 * full_panel;  // k of a panel
        const Expr all = in.B * in.panels, chunk_count = ceil_div(all, extents.depth), depth = ceil_div(all, chunk_count) * width;
        chunks = RDom(0, chunk_count, "chunks");
        r = RDom(0, extents.unroll, 0, depth / extents.unroll, "r");

        const auto channel = [&](Expr panel) { return inside(panel % in.panels * full_panel + l, in.C); };
        const auto maximum = [&](Expr panel, Expr n) { return in.maxima(channel(panel), panel / in.panels, min(n, in.count - 1)); };
        scale(l, panel, n) = exp_to_zero(min(maximum(panel, 0) - maximum(panel, n), 0.0f));
        factor(l, panel, tile) = scale(l, min(panel, all - 1), tile * extents.rows / in.block);
        const Expr of = k / width, at = min(of, all - 1);
        rows(k, i) = select(likely(of < all), in.queries(k % full_panel, k / full_panel % 2, inside(i, in.R), at % in.panels, at / in.panels) *
                                                  factor(k % full_panel, of, i / extents.rows), 0.0f);

        // The channels of a panel lie in one row but for the last panel's: no loop whose end could be split off tells them apart.
        const Expr from = min(panel, all - 1), b = from / in.panels, first_channel = from % in.panels * full_panel, key_time = inside(j, in.L);
        const auto load = [&](auto f) {
            const Expr dense = f(unsafe_promise_clamped(first_channel + l, 0, in.C - 1));
            return only_if(first_channel + full_panel <= in.C, dense, f(min(first_channel + l, in.C - 1)));
        };
        const Expr K = load([&](Expr c) { return in.key(c, key_time, b); }), V = load([&](Expr c) { return in.value(c, key_time, b); });
        const Expr e = exp_to_zero(min(K - load([&](Expr c) { return in.maxima(c, b, 0); }), 0.0f));
        pair(l, part, j, panel) = select(part == 0, e * V, -e);
        columns(j, k, column) = pair(k % full_panel, k / full_panel % 2, column * extents.columns + j, k / width);

        const Expr seen = j / extents.columns * extents.columns < i / extents.rows * extents.rows + extents.rows + in.first;
        r.where(r.y < select(seen, depth / extents.unroll, 0));
        const Expr kk = n * depth + r.y * extents.unroll + r.x;
        product(j, i, n) += rows(kk, i) * columns(j % extents.columns, kk, j / extents.columns);
        out(j, i) = undef<float>();
        out(j, i) = only_if(chunks == 0, 0.0f, out(j, i)) + product(j, i, chunks);
    }
};

struct FullPairsPlan {
    FullPairsTile tile;
    std::function<void(FullPairs &)> schedule;
};
FullPairsPlan plan_aft_full_pairs(const Request &request);

}  // namespace aft
