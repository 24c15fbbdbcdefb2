// The thread pool: every index once, loops inside loops, the lowest failure, threads that sleep and that still look, phases.
#include "runtime/parallel.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <numeric>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "aft/error.h"
#include "aft/threads.h"

namespace aft {
namespace {

struct Threads {
    int before = thread_count();
    ~Threads() { set_thread_count(before); }
};

TEST(Parallel, EveryIndexOnceForAnyThreadCount) {
    const Threads restore;
    for (int threads : {2, 4, 1, 3}) {
        set_thread_count(threads);
        for (int round = 0; round < 300; round++) {
            std::vector<int> visits(37);
            parallel_for(37, [&](int64_t n) { visits[size_t(n)]++; });
            ASSERT_EQ(visits, std::vector<int>(37, 1)) << threads << " threads, round " << round;
            if (round % 50 == 0) std::this_thread::sleep_for(std::chrono::milliseconds(2));  // long enough for the others to fall asleep
        }
    }
}

TEST(Parallel, ALoopInsideALoopRunsWhereItIs) {
    const Threads restore;
    set_thread_count(3);
    std::vector<int64_t> sums(20);
    parallel_for(20, [&](int64_t n) {
        const auto here = std::this_thread::get_id();
        parallel_for(10, [&](int64_t m) {
            EXPECT_EQ(std::this_thread::get_id(), here);
            sums[size_t(n)] += m;
        });
    });
    EXPECT_EQ(sums, std::vector<int64_t>(20, 45));
}

TEST(Parallel, TheLowestFailureIsTheMessage) {
    const Threads restore;
    for (int threads : {1, 2, 4}) {
        set_thread_count(threads);
        for (int round = 0; round < 100; round++) try {
                parallel_for(50, [](int64_t n) {
                    if (n >= 7) throw std::runtime_error("index " + std::to_string(n));
                });
                FAIL() << "nothing was thrown";
            } catch (const Error &error) {
                ASSERT_STREQ(error.what(), "index 7");
            }
        int calls = 0;
        parallel_for(1, [&](int64_t) { calls++; });  // the pool works on
        EXPECT_EQ(calls, 1);
    }
    EXPECT_THROW(set_thread_count(0), Error);
}

// A part sees all that the phases before wrote, whichever thread wrote it, and each part of each phase runs once.
TEST(Parallel, APhaseSeesTheWholePhaseBefore) {
    const Threads restore;
    for (int threads : {1, 2, 3, 5})
        for (int parts : {1, 2, 3, 7, 32}) {
            set_thread_count(threads);
            for (int round = 0; round < 20; round++) {
                constexpr int phases = 40;
                std::vector<std::vector<int64_t>> values(phases, std::vector<int64_t>(size_t(parts), -1));
                parallel_phases(phases, parts, [&](int phase, int part) {
                    int64_t sum = 1;
                    if (phase > 0) sum = std::accumulate(values[size_t(phase - 1)].begin(), values[size_t(phase - 1)].end(), int64_t(0)) % 1009;
                    int64_t &value = values[size_t(phase)][size_t(part)];
                    value = value == -1 ? sum + part : -1000;
                    if (round == 7 && part == phase % parts) std::this_thread::sleep_for(std::chrono::microseconds(200));  // one is late
                });
                int64_t wanted = 1;
                for (int phase = 0; phase < phases; phase++) {
                    int64_t sum = 0;
                    for (int part = 0; part < parts; part++) {
                        ASSERT_EQ(values[size_t(phase)][size_t(part)], wanted + part);
                        sum += wanted + part;
                    }
                    wanted = sum % 1009;
                }
            }
        }
    EXPECT_THROW(parallel_phases(1, 0, [](int, int) {}), Error);
    EXPECT_THROW(parallel_phases(1, 33, [](int, int) {}), Error);
    parallel_phases(0, 2, [](int, int) { FAIL(); });
}

TEST(Parallel, PhasesInsideALoopRunWhereTheyAre) {
    const Threads restore;
    set_thread_count(3);
    parallel_for(6, [&](int64_t) {
        const auto here = std::this_thread::get_id();
        parallel_phases(3, 3, [&](int, int) { EXPECT_EQ(std::this_thread::get_id(), here); });
    });
}

TEST(Parallel, TheLowestPartOfTheFirstPhaseThatFailsIsTheMessage) {
    const Threads restore;
    for (int threads : {1, 2, 4}) {
        set_thread_count(threads);
        for (int round = 0; round < 100; round++) {
            std::atomic<int> latest = 0;
            try {
                parallel_phases(9, 6, [&](int phase, int part) {
                    latest = std::max(latest.load(), phase);
                    if (phase >= 4 && part >= 2) throw std::runtime_error(std::to_string(phase) + " " + std::to_string(part));
                });
                FAIL() << "nothing was thrown";
            } catch (const Error &error) {
                ASSERT_STREQ(error.what(), "4 2");
            }
            ASSERT_EQ(latest, 4);
        }
    }
}

}  // namespace
}  // namespace aft
