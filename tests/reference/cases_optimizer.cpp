// One AdamW update in place; the partial sums of squares.
#include <cmath>

#include "kernel_table.h"
#include "tests/reference/operator_case.h"

namespace aft::reference {
namespace {

OperatorCase adamw(int64_t N) {
    OperatorCase c;
    c.name = "adamw N=" + std::to_string(N);
    c.kernels = {"adamw_f32"};
    c.bound = 12;
    const float rate = 3e-3f, beta1 = 0.9f, beta2 = 0.999f, epsilon = 1e-8f, decay = 0.5f, correction1 = 0.271f, correction2 = 0.002997f, clip = 0.37f;
    c.inputs = [=] {
        Tensors in = {{"parameter", random_tensor({N}, 1, 1)}, {"first", random_tensor({N}, 1e-3, 2)}, {"second", random_tensor({N}, 1e-3, 3)}, {"gradient", random_tensor({N}, 1e-2, 4)}};
        for (int64_t n = 0; n < N; n++) {
            float &v = in["second"].data()[n];
            v *= v;  // of both sizes and of 0: an element never touched before
            if (n % 7 == 3) v = in["first"].data()[n] = 0;
            if (n % 14 == 3) in["gradient"].data()[n] = 0;
        }
        return in;
    };
    c.run = [=](const Tensors &in) {
        Tensor p = in.at("parameter").clone(), m = in.at("first").clone(), v = in.at("second").clone(), g = in.at("gradient").clone();
        kernels().adamw_f32(rate, beta1, beta2, epsilon, decay, correction1, correction2, clip, p, m, v, g);
        return Tensors{{"parameter_after", p}, {"first_after", m}, {"second_after", v}, {"gradient_after", g}};
    };
    c.oracle = [=](const Arrays &in) {
        Results out;
        for (const char *name : {"parameter_after", "first_after", "second_after", "gradient_after"}) out[name] = Result({N});
        const auto put = [&](const char *name, size_t n, double value, double magnitude) { out[name].value[n] = value, out[name].magnitude[n] = magnitude; };
        for (size_t n = 0; n < size_t(N); n++) {
            const double p = in.at("parameter")[n], g = clip * in.at("gradient")[n], old_m = beta1 * in.at("first")[n], new_m = (1 - double(beta1)) * g;
            const double m = old_m + new_m, v = beta2 * in.at("second")[n] + (1 - double(beta2)) * g * g;
            const double size_m = std::abs(old_m) + std::abs(new_m), root = std::sqrt(v / correction2) + epsilon;
            put("first_after", n, m, size_m), put("second_after", n, v, v), put("gradient_after", n, 0, 0);
            put("parameter_after", n, p - rate * (decay * p + m / correction1 / root), std::abs(p) + rate * (decay * std::abs(p) + size_m / correction1 / root));
        }
        return out;
    };
    return c;
}

OperatorCase sum_of_squares(int64_t N, int64_t pieces) {
    OperatorCase c;
    c.name = "sum_of_squares N=" + std::to_string(N) + " pieces=" + std::to_string(pieces);
    c.kernels = {"sum_of_squares_f32"};
    c.bound = 8;
    c.inputs = [=] { return Tensors{{"x", random_tensor({N}, 1, 1)}}; };
    c.run = [=](const Tensors &in) {
        Tensor y({pieces});
        kernels().sum_of_squares_f32(in.at("x"), y);
        return Tensors{{"y", y}};
    };
    c.oracle = [=](const Arrays &in) {
        Results out = {{"y", Result({pieces})}};
        const int64_t length = (N + pieces - 1) / pieces;
        for (int64_t n = 0; n < N; n++) out["y"].value[size_t(n / length)] += in.at("x")[size_t(n)] * in.at("x")[size_t(n)];
        out["y"].magnitude = out["y"].value;
        return out;
    };
    return c;
}

const RegisterCases registered([] {
    std::vector<OperatorCase> cases;
    for (int64_t N : {1, 5, 33, 511, 16384, 40001}) cases.push_back(adamw(N));
    for (const auto &[N, pieces] : {std::pair<int64_t, int64_t>{1, 1}, {33, 1}, {511, 3}, {4096, 1}, {70001, 18}, {100, 33}, {5, 9}}) cases.push_back(sum_of_squares(N, pieces));
    return cases;
});

}  // namespace
}  // namespace aft::reference
