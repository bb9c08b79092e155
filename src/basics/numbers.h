#pragma once

/* =============================================================================================
   [SECTION] basics/numbers: Arithmetic on sizes, and powers
   ============================================================================================= */
static size_t ft__pad_to(size_t count, size_t multiple)
{
    return (count + multiple - 1) / multiple * multiple;
}
static size_t ft__min_size(size_t a, size_t b) { return a < b ? a : b; }
static size_t ft__max_size(size_t a, size_t b) { return a > b ? a : b; }

/* A number that an option takes: finite, and 0 or more. */
static bool ft__not_negative(float x) { return x >= 0 && x <= FLT_MAX; }
static bool ft__is_finite(float x) { return x >= -FLT_MAX && x <= FLT_MAX; }

static double ft__power(double base, uint64_t exponent) /* by squaring: no libm, same bits */
{
    double result = 1;
    for (; exponent; exponent >>= 1, base *= base)
        if (exponent & 1) result *= base;
    return result;
}
