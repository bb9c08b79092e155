#pragma once
#include "interface/types.h"
#include "platform/context.h"
#include "nodes/nodes.h"
#include "nodes/names.h"
#include "nodes/sharing.h"
#include "operators/table.h"
#include "operators/rows.h"
#include "graph/plan.h"
#include "graph/settings.h"

/* =============================================================================================
   [SECTION] graph/surgery: Graph: replacing and removing nodes
   Ids and names stay; m->order is sorted again, so that each node comes after its inputs.
   ============================================================================================= */
/* Removes a node that nothing reads, and then those of its leaves that nothing else reads. */
static void ft__remove_unread(ft_model *m, int id)
{
    ft__node *node = &m->nodes[id - 1];
    int *inputs = node->inputs, count = node->input_count, i, j;
    for (i = 0; i < m->node_count; ++i)
        for (j = 0; j < m->nodes[i].input_count; ++j)
            if (m->nodes[i].inputs[j] == id) return;
    node->inputs = NULL; /* still needed after the node is released */
    ft__unlist_node(m, id);
    ft__release_node(&m->context, node);
    for (i = 0; i < count; ++i)
        if (ft__is_any(&m->nodes[inputs[i] - 1]) && ft__is_leaf(&m->nodes[inputs[i] - 1]))
            ft__remove_unread(m, inputs[i]);
    ft__release(&m->context, inputs);
}

enum { FT__COPIED_INPUTS = 16 };

/* Whether a network can hold a node like this one once more. */
static bool ft__can_copy(const ft__node *node)
{
    return !ft__is_state(node) && !ft__is(node, FT__CALLBACKS)
        && node->input_count <= FT__COPIED_INPUTS;
}

/* After an error removes the nodes that were added: half a network is useless. */
static void ft__remove_last_nodes(ft_model *m, int count)
{
    for (; m->node_count > count; m->node_count -= 1) {
        ft__unlist_node(m, m->node_count);
        ft__release_node(&m->context, &m->nodes[m->node_count - 1]);
    }
    m->version += 1;
}

/* Removes, of the marked nodes, what nothing reads any more, from the end of the network on: the
   leaves too, but not the output, the loss, and what the user asked for. */
static void ft__remove_marked(ft_model *m, const char *marked)
{
    int at;
    for (at = m->node_count - 1; at >= 0; --at) {
        const ft__node *node = &m->nodes[m->order[at] - 1];
        if (marked[m->order[at] - 1] && !ft__stays(m, m->order[at]) && !node->want_gradient
            && ft__is_any(node)) ft__remove_unread(m, m->order[at]);
    }
    m->last_run = NULL;
    m->version += 1;
    m->weights_version += 1;
}

/* Sorts the order of execution, in which as much as possible stays as it was. `done`: zeros. */
static void ft__sort_execution(ft_model *m, int *sorted, char *done)
{
    int count = 0, at, i;
    while (count < m->node_count)
        for (at = 0; at < m->node_count; ++at) {
            const ft__node *node = &m->nodes[m->order[at] - 1];
            bool ready = !done[m->order[at] - 1];
            for (i = 0; ready && i < node->input_count; ++i) ready = done[node->inputs[i] - 1];
            if (!ready) continue;
            done[m->order[at] - 1] = 1;
            sorted[count++] = m->order[at];
        }
    memcpy(m->order, sorted, (size_t)count * sizeof *sorted);
}

/* The same for a network whose inputs were changed in place. */
static bool ft__sort_nodes(ft_model *m)
{
    ft__context *c = &m->context;
    int *sorted = (int *)ft__allocate(c, (size_t)m->node_count + 1, sizeof *sorted);
    char *done = (char *)ft__allocate(c, (size_t)m->node_count + 1, 1);
    if (ft__ok(c)) ft__sort_execution(m, sorted, done);
    ft__release(c, done);
    ft__release(c, sorted);
    return ft__ok(c);
}

typedef struct ft__rewiring {
    char *kept;             /* [nodes]: what goes on reading the old node: all that the new one is
                               computed from */
    char *done;
    int *readers;           /* [inputs of all nodes]: those that were changed, to undo it: the id */
    int *places;            /* and the number of the input */
    int *order, *sorted;    /* [nodes] */
    ft_shape *shapes;
    int count;
} ft__rewiring;

static void ft__rewiring_free(ft__context *c, ft__rewiring *r)
{
    ft__release(c, r->shapes);
    ft__release(c, r->sorted);
    ft__release(c, r->order);
    ft__release(c, r->places);
    ft__release(c, r->readers);
    ft__release(c, r->done);
    ft__release(c, r->kept);
}

static bool ft__rewiring_make(ft_model *m, ft__rewiring *r)
{
    ft__context *c = &m->context;
    size_t nodes = (size_t)m->node_count + 1, inputs = 1;
    int i;
    memset(r, 0, sizeof *r);
    for (i = 0; i < m->node_count; ++i) inputs += (size_t)m->nodes[i].input_count;
    r->kept = (char *)ft__allocate(c, nodes, 1);
    r->done = (char *)ft__allocate(c, nodes, 1);
    r->readers = (int *)ft__allocate(c, inputs, sizeof(int));
    r->places = (int *)ft__allocate(c, inputs, sizeof(int));
    r->order = (int *)ft__allocate(c, nodes, sizeof(int));
    r->sorted = (int *)ft__allocate(c, nodes, sizeof(int));
    r->shapes = (ft_shape *)ft__allocate(c, nodes, sizeof *r->shapes);
    for (i = 0; ft__ok(c) && i < m->node_count; ++i) r->shapes[i] = m->nodes[i].shape;
    if (ft__ok(c)) memcpy(r->order, m->order, (size_t)m->node_count * sizeof(int));
    return ft__ok(c);
}

/* Makes the readers of one node read another; undone if the shapes do not fit. */
static ft_status ft__rewire(ft_model *m, ft__rewiring *r, int from, int to)
{
    int i, j;
    ft__mark_needed(m, to, 1, r->kept);
    for (i = 0; i < m->node_count; ++i)
        for (j = 0; !r->kept[i] && j < m->nodes[i].input_count; ++j) {
            if (m->nodes[i].inputs[j] != from) continue;
            m->nodes[i].inputs[j] = to;
            r->readers[r->count] = i;
            r->places[r->count++] = j;
        }
    if (!r->count && from != m->output.id && from != m->loss.id && from != m->text_vector.id)
        return ft__fail(&m->context, FT_INVALID, "ft_replace: nothing reads %s but what %s is"
                        " computed from", m->nodes[from - 1].name, m->nodes[to - 1].name);
    ft__sort_execution(m, r->sorted, r->done);
    if (ft__infer_all(m) == FT_OK) return FT_OK;
    for (i = 0; i < r->count; ++i) m->nodes[r->readers[i]].inputs[r->places[i]] = from;
    for (i = 0; i < m->node_count; ++i) m->nodes[i].shape = r->shapes[i];
    memcpy(m->order, r->order, (size_t)m->node_count * sizeof(int));
    return m->context.status;
}

/* As ft_replace, but the network keeps the name of its architecture. */
static ft_status ft__replace(ft_model *m, ft_node old, ft_node replacement)
{
    const ft__extent two = {2, 2};
    ft__rewiring r;
    int classes;
    if (!FT__HAS(m, SURGERY) || !ft__check_node(m, old, "ft_replace")
        || !ft__check_node(m, replacement, "ft_replace")
        || ft__refuse_any_shared(m, "ft_replace") != FT_OK) return ft__status_of(m);
    if (old.id == replacement.id)
        return ft__fail(&m->context, FT_INVALID, "ft_replace: %s cannot replace itself",
                        m->nodes[old.id - 1].name);
    if (old.id == m->loss.id
        && ft__node_count_at(&m->nodes[replacement.id - 1], two) != 1)
        return ft__fail(&m->context, FT_SHAPE, "%s: a loss must be one number",
                        m->nodes[replacement.id - 1].name);
    if ((old.id == m->output.id || old.id == m->loss.id)
        && !ft__check_computed(m, replacement, "ft_replace")) return ft__status_of(m);
    classes = ft_class_count(m);
    if (ft__rewiring_make(m, &r) && ft__rewire(m, &r, old.id, replacement.id) == FT_OK) {
        if (old.id == m->output.id) m->output = replacement;
        if (old.id == m->loss.id) m->loss = replacement;
        if (old.id == m->text_vector.id) m->text_vector = replacement;
        if (classes != ft_class_count(m)) ft__release_class_names(m);
        memset(r.kept, 0, (size_t)m->node_count);
        ft__mark_needed(m, old.id, 1, r.kept);
        ft__remove_marked(m, r.kept);
    }
    ft__rewiring_free(&m->context, &r);
    return m->context.status;
}

ft_status ft_replace(ft_model *m, ft_node old, ft_node replacement)
{
    if (ft__replace(m, old, replacement) != FT_OK) return ft__status_of(m);
    return ft__set_architecture(m, "");
}

ft_status ft_cut(ft_model *m, ft_node output)
{
    char *marked;
    if (!FT__HAS(m, SURGERY) || !ft__check_computed(m, output, "ft_cut")
        || ft__refuse_any_shared(m, "ft_cut") != FT_OK) return ft__status_of(m);
    marked = (char *)ft__allocate(&m->context, (size_t)m->node_count, 1);
    if (!marked) return m->context.status;
    ft__mark_needed(m, m->output.id, 1, marked);
    ft__mark_needed(m, m->loss.id, 1, marked);
    m->output = output;
    m->loss.id = 0;
    ft__release_class_names(m);
    ft__remove_marked(m, marked);
    ft__release(&m->context, marked);
    return ft__set_architecture(m, "");
}
