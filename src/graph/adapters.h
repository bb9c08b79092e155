#pragma once
#include "interface/types.h"
#include "interface/operators.h"
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
#include "operators/reshape.h"
#include "operators/arithmetic.h"
#include "operators/elementwise.h"
#include "operators/reduce.h"
#include "operators/matmul.h"
#include "operators/embedding.h"
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
   changes. Beside an embedding A is a narrow embedding, which starts as zeros, and B drawn from
   N(0, 1). s is alpha / rank, or alpha / sqrt(rank), with which large ranks learn too
   (Kalajdzievski 2023). The layer "n" gets the nodes "n.lora_dropout", "n.lora_A", "n.lora_scale",
   which applies s to the few numbers between A and B, "n.lora_B", and the sum "n.lora", which is
   read instead of "n". The names of the parameters are PEFT's. W has no gradient, so none is ever
   formed.
   DoRA (Liu et al. 2024) trains the length of each row of W + s B A apart from its direction, as m:
       y = g (W x + s B A drop(x)) + b,   g = m / |W + s B A|, of each row
   m starts as |W|; the length below the line counts as a constant in backward, as in PEFT, and so,
   with dropout, does what W makes of x: y = W x + b + (g - 1) W drop(x) + g s B A drop(x), whose
   W drop(x) is the node "n.lora_again", the whole product once more. Its node
   "n.lora_dora" is read instead of "n". A row of a convolution is a filter. Of an embedding it is a
   column of the table: y = g (W[id] + s B A[id]), as PEFT has it.
   With a bias beside B (PEFT's lora_bias) s comes after B: y = W x + b + s (B A drop(x) + bias).
   ============================================================================================= */
static const char ft__lora_parameters[] = "*.lora_A.weight,*.lora_B.weight,*.lora_B.bias,"
                                          "*.lora_embedding_A,*.lora_embedding_B,"
                                          "*.lora_magnitude_vector";
static const char *const ft__lora_parts[] = { /* the same, without the layer's name */
    "lora_magnitude_vector", "lora_A.weight", "lora_B.weight", "lora_B.bias", "lora_embedding_A",
    "lora_embedding_B"};
enum {
    FT__LORA_PARTS = sizeof ft__lora_parts / sizeof ft__lora_parts[0],
    FT__LORA_OF_WORDS = 4   /* from here on only embeddings have them; all layers have the first */
};

static const char ft__lora_scale_name[] = "lora_scale"; /* between A and B, or after B */
static const char ft__lora_length_scale[] = "lora_length_scale"; /* where DoRA's lengths need it */

/* s for a rank. */
static float ft__lora_scale(const ft_lora_options *o, int rank)
{
    double alpha = o->alpha > 0 ? (double)o->alpha : 16;
    bool stable = o->scaling == FT_LORA_STABLE || (o->scaling == FT_LORA_AUTO && rank >= 32);
    return (float)(alpha / (stable ? sqrt((double)rank) : (double)rank));
}

static int ft__lora_rank(const ft_lora_options *o) { return o->rank > 0 ? o->rank : 8; }

static const char *ft__part_name(char *to, size_t size, const char *layer, const char *part)
{
    snprintf(to, size, "%s.%s", layer, part);
    return to;
}

static ft_node ft__find_part(const ft_model *m, const char *layer, const char *part)
{
    char name[512];
    return ft__find_node(m, ft__part_name(name, sizeof name, layer, part));
}

/* The nodes of a layer's adapter. a [rank, in], b [out, rank]; of an embedding a [words, rank]. */
typedef struct ft__adapter {
    ft_node a, b;           /* a.id 0: the layer has none */
    ft_node bias;           /* beside b; 0: none */
    ft_node scale;
    ft_node magnitude;      /* 0: it is not DoRA */
    bool of_words;          /* beside an embedding */
} ft__adapter;

static ft__adapter ft__adapter_of(const ft_model *m, const ft__node *layer)
{
    ft__adapter found;
    found.a = ft__find_part(m, layer->name, "lora_A.weight");
    found.b = ft__find_part(m, layer->name, "lora_B.weight");
    found.of_words = !found.a.id;
    if (found.of_words) {
        found.a = ft__find_part(m, layer->name, "lora_embedding_A");
        found.b = ft__find_part(m, layer->name, "lora_embedding_B");
    }
    found.bias = ft__find_part(m, layer->name, "lora_B.bias");
    found.scale = ft__find_part(m, layer->name, ft__lora_scale_name);
    found.magnitude = ft__find_part(m, layer->name, "lora_magnitude_vector");
    return found;
}

static bool ft__has_adapter(const ft_model *m, const ft__node *layer)
{
    return ft__adapter_of(m, layer).a.id != 0;
}

/* Whether a layer can have LoRA: a linear layer, an embedding, or a convolution without groups. */
static bool ft__can_adapt(const ft__node *node)
{
    return node->op == FT__OP_linear || node->op == FT__OP_embedding
        || (node->op == FT__OP_conv2d && node->options.conv2d.groups <= 1);
}

/* The layers that ft_lora adapts by default: all but embeddings, the head, and the parts of
   LoRA. */
static bool ft__adapts_by_default(ft_model *m, const ft__node *node)
{
    return ft__can_adapt(node) && node->op != FT__OP_embedding && !ft__is_head(m, node)
        && !ft__glob("*.lora_A,*.lora_B,*.lora_again", node->name);
}

static ft_node ft__lora_scaled(ft_model *m, const char *layer, const char *part, ft_node x,
                               const ft_lora_options *o)
{
    char name[512];
    return ft__named_affine(m, ft__part_name(name, sizeof name, layer, part), x,
                            ft__lora_scale(o, ft__lora_rank(o)), 0);
}

/* A or B beside a layer: B, and A beside a linear layer, are products at each place. */
static ft_node ft__lora_layer(ft_model *m, const char *layer, const char *part, ft_node x,
                              int outputs, const ft_conv2d_options *conv, ft_initialiser how,
                              bool bias)
{
    ft_linear_options linear;
    ft_conv2d_options o;
    char name[512];
    memset(&linear, 0, sizeof linear);
    ft__part_name(name, sizeof name, layer, part);
    linear.no_bias = !bias;
    linear.initialiser = how;
    if (!conv) return ft_linear(m, name, x, outputs, linear);
    o = *conv;
    o.no_bias = !bias;
    o.initialiser = how;
    return ft_conv2d(m, name, x, outputs, o);
}

/* x -> B (s A drop(x)), or with a bias s (B A drop(x) + bias), which starts as zeros */
static ft_node ft__lora_branch(ft_model *m, const char *layer, const ft__node *base,
                               const ft_lora_options *o)
{
    ft_shape weight = m->nodes[base->inputs[1] - 1].shape;
    ft_conv2d_options conv = base->options.conv2d, pointwise;
    bool is_conv = base->op == FT__OP_conv2d;
    ft_dropout_options dropout;
    int rank = ft__lora_rank(o);
    char name[512];
    ft_node x;
    memset(&pointwise, 0, sizeof pointwise);
    memset(&dropout, 0, sizeof dropout);
    pointwise.kernel[0] = 1;
    if (is_conv) memcpy(conv.kernel, weight.size + 2, sizeof conv.kernel);
    dropout.probability = o->dropout;
    x.id = base->inputs[0];
    if (o->dropout > 0)
        x = ft_dropout(m, ft__part_name(name, sizeof name, layer, "lora_dropout"), x, dropout);
    x = ft__lora_layer(m, layer, "lora_A", x, rank, is_conv ? &conv : NULL,
                       FT_INIT_KAIMING_UNIFORM, false);
    if (!o->bias) x = ft__lora_scaled(m, layer, ft__lora_scale_name, x, o);
    x = ft__lora_layer(m, layer, "lora_B", x, weight.size[0], is_conv ? &pointwise : NULL,
                       FT_INIT_ZEROS, o->bias);
    if (!o->bias) return x;
    return ft__lora_scaled(m, layer, ft__lora_scale_name, x, o);
}

/* ids -> B (s A[ids]), beside an embedding. PEFT's file has A transposed, [rank, words]; it drops
   nothing. */
static ft_node ft__lora_words(ft_model *m, const char *layer, const ft__node *base,
                              const ft_lora_options *o)
{
    ft_shape table = m->nodes[base->inputs[1] - 1].shape;
    ft_embedding_options narrow;
    ft_linear_options wide;
    ft_parameter_options p;
    char name[512];
    ft_node x;
    memset(&narrow, 0, sizeof narrow);
    memset(&wide, 0, sizeof wide);
    memset(&p, 0, sizeof p);
    p.size[0] = table.size[0];
    p.size[1] = ft__lora_rank(o);
    p.initialiser = FT_INIT_ZEROS;
    p.transposed = true;
    narrow.weight = ft_parameter(m, ft__part_name(name, sizeof name, layer, "lora_embedding_A"), p);
    p.size[0] = table.size[1];
    p.initialiser = FT_INIT_KAIMING_NORMAL;
    p.fan_out = 2; /* N(0, 2 / 2) */
    p.transposed = false;
    wide.weight = ft_parameter(m, ft__part_name(name, sizeof name, layer, "lora_embedding_B"), p);
    wide.no_bias = true;
    x.id = base->inputs[0];
    x = ft_embedding(m, ft__part_name(name, sizeof name, layer, "lora_A"), x, table.size[0],
                     ft__lora_rank(o), narrow);
    x = ft__lora_scaled(m, layer, ft__lora_scale_name, x, o);
    return ft_linear(m, ft__part_name(name, sizeof name, layer, "lora_B"), x, table.size[1], wide);
}

/* ---- DoRA ---- */

/* Sets m to the lengths of W's rows; of a table of words, of its columns. */
static void ft__weight_lengths(ft_model *m, ft_node weight, ft_node magnitude, bool of_words)
{
    const ft__node *node = &m->nodes[weight.id - 1];
    size_t rows = (size_t)node->shape.size[0], columns = ft__shape_count(&node->shape) / rows;
    size_t lines = of_words ? columns : rows, each = of_words ? rows : columns, i, k;
    float *lengths = m->nodes[magnitude.id - 1].value;
    ft__host_takes_weights(&m->context, true);
    for (i = 0; i < lines; ++i) {
        double sum = 0;
        for (k = 0; k < each; ++k) {
            double number = (double)node->value[of_words ? k * columns + i : i * columns + k];
            sum += number * number;
        }
        lengths[i] = (float)sqrt(sum);
    }
    m->weights_version += 1;
}

/* |W + s B A| of each row, [out], of a table of words, of each column, [features]. */
static ft_node ft__dora_lengths(ft_model *m, const char *layer, const ft__node *base,
                                const ft_lora_options *o)
{
    ft__adapter adapter = ft__adapter_of(m, base);
    ft_node weight, a = adapter.a, b = adapter.b, sum;
    ft_matmul_options product;
    memset(&product, 0, sizeof product);
    weight.id = base->inputs[1];
    product.transpose_b = adapter.of_words;
    if (base->op == FT__OP_conv2d) { /* as matrices: [out, in * kernel] */
        weight = ft_flatten(m, NULL, weight);
        a = ft_flatten(m, NULL, a);
        b = ft_flatten(m, NULL, b);
    }
    sum = adapter.of_words ? ft_matmul(m, NULL, a, b, product) : ft_matmul(m, NULL, b, a, product);
    sum = ft__lora_scaled(m, layer, ft__lora_length_scale, sum, o);
    sum = ft_add(m, NULL, weight, sum);
    sum = ft__reduce_axis(m, "sum", NULL, ft_mul(m, NULL, sum, sum), adapter.of_words ? 0 : -1,
                          false);
    return ft__unary_of(m, "sqrt", NULL, sum);
}

/* W drop(x), without the bias; `dropped` is drop(x). */
static ft_node ft__dora_again(ft_model *m, const char *layer, const ft__node *base, ft_node dropped)
{
    ft_conv2d_options conv = base->options.conv2d;
    ft_linear_options linear;
    const ft_shape *weight = &m->nodes[base->inputs[1] - 1].shape;
    char name[512];
    memset(&linear, 0, sizeof linear);
    ft__part_name(name, sizeof name, layer, "lora_again");
    linear.weight.id = conv.weight.id = base->inputs[1];
    linear.no_bias = conv.no_bias = true;
    conv.bias.id = 0;
    if (base->op != FT__OP_conv2d) return ft_linear(m, name, dropped, weight->size[0], linear);
    memcpy(conv.kernel, weight->size + 2, sizeof conv.kernel);
    return ft_conv2d(m, name, dropped, weight->size[0], conv);
}

/* sum = W x + b + s B A x -> g (sum - b) + b, g [out]; of a convolution g [1, out, 1, 1], the shape
   that m has in PEFT's file. With dropout W x + b - W drop(x) stands for b. */
static ft_node ft__dora(ft_model *m, const char *layer, const ft__node *base, ft_node sum,
                        const ft_lora_options *o)
{
    static const int ones[] = {1, 1};
    ft_node weight, bias, lengths, g, dropped, whole, none = {0};
    ft_parameter_options p;
    bool of_words = base->op == FT__OP_embedding, is_conv = base->op == FT__OP_conv2d;
    char name[512];
    memset(&p, 0, sizeof p);
    weight.id = base->inputs[1];
    bias.id = base->input_count > 2 ? base->inputs[2] : 0;
    if (is_conv) p.size[0] = p.size[2] = p.size[3] = 1;
    p.size[is_conv] = m->nodes[weight.id - 1].shape.size[of_words];
    p.initialiser = FT_INIT_ONES;
    g = ft_parameter(m, ft__part_name(name, sizeof name, layer, "lora_magnitude_vector"), p);
    if (!ft__ok(&m->context)
        || ft__own_float32(m, &m->nodes[weight.id - 1], true) != FT_OK) return none;
    if (!m->values_follow) ft__weight_lengths(m, weight, g, of_words);
    lengths = ft__unary_of(m, "detach", NULL, ft__dora_lengths(m, layer, base, o));
    if (is_conv) lengths = ft_reshape(m, NULL, lengths, 2, ones); /* [out, 1, 1] */
    if (is_conv && bias.id) bias = ft_reshape(m, NULL, bias, 2, ones);
    g = ft_binary(m, "div", NULL, g, lengths);
    dropped = ft__find_part(m, layer, "lora_dropout");
    whole = ft__find_node(m, layer);
    if (dropped.id)
        bias = ft_binary(m, "sub", NULL, whole, ft__dora_again(m, layer, base, dropped));
    ft__part_name(name, sizeof name, layer, "lora_dora");
    if (!bias.id) return ft_mul(m, name, sum, g);
    return ft_add(m, name, ft_mul(m, NULL, sum, g),
                  ft_binary(m, "sub", NULL, bias, ft_mul(m, NULL, g, bias)));
}

/* Whether the loss computes this linear layer itself. */
static bool ft__reads_weight_alone(const ft_model *m, const ft__node *layer)
{
    const ft__node *loss = ft__get_node(m, m->loss);
    return loss && ft__is(loss, FT__OWN_LOGITS) && ft__is(layer, FT__CAN_BE_HEAD)
        && layer->inputs[1] == loss->inputs[2];
}

/* Adds LoRA beside one layer; with an error nothing is added. */
static ft_status ft__adapt(ft_model *m, int id, const ft_lora_options *o)
{
    ft__context *c = &m->context;
    ft__node base = m->nodes[id - 1]; /* a copy: the array grows */
    char name[512];
    ft_node layer, sum;
    int nodes = m->node_count;
    if (ft__reads_weight_alone(m, &base))
        return ft__fail(c, FT_INVALID, "ft_lora: %s: the loss reads this layer's weight, not its"
                        " result: it would not see the adapter", base.name);
    if (strlen(base.name) > 400)
        return ft__fail(c, FT_INVALID, "ft_lora: %.60s...: the name is too long", base.name);
    if (o->bias && base.op == FT__OP_embedding)
        return ft__fail(c, FT_UNSUPPORTED, "ft_lora: %s: an adapter of an embedding has no bias",
                        base.name);
    layer.id = id;
    sum = base.op == FT__OP_embedding ? ft__lora_words(m, base.name, &base, o)
                                      : ft__lora_branch(m, base.name, &base, o);
    sum = ft_add(m, ft__part_name(name, sizeof name, base.name, "lora"), layer, sum);
    if (o->dora) sum = ft__dora(m, base.name, &base, sum, o);
    if (ft__ok(c) && ft__replace(m, layer, sum) == FT_OK) return FT_OK;
    ft__remove_last_nodes(m, nodes);
    return c->status;
}

static ft_status ft__lora_check(ft_model *m, const ft_lora_options *o)
{
    if (o->rank < 0 || !ft__not_negative(o->alpha) || !(o->dropout >= 0 && o->dropout < 1)
        || (unsigned)o->scaling > FT_LORA_STABLE)
        return ft__fail(&m->context, FT_INVALID, "ft_lora: rank %d, alpha %g, dropout %g, scaling"
                        " %d: rank and alpha must not be negative, dropout from 0 to below 1,"
                        " scaling FT_LORA_AUTO to FT_LORA_STABLE", o->rank, (double)o->alpha,
                        (double)o->dropout, (int)o->scaling);
    if (o->bias && o->dora)
        return ft__fail(&m->context, FT_INVALID, "ft_lora: bias is for adapters without dora");
    return ft__refuse_any_shared(m, "ft_lora");
}

/* The number of words of the input "tokens", or 0. */
static int ft__word_count(const ft_model *m)
{
    const ft__node *tokens = ft__get_node(m, ft__find_node(m, "tokens"));
    return tokens ? ft__words_of(m, tokens) : 0;
}

/* Freezes all but the adapters and the head; that of a language model too, as PEFT does: it is
   usually the embedding. The network's own dropout stays behind the first adapter, as in PEFT;
   before it nothing is trained, and the outputs are the same in each epoch. The adapters' own
   dropout is active in front of the first one, too. */
static void ft__freeze_to_adapters(ft_model *m)
{
    const ft__node *head = ft__head(m);
    ft__set_frozen(m, "*", true);
    ft__set_frozen(m, ft__lora_parameters, false);
    ft__freeze_first_dropouts(m);
    ft__set_frozen(m, "*.lora_dropout", false);
    if (head && head->shape.rank == 3 && ft__word_count(m) == head->shape.size[2]) return;
    if (head && !ft__has_adapter(m, head)) ft__freeze_heads(m, false);
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

/* Is it the sum of a layer and its adapter? */
static bool ft__is_adapted(const ft_model *m, const ft__node *node)
{
    const ft__node *base;
    ft__adapter adapter;
    char name[512];
    if (!ft__is_any(node) || node->op != FT__OP_add) return false;
    base = &m->nodes[node->inputs[0] - 1];
    adapter = ft__adapter_of(m, base);
    return !strcmp(node->name, ft__part_name(name, sizeof name, base->name, "lora"))
        && base->input_count > 1 && adapter.a.id && adapter.b.id && adapter.scale.id;
}
