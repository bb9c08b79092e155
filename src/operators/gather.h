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
#include "operators/concat.h"
#include "operators/taking.h"

/* =============================================================================================
   [SECTION] operators/gather: gather
   ============================================================================================= */
/* ---- gather: y[n, .., k, .., rest] = x[n, .., index[n, .., k, ..], .., rest] along one axis. This
   is PyTorch's gather if the index has as many dimensions as x. Dimensions past those of the index
   are copied whole: an index [N, K] takes K rows of each sample of x [N, T, D]. An index [K] is the
   same for all samples, and for all numbers before the axis. ---- */

static ft_status ft__gather_shape(ft__context *c, const ft__node *node, const ft__tensor *input,
                                  int input_count, ft_shape *output)
{
    const ft_shape *x = &input[0].shape, *index = &input[1].shape;
    int axis = node->options.concat.axis, d;
    char text[80], other[80];
    bool list = index->rank == 1 && axis < x->rank && index->size[0] > 0;
    bool fits = axis >= 1 && (list || (axis < index->rank && index->rank <= x->rank));
    *output = *x;
    for (d = 0; fits && !list && d < index->rank; ++d)
        fits = d == axis || index->size[d] == x->size[d];
    if (!fits || input[1].type != FT_I32)
        return ft__fail(c, FT_SHAPE, "%s: along axis %d, %s cannot be gathered by an index %s: the"
                        " index must be I32 and have x's sizes in all other axes, or be a list",
                        node->name, axis, ft__shape_text(x, text), ft__shape_text(index, other));
    output->size[axis] = index->size[list ? 0 : axis];
    return ft__want_numbers(c, node, input, input_count - 1);
}

/* One sample: positions in the index before the axis, along it and after it; then the rest of x. An
   index out of range gives NaN, as a wrong label does. */
static void ft__gather_sample(void *context, int sample)
{
    const ft__either_way *run = (const ft__either_way *)context;
    const ft__tensor *x = &run->call->input[0], *y = &run->call->output;
    const ft__tensor *index = &run->call->input[1];
    int axis = run->call->node->options.concat.axis, rank = x->shape.rank, d;
    size_t of_x[FINETUNE_MAX_RANK], of_y[FINETUNE_MAX_RANK], i, each;
    const int32_t *places = ft__integers(index);
    ft__memory_steps(x, of_x);
    ft__memory_steps(y, of_y);
    each = ft__count(y) / (size_t)y->shape.size[0];
    for (i = 0; i < each; ++i) {
        size_t rest = i, from = (size_t)sample * of_x[0], to = (size_t)sample * of_y[0];
        size_t at[FINETUNE_MAX_RANK], place = (size_t)sample;
        int32_t wanted;
        for (d = rank - 1; d > 0; --d) {
            at[d] = rest % (size_t)y->shape.size[d];
            rest /= (size_t)y->shape.size[d];
            to += at[d] * of_y[d];
            if (d != axis) from += at[d] * of_x[d];
        }
        for (d = 1; d < index->shape.rank; ++d)
            place = place * (size_t)index->shape.size[d] + at[d];
        wanted = places[place];
        if (wanted < 0 || wanted >= x->shape.size[axis]) {
            if (!run->backward) y->value[to] = (float)NAN;
            continue;
        }
        from += (size_t)wanted * of_x[axis];
        if (run->backward) x->gradient[from] += y->gradient[to];
        else y->value[to] = x->value[from];
    }
}

/* The places of an index [K]. */
static void ft__gather_places(const ft__call *call, int d, int size, int count, int *from)
{
    const int32_t *index = ft__integers(&call->input[1]);
    int i;
    for (i = 0; i < count; ++i)
        from[i] = d != call->node->options.concat.axis ? i
            : index[i] >= 0 && index[i] < size ? index[i] : -1;
}

static void ft__gather_costs(const ft__call *call, ft__costs *costs)
{
    if (call->input[1].shape.rank == 1) ft__take_costs(call, costs);
}

static void ft__gather_all(const ft__call *call, bool backward)
{
    ft__either_way run;
    if (call->input[1].shape.rank == 1) {
        ft__take(call, ft__gather_places, (float)NAN, backward);
        return;
    }
    run.call = call;
    run.backward = backward;
    if (backward && !call->input[0].gradient) return;
    ft__parallel(call->context, call->output.shape.size[0], ft__gather_sample, &run);
}

static void ft__gather_along_forward(const ft__call *call) { ft__gather_all(call, false); }
static void ft__gather_along_backward(const ft__call *call) { ft__gather_all(call, true); }

/* In files: `gather` | x, index (I32) | `axis`, from 1 */
static const ft__row ft__row_gather = {
    FT__NAMED(gather), 2, 2, FT__ANY_LAYOUT,
    ft__gather_shape, ft__gather_along_forward, FT__BACKWARD(ft__gather_along_backward),
    ft__gather_costs, ft__concat_fields, NULL};

ft_node ft_gather(ft_model *m, const char *name, ft_node x, ft_node index, int axis)
{
    ft_node none = {0};
    ft__concat_options options;
    if (!FT__HAS(m, ARITHMETIC)) return none;
    options.axis = axis;
    return ft__add_pair(m, &ft__row_gather, name, x, index, &options, sizeof options);
}
