// Decoupled look-back: turns in order, several of them, every block once, and failures that leave nobody waiting.
#include "runtime/look_back.h"

#include <gtest/gtest.h>

#include <chrono>
#include <stdexcept>
#include <thread>
#include <vector>

#include "aft/error.h"
#include "aft/threads.h"
#include "runtime/parallel.h"
#include "tests/runtime/restored_threads.h"

namespace aft {
namespace {

TEST(LookBack, HandsOnInTheOrderOfBlocks) {
    const test::RestoredThreads restore;
    constexpr int64_t chains = 3, blocks = 40;
    for (int threads : {1, 2, 5}) {
        set_thread_count(threads);
        for (int round = 0; round < 50; round++) {
            std::vector<std::vector<int64_t>> first(chains), second(chains);
            std::vector<int> visits(chains * blocks);
            look_back(chains, blocks, 2, [&](LinkedBlock &block) {
                ASSERT_LT(block.worker, look_back_workers(chains, blocks));
                visits[size_t(block.index * chains + block.chain)]++;
                block.in_turn([&] { first[size_t(block.chain)].push_back(block.index); });
                block.in_turn([&] { second[size_t(block.chain)].push_back(block.index); });
            });
            EXPECT_EQ(visits, std::vector<int>(chains * blocks, 1));
            for (const auto &order : {first, second})
                for (const auto &chain : order) {
                    ASSERT_EQ(int64_t(chain.size()), blocks);
                    for (int64_t n = 0; n < blocks; n++) ASSERT_EQ(chain[size_t(n)], n);
                }
        }
    }
}

// Turns so long that who waits sleeps.
TEST(LookBack, SleepersWakeInTheirTurnAndWhenABlockFails) {
    const test::RestoredThreads restore;
    const auto pause = [] { std::this_thread::sleep_for(std::chrono::milliseconds(2)); };
    for (int threads : {2, 5}) {
        set_thread_count(threads);
        std::vector<int64_t> order;
        look_back(1, 12, 1, [&](LinkedBlock &block) { block.in_turn([&] { pause(), order.push_back(block.index); }); });
        for (int64_t n = 0; n < 12; n++) ASSERT_EQ(order.at(size_t(n)), n);
        try {
            look_back(1, 12, 1, [&](LinkedBlock &block) {
                block.in_turn([&] {
                    pause();
                    if (block.index == 3) throw std::runtime_error("block 3");
                });
            });
            FAIL() << "nothing was thrown";
        } catch (const Error &error) {
            EXPECT_STREQ(error.what(), "block 3");
        }
    }
}

TEST(LookBack, TheFirstFailureIsTheErrorAndNobodyWaits) {
    const test::RestoredThreads restore;
    for (int threads : {1, 2, 5}) {
        set_thread_count(threads);
        for (int round = 0; round < 100; round++)
            for (bool in_turn : {false, true}) try {
                    look_back(2, 30, 1, [&](LinkedBlock &block) {
                        const auto check = [&] {
                            if (block.index >= 7) throw std::runtime_error("block " + std::to_string(block.index) + " of chain " + std::to_string(block.chain));
                        };
                        if (!in_turn) check();
                        block.in_turn([&] {
                            if (in_turn) check();
                        });
                    });
                    FAIL() << "nothing was thrown";
                } catch (const Error &error) {
                    ASSERT_STREQ(error.what(), "block 7 of chain 0");
                }
        int calls = 0;
        parallel_for(1, [&](int64_t) { calls++; });  // the pool works on
        EXPECT_EQ(calls, 1);
    }
}

}  // namespace
}  // namespace aft
