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
#include "operators/concat.h"

/* =============================================================================================
   [SECTION] operators/step_pool: Pooling over steps
   ============================================================================================= */
static const ft__field ft__step_pool_fields[] = {
    FT__INT(ft_step_pool_options, kind), FT__BOOL(ft_step_pool_options, bidirectional),
    FT__NO_MORE_FIELDS};

/* ---- step_pool: x [N, L, C], lengths [N] (all L if absent) -> [N, C]: the mean, the maximum, the
   last or the first of the real steps; zeros if there is none. `last` with `bidirectional` takes
   the second half of C from step 0, where a reversed RNN ends. ---- */

static ft_status ft__step_pool_shape(ft__context *c, const ft__node *node, const ft__tensor *input,
                                     int input_count, ft_shape *output)
{
    const ft_shape *x = &input[0].shape;
    char text[80];
    memset(output, 0, sizeof *output);
    if (x->rank != 3)
        return ft__fail(c, FT_SHAPE, "%s: expected an input [N, L, C], not %s", node->name,
                        ft__shape_text(x, text));
    if ((unsigned)node->options.step_pool.kind > FT_POOL_FIRST
        || node->options.step_pool.kind == FT_POOL_ALL)
        return ft__fail(c, FT_INVALID, "%s: pooling %d: it must be FT_POOL_LAST, FT_POOL_MEAN,"
                        " FT_POOL_MAX, FT_POOL_ALL or FT_POOL_FIRST", node->name,
                        (int)node->options.step_pool.kind);
    if (input_count > 1 && (input[1].type != FT_I32 || input[1].shape.rank != 1
                            || input[1].shape.size[0] != x->size[0]))
        return ft__fail(c, FT_SHAPE, "%s: lengths must be I32 [N], not %s", node->name,
                        ft__shape_text(&input[1].shape, text));
    output->rank = 2;
    output->size[0] = x->size[0];
    output->size[1] = x->size[2];
    return ft__want_numbers(c, node, input, 1);
}

/* The step of each maximum. */
static void ft__step_pool_costs(const ft__call *call, ft__costs *costs)
{
    if (call->node->options.step_pool.kind == FT_POOL_MAX)
        costs->saved = ft__count(&call->output) * sizeof(int32_t);
}

/* The number of real steps of a sample. */
static size_t ft__steps_of(const ft__tensor *lengths, size_t sample, size_t most)
{
    int32_t length;
    if (!lengths) return most;
    length = ft__integers(lengths)[sample];
    return length < 0 ? 0 : (size_t)length < most ? (size_t)length : most;
}

/* The step that feature j of c is taken from, if it is one step. */
static size_t ft__step_taken(const ft_step_pool_options *o, size_t steps, size_t j, size_t c)
{
    return o->kind == FT_POOL_LAST && !(o->bidirectional && j >= c / 2) ? steps - 1 : 0;
}

static void ft__step_pool_sample(void *context, int sample)
{
    const ft__call *call = (const ft__call *)context;
    const ft_step_pool_options *o = &call->node->options.step_pool;
    size_t most = (size_t)call->input[0].shape.size[1], c = (size_t)call->input[0].shape.size[2];
    size_t steps = ft__steps_of(call->input_count > 1 ? &call->input[1] : NULL, (size_t)sample,
                                most), t, j;
    const float *x = call->input[0].value + (size_t)sample * most * c;
    float *y = call->output.value + (size_t)sample * c;
    int32_t *at = call->saved ? (int32_t *)call->saved + (size_t)sample * c : NULL;
    for (j = 0; j < c; ++j) y[j] = 0;
    for (j = 0; steps > 0 && o->kind != FT_POOL_MEAN && j < c; ++j)
        y[j] = x[ft__step_taken(o, steps, j, c) * c + j];
    for (j = 0; at && o->kind == FT_POOL_MAX && j < c; ++j) at[j] = 0;
    for (t = 0; o->kind == FT_POOL_MEAN && t < steps; ++t)
        for (j = 0; j < c; ++j) y[j] += x[t * c + j];
    for (j = 0; o->kind == FT_POOL_MEAN && steps > 0 && j < c; ++j) y[j] /= (float)steps;
    for (t = 1; o->kind == FT_POOL_MAX && t < steps; ++t)
        for (j = 0; j < c; ++j)
            if (!(x[t * c + j] <= y[j])) {
                y[j] = x[t * c + j];
                if (at) at[j] = (int32_t)t;
            }
}

static void ft__step_pool_forward(const ft__call *call)
{
    ft__parallel(call->context, call->input[0].shape.size[0], ft__step_pool_sample,
                 (void *)(uintptr_t)call);
}

static void ft__step_pool_back_sample(void *context, int sample)
{
    const ft__call *call = (const ft__call *)context;
    const ft_step_pool_options *o = &call->node->options.step_pool;
    size_t most = (size_t)call->input[0].shape.size[1], c = (size_t)call->input[0].shape.size[2];
    size_t steps = ft__steps_of(call->input_count > 1 ? &call->input[1] : NULL, (size_t)sample,
                                most), t, j;
    const float *dy = call->output.gradient + (size_t)sample * c;
    float *dx = call->input[0].gradient + (size_t)sample * most * c;
    const int32_t *at = call->saved ? (const int32_t *)call->saved + (size_t)sample * c : NULL;
    if (steps == 0) return;
    for (t = 0; o->kind == FT_POOL_MEAN && t < steps; ++t)
        for (j = 0; j < c; ++j) dx[t * c + j] += dy[j] / (float)steps;
    for (j = 0; o->kind == FT_POOL_MAX && j < c; ++j) dx[(size_t)at[j] * c + j] += dy[j];
    for (j = 0; (o->kind == FT_POOL_LAST || o->kind == FT_POOL_FIRST) && j < c; ++j)
        dx[ft__step_taken(o, steps, j, c) * c + j] += dy[j];
}

static void ft__step_pool_backward(const ft__call *call)
{
    if (call->input[0].gradient)
        ft__parallel(call->context, call->input[0].shape.size[0], ft__step_pool_back_sample,
                     (void *)(uintptr_t)call);
}

/* In files: `step_pool` | x [N, L, C]; or x and lengths | `kind` 0 (0 last, 1 mean, 2 maximum, 4
   first), `bidirectional` false */
static const ft__row ft__row_step_pool = {
    FT__NAMED(step_pool), 1, 2, FT__READS_X,
    ft__step_pool_shape, ft__step_pool_forward, FT__BACKWARD(ft__step_pool_backward),
    ft__step_pool_costs, ft__step_pool_fields, NULL};

/* The last, the maximum and the mean, each as a separate node. */
static ft_node ft__step_pool_all(ft_model *m, const char *name, ft_node x, ft_node lengths,
                                 ft_step_pool_options options)
{
    static const ft_step_pooling kinds[] = {FT_POOL_LAST, FT_POOL_MAX, FT_POOL_MEAN};
    static const char *const parts[] = {"last", "max", "mean"};
    ft_node pools[3];
    char part[512];
    int i;
    for (i = 0; i < 3; ++i) {
        options.kind = kinds[i];
        if (name) snprintf(part, sizeof part, "%s_%s", name, parts[i]);
        pools[i] = ft_step_pool(m, name ? part : NULL, x, lengths, options);
    }
    return ft_concat(m, name, 3, pools, 1);
}

ft_node ft_step_pool(ft_model *m, const char *name, ft_node x, ft_node lengths,
                     ft_step_pool_options options)
{
    ft_node inputs[2];
    if (options.kind == FT_POOL_ALL) return ft__step_pool_all(m, name, x, lengths, options);
    inputs[0] = x;
    inputs[1] = lengths;
    return ft__add_node(m, &ft__row_step_pool, name, inputs, lengths.id ? 2 : 1, &options,
                        sizeof options);
}
