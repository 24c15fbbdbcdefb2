// SHA-1 (FIPS 180-4), to recognise published files; not for secrets.
#pragma once
#include <string>
#include <string_view>

namespace aft {

/// 40 hexadecimal digits.
std::string sha1(std::string_view bytes);

}  // namespace aft
