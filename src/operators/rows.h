#pragma once
#include "interface/types.h"
#include "platform/families.h"
#include "platform/context.h"
#include "nodes/operators.h"
#include "nodes/nodes.h"
#include "operators/table.h"

/* =============================================================================================
   [SECTION] operators/rows: The rows of the table
   ============================================================================================= */
#define FT__ROW_AT(name) &ft__row_##name,

/* Operators of a family that this build leaves out have rows without functions: files that have
   them are refused by the shape rule. */
static ft_status ft__left_out_shape(ft__context *c, const ft__node *node, const char *macro)
{
    return ft__fail(c, FT_UNSUPPORTED, "%s: the operator is not supported by this build (%s)",
                    node->name, macro);
}
#define FT__LEFT_OUT(family)                                                                      \
    static ft_status ft__no_##family(ft__context *c, const ft__node *node, const ft__tensor *x,   \
                                     int count, ft_shape *y)                                      \
    {                                                                                             \
        (void)x;                                                                                  \
        (void)count;                                                                              \
        (void)y;                                                                                  \
        return ft__left_out_shape(c, node, FT__WITHOUT(family));                                  \
    }
FT__LEFT_OUT(CONVOLUTION)
FT__LEFT_OUT(RECURRENT)
FT__LEFT_OUT(ATTENTION)
FT__LEFT_OUT(ARITHMETIC)
#define FT__LEFT_OUT_ROW(name, family)                                                            \
    static const ft__row ft__no_row_##name = {FT__NAMED(name), 0, INT_MAX, 0, ft__no_##family,    \
                                              NULL, NULL, NULL, ft__no_fields, NULL};
#define FT__CONVOLUTION_ROW(name) FT__LEFT_OUT_ROW(name, CONVOLUTION)
#define FT__RECURRENT_ROW(name) FT__LEFT_OUT_ROW(name, RECURRENT)
#define FT__ATTENTION_ROW(name) FT__LEFT_OUT_ROW(name, ATTENTION)
#define FT__ARITHMETIC_ROW(name) FT__LEFT_OUT_ROW(name, ARITHMETIC)
FT__CONVOLUTION_OPERATORS(FT__CONVOLUTION_ROW, FT__CONVOLUTION_ROW)
FT__RECURRENT_OPERATORS(FT__RECURRENT_ROW, FT__RECURRENT_ROW)
FT__ATTENTION_OPERATORS(FT__ATTENTION_ROW, FT__ATTENTION_ROW)
FT__ARITHMETIC_OPERATORS(FT__ARITHMETIC_ROW, FT__ARITHMETIC_ROW)

#define FT__CONVOLUTION_AT(name) FT__HAS_CONVOLUTION ? &ft__row_##name : &ft__no_row_##name,
#define FT__RECURRENT_AT(name) FT__HAS_RECURRENT ? &ft__row_##name : &ft__no_row_##name,
#define FT__ATTENTION_AT(name) FT__HAS_ATTENTION ? &ft__row_##name : &ft__no_row_##name,
#define FT__ARITHMETIC_AT(name) FT__HAS_ARITHMETIC ? &ft__row_##name : &ft__no_row_##name,
static const ft__row *const ft__rows[] = {
    FT__LEAVES(FT__ROW_AT) FT__BASIC_OPERATORS(FT__ROW_AT, FT__ROW_AT)
    FT__CONVOLUTION_OPERATORS(FT__CONVOLUTION_AT, FT__CONVOLUTION_AT)
    FT__RECURRENT_OPERATORS(FT__RECURRENT_AT, FT__RECURRENT_AT)
    FT__ATTENTION_OPERATORS(FT__ATTENTION_AT, FT__ATTENTION_AT)
    FT__ARITHMETIC_OPERATORS(FT__ARITHMETIC_AT, FT__ARITHMETIC_AT)};

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

/* Is it random in training? It can be frozen, too. */
static bool ft__is_random(const ft__node *node)
{
    return ft__is(node, FT__NOISE)
        || (ft__is(node, FT__ATTENDS) && node->options.attention.dropout > 0);
}

static bool ft__can_freeze(const ft__node *node)
{
    return (ft__is_weight(node) && !ft__is_constant(node)) || ft__is_random(node);
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
