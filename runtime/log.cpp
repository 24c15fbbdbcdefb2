#include "runtime/log.h"

#include <mutex>

namespace aft {
namespace {

std::mutex mutex;
LogCallback &callback() {
    static LogCallback callback;
    return callback;
}

}  // namespace

void set_log_callback(LogCallback next) {
    std::lock_guard lock(mutex);
    callback() = std::move(next);
}

void log(LogLevel level, const std::string &message) {
    std::lock_guard lock(mutex);
    if (callback()) callback()(level, message);
}

}  // namespace aft
