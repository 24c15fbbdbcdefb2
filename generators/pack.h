// The shape of the packs that the window operators pass between their kernels: panels of 16 channels, dense.
#pragma once
#include "generators/aft_window.h"

namespace aft {

template <class Tensor>
void packed(Tensor &&x, int dimensions) {
    for (int d = 0; d < dimensions; d++) x.dim(d).set_min(0);
    x.dim(0).set_extent(window_panel), x.dim(1).set_extent(2).set_stride(window_panel), x.dim(2).set_stride(2 * window_panel);
}
template <class Tensor>
void pack_shaped(Tensor &&x) { packed(x, 4); }  // (l, part, p, panel)
template <class Tensor>
void state_shaped(Tensor &&x) { packed(x, 3); }  // (l, part, panel)
template <class Tensor>
void taps_shaped(Tensor &&x) {  // (l, j, panel)
    for (int d = 0; d < 3; d++) x.dim(d).set_min(0);
    x.dim(0).set_extent(window_panel), x.dim(1).set_stride(window_panel);
}

}  // namespace aft
