// AFT-full (SPEC F1, F5, F6): the elementwise kernels around its products. The composition is models/mixers/full.cpp.
//
// With E[t, t'] = exp(w[t, t'] - r[t]) (0 for a key in the future) and e[t', b, c] = exp(K[t'] - m[b, c]) the operator is
//     [num | den] = E [e V | e]        R = num / den        y = sigma(Q) R
// and backward, with G = dY sigma(Q) / den (0 for elements of the exact path, models/mixers/exact_path.h),
//     dQ = dY R sigma(Q) sigma(-Q)     [S | P] = E^T [G | G R]     dV = e S     dK = (e S) V - (e P)
//     dw = E (.) ([G | G R] [e V | -e]^T)
#pragma once
#include <Halide.h>

#include <functional>

#include "generators/gate.h"
#include "generators/request.h"
#include "generators/vector_math.h"

namespace aft {

// (high, low, largest)[b, c] = (max K, min K, max |V|), a block of keys added to what came before.
struct AftRange {
    Halide::Var c{"c"}, b{"b"};
    Halide::RDom key_time;
    Halide::Func result{"result"};
};

// A pointwise kernel over a tile of pairs: rows are queries t, columns are keys x.
struct AftTile {
    Halide::Var x{"x"}, t{"t"};
    Halide::Func result{"result"};
};

// (high, low)[t] = (max w, min w) over the allowed keys of a tile, added to what came before.
struct AftReference {
    Halide::Var lane{"lane"}, t{"t"};
    Halide::RDom steps, lanes;
    Halide::Func partial{"partial"}, result{"result"};
};

// w = u v^T in double, for biases so large that the rounding of fp32 products would show in exp(w).
struct AftProducts {
    Halide::Var x{"x"}, t{"t"}, d{"d"};
    Halide::RDom inner;
    Halide::Func v_wide{"v_wide"}, u_wide{"u_wide"}, result{"result"};
};

// Decoding: one query against all keys so far, with the joint maximum of K + w, in double where digits or range would go.
struct AftStep {
    Halide::Var c{"c"}, b{"b"};
    Halide::RDom keys;
    Halide::Func top{"top"}, sums{"sums"}, result{"result"};

    // far (c, b, n): num, den and maximum of the keys beyond a window, whose w is 0 (AFT-local); undefined for AFT-full.
    AftStep(Halide::Func query, Halide::Func key, Halide::Func value, Halide::Func w, Halide::Func far, Halide::Expr C, Halide::Expr T) {
        using namespace Halide;
        keys = RDom(0, T, "keys");
        const Expr cc = inside(c, C);
        const Expr sum = cast<double>(key(cc, keys, b)) + w(keys);
        top(c, b) = far.defined() ? far(cc, b, 2) : cast<double>(-3e38f);
        top(c, b) = max(top(c, b), sum);
        // e = h^2 reaches e^-174: a key of weight 1e-60 still counts when its value is 1e30 larger than the others
        const auto root = [&](Expr x) { return cast<double>(exp_to_zero(cast<float>(0.5f * (x - top(c, b))))); };
        const Expr h = root(sum);
        if (far.defined()) {
            const Expr f = root(far(cc, b, 2));
            sums(c, b) = Tuple(f * f * far(cc, b, 0), f * f * far(cc, b, 1));
        } else {
            sums(c, b) = Tuple(cast<double>(0.0f), cast<double>(0.0f));
        }
        sums(c, b) = Tuple(sums(c, b)[0] + h * h * cast<double>(value(cc, keys, b)), sums(c, b)[1] + h * h);
        result(c, b) = Gate(query(cc, b)).times(cast<float>(sums(c, b)[0] / sums(c, b)[1]));
    }
};

struct AftFullPlan {
    int lanes;  // columns of AftReference::partial
    std::function<void(AftRange &)> range;
    std::function<void(AftTile &)> tile;
    std::function<void(AftReference &)> reference;
    std::function<void(AftProducts &)> products;
    std::function<void(AftStep &)> step;
    void drop_moves() { no_moves(range, tile, reference, products, step); }
};
AftFullPlan plan_aft_full(const Request &request);

}  // namespace aft
