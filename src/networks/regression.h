#pragma once
#include "interface/types.h"
#include "interface/operators.h"
#include "platform/context.h"
#include "nodes/nodes.h"
#include "operators/adding.h"
#include "operators/elementwise.h"
#include "operators/losses.h"
#include "graph/plan.h"
#include "graph/settings.h"
#include "networks/text.h"

/* =============================================================================================
   [SECTION] networks/regression: Networks that give a number
   The output is [N, 1], in the unit of the data: a linear layer, times the spread of the training
   data's numbers, plus their mean, so that the layer itself works with numbers of about 1 whatever
   the unit is. The loss is the mean squared difference from the input "target", [N, 1].
   ============================================================================================= */

/* Makes x [N, 1] the output, with its loss. */
static ft_node ft__number_end(ft_model *m, ft_node x)
{
    ft_input_options o;
    memset(&o, 0, sizeof o);
    o.size[0] = 1;
    ft_set_output(m, x);
    ft_set_loss(m, ft_mse(m, "loss", x, ft_input(m, "target", o)));
    return x;
}

/* What the head's result is multiplied with. */
static double ft__output_unit(const ft_model *m)
{
    const ft__node *output = ft__get_node(m, m->output);
    return output && output->op == ft__row_affine.op ? (double)output->options.unary.scale : 1;
}

/* Gives a network that classifies texts a new head for numbers of this mean and spread. */
static ft_status ft__to_regression(ft_model *m, double mean, double spread)
{
    ft_unary_options unit;
    ft_node x;
    memset(&unit, 0, sizeof unit);
    unit.scale = (float)spread;
    unit.shift = (float)mean;
    if (!ft__usable(m)) return ft__status_of(m);
    x = m->output;
    if (!ft__classifies_samples(m))
        return ft__fail(&m->context, FT_INVALID, "a regression needs a network that gives each text"
                        " a class or a number");
    if (ft__cut_to(m, x) != FT_OK || ft__replace_head(m, 1) != FT_OK) return m->context.status;
    ft__number_end(m, ft_unary(m, "affine", "in_units", x, unit));
    return m->context.status;
}

/* The way back: the number becomes scores of classes. */
static ft_status ft__from_regression(ft_model *m, int classes)
{
    ft__node *output = ft__get_node(m, m->output);
    ft_node x = m->output;
    if (output->op == ft__row_affine.op) x.id = output->inputs[0];
    if (ft__cut_to(m, x) != FT_OK || ft__replace_head(m, classes) != FT_OK)
        return m->context.status;
    ft__text_end(m, x, false);
    return m->context.status;
}
