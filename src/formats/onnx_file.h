#pragma once
#include "interface/types.h"
#include "platform/families.h"
#include "platform/context.h"
#include "formats/readers.h"
#include "formats/protobuf.h"

/* =============================================================================================
   [SECTION] formats/onnx_file: What an ONNX file says
   An ONNX file is one protobuf message (onnx.proto): opsets, and a graph of nodes, initialisers,
   inputs and outputs. It is read here into arrays, as it stands; formats/onnx_values computes what
   is constant, and formats/onnx describes the network in our words. Every length is checked
   against its message, messages nest as far as these functions call each other, and each array has
   at most an element for each byte that was read.
   ============================================================================================= */
#if FT__HAS_ONNX
enum { FT__ONNX_RANK = 8, FT__ONNX_OLDEST = 7, FT__ONNX_NEWEST = 22 };

/* TensorProto.DataType */
enum { FT__ONNX_F32 = 1, FT__ONNX_I32 = 6, FT__ONNX_I64 = 7, FT__ONNX_BOOL = 9, FT__ONNX_F16 = 10,
       FT__ONNX_TYPES = 21 };

/* A size or a number that follows from sizes: k N^n L^l, with the batch N and the length L. */
typedef struct ft__onnx_number { double k; int n, l; } ft__onnx_number;

typedef struct ft__onnx_tensor {
    int value;              /* its name; -1: it has none */
    int type, rank;
    int64_t size[FT__ONNX_RANK];
    uint64_t count;         /* of its numbers */
    const unsigned char *data; /* they, little-endian */
    int shard;              /* the bytes that `data` lies in: see formats/onnx */
    int listed;             /* its place in the ft_file; -1: none */
    int made;               /* the weight that it became, from 1; 0: none yet */
    const char *fault;      /* why it cannot be read; NULL: it can */
} ft__onnx_tensor;

/* POSITIONS and ROW: rows of a table, those of the steps or the same one at each, until added. */
enum { FT__ONNX_UNKNOWN, FT__ONNX_CONSTANT, FT__ONNX_NODE, FT__ONNX_REFUSED, FT__ONNX_POSITIONS,
       FT__ONNX_ROW };

/* What a name stands for: at first nothing, or an initialiser. */
typedef struct ft__onnx_value {
    const char *name;
    int kind, type, rank;
    ft__onnx_number size[FT__ONNX_RANK];
    int tensor;             /* constant: its numbers are this tensor's; -1: they are computed, */
    bool turned;            /* ... with its two axes swapped */
    bool same;              /* constant: all are numbers[0] */
    ft__onnx_number *steps; /* constant that counts: the number at [i, j, ...] is numbers[0]
                               + i steps[0] + j steps[1] + ...; NULL: it does not */
    bool repeated;          /* constant: size[0] is N, but the numbers are those of each sample */
    ft__onnx_number *numbers; /* constant: NULL: not read from the tensor yet */
    int made, batch;        /* node: what computes it, and the axis that is the batch, ... */
    ft__onnx_number outer;  /* ... of outer x N x inner; 0: outer is 1 */
    int producer, uses;     /* the ONNX node that it comes from, -1: none; how often it is read */
} ft__onnx_value;

typedef struct ft__onnx_attribute {
    const char *name, *text;
    int64_t whole;
    float number;
    int64_t *wholes;        /* [count] */
    int count, tensor;
} ft__onnx_attribute;

typedef struct ft__onnx_node {
    const char *name, *op, *domain;
    int *inputs, *outputs;  /* values; -1: left out */
    int input_count, output_count, attribute_count;
    ft__onnx_attribute *attributes;
    bool needed;
} ft__onnx_node;

/* A node of our network: see formats/onnx_making. */
typedef struct ft__onnx_made {
    const char *op, *name, *fields; /* as in docs/networks.md; fields: "" or ,"key":value ... */
    int *inputs, count;     /* others that were made */
    bool used;
} ft__onnx_made;

typedef struct ft__onnx {
    ft_file *file;
    ft__onnx_node *nodes;
    ft__onnx_tensor *tensors;
    ft__onnx_value *values;
    int node_count, tensor_count, value_count, tensor_room, value_room;
    int *slots;             /* a hash table of the values' names: [slot_count] */
    int slot_count;
    int *inputs, *outputs;  /* values */
    int input_count, output_count;
    int64_t opset;
    uint64_t computed;      /* numbers of values that were computed */
    char *graph;            /* the description, once it was asked for */
    ft__onnx_made *made;    /* what describes it */
    int made_count, made_room;
    int ones, positions;    /* nodes [N, L] that were made, from 1: 1s, and 0, 1, 2, ...; 0: none */
    char refusals[700];     /* the nodes that cannot be mapped, and why */
    int refusal_count;
    double batch;           /* if the file has a fixed batch size: it; else 0 */
    int main_input;         /* the value that is called "input" or "tokens"; -1: none */
} ft__onnx;

/* ---- Fields of a message ---- */

/* The field's bytes as a text, for as long as the file is open; "" if they are no text. */
static const char *ft__proto_text(const ft__proto *p)
{
    uint64_t bytes = p->wire == 2 ? p->bytes : 0;
    char *text = (char *)ft__file_memory(p->file, (size_t)bytes + 1);
    if (!text || bytes == 0 || memchr(p->file->bytes + p->from, 0, (size_t)bytes)) return "";
    memcpy(text, p->file->bytes + p->from, (size_t)bytes);
    return text;
}

/* How often the message has a field, and how many bytes its runs have together. */
static size_t ft__proto_count(ft__proto p, int field, uint64_t *bytes)
{
    size_t count = 0;
    uint64_t sum = 0;
    while (ft__proto_next(&p))
        if (p.field == field) {
            count += 1;
            if (p.wire == 2) sum += p.bytes;
        }
    if (bytes) *bytes = sum;
    return count;
}

/* The next number of a field, which stand one by one or packed: each in `bytes` bytes, 0: a varint.
   `run`, zero at first: the rest of the packed ones. False after the last one, or with an error. */
static bool ft__proto_number(ft__proto *p, int field, int bytes, ft__proto *run, uint64_t *number)
{
    while (run->at >= run->end || run->end - run->at < (uint64_t)bytes) {
        do {
            if (!ft__proto_next(p)) return false;
        } while (p->field != field);
        *number = p->number;
        if (p->wire != 2) return true;
        *run = ft__proto_inside(p);
    }
    if (bytes == 0) *number = ft__proto_varint(run);
    else *number = ft__little_endian(run->file->bytes + run->at, bytes);
    run->at += (uint64_t)bytes;
    return ft__ok(p->file->context);
}

/* The numbers of a field; *count: how many. */
static int64_t *ft__proto_wholes(ft__proto p, int field, int *count)
{
    uint64_t bytes;
    size_t most = ft__proto_count(p, field, &bytes);
    int64_t *wholes;
    uint64_t number;
    ft__proto run = ft__proto_message(p.file, 0, 0);
    *count = 0;
    most += (size_t)bytes;
    if (most > INT_MAX / 16) {
        ft__proto_fault(&p, "too many numbers");
        return NULL;
    }
    wholes = (int64_t *)ft__file_memory(p.file, (most + 1) * sizeof *wholes);
    while (wholes && ft__proto_number(&p, field, 0, &run, &number))
        wholes[(*count)++] = (int64_t)number;
    return wholes;
}

/* A list with room for one more: itself, or a copy of twice the room. NULL with an error. */
static void *ft__onnx_grown(ft__onnx *x, void *list, int count, int *room, size_t element)
{
    int more = *room ? 2 * *room : 64;
    void *grown;
    if (count < *room) return list;
    grown = ft__file_memory(x->file, (size_t)more * element);
    if (!grown || more > INT_MAX / 4) return NULL;
    if (count) memcpy(grown, list, (size_t)count * element);
    *room = more;
    return grown;
}

/* ---- Names ---- */

/* Where the hash table has the value of this name, or would have it. */
static int *ft__onnx_slot(const ft__onnx *x, const char *name)
{
    const char *letter = name;
    uint32_t hash = 2166136261u;
    size_t at;
    for (; *letter; ++letter) hash = (hash ^ (unsigned char)*letter) * 16777619u;
    at = hash % (uint32_t)x->slot_count;
    while (x->slots[at] && strcmp(x->values[x->slots[at] - 1].name, name) != 0)
        at = at + 1 == (size_t)x->slot_count ? 0 : at + 1;
    return &x->slots[at];
}

/* Adds a value that nothing is known of. */
static int ft__onnx_add_value(ft__onnx *x, const char *name)
{
    ft__onnx_value *values = (ft__onnx_value *)ft__onnx_grown(x, x->values, x->value_count,
                                                              &x->value_room, sizeof *values);
    int i;
    if (!values) return -1;
    x->values = values;
    if (x->slot_count < 2 * x->value_room) {
        int *slots = (int *)ft__file_memory(x->file, 2 * (size_t)x->value_room * sizeof *slots);
        if (!slots) return -1;
        x->slots = slots;
        x->slot_count = 2 * x->value_room;
        for (i = 0; i < x->value_count; ++i) *ft__onnx_slot(x, values[i].name) = i + 1;
    }
    memset(&values[x->value_count], 0, sizeof *values);
    values[x->value_count].name = name;
    values[x->value_count].tensor = values[x->value_count].producer = -1;
    *ft__onnx_slot(x, name) = x->value_count + 1;
    return ft__ok(x->file->context) ? x->value_count++ : -1;
}

/* The value of this name, which is new if it was not named before; -1: no name. */
static int ft__onnx_value_named(ft__onnx *x, const char *name)
{
    int found = *name && x->slot_count ? *ft__onnx_slot(x, name) - 1 : -1;
    return found >= 0 || !*name ? found : ft__onnx_add_value(x, name);
}

/* ---- Tensors ---- */

/* The file of this name, in the folder of this one or below, opened once. NULL with an error. */
static const ft_file *ft__onnx_beside(ft_file *file, const char *name, int *shard)
{
    char *path;
    const ft_file *found = NULL;
    int i;
    if (!*name || *name == '/' || strpbrk(name, "\\:") || strstr(name, "..")) {
        ft__fail(file->context, FT_FORMAT, "%s: its external data is in \"%.200s\"; the name of a"
                 " file in the same folder is expected", file->path, name);
        return NULL;
    }
    path = ft__shard_path(file->context, file->path, name);
    for (i = 1; path && i < file->shard_count && !found; ++i)
        if (file->shards[i]->path && strcmp(file->shards[i]->path, path) == 0)
            found = file->shards[*shard = i];
    if (path && !found) {
        found = ft__file_add_holder(file, path, NULL, 0);
        *shard = file->shard_count - 1;
    }
    ft__release(file->context, path);
    return found;
}

/* Bytes of a number; 0: a type that is not read. */
static int ft__onnx_type_bytes(int type)
{
    static const signed char bytes[FT__ONNX_TYPES] = {0, 4, 1, 1, 2, 2, 4, 8, 0, 1, 2, 8, 4, 8, 0,
                                                      0, 2, 1, 0, 1, 0};
    return type > 0 && type < FT__ONNX_TYPES ? bytes[type] : 0;
}

/* Numbers that do not stand as they lie in memory, but one by one: field `field`, of `bytes` bytes
   each once they are read. */
static const unsigned char *ft__onnx_unpack(ft__proto p, int field, uint64_t count, int bytes)
{
    unsigned char *to;
    uint64_t at = 0, number, all;
    ft__proto run = ft__proto_message(p.file, 0, 0);
    int width = field == 4 ? 4 : field == 10 ? 8 : 0, i;
    if (ft__proto_count(p, field, &all) + all < count) return NULL;
    to = (unsigned char *)ft__file_memory(p.file, (size_t)count * (size_t)bytes + 1);
    for (; to && at < count && ft__proto_number(&p, field, width, &run, &number); ++at)
        for (i = 0; i < bytes; ++i)
            to[at * (uint64_t)bytes + (uint64_t)i] = (unsigned char)(number >> 8 * i);
    return at == count ? to : NULL;
}

/* A file beside this one that has tensors: its name, and where in it. */
typedef struct ft__onnx_place_of { const char *file; int64_t offset, bytes; } ft__onnx_place_of;

static void ft__onnx_external(ft__proto p, ft__onnx_place_of *place)
{
    const char *key = "", *text = "";
    int64_t number = 0;
    for (; ft__proto_next(&p);) {
        if (p.field == 1) key = ft__proto_text(&p);
        if (p.field == 2) text = ft__proto_text(&p);
    }
    if (strcmp(key, "location") == 0) place->file = text;
    for (; *text >= '0' && *text <= '9' && number < INT64_MAX / 16; ++text)
        number = 10 * number + (*text - '0');
    if (strcmp(key, "offset") == 0) place->offset = number;
    if (strcmp(key, "length") == 0) place->bytes = number;
}

/* Finds where the numbers of a tensor are; `raw`: the bytes of its raw_data. */
static void ft__onnx_data(ft__onnx *x, ft__proto p, ft__onnx_tensor *t, const ft__proto *raw,
                          const ft__onnx_place_of *place)
{
    int bytes = ft__onnx_type_bytes(t->type);
    int field = t->type == FT__ONNX_F32 ? 4 : t->type == FT__ONNX_I64 ? 7 : t->type == 11 ? 10
        : t->type == 12 || t->type == 13 ? 11 : 5;
    if (!bytes) t->fault = "has numbers of a type that is not supported";
    else if (t->count > (uint64_t)SIZE_MAX / 16) t->fault = "is too large";
    else if (place->file) {
        const ft_file *other = ft__onnx_beside(x->file, place->file, &t->shard);
        uint64_t offset = (uint64_t)place->offset;
        if (other && offset <= other->size && t->count * (uint64_t)bytes <= other->size - offset)
            t->data = other->bytes + offset;
        else if (other) ft__fail(x->file->context, FT_FORMAT, "%s: the tensor of %llu bytes at"
                                 " offset %llu of %.200s goes past its end", x->file->path,
                                 (unsigned long long)(t->count * (uint64_t)bytes),
                                 (unsigned long long)offset, place->file);
    } else if (raw->field && raw->bytes == t->count * (uint64_t)bytes)
        t->data = x->file->bytes + raw->from;
    else if (!raw->field) {
        t->data = ft__onnx_unpack(p, field, t->count, bytes);
        t->shard = -1; /* in memory of its own */
    }
    if (!t->data && !t->fault) t->fault = "has not as many numbers as its shape";
}

/* Adds a TensorProto. `value`: the name that it gives a value to, -1: its own. Returns its number;
   -1 with an error. */
static int ft__onnx_read_tensor(ft__onnx *x, ft__proto message, int value)
{
    ft__proto p = message, raw;
    ft__onnx_place_of place = {NULL, 0, 0};
    const char *name = "";
    ft__onnx_tensor *t;
    int64_t *sizes;
    int rank, d;
    t = (ft__onnx_tensor *)ft__onnx_grown(x, x->tensors, x->tensor_count, &x->tensor_room,
                                          sizeof *t);
    if (!t) return -1;
    x->tensors = t;
    t += x->tensor_count;
    memset(t, 0, sizeof *t);
    memset(&raw, 0, sizeof raw);
    t->listed = -1;
    while (ft__proto_next(&p)) {
        if (p.field == 2) t->type = p.number < FT__ONNX_TYPES ? (int)p.number : 0;
        else if (p.field == 8) name = ft__proto_text(&p);
        else if (p.field == 9 && p.wire == 2) raw = p;
        else if (p.field == 13) ft__onnx_external(ft__proto_inside(&p), &place);
        else if (p.field == 14 && p.number == 1 && !place.file) place.file = "";
    }
    sizes = ft__proto_wholes(message, 1, &rank);
    if (!sizes || !ft__ok(x->file->context)) return -1;
    t->count = 1;
    t->rank = rank;
    if (rank > FT__ONNX_RANK) t->fault = "has more dimensions than are supported";
    for (d = 0; d < rank && !t->fault; ++d) {
        t->size[d] = sizes[d];
        if (sizes[d] < 0 || sizes[d] > INT_MAX || (sizes[d] > 0 && t->count > INT64_MAX / 16
                                                   / (uint64_t)sizes[d]))
            t->fault = "has a wrong shape";
        else t->count *= (uint64_t)sizes[d];
    }
    if (t->fault) t->rank = 0;
    else ft__onnx_data(x, message, t, &raw, &place);
    t->value = value >= 0 ? value : ft__onnx_value_named(x, name);
    return ft__ok(x->file->context) ? x->tensor_count++ : -1;
}

/* ---- Nodes ---- */

/* One more text of a list, after a comma. */
static void ft__onnx_add_word(const ft__proto *p, ft__onnx_attribute *a)
{
    const char *word = ft__proto_text(p);
    char *both;
    if (strlen(a->text) > 200) return; /* no list that is looked at is that long */
    both = (char *)ft__file_memory(p->file, strlen(a->text) + strlen(word) + 2);
    if (!both) return;
    strcpy(both, a->text);
    if (*both) strcat(both, ",");
    a->text = strcat(both, word);
}

static void ft__onnx_read_attribute(ft__onnx *x, ft__proto message, ft__onnx_attribute *a)
{
    ft__proto p = message;
    uint32_t bits;
    a->name = a->text = "";
    a->tensor = -1;
    while (ft__proto_next(&p)) {
        if (p.field == 1) a->name = ft__proto_text(&p);
        else if (p.field == 2) {
            bits = (uint32_t)p.number;
            memcpy(&a->number, &bits, sizeof a->number);
        } else if (p.field == 3) a->whole = (int64_t)p.number;
        else if (p.field == 4) a->text = ft__proto_text(&p);
        else if (p.field == 5) a->tensor = ft__onnx_read_tensor(x, ft__proto_inside(&p), -1);
        else if (p.field == 9) ft__onnx_add_word(&p, a);
    }
    a->wholes = ft__proto_wholes(message, 8, &a->count);
}

static void ft__onnx_read_node(ft__onnx *x, ft__proto message, int number)
{
    ft__onnx_node *node = &x->nodes[number];
    ft__proto p = message;
    int attributes = 0, value;
    node->name = node->op = node->domain = "";
    node->input_count = (int)ft__proto_count(p, 1, NULL);
    node->output_count = (int)ft__proto_count(p, 2, NULL);
    node->attribute_count = (int)ft__proto_count(p, 5, NULL);
    node->inputs = (int *)ft__file_memory(x->file, (size_t)(node->input_count + node->output_count
                                                            + 1) * sizeof(int));
    node->attributes = (ft__onnx_attribute *)ft__file_memory(
        x->file, (size_t)(node->attribute_count + 1) * sizeof *node->attributes);
    if (!ft__ok(x->file->context)) return;
    node->outputs = node->inputs + node->input_count;
    node->input_count = node->output_count = 0;
    while (ft__proto_next(&p)) {
        if (p.field == 1) {
            value = ft__onnx_value_named(x, ft__proto_text(&p));
            node->inputs[node->input_count++] = value;
        } else if (p.field == 2) {
            value = ft__onnx_value_named(x, ft__proto_text(&p));
            node->outputs[node->output_count++] = value;
            if (value >= 0 && x->values[value].producer >= 0)
                ft__proto_fault(&p, "a second node with the same output");
            else if (value >= 0) x->values[value].producer = number;
        } else if (p.field == 3) node->name = ft__proto_text(&p);
        else if (p.field == 4) node->op = ft__proto_text(&p);
        else if (p.field == 5)
            ft__onnx_read_attribute(x, ft__proto_inside(&p), &node->attributes[attributes++]);
        else if (p.field == 7) node->domain = ft__proto_text(&p);
    }
    if (strcmp(node->domain, "ai.onnx") == 0) node->domain = "";
}

static const ft__onnx_attribute *ft__onnx_attribute_of(const ft__onnx_node *node, const char *name)
{
    int i;
    for (i = 0; i < node->attribute_count; ++i)
        if (strcmp(node->attributes[i].name, name) == 0) return &node->attributes[i];
    return NULL;
}

/* ---- The graph ---- */

/* The shape of an input or output; an open size is -1. */
static void ft__onnx_read_shape(ft__proto p, ft__onnx_value *v)
{
    v->rank = 0;
    while (ft__proto_next(&p)) {
        ft__proto inside;
        double size = -1;
        if (p.field != 1) continue;
        for (inside = ft__proto_inside(&p); ft__proto_next(&inside);)
            if (inside.field == 1 && (int64_t)inside.number > 0 && inside.number <= INT_MAX)
                size = (double)inside.number;
        if (v->rank < FT__ONNX_RANK) {
            v->size[v->rank].k = size;
            v->size[v->rank].n = v->size[v->rank].l = 0;
        }
        v->rank += 1;
    }
}

/* A ValueInfoProto: returns the value, with its type and shape. */
static int ft__onnx_read_info(ft__onnx *x, ft__proto p)
{
    int value = -1;
    while (ft__proto_next(&p)) {
        ft__proto type, tensor;
        if (p.field == 1) value = ft__onnx_value_named(x, ft__proto_text(&p));
        if (p.field != 2 || value < 0) continue;
        for (type = ft__proto_inside(&p); ft__proto_next(&type);) {
            if (type.field != 1) continue;
            for (tensor = ft__proto_inside(&type); ft__proto_next(&tensor);) {
                if (tensor.field == 1 && x->values[value].type == 0)
                    x->values[value].type = (int)(tensor.number & 31);
                if (tensor.field == 2)
                    ft__onnx_read_shape(ft__proto_inside(&tensor), &x->values[value]);
            }
        }
    }
    return value;
}

static void ft__onnx_read_graph(ft__onnx *x, ft__proto message)
{
    ft__proto p = message;
    int nodes = 0, i, value;
    x->node_count = (int)ft__proto_count(p, 1, NULL);
    x->inputs = (int *)ft__file_memory(x->file, (ft__proto_count(p, 11, NULL) + 1) * sizeof(int));
    x->outputs = (int *)ft__file_memory(x->file, (ft__proto_count(p, 12, NULL) + 1) * sizeof(int));
    x->nodes = (ft__onnx_node *)ft__file_memory(x->file, ((size_t)x->node_count + 1)
                                                             * sizeof *x->nodes);
    while (ft__proto_next(&p)) {
        if (p.field == 1) ft__onnx_read_node(x, ft__proto_inside(&p), nodes++);
        else if (p.field == 5) ft__onnx_read_tensor(x, ft__proto_inside(&p), -1);
        else if (p.field == 11 || p.field == 12) {
            value = ft__onnx_read_info(x, ft__proto_inside(&p));
            if (value >= 0 && p.field == 11) x->inputs[x->input_count++] = value;
            else if (value >= 0) x->outputs[x->output_count++] = value;
        } else if (p.field == 15) ft__proto_fault(&p, "a sparse initialiser, which is not read,");
    }
    for (i = 0; i < x->node_count && ft__ok(x->file->context); ++i) { /* weights in nodes */
        const ft__onnx_node *node = &x->nodes[i];
        const ft__onnx_attribute *a = ft__onnx_attribute_of(node, "value");
        if (strcmp(node->op, "Constant") == 0 && node->output_count > 0 && a && a->tensor >= 0)
            x->tensors[a->tensor].value = node->outputs[0];
    }
}

static void ft__onnx_read_opset(ft__onnx *x, ft__proto p)
{
    const char *domain = "";
    int64_t version = 0;
    while (ft__proto_next(&p)) {
        if (p.field == 1) domain = ft__proto_text(&p);
        if (p.field == 2) version = (int64_t)p.number;
    }
    if (!*domain || strcmp(domain, "ai.onnx") == 0) x->opset = version;
}

/* The whole file. */
static void ft__onnx_read_model(ft__onnx *x)
{
    ft_file *file = x->file;
    ft__proto p = ft__proto_message(file, 0, file->size), graph = p;
    bool has_graph = false;
    while (ft__proto_next(&p)) {
        if (p.field == 8) ft__onnx_read_opset(x, ft__proto_inside(&p));
        if (p.field == 7) {
            graph = ft__proto_inside(&p);
            has_graph = true;
        }
    }
    if (ft__ok(file->context) && !has_graph) ft__proto_fault(&p, "no graph");
    if (ft__ok(file->context)) ft__onnx_read_graph(x, graph);
}
#endif
