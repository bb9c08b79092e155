#pragma once
#include "interface/requirements.h"
#include "interface/types.h"
#include "platform/families.h"
#include "platform/context.h"
#include "basics/threads.h"
#include "kernels/elementary.h"
#include "nodes/nodes.h"
#include "operators/table.h"
#include "operators/adding.h"
#include "operators/common.h"
#include "operators/activations.h"

/* =============================================================================================
   [SECTION] operators/arithmetic: Arithmetic of several tensors: add, mul, maximum, where, ...
   Inputs are broadcast to each other as in PyTorch: sizes of 1, and leading dimensions that one
   lacks, are repeated.
   ============================================================================================= */
enum { FT__MOST_TERMS = 3 }; /* inputs of such an operator */

static ft_status ft__broadcast_shape(ft__context *c, const ft__node *node, const ft__tensor *input,
                                     int input_count, ft_shape *output)
{
    char left[80], right[80];
    int d, i;
    *output = input[0].shape;
    for (i = 1; i < input_count; ++i) {
        const ft_shape *b = &input[i].shape;
        ft_shape a = *output;
        if (b->rank > a.rank) output->rank = b->rank;
        for (d = 1; d <= output->rank; ++d) { /* from the last dimension */
            int size = d <= a.rank ? a.size[a.rank - d] : 1;
            int other = d <= b->rank ? b->size[b->rank - d] : 1;
            if (size != other && size != 1 && other != 1)
                return ft__fail(c, FT_SHAPE, "%s: %s cannot be broadcast to %s", node->name,
                                ft__shape_text(b, right), ft__shape_text(&a, left));
            output->size[output->rank - d] = size == 1 ? other : size;
        }
    }
    return ft__want_numbers(c, node, input, input_count);
}

/* The sizes of y in memory order, and the stride of an input along each: 0 where it is repeated. */
typedef struct ft__strides { int rank; size_t size[FINETUNE_MAX_RANK], step[FINETUNE_MAX_RANK]; }
    ft__strides;

static ft__strides ft__broadcast_strides(const ft__tensor *y, const ft__tensor *b)
{
    size_t steps[FINETUNE_MAX_RANK];
    int at, skip = y->shape.rank - b->shape.rank;
    ft__strides s;
    memset(&s, 0, sizeof s);
    s.rank = y->shape.rank;
    ft__memory_steps(b, steps);
    for (at = 0; at < s.rank; ++at) {
        int d = ft__memory_dimension(y, at);
        s.size[at] = (size_t)y->shape.size[d];
        if (d >= skip && b->shape.size[d - skip] != 1) s.step[at] = steps[d - skip];
    }
    return s;
}

/* The index in b of the number that belongs to number i of y. */
static size_t ft__broadcast_index(const ft__strides *s, size_t i)
{
    size_t index = 0;
    int d;
    for (d = s->rank - 1; d >= 0; --d) {
        index += i % s->size[d] * s->step[d];
        i /= s->size[d];
    }
    return index;
}

/* How many neighbours in y share one number of b (`repeated`), or have neighbours in b too. */
static size_t ft__broadcast_stretch(const ft__strides *s, bool *repeated)
{
    size_t stretch = 1;
    int d;
    bool known = false;
    *repeated = true;
    for (d = s->rank - 1; d >= 0; --d) {
        if (s->size[d] == 1) continue;
        if (!known) *repeated = s->step[d] == 0;
        known = true;
        if (s->step[d] != (*repeated ? 0 : stretch)) break;
        stretch *= s->size[d];
    }
    return stretch;
}

/* Neighbours in y, and the numbers that they are computed from. */
typedef struct ft__line {
    const float *x[FT__MOST_TERMS];
    size_t step[FT__MOST_TERMS]; /* 1; 0: all neighbours share the number */
    size_t count;
} ft__line;

typedef struct ft__terms {  /* what an operator computes of a line */
    void (*values)(const ft__line *l, float *y);
    void (*slopes)(const ft__line *l, int input, float *slopes); /* dy/dx; NULL: 1 for all */
} ft__terms;

#if defined(__GNUC__) && !defined(__clang__) && !defined(FINETUNE_NO_SIMD)
#pragma GCC push_options /* vectors, with the same bits; -O2 makes none of loops of any length */
#pragma GCC optimize("O3", "fp-contract=off")
#endif
#define FT__SLOPES ((size_t)256) /* slopes that are computed at a time */

/* The part [at, at + count) of a line. */
static ft__line ft__line_part(const ft__line *l, size_t at, size_t count)
{
    ft__line part = *l;
    int i;
    for (i = 0; i < FT__MOST_TERMS; ++i)
        if (part.x[i]) part.x[i] += at * part.step[i];
    part.count = count;
    return part;
}

/* d += or, with `write`, = dy times the slope, number by number. */
static void ft__line_gradient(const ft__terms *terms, const ft__line *l, int input,
                              const float *dy, float *d, bool write)
{
    float slopes[FT__SLOPES];
    size_t at, count = l->count, i;
    if (!terms->slopes) {
        if (write) memcpy(d, dy, count * sizeof *d);
        else for (i = 0; i < count; ++i) d[i] += dy[i];
        return;
    }
    for (at = 0; at < l->count; at += count, dy += count, d += count) {
        ft__line part;
        count = l->count - at < FT__SLOPES ? l->count - at : FT__SLOPES;
        part = ft__line_part(l, at, count);
        terms->slopes(&part, input, slopes);
        if (write) for (i = 0; i < count; ++i) d[i] = dy[i] * slopes[i];
        else for (i = 0; i < count; ++i) d[i] += dy[i] * slopes[i];
    }
}

/* The sum of dy times the slope: eight partial sums in double, which are then added in order. */
static double ft__line_sum(const ft__terms *terms, const ft__line *l, int input, const float *dy)
{
    double lanes[8] = {0};
    float slopes[FT__SLOPES];
    size_t at, count, i;
    for (i = 0; i < FT__SLOPES; ++i) slopes[i] = 1;
    for (at = 0; at < l->count; at += count, dy += count) {
        ft__line part;
        count = l->count - at < FT__SLOPES ? l->count - at : FT__SLOPES;
        part = ft__line_part(l, at, count);
        if (terms->slopes) terms->slopes(&part, input, slopes);
        for (i = 0; i < count; ++i) lanes[i % 8] += (double)dy[i] * (double)slopes[i];
    }
    return ((lanes[0] + lanes[1]) + (lanes[2] + lanes[3]))
        + ((lanes[4] + lanes[5]) + (lanes[6] + lanes[7]));
}

typedef struct ft__broadcast_run {
    const ft__call *call;
    const ft__terms *terms;
    int input;              /* whose gradient is computed; -1: forward */
    size_t chunk;           /* numbers of y */
} ft__broadcast_run;

/* Whether an input is as large as the output, so that each of its numbers is used once. */
static bool ft__is_whole(const ft__call *call, int input)
{
    return ft__count(&call->input[input]) == ft__count(&call->output);
}

/* Number `at` of y and its neighbours; `place`: the index in the input whose gradient it is. */
static void ft__broadcast_line(const ft__broadcast_run *run, const ft__line *l, size_t at,
                               size_t place)
{
    const ft__tensor *x = &run->call->input[run->input < 0 ? 0 : run->input];
    const float *dy = run->input < 0 ? NULL : run->call->output.gradient + at;
    bool write = run->input >= 0 && x->fresh && ft__is_whole(run->call, run->input);
    if (run->input < 0) run->terms->values(l, run->call->output.value + at);
    else if (!l->step[run->input]) { /* of one number alone, too */
        float sum = (float)ft__line_sum(run->terms, l, run->input, dy);
        x->gradient[place] = write ? sum : x->gradient[place] + sum;
    } else ft__line_gradient(run->terms, l, run->input, dy, x->gradient + place, write);
}

static void ft__broadcast_chunk(void *context, int index)
{
    const ft__broadcast_run *run = (const ft__broadcast_run *)context;
    const ft__call *call = run->call;
    ft__strides s[FT__MOST_TERMS];
    size_t at = (size_t)index * run->chunk, end = ft__count(&call->output), stretch = end, start;
    ft__line l;
    int i;
    memset(&l, 0, sizeof l);
    if (end - at > run->chunk) end = at + run->chunk;
    for (i = 0; i < call->input_count; ++i) {
        size_t own;
        bool repeated;
        s[i] = ft__broadcast_strides(&call->output, &call->input[i]);
        own = ft__broadcast_stretch(&s[i], &repeated);
        l.step[i] = repeated ? 0 : 1;
        if (own < stretch) stretch = own; /* it divides those of the others */
    }
    for (start = at; at < end; at += l.count) {
        size_t place = 0;
        l.count = stretch - at % stretch < end - at ? stretch - at % stretch : end - at;
        for (i = 0; i < call->input_count; ++i) {
            size_t from = ft__broadcast_index(&s[i], at);
            l.x[i] = call->input[i].value + from;
            if (i == run->input) place = from;
        }
        ft__broadcast_line(run, &l, at, place);
    }
    if (call->fused && run->input < 0)
        ft__activate(call, call->output.value + start, end - start);
}

/* Forward, or an input's gradient. If that input is repeated, one thread sums: several would add to
   the same numbers. */
static void ft__broadcast(const ft__call *call, const ft__terms *terms, int input)
{
    const ft__tensor *x = &call->input[input < 0 ? 0 : input];
    bool serial = input >= 0 && !ft__is_whole(call, input);
    ft__broadcast_run run;
    if (input >= 0 && (!x->gradient || x->gradient == call->output.gradient)) return;
    run.call = call;
    run.terms = terms;
    run.input = input;
    run.chunk = serial ? ft__count(&call->output) : FT__CHUNK;
    if (serial && x->fresh) ft__zero(call->context, x);
    ft__parallel(call->context, serial ? 1 : ft__chunks(ft__count(&call->output)),
                 ft__broadcast_chunk, &run);
}

/* Makes the operator of two inputs a and b: y = F, and the slopes DA = dy/da and DB = dy/db. */
#define FT__PAIR_VALUES(name, F)                                                                  \
    static void ft__##name##_line(const ft__line *l, float *y)                                    \
    {                                                                                             \
        const float *x = l->x[0], *z = l->x[1];                                                   \
        float a = x[0], b = z[0];                                                                 \
        size_t i;                                                                                 \
        if (l->step[0] && l->step[1])                                                             \
            for (i = 0; i < l->count; ++i) {                                                      \
                a = x[i];                                                                         \
                b = z[i];                                                                         \
                y[i] = F;                                                                         \
            }                                                                                     \
        else if (l->step[0])                                                                      \
            for (i = 0; i < l->count; ++i) {                                                      \
                a = x[i];                                                                         \
                y[i] = F;                                                                         \
            }                                                                                     \
        else                                                                                      \
            for (i = 0; i < l->count; ++i) {                                                      \
                b = z[i * l->step[1]];                                                            \
                y[i] = F;                                                                         \
            }                                                                                     \
    }

#define FT__PAIR_SLOPES(name, DA, DB)                                                             \
    static void ft__##name##_line_slopes(const ft__line *l, int input, float *slopes)             \
    {                                                                                             \
        const float *x = l->x[0], *z = l->x[1];                                                   \
        bool apart = l->step[0] && l->step[1];                                                    \
        size_t i;                                                                                 \
        for (i = 0; i < (apart ? l->count : 0); ++i) {                                            \
            float a = x[i], b = z[i];                                                             \
            (void)a;                                                                              \
            (void)b;                                                                              \
            slopes[i] = input ? (DB) : (DA);                                                      \
        }                                                                                         \
        for (; i < l->count; ++i) {                                                               \
            float a = x[i * l->step[0]], b = z[i * l->step[1]];                                   \
            (void)a;                                                                              \
            (void)b;                                                                              \
            slopes[i] = input ? (DB) : (DA);                                                      \
        }                                                                                         \
    }

#define FT__PAIR_FORWARD(name, line_slopes)                                                       \
    static const ft__terms ft__##name##_terms = {ft__##name##_line, line_slopes};                 \
    static void ft__##name##_forward(const ft__call *call)                                        \
    {                                                                                             \
        ft__broadcast(call, &ft__##name##_terms, -1);                                             \
    }

#define FT__PAIR_ROW(name, line_slopes, flags)                                                    \
    FT__PAIR_FORWARD(name, line_slopes)                                                           \
    static void ft__##name##_backward(const ft__call *call)                                       \
    {                                                                                             \
        ft__broadcast(call, &ft__##name##_terms, 0);                                              \
        ft__broadcast(call, &ft__##name##_terms, 1);                                              \
    }                                                                                             \
    static const ft__row ft__row_##name = {                                                       \
        FT__NAMED(name), 2, 2, (flags) | FT__FUSES | FT__WRITES | FT__WRITES_ALL | FT__BROADCASTS \
            | FT__MIXES | FT__ANY_LAYOUT | FT__BY_STEP,                                           \
        ft__broadcast_shape, ft__##name##_forward, FT__BACKWARD(ft__##name##_backward), NULL,     \
        ft__no_fields, NULL};

#define FT__PAIR(name, F, DA, DB)                                                                 \
    FT__PAIR_VALUES(name, F)                                                                      \
    FT__PAIR_SLOPES(name, DA, DB)                                                                 \
    FT__PAIR_ROW(name, ft__##name##_line_slopes, FT__READS_X)

/* In files: `add`, `sub`, `mul`, `div`, `maximum`, `minimum` | a, b | */
FT__PAIR_VALUES(add, a + b)
FT__PAIR_ROW(add, NULL, FT__IN_PLACE)
FT__PAIR(mul, a * b, b, a)
FT__PAIR(sub, a - b, 1.0f, -1.0f)
FT__PAIR(div, a / b, 1.0f / b, -(a / b) / b)

/* NaN in a or b gives NaN; two equal numbers share the gradient, as in PyTorch. */
FT__PAIR(maximum, a > b || a != a ? a : b, a > b ? 1.0f : a < b ? 0.0f : 0.5f,
         b > a ? 1.0f : b < a ? 0.0f : 0.5f)
FT__PAIR(minimum, a < b || a != a ? a : b, a < b ? 1.0f : a > b ? 0.0f : 0.5f,
         b < a ? 1.0f : b > a ? 0.0f : 0.5f)

/* In files: `power`, `expand_as` | a, b | */
/* The slopes are PyTorch's: 0 for an exponent of 0, and of 0 to a power that is not negative. */
FT__PAIR(power, ft__pow(a, b), b == 0 ? 0 : b * ft__pow(a, b - 1),
         a == 0 && b >= 0 ? 0 : ft__pow(a, b) * ft__ln(a))
#if defined(__GNUC__) && !defined(__clang__) && !defined(FINETUNE_NO_SIMD)
#pragma GCC pop_options
#endif

/* expand_as: a, where the shapes are broadcast; b gets no gradient. */
FT__PAIR_VALUES(expand_as, ((void)b, a))
FT__PAIR_FORWARD(expand_as, NULL)
static void ft__expand_as_backward(const ft__call *call)
{
    ft__broadcast(call, &ft__expand_as_terms, 0);
}

static const ft__row ft__row_expand_as = {
    FT__NAMED(expand_as), 2, 2,
    FT__WRITES | FT__BROADCASTS | FT__MIXES | FT__ANY_LAYOUT | FT__BY_STEP,
    ft__broadcast_shape, ft__expand_as_forward, FT__BACKWARD(ft__expand_as_backward), NULL,
    ft__no_fields, NULL};

/* Comparisons: 1 or 0, without a gradient. */
#define FT__COMPARISON(name, F)                                                                   \
    FT__PAIR_VALUES(name, F)                                                                      \
    FT__PAIR_FORWARD(name, NULL)                                                                  \
    static const ft__row ft__row_##name = {                                                       \
        FT__NAMED(name), 2, 2, FT__BROADCASTS | FT__MIXES | FT__ANY_LAYOUT,                       \
        ft__broadcast_shape, ft__##name##_forward, NULL, NULL, ft__no_fields, NULL};

/* In files: `equal`, `not_equal`, `less`, `less_equal`, `greater`, `greater_equal` | a, b | */
FT__COMPARISON(equal, a == b ? 1.0f : 0.0f)
FT__COMPARISON(not_equal, a != b ? 1.0f : 0.0f)
FT__COMPARISON(less, a < b ? 1.0f : 0.0f)
FT__COMPARISON(less_equal, a <= b ? 1.0f : 0.0f)
FT__COMPARISON(greater, a > b ? 1.0f : 0.0f)
FT__COMPARISON(greater_equal, a >= b ? 1.0f : 0.0f)

/* ---- where: a if the condition is not 0, else b; the condition gets no gradient ---- */

static void ft__where_line(const ft__line *l, float *y)
{
    size_t i;
    for (i = 0; i < l->count; ++i)
        y[i] = l->x[0][i * l->step[0]] != 0 ? l->x[1][i * l->step[1]] : l->x[2][i * l->step[2]];
}

static void ft__where_line_slopes(const ft__line *l, int input, float *slopes)
{
    size_t i;
    for (i = 0; i < l->count; ++i)
        slopes[i] = (l->x[0][i * l->step[0]] != 0) == (input == 1) ? 1.0f : 0.0f;
}

static const ft__terms ft__where_terms = {ft__where_line, ft__where_line_slopes};

static void ft__where_forward(const ft__call *call) { ft__broadcast(call, &ft__where_terms, -1); }

static void ft__where_backward(const ft__call *call)
{
    ft__broadcast(call, &ft__where_terms, 1);
    ft__broadcast(call, &ft__where_terms, 2);
}

/* In files: `where` | condition, a, b | */
static const ft__row ft__row_where = {
    FT__NAMED(where), 3, 3,
    FT__READS_X | FT__WRITES_ALL | FT__BROADCASTS | FT__MIXES | FT__ANY_LAYOUT,
    ft__broadcast_shape, ft__where_forward, FT__BACKWARD(ft__where_backward), NULL, ft__no_fields,
    NULL};

ft_node ft_add(ft_model *m, const char *name, ft_node a, ft_node b)
{
    return ft__add_pair(m, &ft__row_add, name, a, b, NULL, 0);
}

ft_node ft_mul(ft_model *m, const char *name, ft_node a, ft_node b)
{
    return ft__add_pair(m, &ft__row_mul, name, a, b, NULL, 0);
}

static const ft__row *const ft__binaries[] = {
    &ft__row_add, &ft__row_mul, &ft__row_sub, &ft__row_div, &ft__row_maximum, &ft__row_minimum,
    &ft__row_equal, &ft__row_not_equal, &ft__row_less, &ft__row_less_equal, &ft__row_greater,
    &ft__row_greater_equal, &ft__row_power, &ft__row_expand_as, NULL};

ft_node ft_binary(ft_model *m, const char *kind, const char *name, ft_node a, ft_node b)
{
    ft_node none = {0};
    if (!FT__HAS(m, ARITHMETIC)) return none;
    return ft__add_pair(m, ft__row_of_kind(m, kind, ft__binaries, "function of two nodes"), name,
                        a, b, NULL, 0);
}

ft_node ft_where(ft_model *m, const char *name, ft_node condition, ft_node a, ft_node b)
{
    ft_node none = {0};
    ft_node inputs[3];
    if (!FT__HAS(m, ARITHMETIC)) return none;
    inputs[0] = condition;
    inputs[1] = a;
    inputs[2] = b;
    return ft__add_node(m, &ft__row_where, name, inputs, 3, NULL, 0);
}
