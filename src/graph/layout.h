#pragma once
#include "interface/requirements.h"
#include "interface/types.h"
#include "platform/context.h"
#include "kernels/transpose.h"
#include "nodes/nodes.h"
#include "operators/table.h"
#include "operators/common.h"
#include "operators/rows.h"
#include "devices/device.h"

/* =============================================================================================
   [SECTION] graph/layout: Graph: how values lie in memory
   Users feed and read pictures as [N, C, H, W]. In memory a value of rank 4 lies so, row by row, or
   channels-last, [N, H, W, C], which convolutions, norms and pools want. Each operator's row in the
   table says what it takes, and each value's layout is chosen here, once for a graph: it is that of
   the operator that makes it; an input has, and a copy such as reshape writes, what its readers
   want. A reader that wants the other layout reads a copy, which one step of the plan makes.
   Reshape and permute need not copy: where y's numbers lie in x's memory as y's readers take them,
   y is a view of x. Matrix products take most orders: so attention's heads are views, [N, L, H * D]
   -> reshape -> permute -> matmul. Layouts are stored in no file.
   ============================================================================================= */
static ft_shape ft__with_extent(ft_shape shape, ft__extent extent)
{
    int d;
    for (d = 0; d < shape.rank; ++d) {
        if (shape.size[d] == FT_BATCH) shape.size[d] = extent.batch;
        if (shape.size[d] == FT_LENGTH) shape.size[d] = extent.length;
    }
    return shape;
}

/* Whether there is a choice: of rank 4, more than one channel and more than one pixel. */
static bool ft__has_layouts(const ft__node *node)
{
    const ft_shape *x = &node->shape;
    return x->rank == 4 && node->type == FT_F32 && x->size[1] != 1
        && !(x->size[2] == 1 && x->size[3] == 1);
}

static bool ft__is_channels_last(const ft__node *node)
{
    return node->layout.channels_last && node->shape.rank == 4 && node->type == FT_F32;
}

/* The index in memory of number `i` of a sample, in the user's order. */
static size_t ft__place_in_sample(const ft__node *node, size_t i)
{
    ft__tensor t;
    memset(&t, 0, sizeof t);
    t.shape = ft__with_extent(node->shape, ft__one);
    t.channels_last = ft__is_channels_last(node);
    return ft__memory_place(&t, i);
}

/* Whether a node reads its input number `i` channels-last. */
static bool ft__reads_last(const ft_model *m, const ft__node *node, int i)
{
    const ft__node *from = &m->nodes[node->inputs[i] - 1];
    uint64_t flags = ft__rows[node->op]->flags;
    if (from->shape.rank != 4 || from->type != FT_F32) return false;
    if (flags & FT__REORDERS) return ft__is_channels_last(from);
    return flags & FT__CHANNELS_LAST ? i == 0
                                     : (flags & FT__ANY_LAYOUT) && node->layout.channels_last;
}

/* Whether it must read a copy of that input in the other layout. */
static bool ft__reads_copy(const ft_model *m, const ft__node *node, int i)
{
    const ft__node *from = &m->nodes[node->inputs[i] - 1];
    return ft__has_layouts(from) && ft__reads_last(m, node, i) != ft__is_channels_last(from);
}

/* Passes on to a node's inputs what it wants them to be: channels-last wins, if readers differ. */
static void ft__want_layouts(ft_model *m, const ft__node *node)
{
    uint64_t flags = ft__rows[node->op]->flags;
    int i;
    for (i = 0; i < node->input_count; ++i) {
        ft__layout *from = &m->nodes[node->inputs[i] - 1].layout;
        bool last = i == 0 && (flags & FT__CHANNELS_LAST);
        from->strided = from->strided && (flags & FT__STRIDED);
        if (flags & FT__REORDERS) continue;
        if ((flags & FT__ANY_LAYOUT) && !node->layout.decided) continue;
        if (flags & FT__ANY_LAYOUT) last = node->layout.channels_last;
        from->channels_last = from->channels_last || last;
        from->decided = true;
    }
}

/* The layout of an operator that takes any: that of the first input that has one; if there is none,
   what its readers want. Inputs of which nothing else was asked are fed in the same. */
static void ft__follow_layout(ft_model *m, ft__node *node)
{
    int i;
    bool found = false;
    for (i = 0; i < node->input_count && !found; ++i) {
        const ft__node *from = &m->nodes[node->inputs[i] - 1];
        found = ft__has_layouts(from) && !ft__is_weight(from)
            && !(ft__is_input(from) && !from->layout.decided);
        if (found) node->layout.channels_last = from->layout.channels_last;
    }
    for (i = 0; i < node->input_count; ++i) {
        ft__node *from = &m->nodes[node->inputs[i] - 1];
        if (!ft__is_input(from) || from->layout.decided) continue;
        from->layout.channels_last = node->layout.channels_last;
        from->layout.decided = true;
    }
}

static const int ft__in_order[FINETUNE_MAX_RANK] = {0, 1, 2, 3, 4, 5};

/* Whether two orders of a tensor's dimensions are one in memory: those of size 1 do not count. */
static bool ft__same_order(const ft_shape *shape, const int *a, const int *b)
{
    int i, j = 0;
    for (i = 0; i < shape->rank; ++i) {
        if (shape->size[a[i]] == 1) continue;
        while (shape->size[b[j]] == 1) j += 1;
        if (a[i] != b[j++]) return false;
    }
    return true;
}

/* Whether an operator takes a tensor whose dimensions lie in this order: FT__STRIDED. */
static bool ft__is_strided(int rank, const int *order)
{
    return rank <= 4 && order[rank - 1] >= rank - 2;
}

/* Makes the value of a reshape or permute a view if it can be one. Not of weights, which need not
   be float32 in memory, nor of states, which a run replaces; nor if it is read after the run. */
static void ft__choose_view(const ft_model *m, ft__node *node)
{
    const ft__node *x = &m->nodes[node->inputs[0] - 1];
    const int *of_x = x->layout.source ? x->layout.order
        : ft__is_channels_last(x) ? ft__channels_last_order : ft__in_order;
    int rank = node->shape.rank, at, d, id = (int)(node - m->nodes) + 1;
    ft__layout *y = &node->layout;
    bool rows, last = false;
    if (id == m->output.id || id == m->loss.id || ft__is_kept(m, id) || node->want_gradient
        || ft__is_weight(x) || ft__is_state(x)) return;
    if (!ft__is(node, FT__PERMUTES) && !ft__same_order(&x->shape, of_x, ft__in_order)) return;
    for (at = 0; at < rank; ++at)
        for (d = 0; d < rank && ft__is(node, FT__PERMUTES); ++d)
            if (node->options.permute.axes[d] == of_x[at]) y->order[at] = d;
    if (!ft__is(node, FT__PERMUTES)) memcpy(y->order, ft__in_order, sizeof y->order);
    rows = ft__same_order(&node->shape, y->order, ft__in_order);
    if (rank == 4) last = ft__same_order(&node->shape, y->order, ft__channels_last_order);
    if (rows && !(y->channels_last && ft__has_layouts(node))) y->channels_last = y->strided = false;
    else if (last && (y->channels_last || !y->decided)) {
        y->channels_last = true;
        y->strided = false;
    } else if (!y->strided || !ft__is_strided(rank, y->order)) return;
    y->source = x->layout.source ? x->layout.source : node->inputs[0];
}

/* An input that was fed before its layout changed: its values are rearranged. */
static void ft__transpose_fed(ft_model *m, const ft__node *node)
{
    ft_shape shape = ft__with_extent(node->shape, node->fed);
    size_t bytes = ft__shape_count(&shape) * sizeof(float);
    float *copy = (float *)ft__allocate(&m->context, bytes, 1);
    if (!copy) return;
    ft__to_host(&m->context, node->value, bytes);
    memcpy(copy, node->value, bytes);
    ft__transpose(&m->context, &shape, ft__is_channels_last(node) ? FT__TO_LAST : FT__TO_FIRST,
                  copy, node->value, false);
    ft__host_fed(&m->context, node->value, bytes);
    ft__release(&m->context, copy);
}

/* Chooses the layouts, and numbers the values that some readers need a copy of. */
static void ft__choose_layouts(ft_model *m)
{
    int at, i;
    if (m->layouts_for == m->version + 1) return;
    m->layouts_for = m->version + 1;
    m->copies = 0;
    for (i = 0; i < m->node_count; ++i) {
        ft__layout *layout = &m->nodes[i].layout;
        layout->channels_last = layout->decided = false;
        layout->strided = true; /* so far all that read it take any order */
        layout->copy = layout->source = 0;
    }
    for (at = m->node_count - 1; at >= 0; --at)
        ft__want_layouts(m, &m->nodes[m->order[at] - 1]);
    for (at = 0; at < m->node_count; ++at) {
        ft__node *node = &m->nodes[m->order[at] - 1];
        uint64_t flags = ft__rows[node->op]->flags;
        if (flags & FT__REORDERS) ft__choose_view(m, node);
        else if (flags & FT__ANY_LAYOUT) ft__follow_layout(m, node);
        else if (flags & FT__CHANNELS_LAST) node->layout.channels_last = true;
        else if (!ft__is_input(node)) node->layout.channels_last = false;
        node->layout.strided = node->layout.strided && node->layout.source;
    }
    for (at = 0; at < m->node_count; ++at) {
        const ft__node *node = &m->nodes[m->order[at] - 1];
        for (i = 0; i < node->input_count; ++i)
            if (ft__reads_copy(m, node, i) && !m->nodes[node->inputs[i] - 1].layout.copy)
                m->nodes[node->inputs[i] - 1].layout.copy = ++m->copies;
    }
    for (i = 0; i < m->node_count; ++i) {
        ft__node *node = &m->nodes[i];
        char now = (char)(ft__has_layouts(node) && node->layout.channels_last ? 2 : 1);
        bool moved = node->layout.before && node->layout.before != now;
        node->layout.before = now;
        if (moved && ft__is_input(node) && node->fed.batch > 0) ft__transpose_fed(m, node);
        if (moved && !ft__is_leaf(node)) m->last_run = NULL; /* its values lie as they did before */
    }
}
