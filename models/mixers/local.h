// AFT-local (SPEC F2, F5, F6): a band of weights and a running state. Formulas and layouts: generators/aft_window.h. Forward and backward
// have files of their own; here is what both need.
//
// References: m[I] is the maximum of K up to the end of piece I (causal) or over the sequence; r[t] the maximum of w over the keys of a
// row, far ones included. Elements that these cannot hold go to the exact path, as in AFT-full.
#pragma once
#include <algorithm>
#include <cstdint>
#include <memory>

#include "aft/arena.h"
#include "aft/mixer.h"
#include "models/mixers/cut.h"
#include "models/mixers/exact_path.h"
#include "runtime/look_back.h"

namespace aft::local {

constexpr int64_t widest_unit = 512;  // channels

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

inline Tensor state_of(const Tensor &memory, int64_t panels) { return memory.slice(0, 0, panels); }

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

// Pieces [first, last) of a unit, one after the other: all of them, or a single linked one.
struct Task {
    int64_t slot, group;  // of scratch; of partial sums
    Cut::Unit unit;
    int64_t first, last;
    LinkedBlock *link;  // none: all pieces are here

    void in_turn(const std::function<void()> &body) const { link ? link->in_turn(body) : body(); }
};
inline int64_t slots(const Cut &cut) { return cut.linked ? look_back_workers(cut.units, cut.pieces) : look_back_workers(cut.groups, 1); }

// visit(task) in parallel; linked tasks from the end of time if `backward`.
template <class Visit>
void each_task(const Cut &cut, bool backward, int64_t turns, const Visit &visit) {
    look_back(cut.linked ? cut.units : cut.groups, cut.linked ? cut.pieces : 1, turns, [&](LinkedBlock &block) {
        const int64_t g = block.chain, I = backward ? cut.pieces - 1 - block.index : block.index;
        if (cut.linked) return visit(Task{block.worker, g, cut.unit(g, true), I, I + 1, &block});
        const int64_t first = g * cut.units / cut.groups, last = (g + 1) * cut.units / cut.groups;
        for (int64_t u = first; u < last; u++) visit(Task{block.worker, g, cut.unit(u, u == first), 0, cut.pieces, nullptr});
    });
}

// carried = carried exp(low - high) + total: sums [panels, 2, 16] that a linked piece hands on.
void carry(const Tensor &carried, const Tensor &low, const Tensor &high, const Tensor &total);

// Not causal: state(2 + I) becomes the sum of the rows behind those that piece I sees. total(first, last, I, sum) sums rows [first, last).
template <class State, class Total>
void sums_behind(const Cut &cut, int64_t after, const State &state, const Total &total) {
    state(1 + cut.pieces).fill(0);
    for (int64_t I = cut.pieces - 2; I >= 0; I--) {
        const int64_t first = std::min(cut.T, cut.begin(I + 1) + after), last = std::min(cut.T, cut.begin(I + 2) + after);
        Tensor sum = state(2 + I), rows = state(2 + cut.pieces);
        sum.copy_from(state(3 + I));
        if (first == last) continue;
        total(first, last, I, rows);
        for (int64_t n = 0; n < sum.elements(); n++) sum.data()[n] += rows.data()[n];
    }
}

// Memory for a table in the order in which the products read it.
inline Tensor tiles_for(const Tensor &table, Arena &arena) { return arena.allocate({ceil_div(table.size(0), granule), table.size(1), granule}); }

enum Kept { den, maxima, table, far_weights, facts };  // MixerSaved; facts: spreads of K and w, max |V|

class LocalMixer : public Mixer {
public:
    explicit LocalMixer(const MixerOptions &options) : Mixer(options) {}

    void forward(const MixerTensors &in, Tensor &output, MixerSaved &saved, Arena &arena) const override;
    void backward(const MixerTensors &in, const Tensor &output, const MixerSaved &saved, const Tensor &output_gradient, MixerTensors &gradient,
                  Arena &arena) const override;
    MixerState start(const MixerTensors &parameters, int64_t batch, int64_t channels, int64_t length) const override;
    void prefill(const MixerTensors &in, MixerState &state, Arena &arena) const override;
    void step(const MixerTensors &in, MixerState &state, Tensor &output, Arena &arena) const override;

private:
    double make_table(const MixerTensors &in, const Band &band, const Tensor &table, const Tensor &far, const Tensor &tiles, Arena &arena) const;
    void add_bias_gradient(const MixerTensors &in, const Band &band, const Tensor &tiles, const Tensor &partial, MixerTensors &gradient, Arena &arena) const;

    std::unique_ptr<PairBias> pair_bias(const MixerTensors &in, const MixerTensors &gradient) const {
        if (in.position_bias.defined()) return std::make_unique<DenseBias>(in.position_bias, gradient.position_bias, options_.window);
        return std::make_unique<FactorisedBias>(in.bias_u, in.bias_v, gradient.bias_u, gradient.bias_v, options_.window);
    }
    static ExactRule rule(const MixerSaved &saved, const Cut &cut) {
        const double *fact = saved.tensors[facts].data<double>();
        return {cut.B, cut.T, cut.C, fact[0], fact[1], fact[2]};
    }
};

}  // namespace aft::local
