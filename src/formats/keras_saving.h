#pragma once
#include "interface/types.h"
#include "platform/families.h"
#include "platform/context.h"
#include "basics/strings.h"
#include "basics/inflate.h"
#include "basics/saving.h"
#include "basics/json.h"
#include "formats/readers.h"
#include "formats/safetensors.h"
#include "formats/zip.h"
#include "formats/keras_nodes.h"
#include "formats/keras_variables.h"
#include "formats/keras_files.h"
#include "formats/keras_writing.h"
/* =============================================================================================
   [SECTION] formats/keras_saving: Keras' files: from the list of variables to the file
   HDF5 is made in memory by ft_desc.hdf5, then written as every file is: aside, then renamed. No
   time is in it: the same network gives the same bytes.
   ============================================================================================= */
#if FT__HAS_KERAS && FT__HAS_SAVING
/* The text of a key among pairs; NULL: there is none. */
static const char *ft__keras_pair(const char *const *pairs, int count, const char *key)
{
    int i;
    for (i = 0; i < count; ++i)
        if (!strcmp(pairs[2 * i], key)) return pairs[2 * i + 1];
    return NULL;
}

static ft__keras_form ft__keras_form_of(const char *path)
{
    return ft__ends_with(path, ".keras") ? FT__KERAS_ARCHIVE
        : ft__ends_with(path, ".weights.h5") ? FT__KERAS_WEIGHTS : FT__KERAS_WHOLE;
}

/* Whether a network with this metadata can be written as Keras' file; else an error. */
static ft_status ft__keras_check_writable(ft__context *c, const char *path,
                                          const char *const *pairs, int pair_count)
{
    const char *config = ft__keras_pair(pairs, pair_count, ft__keras_config_key);
    ft__json *j;
    if (!c->desc.hdf5.write)
        return ft__fail(c, FT_UNSUPPORTED, "%s: a file of Keras in HDF5, which needs ft_desc.hdf5"
                        " with its function write (the tool opens libhdf5 for it: Debian's"
                        " libhdf5-103-1)", path);
    if (!config)
        return ft__fail(c, FT_UNSUPPORTED, "%s: only a network that was opened from a file of Keras"
                        " with its config (.keras, or .h5 of a whole model) can be written for"
                        " Keras: name it .safetensors", path);
    if (ft__keras_form_of(path) != FT__KERAS_ARCHIVE) return c->status;
    j = ft__json_parse(c, config, strlen(config));
    if (ft__ok(c) && !ft__json_string(j, ft__json_member(j, 0, "module")))
        ft__fail(c, FT_UNSUPPORTED, "%s: the network's config is that of a .h5 file, which Keras"
                 " does not read in a .keras file: name it .h5", path);
    ft__json_free(c, j);
    return c->status;
}

/* ---- The numbers ---- */

static const ft_shape *ft__keras_written_shape(const void *context, const char *name)
{
    const ft__keras_writing *w = (const ft__keras_writing *)context;
    int i;
    for (i = 0; i < w->count; ++i)
        if (!strcmp(w->tensors[i].name, name)) return &w->tensors[i].shape;
    return NULL;
}

/* Puts a tensor's numbers where the view t has them in `to`. */
static void ft__keras_scatter(const ft__context *c, const ft__write_tensor *tensor,
                              const ft_tensor_info *t, unsigned char *to)
{
    ft__write_tensor single = *tensor;
    size_t count = ft__shape_count(&t->shape), first, some, i;
    unsigned char piece[4 * 256];
    single.type = FT_F32;
    for (first = 0; first < count; first += some) {
        some = count - first < 256 ? count - first : 256;
        ft__tensor_bytes(c, &single, first, some, piece);
        for (i = 0; i < some; ++i)
            memcpy(to + t->offset + 4 * ft__strided_place(t, first + i), piece + 4 * i, 4);
    }
}

/* A variable's numbers as Keras has them, for the caller to release; NULL with an error. */
static unsigned char *ft__keras_numbers(ft__keras_writing *w, const ft__keras_variable *v)
{
    ft__context *c = w->c;
    int64_t all = ft__keras_elements(&v->item);
    unsigned char *to = (unsigned char *)ft__allocate(c, (size_t)all,
                                                      (size_t)ft__type_bytes[v->item.type]);
    bool two = v->kind == FT__KERAS_CELL && !strcmp(v->role, "bias") && v->item.rank == 2;
    ft_tensor_info t;
    char name[700];
    int second, i;
    for (second = 0; to && second <= two && strcmp(v->role, "count") != 0; ++second) {
        ft__keras_weight_name(w, v, second, &t, name, sizeof name);
        for (i = 0; i < w->count && strcmp(w->tensors[i].name, name) != 0; ++i) {}
        if (i == w->count || ft__shape_count(&w->tensors[i].shape) != ft__shape_count(&t.shape)) {
            ft__fail(c, FT_MISMATCH, "%s: %.200s %s: Keras' config, with which the network was"
                     " opened, expects it with %zu numbers: name it .safetensors", w->path, name,
                     i < w->count ? "has another size" : "is not there",
                     ft__shape_count(&t.shape));
            break;
        }
        w->taken[i] = 1;
        ft__keras_scatter(c, &w->tensors[i], &t, to);
    }
    if (ft__ok(c) && v->gates == 3 && v->item.size[v->item.rank - 1] % 3 == 0)
        ft__keras_swap_gates(v, to);
    if (ft__ok(c)) return to;
    ft__release(c, to);
    return NULL;
}

/* ---- Into HDF5 ---- */

static void ft__keras_put(ft__keras_writing *w, const ft_hdf5_item *item, const void *from)
{
    const ft_hdf5 *h = &w->c->desc.hdf5;
    if (ft__ok(w->c) && !h->write(h->user, w->opened, item, from))
        ft__fail(w->c, FT_IO, "%s: %.200s%s%s cannot be written as HDF5", w->path, item->path,
                 item->attribute ? ", attribute " : "", item->attribute ? item->attribute : "");
}

/* An attribute of `count` texts, each with a 0 at its end; -1: of one that is no list. */
static void ft__keras_put_texts(ft__keras_writing *w, const char *path, const char *attribute,
                                const char *texts, int count)
{
    ft_hdf5_item item;
    memset(&item, 0, sizeof item);
    item.path = path;
    item.attribute = attribute;
    item.type = FT_OTHER;
    item.rank = count >= 0;
    item.size[0] = count;
    if (texts) ft__keras_put(w, &item, texts);
}

static void ft__keras_put_numbers(ft__keras_writing *w, const ft__keras_place *e, const char *path)
{
    unsigned char *numbers = ft__keras_numbers(w, &e->v);
    ft_hdf5_item item = e->v.item;
    item.path = path;
    item.bytes = (size_t)ft__keras_elements(&item) * (size_t)ft__type_bytes[item.type];
    if (numbers) ft__keras_put(w, &item, numbers);
    ft__release(w->c, numbers);
}

/* As Keras 3's save_weights: a layer's name is an attribute of its group. */
static void ft__keras_put_weights(ft__keras_writing *w)
{
    const ft__keras_group *groups = (const ft__keras_group *)w->groups.at;
    const ft__keras_place *entries = (const ft__keras_place *)w->entries.at;
    const char *texts = w->texts.letters;
    size_t i;
    for (i = 0; ft__ok(w->c) && i < w->groups.count; ++i)
        ft__keras_put_texts(w, texts + groups[i].place, "name", texts + groups[i].name, -1);
    for (i = 0; ft__ok(w->c) && i < w->entries.count; ++i)
        ft__keras_put_numbers(w, &entries[i], texts + entries[i].place);
}

/* The variables of one of the outermost model's layers: those that are trained first, as Keras'
   `weights` of a model inside a model are. */
static void ft__keras_put_layer(ft__keras_writing *w, int outer, const char *group)
{
    const ft__keras_place *entries = (const ft__keras_place *)w->entries.at;
    ft__text names, path;
    int pass, count = 0;
    size_t i;
    memset(&names, 0, sizeof names);
    memset(&path, 0, sizeof path);
    names.context = path.context = w->c;
    for (pass = 0; pass < 2; ++pass)
        for (i = 0; ft__ok(w->c) && i < w->entries.count; ++i) {
            const char *name = w->texts.letters + entries[i].name;
            if (entries[i].outer != outer || entries[i].trained == (pass == 1)) continue;
            ft__text_add_bytes(&names, name, strlen(name) + 1);
            count += 1;
            path.count = 0;
            ft__text_add(&path, "%s/%s", group, name);
            if (ft__ok(w->c)) ft__keras_put_numbers(w, &entries[i], path.letters);
        }
    if (ft__ok(w->c))
        ft__keras_put_texts(w, group, "weight_names", count ? names.letters : "", count);
    ft__release(w->c, path.letters);
    ft__release(w->c, names.letters);
}

/* As Keras' model.save of a .h5, but for how the model was compiled: its own load_model fails for
   some losses' names there ("mse"). */
static void ft__keras_put_whole(ft__keras_writing *w, const char *config, const char *version)
{
    static const char model[] = "model_weights", top[] = "model_weights/top_level_model_weights";
    const ft__keras_group *groups = (const ft__keras_group *)w->groups.at;
    ft__context *c = w->c;
    ft__text names, group;
    int outer = 0;
    size_t i;
    memset(&names, 0, sizeof names);
    memset(&group, 0, sizeof group);
    names.context = group.context = c;
    ft__keras_put_texts(w, "", "keras_version", version, -1);
    ft__keras_put_texts(w, "", "backend", "tensorflow", -1);
    ft__keras_put_texts(w, "", "model_config", config, -1);
    ft__keras_put_texts(w, model, "keras_version", version, -1);
    ft__keras_put_texts(w, model, "backend", "tensorflow", -1);
    for (i = 0; ft__ok(c) && i < w->groups.count; ++i) {
        const char *name = w->texts.letters + groups[i].name;
        if (groups[i].depth > 0) continue;
        group.count = 0;
        ft__text_add(&group, "%s/%s", model, name);
        ft__text_add_bytes(&names, name, strlen(name) + 1);
        if (ft__ok(c)) ft__keras_put_layer(w, outer, group.letters);
        outer += 1;
    }
    if (ft__ok(c)) {
        ft__keras_put_texts(w, model, "layer_names", names.letters, outer);
        ft__keras_put_texts(w, top, "weight_names", "", 0);
    }
    ft__release(c, group.letters);
    ft__release(c, names.letters);
}

/* Whether a tensor is a constant of the config's, as an LSTM's second bias. */
static bool ft__keras_is_constant(const ft__keras_writing *w, const char *name)
{
    const ft__keras_weight *all = (const ft__keras_weight *)w->g.weights.at;
    size_t i;
    for (i = 0; i < w->g.weights.count; ++i)
        if (all[i].constant && !strcmp(ft__keras_text(&w->g, all[i].name), name)) return true;
    return false;
}

/* What Keras has no place for: all metadata but, where Keras has it, the config; and but a
   description whose constants are tensors. */
static void ft__keras_put_notes(ft__keras_writing *w, ft__keras_form form,
                                const char *const *pairs, int pair_count)
{
    ft__context *c = w->c;
    const char **kept = (const char **)ft__allocate(c, 2 * (size_t)pair_count + 1, sizeof *kept);
    ft__text text;
    bool constants = false;
    int count = 0, i;
    memset(&text, 0, sizeof text);
    text.context = c;
    for (i = 0; i < w->count && !constants; ++i)
        constants = !w->taken[i] && ft__keras_is_constant(w, w->tensors[i].name);
    for (i = 0; kept && i < pair_count; ++i) {
        bool of_keras = !strcmp(pairs[2 * i], ft__keras_config_key)
            || !strcmp(pairs[2 * i], ft__keras_version_key);
        if ((of_keras && form != FT__KERAS_WEIGHTS)
            || (constants && !strcmp(pairs[2 * i], ft__graph_key))) continue;
        kept[2 * count] = pairs[2 * i];
        kept[2 * count++ + 1] = pairs[2 * i + 1];
    }
    if (count > 0) {
        ft__text_add(&text, "{");
        ft__json_add_pairs(&text, kept, count);
        ft__text_add(&text, "}");
        if (ft__ok(c)) ft__keras_put_texts(w, "", ft__keras_notes_key, text.letters, -1);
    }
    ft__release(c, text.letters);
    ft__release(c, (void *)(uintptr_t)kept);
}

/* Fails for a tensor that none of Keras' variables took. */
static void ft__keras_check_taken(ft__keras_writing *w)
{
    int i;
    for (i = 0; ft__ok(w->c) && i < w->count; ++i)
        if (!w->taken[i] && !ft__keras_is_constant(w, w->tensors[i].name))
            ft__fail(w->c, FT_UNSUPPORTED, "%s: tensor %.200s has no place in Keras' config, with"
                     " which the network was opened: name it .safetensors", w->path,
                     w->tensors[i].name);
}

/* ---- Into a file ---- */

/* Adds an entry to a zip archive. */
static void ft__keras_zip_add(ft__zip_writer *zip, const char *name, const void *bytes, size_t size)
{
    if (!ft__ok(zip->file->context)) return;
    ft__zip_begin(zip, name, "", size, ft__crc(0, (const unsigned char *)bytes, size));
    ft__saving_write(zip->file, bytes, size);
    zip->at += size;
}

/* Writes the HDF5 bytes to the path, in an archive with the config if it is one. */
static void ft__keras_save(ft__context *c, const char *path, const unsigned char *bytes,
                           size_t size, const char *config, const char *version)
{
    ft__text metadata;
    ft__zip_writer zip;
    ft__saving file;
    memset(&metadata, 0, sizeof metadata);
    metadata.context = c;
    ft__text_add(&metadata, "{\"keras_version\": ");
    ft__json_add_text(&metadata, version ? version : "3.0.0");
    ft__text_add(&metadata, "}");
    ft__saving_begin(&file, c, path);
    if (ft__ok(c) && file.file && ft__keras_form_of(path) == FT__KERAS_ARCHIVE) {
        ft__zip_start(&zip, &file);
        ft__keras_zip_add(&zip, "metadata.json", metadata.letters, metadata.count);
        ft__keras_zip_add(&zip, "config.json", config, strlen(config));
        ft__keras_zip_add(&zip, "model.weights.h5", bytes, size);
        ft__zip_finish(&zip);
    } else if (ft__ok(c)) ft__saving_write(&file, bytes, size);
    if (!ft__saving_end(&file, ft__ok(c)) && ft__ok(c))
        ft__fail(c, FT_IO, "%s: %s", path, file.why);
    ft__saving_free(&file);
    ft__release(c, metadata.letters);
}

/* Makes the HDF5 file in memory, and saves it. */
static void ft__keras_make(ft__keras_writing *w, const char *config, const char *const *pairs,
                           int pair_count)
{
    ft__context *c = w->c;
    const ft_hdf5 *h = &c->desc.hdf5;
    ft__keras_form form = ft__keras_form_of(w->path);
    const char *version = ft__keras_pair(pairs, pair_count, ft__keras_version_key);
    unsigned char *bytes = NULL;
    size_t size = 0;
    w->opened = h->open(h->user, NULL, 0);
    if (!w->opened) {
        ft__fail(c, FT_IO, "%s: ft_desc.hdf5 makes no new file", w->path);
        return;
    }
    if (form == FT__KERAS_WHOLE) ft__keras_put_whole(w, config, version);
    else ft__keras_put_weights(w);
    ft__keras_put_notes(w, form, pairs, pair_count);
    ft__keras_check_taken(w);
    if (ft__ok(c)) size = h->bytes(h->user, w->opened, NULL, 0);
    if (size > 0) bytes = (unsigned char *)ft__allocate(c, size, 1);
    if (ft__ok(c) && (!bytes || h->bytes(h->user, w->opened, bytes, size) != size))
        ft__fail(c, FT_IO, "%s: ft_desc.hdf5 cannot give the new file's bytes", w->path);
    h->close(h->user, w->opened);
    if (ft__ok(c)) ft__keras_save(c, w->path, bytes, size, config, version);
    ft__release(c, bytes);
}

static ft_status ft__keras_write(ft__context *c, const char *path, const ft__write_tensor *tensors,
                                 int count, const char *const *pairs, int pair_count)
{
    ft__keras_writing w;
    const char *version = ft__keras_pair(pairs, pair_count, ft__keras_version_key);
    char *config, *described;
    if (ft__keras_check_writable(c, path, pairs, pair_count) != FT_OK) return c->status;
    memset(&w, 0, sizeof w);
    w.c = w.texts.context = c;
    w.path = path;
    w.tensors = tensors;
    w.count = count;
    w.old = version && version[0] < '3';
    w.entries.size = sizeof(ft__keras_place);
    w.groups.size = sizeof(ft__keras_group);
    config = ft__keras_config_for(c, path, ft__keras_pair(pairs, pair_count, ft__keras_config_key),
                                  ft__keras_written_shape, &w);
    if (!config) return c->status;
    described = ft__keras_map_config(&w.g, c, path, config, NULL, version);
    w.taken = (char *)ft__allocate(c, (size_t)count + 1, 1);
    w.json = ft__json_parse(c, config, strlen(config));
    if (ft__ok(c)) ft__keras_list_model(&w, ft__json_member(w.json, 0, "config"));
    if (ft__ok(c)) ft__keras_make(&w, config, pairs, pair_count);
    ft__json_free(c, w.json);
    ft__release(c, w.groups.at);
    ft__release(c, w.entries.at);
    ft__release(c, w.texts.letters);
    ft__release(c, w.taken);
    ft__release(c, described);
    ft__keras_forget_config(&w.g);
    ft__release(c, config);
    return c->status;
}
#endif
