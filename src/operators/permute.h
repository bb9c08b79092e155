#pragma once
#include "interface/requirements.h"
#include "interface/types.h"
#include "platform/families.h"
#include "platform/context.h"
#include "basics/threads.h"
#include "nodes/nodes.h"
#include "operators/table.h"
#include "operators/adding.h"
#include "operators/common.h"

/* =============================================================================================
   [SECTION] operators/permute: permute
   ============================================================================================= */
static const ft__field ft__permute_fields[] = {
    FT__INT(ft__permute_options, axes), FT__NO_MORE_FIELDS};

/* ---- permute: y's dimension d is x's dimension axes[d]; the batch stays the first ---- */

static ft_status ft__permute_shape(ft__context *c, const ft__node *node, const ft__tensor *input,
                                   int input_count, ft_shape *output)
{
    const int *axes = node->options.permute.axes;
    unsigned seen = 0;
    int d;
    char text[80];
    *output = input[0].shape;
    for (d = 0; d < output->rank; ++d) {
        if (axes[d] < 0 || axes[d] >= output->rank || (axes[d] == 0) != (d == 0)
            || seen >> axes[d] & 1)
            return ft__fail(c, FT_SHAPE, "%s: axis %d of %s is moved to place %d: the axes must be"
                            " a permutation that keeps the batch, 0, first", node->name, axes[d],
                            ft__shape_text(&input[0].shape, text), d);
        seen |= 1u << axes[d];
        output->size[d] = input[0].shape.size[axes[d]];
    }
    return ft__want_numbers(c, node, input, input_count);
}

/* One sample; iterates over y in the user's order. */
static void ft__permute_sample(void *context, int sample)
{
    const ft__either_way *run = (const ft__either_way *)context;
    const ft__tensor *x = &run->call->input[0], *y = &run->call->output;
    size_t of_x[FINETUNE_MAX_RANK], of_y[FINETUNE_MAX_RANK], each, i;
    int rank = y->shape.rank, d;
    ft__memory_steps(x, of_x);
    ft__memory_steps(y, of_y);
    each = ft__count(y) / (size_t)y->shape.size[0];
    for (i = 0; i < each; ++i) {
        size_t rest = i, from = (size_t)sample * of_x[0], to = (size_t)sample * of_y[0];
        for (d = rank - 1; d > 0; --d) {
            size_t at = rest % (size_t)y->shape.size[d];
            rest /= (size_t)y->shape.size[d];
            from += at * of_x[run->call->node->options.permute.axes[d]];
            to += at * of_y[d];
        }
        if (!run->backward) y->value[to] = x->value[from];
        else x->gradient[from] = (x->fresh ? 0 : x->gradient[from]) + y->gradient[to];
    }
}

static void ft__permute_run_all(const ft__call *call, bool backward)
{
    ft__either_way run;
    run.call = call;
    run.backward = backward;
    if (backward && !call->input[0].gradient) return;
    ft__parallel(call->context, call->output.shape.size[0], ft__permute_sample, &run);
}

static void ft__permute_forward(const ft__call *call) { ft__permute_run_all(call, false); }
static void ft__permute_backward(const ft__call *call) { ft__permute_run_all(call, true); }

/* In files: `permute` | x | `axes`, for each dimension; the first is 0 */
static const ft__row ft__row_permute = {
    FT__NAMED(permute), 1, 1, FT__WRITES | FT__REORDERS | FT__PERMUTES,
    ft__permute_shape, ft__permute_forward, FT__BACKWARD(ft__permute_backward), NULL,
    ft__permute_fields, NULL};

ft_node ft_permute(ft_model *m, const char *name, ft_node x, int rank, const int *axes)
{
    const ft__node *from = ft__get_node(m, x);
    ft_node none = {0};
    ft__permute_options o;
    if (!ft__usable(m) || !FT__HAS(m, ARITHMETIC)) return none;
    memset(&o, 0, sizeof o);
    if (!axes || !from || rank != from->shape.rank) {
        ft__fail(&m->context, FT_INVALID, "%s: %d axes for a node of %d dimensions", name, rank,
                 from ? from->shape.rank : 0);
        return none;
    }
    memcpy(o.axes, axes, (size_t)rank * sizeof *axes);
    return ft__add_node(m, &ft__row_permute, name, &x, 1, &o, sizeof o);
}
