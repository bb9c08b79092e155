#pragma once
#include "interface/types.h"
#include "interface/operators.h"
#include "platform/families.h"
#include "platform/context.h"
#include "basics/numbers.h"
#include "kernels/column_sums.h"
#include "kernels/convolution.h"
#include "kernels/winograd.h"
#include "nodes/nodes.h"
#include "operators/table.h"
#include "operators/adding.h"
#include "operators/convolution.h"
#include "operators/conv2d_rows.h"
#include "operators/conv2d_rows_weight.h"
#include "operators/conv2d_small.h"
#include "operators/conv2d_winograd.h"
#include "operators/conv2d_bf16.h"

/* =============================================================================================
   [SECTION] operators/conv2d: The convolution operator
   Chooses one of the forms above by shape and precision.
   ============================================================================================= */

static void ft__conv2d_costs(const ft__call *call, ft__costs *costs)
{
    ft__conv g = ft__conv_of_call(call);
    ft__conv_room room = ft__conv_room_of(call->context, &g, call->training);
    size_t numbers = room.shared + room.zeros + room.lists
        + (size_t)call->context->threads * room.slot;
    costs->prepared = g.groups * ft__packed_right(call->context, (size_t)g.outputs, g.k);
    if (ft__conv_is_depthwise(&g)) {
        numbers = ft__depthwise_room(&g, call->training);
        costs->prepared = ft__depthwise_room(&g, false);
    } else if (ft__winograd_fits(&g)) {
        numbers = ft__winograd_room(call->context, &g, call->training);
        costs->prepared = ft__winograd_packed(call->context, &g);
    } else if (ft__conv_is_small(&g) && call->training)
        numbers = ft__max_size(numbers, ft__small_room(call->context, &g));
    costs->prepared *= sizeof(float);
    costs->workspace = numbers * sizeof(float);
    if (!ft__winograd_fits(&g) && ft__bf16_fits(call->context, &g))
        ft__bf16_costs(call->context, &g, call->training, costs);
    costs->multiply_adds = (uint64_t)ft__count(&call->output) * g.k;
}

static void ft__conv2d_forward(const ft__call *call)
{
    ft__conv g = ft__conv_of_call(call);
    if (ft__conv_is_depthwise(&g)) ft__depthwise_forward(call, &g);
    else if (ft__winograd_fits(&g)) ft__winograd_convolve(call, &g, false);
    else if (ft__bf16_fits(call->context, &g)) ft__bf16_forward(call, &g);
    else if (ft__conv_is_small(&g)) ft__small_forward(call, &g);
    else ft__conv_forward(call, &g);
}

static void ft__conv2d_backward(const ft__call *call)
{
    ft__conv g = ft__conv_of_call(call);
    ft__conv_run run;
    if (call->input_count > 2 && call->input[2].gradient)
        ft__add_column_sums(call->context, call->output.gradient, g.batch * g.p,
                            g.groups * (size_t)g.outputs, call->input[2].gradient);
    if (ft__conv_is_depthwise(&g)) ft__depthwise_backward(call, &g);
    else if (ft__winograd_fits(&g)) {
        if (call->input[1].gradient) ft__winograd_weight_gradient(call, &g);
        if (call->input[0].gradient) ft__winograd_convolve(call, &g, true);
    } else if (ft__bf16_fits(call->context, &g)) ft__bf16_backward(call, &g);
    else {
        bool is_small = ft__conv_is_small(&g);
        run = ft__conv_start(call, &g);
        if (is_small && call->input[1].gradient) ft__small_weight_gradient(call, &g);
        else if (call->input[1].gradient) ft__conv_weight_gradient(&run);
        if (is_small && call->input[0].gradient && g.stride[0] == 1 && g.stride[1] == 1)
            ft__small_input_gradient(call, &g);
        else if (call->input[0].gradient) ft__conv_input_gradient(&run);
    }
}

/* In files: `conv2d` | x [N, C, H, W], weight [out, C/groups, kernel, kernel], bias [out] or no
   third | `stride` [1, 1], `padding` [0, 0, 0, 0], `dilation` [1, 1], `groups` 1, `same` false
   (TensorFlow's SAME; padding is ignored) */
static const ft__row ft__row_conv2d = {
    FT__NAMED(conv2d), 2, 3, FT__LAYER | FT__WEIGHTS | FT__PRODUCT | FT__FOLDS
        | FT__CHANNELS_LAST | FT__READS_TYPES,
    ft__conv2d_shape, ft__conv2d_forward, FT__BACKWARD(ft__conv2d_backward), ft__conv2d_costs,
    ft__conv2d_fields, NULL};

ft_node ft_conv2d(ft_model *m, const char *name, ft_node x, int out_channels,
                  ft_conv2d_options options)
{
    ft_node inputs[3], none = {0};
    ft_parameter_options p;
    int count, groups = options.groups ? options.groups : 1, channels;
    if (!ft__usable(m) || !FT__HAS(m, CONVOLUTION)) return none;
    channels = ft__size_of(m, name, x, 1);
    memset(&p, 0, sizeof p);
    if (groups < 1 || channels % groups != 0)
        ft__fail(&m->context, FT_SHAPE, "%s: %d channels cannot be divided into %d groups", name,
                 channels, groups);
    if (!ft__usable(m)) return none;
    p.size[0] = out_channels;
    p.size[1] = channels / groups;
    p.size[2] = ft__pair(options.kernel, 0, 0);
    p.size[3] = ft__pair(options.kernel, 1, 0);
    p.initialiser = options.initialiser;
    p.fan_in = p.size[1] * p.size[2] * p.size[3];
    p.fan_out = out_channels * p.size[2] * p.size[3];
    if (out_channels < 1 || p.size[2] < 1 || p.size[3] < 1) {
        ft__fail(&m->context, FT_INVALID, "%s: out_channels and kernel must be above 0", name);
        return none;
    }
    inputs[0] = x;
    count = ft__weight_inputs(m, name, inputs, options.weight, options.bias, options.no_bias, p);
    options.weight = options.bias = none; /* they are inputs now */
    return ft__add_node(m, &ft__row_conv2d, name, inputs, count, &options, sizeof options);
}
