#pragma once

/* =============================================================================================
   [SECTION] basics/numbers: Arithmetic on sizes, powers, and a filter
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

/* The index of the first of the largest of `count` scores. */
static int ft__argmax(const float *scores, int count)
{
    int best = 0, i;
    for (i = 1; i < count; ++i)
        if (scores[i] > scores[best]) best = i;
    return best;
}

/* base to any power, base > 0: unlike libm's pow, the same bits everywhere. The logarithm of the
   mantissa is computed by the series of atanh, e^x by Taylor's for x below ln 2. */
static double ft__any_power(double base, double exponent)
{
    const double ln2 = 0.693147180559945309417;
    int whole, i;
    double part = frexp(base, &whole), y = (part - 1) / (part + 1), square = y * y, sum = 0, x;
    double term = 1, result = 1;
    for (i = 41; i > 0; i -= 2) sum = sum * square + 1.0 / i;
    x = exponent * (whole * ln2 + 2 * y * sum);
    if (x > 700) x = 700; /* within the range of a double */
    if (x < -700) x = -700;
    whole = (int)(x / ln2);
    x -= whole * ln2;
    for (i = 1; i < 20; ++i) {
        term *= x / i;
        result += term;
    }
    return ldexp(result, whole);
}

/* The bicubic kernel (Keys 1981) at a distance: a is -0.5 in Pillow and in PyTorch's interpolate
   with antialias, -0.75 without. */
static double ft__cubic(double x, double a)
{
    if (x < 0) x = -x;
    if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
    return x < 2 ? (((x - 5) * x + 8) * x - 4) * a : 0;
}
