#include "generators/loss.h"

#include "generators/kernel_generator.h"
#include "generators/loss_pieces.h"

namespace aft {

class SoftmaxCrossEntropyGenerator : public KernelGenerator<SoftmaxCrossEntropyGenerator> {
public:
    Param<bool> gradient{"gradient", true};
    Input<Buffer<float, 2>> logits{"logits"};
    Input<Buffer<int32_t, 1>> targets{"targets"};
    Input<float> smoothing{"smoothing"};

    void configure() {
        if (gradient) scale_ = add_input<float>("scale");
        loss_ = add_output<Buffer<float, 1>>("loss");
        if (gradient) dlogits_ = add_output<Buffer<float, 2>>("dlogits");
    }

    void generate() {
        const auto V = logits.dim(0).extent(), R = logits.dim(1).extent();
        start_at_zero(logits);
        shaped(targets, {R}), shaped(*loss_, {R});
        if (dlogits_) shaped(*dlogits_, {V, R});
        const SoftmaxCrossEntropyPlan plan = plan_softmax_cross_entropy(request());
        SoftmaxCrossEntropy entropy(logits, targets, smoothing, scale_ ? Expr(*scale_) : Expr(), V, R, plan.width, plan.keep);
        plan.schedule(entropy);
        *loss_ = entropy.loss;
        if (dlogits_) *dlogits_ = entropy.dlogits;
    }

private:
    Input<float> *scale_ = nullptr;
    Output<Buffer<float, 1>> *loss_ = nullptr;
    Output<Buffer<float, 2>> *dlogits_ = nullptr;
};

class SoftmaxPiecesGenerator : public KernelGenerator<SoftmaxPiecesGenerator> {
public:
    Input<Buffer<float, 2>> logits{"logits"};
    Input<Buffer<int32_t, 1>> targets{"targets"};
    Output<Func> statistics{"statistics", {Float(32), Float(32), Float(32)}, 3};
    Output<Buffer<float, 1>> picked{"picked"};
    Output<Buffer<float, 2>> kept{"kept"};

    void generate() {
        const auto V = logits.dim(0).extent(), R = logits.dim(1).extent();
        start_at_zero(logits);
        shaped(targets, {R}), shaped(picked, {R}), shaped(kept, {V, R});
        const SoftmaxPiecesPlan plan = plan_softmax_pieces(request());
        SoftmaxPieces pieces(logits, targets, V, R, plan.width);
        plan.schedule(pieces);
        statistics = pieces.statistics, picked = pieces.picked, kept = pieces.kept;
        shaped(pieces.statistics.output_buffers()[0], {SoftmaxPiece::lanes, ceil_div(V, SoftmaxPiece::elements), R});
    }
};

class SoftmaxFromPiecesGenerator : public KernelGenerator<SoftmaxFromPiecesGenerator> {
public:
    Input<Buffer<float, 3>> top{"top"}, sum{"sum"}, level{"level"};
    Input<Buffer<float, 1>> picked{"picked"};
    Input<Buffer<int32_t, 1>> targets{"targets"};
    Input<float> smoothing{"smoothing"}, scale{"scale"};
    Output<Buffer<float, 1>> loss{"loss"};
    Output<Func> dlogits{"dlogits", Float(32), 3};

    void generate() {
        const auto P = top.dim(1).extent(), R = top.dim(2).extent();
        for (auto *buffer : {&top, &sum, &level}) shaped(*buffer, {SoftmaxPiece::lanes, P, R});
        shaped(picked, {R}), shaped(targets, {R}), shaped(loss, {R});
        SoftmaxFromPieces softmax(top, sum, level, picked, targets, smoothing, scale, P, R);
        plan_softmax_from_pieces(request())(softmax);
        loss = softmax.loss, dlogits = softmax.dlogits;
        softmax.dlogits.output_buffer().dim(0).set_min(0), softmax.dlogits.output_buffer().dim(1).set_bounds(0, R);
    }
};

}  // namespace aft

HALIDE_REGISTER_GENERATOR(aft::SoftmaxCrossEntropyGenerator, softmax_cross_entropy)
HALIDE_REGISTER_GENERATOR(aft::SoftmaxPiecesGenerator, softmax_pieces)
HALIDE_REGISTER_GENERATOR(aft::SoftmaxFromPiecesGenerator, softmax_from_pieces)
