// The program's frame: exit codes, error lines, help, info, verify.
#include <gtest/gtest.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "tests/tools/program.h"

namespace aft::test {
namespace {

// One line on stderr that says what was wrong.
void expect_error(const std::string &arguments, int code, const std::string &part) {
    const Outcome o = run_aft(arguments);
    EXPECT_EQ(o.code, code) << arguments << "\n" << o.err;
    EXPECT_TRUE(o.err.starts_with("aft: error: ")) << arguments << "\n" << o.err;
    EXPECT_NE(o.err.find(part), std::string::npos) << arguments << "\n" << o.err;
    EXPECT_EQ(std::ranges::count(o.err, '\n'), 1) << o.err;
    EXPECT_EQ(o.out, "") << arguments;
}

TEST(CommandLine, WrongUsageIsTwo) {
    expect_error("", 2, "subcommand");
    expect_error("bogus", 2, "bogus");
    expect_error("info --bogus", 2, "--bogus");
    expect_error("info --threads 0", 2, "--threads");
    expect_error("info --threads many", 2, "--threads");
    expect_error("eval --model m --data d --stride 0", 2, "--stride: 0 is impossible: give 1 or more");
    expect_error("generate --model m --prompt x --tokens -1", 2, "--tokens: -1 is impossible: give 0 or more");
    expect_error("info --device cuda", 2, "--device");
    expect_error("info --quiet --verbose", 2, "--quiet");
    expect_error("verify --filter nothing_like_it", 2, "nothing_like_it");
    expect_error("verify --filter add_f32 nothing_like_it", 2, "nothing_like_it");
    expect_error("bench step --batch 0", 2, "(see aft bench step --help)");
}

TEST(CommandLine, FailureIsOne) { expect_error("info --target i486", 1, "i486"); }

TEST(CommandLine, AResultThatIsNotWrittenIsAFailure) {
    if (!std::filesystem::exists("/dev/full")) GTEST_SKIP() << "no /dev/full on this machine";
    for (const std::string command : {"info", "info --json", "op --list", "train --list"}) {
        const TemporaryFolder folder;
        const int status = std::system((std::string(AFT_PROGRAM) + " " + command + " >/dev/full 2>" + (folder / "err")).c_str());
        EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 1) << command;
        std::ifstream err(folder / "err");
        std::string line;
        std::getline(err, line);
        EXPECT_TRUE(line.starts_with("aft: error: ")) << command << ": " << line;
    }
}

// An emulated processor of 2008 stands for an old machine.
TEST(CommandLine, AnOlderCpuIsTold) {
    if (std::system("qemu-x86_64 --version >/dev/null 2>&1") != 0) GTEST_SKIP() << "no qemu-x86_64 on this machine (Debian: qemu-user)";
    if (std::system(("qemu-x86_64 -cpu Nehalem " AFT_PROGRAM " --version >/dev/null 2>&1")) != 0) GTEST_SKIP() << "qemu-x86_64 cannot run this build";
    const TemporaryFolder folder;
    const int status = std::system(("qemu-x86_64 -cpu Nehalem " AFT_PROGRAM " info 2>" + (folder / "err")).c_str());
    ASSERT_TRUE(WIFEXITED(status));
    EXPECT_EQ(WEXITSTATUS(status), 1);
    std::ifstream err(folder / "err");
    std::string line;
    std::getline(err, line);
    EXPECT_NE(line.find("this CPU runs none of the kernel tables"), std::string::npos) << line;
}

TEST(CommandLine, HelpAndVersion) {
    EXPECT_TRUE(run_aft("--version").out.starts_with("aft "));
    for (const char *command : {"", "train", "eval", "generate", "logits", "op", "verify", "info"}) {
        const Outcome o = run_aft(std::string(command) + " --help");
        EXPECT_EQ(o.code, 0);
        EXPECT_NE(o.out.find("Example: aft "), std::string::npos) << o.out;
        EXPECT_EQ(o.err, "");
    }
}

TEST(Info, NamesKernelsAndTheirOrigin) {
    EXPECT_EQ(run_aft("info").code, 0);
    const Outcome o = run_aft("info --json --threads 1");
    ASSERT_EQ(o.code, 0) << o.err;
    const auto info = nlohmann::json::parse(o.out);
    EXPECT_EQ(info.at("threads"), 1);
    EXPECT_TRUE(info.at("dependencies").contains("Halide"));
    int in_use = 0;
    for (const auto &table : info.at("tables")) {
        in_use += table.at("in_use").get<bool>();
        EXPECT_FALSE(table.at("kernels").empty());
        for (const auto &kernel : table.at("kernels")) EXPECT_FALSE(kernel.at("origin").get<std::string>().empty());
    }
    EXPECT_EQ(in_use, 1);
}

TEST(Verify, FilterChoosesKernelsAndCases) {
    const Outcome by_kernel = run_aft("verify --json --filter gemm_tn_f32");
    ASSERT_EQ(by_kernel.code, 0) << by_kernel.err;
    const auto result = nlohmann::json::parse(by_kernel.out);
    EXPECT_TRUE(result.at("passed").get<bool>());
    for (const auto &table : result.at("tables")) {
        ASSERT_EQ(table.at("kernels").size(), 1u);
        EXPECT_EQ(table.at("kernels")[0].at("kernel"), "gemm_tn_f32");
        EXPECT_GT(table.at("kernels")[0].at("cases"), 1);
        EXPECT_LE(table.at("kernels")[0].at("worst"), 1.0);
    }
    const Outcome by_case = run_aft("verify --json --filter 'aft_simple causal B=3 T=33 *'");
    ASSERT_EQ(by_case.code, 0) << by_case.err;
    const auto one = nlohmann::json::parse(by_case.out);
    EXPECT_EQ(one.at("cases"), 1);
    EXPECT_EQ(one.at("tables")[0].at("kernels").size(), 6u);  // forward, replay, backward; bounded forward, queries, keys
    const Outcome by_both = run_aft("verify --json --filter add_f32 --filter gemm_tn_f32 'gemm_tn_*'");  // a case of two filters runs once
    ASSERT_EQ(by_both.code, 0) << by_both.err;
    const auto both = nlohmann::json::parse(by_both.out);
    EXPECT_EQ(both.at("tables")[0].at("kernels").size(), 2u);
    EXPECT_EQ(both.at("cases"), result.at("cases").get<int>() + nlohmann::json::parse(run_aft("verify --json --filter add_f32").out).at("cases").get<int>());
}

TEST(Verify, PrintsALinePerKernelAndASummary) {
    const Outcome o = run_aft("verify --filter 'aft_simple_gate*'");
    EXPECT_EQ(o.code, 0);
    EXPECT_NE(o.out.find("aft_simple_gate_backward_f32"), std::string::npos) << o.out;
    EXPECT_NE(o.out.find("kernels pass"), std::string::npos) << o.out;
}

TEST(Verify, LargeCasesAreNamedWhenOnlyTheyMatch) {
    expect_error("verify --filter 'aft_simple*T=65536*'", 2, "--large");
}

}  // namespace
}  // namespace aft::test
