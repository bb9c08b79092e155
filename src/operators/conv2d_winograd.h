#pragma once
#include "platform/context.h"
#include "basics/numbers.h"
#include "basics/threads.h"
#include "kernels/gemm.h"
#include "kernels/bf16.h"
#include "kernels/stored.h"
#include "kernels/convolution.h"
#include "kernels/winograd.h"
#include "nodes/nodes.h"
#include "operators/common.h"
#include "operators/activations.h"
#include "operators/conv2d_rows.h"
#include "operators/conv2d_rows_weight.h"

/* =============================================================================================
   [SECTION] operators/conv2d_winograd: Convolution in Winograd's form
   Forward and dx (kernels/winograd): transform, multiply, transform back. If the weights fit into a
   thread's cache, each thread does all three for a few tiles at a time; otherwise all threads do
   one of the three together, then the next, so that each reads only a part of the weights. In bf16
   a transformed row of `channels` has k = channels / 2 numbers of 4 bytes.
   ============================================================================================= */
/* Numbers of all transformed weights; and, if they are too many, of the part that a thread
   transforms, uses and discards: some channels of a panel. */
static size_t ft__winograd_right(ft__winograd_kind kind, size_t columns, size_t k)
{
    size_t wide = kind.tile->columns;
    return (columns + wide - 1) / wide * ft__winograd_all(k * wide);
}

static size_t ft__winograd_packed(const ft__context *c, const ft__conv *g)
{
    ft__winograd_kind kind = ft__winograd_kind_of(c);
    return ft__winograd_right(kind, (size_t)g->outputs, (size_t)g->channels / kind.numbers);
}

static size_t ft__winograd_part(ft__winograd_kind kind)
{
    return ft__winograd_all(FT__WINOGRAD_DEPTH * kind.tile->columns);
}

typedef struct ft__winograd_run {
    const ft__call *call;
    const ft__conv *g;
    ft__winograd w;
    bool backward;          /* dx: channels swapped, kernel rotated by 180 degrees */
    float *packed;          /* transformed weights: [panel][36][k][width] */
    float *zeros, *slots;
    size_t slot;            /* numbers per slot */
} ft__winograd_run;

/* Packs the nine weights of the kernel from channel `channel` to `lanes` outputs of a panel. */
static void ft__winograd_kernel(const ft__winograd_run *run, size_t output, size_t channel,
                                size_t lanes, float *const *row)
{
    size_t n_step = run->backward ? 9 : run->g->k, k_step = run->backward ? run->g->k : 9, l;
    const float *weight = run->call->input[1].value + output * n_step + channel * k_step;
    for (l = 0; l < lanes && !run->backward; ++l) FT__PREFETCH(weight + l * n_step + 48);
    for (l = 0; l < lanes * 9 && run->backward; l += 16) FT__PREFETCH(weight + 4 * k_step + l);
    ft__pack_lines(weight, (ptrdiff_t)n_step, lanes, lanes, 9, row);
}

/* Weights in another type, of some channels to the outputs of a vector, as float32. */
#define FT__WINOGRAD_PIECE ((size_t)28) /* channels, an even number */
typedef struct ft__winograd_piece { float at[16 * 9 * FT__WINOGRAD_PIECE]; } ft__winograd_piece;

static void ft__winograd_read(const ft__winograd_run *run, const ft__stored *stored, size_t output,
                              size_t channel, size_t channels, size_t lanes,
                              ft__winograd_piece *piece)
{
    const ft__context *c = run->call->context;
    size_t i;
    for (i = 0; run->backward && i < channels; ++i)
        ft__read_stored(c, stored, channel + i, output * 9, lanes * 9, piece->at + i * 16 * 9);
    for (i = 0; !run->backward && i < lanes; ++i)
        ft__read_stored(c, stored, output + i, channel * 9, channels * 9,
                        piece->at + i * 9 * FT__WINOGRAD_PIECE);
}

/* As ft__winograd_kernel, from channel `channel` of a piece. */
static void ft__winograd_piece_kernel(const ft__winograd_run *run, const ft__winograd_piece *piece,
                                      size_t channel, size_t lanes, float *const *row)
{
    if (run->backward) ft__pack_lines(piece->at + channel * 16 * 9, 9, lanes, lanes, 9, row);
    else ft__pack_lines(piece->at + channel * 9, 9 * FT__WINOGRAD_PIECE, lanes, lanes, 9, row);
}

/* Transforms one or two channels' kernels, packed in t, to their place `to`. */
static void ft__winograd_put_weights(const ft__winograd_run *run, ft__winograd_tile *t, float *to,
                                     size_t step)
{
    int at;
    for (at = 0; at < FT__TILE_INPUTS; ++at) t->to[at] = to + (size_t)at * step;
    run->w.kind.row->weight(t);
}

/* Transforms the weights of a panel's columns, `k` numbers of each row from `from` on, to
   [36][k][width], with `step` between two of the 36. */
static void ft__winograd_weights(const ft__winograd_run *run, ft__winograd_panel p, size_t from,
                                 size_t k, float *to, size_t step)
{
    size_t lanes = ft__min_size(16, p.width), numbers = run->w.kind.numbers, i, l, n, first;
    const ft__stored *stored = ft__stored_weight(&run->call->input[1]);
    float g[2][9][16], *row[2][9];
    ft__winograd_piece piece;
    ft__winograd_tile t;
    int tap;
    memset(&t, 0, sizeof t);
    t.channels = lanes;
    for (tap = 0; tap < 9; ++tap) {
        t.from[tap] = g[0][tap];
        t.odd[tap] = g[1][tap];
        row[0][tap] = g[0][run->backward ? 8 - tap : tap];
        row[1][tap] = g[1][run->backward ? 8 - tap : tap];
    }
    for (i = 0; !stored && i < k; ++i)
        for (n = 0; n < p.width; n += lanes) {
            for (l = 0; l < numbers; ++l)
                ft__winograd_kernel(run, p.column + n, (from + i) * numbers + l, lanes, row[l]);
            ft__winograd_put_weights(run, &t, to + i * p.width + n, step);
        }
    for (first = 0; stored && first < k; first += FT__WINOGRAD_PIECE / numbers)
        for (n = 0; n < p.width; n += lanes) {
            size_t some = ft__min_size(FT__WINOGRAD_PIECE / numbers, k - first);
            ft__winograd_read(run, stored, p.column + n, (from + first) * numbers, some * numbers,
                              lanes, &piece);
            for (i = 0; i < some; ++i) {
                for (l = 0; l < numbers; ++l)
                    ft__winograd_piece_kernel(run, &piece, i * numbers + l, lanes, row[l]);
                ft__winograd_put_weights(run, &t, to + (first + i) * p.width + n, step);
            }
        }
}

/* The step between two of a panel's 36 matrices if all channels are packed. */
static size_t ft__winograd_right_step(const ft__winograd *w)
{
    return w->k * w->kind.tile->columns + FT__WINOGRAD_APART;
}

/* Transforms all channels of a panel to their place in the packed weights. */
static void ft__winograd_pack_panel(void *context, int index)
{
    const ft__winograd_run *run = (const ft__winograd_run *)context;
    ft__winograd_panel p = ft__winograd_panel_of(&run->w, (size_t)index);
    size_t step = ft__winograd_right_step(&run->w);
    ft__winograd_weights(run, p, 0, run->w.k,
                         run->packed + (size_t)index * FT__TILE_INPUTS * step, step);
}

/* Applies the activation to the pixels of some tiles. */
static void ft__winograd_activate(const ft__winograd_run *run, size_t first, size_t count)
{
    const ft__winograd *w = &run->w;
    size_t i, picture, line;
    int y, x;
    for (i = 0; i < count && !run->backward && run->call->fused; ++i) {
        ft__winograd_place(w, first + i, &picture, &y, &x);
        for (line = (size_t)y; line < (size_t)y + 4 && line < (size_t)w->out_height; ++line)
            ft__activate(run->call, w->to
                         + ((picture * (size_t)w->out_height + line) * (size_t)w->out_width
                            + (size_t)x) * w->outputs,
                         (size_t)(w->out_width - x < 4 ? w->out_width - x : 4) * w->outputs);
    }
}

static size_t ft__winograd_panels(const ft__winograd *w)
{
    size_t columns = w->kind.tile->columns;
    return (w->outputs + columns - 1) / columns;
}

/* Products of a panel's columns for the tiles in v, with weights packed before or transformed
   here. */
static void ft__winograd_panel_products(const ft__winograd_run *run, size_t panel, const float *v,
                                        float *m, size_t count, float *part)
{
    const ft__winograd *w = &run->w;
    ft__winograd_panel p = ft__winograd_panel_of(w, panel);
    size_t step = ft__winograd_right_step(w), from, k;
    const float *packed;
    for (from = 0; from < w->k; from += k) {
        k = run->packed ? w->k : ft__min_size(FT__WINOGRAD_DEPTH, w->k - from);
        if (run->packed) packed = run->packed + panel * FT__TILE_INPUTS * step;
        else {
            step = k * p.width + FT__WINOGRAD_APART;
            ft__winograd_weights(run, p, from, k, part, step);
            packed = part;
        }
        ft__winograd_products(w, v, m, p, from, k, packed, step, count);
    }
}

/* Processes chunks of tiles on one thread. */
static void ft__winograd_slot(void *context, int slot)
{
    const ft__winograd_run *run = (const ft__winograd_run *)context;
    const ft__winograd *w = &run->w;
    size_t chunk, chunks = (w->tiles + w->chunk - 1) / w->chunk, panel;
    float *v = run->slots + (size_t)slot * run->slot;
    float *m = v + FT__TILE_INPUTS * w->v_step;
    int share;
    FT__PIECES(chunk, share, w->context, slot, chunks) {
        size_t first = chunk * w->chunk, count = ft__min_size(w->chunk, w->tiles - first);
        ft__winograd_inputs(w, first, count, v, 0);
        for (panel = 0; panel < ft__winograd_panels(w); ++panel) {
            ft__winograd_panel p = ft__winograd_panel_of(w, panel);
            ft__winograd_panel_products(run, panel, v, m, count, NULL);
            ft__winograd_outputs(w, first, count, m, 0, p.column, p.columns);
        }
        ft__winograd_activate(run, first, count);
    }
}

/* The three stages of a chunk that all threads share; an index is 4 tiles, or a slot. */
static void ft__winograd_shared_in(void *context, int index)
{
    const ft__winograd_run *run = (const ft__winograd_run *)context;
    size_t at = 4 * (size_t)index, count = ft__min_size(4, run->w.count - at);
    ft__winograd_inputs(&run->w, run->w.first + at, count, run->w.v, at);
}

static void ft__winograd_shared_products(void *context, int slot)
{
    const ft__winograd_run *run = (const ft__winograd_run *)context;
    const ft__winograd *w = &run->w;
    size_t panel;
    for (panel = (size_t)slot; panel < ft__winograd_panels(w);
         panel += (size_t)w->context->threads)
        ft__winograd_panel_products(run, panel, w->v, w->m + panel * w->kind.tile->columns,
                                    w->count, run->slots + (size_t)slot * run->slot);
}

static void ft__winograd_shared_out(void *context, int index)
{
    const ft__winograd_run *run = (const ft__winograd_run *)context;
    const ft__winograd *w = &run->w;
    size_t at = 4 * (size_t)index, end = ft__min_size(at + 4, w->count);
    for (; at < end; ++at) {
        ft__winograd_outputs(w, w->first + at, 1, w->m, at, 0, w->outputs);
        ft__winograd_activate(run, w->first + at, 1);
    }
}

/* Sets sizes and pointers for forward or dx. */
static ft__winograd_run ft__winograd_start(const ft__call *call, const ft__conv *g, bool backward)
{
    size_t largest = ft__pad_to((size_t)(g->channels > g->outputs ? g->channels : g->outputs), 16);
    ft__winograd_run run;
    size_t i;
    memset(&run, 0, sizeof run);
    run.call = call;
    run.g = g;
    run.backward = backward;
    run.w.context = call->context;
    run.w.from = backward ? call->output.gradient : call->input[0].value;
    run.w.to = backward ? call->input[0].gradient : call->output.value;
    run.w.height = backward ? g->out_height : g->height;
    run.w.width = backward ? g->out_width : g->width;
    run.w.out_height = backward ? g->height : g->out_height;
    run.w.out_width = backward ? g->width : g->out_width;
    run.w.top = backward ? 2 - g->top : g->top;
    run.w.left = backward ? 2 - g->left : g->left;
    run.w.channels = (size_t)(backward ? g->outputs : g->channels);
    run.w.outputs = (size_t)(backward ? g->channels : g->outputs);
    run.w.kind = ft__winograd_kind_of(call->context);
    run.w.k = run.w.channels / run.w.kind.numbers;
    run.w.bias = !backward && call->input_count > 2 ? call->input[2].value : NULL;
    run.w.accumulate = backward && !call->input[0].fresh;
    run.zeros = call->workspace;
    run.w.v = run.zeros + largest;
    for (i = 0; i < largest; ++i) run.zeros[i] = 0;
    run.w.zeros = run.zeros;
    ft__winograd_tiles(&run.w, g->batch);
    return run;
}

static void ft__winograd_convolve(const ft__call *call, const ft__conv *g, bool backward)
{
    ft__context *c = call->context;
    ft__winograd_run run = ft__winograd_start(call, g, backward);
    ft__winograd *w = &run.w;
    bool local = ft__winograd_local(g), prepared = call->prepared && !backward;
    run.packed = prepared ? call->prepared : local ? w->v : NULL;
    if (run.packed == w->v) w->v += ft__winograd_right(w->kind, w->outputs, w->k);
    if (run.packed && (!prepared || call->prepare))
        ft__parallel(c, (int)ft__winograd_panels(w), ft__winograd_pack_panel, &run);
    w->chunk = local ? ft__winograd_own_chunk(c, g) : ft__winograd_chunk(c, g);
    w->v_step = w->chunk * w->k + FT__WINOGRAD_APART;
    w->m_row = local ? w->kind.tile->columns : w->outputs;
    w->m_step = w->chunk * w->m_row + FT__WINOGRAD_APART;
    if (local) {
        run.slots = w->v;
        run.slot = FT__TILE_INPUTS * (w->v_step + w->m_step);
        ft__parallel_slots(c, ft__winograd_slot, &run);
        return;
    }
    w->m = w->v + FT__TILE_INPUTS * w->v_step;
    run.slots = w->m + FT__TILE_INPUTS * w->m_step;
    run.slot = ft__winograd_part(w->kind);
    for (w->first = 0; w->first < w->tiles; w->first += w->chunk) {
        int groups;
        w->count = ft__min_size(w->chunk, w->tiles - w->first);
        groups = (int)((w->count + 3) / 4);
        ft__parallel(c, groups, ft__winograd_shared_in, &run);
        ft__parallel(c, c->threads, ft__winograd_shared_products, &run);
        ft__parallel(c, groups, ft__winograd_shared_out, &run);
    }
}

/* ---- The weight's gradient in this form: sums over the tiles of v^T times the transformed dy,
   [36][channels][outputs], which are transformed back to kernels. If these sums are larger than v
   and dy of all tiles, a thread computes them for some channels and transforms those back at once
   ("whole"); otherwise they are summed over chunks of tiles and transformed back last. ---- */
typedef struct ft__winograd_sum {
    ft__winograd_run run;
    float *d;               /* of dy: right matrices [36][panels][depth][width] */
    float *sum;             /* [36][channels][outputs], unless whole */
    bool whole;
} ft__winograd_sum;

static bool ft__winograd_whole(const ft__conv *g)
{
    return ft__winograd_tile_count(g) * (size_t)(g->channels + g->outputs)
        <= (size_t)g->channels * (size_t)g->outputs;
}

static size_t ft__winograd_sum_chunk(const ft__context *c, const ft__conv *g)
{
    return ft__winograd_whole(g) ? ft__winograd_tile_count(g) : ft__winograd_chunk(c, g);
}

/* The length of such a sum: tiles, or pairs of them. */
static size_t ft__winograd_depth(ft__winograd_kind kind, size_t tiles)
{
    return (tiles + kind.numbers - 1) / kind.numbers;
}

/* Channels that a thread processes at a time. */
static size_t ft__winograd_sum_rows(ft__winograd_kind kind)
{
    return 2 * kind.numbers * kind.tile->rows;
}

static size_t ft__winograd_sum_slot_room(const ft__context *c, const ft__conv *g)
{
    ft__winograd_kind kind = ft__winograd_kind_of(c);
    size_t chunk = ft__winograd_sum_chunk(c, g), rows = ft__winograd_sum_rows(kind);
    size_t room = rows * ft__winograd_depth(kind, chunk)
        + ft__pad_to(chunk * sizeof(void *) / sizeof(float), 16);
    if (ft__winograd_whole(g)) room += ft__winograd_all(rows * (size_t)g->outputs);
    return ft__pad_to(room, 16);
}

static size_t ft__winograd_sum_room(const ft__context *c, const ft__conv *g)
{
    ft__winograd_kind kind = ft__winograd_kind_of(c);
    size_t channels = (size_t)g->channels, outputs = (size_t)g->outputs;
    size_t chunk = ft__winograd_sum_chunk(c, g);
    size_t room = ft__winograd_all(channels / kind.numbers * chunk)
        + ft__winograd_right(kind, outputs, ft__winograd_depth(kind, chunk))
        + (size_t)c->threads * ft__winograd_sum_slot_room(c, g);
    return room + (ft__winograd_whole(g) ? 0 : ft__winograd_all(channels * outputs));
}

static size_t ft__winograd_room(const ft__context *c, const ft__conv *g, bool training)
{
    ft__winograd_kind kind = ft__winograd_kind_of(c);
    size_t channels = (size_t)g->channels, outputs = (size_t)g->outputs, room, chunk;
    size_t most = ft__max_size(channels, outputs), least = ft__min_size(channels, outputs);
    if (ft__winograd_local(g)) {
        chunk = ft__winograd_own_chunk(c, g);
        room = (size_t)c->threads * (ft__winograd_all(chunk * most / kind.numbers)
                                     + ft__winograd_all(chunk * kind.tile->columns))
            + ft__max_size(ft__winograd_right(kind, outputs, channels / kind.numbers),
                           ft__winograd_right(kind, channels, outputs / kind.numbers));
    } else {
        chunk = ft__winograd_chunk(c, g);
        room = ft__winograd_all(chunk * most) + ft__winograd_all(chunk * least / kind.numbers)
            + (size_t)c->threads * ft__winograd_part(kind);
    }
    if (training) room = ft__max_size(room, ft__winograd_sum_room(c, g));
    return room + ft__pad_to(most, 16);
}

/* The step between two of the 36 right matrices. */
static size_t ft__winograd_sum_step(const ft__winograd *w)
{
    return ft__pad_to(w->outputs, w->kind.tile->columns) * ft__winograd_depth(w->kind, w->count)
        + FT__WINOGRAD_APART;
}

/* Transforms dy of tile `i` of a chunk, and of the next one if numbers are pairs. Past the last
   tile the last one is repeated: the inputs are zero there. */
static void ft__winograd_sum_gradient(const ft__winograd_sum *s, size_t i, size_t end)
{
    const ft__winograd *w = &s->run.w;
    size_t area = (size_t)w->out_height * (size_t)w->out_width, numbers = w->kind.numbers;
    size_t depth = ft__winograd_depth(w->kind, w->count), panel, picture, l;
    size_t step = ft__winograd_sum_step(w);
    const float *square[2][16];
    ft__winograd_tile t;
    int y, x, n;
    for (l = 0; l < numbers; ++l) {
        ft__winograd_place(w, w->first + ft__min_size(i + l, end - 1), &picture, &y, &x);
        ft__winograd_square(s->run.call->output.gradient + picture * area * w->outputs,
                            w->out_height, w->out_width, w->outputs, y, x, 4, w->zeros, square[l]);
    }
    memset(&t, 0, sizeof t);
    for (panel = 0; panel < ft__winograd_panels(w); ++panel) {
        ft__winograd_panel p = ft__winograd_panel_of(w, panel);
        t.channels = p.columns;
        for (n = 0; n < 16; ++n) {
            t.from[n] = square[0][n] + p.column;
            if (numbers > 1) t.odd[n] = square[1][n] + p.column;
        }
        for (n = 0; n < FT__TILE_INPUTS; ++n)
            t.to[n] = s->d + (size_t)n * step + p.column * depth + i / numbers * p.width;
        w->kind.row->gradient(&t);
    }
}

/* Transforms x and dy of 4 tiles. */
static void ft__winograd_sum_in(void *context, int index)
{
    const ft__winograd_sum *s = (const ft__winograd_sum *)context;
    const ft__winograd *w = &s->run.w;
    size_t at = 4 * (size_t)index, count = ft__min_size(4, w->count - at), i;
    ft__winograd_inputs(w, w->first + at, count, w->v, at);
    for (i = at; i < at + count; i += w->kind.numbers)
        ft__winograd_sum_gradient(s, i, at + count);
}

/* Transforms sums of `rows` channels back to kernels and adds them to the gradient; `step` is the
   distance between two of the 36. */
static void ft__winograd_kernels(const ft__winograd_sum *s, const float *sum, size_t step,
                                 size_t channel, size_t rows)
{
    const ft__winograd *w = &s->run.w;
    size_t o, i, k = s->run.g->k;
    float g[9][16];
    ft__winograd_tile t;
    int n, tap;
    memset(&t, 0, sizeof t);
    t.channels = 16;
    for (tap = 0; tap < 9; ++tap) t.to[tap] = g[tap];
    for (i = 0; i < rows; ++i)
        for (o = 0; o < w->outputs; o += 16) {
            float *dw = s->run.call->input[1].gradient + o * k + (channel + i) * 9;
            for (n = 0; n < FT__TILE_INPUTS; ++n)
                t.from[n] = sum + (size_t)n * step + i * w->outputs + o;
            w->kind.row->kernel(&t);
            ft__add_transposed((const float *const *)t.to, 9, 16, dw, k);
        }
}

/* A slot's scratch: packed rows of v^T, pointers to their sources, and its own sums. */
typedef struct ft__winograd_scratch { float *packed, *own; const float **lines; }
    ft__winograd_scratch;

static ft__winograd_scratch ft__winograd_scratch_of(const ft__winograd_sum *s, int slot)
{
    const ft__winograd *w = &s->run.w;
    size_t packed = ft__winograd_sum_rows(w->kind) * ft__winograd_depth(w->kind, w->chunk);
    ft__winograd_scratch scratch;
    scratch.packed = s->run.slots + (size_t)slot * s->run.slot;
    scratch.lines = (const float **)(void *)(scratch.packed + packed);
    scratch.own = scratch.packed + packed
        + ft__pad_to(w->chunk * sizeof(void *) / sizeof(float), 16);
    return scratch;
}

/* Sums matrix n of the 36, for some channels, over this chunk of tiles. */
static void ft__winograd_sum_unit(const ft__winograd_sum *s, ft__winograd_scratch scratch, size_t n,
                                  size_t row, size_t rows, float *sum)
{
    const ft__winograd *w = &s->run.w;
    const ft__tile_row *tile = w->kind.tile;
    size_t depth = ft__winograd_depth(w->kind, w->count), i;
    ft__conv_run run;
    memset(&run, 0, sizeof run);
    run.g = *s->run.g;
    run.tile = tile;
    for (i = 0; i < w->count; ++i) scratch.lines[i] = w->v + n * w->v_step + i * w->k;
    if (w->kind.numbers == 1)
        ft__pack_pixels(scratch.lines, w->count, row, rows, tile->rows, scratch.packed);
    else
        ft__bf16_rows[w->context->precision].pack_lines(scratch.lines, w->count, row, rows,
                                                        scratch.packed);
    ft__conv_weight_unit(&run, depth, rows, scratch.packed,
                         s->d + n * ft__winograd_sum_step(w), depth, 0, sum, w->first == 0);
}

/* For each chunk, a slot adds to all sums of some of the 36. */
static void ft__winograd_sum_slot(void *context, int slot)
{
    const ft__winograd_sum *s = (const ft__winograd_sum *)context;
    const ft__winograd *w = &s->run.w;
    ft__winograd_scratch scratch = ft__winograd_scratch_of(s, slot);
    size_t most = ft__winograd_sum_rows(w->kind), n, row;
    for (n = (size_t)slot; n < FT__TILE_INPUTS; n += (size_t)w->context->threads)
        for (row = 0; row < w->channels; row += most)
            ft__winograd_sum_unit(s, scratch, n, row, ft__min_size(most, w->channels - row),
                                  s->sum + n * w->m_step + row * w->outputs);
}

/* Over all tiles at once, a slot computes all 36 for some channels and transforms them back. */
static void ft__winograd_whole_slot(void *context, int slot)
{
    const ft__winograd_sum *s = (const ft__winograd_sum *)context;
    const ft__winograd *w = &s->run.w;
    ft__winograd_scratch scratch = ft__winograd_scratch_of(s, slot);
    size_t most = ft__winograd_sum_rows(w->kind), n, row = (size_t)slot * most;
    for (; row < w->channels; row += most * (size_t)w->context->threads) {
        size_t rows = ft__min_size(most, w->channels - row);
        size_t step = rows * w->outputs + FT__WINOGRAD_APART;
        for (n = 0; n < FT__TILE_INPUTS; ++n)
            ft__winograd_sum_unit(s, scratch, n, row, rows, scratch.own + n * step);
        ft__winograd_kernels(s, scratch.own, step, row, rows);
    }
}

static void ft__winograd_sum_out(void *context, int index)
{
    const ft__winograd_sum *s = (const ft__winograd_sum *)context;
    const ft__winograd *w = &s->run.w;
    size_t row = 8 * (size_t)index;
    ft__winograd_kernels(s, s->sum + row * w->outputs, w->m_step, row,
                         ft__min_size(8, w->channels - row));
}

static void ft__winograd_weight_gradient(const ft__call *call, const ft__conv *g)
{
    ft__context *c = call->context;
    ft__winograd_sum s;
    ft__winograd *w = &s.run.w;
    s.run = ft__winograd_start(call, g, false);
    s.whole = ft__winograd_whole(g);
    w->chunk = ft__winograd_sum_chunk(c, g);
    w->v_step = w->chunk * w->k + FT__WINOGRAD_APART;
    w->m_step = w->channels * w->outputs + FT__WINOGRAD_APART;
    s.d = w->v + FT__TILE_INPUTS * w->v_step;
    s.sum = s.d + ft__winograd_right(w->kind, w->outputs, ft__winograd_depth(w->kind, w->chunk));
    s.run.slots = s.sum + (s.whole ? 0 : FT__TILE_INPUTS * w->m_step);
    s.run.slot = ft__winograd_sum_slot_room(c, g);
    for (w->first = 0; w->first < w->tiles; w->first += w->chunk) {
        w->count = ft__min_size(w->chunk, w->tiles - w->first);
        ft__parallel(c, (int)((w->count + 3) / 4), ft__winograd_sum_in, &s);
        ft__parallel(c, c->threads, s.whole ? ft__winograd_whole_slot : ft__winograd_sum_slot, &s);
    }
    if (!s.whole) ft__parallel(c, (int)((w->channels + 7) / 8), ft__winograd_sum_out, &s);
}
