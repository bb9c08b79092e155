#pragma once
#include "interface/types.h"
#include "platform/families.h"
#include "platform/context.h"
#include "basics/strings.h"
#include "basics/files.h"
#include "basics/json.h"
#include "basics/threads.h"
#include "basics/folders.h"
#include "kernels/gemm.h"
#include "kernels/bf16.h"
#include "nodes/nodes.h"
#include "nodes/names.h"
#include "nodes/sharing.h"
#include "nodes/initialisers.h"
#include "operators/table.h"
#include "devices/device.h"
#include "devices/opening.h"
#include "graph/plan.h"
#include "graph/settings.h"
#include "graph/merging.h"
#include "formats/readers.h"
#include "formats/keras_nodes.h"
#include "formats/keras_files.h"
#include "formats/keras_writing.h"
#include "formats/keras_saving.h"
#include "formats/writers.h"
#include "formats/tensor_files.h"
#include "formats/weights.h"
#include "formats/graphs.h"
#include "formats/model_files.h"
#include "formats/onnx_files_writing.h"
#include "text/tokenizer_files.h"
#include "text/tokenizing.h"
#include "networks/text.h"
#include "networks/regression.h"
#include "networks/recognition.h"
#include "networks/configs.h"
#include "networks/image_processors.h"
#include "data/sources.h"

/* =============================================================================================
   [SECTION] public/models: Public functions: models and files
   ============================================================================================= */

/* ---- A model ---- */

/* Returns what is only half set, or NULL. */
static const char *ft__desc_fault(const ft_desc *d)
{
    const ft_files *f = &d->files;
    const ft_hdf5 *h = &d->hdf5;
    int files = (f->open != NULL) + (f->size != NULL) + (f->read != NULL) + (f->write != NULL)
        + (f->close != NULL) + (f->rename != NULL) + (f->remove != NULL);
    bool others = f->map || f->unmap || f->list || f->kind;
    if (!d->allocator.allocate != !d->allocator.release)
        return "allocator: set both allocate and release, or neither";
    if (files != 7 && (files != 0 || others))
        return "files: set all of open, size, read, write, close, rename and remove, or none; set"
               " the others only with them";
    if (FT__HAS_KERAS && ((h->open != NULL) + (h->item != NULL) + (h->read != NULL)
        + (h->close != NULL) != (h->open ? 4 : 0) || (h->write && !h->open)
        || !h->write != !h->bytes))
        return "hdf5: set all of open, item, read and close, or none; with them both write and"
               " bytes, or neither";
    if (!f->map != !f->unmap) return "files: set both map and unmap, or neither";
    return !d->arena != !d->arena_bytes ? "set both arena and arena_bytes, or neither" : NULL;
}

static ft_desc ft__desc_defaults(ft_desc desc)
{
    if (!desc.allocator.allocate || !desc.allocator.release) {
        desc.allocator.user = NULL;
        desc.allocator.allocate = ft__default_allocate;
        desc.allocator.release = ft__default_release;
    }
    if (ft__desc_fault(&desc) || !desc.files.open) desc.files = ft__default_files();
    if (!desc.arena_bytes) desc.arena = NULL;
    return desc;
}

ft_model *ft_create(ft_desc desc)
{
    ft__context start;
    ft_model *m;
    memset(&start, 0, sizeof start);
    start.desc = ft__desc_defaults(desc);
    start.desc.memory_budget = 0; /* if it is too small, the next block fails, with this model */
    m = (ft_model *)ft__allocate(&start, 1, sizeof *m);
    if (!m) return NULL;
    m->context = start;
    m->context.desc.memory_budget = desc.memory_budget;
    m->length = 1;
    m->moments = 2; /* AdamW's */
    start.threads = desc.threads > 0 ? desc.threads : ft__processors();
    m->context.threads = start.threads > 64 ? 64 : start.threads;
    if (ft__desc_fault(&desc))
        ft__fail(&m->context, FT_INVALID, "ft_create: %s", ft__desc_fault(&desc));
    if (desc.threads < 0)
        ft__fail(&m->context, FT_INVALID, "ft_create: threads is %d; it must be at least 0 (0: one"
                 " per processor)", desc.threads);
    ft__simd_choose(&m->context);
    ft__precision_choose(&m->context);
    ft__pool_create(&m->context);
    ft__device_open(&m->context);
    ft__precision_say(&m->context);
    m->architecture = ft__copy_text(&m->context, "");
    if (desc.cache) m->context.desc.cache = m->cache = ft__copy_text(&m->context, desc.cache);
    return m;
}

/* Frees everything but the context, in the reverse of the order of creation. */
static void ft__clear_graph(ft_model *m)
{
    ft__context *c = &m->context;
    int i;
    ft__plan_free(c, m->plans[0]);
    ft__plan_free(c, m->plans[1]);
    m->plans[0] = m->plans[1] = NULL;
    if (!m->owner) ft__sharing_free(c, m->sharing);
    m->sharing = NULL;
    if (m->optimizer) ft__release(c, m->optimizer->parts);
    ft__release(c, m->optimizer);
    m->optimizer = NULL;
    ft__release(c, m->graph_text);
    m->graph_text = NULL;
    ft__release(c, m->training);
    m->training = NULL;
    ft__release(c, m->fed_weights);
    m->fed_weights = NULL;
    m->fed_weight_count = 0;
    ft__release(c, m->notes.letters);
    memset(&m->notes, 0, sizeof m->notes);
    m->note_count = 0;
    ft__release(c, m->tokenizer_text);
    m->tokenizer_text = NULL;
    m->tokenizer = NULL;
    m->max_length = 0;
    m->pairs = false;
    m->temperature = 0;
    ft__release_class_names(m);
    if (FT__HAS_SURGERY) ft__merged_free_all(m);
    for (i = m->node_count - 1; i >= 0; --i) ft__release_node(c, &m->nodes[i]);
    ft__release(c, m->chains);
    ft__release(c, m->order);
    ft__release(c, m->nodes);
    m->chains = NULL;
    m->order = NULL;
    m->nodes = NULL;
    m->node_count = m->node_capacity = 0;
    m->output.id = m->loss.id = m->text_vector.id = 0;
    memset(&m->vector_options, 0, sizeof m->vector_options);
}

/* Whether shares still need this model: then the last of them ends it. */
static bool ft__is_needed(ft_model *m)
{
    bool needed;
    if (!m->sharing || m->owner) return false;
    ft__sharing_lock(m->sharing, true);
    needed = m->sharing->ended = m->sharing->shares > 0;
    ft__sharing_lock(m->sharing, false);
    return needed;
}

/* Counts a share that has ended; true if it was the last one, and the first model ended before. */
static bool ft__was_last(ft_model *owner)
{
    bool last;
    if (!owner) return false;
    ft__sharing_lock(owner->sharing, true);
    last = --owner->sharing->shares == 0 && owner->sharing->ended;
    ft__sharing_lock(owner->sharing, false);
    return last;
}

void ft_destroy(ft_model *m)
{
    ft__context end;
    ft_model *owner;
    if (!m || ft__is_needed(m)) return;
    owner = m->owner;
    while (m->data) ft_data_free(m->data);
    while (m->tokenizers) ft_tokenizer_free(m->tokenizers);
    ft__clear_graph(m);
    ft__release(&m->context, m->cache);
    ft__release(&m->context, m->architecture);
    ft__device_close(&m->context);
    ft__pool_destroy(&m->context);
    end = m->context; /* a copy, since the model's own block is released last */
    ft__release(&end, m);
    if (ft__was_last(owner)) ft_destroy(owner);
}

ft_status ft_error(const ft_model *m) { return m ? m->context.status : FT_MEMORY; }

const char *ft_error_text(const ft_model *m)
{
    return m ? m->context.text : "no memory for a model";
}

/* After a device failure the CPU continues with the host's copy of the weights: those on the device
   may be from the middle of a step. */
static void ft__give_up_device(ft_model *m)
{
    ft__context *c = &m->context;
    int i;
    if (!ft__device_lost(c)) return;
    ft__log(c, "%s is no longer used: the model continues on the CPU", ft__device_lost(c));
    ft__device_close(c);
    m->version += 1;
    m->weights_version += 1;
    for (i = 0; i < m->node_count; ++i)
        if (m->nodes[i].gradient)
            memset(m->nodes[i].gradient, 0,
                   ft__node_count_at(&m->nodes[i], ft__one) * sizeof(float));
}

void ft_clear_error(ft_model *m)
{
    if (!m) return;
    m->context.status = FT_OK;
    m->context.text[0] = 0;
    ft__give_up_device(m);
}

const char *ft_status_name(ft_status status)
{
    return (unsigned)status < FT_STATUS_COUNT ? ft__status_names[status] : "unknown";
}

int ft_devices(ft_model *m, ft_device_info *devices, int most)
{
    return ft__usable(m) ? ft__device_list(&m->context, devices, devices ? most : 0) : 0;
}

ft_status ft_check_device(ft_model *m)
{
    const ft__backend *device = m ? ft__backend_of(&m->context) : NULL;
    if (ft__usable(m) && device->check_all) device->check_all(&m->context);
    return ft__status_of(m);
}

int ft_device_checks(const ft_model *m, ft_device_check *checks, int most)
{
    const ft__backend *device = m ? ft__backend_of(&m->context) : NULL;
    return device && device->checks ? device->checks(&m->context, checks, checks ? most : 0) : 0;
}

/* ---- A network from a file, or by name ---- */

/* Gives the model the tokeniser of a model file's text; NULL: none. */
static void ft__take_tokenizer(ft_model *m, const char *text, const char *path)
{
    ft_tokenizer_options options;
    if (!FT__HAS_TEXT) { /* keep its text, so that ft_save writes it again */
        ft__release(&m->context, m->tokenizer_text);
        m->tokenizer_text = text ? ft__copy_text(&m->context, text) : NULL;
        return;
    }
    memset(&options, 0, sizeof options);
    options.memory = text;
    options.bytes = text ? strlen(text) : 0;
    if (text) ft_set_tokenizer(m, ft_tokenizer_load(m, path, options));
}

/* Opens a file that describes a network; NULL with an error. */
static ft_file *ft__open_graph(ft_model *m, const char *path, ft_graph_options options)
{
    ft_weights_options as_weights;
    ft_file *file;
    memset(&as_weights, 0, sizeof as_weights);
    as_weights.memory = options.memory;
    as_weights.bytes = options.bytes;
    file = ft_file_open(m, path, as_weights);
    if (!file || ft__file_graph(file)) return file;
    ft__fail(&m->context, FT_FORMAT, "%s: holds no description of a network (a model file of"
             " ft_save, or JSON as in docs/networks.md, is expected)", file->path);
    ft_file_close(file);
    return NULL;
}

/* Keeps the config of Keras of the file that the network comes from, for ft_save. */
static void ft__keep_config(ft_model *m, const ft_file *described)
{
#if FT__HAS_KERAS
    const char *const keys[] = {ft__keras_config_key, ft__keras_version_key};
    int i;
    for (i = 0; i < 2; ++i) ft__keep_note(m, keys[i], ft_file_metadata(described, keys[i]));
#else
    (void)m;
    (void)described;
#endif
}

/* Builds the network that is named, or that the file itself describes, or that its weights are
   recognised as. */
static ft_status ft__build_for(ft_model *m, ft_file *file, const ft_load_options *options)
{
    const char *name = options->architecture, *graph = ft__file_graph(file);
    ft_network_options network = options->network;
    ft_graph_options none = {NULL, 0};
    ft_file *described;
    if (name && strpbrk(name, "./")) {
        described = ft__open_graph(m, name, none);
        if (described) ft__load_graph(m, ft__file_graph(described), NULL, name);
        if (described) ft__keep_config(m, described);
        ft_file_close(described);
    } else if (!name && graph) {
        bool draws = ft_file_count(file) == 0 && options->weights.allow_missing;
        ft__load_graph(m, graph, draws ? NULL : file, file->path);
        if (ft__usable(m) && ft_file_metadata(file, ft__training_key))
            m->training = ft__copy_text(&m->context, ft_file_metadata(file, ft__training_key));
    } else {
        ft__recognise(m, file, options->weights.rename, &name, &network);
        if (ft__usable(m)) ft_network(m, name, network);
    }
    return m->context.status;
}

/* Whether the file has no weights of the network's last linear layer. */
static bool ft__lacks_head(ft_model *m, ft_file *file, const char *rename)
{
    const ft__node *head = ft__head(m);
    int i;
    ft__choose_prefix(m, file, rename);
    for (i = 0; head && i < file->count; ++i)
        if (ft__node_for(m, file, i, rename) == &m->nodes[head->inputs[1] - 1]) return false;
    return head != NULL;
}

/* Builds the network of a file, and loads the weights. */
static ft_status ft__load_opened(ft_model *m, ft_file *file, const char *path,
                                 ft_load_options options)
{
    ft__context *c = &m->context;
    int classes = options.network.classes, i;
    if (ft_file_metadata(file, ft__checkpoint_key))
        return ft__fail(c, FT_FORMAT, "%s: a checkpoint of a run that has not ended, not a model:"
                        " continue the run with ft_fit_options.checkpoint, or --resume", path);
    m->values_follow = true;
    m->memory_follows = options.weights.keep_types && !c->device;
    ft__build_for(m, file, &options);
    m->values_follow = m->memory_follows = false;
    ft__take_tokenizer(m, ft_file_metadata(file, ft__tokenizer_key), path);
    ft__keep_notes(m, file);
    if (FT__HAS_TRANSFORMERS && FT__HAS_SURGERY && options.no_new_head && ft__ok(c) && classes == 0
        && m->text_vector.id && ft__lacks_head(m, file, options.weights.rename))
        ft__cut_to(m, m->text_vector);
    if (ft__load_weights(m, file, path, options.weights) != FT_OK) return c->status;
    for (i = 0; i < m->node_count; ++i) { /* weights that the file lacks, if that is allowed */
        ft__node *node = &m->nodes[i];
        if (!ft__is_weight(node) || node->loaded) continue;
        if (!ft__is_constant(node)) ft__initialise_node(m, node);
        else if (!node->value)
            ft__fail(c, FT_MISMATCH, "%s: has no values of the constant %.200s, nor has the"
                     " network's description", path, node->name);
    }
    if (ft__ok(c) && classes > 0 && ft__predicts_number(m) && classes > 1) {
        ft__log(c, "%s: its head, which gives a number, is replaced by a new one for the %d classes"
                " of ft_load_options.network", path, classes);
        ft__from_regression(m, classes);
    } else if (ft__ok(c) && classes > 0 && classes != ft__output_classes(m)) {
        ft__log(c, "%s: its head of %d classes is replaced by a new one for the %d of"
                " ft_load_options.network", path, ft_class_count(m), classes);
        ft__replace_head(m, classes);
    }
    return c->status;
}

static ft_status ft__load_file(ft_model *m, const char *path, ft_load_options options)
{
    ft_file *file = ft_file_open(m, path, options.weights);
    if (!file) return m->context.status;
    ft__find_prefix(file);
    ft__say_unused_rules(file, options.weights.rename);
    ft__load_opened(m, file, file->path, options);
    ft_file_close(file);
    return m->context.status;
}

/* Loads a folder of Hugging Face's: see networks/configs. */
static ft_status ft__load_folder(ft_model *m, const char *folder, ft_load_options options)
{
    ft__context *c = &m->context;
    static const char *const weights[] = {"model.safetensors", "model.safetensors.index.json",
                                          "pytorch_model.bin", "pytorch_model.bin.index.json",
                                          NULL};
    ft__image_processor processor;
    ft__json *json;
    char *path;
    bool chosen = options.network.pooling != FT_POOL_LAST, known = true;
    if (!FT__HAS(m, TRANSFORMERS)) return c->status;
    json = ft__folder_json(c, folder, "config.json");
    path = json ? ft__first_in_folder(c, folder, weights) : NULL;
    if (!json) ft__fail(c, FT_FORMAT, "%s: a folder without a config.json: the path of a weights"
                        " file is expected", folder);
    else if (!path) ft__fail(c, FT_IO, "%s: none of model.safetensors, pytorch_model.bin and their"
                             " .index.json is there", folder);
    if (ft__ok(c)) ft__read_config(c, folder, json, &options);
    if (ft__ok(c)) ft__read_pooling(c, folder, &options);
    if (ft__ok(c) && options.network.pooling != FT_POOL_LAST)
        known = ft__read_modules(c, folder, &options);
    processor = ft__read_processor(c, folder, json);
    if (options.network.image_size == 0) options.network.image_size = processor.p.width;
    if (ft__ok(c)) ft__load_file(m, path, options);
    if (!chosen && !known) m->text_vector.id = 0;
    if (ft__ok(c) && !options.network.classes) ft__read_labels(m, json);
    if (ft__ok(c)) ft__use_processor(m, &processor);
    if (ft__ok(c)) ft__folder_tokenizer(m, folder);
    ft__release(c, path);
    ft__json_free(c, json);
    return c->status;
}

ft_status ft_load(ft_model *m, const char *path, ft_load_options options)
{
    ft__context *c;
    if (!ft__usable(m)) return ft__status_of(m);
    c = &m->context;
    if (m->node_count > 0)
        return ft__fail(c, FT_INVALID, "ft_load: the model already has a network; use"
                        " ft_load_weights to load weights into it");
    if (path && !options.weights.memory && ft__is_folder(c, path))
        ft__load_folder(m, path, options);
    else ft__load_file(m, path, options);
    if (!ft__ok(c)) ft__clear_graph(m); /* leave no half-built network */
    return c->status;
}

ft_status ft_load_graph(ft_model *m, const char *path, ft_graph_options options)
{
    ft__context *c;
    ft_file *file;
    if (!ft__usable(m)) return ft__status_of(m);
    c = &m->context;
    if (m->node_count > 0)
        return ft__fail(c, FT_INVALID, "ft_load_graph: the model already has a network");
    file = ft__open_graph(m, path, options);
    if (!file) return c->status;
    ft__load_graph(m, ft__file_graph(file), NULL, file->path);
    ft__keep_config(m, file);
    ft__take_tokenizer(m, ft_file_metadata(file, ft__tokenizer_key), file->path);
    ft_file_close(file);
    if (!ft__ok(c)) ft__clear_graph(m);
    return c->status;
}

const char *ft_graph_text(ft_model *m)
{
    if (!ft__usable(m) || !FT__HAS(m, SAVING)) return NULL;
    ft__release(&m->context, m->graph_text);
    m->graph_text = NULL;
    if (m->node_count == 0)
        ft__fail(&m->context, FT_INVALID, "ft_graph_text: the model is empty: load or build a"
                 " network first");
    if (ft__check_describable(m, "ft_graph_text") == FT_OK) m->graph_text = ft__graph_text(m, true);
    return m->graph_text;
}

ft_status ft_load_weights(ft_model *m, const char *path, ft_weights_options options)
{
    ft_file *file;
    if (!ft__usable(m)) return ft__status_of(m);
    if (ft__refuse_any_shared(m, "ft_load_weights") != FT_OK) return m->context.status;
    file = ft_file_open(m, path, options);
    if (!file) return m->context.status;
    ft__find_prefix(file);
    ft__say_unused_rules(file, options.rename);
    ft__load_weights(m, file, file->path, options);
    ft_file_close(file);
    return m->context.status;
}

#if FT__HAS_KERAS && FT__HAS_SAVING
/* Marks the nodes that the output needs. */
static char *ft__marked_for_output(ft__context *c, const ft_model *m)
{
    char *marked = (char *)ft__allocate(c, (size_t)m->node_count + 1, 1);
    int at, i;
    if (marked) marked[m->output.id] = 1;
    for (at = m->node_count - 1; marked && at >= 0; --at) {
        const ft__node *node = &m->nodes[m->order[at] - 1];
        for (i = 0; marked[m->order[at]] && i < node->input_count; ++i)
            marked[node->inputs[i]] = 1;
    }
    return marked;
}

/* What a node computes, as in descriptions. */
static char *ft__node_text(ft__context *c, const ft_model *m, const ft__node *node)
{
    ft__node plain = *node;
    ft__text text;
    memset(&text, 0, sizeof text);
    text.context = c;
    plain.frozen = false;
    plain.initialiser = FT_INIT_DEFAULT;
    plain.fan_in = plain.fan_out = 0;
    ft__write_node(m, &text, &plain, false);
    return text.letters;
}

/* Fails unless the output of m is computed as that of `other`, which was built from its config of
   Keras. */
static void ft__compare_with_config(ft_model *m, const ft_model *other, const char *path)
{
    ft__context *c = &m->context;
    char *ours = ft__marked_for_output(c, m), *theirs = ft__marked_for_output(c, other), *a, *b;
    const char *name = NULL;
    int id;
    for (id = 1; ft__ok(c) && !name && id <= other->node_count; ++id) {
        const ft__node *node = &other->nodes[id - 1];
        ft_node same = ft__find_node(m, node->name);
        if (!theirs[id]) continue;
        if (!same.id || !ours[same.id]) name = node->name;
        else {
            a = ft__node_text(c, m, &m->nodes[same.id - 1]);
            b = ft__node_text(c, other, node);
            if (ft__ok(c) && strcmp(a, b) != 0) name = node->name;
            ours[same.id] = 0;
            ft__release(c, b);
            ft__release(c, a);
        }
    }
    for (id = 1; ft__ok(c) && !name && id <= m->node_count; ++id)
        if (ours[id]) name = m->nodes[id - 1].name;
    if (name)
        ft__fail(c, FT_UNSUPPORTED, "%s: the network is no longer the one of its Keras config, at"
                 " %.200s: name it .safetensors", path, name);
    ft__release(c, theirs);
    ft__release(c, ours);
}

static void *ft__allocate_in(void *user, size_t bytes, size_t alignment)
{
    (void)alignment; /* blocks are aligned for vectors */
    return ft__allocate((ft__context *)user, bytes, 1);
}

static void ft__release_in(void *user, void *memory, size_t bytes)
{
    (void)bytes;
    ft__release((ft__context *)user, memory);
}

/* Fails unless the network is that of its config of Keras, but for the size of its head: the file
   would hold another one. */
static void ft__check_config(ft_model *m, const char *path)
{
    ft__context *c = &m->context;
    const char **pairs = (const char **)ft__allocate(c, 2 * (size_t)m->note_count + 2,
                                                     sizeof *pairs);
    int count = 0;
    char *config = NULL, *described = NULL;
    const char *version;
    ft_model *other;
    ft__keras g;
    ft_desc desc;
    if (pairs) ft__add_notes(m, pairs, &count);
    if (pairs && ft__keras_check_writable(c, path, pairs, count) == FT_OK)
        config = ft__keras_config_for(c, path, ft__keras_pair(pairs, count, ft__keras_config_key),
                                      ft__keras_model_wants, m);
    if (config) {
        version = ft__keras_pair(pairs, count, ft__keras_version_key);
        described = ft__keras_map_config(&g, c, path, config, NULL, version);
        ft__keras_forget_config(&g);
    }
    if (described) {
        memset(&desc, 0, sizeof desc);
        desc.threads = 1;
        desc.allocator.user = c;
        desc.allocator.allocate = ft__allocate_in;
        desc.allocator.release = ft__release_in;
        other = ft_create(desc);
        if (other) {
            other->values_follow = other->memory_follows = true;
            if (ft__load_graph(other, described, NULL, path) == FT_OK)
                ft__compare_with_config(m, other, path);
            else ft__fail(c, other->context.status, "%s", other->context.text);
        }
        ft_destroy(other);
    }
    ft__release(c, described);
    ft__release(c, config);
    ft__release(c, (void *)(uintptr_t)pairs);
}
#endif

/* What ft_check_save and ft_save refuse alike; `what` names the caller's path. */
static ft_status ft__check_save(ft_model *m, const char *path, const char *what,
                                ft_save_options options)
{
    ft__context *c;
    if (!ft__usable(m) || !FT__HAS(m, SAVING)) return ft__status_of(m);
    c = &m->context;
    if (!ft__given(c, path, what)) return c->status;
    if (ft__check_written(c, path, &options, true) != FT_OK) return c->status;
    if (m->node_count == 0)
        return ft__fail(c, FT_INVALID, "%s: the model is empty: load or build a network first",
                        path);
    if (!options.weights_only && ft__check_describable(m, path) != FT_OK) return c->status;
#if FT__HAS_KERAS && FT__HAS_SAVING
    if (ft__writer_of(path)->holds == FT__HOLDS_KERAS) ft__check_config(m, path);
#endif
#if FT__HAS_ONNX
    if (ft__writer_of(path)->holds == FT__HOLDS_NODES) ft__onnx_check(m, path, &options);
#endif
    return c->status;
}

ft_status ft_check_save(ft_model *m, const char *path, ft_save_options options)
{
    return ft__check_save(m, path, "ft_check_save: the path", options);
}

ft_status ft_save(ft_model *m, const char *path, ft_save_options options)
{
    ft_type type = options.type == FT_F32 && !options.widen ? FT_OTHER : options.type;
    ft__file_content holds;
    if (ft__check_save(m, path, "ft_save: the path", options) != FT_OK) return ft__status_of(m);
    holds = ft__writer_of(path)->holds;
    if (holds == FT__HOLDS_KERAS) type = FT_F32;
    if (options.weights_only) return ft__write_weights(m, path, type);
#if FT__HAS_ONNX
    if (holds == FT__HOLDS_NODES) return ft__onnx_save(m, path, type, &options);
#endif
    return ft__write_model(m, path, type, NULL, false);
}
