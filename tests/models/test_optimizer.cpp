// AdamW over flat buffers against a plain loop in double.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "aft/error.h"
#include "aft/threads.h"
#include "models/training/optimizer.h"
#include "runtime/random.h"

namespace aft {
namespace {

struct Reference {
    std::vector<double> p, m, v;
    double step(const Tensor &gradient, int64_t decayed, const AdamWOptions &o, double rate, int64_t t) {
        double norm = 0;
        for (size_t n = 0; n < p.size(); n++) norm += double(gradient.data()[n]) * double(gradient.data()[n]);
        norm = std::sqrt(norm);
        const double scale = o.clip > 0 && norm > o.clip ? o.clip / norm : 1;
        for (size_t n = 0; n < p.size(); n++) {
            const double g = scale * double(gradient.data()[n]);
            m[n] = o.beta1 * m[n] + (1 - o.beta1) * g, v[n] = o.beta2 * v[n] + (1 - o.beta2) * g * g;
            const double m_hat = m[n] / (1 - std::pow(o.beta1, double(t))), v_hat = v[n] / (1 - std::pow(o.beta2, double(t)));
            p[n] -= rate * ((int64_t(n) < decayed ? o.weight_decay : 0) * p[n] + m_hat / (std::sqrt(v_hat) + o.epsilon));
        }
        return norm;
    }
};

void expect_trajectory(int64_t N, int64_t decayed, const AdamWOptions &options) {
    Tensor values({N}), gradients({N});
    fill_normal(values, 0, 1, 1, 1);
    Reference reference{std::vector<double>(values.data(), values.data() + N), std::vector<double>(size_t(N)), std::vector<double>(size_t(N))};
    AdamW optimizer(N, decayed, options);
    for (int64_t t = 1; t <= 30; t++) {
        fill_normal(gradients, 0, t % 3 == 0 ? 1 : 0.01, uint64_t(t), 2);
        const double rate = 1e-2, norm = reference.step(gradients, decayed, options, rate, t);
        EXPECT_NEAR(optimizer.step(values, gradients, rate, t) / norm, 1, 1e-6);
        for (int64_t n = 0; n < N; n++) ASSERT_EQ(gradients.data()[n], 0);
    }
    // 30 steps of at most some 1e-2, each right to 1e-6 (the bias correction of v divides by 1 - 0.999^t in float betas).
    for (int64_t n = 0; n < N; n++) ASSERT_NEAR(values.data()[n], reference.p[size_t(n)], 1e-5) << n;
}

TEST(AdamW, FollowsThePlainLoop) { expect_trajectory(10001, 6000, {.weight_decay = 0.5}); }
TEST(AdamW, ClipsByTheNormOfTheWholeGradient) { expect_trajectory(5000, 0, {.clip = 1}); }
TEST(AdamW, DecaysEverythingOrNothing) {
    expect_trajectory(33, 33, {.weight_decay = 0.1});
    expect_trajectory(33, 0, {.weight_decay = 0.1});
}

TEST(AdamW, BitsDoNotDependOnThreads) {
    std::vector<float> found[2];
    const int before = thread_count();
    for (int threads : {1, 2}) {
        set_thread_count(threads);
        Tensor values({100003}), gradients({100003});
        fill_normal(values, 0, 1, 1, 1), fill_normal(gradients, 0, 1, 1, 2);
        AdamW optimizer(100003, 70000, {.weight_decay = 0.1, .clip = 1});
        optimizer.step(values, gradients, 1e-3, 1);
        found[threads - 1].assign(values.data(), values.data() + 100003);
    }
    set_thread_count(before);
    EXPECT_EQ(found[0], found[1]);
}

TEST(AdamW, ChangesNothingForANormThatIsNotFinite) {
    Tensor values({100}), gradients({100});
    values.fill(1), gradients.fill(2);
    gradients.data()[50] = std::numeric_limits<float>::quiet_NaN();
    AdamW optimizer(100, 50, {.weight_decay = 0.1, .clip = 1});
    EXPECT_FALSE(std::isfinite(optimizer.step(values, gradients, 1e-3, 1)));
    for (int n = 0; n < 100; n++) ASSERT_TRUE(values.data()[n] == 1 && optimizer.first_moment().data()[n] == 0);
    EXPECT_EQ(gradients.data()[0], 2);
}

TEST(AdamW, RefusesImpossibleNumbers) {
    EXPECT_THROW(AdamW(10, 11, {}), Error);
    EXPECT_THROW(AdamW(10, 5, {.beta1 = 1}), Error);
    EXPECT_THROW(AdamW(10, 5, {.beta2 = -0.1}), Error);
    EXPECT_THROW(AdamW(10, 5, {.epsilon = 0}), Error);
    EXPECT_THROW(AdamW(10, 5, {.clip = -1}), Error);
    AdamW optimizer(10, 5, {});
    Tensor right({10}), wrong({9});
    right.fill(0), wrong.fill(0);
    EXPECT_THROW(optimizer.step(wrong, right, 1e-3, 1), Error);
    EXPECT_THROW(optimizer.step(right, wrong, 1e-3, 1), Error);
    EXPECT_THROW(optimizer.step(right, right, 1e-3, 0), Error);
}

}  // namespace
}  // namespace aft
