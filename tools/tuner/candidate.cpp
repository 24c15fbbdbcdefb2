#include "tools/tuner/candidate.h"

#include <filesystem>
#include <fstream>

#include "aft/error.h"
#include "tools/bench/measure.h"

namespace aft::tool {
namespace {

namespace fs = std::filesystem;

std::vector<std::string> generator_command(const ManifestEntry &entry, const std::string &folder, const std::string &emit) {
    std::vector<std::string> command = {entry.program, "-g", entry.generator, "-f", entry.symbol, "-o", folder, "-e", emit, "target=" + entry.halide_target};
    command.insert(command.end(), entry.parameters.begin(), entry.parameters.end());
    if (!entry.variant.empty()) command.push_back("variant=" + entry.variant);
    return command;
}

// What a program said at its end: the last line that names an error, else the last one.
std::string last_words(const std::string &text) {
    std::string last, error, line;
    bool open = false;  // Halide may put the text of an error on the line after its name
    for (size_t at = 0; at < text.size(); at += line.size() + 1) {
        line = text.substr(at, text.find('\n', at) - at);
        if (!line.empty()) last = line;
        if (open && !line.empty()) error += line, open = false;
        if (line.find("rror") != std::string::npos || line.find("Condition failed") != std::string::npos) error = line, open = line.ends_with("rror: ") || line.ends_with("rror:");
    }
    return error.empty() ? last : error;
}

}  // namespace

Built build_candidate(const Manifest &manifest, const ManifestEntry &entry, const std::vector<std::string> &more, const std::string &folder, const ProcessLimits &limits,
                      const std::string &emit) {
    const double start = now();
    fs::remove_all(folder);
    fs::create_directories(folder);
    Built built;
    auto command = generator_command(entry, folder, emit);
    command.insert(command.end(), more.begin(), more.end());
    const Ended generated = run_process(command, limits, folder + "/generator.log");
    if (!generated.ok) {
        built.message = "generator: " + generated.how + ": " + last_words(generated.output);
        return built;
    }
    // The kernel and the two hooks leave the object; everything else of its runtime stays inside.
    const std::string map = folder + "/export.map";
    std::ofstream(map) << "{ global: " << entry.symbol << "; halide_set_error_handler; halide_set_custom_do_par_for; local: *; };\n";
    built.object = folder + "/candidate.so";
    const Ended linked = run_process({manifest.compiler, "-shared", "-Wl,--version-script=" + map, folder + "/" + entry.symbol + ".o", manifest.runtime, "-lpthread", "-ldl", "-o",
                                      built.object}, limits, folder + "/linker.log");
    if (!linked.ok) built.message = "linker: " + linked.how + ": " + last_words(linked.output);
    built.ok = linked.ok;
    built.seconds = now() - start;
    return built;
}

void find_valid_points(const Manifest &, const ManifestEntry &entry, Space &space, const std::string &folder) {
    fs::create_directories(folder);
    const std::string file = folder + "/questions";
    space.points = product_of(space.knobs);
    {
        std::ofstream out(file);
        for (size_t p = 0; p < space.points.size(); p++) out << space.text(int(p)) << "\n";
    }
    auto command = generator_command(entry, folder, "object");
    command.push_back("check=" + file);
    const Ended asked = run_process(command, {.wall_s = 120, .cpus = {}}, folder + "/questions.log");
    if (!asked.ok) throw Error(entry.symbol + ": its generator does not answer: " + asked.how + ": " + last_words(asked.output));
    std::ifstream answers(file + ".answers");
    std::vector<Point> valid;
    size_t count = 0;
    const std::string fits = space.fingerprint + " ", broken = fits + "it breaks: ";
    for (std::string line; std::getline(answers, line); count++) {
        if (count < space.points.size() && line == fits) valid.push_back(space.points[count]);
        if (line.starts_with(broken)) space.left_out[line.substr(broken.size())]++;
    }
    if (count != space.points.size()) throw Error(entry.symbol + ": its generator answered " + std::to_string(count) + " of " + std::to_string(space.points.size()) + " questions");
    space.points = std::move(valid);
}

}  // namespace aft::tool
