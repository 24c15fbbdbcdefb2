// `aft bench --against PROGRAM`: this build and another one, for differences that two runs cannot show: samples of both are taken
// in turn, so what slows the machine slows both, and each pair of samples starts both programs afresh (serve.cpp), since where
// the system puts a program's memory makes up to a tenth and is drawn anew at its start.
#pragma once
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tools/bench/measure.h"
#include "tools/command.h"

namespace aft::tool {

struct AgainstOptions {
    std::string program;  // of the other build; empty: no comparison is wanted
    int samples = 9;
    double least_seconds = 0.02;
    std::string output;
};

// One thing to time: its name in the results, and what a program is asked to prepare.
struct Contest {
    std::string name;
    nlohmann::json question;
};

// Prints the table or the JSON and writes the file; the exit code. Throws Error when a program cannot be started or stops answering;
// what one of them does not have is left out, with a warning.
int bench_against(const AgainstOptions &options, const std::vector<Contest> &contests, const Common &common);

}  // namespace aft::tool
