#include "runtime/parallel.h"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "aft/error.h"
#include "runtime/halide_hooks.h"
#include "runtime/look_for.h"
#include "runtime/trace.h"

namespace aft {
namespace {

thread_local bool inside_loop = false;

// Indices in as many parts as there are threads. A thread starts with its own part, so that in loop after loop it meets the rows
// that its core's cache holds, and takes from the others' when that is done.
struct Loop {
    Loop(int count, const std::function<int(int)> &task, int threads) : parts(std::min({threads, count, most_parts})), task(task), failed(count) {
        for (int64_t p = 0; p < parts; p++) part[p].next = int(count * p / parts), part[p].end = int(count * (p + 1) / parts);
    }

    static constexpr int most_parts = 64;
    struct alignas(64) Part {  // a cache line each
        std::atomic<int> next;
        int end;
    };

    const int parts;
    const char *const name = traced_kernel() ? traced_kernel() : "parallel loop";
    const std::function<int(int)> &task;
    Part part[most_parts];
    std::atomic<int> failed;  // the lowest index that did; higher ones are not started any more
    std::mutex mutex;         // of what follows
    int code = 0;
    std::string message;

    void work(int worker) {
        const TraceSpan span(name, SpanKind::loop);
        inside_loop = true;
        for (int n = 0; n < parts; n++) {
            Part &from = part[(worker + n) % parts];
            for (int index; (index = from.next.fetch_add(1)) < from.end && index < failed;)
                if (const int result = task(index)) fail(index, result);
        }
        inside_loop = false;
    }

    void fail(int index, int result) {
        std::string text = take_message();
        std::lock_guard lock(mutex);
        if (index < failed) failed = index, code = result, message = std::move(text);
    }
};

// What is to be read ahead, said by one thread and seen by the others. A thread that sees the old bytes with the new address asks for
// lines that nobody wants, no more.
struct Hint {
    std::atomic<unsigned> number = 0;  // how many there were
    std::atomic<uintptr_t> first = 0;
    std::atomic<int64_t> bytes = 0;
};

// A thread's part of it. At most a quarter of L2: what it works on stays there. So many lines a look that the pause of a look costs
// little: 380 KB in the 25 us between two products of a decoder, where 8 lines a look bring 250 KB.
class Ahead {
public:
    void fetch(const Hint &hint, int worker, int workers) {
        if (seen_ != hint.number) {
            seen_ = hint.number;
            const int64_t bytes = hint.bytes;
            next_ = hint.first + bytes * worker / workers;
            end_ = std::min(hint.first + bytes * (worker + 1) / workers, next_ + most);
        }
        for (int n = 0; n < lines_a_look && next_ < end_; n++, next_ += line) __builtin_prefetch(reinterpret_cast<const void *>(next_), 0, 2);
    }

private:
    static constexpr uintptr_t most = 512 << 10, line = 64;
    static constexpr int lines_a_look = 32;
    unsigned seen_ = 0;
    uintptr_t next_ = 0, end_ = 0;
};

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
        for (int t = 1; t < count; t++) threads_.emplace_back([this, t, count, seen = generation_.load()] { serve(t, count, seen); });
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
        loop.work(0);
        {
            std::lock_guard lock(mutex_);
            loop_ = nullptr;  // a thread that wakes now finds nothing
        }
        look_for([this] {
            if (working_ == 0) return true;
            ahead_.fetch(hint_, 0, size());
            return false;
        });
        std::unique_lock lock(mutex_);
        idle_.wait(lock, [this] { return working_ == 0; });
        return true;
    }

    void read_ahead(const void *first, int64_t bytes) { hint_.first = reinterpret_cast<uintptr_t>(first), hint_.bytes = bytes, hint_.number++; }

private:
    void serve(int worker, int workers, unsigned seen) {
        const auto called = [&] { return stop_ || generation_ != seen; };
        Ahead ahead;
        while (true) {
            look_for([&] {
                if (called()) return true;
                ahead.fetch(hint_, worker, workers);
                return false;
            });
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
            loop->work(worker);
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
    Hint hint_;
    Ahead ahead_;  // of the thread that calls, under busy_
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

void read_ahead(const void *first, int64_t bytes) { pool().read_ahead(first, bytes); }

int parallel_tasks(int count, const std::function<int(int)> &task) {
    if (inside_loop || count < 2) {  // on this thread, whose message is then the caller's
        const TraceSpan span(traced_kernel() ? traced_kernel() : "parallel loop", SpanKind::loop);
        const bool nested = std::exchange(inside_loop, true);
        int code = 0;
        for (int index = 0; index < count && !code; index++) code = task(index);
        inside_loop = nested;
        return code;
    }
    Loop loop(count, task, pool().size());
    if (pool().size() == 1 || !pool().run(loop)) loop.work(0);
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
