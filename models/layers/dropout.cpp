#include "models/layers/dropout.h"

#include "kernel_table.h"

namespace aft {
namespace {

int32_t low(uint64_t key) { return int32_t(uint32_t(key)); }
int32_t high(uint64_t key) { return int32_t(uint32_t(key >> 32)); }

}  // namespace

void Dropout::apply(const Tensor &x, int32_t stream, Tensor &y) const {
    kernels().dropout_f32(x, low(seed), high(seed), stream, step, first_row, probability, y);
}

void Dropout::apply_residual(const Tensor &x, const Tensor &residual, int32_t stream, Tensor &y) const {
    kernels().dropout_residual_f32(x, residual, low(seed), high(seed), stream, step, first_row, probability, y);
}

}  // namespace aft
