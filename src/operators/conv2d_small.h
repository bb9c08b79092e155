#pragma once
#include "platform/context.h"
#include "basics/numbers.h"
#include "basics/threads.h"
#include "kernels/gemm.h"
#include "kernels/convolution.h"
#include "nodes/nodes.h"
#include "operators/activations.h"
#include "operators/conv2d_rows.h"
#include "operators/conv2d_rows_weight.h"

/* =============================================================================================
   [SECTION] operators/conv2d_small: Convolution of small pictures
   A kernel of 3 x 3 over 2 x 2 pixels has 4 of its 9 taps inside. Here the rows of a tile are the
   same position in several pictures, where the same taps are inside; the other taps are skipped. If
   the batch is too small for that, the rows are neighbours as in conv2d_rows, but summed in the
   same order. A step of the Keras CNN, whose last convolution has 2 x 2 pixels, takes 19.2 instead
   of 21.5 ms (32 pictures, two threads, AVX-512).
   ============================================================================================= */
typedef struct ft__small {
    ft__conv_run run;
    bool by_place;
    ft__taps_met whole;     /* all taps */
    size_t columns;         /* of the result, [pictures, places, columns] */
    float *to;
    bool backward;          /* dx */
} ft__small;

static ft__small ft__small_start(const ft__call *call, const ft__conv *g, bool backward)
{
    size_t rows = ft__tiles[call->context->simd].rows;
    ft__small s;
    s.run = ft__conv_start(call, g);
    s.backward = backward;
    s.columns = (size_t)(backward ? g->channels : g->outputs);
    s.to = backward ? call->input[0].gradient : call->output.value;
    s.whole.line = s.whole.right = g->kernel[1];
    s.whole.bottom = g->kernel[0];
    s.whole.left = s.whole.top = 0;
    s.by_place = ft__pad_to(g->batch, rows) * ft__meetings(g, 0) * ft__meetings(g, 1)
        < ft__pad_to(g->batch * g->p, rows) * (size_t)g->kernel[0] * (size_t)g->kernel[1];
    return s;
}

/* The taps of one direction that are inside the picture at a point: [*first, *last), or all if none
   is. In `offset`, taps are `step` apart. */
static void ft__small_range(const int *offset, int step, int count, int at, int size, int *first,
                            int *last)
{
    int i;
    *first = count;
    *last = 0;
    for (i = 0; i < count; ++i) {
        if (at + offset[i * step] < 0 || at + offset[i * step] >= size) continue;
        if (i < *first) *first = i;
        *last = i + 1;
    }
    if (*last > 0) return;
    *first = 0;
    *last = count;
}

static ft__taps_met ft__small_inside(const ft__small *s, size_t place)
{
    const ft__walk *w = &s->run.walk;
    int row = (int)(place / (size_t)w->columns) * w->step[0];
    int column = (int)(place % (size_t)w->columns) * w->step[1];
    ft__taps_met in = s->whole;
    ft__small_range(w->offset, 2 * in.line, in.bottom, row, w->height, &in.top, &in.bottom);
    ft__small_range(w->offset + 1, 2, in.line, column, w->width, &in.left, &in.right);
    return in;
}

/* Pointers for pictures [first, first + count) at one position: [tile][tap inside][tile's row]. */
static void ft__small_rows(const ft__small *s, const ft__taps_met *in, size_t place,
                           size_t first, size_t count, const float **table)
{
    const ft__walk *w = &s->run.walk;
    size_t rows = s->run.tile->rows, picture = (size_t)w->height * (size_t)w->width * w->pixel, i;
    size_t taps = (size_t)(in->right - in->left) * (size_t)(in->bottom - in->top);
    int row, column;
    for (row = in->top; row < in->bottom; ++row)
        for (column = in->left; column < in->right; ++column) {
            const int *offset = w->offset + 2 * (row * in->line + column);
            int y = (int)(place / (size_t)w->columns) * w->step[0] + offset[0];
            int x = (int)(place % (size_t)w->columns) * w->step[1] + offset[1];
            bool inside = y >= 0 && y < w->height && x >= 0 && x < w->width;
            const float *at = inside ? w->from + (size_t)(y * w->width + x) * w->pixel : w->zeros;
            for (i = 0; i < ft__pad_to(count, rows); ++i)
                table[i / rows * rows * taps + i % rows]
                    = at + (inside ? (first + (i < count ? i : count - 1)) * picture : 0);
            table += rows;
        }
}

/* A piece: one panel of columns, and pictures at one position, or points. The pieces of a panel
   follow each other, so that its weights stay in the cache. */
static void ft__small_slot(void *context, int slot)
{
    const ft__small *s = (const ft__small *)context;
    const ft__conv_run *run = &s->run;
    const ft__call *call = run->call;
    const ft__walk *w = &run->walk;
    const float **table = (const float **)(void *)(run->slots + (size_t)slot * run->room.slot);
    const float *bias = !s->backward && call->input_count > 2 ? call->input[2].value : NULL;
    size_t block = FT__WALK_TILES * run->tile->rows, wide = run->tile->columns, i, r;
    size_t places = s->by_place ? (size_t)w->rows * (size_t)w->columns : 1;
    size_t points = run->g.batch * (size_t)w->rows * (size_t)w->columns / places;
    size_t blocks = (points + block - 1) / block, taps = (size_t)w->taps;
    ft__finish f;
    int share;
    f.clamp = !s->backward && ft__is_clamp(call->fused, &f.low, &f.high);
    f.stride = places * s->columns;
    FT__PIECES(i, share, call->context, slot,
               (s->columns + wide - 1) / wide * places * blocks) {
        size_t column = i / (places * blocks) * wide, place = i / blocks % places;
        size_t first = i % blocks * block;
        ft__taps_met in = s->by_place ? ft__small_inside(s, place) : s->whole;
        f.count = ft__min_size(block, points - first);
        f.columns = ft__min_size(wide, s->columns - column);
        f.y = s->to + (first * places + place) * s->columns + column;
        f.bias = bias ? bias + column : NULL;
        if (s->by_place) ft__small_rows(s, &in, place, first, f.count, table);
        else ft__walk_rows(w, first, f.count, run->tile->rows, table);
        ft__multiply_inside(run->tile, table, f.count, &in, taps, w->channels,
                            run->shared + column * taps * w->channels, f.columns, f.y, f.stride,
                            s->backward && !call->input[0].fresh);
        if (f.bias || f.clamp) ft__finish_run(call->context, &f);
        for (r = 0; !s->backward && call->fused && !f.clamp && r < f.count; ++r)
            ft__activate(call, f.y + r * f.stride, f.columns);
    }
}

static void ft__small_forward(const ft__call *call, const ft__conv *g)
{
    ft__small s = ft__small_start(call, g, false);
    ft__conv_walk_input(&s.run);
    ft__conv_pack_forward(&s.run);
    ft__parallel_slots(call->context, ft__small_slot, &s);
}

static void ft__small_input_gradient(const ft__call *call, const ft__conv *g)
{
    ft__small s = ft__small_start(call, g, true);
    ft__conv_pack_backward(&s.run);
    ft__conv_walk_output(&s.run, 0, 0);
    ft__parallel_slots(call->context, ft__small_slot, &s);
}

/* dW: a piece is some channels of all taps, summed over the positions where a tap is inside, and
   transposed into the weight's order while it is in the cache. */
#define FT__SMALL_CHANNELS ((size_t)16)

/* Numbers of FT__SMALL_CHANNELS rows in whole panels of 4, 6 or 8 rows: those of 6 take most. */
static size_t ft__small_packed(size_t points) { return ft__pad_to(points * 18, 16); }

static size_t ft__small_slot_room(const ft__conv *g)
{
    size_t points = g->batch * g->p, area = (size_t)g->kernel[0] * (size_t)g->kernel[1];
    return ft__small_packed(points) + ft__pad_to(points * sizeof(void *) / sizeof(float), 16)
        + ft__pad_to(area * FT__SMALL_CHANNELS * (size_t)g->outputs, 16);
}

/* Numbers of workspace for dW; forward and dx need less than in the other forms. */
static size_t ft__small_room(const ft__context *c, const ft__conv *g)
{
    ft__conv_room room = ft__conv_room_of(c, g, true);
    return room.shared + room.zeros + room.lists
        + ft__packed_right(c, (size_t)g->outputs, g->batch * g->p)
        + (size_t)c->threads * ft__small_slot_room(g);
}

/* Packs panel `index` of dy as a right matrix: [position][picture]. */
static void ft__small_pack_dy(void *context, int index)
{
    const ft__conv_run *run = (const ft__conv_run *)context;
    size_t outputs = (size_t)run->g.outputs, batch = run->g.batch, p = run->g.p, place;
    size_t column = (size_t)index * run->tile->columns;
    size_t width = ft__panel_width(run->tile, outputs, column);
    for (place = 0; place < p; ++place)
        ft__pack_panel(ft__transposed(ft__rows_of(run->call->output.gradient + place * outputs
                                                  + column, p * outputs)),
                       ft__min_size(width, outputs - column), width, batch,
                       run->slots + column * batch * p + place * batch * width);
}

/* Sums one tap for `some` channels from `channel` on, over runs of positions where it is inside. */
static void ft__small_weight_tap(const ft__conv_run *run, int tap, size_t channel, size_t some,
                                 float *packed, const float **lines, float *sum)
{
    const ft__conv *g = &run->g;
    const int *offset = run->walk.offset + 2 * tap;
    size_t place = 0, until, picture, picture_size = (size_t)(g->height * g->width);
    bool first = true;
    for (; place < g->p; place = until) {
        size_t count = 0;
        for (until = place; until < g->p; ++until) {
            int y = (int)until / g->out_width * g->stride[0] + offset[0];
            int x = (int)until % g->out_width * g->stride[1] + offset[1];
            if (y < 0 || y >= g->height || x < 0 || x >= g->width) break;
            for (picture = 0; picture < g->batch; ++picture)
                lines[count++] = run->walk.from + (picture * picture_size
                                                   + (size_t)(y * g->width + x))
                    * run->walk.channels;
        }
        if (until == place) until += 1; /* the tap is outside at this one */
        if (count == 0) continue;
        ft__pack_pixels(lines, count, channel, some, run->tile->rows, packed);
        ft__conv_weight_unit(run, count, some, packed, run->slots, g->batch * g->p,
                             place * g->batch, sum, first);
        first = false;
    }
    if (first) memset(sum, 0, some * (size_t)g->outputs * sizeof *sum);
}

static void ft__small_weight_slot(void *context, int slot)
{
    const ft__conv_run *run = (const ft__conv_run *)context;
    const ft__conv *g = &run->g;
    size_t outputs = (size_t)g->outputs, channels = (size_t)g->channels, points = g->batch * g->p;
    size_t taps = (size_t)run->walk.taps, i, tap;
    float *packed = run->slots + ft__packed_right(run->call->context, outputs, points)
        + (size_t)slot * ft__small_slot_room(g);
    const float **lines = (const float **)(void *)(packed + ft__small_packed(points));
    float *sum = packed + ft__small_packed(points)
        + ft__pad_to(points * sizeof(void *) / sizeof(float), 16);
    int share;
    FT__PIECES(i, share, run->call->context, slot,
               (channels + FT__SMALL_CHANNELS - 1) / FT__SMALL_CHANNELS) {
        size_t channel = i * FT__SMALL_CHANNELS;
        size_t some = ft__min_size(FT__SMALL_CHANNELS, channels - channel);
        for (tap = 0; tap < taps; ++tap)
            ft__small_weight_tap(run, (int)tap, channel, some, packed, lines,
                                 sum + tap * some * outputs);
        ft__conv_transpose_piece(sum, some, taps, outputs, 0, outputs,
                                 run->call->input[1].gradient + channel * taps, g->k);
    }
}

static void ft__small_weight_gradient(const ft__call *call, const ft__conv *g)
{
    ft__conv_run run = ft__conv_start(call, g);
    size_t wide = run.tile->columns;
    ft__conv_walk_input(&run);
    ft__parallel(call->context, (int)(((size_t)g->outputs + wide - 1) / wide), ft__small_pack_dy,
                 &run);
    ft__parallel_slots(call->context, ft__small_weight_slot, &run);
}
