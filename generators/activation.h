// Elementwise kernels on [R, C], and the column sum that makes a bias gradient. The elementwise ones may work in place: the
// result may be the memory of an argument.
//
//   gelu_forward   y = x Phi(x)                     gelu_backward   dx = dy (Phi(x) + x phi(x))
//   add            z = x + y                        column_sum      y[c] = (accumulate ? y[c] : 0) + sum_r x[r, c]
#pragma once
#include <Halide.h>

#include <functional>

#include "generators/column_sums.h"
#include "generators/request.h"
#include "generators/vector_math.h"

namespace aft {

enum class ElementwiseKind { gelu_forward, gelu_backward, add };

struct Elementwise {
    Halide::Var c{"c"}, r{"r"};
    Halide::Func result{"result"};

    Elementwise(ElementwiseKind kind, Halide::Func x, Halide::Func other) {
        switch (kind) {
            case ElementwiseKind::gelu_forward: result(c, r) = gelu(x(c, r)); break;
            case ElementwiseKind::gelu_backward: result(c, r) = other(c, r) * gelu_and_slope(x(c, r)).slope; break;
            case ElementwiseKind::add: result(c, r) = x(c, r) + other(c, r); break;
        }
    }
};

std::function<void(Elementwise &)> plan_elementwise(const Request &request);
ColumnSumsPlan plan_column_sum(const Request &request);

}  // namespace aft
