#include "aft/tensor.h"

#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <new>
#include <utility>

#include "aft/error.h"
#include "runtime/memory_checks.h"

namespace aft {
namespace {

constexpr int64_t most_bytes = int64_t(1) << 62;
constexpr size_t huge_page = size_t(2) << 20;

Shape contiguous_strides(const Shape &shape) {
    Shape strides(shape.size());
    int64_t total = 1;
    for (size_t axis = shape.size(); axis-- > 0;) {
        strides[axis] = total;
        total *= std::max<int64_t>(shape[axis], 1);
    }
    return strides;
}

std::atomic<bool> checks_on = false;
std::atomic<int64_t> violations = 0;

thread_local size_t shift = 8;  // checked tensors are aligned to an element only: a view of a parameter may start anywhere
constexpr size_t guard = 256;  // bytes on either side; more than any vector store reaches
constexpr std::byte guard_byte{0xA5};

std::shared_ptr<std::byte[]> allocate_guarded(size_t bytes) {
    constexpr std::align_val_t alignment{64};
    auto *all = static_cast<std::byte *>(::operator new(bytes + 2 * guard + shift, alignment)) + shift;
    std::byte *first = all + guard;
    std::fill_n(all, guard, guard_byte);
    std::fill_n(first, bytes, std::byte{0xFF});  // NaN as f32 and f64, -1 as an integer
    std::fill_n(first + bytes, guard, guard_byte);
    return {first, [all, bytes, shift = shift](std::byte *first) {
                const auto intact = [](const std::byte *zone) { return std::all_of(zone, zone + guard, [](std::byte b) { return b == guard_byte; }); };
                if (!intact(all) || !intact(first + bytes)) violations++;
                ::operator delete(all - shift, alignment);
            }};
}

// Never null, even for no elements: Halide takes a null host for a question about bounds.
std::shared_ptr<std::byte[]> allocate(size_t bytes) {
    if (checks_on) return allocate_guarded(bytes);
    const bool huge = bytes >= huge_page;
    const std::align_val_t alignment{huge ? huge_page : 64};
    const size_t rounded = (std::max<size_t>(bytes, 1) + 63) / 64 * 64;
    auto *memory = static_cast<std::byte *>(::operator new(rounded, alignment, std::nothrow));
    if (!memory) throw Error("out of memory: a tensor of " + std::to_string(bytes) + " bytes; use a smaller batch or context");
    if (huge) madvise(memory, rounded, MADV_HUGEPAGE);  // 5-12 % faster streams; a refusal does no harm
    return {memory, [alignment](std::byte *p) { ::operator delete(p, alignment); }};
}

// Pages of the system are zero and cost nothing until they are touched.
std::shared_ptr<std::byte[]> map_zeros(size_t bytes) {
    const size_t length = bytes + huge_page;  // room to start at a huge page
    void *all = mmap(nullptr, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (all == MAP_FAILED) throw Error("out of memory: a tensor of " + std::to_string(bytes) + " bytes; use a smaller model");
    auto *first = reinterpret_cast<std::byte *>((reinterpret_cast<uintptr_t>(all) + huge_page - 1) / huge_page * huge_page);
    madvise(first, bytes, MADV_HUGEPAGE);
    return {first, [all, length](std::byte *) { munmap(all, length); }};
}

void check_axis(const Tensor &x, int axis, const char *what) {
    if (axis < 0 || axis >= x.rank())
        throw Error(std::string(what) + ": axis " + std::to_string(axis) + " of a tensor of shape " + to_string(x.shape()));
}

// Calls row(a, b) for every run of the last axis of two tensors of one shape; a and b are byte addresses.
template <class Row>
void each_row(const Tensor &x, const Tensor &y, Row row) {
    if (x.elements() == 0) return;
    Shape index(std::max(x.rank() - 1, 0), 0);
    while (true) {
        int64_t at_x = 0, at_y = 0;
        for (size_t axis = 0; axis < index.size(); axis++) at_x += index[axis] * x.stride(int(axis)), at_y += index[axis] * y.stride(int(axis));
        row(x.raw() + at_x * int64_t(size_of(x.dtype())), y.raw() + at_y * int64_t(size_of(y.dtype())));
        int axis = int(index.size()) - 1;
        while (axis >= 0 && ++index[axis] == x.size(axis)) index[axis--] = 0;
        if (axis < 0) return;
    }
}

}  // namespace

void set_memory_checks(bool on) { checks_on = on; }
bool memory_checks() { return checks_on; }
Tensor checked_tensor(Shape shape, DType dtype, bool aligned) {
    const size_t before = std::exchange(shift, aligned ? 0 : shift);
    Tensor tensor(std::move(shape), dtype);
    shift = before;
    return tensor;
}
int64_t guard_violations() { return violations; }

size_t size_of(DType dtype) {
    switch (dtype) {
        case DType::f32:
        case DType::i32: return 4;
        case DType::f64:
        case DType::i64: return 8;
        case DType::u8: return 1;
    }
    return 0;
}

const char *name_of(DType dtype) {
    switch (dtype) {
        case DType::f32: return "F32";
        case DType::f64: return "F64";
        case DType::i32: return "I32";
        case DType::i64: return "I64";
        case DType::u8: return "U8";
    }
    return "?";
}

size_t Shape::checked(size_t rank) {
    if (rank > most) throw Error("a tensor of " + std::to_string(rank) + " axes: there are " + std::to_string(most) + " at most");
    return rank;
}

std::string to_string(const Shape &shape) {
    std::string text = "[";
    for (size_t axis = 0; axis < shape.size(); axis++) text += (axis ? ", " : "") + std::to_string(shape[axis]);
    return text + "]";
}

Tensor::Tensor(Shape shape, DType dtype) : shape_(std::move(shape)), dtype_(dtype) {
    int64_t total = int64_t(size_of(dtype));
    for (int64_t size : shape_) {
        if (size < 0 || (size > 0 && total > most_bytes / size)) throw Error("a tensor of shape " + to_string(shape_) + " is impossible");
        total *= std::max<int64_t>(size, 1);
    }
    strides_ = contiguous_strides(shape_);
    memory_ = allocate(size_t(total));
    first_ = memory_.get();
}

Tensor::Tensor(Shape shape, DType dtype, std::shared_ptr<std::byte[]> owner, std::byte *first)
    : shape_(std::move(shape)), strides_(contiguous_strides(shape_)), memory_(std::move(owner)), first_(first), dtype_(dtype) {}

Tensor Tensor::zeros(Shape shape) {
    Tensor x;
    x.shape_ = std::move(shape), x.strides_ = contiguous_strides(x.shape_);
    if (checks_on || x.bytes() < 2 * huge_page) {
        x = Tensor(x.shape_);
        x.fill(0);
    } else {
        x.memory_ = map_zeros(x.bytes());
        x.first_ = x.memory_.get();
    }
    return x;
}

int64_t Tensor::elements() const {
    int64_t total = 1;
    for (int64_t size : shape_) total *= size;
    return total;
}

bool Tensor::contiguous() const {
    const Shape dense = contiguous_strides(shape_);
    for (int axis = 0; axis < rank(); axis++)
        if (size(axis) > 1 && strides_[axis] != dense[axis]) return false;
    return true;
}

void Tensor::require(DType dtype) const {
    if (dtype != dtype_) throw Error(std::string("a tensor of type ") + name_of(dtype_) + " is read as " + name_of(dtype));
}

Tensor Tensor::reshape(Shape shape) const {
    int64_t total = 1;
    for (int64_t size : shape) total *= size;
    if (total != elements() || !contiguous()) throw Error("reshape of " + to_string(shape_) + " to " + to_string(shape));
    Tensor view = *this;
    view.strides_ = contiguous_strides(shape);
    view.shape_ = std::move(shape);
    return view;
}

Tensor Tensor::slice(int axis, int64_t begin, int64_t end) const {
    check_axis(*this, axis, "slice");
    if (begin < 0 || begin > end || end > size(axis))
        throw Error("slice " + std::to_string(begin) + ".." + std::to_string(end) + " of axis " + std::to_string(axis) + " of " + to_string(shape_));
    Tensor view = *this;
    view.shape_[axis] = end - begin;
    if (begin < size(axis)) view.first_ += begin * strides_[axis] * int64_t(size_of(dtype_));
    return view;
}

Tensor Tensor::select(int axis, int64_t index) const {
    Tensor view = slice(axis, index, index + 1);
    view.shape_.erase(axis);
    view.strides_.erase(axis);
    return view;
}

Tensor Tensor::transpose(int first, int second) const {
    check_axis(*this, first, "transpose");
    check_axis(*this, second, "transpose");
    Tensor view = *this;
    std::swap(view.shape_[first], view.shape_[second]);
    std::swap(view.strides_[first], view.strides_[second]);
    return view;
}

Tensor Tensor::repeat(int axis, int64_t count) const {
    if (axis < 0 || axis > rank() || count < 0) throw Error("repeat along axis " + std::to_string(axis) + " of " + to_string(shape_));
    Tensor view = *this;
    view.shape_.insert(axis, count);
    view.strides_.insert(axis, 0);
    return view;
}

void Tensor::fill(float value) {
    require(DType::f32);
    if (contiguous()) {
        std::fill_n(data(), elements(), value);
        return;
    }
    const int64_t last = rank() ? size(rank() - 1) : 1, step = rank() ? stride(rank() - 1) : 1;
    each_row(*this, *this, [&](std::byte *row, std::byte *) {
        for (int64_t n = 0; n < last; n++) reinterpret_cast<float *>(row)[n * step] = value;
    });
}

void Tensor::copy_from(const Tensor &other) {
    if (shape_ != other.shape_ || dtype_ != other.dtype_) throw Error("copy of " + to_string(other.shape_) + " to " + to_string(shape_));
    if (contiguous() && other.contiguous()) {
        std::memcpy(first_, other.first_, bytes());
        return;
    }
    const int64_t width = int64_t(size_of(dtype_)), last = rank() ? size(rank() - 1) : 1;
    const int64_t to_step = rank() ? stride(rank() - 1) : 1, from_step = rank() ? other.stride(rank() - 1) : 1;
    each_row(*this, other, [&](std::byte *to, const std::byte *from) {
        if (to_step == 1 && from_step == 1)
            std::memcpy(to, from, size_t(last * width));
        else
            for (int64_t n = 0; n < last; n++) std::memcpy(to + n * to_step * width, from + n * from_step * width, size_t(width));
    });
}

Tensor Tensor::clone() const {
    Tensor copy(shape_, dtype_);
    copy.copy_from(*this);
    return copy;
}

}  // namespace aft
