#pragma once
#include "interface/types.h"
#include "interface/operators.h"
#include "platform/context.h"
#include "basics/numbers.h"
#include "nodes/nodes.h"
#include "operators/table.h"
#include "operators/adding.h"
#include "operators/rows.h"

/* =============================================================================================
   [SECTION] graph/building: Graph: building by kind
   ============================================================================================= */
const char *ft_activation_kind(int index)
{
    int op;
    for (op = 0; index >= 0 && op < FT__OP_COUNT; ++op)
        if (ft__rows[op]->flags & FT__BY_KIND && index-- == 0) return ft__rows[op]->name;
    return NULL;
}

/* The operator of this activation; FT__OP_none with an error if the name is unknown. */
static int ft__activation_named(ft_model *m, const char *kind)
{
    const ft__row *rows[FT__OP_COUNT + 1], *row;
    int op, count = 0;
    for (op = 0; op < FT__OP_COUNT; ++op)
        if (ft__rows[op]->flags & FT__BY_KIND) rows[count++] = ft__rows[op];
    rows[count] = NULL;
    row = ft__row_of_kind(m, kind, rows, "activation");
    return row ? row->op : FT__OP_none;
}

static void ft__check_activation(ft_model *m, const char *kind, const ft_activation_options *o)
{
    if (ft__usable(m) && !(ft__is_finite(o->slope) && ft__is_finite(o->alpha)))
        ft__fail(&m->context, FT_INVALID, "%s: slope %g, alpha %g: both must be finite",
                 kind, (double)o->slope, (double)o->alpha);
}

ft_node ft_activation(ft_model *m, const char *kind, const char *name, ft_node x,
                      ft_activation_options options)
{
    int op = ft__activation_named(m, kind);
    ft__check_activation(m, kind, &options);
    return ft__add_node(m, ft__rows[op], name, &x, 1, &options, sizeof options);
}

/* `kind` as a config.json calls it: "gelu_new" and "gelu_pytorch_tanh" are gelu by tanh. */
static ft_node ft__named_activation(ft_model *m, const char *kind, const char *name, ft_node x)
{
    ft_activation_options o;
    memset(&o, 0, sizeof o);
    o.tanh_approximation = !strcmp(kind, "gelu_new") || !strcmp(kind, "gelu_pytorch_tanh");
    return ft_activation(m, o.tanh_approximation ? "gelu" : kind, name, x, o);
}
