# The house's include rule (docs/architecture.md): who may see whom. Run as a test.
#   Halide.h      only generators/, schedules/ and the tuner
#   schedules     -> generators; never the other way, except through generators/request.h
#   runtime       sees no other room; models see runtime; tools and tests see all but generators and schedules' moves
file(GLOB_RECURSE sources RELATIVE ${ROOT} ${ROOT}/include/*.h ${ROOT}/runtime/* ${ROOT}/models/* ${ROOT}/tools/* ${ROOT}/tests/*.cpp
     ${ROOT}/tests/*.h ${ROOT}/generators/* ${ROOT}/schedules/*.h ${ROOT}/schedules/*.cpp)
set(broken "")
foreach (file IN LISTS sources)
    file(STRINGS ${ROOT}/${file} includes REGEX "^[ \t]*#[ \t]*include")
    foreach (line IN LISTS includes)
        if (line MATCHES "[<\"/]Halide\\.h" AND NOT file MATCHES "^(generators|schedules|tools/tuner)/"
            OR file MATCHES "^runtime/" AND line MATCHES "\"(generators|schedules|models|tools)/"
            OR file MATCHES "^models/" AND line MATCHES "\"(generators|schedules|tools)/"
            OR file MATCHES "^include/" AND line MATCHES "\"(generators|schedules|runtime|models|tools)/"
            OR file MATCHES "^generators/" AND line MATCHES "\"schedules/")
            list(APPEND broken "${file}: ${line}")
        endif ()
    endforeach ()
endforeach ()
if (broken)
    list(JOIN broken "\n  " broken)
    message(FATAL_ERROR "include rule broken:\n  ${broken}")
endif ()
