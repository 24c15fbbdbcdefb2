// AFT-conv in one dimension (F4, F5, F7): both directions, any number of heads, every gradient, raw and re-parameterised filters.
#include <algorithm>
#include <cmath>

#include "tests/reference/aft_oracle.h"

namespace aft::reference {
namespace {

enum class Keys { normal, equal, huge_last };

struct Conv {
    int64_t B = 1, T = 1, C = 1, H = 1, taps = 1;
    bool causal = true, gated = false;  // gated: with gamma and beta
    double keys = 1, filter = 1, value = 1, gradient = 1, query = 1;
    Keys pattern = Keys::normal;
    bool differentiable = false;
};

std::string number(double x) {
    char text[32];
    std::snprintf(text, sizeof text, "%g", x);
    return text;
}

std::string name_of(const Conv &f) {
    std::string name = std::string("aft_conv ") + (f.causal ? "causal" : "bidirectional") + (f.gated ? " gated" : "") + " taps=" + std::to_string(f.taps) + " B=" + std::to_string(f.B) +
                       " T=" + std::to_string(f.T) + " C=" + std::to_string(f.C) + " H=" + std::to_string(f.H);
    name += (f.pattern == Keys::equal ? " keys=all " : f.pattern == Keys::huge_last ? " keys=last+" : " keys=") + number(f.keys) + " filter=" + number(f.filter);
    if (f.value != 1) name += " value=" + number(f.value);
    if (f.gradient != 1) name += " gradient=" + number(f.gradient);
    if (f.query != 1) name += " query=" + number(f.query);
    return name;
}

float clipped(double x) { return float(std::clamp(x, -1e4, 1e4)); }

Tensors inputs(const Conv &f) {
    Tensors in = {{"query", random_tensor({f.B, f.T, f.C}, f.query, 1)}, {"key", random_tensor({f.B, f.T, f.H}, f.pattern == Keys::normal ? f.keys : 1, 2)},
                  {"value", random_tensor({f.B, f.T, f.C}, f.value, 3)}, {"output_gradient", random_tensor({f.B, f.T, f.C}, f.gradient, 4)},
                  {"filter", random_tensor({f.H, f.taps}, f.gated ? 1 : f.filter, 5)}};
    float *key = in["key"].data();
    for (int64_t n = 0; n < in["key"].elements(); n++) {
        if (f.pattern == Keys::equal) key[n] = float(f.keys);
        if (f.pattern == Keys::huge_last && n / f.H % f.T == f.T - 1) key[n] += float(f.keys);
        key[n] = clipped(key[n]);
    }
    for (int64_t n = 0; n < in["filter"].elements(); n++) in["filter"].data()[n] = clipped(in["filter"].data()[n]);
    if (f.gated) in["gamma"] = random_tensor({f.H}, f.filter, 6), in["beta"] = random_tensor({f.H}, 1, 7);
    return in;
}

// F7 and its way back for one head, in double.
struct Gated {
    std::vector<double> x;
    double deviation;
    Gated(const Array &filter, int64_t head, int64_t taps) {
        double mean = 0, variance = 0;
        for (int64_t j = 0; j < taps; j++) x.push_back(filter[size_t(head * taps + j)]), mean += x.back() / double(taps);
        for (double f : x) variance += (f - mean) * (f - mean) / double(taps);
        deviation = std::sqrt(variance + 1e-5);
        for (double &f : x) f = (f - mean) / deviation;
    }
};

}  // namespace

Results aft_conv_oracle(const Arrays &in, bool causal) {
    const Array &filter = in.at("filter");
    const int64_t H = filter.extent(0), taps = filter.extent(1), before = causal ? taps - 1 : taps / 2;
    const bool gated = in.contains("gamma");
    std::vector<double> w = filter.values;
    if (gated)
        for (int64_t h = 0; h < H; h++) {
            const Gated g(filter, h, taps);
            for (int64_t j = 0; j < taps; j++) w[size_t(h * taps + j)] = in.at("gamma")[size_t(h)] * g.x[size_t(j)] + in.at("beta")[size_t(h)];
        }
    Result dw({H, taps});
    AftForm form;
    form.causal = causal, form.heads = H;
    const auto tap = [&](int64_t t, int64_t key) { return key - t + before; };
    form.w = [&](int64_t t, int64_t key, int64_t h) { return tap(t, key) >= 0 && tap(t, key) < taps ? w[size_t(h * taps + tap(t, key))] : 0.0; };
    form.bias_gradient = [&](int64_t t, int64_t key, int64_t h, double d, double magnitude) {
        if (tap(t, key) < 0 || tap(t, key) >= taps) return;
        const size_t at = size_t(h * taps + tap(t, key));
        dw.value[at] += d, dw.magnitude[at] += magnitude;
    };
    Results out = aft_oracle(in, form);
    if (!in.contains("output_gradient")) return out;
    if (!gated) {
        out["filter_gradient"] = dw;
        return out;
    }
    Result df({H, taps}), dgamma({H}), dbeta({H});
    for (int64_t h = 0; h < H; h++) {
        const Gated g(filter, h, taps);
        const size_t first = size_t(h * taps);
        double sum = 0, along = 0, sum_magnitude = 0, along_magnitude = 0;
        for (size_t j = 0; j < size_t(taps); j++) {
            sum += dw.value[first + j], sum_magnitude += dw.magnitude[first + j];
            along += dw.value[first + j] * g.x[j], along_magnitude += dw.magnitude[first + j] * std::abs(g.x[j]);
        }
        dbeta.value[size_t(h)] = sum, dbeta.magnitude[size_t(h)] = sum_magnitude;
        dgamma.value[size_t(h)] = along, dgamma.magnitude[size_t(h)] = along_magnitude;
        const double scale = in.at("gamma")[size_t(h)] / g.deviation;
        for (size_t j = 0; j < size_t(taps); j++) {
            df.value[first + j] = scale * (dw.value[first + j] - sum / double(taps) - g.x[j] * along / double(taps));
            df.magnitude[first + j] = std::abs(scale) * (dw.magnitude[first + j] + sum_magnitude / double(taps) + std::abs(g.x[j]) * along_magnitude / double(taps));
        }
    }
    out["filter_gradient"] = df, out["gamma_gradient"] = dgamma, out["beta_gradient"] = dbeta;
    return out;
}

namespace {

OperatorCase conv(const Conv &f) {
    OperatorCase c;
    c.name = name_of(f);
    c.kernels = {"aft_conv_values_f32", "aft_conv_carry_f32", "aft_conv_queries_f32", "aft_conv_heads_f32", "aft_conv_key_gradient_f32", "aft_conv_filter_f32"};
    const auto also = [&](std::initializer_list<const char *> names) { c.kernels.insert(c.kernels.end(), names.begin(), names.end()); };
    if (f.causal)
        also({"aft_conv_causal_sums_f32", "aft_conv_causal_forward_f32", "aft_conv_reversed_sums_f32", "aft_conv_reversed_backward_f32"});
    else
        also({"aft_conv_total_f32", "aft_conv_both_sums_f32", "aft_conv_both_forward_f32", "aft_conv_both_backward_f32"});
    c.bound = aft_bound(f.T);
    c.inputs = [=] { return inputs(f); };
    c.run = [=](const Tensors &in) { return run_mixer({MixerKind::conv, f.causal, 0}, in); };
    c.oracle = [=](const Arrays &in) { return aft_conv_oracle(in, f.causal); };
    if (f.differentiable) {
        c.differentiable = {"query", "key", "value", "filter"};
        if (f.gated) c.differentiable.insert(c.differentiable.end(), {"gamma", "beta"});
    }
    return c;
}

OperatorCase decoding(Conv f) {
    OperatorCase c = last_step(conv(f), {MixerKind::conv, true, 0});
    c.name = "aft_conv_step" + c.name.substr(8);
    c.kernels = {"aft_conv_step_f32"};
    return c;
}

const RegisterCases registered([] {
    std::vector<OperatorCase> cases;
    for (bool causal : {true, false})
        for (bool gated : {false, true}) {
            const auto add = [&](Conv f) { f.causal = causal, f.gated = gated, cases.push_back(conv(f)); };
            for (int64_t s : {1, 2, 5, 8}) {
                add({.B = 1, .T = 1, .C = 1, .H = 1, .taps = s});
                add({.B = 2, .T = 7, .C = 6, .H = 3, .taps = s, .differentiable = true});
                add({.B = 2, .T = 33, .C = 17, .H = 1, .taps = s});
                add({.B = 2, .T = 33, .C = 17, .H = 17, .taps = s});
            }
            add({.B = 3, .T = 66, .C = 150, .H = 50, .taps = 32});
            add({.B = 1, .T = 300, .C = 300, .H = 2, .taps = 11});
            // Whole panels of 16 channels a head; heads of 48 channels lie across two units of 256, those of 550 across units of 512.
            add({.B = 2, .T = 130, .C = 64, .H = 2, .taps = 32});
            add({.B = 1, .T = 300, .C = 288, .H = 6, .taps = 11});
            add({.B = 1, .T = 20, .C = 1100, .H = 2, .taps = 5});
            for (double keys : {80.0, 1e4}) add({.B = 1, .T = 65, .C = 64, .H = 4, .taps = 9, .keys = keys, .filter = 80});
            add({.B = 1, .T = 600, .C = 36, .H = 36, .taps = 32});
            add({.B = 1, .T = 530, .C = 8, .H = 4, .taps = 300});
            add({.B = 1, .T = 33, .C = 6, .H = 3, .taps = 100});
            for (double keys : {80.0, 1e4}) add({.B = 2, .T = 66, .C = 10, .H = 5, .taps = 9, .keys = keys});
            for (double keys : {90.0, 1e4}) add({.B = 1, .T = 65, .C = 10, .H = 5, .taps = 9, .keys = keys, .pattern = Keys::huge_last});
            for (double keys : {0.0, -1e4}) add({.B = 1, .T = 65, .C = 10, .H = 5, .taps = 9, .keys = keys, .pattern = Keys::equal});
            for (double filter : {80.0, 1e3}) add({.B = 1, .T = 65, .C = 10, .H = 5, .taps = 9, .filter = filter});
            add({.B = 1, .T = 65, .C = 10, .H = 5, .taps = 9, .keys = 80, .filter = 80});
            for (double keys : {1.0, 80.0}) {
                add({.B = 1, .T = 65, .C = 6, .H = 3, .taps = 9, .keys = keys, .value = 1e29});
                add({.B = 1, .T = 65, .C = 6, .H = 3, .taps = 9, .keys = keys, .gradient = 1e29});
                add({.B = 1, .T = 65, .C = 6, .H = 3, .taps = 9, .keys = keys, .value = 1e-20, .gradient = 1e-6});
            }
            add({.B = 1, .T = 33, .C = 6, .H = 3, .taps = 9, .value = 1e29, .query = 100});
            // Backward finds R in y, which shut gates bring near the smallest float.
            for (double keys : {1.0, 1e4}) add({.B = 1, .T = 33, .C = 6, .H = 3, .taps = 9, .keys = keys, .gradient = 1e29, .query = 100});
            if (!gated) add({.B = 1, .T = 65, .C = 10, .H = 5, .taps = 9, .filter = 1e4});
            if (causal) {
                for (double keys : {1.0, 80.0, 1e4})
                    for (int64_t s : {1, 9, 100}) cases.push_back(decoding({.B = 2, .T = 66, .C = 20, .H = 5, .taps = s, .gated = gated, .keys = keys, .filter = keys > 1 ? 80.0 : 1.0}));
                cases.push_back(decoding({.B = 1, .T = 40, .C = 300, .H = 300, .taps = 9, .gated = gated}));
            }
        }
    return cases;
});

}  // namespace
}  // namespace aft::reference
