// Sums down the columns of [R, C] rows: gradients of what is shared by all rows. Rows are added in order inside blocks of
// a fixed number of rows, then the blocks in order, so the bits depend on the shape alone.
#pragma once
#include <Halide.h>

#include <functional>

#include "generators/terms.h"
#include "generators/vector_math.h"

namespace aft {

struct ColumnSums {
    Halide::Var c{"c"}, block{"block"};
    Halide::Var one{"one"};  // generators/kernel_generator.h, "In place"
    Halide::RDom row, blocks;
    Halide::Func strip{"strip"}, partial{"partial"};  // of a block: the running sums, and the same when they are done
    Halide::Func total{"total"}, sums{"sums"};        // sums(c, one) = (accumulate ? sums(c, one) : 0) + total(c)

    // term(c, r) gives the expressions to add for row r. `whole_strips`: the schedule may compute strips that hang over C.
    ColumnSums(Halide::Expr C, Halide::Expr R, Halide::Expr accumulate, int rows_per_block, bool whole_strips,
               const std::function<Terms(Halide::Expr, Halide::Expr)> &term) {
        using namespace Halide;
        row = RDom(0, rows_per_block, "row");
        blocks = RDom(0, ceil_div(R, rows_per_block), "blocks");
        const Expr r = block * rows_per_block + row;
        row.where(likely(r < R));
        const Terms terms = term(whole_strips ? inside(c, C) : Expr(c), inside(r, R));
        const size_t count = terms.size();
        const auto plus = [&](Terms a, const Terms &b) {
            for (size_t n = 0; n < count; n++) a[n] += b[n];
            return a;
        };
        define(strip(c, block), Terms(count, 0.0f));
        define(strip(c, block), plus(values_of(strip(c, block), count), terms));
        define(partial(c, block), values_of(strip(c, block), count));
        define(total(c), Terms(count, 0.0f));
        define(total(c), plus(values_of(total(c), count), values_of(partial(c, blocks), count)));
        define(sums(c, one), Terms(count, undef<float>()));
        Terms before = values_of(sums(c, one), count);
        for (Expr &value : before) value = select(accumulate == 0, 0.0f, value);
        define(sums(c, one), plus(before, values_of(total(c), count)));
    }
};

struct ColumnSumsPlan {
    int rows_per_block;
    bool whole_strips;
    std::function<void(ColumnSums &)> schedule;
};

}  // namespace aft
