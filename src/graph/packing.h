#pragma once
#include "interface/types.h"
#include "interface/operators.h"
#include "platform/context.h"
#include "nodes/nodes.h"
#include "nodes/names.h"
#include "nodes/sharing.h"
#include "operators/table.h"
#include "operators/adding.h"
#include "operators/rows.h"
#include "graph/plan.h"
#include "graph/decoding.h"
#include "graph/surgery.h"

/* =============================================================================================
   [SECTION] graph/packing: Graph: several documents in a row
   What looks at the steps before, attention and positions, gets one more input: the place of each
   step in its document. All else works at each step alone, so that no step sees another document.
   ============================================================================================= */
static const char ft__places_name[] = "positions";

/* The input that ft_set_packed made, or NULL. */
static ft__node *ft__places_input(const ft_model *m)
{
    ft__node *node = ft__get_node(m, ft__find_node(m, ft__places_name));
    return node && ft__is_input(node) && node->type == FT_I32 && node->shape.rank == 2
        && ft__has_length(node) ? node : NULL;
}

/* Takes the input away from all that read it, and removes it. */
static ft_status ft__unpack(ft_model *m, int places)
{
    int i;
    for (i = 0; i < m->node_count; ++i) {
        ft__node *node = &m->nodes[i];
        if (node->input_count > 0 && node->inputs[node->input_count - 1] == places
            && ft__is(node, FT__AFTER_PAST)) node->input_count -= 1;
    }
    ft__remove_unread(m, places);
    m->last_run = NULL;
    m->version += 1;
    return m->context.status;
}

static ft_status ft__pack(ft_model *m)
{
    ft_input_options steps;
    ft_node places;
    int *grown, at, i;
    memset(&steps, 0, sizeof steps);
    steps.type = FT_I32;
    steps.size[0] = FT_LENGTH;
    places = ft_input(m, ft__places_name, steps);
    for (at = m->node_count - 1; at > 0 && places.id; --at) m->order[at] = m->order[at - 1];
    if (places.id) m->order[0] = places.id; /* all can read only what comes before them */
    for (i = 0; ft__ok(&m->context) && i < m->node_count; ++i) {
        ft__node *node = &m->nodes[i];
        size_t count = (size_t)node->input_count;
        if (!ft__is(node, FT__AFTER_PAST)) continue;
        grown = (int *)ft__grow(&m->context, node->inputs, count, count + 2, sizeof *grown);
        if (!grown) break;
        node->inputs = grown;
        node->inputs[node->input_count++] = places.id;
    }
    m->last_run = NULL;
    m->version += 1;
    if (ft__ok(&m->context)) ft__infer_all(m);
    return m->context.status;
}

ft_status ft_set_packed(ft_model *m, bool packed)
{
    ft__context *c;
    const ft__node *places, *output;
    if (!ft__usable(m) || !FT__HAS(m, ATTENTION)) return ft__status_of(m);
    c = &m->context;
    places = ft__places_input(m);
    if (packed == (places != NULL)) return c->status;
    if (ft__refuse_any_shared(m, "ft_set_packed") != FT_OK) return c->status;
    if (!packed) return ft__unpack(m, (int)(places - m->nodes) + 1);
    output = ft__get_node(m, m->output);
    if (!output || output->shape.rank != 3 || !ft__can_decode(m))
        return ft__fail(c, FT_INVALID, "ft_set_packed: the network must be a language model whose"
                        " steps follow from those before them by causal attention alone");
    return ft__pack(m);
}
