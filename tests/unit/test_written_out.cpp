// WrittenOut: which names go, and that no result changes.
#include "generators/written_out.h"

#include <gtest/gtest.h>

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
};

// let n = 5:  for i in 0 .. 8:  let index = i * 16:  let x = 0.5:  use(index + n, x)
TEST(WrittenOut, IndicesInsideLoopsLoseTheirNames) {
    using namespace Halide::Internal;
    const Expr i = Variable::make(Int(32), "i"), n = Variable::make(Int(32), "n"), index = Variable::make(Int(32), "index"), x = Variable::make(Float(32), "x");
    const Stmt use = Evaluate::make(Call::make(Int(32), "use", {index + n, x}, Call::Extern));
    const Stmt inner = LetStmt::make("index", i * 16, LetStmt::make("x", 0.5f, use));
    const Stmt all = LetStmt::make("n", 5, For::make("i", 0, 8, ForType::Serial, Partition::Auto, DeviceAPI::None, inner));

    const Stmt found = WrittenOut().mutate(all);
    const auto *outside = found.as<LetStmt>();
    ASSERT_TRUE(outside);
    const auto *loop = outside->body.as<For>();
    ASSERT_TRUE(loop);
    const auto *number = loop->body.as<LetStmt>();
    ASSERT_TRUE(number);
    EXPECT_EQ(number->name, "x");
    const auto *used = number->body.as<Evaluate>();
    ASSERT_TRUE(used);
    EXPECT_TRUE(equal(used->value, Call::make(Int(32), "use", {i * 16 + n, x}, Call::Extern)));
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
