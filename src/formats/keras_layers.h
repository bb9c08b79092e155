#pragma once
#include "interface/requirements.h"
#include "interface/types.h"
#include "platform/families.h"
#include "basics/strings.h"
#include "basics/json.h"
#include "formats/keras_nodes.h"
/* =============================================================================================
   [SECTION] formats/keras_layers: Keras' networks: layers
   Each function maps one class: it takes the values that a call gives the layer, adds nodes, and
   returns the result, -1 with a refusal. Shapes and defaults: keras.io/api/layers.
   ============================================================================================= */
#if FT__HAS_KERAS
typedef int (*ft__keras_function)(ft__keras *g, const int *inputs, int count);

/* ---- Convolutions and pooling: windows over one or two dimensions ---- */

typedef struct ft__keras_window {
    int dimensions;         /* 1 or 2 */
    int kernel[2], stride[2], dilation[2], padding[4]; /* of 1: the second, as in conv1d */
    bool same;
    int out[2];             /* sizes of the result, in Keras' order of dimensions */
} ft__keras_window;

/* 1 or 2, as the class is named: Conv1D, Conv2D. */
static int ft__keras_dimensions(const ft__keras *g)
{
    return strstr(g->class_name, "1D") ? 1 : 2;
}

/* The sizes after a window that moves over x; false, with a refusal, if there is none. */
static bool ft__keras_slide(ft__keras *g, int x, ft__keras_window *w)
{
    const ft__keras_value *v = ft__keras_at(g, x);
    int d, shift = 2 - w->dimensions;
    for (d = 0; d < w->dimensions; ++d) {
        int64_t size = v->size[1 + d], s = w->stride[d + shift];
        int64_t reach = (int64_t)w->dilation[d + shift] * (w->kernel[d + shift] - 1);
        int64_t padding = w->dimensions == 1 ? w->padding[1] + w->padding[3] : 0;
        if (size == FT_LENGTH) {
            if (s != 1 || (!w->same && padding != reach)) {
                ft__keras_refuse(g, "the number of steps is open, and would change: stride 1 and"
                                 " padding same or causal are expected");
                return false;
            }
            w->out[d] = FT_LENGTH;
            continue;
        }
        size = w->same ? (size + s - 1) / s : (size + padding - reach - 1) / s + 1;
        if (size < 1 || (!w->same && v->size[1 + d] + padding <= reach)) {
            ft__keras_refuse(g, "its window is larger than its input");
            return false;
        }
        w->out[d] = (int)size;
    }
    return true;
}

/* Reads kernel, strides, dilation and padding, and sets w->out but of transposed convolutions.
   `kernel`: the field's name. */
static bool ft__keras_read_window(ft__keras *g, int x, const char *kernel, int dimensions,
                                  ft__keras_window *w)
{
    const char *padding = ft__keras_word(g, "padding", "valid");
    int shift = 2 - dimensions, i, at[2];
    bool pools = !strcmp(kernel, "pool_size");
    memset(w, 0, sizeof *w);
    w->dimensions = dimensions;
    for (i = 0; i < 2; ++i) w->kernel[i] = w->stride[i] = w->dilation[i] = 1;
    if (ft__keras_at(g, x)->rank != dimensions + 2) {
        ft__keras_refuse(g, "its input has %d dimensions instead of %d", ft__keras_at(g, x)->rank,
                         dimensions + 2);
        return false;
    }
    if (!ft__keras_ints(g, kernel, dimensions, 1, pools ? 2 : 0, at)) return false;
    for (i = 0; i < dimensions; ++i) w->kernel[i + shift] = at[i];
    for (i = 0; i < dimensions; ++i) w->stride[i + shift] = pools ? at[i] : 1;
    if (ft__keras_field(g, "strides") >= 0) {
        if (!ft__keras_ints(g, "strides", dimensions, 1, 1, at)) return false;
        for (i = 0; i < dimensions; ++i) w->stride[i + shift] = at[i];
    }
    if (!ft__keras_ints(g, "dilation_rate", dimensions, 1, 1, at)) return false;
    for (i = 0; i < dimensions; ++i) w->dilation[i + shift] = at[i];
    w->same = !strcmp(padding, "same");
    if (!strcmp(padding, "causal") && dimensions == 1)
        w->padding[1] = w->dilation[1] * (w->kernel[1] - 1);
    else if (!w->same && strcmp(padding, "valid") != 0) {
        ft__keras_refuse(g, "padding %.40s", padding);
        return false;
    }
    return strstr(g->class_name, "Transpose") || ft__keras_slide(g, x, w);
}

static void ft__keras_window_text(ft__keras *g, const ft__keras_window *w)
{
    ft__json_add_ints(&g->text, "stride", w->stride, 2);
    if (w->same) ft__text_add(&g->text, ",\"same\":true");
    else ft__json_add_ints(&g->text, "padding", w->padding, 4);
}

/* A convolution of x, channels first, to `out` channels; its weights are "LAYER<before>.weight" and
   ".bias". */
static int ft__keras_convolve(ft__keras *g, int x, const ft__keras_window *w, int out, int groups,
                              const char *before, const char *suffix, bool bias)
{
    int in = ft__keras_last(g, x), inputs[3], size[4], rank = w->dimensions + 2, d, y;
    int area = w->kernel[0] * w->kernel[1];
    char name[40];
    if (groups < 1 || in % groups || out % groups)
        return ft__keras_refuse(g, "%d groups do not divide %d and %d channels", groups, in, out);
    size[0] = out;
    size[1] = in / groups;
    for (d = 0; d < w->dimensions; ++d) size[2 + d] = w->kernel[d + 2 - w->dimensions];
    inputs[0] = x;
    snprintf(name, sizeof name, "%s.weight", before);
    inputs[1] = ft__keras_weight_of(g, name, rank, size, in / groups * area, out / groups * area);
    snprintf(name, sizeof name, "%s.bias", before);
    if (bias) inputs[2] = ft__keras_weight_of(g, name, 1, &out, in / groups * area,
                                              out / groups * area);
    y = ft__keras_begin(g, rank == 3 ? "conv1d" : "conv2d", suffix, inputs, bias ? 3 : 2);
    if (y < 0) return y;
    ft__keras_window_text(g, w);
    ft__json_add_ints(&g->text, "dilation", w->dilation, 2);
    ft__text_add(&g->text, ",\"groups\":%d}", groups);
    for (d = 0; d < w->dimensions; ++d) ft__keras_at(g, y)->size[1 + d] = w->out[d];
    ft__keras_at(g, y)->size[rank - 1] = out;
    return y;
}

static int ft__keras_conv(ft__keras *g, const int *inputs, int count)
{
    int dimensions = ft__keras_dimensions(g);
    int x = ft__keras_turn(g, inputs[0], true), filters;
    ft__keras_window w;
    (void)count;
    if (!ft__keras_read_window(g, x, "kernel_size", dimensions, &w)) return -1;
    filters = ft__keras_int(g, "filters", 1, 0);
    if (filters < 1) return -1;
    x = ft__keras_convolve(g, x, &w, filters, ft__keras_int(g, "groups", 1, 1), "", "",
                           ft__keras_flag(g, "use_bias", true));
    return ft__keras_activated(g, x);
}

/* The weight of output channel c * multiplier + m is Keras' [.., c, m]. */
static int ft__keras_depthwise(ft__keras *g, const int *inputs, int count)
{
    int dimensions = ft__keras_dimensions(g), in, multiplier;
    int x = ft__keras_turn(g, inputs[0], true);
    ft__keras_window w;
    (void)count;
    if (!ft__keras_read_window(g, x, "kernel_size", dimensions, &w)) return -1;
    in = ft__keras_last(g, x);
    multiplier = ft__keras_int(g, "depth_multiplier", 1, 1);
    if (multiplier > (1 << 24) / in) return ft__keras_refuse(g, "too many channels");
    x = ft__keras_convolve(g, x, &w, in * multiplier, in, "", "",
                           ft__keras_flag(g, "use_bias", true));
    return ft__keras_activated(g, x);
}

static int ft__keras_separable(ft__keras *g, const int *inputs, int count)
{
    int dimensions = ft__keras_dimensions(g), in, multiplier, filters, d;
    int x = ft__keras_turn(g, inputs[0], true);
    ft__keras_window w, point;
    (void)count;
    if (!ft__keras_read_window(g, x, "kernel_size", dimensions, &w)) return -1;
    in = ft__keras_last(g, x);
    multiplier = ft__keras_int(g, "depth_multiplier", 1, 1);
    filters = ft__keras_int(g, "filters", 1, 0);
    if (filters < 1 || multiplier > (1 << 24) / in) return -1;
    x = ft__keras_convolve(g, x, &w, in * multiplier, in, ".depthwise", ".depthwise", false);
    if (x < 0) return x;
    memset(&point, 0, sizeof point);
    point.dimensions = dimensions;
    for (d = 0; d < 2; ++d) point.kernel[d] = point.stride[d] = point.dilation[d] = 1;
    for (d = 0; d < dimensions; ++d) point.out[d] = w.out[d];
    x = ft__keras_convolve(g, x, &point, filters, 1, ".pointwise", "",
                           ft__keras_flag(g, "use_bias", true));
    return ft__keras_activated(g, x);
}

/* The weight (height, width, out, in) is PyTorch's [in, out, height, width]. Without output_padding
   a valid result is as long as the kernel or the stride at its end, a same one stride times x. */
static int ft__keras_transpose(ft__keras *g, const int *inputs, int count)
{
    int x = ft__keras_turn(g, inputs[0], true), three[3], size[4], more[2] = {0, 0}, d, y;
    int filters = ft__keras_int(g, "filters", 1, 0), in, area;
    bool bias = ft__keras_flag(g, "use_bias", true);
    ft__keras_window w;
    (void)count;
    if (filters < 1 || !ft__keras_read_window(g, x, "kernel_size", 2, &w)) return -1;
    if (w.same && (ft__keras_field(g, "output_padding") >= 0 || w.dilation[0] * w.dilation[1] > 1))
        return ft__keras_refuse(g, "padding same with output_padding or dilation_rate");
    if (!ft__keras_ints(g, "output_padding", 2, 0, 0, more)) return -1;
    in = size[0] = ft__keras_last(g, x);
    size[1] = filters;
    area = w.kernel[0] * w.kernel[1];
    for (d = 0; d < 2; ++d) {
        int reach = w.dilation[d] * (w.kernel[d] - 1) + 1, s = w.stride[d];
        size[2 + d] = w.kernel[d];
        if (ft__keras_field(g, "output_padding") < 0 && !w.same && s > reach) more[d] = s - reach;
        w.out[d] = w.same ? ft__keras_at(g, x)->size[1 + d] * s
                          : (ft__keras_at(g, x)->size[1 + d] - 1) * s + reach + more[d];
    }
    if (more[0] && !more[1]) /* a pair's second 0 means "as the first" */
        return ft__keras_refuse(g, "output_padding of the height alone");
    three[0] = x;
    three[1] = ft__keras_weight_of(g, ".weight", 4, size, filters * area, in * area);
    if (bias) three[2] = ft__keras_weight_of(g, ".bias", 1, &filters, filters * area, in * area);
    y = ft__keras_begin(g, "conv_transpose2d", "", three, bias ? 3 : 2);
    if (y < 0) return y;
    ft__keras_window_text(g, &w);
    ft__json_add_ints(&g->text, "dilation", w.dilation, 2);
    ft__json_add_ints(&g->text, "output_padding", more, 2);
    ft__keras_end(g);
    for (d = 0; d < 2; ++d) ft__keras_at(g, y)->size[1 + d] = w.out[d];
    ft__keras_at(g, y)->size[3] = filters;
    return ft__keras_activated(g, y);
}

/* UpSampling1D and 2D. */
static int ft__keras_upsample(ft__keras *g, const int *inputs, int count)
{
    const char *how = ft__keras_word(g, "interpolation", "nearest");
    int dimensions = ft__keras_dimensions(g), times[2] = {0, 0}, d, y;
    int x = ft__keras_turn(g, inputs[0], true), mode = !strcmp(how, "bilinear");
    (void)count;
    if (!mode && strcmp(how, "nearest") != 0)
        return ft__keras_refuse(g, "interpolation %.40s", how);
    if (ft__keras_at(g, x)->rank != dimensions + 2 || ft__keras_at(g, x)->size[1] == FT_LENGTH)
        return ft__keras_refuse(g, "an input of %d dimensions, or of an open number of steps",
                                ft__keras_at(g, x)->rank);
    if (!ft__keras_ints(g, "size", dimensions, 1, 2, times)) return -1;
    y = ft__keras_begin(g, "resize", "", &x, 1);
    if (y < 0) return y;
    for (d = 0; d < dimensions; ++d)
        if (times[d] > (1 << 28) / ft__keras_at(g, y)->size[1 + d])
            return ft__keras_refuse(g, "too large a size");
        else times[d] = ft__keras_at(g, y)->size[1 + d] *= times[d];
    ft__json_add_ints(&g->text, "size", times, 2);
    ft__text_add(&g->text, ",\"mode\":%d}", mode);
    return y;
}

/* Steps x, the channels first, as a picture that is one row high. */
static int ft__keras_as_row(ft__keras *g, int x)
{
    int size[3];
    size[0] = ft__keras_last(g, x);
    size[1] = 1;
    size[2] = ft__keras_at(g, x)->size[1];
    return ft__keras_reshape(g, ".row", x, size, 3);
}

/* So many steps again, the channels first, of such a picture. */
static int ft__keras_as_steps(ft__keras *g, int x, int channels, int steps)
{
    int size[2], y;
    size[0] = channels;
    size[1] = steps;
    y = ft__keras_reshape(g, "", x, size, 2);
    if (y < 0) return y;
    ft__keras_at(g, y)->first = true;
    ft__keras_at(g, y)->size[1] = steps;
    ft__keras_at(g, y)->size[2] = channels;
    return y;
}

/* MaxPooling2D and the like; of one dimension as of a picture that is one row high. */
static int ft__keras_pool(ft__keras *g, const int *inputs, int count)
{
    const char *op = g->class_name[0] == 'M' ? "max_pool2d" : "avg_pool2d";
    int dimensions = ft__keras_dimensions(g), d;
    int x = ft__keras_turn(g, inputs[0], true), channels = ft__keras_last(g, x), y;
    ft__keras_window w;
    (void)count;
    if (!ft__keras_read_window(g, x, "pool_size", dimensions, &w)) return -1;
    if (w.out[0] == FT_LENGTH) return ft__keras_refuse(g, "the number of steps is open");
    if (dimensions == 1) x = ft__keras_as_row(g, x);
    y = ft__keras_begin(g, op, dimensions == 1 ? ".pool" : "", &x, 1);
    if (y < 0) return y;
    ft__keras_window_text(g, &w);
    ft__json_add_ints(&g->text, "kernel", w.kernel, 2);
    ft__keras_end(g);
    if (dimensions == 1) return ft__keras_as_steps(g, y, channels, w.out[0]);
    for (d = 0; d < 2; ++d) ft__keras_at(g, y)->size[1 + d] = w.out[d];
    return y;
}

static int ft__keras_global_pool(ft__keras *g, const int *inputs, int count)
{
    bool most = g->class_name[6] == 'M', keep = ft__keras_flag(g, "keepdims", false);
    int dimensions = ft__keras_dimensions(g), x = inputs[0], y, channels;
    (void)count;
    if (ft__keras_at(g, x)->rank != dimensions + 2)
        return ft__keras_refuse(g, "its input has %d dimensions", ft__keras_at(g, x)->rank);
    channels = ft__keras_last(g, x);
    if (dimensions == 1) {
        x = ft__keras_turn(g, x, false);
        y = ft__keras_begin(g, most ? "amax" : "mean", "", &x, 1);
        ft__text_add(&g->text, ",\"axes\":[1],\"count\":1,\"keep\":%s}", keep ? "true" : "false");
    } else {
        x = ft__keras_turn(g, x, true);
        y = ft__keras_node(g, most ? "global_max_pool" : "global_avg_pool", keep ? "" : ".pool",
                           &x, 1);
        if (!keep) y = ft__keras_node(g, "flatten", "", &y, 1);
    }
    if (y < 0) return y;
    ft__keras_at(g, y)->size[1] = ft__keras_at(g, y)->size[2] = 1;
    ft__keras_at(g, y)->rank = keep ? dimensions + 2 : 2;
    ft__keras_at(g, y)->first = keep && dimensions == 2;
    ft__keras_at(g, y)->size[keep ? dimensions + 1 : 1] = channels;
    return y;
}

/* ZeroPadding and Cropping: a number, one for each dimension, or a pair for each. */
static bool ft__keras_sides(ft__keras *g, const char *field, int dimensions, int sides[2][2])
{
    int value = ft__keras_field(g, field), d, at, i;
    bool right = true;
    for (d = 0; d < 2; ++d) sides[d][0] = sides[d][1] = 1;
    if (value < 0) return true;
    if (!ft__json_at(g->json, value, 'a')) {
        right = ft__keras_whole(g, value, 0, &sides[0][0]);
        sides[0][1] = sides[1][0] = sides[1][1] = sides[0][0];
    } else if (dimensions == 1 && ft__json_count(g->json, value) == 2)
        return ft__keras_ints(g, field, 2, 0, 0, sides[0]);
    else {
        right = ft__json_count(g->json, value) == dimensions;
        for (d = 0, at = value + 1; right && d < dimensions; ++d, at = g->json->values[at].next) {
            bool pair = ft__json_at(g->json, at, 'a') != NULL;
            right = !pair || ft__json_count(g->json, at) == 2;
            for (i = 0; right && i < 2; ++i)
                right = ft__keras_whole(g, pair ? ft__json_element(g->json, at, i) : at, 0,
                                        &sides[d][i]);
        }
    }
    if (!right) ft__keras_refuse(g, "%s must be whole numbers", field);
    return right;
}

static int ft__keras_border(ft__keras *g, const int *inputs, int count)
{
    bool pads = g->class_name[0] == 'Z', first = ft__keras_at(g, inputs[0])->first;
    int dimensions = ft__keras_dimensions(g), sides[2][2], before[4], after[4], d, y;
    (void)count;
    if (ft__keras_at(g, inputs[0])->rank != dimensions + 2)
        return ft__keras_refuse(g, "its input has %d dimensions", ft__keras_at(g, inputs[0])->rank);
    if (!ft__keras_sides(g, pads ? "padding" : "cropping", dimensions, sides)) return -1;
    memset(before, 0, sizeof before);
    memset(after, 0, sizeof after);
    y = ft__keras_begin(g, pads ? "pad" : "slice", "", inputs, 1);
    for (d = 0; y >= 0 && d < dimensions; ++d) {
        int *size = &ft__keras_at(g, y)->size[1 + d], at = (first ? 2 : 1) + d;
        before[at] = sides[d][0];
        if (*size == FT_LENGTH) return ft__keras_refuse(g, "the number of steps is open");
        if (!pads && *size - sides[d][0] <= sides[d][1])
            return ft__keras_refuse(g, "crops all of its input");
        after[at] = pads ? sides[d][1] : sides[d][1] ? *size - sides[d][1] : 0;
        *size += (pads ? 1 : -1) * (sides[d][0] + sides[d][1]);
    }
    ft__json_add_ints(&g->text, pads ? "before" : "start", before, dimensions + 2);
    ft__json_add_ints(&g->text, pads ? "after" : "stop", after, dimensions + 2);
    ft__keras_end(g);
    return y;
}

/* ---- Layers of vectors ---- */

static int ft__keras_linear(ft__keras *g, int x, int units, const char *before, const char *suffix,
                            bool bias)
{
    int size[2], inputs[3], y;
    char name[40];
    x = ft__keras_turn(g, x, false);
    if (x < 0 || units < 1) return -1;
    size[0] = units;
    size[1] = ft__keras_last(g, x);
    if (ft__keras_at(g, x)->rank < 2 || size[1] < 1)
        return ft__keras_refuse(g, "the size of its input is open");
    inputs[0] = x;
    snprintf(name, sizeof name, "%s.weight", before);
    inputs[1] = ft__keras_weight_of(g, name, 2, size, size[1], units);
    snprintf(name, sizeof name, "%s.bias", before);
    if (bias) inputs[2] = ft__keras_weight_of(g, name, 1, &units, size[1], units);
    y = ft__keras_node(g, "linear", suffix, inputs, bias ? 3 : 2);
    if (y >= 0) ft__keras_at(g, y)->size[ft__keras_at(g, y)->rank - 1] = units;
    return y;
}

static int ft__keras_dense(ft__keras *g, const int *inputs, int count)
{
    int units = ft__keras_int(g, "units", 1, 0);
    (void)count;
    if (units < 1) return -1;
    return ft__keras_activated(g, ft__keras_linear(g, inputs[0], units, "", "",
                                                   ft__keras_flag(g, "use_bias", true)));
}

/* Whether `axis` of the layer is the last one: a number, or a list of it alone. */
static bool ft__keras_axis_is_last(ft__keras *g, int x)
{
    int value = ft__keras_field(g, "axis"), axis = -1;
    if (ft__json_count(g->json, value) == 1) value = value + 1;
    if (value >= 0 && !ft__keras_whole(g, value, -FINETUNE_MAX_RANK, &axis)) axis = -2;
    if (axis == -1 || axis == ft__keras_at(g, x)->rank - 1) return true;
    ft__keras_refuse(g, "an axis that is not the last one");
    return false;
}

/* Weights that scale and shift, or constants where the layer has none; inputs[1] and [2]. */
static void ft__keras_affine(ft__keras *g, int channels, int *inputs)
{
    bool scale = ft__keras_flag(g, "scale", true), center = ft__keras_flag(g, "center", true);
    inputs[1] = scale ? ft__keras_weight_of(g, ".weight", 1, &channels, 0, 0)
                      : ft__keras_filled(g, ".weight", channels, 1);
    inputs[2] = center ? ft__keras_weight_of(g, ".bias", 1, &channels, 0, 0)
                       : ft__keras_filled(g, ".bias", channels, 0);
}

/* Keras' running statistics keep `momentum` of the old; ours take 1 - momentum of the new. */
static int ft__keras_batch_norm(ft__keras *g, const int *inputs, int count)
{
    int x = inputs[0], five[5], rank = ft__keras_at(g, x)->rank, channels, steps, y;
    (void)count;
    if (!ft__keras_axis_is_last(g, x)) return -1;
    if (rank < 2 || rank > 4) return ft__keras_refuse(g, "an input of %d dimensions", rank);
    x = ft__keras_turn(g, x, true);
    channels = ft__keras_last(g, x);
    steps = ft__keras_at(g, x)->size[1];
    if (rank == 3) x = ft__keras_as_row(g, x);
    ft__keras_affine(g, channels, five);
    if (five[1] < 0 || five[2] < 0) return -1;
    five[0] = x;
    five[3] = ft__keras_buffer(g, ".running_mean", 1, &channels);
    five[4] = ft__keras_buffer(g, ".running_var", 1, &channels);
    y = ft__keras_begin(g, "batch_norm", rank == 3 ? ".norm" : "", five, 5);
    ft__keras_float_text(g, "eps", ft__keras_number(g, "epsilon", 1e-3));
    ft__keras_float_text(g, "momentum", 1 - ft__keras_number(g, "momentum", 0.99));
    ft__keras_end(g);
    return rank == 3 ? ft__keras_as_steps(g, y, channels, steps) : y;
}

/* A norm of each sample: of `groups` groups of channels, or, of 0, of the last dimension. */
static int ft__keras_sample_norm(ft__keras *g, int x, int groups)
{
    int three[3], y;
    if (!ft__keras_axis_is_last(g, x)) return -1;
    three[0] = ft__keras_turn(g, x, groups > 0);
    ft__keras_affine(g, ft__keras_last(g, x), three);
    if (three[1] < 0 || three[2] < 0) return -1;
    y = ft__keras_begin(g, groups > 0 ? "group_norm" : "layer_norm", "", three, 3);
    if (groups > 0) ft__text_add(&g->text, ",\"groups\":%d", groups);
    ft__keras_float_text(g, "eps", ft__keras_number(g, "epsilon", 1e-3));
    ft__keras_end(g);
    return y;
}

static int ft__keras_layer_norm(ft__keras *g, const int *inputs, int count)
{
    (void)count;
    return ft__keras_sample_norm(g, inputs[0], 0);
}

static int ft__keras_group_norm(ft__keras *g, const int *inputs, int count)
{
    (void)count;
    return ft__keras_sample_norm(g, inputs[0], ft__keras_int(g, "groups", 1, 32));
}

/* ---- Activations as layers ---- */

static int ft__keras_activation_layer(ft__keras *g, const int *inputs, int count)
{
    (void)count;
    return ft__keras_activate(g, ft__keras_activation_name(g, "activation"), "", inputs[0]);
}

/* ReLU with max_value, negative_slope and threshold, of which 6, or a slope, is ours. */
static int ft__keras_relu(ft__keras *g, const int *inputs, int count)
{
    double slope = ft__keras_number(g, "negative_slope", 0);
    double most = ft__keras_number(g, "max_value", -1);
    int y;
    (void)count;
    if (ft__keras_number(g, "threshold", 0) != 0)
        return ft__keras_refuse(g, "a threshold other than 0");
    if (slope != 0 && most >= 0) return ft__keras_refuse(g, "negative_slope with max_value");
    if (slope == 0 && most < 0) return ft__keras_node(g, "relu", "", inputs, 1);
    if (slope == 0 && most == 6) return ft__keras_node(g, "relu6", "", inputs, 1);
    y = ft__keras_begin(g, slope != 0 ? "leaky_relu" : "clamp", "", inputs, 1);
    if (slope != 0) ft__keras_float_text(g, "slope", slope);
    else {
        ft__text_add(&g->text, ",\"min\":0");
        ft__keras_float_text(g, "max", most);
    }
    ft__keras_end(g);
    return y;
}

static int ft__keras_leaky_relu(ft__keras *g, const int *inputs, int count)
{
    double slope = ft__keras_number(g, "negative_slope", ft__keras_number(g, "alpha", 0.3));
    int y = ft__keras_begin(g, "leaky_relu", "", inputs, 1);
    (void)count;
    ft__keras_float_text(g, "slope", slope);
    ft__keras_end(g);
    return y;
}

static int ft__keras_elu(ft__keras *g, const int *inputs, int count)
{
    int y = ft__keras_begin(g, "elu", "", inputs, 1);
    (void)count;
    ft__keras_float_text(g, "alpha", ft__keras_number(g, "alpha", 1));
    ft__keras_end(g);
    return y;
}

/* A slope for each channel: all other axes are shared. */
static int ft__keras_prelu(ft__keras *g, const int *inputs, int count)
{
    int two[2], rank = ft__keras_at(g, inputs[0])->rank, channels = ft__keras_last(g, inputs[0]), d;
    int list = ft__keras_field(g, "shared_axes");
    (void)count;
    for (d = 1; d < rank - 1; ++d) {
        int i, at, axis = 0;
        bool shared = false;
        for (i = 0, at = list + 1; i < ft__json_count(g->json, list); ++i) {
            shared = shared || (ft__keras_whole(g, at, 1, &axis) && axis == d);
            at = g->json->values[at].next;
        }
        if (!shared) return ft__keras_refuse(g, "a slope for each place: shared_axes must be all"
                                             " axes but the last");
    }
    two[0] = ft__keras_turn(g, inputs[0], true);
    two[1] = ft__keras_weight_of(g, ".weight", 1, &channels, 0, 0);
    return ft__keras_node(g, "prelu", "", two, 2);
}

static int ft__keras_softmax(ft__keras *g, const int *inputs, int count)
{
    (void)count;
    return ft__keras_axis_is_last(g, inputs[0]) ? ft__keras_activate(g, "softmax", "", inputs[0])
                                                : -1;
}

/* Dropout; of SpatialDropout1D one mask for all steps. */
static int ft__keras_dropout(ft__keras *g, const int *inputs, int count)
{
    double rate = ft__keras_number(g, "rate", 0);
    bool locked = g->class_name[0] == 'S';
    int x = locked ? ft__keras_turn(g, inputs[0], false) : inputs[0], y;
    (void)count;
    if (rate == 0) return x;
    y = ft__keras_begin(g, "dropout", "", &x, 1);
    ft__keras_float_text(g, "probability", rate);
    ft__text_add(&g->text, "%s}", locked ? ",\"locked\":true" : "");
    return y;
}

/* ---- Shapes ---- */

/* How many numbers a sample of x has, any number above INT_MAX if it is more; -1 with a refusal. */
static int64_t ft__keras_sample(ft__keras *g, int x)
{
    const ft__keras_value *v = ft__keras_at(g, x);
    int64_t size = 1;
    int d;
    for (d = 1; d < v->rank; ++d) {
        if (v->size[d] == FT_LENGTH) return ft__keras_refuse(g, "the number of steps is open");
        size = size > INT_MAX ? size : size * v->size[d];
    }
    return size;
}

static int ft__keras_flatten(ft__keras *g, const int *inputs, int count)
{
    const ft__keras_value *v = ft__keras_at(g, inputs[0]);
    int64_t size;
    int d, y, x = inputs[0];
    bool pixels = false;
    (void)count;
    if (v->rank == 2) return x;
    size = ft__keras_sample(g, x);
    if (size < 0) return -1;
    for (d = 1; d < v->rank - 1; ++d) pixels = pixels || v->size[d] > 1;
    if (size > INT_MAX) return ft__keras_refuse(g, "too large an input");
    if (pixels) x = ft__keras_turn(g, x, false); /* else both orders are the same */
    y = ft__keras_node(g, "flatten", "", &x, 1);
    if (y < 0) return y;
    ft__keras_at(g, y)->rank = 2;
    ft__keras_at(g, y)->first = false;
    ft__keras_at(g, y)->size[1] = (int)size;
    return y;
}

static int ft__keras_reshape_layer(ft__keras *g, const int *inputs, int count)
{
    int list = ft__keras_field(g, "target_shape"), rank = ft__json_count(g->json, list);
    int size[FINETUNE_MAX_RANK], at, d, open = -1;
    int64_t has, wants = 1;
    (void)count;
    if (list < 0 || rank >= FINETUNE_MAX_RANK) return ft__keras_refuse(g, "its target_shape");
    has = ft__keras_sample(g, inputs[0]);
    if (has < 0) return -1;
    for (d = 0, at = list + 1; d < rank; ++d, at = g->json->values[at].next) {
        if (!ft__keras_whole(g, at, -1, &size[d]) || size[d] == 0 || (size[d] < 0 && open >= 0))
            return ft__keras_refuse(g, "its target_shape");
        if (size[d] < 0) open = d;
        else wants = wants > INT_MAX ? wants : wants * size[d];
    }
    if (has > INT_MAX || has % wants || (open < 0 && has != wants))
        return ft__keras_refuse(g, "its target_shape does not fit its input");
    if (open >= 0) size[open] = (int)(has / wants);
    return ft__keras_reshape(g, "", ft__keras_turn(g, inputs[0], false), size, rank);
}

static int ft__keras_permute(ft__keras *g, const int *inputs, int count)
{
    int x = ft__keras_turn(g, inputs[0], false), rank = ft__keras_at(g, x)->rank, d, y;
    int axes[FINETUNE_MAX_RANK], seen = 0, sizes[FINETUNE_MAX_RANK];
    (void)count;
    axes[0] = 0;
    if (!ft__keras_ints(g, "dims", rank - 1, 1, 0, axes + 1)) return -1;
    for (d = 1; d < rank; ++d) seen |= axes[d] < rank ? 1 << axes[d] : 0;
    if (seen != (1 << rank) - 2) return ft__keras_refuse(g, "its dims are no order of dimensions");
    memcpy(sizes, ft__keras_at(g, x)->size, sizeof sizes);
    y = ft__keras_begin(g, "permute", "", &x, 1);
    ft__json_add_ints(&g->text, "axes", axes, rank);
    ft__keras_end(g);
    for (d = 1; y >= 0 && d < rank; ++d) ft__keras_at(g, y)->size[d] = sizes[axes[d]];
    return y;
}

/* [N, F] -> [N, n, F]: times ones, which are repeated as in PyTorch. */
static int ft__keras_repeat(ft__keras *g, const int *inputs, int count)
{
    int n = ft__keras_int(g, "n", 1, 0), size[2], two[2], y;
    (void)count;
    if (n < 1) return -1;
    if (n > FT__KERAS_MOST_FILLED) return ft__keras_refuse(g, "n is %d", n);
    if (ft__keras_at(g, inputs[0])->rank != 2) return ft__keras_refuse(g, "an input that is no"
                                                                       " vector");
    size[0] = 1;
    size[1] = ft__keras_last(g, inputs[0]);
    two[0] = ft__keras_reshape(g, ".step", inputs[0], size, 2);
    size[0] = n;
    size[1] = 1;
    two[1] = ft__keras_same(g, ".ones", 2, size, 1);
    y = ft__keras_node(g, "mul", "", two, 2);
    if (y >= 0) ft__keras_at(g, y)->size[1] = n;
    return y;
}
#endif
