#include "aft/error.h"
#include "models/mixers/mixers.h"

namespace aft {

std::unique_ptr<Mixer> make_conv_mixer(const MixerOptions &) { throw Error("AFT-conv is not in this build"); }

}  // namespace aft
