// AFT-local: F2 of SPEC, causal or not, forward and backward, on cache-sized pieces (models/mixers/local.cpp walks them).
//
//   num[t] = sum_t' W[t, t'] e[t'] V[t']     den[t] = sum_t' W[t, t'] e[t']     e[t'] = exp(K[t'] - m)
//   W[t, t'] = exp(w[t, t'] - r[t]) in the window |t - t'| < s,  far[t] = exp(-r[t]) beyond it,  0 in the future
//
// A band and a running state: a tile of rows sees the keys from its window's begin to its window's end as a dense
// product with W; keys before are a prefix sum and (not causal) keys behind a suffix sum, times far[t]. Sums only add;
// exp(w) - 1 appears nowhere. Backward is the same product with W transposed:
//   G = dY sigma(Q) / den     S[t'] = sum_t W[t, t'] G[t]     P[t'] = sum_t W[t, t'] G[t] R[t]
//   dV = e S     dK = e (V S - P)     dw[t, t'] = W[t, t'] sum_c e[t'] (G[t] V[t'] - G[t] R[t])
//
// Layouts (Halide dimension 0 first):
//   pack (l, part, p, panel)   16 channels a panel: keys (e V, e), queries (G, -G R); zero where there is no row or channel
//   table (k, t)               column k of row t is the row  t / granule * granule - before + k  of the other side
//   tiles (i, k, granule)      the table in the order in which a product reads it: row granule * 12 + i, column k; zero beyond the rows
// A piece is `rows` rows (a multiple of the granule, but for the last); its pack has before + rows (rounded up to the
// granule) + after rows, so that pack row p meets row t of the piece at table column p - t / granule * granule.
#pragma once
#include <Halide.h>

#include <functional>

#include "generators/gate.h"
#include "generators/request.h"
#include "generators/vector_math.h"

namespace aft {

constexpr int window_panel = 16;    // channels
constexpr int window_granule = 12;  // rows; every tile height divides it

// The numbers of a plan that the formulation needs.
struct WindowTile {
    int rows;    // of a register tile
    int unroll;  // columns of the table that a turn of the product takes
};

// (max, min) of the rows of x and of what came before.
struct WindowRange {
    Halide::Var c{"c"};
    Halide::Var one{"one"};  // generators/kernel_generator.h, "In place"
    Halide::RDom r;
    Halide::Func range{"range"};

    WindowRange(Halide::Func x, Halide::Func high, Halide::Func low, Halide::Expr rows) : r(0, rows, "r") {
        using namespace Halide;
        range(c, one) = Tuple(high(c), low(c));
        range(c, one) = Tuple(max(range(c, one)[0], x(c, r)), min(range(c, one)[1], x(c, r)));
    }
};

// Keys of a piece, relative to `maximum`. Pack row p is row p - missing of key and value.
struct WindowKeys {
    Halide::Var l{"l"}, part{"part"}, p{"p"}, panel{"panel"};
    Halide::Func weight{"weight"}, pack{"pack"};

    WindowKeys(Halide::Func key, Halide::Func value, Halide::Func maximum, Halide::Expr missing, Halide::Expr rows, Halide::Expr C) {
        using namespace Halide;
        const Expr row = p - missing, at = clamp(likely(row), 0, rows - 1), c = inside(panel * window_panel + l, C);
        const Expr exists = likely(row >= 0 && row < rows) && likely(panel * window_panel + l < C);
        weight(l, p, panel) = select(exists, exp_clamped(min(key(c, at) - maximum(c), 0.0f)), 0.0f);
        pack(l, part, p, panel) = select(part == 0, weight(l, p, panel) * value(c, at), weight(l, p, panel));
    }
};

struct WindowQueriesInputs {
    Halide::Func output_gradient, query, output;  // (c, row)
    Halide::Func den;                             // the same, for any c of a vector that hangs over the edge: it may belong to a head
    Halide::Expr gradient_factor, C;
};

// What belongs to a query alone (AFT-conv's too): gradients = (G, G R, both relative to the query's own maximum, dQ, slack). The slack is the
// smallest den - limit so far (its t has stride 0), negative if an element is left to the exact path (models/mixers/exact_path.h).
struct WindowQueries {
    Halide::Var c{"c"}, t{"t"};
    Halide::Func alone{"alone"}, gradients{"gradients"};

    explicit WindowQueries(const WindowQueriesInputs &in) {
        using namespace Halide;
        const Expr at_c = inside(c, in.C), dy = in.output_gradient(at_c, t), den = in.den(c, t);
        const Expr y = in.output(at_c, t), limit = least_den(dy, y, in.gradient_factor);
        const GateBackward back(Gate(in.query(at_c, t)), dy, y, max(den, smallest_den));  // den is 0 where the element is exact in forward
        const Expr held = den >= limit;
        alone(c, t) = Tuple(select(held, back.G, 0.0f), select(held, back.GR, 0.0f), back.dQ, den - limit);
        gradients(c, t) = Tuple(undef<float>(), undef<float>(), undef<float>(), undef<float>());
        gradients(c, t) = Tuple(alone(c, t)[0], alone(c, t)[1], alone(c, t)[2], min(gradients(c, t)[3], alone(c, t)[3]));
    }
};

// Queries that a piece of keys meets: (G, -G R), from those relative to `own` to those relative to the keys' `maximum`. Pack row p is row
// p - missing.
struct WindowQueryPack {
    Halide::Var l{"l"}, part{"part"}, p{"p"}, panel{"panel"}, c{"c"};
    Halide::Func rescale{"rescale"}, pack{"pack"};

    WindowQueryPack(Halide::Func G, Halide::Func GR, Halide::Func maximum, Halide::Func own, Halide::Expr missing, Halide::Expr rows, Halide::Expr C) {
        using namespace Halide;
        const Expr row = p - missing, at = clamp(likely(row), 0, rows - 1), channel = inside(panel * window_panel + l, C);
        const Expr exists = likely(row >= 0 && row < rows) && likely(panel * window_panel + l < C);
        rescale(c) = exp_clamped(min(maximum(c) - own(c), 0.0f));
        pack(l, part, p, panel) = select(exists, select(part == 0, G(channel, at), -GR(channel, at)) * rescale(channel), 0.0f);
    }
};

enum class WindowForm { causal, reversed, both };  // far rows: before (keys, causal), behind (queries, causal), on both sides

struct WindowMixInputs {
    Halide::Func pack, tiles;           // (l, part, p, panel), (i, k, granule)
    Halide::Func target, source;        // far weights of the rows of the piece, of the rows of the pack; undefined = 1
    Halide::Func before_state, after_state;  // (l, part, panel): sums of what lies before and behind the pack
    Halide::Func scale_low, scale_high; // (c): the carried state times exp(low - high)
    Halide::Expr rows, C, before, after;
};

// sums(l, part, t, panel) = far sums + sum_k tiles(t, k) pack(l, part, p(t, k), panel), and the carried state behind the piece.
struct WindowMix {
    Halide::Var l{"l"}, part{"part"}, t{"t"}, panel{"panel"}, tile{"tile"};
    Halide::RDom in_tile, in_last, tiles, k;
    Halide::Func sums{"sums"}, block{"block"}, last{"last"}, prefix{"prefix"}, suffix{"suffix"}, state{"state"};
    WindowForm form;
    WindowTile extents;

    WindowMix(const WindowMixInputs &in, WindowForm form, WindowTile extents) : form(form), extents(extents) {
        using namespace Halide;
        const int rows = extents.rows, unroll = extents.unroll;
        const Expr count = ceil_div(in.rows, rows), seen = in.before + rows + in.after;
        const bool has_prefix = form != WindowForm::reversed, has_suffix = form != WindowForm::causal;
        in_tile = RDom(0, rows, "in_tile"), in_last = RDom(0, rows, "in_last"), tiles = RDom(1, count, "tiles");
        const auto from = [&](Expr p) {
            const Expr x = in.pack(l, part, p, panel);
            return in.source.defined() ? x * in.source(p) : x;
        };
        const Expr c = min(panel * window_panel + l, in.C - 1), scale = exp_clamped(min(in.scale_low(c) - in.scale_high(c), 0.0f));

        Expr far = 0.0f;
        if (has_prefix) {
            block(l, part, tile, panel) += from(tile * rows + in_tile);
            prefix(l, part, tile, panel) = in.before_state(l, part, panel) * scale;
            prefix(l, part, tiles, panel) = prefix(l, part, tiles - 1, panel) + block(l, part, tiles - 1, panel);
            far = prefix(l, part, t / rows, panel);
            state(l, part, panel) = prefix(l, part, count, panel);
        }
        if (has_suffix) {  // index j counts tiles from the last one; j = count is the tile before the first
            last(l, part, tile, panel) += from(tile * rows + seen + in_last);
            const Expr start = in.after_state(l, part, panel);
            suffix(l, part, tile, panel) = has_prefix ? start : start * scale;
            suffix(l, part, tiles, panel) = suffix(l, part, tiles - 1, panel) + last(l, part, count - 1 - tiles, panel);
            far = far + suffix(l, part, count - 1 - t / rows, panel);
            if (!has_prefix) state(l, part, panel) = suffix(l, part, count, panel);
        }
        k = RDom(0, unroll, 0, seen / unroll, "k");
        const Expr column = k.y * unroll + k.x, first = t / rows * rows, low = first % window_granule;
        sums(l, part, t, panel) = in.target.defined() ? far * in.target(inside(t, in.rows)) : far;
        sums(l, part, t, panel) += in.tiles(low + t % rows, low + column, first / window_granule) * in.pack(l, part, first + column, panel);
    }
};

// (y, den) of a piece of queries; sums = (num, den).
struct WindowForward {
    Halide::Var c{"c"}, t{"t"};
    Halide::Func y{"y"};
    WindowMix mix;

    WindowForward(Halide::Func query, const WindowMixInputs &in, WindowForm form, WindowTile extents) : mix(in, form, extents) {
        using namespace Halide;
        const Expr l = c % window_panel, panel = c / window_panel;
        const Expr num = mix.sums(l, 0, t, panel), den = mix.sums(l, 1, t, panel);
        const Gate gate(query(inside(c, in.C), inside(t, in.rows)));
        y(c, t) = Tuple(gate.of_ratio(num, den), den);
    }
};

// (dV, dK) of a piece of keys; sums = (S, -P); `keys` is their pack (e V, e).
struct WindowBackward {
    Halide::Var c{"c"}, t{"t"};
    Halide::Func gradient{"gradient"};
    WindowMix mix;

    WindowBackward(Halide::Func keys, Halide::Func value, const WindowMixInputs &in, WindowForm form, WindowTile extents) : mix(in, form, extents) {
        using namespace Halide;
        const Expr l = c % window_panel, panel = c / window_panel;
        const Expr e = keys(l, 1, t, panel), shares = e * mix.sums(l, 0, t, panel);  // e S <= sum |dY|: formed before V joins
        gradient(c, t) = Tuple(shares, shares * value(inside(c, in.C), inside(t, in.rows)) + e * mix.sums(l, 1, t, panel));
    }
};

// Sum of the rows of a pack, each times its weight: what a piece adds to a far state.
struct WindowTotal {
    Halide::Var l{"l"}, part{"part"}, panel{"panel"};
    Halide::RDom r;
    Halide::Func sum{"sum"}, total{"total"};

    WindowTotal(Halide::Func pack, Halide::Func weight, Halide::Expr rows) : r(0, rows, "r") {
        sum(l, part, panel) += pack(l, part, r, panel) * weight(r);
        total(l, part, panel) = sum(l, part, panel);
    }
};

struct WindowDotsInputs {
    Halide::Func a, b;  // (x, t, panel), (x, p, panel)
    Halide::Expr accumulate, missing, X, panels, rows, b_rows, width;
};

// dots(k, t) (+)= sum_{x, panel} a(x, t, panel) b(x, p(t, k) - missing, panel): w = u v^T, and dw, inside the band only.
// X is a multiple of 16. The rows of a granule see the same rows of b, so a tile is some rows of one granule (i) by some columns (k):
// each vector that it loads serves several products. Partial sums run along x in vector lanes, which also halves the digits lost
// in long sums. A tile's rows see only `seen` columns from `low` on, those of the granule's other rows are left as they are:
// nobody reads them.
struct WindowDots {
    Halide::Var k{"k"}, t{"t"}, l{"l"}, i{"i"}, tile{"tile"};
    Halide::RDom r, lane, seen;
    Halide::Func partial{"partial"}, total{"total"}, dots{"dots"};

    WindowDots(const WindowDotsInputs &in, int tile_rows, int lanes, Halide::Type type) {
        using namespace Halide;
        r = RDom(0, in.X / lanes, 0, in.panels, "r"), lane = RDom(0, lanes, "lane"), seen = RDom(0, in.width - window_granule + tile_rows, "seen");
        const Expr low = tile % (window_granule / tile_rows) * tile_rows, first = tile / (window_granule / tile_rows) * window_granule + low;
        const Expr row = inside(tile * tile_rows + i, in.rows), other = clamp(likely(first + k - in.missing), 0, in.b_rows - 1);
        const Expr x = r.x * lanes + l;
        partial(l, k, i, tile) = cast(type, 0);
        partial(l, k, i, tile) += cast(type, in.a(x, row, r.y)) * cast(type, in.b(x, other, r.y));
        total(k, i, tile) += partial(lane, k, i, tile);
        dots(k, t) = undef(type);
        const Expr column = t % window_granule / tile_rows * tile_rows + seen;
        dots(column, t) = select(in.accumulate == 0, cast(type, 0), dots(column, t)) + total(seen, t % tile_rows, t / tile_rows);
    }
};

// Where an entry of a table stands; rows are queries (direction -1: keys are not later) or keys (+1), 0: not causal. `first` is that
// of the row's granule.
struct WindowPlace {
    Halide::Expr other, exists, in_window;
    WindowPlace(Halide::Expr t, Halide::Expr first, Halide::Expr k, Halide::Expr before, Halide::Expr window, Halide::Expr direction, Halide::Expr T) {
        other = first - before + k;
        exists = other >= 0 && other < T && (other - t) * direction >= 0;
        in_window = exists && Halide::abs(other - t) < window;
    }
    WindowPlace(Halide::Expr t, Halide::Expr k, Halide::Expr before, Halide::Expr window, Halide::Expr direction, Halide::Expr T)
        : WindowPlace(t, t / window_granule * window_granule, k, before, window, direction, T) {}
};

// From scores w (in table layout, float or double) to W, far, and the spread max - min of w over the keys of a row, for rows `first`
// (a multiple of the granule) and on of a sequence of T. The extremes of a row run along it in vector lanes.
struct WindowTable {
    Halide::Var k{"k"}, t{"t"}, l{"l"};
    Halide::RDom r, lane;
    Halide::Func partial{"partial"}, high{"high"}, low{"low"}, extremes{"extremes"}, table{"table"}, rows{"rows"};  // rows: (far, spread)

    WindowTable(Halide::Func scores, Halide::Expr window, Halide::Expr before, Halide::Expr causal, Halide::Expr width, Halide::Expr first, Halide::Expr T, int lanes)
        : r(0, ceil_div(width, lanes), "r"), lane(0, lanes, "lane") {
        using namespace Halide;
        const Type type = scores.types()[0];
        const Expr row = first + t, has_far = row >= window || (causal == 0 && row + window < T);
        const Expr none = cast(type, 3e38f), column = r * lanes + l, at = inside(column, width);
        const auto place = [&](Expr k) { return WindowPlace(row, k, before, window, select(causal != 0, -1, 0), T); };
        const Expr counts = column < width && place(column).in_window;
        partial(l, t) = Tuple(-none, none);
        partial(l, t) = Tuple(max(partial(l, t)[0], select(counts, scores(at, t), -none)), min(partial(l, t)[1], select(counts, scores(at, t), none)));
        high(t) = select(has_far, cast(type, 0), -none);
        high(t) = max(high(t), partial(lane, t)[0]);
        low(t) = select(has_far, cast(type, 0), none);
        low(t) = min(low(t), partial(lane, t)[1]);
        extremes(t) = Tuple(high(t), low(t));
        const Expr top = extremes(t)[0];
        const Expr far = select(has_far, exp_clamped(min(cast<float>(-top), 0.0f)), 0.0f);
        rows(t) = Tuple(far, cast<float>(top - extremes(t)[1]));
        const WindowPlace here = place(k);
        // The difference in the scores' type: rounded once.
        table(k, t) = select(here.in_window, exp_clamped(min(cast<float>(scores(k, t) - top), 0.0f)), here.exists, far, 0.0f);
    }
};

// The tiles of the other side: out(i, k, granule) = in(t's column in row `other`, other) in the window, far(other) beyond, t = 12 granule + i.
// The rows t of a column stand side by side in row `other`. Where some of them lie outside the window, their columns may lie outside the row:
// what is read there is the table's end of the row before or behind (rows 0 and T - 1 have all theirs), and not used.
struct WindowTranspose {
    Halide::Var i{"i"}, k{"k"}, granule{"granule"};
    Halide::Func out{"out"};

    WindowTranspose(Halide::Func in, Halide::Func far, Halide::Expr window, Halide::Expr before, Halide::Expr in_before, Halide::Expr direction,
                    Halide::Expr in_width, Halide::Expr T) {
        using namespace Halide;
        const Expr first = granule * window_granule, t = first + i;
        const WindowPlace here(t, first, k, before, window, direction, T);
        const Expr other = clamp(here.other, 0, T - 1);
        const Expr column = unsafe_promise_clamped(first + in_before - other / window_granule * window_granule + i, 0, in_width - 1);
        out(i, k, granule) = select(t < T && here.in_window, in(column, other), t < T && here.exists, far(other), 0.0f);
    }
};

// dw(k, t) = W(k, t) sum of the partial sums, 0 outside the window; W as tiles.
struct WindowBiasGradient {
    Halide::Var k{"k"}, t{"t"};
    Halide::RDom r;
    Halide::Func sum{"sum"}, out{"out"};

    WindowBiasGradient(Halide::Func tiles, Halide::Func partial, Halide::Expr window, Halide::Expr before, Halide::Expr direction, Halide::Expr groups,
                       Halide::Expr T)
        : r(0, groups, "r") {
        using namespace Halide;
        sum(k, t) += partial(k, t, r);
        const Expr weight = tiles(t % window_granule, k, t / window_granule);
        out(k, t) = select(WindowPlace(t, k, before, window, direction, T).in_window, weight * sum(k, t), 0.0f);
    }
};

// out(x, t) += sum_k band(i, k, granule) a(x, row of k), t = 12 granule + i: du = dw v and dv = dw^T u inside the band. A tile is some rows (i)
// of a granule, which see the same rows of a.
struct WindowApply {
    Halide::Var x{"x"}, t{"t"}, i{"i"}, tile{"tile"};
    Halide::RDom k;
    Halide::Func sum{"sum"}, out{"out"};
    WindowTile extents;

    WindowApply(Halide::Func band, Halide::Func a, Halide::Expr before, Halide::Expr after, Halide::Expr X, Halide::Expr T, WindowTile extents)
        : extents(extents) {
        using namespace Halide;
        const Expr first = tile * extents.rows, low = first % window_granule;
        k = RDom(0, extents.unroll, 0, (before + extents.rows + after) / extents.unroll, "k");
        const Expr column = k.y * extents.unroll + k.x;
        const Expr other = clamp(likely(first - before + column), 0, T - 1);
        sum(x, i, tile) += band(low + i, low + column, first / window_granule) * a(inside(x, X), other);
        out(x, t) = undef<float>();
        out(x, t) += sum(x, t % extents.rows, t / extents.rows);
    }
};

struct WindowPlan {
    WindowTile tile;
    int lanes;
    int dot_rows = 1;  // of a tile of dot products; divides the granule
    std::function<void(WindowRange &)> range;
    std::function<void(WindowKeys &)> keys;
    std::function<void(WindowQueries &)> queries;
    std::function<void(WindowQueryPack &)> query_pack;
    std::function<void(WindowForward &)> forward;
    std::function<void(WindowBackward &)> backward;
    std::function<void(WindowTotal &)> total;
    std::function<void(WindowDots &)> dots;
    std::function<void(WindowTable &)> table;
    std::function<void(WindowTranspose &)> transpose;
    std::function<void(WindowBiasGradient &)> bias_gradient;
    std::function<void(WindowApply &)> apply;
    void drop_moves() { no_moves(range, keys, queries, query_pack, forward, backward, total, dots, table, transpose, bias_gradient, apply); }
};
WindowPlan plan_aft_window(const Request &request);

}  // namespace aft
