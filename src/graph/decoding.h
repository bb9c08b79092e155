#pragma once
#include "interface/types.h"
#include "platform/context.h"
#include "basics/numbers.h"
#include "nodes/nodes.h"
#include "operators/table.h"
#include "operators/rows.h"
#include "graph/plan.h"
#include "graph/calls.h"
#include "graph/forward_backward.h"

/* =============================================================================================
   [SECTION] graph/decoding: Graph: runs that continue texts
   A network in which step t of the output follows from steps 0 to t of the input need not see the
   first ones again: attention keeps their keys and values, and rotary and learned positions count
   on. Each sample of the batch has its own number of steps so far. All other operators work at each
   step alone, FT__BY_STEP; with any other the whole text must be run again.
   ============================================================================================= */

/* Whether FT_LENGTH is the node's dimension 1, or none. */
static bool ft__is_by_step(const ft__node *node)
{
    int d;
    for (d = 0; d < node->shape.rank; ++d)
        if (node->shape.size[d] == FT_LENGTH && d != 1) return false;
    return true;
}

/* Whether this node works step after step as well as on all steps at once. */
static bool ft__decodes(const ft_model *m, const ft__node *node)
{
    int i;
    bool steps = ft__has_length(node);
    for (i = 0; i < node->input_count; ++i) {
        const ft__node *input = &m->nodes[node->inputs[i] - 1];
        steps = steps || ft__has_length(input);
        if (!ft__is_by_step(input)) return false;
    }
    if (!steps || ft__is_leaf(node)) return true;
    if (!ft__is_by_step(node) || !ft__is(node, FT__BY_STEP)) return false;
    if (!ft__is(node, FT__AFTER_PAST)) return true;
    for (i = 0; i < node->input_count; ++i) /* positions or lengths: they would be of all steps */
        if (m->nodes[node->inputs[i] - 1].type == FT_I32) return false;
    return !ft__is(node, FT__ATTENDS)
        || (node->options.attention.causal
            && ft__has_length(&m->nodes[node->inputs[node->input_count > 1] - 1])); /* the keys */
}

/* Whether the output depends on a node. */
static void ft__mark_read(const ft_model *m, char *read)
{
    int at, i;
    for (at = m->node_count - 1; at >= 0; --at) {
        const ft__node *node = &m->nodes[m->order[at] - 1];
        for (i = 0; read[m->order[at] - 1] && i < node->input_count; ++i)
            read[node->inputs[i] - 1] = 1;
    }
}

/* Whether the output can be computed step after step, by operators that keep what they need. */
static bool ft__can_decode(ft_model *m)
{
    char *read = (char *)ft__allocate(&m->context, (size_t)m->node_count + 1, 1);
    bool can = read != NULL, any = false;
    int i;
    if (read && m->output.id) {
        read[m->output.id - 1] = 1;
        ft__mark_read(m, read);
    }
    for (i = 0; can && i < m->node_count; ++i) {
        if (!read[i]) continue;
        can = ft__decodes(m, &m->nodes[i]);
        any = any || ft__is(&m->nodes[i], FT__AFTER_PAST);
    }
    ft__release(&m->context, read);
    return can && any;
}

/* The most steps that the tables of positions have room for; 0: no limit. */
static int ft__most_steps(const ft_model *m)
{
    int most = 0, i;
    for (i = 0; i < m->node_count; ++i) {
        const ft__node *node = &m->nodes[i];
        int rows;
        if (!ft__is(node, FT__AFTER_PAST) || !ft__is(node, FT__WEIGHTS)) continue;
        rows = m->nodes[node->inputs[1] - 1].shape.size[0] - node->options.add_positions.first;
        if (most == 0 || rows < most) most = rows;
    }
    return most;
}

static void ft__decoding_free(ft_model *m, ft__decoding *d)
{
    int i;
    for (i = m->node_count - 1; d->kept && i >= 0; --i) ft__release(&m->context, d->kept[i]);
    ft__release(&m->context, d->workspace);
    ft__release(&m->context, d->kept);
    ft__release(&m->context, d->past);
    memset(d, 0, sizeof *d);
}

/* Memory for the steps of some texts; all released again if there is an error. */
static ft_status ft__decoding_make(ft_model *m, ft__decoding *d, int rows, int room)
{
    ft__context *c = &m->context;
    const ft__extent one = {rows, 1};
    size_t most = 0;
    int i;
    memset(d, 0, sizeof *d);
    d->rows = rows;
    d->room = room;
    d->past = (int *)ft__allocate(c, (size_t)rows, sizeof *d->past);
    d->kept = (float **)ft__allocate(c, (size_t)m->node_count, sizeof *d->kept);
    m->decoding = d;
    for (i = 0; ft__ok(c) && i < m->node_count; ++i) {
        ft__costs costs;
        if (!ft__is(&m->nodes[i], FT__AFTER_PAST)) continue;
        costs = ft__costs_of(m, &m->nodes[i], one, false);
        if (costs.kept) d->kept[i] = (float *)ft__allocate(c, costs.kept, 1);
        most = ft__max_size(most, costs.workspace);
    }
    m->decoding = NULL;
    if (most && ft__ok(c)) d->workspace = (float *)ft__allocate(c, most, 1);
    if (!ft__ok(c)) ft__decoding_free(m, d);
    return c->status;
}

/* Less work in a step than this is done by one thread: starting the others takes longer. */
#define FT__SMALL_STEP ((uint64_t)4 << 20)

/* Runs the output's steps for the next `m->length` tokens of each text. */
static void ft__run_decoding(ft_model *m, ft__plan *plan, ft__decoding *d, uint64_t multiply_adds)
{
    ft__context *c = &m->context;
    ft__pool *pool = c->pool;
    int threads = c->threads;
    bool alone = multiply_adds * (uint64_t)m->length * (uint64_t)d->rows < FT__SMALL_STEP
        && !c->desc.parallel_for;
    if (alone) { /* the same bits, in memory that was planned for more threads */
        c->pool = NULL;
        c->threads = 1;
    }
    m->decoding = d;
    ft__run_forward(m, plan, 0, plan->step_count, d->rows, FT__ONLY_OUTPUT);
    m->decoding = NULL;
    c->pool = pool;
    c->threads = threads;
}
