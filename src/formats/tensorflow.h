#pragma once
#include "interface/requirements.h"
#include "interface/types.h"
#include "platform/families.h"
#include "platform/formatting.h"
#include "platform/context.h"
#include "basics/strings.h"
#include "basics/arrays.h"
#include "basics/files.h"
#include "basics/sorting.h"
#include "kernels/stored.h"
#include "formats/readers.h"
#include "formats/zip.h"
#include "formats/protobuf.h"

/* =============================================================================================
   [SECTION] formats/tensorflow: TensorFlow's variables
   SavedModels (variables/variables.index) and checkpoints (NAME.index) are tensor bundles: an index
   and the files NAME.data-00000-of-00001, ... beside it, which hold the bytes. The index is a table
   of LevelDB's form: blocks of keys, of which each shares its beginning with the one before, an
   index block that says where these are, and a footer of 48 bytes. A value is a BundleEntryProto:
   type, shape, file, offset and size (tensorflow/core/protobuf/tensor_bundle.proto). TensorFlow 2
   also keeps a graph of objects, which says what Keras called each variable.
   Variables become tensors by our names and in our layout: "conv/kernel" [height, width, in, out]
   is "conv.weight" [out, in, height, width], a view; gamma, beta, moving_mean and moving_variance
   are weight, bias, running_mean and running_var. Slots of optimisers, counters and metrics are
   passed over.
   ============================================================================================= */
#if FT__HAS_TENSORFLOW
enum {
    FT__BUNDLE_FOOTER = 48, FT__BUNDLE_TRAILER = 5, FT__BUNDLE_KEY = 1024, FT__BUNDLE_FILES = 4096
};

/* A block while it is read. */
typedef struct ft__bundle_block {
    ft__proto p;
    ft__text key;
    uint64_t value, bytes;  /* where the value of the key is */
} ft__bundle_block;

static const char ft__graph_of_objects[] = "_CHECKPOINTABLE_OBJECT_GRAPH";

typedef struct ft__bundle {
    ft_file *file;
    ft__text keys;          /* one after the other, each with its 0 */
    ft__growing places;     /* size_t: where the key of each tensor begins in `keys` */
    ft__text names;
    size_t *named;          /* [count]: the place in `names`; 0: none is known */
    int shards;             /* data files */
} ft__bundle;

/* ---- The table ---- */

/* Returns false, with the error. */
static bool ft__bundle_fault(ft_file *file, const char *what, uint64_t at)
{
    ft__fail(file->context, FT_FORMAT, "%s: damaged index of TensorFlow: %s at offset %llu",
             file->path, what, (unsigned long long)at);
    return false;
}

/* Begins the block at a place that a varint pair says. */
static bool ft__bundle_begin(ft__bundle_block *b, ft__proto *handle)
{
    ft_file *file = handle->file;
    uint64_t at = ft__proto_varint(handle), size = ft__proto_varint(handle), restarts;
    memset(b, 0, sizeof *b);
    b->key.context = file->context;
    if (!ft__ok(file->context)) return false;
    if (size < 4 || at > file->size || size > file->size - at
        || file->size - at - size < FT__BUNDLE_TRAILER)
        return ft__bundle_fault(file, "a block that does not fit", at);
    if (file->bytes[at + size] != 0)
        return ft__bundle_fault(file, "a compressed block, as TensorFlow does not write", at);
    restarts = ft__little_endian(file->bytes + at + size - 4, 4);
    if (restarts > size / 4 - 1)
        return ft__bundle_fault(file, "a block without its end", at);
    b->p = ft__proto_message(file, at, size - 4 - 4 * restarts);
    return true;
}

/* The next key and value of the block; false after the last one, or with an error. */
static bool ft__bundle_next(ft__bundle_block *b)
{
    ft_file *file = b->p.file;
    uint64_t shared, fresh;
    if (b->p.at >= b->p.end || !ft__ok(file->context)) return false;
    shared = ft__proto_varint(&b->p);
    fresh = ft__proto_varint(&b->p);
    b->bytes = ft__proto_varint(&b->p);
    if (!ft__ok(file->context)) return false;
    if (shared > b->key.count || fresh > b->p.end - b->p.at
        || b->bytes > b->p.end - b->p.at - fresh || shared + fresh > FT__BUNDLE_KEY)
        return ft__bundle_fault(file, "a key that does not fit", b->p.at);
    b->key.count = (size_t)shared;
    ft__text_add_bytes(&b->key, (const char *)file->bytes + b->p.at, (size_t)fresh);
    b->value = b->p.at + fresh;
    b->p.at = b->value + b->bytes;
    return ft__ok(file->context);
}

/* ---- Entries ---- */

/* TensorFlow's numbers of types (types.proto). */
static ft_type ft__bundle_type(uint64_t number)
{
    static const struct { int number; ft_type type; } types[] = {
        {1, FT_F32}, {2, FT_F64}, {3, FT_I32}, {4, FT_U8}, {5, FT_I16}, {6, FT_I8}, {9, FT_I64},
        {10, FT_BOOL}, {14, FT_BF16}, {17, FT_U16}, {19, FT_F16}, {22, FT_U32}, {23, FT_U64},
        {24, FT_F8_E5M2}, {25, FT_F8_E4M3}};
    size_t i;
    for (i = 0; i < sizeof types / sizeof types[0]; ++i)
        if (number == (uint64_t)types[i].number) return types[i].type;
    return FT_OTHER;
}

/* TensorShapeProto: a dim, field 2, has its size in field 1. A scalar's is empty. */
static bool ft__bundle_shape(ft__proto shape, ft_tensor_info *to)
{
    size_t elements = 1;
    to->shape.rank = 0;
    while (ft__proto_next(&shape)) {
        ft__proto dim = ft__proto_inside(&shape);
        uint64_t size = 0;
        if (shape.field != 2) continue;
        while (ft__proto_next(&dim))
            if (dim.field == 1 && dim.wire == 0) size = dim.number;
        if (size > INT_MAX || to->shape.rank == FINETUNE_MAX_RANK
            || !ft__multiply(elements, (size_t)size, &elements) || elements > SIZE_MAX / 16)
            return false;
        to->shape.size[to->shape.rank++] = (int)size;
    }
    return true;
}

static ft_status ft__bundle_entry(ft__bundle *b, const ft__bundle_block *block)
{
    ft_file *file = b->file;
    ft__proto p = ft__proto_message(file, block->value, block->bytes);
    ft_tensor_info *t = ft__file_add(file);
    size_t *place = (size_t *)ft__growing_add(file->context, &b->places);
    const char *letters = block->key.letters;
    uint64_t shard = 0, type = 0;
    bool sliced = false, fits = true;
    if (!t || !place) return file->context->status;
    memset(t, 0, sizeof *t);
    *place = b->keys.count;
    ft__text_add_bytes(&b->keys, letters, block->key.count + 1);
    while (ft__proto_next(&p)) {
        if (p.field == 1) type = p.number;
        if (p.field == 2) fits = ft__bundle_shape(ft__proto_inside(&p), t) && fits;
        if (p.field == 3) shard = p.number;
        if (p.field == 4) t->offset = p.number;
        if (p.field == 5) t->bytes = p.number;
        sliced = sliced || p.field == 7;
    }
    t->type = sliced ? FT_OTHER : ft__bundle_type(type);
    t->type_name = t->type != FT_OTHER ? ft__type_names[t->type] : sliced ? "slices"
        : type == 7 ? "strings" : "unknown to this version";
    if (sliced) t->bytes = 0;
    if (!fits || shard >= FT__BUNDLE_FILES)
        return ft__fail(file->context, FT_FORMAT, "%s: variable %.200s: has a wrong shape or file",
                        file->path, letters);
    t->shard = (int)shard;
    return file->context->status;
}

/* BundleHeaderProto: how many files, and the order of their bytes. */
static void ft__bundle_header(ft__bundle *b, const ft__bundle_block *block)
{
    ft__proto p = ft__proto_message(b->file, block->value, block->bytes);
    while (ft__proto_next(&p)) {
        if (p.field == 1 && p.number <= FT__BUNDLE_FILES) b->shards = (int)p.number;
        if (p.field == 2 && p.number != 0)
            ft__fail(b->file->context, FT_UNSUPPORTED, "%s: was written on a big-endian machine,"
                     " which is not supported", b->file->path);
    }
}

/* Lists the entries; the memory for their keys is limited by the file's size. */
static void ft__bundle_entries(ft__bundle *b, ft__proto *handle)
{
    ft_file *file = b->file;
    ft__bundle_block block;
    if (!ft__bundle_begin(&block, handle)) return;
    while (ft__bundle_next(&block)) {
        bool text = block.key.count > 0 && !memchr(block.key.letters, 0, block.key.count);
        if (block.key.count == 0) ft__bundle_header(b, &block);
        else if (text) ft__bundle_entry(b, &block); /* else the key of a slice */
        if (b->keys.count > 16 * file->size + 65536)
            ft__bundle_fault(file, "longer keys than its size allows", block.p.at);
    }
    ft__release(file->context, block.key.letters);
}

static void ft__bundle_index(ft__bundle *b)
{
    ft_file *file = b->file;
    ft__proto footer = ft__proto_message(file, file->size - FT__BUNDLE_FOOTER,
                                         FT__BUNDLE_FOOTER - 8);
    ft__bundle_block block;
    ft__proto_varint(&footer); /* of an empty block: offset and size */
    ft__proto_varint(&footer);
    if (!ft__bundle_begin(&block, &footer)) return;
    while (ft__bundle_next(&block)) {
        ft__proto handle = ft__proto_message(file, block.value, block.bytes);
        ft__bundle_entries(b, &handle);
    }
    ft__release(file->context, block.key.letters);
}

static const char *ft__bundle_key(const ft__bundle *b, int i)
{
    return b->keys.letters + ((const size_t *)b->places.at)[i];
}

/* ---- The data: all files one after the other, instead of the index ---- */

static void ft__bundle_data(ft__bundle *b)
{
    ft_file *file = b->file;
    ft__context *c = file->context;
    size_t stem = strlen(file->path) - 6, room = stem + 40, size, total = 0;
    char *path = (char *)ft__allocate(c, room, 1);
    unsigned char *whole = NULL;
    int i, s;
    for (s = 0; path && ft__ok(c) && s < b->shards; ++s) {
        unsigned char *bytes, *grown;
        ft__print(path, room, "%.*s.data-%05d-of-%05d", (int)stem, file->path, s, b->shards);
        bytes = ft__read_file(c, path, &size);
        if (!bytes) break;
        for (i = 0; ft__ok(c) && i < file->count; ++i) {
            ft_tensor_info *t = &file->tensors[i];
            if (t->shard != s) continue;
            if (t->bytes > size || t->offset > size - t->bytes)
                ft__fail(c, FT_FORMAT, "%s: variable %.200s does not fit the %llu bytes of its"
                         " data", file->path, ft__bundle_key(b, i), (unsigned long long)size);
            t->offset += total;
            t->shard = -1; /* found */
        }
        grown = whole ? (unsigned char *)ft__grow(c, whole, total, total + size, 1) : bytes;
        if (whole && grown) memcpy(grown + total, bytes, size);
        if (whole) ft__release(c, bytes);
        if (grown) whole = grown;
        total += size;
    }
    ft__release(c, path);
    for (i = 0; ft__ok(c) && i < file->count; ++i) {
        if (file->tensors[i].shard >= 0)
            ft__fail(c, FT_FORMAT, "%s: variable %.200s is in a file that is not there", file->path,
                     ft__bundle_key(b, i));
        file->tensors[i].shard = 0;
    }
    if (ft__ok(c)) ft__file_replace(file, whole, total);
    else ft__release(c, whole);
}

/* ---- Names ---- */

/* Keys lie in order. Returns the entry with this one; -1: there is none. */
static int ft__bundle_find(const ft__bundle *b, const char *key, size_t length)
{
    int low = 0, high = b->file->count;
    while (low < high) {
        int middle = low + (high - low) / 2;
        const char *at = ft__bundle_key(b, middle);
        int order = ft__text_order(at, strlen(at), key, length);
        if (order == 0) return middle;
        if (order < 0) low = middle + 1;
        else high = middle;
    }
    return -1;
}

/* An attribute of an object: its name, the variable's full name, and the key. */
static void ft__bundle_attribute(ft__bundle *b, ft__proto p)
{
    uint64_t name = 0, name_bytes = 0;
    int found = -1;
    while (ft__proto_next(&p)) {
        if (p.wire == 2 && p.field == 2) {
            name = p.from;
            name_bytes = p.bytes;
        }
        if (p.wire == 2 && p.field == 3)
            found = ft__bundle_find(b, (const char *)b->file->bytes + p.from, (size_t)p.bytes);
    }
    if (found < 0 || name_bytes == 0 || name_bytes > 500
        || memchr(b->file->bytes + name, 0, (size_t)name_bytes)) return;
    b->named[found] = b->names.count;
    ft__text_add_bytes(&b->names, (const char *)b->file->bytes + name, (size_t)name_bytes);
    ft__text_add_bytes(&b->names, "", 1);
}

/* Reads the graph of objects, a text of one element: its length, a checksum of that, and the bytes
   (tensor_bundle.cc). */
static void ft__bundle_names(ft__bundle *b)
{
    ft_file *file = b->file;
    int at = ft__bundle_find(b, ft__graph_of_objects, strlen(ft__graph_of_objects));
    const ft_tensor_info *t = at < 0 ? NULL : &file->tensors[at];
    ft__proto p, object;
    uint64_t length;
    if (!t || t->type != FT_OTHER) return;
    p = ft__proto_message(file, t->offset, t->bytes);
    length = ft__proto_varint(&p);
    if (!ft__ok(file->context)) return;
    if (p.end - p.at < 4 || length != p.end - p.at - 4) {
        ft__bundle_fault(file, "a graph of objects that does not fit", p.at);
        return;
    }
    p = ft__proto_message(file, p.at + 4, length);
    while (ft__proto_next(&p)) {
        if (p.field != 1 || p.wire != 2) continue;
        object = ft__proto_inside(&p);
        while (ft__proto_next(&object))
            if (object.field == 2 && object.wire == 2)
                ft__bundle_attribute(b, ft__proto_inside(&object));
    }
}

/* Is it what an optimiser, a counter or a metric keeps? In TensorFlow 1 a slot is named after its
   variable, which is there too. */
static bool ft__bundle_passes(const ft__bundle *b, int i)
{
    static const char *const slots[] = {"/Adam", "/Adam_1", "/adam_m", "/adam_v", "/Momentum",
                                        "/RMSProp", "/RMSProp_1", "/Adagrad", "/Adadelta",
                                        "/Adadelta_1", "/Ftrl", "/Ftrl_1", "/AdamW", "/AdamW_1"};
    static const char *const counters[] = {"global_step", "beta1_power", "beta2_power",
                                           "save_counter/.ATTRIBUTES/VARIABLE_VALUE"};
    const char *key = ft__bundle_key(b, i);
    size_t k;
    if (strstr(key, "/.OPTIMIZER_SLOT/") || !strncmp(key, "optimizer/", 10)
        || !strncmp(key, "keras_api/", 10) || !strcmp(key, ft__graph_of_objects)) return true;
    for (k = 0; k < sizeof counters / sizeof counters[0]; ++k)
        if (!strcmp(key, counters[k])) return true;
    for (k = 0; k < sizeof slots / sizeof slots[0]; ++k)
        if (ft__ends_with(key, slots[k])
            && ft__bundle_find(b, key, strlen(key) - strlen(slots[k])) >= 0) return true;
    return false;
}

/* What the last part of a variable's name becomes, and how its numbers lie. */
typedef enum ft__bundle_view { FT__AS_IT_IS, FT__AS_KERNEL, FT__AS_DEPTHWISE } ft__bundle_view;
typedef struct ft__bundle_role { const char *theirs, *ours; ft__bundle_view view; } ft__bundle_role;

static const ft__bundle_role ft__bundle_roles[] = {
    {"kernel", "weight", FT__AS_KERNEL}, {"weights", "weight", FT__AS_KERNEL},
    {"depthwise_kernel", "weight", FT__AS_DEPTHWISE},
    {"depthwise_weights", "weight", FT__AS_DEPTHWISE},
    {"pointwise_kernel", "pointwise.weight", FT__AS_KERNEL},
    {"bias", "bias", FT__AS_IT_IS}, {"biases", "bias", FT__AS_IT_IS},
    {"gamma", "weight", FT__AS_IT_IS}, {"beta", "bias", FT__AS_IT_IS},
    {"moving_mean", "running_mean", FT__AS_IT_IS},
    {"moving_variance", "running_var", FT__AS_IT_IS}, {"embeddings", "weight", FT__AS_IT_IS}};

static void ft__bundle_set_view(ft_tensor_info *t, ft__bundle_view view)
{
    if (view == FT__AS_KERNEL && t->shape.rank >= 2) ft__view_kernel(t);
    if (view == FT__AS_DEPTHWISE && t->shape.rank >= 3) ft__view_depthwise(t);
}

/* Writes the name of a variable, as it is or as ours; then its view is set too. */
static void ft__bundle_name(ft_tensor_info *t, const char *theirs, bool ours, ft__text *to)
{
    const char *end = strstr(theirs, "/.ATTRIBUTES");
    size_t length = end ? (size_t)(end - theirs) : strcspn(theirs, ":");
    size_t begin = to->count, layer, k;
    for (layer = length; layer > 0 && theirs[layer - 1] != '/';) --layer;
    ft__text_add_bytes(to, theirs, length);
    if (!ft__ok(to->context)) return;
    for (k = begin; ours && k < to->count; ++k)
        if (to->letters[k] == '/') to->letters[k] = '.';
    for (k = 0; ours && k < sizeof ft__bundle_roles / sizeof ft__bundle_roles[0]; ++k) {
        const ft__bundle_role *r = &ft__bundle_roles[k];
        if (layer == 0 || strlen(r->theirs) != length - layer
            || memcmp(theirs + layer, r->theirs, length - layer) != 0) continue;
        to->count = begin + layer;
        ft__text_add(to, "%s", r->ours);
        ft__bundle_set_view(t, r->view);
    }
    ft__text_add_bytes(to, "", 1);
}

/* Lists in `to` what is not passed over, with names in file->letters; returns how many. */
static int ft__bundle_keep(ft__bundle *b, bool ours, ft_tensor_info *to)
{
    ft_file *file = b->file;
    ft__context *c = file->context;
    size_t *at = (size_t *)ft__allocate(c, (size_t)file->count + 1, sizeof *at);
    ft__text letters;
    int i, kept = 0;
    memset(&letters, 0, sizeof letters);
    letters.context = c;
    for (i = 0; ft__ok(c) && i < file->count; ++i) {
        ft_tensor_info *t = &to[kept];
        const char *key = ft__bundle_key(b, i);
        if (ft__bundle_passes(b, i)) continue;
        *t = file->tensors[i];
        if (t->type != FT_OTHER && t->bytes != (uint64_t)ft__shape_count(&t->shape)
                                               * (uint64_t)ft__type_bytes[t->type])
            ft__fail(c, FT_FORMAT, "%s: variable %.200s: its %llu bytes do not fit its shape",
                     file->path, key, (unsigned long long)t->bytes);
        ft__row_major(t);
        at[kept++] = letters.count;
        ft__bundle_name(t, ours && b->named[i] ? b->names.letters + b->named[i] : key, ours,
                        &letters);
    }
    for (i = 0; ft__ok(c) && i < kept; ++i) to[i].name = letters.letters + at[i];
    ft__release(c, at);
    ft__release(c, file->letters);
    file->letters = letters.letters;
    return kept;
}

/* Whether two of the tensors have one name. */
static bool ft__bundle_repeats(ft__context *c, const ft_tensor_info *tensors, int count)
{
    int *order = (int *)ft__allocate(c, (size_t)count + 1, sizeof *order), i;
    bool repeats = false;
    if (order) ft__sort_order(order, count, ft__name_less, (void *)(uintptr_t)tensors);
    for (i = 1; order && i < count; ++i)
        repeats = repeats || !strcmp(tensors[order[i - 1]].name, tensors[order[i]].name);
    ft__release(c, order);
    return repeats;
}

/* Takes what is passed over from the list, and names the rest: by what Keras called it, where that
   is known, else by its key. Where two would be called the same, all keep their keys. */
static void ft__bundle_list(ft__bundle *b)
{
    ft_file *file = b->file;
    ft__context *c = file->context;
    ft_tensor_info *to = (ft_tensor_info *)ft__allocate(c, (size_t)file->count + 1, sizeof *to);
    int kept = to ? ft__bundle_keep(b, true, to) : 0;
    if (ft__ok(c) && ft__bundle_repeats(c, to, kept)) {
        ft__log(c, "%s: two variables would have the same name: all keep the names and layouts of"
                " the file", file->path);
        kept = ft__bundle_keep(b, false, to);
    }
    if (ft__ok(c) && kept < file->count)
        ft__log(c, "%s: %d slots of optimisers, counters and metrics are passed over", file->path,
                file->count - kept);
    if (!to) return;
    ft__release(c, file->tensors);
    file->tensors = to;
    file->capacity = file->count + 1;
    file->count = ft__ok(c) ? kept : 0;
}

static bool ft__tensor_bundle_recognises(const ft_file *file)
{
    return file->size >= FT__BUNDLE_FOOTER
        && memcmp(file->bytes + file->size - 8, "\x57\xfb\x80\x8b\x24\x75\x47\xdb", 8) == 0;
}

static void ft__tensor_bundle_open(ft_file *file)
{
    ft__context *c = file->context;
    ft__bundle b;
    memset(&b, 0, sizeof b);
    b.file = file;
    b.keys.context = b.names.context = c;
    b.places.size = sizeof(size_t);
    b.shards = 1;
    if (!ft__ends_with(file->path, ".index")) {
        ft__fail(c, FT_INVALID, "%s: an index of TensorFlow's variables must be opened by its path,"
                 " NAME.index: its data are in files beside it", file->path);
        return;
    }
    ft__bundle_index(&b);
    if (ft__ok(c)) b.named = (size_t *)ft__allocate(c, (size_t)file->count + 1, sizeof *b.named);
    if (ft__ok(c)) ft__bundle_data(&b);
    ft__text_add_bytes(&b.names, "", 1);
    if (ft__ok(c)) ft__bundle_names(&b);
    if (ft__ok(c)) ft__bundle_list(&b);
    if (ft__ok(c)) ft__file_index(file);
    ft__release(c, b.named);
    ft__release(c, b.names.letters);
    ft__release(c, b.places.at);
    ft__release(c, b.keys.letters);
}

static const ft__reader ft__reader_tensor_bundle = {
    "TensorFlow's variables", false, ft__tensor_bundle_recognises, ft__tensor_bundle_open,
    ft__read_strided, NULL, false};
#endif
