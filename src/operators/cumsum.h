#pragma once
#include "interface/types.h"
#include "interface/operators.h"
#include "platform/families.h"
#include "platform/context.h"
#include "basics/threads.h"
#include "nodes/nodes.h"
#include "operators/table.h"
#include "operators/adding.h"
#include "operators/common.h"

/* =============================================================================================
   [SECTION] operators/cumsum: cumsum
   Sums up to each place along an axis. The gradient is the same of dy from the other end.
   ============================================================================================= */
static const ft__field ft__cumsum_fields[] = {
    FT__INT(ft_cumsum_options, axis), FT__BOOL(ft_cumsum_options, exclusive),
    FT__BOOL(ft_cumsum_options, reverse), FT__NO_MORE_FIELDS};

static ft_status ft__cumsum_shape(ft__context *c, const ft__node *node, const ft__tensor *input,
                                  int input_count, ft_shape *output)
{
    int axis = ft__given_axis(node->options.cumsum.axis, input[0].shape.rank);
    char text[80];
    *output = input[0].shape;
    if (axis < 1 || axis >= output->rank)
        return ft__fail(c, FT_SHAPE, "%s: axis %d of %s cannot be summed up: it must be from 1 to"
                        " %d, or counted back from -1", node->name, axis,
                        ft__shape_text(output, text), output->rank - 1);
    return ft__want_numbers(c, node, input, input_count);
}

typedef struct ft__summing {
    const float *from;
    float *to;
    ft__axis axis;
    size_t part;            /* lines per index of the parallel loop */
    bool reverse, exclusive, add;
} ft__summing;

static void ft__sum_up(const ft__summing *s, size_t line)
{
    size_t start = line / s->axis.inner * s->axis.size * s->axis.inner + line % s->axis.inner, i;
    double sum = 0;
    for (i = 0; i < s->axis.size; ++i) {
        size_t at = start + (s->reverse ? s->axis.size - 1 - i : i) * s->axis.inner;
        double before = sum;
        sum += (double)s->from[at];
        s->to[at] = (float)(s->exclusive ? before : sum) + (s->add ? s->to[at] : 0);
    }
}

static void ft__sum_up_part(void *context, int index)
{
    const ft__summing *s = (const ft__summing *)context;
    size_t lines = s->axis.outer * s->axis.inner, line = (size_t)index * s->part;
    size_t end = line + s->part < lines ? line + s->part : lines;
    for (; line < end; ++line) ft__sum_up(s, line);
}

static void ft__sum_up_all(const ft__call *call, bool backward)
{
    const ft_cumsum_options *o = &call->node->options.cumsum;
    const ft__tensor *x = &call->input[0], *y = &call->output;
    ft_shape shape = ft__memory_shape(y);
    ft__summing s;
    if (backward && !x->gradient) return;
    s.from = backward ? y->gradient : x->value;
    s.to = backward ? x->gradient : y->value;
    s.axis = ft__split_axis(&shape, ft__memory_axis(y, ft__given_axis(o->axis, shape.rank)));
    s.part = ft__lines_at_once(s.axis.size);
    s.reverse = o->reverse != backward;
    s.exclusive = o->exclusive;
    s.add = backward && !x->fresh;
    ft__parallel(call->context,
                 (int)((s.axis.outer * s.axis.inner + s.part - 1) / s.part), ft__sum_up_part, &s);
}

static void ft__cumsum_forward(const ft__call *call) { ft__sum_up_all(call, false); }
static void ft__cumsum_backward(const ft__call *call) { ft__sum_up_all(call, true); }

/* In files: `cumsum` | x | `axis` 0: the last, or from 1, `exclusive` false, `reverse` false */
static const ft__row ft__row_cumsum = {
    FT__NAMED(cumsum), 1, 1, FT__WRITES | FT__ANY_LAYOUT,
    ft__cumsum_shape, ft__cumsum_forward, FT__BACKWARD(ft__cumsum_backward), NULL,
    ft__cumsum_fields, NULL};

ft_node ft_cumsum(ft_model *m, const char *name, ft_node x, ft_cumsum_options options)
{
    ft_node none = {0};
    if (!FT__HAS(m, ARITHMETIC)) return none;
    return ft__add_node(m, &ft__row_cumsum, name, &x, 1, &options, sizeof options);
}
