// The byte-level AFT language model of SPEC "The language model": embedding + positions, L pre-norm blocks
//   x = x + dropout(mixer(LN(x))),  x = x + dropout(MLP(LN(x))),  MLP = Linear(C, 4C), GELU (erf), Linear(4C, C),
// final LN, linear head. logits[b, t] score token t + 1.
#pragma once
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "aft/config.h"
#include "aft/tensor.h"

namespace aft {

/// Values and gradients of all parameters: two flat buffers and named views into them. The first `decayed` elements
/// are the ones that weight decay applies to.
class ParameterSet {
public:
    explicit ParameterSet(const std::vector<ParameterShape> &shapes);

    Tensor values, gradients;  ///< [N] f32
    int64_t decayed = 0;

    const std::vector<std::string> &names() const { return names_; }  ///< in file order
    Tensor value(const std::string &name) const;                      ///< a view; throws Error for an unknown name
    Tensor gradient(const std::string &name) const;
    /// Parameters that lie one behind the other as one tensor of the shape `fused`, from the first one's name.
    Tensor value(const std::string &first, const Shape &fused) const;
    Tensor gradient(const std::string &first, const Shape &fused) const;
    bool has(const std::string &name) const { return views_.contains(name); }

private:
    struct View {
        int64_t offset;
        Shape shape;
    };
    Tensor view(const Tensor &buffer, const std::string &name, const Shape *fused) const;

    std::vector<std::string> names_;
    std::map<std::string, View> views_;
};

/// The randomness of one training pass: dropout masks are a function of these, so a resumed run repeats them.
struct TrainingPass {
    uint64_t seed = 0;
    int64_t step = 0;
    int64_t first_sequence = 0;  ///< index in the batch of the pass's first sequence (micro-batches)
};

class Decoder;

/// Not thread-safe (one arena): a model is used by one thread at a time; kernels use the pool inside. Tokens that do not fit
/// (shape, type, outside the vocabulary, T > context) are an Error.
class LanguageModel {
public:
    /// Parameters are uninitialised until initialise() or load. Throws Error for an impossible config.
    explicit LanguageModel(const ModelConfig &config);
    ~LanguageModel();
    LanguageModel(LanguageModel &&) noexcept;
    LanguageModel &operator=(LanguageModel &&) noexcept;

    const ModelConfig &config() const;
    ParameterSet &parameters();
    const ParameterSet &parameters() const;

    /// SPEC "The language model": linear weights, embeddings, positions ~ N(0, initializer_range), biases 0, gains 1, u, v ~
    /// N(0, bias_std), raw filters ~ N(0, 1), gamma and beta 0.
    void initialise(uint64_t seed);

    /// Adds the gradient of `scale` x (sum of the token losses) and returns that sum in nats (unscaled).
    /// tokens, targets: [B, T] i32, T <= context; a target < 0 does not count. Dropout as in config.
    double accumulate_gradient(const Tensor &tokens, const Tensor &targets, double scale, const TrainingPass &pass);

    /// Loss in nats of each target, [B, T] f32, without dropout.
    Tensor losses(const Tensor &tokens, const Tensor &targets);

    /// [B, T, V] f32, without dropout.
    Tensor logits(const Tensor &tokens);

    /// Bytes of activations and workspaces that accumulate_gradient needs for B sequences of length T (an upper
    /// estimate, from shapes only): micro-batches are chosen by it.
    int64_t training_bytes(int64_t B, int64_t T) const;

    /// Name of the first parameter, activation or gradient that is not finite in a forward and backward pass over these
    /// tokens ("blocks.3.mixer output"), or "" when all are.
    std::string first_non_finite(const Tensor &tokens, const Tensor &targets, const TrainingPass &pass);

    /// A decoder of `batch` sequences (1 or more) over this model's parameters; the model must outlive it.
    Decoder decoder(int64_t batch) const;

private:
    friend class Decoder;
    struct Parts;
    std::unique_ptr<Parts> parts_;
};

/// Decoding token by token: cost per token does not depend on the position for simple, local and conv.
/// One thread at a time; decoders of one model may run on threads of their own while nobody changes its parameters.
/// The first step makes a copy of the linear layers' weights in an order that suits a few rows; it lives until reset() and takes as
/// much memory as they do (69 MB for 24x256). Changed parameters count from the next reset() on.
class Decoder {
public:
    ~Decoder();
    Decoder(Decoder &&) noexcept;

    int64_t position() const;  ///< tokens seen; at config.context the decoder is full
    void reset();
    /// Runs the tokens [B, n] i32 in parallel from position 0 (after reset) and returns the last logits [B, V].
    Tensor prefill(const Tensor &tokens);
    /// One token per sequence, [B] i32; returns the logits [B, V] for the next one. Throws Error when full.
    Tensor step(const Tensor &tokens);

private:
    friend class LanguageModel;
    struct Parts;
    explicit Decoder(std::unique_ptr<Parts> parts);
    std::unique_ptr<Parts> parts_;
};

}  // namespace aft
