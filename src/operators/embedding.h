#pragma once
#include "interface/types.h"
#include "interface/operators.h"
#include "platform/families.h"
#include "platform/context.h"
#include "kernels/elementary.h"
#include "kernels/stored.h"
#include "nodes/nodes.h"
#include "operators/table.h"
#include "operators/adding.h"
#include "operators/common.h"

/* =============================================================================================
   [SECTION] operators/embedding: Embedding
   ============================================================================================= */
static const ft__field ft__embedding_fields[] = {
    FT__INT(ft_embedding_options, padding_index), FT__BOOL(ft_embedding_options, padded),
    FT__NOT_KEPT(ft_embedding_options, weight) FT__NO_MORE_FIELDS};
/* ---- embedding: ids [N] or [N, L], weight [V, E] -> [.., E]: y = weight[id]. An id of -1 means
   "no word" and gives zeros; any other that is not in [0, V) gives NaN, which the loss shows.
   dweight[id] += dy, except for padding_index. ---- */

static ft_status ft__embedding_shape(ft__context *c, const ft__node *node, const ft__tensor *input,
                                     int input_count, ft_shape *output)
{
    const ft_shape *ids = &input[0].shape, *w = &input[1].shape;
    const ft_embedding_options *o = &node->options.embedding;
    char text[80], other[80];
    (void)input_count;
    *output = *ids;
    if (input[0].type != FT_I32)
        return ft__fail(c, FT_SHAPE, "%s: the ids are %s, but must be I32", node->name,
                        ft__type_names[input[0].type]);
    if (ids->rank < 1 || ids->rank > 2 || w->rank != 2)
        return ft__fail(c, FT_SHAPE, "%s: expected ids [N] or [N, L] and a weight [V, E], not %s"
                        " and %s", node->name, ft__shape_text(ids, text), ft__shape_text(w, other));
    if (o->padded && (o->padding_index < 0 || o->padding_index >= w->size[0]))
        return ft__fail(c, FT_INVALID, "%s: padding_index is %d; it must be at least 0 and below"
                        " %d", node->name, o->padding_index, w->size[0]);
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
        if (ids[i] >= 0 && (size_t)ids[i] < words && call->input[1].typed.at)
            ft__read_stored(call->context, &call->input[1].typed, (size_t)ids[i], 0, each, y);
        else if (ids[i] >= 0 && (size_t)ids[i] < words)
            memcpy(y, call->input[1].value + (size_t)ids[i] * each, each * sizeof *y);
        else for (j = 0; j < each; ++j) y[j] = ids[i] == -1 ? 0 : ft__from_bits(0x7fc00000u);
    }
}

/* The work is proportional to the words in the batch; repeated words add up in order. */
static void ft__embedding_backward(const ft__call *call)
{
    const ft_embedding_options *o = &call->node->options.embedding;
    const int32_t *ids = ft__integers(&call->input[0]);
    size_t count = ft__count(&call->input[0]), i, j;
    size_t words = (size_t)call->input[1].shape.size[0];
    size_t each = (size_t)call->input[1].shape.size[1];
    const float *dy = call->output.gradient;
    for (i = 0; call->input[1].gradient && i < count; ++i, dy += each) {
        float *to;
        if (ids[i] < 0 || (size_t)ids[i] >= words) continue;
        if (o->padded && ids[i] == o->padding_index) continue;
        to = call->input[1].gradient + (size_t)ids[i] * each;
        for (j = 0; j < each; ++j) to[j] += dy[j];
    }
}

/* In files: `embedding` | ids (I32), weight [words, features] | `padding_index` 0, `padded` false:
   whether that row gets no gradient */
static const ft__row ft__row_embedding = {
    FT__NAMED(embedding), 2, 2,
    FT__READS_X | FT__WEIGHTS | FT__LOOKS_UP | FT__READS_TYPES | FT__BY_STEP,
    ft__embedding_shape, ft__embedding_forward, FT__BACKWARD(ft__embedding_backward), NULL,
    ft__embedding_fields, NULL};

ft_node ft_embedding(ft_model *m, const char *name, ft_node ids, int words, int features,
                     ft_embedding_options options)
{
    ft_node inputs[2], none = {0};
    ft_parameter_options p;
    ft__node *weight;
    int i;
    memset(&p, 0, sizeof p);
    if (!ft__usable(m)) return none;
    if (words < 1 || features < 1)
        ft__fail(&m->context, FT_INVALID, "%s: %d words of %d features: both must be above 0", name,
                 words, features);
    p.size[0] = words;
    p.size[1] = features;
    p.initialiser = FT_INIT_KAIMING_NORMAL;
    p.fan_out = 2; /* N(0, 2 / 2) */
    inputs[0] = ids;
    inputs[1] = options.weight.id ? options.weight : ft__layer_parameter(m, name, "weight", p);
    weight = ft__get_node(m, inputs[1]);
    if (ft__ok(&m->context) && options.padded && !options.weight.id && !m->values_follow
        && options.padding_index >= 0 && options.padding_index < words)
        for (i = 0; i < features; ++i) weight->value[options.padding_index * features + i] = 0;
    options.weight = none; /* it is an input now */
    return ft__add_node(m, &ft__row_embedding, name, inputs, 2, &options, sizeof options);
}
