#include "generators/aft_full.h"

#include "generators/kernel_generator.h"

namespace aft {

// high, low, largest [B, C] of the keys and values [B, L, C] and of what is given.
class AftFullRange : public KernelGenerator<AftFullRange> {
public:
    Input<Buffer<float, 3>> key{"key"}, value{"value"};
    Input<Buffer<float, 2>> high_in{"high_in"}, low_in{"low_in"}, largest_in{"largest_in"};
    Output<Func> range{"range", {Float(32), Float(32), Float(32)}, 2};

    void generate() {
        const auto C = key.dim(0).extent(), L = key.dim(1).extent(), B = key.dim(2).extent();
        start_at_zero(key), shaped(value, {C, L, B});
        for (auto *x : {&high_in, &low_in, &largest_in}) shaped(*x, {C, B});
        AftRange r;
        const Expr c = inside(r.c, C);
        r.key_time = RDom(0, L, "key_time");
        r.result(r.c, r.b) = Tuple(high_in(c, r.b), low_in(c, r.b), largest_in(c, r.b));
        const Expr K = key(c, r.key_time, r.b), V = value(c, r.key_time, r.b);
        const Tuple before = r.result(r.c, r.b);
        r.result(r.c, r.b) = Tuple(max(before[0], K), min(before[1], K), max(before[2], abs(V)));
        plan_aft_full(request("range")).range(r);
        range = r.result;
        shaped(r.result.output_buffers()[0], {C, B});
    }
};

// high, low [R] of a tile w [R, L]: row t may see key x where x <= t + offset.
class AftFullReference : public KernelGenerator<AftFullReference> {
public:
    Param<bool> wide{"wide", false};

    void configure() {
        w_ = add_input<Buffer<>>("w", Float(wide ? 64 : 32), 2);
        high_ = add_input<Buffer<double, 1>>("high_in");
        low_ = add_input<Buffer<double, 1>>("low_in");
        offset_ = add_input<int32_t>("offset");
        range_ = add_output<Func>("range", std::vector<Type>{Float(64), Float(64)}, 1);
    }

    void generate() {
        const AftFullPlan plan = plan_aft_full(request("rows"));
        const auto L = w_->dim(0).extent(), R = w_->dim(1).extent();
        start_at_zero(*w_), shaped(*high_, {R}), shaped(*low_, {R});
        AftReference r;
        r.steps = RDom(0, ceil_div(L, plan.lanes), "steps");
        r.lanes = RDom(0, plan.lanes, "lanes");
        const Type type = Float(wide ? 64 : 32);
        const Expr x = r.steps * plan.lanes + r.lane, none = cast(type, 3e38f);
        const Expr allowed = x < L && x <= r.t + *offset_, w = (*w_)(inside(x, L), r.t);
        r.partial(r.lane, r.t) = Tuple(-none, none);
        r.partial(r.lane, r.t) = Tuple(max(r.partial(r.lane, r.t)[0], select(allowed, w, -none)), min(r.partial(r.lane, r.t)[1], select(allowed, w, none)));
        r.result(r.t) = Tuple((*high_)(r.t), (*low_)(r.t));
        r.result(r.t) = Tuple(max(r.result(r.t)[0], cast<double>(r.partial(r.lanes, r.t)[0])), min(r.result(r.t)[1], cast<double>(r.partial(r.lanes, r.t)[1])));
        plan.reference(r);
        *range_ = r.result;
        shaped(r.result.output_buffers()[0], {R});
    }

private:
    Input<Buffer<>> *w_;
    Input<Buffer<double, 1>> *high_, *low_;
    Input<int32_t> *offset_;
    Output<Func> *range_;
};

// E [R, L] = exp(w - r), 0 where x > t + offset.
class AftFullWeights : public KernelGenerator<AftFullWeights> {
public:
    Param<bool> wide{"wide", false};

    void configure() {
        w_ = add_input<Buffer<>>("w", Float(wide ? 64 : 32), 2);
        reference_ = add_input<Buffer<double, 1>>("reference");
        offset_ = add_input<int32_t>("offset");
        weights_ = add_output<Buffer<float, 2>>("weights");
    }

    void generate() {
        const auto L = w_->dim(0).extent(), R = w_->dim(1).extent();
        start_at_zero(*w_), shaped(*reference_, {R});
        AftTile e;
        const Expr w = (*w_)(inside(e.x, L), e.t), r = (*reference_)(e.t);
        const Expr rise = wide ? cast<float>(w - r) : w - cast<float>(r);
        e.result(e.x, e.t) = select(e.x <= e.t + *offset_, exp_to_zero(min(rise, 0.0f)), 0.0f);
        plan_aft_full(request("rows")).tile(e);
        *weights_ = e.result;
        shaped(*weights_, {L, R});
    }

private:
    Input<Buffer<>> *w_;
    Input<Buffer<double, 1>> *reference_;
    Input<int32_t> *offset_;
    Output<Buffer<float, 2>> *weights_;
};

// w [R, L] = u [R, d'] v [L, d']^T in double.
class AftFullProducts : public KernelGenerator<AftFullProducts> {
public:
    Input<Buffer<float, 2>> u{"u"}, v{"v"};
    Output<Buffer<double, 2>> w{"w"};

    void generate() {
        const auto D = u.dim(0).extent(), R = u.dim(1).extent(), L = v.dim(1).extent();
        start_at_zero(u), shaped(v, {D, L});
        AftProducts p;
        p.inner = RDom(0, D, "inner");
        p.v_wide(p.x, p.d) = cast<double>(v(p.d, inside(p.x, L)));
        p.u_wide(p.d, p.t) = cast<double>(u(p.d, p.t));
        p.result(p.x, p.t) += p.u_wide(p.inner, p.t) * p.v_wide(p.x, p.inner);
        plan_aft_full(request("rows")).products(p);
        w = p.result;
        shaped(w, {L, R});
    }
};

// dw [R, L] = (accumulate ? dw : 0) + E (.) products; where E is 0, whatever the product is.
class AftFullBias : public KernelGenerator<AftFullBias> {
public:
    Input<Buffer<float, 2>> weights{"weights"}, products{"products"};
    Input<int32_t> accumulate{"accumulate"};
    Output<Buffer<float, 2>> gradient{"gradient"};

    void generate() {
        const auto L = weights.dim(0).extent(), R = weights.dim(1).extent();
        start_at_zero(weights), shaped(products, {L, R});
        AftTile g;
        const Expr x = inside(g.x, L);
        g.result(g.x, g.t) = Halide::undef<float>();
        g.result(g.x, g.t) = select(accumulate != 0, g.result(g.x, g.t), 0.0f) + select(weights(x, g.t) > 0.0f, weights(x, g.t) * products(x, g.t), 0.0f);
        plan_aft_full(request("rows")).tile(g);
        gradient = g.result;
        shaped(gradient, {L, R});
    }
};

// y [B, C] of one query [B, C] against keys and values [B, t, C] with bias w [t] in double.
class AftFullStep : public KernelGenerator<AftFullStep> {
public:
    Param<bool> has_far{"has_far", false};
    Input<Buffer<float, 2>> query{"query"};
    Input<Buffer<float, 3>> key{"key"}, value{"value"};
    Input<Buffer<double, 1>> w{"w"};

    void configure() {
        if (has_far) far_ = add_input<Buffer<double, 3>>("far");
        output_ = add_output<Buffer<float, 2>>("output");
    }

    void generate() {
        const auto C = key.dim(0).extent(), T = key.dim(1).extent(), B = key.dim(2).extent();
        start_at_zero(key), shaped(value, {C, T, B}), shaped(query, {C, B}), shaped(w, {T});
        if (far_) shaped(*far_, {C, B, 3});
        AftStep step(query, key, value, w, far_ ? Func(*far_) : Func(), C, T);
        plan_aft_full(request("step")).step(step);
        *output_ = step.result;
        shaped(*output_, {C, B});
    }

private:
    Input<Buffer<double, 3>> *far_ = nullptr;
    Output<Buffer<float, 2>> *output_ = nullptr;
};

}  // namespace aft

HALIDE_REGISTER_GENERATOR(aft::AftFullRange, range)
HALIDE_REGISTER_GENERATOR(aft::AftFullReference, reference)
HALIDE_REGISTER_GENERATOR(aft::AftFullWeights, weights)
HALIDE_REGISTER_GENERATOR(aft::AftFullProducts, products)
HALIDE_REGISTER_GENERATOR(aft::AftFullBias, bias)
HALIDE_REGISTER_GENERATOR(aft::AftFullStep, step)
