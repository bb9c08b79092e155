#pragma once
#include "interface/types.h"
#include "nodes/nodes.h"
#include "operators/table.h"

/* =============================================================================================
   [SECTION] operators/rows: The rows of the table
   ============================================================================================= */
#define FT__ROW_AT(name) &ft__row_##name,
static const ft__row *const ft__rows[] = {FT__LEAVES(FT__ROW_AT) FT__OPERATORS(FT__ROW_AT)};

/* Whether the row of a node's operator has one of these flags. */
static bool ft__is(const ft__node *node, uint64_t flags)
{
    return (ft__rows[node->op]->flags & flags) != 0;
}

/* The operator of this name; FT__OP_none: there is none. */
static int ft__op_named(const char *name)
{
    int op;
    for (op = FT__OP_COUNT - 1; op > FT__OP_none; --op)
        if (strcmp(ft__rows[op]->name, name) == 0) break;
    return op;
}

static bool ft__is_leaf(const ft__node *node) { return ft__is(node, FT__LEAF); }

static bool ft__can_freeze(const ft__node *node)
{
    return (ft__is_weight(node) && !ft__is_constant(node)) || ft__is(node, FT__NOISE);
}

/* Whether a value has one row for each sample, and no other size that is the batch. */
static bool ft__has_row_each(const ft_shape *shape)
{
    int d;
    for (d = 1; d < shape->rank; ++d)
        if (shape->size[d] == FT_BATCH) return false;
    return shape->rank > 0 && shape->size[0] == FT_BATCH;
}

/* Whether numbers of different samples meet in a node, whose first input and output are x and y: by
   broadcasting, or since the output has no row for each sample. */
static bool ft__mixes_samples(const ft__node *node, const ft_shape *x, const ft_shape *y)
{
    if (!ft__is(node, FT__MIXES)) return false;
    if (ft__is(node, FT__BROADCASTS) && memcmp(x, y, sizeof *x) != 0) return true;
    return !ft__has_row_each(&node->shape);
}
