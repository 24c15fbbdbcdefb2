#include "tools/bench/probes.h"

#include <immintrin.h>

#include <string>

#include "aft/error.h"

namespace aft::tool {
namespace {

namespace avx2 {
constexpr int lanes = 8, accumulators = 12;  // of 16 registers
#define TARGET __attribute__((target("avx2,fma"), noinline))
#define REGISTERS accumulators
#define Vector __m256
#define SET _mm256_set1_ps
#define LOAD _mm256_load_ps
#define STORE _mm256_store_ps
#define ADD _mm256_add_ps
#define FMA _mm256_fmadd_ps
#include "tools/bench/probe_loops.h"
#undef TARGET
#undef Vector
#undef SET
#undef LOAD
#undef STORE
#undef ADD
#undef FMA
}  // namespace avx2

namespace avx512 {
constexpr int lanes = 16, accumulators = 24;  // of 32 registers
#define TARGET __attribute__((target("avx512f"), noinline))
#define Vector __m512
#define SET _mm512_set1_ps
#define LOAD _mm512_load_ps
#define STORE _mm512_store_ps
#define ADD _mm512_add_ps
#define FMA _mm512_fmadd_ps
#include "tools/bench/probe_loops.h"
}  // namespace avx512

const Probes all[] = {{"avx2", 2 * avx2::lanes * avx2::accumulators, avx2::fma, avx2::read, avx2::copy, avx2::update, avx2::triad},
                      {"avx512", 2 * avx512::lanes * avx512::accumulators, avx512::fma, avx512::read, avx512::copy, avx512::update, avx512::triad}};

}  // namespace

const Probes &probes(std::string_view target) {
    for (const Probes &found : all)
        if (target == found.target) return found;
    throw Error("there are no probes of the machine's limits for the kernel table '" + std::string(target) + "'; force another with --target avx2");
}

}  // namespace aft::tool
