/* test_elementary.c - the lowest parts of the header: elementary functions against the system's in
   double precision, the maximum of some numbers, half floats, random numbers, shuffling, globs,
   JSON, checked multiplication, and the thread pool. */
#include "internals.h"
#include "check.h"
#include <locale.h>

/* ---- Elementary functions ---- */

typedef float (*function)(float x);
typedef double (*oracle)(double x);

static double oracle_sigmoid(double x) { return x < 0 ? exp(x) / (1 + exp(x)) : 1 / (1 + exp(-x)); }
static double oracle_softplus(double x) { return (x > 0 ? x : 0) + log1p(exp(-fabs(x))); }

/* A float's place in the order of all floats: neighbours differ by 1. */
static int64_t place(float x)
{
    int32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits < 0 ? -(int64_t)(bits & 0x7fffffff) : (int64_t)bits;
}

static float at_place(int64_t p)
{
    uint32_t bits = (uint32_t)(p < 0 ? -p : p) | (p < 0 ? 0x80000000u : 0u);
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* Walks from low to high in `count` steps of equal width, and again through as many floats evenly
   spread over their bits (so that tiny and huge ones come up as well), and reports the worst
   relative error. Where the true value is below the smallest normal number, the error is measured
   against that number: there floats have fewer digits. */
static void sweep(const char *name, function f, oracle want, float low, float high, int count,
                  double tolerance)
{
    double worst = 0;
    float worst_x = low;
    int64_t first = place(low), last = place(high);
    int i, bad = 0;
    for (i = 0; i < 2 * count; ++i) {
        double share = (double)(i / 2) / (count - 1), truth, error;
        float x = i % 2 ? at_place(first + (int64_t)(share * (double)(last - first)))
                        : (float)(low + share * ((double)high - low)), got;
        truth = want((double)x);
        got = f(x);
        if (fabs(truth) > 3.4028234e38) continue; /* overflow is tested with the special values */
        error = fabs((double)got - truth) / fmax(fabs(truth), 1.17549435e-38);
        if (!(error <= tolerance)) bad += 1;
        if (!(error <= worst)) {
            worst = error;
            worst_x = x;
        }
    }
    if (getenv("VERBOSE"))
        printf("%-9s [%g, %g]: relative error up to %.3g, at %.9g\n", name, (double)low,
               (double)high, worst, (double)worst_x);
    CHECK(bad == 0, "%s: relative error %.3g at %.9g is over %.3g (%d of %d)", name, worst,
          (double)worst_x, tolerance, bad, 2 * count);
}

static void test_accuracy(void)
{
    const float huge = 3.4028235e38f, tiny = 1e-45f;
    sweep("exp", ft__exp, exp, -103.9f, 88.7228f, 400000, 2e-7);
    sweep("exp", ft__exp, exp, -88.0f, -87.0f, 20000, 2e-7);
    sweep("exp", ft__exp, exp, 88.6f, 88.7228f, 20000, 2e-7);
    sweep("ln", ft__ln, log, tiny, huge, 400000, 2e-7);
    sweep("ln", ft__ln, log, 0.5f, 2.0f, 200000, 2e-7);
    sweep("ln", ft__ln, log, 0.9999f, 1.0001f, 4000, 2e-7);
    sweep("ln", ft__ln, log, 3.3e38f, huge, 1000, 2e-7);
    sweep("log1p", ft__log1p, log1p, -0.9999999f, 1.0f, 400000, 2e-7);
    sweep("log1p", ft__log1p, log1p, tiny, huge, 400000, 2e-7);
    sweep("log1p", ft__log1p, log1p, 3.3e38f, huge, 1000, 2e-7);
    sweep("tanh", ft__tanh, tanh, -10.0f, 10.0f, 400000, 2e-7);
    sweep("tanh", ft__tanh, tanh, 0.2f, 1.0f, 200000, 2e-7);
    sweep("erf", ft__erf, erf, -5.0f, 5.0f, 100000, 2e-7);
    sweep("erf", ft__erf, erf, 0.5f, 4.5f, 100000, 2e-7);
    sweep("sigmoid", ft__sigmoid, oracle_sigmoid, -103.9f, 103.9f, 400000, 2e-7);
    sweep("sigmoid", ft__sigmoid, oracle_sigmoid, -90.0f, -85.0f, 10000, 2e-7);
    sweep("softplus", ft__softplus, oracle_softplus, -103.9f, 103.9f, 400000, 2e-7);
    sweep("softplus", ft__softplus, oracle_softplus, -huge, huge, 100000, 2e-7);
}

static bool same_bits(float a, float b) { return memcmp(&a, &b, sizeof a) == 0; }

static void test_special(void)
{
    static const struct { const char *name; function f; oracle want; } rows[] = {
        {"exp", ft__exp, exp}, {"ln", ft__ln, log}, {"log1p", ft__log1p, log1p},
        {"tanh", ft__tanh, tanh}, {"erf", ft__erf, erf}, {"sigmoid", ft__sigmoid, oracle_sigmoid},
        {"softplus", ft__softplus, oracle_softplus}};
    const float infinite = (float)HUGE_VAL, not_a_number = infinite - infinite;
    const float values[] = {0.0f, -0.0f, 1.0f, -1.0f, infinite, -infinite, 3.4028235e38f,
                            -3.4028235e38f, 1e-45f, -1e-45f, 1.17549435e-38f, 1e-30f, -1e-30f,
                            88.73f, 89.0f, -104.0f, -200.0f, 1e4f, -1e4f, 1e10f, -1e10f};
    size_t r, i;
    for (r = 0; r < sizeof rows / sizeof *rows; ++r) {
        for (i = 0; i < sizeof values / sizeof *values; ++i) {
            float got = rows[r].f(values[i]), want = (float)rows[r].want((double)values[i]);
            bool right = want != want ? got != got
                : want - want != 0 ? same_bits(got, want)
                : fabs((double)got - (double)want)
                    <= 2.5e-7 * fmax(fabs((double)want), 1.17549435e-38);
            CHECK(right, "%s(%g) is %.9g, should be %.9g", rows[r].name, (double)values[i],
                  (double)got, (double)want);
        }
        CHECK(rows[r].f(not_a_number) != rows[r].f(not_a_number), "%s(NaN) is a number",
              rows[r].name);
    }
    CHECK(ft__exp(0.0f) == 1.0f && ft__ln(1.0f) == 0.0f && ft__sigmoid(0.0f) == 0.5f,
          "exp(0), ln(1), sigmoid(0) are exact");
    CHECK(same_bits(ft__tanh(-0.0f), -0.0f) && same_bits(ft__erf(-0.0f), -0.0f),
          "-0 keeps its sign");
}

/* Odd functions are odd to the bit; bounded ones stay in their bounds. */
static void test_bounds(void)
{
    float x;
    int odd = 0, out = 0;
    for (x = -30.0f; x < 30.0f; x += 0.0037f) {
        float s = ft__sigmoid(x);
        if (!same_bits(ft__tanh(-x), -ft__tanh(x)) || !same_bits(ft__erf(-x), -ft__erf(x)))
            odd += 1;
        if (!(fabs((double)ft__tanh(x)) <= 1) || !(fabs((double)ft__erf(x)) <= 1)) out += 1;
        if (!(s >= 0 && s <= 1) || !(ft__softplus(x) >= 0)) out += 1;
    }
    CHECK(odd == 0, "tanh or erf is not odd at %d places", odd);
    CHECK(out == 0, "tanh, erf, sigmoid or softplus leaves its bounds at %d places", out);
}

/* ---- The largest ---- */

/* The first of the largest, as a plain search finds it. */
static void test_guess(void)
{
    float x[70];
    int count, at, level;
    ft__context c;
    memset(&c, 0, sizeof c);
    for (level = 0; level < FT__SIMD_COUNT; ++level) {
        c.simd = level;
        if (!ft__simd_available(level)) {
            skip_level(ft__tiles[level].name);
            continue;
        }
        for (count = 1; count <= 70; count += 23)
            for (at = 0; at < count; ++at) {
                int i;
                for (i = 0; i < count; ++i) x[i] = (float)(i * 5 % 7) - 9;
                x[at] = x[count - 1] = -1;
                CHECK(ft__guess(&c, x, count) == ft__argmax(x, count), "%d of %d", at, count);
                x[at] = ft__from_bits(0x7fc00000u);
                CHECK(ft__guess(&c, x, count) == ft__argmax(x, count), "NaN %d of %d", at, count);
            }
    }
}

/* ---- Half floats ---- */

static void test_halves(void)
{
    static const struct { float value; uint32_t half, bfloat; } rows[] = {
        {0, 0, 0}, {1, 0x3c00, 0x3f80}, {-2, 0xc000, 0xc000}, {65504, 0x7bff, 0x4780},
        {65520, 0x7c00, 0x4780}, {5.9604645e-8f, 1, 0x3380}, {2.9802322e-8f, 0, 0x3300},
        {2.9802326e-8f, 1, 0x3300}, {6.1035156e-5f, 0x400, 0x3880}, {1.00048828f, 0x3c00, 0x3f80},
        {1.00146484f, 0x3c02, 0x3f80}, {1.00390625f, 0x3c04, 0x3f80}, {1.01171875f, 0x3c0c, 0x3f82}};
    uint32_t h;
    size_t i;
    for (i = 0; i < sizeof rows / sizeof rows[0]; ++i) {
        CHECK(ft__float_to_half(rows[i].value) == rows[i].half, "%g: half %x", (double)rows[i].value,
              ft__float_to_half(rows[i].value));
        CHECK(ft__float_to_bfloat(rows[i].value) == rows[i].bfloat, "%g: bfloat %x",
              (double)rows[i].value, ft__float_to_bfloat(rows[i].value));
    }
    for (h = 0; h < 65536; ++h) { /* every half but NaN survives the way there and back */
        float value = ft__half_to_float(h);
        if (value == value && ft__float_to_half(value) != h) break;
    }
    CHECK(h == 65536, "half %x comes back as %x", h, ft__float_to_half(ft__half_to_float(h)));
    CHECK(ft__half_to_float(0x7e00) != ft__half_to_float(0x7e00), "NaN stays NaN");
    CHECK((ft__float_to_half(ft__from_bits(0x7fc00000u)) & 0x7fff) > 0x7c00, "NaN stays NaN");
}

/* ---- Random numbers ---- */

static int bits_of(uint64_t x)
{
    int count = 0;
    for (; x; x &= x - 1) ++count;
    return count;
}

/* Dropout at every level of instructions: the number of place i is kept where ft__uniform(key, i)
   is at least p; lines of every length, places beyond 32 bits. */
static void test_drop(void)
{
    enum { MOST = 70 };
    float x[MOST], y[MOST];
    int level, count, i, wrong = 0, form;
    for (i = 0; i < MOST; ++i) x[i] = (float)(i % 7) - 2.5f;
    for (level = 0; level < FT__SIMD_COUNT; ++level)
        for (count = 0; ft__simd_available(level) && count < MOST; ++count)
            for (form = 0; form < 4; ++form) { /* p 0.1 or all; to be added or not */
                size_t first = ((size_t)1 << 32) - 20;
                float p = form / 2 ? 1.0f : 0.1f, kept = form / 2 ? 0.0f : 1.0f / (1.0f - 0.1f);
                for (i = 0; i < MOST; ++i) y[i] = 3;
                ft__drop[level](x, y, (size_t)count, 99, first, p, form % 2 == 1);
                for (i = 0; i < MOST; ++i) {
                    float m = ft__uniform(99, first + (size_t)i) < p ? 0 : kept;
                    float want = i >= count ? 3 : form % 2 ? 3 + x[i] * m : x[i] * m;
                    wrong += y[i] != want;
                }
            }
    CHECK(wrong == 0, "%d numbers after dropout are wrong", wrong);
}

static void test_random(void)
{
    uint64_t key = ft__key(1, 2, 3, FT__USE_DROPOUT), i;
    double sum = 0, squares = 0, neighbours = 0, before = 0.5;
    int cells[16] = {0}, flipped = 0, n = 1 << 16, c, out = 0, low = n, high = 0;
    CHECK(ft__random(key, 5) == ft__random(key, 5), "a number is a function of key and index");
    /* SplitMix64 (Steele, Lea, Flood 2014) started at 0 gives this first: its authors' value. */
    CHECK(ft__random(0, 0) == 0xE220A8397B1DCDAFu, "SplitMix64's first number is %llx",
          (unsigned long long)ft__random(0, 0));
    CHECK(ft__random(0, 1) == 0x6E789E6AA1B965F4u, "SplitMix64's second number is %llx",
          (unsigned long long)ft__random(0, 1));
    for (i = 0; i < (uint64_t)n; ++i) {
        double u = (double)ft__uniform(key, i);
        if (!(u >= 0 && u < 1)) out += 1;
        else cells[(int)(u * 16)] += 1;
        sum += u;
        squares += u * u;
        neighbours += (u - 0.5) * (before - 0.5);
        before = u;
    }
    for (c = 0; c < 16; ++c) {
        if (cells[c] < low) low = cells[c];
        if (cells[c] > high) high = cells[c];
    }
    CHECK(out == 0, "%d numbers are outside [0, 1)", out);
    CHECK(CLOSE(sum / n, 0.5, 0.006), "mean %g", sum / n);
    CHECK(CLOSE(squares / n, 1.0 / 3, 0.006), "mean square %g", squares / n);
    CHECK(CLOSE(neighbours / n, 0, 0.002), "neighbours correlate: %g", neighbours / n);
    CHECK(low > n / 16 - 350 && high < n / 16 + 350, "cells hold %d to %d", low, high);
    /* Every part of a key matters, and a changed bit of it changes half of the bits. */
    CHECK(key != ft__key(2, 2, 3, FT__USE_DROPOUT) && key != ft__key(1, 3, 3, FT__USE_DROPOUT)
          && key != ft__key(1, 2, 4, FT__USE_DROPOUT) && key != ft__key(1, 2, 3, FT__USE_ORDER)
          && key != ft__key(1, 3, 2, FT__USE_DROPOUT) && key != ft__key(2, 1, 3, FT__USE_DROPOUT),
          "two keys are equal");
    for (c = 0; c < 64; ++c) {
        flipped += bits_of(key ^ ft__key(1 ^ (uint64_t)1 << c, 2, 3, FT__USE_DROPOUT));
        flipped += bits_of(key ^ ft__key(1, 2 ^ (uint64_t)1 << c, 3, FT__USE_DROPOUT));
        flipped += bits_of(key ^ ft__key(1, 2, 3 ^ (uint64_t)1 << c, FT__USE_DROPOUT));
    }
    CHECK(CLOSE(flipped / (3.0 * 64), 32, 2), "a changed bit changes %g bits",
          flipped / (3.0 * 64));
}

static void test_shuffle(void)
{
    static const int counts[] = {0, 1, 2, 3, 17, 1000};
    int order[1000], again[1000], places[4][4] = {{0}}, k, i, j;
    size_t n;
    for (n = 0; n < sizeof counts / sizeof *counts; ++n) {
        char seen[1000] = {0};
        int count = counts[n], missing = 0;
        ft__shuffle(order, count, 42);
        ft__shuffle(again, count, 42);
        for (i = 0; i < count; ++i)
            if (order[i] >= 0 && order[i] < count) seen[order[i]] = 1;
        for (i = 0; i < count; ++i) missing += !seen[i];
        CHECK(missing == 0, "shuffling %d: %d are missing", count, missing);
        CHECK(memcmp(order, again, (size_t)count * sizeof *order) == 0, "not the same twice");
    }
    ft__shuffle(again, 1000, 43);
    CHECK(memcmp(order, again, sizeof order) != 0, "another key gives another order");
    for (k = 0; k < 4000; ++k) { /* every element comes to every place equally often */
        ft__shuffle(order, 4, ft__key(7, (uint64_t)k, 0, FT__USE_ORDER));
        for (i = 0; i < 4; ++i) places[i][order[i]] += 1;
    }
    for (i = 0; i < 4; ++i)
        for (j = 0; j < 4; ++j)
            CHECK(places[i][j] > 1000 - 140 && places[i][j] < 1000 + 140,
                  "%d came to place %d in %d of 4000 shuffles", j, i, places[i][j]);
}

/* ---- Globs ---- */

/* The plain recursive definition, one pattern. */
static bool oracle_glob(const char *p, const char *t)
{
    if (!*p) return !*t;
    if (*p == '*') return oracle_glob(p + 1, t) || (*t && oracle_glob(p, t + 1));
    return *t && (*p == '?' || *p == *t) && oracle_glob(p + 1, t + 1);
}

static void test_glob(void)
{
    static const struct { const char *pattern, *text; bool match; } rows[] = {
        {"", "", false}, {"*", "", true}, {"*", "fc.weight", true}, {"fc*", "fc.weight", true},
        {"fc*", "layer4.fc", false}, {"*.weight", "fc.weight", true},
        {"*.weight", "fc.bias", false},
        {"layer[1-3]*", "layer2.0.conv1.weight", true}, {"layer[1-3]*", "layer4.0", false},
        {"layer[!1-3]*", "layer4.0", true}, {"layer[!1-3]*", "layer2.0", false},
        {"layer[13]", "layer3", true}, {"layer[13]", "layer2", false}, {"[a-]", "-", true},
        {"a?c", "abc", true}, {"a?c", "ac", false}, {"a?", "a", false}, {"?", "", false},
        {"a,b", "b", true}, {"a,b", "a,b", false}, {"a*,*b", "xxb", true}, {"a,b,c", "c", true},
        {"a,b", "c", false}, {",b", "b", true}, {"a*b*c", "aXbYc", true}, {"a*b*c", "aXbY", false},
        {"**", "abc", true}, {"*a*a*a*a*b", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", false},
        {"fc", "fc.weight", false}, {"c.weight", "fc.weight", false}, {"[", "[", false},
        {"[abc", "a", false}, {"a[", "a", false}, {"[!a]", "", false}};
    static const char letters[] = "ab*?";
    size_t i;
    int n, k, wrong = 0;
    for (i = 0; i < sizeof rows / sizeof *rows; ++i)
        CHECK(ft__glob(rows[i].pattern, rows[i].text) == rows[i].match, "\"%s\" on \"%s\"",
              rows[i].pattern, rows[i].text);
    for (n = 0; n < 20000; ++n) {
        char pattern[8] = {0}, text[8] = {0};
        uint64_t bits = ft__random(99, (uint64_t)n);
        int pattern_length = 1 + (int)(bits % 6), text_length = (int)(bits / 8 % 7);
        for (k = 0; k < pattern_length; ++k) pattern[k] = letters[bits >> (8 + 2 * k) & 3];
        for (k = 0; k < text_length; ++k) text[k] = letters[bits >> (32 + 2 * k) & 1];
        wrong += ft__glob(pattern, text) != oracle_glob(pattern, text);
    }
    CHECK(wrong == 0, "%d of 20000 random globs match wrongly", wrong);
}

/* ---- JSON ---- */

static void test_json_floats(void)
{
    ft_desc desc = {.threads = 1};
    ft_model *m = ft_create(desc);
    unsigned state = 1;
    int i, bad = 0;
    for (i = 0; i < 20000; ++i) {
        ft__text text = {.context = &m->context};
        ft__json *json;
        double back = 0;
        float value;
        state = state * 1664525u + 1013904223u;
        value = ft__from_bits(state);
        if (!(value - value == 0)) continue;
        ft__json_add_float(&text, value);
        json = ft__json_parse(&m->context, text.letters, text.count);
        if (!json || !ft__json_double(json, 0, &back) || (float)back != value) bad += 1;
        ft__json_free(&m->context, json);
        ft__release(&m->context, text.letters);
    }
    CHECK(bad == 0, "%d of 20000 floats do not read back", bad);
    ft_destroy(m);
}

static void test_json(void)
{
    static const char *const good[] = {"{}", "[]", " [1, -2.5e3, true, false, null, \"\\u00e9\"] ",
                                       "{\"a\":{\"b\":[[],[{}]]}}", "\"\\ud83d\\ude00\"", "0"};
    static const char *const bad[] = {"", "{", "[1,]", "{\"a\"}", "{\"a\":}", "[1 2]", "\"\\x\"",
                                      "nul", "1e", "-", "{1:2}", "\"\\ud83d\"", "[]]", "\"\\u0000\""};
    char deep[201];
    ft_desc desc = {.threads = 1};
    ft_model *m = ft_create(desc);
    size_t i;
    for (i = 0; i < sizeof good / sizeof good[0]; ++i) {
        ft__json *json = ft__json_parse(&m->context, good[i], strlen(good[i]));
        CHECK(json, "%s is JSON", good[i]);
        ft__json_free(&m->context, json);
    }
    for (i = 0; i < sizeof bad / sizeof bad[0]; ++i) {
        ft__json *json = ft__json_parse(&m->context, bad[i], strlen(bad[i]));
        CHECK(!json, "%s is not JSON", bad[i]);
        ft__json_free(&m->context, json);
    }
    memset(deep, '[', 200);
    CHECK(!ft__json_parse(&m->context, deep, 200), "200 brackets are refused");
    CHECK(ft_error(m) == FT_OK, "%s", ft_error_text(m));
    ft_destroy(m);
}

/* ---- Checked multiplication ---- */

static void test_multiply(void)
{
    const size_t most = SIZE_MAX, half = (size_t)1 << (4 * sizeof(size_t));
    size_t p = 77;
    CHECK(ft__multiply(6, 7, &p) && p == 42, "6 * 7 is %zu", p);
    CHECK(ft__multiply(0, most, &p) && p == 0 && ft__multiply(most, 0, &p) && p == 0, "0");
    CHECK(ft__multiply(most, 1, &p) && p == most && ft__multiply(1, most, &p) && p == most, "1");
    CHECK(ft__multiply(half, half - 1, &p) && p == half * (half - 1), "below the limit");
    CHECK(ft__multiply(most / 3, 3, &p) && p == most / 3 * 3, "at the limit");
    CHECK(!ft__multiply(half, half, &p), "2^64 does not fit");
    CHECK(!ft__multiply(most, 2, &p) && !ft__multiply(2, most, &p), "twice the most");
    CHECK(!ft__multiply(most / 2 + 1, 2, &p) && !ft__multiply(most, most, &p), "over the limit");
}

/* ---- Threads ---- */

enum { INDICES = 3000 };
typedef struct visits { int count[INDICES]; float value[INDICES]; } visits;

static void visit(void *context, int index)
{
    visits *v = (visits *)context;
    float sum = 0;
    int i;
    for (i = 0; i < 200; ++i) sum += ft__exp(-0.01f * (float)(i + index % 7));
    v->count[index] += 1;
    v->value[index] = sum;
}

static int app_calls;

/* An application's own threads: here, backwards on the calling one. */
static void app_parallel(void *user, void (*body)(void *context, int index), void *context,
                         int count)
{
    *(int *)user += 1;
    while (count-- > 0) body(context, count);
}

static void check_visits(ft_model *m, const char *what, const visits *alone)
{
    static const int counts[] = {0, 1, 2, 7, 64, INDICES};
    static visits v;
    size_t n;
    int round, i, wrong = 0;
    for (round = 0; round < 20; ++round)
        for (n = 0; n < sizeof counts / sizeof *counts; ++n) {
            memset(&v, 0, sizeof v);
            ft__parallel(&m->context, counts[n], visit, &v);
            for (i = 0; i < INDICES; ++i) {
                wrong += v.count[i] != (i < counts[n]);
                wrong += i < counts[n] && !same_bits(v.value[i], alone->value[i]);
            }
        }
    CHECK(wrong == 0, "%s: %d indices are not run once, or with other bits", what, wrong);
}

static void test_threads(void)
{
    static const int threads[] = {1, 2, 5};
    static visits alone;
    char what[32];
    ft_desc desc;
    ft_model *m;
    size_t n;
    int i;
    for (i = 0; i < INDICES; ++i) visit(&alone, i);
    for (n = 0; n < sizeof threads / sizeof *threads; ++n) {
        memset(&desc, 0, sizeof desc);
        desc.threads = threads[n];
        m = ft_create(desc);
        snprintf(what, sizeof what, "%d threads", threads[n]);
        CHECK(m && !ft_error(m), "%s: no model", what);
        if (m) check_visits(m, what, &alone);
        ft_destroy(m);
    }
    memset(&desc, 0, sizeof desc);
    desc.threads = 3;
    desc.parallel_for = app_parallel;
    desc.parallel_user = &app_calls;
    m = ft_create(desc);
    if (m) check_visits(m, "the application's threads", &alone);
    CHECK(app_calls == 80, "the application's parallel_for was called %d times", app_calls);
    ft_destroy(m);
}

int main(void)
{
    test_accuracy();
    test_special();
    test_bounds();
    test_guess();
    test_halves();
    test_random();
    test_drop();
    test_shuffle();
    test_glob();
    test_json();
    test_json_floats();
    if (setlocale(LC_NUMERIC, "de_DE.UTF-8") || setlocale(LC_NUMERIC, "fr_FR.UTF-8"))
        test_json_floats();
    else SKIP("no locale with a decimal comma is installed");
    test_multiply();
    test_threads();
    return check_done("test_elementary");
}
