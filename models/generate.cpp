#include "aft/generate.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "aft/error.h"
#include "runtime/random.h"

namespace aft {
namespace {

constexpr uint32_t sampling_stream = 0x73616d70;  // apart from the streams of initialisation and dropout

Tensor tokens_of(const std::vector<uint8_t> &bytes, size_t first) {
    Tensor tokens({1, int64_t(bytes.size() - first)}, DType::i32);
    std::copy(bytes.begin() + int64_t(first), bytes.end(), tokens.data<int32_t>());
    return tokens;
}

}  // namespace

void check(const SamplingOptions &o) {
    if (!(o.temperature >= 0) || !std::isfinite(o.temperature)) throw Error("a temperature of " + std::to_string(o.temperature) + " is impossible: give 0 (greedy) or more");
    if (o.top_k < 0) throw Error("top-k " + std::to_string(o.top_k) + " is impossible: give 1 or more, or 0 for all tokens");
    if (!(o.top_p > 0 && o.top_p <= 1)) throw Error("top-p " + std::to_string(o.top_p) + " is impossible: give more than 0 and at most 1");
}

int32_t sample(const float *logits, int64_t V, const SamplingOptions &o, double u) {
    const int32_t best = int32_t(std::max_element(logits, logits + V) - logits);
    if (o.temperature == 0) return best;
    std::vector<int32_t> order(static_cast<size_t>(V));
    std::iota(order.begin(), order.end(), 0);
    std::ranges::stable_sort(order, [&](int32_t a, int32_t b) { return logits[a] > logits[b]; });
    if (o.top_k > 0 && o.top_k < V) order.resize(size_t(o.top_k));

    std::vector<double> weight(order.size());
    for (size_t n = 0; n < order.size(); n++) weight[n] = std::exp((double(logits[order[n]]) - logits[best]) / o.temperature);
    double total = std::accumulate(weight.begin(), weight.end(), 0.0);
    if (o.top_p < 1) {
        double reached = 0;
        size_t kept = 0;
        while (kept < weight.size() && reached < o.top_p * total) reached += weight[kept++];
        weight.resize(std::max<size_t>(kept, 1));
        total = std::accumulate(weight.begin(), weight.end(), 0.0);
    }
    double left = u * total;
    for (size_t n = 0; n < weight.size(); n++)
        if ((left -= weight[n]) < 0) return order[n];
    return order[weight.size() - 1];
}

GeneratedText generate(const LanguageModel &model, const std::string &prompt, int64_t count, const SamplingOptions &options,
                       const std::function<bool(uint8_t)> &emit) {
    check(options);
    const int64_t T = model.config().context;
    if (model.config().vocabulary != 256) throw Error("text needs a model over bytes; this one has a vocabulary of " + std::to_string(model.config().vocabulary));
    if (prompt.empty()) throw Error("the prompt is empty: give one byte or more");
    if (int64_t(prompt.size()) > T)
        throw Error("the prompt has " + std::to_string(prompt.size()) + " bytes; the model's context is " + std::to_string(T) + ": give a shorter one");
    if (count < 0) throw Error("cannot write " + std::to_string(count) + " tokens: give 0 or more");

    std::vector<uint8_t> text(prompt.begin(), prompt.end());
    const Philox random(options.seed);
    Decoder decoder = model.decoder(1);
    GeneratedText result;
    if (count == 0) return result;
    Tensor logits = decoder.prefill(tokens_of(text, 0)), token({1}, DType::i32);
    while (true) {
        const double u = random.uniform(uint64_t(result.tokens), sampling_stream);
        const uint8_t next = uint8_t(sample(logits.data(), logits.size(1), options, u));
        text.push_back(next);
        result.tokens++;
        if (!emit(next) || result.tokens == count) return result;
        if (decoder.position() < T) {
            *token.data<int32_t>() = next;
            logits = decoder.step(token);
            continue;
        }
        if (!options.slide) {
            result.full = true;
            return result;
        }
        decoder.reset();
        result.restarts++;
        logits = decoder.prefill(tokens_of(text, text.size() - size_t(std::max<int64_t>(T / 2, 1))));
    }
}

}  // namespace aft
