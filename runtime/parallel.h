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

// Bytes that a loop to come will read. A thread that waits for its next loop brings its part of them into its core's L2: part n of as many
// as there are threads, as a loop's indices are cut. A hint: it ends with the next one, and the memory may be gone by then.
void read_ahead(const void *first, int64_t bytes);

}  // namespace aft
