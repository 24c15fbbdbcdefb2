#include "tools/bench/roofline.h"

#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <cmath>

#include "tools/bench/machine.h"

namespace aft::tool {
namespace {

constexpr double left = 70, top = 56, width = 640, height = 440, legend_width = 470, line_height = 15;

// One colour per family of kernels (the name up to its second '_').
const char *const colours[] = {"#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#ff7f0e", "#17becf", "#8c564b", "#e377c2", "#7f7f7f", "#bcbd22"};

struct Axes {
    double x0, x1, y0, y1;  // logarithms

    double x(double intensity) const { return left + width * (std::log10(intensity) - x0) / (x1 - x0); }
    double y(double rate) const { return top + height * (1 - (std::log10(rate) - y0) / (y1 - y0)); }
};

std::string escaped(const std::string &text) {
    std::string out;
    for (const char c : text) out += c == '<' ? "&lt;" : c == '&' ? "&amp;" : c == '>' ? "&gt;" : std::string(1, c);
    return out;
}

std::string text_at(double x, double y, const std::string &text, const char *style = "") {
    return fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" {}>{}</text>\n", x, y, style, escaped(text));
}

std::string segment(double xa, double ya, double xb, double yb, const char *style) {
    return fmt::format("<line x1=\"{:.1f}\" y1=\"{:.1f}\" x2=\"{:.1f}\" y2=\"{:.1f}\" {}/>\n", xa, ya, xb, yb, style);
}

// 1, 2, 5, 10, 20 ... within an axis.
std::vector<double> ticks(double low, double high) {
    std::vector<double> found;
    for (int e = int(std::floor(low)); e <= int(high); e++)
        for (const double digit : {1, 2, 5})
            if (const double at = e + std::log10(digit); at >= low && at <= high) found.push_back(digit * std::pow(10.0, e));
    return found;
}

// Places of labels, each moved down until it hides none before it.
class Labels {
public:
    double free_y(double x, double y) {
        const auto hides = [&](const std::pair<double, double> &other) { return std::abs(other.first - x) < 12 && std::abs(other.second - y) < 7; };
        while (std::ranges::any_of(taken_, hides)) y += 7;
        taken_.emplace_back(x, y);
        return y;
    }

private:
    std::vector<std::pair<double, double>> taken_;
};

}  // namespace

std::string roofline_svg(const std::vector<Result> &results, const Limits &limits) {
    // All knees are to be seen, and all points.
    double low = limits.fma / limits.bandwidth.front().triad, high = limits.fma / limits.bandwidth.back().triad, slow = limits.fma / 10;
    for (const Result &r : results) {
        if (r.work.flops <= 0 || r.work.bytes <= 0) continue;
        low = std::min(low, r.work.flops / r.work.bytes), high = std::max(high, r.work.flops / r.work.bytes);
        slow = std::min(slow, r.work.flops / r.time.centre());
    }
    const Axes axes{std::log10(low / 1.5), std::log10(high * 1.5), std::log10(slow / 1.5), std::log10(1.5 * limits.fma)};
    const double page_width = left + width + 20 + legend_width, page_height = std::max(top + height + 60, top + line_height * (double(results.size()) + 2));
    std::string svg = fmt::format(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {0:.0f} {1:.0f}\" width=\"{0:.0f}\" height=\"{1:.0f}\" font-family=\"sans-serif\" font-size=\"11\">\n"
        "<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n", page_width, page_height);
    svg += text_at(left, 22, fmt::format("Roofline: {}, table {}, {} thread{}", cpu_model(), limits.target, limits.threads, limits.threads > 1 ? "s" : ""), "font-size=\"15\"");
    svg += text_at(left, 40, date_and_time() + ", limits measured in the same run", "fill=\"#666\"");

    const char *grid = "stroke=\"#ddd\"", *roof = "stroke=\"#333\" stroke-width=\"1.5\"", *middle = "text-anchor=\"middle\"", *end = "text-anchor=\"end\"";
    for (const double intensity : ticks(axes.x0, axes.x1)) {
        const double x = axes.x(intensity);
        svg += segment(x, top, x, top + height, grid) + text_at(x, top + height + 16, fmt::format("{:g}", intensity), middle);
    }
    for (const double rate : ticks(axes.y0, axes.y1)) {
        const double y = axes.y(rate);
        svg += segment(left, y, left + width, y, grid) + text_at(left - 6, y + 4, fmt::format("{:g}", rate * 1e-9), end);
    }
    svg += text_at(left + width / 2, top + height + 36, "flops per byte of least traffic", middle);
    svg += fmt::format("<text transform=\"translate(18 {:.1f}) rotate(-90)\" text-anchor=\"middle\">GFLOP/s</text>\n", top + height / 2);

    const double floor = std::pow(10.0, axes.y0), leftmost = std::pow(10.0, axes.x0), rightmost = std::pow(10.0, axes.x1);
    double ridge = rightmost;
    for (int level = 0; level < Limits::levels; level++) {
        const double bandwidth = limits.bandwidth[size_t(level)].triad, knee = limits.fma / bandwidth, start = std::max(leftmost, floor / bandwidth);
        ridge = std::min(ridge, knee);
        svg += segment(axes.x(start), axes.y(start * bandwidth), axes.x(knee), axes.y(limits.fma), roof);
        const double slope = -std::atan2(height / (axes.y1 - axes.y0), width / (axes.x1 - axes.x0)) * 180 / M_PI;
        const double at = start * std::pow(knee / start, 0.12 + 0.1 * level);
        svg += fmt::format("<text transform=\"translate({:.1f} {:.1f}) rotate({:.1f})\" fill=\"#333\">{} {:.0f} GB/s</text>\n", axes.x(at), axes.y(at * bandwidth) - 4, slope,
                           level_name(level), bandwidth * 1e-9);
    }
    svg += segment(axes.x(ridge), axes.y(limits.fma), left + width, axes.y(limits.fma), roof);
    svg += text_at(left + width - 4, axes.y(limits.fma) - 5, fmt::format("FMA {:.0f} GFLOP/s", limits.fma * 1e-9), end);

    std::vector<std::string> families;
    Labels labels;
    int number = 0;
    for (const Result &r : results) {
        if (r.work.flops <= 0 || r.work.bytes <= 0) continue;
        const std::string family = r.work.kernel.substr(0, r.work.kernel.find('_', r.work.kernel.find('_') + 1));
        size_t index = size_t(std::ranges::find(families, family) - families.begin());
        if (index == families.size()) families.push_back(family);
        const char *colour = colours[index % std::size(colours)];
        const double x = axes.x(r.work.flops / r.work.bytes), y = axes.y(r.work.flops / r.time.centre()), row = top + line_height * number++;
        svg += fmt::format("<circle cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"4\" fill=\"{}\" fill-opacity=\"0.75\"><title>{}</title></circle>\n", x, y, colour, escaped(r.name));
        svg += text_at(x + 5, labels.free_y(x + 5, y - 4), std::to_string(number), "font-size=\"8\"");
        svg += fmt::format("<circle cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"4\" fill=\"{}\"/>\n", left + width + 24, row, colour);
        svg += text_at(left + width + 34, row + 4, fmt::format("{} {}: {:.0f}% of {}", number, r.name, 100 * r.share(), r.bound.name()));
    }
    return svg + "</svg>\n";
}

}  // namespace aft::tool
