// Definitions of one value or of a tuple, by the number of terms.
#pragma once
#include <Halide.h>

#include <vector>

namespace aft {

using Terms = std::vector<Halide::Expr>;

inline void define(Halide::FuncRef place, const Terms &values) {
    if (values.size() == 1)
        place = values[0];
    else
        place = Halide::Tuple(values);
}

inline Terms values_of(Halide::FuncRef place, size_t count) {
    if (count == 1) return {Halide::Expr(place)};
    Terms values;
    for (size_t n = 0; n < count; n++) values.push_back(place[int(n)]);
    return values;
}

}  // namespace aft
