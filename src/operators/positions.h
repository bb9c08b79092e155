#pragma once
#include "interface/types.h"
#include "interface/operators.h"
#include "platform/context.h"
#include "basics/numbers.h"
#include "basics/threads.h"
#include "kernels/elementary.h"
#include "kernels/levels.h"
#include "kernels/rotary.h"
#include "nodes/nodes.h"
#include "operators/table.h"
#include "operators/adding.h"
#include "operators/common.h"

/* =============================================================================================
   [SECTION] operators/positions: Positions of steps
   ============================================================================================= */
static const ft__field ft__rotary_fields[] = {
    FT__INT(ft_rotary_options, heads), FT__INT(ft_rotary_options, dimensions),
    FT__BOOL(ft_rotary_options, interleaved), FT__FLOAT(ft_rotary_options, base),
    FT__INT(ft_rotary_options, scaling), FT__FLOAT(ft_rotary_options, factor),
    FT__FLOAT(ft_rotary_options, low_frequency_factor),
    FT__FLOAT(ft_rotary_options, high_frequency_factor),
    FT__INT(ft_rotary_options, original_length), FT__NOT_KEPT(ft_rotary_options, positions)
    FT__NO_MORE_FIELDS};
static const ft__field ft__add_positions_fields[] = {
    FT__INT(ft_add_positions_options, first), FT__NOT_KEPT(ft_add_positions_options, sinusoidal)
    FT__NOT_KEPT(ft_add_positions_options, weight)
    FT__NOT_KEPT(ft_add_positions_options, positions) FT__NO_MORE_FIELDS};

/* Fails unless x is [N, L, ...] and the positions, input number i if it is there, I32 [N, L]. */
static ft_status ft__positions_fit(ft__context *c, const ft__node *node, const ft__tensor *input,
                                   int input_count, int i)
{
    const ft_shape *x = &input[0].shape, *p = &input[i].shape;
    char text[80];
    if (x->rank != 3 || x->size[2] < 1)
        return ft__fail(c, FT_SHAPE, "%s: expected an input [N, L, D] with a fixed D, not %s",
                        node->name, ft__shape_text(x, text));
    if (input_count > i && (input[i].type != FT_I32 || p->rank != 2 || p->size[0] != x->size[0]
                            || p->size[1] != x->size[1]))
        return ft__fail(c, FT_SHAPE, "%s: positions must be I32 [N, L], not %s", node->name,
                        ft__shape_text(p, text));
    return ft__want_numbers(c, node, input, i);
}

/* ---- rotary: x [N, L, heads D], positions [N, L] (0, 1, 2, ... if absent) -> the same shape: in
   each head pair i of `dimensions` numbers turns by position * base^(-2 i / dimensions) (Su et al.
   2021). A pair is number i of both halves, as in GPT-NeoX and Llama, or 2 i and 2 i + 1. dx is dy
   turned back. Kept from forward: cosines and sines of each step ---- */

static int ft__rotary_heads(const ft_rotary_options *o) { return o->heads ? o->heads : 1; }

static ft_status ft__rotary_scaling_fits(ft__context *c, const ft__node *node)
{
    const ft_rotary_options *o = &node->options.rotary;
    bool llama3 = o->scaling == FT_ROTARY_LLAMA3, scaled = o->scaling != FT_ROTARY_DEFAULT;
    bool unused = o->low_frequency_factor != 0 || o->high_frequency_factor != 0
        || o->original_length != 0;
    if ((unsigned)o->scaling > FT_ROTARY_LLAMA3)
        return ft__fail(c, FT_INVALID, "%s: scaling %d: it must be FT_ROTARY_DEFAULT,"
                        " FT_ROTARY_LINEAR or FT_ROTARY_LLAMA3", node->name, (int)o->scaling);
    if (!ft__not_negative(o->base) || (o->base > 0 && o->base <= 1))
        return ft__fail(c, FT_INVALID, "%s: base is %g; it must be above 1, or 0 for the default",
                        node->name, (double)o->base);
    if (scaled ? !(o->factor > 0 && o->factor <= FLT_MAX) : o->factor != 0)
        return ft__fail(c, FT_INVALID, "%s: factor is %g; it must be %s", node->name,
                        (double)o->factor, scaled ? "above 0" : "0 without a scaling");
    if (!llama3 && unused)
        return ft__fail(c, FT_INVALID, "%s: low_frequency_factor, high_frequency_factor and"
                        " original_length are of FT_ROTARY_LLAMA3 only", node->name);
    if (!ft__not_negative(o->low_frequency_factor) || !ft__not_negative(o->high_frequency_factor)
        || o->original_length < 0
        || (llama3 && (o->low_frequency_factor > 0 ? o->low_frequency_factor : 1)
            >= (o->high_frequency_factor > 0 ? o->high_frequency_factor : 4)))
        return ft__fail(c, FT_INVALID, "%s: low_frequency_factor %g, high_frequency_factor %g,"
                        " original_length %d: none may be negative, and the first must be below"
                        " the second", node->name, (double)o->low_frequency_factor,
                        (double)o->high_frequency_factor, o->original_length);
    return c->status;
}

static ft_status ft__rotary_shape(ft__context *c, const ft__node *node, const ft__tensor *input,
                                  int input_count, ft_shape *output)
{
    const ft_rotary_options *o = &node->options.rotary;
    int heads = ft__rotary_heads(o), last;
    *output = input[0].shape;
    if (ft__positions_fit(c, node, input, input_count, 1) != FT_OK) return c->status;
    last = input[0].shape.size[2];
    if (heads < 0 || last % heads != 0)
        return ft__fail(c, FT_SHAPE, "%s: heads is %d; it must be above 0 and divide %d, the last"
                        " size of its input", node->name, o->heads, last);
    if (o->dimensions < 0 || o->dimensions % 2 != 0 || o->dimensions > last / heads
        || (o->dimensions == 0 && last / heads % 2 != 0))
        return ft__fail(c, FT_SHAPE, "%s: dimensions is %d of %d in a head; it must be even, and at"
                        " most that", node->name, o->dimensions, last / heads);
    return ft__rotary_scaling_fits(c, node);
}

typedef struct ft__rotary {
    const ft__call *call;
    size_t steps, heads, width, pairs;  /* steps of all samples; numbers of a head; pairs turned */
    size_t angles;          /* steps in the table: of all samples if positions are given, else L */
    size_t part;            /* steps per index of the parallel loop */
    bool back;
} ft__rotary;

static ft__rotary ft__rotary_of(const ft__call *call)
{
    const ft_rotary_options *o = &call->node->options.rotary;
    const int *x = call->input[0].shape.size;
    ft__rotary r;
    r.call = call;
    r.steps = (size_t)x[0] * (size_t)x[1];
    r.heads = (size_t)ft__rotary_heads(o);
    r.width = (size_t)x[2] / r.heads;
    r.pairs = (o->dimensions ? (size_t)o->dimensions : r.width) / 2;
    r.angles = call->input_count > 1 ? r.steps : (size_t)x[1];
    r.part = FT__CHUNK / (size_t)x[2] + 1;
    r.back = false;
    return r;
}

static void ft__rotary_costs(const ft__call *call, ft__costs *costs)
{
    ft__rotary r = ft__rotary_of(call);
    costs->saved = 2 * r.pairs * r.angles * sizeof(float);
    if (call->past)
        costs->workspace = 2 * r.pairs * sizeof(float) * (size_t)call->context->threads;
}

/* Llama 3.1's: long waves are stretched by `factor`, short ones are not, and those between in part;
   a wave is short or long compared with the length that the network was first trained on. */
static double ft__llama3_frequency(const ft_rotary_options *o, double frequency)
{
    double low = o->low_frequency_factor > 0 ? (double)o->low_frequency_factor : 1;
    double high = o->high_frequency_factor > 0 ? (double)o->high_frequency_factor : 4;
    double waves = (o->original_length ? o->original_length : 8192) * frequency
        * 0.15915494309189534; /* 1 / 2 pi: so many fit into the length */
    double share = (waves - low) / (high - low);
    share = share < 0 ? 0 : share > 1 ? 1 : share;
    return (1 - share) * frequency / (double)o->factor + share * frequency;
}

/* Of pair i, in radians a step, as float: so PyTorch's networks have it. */
static float ft__rotary_frequency(const ft_rotary_options *o, size_t i, size_t pairs)
{
    double base = o->base > 0 ? (double)o->base : 10000;
    double frequency = ft__exp_double(-(double)i / (double)pairs * ft__log_double(base));
    if (o->scaling == FT_ROTARY_LINEAR) frequency /= (double)o->factor;
    if (o->scaling == FT_ROTARY_LLAMA3) frequency = ft__llama3_frequency(o, frequency);
    return (float)frequency;
}

static void ft__rotary_angles(void *context, int index)
{
    const ft__rotary *r = (const ft__rotary *)context;
    const ft__call *call = r->call;
    const ft_rotary_options *o = &call->node->options.rotary;
    size_t pair = (size_t)index, i;
    float frequency = ft__rotary_frequency(o, pair, r->pairs);
    for (i = 0; i < r->angles; ++i) {
        float *to = (float *)call->saved + 2 * r->pairs * i + pair;
        float place = call->input_count > 1 ? (float)ft__integers(&call->input[1])[i] : (float)i;
        ft__turn((double)(place * frequency), to, to + r->pairs);
    }
}

/* Each step's cosines, then its sines. */
static void ft__rotary_table(const ft__call *call)
{
    ft__rotary r = ft__rotary_of(call);
    ft__parallel(call->context, (int)r.pairs, ft__rotary_angles, &r);
}

/* Some steps: x to y, or dy to dx. */
static void ft__rotary_steps(void *context, int index)
{
    const ft__rotary *r = (const ft__rotary *)context;
    const ft__call *call = r->call;
    bool add = r->back && !call->input[0].fresh;
    const float *from = r->back ? call->output.gradient : call->input[0].value;
    float *to = r->back ? call->input[0].gradient : call->output.value;
    size_t step = (size_t)index * r->part, end = step + r->part, h, i;
    for (; step < end && step < r->steps; ++step) {
        const float *angles = (const float *)call->saved + 2 * r->pairs * (step % r->angles);
        for (h = 0; h < r->heads; ++h) {
            size_t at = (step * r->heads + h) * r->width;
            ft__rotate[call->context->simd](from + at, to + at, angles, r->pairs,
                                            call->node->options.rotary.interleaved, r->back, add);
            for (i = at + 2 * r->pairs; i < at + r->width; ++i)
                to[i] = add ? to[i] + from[i] : from[i];
        }
    }
}

static void ft__rotary_run(const ft__call *call, bool back)
{
    ft__rotary r = ft__rotary_of(call);
    r.back = back;
    ft__parallel(call->context, (int)((r.steps + r.part - 1) / r.part), ft__rotary_steps, &r);
}

/* Each step after those before it: without a table, since a run has few such steps. */
static void ft__rotary_after_slot(void *context, int slot)
{
    const ft__rotary *r = (const ft__rotary *)context;
    const ft__call *call = r->call;
    const ft_rotary_options *o = &call->node->options.rotary;
    size_t length = (size_t)call->input[0].shape.size[1], step, i;
    float *angles = call->workspace + (size_t)slot * 2 * r->pairs;
    int share;
    FT__PIECES(step, share, call->context, slot, r->steps) {
        float place = (float)((size_t)call->past[step / length] + step % length);
        const float *from = call->input[0].value + step * r->heads * r->width;
        float *to = call->output.value + step * r->heads * r->width;
        size_t h;
        for (i = 0; i < r->pairs; ++i)
            ft__turn((double)(place * ft__rotary_frequency(o, i, r->pairs)), angles + i,
                     angles + r->pairs + i);
        for (h = 0; h < r->heads; ++h, from += r->width, to += r->width) {
            ft__rotate[call->context->simd](from, to, angles, r->pairs, o->interleaved, false,
                                            false);
            for (i = 2 * r->pairs; i < r->width; ++i) to[i] = from[i];
        }
    }
}

static void ft__rotary_forward(const ft__call *call)
{
    ft__rotary r = ft__rotary_of(call);
    if (call->past) {
        ft__parallel_slots(call->context, ft__rotary_after_slot, &r);
        return;
    }
    ft__rotary_table(call);
    ft__rotary_run(call, false);
}

static void ft__rotary_backward(const ft__call *call)
{
    if (call->input[0].gradient) ft__rotary_run(call, true);
}

/* In files: `rotary` | x [N, L, heads * D]; or x and positions (I32 [N, L]) | `heads` 1,
   `dimensions` D, `interleaved` false, `base` 10000, `scaling` 0 (0 none, 1 linear, 2 llama3),
   `factor` required with a scaling, `low_frequency_factor` 1, `high_frequency_factor` 4,
   `original_length` 8192 (those three: llama3) */
static const ft__row ft__row_rotary = {
    FT__NAMED(rotary), 1, 2, FT__WRITES | FT__IN_PLACE | FT__BY_STEP | FT__AFTER_PAST,
    ft__rotary_shape, ft__rotary_forward, ft__rotary_backward, ft__rotary_costs, ft__rotary_fields,
    NULL};

ft_node ft_rotary(ft_model *m, const char *name, ft_node x, ft_rotary_options options)
{
    ft_node inputs[2], none = {0};
    int count = options.positions.id ? 2 : 1;
    if (!FT__HAS(m, ATTENTION)) return none;
    inputs[0] = x;
    inputs[1] = options.positions;
    options.positions = none; /* it is an input now */
    return ft__add_node(m, &ft__row_rotary, name, inputs, count, &options, sizeof options);
}

/* ---- add_positions: x [N, L, D], weight [P, D], positions [N, L] (else first, first + 1, ...)
   -> x + weight[position]. A position that is not in [0, P) gives NaN, which the loss shows.
   dweight[position] += dy, dx = dy ---- */

static ft_status ft__add_positions_shape(ft__context *c, const ft__node *node,
                                         const ft__tensor *input, int input_count,
                                         ft_shape *output)
{
    const ft_shape *x = &input[0].shape, *w = &input[1].shape;
    int first = node->options.add_positions.first;
    char text[80], other[80];
    *output = *x;
    if (ft__positions_fit(c, node, input, input_count, 2) != FT_OK) return c->status;
    if (w->rank != 2 || w->size[1] != x->size[2])
        return ft__fail(c, FT_SHAPE, "%s: expected an input [N, L, D] and a weight [P, D], not %s"
                        " and %s", node->name, ft__shape_text(x, text), ft__shape_text(w, other));
    if (first < 0 || first >= w->size[0] || (input_count > 2 && first != 0)
        || (input_count == 2 && x->size[1] > 0 && x->size[1] > w->size[0] - first))
        return ft__fail(c, FT_SHAPE, "%s: %s and a first position of %d: positions must be at least"
                        " 0 and below %d%s", node->name, ft__shape_text(x, text), first, w->size[0],
                        input_count > 2 ? ", and with given ones first must be 0" : "");
    return c->status;
}

/* Costs nothing, but knows the length of the run. */
static void ft__add_positions_costs(const ft__call *call, ft__costs *costs)
{
    int most = call->input[1].shape.size[0] - call->node->options.add_positions.first;
    (void)costs;
    if (call->input_count == 2 && call->input[0].shape.size[1] > most)
        ft__fail(call->context, FT_SHAPE, "%s: a sequence of %d steps, but there are only %d"
                 " positions: ft_set_max_length sets how many tokens of a text are kept",
                 call->node->name, call->input[0].shape.size[1], most);
}

/* The row of the weight for a step, numbered through all samples; the number of rows if there is
   none. */
static size_t ft__position_of(const ft__call *call, size_t step)
{
    size_t rows = (size_t)call->input[1].shape.size[0];
    size_t length = (size_t)call->input[0].shape.size[1];
    int32_t given;
    if (call->input_count < 3) {
        size_t past = call->past ? (size_t)call->past[step / length] : 0;
        step = step % length + past + (size_t)call->node->options.add_positions.first;
        return step < rows ? step : rows;
    }
    given = ft__integers(&call->input[2])[step];
    return given >= 0 && (size_t)given < rows ? (size_t)given : rows;
}

static size_t ft__steps_at_once(size_t width) { return FT__CHUNK / width + 1; }

static void ft__add_positions_steps(void *context, int index)
{
    const ft__call *call = (const ft__call *)context;
    size_t width = (size_t)call->input[0].shape.size[2], i;
    size_t rows = (size_t)call->input[1].shape.size[0];
    size_t steps = ft__count(&call->input[0]) / width, some = ft__steps_at_once(width);
    size_t step = (size_t)index * some, end = step + some < steps ? step + some : steps;
    for (; step < end; ++step) {
        size_t row = ft__position_of(call, step);
        const float *x = call->input[0].value + step * width;
        const float *weight = call->input[1].value + (row < rows ? row : 0) * width;
        float *y = call->output.value + step * width;
        FT__INDEPENDENT for (i = 0; i < width; ++i) y[i] = x[i] + weight[i];
        for (i = 0; row == rows && i < width; ++i) y[i] = ft__from_bits(0x7fc00000u);
    }
}

static void ft__add_positions_forward(const ft__call *call)
{
    size_t width = (size_t)call->input[0].shape.size[2], some = ft__steps_at_once(width);
    size_t steps = ft__count(&call->input[0]) / width;
    ft__parallel(call->context, (int)((steps + some - 1) / some), ft__add_positions_steps,
                 (void *)(uintptr_t)call);
}

/* Columns [16 index, 16 index + 16) of dweight: each number has one thread, and steps in order. */
static void ft__add_positions_columns(void *context, int index)
{
    const ft__call *call = (const ft__call *)context;
    size_t width = (size_t)call->input[0].shape.size[2];
    size_t steps = ft__count(&call->input[0]) / width;
    size_t rows = (size_t)call->input[1].shape.size[0], first = (size_t)index * 16, step, i;
    size_t some = width - first < 16 ? width - first : 16;
    for (step = 0; step < steps; ++step) {
        size_t row = ft__position_of(call, step);
        const float *dy = call->output.gradient + step * width + first;
        float *to = call->input[1].gradient + row * width + first;
        for (i = 0; row < rows && i < some; ++i) to[i] += dy[i];
    }
}

static void ft__pass_gradient_chunk(void *context, int index)
{
    const ft__call *call = (const ft__call *)context;
    const ft__tensor *x = &call->input[0];
    size_t i = (size_t)index * FT__CHUNK, end = i + FT__CHUNK, count = ft__count(x);
    if (end > count) end = count;
    for (; i < end; ++i)
        x->gradient[i] = (x->fresh ? 0 : x->gradient[i]) + call->output.gradient[i];
}

static void ft__add_positions_backward(const ft__call *call)
{
    const ft__tensor *weight = &call->input[1];
    size_t width = (size_t)call->input[0].shape.size[2];
    if (weight->gradient)
        ft__parallel(call->context, (int)((width + 15) / 16), ft__add_positions_columns,
                     (void *)(uintptr_t)call);
    if (call->input[0].gradient && call->input[0].gradient != call->output.gradient)
        ft__parallel(call->context, ft__chunks(ft__count(&call->input[0])),
                     ft__pass_gradient_chunk, (void *)(uintptr_t)call);
}

/* In files: `add_positions` | x [N, L, features], weight [count, features]; and positions (I32 [N,
   L]) or no third | `first` 0 */
static const ft__row ft__row_add_positions = {
    FT__NAMED(add_positions), 2, 3,
    FT__WRITES | FT__IN_PLACE | FT__WEIGHTS | FT__BY_STEP | FT__AFTER_PAST,
    ft__add_positions_shape, ft__add_positions_forward, ft__add_positions_backward,
    ft__add_positions_costs,
    ft__add_positions_fields, NULL};

/* Number i of position p is the sine of p * 10000^(-i / features), of the next one the cosine. */
static ft_node ft__sinusoidal_positions(ft_model *m, const char *name, int positions, int features)
{
    ft__context *c = &m->context;
    size_t wide = (size_t)features, count = (size_t)positions * wide, i;
    int size[2];
    char text[512];
    ft_node node = {0};
    float *values = (float *)ft__allocate(c, count, sizeof *values), other;
    if (!values) return node;
    for (i = 0; i < count; i += 2) {
        double share = (double)(i % wide) / (double)wide;
        double angle = (double)(i / wide) * ft__exp_double(-share * ft__log_double(10000));
        ft__turn(angle, i % wide + 1 < wide ? &values[i + 1] : &other, &values[i]);
        if (i % wide + 1 == wide) i -= 1; /* an odd number of features */
    }
    size[0] = positions;
    size[1] = features;
    snprintf(text, sizeof text, "%s.weight", name);
    node = ft_constant(m, text, 2, size, values);
    ft__release(c, values);
    return node;
}

ft_node ft_add_positions(ft_model *m, const char *name, ft_node x, int positions,
                         ft_add_positions_options options)
{
    ft_node inputs[3], none = {0};
    ft_parameter_options p;
    int count = options.positions.id ? 3 : 2, features;
    memset(&p, 0, sizeof p);
    if (!ft__usable(m) || !FT__HAS(m, ATTENTION)) return none;
    features = ft__size_of(m, name, x, -1);
    if (ft__ok(&m->context) && positions < 1)
        ft__fail(&m->context, FT_INVALID, "%s: %d positions: there must be at least 1", name,
                 positions);
    if (ft__ok(&m->context) && (!name || !*name))
        ft__fail(&m->context, FT_INVALID, "a layer with parameters needs a name");
    if (ft__ok(&m->context) && options.weight.id && options.sinusoidal)
        ft__fail(&m->context, FT_INVALID, "%s: weight and sinusoidal: only one can be given", name);
    if (!ft__usable(m)) return none;
    p.size[0] = positions;
    p.size[1] = features;
    p.initialiser = FT_INIT_KAIMING_NORMAL;
    p.fan_out = 2; /* N(0, 2 / 2) */
    inputs[0] = x;
    inputs[1] = options.weight.id ? options.weight
        : options.sinusoidal ? ft__sinusoidal_positions(m, name, positions, features)
                             : ft__layer_parameter(m, name, "weight", p);
    inputs[2] = options.positions;
    options.weight = options.positions = none; /* they are inputs now */
    options.sinusoidal = false;
    return ft__add_node(m, &ft__row_add_positions, name, inputs, count, &options, sizeof options);
}
