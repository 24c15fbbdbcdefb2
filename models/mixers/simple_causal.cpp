// AFT-simple, causal. The saved tensor is [chunks, 3, B, C] = num, den, reference before each chunk, its border.
//
// A linked chunk sums up its own keys step by step, in its turn makes the next chunk's border of that and of its own, and then its outputs
// of the sums at each step, which wait in L2: no key is weighed twice. Going back, the first half of its work needs no other chunk: the
// queries' kernel leaves G and G R. Their sums go to the chunk before, in which keys need S and P; both are relative to the reference of
// a border. (Cut into two halves of 256 channels instead, a lone sequence needs no link; on two cores of a Xeon with a slow L3 that took 1.5
// to 1.6 times the time of sequences with whole rows, linked chunks 1.2.)
#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "kernel_table.h"
#include "models/mixers/simple_scan.h"

namespace aft::simple {
namespace {

// What a chunk hands on to the next: rows [n, C], and each as a state.
struct Carried {
    Tensor rows;
    States views;
    explicit Carried(const Tensor &rows) : rows(rows), views(rows) { views.set_steps(1); }
};

constexpr int64_t linked_forward = 1;  // sequences: the sums of a linked chunk go through L2, where those of a sequence on one thread stay in L1

// What the kernels of a chunk on the way back read and write.
struct BackwardRows {
    Tensor q, k, v, dy, dq, dk, dv;     // [1, t, C]
    Tensor num, den, reference, after;  // [1, C]: the border before the chunk; what S and P behind it are relative to
    Tensor kept[3];                     // [1, t, C] of each step: G, G R, h; in exact runs num, den, +-h
    Tensor s[10];                       // num, den, reference; S, P, local S, local P (going forward: of num, den); guard; S, P of the chunk alone

    BackwardRows channels(int64_t first, int64_t last) const {
        BackwardRows some = *this;
        for (Tensor *x : {&some.q, &some.k, &some.v, &some.dy, &some.dq, &some.dk, &some.dv, &some.num, &some.den, &some.reference, &some.after}) *x = simple::channels(*x, first, last);
        for (Tensor &x : some.kept) x = simple::channels(x, first, last);
        for (Tensor &x : some.s) x = simple::channels(x, first, last);
        return some;
    }
};

// The chunks of a sequence on the way back, one at a time.
class BackwardChunk {
public:
    static constexpr int64_t rows = 10;

    // scratch [rows, C]; kept [3, 1, most steps, C].
    BackwardChunk(const Tensor &scratch, const Tensor &kept)
        : states_(scratch), behind_(scratch.slice(0, 3, 5)), S_P_{row(scratch, 3), row(scratch, 4)}, own_{row(scratch, 8), row(scratch, 9)}, kept_(kept) {}

    // A chunk of `steps` behind a border [3, C]: its rows and `after` are for the caller to set.
    BackwardRows &begin(int64_t steps, const Tensor &border) {
        if (states_.set_steps(steps)) {
            for (int64_t n = 0; n < 3; n++) all_.kept[n] = kept_.select(0, n).slice(1, 0, steps);
            for (int64_t n = 0; n < rows; n++) all_.s[n] = states_[n];
        }
        all_.num = row(border, 0), all_.den = row(border, 1), all_.reference = row(border, 2);
        return all_;
    }

    // dQ, and what each step gives to S and P, or how it is made.
    void queries() {
        BackwardRows &a = all_;
        kernels().aft_simple_causal_queries_f32(a.q, a.k, a.v, a.dy, a.num, a.den, a.reference, a.dq, a.dk, a.kept[0], a.dv, a.s[5], a.s[6], a.s[7]);
        each_run([&](BackwardRows &r, bool exact) {
            if (!exact) return;
            const Tensor *border[] = {&r.num, &r.den, &r.reference};
            for (int n = 0; n < 3; n++) std::memcpy(r.s[n].data(), border[n]->data(), size_t(border[n]->size(1)) * sizeof(float));
            kernels().aft_simple_causal_replay_f32(r.k, r.v, r.kept[0], r.kept[1], r.kept[2], r.s[0], r.s[1], r.s[2]);
        });
    }

    // S and P of this chunk alone.
    void sums() {
        clear(8);
        each_run([&](BackwardRows &r, bool exact) {
            if (exact) return exact_keys(r, r.s[8], r.s[9]);
            for (int n = 0; n < 2; n++) {
                Tensor sum = r.s[8 + n].select(1, 0).select(0, 0);
                kernels().column_sum_f32((n == 0 ? r.dk : r.kept[0]).select(0, 0), 0, sum);
            }
        });
    }

    // dK and dV from S and P behind the chunk, which are relative to `after`; then S and P before it.
    void keys(bool is_last) {
        each_run([&](BackwardRows &r, bool exact) {
            if (exact) {
                if (!is_last) rescale(r);  // replay may end at another reference than a linked border
                return exact_keys(r, r.s[3], r.s[4]);
            }
            kernels().aft_simple_causal_keys_f32(r.v, r.kept[0], r.reference, r.after, r.dk, r.dv, r.s[3], r.s[4], r.s[5], r.s[6]);
        });
    }

    // From S and P behind the chunk, relative to `after`, to those before it.
    void link(Carried &sums) {
        copy_rows(sums.rows, behind_, 2);
        kernels().aft_simple_causal_link_back_f32(all_.reference, all_.after, own_[0], own_[1], S_P_[0], S_P_[1], sums.views[0], sums.views[1]);
    }

    void clear() { clear(3); }

private:
    // body(rows, exact)
    template <class Body>
    void each_run(const Body &body) {
        const int64_t C = all_.q.size(2);
        simple::each_run(all_.s[7].data(), C, [&](int64_t first, int64_t last, bool exact) {
            if (first == 0 && last == C) return body(all_, exact);
            BackwardRows some = all_.channels(first, last);
            body(some, exact);
        });
    }
    void clear(int first) {
        for (int n = first; n < first + 2; n++) std::fill_n(all_.s[n].data(), all_.q.size(2), 0.0f);
    }
    static void exact_keys(BackwardRows &r, Tensor &S, Tensor &P) {
        kernels().aft_simple_causal_backward_f32(r.q, r.v, r.dy, r.kept[0], r.kept[1], r.kept[2], r.dq, r.dk, r.dv, S, P, r.s[5], r.s[6]);
    }
    static void rescale(BackwardRows &r) {
        const float *to = r.s[2].data(), *from = r.after.data();
        for (int64_t c = 0; c < r.after.size(1); c++) {
            const float h = std::exp(0.5f * (to[c] - from[c]));
            for (int n = 3; n < 5; n++) r.s[n].data()[c] = r.s[n].data()[c] * h * h;
        }
    }

    States states_;
    Tensor behind_, S_P_[2], own_[2], kept_;
    BackwardRows all_;
};

// Channels [first, last) of a chunk's outputs in the exact form; `scratch` [5 or more, C].
void exact_outputs(const Tensor &border, const Tensor &scratch, const Tensor &q, const Tensor &k, const Tensor &v, const Tensor &y, int64_t first, int64_t last) {
    const auto some = [&](const Tensor &x) { return channels(x, first, last); };
    Tensor some_y = some(y), now[5];
    for (int64_t n = 0; n < 5; n++) now[n] = some(state(scratch, n, q.size(1)));
    copy_rows(some(border), some(scratch), 3);
    kernels().aft_simple_causal_forward_f32(some(q), some(k), some(v), some_y, now[0], now[1], now[3], now[4], now[2]);
}

// Sequences on a thread each, chunk after chunk.
void sequences(const MixerTensors &in, Tensor &output, const Tensor &borders, const Chunks &chunks, Arena &arena) {
    const Tensor memory = arena.allocate({chunks.workers(), 6, chunks.C});
    chunks.each([&](LinkedBlock &block, int64_t first, int64_t last) {
        const int64_t b = block.chain;
        const Tensor query = sequence(in.query, b), key = sequence(in.key, b), value = sequence(in.value, b), y = sequence(output, b);
        const Tensor scratch = memory.select(0, block.worker);
        States s(scratch);  // num, den, reference, local num, local den, guard
        clear(scratch), begin_reference(scratch, key);
        for (int64_t j = first; j < last; j++) {
            const int64_t begin = chunks.begin(j), end = chunks.end(j);
            const Tensor q = steps(query, begin, end), k = steps(key, begin, end), v = steps(value, begin, end), before = borders.select(0, j).select(1, b);
            Tensor rows = steps(y, begin, end);
            copy_rows(scratch, before, 3);
            s.set_steps(end - begin);
            kernels().aft_simple_causal_forward_bounded_f32(q, k, v, rows, s[0], s[1], s[3], s[4], s[5], s[2]);
            each_run(s[5].data(), chunks.C, [&](int64_t first, int64_t last, bool exact) {
                if (exact) exact_outputs(before, scratch, q, k, v, rows, first, last);
            });
        }
    });
}

// A linked chunk, on scratch of a worker.
class LinkedChunk {
public:
    static constexpr int64_t rows = 12;

    // scratch [rows, C]; prefixes [2, most steps, C].
    LinkedChunk(const Tensor &scratch, const Tensor &prefixes) : scratch_(scratch), before_(scratch.slice(0, before_num, rows)), prefixes_(prefixes), s_(scratch), single_(scratch) {
        single_.set_steps(1);
        for (int64_t n = 0; n < rows; n++) row_[n] = row(scratch, n);
    }

    // The sums of its keys alone, step by step.
    void sums(const Tensor &k, const Tensor &v) {
        const int64_t C = k.size(2);
        if (s_.set_steps(k.size(1)))
            for (int64_t n = 0; n < 2; n++) prefix_[n] = row(prefixes_, n).slice(1, 0, k.size(1));
        std::memcpy(row_data(scratch_, reference), k.data(), size_t(C) * sizeof(float));
        kernels().aft_simple_causal_prefixes_f32(k, v, row_[reference], prefix_[0], prefix_[1], s_[num], s_[den], s_[guard]);
        each_run(row_data(scratch_, guard), C, [&](int64_t first, int64_t last, bool exact) {
            if (!exact) return;
            Tensor now[5];
            for (int n = 0; n < 5; n++) now[n] = channels(s_[n], first, last);
            for (int n : {num, den}) std::fill_n(now[n].data(), last - first, 0.0f);
            kernels().aft_simple_statistics_f32(channels(k, first, last), channels(v, first, last), now[num], now[den], now[local_num], now[local_den], now[reference]);
        });
    }

    // From the state before the chunk to the one behind it.
    void link(Carried &state) {
        copy_rows(state.rows, before_, 3);
        kernels().aft_simple_causal_link_f32(row_[before_num], row_[before_den], row_[before_reference], row_[num], row_[den], row_[reference],
                                             single_[base_num], single_[base_den], single_[add], state.views[0], state.views[1], state.views[2]);
    }

    // `border` [3, C] becomes the state before the chunk.
    void outputs(const Tensor &q, const Tensor &k, const Tensor &v, const Tensor &border, Tensor &y) {
        copy_rows(before_, border, 3);
        each_run(row_data(scratch_, guard), k.size(2), [&](int64_t first, int64_t last, bool exact) {
            const auto some = [&](const Tensor &x) { return channels(x, first, last); };
            if (exact) return exact_outputs(border, scratch_, q, k, v, y, first, last);
            Tensor some_y = some(y);
            kernels().aft_simple_causal_gate_f32(some(q), some(prefix_[0]), some(prefix_[1]), some(row_[base_num]), some(row_[base_den]), some(row_[add]), some_y);
        });
    }

private:
    enum { num, den, reference, local_num, local_den, guard, base_num, base_den, add, before_num, before_den, before_reference };  // rows of scratch

    Tensor scratch_, before_, prefixes_, row_[rows], prefix_[2];
    States s_, single_;
};

void linked_chunks(const MixerTensors &in, Tensor &output, const Tensor &borders, const Chunks &chunks, Arena &arena) {
    const Tensor memory = arena.allocate({chunks.workers(), LinkedChunk::rows, chunks.C}), prefixes = arena.allocate({chunks.workers(), 2, chunks.length, chunks.C});
    const Tensor carried = arena.allocate({chunks.B, 3, chunks.C});
    std::vector<LinkedChunk> of_worker;
    for (int64_t n = 0; n < chunks.workers(); n++) of_worker.emplace_back(memory.select(0, n), prefixes.select(0, n));
    std::vector<Carried> states;
    for (int64_t b = 0; b < chunks.B; b++) {
        const Tensor &start = states.emplace_back(carried.select(0, b)).rows;
        clear(start), begin_reference(start, sequence(in.key, b));
    }
    chunks.each([&](LinkedBlock &block, int64_t j, int64_t) {
        const int64_t b = block.chain;
        const auto rows = [&](const Tensor &x) { return steps(sequence(x, b), chunks.begin(j), chunks.end(j)); };
        const Tensor k = rows(in.key), v = rows(in.value), border = borders.select(0, j).select(1, b);
        LinkedChunk &chunk = of_worker[size_t(block.worker)];
        chunk.sums(k, v);
        block.in_turn([&] { chunk.link(states[size_t(b)]); });
        Tensor y = rows(output);
        chunk.outputs(rows(in.query), k, v, border, y);
    });
}

}  // namespace

void causal_forward(const MixerTensors &in, Tensor &output, MixerSaved &saved, Arena &arena) {
    const Chunks chunks(in.query.size(0), in.query.size(1), in.query.size(2), linked_forward);
    const Tensor borders = arena.allocate({chunks.count, 3, chunks.B, chunks.C});
    saved.tensors = {borders};
    const ArenaScope scope(arena);
    if (chunks.linked)
        linked_chunks(in, output, borders, chunks, arena);
    else
        sequences(in, output, borders, chunks, arena);
}

void causal_backward(const MixerTensors &in, const MixerSaved &saved, const Tensor &output_gradient, MixerTensors &gradient, Arena &arena) {
    const Chunks chunks(in.query.size(0), in.query.size(1), in.query.size(2));
    const Tensor &borders = saved.tensors[0];
    const ArenaScope scope(arena);
    const Tensor memory = arena.allocate({chunks.workers(), BackwardChunk::rows, chunks.C}), kept = arena.allocate({chunks.workers(), 3, 1, chunks.length, chunks.C});
    std::vector<BackwardChunk> of_worker;
    for (int64_t n = 0; n < chunks.workers(); n++) of_worker.emplace_back(memory.select(0, n), kept.select(0, n));
    const Tensor carried = arena.allocate({chunks.B, 2, chunks.C});
    Tensor(carried).fill(0);
    std::vector<Carried> sums;
    for (int64_t b = 0; b < chunks.B; b++) sums.emplace_back(carried.select(0, b));
    chunks.each(
        [&](LinkedBlock &block, int64_t first, int64_t last) {
            const int64_t b = block.chain;
            const auto border = [&](int64_t j) { return borders.select(0, j).select(1, b); };
            BackwardChunk &chunk = of_worker[size_t(block.worker)];
            Tensor after = row(border(std::min(last, chunks.count - 1)), 2);
            for (int64_t j = last; j-- > first;) {
                const auto rows = [&](const Tensor &x) { return steps(sequence(x, b), chunks.begin(j), chunks.end(j)); };
                BackwardRows &all = chunk.begin(chunks.end(j) - chunks.begin(j), border(j));
                all.q = rows(in.query), all.k = rows(in.key), all.v = rows(in.value), all.dy = rows(output_gradient);
                all.dq = rows(gradient.query), all.dk = rows(gradient.key), all.dv = rows(gradient.value), all.after = after;
                chunk.queries();
                if (chunks.linked) {
                    chunk.sums();
                    block.in_turn([&] { chunk.link(sums[size_t(b)]); });
                } else if (j + 1 == last) {
                    chunk.clear();
                }
                chunk.keys(j + 1 == chunks.count);
                after = all.reference;
            }
        },
        true);
}

}  // namespace aft::simple
