#include "models/mixers/magnitudes.h"

#include <algorithm>
#include <cmath>

#include "kernel_table.h"

namespace aft {
namespace {

constexpr int64_t lanes = 16;  // maxima side by side, which the compiler keeps in vectors: one would wait for itself

}  // namespace

double largest_norm(const Tensor &x, int64_t rows) {
    Tensor squares({rows});
    kernels().sum_of_squares_f32(x.slice(0, 0, rows).reshape({rows * x.size(1)}), squares);  // a row is a piece
    return std::sqrt(double(*std::max_element(squares.data(), squares.data() + rows)));
}

float largest_magnitude(const Tensor &x) {
    float most[lanes] = {};
    for (int64_t b = 0; b < x.size(0); b++)
        for (int64_t t = 0; t < x.size(1); t++) {
            const float *row = x.data() + b * x.stride(0) + t * x.stride(1);
            int64_t c = 0;
            for (; c + lanes <= x.size(2); c += lanes)
                for (int64_t l = 0; l < lanes; l++) most[l] = std::abs(row[c + l]) > most[l] ? std::abs(row[c + l]) : most[l];
            for (; c < x.size(2); c++) most[0] = std::max(most[0], std::abs(row[c]));
        }
    return *std::max_element(most, most + lanes);
}

}  // namespace aft
