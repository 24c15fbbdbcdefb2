// Short rows: one kernel, whose copies of a row lie in L1. Long rows: exp goes to the memory of the gradient and is scaled there,
// a few rows at a time (generators/loss_pieces.h), which reads and writes main memory while exp is computed.
#include "models/layers/cross_entropy.h"

#include <algorithm>

#include "kernel_table.h"
#include "runtime/parallel.h"

namespace aft {
namespace {

constexpr int64_t long_row = 2048;
constexpr int64_t lanes = 16, piece = 256;      // generators/loss_pieces.h
constexpr int64_t block_elements = 64 * 1024;   // of the gradient, between the two halves: 256 KiB, in L2
constexpr int64_t strands = 16;                 // each with scratch of its own, which so stays in its core's cache

}  // namespace

void softmax_cross_entropy(const Tensor &logits, const Tensor &targets, float smoothing, float scale, Tensor &loss, Tensor &dlogits, Arena &arena) {
    const int64_t R = logits.size(0), V = logits.size(1);
    if (V < long_row) return kernels().softmax_cross_entropy_f32(logits, targets, smoothing, scale, loss, dlogits);
    const ArenaScope scope(arena);
    const int64_t pieces = (V + piece - 1) / piece, rows = std::max<int64_t>(1, block_elements / V), blocks = (R + rows - 1) / rows;
    const int64_t count = std::min(strands, blocks);
    const Tensor statistics = arena.allocate({count, 3, rows, pieces, lanes}), all_picked = arena.allocate({count, rows});
    parallel_for(count, [&](int64_t strand) {
        for (int64_t block = blocks * strand / count; block < blocks * (strand + 1) / count; block++) {
            const int64_t begin = block * rows, end = std::min(R, begin + rows);
            const auto part = [&](const Tensor &x) { return x.slice(0, begin, end); };
            const auto statistic = [&](int64_t n) { return statistics.select(0, strand).select(0, n).slice(0, 0, end - begin); };
            Tensor top = statistic(0), sum = statistic(1), level = statistic(2), picked = all_picked.select(0, strand).slice(0, 0, end - begin);
            Tensor some_loss = part(loss), some_dlogits = part(dlogits);
            kernels().softmax_pieces_f32(part(logits), part(targets), top, sum, level, picked, some_dlogits);
            kernels().softmax_from_pieces_f32(top, sum, level, picked, part(targets), smoothing, scale, some_loss, some_dlogits);
        }
    });
}

}  // namespace aft
