#pragma once
#include "interface/types.h"
#include "interface/operators.h"
#include "platform/families.h"
#include "platform/context.h"
#include "basics/numbers.h"
#include "basics/threads.h"
#include "kernels/elementary.h"
#include "kernels/gemm.h"
#include "kernels/column_sums.h"
#include "kernels/convolution.h"
#include "nodes/nodes.h"
#include "operators/table.h"
#include "operators/adding.h"
#include "operators/common.h"
#include "operators/activations.h"
#include "operators/conv2d_rows.h"
#include "operators/conv2d_bf16.h"

/* =============================================================================================
   [SECTION] operators/linear: Linear
   x [..., in], weight [out, in], bias [out]: y = x weight^T + bias
   dx = dy weight, dweight = dy^T x, dbias = sum of dy over the rows
   ============================================================================================= */
static ft_status ft__linear_shape(ft__context *c, const ft__node *node, const ft__tensor *input,
                                  int input_count, ft_shape *output)
{
    const ft_shape *x = &input[0].shape, *w = &input[1].shape;
    char text[80], other[80];
    *output = *x;
    if (x->rank < 2 || w->rank != 2 || x->size[x->rank - 1] != w->size[1])
        return ft__fail(c, FT_SHAPE, "%s: input %s does not fit weight %s", node->name,
                        ft__shape_text(x, text), ft__shape_text(w, other));
    if (input_count > 2 && (input[2].shape.rank != 1 || input[2].shape.size[0] != w->size[0]))
        return ft__fail(c, FT_SHAPE, "%s: bias %s does not fit weight %s", node->name,
                        ft__shape_text(&input[2].shape, text), ft__shape_text(w, other));
    output->size[x->rank - 1] = w->size[0];
    return ft__want_numbers(c, node, input, input_count);
}

/* Forward and dx are those of a 1x1 convolution over rows instead of pixels. */
static ft__conv ft__rows_size(size_t rows, size_t in, size_t out)
{
    ft__conv g;
    memset(&g, 0, sizeof g);
    g.outputs = (int)out;
    g.channels = (int)in;
    g.batch = rows;
    g.groups = g.p = 1;
    g.k = in;
    g.height = g.width = g.out_height = g.out_width = 1;
    g.kernel[0] = g.kernel[1] = g.stride[0] = g.stride[1] = g.dilation[0] = g.dilation[1] = 1;
    return g;
}

static ft__conv ft__linear_size(const ft__call *call)
{
    const int *weight = call->input[1].shape.size;
    return ft__rows_size(ft__count(&call->output) / (size_t)weight[0], (size_t)weight[1],
                         (size_t)weight[0]);
}

/* Whether dx of few rows uses ft__linear_input_slot; that does not depend on the threads. */
static bool ft__linear_packs_late(const ft__call *call, const ft__conv *g)
{
    return ft__tiles[call->context->simd].packing[0] && g->outputs >= 64 && g->channels >= 32
        && !call->input[1].typed.at;
}

static void ft__linear_costs(const ft__call *call, ft__costs *costs)
{
    ft__conv g = ft__linear_size(call);
    size_t rows = g.batch, in = (size_t)g.channels, out = (size_t)g.outputs;
    ft__conv_room room = ft__conv_room_of(call->context, &g, call->training);
    size_t numbers = room.shared + room.zeros + room.lists
        + (size_t)call->context->threads * room.slot;
    if (call->training)
        numbers = ft__max_size(numbers, ft__gemm_workspace(call->context, rows));
    if (call->training && ft__linear_packs_late(call, &g)) /* a panel for each thread; a batch may
                                                              have fewer rows than this one */
        numbers = ft__max_size(numbers, (size_t)call->context->threads
                                          * ft__tiles[call->context->simd].columns * out);
    costs->workspace = numbers * sizeof(float);
    costs->prepared = ft__packed_right(call->context, out, in) * sizeof(float);
    if (ft__bf16_fits(call->context, &g))
        ft__bf16_costs(call->context, &g, call->training, costs);
    costs->multiply_adds = (uint64_t)rows * in * out;
}

/* For few rows and weights that were not packed before: y^T = weight x^T, so that the weights are
   read in place and x, which is smaller, is packed. The bits are those of the convolution. An MLP's
   step, 784 to 128 for 32 rows, takes 0.94 of the time (two threads, AVX-512). */
static bool ft__linear_goes_across(const ft__call *call, const ft__conv *g)
{
    float low, high;
    return !call->prepared && 2 * g->batch <= (size_t)g->outputs && !call->input[1].typed.at
        && (!call->fused || ft__is_clamp(call->fused, &low, &high));
}

typedef struct ft__across { const ft__call *call; ft__conv g; size_t parts, part; } ft__across;

/* Packs `part` numbers, or those that are left, of each of a panel's rows of x. */
static void ft__across_pack(void *context, int index)
{
    const ft__across *run = (const ft__across *)context;
    const ft__tile_row *tile = &ft__tiles[run->call->context->simd];
    size_t rows = run->g.batch, in = run->g.k, j = (size_t)index / run->parts * tile->columns;
    size_t width = ft__panel_width(tile, rows, j), first = (size_t)index % run->parts * run->part;
    ft__matrix x = ft__rows_of(run->call->input[0].value + j * in + first, in);
    if (first < in)
        ft__pack_panel(x, ft__min_size(width, rows - j), width, ft__min_size(run->part, in - first),
                       run->call->workspace + j * in + first * width);
}

static void ft__across_slot(void *context, int slot)
{
    const ft__across *run = (const ft__across *)context;
    const ft__call *call = run->call;
    const ft__tile_row *tile = &ft__tiles[call->context->simd];
    size_t rows = run->g.batch, in = run->g.k, out = (size_t)run->g.outputs, piece, i, j, r, width;
    const float *bias = call->input_count > 2 ? call->input[2].value : NULL, *line[FT__TILE_ROWS];
    float tall[FT__TILE_MOST], low, high;
    bool clamp = ft__is_clamp(call->fused, &low, &high);
    int share;
    FT__PIECES(piece, share, call->context, slot, (out + tile->rows - 1) / tile->rows) {
        size_t o = piece * tile->rows, some = ft__min_size(tile->rows, out - o);
        for (i = 0; i < some; ++i) line[i] = call->input[1].value + (o + i) * in;
        for (j = 0; j < rows; j += width) {
            const float *packed = call->workspace + j * in;
            width = ft__panel_width(tile, rows, j);
            ft__gemm_tile(tile, some, width, 1, in, line, 1, packed, width, packed, 0, tall, width,
                          false);
            for (r = 0; r < ft__min_size(width, rows - j); ++r)
                for (i = 0; i < some; ++i) {
                    float y = tall[i * width + r] + (bias ? bias[o + i] : 0);
                    call->output.value[(j + r) * out + o + i] = clamp ? ft__clamp(y, low, high) : y;
                }
        }
    }
}

static void ft__linear_across(const ft__call *call, const ft__conv *g)
{
    size_t wide = ft__tiles[call->context->simd].columns;
    ft__across run;
    run.call = call;
    run.g = *g;
    run.parts = 4;
    run.part = ft__pad_to((g->k + run.parts - 1) / run.parts, FT__PACK_AT_ONCE);
    ft__parallel(call->context, (int)((g->batch + wide - 1) / wide * run.parts), ft__across_pack,
                 &run);
    ft__parallel_slots(call->context, ft__across_slot, &run);
}

static void ft__linear_forward(const ft__call *call)
{
    ft__conv g = ft__linear_size(call);
    if (ft__bf16_fits(call->context, &g)) ft__bf16_forward(call, &g);
    else if (ft__linear_goes_across(call, &g)) ft__linear_across(call, &g);
    else ft__conv_forward(call, &g);
}

/* dx of few rows: the first tile of each panel of weights packs it while it multiplies. The bits
   are those of a convolution's dx. Backward, 512 to 1000 for 16 rows, takes 0.83 of the time (two
   threads, AVX-512). */
static void ft__linear_input_slot(void *context, int slot)
{
    const ft__call *call = (const ft__call *)context;
    const ft__tile_row *tile = &ft__tiles[call->context->simd];
    ft__conv g = ft__linear_size(call);
    size_t rows = g.batch, in = g.k, out = (size_t)g.outputs, piece, i, j, r;
    float *packed = call->workspace + (size_t)slot * tile->columns * out, *dx;
    const float *weight, *row[FT__TILE_ROWS];
    int share;
    FT__PIECES(piece, share, call->context, slot, (in + tile->columns - 1) / tile->columns) {
        j = piece * tile->columns;
        weight = call->input[1].value + j;
        dx = call->input[0].gradient + j;
        for (i = 0; i < rows; i += tile->rows) {
            size_t some = ft__min_size(tile->rows, rows - i), width = ft__panel_width(tile, in, j);
            bool pack = i == 0, add = !call->input[0].fresh;
            for (r = 0; r < some; ++r) row[r] = call->output.gradient + (i + r) * out;
            if (pack && in - j >= tile->columns) {
                tile->packing[some - 1](out, row, 1, weight, (ptrdiff_t)in, packed, dx, in, add);
                continue;
            }
            if (pack)
                ft__pack_panel(ft__transposed(ft__rows_of(weight, in)),
                               ft__min_size(width, in - j), width, out, packed);
            ft__gemm_tile(tile, some, in - j, 1, out, row, 1, packed, width, packed, 0,
                          dx + i * in, in, add);
        }
    }
}

static void ft__linear_backward(const ft__call *call)
{
    ft__conv g = ft__linear_size(call);
    size_t in = (size_t)g.channels, out = (size_t)g.outputs;
    if (call->input_count > 2 && call->input[2].gradient)
        ft__add_column_sums(call->context, call->output.gradient, g.batch, out,
                            call->input[2].gradient);
    if (ft__bf16_fits(call->context, &g)) {
        ft__bf16_backward(call, &g);
        return;
    }
    if (call->input[1].gradient)
        ft__gemm_parallel(call->context, out, in, g.batch,
                          ft__transposed(ft__rows_of(call->output.gradient, out)),
                          ft__rows_of(call->input[0].value, in), call->input[1].gradient, in, true,
                          call->workspace);
    if (call->input[0].gradient && g.batch <= 64 && ft__linear_packs_late(call, &g)) {
        ft__parallel_slots(call->context, ft__linear_input_slot, (void *)(uintptr_t)call);
    } else if (call->input[0].gradient) {
        ft__conv_run run = ft__conv_start(call, &g);
        ft__conv_input_gradient(&run);
    }
}

/* In files: `linear` | x [..., in], weight [out, in], bias [out] or no third | */
static const ft__row ft__row_linear = {
    FT__NAMED(linear), 2, 3, FT__LAYER | FT__WEIGHTS | FT__PRODUCT | FT__FOLDS | FT__CAN_BE_HEAD
        | FT__READS_TYPES | FT__BY_STEP,
    ft__linear_shape, ft__linear_forward, FT__BACKWARD(ft__linear_backward), ft__linear_costs,
    ft__no_fields, NULL};

ft_node ft_linear(ft_model *m, const char *name, ft_node x, int out_features,
                  ft_linear_options options)
{
    ft_node inputs[3], none = {0};
    const ft__node *input = ft__get_node(m, x);
    ft_parameter_options p;
    char text[80];
    int count;
    if (!ft__usable(m)) return none;
    memset(&p, 0, sizeof p);
    if (input && input->shape.rank < 2)
        ft__fail(&m->context, FT_SHAPE, "%s: a linear layer needs an input [N, features], this one"
                 " is %s", name, ft__shape_text(&input->shape, text));
    p.size[0] = out_features;
    p.size[1] = p.fan_in = ft__size_of(m, name, x, -1);
    p.fan_out = out_features;
    p.initialiser = options.initialiser;
    p.transposed = options.transposed;
    if (out_features < 1) ft__fail(&m->context, FT_INVALID, "%s: out_features must be above 0",
                                   name);
    if (!ft__usable(m)) return none;
    inputs[0] = x;
    count = ft__weight_inputs(m, name, inputs, options.weight, options.bias, options.no_bias, p);
    return ft__add_node(m, &ft__row_linear, name, inputs, count, NULL, 0);
}
