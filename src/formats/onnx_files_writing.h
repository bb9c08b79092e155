#pragma once
#include "interface/requirements.h"
#include "interface/types.h"
#include "platform/families.h"
#include "platform/context.h"
#include "basics/strings.h"
#include "basics/saving.h"
#include "nodes/nodes.h"
#include "nodes/names.h"
#include "operators/table.h"
#include "operators/rows.h"
#include "devices/device.h"
#include "graph/settings.h"
#include "formats/safetensors.h"
#include "formats/onnx_file.h"
#include "formats/onnx_described.h"
#include "formats/graphs.h"
#include "formats/model_files.h"
#include "formats/onnx_writing.h"
#include "formats/onnx_elements_writing.h"
#include "formats/onnx_layers_writing.h"
#include "formats/onnx_attention_writing.h"
#include "formats/onnx_recurrent_writing.h"
/* =============================================================================================
   [SECTION] formats/onnx_files_writing: ONNX files, written
   The table of our operators that ONNX's opset 17 can hold, the network's inputs and outputs, what
   metadata_props says of it, and the file: the weights go to it from where they are.
   ============================================================================================= */
#if FT__HAS_ONNX
typedef struct ft__onnx_written {
    int op;
    const char *onnx;       /* ONNX's operator; "": several */
    const char *(*write)(ft__onnx_out *o, const ft__node *node, const char *op);
} ft__onnx_written;

/* Losses, which prediction does not need, and operators of ft_custom are not in it. */
static const ft__onnx_written ft__onnx_writes[] = {
    {FT__OP_sigmoid, "Sigmoid", ft__out_same}, {FT__OP_tanh, "Tanh", ft__out_same},
    {FT__OP_relu, "Relu", ft__out_same}, {FT__OP_softplus, "Softplus", ft__out_same},
    {FT__OP_softsign, "Softsign", ft__out_same}, {FT__OP_selu, "Selu", ft__out_same},
    {FT__OP_hardswish, "HardSwish", ft__out_same}, {FT__OP_exp, "Exp", ft__out_same},
    {FT__OP_log, "Log", ft__out_same}, {FT__OP_sqrt, "Sqrt", ft__out_same},
    {FT__OP_abs, "Abs", ft__out_same}, {FT__OP_neg, "Neg", ft__out_same},
    {FT__OP_erf, "Erf", ft__out_same}, {FT__OP_floor, "Floor", ft__out_same},
    {FT__OP_ceil, "Ceil", ft__out_same}, {FT__OP_round, "Round", ft__out_same},
    {FT__OP_sign, "Sign", ft__out_same}, {FT__OP_add, "Add", ft__out_same},
    {FT__OP_sub, "Sub", ft__out_same}, {FT__OP_mul, "Mul", ft__out_same},
    {FT__OP_div, "Div", ft__out_same}, {FT__OP_maximum, "Max", ft__out_same},
    {FT__OP_minimum, "Min", ft__out_same}, {FT__OP_power, "Pow", ft__out_same},
    {FT__OP_global_avg_pool, "GlobalAveragePool", ft__out_same},
    {FT__OP_global_max_pool, "GlobalMaxPool", ft__out_same}, {FT__OP_dropout, "", ft__out_skip},
    {FT__OP_detach, "", ft__out_skip}, {FT__OP_silu, "Sigmoid", ft__out_times_x},
    {FT__OP_leaky_relu, "LeakyRelu", ft__out_with_slope}, {FT__OP_elu, "Elu", ft__out_with_slope},
    {FT__OP_celu, "Celu", ft__out_with_slope},
    {FT__OP_hardsigmoid, "HardSigmoid", ft__out_hardsigmoid},
    {FT__OP_relu6, "Clip", ft__out_clamp}, {FT__OP_clamp, "Clip", ft__out_clamp},
    {FT__OP_hardtanh, "Clip", ft__out_clamp}, {FT__OP_gelu, "", ft__out_gelu},
    {FT__OP_quick_gelu, "", ft__out_quick_gelu}, {FT__OP_mish, "", ft__out_mish},
    {FT__OP_logsigmoid, "", ft__out_logsigmoid}, {FT__OP_softshrink, "", ft__out_shrink},
    {FT__OP_tanhshrink, "", ft__out_shrink}, {FT__OP_threshold, "", ft__out_threshold},
    {FT__OP_prelu, "PRelu", ft__out_prelu}, {FT__OP_softmax, "Softmax", ft__out_softmax},
    {FT__OP_log_softmax, "LogSoftmax", ft__out_softmax},
    {FT__OP_softmin, "Softmax", ft__out_softmax}, {FT__OP_glu, "", ft__out_glu},
    {FT__OP_pow, "Pow", ft__out_pow}, {FT__OP_affine, "", ft__out_affine},
    {FT__OP_to_i32, "int64", ft__out_cast_to}, {FT__OP_to_f32, "float", ft__out_cast_to},
    {FT__OP_equal, "Equal", ft__out_compare}, {FT__OP_not_equal, "Equal", ft__out_compare},
    {FT__OP_less, "Less", ft__out_compare}, {FT__OP_less_equal, "LessOrEqual", ft__out_compare},
    {FT__OP_greater, "Greater", ft__out_compare},
    {FT__OP_greater_equal, "GreaterOrEqual", ft__out_compare},
    {FT__OP_where, "Where", ft__out_where}, {FT__OP_expand_as, "Expand", ft__out_expand_as},
    {FT__OP_mean, "ReduceMean", ft__out_reduce},
    {FT__OP_sum, "ReduceSum", ft__out_reduce}, {FT__OP_amax, "ReduceMax", ft__out_reduce},
    {FT__OP_amin, "ReduceMin", ft__out_reduce}, {FT__OP_prod, "ReduceProd", ft__out_reduce},
    {FT__OP_norm, "ReduceL2", ft__out_reduce},
    {FT__OP_logsumexp, "ReduceLogSumExp", ft__out_reduce},
    {FT__OP_matmul, "MatMul", ft__out_matmul}, {FT__OP_cumsum, "CumSum", ft__out_cumsum},
    {FT__OP_topk, "TopK", ft__out_topk}, {FT__OP_flatten, "Flatten", ft__out_flatten},
    {FT__OP_reshape, "Reshape", ft__out_reshaped}, {FT__OP_permute, "Transpose", ft__out_permuted},
    {FT__OP_concat, "Concat", ft__out_concat}, {FT__OP_slice, "Slice", ft__out_sliced},
    {FT__OP_tile, "Tile", ft__out_tile}, {FT__OP_pad, "Pad", ft__out_pad},
    {FT__OP_gather, "", ft__out_gather}, {FT__OP_resize, "Resize", ft__out_resize},
    {FT__OP_conv2d, "Conv", ft__out_conv}, {FT__OP_conv1d, "Conv", ft__out_conv},
    {FT__OP_conv_transpose2d, "ConvTranspose", ft__out_conv_transpose},
    {FT__OP_linear, "", ft__out_linear},
    {FT__OP_batch_norm, "BatchNormalization", ft__out_batch_norm},
    {FT__OP_layer_norm, "LayerNormalization", ft__out_layer_norm},
    {FT__OP_rms_norm, "", ft__out_rms_norm},
    {FT__OP_group_norm, "InstanceNormalization", ft__out_group_norm},
    {FT__OP_max_pool2d, "MaxPool", ft__out_pool}, {FT__OP_avg_pool2d, "AveragePool", ft__out_pool},
    {FT__OP_embedding, "Gather", ft__out_embedding},
    {FT__OP_add_positions, "Add", ft__out_add_positions}, {FT__OP_rotary, "", ft__out_rotary},
    {FT__OP_attention, "", ft__out_attention}, {FT__OP_lstm, "LSTM", ft__out_recurrent},
    {FT__OP_gru, "GRU", ft__out_recurrent}, {FT__OP_rnn, "RNN", ft__out_recurrent},
    {FT__OP_step_pool, "", ft__out_step_pool},
    {FT__OP_token_counts, "OneHot", ft__out_token_counts}};

/* The row of an operator; NULL: ONNX files cannot hold it. */
static const ft__onnx_written *ft__onnx_writer_of(int op)
{
    size_t i;
    for (i = 0; i < sizeof ft__onnx_writes / sizeof *ft__onnx_writes; ++i)
        if (ft__onnx_writes[i].op == op) return &ft__onnx_writes[i];
    return NULL;
}

/* ---- The nodes ---- */

/* Marks the nodes that the output follows from. */
static void ft__out_mark_needed(ft__onnx_out *o, int output)
{
    const ft_model *m = o->m;
    int at, k;
    o->needed[output - 1] = true;
    for (at = m->node_count - 1; at >= 0; --at)
        for (k = 0; o->needed[m->order[at] - 1] && k < m->nodes[m->order[at] - 1].input_count; ++k)
            o->needed[m->nodes[m->order[at] - 1].inputs[k] - 1] = true;
}

static void ft__out_refuse(ft__onnx_out *o, const ft__node *node, const char *why)
{
    size_t at = strlen(o->refusals);
    o->refusal_count += 1;
    snprintf(o->refusals + at, sizeof o->refusals - at, "%s%.80s (%s): %s",
             o->refusal_count > 1 ? "; " : "", node->name, ft__rows[node->op]->name, why);
}

/* Pictures as they are, [N, H, W, C] of bytes, become the network's numbers. */
static const char *ft__out_picture(ft__onnx_out *o, const ft__node *input)
{
    const ft_preprocessing *p = &o->m->preprocessing;
    float scale[4], shift[4];
    int size[3], c;
    const char *x = ft__out_permute(o, ft__out_name(o, input, "planes"), input->name, 0, 3, 1, 2);
    size[0] = p->channels;
    size[1] = size[2] = 1;
    for (c = 0; c < p->channels && c < 4; ++c) {
        float std = p->std[c] > 0 ? p->std[c] : 1;
        scale[c] = (float)(1 / (255.0 * (double)std));
        shift[c] = (float)(-(double)p->mean[c] / (double)std);
    }
    x = ft__out_cast(o, ft__out_name(o, input, "float"), x, FT__ONNX_F32);
    x = ft__out_2(o, "Mul", ft__out_name(o, input, "scaled"), x,
                  ft__out_floats(o, ft__out_name(o, input, "scale"), scale, size, 3));
    return ft__out_2(o, "Add", ft__out_name(o, input, "normalised"), x,
                     ft__out_floats(o, ft__out_name(o, input, "shift"), shift, size, 3));
}

/* Adds all nodes, or lists those that cannot be written. All weights are written, also those of the
   loss alone, which the description has. `pictures`: the input that gets pictures as they are; 0:
   none. */
static void ft__out_nodes(ft__onnx_out *o, int pictures)
{
    int at;
    for (at = 0; at < o->m->node_count && ft__ok(o->c); ++at) {
        int id = o->m->order[at];
        const ft__node *node = &o->m->nodes[id - 1];
        const ft__onnx_written *row = ft__onnx_writer_of(node->op);
        const char *why = NULL;
        if (ft__is_weight(node)) ft__out_weight(o, node);
        if (!o->needed[id - 1] || ft__is_weight(node)) continue;
        o->value[id - 1] = node->name;
        if (ft__has_rows(node)) {
            if (id == pictures) o->value[id - 1] = ft__out_picture(o, node);
        } else if (row) why = row->write(o, node, row->onnx);
        else why = "no operator of ONNX does this";
        if (why) ft__out_refuse(o, node, why);
    }
}

/* ---- Inputs and outputs: ValueInfoProto ---- */

static void ft__out_value_info(ft__onnx_out *o, int field, const char *name, int type,
                               const int *size, int rank)
{
    ft__text shape, dimension, *to = &o->scratch;
    int d;
    memset(&shape, 0, sizeof shape);
    shape.context = o->c;
    dimension = shape;
    for (d = 0; d < rank; ++d) {
        dimension.count = 0;
        if (size[d] > 0) ft__proto_add_whole(&dimension, 1, size[d]);
        else ft__proto_add_text(&dimension, 2, size[d] == FT_LENGTH ? "L" : "N");
        ft__proto_add_message(&shape, 1, &dimension);
    }
    dimension.count = to->count = 0;
    ft__proto_add_whole(&dimension, 1, type);
    ft__proto_add_message(&dimension, 2, &shape);
    ft__proto_add_message(to, 1, &dimension); /* the tensor of a TypeProto */
    shape.count = 0;
    ft__proto_add_text(&shape, 1, name);
    ft__proto_add_message(&shape, 2, to);
    ft__proto_add_message(&o->graph, field, &shape);
    ft__release(o->c, shape.letters);
    ft__release(o->c, dimension.letters);
}

static int ft__out_type(const ft__node *node)
{
    return node->type == FT_I32 ? FT__ONNX_I64 : FT__ONNX_F32;
}

/* Inputs, and the states that go from run to run: whoever runs the file feeds zeros at first, and
   then what the run before gave as "<state>/next". */
static void ft__out_inputs(ft__onnx_out *o, int pictures)
{
    int at;
    for (at = 0; at < o->m->node_count; ++at) {
        const ft__node *node = &o->m->nodes[o->m->order[at] - 1];
        int size[4];
        if (!ft__has_rows(node) || !o->needed[o->m->order[at] - 1]) continue;
        size[0] = node->shape.size[0];
        size[1] = node->shape.size[2];
        size[2] = node->shape.size[3];
        size[3] = node->shape.size[1];
        if (o->m->order[at] == pictures)
            ft__out_value_info(o, 11, node->name, FT__ONNX_U8, size, 4);
        else ft__out_value_info(o, 11, node->name, ft__out_type(node), node->shape.size,
                                node->shape.rank);
    }
}

/* The output, under its node's name, or the probabilities that follow from it. */
static void ft__out_output(ft__onnx_out *o, const ft__node *output, bool probabilities)
{
    const ft__node *loss = ft__get_node(o->m, o->m->loss);
    const char *x = o->value[output - o->m->nodes], *name = output->name;
    float temperature = ft_temperature(o->m);
    if (probabilities) {
        name = ft__out_unused(o, "probabilities");
        if (temperature < 1 || temperature > 1)
            x = ft__out_2(o, "Div", ft__out_name(o, output, "tempered"), x,
                          ft__out_number(o, temperature));
        if (loss && ft__is(loss, FT__BY_SIGMOID)) ft__out_1(o, "Sigmoid", name, x);
        else {
            ft__out_int(o, "axis", -1);
            ft__out_1(o, "Softmax", name, x);
        }
    } else if (strcmp(x, name) != 0 || ft__is_leaf(output)) {
        if (ft__is_leaf(output)) name = ft__out_name(o, output, "output");
        ft__out_1(o, "Identity", name, x);
    }
    ft__out_value_info(o, 12, name, ft__out_type(output), output->shape.size, output->shape.rank);
}

/* The states after this run. */
static void ft__out_next_states(ft__onnx_out *o)
{
    const ft_model *m = o->m;
    int at;
    for (at = 0; at < m->node_count; ++at) {
        const ft__node *node = &m->nodes[m->order[at] - 1];
        if (!o->needed[m->order[at] - 1] || !ft__is_state(node)) continue;
        ft__out_value_info(o, 12, ft__out_name(o, node, "next"),
                           FT__ONNX_F32, node->shape.size, node->shape.rank);
    }
}

/* ---- metadata_props: the entries of model files, and two for other readers (formats/
   onnx_described) ---- */

static void ft__out_add_pair(ft__text *model, ft__text *scratch, const char *key, const char *text)
{
    if (!text) return;
    scratch->count = 0;
    ft__proto_add_text(scratch, 1, key);
    ft__proto_add_text(scratch, 2, text);
    ft__proto_add_message(model, 14, scratch);
}

static void ft__out_metadata(ft__onnx_out *o, ft__text *model, const char *graph, bool pictures)
{
    const ft_model *m = o->m;
    ft_preprocessing p = m->preprocessing;
    const char *key = m->notes.letters;
    ft__text text;
    char sum[20];
    int i;
    memset(&text, 0, sizeof text);
    text.context = o->c;
    ft__onnx_sum_text(o->sum, sum);
    ft__out_add_pair(model, &o->scratch, ft__graph_key, graph);
    ft__out_add_pair(model, &o->scratch, ft__onnx_sum_key, sum);
    ft__out_add_pair(model, &o->scratch, ft__training_key, m->training);
    ft__out_add_pair(model, &o->scratch, ft__tokenizer_key, m->tokenizer_text);
    if (m->class_count) {
        ft__add_classes(m, &text);
        ft__out_add_pair(model, &o->scratch, ft__onnx_parts[0], text.letters);
    }
    text.count = 0;
    for (i = 0; pictures && i < 4; ++i) { /* the graph does the rest of it */
        p.mean[i] = 0;
        p.std[i] = 1.0f / 255;
    }
    if (p.width > 0) ft__write_preprocessing(&text, &p);
    if (p.width > 0 && text.letters)
        ft__out_add_pair(model, &o->scratch, ft__onnx_parts[1], strchr(text.letters, '{'));
    for (i = 0; i < m->note_count; ++i) {
        const char *value = key + strlen(key) + 1;
        if (!ft__onnx_is_part(key)) ft__out_add_pair(model, &o->scratch, key, value);
        key = value + strlen(value) + 1;
    }
    ft__release(o->c, text.letters);
}

/* ---- The file ---- */

static int ft__out_onnx_type(ft_type type)
{
    return type == FT_F16 ? FT__ONNX_F16 : type == FT_BF16 ? FT__ONNX_BF16
        : type == FT_I8 ? FT__ONNX_I8 : FT__ONNX_F32;
}

/* What stands before a weight's numbers: a field of GraphProto as long as they and this. */
static void ft__out_weight_head(ft__onnx_out *o, const ft__write_tensor *t, ft__text *to)
{
    uint64_t bytes = ft__written_bytes(t);
    o->scratch.count = to->count = 0;
    ft__out_tensor_head(&o->scratch, ft__out_onnx_type(t->type), t->shape.size, t->shape.rank);
    ft__proto_add_text(&o->scratch, 8, t->name);
    ft__proto_add_length(&o->scratch, 9, bytes);
    ft__proto_add_length(to, 5, o->scratch.count + bytes);
    if (ft__ok(o->c)) ft__text_add_bytes(to, o->scratch.letters, o->scratch.count);
}

/* Writes `model`, the fields of ModelProto before the graph, and the graph. */
static void ft__out_file(ft__onnx_out *o, ft__text *model)
{
    ft__text head;
    ft__saving file;
    uint64_t bytes = o->graph.count;
    bool written;
    int i;
    memset(&head, 0, sizeof head);
    head.context = o->c;
    for (i = 0; i < o->weight_count && ft__ok(o->c); ++i) {
        ft__out_weight_head(o, &o->weights[i], &head);
        bytes += head.count + ft__written_bytes(&o->weights[i]);
    }
    if (bytes + model->count > INT_MAX - 64)
        ft__fail(o->c, FT_UNSUPPORTED, "%s: the network has %llu bytes; an ONNX file holds at most"
                 " 2 GiB: write its weights as FT_F16 or FT_BF16 (--type), or .safetensors",
                 o->path, (unsigned long long)bytes);
    ft__proto_add_length(model, 7, bytes);
    written = ft__saving_begin(&file, o->c, o->path)
        && ft__saving_write(&file, model->letters, model->count)
        && ft__saving_write(&file, o->graph.letters, o->graph.count);
    for (i = 0; i < o->weight_count && written; ++i) {
        ft__out_weight_head(o, &o->weights[i], &head);
        written = ft__ok(o->c) && ft__saving_write(&file, head.letters, head.count)
            && ft__write_tensor_data(&file, &o->weights[i]);
    }
    if (!ft__saving_end(&file, ft__ok(o->c)) && ft__ok(o->c))
        ft__fail(o->c, FT_IO, "%s: %s", o->path, file.why);
    ft__saving_free(&file);
    ft__release(o->c, head.letters);
}

/* The node whose value the file's output is; {0}: there is none. */
static ft_node ft__out_result(const ft_model *m)
{
    return m->output.id ? m->output : m->text_vector;
}

/* Fails if what the options ask for is not there. */
static ft_status ft__onnx_check(ft_model *m, const char *path, const ft_save_options *options)
{
    const ft__node *node = ft__get_node(m, ft__out_result(m)), *loss = ft__get_node(m, m->loss);
    const ft__node *input = ft__get_node(m, ft__find_node(m, "input"));
    const ft_preprocessing *p = &m->preprocessing;
    ft__context *c = &m->context;
    bool classes = (loss && !ft__is(loss, FT__REGRESSION)) || (!loss && m->class_count > 0);
    if (!node)
        ft__fail(c, FT_INVALID, "%s: the network has no output: call ft_set_output first", path);
    else if (options->with_probabilities
             && (ft__is(node, FT__PROBABILITIES) || !classes || node->type != FT_F32))
        ft__fail(c, FT_INVALID, "%s: with_probabilities: the output %s must be logits of a"
                 " classifier, and not already probabilities", path, node->name);
    else if (options->with_preprocessing
             && (p->width < 1 || !input || !ft__is_input(input) || input->type != FT_F32
                 || input->shape.rank != 4 || input->shape.size[1] != p->channels
                 || input->shape.size[2] != p->height || input->shape.size[3] != p->width))
        ft__fail(c, FT_INVALID, "%s: with_preprocessing: the network must have an input \"input\""
                 " [N, C, H, W] of pictures, and a preprocessing of that size", path);
    return c->status;
}

/* Writes a network that ft__onnx_check accepts as an ONNX file; its weights in this type, or
   FT_OTHER: each in its own. */
static ft_status ft__onnx_save(ft_model *m, const char *path, ft_type type,
                               const ft_save_options *options)
{
    ft__context *c = &m->context;
    ft_node output = ft__out_result(m);
    int pictures = options->with_preprocessing ? ft__find_node(m, "input").id : 0;
    size_t count = (size_t)m->node_count;
    char *graph = ft__graph_text(m, false);
    ft__text model, opset;
    ft__onnx_out o;
    memset(&o, 0, sizeof o);
    memset(&model, 0, sizeof model);
    model.context = o.graph.context = o.attributes.context = o.scratch.context = o.c = c;
    opset = model;
    o.m = m;
    o.path = path;
    o.type = type;
    o.value = (const char **)ft__allocate(c, count, sizeof *o.value);
    o.turned = (const char **)ft__allocate(c, count, sizeof *o.turned);
    o.needed = (bool *)ft__allocate(c, count, sizeof *o.needed);
    o.weights = (ft__write_tensor *)ft__allocate(c, 2 * count, sizeof *o.weights);
    ft__host_takes_weights(c, false);
    if (ft__ok(c)) {
        ft__out_mark_needed(&o, output.id);
        ft__proto_add_text(&o.graph, 2, *m->architecture ? m->architecture : "network");
        ft__out_nodes(&o, pictures);
    }
    if (o.refusal_count)
        ft__fail(c, FT_UNSUPPORTED, "%s: %d nodes cannot be written in ONNX's opset %d: %s", path,
                 o.refusal_count, FT__ONNX_OPSET_OUT, o.refusals);
    if (ft__ok(c)) {
        ft__out_inputs(&o, pictures);
        ft__out_output(&o, &m->nodes[output.id - 1], options->with_probabilities);
        ft__out_next_states(&o);
        ft__proto_add_whole(&model, 1, FT__ONNX_IR_OUT);
        ft__proto_add_text(&model, 2, "finetune.h");
        ft__proto_add_text(&model, 3, FINETUNE_VERSION);
        ft__proto_add_text(&opset, 1, "");
        ft__proto_add_whole(&opset, 2, FT__ONNX_OPSET_OUT);
        ft__proto_add_message(&model, 8, &opset);
        ft__out_metadata(&o, &model, graph, pictures > 0);
        ft__out_file(&o, &model);
    }
    while (o.text_count > 0) ft__release(c, o.texts[--o.text_count]);
    ft__release(c, o.texts);
    ft__release(c, o.weights);
    ft__release(c, o.needed);
    ft__release(c, (void *)(uintptr_t)o.turned);
    ft__release(c, (void *)(uintptr_t)o.value);
    ft__release(c, o.graph.letters);
    ft__release(c, o.attributes.letters);
    ft__release(c, o.scratch.letters);
    ft__release(c, opset.letters);
    ft__release(c, model.letters);
    ft__release(c, graph);
    return c->status;
}
#endif
