#include "generators/loss.h"

#include "generators/kernel_generator.h"

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
        SoftmaxCrossEntropy entropy(logits, targets, smoothing, scale_ ? Expr(*scale_) : Expr(), V, R, plan.width);
        plan.schedule(entropy);
        *loss_ = entropy.loss;
        if (dlogits_) *dlogits_ = entropy.dlogits;
    }

private:
    Input<float> *scale_ = nullptr;
    Output<Buffer<float, 1>> *loss_ = nullptr;
    Output<Buffer<float, 2>> *dlogits_ = nullptr;
};

}  // namespace aft

HALIDE_REGISTER_GENERATOR(aft::SoftmaxCrossEntropyGenerator, softmax_cross_entropy)
