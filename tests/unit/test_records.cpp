// Which knob values a generator takes: given ones, the first record that fits, the defaults.
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "schedules/machine.h"
#include "schedules/record.h"
#include "tools/tuner/tuned_record.h"

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
    std::string record(const std::string &name, int rows, int vectors, const std::string &fingerprint, const std::string &features = "ours") const {
        return write(name, json{{"knobs", {{"rows", rows}, {"vectors", vectors}}}, {"fingerprint", fingerprint}, {"target_features", features}}.dump());
    }
};

Knobs chosen(const std::string &given, const std::string &records) {
    return choose(plan, given, records, [](const std::string &features) { return features == "ours"; });
}

std::string fingerprint() {
    Knobs knobs;
    plan(knobs);
    return knobs.fingerprint();
}

TEST(Records, TheFirstThatFitsIsTaken) {
    const Records r;
    const std::string good = r.record("good.json", 8, 1, fingerprint()), second = r.record("second.json", 2, 2, fingerprint());
    Knobs taken = chosen("", good + "," + second);
    EXPECT_EQ(taken.origin(), good);
    EXPECT_EQ(taken.values(), (Knobs::Values{{"rows", 8}, {"vectors", 1}}));
    for (const std::string &bad : {r.record("stale.json", 8, 1, "0123456789abcdef"), r.record("broken_requirement.json", 8, 2, fingerprint()), r.record("no_candidate.json", 3, 1, fingerprint()),
                                   r.record("other_family.json", 8, 1, fingerprint(), "theirs"), r.write("no_family.json", json{{"knobs", {{"rows", 8}, {"vectors", 1}}}, {"fingerprint", fingerprint()}}.dump()),
                                   r.write("half.json", "{\"knobs\": {"), r.write("list.json", "[]"), r.write("words.json", "{\"knobs\": {\"rows\": \"many\"}, \"fingerprint\": \"x\"}"),
                                   r.write("more.json", json{{"knobs", {{"rows", 4}, {"vectors", 2}, {"extra", 1}}}, {"fingerprint", fingerprint()}, {"target_features", "ours"}}.dump()), (r.folder / "missing.json").string()}) {
        testing::internal::CaptureStderr();
        EXPECT_EQ(chosen("", bad + "," + second).origin(), second) << bad;
        EXPECT_NE(testing::internal::GetCapturedStderr().find("is not used"), std::string::npos) << bad;
        testing::internal::CaptureStderr();
        EXPECT_EQ(chosen("", bad).origin(), "default") << bad;
        testing::internal::GetCapturedStderr();
    }
}

TEST(Records, GivenValuesMustFit) {
    const Records r;
    EXPECT_EQ(chosen("rows:2,vectors:2", r.record("good.json", 8, 1, fingerprint())).values(), (Knobs::Values{{"rows", 2}, {"vectors", 2}}));
    EXPECT_THROW(chosen("rows:8,vectors:2", ""), std::runtime_error);
    EXPECT_THROW(chosen("rows:5,vectors:1", ""), std::runtime_error);
    EXPECT_THROW(chosen("columns:5", ""), std::runtime_error);
    EXPECT_THROW(chosen("rows", ""), std::runtime_error);
}

TEST(Records, DefaultsThatTheirConstraintsForbidAreAnError) {
    const auto broken = [](Knobs &knobs) { knobs.require(knobs("rows", 4, {2, 4}, "rows") < 4, "registers"); };
    const auto any = [](const std::string &) { return true; };
    EXPECT_THROW(choose(broken, "", "", any), std::logic_error);
    EXPECT_THROW(choose(broken, "rows:2", "", any), std::logic_error) << "also where they are not used";
}

TEST(Records, TheFingerprintIsOfTheSpace) {
    Knobs values({{"rows", 8}, {"vectors", 1}}), other;
    plan(values);
    EXPECT_EQ(values.fingerprint(), fingerprint());
    other("rows", 4, {2, 4}, "rows");
    EXPECT_NE(other.fingerprint(), fingerprint());
}

// What the tuner writes is what the build takes, and says how it was timed; a record from before cold calls does not.
TEST(Records, OfWarmAndOfColdCalls) {
    const Records r;
    tool::Space space;
    space.fingerprint = fingerprint();
    tool::Winner winner;
    winner.knobs = {{"rows", 8}, {"vectors", 1}};
    tool::ManifestEntry entry;
    entry.kernel = "planted_f32", entry.halide_target = "ours";
    for (const bool cold : {false, true}) {
        winner.cold = cold;
        const json record = make_record(tool::Manifest(), entry, space, winner);
        EXPECT_EQ(record.at("cache"), cold ? "cold" : "warm");
        json before = record;
        before.erase("cache");
        for (const json &each : {record, before}) {
            const std::string file = r.write("record.json", each.dump());
            EXPECT_EQ(chosen("", file).origin(), file);
            EXPECT_EQ(chosen("", file).values(), winner.knobs);
        }
    }
}

// A later knob leaves records that do not name it valid, at its default; a record that names it is of the whole space.
TEST(Records, ALaterKnobKeepsOldRecords) {
    const auto grown = [](Knobs &knobs) {
        plan(knobs);
        knobs.later("pack", 1, {0, 1}, "pack");
        knobs.later("order", 0, {0, 1}, "order");
    };
    const auto read = [&](const std::string &file) { return choose(grown, "", file, [](const std::string &) { return true; }); };
    Knobs now;
    grown(now);
    EXPECT_NE(now.fingerprint(), fingerprint());
    Knobs between({{"pack", 0}});
    plan(between);
    between.later("pack", 1, {0, 1}, "pack");

    const Records r;
    const auto record = [&](const std::string &name, Knobs::Values values, const std::string &fingerprint) {
        return r.write(name, json{{"knobs", values}, {"fingerprint", fingerprint}, {"target_features", "ours"}}.dump());
    };
    const std::string old = r.record("old.json", 8, 1, fingerprint());
    EXPECT_EQ(read(old).origin(), old);
    EXPECT_EQ(read(old).values(), (Knobs::Values{{"rows", 8}, {"vectors", 1}, {"pack", 1}, {"order", 0}}));
    const std::string middle = record("middle.json", {{"rows", 8}, {"vectors", 1}, {"pack", 0}}, between.fingerprint());
    EXPECT_EQ(read(middle).values(), (Knobs::Values{{"rows", 8}, {"vectors", 1}, {"pack", 0}, {"order", 0}}));
    const std::string whole = record("whole.json", {{"rows", 8}, {"vectors", 1}, {"pack", 0}, {"order", 1}}, now.fingerprint());
    EXPECT_EQ(read(whole).origin(), whole);
    testing::internal::CaptureStderr();
    EXPECT_EQ(read(record("mixed.json", {{"rows", 8}, {"vectors", 1}, {"pack", 0}}, fingerprint())).origin(), "default");
    EXPECT_EQ(read(r.record("stale.json", 8, 1, "0123456789abcdef")).origin(), "default");
    EXPECT_NE(testing::internal::GetCapturedStderr().find("is not used"), std::string::npos);
}

TEST(Records, AFamilyIsOneVectorWidth) {
    const std::string avx2 = "x86-64-linux-sse41-avx-f16c-fma-avx2", avx512 = avx2 + "-avx512-avx512_skylake";
    const Halide::Target narrow(avx2), wide(avx512);
    EXPECT_TRUE(same_family(avx2 + "-no_runtime-no_bounds_query", narrow));
    EXPECT_TRUE(same_family(avx512, wide));
    EXPECT_TRUE(same_family(avx512 + "-avx512_sapphirerapids", wide));
    EXPECT_FALSE(same_family(avx512, narrow));
    EXPECT_FALSE(same_family(avx2, wide));
    EXPECT_FALSE(same_family("arm-64-linux", narrow));
    EXPECT_FALSE(same_family(avx2 + "-cuda-cuda_capability_80", narrow));
    EXPECT_FALSE(same_family("a made-up machine", narrow));
    EXPECT_FALSE(same_family("", narrow));
}

}  // namespace
}  // namespace aft
