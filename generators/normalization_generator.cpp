#include "generators/normalization.h"

#include "generators/kernel_generator.h"

namespace aft {

class LayerNormForwardGenerator : public KernelGenerator<LayerNormForwardGenerator> {
public:
    Param<bool> residual{"residual", false};
    Input<Buffer<float, 2>> x{"x"};

    void configure() {
        if (residual) branch_ = add_input<Buffer<float, 2>>("branch");
        weight_ = add_input<Buffer<float, 1>>("weight");
        bias_ = add_input<Buffer<float, 1>>("bias");
        epsilon_ = add_input<float>("epsilon");
        y_ = add_output<Func>("y", std::vector<Type>(residual ? 2 : 1, Float(32)), 2);
        statistics_ = add_output<Func>("statistics", std::vector<Type>(2, Float(32)), 1);
    }

    void generate() {
        const auto C = x.dim(0).extent(), R = x.dim(1).extent();
        start_at_zero(x);
        shaped(*weight_, {C}), shaped(*bias_, {C});
        if (branch_) shaped(*branch_, {C, R});
        const auto plan = plan_layer_norm_forward(request());
        LayerNormForward norm(x, branch_ ? Func(*branch_) : Func(), *weight_, *bias_, *epsilon_, C, R, plan.width);
        plan.schedule(norm);
        *y_ = norm.y;
        *statistics_ = norm.statistics;
        shaped(norm.y.output_buffers()[0], {C, R});
        shaped(norm.statistics.output_buffers()[0], {R});
    }

private:
    Input<Buffer<float, 2>> *branch_ = nullptr;
    Input<Buffer<float, 1>> *weight_ = nullptr, *bias_ = nullptr;
    Input<float> *epsilon_ = nullptr;
    Output<Func> *y_ = nullptr, *statistics_ = nullptr;
};

class LayerNormBackwardGenerator : public KernelGenerator<LayerNormBackwardGenerator> {
public:
    Input<Buffer<float, 2>> x{"x"};
    Input<Buffer<float, 1>> weight{"weight"}, mean{"mean"}, rstd{"rstd"};
    Input<Buffer<float, 2>> dy{"dy"}, residual_gradient{"residual_gradient"};
    Output<Buffer<float, 2>> dx{"dx"};

    void generate() {
        const auto C = x.dim(0).extent(), R = x.dim(1).extent();
        start_at_zero(x);
        shaped(weight, {C}), shaped(mean, {R}), shaped(rstd, {R});
        shaped(dy, {C, R}), shaped(residual_gradient, {C, R}), shaped(dx, {C, R});
        const auto plan = plan_layer_norm_backward(request());
        LayerNormBackward norm(x, weight, mean, rstd, dy, residual_gradient, C, R, plan.width);
        plan.schedule(norm);
        dx = norm.dx;
    }
};

class LayerNormParametersBackwardGenerator : public KernelGenerator<LayerNormParametersBackwardGenerator> {
public:
    Input<Buffer<float, 2>> x{"x"};
    Input<Buffer<float, 1>> mean{"mean"}, rstd{"rstd"};
    Input<Buffer<float, 2>> dy{"dy"};
    Input<int32_t> accumulate{"accumulate"};
    Output<Func> gradient{"gradient", {Float(32), Float(32)}, 2};

    void generate() {
        const auto C = x.dim(0).extent(), R = x.dim(1).extent();
        start_at_zero(x);
        shaped(mean, {R}), shaped(rstd, {R}), shaped(dy, {C, R});
        const auto plan = plan_layer_norm_parameters_backward(request());
        ColumnSums norm = layer_norm_parameters_backward(x, mean, rstd, dy, accumulate, C, R, plan.rows_per_block, plan.whole_strips);
        plan.schedule(norm);
        gradient = norm.sums;
        shaped(norm.sums.output_buffers()[0], {C});
    }
};

}  // namespace aft

HALIDE_REGISTER_GENERATOR(aft::LayerNormForwardGenerator, layer_norm_forward)
HALIDE_REGISTER_GENERATOR(aft::LayerNormBackwardGenerator, layer_norm_backward)
HALIDE_REGISTER_GENERATOR(aft::LayerNormParametersBackwardGenerator, layer_norm_parameters_backward)
