#pragma once
#include "interface/types.h"
#include "platform/families.h"
#include "platform/context.h"
#include "basics/random.h"
#include "basics/strings.h"
#include "kernels/stored.h"
#include "nodes/nodes.h"
#include "nodes/storage.h"
#include "operators/table.h"
#include "operators/rows.h"
#include "optimizers/options.h"
#include "devices/device.h"
#include "graph/layout.h"
#include "graph/plan.h"
#include "formats/readers.h"
#include "formats/safetensors.h"
#include "formats/writers.h"
#include "formats/graphs.h"

/* =============================================================================================
   [SECTION] formats/model_files: Model files and checkpoints
   safetensors with the weights under their own names. The entry "finetune" of __metadata__ holds
   the network's description (formats/graphs), so that prediction needs one file; the entry
   "training" holds the settings of the last fit. A checkpoint is the same file with optimiser state
   added, and an entry "checkpoint" that says how far the run is.
   ============================================================================================= */
static const char ft__checkpoint_key[] = "checkpoint";
static const char ft__training_key[] = "training";
static const char ft__tokenizer_key[] = "tokenizer";
static const char ft__checksum_key[] = "checksum"; /* of a checkpoint */
enum { FT__CHECKPOINT_FORMAT = 2 };

/* ---- Writing ---- */

/* The tensors of a file that is being written; owns their names. */
typedef struct ft__tensor_list { ft__write_tensor *tensors; char **names; int count; }
    ft__tensor_list;

/* Has room for `most`; without memory the context has the error. */
static ft__tensor_list ft__tensor_list_make(ft__context *c, size_t most)
{
    ft__tensor_list list;
    list.tensors = (ft__write_tensor *)ft__allocate(c, most, sizeof *list.tensors);
    list.names = (char **)ft__allocate(c, most, sizeof *list.names);
    list.count = 0;
    return list;
}

static void ft__tensor_list_free(ft__context *c, ft__tensor_list *list)
{
    while (list->count > 0) ft__release(c, list->names[--list->count]);
    ft__release(c, list->names);
    ft__release(c, list->tensors);
}

/* Adds one tensor; the labels go before and after the node's name. */
static void ft__add_tensor(ft__context *c, ft__tensor_list *list, const ft__node *node,
                           const char *before, const char *after, ft__stored value, ft_type type)
{
    ft__write_tensor *t;
    char name[640];
    if (!value.at || !ft__ok(c)) return;
    snprintf(name, sizeof name, "%s%s%s", before, node->name, after);
    list->names[list->count] = ft__copy_text(c, name);
    if (!list->names[list->count]) return;
    t = &list->tensors[list->count];
    t->name = list->names[list->count];
    t->type = type;
    t->shape = node->shape;
    t->data = value;
    t->transposed = false;
    list->count += 1;
}

/* Adds a weight, its name after `before`, in a type, or FT_OTHER: in its own. The scales of int8
   follow as "<name>_scale" [rows, 1, ...]: PyTorch's product of both is the weight. */
static void ft__add_weight(ft__context *c, ft__tensor_list *list, const ft__node *node,
                           const char *before, ft_type type)
{
    size_t rows = (size_t)node->shape.size[0];
    int d;
    if (type == FT_OTHER) type = ft__value_type(node);
    ft__add_tensor(c, list, node, before, "", ft__stored_of(node), type);
    if (ft__ok(c) && ft__transposed_as(node, type)) {
        list->tensors[list->count - 1].shape = ft__shape_in_file(node, type);
        list->tensors[list->count - 1].transposed = true;
    }
    if (type != FT_I8) return;
    ft__add_tensor(c, list, node, before, ft__scale_suffix, ft__floats(node->stored.scale, rows),
                   FT_F32);
    for (d = 1; ft__ok(c) && d < node->shape.rank; ++d)
        list->tensors[list->count - 1].shape.size[d] = 1;
}

static ft_status ft__tensor_list_write(ft__context *c, const ft__writer *writer, const char *path,
                                       const ft__tensor_list *list, const char *const *pairs,
                                       int pair_count)
{
    if (!ft__ok(c)) return c->status;
    return writer->write(c, path, list->tensors, list->count, pairs, pair_count);
}

static const char *const ft__state_labels[] = {"optimizer.moment1/", "optimizer.moment2/", "kept/",
                                               "average/", "start/"};
enum { FT__STATE_MOMENTS = 2, FT__STATE_KEPT = 2, FT__STATE_START = 4, FT__STATES = 5 };

static float **ft__state_of(ft__node *node, int which)
{
    return which == 0 ? &node->moment1 : which == 1 ? &node->moment2
        : which == FT__STATE_KEPT ? &node->kept
        : which == FT__STATE_START ? &node->start : &node->average;
}

static ft_shape ft__state_shape(const ft_model *m, const ft__node *node, int which)
{
    ft_shape shape = node->shape;
    if (which < FT__STATE_MOMENTS) ft__moment_shape(m, node, which, &shape);
    return shape;
}

/* Adds a node's state of training, if it has it. */
static void ft__add_state(ft_model *m, ft__tensor_list *list, ft__node *node, int which)
{
    ft_shape shape = ft__state_shape(m, node, which);
    float *state = *ft__state_of(node, which);
    if (!state) return;
    ft__add_tensor(&m->context, list, node, ft__state_labels[which], "",
                   ft__floats(state, ft__shape_count(&shape)), FT_F32);
    if (ft__ok(&m->context)) list->tensors[list->count - 1].shape = shape;
}

static void ft__add_text_pair(const char **pairs, int *count, const char *key, const char *text)
{
    if (!text) return;
    pairs[2 * *count] = key;
    pairs[2 * *count + 1] = text;
    *count += 1;
}

/* Adds the loaded file's own notes: its source, its licence. */
static void ft__add_notes(const ft_model *m, const char **pairs, int *count)
{
    const char *key = m->notes.letters;
    int i;
    for (i = 0; i < m->note_count; ++i) {
        const char *text = key + strlen(key) + 1;
        ft__add_text_pair(pairs, count, key, text);
        key = text + strlen(text) + 1;
    }
}

/* Keeps a note for ft_save. If its network came from another file, that file's config of Keras is
   kept already. */
static void ft__keep_note(ft_model *m, const char *key, const char *text)
{
    m->notes.context = &m->context;
    if (FT__HAS_KERAS && (!text || ft__kept_note(m, key))) return;
    ft__text_add_bytes(&m->notes, key, strlen(key) + 1);
    ft__text_add_bytes(&m->notes, text, strlen(text) + 1);
    if (ft__ok(&m->context)) m->note_count += 1;
}

/* Keeps, for ft_save, the file's metadata that ft_save does not write itself. */
static void ft__keep_notes(ft_model *m, const ft_file *file)
{
    static const char *const own[] = {"format", ft__graph_key, ft__training_key, ft__tokenizer_key,
                                      ft__checkpoint_key, ft__checksum_key};
    int i;
    for (i = 0; i < file->metadata_count; ++i) {
        const ft__note *pair = &file->metadata[i];
        size_t k;
        for (k = 0; k < sizeof own / sizeof own[0] && strcmp(own[k], pair->key) != 0; ++k) {}
        if (k == sizeof own / sizeof own[0]) ft__keep_note(m, pair->key, pair->text);
    }
}

/* ---- A checkpoint's checksum: of its texts, and of the names and bytes of its tensors ---- */

static uint64_t ft__checksum_texts(const char *graph, const char *training, const char *tokenizer,
                                   const char *checkpoint)
{
    const char *texts[4];
    uint64_t sum = FT__CHECKPOINT_FORMAT;
    int i;
    texts[0] = graph;
    texts[1] = training;
    texts[2] = tokenizer;
    texts[3] = checkpoint;
    for (i = 0; i < 4; ++i) sum = ft__hash_text(sum, texts[i]);
    return sum;
}

/* As in the file, in pieces of 1024 bytes. */
static uint64_t ft__checksum_tensor(const ft__context *c, uint64_t sum, const ft__write_tensor *t)
{
    unsigned char piece[1024];
    size_t at = 0, bytes;
    while ((bytes = ft__tensor_piece(c, t, &at, piece, sizeof piece)) > 0)
        sum = ft__hash_bytes(sum, piece, bytes);
    return sum;
}

static uint64_t ft__checksum_bytes(uint64_t sum, const unsigned char *bytes, uint64_t count)
{
    uint64_t at, piece;
    for (at = 0; at < count; at += piece) {
        piece = count - at < 1024 ? count - at : 1024;
        sum = ft__hash_bytes(sum, bytes + at, (size_t)piece);
    }
    return sum;
}

static void ft__checksum_text(uint64_t sum, char text[20])
{
    snprintf(text, 20, "%08lx%08lx", (unsigned long)(sum >> 32),
             (unsigned long)(sum & 0xffffffffu));
}

static bool ft__checkpoint_is_sound(const ft_file *file)
{
    const char *has = ft_file_metadata(file, ft__checksum_key);
    uint64_t sum = ft__checksum_texts(ft_file_metadata(file, ft__graph_key),
                                      ft_file_metadata(file, ft__training_key),
                                      ft_file_metadata(file, ft__tokenizer_key),
                                      ft_file_metadata(file, ft__checkpoint_key));
    char want[20];
    int i;
    for (i = 0; i < file->count; ++i) {
        const ft_tensor_info *t = &file->tensors[i];
        sum = ft__hash_bytes(sum, t->name, strlen(t->name));
        sum = ft__checksum_bytes(sum, file->bytes + t->offset, t->bytes);
    }
    ft__checksum_text(sum, want);
    return has && !strcmp(has, want);
}

/* Whether the network can be described in a file: an operator of ft_custom cannot. */
static ft_status ft__check_describable(ft_model *m, const char *path)
{
    int i;
    for (i = 0; i < m->node_count; ++i)
        if (ft__is(&m->nodes[i], FT__CALLBACKS))
            return ft__fail(&m->context, FT_UNSUPPORTED, "%s: %s is an operator of ft_custom, which"
                            " no file can hold: save with ft_save_options.weights_only, and build"
                            " the network before ft_load_weights", path, m->nodes[i].name);
    return m->context.status;
}

/* Writes parameters and buffers alone, without the network. */
static ft_status ft__write_weights(ft_model *m, const char *path, ft_type type)
{
    ft__context *c = &m->context;
    ft__tensor_list list = ft__tensor_list_make(c, 2 * (size_t)m->node_count + 1); /* and scales */
    int at;
    ft__host_takes_weights(c, false);
    for (at = 0; ft__ok(c) && at < m->node_count; ++at)
        if (ft__is_weight(&m->nodes[m->order[at] - 1]))
            ft__add_weight(c, &list, &m->nodes[m->order[at] - 1], "", type);
    ft__tensor_list_write(c, ft__writer_of(path), path, &list, NULL, 0);
    ft__tensor_list_free(c, &list);
    return c->status;
}

/* Writes the model, with its weights in this type, or FT_OTHER: each in its own. With `checkpoint`,
   also that text and the state of training, as safetensors whatever the path's end. */
static ft_status ft__write_model(ft_model *m, const char *path, ft_type type,
                                 const char *checkpoint, bool kept)
{
    ft__context *c = &m->context;
    ft__tensor_list list = ft__tensor_list_make(c, (2 + FT__STATES) * (size_t)m->node_count + 1);
    const ft__writer *writer = checkpoint ? &ft__writers[FT__SAFETENSORS_WRITER]
        : ft__writer_of(path);
    bool of_keras = writer->holds == FT__HOLDS_KERAS; /* constants in the description */
    char *graph = ft__graph_text(m, of_keras);
    const char **metadata = (const char **)ft__allocate(c, 10 + 2 * (size_t)m->note_count,
                                                        sizeof *metadata);
    int pairs = 0, at, i;
    char checksum[20];
    uint64_t sum = ft__checksum_texts(graph, m->training, m->tokenizer_text, checkpoint);
    ft__host_takes_weights(c, false);
    for (at = 0; ft__ok(c) && at < m->node_count; ++at) {
        ft__node *node = &m->nodes[m->order[at] - 1];
        if (checkpoint && ft__is_state(node)) { /* so that a stream can resume midway */
            ft_shape shape = ft__with_extent(node->shape, ft__extent_of(m, m->batch));
            ft__add_tensor(c, &list, node, "", "",
                           ft__floats(node->value, ft__shape_count(&shape)), FT_F32);
            if (ft__ok(c)) list.tensors[list.count - 1].shape = shape;
        }
        if (!ft__is_weight(node) || (of_keras && ft__is_constant(node))) continue;
        ft__add_weight(c, &list, node, "", type);
        for (i = 0; checkpoint && i < FT__STATES; ++i)
            if (i != FT__STATE_KEPT || kept) ft__add_state(m, &list, node, i);
    }
    if (metadata) {
        ft__add_text_pair(metadata, &pairs, ft__graph_key, graph);
        ft__add_text_pair(metadata, &pairs, ft__training_key, m->training);
        ft__add_text_pair(metadata, &pairs, ft__tokenizer_key, m->tokenizer_text);
        ft__add_text_pair(metadata, &pairs, ft__checkpoint_key, checkpoint);
        for (i = 0; checkpoint && i < list.count; ++i) {
            sum = ft__hash_bytes(sum, list.tensors[i].name, strlen(list.tensors[i].name));
            sum = ft__checksum_tensor(c, sum, &list.tensors[i]);
        }
        ft__checksum_text(sum, checksum);
        ft__add_text_pair(metadata, &pairs, ft__checksum_key, checkpoint ? checksum : NULL);
        ft__add_notes(m, metadata, &pairs);
    }
    ft__tensor_list_write(c, writer, path, &list, metadata, pairs);
    ft__release(c, (void *)(uintptr_t)metadata);
    ft__release(c, graph);
    ft__tensor_list_free(c, &list);
    return c->status;
}
