#include "aft/arena.h"

#include <algorithm>

#include "runtime/memory_checks.h"

namespace aft {
namespace {

constexpr size_t alignment = 64;
constexpr size_t smallest_block = size_t(1) << 20;

size_t rounded(size_t bytes) { return (std::max<size_t>(bytes, 1) + alignment - 1) / alignment * alignment; }

}  // namespace

Tensor Arena::allocate(Shape shape, DType dtype) {
    if (memory_checks()) {
        checked_.push_back(checked_tensor(std::move(shape), dtype, true));
        return checked_.back();
    }
    int64_t elements = 1;
    for (int64_t size : shape) elements *= size;
    const size_t bytes = rounded(size_t(elements) * size_of(dtype));
    while (block_ < blocks_.size() && offset_ + bytes > blocks_[block_].bytes()) block_++, offset_ = 0;
    if (block_ == blocks_.size()) {
        const size_t size = rounded(std::max({bytes, smallest_block, this->bytes() / 2}));  // geometric in the first step
        blocks_.emplace_back(Shape{int64_t(size)}, DType::u8);
        offset_ = 0;
    }
    Tensor tensor(std::move(shape), dtype, blocks_[block_].owner(), blocks_[block_].raw() + offset_);
    offset_ += bytes;
    size_t used = offset_;
    for (size_t b = 0; b < block_; b++) used += blocks_[b].bytes();
    peak_ = std::max(peak_, used);
    return tensor;
}

Arena::Mark Arena::mark() const { return {block_, offset_, checked_.size()}; }

void Arena::release(const Mark &mark) {
    block_ = mark.block, offset_ = mark.offset;
    checked_.resize(std::min(checked_.size(), mark.checked));
}

void Arena::reset() {
    release({0, 0, 0});
    if (blocks_.size() > 1) {  // the first step of a shape is over: one block for all that follow
        const size_t size = rounded(peak_);
        blocks_.clear();
        blocks_.emplace_back(Shape{int64_t(size)}, DType::u8);
    }
}

size_t Arena::bytes() const {
    size_t total = 0;
    for (const Tensor &block : blocks_) total += block.bytes();
    return total;
}

size_t Arena::peak() const { return peak_; }

}  // namespace aft
