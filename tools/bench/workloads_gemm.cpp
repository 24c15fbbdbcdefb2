// Matrix products: the forward products of the models' linear layers (tokens x out x in), and the products of their
// gradients: dX[M, K] = dY[M, N] W[N, K] (nn) and dW[N, K] = dY^T X (tn).
#include <algorithm>
#include <array>

#include "kernel_table.h"
#include "tools/bench/data.h"
#include "tools/bench/workload.h"

namespace aft::tool {
namespace {

using Product = std::array<int64_t, 3>;  // M, N, K of C[M, N]

const std::vector<Product> forward = {
    {4096, 1536, 512}, {4096, 2048, 512}, {4096, 512, 2048},                    // 12 x 512: projections, up, down
    {2048, 768, 256}, {2048, 1024, 256}, {2048, 256, 1024}, {8192, 256, 1024},  // 24 x 256: projections, up, down at 2 and at 8 sequences
    {1024, 1024, 1024}};

WorkShape shape_of(const Product &p) { return {{"M", p[0]}, {"N", p[1]}, {"K", p[2]}}; }

std::vector<WorkShape> shapes(const std::vector<Product> &products) {
    std::vector<WorkShape> all;
    for (const Product &p : products)
        if (const WorkShape shape = shape_of(p); std::find(all.begin(), all.end(), shape) == all.end()) all.push_back(shape);
    return all;
}

std::vector<WorkShape> with_gradients(int m, int n, int k) {  // where the gradient's M, N, K stand in the forward product
    std::vector<Product> all = forward;
    for (const Product &p : forward) all.push_back({p[size_t(m)], p[size_t(n)], p[size_t(k)]});
    return shapes(all);
}

std::vector<WorkShape> with_decoding() {  // one token, eight, 64 sequences of one token
    std::vector<Product> all = forward;
    for (const int64_t batch : {1, 8, 64})
        for (const auto &[n, k] : {std::pair{768, 256}, {1024, 256}, {256, 1024}}) all.push_back({batch, n, k});
    return shapes(all);
}

enum class Epilogue { none, bias, residual, gelu, gelu_backward };

using Call = std::function<void(const KernelTable &, const Tensor &a, const Tensor &b, const Tensor &more, const Tensor &bias, Tensor &c, Tensor &slope)>;

constexpr int64_t panel = 32;  // of generators/gemm_panels.h

std::vector<WorkShape> decoding(const std::vector<std::pair<int64_t, int64_t>> &layers) {  // N, K: one token, 4, 8 and 64 sequences of one token
    std::vector<Product> all;
    for (const auto &[n, k] : layers)
        for (const int64_t batch : {1, 4, 8, 64}) all.push_back({batch, n, k});
    return shapes(all);
}

WorkloadMaker product(const std::string &kernel, const std::string &layout, Epilogue epilogue, std::vector<WorkShape> model_shapes, const Call &call) {
    return {kernel, {"M", "N", "K"}, std::move(model_shapes), [=](const WorkShape &shape) {
                const int64_t M = shape.at("M"), N = shape.at("N"), K = shape.at("K");
                const bool panels = layout == "panels";
                const Tensor a = random_data(layout == "tn" ? Shape{K, M} : Shape{M, K});
                const Tensor b = random_data(panels ? Shape{(N + panel - 1) / panel, K, panel} : layout == "nt" ? Shape{N, K} : Shape{K, N});
                const bool has_bias = epilogue == Epilogue::bias || epilogue == Epilogue::residual || epilogue == Epilogue::gelu;
                const bool reads_more = epilogue == Epilogue::residual || epilogue == Epilogue::gelu_backward, writes_slope = epilogue == Epilogue::gelu && !panels;
                const Tensor bias = has_bias ? random_data({N}) : Tensor(), more = reads_more ? random_data({M, N}) : Tensor();
                Tensor c = random_data({M, N}), slope = writes_slope ? random_data({M, N}) : Tensor();
                Workload w;
                w.kernel = kernel, w.shape = shape;
                w.flops = 2.0 * double(M) * double(N) * double(K);
                w.written = 4.0 * double(M * N) * (writes_slope ? 2 : 1);
                w.bytes = w.written + 4.0 * double(M * K + N * K + (has_bias ? N : 0) + (reads_more ? M * N : 0));
                const auto with = [=](const Tensor &weight) -> std::function<void()> { return [=]() mutable { call(kernels(), a, weight, more, bias, c, slope); }; };
                w.run = with(b);
                if (!panels) return w;
                w.layer_bytes = double(b.bytes());
                w.layers = [=](int64_t count) {  // in one tensor, as a decoder has them: it is large enough for huge pages
                    const Tensor memory({count * b.elements()});
                    std::vector<std::function<void()>> all;
                    for (int64_t n = 0; n < count; n++) {
                        Tensor weight = memory.slice(0, n * b.elements(), (n + 1) * b.elements()).reshape(b.shape());
                        weight.copy_from(b);
                        all.push_back(with(weight));
                    }
                    return all;
                };
                return w;
            }};
}

const RegisterWorkloads registered([] {
    using T = const Tensor;
    using K = const KernelTable;
    const auto nn = [](K &k, T &a, T &b, T &, T &, Tensor &c, Tensor &) { k.gemm_nn_f32(a, b, 0, c); };
    const auto nt = [](K &k, T &a, T &b, T &, T &, Tensor &c, Tensor &) { k.gemm_nt_f32(a, b, 0, c); };
    const auto tn = [](K &k, T &a, T &b, T &, T &, Tensor &c, Tensor &) { k.gemm_tn_f32(a, b, 0, c); };
    const auto bias = [](K &k, T &a, T &b, T &, T &bias, Tensor &c, Tensor &) { k.gemm_nt_bias_f32(a, b, bias, c); };
    const auto residual = [](K &k, T &a, T &b, T &x, T &bias, Tensor &c, Tensor &) { k.gemm_nt_bias_residual_f32(a, b, bias, x, c); };
    const auto gelu = [](K &k, T &a, T &b, T &, T &bias, Tensor &c, Tensor &slope) { k.gemm_nt_bias_gelu_f32(a, b, bias, c, slope); };
    const auto gelu_backward = [](K &k, T &a, T &b, T &slope, T &, Tensor &c, Tensor &) { k.gemm_nn_gelu_backward_f32(a, b, slope, c); };
    const auto panels_bias = [](K &k, T &a, T &b, T &, T &bias, Tensor &c, Tensor &) { k.gemm_panels_bias_f32(a, b, bias, c); };
    const auto panels_residual = [](K &k, T &a, T &b, T &x, T &bias, Tensor &c, Tensor &) { k.gemm_panels_bias_residual_f32(a, b, bias, x, c); };
    const auto panels_gelu = [](K &k, T &a, T &b, T &, T &bias, Tensor &c, Tensor &) { k.gemm_panels_bias_gelu_f32(a, b, bias, c); };
    return std::vector<WorkloadMaker>{
        product("gemm_nn_f32", "nn", Epilogue::none, with_gradients(0, 2, 1), nn),
        product("gemm_nt_f32", "nt", Epilogue::none, shapes(forward), nt),
        product("gemm_tn_f32", "tn", Epilogue::none, with_gradients(1, 2, 0), tn),
        product("gemm_nt_bias_f32", "nt", Epilogue::bias, with_decoding(), bias),
        product("gemm_nt_bias_residual_f32", "nt", Epilogue::residual, shapes({{4096, 512, 2048}, {2048, 256, 1024}}), residual),
        product("gemm_nt_bias_gelu_f32", "nt", Epilogue::gelu, shapes({{4096, 2048, 512}, {2048, 1024, 256}}), gelu),
        product("gemm_nn_gelu_backward_f32", "nn", Epilogue::gelu_backward, shapes({{4096, 2048, 512}, {2048, 1024, 256}}), gelu_backward),
        product("gemm_panels_bias_f32", "panels", Epilogue::bias, decoding({{768, 256}, {1536, 512}}), panels_bias),
        product("gemm_panels_bias_residual_f32", "panels", Epilogue::residual, decoding({{256, 1024}, {512, 2048}}), panels_residual),
        product("gemm_panels_bias_gelu_f32", "panels", Epilogue::gelu, decoding({{1024, 256}, {2048, 512}}), panels_gelu)};
});

}  // namespace
}  // namespace aft::tool
