#pragma once
#include "interface/types.h"
#include "interface/operators.h"
#include "platform/families.h"
#include "platform/system.h"
#include "platform/context.h"
#include "basics/threads.h"
#include "kernels/elementary.h"
#include "nodes/nodes.h"
#include "operators/table.h"
#include "operators/common.h"
#include "operators/activations.h"

/* =============================================================================================
   [SECTION] operators/more_activations: More activations
   Those of the family ARITHMETIC, which a small program leaves out. Formulas and slopes are
   PyTorch's; quick_gelu is transformers'.
   ============================================================================================= */
static const ft__field ft__hardtanh_fields[] = {FT__FLOAT(ft_activation_options, min),
                                                FT__FLOAT(ft_activation_options, max),
                                                FT__NO_MORE_FIELDS};
static const ft__field ft__threshold_fields[] = {FT__FLOAT(ft_activation_options, threshold),
                                                 FT__FLOAT(ft_activation_options, value),
                                                 FT__NO_MORE_FIELDS};
static const ft__field ft__softshrink_fields[] = {FT__FLOAT(ft_activation_options, lambda),
                                                  FT__NO_MORE_FIELDS};

/* hardtanh's bounds: -1 and 1 if both are 0. */
FT__INLINE float ft__hardtanh_low(const ft__options *o)
{
    return o->activation.min == 0 && o->activation.max == 0 ? -1.0f : o->activation.min;
}

FT__INLINE float ft__hardtanh_high(const ft__options *o)
{
    return o->activation.min == 0 && o->activation.max == 0 ? 1.0f : o->activation.max;
}

#if defined(__GNUC__) && !defined(__clang__) && !defined(FINETUNE_NO_SIMD)
#pragma GCC push_options /* not fused: all levels give the same bits */
#pragma GCC optimize("O3", "fp-contract=off")
#endif
/* 1.75809934 is selu's scale times its alpha. */
FT__ACTIVATION(selu, FT__OF_X, ft__no_fields, 0,
               ft__choose(x > 0, 1.05070099f * x, 1.75809934f * ft__expm1(x)),
               ft__choose(x > 0, 1.05070099f, 1.75809934f * ft__exp(x)))
FT__ACTIVATION(celu, FT__OF_X, ft__activation_fields,
               o->activation.alpha != 0 ? o->activation.alpha : 1.0f,
               ft__choose(x > 0, x, a * ft__expm1(x / a)), ft__choose(x > 0, 1.0f, ft__exp(x / a)))

FT__INLINE float ft__hardsigmoid(float x) { return ft__clamp(x + 3.0f, 0.0f, 6.0f) / 6.0f; }

FT__ACTIVATION(hardsigmoid, FT__OF_X, ft__no_fields, 0, ft__hardsigmoid(x),
               ft__choose(ft__absolute(x) < 3.0f, 1.0f / 6.0f, 0.0f))
FT__ACTIVATION(hardswish, FT__OF_X, ft__no_fields, 0, x * ft__hardsigmoid(x),
               ft__choose(x <= -3.0f, 0.0f, ft__choose(x < 3.0f, x / 3.0f + 0.5f, 1.0f)))
FT__ACTIVATION(logsigmoid, FT__OF_X, ft__no_fields, 0, -ft__softplus(-x), ft__sigmoid(-x))
FT__ACTIVATION(softshrink, FT__OF_X, ft__softshrink_fields,
               o->activation.lambda != 0 ? o->activation.lambda : 0.5f,
               ft__choose(x > a, x - a, ft__choose(x < -a, x + a, 0.0f * x)),
               ft__choose(ft__absolute(x) > a, 1.0f, 0.0f))

FT__INLINE float ft__tanhshrink_slope(float x)
{
    float t = ft__tanh(x);
    return t * t;
}

FT__ACTIVATION(tanhshrink, FT__OF_X, ft__no_fields, 0, x - ft__tanh(x), ft__tanhshrink_slope(x))

FT__INLINE float ft__quick_gelu_slope(float x)
{
    float s = ft__sigmoid(1.702f * x);
    return s * (1.0f + 1.702f * x * (1.0f - s));
}

FT__ACTIVATION(quick_gelu, FT__OF_X, ft__no_fields, 0, x * ft__sigmoid(1.702f * x),
               ft__quick_gelu_slope(x))

/* In files: `softshrink` | x | `lambda` 0.5 */
/* In files: `hardtanh` | x | `min` and `max`, both 0: -1 and 1 */
/* In files: `threshold` | x | `threshold` 0, `value` 0 */
/* Two numbers, where what a layer applies to its output has at most one: nodes of their own. At a
   bound the slope is 0. */
FT__ACTIVATION_LOOPS(hardtanh, ft__hardtanh_low(o), ft__clamp(x, a, ft__hardtanh_high(o)),
                     ft__choose(x > a, ft__choose(x < ft__hardtanh_high(o), 1.0f, 0.0f), 0.0f))
FT__ELEMENTWISE_ROW(hardtanh, FT__OF_X, ft__hardtanh_fields, NULL)
FT__ACTIVATION_LOOPS(threshold, o->activation.threshold,
                     ft__choose(x <= a, o->activation.value, x), ft__choose(x > a, 1.0f, 0.0f))
FT__ELEMENTWISE_ROW(threshold, FT__OF_X, ft__threshold_fields, NULL)
#if defined(__GNUC__) && !defined(__clang__) && !defined(FINETUNE_NO_SIMD)
#pragma GCC pop_options
#endif

/* ---- glu: x [outer, 2 half] in memory, y and its slopes [outer, half] ---- */

static ft_status ft__glu_shape(ft__context *c, const ft__node *node, const ft__tensor *input,
                               int input_count, ft_shape *output)
{
    int axis = ft__axis_of(node, input[0].shape.rank), size;
    *output = input[0].shape;
    if (axis < 1 || axis >= output->rank)
        return ft__fail(c, FT_SHAPE, "%s: axis is %d; it must be at least 1 and below %d",
                        node->name, axis, output->rank);
    size = output->size[axis];
    if (size < 2 || size % 2)
        return ft__fail(c, FT_SHAPE, "%s: glu halves a size of %d; it must be even and known",
                        node->name, size);
    output->size[axis] = size / 2;
    return ft__want_numbers(c, node, input, input_count);
}

typedef struct ft__glu_job {
    const ft__call *call;
    size_t half, lines, part; /* half: numbers of a line of y; part: lines per index */
    bool backward;
} ft__glu_job;

static void ft__glu_line(const ft__call *call, size_t line, size_t half)
{
    const float *a = call->input[0].value + line * 2 * half, *b = a + half;
    float *y = call->output.value + line * half;
    size_t i;
    for (i = 0; i < half; ++i) y[i] = a[i] * ft__sigmoid(b[i]);
}

/* da = dy s, db = dy a s (1 - s), s = sigmoid(b) */
static void ft__glu_line_backward(const ft__call *call, size_t line, size_t half)
{
    const float *a = call->input[0].value + line * 2 * half, *b = a + half;
    const float *dy = call->output.gradient + line * half;
    float *da = call->input[0].gradient + line * 2 * half, *db = da + half;
    bool fresh = call->input[0].fresh;
    size_t i;
    for (i = 0; i < half; ++i) {
        float s = ft__sigmoid(b[i]);
        da[i] = (fresh ? 0 : da[i]) + dy[i] * s;
        db[i] = (fresh ? 0 : db[i]) + dy[i] * a[i] * s * (1 - s);
    }
}

static void ft__glu_chunk(void *context, int index)
{
    const ft__glu_job *job = (const ft__glu_job *)context;
    size_t line = (size_t)index * job->part, end = line + job->part;
    if (end > job->lines) end = job->lines;
    for (; line < end; ++line)
        if (job->backward) ft__glu_line_backward(job->call, line, job->half);
        else ft__glu_line(job->call, line, job->half);
}

static ft__axis ft__glu_axis(const ft__call *call)
{
    ft_shape shape = ft__memory_shape(&call->output);
    return ft__split_axis(&shape, ft__memory_axis(&call->output,
                                                  ft__axis_of(call->node, shape.rank)));
}

static void ft__glu_run(const ft__call *call, bool backward)
{
    ft__axis axis = ft__glu_axis(call);
    ft__glu_job job;
    job.call = call;
    job.half = axis.size * axis.inner;
    job.lines = axis.outer;
    job.part = ft__lines_at_once(job.half);
    job.backward = backward;
    if (backward && !call->input[0].gradient) return;
    ft__parallel(call->context, (int)((job.lines + job.part - 1) / job.part), ft__glu_chunk, &job);
}

static void ft__glu_forward(const ft__call *call) { ft__glu_run(call, false); }
static void ft__glu_backward(const ft__call *call) { ft__glu_run(call, true); }

static const ft__row ft__row_glu = {
    FT__NAMED(glu), 1, 1, FT__READS_X | FT__WRITES | FT__BY_KIND | FT__ANY_LAYOUT,
    ft__glu_shape, ft__glu_forward, FT__BACKWARD(ft__glu_backward), NULL, ft__activation_fields,
    NULL};

/* ---- prelu: y = x, or w x below 0; w [1], or [C] along dimension 1 ---- */

static ft_status ft__prelu_shape(ft__context *c, const ft__node *node, const ft__tensor *input,
                                 int input_count, ft_shape *output)
{
    const ft_shape *x = &input[0].shape, *w = &input[1].shape;
    char text[80], other[80];
    *output = *x;
    if (w->rank != 1 || (w->size[0] != 1 && (x->rank < 2 || w->size[0] != x->size[1])))
        return ft__fail(c, FT_SHAPE, "%s: the weight is %s; it must be [1], or one number for each"
                        " channel of %s", node->name, ft__shape_text(w, text),
                        ft__shape_text(x, other));
    return ft__want_numbers(c, node, input, input_count);
}

/* x in memory as [outer, size, inner], with a slope for each of `size`. */
static ft__axis ft__prelu_axis(const ft__call *call)
{
    const ft__tensor *x = &call->input[0];
    ft_shape shape = ft__memory_shape(x);
    ft__axis one;
    one.outer = ft__count(x);
    one.size = one.inner = 1;
    return ft__count(&call->input[1]) == 1 ? one : ft__split_axis(&shape, ft__memory_axis(x, 1));
}

typedef struct ft__prelu_job {
    const ft__call *call;
    ft__axis axis;
    size_t part;            /* of `outer`, per index of the parallel loop */
} ft__prelu_job;

static ft__prelu_job ft__prelu_parts(const ft__call *call)
{
    ft__prelu_job job;
    job.call = call;
    job.axis = ft__prelu_axis(call);
    job.part = ft__lines_at_once(job.axis.size * job.axis.inner);
    return job;
}

static size_t ft__prelu_part_count(const ft__prelu_job *job)
{
    return (job->axis.outer + job->part - 1) / job->part;
}

/* Backward keeps the sums of the weight's gradient of each part, so that its bits do not depend on
   the number of threads. */
static void ft__prelu_costs(const ft__call *call, ft__costs *costs)
{
    ft__prelu_job job = ft__prelu_parts(call);
    costs->workspace = ft__prelu_part_count(&job) * job.axis.size * sizeof(double);
}

static void ft__prelu_chunk(void *context, int index)
{
    const ft__prelu_job *job = (const ft__prelu_job *)context;
    const ft__call *call = job->call;
    const float *w = call->input[1].value;
    size_t o = (size_t)index * job->part, end = o + job->part, c, i;
    if (end > job->axis.outer) end = job->axis.outer;
    for (; o < end; ++o)
        for (c = 0; c < job->axis.size; ++c) {
            size_t at = (o * job->axis.size + c) * job->axis.inner;
            const float *x = call->input[0].value + at;
            float *y = call->output.value + at;
            for (i = 0; i < job->axis.inner; ++i) y[i] = x[i] > 0 ? x[i] : w[c] * x[i];
        }
}

static void ft__prelu_forward(const ft__call *call)
{
    ft__prelu_job job = ft__prelu_parts(call);
    ft__parallel(call->context, (int)ft__prelu_part_count(&job), ft__prelu_chunk, &job);
}

/* dx = dy, or w dy below 0; dw = the sum of x dy below 0. dx may lie where dy does. */
static void ft__prelu_back_chunk(void *context, int index)
{
    const ft__prelu_job *job = (const ft__prelu_job *)context;
    const ft__call *call = job->call;
    const float *w = call->input[1].value;
    float *dx = call->input[0].gradient;
    double *sums = (double *)(void *)call->workspace + (size_t)index * job->axis.size;
    size_t o = (size_t)index * job->part, end = o + job->part, c, i;
    if (end > job->axis.outer) end = job->axis.outer;
    for (c = 0; c < job->axis.size; ++c) sums[c] = 0;
    for (; o < end; ++o)
        for (c = 0; c < job->axis.size; ++c) {
            size_t at = (o * job->axis.size + c) * job->axis.inner;
            for (i = at; i < at + job->axis.inner; ++i) {
                float x = call->input[0].value[i], dy = call->output.gradient[i];
                if (!(x > 0)) sums[c] += (double)x * (double)dy;
                if (dx) dx[i] = (call->input[0].fresh ? 0 : dx[i]) + (x > 0 ? dy : w[c] * dy);
            }
        }
}

static void ft__prelu_backward(const ft__call *call)
{
    ft__prelu_job job = ft__prelu_parts(call);
    const double *sums = (const double *)(const void *)call->workspace;
    float *dw = call->input[1].gradient;
    size_t parts = ft__prelu_part_count(&job), c, p;
    ft__parallel(call->context, (int)parts, ft__prelu_back_chunk, &job);
    for (c = 0; dw && c < job.axis.size; ++c) {
        double sum = 0;
        for (p = 0; p < parts; ++p) sum += sums[p * job.axis.size + c];
        dw[c] += (float)sum;
    }
}

/* In files: `prelu` | x, weight [1] or [C], for each channel of x | */
static const ft__row ft__row_prelu = {
    FT__NAMED(prelu), 2, 2,
    FT__READS_X | FT__WRITES | FT__IN_PLACE | FT__BY_KIND | FT__ANY_LAYOUT | FT__WEIGHTS,
    ft__prelu_shape, ft__prelu_forward, FT__BACKWARD(ft__prelu_backward), ft__prelu_costs,
    ft__no_fields, NULL};
