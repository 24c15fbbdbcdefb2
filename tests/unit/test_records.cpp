// Which knob values a generator takes: given ones, the first record that fits, the defaults.
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "schedules/record.h"

namespace aft {
namespace {

using nlohmann::json;

void plan(Knobs &knobs) {
    const int rows = knobs("rows", 4, {2, 4, 8}, "rows");
    const int vectors = knobs("vectors", 2, {1, 2}, "vectors");
    knobs.require(rows * vectors <= 8, "registers");
}

struct Records {
    std::filesystem::path folder = std::filesystem::temp_directory_path() / ("aft_records_" + std::to_string(getpid()));
    Records() { std::filesystem::create_directories(folder); }
    ~Records() { std::filesystem::remove_all(folder); }
    std::string write(const std::string &name, const std::string &text) const {
        std::ofstream(folder / name) << text;
        return (folder / name).string();
    }
    std::string record(const std::string &name, int rows, int vectors, const std::string &fingerprint) const {
        return write(name, json{{"knobs", {{"rows", rows}, {"vectors", vectors}}}, {"fingerprint", fingerprint}}.dump());
    }
};

std::string fingerprint() {
    Knobs knobs;
    plan(knobs);
    return knobs.fingerprint();
}

TEST(Records, TheFirstThatFitsIsTaken) {
    const Records r;
    const std::string good = r.record("good.json", 8, 1, fingerprint()), second = r.record("second.json", 2, 2, fingerprint());
    Knobs taken = choose(plan, "", good + "," + second);
    EXPECT_EQ(taken.origin(), good);
    EXPECT_EQ(taken.values(), (Knobs::Values{{"rows", 8}, {"vectors", 1}}));
    for (const std::string &bad : {r.record("stale.json", 8, 1, "0123456789abcdef"), r.record("broken_requirement.json", 8, 2, fingerprint()), r.record("no_candidate.json", 3, 1, fingerprint()),
                                   r.write("half.json", "{\"knobs\": {"), r.write("list.json", "[]"), r.write("words.json", "{\"knobs\": {\"rows\": \"many\"}, \"fingerprint\": \"x\"}"),
                                   r.write("more.json", json{{"knobs", {{"rows", 4}, {"vectors", 2}, {"extra", 1}}}, {"fingerprint", fingerprint()}}.dump()), (r.folder / "missing.json").string()}) {
        testing::internal::CaptureStderr();
        EXPECT_EQ(choose(plan, "", bad + "," + second).origin(), second) << bad;
        EXPECT_NE(testing::internal::GetCapturedStderr().find("is not used"), std::string::npos) << bad;
        testing::internal::CaptureStderr();
        EXPECT_EQ(choose(plan, "", bad).origin(), "default") << bad;
        testing::internal::GetCapturedStderr();
    }
}

TEST(Records, GivenValuesMustFit) {
    const Records r;
    EXPECT_EQ(choose(plan, "rows:2,vectors:2", r.record("good.json", 8, 1, fingerprint())).values(), (Knobs::Values{{"rows", 2}, {"vectors", 2}}));
    EXPECT_THROW(choose(plan, "rows:8,vectors:2", ""), std::runtime_error);
    EXPECT_THROW(choose(plan, "rows:5,vectors:1", ""), std::runtime_error);
    EXPECT_THROW(choose(plan, "columns:5", ""), std::runtime_error);
    EXPECT_THROW(choose(plan, "rows", ""), std::runtime_error);
}

TEST(Records, TheFingerprintIsOfTheSpace) {
    Knobs values({{"rows", 8}, {"vectors", 1}}), other;
    plan(values);
    EXPECT_EQ(values.fingerprint(), fingerprint());
    other("rows", 4, {2, 4}, "rows");
    EXPECT_NE(other.fingerprint(), fingerprint());
}

}  // namespace
}  // namespace aft
