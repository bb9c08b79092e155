#pragma once
#include "interface/types.h"
#include "platform/families.h"
#include "platform/context.h"
#include "basics/numbers.h"
#include "basics/threads.h"
#include "kernels/gemm.h"
#include "kernels/column_sums.h"
#include "kernels/convolution.h"
#include "kernels/recurrent.h"
#include "nodes/nodes.h"
#include "operators/table.h"
#include "operators/common.h"
#include "operators/step_pool.h"

/* =============================================================================================
   [SECTION] operators/recurrent: Recurrent layers
   lstm, gru, rnn: one layer, one direction or both. Inputs: x [N, L, in]; per direction weight_ih
   [G H, in], weight_hh [G H, H] and, unless no_bias, bias_ih and bias_hh [G H], with G = 4, 3, 1
   gates; then, depending on the options, lengths I32 [N], the initial hidden state [N, D H] and the
   initial cell [N, D H]. Output [N, L, D H], with forward and reverse side by side if D = 2; with
   `cells` [N, L, 2 D H]: the LSTM's cells follow in the same order.

   As in PyTorch's packed sequences, steps at or past a sample's length give zeros and do not change
   its state; the reverse direction starts at the sample's last step.

   The input's contribution to the gates is one product per block of steps; only the state's
   contribution is computed step by step, with weights packed once. Inside, rows are ordered
   [step][sample], with steps in the order of processing, so that every operand of every product is
   a plain matrix. A GRU with `reset_before` has two products in a step: the new gate's needs the
   reset gate. Threads split the work by direction and by rows of samples: none waits for
   another within a block. Blocks of steps have about FT__BLOCK_K rows: the gradients of the weights
   and of the input are computed from a block's gates while those are in the cache.
   ============================================================================================= */
static const ft__field ft__recurrent_fields[] = {
    FT__INT(ft__recurrent_options, hidden), FT__BOOL(ft__recurrent_options, bidirectional),
    FT__BOOL(ft__recurrent_options, no_bias), FT__BOOL(ft__recurrent_options, relu),
    FT__BOOL(ft__recurrent_options, lengths), FT__BOOL(ft__recurrent_options, initial),
    FT__BOOL(ft__recurrent_options, carry), FT__BOOL(ft__recurrent_options, cells),
    FT__BOOL(ft__recurrent_options, reset_before), FT__NO_MORE_FIELDS};

static int ft__gate_count(int op)
{
    return op == FT__OP_lstm ? 4 : op == FT__OP_gru ? 3 : 1;
}

static bool ft__has_cells(int op) { return op == FT__OP_lstm; }

/* Sizes of a call, and the index of each input (0: absent). */
typedef struct ft__recurrent {
    const ft__call *call;
    const ft__recurrent_options *o;
    size_t n, steps, in, h, gates, directions;
    int per_direction, lengths, hidden, cell; /* inputs: per direction, and indices of others */
    size_t width;           /* gates * h */
    size_t of_state;        /* rows of weight_hh that multiply the state; those after them, of the
                               new gate if `reset_before`, multiply the reset gate times it */
    size_t stride;          /* from row to row of the gates */
    size_t block;           /* steps per block */
    size_t rows;            /* steps * n */
    size_t cells_at;        /* in a step of the output: where its cells start; 0: no cells */
} ft__recurrent;

static ft__recurrent ft__recurrent_of(const ft__call *call)
{
    ft__recurrent r;
    const ft__recurrent_options *o = &call->node->options.recurrent;
    int at;
    memset(&r, 0, sizeof r);
    r.call = call;
    r.o = o;
    r.n = (size_t)call->input[0].shape.size[0];
    r.steps = (size_t)call->input[0].shape.size[1];
    r.in = (size_t)call->input[0].shape.size[2];
    r.h = (size_t)o->hidden;
    r.gates = (size_t)ft__gate_count(call->node->op);
    r.directions = o->bidirectional ? 2 : 1;
    r.per_direction = o->no_bias ? 2 : 4;
    at = 1 + (int)r.directions * r.per_direction;
    if (o->lengths) r.lengths = at++;
    if (o->initial) r.hidden = at++;
    if (o->initial && ft__has_cells(call->node->op)) r.cell = at;
    r.width = r.gates * r.h;
    r.of_state = o->reset_before ? 2 * r.h : r.width;
    r.stride = r.width % 64 ? r.width : r.width + 16; /* else columns share cache sets */
    r.block = r.n < FT__BLOCK_K ? FT__BLOCK_K / r.n : 1;
    if (r.block > r.steps) r.block = r.steps;
    r.rows = r.steps * r.n;
    r.cells_at = o->cells ? r.directions * r.h : 0;
    return r;
}

enum { FT__WEIGHT_IH, FT__WEIGHT_HH, FT__BIAS_IH, FT__BIAS_HH };

static const ft__tensor *ft__recurrent_weight(const ft__recurrent *r, size_t direction, int which)
{
    return &r->call->input[1 + (int)direction * r->per_direction + which];
}

static bool ft__has_sizes(const ft__tensor *t, int rank, int first, int second)
{
    return t->shape.rank == rank && t->shape.size[0] == first
        && (rank < 2 || t->shape.size[1] == second);
}

static ft_status ft__recurrent_check(ft__context *c, const ft__recurrent *r, int input_count)
{
    const ft__tensor *input = r->call->input;
    const char *name = r->call->node->name;
    int wanted = 1 + (int)r->directions * r->per_direction + (r->lengths > 0) + (r->hidden > 0)
        + (r->cell > 0), d, wide = (int)r->width, features = r->o->hidden * (int)r->directions;
    char text[80];
    if (input_count != wanted)
        return ft__fail(c, FT_SHAPE, "%s: has %d inputs; expected %d", name, input_count, wanted);
    for (d = 0; d < (int)r->directions; ++d) {
        const ft__tensor *w = ft__recurrent_weight(r, (size_t)d, 0);
        if (!ft__has_sizes(&w[0], 2, wide, (int)r->in) || !ft__has_sizes(&w[1], 2, wide,
                                                                         r->o->hidden))
            return ft__fail(c, FT_SHAPE, "%s: weights for %d inputs and a hidden size of %d must be"
                            " [%d, %d] and [%d, %d]; weight_ih is %s", name, (int)r->in,
                            r->o->hidden, wide, (int)r->in, wide, r->o->hidden,
                            ft__shape_text(&w[0].shape, text));
        if (!r->o->no_bias && (!ft__has_sizes(&w[2], 1, wide, 0)
                               || !ft__has_sizes(&w[3], 1, wide, 0)))
            return ft__fail(c, FT_SHAPE, "%s: biases must be [%d], not %s", name, wide,
                            ft__shape_text(&w[2].shape, text));
    }
    if (r->lengths && (input[r->lengths].type != FT_I32
                       || !ft__has_sizes(&input[r->lengths], 1, input[0].shape.size[0], 0)))
        return ft__fail(c, FT_SHAPE, "%s: lengths must be I32 [N], not %s", name,
                        ft__shape_text(&input[r->lengths].shape, text));
    for (d = r->hidden; d > 0 && d < wanted; ++d)
        if (!ft__has_sizes(&input[d], 2, input[0].shape.size[0], features))
            return ft__fail(c, FT_SHAPE, "%s: the first state must be [N, %d], not %s", name,
                            features, ft__shape_text(&input[d].shape, text));
    for (d = 0; d < wanted; ++d)
        if (d != r->lengths && input[d].type != FT_F32)
            return ft__fail(c, FT_SHAPE, "%s: input %d is %s, but must be F32", name, d + 1,
                            ft__type_names[input[d].type]);
    return FT_OK;
}

static ft_status ft__recurrent_shape(ft__context *c, const ft__node *node, const ft__tensor *input,
                                     int input_count, ft_shape *output)
{
    const ft_shape *x = &input[0].shape;
    int hidden = node->options.recurrent.hidden;
    char text[80];
    ft__recurrent r;
    ft__call call;
    *output = *x;
    if (x->rank != 3 || x->size[2] < 1)
        return ft__fail(c, FT_SHAPE, "%s: expected an input [N, L, in], not %s", node->name,
                        ft__shape_text(x, text));
    if (hidden < 1 || hidden > 1 << 24)
        return ft__fail(c, FT_INVALID, "%s: a hidden size of %d is not supported", node->name,
                        hidden);
    if (node->options.recurrent.carry && !node->options.recurrent.initial)
        return ft__fail(c, FT_INVALID, "%s: carry needs a first state", node->name);
    if (node->options.recurrent.cells && !ft__has_cells(node->op))
        return ft__fail(c, FT_INVALID, "%s: only an LSTM has cells", node->name);
    if (node->options.recurrent.reset_before && ft__gate_count(node->op) != 3)
        return ft__fail(c, FT_INVALID, "%s: only a GRU has a reset gate", node->name);
    memset(&call, 0, sizeof call);
    call.node = node;
    call.input = input;
    r = ft__recurrent_of(&call);
    output->size[2] = hidden * (int)r.directions * (node->options.recurrent.cells ? 2 : 1);
    return ft__recurrent_check(c, &r, input_count);
}

/* ---- Memory. Kept for backward, per direction: gates [steps, n, stride], hidden states
   [steps + 1, n, H], starting with the initial one, and `extra`: the LSTM's cells likewise, or the
   GRU's hidden part of the new gate, or with `reset_before` the reset gate times the hidden state,
   [steps, n, H]. ---- */

static float *ft__recurrent_gates(const ft__recurrent *r, size_t direction)
{
    size_t states = (r->rows + r->n) * r->h;
    size_t extra = r->gates == 4 ? states : r->gates == 3 ? r->rows * r->h : 0;
    return (float *)r->call->saved + direction * (r->rows * r->stride + states + extra);
}

static float *ft__recurrent_states(const ft__recurrent *r, size_t direction)
{
    return ft__recurrent_gates(r, direction) + r->rows * r->stride;
}

static float *ft__recurrent_extra(const ft__recurrent *r, size_t direction)
{
    return ft__recurrent_states(r, direction) + (r->rows + r->n) * r->h;
}

/* Scratch: per direction, the state's contribution in a GRU [n, G H], or with `reset_before` the
   gradient of the reset gate times the state [n, H]; gradients of state and cell [n, H] each, and a
   bias; once, a block's inputs in the order of processing [block * n, in], or
   their gradients; the packed weights; workspace for products. The packed weights are weight_ih,
   then weight_hh of each direction, with `reset_before` in two parts; in backward weight_hh is
   first. */
typedef struct ft__recurrent_room { size_t add, state, bias, inputs, packed, product; }
    ft__recurrent_room;

#define FT__RECURRENT_ROWS ((size_t)128)    /* of a product that one thread computes at once */

static size_t ft__recurrent_packed_ih(const ft__recurrent *r)
{
    return ft__packed_right(r->call->context, r->width, r->in);
}

static size_t ft__recurrent_packed(const ft__recurrent *r)
{
    const ft__context *c = r->call->context;
    return ft__recurrent_packed_ih(r) + ft__packed_right(c, r->of_state, r->h)
        + ft__packed_right(c, r->width - r->of_state, r->h);
}

/* Numbers of ft__cell.add. */
static size_t ft__recurrent_add_width(const ft__recurrent *r)
{
    return r->o->reset_before ? r->h : r->width;
}

/* Of one direction, for backward. */
static size_t ft__recurrent_packed_back(const ft__recurrent *r)
{
    return ft__packed_right(r->call->context, r->h, r->width)
        + ft__packed_right(r->call->context, r->in, r->width);
}

static ft__recurrent_room ft__recurrent_room_of(const ft__recurrent *r)
{
    const ft__context *c = r->call->context;
    ft__recurrent_room room;
    memset(&room, 0, sizeof room);
    room.add = r->gates == 3 ? r->directions * r->n * ft__recurrent_add_width(r) : 0;
    room.state = r->directions * r->n * r->h;
    room.bias = r->directions * r->width;
    room.packed = r->directions * ft__recurrent_packed(r);
    if (!r->call->training) return room;
    room.inputs = r->block * r->n * r->in;
    room.packed = ft__max_size(room.packed, r->directions * ft__recurrent_packed_back(r));
    room.product = ft__gemm_workspace(c, r->block * r->n);
    return room;
}

static void ft__recurrent_costs(const ft__call *call, ft__costs *costs)
{
    ft__recurrent r = ft__recurrent_of(call);
    ft__recurrent_room room = ft__recurrent_room_of(&r);
    size_t each = r.rows * r.stride + (r.rows + r.n) * r.h;
    if (r.gates == 4) each += (r.rows + r.n) * r.h;
    if (r.gates == 3) each += r.rows * r.h;
    costs->saved = r.directions * each * sizeof(float);
    costs->workspace = (room.add + 2 * room.state + room.bias + room.inputs + room.packed
                        + room.product) * sizeof(float);
    costs->prepared = r.directions * ft__recurrent_packed(&r) * sizeof(float);
    costs->multiply_adds = (uint64_t)r.directions * r.rows * r.width * (r.in + r.h);
}

/* Where the parts of the scratch begin. */
typedef struct ft__recurrent_run {
    ft__recurrent r;
    ft__recurrent_room room;
    float *add, *dh, *dc, *bias, *inputs, *packed, *product;
    const float *ih, *hh;   /* packed weights of direction 0 */
    const float *new_hh;    /* the part of weight_hh after `of_state` */
    size_t next;            /* distance between two directions of these */
    size_t from, to;        /* steps of the current block */
    size_t chunk, chunks;   /* rows of samples per thread; number of such chunks */
    size_t direction;       /* of the products over a block's steps */
} ft__recurrent_run;

static ft__recurrent_run ft__recurrent_start(const ft__call *call)
{
    ft__recurrent_run run;
    size_t threads = (size_t)call->context->threads, rows = ft__tiles[call->context->simd].rows;
    memset(&run, 0, sizeof run);
    run.r = ft__recurrent_of(call);
    run.room = ft__recurrent_room_of(&run.r);
    run.add = call->workspace;
    run.dh = run.add + run.room.add;
    run.dc = run.dh + run.room.state;
    run.bias = run.dc + run.room.state;
    run.inputs = run.bias + run.room.bias;
    run.packed = run.inputs + run.room.inputs;
    run.product = run.packed + run.room.packed;
    threads = (threads + run.r.directions - 1) / run.r.directions;
    run.chunk = ft__pad_to((run.r.n + threads - 1) / threads, rows);
    run.chunks = (run.r.n + run.chunk - 1) / run.chunk;
    return run;
}

/* Packs rows of a weight [.., columns] as the right matrix of a product with their transpose, or
   with themselves. */
static void ft__recurrent_pack(ft__context *c, const ft__tensor *weight, size_t first, size_t rows,
                               bool transposed, float *to)
{
    size_t columns = (size_t)weight->shape.size[1];
    ft__weight_pack pack;
    memset(&pack, 0, sizeof pack);
    pack.stored = ft__stored_weight(weight);
    pack.first_row = first;
    if (!pack.stored) pack.weight = weight->value + first * columns;
    pack.n = transposed ? rows : columns;
    pack.k = transposed ? columns : rows;
    pack.n_step = transposed ? columns : 1;
    pack.k_step = transposed ? 1 : columns;
    pack.taps = 1;
    pack.to = to;
    ft__pack_weights(c, &pack);
}

/* Packs weight_hh of a direction, those rows after `of_state` behind the others. */
static void ft__recurrent_pack_hh(const ft__recurrent *r, size_t d, bool transposed, float *to)
{
    ft__context *c = r->call->context;
    const ft__tensor *weight = ft__recurrent_weight(r, d, FT__WEIGHT_HH);
    float *rest = to + (transposed ? ft__packed_right(c, r->of_state, r->h)
                                   : ft__packed_right(c, r->h, r->of_state));
    ft__recurrent_pack(c, weight, 0, r->of_state, transposed, to);
    if (r->o->reset_before)
        ft__recurrent_pack(c, weight, r->of_state, r->width - r->of_state, transposed, rest);
}

/* The time of the `s`-th step that this direction processes. */
static size_t ft__recurrent_time(const ft__recurrent *r, size_t direction, size_t s)
{
    return direction ? r->steps - 1 - s : s;
}

/* out [count, n], with rows `apart` apart, = or += rows `from` of k numbers, `stride` apart, times
   a packed right matrix. */
static void ft__recurrent_multiply(const ft__context *c, const float *from, size_t stride,
                                   size_t count, size_t k, const float *packed, size_t n,
                                   float *out, size_t apart, bool accumulate)
{
    const ft__tile_row *tile = &ft__tiles[c->simd];
    const float *table[FT__RECURRENT_ROWS + FT__TILE_ROWS];
    size_t first, part, i;
    for (first = 0; first < count; first += part) {
        part = count - first;
        if (part > FT__RECURRENT_ROWS / tile->rows * tile->rows)
            part = FT__RECURRENT_ROWS / tile->rows * tile->rows;
        for (i = 0; i < ft__pad_to(part, tile->rows); ++i)
            table[i] = from + (first + (i < part ? i : part - 1)) * stride;
        ft__multiply_rows(tile, table, part, 1, k, packed, n, out + first * apart, apart,
                          accumulate);
    }
}

/* ---- Forward ---- */

/* Rows of a block of steps that a thread processes at once, and the number of such parts. */
static size_t ft__recurrent_part(const ft__recurrent *r)
{
    size_t rows = ft__tiles[r->call->context->simd].rows;
    return FT__RECURRENT_ROWS / rows * rows;
}

static size_t ft__recurrent_parts(const ft__recurrent_run *run)
{
    size_t part = ft__recurrent_part(&run->r);
    return ((run->to - run->from) * run->r.n + part - 1) / part;
}

/* The input's contribution to the gates, for some rows of a block of steps. */
static void ft__recurrent_project(void *context, int index)
{
    const ft__recurrent_run *run = (const ft__recurrent_run *)context;
    const ft__recurrent *r = &run->r;
    const ft__tile_row *tile = &ft__tiles[r->call->context->simd];
    const float *table[FT__RECURRENT_ROWS + FT__TILE_ROWS];
    size_t part = ft__recurrent_part(r), parts = ft__recurrent_parts(run), i, row;
    size_t direction = (size_t)index / parts;
    size_t first = run->from * r->n + (size_t)index % parts * part;
    if (run->to * r->n - first < part) part = run->to * r->n - first;
    for (i = 0; i < ft__pad_to(part, tile->rows); ++i) {
        row = first + (i < part ? i : part - 1);
        table[i] = r->call->input[0].value + (row % r->n * r->steps
            + ft__recurrent_time(r, direction, row / r->n)) * r->in;
    }
    ft__multiply_rows(tile, table, part, 1, r->in, run->ih + direction * run->next, r->width,
                      ft__recurrent_gates(r, direction) + first * r->stride, r->stride, false);
}

/* The position in the output of a sample's `s`-th step in the order of this direction. */
static size_t ft__recurrent_place(const ft__recurrent *r, size_t direction, size_t s,
                                  size_t sample)
{
    return (sample * r->steps + ft__recurrent_time(r, direction, s))
        * (r->directions * r->h + r->cells_at) + direction * r->h;
}

static ft__cell ft__recurrent_cell(const ft__recurrent_run *run, size_t direction, size_t s,
                                   size_t sample)
{
    const ft__recurrent *r = &run->r;
    size_t row = s * r->n + sample;
    float *states = ft__recurrent_states(r, direction), *extra = ft__recurrent_extra(r, direction);
    ft__cell cell;
    memset(&cell, 0, sizeof cell);
    cell.h = r->h;
    cell.x = ft__recurrent_gates(r, direction) + row * r->stride;
    cell.bias = run->bias + direction * r->width;
    if (r->gates == 3)
        cell.add = run->add + (direction * r->n + sample) * ft__recurrent_add_width(r);
    cell.before = states + row * r->h;
    cell.state = states + (row + r->n) * r->h;
    if (r->gates == 3) cell.extra = extra + row * r->h;
    if (r->gates == 4) {
        cell.before = extra + row * r->h;
        cell.extra = extra + (row + r->n) * r->h;
    }
    cell.y = r->call->output.value + ft__recurrent_place(r, direction, s, sample);
    cell.dh = run->dh + (direction * r->n + sample) * r->h;
    cell.dc = run->dc + (direction * r->n + sample) * r->h;
    return cell;
}

/* Whether the `s`-th step that this direction processes is a real one of the sample. */
static bool ft__recurrent_real(const ft__recurrent *r, size_t direction, size_t s, size_t sample)
{
    const ft__tensor *lengths = r->lengths ? &r->call->input[r->lengths] : NULL;
    return ft__recurrent_time(r, direction, s) < ft__steps_of(lengths, sample, r->steps);
}

static void ft__recurrent_step(const ft__recurrent *r, const ft__cell *cell)
{
    int simd = r->call->context->simd;
    if (r->gates == 4) ft__lstm_step[simd](cell);
    else if (r->gates == 3) ft__gru_step[simd](cell);
    else if (r->o->relu) ft__rnn_relu_step[simd](cell);
    else ft__rnn_step[simd](cell);
    if (r->cells_at) memcpy(cell->y + r->cells_at, cell->extra, r->h * sizeof(float));
}

/* A padded step: the state stays, the output is zero. */
static void ft__recurrent_skip(const ft__recurrent *r, const ft__cell *cell)
{
    size_t bytes = r->h * sizeof(float);
    memset(cell->y, 0, bytes);
    if (r->cells_at) memset(cell->y + r->cells_at, 0, bytes);
    memcpy(cell->state, cell->state - r->n * r->h, bytes);
    if (r->gates == 4) memcpy(cell->extra, cell->before, bytes);
}

/* The state's contribution to the gates of some samples. It is added to the input's; the GRU's is
   kept apart, with bias_hh of the new gate. */
static void ft__recurrent_state_product(const ft__recurrent_run *run, size_t direction, size_t s,
                                        size_t first, size_t count)
{
    const ft__recurrent *r = &run->r;
    const float *states = ft__recurrent_states(r, direction) + (s * r->n + first) * r->h;
    float *to = ft__recurrent_gates(r, direction) + (s * r->n + first) * r->stride;
    size_t apart = r->stride, i;
    if (r->gates == 3) {
        to = run->add + (direction * r->n + first) * r->width;
        apart = r->width;
        for (i = 0; i < count; ++i) {
            memset(to + i * apart, 0, r->width * sizeof *to);
            if (!r->o->no_bias)
                memcpy(to + i * apart + 2 * r->h,
                       ft__recurrent_weight(r, direction, FT__BIAS_HH)->value + 2 * r->h,
                       r->h * sizeof *to);
        }
    }
    ft__recurrent_multiply(r->call->context, states, r->h, count, r->h,
                           run->hh + direction * run->next, r->width, to, apart, true);
}

/* A step of some samples of a GRU with `reset_before`. */
static void ft__recurrent_reset_step(const ft__recurrent_run *run, size_t direction, size_t s,
                                     size_t first, size_t count)
{
    const ft__recurrent *r = &run->r;
    const ft__context *c = r->call->context;
    size_t row = s * r->n + first, next = direction * run->next, i;
    float *gates = ft__recurrent_gates(r, direction) + row * r->stride;
    float *extra = ft__recurrent_extra(r, direction) + row * r->h;
    ft__cell cell;
    ft__recurrent_multiply(c, ft__recurrent_states(r, direction) + row * r->h, r->h, count, r->h,
                           run->hh + next, r->of_state, gates, r->stride, true);
    for (i = 0; i < count; ++i) {
        cell = ft__recurrent_cell(run, direction, s, first + i);
        if (ft__recurrent_real(r, direction, s, first + i)) ft__gru_reset[c->simd](&cell);
        else memset(cell.extra, 0, r->h * sizeof(float));
    }
    ft__recurrent_multiply(c, extra, r->h, count, r->h, run->new_hh + next, r->h,
                           gates + r->of_state, r->stride, true);
    for (i = 0; i < count; ++i) {
        cell = ft__recurrent_cell(run, direction, s, first + i);
        if (ft__recurrent_real(r, direction, s, first + i)) ft__gru_mix[c->simd](&cell);
        else ft__recurrent_skip(r, &cell);
    }
}

/* Some samples of one direction, through a block of steps. */
static void ft__recurrent_forward_unit(void *context, int index)
{
    const ft__recurrent_run *run = (const ft__recurrent_run *)context;
    const ft__recurrent *r = &run->r;
    size_t direction = (size_t)index / run->chunks;
    size_t first = (size_t)index % run->chunks * run->chunk;
    size_t count = r->n - first < run->chunk ? r->n - first : run->chunk, s, i;
    for (s = run->from; s < run->to; ++s) {
        if (r->o->reset_before) {
            ft__recurrent_reset_step(run, direction, s, first, count);
            continue;
        }
        ft__recurrent_state_product(run, direction, s, first, count);
        for (i = 0; i < count; ++i) {
            ft__cell cell = ft__recurrent_cell(run, direction, s, first + i);
            if (ft__recurrent_real(r, direction, s, first + i)) ft__recurrent_step(r, &cell);
            else ft__recurrent_skip(r, &cell);
        }
    }
}

/* Copies the initial states from inputs [n, D H], or zeroes them; `back`: copies the last states to
   the inputs. */
static void ft__recurrent_ends(const ft__recurrent_run *run, bool back)
{
    const ft__recurrent *r = &run->r;
    size_t d, i, which, features = r->directions * r->h, bytes = r->h * sizeof(float);
    for (d = 0; d < r->directions; ++d)
        for (which = 0; which < (r->gates == 4 ? 2u : 1u); ++which) {
            int input = which ? r->cell : r->hidden;
            float *inside = which ? ft__recurrent_extra(r, d) : ft__recurrent_states(r, d);
            if (back) inside += r->rows * r->h;
            for (i = 0; i < r->n; ++i, inside += r->h) {
                float *outside = input ? r->call->input[input].value + i * features + d * r->h
                                       : NULL;
                if (back) memcpy(outside, inside, bytes);
                else if (outside) memcpy(inside, outside, bytes);
                else memset(inside, 0, bytes);
            }
        }
}

/* Numbers of bias_hh that are added to those of bias_ih: all but the part that the GRU's reset gate
   multiplies after the product. */
static size_t ft__recurrent_added_bias(const ft__recurrent *r)
{
    return r->gates == 3 && !r->o->reset_before ? 2 * r->h : r->width;
}

/* bias_ih + bias_hh, without the part that is not added. */
static void ft__recurrent_bias(const ft__recurrent_run *run)
{
    const ft__recurrent *r = &run->r;
    size_t d, i, both = ft__recurrent_added_bias(r);
    for (d = 0; d < r->directions; ++d)
        for (i = 0; i < r->width; ++i) {
            float *to = &run->bias[d * r->width + i];
            *to = 0;
            if (r->o->no_bias) continue;
            *to = ft__recurrent_weight(r, d, FT__BIAS_IH)->value[i];
            if (i < both) *to += ft__recurrent_weight(r, d, FT__BIAS_HH)->value[i];
        }
}

static void ft__recurrent_forward(const ft__call *call)
{
    ft__recurrent_run run = ft__recurrent_start(call);
    ft__recurrent *r = &run.r;
    size_t d;
    float *packed = call->prepared ? call->prepared : run.packed;
    for (d = 0; d < r->directions && (call->prepare || !call->prepared); ++d) {
        float *to = packed + d * ft__recurrent_packed(r);
        ft__recurrent_pack(call->context, ft__recurrent_weight(r, d, FT__WEIGHT_IH), 0, r->width,
                           true, to);
        ft__recurrent_pack_hh(r, d, true, to + ft__recurrent_packed_ih(r));
    }
    run.ih = packed;
    run.hh = packed + ft__recurrent_packed_ih(r);
    run.new_hh = run.hh + ft__packed_right(call->context, r->of_state, r->h);
    run.next = ft__recurrent_packed(r);
    ft__recurrent_bias(&run);
    ft__recurrent_ends(&run, false);
    for (run.from = 0; run.from < r->steps; run.from = run.to) {
        run.to = r->steps - run.from < r->block ? r->steps : run.from + r->block;
        ft__parallel(call->context, (int)(r->directions * ft__recurrent_parts(&run)),
                     ft__recurrent_project, &run);
        ft__parallel(call->context, (int)(r->directions * run.chunks),
                     ft__recurrent_forward_unit, &run);
    }
    if (r->o->carry) ft__recurrent_ends(&run, true);
}

/* ---- Backward ---- */

static void ft__recurrent_back(const ft__recurrent *r, ft__cell *cell)
{
    int simd = r->call->context->simd;
    if (r->gates == 4) ft__lstm_back[simd](cell);
    else if (r->gates == 3) ft__gru_back[simd](cell);
    else if (r->o->relu) ft__rnn_relu_back[simd](cell);
    else ft__rnn_back[simd](cell);
}

/* A step of some samples of a GRU with `reset_before`. */
static void ft__recurrent_reset_back(const ft__recurrent_run *run, size_t direction, size_t s,
                                     size_t first, size_t count)
{
    const ft__recurrent *r = &run->r;
    const ft__context *c = r->call->context;
    size_t next = direction * run->next, i;
    const float *gates = ft__recurrent_gates(r, direction) + (s * r->n + first) * r->stride;
    ft__cell cell;
    for (i = 0; i < count; ++i) {
        cell = ft__recurrent_cell(run, direction, s, first + i);
        cell.dy = r->call->output.gradient + ft__recurrent_place(r, direction, s, first + i);
        if (ft__recurrent_real(r, direction, s, first + i)) ft__gru_mix_back[c->simd](&cell);
        else memset(cell.x, 0, r->width * sizeof(float));
    }
    ft__recurrent_multiply(c, gates + r->of_state, r->stride, count, r->h, run->new_hh + next,
                           r->h, run->add + (direction * r->n + first) * r->h, r->h, false);
    for (i = 0; i < count; ++i) {
        cell = ft__recurrent_cell(run, direction, s, first + i);
        if (ft__recurrent_real(r, direction, s, first + i)) ft__gru_reset_back[c->simd](&cell);
    }
    ft__recurrent_multiply(c, gates, r->stride, count, r->of_state, run->hh + next, r->h,
                           run->dh + (direction * r->n + first) * r->h, r->h, true);
}

/* From a block's last step to its first: replaces the gates by the gradients of their sums. */
static void ft__recurrent_backward_unit(void *context, int index)
{
    const ft__recurrent_run *run = (const ft__recurrent_run *)context;
    const ft__recurrent *r = &run->r;
    size_t direction = (size_t)index / run->chunks;
    size_t first = (size_t)index % run->chunks * run->chunk;
    size_t count = r->n - first < run->chunk ? r->n - first : run->chunk, s, i, j;
    float *dh = run->dh + (direction * r->n + first) * r->h;
    for (s = run->to; s-- > run->from;) {
        const float *side;
        if (r->o->reset_before) {
            ft__recurrent_reset_back(run, direction, s, first, count);
            continue;
        }
        side = r->gates == 3 ? run->add + (direction * r->n + first) * r->width
            : ft__recurrent_gates(r, direction) + (s * r->n + first) * r->stride;
        for (i = 0; i < count; ++i) {
            ft__cell cell = ft__recurrent_cell(run, direction, s, first + i);
            cell.dy = r->call->output.gradient + ft__recurrent_place(r, direction, s, first + i);
            if (ft__recurrent_real(r, direction, s, first + i)) {
                for (j = 0; r->cells_at && j < r->h; ++j) cell.dc[j] += cell.dy[r->cells_at + j];
                ft__recurrent_back(r, &cell);
                continue;
            }
            memset(cell.x, 0, r->width * sizeof(float));
            if (r->gates != 3) continue;
            memset(cell.add, 0, r->width * sizeof(float));
            memset(cell.extra, 0, r->h * sizeof(float));
        }
        ft__recurrent_multiply(r->call->context, side, r->gates == 3 ? r->width : r->stride, count,
                               r->width, run->hh + direction * run->next, r->h, dh, r->h, true);
    }
}

typedef struct ft__recurrent_sum {
    const ft__context *context;
    const float *from;
    size_t rows, stride, columns;
    float *to[2];           /* either may be NULL */
} ft__recurrent_sum;

static void ft__recurrent_sum_columns(void *context, int index)
{
    const ft__recurrent_sum *job = (const ft__recurrent_sum *)context;
    size_t begin = (size_t)index * FT__COLUMNS, j;
    size_t count = ft__min_size(FT__COLUMNS, job->columns - begin);
    float sum[FT__COLUMNS];
    int which;
    ft__sum_rows[job->context->simd](job->from + begin, job->rows, job->stride, count, sum);
    for (which = 0; which < 2; ++which)
        for (j = 0; job->to[which] && j < count; ++j) job->to[which][begin + j] += sum[j];
}

/* to[j] += sum over rows of from[row * stride + j]; the same for `other`. Either may be NULL. */
static void ft__recurrent_add_sums(ft__context *c, const float *from, size_t rows, size_t stride,
                                   size_t columns, float *to, float *other)
{
    ft__recurrent_sum job;
    job.context = c;
    job.from = from;
    job.rows = rows;
    job.stride = stride;
    job.columns = columns;
    job.to[0] = to;
    job.to[1] = other;
    if (to || other)
        ft__parallel(c, (int)((columns + FT__COLUMNS - 1) / FT__COLUMNS),
                     ft__recurrent_sum_columns, &job);
}

/* to [out, in] += d^T x, with d [rows, out] and x [rows, in], over a block's rows */
static void ft__recurrent_weight_sum(const ft__recurrent_run *run, const float *d, size_t stride,
                                     size_t out, const float *x, size_t in, float *to)
{
    ft__gemm_parallel(run->r.call->context, out, in, (run->to - run->from) * run->r.n,
                      ft__transposed(ft__rows_of(d, stride)), ft__rows_of(x, in), to, in, true,
                      run->product);
}

/* Adds a block's part to the gradients of weight_hh and of the biases. Both biases have the same
   gradient, except in the GRU's new gate, where the reset gate multiplies bias_hh; there weight_hh
   multiplies what is in `extra` if `reset_before`. */
static void ft__recurrent_state_weights(const ft__recurrent_run *run, size_t d)
{
    const ft__recurrent *r = &run->r;
    ft__context *c = r->call->context;
    size_t first = run->from * r->n, rows = run->to * r->n - first;
    size_t shared = ft__recurrent_added_bias(r);
    const float *gates = ft__recurrent_gates(r, d) + first * r->stride;
    const float *states = ft__recurrent_states(r, d) + first * r->h;
    const float *extra = r->gates == 3 ? ft__recurrent_extra(r, d) + first * r->h : NULL;
    float *to = ft__recurrent_weight(r, d, FT__WEIGHT_HH)->gradient, *bias_ih, *bias_hh;
    if (to)
        ft__recurrent_weight_sum(run, gates, r->stride, r->gates == 3 ? 2 * r->h : r->width,
                                 states, r->h, to);
    if (to && r->o->reset_before)
        ft__recurrent_weight_sum(run, gates + r->of_state, r->stride, r->h, extra, r->h,
                                 to + r->of_state * r->h);
    else if (to && r->gates == 3)
        ft__recurrent_weight_sum(run, extra, r->h, r->h, states, r->h, to + shared * r->h);
    if (r->o->no_bias) return;
    bias_ih = ft__recurrent_weight(r, d, FT__BIAS_IH)->gradient;
    bias_hh = ft__recurrent_weight(r, d, FT__BIAS_HH)->gradient;
    ft__recurrent_add_sums(c, gates, rows, r->stride, shared, bias_ih, bias_hh);
    if (bias_ih && shared < r->width)
        ft__recurrent_add_sums(c, gates + shared, rows, r->stride, r->h, bias_ih + shared, NULL);
    if (bias_hh && shared < r->width)
        ft__recurrent_add_sums(c, extra, rows, r->h, r->h, bias_hh + shared, NULL);
}

/* A block's inputs in the order in which this direction processes the steps. */
static void ft__recurrent_gather(void *context, int step)
{
    const ft__recurrent_run *run = (const ft__recurrent_run *)context;
    const ft__recurrent *r = &run->r;
    size_t t = ft__recurrent_time(r, run->direction, run->from + (size_t)step), i;
    for (i = 0; i < r->n; ++i)
        memcpy(run->inputs + ((size_t)step * r->n + i) * r->in,
               r->call->input[0].value + (i * r->steps + t) * r->in, r->in * sizeof(float));
}

/* The gradient of the input, for some of a block's rows, computed in that order and added at their
   positions. */
static void ft__recurrent_input_rows(void *context, int index)
{
    const ft__recurrent_run *run = (const ft__recurrent_run *)context;
    const ft__recurrent *r = &run->r;
    const ft__context *c = r->call->context;
    size_t part = ft__recurrent_part(r), first = (size_t)index * part, row;
    size_t begin = run->from * r->n + first, count = run->to * r->n - begin;
    float *rows = run->inputs + first * r->in;
    if (count > part) count = part;
    ft__recurrent_multiply(c, ft__recurrent_gates(r, run->direction) + begin * r->stride,
                           r->stride, count, r->width, run->ih + run->direction * run->next, r->in,
                           rows, r->in, false);
    for (row = begin; row < begin + count; ++row, rows += r->in)
        ft__add_row[c->simd](rows, r->in, r->call->input[0].gradient + (row % r->n * r->steps
            + ft__recurrent_time(r, run->direction, row / r->n)) * r->in);
}

static void ft__recurrent_input_side(ft__recurrent_run *run, size_t d)
{
    const ft__recurrent *r = &run->r;
    ft__context *c = r->call->context;
    float *to = ft__recurrent_weight(r, d, FT__WEIGHT_IH)->gradient;
    run->direction = d;
    if (to) {
        ft__parallel(c, (int)(run->to - run->from), ft__recurrent_gather, run);
        ft__recurrent_weight_sum(run, ft__recurrent_gates(r, d) + run->from * r->n * r->stride,
                                 r->stride, r->width, run->inputs, r->in, to);
    }
    if (r->call->input[0].gradient)
        ft__parallel(c, (int)ft__recurrent_parts(run), ft__recurrent_input_rows, run);
}

/* Adds the gradients of the initial states. */
static void ft__recurrent_first_states(const ft__recurrent_run *run)
{
    const ft__recurrent *r = &run->r;
    size_t d, i, j, features = r->directions * r->h;
    float *hidden = r->hidden ? r->call->input[r->hidden].gradient : NULL;
    float *cell = r->cell ? r->call->input[r->cell].gradient : NULL;
    for (d = 0; d < r->directions; ++d)
        for (i = 0; i < r->n; ++i)
            for (j = 0; j < r->h; ++j) {
                size_t from = (d * r->n + i) * r->h + j, to = i * features + d * r->h + j;
                if (hidden) hidden[to] += run->dh[from];
                if (cell) cell[to] += run->dc[from];
            }
}

static void ft__recurrent_backward(const ft__call *call)
{
    ft__recurrent_run run = ft__recurrent_start(call);
    ft__recurrent *r = &run.r;
    ft__context *c = call->context;
    size_t d;
    run.hh = run.packed;
    run.new_hh = run.hh + ft__packed_right(c, r->h, r->of_state);
    run.ih = run.packed + ft__packed_right(c, r->h, r->width);
    run.next = ft__recurrent_packed_back(r);
    for (d = 0; d < r->directions; ++d) {
        float *to = run.packed + d * run.next;
        ft__recurrent_pack_hh(r, d, false, to);
        if (call->input[0].gradient)
            ft__recurrent_pack(c, ft__recurrent_weight(r, d, FT__WEIGHT_IH), 0, r->width, false,
                               to + ft__packed_right(c, r->h, r->width));
    }
    memset(run.dh, 0, run.room.state * sizeof *run.dh);
    memset(run.dc, 0, run.room.state * sizeof *run.dc);
    for (run.to = r->steps; run.to > 0; run.to = run.from) {
        run.from = run.to > r->block ? run.to - r->block : 0;
        ft__parallel(c, (int)(r->directions * run.chunks), ft__recurrent_backward_unit, &run);
        for (d = 0; d < r->directions; ++d) {
            ft__recurrent_state_weights(&run, d);
            ft__recurrent_input_side(&run, d);
        }
    }
    if (!r->o->carry) ft__recurrent_first_states(&run);
}

/* In files: `lstm`, `gru`, `rnn` | x [N, L, in]; for each direction weight_ih [G hidden, in],
   weight_hh [G hidden, hidden], and bias_ih and bias_hh [G hidden], with G 4, 3 and 1; then
   lengths; then the first hidden state and, of an lstm, cell | `hidden` required, `bidirectional`
   false, `no_bias` false: no biases among the inputs, `lengths` false and `initial` false: whether
   lengths and first states are, `relu` false (rnn only), `carry` false: the first states are kept
   from run to run, `cells` false: the output has the cells beside the hidden states (lstm only),
   `reset_before` false: n = tanh(W x + U (r * h) + b), Cho et al.'s (gru only) */
static const ft__row ft__row_lstm = {
    FT__NAMED(lstm), 3, 12, FT__READS_X | FT__RECURRENT | FT__READS_TYPES,
    ft__recurrent_shape, ft__recurrent_forward, FT__BACKWARD(ft__recurrent_backward),
    ft__recurrent_costs, ft__recurrent_fields, NULL};

static const ft__row ft__row_gru = {
    FT__NAMED(gru), 3, 11, FT__READS_X | FT__RECURRENT | FT__READS_TYPES,
    ft__recurrent_shape, ft__recurrent_forward, FT__BACKWARD(ft__recurrent_backward),
    ft__recurrent_costs, ft__recurrent_fields, NULL};

static const ft__row ft__row_rnn = {
    FT__NAMED(rnn), 3, 11, FT__READS_X | FT__RECURRENT | FT__READS_TYPES,
    ft__recurrent_shape, ft__recurrent_forward, FT__BACKWARD(ft__recurrent_backward),
    ft__recurrent_costs, ft__recurrent_fields, NULL};
