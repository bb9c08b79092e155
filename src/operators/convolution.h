#pragma once
#include "interface/types.h"
#include "interface/operators.h"
#include "platform/families.h"
#include "platform/context.h"
#include "basics/numbers.h"
#include "basics/threads.h"
#include "kernels/stored.h"
#include "kernels/convolution.h"
#include "kernels/depthwise.h"
#include "nodes/nodes.h"
#include "operators/table.h"
#include "operators/common.h"
#include "operators/activations.h"

/* =============================================================================================
   [SECTION] operators/convolution: Convolution
   x [N, C, H, W], weight [O, C / groups, h, w], bias [O]: shapes, and the form for kernels of one
   channel. The forms for more channels are in the parts conv2d_...
   ============================================================================================= */
static const ft__field ft__conv2d_fields[] = {
    FT__INT(ft_conv2d_options, stride), FT__INT(ft_conv2d_options, padding),
    FT__INT(ft_conv2d_options, dilation), FT__INT(ft_conv2d_options, groups),
    FT__BOOL(ft_conv2d_options, same), FT__NOT_KEPT(ft_conv2d_options, kernel)
    FT__NOT_KEPT(ft_conv2d_options, weight) FT__NOT_KEPT(ft_conv2d_options, bias)
    FT__NOT_KEPT(ft_conv2d_options, no_bias) FT__NOT_KEPT(ft_conv2d_options, initialiser)
    FT__NO_MORE_FIELDS};

static int ft__or_one(const int pair[2], int i)
{
    int value = pair[i] ? pair[i] : pair[0];
    return value ? value : 1;
}

/* Computes all sizes; out_height or out_width below 1 means that the shapes do not fit. */
static ft__conv ft__conv_of(const ft_conv2d_options *o, const ft_shape *x, const ft_shape *w)
{
    ft__conv g;
    int64_t before[2], after[2];
    int i, out[2];
    memset(&g, 0, sizeof g);
    g.groups = (size_t)(o->groups ? o->groups : 1);
    g.batch = x->size[0] > 0 ? (size_t)x->size[0] : 1;
    g.channels = w->size[1];
    g.outputs = w->size[0] / (int)g.groups;
    g.height = x->size[2];
    g.width = x->size[3];
    for (i = 0; i < 2; ++i) {
        int64_t in = x->size[2 + i], reach, room; /* products of ints from files */
        g.kernel[i] = w->size[2 + i];
        g.stride[i] = ft__or_one(o->stride, i);
        g.dilation[i] = ft__or_one(o->dilation, i);
        before[i] = ft__padding(o->padding, i);
        after[i] = ft__padding(o->padding, 2 + i);
        reach = ((int64_t)g.kernel[i] - 1) * g.dilation[i] + 1;
        if (o->same) {
            room = (in + g.stride[i] - 1) / g.stride[i]; /* the output */
            before[i] = (room - 1) * g.stride[i] + reach - in;
            before[i] = before[i] > 0 ? before[i] / 2 : 0;
        } else {
            room = in + before[i] + after[i] - reach;
            room = room < 0 ? 0 : room / g.stride[i] + 1;
        }
        out[i] = reach > INT_MAX || room > INT_MAX ? 0 : (int)room;
    }
    g.top = (int)before[0];
    g.left = (int)before[1];
    g.out_height = out[0];
    g.out_width = out[1];
    g.k = (size_t)g.channels * (size_t)g.kernel[0] * (size_t)g.kernel[1];
    g.p = (size_t)g.out_height * (size_t)g.out_width;
    return g;
}

static ft_status ft__conv2d_options_check(ft__context *c, const ft__node *node)
{
    const ft_conv2d_options *o = &node->options.conv2d;
    int i;
    for (i = 0; i < 4; ++i) {
        int stride = o->stride[i % 2], dilation = o->dilation[i % 2], most = 1 << 20;
        if (stride < 0 || stride > most || dilation < 0 || dilation > 1 << 10
            || o->padding[i] < 0 || o->padding[i] > most || o->groups < 0)
            return ft__fail(c, FT_INVALID, "%s: stride %d, dilation %d, padding %d, groups %d:"
                            " negative or too large", node->name, stride, dilation,
                            o->padding[i], o->groups);
    }
    return FT_OK;
}

static ft_status ft__conv2d_shape(ft__context *c, const ft__node *node, const ft__tensor *input,
                                  int input_count, ft_shape *output)
{
    const ft_shape *x = &input[0].shape, *w = &input[1].shape;
    int groups = node->options.conv2d.groups ? node->options.conv2d.groups : 1;
    char text[80], other[80];
    ft__conv g;
    *output = *x;
    if (ft__conv2d_options_check(c, node) != FT_OK) return c->status;
    if (x->rank != 4 || w->rank != 4)
        return ft__fail(c, FT_SHAPE, "%s: expected an input [N, C, H, W] and a weight of 4"
                        " dimensions, not %s and %s", node->name, ft__shape_text(x, text),
                        ft__shape_text(w, other));
    if (x->size[1] % groups != 0 || w->size[0] % groups != 0)
        return ft__fail(c, FT_SHAPE, "%s: %d groups do not divide %d input and %d output channels",
                        node->name, groups, x->size[1], w->size[0]);
    if (x->size[1] / groups != w->size[1])
        return ft__fail(c, FT_SHAPE, "%s: input has %d channels, but the weight is for %d (times %d"
                        " groups)", node->name, x->size[1], w->size[1], groups);
    if (input_count > 2 && (input[2].shape.rank != 1 || input[2].shape.size[0] != w->size[0]))
        return ft__fail(c, FT_SHAPE, "%s: bias %s does not fit weight %s", node->name,
                        ft__shape_text(&input[2].shape, text), ft__shape_text(w, other));
    g = ft__conv_of(&node->options.conv2d, x, w);
    if (g.out_height < 1 || g.out_width < 1)
        return ft__fail(c, FT_SHAPE, "%s: kernel %dx%d, dilated by %d and %d, does not fit the"
                        " padded input %s", node->name, g.kernel[0], g.kernel[1], g.dilation[0],
                        g.dilation[1], ft__shape_text(x, text));
    if (!FT__HAS_DEPTHWISE && g.channels == 1 && g.groups > 1)
        return ft__fail(c, FT_UNSUPPORTED, "%s: depthwise convolutions are not supported by this"
                        " build (%s)", node->name, FT__WITHOUT(DEPTHWISE));
    output->size[1] = w->size[0];
    output->size[2] = g.out_height;
    output->size[3] = g.out_width;
    return ft__want_numbers(c, node, input, input_count);
}

static ft__conv ft__conv_of_call(const ft__call *call)
{
    return ft__conv_of(&call->node->options.conv2d, &call->input[0].shape, &call->input[1].shape);
}

/* ---- Depthwise: one input channel per kernel, `outputs` kernels per channel. The weights are
   copied as [tap][output channel]; each output row, input row or picture is one index. ---- */
#define FT__DEPTHWISE_WORK ((size_t)1 << 15) /* multiply-adds per index: a few microseconds */

static size_t ft__depthwise_room(const ft__conv *g, bool training)
{
    size_t weights = g->k * g->groups * (size_t)g->outputs;
    return ft__pad_to(weights, 16) * (training ? 1 + g->batch : 1);
}

static void ft__depthwise_weights(const ft__call *call, const ft__conv *g, float *to)
{
    size_t channels = g->groups * (size_t)g->outputs, c, tap, begin, some;
    const ft__stored *stored = ft__stored_weight(&call->input[1]);
    float piece[64];
    for (c = 0; c < channels; ++c)
        for (begin = 0; begin < g->k; begin += some) {
            const float *from = stored ? piece : call->input[1].value + c * g->k + begin;
            some = stored && g->k - begin > 64 ? 64 : g->k - begin;
            if (stored) ft__read_stored(call->context, stored, c, begin, some, piece);
            for (tap = 0; tap < some; ++tap) to[(begin + tap) * channels + c] = from[tap];
        }
}

/* Window sums for one output channel of every input channel at a time. `x_is_input` and
   `y_is_input` say whether x and y have input channels (else output channels). */
static void ft__depthwise_run(const ft__call *call, const ft__conv *g, ft__window_sum s,
                              bool x_is_input, bool y_is_input)
{
    size_t o, outputs = (size_t)g->outputs;
    s.channels = g->groups;
    s.x_step = x_is_input ? 1 : outputs;
    s.y_step = y_is_input ? 1 : outputs;
    s.w_step = outputs;
    for (o = 0; o < outputs; ++o) {
        ft__window_sum_run(call->context, &s);
        if (!x_is_input) s.x += 1;
        if (!y_is_input) s.y += 1;
        else s.add = true;
        if (s.bias) s.bias += 1;
        s.w += 1;
    }
}

/* The taps [*first, *last) of `count` inside an input of `size`, if the first tap is at `at`. */
static void ft__taps_inside(int count, int dilation, int at, int size, int *first, int *last)
{
    *first = at < 0 ? (-at + dilation - 1) / dilation : 0;
    *last = size - at <= 0 ? 0 : (size - at + dilation - 1) / dilation;
    if (*last > count) *last = count;
    if (*first > *last) *first = *last;
}

/* How many columns from `column` on have the same taps inside: [*left, *right), as from
   ft__taps_inside. */
static int ft__depthwise_alike(const ft__conv *g, int column, int *left, int *right)
{
    int x = column * g->stride[1] - g->left, count, next_left, next_right;
    int room = g->width - 1 - (g->kernel[1] - 1) * g->dilation[1] - x; /* to the right */
    ft__taps_inside(g->kernel[1], g->dilation[1], x, g->width, left, right);
    if (x >= 0 && room >= 0) {
        count = room / g->stride[1] + 1; /* all that have the whole kernel inside */
        return count < g->out_width - column ? count : g->out_width - column;
    }
    for (count = 1; column + count < g->out_width; ++count) {
        ft__taps_inside(g->kernel[1], g->dilation[1], x + count * g->stride[1], g->width,
                        &next_left, &next_right);
        if (next_left != *left || next_right != *right) break;
    }
    return count;
}

static void ft__depthwise_forward_row(const ft__call *call, const ft__conv *g, int index)
{
    size_t channels = g->groups * (size_t)g->outputs;
    int y = index % g->out_height * g->stride[0] - g->top, column, top, bottom, left, right;
    const float *picture = call->input[0].value + (size_t)(index / g->out_height)
        * (size_t)g->height * (size_t)g->width * g->groups;
    float *to = call->output.value + (size_t)index * (size_t)g->out_width * channels;
    ft__window_sum s;
    ft__taps_inside(g->kernel[0], g->dilation[0], y, g->height, &top, &bottom);
    memset(&s, 0, sizeof s);
    s.bias = call->input_count > 2 ? call->input[2].value : NULL;
    s.clamp = ft__is_clamp(call->fused, &s.low, &s.high);
    s.rows = bottom - top;
    s.x_column = g->dilation[1] * (ptrdiff_t)g->groups;
    s.x_row = g->dilation[0] * (ptrdiff_t)g->width * (ptrdiff_t)g->groups;
    s.x_next = g->stride[1] * (ptrdiff_t)g->groups;
    s.w_column = s.y_next = (ptrdiff_t)channels;
    s.w_row = g->kernel[1] * s.w_column;
    for (column = 0; column < g->out_width; column += s.count) {
        s.count = ft__depthwise_alike(g, column, &left, &right);
        s.columns = s.rows > 0 ? right - left : 0;
        s.y = to + (size_t)column * channels;
        s.x = picture;
        if (s.columns > 0)
            s.x += ((ptrdiff_t)(y + top * g->dilation[0]) * g->width + column * g->stride[1]
                    - g->left + left * g->dilation[1]) * (ptrdiff_t)g->groups;
        s.w = (call->prepared ? call->prepared : call->workspace)
            + (size_t)(top * g->kernel[1] + left) * channels;
        ft__depthwise_run(call, g, s, true, false);
    }
    if (call->fused && !s.clamp)
        ft__activate(call, to, (size_t)g->out_width * channels);
}

/* Rows of a result per index of a parallel loop: fewer are not worth the dispatch. */
static int ft__depthwise_band(const ft__conv *g, int width)
{
    size_t row = (size_t)width * g->groups * (size_t)g->outputs * g->k;
    return 1 + (int)(FT__DEPTHWISE_WORK / row);
}

static void ft__depthwise_forward_slot(void *context, int slot)
{
    const ft__call *call = (const ft__call *)context;
    ft__conv g = ft__conv_of_call(call);
    size_t rows = g.batch * (size_t)g.out_height, row;
    int share;
    FT__PIECES(row, share, call->context, slot, rows)
        ft__depthwise_forward_row(call, &g, (int)row);
}

static void ft__depthwise_forward(const ft__call *call, const ft__conv *g)
{
    if (!call->prepared || call->prepare)
        ft__depthwise_weights(call, g, call->prepared ? call->prepared : call->workspace);
    ft__parallel_slots(call->context, ft__depthwise_forward_slot, (void *)(uintptr_t)call);
}

/* The taps of one direction that link input position `at` to outputs: sets *tap to the first and
   *place to its output, and returns how many. Without dilation, the next tap is `stride` further
   and its output is one less. */
static int ft__taps_back(int count, int stride, int at, int out, int *tap, int *place)
{
    int first = at % stride, found = 0, i;
    for (i = first; i < count && at - i >= 0; i += stride) {
        if ((at - i) / stride >= out) continue;
        if (found++ == 0) {
            *tap = i;
            *place = (at - i) / stride;
        }
    }
    return found;
}

/* dx of one pixel with a dilation: tap by tap. */
static void ft__depthwise_dilated(const ft__call *call, const ft__conv *g, const float *dy,
                                  int row, int column, ft__window_sum s)
{
    size_t channels = g->groups * (size_t)g->outputs;
    int tap;
    s.add = true;
    s.rows = s.columns = s.count = 1;
    for (tap = 0; tap < g->kernel[0] * g->kernel[1]; ++tap) {
        int y = row - tap / g->kernel[1] * g->dilation[0];
        int x = column - tap % g->kernel[1] * g->dilation[1];
        if (y < 0 || x < 0 || y % g->stride[0] || x % g->stride[1]
            || y / g->stride[0] >= g->out_height || x / g->stride[1] >= g->out_width) continue;
        s.x = dy + ((size_t)(y / g->stride[0]) * (size_t)g->out_width
                    + (size_t)(x / g->stride[1])) * channels;
        s.w = call->workspace + (size_t)tap * channels;
        ft__depthwise_run(call, g, s, false, true);
    }
}

/* Sets pixels of a fresh dx, `step` apart, to zero. */
static void ft__depthwise_clear(const ft__conv *g, float *dx, int count, int step)
{
    for (; count > 0; --count, dx += (size_t)step * g->groups)
        memset(dx, 0, g->groups * sizeof *dx);
}

static void ft__depthwise_input_row(const ft__call *call, ft__conv g, int index)
{
    size_t channels = g.groups * (size_t)g.outputs;
    int row = index % g.height + g.top, phase, at, tap_y = 0, tap_x = 0, y = 0, x = 0;
    int stride = g.stride[1];
    const float *dy = call->output.gradient + (size_t)(index / g.height) * g.p * channels;
    float *dx = call->input[0].gradient + (size_t)index * (size_t)g.width * g.groups;
    bool dilated = g.dilation[0] != 1 || g.dilation[1] != 1;
    ft__window_sum s;
    memset(&s, 0, sizeof s);
    s.add = !call->input[0].fresh;
    if (dilated && !s.add) ft__depthwise_clear(&g, dx, g.width, 1);
    for (at = 0; dilated && at < g.width; ++at) {
        s.y = dx + (size_t)at * g.groups;
        ft__depthwise_dilated(call, &g, dy, row, at + g.left, s);
    }
    if (dilated) return;
    s.rows = ft__taps_back(g.kernel[0], g.stride[0], row, g.out_height, &tap_y, &y);
    s.x_column = -(ptrdiff_t)channels;
    s.x_row = s.x_column * g.out_width;
    s.x_next = (ptrdiff_t)channels;
    s.y_next = stride * (ptrdiff_t)g.groups;
    s.w_column = stride * (ptrdiff_t)channels;
    s.w_row = (ptrdiff_t)g.stride[0] * g.kernel[1] * (ptrdiff_t)channels;
    for (phase = 0; phase < stride; ++phase) /* columns of one phase have the same taps */
        for (at = phase; at < g.width; at += s.count * stride) {
            int first = (at + g.left) % stride;
            int all = first < g.kernel[1] ? (g.kernel[1] - first + stride - 1) / stride : 0;
            s.columns = ft__taps_back(g.kernel[1], stride, at + g.left, g.out_width, &tap_x, &x);
            s.count = s.rows > 0 && s.columns < all ? 1 : (g.width - 1 - at) / stride + 1;
            if (s.columns > 0 && g.out_width - x < s.count) s.count = g.out_width - x;
            s.y = dx + (size_t)at * g.groups;
            s.x = dy + ((size_t)y * (size_t)g.out_width + (size_t)x) * channels;
            s.w = call->workspace + (size_t)(tap_y * g.kernel[1] + tap_x) * channels;
            if (s.rows > 0 && s.columns > 0) ft__depthwise_run(call, &g, s, false, true);
            else if (!s.add) ft__depthwise_clear(&g, s.y, s.count, stride);
        }
}

static void ft__depthwise_input_band(void *context, int index)
{
    const ft__call *call = (const ft__call *)context;
    ft__conv g = ft__conv_of_call(call);
    int band = ft__depthwise_band(&g, g.width), rows = (int)g.batch * g.height, row;
    for (row = index * band; row < (index + 1) * band && row < rows; ++row)
        ft__depthwise_input_row(call, g, row);
}

/* The weight's gradient of one picture, [tap][output channel]. */
typedef struct ft__tap_sums {
    const ft__call *call;
    ft__conv g;
    const float *x, *dy;
    float *sum;
} ft__tap_sums;

/* Output rows [row, last) and columns [column, end). */
typedef struct ft__rectangle { int row, last, column, end; } ft__rectangle;

/* Adds a part of the output to `count` taps in a row from `tap` on, or to all nine. All of them are
   inside the input there. */
static void ft__depthwise_weight_part(const ft__tap_sums *t, int tap, int count, ft__rectangle part)
{
    const ft__conv *g = &t->g;
    size_t channels = g->groups * (size_t)g->outputs;
    ptrdiff_t groups = (ptrdiff_t)g->groups, line = g->width * groups;
    int y = part.row * g->stride[0] + tap / g->kernel[1] * g->dilation[0] - g->top;
    int x = part.column * g->stride[1] + tap % g->kernel[1] * g->dilation[1] - g->left;
    ft__window_sum s;
    if (part.row >= part.last || part.column >= part.end || count < 1) return;
    memset(&s, 0, sizeof s);
    s.add = true;
    s.rows = part.last - part.row;
    s.columns = part.end - part.column;
    s.count = count;
    s.channels = g->groups;
    s.x = t->x + y * line + x * groups;
    s.x_next = g->dilation[1] * groups;
    s.x_tap = g->dilation[0] * line;
    s.x_column = g->stride[1] * groups;
    s.x_row = g->stride[0] * line;
    s.w = t->dy + ((size_t)part.row * (size_t)g->out_width + (size_t)part.column) * channels;
    s.w_column = s.y_next = (ptrdiff_t)channels;
    s.w_row = g->out_width * (ptrdiff_t)channels;
    s.y = t->sum + (size_t)tap * channels;
    if (count == 9) ft__nine_sums_run(t->call->context, &s);
    else ft__depthwise_run(t->call, g, s, true, false);
}

/* Kernels of 3 x 3, one per channel: all nine taps where all are inside, then the first and last
   rows three taps at a time, then the first and last columns. One tap after the other, each sum
   waits for its last addition: with that, and with dx zeroed before it was added to, backward of
   MobileNet's at 112 x 112 x 8 took 6.0 instead of 1.9 ms (16 pictures, one thread, AVX-512). */
static void ft__depthwise_weight_nine(const ft__tap_sums *t)
{
    const ft__conv *g = &t->g;
    int column[3], end[3], i, at, first, until;
    ft__rectangle tap[3], inside, some;
    for (i = 0; i < 3; ++i) {
        ft__taps_inside(g->out_height, g->stride[0], i * g->dilation[0] - g->top, g->height,
                        &tap[i].row, &tap[i].last);
        ft__taps_inside(g->out_width, g->stride[1], i * g->dilation[1] - g->left, g->width,
                        &column[i], &end[i]);
    }
    inside.row = tap[0].row;
    inside.last = tap[2].last > inside.row ? tap[2].last : inside.row;
    inside.column = column[0];
    inside.end = end[2] > inside.column ? end[2] : inside.column;
    ft__depthwise_weight_part(t, 0, 9, inside);
    for (i = 0; i < 3; ++i) {
        some = inside;
        some.row = tap[i].row;
        some.last = inside.row < tap[i].last ? inside.row : tap[i].last;
        ft__depthwise_weight_part(t, 3 * i, 3, some);
        some.row = inside.last > tap[i].row ? inside.last : tap[i].row;
        some.last = tap[i].last;
        ft__depthwise_weight_part(t, 3 * i, 3, some);
        some = tap[i];
        for (at = 0; at < g->out_width; ++at) {
            if (at >= inside.column && at < inside.end) continue;
            for (first = 0; first < 3 && (at < column[first] || at >= end[first]); ++first) {}
            for (until = first; until < 3 && at >= column[until] && at < end[until]; ++until) {}
            some.column = at;
            some.end = at + 1;
            ft__depthwise_weight_part(t, 3 * i + first, until - first, some);
        }
    }
}

/* From the last picture on: see ft__norm_statistics_block. */
static void ft__depthwise_weight_picture(void *context, int index)
{
    const ft__call *call = (const ft__call *)context;
    size_t channels, i;
    ft__tap_sums t;
    ft__rectangle part;
    int tap, y;
    t.call = call;
    t.g = ft__conv_of_call(call);
    index = (int)t.g.batch - 1 - index;
    channels = t.g.groups * (size_t)t.g.outputs;
    t.x = call->input[0].value
        + (size_t)index * (size_t)t.g.height * (size_t)t.g.width * t.g.groups;
    t.dy = call->output.gradient + (size_t)index * t.g.p * channels;
    t.sum = call->workspace + ft__pad_to(t.g.k * channels, 16) * (1 + (size_t)index);
    for (i = 0; i < t.g.k * channels; ++i) t.sum[i] = 0;
    if (t.g.kernel[0] == 3 && t.g.kernel[1] == 3 && t.g.outputs == 1) {
        ft__depthwise_weight_nine(&t);
        return;
    }
    for (part.row = 0; part.row < t.g.out_height; part.row = part.last)
        for (part.last = part.row + 1, tap = 0; tap < t.g.kernel[0] * t.g.kernel[1]; ++tap) {
            y = part.row * t.g.stride[0] + tap / t.g.kernel[1] * t.g.dilation[0] - t.g.top;
            ft__taps_inside(t.g.out_width, t.g.stride[1], tap % t.g.kernel[1] * t.g.dilation[1]
                            - t.g.left, t.g.width, &part.column, &part.end);
            if (y >= 0 && y < t.g.height) ft__depthwise_weight_part(&t, tap, 1, part);
        }
}

static void ft__depthwise_backward(const ft__call *call, const ft__conv *g)
{
    size_t channels = g->groups * (size_t)g->outputs, room = ft__pad_to(g->k * channels, 16);
    size_t picture, c, tap;
    int band = ft__depthwise_band(g, g->width);
    if (call->input[1].gradient)
        ft__parallel(call->context, (int)g->batch, ft__depthwise_weight_picture,
                     (void *)(uintptr_t)call);
    if (call->input[0].gradient) {
        ft__depthwise_weights(call, g, call->workspace);
        ft__parallel(call->context, ((int)g->batch * g->height + band - 1) / band,
                     ft__depthwise_input_band, (void *)(uintptr_t)call);
    }
    for (picture = 0; call->input[1].gradient && picture < g->batch; ++picture)
        for (c = 0; c < channels; ++c)
            for (tap = 0; tap < g->k; ++tap)
                call->input[1].gradient[c * g->k + tap]
                    += call->workspace[room * (1 + picture) + tap * channels + c];
}
