#pragma once
#include "interface/types.h"
#include "interface/operators.h"
#include "platform/families.h"
#include "platform/context.h"
#include "basics/threads.h"
#include "nodes/nodes.h"
#include "operators/table.h"
#include "operators/adding.h"
#include "operators/common.h"

/* =============================================================================================
   [SECTION] operators/resize: resize
   Nearest and linear, in one or two dimensions: each number of y is made from one or two rows and
   columns of x, which are found beforehand.
   ============================================================================================= */
static const ft__field ft__resize_fields[] = {
    FT__INT(ft_resize_options, size), FT__FLOAT(ft_resize_options, scale),
    FT__INT(ft_resize_options, mode), FT__INT(ft_resize_options, coordinates),
    FT__INT(ft_resize_options, rounding), FT__NO_MORE_FIELDS};

/* Where a row or column of y lies between two of x: the share of the second is `part`. */
typedef struct ft__between { int low, high; float part; } ft__between;

/* The ratio of y's size to x's along an axis, 0 the rows and 1 the columns; 0: not given. */
static double ft__resize_scale(const ft_resize_options *o, int axis)
{
    return (double)o->scale[axis && o->scale[1] != 0];
}

/* The size of y along an axis if that of x is `in`; 0: none. */
static int ft__resized(const ft_resize_options *o, int axis, int in)
{
    double size = floor((double)in * ft__resize_scale(o, axis));
    if (o->size[0]) return ft__pair(o->size, axis, 0);
    return size >= 1 && size <= (double)(1 << 24) ? (int)size : 0;
}

static ft_status ft__resize_shape(ft__context *c, const ft__node *node, const ft__tensor *input,
                                  int input_count, ft_shape *output)
{
    const ft_resize_options *o = &node->options.resize;
    int i, d;
    char text[80];
    *output = input[0].shape;
    if (output->rank < 3 || output->rank > 4)
        return ft__fail(c, FT_SHAPE, "%s: expected an input [N, C, H, W] or [N, C, L], not %s",
                        node->name, ft__shape_text(output, text));
    for (i = 0; i < 2; ++i) {
        bool fits = o->scale[i] >= 0 && o->size[i] >= 0 && o->size[i] <= 1 << 24;
        d = output->rank - 2 + i;
        if (fits && d == 1) continue; /* [N, C, L] has no rows */
        if (!fits || output->size[d] < 1 || ft__resized(o, i, output->size[d]) < 1)
            return ft__fail(c, FT_SHAPE, "%s: dimension %d of %s cannot be resized to size %d, or"
                            " by scale %g", node->name, d, ft__shape_text(&input[0].shape, text),
                            ft__pair(o->size, i, 0), ft__resize_scale(o, i));
        output->size[d] = ft__resized(o, i, output->size[d]);
    }
    if (output->rank == 3 && (o->size[1] || o->scale[1] != 0))
        return ft__fail(c, FT_SHAPE, "%s: a second size %d or scale %g has no effect on %s",
                        node->name, o->size[1], (double)o->scale[1],
                        ft__shape_text(&input[0].shape, text));
    if ((unsigned)o->mode > FT_RESIZE_LINEAR
        || (unsigned)o->coordinates > FT_RESIZE_PYTORCH_HALF_PIXEL
        || (unsigned)o->rounding > FT_RESIZE_PREFER_CEIL
        || (o->mode == FT_RESIZE_LINEAR && o->rounding))
        return ft__fail(c, FT_INVALID, "%s: mode %d, coordinates %d, rounding %d: no such option,"
                        " or a rounding of FT_RESIZE_LINEAR", node->name, (int)o->mode,
                        (int)o->coordinates, (int)o->rounding);
    return ft__want_numbers(c, node, input, input_count);
}

/* The place in x, as a real number, of y's number `at`. */
static double ft__resize_place(const ft_resize_options *o, int axis, int in, int out, int at)
{
    ft_resize_coordinates how = o->coordinates;
    double scale = ft__resize_scale(o, axis);
    if (scale == 0) scale = (double)out / in;
    if (!how) how = o->mode == FT_RESIZE_LINEAR ? FT_RESIZE_HALF_PIXEL : FT_RESIZE_ASYMMETRIC;
    if (how == FT_RESIZE_ASYMMETRIC) return at / scale;
    if (how == FT_RESIZE_ALIGN_CORNERS) return out > 1 ? (double)at * (in - 1) / (out - 1) : 0;
    if (how == FT_RESIZE_PYTORCH_HALF_PIXEL && out == 1) return 0;
    return (at + 0.5) / scale - 0.5;
}

/* Rounds a place; one that is a whole or half number but for the error of a division is taken as
   that number. */
static double ft__resize_round(ft_resize_rounding how, double place)
{
    double exact = floor(2 * place + 0.5) / 2;
    if (fabs(exact - place) < 1e-5) place = exact;
    if (how == FT_RESIZE_FLOOR) return floor(place);
    if (how == FT_RESIZE_CEIL) return ceil(place);
    return how == FT_RESIZE_PREFER_CEIL ? floor(place + 0.5) : ceil(place - 0.5);
}

/* Fills in `out` places; those outside x are moved to its first or last number. */
static void ft__resize_places(const ft_resize_options *o, int axis, int in, int out,
                              ft__between *to)
{
    int at;
    for (at = 0; at < out; ++at) {
        double place = ft__resize_place(o, axis, in, out, at);
        if (o->mode == FT_RESIZE_NEAREST) place = ft__resize_round(o->rounding, place);
        place = place < 0 ? 0 : place > in - 1 ? in - 1 : place;
        to[at].low = (int)place;
        to[at].part = (float)(place - to[at].low);
        to[at].high = to[at].low + (to[at].part > 0);
    }
}

typedef struct ft__resizing {
    const ft__call *call;
    size_t channels, some;  /* in all, and at a time: those that are neighbours in memory */
    size_t parts;           /* of `some` channels */
    size_t of_x[4], of_y[4]; /* the strides of [N, C, H, W]; [N, C, L] has a height of 1 */
    int height, width;      /* of y */
    const ft__between *rows, *columns;
} ft__resizing;

static void ft__picture_steps(const ft__tensor *t, size_t steps[4])
{
    ft__memory_steps(t, steps);
    if (t->shape.rank == 4) return;
    steps[3] = steps[2];
    steps[2] = 0;
}

static ft__resizing ft__resizing_of(const ft__call *call)
{
    const ft_resize_options *o = &call->node->options.resize;
    const ft__tensor *x = &call->input[0], *y = &call->output;
    int last = x->shape.rank - 1;
    ft__between *places = (ft__between *)(void *)call->workspace;
    ft__resizing r;
    memset(&r, 0, sizeof r);
    r.call = call;
    r.channels = (size_t)x->shape.size[1];
    r.some = x->channels_last ? 16 : 1;
    r.parts = (r.channels + r.some - 1) / r.some;
    r.height = last == 3 ? y->shape.size[2] : 1;
    r.width = y->shape.size[last];
    ft__picture_steps(x, r.of_x);
    ft__picture_steps(y, r.of_y);
    r.rows = places;
    r.columns = places + r.height;
    memset(places, 0, sizeof *places);
    if (last == 3) ft__resize_places(o, 0, x->shape.size[2], r.height, places);
    ft__resize_places(o, 1, x->shape.size[last], r.width, places + r.height);
    return r;
}

static float ft__weigh(float low, float high, float part)
{
    return part > 0 ? (1 - part) * low + part * high : low;
}

/* Channels [first, end) of row i of sample n of y. */
static void ft__resize_line(const ft__resizing *r, size_t n, int i, size_t first, size_t end)
{
    ft__between row = r->rows[i];
    const float *x = r->call->input[0].value + n * r->of_x[0];
    const float *low = x + (size_t)row.low * r->of_x[2], *high = x + (size_t)row.high * r->of_x[2];
    float *y = r->call->output.value + n * r->of_y[0] + (size_t)i * r->of_y[2];
    size_t c;
    int j;
    for (j = 0; j < r->width; ++j) {
        ft__between column = r->columns[j];
        size_t left = (size_t)column.low * r->of_x[3], right = (size_t)column.high * r->of_x[3];
        for (c = first; c < end; ++c) {
            size_t at = c * r->of_x[1];
            y[c * r->of_y[1] + (size_t)j * r->of_y[3]]
                = ft__weigh(ft__weigh(low[at + left], low[at + right], column.part),
                            ft__weigh(high[at + left], high[at + right], column.part), row.part);
        }
    }
}

static void ft__resize_line_back(const ft__resizing *r, size_t n, int i, size_t first, size_t end)
{
    ft__between row = r->rows[i];
    float *x = r->call->input[0].gradient + n * r->of_x[0];
    float *low = x + (size_t)row.low * r->of_x[2], *high = x + (size_t)row.high * r->of_x[2];
    const float *y = r->call->output.gradient + n * r->of_y[0] + (size_t)i * r->of_y[2];
    size_t c;
    int j;
    for (j = 0; j < r->width; ++j) {
        ft__between column = r->columns[j];
        size_t left = (size_t)column.low * r->of_x[3], right = (size_t)column.high * r->of_x[3];
        for (c = first; c < end; ++c) {
            float d = y[c * r->of_y[1] + (size_t)j * r->of_y[3]];
            size_t at = c * r->of_x[1];
            low[at + left] += (1 - row.part) * (1 - column.part) * d;
            if (column.part > 0) low[at + right] += (1 - row.part) * column.part * d;
            if (row.part > 0) high[at + left] += row.part * (1 - column.part) * d;
            if (row.part > 0 && column.part > 0)
                high[at + right] += row.part * column.part * d;
        }
    }
}

/* One row of y, or in backward some channels of a sample, whose rows of y share rows of x. */
static void ft__resize_forward_one(void *context, int index)
{
    const ft__resizing *r = (const ft__resizing *)context;
    size_t first, end;
    for (first = 0; first < r->channels; first = end) {
        end = first + r->some < r->channels ? first + r->some : r->channels;
        ft__resize_line(r, (size_t)(index / r->height), index % r->height, first, end);
    }
}

static void ft__resize_backward_one(void *context, int index)
{
    const ft__resizing *r = (const ft__resizing *)context;
    size_t n = (size_t)index / r->parts, first = (size_t)index % r->parts * r->some;
    size_t end = first + r->some < r->channels ? first + r->some : r->channels;
    int i;
    for (i = 0; i < r->height; ++i) ft__resize_line_back(r, n, i, first, end);
}

static void ft__resize_costs(const ft__call *call, ft__costs *costs)
{
    const ft_shape *y = &call->output.shape;
    int height = y->rank == 4 ? y->size[2] : 1;
    costs->workspace = ((size_t)height + (size_t)y->size[y->rank - 1]) * sizeof(ft__between);
}

static void ft__resize_forward(const ft__call *call)
{
    ft__resizing r = ft__resizing_of(call);
    ft__parallel(call->context, call->output.shape.size[0] * r.height, ft__resize_forward_one, &r);
}

static void ft__resize_backward(const ft__call *call)
{
    ft__resizing r;
    if (!call->input[0].gradient) return;
    r = ft__resizing_of(call);
    ft__parallel(call->context, call->output.shape.size[0] * (int)r.parts, ft__resize_backward_one,
                 &r);
}

/* In files: `resize` | x [N, C, H, W] or [N, C, L] | `size` (height, width) or `scale`
   required: the size of y, or its ratio to that of x, `mode` 0 (0 nearest, 1
   linear), `coordinates` 0 (1 half_pixel, 2 asymmetric, 3 align_corners, 4 pytorch_half_pixel, 0:
   half_pixel if linear, else asymmetric), `rounding` 0 (0 floor, 1 ceil, 2 round_prefer_floor, 3
   round_prefer_ceil: nearest only) */
static const ft__row ft__row_resize = {
    FT__NAMED(resize), 1, 1, FT__ANY_LAYOUT,
    ft__resize_shape, ft__resize_forward, FT__BACKWARD(ft__resize_backward), ft__resize_costs,
    ft__resize_fields, NULL};

ft_node ft_resize(ft_model *m, const char *name, ft_node x, ft_resize_options options)
{
    ft_node none = {0};
    if (!FT__HAS(m, ARITHMETIC)) return none;
    return ft__add_node(m, &ft__row_resize, name, &x, 1, &options, sizeof options);
}
