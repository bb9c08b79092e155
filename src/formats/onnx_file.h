#pragma once
#include "interface/requirements.h"
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
enum { FT__ONNX_RANK = 8, FT__ONNX_OLDEST = 7, FT__ONNX_NEWEST = 22,
       FT__ONNX_DEPTH = 16 }; /* of branches in branches */

/* TensorProto.DataType */
enum { FT__ONNX_F32 = 1, FT__ONNX_U8 = 2, FT__ONNX_I8 = 3, FT__ONNX_I16 = 5, FT__ONNX_I32 = 6,
       FT__ONNX_I64 = 7, FT__ONNX_BOOL = 9, FT__ONNX_F16 = 10, FT__ONNX_F64 = 11,
       FT__ONNX_U32 = 12, FT__ONNX_U64 = 13, FT__ONNX_BF16 = 16, FT__ONNX_E4M3 = 17,
       FT__ONNX_E5M2 = 19, FT__ONNX_U4 = 21, FT__ONNX_I4 = 22, FT__ONNX_TYPES = 23 };

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
    bool given;             /* an initialiser or input */
} ft__onnx_value;

typedef struct ft__onnx_attribute {
    const char *name, *text;
    int64_t whole;
    float number;
    int64_t *wholes;        /* [count] */
    int count, tensor;
    bool has_graph;
    ft__proto graph;        /* a branch of an If */
} ft__onnx_attribute;

typedef struct ft__onnx_node {
    const char *name, *op, *domain;
    int *inputs, *outputs;  /* values; -1: left out */
    int input_count, output_count, attribute_count;
    ft__onnx_attribute *attributes;
    int *captured, captured_count; /* names in its branches, which may be values around it */
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
    int node_count, tensor_count, value_count, node_room, tensor_room, value_room;
    int depth;              /* of the branches that are being mapped */
    int *slots;             /* a hash table of the values' names: [slot_count] */
    int slot_count;
    int *inputs, *outputs;  /* values */
    int input_count, output_count;
    int64_t opset;
    uint64_t computed;      /* numbers of values that were computed */
    const char *graph;      /* the description, once it was asked for */
    ft__onnx_made *made;    /* what describes it */
    int made_count, made_room;
    int ones, positions;    /* nodes [N, L] that were made, from 1: 1s, and 0, 1, 2, ...; 0: none */
    char refusals[700];     /* the first nodes that cannot be mapped, and why */
    int refusal_count, refusals_listed;
    int mapped_count;       /* nodes that are mapped ... */
    int mapped_before;      /* ... before the first that cannot be, ... */
    const char *last_before; /* ... which reads this one's output; NULL: an input */
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

/* Notes that an initialiser or input has this value, and so no node: that would replace what it, or
   one before it, is computed from. */
static void ft__onnx_give(ft__onnx *x, ft__proto *p, int value)
{
    if (value < 0) return;
    x->values[value].given = true;
    if (x->values[value].producer >= 0) ft__proto_fault(p, "a second value of the same name");
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

/* Bytes of a number; 0: a type that is not read. Of 4 bits: once they are read. */
static int ft__onnx_type_bytes(int type)
{
    static const signed char bytes[FT__ONNX_TYPES] = {0, 4, 1, 1, 2, 2, 4, 8, 0, 1, 2, 8, 4, 8, 0,
                                                      0, 2, 1, 0, 1, 0, 1, 1};
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

/* Gives each number of 4 bits a byte of its own; of two in a byte the lower half is the first. */
static void ft__onnx_split_halves(ft__onnx *x, ft__onnx_tensor *t)
{
    unsigned char *to = (unsigned char *)ft__file_memory(x->file, (size_t)t->count + 1);
    uint64_t i;
    for (i = 0; to && i < t->count; ++i) {
        int number = t->data[i / 2] >> (i % 2 ? 4 : 0) & 15;
        to[i] = (unsigned char)(t->type == FT__ONNX_I4 && number > 7 ? number + 240 : number);
    }
    t->data = to;
    t->shard = -1;
    t->type = t->type == FT__ONNX_I4 ? FT__ONNX_I8 : FT__ONNX_U8;
}

/* Finds where the numbers of a tensor are; `raw`: the bytes of its raw_data. */
static void ft__onnx_data(ft__onnx *x, ft__proto p, ft__onnx_tensor *t, const ft__proto *raw,
                          const ft__onnx_place_of *place)
{
    int bytes = ft__onnx_type_bytes(t->type);
    int field = t->type == FT__ONNX_F32 ? 4 : t->type == FT__ONNX_I64 ? 7
        : t->type == FT__ONNX_F64 ? 10
        : t->type == FT__ONNX_U32 || t->type == FT__ONNX_U64 ? 11 : 5;
    bool halves = t->type == FT__ONNX_U4 || t->type == FT__ONNX_I4;
    uint64_t count = halves ? (t->count + 1) / 2 : t->count, all = count * (uint64_t)bytes;
    if (!bytes) t->fault = "has numbers of a type that is not supported";
    else if (t->count > (uint64_t)SIZE_MAX / 16) t->fault = "is too large";
    else if (place->file) {
        const ft_file *other = ft__onnx_beside(x->file, place->file, &t->shard);
        uint64_t offset = (uint64_t)place->offset;
        if (other && offset <= other->size && all <= other->size - offset)
            t->data = other->bytes + offset;
        else if (other) ft__fail(x->file->context, FT_FORMAT, "%s: the tensor of %llu bytes at"
                                 " offset %llu of %.200s goes past its end", x->file->path,
                                 (unsigned long long)all, (unsigned long long)offset,
                                 place->file);
    } else if (raw->field && raw->bytes == all)
        t->data = x->file->bytes + raw->from;
    else if (!raw->field) {
        t->data = ft__onnx_unpack(p, field, count, bytes);
        t->shard = -1; /* in memory of its own */
    }
    if (halves && t->data) ft__onnx_split_halves(x, t);
    if (!t->data && !t->fault) t->fault = "has not as many numbers as its shape";
}

/* Adds a TensorProto; `named`: as the value of its name. Returns its number; -1 with an error. */
static int ft__onnx_read_tensor(ft__onnx *x, ft__proto message, bool named)
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
    t->value = named ? ft__onnx_value_named(x, name) : -1;
    ft__onnx_give(x, &p, t->value);
    return ft__ok(x->file->context) ? x->tensor_count++ : -1;
}

/* The types that weights can have; FT_OTHER: another. */
static ft_type ft__onnx_type(int type)
{
    return type == FT__ONNX_F32 ? FT_F32 : type == FT__ONNX_F16 ? FT_F16
        : type == FT__ONNX_BF16 ? FT_BF16 : type == FT__ONNX_F64 ? FT_F64
        : type == FT__ONNX_I8 ? FT_I8 : FT_OTHER;
}

/* Lists a tensor if it has a name and can be a weight; others are shapes, indices and
   single numbers. */
static void ft__onnx_list_tensor(ft__onnx *x, ft__onnx_tensor *t)
{
    ft_tensor_info *info;
    int d;
    if (t->value < 0 || !t->data || t->rank < 1 || t->rank > FINETUNE_MAX_RANK || t->count == 0
        || ft__onnx_type(t->type) == FT_OTHER) return;
    info = ft__file_add(x->file);
    if (!info) return;
    memset(info, 0, sizeof *info);
    t->listed = x->file->count - 1;
    info->name = x->values[t->value].name;
    info->type = ft__onnx_type(t->type);
    info->type_name = ft__type_names[info->type];
    info->shape.rank = t->rank;
    for (d = 0; d < t->rank; ++d) info->shape.size[d] = (int)t->size[d];
    info->bytes = t->count * (uint64_t)ft__onnx_type_bytes(t->type);
    if (t->shard < 0) {
        if (!ft__file_add_holder(x->file, NULL, t->data, info->bytes)) return;
        t->shard = x->file->shard_count - 1;
    }
    info->shard = t->shard;
    info->offset = (uint64_t)(t->data - x->file->shards[t->shard]->bytes);
    ft__row_major(info);
}

/* Lists those from number `first` on. */
static void ft__onnx_list_tensors(ft__onnx *x, int first)
{
    for (; first < x->tensor_count && ft__ok(x->file->context); ++first)
        ft__onnx_list_tensor(x, &x->tensors[first]);
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
        else if (p.field == 5) a->tensor = ft__onnx_read_tensor(x, ft__proto_inside(&p), false);
        else if (p.field == 6 && p.wire == 2) {
            a->graph = ft__proto_inside(&p);
            a->has_graph = true;
        }
        else if (p.field == 9) ft__onnx_add_word(&p, a);
    }
    a->wholes = ft__proto_wholes(message, 8, &a->count);
}

/* The names that a branch's nodes read and that are its outputs, after `count` others; `to` NULL:
   only how many. Returns that. */
static int ft__onnx_names_in(ft__onnx *x, ft__proto graph, int *to, int count, int depth)
{
    ft__proto inside, attribute;
    while (ft__proto_next(&graph)) {
        if ((graph.field != 1 && graph.field != 12) || graph.wire != 2) continue;
        inside = ft__proto_inside(&graph);
        while (ft__proto_next(&inside)) {
            if (inside.field == 1 && inside.wire == 2) {
                int value = to ? ft__onnx_value_named(x, ft__proto_text(&inside)) : -1;
                if (value >= 0) to[count] = value;
                count += !to || value >= 0;
            } else if (graph.field == 1 && inside.field == 5 && inside.wire == 2) {
                attribute = ft__proto_inside(&inside);
                while (depth < FT__ONNX_DEPTH && ft__proto_next(&attribute))
                    if (attribute.field == 6 && attribute.wire == 2)
                        count = ft__onnx_names_in(x, ft__proto_inside(&attribute), to, count,
                                                  depth + 1);
            }
        }
    }
    return count;
}

/* The names in all branches of a node. */
static void ft__onnx_capture(ft__onnx *x, ft__onnx_node *node)
{
    int i, count = 0;
    for (i = 0; i < node->attribute_count; ++i)
        if (node->attributes[i].has_graph)
            count = ft__onnx_names_in(x, node->attributes[i].graph, NULL, count, 0);
    if (!count) return;
    node->captured = (int *)ft__file_memory(x->file, (size_t)count * sizeof(int));
    for (i = 0; i < node->attribute_count && node->captured; ++i)
        if (node->attributes[i].has_graph)
            node->captured_count = ft__onnx_names_in(x, node->attributes[i].graph, node->captured,
                                                     node->captured_count, 0);
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
            else if (value >= 0 && x->values[value].given)
                ft__proto_fault(&p, "a second value of the same name");
            else if (value >= 0) x->values[value].producer = number;
        } else if (p.field == 3) node->name = ft__proto_text(&p);
        else if (p.field == 4) node->op = ft__proto_text(&p);
        else if (p.field == 5)
            ft__onnx_read_attribute(x, ft__proto_inside(&p), &node->attributes[attributes++]);
        else if (p.field == 7) node->domain = ft__proto_text(&p);
    }
    if (strcmp(node->domain, "ai.onnx") == 0) node->domain = "";
    ft__onnx_capture(x, node);
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

/* Adds the nodes and initialisers of a graph, or of a branch. Returns its outputs, NULL with an
   error. */
static int *ft__onnx_read_body(ft__onnx *x, ft__proto message, int *output_count)
{
    ft__proto p = message;
    int first = x->node_count, i, value, *outputs;
    outputs = (int *)ft__file_memory(x->file, (ft__proto_count(p, 12, NULL) + 1) * sizeof(int));
    *output_count = 0;
    while (outputs && ft__proto_next(&p)) {
        if (p.field == 1) {
            ft__onnx_node *nodes = (ft__onnx_node *)ft__onnx_grown(
                x, x->nodes, x->node_count, &x->node_room, sizeof *nodes);
            if (!nodes) return NULL;
            x->nodes = nodes;
            memset(&nodes[x->node_count], 0, sizeof *nodes);
            ft__onnx_read_node(x, ft__proto_inside(&p), x->node_count++);
        } else if (p.field == 5) ft__onnx_read_tensor(x, ft__proto_inside(&p), true);
        else if (p.field == 12) {
            value = ft__onnx_read_info(x, ft__proto_inside(&p));
            if (value >= 0) outputs[(*output_count)++] = value;
        } else if (p.field == 15) ft__proto_fault(&p, "a sparse initialiser, which is not read,");
    }
    for (i = first; i < x->node_count && ft__ok(x->file->context); ++i) { /* weights in nodes */
        const ft__onnx_node *node = &x->nodes[i];
        const ft__onnx_attribute *a = ft__onnx_attribute_of(node, "value");
        if (strcmp(node->op, "Constant") == 0 && node->output_count > 0 && a && a->tensor >= 0)
            x->tensors[a->tensor].value = node->outputs[0];
    }
    return ft__ok(x->file->context) ? outputs : NULL;
}

static void ft__onnx_read_graph(ft__onnx *x, ft__proto message)
{
    ft__proto p = message;
    int value;
    x->outputs = ft__onnx_read_body(x, message, &x->output_count);
    x->inputs = (int *)ft__file_memory(x->file, (ft__proto_count(p, 11, NULL) + 1) * sizeof(int));
    while (x->inputs && ft__proto_next(&p)) {
        value = p.field == 11 ? ft__onnx_read_info(x, ft__proto_inside(&p)) : -1;
        ft__onnx_give(x, &p, value);
        if (value >= 0) x->inputs[x->input_count++] = value;
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
