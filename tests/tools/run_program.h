// Runs the program `aft` as a user would.
#pragma once
#include <sys/wait.h>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

namespace aft::test {

struct Ran {
    int code = -1;
    std::string out, err;
};

inline std::string read_text(const std::filesystem::path &path) {
    std::ifstream file(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
}

// `arguments` are the shell's words.
inline Ran run_aft(const std::string &arguments) {
    char folder[] = "/tmp/aft_test_XXXXXX";
    if (!mkdtemp(folder)) return {};
    const std::filesystem::path path = folder;
    const std::string command = std::string(AFT_PROGRAM) + " " + arguments + " >" + (path / "out").string() + " 2>" + (path / "err").string();
    const int status = std::system(command.c_str());
    Ran ran{WIFEXITED(status) ? WEXITSTATUS(status) : -1, read_text(path / "out"), read_text(path / "err")};
    std::filesystem::remove_all(path);
    return ran;
}

// A folder of its own for one test, gone afterwards.
class TemporaryFolder {
public:
    TemporaryFolder() {
        char name[] = "/tmp/aft_test_XXXXXX";
        path_ = mkdtemp(name);
    }
    ~TemporaryFolder() { std::filesystem::remove_all(path_); }
    std::string operator/(const std::string &name) const { return (path_ / name).string(); }

private:
    std::filesystem::path path_;
};

}  // namespace aft::test
