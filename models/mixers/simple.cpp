// AFT-simple (SPEC F3, F5): scans over chunks of time (generators/aft_simple.h has the formulas).
//
// The channels of a sequence are independent of each other, so the work is cut into parts: a sequence, or a slice of its
// channels when there are few sequences. Inside a part the chunks run one after the other on one thread. A chunk runs in the
// bounded form; slices of channels in which a key passed its limit are repeated in the exact form. Which ones these are
// depends on the border state and the keys only, so backward finds the same ones.
#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>

#include "aft/error.h"
#include "kernel_table.h"
#include "models/mixers/mixers.h"
#include "runtime/parallel.h"

namespace aft {
namespace {

constexpr float no_reference = -3e38f;  // finite, so that K - r is never inf - inf

// How far a key of a chunk may lie above the reference in the bounded form: e^10 times 1e30 times thousands of steps fits
// into fp32, and a reference that is a key or a peak of earlier chunks is seldom exceeded by more.
constexpr float limit = 10.0f;
constexpr int64_t cached_elements = 1 << 20;  // of a gradient: 4 MB, which a cache may still hold from its last use
constexpr int64_t slice_channels = 64;  // decided together: whole cache lines, and few channels pay for one of them

struct Part {
    int64_t b, first, last;  // sequence, channels [first, last)
    int64_t width() const { return last - first; }
};

// The cut depends on the shape only. Slices break the rows that the prefetchers follow (256 channels of 512: 1.7 times the
// time per element, 128 of 512: 2.7 times), so only a lone sequence is cut, into slices of 512 channels at least; in backward,
// which has more arithmetic for each row, of 128 (two threads: 0.83 to 0.94 of the time of one slice of 256).
struct Parts {
    int64_t B, C, slices, width;

    Parts(int64_t B, int64_t C, int64_t narrowest = 512) : B(B), C(C) {
        const int64_t wanted = B > 1 ? 1 : std::max<int64_t>(C / narrowest, 1);
        width = ((C + wanted - 1) / wanted + 63) / 64 * 64;
        slices = (C + width - 1) / width;
    }
    int64_t count() const { return B * slices; }
    int64_t workers() const { return std::min<int64_t>(count(), thread_count()); }

    // body(part, worker): scratch belongs to a worker, results do not depend on which worker takes a part.
    template <class Body>
    void each(Body body) const {
        std::atomic<int64_t> next = 0;
        parallel_for(workers(), [&](int64_t worker) {
            for (int64_t n; (n = next++) < count();) {
                const int64_t first = n % slices * width;
                body(Part{n / slices, first, std::min(first + width, C)}, worker);
            }
        });
    }
};

// Steps of a chunk. Sums have two levels, so this is the length of the lower one: short for accuracy and because backward
// keeps 12 bytes per element of a chunk in L2; but not shorter than the square root needs, or the upper level grows long.
// The borders of forward's chunks are those of backward, so the length follows from the shape, however a pass cuts the channels.
int64_t chunk_steps(int64_t B, int64_t T, int64_t C) {
    const int64_t fitting = std::clamp<int64_t>(32768 / std::max<int64_t>(Parts(B, C).width, 1), 64, 128);
    const int64_t needed = int64_t(std::sqrt(double(T)) / 4);
    return std::clamp<int64_t>(std::max(fitting, needed), 1, std::max<int64_t>(T, 1));
}

Tensor cut(const Tensor &x, const Part &part) { return x.slice(0, part.b, part.b + 1).slice(2, part.first, part.last); }
Tensor steps(const Tensor &x, int64_t begin, int64_t end) { return x.slice(1, begin, end); }

// [n, B, C] -> entry n of one part as a statistic [1, c], or as a state [1, steps, c] of stride 0 along time.
Tensor statistic(const Tensor &x, int64_t n, const Part &part) {
    return x.select(0, n).slice(0, part.b, part.b + 1).slice(1, part.first, part.last);
}
Tensor state(const Tensor &x, int64_t n, const Part &part, int64_t steps) { return statistic(x, n, part).repeat(1, steps); }

// Row n of a worker's scratch [workers, rows, width], as a state.
Tensor scratch_state(const Tensor &x, int64_t worker, int64_t n, const Part &part, int64_t steps) {
    return x.select(0, worker).slice(0, n, n + 1).slice(1, 0, part.width()).repeat(1, steps);
}

void copy_row(const Tensor &from, Tensor to) { std::memcpy(to.data(), from.data(), size_t(from.size(from.rank() - 1)) * sizeof(float)); }
void fill_row(Tensor to, float value) { std::fill_n(to.data(), to.size(to.rank() - 1), value); }

// A reference starts at a key, at the first of the part.
void begin_reference(Tensor reference, const Tensor &key) {
    for (int64_t c = 0; c < key.size(2); c++)
        if (reference.data()[c] <= no_reference) reference.data()[c] = key.data()[c];
}

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

// body(first, last, exact) for the runs of slices alike: `exact` where a peak lies beyond the limit.
template <class Body>
void each_run(const Tensor &peak, const Tensor &reference, int64_t width, Body body) {
    const float *p = peak.data(), *r = reference.data();
    const auto passes = [&](int64_t first) {
        bool any = false;
        for (int64_t c = first; c < std::min(first + slice_channels, width); c++) any |= p[c] - r[c] > limit;
        return any;
    };
    for (int64_t first = 0, last = 0; first < width; first = last) {
        const bool exact = passes(first);
        do last = std::min(last + slice_channels, width);
        while (last < width && passes(last) == exact);
        body(first, last, exact);
    }
}

void check_shape(const char *name, const Tensor &x, const Shape &shape) {
    if (!x.defined() || x.dtype() != DType::f32 || x.shape() != shape)
        throw Error(std::string("AFT-simple: the tensor '") + name + "' must be F32 " + to_string(shape) + (x.defined() ? ", not " + to_string(x.shape()) : ", but it is missing"));
}

class SimpleMixer : public Mixer {
public:
    explicit SimpleMixer(const MixerOptions &options) : Mixer(options) {}

    void forward(const MixerTensors &in, Tensor &output, MixerSaved &saved, Arena &arena) const override {
        check(in);
        check_shape("output", output, in.query.shape());
        if (options_.causal)
            causal_forward(in, output, saved, arena);
        else
            bidirectional_forward(in, output, saved, arena);
    }

    void backward(const MixerTensors &in, const MixerSaved &saved, const Tensor &output_gradient, MixerTensors &gradient, Arena &arena) const override {
        check(in);
        check_shape("output_gradient", output_gradient, in.query.shape());
        check_shape("query_gradient", gradient.query, in.query.shape());
        check_shape("key_gradient", gradient.key, in.query.shape());
        check_shape("value_gradient", gradient.value, in.query.shape());
        if (saved.tensors.size() != 1) throw Error("AFT-simple: backward without what forward saved");
        if (options_.causal)
            causal_backward(in, saved, output_gradient, gradient, arena);
        else
            bidirectional_backward(in, saved, output_gradient, gradient, arena);
    }

    // Tensors of the state: one, [3, B, C] = num, den, reference.
    MixerState start(const MixerTensors &, int64_t batch, int64_t channels, int64_t) const override {
        if (!options_.causal) throw Error("decoding needs a causal mixer: a bidirectional one sees the future");
        Tensor state({3, batch, channels});
        state.slice(0, 0, 2).fill(0);
        state.slice(0, 2, 3).fill(no_reference);
        return {{state}, 0};
    }

    void prefill(const MixerTensors &in, MixerState &state, Arena &arena) const override {
        MixerTensors known = in;
        if (!known.query.defined()) known.query = in.value;  // only key and value count here
        check(known);
        check_state(state, in.value);
        scan_keys(in, state.tensors[0], arena);
        state.position += in.key.size(1);
    }

    void step(const MixerTensors &in, MixerState &state_, Tensor &output, Arena &arena) const override {
        check(in);
        check_shape("output", output, in.query.shape());
        check_state(state_, in.value);
        if (in.query.size(1) != 1) throw Error("a decoding step takes one token, not " + std::to_string(in.query.size(1)));
        const ArenaScope scope(arena);
        const int64_t B = in.query.size(0), C = in.query.size(2);
        const Tensor local = arena.allocate({2, B, C});
        Tensor s[5];
        for (int64_t n = 0; n < 5; n++) s[n] = (n < 3 ? state_.tensors[0].select(0, n) : local.select(0, n - 3)).repeat(1, 1);
        kernels().aft_simple_causal_forward_f32(in.query, in.key, in.value, output, s[0], s[1], s[3], s[4], s[2]);
        state_.position++;
    }

private:
    void check(const MixerTensors &in) const { check_mixer_tensors(options_, in); }

    static void check_state(const MixerState &state, const Tensor &value) {
        if (state.tensors.size() != 1 || state.tensors[0].shape() != Shape{3, value.size(0), value.size(2)})
            throw Error("AFT-simple: the decoding state does not fit tokens of shape " + to_string(value.shape()));
    }

    // saved: [chunks, 3, B, C], the state before each chunk.
    static void causal_forward(const MixerTensors &in, Tensor &output, MixerSaved &saved, Arena &arena) {
        const int64_t B = in.query.size(0), T = in.query.size(1), C = in.query.size(2);
        const Parts parts(B, C);
        const int64_t length = chunk_steps(B, T, C), chunks = (T + length - 1) / length;
        const Tensor borders = arena.allocate({chunks, 3, B, C});
        saved.tensors = {borders};
        const ArenaScope scope(arena);
        const Tensor scratch = arena.allocate({parts.workers(), 6, parts.width});
        parts.each([&](const Part &part, int64_t worker) {
            const Tensor query = cut(in.query, part), key = cut(in.key, part), value = cut(in.value, part), y = cut(output, part);
            Tensor s[6];  // num, den, reference, local num, local den, peak
            const auto view = [&](int64_t steps) {
                for (int64_t n = 0; n < 6; n++) s[n] = scratch_state(scratch, worker, n, part, steps);
            };
            view(length);
            for (int n = 0; n < 3; n++) fill_row(s[n], n == 2 ? no_reference : 0);
            begin_reference(s[2], key);
            for (int64_t j = 0; j < chunks; j++) {
                const int64_t begin = j * length, end = std::min(begin + length, T);
                const Tensor border = borders.select(0, j);
                for (int n = 0; n < 3; n++) copy_row(s[n], statistic(border, n, part));
                if (end - begin < length) view(end - begin);
                const Tensor q = steps(query, begin, end), k = steps(key, begin, end), v = steps(value, begin, end);
                Tensor rows = steps(y, begin, end);
                kernels().aft_simple_causal_forward_bounded_f32(q, k, v, rows, s[0], s[1], s[3], s[4], s[5], s[2]);
                each_run(s[5], statistic(border, 2, part), part.width(), [&](int64_t first, int64_t last, bool exact) {
                    if (!exact) return;
                    const auto some = [&](const Tensor &x) { return x.slice(2, first, last); };
                    Tensor some_rows = some(rows), now[5];
                    for (int n = 0; n < 5; n++) now[n] = some(s[n]);
                    for (int n = 0; n < 3; n++) copy_row(statistic(border, n, part).slice(1, first, last), now[n]);
                    kernels().aft_simple_causal_forward_f32(some(q), some(k), some(v), some_rows, now[0], now[1], now[3], now[4], now[2]);
                });
            }
        });
    }

    static void causal_backward(const MixerTensors &in, const MixerSaved &saved, const Tensor &output_gradient, MixerTensors &gradient, Arena &arena) {
        const int64_t B = in.query.size(0), T = in.query.size(1), C = in.query.size(2);
        const Parts parts(B, C, 128);
        const int64_t length = chunk_steps(B, T, C);
        const Tensor &borders = saved.tensors[0];
        const ArenaScope scope(arena);
        const Tensor scratch = arena.allocate({parts.workers(), 8, parts.width});
        const Tensor replayed = arena.allocate({parts.workers(), 3, length, parts.width});
        parts.each([&](const Part &part, int64_t worker) {
            const Tensor query = cut(in.query, part), key = cut(in.key, part), value = cut(in.value, part), dy = cut(output_gradient, part);
            const Tensor dq = cut(gradient.query, part), dk = cut(gradient.key, part), dv = cut(gradient.value, part);
            Tensor s[8];  // num, den, reference; S, P, local S, local P (going forward: of num, den); peak
            const auto view = [&](int64_t steps) {
                for (int64_t n = 0; n < 8; n++) s[n] = scratch_state(scratch, worker, n, part, steps);
            };
            view(length);
            for (int n = 3; n < 5; n++) fill_row(s[n], 0);
            for (int64_t j = borders.size(0); j-- > 0;) {
                const int64_t begin = j * length, end = std::min(begin + length, T);
                const Tensor q = steps(query, begin, end), k = steps(key, begin, end), v = steps(value, begin, end), dy_rows = steps(dy, begin, end);
                const auto before = [&](int64_t n) { return statistic(borders.select(0, j), n, part); };
                const Tensor after = statistic(borders.select(0, std::min(j + 1, borders.size(0) - 1)), 2, part);
                if (s[0].size(1) != end - begin) view(end - begin);
                Tensor kept[3];
                for (int64_t n = 0; n < 3; n++) kept[n] = replayed.select(0, worker).slice(0, n, n + 1).slice(1, 0, end - begin).slice(2, 0, part.width());
                Tensor q_rows = steps(dq, begin, end), k_rows = steps(dk, begin, end), v_rows = steps(dv, begin, end);
                kernels().aft_simple_causal_queries_f32(q, k, v, dy_rows, before(0), before(1), before(2), q_rows, kept[0], kept[1], kept[2], s[5], s[6], s[7]);
                if (B * T * C >= cached_elements) fetch(k_rows, v_rows);
                each_run(s[7], before(2), part.width(), [&](int64_t first, int64_t last, bool exact) {
                    const auto some = [&](const Tensor &x) { return x.slice(2, first, last); };
                    Tensor now[7], had[3], some_q = some(q_rows), some_k = some(k_rows), some_v = some(v_rows);
                    for (int n = 0; n < 7; n++) now[n] = some(s[n]);
                    for (int n = 0; n < 3; n++) had[n] = some(kept[n]);
                    if (!exact) {
                        kernels().aft_simple_causal_keys_f32(some(v), had[0], had[1], had[2], before(2).slice(1, first, last), after.slice(1, first, last), some_k, some_v, now[3], now[4], now[5], now[6]);
                        return;
                    }
                    for (int n = 0; n < 3; n++) copy_row(before(n).slice(1, first, last), now[n]);
                    kernels().aft_simple_causal_replay_f32(some(k), some(v), had[0], had[1], had[2], now[0], now[1], now[2]);
                    kernels().aft_simple_causal_backward_f32(some(q), some(v), some(dy_rows), had[0], had[1], had[2], some_q, some_k, some_v, now[3], now[4], now[5], now[6]);
                });
            }
        });
    }

    // Brings a state [3, B, C] behind all keys and values.
    static void scan_keys(const MixerTensors &in, const Tensor &states, Arena &arena) {
        const int64_t B = in.key.size(0), T = in.key.size(1), C = in.key.size(2);
        const Parts parts(B, C);
        const int64_t length = chunk_steps(B, T, C);
        const ArenaScope scope(arena);
        const Tensor scratch = arena.allocate({parts.workers(), 6, parts.width});
        parts.each([&](const Part &part, int64_t worker) {
            const Tensor key = cut(in.key, part), value = cut(in.value, part);
            Tensor s[9];  // num, den, reference, local num, local den, peak; num, den, reference before the chunk
            const auto view = [&](int64_t steps) {
                for (int64_t n = 0; n < 9; n++) s[n] = n < 3 ? state(states, n, part, steps) : scratch_state(scratch, worker, n - 3, part, steps);
            };
            view(length);
            begin_reference(s[2], key);
            for (int64_t begin = 0; begin < T; begin += length) {
                const int64_t end = std::min(begin + length, T);
                if (end - begin < length) view(end - begin);
                for (int n = 0; n < 3; n++) copy_row(s[n], s[n + 6]);
                const Tensor k = steps(key, begin, end), v = steps(value, begin, end);
                kernels().aft_simple_statistics_bounded_f32(k, v, s[0], s[1], s[3], s[4], s[5], s[2]);
                each_run(s[5], s[8], part.width(), [&](int64_t first, int64_t last, bool exact) {
                    if (!exact) return;
                    const auto some = [&](const Tensor &x) { return x.slice(2, first, last); };
                    Tensor now[5];
                    for (int n = 0; n < 5; n++) now[n] = some(s[n]);
                    for (int n = 0; n < 3; n++) copy_row(some(s[n + 6]), now[n]);
                    kernels().aft_simple_statistics_f32(some(k), some(v), now[0], now[1], now[3], now[4], now[2]);
                });
            }
        });
    }

    // saved: [3, B, C] = num, den, reference of the whole sequence.
    static void bidirectional_forward(const MixerTensors &in, Tensor &output, MixerSaved &saved, Arena &arena) {
        const int64_t B = in.query.size(0), C = in.query.size(2);
        const Tensor total = arena.allocate({3, B, C});
        saved.tensors = {total};
        total.slice(0, 0, 2).fill(0);
        total.slice(0, 2, 3).fill(no_reference);
        scan_keys(in, total, arena);
        Parts(B, C).each([&](const Part &part, int64_t) {
            Tensor y = cut(output, part);
            kernels().aft_simple_gate_f32(cut(in.query, part), statistic(total, 0, part), statistic(total, 1, part), y);
        });
    }

    static void bidirectional_backward(const MixerTensors &in, const MixerSaved &saved, const Tensor &output_gradient, MixerTensors &gradient, Arena &arena) {
        const int64_t B = in.query.size(0), T = in.query.size(1), C = in.query.size(2);
        const Parts parts(B, C);
        const int64_t length = chunk_steps(B, T, C);
        const Tensor &total = saved.tensors[0];
        const ArenaScope scope(arena);
        const Tensor sums = arena.allocate({parts.workers(), 2, parts.width});
        parts.each([&](const Part &part, int64_t worker) {
            const Tensor query = cut(in.query, part), dy = cut(output_gradient, part), dq = cut(gradient.query, part);
            const Tensor num = statistic(total, 0, part), den = statistic(total, 1, part);
            Tensor s, local_s;
            const auto view = [&](int64_t steps) { s = scratch_state(sums, worker, 0, part, steps), local_s = scratch_state(sums, worker, 1, part, steps); };
            view(length);
            fill_row(s, 0);
            for (int64_t begin = 0; begin < T; begin += length) {
                const int64_t end = std::min(begin + length, T);
                if (end - begin < length) view(end - begin);
                Tensor rows = steps(dq, begin, end);
                kernels().aft_simple_gate_backward_f32(steps(query, begin, end), steps(dy, begin, end), num, den, rows, s, local_s);
            }
            Tensor dk = cut(gradient.key, part), dv = cut(gradient.value, part);
            kernels().aft_simple_key_backward_f32(cut(in.key, part), cut(in.value, part), num, den, statistic(total, 2, part), s.select(1, 0), dk, dv);
        });
    }
};

}  // namespace

std::unique_ptr<Mixer> make_simple_mixer(const MixerOptions &options) { return std::make_unique<SimpleMixer>(options); }

}  // namespace aft
