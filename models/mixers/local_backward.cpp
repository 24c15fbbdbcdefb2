// AFT-local, backward: the pieces from the end of time (causal), queries packed for the keys that meet them, and the bias.
#include <cstring>
#include <vector>

#include "kernel_table.h"
#include "models/mixers/local.h"
#include "models/mixers/mixers.h"

namespace aft::local {
namespace {

constexpr int64_t block_elements = 16384;  // of an input: with G, dQ and their pack half a megabyte

}  // namespace

void LocalMixer::backward(const MixerTensors &in, const Tensor &output, const MixerSaved &saved, const Tensor &output_gradient, MixerTensors &gradient,
                          Arena &arena) const {
    check_mixer_output(in, output);
    const int64_t B = in.value.size(0), T = in.value.size(1), C = in.value.size(2);
    const Band band(options_, T);
    // Each group has a dw of its own; together no more than two activations, but one for each unit that is linked.
    const Cut cut(B, T, C, std::clamp<int64_t>(2 * B * C / band.width(), linked_units, 64), widest_unit, options_.causal);
    const ExactRule exact = rule(saved, cut);
    const bool wants_bias = options_.window > 0 && (gradient.position_bias.defined() || gradient.bias_u.defined() || gradient.bias_v.defined());

    ArenaScope scope(arena);
    const int32_t before = band.before(false), after = band.after(false);
    Tensor tiles = tiles_for(saved.tensors[table], arena);
    kernels().aft_window_transpose_f32(saved.tensors[table], saved.tensors[far_weights], int32_t(band.window), before, band.before(true), band.direction(false), tiles);

    const int64_t panels = cut.panels(), carried = options_.causal ? 3 : cut.pieces + 3, size = panels * 2 * panel;
    const Tensor query_packs = arena.allocate({slots(cut), size * Seen(cut, 0, before, after).rows}), key_packs = arena.allocate({slots(cut), size * cut.piece});
    const Tensor states = arena.allocate({slots(cut), carried, panels, 2, panel});
    const Tensor shares = arena.allocate({slots(cut), std::max(cut.piece, Seen(cut, 0, before, after).rows), 2, cut.channels});  // G and G R of each row
    const Tensor slacks = arena.allocate({slots(cut), cut.channels}), handed_on = arena.allocate({cut.units, panels, 2, panel});
    Tensor(handed_on).fill(0);
    const int64_t block = ceil_div(block_elements, cut.channels);
    const Tensor spares = cut.linked ? arena.allocate({slots(cut), block, cut.channels}) : Tensor();
    const Tensor partial = wants_bias ? arena.allocate({cut.groups, T, band.width()}) : Tensor();
    std::vector<char> leaves_elements(size_t(slots(cut)), 0);

    each_task(cut, options_.causal, 1, [&](const Task &task) {
        const Cut::Unit &unit = task.unit;
        const Tensor query = unit.of(in.query), key = unit.of(in.key), value = unit.of(in.value), m = unit.of_maxima(saved.tensors[maxima]);
        const Tensor dy = unit.of(output_gradient), y = unit.of(output), d = unit.of(saved.tensors[den]);
        const Tensor dQ = unit.of(gradient.query), dK = unit.of(gradient.key), dV = unit.of(gradient.value);
        const Tensor &far = saved.tensors[far_weights];
        const Tensor mine = states.select(0, task.slot);
        const auto state = [&](int64_t n) { return state_of(mine.select(0, n), unit.panels()); };
        Tensor slack = slacks.select(0, task.slot).slice(0, 0, unit.c1 - unit.c0);
        slack.fill(1);
        const Tensor slack_so_far = slack.repeat(0, T);
        // The rows behind a linked piece are another task's: their dQ is its to write.
        const Tensor spare = task.link ? spares.select(0, task.slot).slice(1, 0, unit.c1 - unit.c0) : Tensor();
        // Packs the queries [first, last) for the keys of piece J. Pieces share rows: the shares of the last call are moved, not
        // made again; the rest goes from inputs to pack by blocks that stay in L2.
        const Tensor both = shares.select(0, task.slot), G = both.select(1, 0).slice(1, 0, unit.c1 - unit.c0), GR = both.select(1, 1).slice(1, 0, unit.c1 - unit.c0);
        const int64_t row = both.stride(0);
        int64_t held = 0, held_end = 0;
        const auto pack_queries = [&](int64_t first, int64_t last, int64_t J, int32_t missing, Pack &pack) {
            int64_t known = std::max(first, held), known_end = std::min(last, held_end);
            if (known >= known_end) known = known_end = first;
            std::memmove(both.data() + (known - first) * row, both.data() + (known - held) * row, size_t((known_end - known) * row) * 4);
            held = first, held_end = last;
            for (int64_t a = first, b; a < last; a = b) {
                const int64_t piece = a / cut.piece;  // its rows share a maximum
                b = std::min({last, a < known ? known : a < known_end ? known_end : last, a + block, (piece + 1) * cut.piece});
                Tensor g = G.slice(0, a - first, b - first), gr = GR.slice(0, a - first, b - first);
                if (a < known || a >= known_end) {
                    Tensor dq = task.link && piece != J ? spare.slice(0, 0, b - a) : dQ.slice(0, a, b), least = slack_so_far.slice(0, a, b);
                    kernels().aft_window_queries_f32(dy.slice(0, a, b), query.slice(0, a, b), y.slice(0, a, b), d.slice(0, a, b), exact.gradient_factor, g, gr, dq, least);
                }
                const int64_t begin = a == first ? 0 : a - first + missing, end = b == last ? pack.parts.size(1) : b - first + missing;
                Tensor part = pack.parts.slice(1, begin, end);
                kernels().aft_window_query_pack_f32(g, gr, m.select(0, J), m.select(0, piece), int32_t(a - first + missing - begin), part);
            }
        };
        state(0).fill(0);
        if (!options_.causal)
            sums_behind(cut, after, state, [&](int64_t first, int64_t last, int64_t J, Tensor &sum) {
                Pack pack(query_packs.select(0, task.slot), unit.panels(), last - first);
                pack_queries(first, last, J, 0, pack);
                kernels().aft_window_total_f32(pack.parts, far.slice(0, first, last), sum);
            });
        for (int64_t n = 0; n < task.last - task.first; n++) {
            const int64_t J = options_.causal ? task.last - 1 - n : n, t0 = cut.begin(J), t1 = cut.end(J);
            const Seen seen(cut, J, before, after);
            Pack queries(query_packs.select(0, task.slot), unit.panels(), seen.rows), keys(key_packs.select(0, task.slot), unit.panels(), round_up(t1 - t0, granule));
            pack_queries(seen.first, seen.last, J, seen.missing, queries);
            kernels().aft_window_keys_f32(key.slice(0, t0, t1), value.slice(0, t0, t1), m.select(0, J), 0, keys.parts);
            const Tensor m_after = m.select(0, std::min(J + 1, cut.pieces - 1));
            if (task.link) {
                Tensor total = state(2), now = state(0);
                const int64_t begin = std::min(T, t0 + after);  // queries that no row of the piece before sees in its window
                kernels().aft_window_total_f32(queries.parts.slice(1, after, after + seen.last - begin), far.slice(0, begin, seen.last), total);
                task.in_turn([&] {
                    const Tensor sums = state_of(handed_on.select(0, task.group), unit.panels());
                    now.copy_from(sums);
                    carry(sums, m.select(0, J), m_after, total);
                });
            }
            Tensor dv = dV.slice(0, t0, t1), dk = dK.slice(0, t0, t1), next = state((n + 1) % 2);
            (options_.causal ? kernels().aft_window_reversed_backward_f32 : kernels().aft_window_both_backward_f32)(
                keys.parts, value.slice(0, t0, t1), queries.parts, tiles.slice(0, t0 / granule, ceil_div(t1, granule)), far.slice(0, seen.first, seen.last), state(n % 2),
                options_.causal ? state(n % 2) : state(2 + J), m.select(0, J), m_after, before, after, seen.missing, dv, dk, next);
            if (wants_bias) {
                Tensor dw = partial.select(0, task.group).slice(0, t0, t1);
                kernels().aft_window_dots_f32(keys.flat.slice(1, 0, t1 - t0), queries.flat, !unit.first, 0, int32_t(band.width()), dw);
            }
        }
        for (int64_t c = 0; c < unit.c1 - unit.c0; c++) leaves_elements[size_t(task.slot)] |= !(slack.data()[c] >= 0);
    });
    if (wants_bias) add_bias_gradient(in, band, tiles, partial, gradient, arena);
    if (std::ranges::count(leaves_elements, 0) != slots(cut))
        exact_backward({in.query, in.key, in.value, options_.causal}, *pair_bias(in, gradient), exact, output, output_gradient, saved.tensors[den], gradient);
}

void LocalMixer::add_bias_gradient(const MixerTensors &in, const Band &band, const Tensor &tiles, const Tensor &partial, MixerTensors &gradient, Arena &arena) const {
    ArenaScope scope(arena);
    const int64_t T = band.T;
    const auto window = int32_t(band.window);
    const int64_t width = band.width(), granules = ceil_div(T, granule);
    const Tensor whole = arena.allocate({granules, granule, width});
    Tensor none = arena.allocate({T});
    none.fill(0);
    // By keys a table, by queries tiles.
    Tensor of_keys = whole.reshape({granules * granule, width}).slice(0, 0, T), of_queries = tiles_for(of_keys, arena);
    kernels().aft_window_bias_gradient_f32(tiles, partial, window, band.before(false), band.direction(false), of_keys);
    kernels().aft_window_transpose_f32(of_keys, none, window, band.before(true), band.before(false), band.direction(true), of_queries);
    if (gradient.position_bias.defined()) {
        for (int64_t t = 0; t < T; t++) {
            const int64_t first = std::max<int64_t>(0, t - band.window + 1), last = band.causal ? t + 1 : std::min(T, t + band.window);
            const float *from = of_queries.data() + t / granule * granule * width + t % granule;
            const int64_t base = t / granule * granule - band.before(true);
            float *to = gradient.position_bias.data() + t * gradient.position_bias.stride(0);
            for (int64_t k = first; k < last; k++) to[k] += from[(k - base) * granule];
        }
    }
    if (gradient.bias_u.defined()) {
        Tensor du = gradient.bias_u.slice(0, 0, T);
        kernels().aft_window_apply_f32(of_queries, in.bias_v.slice(0, 0, T), band.before(true), band.after(true), du);
    }
    if (gradient.bias_v.defined()) {
        Tensor dv = gradient.bias_v.slice(0, 0, T);
        kernels().aft_window_apply_f32(whole.transpose(1, 2), in.bias_u.slice(0, 0, T), band.before(false), band.after(false), dv);
    }
}

}  // namespace aft::local
