#include "models/mixers/simple_scan.h"

#include <cmath>
#include <cstring>

#include "kernel_table.h"

namespace aft::simple {

// Steps of a chunk: sums have two levels, and this is the length of the lower one: short for accuracy and because backward
// keeps 12 bytes per element of a chunk in L2; but not shorter than the square root needs, or the upper level grows long.
Chunks::Chunks(int64_t B, int64_t T, int64_t C, int64_t most) : B(B), T(T), C(C) {
    const int64_t fitting = std::clamp<int64_t>(32768 / ((C + 63) / 64 * 64), 64, 128), needed = int64_t(std::sqrt(double(T)) / 4);
    length = std::clamp<int64_t>(std::max(fitting, needed), 1, T);
    count = (T + length - 1) / length;
    linked = B <= most && T * C >= B * linked_elements && count > 1;
}

void copy_rows(const Tensor &from, const Tensor &to, int64_t count) {
    for (int64_t n = 0; n < count; n++) std::memcpy(row_data(to, n), row_data(from, n), size_t(to.size(1)) * sizeof(float));
}
void fill_row(const Tensor &x, int64_t n, float value) { std::fill_n(row_data(x, n), x.size(1), value); }

void clear(const Tensor &state) {
    for (int64_t n = 0; n < 3; n++) fill_row(state, n, n == 2 ? no_reference : 0);
}

void begin_reference(const Tensor &state, const Tensor &key) {
    float *reference = row_data(state, 2);
    for (int64_t c = 0; c < key.size(2); c++)
        if (reference[c] <= no_reference) reference[c] = key.data()[c];
}

KeyScan::KeyScan(const Tensor &state, const Tensor &scratch) : state_(state), before_(scratch.slice(0, 3, 6)), now_(state), local_(scratch.slice(0, 0, 3)) {}

void KeyScan::add(const Tensor &key, const Tensor &value) {
    now_.set_steps(key.size(1)), local_.set_steps(key.size(1));
    copy_rows(state_, before_, 3);
    kernels().aft_simple_statistics_bounded_f32(key, value, now_[0], now_[1], local_[0], local_[1], local_[2], now_[2]);
    each_run(local_[2].data(), key.size(2), [&](int64_t first, int64_t last, bool exact) {
        if (!exact) return;
        Tensor now[3], local[2];
        for (int64_t n = 0; n < 3; n++) now[n] = channels(now_[n], first, last);
        for (int64_t n = 0; n < 2; n++) local[n] = channels(local_[n], first, last);
        copy_rows(channels(before_, first, last), channels(state_, first, last), 3);
        kernels().aft_simple_statistics_f32(channels(key, first, last), channels(value, first, last), now[0], now[1], local[0], local[1], now[2]);
    });
}

void append(const Tensor &state, const Tensor &later, const Tensor &sum) {
    const float *s[3], *l[3];
    float *out[3];
    for (int n = 0; n < 3; n++) s[n] = row_data(state, n), l[n] = row_data(later, n), out[n] = row_data(sum, n);
    for (int64_t c = 0; c < state.size(1); c++) {
        const float above = l[2][c] - s[2][c], h = std::exp(-0.5f * std::abs(above));  // squares as in the kernels
        const float keep = above > 0 ? h : 1, add = above > 0 ? 1 : h;
        for (int n = 0; n < 2; n++) out[n][c] = s[n][c] * keep * keep + l[n][c] * add * add;
        out[2][c] = std::max(s[2][c], l[2][c]);
    }
}

void scan_keys(const MixerTensors &in, const Tensor &states, Arena &arena) {
    const Chunks chunks(in.key.size(0), in.key.size(1), in.key.size(2));
    const ArenaScope scope(arena);
    const Tensor memory = arena.allocate({chunks.workers(), 9, chunks.C});
    chunks.each([&](LinkedBlock &block, int64_t first, int64_t last) {
        const Tensor key = sequence(in.key, block.chain), value = sequence(in.value, block.chain), state = states.select(1, block.chain);
        const Tensor scratch = memory.select(0, block.worker).slice(0, 0, 6), own = memory.select(0, block.worker).slice(0, 6, 9);
        const auto scan = [&](const Tensor &to) {
            begin_reference(to, steps(key, chunks.begin(first), chunks.end(first)));
            KeyScan keys(to, scratch);
            for (int64_t j = first; j < last; j++) keys.add(steps(key, chunks.begin(j), chunks.end(j)), steps(value, chunks.begin(j), chunks.end(j)));
        };
        if (!chunks.linked) return scan(state);
        clear(own);
        scan(own);
        block.in_turn([&] { append(state, own, state); });
    });
}

}  // namespace aft::simple
