// AFT-simple against O(T) scans in double. The oracle keeps its sums relative to the running maximum of the keys; in double
// its own error is far below the bound even at T = 65,536.
#include <algorithm>
#include <cmath>
#include <limits>

#include "aft/mixer.h"
#include "tests/reference/operator_case.h"

namespace aft::reference {
namespace {

// Sums of exp(K) x over a growing set of keys, with their magnitudes.
struct Sums {
    double reference = -std::numeric_limits<double>::infinity();
    double num = 0, magnitude = 0, den = 0;

    void add(double K, double V) {
        if (K > reference) {
            const double factor = std::exp(reference - K);
            num *= factor, magnitude *= factor, den *= factor, reference = K;
        }
        const double weight = std::exp(K - reference);
        num += weight * V, magnitude += weight * std::abs(V), den += weight;
    }
};

// What a key collects from the queries that see it, relative to a reference that falls while time runs backward.
struct Collected {
    double S = 0, P = 0, S_magnitude = 0, P_magnitude = 0;
    void rescale(double factor) { S *= factor, P *= factor, S_magnitude *= factor, P_magnitude *= factor; }
    void add(double G, double R) { S += G, P += G * R, S_magnitude += std::abs(G), P_magnitude += std::abs(G * R); }
};

Results aft_simple(const Arrays &in, bool causal) {
    const Array &Q = in.at("query"), &K = in.at("key"), &V = in.at("value"), &dY = in.at("output_gradient");
    const int64_t B = Q.extent(0), T = Q.extent(1), C = Q.extent(2);
    Results out;
    for (const char *name : {"output", "query_gradient", "key_gradient", "value_gradient"}) out[name] = Result(Q.shape);
    Result &y = out["output"], &dq = out["query_gradient"], &dk = out["key_gradient"], &dv = out["value_gradient"];
    std::vector<Sums> sums(static_cast<size_t>(T));
    for (int64_t b = 0; b < B; b++)
        for (int64_t c = 0; c < C; c++) {
            const auto at = [&](int64_t t) { return size_t((b * T + t) * C + c); };
            Sums running;
            for (int64_t t = 0; t < T; t++) running.add(K[at(t)], V[at(t)]), sums[size_t(t)] = running;
            if (!causal) std::ranges::fill(sums, running);
            Collected collected;
            const auto query = [&](int64_t t) {
                const Sums &s = sums[size_t(t)];
                const double sigma = 1 / (1 + std::exp(-Q[at(t)])), slope = sigma / (1 + std::exp(Q[at(t)])), R = s.num / s.den;
                y.value[at(t)] = sigma * R, y.magnitude[at(t)] = sigma * s.magnitude / s.den;
                dq.value[at(t)] = dY[at(t)] * R * slope, dq.magnitude[at(t)] = std::abs(dY[at(t)]) * slope * s.magnitude / s.den;
                collected.add(dY[at(t)] * sigma / s.den, R);
            };
            const auto key = [&](int64_t t) {
                const double e = std::exp(K[at(t)] - sums[size_t(t)].reference), v = V[at(t)];
                dv.value[at(t)] = e * collected.S, dv.magnitude[at(t)] = e * collected.S_magnitude;
                dk.value[at(t)] = e * (v * collected.S - collected.P);
                dk.magnitude[at(t)] = e * (std::abs(v) * collected.S_magnitude + collected.P_magnitude);
            };
            if (!causal)
                for (int64_t t = 0; t < T; t++) query(t);
            for (int64_t t = T; t-- > 0;) {
                if (causal && t + 1 < T) collected.rescale(std::exp(sums[size_t(t)].reference - sums[size_t(t + 1)].reference));
                if (causal) query(t);
                key(t);
            }
        }
    return out;
}

// How the inputs of a case differ from normal values.
struct Inputs {
    const char *name;
    double keys = 1, values = 1, gradients = 1, queries = 2;
    enum Shape { random, equal, huge_last, rising, jumps, at_limit, far } shape = random;
    double last = 0;   // huge_last: added to the last key
    double below = 0;  // far: how far all keys lie below the first
    bool views = false;  // inputs are views of one fused projection [B, T, 3 C]
};

constexpr int64_t linked_elements = 1 << 19;  // of models/mixers/simple_scan.h

// One rise a chunk, in its middle, to just below or just above the limit that the bounded form sets (generators/aft_simple.h): in the
// first slice of 64 channels now and then in a single one above, in the second never, in the third always. The reference is followed here as the
// bounded form raises it, or the exact one; a linked chunk's own is its first key.
void rise_to_limit(Tensor &key) {
    const int64_t B = key.size(0), T = key.size(1), C = key.size(2);
    const int64_t length = std::clamp<int64_t>(32768 / ((C + 63) / 64 * 64), 64, 128), steps = std::min(length, T);
    const bool linked = B == 1 && T * C >= linked_elements;
    const double limit = 14.5 * std::log(2);
    for (int64_t c = 0; c < C; c++) {
        double level = 0, reference = 0, den = 0;
        for (int64_t begin = 0, chunk = 0; begin < T; begin += steps, chunk++) {
            const bool above = c / 64 == 2 || (c == 5 && chunk % 2 == 1);
            const int64_t middle = std::min(begin + steps / 2, T), end = std::min(begin + steps, T);
            const double risen = (linked ? level : reference) + limit + (above ? 0.02 : -0.02);
            for (int64_t b = 0; b < B; b++)
                for (int64_t t = begin; t < end; t++) {
                    float &k = key.data()[(b * T + t) * C + c];
                    k = float((t < middle ? level : risen) + 0.001 * k);
                }
            den += double(middle - begin) * std::exp(level - reference) + double(end - middle) * std::exp(risen - reference);
            const double to = above ? risen : reference + (den < 128 ? 0 : std::floor(std::log2(den)) * std::log(2));
            den *= std::exp(reference - to), reference = to, level = risen;
        }
    }
}

Tensor keys_of(const Inputs &i, const Shape &shape) {
    Tensor key = random_tensor(shape, i.keys, 2);
    if (i.shape == Inputs::at_limit) rise_to_limit(key);
    const int64_t T = shape[1], C = shape[2];
    for (int64_t n = 0; n < key.elements(); n++) {
        const int64_t t = n / C % T, c = n % C;
        float &k = key.data()[n];
        if (i.shape == Inputs::equal) k = 0.7f;
        if (i.shape == Inputs::huge_last && t == T - 1) k += float(i.last);
        if (i.shape == Inputs::rising) k = 1e-3f * float(t + 1) * float(c % 7 - 2);  // many references, each a little higher
        if (i.shape == Inputs::far) k -= t ? float(i.below + double(c % 9)) : 0;  // all that counts has a weight for which float has few digits
        if (i.shape == Inputs::jumps) k += float(40 * (t / 16 % 5));
    }
    return key;
}

OperatorCase simple(bool causal, int64_t B, int64_t T, int64_t C, const Inputs &i, bool large = false) {
    const std::string form = causal ? "causal" : "bidirectional";
    OperatorCase c;
    c.name = "aft_simple " + form + " B=" + std::to_string(B) + " T=" + std::to_string(T) + " C=" + std::to_string(C) + " " + i.name;
    if (causal)
        c.kernels = {"aft_simple_causal_forward_bounded_f32", "aft_simple_causal_forward_f32", "aft_simple_causal_queries_f32",
                     "aft_simple_causal_keys_f32", "aft_simple_causal_replay_f32", "aft_simple_causal_backward_f32"};
    else
        c.kernels = {"aft_simple_statistics_bounded_f32", "aft_simple_statistics_f32", "aft_simple_gate_bounded_f32", "aft_simple_gate_f32", "aft_simple_gate_backward_f32", "aft_simple_key_backward_f32"};
    if (causal && T * C >= B * linked_elements) {
        c.kernels.push_back("aft_simple_causal_link_back_f32");
        if (B == 1) c.kernels.insert(c.kernels.end(), {"aft_simple_causal_prefixes_f32", "aft_simple_causal_link_f32", "aft_simple_causal_gate_f32"});
    }
    c.bound = 128 + 4 * std::sqrt(double(T));
    c.large = large;
    if (T <= 33 && std::string(i.name) == "normal") c.differentiable = {"query", "key", "value"};
    const Shape shape = {B, T, C};
    c.inputs = [=] {
        Tensors in = {{"query", random_tensor(shape, i.queries, 1)}, {"key", keys_of(i, shape)}, {"value", random_tensor(shape, i.values, 3)},
                      {"output_gradient", random_tensor(shape, i.gradients, 4)}};
        if (i.shape == Inputs::equal) in["value"].fill(float(0.1 * i.values));
        if (i.shape == Inputs::far)
            for (int64_t b = 0; b < B; b++) in["value"].slice(0, b, b + 1).slice(1, 0, 1).fill(0);
        return in;
    };
    c.run = [=](const Tensors &given) {
        MixerTensors in, gradient;
        in.query = given.at("query"), in.key = given.at("key"), in.value = given.at("value");
        gradient.query = Tensor(shape), gradient.key = Tensor(shape), gradient.value = Tensor(shape);
        if (i.views) {
            const Tensor fused({B, T, 3 * C}), fused_gradient({B, T, 3 * C});
            int64_t at = 0;
            for (Tensor MixerTensors::*member : {&MixerTensors::query, &MixerTensors::key, &MixerTensors::value}) {
                Tensor view = fused.slice(2, at, at + C);
                view.copy_from(in.*member);
                in.*member = view;
                gradient.*member = fused_gradient.slice(2, at, at + C);
                at += C;
            }
        }
        const auto mixer = make_mixer({.kind = MixerKind::simple, .causal = causal});
        Arena arena;
        MixerSaved saved;
        Tensor output(shape);
        mixer->forward(in, output, saved, arena);
        mixer->backward(in, output, saved, given.at("output_gradient"), gradient, arena);
        return Tensors{{"output", output}, {"query_gradient", gradient.query}, {"key_gradient", gradient.key}, {"value_gradient", gradient.value}};
    };
    c.oracle = [=](const Arrays &in) { return aft_simple(in, causal); };
    return c;
}

const RegisterCases registered([] {
    const Inputs normal{"normal"}, views{.name = "views", .views = true};
    const Inputs hard[] = {{"keys=80", 80},
                           {"keys=1e4", 3000},
                           {.name = "equal", .shape = Inputs::equal},
                           {.name = "last=+90", .shape = Inputs::huge_last, .last = 90},
                           {.name = "last=+1e4", .shape = Inputs::huge_last, .last = 9990},
                           {.name = "rising", .shape = Inputs::rising},
                           {.name = "jumps", .shape = Inputs::jumps},
                           {.name = "at_limit", .shape = Inputs::at_limit},
                           {.name = "deep", .values = 2e29, .shape = Inputs::far, .below = 60},  // just within the bounded form
                           {.name = "far", .values = 2e29, .shape = Inputs::far, .below = 90},   // beyond it
                           {.name = "queries=10", .values = 2e29, .queries = 10},
                           {.name = "queries=20", .values = 2e29, .queries = 20},
                           {.name = "values=1e30", .keys = 30, .values = 2e29},
                           {.name = "gradients=1e30", .keys = 30, .gradients = 2e29}};
    std::vector<OperatorCase> cases;
    for (bool causal : {true, false}) {
        for (int64_t T : {1, 33, 257, 600})
            for (int64_t C : {1, 65, 130}) cases.push_back(simple(causal, C == 1 ? 3 : C == 65 ? 2 : 1, T, C, normal));
        cases.push_back(simple(causal, 2, 257, 300, views));
        for (int64_t C : {515, 1100}) cases.push_back(simple(causal, 1, 130, C, normal));
        cases.push_back(simple(causal, 1, 600, 520, {.name = "at_limit", .shape = Inputs::at_limit}));
        for (const Inputs &inputs : hard)
            for (int64_t T : {33, 600}) cases.push_back(simple(causal, 2, T, inputs.shape == Inputs::at_limit ? 200 : 37, inputs));
        // Few long sequences: their chunks are linked (runtime/look_back.h).
        cases.push_back(simple(causal, 1, 2100, 260, views));
        cases.push_back(simple(causal, 2, 8200, 130, normal));
        for (const Inputs &inputs : hard) cases.push_back(simple(causal, 1, 2717, 200, inputs));
        for (const Inputs &inputs : {normal, hard[2], hard[5]}) cases.push_back(simple(causal, 1, 65536, 64, inputs, true));
    }
    return cases;
});

}  // namespace
}  // namespace aft::reference
