#pragma once
#include "interface/requirements.h"
#include "interface/types.h"
#include "interface/operators.h"
#include "platform/families.h"
#include "platform/context.h"
#include "nodes/nodes.h"
#include "operators/table.h"
#include "operators/adding.h"

/* =============================================================================================
   [SECTION] operators/custom: An operator by callbacks
   Values lie as users see them, row by row: the row asks for no other layout.
   ============================================================================================= */
enum { FT__CUSTOM_INPUTS = 16 };

static ft_status ft__custom_shape(ft__context *c, const ft__node *node, const ft__tensor *input,
                                  int input_count, ft_shape *output)
{
    const ft__callbacks *o = &node->options.custom;
    ft_shape shapes[FT__CUSTOM_INPUTS];
    char text[80];
    int i;
    bool fits;
    if (!o->forward) /* only a damaged file has one without */
        return ft__fail(c, FT_INVALID, "%s: an operator of ft_custom needs a forward function",
                        node->name);
    for (i = 0; i < input_count; ++i) shapes[i] = input[i].shape;
    *output = shapes[0];
    if (!o->shape) return FT_OK;
    if (!o->shape(o->user, shapes, input_count, output))
        return ft__fail(c, FT_SHAPE, "%s: its shape function refuses the inputs; the first is %s",
                        node->name, ft__shape_text(&shapes[0], text));
    fits = output->rank > 0 && output->rank <= FINETUNE_MAX_RANK;
    for (i = 0; fits && i < output->rank; ++i)
        fits = output->size[i] > 0 || output->size[i] == FT_BATCH || output->size[i] == FT_LENGTH;
    if (!fits)
        return ft__fail(c, FT_SHAPE, "%s: its shape function gives %d dimensions: 1 to %d are"
                        " expected, each size above 0, FT_BATCH or FT_LENGTH", node->name,
                        output->rank, FINETUNE_MAX_RANK);
    return FT_OK;
}

static ft_view ft__view_of(const ft__tensor *t)
{
    ft_view view;
    view.shape = t->shape;
    view.type = t->type;
    view.values = t->value;
    view.gradient = t->gradient;
    return view;
}

static void ft__custom_run(const ft__call *call, bool backward)
{
    const ft__callbacks *o = &call->node->options.custom;
    ft_view inputs[FT__CUSTOM_INPUTS], output = ft__view_of(&call->output);
    int i;
    for (i = 0; i < call->input_count; ++i) {
        inputs[i] = ft__view_of(&call->input[i]);
        if (!backward || call->input[i].type != FT_F32) inputs[i].gradient = NULL;
    }
    if (!backward) output.gradient = NULL;
    if (!backward) o->forward(o->user, inputs, call->input_count, &output);
    else if (o->backward) o->backward(o->user, inputs, call->input_count, &output);
}

static void ft__custom_forward(const ft__call *call) { ft__custom_run(call, false); }
static void ft__custom_backward(const ft__call *call) { ft__custom_run(call, true); }

static const ft__row ft__row_custom = {
    FT__NAMED(custom), 1, FT__CUSTOM_INPUTS, FT__READS_X | FT__READS_Y | FT__CALLBACKS,
    ft__custom_shape, ft__custom_forward, FT__BACKWARD(ft__custom_backward), NULL, ft__no_fields,
    NULL};

ft_node ft_custom(ft_model *m, const char *name, const ft_node *inputs, int count,
                  ft_custom_options options)
{
    ft_node none = {0};
    if (ft__usable(m) && (count < 1 || count > FT__CUSTOM_INPUTS || !options.forward)) {
        ft__fail(&m->context, FT_INVALID, "%s: ft_custom needs a forward function and 1 to %d"
                 " inputs, not %d", name ? name : "custom", FT__CUSTOM_INPUTS, count);
        return none;
    }
    return ft__add_node(m, &ft__row_custom, name, inputs, count, &options, sizeof options);
}
