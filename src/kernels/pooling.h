#pragma once
#include "platform/system.h"
#include "platform/context.h"
#include "kernels/levels.h"

/* =============================================================================================
   [SECTION] kernels/pooling: Maximum of a window
   ============================================================================================= */
/* One window: pixels [top, bottom) x [left, right) of a picture, with all channels. */
typedef struct ft__pool_place {
    const float *x;             /* the picture */
    int width, top, bottom, left, right;
    size_t channels;
} ft__pool_place;

#if defined(__GNUC__) && !defined(__clang__) && !defined(FINETUNE_NO_SIMD)
#pragma GCC push_options
#pragma GCC optimize("O3")
#endif

/* The maximum of a window and its pixel: the first if several are equal, NaN if there is one. */
FT__INLINE void ft__max_window(const ft__pool_place *p, float *FT__RESTRICT y,
                               int32_t *FT__RESTRICT where)
{
    size_t c, channels = p->channels;
    int i, j;
    int32_t first = p->top * p->width + p->left;
    for (c = 0; c < channels; ++c) {
        y[c] = p->x[(size_t)first * channels + c];
        where[c] = first;
    }
    for (i = p->top; i < p->bottom; ++i)
        for (j = p->left; j < p->right; ++j) {
            int32_t at = i * p->width + j;
            const float *FT__RESTRICT x = p->x + (size_t)at * channels;
            for (c = 0; c < channels; ++c) {
                float v = x[c], best = y[c];
                bool more = v > best || v != v;
                y[c] = more ? v : best;
                where[c] = more ? at : where[c];
            }
        }
}

FT__LEVELS(ft__max_window_run, (const ft__pool_place *p, float *y, int32_t *where),
           ft__max_window(p, y, where))

#if defined(__GNUC__) && !defined(__clang__) && !defined(FINETUNE_NO_SIMD)
#pragma GCC pop_options
#endif
