#include "aft/error.h"
#include "models/mixers/mixers.h"

namespace aft {

std::unique_ptr<Mixer> make_full_mixer(const MixerOptions &) { throw Error("AFT-full is not in this build"); }

}  // namespace aft
