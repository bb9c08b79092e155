#pragma once
#include "interface/types.h"
#include "platform/context.h"
#include "basics/threads.h"
#include "kernels/elementary.h"
#include "nodes/nodes.h"
#include "operators/table.h"
#include "operators/activations.h"

/* =============================================================================================
   [SECTION] operators/embedding: Embedding and pooling over steps
   ============================================================================================= */
static const ft__field ft__embedding_fields[] = {
    {"padding_index", offsetof(ft_embedding_options, padding_index), 1, 'i'},
    {"padded", offsetof(ft_embedding_options, padded), 1, 'b'}, {NULL, 0, 0, 0}};
static const ft__field ft__step_pool_fields[] = {
    {"kind", offsetof(ft_step_pool_options, kind), 1, 'i'},
    {"bidirectional", offsetof(ft_step_pool_options, bidirectional), 1, 'b'}, {NULL, 0, 0, 0}};

/* ---- embedding: ids [N] or [N, L], weight [V, E] -> [.., E]: y = weight[id]. An id of -1 stands
   for "no word" and gives zeros; any other that is not in [0, V) gives NaN, which the loss shows.
   dweight[id] += dy, but for padding_index. ---- */

static ft_status ft__embedding_shape(ft__context *c, const ft__node *node, const ft__tensor *input,
                                     int input_count, ft_shape *output)
{
    const ft_shape *ids = &input[0].shape, *w = &input[1].shape;
    const ft_embedding_options *o = &node->options.embedding;
    char text[80], other[80];
    (void)input_count;
    *output = *ids;
    if (input[0].type != FT_I32)
        return ft__fail(c, FT_SHAPE, "%s: ids hold %s, not I32", node->name,
                        ft__type_names[input[0].type]);
    if (ids->rank < 1 || ids->rank > 2 || w->rank != 2)
        return ft__fail(c, FT_SHAPE, "%s: wants ids [N] or [N, L] and weight [V, E], has %s and %s",
                        node->name, ft__shape_text(ids, text), ft__shape_text(w, other));
    if (o->padded && (o->padding_index < 0 || o->padding_index >= w->size[0]))
        return ft__fail(c, FT_INVALID, "%s: padding_index %d of %d words", node->name,
                        o->padding_index, w->size[0]);
    output->size[output->rank++] = w->size[1];
    return ft__want_numbers(c, node, input + 1, 1);
}

static void ft__embedding_forward(const ft__call *call)
{
    const int32_t *ids = ft__integers(&call->input[0]);
    size_t count = ft__count(&call->input[0]), i, j;
    size_t words = (size_t)call->input[1].shape.size[0];
    size_t each = (size_t)call->input[1].shape.size[1];
    float *y = call->output.value;
    for (i = 0; i < count; ++i, y += each) {
        if (ids[i] >= 0 && (size_t)ids[i] < words)
            memcpy(y, call->input[1].value + (size_t)ids[i] * each, each * sizeof *y);
        else for (j = 0; j < each; ++j) y[j] = ids[i] == -1 ? 0 : ft__from_bits(0x7fc00000u);
    }
}

/* Work in proportion to the words in the batch; several places of one word add up in order. */
static void ft__embedding_backward(const ft__call *call)
{
    const ft_embedding_options *o = &call->node->options.embedding;
    const int32_t *ids = ft__integers(&call->input[0]);
    size_t count = ft__count(&call->input[0]), i, j;
    size_t words = (size_t)call->input[1].shape.size[0];
    size_t each = (size_t)call->input[1].shape.size[1];
    const float *dy = call->output.gradient;
    for (i = 0; call->input[1].gradient && i < count; ++i, dy += each) {
        float *to = call->input[1].gradient + (size_t)ids[i] * each;
        if (ids[i] < 0 || (size_t)ids[i] >= words) continue;
        if (o->padded && ids[i] == o->padding_index) continue;
        for (j = 0; j < each; ++j) to[j] += dy[j];
    }
}

/* ---- step_pool: x [N, L, C], lengths [N] (all L where there are none) -> [N, C]: the mean, the
   largest, or the last of the real steps; zeros where there is no step. `last` with
   `bidirectional` takes the second half of C from step 0, where a reversed RNN ends. ---- */

static ft_status ft__step_pool_shape(ft__context *c, const ft__node *node, const ft__tensor *input,
                                     int input_count, ft_shape *output)
{
    const ft_shape *x = &input[0].shape;
    char text[80];
    memset(output, 0, sizeof *output);
    if (x->rank != 3)
        return ft__fail(c, FT_SHAPE, "%s: wants [N, L, C], has %s", node->name,
                        ft__shape_text(x, text));
    if ((unsigned)node->options.step_pool.kind > FT_POOL_MAX)
        return ft__fail(c, FT_INVALID, "%s: pooling %d: there are FT_POOL_LAST, FT_POOL_MEAN,"
                        " FT_POOL_MAX and FT_POOL_ALL", node->name,
                        (int)node->options.step_pool.kind);
    if (input_count > 1 && (input[1].type != FT_I32 || input[1].shape.rank != 1
                            || input[1].shape.size[0] != x->size[0]))
        return ft__fail(c, FT_SHAPE, "%s: lengths are I32 [N], not %s", node->name,
                        ft__shape_text(&input[1].shape, text));
    output->rank = 2;
    output->size[0] = x->size[0];
    output->size[1] = x->size[2];
    return ft__want_numbers(c, node, input, 1);
}

/* Where the largest was found. */
static void ft__step_pool_costs(const ft__call *call, ft__costs *costs)
{
    if (call->node->options.step_pool.kind == FT_POOL_MAX)
        costs->saved = ft__count(&call->output) * sizeof(int32_t);
}

/* How many steps of a sample are real. */
static size_t ft__steps_of(const ft__tensor *lengths, size_t sample, size_t most)
{
    int32_t length;
    if (!lengths) return most;
    length = ft__integers(lengths)[sample];
    return length < 0 ? 0 : (size_t)length < most ? (size_t)length : most;
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
        y[j] = x[(o->kind == FT_POOL_MAX || (o->bidirectional && j >= c / 2) ? 0 : steps - 1) * c
                 + j];
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
    const int32_t *at = (const int32_t *)call->saved + (size_t)sample * c;
    if (steps == 0) return;
    for (t = 0; o->kind == FT_POOL_MEAN && t < steps; ++t)
        for (j = 0; j < c; ++j) dx[t * c + j] += dy[j] / (float)steps;
    for (j = 0; o->kind == FT_POOL_MAX && j < c; ++j) dx[(size_t)at[j] * c + j] += dy[j];
    for (j = 0; o->kind == FT_POOL_LAST && j < c; ++j)
        dx[(o->bidirectional && j >= c / 2 ? 0 : steps - 1) * c + j] += dy[j];
}

static void ft__step_pool_backward(const ft__call *call)
{
    if (call->input[0].gradient)
        ft__parallel(call->context, call->input[0].shape.size[0], ft__step_pool_back_sample,
                     (void *)(uintptr_t)call);
}
