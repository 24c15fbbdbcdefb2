// The kernels around the operators: norms, activations, dropout, embedding, loss, optimizer. All are bound by memory: bytes
// counts each tensor once.
#include <memory>

#include "aft/arena.h"
#include "kernel_table.h"
#include "models/layers/cross_entropy.h"
#include "tools/bench/data.h"
#include "tools/bench/workload.h"

namespace aft::tool {
namespace {

struct Moved {  // floats; `updated` is that part of `written` which is read first, in place
    double read, written, updated = 0;
};
using Made = std::pair<std::function<void()>, Moved>;

WorkloadMaker maker(const std::string &kernel, std::vector<std::string> letters, std::vector<WorkShape> shapes, double flops_an_element,
                    const std::function<Made(const WorkShape &)> &make) {
    return {kernel, std::move(letters), std::move(shapes), [=](const WorkShape &shape) {
                const auto [call, moved] = make(shape);
                Workload w;
                w.kernel = kernel, w.shape = shape;
                double elements = 1;
                for (const auto &[letter, size] : shape) elements *= double(size);
                w.flops = flops_an_element * elements;
                w.written = 4 * moved.written, w.bytes = w.written + 4 * moved.read, w.updated = 4 * moved.updated;
                w.run = call;
                return w;
            }};
}

const RegisterWorkloads registered([] {
    const std::vector<std::string> rows = {"R", "C"};
    const std::vector<WorkShape> narrow = {{{"R", 4096}, {"C", 512}}, {{"R", 2048}, {"C", 256}}}, hidden = {{{"R", 4096}, {"C", 2048}}, {{"R", 2048}, {"C", 1024}}};
    const auto of = [](const WorkShape &s) { return Shape{s.at("R"), s.at("C")}; };
    const auto size = [](const WorkShape &s) { return double(s.at("R")) * double(s.at("C")); };
    std::vector<WorkloadMaker> all;

    all.push_back(maker("layer_norm_forward_f32", rows, narrow, 8, [=](const WorkShape &s) -> Made {
        const Tensor x = random_data(of(s)), w = random_data({s.at("C")}), b = random_data({s.at("C")});
        Tensor y = random_data(of(s)), mean({s.at("R")}), rstd({s.at("R")});
        return {[=]() mutable { kernels().layer_norm_forward_f32(x, w, b, 1e-5f, y, mean, rstd); }, {size(s), size(s)}};
    }));
    all.push_back(maker("residual_layer_norm_forward_f32", rows, narrow, 9, [=](const WorkShape &s) -> Made {
        const Tensor x = random_data(of(s)), branch = random_data(of(s)), w = random_data({s.at("C")}), b = random_data({s.at("C")});
        Tensor sum = random_data(of(s)), y = random_data(of(s)), mean({s.at("R")}), rstd({s.at("R")});
        return {[=]() mutable { kernels().residual_layer_norm_forward_f32(x, branch, w, b, 1e-5f, sum, y, mean, rstd); }, {2 * size(s), 2 * size(s)}};
    }));
    all.push_back(maker("layer_norm_backward_f32", rows, narrow, 14, [=](const WorkShape &s) -> Made {
        const Tensor x = random_data(of(s)), w = random_data({s.at("C")}), mean = random_data({s.at("R")}), rstd = random_data({s.at("R")}), dy = random_data(of(s)), other = random_data(of(s));
        Tensor dx = random_data(of(s));
        return {[=]() mutable { kernels().layer_norm_backward_f32(x, w, mean, rstd, dy, other, dx); }, {3 * size(s), size(s)}};
    }));
    all.push_back(maker("layer_norm_parameters_backward_f32", rows, narrow, 5, [=](const WorkShape &s) -> Made {
        const Tensor x = random_data(of(s)), mean = random_data({s.at("R")}), rstd = random_data({s.at("R")}), dy = random_data(of(s));
        Tensor dw({s.at("C")}), db({s.at("C")});
        return {[=]() mutable { kernels().layer_norm_parameters_backward_f32(x, mean, rstd, dy, 0, dw, db); }, {2 * size(s), 0}};
    }));
    all.push_back(maker("gelu_forward_f32", rows, hidden, 20, [=](const WorkShape &s) -> Made {
        const Tensor x = random_data(of(s));
        Tensor y = random_data(of(s));
        return {[=]() mutable { kernels().gelu_forward_f32(x, y); }, {size(s), size(s)}};
    }));
    all.push_back(maker("gelu_backward_f32", rows, hidden, 35, [=](const WorkShape &s) -> Made {
        const Tensor x = random_data(of(s)), dy = random_data(of(s));
        Tensor dx = random_data(of(s));
        return {[=]() mutable { kernels().gelu_backward_f32(x, dy, dx); }, {2 * size(s), size(s)}};
    }));
    all.push_back(maker("add_f32", rows, narrow, 1, [=](const WorkShape &s) -> Made {
        const Tensor x = random_data(of(s)), y = random_data(of(s));
        Tensor z = random_data(of(s));
        return {[=]() mutable { kernels().add_f32(x, y, z); }, {2 * size(s), size(s)}};
    }));
    all.push_back(maker("column_sum_f32", rows, hidden, 1, [=](const WorkShape &s) -> Made {
        const Tensor x = random_data(of(s));
        Tensor y({s.at("C")});
        return {[=]() mutable { kernels().column_sum_f32(x, 0, y); }, {size(s), 0}};
    }));
    all.push_back(maker("dropout_f32", rows, narrow, 30, [=](const WorkShape &s) -> Made {
        const Tensor x = random_data(of(s));
        Tensor y = random_data(of(s));
        return {[=]() mutable { kernels().dropout_f32(x, 1, 2, 3, 4, 0, 0.1f, y); }, {size(s), size(s)}};
    }));
    all.push_back(maker("dropout_residual_f32", rows, narrow, 31, [=](const WorkShape &s) -> Made {
        const Tensor x = random_data(of(s)), other = random_data(of(s));
        Tensor y = random_data(of(s));
        return {[=]() mutable { kernels().dropout_residual_f32(x, other, 1, 2, 3, 4, 0, 0.1f, y); }, {2 * size(s), size(s)}};
    }));
    all.push_back(maker("softmax_cross_entropy_f32", {"R", "V"}, {{{"R", 1024}, {"V", 8192}}, {{"R", 512}, {"V", 256}}}, 12, [](const WorkShape &s) -> Made {
        const Shape shape = {s.at("R"), s.at("V")};
        const Tensor logits = random_data(shape), targets = random_tokens({s.at("R")}, int32_t(s.at("V")));
        Tensor loss({s.at("R")}), gradient = random_data(shape);
        const auto arena = std::make_shared<Arena>();
        const double elements = double(s.at("R")) * double(s.at("V"));
        return {[=]() mutable { softmax_cross_entropy(logits, targets, 0.0f, 1.0f, loss, gradient, *arena); }, {elements, elements}};
    }));
    all.back().kernels = {"softmax_pieces_f32", "softmax_from_pieces_f32"};
    all.push_back(maker("softmax_cross_entropy_loss_f32", {"R", "V"}, {{{"R", 1024}, {"V", 8192}}, {{"R", 512}, {"V", 256}}}, 10, [](const WorkShape &s) -> Made {
        const Tensor logits = random_data({s.at("R"), s.at("V")}), targets = random_tokens({s.at("R")}, int32_t(s.at("V")));
        Tensor loss({s.at("R")});
        return {[=]() mutable { kernels().softmax_cross_entropy_loss_f32(logits, targets, 0.0f, loss); }, {double(logits.elements()), 0}};
    }));
    all.push_back(maker("embedding_forward_f32", {"B", "T", "C"}, {{{"B", 2}, {"T", 1024}, {"C", 256}}}, 1, [](const WorkShape &s) -> Made {
        const Tensor tokens = random_tokens({s.at("B"), s.at("T")}, 256), weight = random_data({256, s.at("C")}), position = random_data({s.at("T"), s.at("C")});
        Tensor y = random_data({s.at("B"), s.at("T"), s.at("C")});
        return {[=]() mutable { kernels().embedding_forward_f32(tokens, weight, position, y); }, {0, double(y.elements())}};
    }));
    all.push_back(maker("embedding_backward_f32", {"B", "T", "C"}, {{{"B", 2}, {"T", 1024}, {"C", 256}}}, 1, [](const WorkShape &s) -> Made {
        const Tensor tokens = random_tokens({s.at("B"), s.at("T")}, 256), dy = random_data({s.at("B"), s.at("T"), s.at("C")});
        Tensor dweight({256, s.at("C")});
        return {[=]() mutable { kernels().embedding_backward_f32(tokens, dy, 0, dweight); }, {double(dy.elements()), 0}};
    }));
    all.push_back(maker("position_backward_f32", {"B", "T", "C"}, {{{"B", 2}, {"T", 1024}, {"C", 256}}}, 1, [](const WorkShape &s) -> Made {
        const Tensor dy = random_data({s.at("B"), s.at("T"), s.at("C")});
        Tensor dposition({s.at("T"), s.at("C")});
        return {[=]() mutable { kernels().position_backward_f32(dy, 0, dposition); }, {double(dy.elements()), double(dposition.elements())}};
    }));
    all.push_back(maker("adamw_f32", {"N"}, {{{"N", 10'000'000}}, {{"N", 30'352'128}}}, 14, [](const WorkShape &s) -> Made {
        Tensor p = random_data({s.at("N")}), m = random_data({s.at("N")}), v = random_data({s.at("N")}), g = random_data({s.at("N")});
        for (int64_t n = 0; n < v.elements(); n++) v.data()[n] *= v.data()[n];
        const double N = double(s.at("N"));
        return {[=]() mutable { kernels().adamw_f32(1e-3f, 0.9f, 0.999f, 1e-8f, 0.1f, 0.1f, 0.001f, 1.0f, p, m, v, g); }, {4 * N, 4 * N, 4 * N}};
    }));
    all.push_back(maker("sum_of_squares_f32", {"N"}, {{{"N", 10'000'000}}, {{"N", 30'352'128}}}, 2, [](const WorkShape &s) -> Made {
        const Tensor x = random_data({s.at("N")});
        Tensor y({(s.at("N") + 4095) / 4096});
        return {[=]() mutable { kernels().sum_of_squares_f32(x, y); }, {double(s.at("N")), 0}};
    }));
    return all;
});

}  // namespace
}  // namespace aft::tool
