# Libraries that the program and the tests use. The system's packages are taken when they are there (then nothing is
# downloaded); else the same versions are fetched.
include(FetchContent)

function(aft_dependency PACKAGE TARGET REPOSITORY TAG)
    find_package(${PACKAGE} QUIET GLOBAL)
    if (NOT TARGET ${TARGET})
        message(STATUS "${PACKAGE} is not installed: fetching ${REPOSITORY} ${TAG}")
        FetchContent_Declare(${PACKAGE} GIT_REPOSITORY https://github.com/${REPOSITORY} GIT_TAG ${TAG} GIT_SHALLOW ON)
        FetchContent_MakeAvailable(${PACKAGE})
    endif ()
endfunction()

aft_dependency(nlohmann_json nlohmann_json::nlohmann_json nlohmann/json v3.11.2)
aft_dependency(CLI11 CLI11::CLI11 CLIUtils/CLI11 v2.1.2)
aft_dependency(spdlog spdlog::spdlog gabime/spdlog v1.10.0)
if (AFT_BUILD_TESTS)
    aft_dependency(GTest GTest::gtest_main google/googletest v1.13.0)
endif ()
