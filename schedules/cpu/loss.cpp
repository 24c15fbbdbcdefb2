// Softmax cross-entropy on a CPU core: one exp an element; all passes over a row after the first find it in L1.
//
// Measured on one Zen 4 core, AVX-512, with the gradient: 0.42 ns an element at [64, 256] and 0.37 at [32, 8192], in cache:
// bound by exp, by the passes over the row and by the folds of short rows, not by memory. To keep exp z alone and to compute z
// again for its sum made rows of 256 take 0.47. By pieces (long rows): 0.34 at [16, 8192], in cache, and 0.50 at [1024, 8192], in
// DRAM, where the one kernel took 0.62. Pieces of 8 vectors instead of 16 are no faster.
//
// On one Emerald Rapids core 0.40 at [8, 8192] and 0.9 to 1.2 at [1024, 8192], where a copy of the logits takes 0.55: half of the
// time was spent on the first loads of a piece, because a scheduler full of exp looks no further ahead. So the logits are asked for
// two pieces ahead: 0.92 of the time of the first kernel. The lines of dlogits are asked for, to be written, at the start of their
// piece: 0.91 of both kernels' time; two pieces ahead, or to be read, no gain. Two passes over a row: 1.1 times the time. A loop written by
// hand with the next piece's maximum before this one's exp, with two or four rows in turn or with shorter pieces was no faster.
#include "generators/fetch_ahead.h"
#include "generators/loss.h"
#include "generators/loss_pieces.h"
#include "schedules/rows.h"

namespace aft {

using namespace Halide;

SoftmaxCrossEntropyPlan plan_softmax_cross_entropy(const Request &request) {
    return planned(request, [](const Machine &machine, Knobs &knobs) -> SoftmaxCrossEntropyPlan {
        const int lanes = machine.lanes;
        const int rows = knobs("rows_per_task", 8, {4, 8, 32}, "a task is some microseconds, far above the cost of handing it out");
        const int sums = knobs("sum_vectors", 2, {1, 2, 4}, "independent partial sums hide the latency of an addition");
        const int vectors = knobs("vectors", 2, {1, 2, 4}, "independent vectors hide the latency of exp");
        const int keep = knobs.later("keep", 2, {0, 1, 2}, "copies of a row between its passes: 2 exp z and z; 1 exp z, z is computed again; 0 none, exp is computed twice");
        return {sums * lanes, SoftmaxKeeps(keep), [=](SoftmaxCrossEntropy &s) {
                    Var task{"task"};
                    const bool gradient = s.dlogits.defined();
                    Func at = gradient ? s.dlogits : s.loss;
                    if (gradient) {
                        row_loops(s.dlogits, s.c, s.r, task, lanes, vectors, rows);
                        s.loss.split(s.r, task, s.r, rows, guard).parallel(task);
                        s.loss.compute_with(s.dlogits, s.r);
                    } else {
                        s.loss.split(s.r, task, s.r, rows, guard).parallel(task);
                    }
                    if (keep) s.kept.compute_at(at, s.r).store_in(MemoryType::Stack).bound_extent(s.r, 1).vectorize(s.c, lanes, guard).unroll(s.c, vectors, guard);
                    s.row_loss.compute_at(at, s.r).bound_extent(s.r, 1);
                    for (RowReduction &reduction : s.reductions) reduce_row(reduction, at, s.r, lanes);
                }};
    });
}

SoftmaxPiecesPlan plan_softmax_pieces(const Request &request) {
    return planned(request, [&](const Machine &machine, Knobs &knobs) -> SoftmaxPiecesPlan {
        const int passes = knobs("passes", 1, {1, 2}, "over a row: 1, each piece has its own maxima; 2, the row's maximum first");
        const int ahead = knobs("ahead", 2, {0, 1, 2, 4, 8}, "pieces, a kilobyte each, after which a line of the logits is wanted");
        const bool owned = knobs("owned", machine.vector_registers == 32, {0, 1}, "1: a piece's lines of the gradient are asked for, to be written, before its exp are computed");
        return {passes == 2 ? 4 * machine.lanes : 0, [=, lanes = machine.lanes, lines = request.fetch_ahead](SoftmaxPieces &s) {
            if (ahead) lines->loads(s.statistics, s.p, "logits", ahead);
            if (owned) lines->owns(s.statistics, s.p, s.kept, 0);
            s.statistics.bound(s.u, 0, SoftmaxPiece::lanes).bound(s.p, 0, s.pieces).bound(s.r, 0, s.rows);
            s.kept.bound(s.c, 0, s.length).bound(s.r, 0, s.rows), s.picked.bound(s.r, 0, s.rows);
            s.statistics.reorder(s.u, s.p, s.r).parallel(s.r).vectorize(s.u);
            s.kept.split(s.c, s.p, s.c, SoftmaxPiece::elements, guard).split(s.c, s.j, s.u, SoftmaxPiece::lanes);
            s.kept.reorder(s.u, s.j, s.p, s.r).parallel(s.r).vectorize(s.u).unroll(s.j);
            s.statistics.never_partition(s.r), s.kept.never_partition(s.r), s.picked.never_partition(s.r);
            s.kept.compute_with(s.statistics, s.p);
            s.picked.parallel(s.r).compute_with(s.statistics, s.r);
            s.picked_row.compute_at(s.statistics, s.r).bound_extent(s.r, 1);
            // In this order, which is that of their names: the differences are summed before exp replaces them, so nothing spills.
            for (Func *f : {&s.top, &s.level, &s.power, &s.sum})
                f->compute_at(s.statistics, s.p).store_in(MemoryType::Stack).bound(s.u, 0, SoftmaxPiece::lanes).bound_extent(s.p, 1).bound_extent(s.r, 1).vectorize(s.u);
            s.power.bound(s.j, 0, SoftmaxPiece::depth).unroll(s.j);
            for (Func *f : {&s.top, &s.level, &s.sum})
                if (f->has_update_definition()) f->update().reorder(s.u, s.in_lane).vectorize(s.u).unroll(s.in_lane);
            for (RowReduction &reduction : s.largest) reduce_row(reduction, s.statistics, s.r, lanes);
        }};
    });
}

std::function<void(SoftmaxFromPieces &)> plan_softmax_from_pieces(const Request &request) {
    return planned(request, [](const Machine &machine, Knobs &) -> std::function<void(SoftmaxFromPieces &)> {
        const int lanes = machine.lanes;
        return [=](SoftmaxFromPieces &s) {
            Var j{"j"};
            s.loss.bound(s.r, 0, s.rows), s.dlogits.bound(s.r, 0, s.rows);
            auto update = s.dlogits.update(0);
            update.split(s.c, s.p, s.c, SoftmaxPiece::elements, guard).split(s.c, j, s.u, SoftmaxPiece::lanes);
            update.reorder(s.u, j, s.p, s.one, s.r).parallel(s.r).vectorize(s.u).unroll(j);
            s.dlogits.update(1).unscheduled();
            update.never_partition({s.r, s.one}), s.loss.never_partition(s.r);
            s.loss.parallel(s.r).compute_with(update, s.r);
            s.row_loss.compute_at(s.dlogits, s.r).bound_extent(s.r, 1);
            s.factor.compute_at(s.dlogits, s.r).store_in(MemoryType::Stack).bound(s.u, 0, SoftmaxPiece::lanes).bound(s.p, 0, s.pieces).bound_extent(s.r, 1).vectorize(s.u);
            s.weight.compute_at(s.dlogits, s.p).store_in(MemoryType::Stack).bound(s.u, 0, SoftmaxPiece::lanes).bound_extent(s.p, 1).bound_extent(s.r, 1).vectorize(s.u);
            for (RowReduction &reduction : s.reductions) reduce_row(reduction, s.dlogits, s.r, lanes);
        };
    });
}

}  // namespace aft
