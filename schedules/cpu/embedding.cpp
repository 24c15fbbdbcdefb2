// Embedding on a CPU core: copies and additions of rows, bound by memory.
//
// Measured on one Zen 4 core, AVX-512, as a fraction of memcpy's rate for the same bytes, 2 x 1024 tokens, C = 256 and 1024:
// forward 0.67, 0.78; backward 0.49, 0.41 (a row of the table is read and written too, not counted); positions 0.94, 1.0.
#include "generators/embedding.h"

#include "schedules/rows.h"

namespace aft {

using namespace Halide;

std::function<void(EmbeddingForward &)> plan_embedding_forward(const Request &request) {
    return planned(request, [](const Machine &machine, Knobs &knobs) -> std::function<void(EmbeddingForward &)> {
        const int lanes = machine.lanes;
        const int rows = knobs("rows_per_task", 32, {16, 32, 128}, "a task is some microseconds, far above the cost of handing it out");
        const int vectors = knobs("vectors", 2, {1, 2, 4}, "vectors a turn of the copying loop");
        return [=](EmbeddingForward &e) {
            // The rows of a task for one sequence after the other: positions come from L3 once, not once a sequence. Measured on
            // one Emerald Rapids core, 4 x 1024 tokens, C = 512: 0.75 of the time of whole sequences.
            Var task{"task"}, piece{"piece"};
            e.y.split(e.t, task, e.t, rows, guard).reorder(e.c, e.t, e.b, task).fuse(e.b, task, piece).parallel(piece).vectorize(e.c, lanes, guard);
            if (vectors > 1) e.y.unroll(e.c, vectors, guard);
        };
    });
}

std::function<void(EmbeddingBackward &)> plan_embedding_backward(const Request &request) {
    return planned(request, [](const Machine &machine, Knobs &knobs) -> std::function<void(EmbeddingBackward &)> {
        const int lanes = machine.lanes;
        const int channels = knobs("channels_per_task", 128, {64, 128, 256},
                                   "each task adds all rows in order into its own channels, so nothing races; its strip of the table stays in L2");
        return [=](EmbeddingBackward &e) {
            Var task{"task"}, v{"v"};
            e.dweight.update(0).split(e.c, task, e.c, channels, guard).reorder(e.c, e.rows.x, task).parallel(task).vectorize(e.c, lanes, guard);
            e.dweight.update(1).split(e.c, task, e.c, channels, guard).reorder(e.c, e.token.x, e.token.y, task).parallel(task).vectorize(e.c, lanes, guard);
        };
    });
}

std::function<void(PositionBackward &)> plan_position_backward(const Request &request) {
    return planned(request, [](const Machine &machine, Knobs &knobs) -> std::function<void(PositionBackward &)> {
        const int lanes = machine.lanes;
        const int rows = knobs("rows_per_task", 16, {4, 16, 64}, "a task is some microseconds, far above the cost of handing it out");
        return [=](PositionBackward &p) {
            Var task{"task"}, block{"block"};
            p.dposition.update().split(p.t, task, p.t, rows, guard).parallel(task).split(p.c, block, p.c, lanes, guard).vectorize(p.c);
            p.sum.compute_at(p.dposition, block).store_in(MemoryType::Stack).vectorize(p.c);
            p.sum.update().reorder(p.c, p.sequence).vectorize(p.c);
        };
    });
}

}  // namespace aft
