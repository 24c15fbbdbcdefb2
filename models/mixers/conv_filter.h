// The filter of AFT-conv in double: re-parameterisation (F7), its way back, and its taps as a position bias.
//   w_i = gamma_i (f_i - mean(f_i)) / sqrt(var(f_i) + 1e-5) + beta_i       without gamma and beta: w = f
#pragma once
#include <vector>

#include "aft/mixer.h"
#include "models/mixers/exact_path.h"

namespace aft {

struct ConvFilterTaps {
    int64_t heads, taps;
    int64_t before;  // tap j stands for t' - t = j - before
    bool causal;
    std::vector<double> w;          // [heads, taps]
    std::vector<double> reference;  // [heads]: max(0, max_j w), so that far tokens weigh exp(-reference)
    double spread = 0;              // most of max - min over the taps of a head and 0

    ConvFilterTaps(const MixerTensors &in, bool causal);

    const double *row(int64_t head) const { return w.data() + head * taps; }
    // exp(w - reference), never below the smallest normal number.
    float weight(int64_t head, int64_t tap) const;
    float far(int64_t head) const;

    // Adds the gradient of w [heads, taps] to those of filter, gamma and beta; undefined ones are skipped.
    void add_gradient(const MixerTensors &in, const std::vector<double> &dw, MixerTensors &gradient) const;
};

// For the exact path: w[t, t'] of a head; its gradient is summed in dw.
class ConvBias : public PairBias {
public:
    ConvBias(const ConvFilterTaps &filter, std::vector<double> *dw) : filter_(filter), dw_(dw) {}
    int64_t heads() const override { return filter_.heads; }
    void row(int64_t t, int64_t head, int64_t keys, double *w) const override;
    void add_gradient(const PairRows &dw) override;

private:
    const ConvFilterTaps &filter_;
    std::vector<double> *dw_;
};

}  // namespace aft
