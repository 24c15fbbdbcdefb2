// A timeline of kernels in the Chrome trace format (chrome://tracing, Perfetto).
#pragma once
#include <string>

namespace aft {

/// From now on every kernel call and every thread's part of a parallel loop is noted, on any thread (at most two million events,
/// 48 bytes each). Costs one load and branch per kernel call while it is off. Thread-safe.
void start_trace();
/// Ends the trace and writes it, the events of each thread in order of time. Throws Error when the file cannot be written.
/// Not while kernels run on other threads.
void write_trace(const std::string &path);

}  // namespace aft
