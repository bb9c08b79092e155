#pragma once
#include "interface/requirements.h"
#include "interface/types.h"
#include "platform/families.h"
#include "platform/formatting.h"
#include "platform/context.h"
#include "basics/strings.h"
#include "basics/arrays.h"
#include "basics/json.h"
/* =============================================================================================
   [SECTION] formats/keras_nodes: Keras' networks: nodes of the description
   A network of Keras is a text in JSON, its config; formats/keras_networks turns that into the
   words of formats/graphs. Here are the values between its layers, and what writes their nodes.
   Keras keeps the channels last. Our layers of pictures and of conv1d want them first, so that each
   value knows how it lies, and is permuted where the next layer wants it the other way.
   ============================================================================================= */
#if FT__HAS_KERAS
/* A tensor of the network. Its sizes are in Keras' order: the batch, then what a layer's
   documentation says, the channels last. */
typedef struct ft__keras_value {
    size_t name;            /* of its node: a place in ft__keras.names */
    int rank;               /* -1: of a layer that was refused */
    int size[FINETUNE_MAX_RANK]; /* FT_BATCH first; FT_LENGTH: steps */
    bool first;             /* its node has the channels first: [N, C, ...] */
    int turned;             /* the same value the other way; -1: not made yet */
    int before;             /* of a softmax or sigmoid: its input; else -1 */
    const char *kind;       /* of that: "softmax" or "sigmoid" */
    int input;              /* its number among the inputs; -1: no input */
} ft__keras_value;

typedef struct ft__keras_input { int value; bool ids; } ft__keras_input;

/* A weight of the network, as the description has it. */
typedef struct ft__keras_weight {
    size_t name;
    int value;
    bool constant;          /* no file has it */
    ft_shape shape;
} ft__keras_weight;

/* Of a call of a layer; next: another one of the same layer. */
typedef struct ft__keras_result { int call, tensor, value, next; } ft__keras_result;

enum { FT__KERAS_MOST_INPUTS = 16, FT__KERAS_MOST_FILLED = 16384 };

typedef struct ft__keras_layer {
    const char *name;
    int at;                 /* in the JSON */
    int first;              /* of its results; -1: none */
    int base;               /* the number that references have for its first call */
} ft__keras_layer;

typedef struct ft__keras_model {
    int layers, config, depth; /* in the JSON: the list of layers, and the config that has it */
    ft__keras_layer *table; /* [count] */
    int *order;             /* [count]: by name */
    int count;
    const int *inputs;      /* the values that it is called with; NULL: it is the outermost */
    int input_count;
    int outputs[FT__KERAS_MOST_INPUTS], output_count;
} ft__keras_model;

typedef struct ft__keras {
    ft__context *c;
    ft__json *json;
    ft__text text, names, refused;
    int refused_count;
    ft__growing values, inputs, weights, results;
    int *by_name;           /* [weights.count]: their order */
    int repeats, layers, calls; /* counts */
    int dropped;            /* layers with regularisers or constraints */
    /* The layer that is being mapped: */
    const char *class_name, *layer;
    char prefix[256];       /* "MODEL." of a model inside a model */
    int config, call_options; /* in the JSON; call_options: the call's own arguments, or -1 */
    int repeat;             /* 0, or the number of a call that is not the layer's first */
    bool frozen, old;       /* old: of Keras 2 */
    /* Maps a model, which may be inside another one. */
    bool (*run)(struct ft__keras *g, const char *class_name, ft__keras_model *m);
} ft__keras;

static ft__keras_value *ft__keras_at(const ft__keras *g, int value)
{
    return (ft__keras_value *)g->values.at + value;
}

static const char *ft__keras_text(const ft__keras *g, size_t name)
{
    return g->names.letters ? g->names.letters + name : "";
}

/* ---- What cannot be mapped: all of it is collected ---- */

enum { FT__KERAS_MOST_REFUSED = 12 };

static FT__PRINTF(2, 3) int ft__keras_refuse(ft__keras *g, const char *format, ...)
{
    char what[256];
    va_list arguments;
    va_start(arguments, format);
    ft__vprint(what, sizeof what, format, arguments);
    va_end(arguments);
    g->refused_count += 1;
    if (g->refused_count <= FT__KERAS_MOST_REFUSED)
        ft__text_add(&g->refused, "%s%s%.80s (%.60s): %s", g->refused_count > 1 ? "; " : "",
                     g->prefix, g->layer ? g->layer : "the network",
                     g->class_name ? g->class_name : "?", what);
    return -1;
}

/* ---- Fields of the layer's config ---- */

static int ft__keras_field(const ft__keras *g, const char *name)
{
    int value = ft__json_member(g->json, g->config, name);
    return ft__json_at(g->json, value, '0') ? -1 : value; /* null */
}

static bool ft__keras_flag(const ft__keras *g, const char *name, bool otherwise)
{
    int value = ft__keras_field(g, name);
    return value < 0 ? otherwise : ft__json_true(g->json, value);
}

static double ft__keras_number(ft__keras *g, const char *name, double otherwise)
{
    int value = ft__keras_field(g, name);
    double number = otherwise;
    if (value >= 0 && !ft__json_double(g->json, value, &number))
        ft__keras_refuse(g, "%s must be a number", name);
    return number;
}

static bool ft__keras_whole(const ft__keras *g, int value, int least, int *to)
{
    int64_t number = 0;
    double other = 0;
    if (!ft__json_int(g->json, value, &number)) {
        if (!ft__json_double(g->json, value, &other) || !(other >= -1e9 && other <= 1e9))
            return false;
        number = (int64_t)other;
        if ((double)number < other || (double)number > other) return false;
    }
    if (number < least || number > 1 << 28) return false;
    *to = (int)number;
    return true;
}

/* A whole number of at least `least`. */
static int ft__keras_int(ft__keras *g, const char *name, int least, int otherwise)
{
    int value = ft__keras_field(g, name), number = otherwise;
    if (value < 0 && otherwise < least) ft__keras_refuse(g, "has no %s", name);
    if (value >= 0 && !ft__keras_whole(g, value, least, &number)) {
        ft__keras_refuse(g, "%s must be a whole number, at least %d", name, least);
        number = least;
    }
    return number;
}

/* One number for each of `count` dimensions: a list of them, or one for all. */
static bool ft__keras_ints(ft__keras *g, const char *name, int count, int least, int otherwise,
                           int *to)
{
    int value = ft__keras_field(g, name), i, at;
    bool list = ft__json_at(g->json, value, 'a') != NULL, right = true;
    for (i = 0; i < count; ++i) to[i] = otherwise;
    if (value < 0 && otherwise >= least) return true;
    if (list && ft__json_count(g->json, value) != count) right = false;
    for (i = 0, at = list ? value + 1 : value; right && i < count; ++i) {
        right = ft__keras_whole(g, at, least, &to[i]);
        if (list && right) at = g->json->values[at].next;
    }
    if (!right)
        ft__keras_refuse(g, "%s must be %d whole numbers, at least %d", name, count, least);
    return right;
}

static const char *ft__keras_word(const ft__keras *g, const char *name, const char *otherwise)
{
    const char *word = ft__json_string(g->json, ft__keras_field(g, name));
    return word ? word : otherwise;
}

/* ---- Nodes ---- */

/* Adds a name: of the layer, then `suffix`, then the number of a repeated call. */
static size_t ft__keras_name(ft__keras *g, const char *suffix, bool of_call)
{
    size_t at = g->names.count;
    char number[16] = "";
    if (of_call && g->repeat) snprintf(number, sizeof number, "~%d", g->repeat);
    ft__text_add_bytes(&g->names, g->prefix, strlen(g->prefix));
    ft__text_add_bytes(&g->names, g->layer, strlen(g->layer));
    ft__text_add_bytes(&g->names, suffix, strlen(suffix));
    ft__text_add_bytes(&g->names, number, strlen(number) + 1);
    return at;
}

static int ft__keras_value_add(ft__keras *g, size_t name)
{
    ft__keras_value *v = (ft__keras_value *)ft__growing_add(g->c, &g->values);
    if (!v) return -1;
    memset(v, 0, sizeof *v);
    v->name = name;
    v->turned = v->before = v->input = -1;
    return (int)g->values.count - 1;
}

/* Begins a node, whose fields the caller adds to g->text before ft__keras_end. Its value lies as
   the first input does. Returns it; -1 with an error. */
static int ft__keras_begin(ft__keras *g, const char *op, const char *suffix, const int *inputs,
                           int count)
{
    int made = ft__keras_value_add(g, ft__keras_name(g, suffix, true)), i;
    if (!ft__ok(g->c)) return -1;
    ft__text_add(&g->text, ",\n{\"op\":\"%s\",\"name\":", op);
    ft__json_add_text(&g->text, ft__keras_text(g, ft__keras_at(g, made)->name));
    for (i = 0; i < count; ++i) {
        ft__text_add(&g->text, i ? "," : ",\"inputs\":[");
        ft__json_add_text(&g->text, ft__keras_text(g, ft__keras_at(g, inputs[i])->name));
    }
    ft__text_add(&g->text, "]");
    if (count > 0) {
        const ft__keras_value *x = ft__keras_at(g, inputs[0]);
        ft__keras_value *y = ft__keras_at(g, made);
        y->rank = x->rank;
        y->first = x->first;
        memcpy(y->size, x->size, sizeof y->size);
    }
    return made;
}

static void ft__keras_end(ft__keras *g) { ft__text_add(&g->text, "}"); }

/* A node without fields. */
static int ft__keras_node(ft__keras *g, const char *op, const char *suffix, const int *inputs,
                          int count)
{
    int made = ft__keras_begin(g, op, suffix, inputs, count);
    ft__keras_end(g);
    return made;
}

static void ft__keras_float_text(ft__keras *g, const char *field, double number)
{
    ft__text_add(&g->text, ",\"%s\":", field);
    ft__json_add_float(&g->text, (float)number);
}

/* Begins a leaf of these sizes, unless an earlier call of the layer made it (*made: false). */
static int ft__keras_leaf(ft__keras *g, const char *op, const char *suffix, int rank,
                          const int *size, bool *made)
{
    size_t name = ft__keras_name(g, suffix, false), i;
    ft__keras_weight *w;
    int value, d;
    for (i = 0; g->repeat && ft__ok(g->c) && i < g->weights.count; ++i) {
        w = (ft__keras_weight *)g->weights.at + i;
        *made = false;
        if (!strcmp(ft__keras_text(g, w->name), ft__keras_text(g, name))) return w->value;
    }
    *made = true;
    value = ft__keras_value_add(g, name);
    w = value < 0 ? NULL : (ft__keras_weight *)ft__growing_add(g->c, &g->weights);
    if (!w || !ft__ok(g->c)) return -1;
    memset(w, 0, sizeof *w);
    w->name = name;
    w->value = value;
    w->constant = !strcmp(op, "constant");
    w->shape.rank = rank;
    for (d = 0; d < rank; ++d) w->shape.size[d] = size[d];
    ft__text_add(&g->text, ",\n{\"op\":\"%s\",\"name\":", op);
    ft__json_add_text(&g->text, ft__keras_text(g, name));
    ft__json_add_ints(&g->text, "shape", size, rank);
    return value;
}

/* "LAYER<suffix>": a trained weight. fan_in and fan_out: of its layer, for a new head. */
static int ft__keras_weight_of(ft__keras *g, const char *suffix, int rank, const int *size,
                               int fan_in, int fan_out)
{
    bool made;
    int value = ft__keras_leaf(g, "parameter", suffix, rank, size, &made);
    if (!made) return value;
    if (g->frozen) ft__text_add(&g->text, ",\"frozen\":true");
    if (fan_in > 0) ft__text_add(&g->text, ",\"fan\":[%d,%d]", fan_in, fan_out);
    ft__keras_end(g);
    return value;
}

static int ft__keras_buffer(ft__keras *g, const char *suffix, int rank, const int *size)
{
    bool made;
    int value = ft__keras_leaf(g, "buffer", suffix, rank, size, &made);
    if (made) ft__keras_end(g);
    return value;
}

/* A constant that is `number` everywhere, at size[0] places: its other sizes are 1. */
static int ft__keras_same(ft__keras *g, const char *suffix, int rank, const int *size, int number)
{
    bool made;
    int value = ft__keras_leaf(g, "constant", suffix, rank, size, &made), i;
    for (i = 0; made && ft__ok(g->c) && i < size[0]; ++i)
        ft__text_add(&g->text, "%s%d", i ? "," : ",\"values\":[", number);
    if (made) ft__text_add(&g->text, "]}");
    return value;
}

/* A vector of one number, for a weight that the layer does not have. */
static int ft__keras_filled(ft__keras *g, const char *suffix, int count, int number)
{
    if (count > FT__KERAS_MOST_FILLED) /* its text must not be much longer than the config */
        return ft__keras_refuse(g, "more than %d channels", (int)FT__KERAS_MOST_FILLED);
    return ft__keras_same(g, suffix, 1, &count, number);
}

/* The number of channels. */
static int ft__keras_last(const ft__keras *g, int value)
{
    const ft__keras_value *v = ft__keras_at(g, value);
    return v->rank > 0 ? v->size[v->rank - 1] : 0;
}

/* ---- Where the channels lie ---- */

/* The same value with the channels first, or last; `value` itself if memory ran out, so that a
   caller can read its sizes. Up to two dimensions there is no difference. */
static int ft__keras_turn(ft__keras *g, int value, bool first)
{
    ft__keras_value *v = value < 0 ? NULL : ft__keras_at(g, value);
    int axes[FINETUNE_MAX_RANK], rank, d, made;
    char suffix[40];
    if (!v || v->rank < 3 || v->first == first) return value;
    if (v->turned >= 0) return v->turned;
    rank = v->rank;
    for (d = 1; d < rank; ++d) axes[d] = first ? (d == 1 ? rank - 1 : d - 1)
                                               : (d == rank - 1 ? 1 : d + 1);
    axes[0] = 0;
    snprintf(suffix, sizeof suffix, ".%s_%d", first ? "first" : "last", (int)g->values.count);
    made = ft__keras_begin(g, "permute", suffix, &value, 1);
    ft__json_add_ints(&g->text, "axes", axes, rank);
    ft__keras_end(g);
    if (made < 0) return value;
    ft__keras_at(g, made)->first = first;
    ft__keras_at(g, made)->turned = value;
    ft__keras_at(g, value)->turned = made;
    return made;
}

/* A reshape to [N, size...], which lies as it is written. */
static int ft__keras_reshape(ft__keras *g, const char *suffix, int value, const int *size, int rank)
{
    int made = ft__keras_begin(g, "reshape", suffix, &value, 1), d;
    if (made < 0) return made;
    ft__text_add(&g->text, ",\"rank\":%d", rank);
    ft__json_add_ints(&g->text, "size", size, rank);
    ft__keras_end(g);
    ft__keras_at(g, made)->rank = rank + 1;
    ft__keras_at(g, made)->first = false;
    for (d = 0; d < rank; ++d) ft__keras_at(g, made)->size[d + 1] = size[d];
    return made;
}

/* ---- Activations ---- */

typedef struct ft__keras_activation {
    const char *name;       /* Keras' */
    const char *op;         /* ours; NULL: none, the value itself */
    const char *fields;
} ft__keras_activation;

static const ft__keras_activation ft__keras_activations[] = {
    {"linear", NULL, ""}, {"hard_sigmoid", "hardsigmoid", ""}, {"relu", "relu", ""},
    {"relu6", "relu6", ""}, {"sigmoid", "sigmoid", ""},
    {"tanh", "tanh", ""}, {"softmax", "softmax", ""}, {"log_softmax", "log_softmax", ""},
    {"elu", "elu", ""}, {"selu", "selu", ""}, {"celu", "celu", ""}, {"softplus", "softplus", ""},
    {"softsign", "softsign", ""}, {"silu", "silu", ""}, {"swish", "silu", ""}, {"gelu", "gelu", ""},
    {"mish", "mish", ""}, {"exponential", "exp", ""}, {"hard_silu", "hardswish", ""},
    {"hard_swish", "hardswish", ""}, {"leaky_relu", "leaky_relu", ",\"slope\":0.2"},
    {"log_sigmoid", "logsigmoid", ""}, {"tanh_shrink", "tanhshrink", ""},
    {"soft_shrink", "softshrink", ""}, {"hard_tanh", "hardtanh", ""}};

/* NULL: none of that name. */
static const ft__keras_activation *ft__keras_activation_of(const char *name)
{
    size_t i;
    for (i = 0; i < sizeof ft__keras_activations / sizeof ft__keras_activations[0]; ++i)
        if (!strcmp(ft__keras_activations[i].name, name)) return &ft__keras_activations[i];
    return NULL;
}

/* Adds an activation of Keras' by its name; `suffix` is of its node. */
static int ft__keras_activate(ft__keras *g, const char *name, const char *suffix, int x)
{
    const ft__keras_activation *a = ft__keras_activation_of(name);
    bool channels;
    int y;
    if (!strcmp(name, "hard_sigmoid") && g->old) { /* min(max(0.2 x + 0.5, 0), 1) */
        y = ft__keras_begin(g, "affine", ".scaled", &x, 1);
        ft__text_add(&g->text, ",\"scale\":0.2,\"shift\":0.5}");
        y = ft__keras_begin(g, "clamp", suffix, &y, 1);
        ft__text_add(&g->text, ",\"min\":0,\"max\":1}");
        return y;
    }
    if (!a) return ft__keras_refuse(g, "activation %.60s", name);
    if (!a->op) return x;
    channels = ft__keras_at(g, x)->first && strstr(name, "softmax");
    y = ft__keras_begin(g, a->op, suffix, &x, 1);
    ft__text_add(&g->text, "%s%s}", a->fields, channels ? ",\"axis\":1" : "");
    if (y >= 0 && (!strcmp(name, "softmax") || !strcmp(name, "sigmoid"))) {
        ft__keras_at(g, y)->before = x;
        ft__keras_at(g, y)->kind = a->op;
    }
    return y;
}

/* The name in a field: a text, or an object of Keras'. */
static const char *ft__keras_activation_name(ft__keras *g, const char *field)
{
    int value = ft__keras_field(g, field), inner;
    const char *name = ft__json_string(g->json, value);
    if (value < 0) return "linear";
    if (name) return name;
    inner = ft__json_member(g->json, value, "config");
    name = ft__json_string(g->json, inner); /* a function */
    if (!name) name = ft__json_string(g->json, ft__json_member(g->json, value, "class_name"));
    if (!name || ft__json_count(g->json, inner) > 0) {
        ft__keras_refuse(g, "%s is an object of the class %.60s", field, name ? name : "?");
        return "linear";
    }
    return name;
}

/* The activation of a layer's field, after its own node `x`. */
static int ft__keras_activated(ft__keras *g, int x)
{
    const char *name = ft__keras_activation_name(g, "activation");
    char suffix[80];
    if (x < 0) return x;
    snprintf(suffix, sizeof suffix, ".%.60s", name);
    return ft__keras_activate(g, name, suffix, x);
}
#endif
