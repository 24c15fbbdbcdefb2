#include "runtime/kernel.h"

#include <limits>

#include "runtime/halide_hooks.h"

namespace aft {
namespace {

halide_type_t halide_type(DType dtype) {
    switch (dtype) {
        case DType::f32: return halide_type_of<float>();
        case DType::f64: return halide_type_of<double>();
        case DType::i32: return halide_type_of<int32_t>();
        case DType::i64: return halide_type_of<int64_t>();
        case DType::u8: return halide_type_of<uint8_t>();
    }
    return {};
}

}  // namespace

BufferView::BufferView(const Tensor &tensor, int wanted) {
    constexpr int64_t most = std::numeric_limits<int32_t>::max();  // generated code computes indices in int32
    const int rank = tensor.rank();
    if (rank > max_rank) throw Error("a kernel takes tensors of rank " + std::to_string(max_rank) + " at most, not " + std::to_string(rank));
    int64_t reach = 1;
    for (int d = 0; d < rank; d++) {
        const int axis = rank - 1 - d;
        if (tensor.size(axis) > 0) reach += (tensor.size(axis) - 1) * tensor.stride(axis);
        if (reach > most || tensor.size(axis) > most || tensor.stride(axis) > most)
            throw Error("a tensor of shape " + to_string(tensor.shape()) + " is beyond the kernels' limit of 2^31 elements; use a smaller batch, context or bias");
        dims_[d] = {0, int32_t(tensor.size(axis)), int32_t(tensor.stride(axis)), 0};
    }
    buffer_.host = reinterpret_cast<uint8_t *>(tensor.raw());
    buffer_.type = halide_type(tensor.dtype());
    for (int d = rank; d < wanted && d < max_rank; d++) dims_[d] = {0, 1, int32_t(reach), 0};
    buffer_.dimensions = rank < wanted ? wanted : rank;
    buffer_.dim = dims_;
}

void throw_kernel_error(const char *kernel, int code) {
    throw Error(std::string(kernel) + ": " + take_message() + " (" + std::to_string(code) + ")");
}

}  // namespace aft
