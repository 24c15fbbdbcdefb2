#include "tools/tuner/variant.h"

#include <atomic>
#include <deque>

namespace aft::tool {
namespace {

template <class... Arguments>
struct Counter {
    using Run = int (*)(Raw<Arguments>...);
    static inline Run real = nullptr;
    static inline std::atomic<int64_t> count = 0;
    static int run(Raw<Arguments>... arguments) {
        count++;
        return real(arguments...);
    }
};

// Tables and their variants are handed out as references for good, so they are kept until the process ends.
template <class T>
T &kept(T value) {
    static auto *all = new std::deque<T>;  // not destroyed: a thread of the pool may still run a kernel
    return all->emplace_back(std::move(value));
}

// Puts make(kernel's variant) in the variant's place; false when the kernel has no such variant.
template <class... Arguments>
bool replace(Kernel<Arguments...> &kernel, const std::string &symbol, auto make) {
    using Variant = typename Kernel<Arguments...>::Variant;
    for (size_t n = 0; n < kernel.variants.size(); n++) {
        if (symbol != kernel.variants[n].name) continue;
        auto &copy = kept(std::vector<Variant>(kernel.variants.begin(), kernel.variants.end()));
        copy[n].run = make(copy[n].run);
        kernel.variants = copy;
        return true;
    }
    return false;
}

[[noreturn]] void unknown(const KernelTable &table, const std::string &symbol) {
    throw Error("the kernel table " + std::string(table.target) + " has no variant '" + symbol + "'");
}

template <class... Arguments>
bool count_calls(Kernel<Arguments...> &kernel, const std::string &symbol, CountingTable &counting) {
    using Count = Counter<Arguments...>;
    if (!replace(kernel, symbol, [](auto run) { Count::real = run; return Count::run; })) return false;
    counting.calls = [] { return Count::count.load(); };
    return true;
}

}  // namespace

std::vector<VariantInfo> variants_of(const KernelTable &table) {
    std::vector<VariantInfo> all;
    table.each([&](const auto &kernel) {
        for (const auto &variant : kernel.variants) all.push_back({variant.name, kernel.name, variant.report});
    });
    return all;
}

const KernelTable &table_with(const KernelTable &table, const std::string &symbol, void *run) {
    KernelTable &copy = kept(table);
    bool found = false;
    copy.each([&](auto &kernel) {
        found |= replace(kernel, symbol, [&](auto old) { return reinterpret_cast<decltype(old)>(run); });
    });
    if (!found) unknown(table, symbol);
    return copy;
}

CountingTable counting_table(const KernelTable &table, const std::string &symbol) {
    KernelTable &copy = kept(table);
    CountingTable counting{&copy, nullptr};
    copy.each([&](auto &kernel) { count_calls(kernel, symbol, counting); });
    if (!counting.calls) unknown(table, symbol);
    return counting;
}

}  // namespace aft::tool
