#pragma once
#include "interface/types.h"
#include "interface/operators.h"
#include "platform/context.h"
#include "nodes/nodes.h"
#include "operators/table.h"
#include "operators/adding.h"
#include "operators/arithmetic.h"
#include "operators/elementwise.h"
#include "operators/reduce.h"
#include "operators/matmul.h"
#include "operators/losses.h"
#include "operators/rows.h"
#include "graph/plan.h"
#include "graph/settings.h"
#include "graph/surgery.h"

/* =============================================================================================
   [SECTION] graph/pair_loss: The loss of pairs of texts
   What a text's vector is computed from is there once more, on the same weights, for the second
   text of each pair: the node "n" becomes "n_b". The loss is sentence-transformers'
   MultipleNegativesRankingLoss (Henderson et al. 2017): of all second texts of the batch each first
   text should be nearest to its own.
   ============================================================================================= */

/* Marks the nodes that a target is computed from and that depend on an input. */
static void ft__mark_fed(const ft_model *m, int target, char *marked)
{
    int at, i;
    ft__mark_needed(m, target, 1, marked);
    for (at = 0; at < m->node_count; ++at) {
        const ft__node *node = &m->nodes[m->order[at] - 1];
        bool fed = ft__has_rows(node);
        for (i = 0; !fed && i < node->input_count; ++i)
            fed = marked[node->inputs[i] - 1] > 1;
        if (fed && marked[m->order[at] - 1]) marked[m->order[at] - 1] = 2;
    }
    for (i = 0; i < m->node_count; ++i) marked[i] = marked[i] > 1;
}

/* Adds a node's twin, which reads twins where there are any. */
static int ft__add_twin(ft_model *m, int id, const int *twin)
{
    ft_node inputs[FT__COPIED_INPUTS], made;
    ft__node *node = &m->nodes[id - 1];
    char name[512];
    bool frozen = node->frozen;
    int i;
    if (!ft__can_copy(node)) {
        ft__fail(&m->context, FT_UNSUPPORTED, "ft_pair_loss: %.200s, which keeps a state or is of"
                 " ft_custom, cannot be there twice", node->name);
        return 0;
    }
    snprintf(name, sizeof name, "%.500s_b", node->name);
    for (i = 0; i < node->input_count; ++i)
        inputs[i].id = twin[node->inputs[i] - 1] ? twin[node->inputs[i] - 1] : node->inputs[i];
    made = ft__add_node(m, ft__rows[node->op], name, inputs, node->input_count, &node->options,
                        sizeof node->options);
    if (!made.id) return 0;
    node = &m->nodes[id - 1]; /* the nodes may have moved */
    m->nodes[made.id - 1].frozen = frozen;
    m->nodes[made.id - 1].type = node->type;
    if (ft__is_leaf(node)) m->nodes[made.id - 1].shape = node->shape;
    return made.id;
}

/* Adds the twins of all that a node is computed from; returns its own twin. */
static ft_node ft__add_twins(ft_model *m, ft_node target)
{
    ft__context *c = &m->context;
    int count = m->node_count, at;
    char *marked = (char *)ft__allocate(c, (size_t)count, 1);
    int *twin = (int *)ft__allocate(c, (size_t)count, sizeof *twin);
    int *order = (int *)ft__allocate(c, (size_t)count, sizeof *order);
    ft_node made = {0};
    if (ft__ok(c)) {
        ft__mark_fed(m, target.id, marked);
        memcpy(order, m->order, (size_t)count * sizeof *order);
        for (at = 0; ft__ok(c) && at < count; ++at)
            if (marked[order[at] - 1]) twin[order[at] - 1] = ft__add_twin(m, order[at], twin);
        made.id = ft__ok(c) ? twin[target.id - 1] : 0;
    }
    ft__release(c, order);
    ft__release(c, twin);
    ft__release(c, marked);
    return made;
}

/* "mean", "sum" or "amax" of each row [N, C] -> [N, 1]. */
static ft_node ft__of_rows(ft_model *m, const char *kind, const char *name, ft_node x)
{
    return ft__reduce_axis(m, kind, name, x, -1, true);
}

/* x [N, C] with rows of length 1. A row of zeros stays so. */
static ft_node ft__unit_rows(ft_model *m, const char *name, ft_node x)
{
    char part[64];
    ft_node size;
    snprintf(part, sizeof part, "%s_squares", name);
    size = ft__of_rows(m, "sum", part, ft_mul(m, NULL, x, x));
    snprintf(part, sizeof part, "%s_square", name);
    size = ft__at_least(m, part, size, 1e-24f); /* so that the slope of its root is finite */
    snprintf(part, sizeof part, "%s_length", name);
    return ft_binary(m, "div", name, x, ft__unary_of(m, "sqrt", part, size));
}

/* a, b [N, C] -> the mean of log(sum over j of exp(s cos(a_i, b_j))) - s cos(a_i, b_i). */
static ft_node ft__ranking_loss(ft_model *m, ft_node a, ft_node b, float scale)
{
    ft_matmul_options product;
    ft_node logits, largest, all, own;
    memset(&product, 0, sizeof product);
    product.transpose_b = true;
    a = ft__unit_rows(m, "pair_a", a);
    b = ft__unit_rows(m, "pair_b", b);
    own = ft__of_rows(m, "sum", "pair_cosine", ft_mul(m, "pair_product", a, b));
    own = ft__named_affine(m, "pair_own", own, scale, 0);
    logits = ft__named_affine(m, "pair_logits", ft_matmul(m, "pair_cosines", a, b, product), scale,
                              0);
    largest = ft__of_rows(m, "amax", "pair_most", logits);
    largest = ft__unary_of(m, "detach", "pair_largest", largest);
    all = ft__unary_of(m, "exp", "pair_shares", ft_binary(m, "sub", "pair_less", logits, largest));
    all = ft__unary_of(m, "log", "pair_log", ft__of_rows(m, "sum", "pair_sum", all));
    all = ft_add(m, "pair_all", all, largest);
    return ft__mean_of(m, "pair_loss", ft_binary(m, "sub", "pair_losses", all, own));
}

/* a, b [N, C] -> the mean of (cos(a_i, b_i) - score_i)^2, of the input "scores" [N, 1]. */
static ft_node ft__score_loss(ft_model *m, ft_node a, ft_node b)
{
    ft_input_options one;
    memset(&one, 0, sizeof one);
    one.size[0] = 1;
    a = ft_mul(m, "pair_product", ft__unit_rows(m, "pair_a", a), ft__unit_rows(m, "pair_b", b));
    return ft_mse(m, "pair_loss", ft__of_rows(m, "sum", "pair_cosine", a),
                  ft_input(m, "scores", one));
}

ft_status ft_pair_loss(ft_model *m, ft_pair_loss_options options)
{
    float scale = options.scale == 0 ? 20.0f : options.scale;
    ft_node second, loss, vector;
    if (!FT__HAS(m, TRAINING) || !FT__HAS(m, ARITHMETIC) || !FT__HAS(m, SURGERY) || !ft__usable(m))
        return ft__status_of(m);
    vector = m->text_vector;
    if (!vector.id)
        return ft__fail(&m->context, FT_INVALID, "ft_pair_loss: nothing says how the tokens of a"
                        " text become one vector: load the model with ft_network_options.pooling,"
                        " or use ft_set_text_vector");
    if (options.scored && options.scale != 0)
        return ft__fail(&m->context, FT_INVALID, "ft_pair_loss: scale has no effect here: it is for"
                        " pairs without scores");
    if (!(scale > 0 && scale <= FLT_MAX))
        return ft__fail(&m->context, FT_INVALID, "ft_pair_loss: scale is %g; it must be finite and"
                        " above 0", (double)options.scale);
    if (ft_cut(m, vector) != FT_OK) return m->context.status;
    second = ft__add_twins(m, vector);
    loss = options.scored ? ft__score_loss(m, vector, second)
                          : ft__ranking_loss(m, vector, second, scale);
    if (ft__ok(&m->context)) ft_set_loss(m, loss);
    return m->context.status;
}
