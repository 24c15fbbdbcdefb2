#include "models/training/optimizer.h"

#include <algorithm>
#include <cmath>

#include "aft/error.h"
#include "kernel_table.h"

namespace aft {
namespace {

constexpr int64_t piece = 4096;  // elements summed in float; the pieces are summed in double

void check(bool good, const char *name, double value, const char *wanted) {
    if (!good) throw Error(std::string("AdamW: ") + name + " = " + std::to_string(value) + " is impossible; give " + wanted);
}

}  // namespace

AdamW::AdamW(int64_t parameters, int64_t decayed, AdamWOptions options) : parameters_(parameters), decayed_(decayed), options_(options) {
    check(parameters >= 0, "parameters", double(parameters), "0 or more");
    check(decayed >= 0 && decayed <= parameters, "decayed", double(decayed), "0 to the number of parameters");
    check(options.beta1 >= 0 && options.beta1 < 1, "beta1", options.beta1, "0 or more, below 1");
    check(options.beta2 >= 0 && options.beta2 < 1, "beta2", options.beta2, "0 or more, below 1");
    check(options.epsilon > 0, "epsilon", options.epsilon, "more than 0");
    check(options.weight_decay >= 0, "weight_decay", options.weight_decay, "0 or more");
    check(options.clip >= 0, "clip", options.clip, "0 (off) or more");
    first_moment_ = Tensor({parameters}), second_moment_ = Tensor({parameters}), partial_ = Tensor({(parameters + piece - 1) / piece});
    first_moment_.fill(0), second_moment_.fill(0);
}

double AdamW::norm(const Tensor &gradients) {
    kernels().sum_of_squares_f32(gradients, partial_);
    double sum = 0;
    for (int64_t n = 0; n < partial_.elements(); n++) sum += double(partial_.data()[n]);
    return std::sqrt(sum);
}

double AdamW::step(Tensor &values, Tensor &gradients, double learning_rate, int64_t step) {
    for (const Tensor *x : {&values, &gradients})
        if (x->shape() != Shape{parameters_}) throw Error("AdamW: a buffer of shape " + to_string(x->shape()) + " for " + std::to_string(parameters_) + " parameters");
    check(step >= 1, "step", double(step), "1 or more");
    const double size = norm(gradients);
    if (!std::isfinite(size)) return size;
    const float scale = options_.clip > 0 && size > options_.clip ? float(options_.clip / size) : 1.0f;
    // Corrections of the betas that the kernel works with: 1 - 0.999f is 1.3e-5 off 1 - 0.999.
    const float beta1 = float(options_.beta1), beta2 = float(options_.beta2);
    const float correction1 = float(1 - std::pow(double(beta1), double(step))), correction2 = float(1 - std::pow(double(beta2), double(step)));
    const auto update = [&](int64_t begin, int64_t end, double weight_decay) {
        const auto part = [&](const Tensor &x) { return x.slice(0, begin, end); };
        Tensor p = part(values), m = part(first_moment_), v = part(second_moment_), g = part(gradients);
        kernels().adamw_f32(float(learning_rate), beta1, beta2, float(options_.epsilon), float(weight_decay), correction1, correction2, scale, p, m, v, g);
    };
    update(0, decayed_, options_.weight_decay);
    update(decayed_, parameters_, 0);
    return size;
}

}  // namespace aft
