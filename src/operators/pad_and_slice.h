#pragma once
#include "interface/requirements.h"
#include "interface/types.h"
#include "interface/operators.h"
#include "platform/families.h"
#include "platform/context.h"
#include "nodes/nodes.h"
#include "operators/table.h"
#include "operators/adding.h"
#include "operators/common.h"
#include "operators/taking.h"

/* =============================================================================================
   [SECTION] operators/pad_and_slice: pad and slice
   Each is the other's derivative: a grid that is embedded in a larger one.
   ============================================================================================= */
/* The first two are of the family ARITHMETIC: without it, files that have them are refused. */
static const ft__field ft__pad_fields[] = {
    FT__INT(ft_pad_options, mode), FT__FLOAT(ft_pad_options, value),
    FT__INT(ft_pad_options, before), FT__INT(ft_pad_options, after), FT__NO_MORE_FIELDS};
static const ft__field ft__slice_fields[] = {
    FT__INT(ft_slice_options, start), FT__INT(ft_slice_options, stop),
    FT__INT(ft_slice_options, step), FT__NO_MORE_FIELDS};

/* The smaller tensor's element (i0, i1, ...) lies at start + i * step of the larger one. */
typedef struct ft__placement { ft_shape inner, outer; int start[FINETUNE_MAX_RANK];
                               int step[FINETUNE_MAX_RANK]; } ft__placement;

/* The start in the larger tensor of line `line` (along the last dimension) of the smaller one. */
static size_t ft__embedded_line(const ft__placement *e, size_t line)
{
    size_t index = 0, stride = (size_t)e->outer.size[e->outer.rank - 1];
    int d;
    index = (size_t)e->start[e->outer.rank - 1];
    for (d = e->outer.rank - 2; d >= 0; --d) {
        size_t at = line % (size_t)e->inner.size[d];
        index += ((size_t)e->start[d] + at * (size_t)e->step[d]) * stride;
        stride *= (size_t)e->outer.size[d];
        line /= (size_t)e->inner.size[d];
    }
    return index;
}

enum { FT__TO_SMALL, FT__TO_LARGE };

/* Copies, or adds, along the embedding in either direction. */
static void ft__embed(const ft__placement *e, float *inner, float *outer, int direction, bool add)
{
    size_t width = (size_t)e->inner.size[e->inner.rank - 1], lines, line, i;
    size_t step = (size_t)e->step[e->inner.rank - 1];
    lines = ft__shape_count(&e->inner) / width;
    for (line = 0; line < lines; ++line) {
        float *s = inner + line * width, *l = outer + ft__embedded_line(e, line);
        for (i = 0; i < width; ++i) {
            float *to = direction == FT__TO_SMALL ? &s[i] : &l[i * step];
            float from = direction == FT__TO_SMALL ? l[i * step] : s[i];
            *to = add ? *to + from : from;
        }
    }
}

/* Whether there are enough numbers for the border that the mode asks for. */
static ft_status ft__check_border(ft__context *c, const ft__node *node, const ft_shape *x)
{
    const ft_pad_options *o = &node->options.pad;
    bool wraps = o->mode == FT_PAD_CIRCULAR;
    char text[80];
    int d;
    if ((unsigned)o->mode > FT_PAD_CIRCULAR || (o->mode && o->value != 0))
        return ft__fail(c, FT_INVALID, "%s: mode %d, value %g: no such mode, or a value in another"
                        " mode than FT_PAD_CONSTANT", node->name, (int)o->mode, (double)o->value);
    for (d = 1; d < x->rank && (wraps || o->mode == FT_PAD_REFLECT); ++d) {
        int most = wraps ? x->size[d] : x->size[d] - 1;
        if (!o->before[d] && !o->after[d]) continue; /* it may be FT_LENGTH */
        if (o->before[d] > most || o->after[d] > most)
            return ft__fail(c, FT_SHAPE, "%s: padding %d and %d of dimension %d of %s: it has only"
                            " %d numbers to %s", node->name, o->before[d], o->after[d], d,
                            ft__shape_text(x, text), most, wraps ? "wrap around" : "reflect");
    }
    return FT_OK;
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
            return ft__fail(c, FT_SHAPE, "%s: padding %d and %d is not possible for dimension %d",
                            node->name, o->before[d], o->after[d], d);
        if (fixed && output->size[d] > INT_MAX - o->before[d] - o->after[d])
            return ft__fail(c, FT_SHAPE, "%s: dimension %d becomes too large", node->name, d);
        if (fixed) output->size[d] += o->before[d] + o->after[d];
    }
    if (FT__HAS_ARITHMETIC && ft__check_border(c, node, &input[0].shape) != FT_OK)
        return c->status;
    return ft__want_numbers(c, node, input, input_count);
}

static ft__placement ft__pad_embedding(const ft__call *call)
{
    ft__placement e;
    int at;
    e.inner = ft__memory_shape(&call->input[0]);
    e.outer = ft__memory_shape(&call->output);
    for (at = 0; at < e.outer.rank; ++at) {
        int d = ft__memory_dimension(&call->output, at);
        e.start[at] = call->node->options.pad.before[d];
        e.step[at] = 1;
    }
    return e;
}

/* Padding by zeros, as it is in most networks, is the placement of a grid in a larger one. */
static bool ft__pads_zeros(const ft__call *call)
{
    const ft_pad_options *o = &call->node->options.pad;
    return !FT__HAS_ARITHMETIC || (o->mode == FT_PAD_CONSTANT && o->value == 0)
        || call->output.shape.rank < 2;
}

static void ft__pad_places(const ft__call *call, int d, int size, int count, int *from)
{
    const ft_pad_options *o = &call->node->options.pad;
    int i;
    for (i = 0; i < count; ++i) {
        int at = i - o->before[d], last = size - 1;
        bool inside = at >= 0 && at < size;
        from[i] = inside ? at
            : o->mode == FT_PAD_CONSTANT ? -1
            : o->mode == FT_PAD_REPLICATE ? (at < 0 ? 0 : last)
            : o->mode == FT_PAD_REFLECT ? (at < 0 ? -at : 2 * last - at) : (at + size) % size;
    }
}

static void ft__pad_costs(const ft__call *call, ft__costs *costs)
{
    if (!ft__pads_zeros(call)) ft__take_costs(call, costs);
}

static void ft__pad_forward(const ft__call *call)
{
    ft__placement e = ft__pad_embedding(call);
    if (!ft__pads_zeros(call)) {
        ft__take(call, ft__pad_places, call->node->options.pad.value, false);
        return;
    }
    memset(call->output.value, 0, ft__count(&call->output) * sizeof(float));
    ft__embed(&e, call->input[0].value, call->output.value, FT__TO_LARGE, false);
}

static void ft__pad_backward(const ft__call *call)
{
    ft__placement e = ft__pad_embedding(call);
    if (!ft__pads_zeros(call)) ft__take(call, ft__pad_places, 0, true);
    else if (call->input[0].gradient)
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
            return ft__fail(c, FT_SHAPE, "%s: start %d, stop %d, step %d are not possible for"
                            " dimension %d of size %d", node->name, o->start[d], stop, step, d,
                            input[0].shape.size[d]);
        output->size[d] = (stop - o->start[d] - 1) / step + 1;
    }
    return ft__want_numbers(c, node, input, input_count);
}

static ft__placement ft__slice_embedding(const ft__call *call)
{
    ft__placement e;
    int at;
    e.inner = ft__memory_shape(&call->output);
    e.outer = ft__memory_shape(&call->input[0]);
    for (at = 0; at < e.outer.rank; ++at) {
        int d = ft__memory_dimension(&call->output, at);
        e.start[at] = call->node->options.slice.start[d];
        e.step[at] = call->node->options.slice.step[d] ? call->node->options.slice.step[d] : 1;
    }
    return e;
}

static void ft__slice_forward(const ft__call *call)
{
    ft__placement e = ft__slice_embedding(call);
    ft__embed(&e, call->output.value, call->input[0].value, FT__TO_SMALL, false);
}

static void ft__slice_backward(const ft__call *call)
{
    ft__placement e = ft__slice_embedding(call);
    if (call->input[0].gradient)
        ft__embed(&e, call->output.gradient, call->input[0].gradient, FT__TO_LARGE, true);
}

/* In files: `pad` | x | `before` 0, `after` 0: numbers to add, for each dimension, `mode` 0 (0
   constant, 1 reflect, 2 replicate, 3 circular), `value` 0 (constant only) */
static const ft__row ft__row_pad = {
    FT__NAMED(pad), 1, 1, FT__ANY_LAYOUT,
    ft__pad_shape, ft__pad_forward, FT__BACKWARD(ft__pad_backward),
    FT__HAS_ARITHMETIC ? ft__pad_costs : NULL, ft__pad_fields + (FT__HAS_ARITHMETIC ? 0 : 2), NULL};

/* In files: `slice` | x | `start` 0, `stop` 0 (to the end), `step` 1, for each dimension */
static const ft__row ft__row_slice = {
    FT__NAMED(slice), 1, 1, FT__ANY_LAYOUT | FT__BY_STEP, /* FT_LENGTH is not cut */
    ft__slice_shape, ft__slice_forward, FT__BACKWARD(ft__slice_backward), NULL, ft__slice_fields,
    NULL};

ft_node ft_pad(ft_model *m, const char *name, ft_node x, ft_pad_options options)
{
    ft_node none = {0};
    if ((options.mode || options.value != 0) && !FT__HAS(m, ARITHMETIC)) return none;
    return ft__add_node(m, &ft__row_pad, name, &x, 1, &options, sizeof options);
}

ft_node ft_slice(ft_model *m, const char *name, ft_node x, ft_slice_options options)
{
    return ft__add_node(m, &ft__row_slice, name, &x, 1, &options, sizeof options);
}
