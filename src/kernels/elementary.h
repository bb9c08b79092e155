#pragma once
#include "platform/system.h"

/* =============================================================================================
   [SECTION] kernels/elementary: Elementary functions
   The library has its own, so that bits do not depend on the system's libm. They have no branches,
   only selections between two computed results (ft__choose), and are always inlined, so that
   compilers vectorise loops over them. Relative errors stay below 2e-7; NaN gives NaN.
   ============================================================================================= */
FT__INLINE float ft__from_bits(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

FT__INLINE uint32_t ft__to_bits(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

/* condition ? yes : no, by masks: compilers make ?: a branch when one side is expensive, and then
   do not vectorise. */
FT__INLINE float ft__choose(bool condition, float yes, float no)
{
    uint32_t mask = 0u - (uint32_t)condition;
    return ft__from_bits((ft__to_bits(yes) & mask) | (ft__to_bits(no) & ~mask));
}

FT__INLINE float ft__absolute(float x) { return ft__from_bits(ft__to_bits(x) & 0x7fffffffu); }

FT__INLINE float ft__clamp(float x, float low, float high)
{
    float above = low > x ? low : x; /* NaN stays */
    return high < above ? high : above;
}

/* Returns `size`, which is not negative, with the sign of x. */
FT__INLINE float ft__with_sign(float size, float x)
{
    return ft__from_bits(ft__to_bits(size) | (ft__to_bits(x) & 0x80000000u));
}

/* e^x - 1 and e^x: x = n ln(2) + r with |r| <= ln(2)/2, and e^r - 1 is its Taylor polynomial of
   degree 7, whose remainder is below 2^-26. Adding 1.5 * 2^23 rounds to the integer n; ln(2) is
   subtracted in two parts (Cody and Waite 1980). 2^n is the product of two factors, since it may
   exceed a float's range although the result does not. */
FT__INLINE float ft__exp_or_less_one(float x, bool less_one)
{
    const float magic = 12582912.0f;
    float low = ft__choose(x < -104.0f, -104.0f, x);
    float bound = ft__choose(low > 88.8f, 88.8f, low);
    uint32_t n = ft__to_bits(bound * 1.44269504f + magic) - ft__to_bits(magic), half, rest;
    float whole = (float)(int32_t)n, r = (bound - whole * 0.693359375f) + whole * 2.12194440e-4f;
    float p = 1.0f / 5040, first, second, power;
    p = p * r + 1.0f / 720;
    p = p * r + 1.0f / 120;
    p = p * r + 1.0f / 24;
    p = p * r + 1.0f / 6;
    p = p * r + 0.5f;
    p = r * r * p + r;
    half = (n + 254) >> 1; /* 2 * 127, the bias of a float's exponent, for both halves */
    rest = (n + 254) - half;
    first = ft__from_bits(half << 23);
    second = ft__from_bits(rest << 23);
    power = first * second;
    return less_one ? p * power + (power - 1.0f) : (p + 1.0f) * first * second;
}

FT__INLINE float ft__exp(float x) { return ft__exp_or_less_one(x, false); }

/* e^x - 1 for x <= 0, accurate for small x. */
FT__INLINE float ft__expm1(float x) { return ft__exp_or_less_one(x, true); }

/* log(x), x = 2^e * m with m in [sqrt(1/2), sqrt(2)) and f = m - 1: log(m) = 2 atanh(s),
   s = f / (2 + f), = 2 s + s R, R = 2/3 s^2 + 2/5 s^4 + ...; |s| < 0.172, so that five terms are
   enough. 2 s is computed as f - s f, so that s, which is rounded, is only in small terms (as in
   fdlibm). `rest` is the rounding error of x, relative to x. */
FT__INLINE float ft__ln_with_remainder(float x, float rest)
{
    float scaled = ft__choose(x < 1.17549435e-38f, x * 16777216.0f, x);
    float shift = ft__choose(x < 1.17549435e-38f, 24.0f, 0.0f);
    uint32_t bits = ft__to_bits(scaled) - 0x3f3504f3u; /* so that m starts at sqrt(1/2) */
    float m = ft__from_bits((bits & 0x7fffffu) + 0x3f3504f3u);
    float e = (float)((int32_t)bits >> 23) - shift;
    float f = (m - 1.0f) + rest * m, s = f / (2.0f + f), z = s * s, p = 2.0f / 11;
    float y;
    p = p * z + 2.0f / 9;
    p = p * z + 2.0f / 7;
    p = p * z + 2.0f / 5;
    p = p * z + 2.0f / 3;
    y = e * 0.693359375f + ((e * -2.12194440e-4f - s * (f - z * p)) + f);
    y = ft__choose(x > 3.40282347e38f, x, y);
    y = ft__choose(x == 0, -(float)HUGE_VAL, y);
    return ft__choose(x >= 0, y, ft__from_bits(0x7fc00000u));
}

FT__INLINE float ft__ln(float x) { return ft__ln_with_remainder(x, 0.0f); }

/* log(1 + x), accurate for small x. */
FT__INLINE float ft__log1p(float x)
{
    float u = 1.0f + x;
    return ft__ln_with_remainder(u, (x - (u - 1.0f)) / u);
}

FT__INLINE float ft__sigmoid(float x)
{
    float e = ft__exp(-ft__absolute(x)); /* 1 / (1 + e^-x), or e^x / (1 + e^x): e never overflows */
    return ft__choose(x < 0, e, 1.0f) / (1.0f + e);
}

/* (E - 1) / (E + 1), E = e^2x; near 0, where that loses digits, Lambert's continued fraction
   x / (1 + z / (3 + z / (5 + z / (7 + z / (9 + z / 11))))), z = x^2. tanh(-x) is exactly
   -tanh(x). */
FT__INLINE float ft__tanh(float x)
{
    float a = ft__absolute(x), bound = ft__choose(a > 10.0f, 10.0f, a), z = bound * bound;
    float e = ft__exp(2.0f * bound);
    float top = bound * ((21.0f * z + 1260.0f) * z + 10395.0f);
    float bottom = ((z + 210.0f) * z + 4725.0f) * z + 10395.0f;
    float numerator = ft__choose(bound < 0.625f, top, e - 1.0f);
    float denominator = ft__choose(bound < 0.625f, bottom, e + 1.0f);
    return ft__with_sign(numerator / denominator, x);
}

/* log(1 + e^x), without overflow: max(x, 0) + log(1 + e^-|x|). */
FT__INLINE float ft__softplus(float x)
{
    return ft__choose(x > 0, x, 0.0f) + ft__log1p(ft__exp(-ft__absolute(x)));
}

/* x^e: for a whole e of at most 64 a product, by squaring, so that x may be negative; else
   exp(e log(x)), which is NaN for a negative x, as in PyTorch. */
FT__INLINE float ft__pow(float x, float e)
{
    float size = ft__absolute(e), y = 1;
    int n = size <= 64 ? (int)size : 0;
    if ((float)n != size) return ft__exp(e * ft__ln(x));
    for (; n; n >>= 1, x *= x)
        if (n & 1) y *= x;
    return e < 0 ? 1 / y : y;
}

/* Up to 0.8 the Taylor series (Abramowitz and Stegun 7.1.5), with a remainder below 2^-24; beyond,
   1 - e^q(x), where the polynomial q of degree 6 is the best fit to ln(1 - erf(x)) on [0.8, 4] (own
   fit by Lawson's algorithm, weighted so that 1 - e^q is off by at most 2.6e-9). */
FT__INLINE float ft__erf(float x)
{
    float a = ft__absolute(x), bound = ft__choose(a > 4.0f, 4.0f, a), z = bound * bound;
    float p = -1.0f / 75600, q = 2.087037918e-4f;
    p = p * z + 1.0f / 9360;
    p = p * z - 1.0f / 1320;
    p = p * z + 1.0f / 216;
    p = p * z - 1.0f / 42;
    p = p * z + 1.0f / 10;
    p = p * z - 1.0f / 3;
    p = (bound + bound * z * p) * 1.12837917f;
    q = q * bound - 3.164928714e-3f;
    q = q * bound + 2.269751014e-2f;
    q = q * bound - 1.048766316e-1f;
    q = q * bound - 6.361418787e-1f;
    q = q * bound - 1.128271475f;
    q = q * bound - 5.682286914e-5f;
    return ft__with_sign(ft__choose(bound < 0.8f, p, 1.0f - ft__exp(q)), x);
}
