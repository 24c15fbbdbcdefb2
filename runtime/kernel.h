// A kernel: one typed call over its compiled variants.
#pragma once
#include <HalideRuntime.h>

#include <span>
#include <string>
#include <type_traits>
#include <utility>

#include "aft/error.h"
#include "aft/tensor.h"
#include "runtime/trace.h"

namespace aft {

// The halide_buffer_t of a tensor, on the stack of one kernel call: kernels write into the struct, so threads must not
// share it. Halide's dimension 0 is the tensor's last axis.
class BufferView {
public:
    // Leading axes of extent 1 are added up to `rank` (generators/kernel_generator.h, "In place").
    explicit BufferView(const Tensor &tensor, int rank = 0);
    BufferView(const BufferView &) = delete;
    operator halide_buffer_t *() { return &buffer_; }

private:
    static constexpr int max_rank = 5;
    halide_buffer_t buffer_{};
    halide_dimension_t dims_[max_rank];
};

// What generated code takes for an argument, and how to make it: a buffer for a tensor, a scalar as it is.
template <class T> using IsTensor = std::is_same<std::remove_cvref_t<T>, Tensor>;
template <class T> using Raw = std::conditional_t<IsTensor<T>::value, halide_buffer_t *, T>;
inline BufferView hold(const Tensor &tensor, int rank) { return BufferView(tensor, rank); }
template <class T> requires std::is_arithmetic_v<T>
T hold(T scalar, int) { return scalar; }

inline bool is_empty_output(Tensor &output) { return output.elements() == 0; }
inline bool is_empty_output(const auto &) { return false; }

[[noreturn]] void throw_kernel_error(const char *kernel, int code);

template <class... Arguments>
struct Kernel {
    struct Variant {
        const char *name;
        bool (*fits)(Arguments...);
        int (*run)(Raw<Arguments>...);
        const halide_filter_metadata_t *(*metadata)();
        const char *report;  // JSON: the record that it came from, its knobs
    };

    const char *name;
    std::span<const Variant> variants;

    const Variant &choose(Arguments... arguments) const {
        for (const Variant &variant : variants)
            if (variant.fits(arguments...)) return variant;
        throw Error(std::string(name) + ": no variant for this shape");
    }

    void operator()(Arguments... arguments) const {
        if ((is_empty_output(arguments) || ...)) return;  // Halide refuses clamped reads of nothing
        const Variant &variant = choose(arguments...);
        const TraceSpan span(variant.name);
        const halide_filter_argument_t *wanted = variant.metadata()->arguments;
        const int code = [&]<size_t... n>(std::index_sequence<n...>) { return variant.run(hold(arguments, wanted[n].dimensions)...); }(std::index_sequence_for<Arguments...>());
        if (code) throw_kernel_error(variant.name, code);
    }
};

}  // namespace aft
