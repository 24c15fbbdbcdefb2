#include "generators/aft_full_mix.h"

#include "generators/kernel_generator.h"

namespace aft {
namespace {

template <class Tensor>
void pack_shaped(Tensor &&x) {  // (l, part, row, panel)
    for (int d = 0; d < 4; d++) x.dim(d).set_min(0);
    x.dim(0).set_extent(full_panel), x.dim(1).set_extent(2).set_stride(full_panel), x.dim(2).set_stride(2 * full_panel);
}

template <class Tensor>
void tiles_shaped(Tensor &&x) {  // (i, k, tile)
    for (int d = 0; d < 3; d++) x.dim(d).set_min(0);
    x.dim(0).set_extent(full_granule), x.dim(1).set_stride(full_granule);
}

}  // namespace

// query [R, C], pack [panels, L, 2, 16], tiles [R / 12, L, 12], maxima [blocks, C] -> y, den [R, C].
class FullForwardGenerator : public KernelGenerator<FullForwardGenerator> {
public:
    Input<Buffer<float, 2>> query{"query"};
    Input<Buffer<float, 4>> pack{"pack"};
    Input<Buffer<float, 3>> tiles{"tiles"};
    Input<Buffer<float, 2>> maxima{"maxima"};
    Input<int32_t> block{"block"}, first{"first"};
    Output<Func> out{"out", {Float(32), Float(32)}, 2};

    void generate() {
        const Expr C = query.dim(0).extent(), rows = query.dim(1).extent();
        start_at_zero(query, maxima), maxima.dim(0).set_extent(C);
        pack_shaped(pack), tiles_shaped(tiles);
        const FullMixPlan plan = plan_aft_full_mix(request("mix"));
        FullForward f(query, rows, {pack, tiles, maxima, pack.dim(2).extent(), block, maxima.dim(1).extent(), first, C}, plan.tile);
        plan.forward(f);
        out = f.out;
        shaped(f.out.output_buffers()[0], {C, rows});
    }
};

// key, value [L, C], pack [panels, R, 2, 16] of queries, tiles [L / 12, R, 12], maxima [blocks, C] from the keys' own on -> dK, dV [L, C].
class FullBackwardGenerator : public KernelGenerator<FullBackwardGenerator> {
public:
    Input<Buffer<float, 2>> key{"key"}, value{"value"};
    Input<Buffer<float, 4>> pack{"pack"};
    Input<Buffer<float, 3>> tiles{"tiles"};
    Input<Buffer<float, 2>> maxima{"maxima"};
    Input<int32_t> block{"block"}, first{"first"};
    Output<Func> out{"out", {Float(32), Float(32)}, 2};

    void generate() {
        const Expr C = key.dim(0).extent(), rows = key.dim(1).extent();
        start_at_zero(key, maxima), shaped(value, {C, rows}), maxima.dim(0).set_extent(C);
        pack_shaped(pack), tiles_shaped(tiles);
        const FullMixPlan plan = plan_aft_full_mix(request("mix_back"));
        FullBackward f(key, value, rows, {pack, tiles, maxima, pack.dim(2).extent(), block, maxima.dim(1).extent(), first, C}, plan.tile);
        plan.backward(f);
        out = f.out;
        shaped(f.out.output_buffers()[0], {C, rows});
    }
};

// query, y, den, dY [L, C] -> dQ [L, C], pack [panels, L, 2, 16] of (G, G R).
class FullQueriesGenerator : public KernelGenerator<FullQueriesGenerator> {
public:
    Input<Buffer<float, 2>> query{"query"}, output{"output"}, den{"den"}, output_gradient{"output_gradient"};
    Input<float> gradient_factor{"gradient_factor"};
    Output<Buffer<float, 2>> query_gradient{"query_gradient"};
    Output<Buffer<float, 4>> pack{"pack"};

    void generate() {
        const Expr C = query.dim(0).extent(), L = query.dim(1).extent();
        start_at_zero(query);
        for (auto *x : {&output, &den, &output_gradient}) shaped(*x, {C, L});
        FullQueries f({query, output, den, output_gradient, gradient_factor, C});
        plan_aft_full_mix(request("queries")).queries(f);
        query_gradient = f.query_gradient, pack = f.pack;
        shaped(query_gradient, {C, L});
        pack_shaped(pack), pack.dim(2).set_extent(L);
    }
};

class FullTilesGenerator : public KernelGenerator<FullTilesGenerator> {
public:
    Param<bool> columns{"columns", false};
    Input<Buffer<float, 2>> weights{"weights"};
    Output<Buffer<float, 3>> tiles{"tiles"};

    void generate() {
        start_at_zero(weights);
        FullTiles f(weights, weights.dim(1).extent(), weights.dim(0).extent(), columns);
        plan_aft_full_mix(request("tiles")).tiles(f);
        tiles = f.out;
        tiles_shaped(f.out.output_buffer());
    }
};

}  // namespace aft

HALIDE_REGISTER_GENERATOR(aft::FullForwardGenerator, forward)
HALIDE_REGISTER_GENERATOR(aft::FullBackwardGenerator, backward)
HALIDE_REGISTER_GENERATOR(aft::FullQueriesGenerator, queries)
HALIDE_REGISTER_GENERATOR(aft::FullTilesGenerator, tiles)
