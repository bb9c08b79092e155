#pragma once
#include "platform/context.h"
#include "basics/numbers.h"
#include "basics/threads.h"
#include "kernels/gemm.h"
#include "kernels/convolution.h"
#include "nodes/nodes.h"
#include "operators/conv2d_rows.h"

/* =============================================================================================
   [SECTION] operators/conv2d_rows_weight: The weight's gradient by gathered rows
   Summed over chunks of pixels as [tap][channel][output], then transposed into the weight's order.
   A piece is some channels of all taps. If that makes too few pieces, a piece is a segment of the
   pixels instead, and its units are channels of a tap.
   ============================================================================================= */

static void ft__pack_pixel(const float *from, size_t valid, size_t width, float *to)
{
    size_t l;
    if (valid == 8) memcpy(to, from, 8 * sizeof *to);
    else if (valid == 6 && width == 6) memcpy(to, from, 6 * sizeof *to);
    else if (valid == 4 && width == 4) memcpy(to, from, 4 * sizeof *to);
    else {
        for (l = 0; l < valid; ++l) to[l] = from[l];
        for (; l < width; ++l) to[l] = 0;
    }
}

/* Packs rows [row, row + rows) of a tap (`lines`: its stretch at each pixel) as panels over the
   pixels. */
static void ft__pack_pixels(const float *const *lines, size_t count, size_t row, size_t rows,
                            size_t width, float *to)
{
    size_t begin, p;
    for (begin = 0; begin < rows; begin += width)
        for (p = 0; p < count; ++p, to += width)
            ft__pack_pixel(lines[p] + row + begin, ft__min_size(width, rows - begin), width, to);
}

/* One unit over `count` pixels, starting at pixel `from` of the `depth` that dy has: adds to `sum`
   [rows, outputs], or writes it if `first`. */
static void ft__conv_weight_unit(const ft__conv_run *run, size_t count, size_t rows,
                                 const float *packed, const float *dy, size_t depth, size_t from,
                                 float *sum, bool first)
{
    const ft__tile_row *tile = run->tile;
    size_t outputs = (size_t)run->g.outputs, j, i, r, width;
    const float *row[FT__TILE_ROWS];
    for (j = 0; j < outputs; j += width) {
        width = ft__panel_width(tile, outputs, j);
        for (i = 0; i < rows; i += tile->rows) {
            for (r = 0; r < tile->rows; ++r) row[r] = packed + i * count + r;
            ft__gemm_tile(tile, rows - i, outputs - j, 1, count, row, tile->rows,
                          dy + j * depth + from * width, width, dy, 0, sum + i * outputs + j,
                          outputs, !first);
        }
    }
}

/* Pointers to the stretches of one tap at `count` pixels, or to the patches if those are used. */
static void ft__conv_lines(const ft__conv_run *run, size_t tap, size_t first, size_t count,
                           float *patches, const float **lines)
{
    ft__walk w = run->walk;
    size_t i;
    w.from += run->group * w.channels;
    if (ft__few_channels(&run->g))
        for (i = 0; i < count; ++i) lines[i] = patches + i * run->g.k;
    else {
        w.taps = 1;
        w.offset += 2 * tap;
        ft__walk_rows(&w, first, count, 1, lines);
    }
}

/* Sums over the pixels [first, end) for the units `unit`, `unit` + `step`, ... */
static void ft__conv_weight_sum(const ft__conv_run *run, float *scratch, size_t first, size_t end,
                                size_t unit, size_t step, float *sum)
{
    const ft__conv *g = &run->g;
    size_t outputs = (size_t)g->outputs, chunk = ft__conv_chunk(g), begin = first, i, j, width;
    size_t most = run->tile->rows * FT__WEIGHT_TILES;
    bool few = ft__few_channels(g);
    size_t rows = few ? g->k : (size_t)g->channels, units = (rows + most - 1) / most;
    size_t taps = few ? 1 : (size_t)run->walk.taps;
    float *packed = scratch, *dy = packed + most * chunk;
    const float **lines = (const float **)(void *)(dy + ft__packed_right(run->call->context,
                                                                         outputs, chunk));
    float *patches = (float *)(void *)(lines + chunk);
    for (; first < end; first += chunk) {
        size_t count = ft__min_size(chunk, end - first);
        ft__matrix right = ft__transposed(ft__rows_of(
            run->call->output.gradient + first * g->groups * outputs + run->group * outputs,
            g->groups * outputs));
        for (j = 0; j < outputs; j += width, right.at += width) {
            width = ft__panel_width(run->tile, outputs, j);
            ft__pack_panel(right, ft__min_size(width, outputs - j), width, count, dy + j * count);
        }
        if (few) ft__patches(g, run->walk.from + run->group * (size_t)g->channels, first, count,
                             g->k, patches);
        for (i = unit; i < taps * units; i += step) {
            size_t tap = i / units, row = i % units * most, some = ft__min_size(most, rows - row);
            ft__conv_lines(run, tap, first, count, patches, lines);
            ft__pack_pixels(lines, count, row, some, run->tile->rows, packed);
            ft__conv_weight_unit(run, count, some, packed, dy, count, 0,
                                 sum + (tap * rows + row) * outputs, first == begin);
        }
    }
}

/* The same if the patches are the right matrix: sums [output][patch], units of a tile's outputs,
   each summed in the same order as above. Backward of MobileNet's first convolution takes 3.6
   instead of 10.2 ms (16 pictures, one thread, AVX-512). */
static void ft__conv_patch_sum(const ft__conv_run *run, float *scratch, size_t first, size_t end,
                               size_t unit, size_t step, float *sum)
{
    const ft__conv *g = &run->g;
    size_t outputs = (size_t)g->outputs, pixel = g->groups * outputs, begin = first, o, r;
    size_t rows = run->tile->rows, width = ft__patch_width(run->call->context, g), count;
    const float *row[FT__TILE_ROWS], *dy;
    for (; first < end; first += count) {
        count = ft__min_size(ft__conv_chunk(g), end - first);
        ft__patches(g, run->walk.from + run->group * (size_t)g->channels, first, count, width,
                    scratch);
        dy = run->call->output.gradient + first * pixel + run->group * outputs;
        for (o = unit * rows; o < outputs; o += step * rows) {
            for (r = 0; r < rows; ++r) row[r] = dy + ft__min_size(o + r, outputs - 1);
            ft__gemm_tile(run->tile, outputs - o, width, 1, count, row, pixel, scratch, width,
                          scratch, 0, sum + o * width, width, first != begin);
        }
    }
}

#define FT__PLAIN_CHANNELS ((size_t)32) /* a multiple of the kernels' rows */

/* Whether dW is a^T b of two matrices read in place, with sizes that suit those kernels
   (ft__outers). */
static bool ft__conv_is_plain(const ft__context *c, const ft__conv *g)
{
    const struct ft__outer_row *outer = &ft__outers[c->simd];
    return outer->rows > 0 && g->groups == 1 && g->kernel[0] == 1 && g->kernel[1] == 1
        && g->out_height == g->height && g->out_width == g->width && g->top == 0 && g->left == 0
        && !ft__few_channels(g) && !g->pairs && (size_t)g->channels % outer->rows == 0
        && (size_t)g->outputs % outer->narrow == 0;
}

/* The sums of ft__conv_weight_sum for such a dW, with the same bits, over points [first, end) for
   some channels from `channel` on. Backward of MobileNet's first 1 x 1 convolution, 8 to 16
   channels, took 4.1 instead of 2.0 ms with packed factors (16 pictures, one thread, AVX-512). */
static void ft__conv_plain_sum(const ft__conv_run *run, size_t first, size_t end, size_t channel,
                               float *sum)
{
    const ft__conv *g = &run->g;
    const struct ft__outer_row *outer = &ft__outers[run->call->context->simd];
    size_t outputs = (size_t)g->outputs, channels = (size_t)g->channels, begin = first, j, row;
    size_t last = ft__min_size(channels, channel + FT__PLAIN_CHANNELS), count, width;
    for (; first < end; first += count) {
        const float *x = run->call->input[0].value + first * channels;
        const float *dy = run->call->output.gradient + first * outputs;
        count = ft__min_size(ft__conv_chunk(g), end - first);
        for (j = 0; j < outputs; j += width) {
            bool whole = outputs - j >= 2 * outer->narrow;
            width = whole ? 2 * outer->narrow : outer->narrow;
            for (row = channel; row < last; row += outer->rows)
                outer->run[whole](count, x + row, channels, dy + j, outputs,
                                  sum + row * outputs + j, outputs, first != begin);
        }
    }
}

static void ft__conv_plain_slot(void *context, int slot)
{
    const ft__conv_run *run = (const ft__conv_run *)context;
    const ft__conv *g = &run->g;
    size_t segments = ft__conv_segments(run->call->context, g), points = g->batch * g->p, i;
    size_t channels = (size_t)g->channels, segment;
    size_t units = (channels + FT__PLAIN_CHANNELS - 1) / FT__PLAIN_CHANNELS;
    int share;
    FT__PIECES(i, share, run->call->context, slot, segments * units) {
        segment = segments - 1 - i / units; /* from the end: see ft__norm_statistics_block */
        ft__conv_plain_sum(run, points * segment / segments, points * (segment + 1) / segments,
                           i % units * FT__PLAIN_CHANNELS,
                           run->shared + segment * channels * (size_t)g->outputs);
    }
}

/* Adds the sums [output][patch] to the gradient. */
static void ft__conv_transpose_patch(const ft__conv_run *run)
{
    const ft__conv *g = &run->g;
    size_t width = ft__patch_width(run->call->context, g), outputs = (size_t)g->outputs, i, p;
    size_t rows = ft__conv_segments(run->call->context, g) * outputs;
    size_t channels = (size_t)g->channels;
    for (i = 0; i < rows; ++i) {
        float *dw = run->call->input[1].gradient + (run->group * outputs + i % outputs) * g->k;
        for (p = 0; p < g->k; ++p)
            dw[p % channels * (g->k / channels) + p / channels] += run->shared[i * width + p];
    }
}

static void ft__conv_weight_slot(void *context, int slot)
{
    const ft__conv_run *run = (const ft__conv_run *)context;
    const ft__conv *g = &run->g;
    size_t segments = ft__conv_segments(run->call->context, g), points = g->batch * g->p, i;
    size_t threads = (size_t)run->call->context->threads;
    size_t width = ft__patch_width(run->call->context, g);
    size_t numbers = (width ? width : g->k) * (size_t)g->outputs;
    float *scratch = run->slots + (size_t)slot * run->room.slot;
    void (*sum)(const ft__conv_run *, float *, size_t, size_t, size_t, size_t, float *)
        = width ? ft__conv_patch_sum : ft__conv_weight_sum;
    if (segments == 1)
        sum(run, scratch, 0, points, (size_t)slot, threads, run->shared);
    else
        for (i = (size_t)slot; i < segments; i += threads)
            sum(run, scratch, points * i / segments, points * (i + 1) / segments, 0, 1,
                run->shared + i * numbers);
}

/* ---- A piece: some channels of all taps ---- */

/* Adds sums [tap][channel][output] of `channels` channels, while they are in the cache, to outputs
   [first, end) of `outputs` in `dw` [output][k], which starts at the first of these channels. */
static void ft__conv_transpose_piece(const float *sum, size_t channels, size_t taps, size_t outputs,
                                     size_t first, size_t end, float *dw, size_t k)
{
    size_t o, begin, p, rows;
    const float *row[FT__PACK_AT_ONCE];
    for (o = first; o < end; o += 16)
        for (begin = 0; begin < channels * taps; begin += rows) {
            rows = ft__min_size(FT__PACK_AT_ONCE, channels * taps - begin);
            for (p = 16; p < 32 && o + p < end; ++p) FT__PREFETCH(dw + (o + p) * k + begin);
            for (p = 0; p < rows; ++p)
                row[p] = sum + ((begin + p) % taps * channels + (begin + p) / taps) * outputs + o;
            ft__add_transposed(row, rows, ft__min_size(16, end - o), dw + o * k + begin, k);
        }
}

/* Packs panel `index` of the chunk's dy as a right matrix. */
static void ft__conv_pack_dy(void *context, int index)
{
    const ft__conv_run *run = (const ft__conv_run *)context;
    size_t outputs = (size_t)run->g.outputs, pixel = run->g.groups * outputs;
    size_t j = (size_t)index * run->tile->columns, width = ft__panel_width(run->tile, outputs, j);
    ft__matrix dy = ft__transposed(ft__rows_of(run->call->output.gradient + run->first * pixel
                                               + run->group * outputs + j, pixel));
    ft__pack_panel(dy, ft__min_size(width, outputs - j), width, run->count,
                   run->shared + outputs * run->g.k + j * run->count);
}

/* Packs the pixels of a chunk, for channels [channel, channel + some), tile by tile of a tap's
   rows. `lines`: [pixel][tap]. */
static void ft__conv_pack_taps(const ft__conv_run *run, const float *const *lines, size_t channel,
                               size_t some, float *to)
{
    size_t rows = run->tile->rows, taps = (size_t)run->walk.taps, p, tap, i;
    size_t room = ft__conv_panel_room(run->call->context, run->count);
    for (tap = 0; tap < taps; ++tap, to += (some + rows - 1) / rows * room)
        for (p = 0; p < run->count; ++p) {
            const float *from = lines[p * taps + tap] + channel;
            float *at = to + p * rows;
            if (p + 16 < run->count) FT__PREFETCH(lines[(p + 16) * taps + tap] + channel);
            for (i = 0; i < some; i += rows, at += room)
                ft__pack_pixel(from + i, ft__min_size(rows, some - i), rows, at);
        }
}

/* Adds to sums [tap][some][outputs] in columns [column, end). Meanwhile the first tiles prefetch
   the next panel of dy. */
static void ft__conv_sum_piece(const ft__conv_run *run, const float *packed, size_t some,
                               size_t column, size_t end, float *sum)
{
    const ft__tile_row *tile = run->tile;
    size_t outputs = (size_t)run->g.outputs, taps = (size_t)run->walk.taps, j, tap, i, r, width;
    size_t room = ft__conv_panel_room(run->call->context, run->count);
    const float *dy = run->shared + outputs * run->g.k, *row[FT__TILE_ROWS];
    for (j = column; j < end; j += width) {
        const float *right = dy + j * run->count, *left = packed;
        size_t fetched = 0;
        width = ft__panel_width(tile, outputs, j);
        for (tap = 0; tap < taps; ++tap)
            for (i = 0; i < some; i += tile->rows, left += room, fetched += 16) {
                bool fetch = fetched < width && j + width < end;
                for (r = 0; r < tile->rows; ++r) row[r] = left + r;
                ft__gemm_tile(tile, some - i, outputs - j, 1, run->count, row, tile->rows, right,
                              width, fetch ? right + width * run->count + fetched : right,
                              fetch ? width : 0, sum + (tap * some + i) * outputs + j, outputs,
                              run->first > 0);
            }
    }
}

static void ft__conv_channels_slot(void *context, int slot)
{
    const ft__conv_run *run = (const ft__conv_run *)context;
    const ft__conv *g = &run->g;
    ft__walk w = run->walk;
    size_t channels = (size_t)g->channels, taps = (size_t)w.taps, outputs = (size_t)g->outputs;
    size_t high = ft__conv_piece_channels(run->call->context, g), i;
    size_t panels = (outputs + run->tile->columns - 1) / run->tile->columns;
    size_t room = ft__conv_panel_room(run->call->context, ft__conv_chunk(g));
    float *packed = run->slots + (size_t)slot * run->room.slot;
    const float **lines = (const float **)(void *)(packed + high / run->tile->rows * taps * room);
    int share;
    w.from += run->group * w.channels;
    ft__walk_rows(&w, run->first, run->count, 1, lines);
    FT__PIECES(i, share, run->call->context, slot, (channels + high - 1) / high * run->parts) {
        size_t channel = i / run->parts * high, part = i % run->parts;
        size_t some = ft__min_size(high, channels - channel);
        size_t column = panels * part / run->parts * run->tile->columns;
        size_t end = panels * (part + 1) / run->parts * run->tile->columns;
        float *sum = run->shared + channel * taps * outputs;
        end = ft__min_size(end, outputs);
        ft__conv_pack_taps(run, lines, channel, some, packed);
        ft__conv_sum_piece(run, packed, some, column, end, sum);
        if (run->first + run->count == g->batch * g->p)
            ft__conv_transpose_piece(sum, some, taps, outputs, column, end,
                                     run->call->input[1].gradient + run->group * outputs * g->k
                                     + channel * taps, g->k);
    }
}

/* With units of one tap, all threads packed dy and the sums were transposed at the end. Compared to
   that, dW of ResNet-18's layer4.0.conv1 takes 0.92 of the time, layer3.0.conv1's 0.97 (16
   pictures, two threads, AVX-512). */
static void ft__conv_sum_channels(ft__conv_run *run)
{
    const ft__conv *g = &run->g;
    ft__context *c = run->call->context;
    size_t points = g->batch * g->p, high = ft__conv_piece_channels(c, g);
    size_t pieces = ((size_t)g->channels + high - 1) / high;
    size_t panels = ((size_t)g->outputs + run->tile->columns - 1) / run->tile->columns;
    run->parts = ft__min_size((2 * (size_t)c->threads + pieces - 1) / pieces, panels);
    for (run->first = 0; run->first < points; run->first += run->count) {
        run->count = ft__min_size(ft__conv_chunk(g), points - run->first);
        ft__parallel(c, (int)panels, ft__conv_pack_dy, run);
        ft__parallel_slots(c, ft__conv_channels_slot, run);
    }
}

/* Adds the sums [tap][channel][output] of outputs [16 i, 16 i + 16) to the gradient. */
static void ft__conv_transpose_weight(void *context, int index)
{
    const ft__conv_run *run = (const ft__conv_run *)context;
    const ft__conv *g = &run->g;
    size_t outputs = (size_t)g->outputs, o = (size_t)index * 16, p, begin, some;
    size_t channels = (size_t)g->channels, taps = (size_t)run->walk.taps;
    float *dw = run->call->input[1].gradient + (run->group * outputs + o) * g->k;
    size_t segments = ft__conv_segments(run->call->context, g), segment;
    const float *row[FT__PACK_AT_ONCE];
    for (segment = 0; segment < segments; ++segment)
        for (begin = 0; begin < g->k; begin += some) {
            some = ft__min_size(FT__PACK_AT_ONCE, g->k - begin);
            for (p = 0; p < some; ++p) {
                size_t tap = (begin + p) % taps, c = (begin + p) / taps;
                row[p] = run->shared + ((segment * taps + tap) * channels + c) * outputs + o;
            }
            ft__add_transposed(row, some, ft__min_size(16, outputs - o), dw + begin, g->k);
        }
}

static void ft__conv_weight_gradient(ft__conv_run *run)
{
    const ft__call *call = run->call;
    ft__conv_walk_input(run);
    for (run->group = 0; run->group < run->g.groups; ++run->group) {
        if (ft__conv_is_plain(call->context, &run->g))
            ft__parallel_slots(call->context, ft__conv_plain_slot, run);
        else if (ft__conv_by_channels(call->context, &run->g)) {
            ft__conv_sum_channels(run);
            continue;
        } else ft__parallel(call->context, call->context->threads, ft__conv_weight_slot, run);
        if (ft__patch_width(call->context, &run->g)) ft__conv_transpose_patch(run);
        else
            ft__parallel(call->context, (run->g.outputs + 15) / 16, ft__conv_transpose_weight,
                         run);
    }
}
