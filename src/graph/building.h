#pragma once
#include "interface/requirements.h"
#include "interface/types.h"
#include "platform/context.h"
#include "basics/numbers.h"
#include "nodes/nodes.h"
#include "nodes/initialisers.h"
#include "operators/table.h"
#include "operators/recurrent.h"
#include "operators/rows.h"
#include "graph/plan.h"
#include "graph/settings.h"

/* =============================================================================================
   [SECTION] graph/building: Graph: building
   ============================================================================================= */
/* ---- Building ---- */

ft_node ft_input(ft_model *m, const char *name, ft_input_options options)
{
    ft_node node = ft__add_node(m, FT__OP_input, name, NULL, 0, NULL);
    ft__node *made = ft__get_node(m, node);
    int d;
    if (!made) return node;
    made->type = options.type;
    made->shape.rank = 1;
    made->shape.size[0] = FT_BATCH;
    for (d = 0; d < FINETUNE_MAX_RANK - 1 && options.size[d] != 0; ++d) {
        if (options.size[d] < 0 && options.size[d] != FT_LENGTH)
            ft__fail(&m->context, FT_INVALID, "%s: size %d is negative", name, options.size[d]);
        made->shape.size[made->shape.rank++] = options.size[d];
    }
    if (options.type != FT_F32 && options.type != FT_I32)
        ft__fail(&m->context, FT_INVALID, "%s: the type of an input must be FT_F32 or FT_I32",
                 name);
    return node;
}

/* One rule for every parameter: its memory, initial values and fans. */
ft_node ft_parameter(ft_model *m, const char *name, ft_parameter_options options)
{
    ft__context *c = m ? &m->context : NULL;
    ft_node node = ft__add_node(m, options.buffer ? FT__OP_buffer : FT__OP_parameter, name, NULL, 0,
                                NULL);
    ft__node *made = ft__get_node(m, node);
    size_t count;
    if (!made) return node;
    while (made->shape.rank < FINETUNE_MAX_RANK && options.size[made->shape.rank] > 0) {
        made->shape.size[made->shape.rank] = options.size[made->shape.rank];
        made->shape.rank += 1;
    }
    count = ft__shape_count(&made->shape);
    if (count == 0 || made->shape.rank == 0)
        ft__fail(c, FT_INVALID, "%s: a parameter needs sizes above 0 that fit into memory", name);
    if ((unsigned)options.initialiser > FT_INIT_ONES || options.fan_in < 0 || options.fan_out < 0)
        ft__fail(c, FT_INVALID, "%s: initialiser %d, fan_in %d, fan_out %d: the first must be"
                 " FT_INIT_DEFAULT to FT_INIT_ONES, the others not negative", name,
                 (int)options.initialiser, options.fan_in, options.fan_out);
    made->value = (float *)ft__allocate(c, count, sizeof(float));
    made->initialiser = options.initialiser;
    made->fan_in = options.fan_in;
    made->fan_out = options.fan_out;
    if (ft__ok(c) && !m->values_follow) ft__initialise_node(m, made);
    if (!ft__ok(c)) node.id = 0;
    return node;
}

static ft_node ft__layer_parameter(ft_model *m, const char *layer, const char *part,
                                   ft_parameter_options options)
{
    char name[512];
    ft_node none = {0};
    if (!ft__usable(m)) return none;
    if (!layer || !*layer) {
        ft__fail(&m->context, FT_INVALID, "a layer with parameters needs a name");
        return none;
    }
    snprintf(name, sizeof name, "%s.%s", layer, part);
    return ft_parameter(m, name, options);
}

/* The size of a node along a dimension; 0 with an error when it has no such dimension. */
static int ft__size_of(ft_model *m, const char *name, ft_node x, int dimension)
{
    const ft__node *node = ft__get_node(m, x);
    char why[400];
    if (!node)
        ft__fail(&m->context, FT_INVALID, "%s: its input is not a node of this model%s", name,
                 ft__why_none(m, x, why));
    if (node && dimension < 0) dimension += node->shape.rank;
    if (node && dimension >= 0 && dimension < node->shape.rank && node->shape.size[dimension] > 0)
        return node->shape.size[dimension];
    ft__fail(&m->context, FT_SHAPE, "%s: its input has no dimension %d of known size", name,
             dimension);
    return 0;
}

/* Appends a layer's weight and bias, given or made here, to its inputs, after x. */
static int ft__weight_inputs(ft_model *m, const char *name, ft_node *inputs, ft_node weight,
                             ft_node bias, bool no_bias, ft_parameter_options options)
{
    ft_parameter_options bias_options;
    memset(&bias_options, 0, sizeof bias_options);
    bias_options.size[0] = options.size[0];
    bias_options.fan_in = options.fan_in;
    bias_options.fan_out = options.fan_out;
    inputs[1] = weight.id ? weight : ft__layer_parameter(m, name, "weight", options);
    if (no_bias) return 2;
    inputs[2] = bias.id ? bias : ft__layer_parameter(m, name, "bias", bias_options);
    return 3;
}

static int ft__pair(const int pair[2], int i, int otherwise)
{
    int value = i == 1 && pair[1] == 0 ? pair[0] : pair[i];
    return value == 0 ? otherwise : value;
}

ft_node ft_conv2d(ft_model *m, const char *name, ft_node x, int out_channels,
                  ft_conv2d_options options)
{
    ft_node inputs[3], none = {0};
    ft_parameter_options p;
    ft__options o;
    int count, groups = options.groups ? options.groups : 1, channels;
    if (!ft__usable(m)) return none;
    channels = ft__size_of(m, name, x, 1);
    memset(&p, 0, sizeof p);
    memset(&o, 0, sizeof o);
    if (groups < 1 || channels % groups != 0)
        ft__fail(&m->context, FT_SHAPE, "%s: %d channels cannot be divided into %d groups", name,
                 channels, groups);
    if (!ft__usable(m)) return none;
    p.size[0] = out_channels;
    p.size[1] = channels / groups;
    p.size[2] = ft__pair(options.kernel, 0, 0);
    p.size[3] = ft__pair(options.kernel, 1, 0);
    p.initialiser = options.initialiser;
    p.fan_in = p.size[1] * p.size[2] * p.size[3];
    p.fan_out = out_channels * p.size[2] * p.size[3];
    if (out_channels < 1 || p.size[2] < 1 || p.size[3] < 1) {
        ft__fail(&m->context, FT_INVALID, "%s: out_channels and kernel must be above 0", name);
        return none;
    }
    inputs[0] = x;
    count = ft__weight_inputs(m, name, inputs, options.weight, options.bias, options.no_bias, p);
    o.conv2d = options;
    o.conv2d.weight = o.conv2d.bias = none; /* they are inputs now */
    return ft__add_node(m, FT__OP_conv2d, name, inputs, count, &o);
}

ft_node ft_conv1d(ft_model *m, const char *name, ft_node x, int out_channels,
                  ft_conv1d_options options)
{
    ft_node inputs[3], none = {0};
    ft_parameter_options p;
    ft__options o;
    int count, groups = options.groups ? options.groups : 1, channels, i;
    if (!ft__usable(m)) return none;
    channels = ft__size_of(m, name, x, 1);
    memset(&p, 0, sizeof p);
    memset(&o, 0, sizeof o);
    if (groups < 1 || channels % groups != 0 || out_channels < 1 || options.kernel < 1)
        ft__fail(&m->context, FT_INVALID, "%s: %d channels in %d groups, %d out_channels, kernel"
                 " %d: the groups must divide the channels, the others must be above 0", name,
                 channels, groups, out_channels, options.kernel);
    if (!ft__usable(m)) return none;
    p.size[0] = out_channels;
    p.size[1] = channels / groups;
    p.size[2] = options.kernel;
    p.initialiser = options.initialiser;
    p.fan_in = p.size[1] * p.size[2];
    p.fan_out = out_channels * p.size[2];
    inputs[0] = x;
    count = ft__weight_inputs(m, name, inputs, options.weight, options.bias, options.no_bias, p);
    o.conv2d.kernel[0] = o.conv2d.stride[0] = o.conv2d.dilation[0] = 1;
    o.conv2d.kernel[1] = options.kernel;
    o.conv2d.stride[1] = options.stride;
    o.conv2d.dilation[1] = options.dilation;
    if (options.causal)
        o.conv2d.padding[1] = ft__pair(o.conv2d.dilation, 1, 1) * (options.kernel - 1);
    for (i = 0; i < 2 && !options.causal; ++i)
        o.conv2d.padding[1 + 2 * i] = options.padding[1] ? options.padding[i] : options.padding[0];
    o.conv2d.groups = options.groups;
    o.conv2d.same = options.same;
    return ft__add_node(m, FT__OP_conv1d, name, inputs, count, &o);
}

ft_node ft_linear(ft_model *m, const char *name, ft_node x, int out_features,
                  ft_linear_options options)
{
    ft_node inputs[3], none = {0};
    const ft__node *input = ft__get_node(m, x);
    ft_parameter_options p;
    char text[80];
    int count;
    if (!ft__usable(m)) return none;
    memset(&p, 0, sizeof p);
    if (input && input->shape.rank < 2)
        ft__fail(&m->context, FT_SHAPE, "%s: a linear layer needs an input [N, features], this one"
                 " is %s", name, ft__shape_text(&input->shape, text));
    p.size[0] = out_features;
    p.size[1] = p.fan_in = ft__size_of(m, name, x, -1);
    p.fan_out = out_features;
    p.initialiser = options.initialiser;
    if (out_features < 1) ft__fail(&m->context, FT_INVALID, "%s: out_features must be above 0",
                                   name);
    if (!ft__usable(m)) return none;
    inputs[0] = x;
    count = ft__weight_inputs(m, name, inputs, options.weight, options.bias, options.no_bias, p);
    return ft__add_node(m, FT__OP_linear, name, inputs, count, NULL);
}

ft_node ft_batch_norm(ft_model *m, const char *name, ft_node x, ft_batch_norm_options options)
{
    static const char *const parts[] = {"weight", "bias", "running_mean", "running_var"};
    ft_node inputs[5], none = {0};
    ft_parameter_options p;
    ft__options o;
    int i;
    if (!ft__usable(m)) return none;
    memset(&p, 0, sizeof p);
    memset(&o, 0, sizeof o);
    o.batch_norm = options;
    p.size[0] = ft__size_of(m, name, x, 1);
    inputs[0] = x;
    for (i = 0; i < 4; ++i) {
        p.initialiser = i == 0 || i == 3 ? FT_INIT_ONES : FT_INIT_ZEROS;
        p.buffer = i >= 2;
        inputs[i + 1] = ft__layer_parameter(m, name, parts[i], p);
    }
    return ft__add_node(m, FT__OP_batch_norm, name, inputs, 5, &o);
}

ft_node ft_layer_norm(ft_model *m, const char *name, ft_node x, ft_layer_norm_options options)
{
    ft_node inputs[3], none = {0};
    ft_parameter_options p;
    ft__options o;
    if (!ft__usable(m)) return none;
    memset(&p, 0, sizeof p);
    memset(&o, 0, sizeof o);
    o.layer_norm = options;
    p.size[0] = ft__size_of(m, name, x, -1);
    if (!ft__usable(m)) return none;
    p.initialiser = FT_INIT_ONES;
    inputs[0] = x;
    inputs[1] = ft__layer_parameter(m, name, "weight", p);
    p.initialiser = FT_INIT_ZEROS;
    inputs[2] = ft__layer_parameter(m, name, "bias", p);
    return ft__add_node(m, FT__OP_layer_norm, name, inputs, 3, &o);
}

static ft_node ft__add_simple(ft_model *m, int op, const char *name, ft_node x)
{
    ft__options o;
    memset(&o, 0, sizeof o);
    return ft__add_node(m, op, name, &x, 1, &o);
}

static ft_node ft__add_pair(ft_model *m, int op, const char *name, ft_node a, ft_node b)
{
    ft__options o;
    ft_node inputs[2];
    memset(&o, 0, sizeof o);
    inputs[0] = a;
    inputs[1] = b;
    return ft__add_node(m, op, name, inputs, 2, &o);
}

ft_node ft_max_pool2d(ft_model *m, const char *name, ft_node x, ft_pool2d_options options)
{
    ft__options o;
    memset(&o, 0, sizeof o);
    o.pool2d = options;
    return ft__add_node(m, FT__OP_max_pool2d, name, &x, 1, &o);
}

ft_node ft_avg_pool2d(ft_model *m, const char *name, ft_node x, ft_pool2d_options options)
{
    ft__options o;
    memset(&o, 0, sizeof o);
    o.pool2d = options;
    return ft__add_node(m, FT__OP_avg_pool2d, name, &x, 1, &o);
}

ft_node ft_global_avg_pool(ft_model *m, const char *name, ft_node x)
{
    return ft__add_simple(m, FT__OP_global_avg_pool, name, x);
}

ft_node ft_global_max_pool(ft_model *m, const char *name, ft_node x)
{
    return ft__add_simple(m, FT__OP_global_max_pool, name, x);
}

ft_node ft_flatten(ft_model *m, const char *name, ft_node x)
{
    return ft__add_simple(m, FT__OP_flatten, name, x);
}

ft_node ft_reshape(ft_model *m, const char *name, ft_node x, int rank, const int *size)
{
    ft__options o;
    ft_node none = {0};
    int d;
    memset(&o, 0, sizeof o);
    if (!ft__usable(m)) return none;
    if (rank < 0 || rank >= FINETUNE_MAX_RANK) {
        ft__fail(&m->context, FT_INVALID, "%s: has %d dimensions; at most %d are supported", name,
                 rank, FINETUNE_MAX_RANK - 1);
        return none;
    }
    if (rank > 0 && !ft__given(&m->context, size, "ft_reshape: size")) return none;
    o.reshape.rank = rank;
    for (d = 0; d < rank; ++d) o.reshape.size[d] = size[d];
    return ft__add_node(m, FT__OP_reshape, name, &x, 1, &o);
}

ft_node ft_add(ft_model *m, const char *name, ft_node a, ft_node b)
{
    return ft__add_pair(m, FT__OP_add, name, a, b);
}

ft_node ft_mul(ft_model *m, const char *name, ft_node a, ft_node b)
{
    return ft__add_pair(m, FT__OP_mul, name, a, b);
}

ft_node ft_concat(ft_model *m, const char *name, int count, const ft_node *x, int axis)
{
    ft__options o;
    memset(&o, 0, sizeof o);
    o.concat.axis = axis;
    return ft__add_node(m, FT__OP_concat, name, x, count, &o);
}

ft_node ft_pad(ft_model *m, const char *name, ft_node x, ft_pad_options options)
{
    ft__options o;
    memset(&o, 0, sizeof o);
    o.pad = options;
    return ft__add_node(m, FT__OP_pad, name, &x, 1, &o);
}

ft_node ft_slice(ft_model *m, const char *name, ft_node x, ft_slice_options options)
{
    ft__options o;
    memset(&o, 0, sizeof o);
    o.slice = options;
    return ft__add_node(m, FT__OP_slice, name, &x, 1, &o);
}

ft_node ft_permute(ft_model *m, const char *name, ft_node x, int rank, const int *axes)
{
    const ft__node *from = ft__get_node(m, x);
    ft_node none = {0};
    ft__options o;
    if (!ft__usable(m)) return none;
    memset(&o, 0, sizeof o);
    if (!axes || !from || rank != from->shape.rank) {
        ft__fail(&m->context, FT_INVALID, "%s: %d axes for a node of %d dimensions", name, rank,
                 from ? from->shape.rank : 0);
        return none;
    }
    memcpy(o.permute.axes, axes, (size_t)rank * sizeof *axes);
    return ft__add_node(m, FT__OP_permute, name, &x, 1, &o);
}

ft_node ft_gather(ft_model *m, const char *name, ft_node x, ft_node index, int axis)
{
    ft__options o;
    ft_node inputs[2];
    memset(&o, 0, sizeof o);
    o.concat.axis = axis;
    inputs[0] = x;
    inputs[1] = index;
    return ft__add_node(m, FT__OP_gather, name, inputs, 2, &o);
}

ft_node ft_matmul(ft_model *m, const char *name, ft_node a, ft_node b, ft_matmul_options options)
{
    ft__options o;
    ft_node inputs[2];
    memset(&o, 0, sizeof o);
    o.matmul = options;
    inputs[0] = a;
    inputs[1] = b;
    return ft__add_node(m, FT__OP_matmul, name, inputs, 2, &o);
}

ft_node ft_dropout(ft_model *m, const char *name, ft_node x, ft_dropout_options options)
{
    ft__options o;
    memset(&o, 0, sizeof o);
    o.dropout = options;
    return ft__add_node(m, FT__OP_dropout, name, &x, 1, &o);
}

/* ---- Sequences ---- */

ft_node ft_embedding(ft_model *m, const char *name, ft_node ids, int words, int features,
                     ft_embedding_options options)
{
    ft_node inputs[2], none = {0};
    ft_parameter_options p;
    ft__node *weight;
    ft__options o;
    int i;
    memset(&p, 0, sizeof p);
    memset(&o, 0, sizeof o);
    if (!ft__usable(m)) return none;
    if (words < 1 || features < 1)
        ft__fail(&m->context, FT_INVALID, "%s: %d words of %d features: both must be above 0", name,
                 words, features);
    p.size[0] = words;
    p.size[1] = features;
    p.initialiser = FT_INIT_KAIMING_NORMAL;
    p.fan_out = 2; /* N(0, 2 / 2) */
    o.embedding = options;
    o.embedding.weight = none;
    inputs[0] = ids;
    inputs[1] = options.weight.id ? options.weight : ft__layer_parameter(m, name, "weight", p);
    weight = ft__get_node(m, inputs[1]);
    if (ft__ok(&m->context) && options.padded && !options.weight.id && !m->values_follow
        && options.padding_index >= 0 && options.padding_index < words)
        for (i = 0; i < features; ++i) weight->value[options.padding_index * features + i] = 0;
    return ft__add_node(m, FT__OP_embedding, name, inputs, 2, &o);
}

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
    ft__options o;
    if (options.kind == FT_POOL_ALL) return ft__step_pool_all(m, name, x, lengths, options);
    memset(&o, 0, sizeof o);
    o.step_pool = options;
    inputs[0] = x;
    inputs[1] = lengths;
    return ft__add_node(m, FT__OP_step_pool, name, inputs, lengths.id ? 2 : 1, &o);
}

/* A state of the model: one row per sample, initially zero. */
static ft_node ft__carried_state(ft_model *m, const char *layer, const char *part, int number,
                                 int features)
{
    char name[512];
    ft_node node;
    ft__node *made;
    snprintf(name, sizeof name, "%s.%s_l%d", layer, part, number);
    node = ft__add_node(m, FT__OP_state, name, NULL, 0, NULL);
    made = ft__get_node(m, node);
    if (!made) return node;
    made->shape.rank = 2;
    made->shape.size[0] = FT_BATCH;
    made->shape.size[1] = features;
    return node;
}

/* Dropout of a layer's input or weight, as a separate node. */
static ft_node ft__recurrent_dropout(ft_model *m, const char *layer, const char *part,
                                     const char *suffix, ft_node x, float probability, bool locked)
{
    char name[512];
    ft_dropout_options drop;
    if (probability == 0) return x;
    memset(&drop, 0, sizeof drop);
    drop.probability = probability;
    drop.locked = locked;
    snprintf(name, sizeof name, "%s.%s%s", layer, part, suffix);
    return ft_dropout(m, name, x, drop);
}

/* Puts the weights and biases of one layer after inputs[0]; returns the number of inputs. */
static int ft__recurrent_parameters(ft_model *m, const char *name, int layer, int gates, int in,
                                    int hidden, const ft_recurrent_options *options,
                                    ft_node *inputs)
{
    static const char *const parts[] = {"weight_ih", "weight_hh", "bias_ih", "bias_hh"};
    int count = 1, d, which;
    char part[64], suffix[32];
    ft_parameter_options p;
    for (d = 0; d < (options->bidirectional ? 2 : 1); ++d)
        for (which = 0; which < (options->no_bias ? 2 : 4); ++which) {
            memset(&p, 0, sizeof p);
            p.size[0] = gates * hidden;
            if (which < 2) p.size[1] = which ? hidden : in;
            p.fan_in = hidden; /* PyTorch's bound is 1 / sqrt(hidden) for all of them */
            snprintf(suffix, sizeof suffix, "_l%d%s", layer, d ? "_reverse" : "");
            snprintf(part, sizeof part, "%s%s", parts[which], suffix);
            inputs[count] = ft__layer_parameter(m, name, part, p);
            if (which == 1)
                inputs[count] = ft__recurrent_dropout(m, name, "weight_drop", suffix,
                                                      inputs[count], options->weight_drop, false);
            count += 1;
        }
    return count;
}

/* The initial state of a layer: carried by the model, or a slice of the caller's node. */
static ft_node ft__first_state(ft_model *m, const char *name, int layer, int features, bool cell,
                               const ft_recurrent_options *options)
{
    ft_node given = cell ? options->cell : options->hidden;
    ft_slice_options part;
    char slice[512];
    if (options->carry)
        return ft__carried_state(m, name, cell ? "cell" : "hidden", layer, features);
    if (!options->layers || options->layers == 1) return given;
    memset(&part, 0, sizeof part);
    part.start[1] = layer * features;
    part.stop[1] = (layer + 1) * features;
    snprintf(slice, sizeof slice, "%s.first_%s_l%d", name, cell ? "cell" : "hidden", layer);
    return ft_slice(m, slice, given, part);
}

/* A half of [N, L, hidden states and cells]: the first if `from` is 0, else from `from` on. */
static ft_node ft__states_part(ft_model *m, const char *name, ft_node both, int from)
{
    ft_slice_options part;
    memset(&part, 0, sizeof part);
    part.start[2] = from;
    part.stop[2] = from ? 0 : ft__size_of(m, name, both, -1) / 2;
    return ft_slice(m, name, both, part);
}

enum { FT__MOST_RECURRENT = 1000 }; /* layers of one stack */

static ft_node ft__recurrent_layer(ft_model *m, int op, const char *name, ft_node x, int layer,
                                   int hidden, const ft_recurrent_options *options)
{
    int gates = ft__gate_count(op), count;
    int layers = options->layers ? options->layers : 1;
    int features = hidden * (options->bidirectional ? 2 : 1);
    ft_node inputs[12], none = {0};
    ft__options o;
    char below[512], both[544], suffix[32];
    memset(&o, 0, sizeof o);
    snprintf(suffix, sizeof suffix, "_l%d", layer);
    snprintf(below, sizeof below, "%s%s", name, suffix);
    inputs[0] = layer == 0 ? x : ft__recurrent_dropout(m, name, "dropout", suffix, x,
                                                       options->dropout, options->locked);
    count = ft__recurrent_parameters(m, name, layer, gates, ft__size_of(m, name, x, -1), hidden,
                                     options, inputs);
    o.recurrent.hidden = hidden;
    o.recurrent.bidirectional = options->bidirectional;
    o.recurrent.no_bias = options->no_bias;
    o.recurrent.relu = options->relu && gates == 1;
    o.recurrent.carry = options->carry;
    o.recurrent.lengths = options->lengths.id != 0;
    o.recurrent.initial = options->carry || options->hidden.id != 0;
    o.recurrent.cells = options->final_states && ft__has_cells(op);
    if (o.recurrent.lengths) inputs[count++] = options->lengths;
    if (o.recurrent.initial)
        inputs[count++] = ft__first_state(m, name, layer, features, false, options);
    if (o.recurrent.initial && ft__has_cells(op))
        inputs[count++] = ft__first_state(m, name, layer, features, true, options);
    if (!ft__usable(m)) return none;
    if (layer == layers - 1) snprintf(below, sizeof below, "%s", name);
    if (!o.recurrent.cells) return ft__add_node(m, op, below, inputs, count, &o);
    snprintf(both, sizeof both, "%s.states", below);
    x = ft__add_node(m, op, both, inputs, count, &o);
    snprintf(both, sizeof both, "%s.cells", below);
    ft__states_part(m, both, x, features);
    return ft__states_part(m, below, x, 0);
}

/* The final state that PyTorch returns beside the output: the states after each sample's last real
   step, of all layers side by side. */
static void ft__final_state(ft_model *m, const char *name, int layers, bool cell,
                            const ft_recurrent_options *options)
{
    ft_node x[FT__MOST_RECURRENT];
    ft_step_pool_options last;
    char to[512], from[512];
    int layer;
    memset(&last, 0, sizeof last);
    last.bidirectional = options->bidirectional;
    for (layer = 0; ft__ok(&m->context) && layer < layers; ++layer) {
        char suffix[32] = "";
        if (layers > 1) snprintf(suffix, sizeof suffix, "_l%d", layer);
        snprintf(to, sizeof to, "%s.%s%s", name, cell ? "c_n" : "h_n", suffix);
        if (layer == layers - 1) suffix[0] = 0; /* the last layer has the plain name */
        snprintf(from, sizeof from, "%s%s%s", name, suffix, cell ? ".cells" : "");
        x[layer] = ft_step_pool(m, to, ft_find(m, from), options->lengths, last);
    }
    snprintf(to, sizeof to, "%s.%s", name, cell ? "c_n" : "h_n");
    if (layers > 1) ft_concat(m, to, layers, x, 1);
}

static ft_node ft__recurrent_stack(ft_model *m, int op, const char *name, ft_node x, int hidden,
                                   ft_recurrent_options options)
{
    int layers = options.layers ? options.layers : 1, layer;
    ft_node none = {0};
    if (!ft__usable(m)) return none;
    if (hidden < 1 || hidden > 1 << 24 || layers < 1 || layers > FT__MOST_RECURRENT)
        ft__fail(&m->context, FT_INVALID, "%s: %d layers with a hidden size of %d are not"
                 " supported", name, layers, hidden);
    if (options.carry && (options.bidirectional || options.hidden.id || options.cell.id))
        ft__fail(&m->context, FT_INVALID, "%s: carry cannot be combined with bidirectional or with"
                 " a first state", name);
    if (ft__has_cells(op) ? (options.hidden.id != 0) != (options.cell.id != 0) : options.cell.id)
        ft__fail(&m->context, FT_INVALID, "%s: an LSTM needs both a first hidden state and a first"
                 " cell, or neither; other layers have no cell", name);
    for (layer = 0; ft__ok(&m->context) && layer < layers; ++layer)
        x = ft__recurrent_layer(m, op, name, x, layer, hidden, &options);
    if (options.final_states) ft__final_state(m, name, layers, false, &options);
    if (options.final_states && ft__has_cells(op)) ft__final_state(m, name, layers, true, &options);
    return ft__ok(&m->context) ? x : none;
}

ft_node ft_lstm(ft_model *m, const char *name, ft_node x, int hidden, ft_recurrent_options options)
{
    return ft__recurrent_stack(m, FT__OP_lstm, name, x, hidden, options);
}

ft_node ft_gru(ft_model *m, const char *name, ft_node x, int hidden, ft_recurrent_options options)
{
    return ft__recurrent_stack(m, FT__OP_gru, name, x, hidden, options);
}

ft_node ft_rnn(ft_model *m, const char *name, ft_node x, int hidden, ft_recurrent_options options)
{
    return ft__recurrent_stack(m, FT__OP_rnn, name, x, hidden, options);
}

const char *ft_activation_kind(int index)
{
    int op;
    for (op = 0; index >= 0 && op < FT__OP_COUNT; ++op)
        if (ft__rows[op]->flags & FT__BY_KIND && index-- == 0) return ft__rows[op]->name;
    return NULL;
}

/* The operator of this activation; FT__OP_none with an error if the name is unknown. */
static int ft__activation_named(ft_model *m, const char *kind)
{
    char known[300] = "";
    int op, at = 0, i;
    if (!ft__usable(m) || !ft__given(&m->context, kind, "the kind of an activation"))
        return FT__OP_none;
    op = ft__op_named(kind);
    if (ft__rows[op]->flags & FT__BY_KIND) return op;
    for (i = 0; ft_activation_kind(i) && at < (int)sizeof known; ++i)
        at += snprintf(known + at, sizeof known - (size_t)at, "%s%s", i ? ", " : "",
                       ft_activation_kind(i));
    ft__fail(&m->context, FT_INVALID, "%s: unknown activation; it must be one of %s", kind, known);
    return FT__OP_none;
}

static void ft__check_activation(ft_model *m, const char *kind, const ft_activation_options *o)
{
    if (ft__usable(m) && !(ft__is_finite(o->slope) && ft__is_finite(o->alpha)))
        ft__fail(&m->context, FT_INVALID, "%s: slope %g, alpha %g: both must be finite",
                 kind, (double)o->slope, (double)o->alpha);
}

ft_node ft_activation(ft_model *m, const char *kind, const char *name, ft_node x,
                      ft_activation_options options)
{
    int op = ft__activation_named(m, kind);
    ft__options o;
    ft__check_activation(m, kind, &options);
    memset(&o, 0, sizeof o);
    o.activation = options;
    return ft__add_node(m, op, name, &x, 1, &o);
}

ft_node ft_cross_entropy(ft_model *m, const char *name, ft_node logits, ft_node labels,
                         ft_loss_options options)
{
    ft__options o;
    ft_node inputs[2];
    memset(&o, 0, sizeof o);
    o.loss = options;
    inputs[0] = logits;
    inputs[1] = labels;
    return ft__add_node(m, FT__OP_cross_entropy, name, inputs, 2, &o);
}

ft_node ft_soft_cross_entropy(ft_model *m, const char *name, ft_node logits, ft_node targets)
{
    return ft__add_pair(m, FT__OP_soft_cross_entropy, name, logits, targets);
}

ft_node ft_binary_cross_entropy(ft_model *m, const char *name, ft_node logits, ft_node targets)
{
    return ft__add_pair(m, FT__OP_binary_cross_entropy, name, logits, targets);
}

ft_node ft_mse(ft_model *m, const char *name, ft_node x, ft_node target)
{
    return ft__add_pair(m, FT__OP_mse, name, x, target);
}
