// Progress on stderr: one line that is rewritten on a terminal, plain lines elsewhere.
#pragma once
#include <string>

namespace aft::tool {

class ProgressLine {
public:
    explicit ProgressLine(bool quiet);
    ~ProgressLine();

    /// Rewrites the line; without a terminal prints at most one line every few seconds, unless `always`.
    void update(const std::string &text, bool always = false);
    /// A line that stays.
    void print(const std::string &text);

private:
    bool quiet_, terminal_;
    size_t width_ = 0;  // of the line on the terminal
    double last_ = -1e9;
};

/// "3 h 05 min", "2 min 10 s", "12 s"
std::string duration(double seconds);

}  // namespace aft::tool
