#pragma once
#include "interface/types.h"
#include "platform/context.h"
#include "basics/random.h"
#include "kernels/stored.h"
#include "nodes/nodes.h"
#include "nodes/sharing.h"

/* =============================================================================================
   [SECTION] nodes/storage: How a weight lies in memory
   As float32 that the model owns (`value`); or in another type (`stored`); either may be part of a
   mapped file instead. Training needs the first: what is trained becomes that before the first
   step. Vectors (biases, the weights of norms) and buffers are small, and always that.
   ============================================================================================= */

/* Drops one use of a mapped file; the last one unmaps it. */
static void ft__mapping_drop(ft__context *c, ft__mapping *mapping)
{
    ft_files *files = &c->desc.files;
    if (!mapping || --mapping->users > 0) return;
    if (mapping->file) {
        files->unmap(files->user, mapping->bytes, (size_t)mapping->size);
        files->close(files->user, mapping->file);
    }
    ft__release(c, mapping);
}

/* Releases a weight's numbers, however they lie. */
static void ft__release_value(ft__context *c, ft__node *node)
{
    if (node->mapping) ft__mapping_drop(c, node->mapping);
    else if (!node->borrowed) {
        ft__release(c, (void *)(uintptr_t)node->stored.at);
        ft__release(c, node->value);
    }
    if (!node->borrowed) ft__release(c, (void *)(uintptr_t)node->stored.scale);
    memset(&node->stored, 0, sizeof node->stored);
    node->value = NULL;
    node->mapping = NULL;
}

static bool ft__is_stored(const ft__node *node) { return node->stored.at != NULL; }

static ft_type ft__value_type(const ft__node *node)
{
    return ft__is_stored(node) ? node->stored.type : node->type;
}

/* The numbers of a weight, of any type. */
static ft__stored ft__stored_of(const ft__node *node)
{
    size_t columns = ft__shape_count(&node->shape) / (size_t)node->shape.size[0];
    return ft__is_stored(node) ? node->stored : ft__floats(node->value, columns);
}

/* Whether a weight lies transposed in a file that has it in this type. Not as int8, which has a
   scale for each row of the weight in memory. */
static bool ft__transposed_as(const ft__node *node, ft_type type)
{
    return node->transposed && type != FT_I8;
}

static bool ft__same_sizes(const ft_shape *a, const ft_shape *b)
{
    int d;
    if (a->rank != b->rank) return false;
    for (d = 0; d < a->rank; ++d)
        if (a->size[d] != b->size[d]) return false;
    return true;
}

static ft_shape ft__shape_in_file(const ft__node *node, ft_type type)
{
    ft_shape shape = node->shape;
    if (!ft__transposed_as(node, type)) return shape;
    shape.size[0] = node->shape.size[1];
    shape.size[1] = node->shape.size[0];
    return shape;
}

/* to [columns, rows] = from [rows, columns], elements of so many bytes. */
static void ft__transpose_elements(const void *from, size_t rows, size_t columns, size_t bytes,
                                   void *to)
{
    size_t i, j;
    for (i = 0; i < rows; ++i)
        for (j = 0; j < columns; ++j)
            memcpy((char *)to + (j * rows + i) * bytes,
                   (const char *)from + (i * columns + j) * bytes, bytes);
}

/* Bytes of a weight's numbers and scales, wherever they are. */
static size_t ft__value_bytes(const ft__node *node)
{
    ft__stored s = ft__stored_of(node);
    size_t rows = (size_t)node->shape.size[0];
    return ft__stored_bytes(&s, rows) + (s.scale ? rows * sizeof *s.scale : 0);
}

static uint64_t ft__hash_value(uint64_t hash, const ft__node *node)
{
    ft__stored s = ft__stored_of(node);
    size_t rows = (size_t)node->shape.size[0];
    hash = ft__hash_bytes(hash, s.at, ft__stored_bytes(&s, rows));
    if (s.type != FT_F32) hash = ft__key(hash, (uint64_t)s.type, 0, 0);
    return s.scale ? ft__hash_bytes(hash, s.scale, rows * sizeof *s.scale) : hash;
}

/* Replaces a weight's numbers by float32 that the model owns; with `keep` they stay the same. */
static ft_status ft__own_float32(ft_model *m, ft__node *node, bool keep)
{
    ft__context *c = &m->context;
    size_t count = ft__shape_count(&node->shape);
    ft__stored s = ft__stored_of(node);
    float *value;
    if (!ft__ok(c) || (node->value && !node->mapping)) return c->status;
    if (ft__refuse_shared(m, node, "float32 in memory") != FT_OK) return c->status;
    value = (float *)ft__allocate(c, count, sizeof *value);
    if (!value) return c->status;
    if (keep && s.at) ft__read_stored_run(c, &s, 0, count, value);
    ft__release_value(c, node);
    node->value = value;
    m->version += 1;
    m->weights_version += 1;
    return c->status;
}

/* Rounds a weight to a type, in memory that the model owns. */
static ft_status ft__store(ft_model *m, ft__node *node, ft_type type)
{
    ft__context *c = &m->context;
    ft__stored from = ft__stored_of(node), to = from;
    size_t rows = (size_t)node->shape.size[0], columns = from.columns, r;
    const char *wrong = NULL;
    float *line, *scale = NULL;
    void *at;
    if (type == FT_F32) return ft__own_float32(m, node, true);
    if (!ft__ok(c) || from.type == type) return c->status;
    if (ft__refuse_shared(m, node, "another type") != FT_OK) return c->status;
    to.type = type;
    at = ft__allocate(c, ft__stored_bytes(&to, rows), 1);
    line = (float *)ft__allocate(c, columns, sizeof *line);
    if (type == FT_I8) scale = (float *)ft__allocate(c, rows, sizeof *scale);
    for (r = 0; ft__ok(c) && !wrong && r < rows; ++r) {
        ft__read_stored(c, &from, r, 0, columns, line);
        if (type == FT_I8)
            wrong = ft__round_row_to_int8(line, columns, (int8_t *)at + r * columns, &scale[r]);
        else wrong = ft__round_to_half(line, columns, type, (uint16_t *)at + r * columns);
    }
    ft__release(c, line);
    if (wrong)
        ft__fail(c, FT_NOT_FINITE, "%s: row %zu has a number that is %s: it cannot be stored as %s",
                 node->name, r - 1, wrong, ft__type_names[type]);
    if (!ft__ok(c)) {
        ft__release(c, scale);
        ft__release(c, at);
        return c->status;
    }
    ft__release_value(c, node);
    node->stored = to;
    node->stored.at = at;
    node->stored.scale = scale;
    m->version += 1;
    m->weights_version += 1;
    return c->status;
}
