#pragma once
#include "interface/requirements.h"
#include "interface/types.h"
#include "platform/context.h"
#include "basics/threads.h"
#include "nodes/nodes.h"
#include "operators/table.h"
#include "operators/adding.h"
#include "operators/common.h"
#include "operators/activations.h"

/* =============================================================================================
   [SECTION] operators/arithmetic: add and mul
   b is broadcast along sizes of 1 and along leading dimensions that it lacks.
   ============================================================================================= */
static ft_status ft__broadcast_shape(ft__context *c, const ft__node *node, const ft__tensor *input,
                                     int input_count, ft_shape *output)
{
    const ft_shape *a = &input[0].shape, *b = &input[1].shape;
    char left[80], right[80];
    int d, skip = a->rank - b->rank;
    bool fits = skip >= 0;
    *output = *a;
    for (d = 0; fits && d < b->rank; ++d)
        fits = b->size[d] == 1 || b->size[d] == a->size[d + skip];
    if (!fits)
        return ft__fail(c, FT_SHAPE, "%s: %s cannot be broadcast to %s", node->name,
                        ft__shape_text(b, right), ft__shape_text(a, left));
    return ft__want_numbers(c, node, input, input_count);
}

/* The sizes of a in memory order, and the stride of b along each: 0 where b is repeated. */
typedef struct ft__strides { int rank; size_t size[FINETUNE_MAX_RANK], step[FINETUNE_MAX_RANK]; }
    ft__strides;

static ft__strides ft__broadcast_strides(const ft__tensor *a, const ft__tensor *b)
{
    size_t steps[FINETUNE_MAX_RANK];
    int at, skip = a->shape.rank - b->shape.rank;
    ft__strides s;
    memset(&s, 0, sizeof s);
    s.rank = a->shape.rank;
    ft__memory_steps(b, steps);
    for (at = 0; at < s.rank; ++at) {
        int d = ft__memory_dimension(a, at);
        s.size[at] = (size_t)a->shape.size[d];
        if (d >= skip && b->shape.size[d - skip] != 1) s.step[at] = steps[d - skip];
    }
    return s;
}

/* The index in b of the element that belongs to element i of a. */
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

/* The number of neighbours in a that share one element of b (`repeated`), or whose elements of b
   are neighbours too. */
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

/* The sum of dy, or of dy x: eight partial sums in double, which are then added in order. */
static double ft__sum_products(const float *dy, const float *x, size_t count)
{
    double lanes[8] = {0};
    size_t i, l;
    for (i = 0; i + 8 <= count; i += 8)
        for (l = 0; l < 8; ++l) lanes[l] += (double)dy[i + l] * (x ? (double)x[i + l] : 1);
    for (; i < count; ++i) lanes[i % 8] += (double)dy[i] * (x ? (double)x[i] : 1);
    return ((lanes[0] + lanes[1]) + (lanes[2] + lanes[3]))
        + ((lanes[4] + lanes[5]) + (lanes[6] + lanes[7]));
}

typedef enum ft__broadcast_way { FT__BROADCAST_FORWARD, FT__BROADCAST_A, FT__BROADCAST_B }
    ft__broadcast_way;

/* Elements [i, i + count) of a, with element j of b (`repeated`) or [j, j + count). */
static void ft__broadcast_line(const ft__call *call, bool product, ft__broadcast_way way, size_t i,
                               size_t count, size_t j, bool repeated)
{
    const float *a = call->input[0].value + i, *b = call->input[1].value + j;
    const float *dy = way == FT__BROADCAST_FORWARD ? NULL : call->output.gradient + i;
    size_t step = repeated ? 0 : 1, n;
    bool same = call->input[1].fresh && ft__count(&call->input[0]) == ft__count(&call->input[1]);
    if (way == FT__BROADCAST_FORWARD) {
        float *y = call->output.value + i;
        if (product) for (n = 0; n < count; ++n) y[n] = a[n] * b[n * step];
        else for (n = 0; n < count; ++n) y[n] = a[n] + b[n * step];
    } else if (way == FT__BROADCAST_A) {
        float *da = call->input[0].gradient + i;
        if (da == dy) return; /* the gradient is there already */
        if (call->input[0].fresh && !product) memcpy(da, dy, count * sizeof *da);
        else if (call->input[0].fresh) for (n = 0; n < count; ++n) da[n] = dy[n] * b[n * step];
        else if (product) for (n = 0; n < count; ++n) da[n] += dy[n] * b[n * step];
        else for (n = 0; n < count; ++n) da[n] += dy[n];
    } else if (repeated)
        call->input[1].gradient[j] += (float)ft__sum_products(dy, product ? a : NULL, count);
    else {
        float *db = call->input[1].gradient + j;
        if (same && !product) memcpy(db, dy, count * sizeof *db);
        else if (same) for (n = 0; n < count; ++n) db[n] = dy[n] * a[n];
        else for (n = 0; n < count; ++n) db[n] += product ? dy[n] * a[n] : dy[n];
    }
}

typedef struct ft__broadcast_run {
    const ft__call *call;
    bool product;
    ft__broadcast_way way;
    size_t chunk;
} ft__broadcast_run;

static void ft__broadcast_chunk(void *context, int index)
{
    const ft__broadcast_run *run = (const ft__broadcast_run *)context;
    ft__strides b = ft__broadcast_strides(&run->call->input[0], &run->call->input[1]);
    size_t i = (size_t)index * run->chunk, end = ft__count(&run->call->input[0]), stretch, count;
    size_t start;
    bool repeated;
    stretch = ft__broadcast_stretch(&b, &repeated);
    if (end - i > run->chunk) end = i + run->chunk;
    start = i;
    for (; i < end; i += count) {
        count = stretch - i % stretch < end - i ? stretch - i % stretch : end - i;
        ft__broadcast_line(run->call, run->product, run->way, i, count,
                           ft__broadcast_index(&b, i), repeated);
    }
    if (run->call->fused && run->way == FT__BROADCAST_FORWARD)
        ft__activate(run->call->fused, run->call->fused_options, run->call->output.value + start,
                     end - start);
}

/* If b is repeated, one thread sums its gradient: several would add to the same elements. */
static void ft__broadcast(const ft__call *call, bool product, ft__broadcast_way way)
{
    size_t count = ft__count(&call->input[0]);
    bool serial = way == FT__BROADCAST_B && count != ft__count(&call->input[1]);
    ft__broadcast_run run;
    if (way == FT__BROADCAST_A && !call->input[0].gradient) return;
    if (way == FT__BROADCAST_B && !call->input[1].gradient) return;
    run.call = call;
    run.product = product;
    run.way = way;
    run.chunk = serial ? count : FT__CHUNK;
    if (serial && call->input[1].fresh) ft__zero(call->context, &call->input[1]);
    ft__parallel(call->context, serial ? 1 : ft__chunks(count), ft__broadcast_chunk, &run);
}

static void ft__add_forward(const ft__call *call)
{
    ft__broadcast(call, false, FT__BROADCAST_FORWARD);
}

static void ft__add_backward(const ft__call *call)
{
    ft__broadcast(call, false, FT__BROADCAST_A);
    ft__broadcast(call, false, FT__BROADCAST_B);
}

static void ft__mul_forward(const ft__call *call)
{
    ft__broadcast(call, true, FT__BROADCAST_FORWARD);
}

static void ft__mul_backward(const ft__call *call)
{
    ft__broadcast(call, true, FT__BROADCAST_A);
    ft__broadcast(call, true, FT__BROADCAST_B);
}

static const ft__row ft__row_add = {
    FT__NAMED(add), 2, 2, FT__WRITES | FT__WRITES_ALL | FT__FUSES | FT__IN_PLACE | FT__BROADCASTS
        | FT__ANY_LAYOUT,
    ft__broadcast_shape, ft__add_forward, ft__add_backward, NULL, ft__no_fields, NULL};

static const ft__row ft__row_mul = {
    FT__NAMED(mul), 2, 2, FT__LAYER | FT__WRITES_ALL | FT__BROADCASTS | FT__ANY_LAYOUT,
    ft__broadcast_shape, ft__mul_forward, ft__mul_backward, NULL, ft__no_fields, NULL};

ft_node ft_add(ft_model *m, const char *name, ft_node a, ft_node b)
{
    return ft__add_pair(m, &ft__row_add, name, a, b);
}

ft_node ft_mul(ft_model *m, const char *name, ft_node a, ft_node b)
{
    return ft__add_pair(m, &ft__row_mul, name, a, b);
}
