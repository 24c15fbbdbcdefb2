// Strict reading of JSON from outside: no duplicate keys, bounded depth and size, unknown keys and wrong types refused by
// name. Every failure is an aft::Error that starts with the origin (a file name).
#pragma once
#include <cstdint>
#include <limits>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <string_view>

namespace aft {

using Json = nlohmann::json;

struct JsonLimits {
    int depth = 16;
    int64_t values = 4'000'000;  ///< keys, numbers, strings and containers: bounds the memory of the tree
};

/// Throws Error for text that is not one JSON value within the limits.
Json parse_json(std::string_view text, const std::string &origin, JsonLimits limits = {});

/// "an object", "a string", "a number" ..., for messages.
const char *type_name(const Json &value);

/// Shortens text for a message and replaces what is not printable.
std::string printable(std::string_view text, size_t most = 80);

/// One value as the type asked for; throws Error that says `name`.
int64_t to_int64(const Json &value, const std::string &name);  ///< integers only, within int64
double to_double(const Json &value, const std::string &name);  ///< any finite number
bool to_bool(const Json &value, const std::string &name);
std::string to_text(const Json &value, const std::string &name);

/// Reads an object key by key; finish() refuses the keys that nobody asked for.
class JsonObject {
public:
    /// Throws Error when the value is not an object. The value must outlive this.
    JsonObject(const Json &value, std::string origin);

    const Json *find(const std::string &key);           ///< null when absent
    const Json &get(const std::string &key);            ///< throws Error when absent
    std::string name(const std::string &key) const { return origin_ + ": '" + printable(key) + "'"; }

    /// Each leaves `value` alone when the key is absent.
    void read(const std::string &key, int64_t &value);
    void read(const std::string &key, double &value);
    void read(const std::string &key, bool &value);
    void read(const std::string &key, std::string &value);

    void ignore(const std::string &key) { find(key); }
    void finish() const;

private:
    const Json &object_;
    std::string origin_;
    std::set<std::string> seen_;
};

}  // namespace aft
