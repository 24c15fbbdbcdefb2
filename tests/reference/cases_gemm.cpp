// Matrix products: every layout and epilogue against plain loops.
#include <cmath>

#include "kernel_table.h"
#include "tests/reference/operator_case.h"

namespace aft::reference {
namespace {

struct Form {
    const char *kernel, *layout, *epilogue;
};
const Form forms[] = {{"gemm_nn_f32", "nn", "none"},
                      {"gemm_nt_f32", "nt", "none"},
                      {"gemm_tn_f32", "tn", "none"},
                      {"gemm_nt_bias_f32", "nt", "bias"},
                      {"gemm_nt_bias_residual_f32", "nt", "bias_residual"},
                      {"gemm_nt_bias_gelu_f32", "nt", "bias_gelu"},
                      {"gemm_nn_gelu_backward_f32", "nn", "gelu_backward"},
                      {"gemm_panels_bias_f32", "nt", "bias"},
                      {"gemm_panels_bias_residual_f32", "nt", "bias_residual"},
                      {"gemm_panels_bias_gelu_f32", "nt", "bias_gelu"}};

constexpr int64_t panel = 32;  // of generators/gemm_panels.h

double gelu(double x) { return 0.5 * x * (1 + std::erf(x / std::sqrt(2.0))); }
double gelu_slope(double x) { return 0.5 * (1 + std::erf(x / std::sqrt(2.0))) + x * std::exp(-0.5 * x * x) / std::sqrt(2 * M_PI); }

OperatorCase product(const Form &form, int64_t M, int64_t N, int64_t K, bool accumulate) {
    const std::string layout = form.layout, epilogue = form.epilogue;
    OperatorCase c;
    c.name = std::string(form.kernel) + (accumulate ? " accumulate" : "") + " M=" + std::to_string(M) + " N=" + std::to_string(N) + " K=" + std::to_string(K);
    c.kernels = {form.kernel};
    const bool packed = std::string(form.kernel).starts_with("gemm_panels");
    if (packed) c.kernels.push_back("gemm_panels_pack_f32");
    c.bound = 4 + 2 * std::sqrt(double(K));
    c.inputs = [=] {
        Tensors in;
        in["a"] = random_tensor(layout == "tn" ? Shape{K, M} : Shape{M, K}, 1, 1);
        in["b"] = random_tensor(layout == "nt" ? Shape{N, K} : Shape{K, N}, 1, 2);
        if (epilogue.starts_with("bias")) in["bias"] = random_tensor({N}, 3, 3);
        if (epilogue == "bias_residual") in["residual"] = random_tensor({M, N}, 1, 4);
        if (epilogue == "gelu_backward") in["slope"] = random_tensor({M, N}, 1.13, 5);
        if (accumulate) in["c"] = random_tensor({M, N}, 1, 6);
        return in;
    };
    c.run = [=](const Tensors &in) {
        const KernelTable &k = kernels();
        const Tensor &a = in.at("a"), &b = in.at("b");
        Tensor out({M, N}), slope;
        if (accumulate) out.copy_from(in.at("c"));
        if (packed) {
            Tensor panels({(N + panel - 1) / panel, K, panel});
            k.gemm_panels_pack_f32(b, panels);
            if (epilogue == "bias") k.gemm_panels_bias_f32(a, panels, in.at("bias"), out);
            if (epilogue == "bias_residual") k.gemm_panels_bias_residual_f32(a, panels, in.at("bias"), in.at("residual"), out);
            if (epilogue == "bias_gelu") k.gemm_panels_bias_gelu_f32(a, panels, in.at("bias"), out);
            return Tensors{{"output", out}};
        }
        if (epilogue == "none") (layout == "nn" ? k.gemm_nn_f32 : layout == "nt" ? k.gemm_nt_f32 : k.gemm_tn_f32)(a, b, accumulate, out);
        if (epilogue == "bias") k.gemm_nt_bias_f32(a, b, in.at("bias"), out);
        if (epilogue == "bias_residual") k.gemm_nt_bias_residual_f32(a, b, in.at("bias"), in.at("residual"), out);
        if (epilogue == "bias_gelu") slope = Tensor({M, N}), k.gemm_nt_bias_gelu_f32(a, b, in.at("bias"), out, slope);
        if (epilogue == "gelu_backward") k.gemm_nn_gelu_backward_f32(a, b, in.at("slope"), out);
        Tensors found = {{"output", out}};
        if (slope.defined()) found["slope"] = slope;
        return found;
    };
    c.oracle = [=](const Arrays &in) {
        Results out = {{"output", Result({M, N})}};
        const bool has_slope = epilogue == "bias_gelu" && !packed;
        if (has_slope) out["slope"] = Result({M, N});
        for (int64_t i = 0; i < M; i++)
            for (int64_t j = 0; j < N; j++) {
                double sum = 0, magnitude = 0;
                const auto add = [&](double x) { sum += x, magnitude += std::abs(x); };
                for (int64_t k = 0; k < K; k++)
                    add(in.at("a")[size_t(layout == "tn" ? k * M + i : i * K + k)] * in.at("b")[size_t(layout == "nt" ? j * K + k : k * N + j)]);
                const size_t at = size_t(i * N + j);
                if (epilogue.starts_with("bias")) add(in.at("bias")[size_t(j)]);
                if (epilogue == "bias_residual") add(in.at("residual")[at]);
                if (accumulate) add(in.at("c")[at]);
                if (epilogue == "bias_gelu") {
                    if (has_slope) out["slope"].value[at] = gelu_slope(sum), out["slope"].magnitude[at] = 0.8 * magnitude + 1;  // its own slope is at most 0.8
                    sum = gelu(sum);  // its slope is at most 1.13
                }
                if (epilogue == "gelu_backward") sum *= in.at("slope")[at], magnitude *= 1.13;
                out["output"].value[at] = sum, out["output"].magnitude[at] = magnitude * 1.13;
            }
        return out;
    };
    return c;
}

const RegisterCases registered([] {
    std::vector<OperatorCase> cases;
    const int64_t shapes[][3] = {{1, 1, 1}, {1, 37, 100}, {1, 130, 515}, {2, 33, 40}, {5, 17, 513}, {8, 100, 64}, {9, 31, 65}, {33, 65, 70}, {100, 3, 1030}, {129, 300, 600}, {3, 1111, 2}};
    for (const Form &form : forms)
        for (const auto &[M, N, K] : shapes)
            for (bool accumulate : {false, true})
                if (!accumulate || std::string(form.epilogue) == "none") cases.push_back(product(form, M, N, K, accumulate));
    return cases;
});

}  // namespace
}  // namespace aft::reference
