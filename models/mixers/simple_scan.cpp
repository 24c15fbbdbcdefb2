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

void copy_row(const Tensor &from, Tensor to) { std::memcpy(to.data(), from.data(), size_t(from.size(from.rank() - 1)) * sizeof(float)); }
void fill_row(Tensor to, float value) { std::fill_n(to.data(), to.size(to.rank() - 1), value); }

void clear(const Tensor &state) {
    for (int n = 0; n < 3; n++) fill_row(row(state, n), n == 2 ? no_reference : 0);
}

void begin_reference(const Tensor &state, const Tensor &key) {
    float *reference = row(state, 2).data();
    for (int64_t c = 0; c < key.size(2); c++)
        if (reference[c] <= no_reference) reference[c] = key.data()[c];
}

void scan_chunk(const Tensor &key, const Tensor &value, const Tensor &states, const Tensor &scratch) {
    Tensor s[6];  // num, den, reference, local num, local den, peak
    for (int64_t n = 0; n < 6; n++) s[n] = n < 3 ? state(states, n, key.size(1)) : state(scratch, n - 3, key.size(1));
    for (int n = 0; n < 3; n++) copy_row(s[n], row(scratch, n + 3));
    kernels().aft_simple_statistics_bounded_f32(key, value, s[0], s[1], s[3], s[4], s[5], s[2]);
    each_run(s[5], row(scratch, 5), key.size(2), [&](int64_t first, int64_t last, bool exact) {
        if (!exact) return;
        Tensor now[5];
        for (int n = 0; n < 5; n++) now[n] = channels(s[n], first, last);
        for (int n = 0; n < 3; n++) copy_row(channels(row(scratch, n + 3), first, last), now[n]);
        kernels().aft_simple_statistics_f32(channels(key, first, last), channels(value, first, last), now[0], now[1], now[3], now[4], now[2]);
    });
}

void append(const Tensor &state, const Tensor &later, const Tensor &sum) {
    const float *s[3], *l[3];
    float *out[3];
    for (int n = 0; n < 3; n++) s[n] = row(state, n).data(), l[n] = row(later, n).data(), out[n] = row(sum, n).data();
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
            for (int64_t j = first; j < last; j++) scan_chunk(steps(key, chunks.begin(j), chunks.end(j)), steps(value, chunks.begin(j), chunks.end(j)), to, scratch);
        };
        if (!chunks.linked) return scan(state);
        clear(own);
        scan(own);
        block.in_turn([&] { append(state, own, state); });
    });
}

}  // namespace aft::simple
