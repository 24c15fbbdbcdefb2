#include "generators/optimizer.h"

#include "generators/kernel_generator.h"

namespace aft {

class AdamWGenerator : public KernelGenerator<AdamWGenerator> {
public:
    Input<float> learning_rate{"learning_rate"}, beta1{"beta1"}, beta2{"beta2"}, epsilon{"epsilon"}, weight_decay{"weight_decay"};
    Input<float> correction1{"correction1"}, correction2{"correction2"}, gradient_scale{"gradient_scale"};
    Output<Func> state{"state", {Float(32), Float(32), Float(32), Float(32)}, 2};

    void generate() {
        AdamWUpdate update({learning_rate, beta1, beta2, epsilon, weight_decay, correction1, correction2, gradient_scale});
        plan_adamw(request())(update);
        state = update.state;
        update.state.output_buffers()[0].dim(0).set_min(0);
    }
};

class SumOfSquaresGenerator : public KernelGenerator<SumOfSquaresGenerator> {
public:
    Input<Buffer<float, 1>> x{"x"};
    Output<Func> y{"y", Float(32), 1};

    void generate() {
        start_at_zero(x);
        const SumOfSquaresPlan plan = plan_sum_of_squares(request());
        SumOfSquares squares(x, x.dim(0).extent(), plan.width);
        plan.schedule(squares);
        y = squares.y;
        squares.y.output_buffer().dim(0).set_min(0);
    }
};

}  // namespace aft

HALIDE_REGISTER_GENERATOR(aft::AdamWGenerator, adamw)
HALIDE_REGISTER_GENERATOR(aft::SumOfSquaresGenerator, sum_of_squares)
