#pragma once
#include "platform/system.h"
#include "kernels/elementary.h"
#include "kernels/levels.h"
#include "kernels/lanes.h"
#include "kernels/softmax.h"

/* =============================================================================================
   [SECTION] kernels/attention: Attention: one row of scores
   ============================================================================================= */
#if defined(__GNUC__) && !defined(__clang__) && !defined(FINETUNE_NO_SIMD)
#pragma GCC push_options /* not fused: all levels give the same bits */
#pragma GCC optimize("O3", "fp-contract=off")
#endif

/* The softmax of a row that comes in tiles (Milakov and Gimelshein 2018): of all scores so far, the
   largest, and the sum of e^(score - largest). `shrink` is e^(largest before - largest now), by
   which what was summed with the largest before must be multiplied. */
typedef struct ft__score_row { float largest, sum, shrink; } ft__score_row;

/* s = e^(scale s - largest) for the next tile of a row; count > 0. */
FT__INLINE void ft__attend_body(float *s, size_t count, float scale, ft__score_row *row)
{
    float sums[FT__LANES], lanes[FT__LANES], largest = scale * ft__largest_body(s, count), sum = 0;
    size_t at, i;
    largest = row->largest > largest ? row->largest : largest;
    for (i = 0; i < FT__LANES; ++i) sums[i] = 0;
    for (at = 0; at + FT__LANES <= count; at += FT__LANES) {
        for (i = 0; i < FT__LANES; ++i) lanes[i] = ft__exp(scale * s[at + i] - largest);
        for (i = 0; i < FT__LANES; ++i) sums[i] += lanes[i];
        for (i = 0; i < FT__LANES; ++i) s[at + i] = lanes[i];
    }
    if (at < count) {
        ft__load_lanes(lanes, s + at, count - at);
        for (i = 0; i < FT__LANES; ++i) lanes[i] = ft__exp(scale * lanes[i] - largest);
        for (i = 0; i < count - at; ++i) sums[i] += lanes[i];
        ft__store_lanes(s + at, lanes, count - at);
    }
    for (i = 0; i < FT__LANES; ++i) sum += sums[i];
    row->shrink = ft__exp(row->largest - largest);
    row->sum = row->sum * row->shrink + sum;
    row->largest = largest;
}

/* The sum of a b. */
FT__INLINE float ft__dot_body(const float *a, const float *b, size_t count)
{
    float sums[FT__LANES], sum = 0;
    size_t at, i;
    for (i = 0; i < FT__LANES; ++i) sums[i] = 0;
    for (at = 0; at + FT__LANES <= count; at += FT__LANES)
        for (i = 0; i < FT__LANES; ++i) sums[i] += a[at + i] * b[at + i];
    for (i = 0; at + i < count; ++i) sums[i] += a[at + i] * b[at + i];
    for (i = 0; i < FT__LANES; ++i) sum += sums[i];
    return sum;
}

/* s = p = e^(scale s - all), the probabilities again, where `all` is the logarithm of the row's sum
   of e^(scale s); dp = scale p (dp - mean): the gradient of q k^T, where `mean` is the row's sum of
   dy y. */
FT__INLINE void ft__attend_back_body(float *s, float *dp, size_t count, float scale, float all,
                                     float mean)
{
    size_t i;
    FT__INDEPENDENT for (i = 0; i < count; ++i) {
        float p = ft__exp(scale * s[i] - all);
        s[i] = p;
        dp[i] = scale * (p * (dp[i] - mean));
    }
}

FT__LEVELS(ft__attend, (float *s, size_t count, float scale, ft__score_row *row),
           ft__attend_body(s, count, scale, row))
FT__LEVELS(ft__attend_back,
           (float *s, float *dp, size_t count, float scale, float all, const float *dy,
            const float *y, size_t width),
           ft__attend_back_body(s, dp, count, scale, all, ft__dot_body(dy, y, width)))

#if defined(__GNUC__) && !defined(__clang__) && !defined(FINETUNE_NO_SIMD)
#pragma GCC pop_options
#endif
