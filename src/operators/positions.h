#pragma once
#include "interface/types.h"
#include "platform/context.h"
#include "basics/threads.h"
#include "nodes/nodes.h"
#include "operators/table.h"
#include "operators/adding.h"
#include "operators/common.h"

/* =============================================================================================
   [SECTION] operators/positions: Learned positions
   x [N, L, C], weight [P, C]: y[n, t] = x[n, t] + weight[first + t], for any length L that has
   first + L <= P (Vaswani et al. 2017, "learned positional embeddings"; Devlin et al. 2018).
       dx = dy,  dweight[first + t] = sum over n of dy[n, t]
   ============================================================================================= */
static const ft__field ft__positions_fields[] = {
    FT__INT(ft_positions_options, first), FT__NOT_KEPT(ft_positions_options, weight)
    FT__NO_MORE_FIELDS};

static ft_status ft__positions_shape(ft__context *c, const ft__node *node, const ft__tensor *input,
                                     int input_count, ft_shape *output)
{
    const ft_shape *x = &input[0].shape, *w = &input[1].shape;
    int first = node->options.positions.first;
    char text[80], other[80];
    *output = *x;
    if (x->rank != 3 || w->rank != 2 || w->size[1] != x->size[2])
        return ft__fail(c, FT_SHAPE, "%s: expected an input [N, L, C] and a weight [P, C], not %s"
                        " and %s", node->name, ft__shape_text(x, text), ft__shape_text(w, other));
    if (first < 0 || first >= w->size[0] || x->size[1] > w->size[0] - first)
        return ft__fail(c, FT_SHAPE, "%s: first is %d, and x %s: there are only %d positions",
                        node->name, first, ft__shape_text(x, text), w->size[0]);
    return ft__want_numbers(c, node, input, input_count);
}

/* Costs nothing, but knows the length of the run. */
static void ft__positions_costs(const ft__call *call, ft__costs *costs)
{
    int most = call->input[1].shape.size[0] - call->node->options.positions.first;
    (void)costs;
    if (call->input[0].shape.size[1] > most)
        ft__fail(call->context, FT_SHAPE, "%s: a sequence of %d steps, but there are only %d"
                 " positions: ft_set_max_length sets how many tokens of a text are kept",
                 call->node->name, call->input[0].shape.size[1], most);
}

static void ft__positions_sample(void *context, int sample)
{
    const ft__call *call = (const ft__call *)context;
    size_t steps = (size_t)call->input[0].shape.size[1];
    size_t each = (size_t)call->input[0].shape.size[2];
    size_t first = (size_t)call->node->options.positions.first, i;
    const float *x = call->input[0].value + (size_t)sample * steps * each;
    const float *weight = call->input[1].value + first * each;
    float *y = call->output.value + (size_t)sample * steps * each;
    for (i = 0; i < steps * each; ++i) y[i] = x[i] + weight[i];
}

static void ft__positions_forward(const ft__call *call)
{
    ft__parallel(call->context, call->input[0].shape.size[0], ft__positions_sample,
                 (void *)(uintptr_t)call);
}

/* One step of all samples: their sum always has the same order. */
static void ft__positions_back_step(void *context, int step)
{
    const ft__call *call = (const ft__call *)context;
    size_t count = (size_t)call->input[0].shape.size[0];
    size_t steps = (size_t)call->input[0].shape.size[1];
    size_t each = (size_t)call->input[0].shape.size[2], n, j;
    size_t row = (size_t)call->node->options.positions.first + (size_t)step;
    for (n = 0; n < count; ++n) {
        const float *dy = call->output.gradient + (n * steps + (size_t)step) * each;
        float *dx = call->input[0].gradient, *dw = call->input[1].gradient;
        if (dx) dx += (n * steps + (size_t)step) * each;
        if (dw) dw += row * each;
        for (j = 0; dx && j < each; ++j) dx[j] = (call->input[0].fresh ? 0 : dx[j]) + dy[j];
        for (j = 0; dw && j < each; ++j) dw[j] += dy[j];
    }
}

static void ft__positions_backward(const ft__call *call)
{
    ft__parallel(call->context, call->input[0].shape.size[1], ft__positions_back_step,
                 (void *)(uintptr_t)call);
}

static const ft__row ft__row_positions = {
    FT__NAMED(positions), 2, 2, FT__WRITES | FT__WEIGHTS,
    ft__positions_shape, ft__positions_forward, ft__positions_backward, ft__positions_costs,
    ft__positions_fields, NULL};

ft_node ft_positions(ft_model *m, const char *name, ft_node x, int count,
                     ft_positions_options options)
{
    ft_node inputs[2], none = {0};
    ft_parameter_options p;
    memset(&p, 0, sizeof p);
    if (!ft__usable(m)) return none;
    if (count < 1) ft__fail(&m->context, FT_INVALID, "%s: %d positions: at least 1 is expected",
                            name, count);
    p.size[0] = count;
    p.size[1] = ft__size_of(m, name, x, 2);
    p.initialiser = FT_INIT_KAIMING_NORMAL;
    p.fan_out = 2; /* N(0, 1), as PyTorch's embedding */
    inputs[0] = x;
    inputs[1] = options.weight.id ? options.weight : ft__layer_parameter(m, name, "weight", p);
    options.weight = none; /* it is an input now */
    return ft__add_node(m, &ft__row_positions, name, inputs, 2, &options, sizeof options);
}
