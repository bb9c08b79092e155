#pragma once
#include "interface/requirements.h"
#include "interface/types.h"
#include "platform/families.h"
#include "platform/formatting.h"
#include "platform/context.h"
#include "basics/random.h"
#include "basics/strings.h"
#include "kernels/elementary.h"
#include "kernels/stored.h"
#include "nodes/nodes.h"
#include "nodes/names.h"
#include "nodes/storage.h"
#include "operators/table.h"
#include "formats/safetensors.h"
#include "formats/onnx_file.h"
/* =============================================================================================
   [SECTION] formats/onnx_writing: ONNX's messages, written
   What the mapping of our operators to ONNX's opset 17 is written with (formats/onnx_layers_writing
   and those after it). The nodes and small constants are collected in memory; weights are listed,
   and go from where they are to the file (formats/onnx_files_writing).

   A value has the name of our node, a weight that of its parameter. Values between have a name that
   says what they are, "<node>/<what>", and no node's. Integers, which are I32 here, are int64, as
   exporters and tokenisers have them.
   ============================================================================================= */
#if FT__HAS_ONNX
enum { FT__ONNX_OPSET_OUT = 17, FT__ONNX_IR_OUT = 8 };

typedef struct ft__onnx_out {
    ft_model *m;
    ft__context *c;
    const char *path;
    ft_type type;           /* of the weights, or FT_OTHER: each in its own */
    uint64_t sum;           /* the digest of the nodes so far: see formats/onnx_described */
    ft__text graph;         /* the fields of GraphProto so far: nodes and small constants */
    ft__text attributes;    /* of the node that is added next */
    ft__text scratch;
    const char **value;     /* [node_count]: the name of each node's value; NULL: none yet */
    const char **turned;    /* [node_count]: of a matrix: that of its transpose; NULL: none yet */
    bool *needed;           /* [node_count]: the output follows from it */
    char **texts;           /* owned: names that were made */
    int text_count, text_room;
    ft__write_tensor *weights; /* streamed; their names are in `texts`, or the nodes' */
    int weight_count;
    char refusals[900];     /* the nodes that cannot be written, and why */
    int refusal_count;
} ft__onnx_out;

/* ---- Protobuf ---- */

static void ft__proto_add_number(ft__text *t, uint64_t number)
{
    char seven;
    for (; number >= 128; number >>= 7) {
        seven = (char)(unsigned char)(number | 128);
        ft__text_add_bytes(t, &seven, 1);
    }
    seven = (char)number;
    ft__text_add_bytes(t, &seven, 1);
}

static void ft__proto_add_whole(ft__text *t, int field, int64_t number)
{
    ft__proto_add_number(t, (uint64_t)field << 3);
    ft__proto_add_number(t, (uint64_t)number);
}

/* As many bytes of a number as wanted, the lowest first. */
static void ft__little_bytes(char *to, uint64_t number, int count)
{
    int i;
    for (i = 0; i < count; ++i) to[i] = (char)(unsigned char)(number >> 8 * i);
}

static void ft__proto_add_float(ft__text *t, int field, float number)
{
    char bytes[4];
    ft__little_bytes(bytes, ft__to_bits(number), 4);
    ft__proto_add_number(t, (uint64_t)field << 3 | 5);
    ft__text_add_bytes(t, bytes, 4);
}

/* A text, bytes, or a message: its length is known before its bytes. */
static void ft__proto_add_length(ft__text *t, int field, uint64_t length)
{
    ft__proto_add_number(t, (uint64_t)field << 3 | 2);
    ft__proto_add_number(t, length);
}

static void ft__proto_add_bytes(ft__text *t, int field, const char *bytes, size_t count)
{
    ft__proto_add_length(t, field, count);
    if (count) ft__text_add_bytes(t, bytes, count);
}

static void ft__proto_add_text(ft__text *t, int field, const char *text)
{
    ft__proto_add_bytes(t, field, text, strlen(text));
}

static void ft__proto_add_message(ft__text *t, int field, const ft__text *message)
{
    ft__proto_add_bytes(t, field, message->letters, message->count);
}

/* ---- Names ---- */

/* Keeps a text for as long as the file is written; "" without memory. */
static const char *ft__out_keep(ft__onnx_out *o, const char *text)
{
    char *copy;
    if (o->text_count == o->text_room) {
        int room = o->text_room ? 2 * o->text_room : 64;
        char **grown = (char **)ft__grow(o->c, o->texts, (size_t)o->text_count, (size_t)room,
                                         sizeof *grown);
        if (!grown) return "";
        o->texts = grown;
        o->text_room = room;
    }
    copy = ft__copy_text(o->c, text);
    if (!copy) return "";
    o->texts[o->text_count++] = copy;
    return copy;
}

/* The name, with "_" added until no node has it. */
static const char *ft__out_unused(ft__onnx_out *o, const char *name)
{
    char text[1200];
    size_t length;
    snprintf(text, sizeof text - 64, "%s", name);
    length = strlen(text);
    while (ft__find_node(o->m, text).id && length < sizeof text - 1) {
        text[length++] = '_';
        text[length] = 0;
    }
    return ft__out_keep(o, text);
}

/* The name of a value between: "<node>/<what>". Nodes may have slashes in their names, so `what`
   has none: the last slash tells whose value it is. */
static const char *ft__out_name(ft__onnx_out *o, const ft__node *node, const char *what)
{
    char text[1024];
    snprintf(text, sizeof text, "%.900s/%s", node->name, what);
    return ft__out_unused(o, text);
}

/* What was made by this name before; NULL: nothing. So constants, masks and steps are shared. */
static const char *ft__out_made(const ft__onnx_out *o, const char *name)
{
    size_t length = strlen(name);
    int i;
    for (i = 0; i < o->text_count; ++i) {
        const char *text = o->texts[i];
        if (strncmp(text, name, length) == 0 && text[length + strspn(text + length, "_")] == 0)
            return text;
    }
    return NULL;
}

/* ---- Attributes of the node that is added next: AttributeProto ---- */

enum { FT__ONNX_A_FLOAT = 1, FT__ONNX_A_INT = 2, FT__ONNX_A_TEXT = 3, FT__ONNX_A_INTS = 7,
       FT__ONNX_A_TEXTS = 8 };

static void ft__out_begin_attribute(ft__onnx_out *o, const char *name)
{
    o->scratch.count = 0;
    ft__proto_add_text(&o->scratch, 1, name);
}

static void ft__out_end_attribute(ft__onnx_out *o, int type)
{
    ft__proto_add_whole(&o->scratch, 20, type);
    ft__proto_add_message(&o->attributes, 5, &o->scratch);
}

static void ft__out_int(ft__onnx_out *o, const char *name, int64_t number)
{
    ft__out_begin_attribute(o, name);
    ft__proto_add_whole(&o->scratch, 3, number);
    ft__out_end_attribute(o, FT__ONNX_A_INT);
}

static void ft__out_float(ft__onnx_out *o, const char *name, float number)
{
    ft__out_begin_attribute(o, name);
    ft__proto_add_float(&o->scratch, 2, number);
    ft__out_end_attribute(o, FT__ONNX_A_FLOAT);
}

static void ft__out_text(ft__onnx_out *o, const char *name, const char *text)
{
    ft__out_begin_attribute(o, name);
    ft__proto_add_text(&o->scratch, 4, text);
    ft__out_end_attribute(o, FT__ONNX_A_TEXT);
}

static void ft__out_ints(ft__onnx_out *o, const char *name, const int *numbers, int count)
{
    int i;
    ft__out_begin_attribute(o, name);
    for (i = 0; i < count; ++i) ft__proto_add_whole(&o->scratch, 8, numbers[i]);
    ft__out_end_attribute(o, FT__ONNX_A_INTS);
}

/* The same text `count` times. */
static void ft__out_texts(ft__onnx_out *o, const char *name, const char *text, int count)
{
    int i;
    ft__out_begin_attribute(o, name);
    for (i = 0; i < count; ++i) ft__proto_add_text(&o->scratch, 9, text);
    ft__out_end_attribute(o, FT__ONNX_A_TEXTS);
}

/* ---- Nodes: NodeProto, which is named after its first output ---- */

/* Adds a node with the attributes that were given before. An input that is NULL is left out. */
static void ft__out_node(ft__onnx_out *o, const char *op, const char *const *x, int inputs,
                         const char *const *y, int outputs)
{
    int i;
    while (inputs > 0 && !x[inputs - 1]) inputs -= 1;
    o->scratch.count = 0;
    for (i = 0; i < inputs; ++i) ft__proto_add_text(&o->scratch, 1, x[i] ? x[i] : "");
    for (i = 0; i < outputs; ++i) ft__proto_add_text(&o->scratch, 2, y[i]);
    ft__proto_add_text(&o->scratch, 3, y[0][0] ? y[0] : y[outputs - 1]);
    ft__proto_add_text(&o->scratch, 4, op);
    if (o->attributes.count)
        ft__text_add_bytes(&o->scratch, o->attributes.letters, o->attributes.count);
    ft__proto_add_message(&o->graph, 1, &o->scratch);
    if (ft__ok(o->c)) o->sum = ft__hash_bytes(o->sum, o->scratch.letters, o->scratch.count);
    o->attributes.count = 0;
}

/* Nodes of one output, y; return it. */
static const char *ft__out_1(ft__onnx_out *o, const char *op, const char *y, const char *a)
{
    ft__out_node(o, op, &a, 1, &y, 1);
    return y;
}

static const char *ft__out_2(ft__onnx_out *o, const char *op, const char *y, const char *a,
                             const char *b)
{
    const char *x[2];
    x[0] = a;
    x[1] = b;
    ft__out_node(o, op, x, 2, &y, 1);
    return y;
}

static const char *ft__out_3(ft__onnx_out *o, const char *op, const char *y, const char *a,
                             const char *b, const char *c)
{
    const char *x[3];
    x[0] = a;
    x[1] = b;
    x[2] = c;
    ft__out_node(o, op, x, 3, &y, 1);
    return y;
}

/* ---- Constants: TensorProto, small ones in `graph` ---- */

/* Its fields but the name and the numbers. */
static void ft__out_tensor_head(ft__text *t, int type, const int *size, int rank)
{
    int d;
    for (d = 0; d < rank; ++d) ft__proto_add_whole(t, 1, size[d]);
    ft__proto_add_whole(t, 2, type);
}

/* Adds an initialiser of `count` elements of `width` bytes; rank 0: one number. */
static const char *ft__out_constant(ft__onnx_out *o, const char *name, int type, const int *size,
                                    int rank, const char *bytes, size_t count)
{
    o->scratch.count = 0;
    ft__out_tensor_head(&o->scratch, type, size, rank);
    ft__proto_add_text(&o->scratch, 8, name);
    ft__proto_add_bytes(&o->scratch, 9, bytes, count);
    ft__proto_add_message(&o->graph, 5, &o->scratch);
    return name;
}

enum { FT__OUT_INTEGERS = 2 * FINETUNE_MAX_RANK }; /* in one list: what Pad adds before and after */

/* int64 numbers, of one dimension, or 0 dimensions: one number. At most FT__OUT_INTEGERS. */
static const char *ft__out_integers(ft__onnx_out *o, const int64_t *numbers, int count, int rank)
{
    char name[16 + 21 * FT__OUT_INTEGERS], bytes[8 * FT__OUT_INTEGERS];
    const char *made;
    int i, at = snprintf(name, sizeof name, rank ? "integers" : "integer");
    for (i = 0; i < count; ++i) {
        at += ft__print(name + at, sizeof name - (size_t)at, "/%lld", (long long)numbers[i]);
        ft__little_bytes(bytes + 8 * i, (uint64_t)numbers[i], 8);
    }
    made = ft__out_made(o, name);
    if (made) return made;
    return ft__out_constant(o, ft__out_unused(o, name), FT__ONNX_I64, &count, rank, bytes,
                            8 * (size_t)count);
}

static const char *ft__out_list(ft__onnx_out *o, const int *numbers, int count)
{
    int64_t wide[FT__OUT_INTEGERS];
    int i;
    if (count > FT__OUT_INTEGERS) {
        ft__fail(o->c, FT_UNSUPPORTED, "%s: a list of %d integers, of which a node's have at most"
                 " %d", o->path, count, FT__OUT_INTEGERS);
        return "";
    }
    for (i = 0; i < count; ++i) wide[i] = numbers[i];
    return ft__out_integers(o, wide, count, 1);
}

static const char *ft__out_whole(ft__onnx_out *o, int64_t number)
{
    return ft__out_integers(o, &number, 1, 0);
}

/* A list of one number: an axis to squeeze, an end of a slice. */
static const char *ft__out_one(ft__onnx_out *o, int64_t number)
{
    return ft__out_integers(o, &number, 1, 1);
}

/* float32 numbers of this shape under a name of their own. */
static const char *ft__out_floats(ft__onnx_out *o, const char *name, const float *numbers,
                                  const int *size, int rank)
{
    ft__text bytes;
    size_t count = 1, i;
    int d;
    for (d = 0; d < rank; ++d) count *= (size_t)size[d];
    memset(&bytes, 0, sizeof bytes);
    bytes.context = o->c;
    for (i = 0; i < count; ++i) {
        char four[4];
        ft__little_bytes(four, ft__to_bits(numbers[i]), 4);
        ft__text_add_bytes(&bytes, four, 4);
    }
    if (ft__ok(o->c))
        ft__out_constant(o, name, FT__ONNX_F32, size, rank, bytes.letters, bytes.count);
    ft__release(o->c, bytes.letters);
    return name;
}

/* One float32 number, of 0 dimensions. */
static const char *ft__out_number(ft__onnx_out *o, float number)
{
    char name[64];
    const char *made;
    snprintf(name, sizeof name, "number/%.9g", (double)number);
    made = ft__out_made(o, name);
    return made ? made : ft__out_floats(o, ft__out_unused(o, name), &number, NULL, 0);
}

/* ---- Our nodes ---- */

/* The node of input `i`; NULL: there is none. */
static const ft__node *ft__out_input(const ft__onnx_out *o, const ft__node *node, int i)
{
    return i < node->input_count ? &o->m->nodes[node->inputs[i] - 1] : NULL;
}

/* The name of its value. */
static const char *ft__out_x(const ft__onnx_out *o, const ft__node *node, int i)
{
    const char *value = i < node->input_count ? o->value[node->inputs[i] - 1] : NULL;
    return value ? value : "";
}

/* A node that is not there in prediction, such as dropout, is another name of its input. */
static const char *ft__out_alias(ft__onnx_out *o, const ft__node *node, const char *value)
{
    o->value[node - o->m->nodes] = value;
    o->turned[node - o->m->nodes] = o->turned[node->inputs[0] - 1];
    return NULL;
}

static bool ft__out_is_run_time(int size) { return size == FT_BATCH || size == FT_LENGTH; }

/* y: x with another shape, of sizes that may be FT_BATCH and FT_LENGTH. */
static const char *ft__out_reshape(ft__onnx_out *o, const char *y, const char *x,
                                   const ft_shape *from, const int *size, int rank)
{
    int to[FINETUNE_MAX_RANK + 2], d;
    for (d = 0; d < rank; ++d) {
        bool stays = d < from->rank && size[d] == from->size[d];
        to[d] = !ft__out_is_run_time(size[d]) ? size[d] : stays ? 0 : -1;
    }
    return ft__out_2(o, "Reshape", y, x, ft__out_list(o, to, rank));
}

static const char *ft__out_permute(ft__onnx_out *o, const char *y, const char *x, int a, int b,
                                   int c, int d)
{
    int axes[4];
    axes[0] = a;
    axes[1] = b;
    axes[2] = c;
    axes[3] = d;
    ft__out_ints(o, "perm", axes, d < 0 ? c < 0 ? 2 : 3 : 4);
    return ft__out_1(o, "Transpose", y, x);
}

static const char *ft__out_unsqueeze(ft__onnx_out *o, const char *y, const char *x, int axis)
{
    return ft__out_2(o, "Unsqueeze", y, x, ft__out_one(o, axis));
}

/* x[.., first:last, ..] of one axis. */
static const char *ft__out_cut(ft__onnx_out *o, const char *y, const char *x, int axis,
                               int64_t first, int64_t last)
{
    const char *inputs[4];
    inputs[0] = x;
    inputs[1] = ft__out_one(o, first);
    inputs[2] = ft__out_one(o, last);
    inputs[3] = ft__out_one(o, axis);
    ft__out_node(o, "Slice", inputs, 4, &y, 1);
    return y;
}

static const char *ft__out_cast(ft__onnx_out *o, const char *y, const char *x, int type)
{
    ft__out_int(o, "to", type);
    return ft__out_1(o, "Cast", y, x);
}

/* ---- Weights ---- */

/* Lists an initialiser that is streamed. */
static void ft__out_add_weight(ft__onnx_out *o, const char *name, ft__stored data, ft_type type,
                               ft_shape shape, bool transposed)
{
    ft__write_tensor *t = &o->weights[o->weight_count++];
    memset(t, 0, sizeof *t);
    t->name = name;
    t->type = type;
    t->shape = shape;
    t->data = data;
    t->transposed = transposed;
}

/* The type of a weight in the file. */
static ft_type ft__out_weight_type(const ft__onnx_out *o, const ft__node *node)
{
    ft_type own = ft__value_type(node);
    if (o->type != FT_OTHER) return o->type;
    return own == FT_F16 || own == FT_BF16 || own == FT_I8 ? own : FT_F32;
}

/* Whether anything but linear layers reads a weight. */
static bool ft__out_has_other_readers(const ft__onnx_out *o, int weight)
{
    int i, k;
    for (i = 0; i < o->m->node_count; ++i)
        for (k = 0; o->needed[i] && k < o->m->nodes[i].input_count; ++k)
            if (o->m->nodes[i].inputs[k] == weight + 1
                && (k != 1 || o->m->nodes[i].op != FT__OP_linear)) return true;
    return false;
}

/* The value [columns, rows] of input `i`, a matrix: linear layers of more than rows need that. */
static const char *ft__out_turned(ft__onnx_out *o, const ft__node *node, int i)
{
    int id = node->inputs[i] - 1;
    if (!o->turned[id]) {
        const char *name = ft__out_name(o, &o->m->nodes[id], "transposed");
        o->turned[id] = ft__out_permute(o, name, o->value[id], 1, 0, -1, -1);
    }
    return o->turned[id];
}

/* Lists the scales of an int8 weight; returns their name. */
static const char *ft__out_scales(ft__onnx_out *o, const ft__node *node)
{
    char name[1200];
    ft_shape rows;
    memset(&rows, 0, sizeof rows);
    rows.rank = 1;
    rows.size[0] = node->shape.size[0];
    snprintf(name, sizeof name, "%.1000s%s", node->name, ft__scale_suffix);
    ft__out_add_weight(o, ft__out_keep(o, name),
                       ft__floats(node->stored.scale, (size_t)rows.size[0]), FT_F32, rows, false);
    return o->weights[o->weight_count - 1].name;
}

/* Lists a weight, and adds what makes float32 of it, and [rows, columns] if it is stored the other
   way round and not only for linear layers. */
static void ft__out_weight(ft__onnx_out *o, const ft__node *node)
{
    ft_type type = ft__out_weight_type(o, node);
    const char *value = node->name, *scales;
    bool turned = ft__transposed_as(node, type);
    int id = (int)(node - o->m->nodes);
    ft__out_add_weight(o, value, ft__stored_of(node), type, ft__shape_in_file(node, type), turned);
    scales = type == FT_I8 ? ft__out_scales(o, node) : NULL;
    if (!o->needed[id]) return;
    if (scales) {
        ft__out_int(o, "axis", 0);
        value = ft__out_2(o, "DequantizeLinear", ft__out_name(o, node, "float"), value, scales);
    } else if (type != FT_F32)
        value = ft__out_cast(o, ft__out_name(o, node, "float"), value, FT__ONNX_F32);
    o->value[id] = value;
    if (!turned) return;
    o->turned[id] = value;
    if (ft__out_has_other_readers(o, id))
        o->value[id] = ft__out_permute(o, ft__out_name(o, node, "rows"), value, 1, 0, -1, -1);
}
#endif
