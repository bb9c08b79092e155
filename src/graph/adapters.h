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
#include "operators/adding.h"
#include "operators/dropout.h"
#include "operators/conv2d.h"
#include "operators/linear.h"
#include "operators/arithmetic.h"
#include "operators/elementwise.h"
#include "operators/rows.h"
#include "devices/device.h"
#include "graph/plan.h"
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

/* The weight of A or B, a parameter: A of `like`'s kind, B zeros. */
static ft_node ft__lora_weight(ft_model *m, const char *layer, const char *part, int outputs,
                               int inputs, const ft_shape *kernel, bool zeros)
{
    char name[512];
    ft_parameter_options p;
    memset(&p, 0, sizeof p);
    snprintf(name, sizeof name, "%s.%s.weight", layer, part);
    p.size[0] = p.fan_out = outputs;
    p.size[1] = p.fan_in = inputs;
    if (kernel && kernel->rank == 4) {
        p.size[2] = kernel->size[2];
        p.size[3] = kernel->size[3];
        p.fan_in *= kernel->size[2] * kernel->size[3];
        p.fan_out *= kernel->size[2] * kernel->size[3];
    }
    p.initialiser = zeros ? FT_INIT_ZEROS : FT_INIT_KAIMING_UNIFORM;
    return ft_parameter(m, name, p);
}

/* x -> B (s A drop(x)) */
static ft_node ft__lora_branch(ft_model *m, const char *layer, const ft__node *base,
                               const ft_lora_options *o, float scale)
{
    ft_conv2d_options conv = base->options.conv2d, pointwise;
    ft_shape weight = m->nodes[base->inputs[1] - 1].shape;
    ft_linear_options linear;
    ft_dropout_options dropout;
    ft_unary_options affine;
    bool is_conv = base->op == FT__OP_conv2d;
    int rank = ft__lora_rank(o), outputs = weight.size[0];
    char name[4][512];
    ft_node x, a, b;
    memset(&pointwise, 0, sizeof pointwise);
    memset(&linear, 0, sizeof linear);
    memset(&dropout, 0, sizeof dropout);
    memset(&affine, 0, sizeof affine);
    x.id = base->inputs[0];
    snprintf(name[0], sizeof name[0], "%s.lora_dropout", layer);
    snprintf(name[1], sizeof name[1], "%s.lora_A", layer);
    snprintf(name[2], sizeof name[2], "%s.lora_scale", layer);
    snprintf(name[3], sizeof name[3], "%s.lora_B", layer);
    dropout.probability = o->dropout;
    affine.scale = scale;
    conv.no_bias = pointwise.no_bias = linear.no_bias = true;
    conv.kernel[0] = weight.rank == 4 ? weight.size[2] : 0;
    conv.kernel[1] = weight.rank == 4 ? weight.size[3] : 0;
    pointwise.kernel[0] = pointwise.kernel[1] = 1;
    a = ft__lora_weight(m, layer, "lora_A", rank, weight.size[1], &weight, false);
    if (o->dropout > 0) x = ft_dropout(m, name[0], x, dropout);
    conv.weight = linear.weight = a;
    x = is_conv ? ft_conv2d(m, name[1], x, rank, conv) : ft_linear(m, name[1], x, rank, linear);
    x = ft_unary(m, "affine", name[2], x, affine);
    weight.size[2] = weight.size[3] = 1;
    b = ft__lora_weight(m, layer, "lora_B", outputs, rank, &weight, true);
    pointwise.weight = linear.weight = b;
    return is_conv ? ft_conv2d(m, name[3], x, outputs, pointwise)
                   : ft_linear(m, name[3], x, outputs, linear);
}

/* Adds LoRA beside one layer. */
static ft_status ft__adapt(ft_model *m, int id, const ft_lora_options *o, float scale)
{
    ft__context *c = &m->context;
    ft__node base = m->nodes[id - 1]; /* a copy: the array grows */
    char name[512];
    ft_node layer, sum;
    if (strlen(base.name) > 400)
        return ft__fail(c, FT_INVALID, "ft_lora: %.60s...: the name is too long", base.name);
    layer.id = id;
    snprintf(name, sizeof name, "%s.lora", base.name);
    sum = ft_add(m, name, layer, ft__lora_branch(m, base.name, &base, o, scale));
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

/* Freezes all but the adapters and the head. Dropout stays from the first adapter on, as in PEFT;
   before it nothing is trained, and the outputs are the same in each epoch. */
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
    for (i = 1; head && i < head->input_count; ++i)
        if (!ft__find_part(m, head->name, "lora_A.weight").id)
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
        if (ft__find_part(m, node->name, "lora_A.weight").id) continue;
        if (ft__adapt(m, i + 1, &options, ft__lora_scale(&options, ft__lora_rank(&options)))
            == FT_OK) count += 1;
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
        && ft__find_part(m, base->name, "lora_A.weight").id
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
