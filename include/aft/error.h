// The one exception that the library throws.
#pragma once
#include <stdexcept>

namespace aft {

/// Every failure that the library reports: the message says what was wrong, which value, and what to do next.
class Error : public std::runtime_error {
    using std::runtime_error::runtime_error;
};

}  // namespace aft
