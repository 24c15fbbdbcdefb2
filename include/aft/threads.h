// How many threads the library uses.
#pragma once

namespace aft {

/// Threads that parallel loops run on, the calling one included.
int thread_count();

/// Sets it (default: all cores). Throws Error for count < 1. Not while another thread is inside the library.
/// Results do not depend on it: work is cut by shape, never by the number of threads.
void set_thread_count(int count);

}  // namespace aft
