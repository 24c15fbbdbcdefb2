#include "tools/report/chart.h"

#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <cmath>
#include <limits>

namespace aft::tool {
namespace {

constexpr double width = 620, height = 300, left = 64, right = 12, top = 40, bottom = 40;
const char *const colours[] = {"#1f5fa8", "#c4541c", "#2b8a3e", "#7a3fa0"};

// About five round steps: 1, 2 or 5 times a power of ten.
double round_step(double span) {
    const double raw = span / 5, power = std::pow(10, std::floor(std::log10(raw)));
    for (double factor : {1.0, 2.0, 5.0})
        if (raw <= factor * power) return factor * power;
    return 10 * power;
}

std::string label(double value) {
    if (value == 0) return "0";
    if (std::abs(value) >= 1e6) return fmt::format("{:.3g}M", value * 1e-6);
    if (std::abs(value) >= 1e4) return fmt::format("{:.4g}k", value * 1e-3);
    return std::abs(value) < 1e-3 ? fmt::format("{:.1e}", value) : fmt::format("{:.4g}", value);
}

// The smallest and the largest of each pixel column, in order of x.
Series thinned(const Series &points, double first, double last) {
    if (points.size() < 2 * size_t(width)) return points;
    Series few;
    for (size_t n = 0; n < points.size();) {
        const auto column = [&](const Point &p) { return int((p.x - first) / (last - first) * width); };
        size_t low = n, high = n, end = n;
        for (; end < points.size() && column(points[end]) == column(points[n]); end++) {
            if (points[end].y < points[low].y) low = end;
            if (points[end].y > points[high].y) high = end;
        }
        few.push_back(points[std::min(low, high)]);
        if (low != high) few.push_back(points[std::max(low, high)]);
        n = end;
    }
    return few;
}

}  // namespace

std::string chart_svg(const std::string &title, const std::string &unit, const std::vector<Curve> &curves, bool from_zero) {
    constexpr double infinite = std::numeric_limits<double>::infinity();
    std::vector<Curve> good;
    double x0 = infinite, x1 = -infinite, y0 = infinite, y1 = -infinite;
    for (Curve curve : curves) {
        std::erase_if(curve.points, [](const Point &p) { return !std::isfinite(p.x) || !std::isfinite(p.y); });
        for (const Point &p : curve.points) x0 = std::min(x0, p.x), x1 = std::max(x1, p.x), y0 = std::min(y0, p.y), y1 = std::max(y1, p.y);
        if (!curve.points.empty()) good.push_back(std::move(curve));
    }
    if (good.empty()) return "";
    if (from_zero) y0 = std::min(0.0, y0);
    if (x1 <= x0) x1 = x0 + 1;
    if (y1 <= y0) y1 = y0 + (y0 == 0 ? 1 : std::abs(y0) * 0.1);
    const auto X = [&](double x) { return left + (x - x0) / (x1 - x0) * (width - left - right); };
    const auto Y = [&](double y) { return height - bottom - (y - y0) / (y1 - y0) * (height - top - bottom); };

    std::string svg = fmt::format("<svg viewBox=\"0 0 {:.0f} {:.0f}\" role=\"img\" aria-label=\"{}\">\n<text class=\"title\" x=\"{:.0f}\" y=\"18\">{}</text>\n", width, height, escape_html(title),
                                  left, escape_html(title + (unit.empty() ? "" : ", " + unit)));
    const double dy = round_step(y1 - y0), dx = round_step(x1 - x0);
    for (double y = std::ceil(y0 / dy) * dy; y <= y1 + 1e-9 * dy; y += dy)
        svg += fmt::format("<line class=\"grid\" x1=\"{:.1f}\" x2=\"{:.1f}\" y1=\"{:.1f}\" y2=\"{:.1f}\"/><text class=\"tick\" text-anchor=\"end\" x=\"{:.1f}\" y=\"{:.1f}\">{}</text>\n", left,
                           width - right, Y(y), Y(y), left - 6, Y(y) + 4, label(std::abs(y) < 1e-9 * dy ? 0 : y));
    for (double x = std::ceil(x0 / dx) * dx; x <= x1 + 1e-9 * dx; x += dx)
        svg += fmt::format("<text class=\"tick\" text-anchor=\"middle\" x=\"{:.1f}\" y=\"{:.1f}\">{}</text>\n", X(x), height - bottom + 16, label(x));
    svg += fmt::format("<text class=\"tick\" text-anchor=\"middle\" x=\"{:.1f}\" y=\"{:.1f}\">step</text>\n", (left + width - right) / 2, height - 6);
    double legend = left;
    size_t colour = 0;
    for (size_t n = 0; n < good.size(); n++) {
        const Curve &curve = good[n];
        if (n && !curve.dashed) colour++;  // another run's curve has the colour of ours
        const char *stroke = colours[colour % std::size(colours)];
        std::string points;
        for (const Point &p : thinned(curve.points, x0, x1)) points += fmt::format("{:.1f},{:.1f} ", X(p.x), Y(p.y));
        const char *dash = curve.dashed ? " stroke-dasharray=\"5 4\"" : "";
        if (curve.points.size() == 1) svg += fmt::format("<circle cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"3\" fill=\"{}\"/>\n", X(curve.points[0].x), Y(curve.points[0].y), stroke);
        svg += fmt::format("<polyline fill=\"none\" stroke=\"{}\"{} points=\"{}\"/>\n", stroke, dash, points);
        if (good.size() > 1) {
            svg += fmt::format("<line stroke=\"{}\"{} x1=\"{:.0f}\" x2=\"{:.0f}\" y1=\"30\" y2=\"30\"/><text class=\"tick\" x=\"{:.0f}\" y=\"34\">{}</text>\n", stroke, dash, legend, legend + 22,
                               legend + 27, escape_html(curve.name));
            legend += 44 + 6.2 * double(curve.name.size());
        }
    }
    return svg + "</svg>\n";
}

std::string escape_html(const std::string &text) {
    std::string out;
    const auto byte = [&](size_t n) { return n < text.size() ? static_cast<unsigned char>(text[n]) : 0u; };
    for (size_t n = 0; n < text.size(); n++) {
        const unsigned c = byte(n);
        if (c == '&') out += "&amp;";
        else if (c == '<') out += "&lt;";
        else if (c == '>') out += "&gt;";
        else if (c == '"') out += "&quot;";
        else if (c < 0x20 && c != '\n' && c != '\t') out += "\xEF\xBF\xBD";
        else if (c < 0x80) out += char(c);
        else {
            const int more = c >= 0xF0 && c < 0xF5 ? 3 : c >= 0xE0 && c < 0xF0 ? 2 : c >= 0xC2 && c < 0xE0 ? 1 : 0;
            bool whole = more > 0;
            for (int m = 1; m <= more; m++) whole = whole && (byte(n + size_t(m)) & 0xC0) == 0x80;
            if (whole) out += text.substr(n, size_t(more) + 1), n += size_t(more);
            else out += "\xEF\xBF\xBD";
        }
    }
    return out;
}

std::string report_style() {
    return R"(body { font: 15px/1.5 system-ui, sans-serif; max-width: 1300px; margin: 24px auto; padding: 0 16px; color: #1c1e21; background: #fff; }
h1 { font-size: 22px; overflow-wrap: anywhere; } h2 { font-size: 17px; margin-top: 28px; }
.runs, .charts { display: flex; flex-wrap: wrap; gap: 20px; } .runs section { min-width: 300px; }
table { border-collapse: collapse; } th { text-align: left; font-weight: 600; padding: 2px 16px 2px 0; vertical-align: top; white-space: nowrap; }
svg { flex: 1 1 560px; max-width: 640px; min-width: 0; } svg polyline, svg line { stroke-width: 1.6; }
svg .grid { stroke: #dde1e6; stroke-width: 1; } svg .title { font: 600 14px system-ui, sans-serif; } svg .tick { font: 11px system-ui, sans-serif; fill: #5a6370; }
pre { background: #f5f6f8; padding: 12px; overflow-x: auto; white-space: pre-wrap; overflow-wrap: anywhere; font-size: 13px; } .foot, .over { color: #5a6370; font-size: 13px; }
)";
}

}  // namespace aft::tool
