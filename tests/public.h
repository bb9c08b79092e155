/* public.h - for tests of the public functions, which link the library as the tool does instead of
   compiling it: functions to inspect a model, an allocator that counts, a file of weights only. */
#ifndef PUBLIC_H
#define PUBLIC_H

#include "check.h"
#include "finetune.h"

/* How many numbers a node has for one sample of one step. */
static inline size_t numbers_of(const ft_model *m, ft_node node)
{
    ft_shape shape = ft_node_shape(m, node);
    size_t count = 1;
    int d;
    for (d = 0; d < shape.rank; ++d)
        if (shape.size[d] > 0) count *= (size_t)shape.size[d];
    return count;
}

/* An input; sizes that are 0 are left out. */
static inline ft_node add_input(ft_model *m, const char *name, ft_type type, int a, int b, int c)
{
    ft_input_options o;
    memset(&o, 0, sizeof o);
    o.type = type;
    o.size[0] = a;
    o.size[1] = b;
    o.size[2] = c;
    return ft_input(m, name, o);
}

static inline bool is_parameter(const ft_model *m, ft_node node)
{
    return strcmp(ft_node_operator(m, node), "parameter") == 0;
}

/* Is it a parameter, or a buffer such as a batch norm's statistics? */
static inline bool is_weight(const ft_model *m, ft_node node)
{
    return is_parameter(m, node) || strcmp(ft_node_operator(m, node), "buffer") == 0;
}

/* Returns the values of a parameter or buffer, for the caller to free. */
static inline float *weight_of(ft_model *m, ft_node node)
{
    size_t count = numbers_of(m, node);
    float *values = (float *)calloc(count + 1, sizeof *values);
    if (!values || ft_get(m, node, values, count) != FT_OK) {
        CHECK(false, "%s cannot be read: %s", ft_node_name(m, node), ft_error_text(m));
        exit(1);
    }
    return values;
}

/* FNV-1a. */
static inline uint64_t hash_bytes(uint64_t hash, const void *bytes, size_t count)
{
    const unsigned char *at = (const unsigned char *)bytes;
    hash ^= 0xCBF29CE484222325u;
    while (count-- > 0) hash = (hash ^ *at++) * 0x100000001B3u;
    return hash;
}

/* The same of the values of a parameter or buffer. */
static inline uint64_t hash_weight(uint64_t hash, ft_model *m, ft_node node)
{
    float *values = weight_of(m, node);
    hash = hash_bytes(hash, values, numbers_of(m, node) * sizeof *values);
    free(values);
    return hash;
}

/* A hash of every weight and statistic. */
static inline uint64_t fingerprint(ft_model *m)
{
    uint64_t hash = 1;
    ft_node node;
    for (node.id = 1; node.id <= ft_node_count(m); ++node.id)
        if (is_weight(m, node)) hash = hash_weight(hash, m, node);
    return hash;
}

/* ---- Memory: ft_desc.allocator with a `memory_count` as its user ---- */
typedef struct memory_count {
    size_t bytes, most;         /* allocated now; the maximum so far */
    long calls, blocks;         /* calls of allocate; blocks not released yet */
    long fail_at;               /* this call returns NULL; 0: no call does */
} memory_count;

/* malloc's alignment is smaller: its pointer is kept just below ours. */
static inline void *allocate_counted(void *user, size_t bytes, size_t alignment)
{
    memory_count *c = (memory_count *)user;
    unsigned char *raw = NULL, *aligned;
    if (++c->calls != c->fail_at) raw = (unsigned char *)malloc(bytes + alignment + sizeof raw);
    if (!raw) return NULL;
    aligned = raw + sizeof raw;
    aligned += (alignment - (uintptr_t)aligned % alignment) % alignment;
    memcpy(aligned - sizeof raw, &raw, sizeof raw);
    c->bytes += bytes;
    c->blocks += 1;
    if (c->bytes > c->most) c->most = c->bytes;
    return aligned;
}

static inline void release_counted(void *user, void *memory, size_t bytes)
{
    memory_count *c = (memory_count *)user;
    void *raw;
    memcpy(&raw, (unsigned char *)memory - sizeof raw, sizeof raw);
    free(raw);
    c->bytes -= bytes;
    c->blocks -= 1;
}

static inline ft_allocator counting(memory_count *c)
{
    ft_allocator allocator = {c, allocate_counted, release_counted};
    return allocator;
}

/* ---- A file of weights only ---- */

static inline bool is_written(const ft_model *m, ft_node node, bool parameters_only)
{
    return parameters_only ? is_parameter(m, node) : is_weight(m, node);
}

/* Writes the names, shapes and places of the tensors; padded to a multiple of 8 bytes. */
static inline void write_header(const ft_model *m, FILE *file, bool parameters_only,
                                const char *metadata)
{
    size_t offset = 0;
    ft_node node;
    int d;
    fprintf(file, "{");
    if (metadata) fprintf(file, "\"__metadata__\":%s,", metadata);
    for (node.id = 1; node.id <= ft_node_count(m); ++node.id) {
        ft_shape shape = ft_node_shape(m, node);
        size_t bytes = 2 * numbers_of(m, node);
        if (!is_written(m, node, parameters_only)) continue;
        fprintf(file, "%s\"%s\":{\"dtype\":\"BF16\",\"shape\":[", offset ? "," : "",
                ft_node_name(m, node));
        for (d = 0; d < shape.rank; ++d) fprintf(file, "%s%d", d ? "," : "", shape.size[d]);
        fprintf(file, "],\"data_offsets\":[%zu,%zu]}", offset, offset + bytes);
        offset += bytes;
    }
    fprintf(file, "}");
    while (ftell(file) % 8) fputc(' ', file);
}

/* Writes a model's weights, or only its parameters, as safetensors of BF16 (the upper half of each
   number) without the network, like a published file. `metadata` is JSON, or NULL. */
static inline void write_weights(ft_model *m, const char *path, bool parameters_only,
                                 const char *metadata)
{
    FILE *file = fopen(path, "wb");
    unsigned char size[8] = {0};
    long header;
    ft_node node;
    size_t i;
    if (!file || fwrite(size, 1, 8, file) != 8) exit(1);
    write_header(m, file, parameters_only, metadata);
    header = ftell(file) - 8;
    for (node.id = 1; node.id <= ft_node_count(m); ++node.id) {
        float *values;
        if (!is_written(m, node, parameters_only)) continue;
        values = weight_of(m, node);
        for (i = 0; i < numbers_of(m, node); ++i) {
            uint32_t bits;
            memcpy(&bits, &values[i], sizeof bits);
            fputc((int)(bits >> 16 & 255), file);
            fputc((int)(bits >> 24), file);
        }
        free(values);
    }
    for (i = 0; i < 8; ++i) size[i] = (unsigned char)((uint64_t)header >> 8 * i);
    rewind(file);
    if (fwrite(size, 1, 8, file) != 8 || fclose(file) != 0) exit(1);
}

#endif
