// The roofline picture (Williams et al. 2009) as SVG: flops per byte across, flops per second up, both in powers; slanted
// roofs are the bandwidths of the cache levels, the flat one the FMA peak, dots the kernels.
#pragma once
#include <string>
#include <vector>

#include "tools/bench/results.h"

namespace aft::tool {

std::string roofline_svg(const std::vector<Result> &results, const Limits &limits);

}  // namespace aft::tool
