#pragma once
#include "interface/types.h"
#include "interface/operators.h"
#include "platform/families.h"
#include "platform/context.h"
#include "basics/numbers.h"
#include "nodes/nodes.h"
#include "operators/table.h"
#include "operators/adding.h"
#include "operators/more_activations.h"
#include "operators/elementwise.h"
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

/* Refuses numbers that are not finite and, from those of hardtanh on, options of other kinds. */
static void ft__check_activation(ft_model *m, const ft__row *row, const ft_activation_options *o)
{
    static const ft__field *const all[] = {ft__hardtanh_fields, ft__threshold_fields,
                                           ft__softshrink_fields};
    const char *field;
    ft__options options;
    if (!(ft__is_finite(o->slope) && ft__is_finite(o->alpha)))
        ft__fail(&m->context, FT_INVALID, "%s: slope %g, alpha %g: both must be finite",
                 row->name, (double)o->slope, (double)o->alpha);
    if (!FT__HAS_ARITHMETIC) return; /* nothing has the others */
    options.activation = *o;
    field = ft__other_field(row, all, sizeof all / sizeof all[0], &options);
    if (field) ft__fail(&m->context, FT_INVALID, "%s has no %s", row->name, field);
    if (o->per_channel && row->least_inputs == 1)
        ft__fail(&m->context, FT_INVALID, "%s has no per_channel", row->name);
    if (!(ft__hardtanh_low(&options) < ft__hardtanh_high(&options)))
        ft__fail(&m->context, FT_INVALID, "hardtanh: min is %g and max is %g: min must be below"
                 " max", (double)o->min, (double)o->max);
    if (!(o->lambda >= 0) || !ft__is_finite(o->threshold) || !ft__is_finite(o->value))
        ft__fail(&m->context, FT_INVALID, "%s: lambda %g, threshold %g, value %g: the first must"
                 " not be negative, the others finite", row->name, (double)o->lambda,
                 (double)o->threshold, (double)o->value);
}

/* The row of this activation; NULL with an error if the name is unknown or the options do not suit
   it. */
static const ft__row *ft__activation_of(ft_model *m, const char *kind,
                                        const ft_activation_options *options)
{
    const ft__row *rows[FT__OP_COUNT + 1], *row;
    int op, count = 0;
    for (op = 0; op < FT__OP_COUNT; ++op)
        if (ft__rows[op]->flags & FT__BY_KIND) rows[count++] = ft__rows[op];
    rows[count] = NULL;
    row = ft__row_of_kind(m, kind, rows, "activation");
    if (row) ft__check_activation(m, row, options);
    return row && ft__ok(&m->context) ? row : NULL;
}

/* The trained slopes of prelu for x. */
static ft_node ft__slopes_parameter(ft_model *m, const char *name, ft_node x, bool per_channel)
{
    ft_parameter_options p;
    memset(&p, 0, sizeof p);
    p.size[0] = per_channel ? ft__size_of(m, name, x, 1) : 1;
    p.initialiser = FT_INIT_QUARTER;
    return ft__layer_parameter(m, name, "weight", p);
}

ft_node ft_activation(ft_model *m, const char *kind, const char *name, ft_node x,
                      ft_activation_options options)
{
    const ft__row *row = ft__activation_of(m, kind, &options);
    ft_node inputs[2];
    int count = 1;
    inputs[0] = x;
    if (FT__HAS_ARITHMETIC && row && row->least_inputs > 1)
        inputs[count++] = ft__slopes_parameter(m, name, x, options.per_channel);
    return ft__add_node(m, row, name, inputs, count, &options, sizeof options);
}

/* `kind` as a config.json calls it: "gelu_new" and "gelu_pytorch_tanh" are gelu by tanh. */
static ft_node ft__named_activation(ft_model *m, const char *kind, const char *name, ft_node x)
{
    ft_activation_options o;
    memset(&o, 0, sizeof o);
    o.tanh_approximation = !strcmp(kind, "gelu_new") || !strcmp(kind, "gelu_pytorch_tanh");
    return ft_activation(m, o.tanh_approximation ? "gelu" : kind, name, x, o);
}
