#pragma once
#include "interface/types.h"
#include "interface/operators.h"
#include "platform/context.h"
#include "basics/threads.h"
#include "nodes/nodes.h"
#include "operators/table.h"
#include "operators/adding.h"
#include "operators/common.h"

/* =============================================================================================
   [SECTION] operators/topk: topk
   The places of the largest numbers, in order; gather takes the numbers at them, with a gradient.
   ============================================================================================= */
static const ft__field ft__topk_fields[] = {
    FT__INT(ft_topk_options, count), FT__INT(ft_topk_options, axis),
    FT__BOOL(ft_topk_options, smallest), FT__BOOL(ft_topk_options, drop_axis),
    FT__NO_MORE_FIELDS};

static int ft__topk_count(const ft__node *node)
{
    return node->options.topk.count ? node->options.topk.count : 1;
}

static ft_status ft__topk_shape(ft__context *c, const ft__node *node, const ft__tensor *input,
                                int input_count, ft_shape *output)
{
    const ft_topk_options *o = &node->options.topk;
    const ft_shape *x = &input[0].shape;
    int axis = ft__given_axis(o->axis, x->rank), count = ft__topk_count(node), d;
    char text[80];
    *output = *x;
    if (axis < 1 || axis >= x->rank || count < 1 || (count > 1 && count > x->size[axis])
        || (o->drop_axis && count > 1))
        return ft__fail(c, FT_SHAPE, "%s: %d places along axis %d of %s: the axis must be from 1"
                        " and have as many numbers, and only the axis of one can be dropped",
                        node->name, count, axis, ft__shape_text(x, text));
    output->size[axis] = count;
    if (o->drop_axis) {
        for (d = axis; d + 1 < x->rank; ++d) output->size[d] = x->size[d + 1];
        output->size[--output->rank] = 0;
    }
    return ft__want_numbers(c, node, input, input_count);
}

typedef struct ft__ranking {
    const ft__call *call;
    ft__axis axis;          /* of x; that of y has `count` places */
    int count;
    size_t part;            /* lines per index of the parallel loop */
} ft__ranking;

/* Whether a stands before b: NaN is larger than all numbers, as in PyTorch. */
static bool ft__ranks_before(float a, float b, bool smallest)
{
    if (smallest) return b != b ? a == a : a < b;
    return a != a ? b == b : a > b;
}

/* Inserts each number of a line into those that rank first so far; equal ones stay in order. */
static void ft__rank_line(const ft__ranking *r, const float *x, int32_t *y)
{
    bool smallest = r->call->node->options.topk.smallest;
    int found = 0, at;
    size_t step = r->axis.inner, i;
    for (i = 0; i < r->axis.size; ++i) {
        float value = x[i * step];
        at = found;
        while (at > 0 && ft__ranks_before(value, x[(size_t)y[(size_t)(at - 1) * step] * step],
                                          smallest)) {
            if (at < r->count) y[(size_t)at * step] = y[(size_t)(at - 1) * step];
            --at;
        }
        if (at < r->count) y[(size_t)at * step] = (int32_t)i;
        found += found < r->count;
    }
}

static void ft__rank_part(void *context, int index)
{
    const ft__ranking *r = (const ft__ranking *)context;
    size_t lines = r->axis.outer * r->axis.inner, line = (size_t)index * r->part;
    size_t end = line + r->part < lines ? line + r->part : lines;
    for (; line < end; ++line) {
        size_t outer = line / r->axis.inner * r->axis.inner, inner = line % r->axis.inner;
        ft__rank_line(r, r->call->input[0].value + outer * r->axis.size + inner,
                      ft__integers(&r->call->output) + outer * (size_t)r->count + inner);
    }
}

static void ft__topk_forward(const ft__call *call)
{
    const ft_shape *x = &call->input[0].shape;
    ft__ranking r;
    r.call = call;
    r.axis = ft__split_axis(x, ft__given_axis(call->node->options.topk.axis, x->rank));
    r.count = ft__topk_count(call->node);
    r.part = ft__lines_at_once(r.axis.size);
    ft__parallel(call->context,
                 (int)((r.axis.outer * r.axis.inner + r.part - 1) / r.part), ft__rank_part, &r);
}

/* In files: `topk` | x | `count` 1, `axis` 0: the last, or from 1, `smallest` false, `drop_axis`
   false */
static const ft__row ft__row_topk = {
    FT__NAMED(topk), 1, 1, FT__INTEGERS,
    ft__topk_shape, ft__topk_forward, NULL, NULL, ft__topk_fields, NULL};

ft_node ft_topk(ft_model *m, const char *name, ft_node x, ft_topk_options options)
{
    ft_node none = {0};
    if (!FT__HAS(m, ARITHMETIC)) return none;
    return ft__add_node(m, &ft__row_topk, name, &x, 1, &options, sizeof options);
}
