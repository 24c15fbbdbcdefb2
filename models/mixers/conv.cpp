// AFT-conv in one dimension (SPEC F4, F5, F7): taps over neighbours and running sums of the rest. Formulas and layouts:
// generators/aft_conv.h.
//
// Units and pieces as AFT-local (cut.h). References: m[I] is a head's maximum of K up to the end of piece I (causal) or over the
// sequence; r of a head is the largest of its taps and 0. Elements that these cannot hold go to the exact path.
#include <algorithm>
#include <cmath>
#include <vector>

#include "aft/error.h"
#include "kernel_table.h"
#include "models/mixers/conv_decoding.h"
#include "models/mixers/conv_filter.h"
#include "models/mixers/cut.h"
#include "models/mixers/exact_path.h"
#include "models/mixers/mixers.h"

namespace aft {
namespace {

constexpr int64_t pad = 8, pitch = 144;  // conv_pad, conv_pitch of generators/aft_conv.h

// Which rows of the other side the taps of a piece meet: pack row p is the piece's row p - before.
struct Reach {
    int64_t taps, padded, before, after;
    Reach(const ConvFilterTaps &filter, bool of_queries)
        : taps(filter.taps), padded(round_up(filter.taps, pad)), before(of_queries ? filter.before : filter.taps - 1 - filter.before), after(taps - 1 - before) {}
    int64_t rows(int64_t piece) const { return round_up(piece, granule) + padded - 1; }
};

// Rows of the other side that a piece sees; pack row p is row first + p - missing.
struct Seen {
    int64_t first, last, rows;
    int32_t missing;
    Seen(const Cut &cut, int64_t I, const Reach &reach) : rows(reach.rows(cut.end(I) - cut.begin(I))) {
        const int64_t begin = cut.begin(I) - reach.before;
        first = std::max<int64_t>(0, begin), last = std::min(cut.T, begin + rows), missing = int32_t(first - begin);
    }
};

// The head of each channel, counted from the first of its unit; whether each head lies in one unit.
struct Heads {
    Tensor of_channel;  // [C] i32
    bool whole;
    Heads(const Cut &cut, int64_t group, Arena &arena) : of_channel(arena.allocate({cut.C}, DType::i32)), whole(cut.blocks == 1 || cut.channels % group == 0) {
        for (int64_t c = 0; c < cut.C; c++) of_channel.data<int32_t>()[c] = int32_t(c / group - c / cut.channels * cut.channels / group);
    }
};

// Taps, and the weight beyond them, of the columns of each block of channels: its channels, or its heads.
struct Columns {
    Tensor taps, far;  // [blocks, panels, padded, 16], [blocks, panels * 16], padded with zeros, in the order in which a piece meets them
    Columns(const ConvFilterTaps &filter, const Cut &cut, bool of_heads, bool of_queries, Arena &arena) {
        const int64_t group = cut.C / filter.heads, padded = round_up(filter.taps, pad), most = of_heads ? std::min(filter.heads, cut.channels / group + 2) : std::min(cut.C, cut.channels);
        taps = arena.allocate({cut.blocks, ceil_div(most, panel), padded, panel}), far = arena.allocate({cut.blocks, round_up(most, panel)});
        taps.fill(0), far.fill(0);
        std::vector<float> weights(size_t(filter.taps * filter.heads));
        for (int64_t n = 0; n < filter.heads * filter.taps; n++) weights[size_t(n)] = filter.weight(n / filter.taps, n % filter.taps);
        for (int64_t block = 0; block < cut.blocks; block++) {
            const int64_t c0 = block * cut.channels, c1 = std::min(cut.C, c0 + cut.channels), first = of_heads ? c0 / group : c0, last = of_heads ? (c1 - 1) / group + 1 : c1;
            for (int64_t n = first; n < last; n++) {
                const int64_t head = of_heads ? n : n / group, column = n - first;
                float *to = taps.select(0, block).data() + column / panel * padded * panel + column % panel;
                for (int64_t j = 0; j < filter.taps; j++) to[(of_queries ? j : filter.taps - 1 - j) * panel] = weights[size_t(head * filter.taps + j)];
                far.select(0, block).data()[column] = filter.far(head);
            }
        }
    }
};

// A unit's heads, and its part of tensors by channel or by head.
struct Part {
    Cut::Unit unit;
    int64_t group, h0, h1;
    Part(const Cut::Unit &unit, int64_t group) : unit(unit), group(group), h0(unit.c0 / group), h1((unit.c1 - 1) / group + 1) {}
    int64_t width() const { return unit.c1 - unit.c0; }
    int64_t first_own() const { return (unit.c0 + group - 1) / group - h0; }  // of its heads: the first that begins here
    Tensor of(const Tensor &x) const { return unit.of(x); }                                     // [B, T, C] -> [T, c]
    Tensor keys(const Tensor &x) const { return x.select(0, unit.b).slice(1, h0, h1); }         // [B, T, H] -> [T, h]
    Tensor maxima(const Tensor &x) const { return x.select(1, unit.b).slice(1, h0, h1); }       // [pieces, B, H] -> [pieces, h]
    Tensor channels(const Tensor &x) const { return x.slice(0, unit.c0, unit.c1); }             // [C] -> [c]
};

// Memory of a group: dense tensors of the unit at hand.
Tensor dense(const Tensor &memory, Shape shape) {
    int64_t elements = 1;
    for (int64_t size : shape) elements *= size;
    return memory.slice(0, 0, elements).reshape(std::move(shape));
}

// Rows of `width` columns, padded to whole panels, at the pitch of the kernels.
Tensor rows_of(const Tensor &memory, int64_t rows, int64_t width) { return dense(memory, {rows, pitch}).slice(1, 0, round_up(width, panel)); }

// Zeros where a pack of `width` columns has no row (all but `count` from `first`) or no column.
void clear_around(const Tensor &pack, int64_t first, int64_t count, int64_t width) {
    for (int64_t p = 0; p < pack.size(0); p++) {
        const int64_t from = p >= first && p < first + count ? width : 0;
        std::fill(pack.data() + p * pitch + from, pack.data() + p * pitch + pack.size(1), 0.0f);
    }
}

// exp(low - high) <= 1: brings a carried sum to the next reference.
float falling(float low, float high) { return low < high ? std::exp(std::max(low - high, -87.3f)) : 1.0f; }

enum Kept { ratio, den, maxima, facts };  // MixerSaved; facts: spreads of K and w, max |V|

class ConvMixer : public Mixer {
public:
    explicit ConvMixer(const MixerOptions &options) : Mixer(options) {}

    void forward(const MixerTensors &in, Tensor &output, MixerSaved &saved, Arena &arena) const override;
    void backward(const MixerTensors &in, const MixerSaved &saved, const Tensor &output_gradient, MixerTensors &gradient, Arena &arena) const override;

    MixerState start(const MixerTensors &parameters, int64_t batch, int64_t channels, int64_t length) const override {
        if (!options_.causal) throw Error("decoding needs a causal mixer: a bidirectional one sees the future");
        return start_conv(parameters.filter, batch, channels, length);
    }
    void prefill(const MixerTensors &in, MixerState &state, Arena &) const override { push_conv(in.key, in.value, state); }
    void step(const MixerTensors &in, MixerState &state, Tensor &output, Arena &arena) const override {
        check_mixer_tensors(options_, in);
        push_conv(in.key, in.value, state);
        step_conv(in, state, output, arena);
    }

private:
    void find_references(const MixerTensors &in, const Cut &cut, Tensor &maxima, double *fact, Arena &arena) const;
    static ExactRule rule(const MixerSaved &saved, const Cut &cut) {
        const double *fact = saved.tensors[facts].data<double>();
        return {cut.B, cut.T, cut.C, fact[0], fact[1], fact[2]};
    }
};

// maxima [pieces, B, H], the spread of K in a column and max |V|.
void ConvMixer::find_references(const MixerTensors &in, const Cut &cut, Tensor &maxima, double *fact, Arena &arena) const {
    ArenaScope scope(arena);
    const int64_t H = in.key.size(2);
    Tensor low = arena.allocate({cut.pieces, cut.B, H}), extremes = arena.allocate({2, cut.B, cut.C});
    Tensor start = arena.allocate({2, std::max(H, cut.C)});
    start.select(0, 0).fill(-3e38f), start.select(0, 1).fill(3e38f);
    parallel_for(cut.B, [&](int64_t b) {
        const Tensor key = in.key.select(0, b), m = maxima.select(1, b), l = low.select(1, b);
        const auto begin = [&](int64_t n, int64_t width) { return start.select(0, n).slice(0, 0, width); };
        for (int64_t I = 0; I < cut.pieces; I++) {
            Tensor m_out = m.select(0, I), l_out = l.select(0, I);
            kernels().aft_window_range_f32(key.slice(0, cut.begin(I), cut.end(I)), I ? m.select(0, I - 1) : begin(0, H), I ? l.select(0, I - 1) : begin(1, H), m_out, l_out);
        }
        if (!options_.causal)
            for (int64_t I = 0; I + 1 < cut.pieces; I++) m.select(0, I).copy_from(m.select(0, cut.pieces - 1));
        Tensor high = extremes.select(0, 0).select(0, b), lowest = extremes.select(0, 1).select(0, b);
        kernels().aft_window_range_f32(in.value.select(0, b), begin(0, cut.C), begin(1, cut.C), high, lowest);
    });
    fact[0] = fact[2] = 0;
    const float *top = maxima.select(0, cut.pieces - 1).data(), *bottom = low.select(0, cut.pieces - 1).data();
    for (int64_t n = 0; n < cut.B * H; n++) fact[0] = std::max(fact[0], double(top[n]) - bottom[n]);
    for (int64_t n = 0; n < 2 * cut.B * cut.C; n++) fact[2] = std::max(fact[2], std::abs(double(extremes.data()[n])));
}

void ConvMixer::forward(const MixerTensors &in, Tensor &output, MixerSaved &saved, Arena &arena) const {
    check_mixer_tensors(options_, in);
    const int64_t B = in.value.size(0), T = in.value.size(1), C = in.value.size(2), H = in.key.size(2), group = C / H;
    const ConvFilterTaps filter(in, options_.causal);
    const Cut cut(B, T, C, 64);
    saved.tensors = {arena.allocate({B, T, C}), arena.allocate({B, T, H}), arena.allocate({cut.pieces, B, H}), arena.allocate({3}, DType::f64)};
    ArenaScope scope(arena);
    double *fact = saved.tensors[facts].data<double>();
    find_references(in, cut, saved.tensors[maxima], fact, arena);
    fact[1] = filter.spread;

    const Reach reach(filter, true);
    const Heads heads(cut, group, arena);
    const Columns channels(filter, cut, false, true, arena), head_columns = group == 1 ? channels : Columns(filter, cut, true, true, arena);
    const int64_t rows = std::max(reach.rows(cut.piece), cut.piece), carried = options_.causal ? 2 : cut.pieces + 3;  // two carried states, the sums behind each piece, a total
    const Tensor packs = arena.allocate({cut.groups, 2, rows * pitch}), states = arena.allocate({cut.groups, 2, carried, pitch}), scales = arena.allocate({cut.groups, 2, pitch});
    const Tensor dens = heads.whole ? Tensor() : arena.allocate({cut.groups, cut.piece * pitch});
    Tensor(scales).fill(1);

    cut.each([&](int64_t g, const Cut::Unit &unit) {
        const Part part(unit, group);
        const int64_t W = part.width(), n_heads = part.h1 - part.h0, block = unit.c0 / cut.channels;
        const Tensor query = part.of(in.query), key = part.keys(in.key), value = part.of(in.value), m = part.maxima(saved.tensors[maxima]);
        const Tensor y = part.of(output), R = part.of(saved.tensors[ratio]), d = part.keys(saved.tensors[den]), head = part.channels(heads.of_channel);
        // Of two things alike: the weights (by head) and the values (by channel).
        struct Sums {
            Tensor pack, states, taps, far, scale;
            int64_t width;
            Tensor state(int64_t n) const { return states.select(0, n).slice(0, 0, round_up(width, panel)); }
        };
        const auto sums_of = [&](int which, const Columns &columns, int64_t width) {
            const int64_t padded_width = round_up(width, panel);
            return Sums{packs.select(0, g).select(0, which), states.select(0, g).select(0, which), columns.taps.select(0, block).slice(0, 0, padded_width / panel),
                        columns.far.select(0, block).slice(0, 0, padded_width), scales.select(0, g).select(0, which).slice(0, 0, padded_width), width};
        };
        Sums weights = sums_of(0, head_columns, n_heads), values = sums_of(1, channels, W);
        // Rows first .. last of the keys as rows missing .. of packs of `rows` rows.
        const auto pack_keys = [&](int64_t first, int64_t last, int64_t I, int64_t missing, int64_t rows) {
            const Tensor e = rows_of(weights.pack, rows, n_heads), eV = rows_of(values.pack, rows, W);
            clear_around(e, missing, last - first, n_heads), clear_around(eV, missing, last - first, W);
            Tensor e_out = e.slice(0, missing, missing + last - first).slice(1, 0, n_heads), eV_out = eV.slice(0, missing, missing + last - first).slice(1, 0, W);
            kernels().aft_conv_values_f32(key.slice(0, first, last), value.slice(0, first, last), m.select(0, I), head, int32_t(group), e_out, eV_out);
            return std::pair(e, eV);
        };
        for (const Sums *s : {&weights, &values}) s->state(0).fill(0);
        if (!options_.causal) {
            for (const Sums *s : {&weights, &values}) s->state(1 + cut.pieces).fill(0);
            for (int64_t I = cut.pieces - 2; I >= 0; I--) {
                const int64_t first = std::min(T, cut.begin(I + 1) + reach.after), last = std::min(T, cut.begin(I + 2) + reach.after);
                for (const Sums *s : {&weights, &values}) s->state(2 + I).copy_from(s->state(3 + I));
                if (first == last) continue;
                const auto [e, eV] = pack_keys(first, last, I, 0, last - first);
                const auto add = [&](const Sums &s, const Tensor &pack) {
                    Tensor sum = s.state(2 + I), total = s.state(2 + cut.pieces);
                    kernels().aft_conv_total_f32(pack, total);
                    for (int64_t n = 0; n < sum.elements(); n++) sum.data()[n] += total.data()[n];
                };
                add(weights, e), add(values, eV);
            }
        }
        for (int64_t I = 0; I < cut.pieces; I++) {
            const Seen seen(cut, I, reach);
            const int64_t t0 = cut.begin(I), t1 = cut.end(I);
            const auto [e, eV] = pack_keys(seen.first, seen.last, I, seen.missing, seen.rows);
            const Tensor low = m.select(0, std::max<int64_t>(0, I - 1)), high = m.select(0, I);
            for (int64_t h = 0; h < n_heads; h++) weights.scale.data()[h] = falling(low.data()[h], high.data()[h]);
            for (int64_t c = 0; c < W; c++) values.scale.data()[c] = weights.scale.data()[head.data<int32_t>()[c]];
            const auto after = [&](const Sums &s) { return s.state(options_.causal ? I % 2 : 2 + I); };

            Tensor den_out = heads.whole ? d.slice(0, t0, t1) : dense(dens.select(0, g), {t1 - t0, n_heads}), next = weights.state((I + 1) % 2);
            (options_.causal ? kernels().aft_conv_causal_sums_f32 : kernels().aft_conv_both_sums_f32)(e, weights.taps, weights.far, weights.state(I % 2), after(weights), weights.scale,
                                                                                                      int32_t(reach.taps), int32_t(t1 - t0), den_out, next);
            if (!heads.whole)  // a head that begins in an earlier unit is that unit's
                for (int64_t t = t0; t < t1; t++)
                    for (int64_t h = part.first_own(); h < n_heads; h++) d.data()[t * d.stride(0) + h] = den_out.data()[(t - t0) * n_heads + h];

            Tensor y_out = y.slice(0, t0, t1), R_out = R.slice(0, t0, t1);
            next = values.state((I + 1) % 2);
            (options_.causal ? kernels().aft_conv_causal_forward_f32 : kernels().aft_conv_both_forward_f32)(
                query.slice(0, t0, t1), den_out, head, int32_t(group), eV, values.taps, values.far, values.state(I % 2), after(values), values.scale, int32_t(reach.taps), y_out, R_out,
                next);
        }
    });
    const ExactRule exact = rule(saved, cut);
    if (exact.forward(exact.least_den, 0))
        exact_forward({in.query, in.key, in.value, options_.causal}, ConvBias(filter, nullptr), exact, output, saved.tensors[ratio], saved.tensors[den]);
}

void ConvMixer::backward(const MixerTensors &in, const MixerSaved &saved, const Tensor &output_gradient, MixerTensors &gradient, Arena &arena) const {
    const int64_t B = in.value.size(0), T = in.value.size(1), C = in.value.size(2), H = in.key.size(2), group = C / H;
    const ConvFilterTaps filter(in, options_.causal);
    const Cut cut(B, T, C, 64);
    const ExactRule exact = rule(saved, cut);
    const bool wants_filter = gradient.filter.defined() || gradient.gamma.defined() || gradient.beta.defined();

    ArenaScope scope(arena);
    const Reach reach(filter, false);
    const Heads heads(cut, group, arena);
    const Columns channels(filter, cut, false, false, arena);
    const int64_t width = cut.panels() * panel, carried = options_.causal ? 2 : cut.pieces + 3;
    const Tensor query_packs = arena.allocate({cut.groups, 2 * width * std::max(reach.rows(cut.piece), cut.piece)}), key_packs = arena.allocate({cut.groups, 2 * width * cut.piece});
    const Tensor states = arena.allocate({cut.groups, carried, 2 * width}), scales = arena.allocate({cut.groups, width}), ones = arena.allocate({cut.piece});
    Tensor(ones).fill(1);
    const Tensor unused = options_.causal ? Tensor() : arena.allocate({cut.groups, cut.piece * width});
    const Tensor slacks = arena.allocate({B, C}), products = arena.allocate({cut.groups, reach.padded * width});
    const Tensor sums = wants_filter ? arena.allocate({B, reach.taps, C}, DType::f64) : Tensor();  // of dw / E, by channel
    const Tensor shares = group > 1 ? arena.allocate({B, T, C}) : gradient.key;                      // of dK, by channel
    std::vector<char> leaves_elements(size_t(cut.groups), 0);

    cut.each([&](int64_t g, const Cut::Unit &unit) {
        const Part part(unit, group);
        const int64_t W = part.width(), P = unit.panels(), block = unit.c0 / cut.channels;
        const Tensor query = part.of(in.query), key = part.keys(in.key), value = part.of(in.value), m = part.maxima(saved.tensors[maxima]);
        const Tensor dy = part.of(output_gradient), R = part.of(saved.tensors[ratio]), d = part.keys(saved.tensors[den]);
        const Tensor dQ = part.of(gradient.query), dK = part.of(shares), dV = part.of(gradient.value);
        const Tensor taps = channels.taps.select(0, block).slice(0, 0, P), far = channels.far.select(0, block).slice(0, 0, W), head = part.channels(heads.of_channel);
        const auto state = [&](int64_t n) { return dense(states.select(0, g).select(0, n), {P, 2, panel}); };
        Tensor slack = part.channels(slacks.select(0, unit.b)), scale = dense(scales.select(0, g), {W});
        const auto pack_queries = [&](int64_t first, int64_t last, int64_t J, int32_t missing, int64_t before, int64_t rows, Tensor dq) {
            Tensor pack = dense(query_packs.select(0, g), {P, rows, 2, panel});
            kernels().aft_conv_queries_f32(dy.slice(0, first, last), query.slice(0, first, last), R.slice(0, first, last), d.slice(0, first, last), m.select(0, J),
                                           m.slice(0, J, cut.pieces), head, int32_t(cut.piece), missing, int32_t(before), exact.gradient_factor, pack, dq, slack);
            for (int64_t c = 0; c < W; c++) leaves_elements[size_t(g)] |= !(slack.data()[c] >= 0);
            return pack;
        };
        state(0).fill(0);
        if (!options_.causal) {
            state(1 + cut.pieces).fill(0);
            for (int64_t J = cut.pieces - 2; J >= 0; J--) {
                const int64_t first = std::min(T, cut.begin(J + 1) + reach.after), last = std::min(T, cut.begin(J + 2) + reach.after);
                Tensor sum = state(2 + J), total = state(2 + cut.pieces);
                sum.copy_from(state(3 + J));
                if (first == last) continue;
                kernels().aft_window_total_f32(pack_queries(first, last, J, 0, 0, last - first, dense(unused.select(0, g), {last - first, W})), ones.slice(0, 0, last - first), total);
                for (int64_t n = 0; n < sum.elements(); n++) sum.data()[n] += total.data()[n];
            }
        }
        for (int64_t n = 0; n < cut.pieces; n++) {
            const int64_t J = options_.causal ? cut.pieces - 1 - n : n, t0 = cut.begin(J), t1 = cut.end(J);
            const Seen seen(cut, J, reach);
            const Tensor queries = pack_queries(seen.first, seen.last, J, seen.missing, reach.before, seen.rows, dQ.slice(0, t0, t1));
            Tensor keys = dense(key_packs.select(0, g), {P, t1 - t0, 2, panel});
            kernels().aft_conv_keys_f32(key.slice(0, t0, t1), value.slice(0, t0, t1), m.select(0, J), head, 0, keys);
            const Tensor low = m.select(0, J), high = m.select(0, options_.causal ? std::min(J + 1, cut.pieces - 1) : J);
            for (int64_t c = 0; c < W; c++) {
                const int32_t h = head.data<int32_t>()[c];
                scale.data()[c] = falling(low.data()[h], high.data()[h]);
            }
            Tensor dv = dV.slice(0, t0, t1), dk = dK.slice(0, t0, t1), next = state((n + 1) % 2);
            (options_.causal ? kernels().aft_conv_reversed_backward_f32 : kernels().aft_conv_both_backward_f32)(
                keys, value.slice(0, t0, t1), queries, taps, far, state(n % 2), options_.causal ? state(n % 2) : state(2 + J), scale, int32_t(reach.taps), dv, dk, next);
            if (!wants_filter) continue;
            Tensor product = dense(products.select(0, g), {P, reach.padded, panel});
            kernels().aft_conv_filter_f32(keys, queries, int32_t(t1 - t0), product);
            for (int64_t j = 0; j < reach.taps; j++) {
                double *to = sums.data<double>() + (unit.b * reach.taps + j) * C + unit.c0;
                for (int64_t c = 0; c < W; c++) to[c] = (n ? to[c] : 0) + product.data()[(c / panel * reach.padded + j) * panel + c % panel];
            }
        }
    });
    if (group > 1)
        for (int64_t b = 0; b < B; b++) {
            Tensor dk = gradient.key.select(0, b);
            kernels().aft_conv_heads_f32(shares.select(0, b), int32_t(group), dk);
        }
    std::vector<double> dw(size_t(H * reach.taps), 0);
    if (wants_filter)
        parallel_for(H, [&](int64_t h) {
            for (int64_t j = 0; j < reach.taps; j++) {  // pieces of keys meet the taps in reverse
                double sum = 0;
                for (int64_t b = 0; b < B; b++)
                    for (int64_t c = h * group; c < (h + 1) * group; c++) sum += sums.data<double>()[(b * reach.taps + reach.taps - 1 - j) * C + c];
                dw[size_t(h * reach.taps + j)] = sum * filter.weight(h, j);
            }
        });
    if (std::ranges::count(leaves_elements, 0) != cut.groups) {
        ConvBias bias(filter, wants_filter ? &dw : nullptr);
        exact_backward({in.query, in.key, in.value, options_.causal}, bias, exact, output_gradient, saved.tensors[den], gradient.key, gradient.value);
    }
    if (wants_filter) filter.add_gradient(in, dw, gradient);
}

}  // namespace

std::unique_ptr<Mixer> make_conv_mixer(const MixerOptions &options) { return std::make_unique<ConvMixer>(options); }

}  // namespace aft
