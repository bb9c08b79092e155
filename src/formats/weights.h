#pragma once
#include "interface/types.h"
#include "platform/families.h"
#include "platform/context.h"
#include "basics/strings.h"
#include "basics/sorting.h"
#include "kernels/stored.h"
#include "nodes/nodes.h"
#include "nodes/names.h"
#include "nodes/storage.h"
#include "operators/table.h"
#include "devices/device.h"
#include "graph/plan.h"
#include "formats/readers.h"
#include "formats/safetensors.h"
#include "formats/tensor_files.h"
#include "formats/position_tables.h"

/* =============================================================================================
   [SECTION] formats/weights: Loading weights by name
   A weight is loaded if the file has a tensor of its name and shape. Everything else is listed: a
   mismatch passed over in silence would leave the network half loaded.
   ============================================================================================= */

/* ---- Prefixes: DataParallel puts "module." before every name, torch.compile "_orig_mod.", and a
   program its own name for the network. A prefix that all names share is skipped if the names then
   match the network. ---- */

/* Not a weight: a counter of an optimiser or of averaged weights. */
static bool ft__is_count(const char *name)
{
    return strcmp(name, "n_averaged") == 0 || strcmp(name, "num_updates") == 0;
}

/* Sets file->prefix: the words, with their dots, that all names begin with. */
static void ft__find_prefix(ft_file *file)
{
    const char *first = NULL;
    size_t length = 0, k;
    int i;
    for (i = 0; i < file->count; ++i) {
        const char *name = file->tensors[i].name;
        if (ft__is_count(name)) continue;
        if (!first) {
            first = name;
            length = strlen(name) < sizeof file->prefix - 1 ? strlen(name)
                                                            : sizeof file->prefix - 1;
        }
        for (k = 0; k < length && name[k] == first[k]; ++k) {}
        length = k;
    }
    while (length > 0 && first[length - 1] != '.') length -= 1;
    if (length > 0) memcpy(file->prefix, first, length);
    file->prefix[length] = 0;
    file->skip = 0;
}

/* Returns the length of the prefix up to its next dot; 0: there is none. */
static size_t ft__next_prefix(const ft_file *file, size_t skip)
{
    const char *dot = strchr(file->prefix + skip, '.');
    return dot ? (size_t)(dot - file->prefix) + 1 : 0;
}

static const char *ft__shown_name(const ft_file *file, int index)
{
    const char *name = file->tensors[index].name;
    return strncmp(name, file->prefix, file->skip) == 0 ? name + file->skip : name;
}

static void ft__say_prefix(const ft_file *file)
{
    if (file->skip)
        ft__log(file->context, "%s: all names begin with \"%.*s\", which is ignored",
                file->path, (int)file->skip, file->prefix);
}

/* Applies "from=to,from=to" to the prefix of a file's name: the first rule that matches. */
static void ft__renamed(const char *rules, const char *name, char *to, size_t size)
{
    while (rules && *rules) {
        const char *equals = strchr(rules, '='), *end = strchr(rules, ',');
        if (!end) end = rules + strlen(rules);
        if (equals && equals < end && strncmp(name, rules, (size_t)(equals - rules)) == 0) {
            snprintf(to, size, "%.*s%s", (int)(end - equals - 1), equals + 1,
                     name + (equals - rules));
            return;
        }
        rules = *end ? end + 1 : end;
    }
    snprintf(to, size, "%s", name);
}

/* Logs the rules that match no name in the file or have no "=". It is no error: they may be meant
   for other files too. */
static void ft__say_unused_rules(ft_file *file, const char *rules)
{
    while (rules && *rules) {
        const char *end = strchr(rules, ','), *equals;
        size_t from;
        int i;
        if (!end) end = rules + strlen(rules);
        equals = (const char *)memchr(rules, '=', (size_t)(end - rules));
        from = (size_t)((equals ? equals : end) - rules);
        for (i = 0; equals && i < file->count; ++i) {
            size_t skip = 0;
            while (strncmp(file->tensors[i].name + skip, rules, from) != 0
                   && (skip = ft__next_prefix(file, skip)) > 0) {}
            if (strncmp(file->tensors[i].name + skip, rules, from) == 0) break;
        }
        if (!equals || i == file->count)
            ft__log(file->context, "%s: rename %.*s: no name in it begins with \"%.*s\"%s%.100s",
                    file->path, (int)(end - rules), rules, (int)from, rules,
                    file->count ? "; the first is " : "", file->count ? file->tensors[0].name : "");
        rules = *end ? end + 1 : end;
    }
}

/* Collects names that do not fit, as many as one error line holds. */
typedef struct ft__list { char text[640]; size_t used; int count; } ft__list;

static void ft__list_add(ft__list *list, const char *name, const char *detail)
{
    int wrote;
    list->count += 1;
    if (list->count > 8 || list->used > sizeof list->text - 160) return;
    wrote = snprintf(list->text + list->used, sizeof list->text - list->used, "%s%.100s %.60s",
                     list->used ? ", " : "", name, detail);
    if (wrote > 0) list->used += (size_t)wrote < 159 ? (size_t)wrote : 159;
}

/* PyTorch counts the batches that a batch norm saw; with a set momentum the count has no effect. */
static bool ft__is_counter(const char *name) { return ft__ends_with(name, "num_batches_tracked"); }

/* Returns the weight that a tensor of the file belongs to; NULL: none. */
static ft__node *ft__node_for(const ft_model *m, const ft_file *file, int index, const char *rename)
{
    char name[512];
    ft__node *node;
    ft__renamed(rename, ft__shown_name(file, index), name, sizeof name);
    node = ft__get_node(m, ft__find_node(m, name));
    return node && ft__is_weight(node) ? node : NULL;
}

/* Skips as much of the prefix as makes the most names match. */
static void ft__choose_prefix(const ft_model *m, ft_file *file, const char *rename)
{
    size_t skip = 0, best = file->skip;
    int most = -1, i, count;
    if (FT__HAS_KERAS && file->settle) file->settle(m, file);
    if (file->skip) return; /* chosen when the network was recognised */
    do {
        file->skip = skip;
        for (i = count = 0; i < file->count; ++i)
            count += ft__node_for(m, file, i, rename) != NULL;
        if (count > most) {
            most = count;
            best = skip;
        }
        skip = ft__next_prefix(file, skip);
    } while (skip && most < file->count);
    file->skip = best;
    ft__say_prefix(file);
}

static bool ft__same_data(const ft_tensor_info *a, const ft_tensor_info *b)
{
    return a->bytes > 0 && a->offset == b->offset && a->bytes == b->bytes
        && ft__same_sizes(&a->shape, &b->shape)
        && memcmp(a->stride, b->stride, sizeof a->stride) == 0;
}

/* Marks in tied[] the tensors without a node in the network whose data is that of a tensor with
   one: one weight under two names, as a state_dict lists tied weights. */
static void ft__mark_tied(const ft_model *m, ft_file *file, const char *rename, char *tied)
{
    ft__context *c = file->context;
    int *order = (int *)ft__allocate(c, (size_t)file->count + 1, sizeof *order), from, to, i;
    if (!order) return;
    ft__sort_order(order, file->count, ft__data_less, file->tensors);
    for (from = 0; from < file->count; from = to) {
        const ft_tensor_info *first = &file->tensors[order[from]];
        bool wanted = false;
        for (to = from; to < file->count && ft__same_data(first, &file->tensors[order[to]]); ++to)
            wanted = wanted || ft__node_for(m, file, order[to], rename);
        if (to == from) to += 1;
        for (i = from; wanted && to > from + 1 && i < to; ++i)
            tied[order[i]] = !ft__node_for(m, file, order[i], rename);
    }
    ft__release(c, order);
}

/* The tensor "<name>_scale" of an int8 tensor, a float32 for each row; -1: there is none. */
static int ft__scale_of(const ft_file *file, int index)
{
    const ft_tensor_info *t = &file->tensors[index], *scale;
    char name[640];
    int found;
    if (t->type != FT_I8 || t->shape.rank < 2 || strlen(t->name) > 600) return -1;
    snprintf(name, sizeof name, "%s%s", t->name, ft__scale_suffix);
    found = ft__find_tensor(file, name);
    scale = found < 0 ? NULL : &file->tensors[found];
    return scale && scale->type == FT_F32 && scale->shape.rank > 0
        && scale->shape.size[0] == t->shape.size[0]
        && ft__shape_count(&scale->shape) == (size_t)t->shape.size[0] ? found : -1;
}

static bool ft__is_scale(const ft_file *file, int index)
{
    const char *name = file->tensors[index].name;
    size_t bytes = strlen(name) - (ft__ends_with(name, ft__scale_suffix)
                                   ? strlen(ft__scale_suffix) : strlen(name));
    char base[640];
    int of;
    if (bytes == 0 || bytes >= sizeof base) return false;
    snprintf(base, sizeof base, "%.*s", (int)bytes, name);
    of = ft__find_tensor(file, base);
    return of >= 0 && ft__scale_of(file, of) == index;
}

/* Reads a weight as float32, of int8 times its scales. */
static ft_status ft__read_weight(ft_file *file, int index, float *to, size_t count)
{
    int scales = index < 0 ? -1 : ft__scale_of(file, index);
    size_t rows, r, i;
    float scale = 0;
    if (ft_file_read_f32(file, index, to, count) != FT_OK || scales < 0)
        return file->context->status;
    rows = (size_t)file->tensors[index].shape.size[0];
    for (r = 0; r < rows; ++r) {
        const ft_tensor_info *t = &file->tensors[scales];
        ft__read_numbers(file, t, r, 1, &scale);
        for (i = 0; i < count / rows; ++i) to[r * (count / rows) + i] *= scale;
    }
    return file->context->status;
}

/* Whether a weight stays in the file's type. Float32 gains only in a mapped file. */
static bool ft__keeps_type(const ft_model *m, const ft_file *file, int index,
                           const ft__node *node)
{
    const ft_tensor_info *t = &file->tensors[index];
    return ft__may_be_stored(node) && ft__stored_kind_of(t->type) && !m->context.device
        && (t->type != FT_I8 || ft__scale_of(file, index) >= 0)
        && (t->type != FT_F32 || ft__file_with(file, t)->mapping);
}

/* Of numbers of two bytes. */
static void ft__swap_bytes(unsigned char *at, size_t bytes)
{
    size_t i;
    for (i = 0; i + 1 < bytes; i += 2) {
        unsigned char first = at[i];
        at[i] = at[i + 1];
        at[i + 1] = first;
    }
}

/* Replaces the numbers of a tensor, a block of memory, by the transposed ones; NULL with an
   error. */
static unsigned char *ft__turned(ft__context *c, unsigned char *numbers, const ft_tensor_info *t)
{
    unsigned char *to = (unsigned char *)ft__allocate(c, (size_t)t->bytes, 1);
    if (to)
        ft__transpose_elements(numbers, (size_t)t->shape.size[0], (size_t)t->shape.size[1],
                               (size_t)ft__type_bytes[t->type], to);
    ft__release(c, numbers);
    return to;
}

/* Reads a weight as float32 into its memory. */
static ft_status ft__read_into(ft_model *m, ft_file *file, int index, ft__node *node)
{
    ft__context *c = &m->context;
    const ft_tensor_info *t = &file->tensors[index];
    size_t count = ft__node_count_at(node, ft__one);
    float *whole;
    if (!ft__transposed_as(node, t->type)) return ft__read_weight(file, index, node->value, count);
    whole = (float *)ft__allocate(c, count, sizeof *whole);
    if (whole && ft__read_weight(file, index, whole, count) == FT_OK)
        ft__transpose_elements(whole, (size_t)t->shape.size[0], (size_t)t->shape.size[1],
                               sizeof *whole, node->value);
    ft__release(c, whole);
    return c->status;
}

/* Makes a weight lie as it is in the file: in its place there if the file is mapped, and the tensor
   aligned and row-major; else as a copy. */
static ft_status ft__load_stored(ft_model *m, ft_file *file, int index, ft__node *node)
{
    ft__context *c = &m->context;
    const ft_tensor_info *t = &file->tensors[index];
    const ft_file *holder = ft__file_with(file, t);
    const unsigned char *at = holder->bytes + t->offset;
    int scales = ft__scale_of(file, index);
    size_t rows = (size_t)node->shape.size[0];
    bool turn = ft__transposed_as(node, t->type);
    bool in_place = holder->mapping && !turn && ft__is_row_major(t) && ft__host_is_little_endian()
        && (uintptr_t)at % (uintptr_t)ft__type_bytes[t->type] == 0;
    float *scale = NULL;
    unsigned char *copy = NULL;
    if (!in_place && t->type == FT_F32) {
        if (ft__own_float32(m, node, false) != FT_OK) return c->status;
        return ft__read_into(m, file, index, node);
    }
    if (scales >= 0) scale = (float *)ft__allocate(c, rows, sizeof *scale);
    if (scale) ft_file_read_f32(file, scales, scale, rows);
    if (!in_place) copy = (unsigned char *)ft__allocate(c, (size_t)t->bytes, 1);
    if (copy) ft_file_read(file, index, copy, (size_t)t->bytes);
    if (copy && turn) copy = ft__turned(c, copy, t);
    if (copy && ft__type_bytes[t->type] == 2 && !ft__host_is_little_endian())
        ft__swap_bytes(copy, (size_t)t->bytes);
    if (!ft__ok(c)) {
        ft__release(c, copy);
        ft__release(c, scale);
        return c->status;
    }
    ft__release_value(c, node);
    if (in_place) {
        node->mapping = holder->mapping;
        node->mapping->users += 1;
    }
    if (t->type == FT_F32) node->value = (float *)(void *)(uintptr_t)at;
    else {
        node->stored.at = in_place ? (const void *)at : copy;
        node->stored.type = t->type;
        node->stored.columns = ft__shape_count(&t->shape) / rows; /* of the weight in memory */
        node->stored.scale = scale;
    }
    m->version += 1;
    return c->status;
}

/* Reads a weight into the memory that it has, or as it is in the file. */
static ft_status ft__load_value(ft_model *m, ft_file *file, int index, ft__node *node,
                                bool keep_types)
{
    ft_type type = ft__value_type(node);
    if (keep_types && ft__keeps_type(m, file, index, node))
        return ft__load_stored(m, file, index, node);
    if (ft__own_float32(m, node, false) == FT_OK) ft__read_into(m, file, index, node);
    return ft__store(m, node, type);
}

/* What does not fit: weights without a tensor, and the other way round. The last two are allowed by
   the network that the file was recognised as. */
typedef struct ft__misfits { ft__list missing, unexpected, mismatched, added, unused; } ft__misfits;

static void ft__load_one(ft_model *m, ft_file *file, int index, ft_weights_options options,
                         ft__misfits *lists)
{
    ft_tensor_info info = ft_file_tensor(file, index);
    ft_shape shape;
    char name[512], detail[176], has[80], wants[80];
    ft__node *node = ft__node_for(m, file, index, options.rename);
    if (!node) {
        ft__renamed(options.rename, ft__shown_name(file, index), name, sizeof name);
        if (!ft__is_counter(name) && !ft__is_count(name) && !ft__is_scale(file, index))
            ft__list_add(ft__glob(file->may_hold, name) ? &lists->unused : &lists->unexpected, name,
                         ft__shape_text(&info.shape, has));
        return;
    }
    if (ft__is_other_grid(&info, node) && !ft__same_sizes(&info.shape, &node->shape)
        && !node->loaded) {
        if (ft__own_float32(m, node, false) == FT_OK) ft__load_other_grid(file, index, node);
        node->loaded = ft__ok(&m->context);
        return;
    }
    shape = ft__shape_in_file(node, info.type);
    if (!ft__same_sizes(&info.shape, &shape)) {
        snprintf(detail, sizeof detail, "%s instead of %s",
                 info.type == FT_OTHER ? info.type_name : ft__shape_text(&info.shape, has),
                 ft__shape_text(&shape, wants));
        ft__list_add(&lists->mismatched, node->name, detail);
        return;
    }
    if (node->loaded)
        ft__fail(&m->context, FT_MISMATCH, "%s: two tensors of the file have this name",
                 node->name);
    if (ft__load_value(m, file, index, node, options.keep_types) == FT_OK) node->loaded = true;
}

/* If `name` is the end of a longer name, after a dot, returns the length up to and with that dot;
   else 0. */
static size_t ft__before_end(const char *longer, const char *name)
{
    size_t a = strlen(longer), b = strlen(name);
    return a > b + 1 && longer[a - b - 1] == '.' && strcmp(longer + a - b, name) == 0 ? a - b : 0;
}

/* If the file has a weight's name after another prefix, suggests the rule that would match it. */
static const char *ft__suggest_rename(const ft_model *m, const ft_file *file, char text[400])
{
    int i, k;
    text[0] = 0;
    for (k = 0; k < m->node_count; ++k)
        if (ft__is_weight(&m->nodes[k]) && !ft__is_constant(&m->nodes[k]) && !m->nodes[k].loaded)
            break;
    for (i = 0; k < m->node_count && i < file->count; ++i) {
        const char *has = file->tensors[i].name, *wants = m->nodes[k].name;
        size_t more = ft__before_end(has, wants), less = ft__before_end(wants, has);
        if (!more && !less) continue;
        snprintf(text, 400, "; the file has %.100s as %.100s: rename \"%.*s=%.*s\" would match it",
                 wants, has, (int)(more > 60 ? 60 : more), has, (int)(less > 60 ? 60 : less),
                 wants);
        break;
    }
    return text;
}

static void ft__log_allowed(const ft__context *c, const char *path, const char *what,
                            const ft__list *list)
{
    if (list->count > 0 && ft__ok(c))
        ft__log(c, "%s: %d %s: %s%s", path, list->count, what, list->text,
                list->count > 8 ? ", ..." : "");
}

/* Fails for what does not fit and is not allowed; says the rest. */
static ft_status ft__check_misfits(ft_model *m, ft_file *file, const char *path,
                                   const ft_weights_options *o, const ft__misfits *lists)
{
    ft__context *c = &m->context;
    char suggested[400];
    if (lists->mismatched.count && !o->allow_mismatched)
        return ft__fail(c, FT_MISMATCH, "%s: %d tensors have another shape than in the network:"
                        " %s%s", path, lists->mismatched.count, lists->mismatched.text,
                        lists->mismatched.count > 8 ? ", ..." : "");
    if (lists->missing.count - (o->allow_mismatched ? lists->mismatched.count : 0) > 0
        && !o->allow_missing)
        return ft__fail(c, FT_MISMATCH, "%s: %d tensors of the network are missing: %s%s%s", path,
                        lists->missing.count, lists->missing.text,
                        lists->missing.count > 8 ? ", ..." : "",
                        ft__suggest_rename(m, file, suggested));
    if (lists->unexpected.count && !o->allow_unexpected)
        return ft__fail(c, FT_MISMATCH, "%s: %d tensors are not in the network: %s%s", path,
                        lists->unexpected.count, lists->unexpected.text,
                        lists->unexpected.count > 8 ? ", ..." : "");
    ft__log_allowed(c, path, "tensors of another shape are skipped, which is allowed",
                    &lists->mismatched);
    ft__log_allowed(c, path, "tensors of the network are missing, which is allowed",
                    &lists->missing);
    ft__log_allowed(c, path, "tensors are not in the network, which is allowed",
                    &lists->unexpected);
    ft__log_allowed(c, path, "tensors of the network are new, and must be trained", &lists->added);
    ft__log_allowed(c, path, "tensors have no use in the network", &lists->unused);
    return c->status;
}

/* Reads all weights of an opened file; `path` is for messages. */
static ft_status ft__load_weights(ft_model *m, ft_file *file, const char *path,
                                  ft_weights_options options)
{
    ft__context *c = &m->context;
    ft__misfits lists;
    char wants[80], *tied;
    int i;
    memset(&lists, 0, sizeof lists);
    ft__host_takes_weights(c, true);
    if (options.keep_types && c->device)
        ft__log(c, "%s: keep_types has no effect on a device: its weights are float32", path);
    for (i = 0; i < m->node_count; ++i) m->nodes[i].loaded = false;
    ft__choose_prefix(m, file, options.rename);
    tied = (char *)ft__allocate(c, (size_t)file->count + 1, 1);
    if (tied) ft__mark_tied(m, file, options.rename, tied);
    for (i = 0; i < ft_file_count(file) && ft__ok(c); ++i)
        if (!tied[i]) ft__load_one(m, file, i, options, &lists);
    ft__release(c, tied);
    for (i = 0; i < m->node_count; ++i) {
        const ft__node *node = &m->nodes[i];
        if (ft__is_weight(node) && !ft__is_constant(node) && !node->loaded)
            ft__list_add(ft__glob(file->may_lack, node->name) ? &lists.added : &lists.missing,
                         node->name, ft__shape_text(&node->shape, wants));
    }
    m->weights_version += 1;
    return ft__check_misfits(m, file, path, &options, &lists);
}
