#pragma once
#include "interface/types.h"
#include "platform/families.h"
#include "platform/context.h"
#include "basics/strings.h"
#include "basics/arrays.h"
#include "formats/readers.h"
/* =============================================================================================
   [SECTION] formats/keras_variables: Keras' files: variables and their names
   Keras 3 numbers a layer's variables, "layers/conv2d/vars/0", and has the layer's name in an
   attribute; Keras 2, and .h5 of whole models, names them, "conv2d/conv2d/kernel:0". Here each
   becomes a tensor under our name and in our layout, mostly as a view: a kernel (height, width, in,
   out) is [out, in, height, width] with other strides. Where a name alone leaves it open what a
   variable is, the network's weight of the name and shape says it.
   ============================================================================================= */
#if FT__HAS_KERAS
typedef enum ft__keras_kind { /* what a layer is, as far as its path or its variables tell */
    FT__KERAS_ANY, FT__KERAS_DEPTH, FT__KERAS_SEPARABLE, FT__KERAS_CELL, FT__KERAS_HEADS
} ft__keras_kind;

typedef struct ft__keras_variable {
    size_t layer, outer;    /* names in ft__keras_file.names: of the layer, and of its group */
    size_t group;           /* the path of its group: its siblings have the same */
    char role[32];          /* "kernel", ... */
    char part[16];          /* of MultiHeadAttention: ".query"; of a cell: "_reverse" or "" */
    ft__keras_kind kind;
    bool open;              /* gamma may be beta, kernel a depthwise one */
    ft_hdf5_item item;
    int number;             /* of the item */
    uint64_t offset;        /* in the file's bytes */
    int gates;              /* of a cell: 4, 3 or 1 */
} ft__keras_variable;

typedef struct ft__keras_file {
    ft__growing variables;
    ft__text names;
    size_t *labels;         /* [tensors]: their names' places in letters */
    char *config, *training, *version;
    bool described;         /* by its own config */
    bool nameless;          /* groups have no names of layers */
} ft__keras_file;

static ft__keras_variable *ft__keras_variable_at(const ft__keras_file *k, size_t i)
{
    return (ft__keras_variable *)k->variables.at + i;
}

/* ---- Paths ---- */

/* The next component of a path; moves *at past it. Its length; 0: there is none. */
static size_t ft__keras_component(const char **at, const char **component)
{
    size_t length = strcspn(*at, "/");
    *component = *at;
    *at += length + ((*at)[length] == '/');
    return length;
}

static bool ft__keras_is(const char *component, size_t length, const char *text)
{
    return length == strlen(text) && !memcmp(component, text, length);
}

static bool ft__keras_begins(const char *component, size_t length, const char *text)
{
    return length >= strlen(text) && !memcmp(component, text, strlen(text));
}

static void ft__keras_role(ft__keras_variable *v, const char *role, size_t length)
{
    if (length >= 2 && role[length - 2] == ':') length -= 2; /* TensorFlow's ":0" */
    snprintf(v->role, sizeof v->role, "%.*s", (int)(length < 31 ? length : 31), role);
}

/* Adds ".NAME" to the name that is being put together at the end of `names`. */
static void ft__keras_add_part(ft__keras_file *k, size_t start, const char *name, size_t length)
{
    if (k->names.count > start) ft__text_add_bytes(&k->names, ".", 1);
    ft__text_add_bytes(&k->names, name, length);
}

/* What a component inside a layer's group says of the variable; false: it is another layer. */
static bool ft__keras_inside(ft__keras_variable *v, const char *c, size_t length)
{
    static const char *const heads[][2] = {
        {"query_dense", ".query"}, {"key_dense", ".key"}, {"value_dense", ".value"},
        {"output_dense", ".output"}, {"query", ".query"}, {"key", ".key"}, {"value", ".value"},
        {"attention_output", ".output"}, {"_query_dense", ".query"}, {"_key_dense", ".key"},
        {"_value_dense", ".value"}, {"_output_dense", ".output"}}; /* the last four: of Keras 2 */
    size_t i;
    for (i = 0; i < sizeof heads / sizeof heads[0]; ++i)
        if (ft__keras_is(c, length, heads[i][0])) {
            v->kind = FT__KERAS_HEADS;
            snprintf(v->part, sizeof v->part, "%s", heads[i][1]);
            return true;
        }
    if (ft__keras_is(c, length, "cell") || ft__keras_begins(c, length, "lstm_cell")
        || ft__keras_begins(c, length, "gru_cell")
        || ft__keras_begins(c, length, "simple_rnn_cell")) v->kind = FT__KERAS_CELL;
    else if (ft__keras_begins(c, length, "backward_"))
        snprintf(v->part, sizeof v->part, "_reverse");
    else return ft__keras_begins(c, length, "forward_") || ft__keras_is(c, length, "layer");
    return true;
}

/* The class of a group of Keras 3: its name in snake case without the number behind. */
static size_t ft__keras_class_length(const char *group, size_t length)
{
    size_t end = length;
    while (end > 0 && group[end - 1] >= '0' && group[end - 1] <= '9') --end;
    return end > 1 && end < length && group[end - 1] == '_' ? end - 1 : length;
}

/* ---- Keras 3 ---- */

/* Roles by class and number. */
static const char *ft__keras_numbered(const char *group, size_t length, int number)
{
    static const char *const rows[][5] = {
        {"separable_conv", "depthwise_kernel", "pointwise_kernel", "bias", ""},
        {"depthwise_conv", "depthwise_kernel", "bias", "", ""},
        {"conv", "kernel", "bias", "", ""}, {"dense", "kernel", "bias", "", ""},
        {"batch_normalization", "gamma", "beta", "moving_mean", "moving_variance"},
        {"layer_normalization", "gamma", "beta", "", ""},
        {"group_normalization", "gamma", "beta", "", ""},
        {"embedding", "embeddings", "", "", ""}, {"p_re_lu", "alpha", "", "", ""},
        {"normalization", "mean", "variance", "count", ""},
        {"time_distributed", "kernel", "bias", "", ""}};
    size_t i;
    for (i = 0; number >= 0 && number < 4 && i < sizeof rows / sizeof rows[0]; ++i)
        if (ft__keras_begins(group, length, rows[i][0])) return rows[i][1 + number];
    return "";
}

/* The name attributes, sorted by path. */
typedef struct ft__keras_labels { const char **paths; char **texts; int *order, count; }
    ft__keras_labels;

static bool ft__keras_label_less(const void *context, int a, int b)
{
    const char *const *paths = (const char *const *)context;
    int order = strcmp(paths[a], paths[b]);
    return order < 0 || (order == 0 && a < b);
}

/* The attribute `name` of "<path>/vars", where path has `length` bytes; NULL: there is none. */
static const char *ft__keras_label(const ft__keras_labels *l, const char *path, size_t length)
{
    int low = 0, high = l->count;
    while (low < high) {
        int middle = low + (high - low) / 2, at = l->order[middle];
        int order = strncmp(l->paths[at], path, length);
        if (order == 0) order = strcmp(l->paths[at] + length, "/vars");
        if (order == 0) return l->texts[at];
        if (order < 0) low = middle + 1;
        else high = middle;
    }
    return NULL;
}

/* Reads the path of a variable of Keras 3; false: it is no variable of a layer. */
static bool ft__keras_read_path(ft__keras_file *k, const ft__keras_labels *labels,
                                ft__keras_variable *v, const char *path)
{
    const char *at = path, *c, *group = "", *label, *role;
    size_t length, group_length = 0, start = k->names.count;
    bool cell;
    while ((length = ft__keras_component(&at, &c)) > 0
           && (ft__keras_is(c, length, "layers")
               || ft__keras_is(c, length, "_layer_checkpoint_dependencies"))) {
        group_length = ft__keras_component(&at, &group);
        label = ft__keras_label(labels, path, (size_t)(group - path) + group_length);
        if (label) ft__keras_add_part(k, start, label, strlen(label));
        else ft__keras_add_part(k, start, group, group_length);
    }
    if (group_length == 0) return false;
    ft__text_add_bytes(&k->names, "", 1);
    v->layer = v->outer = start;
    for (; length > 0 && !ft__keras_is(c, length, "vars"); length = ft__keras_component(&at, &c)) {
        if (ft__keras_is(c, length, "seed_generator")) return false;
        if (!ft__keras_inside(v, c, length)) return false;
    }
    v->group = k->names.count;
    ft__text_add_bytes(&k->names, path, (size_t)(at - path));
    ft__text_add_bytes(&k->names, "", 1);
    length = ft__keras_component(&at, &c);
    if (length != 1 || *c < '0' || *c > '9') return false;
    cell = v->kind == FT__KERAS_CELL;
    group_length = ft__keras_class_length(group, group_length);
    role = cell ? (*c == '0' ? "kernel" : *c == '1' ? "recurrent_kernel" : "bias")
        : v->kind == FT__KERAS_HEADS ? (*c == '0' ? "kernel" : "bias")
        : ft__keras_numbered(group, group_length, *c - '0');
    if (*role) snprintf(v->role, sizeof v->role, "%s", role);
    else snprintf(v->role, sizeof v->role, "%c", *c);
    if (ft__keras_begins(group, group_length, "separable_conv")) v->kind = FT__KERAS_SEPARABLE;
    if (ft__keras_begins(group, group_length, "depthwise_conv")) v->kind = FT__KERAS_DEPTH;
    return true;
}

/* ---- Keras 2, and whole models in .h5 ---- */

static bool ft__keras_read_named_path(ft__keras_file *k, ft__keras_variable *v, const char *path)
{
    const char *at = path, *c, *group;
    size_t length, group_length, start = k->names.count;
    if (!strncmp(at, "model_weights/", 14)) at += 14;
    else if (!strncmp(at, "optimizer_weights/", 18)) return false;
    group_length = ft__keras_component(&at, &group);
    if (group_length == 0 || ft__keras_is(group, group_length, "top_level_model_weights"))
        return false;
    v->outer = start;
    ft__text_add_bytes(&k->names, group, group_length);
    ft__text_add_bytes(&k->names, "", 1);
    v->layer = start = k->names.count;
    ft__text_add_bytes(&k->names, group, group_length);
    length = ft__keras_component(&at, &c);
    if (*at && length == group_length && !memcmp(c, group, length))
        length = ft__keras_component(&at, &c);
    for (; *at; length = ft__keras_component(&at, &c))
        if (!ft__keras_inside(v, c, length)) ft__keras_add_part(k, start, c, length);
    ft__text_add_bytes(&k->names, "", 1);
    ft__keras_role(v, c, length);
    if (ft__keras_begins(v->role, strlen(v->role), "seed_generator")) return false;
    v->group = k->names.count;
    ft__text_add_bytes(&k->names, path, (size_t)(c - path));
    ft__text_add_bytes(&k->names, "", 1);
    return length > 0;
}

/* ---- What siblings say of each other ---- */

static bool ft__keras_siblings(const ft__keras_file *k, size_t a, size_t b)
{
    return !strcmp(k->names.letters + ft__keras_variable_at(k, a)->group,
                   k->names.letters + ft__keras_variable_at(k, b)->group);
}

/* Of variables first .. end - 1 of one group: a norm without gamma or beta has fewer, kernels may
   be depthwise ones, and a recurrent kernel (units, gates * units) tells the gates. */
static void ft__keras_relate(const ft__keras_file *k, size_t first, size_t end)
{
    static const char *const norm[] = {"gamma", "beta", "moving_mean", "moving_variance"};
    size_t count = end - first, i;
    bool norms = !strcmp(ft__keras_variable_at(k, first)->role, "gamma"), separable = false;
    int gates = 0;
    for (i = first; i < end; ++i) {
        ft__keras_variable *v = ft__keras_variable_at(k, i);
        bool recurrent = !strcmp(v->role, "recurrent_kernel") && v->item.rank == 2;
        if (recurrent && v->item.size[0] > 0) gates = (int)(v->item.size[1] / v->item.size[0]);
        separable = separable || !strcmp(v->role, "pointwise_kernel");
        if (norms && !strcmp(k->names.letters + v->group + strlen(k->names.letters + v->group) - 5,
                             "vars/")) {
            if (count == 2 || count == 3) { /* the last two are the statistics, if it has any */
                bool batch = strstr(k->names.letters + v->group, "batch_normalization") != NULL;
                if (batch && i + 2 >= end)
                    snprintf(v->role, sizeof v->role, "%s", norm[4 - (end - i)]);
                else v->open = batch;
            } else v->open = count == 1;
        }
    }
    for (i = first; i < end; ++i) {
        ft__keras_variable *v = ft__keras_variable_at(k, i);
        if (gates) {
            v->kind = FT__KERAS_CELL;
            v->gates = gates;
        } else if (separable) v->kind = FT__KERAS_SEPARABLE;
        else if (v->kind == FT__KERAS_ANY && !strcmp(v->role, "depthwise_kernel"))
            v->kind = FT__KERAS_DEPTH;
        else if (v->kind == FT__KERAS_ANY && !strcmp(v->role, "kernel") && v->item.rank > 2)
            v->open = true;
    }
}

/* ---- Views ---- */

/* A view of `rank` sizes with these strides. */
static void ft__keras_set_view(ft_tensor_info *t, int rank, const int64_t *size,
                               const int64_t *stride)
{
    int d;
    t->shape.rank = rank;
    for (d = 0; d < rank; ++d) {
        t->shape.size[d] = (int)size[d];
        t->stride[d] = stride[d];
    }
}

/* [a, b] transposed, of a tensor whose sizes multiply to these. */
static void ft__keras_view_matrix(ft_tensor_info *t, int64_t a, int64_t b)
{
    int64_t size[2], stride[2];
    size[0] = b;
    size[1] = a;
    stride[0] = 1;
    stride[1] = b;
    ft__keras_set_view(t, 2, size, stride);
}

static void ft__keras_view_vector(ft_tensor_info *t, int64_t count)
{
    const int64_t one = 1;
    ft__keras_set_view(t, 1, &count, &one);
}

static int64_t ft__keras_elements(const ft_hdf5_item *item)
{
    int64_t count = 1;
    int d;
    for (d = 0; d < item->rank; ++d) count *= item->size[d];
    return count;
}

static void ft__keras_view_plain(ft_tensor_info *t, const ft_hdf5_item *item)
{
    int d;
    t->shape.rank = item->rank;
    for (d = 0; d < item->rank; ++d) t->shape.size[d] = (int)item->size[d];
    ft__row_major(t);
}

/* Sets t to the view of a variable, and `suffix` to the end of its name; `other`: the second thing
   that it may be. `second`: the second bias of a GRU. */
static void ft__keras_view(const ft__keras_variable *v, bool other, bool second, ft_tensor_info *t,
                           char suffix[64])
{
    const ft_hdf5_item *item = &v->item;
    const char *role = other && !strcmp(v->role, "gamma") ? "beta" : v->role;
    bool kernel = !strcmp(role, "kernel"), bias = !strcmp(role, "bias");
    bool depth = !strcmp(role, "depthwise_kernel") || (kernel && other);
    int r = item->rank;
    int64_t all = ft__keras_elements(item), last = r > 0 ? item->size[r - 1] : 1;
    static const char *const plain[][2] = {
        {"gamma", ".weight"}, {"beta", ".bias"}, {"moving_mean", ".running_mean"},
        {"moving_variance", ".running_var"}, {"embeddings", ".weight"}, {"bias", ".bias"},
        {"mean", ".mean"}, {"variance", ".variance"}};
    size_t i;
    memset(t, 0, sizeof *t);
    t->type = item->type;
    t->offset = v->offset;
    ft__keras_view_plain(t, item);
    snprintf(suffix, 64, ".%s", role);
    for (i = 0; i < sizeof plain / sizeof plain[0]; ++i)
        if (!strcmp(role, plain[i][0])) snprintf(suffix, 64, "%s", plain[i][1]);
    if (v->kind == FT__KERAS_CELL && (bias || r == 2)) {
        bool hidden = !strcmp(role, "recurrent_kernel");
        snprintf(suffix, 64, ".%s_%s_l0%s", bias ? "bias" : "weight",
                 hidden || second ? "hh" : "ih", v->part);
        if (!bias) ft__keras_view_matrix(t, item->size[0], item->size[1]);
        else ft__keras_view_vector(t, last);
        if (second) t->offset += (uint64_t)last * (uint64_t)ft__type_bytes[t->type];
    } else if (v->kind == FT__KERAS_HEADS) {
        snprintf(suffix, 64, "%s%s", v->part, bias ? ".bias" : ".weight");
        if (bias) ft__keras_view_vector(t, all);
        else if (r == 3 && !strcmp(v->part, ".output")) ft__keras_view_matrix(t, all / last, last);
        else if (r == 3) ft__keras_view_matrix(t, item->size[0], all / item->size[0]);
    } else if (depth && r >= 3) {
        snprintf(suffix, 64, "%s.weight", v->kind == FT__KERAS_SEPARABLE ? ".depthwise" : "");
        ft__view_depthwise(t);
    } else if (!strcmp(role, "pointwise_kernel") && r >= 3) {
        snprintf(suffix, 64, ".pointwise.weight");
        ft__view_kernel(t);
    } else if (bias && v->kind == FT__KERAS_SEPARABLE) snprintf(suffix, 64, ".pointwise.bias");
    else if (kernel && r >= 2) {
        snprintf(suffix, 64, ".weight");
        ft__view_kernel(t);
    } else if (!strcmp(role, "alpha")) {
        snprintf(suffix, 64, ".weight");
        ft__keras_view_vector(t, all);
    }
}
#endif
