// The thread pool: every index once, loops inside loops, the lowest failure, threads that sleep and that still look.
#include "runtime/parallel.h"

#include <gtest/gtest.h>

#include <chrono>
#include <numeric>
#include <stdexcept>
#include <thread>

#include "aft/error.h"
#include "aft/threads.h"
#include "tests/runtime/restored_threads.h"

namespace aft {
namespace {

TEST(Parallel, EveryIndexOnceForAnyThreadCount) {
    const test::RestoredThreads restore;
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

// A hint names what it likes, memory that is gone included: no loop changes.
TEST(Parallel, HintsChangeNoLoop) {
    const test::RestoredThreads restore;
    for (int threads : {1, 2, 4}) {
        set_thread_count(threads);
        for (int round = 0; round < 200; round++) {
            const std::vector<char> bytes(size_t(3 << 20) / size_t(1 + round % 7));
            read_ahead(bytes.data(), int64_t(bytes.size()));
            if (round % 5 == 0) read_ahead(nullptr, round);
            std::vector<int> visits(37);
            parallel_for(37, [&](int64_t n) { visits[size_t(n)]++; });
            ASSERT_EQ(visits, std::vector<int>(37, 1)) << threads << " threads, round " << round;
        }
    }
}

TEST(Parallel, ALoopInsideALoopRunsWhereItIs) {
    const test::RestoredThreads restore;
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
    const test::RestoredThreads restore;
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

}  // namespace
}  // namespace aft
