// What a generator asks of a schedule: numbers and moves for this target, variant and set of records.
//
// A family's header (generators/NAME.h) declares a plan, for example
//     struct GemmPlan { GemmBlocks blocks; std::function<void(Gemm &)> schedule; };
//     GemmPlan plan_gemm(const Request &request);
// and schedules/cpu/NAME.cpp defines it: the plan chooses every number and the formulation, the closure makes the moves.
#pragma once
#include <Halide.h>

#include <string>

namespace aft {

class FetchAhead;

struct Request {
    Halide::Target target;
    std::string part;     // of a family whose kernels share a plan: which of them asks, for example "forward"
    std::string variant;  // "" or the variant's name in generators/kernels.cmake
    std::string given;    // the tuner's knob values, "name:value,name:value"; they win over records
    std::string records;  // candidate record files, best first, separated by ','
    std::string report;   // file for the origin of the values, the values and the knob space; "" for none
    std::string check;    // the tuner's file of knob values, one set a line: the answers go to <check>.answers and the
                          // program ends before it has built anything; "" for none
    bool autoscheduled = false;  // one of Halide's autoschedulers makes the moves: the plan gives the formulation only
    FetchAhead *fetch_ahead = nullptr;  // takes the plan's requests for lines of memory (generators/fetch_ahead.h)
};

// For a plan of several closures: makes them do nothing. (A plan that is a closure, or whose only one is `schedule`, needs none.)
template <class... Moves>
void no_moves(Moves &...moves) {
    ((moves = [](auto &&...) {}), ...);
}

}  // namespace aft
