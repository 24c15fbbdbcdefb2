// One maker per operator; make_mixer (include/aft/mixer.h) chooses.
#pragma once
#include "aft/mixer.h"

namespace aft {

std::unique_ptr<Mixer> make_simple_mixer(const MixerOptions &options);
std::unique_ptr<Mixer> make_full_mixer(const MixerOptions &options);
std::unique_ptr<Mixer> make_local_mixer(const MixerOptions &options);
std::unique_ptr<Mixer> make_conv_mixer(const MixerOptions &options);

/// Throws an Error unless `output` can be what forward made of `in`.
void check_mixer_output(const MixerTensors &in, const Tensor &output);

void count_exact_elements(int64_t count);  // adds to exact_path_count()

}  // namespace aft
