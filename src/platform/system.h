#pragma once

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
#define FINETUNE__POSIX 0
#ifndef FINETUNE_NO_THREADS
#define FINETUNE_NO_THREADS
#endif
#endif
#ifndef FINETUNE_NO_THREADS
#include <pthread.h>
#endif

/* For kernels/bf16 and kernels/convolution. */
#if defined(__GNUC__) && !defined(FINETUNE_NO_SIMD) && (defined(__x86_64__) || defined(__i386__))
#include <immintrin.h>
#endif
#if defined(__x86_64__) && !defined(FINETUNE_NO_SIMD) \
    && (defined(__clang__) ? __clang_major__ >= 9 : defined(__GNUC__) && __GNUC__ >= 10)
#define FT__BF16_INSTRUCTION 1
#endif
