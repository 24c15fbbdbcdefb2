// AFT-conv in one dimension (SPEC F4, F5, F7): taps over neighbours and running sums of the rest. Formulas and layouts:
// generators/aft_conv.h.
//
// Units and pieces as AFT-local (cut.h). A piece packs the rows that are new to it; those that it shares with the piece before are
// carried over. References: m[I] is a head's maximum of K up to the end of piece I (causal) or over the sequence; r of a head is the
// largest of its taps and 0. Elements that these cannot hold go to the exact path.
#include <algorithm>
#include <vector>

#include "aft/error.h"
#include "models/mixers/conv_decoding.h"
#include "models/mixers/conv_pieces.h"
#include "models/mixers/exact_path.h"
#include "models/mixers/mixers.h"

namespace aft {
namespace {

constexpr int64_t widest_unit = 512;  // channels

enum Kept { den, maxima, facts };  // MixerSaved; facts: spreads of K and w, max |V|

class ConvMixer : public Mixer {
public:
    explicit ConvMixer(const MixerOptions &options) : Mixer(options) {}

    void forward(const MixerTensors &in, Tensor &output, MixerSaved &saved, Arena &arena) const override;
    void backward(const MixerTensors &in, const Tensor &output, const MixerSaved &saved, const Tensor &output_gradient, MixerTensors &gradient,
                  Arena &arena) const override;

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
    static ExactRule rule(const MixerSaved &saved, const Cut &cut) {
        const double *fact = saved.tensors[facts].data<double>();
        return {cut.B, cut.T, cut.C, fact[0], fact[1], fact[2]};
    }
};

// The maxima [pieces, B, H] of K, and what the rule of exact elements asks: the spread of K in a column and max |V|. Found piece by
// piece where no other unit asks for them, just before the piece is packed: it is then still in L2.
class References {
public:
    References(const MixerTensors &in, const Cut &cut, Tensor maxima, Arena &arena)
        : in_(in), cut_(cut), H_(in.key.size(2)), maxima_(maxima), lowest_(arena.allocate({cut.pieces, cut.B, H_})), values_(arena.allocate({2, cut.B, cut.C})),
          start_(arena.allocate({2, H_})) {
        for (Tensor x : {values_, start_}) x.select(0, 0).fill(-3e38f), x.select(0, 1).fill(3e38f);
    }
    void find(const Part &part, int64_t I) const {
        const int64_t t0 = cut_.begin(I), t1 = cut_.end(I);
        const Tensor m = part.maxima(maxima_), l = part.maxima(lowest_), none = start_.slice(1, part.h0, part.h1), v = part.unit.of_maxima(values_);
        Tensor high = m.select(0, I), low = l.select(0, I), v_high = v.select(0, 0), v_low = v.select(0, 1);
        kernels().aft_window_range_f32(part.keys(in_.key).slice(0, t0, t1), I ? m.select(0, I - 1) : none.select(0, 0), I ? l.select(0, I - 1) : none.select(0, 1), high, low);
        kernels().aft_window_range_f32(part.of(in_.value).slice(0, t0, t1), v_high, v_low, v_high, v_low);
    }
    void find_all(bool causal) const {
        parallel_for(cut_.B, [&](int64_t b) {
            const Part part({b, 0, cut_.C, true}, cut_.C / H_);
            for (int64_t I = 0; I < cut_.pieces; I++) find(part, I);
            for (int64_t I = 0; !causal && I + 1 < cut_.pieces; I++) part.maxima(maxima_).select(0, I).copy_from(part.maxima(maxima_).select(0, cut_.pieces - 1));
        });
    }
    void facts(double *fact) const {
        fact[0] = fact[2] = 0;
        const float *top = maxima_.select(0, cut_.pieces - 1).data(), *bottom = lowest_.select(0, cut_.pieces - 1).data(), *value = values_.data();
        for (int64_t n = 0; n < cut_.B * H_; n++) fact[0] = std::max(fact[0], double(top[n]) - bottom[n]);
        for (int64_t n = 0; n < cut_.B * cut_.C; n++) fact[2] = std::max({fact[2], double(value[n]), -double(value[cut_.B * cut_.C + n])});
    }

private:
    const MixerTensors &in_;
    const Cut &cut_;
    int64_t H_;
    Tensor maxima_, lowest_, values_, start_;
};

// A walk over the pieces of a unit, for both passes: which rows are new to a piece, and the sums by head and by channel.
// pack(first, last, I, p): rows first .. last of the other side, relative to the reference of piece I, as rows from p of both packs.
struct Walk {
    const Cut &cut;
    const Reach &reach;
    bool causal;
    ConvSum heads, channels;
    Tensor maxima;  // [pieces, h]
    const int32_t *head_of;

    bool reversed() const { return heads.reversed; }
    int64_t piece(int64_t n) const { return reversed() ? cut.pieces - 1 - n : n; }
    // The state before piece number n of the walk, and the sums behind its rows.
    Tensor before(const ConvSum &sum, int64_t n) const { return sum.state(n % 2); }
    Tensor after(const ConvSum &sum, int64_t n) const { return sum.state(causal ? n % 2 : 2 + n); }
    Tensor next(const ConvSum &sum, int64_t n) const { return sum.state((n + 1) % 2); }

    template <class Pack>
    void start(const Pack &pack) const {
        for (const ConvSum *sum : {&heads, &channels}) sum->state(0).fill(0), sum->clear();
        if (causal) return;
        for (const ConvSum *sum : {&heads, &channels}) sum->state(1 + cut.pieces).fill(0);
        for (int64_t I = cut.pieces - 2; I >= 0; I--) {
            const int64_t first = std::min(cut.T, cut.begin(I + 1) + reach.after), last = std::min(cut.T, cut.begin(I + 2) + reach.after);
            if (first < last) pack(first, last, I, 0);
            for (const ConvSum *sum : {&heads, &channels}) {
                Tensor behind = sum->state(2 + I), total = sum->state(2 + cut.pieces);
                behind.copy_from(sum->state(3 + I));
                if (first == last) continue;
                kernels().aft_conv_total_f32(sum->pack.slice(0, 0, last - first), total);
                for (int64_t c = 0; c < sum->width; c++) behind.data()[c] += total.data()[c];
            }
        }
        for (const ConvSum *sum : {&heads, &channels}) sum->clear();
        if (const int64_t first = std::min(cut.T, reach.after)) pack(0, first, 0, reach.before);
    }
    // Brings scales, packs to piece number n.
    template <class Pack>
    void enter(int64_t n, const Pack &pack) const {
        const int64_t I = piece(n), ahead = reversed() ? 0 : reach.after, first = std::min(cut.T, cut.begin(I) + ahead), last = std::min(cut.T, cut.end(I) + ahead);
        if (n > 0) {
            if (causal) {
                const float *low = maxima.select(0, std::min(I, piece(n - 1))).data(), *high = maxima.select(0, std::max(I, piece(n - 1))).data();
                float *by_head = heads.scale.data(), *by_channel = channels.scale.data();
                for (int64_t h = 0; h < heads.width; h++) by_head[h] = falling(low[h], high[h]);
                for (int64_t c = 0; c < channels.width; c++) by_channel[c] = by_head[head_of[c]];
            }
            heads.carry(), channels.carry();
        }
        if (first < last) pack(first, last, I, heads.first_new());
        heads.clear_behind(last - first), channels.clear_behind(last - first);
    }
};

void ConvMixer::forward(const MixerTensors &in, Tensor &output, MixerSaved &saved, Arena &arena) const {
    check_mixer_tensors(options_, in);
    const bool causal = options_.causal;
    const int64_t B = in.value.size(0), T = in.value.size(1), C = in.value.size(2), H = in.key.size(2), group = C / H;
    const ConvFilterTaps filter(in, causal);
    const Cut cut(B, T, C, 64, widest_unit);
    saved.tensors = {arena.allocate({B, T, H}), arena.allocate({cut.pieces, B, H}), arena.allocate({3}, DType::f64)};
    ArenaScope scope(arena);
    const Reach reach(filter, true);
    const Heads heads(cut, group, arena);
    const References references(in, cut, saved.tensors[maxima], arena);
    const bool piece_by_piece = causal && heads.whole;
    if (!piece_by_piece) references.find_all(causal);
    const ConvMemory memory(filter, cut, reach, heads, true, false, arena);
    const Tensor dens = heads.whole ? Tensor() : arena.allocate({cut.groups, cut.piece * heads.most});

    cut.each([&](int64_t g, const Cut::Unit &unit) {
        const Part part(unit, group);
        const Tensor query = part.of(in.query), key = part.keys(in.key), value = part.of(in.value), m = part.maxima(saved.tensors[maxima]);
        const Tensor y = part.of(output), d = part.keys(saved.tensors[den]), head = part.channels(heads.of_channel);
        const Walk walk{cut, reach, causal, memory.by_head(g, part), memory.by_channel(g, part), m, head.data<int32_t>()};
        const ConvSum &weights = walk.heads, &values = walk.channels;
        const auto pack = [&](int64_t first, int64_t last, int64_t I, int64_t p) {
            Tensor e = weights.rows(p, p + last - first), eV = values.rows(p, p + last - first);
            kernels().aft_conv_values_f32(key.slice(0, first, last), value.slice(0, first, last), m.select(0, I), head, int32_t(group), e, eV);
        };
        walk.start(pack);
        for (int64_t I = 0; I < cut.pieces; I++) {
            const int64_t t0 = cut.begin(I), t1 = cut.end(I);
            if (piece_by_piece) references.find(part, I);
            walk.enter(I, pack);
            Tensor den_out = heads.whole ? d.slice(0, t0, t1) : dense(dens.select(0, g), {t1 - t0, part.heads()}), next = walk.next(weights, I);
            (causal ? kernels().aft_conv_causal_sums_f32 : kernels().aft_conv_both_sums_f32)(weights.pack, weights.taps, weights.far, walk.before(weights, I), walk.after(weights, I),
                                                                                             weights.scale, int32_t(reach.taps), int32_t(t1 - t0), den_out, next);
            if (!heads.whole) d.slice(0, t0, t1).slice(1, part.first_own(), part.heads()).copy_from(den_out.slice(1, part.first_own(), part.heads()));

            Tensor y_out = y.slice(0, t0, t1);
            next = walk.next(values, I);
            (causal ? kernels().aft_conv_causal_forward_f32 : kernels().aft_conv_both_forward_f32)(values.pack, values.taps, values.far, walk.before(values, I), walk.after(values, I),
                                                                                                   values.scale, int32_t(reach.taps), query.slice(0, t0, t1), den_out, head,
                                                                                                   int32_t(group), y_out, next);
        }
    });
    double *fact = saved.tensors[facts].data<double>();
    references.facts(fact);
    fact[1] = filter.spread;
    const ExactRule exact = rule(saved, cut);
    if (exact.forward(exact.least_den, 0, 0))
        exact_forward({in.query, in.key, in.value, causal}, ConvBias(filter, nullptr), exact, output, saved.tensors[den]);
}

// dK of heads that lie in several units: the sum of what each unit has.
void add_shares(const Cut &cut, int64_t group, const Tensor &shares, const Tensor &gradient) {
    parallel_for(cut.B, [&](int64_t b) {
        Tensor(gradient.select(0, b)).fill(0);
        for (int64_t block = 0; block < cut.blocks; block++) {
            const Part part({b, block * cut.channels, std::min(cut.C, (block + 1) * cut.channels), true}, group);
            const Tensor share = shares.select(0, block).select(0, b), dK = part.keys(gradient);
            for (int64_t t = 0; t < cut.T; t++)
                for (int64_t h = 0; h < part.heads(); h++) dK.data()[t * dK.stride(0) + h] += share.data()[t * share.stride(0) + h];
        }
    });
}

void ConvMixer::backward(const MixerTensors &in, const Tensor &output, const MixerSaved &saved, const Tensor &output_gradient, MixerTensors &gradient,
                         Arena &arena) const {
    check_mixer_output(in, output);
    const bool causal = options_.causal;
    const int64_t B = in.value.size(0), T = in.value.size(1), C = in.value.size(2), H = in.key.size(2), group = C / H;
    const ConvFilterTaps filter(in, causal);
    const Cut cut(B, T, C, 64, widest_unit);
    const ExactRule exact = rule(saved, cut);
    const bool wants_filter = gradient.filter.defined() || gradient.gamma.defined() || gradient.beta.defined();

    ArenaScope scope(arena);
    const Reach reach(filter, false);
    const Heads heads(cut, group, arena);
    const ConvMemory memory(filter, cut, reach, heads, false, true, arena);
    const int64_t head_panels = group == 1 ? 0 : ceil_div(heads.most, panel), panels = head_panels + cut.panels();  // a head a channel: one sum
    const Tensor slacks = arena.allocate({B, C}), sums = arena.allocate({cut.groups, cut.piece * heads.most});
    const Tensor products = wants_filter ? arena.allocate({B, cut.blocks, panels, reach.padded, panel}, DType::f64) : Tensor();  // -dw / E by head, then dw / E by channel
    const Tensor shares = heads.whole ? Tensor() : arena.allocate({cut.blocks, B, T, heads.most});                                // of dK
    std::vector<char> leaves_elements(size_t(cut.groups), 0);

    cut.each([&](int64_t g, const Cut::Unit &unit) {
        const Part part(unit, group);
        const int64_t block = unit.c0 / cut.channels, W = part.width(), n_heads = part.heads();
        const Tensor query = part.of(in.query), key = part.keys(in.key), value = part.of(in.value), m = part.maxima(saved.tensors[maxima]), head = part.channels(heads.of_channel);
        const Tensor dy = part.of(output_gradient), y = part.of(output), d = part.keys(saved.tensors[den]);
        const Tensor dQ = part.of(gradient.query), dV = part.of(gradient.value);
        const Tensor dK = heads.whole ? part.keys(gradient.key) : shares.select(0, block).select(0, unit.b).slice(1, 0, n_heads);
        const Walk walk{cut, reach, causal, memory.by_head(g, part), memory.by_channel(g, part), m, head.data<int32_t>()};
        Tensor slack = part.channels(slacks.select(0, unit.b));
        slack.fill(1);
        const Tensor slack_so_far = slack.repeat(0, T);
        const auto pack = [&](int64_t first, int64_t last, int64_t, int64_t p) {
            Tensor G = walk.channels.rows(p, p + last - first), sums_of_GR = walk.heads.rows(p, p + last - first);
            // G R by channel stands, until it is summed, where e V of the keys will; with a head a channel it is the sum.
            Tensor GR = group == 1 ? sums_of_GR : memory.other(1, g, last - first, W).slice(1, 0, W), dq = dQ.slice(0, first, last), least = slack_so_far.slice(0, first, last);
            kernels().aft_conv_queries_f32(dy.slice(0, first, last), query.slice(0, first, last), y.slice(0, first, last), d.slice(0, first, last), head, int32_t(group),
                                           exact.gradient_factor, G, GR, dq, least);
            if (group != 1) kernels().aft_conv_heads_f32(GR, int32_t(group), int32_t(part.elsewhere()), sums_of_GR);
        };
        Tensor by_head, by_channel;
        if (wants_filter) {
            const Tensor mine = products.select(0, unit.b).select(0, block);
            std::fill_n(mine.data<double>(), mine.elements(), 0.0);
            by_head = mine.slice(0, 0, ceil_div(n_heads, panel)), by_channel = mine.slice(0, head_panels, head_panels + unit.panels());
        }
        walk.start(pack);
        for (int64_t n = 0; n < cut.pieces; n++) {
            const int64_t J = walk.piece(n), t0 = cut.begin(J), t1 = cut.end(J), rows = t1 - t0;
            walk.enter(n, pack);
            const Tensor e_rows = memory.other(0, g, rows, n_heads), eV_rows = memory.other(1, g, rows, W), values = value.slice(0, t0, t1);
            Tensor e = e_rows.slice(1, 0, n_heads), eV = eV_rows.slice(1, 0, W);
            kernels().aft_conv_values_f32(key.slice(0, t0, t1), values, m.select(0, J), head, int32_t(group), e, eV);
            const ConvSum *sum = &walk.heads;
            Tensor P = dense(sums.select(0, g), {rows, n_heads}), next = walk.next(*sum, n);
            (causal ? kernels().aft_conv_reversed_sums_f32 : kernels().aft_conv_both_sums_f32)(sum->pack, sum->taps, sum->far, walk.before(*sum, n), walk.after(*sum, n), sum->scale,
                                                                                               int32_t(reach.taps), int32_t(rows), P, next);
            sum = &walk.channels;
            Tensor dv = dV.slice(0, t0, t1), dk = dK.slice(0, t0, t1);
            next = walk.next(*sum, n);
            (causal ? kernels().aft_conv_reversed_backward_f32 : kernels().aft_conv_both_backward_f32)(sum->pack, sum->taps, sum->far, walk.before(*sum, n), walk.after(*sum, n),
                                                                                                       sum->scale, int32_t(reach.taps), e, head, int32_t(group), dv, next);
            kernels().aft_conv_key_gradient_f32(values, dv, e, P, int32_t(group), int32_t(part.elsewhere()), dk);
            if (!wants_filter) continue;
            kernels().aft_conv_filter_f32(e_rows, walk.heads.pack, -1, by_head);
            kernels().aft_conv_filter_f32(eV_rows, walk.channels.pack, 1, by_channel);
        }
        for (int64_t c = 0; c < W; c++) leaves_elements[size_t(g)] |= !(slack.data()[c] >= 0);
    });
    if (!heads.whole) add_shares(cut, group, shares, gradient.key);
    std::vector<double> dw(size_t(H * reach.taps), 0);
    if (wants_filter)
        parallel_for(H, [&](int64_t h) {
            for (int64_t b = 0; b < B; b++)
                for (int64_t block = h * group / cut.channels; block <= ((h + 1) * group - 1) / cut.channels; block++) {
                    const int64_t c0 = block * cut.channels, c1 = std::min(C, c0 + cut.channels);
                    const double *mine = products.select(0, b).select(0, block).data<double>();
                    const auto add = [&](int64_t column) {
                        for (int64_t j = 0; j < reach.taps; j++)  // pieces of keys meet the taps in reverse
                            dw[size_t(h * reach.taps + j)] += mine[(column / panel * reach.padded + reach.taps - 1 - j) * panel + column % panel];
                    };
                    for (int64_t c = std::max(c0, h * group); c < std::min(c1, (h + 1) * group); c++) add(head_panels * panel + c - c0);
                    if (head_panels) add(h - c0 / group);
                }
            for (int64_t j = 0; j < reach.taps; j++) dw[size_t(h * reach.taps + j)] *= filter.weight(h, j);
        });
    if (std::ranges::count(leaves_elements, 0) != cut.groups) {
        ConvBias bias(filter, wants_filter ? &dw : nullptr);
        exact_backward({in.query, in.key, in.value, causal}, bias, exact, output, output_gradient, saved.tensors[den], gradient);
    }
    if (wants_filter) filter.add_gradient(in, dw, gradient);
}

}  // namespace

std::unique_ptr<Mixer> make_conv_mixer(const MixerOptions &options) { return std::make_unique<ConvMixer>(options); }

}  // namespace aft
