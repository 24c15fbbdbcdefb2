// An operator case: one operator at one shape, with its oracle in double. The same case serves as forward check, backward
// check, finite-difference check of the oracle's own gradients, and determinism check (tests/operators), and as a line
// of `aft verify` (tools/verify.cpp).
//
// Results are compared elementwise:  |fast - oracle| <= epsilon * bound * magnitude + 1e-30,  epsilon = 2^-24,
// where magnitude is the sum of the magnitudes that the formula adds (docs/numerics.md).
#pragma once
#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "aft/tensor.h"

namespace aft::reference {

struct Array {  // a dense tensor in double
    Shape shape;
    std::vector<double> values;

    Array() = default;
    explicit Array(Shape shape, double value = 0);
    double &operator[](size_t n) { return values[n]; }
    double operator[](size_t n) const { return values[n]; }
    size_t size() const { return values.size(); }
    int64_t extent(int axis) const { return shape[size_t(axis)]; }
};

struct Result {
    Array value, magnitude;
    Result() = default;
    explicit Result(Shape shape) : value(shape), magnitude(shape) {}
};

using Tensors = std::map<std::string, Tensor>;
using Arrays = std::map<std::string, Array>;
using Results = std::map<std::string, Result>;

struct OperatorCase {
    std::string name;                  // unique: "aft_simple causal B=2 T=33 C=65 keys=80"
    std::vector<std::string> kernels;  // the entries of the kernel list that `run` calls
    std::function<Tensors()> inputs;   // always the same values; "output_gradient" among them when there is a backward
    std::function<Tensors(const Tensors &)> run;    // the fast path, through the library
    std::function<Results(const Arrays &)> oracle;  // plain loops in double: all results of run, "X_gradient" for inputs X
    double bound = 0;                               // in units of epsilon
    std::vector<std::string> differentiable = {};   // inputs whose gradient finite differences of oracle "output" check
    bool large = false;                             // only in `aft verify --large` and the long tests
};

// All cases. Each family registers its own in tests/reference/cases_<family>.cpp:
//     const RegisterCases simple([] { return std::vector<OperatorCase>{...}; });
const std::vector<OperatorCase> &operator_cases();

struct RegisterCases {
    explicit RegisterCases(std::function<std::vector<OperatorCase>()> make);
};

// Normal values times `scale`, from a seed.
Tensor random_tensor(Shape shape, double scale = 1, uint64_t seed = 1);
Array to_array(const Tensor &tensor);  // f32, i32 or u8
Arrays to_arrays(const Tensors &tensors);

struct Check {
    bool passed = true;
    double worst = 0;      // largest |error| / (epsilon * bound * magnitude + 1e-30)
    std::string message;   // of the first failure: result, index, both values, the allowance
};

// Runs the case with memory checks on and compares every result with the oracle's.
Check check_against_oracle(const OperatorCase &c);
// Same bits with 1 and 2 threads.
Check check_determinism(const OperatorCase &c);
// Central differences of sum(output * output_gradient) in double against the oracle's gradients.
Check check_finite_differences(const OperatorCase &c);

}  // namespace aft::reference
