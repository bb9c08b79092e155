#pragma once
#include "interface/types.h"
#include "platform/families.h"
#include "platform/context.h"
#include "basics/strings.h"
#include "basics/inflate.h"
#include "basics/saving.h"
#include "basics/json.h"
#include "formats/safetensors.h"
#include "formats/zip.h"
#include "formats/numpy.h"

/* =============================================================================================
   [SECTION] formats/numpy_writing: Writing NumPy's arrays
   A .npz is written as numpy.savez does: stored entries NAME.npy of version 1.0, row-major and
   little-endian. The metadata, if there is any, is one array more: see formats/numpy.
   ============================================================================================= */
#if FT__HAS_NUMPY
/* How NumPy calls a type; NULL: it has no such type. */
static const char *ft__npy_descr(ft_type type)
{
    size_t i;
    for (i = 0; i < sizeof ft__npy_types / sizeof ft__npy_types[0]; ++i)
        if (ft__npy_types[i].type == type) return ft__npy_types[i].name;
    return NULL;
}

/* The header of an array, padded so that the numbers begin at a multiple of 64. */
static void ft__npy_add_header(ft__text *to, const char *descr, const ft_shape *shape)
{
    size_t begin = to->count, length;
    int d;
    ft__text_add_bytes(to, "\x93NUMPY\1\0\0\0", 10);
    ft__text_add(to, "{'descr': '%s%s', 'fortran_order': False, 'shape': (",
                 descr[1] == '1' ? "|" : "<", descr);
    for (d = 0; d < shape->rank; ++d) ft__text_add(to, d ? ", %d" : "%d", shape->size[d]);
    ft__text_add(to, shape->rank == 1 ? ",), }" : "), }");
    while (ft__ok(to->context) && (to->count - begin + 1) % 64) ft__text_add(to, " ");
    ft__text_add(to, "\n");
    length = to->count - begin - 10;
    if (!ft__ok(to->context)) return;
    to->letters[begin + 8] = (char)(length & 255);
    to->letters[begin + 9] = (char)(length >> 8);
}

/* Fails for a tensor that no array can hold. */
static ft_status ft__npy_check(ft__context *c, const char *path, const ft__write_tensor *t)
{
    if (!ft__npy_descr(t->type))
        return ft__fail(c, FT_UNSUPPORTED, "%s: NumPy has no type %s, which tensor %.200s has:"
                        " write it as float32 (ft_save_options.widen, --type f32), or"
                        " .safetensors", path,
                        ft__type_names[t->type], t->name);
    if (strcmp(t->name, ft__npz_metadata) == 0)
        return ft__fail(c, FT_UNSUPPORTED, "%s: a tensor named %s cannot be written: the metadata"
                        " has this name", path, t->name);
    return c->status;
}

static uint32_t ft__crc_of_tensor(const ft__context *c, uint32_t crc, const ft__write_tensor *t)
{
    unsigned char piece[4096];
    size_t at = 0, bytes;
    while ((bytes = ft__tensor_piece(c, t, &at, piece, sizeof piece)) > 0)
        crc = ft__crc(crc, piece, bytes);
    return crc;
}

/* Writes an entry: its header, then the tensor's numbers, or some bytes. */
static void ft__npz_add(ft__zip_writer *zip, const char *name, const ft__text *header,
                        const ft__write_tensor *t, const ft__text *bytes)
{
    ft__context *c = zip->file->context;
    uint64_t size = t ? ft__written_bytes(t) : bytes->count;
    uint32_t crc;
    if (!ft__ok(c)) return;
    crc = ft__crc(0, (const unsigned char *)header->letters, header->count);
    crc = t ? ft__crc_of_tensor(c, crc, t)
        : ft__crc(crc, (const unsigned char *)bytes->letters, bytes->count);
    ft__zip_begin(zip, name, ".npy", header->count + size, crc);
    ft__saving_write(zip->file, header->letters, header->count);
    if (t) ft__write_tensor_data(zip->file, t);
    else ft__saving_write(zip->file, bytes->letters, bytes->count);
    zip->at += header->count + size;
}

static ft_status ft__npz_write(ft__context *c, const char *path, const ft__write_tensor *tensors,
                               int count, const char *const *pairs, int pair_count)
{
    ft__text header, texts;
    ft__zip_writer zip;
    ft__saving file;
    ft_shape shape;
    int i;
    for (i = 0; i < count; ++i)
        if (ft__npy_check(c, path, &tensors[i]) != FT_OK) return c->status;
    memset(&header, 0, sizeof header);
    memset(&texts, 0, sizeof texts);
    memset(&shape, 0, sizeof shape);
    header.context = texts.context = c;
    ft__saving_begin(&file, c, path);
    ft__zip_start(&zip, &file);
    for (i = 0; ft__ok(c) && file.written && i < count; ++i) {
        header.count = 0;
        ft__npy_add_header(&header, ft__npy_descr(tensors[i].type), &tensors[i].shape);
        ft__npz_add(&zip, tensors[i].name, &header, &tensors[i], NULL);
    }
    if (pair_count > 0 && ft__ok(c)) {
        ft__text_add(&texts, "{");
        ft__json_add_pairs(&texts, pairs, pair_count);
        ft__text_add(&texts, "}");
        shape.rank = 1;
        shape.size[0] = (int)texts.count;
        header.count = 0;
        ft__npy_add_header(&header, "u1", &shape);
        ft__npz_add(&zip, ft__npz_metadata, &header, NULL, &texts);
    }
    ft__zip_finish(&zip);
    if (!ft__saving_end(&file, ft__ok(c)) && ft__ok(c))
        ft__fail(c, FT_IO, "%s: %s", path, file.why);
    ft__saving_free(&file);
    ft__release(c, texts.letters);
    ft__release(c, header.letters);
    return c->status;
}

/* One array alone. Its name is the file's, and there is no place for metadata. */
static ft_status ft__npy_write(ft__context *c, const char *path, const ft__write_tensor *tensors,
                               int count, const char *const *pairs, int pair_count)
{
    ft__text header;
    ft__saving file;
    (void)pairs;
    if (count != 1)
        return ft__fail(c, FT_UNSUPPORTED, "%s: a .npy file holds one array, and there are %d"
                        " tensors: name it .npz", path, count);
    if (ft__npy_check(c, path, tensors) != FT_OK) return c->status;
    ft__log(c, "%s: a .npy file has no place for the name %.200s%s: not kept", path,
            tensors->name, pair_count ? " and the metadata" : "");
    memset(&header, 0, sizeof header);
    header.context = c;
    ft__npy_add_header(&header, ft__npy_descr(tensors->type), &tensors->shape);
    if (ft__saving_begin(&file, c, path) && ft__saving_write(&file, header.letters, header.count))
        ft__write_tensor_data(&file, tensors);
    if (!ft__saving_end(&file, ft__ok(c)) && ft__ok(c))
        ft__fail(c, FT_IO, "%s: %s", path, file.why);
    ft__saving_free(&file);
    ft__release(c, header.letters);
    return c->status;
}
#endif
