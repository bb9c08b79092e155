#pragma once
#include "interface/requirements.h"
#include "interface/types.h"
#include "platform/families.h"
#include "platform/context.h"
#include "kernels/transpose.h"
#include "nodes/nodes.h"
#include "operators/table.h"
#include "operators/adding.h"
#include "operators/common.h"

/* =============================================================================================
   [SECTION] operators/reshape: flatten and reshape
   ============================================================================================= */
static const ft__field ft__reshape_fields[] = {
    FT__INT(ft__reshape_options, rank), FT__INT(ft__reshape_options, size), FT__NO_MORE_FIELDS};

/* The product of the sizes after the first dimension, or 0 if it exceeds an int. If `lengths` is
   not NULL, dimensions of FT_LENGTH are skipped and counted in it. */
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
        return ft__fail(c, FT_SHAPE, "%s: a shape of %d dimensions is not supported", node->name,
                        o->rank);
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

/* Copies the numbers in the user's order. Between a tensor with the channels last and another
   layout that is a transpose; between two with the channels last it goes number by number. */
static void ft__copy_run(const ft__call *call, bool backward)
{
    const ft__tensor *x = &call->input[0], *y = &call->output;
    const float *from = backward ? y->gradient : x->value;
    float *to = backward ? x->gradient : y->value;
    size_t count = ft__count(y), sample, each, n, i;
    if (!to) return;
    if (x->channels_last != y->channels_last) {
        ft__transpose(call->context, x->channels_last ? &x->shape : &y->shape,
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

/* In files: `flatten` | x | */
static const ft__row ft__row_flatten = {
    FT__NAMED(flatten), 1, 1, FT__REORDERS,
    ft__flatten_shape, ft__copy_forward, FT__BACKWARD(ft__copy_backward), NULL, ft__no_fields,
    NULL};

/* In files: `reshape` | x | `rank`, the sizes of a sample without the batch, and `size`, those: -1
   is the rest, -2 stands for L */
static const ft__row ft__row_reshape = {
    FT__NAMED(reshape), 1, 1, FT__REORDERS,
    ft__reshape_shape, ft__copy_forward, FT__BACKWARD(ft__copy_backward), NULL, ft__reshape_fields,
    NULL};

ft_node ft_flatten(ft_model *m, const char *name, ft_node x)
{
    return ft__add_simple(m, &ft__row_flatten, name, x);
}

ft_node ft_reshape(ft_model *m, const char *name, ft_node x, int rank, const int *size)
{
    ft__reshape_options o;
    ft_node none = {0};
    int d;
    memset(&o, 0, sizeof o);
    if (!ft__usable(m)) return none;
    if (rank < 0 || rank >= FINETUNE_MAX_RANK) {
        ft__fail(&m->context, FT_INVALID, "%s: has %d dimensions; at most %d are supported", name,
                 rank, FINETUNE_MAX_RANK - 1);
        return none;
    }
    if (rank > 0 && !ft__given(&m->context, size, "ft_reshape: size")) return none;
    o.rank = rank;
    for (d = 0; d < rank; ++d) o.size[d] = size[d];
    return ft__add_node(m, &ft__row_reshape, name, &x, 1, &o, sizeof o);
}
