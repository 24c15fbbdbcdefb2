// The part of TOML that a flat list of settings needs: `key = value` lines with strings, integers, numbers, true and false,
// and comments. Tables, lists and dates are refused with the line. (Recipes and a run's config.toml. A reader of our own
// because the library resumes runs without the program's command-line parser, whose versions differ in escapes.)
#pragma once
#include <string>
#include <string_view>
#include <vector>

namespace aft {

struct TomlItem {
    std::string key, text;  ///< text: the string itself, or the number or truth value as written (without '_')
    bool quoted = false;    ///< it was a string
    int line = 0;
};

/// Throws an Error that names the origin and the line.
std::vector<TomlItem> parse_toml(std::string_view text, const std::string &origin);

/// The text in quotes with escapes, as parse_toml reads it back.
std::string toml_quoted(std::string_view text);

}  // namespace aft
