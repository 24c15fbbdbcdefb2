#include "generators/local_step.h"

#include "generators/kernel_generator.h"

namespace aft {

// w [N] of one row of u [D] and N rows of v [N, D].
class LocalStepBias : public KernelGenerator<LocalStepBias> {
public:
    Input<Buffer<float, 1>> u{"u"};
    Input<Buffer<float, 2>> v{"v"};
    Output<Buffer<double, 1>> w{"w"};

    void generate() {
        const Expr D = u.dim(0).extent(), N = v.dim(1).extent();
        start_at_zero(u), shaped(v, {D, N});
        const LocalStepPlan plan = plan_local_step(request("bias"));
        LocalBias bias(u, v, D, N, plan.lanes);
        plan.bias(bias);
        w = bias.w;
        shaped(w, {N});
    }
};

// (num, den, max) [B, C] take in the tokens [first, first + count) of [B, n, C], in place.
class LocalStepFold : public KernelGenerator<LocalStepFold> {
public:
    Input<Buffer<float, 3>> key{"key"}, value{"value"};
    Input<int32_t> first{"first"}, count{"count"};
    Output<Func> far{"far", {Float(64), Float(64), Float(64)}, 3};

    void generate() {
        const Expr C = key.dim(0).extent(), T = key.dim(1).extent(), B = key.dim(2).extent();
        start_at_zero(key), shaped(value, {C, T, B});
        LocalFold fold(key, value, C, first, count);
        plan_local_step(request("fold")).fold(fold);
        far = fold.far;
        shaped(fold.far.output_buffers()[0], {C, B});
    }
};

// Tokens key, value [B, C] enter a row of the ring [B, C], whose old ones are added to num and den [B, C] if `leaves`, in place.
class LocalStepPush : public KernelGenerator<LocalStepPush> {
public:
    Input<Buffer<float, 2>> key{"key"}, value{"value"};
    Input<Buffer<double, 2>> reference{"reference"};
    Input<int32_t> leaves{"leaves"};
    Output<Func> state{"state", {Float(64), Float(64), Float(32), Float(32)}, 3};

    void generate() {
        const Expr C = key.dim(0).extent(), B = key.dim(1).extent();
        start_at_zero(key), shaped(value, {C, B}), shaped(reference, {C, B});
        LocalPush push(key, value, reference, C, leaves);
        plan_local_step(request("push")).push(push);
        state = push.state;
        shaped(push.state.output_buffers()[0], {C, B});
    }
};

// y [B, C] of a query [B, C] against a window [B, t, C] with weights [t rounded up to chunks] and what left it [B, C].
class LocalStepMix : public KernelGenerator<LocalStepMix> {
public:
    Input<Buffer<float, 2>> query{"query"};
    Input<Buffer<float, 3>> key{"key"}, value{"value"};
    Input<Buffer<float, 1>> weights{"weights"};
    Input<Buffer<double, 2>> far_num{"far_num"}, far_den{"far_den"};
    Input<float> far_weight{"far_weight"};
    Output<Buffer<float, 2>> y{"y"};

    void generate() {
        const Expr C = key.dim(0).extent(), T = key.dim(1).extent(), B = key.dim(2).extent();
        start_at_zero(key), shaped(value, {C, T, B}), shaped(query, {C, B}), shaped(weights, {ceil_div(T, local_step_chunk) * local_step_chunk});
        for (auto *x : {&far_num, &far_den}) shaped(*x, {C, B});
        LocalMix mix({query, key, value, weights, far_num, far_den, far_weight, C, T, weights.dim(0).extent()});
        plan_local_step(request("mix")).mix(mix);
        y = mix.result;
        shaped(y, {C, B});
    }
};

}  // namespace aft

HALIDE_REGISTER_GENERATOR(aft::LocalStepBias, bias)
HALIDE_REGISTER_GENERATOR(aft::LocalStepFold, fold)
HALIDE_REGISTER_GENERATOR(aft::LocalStepPush, push)
HALIDE_REGISTER_GENERATOR(aft::LocalStepMix, mix)
