#pragma once
#include "interface/types.h"
#include "platform/system.h"
#include "platform/context.h"
#include "kernels/elementary.h"
#include "kernels/levels.h"
#include "kernels/lanes.h"

/* =============================================================================================
   [SECTION] kernels/stored: Numbers of other types
   A weight that is not trained may lie in memory, or in a mapped file, in a shorter type: bf16, f16
   or int8 with a scale for each row. It is computed with as float32: whoever reads it (a product's
   packing, an embedding) converts the part of a row that it needs. To add a type, GGUF's blocks for
   example, add a row to ft__stored_kinds.
   ============================================================================================= */

/* ---- One number ---- */

/* IEEE half precision: subnormals are multiples of 2^-24. The bits of the exponent and fraction are
   those of a float that is 2^112 times smaller; infinities and NaN need the largest exponent. */
FT__INLINE float ft__half_to_float(uint32_t half)
{
    uint32_t special = 0u - (uint32_t)((half & 0x7c00u) == 0x7c00u);
    float size = ft__from_bits((half & 0x7fffu) << 13) * ft__from_bits(239u << 23); /* 2^112 */
    return ft__from_bits(ft__to_bits(size) | (special & 0x7f800000u) | (half & 0x8000u) << 16);
}

/* Rounds to nearest, ties to even, like ft__float_to_bfloat. */
static uint32_t ft__float_to_half(float value)
{
    uint32_t bits = ft__to_bits(value), sign = bits >> 16 & 0x8000u, size = bits & 0x7fffffffu;
    uint32_t shift, fraction, rest, half;
    if (size > 0x7f800000u) return sign | 0x7e00u;
    if (size >= 0x47800000u) return sign | 0x7c00u;     /* 65536 and more */
    if (size < 0x33000000u) return sign;                /* below half the smallest subnormal */
    fraction = (size & 0x7fffffu) | 0x800000u;
    shift = size < 0x38800000u ? 126u - (size >> 23) : 13u;
    half = fraction >> shift;
    rest = fraction & ((1u << shift) - 1u);
    if (rest > 1u << (shift - 1) || (rest == 1u << (shift - 1) && (half & 1u))) half += 1;
    return size < 0x38800000u ? sign | half : sign | (half + (((size >> 23) - 113u) << 10));
}

static uint32_t ft__float_to_bfloat(float value)
{
    uint32_t bits = ft__to_bits(value);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return (bits >> 16) | 64u;
    return (bits + 0x7fffu + (bits >> 16 & 1u)) >> 16;
}

/* ---- Parts of rows: to[i] = number i times `scale` ---- */

#define FT__WIDEN_BODY(name, element, convert)                                                    \
    FT__INLINE void name##_body(const unsigned char *from, size_t count, float scale, float *to)  \
    {                                                                                             \
        element x[FT__LANES];                                                                     \
        float y[FT__LANES];                                                                       \
        size_t i, l;                                                                              \
        for (i = 0; i < count; i += FT__LANES) {                                                  \
            bool whole = count - i >= FT__LANES;                                                  \
            if (whole) memcpy(x, from + i * sizeof(element), sizeof x);                           \
            else {                                                                                \
                memset(x, 0, sizeof x);                                                           \
                memcpy(x, from + i * sizeof(element), (count - i) * sizeof(element));             \
            }                                                                                     \
            for (l = 0; l < FT__LANES; ++l) y[l] = convert(x[l]) * scale;                         \
            if (whole) memcpy(to + i, y, sizeof y);                                               \
            else memcpy(to + i, y, (count - i) * sizeof *y);                                      \
        }                                                                                         \
    }                                                                                             \
    FT__LEVELS(name, (const unsigned char *from, size_t count, float scale, float *to),           \
               name##_body(from, count, scale, to))
#define FT__AS_IT_IS(x) (x)
#define FT__BFLOAT_TO_FLOAT(x) ft__from_bits((uint32_t)(x) << 16)
#define FT__TO_FLOAT(x) ((float)(x))
FT__WIDEN_BODY(ft__widen_f32, float, FT__AS_IT_IS)
FT__WIDEN_BODY(ft__widen_bf16, uint16_t, FT__BFLOAT_TO_FLOAT)
FT__WIDEN_BODY(ft__widen_f16, uint16_t, ft__half_to_float)
FT__WIDEN_BODY(ft__widen_i8, int8_t, FT__TO_FLOAT)

/* A type that weights may have: `bytes` for each `block` numbers of a row. */
typedef struct ft__stored_kind {
    ft_type type;
    size_t block, bytes;
    bool scaled;            /* each row has a scale */
    void (*const *widen)(const unsigned char *from, size_t count, float scale, float *to);
} ft__stored_kind;

static const ft__stored_kind ft__stored_kinds[] = {
    {FT_F32, 1, 4, false, ft__widen_f32}, {FT_F16, 1, 2, false, ft__widen_f16},
    {FT_BF16, 1, 2, false, ft__widen_bf16}, {FT_I8, 1, 1, true, ft__widen_i8}};

/* NULL: weights cannot have this type. */
static const ft__stored_kind *ft__stored_kind_of(ft_type type)
{
    size_t i;
    for (i = 0; i < sizeof ft__stored_kinds / sizeof ft__stored_kinds[0]; ++i)
        if (ft__stored_kinds[i].type == type) return &ft__stored_kinds[i];
    return NULL;
}

/* A weight in another type, [rows, columns]: dimension 0, and all others. */
typedef struct ft__stored {
    const void *at;         /* row-major; NULL: there is none, the numbers are float32 */
    ft_type type;
    size_t columns;
    const float *scale;     /* of each row; NULL: 1 */
    const float *fold;      /* for one call: another factor of each row, a batch norm's; or NULL */
} ft__stored;

/* Float32 numbers, as one row or in rows of `columns`. */
static ft__stored ft__floats(const float *value, size_t columns)
{
    ft__stored s;
    memset(&s, 0, sizeof s);
    s.at = value;
    s.type = FT_F32;
    s.columns = columns;
    return s;
}

static size_t ft__stored_bytes(const ft__stored *s, size_t rows)
{
    const ft__stored_kind *kind = ft__stored_kind_of(s->type);
    return rows * (s->columns / kind->block * kind->bytes);
}

/* Reads numbers [from, from + count) of a row as float32; `from` begins a block. */
static void ft__read_stored(const ft__context *c, const ft__stored *s, size_t row, size_t from,
                            size_t count, float *to)
{
    const ft__stored_kind *kind = ft__stored_kind_of(s->type);
    const unsigned char *at = (const unsigned char *)s->at
        + (row * s->columns + from) / kind->block * kind->bytes;
    kind->widen[c->simd](at, count, s->scale ? s->scale[row] : s->fold ? s->fold[row] : 1.0f, to);
    if (s->scale && s->fold)
        ft__widen_f32[c->simd]((const unsigned char *)to, count, s->fold[row], to);
}

/* Reads numbers [first, first + count) in row-major order, over the ends of rows. */
static void ft__read_stored_run(const ft__context *c, const ft__stored *s, size_t first,
                                size_t count, float *to)
{
    while (count > 0) {
        size_t row = first / s->columns, from = first % s->columns, some = s->columns - from;
        if (some > count) some = count;
        ft__read_stored(c, s, row, from, some, to);
        first += some;
        count -= some;
        to += some;
    }
}

/* ---- Rounding: returns what the first number that does not fit is, or NULL ---- */

/* int8: the largest of a row becomes 127 or -127, so that zero stays zero. */
static const char *ft__round_row_to_int8(const float *from, size_t count, int8_t *to, float *scale)
{
    float most = 0, size;
    size_t i;
    for (i = 0; i < count; ++i) {
        size = ft__absolute(from[i]);
        if (!(size <= FLT_MAX)) return "NaN or infinite";
        if (size > most) most = size;
    }
    *scale = most / 127;
    for (i = 0; i < count; ++i) {
        float x = *scale > 0 ? from[i] / *scale : 0;
        int whole = (int)(x + (x < 0 ? -0.5f : 0.5f));
        to[i] = (int8_t)(whole > 127 ? 127 : whole < -127 ? -127 : whole);
    }
    return NULL;
}

/* Rounds `count` numbers to f16 or bf16. */
static const char *ft__round_to_half(const float *from, size_t count, ft_type type, uint16_t *to)
{
    size_t i;
    for (i = 0; i < count; ++i) {
        to[i] = (uint16_t)(type == FT_F16 ? ft__float_to_half(from[i])
                                          : ft__float_to_bfloat(from[i]));
        if (type == FT_F16 && (to[i] & 0x7fff) == 0x7c00 && ft__absolute(from[i]) <= FLT_MAX)
            return "beyond 65504, the largest number of F16";
    }
    return NULL;
}
