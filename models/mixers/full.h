// Numbers of AFT-full that tests change; models use the defaults.
#pragma once
#include <cstdint>

namespace aft {

struct FullSettings {
    // Queries and keys of a block, which share the reference maximum of K in the causal form; rounded up to whole tiles of 12. 288: 24
    // tiles, and 9 of the 32 keys that dw takes side by side; a key up to 287 steps later is all that can push an early row
    // out of range.
    int64_t block = 288;
    // exp(w) is kept from forward to backward when T x T floats fit, else rebuilt tile by tile.
    int64_t workspace_bytes = int64_t(64) << 20;
    // Columns of a product over the batch: 2 C per sequence, packed for all keys at once. 1024 keys then are 16 MiB.
    int64_t columns = 4096;
};

FullSettings &full_settings();  // not while another thread is inside the library

}  // namespace aft
