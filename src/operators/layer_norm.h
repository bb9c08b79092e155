#pragma once
#include "interface/types.h"
#include "platform/context.h"
#include "basics/numbers.h"
#include "basics/threads.h"
#include "nodes/nodes.h"
#include "operators/table.h"
#include "operators/adding.h"
#include "operators/common.h"

/* =============================================================================================
   [SECTION] operators/layer_norm: Layer normalisation
   x [..., D]: y = h * weight + bias, h = (x - mean) * r, r = 1 / sqrt(var + eps), mean and variance
   over the last dimension of each row (Ba, Kiros and Hinton 2016). With g = dy * weight:
       dx = r * (g - mean(g) - h * mean(g h)),  dweight = sum of dy h,  dbias = sum of dy
   Kept from forward: mean and r of each row.
   ============================================================================================= */
static const ft__field ft__layer_norm_fields[] = {
    FT__FLOAT(ft_layer_norm_options, eps), FT__NO_MORE_FIELDS};

static ft_status ft__layer_norm_shape(ft__context *c, const ft__node *node,
                                      const ft__tensor *input, int input_count, ft_shape *output)
{
    const ft_shape *x = &input[0].shape;
    char text[80];
    int i;
    *output = *x;
    if (x->rank < 2 || x->size[x->rank - 1] < 1)
        return ft__fail(c, FT_SHAPE, "%s: expected an input [..., D] with a fixed D, not %s",
                        node->name, ft__shape_text(x, text));
    for (i = 1; i < input_count; ++i)
        if (input[i].shape.rank != 1 || input[i].shape.size[0] != x->size[x->rank - 1])
            return ft__fail(c, FT_SHAPE, "%s: %s does not fit rows of %d", node->name,
                            ft__shape_text(&input[i].shape, text), x->size[x->rank - 1]);
    if (!ft__not_negative(node->options.layer_norm.eps))
        return ft__fail(c, FT_INVALID, "%s: eps is %g; it must be 0 or more", node->name,
                        (double)node->options.layer_norm.eps);
    return ft__want_numbers(c, node, input, input_count);
}

/* The rows: `outer` of `size` numbers. */
static ft__axis ft__layer_norm_rows(const ft__call *call)
{
    return ft__split_axis(&call->input[0].shape, call->input[0].shape.rank - 1);
}

enum { FT__NORM_ROWS = 16 }; /* rows per task, whose sums for dweight and dbias are one partial */

static size_t ft__layer_norm_tasks(const ft__axis *a)
{
    return (a->outer + FT__NORM_ROWS - 1) / FT__NORM_ROWS;
}

static void ft__layer_norm_costs(const ft__call *call, ft__costs *costs)
{
    ft__axis a = ft__layer_norm_rows(call);
    costs->saved = 2 * a.outer * sizeof(float);
    costs->workspace = call->training ? 2 * ft__layer_norm_tasks(&a) * a.size * sizeof(float) : 0;
}

static void ft__layer_norm_forward_rows(void *context, int task)
{
    const ft__call *call = (const ft__call *)context;
    ft__axis a = ft__layer_norm_rows(call);
    float eps = ft__eps_of(call->node->options.layer_norm.eps);
    const float *weight = call->input[1].value, *bias = call->input[2].value;
    size_t row = (size_t)task * FT__NORM_ROWS, end = row + FT__NORM_ROWS, i;
    if (end > a.outer) end = a.outer;
    for (; row < end; ++row) {
        size_t at = row * a.size;
        const float *x = call->input[0].value + at;
        float *y = call->output.value + at, *saved = (float *)call->saved + 2 * row, r;
        double sum = 0, squares = 0, mean;
        for (i = 0; i < a.size; ++i) sum += (double)x[i];
        mean = sum / (double)a.size;
        for (i = 0; i < a.size; ++i) {
            double d = (double)x[i] - mean;
            squares += d * d;
        }
        r = (float)(1 / sqrt(squares / (double)a.size + (double)eps));
        saved[0] = (float)mean;
        saved[1] = r;
        for (i = 0; i < a.size; ++i)
            y[i] = (x[i] - (float)mean) * r * weight[i] + bias[i];
    }
}

static void ft__layer_norm_forward(const ft__call *call)
{
    ft__axis a = ft__layer_norm_rows(call);
    ft__parallel(call->context, (int)ft__layer_norm_tasks(&a), ft__layer_norm_forward_rows,
                 (void *)(uintptr_t)call);
}

/* dx of a task's rows, and their part of dweight and dbias. */
static void ft__layer_norm_backward_rows(void *context, int task)
{
    const ft__call *call = (const ft__call *)context;
    ft__axis a = ft__layer_norm_rows(call);
    const float *weight = call->input[1].value;
    float *parts = call->workspace + 2 * (size_t)task * a.size;
    size_t row = (size_t)task * FT__NORM_ROWS, end = row + FT__NORM_ROWS, i;
    if (end > a.outer) end = a.outer;
    memset(parts, 0, 2 * a.size * sizeof *parts);
    for (; row < end; ++row) {
        size_t at = row * a.size;
        const float *x = call->input[0].value + at, *dy = call->output.gradient + at;
        const float *saved = (const float *)call->saved + 2 * row;
        float mean = saved[0], r = saved[1], mean_g, mean_gh;
        double sum_g = 0, sum_gh = 0;
        for (i = 0; i < a.size; ++i) {
            float h = (x[i] - mean) * r, g = dy[i] * weight[i];
            sum_g += (double)g;
            sum_gh += (double)(g * h);
            parts[i] += dy[i] * h;
            parts[a.size + i] += dy[i];
        }
        if (!call->input[0].gradient) continue;
        mean_g = (float)(sum_g / (double)a.size);
        mean_gh = (float)(sum_gh / (double)a.size);
        for (i = 0; i < a.size; ++i) {
            float h = (x[i] - mean) * r, g = dy[i] * weight[i];
            float *dx = call->input[0].gradient + at + i;
            *dx = (call->input[0].fresh ? 0 : *dx) + r * (g - mean_g - h * mean_gh);
        }
    }
}

static void ft__layer_norm_backward(const ft__call *call)
{
    ft__axis a = ft__layer_norm_rows(call);
    size_t tasks = ft__layer_norm_tasks(&a), task, i;
    int which;
    ft__parallel(call->context, (int)tasks, ft__layer_norm_backward_rows,
                 (void *)(uintptr_t)call);
    for (which = 0; which < 2; ++which) {
        const ft__tensor *t = &call->input[1 + which];
        if (!t->gradient) continue;
        if (t->fresh) memset(t->gradient, 0, a.size * sizeof(float));
        for (task = 0; task < tasks; ++task)
            for (i = 0; i < a.size; ++i)
                t->gradient[i] += call->workspace[(2 * task + (size_t)which) * a.size + i];
    }
}

static const ft__row ft__row_layer_norm = {
    FT__NAMED(layer_norm), 3, 3, FT__READS_X | FT__WRITES | FT__WRITES_ALL | FT__WEIGHTS,
    ft__layer_norm_shape, ft__layer_norm_forward, ft__layer_norm_backward, ft__layer_norm_costs,
    ft__layer_norm_fields, NULL};

ft_node ft_layer_norm(ft_model *m, const char *name, ft_node x, ft_layer_norm_options options)
{
    ft_node inputs[3], none = {0};
    if (!ft__usable(m)) return none;
    inputs[0] = x;
    if (!ft__affine_inputs(m, name, inputs, ft__size_of(m, name, x, -1))) return none;
    return ft__add_node(m, &ft__row_layer_norm, name, inputs, 3, &options, sizeof options);
}
