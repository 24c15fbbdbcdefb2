// The one thread pool. Halide's parallel loops and ours both come here.
//
// Work is cut by shape (the caller's count), never by the number of threads, so results do not depend on it. A parallel
// loop inside a parallel loop, or beside one of another thread, runs serially on its own thread.
#pragma once
#include <cstdint>
#include <functional>

#include "aft/threads.h"

namespace aft {

// Calls task(0) .. task(count - 1). A task that fails returns its code; no new ones are started then, and the code and
// message of the lowest failing index are this call's, whatever the timing. The task must not throw.
int parallel_tasks(int count, const std::function<int(int)> &task);

// The same for code that throws aft::Error: the error of the lowest failing index is thrown here.
void parallel_for(int64_t count, const std::function<void(int64_t)> &body);

// Phases that follow each other in microseconds, each cut into the same 1 to 32 parts: body(phase, part) for all parts of a phase,
// then for those of the next. The threads are called once for all; in between they look, they do not sleep. A thread begins with
// the parts of its own place and then takes what is left, so nobody waits for a thread that does not come. Errors as parallel_for.
void parallel_phases(int phases, int parts, const std::function<void(int phase, int part)> &body);

}  // namespace aft
