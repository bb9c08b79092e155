#pragma once
#include "interface/types.h"
#include "interface/operators.h"
#include "platform/families.h"
#include "platform/context.h"
#include "basics/numbers.h"
#include "basics/threads.h"
#include "kernels/column_sums.h"
#include "nodes/nodes.h"
#include "operators/table.h"
#include "operators/adding.h"
#include "operators/common.h"
#include "operators/convolution.h"
#include "operators/conv2d.h"

/* =============================================================================================
   [SECTION] operators/conv_transpose: Transposed convolution
   conv_transpose2d of x is the input's gradient of a convolution whose output has x's shape and
   whose input has y's: that convolution, with the same weight, computes all three.
       y = its dx where dy is x, dx = its forward of dy, dW = its weight gradient of dy and x
   ============================================================================================= */
static const ft__field ft__conv_transpose2d_fields[] = {
    FT__INT(ft_conv_transpose2d_options, stride), FT__INT(ft_conv_transpose2d_options, padding),
    FT__INT(ft_conv_transpose2d_options, output_padding),
    FT__INT(ft_conv_transpose2d_options, dilation), FT__INT(ft_conv_transpose2d_options, groups),
    FT__BOOL(ft_conv_transpose2d_options, same), FT__NOT_KEPT(ft_conv_transpose2d_options, kernel)
    FT__NOT_KEPT(ft_conv_transpose2d_options, weight)
    FT__NOT_KEPT(ft_conv_transpose2d_options, bias)
    FT__NOT_KEPT(ft_conv_transpose2d_options, no_bias)
    FT__NOT_KEPT(ft_conv_transpose2d_options, initialiser) FT__NO_MORE_FIELDS};

/* The node of the convolution. */
static ft__node ft__transposed_conv(const ft__node *node)
{
    const ft_conv_transpose2d_options *o = &node->options.conv_transpose2d;
    ft__node conv = *node;
    memset(&conv.options, 0, sizeof conv.options);
    memcpy(conv.options.conv2d.stride, o->stride, sizeof o->stride);
    memcpy(conv.options.conv2d.padding, o->padding, sizeof o->padding);
    memcpy(conv.options.conv2d.dilation, o->dilation, sizeof o->dilation);
    conv.options.conv2d.groups = o->groups;
    conv.options.conv2d.same = o->same;
    return conv;
}

/* y's size along an axis, 0 or 1, from x's; 0: it is none, or too large. */
static int ft__transposed_size(const ft_conv_transpose2d_options *o, const ft_shape *x,
                               const ft_shape *w, int axis)
{
    int64_t in = x->size[2 + axis], stride = ft__or_one(o->stride, axis), size;
    int64_t reach = ((int64_t)w->size[2 + axis] - 1) * ft__or_one(o->dilation, axis) + 1;
    size = (in - 1) * stride + reach + ft__pair(o->output_padding, axis, 0)
        - ft__padding(o->padding, axis) - ft__padding(o->padding, 2 + axis);
    if (o->same) size = in * stride;
    return size < 1 || size > INT_MAX ? 0 : (int)size;
}

static ft_status ft__conv_transpose2d_shape(ft__context *c, const ft__node *node,
                                            const ft__tensor *input, int input_count,
                                            ft_shape *output)
{
    const ft_conv_transpose2d_options *o = &node->options.conv_transpose2d;
    const ft_shape *x = &input[0].shape, *w = &input[1].shape;
    ft__node conv = ft__transposed_conv(node);
    int groups = o->groups ? o->groups : 1, i;
    char text[80], other[80];
    *output = *x;
    if (ft__conv2d_options_check(c, &conv) != FT_OK) return c->status;
    if (x->rank != 4 || w->rank != 4)
        return ft__fail(c, FT_SHAPE, "%s: expected an input [N, C, H, W] and a weight of 4"
                        " dimensions, not %s and %s", node->name, ft__shape_text(x, text),
                        ft__shape_text(w, other));
    if (x->size[1] != w->size[0] || w->size[0] % groups != 0 || w->size[1] > INT_MAX / groups)
        return ft__fail(c, FT_SHAPE, "%s: input has %d channels, in %d groups, but the weight is"
                        " %s: it must be [channels, out / groups, kernel, kernel]", node->name,
                        x->size[1], groups, ft__shape_text(w, other));
    output->size[1] = w->size[1] * groups;
    if (input_count > 2
        && (input[2].shape.rank != 1 || input[2].shape.size[0] != output->size[1]))
        return ft__fail(c, FT_SHAPE, "%s: bias %s does not fit weight %s", node->name,
                        ft__shape_text(&input[2].shape, text), ft__shape_text(w, other));
    for (i = 0; i < 2; ++i) {
        int extra = ft__pair(o->output_padding, i, 0), stride = ft__or_one(o->stride, i);
        if (extra < 0 || extra >= stride || (extra > 0 && o->same))
            return ft__fail(c, FT_INVALID, "%s: output_padding %d must not be negative, must be"
                            " below the stride, %d, and has no effect with same", node->name,
                            extra, stride);
        output->size[2 + i] = ft__transposed_size(o, x, w, i);
        if (output->size[2 + i] < 1)
            return ft__fail(c, FT_SHAPE, "%s: %s has no output: the padding is larger than what"
                            " the kernel reaches, or the output is too large", node->name,
                            ft__shape_text(x, text));
    }
    if (!FT__HAS_CONVOLUTION || (!FT__HAS_DEPTHWISE && w->size[1] == 1 && groups > 1))
        return ft__fail(c, FT_UNSUPPORTED, "%s: the convolution is not supported by this build"
                        " (%s)", node->name, FT__WITHOUT(CONVOLUTION) " or DEPTHWISE");
    return ft__want_numbers(c, node, input, input_count);
}

/* The call of the convolution, whose input, in `input`, is y, and whose output is x: with the
   values of neither. */
static ft__call ft__transposed_call(const ft__call *call, const ft__node *conv, ft__tensor *input)
{
    ft__call flat = *call;
    input[0] = call->output;
    input[1] = call->input[1];
    input[0].value = input[0].gradient = input[1].gradient = NULL;
    input[0].fresh = true;
    flat.node = conv;
    flat.input = input;
    flat.input_count = 2;
    flat.output = call->input[0];
    flat.output.value = flat.output.gradient = NULL;
    flat.output.fresh = true;
    flat.prepared = NULL;
    return flat;
}

static void ft__conv_transpose2d_costs(const ft__call *call, ft__costs *costs)
{
    ft__node conv = ft__transposed_conv(call->node);
    ft__tensor input[2];
    ft__call flat = ft__transposed_call(call, &conv, input);
    flat.training = true; /* forward is a gradient */
    ft__conv2d_costs(&flat, costs);
    costs->prepared = 0;
    if (call->training)
        costs->workspace += ft__pad_to(ft__count(&call->input[0]), 16) * sizeof(float);
}

static void ft__add_bias_sample(void *context, int sample)
{
    const ft__call *call = (const ft__call *)context;
    const ft_shape *y = &call->output.shape;
    size_t channels = (size_t)y->size[1], pixels = (size_t)y->size[2] * (size_t)y->size[3], c;
    float *at = call->output.value + (size_t)sample * channels * pixels;
    for (; pixels > 0; --pixels, at += channels)
        for (c = 0; c < channels; ++c) at[c] += call->input[2].value[c];
}

static void ft__conv_transpose2d_forward(const ft__call *call)
{
    ft__node conv = ft__transposed_conv(call->node);
    ft__tensor input[2];
    ft__call flat = ft__transposed_call(call, &conv, input);
    input[0].gradient = call->output.value;
    flat.output.gradient = call->input[0].value;
    flat.training = true;
    ft__conv2d_backward(&flat);
    if (call->input_count > 2)
        ft__parallel(call->context, call->output.shape.size[0], ft__add_bias_sample,
                     (void *)(uintptr_t)call);
}

static void ft__conv_transpose2d_backward(const ft__call *call)
{
    ft__node conv = ft__transposed_conv(call->node);
    ft__tensor input[2];
    ft__call flat = ft__transposed_call(call, &conv, input);
    const ft__tensor *x = &call->input[0], *y = &call->output;
    size_t count = ft__count(x), channels = (size_t)y->shape.size[1], i;
    float *aside = call->workspace;
    flat.workspace = aside + ft__pad_to(count, 16);
    input[0].value = y->gradient;
    if (call->input_count > 2 && call->input[2].gradient)
        ft__add_column_sums(call->context, y->gradient, ft__count(y) / channels, channels,
                            call->input[2].gradient);
    if (call->input[1].gradient) {
        input[1].gradient = call->input[1].gradient;
        flat.output.gradient = x->value;
        ft__conv2d_backward(&flat);
    }
    if (!x->gradient) return;
    flat.output.value = x->fresh ? x->gradient : aside;
    ft__conv2d_forward(&flat);
    for (i = 0; !x->fresh && i < count; ++i) x->gradient[i] += aside[i];
}

/* In files: `conv_transpose2d` | x [N, C, H, W], weight [C, out/groups, kernel, kernel], bias [out]
   or no third | `stride` [1, 1], `padding` [0, 0, 0, 0], `output_padding` [0, 0], `dilation` [1,
   1], `groups` 1, `same` false (y is stride times as large; padding is ignored) */
static const ft__row ft__row_conv_transpose2d = {
    FT__NAMED(conv_transpose2d), 2, 3, FT__READS_X | FT__WRITES | FT__WEIGHTS | FT__CHANNELS_LAST,
    ft__conv_transpose2d_shape, ft__conv_transpose2d_forward,
    FT__BACKWARD(ft__conv_transpose2d_backward), ft__conv_transpose2d_costs,
    ft__conv_transpose2d_fields, NULL};

ft_node ft_conv_transpose2d(ft_model *m, const char *name, ft_node x, int out_channels,
                            ft_conv_transpose2d_options options)
{
    ft_node inputs[3], none = {0};
    ft_parameter_options p;
    int groups = options.groups ? options.groups : 1, count;
    if (!ft__usable(m) || !FT__HAS(m, ARITHMETIC)) return none;
    memset(&p, 0, sizeof p);
    p.size[0] = ft__size_of(m, name, x, 1);
    p.size[2] = ft__pair(options.kernel, 0, 0);
    p.size[3] = ft__pair(options.kernel, 1, 0);
    if (groups < 1 || out_channels < 1 || out_channels % groups != 0 || p.size[2] < 1
        || p.size[3] < 1)
        ft__fail(&m->context, FT_INVALID, "%s: %d out_channels in %d groups, kernel %dx%d: the"
                 " groups must divide the out_channels, the others must be above 0", name,
                 out_channels, groups, p.size[2], p.size[3]);
    if (!ft__usable(m)) return none;
    p.size[1] = out_channels / groups;
    p.initialiser = options.initialiser;
    p.fan_in = p.size[1] * p.size[2] * p.size[3];
    p.fan_out = p.size[0] * p.size[2] * p.size[3];
    inputs[0] = x;
    count = ft__weight_inputs(m, name, inputs, options.weight, options.bias, true, p);
    if (!options.no_bias) {
        p.size[0] = out_channels;
        p.size[1] = p.size[2] = p.size[3] = 0;
        p.initialiser = FT_INIT_DEFAULT;
        inputs[count++] = options.bias.id ? options.bias : ft__layer_parameter(m, name, "bias", p);
    }
    options.weight = options.bias = none; /* they are inputs now */
    return ft__add_node(m, &ft__row_conv_transpose2d, name, inputs, count, &options,
                        sizeof options);
}
