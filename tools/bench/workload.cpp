#include "tools/bench/workload.h"

#include <algorithm>
#include <charconv>

#include "tools/command.h"

namespace aft::tool {
namespace {

std::vector<std::function<std::vector<WorkloadMaker>()>> &registry() {
    static std::vector<std::function<std::vector<WorkloadMaker>()>> all;
    return all;
}

}  // namespace

WorkShape parse_shape(const std::string &text) {
    const auto refuse = [&](const std::string &why) -> void {
        throw UsageError("shape '" + text + "': " + why + "; write sizes as B=8,T=1024,C=512");
    };
    WorkShape shape;
    for (size_t first = 0; first <= text.size();) {
        const size_t end = std::min(text.find(',', first), text.size());
        const std::string part = text.substr(first, end - first);
        const size_t equals = part.find('=');
        if (equals == std::string::npos || equals == 0) refuse("'" + part + "' is not LETTER=SIZE");
        int64_t size = 0;
        const char *last = part.data() + part.size();
        const auto [stop, code] = std::from_chars(part.data() + equals + 1, last, size);
        if (code != std::errc() || stop != last || size < 1) refuse("the size in '" + part + "' is not a whole number of 1 or more");
        if (!shape.emplace(part.substr(0, equals), size).second) refuse("'" + part.substr(0, equals) + "' is given twice");
        first = end + 1;
    }
    return shape;
}

std::string to_string(const WorkShape &shape) {
    std::string text;
    for (const auto &[letter, size] : shape) text += (text.empty() ? "" : ",") + letter + "=" + std::to_string(size);
    return text;
}

std::string Workload::name() const {
    std::string text = kernel;
    for (const auto &[letter, size] : shape) text += "/" + letter + ":" + std::to_string(size);
    return text;
}

bool WorkloadMaker::times(const std::string &name) const { return kernel == name || std::find(kernels.begin(), kernels.end(), name) != kernels.end(); }

bool WorkloadMaker::takes(const WorkShape &shape) const {
    if (shape.size() != letters.size()) return false;
    for (const std::string &letter : letters)
        if (!shape.contains(letter)) return false;
    return true;
}

const std::vector<WorkloadMaker> &workload_makers() {
    static const std::vector<WorkloadMaker> all = [] {
        std::vector<WorkloadMaker> makers;
        for (const auto &make : registry())
            for (WorkloadMaker &maker : make()) makers.push_back(std::move(maker));
        std::stable_sort(makers.begin(), makers.end(), [](const auto &a, const auto &b) { return a.kernel < b.kernel; });
        return makers;
    }();
    return all;
}

RegisterWorkloads::RegisterWorkloads(std::function<std::vector<WorkloadMaker>()> make) { registry().push_back(std::move(make)); }

}  // namespace aft::tool
