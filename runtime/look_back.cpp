#include "runtime/look_back.h"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <limits>
#include <mutex>
#include <string>
#include <vector>

#include "aft/error.h"
#include "aft/threads.h"
#include "runtime/look_for.h"
#include "runtime/parallel.h"

namespace aft {
namespace {

struct Abandoned {};  // what a block waits for will not come

}  // namespace

class LookBack {
public:
    LookBack(int64_t chains, int64_t blocks, int64_t turns) : chains_(chains), count_(chains * blocks), turns_(turns), passed_(size_t(chains * turns)) {}

    void work(int64_t worker, const std::function<void(LinkedBlock &)> &body) {
        for (int64_t n; (n = next_++) < count_ && n < failed_;) try {
                LinkedBlock block{worker, n % chains_, n / chains_, *this};
                body(block);
            } catch (const Abandoned &) {
            } catch (const std::exception &error) {
                fail(n, error.what());
            }
    }

    void in_turn(LinkedBlock &block, const std::function<void()> &body) {
        std::atomic<int64_t> &passed = passed_[size_t(block.chain * turns_ + block.turn++)].blocks;
        // Only a failure of an earlier block ends a wait: what precedes a failure runs to its end and may fail itself, so the first one is found.
        const auto is_over = [&] { return passed >= block.index || failed_ < block.index * chains_ + block.chain; };
        look_for(is_over);
        if (!is_over()) {  // others may have the core, above all who is waited for
            std::unique_lock lock(mutex_);
            asleep_++;
            changed_.wait(lock, is_over);
            asleep_--;
        }
        if (passed < block.index) throw Abandoned();
        body();
        passed = block.index + 1;
        if (asleep_ > 0) wake();
    }

    void finish() const {
        if (failed_ < count_) throw Error(message_);
    }

private:
    void fail(int64_t n, const char *message) {
        {
            std::lock_guard lock(mutex_);
            if (n < failed_) message_ = message, failed_ = n;
        }
        changed_.notify_all();
    }
    void wake() {
        { std::lock_guard lock(mutex_); }  // who has looked already, but does not sleep yet, holds it
        changed_.notify_all();
    }

    struct alignas(64) Passed {
        std::atomic<int64_t> blocks{0};
    };
    const int64_t chains_, count_, turns_;
    std::vector<Passed> passed_;
    std::atomic<int64_t> next_{0}, failed_{std::numeric_limits<int64_t>::max()};
    std::atomic<int> asleep_{0};
    std::mutex mutex_;  // of the message, and of who goes to sleep
    std::condition_variable changed_;
    std::string message_;
};

void LinkedBlock::in_turn(const std::function<void()> &body) { all.in_turn(*this, body); }

int64_t look_back_workers(int64_t chains, int64_t blocks) { return std::min<int64_t>(chains * blocks, thread_count()); }

void look_back(int64_t chains, int64_t blocks, int64_t turns, const std::function<void(LinkedBlock &)> &body) {
    LookBack all(chains, blocks, turns);
    parallel_for(look_back_workers(chains, blocks), [&](int64_t worker) { all.work(worker, body); });
    all.finish();
}

}  // namespace aft
