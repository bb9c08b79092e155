#pragma once
#include "interface/types.h"
#include "platform/families.h"
#include "platform/system.h"
#include "platform/context.h"
#include "basics/numbers.h"
#include "basics/threads.h"

/* =============================================================================================
   [SECTION] kernels/gemm: Matrix multiplication
   out [m, n] = a [m, k] b [k, n], after Goto and van de Geijn 2008: blocks of b are packed into
   panels as wide as the micro-kernel, which keeps one tile of the result in registers while it
   iterates over k. The rows of a are read in place; they are packed too only if they are not
   contiguous along k (a transposed matrix).

   Every element of the result is summed over k in the same order, in blocks of FT__BLOCK_K, by the
   same instructions, whatever the size of its tile. So its bits do not depend on m, n, its position
   or how the work is split among threads.
   ============================================================================================= */
#define FT__BLOCK_K ((size_t)512)
#define FT__BLOCK_M ((size_t)240) /* a multiple of every tile's rows: 4, 6, 8 */
#define FT__BLOCK_N ((size_t)384) /* a multiple of every tile's columns: 8, 16, 32 */
#define FT__TILE_ROWS 8           /* maximum rows of a tile */
#define FT__TILE_WIDEST 32        /* maximum columns */
#define FT__TILE_MOST (FT__TILE_ROWS * FT__TILE_WIDEST)

/* Prefetch memory that is read soon, where the stride is too large for the hardware prefetcher.
   FT__PREFETCH_LATER, for memory that is read later, should not evict anything from the L1 cache.
   The address may be past the end of the buffer. */
#ifdef __GNUC__
#define FT__PREFETCH(p) __builtin_prefetch(p)
#define FT__PREFETCH_LATER(p) __builtin_prefetch(p, 0, 2)
#else
#define FT__PREFETCH(p) ((void)(p))
#define FT__PREFETCH_LATER(p) ((void)(p))
#endif

typedef struct ft__matrix { const float *at; ptrdiff_t row, column; } ft__matrix; /* strides */

static ft__matrix ft__rows_of(const float *at, size_t row_length)
{
    ft__matrix matrix;
    matrix.at = at;
    matrix.row = (ptrdiff_t)row_length;
    matrix.column = 1;
    return matrix;
}

static ft__matrix ft__transposed(ft__matrix matrix)
{
    ptrdiff_t swap = matrix.row;
    matrix.row = matrix.column;
    matrix.column = swap;
    return matrix;
}

/* A micro-kernel: tile [rows, columns] = a b. Row i of `a` consists of `taps` stretches: number p
   of stretch t is a[t * most + i][p * step], where the level's largest tile has `most` rows. A
   plain matrix has one stretch; a convolution has one for each kernel position, which saves the
   copy that im2col makes. `b` is packed: k lines of `columns` numbers for each tap. The result is
   written or added to `out`. Meanwhile soon[p * soon_step], which is needed next, may be
   prefetched. */
#define FT__TILE_PARAMETERS                                                                       \
    size_t taps, size_t k, const float *const *a, size_t step, const float *b, const float *soon, \
    size_t soon_step, float *out, size_t stride, bool accumulate
typedef void (*ft__tile_function)(FT__TILE_PARAMETERS);

/* The same for one stretch and an unpacked b: its lines are `b_step` apart and are copied to
   `packed` along the way, for the tiles below. The plain level has none: it packs first. */
#define FT__PACKING_TILE_PARAMETERS                                                               \
    size_t k, const float *const *a, size_t step, const float *b, ptrdiff_t b_step,               \
    float *packed, float *out, size_t stride, bool accumulate
typedef void (*ft__packing_tile)(FT__PACKING_TILE_PARAMETERS);

/* Expands make(name, most, rows, ...) for every row count of a tile of at most 4, 6 or 8 rows. */
#define FT__TILES_4(make, name, most, ...)                                                        \
    make(name, most, 1, __VA_ARGS__) make(name, most, 2, __VA_ARGS__)                             \
    make(name, most, 3, __VA_ARGS__) make(name, most, 4, __VA_ARGS__)
#define FT__TILES_6(make, name, most, ...)                                                        \
    FT__TILES_4(make, name, most, __VA_ARGS__)                                                    \
    make(name, most, 5, __VA_ARGS__) make(name, most, 6, __VA_ARGS__)
#define FT__TILES_8(make, name, most, ...)                                                        \
    FT__TILES_6(make, name, most, __VA_ARGS__)                                                    \
    make(name, most, 7, __VA_ARGS__) make(name, most, 8, __VA_ARGS__)

/* The plain micro-kernels, the tests' oracle for the others. */
#define FT__TILE_PLAIN(name, most, rows, columns)                                                 \
    static void name##_##rows(FT__TILE_PARAMETERS)                                                \
    {                                                                                             \
        float sum[rows][columns] = {{0}};                                                         \
        size_t p, i, j;                                                                           \
        (void)soon;                                                                               \
        (void)soon_step;                                                                          \
        for (; taps > 0; --taps, a += most)                                                       \
            for (p = 0; p < k; ++p, b += columns)                                                 \
                for (i = 0; i < rows; ++i)                                                        \
                    for (j = 0; j < columns; ++j) sum[i][j] += a[i][p * step] * b[j];             \
        for (i = 0; i < rows; ++i)                                                                \
            for (j = 0; j < columns; ++j)                                                         \
                out[i * stride + j] = accumulate ? out[i * stride + j] + sum[i][j] : sum[i][j];   \
    }
FT__TILES_4(FT__TILE_PLAIN, ft__tile_plain, 4, 8)
FT__TILES_4(FT__TILE_PLAIN, ft__tile_plain_narrow, 4, 4)

#if defined(FT__X86) || defined(FT__ARM)
/* One body of sums for every instruction set and kind of tile: lines of b are `line` apart, and
   `meanwhile` runs at each. rows x (2 vectors) sums stay in registers (8 x 2 of 32 with AVX-512 and
   NEON, 6 x 2 of 16 with AVX2, 4 x 2 of 16 with SSE2), or fewer rows at an edge. With AVX-512,
   8 x 2 reaches 0.98 of the processor's peak, and 14 x 2 less. Multiply and add are fused if the
   instruction set can; -std=c99 would forbid that: hence the pragmas. Clang's "on" decides so by
   the expression; its "fast" by what else is in the basic block, which differed from tile to tile
   under a sanitizer, and so with the number of threads. */
#if defined(__clang__)
#define FT__FUSED _Pragma("clang fp contract(on)")
#else
#define FT__FUSED
#pragma GCC push_options
#pragma GCC optimize("O3", "fp-contract=fast")
#endif
#define FT__VECTORS(name, lanes)                                                                  \
    typedef float name##_vector __attribute__((vector_size(4 * lanes)));                          \
    typedef float name##_loose __attribute__((vector_size(4 * lanes), aligned(4), may_alias));
#define FT__TILE_START(type, vectors, rows)                                                       \
        FT__FUSED                                                                                 \
        type##_vector zero = {0}, sum[rows][vectors], right[vectors];                             \
        const float *row[rows];                                                                   \
        size_t t, p, at;                                                                          \
        int i, v;                                                                                 \
        FT__UNROLL for (i = 0; i < rows; ++i)                                                     \
            FT__UNROLL for (v = 0; v < vectors; ++v) sum[i][v] = zero;
#define FT__TILE_FETCH(lanes, vectors, rows)                                                      \
        FT__UNROLL for (i = 0; i < rows; ++i)                                                     \
            FT__UNROLL for (v = 0; v < vectors; ++v)                                              \
                FT__PREFETCH(out + (size_t)i * stride + v * lanes);
#define FT__TILE_SUMS(type, lanes, vectors, rows, most, taps, step, line, meanwhile)              \
        for (t = taps; t > 0; --t, a += most) {                                                   \
            FT__UNROLL for (i = 0; i < rows; ++i) row[i] = a[i];                                  \
            for (p = 0, at = 0; p < k; ++p, at += step, b += line) {                              \
                FT__UNROLL for (v = 0; v < vectors; ++v)                                          \
                    right[v] = *(const type##_loose *)(const void *)(b + v * lanes);              \
                meanwhile(type, lanes, vectors)                                                   \
                FT__UNROLL for (i = 0; i < rows; ++i)                                             \
                    FT__UNROLL for (v = 0; v < vectors; ++v) sum[i][v] += row[i][at] * right[v];  \
            }                                                                                     \
        }
#define FT__TILE_PUT(type, lanes, vectors, rows)                                                  \
        FT__UNROLL for (i = 0; i < rows; ++i)                                                     \
            FT__UNROLL for (v = 0; v < vectors; ++v) {                                            \
                float *to = out + (size_t)i * stride + v * lanes;                                 \
                if (accumulate) sum[i][v] += *(type##_loose *)(void *)to;                         \
                *(type##_loose *)(void *)to = sum[i][v];                                          \
            }
#define FT__NOTHING(type, lanes, vectors)
#define FT__FETCH_SOON(type, lanes, vectors)                                                      \
                FT__PREFETCH_LATER(soon);                                                         \
                soon += soon_step;
#define FT__TILE(name, most, rows, type, attributes, lanes, vectors)                              \
    attributes static void name##_##rows(FT__TILE_PARAMETERS)                                     \
    {                                                                                             \
        FT__TILE_START(type, vectors, rows)                                                       \
        FT__TILE_FETCH(lanes, vectors, rows)                                                      \
        FT__TILE_SUMS(type, lanes, vectors, rows, most, taps, step, vectors * lanes,              \
                      FT__FETCH_SOON)                                                             \
        FT__TILE_PUT(type, lanes, vectors, rows)                                                  \
    }
#define FT__FETCH_AND_PACK(type, lanes, vectors)                                                  \
                FT__UNROLL for (v = 0; v < vectors; ++v) {                                        \
                    FT__PREFETCH(b + 12 * b_step + (v + 1) * lanes - 1);                          \
                    *(type##_loose *)(void *)(packed + v * lanes) = right[v];                     \
                }                                                                                 \
                packed += vectors * lanes;
#define FT__PACKING_TILE(name, most, rows, type, attributes, lanes, vectors)                      \
    attributes static void name##_##rows(FT__PACKING_TILE_PARAMETERS)                             \
    {                                                                                             \
        FT__TILE_START(type, vectors, rows)                                                       \
        FT__TILE_FETCH(lanes, vectors, rows)                                                      \
        FT__TILE_SUMS(type, lanes, vectors, rows, most, 1, step, b_step, FT__FETCH_AND_PACK)      \
        FT__TILE_PUT(type, lanes, vectors, rows)                                                  \
    }
#if defined(__clang__)
#define FT__UNROLL _Pragma("clang loop unroll(full)")
#else
#define FT__UNROLL _Pragma("GCC unroll 16")
#endif
#ifdef FT__X86
#define FT__SSE2 __attribute__((target("sse2")))
#define FT__AVX2 __attribute__((target("avx2,fma")))
#define FT__AVX512 __attribute__((target("avx512f")))
FT__VECTORS(ft__tile_sse2, 4)
FT__VECTORS(ft__tile_avx2, 8)
FT__VECTORS(ft__tile_avx512, 16)
FT__TILES_4(FT__TILE, ft__tile_sse2, 4, ft__tile_sse2, FT__SSE2, 4, 2)
FT__TILES_4(FT__PACKING_TILE, ft__tile_sse2_packing, 4, ft__tile_sse2, FT__SSE2, 4, 2)
FT__TILES_4(FT__TILE, ft__tile_sse2_narrow, 4, ft__tile_sse2, FT__SSE2, 4, 1)
FT__TILES_6(FT__TILE, ft__tile_avx2, 6, ft__tile_avx2, FT__AVX2, 8, 2)
FT__TILES_6(FT__PACKING_TILE, ft__tile_avx2_packing, 6, ft__tile_avx2, FT__AVX2, 8, 2)
FT__TILES_6(FT__TILE, ft__tile_avx2_narrow, 6, ft__tile_avx2, FT__AVX2, 8, 1)
FT__TILES_8(FT__TILE, ft__tile_avx512, 8, ft__tile_avx512, FT__AVX512, 16, 2)
FT__TILES_8(FT__PACKING_TILE, ft__tile_avx512_packing, 8, ft__tile_avx512, FT__AVX512, 16, 2)
FT__TILES_8(FT__TILE, ft__tile_avx512_narrow, 8, ft__tile_avx512, FT__AVX512, 16, 1)
#else
FT__VECTORS(ft__tile_neon, 4)
FT__TILES_8(FT__TILE, ft__tile_neon, 8, ft__tile_neon, , 4, 2)
FT__TILES_8(FT__PACKING_TILE, ft__tile_neon_packing, 8, ft__tile_neon, , 4, 2)
FT__TILES_8(FT__TILE, ft__tile_neon_narrow, 8, ft__tile_neon, , 4, 1)
#endif
#if !defined(__clang__)
#pragma GCC pop_options
#endif
#endif

/* run[r - 1] computes a tile of r rows; narrow[r - 1] one of half as many columns; packing[r - 1],
   which may be NULL, reads an unpacked b. */
typedef struct ft__tile_row {
    const char *name;
    size_t rows, columns;
    ft__tile_function run[FT__TILE_ROWS], narrow[FT__TILE_ROWS];
    ft__packing_tile packing[FT__TILE_ROWS];
} ft__tile_row;
#define FT__ROWS_4(name) {name##_1, name##_2, name##_3, name##_4, NULL, NULL, NULL, NULL}
#define FT__ROWS_6(name) {name##_1, name##_2, name##_3, name##_4, name##_5, name##_6, NULL, NULL}
#define FT__ROWS_8(name)                                                                          \
    {name##_1, name##_2, name##_3, name##_4, name##_5, name##_6, name##_7, name##_8}
#define FT__ROWS_512(name)                                                                        \
    {FT__IF_AVX512(name##_1), FT__IF_AVX512(name##_2), FT__IF_AVX512(name##_3),                   \
     FT__IF_AVX512(name##_4), FT__IF_AVX512(name##_5), FT__IF_AVX512(name##_6),                   \
     FT__IF_AVX512(name##_7), FT__IF_AVX512(name##_8)}

/* Slowest first. The values are the same in every build, since files store them. */
enum { FT__SIMD_NONE, FT__SIMD_SSE2, FT__SIMD_AVX2, FT__SIMD_AVX512, FT__SIMD_NEON,
       FT__SIMD_COUNT };

static const ft__tile_row ft__tiles[] = {
    {"none", 4, 8, FT__ROWS_4(ft__tile_plain), FT__ROWS_4(ft__tile_plain_narrow), {NULL}},
#ifdef FT__X86
    {"sse2", 4, 8, FT__ROWS_4(ft__tile_sse2), FT__ROWS_4(ft__tile_sse2_narrow),
     FT__ROWS_4(ft__tile_sse2_packing)},
    {"avx2", 6, 16, FT__ROWS_6(ft__tile_avx2), FT__ROWS_6(ft__tile_avx2_narrow),
     FT__ROWS_6(ft__tile_avx2_packing)},
    {"avx512", FT__HAS_AVX512 ? 8 : 0, 32, FT__ROWS_512(ft__tile_avx512),
     FT__ROWS_512(ft__tile_avx512_narrow), FT__ROWS_512(ft__tile_avx512_packing)},
#else
    {"sse2", 0, 0, {NULL}, {NULL}, {NULL}}, {"avx2", 0, 0, {NULL}, {NULL}, {NULL}},
    {"avx512", 0, 0, {NULL}, {NULL}, {NULL}},
#endif
#ifdef FT__ARM
    {"neon", 8, 8, FT__ROWS_8(ft__tile_neon), FT__ROWS_8(ft__tile_neon_narrow),
     FT__ROWS_8(ft__tile_neon_packing)},
#else
    {"neon", 0, 0, {NULL}, {NULL}, {NULL}},
#endif
};

static bool ft__simd_available(int level)
{
    if (!ft__tiles[level].rows) return false;
#ifdef FT__X86
    if (level == FT__SIMD_SSE2) return __builtin_cpu_supports("sse2") != 0;
    if (level == FT__SIMD_AVX2)
        return __builtin_cpu_supports("avx2") != 0 && __builtin_cpu_supports("fma") != 0;
    if (level == FT__SIMD_AVX512) /* dq has products of 64-bit integers, for random numbers */
        return __builtin_cpu_supports("avx512f") != 0 && __builtin_cpu_supports("avx512dq") != 0;
#endif
    return true;
}

/* Chooses the level that ft_desc.simd names, or the best one. */
static ft_status ft__simd_choose(ft__context *c)
{
    int level;
    for (level = FT__SIMD_COUNT - 1; level >= 0; --level) {
        bool named = c->desc.simd && strcmp(c->desc.simd, ft__tiles[level].name) == 0;
        if (c->desc.simd && !named) continue;
        if (ft__simd_available(level)) {
            c->simd = level;
            return c->status;
        }
        if (named)
            return ft__fail(c, FT_UNSUPPORTED, "simd %s: not supported by this CPU or build",
                            c->desc.simd);
    }
    return ft__fail(c, FT_INVALID, "simd %s: it must be none, sse2, avx2, avx512 or neon",
                    c->desc.simd);
}

/* ---- Packing ---- */

#if (defined(FT__X86) || defined(FT__ARM)) && (defined(__clang__) || __GNUC__ >= 12)
#define FT__SHUFFLE 1
typedef float ft__four __attribute__((vector_size(16)));
typedef float ft__loose_four __attribute__((vector_size(16), aligned(4), may_alias));
#define FT__FOUR(p) (*(const ft__loose_four *)(const void *)(p))
#define FT__PUT_FOUR(p) (*(ft__loose_four *)(void *)(p))
#endif

#define FT__PACK_AT_ONCE ((size_t)16) /* a run of k that stays in the L1 cache */

/* Packs four lines, `line` apart, of `k` contiguous numbers each, as columns of a panel: number p
   of the four goes to row[p][at] to row[p][at + 3]. */
static void ft__pack_four(const float *from, ptrdiff_t line, size_t k, float *const *row, size_t at)
{
    size_t p = 0;
    int i;
#ifdef FT__SHUFFLE
    for (; p + 4 <= k; p += 4) {
        ft__four a = FT__FOUR(from + p), b = FT__FOUR(from + line + p);
        ft__four c = FT__FOUR(from + 2 * line + p), d = FT__FOUR(from + 3 * line + p);
        ft__four ab = __builtin_shufflevector(a, b, 0, 4, 1, 5); /* a0 b0 a1 b1 */
        ft__four cd = __builtin_shufflevector(c, d, 0, 4, 1, 5);
        FT__PUT_FOUR(row[p] + at) = __builtin_shufflevector(ab, cd, 0, 1, 4, 5);
        FT__PUT_FOUR(row[p + 1] + at) = __builtin_shufflevector(ab, cd, 2, 3, 6, 7);
        ab = __builtin_shufflevector(a, b, 2, 6, 3, 7);
        cd = __builtin_shufflevector(c, d, 2, 6, 3, 7);
        FT__PUT_FOUR(row[p + 2] + at) = __builtin_shufflevector(ab, cd, 0, 1, 4, 5);
        FT__PUT_FOUR(row[p + 3] + at) = __builtin_shufflevector(ab, cd, 2, 3, 6, 7);
    }
#endif
    for (; p < k; ++p)
        for (i = 0; i < 4; ++i) row[p][at + (size_t)i] = from[i * line + (ptrdiff_t)p];
}

/* Packs `lines` lines, `line` apart, of k <= FT__PACK_AT_ONCE contiguous numbers, as columns of
   rows that are `width` long; the rest of each row is zero. */
static void ft__pack_lines(const float *from, ptrdiff_t line, size_t lines, size_t width, size_t k,
                           float *const *row)
{
    size_t i = 0, p;
    for (; i + 4 <= lines; i += 4) ft__pack_four(from + (ptrdiff_t)i * line, line, k, row, i);
    for (; i < width; ++i)
        for (p = 0; p < k; ++p) row[p][i] = i < lines ? from[(ptrdiff_t)(i * (size_t)line + p)] : 0;
}

/* Adds the transpose: to[i * line + p] += row[p][i], for k rows of `lines` numbers. */
static void ft__add_transposed(const float *const *row, size_t k, size_t lines, float *to,
                               size_t line)
{
    size_t i, p, first = 0;
#ifdef FT__SHUFFLE
    for (i = 0; i + 4 <= lines; i += 4)
        for (p = 0; p + 4 <= k; p += 4) {
            ft__four a = FT__FOUR(row[p] + i), b = FT__FOUR(row[p + 1] + i);
            ft__four c = FT__FOUR(row[p + 2] + i), d = FT__FOUR(row[p + 3] + i);
            ft__four ab = __builtin_shufflevector(a, b, 0, 4, 1, 5); /* a0 b0 a1 b1 */
            ft__four cd = __builtin_shufflevector(c, d, 0, 4, 1, 5);
            float *at = to + i * line + p;
            FT__PUT_FOUR(at) += __builtin_shufflevector(ab, cd, 0, 1, 4, 5);
            FT__PUT_FOUR(at + line) += __builtin_shufflevector(ab, cd, 2, 3, 6, 7);
            ab = __builtin_shufflevector(a, b, 2, 6, 3, 7);
            cd = __builtin_shufflevector(c, d, 2, 6, 3, 7);
            FT__PUT_FOUR(at + 2 * line) += __builtin_shufflevector(ab, cd, 0, 1, 4, 5);
            FT__PUT_FOUR(at + 3 * line) += __builtin_shufflevector(ab, cd, 2, 3, 6, 7);
        }
    first = lines / 4 * 4;
#endif
    for (i = 0; i < lines; ++i)
        for (p = i < first ? k / 4 * 4 : 0; p < k; ++p) to[i * line + p] += row[p][i];
}

/* Copies k rows as long as a panel is wide. The sizes are spelled out, so that the compiler makes
   each copy a few moves instead of a call. The rows are prefetched, since the hardware does not
   predict a large stride. */
static void ft__pack_rows(const float *from, ptrdiff_t stride, size_t width, size_t k, float *to)
{
    for (; k > 0; --k, from += stride, to += width) {
        const float *soon = k > 8 ? from + 8 * stride : from;
        FT__PREFETCH(soon);
        FT__PREFETCH(soon + 16);
        if (width == 32) memcpy(to, from, 32 * sizeof(float));
        else if (width == 16) memcpy(to, from, 16 * sizeof(float));
        else if (width == 8) memcpy(to, from, 8 * sizeof(float));
        else memcpy(to, from, width * sizeof(float));
    }
}

/* Packs one panel: `lines` lines of a matrix, then zeros up to `width` lines, number by number
   along k. */
static void ft__pack_panel(ft__matrix a, size_t lines, size_t width, size_t k, float *to)
{
    size_t i, p, begin;
    if (a.row == 1 && lines == width) {
        ft__pack_rows(a.at, a.column, width, k, to);
        return;
    }
    for (begin = 0; begin < k; begin += FT__PACK_AT_ONCE) {
        size_t end = k - begin < FT__PACK_AT_ONCE ? k : begin + FT__PACK_AT_ONCE;
        float *row[FT__PACK_AT_ONCE];
        for (p = begin; p < end; ++p) row[p - begin] = to + p * width;
        if (a.column == 1) {
            ft__pack_lines(a.at + begin, a.row, lines, width, end - begin, row);
            continue;
        }
        for (i = 0; i < width; ++i) {
            const float *line = a.at + (ptrdiff_t)i * a.row;
            for (p = begin; i < lines && p < end; ++p)
                to[p * width + i] = line[(ptrdiff_t)p * a.column];
            for (p = begin; i >= lines && p < end; ++p) to[p * width + i] = 0;
        }
    }
}

/* ---- Multiplying ---- */

/* Columns of the panel that holds column j of n: a whole tile's, or half if that is enough. */
static size_t ft__panel_width(const ft__tile_row *tile, size_t n, size_t j)
{
    return n - j <= tile->columns / 2 ? tile->columns / 2 : tile->columns;
}

/* Computes one tile, `width` columns wide, of at most m rows. A tile that extends past n columns is
   computed in a local array, and the columns inside are copied. */
static void ft__gemm_tile(const ft__tile_row *tile, size_t m, size_t n, size_t taps, size_t k,
                          const float *const *a, size_t step, const float *b, size_t width,
                          const float *soon, size_t soon_step, float *out, size_t stride,
                          bool accumulate)
{
    size_t rows = m < tile->rows ? m : tile->rows, i, j;
    ft__tile_function run = (width == tile->columns ? tile->run : tile->narrow)[rows - 1];
    float aside[FT__TILE_MOST];
    if (n >= width) {
        run(taps, k, a, step, b, soon, soon_step, out, stride, accumulate);
        return;
    }
    run(taps, k, a, step, b, soon, soon_step, aside, width, false);
    for (i = 0; i < rows; ++i) {
        for (j = 0; !accumulate && j + 8 <= n; j += 8)
            memcpy(out + i * stride + j, aside + i * width + j, 8 * sizeof *out);
        for (; j < n; ++j)
            out[i * stride + j] = accumulate ? out[i * stride + j] + aside[i * width + j]
                                             : aside[i * width + j];
    }
}

/* A product for ft__gemm_piece, and how ft__gemm_parallel splits it. */
typedef struct ft__product {
    ft__context *context;
    size_t m, n, k, stride;
    ft__matrix a, b;
    float *out, *workspace;
    bool accumulate;
    size_t high, wide;      /* of a piece */
} ft__product;

/* The block that is multiplied at once: rows [i, i + rows) and columns [j, j + columns) of the
   result, over [p, p + depth) of k. */
typedef struct ft__product_block { size_t i, rows, j, columns, p, depth; } ft__product_block;

/* Rows per tile, so that tiles are nearly equal: 49 rows make 7 tiles of 7, not 6 of 8 and one of a
   single row. */
static size_t ft__gemm_rows(const ft__product *x, size_t rows)
{
    size_t most = ft__tiles[x->context->simd].rows, tiles = (rows + most - 1) / most;
    return (rows + tiles - 1) / tiles;
}

/* Packs the rows of the tile at row `down` of the block, unless they are contiguous in memory. */
static void ft__gemm_pack_left(const ft__product *x, const ft__product_block *s, size_t down,
                               size_t rows, size_t step, float *left)
{
    ft__matrix part = x->a;
    part.at += (ptrdiff_t)(s->i + down) * part.row + (ptrdiff_t)s->p * part.column;
    if (part.column != 1) ft__pack_panel(part, rows, step, s->depth, left);
}

/* Packs the panel at column `at` of the block. */
static void ft__gemm_pack_right(const ft__product *x, const ft__product_block *s, size_t at,
                                float *right)
{
    size_t width = ft__panel_width(&ft__tiles[x->context->simd], s->columns, at);
    ft__matrix part = ft__transposed(x->b);
    part.at += (ptrdiff_t)(s->j + at) * part.row + (ptrdiff_t)s->p * part.column;
    ft__pack_panel(part, s->columns - at < width ? s->columns - at : width, width, s->depth,
                   right);
}

/* Computes the tile at row `down` and column `at` of the block. The first tile of a panel packs the
   panel into `right`, while it multiplies if it can: with a separate copy, 49 x 512 x 4608 took
   1.09 times as long. */
static void ft__gemm_multiply(const ft__product *x, const ft__product_block *s, size_t down,
                              size_t rows, const float *left, size_t step, size_t at,
                              float *right, const float *soon)
{
    const ft__tile_row *tile = &ft__tiles[x->context->simd];
    const float *row[FT__TILE_ROWS];
    float *out = x->out + (s->i + down) * x->stride + s->j + at;
    bool lines = x->a.column == 1, add = x->accumulate || s->p > 0;
    size_t width = ft__panel_width(tile, s->columns, at), r;
    if (lines) step = 1;
    for (r = 0; r < rows; ++r)
        row[r] = lines ? x->a.at + (ptrdiff_t)(s->i + down + r) * x->a.row + s->p : left + r;
    if (down == 0 && tile->packing[rows - 1] && x->b.column == 1
        && s->columns - at >= tile->columns) {
        const float *from = x->b.at + (ptrdiff_t)s->p * x->b.row + s->j + at;
        tile->packing[rows - 1](s->depth, row, step, from, x->b.row, right, out, x->stride, add);
        return;
    }
    if (down == 0) ft__gemm_pack_right(x, s, at, right);
    ft__gemm_tile(tile, rows, s->columns - at, 1, s->depth, row, step, right, width,
                  soon ? soon : right, soon ? (size_t)x->b.row : 0, out, x->stride, add);
}

/* Returns the rows of b that are packed after the panel at column `at` of the block; NULL if there
   are none, or fewer, or they are not contiguous in memory. */
static const float *ft__gemm_soon(const ft__product *x, const ft__product_block *s, size_t at,
                                  size_t width)
{
    const float *row = x->b.at + (ptrdiff_t)s->p * x->b.row + s->j;
    if (x->b.column != 1 || x->b.row < 0) return NULL;
    if (at + 2 * width <= s->columns) return row + at + width;
    return s->p + 2 * s->depth <= x->k ? row + (ptrdiff_t)s->depth * x->b.row : NULL;
}

/* Few rows: the rows of a stay in the L2 cache, and each panel of b is packed when it is needed.
   The last two tiles of a panel prefetch the next panel into the L2 cache: without that,
   49 x 512 x 4608 took 1.4 times as long, and 1.2 times when it went into the L1 cache. They
   prefetch the last number of each vector: where a line starts inside a vector, its first numbers
   came with the panel before. */
static void ft__gemm_few(const ft__product *x, const ft__product_block *s, float *left,
                         float *right)
{
    const ft__tile_row *tile = &ft__tiles[x->context->simd];
    size_t high = ft__gemm_rows(x, s->rows), down, at, width, some;
    for (down = 0; down < s->rows; down += some) {
        some = s->rows - down < high ? s->rows - down : high;
        ft__gemm_pack_left(x, s, down, some, high, left + down * s->depth);
    }
    for (at = 0; at < s->columns; at += width) {
        const float *soon;
        width = ft__panel_width(tile, s->columns, at);
        soon = ft__gemm_soon(x, s, at, width);
        for (down = 0; down < s->rows; down += some) {
            bool fetch = soon && down + 2 * high >= s->rows;
            some = s->rows - down < high ? s->rows - down : high;
            ft__gemm_multiply(x, s, down, some, left + down * s->depth, high, at, right,
                              fetch ? soon + (down / high % 2 + 1) * width / 2 - 1 : NULL);
        }
    }
}

/* Many rows: the packed block of b stays in the L2 cache, the rows of two tiles in the L1 cache.
   Two are packed at once: where a is transposed, their numbers are in the same cache lines, and
   1024 x 256 x 4096 took 1.06 times as long with one at a time. */
static void ft__gemm_many(const ft__product *x, const ft__product_block *s, float *left,
                          float *right)
{
    const ft__tile_row *tile = &ft__tiles[x->context->simd];
    size_t high = ft__gemm_rows(x, s->rows), pair, down, at;
    for (pair = 0; pair < s->rows; pair += 2 * high) {
        size_t end = ft__min_size(pair + 2 * high, s->rows);
        for (down = pair; down < end; down += high)
            ft__gemm_pack_left(x, s, down, ft__min_size(high, end - down), high,
                               left + (down - pair) * s->depth);
        for (down = pair; down < end; down += high)
            for (at = 0; at < s->columns; at += ft__panel_width(tile, s->columns, at))
                ft__gemm_multiply(x, s, down, ft__min_size(high, end - down),
                                  left + (down - pair) * s->depth, high, at, right + at * s->depth,
                                  NULL);
    }
}

/* Numbers of scratch that one thread needs. */
static size_t ft__gemm_scratch(size_t k)
{
    return (k < FT__BLOCK_K ? k : FT__BLOCK_K) * (FT__BLOCK_M + FT__BLOCK_N);
}

/* Rows [i, i + rows) and columns [j, j + columns) of a product, on this thread. */
static void ft__gemm_piece(const ft__product *x, size_t i, size_t rows, size_t j, size_t columns,
                           float *scratch)
{
    float *right = scratch + (x->k < FT__BLOCK_K ? x->k : FT__BLOCK_K) * FT__BLOCK_M;
    size_t end = j + columns;
    ft__product_block s;
    s.i = i;
    s.rows = rows;
    for (s.j = j; s.j < end; s.j += FT__BLOCK_N)
        for (s.p = 0; s.p < x->k; s.p += FT__BLOCK_K) {
            s.columns = end - s.j < FT__BLOCK_N ? end - s.j : FT__BLOCK_N;
            s.depth = x->k - s.p < FT__BLOCK_K ? x->k - s.p : FT__BLOCK_K;
            if (rows <= FT__BLOCK_M) ft__gemm_few(x, &s, scratch, right);
            else ft__gemm_many(x, &s, scratch, right);
        }
}

/* ---- On all threads ---- */

/* Splits the result, by rows and by columns, so that the largest piece costs least. The cost, in
   cycles for each of k with AVX-512: to multiply, to pack b, to read a. */
static void ft__product_parts(ft__product *x)
{
    const ft__tile_row *tile = &ft__tiles[x->context->simd];
    size_t threads = (size_t)x->context->threads, down, best = SIZE_MAX;
    for (down = 1; down <= threads; ++down) {
        size_t across = (threads + down - 1) / down;
        size_t high = ft__pad_to((x->m + down - 1) / down, tile->rows);
        size_t wide = ft__pad_to((x->n + across - 1) / across, tile->columns / 2);
        size_t cost = high * wide / 16 + wide / 4 + high / 4;
        if (cost >= best) continue;
        best = cost;
        x->high = high;
        x->wide = wide;
    }
    down = (x->wide + FT__BLOCK_N - 1) / FT__BLOCK_N; /* more pieces, at no more cost */
    if (down > 1) x->wide = ft__pad_to((x->wide + down - 1) / down, tile->columns);
}

static void ft__product_slot(void *context, int slot)
{
    const ft__product *x = (const ft__product *)context;
    float *scratch = x->workspace + (size_t)slot * ft__gemm_scratch(x->k);
    size_t across = (x->n + x->wide - 1) / x->wide, piece;
    size_t pieces = across * ((x->m + x->high - 1) / x->high);
    int share;
    FT__PIECES(piece, share, x->context, slot, pieces) {
        size_t i = piece / across * x->high, j = piece % across * x->wide;
        ft__gemm_piece(x, i, x->m - i < x->high ? x->m - i : x->high, j,
                       x->n - j < x->wide ? x->n - j : x->wide, scratch);
    }
}

/* Numbers of workspace that ft__gemm_parallel needs for this k. */
static size_t ft__gemm_workspace(const ft__context *c, size_t k)
{
    return (size_t)c->threads * ft__gemm_scratch(k);
}

static void ft__gemm_parallel(ft__context *c, size_t m, size_t n, size_t k, ft__matrix a,
                              ft__matrix b, float *out, size_t stride, bool accumulate,
                              float *workspace)
{
    ft__product x;
    if (m == 0 || n == 0) return;
    memset(&x, 0, sizeof x);
    x.context = c;
    x.m = m;
    x.n = n;
    x.k = k;
    x.a = a;
    x.b = b;
    x.out = out;
    x.stride = stride;
    x.accumulate = accumulate;
    x.workspace = workspace;
    ft__product_parts(&x);
    ft__parallel_slots(c, ft__product_slot, &x);
}
