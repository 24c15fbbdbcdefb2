# Installs the build tree into a scratch folder and builds and runs the consumer against it.
#   cmake -DBUILD=... -DSOURCE=... -DSCRATCH=... -P run.cmake
function(step)
    execute_process(COMMAND ${ARGN} RESULT_VARIABLE code OUTPUT_VARIABLE out ERROR_VARIABLE out)
    if (code)
        message(FATAL_ERROR "${ARGN}: ${code}\n${out}")
    endif ()
    message(STATUS "${out}")
endfunction()
file(REMOVE_RECURSE ${SCRATCH})
step(${CMAKE_COMMAND} --install ${BUILD} --prefix ${SCRATCH}/prefix)
step(${CMAKE_COMMAND} -S ${SOURCE} -B ${SCRATCH}/build -G Ninja -DCMAKE_PREFIX_PATH=${SCRATCH}/prefix)
step(${CMAKE_COMMAND} --build ${SCRATCH}/build)
step(${SCRATCH}/build/consumer)
