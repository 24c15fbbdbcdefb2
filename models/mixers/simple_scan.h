// What the passes of AFT-simple share: how time is cut, views of states, the scan of keys and the sum of two scans.
//
// A sequence is cut into chunks of steps (generators/aft_simple.h). Many sequences run in parallel, each on one thread, chunk after
// chunk. Few long ones are linked: their chunks are the blocks of runtime/look_back.h.
//
// A chunk runs in the bounded form; slices of channels of which the guards say that a key or a query passed its limits are repeated in the
// exact form. Going back these may be others than going forward (only there linked chunks meet their queries in the bounded form).
#pragma once
#include <algorithm>
#include <bit>
#include <cstdint>
#include <vector>

#include "aft/arena.h"
#include "aft/mixer.h"
#include "runtime/look_back.h"

namespace aft::simple {

constexpr float no_reference = -3e38f;  // finite, so that K - r is never inf - inf

constexpr int64_t slice_channels = 64;  // decided together: whole cache lines, and few channels pay for one of them

// Sequences are linked where there are no more than this, and where they are long for their number: else a core takes one at a time.
constexpr int64_t linked_sequences = 16, linked_elements = 1 << 19;  // elements of a sequence's activation, for each sequence

// All by shape, never by the number of threads.
struct Chunks {
    int64_t B, T, C, length, count;
    bool linked;

    Chunks(int64_t B, int64_t T, int64_t C, int64_t most = linked_sequences);
    int64_t begin(int64_t j) const { return j * length; }
    int64_t end(int64_t j) const { return std::min(T, (j + 1) * length); }
    int64_t workers() const { return look_back_workers(B, linked ? count : 1); }

    // visit(block, first, last): chunks [first, last) of a sequence, on scratch of block.worker. Linked ones come in the order of
    // their turns, from the end of time if `backward`.
    template <class Visit>
    void each(const Visit &visit, bool backward = false) const {
        look_back(B, linked ? count : 1, 1, [&](LinkedBlock &block) {
            const int64_t j = backward ? count - 1 - block.index : block.index;
            linked ? visit(block, j, j + 1) : visit(block, 0, count);
        });
    }
};

inline Tensor sequence(const Tensor &x, int64_t b) { return x.slice(0, b, b + 1); }
inline Tensor steps(const Tensor &x, int64_t begin, int64_t end) { return x.slice(1, begin, end); }
inline Tensor channels(const Tensor &x, int64_t first, int64_t last) { return x.slice(x.rank() - 1, first, last); }

// Row n of x [n, C] as a statistic [1, C], or as a state [1, steps, C] of stride 0 along time.
inline Tensor row(const Tensor &x, int64_t n) { return x.slice(0, n, n + 1); }
inline Tensor state(const Tensor &x, int64_t n, int64_t steps) { return row(x, n).repeat(1, steps); }

// All rows of x [n, C] as states. Fifty new views a chunk took a tenth of a pass, so a pass makes these for its first chunk, and again
// for one of another length.
class States {
public:
    explicit States(const Tensor &x) : x_(x), views_(size_t(x.size(0))) {}
    bool set_steps(int64_t steps) {  // whether they change
        if (steps == steps_) return false;
        for (size_t n = 0; n < views_.size(); n++) views_[n] = state(x_, int64_t(n), steps);
        steps_ = steps;
        return true;
    }
    Tensor &operator[](int64_t n) { return views_[size_t(n)]; }

private:
    Tensor x_;
    std::vector<Tensor> views_;
    int64_t steps_ = -1;
};

inline float *row_data(const Tensor &x, int64_t n) { return x.data() + n * x.stride(0); }
void copy_rows(const Tensor &from, const Tensor &to, int64_t count);  // the first of [n, C]
void fill_row(const Tensor &x, int64_t n, float value);
void clear(const Tensor &state);  // [3, C] = num, den, reference

// A reference starts at a key, at the first [1, t, C] of the sequence.
void begin_reference(const Tensor &state, const Tensor &key);

// body(first, last, exact) for the runs of slices alike: `exact` where a guard has other than its low seven bits.
template <class Body>
void each_run(const float *guard, int64_t C, const Body &body) {
    const auto passes = [&](int64_t first) {
        uint32_t all = 0;
        for (int64_t c = first, end = std::min(first + slice_channels, C); c < end; c++) all |= std::bit_cast<uint32_t>(guard[c]);
        return all > 127;
    };
    for (int64_t first = 0, last = 0; first < C; first = last) {
        const bool exact = passes(first);
        do last = std::min(last + slice_channels, C);
        while (last < C && passes(last) == exact);
        body(first, last, exact);
    }
}

// Brings a state [3, C] behind the keys and values [1, t, C] of chunk after chunk; `scratch` [6, C].
class KeyScan {
public:
    KeyScan(const Tensor &state, const Tensor &scratch);
    void add(const Tensor &key, const Tensor &value);

private:
    Tensor state_, before_;
    States now_, local_;  // num, den, reference; local num, local den, guard
};

// Brings states [3, B, C] behind all keys and values.
void scan_keys(const MixerTensors &in, const Tensor &states, Arena &arena);

// The sums of `later` behind those of `state`, both [3, C]: sum [3, C], which may be `state`.
void append(const Tensor &state, const Tensor &later, const Tensor &sum);

void causal_forward(const MixerTensors &in, Tensor &output, MixerSaved &saved, Arena &arena);
void causal_backward(const MixerTensors &in, const MixerSaved &saved, const Tensor &output_gradient, MixerTensors &gradient, Arena &arena);
void bidirectional_forward(const MixerTensors &in, Tensor &output, MixerSaved &saved, Arena &arena);
void bidirectional_backward(const MixerTensors &in, const MixerSaved &saved, const Tensor &output_gradient, MixerTensors &gradient, Arena &arena);

}  // namespace aft::simple
