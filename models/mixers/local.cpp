// AFT-local (SPEC F2, F5, F6): a band of weights and a running state. Formulas and layouts: generators/aft_window.h.
//
// A unit is a sequence and some channels; it is walked in pieces of rows whose packed keys (or queries) stay in L2. Units are
// independent and run in parallel; each group of units has scratch of its own and, in backward, its own sum of dw. Groups
// are cut by shape, so results do not depend on the threads.
//
// References: m[I] is the maximum of K up to the end of piece I (causal) or over the sequence; r[t] the maximum of w over the keys of a
// row, far ones included. Elements that these cannot hold go to the exact path, as in AFT-full.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "aft/error.h"
#include "kernel_table.h"
#include "models/mixers/cut.h"
#include "models/mixers/exact_path.h"
#include "models/mixers/local_decoding.h"
#include "models/mixers/magnitudes.h"
#include "models/mixers/mixers.h"
#include "runtime/parallel.h"

namespace aft {
namespace {

constexpr int64_t widest_unit = 512;        // channels
constexpr int64_t block_elements = 16384;  // of an input: with G, dQ and their pack half a megabyte

// The band: row t of a table holds the weights of the rows  t / granule * granule - before + [0, width)  of the other side.
struct Band {
    bool causal;
    int64_t T, window, reach;  // reach: rows seen beyond the granule, a multiple of 4
    Band(const MixerOptions &options, int64_t T)
        : causal(options.causal), T(T), window(std::clamp<int64_t>(options.window, 1, T)), reach(round_up(window - 1, 4)) {}

    // Of queries over keys, and of keys over queries.
    int32_t before(bool of_queries) const { return int32_t(of_queries || !causal ? reach : 0); }
    int32_t after(bool of_queries) const { return before(!of_queries); }
    int32_t direction(bool of_queries) const { return causal ? (of_queries ? -1 : 1) : 0; }
    int64_t width() const { return causal ? reach + granule : 2 * reach + granule; }
};

// A pack of rows: [panels, rows, 2, 16] for the kernels that fill it, [panels, rows, 32] for products of rows.
struct Pack {
    Tensor parts, flat;
    Pack(const Tensor &memory, int64_t panels, int64_t rows) {
        const Tensor used = memory.slice(0, 0, panels * rows * 2 * panel);
        parts = used.reshape({panels, rows, 2, panel}), flat = used.reshape({panels, rows, 2 * panel});
    }
};

Tensor state_of(const Tensor &memory, int64_t panels) { return memory.slice(0, 0, panels); }

// Rows of the other side that a piece sees, from `first` on; pack row p is row p - missing of them.
struct Seen {
    int64_t first, last, rows;
    int32_t missing;
    Seen(const Cut &cut, int64_t I, int64_t before, int64_t after) {
        const int64_t begin = cut.begin(I), end = cut.end(I);
        first = std::max<int64_t>(0, begin - before), last = std::min(cut.T, end + after);
        rows = before + round_up(end - begin, granule) + after, missing = int32_t(before - (begin - first));
    }
};

// [1, rows, X]: the first rows of a factor, X a multiple of the lanes.
Tensor factor_rows(const Tensor &x, int64_t rows, Arena &arena) {
    const int64_t D = x.size(1), X = round_up(D, panel);
    if (X == D) return x.slice(0, 0, rows).reshape({1, rows, D});
    Tensor padded = arena.allocate({1, rows, X});
    padded.fill(0);
    Tensor inside = padded.select(0, 0).slice(1, 0, D);
    inside.copy_from(x.slice(0, 0, rows));
    return padded;
}

// A table in the order in which the products read it.
Tensor tiles_of(const Tensor &table, Arena &arena) {
    Tensor tiles = arena.allocate({ceil_div(table.size(0), granule), table.size(1), granule});
    kernels().aft_full_tiles_f32(table, tiles);
    return tiles;
}

enum Kept { ratio, den, maxima, table, far_weights, facts };  // MixerSaved; facts: spreads of K and w, max |V|

class LocalMixer : public Mixer {
public:
    explicit LocalMixer(const MixerOptions &options) : Mixer(options) {}

    void forward(const MixerTensors &in, Tensor &output, MixerSaved &saved, Arena &arena) const override;
    void backward(const MixerTensors &in, const MixerSaved &saved, const Tensor &output_gradient, MixerTensors &gradient, Arena &arena) const override;
    MixerState start(const MixerTensors &parameters, int64_t batch, int64_t channels, int64_t length) const override;
    void prefill(const MixerTensors &in, MixerState &state, Arena &arena) const override;
    void step(const MixerTensors &in, MixerState &state, Tensor &output, Arena &arena) const override;

private:
    double make_table(const MixerTensors &in, const Band &band, Tensor &table, Tensor &far, Arena &arena) const;
    void add_bias_gradient(const MixerTensors &in, const Band &band, const Tensor &transposed, const Tensor &partial, MixerTensors &gradient, Arena &arena) const;

    std::unique_ptr<PairBias> pair_bias(const MixerTensors &in, const MixerTensors &gradient) const {
        if (in.position_bias.defined()) return std::make_unique<DenseBias>(in.position_bias, gradient.position_bias, options_.window);
        return std::make_unique<FactorisedBias>(in.bias_u, in.bias_v, gradient.bias_u, gradient.bias_v, options_.window);
    }
    static ExactRule rule(const MixerSaved &saved, const Cut &cut) {
        const double *fact = saved.tensors[facts].data<double>();
        return {cut.B, cut.T, cut.C, fact[0], fact[1], fact[2]};
    }
};

// exp(w - r), far weights, and the largest max - min of w in a row.
double LocalMixer::make_table(const MixerTensors &in, const Band &band, Tensor &table, Tensor &far, Arena &arena) const {
    ArenaScope scope(arena);
    const int64_t T = band.T;
    const int32_t before = band.before(true);
    Tensor spread = arena.allocate({T}), scores;
    bool wide = false;
    if (options_.window == 0) {
        scores = arena.allocate({T, band.width()});
        scores.fill(0);
    } else if (in.position_bias.defined()) {
        scores = arena.allocate({T, band.width()});
        for (int64_t t = 0; t < T; t++) {
            const int64_t first = std::max<int64_t>(0, t - band.window + 1), last = band.causal ? t + 1 : std::min(T, t + band.window);
            const int64_t base = t / granule * granule - before;
            std::memcpy(scores.data() + t * band.width() + first - base, in.position_bias.data() + t * in.position_bias.stride(0) + first, size_t(last - first) * 4);
        }
    } else {
        // An fp32 dot product is off by some eps |u| |v|, and exp(w) by that factor: beyond 32 in double.
        wide = largest_norm(in.bias_u, T) * largest_norm(in.bias_v, T) > 32;
        scores = arena.allocate({T, band.width()}, wide ? DType::f64 : DType::f32);
        const Tensor u = factor_rows(in.bias_u, T, arena), v = factor_rows(in.bias_v, T, arena);
        (wide ? kernels().aft_window_dots_f64 : kernels().aft_window_dots_f32)(u, v, 0, before, int32_t(band.width()), scores);
    }
    (wide ? kernels().aft_window_table_f64 : kernels().aft_window_table_f32)(scores, int32_t(band.window), before, band.causal, table, far, spread);
    return *std::max_element(spread.data(), spread.data() + T);
}

// The maxima [pieces, B, C] of K, and what the rule of exact elements asks: the spread of K in a column and max |V|. Found piece by
// piece, for causal sums just before the piece is packed: it is then still in L2.
class References {
public:
    References(const MixerTensors &in, const Cut &cut, Tensor maxima, Arena &arena)
        : in_(in), cut_(cut), maxima_(maxima), lowest_(arena.allocate({cut.pieces, cut.B, cut.C})), values_(arena.allocate({2, cut.B, cut.C})),
          start_(arena.allocate({2, cut.B, cut.C})) {
        for (Tensor x : {values_, start_}) x.select(0, 0).fill(-3e38f), x.select(0, 1).fill(3e38f);
    }
    void find(const Cut::Unit &unit, int64_t I) const {
        const int64_t t0 = cut_.begin(I), t1 = cut_.end(I);
        const Tensor m = unit.of_maxima(maxima_), l = unit.of_maxima(lowest_), none = unit.of_maxima(start_), v = unit.of_maxima(values_);
        Tensor high = m.select(0, I), low = l.select(0, I), v_high = v.select(0, 0), v_low = v.select(0, 1);
        kernels().aft_window_range_f32(unit.of(in_.key).slice(0, t0, t1), I ? m.select(0, I - 1) : none.select(0, 0), I ? l.select(0, I - 1) : none.select(0, 1), high, low);
        kernels().aft_window_range_f32(unit.of(in_.value).slice(0, t0, t1), v_high, v_low, v_high, v_low);
    }
    void find_all() const {  // not causal: each piece sees all keys
        cut_.each([&](int64_t, const Cut::Unit &unit) {
            for (int64_t I = 0; I < cut_.pieces; I++) find(unit, I);
            const Tensor m = unit.of_maxima(maxima_);
            for (int64_t I = 0; I + 1 < cut_.pieces; I++) m.select(0, I).copy_from(m.select(0, cut_.pieces - 1));
        });
    }
    void facts(double *fact) const {
        fact[0] = fact[2] = 0;
        const float *top = maxima_.select(0, cut_.pieces - 1).data(), *bottom = lowest_.select(0, cut_.pieces - 1).data();
        for (int64_t n = 0; n < cut_.B * cut_.C; n++) {
            fact[0] = std::max(fact[0], double(top[n]) - bottom[n]);
            fact[2] = std::max({fact[2], double(values_.data()[n]), -double(values_.data()[cut_.B * cut_.C + n])});
        }
    }

private:
    const MixerTensors &in_;
    const Cut &cut_;
    Tensor maxima_, lowest_, values_, start_;
};

void LocalMixer::forward(const MixerTensors &in, Tensor &output, MixerSaved &saved, Arena &arena) const {
    check_mixer_tensors(options_, in);
    const int64_t B = in.value.size(0), T = in.value.size(1), C = in.value.size(2);
    const Band band(options_, T);
    const Cut cut(B, T, C, 64, widest_unit);
    saved.tensors = {arena.allocate({B, T, C}),         arena.allocate({B, T, C}), arena.allocate({cut.pieces, B, C}),
                     arena.allocate({T, band.width()}), arena.allocate({T}),       arena.allocate({3}, DType::f64)};
    ArenaScope scope(arena);
    double *fact = saved.tensors[facts].data<double>();
    const References references(in, cut, saved.tensors[maxima], arena);
    if (!options_.causal) references.find_all();
    fact[1] = make_table(in, band, saved.tensors[table], saved.tensors[far_weights], arena);
    const Tensor tiles = tiles_of(saved.tensors[table], arena);

    const int32_t before = band.before(true), after = band.after(true);
    const int64_t panels = cut.panels(), carried = options_.causal ? 2 : cut.pieces + 3;  // two carried states, a total and the sums behind each piece
    const Tensor packs = arena.allocate({cut.groups, panels * Seen(cut, 0, before, after).rows * 2 * panel + panels * 2 * panel * granule});
    const Tensor states = arena.allocate({cut.groups, carried, panels, 2, panel}), ones = arena.allocate({cut.piece});
    Tensor(ones).fill(1);

    cut.each([&](int64_t g, const Cut::Unit &unit) {
        const Tensor query = unit.of(in.query), key = unit.of(in.key), value = unit.of(in.value), m = unit.of_maxima(saved.tensors[maxima]);
        const Tensor y = unit.of(output), R = unit.of(saved.tensors[ratio]), d = unit.of(saved.tensors[den]);
        const Tensor memory = packs.select(0, g), mine = states.select(0, g);
        const auto state = [&](int64_t n) { return state_of(mine.select(0, n), unit.panels()); };
        state(0).fill(0);
        if (!options_.causal) {
            state(2 + cut.pieces).fill(0);
            state(1 + cut.pieces).fill(0);
            for (int64_t I = cut.pieces - 2; I >= 0; I--) {
                const int64_t first = std::min(T, cut.begin(I + 1) + after), last = std::min(T, cut.begin(I + 2) + after);
                Tensor sum = state(2 + I), total = state(2 + cut.pieces);
                sum.copy_from(state(3 + I));
                if (first == last) continue;
                Pack pack(memory, unit.panels(), last - first);
                kernels().aft_window_keys_f32(key.slice(0, first, last), value.slice(0, first, last), m.select(0, I), 0, pack.parts);
                kernels().aft_window_total_f32(pack.parts, ones.slice(0, 0, last - first), total);
                for (int64_t n = 0; n < sum.elements(); n++) sum.data()[n] += total.data()[n];
            }
        }
        for (int64_t I = 0; I < cut.pieces; I++) {
            const Seen seen(cut, I, before, after);
            const int64_t t0 = cut.begin(I), t1 = cut.end(I);
            Pack pack(memory, unit.panels(), seen.rows);
            if (options_.causal) references.find(unit, I);
            kernels().aft_window_keys_f32(key.slice(0, seen.first, seen.last), value.slice(0, seen.first, seen.last), m.select(0, I), seen.missing, pack.parts);
            Tensor y_out = y.slice(0, t0, t1), R_out = R.slice(0, t0, t1), d_out = d.slice(0, t0, t1), next = state((I + 1) % 2);
            (options_.causal ? kernels().aft_window_causal_forward_f32 : kernels().aft_window_both_forward_f32)(
                query.slice(0, t0, t1), pack.parts, tiles.slice(0, t0 / granule, ceil_div(t1, granule)), saved.tensors[far_weights].slice(0, t0, t1), state(I % 2),
                options_.causal ? state(I % 2) : state(2 + I), m.select(0, std::max<int64_t>(0, I - 1)), m.select(0, I), before, after, y_out, R_out, d_out, next);
        }
    });
    references.facts(fact);
    const ExactRule exact = rule(saved, cut);
    if (exact.forward(exact.least_den, 0))
        exact_forward({in.query, in.key, in.value, options_.causal}, *pair_bias(in, {}), exact, output, saved.tensors[ratio], saved.tensors[den]);
}

void LocalMixer::backward(const MixerTensors &in, const MixerSaved &saved, const Tensor &output_gradient, MixerTensors &gradient, Arena &arena) const {
    const int64_t B = in.value.size(0), T = in.value.size(1), C = in.value.size(2);
    const Band band(options_, T);
    // Each group has a dw of its own; together no more than two activations, or eight groups.
    const Cut cut(B, T, C, std::clamp<int64_t>(2 * B * C / band.width(), 8, 64), widest_unit);
    const ExactRule exact = rule(saved, cut);
    const bool wants_bias = options_.window > 0 && (gradient.position_bias.defined() || gradient.bias_u.defined() || gradient.bias_v.defined());

    ArenaScope scope(arena);
    const int32_t before = band.before(false), after = band.after(false);
    Tensor transposed = arena.allocate({T, band.width()});
    kernels().aft_window_transpose_f32(saved.tensors[table], saved.tensors[far_weights], int32_t(band.window), before, band.before(true), band.direction(false), transposed);
    const Tensor tiles = tiles_of(transposed, arena);

    const int64_t panels = cut.panels(), carried = options_.causal ? 2 : cut.pieces + 3, size = panels * 2 * panel;
    const Tensor query_packs = arena.allocate({cut.groups, size * Seen(cut, 0, before, after).rows}), key_packs = arena.allocate({cut.groups, size * cut.piece});
    const Tensor states = arena.allocate({cut.groups, carried, panels, 2, panel});
    const Tensor scaled = arena.allocate({cut.groups, std::max(cut.piece, Seen(cut, 0, before, after).rows), cut.channels});
    const Tensor slacks = arena.allocate({B, C});
    const int64_t block = ceil_div(block_elements, cut.channels);
    const Tensor partial = wants_bias ? arena.allocate({cut.groups, T, band.width()}) : Tensor();
    std::vector<char> leaves_elements(size_t(cut.groups), 0);

    cut.each([&](int64_t g, const Cut::Unit &unit) {
        const Tensor query = unit.of(in.query), key = unit.of(in.key), value = unit.of(in.value), m = unit.of_maxima(saved.tensors[maxima]);
        const Tensor dy = unit.of(output_gradient), R = unit.of(saved.tensors[ratio]), d = unit.of(saved.tensors[den]);
        const Tensor dQ = unit.of(gradient.query), dK = unit.of(gradient.key), dV = unit.of(gradient.value);
        const Tensor &far = saved.tensors[far_weights];
        const Tensor mine = states.select(0, g);
        const auto state = [&](int64_t n) { return state_of(mine.select(0, n), unit.panels()); };
        Tensor slack = slacks.select(0, unit.b).slice(0, unit.c0, unit.c1);
        slack.fill(1);
        const Tensor slack_so_far = slack.repeat(0, T);
        // Packs the queries [first, last) for the keys of piece J. Pieces share rows: what G holds of the last call is moved, not
        // made again; the rest goes from inputs to pack by blocks that stay in L2.
        const Tensor G = scaled.select(0, g).slice(1, 0, unit.c1 - unit.c0);
        int64_t held = 0, held_end = 0;
        const auto pack_queries = [&](int64_t first, int64_t last, int64_t J, int32_t missing, Pack &pack) {
            int64_t known = std::max(first, held), known_end = std::min(last, held_end);
            if (known >= known_end) known = known_end = first;
            std::memmove(G.data() + (known - first) * cut.channels, G.data() + (known - held) * cut.channels, size_t((known_end - known) * cut.channels) * 4);
            held = first, held_end = last;
            for (int64_t a = first, b; a < last; a = b) {
                const int64_t piece = a / cut.piece;  // its rows share a maximum
                b = std::min({last, a < known ? known : a < known_end ? known_end : last, a + block, (piece + 1) * cut.piece});
                Tensor rows = G.slice(0, a - first, b - first);
                if (a < known || a >= known_end) {
                    Tensor dq = dQ.slice(0, a, b), least = slack_so_far.slice(0, a, b);
                    kernels().aft_window_queries_f32(dy.slice(0, a, b), query.slice(0, a, b), R.slice(0, a, b), d.slice(0, a, b), exact.gradient_factor, rows, dq, least);
                }
                const int64_t begin = a == first ? 0 : a - first + missing, end = b == last ? pack.parts.size(1) : b - first + missing;
                Tensor part = pack.parts.slice(1, begin, end);
                kernels().aft_window_query_pack_f32(rows, R.slice(0, a, b), m.select(0, J), m.select(0, piece), int32_t(a - first + missing - begin), part);
            }
        };
        state(0).fill(0);
        if (!options_.causal) {
            state(1 + cut.pieces).fill(0);
            for (int64_t J = cut.pieces - 2; J >= 0; J--) {
                const int64_t first = std::min(T, cut.begin(J + 1) + after), last = std::min(T, cut.begin(J + 2) + after);
                Tensor sum = state(2 + J), total = state(2 + cut.pieces);
                sum.copy_from(state(3 + J));
                if (first == last) continue;
                Pack pack(query_packs.select(0, g), unit.panels(), last - first);
                pack_queries(first, last, J, 0, pack);
                kernels().aft_window_total_f32(pack.parts, far.slice(0, first, last), total);
                for (int64_t n = 0; n < sum.elements(); n++) sum.data()[n] += total.data()[n];
            }
        }
        for (int64_t n = 0; n < cut.pieces; n++) {
            const int64_t J = options_.causal ? cut.pieces - 1 - n : n, t0 = cut.begin(J), t1 = cut.end(J);
            const Seen seen(cut, J, before, after);
            Pack queries(query_packs.select(0, g), unit.panels(), seen.rows), keys(key_packs.select(0, g), unit.panels(), round_up(t1 - t0, granule));
            pack_queries(seen.first, seen.last, J, seen.missing, queries);
            kernels().aft_window_keys_f32(key.slice(0, t0, t1), value.slice(0, t0, t1), m.select(0, J), 0, keys.parts);
            Tensor dv = dV.slice(0, t0, t1), dk = dK.slice(0, t0, t1), next = state((n + 1) % 2);
            (options_.causal ? kernels().aft_window_reversed_backward_f32 : kernels().aft_window_both_backward_f32)(
                keys.parts, value.slice(0, t0, t1), queries.parts, tiles.slice(0, t0 / granule, ceil_div(t1, granule)), far.slice(0, seen.first, seen.last), state(n % 2),
                options_.causal ? state(n % 2) : state(2 + J), m.select(0, J), m.select(0, std::min(J + 1, cut.pieces - 1)), before, after, seen.missing, dv, dk, next);
            if (wants_bias) {
                Tensor dw = partial.select(0, g).slice(0, t0, t1);
                kernels().aft_window_dots_f32(keys.flat.slice(1, 0, t1 - t0), queries.flat, !unit.first, 0, int32_t(band.width()), dw);
            }
        }
        for (int64_t c = 0; c < unit.c1 - unit.c0; c++) leaves_elements[size_t(g)] |= !(slack.data()[c] >= 0);
    });
    if (wants_bias) add_bias_gradient(in, band, transposed, partial, gradient, arena);
    if (std::ranges::count(leaves_elements, 0) != cut.groups)
        exact_backward({in.query, in.key, in.value, options_.causal}, *pair_bias(in, gradient), exact, output_gradient, saved.tensors[den], gradient.key, gradient.value);
}

void LocalMixer::add_bias_gradient(const MixerTensors &in, const Band &band, const Tensor &transposed, const Tensor &partial, MixerTensors &gradient, Arena &arena) const {
    ArenaScope scope(arena);
    const int64_t T = band.T;
    const auto window = int32_t(band.window);
    Tensor of_keys = arena.allocate({T, band.width()}), of_queries = arena.allocate({T, band.width()}), none = arena.allocate({T});
    none.fill(0);
    kernels().aft_window_bias_gradient_f32(transposed, partial, window, band.before(false), band.direction(false), of_keys);
    kernels().aft_window_transpose_f32(of_keys, none, window, band.before(true), band.before(false), band.direction(true), of_queries);
    if (gradient.position_bias.defined()) {
        for (int64_t t = 0; t < T; t++) {
            const int64_t first = std::max<int64_t>(0, t - band.window + 1), last = band.causal ? t + 1 : std::min(T, t + band.window);
            const float *from = of_queries.data() + t * band.width() - (t / granule * granule - band.before(true));
            float *to = gradient.position_bias.data() + t * gradient.position_bias.stride(0);
            for (int64_t k = first; k < last; k++) to[k] += from[k];
        }
    }
    if (gradient.bias_u.defined()) {
        Tensor du = gradient.bias_u.slice(0, 0, T);
        kernels().aft_window_apply_f32(of_queries, in.bias_v.slice(0, 0, T), band.before(true), band.after(true), du);
    }
    if (gradient.bias_v.defined()) {
        Tensor dv = gradient.bias_v.slice(0, 0, T);
        kernels().aft_window_apply_f32(of_keys, in.bias_u.slice(0, 0, T), band.before(false), band.after(false), dv);
    }
}

MixerState LocalMixer::start(const MixerTensors &, int64_t batch, int64_t channels, int64_t length) const {
    if (!options_.causal) throw Error("decoding needs a causal mixer: a bidirectional one sees the future");
    return start_local(batch, channels, std::min(options_.window, length));
}

void LocalMixer::prefill(const MixerTensors &in, MixerState &state, Arena &) const { push_local(in.key, in.value, state.tensors.at(1).size(1), state); }

void LocalMixer::step(const MixerTensors &in, MixerState &state, Tensor &output, Arena &arena) const {
    check_mixer_tensors(options_, in);
    const int64_t window = state.tensors.at(1).size(1), longest = (in.position_bias.defined() ? in.position_bias : in.bias_u).size(0);
    if (state.position >= longest)
        throw Error("AFT-local has no position bias for token " + std::to_string(state.position + 1) + ": its bias ends at " + std::to_string(longest));
    push_local(in.key, in.value, window, state);
    step_local(in, window, state, output, arena);
}

}  // namespace

std::unique_ptr<Mixer> make_local_mixer(const MixerOptions &options) { return std::make_unique<LocalMixer>(options); }

}  // namespace aft
