// Decoding with one state per layer: constant cost per token for AFT-simple, -local and -conv.
#include "aft/error.h"
#include "models/language_model_parts.h"

namespace aft {

Decoder LanguageModel::decoder(int64_t batch) const {
    if (batch < 1) throw Error("a decoder for " + std::to_string(batch) + " sequences is impossible: give 1 or more");
    auto parts = std::make_unique<Decoder::Parts>();
    parts->model = parts_.get();
    parts->batch = batch;
    Decoder decoder(std::move(parts));
    decoder.reset();
    return decoder;
}

Decoder::Decoder(std::unique_ptr<Parts> parts) : parts_(std::move(parts)) {}
Decoder::~Decoder() = default;
Decoder::Decoder(Decoder &&) noexcept = default;

int64_t Decoder::position() const { return parts_->position; }

void Decoder::reset() {
    parts_->position = 0;
    parts_->states.clear();
    parts_->packed.clear();  // the parameters may have changed
    for (const Block &block : parts_->model->blocks) parts_->states.push_back(block.start(parts_->batch));
}

void Decoder::Parts::pack() {
    // One tensor for all: it is large enough for huge pages, with which a stream from memory is half as fast again.
    int64_t floats = model->head.packed_floats(), at = 0;
    for (const Block &block : model->blocks) floats += block.packed_floats();
    const Tensor memory({floats});
    for (const Block &block : model->blocks) {
        packed.push_back(block.packed(memory.slice(0, at, at + block.packed_floats())));
        at += block.packed_floats();
    }
    packed_head = model->head.packed(memory.slice(0, at, floats));

    std::vector<PackedLinear *> order;
    for (Block::Packed &block : packed)
        for (PackedLinear *layer : {&block.fused, &block.output, &block.up, &block.down})
            if (layer->panels.defined()) order.push_back(layer);
    order.push_back(&packed_head);
    for (size_t n = 0; n < order.size(); n++) order[n]->next = order[(n + 1) % order.size()]->panels;
}

Tensor Decoder::prefill(const Tensor &tokens) {
    Parts &p = *parts_;
    p.model->check_tokens(tokens, "tokens");
    if (p.position != 0) throw Error("prefill at position " + std::to_string(p.position) + ": reset the decoder first");
    const int64_t B = tokens.size(0), T = tokens.size(1), C = p.model->config.channels;
    if (B != p.batch) throw Error("prefill of " + std::to_string(B) + " sequences by a decoder for " + std::to_string(p.batch));
    p.arena.reset();
    const Tensor x = p.model->forward(tokens, p.arena, [&](size_t l, const Block::Saved &saved) { p.model->blocks[l].prefill(saved, B, T, p.states[l], p.arena); });
    Tensor last = p.arena.allocate({B, C});
    last.copy_from(x.reshape({B, T, C}).select(1, T - 1));
    p.position = T;
    Tensor logits({B, p.model->config.vocabulary}), normed = p.arena.allocate({B, C});
    LayerNorm::Saved ignored;
    p.model->norm.forward(last, normed, ignored, p.arena);
    p.model->head.forward(normed, logits, p.arena);
    return logits;
}

Tensor Decoder::step(const Tensor &tokens) {
    Parts &p = *parts_;
    const ModelConfig &config = p.model->config;
    if (tokens.rank() != 1 || tokens.size(0) != p.batch) throw Error("a step takes [" + std::to_string(p.batch) + "] tokens, not " + to_string(tokens.shape()));
    if (p.position >= config.context)
        throw Error("the decoder is full: the model's context is " + std::to_string(config.context) + "; reset it and prefill the last tokens");
    const Tensor shaped = tokens.reshape({p.batch, 1});
    p.model->check_tokens(shaped, "tokens");
    p.arena.reset();
    if (p.packed.empty()) p.pack();
    Tensor x = p.arena.allocate({p.batch, config.channels}), y = p.arena.allocate({p.batch, config.channels});
    p.model->embed(shaped, p.position, x);
    for (size_t l = 0; l < p.states.size(); l++) {
        p.model->blocks[l].step(x, y, p.packed[l], p.states[l], p.arena);
        std::swap(x, y);
    }
    p.position++;
    Tensor logits({p.batch, config.vocabulary});
    LayerNorm::Saved ignored;
    p.model->norm.forward(x, y, ignored, p.arena);
    p.packed_head.forward(y, logits);
    return logits;
}

}  // namespace aft
