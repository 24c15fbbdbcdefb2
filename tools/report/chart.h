// Line charts as inline SVG, and the page's style.
#pragma once
#include <string>
#include <vector>

namespace aft::tool {

struct Point {
    double x, y;
};
using Series = std::vector<Point>;

struct Curve {
    std::string name;
    Series points;  // by ascending x; values that are not finite are left out
    bool dashed;
};

// A titled figure; "" when no curve has a point. Long series are thinned to the smallest and largest value of each pixel column.
std::string chart_svg(const std::string &title, const std::string &unit, const std::vector<Curve> &curves, bool from_zero);

std::string escape_html(const std::string &text);  // bytes that are no UTF-8 become U+FFFD
std::string report_style();

}  // namespace aft::tool
