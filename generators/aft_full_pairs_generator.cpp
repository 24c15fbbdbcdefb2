#include "generators/aft_full_pairs.h"

#include "generators/kernel_generator.h"

namespace aft {

// queries [B, panels, R, 2, 16], key, value [B, L, C], maxima [blocks, B, C] -> products [R, L].
class FullPairsGenerator : public KernelGenerator<FullPairsGenerator> {
public:
    Input<Buffer<float, 5>> queries{"queries"};
    Input<Buffer<float, 3>> key{"key"}, value{"value"}, maxima{"maxima"};
    Input<int32_t> block{"block"}, first{"first"};
    Output<Buffer<float, 2>> products{"products"};

    void generate() {
        const Expr C = key.dim(0).extent(), L = key.dim(1).extent(), B = key.dim(2).extent(), R = queries.dim(2).extent();
        start_at_zero(key, queries, maxima), shaped(value, {C, L, B});
        maxima.dim(0).set_extent(C), maxima.dim(1).set_extent(B);
        queries.dim(0).set_extent(full_panel), queries.dim(1).set_extent(2).set_stride(full_panel), queries.dim(2).set_stride(2 * full_panel);
        const FullPairsPlan plan = plan_aft_full_pairs(request());
        FullPairs f({queries, key, value, maxima, R, L, B, C, queries.dim(3).extent(), block, maxima.dim(2).extent(), first}, plan.tile);
        plan.schedule(f);
        products = f.out;
        shaped(products, {L, R});
    }
};

}  // namespace aft

HALIDE_REGISTER_GENERATOR(aft::FullPairsGenerator, pairs)
