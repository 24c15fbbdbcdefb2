#include "runtime/toml.h"

#include <algorithm>
#include <set>

#include "aft/error.h"
#include "runtime/json.h"

namespace aft {
namespace {

class Line {
public:
    Line(std::string_view text, std::string where) : text_(text), where_(std::move(where)) { skip(); }

    bool done() const { return at_ == text_.size() || text_[at_] == '#'; }
    [[noreturn]] void fail(const std::string &what) const { throw Error(where_ + ": " + what); }

    std::string key() {
        const std::string name = word([](char c) { return std::isalnum(static_cast<unsigned char>(c)) || c == '_' || c == '-'; });
        if (name.empty()) fail("a line must be 'key = value'; this one starts with '" + printable(text_.substr(at_), 20) + "'");
        skip();
        if (at_ == text_.size() || text_[at_] != '=') fail("'=' is missing behind the key '" + printable(name) + "'");
        at_++;
        skip();
        return name;
    }

    void value(TomlItem &item) {
        const char quote = at_ < text_.size() ? text_[at_] : '\0';
        item.quoted = quote == '"' || quote == '\'';
        if (item.quoted)
            item.text = quote == '"' ? basic_string() : literal_string();
        else
            item.text = word([](char c) { return std::isalnum(static_cast<unsigned char>(c)) || c == '_' || c == '-' || c == '+' || c == '.'; });
        if (!item.quoted) std::erase(item.text, '_');
        if (item.text.empty() && !item.quoted) fail("the key '" + printable(item.key) + "' has no value that is read here (a string in quotes, a number, true or false)");
        skip();
        if (!done()) fail("what stands behind the value of '" + printable(item.key) + "' is not understood: " + printable(text_.substr(at_), 20));
    }

private:
    void skip() {
        while (at_ < text_.size() && (text_[at_] == ' ' || text_[at_] == '\t' || text_[at_] == '\r')) at_++;
    }
    template <class Test>
    std::string word(Test test) {
        const size_t begin = at_;
        while (at_ < text_.size() && test(text_[at_])) at_++;
        return std::string(text_.substr(begin, at_ - begin));
    }
    std::string literal_string() {
        const size_t end = text_.find('\'', at_ + 1);
        if (end == std::string_view::npos) fail("a string is not closed");
        const std::string out(text_.substr(at_ + 1, end - at_ - 1));
        at_ = end + 1;
        return out;
    }
    std::string basic_string() {
        std::string out;
        for (at_++; at_ < text_.size(); at_++) {
            const char c = text_[at_];
            if (c == '"') {
                at_++;
                return out;
            }
            out += c == '\\' ? escape() : c;
        }
        fail("a string is not closed");
    }
    char escape() {
        static constexpr std::string_view names = "\"\\ntrbf", values = "\"\\\n\t\r\b\f";
        const char c = ++at_ < text_.size() ? text_[at_] : '\0';
        if (const size_t known = names.find(c); known != std::string_view::npos && c) return values[known];
        if (c != 'u' || at_ + 4 >= text_.size()) fail("an escape in a string is not understood");
        const std::string digits(text_.substr(at_ + 1, 4));
        if (!std::ranges::all_of(digits, [](char d) { return std::isxdigit(static_cast<unsigned char>(d)); }) || std::stoi(digits, nullptr, 16) > 127)
            fail("only \\u0000 to \\u007F are read; write other characters as they are");
        at_ += 4;
        return char(std::stoi(digits, nullptr, 16));
    }

    std::string_view text_;
    std::string where_;
    size_t at_ = 0;
};

}  // namespace

std::vector<TomlItem> parse_toml(std::string_view text, const std::string &origin) {
    std::vector<TomlItem> items;
    std::set<std::string> keys;
    int number = 0;
    while (!text.empty()) {
        const size_t end = std::min(text.find('\n'), text.size());
        Line line(text.substr(0, end), origin + ": line " + std::to_string(++number));
        text.remove_prefix(std::min(end + 1, text.size()));
        if (line.done()) continue;
        TomlItem item;
        item.line = number;
        item.key = line.key();
        line.value(item);
        if (!keys.insert(item.key).second) line.fail("the key '" + printable(item.key) + "' stands there twice");
        items.push_back(std::move(item));
    }
    return items;
}

std::string toml_quoted(std::string_view text) {
    static constexpr char hex[] = "0123456789ABCDEF";
    std::string out = "\"";
    for (const char c : text) {
        if (c == '"' || c == '\\')
            out += std::string("\\") + c;
        else if (c == '\n')
            out += "\\n";
        else if (c >= 0 && (c < 32 || c == 127))
            out += std::string("\\u00") + hex[c >> 4] + hex[c & 15];
        else
            out += c;
    }
    return out + "\"";
}

}  // namespace aft
