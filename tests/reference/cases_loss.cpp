// Softmax cross-entropy: loss and gradient, ignored targets, in place, loss only; short rows by one kernel, long ones by two.
#include <cmath>

#include "kernel_table.h"
#include "models/layers/cross_entropy.h"
#include "tests/reference/operator_case.h"
#include "tests/reference/strided.h"

namespace aft::reference {
namespace {

OperatorCase cross_entropy(int64_t R, int64_t V, float smoothing, float logit_scale, float offset, bool pieces = false) {
    OperatorCase c;
    c.name = "softmax_cross_entropy R=" + std::to_string(R) + " V=" + std::to_string(V) + " smoothing=" + std::to_string(int(100 * smoothing)) +
             "% logits=" + std::to_string(int(logit_scale)) + "+" + std::to_string(int(offset));
    c.kernels = {"softmax_cross_entropy_loss_f32"};
    if (pieces)
        c.kernels.insert(c.kernels.end(), {"softmax_pieces_f32", "softmax_from_pieces_f32"});
    else
        c.kernels.push_back("softmax_cross_entropy_f32");
    c.bound = 16;
    const float scale = 0.25f;
    c.inputs = [=] {
        Tensor targets({R}, DType::i32), logits = random_tensor({R, V}, logit_scale, 1), dy({R});
        for (int64_t r = 0; r < R; r++) targets.data<int32_t>()[r] = r % 5 == 3 ? -1 : int32_t(r * 31 % V);
        for (int64_t n = 0; n < R * V; n++) logits.data()[n] += offset;
        dy.fill(scale);
        return Tensors{{"logits", logits}, {"targets", targets}, {"output_gradient", dy}};
    };
    c.run = [=](const Tensors &in) {
        const KernelTable &k = kernels();
        const Tensor logits = with_gaps(in.at("logits")), &targets = in.at("targets");
        Tensor loss({R}), loss_only({R}), loss_in_place({R}), dlogits = with_gaps(Tensor({R, V})), in_place = in.at("logits").clone();
        Arena arena;
        softmax_cross_entropy(logits, targets, smoothing, scale, loss, dlogits, arena);
        softmax_cross_entropy(in_place, targets, smoothing, scale, loss_in_place, in_place, arena);
        k.softmax_cross_entropy_loss_f32(logits, targets, smoothing, loss_only);
        return Tensors{{"output", loss}, {"loss_only", loss_only}, {"loss_in_place", loss_in_place}, {"logits_gradient", dlogits}, {"in_place", in_place}};
    };
    c.oracle = [=](const Arrays &in) {
        Results out = {{"output", Result({R})}, {"logits_gradient", Result({R, V})}};
        const double s = smoothing;
        for (int64_t r = 0; r < R; r++) {
            const int64_t target = int64_t(in.at("targets")[size_t(r)]);
            if (target < 0) continue;
            const auto x = [&](int64_t j) { return in.at("logits")[size_t(r * V + j)]; };
            double largest = x(0), sum = 0, size_z = 0, mean = 0;
            for (int64_t j = 1; j < V; j++) largest = std::max(largest, x(j));
            for (int64_t j = 0; j < V; j++) sum += std::exp(x(j) - largest), size_z += std::abs(x(j) - largest) / double(V), mean += (x(j) - largest) / double(V);
            const double z = x(target) - largest, log_sum = std::log(sum);
            out["output"].value[size_t(r)] = log_sum - (1 - s) * z - s * mean;
            // 1: the relative error of the sum is an absolute one of its logarithm.
            out["output"].magnitude[size_t(r)] = 1 + log_sum + (1 - s) * std::abs(z) + s * size_z;
            for (int64_t j = 0; j < V; j++) {
                const double p = std::exp(x(j) - largest) / sum, hot = j == target ? 1 - s : 0;
                out["logits_gradient"].value[size_t(r * V + j)] = scale * (p - hot - s / double(V));
                // A rounding of z is a relative error of exp z.
                out["logits_gradient"].magnitude[size_t(r * V + j)] = scale * (p * (1 + largest - x(j)) + hot + s / double(V));
            }
        }
        out["loss_only"] = out["loss_in_place"] = out["output"];
        out["in_place"] = out["logits_gradient"];
        return out;
    };
    if (R * V < 3000 && offset == 0) c.differentiable = {"logits"};  // the step of a difference grows with the logits, their curvature does not
    return c;
}

const RegisterCases registered([] {
    std::vector<OperatorCase> cases;
    for (const auto &[R, V] : {std::pair<int64_t, int64_t>{1, 1}, {1, 5}, {4, 33}, {9, 65}, {33, 256}, {17, 257}, {3, 511}})
        for (float smoothing : {0.0f, 0.1f}) cases.push_back(cross_entropy(R, V, smoothing, 2, 0));
    cases.push_back(cross_entropy(5, 256, 0.1f, 1, 10000));
    cases.push_back(cross_entropy(5, 257, 0, 80, -1000));
    for (const auto &[R, V] : {std::pair<int64_t, int64_t>{3, 2048}, {1, 2049}, {70, 2303}, {2, 40000}})
        for (float smoothing : {0.0f, 0.1f}) cases.push_back(cross_entropy(R, V, smoothing, 2, 0, true));
    cases.push_back(cross_entropy(5, 2500, 0.1f, 1, 10000, true));
    cases.push_back(cross_entropy(5, 2065, 0, 80, -1000, true));
    return cases;
});

}  // namespace
}  // namespace aft::reference
