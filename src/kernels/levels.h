#pragma once
#include "platform/families.h"
#include "platform/system.h"
#include "kernels/gemm.h"

/* =============================================================================================
   [SECTION] kernels/levels: A function for each instruction set
   ============================================================================================= */
/* Makes one function for each instruction set from one body of plain loops, which the compiler
   vectorises. Call it as name[context->simd]. */
#ifdef FT__X86
#define FT__LEVELS(name, parameters, body)                                                        \
    static void name##_plain parameters { body; }                                                 \
    __attribute__((target("avx2,fma"))) static void name##_avx2 parameters { body; }              \
    __attribute__((target("avx512f,avx512dq"))) static void name##_avx512 parameters { body; }    \
    static void (*const name[FT__SIMD_COUNT]) parameters = {                                      \
        name##_plain, name##_plain, name##_avx2, FT__IF_AVX512(name##_avx512), name##_plain};
#else
#define FT__LEVELS(name, parameters, body)                                                        \
    static void name##_plain parameters { body; }                                                 \
    static void (*const name[FT__SIMD_COUNT]) parameters = {                                      \
        name##_plain, name##_plain, name##_plain, name##_plain, name##_plain};
#endif

/* Put before a loop whose iterations are independent. With more than a few pointers compilers
   cannot prove that and do not vectorise: a training step of a two-layer LSTM of 256 took 1.5 times
   as long. */
#if defined(__clang__)
#define FT__INDEPENDENT _Pragma("clang loop vectorize(assume_safety)")
#elif defined(__GNUC__)
#define FT__INDEPENDENT _Pragma("GCC ivdep")
#else
#define FT__INDEPENDENT
#endif
