// The one thread pool. Halide's parallel loops and ours both come here.
//
// Work is cut by shape (the caller's count), never by the number of threads, so results do not depend on it. A parallel
// loop inside a parallel loop, or beside one of another thread, runs serially on its own thread.
#pragma once
#include <cstdint>
#include <functional>

#include "aft/threads.h"

namespace aft {

// Calls task(0) .. task(count - 1). A task that fails returns its code; none of a higher index is started then, and the
// code and message of the lowest failing index are this call's, whatever the timing. The task must not throw.
int parallel_tasks(int count, const std::function<int(int)> &task);

// The same for code that throws aft::Error: the error of the lowest failing index is thrown here.
void parallel_for(int64_t count, const std::function<void(int64_t)> &body);

}  // namespace aft
