// How the window operators (AFT-local, AFT-conv) cut their work: units of a sequence and some channels, walked in pieces of rows
// whose packed keys (or queries) stay in L2. Units are independent and run in parallel; each group of units has scratch of
// its own. Everything is cut by shape, so results do not depend on the threads.
#pragma once
#include <algorithm>
#include <cstdint>

#include "aft/tensor.h"
#include "runtime/parallel.h"

namespace aft {

constexpr int64_t granule = 12, panel = 16;  // of generators/aft_window.h
constexpr int64_t longest_piece = 256;       // rows: a later key of the piece is all that can push an early row out of range
constexpr int64_t cached_elements = 1 << 22;  // of one activation of a sequence: 16 MB
constexpr int64_t piece_elements = 65536;    // of an input: with the packed form of two inputs about a megabyte

inline int64_t ceil_div(int64_t x, int64_t y) { return (x + y - 1) / y; }
inline int64_t round_up(int64_t x, int64_t to) { return ceil_div(x, to) * to; }

// Few long sequences are linked: their pieces are the blocks of runtime/look_back.h, all channels of a unit.
constexpr int64_t linked_units = 8, linked_pieces = 4;  // units at most, pieces of each for every unit at least: else a core takes a unit at a time

// What every pass cuts the work into.
struct Cut {
    int64_t B, T, C, piece, pieces, channels, blocks, units, groups;
    bool linked;

    // Rows of `widest` channels are read from main memory: prefetchers follow whole rows only (of 512 channels 33 GB/s, of a
    // quarter or half of each row 11 GB/s), so fewer channels are taken only where there would be a single unit, or few narrow ones
    // of rows that the caches hold.
    Cut(int64_t B, int64_t T, int64_t C, int64_t most_groups, int64_t widest = 128, bool may_link = false) : B(B), T(T), C(C) {
        take(widest);
        linked = may_link && units <= linked_units && pieces >= linked_pieces * units;
        if (!linked)
            while (channels > 32 && units < (channels > 128 || T * C > cached_elements ? 2 : 4)) take(channels / 2);
        groups = std::min(units, most_groups);
    }
    int64_t panels() const { return ceil_div(std::min(C, channels), panel); }
    int64_t begin(int64_t I) const { return I * piece; }
    int64_t end(int64_t I) const { return std::min(T, (I + 1) * piece); }

    struct Unit {
        int64_t b, c0, c1;
        bool first;  // of its group
        int64_t panels() const { return ceil_div(c1 - c0, panel); }
        Tensor of(const Tensor &x) const { return x.select(0, b).slice(1, c0, c1); }       // [B, T, C] -> [T, c]
        Tensor of_maxima(const Tensor &x) const { return x.select(1, b).slice(1, c0, c1); }  // [pieces, B, C] -> [pieces, c]
    };
    Unit unit(int64_t u, bool first) const {
        const int64_t c0 = u % blocks * channels;
        return {u / blocks, c0, std::min(C, c0 + channels), first};
    }
    // visit(group, unit), groups in parallel, the units of a group in order.
    template <class Visit>
    void each(const Visit &visit) const {
        parallel_for(groups, [&](int64_t g) {
            const int64_t first = g * units / groups, last = (g + 1) * units / groups;
            for (int64_t u = first; u < last; u++) visit(g, unit(u, u == first));
        });
    }

private:
    void take(int64_t width) {
        channels = width;
        pieces = ceil_div(T, std::min(longest_piece, piece_elements / std::min(round_up(C, panel), channels)));
        piece = round_up(ceil_div(T, pieces), granule);
        pieces = ceil_div(T, piece);
        blocks = ceil_div(C, channels), units = B * blocks;
    }
};

}  // namespace aft
