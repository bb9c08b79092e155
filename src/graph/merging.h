#pragma once
#include "interface/types.h"
#include "platform/context.h"
#include "basics/strings.h"
#include "kernels/stored.h"
#include "nodes/nodes.h"
#include "nodes/names.h"
#include "nodes/sharing.h"
#include "nodes/storage.h"
#include "operators/table.h"
#include "operators/rows.h"
#include "devices/device.h"
#include "graph/surgery.h"
#include "graph/adapters.h"

/* =============================================================================================
   [SECTION] graph/merging: Adapters added to the weights, and taken out again
   y = W x + b + s B A x is (W + s B A) x + b: one layer, as fast as before. Rounded numbers do not
   give W back by subtraction, so ft_unmerge needs what W was: ft_merge keeps it where it is asked
   to, with the adapter's parameters.
   ============================================================================================= */
/* A layer before its adapter was merged, in a list of which the last is the first. */
struct ft__merged {
    ft__merged *next;
    int call;               /* the number of the call of ft_merge */
    char *layer;
    ft_lora_options options;/* of its adapter, but for alpha: */
    float scale;
    bool dropout_frozen;
    ft__node part[FT__LORA_PARTS]; /* their numbers and settings; no name: there is no such part */
    ft__node weight, bias;  /* of the layer; bias: only if the adapter has one */
};

static void ft__merged_free(ft__context *c, ft__merged *merged)
{
    int i;
    if (!merged) return;
    for (i = 0; i < FT__LORA_PARTS; ++i) ft__release_value(c, &merged->part[i]);
    ft__release_value(c, &merged->weight);
    ft__release_value(c, &merged->bias);
    ft__release(c, merged->layer);
    ft__release(c, merged);
}

static void ft__merged_free_all(ft_model *m)
{
    while (m->merged) {
        ft__merged *next = m->merged->next;
        ft__merged_free(&m->context, m->merged);
        m->merged = next;
    }
}

/* Gives a weight's numbers to another holder, which has none. */
static void ft__move_value(ft__node *from, ft__node *to)
{
    to->value = from->value;
    to->stored = from->stored;
    to->mapping = from->mapping;
    from->value = NULL;
    from->mapping = NULL;
    memset(&from->stored, 0, sizeof from->stored);
}

/* What is needed to make the adapter of a layer again, but for the numbers; NULL: no memory. */
static ft__merged *ft__merged_make(ft_model *m, const ft__node *layer, int call)
{
    ft__context *c = &m->context;
    ft__adapter adapter = ft__adapter_of(m, layer);
    const ft__node *d = ft__get_node(m, ft__find_part(m, layer->name, "lora_dropout"));
    ft__merged *merged = (ft__merged *)ft__allocate(c, 1, sizeof *merged);
    if (!merged) return NULL;
    merged->layer = ft__copy_text(c, layer->name);
    merged->call = call;
    merged->options.rank = m->nodes[adapter.a.id - 1].shape.size[adapter.of_words ? 1 : 0];
    merged->options.dora = adapter.magnitude.id != 0;
    merged->options.bias = adapter.bias.id != 0;
    merged->options.dropout = d ? d->options.dropout.probability : 0;
    merged->dropout_frozen = d && d->frozen;
    merged->scale = m->nodes[adapter.scale.id - 1].options.unary.scale;
    if (merged->layer) return merged;
    ft__merged_free(c, merged);
    return NULL;
}

/* Moves the numbers of a layer's adapter into what is kept, or, in the network, back. */
static void ft__move_parts(ft_model *m, ft__merged *merged, bool back)
{
    int i;
    for (i = 0; i < FT__LORA_PARTS; ++i) {
        ft__node *kept = &merged->part[i];
        ft__node *node = ft__get_node(m, ft__find_part(m, merged->layer, ft__lora_parts[i]));
        if (!node) continue;
        if (back) {
            ft__release_value(&m->context, node);
            ft__move_value(kept, node);
            node->frozen = kept->frozen;
            node->learning_rate_factor = kept->learning_rate_factor;
            node->weight_decay = kept->weight_decay;
        } else {
            *kept = *node;
            ft__move_value(node, kept);
        }
    }
}

/* ---- Merging ---- */

/* What is added to a weight: s left right, left [rows, rank], right [rank, columns], whose element
   r, j is at r * r_step + j * j_step. With `magnitude` (DoRA) each row of the sum then gets its
   length; with `of_words` each column. */
typedef struct ft__low_rank {
    const float *left, *right;
    size_t rank, r_step, j_step;
    double scale;
    const float *magnitude; /* NULL: none */
    double *factors;        /* room for as many numbers */
    bool of_words;
} ft__low_rank;

/* A number of the sum, in double. */
static double ft__merged_number(float w, const ft__low_rank *p, size_t i, size_t j)
{
    double sum = 0;
    size_t r;
    for (r = 0; r < p->rank; ++r)
        sum += (double)p->left[i * p->rank + r] * (double)p->right[r * p->r_step + j * p->j_step];
    return (double)w + p->scale * sum;
}

/* w [rows, columns] += s left right, each number rounded once. */
static void ft__merge_product(float *w, size_t rows, size_t columns, const ft__low_rank *p)
{
    size_t lines = p->of_words ? columns : rows, i, j;
    for (i = 0; p->magnitude && i < lines; ++i) p->factors[i] = 0;
    for (i = 0; p->magnitude && i < rows; ++i)
        for (j = 0; j < columns; ++j) {
            double number = ft__merged_number(w[i * columns + j], p, i, j);
            p->factors[p->of_words ? j : i] += number * number;
        }
    for (i = 0; p->magnitude && i < lines; ++i)
        p->factors[i] = (double)p->magnitude[i] / sqrt(p->factors[i]);
    for (i = 0; i < rows; ++i)
        for (j = 0; j < columns; ++j) {
            double factor = p->magnitude ? p->factors[p->of_words ? j : i] : 1;
            float *to = &w[i * columns + j];
            *to = (float)(factor * ft__merged_number(*to, p, i, j));
        }
}

/* A weight's numbers as float32; NULL: no memory. */
static float *ft__float32_copy(ft_model *m, const ft__node *node)
{
    ft__stored s = ft__stored_of(node);
    size_t count = ft__shape_count(&node->shape);
    float *copy = (float *)ft__allocate(&m->context, count, sizeof *copy);
    if (copy) ft__read_stored_run(&m->context, &s, 0, count, copy);
    return copy;
}

/* Returns the layer's weight with its adapter in it, and its bias, NULL if that does not change. */
static float *ft__merged_weight(ft_model *m, const ft__node *layer, float **bias)
{
    ft__context *c = &m->context;
    ft__adapter adapter = ft__adapter_of(m, layer);
    const ft__node *a = &m->nodes[adapter.a.id - 1], *b = &m->nodes[adapter.b.id - 1];
    const ft__node *weight = &m->nodes[layer->inputs[1] - 1];
    const ft__node *magnitude = ft__get_node(m, adapter.magnitude);
    size_t rows = (size_t)weight->shape.size[0], columns, i;
    ft__low_rank p;
    float *left = ft__float32_copy(m, adapter.of_words ? a : b);
    float *right = left ? ft__float32_copy(m, adapter.of_words ? b : a) : NULL;
    float *lengths = right && magnitude ? ft__float32_copy(m, magnitude) : NULL;
    float *sum = ft__ok(c) ? ft__float32_copy(m, weight) : NULL;
    columns = ft__shape_count(&weight->shape) / rows;
    memset(&p, 0, sizeof p);
    p.left = left;
    p.right = right;
    p.rank = (size_t)(adapter.of_words ? a->shape.size[1] : a->shape.size[0]);
    p.r_step = adapter.of_words ? 1 : ft__shape_count(&a->shape) / p.rank;
    p.j_step = adapter.of_words ? p.rank : 1;
    p.scale = (double)m->nodes[adapter.scale.id - 1].options.unary.scale;
    p.magnitude = lengths;
    p.of_words = adapter.of_words;
    if (sum && lengths)
        p.factors = (double *)ft__allocate(c, p.of_words ? columns : rows, sizeof *p.factors);
    if (ft__ok(c)) ft__merge_product(sum, rows, columns, &p);
    *bias = NULL;
    if (ft__ok(c) && adapter.bias.id) {
        float *more = ft__float32_copy(m, &m->nodes[adapter.bias.id - 1]);
        *bias = more ? ft__float32_copy(m, &m->nodes[layer->inputs[2] - 1]) : NULL;
        for (i = 0; *bias && i < rows; ++i)
            (*bias)[i] = (float)((double)(*bias)[i] + p.scale * (double)more[i]);
        ft__release(c, more);
    }
    ft__release(c, p.factors);
    ft__release(c, lengths);
    ft__release(c, right);
    ft__release(c, left);
    if (ft__ok(c)) return sum;
    ft__release(c, sum);
    return NULL;
}

/* Gives a weight other numbers; `kept` gets those that it had, or, NULL, they are released. */
static void ft__exchange_value(ft_model *m, ft__node *node, float *value, ft__node *kept)
{
    if (kept) *kept = *node;
    if (kept) ft__move_value(node, kept);
    else ft__release_value(&m->context, node);
    node->value = value;
}

/* Merges the adapter whose sum is this node; or nothing is changed. */
static ft_status ft__merge_one(ft_model *m, int id, int call, bool keep)
{
    ft__context *c = &m->context;
    ft_node base, read;
    const ft__node *layer;
    ft__merged *merged = NULL;
    float *weight, *bias;
    base.id = m->nodes[id - 1].inputs[0];
    layer = &m->nodes[base.id - 1];
    read = ft__find_part(m, layer->name, "lora_dora");
    if (!read.id) read.id = id;
    if (keep && !(merged = ft__merged_make(m, layer, call))) return c->status;
    weight = ft__merged_weight(m, layer, &bias);
    if (weight && merged) ft__move_parts(m, merged, false);
    if (weight && ft__replace(m, read, base) == FT_OK) {
        ft__exchange_value(m, &m->nodes[layer->inputs[1] - 1], weight,
                           merged ? &merged->weight : NULL);
        if (bias)
            ft__exchange_value(m, &m->nodes[layer->inputs[2] - 1], bias,
                               merged ? &merged->bias : NULL);
        if (merged) merged->next = m->merged;
        if (merged) m->merged = merged;
        m->version += 1;
        return c->status;
    }
    if (weight && merged) ft__move_parts(m, merged, true);
    ft__release(c, bias);
    ft__release(c, weight);
    ft__merged_free(c, merged);
    return c->status;
}

/* Whether the adapter of this layer can be added to its weights alone. */
static ft_status ft__merge_check(ft_model *m, const ft__node *layer)
{
    ft__adapter adapter = ft__adapter_of(m, layer);
    int again = ft__find_part(m, layer->name, "lora_again").id, i, k; /* goes with the adapter */
    if (adapter.bias.id && layer->input_count < 3)
        return ft__fail(&m->context, FT_UNSUPPORTED, "ft_merge: %s has no bias, but its adapter"
                        " has", layer->name);
    for (i = 0; i < m->node_count; ++i)
        for (k = 1; k < m->nodes[i].input_count; ++k)
            if (&m->nodes[i] != layer && i + 1 != again && m->nodes[i].inputs[k] == layer->inputs[1]
                && (ft__is(&m->nodes[i], FT__WEIGHTS) || ft__is(&m->nodes[i], FT__OWN_LOGITS)))
                return ft__fail(&m->context, FT_UNSUPPORTED, "ft_merge: %s reads the weight of %s"
                                " too, and would change with it", m->nodes[i].name, layer->name);
    return m->context.status;
}

int ft_merge(ft_model *m, ft_merge_options options)
{
    int i, count = 0, call;
    if (!ft__usable(m) || !FT__HAS(m, SURGERY)
        || ft__refuse_any_shared(m, "ft_merge") != FT_OK) return 0;
    ft__host_takes_weights(&m->context, true);
    call = m->merged ? m->merged->call + 1 : 1;
    for (i = 0; ft__ok(&m->context) && i < m->node_count; ++i)
        if (ft__is_adapted(m, &m->nodes[i]))
            ft__merge_check(m, &m->nodes[m->nodes[i].inputs[0] - 1]);
    for (i = 0; ft__ok(&m->context) && i < m->node_count; ++i)
        if (ft__is_adapted(m, &m->nodes[i])
            && ft__merge_one(m, i + 1, call, options.keep) == FT_OK) count += 1;
    m->weights_version += 1;
    return ft__ok(&m->context) ? count : 0;
}

/* ---- Unmerging ---- */

/* Whether the layer is still there, without an adapter. */
static ft_status ft__unmerge_check(ft_model *m, const ft__merged *merged)
{
    const ft__node *layer = ft__get_node(m, ft__find_node(m, merged->layer));
    ft__context *c = &m->context;
    if (!layer || !ft__can_adapt(layer)
        || !ft__same_sizes(&m->nodes[layer->inputs[1] - 1].shape, &merged->weight.shape)
        || (merged->options.bias && layer->input_count < 3))
        return ft__fail(c, FT_INVALID, "ft_unmerge: %s is no longer the layer that was merged",
                        merged->layer);
    if (ft__has_adapter(m, layer))
        return ft__fail(c, FT_INVALID, "ft_unmerge: %s has another adapter now", merged->layer);
    return c->status;
}

static void ft__set_scale(ft_model *m, const ft__merged *merged, const char *part)
{
    ft__node *node = ft__get_node(m, ft__find_part(m, merged->layer, part));
    if (node) node->options.unary.scale = merged->scale;
}

/* Makes the last adapter again, and takes it out of the list. */
static ft_status ft__unmerge_one(ft_model *m)
{
    ft__merged *merged = m->merged;
    int id = ft__find_node(m, merged->layer).id;
    ft__node *layer, *d;
    if (ft__adapt(m, id, &merged->options) != FT_OK) return m->context.status;
    layer = &m->nodes[id - 1];
    ft__release_value(&m->context, &m->nodes[layer->inputs[1] - 1]);
    ft__move_value(&merged->weight, &m->nodes[layer->inputs[1] - 1]);
    if (merged->options.bias) {
        ft__release_value(&m->context, &m->nodes[layer->inputs[2] - 1]);
        ft__move_value(&merged->bias, &m->nodes[layer->inputs[2] - 1]);
    }
    ft__move_parts(m, merged, true);
    ft__set_scale(m, merged, ft__lora_scale_name);
    ft__set_scale(m, merged, ft__lora_length_scale);
    d = ft__get_node(m, ft__find_part(m, merged->layer, "lora_dropout"));
    if (d) d->frozen = merged->dropout_frozen;
    m->merged = merged->next;
    ft__merged_free(&m->context, merged);
    m->version += 1;
    return m->context.status;
}

int ft_unmerge(ft_model *m)
{
    const ft__merged *merged;
    int count = 0, call;
    if (!ft__usable(m) || !FT__HAS(m, SURGERY)
        || ft__refuse_any_shared(m, "ft_unmerge") != FT_OK) return 0;
    if (!m->merged)
        ft__fail(&m->context, FT_INVALID, "ft_unmerge: nothing was kept: call ft_merge with"
                 " options.keep");
    call = m->merged ? m->merged->call : 0;
    for (merged = m->merged; merged && merged->call == call; merged = merged->next)
        if (ft__unmerge_check(m, merged) != FT_OK) return 0;
    ft__host_takes_weights(&m->context, true);
    while (ft__ok(&m->context) && m->merged && m->merged->call == call
           && ft__unmerge_one(m) == FT_OK) count += 1;
    m->weights_version += 1;
    return ft__ok(&m->context) ? count : 0;
}
