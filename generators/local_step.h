// Decoding of AFT-local (SPEC "Decoding"): one query against the ring of the last s keys and three numbers of the older ones.
//
//   bias   w[n] = u . v[n] in double: an fp32 dot product of large factors would lose the contract's digits
//   fold   (num, den, max) takes in tokens that left the window, in double: rounding would add up over the sequence
//   push   a token enters the ring as e = exp(K - m) and e V, the one that leaves is added to num and den
//   mix    y = sigma(Q) num / den over the window and what left it,  e[n] W[n] and e[n] V[n] W[n],  W[n] = exp(w[n] - r)
//
// m, a number for each sequence and channel near its largest K, is the max of (num, den, max); r is the largest w, the 0 of older tokens
// included. While K - m is in [-30, 5] and the spread of w at most 40, all factors are normal numbers, so a step needs no exp of
// its keys. models/mixers/local_decoding.cpp keeps the others as K and V, for aft_local_step_f32 (generators/aft_full.h), which adds
// K + w in double. The window is summed in chunks, so a long one costs no digits. Its weights are padded with zeros to whole chunks.
#pragma once
#include <Halide.h>

#include <functional>

#include "generators/aft_full.h"
#include "generators/request.h"
#include "generators/vector_math.h"

namespace aft {

constexpr int local_step_chunk = 16;  // keys; models/mixers/local_decoding.cpp pads by it

// exp(x) in double for x <= 0, relative error < 1e-15, 0 below exp(-708): exp_clamped of generators/vector_math.h with a Taylor sum.
inline Halide::Expr exp_double(Halide::Expr x) {
    using namespace Halide;
    const Expr y = max(x, cast<double>(-708.0f));
    const auto number = [](double v) { return Internal::FloatImm::make(Float(64), v); };
    const Expr shifted = y * number(1.4426950408889634) + number(6755399441055744.0), n = strict_difference(shifted, number(6755399441055744.0));
    const Expr f = strict_difference(y - n * number(6.93147180369123816490e-01), n * number(1.90821492927058770002e-10));
    double factorial = 6227020800.0;  // 13!
    Expr p = number(1 / factorial);
    for (int k = 13; k > 0; k--) factorial /= k, p = p * f + number(1 / factorial);
    const Expr scaled = reinterpret<double>(reinterpret<int64_t>(p) + (reinterpret<int64_t>(shifted) << cast<int64_t>(52)));
    return select(x < cast<double>(-708.0f), number(0), scaled);
}

struct LocalBias {
    Halide::Var l{"l"}, n{"n"};
    Halide::RDom steps, lane;
    Halide::Func partial{"partial"}, total{"total"}, w{"w"};

    LocalBias(Halide::Func u, Halide::Func v, Halide::Expr D, Halide::Expr N, int lanes) {
        using namespace Halide;
        steps = RDom(0, ceil_div(D, lanes), "steps"), lane = RDom(0, lanes, "lane");
        const Expr at = steps * lanes + l, d = inside(at, D);
        partial(l, n) = cast<double>(0.0f);
        partial(l, n) += select(likely(at < D), cast<double>(u(d)), cast<double>(0.0f)) * cast<double>(v(d, inside(n, N)));
        total(n) += partial(lane, n);
        w(n) = total(n);
    }
};

struct LocalFold {
    Halide::Var c{"c"}, b{"b"}, one{"one"};  // generators/kernel_generator.h, "In place"
    Halide::RDom tokens;
    Halide::Func far{"far"};

    LocalFold(Halide::Func key, Halide::Func value, Halide::Expr C, Halide::Expr first, Halide::Expr count) {
        using namespace Halide;
        tokens = RDom(first, count, "tokens");
        far(c, b, one) = Tuple(undef<double>(), undef<double>(), undef<double>());
        const Expr num = far(c, b, one)[0], den = far(c, b, one)[1], top = far(c, b, one)[2];
        const Expr k = cast<double>(key(inside(c, C), tokens, b)), v = cast<double>(value(inside(c, C), tokens, b));
        const Expr rise = k - top, x = exp_double(-abs(rise));
        far(c, b, one) = Tuple(select(rise > 0, num * x + v, num + v * x), select(rise > 0, den * x + 1, den + x), max(top, k));
    }
};

struct LocalPush {
    Halide::Var c{"c"}, b{"b"}, one{"one"};
    Halide::Func state{"state"};  // num, den, and a row of the ring: e, e V

    LocalPush(Halide::Func key, Halide::Func value, Halide::Func reference, Halide::Expr C, Halide::Expr leaves) {
        using namespace Halide;
        state(c, b, one) = Tuple(undef<double>(), undef<double>(), undef<float>(), undef<float>());
        const Expr num = state(c, b, one)[0], den = state(c, b, one)[1], old = state(c, b, one)[2], old_value = state(c, b, one)[3], cc = inside(c, C);
        const Expr e = exp_clamped(cast<float>(cast<double>(key(cc, b)) - reference(cc, b)));
        state(c, b, one) = Tuple(select(leaves > 0, num + cast<double>(old_value), num), select(leaves > 0, den + cast<double>(old), den), e, e * value(cc, b));
    }
};

struct LocalMixInputs {
    Halide::Func query, key, value, weights;   // (c, b); (c, n, b): e, e V; (n)
    Halide::Func far_num, far_den;             // (c, b)
    Halide::Expr far_weight, C, T, padded;     // far_weight = exp(0 - r), or 0: no token has left the window
};

struct LocalMix {
    Halide::Var c{"c"}, b{"b"}, chunk{"chunk"};
    Halide::RDom in_chunk, chunks;
    Halide::Func part{"part"}, sums{"sums"}, result{"result"};

    explicit LocalMix(const LocalMixInputs &in) {
        using namespace Halide;
        in_chunk = RDom(0, local_step_chunk, "in_chunk"), chunks = RDom(0, in.padded / local_step_chunk, "chunks");
        const Expr cc = inside(c, in.C), n = chunk * local_step_chunk + in_chunk, row = inside(n, in.T), w = in.weights(n);
        part(c, b, chunk) = Tuple(0.0f, 0.0f);
        part(c, b, chunk) = Tuple(part(c, b, chunk)[0] + w * in.value(cc, row, b), part(c, b, chunk)[1] + w * in.key(cc, row, b));
        const Expr far = cast<double>(in.far_weight);
        sums(c, b) = Tuple(cast<float>(far * in.far_num(cc, b)), cast<float>(far * in.far_den(cc, b)));
        sums(c, b) = Tuple(sums(c, b)[0] + part(c, b, chunks)[0], sums(c, b)[1] + part(c, b, chunks)[1]);
        result(c, b) = Gate(in.query(cc, b)).times(sums(c, b)[0] / sums(c, b)[1]);
    }
};

struct LocalStepPlan {
    int lanes;  // of LocalBias::partial
    std::function<void(LocalBias &)> bias;
    std::function<void(LocalFold &)> fold;
    std::function<void(LocalPush &)> push;
    std::function<void(LocalMix &)> mix;
    void drop_moves() { no_moves(bias, fold, push, mix); }
};
LocalStepPlan plan_local_step(const Request &request);

}  // namespace aft
