// What libaft gives to a Halide runtime: its error handler, its memory and its parallel loop.
//
// Generated code reports a failure through a handler and returns a code: its frames have no cleanups to unwind, so the
// handler must not throw. It remembers the message (per thread), and Kernel::operator() throws when the kernel has
// returned.
#pragma once
#include <HalideRuntime.h>

#include <string>

namespace aft {

void remember_message(std::string message);  // of this thread; the first one is the cause and stays
std::string take_message();

void install_halide_hooks();  // once, before the first kernel

// The same for a shared object that carries a Halide runtime of its own (a tuning candidate, a kernel pack).
struct HalideHooks {
    halide_error_handler_t on_error;
    halide_do_par_for_t do_par_for;
};
HalideHooks halide_hooks();

}  // namespace aft
