#include "aft/error.h"
#include "models/mixers/mixers.h"

namespace aft {

std::unique_ptr<Mixer> make_local_mixer(const MixerOptions &) { throw Error("AFT-local is not in this build"); }

}  // namespace aft
