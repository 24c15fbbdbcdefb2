# From the kernel list to object files and typed tables.
#
# Plain custom commands, not add_halide_library: that makes a static library, a header file set and an update target for
# each of some hundred objects. Outputs: <kernel>__<target>[_<variant>].{o,h,report}.

set(AFT_KERNEL_DIR ${PROJECT_BINARY_DIR}/kernels)
set(AFT_HALIDE_FEATURES -no_runtime-no_bounds_query)  # of every kernel object
file(MAKE_DIRECTORY ${AFT_KERNEL_DIR})
foreach (dir IN LISTS AFT_TUNED_DIR)
    if (NOT IS_DIRECTORY ${dir})
        message(FATAL_ERROR "AFT_TUNED_DIR: there is no folder ${dir}")
    endif ()
    file(GLOB dirs LIST_DIRECTORIES true ${dir}/*)
    list(APPEND AFT_RECORD_DIRS ${dir} ${dirs})
endforeach ()
# A directory's time changes when a record comes or goes.
set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${AFT_RECORD_DIRS})

# One program per family: generators/<family>_generator.cpp with schedules/cpu/<family>.cpp.
function(aft_generator FAMILY)
    add_executable(generate_${FAMILY} generators/${FAMILY}_generator.cpp schedules/cpu/${FAMILY}.cpp)
    target_link_libraries(generate_${FAMILY} PRIVATE aft_schedules Halide::Generator)
    target_compile_options(generate_${FAMILY} PRIVATE ${AFT_BUILD_TOOL_FLAGS})
    if (AFT_GENERATOR_PCH)
        target_precompile_headers(generate_${FAMILY} REUSE_FROM aft_schedules)
    endif ()
endfunction()

# The records a kernel may use, best first: its own target's, then those of near targets; of each in the order of the folders.
function(aft_find_records OUT FILE TARGET)
    set(found "")
    foreach (near ${TARGET} ${AFT_NEAREST_${TARGET}})
        foreach (dir IN LISTS AFT_TUNED_DIR)
            if (EXISTS ${dir}/${near}/${FILE}.json)
                list(APPEND found ${dir}/${near}/${FILE}.json)
            endif ()
        endforeach ()
    endforeach ()
    set(${OUT} ${found} PARENT_SCOPE)
endfunction()

function(aft_kernel_object SYMBOL FAMILY GENERATOR TARGET RECORDS)  # and generator parameters
    list(JOIN RECORDS "," records)
    if (records)
        set(records "records=${records}")
    endif ()
    set(output ${AFT_KERNEL_DIR}/${SYMBOL})
    add_custom_command(
        OUTPUT ${output}.o ${output}.h ${output}.report
        COMMAND generate_${FAMILY} -g ${GENERATOR} -f ${SYMBOL} -o ${AFT_KERNEL_DIR} -e object,c_header
                target=${AFT_HALIDE_${TARGET}}${AFT_HALIDE_FEATURES} report=${output}.report
                ${records} ${ARGN}
        DEPENDS generate_${FAMILY} ${RECORDS}
        WORKING_DIRECTORY ${PROJECT_SOURCE_DIR} COMMENT "Generating ${SYMBOL}" COMMAND_EXPAND_LISTS VERBATIM)
    set_property(GLOBAL APPEND PROPERTY AFT_OBJECTS ${output}.o)
    set_property(GLOBAL APPEND PROPERTY AFT_REPORTS_${TARGET} ${output}.report)
endfunction()

# A list of strings as JSON text, without its brackets. (Kernel parameters and paths: only \ and " need an escape.)
function(aft_json_strings OUT)
    set(text "")
    foreach (item IN LISTS ARGN)
        string(REPLACE "\\" "\\\\" item "${item}")
        string(REPLACE "\"" "\\\"" item "${item}")
        list(APPEND text "\"${item}\"")
    endforeach ()
    list(JOIN text ", " text)
    set(${OUT} "${text}" PARENT_SCOPE)
endfunction()

# What the tuner must know to build one object as the build does (tools/tuner/manifest.h).
function(aft_manifest_entry SYMBOL KERNEL VARIANT FAMILY GENERATOR TARGET RECORD RECORDS PARAMS)
    aft_json_strings(program "${PROJECT_BINARY_DIR}/generate_${FAMILY}")
    aft_json_strings(records ${RECORDS})
    aft_json_strings(parameters ${PARAMS})
    aft_append(MANIFEST ",\n  {\"symbol\": \"${SYMBOL}\", \"kernel\": \"${KERNEL}\", \"variant\": \"${VARIANT}\", \"target\": \"${TARGET}\", \"record\": \"${RECORD}\",
   \"program\": ${program}, \"generator\": \"${GENERATOR}\", \"parameters\": [${parameters}],
   \"halide_target\": \"${AFT_HALIDE_${TARGET}}${AFT_HALIDE_FEATURES}\", \"records\": [${records}]}")
endfunction()

# Text of the tables, gathered entry by entry. (One quoted argument: a list would lose the semicolons of C++.)
function(aft_append PART TEXT)
    set_property(GLOBAL APPEND_STRING PROPERTY AFT_${PART} "${TEXT}")
endfunction()

# One entry of the list (generators/kernels.cmake).
function(aft_kernel NAME)
    cmake_parse_arguments(PARSE_ARGV 1 ARG "" "GENERATOR;ARGUMENTS" "PARAMS;VARIANTS")
    string(REPLACE : ";" generator ${ARG_GENERATOR})
    list(POP_FRONT generator family)
    if (NOT TARGET generate_${family})
        aft_generator(${family})
    endif ()
    if (NOT ARG_VARIANTS)
        set(ARG_VARIANTS ":true")
    endif ()
    string(REGEX REPLACE "([& ])[a-z_0-9]+(,|$)" "\\1\\2" types "${ARG_ARGUMENTS}")  # parameter names go
    aft_append(FIELDS "    Kernel<${types}> ${NAME};\n")
    aft_append(VISITS "        visit(${NAME});\n")
    foreach (target IN LISTS AFT_TARGETS)
        aft_append(ROWS_${target} "const decltype(KernelTable::${NAME})::Variant ${NAME}_variants[] = {\n")
        foreach (entry IN LISTS ARG_VARIANTS)
            string(REGEX MATCH "^([a-z0-9_]*):?(.*)$" entry "${entry}")
            set(variant "${CMAKE_MATCH_1}")
            set(fits "${CMAKE_MATCH_2}")
            if (NOT fits)
                set(fits true)
            endif ()
            string(JOIN _ symbol ${NAME}_ ${target} ${variant})
            string(JOIN _ record ${NAME} ${variant})
            aft_find_records(records ${record} ${target})
            aft_kernel_object(${symbol} ${family} ${generator} ${target} "${records}" ${ARG_PARAMS} "$<$<BOOL:${variant}>:variant=${variant}>")
            aft_manifest_entry(${symbol} ${NAME} "${variant}" ${family} ${generator} ${target} ${record} "${records}" "${ARG_PARAMS}")
            aft_append(INCLUDES_${target} "#include \"${symbol}.h\"\n")
            aft_append(ROWS_${target} "    {\"${symbol}\", [](${ARG_ARGUMENTS}) -> bool { return ${fits}; },\n     ${symbol}, ${symbol}_metadata,\n#include \"${symbol}.report\"\n    },\n")
        endforeach ()
        aft_append(ROWS_${target} "};\n")
        aft_append(VALUES_${target} "    .${NAME} = {\"${NAME}\", ${NAME}_variants},\n")
    endforeach ()
endfunction()

# Adds all objects, the tables and the one Halide runtime to LIBRARY.
function(aft_add_kernels LIBRARY)
    foreach (target IN LISTS AFT_TARGETS)
        set(AFT_TARGET ${target})
        foreach (part INCLUDES ROWS VALUES REPORTS)
            get_property(AFT_${part} GLOBAL PROPERTY AFT_${part}_${target})
        endforeach ()
        set(table ${AFT_KERNEL_DIR}/kernel_table_${target}.cpp)
        configure_file(runtime/kernel_table.cpp.in ${table} @ONLY)
        set_source_files_properties(${table} PROPERTIES OBJECT_DEPENDS "${AFT_REPORTS}")
        target_sources(${LIBRARY} PRIVATE ${table})
        string(APPEND AFT_DECLARATIONS "extern const KernelTable kernel_table_${target};\n")
        string(APPEND AFT_TABLES " &kernel_table_${target},")
    endforeach ()
    foreach (part FIELDS VISITS OBJECTS)
        get_property(AFT_${part} GLOBAL PROPERTY AFT_${part})
    endforeach ()
    configure_file(runtime/kernel_table.h.in ${AFT_KERNEL_DIR}/kernel_table.h @ONLY)

    get_property(entries GLOBAL PROPERTY AFT_MANIFEST)
    string(REGEX REPLACE "^," "" entries "${entries}")
    aft_json_strings(runtime ${AFT_KERNEL_DIR}/halide_runtime.o)
    list(APPEND AFT_TUNED_DIR ${PROJECT_SOURCE_DIR}/schedules/tuned)  # where aft tune writes if the build reads none
    list(GET AFT_TUNED_DIR 0 tuned)
    aft_json_strings(tuned ${tuned})
    aft_json_strings(compiler ${CMAKE_CXX_COMPILER})
    get_target_property(halide_lib Halide::Halide LOCATION)  # the autoschedulers' plugins lie beside it; Halide_DIR may be a forwarding file elsewhere
    get_filename_component(halide_lib ${halide_lib} DIRECTORY)
    aft_json_strings(autoschedulers ${halide_lib})
    file(CONFIGURE OUTPUT ${AFT_KERNEL_DIR}/manifest.json @ONLY CONTENT
         "{\"halide\": \"${Halide_VERSION}\", \"runtime\": ${runtime}, \"tuned\": ${tuned}, \"compiler\": ${compiler}, \"autoschedulers\": ${autoschedulers},\n \"kernels\": [${entries}\n]}\n")

    add_custom_command(OUTPUT ${AFT_KERNEL_DIR}/halide_runtime.o
                       COMMAND generate_gemm -r halide_runtime -o ${AFT_KERNEL_DIR} -e object target=x86-64-linux
                       DEPENDS Halide::Halide COMMENT "Generating halide_runtime" VERBATIM)
    target_sources(${LIBRARY} PRIVATE ${AFT_OBJECTS} ${AFT_KERNEL_DIR}/halide_runtime.o)
    target_include_directories(${LIBRARY} PRIVATE ${AFT_KERNEL_DIR})
    target_include_directories(${LIBRARY} SYSTEM PRIVATE ${Halide_INCLUDE})
endfunction()
