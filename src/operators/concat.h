#pragma once
#include "interface/types.h"
#include "platform/families.h"
#include "platform/context.h"
#include "nodes/nodes.h"
#include "operators/table.h"
#include "operators/adding.h"
#include "operators/common.h"

/* =============================================================================================
   [SECTION] operators/concat: concat
   Joins inputs along one axis.
   ============================================================================================= */
static const ft__field ft__concat_fields[] = {
    FT__INT(ft__concat_options, axis), FT__NO_MORE_FIELDS};

static ft_status ft__concat_shape(ft__context *c, const ft__node *node, const ft__tensor *input,
                                  int input_count, ft_shape *output)
{
    int axis = node->options.concat.axis, i, d;
    char text[80];
    *output = input[0].shape;
    if (axis < 1 || axis >= output->rank || output->size[axis] < 1)
        return ft__fail(c, FT_SHAPE, "%s: axis %d is not possible for an input of %s", node->name,
                        axis, ft__shape_text(output, text));
    for (i = 1; i < input_count; ++i) {
        bool fits = input[i].shape.rank == output->rank;
        for (d = 0; fits && d < output->rank; ++d)
            fits = d == axis ? input[i].shape.size[d] > 0
                             : input[i].shape.size[d] == output->size[d];
        if (!fits || output->size[axis] > INT_MAX - input[i].shape.size[axis])
            return ft__fail(c, FT_SHAPE, "%s: input %d, %s, must equal the first in all axes but"
                            " %d", node->name, i + 1, ft__shape_text(&input[i].shape, text), axis);
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

/* In files: `concat` | any number of nodes | `axis`, from 1 */
static const ft__row ft__row_concat = {
    FT__NAMED(concat), 1, INT_MAX, FT__ANY_LAYOUT,
    ft__concat_shape, ft__concat_forward, FT__BACKWARD(ft__concat_backward), NULL,
    ft__concat_fields, NULL};

ft_node ft_concat(ft_model *m, const char *name, int count, const ft_node *x, int axis)
{
    ft__concat_options options;
    options.axis = axis;
    return ft__add_node(m, &ft__row_concat, name, x, count, &options, sizeof options);
}
