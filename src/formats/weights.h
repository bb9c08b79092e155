#pragma once
#include "interface/types.h"
#include "platform/context.h"
#include "basics/strings.h"
#include "basics/sorting.h"
#include "nodes/nodes.h"
#include "nodes/names.h"
#include "operators/table.h"
#include "devices/opencl_memory.h"
#include "graph/plan.h"
#include "formats/safetensors.h"
#include "formats/tensor_files.h"

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

static bool ft__same_sizes(const ft_shape *a, const ft_shape *b)
{
    int d;
    if (a->rank != b->rank) return false;
    for (d = 0; d < a->rank; ++d)
        if (a->size[d] != b->size[d]) return false;
    return true;
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

static void ft__load_one(ft_model *m, ft_file *file, int index, ft_weights_options options,
                         ft__list *unexpected, ft__list *mismatched)
{
    ft_tensor_info info = ft_file_tensor(file, index);
    char name[512], detail[176], has[80], wants[80];
    ft__node *node = ft__node_for(m, file, index, options.rename);
    if (!node) {
        ft__renamed(options.rename, ft__shown_name(file, index), name, sizeof name);
        if (!ft__is_counter(name) && !ft__is_count(name))
            ft__list_add(unexpected, name, ft__shape_text(&info.shape, has));
        return;
    }
    if (!ft__same_sizes(&info.shape, &node->shape)) {
        snprintf(detail, sizeof detail, "%s instead of %s", ft__shape_text(&info.shape, has),
                 ft__shape_text(&node->shape, wants));
        ft__list_add(mismatched, node->name, detail);
        return;
    }
    if (node->loaded)
        ft__fail(&m->context, FT_MISMATCH, "%s: two tensors of the file have this name",
                 node->name);
    if (ft_file_read_f32(file, index, node->value, ft__node_count_at(node, ft__one)) == FT_OK)
        node->loaded = true;
}

/* If `name` is the end of a longer name, after a dot, returns the length before that dot; else 0.
   */
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
        if (ft__is_weight(&m->nodes[k]) && !m->nodes[k].loaded) break;
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
        ft__log(c, "%s: %d %s, which is allowed: %s%s", path, list->count, what, list->text,
                list->count > 8 ? ", ..." : "");
}

/* Reads all weights of an opened file; `path` is for messages. */
static ft_status ft__load_weights(ft_model *m, ft_file *file, const char *path,
                                  ft_weights_options options)
{
    ft__context *c = &m->context;
    ft__list missing, unexpected, mismatched;
    char wants[80], suggested[400], *tied;
    int i;
    memset(&missing, 0, sizeof missing);
    memset(&unexpected, 0, sizeof unexpected);
    memset(&mismatched, 0, sizeof mismatched);
    ft__host_takes_weights(c, true);
    for (i = 0; i < m->node_count; ++i) m->nodes[i].loaded = false;
    ft__choose_prefix(m, file, options.rename);
    tied = (char *)ft__allocate(c, (size_t)file->count + 1, 1);
    if (tied) ft__mark_tied(m, file, options.rename, tied);
    for (i = 0; i < ft_file_count(file) && ft__ok(c); ++i)
        if (!tied[i]) ft__load_one(m, file, i, options, &unexpected, &mismatched);
    ft__release(c, tied);
    for (i = 0; i < m->node_count; ++i) {
        const ft__node *node = &m->nodes[i];
        if (ft__is_weight(node) && !node->loaded)
            ft__list_add(&missing, node->name, ft__shape_text(&node->shape, wants));
    }
    m->weights_version += 1;
    if (mismatched.count && !options.allow_mismatched)
        return ft__fail(c, FT_MISMATCH, "%s: %d tensors have another shape than in the network:"
                        " %s%s", path, mismatched.count, mismatched.text,
                        mismatched.count > 8 ? ", ..." : "");
    if (missing.count - (options.allow_mismatched ? mismatched.count : 0) > 0
        && !options.allow_missing)
        return ft__fail(c, FT_MISMATCH, "%s: %d tensors of the network are missing: %s%s%s", path,
                        missing.count, missing.text, missing.count > 8 ? ", ..." : "",
                        ft__suggest_rename(m, file, suggested));
    if (unexpected.count && !options.allow_unexpected)
        return ft__fail(c, FT_MISMATCH, "%s: %d tensors are not in the network: %s%s", path,
                        unexpected.count, unexpected.text, unexpected.count > 8 ? ", ..." : "");
    ft__log_allowed(c, path, "tensors of another shape are skipped", &mismatched);
    ft__log_allowed(c, path, "tensors of the network are missing", &missing);
    ft__log_allowed(c, path, "tensors are not in the network", &unexpected);
    return c->status;
}
