// Messages of the library to the callback that the program installed.
#pragma once
#include "aft/log.h"

namespace aft {

void log(LogLevel level, const std::string &message);

}  // namespace aft
