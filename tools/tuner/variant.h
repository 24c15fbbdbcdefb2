// One compiled variant of a kernel, seen without its C++ type: its report, and tables in which another function stands
// in its place.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "kernel_table.h"

namespace aft::tool {

struct VariantInfo {
    std::string symbol, kernel, report;
};
std::vector<VariantInfo> variants_of(const KernelTable &table);

// A copy of the table that calls `run` for the variant; it lives as long as the process. Throws Error for an unknown one.
const KernelTable &table_with(const KernelTable &table, const std::string &symbol, void *run);

// A copy of the table that counts the variant's calls and remembers what the largest one was given.
struct CountingTable {
    const KernelTable *table;
    int64_t (*calls)();
    std::string (*arguments)();  // "x:512x4096,weight:512,epsilon:1e-05": extents, dimension 0 first, or the value
    void (*forget)();
};
CountingTable counting_table(const KernelTable &table, const std::string &symbol);

}  // namespace aft::tool
