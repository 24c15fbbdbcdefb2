#include "runtime/halide_hooks.h"

#include <utility>

#include "runtime/parallel.h"

namespace aft {
namespace {

thread_local std::string message_of_this_thread;

void on_error(void *, const char *message) { remember_message(message); }

int do_par_for(void *context, halide_task_t task, int first, int count, uint8_t *closure) {
    return parallel_tasks(count, [=](int index) { return task(context, first + index, closure); });
}

}  // namespace

void remember_message(std::string message) {
    if (message_of_this_thread.empty()) message_of_this_thread = std::move(message);
}

std::string take_message() { return std::exchange(message_of_this_thread, {}); }

void install_halide_hooks() {
    halide_set_error_handler(on_error);
    halide_set_custom_do_par_for(do_par_for);
}

HalideHooks halide_hooks() { return {on_error, do_par_for}; }

}  // namespace aft
