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
#include "formats/readers.h"

/* =============================================================================================
   [SECTION] formats/safetensors: safetensors
   Eight bytes of header length (little-endian), a JSON header {name: {dtype, shape, data_offsets},
   __metadata__: {key: text}}, then the data. Every number is checked before it is used.
   ============================================================================================= */
static const char ft__scale_suffix[] = "_scale"; /* of an int8 weight's scales */
static const char ft__graph_key[] = "finetune";  /* of __metadata__: the network's description */

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

/* No header has 2^56 bytes: its eighth byte is 0, as no byte of a text is. */
static bool ft__safetensors_recognises(const ft_file *file)
{
    return file->size > 8 && file->bytes[7] == 0 && file->bytes[8] == '{';
}

static void ft__safetensors_open(ft_file *file)
{
    ft__context *c = file->context;
    uint64_t header = ft__little_endian(file->bytes, 8);
    size_t fault;
    int entry;
    if (header > file->size - 8)
        ft__fail(c, FT_FORMAT, "%s: a safetensors header of %llu bytes does not fit in its %llu"
                 " bytes", file->path, (unsigned long long)header, (unsigned long long)file->size);
    else if (header > FT__MOST_HEADER)
        ft__fail(c, FT_FORMAT, "%s: the header has %llu bytes; at most %d are supported",
                 file->path, (unsigned long long)header, FT__MOST_HEADER);
    if (!ft__ok(c)) return;
    file->json = ft__json_parse_at(c, (const char *)file->bytes + 8, (size_t)header, &fault);
    if (!file->json)
        ft__fail(c, FT_FORMAT, "%s: the header is not JSON at offset %zu", file->path, fault + 8);
    else if (!ft__json_at(file->json, 0, 'o'))
        ft__fail(c, FT_FORMAT, "%s: the header is not a JSON object", file->path);
    if (!ft__ok(c) || !ft__file_reserve(file, ft__json_count(file->json, 0))) return;
    for (entry = 1; entry < file->json->count; entry = file->json->values[entry].next)
        if (strcmp(file->json->values[entry].key, "__metadata__") != 0
            && ft__safetensors_entry(file, entry, header + 8) != FT_OK) break;
    if (!ft__ok(c) || ft__safetensors_layout(file, header + 8) != FT_OK
        || ft__file_index(file) != FT_OK) return;
    ft__safetensors_shared(file);
    ft__file_metadata(file, ft__json_member(file->json, 0, "__metadata__"));
}

/* In model files: see formats/model_files. */
static const char *ft__safetensors_graph(ft_file *file)
{
    return ft_file_metadata(file, ft__graph_key);
}

static const ft__reader ft__reader_safetensors = {
    "safetensors", false, ft__safetensors_recognises,
    ft__safetensors_open, ft__read_in_order, ft__safetensors_graph, false};

/* ---- Writing ---- */

typedef struct ft__write_tensor {
    const char *name;
    ft_type type;           /* in the file: the type of `data`, or F32, F16, BF16 */
    ft_shape shape;         /* in the file; if `transposed`, the data is the other way round */
    ft__stored data;
    bool transposed;
    const ft_file *file;    /* not NULL: the data is this tensor of a file; of `data` only the */
    const ft_tensor_info *info;                                     /* type is set */
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
    ft__text_add(text, "{\"__metadata__\":{\"format\":\"pt\"%s", pair_count ? "," : "");
    ft__json_add_pairs(text, pairs, pair_count);
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

/* The place in its data of number i of a tensor in the file. */
static size_t ft__place_in_data(const ft__write_tensor *t, size_t i)
{
    size_t rows = (size_t)t->shape.size[1];
    return t->transposed ? i % rows * (size_t)t->shape.size[0] + i / rows : i;
}

/* The bytes of numbers [first, first + count) of a tensor as in the file: little-endian. */
static void ft__tensor_bytes(const ft__context *c, const ft__write_tensor *t, size_t first,
                             size_t count, unsigned char *to)
{
    size_t width = (size_t)ft__type_bytes[t->type], some, i, b;
    float piece[256];
    if (t->file && t->type == t->data.type) {
        t->file->reader->read(t->file, t->info, first, count, to);
        return;
    }
    for (; count > 0; count -= some, first += some) {
        some = count < 256 ? count : 256;
        if (t->file) ft__read_numbers(t->file, t->info, first, some, piece);
        for (i = 0; t->type != t->data.type && t->transposed && i < some; ++i)
            ft__read_stored_run(c, &t->data, ft__place_in_data(t, first + i), 1, &piece[i]);
        if (t->type != t->data.type && !t->transposed && !t->file)
            ft__read_stored_run(c, &t->data, first, some, piece);
        for (i = 0; i < some; ++i) {
            const unsigned char *from = (const unsigned char *)t->data.at
                + ft__place_in_data(t, first + i) * width;
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
            for (b = 0; b < width; ++b) *to++ = (unsigned char)(bits >> (8 * b));
        }
    }
}

/* The bytes of the numbers from *at on, as many as have room; moves *at past them. Returns how many
   bytes there are: 0 after the last number. Pieces of fixed size, so that converting allocates
   nothing. */
static size_t ft__tensor_piece(const ft__context *c, const ft__write_tensor *t, size_t *at,
                               unsigned char *to, size_t size)
{
    size_t width = (size_t)ft__type_bytes[t->type], left = ft__shape_count(&t->shape) - *at;
    size_t count = left < size / width ? left : size / width;
    if (count > 0) ft__tensor_bytes(c, t, *at, count, to);
    *at += count;
    return count * width;
}

static bool ft__write_tensor_data(ft__saving *file, const ft__write_tensor *t)
{
    unsigned char piece[8192];
    size_t at = 0, bytes;
    while ((bytes = ft__tensor_piece(file->context, t, &at, piece, sizeof piece)) > 0)
        if (!ft__saving_write(file, piece, bytes)) return false;
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
