// From a request to a plan: makes it with the knob values to use (given, recorded or default) and writes the report.
#pragma once
#include <cstdlib>

#include "generators/request.h"
#include "schedules/machine.h"
#include "schedules/record.h"

namespace aft {

constexpr auto guard = Halide::TailStrategy::GuardWithIf;  // any extent, and safe in place: no element is computed twice

// A knob of kernels whose formulas have many constants. 16 registers do not hold them, so each vector would load them again; the instructions of
// a machine with 32 take them from memory.
inline int vectors_at_once(const Machine &machine, Knobs &knobs) {
    return knobs.later("at_once", machine.vector_registers >= 32 ? 1 : 2, {1, 2}, "vectors computed side by side: they share each constant that they load");
}

// Leaves a plan its numbers and the formulation.
template <class Plan>
void drop_moves(Plan &plan) {
    if constexpr (requires { plan.drop_moves(); })
        plan.drop_moves();
    else if constexpr (requires { plan.schedule; })
        no_moves(plan.schedule);
    else
        no_moves(plan);
}

// make(machine, knobs) -> Plan declares the knobs and uses their values.
template <class Make>
auto planned(const Request &request, Make make) {
    decltype(make(std::declval<const Machine &>(), std::declval<Knobs &>())) plan;
    const Machine machine = machine_of(request.target);
    if (!request.check.empty()) {
        answer_questions([&](Knobs &knobs) { plan = make(machine, knobs); }, request.check);
        std::quick_exit(0);  // asked only for answers: nothing is built
    }
    const Knobs chosen = choose([&](Knobs &knobs) { plan = make(machine, knobs); }, request.given, request.records,
                                [&](const std::string &features) { return same_family(features, request.target); });
    if (!request.report.empty()) write_report(request.report, chosen);
    if (request.autoscheduled) drop_moves(plan);
    return plan;
}

}  // namespace aft
