#include "generators/gemm_panels.h"

#include "generators/kernel_generator.h"

namespace aft {

// panels [ceil(N / 32), K, 32] of a weight [N, K].
class GemmPanelsPack : public KernelGenerator<GemmPanelsPack> {
public:
    Input<Buffer<float, 2>> weight{"weight"};
    Output<Buffer<float, 3>> panels{"panels"};

    void generate() {
        const auto K = weight.dim(0).extent(), N = weight.dim(1).extent();
        start_at_zero(weight);
        PanelPack pack(weight, N, K);
        plan_gemm_panels(request("pack")).pack(pack);
        panels = pack.panels;
        shaped(panels, {gemm_panel, K, ceil_div(N, gemm_panel)});
    }
};

// c [M, N] of rows a [M, K] and panels of N rows of a weight.
class GemmPanelsProduct : public KernelGenerator<GemmPanelsProduct> {
public:
    Param<GemmEpilogue> epilogue{"epilogue", GemmEpilogue::bias,
                                 {{"bias", GemmEpilogue::bias}, {"bias_residual", GemmEpilogue::bias_residual}, {"bias_gelu", GemmEpilogue::bias_gelu}}};
    Input<Buffer<float, 2>> a{"a"};
    Input<Buffer<float, 3>> b{"b"};
    Input<Buffer<float, 1>> bias{"bias"};

    void configure() {
        if (epilogue == GemmEpilogue::bias_residual) residual_ = add_input<Buffer<float, 2>>("residual");
        c_ = add_output<Buffer<float, 2>>("c");
    }

    void generate() {
        const auto K = a.dim(0).extent(), M = a.dim(1).extent(), N = bias.dim(0).extent();
        start_at_zero(a, bias);
        shaped(b, {gemm_panel, K, ceil_div(N, gemm_panel)});
        b.dim(1).set_stride(gemm_panel);
        GemmExtras extras;
        Var x{"x"}, y{"y"};
        extras.bias(x) = bias(inside(x, N));
        if (residual_) shaped(*residual_, {N, M}), extras.residual(x, y) = (*residual_)(inside(x, N), y);
        const PanelPlan plan = plan_gemm_panels(request("product"));
        PanelProduct product(a, b, M, N, K, epilogue, extras, plan.rows, plan.columns);
        plan.product(product);
        *c_ = product.c;
        shaped(*c_, {N, M});
    }

private:
    Input<Buffer<float, 2>> *residual_ = nullptr;
    Output<Buffer<float, 2>> *c_ = nullptr;
};

}  // namespace aft

HALIDE_REGISTER_GENERATOR(aft::GemmPanelsPack, gemm_panels_pack)
HALIDE_REGISTER_GENERATOR(aft::GemmPanelsProduct, gemm_panels)
