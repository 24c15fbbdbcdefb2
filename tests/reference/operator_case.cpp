#include "tests/reference/operator_case.h"

#include <algorithm>
#include <cmath>
#include <random>

#include "aft/error.h"
#include "aft/threads.h"
#include "runtime/memory_checks.h"

namespace aft::reference {
namespace {

constexpr double epsilon = 0x1p-24, floor_error = 1e-30;

std::vector<std::function<std::vector<OperatorCase>()>> &makers() {
    static std::vector<std::function<std::vector<OperatorCase>()>> makers;
    return makers;
}

std::string place(const std::string &name, const Shape &shape, size_t n) {
    std::string index;
    for (size_t axis = shape.size(); axis-- > 0;) {
        index = std::to_string(n % size_t(shape[axis])) + (index.empty() ? "" : ", ") + index;
        n /= size_t(shape[axis]);
    }
    return name + "[" + index + "]";
}

void fail(Check &check, const std::string &message) {
    if (check.passed) check.message = message;
    check.passed = false;
}

// Restores what a check changes.
struct Settings {
    bool checks = memory_checks();
    int threads = thread_count();
    ~Settings() { set_memory_checks(checks), set_thread_count(threads); }
};

}  // namespace

Array::Array(Shape s, double value) : shape(std::move(s)) {
    int64_t total = 1;
    for (int64_t size : shape) total *= size;
    values.assign(size_t(total), value);
}

RegisterCases::RegisterCases(std::function<std::vector<OperatorCase>()> make) { makers().push_back(std::move(make)); }

const std::vector<OperatorCase> &operator_cases() {
    static const std::vector<OperatorCase> cases = [] {
        std::vector<OperatorCase> all;
        for (const auto &make : makers())
            for (OperatorCase &c : make()) all.push_back(std::move(c));
        std::ranges::sort(all, {}, &OperatorCase::name);
        return all;
    }();
    return cases;
}

Tensor random_tensor(Shape shape, double scale, uint64_t seed) {
    Tensor x(std::move(shape));
    std::mt19937_64 engine(seed);
    std::normal_distribution<double> normal(0, 1);
    for (int64_t n = 0; n < x.elements(); n++) x.data()[n] = float(scale * normal(engine));
    return x;
}

Array to_array(const Tensor &tensor) {
    Array array(tensor.shape());
    const Tensor dense = tensor.contiguous() ? tensor : tensor.clone();
    for (size_t n = 0; n < array.size(); n++) {
        switch (dense.dtype()) {
            case DType::f32: array[n] = dense.data<float>()[n]; break;
            case DType::f64: array[n] = dense.data<double>()[n]; break;
            case DType::i32: array[n] = dense.data<int32_t>()[n]; break;
            case DType::i64: array[n] = double(dense.data<int64_t>()[n]); break;
            case DType::u8: array[n] = dense.data<uint8_t>()[n]; break;
        }
    }
    return array;
}

Arrays to_arrays(const Tensors &tensors) {
    Arrays arrays;
    for (const auto &[name, tensor] : tensors) arrays[name] = to_array(tensor);
    return arrays;
}

Check check_against_oracle(const OperatorCase &c) {
    const Settings settings;
    set_memory_checks(true);
    const int64_t violations = guard_violations();
    Check check;
    Results expected;
    {
        const Tensors inputs = c.inputs();
        const Arrays before = to_arrays(inputs);
        const Tensors found = c.run(inputs);
        expected = c.oracle(before);
        for (const auto &[name, tensor] : inputs) {
            const Array after = to_array(tensor);
            if (!std::ranges::equal(after.values, before.at(name).values)) fail(check, "the input " + name + " was changed");
        }
        for (const auto &[name, result] : expected) {
            if (!found.contains(name)) {
                fail(check, "no result " + name);
                continue;
            }
            const Array fast = to_array(found.at(name));
            if (fast.shape != result.value.shape) {
                fail(check, name + " has shape " + to_string(fast.shape) + ", not " + to_string(result.value.shape));
                continue;
            }
            for (size_t n = 0; n < fast.size(); n++) {
                const double error = std::abs(fast[n] - result.value[n]);
                const double allowed = epsilon * c.bound * result.magnitude[n] + floor_error;
                if (error / allowed > check.worst) check.worst = error / allowed;
                if (!(error <= allowed))
                    fail(check, place(name, fast.shape, n) + " = " + std::to_string(fast[n]) + ", the oracle says " + std::to_string(result.value[n]) +
                                    "; error " + std::to_string(error / (epsilon * result.magnitude[n] + floor_error)) + " epsilon, allowed " + std::to_string(c.bound));
            }
        }
    }
    if (guard_violations() != violations) fail(check, "memory outside a tensor was written");
    return check;
}

Check check_determinism(const OperatorCase &c) {
    const Settings settings;
    Check check;
    const Tensors inputs = c.inputs();
    set_thread_count(1);
    const Tensors expected = c.run(inputs);
    for (int threads : {2, 5}) {
        set_thread_count(threads);
        const Tensors found = c.run(inputs);
        for (const auto &[name, tensor] : expected) {
            const Array one = to_array(tensor), other = to_array(found.at(name));
            for (size_t n = 0; n < one.size(); n++)
                if (!(one[n] == other[n])) fail(check, place(name, one.shape, n) + " differs between 1 and " + std::to_string(threads) + " threads");
        }
    }
    return check;
}

Check check_finite_differences(const OperatorCase &c) {
    Check check;
    Arrays inputs = to_arrays(c.inputs());
    const Results base = c.oracle(inputs);
    const Array &dy = inputs.at("output_gradient");
    const auto loss = [&] {
        const Results r = c.oracle(inputs);
        const Array &y = r.at("output").value;
        double sum = 0;
        for (size_t n = 0; n < y.size(); n++) sum += y[n] * dy[n];
        return sum;
    };
    for (const std::string &name : c.differentiable) {
        Array &x = inputs.at(name);
        const Result &gradient = base.at(name + "_gradient");
        const size_t stride = std::max<size_t>(1, x.size() / 24);  // a sample; prime steps would do no better
        for (size_t n = 0; n < x.size(); n += stride) {
            const double at = x[n], h = 1e-5 * std::max(1.0, std::abs(at));
            x[n] = at + h;
            const double above = loss();
            x[n] = at - h;
            const double below = loss();
            x[n] = at;
            const double slope = (above - below) / (2 * h), error = std::abs(slope - gradient.value[n]);
            // Rounding of the loss (1e-16 of its terms over h) and the cubic term of the expansion.
            const double allowed = 1e-6 * (gradient.magnitude[n] + 1e-3);
            check.worst = std::max(check.worst, error / allowed);
            if (!(error <= allowed))
                fail(check, place(name + "_gradient", x.shape, n) + " = " + std::to_string(gradient.value[n]) + ", finite differences say " + std::to_string(slope));
        }
    }
    return check;
}

}  // namespace aft::reference
