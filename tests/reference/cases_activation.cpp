// GELU, sums of tensors, column sums.
#include <cmath>

#include "kernel_table.h"
#include "tests/reference/operator_case.h"
#include "tests/reference/strided.h"

namespace aft::reference {
namespace {

double phi(double x) { return std::exp(-0.5 * x * x) / std::sqrt(2 * M_PI); }
double normal(double x) { return 0.5 * std::erfc(-x / std::sqrt(2.0)); }

std::string shape_of(int64_t R, int64_t C) { return " R=" + std::to_string(R) + " C=" + std::to_string(C); }

OperatorCase gelu(int64_t R, int64_t C, double scale) {
    OperatorCase c;
    c.name = "gelu" + shape_of(R, C) + " scale=" + std::to_string(int(scale));
    c.kernels = {"gelu_forward_f32", "gelu_backward_f32"};
    c.bound = 8;
    c.inputs = [=] { return Tensors{{"x", random_tensor({R, C}, scale, 1)}, {"output_gradient", random_tensor({R, C}, 1, 2)}}; };
    c.run = [=](const Tensors &in) {
        const Tensor x = with_gaps(in.at("x")), &dy = in.at("output_gradient");
        Tensor y({R, C}), dx = with_gaps(Tensor({R, C})), in_place = dy.clone();
        kernels().gelu_forward_f32(x, y);
        kernels().gelu_backward_f32(x, dy, dx);
        kernels().gelu_backward_f32(x, in_place, in_place);
        return Tensors{{"output", y}, {"x_gradient", dx}, {"in_place", in_place}};
    };
    c.oracle = [=](const Arrays &in) {
        Results out = {{"output", Result({R, C})}, {"x_gradient", Result({R, C})}};
        for (size_t n = 0; n < size_t(R * C); n++) {
            // x Phi(x) = x (1 + erf) / 2: near -infinity the two terms of the last factor cancel.
            const double x = in.at("x")[n], dy = in.at("output_gradient")[n];
            out["output"].value[n] = x * normal(x), out["output"].magnitude[n] = std::abs(x);
            out["x_gradient"].value[n] = dy * (normal(x) + x * phi(x)), out["x_gradient"].magnitude[n] = std::abs(dy) * (1 + std::abs(x) * phi(x) * (1 + x * x / 2));
        }
        out["in_place"] = out["x_gradient"];
        return out;
    };
    c.differentiable = {"x"};
    return c;
}

OperatorCase sums(int64_t R, int64_t C, bool strided) {
    OperatorCase c;
    c.name = "sums" + shape_of(R, C) + (strided ? " strided" : "");
    c.kernels = {"add_f32", "column_sum_f32"};
    c.bound = 2 + 0.5 * std::sqrt(double(R));
    c.inputs = [=] { return Tensors{{"x", random_tensor({R, C}, 1, 1)}, {"y", random_tensor({R, C}, 1, 2)}, {"before", random_tensor({C}, 1, 3)}}; };
    c.run = [=](const Tensors &in) {
        const Tensor x = strided ? with_gaps(in.at("x")) : in.at("x");
        Tensor z({R, C}), fresh({C}), added = in.at("before").clone(), in_place = x.clone();
        kernels().add_f32(x, in.at("y"), z);
        kernels().add_f32(in_place, in.at("y"), in_place);
        kernels().column_sum_f32(x, 0, fresh);
        kernels().column_sum_f32(x, 1, added);
        return Tensors{{"z", z}, {"in_place", in_place}, {"fresh", fresh}, {"added", added}};
    };
    c.oracle = [=](const Arrays &in) {
        Results out = {{"z", Result({R, C})}, {"fresh", Result({C})}, {"added", Result({C})}};
        for (int64_t k = 0; k < C; k++) {
            const double before = in.at("before")[size_t(k)];
            out["added"].value[size_t(k)] = before, out["added"].magnitude[size_t(k)] = std::abs(before);
            for (int64_t r = 0; r < R; r++) {
                const size_t n = size_t(r * C + k);
                const double x = in.at("x")[n];
                out["z"].value[n] = x + in.at("y")[n], out["z"].magnitude[n] = std::abs(out["z"].value[n]);
                for (const char *name : {"fresh", "added"}) out[name].value[size_t(k)] += x, out[name].magnitude[size_t(k)] += std::abs(x);
            }
        }
        out["in_place"] = out["z"];
        return out;
    };
    return c;
}

const RegisterCases registered([] {
    std::vector<OperatorCase> cases;
    for (const auto &[R, C] : {std::pair<int64_t, int64_t>{1, 1}, {1, 511}, {33, 65}, {17, 16}})
        for (double scale : {1, 4, 100}) cases.push_back(gelu(R, C, scale));
    for (const auto &[R, C] : {std::pair<int64_t, int64_t>{1, 1}, {1, 33}, {63, 65}, {64, 16}, {130, 511}, {1000, 5}})
        for (bool strided : {false, true}) cases.push_back(sums(R, C, strided));
    return cases;
});

}  // namespace
}  // namespace aft::reference
