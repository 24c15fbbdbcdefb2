// Dropout on a CPU core. A vector of 64-bit lanes makes 4 words a lane by 20 products, 20 shifts and 20 three-way xors.
//
// Measured on one Zen 4 core, AVX-512: 0.49 ns an element, 0.17 of memcpy's rate for the same bytes in L3: bound by the ten
// rounds, which this core runs in two halves.
#include "generators/random.h"

#include "schedules/rows.h"

namespace aft {

using namespace Halide;

std::function<void(Dropout &)> plan_dropout(const Request &request) {
    return planned(request, [](const Machine &machine, Knobs &knobs) -> std::function<void(Dropout &)> {
        const int lanes = machine.lanes;
        const int rows = knobs("rows_per_task", 16, {4, 16, 64}, "a task is some microseconds, far above the cost of handing it out");
        const int vectors = knobs("vectors", 2, {1, 2, 4}, "vectors a turn of the writing loop");
        const int quads = knobs("quad_vectors", 2, {1, 2, 4}, "independent chains of ten dependent rounds hide the latency of the products");
        const bool fused = knobs.later("fused", 0, {0, 1}, "0: a row's words are made first and wait in L1; 1: those of a few vectors, before they are used");
        knobs.require(!fused || vectors <= 2 * quads, "a turn of the writing loop lies inside what is made at a time");
        return [=](Dropout &d) {
            Var task{"task"}, qo{"qo"}, co{"co"};
            if (fused) d.y.split(d.c, co, d.c, 4 * quads * lanes / 2, guard);
            row_loops(d.y, d.c, d.r, task, lanes, vectors, rows);
            // Words in L1; rounded up, for it is scratch.
            d.words.compute_at(d.y, fused ? co : d.r).store_in(MemoryType::Stack).bound_extent(d.r, 1).bound(d.word, 0, 4);
            d.words.split(d.quad, qo, d.quad, quads * lanes / 2, TailStrategy::RoundUp).reorder(d.word, d.quad, qo, d.r).vectorize(d.quad).unroll(d.word);
            d.bits.compute_at(d.words, qo).store_in(MemoryType::Stack).bound_extent(d.r, 1).vectorize(d.quad);
        };
    });
}

}  // namespace aft
