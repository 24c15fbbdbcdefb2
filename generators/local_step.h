// Decoding of AFT-local (SPEC "Decoding"): one query against the ring of the last s keys and three numbers of the older ones.
//
//   bias   w[n] = u . v[n] in double: an fp32 dot product of large factors would lose the contract's digits
//   fold   (num, den, max) takes in tokens that left the window, in double: rounding would add up over the sequence
//   mix    y = sigma(Q) num / den over the window and (num, den, max), factored: exp(w - r) is shared by sequences and channels,
//            e[n] = exp(K[n] - m) W[n],  W[n] = exp(w[n] - r)     m, r: the largest K and w, older tokens (their w is 0) included
//          spread = m - min K. All factors of an element are normal numbers and den >= exp(-spread of w) while the spreads of K and w
//          add up to 40; beyond, the caller takes aft_local_step_f32 (generators/aft_full.h), which adds K + w in double.
// The window is summed in chunks, so a long one costs no digits. Its weights are padded with zeros to whole chunks.
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

struct LocalMixInputs {
    Halide::Func query, key, value, weights;   // (c, b), (c, n, b), (c, n, b), (n)
    Halide::Func far_num, far_den, far_max;    // (c, b)
    Halide::Expr far_weight, C, T, padded;     // far_weight = exp(0 - r), or 0: no token has left the window
};

struct LocalMix {
    Halide::Var c{"c"}, b{"b"}, chunk{"chunk"};
    Halide::RDom keys, in_chunk, chunks;
    Halide::Func range{"range"}, part{"part"}, sums{"sums"}, result{"result"};

    explicit LocalMix(const LocalMixInputs &in) {
        using namespace Halide;
        keys = RDom(0, in.T, "keys"), in_chunk = RDom(0, local_step_chunk, "in_chunk"), chunks = RDom(0, in.padded / local_step_chunk, "chunks");
        const Expr cc = inside(c, in.C), has_far = in.far_weight > 0, far_max = cast<float>(max(in.far_max(cc, b), cast<double>(-3e38f)));
        range(c, b) = Tuple(select(has_far, far_max, -3e38f), select(has_far, far_max, 3e38f));
        const Expr k = in.key(cc, keys, b);
        range(c, b) = Tuple(max(range(c, b)[0], k), min(range(c, b)[1], k));

        const Expr m = range(c, b)[0], n = chunk * local_step_chunk + in_chunk, row = inside(n, in.T);
        const Expr e = exp_clamped(min(in.key(cc, row, b) - m, 0.0f)) * in.weights(n);
        part(c, b, chunk) = Tuple(0.0f, 0.0f);
        part(c, b, chunk) = Tuple(part(c, b, chunk)[0] + e * in.value(cc, row, b), part(c, b, chunk)[1] + e);
        const Expr f = cast<double>(exp_clamped(min(far_max - m, 0.0f)) * in.far_weight);
        sums(c, b) = Tuple(cast<float>(f * in.far_num(cc, b)), cast<float>(f * in.far_den(cc, b)));
        sums(c, b) = Tuple(sums(c, b)[0] + part(c, b, chunks)[0], sums(c, b)[1] + part(c, b, chunks)[1]);
        result(c, b) = Tuple(Gate(in.query(cc, b)).times(sums(c, b)[0] / sums(c, b)[1]), range(c, b)[0] - range(c, b)[1]);
    }
};

struct LocalStepPlan {
    int lanes;  // of LocalBias::partial
    std::function<void(LocalBias &)> bias;
    std::function<void(LocalFold &)> fold;
    std::function<void(LocalMix &)> mix;
    void drop_moves() { no_moves(bias, fold, mix); }
};
LocalStepPlan plan_local_step(const Request &request);

}  // namespace aft
