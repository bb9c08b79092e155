#pragma once
#include "interface/types.h"
#include "interface/operators.h"
#include "platform/families.h"
#include "platform/context.h"
#include "kernels/transpose.h"
#include "nodes/nodes.h"
#include "operators/table.h"
#include "operators/adding.h"
#include "operators/convolution.h"
#include "operators/conv2d.h"

/* =============================================================================================
   [SECTION] operators/conv1d: Convolution in one dimension
   x [N, C, L], weight [O, C/groups, K]: runs conv2d with [N, C, 1, L] and [O, C/groups, 1, K], on
   copies of x and y with the channels last, as conv2d needs them.
   ============================================================================================= */

/* The tensor with a height of 1; `value` and `gradient` are its copy in the workspace, or NULL. */
static ft__tensor ft__as_picture(const ft__tensor *t, float *value, float *gradient)
{
    ft__tensor picture = *t;
    picture.shape.rank = 4;
    picture.shape.size[3] = t->shape.size[2];
    picture.shape.size[2] = 1;
    picture.channels_last = value != NULL;
    if (value) picture.value = value;
    if (value) picture.gradient = gradient;
    return picture;
}

/* The call for conv2d; `input` has room for three. Workspace: x, dx, y, dy, then conv2d's. */
static ft__call ft__conv1d_as_conv2d(const ft__call *call, ft__tensor *input)
{
    size_t x = ft__count(&call->input[0]), y = ft__count(&call->output);
    float *at = call->workspace;
    ft__call flat = *call;
    input[0] = ft__as_picture(&call->input[0], at,
                              at && call->input[0].gradient ? at + x : NULL);
    input[0].channels_last = input[0].fresh = true;
    input[1] = ft__as_picture(&call->input[1], NULL, NULL);
    if (call->input_count > 2) input[2] = call->input[2];
    flat.input = input;
    /* No gradient where there is none: conv2d's workspace was planned by that. */
    flat.output = ft__as_picture(&call->output, at ? at + 2 * x : NULL,
                                 at && call->output.gradient ? at + 2 * x + y : NULL);
    flat.workspace = at ? at + 2 * (x + y) : NULL;
    return flat;
}

/* The length may be FT_LENGTH if the output is as long as the input: stride 1, and padding that
   makes up for the kernel. */
static ft_status ft__conv1d_shape(ft__context *c, const ft__node *node, const ft__tensor *input,
                                  int input_count, ft_shape *output)
{
    const ft_conv2d_options *o = &node->options.conv2d;
    ft__tensor flat[3];
    bool run_time;
    int i, dilation = ft__or_one(o->dilation, 1);
    char text[80], other[80];
    *output = input[0].shape;
    if (input[0].shape.rank != 3 || input[1].shape.rank != 3)
        return ft__fail(c, FT_SHAPE, "%s: expected an input [N, C, L] and a weight of 3 dimensions,"
                        " not %s and %s", node->name, ft__shape_text(&input[0].shape, text),
                        ft__shape_text(&input[1].shape, other));
    run_time = input[0].shape.size[2] == FT_LENGTH;
    if (run_time && (ft__or_one(o->stride, 1) != 1
                     || (!o->same && o->padding[1] + o->padding[3]
                                     != dilation * (input[1].shape.size[2] - 1))))
        return ft__fail(c, FT_SHAPE, "%s: over a run-time length the output must be as long as the"
                        " input: stride 1, and padding that adds up to dilation * (kernel - 1)",
                        node->name);
    for (i = 0; i < input_count && i < 3; ++i)
        flat[i] = i < 2 ? ft__as_picture(&input[i], NULL, NULL) : input[i];
    if (run_time) flat[0].shape.size[3] = 1 << 20;
    if (ft__conv2d_shape(c, node, flat, input_count, output) != FT_OK) return c->status;
    output->size[2] = run_time ? FT_LENGTH : output->size[3];
    output->size[3] = 0;
    output->rank = 3;
    return FT_OK;
}

static void ft__conv1d_costs(const ft__call *call, ft__costs *costs)
{
    ft__tensor input[3];
    ft__call flat = *call;
    flat.workspace = NULL;
    flat = ft__conv1d_as_conv2d(&flat, input);
    ft__conv2d_costs(&flat, costs);
    costs->workspace += 2 * (ft__count(&call->input[0]) + ft__count(&call->output))
        * sizeof(float);
}

static void ft__conv1d_forward(const ft__call *call)
{
    ft__tensor input[3];
    ft__call flat = ft__conv1d_as_conv2d(call, input);
    ft__transpose(call->context, &input[0].shape, FT__TO_LAST, call->input[0].value, input[0].value,
                  false);
    ft__conv2d_forward(&flat);
    ft__transpose(call->context, &flat.output.shape, FT__TO_FIRST, flat.output.value,
                  call->output.value, false);
}

static void ft__conv1d_backward(const ft__call *call)
{
    ft__tensor input[3];
    ft__call flat = ft__conv1d_as_conv2d(call, input);
    ft__transpose(call->context, &input[0].shape, FT__TO_LAST, call->input[0].value, input[0].value,
                  false);
    ft__transpose(call->context, &flat.output.shape, FT__TO_LAST, call->output.gradient,
                  flat.output.gradient, false);
    ft__conv2d_backward(&flat);
    if (call->input[0].gradient)
        ft__transpose(call->context, &input[0].shape, FT__TO_FIRST, input[0].gradient,
                      call->input[0].gradient, !call->input[0].fresh);
}

/* In files: `conv1d` | x [N, C, L], weight [out, C/groups, kernel], bias [out] or no third | the
   same: the second of each pair is the steps' (`stride` [1, s], `dilation` [1, d], `padding` [0,
   before, 0, after]), `groups` 1, `same` false */
static const ft__row ft__row_conv1d = {
    FT__NAMED(conv1d), 2, 3, FT__LAYER | FT__WEIGHTS | FT__PRODUCT | FT__READS_TYPES,
    ft__conv1d_shape, ft__conv1d_forward, FT__BACKWARD(ft__conv1d_backward), ft__conv1d_costs,
    ft__conv2d_fields, NULL};

ft_node ft_conv1d(ft_model *m, const char *name, ft_node x, int out_channels,
                  ft_conv1d_options options)
{
    ft_node inputs[3], none = {0};
    ft_parameter_options p;
    ft_conv2d_options o;
    int count, groups = options.groups ? options.groups : 1, channels, i;
    if (!ft__usable(m) || !FT__HAS(m, CONVOLUTION)) return none;
    channels = ft__size_of(m, name, x, 1);
    memset(&p, 0, sizeof p);
    memset(&o, 0, sizeof o);
    if (groups < 1 || channels % groups != 0 || out_channels < 1 || options.kernel < 1)
        ft__fail(&m->context, FT_INVALID, "%s: %d channels in %d groups, %d out_channels, kernel"
                 " %d: the groups must divide the channels, the others must be above 0", name,
                 channels, groups, out_channels, options.kernel);
    if (!ft__usable(m)) return none;
    p.size[0] = out_channels;
    p.size[1] = channels / groups;
    p.size[2] = options.kernel;
    p.initialiser = options.initialiser;
    p.fan_in = p.size[1] * p.size[2];
    p.fan_out = out_channels * p.size[2];
    inputs[0] = x;
    count = ft__weight_inputs(m, name, inputs, options.weight, options.bias, options.no_bias, p);
    o.kernel[0] = o.stride[0] = o.dilation[0] = 1;
    o.kernel[1] = options.kernel;
    o.stride[1] = options.stride;
    o.dilation[1] = options.dilation;
    if (options.causal)
        o.padding[1] = ft__pair(o.dilation, 1, 1) * (options.kernel - 1);
    for (i = 0; i < 2 && !options.causal; ++i)
        o.padding[1 + 2 * i] = options.padding[1] ? options.padding[i] : options.padding[0];
    o.groups = options.groups;
    o.same = options.same;
    return ft__add_node(m, &ft__row_conv1d, name, inputs, count, &o, sizeof o);
}
