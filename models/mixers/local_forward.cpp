// AFT-local, forward: the table of the band, the references, and the pieces.
#include <cmath>
#include <cstring>
#include <vector>

#include "kernel_table.h"
#include "models/mixers/local.h"
#include "models/mixers/magnitudes.h"
#include "models/mixers/mixers.h"

namespace aft::local {
namespace {

constexpr int64_t table_rows = 10 * granule;  // of a task: with d' = 256 its rows of u and v are a quarter of a megabyte, with their scores and tiles less than a third

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

// The maxima [pieces, B, C] of K, and what the rule of exact elements asks: the spread of K in a column and max |V|. Found piece by
// piece, for causal sums just before the piece is packed: it is then still in L2.
class References {
public:
    References(const MixerTensors &in, const Cut &cut, Tensor maxima, Arena &arena)
        : in_(in), cut_(cut), high_(maxima), low_(arena.allocate(maxima.shape())), start_(arena.allocate({2, cut.C})), values_(arena.allocate({slots(cut), 2, cut.channels})) {
        start_.select(0, 0).fill(-3e38f), start_.select(0, 1).fill(3e38f);
        values_.select(1, 0).fill(-3e38f), values_.select(1, 1).fill(3e38f);
    }
    // Of piece I alone.
    void find(const Task &task, int64_t I) const {
        const Cut::Unit &unit = task.unit;
        const int64_t t0 = cut_.begin(I), t1 = cut_.end(I);
        const Tensor none = start_.slice(1, unit.c0, unit.c1), values = values_.select(0, task.slot).slice(1, 0, unit.c1 - unit.c0);
        Tensor high = unit.of_maxima(high_).select(0, I), low = unit.of_maxima(low_).select(0, I), v_high = values.select(0, 0), v_low = values.select(0, 1);
        kernels().aft_window_range_f32(unit.of(in_.key).slice(0, t0, t1), none.select(0, 0), none.select(0, 1), high, low);
        kernels().aft_window_range_f32(unit.of(in_.value).slice(0, t0, t1), v_high, v_low, v_high, v_low);
    }
    // Adds what the pieces before have.
    void link(const Cut::Unit &unit, int64_t I) const {
        if (I == 0) return;
        const Tensor highs = unit.of_maxima(high_), lows = unit.of_maxima(low_);
        const float *high_before = highs.select(0, I - 1).data(), *low_before = lows.select(0, I - 1).data();
        float *high = highs.select(0, I).data(), *low = lows.select(0, I).data();
        for (int64_t c = 0; c < unit.c1 - unit.c0; c++) high[c] = std::max(high_before[c], high[c]), low[c] = std::min(low_before[c], low[c]);
    }
    void find_all() const {  // not causal: each piece sees all keys
        each_task(cut_, false, 1, [&](const Task &task) {
            for (int64_t I = 0; I < cut_.pieces; I++) find(task, I), link(task.unit, I);
            const Tensor m = task.unit.of_maxima(high_);
            for (int64_t I = 0; I + 1 < cut_.pieces; I++) m.select(0, I).copy_from(m.select(0, cut_.pieces - 1));
        });
    }
    void facts(double *fact) const {
        fact[0] = fact[2] = 0;
        const float *top = high_.select(0, cut_.pieces - 1).data(), *bottom = low_.select(0, cut_.pieces - 1).data();
        for (int64_t n = 0; n < cut_.B * cut_.C; n++) fact[0] = std::max(fact[0], double(top[n]) - bottom[n]);
        for (int64_t slot = 0; slot < values_.size(0); slot++)
            for (int64_t c = 0; c < std::min(cut_.C, cut_.channels); c++)
                for (int64_t end : {0, 1}) fact[2] = std::max(fact[2], (end ? -1 : 1) * double(values_.select(0, slot).select(0, end).data()[c]));
    }

private:
    const MixerTensors &in_;
    const Cut &cut_;
    Tensor high_, low_, start_, values_;  // values: of the pieces that used a slot, which is all that their maximum asks
};

}  // namespace

// exp(w - r), also as tiles, far weights, and the largest max - min of w in a row. Some rows at a time, which stay in L2 from u and v to the
// tiles: a lone long sequence has nobody to share the table's cost with.
double LocalMixer::make_table(const MixerTensors &in, const Band &band, const Tensor &table, const Tensor &far, const Tensor &tiles, Arena &arena) const {
    ArenaScope scope(arena);
    const int64_t T = band.T, width = band.width(), tasks = ceil_div(T, table_rows), workers = look_back_workers(tasks, 1);
    const int32_t before = band.before(true), window = int32_t(band.window);
    const bool factored = options_.window > 0 && !in.position_bias.defined();
    const Tensor u = factored ? factor_rows(in.bias_u, T, arena) : Tensor(), v = factored ? factor_rows(in.bias_v, T, arena) : Tensor();
    const Tensor narrow_scores = arena.allocate({workers, table_rows, width}), spreads = arena.allocate({workers, table_rows});
    const Tensor wide_scores = factored ? arena.allocate({workers, table_rows, width}, DType::f64) : Tensor();
    std::vector<float> widest(size_t(tasks), 0);
    look_back(tasks, 1, 0, [&](LinkedBlock &task) {
        const int64_t t0 = task.chain * table_rows, t1 = std::min(T, t0 + table_rows);
        Tensor scores = narrow_scores.select(0, task.worker).slice(0, 0, t1 - t0);
        bool wide = false;
        if (options_.window == 0) {
            scores.fill(0);
        } else if (in.position_bias.defined()) {
            for (int64_t t = t0; t < t1; t++) {
                const int64_t first = std::max<int64_t>(0, t - window + 1), last = band.causal ? t + 1 : std::min(T, t + window);
                const int64_t base = t / granule * granule - before;
                std::memcpy(scores.data() + (t - t0) * width + first - base, in.position_bias.data() + t * in.position_bias.stride(0) + first, size_t(last - first) * 4);
            }
        } else {
            const int64_t first = std::max<int64_t>(0, t0 - before), last = std::min(T, t1 + band.after(true));
            const Tensor rows = u.slice(1, t0, t1), others = v.slice(1, first, last);
            // An fp32 dot product is off by some eps |u| |v|, and exp(w) by that factor: beyond 32 in double.
            wide = largest_norm(rows.select(0, 0), t1 - t0) * largest_norm(others.select(0, 0), last - first) > 32;
            if (wide) scores = wide_scores.select(0, task.worker).slice(0, 0, t1 - t0);
            (wide ? kernels().aft_window_dots_f64 : kernels().aft_window_dots_f32)(rows, others, 0, int32_t(before - (t0 - first)), int32_t(width), scores);
        }
        Tensor W = table.slice(0, t0, t1), far_weights = far.slice(0, t0, t1), spread = spreads.select(0, task.worker).slice(0, 0, t1 - t0);
        (wide ? kernels().aft_window_table_f64 : kernels().aft_window_table_f32)(scores, window, before, band.causal, int32_t(t0), int32_t(T), W, far_weights, spread);
        widest[size_t(task.chain)] = *std::max_element(spread.data(), spread.data() + (t1 - t0));
        Tensor tiled = tiles.slice(0, t0 / granule, ceil_div(t1, granule));
        kernels().aft_full_tiles_f32(W, tiled);
    });
    return *std::ranges::max_element(widest);
}

void LocalMixer::forward(const MixerTensors &in, Tensor &output, MixerSaved &saved, Arena &arena) const {
    check_mixer_tensors(options_, in);
    const int64_t B = in.value.size(0), T = in.value.size(1), C = in.value.size(2);
    const Band band(options_, T);
    const Cut cut(B, T, C, 64, widest_unit, options_.causal);
    saved.tensors = {arena.allocate({B, T, C}), arena.allocate({cut.pieces, B, C}), arena.allocate({T, band.width()}), arena.allocate({T}),
                     arena.allocate({3}, DType::f64)};
    ArenaScope scope(arena);
    double *fact = saved.tensors[facts].data<double>();
    const References references(in, cut, saved.tensors[maxima], arena);
    if (!options_.causal) references.find_all();
    const Tensor tiles = tiles_for(saved.tensors[table], arena);
    fact[1] = make_table(in, band, saved.tensors[table], saved.tensors[far_weights], tiles, arena);

    const int32_t before = band.before(true), after = band.after(true);
    const int64_t panels = cut.panels(), carried = options_.causal ? 3 : cut.pieces + 3;  // two carried states, a total and the sums behind each piece
    const Tensor packs = arena.allocate({slots(cut), panels * Seen(cut, 0, before, after).rows * 2 * panel + panels * 2 * panel * granule});
    const Tensor states = arena.allocate({slots(cut), carried, panels, 2, panel}), ones = arena.allocate({cut.piece});
    const Tensor handed_on = arena.allocate({cut.units, panels, 2, panel});
    Tensor(ones).fill(1), Tensor(handed_on).fill(0);

    each_task(cut, false, 2, [&](const Task &task) {
        const Cut::Unit &unit = task.unit;
        const Tensor query = unit.of(in.query), key = unit.of(in.key), value = unit.of(in.value), m = unit.of_maxima(saved.tensors[maxima]);
        const Tensor y = unit.of(output), d = unit.of(saved.tensors[den]);
        const Tensor memory = packs.select(0, task.slot), mine = states.select(0, task.slot);
        const auto state = [&](int64_t n) { return state_of(mine.select(0, n), unit.panels()); };
        state(0).fill(0);
        if (!options_.causal)
            sums_behind(cut, after, state, [&](int64_t first, int64_t last, int64_t I, Tensor &sum) {
                Pack pack(memory, unit.panels(), last - first);
                kernels().aft_window_keys_f32(key.slice(0, first, last), value.slice(0, first, last), m.select(0, I), 0, pack.parts);
                kernels().aft_window_total_f32(pack.parts, ones.slice(0, 0, last - first), sum);
            });
        for (int64_t I = task.first; I < task.last; I++) {
            const Seen seen(cut, I, before, after);
            const int64_t t0 = cut.begin(I), t1 = cut.end(I);
            Pack pack(memory, unit.panels(), seen.rows);
            if (options_.causal) {
                references.find(task, I);
                task.in_turn([&] { references.link(unit, I); });
            }
            kernels().aft_window_keys_f32(key.slice(0, seen.first, seen.last), value.slice(0, seen.first, seen.last), m.select(0, I), seen.missing, pack.parts);
            const Tensor m_before = m.select(0, std::max<int64_t>(0, I - 1));
            const int64_t known = I % 2;
            if (task.link) {
                Tensor total = state(2), now = state(known);
                kernels().aft_window_total_f32(pack.parts.slice(1, 0, t1 - t0), ones.slice(0, 0, t1 - t0), total);
                task.in_turn([&] {
                    const Tensor sums = state_of(handed_on.select(0, task.group), unit.panels());
                    now.copy_from(sums);
                    carry(sums, m_before, m.select(0, I), total);
                });
            }
            Tensor y_out = y.slice(0, t0, t1), d_out = d.slice(0, t0, t1), next = state(1 - known);
            (options_.causal ? kernels().aft_window_causal_forward_f32 : kernels().aft_window_both_forward_f32)(
                query.slice(0, t0, t1), pack.parts, tiles.slice(0, t0 / granule, ceil_div(t1, granule)), saved.tensors[far_weights].slice(0, t0, t1), state(known),
                options_.causal ? state(known) : state(2 + I), m_before, m.select(0, I), before, after, y_out, d_out, next);
        }
    });
    references.facts(fact);
    const ExactRule exact = rule(saved, cut);
    if (exact.forward(exact.least_den, 0, 0))
        exact_forward({in.query, in.key, in.value, options_.causal}, *pair_bias(in, {}), exact, output, saved.tensors[den]);
}

}  // namespace aft::local
