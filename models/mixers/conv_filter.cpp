#include "models/mixers/conv_filter.h"

#include <algorithm>
#include <cmath>


namespace aft {
namespace {

constexpr double epsilon = 1e-5;
constexpr double smallest_exponent = -87.3;  // as exp_clamped of generators/vector_math.h

// A head's filter and its moments.
struct Normalised {
    std::vector<double> x;  // (f - mean) / deviation
    double deviation;

    explicit Normalised(const float *filter, int64_t taps) : x(filter, filter + taps) {
        double mean = 0, variance = 0;
        for (double f : x) mean += f / double(taps);
        for (double f : x) variance += (f - mean) * (f - mean) / double(taps);
        deviation = std::sqrt(variance + epsilon);
        for (double &f : x) f = (f - mean) / deviation;
    }
};

}  // namespace

ConvFilterTaps::ConvFilterTaps(const MixerTensors &in, bool causal)
    : heads(in.filter.size(0)), taps(in.filter.size(1)), before(causal ? taps - 1 : taps / 2), causal(causal), w(size_t(heads * taps)), reference(size_t(heads)) {
    for (int64_t h = 0; h < heads; h++) {
        const float *filter = in.filter.data() + h * in.filter.stride(0);
        double *to = w.data() + h * taps;
        if (in.gamma.defined()) {
            const Normalised normal(filter, taps);
            for (int64_t j = 0; j < taps; j++) to[j] = double(in.gamma.data()[h]) * normal.x[size_t(j)] + in.beta.data()[h];
        } else {
            std::copy_n(filter, taps, to);
        }
        const double high = std::max(0.0, *std::max_element(to, to + taps)), low = std::min(0.0, *std::min_element(to, to + taps));
        reference[size_t(h)] = high;
        spread = std::max(spread, high - low);
    }
}

float ConvFilterTaps::weight(int64_t head, int64_t tap) const { return float(std::exp(std::max(smallest_exponent, row(head)[tap] - reference[size_t(head)]))); }
float ConvFilterTaps::far(int64_t head) const { return float(std::exp(std::max(smallest_exponent, -reference[size_t(head)]))); }

void ConvFilterTaps::add_gradient(const MixerTensors &in, const std::vector<double> &dw, MixerTensors &gradient) const {
    for (int64_t h = 0; h < heads; h++) {
        const double *d = dw.data() + h * taps;
        float *to = gradient.filter.defined() ? gradient.filter.data() + h * gradient.filter.stride(0) : nullptr;
        if (!in.gamma.defined()) {
            for (int64_t j = 0; to && j < taps; j++) to[j] = float(to[j] + d[j]);
            continue;
        }
        const Normalised normal(in.filter.data() + h * in.filter.stride(0), taps);
        double sum = 0, along = 0;
        for (int64_t j = 0; j < taps; j++) sum += d[j], along += d[j] * normal.x[size_t(j)];
        if (gradient.beta.defined()) gradient.beta.data()[h] = float(gradient.beta.data()[h] + sum);
        if (gradient.gamma.defined()) gradient.gamma.data()[h] = float(gradient.gamma.data()[h] + along);
        for (int64_t j = 0; to && j < taps; j++)
            to[j] = float(to[j] + in.gamma.data()[h] / normal.deviation * (d[j] - sum / double(taps) - normal.x[size_t(j)] * along / double(taps)));
    }
}

void ConvBias::row(int64_t t, int64_t head, int64_t keys, double *w) const {
    std::fill_n(w, keys, 0.0);
    for (int64_t j = 0; j < filter_.taps; j++)
        if (const int64_t key = t + j - filter_.before; key >= 0 && key < keys) w[key] = filter_.row(head)[j];
}

void ConvBias::add_gradient(const PairRows &dw) {
    if (!dw_) return;
    for (size_t n = 0; n < dw.times.size(); n++)
        for (int64_t h = 0; h < filter_.heads; h++)
            for (int64_t j = 0; j < filter_.taps; j++)
                if (const int64_t key = dw.times[n] + j - filter_.before; key >= 0 && key < dw.keys(n)) (*dw_)[size_t(h * filter_.taps + j)] += dw.row(n, h)[key];
}

}  // namespace aft
