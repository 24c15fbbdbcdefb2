// AFT-full (F1, F5, F6): both directions and biases, every gradient, keys and biases up to 1e4, values and gradients up to 1e30.
#include <cmath>

#include "models/mixers/full.h"
#include "tests/reference/aft_oracle.h"

namespace aft::reference {
namespace {

enum class Keys { normal, equal, huge_last };

struct Full {
    int64_t B = 1, T = 1, C = 1, D = 0, longest = 0;  // D = 0: dense; longest = 0: T
    bool causal = true;
    double keys = 1, bias = 1, value = 1, gradient = 1, query = 2;
    Keys pattern = Keys::normal;
    int64_t block = 0;   // 0: the default
    bool rebuild = false, fused = false, differentiable = false;
};

std::string number(double x) {
    char text[32];
    std::snprintf(text, sizeof text, "%g", x);
    return text;
}

std::string name_of(const Full &f) {
    std::string name = std::string("aft_full ") + (f.causal ? "causal" : "bidirectional") + (f.D ? " factors=" + std::to_string(f.D) : " dense");
    name += " B=" + std::to_string(f.B) + " T=" + std::to_string(f.T) + " C=" + std::to_string(f.C);
    name += (f.pattern == Keys::equal ? " keys=all " : f.pattern == Keys::huge_last ? " keys=last+" : " keys=") + number(f.keys);
    name += " bias=" + number(f.bias);
    if (f.value != 1) name += " value=" + number(f.value);
    if (f.gradient != 1) name += " gradient=" + number(f.gradient);
    if (f.query != 2) name += " query=" + number(f.query);
    if (f.longest) name += " longest=" + std::to_string(f.longest);
    if (f.block) name += " block=" + std::to_string(f.block);
    return name + (f.rebuild ? " rebuild" : "") + (f.fused ? " fused" : "");
}

// Restores the settings.
struct Settings {
    FullSettings before = full_settings();
    ~Settings() { full_settings() = before; }
};

Tensor keys_of(const Full &f) {
    Tensor key = random_tensor({f.B, f.T, f.C}, f.pattern == Keys::normal ? f.keys : 1, 2);
    for (int64_t n = 0; n < key.elements(); n++) {
        float &k = key.data()[n];
        if (f.pattern == Keys::equal) k = float(f.keys);
        if (f.pattern == Keys::huge_last && n / f.C % f.T == f.T - 1) k += float(f.keys);
        k = std::min(1e4f, std::max(-1e4f, k));
    }
    return key;
}

OperatorCase full(const Full &f) {
    OperatorCase c;
    c.name = name_of(f);
    c.kernels = {"aft_full_range_f32",   "aft_full_reference_f32", "aft_full_weights_f32",      "aft_full_tiles_f32", "aft_full_forward_f32",
                 "aft_full_queries_f32", "aft_full_backward_f32",  "aft_full_column_tiles_f32", "aft_full_pairs_f32", "aft_full_bias_f32"};
    if (f.D && f.bias > 8) c.kernels.insert(c.kernels.end(), {"aft_full_reference_f64", "aft_full_weights_f64", "aft_full_products_f64"});
    c.bound = aft_bound(f.T);
    c.inputs = [=] {
        const int64_t longest = std::max(f.longest, f.T);
        Tensors in = {{"query", random_tensor({f.B, f.T, f.C}, f.query, 1)}, {"key", keys_of(f)}, {"value", random_tensor({f.B, f.T, f.C}, f.value, 3)}};
        in["output_gradient"] = random_tensor({f.B, f.T, f.C}, f.gradient, 4);
        if (f.D == 0) {
            in["position_bias"] = random_tensor({longest, longest}, f.bias, 5);
            for (int64_t n = 0; n < longest * longest; n++) {
                float &w = in["position_bias"].data()[n];
                w = std::min(1e4f, std::max(-1e4f, w));
            }
        } else {  // w = u v has a standard deviation of `bias`; far below its maximum of 1e4
            const double scale = std::sqrt(f.bias) / std::pow(double(f.D), 0.25);
            in["bias_u"] = random_tensor({longest, f.D}, scale, 5), in["bias_v"] = random_tensor({longest, f.D}, scale, 6);
        }
        return in;
    };
    c.run = [=](const Tensors &in) {
        const Settings settings;
        if (f.block) full_settings().block = f.block;
        if (f.rebuild) full_settings().workspace_bytes = 0;
        if (f.B > 2) full_settings().columns = 4 * f.C;  // groups of two sequences
        return run_mixer({MixerKind::full, f.causal, 0}, in, f.fused);
    };
    c.oracle = [=](const Arrays &in) { return aft_bias_oracle(in, f.causal, int64_t(1) << 40); };
    if (f.differentiable) {
        c.differentiable = {"query", "key", "value"};
        if (f.D)
            c.differentiable.insert(c.differentiable.end(), {"bias_u", "bias_v"});
        else
            c.differentiable.push_back("position_bias");
    }
    return c;
}

OperatorCase decoding(const Full &f) {
    OperatorCase c = last_step(full(f), {MixerKind::full, true, 0});
    c.name = "aft_full_step" + c.name.substr(8);
    c.kernels = {"aft_full_step_f32", "aft_full_products_f64"};
    return c;
}

const RegisterCases registered([] {
    std::vector<OperatorCase> cases;
    for (bool causal : {true, false})
        for (int64_t D : {0, 5}) {
            const auto add = [&](Full f) { f.causal = causal, f.D = D, cases.push_back(full(f)); };
            add({.B = 1, .T = 1, .C = 1});
            add({.B = 2, .T = 7, .C = 3, .block = 4, .differentiable = true});
            add({.B = 2, .T = 33, .C = 17, .block = 8});
            add({.B = 3, .T = 33, .C = 5, .longest = 40, .block = 16, .rebuild = true, .fused = true});
            add({.B = 1, .T = 130, .C = 9});
            add({.B = 1, .T = 300, .C = 7});
            add({.B = 2, .T = 130, .C = 16, .block = 32, .rebuild = true});
            for (double keys : {80.0, 1e4}) add({.B = 2, .T = 130, .C = 9, .keys = keys, .block = 32});
            for (double keys : {90.0, 1e4}) add({.B = 1, .T = 65, .C = 9, .keys = keys, .pattern = Keys::huge_last, .block = 32});
            for (double keys : {0.0, -1e4}) add({.B = 1, .T = 65, .C = 9, .keys = keys, .pattern = Keys::equal, .block = 32});
            for (double bias : {80.0, 1e3}) add({.B = 1, .T = 65, .C = 9, .bias = bias, .block = 32});
            add({.B = 1, .T = 65, .C = 9, .keys = 80, .bias = 80, .block = 32, .rebuild = true});
            add({.B = 1, .T = 33, .C = 5, .keys = 1e4, .bias = 2e3, .block = 8});
            for (double keys : {1.0, 80.0}) {
                add({.B = 1, .T = 65, .C = 5, .keys = keys, .value = 1e29, .block = 32});
                add({.B = 1, .T = 65, .C = 5, .keys = keys, .gradient = 1e29, .block = 32});
                add({.B = 1, .T = 65, .C = 5, .keys = keys, .value = 1e-20, .gradient = 1e-6, .block = 32});
            }
            add({.B = 2, .T = 40, .C = 16, .value = 1e29, .query = 30, .block = 32});  // far gates: sigma' alone underflows
            // Backward finds R in y, which shut gates bring near the smallest float.
            for (double keys : {1.0, 1e4}) add({.B = 1, .T = 33, .C = 5, .keys = keys, .gradient = 1e29, .query = 100, .block = 8});
            if (D == 0) add({.B = 1, .T = 65, .C = 9, .bias = 1e4, .block = 32});
        }
    for (int64_t D : {0, 5})
        for (double keys : {1.0, 80.0, 1e4}) cases.push_back(decoding({.B = 2, .T = 33, .C = 19, .D = D, .keys = keys}));
    cases.push_back(full({.B = 1, .T = 600, .C = 24, .D = 64}));
    return cases;
});

}  // namespace
}  // namespace aft::reference
