#include "tests/reference/language_model_oracle.h"

#include <algorithm>
#include <cmath>

namespace aft::reference {
namespace {

using Rows = std::vector<std::vector<double>>;  // [row][channel]

Rows linear(const Arrays &p, const std::string &name, const Rows &x) {
    const Array &weight = p.at(name + ".weight");
    const int64_t N = weight.extent(0), K = weight.extent(1);
    Rows y(x.size(), std::vector<double>(size_t(N)));
    for (size_t r = 0; r < x.size(); r++)
        for (int64_t n = 0; n < N; n++) {
            double sum = p.contains(name + ".bias") ? p.at(name + ".bias")[size_t(n)] : 0;
            for (int64_t k = 0; k < K; k++) sum += weight[size_t(n * K + k)] * x[r][size_t(k)];
            y[r][size_t(n)] = sum;
        }
    return y;
}

Rows layer_norm(const Arrays &p, const std::string &name, const Rows &x, double epsilon) {
    Rows y = x;
    for (std::vector<double> &row : y) {
        double mean = 0, variance = 0;
        for (double v : row) mean += v / double(row.size());
        for (double v : row) variance += (v - mean) * (v - mean) / double(row.size());
        for (size_t c = 0; c < row.size(); c++)
            row[c] = (row[c] - mean) / std::sqrt(variance + epsilon) * p.at(name + ".weight")[c] + p.at(name + ".bias")[c];
    }
    return y;
}

// w[t, key] of F1-F4 for channel c; causal, so key <= t.
double bias(const ModelConfig &config, const Arrays &p, const std::string &m, int64_t t, int64_t key, int64_t head) {
    switch (config.mixer) {
        case MixerKind::simple: return 0;
        case MixerKind::local:
            if (t - key >= config.window) return 0;
            [[fallthrough]];
        case MixerKind::full: {
            const int64_t T = config.context;
            if (!config.factorized_bias) return p.at(m + "position_bias")[size_t(t * T + key)];
            double w = 0;
            for (int64_t d = 0; d < config.bias_rank; d++)
                w += p.at(m + "bias_u")[size_t(t * config.bias_rank + d)] * p.at(m + "bias_v")[size_t(key * config.bias_rank + d)];
            return w;
        }
        case MixerKind::conv: {
            const int64_t s = config.taps, tap = key - t + s - 1;
            if (tap < 0) return 0;
            const Array &filter = p.at(m + "filter");
            if (!config.filter_reparameterization) return filter[size_t(head * s + tap)];
            double mean = 0, variance = 0;
            for (int64_t j = 0; j < s; j++) mean += filter[size_t(head * s + j)] / double(s);
            for (int64_t j = 0; j < s; j++) variance += std::pow(filter[size_t(head * s + j)] - mean, 2) / double(s);
            return p.at(m + "gamma")[size_t(head)] * (filter[size_t(head * s + tap)] - mean) / std::sqrt(variance + 1e-5) + p.at(m + "beta")[size_t(head)];
        }
    }
    return 0;
}

// Rows of one sequence.
Rows mixer(const ModelConfig &config, const Arrays &p, const std::string &m, const Rows &x) {
    const Rows query = linear(p, m + "query", x), key = linear(p, m + "key", x), value = linear(p, m + "value", x);
    const int64_t T = int64_t(x.size()), C = config.channels, H = int64_t(key[0].size());
    // w for each head once, not for each channel
    const int64_t heads = config.mixer == MixerKind::conv ? H : 1;
    Rows w(size_t(T * heads));
    for (int64_t t = 0; t < T; t++)
        for (int64_t h = 0; h < heads; h++)
            for (int64_t k = 0; k <= t; k++) w[size_t(t * heads + h)].push_back(bias(config, p, m, t, k, h));
    Rows y = Rows(size_t(T), std::vector<double>(size_t(C)));
    for (int64_t t = 0; t < T; t++)
        for (int64_t c = 0; c < C; c++) {
            const size_t at = size_t(c), head = size_t(c * H / C);
            const std::vector<double> &row = w[size_t(t * heads + (heads > 1 ? int64_t(head) : 0))];
            double top = -INFINITY, num = 0, den = 0;
            for (int64_t k = 0; k <= t; k++) top = std::max(top, key[size_t(k)][head] + row[size_t(k)]);
            for (int64_t k = 0; k <= t; k++) {
                const double e = std::exp(key[size_t(k)][head] + row[size_t(k)] - top);
                num += e * value[size_t(k)][at], den += e;
            }
            y[size_t(t)][at] = num / den / (1 + std::exp(-query[size_t(t)][at]));
        }
    return config.output_projection ? linear(p, m + "output", y) : y;
}

void add(Rows &x, const Rows &y) {
    for (size_t r = 0; r < x.size(); r++)
        for (size_t c = 0; c < x[r].size(); c++) x[r][c] += y[r][c];
}

Rows sequence(const ModelConfig &config, const Arrays &p, const Array &tokens, int64_t b) {
    const int64_t T = tokens.extent(1), C = config.channels;
    Rows x = Rows(size_t(T), std::vector<double>(size_t(C)));
    for (int64_t t = 0; t < T; t++)
        for (int64_t c = 0; c < C; c++)
            x[size_t(t)][size_t(c)] = p.at("embedding.weight")[size_t(int64_t(tokens[size_t(b * T + t)]) * C + c)] + p.at("position.weight")[size_t(t * C + c)];
    for (int64_t l = 0; l < config.layers; l++) {
        const std::string block = "blocks." + std::to_string(l);
        add(x, mixer(config, p, block + ".mixer.", layer_norm(p, block + ".norm1", x, config.layer_norm_epsilon)));
        Rows hidden = linear(p, block + ".mlp.up", layer_norm(p, block + ".norm2", x, config.layer_norm_epsilon));
        for (std::vector<double> &row : hidden)
            for (double &h : row) h = 0.5 * h * (1 + std::erf(h / std::sqrt(2.0)));
        add(x, linear(p, block + ".mlp.down", hidden));
    }
    return linear(p, "head", layer_norm(p, "norm", x, config.layer_norm_epsilon));
}

}  // namespace

Arrays parameters_of(const LanguageModel &model) {
    Arrays arrays;
    for (const std::string &name : model.parameters().names()) arrays[name] = to_array(model.parameters().value(name));
    return arrays;
}

Array logits(const ModelConfig &config, const Arrays &parameters, const Array &tokens) {
    const int64_t B = tokens.extent(0), T = tokens.extent(1), V = config.vocabulary;
    Array out({B, T, V});
    for (int64_t b = 0; b < B; b++) {
        const Rows rows = sequence(config, parameters, tokens, b);
        for (int64_t t = 0; t < T; t++) std::ranges::copy(rows[size_t(t)], out.values.begin() + (b * T + t) * V);
    }
    return out;
}

double loss(const ModelConfig &config, const Arrays &parameters, const Array &tokens, const Array &targets) {
    const Array scores = logits(config, parameters, tokens);
    const size_t V = size_t(config.vocabulary);
    double sum = 0;
    for (size_t r = 0; r < targets.size(); r++) {
        if (targets[r] < 0) continue;
        const double *row = &scores.values[r * V], top = *std::max_element(row, row + V);
        double total = 0;
        for (size_t v = 0; v < V; v++) total += std::exp(row[v] - top);
        sum += std::log(total) + top - row[size_t(targets[r])];
    }
    return sum;
}

}  // namespace aft::reference
