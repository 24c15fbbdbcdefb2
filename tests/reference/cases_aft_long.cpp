// AFT-full (factorised bias, d' = 64) and AFT-local at T = 65,536: `aft verify --large` and the long tests. Both must stay within
// 1 GiB beyond their inputs and outputs.
//
// The plain oracle would take hours: T^2 C = 2.7e11 exps. So the output gradient is zero but for some rows, spread over the
// sequence; these rows' outputs, and all gradients, are then sums over a few rows t and every key, which double loops can do.
#include <cmath>

#include "aft/error.h"
#include "tests/reference/aft_oracle.h"

namespace aft::reference {
namespace {

constexpr int64_t T = 65536, C = 64, D = 64;
constexpr size_t most_bytes = size_t(1) << 30;

// The first and the last, their neighbours, both sides of powers of two, and one in between.
const std::vector<int64_t> rows = {0, 1, 31, 32, 4095, 4096, 10007, 32767, 32768, 50000, 65504, 65534, 65535};

struct Long {
    MixerKind kind;
    int64_t window;
    bool causal;
    bool hard;  // keys +-80 and a huge last one
};

Tensors inputs(const Long &f) {
    Tensors in = {{"query", random_tensor({1, T, C}, 1, 1)}, {"key", random_tensor({1, T, C}, f.hard ? 80 : 1, 2)}, {"value", random_tensor({1, T, C}, 1, 3)},
                  {"output_gradient", Tensor({1, T, C})}, {"bias_u", random_tensor({T, D}, 0.35, 5)}, {"bias_v", random_tensor({T, D}, 0.35, 6)}};
    if (f.hard)
        for (int64_t c = 0; c < C; c++) in["key"].data()[(T - 1) * C + c] = 9000;
    const Tensor gradient = random_tensor({int64_t(rows.size()), C}, 1, 4);
    in["output_gradient"].fill(0);
    for (size_t n = 0; n < rows.size(); n++) in["output_gradient"].slice(1, rows[n], rows[n] + 1).copy_from(gradient.slice(0, int64_t(n), int64_t(n) + 1).reshape({1, 1, C}));
    return in;
}

Tensors run(const Long &f, const Tensors &in) {
    MixerTensors x, dx;
    const std::pair<const char *, Tensor MixerTensors::*> members[] = {{"query", &MixerTensors::query}, {"key", &MixerTensors::key}, {"value", &MixerTensors::value},
                                                                       {"bias_u", &MixerTensors::bias_u}, {"bias_v", &MixerTensors::bias_v}};
    Tensors out;
    for (const auto &[name, member] : members) {
        x.*member = in.at(name), dx.*member = Tensor(in.at(name).shape());
        (dx.*member).fill(0);
        out[std::string(name) + "_gradient"] = dx.*member;
    }
    const auto mixer = make_mixer({f.kind, f.causal, f.window});
    Arena arena;
    MixerSaved saved;
    Tensor output({1, T, C}), sample({int64_t(rows.size()), C});
    mixer->forward(x, output, saved, arena);
    mixer->backward(x, output, saved, in.at("output_gradient"), dx, arena);
    if (arena.peak() > most_bytes) throw Error("the operator held " + std::to_string(arena.peak() >> 20) + " MiB beyond its inputs and outputs; 1,024 are allowed");
    for (size_t n = 0; n < rows.size(); n++) sample.slice(0, int64_t(n), int64_t(n) + 1).copy_from(output.slice(1, rows[n], rows[n] + 1).reshape({1, C}));
    out["output"] = sample;
    return out;
}

Results oracle(const Long &f, const Arrays &in) {
    const Array &query = in.at("query"), &key = in.at("key"), &value = in.at("value"), &u = in.at("bias_u"), &v = in.at("bias_v"), &dy = in.at("output_gradient");
    Results out;
    out["output"] = Result({int64_t(rows.size()), C});
    for (const char *name : {"query", "key", "value", "bias_u", "bias_v"}) out[std::string(name) + "_gradient"] = Result(in.at(name).shape);
    const auto add = [&](const char *name, size_t at, double x, double magnitude) {
        Result &r = out[name];
        r.value[at] += x, r.magnitude[at] += magnitude;
    };
    Result &dk = out["key_gradient"], &dv = out["value_gradient"];
    std::vector<double> w(T), dw(T), dw_magnitude(T);
    for (size_t n = 0; n < rows.size(); n++) {
        const int64_t t = rows[n], keys = f.causal ? t + 1 : T;
        for (int64_t k = 0; k < keys; k++) {
            double sum = 0;
            if (f.kind == MixerKind::full || std::abs(t - k) < f.window)
                for (int64_t d = 0; d < D; d++) sum += u[size_t(t * D + d)] * v[size_t(k * D + d)];
            w[size_t(k)] = sum, dw[size_t(k)] = dw_magnitude[size_t(k)] = 0;
        }
        for (int64_t c = 0; c < C; c++) {
            const size_t at = size_t(t * C + c);
            double top = -1e300, num = 0, den = 0, absolute = 0;
            for (int64_t k = 0; k < keys; k++) top = std::max(top, key[size_t(k * C + c)] + w[size_t(k)]);
            for (int64_t k = 0; k < keys; k++) {
                const double e = std::exp(key[size_t(k * C + c)] + w[size_t(k)] - top), x = value[size_t(k * C + c)];
                num += e * x, den += e, absolute += e * std::abs(x);
            }
            const double gate = 1 / (1 + std::exp(-query[at])), ratio = num / den, d_ratio = dy[at] * gate;
            out["output"].value[n * C + size_t(c)] = gate * ratio, out["output"].magnitude[n * C + size_t(c)] = gate * absolute / den;
            add("query_gradient", at, dy[at] * ratio * gate * (1 - gate), std::abs(dy[at]) * gate * (1 - gate) * absolute / den);
            for (int64_t k = 0; k < keys; k++) {
                const size_t from = size_t(k * C + c);
                const double p = std::exp(key[from] + w[size_t(k)] - top) / den, d = p * d_ratio * (value[from] - ratio);
                const double magnitude = p * std::abs(d_ratio) * (std::abs(value[from]) + std::abs(ratio));
                dv.value[from] += p * d_ratio, dv.magnitude[from] += p * std::abs(d_ratio);
                dk.value[from] += d, dk.magnitude[from] += magnitude;
                dw[size_t(k)] += d, dw_magnitude[size_t(k)] += magnitude;
            }
        }
        for (int64_t k = 0; k < keys; k++) {
            if (f.kind == MixerKind::local && std::abs(t - k) >= f.window) continue;
            for (int64_t d = 0; d < D; d++) {
                const size_t at_u = size_t(t * D + d), at_v = size_t(k * D + d);
                add("bias_u_gradient", at_u, dw[size_t(k)] * v[at_v], dw_magnitude[size_t(k)] * std::abs(v[at_v]));
                add("bias_v_gradient", at_v, dw[size_t(k)] * u[at_u], dw_magnitude[size_t(k)] * std::abs(u[at_u]));
            }
        }
    }
    return out;
}

OperatorCase long_case(const Long &f) {
    OperatorCase c;
    c.name = std::string("aft_") + name_of(f.kind) + (f.kind == MixerKind::local ? " window=" + std::to_string(f.window) : "") + (f.causal ? " causal" : " bidirectional") +
             " factors=64 B=1 T=65536 C=64" + (f.hard ? " keys=80,last=9000" : " keys=1");
    c.kernels = {f.kind == MixerKind::full ? "aft_full_pairs_f32" : f.causal ? "aft_window_causal_forward_f32" : "aft_window_both_forward_f32"};
    c.bound = aft_bound(T);
    c.large = true;
    c.inputs = [=] { return inputs(f); };
    c.run = [=](const Tensors &in) { return run(f, in); };
    c.oracle = [=](const Arrays &in) { return oracle(f, in); };
    return c;
}

const RegisterCases registered([] {
    std::vector<OperatorCase> cases;
    for (bool causal : {true, false}) {
        for (bool hard : {false, true}) cases.push_back(long_case({MixerKind::local, 32, causal, hard}));
        cases.push_back(long_case({MixerKind::full, 0, causal, false}));
    }
    return cases;
});

}  // namespace
}  // namespace aft::reference
