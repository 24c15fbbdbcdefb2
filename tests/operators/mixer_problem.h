// What the tests of the operators' identities share: a random problem, its tensors as a mixer takes them, and the memory that a
// forward and a backward pass need.
#pragma once
#include "aft/arena.h"
#include "aft/mixer.h"
#include "tests/reference/aft_oracle.h"

namespace aft::reference {

// Inputs of AFT-full or AFT-local: [B, T, C] with a bias of rank D, or a dense one where D is 0.
inline Tensors biased_problem(int64_t B, int64_t T, int64_t C, int64_t D, double keys = 1) {
    Tensors in = {{"query", random_tensor({B, T, C}, 1, 1)}, {"key", random_tensor({B, T, C}, keys, 2)}, {"value", random_tensor({B, T, C}, 1, 3)},
                  {"output_gradient", random_tensor({B, T, C}, 1, 4)}};
    if (D)
        in["bias_u"] = random_tensor({T, D}, 0.5, 5), in["bias_v"] = random_tensor({T, D}, 0.5, 6);
    else
        in["position_bias"] = random_tensor({T, T}, 1, 5);
    return in;
}

inline MixerTensors mixer_tensors(const Tensors &in) {
    const auto given = [&](const char *name) { return in.contains(name) ? in.at(name) : Tensor(); };
    MixerTensors x;
    x.query = given("query"), x.key = given("key"), x.value = given("value"), x.filter = given("filter");
    x.position_bias = given("position_bias"), x.bias_u = given("bias_u"), x.bias_v = given("bias_v");
    return x;
}

// Bytes of workspace at the peak of a forward and a backward pass on the given inputs.
inline size_t peak_of_passes(const MixerOptions &options, const Tensors &in) {
    const MixerTensors x = mixer_tensors(in);
    MixerTensors dx;
    for (auto member : {&MixerTensors::query, &MixerTensors::key, &MixerTensors::value, &MixerTensors::bias_u, &MixerTensors::bias_v, &MixerTensors::filter})
        if ((x.*member).defined()) dx.*member = Tensor((x.*member).shape()), (dx.*member).fill(0);
    const auto mixer = make_mixer(options);
    Arena arena;
    for (int pass = 0; pass < 2; pass++) {  // the second in one block, so that the peak counts no gaps
        arena.reset();
        MixerSaved saved;
        Tensor output(x.value.shape());
        mixer->forward(x, output, saved, arena);
        mixer->backward(x, output, saved, in.at("output_gradient"), dx, arena);
    }
    return arena.peak();
}

}  // namespace aft::reference
