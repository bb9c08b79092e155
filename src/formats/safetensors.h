#pragma once
#include "interface/requirements.h"
#include "interface/types.h"
#include "platform/context.h"
#include "basics/strings.h"
#include "basics/saving.h"
#include "basics/json.h"
#include "basics/sorting.h"
#include "kernels/elementary.h"
#include "kernels/stored.h"
#include "nodes/nodes.h"

/* =============================================================================================
   [SECTION] formats/safetensors: safetensors
   Eight bytes of header length (little-endian), a JSON header {name: {dtype, shape, data_offsets},
   __metadata__: {key: text}}, then the data. Every number is checked before it is used. PyTorch's
   files become the same ft_file: their reader fills in the same list of tensors.
   ============================================================================================= */
static const char ft__scale_suffix[] = "_scale"; /* of an int8 weight's scales */

struct ft_file {
    ft__context *context;
    char *path;                 /* for messages */
    const unsigned char *bytes; /* the whole file */
    uint64_t size;
    unsigned char *owned;       /* `bytes` if read into memory; NULL if mapped or the caller's */
    ft__mapping *mapping;       /* of a mapped file, or of the caller's memory; else NULL */
    ft__json *json;             /* safetensors: owns the names and metadata */
    ft_tensor_info *tensors;
    int count, capacity;
    int *by_name;               /* [count]: their order by name */
    char *letters;              /* PyTorch: the names, owned */
    const char *state_dict;     /* PyTorch: ft_weights_options.state_dict */
    char prefix[128];           /* that all names share, and ... */
    size_t skip;                /* ... how much of it is skipped: see formats/weights */
    const char *may_lack, *may_hold; /* globs of the network that it was recognised as, or NULL:
                                   weights that it need not have, and other tensors */
};

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

static void ft__row_major(ft_tensor_info *info)
{
    int64_t stride = 1;
    int d;
    for (d = info->shape.rank - 1; d >= 0; --d) {
        info->stride[d] = stride;
        stride *= info->shape.size[d];
    }
}

static int ft__type_named(const char *name)
{
    int t;
    for (t = 0; name && t < FT_OTHER; ++t)
        if (strcmp(name, ft__type_names[t]) == 0) return t;
    return FT_OTHER;
}

/* Reads one entry of the header; the data begins at offset `data` of the file. */
static ft_status ft__safetensors_entry(ft_file *file, int entry, uint64_t data)
{
    const ft__json *j = file->json;
    const char *name = j->values[entry].key;
    const char *type_name = ft__json_string(j, ft__json_member(j, entry, "dtype"));
    int type = ft__type_named(type_name);
    int shape = ft__json_member(j, entry, "shape"), d;
    int offsets = ft__json_member(j, entry, "data_offsets");
    int64_t begin = -1, end = -1, size = 0;
    size_t elements = 1;
    ft_tensor_info *info = ft__file_add(file);
    if (!info) return file->context->status;
    memset(info, 0, sizeof *info);
    info->name = name;
    if (!type_name)
        return ft__fail(file->context, FT_FORMAT, "%s: tensor %.200s: has no dtype", file->path,
                        name);
    info->type = (ft_type)type;
    info->type_name = type_name;
    info->shape.rank = ft__json_count(j, shape);
    if (!ft__json_at(j, shape, 'a') || info->shape.rank > FINETUNE_MAX_RANK)
        return ft__fail(file->context, FT_FORMAT, "%s: tensor %.200s: has %d dimensions; at most %d"
                        " are supported", file->path, name, info->shape.rank, FINETUNE_MAX_RANK);
    for (d = 0; d < info->shape.rank; ++d) {
        if (!ft__json_int(j, ft__json_element(j, shape, d), &size) || size < 0 || size > INT_MAX
            || !ft__multiply(elements, (size_t)size, &elements) || elements > SIZE_MAX / 16)
            return ft__fail(file->context, FT_FORMAT, "%s: tensor %.200s: has a wrong shape",
                            file->path, name);
        info->shape.size[d] = (int)size;
    }
    ft__json_int(j, ft__json_element(j, offsets, 0), &begin);
    ft__json_int(j, ft__json_element(j, offsets, 1), &end);
    if (begin < 0 || end < begin || (uint64_t)end > file->size - data || (type != FT_OTHER
        && (uint64_t)(end - begin) != (uint64_t)elements * (uint64_t)ft__type_bytes[type]))
        return ft__fail(file->context, FT_FORMAT, "%s: tensor %.200s: its bytes %lld to %lld do not"
                        " fit its shape or the file's %llu bytes", file->path, name,
                        (long long)begin, (long long)end, (unsigned long long)file->size);
    info->offset = data + (uint64_t)begin;
    info->bytes = (uint64_t)(end - begin);
    ft__row_major(info);
    return FT_OK;
}

static bool ft__data_less(const void *context, int a, int b)
{
    const ft_tensor_info *tensors = (const ft_tensor_info *)context;
    if (tensors[a].offset != tensors[b].offset) return tensors[a].offset < tensors[b].offset;
    if (tensors[a].bytes != tensors[b].bytes) return tensors[a].bytes < tensors[b].bytes;
    return a < b;
}

/* The tensors' data must be contiguous: no byte belongs to two tensors or to none. */
static ft_status ft__safetensors_layout(ft_file *file, uint64_t data)
{
    ft__context *c = file->context;
    int *order = (int *)ft__allocate(c, (size_t)file->count + 1, sizeof *order), i;
    uint64_t end = data;
    const char *before = "the header";
    if (!order) return c->status;
    ft__sort_order(order, file->count, ft__data_less, file->tensors);
    for (i = 0; ft__ok(c) && i < file->count; ++i) {
        const ft_tensor_info *t = &file->tensors[order[i]];
        if (t->offset < end)
            ft__fail(c, FT_FORMAT, "%s: tensor %.200s overlaps %.200s: its data begins at byte"
                     " %llu, the other's ends at %llu", file->path, t->name, before,
                     (unsigned long long)t->offset, (unsigned long long)end);
        if (t->offset > end)
            ft__fail(c, FT_FORMAT, "%s: %llu bytes between %.200s and tensor %.200s belong to no"
                     " tensor", file->path, (unsigned long long)(t->offset - end), before,
                     t->name);
        end = t->offset + t->bytes;
        before = t->name;
    }
    if (end != file->size)
        ft__fail(c, FT_FORMAT, "%s: the %llu bytes after the last tensor, %.200s, belong to no"
                 " tensor", file->path, (unsigned long long)(file->size - end), before);
    ft__release(c, order);
    return c->status;
}

/* If two parameters share their weights, safetensors' save_model writes one of them, and its other
   name in the metadata: {"other": "name"}. Both names are listed. */
static ft_status ft__safetensors_shared(ft_file *file)
{
    const ft__json *j = file->json;
    int list = ft__json_member(j, 0, "__metadata__"), entry, more = file->count;
    const ft__json_value *all = ft__json_at(j, list, 'o');
    for (entry = list + 1; all && entry < all->next; entry = j->values[entry].next) {
        const char *name = j->values[entry].key, *same = ft__json_string(j, entry);
        int index = same ? ft__find_tensor(file, same) : -1;
        ft_tensor_info *added;
        if (index < 0 || ft__find_tensor(file, name) >= 0) continue;
        if (more == file->count && !ft__file_reserve(file, file->count + all->is.count)) break;
        added = &file->tensors[more++];
        *added = file->tensors[index];
        added->name = name;
    }
    if (more == file->count) return file->context->status;
    file->count = more;
    return ft__file_index(file);
}

enum { FT__MOST_HEADER = 100000000 }; /* bytes, as in the reference reader */

static ft_status ft__safetensors_read(ft_file *file)
{
    ft__context *c = file->context;
    uint64_t header;
    size_t fault;
    int entry;
    if (file->size < 8) return ft__fail(c, FT_FORMAT, "%s: has only %llu bytes: neither safetensors"
                                        " nor PyTorch", file->path, (unsigned long long)file->size);
    header = ft__little_endian(file->bytes, 8);
    if (header > file->size - 8 || file->size < 10 || file->bytes[8] != '{')
        return ft__fail(c, FT_FORMAT, "%s: neither safetensors (a header of %llu bytes does not fit"
                        " in its %llu bytes) nor a PyTorch zip file", file->path,
                        (unsigned long long)header, (unsigned long long)file->size);
    if (header > FT__MOST_HEADER)
        return ft__fail(c, FT_FORMAT, "%s: the header has %llu bytes; at most %d are supported",
                        file->path, (unsigned long long)header, FT__MOST_HEADER);
    file->json = ft__json_parse_at(c, (const char *)file->bytes + 8, (size_t)header, &fault);
    if (!file->json)
        return ft__fail(c, FT_FORMAT, "%s: the header is not JSON at offset %zu", file->path,
                        fault + 8);
    if (!ft__json_at(file->json, 0, 'o'))
        return ft__fail(c, FT_FORMAT, "%s: the header is not a JSON object", file->path);
    if (!ft__file_reserve(file, ft__json_count(file->json, 0))) return c->status;
    for (entry = 1; entry < file->json->count; entry = file->json->values[entry].next)
        if (strcmp(file->json->values[entry].key, "__metadata__") != 0
            && ft__safetensors_entry(file, entry, header + 8) != FT_OK) break;
    if (!ft__ok(c) || ft__safetensors_layout(file, header + 8) != FT_OK
        || ft__file_index(file) != FT_OK) return c->status;
    return ft__safetensors_shared(file);
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

/* ---- Writing ---- */

typedef struct ft__write_tensor {
    const char *name;
    ft_type type;           /* in the file: the type of `data`, or F32, F16, BF16 */
    ft_shape shape;
    ft__stored data;
} ft__write_tensor;

static uint64_t ft__written_bytes(const ft__write_tensor *t)
{
    return (uint64_t)ft__shape_count(&t->shape) * (uint64_t)ft__type_bytes[t->type];
}

/* The header, padded with spaces so that the data begins at a multiple of 8. */
static void ft__safetensors_header(ft__text *text, const ft__write_tensor *tensors, int count,
                                   const char *const *pairs, int pair_count)
{
    uint64_t offset = 0, end;
    int i, d;
    ft__text_add(text, "{\"__metadata__\":{\"format\":\"pt\"");
    for (i = 0; i < pair_count; ++i) {
        ft__text_add(text, ",");
        ft__json_add_text(text, pairs[2 * i]);
        ft__text_add(text, ":");
        ft__json_add_text(text, pairs[2 * i + 1]);
    }
    ft__text_add(text, "}");
    for (i = 0; i < count; ++i) {
        ft__text_add(text, ",");
        ft__json_add_text(text, tensors[i].name);
        ft__text_add(text, ":{\"dtype\":\"%s\",\"shape\":[", ft__type_names[tensors[i].type]);
        for (d = 0; d < tensors[i].shape.rank; ++d)
            ft__text_add(text, "%s%d", d ? "," : "", tensors[i].shape.size[d]);
        end = offset + ft__written_bytes(&tensors[i]);
        ft__text_add(text, "],\"data_offsets\":[%llu,%llu]}", (unsigned long long)offset,
                     (unsigned long long)end);
        offset = end;
    }
    ft__text_add(text, "}");
    while (ft__ok(text->context) && text->count % 8) ft__text_add(text, " ");
}

/* The bytes of numbers [first, first + count) of a tensor as in the file: little-endian. */
static void ft__tensor_bytes(const ft__context *c, const ft__write_tensor *t, size_t first,
                             size_t count, unsigned char *to)
{
    size_t width = (size_t)ft__type_bytes[t->type], some, i, b;
    const unsigned char *from = (const unsigned char *)t->data.at + first * width;
    float piece[256];
    for (; count > 0; count -= some, first += some) {
        some = count < 256 ? count : 256;
        if (t->type != t->data.type) ft__read_stored_run(c, &t->data, first, some, piece);
        for (i = 0; i < some; ++i) {
            uint32_t bits;
            uint16_t half;
            if (t->type != t->data.type)
                bits = t->type == FT_F32 ? ft__to_bits(piece[i])
                    : t->type == FT_F16 ? ft__float_to_half(piece[i])
                    : ft__float_to_bfloat(piece[i]);
            else if (width == 4) memcpy(&bits, from, sizeof bits);
            else if (width == 1) bits = *from;
            else {
                memcpy(&half, from, sizeof half);
                bits = half;
            }
            from += width;
            for (b = 0; b < width; ++b) *to++ = (unsigned char)(bits >> (8 * b));
        }
    }
}

/* Written in pieces, so that converting allocates nothing. */
static bool ft__write_tensor_data(ft__saving *file, const ft__write_tensor *t)
{
    unsigned char piece[8192];
    size_t count = ft__shape_count(&t->shape), width = (size_t)ft__type_bytes[t->type], i, some;
    for (i = 0; i < count; i += some) {
        some = count - i < sizeof piece / width ? count - i : sizeof piece / width;
        ft__tensor_bytes(file->context, t, i, some, piece);
        if (!ft__saving_write(file, piece, some * width)) return false;
    }
    return true;
}

static ft_status ft__safetensors_write(ft__context *c, const char *path,
                                       const ft__write_tensor *tensors, int count,
                                       const char *const *pairs, int pair_count)
{
    unsigned char length[8];
    ft__text header;
    ft__saving file;
    bool written;
    int i;
    memset(&header, 0, sizeof header);
    header.context = c;
    ft__safetensors_header(&header, tensors, count, pairs, pair_count);
    written = ft__saving_begin(&file, c, path);
    for (i = 0; i < 8; ++i) length[i] = (unsigned char)((uint64_t)header.count >> (8 * i));
    if (written)
        written = ft__saving_write(&file, length, 8)
            && ft__saving_write(&file, header.letters, header.count);
    for (i = 0; written && i < count; ++i) written = ft__write_tensor_data(&file, &tensors[i]);
    if (!ft__saving_end(&file, true) && ft__ok(c))
        ft__fail(c, FT_IO, "%s: %s", path, file.why);
    ft__saving_free(&file);
    ft__release(c, header.letters);
    return c->status;
}
