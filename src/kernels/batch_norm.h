#pragma once
#include "platform/families.h"
#include "platform/system.h"
#include "kernels/elementary.h"
#include "kernels/gemm.h"
#include "kernels/levels.h"

/* =============================================================================================
   [SECTION] kernels/batch_norm: Batch norm: passes over rows
   Statistics of blocks of rows, the normalised rows, and their gradients; see operators/batch_norm.
   ============================================================================================= */
#if defined(__GNUC__) && !defined(__clang__) && !defined(FINETUNE_NO_SIMD)
#pragma GCC push_options
#pragma GCC optimize("O3", "fp-contract=fast")
#endif

/* What one pass over rows [count, channels] reads and writes. */
typedef struct ft__norm_pass {
    const float *x, *dy, *mean;
    const float *a, *b, *c;     /* y = (x - mean) a + b;  dx = or += dy a + (x - mean) b + c */
    const float *bias;          /* backward: dy counts where low < (x - mean) a + bias < high */
    float low, high;
    float *out, *first, *second;
    size_t count, channels;
    bool fresh;
} ft__norm_pass;

/* Channels from `at` on, one by one: those that the vector forms below leave, and their oracle.
   first = mean of a block, second = sum of (x - mean)^2; the sum of the differences corrects the
   rounding of the mean. */
FT__INLINE void ft__norm_block_body(const ft__norm_pass *p, size_t at)
{
    float count = (float)p->count;
    size_t r;
    for (; at < p->channels; ++at) {
        float sum = 0, rest = 0, squares = 0;
        for (r = 0; r < p->count; ++r) sum += p->x[r * p->channels + at];
        sum /= count;
        for (r = 0; r < p->count; ++r) {
            float d = p->x[r * p->channels + at] - sum;
            rest += d;
            squares += d * d;
        }
        p->first[at] = sum + rest / count;
        p->second[at] = squares - rest * (rest / count);
    }
}

/* first = sum of dy, second = sum of dy (x - mean) */
FT__INLINE void ft__norm_products_body(const ft__norm_pass *p, size_t at)
{
    size_t r;
    for (; at < p->channels; ++at) {
        float sum = 0, products = 0;
        for (r = 0; r < p->count; ++r) {
            float dy = p->dy[r * p->channels + at], d = p->x[r * p->channels + at] - p->mean[at];
            float y = d * p->a[at] + p->bias[at];
            dy = ft__choose(y > p->low, ft__choose(y < p->high, dy, 0.0f), 0.0f);
            sum += dy;
            products += dy * d;
        }
        p->first[at] = sum;
        p->second[at] = products;
    }
}

/* y, clamped to [low, high] */
FT__INLINE void ft__norm_apply_body(const ft__norm_pass *p, size_t at)
{
    size_t r, c;
    for (r = 0; r < p->count; ++r)
        for (c = at; c < p->channels; ++c) {
            float y = (p->x[r * p->channels + c] - p->mean[c]) * p->a[c] + p->b[c];
            p->out[r * p->channels + c]
                = ft__choose(y > p->high, p->high, ft__choose(y < p->low, p->low, y));
        }
}

/* `out` may be dy itself. */
FT__INLINE void ft__norm_back_body(const ft__norm_pass *p, size_t at)
{
    size_t r, c;
    for (r = 0; r < p->count; ++r)
        for (c = at; c < p->channels; ++c) {
            float d = p->x[r * p->channels + c] - p->mean[c], y = d * p->a[c] + p->bias[c];
            float dy = p->dy[r * p->channels + c], *out = p->out + r * p->channels + c;
            dy = ft__choose(y > p->low, ft__choose(y < p->high, dy, 0.0f), 0.0f);
            dy = dy * p->a[c] + (d * p->b[c] + p->c[c]);
            *out = p->fresh ? dy : dy + *out;
        }
}

FT__LEVELS(ft__norm_block_tail, (const ft__norm_pass *p, size_t at), ft__norm_block_body(p, at))
FT__LEVELS(ft__norm_products_tail, (const ft__norm_pass *p, size_t at),
           ft__norm_products_body(p, at))
FT__LEVELS(ft__norm_apply_tail, (const ft__norm_pass *p, size_t at), ft__norm_apply_body(p, at))
FT__LEVELS(ft__norm_back_tail, (const ft__norm_pass *p, size_t at), ft__norm_back_body(p, at))

/* The same for two vectors of channels, or one; each returns the first channel not processed. For
   loops over a known number of channels compilers generated code that went through memory, and
   scalar code for 8. MobileNet makes 1.07 times as many steps (two threads) with this, the weight
   gradients of 1 x 1 convolutions read in place, and depthwise windows that read shared inputs
   once. */
#define FT__NORM_LOAD(tile, from) (*(const tile##_loose *)(const void *)(from))
#define FT__NORM_EACH(v, vectors) FT__UNROLL for (v = 0; v < vectors; ++v)
#define FT__NORM(name, attributes, tile, lanes)                                                   \
    typedef int32_t name##_mask __attribute__((vector_size(4 * lanes)));                          \
    /* dy where y lies between the bounds, and 0 elsewhere */                                     \
    attributes FT__INLINE tile##_vector name##_inside(tile##_vector dy, tile##_vector y,          \
                                                      tile##_vector low, tile##_vector high)      \
    {                                                                                             \
        return (tile##_vector)((name##_mask)(y > low) & (name##_mask)(y < high)                   \
                               & (name##_mask)dy);                                                \
    }                                                                                             \
    attributes FT__INLINE void name##_block_some(const ft__norm_pass *p, size_t at, int vectors)  \
    {                                                                                             \
        FT__FUSED                                                                                 \
        tile##_vector sum[2], rest[2], squares[2], zero = {0}, d, count = (float)p->count - zero; \
        const float *x = p->x + at;                                                               \
        size_t r;                                                                                 \
        int v;                                                                                    \
        FT__NORM_EACH(v, vectors) sum[v] = rest[v] = squares[v] = zero;                           \
        for (r = 0; r < p->count; ++r, x += p->channels)                                          \
            FT__NORM_EACH(v, vectors) sum[v] += FT__NORM_LOAD(tile, x + v * lanes);               \
        FT__NORM_EACH(v, vectors) sum[v] /= count;                                                \
        for (x = p->x + at, r = 0; r < p->count; ++r, x += p->channels)                           \
            FT__NORM_EACH(v, vectors) {                                                           \
                d = FT__NORM_LOAD(tile, x + v * lanes) - sum[v];                                  \
                rest[v] += d;                                                                     \
                squares[v] += d * d;                                                              \
            }                                                                                     \
        FT__NORM_EACH(v, vectors) {                                                               \
            d = rest[v] / count;                                                                  \
            *(tile##_loose *)(void *)(p->first + at + v * lanes) = sum[v] + d;                    \
            *(tile##_loose *)(void *)(p->second + at + v * lanes) = squares[v] - rest[v] * d;     \
        }                                                                                         \
    }                                                                                             \
    attributes FT__INLINE void name##_products_some(const ft__norm_pass *p, size_t at,            \
                                                    int vectors)                                  \
    {                                                                                             \
        FT__FUSED                                                                                 \
        tile##_vector sum[2], products[2], mean[2], a[2], bias[2], zero = {0}, d, dy;             \
        tile##_vector low = p->low - zero, high = p->high - zero;                                 \
        size_t r, i = at;                                                                         \
        int v;                                                                                    \
        FT__NORM_EACH(v, vectors) {                                                               \
            sum[v] = products[v] = zero;                                                          \
            mean[v] = FT__NORM_LOAD(tile, p->mean + at + v * lanes);                              \
            a[v] = FT__NORM_LOAD(tile, p->a + at + v * lanes);                                    \
            bias[v] = FT__NORM_LOAD(tile, p->bias + at + v * lanes);                              \
        }                                                                                         \
        for (r = 0; r < p->count; ++r, i += p->channels)                                          \
            FT__NORM_EACH(v, vectors) {                                                           \
                d = FT__NORM_LOAD(tile, p->x + i + v * lanes) - mean[v];                          \
                dy = name##_inside(FT__NORM_LOAD(tile, p->dy + i + v * lanes),                    \
                                   d * a[v] + bias[v], low, high);                                \
                sum[v] += dy;                                                                     \
                products[v] += dy * d;                                                            \
            }                                                                                     \
        FT__NORM_EACH(v, vectors) {                                                               \
            *(tile##_loose *)(void *)(p->first + at + v * lanes) = sum[v];                        \
            *(tile##_loose *)(void *)(p->second + at + v * lanes) = products[v];                  \
        }                                                                                         \
    }                                                                                             \
    attributes FT__INLINE void name##_apply_some(const ft__norm_pass *p, size_t at, int vectors)  \
    {                                                                                             \
        FT__FUSED                                                                                 \
        tile##_vector mean[2], a[2], b[2], zero = {0}, y;                                         \
        tile##_vector low = p->low - zero, high = p->high - zero;                                 \
        size_t r, i = at;                                                                         \
        int v;                                                                                    \
        FT__NORM_EACH(v, vectors) {                                                               \
            mean[v] = FT__NORM_LOAD(tile, p->mean + at + v * lanes);                              \
            a[v] = FT__NORM_LOAD(tile, p->a + at + v * lanes);                                    \
            b[v] = FT__NORM_LOAD(tile, p->b + at + v * lanes);                                    \
        }                                                                                         \
        for (r = 0; r < p->count; ++r, i += p->channels)                                          \
            FT__NORM_EACH(v, vectors) {                                                           \
                y = (FT__NORM_LOAD(tile, p->x + i + v * lanes) - mean[v]) * a[v] + b[v];          \
                *(tile##_loose *)(void *)(p->out + i + v * lanes) = tile##_bound(y, low, high);   \
            }                                                                                     \
    }                                                                                             \
    attributes FT__INLINE void name##_back_some(const ft__norm_pass *p, size_t at, int vectors)   \
    {                                                                                             \
        FT__FUSED                                                                                 \
        tile##_vector mean[2], a[2], b[2], c[2], bias[2], zero = {0}, d, dy;                      \
        tile##_vector low = p->low - zero, high = p->high - zero;                                 \
        size_t r, i = at;                                                                         \
        int v;                                                                                    \
        FT__NORM_EACH(v, vectors) {                                                               \
            mean[v] = FT__NORM_LOAD(tile, p->mean + at + v * lanes);                              \
            a[v] = FT__NORM_LOAD(tile, p->a + at + v * lanes);                                    \
            b[v] = FT__NORM_LOAD(tile, p->b + at + v * lanes);                                    \
            c[v] = FT__NORM_LOAD(tile, p->c + at + v * lanes);                                    \
            bias[v] = FT__NORM_LOAD(tile, p->bias + at + v * lanes);                              \
        }                                                                                         \
        for (r = 0; r < p->count; ++r, i += p->channels)                                          \
            FT__NORM_EACH(v, vectors) {                                                           \
                d = FT__NORM_LOAD(tile, p->x + i + v * lanes) - mean[v];                          \
                dy = name##_inside(FT__NORM_LOAD(tile, p->dy + i + v * lanes),                    \
                                   d * a[v] + bias[v], low, high);                                \
                dy = dy * a[v] + (d * b[v] + c[v]);                                               \
                if (!p->fresh) dy += FT__NORM_LOAD(tile, p->out + i + v * lanes);                 \
                *(tile##_loose *)(void *)(p->out + i + v * lanes) = dy;                           \
            }                                                                                     \
    }                                                                                             \
    FT__NORM_COLUMNS(name, block, attributes, lanes)                                              \
    FT__NORM_COLUMNS(name, products, attributes, lanes)                                           \
    FT__NORM_COLUMNS(name, apply, attributes, lanes)                                              \
    FT__NORM_COLUMNS(name, back, attributes, lanes)
#define FT__NORM_COLUMNS(name, pass, attributes, lanes)                                           \
    attributes static size_t name##_##pass(const ft__norm_pass *p, size_t at)                     \
    {                                                                                             \
        for (; at + 2 * lanes <= p->channels; at += 2 * lanes) name##_##pass##_some(p, at, 2);    \
        for (; at + lanes <= p->channels; at += lanes) name##_##pass##_some(p, at, 1);            \
        return at;                                                                                \
    }
#ifdef FT__X86
FT__NORM(ft__norm_sse2, __attribute__((target("sse2"))), ft__tile_sse2, 4)
FT__NORM(ft__norm_avx2, __attribute__((target("avx2,fma"))), ft__tile_avx2, 8)
FT__NORM(ft__norm_avx512, __attribute__((target("avx512f"))), ft__tile_avx512, 16)
#define FT__NORM_VECTORS(pass)                                                                    \
    if (FT__HAS_AVX512 && simd == FT__SIMD_AVX512) at = ft__norm_avx512_##pass(p, at);            \
    if (simd >= FT__SIMD_AVX2) at = ft__norm_avx2_##pass(p, at);                                  \
    if (simd == FT__SIMD_SSE2) at = ft__norm_sse2_##pass(p, at);
#elif defined(FT__ARM)
FT__NORM(ft__norm_neon, , ft__tile_neon, 4)
#define FT__NORM_VECTORS(pass) if (simd == FT__SIMD_NEON) at = ft__norm_neon_##pass(p, at);
#else
#define FT__NORM_VECTORS(pass)
#endif
#define FT__NORM_PASS(pass)                                                                       \
    static void ft__norm_##pass(int simd, const ft__norm_pass *p)                                 \
    {                                                                                             \
        size_t at = 0;                                                                            \
        FT__NORM_VECTORS(pass)                                                                    \
        if (at < p->channels) ft__norm_##pass##_tail[simd](p, at);                                \
    }
FT__NORM_PASS(block)
FT__NORM_PASS(products)
FT__NORM_PASS(apply)
FT__NORM_PASS(back)

#if defined(__GNUC__) && !defined(__clang__) && !defined(FINETUNE_NO_SIMD)
#pragma GCC pop_options
#endif
