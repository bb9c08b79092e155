#pragma once
#include "interface/requirements.h"
#include "interface/types.h"
#include "platform/context.h"
#include "basics/threads.h"
#include "nodes/nodes.h"
#include "operators/activations.h"
#include "operators/convolution.h"

/* =============================================================================================
   [SECTION] operators/shape: Shape and arithmetic
   ============================================================================================= */
static const ft__field ft__reshape_fields[] = {
    {"rank", offsetof(ft__reshape_options, rank), 1, 'i'},
    {"size", offsetof(ft__reshape_options, size), FINETUNE_MAX_RANK, 'i'}, {NULL, 0, 0, 0}};
static const ft__field ft__concat_fields[] = {
    {"axis", offsetof(ft__concat_options, axis), 1, 'i'}, {NULL, 0, 0, 0}};
static const ft__field ft__pad_fields[] = {
    {"before", offsetof(ft_pad_options, before), FINETUNE_MAX_RANK, 'i'},
    {"after", offsetof(ft_pad_options, after), FINETUNE_MAX_RANK, 'i'}, {NULL, 0, 0, 0}};
static const ft__field ft__slice_fields[] = {
    {"start", offsetof(ft_slice_options, start), FINETUNE_MAX_RANK, 'i'},
    {"stop", offsetof(ft_slice_options, stop), FINETUNE_MAX_RANK, 'i'},
    {"step", offsetof(ft_slice_options, step), FINETUNE_MAX_RANK, 'i'}, {NULL, 0, 0, 0}};

/* The product of the sizes behind the first dimension, FT_LENGTH left out where `lengths` counts
   those; 0 when it is more than an int holds. */
static int ft__sample_size(const ft_shape *shape, int *lengths)
{
    int64_t product = 1;
    int d;
    if (lengths) *lengths = 0;
    for (d = 1; d < shape->rank; ++d) {
        if (lengths && shape->size[d] == FT_LENGTH) {
            *lengths += 1;
            continue;
        }
        if (shape->size[d] < 1) return 0;
        product *= shape->size[d];
        if (product > INT_MAX) return 0;
    }
    return (int)product;
}

static ft_status ft__flatten_shape(ft__context *c, const ft__node *node, const ft__tensor *input,
                                   int input_count, ft_shape *output)
{
    memset(output, 0, sizeof *output);
    output->rank = 2;
    output->size[0] = input[0].shape.size[0];
    output->size[1] = ft__sample_size(&input[0].shape, NULL);
    if (input[0].shape.rank < 1 || output->size[1] < 1)
        return ft__fail(c, FT_SHAPE, "%s: its input cannot be flattened", node->name);
    return ft__want_numbers(c, node, input, input_count);
}

static ft_status ft__reshape_shape(ft__context *c, const ft__node *node, const ft__tensor *input,
                                   int input_count, ft_shape *output)
{
    const ft__reshape_options *o = &node->options.reshape;
    int lengths, size = ft__sample_size(&input[0].shape, &lengths), unknown = -1, d;
    int64_t known = 1;
    memset(output, 0, sizeof *output);
    if (o->rank < 0 || o->rank >= FINETUNE_MAX_RANK || input[0].shape.rank < 1)
        return ft__fail(c, FT_SHAPE, "%s: a shape of %d dimensions", node->name, o->rank);
    output->rank = o->rank + 1;
    output->size[0] = input[0].shape.size[0];
    for (d = 0; d < o->rank; ++d) {
        output->size[d + 1] = o->size[d];
        if (o->size[d] == FT_LENGTH) lengths -= 1;
        else if (o->size[d] == -1 && unknown < 0) unknown = d + 1;
        else if (o->size[d] < 1) known = 0;
        else known = known > INT_MAX ? known : known * o->size[d];
    }
    if (unknown > 0 && known > 0 && size % known == 0) {
        output->size[unknown] = (int)(size / known);
        known = size;
    }
    if (known != size || size < 1 || lengths != 0)
        return ft__fail(c, FT_SHAPE, "%s: a sample of %d numbers does not fit the new shape",
                        node->name, size);
    return ft__want_numbers(c, node, input, input_count);
}

/* Where a number that is at `i` of a sample, in the order that users see, lies in memory. */
static size_t ft__memory_place(const ft__tensor *t, size_t i)
{
    size_t plane;
    if (!t->channels_last) return i;
    plane = (size_t)t->shape.size[2] * (size_t)t->shape.size[3];
    return i % plane * (size_t)t->shape.size[1] + i / plane;
}

/* The same numbers in another shape: they keep the order that users see. Between tensors with the
   channels last and others that is a turn; between two of the former, number by number. */
static void ft__copy_run(const ft__call *call, bool backward)
{
    const ft__tensor *x = &call->input[0], *y = &call->output;
    const float *from = backward ? y->gradient : x->value;
    float *to = backward ? x->gradient : y->value;
    size_t count = ft__count(y), sample, each, n, i;
    if (!to) return;
    if (x->channels_last != y->channels_last) {
        ft__turn(call->context, x->channels_last ? &x->shape : &y->shape,
                 x->channels_last != backward ? FT__TO_FIRST : FT__TO_LAST, from, to, backward);
        return;
    }
    if (!backward && !x->channels_last) memcpy(to, from, count * sizeof(float));
    each = count / (size_t)x->shape.size[0];
    for (n = 0; (backward || x->channels_last) && n < count; n += each)
        for (i = 0; i < each; ++i) {
            sample = n + ft__memory_place(backward ? x : y, i);
            to[sample] = (backward ? to[sample] : 0) + from[n + ft__memory_place(backward ? y : x,
                                                                                 i)];
        }
}

static void ft__copy_forward(const ft__call *call) { ft__copy_run(call, false); }
static void ft__copy_backward(const ft__call *call) { ft__copy_run(call, true); }

/* ---- add, mul: b is repeated along sizes of 1 and along leading dimensions that it lacks ---- */

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
        return ft__fail(c, FT_SHAPE, "%s: %s does not repeat to %s", node->name,
                        ft__shape_text(b, right), ft__shape_text(a, left));
    return ft__want_numbers(c, node, input, input_count);
}

/* The sizes of a as they lie in memory, and how far b moves along each: 0 where it is repeated. */
typedef struct ft__strides { int rank; size_t size[FINETUNE_MAX_RANK], step[FINETUNE_MAX_RANK]; }
    ft__strides;

static ft__strides ft__broadcast_strides(const ft__tensor *a, const ft__tensor *b)
{
    ft_shape in_memory = ft__memory_shape(b);
    size_t step = 1, steps[FINETUNE_MAX_RANK];
    int d, skip = a->shape.rank - b->shape.rank;
    ft__strides s;
    memset(&s, 0, sizeof s);
    s.rank = a->shape.rank;
    for (d = b->shape.rank - 1; d >= 0; --d) {
        steps[d] = step;
        step *= (size_t)in_memory.size[d];
    }
    for (d = 0; d < s.rank; ++d) {
        int at = ft__memory_axis(a, d);
        s.size[at] = (size_t)a->shape.size[d];
        if (d >= skip && b->shape.size[d - skip] != 1)
            s.step[at] = steps[ft__memory_axis(b, d - skip)];
    }
    return s;
}

/* Where in b the element lies that belongs to element i of a. */
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

/* How many neighbours in a share one element of b (`repeated`), or have neighbours in b too. */
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

/* The sum of dy, or of dy x: eight sums side by side in double, then those in order. */
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

/* Elements [i, i + count) of a, with which either b[0] or b[0 .. count - 1] goes. */
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

/* b's gradient, where b is repeated, is summed on one thread: its elements would have no owner. */
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

/* ---- concat: inputs side by side along one axis ---- */

static ft_status ft__concat_shape(ft__context *c, const ft__node *node, const ft__tensor *input,
                                  int input_count, ft_shape *output)
{
    int axis = node->options.concat.axis, i, d;
    char text[80];
    *output = input[0].shape;
    if (axis < 1 || axis >= output->rank || output->size[axis] < 1)
        return ft__fail(c, FT_SHAPE, "%s: axis %d of %s", node->name, axis,
                        ft__shape_text(output, text));
    for (i = 1; i < input_count; ++i) {
        bool fits = input[i].shape.rank == output->rank;
        for (d = 0; fits && d < output->rank; ++d)
            fits = d == axis ? input[i].shape.size[d] > 0
                             : input[i].shape.size[d] == output->size[d];
        if (!fits || output->size[axis] > INT_MAX - input[i].shape.size[axis])
            return ft__fail(c, FT_SHAPE, "%s: input %d, %s, does not fit the first but for axis %d",
                            node->name, i + 1, ft__shape_text(&input[i].shape, text), axis);
        output->size[axis] += input[i].shape.size[axis];
    }
    return ft__want_numbers(c, node, input, input_count);
}

static void ft__concat_run(const ft__call *call, bool backward)
{
    int axis = ft__memory_axis(&call->output, call->node->options.concat.axis), i;
    ft_shape shape = ft__memory_shape(&call->output);
    ft__axis whole = ft__split_axis(&shape, axis);
    size_t offset = 0, outer, j;
    for (i = 0; i < call->input_count; ++i) {
        ft_shape part = ft__memory_shape(&call->input[i]);
        size_t block = (size_t)part.size[axis] * whole.inner;
        for (outer = 0; outer < whole.outer; ++outer) {
            size_t to = outer * whole.size * whole.inner + offset;
            if (!backward) memcpy(call->output.value + to, call->input[i].value + outer * block,
                                  block * sizeof(float));
            else if (call->input[i].gradient)
                for (j = 0; j < block; ++j)
                    call->input[i].gradient[outer * block + j] += call->output.gradient[to + j];
        }
        offset += block;
    }
}

static void ft__concat_forward(const ft__call *call) { ft__concat_run(call, false); }
static void ft__concat_backward(const ft__call *call) { ft__concat_run(call, true); }

/* ---- pad and slice: each the other's derivative, a grid embedded into a larger one ---- */

/* The smaller tensor's element (i0, i1, ...) lies at start + i * step of the larger one. */
typedef struct ft__embedding { ft_shape small, large; int start[FINETUNE_MAX_RANK];
                               int step[FINETUNE_MAX_RANK]; } ft__embedding;

/* Calls for every line of the last dimension: where it starts in both. */
static size_t ft__embedded_line(const ft__embedding *e, size_t line)
{
    size_t index = 0, stride = (size_t)e->large.size[e->large.rank - 1];
    int d;
    index = (size_t)e->start[e->large.rank - 1];
    for (d = e->large.rank - 2; d >= 0; --d) {
        size_t at = line % (size_t)e->small.size[d];
        index += ((size_t)e->start[d] + at * (size_t)e->step[d]) * stride;
        stride *= (size_t)e->large.size[d];
        line /= (size_t)e->small.size[d];
    }
    return index;
}

enum { FT__TO_SMALL, FT__TO_LARGE };

/* Copies, or adds, along the embedding in either direction. */
static void ft__embed(const ft__embedding *e, float *small, float *large, int direction, bool add)
{
    size_t width = (size_t)e->small.size[e->small.rank - 1], lines, line, i;
    size_t step = (size_t)e->step[e->small.rank - 1];
    lines = ft__shape_count(&e->small) / width;
    for (line = 0; line < lines; ++line) {
        float *s = small + line * width, *l = large + ft__embedded_line(e, line);
        for (i = 0; i < width; ++i) {
            float *to = direction == FT__TO_SMALL ? &s[i] : &l[i * step];
            float from = direction == FT__TO_SMALL ? l[i * step] : s[i];
            *to = add ? *to + from : from;
        }
    }
}

static ft_status ft__pad_shape(ft__context *c, const ft__node *node, const ft__tensor *input,
                               int input_count, ft_shape *output)
{
    const ft_pad_options *o = &node->options.pad;
    int d;
    *output = input[0].shape;
    for (d = 0; d < output->rank; ++d) {
        bool fixed = output->size[d] > 0; /* neither the batch nor the length */
        if (o->before[d] < 0 || o->after[d] < 0 || (!fixed && (o->before[d] || o->after[d]))
            || (d == 0 && (o->before[0] || o->after[0]))
            || o->before[d] > 1 << 24 || o->after[d] > 1 << 24)
            return ft__fail(c, FT_SHAPE, "%s: padding %d and %d of dimension %d", node->name,
                            o->before[d], o->after[d], d);
        if (fixed && output->size[d] > INT_MAX - o->before[d] - o->after[d])
            return ft__fail(c, FT_SHAPE, "%s: dimension %d grows too large", node->name, d);
        if (fixed) output->size[d] += o->before[d] + o->after[d];
    }
    return ft__want_numbers(c, node, input, input_count);
}

static ft__embedding ft__pad_embedding(const ft__call *call)
{
    ft__embedding e;
    int d, at;
    e.small = ft__memory_shape(&call->input[0]);
    e.large = ft__memory_shape(&call->output);
    for (d = 0; d < FINETUNE_MAX_RANK; ++d) {
        at = ft__memory_axis(&call->output, d);
        e.start[at] = call->node->options.pad.before[d];
        e.step[at] = 1;
    }
    return e;
}

static void ft__pad_forward(const ft__call *call)
{
    ft__embedding e = ft__pad_embedding(call);
    memset(call->output.value, 0, ft__count(&call->output) * sizeof(float));
    ft__embed(&e, call->input[0].value, call->output.value, FT__TO_LARGE, false);
}

static void ft__pad_backward(const ft__call *call)
{
    ft__embedding e = ft__pad_embedding(call);
    if (call->input[0].gradient)
        ft__embed(&e, call->input[0].gradient, call->output.gradient, FT__TO_SMALL, true);
}

static int ft__slice_stop(const ft_slice_options *o, const ft_shape *x, int d)
{
    return o->stop[d] == 0 || o->stop[d] > x->size[d] ? x->size[d] : o->stop[d];
}

static ft_status ft__slice_shape(ft__context *c, const ft__node *node, const ft__tensor *input,
                                 int input_count, ft_shape *output)
{
    const ft_slice_options *o = &node->options.slice;
    int d;
    *output = input[0].shape;
    if (o->start[0] || o->stop[0] || o->step[0] < 0 || o->step[0] > 1 || output->rank < 2)
        return ft__fail(c, FT_SHAPE, "%s: the batch cannot be sliced", node->name);
    for (d = 1; d < output->rank; ++d) {
        int step = o->step[d] ? o->step[d] : 1, stop = ft__slice_stop(o, &input[0].shape, d);
        if (output->size[d] == FT_LENGTH && !o->start[d] && !o->stop[d] && step == 1) continue;
        if (o->start[d] < 0 || step < 1 || stop <= o->start[d])
            return ft__fail(c, FT_SHAPE, "%s: start %d, stop %d, step %d of dimension %d, which"
                            " has %d", node->name, o->start[d], stop, step, d,
                            input[0].shape.size[d]);
        output->size[d] = (stop - o->start[d] - 1) / step + 1;
    }
    return ft__want_numbers(c, node, input, input_count);
}

static ft__embedding ft__slice_embedding(const ft__call *call)
{
    ft__embedding e;
    int d, at;
    e.small = ft__memory_shape(&call->output);
    e.large = ft__memory_shape(&call->input[0]);
    for (d = 0; d < FINETUNE_MAX_RANK; ++d) {
        at = ft__memory_axis(&call->output, d);
        e.start[at] = call->node->options.slice.start[d];
        e.step[at] = call->node->options.slice.step[d] ? call->node->options.slice.step[d] : 1;
    }
    return e;
}

static void ft__slice_forward(const ft__call *call)
{
    ft__embedding e = ft__slice_embedding(call);
    ft__embed(&e, call->output.value, call->input[0].value, FT__TO_SMALL, false);
}

static void ft__slice_backward(const ft__call *call)
{
    ft__embedding e = ft__slice_embedding(call);
    if (call->input[0].gradient)
        ft__embed(&e, call->output.gradient, call->input[0].gradient, FT__TO_LARGE, true);
}
