#pragma once
#include "interface/types.h"
#include "platform/families.h"
#include "platform/system.h"
#include "platform/context.h"
#include "kernels/elementary.h"
#include "kernels/gemm.h"

/* =============================================================================================
   [SECTION] kernels/bf16: bf16
   bf16 (Kalamkar et al. 2019) is the upper half of a float: it has a float's range and 8 bits of
   precision. A float is rounded to the nearest, ties to even; numbers below 2^-126 become zero. Two
   neighbours along k form a pair of 4 bytes, the first one lower, and a pair replaces a float in
   all code above that gathers, packs and multiplies: a matrix [m, k] becomes one of [m, k / 2]
   pairs.

   A micro-kernel adds the products of a pair to a float one at a time, the second one first; each
   sum is rounded to the nearest float, and to zero below 2^-126. vdpbf16ps of AVX512_BF16 does the
   same (verified on 128 million sums; the manual agrees), and ft__bf16_step does it in plain C, bit
   for bit. The instruction makes twice as many multiply-adds as the float one: 507 against 254
   GFLOP/s on one 4.1 GHz core.
   ============================================================================================= */
static uint32_t ft__bits(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static uint32_t ft__bf16_of(float value)
{
    uint32_t bits = ft__bits(value);
    if (value != value) return bits >> 16 | 0x40;                 /* a quiet NaN */
    if ((bits & 0x7f800000) == 0) return bits >> 16 & 0x8000;     /* no denormal numbers */
    return (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
}

static void ft__bf16_put_pair(uint32_t even, uint32_t odd, float *to)
{
    uint32_t pair = even | odd << 16;
    memcpy(to, &pair, sizeof pair);
}

/* One set of functions. `round` rounds count numbers to bf16. `pair` combines two lines of numbers
   (odd NULL: zeros) into pairs. `pack_lines` packs numbers [row, row + rows), at most 32, of
   `count` lines of bf16 as panels of 8 rows along the lines: [panel][pair of lines][8]; a missing
   line and rows beyond are zero. */
typedef struct ft__bf16_row {
    ft__tile_row tile;
    void (*round)(const float *from, size_t count, float *to);
    void (*pair)(const float *even, const float *odd, size_t count, float *to);
    void (*pack_lines)(const float *const *lines, size_t count, size_t row, size_t rows,
                       float *to);
} ft__bf16_row;

static void ft__bf16_round_plain(const float *from, size_t count, float *to)
{
    unsigned char *bytes = (unsigned char *)to;
    size_t i;
    for (i = 0; i < count; ++i) {
        uint16_t half = (uint16_t)ft__bf16_of(from[i]);
        memcpy(bytes + 2 * i, &half, sizeof half);
    }
}

static void ft__bf16_pair_plain(const float *even, const float *odd, size_t count, float *to)
{
    size_t i;
    for (i = 0; i < count; ++i)
        ft__bf16_put_pair(ft__bf16_of(even[i]), odd ? ft__bf16_of(odd[i]) : 0, to + i);
}

static uint32_t ft__bf16_at(const float *line, size_t i)
{
    uint16_t half;
    memcpy(&half, (const unsigned char *)line + 2 * i, sizeof half);
    return half;
}

static void ft__bf16_pack_lines_plain(const float *const *lines, size_t count, size_t row,
                                      size_t rows, float *to)
{
    size_t begin, p, i;
    for (begin = 0; begin < rows; begin += 8)
        for (p = 0; p < count; p += 2, to += 8)
            for (i = 0; i < 8; ++i) {
                bool inside = begin + i < rows;
                ft__bf16_put_pair(
                    inside ? ft__bf16_at(lines[p], row + begin + i) : 0,
                    inside && p + 1 < count ? ft__bf16_at(lines[p + 1], row + begin + i) : 0,
                    to + i);
            }
}

/* In double the product is exact, and so is the sum as far as it matters for a float. */
static float ft__bf16_step(float sum, uint32_t a, uint32_t b)
{
    float next = (float)((double)sum + (double)ft__from_bits(a << 16)
                         * (double)ft__from_bits(b << 16));
    return fabsf(next) < FLT_MIN ? 0.0f * next : next;
}

/* The tests' oracle for the instruction, with tiles as large; runs where that is missing. */
static void ft__bf16_tile_plain_any(size_t rows, size_t columns, size_t taps, size_t k,
                                    const float *const *a, size_t step, const float *b, float *out,
                                    size_t stride, bool accumulate)
{
    float sum[8][32] = {{0}};
    size_t p, i, j;
    for (; taps > 0; --taps, a += 8)
        for (p = 0; p < k; ++p, b += columns)
            for (i = 0; i < rows; ++i) {
                uint32_t left = ft__bits(a[i][p * step]);
                for (j = 0; j < columns; ++j) {
                    uint32_t right = ft__bits(b[j]);
                    sum[i][j] = ft__bf16_step(sum[i][j], left >> 16, right >> 16);
                    sum[i][j] = ft__bf16_step(sum[i][j], left, right);
                }
            }
    for (i = 0; i < rows; ++i)
        for (j = 0; j < columns; ++j)
            out[i * stride + j] = accumulate ? out[i * stride + j] + sum[i][j] : sum[i][j];
}

#define FT__BF16_TILE_PLAIN(name, most, rows, columns)                                            \
    static void name##_##rows(FT__TILE_PARAMETERS)                                                \
    {                                                                                             \
        (void)soon;                                                                               \
        (void)soon_step;                                                                          \
        ft__bf16_tile_plain_any(rows, columns, taps, k, a, step, b, out, stride, accumulate);     \
    }
FT__TILES_8(FT__BF16_TILE_PLAIN, ft__bf16_tile_plain, 8, 32)
FT__TILES_8(FT__BF16_TILE_PLAIN, ft__bf16_tile_plain_narrow, 8, 16)

#ifdef FT__BF16_INSTRUCTION
#if !defined(__clang__)
#pragma GCC push_options
#pragma GCC optimize("O3")
#endif
#define FT__BF16_TARGET __attribute__((target("avx512f,avx512bw,avx512vl,avx512bf16"))) static
#define FT__BF16_TILE(name, most, rows, vectors)                                                  \
    FT__BF16_TARGET void name##_##rows(FT__TILE_PARAMETERS)                                       \
    {                                                                                             \
        __m512 sum[rows][vectors];                                                                \
        __m512i right[vectors];                                                                   \
        const float *row[rows];                                                                   \
        size_t p, at;                                                                             \
        int i, v;                                                                                 \
        (void)soon;                                                                               \
        (void)soon_step;                                                                          \
        FT__UNROLL for (i = 0; i < rows; ++i)                                                     \
            FT__UNROLL for (v = 0; v < vectors; ++v) sum[i][v] = _mm512_setzero_ps();             \
        for (; taps > 0; --taps, a += most) {                                                     \
            FT__UNROLL for (i = 0; i < rows; ++i) row[i] = a[i];                                  \
            for (p = 0, at = 0; p < k; ++p, at += step, b += vectors * 16) {                      \
                FT__UNROLL for (v = 0; v < vectors; ++v)                                          \
                    right[v] = _mm512_loadu_si512(b + v * 16);                                    \
                FT__UNROLL for (i = 0; i < rows; ++i) {                                           \
                    __m512i left = _mm512_castps_si512(_mm512_set1_ps(row[i][at]));               \
                    FT__UNROLL for (v = 0; v < vectors; ++v)                                      \
                        sum[i][v] = _mm512_dpbf16_ps(sum[i][v], (__m512bh)left,                   \
                                                     (__m512bh)right[v]);                         \
                }                                                                                 \
            }                                                                                     \
        }                                                                                         \
        FT__UNROLL for (i = 0; i < rows; ++i)                                                     \
            FT__UNROLL for (v = 0; v < vectors; ++v) {                                            \
                float *to = out + (size_t)i * stride + v * 16;                                    \
                if (accumulate) sum[i][v] = _mm512_add_ps(_mm512_loadu_ps(to), sum[i][v]);        \
                _mm512_storeu_ps(to, sum[i][v]);                                                  \
            }                                                                                     \
    }
FT__TILES_8(FT__BF16_TILE, ft__bf16_tile_avx512, 8, 2)
FT__TILES_8(FT__BF16_TILE, ft__bf16_tile_avx512_narrow, 8, 1)

/* The first `count` of up to `most` lanes. */
#define FT__MASK(type, most, count) \
    ((type)((count) >= (most) ? ~(type)0 : ((type)1 << (count)) - 1))

FT__BF16_TARGET void ft__bf16_round_avx512(const float *from, size_t count, float *to)
{
    uint16_t *half = (uint16_t *)(void *)to;
    size_t i;
    for (i = 0; i < count; i += 16) {
        __mmask16 mask = FT__MASK(__mmask16, 16, count - i);
        __m256bh some = _mm512_cvtneps_pbh(_mm512_maskz_loadu_ps(mask, from + i));
        _mm256_mask_storeu_epi16(half + i, mask, (__m256i)some);
    }
}

/* Indices 0, 16, 1, 17, ...: interleave both halves of a vector of 32 numbers. */
FT__BF16_TARGET __m512i ft__bf16_zip(void)
{
    __m512i lane = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
    return _mm512_or_si512(lane, _mm512_slli_epi32(_mm512_add_epi32(lane,
                                                                    _mm512_set1_epi32(16)), 16));
}

FT__BF16_TARGET void ft__bf16_pair_avx512(const float *even, const float *odd, size_t count,
                                          float *to)
{
    __m512i zip = ft__bf16_zip();
    size_t i;
    for (i = 0; i < count; i += 16) {
        __mmask16 mask = FT__MASK(__mmask16, 16, count - i);
        __m512 low = _mm512_maskz_loadu_ps(mask, even + i);
        __m512 high = odd ? _mm512_maskz_loadu_ps(mask, odd + i) : _mm512_setzero_ps();
        __m512i both = (__m512i)_mm512_cvtne2ps_pbh(high, low);
        _mm512_mask_storeu_ps(to + i, mask,
                              _mm512_castsi512_ps(_mm512_permutexvar_epi16(zip, both)));
    }
}

/* Half 0 or 1 of a vector. With a mask of all: of the intrinsics without, GCC warns in C++, though
   what they leave undefined is never read. */
#define FT__HALF(x, half) _mm512_maskz_extracti64x4_epi64(0xff, x, half)

FT__BF16_TARGET void ft__bf16_pack_lines_avx512(const float *const *lines, size_t count,
                                                size_t row, size_t rows, float *to)
{
    __mmask32 mask = FT__MASK(__mmask32, 32, rows);
    __m512i lane = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
    __m512i zip = _mm512_or_si512(lane, _mm512_slli_epi32(
        _mm512_add_epi32(lane, _mm512_set1_epi32(32)), 16)); /* 0, 32, 1, 33, ... of two */
    __m512i zip_high = _mm512_add_epi16(zip, _mm512_set1_epi16(16));
    size_t panel = (count + 1) / 2 * 8, p;
    for (p = 0; p < count; p += 2, to += 8) {
        __m512i even = _mm512_maskz_loadu_epi16(mask, (const uint16_t *)(const void *)lines[p]
                                                + row);
        __m512i odd = p + 1 == count ? _mm512_setzero_si512()
            : _mm512_maskz_loadu_epi16(mask, (const uint16_t *)(const void *)lines[p + 1] + row);
        __m512i low = _mm512_permutex2var_epi16(even, zip, odd);
        __m512i high = _mm512_permutex2var_epi16(even, zip_high, odd);
        _mm256_storeu_si256((__m256i *)(void *)to, FT__HALF(low, 0));
        if (rows > 8)
            _mm256_storeu_si256((__m256i *)(void *)(to + panel), FT__HALF(low, 1));
        if (rows > 16)
            _mm256_storeu_si256((__m256i *)(void *)(to + 2 * panel), FT__HALF(high, 0));
        if (rows > 24)
            _mm256_storeu_si256((__m256i *)(void *)(to + 3 * panel), FT__HALF(high, 1));
    }
}
#if !defined(__clang__)
#pragma GCC pop_options
#endif
#endif

enum { FT__FLOAT32, FT__BF16_EMULATED, FT__BF16 }; /* ft__context.precision; stored in files */

static const ft__bf16_row ft__bf16_rows[] = {
    {{"none", 0, 0, {NULL}, {NULL}, {NULL}}, NULL, NULL, NULL},
    {{"bf16_emulated", 8, 32, FT__ROWS_8(ft__bf16_tile_plain),
      FT__ROWS_8(ft__bf16_tile_plain_narrow), {NULL}},
     ft__bf16_round_plain, ft__bf16_pair_plain, ft__bf16_pack_lines_plain},
#ifdef FT__BF16_INSTRUCTION
    {{"bf16", 8, 32, FT__ROWS_8(ft__bf16_tile_avx512), FT__ROWS_8(ft__bf16_tile_avx512_narrow),
      {NULL}},
     ft__bf16_round_avx512, ft__bf16_pair_avx512, ft__bf16_pack_lines_avx512}
#else
    {{"bf16", 0, 0, {NULL}, {NULL}, {NULL}}, NULL, NULL, NULL}
#endif
};

static bool ft__bf16_available(const ft__context *c)
{
#ifdef FT__BF16_INSTRUCTION
    return c->simd == FT__SIMD_AVX512 && __builtin_cpu_supports("avx512bw") != 0
        && __builtin_cpu_supports("avx512vl") != 0 && __builtin_cpu_supports("avx512bf16") != 0;
#else
    (void)c;
    return false;
#endif
}

/* Sets the precision that ft_desc.precision names. */
static ft_status ft__precision_choose(ft__context *c)
{
    const char *name = c->desc.precision;
    c->precision = FT__FLOAT32;
    if (!name || strcmp(name, "float32") == 0 || strcmp(name, "tf32") == 0) return c->status;
    if (!FT__HAS_BF16 && strncmp(name, "bf16", 4) == 0 && !c->desc.device)
        return ft__fail(c, FT_UNSUPPORTED, "precision %s: not supported by this build (%s)", name,
                        FT__WITHOUT(BF16));
    if (strcmp(name, "bf16_emulated") == 0) c->precision = FT__BF16_EMULATED;
    else if (strcmp(name, "bf16") != 0)
        return ft__fail(c, FT_INVALID, "precision %s: it must be float32, tf32, bf16 or"
                        " bf16_emulated", name);
    else if (ft__bf16_available(c)) c->precision = FT__BF16;
    else if (!c->desc.device || strcmp(c->desc.device, "cpu") == 0)
        return ft__fail(c, FT_UNSUPPORTED, "precision bf16 needs AVX512_BF16 in this CPU, in this"
                        " build and in ft_desc.simd (now %s); bf16_emulated runs anywhere, but"
                        " slowly", ft__tiles[c->simd].name);
    return c->status;
}
