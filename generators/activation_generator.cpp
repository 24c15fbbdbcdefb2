#include "generators/activation.h"

#include "generators/kernel_generator.h"

namespace aft {

class ElementwiseGenerator : public KernelGenerator<ElementwiseGenerator> {
public:
    Param<ElementwiseKind> kind{"kind", ElementwiseKind::add,
                                {{"gelu_forward", ElementwiseKind::gelu_forward},
                                 {"gelu_backward", ElementwiseKind::gelu_backward},
                                 {"add", ElementwiseKind::add}}};
    Input<Buffer<float, 2>> x{"x"};

    void configure() {
        if (kind != ElementwiseKind::gelu_forward) other_ = add_input<Buffer<float, 2>>("other");
        result_ = add_output<Buffer<float, 2>>("result");
    }

    void generate() {
        const auto C = x.dim(0).extent(), R = x.dim(1).extent();
        start_at_zero(x);
        if (other_) shaped(*other_, {C, R});
        shaped(*result_, {C, R});
        Elementwise elementwise(kind, x, other_ ? Func(*other_) : Func());
        plan_elementwise(request())(elementwise);
        *result_ = elementwise.result;
    }

private:
    Input<Buffer<float, 2>> *other_ = nullptr;
    Output<Buffer<float, 2>> *result_ = nullptr;
};

class ColumnSumGenerator : public KernelGenerator<ColumnSumGenerator> {
public:
    Input<Buffer<float, 2>> x{"x"};
    Input<int32_t> accumulate{"accumulate"};
    Output<Buffer<float, 2>> y{"y"};

    void generate() {
        const auto C = x.dim(0).extent(), R = x.dim(1).extent();
        start_at_zero(x);
        shaped(y, {C});
        const ColumnSumsPlan plan = plan_column_sum(request());
        ColumnSums sums(C, R, accumulate, plan.rows_per_block, plan.whole_strips, [&](Expr c, Expr r) { return Terms{x(c, r)}; });
        plan.schedule(sums);
        y = sums.sums;
    }
};

}  // namespace aft

HALIDE_REGISTER_GENERATOR(aft::ElementwiseGenerator, elementwise)
HALIDE_REGISTER_GENERATOR(aft::ColumnSumGenerator, column_sum)
