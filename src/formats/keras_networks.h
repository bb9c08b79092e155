#pragma once
#include "interface/requirements.h"
#include "interface/types.h"
#include "platform/families.h"
#include "platform/context.h"
#include "basics/strings.h"
#include "basics/arrays.h"
#include "basics/json.h"
#include "basics/sorting.h"
#include "formats/keras_nodes.h"
#include "formats/keras_layers.h"
#include "formats/keras_sequences.h"
/* =============================================================================================
   [SECTION] formats/keras_networks: Keras' networks: from a config to a description
   Functional and Sequential, of Keras 2 and 3, with models inside models. A layer, or a field of
   one, that is not known and would change the result is refused; all of them are named at once.
   ============================================================================================= */
#if FT__HAS_KERAS
enum { FT__KERAS_MOST_LAYERS = 4096, FT__KERAS_NESTED = 8 };

typedef struct ft__keras_row {
    const char *class_name;
    const char *fields;     /* the known ones, with a space before and after each */
    ft__keras_function map;
} ft__keras_row;

#define FT__KERAS_CONV " filters kernel_size strides padding dilation_rate groups activation" \
    " use_bias data_format "
#define FT__KERAS_DEPTHWISE " kernel_size strides padding dilation_rate depth_multiplier" \
    " activation use_bias data_format filters groups "
#define FT__KERAS_POOL " pool_size strides padding data_format "
#define FT__KERAS_RNN " units activation recurrent_activation use_bias dropout" \
    " recurrent_dropout return_sequences return_state go_backwards stateful reset_after" \
    " implementation unit_forget_bias time_major unroll use_cudnn zero_output_for_mask "
#define FT__KERAS_NORM " axis epsilon center scale "

static const ft__keras_row ft__keras_rows[] = {
    {"Conv1D", FT__KERAS_CONV, ft__keras_conv},
    {"Conv2D", FT__KERAS_CONV, ft__keras_conv},
    {"DepthwiseConv1D", FT__KERAS_DEPTHWISE, ft__keras_depthwise},
    {"DepthwiseConv2D", FT__KERAS_DEPTHWISE, ft__keras_depthwise},
    {"SeparableConv1D", FT__KERAS_DEPTHWISE, ft__keras_separable},
    {"SeparableConv2D", FT__KERAS_DEPTHWISE, ft__keras_separable},
    {"Conv2DTranspose", FT__KERAS_CONV " output_padding ", ft__keras_transpose},
    {"UpSampling1D", " size ", ft__keras_upsample},
    {"UpSampling2D", " size interpolation data_format ", ft__keras_upsample},
    {"Dense", " units activation use_bias ", ft__keras_dense},
    {"BatchNormalization", FT__KERAS_NORM " momentum renorm_momentum ", ft__keras_batch_norm},
    {"LayerNormalization", FT__KERAS_NORM, ft__keras_layer_norm},
    {"GroupNormalization", FT__KERAS_NORM " groups ", ft__keras_group_norm},
    {"MaxPooling1D", FT__KERAS_POOL, ft__keras_pool},
    {"MaxPooling2D", FT__KERAS_POOL, ft__keras_pool},
    {"AveragePooling1D", FT__KERAS_POOL, ft__keras_pool},
    {"AveragePooling2D", FT__KERAS_POOL, ft__keras_pool},
    {"GlobalAveragePooling1D", " data_format keepdims ", ft__keras_global_pool},
    {"GlobalAveragePooling2D", " data_format keepdims ", ft__keras_global_pool},
    {"GlobalMaxPooling1D", " data_format keepdims ", ft__keras_global_pool},
    {"GlobalMaxPooling2D", " data_format keepdims ", ft__keras_global_pool},
    {"ZeroPadding1D", " padding data_format ", ft__keras_border},
    {"ZeroPadding2D", " padding data_format ", ft__keras_border},
    {"Cropping1D", " cropping data_format ", ft__keras_border},
    {"Cropping2D", " cropping data_format ", ft__keras_border},
    {"Flatten", " data_format ", ft__keras_flatten},
    {"Reshape", " target_shape ", ft__keras_reshape_layer},
    {"Permute", " dims ", ft__keras_permute},
    {"RepeatVector", " n ", ft__keras_repeat},
    {"Activation", " activation ", ft__keras_activation_layer},
    {"ReLU", " max_value negative_slope threshold ", ft__keras_relu},
    {"LeakyReLU", " negative_slope alpha ", ft__keras_leaky_relu},
    {"ELU", " alpha ", ft__keras_elu},
    {"PReLU", " shared_axes ", ft__keras_prelu},
    {"Softmax", " axis ", ft__keras_softmax},
    {"Dropout", " rate seed ", ft__keras_dropout},
    {"SpatialDropout1D", " rate seed ", ft__keras_dropout},
    {"Embedding", " input_dim output_dim input_length mask_zero ", ft__keras_embedding},
    {"LSTM", FT__KERAS_RNN, ft__keras_recurrent},
    {"GRU", FT__KERAS_RNN, ft__keras_recurrent},
    {"SimpleRNN", FT__KERAS_RNN, ft__keras_recurrent},
    {"Bidirectional", " layer backward_layer merge_mode ", ft__keras_bidirectional},
    {"MultiHeadAttention", " num_heads key_dim value_dim dropout use_bias output_shape"
     " attention_axes query_shape key_shape value_shape ", ft__keras_attention},
    {"Add", " ", ft__keras_merge}, {"Subtract", " ", ft__keras_merge},
    {"Multiply", " ", ft__keras_merge}, {"Average", " ", ft__keras_merge},
    {"Maximum", " ", ft__keras_merge}, {"Minimum", " ", ft__keras_merge},
    {"Concatenate", " axis ", ft__keras_concatenate},
    {"Rescaling", " scale offset ", ft__keras_rescaling},
    {"Normalization", " axis mean variance invert ", ft__keras_normalization}};

static const ft__keras_row *ft__keras_row_of(const char *class_name)
{
    size_t i;
    for (i = 0; class_name && i < sizeof ft__keras_rows / sizeof ft__keras_rows[0]; ++i)
        if (!strcmp(ft__keras_rows[i].class_name, class_name)) return &ft__keras_rows[i];
    return NULL;
}

static bool ft__keras_is_model(const char *class_name)
{
    return class_name && (!strcmp(class_name, "Functional") || !strcmp(class_name, "Model")
                          || !strcmp(class_name, "Sequential"));
}

static bool ft__keras_in_words(const char *words, const char *word)
{
    char spaced[80];
    if (strlen(word) > 70) return false;
    snprintf(spaced, sizeof spaced, " %s ", word);
    return strstr(words, spaced) != NULL;
}

/* Whether a field says nothing: null, false, an empty list, 0. */
static bool ft__keras_says_nothing(const ft__json *j, int value)
{
    double number = 1;
    return ft__json_at(j, value, '0') || ft__json_at(j, value, 'f')
        || ((ft__json_at(j, value, 'a') || ft__json_at(j, value, 'o'))
            && ft__json_count(j, value) == 0)
        || (ft__json_double(j, value, &number) && number == 0);
}

/* Refuses fields that are not known and say something; counts what only training would read. */
static void ft__keras_check_fields(ft__keras *g, const ft__keras_row *row)
{
    static const char any[] = " name trainable dtype batch_input_shape batch_shape autocast"
        " input_spec build_config quantization_config seed ";
    const ft__json_value *values = g->json->values;
    const char *format = ft__keras_word(g, "data_format", "channels_last");
    const char *activation;
    bool dropped = false;
    int i;
    for (i = g->config + 1; i < values[g->config].next; i = values[i].next) {
        const char *key = values[i].key;
        if (ft__keras_in_words(any, key) || ft__keras_in_words(row->fields, key)
            || ft__ends_with(key, "_initializer") || ft__keras_says_nothing(g->json, i)) continue;
        if (ft__ends_with(key, "_regularizer") || ft__ends_with(key, "_constraint")) dropped = true;
        else ft__keras_refuse(g, "the field %.60s", key);
    }
    activation = ft__keras_activation_name(g, "activation");
    if (!ft__keras_activation_of(activation)) ft__keras_refuse(g, "activation %.60s", activation);
    if (strcmp(format, "channels_last") != 0) ft__keras_refuse(g, "data_format %.40s", format);
    g->dropped += dropped;
}

/* ---- A layer is called ---- */

/* Arguments of a call that are not its inputs: all but a few must say nothing. */
static void ft__keras_check_call(ft__keras *g)
{
    const ft__json_value *values = g->json->values;
    int i;
    if (!ft__json_at(g->json, g->call_options, 'o')) return;
    for (i = g->call_options + 1; i < values[g->call_options].next; i = values[i].next)
        if (!ft__keras_in_words(" training use_causal_mask query value key inputs ", values[i].key)
            && !ft__keras_says_nothing(g->json, i))
            ft__keras_refuse(g, "the argument %.60s of its call", values[i].key);
    if (ft__json_true(g->json, ft__json_member(g->json, g->call_options, "training")))
        ft__keras_refuse(g, "training true in its call");
}

/* A value of which only that it was refused is known. */
static int ft__keras_unknown(ft__keras *g)
{
    int value = ft__keras_value_add(g, 0);
    if (value >= 0) ft__keras_at(g, value)->rank = -1;
    return value;
}

/* TimeDistributed of a layer that works on the last dimension is that layer. */
static const ft__keras_row *ft__keras_unwrap(ft__keras *g)
{
    const char *inner = NULL;
    int config;
    if (!g->class_name || strcmp(g->class_name, "TimeDistributed") != 0)
        return ft__keras_row_of(g->class_name);
    config = ft__keras_inner(g, "layer", &inner);
    if (config < 0) return NULL;
    if (!ft__keras_in_words(" Dense Activation Dropout ReLU LeakyReLU ELU ", inner)) return NULL;
    g->config = config;
    g->class_name = inner;
    return ft__keras_row_of(inner);
}

/* Maps one layer that is no model. */
static int ft__keras_map(ft__keras *g, const int *inputs, int count)
{
    const ft__keras_row *row = ft__keras_unwrap(g);
    int before = g->refused_count, i, made;
    if (!row) {
        if (g->refused_count == before) ft__keras_refuse(g, "a layer that is not known");
        return ft__keras_unknown(g);
    }
    ft__keras_check_fields(g, row);
    ft__keras_check_call(g);
    if (count < 1) ft__keras_refuse(g, "a call without inputs");
    for (i = 0; i < count; ++i)
        if (inputs[i] < 0 || ft__keras_at(g, inputs[i])->rank < 0) return ft__keras_unknown(g);
    if (g->refused_count > before || !ft__ok(g->c)) return ft__keras_unknown(g);
    made = row->map(g, inputs, count);
    return made < 0 ? ft__keras_unknown(g) : made;
}

/* ---- Inputs ---- */

/* The name of the only input: the one by which the library fills it. */
static const char *ft__keras_only_input(const ft__keras *g)
{
    int i;
    for (i = 0; i < g->json->count; ++i) {
        const char *key = g->json->values[i].key, *text = ft__json_string(g->json, i);
        if (key && text && !strcmp(key, "class_name") && !strcmp(text, "Embedding"))
            return "tokens";
    }
    return "input";
}

/* An input of these sizes, null among them: the batch, or steps. */
static int ft__keras_add_input(ft__keras *g, const char *name, int shape)
{
    ft__keras_input *input = (ft__keras_input *)ft__growing_add(g->c, &g->inputs);
    int rank = ft__json_count(g->json, shape), d, at, value;
    ft__keras_value *v;
    g->layer = name;
    g->class_name = "InputLayer";
    g->repeat = 0;
    value = ft__keras_value_add(g, ft__keras_name(g, "", false));
    if (!input || value < 0) return -1;
    memset(input, 0, sizeof *input);
    input->value = value;
    v = ft__keras_at(g, value);
    v->input = (int)g->inputs.count - 1;
    v->rank = rank;
    if (rank < 1 || rank >= FINETUNE_MAX_RANK) {
        ft__keras_refuse(g, "its shape is not known");
        v->rank = -1;
        return value;
    }
    v->size[0] = FT_BATCH;
    for (d = 1, at = shape + 1; d < rank; ++d) {
        at = g->json->values[at].next;
        if (ft__json_at(g->json, at, '0') && d == 1 && rank < 4) v->size[d] = FT_LENGTH;
        else if (!ft__keras_whole(g, at, 1, &v->size[d])) {
            ft__keras_refuse(g, "its shape has an open size, other than the number of steps: build"
                             " the model with a shape of numbers");
            v->rank = -1;
            return value;
        }
    }
    v->first = rank == 4; /* pictures are [N, C, H, W] here */
    return value;
}

/* The shape that a layer's config gives; -1: none. */
static int ft__keras_input_shape(const ft__keras *g, int config)
{
    int shape = ft__json_member(g->json, config, "batch_shape");
    if (!ft__json_at(g->json, shape, 'a'))
        shape = ft__json_member(g->json, config, "batch_input_shape");
    return ft__json_at(g->json, shape, 'a') ? shape : -1;
}

/* ---- Layers of a model, and their results ---- */

static bool ft__keras_layer_less(const void *context, int a, int b)
{
    const ft__keras_layer *table = (const ft__keras_layer *)context;
    int order = strcmp(table[a].name, table[b].name);
    return order < 0 || (order == 0 && a < b);
}

static const char *ft__keras_layer_name(const ft__json *j, int layer)
{
    const char *name = ft__json_string(j, ft__json_member(j, ft__json_member(j, layer, "config"),
                                                          "name"));
    if (!name) name = ft__json_string(j, ft__json_member(j, layer, "name"));
    return name ? name : "layer";
}

/* Whether a JSON value is ["LAYER", call, tensor, ...]. */
static bool ft__keras_is_reference(const ft__json *j, int value)
{
    return ft__json_at(j, value, 'a') && ft__json_count(j, value) >= 3
        && ft__json_string(j, value + 1);
}

/* The number of the first call of a layer that is a model. TensorFlow's Keras 2 counts from 1, for
   call 0 is the one that made the model; Keras 3, and Keras 2 before it, count from 0. That the
   largest number is the number of calls tells which. */
static int ft__keras_first_call(const ft__keras *g, const ft__keras_model *m,
                                const ft__keras_layer *layer)
{
    int calls = ft__json_count(g->json, ft__json_member(g->json, layer->at, "inbound_nodes")), i;
    int64_t call = 0;
    for (i = m->config; i < g->json->values[m->config].next; ++i)
        if (ft__keras_is_reference(g->json, i)
            && !strcmp(ft__json_string(g->json, i + 1), layer->name)
            && ft__json_int(g->json, i + 2, &call) && call == calls) return 1;
    return 0;
}

/* Lists the layers; false: there is no list, or too long a one. */
static bool ft__keras_list_layers(ft__keras *g, ft__keras_model *m)
{
    int count = ft__json_count(g->json, m->layers), i;
    g->layers += count;
    if (!ft__json_at(g->json, m->layers, 'a') || g->layers > FT__KERAS_MOST_LAYERS) {
        ft__keras_refuse(g, count ? "more than 4096 layers" : "no list of layers");
        return false;
    }
    m->table = (ft__keras_layer *)ft__allocate(g->c, (size_t)count + 1, sizeof *m->table);
    m->order = (int *)ft__allocate(g->c, (size_t)count + 1, sizeof *m->order);
    if (!m->table || !m->order) return false;
    for (i = m->layers + 1; m->count < count; i = g->json->values[i].next) {
        ft__keras_layer *l = &m->table[m->count++];
        l->name = ft__keras_layer_name(g->json, i);
        l->at = i;
        l->first = -1;
        l->base = g->old && ft__keras_is_model(ft__json_string(g->json, ft__json_member(
            g->json, i, "class_name"))) ? ft__keras_first_call(g, m, l) : 0;
    }
    ft__sort_order(m->order, count, ft__keras_layer_less, m->table);
    return true;
}

static ft__keras_layer *ft__keras_layer_named(const ft__keras_model *m, const char *name)
{
    int low = 0, high = m->count;
    while (low < high) {
        int middle = low + (high - low) / 2;
        ft__keras_layer *l = &m->table[m->order[middle]];
        int order = strcmp(l->name, name);
        if (order == 0) return l;
        if (order < 0) low = middle + 1;
        else high = middle;
    }
    return NULL;
}

static void ft__keras_keep(ft__keras *g, ft__keras_layer *layer, int call, int tensor, int value)
{
    ft__keras_result *r = (ft__keras_result *)ft__growing_add(g->c, &g->results);
    if (!r) return;
    r->call = call;
    r->tensor = tensor;
    r->value = value;
    r->next = layer->first;
    layer->first = (int)g->results.count - 1;
}

/* The value of a layer's result; tensor -1: of any. -1: not made yet. */
static int ft__keras_kept(const ft__keras *g, const ft__keras_layer *layer, int64_t call,
                          int64_t tensor)
{
    const ft__keras_result *all = (const ft__keras_result *)g->results.at;
    int i = layer ? layer->first : -1;
    for (; i >= 0; i = all[i].next)
        if (all[i].call == call && (tensor < 0 || all[i].tensor == tensor)) return all[i].value;
    return -1;
}

/* The value that ["LAYER", call, tensor, ...] means; -1: not made yet. */
static int ft__keras_resolve(const ft__keras *g, const ft__keras_model *m, int reference)
{
    const ft__keras_layer *layer = ft__keras_layer_named(m, ft__json_string(g->json,
                                                                            reference + 1));
    int64_t call = 0, tensor = 0;
    ft__json_int(g->json, reference + 2, &call);
    ft__json_int(g->json, reference + 3, &tensor);
    return ft__keras_kept(g, layer, layer ? call - layer->base : call, tensor < 0 ? 0 : tensor);
}

typedef struct ft__keras_call { int inputs[FT__KERAS_MOST_INPUTS], count, options; bool ready; }
    ft__keras_call;

static void ft__keras_call_add(ft__keras_call *call, int value)
{
    if (value < 0) call->ready = false;
    else if (call->count < FT__KERAS_MOST_INPUTS) call->inputs[call->count] = value;
    call->count += 1;
}

/* Adds all tensors in a part of the JSON, in the order of the text. Keras 3 writes {"class_name":
   "__keras_tensor__", "config": {"keras_history": [...]}}, Keras 2 the history alone. */
static void ft__keras_gather(const ft__keras *g, const ft__keras_model *m, int from,
                             ft__keras_call *call)
{
    int i, end = from < 0 ? 0 : g->json->values[from].next;
    for (i = from; i >= 0 && i < end;) {
        const char *class_name = ft__json_string(g->json,
                                                 ft__json_member(g->json, i, "class_name"));
        int history = ft__json_member(g->json, ft__json_member(g->json, i, "config"),
                                      "keras_history");
        bool tensor = class_name && !strcmp(class_name, "__keras_tensor__") && history >= 0;
        if (!tensor) history = i;
        if (ft__keras_is_reference(g->json, history))
            ft__keras_call_add(call, ft__keras_resolve(g, m, history));
        i = tensor || ft__keras_is_reference(g->json, history) ? g->json->values[i].next : i + 1;
    }
}

/* The inputs of one call. Those that are arguments by name follow the others: query, value, key. */
static ft__keras_call ft__keras_read_call(const ft__keras *g, const ft__keras_model *m, int node)
{
    static const char *const named[] = {"inputs", "query", "value", "key"};
    ft__keras_call call;
    int i, args = ft__json_member(g->json, node, "args");
    memset(&call, 0, sizeof call);
    call.ready = true;
    call.options = ft__json_member(g->json, node, "kwargs");
    if (ft__json_at(g->json, node, 'o')) ft__keras_gather(g, m, args, &call);
    else if (ft__json_at(g->json, node, 'a')) {
        /* [["a", 0, 0, {...}], ["b", 0, 0, {...}]], the arguments in the first */
        ft__keras_gather(g, m, node, &call);
        args = ft__keras_is_reference(g->json, node) ? node : node + 1;
        call.options = ft__json_element(g->json, args, 3);
    }
    for (i = 0; i < 4; ++i)
        ft__keras_gather(g, m, ft__json_member(g->json, call.options, named[i]), &call);
    return call;
}

/* ---- Models ---- */

/* Calls a layer, which may be a model, and keeps its results as those of call `number`. */
static void ft__keras_call_layer(ft__keras *g, const ft__keras_model *m, ft__keras_layer *layer,
                                 const ft__keras_call *call, int number)
{
    const char *class_name = ft__json_string(g->json, ft__json_member(g->json, layer->at,
                                                                      "class_name"));
    int config = ft__json_member(g->json, layer->at, "config"), outer = g->repeat, i;
    bool frozen = g->frozen;
    size_t length = strlen(g->prefix);
    g->layer = layer->name;
    g->class_name = class_name;
    g->config = config;
    g->call_options = call->options;
    g->frozen = frozen || !ft__keras_flag(g, "trainable", true);
    if (number > 0 || outer) g->repeat = ++g->repeats;
    if (call->count > FT__KERAS_MOST_INPUTS) ft__keras_refuse(g, "more than 16 inputs");
    else if (ft__keras_is_model(class_name)) {
        ft__keras_model inner;
        memset(&inner, 0, sizeof inner);
        inner.config = config;
        inner.depth = m->depth + 1;
        inner.inputs = call->inputs;
        inner.input_count = call->count;
        snprintf(g->prefix + length, sizeof g->prefix - length, "%s.", layer->name);
        if (inner.depth > FT__KERAS_NESTED || strlen(g->prefix) + 2 > sizeof g->prefix)
            ft__keras_refuse(g, "models inside models, too deep");
        else g->run(g, class_name, &inner);
        for (i = 0; i < inner.output_count; ++i)
            ft__keras_keep(g, layer, number, i, inner.outputs[i]);
        g->prefix[length] = 0;
    } else ft__keras_keep(g, layer, number, 0, ft__keras_map(g, call->inputs, call->count));
    g->frozen = frozen;
    g->repeat = outer;
}

static bool ft__keras_is_input(const ft__keras *g, int layer)
{
    const char *class_name = ft__json_string(g->json, ft__json_member(g->json, layer,
                                                                      "class_name"));
    return class_name && !strcmp(class_name, "InputLayer");
}

/* The shape of the first layer's input: its own, or the model's, or that of the first layer of the
   model that it is. */
static int ft__keras_first_shape(const ft__keras *g, const ft__keras_model *m, int config)
{
    int shape = ft__keras_input_shape(g, config), inner;
    if (shape < 0) shape = ft__json_member(g->json, m->config, "build_input_shape");
    if (ft__json_at(g->json, shape, 'a')) return shape;
    inner = ft__json_element(g->json, ft__json_member(g->json, config, "layers"), 0);
    return ft__keras_input_shape(g, ft__json_member(g->json, inner, "config"));
}

/* The layers one after the other. */
static bool ft__keras_run_sequential(ft__keras *g, ft__keras_model *m)
{
    ft__keras_call call;
    int i;
    memset(&call, 0, sizeof call);
    call.options = -1;
    call.count = 1;
    call.inputs[0] = m->inputs && m->input_count == 1 ? m->inputs[0] : -1;
    for (i = 0; i < m->count && ft__ok(g->c); ++i) {
        ft__keras_layer *layer = &m->table[i];
        int config = ft__json_member(g->json, layer->at, "config");
        bool input = ft__keras_is_input(g, layer->at);
        if (call.inputs[0] < 0)
            call.inputs[0] = ft__keras_add_input(g, ft__keras_only_input(g),
                                                 ft__keras_first_shape(g, m, config));
        if (call.inputs[0] < 0) return false;
        if (input) continue;
        ft__keras_call_layer(g, m, layer, &call, 0);
        call.inputs[0] = ft__keras_kept(g, layer, 0, 0);
        if (call.inputs[0] < 0) return false;
    }
    m->outputs[0] = call.inputs[0];
    m->output_count = call.inputs[0] >= 0;
    return m->output_count > 0;
}

/* The references of input_layers and output_layers: one, a list of them, or an object. Returns how
   many there are, of which `found` has up to 16. */
static int ft__keras_references(const ft__keras *g, int value, int *found)
{
    int i, count = 0, end = value < 0 ? 0 : g->json->values[value].next;
    for (i = value; i >= 0 && i < end;) {
        bool reference = ft__keras_is_reference(g->json, i);
        if (reference && count < FT__KERAS_MOST_INPUTS) found[count] = i;
        count += reference;
        i = reference ? g->json->values[i].next : i + 1;
    }
    return count;
}

/* Gives the input layers their values. */
static bool ft__keras_feed(ft__keras *g, ft__keras_model *m)
{
    int found[FT__KERAS_MOST_INPUTS], count, i;
    count = ft__keras_references(g, ft__json_member(g->json, m->config, "input_layers"), found);
    if (count < 1 || count > FT__KERAS_MOST_INPUTS || (m->inputs && m->input_count != count)) {
        ft__keras_refuse(g, "%d inputs, of which %d are given", count, m->input_count);
        return false;
    }
    for (i = 0; i < count; ++i) {
        const char *name = ft__json_string(g->json, found[i] + 1);
        ft__keras_layer *layer = ft__keras_layer_named(m, name);
        int value;
        if (!layer) return ft__keras_refuse(g, "no layer %.80s", name), false;
        if (count == 1) name = ft__keras_only_input(g);
        value = m->inputs ? m->inputs[i] : ft__keras_add_input(g, name, ft__keras_input_shape(
            g, ft__json_member(g->json, layer->at, "config")));
        ft__keras_keep(g, layer, 0, 0, value);
    }
    return ft__ok(g->c);
}

/* Calls what can be called of one layer; adds to *left the calls whose inputs are not there yet,
   and to *moved those that were made. */
static void ft__keras_try_layer(ft__keras *g, const ft__keras_model *m, ft__keras_layer *layer,
                                int *left, int *moved)
{
    int nodes = ft__json_member(g->json, layer->at, "inbound_nodes"), number, at = nodes + 1;
    int count = ft__keras_is_input(g, layer->at) ? 0 : ft__json_count(g->json, nodes);
    for (number = 0; number < count && ft__ok(g->c); ++number, at = g->json->values[at].next) {
        ft__keras_call call;
        if (ft__keras_kept(g, layer, number, -1) >= 0) continue;
        call = ft__keras_read_call(g, m, at);
        *left += !call.ready;
        if (!call.ready) continue;
        if (++g->calls > 2 * FT__KERAS_MOST_LAYERS) {
            ft__keras_refuse(g, "too many calls of layers");
            return;
        }
        *moved += 1;
        ft__keras_call_layer(g, m, layer, &call, number);
    }
}

/* Calls the layers whose inputs are there, until all are. */
static bool ft__keras_run_functional(ft__keras *g, ft__keras_model *m)
{
    int found[FT__KERAS_MOST_INPUTS], left = 1, moved = 1, passes = 0, i;
    if (!ft__keras_feed(g, m)) return false;
    for (; left && moved && ++passes < 100 && ft__ok(g->c);) {
        left = moved = 0;
        for (i = 0; i < m->count; ++i) ft__keras_try_layer(g, m, &m->table[i], &left, &moved);
    }
    m->output_count = ft__keras_references(g, ft__json_member(g->json, m->config, "output_layers"),
                                           found);
    if (m->output_count > FT__KERAS_MOST_INPUTS) m->output_count = FT__KERAS_MOST_INPUTS;
    for (i = 0; i < m->output_count; ++i) {
        m->outputs[i] = ft__keras_resolve(g, m, found[i]);
        if (m->outputs[i] < 0) m->outputs[i] = ft__keras_unknown(g);
    }
    if (m->output_count < 1 || left)
        ft__keras_refuse(g, "its layers lead to no output, or go in a circle");
    return m->output_count > 0 && !left;
}

/* Maps a model, m->config; false: it has no result. */
static bool ft__keras_run_model(ft__keras *g, const char *class_name, ft__keras_model *m)
{
    bool done = false;
    m->layers = ft__json_at(g->json, m->config, 'a') ? m->config /* a Sequential before 2.2.3 */
        : ft__json_member(g->json, m->config, "layers");
    if (ft__keras_list_layers(g, m))
        done = !strcmp(class_name, "Sequential") ? ft__keras_run_sequential(g, m)
                                                 : ft__keras_run_functional(g, m);
    ft__release(g->c, m->order);
    ft__release(g->c, m->table);
    return done;
}

/* ---- The description ---- */

/* The loss that the model was compiled with, of FINETUNE_LOSS_LIST; NULL: none that is ours. */
static const char *ft__keras_loss(const ft__json *j, int compiled)
{
    static const char *const losses[][2] = {
        {"sparsecategoricalcrossentropy", "cross_entropy"},
        {"categoricalcrossentropy", "cross_entropy"},
        {"binarycrossentropy", "binary_cross_entropy"}, {"meansquarederror", "mse"},
        {"mse", "mse"}, {"meanabsoluteerror", "l1"}, {"mae", "l1"}, {"huber", "huber"}};
    int loss = ft__json_member(j, compiled, "loss");
    const char *name = ft__json_string(j, loss);
    char plain[64];
    size_t i, n = 0;
    if (!name) name = ft__json_string(j, ft__json_member(j, loss, "class_name"));
    if (name && !strcmp(name, "function"))
        name = ft__json_string(j, ft__json_member(j, loss, "config"));
    for (; name && *name && n + 1 < sizeof plain; ++name)
        if (*name != '_') plain[n++] = *name >= 'A' && *name <= 'Z' ? (char)(*name + 32) : *name;
    plain[n] = 0;
    for (i = 0; i < sizeof losses / sizeof losses[0]; ++i)
        if (!strcmp(plain, losses[i][0])) return losses[i][1];
    return NULL;
}

/* The sizes of an input's node: the batch, the channels if they are `first`, and v's sizes from 1
   up to `end`. */
static void ft__keras_shape_text(ft__text *to, const ft__keras_value *v, bool first, int end)
{
    int d;
    ft__text_add(to, ",\"shape\":[\"N\"");
    if (first) ft__text_add(to, ",%d", v->size[v->rank - 1]);
    for (d = 1; d < end; ++d) {
        if (v->size[d] == FT_LENGTH) ft__text_add(to, ",\"L\"");
        else ft__text_add(to, ",%d", v->size[d]);
    }
    ft__text_add(to, "]}");
}

/* Adds the loss of the output: by what the model was compiled with, else by its activation. */
static void ft__keras_add_loss(ft__keras *g, ft__text *to, int output, const char *kind,
                               const char *loss)
{
    const ft__keras_value *v = ft__keras_at(g, output);
    bool classes, first = v->first && v->rank > 2;
    int last = ft__keras_last(g, output);
    if (!loss) loss = kind && !strcmp(kind, "sigmoid") ? "binary_cross_entropy"
                    : last > 1 || kind ? "cross_entropy" : "mse";
    classes = !strcmp(loss, "cross_entropy");
    if (classes && (v->rank > 3 || v->rank < 2 || first || last < 2)) return;
    ft__text_add(to, ",\n{\"op\":\"input\",\"name\":\"%s\",\"type\":\"%s\"",
                 classes ? "labels" : "target", classes ? "I32" : "F32");
    ft__keras_shape_text(to, v, first, v->rank - (classes || first));
    ft__text_add(to, ",\n{\"op\":\"%s\",\"name\":\"loss\",\"inputs\":[", loss);
    ft__json_add_text(to, ft__keras_text(g, v->name));
    ft__text_add(to, ",\"%s\"]}", classes ? "labels" : "target");
}

/* The inputs' nodes. */
static void ft__keras_add_inputs(ft__keras *g, ft__text *to)
{
    const ft__keras_input *inputs = (const ft__keras_input *)g->inputs.at;
    size_t i;
    for (i = 0; i < g->inputs.count; ++i) {
        const ft__keras_value *v = ft__keras_at(g, inputs[i].value);
        ft__text_add(to, "%s{\"op\":\"input\",\"name\":", i ? ",\n" : "");
        ft__json_add_text(to, ft__keras_text(g, v->name));
        if (inputs[i].ids) ft__text_add(to, ",\"type\":\"I32\"");
        ft__keras_shape_text(to, v, v->first, v->rank - v->first);
    }
}

/* What the network is as a description; the caller releases it. */
static char *ft__keras_described(ft__keras *g, int output, const char *loss)
{
    const ft__keras_value *v = ft__keras_at(g, output);
    int logits = v->before >= 0 ? v->before : output;
    ft__text to;
    memset(&to, 0, sizeof to);
    to.context = g->c;
    ft__text_add(&to, "{\"format\":1,\"architecture\":\"keras\",\"keras_initialisers\":true,"
                 "\n\"nodes\":[\n");
    ft__keras_add_inputs(g, &to);
    if (g->text.letters) ft__text_add_bytes(&to, g->text.letters, g->text.count);
    ft__keras_add_loss(g, &to, logits, v->kind, loss);
    ft__text_add(&to, "],\n\"output\":");
    ft__json_add_text(&to, ft__keras_text(g, ft__keras_at(g, logits)->name));
    if (strstr(to.letters ? to.letters : "", "\"name\":\"loss\""))
        ft__text_add(&to, ",\n\"loss\":\"loss\"");
    ft__text_add(&to, "}");
    if (ft__ok(g->c)) return to.letters;
    ft__release(g->c, to.letters);
    return NULL;
}

static void ft__keras_end_network(ft__keras *g)
{
    ft__context *c = g->c;
    ft__release(c, g->results.at);
    ft__release(c, g->weights.at);
    ft__release(c, g->inputs.at);
    ft__release(c, g->values.at);
    ft__release(c, g->refused.letters);
    ft__release(c, g->names.letters);
    ft__release(c, g->text.letters);
}

/* Maps a network's config, a text in JSON with its `class_name` and `config`. g->weights lists its
   weights; ft__keras_end_network frees that. `compiled`: how it was compiled, a text in JSON, or
   NULL: it is in the config. Returns the description, for the caller to release; NULL with an
   error. */
static char *ft__keras_network(ft__keras *g, ft__context *c, const char *path, const char *config,
                               size_t bytes, const char *compiled, bool old)
{
    size_t fault = 0;
    ft__json *j = ft__json_parse_at(c, config, bytes, &fault);
    ft__json *training = compiled ? ft__json_parse(c, compiled, strlen(compiled)) : NULL;
    const char *class_name = j ? ft__json_string(j, ft__json_member(j, 0, "class_name")) : NULL;
    ft__keras_model m;
    char *text = NULL;
    memset(&m, 0, sizeof m);
    if (j) m.config = ft__json_member(j, 0, "config");
    if (!j) ft__fail(c, FT_FORMAT, "%s: its config is not JSON at offset %zu", path, fault);
    else if (!ft__keras_is_model(class_name) || m.config < 0)
        ft__fail(c, FT_UNSUPPORTED, "%s: a model of the class %.80s; Functional or Sequential is"
                 " expected", path, class_name ? class_name : "?");
    g->json = j;
    g->old = old;
    g->run = ft__keras_run_model;
    if (ft__ok(c)) g->run(g, class_name, &m);
    if (ft__ok(c) && g->refused_count)
        ft__fail(c, FT_UNSUPPORTED, "%s: cannot be mapped, at %d places: %.860s%s", path,
                 g->refused_count, g->refused.letters,
                 g->refused_count > FT__KERAS_MOST_REFUSED ? "; ..." : "");
    if (ft__ok(c) && m.output_count > 0) {
        text = ft__keras_described(g, m.outputs[0], training ? ft__keras_loss(training, 0)
                                   : ft__keras_loss(j, ft__json_member(j, 0, "compile_config")));
        if (m.output_count > 1)
            ft__log(c, "%s: has %d outputs, of which the first is the output here", path,
                    m.output_count);
    }
    ft__json_free(c, training);
    ft__json_free(c, j);
    g->json = NULL;
    return text;
}
#endif
