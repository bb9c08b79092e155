#pragma once
#include "interface/types.h"
#include "platform/families.h"
#include "basics/strings.h"
#include "basics/json.h"
#include "formats/onnx_file.h"
#include "formats/onnx_values.h"
#include "formats/onnx_quantised.h"
#include "formats/onnx_making.h"
#include "formats/onnx_elements.h"
#include "formats/onnx_shapes.h"

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

/* A convolution of `input`, whose weight has these sizes; `more`: its output_padding, or NULL. -1:
   its weights cannot be read. */
static int ft__onnx_make_conv(ft__onnx *x, const ft__onnx_node *n, const char *op, const char *name,
                              int input, const ft__onnx_window *w, const int *size, int rank,
                              const int *more)
{
    ft__onnx_value *bias = ft__onnx_input(x, n, 2);
    int inputs[3];
    ft__text fields = ft__onnx_fields(x);
    inputs[0] = input;
    inputs[1] = ft__onnx_weight(x, ft__onnx_input(x, n, 1), "parameter", size, rank);
    if (bias) inputs[2] = ft__onnx_vector(x, bias, "parameter");
    ft__onnx_add_window(&fields, w, true);
    if (more) ft__json_add_ints(&fields, "output_padding", more, 2);
    ft__onnx_add_int(&fields, "groups", (int)ft__onnx_int(n, "group", 1));
    return ft__onnx_make(x, op, name, inputs, 2 + (bias != NULL), &fields);
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
    d = ft__onnx_make_conv(x, n, w.steps ? "conv1d" : "conv2d", ft__onnx_name_of(x, n), v->made, &w,
                           size, y.rank, NULL);
    return d < 0 ? "its weights cannot be read" : ft__onnx_is_made(x, n, 0, d, &y);
}

/* Steps [N, C, L] as pictures of one row; `flat` gets their shape. */
static int ft__onnx_make_row(ft__onnx *x, const char *name, const ft__onnx_value *v,
                             ft__onnx_value *flat)
{
    *flat = *v;
    flat->rank = 4;
    flat->size[3] = v->size[2];
    flat->size[2] = ft__onnx_known(1);
    return ft__onnx_make_shape(x, name, v->made, v, flat);
}

/* What a ConvTranspose with output_shape pads, so that y gets it: a number is cut off at both ends,
   one more at the first, or with SAME_UPPER at the last; what is missing is added at the last. */
static void ft__onnx_pad_to(const ft__onnx_node *n, const ft__onnx_value *v, ft__onnx_window *w,
                            int *more)
{
    const ft__onnx_attribute *a = ft__onnx_attribute_of(n, "output_shape");
    bool upper = strcmp(ft__onnx_text(n, "auto_pad", "NOTSET"), "SAME_UPPER") == 0;
    int i, axes = w->steps ? 1 : 2;
    for (i = 0; i < axes; ++i) {
        int at = i + w->steps;
        double wants = a->count == axes ? (double)a->wholes[i] : 0;
        double all = (v->size[2 + i].k - 1) * w->stride[at] + more[at] + 1
            + (double)w->dilation[at] * (w->kernel[at] - 1) - wants;
        int cut = all > 0 && all < 1 << 24 ? (int)all : 0;
        w->padding[at] = upper ? cut / 2 : cut - cut / 2;
        w->padding[at + 2] = cut - w->padding[at];
        if (all < 0 && all > -(1 << 24)) more[at] += (int)-all;
    }
    w->same = false;
}

/* The sizes of a ConvTranspose's output, from those of v. */
static void ft__onnx_transposed_sizes(const ft__onnx_window *w, const int *more,
                                      const ft__onnx_value *v, ft__onnx_value *y)
{
    int i;
    for (i = w->steps; i < 2; ++i) {
        int d = 2 + i - w->steps;
        y->size[d] = ft__onnx_known(w->same ? v->size[d].k * w->stride[i]
            : (v->size[d].k - 1) * w->stride[i] - w->padding[i] - w->padding[i + 2]
              + (double)w->dilation[i] * (w->kernel[i] - 1) + more[i] + 1);
    }
}

static const char *ft__onnx_conv_transpose(ft__onnx *x, const ft__onnx_node *n)
{
    ft__onnx_value *v = ft__onnx_node_in(x, n, 0), *weight = ft__onnx_input(x, n, 1), y, flat;
    const ft__onnx_attribute *added = ft__onnx_attribute_of(n, "output_padding");
    const char *fault, *name = ft__onnx_name_of(x, n);
    ft__onnx_window w;
    int size[4], more[2] = {0, 0}, i, made, groups = (int)ft__onnx_int(n, "group", 1);
    if (!v) return ft__onnx_needs_node;
    memset(&w, 0, sizeof w);
    w.steps = v->rank == 3;
    if ((!ft__onnx_is_picture(v) && !w.steps) || v->batch != 0 || ft__onnx_is_merged(v) || !weight
        || weight->rank != v->rank || weight->kind != FT__ONNX_CONSTANT || groups < 1
        || (w.steps && ft__onnx_size(v->size[2]) < 1))
        return "is supported over [N, C, H, W] and [N, C, L], with constant weights";
    for (i = 0; i < 4; ++i) size[i] = ft__onnx_size(weight->size[i < 2 || !w.steps ? i : i - 1]);
    if (w.steps) size[2] = 1;
    w.kernel[0] = size[2];
    w.kernel[1] = size[3];
    fault = ft__onnx_window_of(n, v, &w);
    if (fault) return fault;
    if (strcmp(ft__onnx_text(n, "auto_pad", "NOTSET"), "SAME_LOWER") == 0)
        return "auto_pad SAME_LOWER is not supported";
    for (i = 0; added && i < added->count && i < 2 - w.steps; ++i)
        more[i + w.steps] = (int)(added->wholes[i] & 0xffffff);
    if (ft__onnx_attribute_of(n, "output_shape")) ft__onnx_pad_to(n, v, &w, more);
    y = *v;
    y.size[1] = ft__onnx_known((double)size[1] * groups);
    ft__onnx_transposed_sizes(&w, more, v, &y);
    if (more[0] > 0 && more[1] == 0) { /* a second 0 means the first: what it adds is cut off */
        if (more[0] >= w.stride[1]) return "output_padding is supported below both strides";
        more[1] = more[0];
        w.padding[3] += more[0];
    }
    flat = *v;
    made = v->made;
    if (w.steps) made = ft__onnx_make_row(x, ft__onnx_name(x, name, ".picture"), v, &flat);
    made = ft__onnx_make_conv(x, n, "conv_transpose2d", w.steps ? ft__onnx_name(x, name, ".conv")
                              : name, made, &w, size, 4, w.same ? NULL : more);
    if (made < 0) return "its weights cannot be read";
    if (w.steps) {
        flat.size[1] = y.size[1];
        flat.size[3] = y.size[2];
        made = ft__onnx_make_shape(x, name, made, &flat, &y);
    }
    return ft__onnx_is_made(x, n, 0, made, &y);
}

/* The sizes that a Resize gives y, and the ratios that it says for them, 0: none. Resize of opset
   10 has the inputs X, scales; since 11 X, roi, scales, sizes; Upsample is the former. NULL, or
   what is wrong. */
static const char *ft__onnx_resized(ft__onnx *x, const ft__onnx_node *n, bool old,
                                    const ft__onnx_value *v, ft__onnx_value *y, double *scale)
{
    ft__onnx_value *sizes = ft__onnx_input(x, n, 3);
    double to[FT__ONNX_RANK], axes[FT__ONNX_RANK];
    int listed = ft__onnx_list(x, n, "axes", -1, axes, FT__ONNX_RANK), i, axis;
    int all = listed < 0 ? v->rank : listed;
    int count = ft__onnx_wholes(x, ft__onnx_input(x, n, old ? 1 : 2), to, FT__ONNX_RANK);
    for (i = 0; i < v->rank; ++i) scale[i] = 0;
    if (count != all && (!sizes || sizes->kind != FT__ONNX_CONSTANT
                         || ft__onnx_count(sizes) != all || !ft__onnx_numbers(x, sizes)))
        return ft__onnx_not_known;
    for (i = 0; i < all; ++i) {
        axis = listed < 0 ? i : ft__onnx_axis(axes[i], v->rank);
        if (axis < 0) return "has no such axis";
        if (count != all) y->size[axis] = ft__onnx_at(sizes, i);
        else {
            y->size[axis].k = floor(v->size[axis].k * to[i]);
            scale[axis] = to[i];
        }
    }
    if (x->batch > 0 && y->size[0].n == 0) y->size[0] = v->size[0];
    return ft__onnx_equal(y->size[0], v->size[0]) && ft__onnx_equal(y->size[1], v->size[1]) ? NULL
        : "of the batch and of channels is not supported";
}

static const char *ft__onnx_resize(ft__onnx *x, const ft__onnx_node *n)
{
    static const char *const coordinates[] = {"half_pixel", "asymmetric", "align_corners",
                                              "pytorch_half_pixel"};
    static const char *const roundings[] = {"floor", "ceil", "round_prefer_floor",
                                            "round_prefer_ceil"};
    ft__onnx_value *v = ft__onnx_node_in(x, n, 0), y;
    bool old = x->opset < 11 || strcmp(n->op, "Upsample") == 0, linear;
    double scale[FT__ONNX_RANK];
    int size[2] = {0, 0}, d, k, rounding = 2, place = 0, made;
    const char *mode = ft__onnx_text(n, "mode", "nearest"), *text, *fault;
    ft__text fields = ft__onnx_fields(x);
    linear = strcmp(mode, "linear") == 0 || strcmp(mode, "bilinear") == 0;
    if (!v) return ft__onnx_needs_node;
    if (!ft__onnx_is_picture(v) && (v->rank != 3 || v->batch != 0 || ft__onnx_is_merged(v)
                                    || ft__onnx_size(v->size[2]) < 1))
        return "is supported over [N, C, H, W] and [N, C, L]";
    if (!linear && strcmp(mode, "nearest") != 0) return "is supported as nearest and as linear";
    if (ft__onnx_int(n, "antialias", 0)
        || strcmp(ft__onnx_text(n, "keep_aspect_ratio_policy", "stretch"), "stretch") != 0)
        return "antialias and keep_aspect_ratio_policy are not supported";
    y = *v;
    text = ft__onnx_text(n, "coordinate_transformation_mode", old ? "asymmetric" : "half_pixel");
    for (k = 0; k < 4; ++k) {
        if (strcmp(text, coordinates[k]) == 0) place = k + 1;
        if (strcmp(ft__onnx_text(n, "nearest_mode", old ? "floor" : "round_prefer_floor"),
                   roundings[k]) == 0) rounding = k;
    }
    if (!place) return "its coordinate_transformation_mode is not supported";
    fault = ft__onnx_resized(x, n, old, v, &y, scale);
    if (fault) return fault;
    for (d = 2; d < v->rank; ++d) {
        size[d - 2] = ft__onnx_size(y.size[d]);
        if (size[d - 2] < 1) return ft__onnx_not_known;
    }
    ft__json_add_ints(&fields, "size", size, 2);
    if (scale[2] > 0 && scale[v->rank - 1] > 0) {
        ft__text_add(&fields, ",\"scale\":[");
        ft__onnx_write_number(&fields, scale[2]);
        ft__text_add(&fields, ",");
        ft__onnx_write_number(&fields, v->rank == 4 ? scale[3] : 0);
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
        made = ft__onnx_make_row(x, ft__onnx_name(x, name, ".picture"), v, &flat);
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
        ft__onnx_add_reduction(&fields, axes, v->rank - 2, true);
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

/* The mean of each row, and 1 / its standard deviation: LayerNormalization's outputs 1 and 2, if
   they are used. v: the rows. */
static const char *ft__onnx_row_statistics(ft__onnx *x, const ft__onnx_node *n,
                                           const ft__onnx_value *v, const ft__onnx_value *y)
{
    ft__onnx_number own[FT__ONNX_RANK + 1];
    int last = ft__onnx_own(v, own) - 1, made, k;
    const char *fault = NULL;
    ft__onnx_value row = *v;
    row.size[v->rank - 1] = ft__onnx_known(1);
    for (k = 1; k < 3 && !fault; ++k) {
        ft__onnx_value *to = ft__onnx_output(x, n, k);
        const char *name = to ? to->name : "";
        ft__text fields = ft__onnx_fields(x), again = ft__onnx_fields(x), root = ft__onnx_fields(x);
        if (!to || !to->uses) continue;
        ft__onnx_add_reduction(&fields, &last, 1, true);
        made = ft__onnx_make_one(x, "mean", ft__onnx_name(x, name, ".mean"), v->made, &fields);
        if (k == 2) {
            made = ft__onnx_make_two(x, "sub", ft__onnx_name(x, name, ".centred"), v->made, made,
                                     NULL);
            made = ft__onnx_make_two(x, "mul", ft__onnx_name(x, name, ".square"), made, made, NULL);
            ft__onnx_add_reduction(&again, &last, 1, true);
            made = ft__onnx_make_one(x, "mean", ft__onnx_name(x, name, ".var"), made, &again);
            made = ft__onnx_make_affine(x, ft__onnx_name(x, name, ".eps"), made, 1,
                                        (double)ft__onnx_float(n, "epsilon", 1e-5f));
            ft__onnx_add_number(&root, "exponent", -0.5);
            made = ft__onnx_make_one(x, "pow", ft__onnx_name(x, name, ".rows"), made, &root);
        }
        fault = ft__onnx_is_made(x, n, k, ft__onnx_make_shape(x, name, made, &row, y), y);
    }
    return fault;
}

/* Over the last axes, as one. */
static const char *ft__onnx_layer_norm(ft__onnx *x, const ft__onnx_node *n)
{
    ft__onnx_value *v = ft__onnx_node_in(x, n, 0), *bias = ft__onnx_input(x, n, 2), rows, y;
    int inputs[3], axis, count, made, d;
    const char *name = ft__onnx_name_of(x, n), *fault;
    ft__text fields = ft__onnx_fields(x);
    if (!v) return ft__onnx_needs_node;
    axis = ft__onnx_axis((double)ft__onnx_int(n, "axis", -1), v->rank);
    if (axis <= v->batch) return "over the batch is not supported";
    y = rows = *v;
    rows.rank = axis + 1;
    rows.size[axis] = ft__onnx_product(v, axis, v->rank);
    for (d = axis; d < v->rank; ++d) y.size[d] = ft__onnx_known(1);
    count = ft__onnx_size(rows.size[axis]);
    inputs[0] = rows.made = ft__onnx_make_shape(x, ft__onnx_name(x, name, ".in"), v->made, v,
                                                &rows);
    inputs[1] = ft__onnx_vector(x, ft__onnx_input(x, n, 1), "parameter");
    inputs[2] = bias ? ft__onnx_vector(x, bias, "parameter")
                     : ft__onnx_vector_of(x, ft__onnx_name(x, name, ".bias"), count, 0);
    if (count < 1 || inputs[1] < 0 || inputs[2] < 0
        || !ft__onnx_is(ft__onnx_product(ft__onnx_input(x, n, 1), 0, ft__onnx_input(x, n, 1)->rank),
                        count)) return "needs a weight for each number of its axes";
    v = ft__onnx_node_in(x, n, 0); /* values may have moved */
    ft__onnx_add_number(&fields, "eps", (double)ft__onnx_float(n, "epsilon", 1e-5f));
    made = ft__onnx_make(x, "layer_norm", axis + 1 < v->rank ? ft__onnx_name(x, name, ".rows")
                                                             : name, inputs, 3, &fields);
    fault = ft__onnx_is_made(x, n, 0, ft__onnx_make_shape(x, name, made, &rows, v), v);
    return fault ? fault : ft__onnx_row_statistics(x, n, &rows, &y);
}

/* InstanceNormalization: a group norm with a group for each channel; GroupNormalization since opset
   21 has weights for each channel. */
static const char *ft__onnx_group_norm(ft__onnx *x, const ft__onnx_node *n)
{
    ft__onnx_value *v = ft__onnx_node_in(x, n, 0);
    bool instance = strcmp(n->op, "InstanceNormalization") == 0;
    int inputs[3], channels, made;
    const char *name = ft__onnx_name_of(x, n);
    ft__onnx_value flat;
    ft__text fields = ft__onnx_fields(x);
    if (!v) return ft__onnx_needs_node;
    if (v->batch != 0 || v->rank < 3 || ft__onnx_is_merged(v)
        || ft__onnx_size(ft__onnx_product(v, 1, v->rank)) < 1)
        return "is supported over [N, C, ...] of known sizes";
    channels = ft__onnx_size(v->size[1]);
    flat = *v;
    flat.rank = 4;
    flat.size[2] = v->rank == 4 ? v->size[2] : ft__onnx_known(1);
    flat.size[3] = ft__onnx_product(v, v->rank == 4 ? 3 : 2, v->rank);
    inputs[0] = v->made;
    if (v->rank != 4)
        inputs[0] = ft__onnx_make_shape(x, ft__onnx_name(x, name, ".picture"), v->made, v, &flat);
    inputs[1] = ft__onnx_vector(x, ft__onnx_input(x, n, 1), "parameter");
    inputs[2] = ft__onnx_vector(x, ft__onnx_input(x, n, 2), "parameter");
    if (inputs[1] < 0 || inputs[2] < 0
        || (!instance && !ft__onnx_is(ft__onnx_input(x, n, 1)->size[0], channels)))
        return "needs a weight and a bias for each channel";
    ft__onnx_add_int(&fields, "groups", instance ? channels
                     : (int)ft__onnx_int(n, "num_groups", 1));
    ft__onnx_add_number(&fields, "eps", (double)ft__onnx_float(n, "epsilon", 1e-5f));
    made = ft__onnx_make(x, "group_norm", v->rank != 4 ? ft__onnx_name(x, name, ".norm") : name,
                         inputs, 3, &fields);
    if (v->rank != 4) made = ft__onnx_make_shape(x, name, made, &flat, v);
    return ft__onnx_is_made(x, n, 0, made, v);
}

/* ---- Products ---- */

/* alpha x W + beta c: a linear layer, whose bias is c if it is a vector and both factors are 1. */
static const char *ft__onnx_gemm(ft__onnx *x, const ft__onnx_node *n)
{
    ft__onnx_value *v = ft__onnx_node_in(x, n, 0), *b = ft__onnx_input(x, n, 1), y, of_c;
    ft__onnx_value *c = ft__onnx_input(x, n, 2);
    double alpha = (double)ft__onnx_float(n, "alpha", 1);
    double beta = (double)ft__onnx_float(n, "beta", 1);
    bool as_is = ft__onnx_int(n, "transB", 0) != 0, one = !(beta < 1 || beta > 1);
    int inputs[3], made, across = ft__onnx_int(n, "transA", 0) != 0, d;
    const char *name = ft__onnx_name_of(x, n);
    if (!v) return ft__onnx_needs_node;
    if (v->batch != across || v->rank != 2 || !b || b->kind != FT__ONNX_CONSTANT || b->rank != 2)
        return "is supported as x W + b, with constant weights W";
    if (!ft__onnx_equal(v->size[!across], b->size[as_is])) return "its sizes do not fit";
    y = *v;
    y.batch = 0;
    y.size[0] = v->size[across];
    y.size[1] = b->size[!as_is];
    inputs[0] = v->made;
    inputs[1] = ft__onnx_matrix(x, b, as_is);
    if (inputs[1] < 0) return "its weights cannot be read";
    if (c && one && !(alpha < 1 || alpha > 1) && c->rank > 0 && c->kind == FT__ONNX_CONSTANT
        && ft__onnx_equal(c->size[c->rank - 1], y.size[1])
        && ft__onnx_is(ft__onnx_product(c, 0, c->rank - 1), 1)) {
        inputs[2] = ft__onnx_vector(x, c, "parameter");
        if (inputs[2] < 0) return "its weights cannot be read";
        return ft__onnx_is_made(x, n, 0, ft__onnx_make(x, "linear", name, inputs, 3, NULL), &y);
    }
    made = ft__onnx_make(x, "linear", c ? ft__onnx_name(x, name, ".product") : name, inputs, 2,
                         NULL);
    if (alpha < 1 || alpha > 1)
        made = ft__onnx_make_affine(x, ft__onnx_name(x, name, ".alpha"), made, alpha, 0);
    if (!c) return ft__onnx_is_made(x, n, 0, made, &y);
    of_c = *c;
    for (d = 0; d < c->rank && c->kind == FT__ONNX_CONSTANT; ++d)
        if (c->rank > 2 || (c->rank - d == 2 && !ft__onnx_is(c->size[d], 1)))
            return "a constant that differs from sample to sample is not supported";
    if (c->kind == FT__ONNX_NODE && (c->batch != 0 || c->rank != 2))
        return "its sizes do not fit";
    inputs[1] = ft__onnx_operand(x, c->kind == FT__ONNX_NODE ? &of_c : c, &y, true,
                                 ft__onnx_name(x, name, ".number"));
    if (inputs[1] < 0) return "its weights cannot be read";
    if (!one)
        inputs[1] = ft__onnx_make_affine(x, ft__onnx_name(x, name, ".beta"), inputs[1], beta, 0);
    return ft__onnx_is_made(x, n, 0, ft__onnx_make_two(x, "add", name, made, inputs[1], NULL), &y);
}

/* A constant matrix times a node: a linear layer of the node with its last two axes exchanged. */
static const char *ft__onnx_matmul_left(ft__onnx *x, const ft__onnx_node *n)
{
    ft__onnx_value *a = ft__onnx_input(x, n, 0), *b = ft__onnx_node_in(x, n, 1), turned, y;
    const char *name = ft__onnx_name_of(x, n);
    int axes[FT__ONNX_RANK], d, weight;
    if (!a || !b || a->kind != FT__ONNX_CONSTANT) return ft__onnx_needs_node;
    if (b->rank < 2 || b->batch >= b->rank - 2 || a->rank < 2 || a->rank > b->rank
        || !ft__onnx_equal(a->size[a->rank - 1], b->size[b->rank - 2]))
        return "its sizes do not fit";
    weight = ft__onnx_matrix(x, a, true);
    if (weight < 0) return "its weight is not one matrix";
    for (d = 0; d < b->rank; ++d) axes[d] = d < b->rank - 2 ? d : 2 * b->rank - 3 - d;
    d = ft__onnx_make_turn(x, ft__onnx_name(x, name, ".turned"), b, axes, &turned);
    turned.made = ft__onnx_make_two(x, "linear", ft__onnx_name(x, name, ".product"), d, weight,
                                    NULL);
    turned.size[b->rank - 1] = a->size[a->rank - 2];
    d = ft__onnx_make_turn(x, name, &turned, axes, &y);
    return ft__onnx_is_made(x, n, 0, d, &y);
}

static const char *ft__onnx_matmul(ft__onnx *x, const ft__onnx_node *n)
{
    ft__onnx_value *a = ft__onnx_node_in(x, n, 0), *b = ft__onnx_input(x, n, 1), y;
    int d, weight;
    if (!a || !b) return ft__onnx_matmul_left(x, n);
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

/* ONNX Runtime's product with quantised weights [out, in]. */
static const char *ft__onnx_matmul_bits(ft__onnx *x, const ft__onnx_node *n)
{
    ft__onnx_value *v = ft__onnx_node_in(x, n, 0), *bias = ft__onnx_input(x, n, 5), *weight, y;
    const char *fault = NULL;
    int inputs[3];
    if (!v || !ft__onnx_input(x, n, 1)) return ft__onnx_needs_node;
    if (ft__onnx_input(x, n, 4)) return "g_idx is not supported";
    if (ft__onnx_input(x, n, 1)->type != FT__ONNX_F32) fault = ft__onnx_unpack_weight(x, n);
    if (fault) return fault;
    weight = ft__onnx_input(x, n, 1); /* another product may have unpacked it */
    if (v->rank < 2 || v->batch == v->rank - 1 || weight->rank != 2
        || !ft__onnx_equal(v->size[v->rank - 1], weight->size[1])) return "its sizes do not fit";
    y = *v;
    y.size[y.rank - 1] = weight->size[0];
    inputs[0] = v->made;
    inputs[1] = ft__onnx_matrix(x, weight, true);
    if (bias) inputs[2] = ft__onnx_vector(x, bias, "parameter");
    if (inputs[1] < 0 || (bias && inputs[2] < 0)) return "its weights cannot be read";
    return ft__onnx_is_made(x, n, 0, ft__onnx_make(x, "linear", ft__onnx_name_of(x, n), inputs,
                                                   2 + (bias != NULL), NULL), &y);
}

/* PRelu with slopes that are broadcast to x: relu(x) - slope relu(-x). */
static const char *ft__onnx_prelu_parts(ft__onnx *x, const ft__onnx_node *n)
{
    ft__onnx_node product = *n;
    ft__onnx_value *v = ft__onnx_node_in(x, n, 0);
    const char *name = ft__onnx_name_of(x, n), *fault;
    int inputs[2], output = ft__onnx_add_value(x, ft__onnx_name(x, name, ".product"));
    int low = ft__onnx_add_value(x, ft__onnx_name(x, name, ".low")), made, positive;
    if (output < 0 || low < 0) return NULL;
    v = ft__onnx_node_in(x, n, 0); /* values may have moved */
    made = ft__onnx_make_affine(x, ft__onnx_name(x, name, ".minus"), v->made, -1, 0);
    made = ft__onnx_make_one(x, "relu", x->values[low].name, made, NULL);
    product.op = "Mul";
    product.input_count = 2;
    product.inputs = inputs;
    product.outputs = &low;
    fault = ft__onnx_is_made(x, &product, 0, made, v);
    inputs[0] = low;
    inputs[1] = n->inputs[1];
    product.outputs = &output;
    if (!fault) fault = ft__onnx_pair(x, &product);
    if (fault) return fault;
    positive = ft__onnx_make_one(x, "relu", ft__onnx_name(x, name, ".high"), v->made, NULL);
    made = ft__onnx_make_two(x, "sub", name, positive, x->values[output].made, NULL);
    return ft__onnx_is_made(x, n, 0, made, v);
}

static const char *ft__onnx_prelu(ft__onnx *x, const ft__onnx_node *n)
{
    ft__onnx_value *v = ft__onnx_node_in(x, n, 0), *slope = ft__onnx_input(x, n, 1);
    int made, d;
    bool channels = slope && slope->rank < FT__ONNX_RANK;
    if (!v || !slope) return ft__onnx_needs_node;
    for (d = 0; d < slope->rank; ++d)
        channels = channels && (ft__onnx_is(slope->size[d], 1) || d + v->rank - slope->rank == 1);
    if (v->batch != 0 || ft__onnx_is_merged(v) || v->rank < 2 || slope->kind == FT__ONNX_NODE
        || (ft__onnx_count(slope) != 1
            && (!channels || !ft__onnx_is(v->size[1], (double)ft__onnx_count(slope)))))
        return ft__onnx_prelu_parts(x, n);
    made = ft__onnx_vector(x, slope, "parameter");
    if (made < 0) return "its weights cannot be read";
    return ft__onnx_is_made(x, n, 0, ft__onnx_make_two(x, "prelu", ft__onnx_name_of(x, n), v->made,
                                                       made, NULL), v);
}

/* A picture taken apart into more axes, which are turned and put together as y. */
static const char *ft__onnx_move_blocks(ft__onnx *x, const ft__onnx_node *n, ft__onnx_value *apart,
                                        const int *axes, const ft__onnx_value *y)
{
    const ft__onnx_value *v = ft__onnx_node_in(x, n, 0);
    const char *name = ft__onnx_name_of(x, n);
    ft__onnx_value turned;
    int made;
    apart->made = ft__onnx_make_shape(x, ft__onnx_name(x, name, ".apart"), v->made, v, apart);
    made = ft__onnx_make_turn(x, ft__onnx_name(x, name, ".turned"), apart, axes, &turned);
    return ft__onnx_is_made(x, n, 0, ft__onnx_make_shape(x, name, made, &turned, y), y);
}

/* SpaceToDepth: pixels of a block become channels, those of a place in the block together. */
static const char *ft__onnx_space_to_depth(ft__onnx *x, const ft__onnx_node *n)
{
    static const int axes[] = {0, 3, 5, 1, 2, 4};
    ft__onnx_value *v = ft__onnx_node_in(x, n, 0), y, apart;
    int block = (int)ft__onnx_int(n, "blocksize", 0);
    if (!v) return ft__onnx_needs_node;
    if (!ft__onnx_is_picture(v) || block < 1 || ft__onnx_size(v->size[2]) % block
        || ft__onnx_size(v->size[3]) % block) return "is supported over [N, C, H, W]";
    apart = y = *v;
    apart.rank = 6;
    apart.size[3] = apart.size[5] = ft__onnx_known(block);
    apart.size[2] = ft__onnx_over(v->size[2], apart.size[3]);
    apart.size[4] = ft__onnx_over(v->size[3], apart.size[3]);
    y.size[1].k *= (double)block * block;
    y.size[2] = apart.size[2];
    y.size[3] = apart.size[4];
    return ft__onnx_move_blocks(x, n, &apart, axes, &y);
}

/* DepthToSpace: channels become pixels. */
static const char *ft__onnx_depth_to_space(ft__onnx *x, const ft__onnx_node *n)
{
    static const int crd[] = {0, 1, 4, 2, 5, 3}, dcr[] = {0, 3, 4, 1, 5, 2};
    ft__onnx_value *v = ft__onnx_node_in(x, n, 0), y, apart;
    bool by_channel = strcmp(ft__onnx_text(n, "mode", "DCR"), "CRD") == 0;
    int block = (int)ft__onnx_int(n, "blocksize", 0);
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
    y.size[1] = ft__onnx_known(channels);
    y.size[2].k *= block;
    y.size[3].k *= block;
    return ft__onnx_move_blocks(x, n, &apart, by_channel ? crd : dcr, &y);
}
#endif
