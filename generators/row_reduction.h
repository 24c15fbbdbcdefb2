// Sums and maxima along the rows of [R, C], as partial results side by side: partial[u] takes the elements u, u + width,
// u + 2 width, ... in order; then halves are folded onto each other until one is left. The order depends on C and width.
//
// The folds are written out: Halide's own vector reduction adds one lane after the other, 64 dependent additions a row,
// in any kernel that has a strict_float somewhere (exp_clamped has).
#pragma once
#include <Halide.h>

#include <functional>
#include <string>
#include <vector>

#include "generators/terms.h"
#include "generators/vector_math.h"

namespace aft {

class RowReduction {
public:
    enum Kind { sum, maximum };
    Halide::Var u{"u"}, r;
    Halide::RDom steps, rest;         // whole groups of `width` elements; the last, partial one
    Halide::Func partial;
    std::vector<Halide::Func> folds;  // of width / 2, ..., 1 elements
    int width;                        // a power of two

    // term(k) gives the expressions to reduce for element k of row r.
    RowReduction(const std::string &name, Kind kind, const Halide::Var &r, Halide::Expr C, int width,
                 const std::function<Terms(Halide::Expr)> &term)
        : r(r), partial(name + "_partial"), width(width) {
        using namespace Halide;
        steps = RDom(0, C / width, name + "_steps");
        rest = RDom(C / width, select(C % width == 0, 0, 1), name + "_rest");
        const Terms terms = term(steps * width + u), last_terms = term(min(rest * width + u, C - 1));
        count_ = terms.size();
        const auto combine = [&](const Terms &a, const Terms &b) {
            Terms both;
            for (size_t n = 0; n < count_; n++) both.push_back(kind == sum ? a[n] + b[n] : max(a[n], b[n]));
            return both;
        };
        const Expr neutral = kind == sum ? Expr(0.0f) : Float(32).min();
        Terms inside_terms;
        for (const Expr &term : last_terms) inside_terms.push_back(select(rest * width + u < C, term, neutral));
        define(partial(u, r), Terms(count_, neutral));
        define(partial(u, r), combine(at(partial, u), terms));
        define(partial(u, r), combine(at(partial, u), inside_terms));
        for (int half = width / 2; half >= 1; half /= 2) {
            const Func last = folds.empty() ? partial : folds.back();
            Func fold(name + "_fold" + std::to_string(half));
            define(fold(u, r), combine(at(last, u), at(last, u + half)));
            folds.push_back(fold);
        }
    }

    Halide::Expr result(int n = 0) const { return at(folds.back(), 0)[size_t(n)]; }  // of row r

private:
    size_t count_ = 0;

    Terms at(const Halide::Func &f, Halide::Expr u) const { return values_of(f(u, r), count_); }
};

}  // namespace aft
