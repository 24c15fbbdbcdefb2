// Softmax cross-entropy (generators/loss.h) for rows too long for L1, in one visit to the memory of logits and of dlogits.
//
// A row is cut into pieces of depth vectors of `lanes` elements; lane u of piece p is reduced by itself:
//   top(u, p) = max x      e = exp(x - top(u, p))      sum(u, p) = sum e      level(u, p) = sum (x - top(u, p))
// e goes straight to dlogits, so x is loaded once and the lines of dlogits come in while exp is computed. Then, in place,
//   z(u, p) = top(u, p) - M,  M = max top      S = sum exp z(u, p) sum(u, p)
//   loss = log S - (1-s) (x_target - M) - s / V sum (level(u, p) + count(u, p) z(u, p))
//   dlogits_j = scale (e_j exp z(u, p) / S - (1-s) [j = target] - s / V)
// The two halves are kernels of their own: the caller runs one after the other over rows that fit L2. In two passes over a row top(u, p)
// is the row's maximum: the row is then read twice, from memory and from L1 or L2.
#pragma once
#include <Halide.h>

#include <functional>

#include "generators/request.h"
#include "generators/row_reduction.h"
#include "generators/vector_math.h"

namespace aft {

struct SoftmaxPiece {
    static constexpr int lanes = 16, depth = 16, elements = lanes * depth;

    // Elements of a row of V in lane u of piece p.
    static Halide::Expr count(Halide::Expr u, Halide::Expr p, Halide::Expr V) {
        return Halide::clamp(ceil_div(V - p * elements - u, lanes), 0, depth);
    }
};

struct SoftmaxPieces {
    Halide::Var c{"c"}, u{"u"}, j{"j"}, p{"p"}, r{"r"};
    Halide::Expr length, pieces, rows;
    Halide::RDom in_lane;
    Halide::Func top{"top"}, level{"level"}, power{"power"}, sum{"sum"}, picked_row{"picked_row"};
    std::vector<RowReduction> largest;                // in two passes: the row's maximum
    Halide::Func statistics{"statistics"};            // (top, sum, level) of [lanes, pieces, rows]
    Halide::Func picked{"picked"}, kept{"kept"};      // x_target; e, which may be the memory of logits

    // `width`: partial maxima of a row (generators/row_reduction.h) in two passes; 0: one pass.
    SoftmaxPieces(Halide::Func logits, Halide::Func targets, Halide::Expr V, Halide::Expr R, int width)
        : length(V), pieces(ceil_div(V, SoftmaxPiece::elements)), rows(R) {
        using namespace Halide;
        in_lane = RDom(0, SoftmaxPiece::depth, "in_lane");
        const Expr row = inside(r, R);
        const auto index = [&](Expr j) { return p * SoftmaxPiece::elements + j * SoftmaxPiece::lanes + u; };
        const auto x = [&](Expr j) { return logits(inside(index(j), V), row); };
        if (width) {
            largest.emplace_back("largest", RowReduction::maximum, r, V, width, [&](Expr k) { return Terms{logits(k, row)}; });
            top(u, p, r) = largest[0].result();
        } else {
            top(u, p, r) = Float(32).min();
            top(u, p, r) = max(top(u, p, r), x(in_lane));  // beyond the row: its last element, as good a reference as any
        }
        const auto z = [&](Expr j) { return x(j) - top(u, p, r); };
        power(u, j, p, r) = select(likely(index(j) < V), exp_clamped(z(j)), 0.0f);
        level(u, p, r) = 0.0f;
        level(u, p, r) += select(likely(index(in_lane) < V), z(in_lane), 0.0f);
        sum(u, p, r) = 0.0f;
        sum(u, p, r) += power(u, in_lane, p, r);
        statistics(u, p, r) = Tuple(top(u, p, r), sum(u, p, r), level(u, p, r));
        picked_row(r) = logits(clamp(targets(row), 0, V - 1), row);
        picked(r) = picked_row(r);
        kept(c, r) = power(c % SoftmaxPiece::lanes, c / SoftmaxPiece::lanes % SoftmaxPiece::depth, c / SoftmaxPiece::elements, r);
    }
};

struct SoftmaxFromPieces {
    Halide::Var c{"c"}, u{"u"}, p{"p"}, r{"r"};
    Halide::Var one{"one"};  // generators/kernel_generator.h, "In place"
    Halide::Expr pieces, rows;
    Halide::Func factor{"factor"}, weight{"weight"}, row_loss{"row_loss"};
    std::vector<RowReduction> reductions;
    Halide::Func loss{"loss"}, dlogits{"dlogits"};

    SoftmaxFromPieces(Halide::Func top, Halide::Func sum, Halide::Func level, Halide::Func picked, Halide::Func targets, Halide::Expr smoothing,
                      Halide::Expr scale, Halide::Expr P, Halide::Expr R)
        : pieces(P), rows(R) {
        using namespace Halide;
        dlogits(c, r, one) = undef<float>();
        constexpr int lanes = SoftmaxPiece::lanes;
        const Expr V = dlogits.output_buffer().dim(0).extent();
        const Expr row = inside(r, R), over = P * lanes;
        const RowReduction largest("largest", RowReduction::maximum, r, over, lanes, [&](Expr k) { return Terms{top(k % lanes, k / lanes, row)}; });
        factor(u, p, r) = exp_to_zero(top(u, p, row) - largest.result());
        const RowReduction totals("totals", RowReduction::sum, r, over, lanes, [&](Expr k) {
            const Expr u = k % lanes, p = k / lanes;
            return Terms{factor(u, p, r) * sum(u, p, row), level(u, p, row) + SoftmaxPiece::count(u, p, V) * (top(u, p, row) - largest.result())};
        });
        reductions = {largest, totals};
        const Expr counts = targets(row) >= 0, even = smoothing / V;
        row_loss(r) = select(counts, log(totals.result(0)) - (1.0f - smoothing) * (picked(row) - largest.result()) - even * totals.result(1), 0.0f);
        loss(r) = row_loss(r);
        weight(u, p, r) = factor(u, p, r) * (scale / totals.result(0));
        dlogits(c, r, one) = select(counts, dlogits(c, r, one) * weight(c % lanes, c / SoftmaxPiece::elements, r) - scale * even, 0.0f);
        // The target's part alone: to ask of each element whether it is the target took half of this kernel's time.
        const Expr target = clamp(targets(r), 0, V - 1);
        dlogits(target, r, one) -= select(counts, scale * (1.0f - smoothing), 0.0f);
    }
};

struct SoftmaxPiecesPlan {
    int width;  // of SoftmaxPieces
    std::function<void(SoftmaxPieces &)> schedule;
};
SoftmaxPiecesPlan plan_softmax_pieces(const Request &request);
std::function<void(SoftmaxFromPieces &)> plan_softmax_from_pieces(const Request &request);

}  // namespace aft
