// The AFT operators: what stands in the place of attention (Zhai et al. 2021, equations F1-F7 of docs/numerics.md).
#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "aft/arena.h"
#include "aft/tensor.h"

namespace aft {

enum class MixerKind { full, local, simple, conv };

/// "full", "local", "simple", "conv"; the reverse throws Error for another name.
const char *name_of(MixerKind kind);
MixerKind mixer_kind(const std::string &name);

struct MixerOptions {
    MixerKind kind = MixerKind::simple;
    bool causal = true;
    int64_t window = 0;  ///< s of F2, local only: w counts for pairs with |t - t'| < s and is 0 beyond
};

/// The tensors of one operator, and in backward their gradients. Undefined ones are absent. All are f32.
/// Activations [B, T, C] (conv: key [B, T, H]) may have any stride along B and T (views of a fused projection); the last
/// axis is contiguous. Parameters are contiguous; T_max >= T, and only their first T rows (and columns) count.
struct MixerTensors {
    Tensor query, key, value;
    Tensor position_bias;       ///< full, local: [T_max, T_max] dense, or instead
    Tensor bias_u, bias_v;      ///< full, local: [T_max, d'], w[t, t'] = u[t] . v[t']  (F6)
    Tensor filter;              ///< conv: [H, s]
    Tensor gamma, beta;         ///< conv: [H] re-parameterise the filter (F7); both or none
};

/// What forward keeps for backward, in the arena of the forward call.
struct MixerSaved {
    std::vector<Tensor> tensors;
};

/// The state of decoding for B sequences: sizes as SPEC "Decoding". Created by Mixer::start.
struct MixerState {
    std::vector<Tensor> tensors;
    int64_t position = 0;  ///< tokens seen
};

/// One operator with fixed options. Stateless: any number of threads may call it, each with its own arena.
class Mixer {
public:
    virtual ~Mixer() = default;
    const MixerOptions &options() const { return options_; }

    /// output [B, T, C] = the operator of `in`. Needs of the backward pass go to `saved` (arena memory that must live
    /// until backward has run); scratch is released before the return. Throws Error for shapes that do not fit.
    virtual void forward(const MixerTensors &in, Tensor &output, MixerSaved &saved, Arena &arena) const = 0;

    /// Gradients of `in`: query, key and value are overwritten, parameters are added to (+=). Tensors of `gradient`
    /// are given by the caller with the shapes of `in`; an undefined parameter gradient is skipped. `output` is what forward
    /// made: the caller mostly keeps it for the layer that follows, so forward does not keep the same numbers again.
    /// Throws Error if it has another shape than the value. AFT-simple does not read it (reads_output).
    virtual void backward(const MixerTensors &in, const Tensor &output, const MixerSaved &saved, const Tensor &output_gradient,
                          MixerTensors &gradient, Arena &arena) const = 0;
    /// Whether backward reads `output`; else it may be undefined or overwritten by then.
    virtual bool reads_output() const { return true; }

    /// Decoding, causal only. A state before the first token, for `batch` sequences of at most `length` tokens.
    virtual MixerState start(const MixerTensors &parameters, int64_t batch, int64_t channels, int64_t length) const = 0;
    /// Brings a fresh state behind the tokens of `in` (key, value [B, T, C]); outputs come from forward.
    virtual void prefill(const MixerTensors &in, MixerState &state, Arena &arena) const = 0;
    /// One token: query, key, value and output are [B, 1, C].
    virtual void step(const MixerTensors &in, MixerState &state, Tensor &output, Arena &arena) const = 0;

protected:
    explicit Mixer(const MixerOptions &options) : options_(options) {}
    MixerOptions options_;
};

/// Throws Error for options that are impossible (a window < 0).
std::unique_ptr<Mixer> make_mixer(const MixerOptions &options);

/// Throws an Error that names the tensor which is missing, superfluous, of a wrong shape or not f32.
void check_mixer_tensors(const MixerOptions &options, const MixerTensors &in);

/// Elements of all operators since the start of the program that the factored fast path could not hold and that were
/// computed by the exact path (docs/numerics.md).
int64_t exact_path_count();

}  // namespace aft
