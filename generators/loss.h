// Softmax cross-entropy with label smoothing s over the last axis of logits [R, V], one target per row.
//
//   z = x - max x      log p_j = z_j - log sum exp z
//   loss = -(1-s) log p_target - s mean_j log p_j = log sum exp z - (1-s) z_target - s mean z
//   dlogits_j = scale (p_j - (1-s) [j = target] - s / V)
//
// A target < 0 is ignored: loss 0, gradient 0; one beyond V-1 is clamped. exp z and z are kept for one row, so that an
// element costs one exp; or exp z alone; or nothing, and exp is computed twice. A row's gradient depends on the sum over the whole row
// and is written last, from the copies or from the same elements, so dlogits may be the memory of logits.
#pragma once
#include <Halide.h>

#include <functional>

#include "generators/request.h"
#include "generators/row_reduction.h"
#include "generators/vector_math.h"

namespace aft {

enum class SoftmaxKeeps { nothing, exponentials, both };  // of a row

struct SoftmaxCrossEntropy {
    Halide::Var c{"c"}, r{"r"};
    Halide::Func kept{"kept"};  // of a row: (exp z), (exp z, z), or undefined
    std::vector<RowReduction> reductions;
    Halide::Func row_loss{"row_loss"}, loss{"loss"}, dlogits{"dlogits"};

    SoftmaxCrossEntropy(Halide::Func logits, Halide::Func targets, Halide::Expr smoothing, Halide::Expr scale, Halide::Expr V,
                        Halide::Expr R, int width, SoftmaxKeeps keep) {
        using namespace Halide;
        const Expr row = inside(r, R);
        const RowReduction largest("largest", RowReduction::maximum, r, V, width, [&](Expr k) { return Terms{logits(k, row)}; });
        const auto difference = [&](Expr k) { return logits(k, row) - largest.result(); };
        if (keep == SoftmaxKeeps::both) kept(c, r) = Tuple(exp_clamped(difference(c)), difference(c));
        if (keep == SoftmaxKeeps::exponentials) kept(c, r) = exp_clamped(difference(c));
        const auto power = [&](Expr k) { return keep == SoftmaxKeeps::nothing ? exp_clamped(difference(k)) : values_of(kept(k, r), size_t(keep))[0]; };
        const auto z = [&](Expr k) { return keep == SoftmaxKeeps::both ? Expr(kept(k, r)[1]) : difference(k); };
        const RowReduction sums("sums", RowReduction::sum, r, V, width, [&](Expr k) { return Terms{power(k), z(k)}; });
        reductions = {largest, sums};

        const Expr target = clamp(targets(row), 0, V - 1), counts = targets(row) >= 0, even = smoothing / V;
        row_loss(r) = select(counts, log(sums.result(0)) - (1.0f - smoothing) * z(target) - even * sums.result(1), 0.0f);
        loss(r) = row_loss(r);
        if (!scale.defined()) return;
        const Expr gradient = power(c) * (scale / sums.result(0)) - (select(c == target, scale * (1.0f - smoothing), 0.0f) + scale * even);
        dlogits(c, r) = select(counts, gradient, 0.0f);
    }
};

struct SoftmaxCrossEntropyPlan {
    int width;  // partial results of a row (generators/row_reduction.h)
    SoftmaxKeeps keep;
    std::function<void(SoftmaxCrossEntropy &)> schedule;
};
SoftmaxCrossEntropyPlan plan_softmax_cross_entropy(const Request &request);

}  // namespace aft
