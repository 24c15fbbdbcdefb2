// Long sequences on several threads: decoupled look-back (Merrill and Garland 2016, "Single-pass parallel prefix scan").
//
// A chain is a row of blocks, each of which needs what the one before hands on. A block does first what needs nobody (a summary
// of itself), then, in its turn, takes what its predecessor handed on and hands on its own; the rest follows, while the next
// blocks go on. Turns are short, so a block seldom waits. Blocks are taken in order: a predecessor is done or being done by
// a running thread, so that no wait is for ever, with one thread neither.
#pragma once
#include <cstdint>
#include <functional>

namespace aft {

class LookBack;

struct LinkedBlock {
    int64_t worker, chain, index;

    // The n-th call waits for the n-th turn of the block before. To be called `turns` times by every block.
    void in_turn(const std::function<void()> &body);

    LookBack &all;
    int64_t turn = 0;
};

int64_t look_back_workers(int64_t chains, int64_t blocks);

// body(block) for all blocks, the first ones of all chains first. `worker` is below look_back_workers(): scratch may belong to it. What
// comes out must not depend on the worker. The error of the first block that fails is thrown here, whatever the timing.
void look_back(int64_t chains, int64_t blocks, int64_t turns, const std::function<void(LinkedBlock &)> &body);

}  // namespace aft
