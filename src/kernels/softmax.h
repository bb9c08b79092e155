#pragma once
#include "platform/system.h"
#include "kernels/elementary.h"
#include "kernels/levels.h"
#include "kernels/lanes.h"

/* =============================================================================================
   [SECTION] kernels/softmax: Softmax of a line
   ============================================================================================= */
#if defined(__GNUC__) && !defined(__clang__) && !defined(FINETUNE_NO_SIMD)
#pragma GCC push_options /* not fused: all levels give the same bits */
#pragma GCC optimize("O3", "fp-contract=off")
#endif

/* The maximum of a line. NaN is ignored unless it is first. */
FT__INLINE float ft__largest_body(const float *x, size_t count)
{
    float lanes[FT__LANES], largest;
    size_t at, i;
    for (i = 0; i < FT__LANES; ++i) lanes[i] = x[0];
    for (at = 0; at + FT__LANES <= count; at += FT__LANES)
        for (i = 0; i < FT__LANES; ++i)
            lanes[i] = ft__choose(x[at + i] > lanes[i], x[at + i], lanes[i]);
    for (largest = lanes[0], i = 1; i < FT__LANES; ++i)
        if (lanes[i] > largest) largest = lanes[i];
    for (; at < count; ++at)
        if (x[at] > largest) largest = x[at];
    return largest;
}

/* y = e^(x - max) / sum, or its logarithm x - max - log(sum): the largest exponent is 0. The sum is
   a double, so that it stays accurate for many classes. */
FT__INLINE void ft__softmax_body(const float *x, float *y, size_t count, bool logarithm)
{
    float largest = ft__largest_body(x, count), all;
    double sum = 0;
    size_t i;
    FT__INDEPENDENT for (i = 0; i < count; ++i) y[i] = ft__exp(x[i] - largest);
    for (i = 0; i < count; ++i) sum += (double)y[i];
    all = logarithm ? ft__ln((float)sum) : (float)sum;
    if (logarithm) FT__INDEPENDENT for (i = 0; i < count; ++i) y[i] = (x[i] - largest) - all;
    else FT__INDEPENDENT for (i = 0; i < count; ++i) y[i] = y[i] / all;
}

FT__INLINE void ft__exp_body(float *y, size_t count)
{
    size_t i;
    FT__INDEPENDENT for (i = 0; i < count; ++i) y[i] = ft__exp(y[i]);
}

/* dx += scale (p - share) */
FT__INLINE void ft__add_probabilities_body(const float *p, float scale, float share, size_t count,
                                           float *dx)
{
    size_t i;
    FT__INDEPENDENT for (i = 0; i < count; ++i) dx[i] += scale * (p[i] - share);
}

FT__LEVELS(ft__find_largest, (const float *x, size_t count, float *to),
           *to = ft__largest_body(x, count))
FT__LEVELS(ft__softmax, (const float *x, float *y, size_t count, bool logarithm),
           ft__softmax_body(x, y, count, logarithm))
FT__LEVELS(ft__exp_line, (float *y, size_t count), ft__exp_body(y, count))
FT__LEVELS(ft__add_probabilities,
           (const float *p, float scale, float share, size_t count, float *dx),
           ft__add_probabilities_body(p, scale, share, count, dx))

#if defined(__GNUC__) && !defined(__clang__) && !defined(FINETUNE_NO_SIMD)
#pragma GCC pop_options
#endif
