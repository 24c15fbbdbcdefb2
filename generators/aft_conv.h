// AFT-conv in one dimension: F4 and F5 of SPEC, forward and backward, on cache-sized pieces (models/mixers/conv.cpp walks them).
//
//   num[t] = sum_j E[j] e[t + j - o] V[t + j - o] + f (sum of e V before and behind the taps)     den[t]: the same without V
//   e[t'] = exp(K[t'] - m)      E[j] = exp(w[j] - r),  f = exp(-r)  with r = max(0, max_j w[j])
//
// w and K belong to a head, V and the sums to a channel: `head(c)` names the head of a channel. Tokens beyond the taps weigh
// exp(0) = 1: they are running sums, a prefix and (not causal) a suffix. Sums only add; exp(w) - 1 appears nowhere.
// Backward is the same with the taps reversed, of G and -G R, G = dY sigma(Q) / den:
//   S[t'] = sum_j E[j] G[t' - j + o] + f (...)      P: the same of G R      dV = e S      dK = sum over the head's channels of e (V S - P)
//   dw[j] = E[j] sum_{t', c} (e V)[t'] G[t' - j + o] - e[t'] (G R)[t' - j + o]
//
// Layout, Halide dimension 0 first: a pack (c, p, part) holds (e V, e) or (G, -G R) of the rows that a piece sees, zero where there
// is none; row t of the piece meets tap j at pack row t + j. The taps are padded with zeros to a multiple of conv_pad.
#pragma once
#include <Halide.h>

#include <functional>

#include "generators/aft_window.h"  // Gate
#include "generators/request.h"
#include "generators/vector_math.h"

namespace aft {

constexpr int conv_pad = 8;  // taps; every unroll over taps divides it

// (e V, e) of the rows of a pack, relative to the maximum of their head.
struct ConvKeys {
    Halide::Var c{"c"}, p{"p"}, h{"h"}, part{"part"};
    Halide::Func weight{"weight"}, pack{"pack"};

    ConvKeys(Halide::Func key, Halide::Func value, Halide::Func maximum, Halide::Func head, Halide::Expr missing, Halide::Expr rows, Halide::Expr C, Halide::Expr H) {
        using namespace Halide;
        const Expr row = p - missing, at = clamp(likely(row), 0, rows - 1), exists = row >= 0 && row < rows;
        const Expr hh = inside(h, H);
        weight(h, p) = select(exists, exp_clamped(min(key(hh, at) - maximum(hh), 0.0f)), 0.0f);
        const Expr cc = inside(c, C), e = weight(clamp(head(cc), 0, H - 1), p);
        pack(c, p, part) = select(part == 0, e * value(cc, at), e);
    }
};

struct ConvQueriesInputs {
    Halide::Func output_gradient, query, ratio, den;  // (c, row)
    Halide::Func maximum, maxima, head;               // (h) of the piece of keys; (h, piece) of the rows from there on; (c)
    Halide::Expr chunk, missing, before, gradient_factor, rows, C, H, pieces;
};

// (G, -G R) of the rows of a pack relative to the keys' maximum; the gradient of the piece's own queries; and the smallest
// den - limit, which is negative if an element is left to the exact path (models/mixers/exact_path.h).
struct ConvQueries {
    Halide::Var c{"c"}, p{"p"}, part{"part"}, t{"t"}, h{"h"}, piece{"piece"};
    Halide::RDom r;
    Halide::Func rescale{"rescale"}, scaled{"scaled"}, pack{"pack"}, query_gradient{"query_gradient"}, slack{"slack"};

    explicit ConvQueries(const ConvQueriesInputs &in) : r(0, in.rows, "r") {
        using namespace Halide;
        const Expr row = p - in.missing, at = clamp(likely(row), 0, in.rows - 1), exists = row >= 0 && row < in.rows;
        const Expr cc = inside(c, in.C), hh = inside(h, in.H);
        const auto limit = [&](Expr dy) { return max(abs(dy) * in.gradient_factor, 5.42101086e-20f); };  // 2^-64

        rescale(h, piece) = exp_clamped(min(in.maximum(hh) - in.maxima(hh, min(piece, in.pieces - 1)), 0.0f));
        const Expr dy = in.output_gradient(cc, at), den = in.den(cc, at);
        const Gate gate(in.query(cc, at));
        const Expr G = gate.times(gate.times(dy, gate.f), gate.f / (den * gate.one_plus)) * rescale(clamp(in.head(cc), 0, in.H - 1), max(row, 0) / in.chunk);
        scaled(c, p) = select(exists && den >= limit(dy), G, 0.0f);
        pack(c, p, part) = select(part == 0, scaled(c, p), -scaled(c, p) * in.ratio(cc, at));

        const Expr own = clamp(likely(t + in.before - in.missing), 0, in.rows - 1);
        const Gate own_gate(in.query(c, own));
        const Expr halves = own_gate.times(own_gate.times(in.output_gradient(c, own), own_gate.a), own_gate.times(in.ratio(c, own), own_gate.a));
        query_gradient(c, t) = halves / (own_gate.one_plus * own_gate.one_plus);

        Var one{"one"};  // generators/kernel_generator.h, "In place"
        slack(c, one) = 1.0f;
        slack(c, one) = min(slack(c, one), in.den(c, r) - limit(in.output_gradient(c, r)));
    }
};

struct ConvTile {
    int rows, unroll;  // rows of a register tile (divides 12); taps a turn (divides conv_pad)
};

struct ConvMixInputs {
    Halide::Func pack, taps, far;            // (c, p, part), (c, j), (c)
    Halide::Func before_state, after_state;  // (c, part): sums of what lies before and behind the pack
    Halide::Func scale;                      // (c): of the carried state
    Halide::Expr rows, C, window, padded;    // taps, and taps with their padding
};

// sums(c, t, part) = far (sums beyond the taps) + sum_j taps(c, j) pack(c, t + j, part), and the carried state behind the piece.
struct ConvMix {
    Halide::Var c{"c"}, t{"t"}, part{"part"};
    Halide::RDom scan, j;
    Halide::Func prefix{"prefix"}, suffix{"suffix"}, sums{"sums"}, state{"state"};
    WindowForm form;

    ConvMix(const ConvMixInputs &in, WindowForm form, ConvTile tile) : scan(1, in.rows, "scan"), form(form) {
        using namespace Halide;
        const bool has_prefix = form != WindowForm::reversed, has_suffix = form != WindowForm::causal;
        const Expr cc = inside(c, in.C), row = inside(t, in.rows);
        Expr far = 0.0f;
        if (has_prefix) {
            prefix(c, t, part) = 0.0f;
            prefix(c, scan, part) = prefix(c, scan - 1, part) + in.pack(cc, scan - 1, part);
            const Expr carried = in.before_state(cc, part) * in.scale(cc);
            far = carried + prefix(c, row, part);
            state(c, part) = carried + prefix(c, in.rows, part);
        }
        if (has_suffix) {  // counts rows from the last one; entry `rows` is the row before the first
            suffix(c, t, part) = 0.0f;
            suffix(c, scan, part) = suffix(c, scan - 1, part) + in.pack(cc, in.rows - 1 - scan + in.window, part);
            const Expr start = has_prefix ? in.after_state(cc, part) : in.after_state(cc, part) * in.scale(cc);
            far = far + (start + suffix(c, in.rows - 1 - row, part));
            if (!has_prefix) state(c, part) = start + suffix(c, in.rows, part);
        }
        j = RDom(0, tile.unroll, 0, in.padded / tile.unroll, "j");
        const Expr tap = j.y * tile.unroll + j.x;
        sums(c, t, part) = far * in.far(cc);
        sums(c, t, part) += in.taps(cc, tap) * in.pack(cc, t + tap, part);
    }
};

// (y, R, den) of a piece of queries.
struct ConvForward {
    Halide::Var c{"c"}, t{"t"};
    Halide::Func y{"y"};
    ConvMix mix;

    ConvForward(Halide::Func query, const ConvMixInputs &in, WindowForm form, ConvTile tile) : mix(in, form, tile) {
        using namespace Halide;
        const Expr num = mix.sums(c, t, 0), den = mix.sums(c, t, 1);
        const Gate gate(query(inside(c, in.C), inside(t, in.rows)));
        const Expr scaled = num / (den * gate.one_plus);
        y(c, t) = Tuple(gate.times(gate.times(scaled, gate.f), gate.f), scaled * gate.one_plus, den);
    }
};

// dV and the channel's share of dK, of a piece of keys; `keys` is their pack.
struct ConvBackward {
    Halide::Var c{"c"}, t{"t"};
    Halide::Func gradient{"gradient"};
    ConvMix mix;

    ConvBackward(Halide::Func keys, Halide::Func value, const ConvMixInputs &in, WindowForm form, ConvTile tile) : mix(in, form, tile) {
        using namespace Halide;
        const Expr cc = inside(c, in.C), row = inside(t, in.rows);
        const Expr e = keys(cc, row, 1), shares = e * mix.sums(c, t, 0);  // e S <= sum |dY|: formed before V joins
        gradient(c, t) = Tuple(shares, shares * value(cc, row) + e * mix.sums(c, t, 1));
    }
};

// sum over the rows of a pack: what a piece adds to a far state.
struct ConvTotal {
    Halide::Var c{"c"}, part{"part"};
    Halide::RDom r;
    Halide::Func total{"total"};

    ConvTotal(Halide::Func pack, Halide::Expr rows, Halide::Expr C) : r(0, rows, "r") {
        total(c, part) = 0.0f;
        total(c, part) += pack(inside(c, C), r, part);
    }
};

// products(c, j) = sum_t (e V)(c, t) G(c, t + j) + e(c, t) (-G R)(c, t + j): what a piece gives to dw, before the factor E.
struct ConvFilter {
    Halide::Var c{"c"}, j{"j"};
    Halide::RDom r;
    Halide::Func sum{"sum"}, products{"products"};

    ConvFilter(Halide::Func keys, Halide::Func queries, Halide::Expr rows, Halide::Expr C, Halide::Expr padded) : r(0, rows, "r") {
        const Halide::Expr cc = inside(c, C), at = r + inside(j, padded);
        sum(c, j) += keys(cc, r, 0) * queries(cc, at, 0) + keys(cc, r, 1) * queries(cc, at, 1);
        products(c, j) = sum(c, j);
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
    std::function<void(ConvKeys &)> keys;
    std::function<void(ConvQueries &)> queries;
    std::function<void(ConvForward &)> forward;
    std::function<void(ConvBackward &)> backward;
    std::function<void(ConvTotal &)> total;
    std::function<void(ConvFilter &)> filter;
    std::function<void(ConvHeads &)> heads;
    std::function<void(ConvStep &)> step;
};
ConvPlan plan_aft_conv(const Request &request);

}  // namespace aft
