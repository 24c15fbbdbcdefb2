#include "runtime/halide_hooks.h"

#include <cstdlib>
#include <functional>
#include <utility>

#include "runtime/parallel.h"

namespace aft {
namespace {

thread_local std::string message_of_this_thread;

void on_error(void *, const char *message) { remember_message(message); }

// Generated code takes its scratch to be aligned to a vector of its target; the runtime object, made for the baseline so
// that every CPU can run it, would align to 32 bytes.
void *allocate(void *, size_t bytes) { return std::aligned_alloc(64, (bytes + 63) / 64 * 64); }
void release(void *, void *memory) { std::free(memory); }

int do_par_for(void *context, halide_task_t task, int first, int count, uint8_t *closure) {
    const auto call = [=](int index) { return task(context, first + index, closure); };
    return parallel_tasks(count, std::ref(call));  // by reference: no memory is allocated
}

}  // namespace

void remember_message(std::string message) {
    if (message_of_this_thread.empty()) message_of_this_thread = std::move(message);
}

std::string take_message() { return std::exchange(message_of_this_thread, {}); }

void install_halide_hooks() {
    halide_set_error_handler(on_error);
    halide_set_custom_malloc(allocate);
    halide_set_custom_free(release);
    halide_set_custom_do_par_for(do_par_for);
}

HalideHooks halide_hooks() { return {on_error, do_par_for}; }

}  // namespace aft
