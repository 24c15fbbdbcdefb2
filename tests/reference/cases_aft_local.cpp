// AFT-local (F2, F5, F6): windows from none to more than the sequence, both directions and biases, every gradient, keys and
// biases up to 1e4, values and gradients up to 1e30.
#include <cmath>

#include "tests/reference/aft_oracle.h"

namespace aft::reference {
namespace {

enum class Keys { normal, equal, huge_last };

struct Local {
    int64_t window = 1, B = 1, T = 1, C = 1, D = 0, longest = 0;  // D = 0: dense; longest = 0: T
    bool causal = true;
    double keys = 1, bias = 1, value = 1, gradient = 1, query = 2;
    Keys pattern = Keys::normal;
    bool fused = false, differentiable = false, large = false;
};

std::string number(double x) {
    char text[32];
    std::snprintf(text, sizeof text, "%g", x);
    return text;
}

std::string name_of(const Local &f) {
    std::string name = std::string("aft_local ") + (f.causal ? "causal" : "bidirectional") + (f.D ? " factors=" + std::to_string(f.D) : " dense");
    name += " s=" + std::to_string(f.window) + " B=" + std::to_string(f.B) + " T=" + std::to_string(f.T) + " C=" + std::to_string(f.C);
    name += (f.pattern == Keys::equal ? " keys=all " : f.pattern == Keys::huge_last ? " keys=last+" : " keys=") + number(f.keys);
    name += " bias=" + number(f.bias);
    if (f.value != 1) name += " value=" + number(f.value);
    if (f.gradient != 1) name += " gradient=" + number(f.gradient);
    if (f.query != 2) name += " query=" + number(f.query);
    if (f.longest) name += " longest=" + std::to_string(f.longest);
    return name + (f.fused ? " fused" : "");
}

float clipped(float x) { return std::min(1e4f, std::max(-1e4f, x)); }

Tensor keys_of(const Local &f) {
    Tensor key = random_tensor({f.B, f.T, f.C}, f.pattern == Keys::normal ? f.keys : 1, 2);
    for (int64_t n = 0; n < key.elements(); n++) {
        float &k = key.data()[n];
        if (f.pattern == Keys::equal) k = float(f.keys);
        if (f.pattern == Keys::huge_last && n / f.C % f.T == f.T - 1) k += float(f.keys);
        k = clipped(k);
    }
    return key;
}

OperatorCase local(const Local &f) {
    OperatorCase c;
    c.name = name_of(f);
    c.large = f.large;
    c.kernels = {"aft_window_range_f32", "aft_window_keys_f32", "aft_window_queries_f32", "aft_window_query_pack_f32", "aft_window_table_f32", "aft_window_transpose_f32", "aft_full_tiles_f32"};
    const auto also = [&](std::initializer_list<const char *> names) { c.kernels.insert(c.kernels.end(), names.begin(), names.end()); };
    if (f.causal)
        also({"aft_window_causal_forward_f32", "aft_window_reversed_backward_f32"});
    else
        also({"aft_window_both_forward_f32", "aft_window_both_backward_f32", "aft_window_total_f32"});
    if (f.window > 0) also({"aft_window_bias_gradient_f32", "aft_window_dots_f32"});
    if (f.window > 0 && f.D) also({"aft_window_apply_f32"});
    if (f.window > 0 && f.D && f.bias >= 80) also({"aft_window_dots_f64", "aft_window_table_f64"});
    c.bound = aft_bound(f.T);
    c.inputs = [=] {
        const int64_t longest = std::max(f.longest, f.T);
        Tensors in = {{"query", random_tensor({f.B, f.T, f.C}, f.query, 1)}, {"key", keys_of(f)}, {"value", random_tensor({f.B, f.T, f.C}, f.value, 3)}};
        in["output_gradient"] = random_tensor({f.B, f.T, f.C}, f.gradient, 4);
        if (f.D == 0) {
            in["position_bias"] = random_tensor({longest, longest}, f.bias, 5);
            for (int64_t n = 0; n < longest * longest; n++) in["position_bias"].data()[n] = clipped(in["position_bias"].data()[n]);
        } else {  // w = u v has a standard deviation of `bias`
            const double scale = std::sqrt(f.bias) / std::pow(double(f.D), 0.25);
            in["bias_u"] = random_tensor({longest, f.D}, scale, 5), in["bias_v"] = random_tensor({longest, f.D}, scale, 6);
        }
        return in;
    };
    c.run = [=](const Tensors &in) { return run_mixer({MixerKind::local, f.causal, f.window}, in, f.fused); };
    c.oracle = [=](const Arrays &in) { return aft_bias_oracle(in, f.causal, f.window); };
    if (f.differentiable) {
        c.differentiable = {"query", "key", "value"};
        if (f.D)
            c.differentiable.insert(c.differentiable.end(), {"bias_u", "bias_v"});
        else
            c.differentiable.push_back("position_bias");
    }
    return c;
}

OperatorCase decoding(Local f) {
    f.causal = true;
    OperatorCase c = last_step(local(f), {MixerKind::local, true, f.window});
    c.name = "aft_local_step" + c.name.substr(9);
    c.kernels = {"aft_local_step_f32", "local_step_bias_f64", "local_step_fold_f32", "local_step_push_f32", "local_step_mix_f32"};
    return c;
}

const RegisterCases registered([] {
    std::vector<OperatorCase> cases;
    for (int64_t D : {0, 5}) {
        for (int64_t s : {1, 9, 32, 100})
            for (double keys : {1.0, 80.0, 1e4}) cases.push_back(decoding({.window = s, .B = 2, .T = 66, .C = 19, .D = D, .keys = keys, .bias = keys > 1 ? 80.0 : 1.0}));
        cases.push_back(decoding({.window = 9, .B = 1, .T = 130, .C = 300, .D = D, .keys = 9e3, .value = 1e29, .pattern = Keys::huge_last}));
    }
    for (bool causal : {true, false}) {
        for (int64_t D : {0, 5}) {
            const auto add = [&](Local f) { f.causal = causal, f.D = D, cases.push_back(local(f)); };
            for (int64_t s : {0, 1, 5}) {
                add({.window = s, .B = 1, .T = 1, .C = 1});
                add({.window = s, .B = 2, .T = 7, .C = 3, .differentiable = s != 1});
                add({.window = s, .B = 2, .T = 33, .C = 17});
            }
            add({.window = 5, .B = 3, .T = 33, .C = 33, .longest = 40, .fused = true});
            add({.window = 32, .B = 1, .T = 130, .C = 9});
            add({.window = 5, .B = 1, .T = 300, .C = 7});
            add({.window = 32, .B = 1, .T = 300, .C = 7});
            if (D) add({.window = 32, .B = 2, .T = 140, .C = 512});  // units of whole rows in two pieces
            add({.window = 300, .B = 1, .T = 33, .C = 5});
            add({.window = 150, .B = 1, .T = 130, .C = 5});
            add({.window = 5000, .B = 1, .T = 33, .C = 5, .keys = 80});
            for (double keys : {80.0, 1e4}) add({.window = 9, .B = 2, .T = 66, .C = 9, .keys = keys});
            add({.window = 12, .B = 1, .T = 300, .C = 3, .keys = 30});
            for (double keys : {90.0, 1e4}) add({.window = 9, .B = 1, .T = 65, .C = 9, .keys = keys, .pattern = Keys::huge_last});
            for (double keys : {0.0, -1e4}) add({.window = 9, .B = 1, .T = 65, .C = 9, .keys = keys, .pattern = Keys::equal});
            for (double bias : {80.0, 1e3}) add({.window = 9, .B = 1, .T = 65, .C = 9, .bias = bias});
            add({.window = 9, .B = 1, .T = 65, .C = 9, .keys = 80, .bias = 80});
            add({.window = 5, .B = 1, .T = 33, .C = 5, .keys = 1e4, .bias = 2e3});
            for (double keys : {1.0, 80.0}) {
                add({.window = 9, .B = 1, .T = 65, .C = 5, .keys = keys, .value = 1e29});
                add({.window = 9, .B = 1, .T = 65, .C = 5, .keys = keys, .gradient = 1e29});
                add({.window = 9, .B = 1, .T = 65, .C = 5, .keys = keys, .value = 1e-20, .gradient = 1e-6});
            }
            add({.window = 9, .B = 1, .T = 33, .C = 5, .value = 1e29, .query = 100});
            // Backward finds R in y, which shut gates bring near the smallest float.
            for (double keys : {1.0, 1e4}) add({.window = 9, .B = 1, .T = 33, .C = 5, .keys = keys, .gradient = 1e29, .query = 100});
            add({.window = 9, .B = 1, .T = 33, .C = 5, .keys = 1e4, .value = 1e29, .query = 100});
            if (D == 0) add({.window = 9, .B = 1, .T = 65, .C = 9, .bias = 1e4});
        }
        cases.push_back(local({.window = 32, .B = 5, .T = 66, .C = 150, .D = 24, .causal = causal}));
        cases.push_back(local({.window = 32, .B = 2, .T = 600, .C = 40, .D = 64, .causal = causal}));
        cases.push_back(local({.window = 300, .B = 1, .T = 530, .C = 16, .D = 16, .causal = causal}));
        // Few long sequences: their pieces are linked (runtime/look_back.h).
        for (int64_t s : {32, 300}) cases.push_back(local({.window = s, .B = 1, .T = 1030, .C = 3, .D = 5, .causal = causal}));
        for (double keys : {80.0, 1e4}) cases.push_back(local({.window = 32, .B = 1, .T = 1030, .C = 3, .D = 5, .causal = causal, .keys = keys}));
        for (double keys : {90.0, 1e4}) cases.push_back(local({.window = 32, .B = 1, .T = 1030, .C = 3, .D = 5, .causal = causal, .keys = keys, .pattern = Keys::huge_last}));
        cases.push_back(local({.window = 9, .B = 1, .T = 1030, .C = 3, .D = 5, .causal = causal, .keys = -1e4, .pattern = Keys::equal}));
        cases.push_back(local({.window = 9, .B = 2, .T = 2060, .C = 2, .D = 5, .causal = causal, .fused = true}));
    }
    return cases;
});

}  // namespace
}  // namespace aft::reference
