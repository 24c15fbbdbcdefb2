#include "generators/aft_window.h"

#include "generators/kernel_generator.h"
#include "generators/pack.h"

namespace aft {

class WindowRangeGenerator : public KernelGenerator<WindowRangeGenerator> {
public:
    Input<Buffer<float, 2>> x{"x"};
    Input<Buffer<float, 1>> high_in{"high_in"}, low_in{"low_in"};
    Output<Func> range{"range", {Float(32), Float(32)}, 2};

    void generate() {
        const Expr C = x.dim(0).extent();
        start_at_zero(x);
        shaped(high_in, {C}), shaped(low_in, {C});
        WindowRange window(x, high_in, low_in, x.dim(1).extent());
        plan_aft_window(request("range")).range(window);
        range = window.range;
        shaped(window.range.output_buffers()[0], {C});
    }
};

class WindowKeysGenerator : public KernelGenerator<WindowKeysGenerator> {
public:
    Input<Buffer<float, 2>> key{"key"}, value{"value"};
    Input<Buffer<float, 1>> maximum{"maximum"};
    Input<int32_t> missing{"missing"};
    Output<Buffer<float, 4>> pack{"pack"};

    void generate() {
        const Expr C = key.dim(0).extent(), rows = key.dim(1).extent();
        start_at_zero(key);
        shaped(value, {C, rows}), shaped(maximum, {C});
        WindowKeys window(key, value, maximum, missing, rows, C);
        plan_aft_window(request()).keys(window);
        pack = window.pack;
        pack_shaped(window.pack.output_buffer());
    }
};

class WindowQueriesGenerator : public KernelGenerator<WindowQueriesGenerator> {
public:
    Input<Buffer<float, 2>> output_gradient{"output_gradient"}, query{"query"}, output{"output"}, den{"den"};
    Input<float> gradient_factor{"gradient_factor"};
    Output<Func> gradients{"gradients", {Float(32), Float(32), Float(32), Float(32)}, 2};

    void generate() {
        const Expr C = query.dim(0).extent(), rows = query.dim(1).extent();
        start_at_zero(query);
        for (auto *x : {&output_gradient, &output, &den}) shaped(*x, {C, rows});
        Var c{"c"}, t{"t"};
        Func den_of{"den_of"};
        den_of(c, t) = den(inside(c, C), t);
        WindowQueries window({output_gradient, query, output, den_of, gradient_factor, C});
        plan_aft_window(request("queries")).queries(window);
        gradients = window.gradients;
        shaped(window.gradients.output_buffers()[0], {C, rows});
    }
};

class WindowQueryPackGenerator : public KernelGenerator<WindowQueryPackGenerator> {
public:
    Input<Buffer<float, 2>> G{"G"}, GR{"GR"};
    Input<Buffer<float, 1>> maximum{"maximum"}, own{"own"};
    Input<int32_t> missing{"missing"};
    Output<Buffer<float, 4>> pack{"pack"};

    void generate() {
        const Expr C = G.dim(0).extent(), rows = G.dim(1).extent();
        start_at_zero(G);
        shaped(GR, {C, rows}), shaped(maximum, {C}), shaped(own, {C});
        WindowQueryPack window(G, GR, maximum, own, missing, rows, C);
        plan_aft_window(request()).query_pack(window);
        pack = window.pack;
        pack_shaped(window.pack.output_buffer());
    }
};

template <class Tensor>
void tiles_shaped(Tensor &&x) {  // (i, k, granule)
    for (int d = 0; d < 3; d++) x.dim(d).set_min(0);
    x.dim(0).set_extent(window_granule), x.dim(1).set_stride(window_granule);
}

// What the forward and the backward product share.
template <class Derived>
class WindowMixGenerator : public KernelGenerator<Derived> {
public:
    Halide::GeneratorParam<WindowForm> form{"form", WindowForm::causal,
                                            {{"causal", WindowForm::causal}, {"reversed", WindowForm::reversed}, {"both", WindowForm::both}}};
};

class WindowForwardGenerator : public WindowMixGenerator<WindowForwardGenerator> {
public:
    Input<Halide::Buffer<float, 2>> query{"query"};
    Input<Halide::Buffer<float, 4>> pack{"pack"};
    Input<Halide::Buffer<float, 3>> tiles{"tiles"};
    Input<Halide::Buffer<float, 1>> far{"far"};
    Input<Halide::Buffer<float, 3>> before_state{"before_state"}, after_state{"after_state"};
    Input<Halide::Buffer<float, 1>> scale_low{"scale_low"}, scale_high{"scale_high"};
    Input<int32_t> before{"before"}, after{"after"};
    Output<Func> y{"y", {Float(32), Float(32)}, 2};
    Output<Halide::Buffer<float, 3>> state{"state"};

    void generate() {
        const Expr C = query.dim(0).extent(), rows = query.dim(1).extent();
        start_at_zero(query);
        pack_shaped(pack), state_shaped(before_state), state_shaped(after_state);
        shaped(far, {rows}), shaped(scale_low, {C}), shaped(scale_high, {C});
        tiles_shaped(tiles);
        WindowMixInputs in{pack, tiles, far, {}, before_state, after_state, scale_low, scale_high, rows, C, before, after};
        const WindowPlan plan = plan_aft_window(request("mix"));
        WindowForward window(query, in, form, plan.tile);
        plan.forward(window);
        y = window.y, state = window.mix.state;
        state_shaped(window.mix.state.output_buffer());
        shaped(window.y.output_buffers()[0], {C, rows});
    }
};

class WindowBackwardGenerator : public WindowMixGenerator<WindowBackwardGenerator> {
public:
    Input<Halide::Buffer<float, 4>> keys{"keys"};
    Input<Halide::Buffer<float, 2>> value{"value"};
    Input<Halide::Buffer<float, 4>> pack{"pack"};
    Input<Halide::Buffer<float, 3>> tiles{"tiles"};
    Input<Halide::Buffer<float, 1>> far{"far"};
    Input<Halide::Buffer<float, 3>> before_state{"before_state"}, after_state{"after_state"};
    Input<Halide::Buffer<float, 1>> scale_low{"scale_low"}, scale_high{"scale_high"};
    Input<int32_t> before{"before"}, after{"after"}, missing{"missing"};
    Output<Func> gradient{"gradient", {Float(32), Float(32)}, 2};
    Output<Halide::Buffer<float, 3>> state{"state"};

    void generate() {
        const Expr C = value.dim(0).extent(), rows = value.dim(1).extent();
        start_at_zero(value, far);
        pack_shaped(keys), pack_shaped(pack), state_shaped(before_state), state_shaped(after_state);
        shaped(scale_low, {C}), shaped(scale_high, {C});
        tiles_shaped(tiles);
        Var p{"p"};
        Func source{"source"};
        source(p) = far(clamp(p - missing, 0, far.dim(0).extent() - 1));
        WindowMixInputs in{pack, tiles, {}, source, before_state, after_state, scale_low, scale_high, rows, C, before, after};
        const WindowPlan plan = plan_aft_window(request("mix_back"));
        WindowBackward window(keys, value, in, form, plan.tile);
        plan.backward(window);
        gradient = window.gradient, state = window.mix.state;
        state_shaped(window.mix.state.output_buffer());
        shaped(window.gradient.output_buffers()[0], {C, rows});
    }
};

class WindowTotalGenerator : public KernelGenerator<WindowTotalGenerator> {
public:
    Input<Buffer<float, 4>> pack{"pack"};
    Input<Buffer<float, 1>> weight{"weight"};
    Output<Buffer<float, 3>> total{"total"};

    void generate() {
        start_at_zero(weight);
        pack_shaped(pack);
        WindowTotal window(pack, weight, weight.dim(0).extent());
        plan_aft_window(request()).total(window);
        total = window.total;
        state_shaped(window.total.output_buffer());
    }
};

class WindowDotsGenerator : public KernelGenerator<WindowDotsGenerator> {
public:
    Param<Halide::Type> type{"type", Float(32)};
    Input<Buffer<float, 3>> a{"a"}, b{"b"};
    Input<int32_t> accumulate{"accumulate"}, missing{"missing"}, width{"width"};
    Output<Buffer<void, 2>> dots{"dots"};

    void configure() { dots.set_type(type); }

    void generate() {
        const Expr X = a.dim(0).extent(), panels = a.dim(2).extent(), rows = a.dim(1).extent();
        start_at_zero(a, b, dots);
        b.dim(0).set_extent(X), b.dim(2).set_extent(panels);
        shaped(dots, {width, rows});
        const WindowPlan plan = plan_aft_window(request("dots"));
        WindowDots window({a, b, accumulate, missing, X, panels, rows, b.dim(1).extent(), width}, plan.dot_rows, plan.lanes, type);
        plan.dots(window);
        dots = window.dots;
    }
};

class WindowTableGenerator : public KernelGenerator<WindowTableGenerator> {
public:
    Param<Halide::Type> type{"type", Float(32)};
    Input<Buffer<void, 2>> scores{"scores"};
    Input<int32_t> window{"window"}, before{"before"}, causal{"causal"}, first{"first"}, length{"length"};
    Output<Buffer<float, 2>> table{"table"};
    Output<Func> rows{"rows", {Float(32), Float(32)}, 1};

    void configure() { scores.set_type(type); }

    void generate() {
        const Expr width = scores.dim(0).extent(), rows_here = scores.dim(1).extent();
        start_at_zero(scores);
        shaped(table, {width, rows_here});
        const WindowPlan plan = plan_aft_window(request("table"));
        WindowTable made(scores, window, before, causal, width, first, length, plan.lanes);
        plan.table(made);
        table = made.table, rows = made.rows;
        shaped(made.rows.output_buffers()[0], {rows_here});
    }
};

class WindowTransposeGenerator : public KernelGenerator<WindowTransposeGenerator> {
public:
    Input<Buffer<float, 2>> table{"table"};
    Input<Buffer<float, 1>> far{"far"};
    Input<int32_t> window{"window"}, before{"before"}, table_before{"table_before"}, direction{"direction"};
    Output<Buffer<float, 3>> tiles{"tiles"};

    void generate() {
        const Expr T = table.dim(1).extent(), width = table.dim(0).extent();
        start_at_zero(table);
        table.dim(1).set_stride(width);
        shaped(far, {T});
        WindowTranspose made(table, far, window, before, table_before, direction, width, T);
        plan_aft_window(request("rows")).transpose(made);
        tiles = made.out;
        tiles_shaped(made.out.output_buffer());
    }
};

class WindowBiasGradientGenerator : public KernelGenerator<WindowBiasGradientGenerator> {
public:
    Input<Buffer<float, 3>> tiles{"tiles"}, partial{"partial"};
    Input<int32_t> window{"window"}, before{"before"}, direction{"direction"};
    Output<Buffer<float, 2>> gradient{"gradient"};

    void generate() {
        const Expr width = partial.dim(0).extent(), T = partial.dim(1).extent();
        start_at_zero(partial);
        tiles_shaped(tiles);
        shaped(gradient, {width, T});
        WindowBiasGradient made(tiles, partial, window, before, direction, partial.dim(2).extent(), T);
        plan_aft_window(request("rows")).bias_gradient(made);
        gradient = made.out;
    }
};

// The band is tiles, or a table seen as such: any strides.
class WindowApplyGenerator : public KernelGenerator<WindowApplyGenerator> {
public:
    Input<Buffer<float, 3>> band{"band"};
    Input<Buffer<float, 2>> a{"a"};
    Input<int32_t> before{"before"}, after{"after"};
    Output<Buffer<float, 2>> out{"out"};

    void generate() {
        const Expr X = a.dim(0).extent(), T = a.dim(1).extent();
        start_at_zero(band, a);
        band.dim(0).set_extent(window_granule).set_stride(Expr());
        shaped(out, {X, T});
        const WindowPlan plan = plan_aft_window(request("apply"));
        WindowApply window(band, a, before, after, X, T, plan.tile);
        plan.apply(window);
        out = window.out;
    }
};

}  // namespace aft

HALIDE_REGISTER_GENERATOR(aft::WindowRangeGenerator, range)
HALIDE_REGISTER_GENERATOR(aft::WindowKeysGenerator, keys)
HALIDE_REGISTER_GENERATOR(aft::WindowQueriesGenerator, queries)
HALIDE_REGISTER_GENERATOR(aft::WindowQueryPackGenerator, query_pack)
HALIDE_REGISTER_GENERATOR(aft::WindowForwardGenerator, forward)
HALIDE_REGISTER_GENERATOR(aft::WindowBackwardGenerator, backward)
HALIDE_REGISTER_GENERATOR(aft::WindowTotalGenerator, total)
HALIDE_REGISTER_GENERATOR(aft::WindowDotsGenerator, dots)
HALIDE_REGISTER_GENERATOR(aft::WindowTableGenerator, table)
HALIDE_REGISTER_GENERATOR(aft::WindowTransposeGenerator, transpose)
HALIDE_REGISTER_GENERATOR(aft::WindowBiasGradientGenerator, bias_gradient)
HALIDE_REGISTER_GENERATOR(aft::WindowApplyGenerator, apply)
