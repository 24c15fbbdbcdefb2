#include "runtime/random.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "aft/error.h"

namespace aft {
namespace {

// log x for x > 0 and normal: x = 2^e m, m in [sqrt(1/2), sqrt 2), log m = 2 artanh((m - 1) / (m + 1)) by its series.
double portable_log(double x) {
    const uint64_t bits = std::bit_cast<uint64_t>(x);
    int exponent = int(bits >> 52) - 1022;
    double m = std::bit_cast<double>((bits & 0xFFFFFFFFFFFFFull) | (uint64_t(1022) << 52));  // [1/2, 1)
    if (m < 0.70710678118654752) m *= 2, exponent--;
    const double s = (m - 1) / (m + 1), z = s * s;  // |s| < 0.1716: 12 terms reach 1e-19
    double sum = 0;
    for (int n = 23; n >= 1; n -= 2) sum = sum * z + 1.0 / n;
    return 2 * s * sum + exponent * 0.693147180559945309;
}

template <size_t N>
double polynomial(const double (&coefficients)[N], double x) {
    double sum = 0;
    for (size_t n = N; n-- > 0;) sum = sum * x + coefficients[n];
    return sum;
}

// value(word) for every element, four words at a time.
template <class Value>
void fill(Tensor &x, uint64_t seed, uint32_t stream, Value value) {
    if (!x.contiguous()) {
        Tensor dense(x.shape());
        fill(dense, seed, stream, value);
        x.copy_from(dense);
        return;
    }
    const Philox philox(seed);
    float *out = x.data();
    for (int64_t n = 0; n < x.elements(); n += 4) {
        const uint64_t block = uint64_t(n) / 4;
        const Philox::Words words = philox({uint32_t(block), uint32_t(block >> 32), stream, 0});
        for (int64_t k = 0; k < std::min<int64_t>(4, x.elements() - n); k++) out[n + k] = float(value(words[size_t(k)]));
    }
}

}  // namespace

Philox::Words Philox::operator()(Words counter) const {
    auto [a, b, c, d] = counter;
    auto [k0, k1] = key;
    for (int round = 0; round < 10; round++, k0 += 0x9E3779B9u, k1 += 0xBB67AE85u) {
        const uint64_t first = uint64_t(a) * 0xD2511F53u, second = uint64_t(c) * 0xCD9E8D57u;
        a = uint32_t(second >> 32) ^ b ^ k0, c = uint32_t(first >> 32) ^ d ^ k1;
        b = uint32_t(second), d = uint32_t(first);
    }
    return {a, b, c, d};
}

double Philox::uniform(uint64_t index, uint32_t stream) const {
    return aft::uniform((*this)({uint32_t(index / 4), uint32_t(index / 4 >> 32), stream, 0})[index % 4]);
}

DropoutMask::DropoutMask(uint64_t seed, uint32_t stream, uint32_t step, float probability) : philox(seed), stream(stream), step(step) {
    if (!(probability >= 0 && probability < 1)) throw Error("a dropout probability of " + std::to_string(probability) + " is impossible: give 0 or more, below 1");
    threshold = uint32_t(std::ceil(std::min(probability * 65536.0f, 65535.0f)));
}

bool DropoutMask::keeps(uint32_t row, uint32_t column) const {
    const uint32_t half = column / 8 % 8, word = philox({column / 64 * 8 + column % 8, row, stream, step})[half / 2];
    return (half % 2 ? word >> 16 : word & 0xffff) >= threshold;
}

double uniform(uint32_t word) { return (word + 0.5) * 0x1p-32; }

double normal_quantile(double p) {
    static constexpr double a[] = {3.3871328727963666080e0,  1.3314166789178437745e2, 1.9715909503065514427e3, 1.3731693765509461125e4,
                                   4.5921953931549871457e4,  6.7265770927008700853e4, 3.3430575583588128105e4, 2.5090809287301226727e3};
    static constexpr double b[] = {1.0,                      4.2313330701600911252e1, 6.8718700749205790830e2, 5.3941960214247511077e3,
                                   2.1213794301586595867e4,  3.9307895800092710610e4, 2.8729085735721942674e4, 5.2264952788528545610e3};
    static constexpr double c[] = {1.42343711074968357734e0, 4.63033784615654529590e0, 5.76949722146069140550e0,  3.64784832476320460504e0,
                                   1.27045825245236838258e0, 2.41780725177450611770e-1, 2.27238449892691845833e-2, 7.74545014278341407640e-4};
    static constexpr double d[] = {1.0,                       2.05319162663775882187e0,  1.67638483018380384940e0,  6.89767334985100004550e-1,
                                   1.48103976427480074590e-1, 1.51986665636164571966e-2, 5.47593808499534494600e-4, 1.05075007164441684324e-9};
    static constexpr double e[] = {6.65790464350110377720e0,  5.46378491116411436990e0,  1.78482653991729133580e0,  2.96560571828504891230e-1,
                                   2.65321895265761230930e-2, 1.24266094738807843860e-3, 2.71155556874348757815e-5, 2.01033439929228813265e-7};
    static constexpr double f[] = {1.0,                       5.99832206555887937690e-1, 1.36929880922735805310e-1, 1.48753612908506148525e-2,
                                   7.86869131145613259100e-4, 1.84631831751005468180e-5, 1.42151175831644588870e-7, 2.04426310338993978564e-15};
    const double q = p - 0.5;
    if (std::abs(q) <= 0.425) {
        const double r = 0.180625 - q * q;
        return q * polynomial(a, r) / polynomial(b, r);
    }
    const double r = std::sqrt(-portable_log(q < 0 ? p : 1 - p));
    const double size = r <= 5 ? polynomial(c, r - 1.6) / polynomial(d, r - 1.6) : polynomial(e, r - 5) / polynomial(f, r - 5);
    return q < 0 ? -size : size;
}

void fill_uniform(Tensor &x, double low, double high, uint64_t seed, uint32_t stream) {
    fill(x, seed, stream, [=](uint32_t word) { return low + (high - low) * uniform(word); });
}

void fill_normal(Tensor &x, double mean, double deviation, uint64_t seed, uint32_t stream) {
    fill(x, seed, stream, [=](uint32_t word) { return mean + deviation * normal_quantile(uniform(word)); });
}

}  // namespace aft
