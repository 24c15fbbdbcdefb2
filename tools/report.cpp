// `aft report DIR`: one self-contained HTML page of a run: what it was, where it got, curves, samples. No script, no
// network: figures are inline SVG (tools/report/chart.h). A second run can be laid over the first.
#include <spdlog/fmt/fmt.h>

#include <cmath>
#include <cstdio>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>

#include "aft/config.h"
#include "aft/error.h"
#include "aft/training.h"
#include "runtime/files.h"
#include "tools/bench/machine.h"
#include "tools/command.h"
#include "tools/report/chart.h"

namespace aft::tool {
namespace {

using nlohmann::json;

struct Options {
    std::string run, over, output;
};

// One run: its keys and its metrics, split -> key -> (step, value).
struct Run {
    std::string folder, samples;
    RunOptions options;
    std::map<std::string, std::map<std::string, Series>> metrics;

    explicit Run(const std::string &folder) : folder(folder), options(read_run_options(folder)) {
        std::istringstream lines(read_file(folder + "/metrics.jsonl", int64_t(1) << 31));
        int number = 0;
        for (std::string line; std::getline(lines, line);) {
            number++;
            const json entry = json::parse(line, nullptr, false);
            if (entry.is_discarded() && lines.eof()) break;  // a run that is being written
            if (!entry.is_object() || !entry.value("step", json()).is_number() || !entry.value("split", json()).is_string())
                throw Error(folder + "/metrics.jsonl: line " + std::to_string(number) + " is no line of metrics");
            auto &split = metrics[entry.at("split").get<std::string>()];
            for (const auto &[key, value] : entry.items())
                if (value.is_number() && key != "step") split[key].push_back({entry.at("step").get<double>(), value.get<double>()});
        }
        if (std::filesystem::exists(folder + "/samples.txt")) samples = read_file(folder + "/samples.txt", int64_t(1) << 28);
    }
    const Series &series(const std::string &split, const std::string &key) const {
        static const Series none;
        const auto found = metrics.find(split);
        if (found == metrics.end()) return none;
        const auto values = found->second.find(key);
        return values == found->second.end() ? none : values->second;
    }
};

std::string best_of(const Run &run) {
    const Series &valid = run.series("valid", "bits_per_character");
    if (valid.empty()) return "not evaluated";
    const auto best = std::ranges::min_element(valid, {}, &Point::y);
    return fmt::format("{:.4f} bits per character at step {:.0f}", best->y, best->x);
}

double last_of(const Series &series) { return series.empty() ? NAN : series.back().y; }
double median_of(const Series &series) {
    if (series.empty()) return NAN;
    std::vector<double> values;
    for (const Point &p : series) values.push_back(p.y);
    std::ranges::nth_element(values, values.begin() + std::ptrdiff_t(values.size() / 2));
    return values[values.size() / 2];
}

std::string fact(const std::string &name, const std::string &value) { return "<tr><th>" + escape_html(name) + "</th><td>" + escape_html(value) + "</td></tr>\n"; }
std::string number(double value, const char *format) { return std::isnan(value) ? "-" : fmt::format(fmt::runtime(format), value); }

std::string summary(const Run &run) {
    const ModelConfig &m = run.options.model;
    std::string text = "<table>\n";
    text += fact("model", fmt::format("AFT-{}, {} x {}, context {}, {} parameters", name_of(m.mixer), m.layers, m.channels, m.context, parameter_count(m)));
    text += fact("validation", best_of(run));
    text += fact("steps", number(run.series("train", "loss").empty() ? NAN : run.series("train", "loss").back().x, "{:.0f}"));
    text += fact("time", number(last_of(run.series("train", "seconds")), "{:.0f} s"));
    text += fact("throughput", number(median_of(run.series("train", "tokens_per_second")), "{:.0f} tokens/s (median)"));
    text += fact("share of the FMA peak", number(100 * median_of(run.series("train", "model_flops_utilisation")), "{:.1f} %"));
    text += fact("memory", number(1e-9 * last_of(run.series("train", "memory_bytes")), "{:.2f} GB"));
    return text + "</table>\n";
}

// The lines of one configuration that the other has not.
std::string other_keys(const std::string &first, const std::string &second) {
    std::set<std::string> known;
    std::istringstream ours(first), theirs(second);
    for (std::string line; std::getline(ours, line);) known.insert(line);
    std::string text;
    for (std::string line; std::getline(theirs, line);)
        if (!known.contains(line)) text += line + "\n";
    return text;
}

std::string page(const Run &run, const Run *over) {
    std::string html = "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>" + escape_html(run.folder) + "</title>\n<style>\n" + report_style() + "</style></head><body>\n";
    html += "<h1>" + escape_html(run.folder) + "</h1>\n";
    if (over) html += "<p class=\"over\">laid over it, dashed: " + escape_html(over->folder) + "</p>\n";
    html += "<div class=\"runs\"><section>" + summary(run) + "</section>\n";
    if (over) html += "<section>" + summary(*over) + "</section>\n";
    html += "</div>\n<div class=\"charts\">\n";
    const auto chart = [&](const char *title, const char *unit, std::vector<std::tuple<const char *, const char *, const char *>> wanted, bool from_zero) {
        std::vector<Curve> curves;
        for (const auto &[split, key, name] : wanted) {
            curves.push_back({name, run.series(split, key), false});
            if (over) curves.push_back({std::string(name) + " (other run)", over->series(split, key), true});
        }
        html += chart_svg(title, unit, curves, from_zero);
    };
    chart("Loss", "bits per character", {{"train", "bits_per_character", "training"}, {"valid", "bits_per_character", "validation"}}, false);
    chart("Learning rate", "", {{"train", "learning_rate", "learning rate"}}, true);
    chart("Gradient norm", "", {{"train", "gradient_norm", "before clipping"}}, true);
    chart("Throughput", "tokens/s", {{"train", "tokens_per_second", "training"}}, true);
    if (!run.series("train", "model_flops_utilisation").empty()) chart("Share of the FMA peak", "", {{"train", "model_flops_utilisation", "model flops"}}, true);
    html += "</div>\n";
    if (!run.samples.empty()) html += "<h2>Samples</h2>\n<pre>" + escape_html(run.samples) + "</pre>\n";
    html += "<h2>Configuration</h2>\n<pre>" + escape_html(to_toml(run.options)) + "</pre>\n";
    if (over) html += "<h2>Other keys of the other run</h2>\n<pre>" + escape_html(other_keys(to_toml(run.options), to_toml(over->options))) + "</pre>\n";
    return html + "<p class=\"foot\">" + escape_html("aft report, " + date_and_time() + ", " + cpu_model()) + "</p>\n</body></html>\n";
}

int run(const Options &o, const Common &common) {
    const Run first(o.run);
    std::unique_ptr<Run> over;
    if (!o.over.empty()) over = std::make_unique<Run>(o.over);
    const std::string output = o.output.empty() ? o.run + "/report.html" : o.output;
    write_file_atomic(output, page(first, over.get()));
    if (common.json)
        std::puts(json{{"report", output}, {"validation", best_of(first)}}.dump(1).c_str());
    else
        fmt::print("report: {}\n", output);
    return exit_done;
}

const Command command{"report", "One HTML page of a run: curves, samples, configuration", Group::model, [](CLI::App &app, const Common &common) {
    auto o = std::make_shared<Options>();
    app.add_option("run", o->run, "The run's folder")->required();
    app.add_option("--over", o->over, "Another run, laid over it");
    app.add_option("--output", o->output, "The page (default: report.html in the run's folder)");
    app.footer("Example: aft report runs/first --over runs/second --output report.html");
    return [o, &common] { return run(*o, common); };
}};

}  // namespace
}  // namespace aft::tool
