#pragma once
#include "interface/types.h"
#include "interface/operators.h"
#include "platform/context.h"
#include "basics/numbers.h"
#include "basics/threads.h"
#include "kernels/elementary.h"
#include "nodes/nodes.h"
#include "operators/table.h"
#include "operators/adding.h"
#include "operators/common.h"
#include "operators/activations.h"

/* =============================================================================================
   [SECTION] operators/elementwise: Functions of one tensor
   exp, pow, clamp and others, element by element: what losses are made of. Layers do not apply them
   to their outputs, as they do activations.
   ============================================================================================= */
static const ft__field ft__pow_fields[] = {FT__FLOAT(ft_unary_options, exponent),
                                           FT__NO_MORE_FIELDS};
static const ft__field ft__clamp_fields[] = {FT__FLOAT(ft_unary_options, min),
                                             FT__FLOAT(ft_unary_options, max),
                                             FT__NO_MORE_FIELDS};
static const ft__field ft__affine_fields[] = {FT__FLOAT(ft_unary_options, scale),
                                              FT__FLOAT(ft_unary_options, shift),
                                              FT__NO_MORE_FIELDS};

#define FT__ELEMENTWISE(name, flags, fields, option, F, D)                                        \
    FT__ACTIVATION_LOOPS(name, option, F, D)                                                      \
    FT__ELEMENTWISE_ROW(name, FT__WRITES | FT__IN_PLACE | FT__ANY_LAYOUT | (flags), fields, NULL)

#if defined(__GNUC__) && !defined(__clang__) && !defined(FINETUNE_NO_SIMD)
#pragma GCC push_options /* not fused: all levels give the same bits */
#pragma GCC optimize("O3", "fp-contract=off")
#endif
/* In files: `exp`, `log`, `sqrt`, `abs`, `neg`, `erf`, `detach` | x | */
FT__ELEMENTWISE(exp, FT__READS_Y, ft__no_fields, 0, ft__exp(x), y)
FT__ELEMENTWISE(log, FT__READS_X, ft__no_fields, 0, ft__ln(x), 1.0f / x)
FT__ELEMENTWISE(sqrt, FT__READS_Y, ft__no_fields, 0, sqrtf(x), 0.5f / y)
FT__ELEMENTWISE(abs, FT__READS_X, ft__no_fields, 0, ft__absolute(x),
                ft__choose(x > 0, 1.0f, ft__choose(x < 0, -1.0f, 0.0f)))
FT__ELEMENTWISE(neg, 0, ft__no_fields, 0, -x, -1.0f)
FT__ELEMENTWISE(erf, FT__READS_X, ft__no_fields, 0, ft__erf(x), 1.12837917f * ft__exp(-x * x))
/* In files: `pow` | x | `exponent` required */
FT__ELEMENTWISE(pow, FT__READS_X, ft__pow_fields, o->unary.exponent, ft__pow(x, a),
                a * ft__pow(x, a - 1))

/* At a bound the slope is 0, as in PyTorch 2.15 (it was 1 before). */
/* In files: `clamp` | x | `min` and `max` required */
FT__ELEMENTWISE(clamp, FT__READS_X, ft__clamp_fields, 0, ft__clamp(x, o->unary.min, o->unary.max),
                ft__choose(x > o->unary.min, ft__choose(x < o->unary.max, 1.0f, 0.0f), 0.0f))
/* In files: `affine` | x | `scale` required, `shift` 0 */
FT__ELEMENTWISE(affine, 0, ft__affine_fields, o->unary.scale, a * x + o->unary.shift, a)
#if defined(__GNUC__) && !defined(__clang__) && !defined(FINETUNE_NO_SIMD)
#pragma GCC pop_options
#endif

/* Functions without a gradient, whose input or output may hold integers. */
#define FT__WITHOUT_SLOPE(name, from_type, to_type, flags, rule, F)                               \
    static void ft__##name##_chunk(void *context, int index)                                      \
    {                                                                                             \
        const ft__call *call = (const ft__call *)context;                                         \
        size_t at = (size_t)index * FT__CHUNK, end = ft__count(&call->output);                    \
        const from_type *from = (const from_type *)(const void *)call->input[0].value;            \
        to_type *to = (to_type *)(void *)call->output.value;                                      \
        if (end - at > FT__CHUNK) end = at + FT__CHUNK;                                           \
        for (; at < end; ++at) {                                                                  \
            from_type x = from[at];                                                               \
            to[at] = F;                                                                           \
        }                                                                                         \
    }                                                                                             \
    static void ft__##name##_forward(const ft__call *call)                                        \
    {                                                                                             \
        ft__parallel(call->context, ft__chunks(ft__count(&call->output)), ft__##name##_chunk,     \
                     (void *)(uintptr_t)call);                                                    \
    }                                                                                             \
    static const ft__row ft__row_##name = {                                                       \
        FT__NAMED(name), 1, 1, flags, rule, ft__##name##_forward, NULL, NULL, ft__no_fields,      \
        NULL};
#define FT__STEPS(name, F) \
    FT__WITHOUT_SLOPE(name, float, float, FT__ANY_LAYOUT, ft__same_shape, F)

/* Toward 0; what no int32_t is becomes the least one. */
static int32_t ft__whole(float x)
{
    return x >= -2147483648.0f && x < 2147483648.0f ? (int32_t)x : INT32_MIN;
}

static ft_status ft__integers_shape(ft__context *c, const ft__node *node, const ft__tensor *input,
                                    int input_count, ft_shape *output)
{
    (void)input_count;
    *output = input[0].shape;
    return input[0].type == FT_I32 ? FT_OK
        : ft__fail(c, FT_SHAPE, "%s: its input is %s, but must be I32", node->name,
                   ft__type_names[input[0].type]);
}

/* In files: `floor`, `ceil`, `round`, `sign`, `to_i32` | x | */
FT__STEPS(detach, x)
FT__STEPS(floor, floorf(x))
FT__STEPS(ceil, ceilf(x))
FT__STEPS(round, rintf(x))
FT__STEPS(sign, x > 0 ? 1.0f : x < 0 ? -1.0f : x)
FT__WITHOUT_SLOPE(to_i32, float, int32_t, FT__INTEGERS, ft__same_shape, ft__whole(x))
/* In files: `to_f32` | x (I32) | */
FT__WITHOUT_SLOPE(to_f32, int32_t, float, 0, ft__integers_shape, (float)x)

/* The first float of these lists that is not 0, but for the row's own list; NULL: there is none. */
static const char *ft__other_field(const ft__row *row, const ft__field *const *lists, size_t count,
                                   const ft__options *options)
{
    const ft__field *field;
    float value;
    size_t i;
    for (i = 0; i < count; ++i)
        for (field = lists[i]; field->name && row->fields != lists[i]; ++field) {
            memcpy(&value, (const char *)options + field->offset, sizeof value);
            if (value != 0) return field->name; /* NaN too */
        }
    return NULL;
}

/* Refuses the options of other kinds, and those that make no sense. */
static void ft__check_unary(ft_model *m, const ft__row *row, const char *name,
                            const ft__options *options)
{
    static const ft__field *const all[] = {ft__affine_fields, ft__pow_fields, ft__clamp_fields};
    const ft_unary_options *o = &options->unary;
    const char *kind = row ? row->name : "", *field;
    if (!ft__usable(m)) return;
    field = ft__other_field(row, all, sizeof all / sizeof all[0], options);
    if (field)
        ft__fail(&m->context, FT_INVALID, "%s: %s has no effect here: the kind is %s",
                 name ? name : kind, field, kind);
    if (!ft__is_finite(o->scale) || !ft__is_finite(o->shift) || !ft__is_finite(o->exponent))
        ft__fail(&m->context, FT_INVALID, "%s: scale %g, shift %g, exponent %g: they must be"
                 " finite", name ? name : kind, (double)o->scale, (double)o->shift,
                 (double)o->exponent);
    if (row->fields == ft__pow_fields && o->exponent == 0)
        ft__fail(&m->context, FT_INVALID, "%s: pow needs an exponent that is not 0",
                 name ? name : kind);
    if (row->fields == ft__clamp_fields && !(o->min < o->max))
        ft__fail(&m->context, FT_INVALID, "%s: min is %g and max is %g: min must be below max"
                 " (-INFINITY, INFINITY: no bound)", name ? name : kind, (double)o->min,
                 (double)o->max);
}

static const ft__row *const ft__unaries[] = {
    &ft__row_exp, &ft__row_log, &ft__row_sqrt, &ft__row_abs, &ft__row_neg, &ft__row_erf,
    &ft__row_pow, &ft__row_clamp, &ft__row_affine, &ft__row_detach, &ft__row_floor, &ft__row_ceil,
    &ft__row_round, &ft__row_sign, &ft__row_to_i32, &ft__row_to_f32, NULL};

ft_node ft_unary(ft_model *m, const char *kind, const char *name, ft_node x,
                 ft_unary_options options)
{
    const ft__row *row;
    ft__options o;
    ft_node none = {0};
    if (!FT__HAS(m, ARITHMETIC)) return none;
    row = ft__row_of_kind(m, kind, ft__unaries, "function of a node");
    memset(&o, 0, sizeof o);
    o.unary = options;
    ft__check_unary(m, row, name, &o);
    if (row && row->fields == ft__affine_fields && o.unary.scale == 0) o.unary.scale = 1;
    return ft__add_node(m, row, name, &x, 1, &o.unary, sizeof o.unary);
}

/* A function without options. */
static ft_node ft__unary_of(ft_model *m, const char *kind, const char *name, ft_node x)
{
    ft_unary_options none;
    memset(&none, 0, sizeof none);
    return ft_unary(m, kind, name, x, none);
}

/* scale x + shift; a scale of 0 means 1 */
static ft_node ft__named_affine(ft_model *m, const char *name, ft_node x, float scale, float shift)
{
    ft_unary_options o;
    memset(&o, 0, sizeof o);
    o.scale = scale;
    o.shift = shift;
    return ft_unary(m, "affine", name, x, o);
}

static ft_node ft__at_least(ft_model *m, const char *name, ft_node x, float least)
{
    ft_unary_options o;
    memset(&o, 0, sizeof o);
    o.min = least;
    o.max = (float)HUGE_VAL;
    return ft_unary(m, "clamp", name, x, o);
}
