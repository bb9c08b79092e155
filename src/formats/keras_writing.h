#pragma once
#include "interface/requirements.h"
#include "interface/types.h"
#include "platform/families.h"
#include "platform/context.h"
#include "basics/strings.h"
#include "basics/arrays.h"
#include "basics/json.h"
#include "formats/safetensors.h"
#include "formats/keras_nodes.h"
#include "formats/keras_sequences.h"
#include "formats/keras_networks.h"
#include "formats/keras_variables.h"
#include "formats/keras_files.h"
/* =============================================================================================
   [SECTION] formats/keras_writing: Keras' files: writing them
   A network that was opened from a file of Keras' keeps its config as metadata. The config says
   which variables Keras expects, in which order and under which names; formats/keras_variables
   says how each lies in our weight: the view through which it is read is the one through which it
   is written. What ft_save writes besides, Keras has no place for: an attribute of the root has it,
   which Keras passes over.
   ============================================================================================= */
#if FT__HAS_KERAS && FT__HAS_SAVING
typedef enum ft__keras_form {
    FT__KERAS_WEIGHTS,      /* .weights.h5: by class and number: layers/conv2d_1/vars/0 */
    FT__KERAS_WHOLE,        /* .h5: the config, and variables by layer: model_weights/stem/... */
    FT__KERAS_ARCHIVE       /* .keras: a zip of the config and .weights.h5 */
} ft__keras_form;

/* A variable of Keras', and where it goes. */
typedef struct ft__keras_place {
    ft__keras_variable v;   /* v.item: its shape as Keras has it; v.layer: our layer's name */
    size_t place;           /* "layers/conv2d/vars/0" */
    size_t name;            /* "stem/kernel" */
    int outer;              /* the number of the outermost model's layer that it is in */
    bool trained;           /* by Keras, as the config has it */
} ft__keras_place;

typedef struct ft__keras_group { size_t place, name; int depth; } ft__keras_group; /* of a layer */

typedef struct ft__keras_writing {
    ft__context *c;
    const char *path;       /* of the file, for messages */
    ft__json *json;         /* the config */
    ft__keras g;            /* what it describes */
    const ft__write_tensor *tensors;
    int count;
    char *taken;            /* [count]: whether the tensor was written */
    void *opened;           /* the new HDF5 file */
    ft__text texts;
    ft__growing entries, groups;
    bool old;               /* of Keras 2 */
    /* The layer that is being listed: */
    char place[1024];       /* "layers/functional/layers/conv2d" */
    char prefix[256];       /* "body." */
    char inner[1024];       /* its name in a .h5: "body/conv" */
    const char *layer;      /* "conv" */
    int config, outer, depth;
    bool frozen;
} ft__keras_writing;

static size_t ft__keras_keep_text(ft__keras_writing *w, const char *text)
{
    size_t at = w->texts.count;
    ft__text_add_bytes(&w->texts, text, strlen(text) + 1);
    return at;
}

/* ---- Listing: the variables of one layer ---- */

/* The shape in a file of a variable whose weight here has `shape`. v->item.size is set; the rank
   was. */
static void ft__keras_shape_in_file(const ft__keras_writing *w, ft__keras_variable *v,
                                    const ft_shape *shape, bool two)
{
    ft_hdf5_item *to = &v->item;
    const int *from = shape->size;
    bool bias = !strcmp(v->role, "bias");
    int64_t all = (int64_t)ft__shape_count(shape), heads = 1, last;
    int heads_field = ft__json_member(w->json, w->config, "num_heads"), d;
    int multiplier_field = ft__json_member(w->json, w->config, "depth_multiplier");
    int shared = ft__json_member(w->json, w->config, "shared_axes");
    if (v->kind == FT__KERAS_HEADS && (!ft__json_int(w->json, heads_field, &heads) || heads < 1))
        heads = 1;
    to->rank = shape->rank;
    for (d = 0; d < shape->rank; ++d) to->size[d] = from[d];
    if (v->kind == FT__KERAS_HEADS && !strcmp(v->part, ".output")) {
        to->rank = bias ? 1 : 3;
        to->size[0] = bias ? all : heads;
        to->size[1] = bias ? 1 : from[1] / heads;
        to->size[2] = from[0];
    } else if (v->kind == FT__KERAS_HEADS) {
        to->rank = bias ? 2 : 3;
        to->size[0] = bias ? heads : from[1];
        to->size[1] = bias ? all / heads : heads;
        to->size[2] = from[0] / heads;
    } else if (v->kind == FT__KERAS_CELL && bias && two) {
        to->rank = 2;
        to->size[0] = 2;
        to->size[1] = all;
    } else if (!strcmp(v->role, "alpha")) {
        to->rank = ft__json_count(w->json, shared) + 1;
        if (to->rank > FINETUNE_MAX_RANK) to->rank = FINETUNE_MAX_RANK;
        for (d = 0; d < to->rank; ++d) to->size[d] = d + 1 < to->rank ? 1 : all;
    } else if (shape->rank > 1 && strstr(v->role, "kernel")) {
        for (d = 2; d < shape->rank; ++d) to->size[d - 2] = from[d];
        last = from[0];
        to->size[d - 2] = from[1];
        if (!strcmp(v->role, "depthwise_kernel")) {
            int64_t multiplier = 1;
            if (!ft__json_int(w->json, multiplier_field, &multiplier) || multiplier < 1)
                multiplier = 1;
            to->size[d - 2] = last / multiplier;
            last = multiplier;
        }
        to->size[d - 1] = last;
    } else if (strcmp(v->role, "embeddings") != 0) {
        to->rank = 1;
        to->size[0] = all;
    }
}

/* The name of the weight that a variable is here: our layer's, and what ft__keras_view says. */
static void ft__keras_weight_name(const ft__keras_writing *w, const ft__keras_variable *v,
                                  bool second, ft_tensor_info *t, char *name, size_t size)
{
    char suffix[64];
    ft__keras_view(v, false, second, t, suffix);
    snprintf(name, size, "%s%s", w->texts.letters + v->layer, suffix);
}

/* Lists a variable, if the layer has it: its number is the next of its group, *number. `tail`: of
   its group's path behind the layer's; `middle`: of its name in a .h5. */
static void ft__keras_list_one(ft__keras_writing *w, ft__keras_variable v, const char *role,
                               const char *tail, const char *middle, int *number)
{
    char text[2600], name[700];
    const ft_shape *shape, *second = NULL;
    ft__keras_place *to;
    ft_tensor_info t;
    int d;
    if (!*role || !ft__ok(w->c)) return;
    snprintf(v.role, sizeof v.role, "%s", role);
    v.item.type = FT_F32;
    v.item.rank = v.kind == FT__KERAS_CELL ? 2 : 3; /* as far as the suffix depends on it */
    for (d = 0; d < 3; ++d) v.item.size[d] = 1;
    snprintf(text, sizeof text, "%s%s", w->prefix, w->layer);
    v.layer = ft__keras_keep_text(w, text);
    if (!ft__ok(w->c)) return;
    ft__keras_weight_name(w, &v, false, &t, name, sizeof name);
    if (!strcmp(role, "count")) snprintf(name, sizeof name, "%.600s.mean", text);
    shape = ft__keras_wants(&w->g, name);
    if (!shape) return;
    if (v.kind == FT__KERAS_CELL && !strcmp(role, "bias")) {
        ft__keras_weight_name(w, &v, true, &t, name, sizeof name);
        second = ft__keras_wants(&w->g, name);
    }
    ft__keras_shape_in_file(w, &v, shape, second != NULL);
    if (!strcmp(role, "count")) { /* of Normalization: how many samples it saw */
        v.item.type = FT_I64;
        v.item.rank = 0;
    }
    to = (ft__keras_place *)ft__growing_add(w->c, &w->entries);
    if (!to) return;
    to->v = v;
    to->outer = w->outer;
    to->trained = !w->frozen && strcmp(role, "count") != 0 && strcmp(role, "mean") != 0
        && strcmp(role, "variance") != 0 && strncmp(role, "moving_", 7) != 0;
    snprintf(text, sizeof text, "%s%s/vars/%d", w->place, tail, (*number)++);
    to->place = ft__keras_keep_text(w, text);
    if (v.kind == FT__KERAS_DEPTH && !w->old && strcmp(role, "bias") != 0) role = "kernel";
    snprintf(text, sizeof text, "%s%s/%s%s", w->inner, middle, role, w->old ? ":0" : "");
    to->name = ft__keras_keep_text(w, text);
}

/* Of a layer of this class, whose variables are numbered. */
static void ft__keras_list_plain(ft__keras_writing *w, const char *class_name, const char *tail)
{
    char snake[80];
    ft__keras_variable v;
    int number = 0, i;
    memset(&v, 0, sizeof v);
    ft__keras_snake(class_name, snake, sizeof snake);
    if (!strncmp(snake, "separable_conv", 14)) v.kind = FT__KERAS_SEPARABLE;
    if (!strncmp(snake, "depthwise_conv", 14)) v.kind = FT__KERAS_DEPTH;
    for (i = 0; i < 4; ++i)
        ft__keras_list_one(w, v, ft__keras_numbered(snake, strlen(snake), i), tail, "", &number);
}

/* Of the cell of a recurrent layer; `direction`: of Bidirectional "forward" or "backward", or
   NULL. */
static void ft__keras_list_cell(ft__keras_writing *w, const char *class_name,
                                const char *direction)
{
    static const char *const roles[] = {"kernel", "recurrent_kernel", "bias"};
    const ft__keras_cell *cell = ft__keras_cell_of(class_name);
    ft__keras_variable v;
    char snake[80], tail[80] = "/cell", middle[200];
    int number = 0, i;
    if (!cell) return;
    memset(&v, 0, sizeof v);
    v.kind = FT__KERAS_CELL;
    v.gates = cell->gates;
    ft__keras_snake(class_name, snake, sizeof snake);
    snprintf(middle, sizeof middle, "/%s_cell", snake);
    if (direction) {
        snprintf(tail, sizeof tail, "/%s_layer/cell", direction);
        snprintf(middle, sizeof middle, "/%s_%s/%s_cell", direction, snake, snake);
        if (*direction == 'b') snprintf(v.part, sizeof v.part, "_reverse");
    }
    for (i = 0; i < 3; ++i) ft__keras_list_one(w, v, roles[i], tail, middle, &number);
}

/* Of MultiHeadAttention. */
static void ft__keras_list_heads(ft__keras_writing *w)
{
    static const char *const parts[][3] = {
        {".query", "/query_dense", "/query"}, {".key", "/key_dense", "/key"},
        {".value", "/value_dense", "/value"}, {".output", "/output_dense", "/attention_output"}};
    ft__keras_variable v;
    int i, number;
    memset(&v, 0, sizeof v);
    v.kind = FT__KERAS_HEADS;
    for (i = 0; i < 4; ++i) {
        number = 0;
        snprintf(v.part, sizeof v.part, "%s", parts[i][0]);
        ft__keras_list_one(w, v, "kernel", parts[i][1], parts[i][2], &number);
        ft__keras_list_one(w, v, "bias", parts[i][1], parts[i][2], &number);
    }
}

static void ft__keras_list_layer(ft__keras_writing *w, const char *class_name)
{
    const ft__json *j = w->json;
    int inner = ft__json_member(j, w->config, "layer");
    const char *inner_class = ft__keras_class_of(j, inner);
    if (!strcmp(class_name, "MultiHeadAttention")) ft__keras_list_heads(w);
    else if (ft__keras_cell_of(class_name)) ft__keras_list_cell(w, class_name, NULL);
    else if (!strcmp(class_name, "Bidirectional")) {
        ft__keras_list_cell(w, inner_class, "forward");
        ft__keras_list_cell(w, inner_class, "backward");
    } else if (!strcmp(class_name, "TimeDistributed"))
        ft__keras_list_plain(w, inner_class, "/layer");
    else ft__keras_list_plain(w, class_name, "");
}

/* ---- Listing: the layers of a model ---- */

/* Enters layer `at` of a list: its names, and its group. `number`: how many of its class come
   before it. */
static void ft__keras_enter(ft__keras_writing *w, int at, int number)
{
    const ft__json *j = w->json;
    const char *class_name = ft__keras_class_of(j, at);
    ft__keras_group *group = (ft__keras_group *)ft__growing_add(w->c, &w->groups);
    size_t place = strlen(w->place), inner = strlen(w->inner);
    char snake[80], text[1100], behind[16] = "";
    ft__keras_snake(ft__keras_same_class(class_name, "Functional") ? "Functional" : class_name,
                    snake, sizeof snake);
    if (number) snprintf(behind, sizeof behind, "_%d", number);
    w->config = ft__json_member(j, at, "config");
    w->layer = ft__keras_layer_name(j, at);
    snprintf(w->place + place, sizeof w->place - place, "layers/%s%s", snake, behind);
    snprintf(w->inner + inner, sizeof w->inner - inner, "%s%s", inner ? "/" : "", w->layer);
    if (strlen(w->place) + 90 > sizeof w->place || strlen(w->inner) + 300 > sizeof w->inner)
        ft__fail(w->c, FT_UNSUPPORTED, "%s: the names of the layers around %.80s are too long",
                 w->path, w->layer);
    if (!group) return;
    snprintf(text, sizeof text, "%s/vars", w->place);
    group->place = ft__keras_keep_text(w, text);
    group->name = ft__keras_keep_text(w, w->layer);
    group->depth = w->depth;
}

/* Lists the layers of a model, given its config, and their variables. */
static void ft__keras_list_model(ft__keras_writing *w, int config)
{
    const ft__json *j = w->json;
    int layers = ft__keras_layers_of(j, config), at, before, number;
    size_t place = strlen(w->place), prefix = strlen(w->prefix), inner = strlen(w->inner);
    bool frozen = w->frozen;
    if (w->depth > FT__KERAS_NESTED || layers < 0) return;
    for (at = layers + 1; ft__ok(w->c) && at < j->values[layers].next; at = j->values[at].next) {
        const char *class_name = ft__keras_class_of(j, at);
        for (before = layers + 1, number = 0; before < at; before = j->values[before].next)
            number += ft__keras_same_class(ft__keras_class_of(j, before), class_name);
        ft__keras_enter(w, at, number);
        w->frozen = frozen
            || ft__json_at(j, ft__json_member(j, w->config, "trainable"), 'f') != NULL;
        if (ft__keras_is_model(class_name)) {
            snprintf(w->prefix + prefix, sizeof w->prefix - prefix, "%s.", w->layer);
            snprintf(w->place + strlen(w->place), sizeof w->place - strlen(w->place), "/");
            w->depth += 1;
            ft__keras_list_model(w, w->config);
            w->depth -= 1;
        } else ft__keras_list_layer(w, class_name);
        w->place[place] = w->prefix[prefix] = w->inner[inner] = 0;
        w->frozen = frozen;
        if (w->depth == 0) w->outer += 1;
    }
}

/* ---- A new head: the config's units are as many as the weight has ---- */

/* Sets the units of Dense layers that have other weights than the config says; `digits` has room
   for the new numbers. Returns how many there are. */
static int ft__keras_resize(ft__keras_writing *w, int config, ft__keras_wanted wanted,
                            const void *context, char (*digits)[12], int most)
{
    ft__json *j = w->json;
    int layers = ft__keras_layers_of(j, config), at, changed = 0;
    size_t prefix = strlen(w->prefix);
    char name[700];
    if (w->depth > FT__KERAS_NESTED || layers < 0) return 0;
    for (at = layers + 1; at < j->values[layers].next && changed < most; at = j->values[at].next) {
        const char *class_name = ft__keras_class_of(j, at), *layer = ft__keras_layer_name(j, at);
        int inner = ft__json_member(j, at, "config"), units;
        const ft_shape *shape;
        int64_t number = 0;
        if (ft__keras_is_model(class_name)) {
            snprintf(w->prefix + prefix, sizeof w->prefix - prefix, "%.200s.", layer);
            w->depth += 1;
            changed += ft__keras_resize(w, inner, wanted, context, digits + changed,
                                        most - changed);
            w->depth -= 1;
            w->prefix[prefix] = 0;
        }
        if (strcmp(class_name, "Dense") != 0) continue;
        units = ft__json_member(j, inner, "units");
        snprintf(name, sizeof name, "%s%.400s.weight", w->prefix, layer);
        shape = wanted(context, name);
        if (!shape || shape->rank != 2 || !ft__json_int(j, units, &number)
            || number == shape->size[0]) continue;
        snprintf(digits[changed], sizeof digits[changed], "%d", shape->size[0]);
        j->values[units].digits = digits[changed++];
    }
    return changed;
}

/* The config of a network whose weights have the shapes that `wanted` says; the caller releases it.
   NULL with an error. */
static char *ft__keras_config_for(ft__context *c, const char *path, const char *config,
                                  ft__keras_wanted wanted, const void *context)
{
    char digits[16][12], *copy;
    ft__keras_writing w;
    ft__text text;
    memset(&w, 0, sizeof w);
    memset(&text, 0, sizeof text);
    text.context = c;
    w.json = ft__json_parse(c, config, strlen(config));
    if (!w.json) {
        ft__fail(c, FT_FORMAT, "%s: the config of Keras that the network came with is no JSON",
                 path);
        return NULL;
    }
    if (ft__keras_resize(&w, ft__json_member(w.json, 0, "config"), wanted, context, digits, 16)) {
        ft__json_add_value(&text, w.json, 0);
        copy = text.letters;
    } else copy = ft__copy_text(c, config);
    ft__json_free(c, w.json);
    return copy;
}
#endif
