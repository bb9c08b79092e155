#pragma once
#include "platform/families.h"
#include "platform/system.h"
#include "platform/context.h"
#include "basics/numbers.h"
#include "kernels/gemm.h"
#include "kernels/bf16.h"
#include "kernels/convolution.h"

/* =============================================================================================
   [SECTION] kernels/winograd: Winograd's convolution
   F(4x4, 3x3) of Lavin and Gray 2016: a tile of 4x4 outputs of a 3x3 kernel with a stride of 1 is
       y = A^T [(G g G^T) * (B^T d B)] A,   d: the 6x6 inputs that it reads, *: elementwise,
   with 36 multiplications instead of 144; the sums over channels become 36 matrix products. As the
   map is linear in g and in d, the gradients are its transposes:
       dx: the same with the kernel rotated by 180 degrees,   dg = G^T [(B^T d B) * (A dy A^T)] G
   The transforms process neighbouring channels side by side. `lane` is one number, or a vector.
   ============================================================================================= */
#define FT__TILE_INPUTS 36  /* 6x6 */

/* Six numbers to six (b): B^T d; four to six (a): A dy; three to six (g): G g; and back, six to
   four (a_back): A^T m; six to three (g_back): G^T m. `from` and `to` are read and written with the
   given steps. */
#define FT__WINOGRAD_LINES(name, lane)                                                            \
    FT__INLINE void name##_b(const lane *d, int step, lane *to, int to_step)                      \
    {                                                                                             \
        lane d1 = d[step], d2 = d[2 * step], d3 = d[3 * step], d4 = d[4 * step];                  \
        lane even = d4 - 4.0f * d2, odd = d3 - 4.0f * d1;                                         \
        lane even2 = d4 - d2, odd2 = 2.0f * (d3 - d1);                                            \
        to[0] = 4.0f * d[0] - 5.0f * d2 + d4;                                                     \
        to[to_step] = even + odd;                                                                 \
        to[2 * to_step] = even - odd;                                                             \
        to[3 * to_step] = even2 + odd2;                                                           \
        to[4 * to_step] = even2 - odd2;                                                           \
        to[5 * to_step] = 4.0f * d1 - 5.0f * d3 + d[5 * step];                                    \
    }                                                                                             \
    FT__INLINE void name##_a(const lane *y, int step, lane *to, int to_step)                      \
    {                                                                                             \
        lane y0 = y[0], y1 = y[step], y2 = y[2 * step], y3 = y[3 * step];                         \
        lane even = y0 + y2, odd = y1 + y3, even2 = y0 + 4.0f * y2, odd2 = 2.0f * y1 + 8.0f * y3; \
        to[0] = y0;                                                                               \
        to[to_step] = even + odd;                                                                 \
        to[2 * to_step] = even - odd;                                                             \
        to[3 * to_step] = even2 + odd2;                                                           \
        to[4 * to_step] = even2 - odd2;                                                           \
        to[5 * to_step] = y3;                                                                     \
    }                                                                                             \
    FT__INLINE void name##_g(const lane *g, int step, lane *to, int to_step)                      \
    {                                                                                             \
        lane g0 = g[0], g1 = g[step], g2 = g[2 * step];                                           \
        lane outer = (g0 + g2) * (1.0f / 6), middle = g1 * (1.0f / 6);                            \
        lane outer2 = g0 * (1.0f / 24) + g2 * (1.0f / 6), middle2 = g1 * (1.0f / 12);             \
        to[0] = g0 * 0.25f;                                                                       \
        to[to_step] = -outer - middle;                                                            \
        to[2 * to_step] = middle - outer;                                                         \
        to[3 * to_step] = outer2 + middle2;                                                       \
        to[4 * to_step] = outer2 - middle2;                                                       \
        to[5 * to_step] = g2;                                                                     \
    }                                                                                             \
    FT__INLINE void name##_a_back(const lane *m, int step, lane *to, int to_step)                 \
    {                                                                                             \
        lane m1 = m[step], m2 = m[2 * step], m3 = m[3 * step], m4 = m[4 * step];                  \
        lane sum = m1 + m2, rest = m1 - m2, sum2 = m3 + m4, rest2 = m3 - m4;                      \
        to[0] = m[0] + sum + sum2;                                                                \
        to[to_step] = rest + 2.0f * rest2;                                                        \
        to[2 * to_step] = sum + 4.0f * sum2;                                                      \
        to[3 * to_step] = rest + 8.0f * rest2 + m[5 * step];                                      \
    }                                                                                             \
    FT__INLINE void name##_g_back(const lane *m, int step, lane *to, int to_step)                 \
    {                                                                                             \
        lane m1 = m[step], m2 = m[2 * step], m3 = m[3 * step], m4 = m[4 * step];                  \
        lane sum = m1 + m2, sum2 = m3 + m4;                                                       \
        to[0] = 0.25f * m[0] - sum * (1.0f / 6) + sum2 * (1.0f / 24);                             \
        to[to_step] = (m2 - m1) * (1.0f / 6) + (m3 - m4) * (1.0f / 12);                           \
        to[2 * to_step] = (sum2 - sum) * (1.0f / 6) + m[5 * step];                                \
    }

/* Transforms the columns, then the rows of one block of channels: [in][in] to [out][out]. */
#define FT__WINOGRAD_BOTH(name, line, lane, in, out)                                              \
    FT__INLINE void name(const lane *from, lane *to)                                              \
    {                                                                                             \
        lane half[FT__TILE_INPUTS];                                                               \
        int i;                                                                                    \
        FT__UNROLL for (i = 0; i < in; ++i) line(from + i, in, half + i, in);                     \
        FT__UNROLL for (i = 0; i < out; ++i) line(half + i * in, 1, to + i * out, 1);             \
    }

/* Arguments of the transforms. A NULL in `to` is not written. */
typedef struct ft__winograd_tile {
    const float *from[FT__TILE_INPUTS];
    const float *odd[16];       /* for pairs: inputs of the second ones */
    float *to[FT__TILE_INPUTS];
    const float *add;           /* added to the result: a bias; may be NULL */
    bool accumulate;            /* add to `to` instead of writing it */
    size_t channels;            /* a multiple of 16 */
} ft__winograd_tile;

/* The transforms of a tile, for one instruction set: of inputs, of output gradients, of weights;
   back to outputs, and to weight gradients. */
#define FT__WINOGRAD_ONE(name, attributes, lane, loose, lanes, in, out)                           \
    attributes static void name(const ft__winograd_tile *t)                                       \
    {                                                                                             \
        FT__FUSED                                                                                 \
        lane x[FT__TILE_INPUTS], y[FT__TILE_INPUTS];                                              \
        size_t c;                                                                                 \
        int i;                                                                                    \
        for (c = 0; c < t->channels; c += lanes) {                                                \
            FT__UNROLL for (i = 0; i < in; ++i)                                                   \
                x[i] = *(const loose *)(const void *)(t->from[i] + c);                            \
            name##_block(x, y);                                                                   \
            FT__UNROLL for (i = 0; i < out; ++i) {                                                \
                loose *to = (loose *)(void *)t->to[i];                                            \
                if (!to) continue;                                                                \
                to = (loose *)(void *)(t->to[i] + c);                                             \
                if (t->add) y[i] += *(const loose *)(const void *)(t->add + c);                   \
                if (t->accumulate) y[i] += *to;                                                   \
                *to = y[i];                                                                       \
            }                                                                                     \
        }                                                                                         \
    }

#define FT__WINOGRAD_BLOCKS(name, lane)                                                           \
    FT__WINOGRAD_BOTH(name##_input_block, name##_b, lane, 6, 6)                                   \
    FT__WINOGRAD_BOTH(name##_gradient_block, name##_a, lane, 4, 6)                                \
    FT__WINOGRAD_BOTH(name##_weight_block, name##_g, lane, 3, 6)                                  \
    FT__WINOGRAD_BOTH(name##_output_block, name##_a_back, lane, 6, 4)                             \
    FT__WINOGRAD_BOTH(name##_kernel_block, name##_g_back, lane, 6, 3)

#define FT__WINOGRAD(name, attributes, lane, loose, lanes)                                        \
    FT__WINOGRAD_LINES(name, lane)                                                                \
    FT__WINOGRAD_BLOCKS(name, lane)                                                               \
    FT__WINOGRAD_ONE(name##_input, attributes, lane, loose, lanes, 36, 36)                        \
    FT__WINOGRAD_ONE(name##_gradient, attributes, lane, loose, lanes, 16, 36)                     \
    FT__WINOGRAD_ONE(name##_weight, attributes, lane, loose, lanes, 9, 36)                        \
    FT__WINOGRAD_ONE(name##_output, attributes, lane, loose, lanes, 36, 16)                       \
    FT__WINOGRAD_ONE(name##_kernel, attributes, lane, loose, lanes, 36, 9)

#ifndef FT__UNROLL
#define FT__UNROLL
#define FT__FUSED
#endif

#if defined(__GNUC__) && !defined(__clang__) && !defined(FINETUNE_NO_SIMD)
#pragma GCC push_options
#pragma GCC optimize("O3", "fp-contract=fast")
#endif
FT__WINOGRAD(ft__winograd_plain, , float, float, 1)
#ifdef FT__X86
FT__WINOGRAD(ft__winograd_sse2, __attribute__((target("sse2"))), ft__tile_sse2_vector,
             ft__tile_sse2_loose, 4)
FT__WINOGRAD(ft__winograd_avx2, __attribute__((target("avx2,fma"))), ft__tile_avx2_vector,
             ft__tile_avx2_loose, 8)
#if FT__HAS_AVX512
FT__WINOGRAD(ft__winograd_avx512, __attribute__((target("avx512f"))), ft__tile_avx512_vector,
             ft__tile_avx512_loose, 16)
#endif
#elif defined(FT__ARM)
FT__WINOGRAD(ft__winograd_neon, , ft__tile_neon_vector, ft__tile_neon_loose, 4)
#endif
#if defined(__GNUC__) && !defined(__clang__) && !defined(FINETUNE_NO_SIMD)
#pragma GCC pop_options
#endif

typedef struct ft__winograd_row {
    void (*input)(const ft__winograd_tile *t);
    void (*gradient)(const ft__winograd_tile *t);
    void (*weight)(const ft__winograd_tile *t);
    void (*output)(const ft__winograd_tile *t);
    void (*kernel)(const ft__winograd_tile *t);
} ft__winograd_row;

#define FT__WINOGRAD_ROW(name)                                                                    \
    {name##_input, FT__BACKWARD(name##_gradient), name##_weight, name##_output,                   \
     FT__BACKWARD(name##_kernel)}

static const ft__winograd_row ft__winograds[FT__SIMD_COUNT] = {
    FT__WINOGRAD_ROW(ft__winograd_plain),
#ifdef FT__X86
    FT__WINOGRAD_ROW(ft__winograd_sse2), FT__WINOGRAD_ROW(ft__winograd_avx2),
#if FT__HAS_AVX512
    FT__WINOGRAD_ROW(ft__winograd_avx512),
#else
    {NULL, NULL, NULL, NULL, NULL},
#endif
    FT__WINOGRAD_ROW(ft__winograd_plain)
#elif defined(FT__ARM)
    FT__WINOGRAD_ROW(ft__winograd_plain), FT__WINOGRAD_ROW(ft__winograd_plain),
    FT__WINOGRAD_ROW(ft__winograd_plain), FT__WINOGRAD_ROW(ft__winograd_neon)
#else
    FT__WINOGRAD_ROW(ft__winograd_plain), FT__WINOGRAD_ROW(ft__winograd_plain),
    FT__WINOGRAD_ROW(ft__winograd_plain), FT__WINOGRAD_ROW(ft__winograd_plain)
#endif
};

/* ---- For products in bf16 ----
   The same at other points. A tile of outputs is the product of two polynomials, computed by
   multiplying their values at points: above 0, +-1, +-2 and infinity, here 0, +-3/4, +-3/2 and
   infinity, where rounding the factors does less harm. Root mean square difference from float32,
   in percent of the result, in three layers of the pretrained ResNet-18 on photographs:
                                       forward         dx                dW
       the plain form                0.14 0.09 0.18  0.16 0.19 0.08  0.24 0.21 0.16
       F(2x2, 3x3)                   0.22 0.15 0.48  0.29 0.35 0.24  0.38 0.34 0.26
       F(4x4, 3x3), 0, +-1, +-2      1.21 0.70 1.87  1.38 1.89 0.73  2.29 1.68 1.38
       F(4x4, 3x3), 0, +-3/4, +-3/2  0.57 0.36 1.14  0.78 0.98 0.46  1.14 0.88 0.88
   and on noise 0.2, 0.4, 2.6 and 1.2. The points +-2/3 and +-3/2 are best, by a twentieth; the
   fractions here are exact. A ResNet-18's logits differ by 0.8 % of the largest (the plain form:
   0.5; PyTorch's autocast, which rounds the outputs too: 0.6). Fine-tuned with five seeds on ten
   pictures of each of twelve traffic signs, a ResNet-20 classified 3510 of 3560 others correctly,
   and 3507 in float32.

   The transforms are in float32, with each product and sum rounded separately, so that all machines
   give the same bits. Their results are rounded to bf16: inputs channel by channel, weights as
   pairs of two channels, gradients as pairs of two tiles. */
#define FT__WINOGRAD_LINES_BF16(name, lane)                                                       \
    FT__INLINE void name##_b(const lane *d, int step, lane *to, int to_step)                      \
    {                                                                                             \
        FT__UNFUSED                                                                               \
        lane d1 = d[step], d2 = d[2 * step], d3 = d[3 * step], d4 = d[4 * step];                  \
        lane even = d4 - 2.25f * d2, odd = 0.75f * (d3 - 2.25f * d1);                             \
        lane even2 = d4 - 0.5625f * d2, odd2 = 1.5f * (d3 - 0.5625f * d1);                        \
        to[0] = (1.265625f * d[0] - 2.8125f * d2) + d4;                                           \
        to[to_step] = even + odd;                                                                 \
        to[2 * to_step] = even - odd;                                                             \
        to[3 * to_step] = even2 + odd2;                                                           \
        to[4 * to_step] = even2 - odd2;                                                           \
        to[5 * to_step] = (1.265625f * d1 - 2.8125f * d3) + d[5 * step];                          \
    }                                                                                             \
    FT__INLINE void name##_a(const lane *y, int step, lane *to, int to_step)                      \
    {                                                                                             \
        FT__UNFUSED                                                                               \
        lane y0 = y[0], y1 = y[step], y2 = y[2 * step], y3 = y[3 * step];                         \
        lane even = y0 + 0.5625f * y2, odd = 0.75f * (y1 + 0.5625f * y3);                         \
        lane even2 = y0 + 2.25f * y2, odd2 = 1.5f * (y1 + 2.25f * y3);                            \
        to[0] = y0;                                                                               \
        to[to_step] = even + odd;                                                                 \
        to[2 * to_step] = even - odd;                                                             \
        to[3 * to_step] = even2 + odd2;                                                           \
        to[4 * to_step] = even2 - odd2;                                                           \
        to[5 * to_step] = y3;                                                                     \
    }                                                                                             \
    FT__INLINE void name##_g(const lane *g, int step, lane *to, int to_step)                      \
    {                                                                                             \
        FT__UNFUSED                                                                               \
        lane g0 = g[0], g1 = g[step], g2 = g[2 * step];                                           \
        lane even = g0 + 0.5625f * g2, odd = 0.75f * g1;                                          \
        lane even2 = g0 + 2.25f * g2, odd2 = 1.5f * g1;                                           \
        to[0] = g0;                                                                               \
        to[to_step] = even + odd;                                                                 \
        to[2 * to_step] = even - odd;                                                             \
        to[3 * to_step] = even2 + odd2;                                                           \
        to[4 * to_step] = even2 - odd2;                                                           \
        to[5 * to_step] = g2;                                                                     \
    }                                                                                             \
    FT__INLINE void name##_a_back(const lane *m, int step, lane *to, int to_step)                 \
    {                                                                                             \
        FT__UNFUSED                                                                               \
        lane m1 = m[step], m2 = m[2 * step], m3 = m[3 * step], m4 = m[4 * step];                  \
        lane sum = m1 + m2, rest = m1 - m2, sum2 = m3 + m4, rest2 = m3 - m4;                      \
        to[0] = m[0] * (64.0f / 81) - sum * (128.0f / 243) + sum2 * (32.0f / 243);                \
        to[to_step] = rest2 * (16.0f / 81) - rest * (32.0f / 81);                                 \
        to[2 * to_step] = sum2 * (8.0f / 27) - sum * (8.0f / 27);                                 \
        to[3 * to_step] = rest2 * (4.0f / 9) - rest * (2.0f / 9) + m[5 * step];                   \
    }                                                                                             \
    FT__INLINE void name##_g_back(const lane *m, int step, lane *to, int to_step)                 \
    {                                                                                             \
        FT__UNFUSED                                                                               \
        lane m1 = m[step], m2 = m[2 * step], m3 = m[3 * step], m4 = m[4 * step];                  \
        lane sum = m1 + m2, rest = m1 - m2, sum2 = m3 + m4, rest2 = m3 - m4;                      \
        to[0] = m[0] * (64.0f / 81) - sum * (128.0f / 243) + sum2 * (32.0f / 243);                \
        to[to_step] = rest2 * (16.0f / 81) - rest * (32.0f / 81);                                 \
        to[2 * to_step] = sum2 * (8.0f / 27) - sum * (8.0f / 27) + m[5 * step];                   \
    }

/* Inputs: put(number, row, position in it). */
#define FT__WINOGRAD_ROUNDED(name, attributes, lane, loose, lanes, put)                           \
    attributes static void name(const ft__winograd_tile *t)                                       \
    {                                                                                             \
        lane x[FT__TILE_INPUTS], y[FT__TILE_INPUTS];                                              \
        size_t c;                                                                                 \
        int i;                                                                                    \
        for (c = 0; c < t->channels; c += lanes) {                                                \
            FT__UNROLL for (i = 0; i < 36; ++i)                                                   \
                x[i] = *(const loose *)(const void *)(t->from[i] + c);                            \
            name##_block(x, y);                                                                   \
            FT__UNROLL for (i = 0; i < 36; ++i) put(y[i], t->to[i], c);                           \
        }                                                                                         \
    }

/* Weights (in = 9) and gradients (16): put(first, second, to). */
#define FT__WINOGRAD_PAIRS(name, attributes, lane, loose, lanes, in, put)                         \
    attributes static void name(const ft__winograd_tile *t)                                       \
    {                                                                                             \
        lane x[FT__TILE_INPUTS], y[FT__TILE_INPUTS], z[FT__TILE_INPUTS];                          \
        size_t c;                                                                                 \
        int i;                                                                                    \
        for (c = 0; c < t->channels; c += lanes) {                                                \
            FT__UNROLL for (i = 0; i < in; ++i)                                                   \
                x[i] = *(const loose *)(const void *)(t->from[i] + c);                            \
            name##_block(x, y);                                                                   \
            FT__UNROLL for (i = 0; i < in; ++i)                                                   \
                x[i] = *(const loose *)(const void *)(t->odd[i] + c);                             \
            name##_block(x, z);                                                                   \
            FT__UNROLL for (i = 0; i < 36; ++i) put(y[i], z[i], t->to[i] + c);                    \
        }                                                                                         \
    }

#define FT__WINOGRAD_BF16(name, attributes, lane, loose, lanes, put, put_pair)                    \
    FT__WINOGRAD_LINES_BF16(name, lane)                                                           \
    FT__WINOGRAD_BLOCKS(name, lane)                                                               \
    FT__WINOGRAD_ROUNDED(name##_input, attributes, lane, loose, lanes, put)                       \
    FT__WINOGRAD_PAIRS(name##_gradient, attributes, lane, loose, lanes, 16, put_pair)             \
    FT__WINOGRAD_PAIRS(name##_weight, attributes, lane, loose, lanes, 9, put_pair)                \
    FT__WINOGRAD_ONE(name##_output, attributes, lane, loose, lanes, 36, 16)                       \
    FT__WINOGRAD_ONE(name##_kernel, attributes, lane, loose, lanes, 36, 9)

static void ft__winograd_put(float value, float *row, size_t at)
{
    uint16_t half = (uint16_t)ft__bf16_of(value);
    memcpy((unsigned char *)row + 2 * at, &half, sizeof half);
}

static void ft__winograd_put_pair(float even, float odd, float *to)
{
    ft__bf16_put_pair(ft__bf16_of(even), ft__bf16_of(odd), to);
}

#if defined(__clang__)
#define FT__UNFUSED _Pragma("clang fp contract(off)")
#else
#define FT__UNFUSED
#endif
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC push_options
#pragma GCC optimize("O3", "fp-contract=off")
#endif
FT__WINOGRAD_BF16(ft__winograd_bf16_plain, , float, float, 1, ft__winograd_put,
                  ft__winograd_put_pair)
#ifdef FT__BF16_INSTRUCTION
#define FT__PUT_HALVES(value, row, at)                                                            \
    _mm256_storeu_si256((__m256i *)(void *)((uint16_t *)(void *)(row) + (at)),                    \
                        (__m256i)_mm512_cvtneps_pbh((__m512)(value)))
#define FT__PUT_PAIRS(even, odd, to)                                                              \
    _mm512_storeu_si512(to, _mm512_permutexvar_epi16(                                             \
        ft__bf16_zip(), (__m512i)_mm512_cvtne2ps_pbh((__m512)(odd), (__m512)(even))))
FT__WINOGRAD_BF16(ft__winograd_bf16_avx512,
                  __attribute__((target("avx512f,avx512bw,avx512vl,avx512bf16"))),
                  ft__tile_avx512_vector, ft__tile_avx512_loose, 16, FT__PUT_HALVES, FT__PUT_PAIRS)
#endif
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC pop_options
#endif

/* The functions for products. `numbers`: how many numbers 4 bytes of a row hold. */
typedef struct ft__winograd_kind {
    const ft__tile_row *tile;
    const ft__winograd_row *row;
    size_t numbers;
} ft__winograd_kind;

static const ft__winograd_row ft__winograds_bf16[] = {
    {NULL, NULL, NULL, NULL, NULL}, FT__WINOGRAD_ROW(ft__winograd_bf16_plain),
#ifdef FT__BF16_INSTRUCTION
    FT__WINOGRAD_ROW(ft__winograd_bf16_avx512)
#else
    {NULL, NULL, NULL, NULL, NULL}
#endif
};

static ft__winograd_kind ft__winograd_kind_of(const ft__context *c)
{
    ft__winograd_kind kind;
    bool whole = !FT__HAS_BF16 || c->precision == FT__FLOAT32;
    kind.tile = whole ? &ft__tiles[c->simd] : &ft__bf16_rows[c->precision].tile;
    kind.row = whole ? &ft__winograds[c->simd] : &ft__winograds_bf16[c->precision];
    kind.numbers = whole ? 1 : 2;
    return kind;
}

/* ---- Which convolutions, and in what memory ---- */
#define FT__WINOGRAD_SHARED ((size_t)9 << 19)  /* numbers of a chunk that all threads share */
#define FT__WINOGRAD_LARGE ((size_t)128 * 128) /* above this, threads split the weights, and */
#define FT__WINOGRAD_DEPTH ((size_t)128)       /* take so many channels of a panel at a time */
#define FT__WINOGRAD_APART ((size_t)16)        /* gap between two of the 36 matrices */

/* Numbers that 36 matrices occupy, with a gap after each: a transform writes to the same position
   in all of them, and at a distance of a power of two they would evict each other from the cache.
   Backward of 128 channels at 28 x 28 takes 15.5 instead of 16.8 ms, of 512 at 7 x 7 17.4 instead
   of 19.9 (16 pictures, two threads, AVX-512). */
static size_t ft__winograd_all(size_t numbers)
{
    return FT__TILE_INPUTS * (numbers + FT__WINOGRAD_APART);
}

/* Whether the saved multiplications make up for the transforms: 36 per tile against 9 per output.
   It must not depend on the batch, or a sample's bits would. */
static bool ft__winograd_fits(const ft__conv *g)
{
    size_t tiles = (size_t)((g->out_height + 3) / 4) * (size_t)((g->out_width + 3) / 4);
    return FT__HAS_WINOGRAD && g->kernel[0] == 3 && g->kernel[1] == 3 && g->stride[0] == 1
        && g->stride[1] == 1 && g->dilation[0] == 1 && g->dilation[1] == 1 && g->groups == 1
        && g->channels % 16 == 0 && g->outputs % 16 == 0 && g->p >= 8 * tiles;
}

/* Numbers that a transformed tile occupies before and after the products, in forward or dx,
   whichever is more. */
static size_t ft__winograd_numbers(const ft__context *c, const ft__conv *g)
{
    size_t numbers = ft__winograd_kind_of(c).numbers;
    size_t a = (size_t)g->channels, b = (size_t)g->outputs;
    return FT__TILE_INPUTS * (a > b ? a + b / numbers : b + a / numbers);
}

/* Tiles of the output, in all pictures. */
static size_t ft__winograd_tile_count(const ft__conv *g)
{
    return g->batch * (size_t)((g->out_height + 3) / 4) * (size_t)((g->out_width + 3) / 4);
}

static bool ft__winograd_local(const ft__conv *g)
{
    return (size_t)g->channels * (size_t)g->outputs <= FT__WINOGRAD_LARGE;
}

/* Tiles of a chunk that one thread processes, whose inputs stay in its cache: 16 if every thread
   has many tiles and rows are short. In ResNet-18, 8, 24 and 32 take as long, 48 a twentieth
   more. */
static size_t ft__winograd_own_chunk(const ft__context *c, const ft__conv *g)
{
    size_t longest = ft__max_size((size_t)g->channels, (size_t)g->outputs);
    return longest <= 256 && ft__winograd_tile_count(g) >= 64 * (size_t)c->threads ? 16 : 8;
}

/* Tiles of a chunk that all threads share. */
static size_t ft__winograd_chunk(const ft__context *c, const ft__conv *g)
{
    size_t chunk = FT__WINOGRAD_SHARED / ft__winograd_numbers(c, g);
    size_t tiles = ft__pad_to(ft__winograd_tile_count(g), 8);
    if (chunk > tiles) chunk = tiles;
    return chunk < 16 ? 8 : chunk / 8 * 8;
}

/* One direction: a convolution of `from` [pictures, height, width, channels] to `to` [pictures,
   out_height, out_width, outputs]. */
typedef struct ft__winograd {
    ft__context *context;
    const float *from;
    float *to;
    int height, width, out_height, out_width, top, left;
    size_t channels, outputs;
    ft__winograd_kind kind;
    size_t k;                         /* numbers that hold a row's channels */
    size_t v_step, m_step, m_row;     /* from one of the 36 to the next; from row to row */
    size_t across, in_picture, tiles; /* tiles per line, per picture, in total */
    size_t chunk, first, count;       /* tiles that are being processed */
    const float *zeros, *bias;
    float *v, *m;                     /* transformed: [36][chunk][k], [36][chunk][m_row] */
    bool accumulate;
} ft__winograd;

static void ft__winograd_tiles(ft__winograd *w, size_t pictures)
{
    w->across = (size_t)((w->out_width + 3) / 4);
    w->in_picture = w->across * (size_t)((w->out_height + 3) / 4);
    w->tiles = pictures * w->in_picture;
}

/* Pointers to the pixels of a square of size x size at (y, x) of a picture [height, width, pixel];
   `outside` for those beyond its edges. */
static void ft__winograd_square(const float *picture, int height, int width, size_t pixel, int y,
                                int x, int size, const float *outside, const float **at)
{
    int i, j;
    for (i = y; i < y + size; ++i)
        for (j = x; j < x + size; ++j)
            *at++ = i < 0 || i >= height || j < 0 || j >= width ? outside
                : picture + ((size_t)i * (size_t)width + (size_t)j) * pixel;
}

/* The position of tile `index` in the result: picture, line and column. */
static void ft__winograd_place(const ft__winograd *w, size_t index, size_t *picture, int *y, int *x)
{
    *picture = index / w->in_picture;
    *y = (int)(index % w->in_picture / w->across) * 4;
    *x = (int)(index % w->in_picture % w->across) * 4;
}

/* Transforms the inputs of tiles [first, first + count) into v, starting at its row `row`. */
static void ft__winograd_inputs(const ft__winograd *w, size_t first, size_t count, float *v,
                                size_t row)
{
    ft__winograd_tile t;
    size_t i, picture;
    int y, x, n;
    memset(&t, 0, sizeof t);
    t.channels = w->channels;
    for (i = 0; i < count; ++i) {
        ft__winograd_place(w, first + i, &picture, &y, &x);
        ft__winograd_square(w->from + picture * (size_t)w->height * (size_t)w->width * w->channels,
                            w->height, w->width, w->channels, y - w->top, x - w->left, 6, w->zeros,
                            t.from);
        for (n = 0; n < FT__TILE_INPUTS; ++n)
            t.to[n] = v + (size_t)n * w->v_step + (row + i) * w->k;
        w->kind.row->input(&t);
    }
}

/* One panel of columns. All are as wide as a tile of a matrix; the last may be half as wide. */
typedef struct ft__winograd_panel { size_t column, columns, width; } ft__winograd_panel;

static ft__winograd_panel ft__winograd_panel_of(const ft__winograd *w, size_t panel)
{
    const ft__tile_row *tile = w->kind.tile;
    ft__winograd_panel p;
    p.column = panel * tile->columns;
    p.width = ft__panel_width(tile, w->outputs, p.column);
    p.columns = w->outputs - p.column < p.width ? w->outputs - p.column : p.width;
    return p;
}

/* m = or += v times weights, for all 36 of a panel, summed over `k` numbers from `from` on.
   `packed`: [36][k][width], with `step` between two of the 36. */
static void ft__winograd_products(const ft__winograd *w, const float *v, float *m,
                                  ft__winograd_panel p, size_t from, size_t k, const float *packed,
                                  size_t step, size_t count)
{
    const ft__tile_row *tile = w->kind.tile;
    const float *table[FT__TILE_ROWS * 8];
    size_t most = tile->rows * 8, at, i, n;
    for (n = 0; n < FT__TILE_INPUTS; ++n, packed += step)
        for (at = 0; at < count; at += most) {
            size_t some = count - at < most ? count - at : most;
            for (i = 0; i < ft__pad_to(some, tile->rows); ++i)
                table[i] = v + n * w->v_step + (at + (i < some ? i : some - 1)) * w->k + from;
            for (i = 0; i < some; i += tile->rows)
                ft__gemm_tile(tile, some - i, p.columns, 1, k, table + i, 1, packed, p.width,
                              packed, 0, m + n * w->m_step + (at + i) * w->m_row, w->m_row,
                              from > 0);
        }
}

/* Transforms m, starting at its row `row`, back to channels [column, column + columns) of the
   result's pixels. */
static void ft__winograd_outputs(const ft__winograd *w, size_t first, size_t count, const float *m,
                                 size_t row, size_t column, size_t columns)
{
    ft__winograd_tile t;
    size_t i, picture, area = (size_t)w->out_height * (size_t)w->out_width;
    int y, x, n;
    memset(&t, 0, sizeof t);
    t.channels = columns;
    t.add = w->bias ? w->bias + column : NULL;
    t.accumulate = w->accumulate;
    for (i = 0; i < count; ++i) {
        ft__winograd_place(w, first + i, &picture, &y, &x);
        for (n = 0; n < FT__TILE_INPUTS; ++n)
            t.from[n] = m + (size_t)n * w->m_step + (row + i) * w->m_row;
        ft__winograd_square(w->to + picture * area * w->outputs + column, w->out_height,
                            w->out_width, w->outputs, y, x, 4, NULL,
                            (const float **)(void *)t.to);
        w->kind.row->output(&t);
    }
}
