// AFT-full (SPEC F1, F5, F6): dense products of exp(w), shared by the batch and all channels, with exp(K) V and exp(K).
//
// Queries and keys are cut into blocks. E[I, J] = exp(w - r) with r[t] the maximum of w over the allowed keys of a row; keys are
// packed once, e_J = exp(K - m_J) with m_J the maximum of K over the keys up to the end of block J (causal) or over all:
//     [num | den]_I = sum_J exp(m_J - m_I) E[I, J] [e_J V_J | e_J]
// in one register tile per 12 queries and 16 channels (generators/aft_full_mix.h). Backward packs the queries once, (G, G R), and goes
// by blocks of keys: [S | P]_J in the same tiles, then dw of the block against all queries (generators/aft_full_pairs.h).
// Elements that the factors cannot hold go to the exact path. Formulas: generators/aft_full.h.
#include "models/mixers/full.h"

#include <algorithm>
#include <cmath>

#include "aft/error.h"
#include "kernel_table.h"
#include "models/mixers/cut.h"
#include "models/mixers/exact_path.h"
#include "models/mixers/magnitudes.h"
#include "models/mixers/mixers.h"
#include "runtime/gemm_provider.h"

namespace aft {
namespace {

constexpr float lowest = -3e38f;
constexpr int32_t everything = 1 << 30;  // an offset of the diagonal behind which no key lies
constexpr int64_t full_unroll = 4;       // FullTile::unroll divides it: a pack ends with a turn of the product
constexpr int64_t most_slab_rows = 288, slab_elements = 1 << 17;  // of weights that are not kept: little beside the activations at any length
constexpr int64_t channels_a_task = 64, rows_a_task = 144;  // a pack of 64 channels x 1024 keys is 512 KiB: in L2 for all rows; 12 tiles
constexpr int64_t diagonal_step = 96;  // rows of the products with u and v that cut a diagonal block
constexpr int64_t padding = 12;        // rows between the panels of a pack: a power of two would put all panels into the same sets of a cache

Tensor rows(const Tensor &x, int64_t begin, int64_t end) { return x.slice(0, begin, end); }
Tensor times(const Tensor &x, int64_t begin, int64_t end) { return x.slice(1, begin, end); }  // of [B, T, C]

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
        wide_ = largest_norm(in.bias_u, T) * largest_norm(in.bias_v, T) * std::sqrt(double(in.bias_u.size(1))) > 128;
    }

    int64_t blocks() const { return (T_ + block_ - 1) / block_; }
    int64_t begin(int64_t n) const { return n * block_; }
    int64_t end(int64_t n) const { return std::min(T_, (n + 1) * block_); }

    // Where r goes, and E when it is kept: forward fills both by its calls of slab, backward reads them.
    void use(Tensor reference, Tensor kept) { reference_ = reference, kept_ = kept; }

    // Queries whose weights are made at once: a block, or fewer where its row of weights is long.
    int64_t slab_rows() const { return std::min(block_, kept_.defined() ? most_slab_rows : std::max(2 * granule, slab_elements / T_ / granule * granule)); }

    // E of the queries [begin, end) of block I and all keys up to the end of that block (causal) or of the sequence, and their r; `spread`
    // grows to the largest max - min of w in a row.
    Tensor slab(int64_t I, int64_t begin, int64_t end, double &spread, Arena &arena) {
        const int64_t keys = causal_ ? this->end(I) : T_;
        Tensor made = kept_.defined() ? kept_.slice(0, begin, end).slice(1, 0, keys) : arena.allocate({end - begin, keys});
        ArenaScope scope(arena);
        Tensor reference = rows(reference_, begin, end), low = arena.allocate({end - begin}, DType::f64);
        Tensor none = arena.allocate({2, end - begin}, DType::f64);
        std::fill_n(none.data<double>(), end - begin, double(lowest)), std::fill_n(none.data<double>() + end - begin, end - begin, -double(lowest));
        const Tensor w = bias(begin, end, 0, keys, arena);
        const int32_t diagonal = causal_ ? int32_t(begin) : everything;
        (wide_ ? kernels().aft_full_reference_f64 : kernels().aft_full_reference_f32)(w, none.select(0, 0), none.select(0, 1), diagonal, reference, low);
        for (int64_t t = 0; t < end - begin; t++) spread = std::max(spread, reference.data<double>()[t] - low.data<double>()[t]);
        (wide_ ? kernels().aft_full_weights_f64 : kernels().aft_full_weights_f32)(w, reference, diagonal, made);
        return made;
    }

    // E of the keys of block J and all queries from first_query(J) on.
    Tensor columns(int64_t J, Arena &arena) {
        const int64_t t0 = first_query(J);
        if (kept_.defined()) return kept_.slice(0, t0, T_).slice(1, begin(J), end(J));
        Tensor made = arena.allocate({T_ - t0, end(J) - begin(J)});
        ArenaScope scope(arena);
        const Tensor w = bias(t0, T_, begin(J), end(J), arena);
        (wide_ ? kernels().aft_full_weights_f64 : kernels().aft_full_weights_f32)(w, rows(reference_, t0, T_), causal_ ? 0 : everything, made);
        return made;
    }
    int64_t first_query(int64_t J) const { return causal_ ? begin(J) : 0; }

private:
    // w of the queries [t0, t1) and keys [k0, k1).
    Tensor bias(int64_t t0, int64_t t1, int64_t k0, int64_t k1, Arena &arena) const {
        if (in_.position_bias.defined()) return in_.position_bias.slice(0, t0, t1).slice(1, k0, k1);
        Tensor w = arena.allocate({t1 - t0, k1 - k0}, wide_ ? DType::f64 : DType::f32);
        const Tensor u = rows(in_.bias_u, t0, t1), v = rows(in_.bias_v, k0, k1);
        if (wide_)
            kernels().aft_full_products_f64(u, v, w);
        else
            gemm::nt(u, v, w);
        return w;
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

// Calls visit(begin, end) for the steps that cut a diagonal block of n rows: a product of each leaves out the pairs of other steps
// that lie in the future.
template <class Visit>
void each_step(int64_t n, const Visit &visit) {
    for (int64_t begin = 0, end; begin < n; begin = end) {
        end = n - begin < 2 * diagonal_step ? n : begin + diagonal_step;
        visit(begin, end);
    }
}

enum Kept { den, high, reference, facts, weights };  // MixerSaved of this operator; facts: spreads and max |V|

class FullMixer : public Mixer {
public:
    explicit FullMixer(const MixerOptions &options) : Mixer(options) {}

    void forward(const MixerTensors &in, Tensor &output, MixerSaved &saved, Arena &arena) const override {
        check_mixer_tensors(options_, in);
        const int64_t B = in.value.size(0), T = in.value.size(1), C = in.value.size(2);
        const bool keep = T * T * 4 <= full_settings().workspace_bytes;
        Tiles tiles(in, options_.causal, T, block(T));
        if (!keep) {  // room for both directions in one block of the arena: gaps between blocks would be as large as a slab
            ArenaScope room(arena);
            const int64_t padded = round_up(C, panel), group = std::min(B, std::max<int64_t>(1, full_settings().columns / (2 * C)));
            arena.allocate({T + 2 * padding, 2 * B * C + 2 * group * padded + 2 * block(T) + 8});
        }

        saved.tensors = {arena.allocate({B, T, C}), arena.allocate({tiles.blocks(), B, C}), arena.allocate({T}, DType::f64), arena.allocate({3}, DType::f64),
                         keep ? arena.allocate({T, T}) : Tensor()};
        ArenaScope scope(arena);
        double *fact = saved.tensors[facts].data<double>();
        range(in, tiles, saved.tensors[high], fact, arena);
        tiles.use(saved.tensors[reference], saved.tensors[weights]);
        fact[1] = 0;

        bool made = false;  // the weights, by an earlier group
        each_group(B, C, [&](int64_t b0, int64_t b1) {
            ArenaScope group_scope(arena);
            const Tensor packs = pack_keys(in, tiles, saved.tensors[high], b0, b1, arena);
            for (int64_t I = 0; I < tiles.blocks(); I++)
                for (int64_t t0 = tiles.begin(I); t0 < tiles.end(I); t0 += tiles.slab_rows()) {
                    ArenaScope slab_scope(arena);
                    const int64_t t1 = std::min(tiles.end(I), t0 + tiles.slab_rows());
                    const Tensor E = made && keep ? saved.tensors[weights].slice(0, t0, t1).slice(1, 0, options_.causal ? tiles.end(I) : T)
                                                  : tiles.slab(I, t0, t1, fact[1], arena);
                    mix(in, tiles, I, t0, E, packs, saved, b0, b1, output, arena);
                }
            made = true;
        });
        const ExactRule exact = rule(saved, B, T, C);
        if (exact.forward(exact.least_den, 0, 0))
            exact_forward({in.query, in.key, in.value, options_.causal}, *pair_bias(in, {}), exact, output, saved.tensors[den]);
    }

    void backward(const MixerTensors &in, const Tensor &output, const MixerSaved &saved, const Tensor &output_gradient, MixerTensors &gradient,
                  Arena &arena) const override {
        check_mixer_output(in, output);
        const int64_t B = in.value.size(0), T = in.value.size(1), C = in.value.size(2);
        Tiles tiles(in, options_.causal, T, block(T));
        tiles.use(saved.tensors[reference], saved.tensors[weights]);
        const ExactRule exact = rule(saved, B, T, C);

        each_group(B, C, [&](int64_t b0, int64_t b1) {
            ArenaScope group_scope(arena);
            const Tensor packs = pack_queries(in, output, saved, output_gradient, exact, b0, b1, gradient, arena);
            for (int64_t J = 0; J < tiles.blocks(); J++) {
                ArenaScope block_scope(arena);
                const Tensor E = tiles.columns(J, arena), queries = packs.slice(2, tiles.first_query(J), packs.size(2));
                mix_back(in, tiles, J, E, queries, saved, b0, b1, gradient, arena);
                bias_gradient(in, tiles, J, E, queries, saved, b0, b1, gradient, arena);
            }
        });
        // An element that was exact in forward has den = 0.
        const float least = exact.forward(exact.least_den, 0, 0) ? 0 : exact.least_den;
        if (exact.backward(least, largest_magnitude(output_gradient), 0))
            exact_backward({in.query, in.key, in.value, options_.causal}, *pair_bias(in, gradient), exact, output, output_gradient, saved.tensors[den], gradient);
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
    // A whole number of tiles and of turns of the product, but for the end of the sequence.
    static int64_t block(int64_t T) { return std::min(T, round_up(full_settings().block, granule)); }

    // [b, panels, keys, 2, 16]: (e V, e) of all keys, each relative to the maximum of its block.
    Tensor pack_keys(const MixerTensors &in, const Tiles &tiles, const Tensor &m, int64_t b0, int64_t b1, Arena &arena) const {
        const int64_t T = in.value.size(1), C = in.value.size(2), step = options_.causal ? tiles.end(0) : rows_a_task;
        const int64_t pieces = ceil_div(T, step), keys = round_up(T, full_unroll);
        const Tensor packs = arena.allocate({b1 - b0, ceil_div(C, panel), keys, 2, panel});
        parallel_for((b1 - b0) * pieces, [&](int64_t task) {
            const int64_t b = task / pieces, n = task % pieces, first = n * step, last = std::min(T, first + step);
            Tensor pack = packs.select(0, b).slice(1, first, n + 1 == pieces ? keys : last);  // the padding is packed as zeros
            kernels().aft_window_keys_f32(in.key.select(0, b0 + b).slice(0, first, last), in.value.select(0, b0 + b).slice(0, first, last),
                                          m.select(0, options_.causal ? n : 0).select(0, b0 + b), 0, pack);
        });
        return packs;
    }

    // [b, panels, queries, 2, 16]: (G, G R) of all queries, each relative to the maximum of its block; and dQ.
    Tensor pack_queries(const MixerTensors &in, const Tensor &output, const MixerSaved &saved, const Tensor &output_gradient, const ExactRule &exact, int64_t b0,
                        int64_t b1, const MixerTensors &gradient, Arena &arena) const {
        const int64_t T = in.value.size(1), C = in.value.size(2), queries = round_up(T, full_unroll), pieces = ceil_div(T, rows_a_task);
        const Tensor packs = arena.allocate({b1 - b0, ceil_div(C, panel), queries + padding, 2, panel}).slice(2, 0, queries);
        parallel_for((b1 - b0) * pieces, [&](int64_t task) {
            const int64_t b = task / pieces, t0 = task % pieces * rows_a_task, t1 = std::min(T, t0 + rows_a_task);
            const auto of = [&](const Tensor &x) { return x.select(0, b0 + b).slice(0, t0, t1); };
            Tensor dq = of(gradient.query), pack = packs.select(0, b).slice(1, t0, t1);
            kernels().aft_full_queries_f32(of(in.query), of(output), of(saved.tensors[den]), of(output_gradient), exact.gradient_factor, dq, pack);
            if (t1 == T) packs.select(0, b).slice(1, T, queries).fill(0);
        });
        return packs;
    }

    // Calls visit(b, c0, c1, r0, r1) in parallel for tasks that cover sequences [0, B), channels [0, C) and rows [0, count).
    template <class Visit>
    static void each_task(int64_t B, int64_t C, int64_t count, const Visit &visit) {
        const int64_t pieces = ceil_div(count, rows_a_task);
        int64_t channels = channels_a_task;
        while (channels > panel && B * ceil_div(C, channels) * pieces < 8) channels /= 2;
        const int64_t slices = ceil_div(C, channels);
        parallel_for(B * slices * pieces, [&](int64_t task) {
            const int64_t c0 = task / pieces % slices * channels, r0 = task % pieces * rows_a_task;
            visit(task / pieces / slices, c0, std::min(C, c0 + channels), r0, std::min(count, r0 + rows_a_task));
        });
    }

    // Output and den of the queries of E, which begin at t0 in block I.
    void mix(const MixerTensors &in, const Tiles &tiles, int64_t I, int64_t t0, const Tensor &E, const Tensor &packs, const MixerSaved &saved, int64_t b0,
             int64_t b1, const Tensor &output, Arena &arena) const {
        const int64_t C = in.value.size(2), count = E.size(0), keys = round_up(E.size(1), full_unroll);
        Tensor tiled = arena.allocate({ceil_div(count, granule), keys, granule});
        kernels().aft_full_tiles_f32(E, tiled);
        each_task(b1 - b0, C, count, [&](int64_t b, int64_t c0, int64_t c1, int64_t r0, int64_t r1) {
            const auto of = [&](const Tensor &x) { return x.select(0, b0 + b).slice(0, t0 + r0, t0 + r1).slice(1, c0, c1); };
            Tensor y = of(output), d = of(saved.tensors[den]);
            kernels().aft_full_forward_f32(of(in.query), packs.select(0, b).slice(0, c0 / panel, ceil_div(c1, panel)).slice(1, 0, keys),
                                           tiled.slice(0, r0 / granule, ceil_div(r1, granule)),
                                           saved.tensors[high].slice(0, 0, options_.causal ? I + 1 : 1).select(1, b0 + b).slice(1, c0, c1),
                                           block_rows(tiles), options_.causal ? int32_t(t0 + r0) : everything, y, d);
        });
    }

    // dK and dV of block J from the queries from its first on.
    void mix_back(const MixerTensors &in, const Tiles &tiles, int64_t J, const Tensor &E, const Tensor &queries, const MixerSaved &saved, int64_t b0, int64_t b1,
                  const MixerTensors &gradient, Arena &arena) const {
        ArenaScope scope(arena);
        const int64_t C = in.value.size(2), count = E.size(1), first = tiles.begin(J);
        Tensor tiled = arena.allocate({ceil_div(count, granule), queries.size(2), granule});
        kernels().aft_full_column_tiles_f32(E, tiled);
        each_task(b1 - b0, C, count, [&](int64_t b, int64_t c0, int64_t c1, int64_t r0, int64_t r1) {
            const auto of = [&](const Tensor &x) { return x.select(0, b0 + b).slice(0, first + r0, first + r1).slice(1, c0, c1); };
            Tensor dk = of(gradient.key), dv = of(gradient.value);
            kernels().aft_full_backward_f32(of(in.key), of(in.value), queries.select(0, b).slice(0, c0 / panel, ceil_div(c1, panel)),
                                            tiled.slice(0, r0 / granule, ceil_div(r1, granule)), later_maxima(tiles, J, saved).select(1, b0 + b).slice(1, c0, c1),
                                            block_rows(tiles), options_.causal ? int32_t(-r0) : everything, dk, dv);
        });
    }

    static int32_t block_rows(const Tiles &tiles) { return int32_t(round_up(tiles.end(0), full_unroll)); }

    // m of the blocks from J on.
    Tensor later_maxima(const Tiles &tiles, int64_t J, const MixerSaved &saved) const {
        return options_.causal ? saved.tensors[high].slice(0, J, tiles.blocks()) : saved.tensors[high].slice(0, 0, 1);
    }

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

    // dw of the keys of block J: E (.) products, to the dense bias or on to u and v.
    void bias_gradient(const MixerTensors &in, const Tiles &tiles, int64_t J, const Tensor &E, const Tensor &queries, const MixerSaved &saved, int64_t b0,
                       int64_t b1, MixerTensors &gradient, Arena &arena) const {
        const bool dense = in.position_bias.defined();
        if (!(dense ? gradient.position_bias.defined() : gradient.bias_u.defined() || gradient.bias_v.defined())) return;
        const int64_t first = tiles.begin(J), last = tiles.end(J), from = tiles.first_query(J), count = E.size(0);
        const auto keys = [&](const Tensor &x) { return times(x.slice(0, b0, b1), first, last); };
        Tensor products = arena.allocate({count, last - first});
        kernels().aft_full_pairs_f32(queries.slice(2, 0, count), keys(in.key), keys(in.value), later_maxima(tiles, J, saved).slice(1, b0, b1),
                                     block_rows(tiles), options_.causal ? 0 : everything, products);
        if (dense) {
            Tensor dw = gradient.position_bias.slice(0, from, from + count).slice(1, first, last);
            kernels().aft_full_bias_f32(E, products, 1, dw);
            return;
        }
        Tensor dw = products;
        kernels().aft_full_bias_f32(E, products, 0, dw);
        const int64_t square = options_.causal ? last - first : 0;  // the rows that do not see all keys
        if (gradient.bias_u.defined()) {
            const auto add = [&](int64_t begin, int64_t end, int64_t keys) {
                Tensor du = rows(gradient.bias_u, from + begin, from + end);
                if (begin < end) gemm::nn(rows(dw, begin, end).slice(1, 0, keys), rows(in.bias_v, first, first + keys), du, gemm::Into::add);
            };
            each_step(square, [&](int64_t begin, int64_t end) { add(begin, end, end); });
            add(square, count, last - first);
        }
        if (gradient.bias_v.defined()) {
            const auto add = [&](int64_t begin, int64_t end, int64_t query) {
                Tensor dv = rows(gradient.bias_v, first + begin, first + end);
                gemm::tn(rows(dw, query, count).slice(1, begin, end), rows(in.bias_u, from + query, from + count), dv, gemm::Into::add);
            };
            if (options_.causal)
                each_step(last - first, [&](int64_t begin, int64_t end) { add(begin, end, begin); });
            else
                add(0, last - first, 0);
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
