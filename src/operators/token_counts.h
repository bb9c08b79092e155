#pragma once
#include "interface/types.h"
#include "interface/operators.h"
#include "platform/context.h"
#include "basics/threads.h"
#include "kernels/elementary.h"
#include "nodes/nodes.h"
#include "operators/table.h"
#include "operators/adding.h"
#include "operators/step_pool.h"

/* =============================================================================================
   [SECTION] operators/token_counts: token_counts
   A bag of words: which words a text has, and how often, but not where.
   ============================================================================================= */
static const ft__field ft__token_counts_fields[] = {FT__INT(ft_token_counts_options, words),
                                                    FT__NO_MORE_FIELDS};

/* ---- tokens I32 [N, L], lengths I32 [N] (all L if absent) -> [N, words]: y[n][w] is at how many
   of the real steps the token is w. -1 means "no word"; another token that is not in [0, words)
   makes the row NaN, which the loss shows. ---- */

static ft_status ft__token_counts_shape(ft__context *c, const ft__node *node,
                                        const ft__tensor *input, int input_count, ft_shape *output)
{
    const ft_shape *x = &input[0].shape;
    int words = node->options.token_counts.words;
    char text[80];
    memset(output, 0, sizeof *output);
    if (input[0].type != FT_I32 || x->rank != 2)
        return ft__fail(c, FT_SHAPE, "%s: expected tokens I32 [N, L], not %s %s", node->name,
                        ft__type_names[input[0].type], ft__shape_text(x, text));
    if (input_count > 1 && (input[1].type != FT_I32 || input[1].shape.rank != 1
                            || input[1].shape.size[0] != x->size[0]))
        return ft__fail(c, FT_SHAPE, "%s: lengths must be I32 [N], not %s", node->name,
                        ft__shape_text(&input[1].shape, text));
    if (words < 1)
        return ft__fail(c, FT_INVALID, "%s: words is %d; it must be above 0", node->name, words);
    output->rank = 2;
    output->size[0] = x->size[0];
    output->size[1] = words;
    return FT_OK;
}

static void ft__count_tokens(void *context, int sample)
{
    const ft__call *call = (const ft__call *)context;
    size_t most = (size_t)call->input[0].shape.size[1], words = ft__count(&call->output)
        / (size_t)call->output.shape.size[0], steps, t, w;
    const int32_t *tokens = ft__integers(&call->input[0]) + (size_t)sample * most;
    float *y = call->output.value + (size_t)sample * words;
    bool wrong = false;
    steps = ft__steps_of(call->input_count > 1 ? &call->input[1] : NULL, (size_t)sample, most);
    memset(y, 0, words * sizeof *y);
    for (t = 0; t < steps; ++t)
        if (tokens[t] >= 0 && (size_t)tokens[t] < words) y[tokens[t]] += 1;
        else wrong = wrong || tokens[t] != -1;
    for (w = 0; wrong && w < words; ++w) y[w] = ft__from_bits(0x7fc00000u);
}

static void ft__token_counts_forward(const ft__call *call)
{
    ft__parallel(call->context, call->output.shape.size[0], ft__count_tokens,
                 (void *)(uintptr_t)call);
}

/* In files: `token_counts` | tokens (I32); then, if given, lengths | `words` */
static const ft__row ft__row_token_counts = {
    FT__NAMED(token_counts), 1, 2, FT__COUNTS,
    ft__token_counts_shape, ft__token_counts_forward, NULL, NULL, ft__token_counts_fields, NULL};

ft_node ft_token_counts(ft_model *m, const char *name, ft_node tokens, ft_node lengths,
                        ft_token_counts_options options)
{
    ft_node inputs[2], none = {0};
    if (!FT__HAS(m, ARITHMETIC)) return none;
    inputs[0] = tokens;
    inputs[1] = lengths;
    return ft__add_node(m, &ft__row_token_counts, name, inputs, lengths.id ? 2 : 1, &options,
                        sizeof options);
}
