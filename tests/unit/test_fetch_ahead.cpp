// FetchAhead: what it asks for, counted in the assembly, and that nothing else changes.
#include "generators/fetch_ahead.h"

#include <gtest/gtest.h>

#include <fstream>
#include <string>
#include <vector>

#include "tests/runtime/test_files.h"

namespace aft {
namespace {

using namespace Halide;

// y(x, t) = 2 sum_k in(x, t + k), rows of 32 floats: two lines of 64 bytes.
struct Rows {
    ImageParam in{Float(32), 2, "in"};
    Var x{"x"}, t{"t"};
    RDom k{0, 100, "k"};
    Func sum{"sum"}, y{"y"};

    Rows() {
        sum(x, t) += in(x, t + k);
        y(x, t) = 2.0f * sum(x, t);
        y.bound(x, 0, 32).vectorize(x, 16).unroll(x);
        sum.compute_at(y, t).bound_extent(x, 32).store_in(MemoryType::Register).vectorize(x, 16).unroll(x);
        sum.update().reorder(x, k).vectorize(x, 16).unroll(x);
        in.dim(0).set_bounds(0, 32);
    }
    Pipeline fetching(FetchAhead *fetch) {
        Pipeline pipeline(y);
        pipeline.add_custom_lowering_pass(fetch);
        return pipeline;
    }
    static std::vector<std::string> lines_with(const std::string &part, const std::string &file) {
        std::vector<std::string> found;
        std::ifstream lines(file);
        for (std::string line; std::getline(lines, line);)
            if (line.find(part) != std::string::npos) found.push_back(line);
        return found;
    }
    static std::vector<std::string> lowered(Pipeline &pipeline, const std::vector<Argument> &arguments, const std::string &part = "llvm.prefetch") {
        const test::TemporaryFolder folder;
        const std::string file = folder / "rows.stmt";
        pipeline.compile_to_lowered_stmt(file, arguments, Text, target);
        return lines_with(part, file);
    }
    static size_t asked(Pipeline &pipeline, const std::vector<Argument> &arguments, const std::string &instruction = "prefetcht0", const Target &on = target) {
        const test::TemporaryFolder folder;
        const std::string file = folder / "rows.s";
        pipeline.compile_to_assembly(file, arguments, "rows", on);
        return lines_with("\t" + instruction, file).size();
    }
    inline static const Target target{"x86-64-linux-sse41-avx-f16c-fma-avx2-no_runtime"};
};

TEST(FetchAhead, AsksForEachLineOfATurnOnce) {
    Rows none, loads, stores;
    Pipeline plain(none.y);
    EXPECT_EQ(Rows::asked(plain, {none.in}), 0u);
    auto *of_loads = new FetchAhead, *of_stores = new FetchAhead;
    of_loads->loads(loads.sum, loads.k.x, "in", 8);
    of_stores->stores(stores.y, stores.t, 0);
    Pipeline fetching = loads.fetching(of_loads), storing = stores.fetching(of_stores);
    EXPECT_EQ(Rows::asked(fetching, {loads.in}), 2u);
    EXPECT_EQ(Rows::asked(storing, {stores.in}), 2u);
}

TEST(FetchAhead, AsksToWriteWhatAnotherFunctionStores) {
    Func twice{"twice"}, half{"half"};
    Var x{"x"};
    ImageParam in{Float(32), 1, "in"};
    twice(x) = 2.0f * in(x), half(x) = 0.5f * in(x);
    in.dim(0).set_bounds(0, 3200);
    Var xo{"xo"}, xi{"xi"};
    for (Func f : {twice, half}) f.bound(x, 0, 3200).split(x, xo, xi, 16).vectorize(xi);
    half.compute_with(twice, xo);
    auto *fetch = new FetchAhead;
    fetch->owns(twice, xo, half, 1);
    Pipeline pipeline({twice, half});
    pipeline.add_custom_lowering_pass(fetch);
    const Target wide{"x86-64-linux-sse41-avx-f16c-fma-avx2-avx512-avx512_skylake-no_runtime"};
    EXPECT_EQ(Rows::asked(pipeline, {in}, "prefetchw", wide), 1u);
    EXPECT_EQ(Rows::asked(pipeline, {in}, "prefetcht0", wide), 0u);
    EXPECT_EQ(Rows::asked(pipeline, {in}), 1u);  // a target without prefetchw asks to read
}

TEST(FetchAhead, AsksForTheRightLines) {
    Rows rows;
    auto *fetch = new FetchAhead;
    fetch->loads(rows.sum, rows.k.x, "in", 8);
    Pipeline pipeline = rows.fetching(fetch);
    std::string asked;
    for (const std::string &line : Rows::lowered(pipeline, {rows.in})) asked += line + "\n";
    EXPECT_NE(asked.find("+ 8"), std::string::npos) << asked;
    EXPECT_NE(asked.find("(int64)16"), std::string::npos) << asked;
}

// A row after a row: the turns of the loop over time, asked for in the loop along a row; of a tuple one value only.
TEST(FetchAhead, CountsTurnsOfALoopAround) {
    ImageParam in{Float(32), 2, "in"};
    Var x{"x"}, xo{"xo"}, t{"t"};
    Func y{"y"};
    y(x, t) = Tuple(in(x, t), 2.0f * in(x, t));
    y.bound(x, 0, 64).split(x, xo, x, 16).vectorize(x);
    auto *fetch = new FetchAhead;
    fetch->loads(y, xo, "in", 3, t);
    fetch->stores(y, 1, xo, 2, t);
    Pipeline pipeline(y);
    pipeline.add_custom_lowering_pass(fetch);
    const std::vector<std::string> asked = Rows::lowered(pipeline, {in});
    ASSERT_EQ(asked.size(), 2u);
    const bool first_stores = asked[0].find(y.name() + ".1)") != std::string::npos;
    const std::string &stores = asked[first_stores ? 0 : 1], &loads = asked[first_stores ? 1 : 0];
    EXPECT_NE(loads.find("(in)"), std::string::npos) << loads;
    EXPECT_NE(loads.find("+ 3)*in.stride.1"), std::string::npos) << loads;
    EXPECT_NE(stores.find(y.name() + ".1)"), std::string::npos) << stores;
    EXPECT_NE(stores.find("+ 2)*" + y.name() + ".1.stride.1"), std::string::npos) << stores;
}

// What the next tile copies, asked for while this one's rows are copied: the turns of a loop of the function that reads the copy.
TEST(FetchAhead, CountsTurnsOfTheLoopThatReadsACopy) {
    ImageParam in{Float(32), 2, "in"};
    Var x{"x"}, t{"t"}, tile{"tile"};
    Func copy{"copy"}, y{"y"};
    copy(x, t) = in(x, t);
    y(x, t) = 2.0f * copy(x, t);
    y.bound(x, 0, 64).bound(t, 0, 400).split(t, tile, t, 4).vectorize(x, 16);
    copy.compute_at(y, tile).store_in(MemoryType::Stack).vectorize(x, 16);
    auto *fetch = new FetchAhead;
    fetch->loads(copy, x, "in", 1, y, tile);
    Pipeline pipeline(y);
    pipeline.add_custom_lowering_pass(fetch);
    const std::vector<std::string> asked = Rows::lowered(pipeline, {in});
    ASSERT_EQ(asked.size(), 1u);
    EXPECT_NE(asked[0].find("(in)"), std::string::npos) << asked[0];
    EXPECT_NE(asked[0].find(y.name() + ".s0.t.tile*4) + " + copy.name()), std::string::npos) << asked[0];
    EXPECT_NE(asked[0].find(" + 4)*in.stride.1"), std::string::npos) << asked[0];
}

TEST(FetchAhead, AsksForRowsFurtherOnInL2) {
    Rows loads, stores, both;
    auto *of_loads = new FetchAhead, *of_stores = new FetchAhead, *of_both = new FetchAhead;
    of_loads->loads_rows_on(loads.sum, loads.k.x, "in", 6);
    of_stores->stores_rows_on(stores.y, stores.t, 6);
    of_both->loads_rows_on(both.sum, both.k.x, "in", 6), of_both->stores_rows_on(both.y, both.t, 6);
    Pipeline fetching = loads.fetching(of_loads), storing = stores.fetching(of_stores), doing_both = both.fetching(of_both);
    EXPECT_EQ(Rows::asked(fetching, {loads.in}, "prefetcht1"), 2u);
    EXPECT_EQ(Rows::asked(storing, {stores.in}, "prefetcht1"), 2u);
    std::vector<std::string> asked, steps;
    for (const std::string &line : Rows::lowered(doing_both, {both.in}, "6_rows")) (line.find("llvm.prefetch") == std::string::npos ? steps : asked).push_back(line);
    EXPECT_EQ(asked.size(), 4u);
    EXPECT_EQ(steps.size(), 2u);
    for (const std::string &line : steps) {
        EXPECT_NE(line.find("_halide_buffer_get_stride"), std::string::npos) << line;
        EXPECT_NE(line.find("24"), std::string::npos) << line;  // bytes in 6 rows of elements
    }
}

// y(x, i, p) = sum_k a(k, i) b(x, k, p): the rows i pass over the two lines of each k of panel p.
struct Panels {
    ImageParam a{Float(32), 2, "a"}, b{Float(32), 3, "b"};
    Var x{"x"}, i{"i"}, p{"p"};
    RDom k{0, 20, "k"};
    Func sum{"sum"}, y{"y"};

    Panels() {
        sum(x, i, p) += a(k, i) * b(x, k, p);
        y(x, i, p) = 2.0f * sum(x, i, p);
        y.bound(x, 0, 32).vectorize(x, 16).unroll(x);
        sum.compute_at(y, i).bound_extent(x, 32).store_in(MemoryType::Register).vectorize(x, 16).unroll(x);
        sum.update().reorder(x, k).vectorize(x, 16).unroll(x);
        b.dim(0).set_bounds(0, 32), b.dim(1).set_bounds(0, 20).set_stride(32), b.dim(2).set_stride(640);
    }
    Pipeline fetching(int lines) {
        auto *fetch = new FetchAhead;
        fetch->next_stream(sum, k.x, "b", lines, y, i, p);
        Pipeline pipeline(y);
        pipeline.add_custom_lowering_pass(fetch);
        return pipeline;
    }
};

// One line a turn: the first pass asks for the first half of the next panel, the second and each further one for the other half.
TEST(FetchAhead, SpreadsTheNextPanelOverThePasses) {
    Panels one, two;
    Pipeline fetching = one.fetching(1), both = two.fetching(2);
    EXPECT_EQ(Rows::asked(fetching, {one.a, one.b}, "prefetcht1"), 1u);
    EXPECT_EQ(Rows::asked(both, {two.a, two.b}, "prefetcht1"), 2u);
    const std::vector<std::string> asked = Rows::lowered(fetching, {one.a, one.b});
    ASSERT_EQ(asked.size(), 1u);
    EXPECT_NE(asked[0].find("min(" + one.y.name() + ".s0.i"), std::string::npos) << asked[0];
    EXPECT_NE(asked[0].find("1)*20"), std::string::npos) << asked[0];  // at most one pass before it, of 20 turns
    EXPECT_NE(asked[0].find(one.y.name() + ".s0.p"), std::string::npos) << asked[0];
}

TEST(FetchAhead, APanelAheadChangesNoResult) {
    Panels with, without;
    Buffer<float> a(20, 5), b(32, 20, 3);
    a.for_each_element([&](int k, int i) { a(k, i) = float((k * 31 + i * 7) % 11); });
    b.for_each_element([&](int x, int k, int p) { b(x, k, p) = float((x * 37 + k * 101 + p) % 13); });
    for (Panels *one : {&with, &without}) one->a.set(a), one->b.set(b);
    Pipeline fetching = with.fetching(1), plain(without.y);
    const Buffer<float> y = fetching.realize({32, 5, 3}), expected = plain.realize({32, 5, 3});
    y.for_each_element([&](int x, int i, int p) { ASSERT_EQ(y(x, i, p), expected(x, i, p)); });
}

TEST(FetchAhead, ChangesNoResult) {
    Rows with, without;
    auto *fetch = new FetchAhead;
    fetch->loads(with.sum, with.k.x, "in", 8);
    fetch->stores(with.y, with.t, 3);
    fetch->loads_rows_on(with.sum, with.k.x, "in", 1000);
    fetch->stores_rows_on(with.y, with.t, 1000);
    Buffer<float> in(32, 120);
    for (int t = 0; t < 120; t++)
        for (int x = 0; x < 32; x++) in(x, t) = float((x * 37 + t * 101) % 97);
    with.in.set(in), without.in.set(in);
    Pipeline fetching = with.fetching(fetch), plain(without.y);
    const Buffer<float> y = fetching.realize({32, 21}), expected = plain.realize({32, 21});
    for (int t = 0; t < 21; t++)
        for (int x = 0; x < 32; x++) ASSERT_EQ(y(x, t), expected(x, t));
}

}  // namespace
}  // namespace aft
