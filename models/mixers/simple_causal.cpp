// AFT-simple, causal. The saved tensor is [chunks, 3, B, C] = num, den, reference before each chunk, its border.
//
// A linked chunk sums up its own keys, in its turn makes the next chunk's border of that and of its own, and then its outputs. Going
// back, the first half of its work needs no other chunk: the queries' kernel leaves G and G R. Their sums go to the chunk before, in
// which keys need S and P; both are relative to the reference of a border.
#include <cmath>

#include "kernel_table.h"
#include "models/mixers/simple_scan.h"

namespace aft::simple {
namespace {

constexpr int64_t linked_forward = 1;  // sequences: a linked chunk scans its keys twice

constexpr int64_t cached_elements = 1 << 20;  // of a gradient: 4 MB, which a cache may still hold from its last use

// Asks for rows [1, t, c] that a pass will write going back in time, in the order of their addresses: written in descending order, lines
// come one by one (on a Xeon with a slow L3 at 3 GB/s instead of 9: 0.72 of the time of backward). Gradients that a cache
// holds gain nothing by it (1.1 of the time).
void fetch(const Tensor &x, const Tensor &y) {
    for (int64_t t = 0; t < x.size(1); t++)
        for (int64_t c = 0; c < x.size(2); c += 16) {
            __builtin_prefetch(x.data() + t * x.stride(1) + c, 1);
            __builtin_prefetch(y.data() + t * y.stride(1) + c, 1);
        }
}

// One chunk of one sequence on the way back.
class BackwardChunk {
public:
    // Rows [1, t, C]; border [3, C]; scratch [8, C]; kept [3, 1, t, C].
    BackwardChunk(const Tensor &q, const Tensor &k, const Tensor &v, const Tensor &dy, const Tensor &dq, const Tensor &dk, const Tensor &dv, const Tensor &border,
                  const Tensor &scratch, const Tensor &kept)
        : q_(q), k_(k), v_(v), dy_(dy), dq_(dq), dk_(dk), dv_(dv), border_(border) {
        for (int64_t n = 0; n < 8; n++) s_[n] = state(scratch, n, q.size(1));
        for (int64_t n = 0; n < 3; n++) kept_[n] = kept.select(0, n);
    }

    // dQ, and what each step gives to S and P, or how it is made.
    void queries() {
        kernels().aft_simple_causal_queries_f32(q_, k_, v_, dy_, row(border_, 0), row(border_, 1), row(border_, 2), dq_, kept_[0], kept_[1], kept_[2], s_[5], s_[6], s_[7]);
        each_exact_run([&](int64_t first, int64_t last) {
            Tensor had[3], now[3];
            for (int n = 0; n < 3; n++) had[n] = channels(kept_[n], first, last), now[n] = channels(s_[n], first, last);
            for (int n = 0; n < 3; n++) copy_row(channels(row(border_, n), first, last), now[n]);
            kernels().aft_simple_causal_replay_f32(channels(k_, first, last), channels(v_, first, last), had[0], had[1], had[2], now[0], now[1], now[2]);
        });
    }

    // S and P of this chunk alone.
    void sums() {
        for (int n = 3; n < 5; n++) fill_row(s_[n], 0);
        each_run(s_[7], row(border_, 2), width(), [&](int64_t first, int64_t last, bool exact) {
            if (exact) return exact_keys(first, last);
            for (int n = 0; n < 2; n++) {
                Tensor sum = channels(s_[3 + n], first, last).select(1, 0).select(0, 0);
                kernels().column_sum_f32(channels(kept_[n], first, last).select(0, 0), 0, sum);
            }
        });
    }

    // dK and dV from S and P behind the chunk, which are relative to `after`; then S and P before it.
    void keys(const Tensor &after, bool is_last) {
        each_run(s_[7], row(border_, 2), width(), [&](int64_t first, int64_t last, bool exact) {
            if (exact) {
                if (!is_last) rescale(s_[2].data(), after.data(), first, last);  // replay may end at another reference than a linked border
                return exact_keys(first, last);
            }
            Tensor now[7], had[3], k_rows = channels(dk_, first, last), v_rows = channels(dv_, first, last);
            for (int n = 3; n < 7; n++) now[n] = channels(s_[n], first, last);
            for (int n = 0; n < 3; n++) had[n] = channels(kept_[n], first, last);
            kernels().aft_simple_causal_keys_f32(channels(v_, first, last), had[0], had[1], had[2], channels(row(border_, 2), first, last), channels(after, first, last), k_rows, v_rows,
                                                 now[3], now[4], now[5], now[6]);
        });
    }

    // Takes S and P [2, C] behind the chunk, relative to `after`; leaves those before it.
    void link(const Tensor &carried, const Tensor &after) {
        const float *to = row(border_, 2).data();
        for (int n = 0; n < 2; n++) {
            float *sum = row(carried, n).data(), *own = s_[3 + n].data();
            for (int64_t c = 0; c < width(); c++) {
                const float behind = sum[c], h = std::exp(0.5f * (to[c] - after.data()[c]));
                sum[c] = behind * h * h + own[c];
                own[c] = behind;
            }
        }
    }

private:
    int64_t width() const { return q_.size(2); }

    template <class Body>
    void each_exact_run(const Body &body) {
        each_run(s_[7], row(border_, 2), width(), [&](int64_t first, int64_t last, bool exact) {
            if (exact) body(first, last);
        });
    }
    void exact_keys(int64_t first, int64_t last) {
        Tensor now[7], had[3], q_rows = channels(dq_, first, last), k_rows = channels(dk_, first, last), v_rows = channels(dv_, first, last);
        for (int n = 3; n < 7; n++) now[n] = channels(s_[n], first, last);
        for (int n = 0; n < 3; n++) had[n] = channels(kept_[n], first, last);
        kernels().aft_simple_causal_backward_f32(channels(q_, first, last), channels(v_, first, last), channels(dy_, first, last), had[0], had[1], had[2], q_rows, k_rows, v_rows,
                                                 now[3], now[4], now[5], now[6]);
    }
    void rescale(const float *to, const float *from, int64_t first, int64_t last) {
        for (int64_t c = first; c < last; c++) {
            const float h = std::exp(0.5f * (to[c] - from[c]));
            for (int n = 3; n < 5; n++) s_[n].data()[c] = s_[n].data()[c] * h * h;
        }
    }

    Tensor q_, k_, v_, dy_, dq_, dk_, dv_, border_;
    Tensor s_[8];     // num, den, reference; S, P, local S, local P (going forward: of num, den); peak
    Tensor kept_[3];  // of each step: G, G R, h; in exact runs num, den, +-h
};

}  // namespace

void causal_forward(const MixerTensors &in, Tensor &output, MixerSaved &saved, Arena &arena) {
    const Chunks chunks(in.query.size(0), in.query.size(1), in.query.size(2), linked_forward);
    const Tensor borders = arena.allocate({chunks.count, 3, chunks.B, chunks.C});
    saved.tensors = {borders};
    const ArenaScope scope(arena);
    const Tensor memory = arena.allocate({chunks.workers(), 9, chunks.C});
    chunks.each([&](LinkedBlock &block, int64_t first, int64_t last) {
        const int64_t b = block.chain;
        const Tensor query = sequence(in.query, b), key = sequence(in.key, b), value = sequence(in.value, b), y = sequence(output, b);
        const Tensor scratch = memory.select(0, block.worker).slice(0, 0, 6), own = memory.select(0, block.worker).slice(0, 6, 9);
        const auto border = [&](int64_t j) { return borders.select(0, j).select(1, b); };
        if (first == 0) clear(border(0)), begin_reference(border(0), key);
        if (chunks.linked) {
            const Tensor k = steps(key, chunks.begin(first), chunks.end(first));
            clear(own), begin_reference(own, k);
            scan_chunk(k, steps(value, chunks.begin(first), chunks.end(first)), own, scratch);
            block.in_turn([&] {
                if (last < chunks.count) append(border(first), own, border(last));
            });
        }
        for (int64_t j = first; j < last; j++) {
            const int64_t begin = chunks.begin(j), end = chunks.end(j);
            const Tensor q = steps(query, begin, end), k = steps(key, begin, end), v = steps(value, begin, end), before = border(j);
            Tensor rows = steps(y, begin, end), s[6];  // num, den, reference, local num, local den, peak
            for (int64_t n = 0; n < 6; n++) s[n] = state(scratch, n, end - begin);
            for (int n = 0; n < 3; n++) copy_row(row(before, n), s[n]);
            kernels().aft_simple_causal_forward_bounded_f32(q, k, v, rows, s[0], s[1], s[3], s[4], s[5], s[2]);
            each_run(s[5], row(before, 2), chunks.C, [&](int64_t first, int64_t last, bool exact) {
                if (!exact) return;
                Tensor some_rows = channels(rows, first, last), now[5];
                for (int n = 0; n < 5; n++) now[n] = channels(s[n], first, last);
                for (int n = 0; n < 3; n++) copy_row(channels(row(before, n), first, last), now[n]);
                kernels().aft_simple_causal_forward_f32(channels(q, first, last), channels(k, first, last), channels(v, first, last), some_rows, now[0], now[1], now[3], now[4], now[2]);
            });
            if (j + 1 < last)
                for (int n = 0; n < 3; n++) copy_row(s[n], row(border(j + 1), n));
        }
    });
}

void causal_backward(const MixerTensors &in, const MixerSaved &saved, const Tensor &output_gradient, MixerTensors &gradient, Arena &arena) {
    const Chunks chunks(in.query.size(0), in.query.size(1), in.query.size(2));
    const Tensor &borders = saved.tensors[0];
    const ArenaScope scope(arena);
    const Tensor memory = arena.allocate({chunks.workers(), 8, chunks.C}), kept = arena.allocate({chunks.workers(), 3, 1, chunks.length, chunks.C});
    const Tensor carried = arena.allocate({chunks.B, 2, chunks.C});
    Tensor(carried).fill(0);
    chunks.each(
        [&](LinkedBlock &block, int64_t first, int64_t last) {
            const int64_t b = block.chain;
            const Tensor scratch = memory.select(0, block.worker);
            for (int n = 3; n < 5; n++) fill_row(row(scratch, n), 0);
            for (int64_t j = last; j-- > first;) {
                const int64_t begin = chunks.begin(j), end = chunks.end(j);
                const auto rows = [&](const Tensor &x) { return steps(sequence(x, b), begin, end); };
                const Tensor border = borders.select(0, j).select(1, b), dk = rows(gradient.key), dv = rows(gradient.value);
                const bool is_last = j + 1 == chunks.count;
                const Tensor after = row(borders.select(0, is_last ? j : j + 1).select(1, b), 2);
                BackwardChunk chunk(rows(in.query), rows(in.key), rows(in.value), rows(output_gradient), rows(gradient.query), dk, dv, border, scratch,
                                    kept.select(0, block.worker).slice(2, 0, end - begin));
                chunk.queries();
                if (chunks.B * chunks.T * chunks.C >= cached_elements) fetch(dk, dv);
                if (chunks.linked) {
                    chunk.sums();
                    block.in_turn([&] { chunk.link(carried.select(0, b), after); });
                }
                chunk.keys(after, is_last);
            }
        },
        true);
}

}  // namespace aft::simple
