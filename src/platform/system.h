#pragma once
#include "platform/families.h"

/* =============================================================================================
   [SECTION] platform/system: The system's headers
   ============================================================================================= */
#include <float.h>
#include <limits.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#if (defined(__unix__) || defined(__APPLE__)) && !defined(FINETUNE_NO_POSIX)
#define FINETUNE__POSIX 1
#include <dirent.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#else
#ifdef _WIN32
#include <fcntl.h>
#include <io.h>
#include <sys/stat.h>
#endif
#define FINETUNE__POSIX 0
#ifndef FINETUNE_NO_THREADS
#define FINETUNE_NO_THREADS
#endif
#endif
#ifndef FINETUNE_NO_THREADS
#include <pthread.h>
#endif

/* The vector instructions that the kernels may use. No x86 build that computes in the old 80-bit
   registers, GCC's default with -m32, uses any: bits would differ, and GCC puts no scalar of that
   width into a vector. With -m32 -msse2 -mfpmath=sse there are vector instructions. */
#if defined(__GNUC__) && !defined(FINETUNE_NO_SIMD)
#if defined(__x86_64__) || (defined(__i386__) && __FLT_EVAL_METHOD__ == 0)
#define FT__X86 1
#include <immintrin.h>
#elif defined(__aarch64__)
#define FT__ARM 1
#endif
#endif
#if defined(__x86_64__) && !defined(FINETUNE_NO_SIMD) && FT__HAS_AVX512 && FT__HAS_BF16 \
    && (defined(__clang__) ? __clang_major__ >= 9 : defined(__GNUC__) && __GNUC__ >= 10)
#define FT__BF16_INSTRUCTION 1
#endif

/* A small function that is copied into its callers: a loop with a call is not vectorised. */
#if defined(__GNUC__)
#define FT__INLINE static inline __attribute__((always_inline))
#else
#define FT__INLINE static inline
#endif
