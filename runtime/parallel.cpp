#include "runtime/parallel.h"

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "aft/error.h"
#include "runtime/halide_hooks.h"
#include "runtime/trace.h"

namespace aft {
namespace {

thread_local bool inside_loop = false;

struct Loop {
    Loop(int count, const std::function<int(int)> &task) : count(count), task(task) {}

    const int count;
    const char *const name = traced_kernel() ? traced_kernel() : "parallel loop";
    const std::function<int(int)> &task;
    std::atomic<int> next{0};
    std::mutex mutex;  // of what follows
    int failed = -1, code = 0;
    std::string message;

    void work() {
        const TraceSpan span(name, SpanKind::loop);
        inside_loop = true;
        for (int index; (index = next.fetch_add(1)) < count;)
            if (const int result = task(index)) fail(index, result);
        inside_loop = false;
    }

    void fail(int index, int result) {
        next = count;  // every lower index was handed out before, so the lowest failure is always found
        std::string text = take_message();
        std::lock_guard lock(mutex);
        if (failed < 0 || index < failed) failed = index, code = result, message = std::move(text);
    }
};

// A pause between loops is mostly shorter than a futex's sleep and wake (5 us each): a thread looks this often, some 30 us,
// before it sleeps. In decoding, where a loop is some 20 us of work, that halves the time per token.
constexpr int looks = 2000;

template <class Condition>
void look_for(const Condition &condition) {
    for (int n = 0; n < looks && !condition(); n++) __builtin_ia32_pause();
}

class Pool {
public:
    Pool() { resize(int(std::thread::hardware_concurrency())); }
    ~Pool() { resize(1); }

    int size() const { return int(threads_.size()) + 1; }

    void resize(int count) {
        {
            std::lock_guard lock(mutex_);
            stop_ = true;
        }
        wake_.notify_all();
        threads_.clear();
        stop_ = false;
        for (int t = 1; t < count; t++) threads_.emplace_back([this, seen = generation_.load()] { serve(seen); });
    }

    // False when the pool is busy: the caller runs the loop itself.
    bool run(Loop &loop) {
        std::unique_lock only(busy_, std::try_to_lock);
        if (!only) return false;
        bool someone_sleeps;
        {
            std::lock_guard lock(mutex_);
            loop_ = &loop;
            generation_++;
            someone_sleeps = sleeping_ > 0;
        }
        if (someone_sleeps) wake_.notify_all();
        loop.work();
        {
            std::lock_guard lock(mutex_);
            loop_ = nullptr;  // a thread that wakes now finds nothing
        }
        look_for([this] { return working_ == 0; });
        std::unique_lock lock(mutex_);
        idle_.wait(lock, [this] { return working_ == 0; });
        return true;
    }

private:
    void serve(unsigned seen) {
        const auto called = [&] { return stop_ || generation_ != seen; };
        while (true) {
            look_for(called);
            std::unique_lock lock(mutex_);
            sleeping_++;
            wake_.wait(lock, called);
            sleeping_--;
            if (stop_) return;
            seen = generation_;
            if (!loop_) continue;
            Loop *loop = loop_;
            working_++;
            lock.unlock();
            loop->work();
            lock.lock();
            if (--working_ == 0) idle_.notify_one();
        }
    }

    std::mutex busy_, mutex_;
    std::condition_variable wake_, idle_;
    Loop *loop_ = nullptr;
    std::atomic<unsigned> generation_ = 0;  // these change under the mutex; reads may look without it
    std::atomic<int> working_ = 0;
    std::atomic<bool> stop_ = false;
    int sleeping_ = 0;
    std::vector<std::jthread> threads_;
};

Pool &pool() {
    static Pool pool;
    return pool;
}

}  // namespace

int thread_count() { return pool().size(); }

void set_thread_count(int count) {
    if (count < 1) throw Error("a thread count of " + std::to_string(count) + " is impossible: give 1 or more");
    pool().resize(count);
}

int parallel_tasks(int count, const std::function<int(int)> &task) {
    if (inside_loop || count < 2) {  // on this thread, whose message is then the caller's
        const TraceSpan span(traced_kernel() ? traced_kernel() : "parallel loop", SpanKind::loop);
        const bool nested = std::exchange(inside_loop, true);
        int code = 0;
        for (int index = 0; index < count && !code; index++) code = task(index);
        inside_loop = nested;
        return code;
    }
    Loop loop(count, task);
    if (pool().size() == 1 || !pool().run(loop)) loop.work();
    if (loop.code) remember_message(std::move(loop.message));
    return loop.code;
}

void parallel_for(int64_t count, const std::function<void(int64_t)> &body) {
    const int code = parallel_tasks(int(count), [&](int index) {
        try {
            body(index);
            return 0;
        } catch (const std::exception &error) {
            remember_message(error.what());
            return 1;
        }
    });
    if (code) throw Error(take_message());
}

}  // namespace aft
