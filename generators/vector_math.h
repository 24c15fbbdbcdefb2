// Elementary functions that vectorise without a library call.
#pragma once
#include <Halide.h>

#include <cmath>
#include <vector>

namespace aft {

// An index that reads may hang over: `likely` marks the clamp's usual case, so that the clamp costs nothing inside.
inline Halide::Expr inside(Halide::Expr index, Halide::Expr extent) { return Halide::min(Halide::likely(index), extent - 1); }

inline Halide::Expr ceil_div(Halide::Expr x, Halide::Expr y) { return (x + y - 1) / y; }

// One product, sum or difference exactly as written: neither contracted nor regrouped. (Halide's strict_float would also take the
// fused multiply-adds out of everything below it, and a strict and a free copy of one expression are computed twice.)
inline Halide::Expr strict_product(Halide::Expr x, Halide::Expr y) {
    return Halide::Internal::Call::make(x.type(), Halide::Internal::Call::strict_mul, {x, y}, Halide::Internal::Call::PureIntrinsic);
}
inline Halide::Expr strict_sum(Halide::Expr x, Halide::Expr y) {
    return Halide::Internal::Call::make(x.type(), Halide::Internal::Call::strict_add, {x, y}, Halide::Internal::Call::PureIntrinsic);
}
inline Halide::Expr strict_difference(Halide::Expr x, Halide::Expr y) {
    return Halide::Internal::Call::make(x.type(), Halide::Internal::Call::strict_sub, {x, y}, Halide::Internal::Call::PureIntrinsic);
}

// x h^2, and x y h^2: strict, each factor meeting one h at a time, because h h may underflow (or x y overflow) where the result does
// not. (LLVM makes (x h) h into x (h h) where only the inner product is strict.)
inline Halide::Expr times_square(Halide::Expr x, Halide::Expr h) { return strict_product(strict_product(x, h), h); }
inline Halide::Expr times_square(Halide::Expr x, Halide::Expr y, Halide::Expr h) { return strict_product(strict_product(x, h), strict_product(y, h)); }

// One of two values of which only the chosen one is computed: a branch, where select would load what it does not use. The
// condition must be the same for all lanes.
inline Halide::Expr only_if(Halide::Expr condition, Halide::Expr yes, Halide::Expr no) {
    return Halide::Internal::Call::make(yes.type(), Halide::Internal::Call::if_then_else, {condition, yes, no}, Halide::Internal::Call::PureIntrinsic);
}

// c[0] x^n + ... + c[n].
inline Halide::Expr polynomial(const Halide::Expr &x, const std::vector<float> &c) {
    Halide::Expr sum = c[0];
    for (size_t k = 1; k < c.size(); k++) sum = sum * x + c[k];
    return sum;
}

// exp(scale x) = 2^n p(f), scale a power of two: n = round(scale x / ln 2), f = x - n ln 2 / scale. The scale costs nothing, being folded into the
// constants. coefficients of p: the highest power first, of scale f.
struct ReducedExp {
    Halide::Expr polynomial, bits;  // bits: 0x4B400000 + n, for |n| < 2^22

    Halide::Expr value() const { return Halide::reinterpret<float>(Halide::reinterpret<int>(polynomial) + (bits << 23)); }
};
inline ReducedExp exp_reduced(const Halide::Expr &x, double scale, const std::vector<double> &coefficients) {
    using namespace Halide;
    // At 1.5 * 2^23 the unit of the last place is 1, so the addition rounds and the low bits are n.
    // (A rounding instruction of 512 bits is split in two by LLVM, and a conversion would follow.)
    const Expr shifted = x * float(1.4426950408889634 * scale) + 12582912.0f, n = strict_difference(shifted, 12582912.0f);
    const Expr f = x - n * float(0.69314718055994531 / scale);  // one fused multiply-add: the product is not rounded
    std::vector<float> scaled;
    double power = std::pow(scale, double(coefficients.size() - 1));
    for (const double coefficient : coefficients) scaled.push_back(float(coefficient * power)), power /= scale;
    return {polynomial(f, scaled), reinterpret<int>(shifted)};
}

// exp(scale x) for scale x <= 88. Clamped below at exp(-87.3): never 0, never subnormal, so a sum that must notice underflow tests its
// denominator. Relative error below 2 + |scale x| / 20 units of 2^-24. The second term is that of ln 2 as one constant: exp multiplies
// the rounding of a computed x by |scale x|, twenty times as much, so a second constant would buy nothing. The polynomial is
// the minimax of degree 6 with p(0) = 1, so exp(0) = 1.
inline Halide::Expr exp_scaled(const Halide::Expr &x, double scale) {
    return exp_reduced(max(x, float(-87.3 / scale)), scale, {1.4061422552913427e-3, 8.379058912396431e-3, 4.166477173566818e-2, 1.6666364669799805e-1, 0.5000000596046448, 1, 1}).value();
}

inline Halide::Expr exp_clamped(Halide::Expr x) { return exp_scaled(x, 1); }

// exp(x) where n = round(x / ln 2) lies in [high - 127, high], with -126 <= n <= 126, and a guard: in [0, 127] there and nowhere else, so the
// guards of many joined by `or` tell whether all were, and a range costs neither clamp nor comparison.
// Relative error below 2.6 + |x| / 20 units of 2^-24: the minimax of degree 5 with p(0) = p'(0) = 1 is within 1.8.
struct GuardedExp {
    Halide::Expr value, guard;
};
inline GuardedExp exp_guarded(const Halide::Expr &x, int high) {
    const ReducedExp e = exp_reduced(x, 1, {8.312755264341831e-3, 4.1890207678079605e-2, 1.6667112708091736e-1, 4.99992311000824e-1, 1, 1});
    return {e.value(), e.bits - (0x4B400000 + high - 127)};
}

// exp(x / 2) for x <= 176.
inline Halide::Expr exp_half(Halide::Expr x) { return exp_scaled(x, 0.5); }

// exp for any finite x: saturates at e^88 and e^-87.3.
inline Halide::Expr exp_any(Halide::Expr x) { return exp_clamped(Halide::min(x, 88.0f)); }

// exp for x <= 88 that ends in 0: below exp(-87.3) it is 0, so a factor is either good to rounding or absent.
inline Halide::Expr exp_to_zero(Halide::Expr x) { return Halide::select(x < -87.3f, 0.0f, exp_clamped(x)); }

// 1 + exp(-x) = 1 / sigmoid(x): a gate is a division by this.
inline Halide::Expr sigmoid_inverse(Halide::Expr x) { return 1.0f + exp_any(-x); }

// GELU(x) = x Phi(x), Phi(x) = (1 + erf(x / sqrt 2)) / 2. erf is a minimax odd polynomial over an even one on [-4, 4], within 3 ulp.
inline Halide::Expr gelu(const Halide::Expr &x) {
    const Halide::Expr u = Halide::clamp(x * 0.707106781f, -4.0f, 4.0f), z = u * u;
    const Halide::Expr p = polynomial(z, {-2.72614225801306e-10f, 2.77068142495902e-08f, -2.10102402082508e-06f, -5.69250639462346e-05f, -7.34990630326855e-04f,
                                          -2.95459980854025e-03f, -1.60960333262415e-02f});
    const Halide::Expr q = polynomial(z, {-1.45660718464996e-05f, -2.13374055278905e-04f, -1.68282697438203e-03f, -7.37332916720468e-03f, -1.42647390514189e-02f});
    return 0.5f * x * (1.0f + u * p / q);
}

// GELU and its slope Phi(x) + x phi(x), where both are wanted: Phi and the slope are 1/2 + x p(x^2) / q(x^2) with one q, so the slope costs eight
// operations more and no exp. A minimax fit on [-5.7, 5.7], beyond which they keep their value, within 0.5 and 1 units of 2^-24 (3 and 4.3
// with rounding).
struct GeluAndSlope {
    Halide::Expr value, slope;
};
inline GeluAndSlope gelu_and_slope(const Halide::Expr &x) {
    const Halide::Expr u = Halide::clamp(x, -5.7f, 5.7f), z = u * u;
    const Halide::Expr over = u / polynomial(z, {2.503959064e-8f, 3.293170604e-6f, 1.218192874e-4f, 2.548787412e-3f, 3.405847375e-2f, 2.715515064e-1f, 1});
    const Halide::Expr p = polynomial(z, {4.285069604e-10f, 1.754150298e-7f, 1.149276242e-5f, 2.741642037e-4f, 5.504012136e-3f, 4.184390718e-2f, 3.989421069e-1f});
    const Halide::Expr s = polynomial(z, {-3.152174271e-11f, 6.102263444e-9f, -2.698125631e-7f, 3.133724896e-5f, -2.712196924e-4f, 1.479155542e-2f, -4.92933474e-2f, 7.978842439e-1f});
    return {x * (over * p + 0.5f), over * s + 0.5f};
}

}  // namespace aft
