#pragma once
#include "interface/requirements.h"
#include "interface/types.h"
#include "platform/families.h"
#include "platform/context.h"
#include "basics/strings.h"
#include "basics/arrays.h"
#include "basics/json.h"
#include "basics/sorting.h"
#include "nodes/nodes.h"
#include "nodes/names.h"
#include "nodes/storage.h"
#include "operators/table.h"
#include "formats/readers.h"
#include "formats/safetensors.h"
#include "formats/zip.h"
#include "formats/keras_nodes.h"
#include "formats/keras_networks.h"
#include "formats/keras_variables.h"
/* =============================================================================================
   [SECTION] formats/keras_files: Keras' files: reading them
   .keras, .weights.h5 and .h5 are HDF5, which ft_desc.hdf5 reads, .keras inside a zip archive with
   the config as an entry. Opening copies the variables into memory; ft_file's tensors are views of
   that copy. The network settles what they are called: that of the file's own config, or the one
   that is there when weights are loaded.
   ============================================================================================= */
#if FT__HAS_KERAS
static const char ft__keras_config_key[] = "keras_config";
static const char ft__keras_version_key[] = "keras_version";
static const char ft__keras_notes_key[] = "finetune"; /* an attribute of a file's root */

/* The shape of the weight with this name in a network; NULL: it has none. */
typedef const ft_shape *(*ft__keras_wanted)(const void *context, const char *name);

/* ---- From variables to tensors ---- */

static void ft__keras_add_tensor(ft_file *file, ft__keras_file *k, ft__text *letters,
                                 const ft_tensor_info *t, const char *layer, const char *suffix)
{
    ft_tensor_info *to = ft__file_add(file);
    if (!to) return;
    *to = *t;
    to->type_name = ft__type_names[t->type];
    to->bytes = (uint64_t)ft__shape_count(&t->shape) * (uint64_t)ft__type_bytes[t->type];
    k->labels[file->count - 1] = letters->count;
    ft__text_add_bytes(letters, layer, strlen(layer));
    ft__text_add_bytes(letters, suffix, strlen(suffix) + 1);
}

/* Whether the network has this weight, in this shape; or, of statistics, in one with as many
   numbers, which the view then takes. */
static bool ft__keras_fits(const ft__keras_variable *v, ft_tensor_info *t, const char *layer,
                           const char *suffix, ft__keras_wanted wanted, const void *context)
{
    char name[600];
    const ft_shape *shape;
    snprintf(name, sizeof name, "%.500s%s", layer, suffix);
    shape = wanted ? wanted(context, name) : NULL;
    if (!shape) return false;
    if (ft__same_sizes(shape, &t->shape)) return true;
    if ((strcmp(v->role, "mean") != 0 && strcmp(v->role, "variance") != 0)
        || ft__shape_count(shape) != ft__shape_count(&t->shape)) return false;
    t->shape = *shape;
    ft__row_major(t);
    return true;
}

/* Adds the tensors of a variable: what the network wants of all that it may be, else the first. */
static void ft__keras_name_variable(ft_file *file, ft__keras_file *k, ft__text *letters,
                                    const ft__keras_variable *v, ft__keras_wanted wanted,
                                    const void *context)
{
    const char *layers[2], *layer;
    ft_tensor_info t, found;
    char suffix[64], right[64];
    bool fits = false, two;
    int i;
    memset(&found, 0, sizeof found);
    if (!strcmp(v->role, "count")) return; /* of Normalization: how many samples it saw */
    layers[0] = layer = k->names.letters + v->layer;
    layers[1] = k->names.letters + v->outer;
    for (i = 0; i < 4 && !fits; ++i) {
        if ((i & 1 && !v->open) || (i & 2 && v->layer == v->outer)) continue;
        ft__keras_view(v, i & 1, false, &t, suffix);
        fits = ft__keras_fits(v, &t, layers[i / 2], suffix, wanted, context);
        if (i > 0 && !fits) continue;
        found = t;
        layer = layers[i / 2];
        memcpy(right, suffix, sizeof right);
    }
    two = v->kind == FT__KERAS_CELL && !strcmp(v->role, "bias") && v->item.rank == 2
        && v->item.size[0] == 2;
    ft__keras_add_tensor(file, k, letters, &found, layer, right);
    if (!two) return;
    ft__keras_view(v, false, true, &t, suffix);
    ft__keras_add_tensor(file, k, letters, &t, layer, suffix);
}

/* Lists the file's tensors by the names that a network has for them. */
static ft_status ft__keras_name_tensors(ft_file *file, ft__keras_wanted wanted,
                                        const void *context)
{
    ft__context *c = file->context;
    ft__keras_file *k = (ft__keras_file *)file->own;
    ft__text letters;
    size_t i;
    int t;
    memset(&letters, 0, sizeof letters);
    letters.context = c;
    file->count = 0;
    ft__release(c, k->labels);
    k->labels = (size_t *)ft__allocate(c, 2 * k->variables.count + 1, sizeof *k->labels);
    for (i = 0; ft__ok(c) && i < k->variables.count; ++i)
        ft__keras_name_variable(file, k, &letters, ft__keras_variable_at(k, i), wanted, context);
    ft__release(c, file->letters);
    file->letters = letters.letters;
    for (t = 0; ft__ok(c) && t < file->count; ++t)
        file->tensors[t].name = file->letters + k->labels[t];
    return ft__file_index(file);
}

/* ---- Reading HDF5 ---- */

/* An attribute that is one text, copied; NULL: there is none. */
static char *ft__keras_attribute(ft_file *file, void *opened, const char *path, const char *name)
{
    const ft_hdf5 *h = &file->context->desc.hdf5;
    ft_hdf5_item item;
    char *text;
    int i;
    for (i = 0; h->item(h->user, opened, i, &item); ++i) {
        if (!item.attribute || strcmp(item.attribute, name) != 0 || strcmp(item.path, path) != 0)
            continue;
        text = (char *)ft__allocate(file->context, item.bytes + 1, 1);
        if (text && h->read(h->user, opened, i, text)) return text;
        ft__release(file->context, text);
        return NULL;
    }
    return NULL;
}

static void ft__keras_free_labels(ft__context *c, ft__keras_labels *l)
{
    while (l->texts && l->count > 0) ft__release(c, l->texts[--l->count]);
    ft__release(c, l->order);
    ft__release(c, (void *)(uintptr_t)l->texts);
    ft__release(c, (void *)(uintptr_t)l->paths);
}

/* The names of Keras 3's layers. */
static ft__keras_labels ft__keras_read_labels(ft_file *file, void *opened, int count)
{
    ft__context *c = file->context;
    const ft_hdf5 *h = &c->desc.hdf5;
    ft__keras_labels l;
    ft_hdf5_item item;
    int i;
    memset(&l, 0, sizeof l);
    l.paths = (const char **)ft__allocate(c, (size_t)count + 1, sizeof *l.paths);
    l.texts = (char **)ft__allocate(c, (size_t)count + 1, sizeof *l.texts);
    l.order = (int *)ft__allocate(c, (size_t)count + 1, sizeof *l.order);
    for (i = 0; ft__ok(c) && i < count && h->item(h->user, opened, i, &item); ++i) {
        char *text;
        if (!item.attribute || strcmp(item.attribute, "name") != 0 || item.rank != 0) continue;
        text = (char *)ft__allocate(c, item.bytes + 1, 1);
        if (!text) break;
        if (!h->read(h->user, opened, i, text)) text[0] = 0;
        l.paths[l.count] = item.path;
        l.texts[l.count++] = text;
    }
    if (ft__ok(c))
        ft__sort_order(l.order, l.count, ft__keras_label_less, (const void *)(uintptr_t)l.paths);
    return l;
}

/* Adds a dataset that is a variable of a layer; false, with an error, if its sizes are wrong. */
static bool ft__keras_list_variable(ft_file *file, ft__keras_file *k, const ft__keras_labels *l,
                                    const ft_hdf5_item *item, int number, bool named)
{
    ft__context *c = file->context;
    ft__keras_variable v, *to;
    int64_t count = 1;
    int d;
    memset(&v, 0, sizeof v);
    if (named ? !ft__keras_read_named_path(k, &v, item->path)
              : !ft__keras_read_path(k, l, &v, item->path)) return true;
    v.item = *item;
    v.item.path = v.item.attribute = NULL;
    v.number = number;
    for (d = 0; d < item->rank && item->rank <= FINETUNE_MAX_RANK; ++d) {
        if (item->size[d] < 1 || item->size[d] > INT_MAX || count > INT64_MAX / item->size[d] / 8)
            count = -1;
        if (count < 0) break;
        count *= item->size[d];
    }
    if (item->type == FT_OTHER || item->rank > FINETUNE_MAX_RANK || count < 1
        || (uint64_t)count * (uint64_t)ft__type_bytes[item->type] != item->bytes) {
        ft__fail(c, FT_FORMAT, "%s: %.200s: its type or its sizes cannot be read", file->path,
                 item->path);
        return false;
    }
    to = (ft__keras_variable *)ft__growing_add(c, &k->variables);
    if (to) *to = v;
    return to != NULL;
}

/* Lists the variables of layers; optimisers', and states of dropout, are passed over. */
static void ft__keras_list(ft_file *file, void *opened)
{
    ft__context *c = file->context;
    const ft_hdf5 *h = &c->desc.hdf5;
    ft__keras_file *k = (ft__keras_file *)file->own;
    ft__keras_labels labels;
    ft_hdf5_item item;
    int count, i;
    size_t first, end;
    bool named = false;
    for (count = 0; h->item(h->user, opened, count, &item); ++count)
        named = named || (item.attribute && !strcmp(item.attribute, "weight_names"));
    labels = ft__keras_read_labels(file, opened, count);
    k->nameless = !named && labels.count == 0;
    for (i = 0; ft__ok(c) && i < count && h->item(h->user, opened, i, &item); ++i)
        if (!item.attribute && !ft__keras_list_variable(file, k, &labels, &item, i, named)) break;
    ft__keras_free_labels(c, &labels);
    for (first = 0; ft__ok(c) && first < k->variables.count; first = end) {
        end = first + 1;
        while (end < k->variables.count && ft__keras_siblings(k, first, end)) ++end;
        ft__keras_relate(k, first, end);
    }
}

/* Exchanges the first two thirds of each row: Keras has a GRU's gates as z, r, h; PyTorch as r, z,
   n. */
static void ft__keras_swap_gates(const ft__keras_variable *v, unsigned char *at)
{
    size_t last = (size_t)v->item.size[v->item.rank - 1];
    size_t width = (size_t)ft__type_bytes[v->item.type];
    size_t third = last / 3 * width, rows = (size_t)ft__keras_elements(&v->item) / last, r, i;
    for (r = 0; r < rows; ++r, at += last * width)
        for (i = 0; i < third; ++i) {
            unsigned char kept = at[i];
            at[i] = at[third + i];
            at[third + i] = kept;
        }
}

/* Copies the variables' numbers, which become the file's bytes. A file may not claim more than a
   thousand times its size: compressed zeros would. */
static void ft__keras_read_numbers(ft_file *file, void *opened)
{
    ft__context *c = file->context;
    const ft_hdf5 *h = &c->desc.hdf5;
    ft__keras_file *k = (ft__keras_file *)file->own;
    uint64_t total = 0, most = 1000 * file->size;
    unsigned char *numbers;
    size_t i;
    for (i = 0; i < k->variables.count; ++i) {
        ft__keras_variable *v = ft__keras_variable_at(k, i);
        v->offset = total;
        total += ((uint64_t)v->item.bytes + 7) / 8 * 8;
        if (v->item.bytes > most || total > most) {
            ft__fail(c, FT_FORMAT, "%s: its variables claim more than 1000 times the file's %llu"
                     " bytes", file->path, (unsigned long long)file->size);
            return;
        }
    }
    numbers = (unsigned char *)ft__allocate(c, (size_t)total + 1, 1);
    for (i = 0; numbers && i < k->variables.count; ++i) {
        const ft__keras_variable *v = ft__keras_variable_at(k, i);
        if (!h->read(h->user, opened, v->number, numbers + v->offset)) {
            ft__fail(c, FT_FORMAT, "%s: the numbers of %.200s%.40s cannot be read", file->path,
                     k->names.letters + v->group, v->role);
            ft__release(c, numbers);
            return;
        }
        if (v->gates == 3 && v->item.size[v->item.rank - 1] % 3 == 0)
            ft__keras_swap_gates(v, numbers + v->offset);
    }
    if (numbers) ft__file_replace(file, numbers, total);
}

/* ---- Opening ---- */

static void ft__keras_forget(ft_file *file)
{
    ft__context *c = file->context;
    ft__keras_file *k = (ft__keras_file *)file->own;
    ft__release(c, file->described);
    if (!k) return;
    ft__release(c, k->version);
    ft__release(c, k->training);
    ft__release(c, k->config);
    ft__release(c, k->labels);
    ft__release(c, k->names.letters);
    ft__release(c, k->variables.at);
    ft__release(c, k);
}

static const ft_shape *ft__keras_wants(const void *context, const char *name)
{
    const ft__keras *g = (const ft__keras *)context;
    const ft__keras_weight *all = (const ft__keras_weight *)g->weights.at;
    int low = 0, high = (int)g->weights.count;
    while (low < high) {
        int middle = low + (high - low) / 2;
        int order = strcmp(ft__keras_text(g, all[g->by_name[middle]].name), name);
        if (order == 0) return all[g->by_name[middle]].constant ? NULL
                                                                : &all[g->by_name[middle]].shape;
        if (order < 0) low = middle + 1;
        else high = middle;
    }
    return NULL;
}

static bool ft__keras_weight_less(const void *context, int a, int b)
{
    const ft__keras *g = (const ft__keras *)context;
    const ft__keras_weight *all = (const ft__keras_weight *)g->weights.at;
    int order = strcmp(ft__keras_text(g, all[a].name), ft__keras_text(g, all[b].name));
    return order < 0 || (order == 0 && a < b);
}

static const ft_shape *ft__keras_model_wants(const void *context, const char *name)
{
    const ft_model *m = (const ft_model *)context;
    ft_node node = ft__find_node(m, name);
    const ft__node *found = ft__get_node(m, node);
    return found && ft__is_weight(found) && !ft__is_constant(found) ? &found->shape : NULL;
}

/* Maps a config, as ft__keras_network does, and sorts g's weights by name. Returns the description
   for the caller to release, NULL with an error; ft__keras_forget_config frees the rest. */
static char *ft__keras_map_config(ft__keras *g, ft__context *c, const char *path,
                                  const char *config, const char *training, const char *version)
{
    char *described;
    memset(g, 0, sizeof *g);
    g->c = g->text.context = g->names.context = g->refused.context = c;
    g->values.size = sizeof(ft__keras_value);
    g->inputs.size = sizeof(ft__keras_input);
    g->weights.size = sizeof(ft__keras_weight);
    g->results.size = sizeof(ft__keras_result);
    described = ft__keras_network(g, c, path, config, strlen(config), training,
                                  version && version[0] < '3');
    g->by_name = (int *)ft__allocate(c, g->weights.count + 1, sizeof *g->by_name);
    if (ft__ok(c)) ft__sort_order(g->by_name, (int)g->weights.count, ft__keras_weight_less, g);
    return described;
}

static void ft__keras_forget_config(ft__keras *g)
{
    ft__release(g->c, g->by_name);
    ft__keras_end_network(g);
}

/* ---- Names of classes, and of layers by them ---- */

/* Keras' name of a class in a path: "Conv2DTranspose" as "conv2d_transpose". A word begins at an
   upper case letter before or behind a lower case one. */
static void ft__keras_snake(const char *class_name, char *to, size_t size)
{
    size_t n = 0, i;
    for (i = 0; class_name[i] && n + 2 < size; ++i) {
        char c = class_name[i], before = i ? class_name[i - 1] : '_', after = class_name[i + 1];
        bool upper = c >= 'A' && c <= 'Z';
        if (upper && i && ((after >= 'a' && after <= 'z') || (before >= 'a' && before <= 'z')))
            to[n++] = '_';
        to[n++] = upper ? (char)(c + 32) : c;
    }
    to[n] = 0;
}

/* Whether two layers count as one class; Keras 2 called a Functional model "Model". */
static bool ft__keras_same_class(const char *a, const char *b)
{
    if (!strcmp(a, "Model")) a = "Functional";
    if (!strcmp(b, "Model")) b = "Functional";
    return !strcmp(a, b);
}

static const char *ft__keras_class_of(const ft__json *j, int layer)
{
    const char *name = ft__json_string(j, ft__json_member(j, layer, "class_name"));
    return name ? name : "Layer";
}

/* The list of a model's layers, given its config. */
static int ft__keras_layers_of(const ft__json *j, int config)
{
    return ft__json_at(j, config, 'a') ? config : ft__json_member(j, config, "layers");
}

/* Keras 2's .weights.h5 has no names of layers: a group's class and number say which one it is, as
   "sequential.dense_1" the second Dense of the first Sequential. */
static void ft__keras_name_layer(ft__keras_file *k, const ft__json *j, ft__keras_variable *v)
{
    int config = ft__json_member(j, 0, "config");
    size_t at = v->layer, start = k->names.count, length;
    char snake[80];
    while (ft__ok(k->names.context) && k->names.letters[at]) {
        const char *group = k->names.letters + at, *name;
        int layers = ft__keras_layers_of(j, config), layer, number = 0;
        size_t class_length, digit;
        length = strcspn(group, ".");
        class_length = ft__keras_class_length(group, length);
        for (digit = class_length + 1; digit < length && number < INT_MAX / 10 - 1; ++digit)
            number = 10 * number + (group[digit] - '0');
        if (layers < 0) return;
        for (layer = layers + 1; layer < j->values[layers].next; layer = j->values[layer].next) {
            const char *class_name = ft__keras_class_of(j, layer);
            ft__keras_snake(ft__keras_same_class(class_name, "Functional") ? "Functional"
                                                                           : class_name,
                            snake, sizeof snake);
            if (ft__keras_is(group, class_length, snake) && number-- == 0) break;
        }
        if (layer >= j->values[layers].next) return;
        name = ft__keras_layer_name(j, layer);
        at += length + (group[length] == '.');
        ft__keras_add_part(k, start, name, strlen(name));
        config = ft__json_member(j, layer, "config");
    }
    ft__text_add_bytes(&k->names, "", 1);
    v->layer = v->outer = start;
}

/* All of them, by a config; variables of one group follow each other. */
static void ft__keras_name_layers(ft__context *c, ft__keras_file *k, const char *config)
{
    ft__json *j = k->nameless && config ? ft__json_parse(c, config, strlen(config)) : NULL;
    size_t i, from = 0, to = 0;
    for (i = 0; j && i < k->variables.count; ++i) {
        ft__keras_variable *v = ft__keras_variable_at(k, i);
        bool same = i > 0 && !strcmp(k->names.letters + v->layer, k->names.letters + from);
        from = v->layer;
        if (same) v->layer = v->outer = to;
        else ft__keras_name_layer(k, j, v);
        to = v->layer;
    }
    k->nameless = k->nameless && !j;
    ft__json_free(c, j);
}

/* For a network that is there: names what its own config did not name. */
static void ft__keras_settle(const ft_model *m, ft_file *file)
{
    ft__keras_file *k = (ft__keras_file *)file->own;
    if (k->described) return;
    ft__keras_name_layers(file->context, k, ft__kept_note(m, ft__keras_config_key));
    ft__keras_name_tensors(file, ft__keras_model_wants, m);
}

/* Of models inside models inside a model Keras' .h5 names a layer "outer.conv" that is
   "outer.inner.conv": if the network has no layer of the name, and one such, it is meant. */
static void ft__keras_complete(ft__keras_file *k, const ft__keras *g, ft__keras_variable *v)
{
    const ft__keras_weight *all = (const ft__keras_weight *)g->weights.at;
    const char *layer = k->names.letters + v->layer, *inner = strchr(layer, '.');
    size_t length = strlen(layer), first = inner ? (size_t)(inner - layer) : 0, i, whole = 0;
    const char *found = NULL;
    for (i = 0; inner && i < g->weights.count; ++i) {
        const char *name = ft__keras_text(g, all[i].name), *at;
        if (!strncmp(name, layer, length) && name[length] == '.') return;
        if (strncmp(name, layer, first + 1) != 0) continue;
        for (at = strchr(name + first + 1, '.'); at; at = strchr(at + 1, '.')) {
            size_t end = (size_t)(at - name) + length - first;
            if (strncmp(at, inner, length - first) != 0 || name[end] != '.') continue;
            if (found && (whole != end || strncmp(name, found, end) != 0)) return;
            found = name;
            whole = end;
        }
    }
    if (!found) return;
    v->layer = k->names.count;
    ft__text_add_bytes(&k->names, found, whole);
    ft__text_add_bytes(&k->names, "", 1);
}

/* Describes the network of the file's config, and names the tensors by it. */
static void ft__keras_describe(ft_file *file)
{
    ft__context *c = file->context;
    ft__keras_file *k = (ft__keras_file *)file->own;
    ft__keras g;
    size_t i;
    file->described = ft__keras_map_config(&g, c, file->path, k->config, k->training, k->version);
    if (ft__ok(c)) ft__keras_name_layers(c, k, k->config);
    for (i = 0; ft__ok(c) && i < k->variables.count; ++i)
        ft__keras_complete(k, &g, ft__keras_variable_at(k, i));
    if (ft__ok(c)) {
        ft__keras_name_tensors(file, ft__keras_wants, &g);
        k->described = true;
    }
    if (g.dropped && ft__ok(c))
        ft__log(c, "%s: %d layers have regularisers or constraints, which training here does not"
                " use: ft_optimizer_options.weight_decay is near", file->path, g.dropped);
    ft__keras_forget_config(&g);
}

/* Adds the entries for ft_save: what is needed to write the model back for Keras. */
static void ft__keras_notes(ft_file *file)
{
    ft__keras_file *k = (ft__keras_file *)file->own;
    const char *const keys[] = {ft__keras_config_key, ft__keras_version_key};
    const char *texts[2];
    ft__note *grown = (ft__note *)ft__grow(file->context, file->metadata,
                                           (size_t)file->metadata_count,
                                           (size_t)file->metadata_count + 2, sizeof *grown);
    int i;
    if (!grown) return;
    file->metadata = grown;
    texts[0] = k->config;
    texts[1] = k->version;
    for (i = 0; i < 2; ++i) {
        if (!texts[i] || ft_file_metadata(file, keys[i])) continue;
        grown[file->metadata_count].key = keys[i];
        grown[file->metadata_count++].text = texts[i];
    }
}

/* What formats/keras_writing put into the file besides what Keras reads: the metadata of ft_save,
   and of .weights.h5 the config. */
static void ft__keras_read_notes(ft_file *file, void *opened)
{
    ft__context *c = file->context;
    ft__keras_file *k = (ft__keras_file *)file->own;
    char *text = ft__keras_attribute(file, opened, "", ft__keras_notes_key);
    if (!text) return;
    file->json = ft__json_parse(c, text, strlen(text));
    if (file->json) ft__file_metadata(file, 0);
    ft__release(c, text);
    if (k->config || !ft_file_metadata(file, ft__keras_config_key)) return;
    k->config = ft__copy_text(c, ft_file_metadata(file, ft__keras_config_key));
    if (ft_file_metadata(file, ft__keras_version_key))
        k->version = ft__copy_text(c, ft_file_metadata(file, ft__keras_version_key));
}

static bool ft__keras_can_read(ft_file *file)
{
    if (file->context->desc.hdf5.open) return true;
    ft__fail(file->context, FT_UNSUPPORTED, "%s: a file of Keras in HDF5, which needs ft_desc.hdf5"
             " (the tool opens libhdf5 for it: Debian's libhdf5-103-1)", file->path);
    return false;
}

/* Reads the variables of HDF5 in memory, and k->config if it has none yet. */
static void ft__keras_read(ft_file *file, const unsigned char *bytes, uint64_t size)
{
    ft__context *c = file->context;
    const ft_hdf5 *h = &c->desc.hdf5;
    ft__keras_file *k = (ft__keras_file *)file->own;
    void *opened = h->open(h->user, bytes, (size_t)size);
    if (!opened) {
        ft__fail(c, FT_FORMAT, "%s: its HDF5 cannot be read: it is damaged", file->path);
        return;
    }
    if (!k->config) {
        k->config = ft__keras_attribute(file, opened, "", "model_config");
        k->training = ft__keras_attribute(file, opened, "", "training_config");
        if (k->config && !k->training) k->training = ft__copy_text(c, "{}");
    }
    if (ft__ok(c)) ft__keras_read_notes(file, opened);
    if (!k->version) k->version = ft__keras_attribute(file, opened, "", "keras_version");
    if (!k->version) k->version = ft__keras_attribute(file, opened, "model_weights",
                                                      "keras_version");
    if (ft__ok(c)) ft__keras_list(file, opened);
    if (ft__ok(c)) ft__keras_read_numbers(file, opened);
    h->close(h->user, opened);
    if (ft__ok(c) && k->config) ft__keras_describe(file);
    else if (ft__ok(c)) ft__keras_name_tensors(file, NULL, NULL);
    if (ft__ok(c)) ft__keras_notes(file);
}

/* What every reader of Keras' begins with. */
static ft__keras_file *ft__keras_begin_file(ft_file *file)
{
    ft__context *c = file->context;
    ft__keras_file *k = (ft__keras_file *)ft__allocate(c, 1, sizeof *k);
    file->own = k;
    file->forget = ft__keras_forget;
    file->settle = ft__keras_settle;
    if (!k) return NULL;
    k->variables.size = sizeof(ft__keras_variable);
    k->names.context = c;
    return ft__keras_can_read(file) ? k : NULL;
}

static void ft__keras_hdf5_open(ft_file *file)
{
    if (ft__keras_begin_file(file)) ft__keras_read(file, file->bytes, file->size);
}

/* ---- .keras: config.json and model.weights.h5 in a zip archive ---- */

/* The bytes of an entry, copied, with a 0 behind them; NULL with an error, or if it is not
   there. */
static char *ft__keras_entry(const ft__zip *zip, const char *name, uint64_t *size)
{
    ft_file *file = zip->file;
    const ft__zip_entry *entry = ft__zip_find(zip, name, strlen(name));
    char *bytes;
    if (!entry) return NULL;
    *size = entry->size;
    if (entry->size / 1000 > file->size) {
        ft__fail(file->context, FT_FORMAT, "%s: %s claims more than 1000 times the file's size",
                 file->path, name);
        return NULL;
    }
    bytes = (char *)ft__allocate(file->context, (size_t)entry->size + 1, 1);
    if (bytes && ft__zip_unpack(zip, entry, (unsigned char *)bytes) == FT_OK) return bytes;
    ft__release(file->context, bytes);
    return NULL;
}

/* The text of a field of metadata.json, copied. */
static char *ft__keras_metadata(ft__context *c, const char *text, uint64_t size, const char *field)
{
    ft__json *j = text ? ft__json_parse(c, text, (size_t)size) : NULL;
    const char *found = j ? ft__json_string(j, ft__json_member(j, 0, field)) : NULL;
    char *copy = found ? ft__copy_text(c, found) : NULL;
    ft__json_free(c, j);
    return copy;
}

static void ft__keras_zip_open(ft_file *file)
{
    ft__context *c = file->context;
    ft__keras_file *k = ft__keras_begin_file(file);
    uint64_t size = 0;
    char *weights = NULL, *metadata = NULL;
    ft__zip zip;
    if (!k) return;
    if (ft__zip_open(&zip, file) == FT_OK && ft__zip_sort(&zip)) {
        k->config = ft__keras_entry(&zip, "config.json", &size);
        metadata = ft__keras_entry(&zip, "metadata.json", &size);
        k->version = ft__keras_metadata(c, metadata, size, "keras_version");
        weights = ft__keras_entry(&zip, "model.weights.h5", &size);
        if (ft__ok(c) && (!k->config || !weights))
            ft__fail(c, FT_UNSUPPORTED, "%s: has no %s", file->path,
                     k->config ? "model.weights.h5" : "config.json");
    }
    ft__zip_close(&zip);
    if (ft__ok(c)) ft__keras_read(file, (const unsigned char *)weights, size);
    ft__release(c, metadata);
    ft__release(c, weights);
}

/* ---- The rows ---- */

/* A zip archive with config.json in the root, which torch.save's do not have. */
static bool ft__keras_zip_recognises(const ft_file *file)
{
    static const char name[] = "config.json";
    uint64_t at = 0, count = 0, i, length;
    if (file->size < 22 || memcmp(file->bytes, "PK\3\4", 4) != 0
        || !ft__zip_directory(file, &at, &count)) return false;
    for (i = 0; i < count && ft__zip_has(file, at, 46); ++i) {
        length = ft__zip_number(file, at + 28, 2);
        if (length == strlen(name) && ft__zip_has(file, at + 46, length)
            && !memcmp(file->bytes + at + 46, name, (size_t)length)) return true;
        at += 46 + length + ft__zip_number(file, at + 30, 2) + ft__zip_number(file, at + 32, 2);
    }
    return false;
}

static const unsigned char ft__hdf5_signature[8] = {0x89, 'H', 'D', 'F', '\r', '\n', 0x1a, '\n'};

static bool ft__keras_hdf5_recognises(const ft_file *file)
{
    return file->size > 8 && !memcmp(file->bytes, ft__hdf5_signature, 8);
}

static const char *ft__keras_graph(ft_file *file)
{
    const char *saved = ft_file_metadata(file, ft__graph_key); /* with names of classes, ... */
    return saved ? saved : file->described;
}

static const ft__reader ft__reader_keras = {
    ".keras", false, ft__keras_zip_recognises, ft__keras_zip_open, ft__read_strided,
    ft__keras_graph, false};

static const ft__reader ft__reader_keras_hdf5 = {
    "Keras' HDF5", false, ft__keras_hdf5_recognises, ft__keras_hdf5_open, ft__read_strided,
    ft__keras_graph, false};
#endif
