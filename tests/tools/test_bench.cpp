// aft bench: its options, its files, its comparison. No test looks at how fast anything is.
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "tests/tools/program.h"

namespace aft::test {
namespace {

using nlohmann::json;

const std::string tiny = "bench --samples 2 --min-time 0 --filter gemm_nt_f32 --shape M=32,N=48,K=16 ";
const std::string tiny_name = "gemm_nt_f32/K:16/M:32/N:48";

json run_tiny(const std::string &more = "") {
    const Outcome ran = run_aft(tiny + "--json " + more);
    EXPECT_EQ(ran.code, 0) << ran.err;
    return json::parse(ran.out, nullptr, false);
}

TEST(Bench, RefusesWrongShapesFiltersAndFiles) {
    TemporaryFolder folder;
    std::ofstream(folder / "bad.txt") << "gemm_nt_f32 M=8,N=8,K=8\n\ngemm_nt_f32 M=8,N=8 K=8\n";
    for (const char *arguments :
         {"--shape M=8,N=", "--shape M=0,N=1,K=1", "--shape M=8,M=8,K=1", "--shape M=8x,N=1,K=1", "--shape Z=1", "--shape M=99999999999999999999,N=1,K=1", "--filter no_such_kernel",
          "--filter gemm_nt_f32 no_such_kernel", "--samples 0", "--scaling --threads 1", "--shapes /nowhere/shapes.txt", "--shapes /dev/null", "--shapes /"}) {
        const Outcome ran = run_aft(std::string("bench --list ") + arguments);
        EXPECT_EQ(ran.code, 2) << arguments;
        EXPECT_NE(ran.err.find("aft: error: "), std::string::npos) << arguments;
    }
    const Outcome ran = run_aft("bench --list --shapes " + (folder / "bad.txt"));
    EXPECT_EQ(ran.code, 2);
    EXPECT_NE(ran.err.find("bad.txt:3:"), std::string::npos) << ran.err;
}

TEST(Bench, ListsShapesOfAFile) {
    TemporaryFolder folder;
    std::ofstream(folder / "shapes.txt") << "# two products\ngemm_n?_f32 M=5,N=6,K=7  # both layouts\n";
    const Outcome ran = run_aft("bench --list --shapes " + (folder / "shapes.txt"));
    EXPECT_EQ(ran.code, 0) << ran.err;
    EXPECT_NE(ran.out.find("gemm_nn_f32"), std::string::npos);
    EXPECT_NE(ran.out.find("gemm_nt_f32"), std::string::npos);
    EXPECT_EQ(ran.out.find("gemm_tn_f32"), std::string::npos);
    EXPECT_NE(ran.out.find("K=7,M=5,N=6"), std::string::npos) << ran.out;
}

// Cold, a product of decoding meets weights where a token's other weights have left them; any other kernel's operands are in memory.
TEST(Bench, ColdCallsOfLayersAreHeldAgainstWhereWeightsLie) {
    const Outcome ran = run_aft("bench --json --samples 1 --min-time 0 --cold --shape M=1,N=64,K=64 --filter gemm_panels_bias_f32 --filter gemm_nt_f32");
    ASSERT_EQ(ran.code, 0) << ran.err;
    const json found = json::parse(ran.out).at("benchmarks");
    ASSERT_EQ(found.size(), 2u);
    for (const json &entry : found) {
        const std::string name = entry.at("name");
        EXPECT_EQ(entry.at("cache"), "cold") << name;
        EXPECT_GT(entry.at("share_of_limit"), 0) << name;
        if (name.starts_with("gemm_nt")) {
            EXPECT_EQ(entry.at("limited_by"), "DRAM");
        }
    }
}

TEST(Bench, JsonHasGoogleBenchmarksForm) {
    for (const std::string more : {"", "--cold", "--threads 1"}) {
        const json found = run_tiny(more);
        ASSERT_FALSE(found.is_discarded());
        for (const char *key : {"date", "host_name", "num_cpus", "caches", "load_avg", "limits"}) EXPECT_TRUE(found.at("context").contains(key)) << key;
        ASSERT_EQ(found.at("benchmarks").size(), 1u);
        const json &entry = found.at("benchmarks")[0];
        EXPECT_EQ(entry.at("name"), tiny_name + (std::string(more) == "--cold" ? "/cold" : ""));
        EXPECT_EQ(entry.at("run_type"), "iteration");
        EXPECT_EQ(entry.at("time_unit"), "ns");
        EXPECT_EQ(entry.at("samples"), 2);
        for (const char *key : {"real_time", "cpu_time", "iterations", "share_of_limit", "flops_per_second", "bytes_per_second"}) EXPECT_GT(entry.at(key).get<double>(), 0) << key;
        EXPECT_GE(entry.at("spread").get<double>(), 0);
        const json &limits = found.at("context").at("limits");
        EXPECT_GT(limits.at("fma_flops_per_second").get<double>(), 0);
        // Some twenty times apart where nobody disturbs: waiting threads must not count as slow memory.
        EXPECT_GT(limits.at("L1").at("read_bytes_per_second"), limits.at("DRAM").at("read_bytes_per_second")) << limits;
        for (const char *level : {"L1", "L2", "L3", "DRAM"})
            for (const char *loop : {"read", "copy", "three_reads_one_write", "update"})
                EXPECT_GT(limits.at(level).at(std::string(loop) + "_bytes_per_second").get<double>(), 0) << level << " " << loop;
    }
}

TEST(Bench, ScalingHoldsThreadsAgainstOne) {
    const json entry = run_tiny("--threads 2 --scaling").at("benchmarks").at(0);
    for (const char *key : {"one_thread_time", "scaling"}) EXPECT_GT(entry.at(key).get<double>(), 0) << key;
    EXPECT_DOUBLE_EQ(entry.at("scaling").get<double>(), entry.at("one_thread_time").get<double>() / entry.at("real_time").get<double>());
    const Outcome ran = run_aft(tiny + "--threads 2 --scaling");
    EXPECT_NE(ran.out.find("  one thread "), std::string::npos) << ran.out;
}

TEST(Bench, WritesFilesAndTable) {
    TemporaryFolder folder;
    const Outcome ran = run_aft(tiny + "--output " + (folder / "run.json") + " --plot " + (folder / "roofline.svg"));
    EXPECT_EQ(ran.code, 0) << ran.err;
    EXPECT_NE(ran.out.find(tiny_name), std::string::npos);
    EXPECT_EQ(json::parse(slurp(folder / "run.json")).at("benchmarks").size(), 1u);
    const std::string picture = slurp(folder / "roofline.svg");
    EXPECT_TRUE(picture.starts_with("<svg ") && picture.ends_with("</svg>\n"));
    EXPECT_NE(picture.find(tiny_name), std::string::npos);
    EXPECT_EQ(picture.find("nan"), std::string::npos);
    for (const char *file : {"--output /nowhere/run.json", "--plot /nowhere/roofline.svg"}) {
        const Outcome lost = run_aft(tiny + file);
        EXPECT_EQ(lost.code, 1);
        EXPECT_EQ(lost.out, "") << "measured for nothing";
    }
    // Neither an earlier file is touched before there is a new one, nor is an empty one left.
    EXPECT_EQ(run_aft(tiny + "--output " + (folder / "run.json") + " --plot /nowhere/roofline.svg").code, 1);
    EXPECT_EQ(json::parse(slurp(folder / "run.json")).at("benchmarks").size(), 1u);
    EXPECT_EQ(run_aft(tiny + "--output " + (folder / "new.json") + " --plot /nowhere/roofline.svg").code, 1);
    EXPECT_FALSE(std::filesystem::exists(folder / "new.json"));
}

TEST(Bench, ComparisonShowsAPlantedSlowdown) {
    TemporaryFolder folder;
    json before = run_tiny();
    json &time = before["benchmarks"][0]["real_time"];
    time = 1e-3;  // nanoseconds: no machine is that fast, however one of the two runs is disturbed
    before["benchmarks"][0]["spread"] = 0.01;
    std::ofstream(folder / "before.json") << before;

    const Outcome ran = run_aft(tiny + "--compare " + (folder / "before.json"));
    EXPECT_EQ(ran.code, 0) << ran.err;
    EXPECT_NE(ran.out.find("slower"), std::string::npos) << ran.out;
    EXPECT_EQ(ran.out.find("- slower"), std::string::npos) << "both runs know the limit: " << ran.out;

    json after = before;
    after["benchmarks"][0]["real_time"] = time.get<double>() * 2;
    std::ofstream(folder / "after.json") << after;
    const Outcome slower = run_aft("bench --json --compare " + (folder / "before.json") + " " + (folder / "after.json"));
    EXPECT_EQ(slower.code, 0) << slower.err;
    const json found = json::parse(slower.out);
    EXPECT_EQ(found.at(0).at("name"), tiny_name);
    EXPECT_EQ(found.at(0).at("verdict"), "slower");
    EXPECT_DOUBLE_EQ(found.at(0).at("ratio"), 0.5);
    const Outcome same = run_aft("bench --json --compare " + (folder / "before.json") + " " + (folder / "before.json"));
    EXPECT_EQ(json::parse(same.out).at(0).at("verdict"), "same");
    EXPECT_EQ(same.err, "");
    after["benchmarks"][0]["limit_time"] = 2 * before["benchmarks"][0]["limit_time"].get<double>();  // the machine was half as fast, the kernel is as good
    std::ofstream(folder / "after.json") << after;
    const Outcome slow_machine = run_aft("bench --json --compare " + (folder / "before.json") + " " + (folder / "after.json"));
    EXPECT_EQ(json::parse(slow_machine.out).at(0).at("verdict"), "same");
    EXPECT_DOUBLE_EQ(json::parse(slow_machine.out).at(0).at("share_ratio"), 1);
    after["context"]["limits"]["threads"] = 99;
    std::ofstream(folder / "after.json") << after;
    const Outcome other = run_aft("bench --compare " + (folder / "before.json") + " " + (folder / "after.json"));
    EXPECT_NE(other.err.find("and 99"), std::string::npos) << other.err;

    for (const auto &[text, said] : {std::pair{"{\"benchmarks\": 3}", "lacks the list 'benchmarks'"}, {"{\"benchmarks\"", "no valid JSON at byte"},
                                     {"{\"benchmarks\": [{\"name\": \"x\", \"real_time\": 1, \"time_unit\": \"days\"}]}", "time_unit 'days'"}}) {
        std::ofstream(folder / "none.json") << text;
        const Outcome refused = run_aft(tiny + "--compare " + (folder / "none.json"));
        EXPECT_EQ(refused.code, 1);
        EXPECT_NE(refused.err.find(said), std::string::npos) << refused.err;
        EXPECT_EQ(refused.err.find("json.exception"), std::string::npos) << refused.err;
    }
    for (const std::string &place : {std::string("/nowhere/before.json"), folder / ""}) {
        const Outcome refused = run_aft(tiny + "--compare " + place);
        EXPECT_EQ(refused.code, 1);
        EXPECT_NE(refused.err.find("'" + place + "'"), std::string::npos) << refused.err;
    }
}

}  // namespace
}  // namespace aft::test
