// The program `aft` as a child process of a test.
#pragma once
#include <sys/wait.h>

#include <cstdlib>
#include <string>

#include "tests/runtime/test_files.h"

namespace aft::test {

struct Outcome {
    int code;  // of the exit; -1 after a signal
    std::string out, err;
};

// Runs `aft ARGUMENTS` through the shell, with variables like "A=1 B=2" set: quote what needs it.
inline Outcome run_aft(const std::string &arguments, const std::string &variables = "") {
    const TemporaryFolder folder;
    const std::string out = folder / "out", err = folder / "err";
    const int status = std::system((variables + " " + AFT_PROGRAM + " " + arguments + " >" + out + " 2>" + err).c_str());
    return {WIFEXITED(status) ? WEXITSTATUS(status) : -1, slurp(out), slurp(err)};
}

}  // namespace aft::test
