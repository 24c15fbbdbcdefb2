// Token and position embedding with their gradients; tokens out of range are clamped.
#include <algorithm>
#include <cmath>

#include "kernel_table.h"
#include "tests/reference/operator_case.h"

namespace aft::reference {
namespace {

struct Sizes {
    int64_t B, T, C, V;
};

OperatorCase embedding(const Sizes &s) {
    const auto [B, T, C, V] = s;
    OperatorCase c;
    c.name = "embedding B=" + std::to_string(B) + " T=" + std::to_string(T) + " C=" + std::to_string(C) + " V=" + std::to_string(V);
    c.kernels = {"embedding_forward_f32", "embedding_backward_f32", "position_backward_f32"};
    c.bound = 2 + std::sqrt(double(B * T));
    c.inputs = [=] {
        Tensor tokens({B, T}, DType::i32);
        for (int64_t n = 0; n < B * T; n++) tokens.data<int32_t>()[n] = int32_t((n * n * 7 + n / 3) % (V + 2) - 1);  // -1 and V among them
        return Tensors{{"tokens", tokens},
                       {"weight", random_tensor({V, C}, 1, 1)},
                       {"position", random_tensor({T + 3, C}, 1, 2)},
                       {"output_gradient", random_tensor({B, T, C}, 1, 3)},
                       {"weight_before", random_tensor({V, C}, 1, 4)},
                       {"position_before", random_tensor({T, C}, 1, 5)}};
    };
    c.run = [=](const Tensors &in) {
        const KernelTable &k = kernels();
        const Tensor &tokens = in.at("tokens"), &dy = in.at("output_gradient");
        Tensor y({B, T, C}), dweight({V, C}), dposition({T, C}), all_dposition({T + 3, C});
        k.embedding_forward_f32(tokens, in.at("weight"), in.at("position"), y);
        k.embedding_backward_f32(tokens, dy, 0, dweight);
        all_dposition.fill(0);
        k.position_backward_f32(dy, 0, dposition);
        Tensor first = all_dposition.slice(0, 0, T), added_weight = in.at("weight_before").clone(), added_position = in.at("position_before").clone();
        first.copy_from(dposition);
        k.embedding_backward_f32(tokens, dy, 1, added_weight);
        k.position_backward_f32(dy, 1, added_position);
        return Tensors{{"output", y}, {"weight_gradient", dweight}, {"position_gradient", all_dposition}, {"added_weight", added_weight}, {"added_position", added_position}};
    };
    c.oracle = [=](const Arrays &in) {
        Results out = {{"output", Result({B, T, C})}, {"weight_gradient", Result({V, C})}, {"position_gradient", Result({T + 3, C})},
                       {"added_weight", Result({V, C})}, {"added_position", Result({T, C})}};
        const auto add = [&](const char *name, size_t at, double x) { out[name].value[at] += x, out[name].magnitude[at] += std::abs(x); };
        for (size_t n = 0; n < size_t(V * C); n++) add("added_weight", n, in.at("weight_before")[n]);
        for (size_t n = 0; n < size_t(T * C); n++) add("added_position", n, in.at("position_before")[n]);
        for (int64_t b = 0; b < B; b++)
            for (int64_t t = 0; t < T; t++)
                for (int64_t k = 0; k < C; k++) {
                    const int64_t token = std::clamp<int64_t>(int64_t(in.at("tokens")[size_t(b * T + t)]), 0, V - 1);
                    const size_t n = size_t((b * T + t) * C + k), row = size_t(token * C + k), place = size_t(t * C + k);
                    add("output", n, in.at("weight")[row]), add("output", n, in.at("position")[place]);
                    const double dy = in.at("output_gradient")[n];
                    add("weight_gradient", row, dy), add("added_weight", row, dy), add("position_gradient", place, dy), add("added_position", place, dy);
                }
        return out;
    };
    c.differentiable = {"weight", "position"};
    return c;
}

const RegisterCases registered([] {
    std::vector<OperatorCase> cases;
    for (const Sizes &s : {Sizes{1, 1, 1, 1}, {2, 7, 33, 5}, {3, 33, 65, 257}, {1, 40, 511, 3}, {5, 16, 256, 256}, {2, 70, 16, 2}}) cases.push_back(embedding(s));
    return cases;
});

}  // namespace
}  // namespace aft::reference
