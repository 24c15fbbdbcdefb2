# Kernel tables: name, Halide target, and whose records a kernel may use when it has none (AFT_NEAREST_<name>, nearest
# first). Only a target of the same vector width is near: avx2 and avx512 name nobody.
# The order is the order of preference at run time, weakest first (runtime/cpu.h knows what each needs).
set(AFT_ALL_CPU_TARGETS avx2 avx512)

set(AFT_HALIDE_avx2 x86-64-linux-sse41-avx-f16c-fma-avx2)

set(AFT_HALIDE_avx512 ${AFT_HALIDE_avx2}-avx512-avx512_skylake)

set(AFT_CPU_TARGETS "${AFT_ALL_CPU_TARGETS}" CACHE STRING "Kernel tables to build: avx2;avx512, or host (the best this CPU runs)")
set(AFT_TUNED_DIR "${PROJECT_SOURCE_DIR}/schedules/tuned" CACHE PATH "Tuned records: <dir>/<target>/<kernel>[_<variant>].json; several folders, best first")

# `host` is a named target too: the same table, the same records, the same bits as in a full build.
function(aft_resolve_cpu_targets OUT)
    set(targets ${AFT_CPU_TARGETS})
    if (targets STREQUAL host)
        try_run(ran compiled SOURCE_FROM_CONTENT best.cpp
                "#include <cstdio>\n#include \"${PROJECT_SOURCE_DIR}/runtime/cpu.h\"\nint main() { std::puts(aft::best_cpu_target()); }\n"
                CXX_STANDARD 20 RUN_OUTPUT_VARIABLE targets)
        string(STRIP "${targets}" targets)
        message(STATUS "AFT_CPU_TARGETS=host is ${targets}")
    endif ()
    foreach (target IN LISTS targets)
        if (NOT target IN_LIST AFT_ALL_CPU_TARGETS)
            message(FATAL_ERROR "AFT_CPU_TARGETS: '${target}' is none of ${AFT_ALL_CPU_TARGETS}, host")
        endif ()
    endforeach ()
    set(${OUT} ${targets} PARENT_SCOPE)
endfunction()
