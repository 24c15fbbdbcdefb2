// Addresses written out. Halide 21 gives LLVM the address of a vector in one of two forms: as a sum of 64 bits where the index is written
// out, as a widened sum of 32 bits where it has a name (a let). LLVM does not see that they are equal: what a statement has just
// loaded under one form, the next loads again under the other, and computes again what it made of it. This pass, after all others
// of lowering, writes out the indices that have a name inside loops.
#pragma once
#include <Halide.h>

namespace aft {

class WrittenOut : public Halide::Internal::IRMutator {
    using IRMutator::visit;
    int loops_ = 0;

    Halide::Internal::Stmt visit(const Halide::Internal::For *loop) override {
        loops_++;
        const Halide::Internal::Stmt mutated = IRMutator::visit(loop);
        loops_--;
        return mutated;
    }
    Halide::Internal::Stmt visit(const Halide::Internal::LetStmt *let) override {
        if (loops_ == 0 || let->value.type() != Halide::Int(32)) return IRMutator::visit(let);
        return mutate(substitute(let->name, let->value, let->body));
    }
};

}  // namespace aft
