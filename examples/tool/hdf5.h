/* hdf5.h - ft_hdf5, with which finetune.h reads and writes Keras' files, by libhdf5. The library is
   opened at run time: a program that includes this file needs nothing of it to compile or start.
   Include it after finetune.h. Part of examples/finetune.c. */
#ifndef FINETUNE_TOOL_HDF5_H
#define FINETUNE_TOOL_HDF5_H
#include <dlfcn.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef int64_t hdf5_id; /* hid_t from 1.10 on */

/* X(result, name, parameters): every function that is called. */
#define HDF5_ENTRIES(X)                                                                           \
    X(int, H5open, (void))                                                                        \
    X(int, H5get_libversion, (unsigned *, unsigned *, unsigned *))                                \
    X(int, H5Eset_auto2, (hdf5_id, void *, void *))                                               \
    X(hdf5_id, H5Pcreate, (hdf5_id))                                                              \
    X(int, H5Pclose, (hdf5_id))                                                                   \
    X(int, H5Pset_fapl_core, (hdf5_id, size_t, bool))                                             \
    X(int, H5Pset_file_image, (hdf5_id, void *, size_t))                                          \
    X(int, H5Pset_obj_track_times, (hdf5_id, bool))                                               \
    X(hdf5_id, H5Fopen, (const char *, unsigned, hdf5_id))                                        \
    X(hdf5_id, H5Fcreate, (const char *, unsigned, hdf5_id, hdf5_id))                             \
    X(int, H5Fflush, (hdf5_id, int))                                                              \
    X(int64_t, H5Fget_file_image, (hdf5_id, void *, size_t))                                      \
    X(int, H5Fclose, (hdf5_id))                                                                   \
    X(int64_t, H5Lget_name_by_idx,                                                                \
      (hdf5_id, const char *, int, int, uint64_t, char *, size_t, hdf5_id))                       \
    X(int, H5Lexists, (hdf5_id, const char *, hdf5_id))                                           \
    X(hdf5_id, H5Oopen, (hdf5_id, const char *, hdf5_id))                                         \
    X(int, H5Oclose, (hdf5_id))                                                                   \
    X(int, H5Iget_type, (hdf5_id))                                                                \
    X(hdf5_id, H5Gcreate2, (hdf5_id, const char *, hdf5_id, hdf5_id, hdf5_id))                    \
    X(hdf5_id, H5Aopen_by_idx, (hdf5_id, const char *, int, int, uint64_t, hdf5_id, hdf5_id))     \
    X(hdf5_id, H5Acreate2, (hdf5_id, const char *, hdf5_id, hdf5_id, hdf5_id, hdf5_id))           \
    X(int64_t, H5Aget_name, (hdf5_id, size_t, char *))                                            \
    X(hdf5_id, H5Aget_type, (hdf5_id))                                                            \
    X(hdf5_id, H5Aget_space, (hdf5_id))                                                           \
    X(int, H5Aread, (hdf5_id, hdf5_id, void *))                                                   \
    X(int, H5Awrite, (hdf5_id, hdf5_id, const void *))                                            \
    X(int, H5Aclose, (hdf5_id))                                                                   \
    X(hdf5_id, H5Dcreate2, (hdf5_id, const char *, hdf5_id, hdf5_id, hdf5_id, hdf5_id, hdf5_id))  \
    X(hdf5_id, H5Dget_type, (hdf5_id))                                                            \
    X(hdf5_id, H5Dget_space, (hdf5_id))                                                           \
    X(int, H5Dread, (hdf5_id, hdf5_id, hdf5_id, hdf5_id, hdf5_id, void *))                        \
    X(int, H5Dwrite, (hdf5_id, hdf5_id, hdf5_id, hdf5_id, hdf5_id, const void *))                 \
    X(int, H5Dvlen_reclaim, (hdf5_id, hdf5_id, hdf5_id, void *))                                  \
    X(hdf5_id, H5Tcopy, (hdf5_id))                                                                \
    X(int, H5Tget_class, (hdf5_id))                                                               \
    X(size_t, H5Tget_size, (hdf5_id))                                                             \
    X(int, H5Tset_size, (hdf5_id, size_t))                                                        \
    X(int, H5Tset_cset, (hdf5_id, int))                                                           \
    X(int, H5Tget_sign, (hdf5_id))                                                                \
    X(int, H5Tis_variable_str, (hdf5_id))                                                         \
    X(int, H5Tclose, (hdf5_id))                                                                   \
    X(hdf5_id, H5Screate, (int))                                                                  \
    X(hdf5_id, H5Screate_simple, (int, const uint64_t *, const uint64_t *))                       \
    X(int, H5Sget_simple_extent_ndims, (hdf5_id))                                                 \
    X(int, H5Sget_simple_extent_dims, (hdf5_id, uint64_t *, uint64_t *))                          \
    X(int, H5Sclose, (hdf5_id))

enum { /* the values of hdf5.h that are used */
    HDF5_READ_ONLY = 0, HDF5_TRUNCATE = 2, HDF5_DATASET = 5, HDF5_INTEGER = 0, HDF5_FLOAT = 1,
    HDF5_STRING = 3, HDF5_UTF8 = 1, HDF5_WHOLE_FILE = 1, HDF5_MOST_DEPTH = 24, HDF5_MOST_ITEMS = 1 << 20
};

/* The types that numbers are read and written as, by their names in the library. */
static const struct { ft_type type; const char *name; } hdf5_types[] = {
    {FT_F32, "H5T_IEEE_F32LE_g"}, {FT_F64, "H5T_IEEE_F64LE_g"}, {FT_I8, "H5T_STD_I8LE_g"},
    {FT_I16, "H5T_STD_I16LE_g"}, {FT_I32, "H5T_STD_I32LE_g"}, {FT_I64, "H5T_STD_I64LE_g"},
    {FT_U8, "H5T_STD_U8LE_g"}, {FT_U16, "H5T_STD_U16LE_g"}, {FT_U32, "H5T_STD_U32LE_g"},
    {FT_U64, "H5T_STD_U64LE_g"}};

#define HDF5_MEMBER(result, name, parameters) result (*name) parameters;
typedef struct hdf5_library {
    void *handle;
    int (*link_info)(hdf5_id, const char *, void *, hdf5_id); /* H5Lget_info of any version */
    HDF5_ENTRIES(HDF5_MEMBER)
} hdf5_library;

typedef struct hdf5_item { ft_hdf5_item is; char *path, *attribute, *texts; } hdf5_item;

typedef struct hdf5_file {
    hdf5_library *library;
    hdf5_id id;
    hdf5_item *items;
    int count, capacity;
    bool failed;
} hdf5_file;

/* The value of a variable of the library that is an id. */
static hdf5_id hdf5_constant(const hdf5_library *l, const char *name)
{
    const hdf5_id *at = (const hdf5_id *)dlsym(l->handle, name);
    return at ? *at : -1;
}

static hdf5_id hdf5_type(const hdf5_library *l, ft_type type)
{
    size_t i;
    for (i = 0; i < sizeof hdf5_types / sizeof hdf5_types[0]; ++i)
        if (hdf5_types[i].type == type) return hdf5_constant(l, hdf5_types[i].name);
    return -1;
}

static char *hdf5_text(const char *text)
{
    char *copy = (char *)malloc(strlen(text) + 1);
    return copy ? strcpy(copy, text) : NULL;
}

static hdf5_item *hdf5_add(hdf5_file *file, const char *path, const char *attribute)
{
    hdf5_item *item;
    if (file->count == file->capacity) {
        int capacity = file->capacity ? 2 * file->capacity : 256;
        hdf5_item *grown = (hdf5_item *)realloc(file->items, (size_t)capacity * sizeof *grown);
        file->failed = file->failed || !grown || capacity > HDF5_MOST_ITEMS;
        if (!grown) return NULL;
        file->items = grown;
        file->capacity = capacity;
    }
    item = &file->items[file->count];
    memset(item, 0, sizeof *item);
    item->path = hdf5_text(path);
    item->attribute = attribute ? hdf5_text(attribute) : NULL;
    file->count += 1;
    item->is.path = item->path;
    item->is.attribute = item->attribute;
    item->is.type = FT_OTHER;
    file->failed = file->failed || !item->path || (attribute && !item->attribute);
    return file->failed ? NULL : item;
}

/* The sizes of a space; false: more dimensions than a tensor has, or too many numbers. */
static bool hdf5_sizes(const hdf5_library *l, hdf5_id space, ft_hdf5_item *item, size_t *count)
{
    uint64_t sizes[32];
    int rank = l->H5Sget_simple_extent_ndims(space), d;
    *count = 1;
    if (rank < 0 || rank > FINETUNE_MAX_RANK
        || l->H5Sget_simple_extent_dims(space, sizes, NULL) < 0) return false;
    item->rank = rank;
    for (d = 0; d < rank; ++d) {
        if (sizes[d] > INT32_MAX || (sizes[d] && *count > ((size_t)1 << 40) / sizes[d])) return false;
        item->size[d] = (int64_t)sizes[d];
        *count *= (size_t)sizes[d];
    }
    return true;
}

static void hdf5_describe_dataset(hdf5_file *file, hdf5_id id, hdf5_item *item)
{
    const hdf5_library *l = file->library;
    hdf5_id type = l->H5Dget_type(id), space = l->H5Dget_space(id);
    int kind = l->H5Tget_class(type);
    size_t bytes = l->H5Tget_size(type), count = 0;
    bool whole = kind == HDF5_INTEGER, sign = whole && l->H5Tget_sign(type) != 0;
    if (kind == HDF5_FLOAT) item->is.type = bytes > 4 ? FT_F64 : FT_F32;
    else if (whole) item->is.type = bytes == 1 ? (sign ? FT_I8 : FT_U8)
        : bytes == 2 ? (sign ? FT_I16 : FT_U16) : bytes == 4 ? (sign ? FT_I32 : FT_U32)
        : bytes == 8 ? (sign ? FT_I64 : FT_U64) : FT_OTHER;
    if (!hdf5_sizes(l, space, &item->is, &count)) item->is.type = FT_OTHER;
    bytes = kind == HDF5_FLOAT ? (bytes > 4 ? 8 : 4) : bytes;
    item->is.bytes = item->is.type == FT_OTHER ? 0 : count * bytes;
    l->H5Sclose(space);
    l->H5Tclose(type);
}

/* The texts of an attribute, each with a 0 at its end. */
static void hdf5_join_texts(hdf5_item *item, char *fixed, char **pointers, size_t size, size_t count)
{
    size_t i, bytes = 0, length;
    char *to;
    for (i = 0; i < count; ++i) bytes += (pointers ? (pointers[i] ? strlen(pointers[i]) : 0) : size) + 1;
    to = item->texts = (char *)calloc(bytes + 1, 1);
    for (i = 0; to && i < count; ++i) {
        const char *from = pointers ? pointers[i] : fixed + i * size;
        const char *end = pointers ? NULL : (const char *)memchr(from, 0, size);
        length = pointers ? (from ? strlen(from) : 0) : end ? (size_t)(end - from) : size;
        if (length) memcpy(to, from, length);
        to += length + 1;
    }
    item->is.bytes = to ? (size_t)(to - item->texts) : 0;
}

static void hdf5_list_attribute(hdf5_file *file, hdf5_id attribute, const char *path)
{
    const hdf5_library *l = file->library;
    char name[256];
    hdf5_id type = l->H5Aget_type(attribute), space = l->H5Aget_space(attribute);
    size_t size = l->H5Tget_size(type), count = 0;
    ft_hdf5_item sizes;
    memset(&sizes, 0, sizeof sizes);
    if (l->H5Aget_name(attribute, sizeof name, name) < (int64_t)sizeof name
        && l->H5Tget_class(type) == HDF5_STRING && hdf5_sizes(l, space, &sizes, &count)
        && size > 0 && count < HDF5_MOST_ITEMS && size < 1u << 30) {
        bool variable = l->H5Tis_variable_str(type) > 0;
        char *buffer = (char *)calloc(count + 1, variable ? sizeof(char *) : size);
        if (buffer && (count == 0 || l->H5Aread(attribute, type, buffer) >= 0)) {
            hdf5_item *item = hdf5_add(file, path, name);
            if (item) {
                item->is.rank = sizes.rank;
                memcpy(item->is.size, sizes.size, sizeof sizes.size);
                hdf5_join_texts(item, buffer, variable ? (char **)(void *)buffer : NULL, size, count);
            }
            if (variable && count > 0) l->H5Dvlen_reclaim(type, space, 0, buffer);
        }
        free(buffer);
    }
    l->H5Sclose(space);
    l->H5Tclose(type);
}

/* Lists what is in a group, or a dataset: its attributes, and what a group's hard links lead to. Other
   links could lead out of the file: they are passed over. */
static void hdf5_list(hdf5_file *file, hdf5_id object, const char *path, int depth)
{
    const hdf5_library *l = file->library;
    hdf5_id attribute;
    uint64_t i;
    for (i = 0; !file->failed && (attribute = l->H5Aopen_by_idx(object, ".", 0, 0, i, 0, 0)) >= 0; ++i) {
        hdf5_list_attribute(file, attribute, path);
        l->H5Aclose(attribute);
    }
    if (l->H5Iget_type(object) == HDF5_DATASET) {
        hdf5_item *item = hdf5_add(file, path, NULL);
        if (item) hdf5_describe_dataset(file, object, item);
        return;
    }
    for (i = 0; !file->failed && depth < HDF5_MOST_DEPTH; ++i) {
        char name[512], longer[2048];
        int info[64];
        int64_t length = l->H5Lget_name_by_idx(object, ".", 0, 0, i, name, sizeof name, 0);
        hdf5_id inner;
        if (length < 0) return;
        if (length >= (int64_t)sizeof name || strlen(path) + (size_t)length + 2 > sizeof longer
            || l->link_info(object, name, info, 0) < 0 || info[0] != 0) continue;
        snprintf(longer, sizeof longer, "%s%s%s", path, *path ? "/" : "", name);
        inner = l->H5Oopen(object, name, 0);
        if (inner < 0) continue;
        hdf5_list(file, inner, longer, depth + 1);
        l->H5Oclose(inner);
    }
}

static void hdf5_close(void *user, void *opened)
{
    hdf5_file *file = (hdf5_file *)opened;
    int i;
    (void)user;
    if (file->id >= 0) file->library->H5Fclose(file->id);
    for (i = 0; i < file->count; ++i) {
        free(file->items[i].path);
        free(file->items[i].attribute);
        free(file->items[i].texts);
    }
    free(file->items);
    free(file);
}

static void *hdf5_open(void *user, const void *bytes, size_t count)
{
    hdf5_library *l = (hdf5_library *)user;
    hdf5_file *file = (hdf5_file *)calloc(1, sizeof *file);
    hdf5_id access, root;
    if (!file) return NULL;
    file->library = l;
    file->id = -1;
    access = l->H5Pcreate(hdf5_constant(l, "H5P_CLS_FILE_ACCESS_ID_g"));
    if (l->H5Pset_fapl_core(access, (size_t)1 << 20, false) >= 0) {
        if (!bytes) file->id = l->H5Fcreate("new.h5", HDF5_TRUNCATE, 0, access);
        else if (l->H5Pset_file_image(access, (void *)(uintptr_t)bytes, count) >= 0)
            file->id = l->H5Fopen("memory.h5", HDF5_READ_ONLY, access);
    }
    l->H5Pclose(access);
    root = file->id >= 0 ? l->H5Oopen(file->id, "/", 0) : -1;
    if (root >= 0 && bytes) hdf5_list(file, root, "", 0);
    if (root >= 0) l->H5Oclose(root);
    if (root >= 0 && !file->failed) return file;
    hdf5_close(user, file);
    return NULL;
}

static bool hdf5_describe(void *user, void *opened, int index, ft_hdf5_item *item)
{
    const hdf5_file *file = (const hdf5_file *)opened;
    (void)user;
    if (index < 0 || index >= file->count) return false;
    *item = file->items[index].is;
    return true;
}

static bool hdf5_read(void *user, void *opened, int index, void *to)
{
    const hdf5_file *file = (const hdf5_file *)opened;
    const hdf5_library *l = file->library;
    const hdf5_item *item = index >= 0 && index < file->count ? &file->items[index] : NULL;
    hdf5_id id;
    int status;
    (void)user;
    if (!item || (item->is.attribute && !item->texts)) return false;
    if (item->is.attribute) return memcpy(to, item->texts, item->is.bytes), true;
    id = l->H5Oopen(file->id, item->path, 0);
    status = id < 0 ? -1 : l->H5Dread(id, hdf5_type(l, item->is.type), 0, 0, 0, to);
    if (id >= 0) l->H5Oclose(id);
    return status >= 0;
}

/* A property list of a class by which objects are made: without the time, so that the same model is
   the same bytes. */
static hdf5_id hdf5_timeless(const hdf5_library *l, const char *class_name)
{
    hdf5_id list = l->H5Pcreate(hdf5_constant(l, class_name));
    if (list >= 0) l->H5Pset_obj_track_times(list, false);
    return list;
}

/* Makes the groups that lead to the last component of a path, or with `all` to its end. */
static bool hdf5_make_groups(const hdf5_file *file, const char *path, bool all)
{
    const hdf5_library *l = file->library;
    hdf5_id how = hdf5_timeless(l, "H5P_CLS_GROUP_CREATE_ID_g"), group;
    char part[2048];
    size_t end;
    bool made = strlen(path) < sizeof part;
    for (end = 0; made && path[end]; ++end) {
        if (path[end + 1] != '/' && !(all && !path[end + 1])) continue;
        snprintf(part, sizeof part, "%.*s", (int)(end + 1), path);
        if (l->H5Lexists(file->id, part, 0) > 0) continue;
        group = l->H5Gcreate2(file->id, part, 0, how, 0);
        made = group >= 0;
        if (made) l->H5Oclose(group);
    }
    l->H5Pclose(how);
    return made;
}

/* Writes an attribute: texts of any length, in UTF-8. */
static bool hdf5_write_texts(const hdf5_file *file, const ft_hdf5_item *item, const char *from)
{
    const hdf5_library *l = file->library;
    uint64_t count = item->rank ? (uint64_t)item->size[0] : 1, i;
    const char **texts = (const char **)calloc((size_t)count + 1, sizeof *texts);
    hdf5_id type, space, object, attribute = -1;
    bool written;
    if (!texts) return false;
    for (i = 0; i < count; ++i, from += strlen(from) + 1) texts[i] = from;
    type = l->H5Tcopy(hdf5_constant(l, "H5T_C_S1_g"));
    l->H5Tset_size(type, (size_t)-1);
    l->H5Tset_cset(type, HDF5_UTF8);
    space = item->rank ? l->H5Screate_simple(1, &count, NULL) : l->H5Screate(0);
    object = l->H5Oopen(file->id, *item->path ? item->path : "/", 0);
    if (object >= 0) attribute = l->H5Acreate2(object, item->attribute, type, space, 0, 0);
    written = attribute >= 0 && (count == 0 || l->H5Awrite(attribute, type, texts) >= 0);
    if (attribute >= 0) l->H5Aclose(attribute);
    if (object >= 0) l->H5Oclose(object);
    l->H5Sclose(space);
    l->H5Tclose(type);
    free((void *)(uintptr_t)texts);
    return written;
}

static bool hdf5_write_numbers(const hdf5_file *file, const ft_hdf5_item *item, const void *from)
{
    const hdf5_library *l = file->library;
    hdf5_id type = hdf5_type(l, item->type), how, space, object;
    uint64_t sizes[FINETUNE_MAX_RANK];
    bool written;
    int d;
    if (type < 0) return false;
    how = hdf5_timeless(l, "H5P_CLS_DATASET_CREATE_ID_g");
    for (d = 0; d < item->rank; ++d) sizes[d] = (uint64_t)item->size[d];
    space = item->rank ? l->H5Screate_simple(item->rank, sizes, NULL) : l->H5Screate(0);
    object = l->H5Dcreate2(file->id, item->path, type, space, 0, how, 0);
    written = object >= 0 && l->H5Dwrite(object, type, 0, 0, 0, from) >= 0;
    if (object >= 0) l->H5Oclose(object);
    l->H5Sclose(space);
    l->H5Pclose(how);
    return written;
}

static bool hdf5_write(void *user, void *opened, const ft_hdf5_item *item, const void *from)
{
    const hdf5_file *file = (const hdf5_file *)opened;
    (void)user;
    if (!hdf5_make_groups(file, item->path, item->attribute != NULL)) return false;
    return item->attribute ? hdf5_write_texts(file, item, (const char *)from)
                           : hdf5_write_numbers(file, item, from);
}

static size_t hdf5_bytes(void *user, void *opened, void *to, size_t room)
{
    const hdf5_file *file = (const hdf5_file *)opened;
    int64_t size = -1;
    (void)user;
    if (file->library->H5Fflush(file->id, HDF5_WHOLE_FILE) >= 0)
        size = file->library->H5Fget_file_image(file->id, NULL, 0);
    if (size > 0 && to && room >= (size_t)size)
        size = file->library->H5Fget_file_image(file->id, to, room);
    return size > 0 ? (size_t)size : 0;
}

/* The library, opened once for the whole program; false: it is not there, or from before 1.10. */
static bool hdf5_load(hdf5_library *l)
{
    static const char *const names[] = {
        "libhdf5_serial.so", "libhdf5.so", "libhdf5_serial.so.103", "libhdf5_serial.so.310",
        "libhdf5.so.103", "libhdf5.so.200", "libhdf5.so.310", "libhdf5.dylib"};
    unsigned major = 0, minor = 0, release = 0;
    bool all = true;
    size_t i;
    for (i = 0; i < sizeof names / sizeof names[0] && !l->handle; ++i)
        l->handle = dlopen(names[i], RTLD_NOW | RTLD_LOCAL);
    if (!l->handle) return false;
#define HDF5_FIND(result, name, parameters)                                                       \
    {                                                                                             \
        void *found = dlsym(l->handle, #name);                                                    \
        all = all && found;                                                                       \
        memcpy(&l->name, &found, sizeof found);                                                   \
    }
    HDF5_ENTRIES(HDF5_FIND)
    {
        void *found = dlsym(l->handle, "H5Lget_info2");
        if (!found) found = dlsym(l->handle, "H5Lget_info");
        all = all && found;
        memcpy(&l->link_info, &found, sizeof found);
    }
    if (!all || l->H5open() < 0 || l->H5get_libversion(&major, &minor, &release) < 0
        || (major == 1 && minor < 10)) return false;
    l->H5Eset_auto2(0, NULL, NULL);
    return true;
}

/* For ft_desc.hdf5; all zero where libhdf5 is not installed. */
static ft_hdf5 hdf5_of_system(void)
{
    static hdf5_library library;
    static int loaded; /* 1: yes, -1: it is not there */
    ft_hdf5 functions;
    memset(&functions, 0, sizeof functions);
    if (!loaded) loaded = hdf5_load(&library) ? 1 : -1;
    if (loaded < 0) return functions;
    functions.user = &library;
    functions.open = hdf5_open;
    functions.item = hdf5_describe;
    functions.read = hdf5_read;
    functions.close = hdf5_close;
    functions.write = hdf5_write;
    functions.bytes = hdf5_bytes;
    return functions;
}
#endif
