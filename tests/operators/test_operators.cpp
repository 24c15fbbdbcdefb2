// Every operator case on every kernel table of this build that the CPU runs.
#include <gtest/gtest.h>

#include <set>

#include "kernel_table.h"
#include "runtime/cpu.h"
#include "tests/reference/operator_case.h"

namespace aft {
namespace {

using reference::Check;
using reference::OperatorCase;

// On each table in turn; prints a skip for the ones this CPU cannot run.
void on_each_table(const OperatorCase &c, Check (*check)(const OperatorCase &)) {
    for (const KernelTable *table : kernel_tables) {
        if (!cpu_runs(table->target)) {
            // Not in GoogleTest's own words, "[  SKIPPED ]": by those CTest takes the whole test for skipped, even where another table fails.
            std::printf("skipped: table %s, which this CPU cannot run\n", table->target);
            continue;
        }
        use_kernel_table(table->target);
        const Check result = check(c);
        EXPECT_TRUE(result.passed) << c.name << " on " << table->target << ": " << result.message
                                   << "\nreproduce: aft verify --target " << table->target << " --filter '" << c.name << "'";
    }
    use_kernel_table("");
}

class Operator : public testing::TestWithParam<const OperatorCase *> {};

TEST_P(Operator, EqualsItsOracle) { on_each_table(*GetParam(), reference::check_against_oracle); }
TEST_P(Operator, SameBitsForAnyThreadCount) { on_each_table(*GetParam(), reference::check_determinism); }
class Gradients : public testing::TestWithParam<const OperatorCase *> {};

TEST_P(Gradients, OfTheOracleAreFiniteDifferences) {
    const Check result = reference::check_finite_differences(*GetParam());
    EXPECT_TRUE(result.passed) << GetParam()->name << ": " << result.message;
}

TEST(KernelTable, OneThatTheCpuLacksSkipsNoOtherTablesTest) {
    testing::internal::CaptureStdout();
    on_each_table(reference::operator_cases().front(), [](const OperatorCase &) { return Check(); });
    EXPECT_EQ(testing::internal::GetCapturedStdout().find("[  SKIPPED ]"), std::string::npos) << "by these words CTest takes a test for skipped, whatever its exit code";
}

std::vector<const OperatorCase *> cases(bool (*wanted)(const OperatorCase &)) {
    std::vector<const OperatorCase *> chosen;
    for (const OperatorCase &c : reference::operator_cases())
        if (wanted(c)) chosen.push_back(&c);
    return chosen;
}
bool is_small(const OperatorCase &c) { return !c.large; }
bool is_large(const OperatorCase &c) { return c.large; }
bool is_differentiable(const OperatorCase &c) { return !c.differentiable.empty(); }

std::string case_name(const testing::TestParamInfo<const OperatorCase *> &info) {
    std::string name = info.param->name;
    for (char &letter : name)
        if (!isalnum(static_cast<unsigned char>(letter))) letter = '_';
    return name;
}

GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(Operator);
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(Gradients);
INSTANTIATE_TEST_SUITE_P(All, Operator, testing::ValuesIn(cases(is_small)), case_name);
INSTANTIATE_TEST_SUITE_P(Long, Operator, testing::ValuesIn(cases(is_large)), case_name);
INSTANTIATE_TEST_SUITE_P(All, Gradients, testing::ValuesIn(cases(is_differentiable)), case_name);

TEST(KernelTable, EveryKernelHasACase) {
    std::set<std::string> covered;
    for (const OperatorCase &c : reference::operator_cases()) covered.insert(c.kernels.begin(), c.kernels.end());
    kernel_table("").each([&](const auto &kernel) { EXPECT_TRUE(covered.contains(kernel.name)) << kernel.name << " has no operator case"; });
}

// The list says const Tensor & for what the generator declares as an input, Tensor & for an output.
template <class... Arguments>
void expect_signature(const Kernel<Arguments...> &kernel) {
    const std::vector<bool> is_output = {std::is_same_v<Arguments, Tensor &>...};
    const std::vector<bool> is_tensor = {IsTensor<Arguments>::value...};
    for (const auto &variant : kernel.variants) {
        const halide_filter_metadata_t &metadata = *variant.metadata();
        ASSERT_EQ(size_t(metadata.num_arguments), is_output.size()) << variant.name;
        for (size_t n = 0; n < is_output.size(); n++) {
            EXPECT_EQ(metadata.arguments[n].kind == halide_argument_kind_output_buffer, is_output[n]) << variant.name << " argument " << n;
            EXPECT_EQ(metadata.arguments[n].kind != halide_argument_kind_input_scalar, is_tensor[n]) << variant.name << " argument " << n;
        }
    }
}

TEST(KernelTable, SignaturesAreTheGenerators) {
    for (const KernelTable *table : kernel_tables) table->each([](const auto &kernel) { expect_signature(kernel); });
}

}  // namespace
}  // namespace aft
