#pragma once
#include "interface/types.h"
#include "platform/context.h"
#include "basics/strings.h"
#include "nodes/nodes.h"
#include "nodes/names.h"
#include "devices/opencl_memory.h"
#include "graph/plan.h"
#include "formats/tensor_files.h"

/* =============================================================================================
   [SECTION] formats/weights: Loading weights by name
   A weight is loaded when the file has a tensor of its name and shape. Everything else is listed:
   silence here is how half-loaded networks come about.
   ============================================================================================= */

/* "from=to,from=to" applied to the leading part of a file's name, the first rule that fits. */
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

/* Rules that no name in the file fits, or that have no "=": they may be meant for other files too,
   so it is no error, but it is said. */
static void ft__say_unused_rules(ft_file *file, const char *rules)
{
    while (rules && *rules) {
        const char *end = strchr(rules, ','), *equals;
        size_t from;
        int i;
        if (!end) end = rules + strlen(rules);
        equals = (const char *)memchr(rules, '=', (size_t)(end - rules));
        from = (size_t)((equals ? equals : end) - rules);
        for (i = 0; equals && i < file->count; ++i)
            if (strncmp(file->tensors[i].name, rules, from) == 0) break;
        if (!equals || i == file->count)
            ft__log(file->context, "%s: rename %.*s: no name in it begins with \"%.*s\"%s%.100s",
                    file->path, (int)(end - rules), rules, (int)from, rules,
                    file->count ? "; the first is " : "", file->count ? file->tensors[0].name : "");
        rules = *end ? end + 1 : end;
    }
}

/* Collects up to so many offenders for one line of error. */
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

/* PyTorch counts batches seen by a batch norm; with a set momentum nothing depends on it. */
static bool ft__is_counter(const char *name) { return ft__ends_with(name, "num_batches_tracked"); }

static void ft__load_one(ft_model *m, ft_file *file, int index, ft_weights_options options,
                         ft__list *unexpected, ft__list *mismatched)
{
    ft_tensor_info info = ft_file_tensor(file, index);
    char name[512], detail[176], has[80], wants[80];
    ft_node found;
    ft__node *node;
    ft__renamed(options.rename, info.name, name, sizeof name);
    found = ft__find_node(m, name);
    node = ft__get_node(m, found);
    if (!node || !ft__is_weight(node)) {
        if (!ft__is_counter(name))
            ft__list_add(unexpected, name, ft__shape_text(&info.shape, has));
        return;
    }
    if (!ft__same_sizes(&info.shape, &node->shape)) {
        snprintf(detail, sizeof detail, "%s instead of %s", ft__shape_text(&info.shape, has),
                 ft__shape_text(&node->shape, wants));
        ft__list_add(mismatched, name, detail);
        return;
    }
    if (node->loaded)
        ft__fail(&m->context, FT_MISMATCH, "%s: two tensors of the file go by this name", name);
    if (ft_file_read_f32(file, index, node->value, ft__node_count_at(node, ft__one)) == FT_OK)
        node->loaded = true;
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
    char wants[80];
    int i;
    memset(&missing, 0, sizeof missing);
    memset(&unexpected, 0, sizeof unexpected);
    memset(&mismatched, 0, sizeof mismatched);
    ft__host_takes_weights(c, true);
    for (i = 0; i < m->node_count; ++i) m->nodes[i].loaded = false;
    for (i = 0; i < ft_file_count(file) && ft__ok(c); ++i)
        ft__load_one(m, file, i, options, &unexpected, &mismatched);
    for (i = 0; i < m->node_count; ++i) {
        const ft__node *node = &m->nodes[i];
        if (ft__is_weight(node) && !node->loaded)
            ft__list_add(&missing, node->name, ft__shape_text(&node->shape, wants));
    }
    m->weights_version += 1;
    if (mismatched.count && !options.allow_mismatched)
        return ft__fail(c, FT_MISMATCH, "%s: %d tensors have another shape than the network's: %s"
                        "%s", path, mismatched.count, mismatched.text,
                        mismatched.count > 8 ? ", ..." : "");
    if (missing.count - (options.allow_mismatched ? mismatched.count : 0) > 0
        && !options.allow_missing)
        return ft__fail(c, FT_MISMATCH, "%s: lacks %d tensors of the network: %s%s", path,
                        missing.count, missing.text, missing.count > 8 ? ", ..." : "");
    if (unexpected.count && !options.allow_unexpected)
        return ft__fail(c, FT_MISMATCH, "%s: has %d tensors that the network lacks: %s%s", path,
                        unexpected.count, unexpected.text, unexpected.count > 8 ? ", ..." : "");
    ft__log_allowed(c, path, "tensors of another shape are left out", &mismatched);
    ft__log_allowed(c, path, "parameters are not in it", &missing);
    ft__log_allowed(c, path, "tensors are not in the network", &unexpected);
    return c->status;
}
