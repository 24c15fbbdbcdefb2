// AFT-full (SPEC F1, F5, F6): dense products of exp(w), shared by the batch and all channels, with exp(K) V and exp(K).
//
// Pairs are cut into tiles of `block` queries x `block` keys. For queries I, E[I, J] = exp(w - r) with r[t] the maximum of w over
// the allowed keys of a row, e_J = exp(K - m) with m the maximum of K over the keys up to the end of I (causal) or over all:
//     [num | den]_I = sum_J E[I, J] [e_J V_J | e_J]
// The causal e_J are made anew for every I: an exp costs what a rescaling pass of stored products would. Backward goes by
// blocks of keys; there the gradients G of later queries are brought to the references of block J by exp(m_J - m_I) <= 1.
// Elements that the factors cannot hold go to the exact path. Formulas: generators/aft_full.h.
#include "models/mixers/full.h"

#include <algorithm>
#include <cmath>

#include "aft/error.h"
#include "kernel_table.h"
#include "models/mixers/exact_path.h"
#include "models/mixers/mixers.h"
#include "runtime/gemm_provider.h"

namespace aft {
namespace {

constexpr float lowest = -3e38f;
constexpr int32_t everything = 1 << 30;  // an offset of the diagonal behind which no key lies

Tensor rows(const Tensor &x, int64_t begin, int64_t end) { return x.slice(0, begin, end); }
Tensor times(const Tensor &x, int64_t begin, int64_t end) { return x.slice(1, begin, end); }  // of [B, T, C]

// [L, B, 2, C]: what a product sees as [L, 2 B C], and its two halves as [B, L, C].
struct Pairs {
    Tensor all;
    Pairs() = default;
    Pairs(Arena &arena, int64_t L, int64_t B, int64_t C) : all(arena.allocate({L, B, 2, C})) {}
    Pairs slice(int64_t begin, int64_t end) const {
        Pairs part;
        part.all = rows(all, begin, end);
        return part;
    }
    Tensor matrix() const { return all.reshape({all.size(0), all.size(1) * 2 * all.size(3)}); }
    Tensor half(int64_t n) const { return all.select(2, n).transpose(0, 1); }
};

// The position bias as tiles E = exp(w - r): dense, or factorised with products in fp32 or, where their rounding would show,
// in double.
class Tiles {
public:
    Tiles(const MixerTensors &in, bool causal, int64_t T, int64_t block) : in_(in), causal_(causal), T_(T), block_(block) {
        if (in.position_bias.defined()) {
            // Halide counts the elements of a buffer in int32.
            if (T > 46340) throw Error("a dense position_bias of " + std::to_string(T) + " x " + std::to_string(T) + " is beyond 2^31 elements: use bias_u and bias_v");
            return;
        }
        const auto largest = [T](const Tensor &x) {
            double most = 0;
            for (int64_t t = 0; t < T; t++) {
                double sum = 0;
                for (int64_t d = 0; d < x.size(1); d++) sum += double(x.data()[t * x.stride(0) + d]) * x.data()[t * x.stride(0) + d];
                most = std::max(most, sum);
            }
            return std::sqrt(most);
        };
        // An fp32 sum of d' products is off by about eps sqrt(d' / 3) |u| |v| / 2, and exp(w) by that factor: at 128 some 40 eps.
        wide_ = largest(in.bias_u) * largest(in.bias_v) * std::sqrt(double(in.bias_u.size(1))) > 128;
    }

    int64_t blocks() const { return (T_ + block_ - 1) / block_; }
    int64_t begin(int64_t n) const { return n * block_; }
    int64_t end(int64_t n) const { return std::min(T_, (n + 1) * block_); }
    int64_t last_key_block(int64_t I) const { return causal_ ? I : blocks() - 1; }

    // r, and the largest max - min of w in a row; then the tiles when they are kept.
    double prepare(Tensor reference, Tensor kept, Arena &arena) {
        reference_ = reference;
        ArenaScope scope(arena);
        Tensor low = arena.allocate({T_}, DType::f64);
        for (int64_t t = 0; t < T_; t++) reference_.data<double>()[t] = lowest, low.data<double>()[t] = -lowest;
        for (int64_t I = 0; I < blocks(); I++)
            for (int64_t J = 0; J <= last_key_block(I); J++) {
                ArenaScope tile_scope(arena);
                // A copy of what came before: a kernel's outputs are not its inputs.
                Tensor high_out = rows(reference_, begin(I), end(I)), low_out = rows(low, begin(I), end(I));
                Tensor high_in = arena.allocate({high_out.size(0)}, DType::f64), low_in = arena.allocate({high_out.size(0)}, DType::f64);
                high_in.copy_from(high_out), low_in.copy_from(low_out);
                const Tensor w = bias(I, J, arena);
                (wide_ ? kernels().aft_full_reference_f64 : kernels().aft_full_reference_f32)(w, high_in, low_in, offset(I, J), high_out, low_out);
            }
        double spread = 0;
        for (int64_t t = 0; t < T_; t++) spread = std::max(spread, reference_.data<double>()[t] - low.data<double>()[t]);
        if (kept.defined()) {
            for (int64_t I = 0; I < blocks(); I++)
                for (int64_t J = 0; J <= last_key_block(I); J++) {
                    ArenaScope tile_scope(arena);
                    Tensor tile = of(kept, I, J);
                    build(I, J, tile, arena);
                }
        }
        return use(reference, kept), spread;
    }

    // Takes what prepare made, in backward.
    void use(Tensor reference, Tensor kept) { reference_ = reference, kept_ = kept; }

    // E[I, J], in arena memory or kept.
    Tensor tile(int64_t I, int64_t J, Arena &arena) {
        if (kept_.defined()) return of(kept_, I, J);
        Tensor made = arena.allocate({end(I) - begin(I), end(J) - begin(J)});
        ArenaScope scope(arena);
        build(I, J, made, arena);
        return made;
    }

    Tensor of(const Tensor &matrix, int64_t I, int64_t J) const { return matrix.slice(0, begin(I), end(I)).slice(1, begin(J), end(J)); }

private:
    int32_t offset(int64_t I, int64_t J) const { return causal_ ? int32_t(begin(I) - begin(J)) : everything; }

    Tensor bias(int64_t I, int64_t J, Arena &arena) const {
        if (in_.position_bias.defined()) return of(in_.position_bias, I, J);
        Tensor w = arena.allocate({end(I) - begin(I), end(J) - begin(J)}, wide_ ? DType::f64 : DType::f32);
        const Tensor u = rows(in_.bias_u, begin(I), end(I)), v = rows(in_.bias_v, begin(J), end(J));
        if (wide_)
            kernels().aft_full_products_f64(u, v, w);
        else
            gemm::nt(u, v, w);
        return w;
    }

    void build(int64_t I, int64_t J, Tensor &out, Arena &arena) const {
        const Tensor w = bias(I, J, arena);
        (wide_ ? kernels().aft_full_weights_f64 : kernels().aft_full_weights_f32)(w, rows(reference_, begin(I), end(I)), offset(I, J), out);
    }

    const MixerTensors &in_;
    bool causal_, wide_ = false;
    int64_t T_, block_;
    Tensor reference_, kept_;
};

// Calls visit(first, last) for groups of sequences whose products have about `columns` columns.
template <class Visit>
void each_group(int64_t B, int64_t C, const Visit &visit) {
    const int64_t group = std::max<int64_t>(1, full_settings().columns / (2 * C));
    for (int64_t b = 0; b < B; b += group) visit(b, std::min(B, b + group));
}

enum Kept { ratio, den, high, reference, facts, weights };  // MixerSaved of this operator; facts: spreads and max |V|

class FullMixer : public Mixer {
public:
    explicit FullMixer(const MixerOptions &options) : Mixer(options) {}

    void forward(const MixerTensors &in, Tensor &output, MixerSaved &saved, Arena &arena) const override {
        check_mixer_tensors(options_, in);
        const int64_t B = in.value.size(0), T = in.value.size(1), C = in.value.size(2);
        const bool keep = T * T * 4 <= full_settings().workspace_bytes;
        Tiles tiles(in, options_.causal, T, block(T, keep));

        saved.tensors = {arena.allocate({B, T, C}), arena.allocate({B, T, C}), arena.allocate({tiles.blocks(), B, C}),
                         arena.allocate({T}, DType::f64), arena.allocate({3}, DType::f64), keep ? arena.allocate({T, T}) : Tensor()};
        ArenaScope scope(arena);
        double *fact = saved.tensors[facts].data<double>();
        range(in, tiles, saved.tensors[high], fact, arena);
        fact[1] = tiles.prepare(saved.tensors[reference], saved.tensors[weights], arena);

        each_group(B, C, [&](int64_t b0, int64_t b1) {
            const auto part = [&](const Tensor &x) { return x.slice(0, b0, b1); };
            const Tensor key = part(in.key), value = part(in.value), m = saved.tensors[high].slice(1, b0, b1);
            ArenaScope group_scope(arena);
            const auto pack = [&](int64_t begin, int64_t end, int64_t I, const Pairs &to) {
                Tensor weighted = to.half(0), plain = to.half(1);
                kernels().aft_full_pack_f32(times(key, begin, end), times(value, begin, end), m.select(0, I), 1, weighted, plain);
            };
            Pairs packed(arena, options_.causal ? tiles.end(0) : T, b1 - b0, C), sums(arena, tiles.end(0), b1 - b0, C);
            if (!options_.causal) pack(0, T, 0, packed);
            for (int64_t I = 0; I < tiles.blocks(); I++) {
                const int64_t begin = tiles.begin(I), end = tiles.end(I);
                const Pairs acc = sums.slice(0, end - begin);
                Tensor acc_matrix = acc.matrix();
                for (int64_t J = 0; J <= tiles.last_key_block(I); J++) {
                    ArenaScope tile_scope(arena);
                    const int64_t first = tiles.begin(J), last = tiles.end(J);
                    const Pairs keys = options_.causal ? packed.slice(0, last - first) : packed.slice(first, last);
                    if (options_.causal) pack(first, last, I, keys);
                    gemm::nn(tiles.tile(I, J, arena), keys.matrix(), acc_matrix, J == 0 ? gemm::Into::overwrite : gemm::Into::add);
                }
                Tensor y = times(part(output), begin, end), R = times(part(saved.tensors[ratio]), begin, end), d = times(part(saved.tensors[den]), begin, end);
                kernels().aft_full_output_f32(times(part(in.query), begin, end), acc.half(0), acc.half(1), y, R, d);
            }
        });
        exact_forward({in.query, in.key, in.value, options_.causal}, *pair_bias(in, {}), rule(saved, B, T, C), output, saved.tensors[ratio], saved.tensors[den]);
    }

    void backward(const MixerTensors &in, const MixerSaved &saved, const Tensor &output_gradient, MixerTensors &gradient, Arena &arena) const override {
        const int64_t B = in.value.size(0), T = in.value.size(1), C = in.value.size(2);
        Tiles tiles(in, options_.causal, T, block(T, saved.tensors[weights].defined()));
        tiles.use(saved.tensors[reference], saved.tensors[weights]);
        const ExactRule exact = rule(saved, B, T, C);

        each_group(B, C, [&](int64_t b0, int64_t b1) {
            const auto part = [&](const Tensor &x) { return x.slice(0, b0, b1); };
            const Tensor m = saved.tensors[high].slice(1, b0, b1);
            ArenaScope group_scope(arena);
            const Pairs g(arena, T, b1 - b0, C);
            {
                Tensor dq = part(gradient.query), plain = g.half(0), with_ratio = g.half(1);
                kernels().aft_full_gate_f32(part(in.query), part(saved.tensors[ratio]), part(saved.tensors[den]), part(output_gradient),
                                            ExactRule::smallest, exact.gradient_factor, dq, plain, with_ratio);
            }
            const Pairs packed(arena, tiles.end(0), b1 - b0, C), sums(arena, tiles.end(0), b1 - b0, C), scaled(arena, tiles.end(0), b1 - b0, C);
            for (int64_t J = 0; J < tiles.blocks(); J++) {
                const int64_t first = tiles.begin(J), last = tiles.end(J);
                const Tensor key = times(part(in.key), first, last), value = times(part(in.value), first, last);
                const Tensor m_keys = m.select(0, options_.causal ? J : 0);
                const Pairs keys = packed.slice(0, last - first), s = sums.slice(0, last - first);
                Tensor weighted = keys.half(0), negative = keys.half(1), s_matrix = s.matrix();
                kernels().aft_full_pack_f32(key, value, m_keys, -1, weighted, negative);
                const int64_t first_query_block = options_.causal ? J : 0;
                for (int64_t I = first_query_block; I < tiles.blocks(); I++) {
                    ArenaScope tile_scope(arena);
                    Pairs from = g.slice(tiles.begin(I), tiles.end(I));
                    if (options_.causal && I > J) {
                        const Pairs to = scaled.slice(0, tiles.end(I) - tiles.begin(I));
                        Tensor plain = to.half(0), with_ratio = to.half(1);
                        kernels().aft_full_rescale_f32(from.half(0), from.half(1), m_keys, m.select(0, I), plain, with_ratio);
                        from = to;
                    }
                    const Tensor E = tiles.tile(I, J, arena);
                    gemm::tn(E, from.matrix(), s_matrix, I == first_query_block ? gemm::Into::overwrite : gemm::Into::add);
                    bias_gradient(in, tiles, I, J, E, from.matrix(), keys.matrix(), gradient, arena);
                }
                Tensor dk = times(part(gradient.key), first, last), dv = times(part(gradient.value), first, last);
                kernels().aft_full_keys_f32(key, value, m_keys, s.half(0), s.half(1), dk, dv);
            }
        });
        exact_backward({in.query, in.key, in.value, options_.causal}, *pair_bias(in, gradient), exact, output_gradient, saved.tensors[den],
                       gradient.key, gradient.value);
    }

    MixerState start(const MixerTensors &, int64_t batch, int64_t channels, int64_t length) const override {
        require_causal();
        return {{Tensor({batch, length, channels}), Tensor({batch, length, channels})}, 0};
    }

    void prefill(const MixerTensors &in, MixerState &state, Arena &) const override {
        require_causal();
        const int64_t T = in.value.size(1);
        require_room(state, T);
        const int64_t begin = state.position, end = begin + T;
        times(state.tensors[0], begin, end).copy_from(in.key);
        times(state.tensors[1], begin, end).copy_from(in.value);
        state.position = end;
    }

    void step(const MixerTensors &in, MixerState &state, Tensor &output, Arena &arena) const override {
        require_causal();
        check_mixer_tensors(options_, in);
        const int64_t t = state.position, keys = t + 1, longest = (in.position_bias.defined() ? in.position_bias : in.bias_u).size(0);
        if (keys > longest) throw Error("AFT-full has no position bias for token " + std::to_string(keys) + ": its bias ends at " + std::to_string(longest));
        prefill(in, state, arena);
        ArenaScope scope(arena);
        Tensor w = arena.allocate({1, keys}, DType::f64);
        if (in.position_bias.defined())
            for (int64_t k = 0; k < keys; k++) w.data<double>()[k] = in.position_bias.data()[t * longest + k];
        else
            kernels().aft_full_products_f64(rows(in.bias_u, t, keys), rows(in.bias_v, 0, keys), w);
        Tensor y = output.select(1, 0);
        kernels().aft_full_step_f32(in.query.select(1, 0), times(state.tensors[0], 0, keys), times(state.tensors[1], 0, keys), w.select(0, 0), y);
    }

private:
    // Bidirectional with kept weights: the references are those of the whole sequence anyway, so one product does it all.
    int64_t block(int64_t T, bool keep) const { return !options_.causal && keep ? T : std::min(T, full_settings().block); }

    // m of each block of queries: over the keys up to its end (causal), or over all in m[0]; the spread of K and max |V|.
    void range(const MixerTensors &in, const Tiles &tiles, Tensor &m, double *fact, Arena &arena) const {
        const int64_t B = in.value.size(0), T = in.value.size(1), C = in.value.size(2);
        Tensor state[2][3];
        for (auto &side : state)
            for (Tensor &x : side) x = arena.allocate({B, C});
        state[1][0].fill(lowest), state[1][1].fill(-lowest), state[1][2].fill(0);
        const int64_t count = options_.causal ? tiles.blocks() : 1;
        for (int64_t I = 0; I < count; I++) {
            const int64_t begin = options_.causal ? tiles.begin(I) : 0, end = options_.causal ? tiles.end(I) : T;
            const auto &before = state[(I + 1) % 2];
            auto &after = state[I % 2];
            kernels().aft_full_range_f32(times(in.key, begin, end), times(in.value, begin, end), before[0], before[1], before[2], after[0], after[1], after[2]);
            m.select(0, I).copy_from(after[0]);
        }
        const auto &last = state[(count + 1) % 2];
        fact[0] = fact[2] = 0;
        for (int64_t n = 0; n < B * C; n++) {
            fact[0] = std::max(fact[0], double(last[0].data()[n]) - last[1].data()[n]);
            fact[2] = std::max(fact[2], double(last[2].data()[n]));
        }
    }

    static ExactRule rule(const MixerSaved &saved, int64_t B, int64_t T, int64_t C) {
        const double *fact = saved.tensors[facts].data<double>();
        return {B, T, C, fact[0], fact[1], fact[2]};
    }

    static std::unique_ptr<PairBias> pair_bias(const MixerTensors &in, const MixerTensors &gradient) {
        if (in.position_bias.defined()) return std::make_unique<DenseBias>(in.position_bias, gradient.position_bias);
        return std::make_unique<FactorisedBias>(in.bias_u, in.bias_v, gradient.bias_u, gradient.bias_v);
    }

    // dw of a tile: E (.) (g keys^T), to the dense bias or on to u and v.
    static void bias_gradient(const MixerTensors &in, const Tiles &tiles, int64_t I, int64_t J, const Tensor &E, const Tensor &g, const Tensor &keys,
                              MixerTensors &gradient, Arena &arena) {
        const bool dense = in.position_bias.defined();
        if (!(dense ? gradient.position_bias.defined() : gradient.bias_u.defined() || gradient.bias_v.defined())) return;
        Tensor products = arena.allocate({E.size(0), E.size(1)});
        gemm::nt(g, keys, products);
        if (dense) {
            Tensor dw = tiles.of(gradient.position_bias, I, J);
            kernels().aft_full_bias_f32(E, products, 1, dw);
            return;
        }
        Tensor dw = arena.allocate({E.size(0), E.size(1)});
        kernels().aft_full_bias_f32(E, products, 0, dw);
        const auto part = [&](const Tensor &x, int64_t n) { return rows(x, tiles.begin(n), tiles.end(n)); };
        if (gradient.bias_u.defined()) {
            Tensor du = part(gradient.bias_u, I);
            gemm::nn(dw, part(in.bias_v, J), du, gemm::Into::add);
        }
        if (gradient.bias_v.defined()) {
            Tensor dv = part(gradient.bias_v, J);
            gemm::tn(dw, part(in.bias_u, I), dv, gemm::Into::add);
        }
    }

    void require_causal() const {
        if (!options_.causal) throw Error("decoding needs a causal operator: this AFT-full is bidirectional");
    }
    static void require_room(const MixerState &state, int64_t more) {
        if (state.position + more > state.tensors[0].size(1))
            throw Error("the decoding state holds " + std::to_string(state.tensors[0].size(1)) + " tokens; start one with a greater length");
    }
};

}  // namespace

FullSettings &full_settings() {
    static FullSettings settings;
    return settings;
}

std::unique_ptr<Mixer> make_full_mixer(const MixerOptions &options) { return std::make_unique<FullMixer>(options); }

}  // namespace aft
