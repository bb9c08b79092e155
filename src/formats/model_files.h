#pragma once
#include "interface/requirements.h"
#include "interface/types.h"
#include "platform/context.h"
#include "basics/random.h"
#include "basics/strings.h"
#include "basics/json.h"
#include "kernels/stored.h"
#include "nodes/nodes.h"
#include "nodes/storage.h"
#include "operators/table.h"
#include "operators/adding.h"
#include "operators/rows.h"
#include "devices/device.h"
#include "graph/layout.h"
#include "graph/plan.h"
#include "graph/settings.h"
#include "formats/readers.h"
#include "formats/safetensors.h"
#include "formats/tensor_files.h"
#include "formats/weights.h"

/* =============================================================================================
   [SECTION] formats/model_files: Model files and checkpoints
   safetensors with the weights under their own names. The entry "finetune" of __metadata__ holds
   the graph, class names and preprocessing as JSON, so that prediction needs one file; the entry
   "training" holds the settings of the last fit. A checkpoint is the same file with optimiser state
   added, and an entry "checkpoint" that says how far the run is.
   Nodes are written and numbered in the order of execution, so that a file's bytes depend on the
   network, not on the order in which it was built.
   ============================================================================================= */
static const char ft__checkpoint_key[] = "checkpoint";
static const char ft__training_key[] = "training";
static const char ft__tokenizer_key[] = "tokenizer";
static const char ft__checksum_key[] = "checksum"; /* of a checkpoint */
enum { FT__FILE_FORMAT = 1, FT__CHECKPOINT_FORMAT = 2 };

/* ---- Writing ---- */

static void ft__write_sizes(ft__text *text, const char *key, const int *sizes, int count)
{
    int i;
    ft__text_add(text, ",\"%s\":[", key);
    for (i = 0; i < count; ++i) ft__text_add(text, "%s%d", i ? "," : "", sizes[i]);
    ft__text_add(text, "]");
}

static void ft__write_field(ft__text *text, const ft__field *field, const ft__options *options)
{
    const char *at = (const char *)options + field->offset;
    int i, integer;
    float number;
    bool yes;
    ft__text_add(text, ",\"%s\":[", field->name);
    for (i = 0; i < field->count; ++i) {
        if (i) ft__text_add(text, ",");
        if (field->kind == 'i') {
            memcpy(&integer, at + (size_t)i * sizeof integer, sizeof integer);
            ft__text_add(text, "%d", integer);
        } else if (field->kind == 'f') {
            memcpy(&number, at + (size_t)i * sizeof number, sizeof number);
            ft__json_add_float(text, number);
        } else {
            memcpy(&yes, at + (size_t)i * sizeof yes, sizeof yes);
            ft__text_add(text, "%d", yes ? 1 : 0);
        }
    }
    ft__text_add(text, "]");
}

static void ft__write_node(const ft_model *m, ft__text *text, const ft__node *node,
                           const int *number)
{
    const ft__field *field = ft__rows[node->op]->fields;
    int i;
    ft__text_add(text, "{\"op\":\"%s\",\"name\":", ft__rows[node->op]->name);
    ft__json_add_text(text, node->name);
    if (ft__is_leaf(node)) {
        if (ft__is_input(node)) ft__text_add(text, ",\"type\":\"%s\"",
                                                   ft__type_names[node->type]);
        ft__write_sizes(text, "shape", node->shape.size, node->shape.rank);
    }
    if (node->frozen) ft__text_add(text, ",\"frozen\":true");
    if (node->initialiser) ft__text_add(text, ",\"initialiser\":%d", (int)node->initialiser);
    if (node->fan_in || node->fan_out) ft__text_add(text, ",\"fan\":[%d,%d]", node->fan_in,
                                                    node->fan_out);
    if (node->input_count) {
        ft__text_add(text, ",\"inputs\":[");
        for (i = 0; i < node->input_count; ++i)
            ft__text_add(text, "%s%d", i ? "," : "", number[node->inputs[i] - 1]);
        ft__text_add(text, "]");
    }
    for (; field->name; ++field) ft__write_field(text, field, &node->options);
    ft__text_add(text, "}");
    (void)m;
}

static void ft__write_preprocessing(ft__text *text, const ft_preprocessing *p)
{
    int i;
    ft__text_add(text, "\"preprocessing\":{\"width\":%d,\"height\":%d,\"channels\":%d,"
                 "\"resize\":%d,\"mean\":[", p->width, p->height, p->channels, p->resize);
    for (i = 0; i < 4; ++i) {
        if (i) ft__text_add(text, ",");
        ft__json_add_float(text, p->mean[i]);
    }
    ft__text_add(text, "],\"std\":[");
    for (i = 0; i < 4; ++i) {
        if (i) ft__text_add(text, ",");
        ft__json_add_float(text, p->std[i]);
    }
    ft__text_add(text, "]}");
}

/* Returns the graph as JSON, for the caller to release; NULL with an error. */
static char *ft__graph_text(ft_model *m)
{
    ft__context *c = &m->context;
    ft__text text;
    int *number = (int *)ft__allocate(c, (size_t)m->node_count + 1, sizeof *number);
    int at, count = 0, i;
    memset(&text, 0, sizeof text);
    text.context = c;
    if (!number) return NULL;
    for (at = 0; at < m->node_count; ++at)
        number[m->order[at] - 1] = m->nodes[m->order[at] - 1].op ? count++ : -1;
    ft__text_add(&text, "{\"format\":%d,\"version\":\"%s\",\"architecture\":", FT__FILE_FORMAT,
                 FINETUNE_VERSION);
    ft__json_add_text(&text, m->architecture);
    ft__text_add(&text, ",\"keras_initialisers\":%s,\"nodes\":[", m->keras_initialisers ? "true"
                                                                                      : "false");
    for (at = 0; at < m->node_count; ++at) {
        const ft__node *node = &m->nodes[m->order[at] - 1];
        if (!node->op) continue;
        if (number[m->order[at] - 1]) ft__text_add(&text, ",");
        ft__write_node(m, &text, node, number);
    }
    ft__text_add(&text, "]");
    if (m->max_length) ft__text_add(&text, ",\"max_length\":%d", m->max_length);
    ft__text_add(&text, ",\"output\":%d,\"loss\":%d,\"classes\":[",
                 m->output.id ? number[m->output.id - 1] : -1,
                 m->loss.id ? number[m->loss.id - 1] : -1);
    for (i = 0; i < m->class_count; ++i) {
        if (i) ft__text_add(&text, ",");
        ft__json_add_text(&text, m->class_names[i]);
    }
    ft__text_add(&text, "],");
    ft__write_preprocessing(&text, &m->preprocessing);
    ft__text_add(&text, "}");
    ft__release(c, number);
    if (ft__ok(c)) return text.letters;
    ft__release(c, text.letters);
    return NULL;
}

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
    list->count += 1;
}

/* Adds a weight in a type, or FT_OTHER: in its own. The scales of int8 follow as "<name>_scale"
   [rows, 1, ...]: PyTorch's product of both is the weight. */
static void ft__add_weight(ft__context *c, ft__tensor_list *list, const ft__node *node,
                           ft_type type)
{
    size_t rows = (size_t)node->shape.size[0];
    int d;
    if (type == FT_OTHER) type = ft__value_type(node);
    ft__add_tensor(c, list, node, "", "", ft__stored_of(node), type);
    if (type != FT_I8) return;
    ft__add_tensor(c, list, node, "", ft__scale_suffix, ft__floats(node->stored.scale, rows),
                   FT_F32);
    for (d = 1; ft__ok(c) && d < node->shape.rank; ++d)
        list->tensors[list->count - 1].shape.size[d] = 1;
}

static ft_status ft__tensor_list_write(ft__context *c, const char *path,
                                       const ft__tensor_list *list, const char *const *pairs,
                                       int pair_count)
{
    if (!ft__ok(c)) return c->status;
    return ft__safetensors_write(c, path, list->tensors, list->count, pairs, pair_count);
}

static const char *const ft__state_labels[] = {"optimizer.moment1/", "optimizer.moment2/", "kept/"};

static float **ft__state_of(ft__node *node, int which)
{
    return which == 0 ? &node->moment1 : which == 1 ? &node->moment2 : &node->kept;
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

/* Keeps, for ft_save, the file's metadata that ft_save does not write itself. */
static void ft__keep_notes(ft_model *m, const ft_file *file)
{
    static const char *const own[] = {"format", ft__graph_key, ft__training_key, ft__tokenizer_key,
                                      ft__checkpoint_key, ft__checksum_key};
    int i;
    m->notes.context = &m->context;
    for (i = 0; i < file->metadata_count; ++i) {
        const ft__note *pair = &file->metadata[i];
        size_t k;
        for (k = 0; k < sizeof own / sizeof own[0] && strcmp(own[k], pair->key) != 0; ++k) {}
        if (k < sizeof own / sizeof own[0]) continue;
        ft__text_add_bytes(&m->notes, pair->key, strlen(pair->key) + 1);
        ft__text_add_bytes(&m->notes, pair->text, strlen(pair->text) + 1);
        if (ft__ok(&m->context)) m->note_count += 1;
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
    for (i = 0; i < 4; ++i)
        sum = ft__hash_bytes(sum, texts[i] ? texts[i] : "", texts[i] ? strlen(texts[i]) : 0);
    return sum;
}

/* As in the file, in pieces of 1024 bytes. */
static uint64_t ft__checksum_tensor(const ft__context *c, uint64_t sum, const ft__write_tensor *t)
{
    unsigned char piece[1024];
    size_t count = ft__shape_count(&t->shape), width = (size_t)ft__type_bytes[t->type], i, some;
    for (i = 0; i < count; i += some) {
        some = count - i < sizeof piece / width ? count - i : sizeof piece / width;
        ft__tensor_bytes(c, t, i, some, piece);
        sum = ft__hash_bytes(sum, piece, some * width);
    }
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
            ft__add_weight(c, &list, &m->nodes[m->order[at] - 1], type);
    ft__tensor_list_write(c, path, &list, NULL, 0);
    ft__tensor_list_free(c, &list);
    return c->status;
}

/* Writes the model, with its weights in this type, or FT_OTHER: each in its own. With `checkpoint`,
   also that text and the state of training. */
static ft_status ft__write_model(ft_model *m, const char *path, ft_type type,
                                 const char *checkpoint, bool kept)
{
    ft__context *c = &m->context;
    ft__tensor_list list = ft__tensor_list_make(c, 5 * (size_t)m->node_count + 1);
    char *graph = ft__graph_text(m);
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
        if (!ft__is_weight(node)) continue;
        ft__add_weight(c, &list, node, type);
        for (i = 0; checkpoint && i < (kept ? 3 : 2); ++i)
            ft__add_tensor(c, &list, node, ft__state_labels[i], "",
                           ft__floats(*ft__state_of(node, i), ft__node_count_at(node, ft__one)),
                           FT_F32);
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
    ft__tensor_list_write(c, path, &list, metadata, pairs);
    ft__release(c, (void *)(uintptr_t)metadata);
    ft__release(c, graph);
    ft__tensor_list_free(c, &list);
    return c->status;
}

/* ---- Reading: a graph comes from a file, so every number in it is checked ---- */

typedef struct ft__graph_reader {
    ft_model *m;
    ft_file *file;
    const char *path;
    ft__json *json;
    int *ids;               /* of the nodes made so far, by their number in the file */
    int count;
} ft__graph_reader;

static ft_status ft__graph_fault(ft__graph_reader *r, const char *what, const char *where)
{
    return ft__fail(&r->m->context, FT_FORMAT, "%s: damaged network description: %s %s", r->path,
                    what, where);
}

/* Reads up to `most` integers of a list; returns their count, or -1 if it is not such a list. */
static int ft__read_sizes(const ft__graph_reader *r, int list, int *sizes, int most)
{
    int count = ft__json_count(r->json, list), i;
    int64_t number;
    if (list < 0 || count > most) return -1;
    for (i = 0; i < count; ++i) {
        if (!ft__json_int(r->json, ft__json_element(r->json, list, i), &number)) return -1;
        if (number < INT_MIN || number > INT_MAX) return -1;
        sizes[i] = (int)number;
    }
    return count;
}

static bool ft__read_field(const ft__graph_reader *r, int node, const ft__field *field,
                           ft__options *options)
{
    int list = ft__json_member(r->json, node, field->name), i;
    char *at = (char *)options + field->offset;
    if (list < 0) return true; /* written by an older version: the default */
    if (ft__json_count(r->json, list) != field->count) return false;
    for (i = 0; i < field->count; ++i) {
        int element = ft__json_element(r->json, list, i);
        double number;
        if (!ft__json_double(r->json, element, &number)) return false;
        if (field->kind == 'f') {
            float value = (float)number;
            memcpy(at + (size_t)i * sizeof value, &value, sizeof value);
        } else if (!(number >= -1e9 && number <= 1e9)) return false;
        else if (field->kind == 'i') {
            int value = (int)number;
            memcpy(at + (size_t)i * sizeof value, &value, sizeof value);
        } else {
            bool value = number != 0;
            memcpy(at + (size_t)i * sizeof value, &value, sizeof value);
        }
    }
    return true;
}

static ft_node ft__read_leaf(ft__graph_reader *r, int node, int op, const char *name)
{
    ft__context *c = &r->m->context;
    ft_node made = ft__add_node(r->m, ft__rows[op], name, NULL, 0, NULL, 0), none = {0};
    ft__node *leaf = ft__get_node(r->m, made);
    const char *type = ft__json_string(r->json, ft__json_member(r->json, node, "type"));
    ft_tensor_info info;
    int index, d;
    if (!leaf) return none;
    leaf->shape.rank = ft__read_sizes(r, ft__json_member(r->json, node, "shape"), leaf->shape.size,
                                      FINETUNE_MAX_RANK);
    if (type && strcmp(type, ft__type_names[FT_I32]) == 0) leaf->type = FT_I32;
    for (d = 0; d < leaf->shape.rank; ++d)
        if (leaf->shape.size[d] < 1
            && !(d == 0 && ft__has_rows(leaf))
            && !(ft__is_input(leaf) && leaf->shape.size[d] == FT_LENGTH))
            leaf->shape.rank = -1;
    if (leaf->shape.rank < 1) {
        leaf->shape.rank = 0;
        ft__graph_fault(r, "wrong shape of", name);
        return none;
    }
    if (ft__has_rows(leaf)) {
        leaf->shape.size[0] = FT_BATCH;
        return made;
    }
    /* Allocate only for tensors that the file really has. */
    index = ft_file_find(r->file, name);
    if (index < 0) {
        ft__fail(c, FT_FORMAT, "%s: the weight %s is missing", r->path, name);
        return none;
    }
    info = ft_file_tensor(r->file, index);
    if (info.type == FT_OTHER)
        ft__graph_fault(r, "a tensor that cannot be read as numbers:", name);
    if (!ft__same_sizes(&info.shape, &leaf->shape)) {
        ft__graph_fault(r, "the stored tensor has another shape:", name);
        return none;
    }
    if (!r->m->memory_follows || !ft__may_be_stored(leaf))
        leaf->value = (float *)ft__allocate(c, ft__node_count_at(leaf, ft__one), sizeof(float));
    return made;
}

static ft_node ft__read_operator(ft__graph_reader *r, int node, int op, const char *name)
{
    const ft__field *field = ft__rows[op]->fields;
    int list = ft__json_member(r->json, node, "inputs"), count, i, at;
    ft_node *inputs, made = {0};
    ft__options options;
    int64_t number;
    memset(&options, 0, sizeof options);
    for (; field->name; ++field)
        if (!ft__read_field(r, node, field, &options)) ft__graph_fault(r, field->name, name);
    count = list < 0 ? 0 : ft__json_count(r->json, list);
    if (count < ft__rows[op]->least_inputs || count > ft__rows[op]->most_inputs)
        ft__graph_fault(r, "wrong number of inputs of", name);
    inputs = (ft_node *)ft__allocate(&r->m->context, (size_t)count + 1, sizeof *inputs);
    for (i = 0, at = list + 1; inputs && i < count; ++i, at = r->json->values[at].next) {
        if (ft__json_int(r->json, at, &number) && number >= 0 && number < r->count)
            inputs[i].id = r->ids[number];
        else ft__graph_fault(r, "an input does not come before", name);
    }
    if (inputs)
        made = ft__add_node(r->m, ft__rows[op], name, inputs, count, &options, sizeof options);
    ft__release(&r->m->context, inputs);
    return made;
}


static ft_status ft__read_node(ft__graph_reader *r, int node)
{
    const char *op_name = ft__json_string(r->json, ft__json_member(r->json, node, "op"));
    const char *name = ft__json_string(r->json, ft__json_member(r->json, node, "name"));
    int op, fans[2] = {0, 0};
    int64_t initialiser = 0;
    ft_node made;
    ft__node *added;
    op = op_name ? ft__op_named(op_name) : FT__OP_none;
    if (!name || !*name || op == FT__OP_none)
        return ft__graph_fault(r, "an unknown operator", op_name ? op_name : "");
    made = ft__rows[op]->flags & FT__LEAF ? ft__read_leaf(r, node, op, name)
                                          : ft__read_operator(r, node, op, name);
    added = ft__get_node(r->m, made);
    if (!added) return r->m->context.status;
    added->frozen = ft__json_true(r->json, ft__json_member(r->json, node, "frozen"));
    ft__json_int(r->json, ft__json_member(r->json, node, "initialiser"), &initialiser);
    ft__read_sizes(r, ft__json_member(r->json, node, "fan"), fans, 2);
    if (initialiser >= FT_INIT_DEFAULT && initialiser <= FT_INIT_ONES)
        added->initialiser = (ft_initialiser)initialiser;
    added->fan_in = fans[0] > 0 ? fans[0] : 0;
    added->fan_out = fans[1] > 0 ? fans[1] : 0;
    r->ids[r->count++] = made.id;
    return r->m->context.status;
}

static void ft__read_preprocessing(ft__graph_reader *r, int value)
{
    static const char *const names[] = {"width", "height", "channels", "resize"};
    ft_preprocessing p;
    int64_t number;
    double share;
    int i, mean = ft__json_member(r->json, value, "mean");
    int std = ft__json_member(r->json, value, "std");
    int *to[4];
    memset(&p, 0, sizeof p);
    to[0] = &p.width;
    to[1] = &p.height;
    to[2] = &p.channels;
    to[3] = &p.resize;
    for (i = 0; i < 4; ++i) {
        if (ft__json_int(r->json, ft__json_member(r->json, value, names[i]), &number)
            && number >= 0 && number <= 65535) *to[i] = (int)number;
        else ft__graph_fault(r, "preprocessing:", names[i]);
        if (ft__json_double(r->json, ft__json_element(r->json, mean, i), &share))
            p.mean[i] = (float)share;
        if (ft__json_double(r->json, ft__json_element(r->json, std, i), &share))
            p.std[i] = (float)share;
    }
    if (p.channels > 4) ft__graph_fault(r, "preprocessing:", "channels");
    if (p.width > 0) ft_set_preprocessing(r->m, p);
}

/* The node that the file names as output or loss; if it is -1 or missing, there is none. */
static ft_node ft__read_id(ft__graph_reader *r, int root, const char *key)
{
    ft_node node = {0};
    int64_t number = -1;
    int value = ft__json_member(r->json, root, key);
    const ft__node *named;
    if (value >= 0 && !ft__json_int(r->json, value, &number)) number = r->count;
    if (number < -1 || number >= r->count)
        ft__graph_fault(r, "no node has the number given for the", key);
    if (number < 0 || number >= r->count) return node;
    node.id = r->ids[number];
    named = ft__get_node(r->m, node);
    if (!ft__is_leaf(named)) return node;
    ft__fail(&r->m->context, FT_FORMAT, "%s: damaged network description: the %s is %.200s, which"
             " is an input or a weight, not the result of an operator", r->path, key, named->name);
    node.id = 0;
    return node;
}

static void ft__read_classes(ft__graph_reader *r, int list)
{
    ft__context *c = &r->m->context;
    int count = ft__json_count(r->json, list), i, k = 0;
    const char **names;
    if (count == 0 || !ft__ok(c)) return;
    names = (const char **)ft__allocate(c, (size_t)count, sizeof *names);
    for (i = list + 1; names && i < r->json->values[list].next; i = r->json->values[i].next) {
        const char *name = ft__json_string(r->json, i);
        names[k++] = name ? name : "";
    }
    if (names) ft_set_class_names(r->m, count, names);
    ft__release(c, (void *)(uintptr_t)names);
}

static ft_status ft__read_graph(ft__graph_reader *r)
{
    ft_model *m = r->m;
    ft__context *c = &m->context;
    int nodes = ft__json_member(r->json, 0, "nodes"), count = ft__json_count(r->json, nodes), i;
    const char *architecture = ft__json_string(r->json,
                                               ft__json_member(r->json, 0, "architecture"));
    int64_t format = 0, max_length = 0;
    ft_node output, loss;
    ft__json_int(r->json, ft__json_member(r->json, 0, "format"), &format);
    if (format != FT__FILE_FORMAT)
        return ft__fail(c, FT_FORMAT, "%s: a model file of format %lld, but this version reads"
                        " format %d", r->path, (long long)format, FT__FILE_FORMAT);
    r->ids = (int *)ft__allocate(c, (size_t)count + 1, sizeof *r->ids);
    for (i = nodes + 1; ft__ok(c) && nodes >= 0 && i < r->json->values[nodes].next;
         i = r->json->values[i].next) ft__read_node(r, i);
    if (!ft__ok(c)) return c->status;
    m->keras_initialisers = ft__json_true(r->json, ft__json_member(r->json, 0,
                                                                   "keras_initialisers"));
    output = ft__read_id(r, 0, "output");
    loss = ft__read_id(r, 0, "loss");
    if ((output.id && ft__is_leaf(&m->nodes[output.id - 1]))
        || (loss.id && ft__is_leaf(&m->nodes[loss.id - 1])))
        return ft__graph_fault(r, "the output or the loss is not the result of", "an operator");
    if (output.id) ft_set_output(m, output);
    if (loss.id) ft_set_loss(m, loss);
    if (architecture) ft__set_architecture(m, architecture);
    ft__read_preprocessing(r, ft__json_member(r->json, 0, "preprocessing"));
    if (ft__json_int(r->json, ft__json_member(r->json, 0, "max_length"), &max_length)) {
        if (max_length < 1 || max_length > INT_MAX) return ft__graph_fault(r, "max_length", "");
        m->max_length = (int)max_length;
    }
    ft__read_classes(r, ft__json_member(r->json, 0, "classes"));
    return c->status;
}

/* Rebuilds the network that a model file describes; its weights are loaded afterwards. */
static ft_status ft__load_graph(ft_model *m, const char *text, ft_file *file, const char *path)
{
    ft__context *c = &m->context;
    ft__graph_reader r;
    memset(&r, 0, sizeof r);
    r.m = m;
    r.file = file;
    r.path = path;
    r.json = ft__json_parse(c, text, strlen(text));
    if (!r.json) return ft__ok(c) ? ft__graph_fault(&r, "not JSON", "") : c->status;
    ft__read_graph(&r);
    if (ft__ok(c) && ft_file_metadata(file, ft__training_key))
        m->training = ft__copy_text(c, ft_file_metadata(file, ft__training_key));
    ft__release(c, r.ids);
    ft__json_free(c, r.json);
    return c->status;
}
