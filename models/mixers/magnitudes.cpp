#include "models/mixers/magnitudes.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "models/mixers/cut.h"
#include "runtime/parallel.h"

namespace aft {
namespace {

constexpr int64_t lanes = 16;  // sums or maxima side by side, which the compiler keeps in vectors: one would wait for itself

}  // namespace

double largest_norm(const Tensor &x, int64_t rows) {
    constexpr int64_t task = 64;  // rows
    std::vector<double> most(size_t(ceil_div(rows, task)), 0);
    parallel_for(int64_t(most.size()), [&](int64_t n) {
        for (int64_t t = n * task; t < std::min(rows, (n + 1) * task); t++) {
            const float *row = x.data() + t * x.stride(0);
            float sum[lanes] = {};
            int64_t d = 0;
            for (; d + lanes <= x.size(1); d += lanes)
                for (int64_t j = 0; j < lanes; j++) sum[j] += row[d + j] * row[d + j];
            for (; d < x.size(1); d++) sum[d % lanes] += row[d] * row[d];
            for (int64_t half = lanes / 2; half > 0; half /= 2)  // one after the other they would take as long as the row
                for (int64_t j = 0; j < half; j++) sum[j] += sum[j + half];
            most[size_t(n)] = std::max(most[size_t(n)], double(sum[0]));
        }
    });
    return std::sqrt(*std::max_element(most.begin(), most.end()));
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
