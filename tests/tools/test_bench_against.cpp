// aft bench --against: what each build is started with and asked, what becomes of the times, and what is said of a program that
// is no build of aft. The other build is a shell script with times of its own, or this program again.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "tests/tools/program.h"

namespace aft::test {
namespace {

using nlohmann::json;

const std::string two_products = "bench --json --samples 3 --min-time 0 --filter gemm_n?_f32 --shape M=32,N=48,K=16 --against ";

// A build that answers with a time of its own and keeps how it was started and what it was asked.
struct OtherBuild {
    TemporaryFolder folder;
    std::string program = folder / "aft";

    explicit OtherBuild(const std::string &run = "echo '{\"seconds\": 2.5, \"calls\": 1}'") {
        std::ofstream(program) << "#!/bin/sh\necho \"$@\" >> " << (folder / "starts") << "\necho '{\"ready\": \"aft 9\", \"note\": \"table x\"}'\nwhile read -r line; do\n"
                               << "  echo \"$line\" >> " << (folder / "asked") << "\n  case \"$line\" in\n    *prepare*gemm_nt*|*gemm_nt*prepare*) echo '{\"missing\": \"no such thing\"}';;\n"
                               << "    *prepare*) echo '{\"id\": 7}';;\n    *) " << run << ";;\n  esac\ndone\n";
        std::filesystem::permissions(program, std::filesystem::perms::owner_all);
    }
    int count(const std::string &file, const std::string &part) const {
        std::ifstream in(folder / file);
        int n = 0;
        for (std::string line; std::getline(in, line);) n += line.find(part) != std::string::npos;
        return n;
    }
};

json result_of(const Outcome &ran) {
    EXPECT_EQ(ran.code, 0) << ran.err;
    return json::parse(ran.out, nullptr, false);
}

TEST(BenchAgainst, StartsBothAfreshForEachSample) {
    const OtherBuild other;
    const Outcome ran = run_aft(two_products + other.program + " --threads 2 --target avx2");
    const json found = result_of(ran);
    ASSERT_EQ(found.at("benchmarks").size(), 1u) << "what the other build lacks is left out";
    EXPECT_NE(ran.err.find("gemm_nt_f32/K:16/M:32/N:48 is left out: the other build says: no such thing"), std::string::npos) << ran.err;
    const json &entry = found.at("benchmarks")[0];
    EXPECT_EQ(entry.at("name"), "gemm_nn_f32/K:16/M:32/N:48");
    EXPECT_EQ(entry.at("samples"), 3);
    EXPECT_DOUBLE_EQ(entry.at("other_time").get<double>(), 2.5e9);
    EXPECT_NEAR(entry.at("ratio").get<double>(), 2.5e9 / entry.at("real_time").get<double>(), 1e-9 * entry.at("ratio").get<double>());
    EXPECT_EQ(entry.at("verdict"), "faster");
    EXPECT_EQ(other.count("starts", "bench-peer --threads 2 --target avx2"), 3 + 1);  // and once for what it lacks
    EXPECT_GE(other.count("asked", "\"run\":7"), 2 * 3);
    EXPECT_EQ(other.count("asked", "\"shape\":{\"K\":16,\"M\":32,\"N\":48}"), 3 + 1);
    const json &against = found.at("context").at("against");
    EXPECT_EQ(against.at("description"), "aft 9, table x");
    EXPECT_EQ(against.at("verdicts"), json({{"faster", 1}}));
    EXPECT_NEAR(against.at("geometric_mean").get<double>(), entry.at("ratio").get<double>(), 1e-9 * entry.at("ratio").get<double>());
}

TEST(BenchAgainst, SaysSlowerOfAFasterOtherBuild) {
    const OtherBuild other("echo '{\"seconds\": 1e-12, \"calls\": 1}'");  // no machine multiplies matrices in that
    std::string text = two_products + other.program;
    const Outcome ran = run_aft(text.erase(text.find("--json "), 7) + " --threads 1");
    EXPECT_EQ(ran.code, 0) << ran.err;
    for (const char *part : {"aft 9, table x", " slower\n", "geometric mean of 1"}) EXPECT_NE(ran.out.find(part), std::string::npos) << part << ran.out;
}

TEST(BenchAgainst, ThisProgramAnswersItself) {
    TemporaryFolder folder;
    std::ofstream(folder / "tiny.txt") << "gemm_nn_f32 M=32,N=48,K=16\naft_local_causal_* B=2,T=8,C=16,D=4,W=3\ndecode_full B=2,T=8,C=16,D=4\n";
    const json found = result_of(run_aft("bench --json --samples 2 --min-time 0 --threads 1 --shapes " + (folder / "tiny.txt") + " --against " AFT_PROGRAM " --output " + (folder / "out.json")));
    ASSERT_EQ(found.at("benchmarks").size(), 4u);
    EXPECT_EQ(json::parse(slurp(folder / "out.json")), found);
    for (const json &entry : found.at("benchmarks")) {
        EXPECT_GT(entry.at("real_time").get<double>(), 0) << entry;
        EXPECT_GT(entry.at("other_time").get<double>(), 0) << entry;
    }
    EXPECT_EQ(found.at("context").at("against").at("threads"), 1);
    const json steps = result_of(run_aft("bench step --json --preset tiny-local --context 32 --batch 1 2 --samples 1 --against " AFT_PROGRAM)).at("benchmarks");
    ASSERT_EQ(steps.size(), 2u);
    EXPECT_EQ(steps[1].at("name"), "step/tiny-local/batch:2/context:32");
    const json tokens = result_of(run_aft("bench decode --json --preset tiny-local --context 32 --batch 3 --samples 1 --against " AFT_PROGRAM)).at("benchmarks");
    ASSERT_EQ(tokens.size(), 1u);
    EXPECT_EQ(tokens[0].at("name"), "decode/tiny-local/batch:3");
}

TEST(BenchAgainst, SaysWhatIsNoBuild) {
    TemporaryFolder folder;
    const OtherBuild dies("exit 3"), timeless("echo '{}'");
    for (const auto &[program, said] : {std::pair<std::string, std::string>{"/nowhere/aft", "No such file"}, {"false", "it ended"}, {dies.program, "it ended"}, {timeless.program, "gives no time"}}) {
        std::ofstream(folder / "kept.json") << "{}";
        const Outcome ran = run_aft("bench --samples 3 --min-time 0 --filter gemm_nn_f32 --shape M=32,N=48,K=16 --against " + program + " --output " + (folder / "kept.json"));
        EXPECT_EQ(ran.code, 1) << program;
        EXPECT_NE(ran.err.find("'" + program + "'"), std::string::npos) << ran.err;
        EXPECT_NE(ran.err.find(said), std::string::npos) << ran.err;
        EXPECT_EQ(std::ranges::count(ran.err, '\n'), 1) << ran.err;
        EXPECT_EQ(slurp(folder / "kept.json"), "{}");
    }
}

TEST(BenchAgainst, RefusesWhatItCannotDoBeside) {
    for (const char *arguments : {"--cold", "--peer torch", "--scaling", "--plot x.svg", "--compare x.json"}) EXPECT_EQ(run_aft(two_products + AFT_PROGRAM " " + arguments).code, 2) << arguments;
    EXPECT_EQ(run_aft("bench step --peer torch --against " AFT_PROGRAM).code, 2);
    const Outcome misplaced = run_aft("bench --against " AFT_PROGRAM " step");
    EXPECT_EQ(misplaced.code, 2);
    EXPECT_NE(misplaced.err.find("behind its name"), std::string::npos) << misplaced.err;
}

}  // namespace
}  // namespace aft::test
