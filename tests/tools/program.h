// The program `aft` as a child process of a test.
#pragma once
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>

namespace aft::test {

// A folder that goes away with the object.
class Folder {
public:
    Folder() {
        std::string name = (std::filesystem::temp_directory_path() / "aft_test_XXXXXX").string();
        if (!mkdtemp(name.data())) throw std::runtime_error("no temporary folder");
        path_ = name;
    }
    ~Folder() {
        std::error_code ignored;
        std::filesystem::remove_all(path_, ignored);
    }
    Folder(const Folder &) = delete;
    Folder &operator=(const Folder &) = delete;
    std::string file(const std::string &name) const { return (path_ / name).string(); }

private:
    std::filesystem::path path_;
};

struct Outcome {
    int code;  // of the exit; -1 after a signal
    std::string out, err;
};

// Runs `aft ARGUMENTS` through the shell: quote what needs it.
inline Outcome run_aft(const std::string &arguments) {
    const Folder folder;
    const std::string out = folder.file("out"), err = folder.file("err");
    const int status = std::system((std::string(AFT_PROGRAM) + " " + arguments + " >" + out + " 2>" + err).c_str());
    const auto text = [](const std::string &file) {
        std::ostringstream all;
        all << std::ifstream(file, std::ios::binary).rdbuf();
        return all.str();
    };
    return {WIFEXITED(status) ? WEXITSTATUS(status) : -1, text(out), text(err)};
}

}  // namespace aft::test
