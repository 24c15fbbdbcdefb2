// Which kernel table this CPU runs.
#include "kernel_table.h"

#include <atomic>

#include "runtime/cpu.h"
#include "runtime/halide_hooks.h"

namespace aft {
namespace {

std::atomic<const KernelTable *> forced = nullptr;

}  // namespace

const KernelTable &kernel_table(std::string_view target) {
    [[maybe_unused]] static const bool once = (install_halide_hooks(), true);
    const KernelTable *best = nullptr;
    std::string built;
    for (const KernelTable *table : kernel_tables) {
        built += std::string(built.empty() ? "" : ", ") + table->target;
        if (cpu_runs(table->target) && (target.empty() || target == table->target)) best = table;
    }
    if (best) return *best;
    if (target.empty())
        throw Error("this CPU runs none of the kernel tables of this build (" + built + "): it lacks AVX2, FMA or F16C. Use a CPU of 2015 or newer");
    throw Error("there is no kernel table '" + std::string(target) + "' for this CPU in this build; built: " + built);
}

const KernelTable &kernels() {
    const KernelTable *table = forced.load(std::memory_order_acquire);
    if (!table) {
        table = &kernel_table("");
        forced.store(table, std::memory_order_release);
    }
    return *table;
}

void use_kernel_table(std::string_view target) { forced = &kernel_table(target); }

void use_kernel_table(const KernelTable &table) { forced.store(&table, std::memory_order_release); }

}  // namespace aft
