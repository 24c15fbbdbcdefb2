// aft report and aft train --trace: what they write, and what a browser makes of the page.
#include <gtest/gtest.h>

#include <map>
#include <nlohmann/json.hpp>

#include "tests/tools/program.h"

namespace aft::test {
namespace {

using nlohmann::json;

struct TwoRuns {
    TemporaryFolder folder;
    std::string keys, first = folder / "first", second = folder / "second";

    TwoRuns() {
        std::ofstream out(folder / "text");
        for (int line = 0; line < 400; line++) out << "line <" << line << "> & more\n";
        out.close();
        keys = " --mixer simple --layers 1 --channels 16 --context 24 --batch 4 --warmup 5 --eval-every 5 --eval-batches 1 --sample-every 10 --data " + (folder / "text");
    }
    Outcome train(const std::string &out, const std::string &more = "") const { return run_aft("train --quiet --steps 20" + keys + " --out " + out + more); }
};

TEST(Report, OnePageWithoutAnythingFromOutside) {
    const TwoRuns runs;
    ASSERT_EQ(runs.train(runs.first).code, 0);
    ASSERT_EQ(runs.train(runs.second, " --learning-rate 0.01").code, 0);
    const Outcome made = run_aft("report --json " + runs.first + " --over " + runs.second);
    ASSERT_EQ(made.code, 0) << made.err;
    const std::string page = slurp(json::parse(made.out).at("report"));
    for (const char *part : {"<!DOCTYPE html>", "Loss, bits per character", "Learning rate", "Gradient norm", "Throughput", "Share of the FMA peak", "Samples", "Configuration",
                             "stroke-dasharray", "AFT-simple, 1 x 16", "learning_rate = 0.003", "Other keys", "learning_rate = 0.01\n"})
        EXPECT_TRUE(holds(page, part)) << part;
    EXPECT_FALSE(holds(page.substr(page.find("Other keys")), "batch = 4")) << "a key that both runs share";
    for (const char *part : {"http:", "https:", "<script", "src="}) EXPECT_FALSE(holds(page, part)) << part;
}

TEST(Report, EscapesWhatTheRunHolds) {
    const TwoRuns runs;
    ASSERT_EQ(runs.train(runs.first, " --prompt '<b>&\"'").code, 0);
    ASSERT_EQ(run_aft("report " + runs.first + " --output " + (runs.folder / "page.html")).code, 0);
    const std::string page = slurp(runs.folder / "page.html");
    EXPECT_FALSE(holds(page, "<b>"));
    EXPECT_TRUE(holds(page, "&lt;b&gt;&amp;"));
}

TEST(Report, SaysWhatIsMissingOrBroken) {
    const TwoRuns runs;
    const Outcome none = run_aft("report " + (runs.folder / "none"));
    EXPECT_EQ(none.code, 1);
    EXPECT_TRUE(holds(none.err, "config.toml")) << none.err;
    ASSERT_EQ(runs.train(runs.first).code, 0);
    for (const char *line : {"nonsense", R"({"step": 2})", R"({"step": 2, "split": 5})", R"({"step": "two", "split": "train"})"}) {
        std::ofstream(runs.first + "/metrics.jsonl") << "{\"step\": 1, \"split\": \"train\", \"loss\": 3}\n" << line << "\n{\"step\": 2}\n";
        const Outcome broken = run_aft("report " + runs.first);
        EXPECT_EQ(broken.code, 1) << line;
        EXPECT_TRUE(holds(broken.err, "line 2 is no line of metrics")) << broken.err;
    }
    EXPECT_EQ(run_aft("report").code, 2);
}

// A real browser lays it out: five figures of a size, nothing wider than the window.
TEST(Report, ABrowserShowsIt) {
    const char *browser = nullptr;
    for (const char *name : {"chromium", "chromium-browser", "google-chrome"})
        if (std::system((std::string(name) + " --version >/dev/null 2>&1").c_str()) == 0) browser = name;
    if (!browser) GTEST_SKIP() << "no headless Chromium on this machine (Debian: chromium)";
    const TwoRuns runs;
    ASSERT_EQ(runs.train(runs.first).code, 0);
    ASSERT_EQ(run_aft("report " + runs.first + " --output " + (runs.folder / "page.html")).code, 0);
    // The measuring script goes into a copy: the page itself has none.
    std::string page = slurp(runs.folder / "page.html");
    page.replace(page.find("</body>"), 7,
                 "<script>addEventListener('load', () => { const f = [...document.querySelectorAll('svg')].map(s => s.getBoundingClientRect()).filter(r => r.width > 300 && r.height > 100).length;"
                 "document.title = 'figures=' + f + ' overflow=' + (document.documentElement.scrollWidth > innerWidth); })</script></body>");
    std::ofstream(runs.folder / "probe.html") << page;
    const std::string command = std::string("timeout 60 ") + browser + " --headless --no-sandbox --disable-gpu --disable-dev-shm-usage --user-data-dir=" + (runs.folder / "profile") +
                                " --window-size=1200,900 --dump-dom file://" + (runs.folder / "probe.html") + " >" + (runs.folder / "dom") + " 2>/dev/null";
    ASSERT_EQ(std::system(command.c_str()), 0);
    EXPECT_TRUE(holds(slurp(runs.folder / "dom"), "<title>figures=5 overflow=false</title>")) << slurp(runs.folder / "dom").substr(0, 400);
}

TEST(Trace, IsAChromeTraceOfKernels) {
    const TwoRuns runs;
    const std::string file = runs.folder / "trace.json";
    ASSERT_EQ(runs.train(runs.first, " --trace-steps 1 --trace " + file).code, 0);
    const json trace = json::parse(slurp(file));
    std::map<int, double> last_begin;
    std::map<int, std::vector<double>> open;  // ends of the spans around
    std::map<std::string, int> names;
    for (const json &e : trace.at("traceEvents")) {
        EXPECT_EQ(e.at("ph"), "X");
        const int thread = e.at("tid");
        const double begin = e.at("ts"), end = begin + e.at("dur").get<double>();
        EXPECT_GE(begin, last_begin[thread]);
        last_begin[thread] = begin;
        auto &around = open[thread];
        while (!around.empty() && around.back() <= begin) around.pop_back();
        if (!around.empty()) {
            EXPECT_LE(end, around.back() + 0.002) << "a span ends behind the one around it";
        }
        around.push_back(end);
        if (e.at("cat") == "kernel") names[e.at("name").get<std::string>().substr(0, e.at("name").get<std::string>().find("__"))]++;
    }
    for (const char *kernel : {"embedding_forward_f32", "gemm_nt_bias_f32", "aft_simple_causal_forward_bounded_f32", "softmax_cross_entropy_f32", "adamw_f32"}) EXPECT_GT(names[kernel], 0) << kernel;
    EXPECT_EQ(names["embedding_forward_f32"], 1) << "one step in one pass";
}

TEST(Trace, OfARunThatEndsBeforeItIsWritten) {
    const TwoRuns runs;
    const std::string file = runs.folder / "trace.json";
    ASSERT_EQ(runs.train(runs.first, " --trace-steps 1000 --trace " + file).code, 0);
    EXPECT_GT(json::parse(slurp(file)).at("traceEvents").size(), 0u);
}

TEST(Trace, AFileThatCannotBeWrittenIsSaidBeforeTheRun) {
    const TwoRuns runs;
    const Outcome none = runs.train(runs.first, " --trace /nowhere/trace.json");
    EXPECT_EQ(none.code, 1);
    EXPECT_TRUE(holds(none.err, "/nowhere/trace.json")) << none.err;
    EXPECT_FALSE(std::filesystem::exists(runs.first));
}

}  // namespace
}  // namespace aft::test
