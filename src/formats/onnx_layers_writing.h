#pragma once
#include "interface/requirements.h"
#include "interface/types.h"
#include "interface/operators.h"
#include "platform/families.h"
#include "platform/context.h"
#include "nodes/nodes.h"
#include "operators/table.h"
#include "operators/adding.h"
#include "operators/common.h"
#include "operators/convolution.h"
#include "operators/layer_norm.h"
#include "operators/group_norm.h"
#include "operators/pooling.h"
#include "operators/pad_and_slice.h"
#include "operators/resize.h"
#include "formats/onnx_writing.h"
#include "formats/onnx_elements_writing.h"
/* =============================================================================================
   [SECTION] formats/onnx_layers_writing: Layers and changes of shape, as ONNX's operators
   Functions as in formats/onnx_elements_writing.
   ============================================================================================= */
#if FT__HAS_ONNX
/* ---- Shapes ---- */

static const char *ft__out_flatten(ft__onnx_out *o, const ft__node *node, const char *op)
{
    ft__out_int(o, "axis", 1);
    return ft__out_same(o, node, op);
}

static const char *ft__out_reshaped(ft__onnx_out *o, const ft__node *node, const char *op)
{
    (void)op;
    ft__out_reshape(o, node->name, ft__out_x(o, node, 0), &ft__out_input(o, node, 0)->shape,
                    node->shape.size, node->shape.rank);
    return NULL;
}

static const char *ft__out_permuted(ft__onnx_out *o, const ft__node *node, const char *op)
{
    ft__out_ints(o, "perm", node->options.permute.axes, node->shape.rank);
    return ft__out_same(o, node, op);
}

static const char *ft__out_concat(ft__onnx_out *o, const ft__node *node, const char *op)
{
    const char **x = (const char **)ft__allocate(o->c, (size_t)node->input_count, sizeof *x);
    int i;
    for (i = 0; x && i < node->input_count; ++i) x[i] = ft__out_x(o, node, i);
    ft__out_int(o, "axis", node->options.concat.axis);
    if (x) ft__out_node(o, op, x, node->input_count, (const char *const *)&node->name, 1);
    ft__release(o->c, (void *)(uintptr_t)x);
    return NULL;
}

static const char *ft__out_slice(ft__onnx_out *o, const ft__node *node, const char *op)
{
    const ft_slice_options *a = &node->options.slice;
    const ft_shape *shape = &ft__out_input(o, node, 0)->shape;
    int starts[FINETUNE_MAX_RANK], stops[FINETUNE_MAX_RANK], axes[FINETUNE_MAX_RANK];
    int steps[FINETUNE_MAX_RANK], count = 0, d;
    const char *x[5];
    for (d = 1; d < shape->rank; ++d) {
        int stop = shape->size[d] == FT_LENGTH ? 0 : ft__slice_stop(a, shape, d);
        if (!a->start[d] && a->step[d] < 2 && (stop == 0 || stop == shape->size[d])) continue;
        starts[count] = a->start[d];
        stops[count] = stop;
        steps[count] = a->step[d] ? a->step[d] : 1;
        axes[count++] = d;
    }
    if (!count) return ft__out_alias(o, node, ft__out_x(o, node, 0));
    x[0] = ft__out_x(o, node, 0);
    x[1] = ft__out_list(o, starts, count);
    x[2] = ft__out_list(o, stops, count);
    x[3] = ft__out_list(o, axes, count);
    x[4] = ft__out_list(o, steps, count);
    ft__out_node(o, op, x, 5, (const char *const *)&node->name, 1);
    return NULL;
}

static const char *ft__out_tile(ft__onnx_out *o, const ft__node *node, const char *op)
{
    int repeats[FINETUNE_MAX_RANK], d;
    for (d = 0; d < node->shape.rank; ++d)
        repeats[d] = node->options.tile.repeats[d] ? node->options.tile.repeats[d] : 1;
    ft__out_2(o, op, node->name, ft__out_x(o, node, 0),
              ft__out_list(o, repeats, node->shape.rank));
    return NULL;
}

/* Opset 17's Pad has no wrap: what is added stands beside x. */
static const char *ft__out_pad_circular(ft__onnx_out *o, const ft__node *node)
{
    const ft_pad_options *a = &node->options.pad;
    const ft_shape *shape = &ft__out_input(o, node, 0)->shape;
    const char *x = ft__out_x(o, node, 0), *parts[3];
    int d, count, left = 0;
    char what[24];
    for (d = 1; d < shape->rank; ++d) left += a->before[d] > 0 || a->after[d] > 0;
    if (!left) return ft__out_alias(o, node, x);
    for (d = 1; d < shape->rank; ++d) {
        if (!a->before[d] && !a->after[d]) continue;
        count = 0;
        snprintf(what, sizeof what, "before%d", d);
        if (a->before[d])
            parts[count++] = ft__out_cut(o, ft__out_name(o, node, what), x, d,
                                         shape->size[d] - a->before[d], shape->size[d]);
        parts[count++] = x;
        snprintf(what, sizeof what, "after%d", d);
        if (a->after[d])
            parts[count++] = ft__out_cut(o, ft__out_name(o, node, what), x, d, 0, a->after[d]);
        snprintf(what, sizeof what, "axis%d", d);
        x = --left ? ft__out_name(o, node, what) : node->name;
        ft__out_int(o, "axis", d);
        ft__out_node(o, "Concat", parts, count, &x, 1);
    }
    return NULL;
}

static const char *ft__out_pad(ft__onnx_out *o, const ft__node *node, const char *op)
{
    static const char *const modes[] = {"constant", "reflect", "edge"};
    const ft_pad_options *a = &node->options.pad;
    int pads[2 * FINETUNE_MAX_RANK], rank = node->shape.rank, d;
    if (a->mode == FT_PAD_CIRCULAR) return ft__out_pad_circular(o, node);
    for (d = 0; d < rank; ++d) {
        pads[d] = a->before[d];
        pads[rank + d] = a->after[d];
    }
    ft__out_text(o, "mode", modes[a->mode]);
    ft__out_3(o, op, node->name, ft__out_x(o, node, 0), ft__out_list(o, pads, 2 * rank),
              a->mode == FT_PAD_CONSTANT ? ft__out_number(o, a->value) : NULL);
    return NULL;
}

/* By the same list for all samples, one index for each number, or one for each row of x. */
static const char *ft__out_gather(ft__onnx_out *o, const ft__node *node, const char *op)
{
    const ft_shape *x = &ft__out_input(o, node, 0)->shape;
    const ft_shape *index = &ft__out_input(o, node, 1)->shape;
    int axis = node->options.concat.axis;
    const char *places = ft__out_x(o, node, 1);
    (void)op;
    if (index->rank == 1 && index->size[0] > 0) {
        ft__out_int(o, "axis", axis);
        ft__out_2(o, "Gather", node->name, ft__out_x(o, node, 0), places);
    } else if (index->rank == x->rank) {
        ft__out_int(o, "axis", axis);
        ft__out_2(o, "GatherElements", node->name, ft__out_x(o, node, 0), places);
    } else if (index->rank == axis + 1) {
        places = ft__out_unsqueeze(o, ft__out_name(o, node, "places"), places, axis + 1);
        ft__out_int(o, "batch_dims", axis);
        ft__out_2(o, "GatherND", node->name, ft__out_x(o, node, 0), places);
    } else return "its index has dimensions after the axis, but not all of x";
    return NULL;
}

/* The sizes are those of x but for the last ones. */
static const char *ft__out_resize(ft__onnx_out *o, const ft__node *node, const char *op)
{
    static const char *const places[] = {"", "half_pixel", "asymmetric", "align_corners",
                                         "pytorch_half_pixel"};
    static const char *const roundings[] = {"floor", "ceil", "round_prefer_floor",
                                            "round_prefer_ceil"};
    const ft_resize_options *a = &node->options.resize;
    const ft_shape *shape = &ft__out_input(o, node, 0)->shape;
    bool linear = a->mode == FT_RESIZE_LINEAR;
    int how = a->coordinates ? (int)a->coordinates : linear ? 1 : 2, rank = shape->rank, d;
    float scales[4];
    const char *x[4], *part;
    memset(x, 0, sizeof x);
    x[0] = ft__out_x(o, node, 0);
    for (d = 0; d < rank; ++d) {
        scales[d] = d < 2 ? 1 : (float)ft__resize_scale(a, d - 2);
        if (d >= 2 && a->size[0] && ft__resize_scale(a, 0) > 0
            && (int)floor(ft__resize_scale(a, d - 2) * shape->size[d]) != node->shape.size[d])
            return "its scale says another size than its size does";
    }
    if (ft__resize_scale(a, 0) > 0)
        x[2] = ft__out_floats(o, ft__out_name(o, node, "scales"), scales, &rank, 1);
    else {
        part = ft__out_1(o, "Shape", ft__out_name(o, node, "shape"), x[0]);
        part = ft__out_cut(o, ft__out_name(o, node, "same"), part, 0, 0, 2);
        x[3] = ft__out_name(o, node, "sizes");
        ft__out_int(o, "axis", 0);
        ft__out_2(o, "Concat", x[3], part, ft__out_list(o, node->shape.size + 2, rank - 2));
    }
    ft__out_text(o, "mode", linear ? "linear" : "nearest");
    ft__out_text(o, "coordinate_transformation_mode", places[how]);
    if (!linear) ft__out_text(o, "nearest_mode", roundings[a->rounding]);
    ft__out_node(o, op, x, 4, (const char *const *)&node->name, 1);
    return NULL;
}

/* ---- Convolutions ---- */

/* What they have in common; x and the weight have `axes` dimensions after the first two, and the
   options' pairs mean the last of them. pads: before each, then after each. */
static void ft__out_conv_attributes(ft__onnx_out *o, const ft__node *node, int axes,
                                    const int stride[2], const int dilation[2], int groups,
                                    const int *pads)
{
    const int *kernel = ft__out_input(o, node, 1)->shape.size + 2;
    int steps[2] = {1, 1}, i;
    ft__out_ints(o, "kernel_shape", kernel, axes);
    for (i = 0; i < axes; ++i) steps[i] = ft__or_one(stride, i + 2 - axes);
    ft__out_ints(o, "strides", steps, axes);
    for (i = 0; i < axes; ++i) steps[i] = ft__or_one(dilation, i + 2 - axes);
    ft__out_ints(o, "dilations", steps, axes);
    ft__out_int(o, "group", groups ? groups : 1);
    ft__out_ints(o, "pads", pads, 2 * axes);
}

static const char *ft__out_conv(ft__onnx_out *o, const ft__node *node, const char *op)
{
    const ft_conv2d_options *a = &node->options.conv2d;
    const ft_shape *x = &ft__out_input(o, node, 0)->shape;
    const ft_shape *w = &ft__out_input(o, node, 1)->shape;
    int axes = w->rank - 2, pads[4], i;
    for (i = 0; i < axes; ++i) {
        int pair = i + 2 - axes, stride = ft__or_one(a->stride, pair), in = x->size[2 + i];
        int reach = (w->size[2 + i] - 1) * ft__or_one(a->dilation, pair) + 1;
        int total = in == FT_LENGTH ? reach - 1 : ((in + stride - 1) / stride - 1) * stride + reach
            - in;
        if (total < 0) total = 0;
        pads[i] = a->same ? total / 2 : ft__padding(a->padding, pair);
        pads[axes + i] = a->same ? total - total / 2 : ft__padding(a->padding, 2 + pair);
    }
    ft__out_conv_attributes(o, node, axes, a->stride, a->dilation, a->groups, pads);
    return ft__out_same(o, node, op);
}

static const char *ft__out_conv_transpose(ft__onnx_out *o, const ft__node *node, const char *op)
{
    const ft_conv_transpose2d_options *a = &node->options.conv_transpose2d;
    const ft_shape *x = &ft__out_input(o, node, 0)->shape;
    const ft_shape *w = &ft__out_input(o, node, 1)->shape;
    int pads[4], more[2], i;
    for (i = 0; i < 2; ++i) {
        int stride = ft__or_one(a->stride, i);
        int reach = (w->size[2 + i] - 1) * ft__or_one(a->dilation, i) + 1;
        int total = (x->size[2 + i] - 1) * stride + reach - x->size[2 + i] * stride;
        more[i] = a->same ? (total < 0 ? -total : 0) : ft__pair(a->output_padding, i, 0);
        if (total < 0) total = 0;
        pads[i] = a->same ? total / 2 : ft__padding(a->padding, i);
        pads[2 + i] = a->same ? total - total / 2 : ft__padding(a->padding, 2 + i);
    }
    ft__out_conv_attributes(o, node, 2, a->stride, a->dilation, a->groups, pads);
    ft__out_ints(o, "output_padding", more, 2);
    return ft__out_same(o, node, op);
}

/* Rows [N, in] are a Gemm; more dimensions a MatMul with the transposed weight. */
static const char *ft__out_linear(ft__onnx_out *o, const ft__node *node, const char *op)
{
    const char *x = ft__out_x(o, node, 0), *weight, *product;
    int id = node->inputs[1] - 1;
    bool biased = node->input_count > 2;
    (void)op;
    if (node->shape.rank == 2) {
        weight = o->turned[id] ? o->turned[id] : ft__out_x(o, node, 1);
        if (!o->turned[id]) ft__out_int(o, "transB", 1);
        ft__out_3(o, "Gemm", node->name, x, weight, biased ? ft__out_x(o, node, 2) : NULL);
        return NULL;
    }
    weight = ft__out_turned(o, node, 1);
    product = biased ? ft__out_name(o, node, "product") : node->name;
    ft__out_2(o, "MatMul", product, x, weight);
    if (biased) ft__out_2(o, "Add", node->name, product, ft__out_x(o, node, 2));
    return NULL;
}

/* ---- Norms ---- */

static const char *ft__out_batch_norm(ft__onnx_out *o, const ft__node *node, const char *op)
{
    const char *x[5];
    int i;
    for (i = 0; i < 5; ++i) x[i] = ft__out_x(o, node, i);
    ft__out_float(o, "epsilon", ft__eps_of(node->options.batch_norm.eps));
    ft__out_node(o, op, x, 5, (const char *const *)&node->name, 1);
    return NULL;
}

static const char *ft__out_layer_norm(ft__onnx_out *o, const ft__node *node, const char *op)
{
    ft__out_int(o, "axis", -1);
    ft__out_float(o, "epsilon", ft__eps_of(node->options.layer_norm.eps));
    return ft__out_same(o, node, op);
}

/* x / sqrt(mean(x^2) + eps) weight, of rows as long as the weight. */
static const char *ft__out_rms_norm(ft__onnx_out *o, const ft__node *node, const char *op)
{
    const ft_shape *shape = &node->shape;
    int row = ft__out_input(o, node, 1)->shape.size[0], last = shape->rank - 1, minus_one = -1;
    int size[FINETUNE_MAX_RANK + 1];
    bool parts = row != shape->size[last];
    const char *x = ft__out_x(o, node, 0), *y;
    (void)op;
    memcpy(size, shape->size, sizeof shape->size);
    size[last] = shape->size[last] / row;
    size[last + 1] = row;
    if (parts)
        x = ft__out_reshape(o, ft__out_name(o, node, "rows"), x, shape, size, shape->rank + 1);
    y = ft__out_2(o, "Mul", ft__out_name(o, node, "squares"), x, x);
    ft__out_ints(o, "axes", &minus_one, 1);
    y = ft__out_1(o, "ReduceMean", ft__out_name(o, node, "mean"), y);
    y = ft__out_2(o, "Add", ft__out_name(o, node, "sum"), y,
                  ft__out_number(o, ft__rms_eps_of(node->options.rms_norm.eps)));
    y = ft__out_1(o, "Sqrt", ft__out_name(o, node, "root"), y);
    y = ft__out_2(o, "Div", ft__out_name(o, node, "scaled"), x, y);
    y = ft__out_2(o, "Mul", parts ? ft__out_name(o, node, "weighted") : node->name, y,
                  ft__out_x(o, node, 1));
    if (parts) ft__out_reshape(o, node->name, y, shape, shape->size, shape->rank);
    return NULL;
}

/* Instance norm of [N, groups, the rest], then the weight and bias of the channels. */
static const char *ft__out_group_norm(ft__onnx_out *o, const ft__node *node, const char *op)
{
    static const float numbers[2] = {1, 0};
    int groups = ft__group_count(node), rank = node->shape.rank, to[3], size[4], i, k;
    const char *x[3], *y = ft__out_name(o, node, "groups"), *channels;
    bool affine = node->input_count > 2;
    to[0] = 0;
    to[1] = groups;
    to[2] = -1;
    x[0] = ft__out_2(o, "Reshape", y, ft__out_x(o, node, 0), ft__out_list(o, to, 3));
    for (k = 0; k < 2; ++k) {
        float *same = (float *)ft__allocate(o->c, (size_t)groups, sizeof *same);
        for (i = 0; same && i < groups; ++i) same[i] = numbers[k];
        if (same)
            x[1 + k] = ft__out_floats(o, ft__out_name(o, node, k ? "zeros" : "ones"), same, &groups,
                                      1);
        ft__release(o->c, same);
    }
    if (!ft__ok(o->c)) return NULL;
    y = ft__out_name(o, node, "normalised");
    ft__out_float(o, "epsilon", ft__eps_of(node->options.group_norm.eps));
    ft__out_node(o, op, x, 3, &y, 1);
    channels = ft__out_1(o, "Shape", ft__out_name(o, node, "shape"), ft__out_x(o, node, 0));
    y = ft__out_2(o, "Reshape", affine ? ft__out_name(o, node, "channels") : node->name, y,
                  channels);
    for (k = 1; affine && k < 3; ++k) {
        const char *w = ft__out_x(o, node, k);
        size[0] = node->shape.size[1];
        size[1] = size[2] = 1;
        if (rank > 2)
            w = ft__out_2(o, "Reshape", ft__out_name(o, node, k > 1 ? "shift" : "scale"), w,
                          ft__out_list(o, size, rank - 1));
        y = ft__out_2(o, k > 1 ? "Add" : "Mul", k > 1 ? node->name
                      : ft__out_name(o, node, "scaled"), y, w);
    }
    return NULL;
}

/* ---- Pooling ---- */

/* What ceil_mode adds after the picture is written as padding, since ONNX defines ceil_mode in
   another way. It never counts in a mean: where other padding does, as zeros, that is added
   before. */
static const char *ft__out_pool(ft__onnx_out *o, const ft__node *node, const char *op)
{
    const ft_pool2d_options *a = &node->options.pool2d;
    bool counts = node->op == FT__OP_avg_pool2d && !a->exclude_padding && !a->same, more = false;
    int kernel[2], stride[2], pads[4], zeros[8], i;
    const char *x = ft__out_x(o, node, 0);
    memset(zeros, 0, sizeof zeros);
    for (i = 0; i < 2; ++i) {
        ft__window w = ft__pool_window(a, &ft__out_input(o, node, 0)->shape, i);
        int end = (w.out - 1) * w.stride + w.kernel - w.in - w.before; /* of the last window */
        kernel[i] = w.kernel;
        stride[i] = w.stride;
        pads[i] = zeros[2 + i] = w.before;
        zeros[6 + i] = w.after;
        pads[2 + i] = counts ? (end > w.after ? end : w.after) : end > 0 ? end : 0;
        more = more || (counts && end > w.after);
    }
    for (i = 0; more && i < 4; ++i) pads[i] -= zeros[i < 2 ? 2 + i : 4 + i];
    if (more)
        x = ft__out_3(o, "Pad", ft__out_name(o, node, "padded"), x, ft__out_list(o, zeros, 8),
                      ft__out_number(o, 0));
    ft__out_ints(o, "kernel_shape", kernel, 2);
    ft__out_ints(o, "strides", stride, 2);
    ft__out_ints(o, "pads", pads, 4);
    if (counts && !more) ft__out_int(o, "count_include_pad", 1);
    ft__out_1(o, op, node->name, x);
    return NULL;
}
#endif
