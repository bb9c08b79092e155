#pragma once
#include "interface/types.h"
#include "platform/families.h"
#include "basics/strings.h"
#include "basics/json.h"
#include "formats/onnx_file.h"
#include "formats/onnx_values.h"
#include "formats/onnx_making.h"
#include "formats/onnx_elements.h"

/* =============================================================================================
   [SECTION] formats/onnx_layers: ONNX operators with weights, and pooling
   ============================================================================================= */
#if FT__HAS_ONNX

/* ---- Windows over pictures, or over steps: those are pictures of one row ---- */

typedef struct ft__onnx_window {
    int kernel[2], stride[2], padding[4], dilation[2];
    bool steps;             /* [N, C, L]: the second of each pair is the steps' */
    bool same;              /* TensorFlow's SAME */
} ft__onnx_window;

/* A list of numbers, one for each axis, into the last places of `to`; false: it does not fit. */
static bool ft__onnx_window_list(const ft__onnx_node *n, const char *name, bool steps, int *to)
{
    const ft__onnx_attribute *a = ft__onnx_attribute_of(n, name);
    int i;
    if (!a) return true;
    if (a->count != 2 - steps) return false;
    for (i = 0; i < a->count; ++i) {
        if (a->wholes[i] < 1 || a->wholes[i] > 1 << 24) return false;
        to[i + steps] = (int)a->wholes[i];
    }
    return true;
}

static const char *ft__onnx_window_of(const ft__onnx_node *n, const ft__onnx_value *v,
                                      ft__onnx_window *w)
{
    const ft__onnx_attribute *pads = ft__onnx_attribute_of(n, "pads");
    const char *automatic = ft__onnx_text(n, "auto_pad", "NOTSET");
    int i, axes = w->steps ? 1 : 2;
    for (i = 0; i < 2; ++i) w->stride[i] = w->dilation[i] = 1;
    if (!ft__onnx_window_list(n, "kernel_shape", w->steps, w->kernel)
        || !ft__onnx_window_list(n, "strides", w->steps, w->stride)
        || !ft__onnx_window_list(n, "dilations", w->steps, w->dilation))
        return "is supported over pictures and over steps, with numbers above 0";
    w->same = strcmp(automatic, "SAME_UPPER") == 0;
    if (pads && (pads->count != 2 * axes)) return "has not as many pads as axes";
    for (i = 0; pads && strcmp(automatic, "NOTSET") == 0 && i < pads->count; ++i) {
        int to = w->steps ? 1 + 2 * i : i;
        if (pads->wholes[i] < 0 || pads->wholes[i] > 1 << 24)
            return "negative pads are not supported";
        w->padding[to] = (int)pads->wholes[i];
    }
    if (strcmp(automatic, "SAME_LOWER") != 0) return NULL;
    for (i = w->steps; i < 2; ++i) { /* SAME, with the odd number before */
        int size = ft__onnx_size(v->size[i + 2 - w->steps]), out, all;
        if (size < 1) return ft__onnx_not_known;
        out = (size + w->stride[i] - 1) / w->stride[i];
        all = (out - 1) * w->stride[i] + (w->kernel[i] - 1) * w->dilation[i] + 1 - size;
        if (all < 0) all = 0;
        w->padding[i] = all - all / 2;
        w->padding[i + 2] = all / 2;
    }
    return NULL;
}

/* The sizes of the output, from those of v. */
static const char *ft__onnx_window_sizes(const ft__onnx_window *w, bool ceil_mode,
                                         const ft__onnx_value *v, ft__onnx_value *y)
{
    int i;
    for (i = w->steps; i < 2; ++i) {
        int axis = i + 2 - w->steps, size = ft__onnx_size(v->size[axis]);
        double out, span = (double)(w->kernel[i] - 1) * w->dilation[i] + 1;
        double pads = (double)w->padding[i] + w->padding[i + 2];
        if (size == FT_LENGTH && w->stride[i] == 1 && (w->same || (pads >= span - 1
                                                                   && pads <= span - 1))) continue;
        if (size < 1) return "over a length that is open is supported if the output is as long";
        out = w->same ? ceil((double)size / w->stride[i]) : ((double)size + pads - span)
            / w->stride[i] + 1;
        out = ceil_mode ? ceil(out) : floor(out);
        if (ceil_mode && !w->same && (out - 1) * w->stride[i] >= (double)size + w->padding[i])
            out -= 1; /* a window must start inside */
        if (!(out >= 1)) return "its window is larger than its input";
        y->size[axis] = ft__onnx_known(out);
    }
    return NULL;
}

static void ft__onnx_add_window(ft__text *fields, const ft__onnx_window *w, bool dilated)
{
    ft__json_add_ints(fields, "stride", w->stride, 2);
    if (!w->same) ft__json_add_ints(fields, "padding", w->padding, 4);
    if (dilated) ft__json_add_ints(fields, "dilation", w->dilation, 2);
    ft__onnx_add_flag(fields, "same", w->same);
}

/* A convolution whose weight has these sizes; `more`: its output_padding, or NULL. */
static const char *ft__onnx_make_conv(ft__onnx *x, const ft__onnx_node *n, const char *op,
                                      const ft__onnx_window *w, const int *size, const int *more,
                                      const ft__onnx_value *y)
{
    ft__onnx_value *bias = ft__onnx_input(x, n, 2);
    int inputs[3], made;
    ft__text fields = ft__onnx_fields(x);
    inputs[0] = ft__onnx_node_in(x, n, 0)->made;
    inputs[1] = ft__onnx_weight(x, ft__onnx_input(x, n, 1), "parameter", size, y->rank);
    if (bias) inputs[2] = ft__onnx_vector(x, bias, "parameter");
    if (inputs[1] < 0 || (bias && inputs[2] < 0)) return "its weights cannot be read";
    ft__onnx_add_window(&fields, w, true);
    if (more) ft__json_add_ints(&fields, "output_padding", more, 2);
    ft__onnx_add_int(&fields, "groups", (int)ft__onnx_int(n, "group", 1));
    made = ft__onnx_make(x, op, ft__onnx_name_of(x, n), inputs, 2 + (bias != NULL), &fields);
    return ft__onnx_is_made(x, n, 0, made, y);
}

static const char *ft__onnx_conv(ft__onnx *x, const ft__onnx_node *n)
{
    ft__onnx_value *v = ft__onnx_node_in(x, n, 0), *weight = ft__onnx_input(x, n, 1), y;
    ft__onnx_window w;
    int size[4] = {0}, d, groups = (int)ft__onnx_int(n, "group", 1);
    const char *fault;
    if (!v) return ft__onnx_needs_node;
    if ((v->rank != 3 && v->rank != 4) || v->batch != 0 || ft__onnx_is_merged(v) || !weight
        || weight->rank != v->rank || weight->kind != FT__ONNX_CONSTANT || groups < 1)
        return "is supported over [N, C, H, W] and [N, C, L], with constant weights";
    memset(&w, 0, sizeof w);
    w.steps = v->rank == 3;
    for (d = 0; d < v->rank; ++d) size[d] = ft__onnx_size(weight->size[d]);
    for (d = 2; d < v->rank; ++d) w.kernel[d - 2 + w.steps] = size[d];
    y = *v;
    fault = ft__onnx_window_of(n, v, &w);
    if (!fault) fault = ft__onnx_window_sizes(&w, false, v, &y);
    if (fault) return fault;
    y.size[1] = weight->size[0];
    return ft__onnx_make_conv(x, n, w.steps ? "conv1d" : "conv2d", &w, size, NULL, &y);
}

static const char *ft__onnx_conv_transpose(ft__onnx *x, const ft__onnx_node *n)
{
    ft__onnx_value *v = ft__onnx_node_in(x, n, 0), *weight = ft__onnx_input(x, n, 1), y;
    ft__onnx_window w;
    int size[4], more[2] = {0, 0}, i, groups = (int)ft__onnx_int(n, "group", 1);
    const char *fault;
    if (!v) return ft__onnx_needs_node;
    if (!ft__onnx_is_picture(v) || !weight || weight->rank != 4
        || weight->kind != FT__ONNX_CONSTANT || groups < 1)
        return "is supported over [N, C, H, W], with constant weights";
    if (ft__onnx_attribute_of(n, "output_shape")) return "output_shape is not supported";
    memset(&w, 0, sizeof w);
    for (i = 0; i < 4; ++i) size[i] = ft__onnx_size(weight->size[i]);
    w.kernel[0] = size[2];
    w.kernel[1] = size[3];
    fault = ft__onnx_window_of(n, v, &w);
    if (fault) return fault;
    if (strcmp(ft__onnx_text(n, "auto_pad", "NOTSET"), "SAME_LOWER") == 0)
        return "auto_pad SAME_LOWER is not supported";
    if (ft__onnx_attribute_of(n, "output_padding")
        && ft__onnx_attribute_of(n, "output_padding")->count == 2)
        for (i = 0; i < 2; ++i)
            more[i] = (int)(ft__onnx_attribute_of(n, "output_padding")->wholes[i] & 0xffffff);
    y = *v;
    y.size[1] = ft__onnx_known((double)size[1] * groups);
    for (i = 0; i < 2; ++i)
        y.size[2 + i] = ft__onnx_known(w.same ? v->size[2 + i].k * w.stride[i]
            : (v->size[2 + i].k - 1) * w.stride[i] - w.padding[i] - w.padding[i + 2]
              + (double)w.dilation[i] * (w.kernel[i] - 1) + more[i] + 1);
    if (more[0] > 0 && more[1] == 0) { /* a second 0 means the first: what it adds is cut off */
        if (more[0] >= w.stride[1]) return "output_padding is supported below both strides";
        more[1] = more[0];
        w.padding[3] += more[0];
    }
    return ft__onnx_make_conv(x, n, "conv_transpose2d", &w, size, w.same ? NULL : more, &y);
}

/* Resize of opset 10: X, scales; since 11 X, roi, scales, sizes. Upsample is the former. */
static const char *ft__onnx_resize(ft__onnx *x, const ft__onnx_node *n)
{
    static const char *const coordinates[] = {"half_pixel", "asymmetric", "align_corners",
                                              "pytorch_half_pixel"};
    static const char *const roundings[] = {"floor", "ceil", "round_prefer_floor",
                                            "round_prefer_ceil"};
    ft__onnx_value *v = ft__onnx_node_in(x, n, 0), y;
    bool old = x->opset < 11 || strcmp(n->op, "Upsample") == 0, linear;
    double to[FT__ONNX_RANK];
    int size[2], d, k, count, rounding = 2, place = 0, made;
    const char *mode = ft__onnx_text(n, "mode", "nearest"), *text;
    ft__text fields = ft__onnx_fields(x);
    linear = strcmp(mode, "linear") == 0 || strcmp(mode, "bilinear") == 0;
    if (!v) return ft__onnx_needs_node;
    if (!ft__onnx_is_picture(v)) return "is supported over [N, C, H, W]";
    if (!linear && strcmp(mode, "nearest") != 0) return "is supported as nearest and as linear";
    if (ft__onnx_int(n, "antialias", 0) || ft__onnx_attribute_of(n, "axes")
        || strcmp(ft__onnx_text(n, "keep_aspect_ratio_policy", "stretch"), "stretch") != 0)
        return "antialias, axes and keep_aspect_ratio_policy are not supported";
    y = *v;
    text = ft__onnx_text(n, "coordinate_transformation_mode", old ? "asymmetric" : "half_pixel");
    for (k = 0; k < 4; ++k) {
        if (strcmp(text, coordinates[k]) == 0) place = k + 1;
        if (strcmp(ft__onnx_text(n, "nearest_mode", old ? "floor" : "round_prefer_floor"),
                   roundings[k]) == 0) rounding = k;
    }
    if (!place) return "its coordinate_transformation_mode is not supported";
    count = ft__onnx_wholes(x, ft__onnx_input(x, n, old ? 1 : 2), to, FT__ONNX_RANK);
    for (d = 0; count == 4 && d < 4; ++d) y.size[d].k = floor(v->size[d].k * to[d]);
    if (count != 4) { /* sizes, the batch's among them */
        ft__onnx_value *sizes = ft__onnx_input(x, n, 3);
        if (!sizes || sizes->kind != FT__ONNX_CONSTANT || ft__onnx_count(sizes) != 4
            || !ft__onnx_numbers(x, sizes)) return ft__onnx_not_known;
        for (d = 0; d < 4; ++d) y.size[d] = ft__onnx_at(sizes, d);
    }
    if (x->batch > 0 && y.size[0].n == 0) y.size[0] = v->size[0];
    if (!ft__onnx_equal(y.size[0], v->size[0]) || !ft__onnx_equal(y.size[1], v->size[1]))
        return "of the batch and of channels is not supported";
    for (d = 0; d < 2; ++d) size[d] = ft__onnx_size(y.size[2 + d]);
    if (size[0] < 1 || size[1] < 1) return ft__onnx_not_known;
    ft__json_add_ints(&fields, "size", size, 2);
    if (count == 4) {
        ft__text_add(&fields, ",\"scale\":[");
        ft__onnx_write_number(&fields, to[2]);
        ft__text_add(&fields, ",");
        ft__onnx_write_number(&fields, to[3]);
        ft__text_add(&fields, "]");
    }
    ft__onnx_add_int(&fields, "mode", linear);
    ft__onnx_add_int(&fields, "coordinates", place);
    if (!linear) ft__onnx_add_int(&fields, "rounding", rounding);
    made = ft__onnx_make_one(x, "resize", ft__onnx_name_of(x, n), v->made, &fields);
    return ft__onnx_is_made(x, n, 0, made, &y);
}

static const char *ft__onnx_pool(ft__onnx *x, const ft__onnx_node *n)
{
    ft__onnx_value *v = ft__onnx_node_in(x, n, 0), y, flat;
    bool maximum = strcmp(n->op, "MaxPool") == 0, ceil_mode = ft__onnx_int(n, "ceil_mode", 0) != 0;
    ft__onnx_window w;
    const char *fault, *name = ft__onnx_name_of(x, n);
    int made;
    ft__text fields = ft__onnx_fields(x);
    if (!v) return ft__onnx_needs_node;
    if ((v->rank != 3 && v->rank != 4) || v->batch != 0 || ft__onnx_is_merged(v))
        return "is supported over [N, C, H, W] and [N, C, L]";
    if (n->output_count > 1 && n->outputs[1] >= 0 && x->values[n->outputs[1]].uses)
        return "its indices are not supported";
    memset(&w, 0, sizeof w);
    w.steps = v->rank == 3;
    w.kernel[0] = 1;
    y = *v;
    fault = ft__onnx_window_of(n, v, &w);
    if (!fault && (w.dilation[0] > 1 || w.dilation[1] > 1)) fault = "dilations are not supported";
    if (!fault) fault = ft__onnx_window_sizes(&w, ceil_mode, v, &y);
    if (fault) return fault;
    ft__json_add_ints(&fields, "kernel", w.kernel, 2);
    ft__onnx_add_window(&fields, &w, false);
    ft__onnx_add_flag(&fields, "ceil_mode", ceil_mode);
    if (!maximum)
        ft__onnx_add_flag(&fields, "exclude_padding", !ft__onnx_int(n, "count_include_pad", 0));
    made = v->made;
    flat = *v;
    if (w.steps) { /* as pictures of one row */
        flat.rank = 4;
        flat.size[3] = v->size[2];
        flat.size[2] = ft__onnx_known(1);
        made = ft__onnx_make_shape(x, ft__onnx_name(x, name, ".picture"), made, v, &flat);
        flat.size[3] = y.size[2];
    }
    made = ft__onnx_make_one(x, maximum ? "max_pool2d" : "avg_pool2d",
                             w.steps ? ft__onnx_name(x, name, ".pool") : name, made, &fields);
    if (w.steps) made = ft__onnx_make_shape(x, name, made, &flat, &y);
    return ft__onnx_is_made(x, n, 0, made, &y);
}

static const char *ft__onnx_global_pool(ft__onnx *x, const ft__onnx_node *n)
{
    ft__onnx_value *v = ft__onnx_node_in(x, n, 0), y;
    bool mean = strcmp(n->op, "GlobalAveragePool") == 0;
    int axes[FT__ONNX_RANK], d, made;
    ft__text fields = ft__onnx_fields(x);
    if (!v) return ft__onnx_needs_node;
    if (v->batch != 0 || v->rank < 3 || ft__onnx_is_merged(v)) return "needs an input [N, C, ...]";
    y = *v;
    for (d = 2; d < v->rank; ++d) {
        y.size[d] = ft__onnx_known(1);
        axes[d - 2] = d;
    }
    if (ft__onnx_is_picture(v))
        made = ft__onnx_make_one(x, mean ? "global_avg_pool" : "global_max_pool",
                                 ft__onnx_name_of(x, n), v->made, NULL);
    else {
        ft__json_add_ints(&fields, "axes", axes, v->rank - 2);
        ft__onnx_add_int(&fields, "count", v->rank - 2);
        ft__onnx_add_flag(&fields, "keep", true);
        made = ft__onnx_make_one(x, mean ? "mean" : "amax", ft__onnx_name_of(x, n), v->made,
                                 &fields);
    }
    return ft__onnx_is_made(x, n, 0, made, &y);
}

/* ---- Norms ---- */

static const char *ft__onnx_batch_norm(ft__onnx *x, const ft__onnx_node *n)
{
    ft__onnx_value *v = ft__onnx_node_in(x, n, 0), flat;
    int inputs[5], i, made;
    const char *name = ft__onnx_name_of(x, n);
    ft__text fields = ft__onnx_fields(x);
    if (!v) return ft__onnx_needs_node;
    if (v->batch != 0 || ft__onnx_is_merged(v) || v->rank < 2 || v->rank > 4 || n->input_count != 5)
        return "is supported over [N, C], [N, C, L] and [N, C, H, W]";
    flat = *v;
    inputs[0] = v->made;
    if (v->rank == 3) {
        flat.rank = 4;
        flat.size[3] = ft__onnx_known(1);
        inputs[0] = ft__onnx_make_shape(x, ft__onnx_name(x, name, ".picture"), v->made, v, &flat);
    }
    for (i = 1; i < 5; ++i) {
        inputs[i] = ft__onnx_vector(x, ft__onnx_input(x, n, i), i < 3 ? "parameter" : "buffer");
        if (inputs[i] < 0) return "its weights cannot be read";
    }
    ft__onnx_add_number(&fields, "eps", (double)ft__onnx_float(n, "epsilon", 1e-5f));
    ft__onnx_add_number(&fields, "momentum", 1 - (double)ft__onnx_float(n, "momentum", 0.9f));
    made = ft__onnx_make(x, "batch_norm", v->rank == 3 ? ft__onnx_name(x, name, ".norm") : name,
                         inputs, 5, &fields);
    if (v->rank == 3) made = ft__onnx_make_shape(x, name, made, &flat, v);
    return ft__onnx_is_made(x, n, 0, made, v);
}

/* A constant vector whose numbers are all the same. */
static int ft__onnx_vector_of(ft__onnx *x, const char *name, int count, double number)
{
    ft__onnx_value *v, shape;
    int i;
    memset(&shape, 0, sizeof shape);
    shape.rank = 1;
    shape.size[0] = ft__onnx_known(count);
    v = count < 1 ? NULL : ft__onnx_new_constant(x, name, &shape);
    if (!v) return -1;
    for (i = 0; i < count; ++i) v->numbers[i] = ft__onnx_known(number);
    return ft__onnx_weight(x, v, "parameter", &count, 1);
}

static const char *ft__onnx_layer_norm(ft__onnx *x, const ft__onnx_node *n)
{
    ft__onnx_value *v = ft__onnx_node_in(x, n, 0), *bias = ft__onnx_input(x, n, 2);
    int inputs[3], axis, count;
    const char *name = ft__onnx_name_of(x, n);
    ft__text fields = ft__onnx_fields(x);
    if (!v) return ft__onnx_needs_node;
    axis = ft__onnx_axis((double)ft__onnx_int(n, "axis", -1), v->rank);
    if (axis != v->rank - 1 || axis == v->batch) return "is supported over the last axis";
    count = ft__onnx_size(v->size[axis]);
    inputs[0] = v->made;
    inputs[1] = ft__onnx_vector(x, ft__onnx_input(x, n, 1), "parameter");
    inputs[2] = bias ? ft__onnx_vector(x, bias, "parameter")
                     : ft__onnx_vector_of(x, ft__onnx_name(x, name, ".bias"), count, 0);
    if (inputs[1] < 0 || inputs[2] < 0) return "its weights cannot be read";
    ft__onnx_add_number(&fields, "eps", (double)ft__onnx_float(n, "epsilon", 1e-5f));
    return ft__onnx_is_made(x, n, 0, ft__onnx_make(x, "layer_norm", name, inputs, 3, &fields), v);
}

/* InstanceNormalization: a group norm with a group for each channel; GroupNormalization since opset
   21 has weights for each channel. */
static const char *ft__onnx_group_norm(ft__onnx *x, const ft__onnx_node *n)
{
    ft__onnx_value *v = ft__onnx_node_in(x, n, 0);
    bool instance = strcmp(n->op, "InstanceNormalization") == 0;
    int inputs[3], channels;
    ft__text fields = ft__onnx_fields(x);
    if (!v) return ft__onnx_needs_node;
    if (!ft__onnx_is_picture(v)) return "is supported over [N, C, H, W]";
    channels = ft__onnx_size(v->size[1]);
    inputs[0] = v->made;
    inputs[1] = ft__onnx_vector(x, ft__onnx_input(x, n, 1), "parameter");
    inputs[2] = ft__onnx_vector(x, ft__onnx_input(x, n, 2), "parameter");
    if (inputs[1] < 0 || inputs[2] < 0
        || (!instance && !ft__onnx_is(ft__onnx_input(x, n, 1)->size[0], channels)))
        return "needs a weight and a bias for each channel";
    ft__onnx_add_int(&fields, "groups", instance ? channels
                     : (int)ft__onnx_int(n, "num_groups", 1));
    ft__onnx_add_number(&fields, "eps", (double)ft__onnx_float(n, "epsilon", 1e-5f));
    return ft__onnx_is_made(x, n, 0, ft__onnx_make(x, "group_norm", ft__onnx_name_of(x, n), inputs,
                                                   3, &fields), v);
}

/* ---- Products ---- */

static const char *ft__onnx_gemm(ft__onnx *x, const ft__onnx_node *n)
{
    ft__onnx_value *v = ft__onnx_node_in(x, n, 0), *b = ft__onnx_input(x, n, 1), y;
    ft__onnx_value *c = ft__onnx_input(x, n, 2);
    float alpha = ft__onnx_float(n, "alpha", 1), beta = ft__onnx_float(n, "beta", 1);
    bool as_is = ft__onnx_int(n, "transB", 0) != 0;
    int inputs[3];
    if (!v) return ft__onnx_needs_node;
    if (ft__onnx_int(n, "transA", 0) || v->batch != 0 || v->rank != 2 || !b
        || b->kind != FT__ONNX_CONSTANT || b->rank != 2 || alpha < 1 || alpha > 1
        || (c && (beta < 1 || beta > 1)))
        return "is supported as x W + b, with constant weights and factors of 1";
    if (!ft__onnx_equal(v->size[1], b->size[as_is])) return "its sizes do not fit";
    y = *v;
    y.size[1] = b->size[!as_is];
    inputs[0] = v->made;
    inputs[1] = ft__onnx_matrix(x, b, as_is);
    if (c) inputs[2] = ft__onnx_vector(x, c, "parameter");
    if (inputs[1] < 0 || (c && inputs[2] < 0)) return "its weights cannot be read";
    return ft__onnx_is_made(x, n, 0, ft__onnx_make(x, "linear", ft__onnx_name_of(x, n), inputs,
                                                   2 + (c != NULL), NULL), &y);
}

static const char *ft__onnx_matmul(ft__onnx *x, const ft__onnx_node *n)
{
    ft__onnx_value *a = ft__onnx_node_in(x, n, 0), *b = ft__onnx_input(x, n, 1), y;
    int d, weight;
    if (!a || !b) return ft__onnx_needs_node;
    y = *a;
    if (b->kind == FT__ONNX_CONSTANT) {
        if (a->rank < 2 || a->batch == a->rank - 1 || b->rank < 2
            || !ft__onnx_equal(a->size[a->rank - 1], b->size[b->rank - 2]))
            return "its sizes do not fit";
        y.size[y.rank - 1] = b->size[b->rank - 1];
        weight = ft__onnx_matrix(x, b, false);
        if (weight < 0) return "its weight is not one matrix";
        return ft__onnx_is_made(x, n, 0, ft__onnx_make_two(x, "linear", ft__onnx_name_of(x, n),
                                                           a->made, weight, NULL), &y);
    }
    if (a->rank != b->rank || a->batch != b->batch || a->batch >= a->rank - 2)
        return "of two nodes is supported with the same axes before the last two";
    for (d = 0; d < a->rank - 2; ++d)
        if (!ft__onnx_equal(a->size[d], b->size[d])) return "its sizes do not fit";
    if (!ft__onnx_equal(a->size[d + 1], b->size[d])) return "its sizes do not fit";
    y.size[d + 1] = b->size[d + 1];
    return ft__onnx_is_made(x, n, 0, ft__onnx_make_two(x, "matmul", ft__onnx_name_of(x, n), a->made,
                                                       b->made, NULL), &y);
}

static const char *ft__onnx_prelu(ft__onnx *x, const ft__onnx_node *n)
{
    ft__onnx_value *v = ft__onnx_node_in(x, n, 0), *slope = ft__onnx_input(x, n, 1);
    int made;
    if (!v || !slope) return ft__onnx_needs_node;
    if (v->batch != 0 || ft__onnx_is_merged(v) || v->rank < 2
        || (ft__onnx_count(slope) != 1 && !ft__onnx_is(v->size[1], (double)ft__onnx_count(slope))))
        return "is supported with one slope, or one for each channel";
    made = ft__onnx_vector(x, slope, "parameter");
    if (made < 0) return "its weights cannot be read";
    return ft__onnx_is_made(x, n, 0, ft__onnx_make_two(x, "prelu", ft__onnx_name_of(x, n), v->made,
                                                       made, NULL), v);
}

/* DepthToSpace: channels become pixels. */
static const char *ft__onnx_depth_to_space(ft__onnx *x, const ft__onnx_node *n)
{
    static const int crd[] = {0, 1, 4, 2, 5, 3}, dcr[] = {0, 3, 4, 1, 5, 2};
    ft__onnx_value *v = ft__onnx_node_in(x, n, 0), y, apart, turned;
    bool by_channel = strcmp(ft__onnx_text(n, "mode", "DCR"), "CRD") == 0;
    int block = (int)ft__onnx_int(n, "blocksize", 0), made, i;
    const char *name = ft__onnx_name_of(x, n);
    ft__text fields = ft__onnx_fields(x);
    double channels;
    if (!v) return ft__onnx_needs_node;
    channels = v->size[1].k / ((double)block * block);
    if (!ft__onnx_is_picture(v) || block < 1 || block > 1 << 12 || channels > floor(channels))
        return "is supported over [N, C, H, W]";
    apart = y = *v;
    apart.rank = 6;
    apart.size[by_channel ? 1 : 3] = ft__onnx_known(channels);
    apart.size[by_channel ? 2 : 1] = apart.size[by_channel ? 3 : 2] = ft__onnx_known(block);
    apart.size[4] = v->size[2];
    apart.size[5] = v->size[3];
    made = ft__onnx_make_shape(x, ft__onnx_name(x, name, ".apart"), v->made, v, &apart);
    turned = apart;
    for (i = 0; i < 6; ++i) turned.size[i] = apart.size[(by_channel ? crd : dcr)[i]];
    ft__json_add_ints(&fields, "axes", by_channel ? crd : dcr, 6);
    made = ft__onnx_make_one(x, "permute", ft__onnx_name(x, name, ".turned"), made, &fields);
    y.size[1] = ft__onnx_known(channels);
    y.size[2].k *= block;
    y.size[3].k *= block;
    return ft__onnx_is_made(x, n, 0, ft__onnx_make_shape(x, name, made, &turned, &y), &y);
}
#endif
