#pragma once
#include "interface/types.h"
#include "platform/context.h"
#include "basics/numbers.h"
#include "basics/strings.h"
#include "nodes/nodes.h"
#include "nodes/names.h"
#include "nodes/sharing.h"
#include "nodes/storage.h"
#include "operators/table.h"
#include "operators/dropout.h"
#include "operators/conv2d.h"
#include "operators/linear.h"
#include "operators/arithmetic.h"
#include "operators/elementwise.h"
#include "operators/rows.h"
#include "devices/device.h"
#include "graph/plan.h"
#include "graph/forward_backward.h"
#include "graph/surgery.h"

/* =============================================================================================
   [SECTION] graph/adapters: LoRA
   Beside a frozen linear layer or convolution W go two small trained ones (Hu et al. 2021):
       y = W x + b + s B (A drop(x)),   A [rank, in],  B [out, rank] or, in a convolution, A with
   W's kernel and B of 1 x 1. A starts as a new layer does and B as zeros, so that at first nothing
   changes. s is alpha / rank, or alpha / sqrt(rank), with which large ranks learn too
   (Kalajdzievski 2023). The layer "n" gets the nodes "n.lora_dropout", "n.lora_A", "n.lora_scale",
   which applies s to the few numbers between A and B, "n.lora_B", and the sum "n.lora", which is
   read instead of "n". The names of the parameters are PEFT's. W has no gradient, so none is ever
   formed.
   ============================================================================================= */
static const char ft__lora_parameters[] = "*.lora_A.weight,*.lora_B.weight";

/* s for a rank. */
static float ft__lora_scale(const ft_lora_options *o, int rank)
{
    double alpha = o->alpha > 0 ? (double)o->alpha : 16;
    bool stable = o->scaling == FT_LORA_STABLE || (o->scaling == FT_LORA_AUTO && rank >= 32);
    return (float)(alpha / (stable ? sqrt((double)rank) : (double)rank));
}

static int ft__lora_rank(const ft_lora_options *o) { return o->rank > 0 ? o->rank : 8; }

static ft_node ft__find_part(const ft_model *m, const char *layer, const char *part)
{
    char name[512];
    snprintf(name, sizeof name, "%s.%s", layer, part);
    return ft__find_node(m, name);
}

static bool ft__has_adapter(const ft_model *m, const ft__node *layer)
{
    return ft__find_part(m, layer->name, "lora_A.weight").id != 0;
}

/* Whether a layer can have LoRA: a linear layer, or a convolution without groups. */
static bool ft__can_adapt(const ft__node *node)
{
    return node->op == FT__OP_linear
        || (node->op == FT__OP_conv2d && node->options.conv2d.groups <= 1);
}

/* The layers that ft_lora adapts by default: all but the head, and but the parts of LoRA. */
static bool ft__adapts_by_default(ft_model *m, const ft__node *node)
{
    return ft__can_adapt(node) && node != ft__head(m)
        && !ft__glob("*.lora_A,*.lora_B", node->name);
}

/* A or B beside a layer, without a bias: B, and A beside a linear layer, are products at each
   place. */
static ft_node ft__lora_layer(ft_model *m, const char *layer, const char *part, ft_node x,
                              int outputs, const ft_conv2d_options *conv, ft_initialiser how)
{
    ft_linear_options linear;
    ft_conv2d_options o;
    char name[512];
    memset(&linear, 0, sizeof linear);
    snprintf(name, sizeof name, "%s.%s", layer, part);
    linear.no_bias = true;
    linear.initialiser = how;
    if (!conv) return ft_linear(m, name, x, outputs, linear);
    o = *conv;
    o.no_bias = true;
    o.initialiser = how;
    return ft_conv2d(m, name, x, outputs, o);
}

/* x -> B (s A drop(x)) */
static ft_node ft__lora_branch(ft_model *m, const char *layer, const ft__node *base,
                               const ft_lora_options *o)
{
    ft_shape weight = m->nodes[base->inputs[1] - 1].shape;
    ft_conv2d_options conv = base->options.conv2d, pointwise;
    bool is_conv = base->op == FT__OP_conv2d;
    ft_dropout_options dropout;
    ft_unary_options affine;
    int rank = ft__lora_rank(o);
    char name[512];
    ft_node x;
    memset(&pointwise, 0, sizeof pointwise);
    memset(&dropout, 0, sizeof dropout);
    memset(&affine, 0, sizeof affine);
    pointwise.kernel[0] = 1;
    if (is_conv) memcpy(conv.kernel, weight.size + 2, sizeof conv.kernel);
    dropout.probability = o->dropout;
    affine.scale = ft__lora_scale(o, rank);
    x.id = base->inputs[0];
    snprintf(name, sizeof name, "%s.lora_dropout", layer);
    if (o->dropout > 0) x = ft_dropout(m, name, x, dropout);
    x = ft__lora_layer(m, layer, "lora_A", x, rank, is_conv ? &conv : NULL,
                       FT_INIT_KAIMING_UNIFORM);
    snprintf(name, sizeof name, "%s.lora_scale", layer);
    x = ft_unary(m, "affine", name, x, affine);
    return ft__lora_layer(m, layer, "lora_B", x, weight.size[0], is_conv ? &pointwise : NULL,
                          FT_INIT_ZEROS);
}

/* Adds LoRA beside one layer. */
static ft_status ft__adapt(ft_model *m, int id, const ft_lora_options *o)
{
    ft__context *c = &m->context;
    ft__node base = m->nodes[id - 1]; /* a copy: the array grows */
    char name[512];
    ft_node layer, sum;
    if (strlen(base.name) > 400)
        return ft__fail(c, FT_INVALID, "ft_lora: %.60s...: the name is too long", base.name);
    layer.id = id;
    snprintf(name, sizeof name, "%s.lora", base.name);
    sum = ft_add(m, name, layer, ft__lora_branch(m, base.name, &base, o));
    return ft__replace(m, layer, sum); /* an adapter makes no other network */
}

static ft_status ft__lora_check(ft_model *m, const ft_lora_options *o)
{
    if (o->rank < 0 || !ft__not_negative(o->alpha) || !(o->dropout >= 0 && o->dropout < 1)
        || (unsigned)o->scaling > FT_LORA_STABLE)
        return ft__fail(&m->context, FT_INVALID, "ft_lora: rank %d, alpha %g, dropout %g, scaling"
                        " %d: rank and alpha must not be negative, dropout from 0 to below 1,"
                        " scaling FT_LORA_AUTO to FT_LORA_STABLE", o->rank, (double)o->alpha,
                        (double)o->dropout, (int)o->scaling);
    return ft__refuse_any_shared(m, "ft_lora");
}

/* The number of words of the input "tokens", or 0. */
static int ft__word_count(const ft_model *m)
{
    const ft__node *tokens = ft__get_node(m, ft__find_node(m, "tokens"));
    return tokens ? ft__words_of(m, tokens) : 0;
}

/* Freezes all but the adapters and the head; that of a language model too, as PEFT does: it is
   usually the embedding. Dropout stays from the first adapter on, as in PEFT; before it nothing is
   trained, and the outputs are the same in each epoch. */
static void ft__freeze_to_adapters(ft_model *m)
{
    ft__node *head = ft__head(m);
    bool begun = false;
    int i;
    ft__set_frozen(m, "*", true);
    ft__set_frozen(m, ft__lora_parameters, false);
    for (i = 0; i < m->node_count; ++i) {
        ft__node *node = &m->nodes[m->order[i] - 1];
        begun = begun || (ft__is_any(node) && ft__glob("*.lora_dropout,*.lora_A", node->name));
        if (begun && ft__is(node, FT__NOISE)) node->frozen = false;
    }
    if (head && head->shape.rank == 3 && ft__word_count(m) == head->shape.size[2]) return;
    for (i = 1; head && !ft__has_adapter(m, head) && i < head->input_count; ++i)
        m->nodes[head->inputs[i] - 1].frozen = false;
}

static bool ft__has_adapters(const ft_model *m)
{
    int i;
    for (i = 0; i < m->node_count; ++i)
        if (ft__is_any(&m->nodes[i]) && ft__is_parameter(&m->nodes[i])
            && ft__glob(ft__lora_parameters, m->nodes[i].name)) return true;
    return false;
}

/* No layer was adapted: names one that can be. */
static void ft__lora_none(ft_model *m, const char *glob)
{
    int i = 0;
    while (i < m->node_count && !ft__adapts_by_default(m, &m->nodes[i])) ++i;
    if (!glob || i == m->node_count)
        ft__fail(&m->context, FT_INVALID, "ft_lora: no layer is left that can have an adapter: a"
                 " linear layer, not the head, or a convolution without groups");
    else ft__fail(&m->context, FT_INVALID, "ft_lora: %s: no layer that can have an adapter has such"
                  " a name; there is %s", glob, m->nodes[i].name);
}

int ft_lora(ft_model *m, const char *glob, ft_lora_options options)
{
    int i, count = 0, nodes;
    if (!ft__usable(m) || !FT__HAS(m, SURGERY) || ft__lora_check(m, &options) != FT_OK) return 0;
    nodes = m->node_count;
    for (i = 0; ft__ok(&m->context) && i < nodes; ++i) {
        const ft__node *node = &m->nodes[i];
        bool named = glob && ft__is_any(node) && ft__glob(glob, node->name);
        if (glob ? !named || !ft__can_adapt(node) : !ft__adapts_by_default(m, node)) continue;
        if (!ft__has_adapter(m, node) && ft__adapt(m, i + 1, &options) == FT_OK) count += 1;
    }
    if (ft__ok(&m->context) && count == 0) ft__lora_none(m, glob);
    if (ft__ok(&m->context)) ft__freeze_to_adapters(m);
    return ft__ok(&m->context) ? count : 0;
}

/* ---- Merging ---- */

/* W += s B A, each sum in double, rounded once. */
static void ft__merge_product(ft__node *weight, const ft__node *a, const ft__node *b, double scale)
{
    size_t rank = (size_t)a->shape.size[0], outputs = (size_t)b->shape.size[0], i, j, r;
    size_t inputs = ft__shape_count(&a->shape) / rank;
    for (i = 0; i < outputs; ++i)
        for (j = 0; j < inputs; ++j) {
            double sum = 0;
            for (r = 0; r < rank; ++r)
                sum += (double)b->value[i * rank + r] * (double)a->value[r * inputs + j];
            sum = (double)weight->value[i * inputs + j] + scale * sum;
            weight->value[i * inputs + j] = (float)sum;
        }
}

/* Merges the adapter whose sum is this node. */
static ft_status ft__merge_one(ft_model *m, int id)
{
    ft_node sum, base, a, b, scale;
    const char *layer;
    ft__node *weight;
    base.id = m->nodes[id - 1].inputs[0];
    sum.id = id;
    layer = m->nodes[base.id - 1].name;
    a = ft__find_part(m, layer, "lora_A.weight");
    b = ft__find_part(m, layer, "lora_B.weight");
    scale = ft__find_part(m, layer, "lora_scale");
    weight = &m->nodes[m->nodes[base.id - 1].inputs[1] - 1];
    if (ft__refuse_shared(m, weight, "ft_merge") != FT_OK
        || ft__own_float32(m, weight, true) != FT_OK
        || ft__own_float32(m, &m->nodes[a.id - 1], true) != FT_OK
        || ft__own_float32(m, &m->nodes[b.id - 1], true) != FT_OK) return m->context.status;
    ft__merge_product(weight, &m->nodes[a.id - 1], &m->nodes[b.id - 1],
                      (double)m->nodes[scale.id - 1].options.unary.scale);
    return ft__replace(m, sum, base);
}

/* Is it the sum of a layer and its adapter? */
static bool ft__is_adapted(const ft_model *m, const ft__node *node)
{
    const ft__node *base;
    char name[512];
    if (!ft__is_any(node) || node->op != FT__OP_add) return false;
    base = &m->nodes[node->inputs[0] - 1];
    snprintf(name, sizeof name, "%s.lora", base->name);
    return !strcmp(name, node->name) && base->input_count > 1
        && ft__has_adapter(m, base)
        && ft__find_part(m, base->name, "lora_B.weight").id
        && ft__find_part(m, base->name, "lora_scale").id;
}

int ft_merge(ft_model *m)
{
    int i, count = 0;
    if (!ft__usable(m) || !FT__HAS(m, SURGERY)
        || ft__refuse_any_shared(m, "ft_merge") != FT_OK) return 0;
    ft__host_takes_weights(&m->context, true);
    for (i = 0; ft__ok(&m->context) && i < m->node_count; ++i)
        if (ft__is_adapted(m, &m->nodes[i]) && ft__merge_one(m, i + 1) == FT_OK) count += 1;
    m->weights_version += 1;
    return ft__ok(&m->context) ? count : 0;
}
