#pragma once
#include "platform/system.h"
#include "kernels/levels.h"

/* =============================================================================================
   [SECTION] kernels/rotary: Angles and rotations
   In double, by series: they are rounded to float once, and bits do not depend on the system's
   libm.
   ============================================================================================= */
/* log(x) for x > 0: x = 2^e m, m in [1, 2), log(m) = 2 atanh((m - 1) / (m + 1)). */
static double ft__log_double(double x)
{
    int e, k;
    double s = frexp(x, &e), z, sum = 0;
    s = (s - 0.70710678118654752) / (s + 0.70710678118654752); /* m = 2^(1/2) x / 2^e */
    z = s * s;
    for (k = 41; k > 0; k -= 2) sum = sum * z + 1.0 / k;
    return (e - 0.5) * 0.69314718055994531 + 2 * s * sum;
}

/* e^x for |x| < 700: x = n log(2) + r, and Taylor's series of e^r. */
static double ft__exp_double(double x)
{
    double sum = 0;
    int n = (int)(x * 1.4426950408889634 + (x < 0 ? -0.5 : 0.5)), k;
    x -= n * 0.69314718055994531;
    for (k = 20; k > 0; --k) sum = (sum + 1) * x / k;
    return ldexp(sum + 1, n);
}

/* The cosine and sine of x, |x| < 6e6: x less quarter turns, then Taylor's series. */
static void ft__turn(double x, float *cosine, float *sine)
{
    double n = floor(x * 0.63661977236758134 + 0.5), z, c = 0, s = 0;
    int k, quarter = (int)((long long)n & 3);
    x = (x - n * 1.5707963267341256) - n * 6.0771005065061922e-11; /* pi / 2 in two parts */
    z = -x * x;
    for (k = 18; k > 0; k -= 2) c = (c + 1) * z / (k * (k - 1));
    for (k = 19; k > 1; k -= 2) s = (s + 1) * z / (k * (k - 1));
    c += 1;
    s = s * x + x;
    *cosine = (float)(quarter == 0 ? c : quarter == 1 ? -s : quarter == 2 ? -c : s);
    *sine = (float)(quarter == 0 ? s : quarter == 1 ? c : quarter == 2 ? -s : -c);
}

#if defined(__GNUC__) && !defined(__clang__) && !defined(FINETUNE_NO_SIMD)
#pragma GCC push_options /* not fused: all levels give the same bits */
#pragma GCC optimize("O3", "fp-contract=off")
#endif

/* Turns `count` pairs of numbers by angles, or back: (a cos - b sin, b cos + a sin). A pair's b is
   `apart` after its a, and the next pair `step` after this one. y may be x. */
FT__INLINE void ft__rotate_pairs(const float *x, float *y, const float *cosine, const float *sine,
                                 size_t count, size_t apart, size_t step, float sign, bool add)
{
    size_t i;
    FT__INDEPENDENT for (i = 0; i < count; ++i) {
        float a = x[i * step], b = x[i * step + apart], s = sign * sine[i];
        float c = a * cosine[i] - b * s, d = b * cosine[i] + a * s;
        y[i * step] = add ? y[i * step] + c : c;
        y[i * step + apart] = add ? y[i * step + apart] + d : d;
    }
}

FT__INLINE void ft__rotate_body(const float *x, float *y, const float *angles, size_t count,
                                bool interleaved, bool back, bool add)
{
    float sign = back ? -1.0f : 1.0f;
    if (interleaved) ft__rotate_pairs(x, y, angles, angles + count, count, 1, 2, sign, add);
    else if (add) ft__rotate_pairs(x, y, angles, angles + count, count, count, 1, sign, true);
    else ft__rotate_pairs(x, y, angles, angles + count, count, count, 1, sign, false);
}

FT__LEVELS(ft__rotate,
           (const float *x, float *y, const float *angles, size_t count, bool interleaved,
            bool back, bool add),
           ft__rotate_body(x, y, angles, count, interleaved, back, add))

#if defined(__GNUC__) && !defined(__clang__) && !defined(FINETUNE_NO_SIMD)
#pragma GCC pop_options
#endif
