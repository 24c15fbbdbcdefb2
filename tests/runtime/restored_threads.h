// A test that sets the number of threads leaves it as it was.
#pragma once
#include "aft/threads.h"

namespace aft::test {

struct RestoredThreads {
    int before = thread_count();
    ~RestoredThreads() { set_thread_count(before); }
};

}  // namespace aft::test
