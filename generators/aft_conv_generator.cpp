#include "generators/aft_conv.h"

#include "generators/kernel_generator.h"
#include "generators/pack.h"

namespace aft {
namespace {

using Halide::Expr;
using Halide::Float;
using Halide::Func;
using Halide::Int;
using Halide::Var;

}  // namespace

class ConvKeysGenerator : public KernelGenerator<ConvKeysGenerator> {
public:
    Input<Buffer<float, 2>> key{"key"}, value{"value"};
    Input<Buffer<float, 1>> maximum{"maximum"};
    Input<Buffer<int32_t, 1>> head{"head"};
    Input<int32_t> missing{"missing"};
    Output<Buffer<float, 4>> pack{"pack"};

    void generate() {
        const Expr H = key.dim(0).extent(), rows = key.dim(1).extent(), C = value.dim(0).extent();
        start_at_zero(key, value);
        value.dim(1).set_extent(rows), shaped(maximum, {H}), shaped(head, {C});
        ConvKeys keys(key, value, maximum, head, missing, H == C, rows, C, H);
        plan_aft_conv(request()).keys(keys, H == C);
        pack = keys.pack;
        pack_shaped(keys.pack.output_buffer());
    }
};

class ConvQueriesGenerator : public KernelGenerator<ConvQueriesGenerator> {
public:
    Input<Buffer<float, 2>> output_gradient{"output_gradient"}, query{"query"}, ratio{"ratio"}, den{"den"};
    Input<Buffer<float, 1>> maximum{"maximum"};
    Input<Buffer<float, 2>> maxima{"maxima"};
    Input<Buffer<int32_t, 1>> head{"head"};
    Input<int32_t> chunk{"chunk"}, missing{"missing"}, before{"before"};
    Input<float> gradient_factor{"gradient_factor"};
    Output<Buffer<float, 4>> pack{"pack"};
    Output<Buffer<float, 2>> query_gradient{"query_gradient"};
    Output<Buffer<float, 2>> slack{"slack"};

    void generate() {
        const Expr C = query.dim(0).extent(), rows = query.dim(1).extent(), H = maximum.dim(0).extent();
        start_at_zero(query, query_gradient, maxima, maximum);
        for (auto *x : {&output_gradient, &ratio}) shaped(*x, {C, rows});
        shaped(den, {H, rows}), shaped(head, {C}), shaped(slack, {C});  // slack has a second axis of one entry
        maxima.dim(0).set_extent(H), query_gradient.dim(0).set_extent(C);
        ConvQueries queries({output_gradient, query, ratio, den, maximum, maxima, head, chunk, missing, before, gradient_factor, H == C, rows, C, H, maxima.dim(1).extent()});
        plan_aft_conv(request()).queries(queries, H == C);
        pack = queries.pack, query_gradient = queries.query_gradient, slack = queries.slack;
        pack_shaped(queries.pack.output_buffer());
    }
};

// Kernels whose channels look for their heads.
template <class Derived>
class ConvGenerator : public KernelGenerator<Derived> {
protected:
    ConvGroup channels() const {
        const std::string name = this->variant.value();
        return name == "single" ? ConvGroup::single : name == "uniform" ? ConvGroup::uniform : ConvGroup::ragged;
    }
    template <class Buffer>
    static void conv_rows(Buffer &&x) { x.dim(0).set_min(0), x.dim(1).set_min(0).set_stride(conv_pitch); }
    template <class... Buffers>
    static void columns(Buffers &&...buffers) { (buffers.dim(0).set_min(0), ...); }
};

class ConvValuesGenerator : public ConvGenerator<ConvValuesGenerator> {
public:
    Input<Buffer<float, 2>> key{"key"}, value{"value"};
    Input<Buffer<float, 1>> maximum{"maximum"};
    Input<Buffer<int32_t, 1>> head{"head"};
    Input<int32_t> group{"group"};
    Output<Buffer<float, 2>> weights{"weights"}, pack{"pack"};

    void generate() {
        const Expr H = key.dim(0).extent(), rows = key.dim(1).extent(), C = value.dim(0).extent();
        start_at_zero(key, value);
        value.dim(1).set_extent(rows), shaped(maximum, {H}), shaped(head, {C});
        ConvValues values(key, value, maximum, {channels(), head, C, H});
        plan_aft_conv(request()).values(values);
        weights = values.weights, pack = values.pack;
        conv_rows(values.weights.output_buffer()), conv_rows(values.pack.output_buffer());
        values.weights.output_buffer().dim(0).set_extent(H), values.pack.output_buffer().dim(0).set_extent(C);
        values.weights.output_buffer().dim(1).set_extent(rows), values.pack.output_buffer().dim(1).set_extent(rows);
    }
};

class ConvTotalGenerator : public ConvGenerator<ConvTotalGenerator> {
public:
    Input<Buffer<float, 2>> pack{"pack"};
    Output<Buffer<float, 1>> total{"total"};

    void generate() {
        conv_rows(pack);
        ConvTotal sum(pack, pack.dim(1).extent());
        plan_aft_conv(request()).total(sum);
        total = sum.total;
        columns(sum.total.output_buffer());
    }
};

class ConvSumsGenerator : public ConvGenerator<ConvSumsGenerator> {
public:
    Param<WindowForm> form{"form", WindowForm::causal, {{"causal", WindowForm::causal}, {"both", WindowForm::both}}};
    Input<Buffer<float, 2>> pack{"pack"};
    Input<Buffer<float, 3>> taps{"taps"};
    Input<Buffer<float, 1>> far{"far"}, before{"before"}, after{"after"}, scale{"scale"};
    Input<int32_t> window{"window"}, rows{"rows"};
    Output<Buffer<float, 2>> sums{"sums"};
    Output<Buffer<float, 1>> state{"state"};

    void generate() {
        conv_rows(pack), taps_shaped(taps), columns(far, before, after, scale);
        const ConvPlan plan = plan_aft_conv(request("mix"));
        ConvPlain conv({pack, taps, far, before, after, scale, rows, window, taps.dim(1).extent()}, form, plan.tile);
        plan.sums(conv);
        sums = conv.out, state = conv.mix.state;
        conv.out.output_buffer().dim(0).set_min(0), conv.out.output_buffer().dim(1).set_min(0).set_extent(rows);
        columns(conv.mix.state.output_buffer());
    }
};

class ConvForwardGenerator : public ConvGenerator<ConvForwardGenerator> {
public:
    Param<WindowForm> form{"form", WindowForm::causal, {{"causal", WindowForm::causal}, {"both", WindowForm::both}}};
    Input<Buffer<float, 2>> query{"query"}, den{"den"};
    Input<Buffer<int32_t, 1>> head{"head"};
    Input<int32_t> group{"group"};
    Input<Buffer<float, 2>> pack{"pack"};
    Input<Buffer<float, 3>> taps{"taps"};
    Input<Buffer<float, 1>> far{"far"}, before{"before"}, after{"after"}, scale{"scale"};
    Input<int32_t> window{"window"};
    Output<Func> y{"y", {Float(32), Float(32)}, 2};
    Output<Buffer<float, 1>> state{"state"};

    void generate() {
        const Expr C = query.dim(0).extent(), rows = query.dim(1).extent();
        start_at_zero(query, den);
        conv_rows(pack), taps_shaped(taps), columns(far, before, after, scale);
        den.dim(1).set_extent(rows), shaped(head, {C});
        const ConvPlan plan = plan_aft_conv(request("mix"));
        ConvForward conv(query, den, {channels(), head, C, den.dim(0).extent()}, {pack, taps, far, before, after, scale, rows, window, taps.dim(1).extent()}, form, plan.tile);
        plan.forward(conv);
        y = conv.y, state = conv.mix.state;
        columns(conv.mix.state.output_buffer());
        shaped(conv.y.output_buffers()[0], {C, rows});
    }
};

class ConvBackwardGenerator : public KernelGenerator<ConvBackwardGenerator> {
public:
    Param<WindowForm> form{"form", WindowForm::reversed, {{"reversed", WindowForm::reversed}, {"both", WindowForm::both}}};
    Input<Buffer<float, 4>> keys{"keys"};
    Input<Buffer<float, 2>> value{"value"};
    Input<Buffer<float, 4>> pack{"pack"};
    Input<Buffer<float, 3>> taps{"taps"};
    Input<Buffer<float, 1>> far{"far"};
    Input<Buffer<float, 3>> before_state{"before_state"}, after_state{"after_state"};
    Input<Buffer<float, 1>> scale{"scale"};
    Input<int32_t> window{"window"};
    Output<Func> gradient{"gradient", {Float(32), Float(32)}, 2};
    Output<Buffer<float, 3>> state{"state"};

    void generate() {
        const Expr C = value.dim(0).extent(), rows = value.dim(1).extent();
        start_at_zero(value);
        pack_shaped(keys), pack_shaped(pack), taps_shaped(taps), state_shaped(before_state), state_shaped(after_state);
        shaped(far, {C}), shaped(scale, {C});
        const ConvPlan plan = plan_aft_conv(request("pair"));
        ConvBackward conv(keys, value, {pack, taps, far, before_state, after_state, scale, rows, C, window, taps.dim(1).extent()}, form, plan.tile);
        plan.backward(conv);
        gradient = conv.gradient, state = conv.mix.state;
        state_shaped(conv.mix.state.output_buffer());
        shaped(conv.gradient.output_buffers()[0], {C, rows});
    }
};

class ConvFilterGenerator : public KernelGenerator<ConvFilterGenerator> {
public:
    Input<Buffer<float, 4>> keys{"keys"}, queries{"queries"};
    Input<int32_t> rows{"rows"};
    Output<Buffer<float, 3>> products{"products"};

    void generate() {
        pack_shaped(keys), pack_shaped(queries);
        ConvFilter conv(keys, queries, rows);
        plan_aft_conv(request("filter")).filter(conv);
        products = conv.products;
        taps_shaped(conv.products.output_buffer());
    }
};

class ConvHeadsGenerator : public KernelGenerator<ConvHeadsGenerator> {
public:
    Input<Buffer<float, 2>> x{"x"};
    Input<int32_t> group{"group"};
    Output<Buffer<float, 2>> sums{"sums"};

    void generate() {
        const Expr C = x.dim(0).extent(), H = C / group;
        start_at_zero(x);
        shaped(sums, {H, x.dim(1).extent()});
        ConvHeads conv(x, group, C, H);
        plan_aft_conv(request()).heads(conv);
        sums = conv.sums;
    }
};

class ConvStepGenerator : public KernelGenerator<ConvStepGenerator> {
public:
    Input<Buffer<float, 2>> query{"query"};
    Input<Buffer<float, 3>> key{"key"}, value{"value"};
    Input<Buffer<double, 2>> w{"w"}, far_num{"far_num"}, far_den{"far_den"}, far_max{"far_max"};
    Input<Buffer<int32_t, 1>> head{"head"};
    Output<Buffer<float, 2>> output{"output"};

    void generate() {
        const Expr H = key.dim(0).extent(), keys = key.dim(1).extent(), B = key.dim(2).extent(), C = value.dim(0).extent();
        start_at_zero(key, value);
        value.dim(1).set_extent(keys), value.dim(2).set_extent(B);
        shaped(query, {C, B}), shaped(w, {H, keys}), shaped(far_num, {C, B}), shaped(far_den, {H, B}), shaped(far_max, {H, B}), shaped(head, {C});
        ConvStep step({query, key, value, w, far_num, far_den, far_max, head, C, H, keys});
        plan_aft_conv(request("step")).step(step);
        output = step.result;
        shaped(output, {C, B});
    }
};

}  // namespace aft

HALIDE_REGISTER_GENERATOR(aft::ConvKeysGenerator, keys)
HALIDE_REGISTER_GENERATOR(aft::ConvQueriesGenerator, queries)
HALIDE_REGISTER_GENERATOR(aft::ConvValuesGenerator, values)
HALIDE_REGISTER_GENERATOR(aft::ConvTotalGenerator, total)
HALIDE_REGISTER_GENERATOR(aft::ConvSumsGenerator, sums)
HALIDE_REGISTER_GENERATOR(aft::ConvForwardGenerator, forward)
HALIDE_REGISTER_GENERATOR(aft::ConvBackwardGenerator, backward)
HALIDE_REGISTER_GENERATOR(aft::ConvFilterGenerator, filter)
HALIDE_REGISTER_GENERATOR(aft::ConvHeadsGenerator, heads)
HALIDE_REGISTER_GENERATOR(aft::ConvStepGenerator, step)
