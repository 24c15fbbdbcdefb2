// C[M, N] (+)= op(A) op(B) in fp32, row-major; Halide dimension 0 is the last index.
//
//   nn: A[M, K] B[K, N]      nt: A[M, K] B[N, K]      tn: A[K, M] B[K, N]
//
// Two formulations of the same sum over k:
//   blocked  c = sum over depth blocks of a * b (Goto and van de Geijn 2008); for products with many rows. Each operand is copied
//            into the order in which a register tile reads it, or (pack_a, pack_b) read where it lies. The bits are the same.
//   direct   B is read once, in place; for a few rows, where packing B would cost as much as the product. Where the sum runs
//            along the rows of B (nt), partial sums run along k in vector lanes and are added at the end.
//
// Any M, N, K: reads are clamped, so a register tile may hang over the edge; only its inside is stored. Depth blocks are
// balanced at run time: a short last block costs up to 25 %. The sum over k has one fixed order for a shape.
//
// Epilogues, applied while the tile is in registers:
//   none             c = (accumulate ? c : 0) + sum
//   bias             c = sum + bias[j]
//   bias_residual    c = sum + bias[j] + residual[i, j]
//   bias_gelu        (c, slope) = (GELU(h), GELU'(h)),  h = sum + bias[j]: backward needs no h
//   gelu_backward    c = sum * slope[i, j]
#pragma once
#include <Halide.h>

#include <functional>

#include "generators/request.h"
#include "generators/vector_math.h"

namespace aft {

enum class GemmLayout { nn, nt, tn };
enum class GemmEpilogue { none, bias, bias_residual, bias_gelu, gelu_backward };

// Extents of the blocks that the sum is cut into; a schedule chooses them.
struct GemmBlocks {
    int rows, columns;  // the register tile of C; a packed panel of B has `columns` columns
    int depth;          // most k in one block (blocked only)
    int panels;         // most panels of B at a time where a block is that deep (blocked only)
    bool blocked;
    int lanes = 1;      // partial sums along k (direct nt only)
    bool pack_a = true, pack_b = true;  // (blocked only); nt: B lies across the vector, so it is packed
};

// What the epilogue reads; undefined where it does not.
struct GemmExtras {
    Halide::Func bias, residual, slope;
    Halide::Expr accumulate;
};

struct Gemm {
    Halide::Var i{"i"}, j{"j"}, k{"k"}, panel{"panel"};
    Halide::Var l{"l"};
    Halide::Func a_packed{"a_packed"}, b_packed{"b_packed"}, b_tile{"b_tile"}, partial{"partial"}, product{"product"}, c{"c"};
    Halide::RDom r, lane, blocks;         // k inside a block; the lanes of a partial sum; the blocks
    Halide::Expr panels_at_once;          // balanced, at run time
    GemmLayout layout;
    GemmEpilogue epilogue;
    GemmBlocks extents;

    Gemm(Halide::Func a, Halide::Func b, Halide::Expr M, Halide::Expr N, Halide::Expr K, GemmLayout layout,
         GemmEpilogue epilogue, const GemmExtras &extras, GemmBlocks extents)
        : layout(layout), epilogue(epilogue), extents(extents) {
        using namespace Halide;
        const auto at_a = [&](Expr i, Expr k) { return layout == GemmLayout::tn ? a(i, k) : a(k, i); };

        const Expr block_count = extents.blocked ? max(ceil_div(K, extents.depth), 1) : Expr(1);
        const Expr depth = ceil_div(K, block_count);
        // What is packed of B at a time has one size: a block of less depth takes more panels.
        const Expr all_panels = ceil_div(N, extents.columns);
        const Expr most_panels = extents.blocked ? max(extents.panels * extents.depth / max(depth, 1), 1) : Expr(extents.panels);
        panels_at_once = ceil_div(all_panels, ceil_div(all_panels, most_panels));

        r = RDom(0, depth, "r");
        blocks = RDom(0, block_count, "blocks");
        Var block{"block"};
        const Expr kk = block * depth + r;

        if (extents.blocked) {
            // The zeros of a_packed (or of A, read in place) end the sum at K. tn reads rows of A[K, M], so a panel holds a tile's
            // rows side by side.
            if (layout == GemmLayout::tn)
                a_packed(i, k, panel) = select(likely(k < K), at_a(inside(panel * extents.rows + i, M), inside(k, K)), 0.0f);
            else
                a_packed(k, i) = select(likely(k < K), at_a(min(i, M - 1), inside(k, K)), 0.0f);
            if (layout == GemmLayout::nt) {
                b_tile(k, j) = b(inside(k, K), min(j, N - 1));  // transposed piece by piece while it is packed
                b_packed(j, k, panel) = b_tile(k, panel * extents.columns + j);
            } else {
                b_packed(j, k, panel) = b(inside(panel * extents.columns + j, N), inside(k, K));
            }
            const Expr packed_left = layout == GemmLayout::tn ? a_packed(i % extents.rows, kk, i / extents.rows) : a_packed(kk, i);
            const Expr left = extents.pack_a ? packed_left : select(likely(kk < K), at_a(inside(i, M), inside(kk, K)), 0.0f);
            const Expr right = extents.pack_b ? b_packed(j % extents.columns, kk, j / extents.columns) : b(inside(j, N), inside(kk, K));
            product(j, i, block) += left * right;
        } else if (inner_products()) {
            r = RDom(0, ceil_div(K, extents.lanes), "r"), lane = RDom(0, extents.lanes, "lane");
            const Expr at = r * extents.lanes + l;
            partial(l, j, i) += select(likely(at < K), a(inside(at, K), min(i, M - 1)), 0.0f) * b(inside(at, K), inside(j, N));
            product(j, i, block) += partial(lane, j, i);
        } else {
            product(j, i, block) += at_a(min(i, M - 1), r) * b(inside(j, N), r);
        }

        const Expr sum = product(j, i, blocks), last = blocks == block_count - 1;
        if (epilogue == GemmEpilogue::bias_gelu) {
            c(j, i) = Tuple(undef<float>(), undef<float>());
            // An early block leaves h in c[0] (K of a model fits one block). It is read where it is not used, too: Halide then sees that both
            // values depend on it, makes both before it stores one, and LLVM finds what they share.
            const Expr h = select(blocks == 0, 0.0f, c(j, i)[0]) + sum + select(last, extras.bias(j), 0.0f);
            const GeluAndSlope activated = gelu_and_slope(h);
            c(j, i) = Tuple(select(last, activated.value, h), activated.slope);
        } else {
            c(j, i) = undef<float>();
            // No zeroing pass: the first block overwrites, and does not read what it overwrites.
            const Expr fresh = extras.accumulate.defined() ? blocks == 0 && extras.accumulate == 0 : blocks == 0;
            Expr value = only_if(fresh, 0.0f, c(j, i)) + sum;
            if (epilogue == GemmEpilogue::bias) value = value + select(last, extras.bias(j), 0.0f);
            if (epilogue == GemmEpilogue::bias_residual) value = value + select(last, extras.bias(j) + extras.residual(j, i), 0.0f);
            if (epilogue == GemmEpilogue::gelu_backward) value = value * select(last, extras.slope(j, i), 1.0f);
            c(j, i) = value;
        }
    }

    bool inner_products() const { return !extents.blocked && layout == GemmLayout::nt; }
};

struct GemmPlan {
    GemmBlocks blocks;
    std::function<void(Gemm &)> schedule;
};
GemmPlan plan_gemm(const Request &request, GemmLayout layout, GemmEpilogue epilogue);

}  // namespace aft
