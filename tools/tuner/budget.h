// How `aft tune --budget` is shared among kernels.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <numeric>
#include <vector>

namespace aft::tool {

// What is left of the time goes to the kernels that are left, in proportion to the square root of the size of their spaces, within a factor
// of ten. What final checks take on top of their searches, as those so far did, comes off: the last kernel ends about in time.
class Budget {
public:
    // Seconds in all; for each kernel, in order, the number of points of its space.
    Budget(double seconds, const std::vector<size_t> &points) : seconds_(seconds) {
        for (size_t n : points) weights_.push_back(std::clamp(std::sqrt(double(n)), 2.0, 20.0));
    }

    // Seconds for the search of the next kernel, when `elapsed` have gone by.
    double next(double elapsed) const {
        const double left = std::accumulate(weights_.begin() + long(taken_), weights_.end(), 0.0), share = std::max(0.0, seconds_ - elapsed) * weights_[taken_] / left;
        return std::max(share / 4, share - (taken_ ? checks_ / double(taken_) : 0));
    }

    // The next kernel took so long; its search was given `search` of it.
    void take(double search, double whole) {
        taken_++;
        checks_ += std::max(0.0, whole - search);
    }

    // The first kernel has its turn however little time there is.
    bool spent(double elapsed) const { return taken_ > 0 && elapsed > seconds_; }

private:
    double seconds_, checks_ = 0;
    std::vector<double> weights_;
    size_t taken_ = 0;
};

}  // namespace aft::tool
