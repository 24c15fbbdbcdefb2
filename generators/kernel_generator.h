// What every generator of this project shares: the parameters that the build passes (generators/kernels.cmake).
#pragma once
#include <Halide.h>

#include "generators/request.h"

namespace aft {

template <class Derived>
class KernelGenerator : public Halide::Generator<Derived> {
public:
    template <class T> using Param = Halide::GeneratorParam<T>;
    Param<std::string> variant{"variant", ""}, records{"records", ""}, knobs{"knobs", ""}, report{"report", ""}, check{"check", ""};

protected:
    Request request(const std::string &part = "") { return {this->target, part, variant.value(), knobs.value(), records.value(), report.value(), check.value()}; }

    // Every buffer starts at 0 in every dimension; an inner stride other than 1 stays refused (Halide's default).
    template <class... Buffers>
    static void start_at_zero(Buffers &...buffers) {
        const auto one = [](auto &buffer) {
            for (int d = 0; d < buffer.dimensions(); d++) buffer.dim(d).set_min(0);
        };
        (one(buffers), ...);
    }

    // In place: Halide 21 takes a read of a kernel's own output for vector-aligned when it knows the index to be a multiple of
    // the vector, whatever the buffer's pointer is (it asks the host alignment of inputs only). A view of a parameter may start
    // anywhere. So an output that an update reads gets a second axis `one` of unknown stride, which leaves nothing to
    // know; Kernel::operator() adds leading axes of extent 1 where a kernel wants them.

    // Fixes the extents of a buffer, dimension 0 first.
    template <class Buffer>
    static void shaped(Buffer &buffer, std::initializer_list<Halide::Expr> extents) {
        int d = 0;
        for (const Halide::Expr &extent : extents) {
            buffer.dim(d).set_min(0);
            buffer.dim(d++).set_extent(extent);
        }
    }
};

}  // namespace aft
