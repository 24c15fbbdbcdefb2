#include "generators/random.h"

#include "generators/kernel_generator.h"

namespace aft {

class DropoutGenerator : public KernelGenerator<DropoutGenerator> {
public:
    Param<bool> residual{"residual", false};
    Input<Buffer<float, 2>> x{"x"};

    void configure() {
        if (residual) residual_ = add_input<Buffer<float, 2>>("residual_input");
        for (const char *name : {"key_low", "key_high", "stream", "step", "first_row"}) counters_.push_back(add_input<int32_t>(name));
        probability_ = add_input<float>("probability");
        y_ = add_output<Buffer<float, 2>>("y");
    }

    void generate() {
        const auto C = x.dim(0).extent(), R = x.dim(1).extent();
        start_at_zero(x);
        if (residual_) shaped(*residual_, {C, R});
        shaped(*y_, {C, R});
        const auto &n = counters_;
        Dropout dropout(x, residual_ ? Func(*residual_) : Func(), {*n[0], *n[1], *n[2], *n[3], *n[4], *probability_});
        plan_dropout(request())(dropout);
        *y_ = dropout.y;
    }

private:
    Input<Buffer<float, 2>> *residual_ = nullptr;
    std::vector<Input<int32_t> *> counters_;
    Input<float> *probability_ = nullptr;
    Output<Buffer<float, 2>> *y_ = nullptr;
};

}  // namespace aft

HALIDE_REGISTER_GENERATOR(aft::DropoutGenerator, dropout)
