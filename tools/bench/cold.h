// Cold calls: those that find their operands where a program's other work has left them, not where the call before did.
//
// Decoding reads a layer's weights once a token; those of all other layers pass through the caches until it comes back to them,
// while the activations were just written. So a workload that knows layers is called for one after the other, as many as
// together are what a token reads: the weights come from L3 or memory, as this machine has it, call behind call. Any other
// workload is called behind emptied caches, each call timed alone: everything comes from memory.
#pragma once
#include "tools/bench/measure.h"
#include "tools/bench/workload.h"

namespace aft::tool {

// The threads stream through memory twice as large as the last cache: through their own caches, which others' streams need not reach.
void empty_caches();

// A call of one layer after the other, turn by turn. The workload must know layers.
std::function<void()> layer_by_layer(const Workload &work);

// Samples of cold calls that take `least_seconds`; behind emptied caches the median of single calls, `most_calls` at most.
Sampler cold_sampler(const Workload &work, double least_seconds, int64_t most_calls = 5);

// Bytes among which a call's operands lie: cold, those of all layers, or (no layers) more than any cache holds.
double footprint(const Workload &work, bool cold);

}  // namespace aft::tool
