// Rows with gaps between them: kernels take any row stride.
#pragma once
#include "aft/tensor.h"

namespace aft::reference {

// A copy of x [R, C] in rows of C + 5 elements; the gaps keep what the allocator left there (NaN under memory checks).
inline Tensor with_gaps(const Tensor &x) {
    Tensor view = Tensor({x.size(0), x.size(1) + 5}, x.dtype()).slice(1, 0, x.size(1));
    view.copy_from(x);
    return view;
}

}  // namespace aft::reference
