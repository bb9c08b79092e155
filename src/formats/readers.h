#pragma once
#include "interface/requirements.h"
#include "interface/types.h"
#include "platform/families.h"
#include "platform/context.h"
#include "basics/strings.h"
#include "basics/files.h"
#include "basics/json.h"
#include "basics/sorting.h"
#include "kernels/elementary.h"
#include "kernels/stored.h"
#include "nodes/nodes.h"
#include "nodes/storage.h"

/* =============================================================================================
   [SECTION] formats/readers: The table of file readers
   What a reader makes of a file, an ft_file with a list of tensors, and what its row says of it.
   Everything else about files asks the row, never the format.
   ============================================================================================= */
/* The list of readers, in the order in which they are asked. X(NAME) means that there is
   ft__reader_NAME, at the end of the part of that format.

   To add one: its name here, and a part in formats/ whose functions list the file's tensors and
   metadata in the ft_file, read a tensor's elements, and return the network's description, in the
   words of formats/graphs, if the format holds one. */
#define FT__READERS(X) X(safetensors) FT__NUMPY_READERS(X) FT__TENSORFLOW_READERS(X) \
    FT__KERAS_READERS(X) X(pytorch) X(pytorch_legacy) X(shards) X(description) FT__ONNX_READER(X)
/* Rows of families that may be left out, and what the error of an unknown file then adds. */
#define FT__NO_READER(format, family) "; " format " is left out (" FT__WITHOUT(family) ")"
#if FT__HAS_NUMPY
#define FT__NUMPY_READERS(X) X(npy) X(npz)
#define FT__NUMPY_LEFT_OUT ""
#else
#define FT__NUMPY_READERS(X)
#define FT__NUMPY_LEFT_OUT FT__NO_READER("NumPy", NUMPY)
#endif

#if FT__HAS_TENSORFLOW
#define FT__TENSORFLOW_READERS(X) X(tensor_bundle)
#define FT__TENSORFLOW_LEFT_OUT ""
#else
#define FT__TENSORFLOW_READERS(X)
#define FT__TENSORFLOW_LEFT_OUT FT__NO_READER("TensorFlow", TENSORFLOW)
#endif

#if FT__HAS_KERAS
#define FT__KERAS_READERS(X) X(keras) X(keras_hdf5)
#define FT__KERAS_LEFT_OUT ""
#else
#define FT__KERAS_READERS(X)
#define FT__KERAS_LEFT_OUT FT__NO_READER("Keras", KERAS)
#endif

#if FT__HAS_ONNX
#define FT__ONNX_READER(X) X(onnx)
#define FT__ONNX_LEFT_OUT ""
#else
#define FT__ONNX_READER(X)
#define FT__ONNX_LEFT_OUT FT__NO_READER("ONNX", ONNX)
#endif

typedef struct ft__note { const char *key, *text; } ft__note;

typedef struct ft__reader {
    const char *name;
    bool chooses;           /* ft_weights_options.state_dict says which weights are listed */
    bool (*recognises)(const ft_file *file);    /* by its first bytes */
    /* Lists the tensors, sorted by ft__file_index, and the metadata; fails if a byte is wrong. */
    void (*open)(ft_file *file);
    /* Copies elements [first, first + count) of a tensor, row by row, in the type and byte order of
       the file. */
    void (*read)(const ft_file *file, const ft_tensor_info *t, size_t first, size_t count,
                 unsigned char *to);
    const char *(*graph)(ft_file *file);    /* NULL, or returning NULL: the file describes none */
    bool sizes;             /* ft_weights_options.sample says the sizes of a sample */
} ft__reader;

/* Memory that a file keeps until it is closed. */
typedef struct ft__file_block { struct ft__file_block *before; size_t used, size; } ft__file_block;

struct ft_file {
    ft__context *context;
    char *path;                 /* for messages */
    const unsigned char *bytes; /* the whole file */
    uint64_t size;
    unsigned char *owned;       /* `bytes` if read into memory; NULL if mapped or the caller's */
    ft__mapping *mapping;       /* of a mapped file, or of the caller's memory; else NULL */
    const ft__reader *reader;
    ft__json *json;             /* safetensors: owns the names and metadata */
    ft__note *metadata;         /* [metadata_count] */
    int metadata_count;
    ft_tensor_info *tensors;
    int count, capacity;
    const char **shard_names;   /* an index: the files that it names, ... */
    ft_file **shards;           /* [shard_count]: ... opened; NULL: the file has the bytes itself */
    int shard_count;
    int *by_name;               /* [count]: their order by name */
    char *letters;              /* the names, owned, if the JSON does not have them */
    const char *state_dict;     /* PyTorch: ft_weights_options.state_dict */
    char prefix[128];           /* that all names share, and ... */
    size_t skip;                /* ... how much of it is skipped: see formats/weights */
    /* Of readers that keep more than this: what they keep, how it is freed unless it is in blocks,
       and what names the tensors for a network that is there; else NULL. */
    void *own;
    void (*forget)(ft_file *file);
    void (*settle)(const ft_model *m, ft_file *file);
    ft__file_block *blocks;
    char *described;            /* the network's description, if the file has it in other words */
    const char *may_lack, *may_hold; /* globs of the network that it was recognised as, or NULL:
                                    weights that it need not have, and other tensors */
    int sample[FINETUNE_MAX_RANK - 1]; /* ft_weights_options.sample */
};

/* The file that holds the bytes of this tensor. */
static const ft_file *ft__file_with(const ft_file *file, const ft_tensor_info *t)
{
    return file->shards ? file->shards[t->shard] : file;
}

static bool ft__file_reserve(ft_file *file, int capacity)
{
    ft_tensor_info *grown;
    if (capacity <= file->capacity) return true;
    grown = (ft_tensor_info *)ft__grow(file->context, file->tensors, (size_t)file->count,
                                       (size_t)capacity, sizeof *grown);
    if (!grown) return false;
    file->tensors = grown;
    file->capacity = capacity;
    return true;
}

static ft_tensor_info *ft__file_add(ft_file *file)
{
    if (file->count == file->capacity
        && !ft__file_reserve(file, file->capacity ? 2 * file->capacity : 64)) return NULL;
    return &file->tensors[file->count++];
}

static bool ft__name_less(const void *context, int a, int b)
{
    const ft_tensor_info *tensors = (const ft_tensor_info *)context;
    int order = strcmp(tensors[a].name, tensors[b].name);
    return order < 0 || (order == 0 && a < b);
}

/* Sorts the tensors by name; two with the same name are an error. */
static ft_status ft__file_index(ft_file *file)
{
    ft__context *c = file->context;
    int i;
    if (!ft__ok(c)) return c->status;
    ft__release(c, file->by_name);
    file->by_name = (int *)ft__allocate(c, (size_t)file->count + 1, sizeof *file->by_name);
    if (!file->by_name) return c->status;
    ft__sort_order(file->by_name, file->count, ft__name_less, file->tensors);
    for (i = 1; i < file->count; ++i)
        if (strcmp(file->tensors[file->by_name[i - 1]].name,
                   file->tensors[file->by_name[i]].name) == 0)
            return ft__fail(c, FT_FORMAT, "%s: two tensors are named %.200s", file->path,
                            file->tensors[file->by_name[i]].name);
    return c->status;
}

static int ft__find_tensor(const ft_file *file, const char *name)
{
    int low = 0, high = file->by_name ? file->count : 0;
    while (low < high) {
        int middle = low + (high - low) / 2;
        int order = strcmp(file->tensors[file->by_name[middle]].name, name);
        if (order == 0) return file->by_name[middle];
        if (order < 0) low = middle + 1;
        else high = middle;
    }
    return -1;
}

static uint64_t ft__little_endian(const unsigned char *bytes, int count)
{
    uint64_t value = 0;
    int i;
    for (i = count - 1; i >= 0; --i) value = value << 8 | bytes[i];
    return value;
}

/* Unsigned, for the strides of a tensor without elements may be of any size. */
static void ft__row_major(ft_tensor_info *info)
{
    uint64_t stride = 1;
    int d;
    for (d = info->shape.rank - 1; d >= 0; --d) {
        info->stride[d] = (int64_t)stride;
        stride *= (uint64_t)info->shape.size[d];
    }
}

static int ft__type_named(const char *name)
{
    int t;
    for (t = 0; name && t < FT_OTHER; ++t)
        if (strcmp(name, ft__type_names[t]) == 0) return t;
    return FT_OTHER;
}

const char *ft_file_metadata(const ft_file *file, const char *key)
{
    int i;
    for (i = 0; file && key && i < file->metadata_count; ++i)
        if (strcmp(file->metadata[i].key, key) == 0) return file->metadata[i].text;
    return NULL;
}

/* The text of a note that the model keeps for ft_save; NULL: there is none. */
static FT__UNUSED const char *ft__kept_note(const ft_model *m, const char *wanted)
{
    const char *key = m->notes.letters;
    int i;
    for (i = 0; i < m->note_count; ++i) {
        const char *text = key + strlen(key) + 1;
        if (!strcmp(key, wanted)) return text;
        key = text + strlen(text) + 1;
    }
    return NULL;
}

/* Takes the file's metadata from an object of texts in its JSON. */
static void ft__file_metadata(ft_file *file, int list)
{
    const ft__json *j = file->json;
    const ft__json_value *all = ft__json_at(j, list, 'o');
    int entry;
    if (!all) return;
    file->metadata = (ft__note *)ft__allocate(file->context, (size_t)all->is.count + 1,
                                              sizeof *file->metadata);
    for (entry = list + 1; file->metadata && entry < all->next; entry = j->values[entry].next) {
        const char *text = ft__json_string(j, entry);
        if (!text) continue;
        file->metadata[file->metadata_count].key = j->values[entry].key;
        file->metadata[file->metadata_count].text = text;
        file->metadata_count += 1;
    }
}

/* Are the elements contiguous? In PyTorch's views and in Fortran's order they are not. */
static bool ft__is_row_major(const ft_tensor_info *t)
{
    ft_tensor_info plain = *t;
    int d;
    ft__row_major(&plain);
    for (d = 0; d < t->shape.rank; ++d)
        if (t->shape.size[d] > 1 && t->stride[d] != plain.stride[d]) return false;
    return true;
}

/* Where tensors lie row by row. */
static void ft__read_in_order(const ft_file *file, const ft_tensor_info *t, size_t first,
                              size_t count, unsigned char *to)
{
    size_t bytes = (size_t)ft__type_bytes[t->type];
    if (count > 0) memcpy(to, file->bytes + t->offset + first * bytes, count * bytes);
}

/* The place of element `index`, counted row by row, from the tensor's first one. */
static uint64_t ft__strided_place(const ft_tensor_info *t, size_t index)
{
    int64_t at = 0;
    int d;
    for (d = t->shape.rank - 1; d >= 0; --d) {
        at += (int64_t)(index % (size_t)t->shape.size[d]) * t->stride[d];
        index /= (size_t)t->shape.size[d];
    }
    return (uint64_t)at;
}

/* Where elements lie at any strides, as in PyTorch's views and Fortran's order. */
static void ft__read_strided(const ft_file *file, const ft_tensor_info *t, size_t first,
                             size_t count, unsigned char *to)
{
    size_t bytes = (size_t)ft__type_bytes[t->type], i;
    if (ft__is_row_major(t)) ft__read_in_order(file, t, first, count, to);
    else for (i = 0; i < count; ++i)
        memcpy(to + i * bytes, file->bytes + t->offset + ft__strided_place(t, first + i) * bytes,
               bytes);
}

/* A kernel as TensorFlow and Keras have it, [.., in, out], as [out, in, ..]. */
static FT__UNUSED void ft__view_kernel(ft_tensor_info *t)
{
    ft_tensor_info from = *t;
    int r = from.shape.rank, d;
    for (d = 0; d < r; ++d) {
        int to = d < r - 2 ? d + 2 : r - 1 - d;
        t->shape.size[to] = from.shape.size[d];
        t->stride[to] = from.stride[d];
    }
}

/* A depthwise kernel, [.., in, multiplier], as [in * multiplier, 1, ..]; unchanged if these are too
   many channels. */
static FT__UNUSED void ft__view_depthwise(ft_tensor_info *t)
{
    const int *last = &t->shape.size[t->shape.rank - 2];
    if ((int64_t)last[0] * last[1] > INT_MAX) return;
    ft__view_kernel(t);
    t->shape.size[0] *= t->shape.size[1];
    t->shape.size[1] = 1;
    t->stride[1] = t->stride[0];
}

/* Makes `bytes`, a block of memory, the file's. */
static FT__UNUSED void ft__file_replace(ft_file *file, unsigned char *bytes, uint64_t size)
{
    ft__mapping_drop(file->context, file->mapping);
    ft__release(file->context, file->owned);
    file->mapping = NULL;
    file->bytes = file->owned = bytes;
    file->size = size;
}

/* ---- Numbers of other types ---- */

/* Eight bits (Micikevicius et al. 2022): E5M2 is the upper half of a half; E4M3 has no infinity,
   and its subnormals are multiples of 2^-9. */
static float ft__e4m3_to_float(uint32_t bits)
{
    uint32_t sign = (bits & 0x80u) << 24, exponent = bits >> 3 & 15u, fraction = bits & 7u;
    float subnormal = (float)fraction * (1.0f / 512.0f);
    if (exponent == 15 && fraction == 7) return ft__from_bits(sign | 0x7fc00000u);
    if (exponent) return ft__from_bits(sign | (exponent + 120) << 23 | fraction << 20);
    return sign ? -subnormal : subnormal;
}

static float ft__read_element(const unsigned char *at, ft_type type)
{
    uint64_t bits = ft__little_endian(at, ft__type_bytes[type]);
    int64_t whole = (int64_t)bits;
    double number;
    switch (type) {
    case FT_F32: return ft__from_bits((uint32_t)bits);
    case FT_F16: return ft__half_to_float((uint32_t)bits);
    case FT_BF16: return ft__from_bits((uint32_t)bits << 16);
    case FT_F64:
        memcpy(&number, &bits, sizeof number);
        return (float)number;
    case FT_I64: return (float)whole;
    case FT_I32: return (float)(bits < 0x80000000u ? whole : whole - 0x100000000);
    case FT_I16: return (float)(bits < 0x8000u ? whole : whole - 0x10000);
    case FT_I8: return (float)(bits < 0x80u ? whole : whole - 0x100);
    case FT_U64: return (float)bits;
    case FT_F8_E4M3: return ft__e4m3_to_float((uint32_t)bits);
    case FT_F8_E5M2: return ft__half_to_float((uint32_t)bits << 8);
    default: return (float)whole;
    }
}

/* Elements [first, first + count), converted in pieces. */
static void ft__read_numbers(const ft_file *file, const ft_tensor_info *t, size_t first,
                             size_t count, float *to)
{
    unsigned char piece[4096];
    size_t bytes = (size_t)ft__type_bytes[t->type], i, k, some;
    for (i = 0; i < count; i += some) {
        some = count - i < sizeof piece / bytes ? count - i : sizeof piece / bytes;
        file->reader->read(file, t, first + i, some, piece);
        for (k = 0; k < some; ++k) to[i + k] = ft__read_element(piece + k * bytes, t->type);
    }
}

/* ---- Bytes of files ---- */

/* Gets the bytes: the caller's, mapped if asked for, or read into memory. */
static ft_status ft__file_bytes(ft_file *file, ft_weights_options options)
{
    ft__context *c = file->context;
    ft_files *files = &c->desc.files;
    size_t size = 0;
    int64_t whole;
    if (options.map && (options.memory || files->map)) {
        file->mapping = (ft__mapping *)ft__allocate(c, 1, sizeof *file->mapping);
        if (!file->mapping) return c->status;
        file->mapping->users = 1;
    }
    if (options.memory) {
        file->bytes = (const unsigned char *)options.memory;
        file->size = options.bytes;
        return c->status;
    }
    if (file->mapping) {
        void *opened = files->open(files->user, file->path, false);
        whole = opened ? files->size(files->user, opened) : -1;
        if (whole > 0) {
            file->size = file->mapping->size = (uint64_t)whole;
            file->bytes = file->mapping->bytes
                = (const unsigned char *)files->map(files->user, opened, (size_t)whole);
        }
        file->mapping->file = file->bytes ? opened : NULL;
        if (file->bytes) return c->status;
        if (opened) files->close(files->user, opened);
        ft__mapping_drop(c, file->mapping);
        file->mapping = NULL; /* read it instead */
    }
    file->owned = ft__read_file(c, file->path, &size);
    file->bytes = file->owned;
    file->size = size;
    return c->status;
}

/* The path of a file beside the index. Released by the caller. */
static char *ft__shard_path(ft__context *c, const char *index, const char *name)
{
    const char *end = strrchr(index, '/');
    size_t folder = end ? (size_t)(end - index) + 1 : 0;
    char *path = (char *)ft__allocate(c, folder + strlen(name) + 1, 1);
    if (!path) return NULL;
    memcpy(path, index, folder);
    strcpy(path + folder, name);
    return path;
}

/* ---- Memory and files that belong to a file that is open ---- */

static void ft__file_free_blocks(ft_file *file)
{
    while (file->blocks) {
        ft__file_block *block = file->blocks;
        file->blocks = block->before;
        ft__release(file->context, block);
    }
}

#if FT__HAS_ONNX

/* So many bytes, zero, until the file is closed: cut from blocks, for a file may need many small
   ones. NULL with an error. */
static void *ft__file_memory(ft_file *file, size_t bytes)
{
    ft__file_block *block = file->blocks;
    size_t want, head = (sizeof *block + 15) / 16 * 16;
    if (bytes > SIZE_MAX / 4) {
        ft__fail(file->context, FT_MEMORY, "%s: %zu bytes do not fit into memory", file->path,
                 bytes);
        return NULL;
    }
    bytes = (bytes + 15) / 16 * 16;
    if (!block || block->size - block->used < bytes) {
        want = head + (bytes > 1 << 14 ? bytes : 1 << 14);
        block = (ft__file_block *)ft__allocate(file->context, want, 1);
        if (!block) return NULL;
        block->size = want;
        block->used = head;
        block->before = file->blocks;
        file->blocks = block;
    }
    block->used += bytes;
    return (unsigned char *)block + block->used - bytes;
}

/* Adds to the files that have a file's bytes; returns it, NULL with an error. With `path` it is
   read, else it has `bytes`. */
static ft_file *ft__file_add_holder(ft_file *file, const char *path, const unsigned char *bytes,
                                    uint64_t size)
{
    ft__context *c = file->context;
    ft_weights_options options;
    ft_file **grown, *holder;
    grown = (ft_file **)ft__grow(c, file->shards, (size_t)file->shard_count,
                                 (size_t)file->shard_count + 1, sizeof *grown);
    if (!grown) return NULL;
    file->shards = grown;
    holder = (ft_file *)ft__allocate(c, 1, sizeof *holder);
    if (!holder) return NULL;
    file->shards[file->shard_count++] = holder;
    holder->context = c;
    holder->bytes = bytes;
    holder->size = size;
    memset(&options, 0, sizeof options);
    options.map = file->mapping != NULL;
    if (path) holder->path = ft__copy_text(c, path);
    if (path && holder->path) ft__file_bytes(holder, options);
    return ft__ok(c) ? holder : NULL;
}
#endif
