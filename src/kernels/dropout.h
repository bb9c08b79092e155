#pragma once
#include "platform/system.h"
#include "basics/random.h"
#include "kernels/elementary.h"
#include "kernels/levels.h"

/* =============================================================================================
   [SECTION] kernels/dropout: Dropout of a line
   ============================================================================================= */
#if defined(__GNUC__) && !defined(__clang__) && !defined(FINETUNE_NO_SIMD)
#pragma GCC push_options /* not fused: all levels give the same bits */
#pragma GCC optimize("O3", "fp-contract=off")
#endif

/* y = x m, or y += x m: m is 0 where the random number of the place is below p, and elsewhere
   1 / (1 - p). `first` is the place of the line's first number. One number took 3.0 ns before this
   loop was vectorised, and 0.7 with AVX-512: 100 of 480 ms of a training step of bert_mini. */
FT__INLINE void ft__drop_body(const float *x, float *y, size_t count, uint64_t key, size_t first,
                              float p, bool add)
{
    float scale = p < 1 ? 1.0f / (1.0f - p) : 0.0f;
    size_t i;
    if (add) {
        FT__INDEPENDENT for (i = 0; i < count; ++i)
            y[i] += x[i] * ft__choose(ft__uniform(key, first + i) < p, 0.0f, scale);
    } else {
        FT__INDEPENDENT for (i = 0; i < count; ++i)
            y[i] = x[i] * ft__choose(ft__uniform(key, first + i) < p, 0.0f, scale);
    }
}

FT__LEVELS(ft__drop,
           (const float *x, float *y, size_t count, uint64_t key, size_t first, float p, bool add),
           ft__drop_body(x, y, count, key, first, p, add))

#if defined(__GNUC__) && !defined(__clang__) && !defined(FINETUNE_NO_SIMD)
#pragma GCC pop_options
#endif
