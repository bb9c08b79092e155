#pragma once
#include "interface/types.h"
#include "interface/operators.h"
#include "platform/families.h"
#include "platform/context.h"
#include "basics/numbers.h"
#include "basics/threads.h"
#include "kernels/dropout.h"
#include "nodes/nodes.h"
#include "operators/table.h"
#include "operators/adding.h"
#include "operators/common.h"

/* =============================================================================================
   [SECTION] operators/dropout: Dropout
   ============================================================================================= */
static const ft__field ft__dropout_fields[] = {
    FT__FLOAT(ft_dropout_options, probability), FT__BOOL(ft_dropout_options, locked),
    FT__BOOL(ft_dropout_options, per_sample), FT__NO_MORE_FIELDS};

static ft_status ft__dropout_shape(ft__context *c, const ft__node *node, const ft__tensor *input,
                                   int input_count, ft_shape *output)
{
    float p = node->options.dropout.probability;
    int rank = input[0].shape.rank;
    if (node->options.dropout.locked && node->options.dropout.per_sample)
        return ft__fail(c, FT_INVALID, "%s: dropout is locked or per_sample, not both",
                        node->name);
    if (node->options.dropout.locked && (rank < 2 || rank > 3))
        return ft__fail(c, FT_SHAPE, "%s: locked dropout needs an input [N, L, C] or a weight [V,"
                        " E]", node->name);
    if (!(p >= 0 && p <= 1))
        return ft__fail(c, FT_INVALID, "%s: probability is %g; it must be 0 to 1", node->name,
                        (double)p);
    return ft__same_shape(c, node, input, input_count, output);
}

/* ---- Dropout (Srivastava et al. 2014), scaled in training as in PyTorch. The mask is a function
   of the step's key and the position, so backward recomputes it instead of keeping it. ---- */

/* Of `count` numbers from place i on, returns how many are drawn in a row; *first: the place of the
   first one's random number. Locked dropout draws the same for all steps of a sample. */
static size_t ft__dropout_line(const ft__call *call, size_t i, size_t count, size_t *first)
{
    const int *size = call->output.shape.size; /* locked: [N, L, C] */
    size_t each = (size_t)size[2], sample = (size_t)size[1] * each;
    *first = i;
    if (!call->node->options.dropout.locked) return count;
    *first = i / sample * each + i % each;
    return ft__min_size(count, each - i % each);
}

static void ft__dropout_run(const ft__call *call, int index, bool backward)
{
    const ft_dropout_options *o = &call->node->options.dropout;
    bool identity = !FT__HAS_TRAINING || !call->training || call->node->frozen;
    bool rows = o->per_sample || (o->locked && call->output.shape.rank == 2); /* each as a whole */
    const float *x = backward ? call->output.gradient : call->input[0].value;
    float *y = backward ? call->input[0].gradient : call->output.value;
    float p = o->probability > 0 ? o->probability : 0.5f;
    size_t i = (size_t)index * FT__CHUNK, all = ft__count(&call->output), first, count, j;
    size_t end = ft__min_size(i + FT__CHUNK, all), whole = all / (size_t)call->output.shape.size[0];
    float share = 1, factor;
    for (; i < end; i += count) {
        if (!identity && !rows) {
            count = ft__dropout_line(call, i, end - i, &first);
            ft__drop[call->context->simd](x + i, y + i, count, call->random, first, p, backward);
            continue;
        }
        count = ft__min_size(end - i, whole - i % whole);
        factor = 1;
        if (!identity)
            ft__drop[call->context->simd](&share, &factor, 1, call->random, i / whole, p, false);
        if (backward) for (j = i; j < i + count; ++j) y[j] += x[j] * factor;
        else for (j = i; j < i + count; ++j) y[j] = x[j] * factor;
    }
}

static void ft__dropout_forward_chunk(void *context, int index)
{
    ft__dropout_run((const ft__call *)context, index, false);
}

static void ft__dropout_backward_chunk(void *context, int index)
{
    ft__dropout_run((const ft__call *)context, index, true);
}

static void ft__dropout_forward(const ft__call *call)
{
    ft__parallel(call->context, ft__chunks(ft__count(&call->output)), ft__dropout_forward_chunk,
                 (void *)(uintptr_t)call);
}

static void ft__dropout_backward(const ft__call *call)
{
    if (call->input[0].gradient)
        ft__parallel(call->context, ft__chunks(ft__count(&call->output)),
                     ft__dropout_backward_chunk, (void *)(uintptr_t)call);
}

/* In files: `dropout` | x | `probability` 0.5, `locked` false, `per_sample` false */
static const ft__row ft__row_dropout = {
    FT__NAMED(dropout), 1, 1, FT__NOISE | FT__ANY_LAYOUT | FT__BY_STEP,
    ft__dropout_shape, ft__dropout_forward, FT__BACKWARD(ft__dropout_backward), NULL,
    ft__dropout_fields, NULL};

ft_node ft_dropout(ft_model *m, const char *name, ft_node x, ft_dropout_options options)
{
    return ft__add_node(m, &ft__row_dropout, name, &x, 1, &options, sizeof options);
}
