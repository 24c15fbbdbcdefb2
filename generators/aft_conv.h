// AFT-conv in one dimension: F4 and F5 of SPEC, forward and backward, on cache-sized pieces (models/mixers/conv.cpp walks them).
//
//   num[t] = sum_j E[j] e[t + j - o] V[t + j - o] + f (sum of e V before and behind the taps)     den[t]: the same without V
//   e[t'] = exp(K[t'] - m)      E[j] = exp(w[j] - r),  f = exp(-r)  with r = max(0, max_j w[j])
//
// w and K belong to a head, and so does den; V and num belong to a channel: `head(c)` names the head of a channel. Tokens beyond
// the taps weigh exp(0) = 1: they are running sums, a prefix and (not causal) a suffix. Sums only add; exp(w) - 1 appears nowhere.
// Backward is the same with the taps reversed, of G and -G R, G = dY sigma(Q) / den:
//   S[t'] = sum_j E[j] G[t' - j + o] + f (...)      P: the same of G R      dV = e S      dK = sum over the head's channels of e (V S - P)
//   dw[j] = E[j] sum_{t', c} (e V)[t'] G[t' - j + o] - e[t'] (G R)[t' - j + o]
//
// Layouts, Halide dimension 0 first. Rows lie at constant distances, so that the taps of a tile read them by fixed offsets:
//   pack (c, p)                forward: e V of the channels, or e of the heads, a row each `conv_pitch` floats
//   pack (l, part, p, panel)   backward, in panels of 16 channels: (e V, e) or (G, -G R)
//                              of the rows that a piece sees, zero where there is no row or channel;
//                              row t of the piece meets tap j at pack row t + j
//   taps (l, j, panel)         E of each channel, padded with zeros to a multiple of conv_pad
#pragma once
#include <Halide.h>

#include <functional>

#include "generators/aft_window.h"  // Gate
#include "generators/request.h"
#include "generators/vector_math.h"

namespace aft {

constexpr int conv_pad = 8;      // taps; every unroll over taps divides it
constexpr int conv_pitch = 144;  // floats from row to row of a pack: 128 channels and a cache line, so that a panel's rows fall into different sets of L1

// How channels share heads: one each; a panel never has two; in any way.
enum class ConvGroup { single, uniform, ragged };

struct ConvHead {
    ConvGroup group;
    Halide::Func head;  // (c)
    Halide::Expr C, H;
    Halide::Expr of(Halide::Expr c) const {
        if (group == ConvGroup::single) return inside(c, C);
        return Halide::clamp(head(inside(group == ConvGroup::uniform ? c / window_panel * window_panel : c, C)), 0, H - 1);
    }
};

// e of the heads and e V of the channels, relative to the heads' maxima.
struct ConvValues {
    Halide::Var c{"c"}, h{"h"}, p{"p"};
    Halide::Func weights{"weights"}, pack{"pack"};

    ConvValues(Halide::Func key, Halide::Func value, Halide::Func maximum, const ConvHead &head) {
        using namespace Halide;
        weights(h, p) = exp_clamped(min(key(h, p) - maximum(h), 0.0f));
        pack(c, p) = weights(head.of(c), p) * value(c, p);
    }
};

// Sum over the rows of a pack.
struct ConvTotal {
    Halide::Var c{"c"};
    Halide::RDom r;
    Halide::Func sum{"sum"}, total{"total"};

    ConvTotal(Halide::Func pack, Halide::Expr rows) : r(0, rows, "r") {
        sum(c) += pack(c, r);
        total(c) = sum(c);
    }
};

// Channel c of panel `panel`, and whether there is one.
struct ConvChannel {
    Halide::Expr c, exists;
    ConvChannel(Halide::Expr l, Halide::Expr panel, Halide::Expr C) : c(inside(panel * window_panel + l, C)), exists(Halide::likely(panel * window_panel + l < C)) {}
};

// (e V, e) of the rows of a pack, relative to the maximum of their head. With as many heads as channels (`single`), head(c) = c.
struct ConvKeys {
    Halide::Var l{"l"}, part{"part"}, p{"p"}, panel{"panel"}, h{"h"};
    Halide::Func weight{"weight"}, pack{"pack"};

    ConvKeys(Halide::Func key, Halide::Func value, Halide::Func maximum, Halide::Func head, Halide::Expr missing, Halide::Expr single, Halide::Expr rows, Halide::Expr C,
             Halide::Expr H) {
        using namespace Halide;
        const Expr row = p - missing, at = clamp(likely(row), 0, rows - 1);
        const Expr hh = inside(h, H);
        weight(h, p) = select(likely(row >= 0 && row < rows), exp_clamped(min(key(hh, at) - maximum(hh), 0.0f)), 0.0f);
        const ConvChannel channel(l, panel, C);
        const Expr e = select(channel.exists, weight(select(single, channel.c, clamp(head(channel.c), 0, H - 1)), p), 0.0f);
        pack(l, part, p, panel) = select(part == 0, e * value(channel.c, at), e);
    }
};

struct ConvQueriesInputs {
    Halide::Func output_gradient, query, ratio, den;  // (c, row); den (h, row)
    Halide::Func maximum, maxima, head;               // (h) of the piece of keys; (h, piece) of the rows from there on; (c)
    Halide::Expr chunk, missing, before, gradient_factor, single, rows, C, H, pieces;
};

// (G, -G R) of the rows of a pack relative to the keys' maximum; the gradient of the piece's own queries; and the smallest
// den - limit, which is negative if an element is left to the exact path (models/mixers/exact_path.h).
struct ConvQueries {
    Halide::Var l{"l"}, part{"part"}, p{"p"}, panel{"panel"}, c{"c"}, t{"t"}, h{"h"}, piece{"piece"};
    Halide::RDom r;
    Halide::Func rescale{"rescale"}, scaled{"scaled"}, pack{"pack"}, query_gradient{"query_gradient"}, slack{"slack"};

    explicit ConvQueries(const ConvQueriesInputs &in) : r(0, in.rows, "r") {
        using namespace Halide;
        const Expr row = p - in.missing, at = clamp(likely(row), 0, in.rows - 1), hh = inside(h, in.H);
        const ConvChannel channel(l, panel, in.C);
        const Expr cc = channel.c;
        const auto limit = [&](Expr dy) { return max(abs(dy) * in.gradient_factor, 5.42101086e-20f); };  // 2^-64

        rescale(h, piece) = exp_clamped(min(in.maximum(hh) - in.maxima(hh, min(piece, in.pieces - 1)), 0.0f));
        const auto head_of = [&](Expr c) { return select(in.single, c, clamp(in.head(c), 0, in.H - 1)); };
        const Expr head = head_of(cc);
        const Expr dy = in.output_gradient(cc, at), den = in.den(head, at);
        const Gate gate(in.query(cc, at));
        const Expr G = gate.times(gate.times(dy, gate.f), gate.f / (den * gate.one_plus)) * rescale(head, max(row, 0) / in.chunk);
        scaled(l, p, panel) = select(likely(row >= 0 && row < in.rows) && channel.exists && den >= limit(dy), G, 0.0f);
        pack(l, part, p, panel) = select(part == 0, scaled(l, p, panel), -scaled(l, p, panel) * in.ratio(cc, at));

        const Expr own = clamp(likely(t + in.before - in.missing), 0, in.rows - 1);
        const Gate own_gate(in.query(c, own));
        const Expr halves = own_gate.times(own_gate.times(in.output_gradient(c, own), own_gate.a), own_gate.times(in.ratio(c, own), own_gate.a));
        query_gradient(c, t) = halves / (own_gate.one_plus * own_gate.one_plus);

        Var one{"one"};  // generators/kernel_generator.h, "In place"
        slack(c, one) = 1.0f;
        slack(c, one) = min(slack(c, one), in.den(head_of(c), r) - limit(in.output_gradient(c, r)));
    }
};

struct ConvTile {
    int rows, unroll;  // rows of a register tile (divides 12); taps a turn (divides conv_pad)
};

struct ConvMixInputs {
    Halide::Func pack, taps, far;            // (l, part, p, panel), (l, j, panel), (c)
    Halide::Func before_state, after_state;  // (l, part, panel): sums of what lies before and behind the pack
    Halide::Func scale;                      // (c): of the carried state
    Halide::Expr rows, C, window, padded;    // taps, and taps with their padding
};

// sums(l, part, t, panel) = far (sums beyond the taps) + sum_j taps(l, j, panel) pack(l, part, t + j, panel), and the carried
// state behind the piece. Forms: reversed (only rows behind a key) and both.
struct ConvMix {
    Halide::Var l{"l"}, part{"part"}, t{"t"}, panel{"panel"};
    Halide::RDom scan, all, j;
    Halide::Func prefix{"prefix"}, suffix{"suffix"}, sums{"sums"}, whole{"whole"}, state{"state"};
    WindowForm form;

    ConvMix(const ConvMixInputs &in, WindowForm form, ConvTile tile) : scan(1, in.rows - 1, "scan"), all(0, in.rows, "all"), form(form) {
        using namespace Halide;
        const bool has_prefix = form != WindowForm::reversed;
        const Expr c = inside(panel * window_panel + l, in.C), row = inside(t, in.rows);
        const auto carried = [&](Func f) { return f(l, part, panel) * in.scale(c); };
        Expr far = 0.0f;
        if (has_prefix) {
            prefix(l, part, t, panel) = 0.0f;
            prefix(l, part, scan, panel) = prefix(l, part, scan - 1, panel) + in.pack(l, part, scan - 1, panel);
            far = carried(in.before_state) + prefix(l, part, row, panel);
        }
        // The suffix counts rows from the last one.
        suffix(l, part, t, panel) = 0.0f;
        suffix(l, part, scan, panel) = suffix(l, part, scan - 1, panel) + in.pack(l, part, in.rows - 1 - scan + in.window, panel);
        far = far + ((has_prefix ? Expr(in.after_state(l, part, panel)) : carried(in.after_state)) + suffix(l, part, in.rows - 1 - row, panel));
        // The rows that lie beyond the taps of the next piece's first row: all of this piece's, counted from its own far side.
        whole(l, part, panel) += in.pack(l, part, has_prefix ? Expr(all) : Expr(all) + in.window - 1, panel);
        state(l, part, panel) = carried(has_prefix ? in.before_state : in.after_state) + whole(l, part, panel);

        j = RDom(0, tile.unroll, 0, in.padded / tile.unroll, "j");
        const Expr tap = j.y * tile.unroll + j.x;
        sums(l, part, t, panel) = far * in.far(c);
        sums(l, part, t, panel) += in.taps(l, tap, panel) * in.pack(l, part, t + tap, panel);
    }
};

struct ConvSumsInputs {
    Halide::Func pack, taps;                 // (c, p), (l, j, panel)
    Halide::Func far, before, after, scale;  // (c): weight beyond the taps; sums before and behind the pack; of the carried one
    Halide::Expr rows, window, padded;       // taps, and taps with their padding
};

// of(c, t) = far (sums beyond the taps) + sum_j taps(j) pack(c, t + j), and the carried sum behind the piece. Row i of tile q is
// row q * tile.rows + i. The sums beyond the taps are those of whole tiles (base) and of the tile's own rows (near). Forms: causal
// (only rows before a query) and both.
struct ConvSums {
    struct Side {  // the rows before the taps, or behind them
        Halide::Func base, near;
    };
    Halide::Var c{"c"}, n{"n"}, l{"l"}, i{"i"}, q{"q"}, panel{"panel"};
    Halide::RDom scan, step, j;
    Halide::Func sums{"sums"}, state{"state"};
    Side prefix{Halide::Func("prefix_base"), Halide::Func("prefix_near")}, suffix{Halide::Func("suffix_base"), Halide::Func("suffix_near")};
    WindowForm form;
    ConvTile tile;

    ConvSums(const ConvSumsInputs &in, WindowForm form, ConvTile tile)
        : scan(1, ceil_div(in.rows, tile.rows), "scan"), step(1, tile.rows - 1, "step"), form(form), tile(tile) {
        using namespace Halide;
        const int R = tile.rows;
        const Expr tiles = ceil_div(in.rows, R), at = panel * window_panel + l;
        const auto rows_from = [&](Expr first) {  // in pairs: the additions of a tile do not wait for each other
            std::vector<Expr> terms;
            for (int k = 0; k < R; k++) terms.push_back(in.pack(c, first + k));
            while (terms.size() > 1) {
                std::vector<Expr> pairs;
                for (size_t k = 0; k < terms.size(); k += 2) pairs.push_back(k + 1 < terms.size() ? terms[k] + terms[k + 1] : terms[k]);
                terms = pairs;
            }
            return terms[0];
        };
        prefix.base(c, n) = 0.0f;
        prefix.base(c, scan) = prefix.base(c, scan - 1) + rows_from((scan - 1) * R);
        prefix.near(l, i, q, panel) = 0.0f;
        prefix.near(l, step, q, panel) = prefix.near(l, step - 1, q, panel) + in.pack(at, q * R + step - 1);
        Expr far = in.before(at) * in.scale(at) + (prefix.base(at, q) + prefix.near(l, i, q, panel));
        if (form == WindowForm::both) {  // tiles and rows count from the last
            suffix.base(c, n) = 0.0f;
            suffix.base(c, scan) = suffix.base(c, scan - 1) + rows_from((tiles - scan) * R + in.window - 1);
            suffix.near(l, i, q, panel) = 0.0f;
            suffix.near(l, R - 1 - step, q, panel) = suffix.near(l, R - step, q, panel) + in.pack(at, q * R + R - 1 - step + in.window);
            far = far + (in.after(at) + (suffix.base(at, tiles - 1 - q) + suffix.near(l, i, q, panel)));
        }
        // The rows that lie beyond the taps of the next piece's first row: all of this piece's.
        state(c) = in.before(c) * in.scale(c) + prefix.base(c, tiles);

        j = RDom(0, tile.unroll, 0, in.padded / tile.unroll, "j");
        const Expr tap = j.y * tile.unroll + j.x;
        sums(l, i, q, panel) = far * in.far(at);
        sums(l, i, q, panel) += in.taps(l, tap, panel) * in.pack(at, q * R + i + tap);
    }
    Halide::Expr of(Halide::Expr c, Halide::Expr t) { return sums(c % window_panel, t % tile.rows, t / tile.rows, c / window_panel); }
};

// The sums themselves.
struct ConvPlain {
    Halide::Var c{"c"}, t{"t"};
    Halide::Func out{"out"};
    ConvSums mix;

    ConvPlain(const ConvSumsInputs &in, WindowForm form, ConvTile tile) : mix(in, form, tile) { out(c, t) = mix.of(c, t); }
};

// (y, R) of a piece of queries; den by head.
struct ConvForward {
    Halide::Var c{"c"}, t{"t"};
    Halide::Func y{"y"};
    ConvSums mix;

    ConvForward(Halide::Func query, Halide::Func den, const ConvHead &head, const ConvSumsInputs &in, WindowForm form, ConvTile tile) : mix(in, form, tile) {
        using namespace Halide;
        const Expr row = inside(t, in.rows);
        const Gate gate(query(inside(c, head.C), row));
        const Expr scaled = mix.of(c, t) / (den(head.of(c), row) * gate.one_plus);
        y(c, t) = Tuple(gate.times(gate.times(scaled, gate.f), gate.f), scaled * gate.one_plus);
    }
};

// dV and the channel's share of dK, of a piece of keys; `keys` is their pack.
struct ConvBackward {
    Halide::Var c{"c"}, t{"t"};
    Halide::Func gradient{"gradient"};
    ConvMix mix;

    ConvBackward(Halide::Func keys, Halide::Func value, const ConvMixInputs &in, WindowForm form, ConvTile tile) : mix(in, form, tile) {
        using namespace Halide;
        const Expr l = c % window_panel, panel = c / window_panel, row = inside(t, in.rows);
        const Expr e = keys(l, 1, row, panel), shares = e * mix.sums(l, 0, t, panel);  // e S <= sum |dY|: formed before V joins
        gradient(c, t) = Tuple(shares, shares * value(inside(c, in.C), row) + e * mix.sums(l, 1, t, panel));
    }
};

// products(l, j, panel) = sum_t (e V)(t) G(t + j) + e(t) (-G R)(t + j): what a piece gives to dw, before the factor E.
struct ConvFilter {
    Halide::Var l{"l"}, j{"j"}, panel{"panel"};
    Halide::RDom r;
    Halide::Func sum{"sum"}, products{"products"};

    ConvFilter(Halide::Func keys, Halide::Func queries, Halide::Expr rows) : r(0, rows, "r") {
        sum(l, j, panel) += keys(l, 0, r, panel) * queries(l, 0, r + j, panel) + keys(l, 1, r, panel) * queries(l, 1, r + j, panel);
        products(l, j, panel) = sum(l, j, panel);
    }
};

// sums(h, t) = sum of the head's `group` channels of x.
struct ConvHeads {
    Halide::Var h{"h"}, t{"t"};
    Halide::RDom r;
    Halide::Func sum{"sum"}, sums{"sums"};

    ConvHeads(Halide::Func x, Halide::Expr group, Halide::Expr C, Halide::Expr H) : r(0, group, "r") {
        sum(h, t) += x(Halide::min(inside(h, H) * group + r, C - 1), t);
        sums(h, t) = sum(h, t);
    }
};

struct ConvStepInputs {
    Halide::Func query, key, value, w;          // (c, b), ring (h, n, b), ring (c, n, b), (h, n) in double
    Halide::Func far_num, far_den, far_max;     // (c, b), (h, b), (h, b) in double
    Halide::Func head;
    Halide::Expr C, H, keys;
};

// Decoding: one query against a ring of keys and what left it, with the joint maximum of K + w, in double where digits
// or range would go.
struct ConvStep {
    Halide::Var c{"c"}, h{"h"}, n{"n"}, b{"b"};
    Halide::RDom ring;
    Halide::Func top{"top"}, weight{"weight"}, far{"far"}, den{"den"}, num{"num"}, result{"result"};

    explicit ConvStep(const ConvStepInputs &in) : ring(0, in.keys, "ring") {
        using namespace Halide;
        const Expr hh = inside(h, in.H), cc = inside(c, in.C), own = clamp(in.head(cc), 0, in.H - 1);
        const auto score = [&](Expr n) { return cast<double>(in.key(hh, n, b)) + in.w(hh, n); };
        top(h, b) = in.far_max(hh, b);
        top(h, b) = max(top(h, b), score(ring));
        // e = half^2 reaches e^-174: a key of weight 1e-60 still counts when its value is 1e30 larger than the others
        const auto squared = [&](Expr x) {
            const Expr half = cast<double>(exp_to_zero(cast<float>(0.5f * (x - top(h, b)))));
            return half * half;
        };
        weight(h, n, b) = squared(score(inside(n, in.keys)));
        far(h, b) = squared(in.far_max(hh, b));
        den(h, b) = far(h, b) * in.far_den(hh, b);
        den(h, b) += weight(h, ring, b);
        num(c, b) = far(own, b) * in.far_num(cc, b);
        num(c, b) += weight(own, ring, b) * cast<double>(in.value(cc, ring, b));
        const Gate gate(in.query(cc, b));
        const Expr ratio = cast<float>(num(c, b) / den(own, b));
        result(c, b) = gate.times(gate.times(ratio, gate.f), gate.f) / gate.one_plus;
    }
};

struct ConvPlan {
    ConvTile tile;
    std::function<void(ConvKeys &, Halide::Expr single)> keys;
    std::function<void(ConvQueries &, Halide::Expr single)> queries;
    std::function<void(ConvValues &)> values;
    std::function<void(ConvTotal &)> total;
    std::function<void(ConvPlain &)> sums;
    std::function<void(ConvForward &)> forward;
    std::function<void(ConvBackward &)> backward;
    std::function<void(ConvFilter &)> filter;
    std::function<void(ConvHeads &)> heads;
    std::function<void(ConvStep &)> step;
    void drop_moves() { no_moves(keys, values, total, sums, queries, forward, backward, filter, heads, step); }
};
ConvPlan plan_aft_conv(const Request &request);

}  // namespace aft
