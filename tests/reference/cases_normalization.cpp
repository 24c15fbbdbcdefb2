// Layer norm, plain and after a residual sum: forward, input gradient, parameter gradients.
#include <cmath>

#include "kernel_table.h"
#include "tests/reference/operator_case.h"
#include "tests/reference/strided.h"

namespace aft::reference {
namespace {

constexpr double epsilon_of_norm = 1e-5;

struct Rows {
    int64_t R, C;
    double offset = 0;  // common to a row: mean and deviation are of different size
    bool residual = false, strided = false;
    double first = 0;  // added to each row's first element alone: a reference value that is far from the mean
};

Tensors run(const Rows &s, const Tensors &in) {
    const KernelTable &k = kernels();
    const auto place = [&](const Tensor &x) { return s.strided ? with_gaps(x) : x; };
    const auto result = [&] { return s.strided ? with_gaps(Tensor({s.R, s.C})) : Tensor({s.R, s.C}); };
    const Tensor x = place(in.at("x")), dy = place(in.at("output_gradient")), &weight = in.at("weight");
    Tensor sum = x, y = result(), mean({s.R}), rstd({s.R}), dx = result(), dx_residual = result();
    if (s.residual)
        sum = result(), k.residual_layer_norm_forward_f32(x, place(in.at("branch")), weight, in.at("bias"), float(epsilon_of_norm), sum, y, mean, rstd);
    else
        k.layer_norm_forward_f32(x, weight, in.at("bias"), float(epsilon_of_norm), y, mean, rstd);
    Tensor none({s.R, s.C});
    none.fill(0);
    k.layer_norm_backward_f32(sum, weight, mean, rstd, dy, none, dx);
    k.layer_norm_backward_f32(sum, weight, mean, rstd, dy, in.at("residual_gradient"), dx_residual);
    Tensor dweight({s.C}), dbias({s.C});
    k.layer_norm_parameters_backward_f32(sum, mean, rstd, dy, 0, dweight, dbias);
    Tensor added_weight = in.at("before").clone(), added_bias = in.at("before").clone();
    k.layer_norm_parameters_backward_f32(sum, mean, rstd, dy, 1, added_weight, added_bias);
    Tensors found = {{"output", y}, {"mean", mean}, {"rstd", rstd}, {"x_gradient", dx}, {"residual", dx_residual},
                     {"weight_gradient", dweight}, {"bias_gradient", dbias}, {"added_weight", added_weight}, {"added_bias", added_bias}};
    if (s.residual) found["sum"] = sum, found["branch_gradient"] = dx;
    return found;
}

Results oracle(const Rows &s, const Arrays &in) {
    const auto [R, C, offset, residual, strided, first] = s;
    const Array &weight = in.at("weight"), &bias = in.at("bias"), &dy = in.at("output_gradient");
    Results out;
    for (const char *name : {"output", "x_gradient", "residual"}) out[name] = Result({R, C});
    for (const char *name : {"weight_gradient", "bias_gradient"}) out[name] = Result({C});
    for (const char *name : {"mean", "rstd"}) out[name] = Result({R});
    if (residual) out["sum"] = Result({R, C});
    const auto put = [&](const char *name, size_t at, double value, double magnitude) {
        out[name].value[at] += value, out[name].magnitude[at] += magnitude;
    };
    for (int64_t r = 0; r < R; r++) {
        const auto at = [&](int64_t c) { return size_t(r * C + c); };
        const auto x = [&](int64_t c) { return in.at("x")[at(c)] + (residual ? in.at("branch")[at(c)] : 0.0); };
        double mean = 0, variance = 0, deviation = 0, largest = 0;
        for (int64_t c = 0; c < C; c++) mean += x(c) / double(C), largest = std::max(largest, std::abs(x(c)));
        for (int64_t c = 0; c < C; c++) variance += (x(c) - mean) * (x(c) - mean) / double(C), deviation += std::abs(x(c) - mean) / double(C);
        const double rstd = 1 / std::sqrt(variance + float(epsilon_of_norm));
        // h = d - mean of d, d against any reference near the mean: it adds |d| and the mean of |d|.
        // A sum rounded to float moves each h by this many epsilon; so does a mean rounded to float, in backward.
        const double input_rounding = residual ? largest * rstd : 0, mean_rounding = std::abs(mean) * rstd + input_rounding;
        put("mean", size_t(r), mean, std::abs(mean) + deviation + (residual ? largest : 0));
        put("rstd", size_t(r), rstd, rstd * (1 + input_rounding));
        double sum_g = 0, sum_gh = 0, size_g = 0, size_gh = 0;
        const auto h = [&](int64_t c) { return (x(c) - mean) * rstd; };
        const auto g = [&](int64_t c) { return dy[at(c)] * weight[size_t(c)]; };
        for (int64_t c = 0; c < C; c++) {
            sum_g += g(c) / double(C), size_g += std::abs(g(c)) / double(C);
            sum_gh += g(c) * h(c) / double(C), size_gh += std::abs(g(c) * h(c)) / double(C);
        }
        for (int64_t c = 0; c < C; c++) {
            const double w = weight[size_t(c)], size_h = std::abs(h(c));
            if (residual) put("sum", at(c), x(c), std::abs(x(c)));
            put("output", at(c), h(c) * w + bias[size_t(c)], ((size_h + deviation * rstd) * (1 + input_rounding) + input_rounding) * std::abs(w) + std::abs(bias[size_t(c)]));
            const double dx = rstd * (g(c) - sum_g - h(c) * sum_gh);
            const double size = rstd * (std::abs(g(c)) + size_g + size_h * size_gh + mean_rounding * (size_g * size_h + size_gh + std::abs(g(c))));
            const double other = in.at("residual_gradient")[at(c)];
            put("x_gradient", at(c), dx, size);
            put("residual", at(c), dx + other, size + std::abs(other));
            put("weight_gradient", size_t(c), dy[at(c)] * h(c), std::abs(dy[at(c)]) * (size_h + mean_rounding));
            put("bias_gradient", size_t(c), dy[at(c)], std::abs(dy[at(c)]));
        }
    }
    for (const auto &[name, from] : {std::pair{"added_weight", "weight_gradient"}, {"added_bias", "bias_gradient"}}) {
        out[name] = out[from];
        for (size_t c = 0; c < size_t(C); c++) put(name, c, in.at("before")[c], std::abs(in.at("before")[c]));
    }
    if (residual) out["branch_gradient"] = out["x_gradient"];
    return out;
}

OperatorCase layer_norm(const Rows &s) {
    OperatorCase c;
    c.name = std::string(s.residual ? "residual_layer_norm" : "layer_norm") + " R=" + std::to_string(s.R) + " C=" + std::to_string(s.C) +
             (s.offset != 0 ? " offset=" + std::to_string(int(s.offset)) : "") + (s.strided ? " strided" : "") +
             (s.first != 0 ? " first=" + std::to_string(int(s.first)) : "");
    c.kernels = {s.residual ? "residual_layer_norm_forward_f32" : "layer_norm_forward_f32", "layer_norm_backward_f32", "layer_norm_parameters_backward_f32"};
    c.bound = 8;
    c.inputs = [=] {
        Tensors in = {{"x", random_tensor({s.R, s.C}, 1, 1)},          {"weight", random_tensor({s.C}, 1, 2)},
                      {"bias", random_tensor({s.C}, 1, 3)},            {"output_gradient", random_tensor({s.R, s.C}, 1, 4)},
                      {"residual_gradient", random_tensor({s.R, s.C}, 1, 5)}, {"before", random_tensor({s.C}, 1, 6)}};
        for (int64_t n = 0; n < s.R * s.C; n++) in["x"].data()[n] += float(s.offset) + (n % s.C == 0 ? float(s.first) : 0.0f);
        if (s.residual) in["branch"] = random_tensor({s.R, s.C}, 2, 7);
        return in;
    };
    c.run = [=](const Tensors &in) { return run(s, in); };
    c.oracle = [=](const Arrays &in) { return oracle(s, in); };
    if (s.R * s.C > 3000) return c;  // finite differences cost a forward pass each
    c.differentiable = {"x", "weight", "bias"};
    if (s.residual) c.differentiable.push_back("branch");
    return c;
}

const RegisterCases registered([] {
    std::vector<OperatorCase> cases;
    for (bool residual : {false, true}) {
        for (const auto &[R, C] : {std::pair<int64_t, int64_t>{1, 1}, {2, 1}, {1, 33}, {3, 65}, {5, 511}, {33, 256}, {130, 96}, {70, 7}})
            cases.push_back(layer_norm({.R = R, .C = C, .residual = residual}));
        cases.push_back(layer_norm({.R = 67, .C = 130, .residual = residual, .strided = true}));
        cases.push_back(layer_norm({.R = 4, .C = 512, .offset = 1000, .residual = residual}));
        cases.push_back(layer_norm({.R = 3, .C = 33, .offset = -30000, .residual = residual}));
        cases.push_back(layer_norm({.R = 8, .C = 512, .residual = residual, .first = 1000}));
    }
    return cases;
});

}  // namespace
}  // namespace aft::reference
