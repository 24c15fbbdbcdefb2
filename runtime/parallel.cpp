#include "runtime/parallel.h"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <limits>
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

// Where the threads of parallel_phases meet. One word a phase, on a cache line of its own: which parts were taken (low half),
// how many are done (high half).
class Phases {
public:
    Phases(int phases, int parts, int threads, const std::function<void(int, int)> &body)
        : parts_(parts), threads_(threads), body_(body), words_(size_t(phases)) {}

    // What one thread does: all phases from the first to the last.
    void pass(int thread) {
        for (size_t phase = 0; phase < words_.size(); phase++) {
            std::atomic<uint64_t> &word = words_[phase].word;
            const int first = thread * parts_ / threads_;
            for (int n = 0; n < parts_; n++) {
                const int part = (first + n) % parts_;
                if (const uint64_t bit = uint64_t(1) << part; !(word.load(std::memory_order_relaxed) & bit) && !(word.fetch_or(bit, std::memory_order_acq_rel) & bit)) {
                    if (int(phase) <= failed_phase_.load(std::memory_order_relaxed)) run(int(phase), part);
                    word.fetch_add(one_done, std::memory_order_acq_rel);
                }
            }
            const auto done = [&] { return word.load(std::memory_order_acquire) >> 32 == uint64_t(parts_); };
            look_for(done);
            while (!done()) std::this_thread::yield();  // the other's CPU was taken from it
        }
    }

    void throw_failure() {
        if (failed_phase_ != none) throw Error(message_);
    }

private:
    void run(int phase, int part) {
        try {
            body_(phase, part);
        } catch (const std::exception &error) {
            const std::lock_guard lock(mutex_);
            if (failed_phase_ != none && failed_part_ < part) return;
            failed_phase_ = phase, failed_part_ = part, message_ = error.what();  // the phase runs to its end, so the lowest part is found
        }
    }

    struct alignas(64) Line {
        std::atomic<uint64_t> word = 0;
    };
    static constexpr uint64_t one_done = uint64_t(1) << 32;
    static constexpr int none = std::numeric_limits<int>::max();

    const int parts_, threads_;
    const std::function<void(int, int)> &body_;
    std::vector<Line> words_;
    std::atomic<int> failed_phase_ = none;  // no later one is begun
    std::mutex mutex_;                      // of what follows
    int failed_part_ = 0;
    std::string message_;
};

}  // namespace

int thread_count() { return pool().size(); }

void set_thread_count(int count) {
    if (count < 1) throw Error("a thread count of " + std::to_string(count) + " is impossible: give 1 or more");
    pool().resize(count);
}

int parallel_tasks(int count, const std::function<int(int)> &task) {
    if (inside_loop || count == 1) {  // on this thread, whose message is then the caller's
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

void parallel_phases(int phases, int parts, const std::function<void(int, int)> &body) {
    if (parts < 1 || parts > 32) throw Error("phases of " + std::to_string(parts) + " parts are impossible: give 1 to 32");
    const int threads = std::min(thread_count(), parts);
    Phases all(phases, parts, threads, body);
    parallel_tasks(threads, [&](int thread) {
        all.pass(thread);
        return 0;
    });
    all.throw_failure();
}

}  // namespace aft
