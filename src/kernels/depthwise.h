#pragma once
#include "platform/families.h"
#include "platform/system.h"
#include "platform/context.h"
#include "kernels/elementary.h"
#include "kernels/gemm.h"

/* =============================================================================================
   [SECTION] kernels/depthwise: Depthwise kernels
   y[c] = or += sum over rows and columns of a window of x[c] w[c], for `count` neighbouring windows
   of the same shape. All three passes have this form: forward and the input's gradient sum over the
   kernel, the weight's gradient over the pixels.
   ============================================================================================= */
#if defined(__GNUC__) && !defined(__clang__) && !defined(FINETUNE_NO_SIMD)
#pragma GCC push_options
#pragma GCC optimize("O3", "fp-contract=fast") /* as in kernels/convolution */
#endif
typedef struct ft__window_sum {
    const float *x, *w;
    float *y;
    const float *bias;              /* may be NULL */
    bool add;                       /* to y, instead of starting from the bias */
    bool clamp;                     /* clamp the sums to [low, high] */
    float low, high;
    size_t channels;
    int rows, columns, count;
    ptrdiff_t x_row, x_column, w_row, w_column;
    ptrdiff_t x_next, y_next;       /* from neighbour to neighbour */
    ptrdiff_t x_tap;                /* ft__nine_sums: from one row of the nine to the next */
    size_t x_step, w_step, y_step;  /* from channel to channel: 1, or outputs per channel */
} ft__window_sum;

/* Channels from `c` on, one by one: the oracle of the vector forms below. */
static void ft__window_sum_plain(const ft__window_sum *s, size_t c)
{
    int n, r, i;
    for (; c < s->channels; ++c)
        for (n = 0; n < s->count; ++n) {
            float *y = s->y + n * s->y_next + (ptrdiff_t)(c * s->y_step), sum;
            sum = s->add ? *y : s->bias ? s->bias[c * s->y_step] : 0;
            for (r = 0; r < s->rows; ++r)
                for (i = 0; i < s->columns; ++i)
                    sum += s->x[n * s->x_next + r * s->x_row + i * s->x_column
                                + (ptrdiff_t)(c * s->x_step)]
                        * s->w[r * s->w_row + i * s->w_column + (ptrdiff_t)(c * s->w_step)];
            *y = s->clamp ? ft__clamp(sum, s->low, s->high) : sum;
        }
}

/* Nine sums at once, y[tap] += sum over rows and columns of x[tap] w: the weight gradient of a
   3 x 3 kernel where all of its taps are inside. Channels from `c` on, one by one: the oracle. */
static void ft__nine_sums_plain(const ft__window_sum *s, size_t c)
{
    int tap, r, i;
    for (; c < s->channels; ++c)
        for (tap = 0; tap < 9; ++tap) {
            const float *x = s->x + tap / 3 * s->x_tap + tap % 3 * s->x_next + c;
            float sum = 0;
            for (r = 0; r < s->rows; ++r)
                for (i = 0; i < s->columns; ++i)
                    sum += x[r * s->x_row + i * s->x_column]
                        * s->w[r * s->w_row + i * s->w_column + (ptrdiff_t)c];
            s->y[tap * s->y_next + (ptrdiff_t)c] += sum;
        }
}

/* The same for a vector of channels of `many` neighbours at once: each weight is read once for all
   of them, and their sums do not depend on each other. */
#define FT__WINDOW(name, attributes, tile, lanes)                                                 \
    attributes FT__INLINE void name##_block(const ft__window_sum *s, size_t c, int n, int many)   \
    {                                                                                             \
        FT__FUSED                                                                                 \
        tile##_vector sum[4], zero = {0}, low = s->low - zero, high = s->high - zero;             \
        const float *x = s->x + n * s->x_next + c, *w = s->w + c;                                 \
        float *y = s->y + n * s->y_next + c;                                                      \
        int r, i, j;                                                                              \
        FT__UNROLL for (j = 0; j < many; ++j) {                                                   \
            if (s->add) sum[j] = *(const tile##_loose *)(const void *)(y + j * s->y_next);        \
            else if (s->bias) sum[j] = *(const tile##_loose *)(const void *)(s->bias + c);        \
            else sum[j] = zero;                                                                   \
        }                                                                                         \
        for (r = 0; r < s->rows; ++r)                                                             \
            for (i = 0; i < s->columns; ++i) {                                                    \
                const float *at = x + r * s->x_row + i * s->x_column;                             \
                tile##_vector right = *(const tile##_loose *)(const void *)                       \
                    (w + r * s->w_row + i * s->w_column);                                         \
                FT__UNROLL for (j = 0; j < many; ++j)                                             \
                    sum[j] += *(const tile##_loose *)(const void *)(at + j * s->x_next) * right;  \
            }                                                                                     \
        FT__UNROLL for (j = 0; j < many; ++j) {                                                   \
            if (s->clamp) sum[j] = tile##_bound(sum[j], low, high);                               \
            *(tile##_loose *)(void *)(y + j * s->y_next) = sum[j];                                \
        }                                                                                         \
    }                                                                                             \
    /* Windows of 3 x 3: the weights stay in registers, the loops over them are unrolled. `side`  \
       is 1 if columns have the same step as neighbours, -1 if its negative, else 0: unless 0,    \
       inputs that neighbours share are read once. */                                             \
    attributes FT__INLINE void name##_nine(const ft__window_sum *s, size_t c,                     \
                                           const tile##_vector *w, int n, int many, int side)     \
    {                                                                                             \
        FT__FUSED                                                                                 \
        tile##_vector sum[4], line[6], zero = {0}, low = s->low - zero, high = s->high - zero;    \
        const float *x = s->x + n * s->x_next + c;                                                \
        float *y = s->y + n * s->y_next + c;                                                      \
        int r, i, j;                                                                              \
        if (s->bias) zero = *(const tile##_loose *)(const void *)(s->bias + c);                   \
        if (side < 0) x -= 2 * s->x_next;                                                         \
        FT__UNROLL for (j = 0; j < many; ++j) sum[j] = zero;                                      \
        FT__UNROLL for (r = 0; r < 3; ++r, x += s->x_row) {                                       \
            FT__UNROLL for (i = 0; i < many + 2; ++i)                                             \
                if (side != 0)                                                                    \
                    line[i] = *(const tile##_loose *)(const void *)(x + i * s->x_next);           \
            FT__UNROLL for (i = 0; i < 3; ++i)                                                    \
                FT__UNROLL for (j = 0; j < many; ++j)                                             \
                    if (side != 0)                                                                \
                        sum[j] += line[side > 0 ? i + j : j + 2 - i] * w[3 * r + i];              \
                    else                                                                          \
                        sum[j] += *(const tile##_loose *)(const void *)                           \
                            (x + i * s->x_column + j * s->x_next) * w[3 * r + i];                 \
        }                                                                                         \
        FT__UNROLL for (j = 0; j < many; ++j) {                                                   \
            if (s->clamp) sum[j] = tile##_bound(sum[j], low, high);                               \
            *(tile##_loose *)(void *)(y + j * s->y_next) = sum[j];                                \
        }                                                                                         \
    }                                                                                             \
    attributes FT__INLINE void name##_nines(const ft__window_sum *s, size_t c,                    \
                                            const tile##_vector *w, int side)                     \
    {                                                                                             \
        int n;                                                                                    \
        for (n = 0; n + 4 <= s->count; n += 4) name##_nine(s, c, w, n, 4, side);                  \
        if (n + 2 <= s->count) {                                                                  \
            name##_nine(s, c, w, n, 2, side);                                                     \
            n += 2;                                                                               \
        }                                                                                         \
        if (n < s->count) name##_nine(s, c, w, n, 1, side);                                       \
    }                                                                                             \
    attributes static size_t name##_all_nine(const ft__window_sum *s, size_t c)                   \
    {                                                                                             \
        tile##_vector w[9];                                                                       \
        int i;                                                                                    \
        for (; c + lanes <= s->channels; c += lanes) {                                            \
            FT__UNROLL for (i = 0; i < 9; ++i)                                                    \
                w[i] = *(const tile##_loose *)(const void *)                                      \
                    (s->w + i / 3 * s->w_row + i % 3 * s->w_column + c);                          \
            if (s->x_column == s->x_next) name##_nines(s, c, w, 1);                               \
            else if (s->x_column == -s->x_next) name##_nines(s, c, w, -1);                        \
            else name##_nines(s, c, w, 0);                                                        \
        }                                                                                         \
        return c;                                                                                 \
    }                                                                                             \
    attributes static size_t name(const ft__window_sum *s, size_t c)                              \
    {                                                                                             \
        int n;                                                                                    \
        if (s->rows == 3 && s->columns == 3 && !s->add) return name##_all_nine(s, c);             \
        for (; c + lanes <= s->channels; c += lanes) {                                            \
            for (n = 0; n + 4 <= s->count; n += 4) name##_block(s, c, n, 4);                      \
            for (; n + 3 <= s->count; n += 3) name##_block(s, c, n, 3);                           \
            for (; n < s->count; ++n) name##_block(s, c, n, 1);                                   \
        }                                                                                         \
        return c;                                                                                 \
    }                                                                                             \
    /* The nine sums stay in registers over all rows and columns. */                              \
    attributes static size_t name##_nine_sums(const ft__window_sum *s, size_t c)                  \
    {                                                                                             \
        FT__FUSED                                                                                 \
        tile##_vector sum[9], zero = {0};                                                         \
        int r, i, j;                                                                              \
        for (; c + lanes <= s->channels; c += lanes) {                                            \
            float *y = s->y + c;                                                                  \
            FT__UNROLL for (j = 0; j < 9; ++j) sum[j] = zero;                                     \
            for (r = 0; r < s->rows; ++r) {                                                       \
                const float *x = s->x + r * s->x_row + c, *w = s->w + r * s->w_row + c;           \
                for (i = 0; i < s->columns; ++i, x += s->x_column, w += s->w_column) {            \
                    tile##_vector right = *(const tile##_loose *)(const void *)w;                 \
                    FT__UNROLL for (j = 0; j < 9; ++j)                                            \
                        sum[j] += *(const tile##_loose *)(const void *)                           \
                            (x + j / 3 * s->x_tap + j % 3 * s->x_next) * right;                   \
                }                                                                                 \
            }                                                                                     \
            FT__UNROLL for (j = 0; j < 9; ++j, y += s->y_next)                                    \
                *(tile##_loose *)(void *)y += sum[j];                                             \
        }                                                                                         \
        return c;                                                                                 \
    }
#ifdef FT__X86
FT__WINDOW(ft__window_sse2, __attribute__((target("sse2"))), ft__tile_sse2, 4)
FT__WINDOW(ft__window_avx2, __attribute__((target("avx2,fma"))), ft__tile_avx2, 8)
FT__WINDOW(ft__window_avx512, __attribute__((target("avx512f"))), ft__tile_avx512, 16)
#elif defined(FT__ARM)
FT__WINDOW(ft__window_neon, , ft__tile_neon, 4)
#endif

static void ft__window_sum_run(const ft__context *context, const ft__window_sum *s)
{
    size_t c = 0;
    if (s->x_step == 1 && s->w_step == 1 && s->y_step == 1) {
#ifdef FT__X86
        if (FT__HAS_AVX512 && context->simd == FT__SIMD_AVX512) c = ft__window_avx512(s, c);
        if (context->simd >= FT__SIMD_AVX2) c = ft__window_avx2(s, c);
        if (context->simd == FT__SIMD_SSE2) c = ft__window_sse2(s, c);
#elif defined(FT__ARM)
        if (context->simd == FT__SIMD_NEON) c = ft__window_neon(s, c);
#endif
    }
    (void)context;
    ft__window_sum_plain(s, c);
}

/* All steps from channel to channel are 1 here. */
static void ft__nine_sums_run(const ft__context *context, const ft__window_sum *s)
{
    size_t c = 0;
#ifdef FT__X86
    if (FT__HAS_AVX512 && context->simd == FT__SIMD_AVX512) c = ft__window_avx512_nine_sums(s, c);
    if (context->simd >= FT__SIMD_AVX2) c = ft__window_avx2_nine_sums(s, c);
    if (context->simd == FT__SIMD_SSE2) c = ft__window_sse2_nine_sums(s, c);
#elif defined(FT__ARM)
    if (context->simd == FT__SIMD_NEON) c = ft__window_neon_nine_sums(s, c);
#endif
    (void)context;
    ft__nine_sums_plain(s, c);
}

#if defined(__GNUC__) && !defined(__clang__) && !defined(FINETUNE_NO_SIMD)
#pragma GCC pop_options
#endif
