#pragma once
#include "interface/requirements.h"
#include "interface/types.h"
#include "interface/operators.h"
#include "platform/families.h"
#include "platform/context.h"
#include "basics/numbers.h"
#include "basics/threads.h"
#include "kernels/elementary.h"
#include "nodes/nodes.h"
#include "operators/table.h"
#include "operators/adding.h"
#include "operators/common.h"
#include "operators/arithmetic.h"

/* =============================================================================================
   [SECTION] operators/reduce: mean, sum, amax and others over axes
   ============================================================================================= */
static const ft__field ft__reduce_fields[] = {
    FT__INT(ft_reduce_options, axes), FT__INT(ft_reduce_options, count),
    FT__BOOL(ft_reduce_options, keep), FT__NO_MORE_FIELDS};

/* The axes that are reduced, as bits. */
static unsigned ft__reduced_axes(const ft__node *node, int rank)
{
    const ft_reduce_options *o = &node->options.reduce;
    unsigned axes = 0;
    int i;
    for (i = 0; i < o->count; ++i)
        axes |= 1u << (o->axes[i] < 0 ? o->axes[i] + rank : o->axes[i]);
    return o->count ? axes : (1u << rank) - 1;
}

static ft_status ft__reduce_shape(ft__context *c, const ft__node *node, const ft__tensor *input,
                                  int input_count, ft_shape *output)
{
    const ft_reduce_options *o = &node->options.reduce;
    const ft_shape *x = &input[0].shape;
    unsigned axes;
    int d;
    char text[80];
    bool fits = o->count >= 0 && o->count <= FINETUNE_MAX_RANK;
    for (d = 0; fits && d < o->count; ++d) fits = o->axes[d] >= -x->rank && o->axes[d] < x->rank;
    if (!fits)
        return ft__fail(c, FT_SHAPE, "%s: axis %d of %s: an axis must be at least %d and below %d,"
                        " and there are at most %d", node->name, d ? o->axes[d - 1] : o->count,
                        ft__shape_text(x, text), -x->rank, x->rank, FINETUNE_MAX_RANK);
    axes = ft__reduced_axes(node, x->rank);
    memset(output, 0, sizeof *output);
    for (d = 0; d < x->rank; ++d)
        if (!(axes >> d & 1)) output->size[output->rank++] = x->size[d];
        else if (o->keep) output->size[output->rank++] = 1;
    if (!output->rank) output->size[output->rank++] = 1;
    return ft__want_numbers(c, node, input, input_count);
}

/* The numbers of x that one number of y is made from: the steps in x of y's dimensions in memory,
   and those of the dimensions that are reduced, the longest first. */
typedef struct ft__reduction ft__reduction;
typedef void (*ft__reduce_one)(const ft__reduction *r, size_t i); /* number i of y */

struct ft__reduction {
    const ft__call *call;
    ft__strides stay, gone;
    size_t count;           /* numbers of x for each of y, ... */
    size_t last, step;      /* ... in rows of this many, so far apart */
    bool mean;
    ft__reduce_one one;
    size_t part;            /* numbers of y per index of the parallel loop */
};

static void ft__add_stride(ft__strides *s, size_t size, size_t step)
{
    int at = s->rank++;
    for (; at > 0 && s->step[at - 1] < step; --at) {
        s->size[at] = s->size[at - 1];
        s->step[at] = s->step[at - 1];
    }
    s->size[at] = size;
    s->step[at] = step;
}

static ft__reduction ft__reduction_of(const ft__call *call)
{
    const ft__tensor *x = &call->input[0], *y = &call->output;
    unsigned axes = ft__reduced_axes(call->node, x->shape.rank);
    bool keep = call->node->options.reduce.keep;
    size_t steps[FINETUNE_MAX_RANK];
    int d, to = 0;
    ft__reduction r;
    memset(&r, 0, sizeof r);
    r.call = call;
    r.count = 1;
    ft__memory_steps(x, steps);
    r.stay.rank = y->shape.rank;
    for (d = 0; d < r.stay.rank; ++d) r.stay.size[d] = 1;
    for (d = 0; d < x->shape.rank; ++d) {
        size_t size = (size_t)x->shape.size[d];
        if (axes >> d & 1) {
            ft__add_stride(&r.gone, size, steps[d]);
            r.count *= size;
            to += keep;
        } else {
            int at = ft__memory_axis(y, to++);
            r.stay.size[at] = size;
            r.stay.step[at] = steps[d];
        }
    }
    r.last = r.gone.size[r.gone.rank - 1];
    r.step = r.gone.step[r.gone.rank - 1];
    return r;
}

/* Where the row that starts with reduced number `at` of y's number i begins in x. */
static size_t ft__reduce_row(const ft__reduction *r, size_t i, size_t at)
{
    return ft__broadcast_index(&r->stay, i) + ft__broadcast_index(&r->gone, at);
}

static void ft__sum_one(const ft__reduction *r, size_t i)
{
    double sum = 0;
    size_t at, k;
    for (at = 0; at < r->count; at += r->last) {
        const float *x = r->call->input[0].value + ft__reduce_row(r, i, at);
        for (k = 0; k < r->last; ++k) sum += (double)x[k * r->step];
    }
    r->call->output.value[i] = (float)(r->mean ? sum / (double)r->count : sum);
}

/* NaN in x gives NaN. */
#define FT__EXTREME(name, sign, lowest)                                                           \
    static void ft__##name##_one(const ft__reduction *r, size_t i)                                \
    {                                                                                             \
        float best = lowest;                                                                      \
        size_t at, k;                                                                             \
        for (at = 0; at < r->count; at += r->last) {                                              \
            const float *x = r->call->input[0].value + ft__reduce_row(r, i, at);                  \
            for (k = 0; k < r->last; ++k)                                                         \
                if (x[k * r->step] sign best || x[k * r->step] != x[k * r->step])                 \
                    best = x[k * r->step];                                                        \
        }                                                                                         \
        r->call->output.value[i] = best;                                                          \
    }
FT__EXTREME(amax, >, -(float)HUGE_VAL)
FT__EXTREME(amin, <, (float)HUGE_VAL)

static float ft__finite_or_0(float x) { return ft__is_finite(x) ? x : 0; }

/* y = AFTER, once each x has changed `a`, which begins as FIRST, by EACH. */
#define FT__REDUCE_BY(name, FIRST, EACH, AFTER)                                                   \
    static void ft__##name##_one(const ft__reduction *r, size_t i)                                \
    {                                                                                             \
        double a = FIRST;                                                                         \
        float *y = &r->call->output.value[i];                                                     \
        size_t at, k;                                                                             \
        for (at = 0; at < r->count; at += r->last) {                                              \
            const float *row = r->call->input[0].value + ft__reduce_row(r, i, at);                \
            for (k = 0; k < r->last; ++k) {                                                       \
                float x = row[k * r->step];                                                       \
                EACH;                                                                             \
            }                                                                                     \
        }                                                                                         \
        *y = (float)(AFTER);                                                                      \
    }

/* dx is dy times SLOPE, which follows from x, y and `a`. */
#define FT__REDUCE_BACK(name, A, SLOPE)                                                           \
    static void ft__##name##_one_back(const ft__reduction *r, size_t i)                           \
    {                                                                                             \
        const ft__tensor *t = &r->call->input[0];                                                 \
        float y = r->call->output.value[i], dy = r->call->output.gradient[i];                     \
        ft__zeros a = A;                                                                          \
        size_t at, k;                                                                             \
        for (at = 0; at < r->count; at += r->last) {                                              \
            size_t place = ft__reduce_row(r, i, at);                                              \
            for (k = 0; k < r->last; ++k, place += r->step) {                                     \
                float x = t->value[place], d = dy * (SLOPE);                                      \
                t->gradient[place] = t->fresh ? d : t->gradient[place] + d;                       \
            }                                                                                     \
        }                                                                                         \
        (void)a;                                                                                  \
        (void)y;                                                                                  \
    }

/* The zeros among the numbers of y's number i, and the product of the others. */
typedef struct ft__zeros { size_t count; double product; } ft__zeros;

static const ft__zeros ft__no_zeros = {0, 1};

static ft__zeros ft__zeros_of(const ft__reduction *r, size_t i)
{
    ft__zeros z = ft__no_zeros;
    size_t at, k;
    for (at = 0; at < r->count; at += r->last) {
        const float *x = r->call->input[0].value + ft__reduce_row(r, i, at);
        for (k = 0; k < r->last; ++k)
            if (x[k * r->step] == 0) z.count += 1;
            else z.product *= (double)x[k * r->step];
    }
    return z;
}

FT__REDUCE_BY(prod, 1, a *= (double)x, a)
/* A single zero has the product of the others as its slope, which is 0 elsewhere. */
FT__REDUCE_BACK(prod, ft__zeros_of(r, i), a.count == 0 ? (float)(a.product / (double)x)
                : a.count == 1 && x == 0 ? (float)a.product : 0)
FT__REDUCE_BY(norm, 0, a += (double)x * (double)x, sqrt(a))
FT__REDUCE_BACK(norm, ft__no_zeros, y > 0 ? x / y : 0)
/* exp of the largest is 1, so that nothing overflows. */
FT__REDUCE_BY(logsumexp, (ft__amax_one(r, i), 0), a += (double)ft__exp(x - ft__finite_or_0(*y)),
              ft__ln((float)a) + ft__finite_or_0(*y))
FT__REDUCE_BACK(logsumexp, ft__no_zeros, ft__exp(x - y))

static void ft__sum_one_back(const ft__reduction *r, size_t i)
{
    const ft__tensor *x = &r->call->input[0];
    float each = r->call->output.gradient[i] / (r->mean ? (float)r->count : 1.0f);
    size_t at, k;
    for (at = 0; at < r->count; at += r->last) {
        float *d = x->gradient + ft__reduce_row(r, i, at);
        for (k = 0; k < r->last; ++k) d[k * r->step] = x->fresh ? each : d[k * r->step] + each;
    }
}

/* Equal largest, or smallest, numbers share the gradient. */
static void ft__amax_one_back(const ft__reduction *r, size_t i)
{
    const ft__tensor *x = &r->call->input[0];
    float y = r->call->output.value[i], each = r->call->output.gradient[i];
    size_t at, k, ties = 0;
    for (at = 0; at < r->count; at += r->last) {
        const float *value = x->value + ft__reduce_row(r, i, at);
        for (k = 0; k < r->last; ++k) ties += value[k * r->step] == y;
    }
    each /= (float)ties;
    for (at = 0; at < r->count; at += r->last) {
        size_t place = ft__reduce_row(r, i, at);
        for (k = 0; k < r->last; ++k, place += r->step) {
            float d = x->value[place] == y ? each : 0;
            x->gradient[place] = x->fresh ? d : x->gradient[place] + d;
        }
    }
}

static void ft__amin_one_back(const ft__reduction *r, size_t i) { ft__amax_one_back(r, i); }

static void ft__reduce_chunk(void *context, int index)
{
    const ft__reduction *r = (const ft__reduction *)context;
    size_t i = (size_t)index * r->part, end = i + r->part, count = ft__count(&r->call->output);
    for (; i < end && i < count; ++i) r->one(r, i);
}

static void ft__reduce(const ft__call *call, ft__reduce_one one, bool mean)
{
    ft__reduction r = ft__reduction_of(call);
    r.one = one;
    r.mean = mean;
    r.part = ft__lines_at_once(r.count);
    ft__parallel(call->context, (int)((ft__count(&call->output) + r.part - 1) / r.part),
                 ft__reduce_chunk, &r);
}

/* ---- In a loss of samples with weights: a sum or mean as if each were there as many times as its
   weight says. A sample's numbers lie side by side. ---- */

/* What a sum is divided by. */
static double ft__weighted_count(const ft__reduction *r, size_t samples)
{
    return r->mean ? ft__sum_of_weights(r->call, samples) * (double)(r->count / samples) : 1;
}

static void ft__weighted_one(const ft__reduction *r, size_t i)
{
    const ft__tensor *x = &r->call->input[0];
    size_t samples = (size_t)x->shape.size[0], each = ft__count(x) / samples, at, k;
    double sum = 0;
    for (at = 0; at < r->count; at += r->last) {
        size_t place = ft__reduce_row(r, i, at);
        for (k = 0; k < r->last; ++k, place += r->step)
            sum += (double)ft__sample_weight(r->call, place / each) * (double)x->value[place];
    }
    r->call->output.value[i] = (float)(sum / ft__weighted_count(r, samples));
}

static void ft__weighted_one_back(const ft__reduction *r, size_t i)
{
    const ft__tensor *x = &r->call->input[0];
    size_t samples = (size_t)x->shape.size[0], each = ft__count(x) / samples, at, k;
    double dy = (double)r->call->output.gradient[i] / ft__weighted_count(r, samples);
    for (at = 0; at < r->count; at += r->last) {
        size_t place = ft__reduce_row(r, i, at);
        for (k = 0; k < r->last; ++k, place += r->step) {
            float dx = (float)(dy * (double)ft__sample_weight(r->call, place / each));
            x->gradient[place] = x->fresh ? dx : x->gradient[place] + dx;
        }
    }
}

#define FT__REDUCE(name, kind, mean, flags)                                                       \
    static void ft__##name##_forward(const ft__call *call)                                        \
    {                                                                                             \
        bool weighted = ((flags) & FT__WEIGHS) != 0 && call->sample_weights;                      \
        ft__reduce(call, weighted ? ft__weighted_one : ft__##kind##_one, mean);                   \
    }                                                                                             \
    static void ft__##name##_backward(const ft__call *call)                                       \
    {                                                                                             \
        if (!call->input[0].gradient) return;                                                     \
        ft__reduce(call, ((flags) & FT__WEIGHS) != 0 && call->sample_weights                      \
                   ? ft__weighted_one_back : ft__##kind##_one_back, mean);                        \
    }                                                                                             \
    static const ft__row ft__row_##name = {                                                       \
        FT__NAMED(name), 1, 1, FT__WRITES | FT__MIXES | FT__ANY_LAYOUT | (flags),                 \
        ft__reduce_shape, ft__##name##_forward, FT__BACKWARD(ft__##name##_backward), NULL,        \
        ft__reduce_fields, NULL};

/* In files: `mean`, `sum`, `amax`, `amin`, `prod`, `norm`, `logsumexp` | x | `axes` to reduce (0 is
   the batch, -1 the last) and `count`, how many they are (0: all, to one number), `keep` false */
FT__REDUCE(mean, sum, true, FT__WEIGHS)
FT__REDUCE(sum, sum, false, FT__WEIGHS)
FT__REDUCE(amax, amax, false, FT__READS_X | FT__READS_Y)
FT__REDUCE(amin, amin, false, FT__READS_X | FT__READS_Y)
FT__REDUCE(prod, prod, false, FT__READS_X | FT__READS_Y)
FT__REDUCE(norm, norm, false, FT__READS_X | FT__READS_Y)
FT__REDUCE(logsumexp, logsumexp, false, FT__READS_X | FT__READS_Y)

static const ft__row *const ft__reductions[] = {
    &ft__row_mean, &ft__row_sum, &ft__row_amax, &ft__row_amin, &ft__row_prod, &ft__row_norm,
    &ft__row_logsumexp, NULL};

ft_node ft_reduce(ft_model *m, const char *kind, const char *name, ft_node x,
                  ft_reduce_options options)
{
    ft_node none = {0};
    const ft__row *row;
    if (!FT__HAS(m, ARITHMETIC)) return none;
    row = ft__row_of_kind(m, kind, ft__reductions, "reduction");
    return ft__add_node(m, row, name, &x, 1, &options, sizeof options);
}

/* Over one axis; with `keep` its size becomes 1. */
static ft_node ft__reduce_axis(ft_model *m, const char *kind, const char *name, ft_node x, int axis,
                               bool keep)
{
    ft_reduce_options o;
    memset(&o, 0, sizeof o);
    o.axes[0] = axis;
    o.count = 1;
    o.keep = keep;
    return ft_reduce(m, kind, name, x, o);
}

/* The mean of all numbers. */
static ft_node ft__mean_of(ft_model *m, const char *name, ft_node x)
{
    ft_reduce_options all;
    memset(&all, 0, sizeof all);
    return ft_reduce(m, "mean", name, x, all);
}
