// A test mode of the allocator: new memory is NaN, and guard zones around it are looked at when it is freed. An element
// that a kernel forgets to write, reads before it wrote, or writes outside its tensor cannot pass.
#pragma once
#include <cstdint>

namespace aft {

void set_memory_checks(bool on);  // for tensors and arenas made from now on
bool memory_checks();
int64_t guard_violations();       // tensors freed so far whose guard zones were written

}  // namespace aft
