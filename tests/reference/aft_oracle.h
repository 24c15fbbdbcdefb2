// The oracle of all AFT operators (SPEC F1-F5): plain loops in double over F1 with any w[t, t', head], every gradient, and
// the magnitudes M of the numerics contract. And what the cases of the four operators share.
#pragma once
#include <functional>

#include "aft/mixer.h"
#include "tests/reference/operator_case.h"

namespace aft::reference {

struct AftForm {
    bool causal = true;
    int64_t heads = 1;                                             // of w: channel c uses head c * heads / C
    std::function<double(int64_t t, int64_t key, int64_t head)> w;
    // Called once for each allowed (t, key, head) with dw and M(dw), in order; may be empty.
    std::function<void(int64_t t, int64_t key, int64_t head, double dw, double magnitude)> bias_gradient;
};

// Inputs query, value [B, T, C] and key [B, T, C] or [B, T, heads]; results output and, with output_gradient among the
// inputs, query_gradient, key_gradient, value_gradient.
Results aft_oracle(const Arrays &in, const AftForm &form);

// The same for a dense position_bias [T_max, T_max] or bias_u, bias_v [T_max, d'] among the inputs, counted where
// |t - t'| < window and 0 beyond; adds their gradients to the results.
Results aft_bias_oracle(const Arrays &in, bool causal, int64_t window);

// The same for AFT-conv: filter [H, s], and gamma, beta [H] among the inputs or not (cases_aft_conv.cpp).
Results aft_conv_oracle(const Arrays &in, bool causal);

// Runs the operator through make_mixer, forward and, with output_gradient, backward: all results by the oracle's names.
// fused: query, key, value and their gradients are views of one [B, T, 3C] tensor.
Tensors run_mixer(const MixerOptions &options, const Tensors &in, bool fused = false);

// Of a case of the parallel form: only its last token, by a decoding step behind a prefill of the others. The caller names it.
OperatorCase last_step(const OperatorCase &parallel, const MixerOptions &options);

// The contract's bound in units of epsilon.
double aft_bound(int64_t T);

}  // namespace aft::reference
