#pragma once
#include "platform/context.h"
#include "basics/numbers.h"
#include "kernels/convolution.h"
#include "nodes/nodes.h"
#include "operators/table.h"
#include "operators/linear.h"
#include "operators/recurrent.h"
#include "devices/opencl_memory.h"
#include "devices/opencl_kernels.h"
#include "devices/opencl_operators.h"

/* =============================================================================================
   [SECTION] devices/opencl_recurrent: OpenCL: recurrent layers
   As on the processor (operators/recurrent), what the input adds to the gates is one product for
   all steps, and so are the gradients of the weights and of the input; a step is a product with
   the state and a kernel for the cells. Here a sample's steps are contiguous, as in x and y: so
   none of the large products has to reorder its rows, and CLBlast can compute them.
   ============================================================================================= */
#ifdef FINETUNE_OPENCL

typedef struct ft__kernel_recurrent { /* kernels.cl's struct recurrent, field by field */
    cl_int n, steps, h, gates, relu, has_lengths, has_bias, has_first;
    cl_int gates_at, states_at, last_at, extra_at, last_extra_at, outputs, output_at;
    cl_int cells_at, features, t, next;
} ft__kernel_recurrent;

static ft__kernel_recurrent ft__kernel_recurrent_of(const ft__recurrent *r, size_t direction)
{
    const float *saved = (const float *)r->call->saved;
    ft__kernel_recurrent k;
    memset(&k, 0, sizeof k);
    k.n = (cl_int)r->n;
    k.steps = (cl_int)r->steps;
    k.h = (cl_int)r->h;
    k.gates = (cl_int)r->gates;
    k.relu = r->o->relu;
    k.has_lengths = r->lengths > 0;
    k.has_bias = !r->o->no_bias;
    k.has_first = r->hidden > 0;
    k.gates_at = (cl_int)(ft__recurrent_gates(r, direction) - saved);
    k.states_at = (cl_int)(ft__recurrent_states(r, direction) - saved);
    k.last_at = k.states_at + (cl_int)(r->rows * r->h);
    k.extra_at = (cl_int)(ft__recurrent_extra(r, direction) - saved);
    k.last_extra_at = k.extra_at + (cl_int)(r->rows * r->h);
    k.features = (cl_int)(r->directions * r->h);
    k.cells_at = (cl_int)r->cells_at;
    k.outputs = k.features + k.cells_at;
    k.output_at = (cl_int)(direction * r->h);
    return k;
}

/* Numbers that are kept for backward. */
static size_t ft__recurrent_kept(const ft__call *call)
{
    ft__costs costs = {0, 0, 0, 0, 0};
    ft__recurrent_costs(call, &costs);
    return costs.saved / sizeof(float);
}

/* A pass over a call, one direction at a time. */
typedef struct ft__cl_recurrent {
    ft__recurrent r;
    ft__context *context;
    ft__kernel_recurrent k; /* of this direction */
    size_t direction;
    cl_mem kept, step, side;/* `step`: what the state adds, or gradients of state and cell */
    ft__gather product;     /* of a step, from any sample's row 0 */
    int form;
} ft__cl_recurrent;

/* On a GPU the plain kernel computes a step's product: with few rows the tiles would be few and
   half empty, and a step takes as long as one of them. */
static ft__cl_recurrent ft__cl_recurrent_start(const ft__call *call, int access)
{
    ft__context *c = call->context;
    ft__cl_recurrent run;
    memset(&run, 0, sizeof run);
    run.r = ft__recurrent_of(call);
    run.context = c;
    run.kept = ft__cl_numbers(c, (const float *)call->saved, ft__recurrent_kept(call), access);
    run.step = ft__device_scratch(c, FT__SCRATCH_STEP, run.r.n * ft__max_size(run.r.width,
                                  2 * run.r.h) * sizeof(float));
    run.side = run.kept;
    run.form = ft__own_form(c->device, &run.product, 0) == FT__FORM_WIDE ? FT__FORM_WIDE
                                                                         : FT__FORM_PLAIN;
    return run;
}

/* Moves to the `s`-th step of this direction. */
static void ft__cl_recurrent_take(ft__cl_recurrent *run, size_t s)
{
    const ft__recurrent *r = &run->r;
    run->k.t = (cl_int)ft__recurrent_time(r, run->direction, s);
    run->k.next = s + 1 < r->steps ? (cl_int)ft__recurrent_time(r, run->direction, s + 1) : -1;
    run->product.off_x = run->k.t;
}

/* Selects the rows of one step of all samples: the buffer has, from `at` on, all steps of each. */
static void ft__cl_recurrent_product(ft__cl_recurrent *run, ft__gather g, cl_int at)
{
    run->product = g;
    run->product.in_x = (cl_int)run->r.steps;
    run->product.in_at = at;
}

static ft__cl_matrix ft__cl_kept(const ft__cl_recurrent *run, cl_int at)
{
    return ft__cl_matrix_of(run->kept, (size_t)at, false);
}

/* ---- Forward ---- */

static void ft__cl_recurrent_begin(ft__cl_recurrent *run)
{
    const ft__recurrent *r = &run->r;
    size_t count = r->n * r->directions * r->h;
    ft__run_kernel(run->context, "recurrent_begin", r->n * r->h, "bRRs", run->kept,
                   r->hidden ? r->call->input[r->hidden].value : NULL, count,
                   r->cell ? r->call->input[r->cell].value : NULL, count, &run->k, sizeof run->k);
}

static void ft__cl_recurrent_step(ft__cl_recurrent *run, cl_mem packed)
{
    const ft__recurrent *r = &run->r;
    int which;
    ft__launch l;
    ft__cl_gather(run->context, &run->product, run->form, run->kept, packed, NULL, run->step);
    l = ft__start(run->context, "recurrent_step");
    ft__args(&l, "bb", run->kept, run->step);
    for (which = FT__BIAS_IH; which <= FT__BIAS_HH; ++which)
        ft__args(&l, "R",
                 r->o->no_bias ? NULL : ft__recurrent_weight(r, run->direction, which)->value,
                 r->width);
    ft__args(&l, "Rys", r->lengths ? r->call->input[r->lengths].value : NULL, r->n,
             &r->call->output, &run->k, sizeof run->k);
    ft__launch_kernel(&l, r->n * r->h);
}

/* to [n, D h], this direction's part, = or += from [n, h] at `at`: final states, or gradients of
   the initial ones. */
static void ft__cl_recurrent_end(const ft__cl_recurrent *run, cl_mem from, cl_int at, float *to,
                                 bool add)
{
    const ft__recurrent *r = &run->r;
    size_t whole = r->directions * r->h, part = run->direction * r->h;
    bool partly = add || r->directions > 1;
    if (!to) return;
    ft__run_kernel(run->context, "copy_blocks", r->n * r->h, "bmnnnnnni", from, to, r->n * whole,
                   partly ? FT__READ | FT__WRITE : FT__WRITE, r->n * r->h, r->h, r->h, (size_t)at,
                   whole, part, add);
}

static void ft__cl_recurrent_forward(const ft__call *call)
{
    ft__cl_recurrent run = ft__cl_recurrent_start(call, FT__WRITE);
    const ft__recurrent *r = &run.r;
    ft__context *c = call->context;
    ft__conv of_x = ft__rows_size(r->rows, r->in, r->width);
    ft__conv of_state = ft__rows_size(r->n, r->h, r->width);
    ft__cl_matrix x = ft__cl_matrix_of(ft__cl_value(c, &call->input[0]), 0, false);
    cl_mem packed;
    size_t s;
    for (run.direction = 0; run.direction < r->directions; ++run.direction) {
        run.k = ft__kernel_recurrent_of(r, run.direction);
        ft__cl_rows_forward(c, &of_x, x, ft__recurrent_weight(r, run.direction, FT__WEIGHT_IH),
                            ft__cl_kept(&run, run.k.gates_at));
        ft__cl_recurrent_product(&run, ft__gather_forward(&of_state), run.k.states_at);
        packed = ft__cl_pack(c, ft__recurrent_weight(r, run.direction, FT__WEIGHT_HH),
                             &run.product, false);
        ft__cl_recurrent_take(&run, 0);
        ft__cl_recurrent_begin(&run);
        for (s = 0; s < r->steps; ++s) {
            ft__cl_recurrent_take(&run, s);
            ft__cl_recurrent_step(&run, packed);
        }
        if (!r->o->carry) continue;
        ft__cl_recurrent_end(&run, run.kept, run.k.last_at, call->input[r->hidden].value, false);
        if (r->cell)
            ft__cl_recurrent_end(&run, run.kept, run.k.last_extra_at, call->input[r->cell].value,
                                 false);
    }
}

/* ---- Backward ---- */

static void ft__cl_recurrent_back(ft__cl_recurrent *run, cl_mem packed, bool end)
{
    const ft__recurrent *r = &run->r;
    ft__run_kernel(run->context, "recurrent_back", r->n * r->h, "bbbbRsi", run->kept, run->side,
                   run->step, ft__cl_output_gradient(r->call),
                   r->lengths ? r->call->input[r->lengths].value : NULL, r->n, &run->k,
                   sizeof run->k, end);
    ft__cl_gather(run->context, &run->product, run->form, run->side, packed, NULL, run->step);
}

/* Computes what needs the gradients of all steps' gates. `side`: those on the state's side. */
static void ft__cl_recurrent_gradients(const ft__cl_recurrent *run, ft__cl_matrix side)
{
    const ft__recurrent *r = &run->r;
    ft__context *c = run->context;
    int first = 1 + (int)run->direction * r->per_direction;
    float *d_ih = ft__started(r->call, first + FT__WEIGHT_IH);
    float *d_hh = ft__started(r->call, first + FT__WEIGHT_HH);
    float *d_bias_ih = r->o->no_bias ? NULL : ft__started(r->call, first + FT__BIAS_IH);
    float *d_bias_hh = r->o->no_bias ? NULL : ft__started(r->call, first + FT__BIAS_HH);
    const ft__tensor *x = &r->call->input[0];
    ft__conv of_x = ft__rows_size(r->rows, r->in, r->width);
    ft__conv of_state = ft__rows_size(r->rows, r->h, r->width);
    ft__cl_matrix gates = ft__cl_kept(run, run->k.gates_at);
    if (d_ih)
        ft__cl_rows_weight(c, &of_x, ft__cl_matrix_of(ft__cl_value(c, x), 0, false), gates, d_ih);
    if (d_hh)
        ft__cl_rows_weight(c, &of_state, ft__cl_kept(run, run->k.states_at), side, d_hh);
    if (d_bias_ih)
        ft__cl_bias_gradient(c, gates.buffer, gates.at, r->rows, r->width, d_bias_ih);
    if (d_bias_hh) ft__cl_bias_gradient(c, side.buffer, side.at, r->rows, r->width, d_bias_hh);
    if (x->gradient)
        ft__cl_rows_input(c, &of_x, gates, ft__recurrent_weight(r, run->direction, FT__WEIGHT_IH),
                          ft__cl_gradient(c, x), !x->fresh || run->direction > 0);
}

static void ft__cl_recurrent_backward(const ft__call *call)
{
    ft__cl_recurrent run = ft__cl_recurrent_start(call, FT__READ | FT__WRITE);
    const ft__recurrent *r = &run.r;
    ft__context *c = call->context;
    ft__conv of_state = ft__rows_size(r->n, r->h, r->width);
    ft__gather back = ft__gather_input(&of_state);
    float *d_hidden = r->hidden && !r->o->carry ? ft__started(call, r->hidden) : NULL;
    float *d_cell = r->cell && !r->o->carry ? ft__started(call, r->cell) : NULL;
    ft__cl_matrix side;
    cl_mem packed;
    size_t s;
    back.add = 1;
    if (r->gates == 3)
        run.side = ft__device_scratch(c, FT__SCRATCH_SIDE, r->rows * r->width * sizeof(float));
    for (run.direction = 0; run.direction < r->directions; ++run.direction) {
        run.k = ft__kernel_recurrent_of(r, run.direction);
        side = ft__cl_matrix_of(run.side, r->gates == 3 ? 0 : (size_t)run.k.gates_at, false);
        ft__cl_recurrent_product(&run, back, (cl_int)side.at);
        packed = ft__cl_pack(c, ft__recurrent_weight(r, run.direction, FT__WEIGHT_HH),
                             &run.product, true);
        for (s = r->steps; s-- > 0;) {
            ft__cl_recurrent_take(&run, s);
            ft__cl_recurrent_back(&run, packed, s + 1 == r->steps);
        }
        ft__cl_recurrent_end(&run, run.step, 0, d_hidden, true);
        ft__cl_recurrent_end(&run, run.step, (cl_int)(r->n * r->h), d_cell, true);
        ft__cl_recurrent_gradients(&run, side);
    }
}

/* A GRU with `reset_before`, whose step has two products, is left to the processor. */
static bool ft__recurrent_fits(const ft__call *call, int form)
{
    const ft__device *d = call->context->device;
    if (call->node->options.recurrent.reset_before) return false;
    if (form == d->usual_form || form == FT__FORM_PLAIN) return true;
    if (form == FT__FORM_BLOCK)
        return !d->place.is_processor && call->node->options.recurrent.hidden % 4 == 0;
    return form == FT__FORM_CLBLAST && d->gemm;
}

FT__DEVICE_ROW_OF(lstm, recurrent, ft__recurrent_fits, NULL, NULL,
                  "8x12x64 256x64 256x64 256 256 hidden=64")
FT__DEVICE_ROW_OF(gru, recurrent, ft__recurrent_fits, NULL, NULL,
                  "8x12x64 192x64 192x64 192 192 hidden=64")
FT__DEVICE_ROW_OF(rnn, recurrent, ft__recurrent_fits, NULL, NULL,
                  "8x12x64 64x64 64x64 64 64 hidden=64")
#endif /* FINETUNE_OPENCL */
