#include "generators/embedding.h"

#include "generators/kernel_generator.h"

namespace aft {

class EmbeddingForwardGenerator : public KernelGenerator<EmbeddingForwardGenerator> {
public:
    Input<Buffer<int32_t, 2>> tokens{"tokens"};
    Input<Buffer<float, 2>> weight{"weight"}, position{"position"};
    Output<Buffer<float, 3>> y{"y"};

    void generate() {
        const auto C = weight.dim(0).extent(), V = weight.dim(1).extent(), T = tokens.dim(0).extent(), B = tokens.dim(1).extent();
        start_at_zero(tokens, weight, position);
        position.dim(0).set_extent(C);
        shaped(y, {C, T, B});
        EmbeddingForward embedding(tokens, weight, position, V);
        plan_embedding_forward(request())(embedding);
        y = embedding.y;
    }
};

class EmbeddingBackwardGenerator : public KernelGenerator<EmbeddingBackwardGenerator> {
public:
    Input<Buffer<int32_t, 2>> tokens{"tokens"};
    Input<Buffer<float, 3>> dy{"dy"};
    Input<int32_t> accumulate{"accumulate"};
    Output<Func> dweight{"dweight", Float(32), 2};

    void generate() {
        const auto C = dy.dim(0).extent(), T = dy.dim(1).extent(), B = dy.dim(2).extent();
        start_at_zero(dy);
        shaped(tokens, {T, B});
        EmbeddingBackward embedding(tokens, dy, accumulate, T, B);
        plan_embedding_backward(request())(embedding);
        dweight = embedding.dweight;
        auto table = embedding.dweight.output_buffer();
        start_at_zero(table);
        table.dim(0).set_extent(C);
    }
};

class PositionBackwardGenerator : public KernelGenerator<PositionBackwardGenerator> {
public:
    Input<Buffer<float, 3>> dy{"dy"};
    Input<int32_t> accumulate{"accumulate"};
    Output<Buffer<float, 2>> dposition{"dposition"};

    void generate() {
        const auto C = dy.dim(0).extent(), T = dy.dim(1).extent(), B = dy.dim(2).extent();
        start_at_zero(dy);
        shaped(dposition, {C, T});
        PositionBackward position(dy, accumulate, B);
        plan_position_backward(request())(position);
        dposition = position.dposition;
    }
};

}  // namespace aft

HALIDE_REGISTER_GENERATOR(aft::EmbeddingForwardGenerator, embedding_forward)
HALIDE_REGISTER_GENERATOR(aft::EmbeddingBackwardGenerator, embedding_backward)
HALIDE_REGISTER_GENERATOR(aft::PositionBackwardGenerator, position_backward)
