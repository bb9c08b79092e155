#pragma once
#include "platform/families.h"
#include "platform/context.h"
#include "basics/numbers.h"
#include "basics/threads.h"
#include "kernels/gemm.h"
#include "kernels/convolution.h"
#include "kernels/recurrent.h"
#include "nodes/nodes.h"
#include "operators/common.h"
#include "operators/activations.h"
#include "operators/convolution.h"

/* =============================================================================================
   [SECTION] operators/conv2d_rows: Convolution by gathered rows
   Every output pixel is a row of a matrix product (kernels/convolution): the inputs under the
   kernel there, [taps, channels], times the weights as [taps * channels, O].
       y = X W + bias,   dW = X^T dy,   dx = dy convolved with the kernel rotated by 180 degrees
   Threads split forward and dx by blocks of pixels, dW by its rows: each number has one owner.
   ============================================================================================= */
/* ---- Memory, and what every slot needs to know ---- */
#define FT__WEIGHT_CHUNK ((size_t)512) /* pixels per pass of dW's sums */
#define FT__WEIGHT_TILES ((size_t)4)   /* tiles of dW's rows that are packed together */

static bool ft__conv_is_depthwise(const ft__conv *g)
{
    return FT__HAS_DEPTHWISE && g->channels == 1 && g->groups > 1;
}

/* The number of pairs, in one direction, of an output position and a tap inside the input. */
static size_t ft__meetings(const ft__conv *g, int direction)
{
    int i, first, last, size = direction ? g->width : g->height;
    int out = direction ? g->out_width : g->out_height, before = direction ? g->left : g->top;
    size_t found = 0;
    for (i = 0; i < out; ++i) {
        ft__taps_inside(g->kernel[direction], g->dilation[direction],
                        i * g->stride[direction] - before, size, &first, &last);
        found += (size_t)(last - first);
    }
    return found;
}

/* Whether so many taps are outside the picture that skipping them pays (conv2d_small). It must not
   depend on the batch, or a sample's bits would. */
static bool ft__conv_is_small(const ft__conv *g)
{
    size_t area = (size_t)g->kernel[0] * (size_t)g->kernel[1];
    size_t line = (size_t)g->kernel[1] * ft__min_size((size_t)g->channels, (size_t)g->outputs);
    return g->groups == 1 && !ft__few_channels(g) && !g->pairs && line >= 64
        && 8 * ft__meetings(g, 0) * ft__meetings(g, 1) < 7 * area * g->p;
}

/* Sizes in numbers of 4 bytes: shared by all slots, and of each slot. */
typedef struct ft__conv_room { size_t shared, zeros, lists, table, slot; } ft__conv_room;

static size_t ft__conv_chunk(const ft__conv *g)
{
    return ft__min_size(FT__WEIGHT_CHUNK, g->batch * g->p);
}

/* Threads split dW by its rows; if it has few, by segments of the pixels instead, each with
   separate sums. Neither the number of segments nor the bits depend on the number of threads. */
#define FT__WEIGHT_SEGMENTS ((size_t)16)

static size_t ft__conv_segments(const ft__context *c, const ft__conv *g)
{
    size_t rows = ft__few_channels(g) ? g->k : (size_t)g->channels;
    size_t taps = ft__few_channels(g) ? 1 : (size_t)g->kernel[0] * (size_t)g->kernel[1];
    size_t most = ft__tiles[c->simd].rows * FT__WEIGHT_TILES;
    size_t chunks = (g->batch * g->p + FT__WEIGHT_CHUNK - 1) / FT__WEIGHT_CHUNK;
    if (taps * ((rows + most - 1) / most) >= FT__WEIGHT_SEGMENTS) return 1;
    return chunks < FT__WEIGHT_SEGMENTS ? chunks : FT__WEIGHT_SEGMENTS;
}

/* Whether a piece of dW is some channels of all taps (conv2d_rows_weight). */
static bool ft__conv_by_channels(const ft__context *c, const ft__conv *g)
{
    return !ft__few_channels(g) && ft__conv_segments(c, g) == 1;
}

/* Channels of a piece: at least 16, as many as a cache line holds; more if taps are few, as long as
   there are enough pieces. */
static size_t ft__conv_piece_channels(const ft__context *c, const ft__conv *g)
{
    size_t rows = ft__tiles[c->simd].rows, taps = (size_t)g->kernel[0] * (size_t)g->kernel[1];
    size_t tiles = ft__min_size(16 / taps, (size_t)g->channels / (16 * rows));
    return ft__max_size(tiles * rows, ft__pad_to(16, rows));
}

/* Distance between the packed rows of two tiles: not 2^n numbers, which share cache sets. */
static size_t ft__conv_panel_room(const ft__context *c, size_t pixels)
{
    return ft__tiles[c->simd].rows * pixels + 16;
}

/* Patches that are no longer than a panel is wide are dW's right matrix, and dy is the left one,
   read in place: nothing is packed. Returns the width; 0 if the patches are the left matrix. */
static size_t ft__patch_width(const ft__context *c, const ft__conv *g)
{
    const ft__tile_row *tile = &ft__tiles[c->simd];
    if (!ft__few_channels(g) || g->k > tile->columns) return 0;
    return ft__panel_width(tile, g->k, 0);
}

static ft__conv_room ft__conv_room_of(const ft__context *c, const ft__conv *g, bool training)
{
    size_t taps = (size_t)g->kernel[0] * (size_t)g->kernel[1], chunk = ft__conv_chunk(g);
    size_t rows = ft__tiles[c->simd].rows, block = FT__WALK_TILES * rows, weight;
    size_t outputs = (size_t)g->outputs, channels = (size_t)g->channels;
    size_t pointer = sizeof(void *) / sizeof(float);
    ft__conv_room room;
    room.shared = g->groups * ft__packed_right(c, outputs, g->k);
    room.zeros = ft__max_size(channels, outputs);
    if (ft__few_channels(g)) room.zeros = ft__max_size(room.zeros, g->k);
    room.zeros = ft__pad_to(room.zeros, 16);
    room.lists = ft__pad_to(6 * taps, 16);
    room.table = ft__pad_to(taps * block * pointer, 16);
    room.slot = room.table + (ft__few_channels(g) ? block * g->k : 0);
    if (training) {
        size_t dy = ft__packed_right(c, outputs, chunk), sums;
        sums = outputs * ft__max_size(g->k, ft__patch_width(c, g)) * ft__conv_segments(c, g);
        if (ft__conv_by_channels(c, g)) {
            sums += dy;
            weight = ft__conv_piece_channels(c, g) / rows * taps * ft__conv_panel_room(c, chunk)
                + chunk * taps * pointer;
        } else
            weight = rows * FT__WEIGHT_TILES * chunk + dy + chunk * pointer
                + (ft__few_channels(g) ? chunk * g->k : 0);
        room.shared = ft__max_size(room.shared, ft__packed_right(c, channels, outputs * taps));
        room.shared = ft__max_size(room.shared, sums);
        room.slot = ft__max_size(room.slot, room.table + block * channels);
        room.slot = ft__max_size(room.slot, weight);
    }
    room.shared = ft__pad_to(room.shared, 16);
    room.slot = ft__pad_to(room.slot, 16);
    return room;
}

typedef struct ft__conv_run {
    const ft__call *call;
    ft__conv g;
    ft__conv_room room;
    const ft__tile_row *tile;
    float *shared, *slots;
    int *tap_at;            /* kernel position of each tap in use */
    ft__walk walk;
    size_t group;           /* the current one, if groups run one after another */
    size_t parts;           /* number of parts of the result's columns */
    int phase[2];           /* dx with a stride: the first row and column of the grid */
    ft__tap_place *place;   /* dx: place of each tap's weights */
    const float *packed;    /* dx: the weights of the phase */
    size_t first, count;    /* dW: the chunk of pixels that is summed */
} ft__conv_run;

static ft__conv_run ft__conv_start(const ft__call *call, const ft__conv *g)
{
    ft__conv_run run;
    float *zeros, *lists;
    size_t i;
    memset(&run, 0, sizeof run);
    run.call = call;
    run.g = *g;
    run.room = ft__conv_room_of(call->context, &run.g, call->output.gradient != NULL);
    run.tile = &ft__tiles[call->context->simd];
    run.shared = call->workspace;
    zeros = run.shared + run.room.shared;
    lists = zeros + run.room.zeros;
    run.slots = lists + run.room.lists;
    for (i = 0; i < run.room.zeros; ++i) zeros[i] = 0;
    run.walk.zeros = zeros;
    run.walk.offset = (int *)(void *)lists;
    run.tap_at = (int *)(void *)lists + 2 * run.g.kernel[0] * run.g.kernel[1];
    run.place = (ft__tap_place *)(void *)(run.tap_at + run.g.kernel[0] * run.g.kernel[1]);
    return run;
}

/* Sets up the walk over the input's pixels under the kernel, at the output's pixels. */
static void ft__conv_walk_input(ft__conv_run *run)
{
    const ft__conv *g = &run->g;
    ft__walk *w = &run->walk;
    int *offset = (int *)(void *)(uintptr_t)w->offset, tap;
    w->from = run->call->input[0].value;
    w->height = g->height;
    w->width = g->width;
    w->channels = (size_t)g->channels;
    w->pixel = g->groups * w->channels;
    w->rows = g->out_height;
    w->columns = g->out_width;
    w->step[0] = g->stride[0];
    w->step[1] = g->stride[1];
    w->taps = g->kernel[0] * g->kernel[1];
    for (tap = 0; tap < w->taps; ++tap) {
        run->tap_at[tap] = tap;
        offset[2 * tap] = tap / g->kernel[1] * g->dilation[0] - g->top;
        offset[2 * tap + 1] = tap % g->kernel[1] * g->dilation[1] - g->left;
    }
}

/* A piece of a result [points, columns]: a block of points and a part of the columns. */
typedef struct ft__piece { size_t first, count, column, columns; } ft__piece;

/* Few points (one small picture) are also split by columns, so that all threads have work. */
static size_t ft__conv_parts(const ft__conv_run *run, size_t points, size_t columns)
{
    size_t blocks = points / (FT__WALK_TILES * run->tile->rows) + 1;
    size_t panels = (columns + run->tile->columns - 1) / run->tile->columns;
    size_t wanted = 4 * (size_t)run->call->context->threads / blocks;
    return ft__max_size(1, ft__min_size(wanted, panels));
}

static size_t ft__conv_pieces(const ft__conv_run *run, size_t points)
{
    size_t block = FT__WALK_TILES * run->tile->rows;
    return (points + block - 1) / block * run->parts;
}

static ft__piece ft__conv_piece(const ft__conv_run *run, size_t index, size_t points,
                                size_t columns)
{
    size_t block = FT__WALK_TILES * run->tile->rows, part = index % run->parts;
    size_t panels = (columns + run->tile->columns - 1) / run->tile->columns, end;
    ft__piece piece;
    piece.first = index / run->parts * block;
    piece.count = ft__min_size(block, points - piece.first);
    piece.column = panels * part / run->parts * run->tile->columns;
    end = panels * (part + 1) / run->parts * run->tile->columns;
    piece.columns = ft__min_size(end, columns) - piece.column;
    return piece;
}

/* ---- Forward ---- */

/* Gathers the rows of a piece; *taps stretches of *k numbers each. */
static void ft__conv_rows(const ft__conv_run *run, const ft__piece *piece, size_t group,
                          const float **table, size_t *taps, size_t *k)
{
    const ft__conv *g = &run->g;
    ft__walk w = run->walk;
    bool few = ft__few_channels(g);
    w.from += group * w.channels;
    *taps = (size_t)(few ? g->kernel[0] : w.taps);
    *k = g->k / *taps;
    if (few)
        ft__few_rows(g, w.from, piece->first, piece->count, run->tile->rows, w.zeros,
                     (float *)(void *)table + run->room.table, table);
    else ft__walk_rows(&w, piece->first, piece->count, run->tile->rows, table);
}

static void ft__conv_forward_slot(void *context, int slot)
{
    const ft__conv_run *run = (const ft__conv_run *)context;
    const ft__call *call = run->call;
    const ft__conv *g = &run->g;
    size_t points = g->batch * g->p, pieces = ft__conv_pieces(run, points), i, r, taps, k;
    size_t outputs = (size_t)g->outputs, stride = g->groups * outputs;
    const float **table = (const float **)(void *)(run->slots + (size_t)slot * run->room.slot);
    const float *bias = call->input_count > 2 ? call->input[2].value : NULL, *packed;
    ft__finish f;
    int share;
    f.clamp = ft__is_clamp(call->fused, &f.low, &f.high);
    f.stride = stride;
    FT__PIECES(i, share, call->context, slot, pieces * g->groups) {
        size_t group = i / pieces;
        ft__piece piece = ft__conv_piece(run, i % pieces, points, outputs);
        f.y = call->output.value + piece.first * stride + group * outputs + piece.column;
        f.count = piece.count;
        f.columns = piece.columns;
        f.bias = bias ? bias + group * outputs + piece.column : NULL;
        ft__conv_rows(run, &piece, group, table, &taps, &k);
        packed = run->shared + group * ft__packed_right(call->context, outputs, g->k)
            + piece.column * g->k;
        if (g->pairs) {
            ft__multiply_rows(run->tile, table, piece.count, taps, k, packed, piece.columns, f.y,
                              stride, false);
            if (f.bias || f.clamp) ft__finish_run(call->context, &f);
        } else ft__multiply_and_finish(call->context, table, taps, k, packed, &f);
        for (r = 0; call->fused && !f.clamp && r < piece.count; ++r)
            ft__activate(call, f.y + r * stride, piece.columns);
    }
}

/* Packs the weights of each group as a right matrix, unless that was done before. */
static void ft__conv_pack_forward(ft__conv_run *run)
{
    const ft__call *call = run->call;
    const ft__conv *g = &run->g;
    ft__weight_pack pack;
    size_t group;
    memset(&pack, 0, sizeof pack);
    pack.n = (size_t)g->outputs;
    pack.k = (size_t)g->channels;
    pack.n_step = g->k;
    pack.k_step = (size_t)run->walk.taps;
    pack.taps = run->walk.taps;
    if (call->prepared) run->shared = call->prepared;
    for (group = 0; group < g->groups && (!call->prepared || call->prepare); ++group) {
        pack.stored = ft__stored_weight(&call->input[1]);
        pack.first_row = group * pack.n;
        if (!pack.stored) pack.weight = call->input[1].value + pack.first_row * g->k;
        pack.to = run->shared + group * ft__packed_right(call->context, pack.n, g->k);
        ft__pack_weights(call->context, &pack);
    }
}

static void ft__conv_forward(const ft__call *call, const ft__conv *g)
{
    ft__conv_run run = ft__conv_start(call, g);
    ft__conv_walk_input(&run);
    ft__conv_pack_forward(&run);
    run.parts = ft__conv_parts(&run, g->batch * g->p, (size_t)g->outputs);
    ft__parallel_slots(call->context, ft__conv_forward_slot, &run);
}

/* ---- Backward: the input's gradient. Input row i gets gradients from the output rows o with
   o * stride + tap * dilation - padding = i. With a stride, rows with the same remainder (phase)
   have the same taps: each phase is a walk over dy with a stride of 1. The weights of all phases
   are packed in one pass, which reads each once, and a fresh dx is written, not zeroed before: dx
   of ResNet-18's layer4.0.conv1 takes 0.92 of the time (16 pictures, two threads, AVX-512). ---- */

static void ft__conv_walk_output(ft__conv_run *run, int phase_row, int phase_column)
{
    const ft__conv *g = &run->g;
    ft__walk *w = &run->walk;
    int *offset = (int *)(void *)(uintptr_t)w->offset, tap, area = g->kernel[0] * g->kernel[1];
    run->phase[0] = phase_row;
    run->phase[1] = phase_column;
    w->from = run->call->output.gradient + run->group * (size_t)g->outputs;
    w->height = g->out_height;
    w->width = g->out_width;
    w->channels = (size_t)g->outputs;
    w->pixel = g->groups * w->channels;
    w->rows = (g->height - phase_row + g->stride[0] - 1) / g->stride[0];
    w->columns = (g->width - phase_column + g->stride[1] - 1) / g->stride[1];
    w->step[0] = w->step[1] = 1;
    w->taps = 0;
    for (tap = 0; tap < area; ++tap) {
        int y = phase_row + g->top - tap / g->kernel[1] * g->dilation[0];
        int x = phase_column + g->left - tap % g->kernel[1] * g->dilation[1];
        if (y % g->stride[0] != 0 || x % g->stride[1] != 0) continue;
        run->tap_at[w->taps] = tap;
        offset[2 * w->taps] = y / g->stride[0];
        offset[2 * w->taps + 1] = x / g->stride[1];
        w->taps += 1;
    }
}

/* Adds rows [count, columns] to the pixels of dx at the grid's points, or writes them if dx is
   fresh. `from` NULL: zeros. */
static void ft__conv_scatter(const ft__conv_run *run, const ft__piece *piece, const float *from,
                             float *dx, size_t pixel)
{
    const ft__conv *g = &run->g;
    const ft__walk *w = &run->walk;
    ft__point at = ft__point_at(piece->first, w->rows, w->columns);
    size_t i, columns = piece->columns;
    for (i = 0; i < piece->count; ++i, ft__point_next(&at, w->rows, w->columns)) {
        int row = at.row * g->stride[0] + run->phase[0];
        int column = at.column * g->stride[1] + run->phase[1];
        float *to = dx + ((at.picture * (size_t)g->height + (size_t)row) * (size_t)g->width
                          + (size_t)column) * pixel;
        if (!from) memset(to, 0, columns * sizeof *to);
        else if (run->call->input[0].fresh) memcpy(to, from + i * columns, columns * sizeof *to);
        else ft__add_row[run->call->context->simd](from + i * columns, columns, to);
    }
}

static void ft__conv_input_slot(void *context, int slot)
{
    const ft__conv_run *run = (const ft__conv_run *)context;
    const ft__conv *g = &run->g;
    const ft__walk *w = &run->walk;
    size_t points = g->batch * (size_t)w->rows * (size_t)w->columns, i;
    size_t pieces = ft__conv_pieces(run, points), channels = (size_t)g->channels;
    size_t pixel = g->groups * channels;
    const float **table = (const float **)(void *)(run->slots + (size_t)slot * run->room.slot);
    float *aside = (float *)(void *)table + run->room.table;
    bool direct = g->stride[0] == 1 && g->stride[1] == 1;
    bool short_sums = direct && run->call->input[0].fresh && w->taps == 1 && !g->pairs;
    ft__finish f;
    int share;
    memset(&f, 0, sizeof f);
    f.stride = pixel;
    FT__PIECES(i, share, run->call->context, slot, pieces) {
        ft__piece piece = ft__conv_piece(run, i, points, channels);
        float *dx = run->call->input[0].gradient + run->group * channels + piece.column;
        if (w->taps == 0) {
            ft__conv_scatter(run, &piece, NULL, dx, pixel);
            continue;
        }
        ft__walk_rows(w, piece.first, piece.count, run->tile->rows, table);
        if (short_sums) {
            f.y = dx + piece.first * pixel;
            f.count = piece.count;
            f.columns = piece.columns;
            ft__multiply_and_finish(run->call->context, table, 1, w->channels,
                                    run->packed + piece.column * w->channels, &f);
            continue;
        }
        ft__multiply_rows(run->tile, table, piece.count, (size_t)w->taps, w->channels,
                          run->packed + piece.column * (size_t)w->taps * w->channels,
                          piece.columns, direct ? dx + piece.first * pixel : aside,
                          direct ? pixel : piece.columns,
                          direct && !run->call->input[0].fresh);
        if (!direct) ft__conv_scatter(run, &piece, aside, dx, pixel);
    }
}

/* The number of phases: the rows, or columns, of the input below the stride. */
static int ft__conv_phases(const ft__conv *g, int direction)
{
    int size = direction ? g->width : g->height;
    return g->stride[direction] < size ? g->stride[direction] : size;
}

/* Packs the weights of the group with input and output channels swapped, phase by phase. */
static void ft__conv_pack_backward(ft__conv_run *run)
{
    const ft__conv *g = &run->g;
    int taps = g->kernel[0] * g->kernel[1], ahead = 0, row, column, i;
    ft__weight_pack pack;
    for (i = 0; i < taps; ++i) run->place[i].of = 0;
    for (row = 0; row < ft__conv_phases(g, 0); ++row)
        for (column = 0; column < ft__conv_phases(g, 1); ++column) {
            ft__conv_walk_output(run, row, column);
            for (i = 0; i < run->walk.taps; ++i) {
                ft__tap_place *place = &run->place[run->tap_at[i]];
                place->ahead = ahead;
                place->of = run->walk.taps;
                place->at = i;
            }
            ahead += run->walk.taps;
        }
    for (i = 0; i < taps; ++i) { /* those of phases past the input's edge are not used */
        if (run->place[i].of > 0) continue;
        run->place[i].ahead = ahead++;
        run->place[i].of = 1;
        run->place[i].at = 0;
    }
    memset(&pack, 0, sizeof pack);
    pack.n = (size_t)g->channels;
    pack.k = (size_t)g->outputs;
    pack.n_step = (size_t)taps;
    pack.k_step = g->k;
    pack.taps = taps;
    pack.place = run->place;
    pack.stored = ft__stored_weight(&run->call->input[1]);
    pack.first_row = run->group * (size_t)g->outputs;
    if (!pack.stored) pack.weight = run->call->input[1].value + pack.first_row * g->k;
    pack.to = run->shared;
    ft__pack_weights(run->call->context, &pack);
    run->packed = run->shared;
}

/* dx of one phase. */
static void ft__conv_input_phase(ft__conv_run *run)
{
    const ft__conv *g = &run->g;
    const ft__walk *w = &run->walk;
    if (w->taps == 0 && !run->call->input[0].fresh) return;
    run->parts = ft__conv_parts(run, g->batch * (size_t)w->rows * (size_t)w->columns,
                                (size_t)g->channels);
    ft__parallel_slots(run->call->context, ft__conv_input_slot, run);
}

static void ft__conv_input_gradient(ft__conv_run *run)
{
    const ft__conv *g = &run->g;
    int row, column;
    for (run->group = 0; run->group < g->groups; ++run->group) {
        ft__conv_pack_backward(run);
        for (row = 0; row < ft__conv_phases(g, 0); ++row)
            for (column = 0; column < ft__conv_phases(g, 1); ++column) {
                ft__conv_walk_output(run, row, column);
                ft__conv_input_phase(run);
                run->packed += ft__packed_right(run->call->context, (size_t)g->channels,
                                                (size_t)(g->outputs * run->walk.taps));
            }
    }
}
