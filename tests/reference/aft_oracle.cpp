#include "tests/reference/aft_oracle.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace aft::reference {
namespace {

double sigmoid(double x) { return x < 0 ? std::exp(x) / (1 + std::exp(x)) : 1 / (1 + std::exp(-x)); }

void add(Result &result, size_t n, double value, double magnitude) { result.value[n] += value, result.magnitude[n] += magnitude; }

}  // namespace

double aft_bound(int64_t T) { return 128 + 4 * std::sqrt(double(T)); }

Results aft_oracle(const Arrays &in, const AftForm &form) {
    const Array &Q = in.at("query"), &K = in.at("key"), &V = in.at("value");
    const int64_t B = V.extent(0), T = V.extent(1), C = V.extent(2), columns = K.extent(2), heads = form.heads;
    const bool backward = in.contains("output_gradient");
    Results out = {{"output", Result(V.shape)}};
    if (backward) {
        out["query_gradient"] = Result(V.shape), out["value_gradient"] = Result(V.shape);
        out["key_gradient"] = Result(K.shape);
    }
    std::vector<double> w(static_cast<size_t>(heads * T)), p(static_cast<size_t>(T)), dw(w.size()), dw_magnitude(w.size());
    for (int64_t t = 0; t < T; t++) {
        const int64_t keys = form.causal ? t + 1 : T;
        for (int64_t h = 0; h < heads; h++)
            for (int64_t k = 0; k < keys; k++) w[size_t(h * T + k)] = form.w(t, k, h);
        std::ranges::fill(dw, 0), std::ranges::fill(dw_magnitude, 0);
        for (int64_t b = 0; b < B; b++)
            for (int64_t c = 0; c < C; c++) {
                const size_t head = size_t(c * heads / C), base = head * size_t(T);
                const auto key_at = [&](int64_t k) { return size_t((b * T + k) * columns + c * columns / C); };
                const auto at = [&](int64_t k) { return size_t((b * T + k) * C + c); };
                double top = -std::numeric_limits<double>::infinity(), den = 0, num = 0, size = 0;
                for (int64_t k = 0; k < keys; k++) top = std::max(top, K[key_at(k)] + w[base + size_t(k)]);
                for (int64_t k = 0; k < keys; k++) den += p[size_t(k)] = std::exp(K[key_at(k)] + w[base + size_t(k)] - top);
                for (int64_t k = 0; k < keys; k++) {
                    p[size_t(k)] /= den;
                    num += p[size_t(k)] * V[at(k)], size += p[size_t(k)] * std::abs(V[at(k)]);
                }
                const double g = sigmoid(Q[at(t)]), closed = sigmoid(-Q[at(t)]);
                add(out["output"], at(t), g * num, g * size);
                if (!backward) continue;
                const double dy = in.at("output_gradient")[at(t)], dr = dy * g;
                add(out["query_gradient"], at(t), dy * num * g * closed, std::abs(dy) * size * g * closed);
                for (int64_t k = 0; k < keys; k++) {
                    const double share = p[size_t(k)] * dr, value = V[at(k)];
                    const double dk = share * (value - num), magnitude = std::abs(share) * (std::abs(value) + std::abs(num));
                    add(out["value_gradient"], at(k), share, std::abs(share));
                    add(out["key_gradient"], key_at(k), dk, magnitude);
                    dw[base + size_t(k)] += dk, dw_magnitude[base + size_t(k)] += magnitude;
                }
            }
        if (backward && form.bias_gradient)
            for (int64_t h = 0; h < heads; h++)
                for (int64_t k = 0; k < keys; k++) form.bias_gradient(t, k, h, dw[size_t(h * T + k)], dw_magnitude[size_t(h * T + k)]);
    }
    return out;
}

Results aft_bias_oracle(const Arrays &in, bool causal, int64_t window) {
    AftForm form;
    form.causal = causal;
    const auto inside = [window](int64_t t, int64_t k) { return std::abs(t - k) < window; };
    if (in.contains("position_bias")) {
        const Array &bias = in.at("position_bias");
        const size_t longest = size_t(bias.extent(1));
        Result gradient(bias.shape);
        form.w = [&](int64_t t, int64_t k, int64_t) { return inside(t, k) ? bias[size_t(t) * longest + size_t(k)] : 0.0; };
        form.bias_gradient = [&](int64_t t, int64_t k, int64_t, double dw, double magnitude) {
            if (inside(t, k)) add(gradient, size_t(t) * longest + size_t(k), dw, magnitude);
        };
        Results out = aft_oracle(in, form);
        if (in.contains("output_gradient")) out["position_bias_gradient"] = gradient;
        return out;
    }
    const Array &u = in.at("bias_u"), &v = in.at("bias_v");
    const size_t D = size_t(u.extent(1));
    Result du(u.shape), dv(v.shape);
    form.w = [&](int64_t t, int64_t k, int64_t) {
        double sum = 0;
        for (size_t d = 0; d < D && inside(t, k); d++) sum += u[size_t(t) * D + d] * v[size_t(k) * D + d];
        return sum;
    };
    form.bias_gradient = [&](int64_t t, int64_t k, int64_t, double dw, double magnitude) {
        for (size_t d = 0; d < D && inside(t, k); d++) {
            const size_t at_u = size_t(t) * D + d, at_v = size_t(k) * D + d;
            add(du, at_u, dw * v[at_v], magnitude * std::abs(v[at_v]));
            add(dv, at_v, dw * u[at_u], magnitude * std::abs(u[at_u]));
        }
    };
    Results out = aft_oracle(in, form);
    if (in.contains("output_gradient")) out["bias_u_gradient"] = du, out["bias_v_gradient"] = dv;
    return out;
}

Tensors run_mixer(const MixerOptions &options, const Tensors &in, bool fused) {
    const auto given = [&](const char *name) { return in.contains(name) ? in.at(name) : Tensor(); };
    MixerTensors x, dx;
    x.query = given("query"), x.key = given("key"), x.value = given("value");
    const int64_t B = x.value.size(0), T = x.value.size(1), C = x.value.size(2);
    const auto views = [&](MixerTensors &to) {
        const Tensor all({B, T, 3 * C});
        to.query = all.slice(2, 0, C), to.key = all.slice(2, C, 2 * C), to.value = all.slice(2, 2 * C, 3 * C);
    };
    if (fused) {
        views(x), views(dx);
        x.query.copy_from(in.at("query")), x.key.copy_from(in.at("key")), x.value.copy_from(in.at("value"));
    } else {
        dx.query = Tensor(x.query.shape()), dx.key = Tensor(x.key.shape()), dx.value = Tensor(x.value.shape());
    }
    Tensors out;
    const std::pair<const char *, Tensor MixerTensors::*> parameters[] = {
        {"position_bias", &MixerTensors::position_bias}, {"bias_u", &MixerTensors::bias_u}, {"bias_v", &MixerTensors::bias_v},
        {"filter", &MixerTensors::filter}, {"gamma", &MixerTensors::gamma}, {"beta", &MixerTensors::beta}};
    const bool backward = in.contains("output_gradient");
    for (const auto &[name, member] : parameters) {
        if (!in.contains(name)) continue;
        x.*member = in.at(name);
        if (!backward) continue;
        dx.*member = Tensor(in.at(name).shape());
        (dx.*member).fill(0);
        out[std::string(name) + "_gradient"] = dx.*member;
    }
    const auto mixer = make_mixer(options);
    Arena arena;
    MixerSaved saved;
    Tensor output({B, T, C});
    mixer->forward(x, output, saved, arena);
    out["output"] = output;
    if (backward) {
        mixer->backward(x, output, saved, in.at("output_gradient"), dx, arena);
        out["query_gradient"] = dx.query, out["key_gradient"] = dx.key, out["value_gradient"] = dx.value;
    }
    return out;
}

OperatorCase last_step(const OperatorCase &parallel, const MixerOptions &options) {
    OperatorCase c = parallel;
    c.differentiable.clear();
    c.inputs = [inputs = parallel.inputs] {
        Tensors in = inputs();
        in.erase("output_gradient");
        return in;
    };
    c.run = [options](const Tensors &in) {
        const int64_t B = in.at("value").size(0), T = in.at("value").size(1), C = in.at("value").size(2);
        const auto given = [&](const char *name) { return in.contains(name) ? in.at(name) : Tensor(); };
        MixerTensors before, last;
        before.query = in.at("query").slice(1, 0, T - 1), last.query = in.at("query").slice(1, T - 1, T);
        before.key = in.at("key").slice(1, 0, T - 1), last.key = in.at("key").slice(1, T - 1, T);
        before.value = in.at("value").slice(1, 0, T - 1), last.value = in.at("value").slice(1, T - 1, T);
        for (MixerTensors *x : {&before, &last}) {
            x->position_bias = given("position_bias"), x->bias_u = given("bias_u"), x->bias_v = given("bias_v");
            x->filter = given("filter"), x->gamma = given("gamma"), x->beta = given("beta");
        }
        const auto mixer = make_mixer(options);
        Arena arena;
        MixerState state = mixer->start(last, B, C, T);
        mixer->prefill(before, state, arena);
        Tensor output({B, 1, C});
        mixer->step(last, state, output, arena);
        return Tensors{{"output", output}};
    };
    c.oracle = [oracle = parallel.oracle](const Arrays &in) {
        const Result all = oracle(in).at("output");
        const int64_t B = all.value.extent(0), T = all.value.extent(1), C = all.value.extent(2);
        Result last({B, 1, C});
        for (int64_t b = 0; b < B; b++)
            for (int64_t n = 0; n < C; n++) {
                const size_t from = size_t((b * T + T - 1) * C + n), to = size_t(b * C + n);
                last.value[to] = all.value[from], last.magnitude[to] = all.magnitude[from];
            }
        return Results{{"output", last}};
    };
    return c;
}

}  // namespace aft::reference
