#pragma once
#include "interface/requirements.h"
#include "interface/types.h"
#include "platform/families.h"
#include "platform/context.h"
#include "basics/strings.h"
#include "basics/json.h"
#include "formats/readers.h"
#include "formats/safetensors.h"
#include "formats/zip.h"

/* =============================================================================================
   [SECTION] formats/numpy: NumPy's arrays
   A .npy file holds one array: "\x93NUMPY", a version of two bytes, the length of a header (2
   bytes, from version 2 on 4), the header, and the numbers (numpy.lib.format). The header is a
   dictionary as Python writes it: {'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }.
   A .npz file is a zip archive of them, stored or deflated, each named NAME.npy. What is no array
   of numbers (objects, which are pickles, strings, structures, complex numbers) is listed as
   FT_OTHER, and nothing of it is executed. The library keeps the metadata of a file that it writes
   in the array "__metadata__", the bytes of a JSON object of texts.
   ============================================================================================= */
#if FT__HAS_NUMPY
static const char ft__npz_metadata[] = "__metadata__";
static const char ft__npy_fields[] = "structures"; /* instead of the list of a structure's fields */
enum { FT__NPY_DESCR = 64 };

/* What a header says. */
typedef struct ft__npy {
    char descr[FT__NPY_DESCR]; /* "<f4"; or ft__npy_fields */
    bool fortran, has_descr, has_order, has_shape;
    int rank;
    uint64_t size[FINETUNE_MAX_RANK];
    uint64_t data;          /* where the numbers begin in the file */
} ft__npy;

typedef struct ft__npy_text { const char *at, *end; } ft__npy_text;

static char ft__npy_next(ft__npy_text *t)
{
    while (t->at < t->end && strchr(" \t\r\n", *t->at) && *t->at) ++t->at;
    return t->at < t->end ? *t->at : 0;
}

static bool ft__npy_take(ft__npy_text *t, char letter)
{
    bool is = ft__npy_next(t) == letter && t->at < t->end;
    if (is) ++t->at;
    return is;
}

static bool ft__npy_take_word(ft__npy_text *t, const char *word)
{
    size_t length = strlen(word);
    ft__npy_next(t);
    if ((size_t)(t->end - t->at) < length || memcmp(t->at, word, length) != 0) return false;
    t->at += length;
    return true;
}

/* A text in quotes, without escapes; false if there is none, or if it has no room. */
static bool ft__npy_quoted(ft__npy_text *t, char *to, size_t size)
{
    char quote = ft__npy_next(t);
    const char *end;
    size_t length;
    if (quote != '\'' && quote != '"') return false;
    end = (const char *)memchr(t->at + 1, quote, (size_t)(t->end - t->at - 1));
    length = end ? (size_t)(end - t->at - 1) : size;
    if (length >= size) return false;
    memcpy(to, t->at + 1, length);
    to[length] = 0;
    t->at = end + 1;
    return true;
}

/* The fields of a structure: lists, tuples, texts and numbers, up to the list's end. */
static bool ft__npy_structure(ft__npy_text *t)
{
    int depth = 0;
    char field[256];
    do {
        char next = ft__npy_next(t);
        if (next == '\'' || next == '"') {
            if (!ft__npy_quoted(t, field, sizeof field)) return false;
            continue;
        }
        if (t->at == t->end) return false;
        if (next == '[' || next == '(') depth += 1;
        if (next == ']' || next == ')') depth -= 1;
        ++t->at;
    } while (depth > 0);
    return depth == 0;
}

/* "(2, 3)", "(5,)", "()"; Python 2 wrote "(2L, 3L)". */
static bool ft__npy_shape(ft__npy_text *t, ft__npy *to)
{
    if (!ft__npy_take(t, '(')) return false;
    for (to->rank = 0; !ft__npy_take(t, ')'); to->rank += 1) {
        uint64_t size = 0;
        char digit = ft__npy_next(t);
        if (digit < '0' || digit > '9') return false;
        for (; t->at < t->end && *t->at >= '0' && *t->at <= '9'; ++t->at) {
            if (size > (uint64_t)INT_MAX) return false;
            size = 10 * size + (uint64_t)(*t->at - '0');
        }
        if (t->at < t->end && *t->at == 'L') ++t->at;
        if (size > (uint64_t)INT_MAX || to->rank == 64) return false;
        if (to->rank < FINETUNE_MAX_RANK) to->size[to->rank] = size;
        if (ft__npy_next(t) != ')' && !ft__npy_take(t, ',')) return false;
    }
    return true;
}

static bool ft__npy_dictionary(ft__npy_text *t, ft__npy *to)
{
    char key[32];
    if (!ft__npy_take(t, '{')) return false;
    while (!ft__npy_take(t, '}')) {
        if (!ft__npy_quoted(t, key, sizeof key) || !ft__npy_take(t, ':')) return false;
        if (!strcmp(key, "descr") && ft__npy_next(t) == '[') {
            if (!ft__npy_structure(t)) return false;
            strcpy(to->descr, ft__npy_fields);
            to->has_descr = true;
        } else if (!strcmp(key, "descr")) {
            to->has_descr = ft__npy_quoted(t, to->descr, sizeof to->descr);
            if (!to->has_descr) return false;
        } else if (!strcmp(key, "fortran_order")) {
            to->fortran = ft__npy_take_word(t, "True");
            to->has_order = to->fortran || ft__npy_take_word(t, "False");
            if (!to->has_order) return false;
        } else if (!strcmp(key, "shape")) {
            to->has_shape = ft__npy_shape(t, to);
            if (!to->has_shape) return false;
        } else return false;
        if (ft__npy_next(t) != '}' && !ft__npy_take(t, ',')) return false;
    }
    return to->has_descr && to->has_order && to->has_shape;
}

/* Reads the header of the array in bytes [at, end) of the file; false if it is none. */
static bool ft__npy_header(const ft_file *file, uint64_t at, uint64_t end, ft__npy *to)
{
    int wide;
    uint64_t length;
    ft__npy_text text;
    memset(to, 0, sizeof *to);
    if (end - at < 12 || memcmp(file->bytes + at, "\x93NUMPY", 6) != 0) return false;
    if (file->bytes[at + 6] < 1 || file->bytes[at + 6] > 3) return false;
    wide = file->bytes[at + 6] == 1 ? 2 : 4;
    length = ft__little_endian(file->bytes + at + 8, wide);
    at += 8 + (uint64_t)wide;
    if (length > end - at) return false;
    text.at = (const char *)file->bytes + at;
    text.end = text.at + length;
    to->data = at + length;
    return ft__npy_dictionary(&text, to);
}

/* Types by their names without the order of the bytes. */
static const struct { const char *name; ft_type type; } ft__npy_types[] = {
    {"f4", FT_F32}, {"f2", FT_F16}, {"f8", FT_F64}, {"i8", FT_I64}, {"i4", FT_I32},
    {"i2", FT_I16}, {"i1", FT_I8}, {"u1", FT_U8}, {"b1", FT_BOOL}, {"u2", FT_U16},
    {"u4", FT_U32}, {"u8", FT_U64}};

static ft_type ft__npy_type(const char *descr)
{
    size_t i;
    if (!*descr || !strchr("<>|", *descr)) return FT_OTHER;
    for (i = 0; i < sizeof ft__npy_types / sizeof ft__npy_types[0]; ++i)
        if (strcmp(descr + 1, ft__npy_types[i].name) == 0) return ft__npy_types[i].type;
    return FT_OTHER;
}

/* What a NumPy type that is no number is called, for messages. */
static const char *ft__npy_other(const char *descr)
{
    static const struct { char kind; const char *name; } kinds[] = {
        {'O', "Python objects"}, {'c', "complex numbers"}, {'U', "strings"}, {'S', "strings"},
        {'M', "dates"}, {'m', "times"}, {'V', "bytes without a type"}};
    size_t i;
    if (strcmp(descr, ft__npy_fields) == 0) return ft__npy_fields;
    if (*descr && strchr("<>|=", *descr)) ++descr;
    for (i = 0; i < sizeof kinds / sizeof kinds[0]; ++i)
        if (*descr == kinds[i].kind) return kinds[i].name;
    return "unknown to this version";
}

/* Fills in what the array in bytes [at, end) of the file is. */
static ft_status ft__npy_info(ft_file *file, ft_tensor_info *info, uint64_t at, uint64_t end)
{
    ft__context *c = file->context;
    ft__npy header;
    size_t elements = 1;
    int d;
    if (!ft__npy_header(file, at, end, &header))
        return ft__fail(c, FT_FORMAT, "%s: array %.200s: no header of a .npy file at offset %llu",
                        file->path, info->name, (unsigned long long)at);
    info->type = ft__npy_type(header.descr);
    info->type_name = info->type == FT_OTHER ? ft__npy_other(header.descr)
        : *header.descr == '>' ? ">" : "<";
    if (header.rank > FINETUNE_MAX_RANK && info->type != FT_OTHER)
        return ft__fail(c, FT_FORMAT, "%s: array %.200s: has %d dimensions; at most %d are"
                        " supported", file->path, info->name, header.rank, FINETUNE_MAX_RANK);
    info->shape.rank = header.rank < FINETUNE_MAX_RANK ? header.rank : FINETUNE_MAX_RANK;
    for (d = 0; d < info->shape.rank; ++d) {
        info->shape.size[d] = (int)header.size[d];
        if (!ft__multiply(elements, (size_t)header.size[d], &elements) || elements > SIZE_MAX / 16)
            return ft__fail(c, FT_FORMAT, "%s: array %.200s: has a wrong shape", file->path,
                            info->name);
    }
    info->offset = header.data;
    info->bytes = end - header.data;
    if (info->type != FT_OTHER
        && info->bytes != (uint64_t)elements * (uint64_t)ft__type_bytes[info->type])
        return ft__fail(c, FT_FORMAT, "%s: array %.200s: its %llu bytes do not fit its shape",
                        file->path, info->name, (unsigned long long)info->bytes);
    ft__row_major(info);
    if (header.fortran) {
        uint64_t stride = 1; /* as in ft__row_major */
        for (d = 0; d < info->shape.rank; ++d) {
            info->stride[d] = (int64_t)stride;
            stride *= (uint64_t)info->shape.size[d];
        }
    }
    return FT_OK;
}

/* Makes big-endian numbers little-endian, in memory that the file owns. */
static void ft__npy_turn(ft_file *file)
{
    ft__context *c = file->context;
    int i, any = 0;
    for (i = 0; i < file->count; ++i)
        any |= *file->tensors[i].type_name == '>' && ft__type_bytes[file->tensors[i].type] > 1;
    if (any && !file->owned) {
        unsigned char *copy = (unsigned char *)ft__allocate(c, (size_t)file->size, 1);
        if (!copy) return;
        memcpy(copy, file->bytes, (size_t)file->size);
        ft__file_replace(file, copy, file->size);
    }
    for (i = 0; ft__ok(c) && any && i < file->count; ++i) {
        const ft_tensor_info *t = &file->tensors[i];
        size_t width = (size_t)ft__type_bytes[t->type], at, b;
        unsigned char *element = file->owned + t->offset;
        if (*t->type_name != '>') continue;
        for (at = 0; at + width <= t->bytes; at += width, element += width)
            for (b = 0; b < width / 2; ++b) {
                unsigned char first = element[b];
                element[b] = element[width - 1 - b];
                element[width - 1 - b] = first;
            }
    }
    for (i = 0; i < file->count; ++i)
        if (file->tensors[i].type != FT_OTHER)
            file->tensors[i].type_name = ft__type_names[file->tensors[i].type];
}

/* ---- .npy ---- */

static bool ft__npy_recognises(const ft_file *file)
{
    return file->size > 10 && memcmp(file->bytes, "\x93NUMPY", 6) == 0;
}

/* The array is named as the file is, without its folder and its end. */
static void ft__npy_open(ft_file *file)
{
    const char *slash = strrchr(file->path, '/'), *stem = slash ? slash + 1 : file->path;
    const char *dot = strrchr(stem, '.');
    ft_tensor_info *info = ft__file_add(file);
    file->letters = ft__copy_text(file->context, stem);
    if (!info || !file->letters) return;
    memset(info, 0, sizeof *info);
    if (dot && dot > stem) file->letters[dot - stem] = 0;
    info->name = file->letters;
    if (ft__npy_info(file, info, 0, file->size) != FT_OK) return;
    ft__npy_turn(file);
    ft__file_index(file);
}

/* ---- .npz ---- */

/* An archive whose first entry is an array. */
static bool ft__npz_recognises(const ft_file *file)
{
    uint64_t name;
    if (file->size < 34 || memcmp(file->bytes, "PK\3\4", 4) != 0) return false;
    name = ft__little_endian(file->bytes + 26, 2);
    return name >= 4 && name <= file->size - 30
        && memcmp(file->bytes + 30 + name - 4, ".npy", 4) == 0;
}

static bool ft__npz_is_array(const ft__zip_entry *entry)
{
    return entry->length > 4 && memcmp(entry->name + entry->length - 4, ".npy", 4) == 0;
}

/* Lists the entries by their names, which are copied, since unpacking may replace the bytes. */
static void ft__npz_names(ft_file *file, const ft__zip *zip)
{
    ft__context *c = file->context;
    size_t letters = 0;
    int i;
    for (i = 0; i < zip->count; ++i) letters += zip->entries[i].length + 1;
    file->letters = (char *)ft__allocate(c, letters + 1, 1);
    if (!file->letters || !ft__file_reserve(file, zip->count)) return;
    for (letters = 0, i = 0; i < zip->count; ++i) {
        const ft__zip_entry *e = &zip->entries[i];
        ft_tensor_info *info = ft__file_add(file);
        size_t length = ft__npz_is_array(e) ? e->length - 4 : e->length;
        if (!info) return;
        memset(info, 0, sizeof *info);
        info->name = file->letters + letters;
        info->type = FT_OTHER;
        info->type_name = ft__npz_is_array(e) ? "" : "bytes that are no array";
        memcpy(file->letters + letters, e->name, length);
        letters += length + 1;
        if (length > 500 || memchr(e->name, 0, length))
            ft__zip_fault(file, "an array without a usable name", e->offset);
    }
}

/* Unpacks all entries, one after the other, if one of them is deflated. Their sizes are those that
   deflate's best ratio allows, and no byte of the file is counted twice. */
static void ft__npz_unpack(ft_file *file, ft__zip *zip)
{
    ft__context *c = file->context;
    uint64_t total = 0, packed = 0;
    unsigned char *bytes;
    bool deflated = false;
    int i;
    for (i = 0; ft__ok(c) && i < zip->count; ++i) {
        const ft__zip_entry *e = &zip->entries[i];
        deflated = deflated || e->method == FT__ZIP_DEFLATED;
        if (e->method != FT__ZIP_STORED && e->method != FT__ZIP_DEFLATED)
            ft__fail(c, FT_UNSUPPORTED, "%s: array %.200s is %s; only stored and deflated ones"
                     " can be read", file->path, file->tensors[i].name,
                     e->method == FT__ZIP_ENCRYPTED ? "encrypted" : "compressed by another method");
        if (e->size / 1032 > e->packed || e->size > SIZE_MAX / 2 - total)
            ft__zip_fault(file, "an entry larger than its data allows", e->offset);
        total += e->size;
        packed += e->packed;
    }
    if (packed > file->size) ft__zip_fault(file, "entries that overlap", file->size);
    if (!ft__ok(c) || !deflated) return;
    bytes = (unsigned char *)ft__allocate(c, (size_t)total + 1, 1);
    for (total = 0, i = 0; ft__ok(c) && i < zip->count; ++i) {
        ft__zip_entry *e = &zip->entries[i];
        ft__zip_unpack(zip, e, bytes + total);
        e->offset = total;
        total += e->size;
    }
    if (ft__ok(c)) ft__file_replace(file, bytes, total);
    else ft__release(c, bytes);
}

/* Takes the array of the metadata from the list. */
static void ft__npz_metadata_of(ft_file *file)
{
    ft__context *c = file->context;
    int found = ft__find_tensor(file, ft__npz_metadata);
    const ft_tensor_info *t = found < 0 ? NULL : &file->tensors[found];
    if (!t || t->type != FT_U8 || t->shape.rank != 1 || t->bytes == 0
        || file->bytes[t->offset] != '{') return;
    file->json = ft__json_parse(c, (const char *)file->bytes + t->offset, (size_t)t->bytes);
    if (!file->json) {
        ft__fail(c, FT_FORMAT, "%s: the array %s is not JSON", file->path, ft__npz_metadata);
        return;
    }
    ft__file_metadata(file, 0);
    memmove(&file->tensors[found], &file->tensors[found + 1],
            (size_t)(file->count - found - 1) * sizeof *file->tensors);
    file->count -= 1;
    ft__file_index(file);
}

static void ft__npz_open(ft_file *file)
{
    ft__zip zip;
    int i;
    if (ft__zip_open(&zip, file) == FT_OK) ft__npz_names(file, &zip);
    if (ft__ok(file->context)) ft__npz_unpack(file, &zip);
    for (i = 0; ft__ok(file->context) && i < file->count; ++i) {
        const ft__zip_entry *e = &zip.entries[i];
        ft_tensor_info *info = &file->tensors[i];
        info->offset = e->offset;
        info->bytes = e->size;
        if (!*info->type_name) ft__npy_info(file, info, e->offset, e->offset + e->size);
    }
    ft__zip_close(&zip);
    if (ft__ok(file->context)) ft__npy_turn(file);
    if (ft__file_index(file) == FT_OK) ft__npz_metadata_of(file);
}

static const char *ft__npz_graph(ft_file *file) { return ft_file_metadata(file, ft__graph_key); }

/* ---- The rows ---- */

static const ft__reader ft__reader_npy = {
    "NumPy's .npy", false, ft__npy_recognises, ft__npy_open, ft__read_strided, NULL, false};

static const ft__reader ft__reader_npz = {
    "NumPy's .npz", false, ft__npz_recognises, ft__npz_open, ft__read_strided, ft__npz_graph,
    false};
#endif
