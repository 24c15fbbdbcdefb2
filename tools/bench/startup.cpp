#include "tools/bench/startup.h"

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <memory>

#include "aft/checkpoint.h"
#include "aft/error.h"
#include "aft/language_model.h"
#include "tools/bench/temporary.h"

namespace aft::tool {
namespace {

namespace fs = std::filesystem;

struct TemporaryFolder {
    std::string path = temporary_pattern("startup");

    TemporaryFolder() {
        if (!mkdtemp(path.data())) throw Error("cannot make a folder like '" + path + "' for the model: is there space?");
    }
    ~TemporaryFolder() {
        std::error_code ignored;
        fs::remove_all(path, ignored);
    }
};

std::string quoted(const std::string &word) {  // for the shell
    std::string text = "'";
    for (const char c : word) text += c == '\'' ? "'\\''" : std::string(1, c);
    return text + "'";
}

double seconds_to_first_byte(const std::string &command) {
    const double start = now();
    const std::unique_ptr<FILE, int (*)(FILE *)> program(popen(command.c_str(), "r"), pclose);
    if (!program || std::fgetc(program.get()) == EOF) throw Error("the program wrote nothing: " + command);
    const double seconds = now() - start;
    while (std::fgetc(program.get()) != EOF) {}
    return seconds;
}

}  // namespace

Measurement time_to_first_token(const ModelConfig &config, int threads, int samples) {
    const TemporaryFolder folder;
    {
        LanguageModel model(config);
        model.initialise(1);
        save_language_model(model, folder.path);
    }
    const std::string command = quoted(fs::read_symlink("/proc/self/exe")) + " generate --quiet --tokens 1 --threads " + std::to_string(threads) + " --model " + quoted(folder.path);
    seconds_to_first_byte(command);  // brings the program and the model into the page cache
    Measurement time;
    for (int n = 0; n < samples; n++) time.samples.push_back({seconds_to_first_byte(command), 1});
    return time;
}

}  // namespace aft::tool
