// Softmax cross-entropy with label smoothing s over the last axis of logits [R, V], one target per row.
//
//   z = x - max x      log p_j = z_j - log sum exp z
//   loss = -(1-s) log p_target - s mean_j log p_j = log sum exp z - (1-s) z_target - s mean z
//   dlogits_j = scale (p_j - (1-s) [j = target] - s / V)
//
// A target < 0 is ignored: loss 0, gradient 0; one beyond V-1 is clamped. z and exp z are kept for one row, so that an
// element costs one exp. A row's gradient is written from these copies and depends on the sum over the whole row, so
// dlogits may be the memory of logits.
#pragma once
#include <Halide.h>

#include <functional>

#include "generators/request.h"
#include "generators/row_reduction.h"
#include "generators/vector_math.h"

namespace aft {

struct SoftmaxCrossEntropy {
    Halide::Var c{"c"}, r{"r"};
    Halide::Func kept{"kept"};  // (z, exp z) of a row
    std::vector<RowReduction> reductions;
    Halide::Func row_loss{"row_loss"}, loss{"loss"}, dlogits{"dlogits"};

    SoftmaxCrossEntropy(Halide::Func logits, Halide::Func targets, Halide::Expr smoothing, Halide::Expr scale, Halide::Expr V,
                        Halide::Expr R, int width) {
        using namespace Halide;
        const Expr row = inside(r, R);
        const RowReduction largest("largest", RowReduction::maximum, r, V, width, [&](Expr k) { return Terms{logits(k, row)}; });
        const Expr z = logits(c, row) - largest.result();
        kept(c, r) = Tuple(z, exp_clamped(z));
        const RowReduction sums("sums", RowReduction::sum, r, V, width, [&](Expr k) { return Terms{kept(k, r)[1], kept(k, r)[0]}; });
        reductions = {largest, sums};

        const Expr target = clamp(targets(row), 0, V - 1), counts = targets(row) >= 0, even = smoothing / V;
        row_loss(r) = select(counts, log(sums.result(0)) - (1.0f - smoothing) * kept(target, r)[0] - even * sums.result(1), 0.0f);
        loss(r) = row_loss(r);
        if (!scale.defined()) return;
        const Expr gradient = kept(c, r)[1] * (scale / sums.result(0)) - (select(c == target, scale * (1.0f - smoothing), 0.0f) + scale * even);
        dlogits(c, r) = select(counts, gradient, 0.0f);
    }
};

struct SoftmaxCrossEntropyPlan {
    int width;  // partial results of a row (generators/row_reduction.h)
    std::function<void(SoftmaxCrossEntropy &)> schedule;
};
SoftmaxCrossEntropyPlan plan_softmax_cross_entropy(const Request &request);

}  // namespace aft
