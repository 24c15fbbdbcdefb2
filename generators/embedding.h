// Token and position embedding, and their gradients. Tokens are clamped into 0 .. V-1.
//
//   forward             y[b, t] = weight[token[b, t]] + position[t]
//   backward            dweight[v] = (accumulate ? dweight[v] : 0) + sum of dy[b, t] over token[b, t] = v, b and t in order
//   position_backward   dposition[t] = (accumulate ? dposition[t] : 0) + sum_b dy[b, t], b in order
#pragma once
#include <Halide.h>

#include <functional>

#include "generators/request.h"

namespace aft {

struct EmbeddingForward {
    Halide::Var c{"c"}, t{"t"}, b{"b"};
    Halide::Func y{"y"};

    EmbeddingForward(Halide::Func tokens, Halide::Func weight, Halide::Func position, Halide::Expr V) {
        y(c, t, b) = weight(c, clamp(tokens(t, b), 0, V - 1)) + position(c, t);
    }
};

struct EmbeddingBackward {
    Halide::Var c{"c"};
    Halide::RDom rows, token;  // rows of dweight; (t, b)
    Halide::Func dweight{"dweight"};

    EmbeddingBackward(Halide::Func tokens, Halide::Func dy, Halide::Expr accumulate, Halide::Expr T, Halide::Expr B) {
        using namespace Halide;
        Var v{"v"};
        dweight(c, v) = undef<float>();
        const Expr V = dweight.output_buffer().dim(1).extent();
        rows = RDom(0, V, "rows");
        rows.where(accumulate == 0);
        dweight(c, rows) = 0.0f;
        token = RDom(0, T, 0, B, "token");
        dweight(c, clamp(tokens(token.x, token.y), 0, V - 1)) += dy(c, token.x, token.y);
    }
};

struct PositionBackward {
    Halide::Var c{"c"}, t{"t"};
    Halide::RDom sequence;
    Halide::Func sum{"sum"}, dposition{"dposition"};

    PositionBackward(Halide::Func dy, Halide::Expr accumulate, Halide::Expr B) {
        using namespace Halide;
        sequence = RDom(0, B, "sequence");
        sum(c, t) = 0.0f;
        sum(c, t) += dy(c, t, sequence);
        dposition(c, t) = undef<float>();
        dposition(c, t) = select(accumulate == 0, 0.0f, dposition(c, t)) + sum(c, t);
    }
};

std::function<void(EmbeddingForward &)> plan_embedding_forward(const Request &request);
std::function<void(EmbeddingBackward &)> plan_embedding_backward(const Request &request);
std::function<void(PositionBackward &)> plan_position_backward(const Request &request);

}  // namespace aft
