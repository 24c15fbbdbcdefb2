// Which candidate comes next. A score is the time over the incumbent's: lower is better; infinity for one that failed.
//
//   random   the points in a random order
//   descent  from the incumbent: change one knob, nearest values first, and move to the first better point; at a local
//            minimum start again, in turn from the best point with two knobs changed and from a random point
//   guided   after a few random points: fit log(score) by one term per knob value (ridge regression over all results so
//            far) and take the untried point with the lowest prediction; every sixth is random
//
// Each visits every point once, so a space that fits the budget is searched whole. The order depends on the space, the
// seed and the scores told so far only; a candidate may be asked for while the one before it is still measured.
#pragma once
#include <memory>
#include <optional>
#include <string>

#include "tools/tuner/space.h"

namespace aft::tool {

class Search {
public:
    virtual ~Search() = default;
    virtual std::optional<int> next() = 0;  // a point never given before; none when all were
    virtual void tell(int point, double score) = 0;
};

// strategy: "random", "descent" or "guided". start: the incumbent's point (score 1, not given again), or -1.
std::unique_ptr<Search> make_search(const std::string &strategy, const Space &space, int start, uint64_t seed);

}  // namespace aft::tool
