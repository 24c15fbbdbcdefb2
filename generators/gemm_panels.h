// C[M, N] = A[M, K] W[N, K]^T + epilogue for weights that were packed once and serve many products: decoding, where a weight meets
// a few rows at a time, so that packing it anew would cost as much as the product.
//
//   panels[p, k, l] = W[32 p + l, k]                      the pack: rows of W side by side, 0 beyond the last
//   c[i, 32 p + l]  = sum_k a[i, k] panels[p, k, l] + bias[32 p + l] (+ residual, or GELU of it)
//
// A panel is one stream of memory, read in its order; nothing is summed across the lanes of a vector. The sum over k has one
// order, whatever M and whichever panels a call gets: a row has the same bits alone, in a batch, and for any number of threads.
#pragma once
#include <Halide.h>

#include <functional>

#include "generators/gemm.h"
#include "generators/request.h"
#include "generators/vector_math.h"

namespace aft {

constexpr int gemm_panel = 32;  // rows of W in a panel; models/layers/linear.cpp allocates by it

struct PanelPack {
    Halide::Var l{"l"}, k{"k"}, panel{"panel"}, j{"j"};
    Halide::Func tile{"tile"}, panels{"panels"};

    PanelPack(Halide::Func weight, Halide::Expr N, Halide::Expr K) {
        tile(k, j) = Halide::select(j < N, weight(inside(k, K), Halide::min(j, N - 1)), 0.0f);
        panels(l, k, panel) = tile(k, panel * gemm_panel + l);
    }
};

struct PanelProduct {
    Halide::Var j{"j"}, i{"i"};
    Halide::RDom r;
    Halide::Func product{"product"}, c{"c"};
    int rows, columns;  // of a register tile; the columns are half a panel, or whole ones

    PanelProduct(Halide::Func a, Halide::Func b, Halide::Expr M, Halide::Expr N, Halide::Expr K, GemmEpilogue epilogue, const GemmExtras &extras, int rows, int columns)
        : r(0, K, "r"), rows(rows), columns(columns) {
        using namespace Halide;
        product(j, i) += a(r, inside(i, M)) * b(j % gemm_panel, r, inside(j / gemm_panel, ceil_div(N, gemm_panel)));
        Expr value = product(j, i) + extras.bias(j);
        if (epilogue == GemmEpilogue::bias_residual) value = value + extras.residual(j, i);
        if (epilogue == GemmEpilogue::bias_gelu) value = gelu(value);
        c(j, i) = value;
    }
};

struct PanelPlan {
    int rows, columns;
    std::function<void(PanelProduct &)> product;
    std::function<void(PanelPack &)> pack;
    void drop_moves() { no_moves(product, pack); }
};
PanelPlan plan_gemm_panels(const Request &request);

}  // namespace aft
