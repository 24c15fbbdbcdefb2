// Dense row-major tensors, last index fastest: [B, T, C] has C contiguous.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "aft/shape.h"

namespace aft {

enum class DType : uint8_t { f32, f64, i32, i64, u8 };

/// Bytes of one element.
size_t size_of(DType dtype);
/// The safetensors name of a type: "F32", "F64", "I32", "I64", "U8".
const char *name_of(DType dtype);

/// A handle on memory and its shape. Copies and views share the memory, which lives until the last of them is gone.
/// A Tensor may be read from any number of threads; who writes the elements must be alone.
class Tensor {
public:
    Tensor() = default;

    /// New memory of the given shape, uninitialised, aligned to 64 bytes (2 MiB pages are asked for when it is large).
    /// Throws Error for a negative size or more than 2^62 bytes.
    explicit Tensor(Shape shape, DType dtype = DType::f32);

    /// New f32 memory of zeros. Large ones take no memory until they are written or read.
    static Tensor zeros(Shape shape);

    /// A tensor over memory that `owner` keeps alive; contiguous.
    Tensor(Shape shape, DType dtype, std::shared_ptr<std::byte[]> owner, std::byte *first);

    bool defined() const { return bool(memory_); }
    int rank() const { return int(shape_.size()); }
    const Shape &shape() const { return shape_; }
    int64_t size(int axis) const { return shape_[axis]; }
    /// In elements, not bytes.
    int64_t stride(int axis) const { return strides_[axis]; }
    int64_t elements() const;
    size_t bytes() const { return size_t(elements()) * size_of(dtype_); }
    DType dtype() const { return dtype_; }
    bool contiguous() const;

    /// First element; T must be the type of the tensor (throws Error otherwise).
    template <class T = float>
    T *data() const {
        require(dtype_of(static_cast<T *>(nullptr)));
        return reinterpret_cast<T *>(first_);
    }
    std::byte *raw() const { return first_; }
    const std::shared_ptr<std::byte[]> &owner() const { return memory_; }

    /// Views: none of them copies. They throw Error when the arguments do not fit the shape.
    Tensor reshape(Shape shape) const;                           ///< of a contiguous tensor
    Tensor slice(int axis, int64_t begin, int64_t end) const;    ///< [begin, end) of one axis
    Tensor select(int axis, int64_t index) const;                ///< one index of an axis, which goes away
    Tensor transpose(int first, int second) const;               ///< exchanges two axes
    Tensor repeat(int axis, int64_t count) const;                ///< a new axis of `count` equal entries (stride 0)

    void fill(float value);               ///< of an f32 tensor; contiguous or not
    void copy_from(const Tensor &other);  ///< equal shape and type; either may be a view
    Tensor clone() const;                 ///< contiguous copy in new memory

private:
    static DType dtype_of(const float *) { return DType::f32; }
    static DType dtype_of(const double *) { return DType::f64; }
    static DType dtype_of(const int32_t *) { return DType::i32; }
    static DType dtype_of(const int64_t *) { return DType::i64; }
    static DType dtype_of(const uint8_t *) { return DType::u8; }
    void require(DType dtype) const;

    Shape shape_, strides_;
    std::shared_ptr<std::byte[]> memory_;
    std::byte *first_ = nullptr;
    DType dtype_ = DType::f32;
};

}  // namespace aft
