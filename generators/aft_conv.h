// AFT-conv in one dimension: F4 and F5 of SPEC, forward and backward, on cache-sized pieces (models/mixers/conv.cpp walks them).
//
//   num[t] = sum_j E[j] e[t + j - o] V[t + j - o] + f (sum of e V before and behind the taps)     den[t]: the same without V
//   e[t'] = exp(K[t'] - m)      E[j] = exp(w[j] - r),  f = exp(-r)  with r = max(0, max_j w[j])
//
// w and K belong to a head, and so does den; V and num belong to a channel: `head(c)` names the head of a channel. Tokens beyond
// the taps weigh exp(0) = 1: they are running sums, a prefix and (not causal) a suffix. Sums only add; exp(w) - 1 appears nowhere.
// Backward is the same sums with the taps reversed, of G = dY sigma(Q) / den by channel and of sum G R by head:
//   S[t'] = sum_j E[j] G[t' - j + o] + f (...)      P: the same of sum over the head's channels of G R
//   dV = e S      dK = sum over the head's channels of V dV  -  e P
//   dw[j] = E[j] sum_t' (sum_c (e V)[t'] G[t' - j + o])  -  e[t'] (sum_c G R)[t' - j + o]
//
// Layouts, Halide dimension 0 first. Rows lie at a constant distance, so that the taps of a tile read them by fixed offsets:
//   pack (c, p)        e V or G of the channels, e or sum G R of the heads, of the rows that a piece sees: a row each `conv_pitch`
//                      floats, zero where there is no row; row t of the piece meets tap j at pack row t + j
//   taps (l, j, panel) E of each channel or head, 16 a panel, padded with zeros to a multiple of conv_pad
#pragma once
#include <Halide.h>

#include <functional>

#include "generators/aft_window.h"  // WindowForm, WindowQueries
#include "generators/gate.h"
#include "generators/request.h"
#include "generators/vector_math.h"

namespace aft {

constexpr int conv_pad = 8;      // taps; every unroll over taps divides it
constexpr int conv_pitch = 528;  // floats from row to row of a pack: 512 channels and a cache line, so that a panel's rows fall into different sets of L1

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

// Rows of a pack brought to the reference of the next piece.
struct ConvCarry {
    Halide::Var c{"c"}, p{"p"};
    Halide::Func carried{"carried"};

    ConvCarry(Halide::Func rows, Halide::Func scale) { carried(c, p) = rows(c, p) * scale(c); }
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

struct ConvTile {
    int rows, unroll;  // rows of a register tile (divides 12); taps a turn (divides conv_pad)
};

struct ConvSumsInputs {
    Halide::Func pack, taps;                 // (c, p), (l, j, panel)
    Halide::Func far, before, after, scale;  // (c): weight beyond the taps; sums before and behind the pack; of the carried one
    Halide::Expr rows, window, padded;       // taps, and taps with their padding
};

// of(c, t) = far (sums beyond the taps) + sum_j taps(j) pack(c, t + j), and the carried sum behind the piece. Row i of tile q is
// row q * tile.rows + i. The sums beyond the taps are those of whole tiles (base) and of the tile's own rows (near). Far rows lie
// before (causal: keys before a query), behind (reversed: queries behind a key), on both sides.
struct ConvSums {
    struct Side {  // the rows before the taps, or behind them
        Halide::Func base, near;
    };
    Halide::Var c{"c"}, n{"n"}, l{"l"}, i{"i"}, q{"q"}, panel{"panel"};
    Halide::RDom scan, step, j;
    Halide::Func sums{"sums"}, state{"state"};
    Side prefix{Halide::Func("prefix_base"), Halide::Func("prefix_near")}, suffix{Halide::Func("suffix_base"), Halide::Func("suffix_near")};
    std::vector<Side> sides;
    ConvTile tile;

    ConvSums(const ConvSumsInputs &in, WindowForm form, ConvTile tile)
        : scan(1, ceil_div(in.rows, tile.rows), "scan"), step(1, tile.rows - 1, "step"), tile(tile) {
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
        Expr far = 0.0f;
        if (form != WindowForm::reversed) {
            prefix.base(c, n) = 0.0f;
            prefix.base(c, scan) = prefix.base(c, scan - 1) + rows_from((scan - 1) * R);
            prefix.near(l, i, q, panel) = 0.0f;
            prefix.near(l, step, q, panel) = prefix.near(l, step - 1, q, panel) + in.pack(at, q * R + step - 1);
            far = in.before(at) * in.scale(at) + (prefix.base(at, q) + prefix.near(l, i, q, panel));
            sides.push_back(prefix);
        }
        if (form != WindowForm::causal) {  // tiles and rows count from the last
            suffix.base(c, n) = 0.0f;
            suffix.base(c, scan) = suffix.base(c, scan - 1) + rows_from((tiles - scan) * R + in.window - 1);
            suffix.near(l, i, q, panel) = 0.0f;
            suffix.near(l, R - 1 - step, q, panel) = suffix.near(l, R - step, q, panel) + in.pack(at, q * R + R - 1 - step + in.window);
            const Expr after = form == WindowForm::reversed ? in.after(at) * in.scale(at) : in.after(at);
            far = far + (after + (suffix.base(at, tiles - 1 - q) + suffix.near(l, i, q, panel)));
            sides.push_back(suffix);
        }
        // The rows that lie beyond the taps of the next piece's first row: as many as this piece has, from its own far side.
        state(c) = (form == WindowForm::reversed ? in.after : in.before)(c) * in.scale(c) + sides[0].base(c, tiles);

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

// y of a piece of queries; den by head.
struct ConvForward {
    Halide::Var c{"c"}, t{"t"};
    Halide::Func y{"y"};
    ConvSums mix;

    ConvForward(Halide::Func query, Halide::Func den, const ConvHead &head, const ConvSumsInputs &in, WindowForm form, ConvTile tile) : mix(in, form, tile) {
        using namespace Halide;
        const Gate gate(query(inside(c, head.C), t));
        y(c, t) = gate.of_ratio(mix.of(c, t), den(head.of(c), t));
    }
};

// dV of a piece of keys.
struct ConvBackward {
    Halide::Var c{"c"}, t{"t"};
    Halide::Func gradient{"gradient"};
    ConvSums mix;

    ConvBackward(Halide::Func weights, const ConvHead &head, const ConvSumsInputs &in, WindowForm form, ConvTile tile) : mix(in, form, tile) {
        gradient(c, t) = weights(head.of(c), t) * mix.of(c, t);
    }
};

struct ConvHeadsInputs {
    Halide::Func a, b;               // (c, t); b may be undefined
    Halide::Func x, y;               // (h, t), or undefined
    Halide::Expr size, first, C, H;  // channels of a head; of the first one, those that lie before channel 0
};

// sums(h, t) = sum of a b, or of a, over the head's channels, less x y where there is an x.
struct ConvHeads {
    Halide::Var l{"l"}, h{"h"}, t{"t"};
    Halide::RDom r, lane;
    Halide::Func partial{"partial"}, sum{"sum"}, sums{"sums"};
    ConvGroup group;

    ConvHeads(const ConvHeadsInputs &in, ConvGroup group, int lanes) : group(group) {
        using namespace Halide;
        const Expr hh = inside(h, in.H);
        const auto product = [&](Expr c) { return in.b.defined() ? in.a(c, t) * in.b(c, t) : in.a(c, t); };
        const auto rest = [&](Expr sum) { return in.x.defined() ? sum - in.x(hh, t) * in.y(hh, t) : sum; };
        if (group == ConvGroup::single) {
            sums(h, t) = rest(product(hh));
            return;
        }
        if (group == ConvGroup::uniform) {
            r = RDom(0, in.size / lanes, "r"), lane = RDom(0, lanes, "lane");
            partial(l, h, t) += product(h * in.size + r * lanes + l);
            sum(h, t) += partial(lane, h, t);
        } else {
            r = RDom(0, in.size, "r");
            const Expr c = hh * in.size + r - in.first;
            sum(h, t) += select(c >= 0 && c < in.C, product(clamp(c, 0, in.C - 1)), 0.0f);
        }
        sums(h, t) = rest(sum(h, t));
    }
};

// products(l, j, panel) += sign sum_t keys(t) queries(t + j): what a piece gives to dw, before the factor E. In double from piece to piece.
struct ConvFilter {
    Halide::Var l{"l"}, j{"j"}, panel{"panel"};
    Halide::RDom r;
    Halide::Func sum{"sum"}, products{"products"};

    ConvFilter(Halide::Func keys, Halide::Func queries, Halide::Expr sign, Halide::Expr rows) : r(0, rows, "r") {
        using namespace Halide;
        const Expr c = panel * window_panel + l;
        sum(l, j, panel) += keys(c, r) * queries(c, r + j);
        products(l, j, panel) = undef<double>();
        products(l, j, panel) += cast<double>(sum(l, j, panel) * sign);
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
        result(c, b) = Gate(in.query(cc, b)).times(cast<float>(num(c, b) / den(own, b)));
    }
};

struct ConvPlan {
    ConvTile tile;
    int lanes;
    std::function<void(ConvValues &)> values;
    std::function<void(ConvCarry &)> carry;
    std::function<void(ConvTotal &)> total;
    std::function<void(WindowQueries &)> queries;
    std::function<void(ConvPlain &)> sums;
    std::function<void(ConvForward &)> forward;
    std::function<void(ConvBackward &)> backward;
    std::function<void(ConvHeads &)> heads;
    std::function<void(ConvFilter &)> filter;
    std::function<void(ConvStep &)> step;
    void drop_moves() { no_moves(values, carry, total, queries, sums, forward, backward, heads, filter, step); }
};
ConvPlan plan_aft_conv(const Request &request);

}  // namespace aft
