// Memory for activations and workspaces: laid out once, reused by every step.
#pragma once
#include <cstddef>
#include <vector>

#include "aft/tensor.h"

namespace aft {

/// A stack of tensors. allocate() pushes; mark() and release() pop scratch; reset() pops all. After the first step of a
/// shape the memory is one block of the size that the step needed, so later steps allocate nothing.
/// Not thread-safe: one arena, one thread. Tensors die with the release or reset that pops them, whoever still holds them.
class Arena {
public:
    /// Uninitialised, aligned to 64 bytes.
    Tensor allocate(Shape shape, DType dtype = DType::f32);

    struct Mark {
        size_t block, offset, checked;
    };
    Mark mark() const;
    void release(const Mark &mark);
    void reset();

    size_t bytes() const;  ///< held now
    size_t peak() const;   ///< most in use at a time since the start

private:
    std::vector<Tensor> blocks_;
    size_t block_ = 0, offset_ = 0, peak_ = 0;
    std::vector<Tensor> checked_;  // with memory checks on, every tensor has memory and guard zones of its own
};

/// Releases on leaving a scope what was allocated inside it.
class ArenaScope {
public:
    explicit ArenaScope(Arena &arena) : arena_(arena), mark_(arena.mark()) {}
    ~ArenaScope() { arena_.release(mark_); }
    ArenaScope(const ArenaScope &) = delete;
    ArenaScope &operator=(const ArenaScope &) = delete;

private:
    Arena &arena_;
    Arena::Mark mark_;
};

}  // namespace aft
