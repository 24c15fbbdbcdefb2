// Numbers of AFT-full that tests change; models use the defaults.
#pragma once
#include <cstdint>

namespace aft {

struct FullSettings {
    // Queries and keys of one tile, and keys of one reference maximum in the causal form. 256: the products are large
    // enough for their rate, the half of a diagonal tile that is computed for nothing is T / 256 of the work, and a key up to
    // 255 steps later is all that can push an early row out of range.
    int64_t block = 256;
    // exp(w) is kept from forward to backward when T x T floats fit, else rebuilt tile by tile.
    int64_t workspace_bytes = int64_t(64) << 20;
    // Columns of a product over the batch: 2 C per sequence. Its tile of 256 keys then is 4 MiB.
    int64_t columns = 4096;
};

FullSettings &full_settings();  // not while another thread is inside the library

}  // namespace aft
