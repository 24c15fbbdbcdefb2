#include "generators/gemm.h"

#include "generators/kernel_generator.h"

namespace aft {

class GemmGenerator : public KernelGenerator<GemmGenerator> {
public:
    Param<GemmLayout> layout{"layout", GemmLayout::nn,
                             {{"nn", GemmLayout::nn}, {"nt", GemmLayout::nt}, {"tn", GemmLayout::tn}}};
    Param<GemmEpilogue> epilogue{"epilogue", GemmEpilogue::none,
                                 {{"none", GemmEpilogue::none},
                                  {"bias", GemmEpilogue::bias},
                                  {"bias_residual", GemmEpilogue::bias_residual},
                                  {"bias_gelu", GemmEpilogue::bias_gelu},
                                  {"gelu_backward", GemmEpilogue::gelu_backward}}};
    Input<Buffer<float, 2>> a{"a"}, b{"b"};

    void configure() {
        const GemmEpilogue e = epilogue;
        if (e == GemmEpilogue::none) accumulate_ = add_input<int32_t>("accumulate");
        if (e == GemmEpilogue::bias || e == GemmEpilogue::bias_residual || e == GemmEpilogue::bias_gelu)
            bias_ = add_input<Buffer<float, 1>>("bias");
        if (e == GemmEpilogue::bias_residual) residual_ = add_input<Buffer<float, 2>>("residual");
        if (e == GemmEpilogue::gelu_backward) slope_ = add_input<Buffer<float, 2>>("slope");
        c_ = add_output<Func>("c", std::vector<Type>(e == GemmEpilogue::bias_gelu ? 2 : 1, Float(32)), 2);
    }

    void generate() {
        const auto M = layout == GemmLayout::tn ? a.dim(0).extent() : a.dim(1).extent();
        const auto K = layout == GemmLayout::tn ? a.dim(1).extent() : a.dim(0).extent();
        const auto N = layout == GemmLayout::nt ? b.dim(1).extent() : b.dim(0).extent();
        b.dim(layout == GemmLayout::nt ? 0 : 1).set_extent(K);
        start_at_zero(a, b);

        GemmExtras extras;
        if (accumulate_) extras.accumulate = *accumulate_;
        // Reads of the epilogue hang over the edge with the tile; the clamp keeps them inside.
        Var x{"x"}, y{"y"};
        if (bias_) shaped(*bias_, {N}), extras.bias(x) = (*bias_)(inside(x, N));
        if (residual_) shaped(*residual_, {N, M}), extras.residual(x, y) = (*residual_)(x, y);
        if (slope_) shaped(*slope_, {N, M}), extras.slope(x, y) = (*slope_)(x, y);

        const GemmPlan plan = plan_gemm(request(), layout, epilogue);
        Gemm gemm(a, b, M, N, K, layout, epilogue, extras, plan.blocks);
        plan.schedule(gemm);

        *c_ = gemm.c;
        shaped(gemm.c.output_buffers()[0], {N, M});
    }

private:
    Input<int32_t> *accumulate_ = nullptr;
    Input<Buffer<float, 1>> *bias_ = nullptr;
    Input<Buffer<float, 2>> *residual_ = nullptr, *slope_ = nullptr;
    Output<Func> *c_ = nullptr;
};

}  // namespace aft

HALIDE_REGISTER_GENERATOR(aft::GemmGenerator, gemm)
