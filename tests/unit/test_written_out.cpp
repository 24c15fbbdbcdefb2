// WrittenOut: a state that one statement has loaded and advanced is not loaded and advanced again by the next.
#include "generators/written_out.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <string>

namespace aft {
namespace {

using namespace Halide;

// s += in(x, t);  y(x, t) = in(x, t) s
struct Scan {
    ImageParam in{Float(32), 2, "in"};
    Var x{"x"}, xo{"xo"}, t{"t"};
    RDom step{0, in.dim(1).extent(), "step"};
    Func y{"y"};

    Scan() {
        const auto next = [&] { return y(x, step)[1] + in(x, step); };
        y(x, t) = Tuple(undef<float>(), undef<float>());
        y(x, step) = Tuple(in(x, step) * next(), next());
        y.update().split(x, xo, x, 16).reorder(x, xo, step).vectorize(x);
        y.output_buffers()[1].dim(1).set_stride(0);
    }
    int additions(bool written_out) {
        Pipeline pipeline(y);
        if (written_out) pipeline.add_custom_lowering_pass(new WrittenOut);
        const std::string file = ::testing::TempDir() + "written_out.s";
        pipeline.compile_to_assembly(file, {in}, "scan", Target("x86-64-linux-sse41-avx-f16c-fma-avx2-avx512-avx512_skylake-no_runtime-no_bounds_query"));
        int found = 0;
        std::ifstream lines(file);
        for (std::string line; std::getline(lines, line);) found += line.find("\tvaddps") != std::string::npos;
        std::filesystem::remove(file);
        return found;
    }
};

TEST(WrittenOut, AStateIsAdvancedOnce) {
    Scan named, written_out;
    EXPECT_LT(written_out.additions(true), named.additions(false));
}

TEST(WrittenOut, ChangesNoResult) {
    Buffer<float> in(64, 5);
    in.for_each_element([&](int x, int t) { in(x, t) = float(x + 3 * t); });
    for (const bool written_out : {false, true}) {
        Scan scan;
        scan.in.set(in);
        Buffer<float> y(64, 5), all(64, 1);
        all.fill(0.0f);
        halide_dimension_t repeated[] = {{0, 64, 1}, {0, 5, 0}};
        Buffer<float> s(Runtime::Buffer<float>(all.data(), 2, repeated));
        Pipeline pipeline(scan.y);
        if (written_out) pipeline.add_custom_lowering_pass(new WrittenOut);
        pipeline.realize({y, s});
        for (int x = 0; x < 64; x++) {
            float sum = 0;
            for (int t = 0; t < 5; t++) {
                sum += in(x, t);
                EXPECT_EQ(y(x, t), in(x, t) * sum);
            }
        }
    }
}

}  // namespace
}  // namespace aft
