// Where the library's messages go. The library never prints.
#pragma once
#include <functional>
#include <string>

namespace aft {

enum class LogLevel { debug, info, warning };

/// Receives each message; called on the thread that logs, one call at a time. Empty (the start) drops messages.
using LogCallback = std::function<void(LogLevel level, const std::string &message)>;
void set_log_callback(LogCallback callback);

}  // namespace aft
