#pragma once
#include "nodes/nodes.h"
#include "operators/table.h"

/* =============================================================================================
   [SECTION] operators/rows: The rows of the table
   ============================================================================================= */
/* Of the nodes that compute nothing. */
#define FT__LEAF_ROW(name)                                                                        \
    static const ft__row ft__row_##name = {FT__NAMED(name), 0, 0, FT__LEAF, NULL, NULL, NULL,   \
                                           NULL, ft__no_fields, NULL};
FT__LEAVES(FT__LEAF_ROW)

#define FT__ROW_AT(name) &ft__row_##name,
static const ft__row *const ft__rows[] = {FT__LEAVES(FT__ROW_AT) FT__OPERATORS(FT__ROW_AT)};

/* Whether the row of a node's operator has one of these flags. */
static bool ft__is(const ft__node *node, int flags)
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

/* The kinds of leaves. A node that was removed is of no kind, and no longer any node. */
static bool ft__is_any(const ft__node *node) { return node->op != FT__OP_none; }
static bool ft__is_input(const ft__node *node) { return node->op == FT__OP_input; }
static bool ft__is_parameter(const ft__node *node) { return node->op == FT__OP_parameter; }
static bool ft__is_buffer(const ft__node *node) { return node->op == FT__OP_buffer; }
static bool ft__is_state(const ft__node *node) { return node->op == FT__OP_state; }
static bool ft__is_leaf(const ft__node *node) { return ft__is(node, FT__LEAF); }

/* Inputs, and states that go from run to run, have a row for each sample. */
static bool ft__has_rows(const ft__node *node) { return ft__is_input(node) || ft__is_state(node); }

static bool ft__is_weight(const ft__node *node)
{
    return ft__is_parameter(node) || ft__is_buffer(node);
}

static bool ft__can_freeze(const ft__node *node)
{
    return ft__is_weight(node) || ft__is(node, FT__NOISE);
}
