#pragma once
#include "platform/system.h"
#include "kernels/gemm.h"

/* =============================================================================================
   [SECTION] kernels/levels: A function for each instruction set
   ============================================================================================= */
/* Makes one function for each instruction set from one body of plain loops, which the compiler
   vectorises; name[context->simd] is the one to call. */
#ifdef FT__X86
#define FT__LEVELS(name, parameters, body)                                                        \
    static void name##_plain parameters { body; }                                                 \
    __attribute__((target("avx2,fma"))) static void name##_avx2 parameters { body; }              \
    __attribute__((target("avx512f"))) static void name##_avx512 parameters { body; }             \
    static void (*const name[FT__SIMD_COUNT]) parameters = {                                      \
        name##_plain, name##_plain, name##_avx2, name##_avx512, name##_plain};
#else
#define FT__LEVELS(name, parameters, body)                                                        \
    static void name##_plain parameters { body; }                                                 \
    static void (*const name[FT__SIMD_COUNT]) parameters = {                                      \
        name##_plain, name##_plain, name##_plain, name##_plain, name##_plain};
#endif

/* Before a loop none of whose turns reads what another one writes. Of more than a few pointers
   compilers do not find that out, and make no vector code: an LSTM's training step of two layers of
   256 took 1.5 times as long. */
#if defined(__clang__)
#define FT__TURNS_APART _Pragma("clang loop vectorize(assume_safety)")
#elif defined(__GNUC__)
#define FT__TURNS_APART _Pragma("GCC ivdep")
#else
#define FT__TURNS_APART
#endif
