#pragma once
#include "interface/requirements.h"
#include "interface/types.h"
#include "platform/context.h"
#include "basics/strings.h"
#include "basics/saving.h"
#include "basics/json.h"
#include "kernels/elementary.h"

/* =============================================================================================
   [SECTION] formats/safetensors: safetensors
   Eight bytes of header length (little-endian), a JSON header {name: {dtype, shape, data_offsets},
   __metadata__: {key: text}}, then the data. Every number is checked before it is used. The ft_file
   made here serves PyTorch's files too: they fill in the same list of tensors.
   ============================================================================================= */
struct ft_file {
    ft__context *context;
    char *path;                 /* for messages */
    const unsigned char *bytes; /* of the whole file */
    uint64_t size;
    unsigned char *owned;       /* the same, when it was read; NULL when mapped or the caller's */
    void *mapped;               /* the handle of a mapped file; else NULL */
    ft__json *json;             /* safetensors: names and metadata lie here */
    ft_tensor_info *tensors;
    int count, capacity;
    char **names;               /* PyTorch: as many as tensors, owned */
};

static ft_tensor_info *ft__file_add(ft_file *file)
{
    ft_tensor_info *grown;
    int capacity = file->capacity ? 2 * file->capacity : 64;
    if (file->count == file->capacity) {
        grown = (ft_tensor_info *)ft__grow(file->context, file->tensors, (size_t)file->count,
                                           (size_t)capacity, sizeof *grown);
        if (!grown) return NULL;
        file->tensors = grown;
        file->capacity = capacity;
    }
    return &file->tensors[file->count++];
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
    for (t = 0; name && t < FT_TYPE_COUNT; ++t)
        if (strcmp(name, ft__type_names[t]) == 0) return t;
    return -1;
}

/* One entry of the header; `data` is where the data begins in the file. */
static ft_status ft__safetensors_entry(ft_file *file, int entry, uint64_t data)
{
    const ft__json *j = file->json;
    const char *name = j->values[entry].key;
    int type = ft__type_named(ft__json_string(j, ft__json_member(j, entry, "dtype")));
    int shape = ft__json_member(j, entry, "shape"), d;
    int offsets = ft__json_member(j, entry, "data_offsets");
    int64_t begin = -1, end = -1, size = 0;
    size_t elements = 1;
    ft_tensor_info *info = ft__file_add(file);
    if (!info) return file->context->status;
    memset(info, 0, sizeof *info);
    info->name = name;
    if (type < 0)
        return ft__fail(file->context, FT_FORMAT, "%s: tensor %.200s: an unknown dtype", file->path,
                        name);
    info->type = (ft_type)type;
    info->shape.rank = ft__json_count(j, shape);
    if (!ft__json_at(j, shape, 'a') || info->shape.rank > FINETUNE_MAX_RANK)
        return ft__fail(file->context, FT_FORMAT, "%s: tensor %.200s: %d dimensions, at most %d can"
                        " be read", file->path, name, info->shape.rank, FINETUNE_MAX_RANK);
    for (d = 0; d < info->shape.rank; ++d) {
        if (!ft__json_int(j, ft__json_element(j, shape, d), &size) || size < 0 || size > INT_MAX
            || !ft__multiply(elements, (size_t)size, &elements) || elements > SIZE_MAX / 16)
            return ft__fail(file->context, FT_FORMAT, "%s: tensor %.200s: a wrong shape",
                            file->path, name);
        info->shape.size[d] = (int)size;
    }
    ft__json_int(j, ft__json_element(j, offsets, 0), &begin);
    ft__json_int(j, ft__json_element(j, offsets, 1), &end);
    if (begin < 0 || end < begin || (uint64_t)end > file->size - data
        || (uint64_t)(end - begin) != (uint64_t)elements * (uint64_t)ft__type_bytes[type])
        return ft__fail(file->context, FT_FORMAT, "%s: tensor %.200s: its bytes %lld to %lld do not"
                        " fit its shape or the file's %llu bytes", file->path, name,
                        (long long)begin, (long long)end, (unsigned long long)file->size);
    info->offset = data + (uint64_t)begin;
    info->bytes = (uint64_t)(end - begin);
    ft__row_major(info);
    return FT_OK;
}

static ft_status ft__safetensors_read(ft_file *file)
{
    ft__context *c = file->context;
    uint64_t header;
    size_t fault;
    int entry;
    if (file->size < 8) return ft__fail(c, FT_FORMAT, "%s: only %llu bytes: neither safetensors nor"
                                        " PyTorch", file->path, (unsigned long long)file->size);
    header = ft__little_endian(file->bytes, 8);
    if (header > file->size - 8 || file->size < 10 || file->bytes[8] != '{')
        return ft__fail(c, FT_FORMAT, "%s: neither safetensors (a header of %llu bytes does not fit"
                        " its %llu) nor PyTorch's zip", file->path, (unsigned long long)header,
                        (unsigned long long)file->size);
    file->json = ft__json_parse_at(c, (const char *)file->bytes + 8, (size_t)header, &fault);
    if (!file->json)
        return ft__fail(c, FT_FORMAT, "%s: the header is not JSON at offset %zu", file->path,
                        fault + 8);
    if (!ft__json_at(file->json, 0, 'o'))
        return ft__fail(c, FT_FORMAT, "%s: the header is no JSON object", file->path);
    for (entry = 1; entry < file->json->count; entry = file->json->values[entry].next)
        if (strcmp(file->json->values[entry].key, "__metadata__") != 0
            && ft__safetensors_entry(file, entry, header + 8) != FT_OK) break;
    return c->status;
}

/* ---- Numbers of other types ---- */

/* IEEE half precision: subnormals are multiples of 2^-24. */
static float ft__half_to_float(uint32_t half)
{
    uint32_t sign = (half & 0x8000u) << 16, exponent = half >> 10 & 31u, fraction = half & 0x3ffu;
    float subnormal;
    if (exponent == 31) return ft__from_bits(sign | 0x7f800000u | fraction << 13);
    if (exponent) return ft__from_bits(sign | (exponent + 112) << 23 | fraction << 13);
    subnormal = (float)fraction * (1.0f / 16777216.0f);
    return sign ? -subnormal : subnormal;
}

/* Rounds to nearest, ties to even, as both conversions do. */
static uint32_t ft__float_to_half(float value)
{
    uint32_t bits = ft__to_bits(value), sign = bits >> 16 & 0x8000u, size = bits & 0x7fffffffu;
    uint32_t shift, fraction, rest, half;
    if (size > 0x7f800000u) return sign | 0x7e00u;
    if (size >= 0x47800000u) return sign | 0x7c00u;     /* 65536 and more */
    if (size < 0x33000000u) return sign;                /* below half of the smallest */
    fraction = (size & 0x7fffffu) | 0x800000u;
    shift = size < 0x38800000u ? 126u - (size >> 23) : 13u;
    half = fraction >> shift;
    rest = fraction & ((1u << shift) - 1u);
    if (rest > 1u << (shift - 1) || (rest == 1u << (shift - 1) && (half & 1u))) half += 1;
    return size < 0x38800000u ? sign | half : sign | (half + (((size >> 23) - 113u) << 10));
}

static uint32_t ft__float_to_bfloat(float value)
{
    uint32_t bits = ft__to_bits(value);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return (bits >> 16) | 64u;
    return (bits + 0x7fffu + (bits >> 16 & 1u)) >> 16;
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
    default: return (float)whole;
    }
}

/* ---- Writing ---- */

typedef struct ft__write_tensor {
    const char *name;
    ft_type type;           /* F32, F16, BF16: from float32; others: the bytes as they are */
    ft_shape shape;
    const void *data;
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

/* In pieces, so that converting needs no memory of its own; little-endian on any machine. */
static bool ft__write_tensor_data(ft__saving *file, const ft__write_tensor *t)
{
    unsigned char piece[8192];
    const float *from = (const float *)t->data;
    size_t count = ft__shape_count(&t->shape), i, used = 0;
    int b, bytes = ft__type_bytes[t->type];
    if (t->type != FT_F32 && t->type != FT_F16 && t->type != FT_BF16)
        return ft__saving_write(file, t->data, count * (size_t)bytes);
    for (i = 0; i < count; ++i) {
        uint32_t bits = t->type == FT_F32 ? ft__to_bits(from[i])
            : t->type == FT_F16 ? ft__float_to_half(from[i]) : ft__float_to_bfloat(from[i]);
        for (b = 0; b < bytes; ++b) piece[used++] = (unsigned char)(bits >> (8 * b));
        if (used == sizeof piece || i + 1 == count) {
            if (!ft__saving_write(file, piece, used)) return false;
            used = 0;
        }
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
