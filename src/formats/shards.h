#pragma once
#include "interface/types.h"
#include "platform/context.h"
#include "basics/json.h"
#include "formats/readers.h"

/* =============================================================================================
   [SECTION] formats/shards: Weights in several files
   A large model's weights lie in several files, shards, and an index names the file of each tensor:
   {"metadata": ..., "weight_map": {"TENSOR": "model-00001-of-00002.safetensors", ...}}. The index
   is opened like a single file that has all these tensors.
   ============================================================================================= */

/* A JSON object that has the word. Whether it is a member of the object, ft__shards_open sees. */
static bool ft__shards_recognises(const ft_file *file)
{
    static const char word[] = "\"weight_map\"";
    uint64_t i = 0, last = sizeof word - 1;
    while (i < file->size && file->bytes[i] && strchr(" \t\r\n", file->bytes[i])) ++i;
    if (i == file->size || file->bytes[i] != '{') return false;
    for (; i + last <= file->size; ++i)
        if (file->bytes[i] == '"' && memcmp(file->bytes + i, word, (size_t)last) == 0) return true;
    return false;
}

enum { FT__MOST_SHARDS = 4096 };

/* The number of the file with this name, which is new if it was not named before; -1: too many. */
static int ft__shard_number(ft_file *file, const char *name)
{
    int i;
    for (i = file->shard_count - 1; i >= 0; --i) /* the tensors of a file stand together */
        if (!strcmp(file->shard_names[i], name)) return i;
    if (file->shard_count == FT__MOST_SHARDS) return -1;
    file->shard_names[file->shard_count] = name;
    return file->shard_count++;
}

/* Lists the names of the tensors, and of the files; formats/tensor_files opens these. */
static void ft__shards_open(ft_file *file)
{
    ft__context *c = file->context;
    const ft__json *json;
    int map, end, i;
    json = file->json = ft__json_parse(c, (const char *)file->bytes, (size_t)file->size);
    file->shard_names = (const char **)ft__allocate(c, FT__MOST_SHARDS, sizeof *file->shard_names);
    if (!file->json || !file->shard_names) {
        ft__fail(c, FT_FORMAT, "%s: not JSON", file->path);
        return;
    }
    map = ft__json_member(json, 0, "weight_map");
    if (ft__json_count(json, map) < 1 || !ft__json_at(json, map, 'o')) {
        ft__fail(c, FT_FORMAT, "%s: weight_map must be an object with the file of each tensor",
                 file->path);
        return;
    }
    end = json->values[map].next;
    for (i = map + 1; i < end && ft__ok(c); i = json->values[i].next) {
        const char *name = ft__json_string(json, i);
        ft_tensor_info *t = ft__file_add(file);
        if (!t) return;
        memset(t, 0, sizeof *t);
        t->name = json->values[i].key;
        if (!name || !*name || *name == '.' || strpbrk(name, "/\\:"))
            ft__fail(c, FT_FORMAT, "%s: the file of tensor %.200s is \"%.200s\"; the name of a file"
                     " in the same folder is expected", file->path, t->name, name ? name : "");
        else t->shard = ft__shard_number(file, name);
        if (t->shard < 0)
            ft__fail(c, FT_FORMAT, "%s: more than %d files are named", file->path, FT__MOST_SHARDS);
    }
    ft__file_index(file);
}

static void ft__shards_read(const ft_file *file, const ft_tensor_info *t, size_t first,
                            size_t count, unsigned char *to)
{
    const ft_file *shard = file->shards[t->shard];
    shard->reader->read(shard, t, first, count, to);
}

static const ft__reader ft__reader_shards = {
    "an index of weights in several files", false, ft__shards_recognises, ft__shards_open,
    ft__shards_read, NULL, false};
