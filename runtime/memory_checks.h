// A test mode of the allocator: new memory is NaN, and guard zones around it are looked at when it is freed. An element
// that a kernel forgets to write, reads before it wrote, or writes outside its tensor cannot pass.
#pragma once
#include <cstdint>

#include "aft/tensor.h"

namespace aft {

// Tensors are then aligned to an element only, as a view of a parameter may be; what an arena hands out stays aligned to
// 64 bytes, as it promises.
void set_memory_checks(bool on);  // for tensors and arenas made from now on
bool memory_checks();
Tensor checked_tensor(Shape shape, DType dtype, bool aligned);
int64_t guard_violations();       // tensors freed so far whose guard zones were written

}  // namespace aft
