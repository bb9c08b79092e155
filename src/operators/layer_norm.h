#pragma once
#include "interface/types.h"
#include "interface/operators.h"
#include "platform/families.h"
#include "platform/context.h"
#include "basics/numbers.h"
#include "basics/threads.h"
#include "kernels/column_sums.h"
#include "kernels/row_norm.h"
#include "nodes/nodes.h"
#include "operators/table.h"
#include "operators/adding.h"
#include "operators/common.h"

/* =============================================================================================
   [SECTION] operators/layer_norm: Layer normalisation, root mean square normalisation
   x [..., D]: y = h * weight + bias, h = (x - mean) * r, r = 1 / sqrt(var + eps), mean and variance
   over the last dimension of each row (Ba, Kiros and Hinton 2016). With g = dy * weight:
       dx = r * (g - mean(g) - h * mean(g h)),  dweight = sum of dy h,  dbias = sum of dy
   rms_norm (Zhang and Sennrich 2019): the same without mean, mean(g) and bias; its rows are as long
   as the weight, of which the last dimension may hold several: the heads of a step.
   Kept from forward: mean and r of each row.
   ============================================================================================= */
static const ft__field ft__layer_norm_fields[] = {
    FT__FLOAT(ft_layer_norm_options, eps), FT__NO_MORE_FIELDS};
static const ft__field ft__rms_norm_fields[] = {
    FT__FLOAT(ft_rms_norm_options, eps), FT__NOT_KEPT(ft_rms_norm_options, size)
    FT__NO_MORE_FIELDS};

static ft_status ft__row_norm_shape(ft__context *c, const ft__node *node, const ft__tensor *input,
                                    int input_count, ft_shape *output, float eps, int row)
{
    const ft_shape *x = &input[0].shape;
    char text[80];
    int i;
    *output = *x;
    if (x->rank < 2 || x->size[x->rank - 1] < 1)
        return ft__fail(c, FT_SHAPE, "%s: expected an input [..., D] with a fixed D, not %s",
                        node->name, ft__shape_text(x, text));
    for (i = 1; i < input_count; ++i)
        if (input[i].shape.rank != 1 || input[i].shape.size[0] != row)
            return ft__fail(c, FT_SHAPE, "%s: %s does not fit rows of %d", node->name,
                            ft__shape_text(&input[i].shape, text), row);
    if (!ft__not_negative(eps))
        return ft__fail(c, FT_INVALID, "%s: eps is %g; it must be 0 or more", node->name,
                        (double)eps);
    return ft__want_numbers(c, node, input, input_count);
}

static ft_status ft__layer_norm_shape(ft__context *c, const ft__node *node,
                                      const ft__tensor *input, int input_count, ft_shape *output)
{
    const ft_shape *x = &input[0].shape;
    return ft__row_norm_shape(c, node, input, input_count, output, node->options.layer_norm.eps,
                              x->rank > 0 ? x->size[x->rank - 1] : 0);
}

static ft_status ft__rms_norm_shape(ft__context *c, const ft__node *node, const ft__tensor *input,
                                    int input_count, ft_shape *output)
{
    const ft_shape *x = &input[0].shape, *weight = &input[1].shape;
    int last = x->rank > 0 ? x->size[x->rank - 1] : 0, row = last;
    if (weight->rank == 1 && weight->size[0] > 0 && last % weight->size[0] == 0)
        row = weight->size[0];
    return ft__row_norm_shape(c, node, input, input_count, output, node->options.rms_norm.eps, row);
}

/* The rows: `outer` of `size` numbers. */
static ft__axis ft__layer_norm_rows(const ft__call *call)
{
    ft__axis a = {1, 1, 1};
    a.size = (size_t)call->input[1].shape.size[0];
    a.outer = ft__count(&call->input[0]) / a.size;
    return a;
}

/* Without a bias it is rms_norm, whose default is PyTorch's: the float after 1, less 1. */
static bool ft__is_centred(const ft__call *call) { return call->input_count == 3; }
static float ft__rms_eps_of(float eps) { return eps > 0 ? eps : FLT_EPSILON; }
static float ft__row_eps(const ft__call *call)
{
    return ft__is_centred(call) ? ft__eps_of(call->node->options.layer_norm.eps)
        : ft__rms_eps_of(call->node->options.rms_norm.eps);
}

enum { FT__NORM_ROWS = 32 }; /* rows per task, whose sums for dweight and dbias are one partial */

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
    const float *bias = ft__is_centred(call) ? call->input[2].value : NULL;
    size_t row = (size_t)task * FT__NORM_ROWS, end = row + FT__NORM_ROWS;
    for (; row < end && row < a.outer; ++row)
        ft__norm_row[call->context->simd](call->input[0].value + row * a.size,
                                          call->input[1].value, bias, a.size, ft__row_eps(call),
                                          (float *)call->saved + 2 * row,
                                          call->output.value + row * a.size);
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
    const ft__tensor *t = call->input;
    float *dweight = call->workspace + (size_t)task * a.size;
    float *dbias = dweight + ft__layer_norm_tasks(&a) * a.size, sums[2];
    size_t row = (size_t)task * FT__NORM_ROWS, end = row + FT__NORM_ROWS;
    memset(dweight, 0, a.size * sizeof *dweight);
    memset(dbias, 0, a.size * sizeof *dbias);
    for (; row < end && row < a.outer; ++row) {
        const float *x = t[0].value + row * a.size, *dy = call->output.gradient + row * a.size;
        const float *kept = (const float *)call->saved + 2 * row;
        ft__norm_row_sums[call->context->simd](x, dy, t[1].value, a.size, kept, dweight, dbias,
                                               sums);
        if (!t[0].gradient) continue;
        ft__norm_row_back[call->context->simd](x, dy, t[1].value, a.size, kept,
                                               ft__is_centred(call) ? sums[0] / (float)a.size : 0,
                                               sums[1] / (float)a.size,
                                               t[0].gradient + row * a.size, !t[0].fresh);
    }
}

static void ft__layer_norm_backward(const ft__call *call)
{
    ft__axis a = ft__layer_norm_rows(call);
    size_t tasks = ft__layer_norm_tasks(&a);
    int i;
    ft__parallel(call->context, (int)tasks, ft__layer_norm_backward_rows,
                 (void *)(uintptr_t)call);
    for (i = 1; i < call->input_count; ++i) {
        const ft__tensor *t = &call->input[i];
        if (!t->gradient) continue;
        if (t->fresh) memset(t->gradient, 0, a.size * sizeof(float));
        ft__add_column_sums(call->context, call->workspace + (size_t)(i - 1) * tasks * a.size,
                            tasks, a.size, t->gradient);
    }
}

/* In files: `layer_norm` | x, weight, bias, both [D] | `eps` 1e-5 */
static const ft__row ft__row_layer_norm = {
    FT__NAMED(layer_norm), 3, 3,
    FT__READS_X | FT__WRITES | FT__WRITES_ALL | FT__WEIGHTS | FT__BY_STEP,
    ft__layer_norm_shape, ft__layer_norm_forward, FT__BACKWARD(ft__layer_norm_backward),
    ft__layer_norm_costs, ft__layer_norm_fields, NULL};

/* In files: `rms_norm` | x, weight [D], or [size] for each run of so many numbers | `eps`
   1.1920929e-7 */
static const ft__row ft__row_rms_norm = {
    FT__NAMED(rms_norm), 2, 2,
    FT__READS_X | FT__WRITES | FT__WRITES_ALL | FT__WEIGHTS | FT__BY_STEP,
    ft__rms_norm_shape, ft__layer_norm_forward, ft__layer_norm_backward, ft__layer_norm_costs,
    ft__rms_norm_fields, NULL};

ft_node ft_layer_norm(ft_model *m, const char *name, ft_node x, ft_layer_norm_options options)
{
    ft_node inputs[3], none = {0};
    if (!ft__usable(m) || !FT__HAS(m, ATTENTION)) return none;
    inputs[0] = x;
    if (!ft__affine_inputs(m, name, inputs, ft__size_of(m, name, x, -1))) return none;
    return ft__add_node(m, &ft__row_layer_norm, name, inputs, 3, &options, sizeof options);
}

ft_node ft_rms_norm(ft_model *m, const char *name, ft_node x, ft_rms_norm_options options)
{
    ft_node inputs[2], none = {0};
    ft_parameter_options p;
    int last;
    memset(&p, 0, sizeof p);
    if (!ft__usable(m) || !FT__HAS(m, ATTENTION)) return none;
    last = ft__size_of(m, name, x, -1);
    if (ft__ok(&m->context) && (options.size < 0 || (options.size && last % options.size != 0)))
        ft__fail(&m->context, FT_INVALID, "%s: size is %d; it must divide %d, the last size of its"
                 " input", name, options.size, last);
    p.size[0] = options.size ? options.size : last;
    p.initialiser = FT_INIT_ONES;
    inputs[0] = x;
    inputs[1] = ft__layer_parameter(m, name, "weight", p);
    options.size = 0; /* that of the weight now */
    return ft__add_node(m, &ft__row_rms_norm, name, inputs, 2, &options, sizeof options);
}
