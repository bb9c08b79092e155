#pragma once
#include "interface/types.h"
#include "interface/operators.h"
#include "platform/families.h"
#include "platform/context.h"
#include "basics/threads.h"
#include "kernels/pooling.h"
#include "nodes/nodes.h"
#include "operators/table.h"
#include "operators/adding.h"
#include "operators/common.h"

/* =============================================================================================
   [SECTION] operators/pooling: Pooling
   Windows over [N, C, H, W], stored channels last. Threads split max_pool2d's forward by lines of
   the output, the rest by pictures: in backward windows may overlap.
   ============================================================================================= */
static const ft__field ft__pool2d_fields[] = {
    FT__INT(ft_pool2d_options, kernel), FT__INT(ft_pool2d_options, stride),
    FT__INT(ft_pool2d_options, padding), FT__BOOL(ft_pool2d_options, same),
    FT__BOOL(ft_pool2d_options, ceil_mode), FT__BOOL(ft_pool2d_options, exclude_padding),
    FT__NO_MORE_FIELDS};

/* One direction (0 height, 1 width) of a sliding window: sizes with defaults filled in. `out` is 0
   if nothing fits. */
typedef struct ft__window { int in, out, kernel, stride, before, after; } ft__window;

static ft__window ft__pool_window(const ft_pool2d_options *o, const ft_shape *x, int direction)
{
    ft__window w;
    int64_t out, total;
    w.in = x->size[2 + direction];
    w.kernel = direction && o->kernel[1] ? o->kernel[1] : o->kernel[0];
    w.stride = direction && o->stride[1] ? o->stride[1] : o->stride[0];
    if (w.stride == 0) w.stride = w.kernel;
    w.before = ft__padding(o->padding, direction);
    w.after = ft__padding(o->padding, 2 + direction);
    w.out = 0;
    if (w.in < 1 || w.kernel < 1 || w.stride < 1 || w.before < 0 || w.after < 0) return w;
    if (o->same) {
        out = ((int64_t)w.in + w.stride - 1) / w.stride;
        total = (out - 1) * w.stride + w.kernel - w.in;
        w.before = total > 0 ? (int)(total / 2) : 0;
        w.after = total > 0 ? (int)(total - total / 2) : 0;
    } else {
        total = (int64_t)w.in + w.before + w.after - w.kernel;
        if (total < 0) return w;
        out = total / w.stride + 1;
        /* PyTorch: an incomplete last window counts if it starts inside or before. */
        if (o->ceil_mode && total % w.stride != 0 && out * w.stride < (int64_t)w.in + w.before)
            out += 1;
    }
    w.out = (int)out;
    return w;
}

/* Limits sizes, so that every sum and product of them fits an int: files can hold any. */
static ft_status ft__pool2d_check(ft__context *c, const ft__node *node, const ft_shape *x)
{
    const ft_pool2d_options *o = &node->options.pool2d;
    const int most = 1 << 20;
    int i;
    for (i = 0; i < 4; ++i)
        if (o->kernel[i % 2] < 0 || o->kernel[i % 2] > most || o->stride[i % 2] < 0
            || o->stride[i % 2] > most || o->padding[i] < 0 || o->padding[i] > most)
            return ft__fail(c, FT_INVALID, "%s: kernel %d, stride %d, padding %d: negative or too"
                            " large", node->name, o->kernel[i % 2], o->stride[i % 2],
                            o->padding[i]);
    if ((int64_t)x->size[2] * x->size[3] > 1 << 30)
        return ft__fail(c, FT_SHAPE, "%s: a picture of %d x %d is too large", node->name,
                        x->size[2], x->size[3]);
    return FT_OK;
}

static ft_status ft__pool2d_shape(ft__context *c, const ft__node *node, const ft__tensor *input,
                                  int input_count, ft_shape *output)
{
    const ft_shape *x = &input[0].shape;
    char text[80];
    int i;
    if (x->rank != 4)
        return ft__fail(c, FT_SHAPE, "%s: expected an input [N, C, H, W], not %s", node->name,
                        ft__shape_text(x, text));
    if (ft__pool2d_check(c, node, x) != FT_OK) return c->status;
    *output = *x;
    for (i = 0; i < 2; ++i) {
        ft__window w = ft__pool_window(&node->options.pool2d, x, i);
        if (w.out < 1)
            return ft__fail(c, FT_SHAPE, "%s: kernel %d, stride %d, padding %d and %d do not fit an"
                            " input of %s", node->name, w.kernel, w.stride, w.before, w.after,
                            ft__shape_text(x, text));
        if (!node->options.pool2d.same && (2 * w.before > w.kernel || 2 * w.after > w.kernel))
            return ft__fail(c, FT_SHAPE, "%s: padding %d is more than half of the kernel, %d",
                            node->name, w.before > w.after ? w.before : w.after, w.kernel);
        output->size[2 + i] = w.out;
    }
    return ft__want_numbers(c, node, input, input_count);
}

/* The part [first, last) of window `at` that is inside. */
static void ft__window_range(const ft__window *w, int at, int *first, int *last)
{
    int start = at * w->stride - w->before;
    *first = start < 0 ? 0 : start;
    *last = start + w->kernel < w->in ? start + w->kernel : w->in;
}

static void ft__max_pool2d_costs(const ft__call *call, ft__costs *costs)
{
    costs->saved = ft__count(&call->output) * sizeof(int32_t); /* where each maximum was */
}

static ft__pool_place ft__pool_place_of(const ft__call *call, const ft__window *h, int picture,
                                        int row)
{
    ft__pool_place p;
    memset(&p, 0, sizeof p);
    p.channels = (size_t)call->input[0].shape.size[1];
    p.width = call->input[0].shape.size[3];
    p.x = call->input[0].value + (size_t)picture * (size_t)h->in * (size_t)p.width * p.channels;
    ft__window_range(h, row, &p.top, &p.bottom);
    return p;
}

static void ft__max_pool_line(void *context, int index)
{
    const ft__call *call = (const ft__call *)context;
    const ft_pool2d_options *o = &call->node->options.pool2d;
    ft__window h = ft__pool_window(o, &call->input[0].shape, 0);
    ft__window w = ft__pool_window(o, &call->input[0].shape, 1);
    ft__pool_place p = ft__pool_place_of(call, &h, index / h.out, index % h.out);
    size_t at = (size_t)index * (size_t)w.out * p.channels;
    int column;
    for (column = 0; column < w.out; ++column, at += p.channels) {
        ft__window_range(&w, column, &p.left, &p.right);
        ft__max_window_run[call->context->simd](&p, call->output.value + at,
                                                (int32_t *)call->saved + at);
    }
}

static void ft__max_pool2d_forward(const ft__call *call)
{
    ft__parallel(call->context, call->output.shape.size[0] * call->output.shape.size[2],
                 ft__max_pool_line, (void *)(uintptr_t)call);
}

static size_t ft__sample_numbers(const ft__tensor *t)
{
    return ft__count(t) / (size_t)t->shape.size[0];
}

/* Adds the gradient of every output of a picture to the position of its maximum. */
static void ft__max_back_picture(void *context, int picture)
{
    const ft__call *call = (const ft__call *)context;
    size_t channels = (size_t)call->input[0].shape.size[1], i, c;
    size_t count = ft__sample_numbers(&call->output), at = (size_t)picture * count;
    const int32_t *where = (const int32_t *)call->saved + at;
    const float *dy = call->output.gradient + at;
    size_t numbers = ft__sample_numbers(&call->input[0]);
    float *dx = call->input[0].gradient + (size_t)picture * numbers;
    if (call->input[0].fresh) memset(dx, 0, numbers * sizeof *dx);
    for (i = 0; i < count; i += channels)
        for (c = 0; c < channels; ++c) dx[(size_t)where[i + c] * channels + c] += dy[i + c];
}

static void ft__max_pool2d_backward(const ft__call *call)
{
    if (call->input[0].gradient)
        ft__parallel(call->context, call->input[0].shape.size[0], ft__max_back_picture,
                     (void *)(uintptr_t)call);
}

/* The divisor of an average: the window's size, including the padding in it (but not what ceil_mode
   added beyond), or only the pixels inside. */
static float ft__pool_area(const ft_pool2d_options *o, const ft__window *h, const ft__window *w,
                           int row, int column)
{
    int top, bottom, left, right;
    ft__window_range(h, row, &top, &bottom);
    ft__window_range(w, column, &left, &right);
    if (!o->exclude_padding && !o->same) {
        top = row * h->stride - h->before;
        left = column * w->stride - w->before;
        bottom = top + h->kernel < h->in + h->after ? top + h->kernel : h->in + h->after;
        right = left + w->kernel < w->in + w->after ? left + w->kernel : w->in + w->after;
    }
    return (float)(bottom - top) * (float)(right - left);
}

/* Averages one picture, or propagates its gradient back. */
static void ft__avg_pool_picture(const ft__call *call, int picture, bool backward)
{
    const ft_pool2d_options *o = &call->node->options.pool2d;
    ft__window h = ft__pool_window(o, &call->input[0].shape, 0);
    ft__window w = ft__pool_window(o, &call->input[0].shape, 1);
    size_t channels = (size_t)call->input[0].shape.size[1], c;
    size_t in = (size_t)picture * ft__sample_numbers(&call->input[0]);
    size_t out = (size_t)picture * ft__sample_numbers(&call->output);
    int row, column, top, bottom, left, right, i, j;
    for (row = 0; row < h.out; ++row)
        for (column = 0; column < w.out; ++column, out += channels) {
            float area = ft__pool_area(o, &h, &w, row, column);
            float *y = call->output.value + out;
            ft__window_range(&h, row, &top, &bottom);
            ft__window_range(&w, column, &left, &right);
            for (c = 0; !backward && c < channels; ++c) y[c] = 0;
            for (i = top; i < bottom; ++i)
                for (j = left; j < right; ++j) {
                    size_t at = in + (size_t)(i * w.in + j) * channels;
                    for (c = 0; !backward && c < channels; ++c)
                        y[c] += call->input[0].value[at + c];
                    for (c = 0; backward && c < channels; ++c)
                        call->input[0].gradient[at + c] += call->output.gradient[out + c] / area;
                }
            for (c = 0; !backward && c < channels; ++c) y[c] /= area;
        }
}

static void ft__avg_pool_forward_picture(void *context, int picture)
{
    ft__avg_pool_picture((const ft__call *)context, picture, false);
}

static void ft__avg_pool_backward_picture(void *context, int picture)
{
    ft__avg_pool_picture((const ft__call *)context, picture, true);
}

static void ft__avg_pool2d_forward(const ft__call *call)
{
    ft__parallel(call->context, call->input[0].shape.size[0], ft__avg_pool_forward_picture,
                 (void *)(uintptr_t)call);
}

static void ft__avg_pool2d_backward(const ft__call *call)
{
    if (call->input[0].gradient)
        ft__parallel(call->context, call->input[0].shape.size[0], ft__avg_pool_backward_picture,
                     (void *)(uintptr_t)call);
}

/* ---- Over the whole plane ---- */

static ft_status ft__global_pool_shape(ft__context *c, const ft__node *node,
                                       const ft__tensor *input, int input_count, ft_shape *output)
{
    char text[80];
    if (input[0].shape.rank != 4)
        return ft__fail(c, FT_SHAPE, "%s: expected an input [N, C, H, W], not %s", node->name,
                        ft__shape_text(&input[0].shape, text));
    *output = input[0].shape;
    if ((int64_t)output->size[2] * output->size[3] > 1 << 30)
        return ft__fail(c, FT_SHAPE, "%s: a picture of %d x %d is too large", node->name,
                        output->size[2], output->size[3]);
    output->size[2] = output->size[3] = 1;
    return ft__want_numbers(c, node, input, input_count);
}

/* Sums 64 pixels at a time in float, and those sums in double. */
static void ft__global_avg_picture(void *context, int picture)
{
    const ft__call *call = (const ft__call *)context;
    size_t channels = (size_t)call->input[0].shape.size[1], first, l, i, begin;
    size_t plane = ft__sample_numbers(&call->input[0]) / channels;
    const float *x = call->input[0].value + (size_t)picture * plane * channels;
    float *y = call->output.value + (size_t)picture * channels;
    for (first = 0; first < channels; first += 16) {
        size_t some = channels - first < 16 ? channels - first : 16;
        double total[16] = {0};
        for (begin = 0; begin < plane; begin += 64) {
            size_t end = plane - begin < 64 ? plane : begin + 64;
            float sum[16] = {0};
            for (i = begin; i < end; ++i) {
                const float *from = x + i * channels + first;
                if (some == 16) for (l = 0; l < 16; ++l) sum[l] += from[l];
                else for (l = 0; l < some; ++l) sum[l] += from[l];
            }
            for (l = 0; l < 16; ++l) total[l] += (double)sum[l];
        }
        for (l = 0; l < some; ++l) y[first + l] = (float)(total[l] / (double)plane);
    }
}

static void ft__global_avg_back_picture(void *context, int picture)
{
    const ft__call *call = (const ft__call *)context;
    size_t channels = (size_t)call->input[0].shape.size[1], i, c;
    size_t plane = ft__sample_numbers(&call->input[0]) / channels;
    const float *dy = call->output.gradient + (size_t)picture * channels;
    float *dx = call->input[0].gradient + (size_t)picture * plane * channels;
    for (i = 0; i < plane; ++i, dx += channels)
        for (c = 0; c < channels; ++c)
            dx[c] = (call->input[0].fresh ? 0 : dx[c]) + dy[c] / (float)plane;
}

static void ft__global_avg_pool_forward(const ft__call *call)
{
    ft__parallel(call->context, call->input[0].shape.size[0], ft__global_avg_picture,
                 (void *)(uintptr_t)call);
}

static void ft__global_avg_pool_backward(const ft__call *call)
{
    if (call->input[0].gradient)
        ft__parallel(call->context, call->input[0].shape.size[0], ft__global_avg_back_picture,
                     (void *)(uintptr_t)call);
}

static void ft__global_max_pool_costs(const ft__call *call, ft__costs *costs)
{
    costs->saved = ft__count(&call->output) * sizeof(int32_t);
}

static void ft__global_max_picture(void *context, int picture)
{
    const ft__call *call = (const ft__call *)context;
    const ft_shape *x = &call->input[0].shape;
    ft__window whole;
    ft__pool_place p;
    memset(&whole, 0, sizeof whole);
    whole.in = whole.kernel = x->size[2];
    p = ft__pool_place_of(call, &whole, picture, 0);
    p.right = p.width;
    ft__max_window_run[call->context->simd](&p,
                                            call->output.value + (size_t)picture * p.channels,
                                            (int32_t *)call->saved + (size_t)picture * p.channels);
}

static void ft__global_max_pool_forward(const ft__call *call)
{
    ft__parallel(call->context, call->input[0].shape.size[0], ft__global_max_picture,
                 (void *)(uintptr_t)call);
}

static void ft__global_max_pool_backward(const ft__call *call)
{
    ft__max_pool2d_backward(call);
}

/* In files: `max_pool2d`, `avg_pool2d` | x [N, C, H, W] | `kernel` required, `stride` the kernel,
   `padding` 0, `same` false, `ceil_mode` false, `exclude_padding` false (average only) */
static const ft__row ft__row_max_pool2d = {
    FT__NAMED(max_pool2d), 1, 1, FT__WRITES | FT__CHANNELS_LAST,
    ft__pool2d_shape, ft__max_pool2d_forward, FT__BACKWARD(ft__max_pool2d_backward),
    ft__max_pool2d_costs, ft__pool2d_fields, NULL};

static const ft__row ft__row_avg_pool2d = {
    FT__NAMED(avg_pool2d), 1, 1, FT__CHANNELS_LAST,
    ft__pool2d_shape, ft__avg_pool2d_forward, FT__BACKWARD(ft__avg_pool2d_backward), NULL,
    ft__pool2d_fields, NULL};

/* In files: `global_avg_pool`, `global_max_pool` | x [N, C, H, W] | */
static const ft__row ft__row_global_avg_pool = {
    FT__NAMED(global_avg_pool), 1, 1, FT__WRITES | FT__CHANNELS_LAST,
    ft__global_pool_shape, ft__global_avg_pool_forward, FT__BACKWARD(ft__global_avg_pool_backward),
    NULL, ft__no_fields, NULL};

static const ft__row ft__row_global_max_pool = {
    FT__NAMED(global_max_pool), 1, 1, FT__WRITES | FT__CHANNELS_LAST,
    ft__global_pool_shape, ft__global_max_pool_forward, FT__BACKWARD(ft__global_max_pool_backward),
    ft__global_max_pool_costs, ft__no_fields, NULL};

ft_node ft_max_pool2d(ft_model *m, const char *name, ft_node x, ft_pool2d_options options)
{
    ft_node none = {0};
    if (!FT__HAS(m, CONVOLUTION)) return none;
    return ft__add_node(m, &ft__row_max_pool2d, name, &x, 1, &options, sizeof options);
}

ft_node ft_avg_pool2d(ft_model *m, const char *name, ft_node x, ft_pool2d_options options)
{
    ft_node none = {0};
    if (!FT__HAS(m, CONVOLUTION)) return none;
    return ft__add_node(m, &ft__row_avg_pool2d, name, &x, 1, &options, sizeof options);
}

ft_node ft_global_avg_pool(ft_model *m, const char *name, ft_node x)
{
    ft_node none = {0};
    if (!FT__HAS(m, CONVOLUTION)) return none;
    return ft__add_simple(m, &ft__row_global_avg_pool, name, x);
}

ft_node ft_global_max_pool(ft_model *m, const char *name, ft_node x)
{
    ft_node none = {0};
    if (!FT__HAS(m, CONVOLUTION)) return none;
    return ft__add_simple(m, &ft__row_global_max_pool, name, x);
}
