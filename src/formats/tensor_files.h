#pragma once
#include "interface/types.h"
#include "platform/families.h"
#include "platform/context.h"
#include "basics/strings.h"
#include "basics/json.h"
#include "nodes/nodes.h"
#include "nodes/storage.h"
#include "formats/readers.h"
#include "formats/safetensors.h"
#include "formats/writers.h"

/* =============================================================================================
   [SECTION] formats/tensor_files: Tensor files
   ============================================================================================= */

#define FT__READER_AT(name) &ft__reader_##name,
static const ft__reader *const ft__readers[] = {FT__READERS(FT__READER_AT) NULL};

/* The first reader that recognises the file; NULL with an error. */
static const ft__reader *ft__reader_of(const ft_file *file)
{
    char names[256] = "";
    int i;
    for (i = 0; ft__readers[i]; ++i)
        if (ft__readers[i]->recognises(file)) return ft__readers[i];
    for (i = 0; ft__readers[i]; ++i) ft__add_name(names, sizeof names, ft__readers[i]->name);
    ft__fail(file->context, FT__HAS_NUMPY && FT__HAS_TENSORFLOW && FT__HAS_KERAS && FT__HAS_ONNX
                            ? FT_FORMAT : FT_UNSUPPORTED,
             "%s: its %llu bytes are of no known format (%s)" FT__NUMPY_LEFT_OUT
             FT__TENSORFLOW_LEFT_OUT FT__KERAS_LEFT_OUT FT__ONNX_LEFT_OUT, file->path,
             (unsigned long long)file->size, names);
    return NULL;
}

/* A file by itself: of an index, the files that it names are not opened. */
static ft_file *ft__file_open_one(ft_model *m, const char *path, ft_weights_options options)
{
    ft__context *c;
    ft_file *file;
    if (!ft__usable(m)) return NULL;
    c = &m->context;
    if (!options.memory && !ft__given(c, path, "the path of the file to open")) return NULL;
    file = (ft_file *)ft__allocate(c, 1, sizeof *file);
    if (!file) return NULL;
    file->context = c;
    file->path = ft__copy_text(c, path ? path : "(memory)");
    file->state_dict = options.state_dict;
    memcpy(file->sample, options.sample, sizeof file->sample);
    if (file->path) ft__file_bytes(file, options);
    if (ft__ok(c)) file->reader = ft__reader_of(file);
    if (file->reader && options.state_dict && !file->reader->chooses)
        ft__fail(c, FT_INVALID, "%s: state_dict has no effect here: it is for checkpoints"
                 " written by torch.save", file->path);
    if (file->reader && options.sample[0] && !file->reader->sizes)
        ft__fail(c, FT_INVALID, "%s: sample has no effect here: it is for ONNX files", file->path);
    if (ft__ok(c)) file->reader->open(file);
    if (ft__ok(c)) return file;
    ft_file_close(file);
    return NULL;
}

/* Opens the files that an index names, and takes from them what its tensors are. */
static void ft__open_shards(ft_model *m, ft_file *file, ft_weights_options options)
{
    ft__context *c = file->context;
    int i;
    if (options.memory) {
        ft__fail(c, FT_INVALID, "%s: an index of several files must be opened by its path, not from"
                 " memory", file->path);
        return;
    }
    file->shards = (ft_file **)ft__allocate(c, (size_t)file->shard_count, sizeof *file->shards);
    for (i = 0; i < file->shard_count && ft__ok(c); ++i) {
        char *path = ft__shard_path(c, file->path, file->shard_names[i]);
        if (path) file->shards[i] = ft__file_open_one(m, path, options);
        if (file->shards[i] && file->shards[i]->shard_count > 0)
            ft__fail(c, FT_FORMAT, "%s: the file %.200s that it names is an index too", file->path,
                     file->shard_names[i]);
        ft__release(c, path);
    }
    for (i = 0; i < file->count && ft__ok(c); ++i) {
        ft_tensor_info *t = &file->tensors[i];
        const ft_file *shard = file->shards[t->shard];
        int found = ft__find_tensor(shard, t->name), number = t->shard;
        if (found < 0)
            ft__fail(c, FT_FORMAT, "%s: tensor %.200s is not in %.200s", file->path, t->name,
                     file->shard_names[number]);
        else *t = shard->tensors[found];
        t->shard = number;
    }
}

ft_file *ft_file_open(ft_model *m, const char *path, ft_weights_options options)
{
    ft_file *file = ft__file_open_one(m, path, options);
    if (file && file->shard_names) ft__open_shards(m, file, options);
    if (!file || ft__ok(file->context)) return file;
    ft_file_close(file);
    return NULL;
}

void ft_file_close(ft_file *file)
{
    ft__context *c;
    int i;
    if (!file) return;
    c = file->context;
    if (FT__HAS_KERAS && file->forget) file->forget(file);
    for (i = 0; file->shards && i < file->shard_count; ++i) ft_file_close(file->shards[i]);
    ft__release(c, file->shards);
    ft__release(c, (void *)(uintptr_t)file->shard_names);
    ft__release(c, file->metadata);
    ft__release(c, file->letters);
    ft__release(c, file->by_name);
    ft__release(c, file->tensors);
    ft__json_free(c, file->json);
    ft__mapping_drop(c, file->mapping);
    ft__release(c, file->owned);
    if (FT__HAS_ONNX) ft__file_free_blocks(file);
    ft__release(c, file->path);
    ft__release(c, file);
}

int ft_file_count(const ft_file *file) { return file ? file->count : 0; }

ft_tensor_info ft_file_tensor(const ft_file *file, int index)
{
    ft_tensor_info none;
    memset(&none, 0, sizeof none);
    return file && index >= 0 && index < file->count ? file->tensors[index] : none;
}

int ft_file_find(const ft_file *file, const char *name)
{
    return file && name ? ft__find_tensor(file, name) : -1;
}

static ft_status ft__file_check(ft_file *file, int index, const void *to, size_t want,
                                size_t given, const char *unit)
{
    ft__context *c;
    if (!file) return FT_INVALID; /* ft_file_open failed: its model has the error */
    c = file->context;
    if (!ft__ok(c)) return c->status;
    if (index < 0 || index >= file->count)
        return ft__fail(c, FT_INVALID, "%s: tensor %d was not found", file->path, index);
    if (!ft__given(c, to, "the destination of a tensor")) return c->status;
    if (want != given)
        return ft__fail(c, FT_SHAPE, "%s: tensor %.200s has %zu %s, not %zu", file->path,
                        file->tensors[index].name, want, unit, given);
    return FT_OK;
}

static bool ft__host_is_little_endian(void)
{
    const uint16_t one = 1;
    unsigned char first;
    memcpy(&first, &one, 1);
    return first == 1;
}

ft_status ft_file_read_f32(ft_file *file, int index, float *to, size_t count)
{
    ft_tensor_info t = ft_file_tensor(file, index);
    ft_status status = ft__file_check(file, index, to, ft__shape_count(&t.shape), count,
                                      "numbers");
    if (status != FT_OK) return status;
    if (t.type == FT_OTHER)
        return ft__fail(file->context, FT_UNSUPPORTED, "%s: tensor %.200s has the type %.60s, which"
                        " cannot be read as numbers", file->path, t.name, t.type_name);
    if (t.type == FT_F32 && ft__host_is_little_endian())
        file->reader->read(file, &t, 0, count, (unsigned char *)to);
    else ft__read_numbers(file, &t, 0, count, to);
    return FT_OK;
}

ft_status ft_file_read(ft_file *file, int index, void *to, size_t bytes)
{
    ft_tensor_info t = ft_file_tensor(file, index);
    size_t size = (size_t)ft__type_bytes[t.type], count = ft__shape_count(&t.shape);
    ft_status status = ft__file_check(file, index, to, t.type == FT_OTHER ? (size_t)t.bytes
                                                                         : count * size,
                                      bytes, "bytes");
    if (status != FT_OK) return status;
    if (t.type != FT_OTHER) file->reader->read(file, &t, 0, count, (unsigned char *)to);
    else if (bytes > 0) memcpy(to, ft__file_with(file, &t)->bytes + t.offset, bytes);
    return FT_OK;
}

/* The description of the network that the file holds; NULL: it holds none. */
static const char *ft__file_graph(ft_file *file)
{
    return file->reader->graph ? file->reader->graph(file) : NULL;
}

ft_status ft_file_save(ft_file *file, const char *path, ft_save_options options)
{
    ft__context *c;
    ft__write_tensor *tensors;
    const char **pairs;
    int i, kept = 0;
    if (!file) return FT_INVALID; /* ft_file_open failed: its model has the error */
    c = file->context;
    if (!ft__ok(c) || !ft__given(c, path, "ft_file_save: the path")) return c->status;
    if (!FT__HAS_SAVING)
        return ft__fail(c, FT_UNSUPPORTED, "ft_file_save: not supported by this build ("
                        FT__WITHOUT(SAVING) ")");
    if (ft__check_written(c, path, &options, false) != FT_OK) return c->status;
    tensors = (ft__write_tensor *)ft__allocate(c, (size_t)file->count + 1, sizeof *tensors);
    pairs = (const char **)ft__allocate(c, 2 * (size_t)file->metadata_count + 1, sizeof *pairs);
    for (i = 0; pairs && !options.weights_only && i < file->metadata_count; ++i) {
        if (strcmp(file->metadata[i].key, "format") == 0) continue; /* the writer's own */
        pairs[2 * kept] = file->metadata[i].key;
        pairs[2 * kept++ + 1] = file->metadata[i].text;
    }
    if (ft__ok(c) && ft__list_file(file, path, &options, tensors) == FT_OK)
        ft__writer_of(path)->write(c, path, tensors, file->count, pairs, kept);
    if (ft__ok(c) && file->reader->chooses)
        ft__log(c, "%s: only the weights are kept: what else a checkpoint of PyTorch holds, as an"
                " optimiser or an epoch, is not", path);
    ft__release(c, (void *)(uintptr_t)pairs);
    ft__release(c, tensors);
    return c->status;
}
