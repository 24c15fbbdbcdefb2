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

class ConvCarryGenerator : public ConvGenerator<ConvCarryGenerator> {
public:
    Input<Buffer<float, 2>> rows{"rows"};
    Input<Buffer<float, 1>> scale{"scale"};
    Output<Buffer<float, 2>> carried{"carried"};

    void generate() {
        conv_rows(rows), columns(scale);
        ConvCarry carry(rows, scale);
        plan_aft_conv(request()).carry(carry);
        carried = carry.carried;
        conv_rows(carry.carried.output_buffer());
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

class ConvQueriesGenerator : public ConvGenerator<ConvQueriesGenerator> {
public:
    Input<Buffer<float, 2>> output_gradient{"output_gradient"}, query{"query"}, output{"output"}, den{"den"};
    Input<Buffer<int32_t, 1>> head{"head"};
    Input<int32_t> group{"group"};
    Input<float> gradient_factor{"gradient_factor"};
    Output<Func> gradients{"gradients", {Float(32), Float(32), Float(32), Float(32)}, 2};

    void generate() {
        const Expr C = query.dim(0).extent(), rows = query.dim(1).extent();
        start_at_zero(query, den);
        for (auto *x : {&output_gradient, &output}) shaped(*x, {C, rows});
        den.dim(1).set_extent(rows), shaped(head, {C});
        const ConvHead of_channel{channels(), head, C, den.dim(0).extent()};
        Var c{"c"}, t{"t"};
        Func den_of{"den_of"};
        den_of(c, t) = den(of_channel.of(c), t);
        WindowQueries queries({output_gradient, query, output, den_of, gradient_factor, C});
        plan_aft_conv(request("queries")).queries(queries);
        gradients = queries.gradients;
        auto G = queries.gradients.output_buffers()[0];
        shaped(G, {C, rows}), conv_rows(G);
    }
};

// Kernels around the sums.
template <class Derived>
class ConvSumsKernel : public ConvGenerator<Derived> {
public:
    template <class T> using In = Halide::GeneratorInput<T>;
    template <int dimensions> using Floats = Halide::Buffer<float, dimensions>;
    Halide::GeneratorParam<WindowForm> form{"form", WindowForm::causal, {{"causal", WindowForm::causal}, {"reversed", WindowForm::reversed}, {"both", WindowForm::both}}};
    In<Floats<2>> pack{"pack"};
    In<Floats<3>> taps{"taps"};
    In<Floats<1>> far{"far"}, before{"before"}, after{"after"}, scale{"scale"};
    In<int32_t> window{"window"};

protected:
    ConvSumsInputs inputs(Expr rows) {
        this->conv_rows(pack), taps_shaped(taps), this->columns(far, before, after, scale);
        return {pack, taps, far, before, after, scale, rows, window, taps.dim(1).extent()};
    }
};

class ConvSumsGenerator : public ConvSumsKernel<ConvSumsGenerator> {
public:
    Input<int32_t> rows{"rows"};
    Output<Buffer<float, 2>> sums{"sums"};
    Output<Buffer<float, 1>> state{"state"};

    void generate() {
        const ConvPlan plan = plan_aft_conv(request("sums"));
        ConvPlain conv(inputs(rows), form, plan.tile);
        plan.sums(conv);
        sums = conv.out, state = conv.mix.state;
        conv.out.output_buffer().dim(0).set_min(0), conv.out.output_buffer().dim(1).set_min(0).set_extent(rows);
        columns(conv.mix.state.output_buffer());
    }
};

class ConvForwardGenerator : public ConvSumsKernel<ConvForwardGenerator> {
public:
    Input<Buffer<float, 2>> query{"query"}, den{"den"};
    Input<Buffer<int32_t, 1>> head{"head"};
    Input<int32_t> group{"group"};
    Output<Buffer<float, 2>> y{"y"};
    Output<Buffer<float, 1>> state{"state"};

    void generate() {
        const Expr C = query.dim(0).extent(), rows = query.dim(1).extent();
        start_at_zero(query, den);
        den.dim(1).set_extent(rows), shaped(head, {C});
        const ConvPlan plan = plan_aft_conv(request("mix"));
        ConvForward conv(query, den, {channels(), head, C, den.dim(0).extent()}, inputs(rows), form, plan.tile);
        plan.forward(conv);
        y = conv.y, state = conv.mix.state;
        columns(conv.mix.state.output_buffer());
        shaped(y, {C, rows});
    }
};

class ConvBackwardGenerator : public ConvSumsKernel<ConvBackwardGenerator> {
public:
    Input<Buffer<float, 2>> weights{"weights"};
    Input<Buffer<int32_t, 1>> head{"head"};
    Input<int32_t> group{"group"};
    Output<Buffer<float, 2>> gradient{"gradient"};
    Output<Buffer<float, 1>> state{"state"};

    void generate() {
        const Expr C = head.dim(0).extent(), rows = weights.dim(1).extent();
        conv_rows(weights), columns(head);
        const ConvPlan plan = plan_aft_conv(request("mix"));
        ConvBackward conv(weights, {channels(), head, C, weights.dim(0).extent()}, inputs(rows), form, plan.tile);
        plan.backward(conv);
        gradient = conv.gradient, state = conv.mix.state;
        columns(conv.mix.state.output_buffer());
        auto out = conv.gradient.output_buffer();
        shaped(out, {C, rows});
    }
};

// a summed by head to rows of a pack; with `rest`, a b to the keys' gradient.
class ConvHeadsGenerator : public ConvGenerator<ConvHeadsGenerator> {
public:
    Param<bool> rest{"rest", false};
    Input<Buffer<float, 2>> a{"a"};

    void configure() {
        if (rest) b_ = add_input<Buffer<float, 2>>("b"), x_ = add_input<Buffer<float, 2>>("x"), y_ = add_input<Buffer<float, 2>>("y");
        group_ = add_input<int32_t>("group"), first_ = add_input<int32_t>("first");
        sums_ = add_output<Buffer<float, 2>>("sums");
    }

    void generate() {
        const Expr C = a.dim(0).extent(), rows = a.dim(1).extent(), H = ceil_div(*first_ + C, *group_);
        start_at_zero(a);
        if (rest) shaped(*b_, {C, rows}), shaped(*x_, {H, rows}), shaped(*y_, {H, rows}), conv_rows(*x_);
        shaped(*sums_, {H, rows});
        const ConvPlan plan = plan_aft_conv(request());
        ConvHeads conv({a, rest ? Func(*b_) : Func(), rest ? Func(*x_) : Func(), rest ? Func(*y_) : Func(), *group_, *first_, C, H}, channels(), plan.lanes);
        plan.heads(conv);
        *sums_ = conv.sums;
    }

private:
    Input<Buffer<float, 2>> *b_ = nullptr, *x_ = nullptr, *y_ = nullptr;
    Input<int32_t> *group_ = nullptr, *first_ = nullptr;
    Output<Buffer<float, 2>> *sums_ = nullptr;
};

class ConvFilterGenerator : public ConvGenerator<ConvFilterGenerator> {
public:
    Input<Buffer<float, 2>> keys{"keys"}, queries{"queries"};
    Input<float> sign{"sign"};
    Output<Buffer<double, 3>> products{"products"};

    void generate() {
        conv_rows(keys), conv_rows(queries);
        ConvFilter conv(keys, queries, sign, keys.dim(1).extent());
        plan_aft_conv(request("filter")).filter(conv);
        products = conv.products;
        taps_shaped(conv.products.output_buffer());
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

HALIDE_REGISTER_GENERATOR(aft::ConvValuesGenerator, values)
HALIDE_REGISTER_GENERATOR(aft::ConvCarryGenerator, carry)
HALIDE_REGISTER_GENERATOR(aft::ConvTotalGenerator, total)
HALIDE_REGISTER_GENERATOR(aft::ConvQueriesGenerator, queries)
HALIDE_REGISTER_GENERATOR(aft::ConvSumsGenerator, sums)
HALIDE_REGISTER_GENERATOR(aft::ConvForwardGenerator, forward)
HALIDE_REGISTER_GENERATOR(aft::ConvBackwardGenerator, backward)
HALIDE_REGISTER_GENERATOR(aft::ConvHeadsGenerator, heads)
HALIDE_REGISTER_GENERATOR(aft::ConvFilterGenerator, filter)
HALIDE_REGISTER_GENERATOR(aft::ConvStepGenerator, step)
