#pragma once
#include "interface/types.h"
#include "interface/training_types.h"
#include "platform/context.h"
#include "basics/numbers.h"
#include "basics/strings.h"
#include "nodes/nodes.h"
#include "operators/table.h"
#include "operators/adding.h"
#include "graph/plan.h"

/* =============================================================================================
   [SECTION] graph/groups: Graph: groups of parameters with rates of their own
   ============================================================================================= */
static ft_status ft__check_group(ft_model *m, const ft_parameter_group *g)
{
    ft__context *c = &m->context;
    const ft__field_use uses[] = {
        {"rate_factor", g->rate_factor != 0, !g->frozen, "a group that is not frozen"},
        {"weight_decay", g->weight_decay != 0, !g->frozen && !g->no_decay,
         "a group that is not frozen, without no_decay"},
        {"no_decay", g->no_decay, !g->frozen, "a group that is not frozen"}};
    if (!ft__given(c, g->glob, "ft_set_groups: glob")) return c->status;
    if (!ft__not_negative(g->rate_factor) || !ft__not_negative(g->weight_decay))
        return ft__fail(c, FT_INVALID, "ft_set_groups: %.100s: rate_factor %g, weight_decay %g:"
                        " each must be finite and not negative", g->glob, (double)g->rate_factor,
                        (double)g->weight_decay);
    return ft__check_uses(c, "ft_set_groups", uses, sizeof uses / sizeof uses[0]);
}

static void ft__set_group(ft_model *m, const ft_parameter_group *g)
{
    int i;
    ft__say_unmatched(m, "ft_set_groups", g->glob, ft__is_parameter);
    ft__set_frozen(m, g->glob, g->frozen);
    for (i = 0; ft__ok(&m->context) && i < m->node_count; ++i) {
        ft__node *node = &m->nodes[i];
        if (!ft__is_parameter(node) || !ft__glob(g->glob, node->name)) continue;
        node->learning_rate_factor = g->rate_factor == 0 ? 1 : g->rate_factor;
        node->weight_decay = g->no_decay ? 0 : g->weight_decay > 0 ? g->weight_decay : -1;
    }
}

int ft_set_groups(ft_model *m, const ft_parameter_group *groups, int count)
{
    int i, g, in_one = 0;
    if (!FT__HAS(m, TRAINING) || !ft__usable(m)) return 0;
    if (count < 0 || (count > 0 && !groups))
        ft__fail(&m->context, FT_INVALID, "ft_set_groups: %d groups%s", count,
                 count < 0 ? ": at least 0 are expected" : ", but groups is NULL");
    for (g = 0; ft__ok(&m->context) && g < count; ++g) ft__check_group(m, &groups[g]);
    for (g = 0; ft__ok(&m->context) && g < count; ++g) ft__set_group(m, &groups[g]);
    for (i = 0; ft__ok(&m->context) && i < m->node_count; ++i) {
        for (g = 0; g < count && !ft__glob(groups[g].glob, m->nodes[i].name); ++g) {}
        in_one += ft__is_parameter(&m->nodes[i]) && g < count;
    }
    return in_one;
}

/* ---- Layers ---- */

/* The letters up to the number in a name such as "encoder.layer.3.norm1.weight" or
   "encoder_layer_3.ln_1.bias": the first number that ends a part; 0: there is none. */
static size_t ft__numbered_part(const char *name)
{
    const char *end = name, *at;
    for (; *end; ++end) {
        if (*end != '.' || end == name || end[-1] < '0' || end[-1] > '9') continue;
        for (at = end; at > name && at[-1] >= '0' && at[-1] <= '9'; --at) {}
        if (at == name || at[-1] == '.' || at[-1] == '_') return (size_t)(end - name);
    }
    return 0;
}

/* The letters of a parameter's name that name its layer; 0: no layer. `numbered`: only layers with
   a number are. */
static size_t ft__layer_part(const ft__node *node, bool numbered)
{
    const char *last = strrchr(node->name, '.');
    if (!ft__is_parameter(node)) return 0;
    return numbered ? ft__numbered_part(node->name)
        : last ? (size_t)(last - node->name) : strlen(node->name);
}

/* The layer of the parameter at each place of the order, from 0, -1: it has none; returns how many
   layers there are. `first` [node_count] gets the place of each layer's first parameter. */
static int ft__find_layers(const ft_model *m, bool numbered, int *first, int *layer)
{
    int count = 0, at;
    for (at = 0; at < m->node_count; ++at) {
        const ft__node *node = &m->nodes[m->order[at] - 1];
        size_t part = ft__layer_part(node, numbered);
        layer[at] = -1;
        if (part == 0) continue;
        for (layer[at] = 0; layer[at] < count; ++layer[at]) {
            const ft__node *other = &m->nodes[m->order[first[layer[at]]] - 1];
            if (ft__layer_part(other, numbered) == part
                && memcmp(other->name, node->name, part) == 0) break;
        }
        if (layer[at] == count) first[count++] = at;
    }
    return count;
}

/* Freezes all below the last of the layers that have a number, such as "layer4.1.". */
static ft_status ft__freeze_to_last_block(ft_model *m)
{
    int *first = (int *)ft__allocate(&m->context, (size_t)m->node_count + 1, sizeof *first);
    int *layer = (int *)ft__allocate(&m->context, (size_t)m->node_count + 1, sizeof *layer);
    int layers = first && layer ? ft__find_layers(m, true, first, layer) : 0, at;
    if (ft__ok(&m->context) && layers < 2)
        ft__fail(&m->context, FT_INVALID, "last_block: the parameters' names number no layers");
    for (at = 0; ft__ok(&m->context) && at < m->node_count; ++at) {
        ft__node *node = &m->nodes[m->order[at] - 1];
        bool after = at >= first[layers - 1] && (layer[at] < 0 || layer[at] == layers - 1);
        if (ft__is_parameter(node)) node->frozen = !after;
    }
    if (ft__ok(&m->context)) ft__freeze_first_dropouts(m);
    ft__release(&m->context, first);
    ft__release(&m->context, layer);
    return m->context.status;
}

int ft_decay_layers(ft_model *m, float factor)
{
    int *first, *layer, layers = 0, at;
    bool begun = false, numbered;
    if (!FT__HAS(m, TRAINING) || !ft__usable(m)) return 0;
    if (!ft__not_negative(factor)) {
        ft__fail(&m->context, FT_INVALID, "ft_decay_layers: factor is %g; it must be finite and not"
                 " negative", (double)factor);
        return 0;
    }
    first = (int *)ft__allocate(&m->context, (size_t)m->node_count + 1, sizeof *first);
    layer = (int *)ft__allocate(&m->context, (size_t)m->node_count + 1, sizeof *layer);
    if (first && layer) layers = ft__find_layers(m, true, first, layer);
    numbered = layers > 0;
    if (first && layer && !numbered) { /* then the last layer is the head */
        layers = ft__find_layers(m, false, first, layer) - 1;
        if (layers < 0) layers = 0;
    }
    for (at = 0; first && layer && at < m->node_count; ++at) {
        ft__node *node = &m->nodes[m->order[at] - 1];
        if (!ft__is_parameter(node)) continue;
        begun = begun || layer[at] >= 0;
        if (layer[at] < 0) layer[at] = begun ? layers : -1;
        node->learning_rate_factor = (float)ft__power((double)factor,
                                                      (uint64_t)(layers - layer[at]));
    }
    ft__release(&m->context, first);
    ft__release(&m->context, layer);
    return layers;
}
