#include "tools/tuner/variant.h"

#include <atomic>
#include <deque>
#include <mutex>
#include <sstream>

namespace aft::tool {
namespace {

struct Given {
    std::vector<std::string> values;
    double elements = 0;

    void add(halide_buffer_t *buffer) {
        std::string text;
        double count = 1;
        for (int d = 0; d < buffer->dimensions; d++) text += (d ? "x" : "") + std::to_string(buffer->dim[d].extent), count *= buffer->dim[d].extent;
        values.push_back(text), elements += count;
    }
    void add(auto scalar) {
        std::ostringstream text;
        text << scalar;
        values.push_back(text.str());
    }
};

template <class... Arguments>
struct Counter {
    using Run = int (*)(Raw<Arguments>...);
    static inline Run real = nullptr;
    static inline const halide_filter_metadata_t *metadata = nullptr;
    static inline std::atomic<int64_t> count = 0;
    static inline std::mutex mutex;
    static inline Given largest;

    static int run(Raw<Arguments>... arguments) {
        count++;
        Given given;
        (given.add(arguments), ...);
        {
            const std::lock_guard lock(mutex);  // an operator may call its kernel from several threads
            if (given.elements > largest.elements) largest = std::move(given);
        }
        return real(arguments...);
    }

    // By the generator's names: the parts of a tuple, y.0 and y.1, are its y.
    static std::string text() {
        std::string text, last;
        for (size_t n = 0; n < largest.values.size(); n++) {
            const std::string name = metadata->arguments[n].name, plain = name.substr(0, name.find('.'));
            if (plain == last) continue;
            text += (text.empty() ? "" : ",") + plain + ":" + largest.values[n];
            last = plain;
        }
        return text;
    }
};

// Tables and their variants are handed out as references for good, so they are kept until the process ends.
template <class T>
T &kept(T value) {
    static auto *all = new std::deque<T>;  // not destroyed: a thread of the pool may still run a kernel
    return all->emplace_back(std::move(value));
}

// Puts make(variant) in place of the variant's function; false when the kernel has no such variant.
template <class... Arguments>
bool replace(Kernel<Arguments...> &kernel, const std::string &symbol, auto make) {
    using Variant = typename Kernel<Arguments...>::Variant;
    for (size_t n = 0; n < kernel.variants.size(); n++) {
        if (symbol != kernel.variants[n].name) continue;
        auto &copy = kept(std::vector<Variant>(kernel.variants.begin(), kernel.variants.end()));
        copy[n].run = make(copy[n]);
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
    if (!replace(kernel, symbol, [](const auto &variant) {
            Count::real = variant.run, Count::metadata = variant.metadata();
            return Count::run;
        })) return false;
    counting.calls = [] { return Count::count.load(); };
    counting.arguments = [] { return Count::text(); };
    counting.forget = [] { Count::largest = {}; };
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
        found |= replace(kernel, symbol, [&](const auto &old) { return reinterpret_cast<decltype(old.run)>(run); });
    });
    if (!found) unknown(table, symbol);
    return copy;
}

CountingTable counting_table(const KernelTable &table, const std::string &symbol) {
    KernelTable &copy = kept(table);
    CountingTable counting{&copy, nullptr, nullptr, nullptr};
    copy.each([&](auto &kernel) { count_calls(kernel, symbol, counting); });
    if (!counting.calls) unknown(table, symbol);
    return counting;
}

}  // namespace aft::tool
