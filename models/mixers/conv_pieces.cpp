#include "models/mixers/conv_pieces.h"

namespace aft {

// The kernel's two sets of rows must not meet, so at most a piece at a time.
void ConvSum::carry() const {
    const int64_t kept = reach.taps - 1;
    for (int64_t done = 0; done < kept; done += piece) {
        const int64_t count = std::min(piece, kept - done), near = reversed ? kept - done - count : done, from = reversed ? near : piece + near, to = reversed ? piece + near : near;
        Tensor carried = rows(to, to + count);
        kernels().aft_conv_carry_f32(rows(from, from + count), scale, carried);
    }
}

ConvMemory::ConvMemory(const ConvFilterTaps &filter, const Cut &cut, const Reach &reach, const Heads &heads, bool of_queries, bool others, Arena &arena)
    : cut_(cut), reach_(reach), reversed_(filter.causal && !of_queries) {
    const int64_t widths[] = {heads.most, std::min(cut.C, cut.channels)};
    int64_t blocks = 0, column = conv_pitch;
    for (int n = 0; n < (others ? 4 : 2); n++) {
        const int64_t width = round_up(widths[n % 2], panel);
        if (column + width > conv_pitch) blocks++, column = 0;
        places_.emplace_back(blocks - 1, column), column += width;
    }
    const int64_t carried = filter.causal ? 2 : cut.pieces + 3;
    rows_ = arena.allocate({cut.groups, blocks, reach.rows(cut), conv_pitch});
    states_ = arena.allocate({cut.groups, 2, carried, conv_pitch}), scales_ = arena.allocate({cut.groups, 2, conv_pitch});
    scales_.fill(1);
    for (int which : {0, 1}) columns_[which] = which && heads.group == 1 ? columns_[0] : columns(filter, !which, widths[which], of_queries, arena);
}

ConvMemory::Columns ConvMemory::columns(const ConvFilterTaps &filter, bool of_heads, int64_t most, bool of_queries, Arena &arena) const {
    const int64_t group = cut_.C / filter.heads, padded = reach_.padded;
    Columns all{arena.allocate({cut_.blocks, ceil_div(most, panel), padded, panel}), arena.allocate({cut_.blocks, round_up(most, panel)})};
    all.taps.fill(0), all.far.fill(0);
    std::vector<float> weights(size_t(filter.taps * filter.heads));
    for (int64_t n = 0; n < filter.heads * filter.taps; n++) weights[size_t(n)] = filter.weight(n / filter.taps, n % filter.taps);
    for (int64_t block = 0; block < cut_.blocks; block++) {
        const int64_t c0 = block * cut_.channels, c1 = std::min(cut_.C, c0 + cut_.channels), first = of_heads ? c0 / group : c0, last = of_heads ? (c1 - 1) / group + 1 : c1;
        float *far = all.far.select(0, block).data();
        for (int64_t n = first; n < last; n++) {
            const int64_t head = of_heads ? n : n / group, column = n - first;
            float *to = all.taps.select(0, block).data() + column / panel * padded * panel + column % panel;
            for (int64_t j = 0; j < filter.taps; j++) to[(of_queries ? j : filter.taps - 1 - j) * panel] = weights[size_t(head * filter.taps + j)];
            far[column] = filter.far(head);
        }
    }
    return all;
}

Tensor ConvMemory::array(int n, int64_t g, int64_t width) const {
    const auto [block, column] = places_[size_t(n)];
    return rows_.select(0, g).select(0, block).slice(1, column, column + round_up(width, panel));
}

ConvSum ConvMemory::sum(int which, int64_t g, const Part &part, int64_t width) const {
    const int64_t block = part.unit.c0 / cut_.channels, padded = round_up(width, panel);
    const Columns &columns = columns_[which];
    return {reach_, width, cut_.piece, reversed_, array(which, g, width), states_.select(0, g).select(0, which).slice(1, 0, padded),
            columns.taps.select(0, block).slice(0, 0, padded / panel), columns.far.select(0, block).slice(0, 0, padded), scales_.select(0, g).select(0, which).slice(0, 0, padded)};
}

}  // namespace aft
