#include "runtime/json.h"

#include <cmath>
#include <vector>

#include "aft/error.h"

namespace aft {
namespace {

// Builds the tree as nlohmann's own builder does, with limits. (Its builder keeps the last of two equal keys.)
class Builder final : public nlohmann::json_sax<Json> {
public:
    Builder(const std::string &origin, JsonLimits limits) : origin_(origin), limits_(limits) {}
    Json root;

    bool null() override { return add(nullptr); }
    bool boolean(bool value) override { return add(value); }
    bool number_integer(number_integer_t value) override { return add(value); }
    bool number_unsigned(number_unsigned_t value) override { return add(value); }
    bool number_float(number_float_t value, const string_t &) override { return add(value); }
    bool string(string_t &value) override { return add(std::move(value)); }
    bool binary(binary_t &) override { return false; }
    bool start_object(std::size_t) override { return open(Json::object()); }
    bool start_array(std::size_t) override { return open(Json::array()); }
    bool end_object() override { return close(); }
    bool end_array() override { return close(); }

    bool key(string_t &name) override {
        Json &object = *open_.back();
        if (object.contains(name)) throw Error(origin_ + ": the key '" + printable(name) + "' stands there twice");
        slot_ = &object[name];
        return true;
    }

    bool parse_error(std::size_t position, const std::string &, const nlohmann::detail::exception &error) override {
        std::string reason = error.what();
        if (const size_t colon = reason.find(": "); colon != std::string::npos) reason = reason.substr(colon + 2);
        throw Error(origin_ + ": no valid JSON at byte " + std::to_string(position) + " (" + printable(reason, 160) + ")");
    }

private:
    Json &place(Json value) {
        if (++count_ > limits_.values) throw Error(origin_ + ": more than " + std::to_string(limits_.values) + " values");
        if (open_.empty()) return root = std::move(value);
        if (open_.back()->is_array()) return open_.back()->emplace_back(std::move(value));
        return *slot_ = std::move(value);
    }
    template <class Value>
    bool add(Value &&value) {
        place(Json(std::forward<Value>(value)));
        return true;
    }
    bool open(Json value) {
        if (int(open_.size()) == limits_.depth) throw Error(origin_ + ": nested deeper than " + std::to_string(limits_.depth) + " levels");
        open_.push_back(&place(std::move(value)));
        return true;
    }
    bool close() {
        open_.pop_back();
        return true;
    }

    const std::string &origin_;
    JsonLimits limits_;
    int64_t count_ = 0;
    std::vector<Json *> open_;  // a container's address holds while it is open: only the innermost grows
    Json *slot_ = nullptr;
};

[[noreturn]] void wrong_type(const Json &value, const std::string &name, const char *wanted) {
    std::string shown = value.is_primitive() ? " (" + printable(value.dump(-1, ' ', true, Json::error_handler_t::replace), 40) + ")" : "";
    throw Error(name + " is " + type_name(value) + shown + "; it must be " + wanted);
}

}  // namespace

Json parse_json(std::string_view text, const std::string &origin, JsonLimits limits) {
    Builder builder(origin, limits);
    Json::sax_parse(text, &builder);
    return std::move(builder.root);
}

const char *type_name(const Json &value) {
    switch (value.type()) {
        case Json::value_t::null: return "null";
        case Json::value_t::object: return "an object";
        case Json::value_t::array: return "a list";
        case Json::value_t::string: return "a string";
        case Json::value_t::boolean: return "true or false";
        case Json::value_t::number_integer:
        case Json::value_t::number_unsigned: return "an integer";
        case Json::value_t::number_float: return "a number with a fraction";
        default: return "something else";
    }
}

std::string printable(std::string_view text, size_t most) {
    std::string out;
    for (const char c : text.substr(0, most)) out += c >= 32 && c < 127 ? c : '?';
    return text.size() > most ? out + "..." : out;
}

int64_t to_int64(const Json &value, const std::string &name) {
    if (!value.is_number_integer()) wrong_type(value, name, "an integer");
    if (value.is_number_unsigned() && value.get<uint64_t>() > uint64_t(std::numeric_limits<int64_t>::max()))
        throw Error(name + " is " + value.dump() + ", which is too large");
    return value.get<int64_t>();
}

double to_double(const Json &value, const std::string &name) {
    if (!value.is_number()) wrong_type(value, name, "a number");
    const double number = value.get<double>();
    if (!std::isfinite(number)) throw Error(name + " is not finite");
    return number;
}

bool to_bool(const Json &value, const std::string &name) {
    if (!value.is_boolean()) wrong_type(value, name, "true or false");
    return value.get<bool>();
}

std::string to_text(const Json &value, const std::string &name) {
    if (!value.is_string()) wrong_type(value, name, "a string");
    return value.get<std::string>();
}

JsonObject::JsonObject(const Json &value, std::string origin) : object_(value), origin_(std::move(origin)) {
    if (!value.is_object()) wrong_type(value, origin_, "an object");
}

const Json *JsonObject::find(const std::string &key) {
    seen_.insert(key);
    const auto found = object_.find(key);
    return found == object_.end() ? nullptr : &*found;
}

const Json &JsonObject::get(const std::string &key) {
    if (const Json *found = find(key)) return *found;
    throw Error(origin_ + ": the key '" + printable(key) + "' is missing");
}

void JsonObject::read(const std::string &key, int64_t &value) {
    if (const Json *found = find(key)) value = to_int64(*found, name(key));
}
void JsonObject::read(const std::string &key, double &value) {
    if (const Json *found = find(key)) value = to_double(*found, name(key));
}
void JsonObject::read(const std::string &key, bool &value) {
    if (const Json *found = find(key)) value = to_bool(*found, name(key));
}
void JsonObject::read(const std::string &key, std::string &value) {
    if (const Json *found = find(key)) value = to_text(*found, name(key));
}

void JsonObject::finish() const {
    for (const auto &[key, value] : object_.items())
        if (!seen_.contains(key)) {
            std::string known;
            for (const std::string &name : seen_) known += (known.empty() ? "" : ", ") + name;
            throw Error(origin_ + ": unknown key '" + printable(key) + "'; known keys: " + known);
        }
}

}  // namespace aft
