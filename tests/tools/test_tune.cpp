// aft tune: the gate with planted candidates, resuming, records. The worker is driven as the tuner drives it: lines of JSON.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/file.h>
#include <unistd.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "tests/tools/program.h"

namespace aft::test {
namespace {

using nlohmann::json;
namespace fs = std::filesystem;

json parse_file(const std::string &path) {
    std::ifstream in(path);
    return json::parse(in);
}

std::string table_in_use() {
    const json info = json::parse(run_aft("info --json").out);
    for (const json &table : info.at("tables"))
        if (table.at("in_use").get<bool>()) return table.at("target");
    return "";
}

// A shared object whose add_f32 has this body; x, y, z are halide_buffer_t, whose third word is the data.
std::string planted(const TemporaryFolder &folder, const std::string &name, const std::string &body) {
    const std::string source = folder / (name + ".cpp"), object = folder / (name + ".so");
    std::ofstream(source) << "#include <cstdlib>\n#include <cstring>\nextern \"C\" int add_f32__" + table_in_use() + "(void **x, void **y, void **z) {\n"
                          << "  float *out = static_cast<float *>(z[2]); (void)x; (void)y; (void)out;\n  " << body << "\n  return 0;\n}\n";
    EXPECT_EQ(std::system(("c++ -shared -fPIC -O1 -o " + object + " " + source).c_str()), 0);
    return object;
}

#ifdef __SANITIZE_ADDRESS__
constexpr char out_of_memory[] = "crashed";  // its allocator ends the process where malloc would return null
#else
constexpr char out_of_memory[] = "memory";
#endif

TEST(Tune, TheGateRejectsPlantedCandidatesAndSurvivesThem) {
    if (std::system("c++ --version >/dev/null 2>&1") != 0) GTEST_SKIP() << "no C++ compiler to plant candidates with";
    const TemporaryFolder folder;
    const std::vector<std::tuple<std::string, std::string, std::string>> plants = {
        {"nothing", "", "wrong"},                                          // its output keeps the poison
        {"outside", "out[-1] = 0;", "wrong"},                              // and the guard zone is touched
        {"crash", "*static_cast<volatile int *>(nullptr) = 1;", "crashed"},
        {"abort", "abort();", "crashed"},
        {"hang", "for (volatile int n = 0;; n = n + 1) {}", "hung"},
        {"hungry", "for (;;) { char *volatile p = new char[64 << 20]; memset(p, 1, 64 << 20); }", out_of_memory},
        {"greedy", "for (;;) { void *p = malloc(64 << 20); if (!p) throw 1; memset(p, 1, 64 << 20); }", "crashed"},
        {"code", "return -7;", "failed"}};
    std::ofstream lines(folder / "lines");
    lines << json{{"kernel", "add_f32"}, {"symbol", "add_f32__" + table_in_use()}, {"target", table_in_use()}, {"shapes", {"C=64,R=16"}}, {"cpus", json::array()}, {"wall_s", 3}, {"memory_mib", 512}}.dump()
          << "\n";
    for (const auto &[name, body, status] : plants)
        lines << json{{"object", planted(folder, name, body)}, {"slow", 1.2}, {"seconds", 0.01}, {"least_rounds", 3}, {"most_rounds", 5}, {"shapes", json::array()}, {"determinism", false}}.dump() << "\n";
    lines.close();
    const Outcome worker = run_aft("tune-worker <" + (folder / "lines"));
    EXPECT_EQ(worker.code, 0) << worker.err;
    std::istringstream answers(worker.out);
    std::string line;
    ASSERT_TRUE(std::getline(answers, line));
    const json ready = json::parse(line);
    ASSERT_FALSE(ready.contains("error")) << line;
    EXPECT_GT(ready.at("cases"), 0);
    for (const auto &[name, body, status] : plants) {
        ASSERT_TRUE(std::getline(answers, line)) << name;
        const json verdict = json::parse(line);
        EXPECT_EQ(verdict.at("status"), status) << name << ": " << line;
        EXPECT_FALSE(verdict.at("message").get<std::string>().empty()) << name;
    }
}

// A check that asks for more timing than the limit of a candidate: that time comes on top, so a right candidate is not called hung.
TEST(Tune, TheTimeThatACheckAsksForIsNoHang) {
    if (std::system("c++ --version >/dev/null 2>&1") != 0) GTEST_SKIP() << "no C++ compiler to link a candidate with";
    const TemporaryFolder folder;
    const std::string symbol = "add_f32__" + table_in_use(), kernels = std::string(AFT_BINARY_DIR) + "/kernels/", object = folder / "right.so";
    ASSERT_EQ(std::system(("c++ -shared -Wl,-Bsymbolic -o " + object + " " + kernels + symbol + ".o " + kernels + "halide_runtime.o -lpthread -ldl").c_str()), 0);
    std::ofstream(folder / "lines")
        << json{{"kernel", "add_f32"}, {"symbol", symbol}, {"target", table_in_use()}, {"shapes", {"C=512,R=4096"}}, {"cpus", json::array()}, {"wall_s", 1}, {"memory_mib", 512}}.dump() << "\n"
        << json{{"object", object}, {"slow", 100}, {"seconds", 4}, {"least_rounds", 600}, {"most_rounds", 10000}, {"shapes", json::array()}, {"determinism", false}}.dump() << "\n";
    const Outcome worker = run_aft("tune-worker <" + (folder / "lines"));
    ASSERT_EQ(worker.code, 0) << worker.err;
    const json verdict = json::parse(worker.out.substr(worker.out.find('\n') + 1));
    EXPECT_EQ(verdict.at("status"), "ok") << verdict.dump();
    EXPECT_GT(verdict.at("seconds"), 1) << "not timed for longer than the limit: " << verdict.dump();
}

std::string add_journal() { return std::string(AFT_BINARY_DIR) + "/tune/" + table_in_use() + "/add_f32.jsonl"; }

int count_lines(const std::string &path, const std::string &part) {
    std::ifstream in(path);
    int count = 0;
    for (std::string line; std::getline(in, line);) count += holds(line, part);
    return count;
}

std::string tune_add(const TemporaryFolder &folder, const std::string &more) {
    return "tune --json --quiet --filter add_f32 --shape C=256,R=512 --budget 60s --out " + (folder / "records") + " " + more;
}

TEST(Tune, FindsAndResumesWithoutRepeating) {
    const TemporaryFolder folder;
    const Outcome first = run_aft(tune_add(folder, "--candidates 3 --seed 4"));
    ASSERT_EQ(first.code, 0) << first.err;
    const json a = json::parse(first.out)["kernels"][0];
    EXPECT_EQ(a.at("tried"), 3);
    EXPECT_EQ(a.at("resumed"), 0);
    EXPECT_EQ(a.at("counts").value("wrong", 0) + a.at("counts").value("crashed", 0) + a.at("counts").value("unbuilt", 0), 0) << a.dump();
    // The same seed and the same recorded times ask for the same candidates, so all of them are known.
    const json b = json::parse(run_aft(tune_add(folder, "--candidates 3 --seed 4 --resume")).out)["kernels"][0];
    EXPECT_EQ(b.at("resumed"), 3);
    EXPECT_EQ(b.at("search_ratio"), a.at("search_ratio"));
    // Nor is the final check: its result is that of the first time.
    EXPECT_EQ(b.at("status"), a.at("status"));
    EXPECT_EQ(count_lines(add_journal(), "\"result\""), 1);
    const json c = json::parse(run_aft(tune_add(folder, "--candidates 5 --seed 4 --resume")).out)["kernels"][0];
    EXPECT_EQ(c.at("resumed"), 3);
    EXPECT_EQ(c.at("tried"), 5);
    EXPECT_EQ(count_lines(add_journal(), "\"result\""), 2) << "there is something new to check";
}

// Neither search takes up the other's times.
TEST(Tune, WarmAndColdJournalsDoNotMix) {
    const TemporaryFolder folder;
    const auto resumed = [&](const std::string &more) {
        const Outcome outcome = run_aft(tune_add(folder, "--candidates 1 --resume " + more));
        EXPECT_EQ(outcome.code, 0) << outcome.err;
        return outcome.code == 0 ? json::parse(outcome.out)["kernels"][0].at("resumed").get<int>() : -1;
    };
    const auto conditions = [] {
        std::ifstream in(add_journal());
        std::string line;
        std::getline(in, line);
        return json::parse(line);
    };
    ASSERT_EQ(run_aft(tune_add(folder, "--candidates 1")).code, 0);
    EXPECT_FALSE(conditions().contains("cache")) << "as in journals from before there were cold calls";
    EXPECT_EQ(resumed("--cold"), 0);
    EXPECT_EQ(conditions().at("cache"), "cold");
    EXPECT_EQ(resumed("--cold"), 1);
    EXPECT_EQ(resumed(""), 0);
    EXPECT_EQ(resumed(""), 1);
}

// A product of decoding, whose cold calls are those of many layers.
TEST(Tune, ColdCallsOfLayers) {
    const TemporaryFolder folder;
    const Outcome outcome = run_aft("tune --json --quiet --cold --candidates 2 --budget 60s --filter 'gemm_panels_bias_f32*_single' --shape M=1,N=64,K=64 --out " + (folder / "records"));
    ASSERT_EQ(outcome.code, 0) << outcome.err;
    const json counts = json::parse(outcome.out)["kernels"][0].at("counts");
    EXPECT_EQ(counts.value("ok", 0) + counts.value("slow", 0), 2) << counts;
}

TEST(Tune, CtrlCKeepsWhatWasTried) {
    const TemporaryFolder folder;
    fs::remove(add_journal());
    const std::string out = folder / "out", command = std::string(AFT_PROGRAM) + " " + tune_add(folder, "--seed 4") + " >" + out + " & p=$!; for n in $(seq 3000); do grep -qs verdict " + add_journal() +
                                                          " && break; sleep 0.02; done; kill -INT $p; wait $p";
    EXPECT_EQ(std::system(command.c_str()), 0);
    const json stopped = parse_file(out);
    EXPECT_TRUE(stopped.at("interrupted"));
    const int tried = stopped.at("kernels").at(0).at("tried");
    EXPECT_GE(tried, 1);
    EXPECT_LT(tried, 8) << "the whole space, as if nothing had happened";
    const json rest = json::parse(run_aft(tune_add(folder, "--seed 4 --resume")).out)["kernels"][0];
    EXPECT_EQ(rest.at("resumed"), tried);
    EXPECT_EQ(rest.at("tried"), 8);
}

// Runs a search of add_f32 in the background and `script` while $p is its process and $w its worker, which has judged a candidate. The search's result.
json disturbed_search(const TemporaryFolder &folder, const std::string &script) {
    fs::remove(add_journal());
    const std::string out = folder / "out";
    const std::string command = std::string(AFT_PROGRAM) + " " + tune_add(folder, "--seed 4") + " >" + out + " & p=$!; for n in $(seq 3000); do grep -qs verdict " + add_journal() +
                                " && break; sleep 0.02; done; w=$(cat /proc/$p/task/$p/children); " + script;
    EXPECT_EQ(std::system(command.c_str()), 0) << command;
    return json::parse(slurp(out), nullptr, false);
}

// The candidate that a worker held when something else killed it is judged by the next worker.
TEST(Tune, ADeadWorkerIsNoFaultOfItsCandidate) {
    const TemporaryFolder folder;
    const json all = disturbed_search(folder, "kill -9 $w; wait $p");
    ASSERT_TRUE(all.is_object());
    EXPECT_EQ(all.at("kernels").at(0).at("tried"), 8);
    EXPECT_EQ(all.at("kernels").at(0).at("counts").value("crashed", 0), 0) << all.dump();
}

TEST(Tune, AKilledSearchLeavesNoProcessAndTheNextOneCleansUp) {
    const TemporaryFolder folder;
    disturbed_search(folder, "c=$(cat /proc/$w/task/$w/children); kill -9 $p; alive() { cat $(for x in $w $c; do echo /proc/$x/status; done) 2>/dev/null | grep -q '^State:[[:space:]]*[RSDTt]'; }; "
                             "for n in $(seq 500); do alive || break; sleep 0.02; done; ! alive");
    const fs::path tune = fs::path(AFT_BINARY_DIR) / "tune" / table_in_use();
    const fs::path dead = tune / "x.asked.999999999", alive = tune / ("x.asked." + std::to_string(getpid())), search = tune / "x.work";  // no process has the first number
    for (const fs::path &left : {dead, alive, search}) fs::create_directories(left / "1");
    const json rest = json::parse(run_aft(tune_add(folder, "--seed 4 --resume --candidates 1")).out)["kernels"][0];
    EXPECT_EQ(rest.at("resumed"), 1);
    EXPECT_FALSE(fs::exists(dead));
    EXPECT_FALSE(fs::exists(search));
    EXPECT_TRUE(fs::exists(alive)) << "another program's question";
    fs::remove_all(alive);
}

// Lines of a journal that this program did not write, or not to their end, are passed over.
TEST(Tune, ABrokenJournalIsTakenUpWhereItHolds) {
    const TemporaryFolder folder;
    ASSERT_EQ(run_aft(tune_add(folder, "--candidates 2 --seed 4")).code, 0);
    for (const char *line : {R"({"knobs":"rows_per_task:4,vectors:1","verdict":{}})", R"({"knobs":5,"verdict":{"status":"ok"}})", R"({"result":5})", R"({"result":{"status":"kept"}})", "[", "7"})
        std::ofstream(add_journal(), std::ios::app) << line << "\n";
    const Outcome again = run_aft(tune_add(folder, "--candidates 2 --seed 4 --resume"));
    ASSERT_EQ(again.code, 0) << again.err;
    EXPECT_EQ(json::parse(again.out)["kernels"][0].at("resumed"), 2);
}

// The first kernel's fixed costs alone take longer than this; what is left out is named.
TEST(Tune, TheBudgetIsForAllKernels) {
    const TemporaryFolder folder;
    const Outcome ran = run_aft("tune --json --filter add_f32 'layer_norm_*' --candidates 1 --budget 0.01s --threads 1 --out " + (folder / "records"));
    ASSERT_EQ(ran.code, 0) << ran.err;
    const json found = json::parse(ran.out);
    EXPECT_EQ(found.at("kernels").size(), 1u);
    EXPECT_GE(found.at("not_reached").size(), 3u);
}

// A glob over a family and one shape: the kernels that it suits are tuned, variants that it does not reach are passed by.
TEST(Tune, AShapeNeedNotSuitAllKernelsOfAFilter) {
    const TemporaryFolder folder;
    const Outcome plan = run_aft("tune --json --dry-run --filter 'aft_*' --shape B=8,T=1024,C=512");
    ASSERT_EQ(plan.code, 0) << plan.err;
    const json planned = json::parse(plan.out).at("kernels");
    EXPECT_FALSE(planned.empty());
    for (const json &kernel : planned) EXPECT_TRUE(kernel.at("symbol").get<std::string>().starts_with("aft_simple_")) << kernel;
    const std::string common = " --json --candidates 1 --budget 10s --threads 1 --shape M=1,N=256,K=64 --out " + (folder / "records");
    const Outcome some = run_aft("tune --filter gemm_nt_f32" + common);
    ASSERT_EQ(some.code, 0) << some.err;
    EXPECT_TRUE(holds(some.err, "_large: no shape of --shape takes this variant")) << some.err;
    EXPECT_EQ(json::parse(some.out).at("kernels").size(), 1u) << some.out;
    const Outcome none = run_aft("tune --filter 'gemm_nt_f32*_large'" + common);
    EXPECT_EQ(none.code, 1);
    EXPECT_TRUE(holds(none.err, "nothing was timed")) << none.err;
}

TEST(Tune, TriesGivenValuesFirst) {
    const TemporaryFolder folder;
    const auto tried = [&](const std::string &more) {
        const Outcome outcome = run_aft(tune_add(folder, more));
        EXPECT_EQ(outcome.code, 0) << outcome.err;
        return outcome.code == 0 ? json::parse(outcome.out)["kernels"][0] : json{{"tried", -1}, {"resumed", -1}};
    };
    EXPECT_EQ(tried("--candidates 1 --try rows_per_task:4,vectors:4").at("resumed"), 0);
    EXPECT_EQ(tried("--candidates 1 --resume --try vectors:1,rows_per_task:64").at("resumed"), 0);
    const json both = tried("--candidates 3 --resume --try rows_per_task:4,vectors:4 --try rows_per_task:64,vectors:1 --try rows_per_task:5");
    EXPECT_EQ(both.at("resumed"), 2);
    EXPECT_EQ(both.at("tried"), 3);
    const Outcome wrong = run_aft(tune_add(folder, "--try vectors=4"));
    EXPECT_EQ(wrong.code, 2);
    EXPECT_TRUE(holds(wrong.err, "no knob:value")) << wrong.err;
}

// One that works, one whose kernel is wrong when it is called in place (its vectors at the end of a row overlap), one that the
// autoscheduler dies of: whatever it is, it is said, the run ends well, and nothing is recorded.
TEST(Tune, AutoschedulersAreTriedBesideOurs) {
    const TemporaryFolder folder;
    const std::string common = " --json --quiet --budget 120s --out " + (folder / "records");
    const auto tried = [&](const std::string &arguments) {
        const Outcome outcome = run_aft("tune " + arguments + common);
        EXPECT_EQ(outcome.code, 0) << outcome.err;
        return outcome.code == 0 ? json::parse(outcome.out).at("kernels").at(0) : json();
    };
    const std::string sums = "--autoscheduler Mullapudi2016 --filter column_sum_f32 --shape C=256,R=512";
    const json good = tried(sums).at("shapes").at(0).at("candidates").at(0);
    EXPECT_TRUE(good.at("status") == "ok" || good.at("status") == "slow") << good.dump();
    EXPECT_GT(good.at("ratio"), 0);
    EXPECT_LT(good.at("refused"), good.at("cases"));
    EXPECT_TRUE(fs::exists(good.at("schedule").get<std::string>()));
    EXPECT_EQ(tried(sums + " --resume").at("resumed"), 1);

    const json wrong = tried("--autoscheduler Mullapudi2016 --filter add_f32 --shape C=256,R=512").at("shapes").at(0).at("candidates").at(0);
    EXPECT_EQ(wrong.at("status"), "wrong") << wrong.dump();
    EXPECT_FALSE(wrong.contains("ratio")) << "what is wrong is not timed";

    const json norm = tried("--autoscheduler Adams2019 --filter layer_norm_forward_f32 --shape C=256,R=512").at("shapes").at(0).at("candidates").at(0);
    EXPECT_FALSE(norm.contains("ratio")) << norm.dump();
    EXPECT_FALSE(norm.at("message").get<std::string>().empty());
    EXPECT_FALSE(fs::exists(folder / "records"));
}

TEST(Tune, AMissingPluginIsNamed) {
    const TemporaryFolder folder;
    json manifest = parse_file(AFT_BINARY_DIR "/kernels/manifest.json");
    manifest["autoschedulers"] = folder / "none";
    fs::create_directories(folder / "kernels");
    std::ofstream(folder / "kernels/manifest.json") << manifest.dump();
    const Outcome outcome = run_aft("tune --autoscheduler Adams2019 --filter add_f32 --build-dir " + (folder / ""));
    EXPECT_EQ(outcome.code, 1);
    EXPECT_TRUE(holds(outcome.err, "libautoschedule_adams2019.so")) << outcome.err;
}

TEST(Tune, ListsSpacesAndPlans) {
    const Outcome list = run_aft("tune --list --json --filter 'gemm_nt_bias_f32*'");
    ASSERT_EQ(list.code, 0) << list.err;
    bool found = false;
    for (const json &kernel : json::parse(list.out)) {
        EXPECT_GT(kernel.at("valid_points"), 0);
        EXPECT_LE(kernel.at("valid_points"), kernel.at("combinations"));
        for (const json &knob : kernel.at("knobs")) EXPECT_FALSE(knob.at("reason").get<std::string>().empty());
        if (!holds(kernel.at("symbol"), "large")) continue;
        found = true;
        EXPECT_LT(kernel.at("valid_points"), kernel.at("combinations")) << "its requirements rule something out";
    }
    EXPECT_TRUE(found);
    const TemporaryFolder folder;
    const Outcome plan = run_aft("tune --dry-run --json --filter add_f32 --out " + (folder / "r"));
    ASSERT_EQ(plan.code, 0) << plan.err;
    EXPECT_TRUE(holds(json::parse(plan.out).at("kernels").at(0).at("record"), "add_f32.json"));
    EXPECT_FALSE(fs::exists(folder / "r"));
}

TEST(Tune, WrongUseIsNamed) {
    const auto expect = [](const std::string &arguments, int code, const std::string &part) {
        const Outcome outcome = run_aft("tune " + arguments);
        EXPECT_EQ(outcome.code, code) << arguments;
        EXPECT_TRUE(holds(outcome.err, part)) << arguments << "\n" << outcome.err;
    };
    expect("--filter nothing_like_it", 2, "nothing_like_it");
    expect("--budget soon", 2, "--budget 'soon'");
    expect("--strategy best", 2, "--strategy");
    expect("--autoscheduler Nobody2020 --filter add_f32", 2, "'Nobody2020' is none of Halide's");
    expect("--autoscheduler Anderson2021 --filter add_f32", 2, "CUDA only");
    expect("--filter add_f32 --shape M=1", 2, "no workload times these kernels at the shape M=1");
    expect("--filter add_f32 --shape C=64,R=16 --shape C=64 --dry-run", 2, "at the shape C=64:");
    expect("--seed -3 --list", 2, "--seed");
    expect("--filter add_f32 --filter nothing_like_it --list", 2, "'nothing_like_it'");
    for (const char *knobs : {"rows:2", "''", "vectors:2,rows:2"}) expect(std::string("--filter add_f32 --dry-run --try ") + knobs, 2, "no kernel of --filter has these knobs");
    // Before the search, not after it.
    expect("--filter add_f32 --out /dev/null/records", 1, "/dev/null");
    const TemporaryFolder folder;
    fs::create_directories(folder / "folder.json");
    expect("--filter add_f32 --out " + (folder / "folder.json"), 1, "there is a folder of this name");
    expect("--build-dir /nonexistent --filter add_f32", 1, "tuning needs the build tree");
    expect("--compare /nonexistent/a /nonexistent/b", 1, "there is no record");
    for (const char *text : {"", "[]", R"({"knobs":3})", R"({"knobs":{"a":1},"shapes":[{"shape":4}]})", R"({"knobs":{"a":1},"shapes":[{"shape":"B=1","median_seconds":"x"}]})", R"({"knobs":{"a":1},"cache":3,"shapes":[]})"}) {
        std::ofstream(folder / "record") << text;
        expect("--compare " + (folder / "record") + " " + (folder / "record"), 1, "is no tuned record");
    }
    for (const char *text : {"", R"({"incumbent":5})", "{\"incumbent\":{\"a\":1}}\n{\"knobs\":\"a:x\",\"verdict\":{}}"}) {
        std::ofstream(folder / "journal") << text;
        expect("--simulate " + (folder / "journal"), 1, "is no journal");
    }
}

TEST(Tune, OneSearchAtATimeInABuildTree) {
    const std::string work = std::string(AFT_BINARY_DIR) + "/tune";
    fs::create_directories(work);
    const int held = open((work + "/.lock").c_str(), O_RDWR | O_CREAT, 0666);
    ASSERT_EQ(flock(held, LOCK_EX | LOCK_NB), 0);
    const TemporaryFolder folder;
    const std::string search = "tune --filter add_f32 --budget 10s --candidates 1 --out " + (folder / "records");
    const Outcome second = run_aft(search);
    EXPECT_EQ(second.code, 1);
    EXPECT_TRUE(holds(second.err, "another aft tune works in")) << second.err;
    for (const std::string question : {"--list", "--dry-run"}) EXPECT_EQ(run_aft("tune --filter add_f32 " + question).code, 0) << question;
    close(held);
    EXPECT_EQ(run_aft(search).code, 0);
}

// The models' shapes never reach the exact scan of AFT-simple: a filter over a family goes on to the next kernel.
TEST(Tune, AVariantThatNoModelReachesEndsNothing) {
    const TemporaryFolder folder;
    const Outcome o = run_aft("tune --json --threads 1 --filter 'aft_simple_causal_forward_f32' --budget 10s --candidates 1 --out " + (folder / "records"));
    EXPECT_EQ(o.code, 0) << o.err;
    EXPECT_TRUE(holds(o.err, "no shape of the models takes this variant")) << o.err;
    EXPECT_TRUE(json::parse(o.out).at("kernels").empty());
}

// A journal with known times: the strategies are told them, and what is too uncertain is left out.
TEST(Tune, SimulatesStrategiesOnJournals) {
    const TemporaryFolder folder;
    std::ofstream journal(folder / "space.jsonl");
    journal << json{{"incumbent", {{"rows", 1}, {"vectors", 1}}}}.dump() << "\n";
    for (int rows : {1, 2, 4, 8})
        for (int vectors : {1, 2, 4}) {
            if (rows == 1 && vectors == 1) continue;
            const bool uncertain = rows == 8 && vectors == 4;
            journal << json{{"knobs", "rows:" + std::to_string(rows) + ",vectors:" + std::to_string(vectors)},
                            {"verdict", {{"status", "ok"}, {"message", ""}, {"ratio", uncertain ? 0.1 : 1.1 - 0.05 * rows}, {"noise", uncertain ? 0.5 : 0.01}, {"gate_error", 0}, {"cases", 1},
                                         {"shapes", json::array()}, {"seconds", 1}}}}
                           .dump()
                    << "\n";
        }
    journal.close();
    const std::string file = folder / "space.jsonl";
    const json both = json::parse(run_aft("tune --json --simulate " + file + " " + file).out);
    ASSERT_EQ(both.at("journals").size(), 2u);
    EXPECT_EQ(both.at("journals").at(0).at("points"), 11);
    EXPECT_DOUBLE_EQ(both.at("journals").at(0).at("best"), 0.7);
    for (const char *strategy : {"random", "descent", "guided"}) {
        EXPECT_GT(both.at("strategies").at(strategy).at("4"), 0.7) << strategy;
        EXPECT_NEAR(both.at("strategies").at(strategy).at("12").get<double>(), 0.7, 1e-12) << strategy << ": the whole space";
    }
    EXPECT_EQ(run_aft("tune --simulate " + (folder / "none")).code, 1);
}

TEST(Tune, ComparesRecords) {
    const TemporaryFolder folder;
    for (const auto &[name, rows, seconds] : {std::tuple("old", 4, 2e-3), std::tuple("new", 8, 1e-3)})
        std::ofstream(folder / name) << json{{"kernel", "k"}, {"knobs", {{"rows", rows}, {"same", 1}}}, {"shapes", {{{"shape", "B=1"}, {"median_seconds", seconds}}}}}.dump();
    const json change = json::parse(run_aft("tune --json --compare " + (folder / "old") + " " + (folder / "new")).out)["records"][0];
    EXPECT_EQ(change.at("knobs"), json({{"rows", {4, 8}}}));
    EXPECT_DOUBLE_EQ(change.at("shapes").at(0).at("ratio"), 0.5);
    const Outcome text = run_aft("tune --compare " + (folder / "old") + " " + (folder / "new"));
    EXPECT_EQ(text.code, 0) << text.err;
    EXPECT_TRUE(holds(text.out, "k: other knobs  rows 4 -> 8")) << text.out;
    EXPECT_TRUE(holds(text.out, "x 0.500")) << text.out;
    EXPECT_FALSE(holds(text.out, "timed")) << text.out;
    json cold = parse_file(folder / "new");
    cold["cache"] = "cold";  // records of before do not name it: warm
    std::ofstream(folder / "new") << cold;
    EXPECT_EQ(json::parse(run_aft("tune --json --compare " + (folder / "old") + " " + (folder / "new")).out)["records"][0].at("cache"), json({"warm", "cold"}));
    EXPECT_TRUE(holds(run_aft("tune --compare " + (folder / "old") + " " + (folder / "new")).out, "timed warm -> cold"));
}

// Each committed record is of a kernel of this build, under its own target, and the build took it: so its space is the
// template's, its values are allowed, and the operator cases (on each table, for equality and for bits) check the kernel that it makes.
TEST(Tune, CommittedRecordsAreInUse) {
    std::map<std::string, std::string> origins;
    std::map<std::string, bool> built;
    const json info = json::parse(run_aft("info --json").out);
    for (const json &table : info.at("tables")) {
        built[table.at("target")] = true;
        for (const json &kernel : table.at("kernels")) origins[kernel.at("name")] = kernel.at("origin");
    }
    for (const auto &file : fs::recursive_directory_iterator(AFT_SOURCE_DIR "/schedules/tuned")) {
        if (file.path().extension() != ".json") continue;
        const json record = parse_file(file.path());
        const std::string target = record.at("target"), variant = record.at("variant");
        EXPECT_EQ(file.path().parent_path().filename(), target) << file.path();
        EXPECT_LT(record.at("ratio"), 1) << file.path();
        EXPECT_LE(record.at("gate").at("worst_error"), 1) << file.path();
        if (!built[target]) continue;
        const std::string symbol = record.at("kernel").get<std::string>() + "__" + target + (variant.empty() ? "" : "_" + variant);
        EXPECT_TRUE(holds(origins[symbol], file.path().filename())) << symbol << " comes from " << origins[symbol];
    }
}

// What a changed record makes again: in the build's graph its only users are the objects of its own kernel.
TEST(Tune, EditingARecordRebuildsItsKernelOnly) {
    if (std::string(AFT_NINJA).empty()) GTEST_SKIP() << "the build is not Ninja's";
    const TemporaryFolder folder;
    const json manifest = parse_file(AFT_BINARY_DIR "/kernels/manifest.json");
    int used = 0;
    for (const json &kernel : manifest.at("kernels"))
        for (const std::string record : kernel.at("records")) {
            const std::string command = std::string(AFT_NINJA) + " -C " + AFT_BINARY_DIR + " -t query " + record + " >" + (folder / "users");
            ASSERT_EQ(std::system(command.c_str()), 0) << command;
            std::ifstream in(folder / "users");
            bool outputs = false;
            for (std::string line; std::getline(in, line);) {
                EXPECT_TRUE(!outputs || holds(line, "kernels/" + kernel.at("symbol").get<std::string>() + ".")) << record << ":" << line;
                used += outputs;
                outputs |= holds(line, "outputs:");
            }
        }
    EXPECT_GT(used, 0);
}

// Several folders of records, the user's own before the committed ones: both may have one of a kernel, and the first is the best.
TEST(Tune, TheBuildTakesSeveralFoldersOfRecords) {
    const TemporaryFolder folder;
    const std::string own = folder / "own", committed = AFT_SOURCE_DIR "/schedules/tuned", tree = folder / "tree";
    fs::copy(committed, own, fs::copy_options::recursive);
    const std::string command = AFT_CMAKE " -S " AFT_SOURCE_DIR " -B " + tree + " -DAFT_BUILD_TESTS=OFF '-DAFT_TUNED_DIR=" + own + ";" + committed + "' >" + (folder / "log") + " 2>&1";
    ASSERT_EQ(std::system(command.c_str()), 0) << command << "\n" << slurp(folder / "log");
    int both = 0;
    const json manifest = parse_file(tree + "/kernels/manifest.json");
    for (const json &kernel : manifest.at("kernels")) {
        if (kernel.at("records").empty()) continue;
        const std::string file = "/" + kernel.at("target").get<std::string>() + "/" + kernel.at("record").get<std::string>() + ".json";
        EXPECT_EQ(kernel.at("records"), json({own + file, committed + file}));
        both++;
    }
    EXPECT_GT(both, 0);
}

// A record that lies in the folder of another family of targets is named and not used, even if its knob space fits.
TEST(Tune, ARecordOfAnotherFamilyIsNotUsed) {
    const TemporaryFolder folder;
    const json manifest = parse_file(AFT_BINARY_DIR "/kernels/manifest.json");
    for (const json &kernel : manifest.at("kernels")) {
        if (kernel.at("kernel") != "add_f32") continue;
        const std::string target = kernel.at("halide_target"), own = folder / "own.json", other = folder / "other.json";
        const bool wide = holds(target, "avx512");
        const json knobs = {{"rows_per_task", 4}, {"vectors", 4}};
        const auto origin = [&](const std::string &records) -> std::string {
            std::string command = kernel.at("program").get<std::string>() + " -g " + kernel.at("generator").get<std::string>() + " -f planted -e object -o " + (folder / "") + " target=" + target + " report=" + (folder / "report");
            for (const std::string parameter : kernel.at("parameters")) command += " " + parameter;
            EXPECT_EQ(std::system((command + (records.empty() ? "" : " records=" + records) + " 2>" + (folder / "err")).c_str()), 0);
            std::ifstream in(folder / "report");
            const std::string text(std::istreambuf_iterator<char>(in), {});
            const json report = json::parse(text.substr(text.find('{'), text.rfind('}') + 1 - text.find('{')));
            std::ofstream(own) << json{{"knobs", knobs}, {"fingerprint", report.at("fingerprint")}, {"target_features", target}}.dump();
            std::ofstream(other) << json{{"knobs", knobs}, {"fingerprint", report.at("fingerprint")}, {"target_features", wide ? "x86-64-linux-avx2-fma" : "x86-64-linux-avx512"}}.dump();
            return report.at("origin");
        };
        EXPECT_EQ(origin(""), "default");
        EXPECT_EQ(origin(own), own);
        EXPECT_EQ(origin(other), "default");
        std::ifstream in(folder / "err");
        const std::string warning(std::istreambuf_iterator<char>(in), {});
        EXPECT_TRUE(holds(warning, "another family")) << warning;
    }
}

}  // namespace
}  // namespace aft::test
