#pragma once
#include "interface/types.h"
#include "platform/families.h"
#include "platform/context.h"
#include "basics/threads.h"
#include "kernels/elementary.h"
#include "kernels/softmax.h"
#include "nodes/nodes.h"
#include "operators/table.h"
#include "operators/common.h"
#include "operators/activations.h"

/* =============================================================================================
   [SECTION] operators/softmax: Softmax, log_softmax and softmin over one axis
   ============================================================================================= */
static ft_status ft__softmax_shape(ft__context *c, const ft__node *node, const ft__tensor *input,
                                   int input_count, ft_shape *output)
{
    int axis = ft__axis_of(node, input[0].shape.rank);
    *output = input[0].shape;
    if (axis < 1 || axis >= input[0].shape.rank)
        return ft__fail(c, FT_SHAPE, "%s: axis is %d; it must be at least 1 and below %d",
                        node->name, axis, input[0].shape.rank);
    return ft__want_numbers(c, node, input, input_count);
}

/* ft__softmax for numbers that are `stride` apart, and its oracle. x may be y. */
static void ft__softmax_line(const float *x, float *y, size_t count, size_t stride, bool logarithm)
{
    float largest = x[0], all;
    double sum = 0;
    size_t i;
    for (i = 1; i < count; ++i)
        largest = ft__choose(x[i * stride] > largest, x[i * stride], largest);
    for (i = 0; i < count; ++i) y[i * stride] = ft__exp(x[i * stride] - largest);
    for (i = 0; i < count; ++i) sum += (double)y[i * stride];
    all = logarithm ? ft__ln((float)sum) : (float)sum;
    for (i = 0; i < count; ++i)
        y[i * stride] = logarithm ? (x[i * stride] - largest) - all : y[i * stride] / all;
}

/* softmax: dx = y (dy - sum(dy y)); log_softmax: dx = dy - e^y sum(dy). sign: softmin's is -1. */
static void ft__softmax_line_backward(const float *y, const float *dy, float *dx, size_t count,
                                      size_t stride, bool logarithm, float sign)
{
    double total = 0;
    float sum;
    size_t i;
    for (i = 0; i < count; ++i)
        total += (double)dy[i * stride] * (logarithm ? 1.0 : (double)y[i * stride]);
    sum = (float)total;
    for (i = 0; i < count; ++i) {
        size_t j = i * stride;
        dx[j] += sign * (logarithm ? dy[j] - ft__exp(y[j]) * sum : y[j] * (dy[j] - sum));
    }
}

typedef struct ft__softmax_job {
    const ft__call *call;
    ft__axis axis;
    size_t lines;           /* per index of the parallel loop */
    bool logarithm, backward;
    float sign;             /* of x: softmin's is -1 */
} ft__softmax_job;

/* y = -x for one line; returns y, of which the softmax is taken in place. */
static const float *ft__negated_line(const float *x, float *y, size_t count, size_t stride)
{
    size_t i;
    for (i = 0; i < count; ++i) y[i * stride] = -x[i * stride];
    return y;
}

static void ft__softmax_chunk(void *context, int index)
{
    const ft__softmax_job *job = (const ft__softmax_job *)context;
    const ft__call *call = job->call;
    size_t line = (size_t)index * job->lines, end = line + job->lines;
    if (end > job->axis.outer * job->axis.inner) end = job->axis.outer * job->axis.inner;
    for (; line < end; ++line) {
        size_t at = line / job->axis.inner * job->axis.size * job->axis.inner
            + line % job->axis.inner;
        const float *x = call->input[0].value + at;
        float *y = call->output.value + at;
        if (FT__HAS_ARITHMETIC && job->sign < 0 && !job->backward)
            x = ft__negated_line(x, y, job->axis.size, job->axis.inner);
        if (job->backward)
            ft__softmax_line_backward(y, call->output.gradient + at, call->input[0].gradient + at,
                                      job->axis.size, job->axis.inner, job->logarithm, job->sign);
        else if (job->axis.inner == 1)
            ft__softmax[call->context->simd](x, y, job->axis.size, job->logarithm);
        else ft__softmax_line(x, y, job->axis.size, job->axis.inner, job->logarithm);
    }
}

/* Of softmax, log_softmax and softmin, by the node's operator. */
static void ft__softmax_run(const ft__call *call, bool backward)
{
    ft_shape shape = ft__memory_shape(&call->output);
    ft__softmax_job job;
    size_t lines;
    job.call = call;
    job.axis = ft__split_axis(&shape, ft__memory_axis(&call->output,
                                                      ft__axis_of(call->node, shape.rank)));
    job.lines = ft__lines_at_once(job.axis.size);
    job.logarithm = call->node->op == FT__OP_log_softmax;
    job.backward = backward;
    job.sign = FT__HAS_ARITHMETIC && call->node->op == FT__OP_softmin ? -1.0f : 1.0f;
    lines = job.axis.outer * job.axis.inner;
    if (backward && !call->input[0].gradient) return;
    ft__parallel(call->context, (int)((lines + job.lines - 1) / job.lines), ft__softmax_chunk,
                 &job);
}

static void ft__softmax_forward(const ft__call *call) { ft__softmax_run(call, false); }
static void ft__softmax_backward(const ft__call *call) { ft__softmax_run(call, true); }

static const ft__row ft__row_softmax = {
    FT__NAMED(softmax), 1, 1, FT__READS_Y | FT__BY_KIND | FT__PROBABILITIES | FT__ANY_LAYOUT,
    ft__softmax_shape, ft__softmax_forward, FT__BACKWARD(ft__softmax_backward), NULL,
    ft__activation_fields, NULL};

static const ft__row ft__row_log_softmax = {
    FT__NAMED(log_softmax), 1, 1, FT__READS_Y | FT__BY_KIND | FT__ANY_LAYOUT,
    ft__softmax_shape, ft__softmax_forward, FT__BACKWARD(ft__softmax_backward), NULL,
    ft__activation_fields, NULL};

static const ft__row ft__row_softmin = {
    FT__NAMED(softmin), 1, 1, FT__READS_Y | FT__BY_KIND | FT__PROBABILITIES | FT__ANY_LAYOUT,
    ft__softmax_shape, ft__softmax_forward, FT__BACKWARD(ft__softmax_backward), NULL,
    ft__activation_fields, NULL};
