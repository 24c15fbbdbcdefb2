// How the kernels of AFT-conv meet a piece: rows of packs, taps by column, and what is carried from piece to piece. Formulas and
// layouts: generators/aft_conv.h.
#pragma once
#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "kernel_table.h"
#include "models/mixers/conv_filter.h"
#include "models/mixers/cut.h"

namespace aft {

constexpr int64_t conv_pad = 8, conv_pitch = 528;  // of generators/aft_conv.h

// Which rows of the other side the taps of a piece meet: pack row p is the piece's row p - before.
struct Reach {
    int64_t taps, padded, before, after;
    Reach(const ConvFilterTaps &filter, bool of_queries)
        : taps(filter.taps), padded(round_up(filter.taps, conv_pad)), before(of_queries ? filter.before : filter.taps - 1 - filter.before), after(taps - 1 - before) {}
    int64_t rows(const Cut &cut) const { return cut.piece + padded - 1; }  // of a pack
};

// The head of each channel, counted from the first of its unit; whether each head lies in one unit.
struct Heads {
    int64_t group, most;  // channels of a head; heads of a unit
    Tensor of_channel;    // [C] i32
    bool whole;
    Heads(const Cut &cut, int64_t group, Arena &arena)
        : group(group), most(std::min(cut.C / group, cut.channels / group + 2)), of_channel(arena.allocate({cut.C}, DType::i32)), whole(cut.blocks == 1 || cut.channels % group == 0) {
        for (int64_t c = 0; c < cut.C; c++) of_channel.data<int32_t>()[c] = int32_t(c / group - c / cut.channels * cut.channels / group);
    }
};

// A unit's heads, and its part of tensors by channel or by head.
struct Part {
    Cut::Unit unit;
    int64_t group, h0, h1;
    Part(const Cut::Unit &unit, int64_t group) : unit(unit), group(group), h0(unit.c0 / group), h1((unit.c1 - 1) / group + 1) {}
    int64_t width() const { return unit.c1 - unit.c0; }
    int64_t heads() const { return h1 - h0; }
    int64_t elsewhere() const { return unit.c0 - h0 * group; }                              // channels of its first head that are another unit's
    int64_t first_own() const { return ceil_div(unit.c0, group) - h0; }                     // of its heads: the first that begins here
    Tensor of(const Tensor &x) const { return unit.of(x); }                                 // [B, T, C] -> [T, c]
    Tensor keys(const Tensor &x) const { return x.select(0, unit.b).slice(1, h0, h1); }     // [B, T, H] -> [T, h]
    Tensor maxima(const Tensor &x) const { return x.select(1, unit.b).slice(1, h0, h1); }   // [pieces, B, H] -> [pieces, h]
    Tensor channels(const Tensor &x) const { return x.slice(0, unit.c0, unit.c1); }         // [C] -> [c]
};

// Memory of a group: dense tensors of the unit at hand.
inline Tensor dense(const Tensor &memory, Shape shape) {
    int64_t elements = 1;
    for (int64_t size : shape) elements *= size;
    return memory.slice(0, 0, elements).reshape(std::move(shape));
}

// Sums over the rows of one pack in a unit: the columns are heads, or channels. A walk is causal, reversed or both, as the kernels are.
struct ConvSum {
    const Reach &reach;
    int64_t width, piece;
    bool reversed;
    Tensor pack, states;      // [rows, width rounded up], [carried, the same]
    Tensor taps, far, scale;  // [panels, padded, 16], [width rounded up]; scale: of what is carried

    Tensor state(int64_t n) const { return states.select(0, n); }
    Tensor rows(int64_t first, int64_t last) const { return pack.slice(0, first, last).slice(1, 0, width); }
    // A piece's new rows stand behind those that the piece before saw too, or (reversed) before them.
    int64_t first_new() const { return reversed ? 0 : reach.taps - 1; }
    // Brings the rows that the next piece sees too to its place and reference.
    void carry() const;
    // Zeros where a unit's first piece has no rows from a piece before, and behind the taps; columns beyond the width may hold anything.
    void clear() const { Tensor(rows(0, first_new())).fill(0), Tensor(rows(first_new() + piece, pack.size(0))).fill(0); }
    // Zeros behind the last of `count` new rows.
    void clear_behind(int64_t count) const { Tensor(rows(first_new() + count, first_new() + piece)).fill(0); }
};

// What a pass takes for its sums: for every group packs by head and by channel, rows for other arrays at the same pitch (narrow ones
// lie side by side), states and scales; taps in the order in which a piece meets them, and the weights beyond.
class ConvMemory {
public:
    ConvMemory(const ConvFilterTaps &filter, const Cut &cut, const Reach &reach, const Heads &heads, bool of_queries, bool others, Arena &arena);

    ConvSum by_head(int64_t g, const Part &part) const { return sum(0, g, part, part.heads()); }
    ConvSum by_channel(int64_t g, const Part &part) const { return sum(1, g, part, part.width()); }
    // `rows` rows of another array, by head (0) or by channel (1): [rows, width rounded up].
    Tensor other(int which, int64_t g, int64_t rows, int64_t width) const { return array(2 + which, g, width).slice(0, 0, rows); }

private:
    struct Columns {
        Tensor taps, far;  // [blocks, panels, padded, 16], [blocks, panels * 16], padded with zeros
    };
    Columns columns(const ConvFilterTaps &filter, bool of_heads, int64_t most, bool of_queries, Arena &arena) const;
    Tensor array(int n, int64_t g, int64_t width) const;  // [rows, width rounded up]
    ConvSum sum(int which, int64_t g, const Part &part, int64_t width) const;

    const Cut &cut_;
    const Reach &reach_;
    bool reversed_;
    std::vector<std::pair<int64_t, int64_t>> places_;  // of an array: block of columns, first column
    Tensor rows_, states_, scales_;                    // [groups, blocks, rows, pitch], [groups, 2, carried, pitch], [groups, 2, pitch]
    Columns columns_[2];
};

// exp(low - high) <= 1: brings a carried sum to the next reference.
inline float falling(float low, float high) { return low < high ? std::exp(std::max(low - high, -87.3f)) : 1.0f; }

}  // namespace aft
