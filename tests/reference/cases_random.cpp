// Dropout against the host's generator: the mask is exact, the kept values are scaled.
#include <cmath>

#include "kernel_table.h"
#include "runtime/random.h"
#include "tests/reference/operator_case.h"
#include "tests/reference/strided.h"

namespace aft::reference {
namespace {

OperatorCase dropout(int64_t R, int64_t C, float probability) {
    OperatorCase c;
    c.name = "dropout R=" + std::to_string(R) + " C=" + std::to_string(C) + " p=" + std::to_string(int(100 * probability)) + "%";
    c.kernels = {"dropout_f32", "dropout_residual_f32"};
    c.bound = 4;
    const int32_t stream = 5, step = 1000, first_row = 77;
    const DropoutMask mask(0x123456789ABCDEFull, stream, step, probability);
    c.inputs = [=] { return Tensors{{"x", random_tensor({R, C}, 1, 1)}, {"residual", random_tensor({R, C}, 1, 2)}, {"output_gradient", random_tensor({R, C}, 1, 3)}}; };
    c.run = [=](const Tensors &in) {
        const Tensor x = with_gaps(in.at("x")), residual = with_gaps(in.at("residual"));
        const auto [low, high] = mask.philox.key;
        Tensor y = with_gaps(Tensor({R, C})), dx({R, C}), sum({R, C}), in_place = x.clone(), added = residual.clone();
        kernels().dropout_f32(x, int32_t(low), int32_t(high), stream, step, first_row, probability, y);
        kernels().dropout_f32(in.at("output_gradient"), int32_t(low), int32_t(high), stream, step, first_row, probability, dx);
        kernels().dropout_f32(in_place, int32_t(low), int32_t(high), stream, step, first_row, probability, in_place);
        kernels().dropout_residual_f32(x, residual, int32_t(low), int32_t(high), stream, step, first_row, probability, sum);
        kernels().dropout_residual_f32(x, added, int32_t(low), int32_t(high), stream, step, first_row, probability, added);
        // A micro-batch: the rows from the second on, by first_row.
        Tensor tail({R, C});
        tail.copy_from(y);
        if (R > 1) {
            Tensor rest = tail.slice(0, 1, R);
            kernels().dropout_f32(x.slice(0, 1, R), int32_t(low), int32_t(high), stream, step, first_row + 1, probability, rest);
        }
        return Tensors{{"output", y}, {"x_gradient", dx}, {"sum", sum}, {"in_place", in_place}, {"added", added}, {"tail", tail}};
    };
    c.oracle = [=](const Arrays &in) {
        Results out = {{"output", Result({R, C})}, {"x_gradient", Result({R, C})}, {"sum", Result({R, C})}};
        for (int64_t r = 0; r < R; r++)
            for (int64_t k = 0; k < C; k++) {
                const double factor = mask.keeps(uint32_t(r + first_row), uint32_t(k)) ? mask.scale() : 0;
                const size_t n = size_t(r * C + k);
                const double y = factor * in.at("x")[n], dx = factor * in.at("output_gradient")[n], residual = in.at("residual")[n];
                out["output"].value[n] = y, out["output"].magnitude[n] = std::abs(y);
                out["x_gradient"].value[n] = dx, out["x_gradient"].magnitude[n] = std::abs(dx);
                out["sum"].value[n] = residual + y, out["sum"].magnitude[n] = std::abs(residual) + std::abs(y);
            }
        out["in_place"] = out["tail"] = out["output"], out["added"] = out["sum"];
        return out;
    };
    if (R * C < 3000) c.differentiable = {"x"};
    return c;
}

const RegisterCases registered([] {
    std::vector<OperatorCase> cases;
    for (const auto &[R, C] : {std::pair<int64_t, int64_t>{1, 1}, {5, 33}, {3, 65}, {2, 511}, {35, 256}})
        for (float probability : {0.0f, 0.1f, 0.5f}) cases.push_back(dropout(R, C, probability));
    return cases;
});

}  // namespace
}  // namespace aft::reference
