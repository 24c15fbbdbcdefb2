// The exact path of the AFT operators (SPEC "Numerics contract"): the few elements (b, t, c) that a factored fast path
// cannot hold, recomputed in double with the joint maximum of K + w, forward and backward.
//
// A fast path writes the weight of a pair as E e, E = exp(w - r), e = exp(K - m), in fp32. What that can lose is bounded:
// a factor below 2^-126 is 0 (or, when no exponent can fall that low, only a product is rounded to a multiple of 2^-149).
// Relative to a denominator den, measured by the same references, the loss in a result is therefore at most
//     forward    T lost max|V| / den                                          in R = num / den
//     backward   B T C lost max(1, max|V|) |dY| / den                         in an element of dK, dV, dw, du or dv
// An element where den is so small that this may pass the contract's floor of 1e-30 (and, forward, a part in 2^20 of R) is
// exact: ExactRule says which. Everything here is rare, in plain loops, and cut by shape and data, never by threads.
#pragma once
#include <cstdint>
#include <limits>
#include <vector>

#include "aft/mixer.h"

namespace aft {

// dw of some rows t, all heads: what exact_backward hands to PairBias::add_gradient. `keys` of a row: t + 1 or T.
struct PairRows {
    std::vector<int64_t> times;  // t of each row, ascending
    int64_t heads, stride;
    bool causal;
    std::vector<double> values;

    int64_t keys(size_t n) const { return causal ? times[n] + 1 : stride; }
    double *row(size_t n, int64_t head) { return values.data() + (int64_t(n) * heads + head) * stride; }
    const double *row(size_t n, int64_t head) const { return values.data() + (int64_t(n) * heads + head) * stride; }
};

// w[t, t'] in double, and the way back of its gradient.
class PairBias {
public:
    virtual ~PairBias() = default;
    virtual int64_t heads() const { return 1; }  // channels [iC/H, (i+1)C/H) use head i
    /// w[t, 0 .. keys) of a head.
    virtual void row(int64_t t, int64_t head, int64_t keys, double *w) const = 0;
    /// Adds to the gradients of the parameters behind w. Called with rows in ascending order of t.
    virtual void add_gradient(const PairRows &dw) = 0;
};

constexpr int64_t no_window = std::numeric_limits<int64_t>::max();

// w = position_bias[t, t'] where |t - t'| < window, else 0. An undefined gradient is skipped.
class DenseBias : public PairBias {
public:
    DenseBias(Tensor bias, Tensor gradient = {}, int64_t window = no_window) : bias_(bias), gradient_(gradient), window_(window) {}
    void row(int64_t t, int64_t head, int64_t keys, double *w) const override;
    void add_gradient(const PairRows &dw) override;

private:
    Tensor bias_, gradient_;
    int64_t window_;
};

// w = u[t] . v[t'] where |t - t'| < window, else 0 (F6). An undefined gradient is skipped.
class FactorisedBias : public PairBias {
public:
    FactorisedBias(Tensor u, Tensor v, Tensor u_gradient = {}, Tensor v_gradient = {}, int64_t window = no_window)
        : u_(u), v_(v), u_gradient_(u_gradient), v_gradient_(v_gradient), window_(window) {}
    void row(int64_t t, int64_t head, int64_t keys, double *w) const override;
    void add_gradient(const PairRows &dw) override;

private:
    Tensor u_, v_, u_gradient_, v_gradient_;
    int64_t window_;
};

// Which elements are exact; the one place where that is decided.
struct ExactRule {
    static constexpr float smallest = 0x1p-64f;  // of a denominator relative to its references (SPEC)

    /// key_spread, bias_spread: bounds of max - min over all pairs that meet in one sum, of K (in a column) and of w (in a row);
    /// infinity where unknown. largest_value: max |V|.
    ExactRule(int64_t B, int64_t T, int64_t C, double key_spread, double bias_spread, double largest_value);

    /// Backward: an element is exact where den < max(smallest, |dY| gradient_factor), and where y is below the smallest normal number while
    /// dY is so large that dQ = dY y (1 - sigma) needs more of its digits. Kernels write exactly these comparisons in fp32
    /// (generators/gate.h; den of an element that was exact in forward is 0).
    float gradient_factor;
    static constexpr float large_gradient = 0x1p47f;  // times half of 2^-149 it passes an eighth of the contract's floor
    /// No denominator lies below it, exp(-key_spread - bias_spread): mostly a comparison of it says that no element is exact.
    float least_den;
    bool backward(float den, float output_gradient, float output) const;
    bool forward(float den, float output, float query) const;  // R = output / sigma(query)

private:
    double forward_loss_, forward_limit_;
};

// F1 with any w: query, value [B, T, C]; key [B, T, C], or [B, T, H] with one column per head of the bias.
struct ExactProblem {
    Tensor query, key, value;
    bool causal;
};

/// Elements that are exact by the rule, output and den ([B, T, C], or [B, T, heads] where the channels of a head share theirs): output is
/// recomputed and den is set to 0. They are counted (exact_path_count) and their number is returned.
int64_t exact_forward(const ExactProblem &in, const PairBias &bias, const ExactRule &rule, Tensor &output, Tensor &den);

/// Writes the query's gradient of the exact elements, and adds what they give to those of key, value and the bias. The fast path counts
/// these elements with dnum = dden = 0.
void exact_backward(const ExactProblem &in, PairBias &bias, const ExactRule &rule, const Tensor &output, const Tensor &output_gradient, const Tensor &den,
                    MixerTensors &gradient);

}  // namespace aft
