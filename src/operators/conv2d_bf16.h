#pragma once
#include "platform/families.h"
#include "platform/context.h"
#include "basics/numbers.h"
#include "basics/threads.h"
#include "kernels/gemm.h"
#include "kernels/bf16.h"
#include "kernels/stored.h"
#include "kernels/convolution.h"
#include "nodes/nodes.h"
#include "operators/table.h"
#include "operators/common.h"
#include "operators/conv2d_rows.h"
#include "operators/conv2d_rows_weight.h"

/* =============================================================================================
   [SECTION] operators/conv2d_bf16: Convolution in bf16
   With ft_desc.precision "bf16": x, dy and the weights are rounded to bf16, and products are summed
   in float (kernels/bf16); stored values and results stay float32. A pair is two neighbouring
   channels of a pixel in y and dx, two neighbouring pixels in dW. Otherwise this works as in
   float32, with a pair in place of a number. This form runs where float32 does not use Winograd's,
   except for grouped and depthwise convolutions and kernels of more than 64 positions. Winograd's
   form (conv2d_winograd) rounds the transformed factors. With it, on a processor with one of these
   instructions per cycle, a step of ResNet-18 took two thirds of the time that it takes with the
   form of this part alone, and no layer was slower.

   If a picture has few channels, a kernel row is one stretch, over lines that are padded while they
   are rounded.
   ============================================================================================= */
#define FT__BF16_PLACES ((size_t)64)
#define FT__BF16_SMALL ((size_t)1 << 16) /* weights up to this have separate sums per segment */

static bool ft__bf16_fits(const ft__context *c, const ft__conv *g)
{
    return FT__HAS_BF16 && c->precision != FT__FLOAT32 && g->groups == 1
        && (size_t)g->kernel[0] * (size_t)g->kernel[1] <= FT__BF16_PLACES;
}

/* Layout of the rounded input: lines of `columns` pixels of `pixel` pairs, `left` of them before
   the picture's first. A kernel reads `taps` stretches of `stretch` pairs. */
typedef struct ft__bf16_form { bool few; size_t columns, pixel, left, taps, stretch; }
    ft__bf16_form;

static ft__bf16_form ft__bf16_form_of(const ft__conv *g)
{
    ft__bf16_form f;
    f.few = g->channels < 8 && g->kernel[1] > 1 && g->dilation[1] == 1;
    f.pixel = ((size_t)g->channels + 1) / 2;
    f.left = f.few ? (size_t)g->left : 0;
    f.columns = (size_t)g->width;
    if (f.few)
        f.columns = ft__max_size(f.columns + f.left, (size_t)(g->out_width - 1)
                                 * (size_t)g->stride[1] + (size_t)g->kernel[1]);
    f.taps = (size_t)g->kernel[0] * (f.few ? 1 : (size_t)g->kernel[1]);
    f.stretch = f.pixel * (f.few ? (size_t)g->kernel[1] : 1);
    return f;
}

/* Sizes in numbers of 4 bytes, in workspace order. */
typedef struct ft__bf16_room { size_t zeros, lists, pairs, shared, table, slot; } ft__bf16_room;

static size_t ft__bf16_packed(size_t columns, size_t depth)
{
    return ft__pad_to(columns, 32) * depth;
}

/* Threads split dW by its rows, each packing all of dy; or, if it is small, by segments of the
   pixels. */
static size_t ft__bf16_segments(const ft__conv *g)
{
    ft__bf16_form f = ft__bf16_form_of(g);
    size_t units = f.taps * ((2 * f.stretch + 31) / 32), numbers = g->k * (size_t)g->outputs;
    size_t chunks = (g->batch * g->p + FT__WEIGHT_CHUNK - 1) / FT__WEIGHT_CHUNK;
    if (units >= FT__WEIGHT_SEGMENTS && numbers > FT__BF16_SMALL) return 1;
    return ft__min_size(chunks, FT__WEIGHT_SEGMENTS);
}

static ft__bf16_room ft__bf16_room_of(const ft__conv *g, bool training)
{
    ft__bf16_form f = ft__bf16_form_of(g);
    size_t outputs = (size_t)g->outputs, channels = (size_t)g->channels, half = (outputs + 1) / 2;
    size_t places = (size_t)g->kernel[0] * (size_t)g->kernel[1], chunk = ft__conv_chunk(g);
    size_t block = FT__WALK_TILES * 8, pointer = sizeof(void *) / sizeof(float);
    size_t pairs = (chunk + 1) / 2;
    ft__bf16_room room;
    room.zeros = ft__pad_to(ft__max_size(f.stretch, half), 16);
    room.lists = ft__pad_to(3 * places, 16);
    room.pairs = g->batch * (size_t)g->height * f.columns * f.pixel;
    room.shared = ft__bf16_packed(outputs, f.taps * f.stretch);
    room.table = ft__pad_to(places * block * pointer, 16);
    room.slot = room.table;
    if (training) {
        room.pairs = ft__max_size(room.pairs, g->batch * g->p * half);
        room.shared = ft__max_size(room.shared, ft__bf16_packed(channels, places * half));
        room.shared = ft__max_size(room.shared, ft__bf16_segments(g) * f.taps * 2 * f.stretch
                                   * outputs);
        room.slot += block * channels;
        room.slot = ft__max_size(room.slot, 32 * pairs + ft__bf16_packed(outputs, pairs)
                                 + chunk * pointer);
    }
    room.pairs = ft__pad_to(room.pairs, 16);
    room.shared = ft__pad_to(room.shared, 16);
    room.slot = ft__pad_to(room.slot, 16);
    return room;
}

static void ft__bf16_costs(const ft__context *c, const ft__conv *g, bool training,
                           ft__costs *costs)
{
    ft__bf16_room room = ft__bf16_room_of(g, training);
    ft__bf16_form f = ft__bf16_form_of(g);
    costs->workspace = (room.zeros + room.lists + room.pairs + room.shared
                        + (size_t)c->threads * room.slot) * sizeof(float);
    costs->prepared = ft__bf16_packed((size_t)g->outputs, f.taps * f.stretch) * sizeof(float);
}

typedef struct ft__bf16_run {
    ft__conv_run run;           /* must be first: the slots of conv2d_rows use it */
    ft__conv g;
    ft__bf16_form form;
    const ft__bf16_row *kind;
    float *pairs;
    float *to;
} ft__bf16_run;

static ft__bf16_run ft__bf16_start(const ft__call *call, const ft__conv *g)
{
    ft__bf16_room room = ft__bf16_room_of(g, call->output.gradient != NULL);
    float *zeros = call->workspace, *lists = zeros + room.zeros;
    ft__bf16_run r;
    size_t i;
    memset(&r, 0, sizeof r);
    r.g = r.run.g = *g;
    r.form = ft__bf16_form_of(g);
    r.kind = &ft__bf16_rows[call->context->precision];
    r.pairs = lists + room.lists;
    r.run.call = call;
    r.run.tile = &r.kind->tile;
    r.run.shared = r.pairs + room.pairs;
    r.run.slots = r.run.shared + room.shared;
    r.run.room.table = room.table;
    r.run.room.slot = room.slot;
    r.run.walk.zeros = zeros;
    r.run.walk.offset = (int *)(void *)lists;
    r.run.tap_at = (int *)(void *)lists + 2 * g->kernel[0] * g->kernel[1];
    for (i = 0; i < room.zeros; ++i) zeros[i] = 0;
    return r;
}

/* ---- Rounding rows of numbers to rows of pairs; an odd row ends with a zero ---- */
typedef struct ft__bf16_rounding {
    const ft__bf16_row *kind;
    const float *from;
    float *to;
    size_t rows, numbers, at_once;
} ft__bf16_rounding;

static void ft__bf16_round_chunk(void *context, int index)
{
    const ft__bf16_rounding *job = (const ft__bf16_rounding *)context;
    size_t half = (job->numbers + 1) / 2, row = (size_t)index * job->at_once;
    size_t end = ft__min_size(job->rows, row + job->at_once);
    if (job->numbers % 2 == 0) {
        job->kind->round(job->from + row * job->numbers, (end - row) * job->numbers,
                         job->to + row * half);
        return;
    }
    for (; row < end; ++row) {
        ft__bf16_put_pair(0, 0, job->to + row * half + half - 1);
        job->kind->round(job->from + row * job->numbers, job->numbers, job->to + row * half);
    }
}

static void ft__bf16_round_rows(const ft__bf16_run *r, const float *from, size_t rows,
                                size_t numbers)
{
    ft__bf16_rounding job;
    job.kind = r->kind;
    job.from = from;
    job.to = r->pairs;
    job.rows = rows;
    job.numbers = numbers;
    job.at_once = 1 + FT__CHUNK / numbers;
    ft__parallel(r->run.call->context, (int)((rows + job.at_once - 1) / job.at_once),
                 ft__bf16_round_chunk, &job);
}

/* Rounds a line of a picture with few channels, padded on both sides. */
static void ft__bf16_round_line(void *context, int index)
{
    const ft__bf16_run *r = (const ft__bf16_run *)context;
    size_t channels = (size_t)r->g.channels, width = (size_t)r->g.width, x, i, c, some;
    size_t padded = 2 * r->form.pixel;
    const float *from = r->run.call->input[0].value + (size_t)index * width * channels;
    float *line = r->pairs + (size_t)index * r->form.columns * r->form.pixel;
    uint16_t half[8 * 64], *to = (uint16_t *)(void *)line + r->form.left * padded;
    memset(line, 0, r->form.columns * r->form.pixel * sizeof *line);
    for (x = 0; x < width; x += some) {
        some = ft__min_size(64, width - x);
        r->kind->round(from + x * channels, some * channels, (float *)(void *)half);
        for (i = 0; i < some; ++i, to += padded)
            for (c = 0; c < channels; ++c) to[c] = half[i * channels + c];
    }
}

/* Rounds the input, and sets up the walk over it. */
static void ft__bf16_input(ft__bf16_run *r)
{
    const ft__conv *g = &r->g;
    ft__walk *w = &r->run.walk;
    int *offset = (int *)(void *)(uintptr_t)w->offset, tap;
    size_t lines = g->batch * (size_t)g->height;
    if (r->form.few) ft__parallel(r->run.call->context, (int)lines, ft__bf16_round_line, r);
    else
        ft__bf16_round_rows(r, r->run.call->input[0].value, lines * (size_t)g->width,
                            (size_t)g->channels);
    ft__conv_walk_input(&r->run);
    w->from = r->pairs;
    w->width = (int)r->form.columns;
    w->pixel = r->form.pixel;
    w->channels = r->form.stretch;
    w->taps = (int)r->form.taps;
    for (tap = 0; r->form.few && tap < g->kernel[0]; ++tap) {
        offset[2 * tap] = tap * g->dilation[0] - g->top;
        offset[2 * tap + 1] = 0;
    }
}

/* ---- Forward ---- */

/* Packs sixteen channels of a panel of outputs as [kernel position][pair of channels][output]. */
static void ft__bf16_pack_some(const ft__bf16_run *r, size_t j, size_t c, size_t width,
                               float *panel)
{
    size_t channels = (size_t)r->g.channels, end = ft__min_size(c + 16, channels), at, l, place;
    size_t places = (size_t)r->g.kernel[0] * (size_t)r->g.kernel[1], step = r->form.pixel * width;
    const ft__stored *stored = ft__stored_weight(&r->run.call->input[1]);
    float pair[FT__BF16_PLACES], piece[16 * FT__BF16_PLACES];
    for (l = 0; l < width && j + l < (size_t)r->g.outputs; ++l) {
        const float *from = stored ? piece : r->run.call->input[1].value
            + ((j + l) * channels + c) * places;
        if (stored)
            ft__read_stored(r->run.call->context, stored, j + l, c * places, (end - c) * places,
                            piece);
        if (places == 1) r->kind->round(from, end - c, pair);
        for (at = c; at < end; at += 2, from += 2 * places) {
            float *to = panel + at / 2 * width + l;
            if (places == 1) {
                if (at + 1 == end) ft__bf16_put_pair(ft__bits(pair[(at - c) / 2]) & 0xffff, 0, to);
                else memcpy(to, pair + (at - c) / 2, sizeof *to);
                continue;
            }
            r->kind->pair(from, at + 1 < end ? from + places : NULL, places, pair);
            for (place = 0; place < places; ++place)
                memcpy(to + place * step, pair + place, sizeof *pair);
        }
    }
}

static void ft__bf16_pack_panel(void *context, int index)
{
    const ft__bf16_run *r = (const ft__bf16_run *)context;
    size_t j = (size_t)index * 32, outputs = (size_t)r->g.outputs, c;
    size_t width = ft__panel_width(r->run.tile, outputs, j);
    size_t depth = r->form.taps * r->form.stretch;
    float *panel = r->to + j * depth;
    if (outputs - j < width) memset(panel, 0, depth * width * sizeof *panel);
    for (c = 0; c < (size_t)r->g.channels; c += 16) ft__bf16_pack_some(r, j, c, width, panel);
}

static void ft__bf16_forward(const ft__call *call, const ft__conv *g)
{
    ft__bf16_run r = ft__bf16_start(call, g);
    ft__bf16_input(&r);
    r.to = call->prepared ? call->prepared : r.run.shared;
    if (!call->prepared || call->prepare)
        ft__parallel(call->context, (g->outputs + 31) / 32, ft__bf16_pack_panel, &r);
    r.run.shared = r.to;
    r.run.parts = ft__conv_parts(&r.run, g->batch * g->p, (size_t)g->outputs);
    r.run.g.pairs = true;
    r.run.g.channels = (int)r.form.stretch;
    r.run.g.k = r.form.taps * r.form.stretch;
    ft__parallel_slots(call->context, ft__conv_forward_slot, &r);
}

/* ---- Backward: the input's gradient ---- */

/* Packs the weights of a panel of channels as [tap][pair of outputs][channel], for the taps of a
   phase. */
static void ft__bf16_pack_back_panel(void *context, int index)
{
    const ft__bf16_run *r = (const ft__bf16_run *)context;
    size_t j = (size_t)index * 32, outputs = (size_t)r->g.outputs, o, l, half = (outputs + 1) / 2;
    size_t channels = (size_t)r->g.channels, taps = (size_t)r->run.walk.taps, tap;
    size_t width = ft__panel_width(r->run.tile, channels, j);
    size_t places = (size_t)r->g.kernel[0] * (size_t)r->g.kernel[1];
    size_t valid = ft__min_size(width, channels - j);
    const ft__stored *stored = ft__stored_weight(&r->run.call->input[1]);
    float *to = r->to + j * taps * half, pair[32 * FT__BF16_PLACES];
    float piece[2][32 * FT__BF16_PLACES];
    if (valid < width) memset(to, 0, taps * half * width * sizeof *to);
    for (o = 0; o < outputs; o += 2, to += width) {
        const float *from[2];
        for (l = 0; l < 2; ++l) {
            from[l] = o + l == outputs ? NULL : stored ? piece[l]
                : r->run.call->input[1].value + ((o + l) * channels + j) * places;
            if (from[l] && stored)
                ft__read_stored(r->run.call->context, stored, o + l, j * places, valid * places,
                                piece[l]);
        }
        r->kind->pair(from[0], from[1], valid * places, pair);
        for (tap = 0; tap < taps; ++tap)
            for (l = 0; l < valid; ++l)
                memcpy(to + tap * half * width + l,
                       pair + l * places + (size_t)r->run.tap_at[tap], sizeof *pair);
    }
}

static void ft__bf16_input_gradient(const ft__call *call, const ft__conv *g)
{
    ft__bf16_run r = ft__bf16_start(call, g);
    size_t outputs = (size_t)g->outputs;
    int row, column;
    r.run.packed = r.to = r.run.shared;
    ft__bf16_round_rows(&r, call->output.gradient, g->batch * g->p, outputs);
    for (row = 0; row < ft__conv_phases(g, 0); ++row)
        for (column = 0; column < ft__conv_phases(g, 1); ++column) {
            ft__conv_walk_output(&r.run, row, column);
            r.run.walk.from = r.pairs;
            r.run.walk.pixel = r.run.walk.channels = (outputs + 1) / 2;
            if (r.run.walk.taps > 0)
                ft__parallel(call->context, (g->channels + 31) / 32, ft__bf16_pack_back_panel, &r);
            ft__conv_input_phase(&r.run);
        }
}

/* ---- Backward: the weight's gradient, summed as [tap][number of a stretch][output] ---- */

/* Packs dy of `count` pixels as panels [pair of pixels][output]. */
static void ft__bf16_pack_pixels(const ft__bf16_run *r, const float *dy, size_t count, float *to)
{
    size_t outputs = (size_t)r->g.outputs, j, p, width;
    for (j = 0; j < outputs; j += width) {
        size_t valid;
        width = ft__panel_width(r->run.tile, outputs, j);
        valid = ft__min_size(width, outputs - j);
        for (p = 0; p < count; p += 2, to += width) {
            const float *from = dy + p * outputs + j;
            if (valid < width) memset(to, 0, width * sizeof *to);
            r->kind->pair(from, p + 1 < count ? from + outputs : NULL, valid, to);
        }
    }
}

/* Pointers to the stretches of one tap at `count` pixels, line by line of the output. */
static void ft__bf16_lines(const ft__bf16_run *r, size_t tap, size_t first, size_t count,
                           const float **lines)
{
    const ft__walk *w = &r->run.walk;
    size_t plane = (size_t)w->rows * (size_t)w->columns;
    int column = (int)(first % plane % (size_t)w->columns);
    while (count > 0) {
        int row = (int)(first % plane / (size_t)w->columns);
        int y = row * w->step[0] + w->offset[2 * tap], x = w->offset[2 * tap + 1], i;
        int end = (size_t)(w->columns - column) < count ? w->columns : column + (int)count;
        const float *line = w->from + ((ptrdiff_t)(first / plane) * w->height + y)
            * (ptrdiff_t)w->width * (ptrdiff_t)w->pixel;
        for (i = column, x += i * w->step[1]; i < end; ++i, x += w->step[1])
            *lines++ = y < 0 || y >= w->height || x < 0 || x >= w->width ? w->zeros
                : line + (ptrdiff_t)x * (ptrdiff_t)w->pixel;
        first += (size_t)(end - column);
        count -= (size_t)(end - column);
        column = 0;
    }
}

/* Sums over the pixels [first, end) for the units `unit`, `unit` + `step`, ... */
static void ft__bf16_weight_sum(const ft__bf16_run *r, float *scratch, size_t first, size_t end,
                                size_t unit, size_t step, float *sum)
{
    size_t outputs = (size_t)r->g.outputs, chunk = ft__conv_chunk(&r->g), begin = first, i;
    size_t rows = 2 * r->form.stretch, units = (rows + 31) / 32, pairs = (chunk + 1) / 2;
    float *packed = scratch, *dy = packed + 32 * pairs;
    const float **lines = (const float **)(void *)(dy + ft__bf16_packed(outputs, pairs));
    for (; first < end; first += chunk) {
        size_t count = ft__min_size(chunk, end - first), last = r->form.taps;
        ft__bf16_pack_pixels(r, r->run.call->output.gradient + first * outputs, count, dy);
        for (i = unit; i < r->form.taps * units; i += step) {
            size_t row = i % units * 32, some = ft__min_size(32, rows - row);
            if (i / units != last) ft__bf16_lines(r, i / units, first, count, lines);
            last = i / units;
            r->kind->pack_lines(lines, count, row, some, packed);
            ft__conv_weight_unit(&r->run, (count + 1) / 2, some, packed, dy, (count + 1) / 2, 0,
                                 sum + (last * rows + row) * outputs, first == begin);
        }
    }
}

static void ft__bf16_weight_slot(void *context, int slot)
{
    const ft__bf16_run *r = (const ft__bf16_run *)context;
    size_t segments = ft__bf16_segments(&r->g), points = r->g.batch * r->g.p, i;
    size_t threads = (size_t)r->run.call->context->threads;
    size_t numbers = r->form.taps * 2 * r->form.stretch * (size_t)r->g.outputs;
    float *scratch = r->run.slots + (size_t)slot * r->run.room.slot;
    if (segments == 1)
        ft__bf16_weight_sum(r, scratch, 0, points, (size_t)slot, threads, r->run.shared);
    else
        for (i = (size_t)slot; i < segments; i += threads)
            ft__bf16_weight_sum(r, scratch, points * i / segments, points * (i + 1) / segments, 0,
                                1, r->run.shared + i * numbers);
}

/* Adds the sums of outputs [16 i, 16 i + 16) to the gradient. A kernel position has as many rows as
   a pixel has numbers. */
static void ft__bf16_transpose_weight(void *context, int index)
{
    const ft__bf16_run *r = (const ft__bf16_run *)context;
    size_t outputs = (size_t)r->g.outputs, o = (size_t)index * 16, begin, some, p;
    size_t places = (size_t)r->g.kernel[0] * (size_t)r->g.kernel[1], k = r->g.k;
    size_t segments = ft__bf16_segments(&r->g), segment;
    const float *row[FT__PACK_AT_ONCE];
    for (segment = 0; segment < segments; ++segment)
        for (begin = 0; begin < k; begin += some) {
            some = ft__min_size(FT__PACK_AT_ONCE, k - begin);
            for (p = 0; p < some; ++p) {
                size_t place = (begin + p) % places, c = (begin + p) / places;
                row[p] = r->run.shared + ((segment * places + place) * 2 * r->form.pixel + c)
                    * outputs + o;
            }
            ft__add_transposed(row, some, ft__min_size(16, outputs - o),
                               r->run.call->input[1].gradient + o * k + begin, k);
        }
}

static void ft__bf16_weight_gradient(const ft__call *call, const ft__conv *g)
{
    ft__bf16_run r = ft__bf16_start(call, g);
    ft__bf16_input(&r);
    ft__parallel(call->context, call->context->threads, ft__bf16_weight_slot, &r);
    ft__parallel(call->context, (g->outputs + 15) / 16, ft__bf16_transpose_weight, &r);
}

static void ft__bf16_backward(const ft__call *call, const ft__conv *g)
{
    if (call->input[1].gradient) ft__bf16_weight_gradient(call, g);
    if (call->input[0].gradient) ft__bf16_input_gradient(call, g);
}
