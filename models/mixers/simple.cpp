#include "aft/error.h"
#include "models/mixers/mixers.h"

namespace aft {

std::unique_ptr<Mixer> make_simple_mixer(const MixerOptions &) { throw Error("AFT-simple is not in this build"); }

}  // namespace aft
