#include "models/mixers/exact_path.h"

#include <algorithm>
#include <cmath>
#include <span>

#include "models/mixers/mixers.h"
#include "runtime/parallel.h"

namespace aft {
namespace {

constexpr size_t rows_at_once = 64;    // rows of w in double: 64 x T x 8 bytes, read by every column that needs them
constexpr int64_t channels_a_task = 8; // columns of K and V share cache lines; fixed, so that sums keep their order
constexpr int64_t keys_a_task = 64;

const float *at(const Tensor &x, int64_t b, int64_t t) { return x.data() + b * x.stride(0) + t * x.stride(1); }
float *row_of(Tensor &x, int64_t b, int64_t t) { return x.data() + b * x.stride(0) + t * x.stride(1); }

// R = y / sigma(Q). Where y is 0, R may be too small to see in it.
double ratio_of(double y, double query) { return y == 0 ? 0 : y * (1 + std::exp(-query)); }

double sigmoid(double x) { return x < 0 ? std::exp(x) / (1 + std::exp(x)) : 1 / (1 + std::exp(-x)); }

// One exact element: its weights are p[t'] = exp(K[t'] + w[t'] - top) / den.
struct Element {
    int64_t row, b, c;  // row: index into the block's rows
    double top, den, ratio, ratio_gradient;
};

// The elements, and the rows of w of up to rows_at_once rows t that have some.
struct Block {
    PairRows w;
    std::vector<Element> elements;  // by row, b, c
};

struct Sizes {
    int64_t B, T, C, heads, keys;  // keys: columns of K
    explicit Sizes(const ExactProblem &in, const PairBias &bias)
        : B(in.value.size(0)), T(in.value.size(1)), C(in.value.size(2)), heads(bias.heads()), keys(in.key.size(2)) {}
    int64_t head(int64_t c) const { return c * heads / C; }
    int64_t key(int64_t c) const { return c * keys / C; }
    int64_t den(const Tensor &den, int64_t c) const { return c * den.size(2) / C; }  // its column
};

// A column of x in double: contiguous for the loops over keys.
std::vector<double> column(const Tensor &x, int64_t b, int64_t c) {
    std::vector<double> values(static_cast<size_t>(x.size(1)));
    for (size_t t = 0; t < values.size(); t++) values[t] = at(x, b, int64_t(t))[c];
    return values;
}

// Calls visit(block) for blocks of rows with exact elements, in ascending order of t.
template <class IsExact, class Visit>
void each_block(const ExactProblem &in, const PairBias &bias, const IsExact &is_exact, const Visit &visit) {
    const Sizes n(in, bias);
    std::vector<std::vector<Element>> found(size_t(n.T));
    parallel_for(n.T, [&](int64_t t) {
        for (int64_t b = 0; b < n.B; b++) is_exact(b, t, [&](int64_t c) { found[size_t(t)].push_back({0, b, c, 0, 0, 0, 0}); });
    });
    Block block;
    const auto flush = [&] {
        PairRows &w = block.w;
        if (w.times.empty()) return;
        w.heads = n.heads, w.stride = n.T, w.causal = in.causal;
        w.values.assign(w.times.size() * size_t(n.heads * n.T), 0);
        parallel_for(int64_t(w.times.size()), [&](int64_t row) {
            for (int64_t head = 0; head < n.heads; head++) bias.row(w.times[size_t(row)], head, w.keys(size_t(row)), w.row(size_t(row), head));
        });
        visit(block);
        w.times.clear(), block.elements.clear();
    };
    for (int64_t t = 0; t < n.T; t++) {
        if (found[size_t(t)].empty()) continue;
        for (Element e : found[size_t(t)]) e.row = int64_t(block.w.times.size()), block.elements.push_back(e);
        block.w.times.push_back(t);
        if (block.w.times.size() == rows_at_once) flush();
    }
    flush();
}

// Calls visit(b, c, elements of that column in order of t), in parallel over groups of columns.
template <class Visit>
void each_column(Block &block, const Sizes &n, const Visit &visit) {
    const int64_t groups = (n.C + channels_a_task - 1) / channels_a_task;
    std::vector<std::vector<Element *>> of_group(size_t(n.B * groups));
    for (Element &e : block.elements) of_group[size_t(e.b * groups + e.c / channels_a_task)].push_back(&e);
    parallel_for(n.B * groups, [&](int64_t group) {
        auto &elements = of_group[size_t(group)];
        std::ranges::stable_sort(elements, {}, &Element::c);
        for (size_t first = 0, last; first < elements.size(); first = last) {
            for (last = first; last < elements.size() && elements[last]->c == elements[first]->c;) last++;
            visit(elements[first]->b, elements[first]->c, std::span(elements).subspan(first, last - first));
        }
    });
}

// top, den and ratio of an element.
void normalise(Element &e, const double *K, const double *V, const double *w, int64_t keys) {
    e.top = -std::numeric_limits<double>::infinity();
    for (int64_t k = 0; k < keys; k++) e.top = std::max(e.top, K[k] + w[k]);
    double num = 0;
    e.den = 0;
    for (int64_t k = 0; k < keys; k++) {
        const double p = std::exp(K[k] + w[k] - e.top);
        num += p * V[k], e.den += p;
    }
    e.ratio = num / e.den;
}

}  // namespace

void DenseBias::row(int64_t t, int64_t, int64_t keys, double *w) const {
    const float *from = bias_.data() + t * bias_.stride(0);
    for (int64_t k = 0; k < keys; k++) w[k] = std::abs(t - k) < window_ ? from[k] : 0;
}

void DenseBias::add_gradient(const PairRows &dw) {
    if (!gradient_.defined()) return;
    parallel_for(int64_t(dw.times.size()), [&](int64_t n) {
        const int64_t t = dw.times[size_t(n)], keys = dw.keys(size_t(n));
        float *to = gradient_.data() + t * gradient_.stride(0);
        for (int64_t k = 0; k < keys; k++)
            if (std::abs(t - k) < window_) to[k] = float(to[k] + dw.row(size_t(n), 0)[k]);
    });
}

void FactorisedBias::row(int64_t t, int64_t, int64_t keys, double *w) const {
    const float *u = u_.data() + t * u_.stride(0);
    const int64_t D = u_.size(1);
    for (int64_t k = 0; k < keys; k++) {
        w[k] = 0;
        if (std::abs(t - k) >= window_) continue;
        const float *v = v_.data() + k * v_.stride(0);
        for (int64_t d = 0; d < D; d++) w[k] += double(u[d]) * v[d];
    }
}

void FactorisedBias::add_gradient(const PairRows &dw) {
    const int64_t D = u_.size(1), rows = int64_t(dw.times.size());
    const auto inside = [&](int64_t t, int64_t k) { return std::abs(t - k) < window_ && (!dw.causal || k <= t); };
    if (u_gradient_.defined()) {
        parallel_for(rows, [&](int64_t n) {
            const int64_t t = dw.times[size_t(n)];
            std::vector<double> sum(size_t(D), 0);
            for (int64_t k = 0; k < dw.keys(size_t(n)); k++)
                for (int64_t d = 0; d < D && inside(t, k); d++) sum[size_t(d)] += dw.row(size_t(n), 0)[k] * v_.data()[k * v_.stride(0) + d];
            float *to = u_gradient_.data() + t * u_gradient_.stride(0);
            for (int64_t d = 0; d < D; d++) to[d] = float(to[d] + sum[size_t(d)]);
        });
    }
    if (v_gradient_.defined()) {
        parallel_for((dw.stride + keys_a_task - 1) / keys_a_task, [&](int64_t task) {
            std::vector<double> sum(static_cast<size_t>(D));
            for (int64_t k = task * keys_a_task; k < std::min(dw.stride, (task + 1) * keys_a_task); k++) {
                std::ranges::fill(sum, 0);
                for (int64_t n = 0; n < rows; n++) {
                    const int64_t t = dw.times[size_t(n)];
                    for (int64_t d = 0; d < D && inside(t, k); d++) sum[size_t(d)] += dw.row(size_t(n), 0)[k] * u_.data()[t * u_.stride(0) + d];
                }
                float *to = v_gradient_.data() + k * v_gradient_.stride(0);
                for (int64_t d = 0; d < D; d++) to[d] = float(to[d] + sum[size_t(d)]);
            }
        });
    }
}

ExactRule::ExactRule(int64_t B, int64_t T, int64_t C, double key_spread, double bias_spread, double largest_value) {
    // The sum of two exponents stays above the smallest normal number (e^-87.3), or else a factor may be lost whole.
    const double lost = key_spread + bias_spread < 87 ? 0x1p-149 : 0x1p-126;
    const double allowed = 0x1p-101;  // below 1e-30
    least_den = float(std::exp(-key_spread - bias_spread));
    forward_loss_ = double(T) * lost * largest_value;
    forward_limit_ = std::max<double>(smallest, forward_loss_ / allowed);
    gradient_factor = float(std::min(1e38, double(B) * double(T) * double(C) * lost * std::max(1.0, largest_value) / allowed));
}

bool ExactRule::backward(float den, float output_gradient, float output) const {
    const float size = std::abs(output_gradient);
    return den < std::max(smallest, size * gradient_factor) || (size > large_gradient && std::abs(output) < 0x1p-126f);
}

bool ExactRule::forward(float den, float output, float query) const {
    // Comparisons with NaN are false: the NaN of a diverged run passes through instead of taking the slow path everywhere.
    if (!(den < forward_limit_)) return false;
    return den < smallest || forward_loss_ > 0x1p-20 * std::abs(ratio_of(output, query)) * den;
}

int64_t exact_forward(const ExactProblem &in, const PairBias &bias, const ExactRule &rule, Tensor &output, Tensor &den) {
    const Sizes n(in, bias);
    int64_t count = 0;
    const auto is_exact = [&](int64_t b, int64_t t, const auto &found) {
        const float *d = at(den, b, t), *y = at(output, b, t), *query = at(in.query, b, t);
        for (int64_t c = 0; c < n.C; c++)
            if (rule.forward(d[n.den(den, c)], y[c], query[c])) found(c);
    };
    each_block(in, bias, is_exact, [&](Block &block) {
        count += int64_t(block.elements.size());
        each_column(block, n, [&](int64_t b, int64_t c, std::span<Element *> elements) {
            const std::vector<double> K = column(in.key, b, n.key(c)), V = column(in.value, b, c);
            for (Element *e : elements) {
                const size_t row = size_t(e->row);
                const int64_t t = block.w.times[row];
                normalise(*e, K.data(), V.data(), block.w.row(row, n.head(c)), block.w.keys(row));
                row_of(output, b, t)[c] = float(sigmoid(at(in.query, b, t)[c]) * e->ratio);
            }
        });
        // Channels may share a denominator; those that it leaves exact without need are so in backward only.
        for (const Element &e : block.elements) row_of(den, e.b, block.w.times[size_t(e.row)])[n.den(den, e.c)] = 0;
    });
    count_exact_elements(count);
    return count;
}

void exact_backward(const ExactProblem &in, PairBias &bias, const ExactRule &rule, const Tensor &output, const Tensor &output_gradient, const Tensor &den,
                    MixerTensors &gradient) {
    const Sizes n(in, bias);
    const auto is_exact = [&](int64_t b, int64_t t, const auto &found) {
        const float *d = at(den, b, t), *dy = at(output_gradient, b, t), *y = at(output, b, t);
        for (int64_t c = 0; c < n.C; c++)
            if (rule.backward(d[n.den(den, c)], dy[c], y[c])) found(c);
    };
    each_block(in, bias, is_exact, [&](Block &block) {
        count_exact_elements(std::ranges::count_if(block.elements, [&](const Element &e) {
            return at(den, e.b, block.w.times[size_t(e.row)])[n.den(den, e.c)] != 0;  // the others were counted in forward
        }));
        // dK and dV. The channels of a head share its column of K: the head's task adds them in order, so tasks are heads then.
        const bool shared = n.keys != n.C;
        std::vector<double> head_sums(shared ? size_t(n.B * n.C * n.T) : 0);
        each_column(block, n, [&](int64_t b, int64_t c, std::span<Element *> elements) {
            const std::vector<double> K = column(in.key, b, n.key(c)), V = column(in.value, b, c);
            std::vector<double> dK(static_cast<size_t>(n.T)), dV(static_cast<size_t>(n.T));
            for (Element *e : elements) {
                const size_t row = size_t(e->row);
                const int64_t t = block.w.times[row], keys = block.w.keys(row);
                const double *w = block.w.row(row, n.head(c));
                normalise(*e, K.data(), V.data(), w, keys);
                const double query = at(in.query, b, t)[c];
                e->ratio_gradient = sigmoid(query) * at(output_gradient, b, t)[c];
                row_of(gradient.query, b, t)[c] = float(e->ratio_gradient * e->ratio * sigmoid(-query));
                for (int64_t k = 0; k < keys; k++) {
                    const double share = std::exp(K[size_t(k)] + w[k] - e->top) / e->den * e->ratio_gradient;
                    dV[size_t(k)] += share;
                    dK[size_t(k)] += share * (V[size_t(k)] - e->ratio);
                }
            }
            for (int64_t k = 0; k < n.T; k++) {
                float &v = row_of(gradient.value, b, k)[c];
                v = float(v + dV[size_t(k)]);
                if (shared) {
                    head_sums[size_t((b * n.C + c) * n.T + k)] = dK[size_t(k)];
                } else {
                    float &x = row_of(gradient.key, b, k)[c];
                    x = float(x + dK[size_t(k)]);
                }
            }
        });
        if (shared) {
            parallel_for(n.B * n.keys, [&](int64_t column) {
                const int64_t b = column / n.keys, h = column % n.keys, per_head = n.C / n.keys;
                for (int64_t k = 0; k < n.T; k++) {
                    double sum = 0;
                    for (int64_t c = h * per_head; c < (h + 1) * per_head; c++) sum += head_sums[size_t((b * n.C + c) * n.T + k)];
                    float &x = row_of(gradient.key, b, k)[h];
                    x = float(x + sum);
                }
            });
        }

        // dw: each row sums its elements in order; w is replaced by dw.
        PairRows dw = {block.w.times, n.heads, n.T, in.causal, std::vector<double>(block.w.values.size(), 0)};
        std::vector<std::vector<const Element *>> of_row(dw.times.size());
        for (const Element &e : block.elements) of_row[size_t(e.row)].push_back(&e);
        parallel_for(int64_t(dw.times.size()), [&](int64_t row) {
            for (const Element *e : of_row[size_t(row)]) {
                const double *w = block.w.row(size_t(row), n.head(e->c));
                double *to = dw.row(size_t(row), n.head(e->c));
                for (int64_t k = 0; k < dw.keys(size_t(row)); k++) {
                    const double p = std::exp(at(in.key, e->b, k)[n.key(e->c)] + w[k] - e->top) / e->den;
                    to[k] += p * e->ratio_gradient * (at(in.value, e->b, k)[e->c] - e->ratio);
                }
            }
        });
        bias.add_gradient(dw);
    });
}

}  // namespace aft
