#pragma once
#include "interface/types.h"
#include "interface/operators.h"
#include "platform/context.h"
#include "nodes/nodes.h"
#include "operators/table.h"
#include "operators/more_losses.h"
#include "operators/rows.h"
#include "devices/opencl_memory.h"
#include "devices/opencl_kernels.h"
#include "devices/opencl_operators.h"

/* =============================================================================================
   [SECTION] devices/opencl_losses: OpenCL: losses, and the gradients' norm
   ============================================================================================= */
#ifdef FINETUNE_OPENCL
/* loss = the sum of `each` over `divisor` or, if that is 0, over the number of those that count. */
static void ft__cl_loss_mean(const ft__call *call, cl_mem each, size_t count, size_t divisor)
{
    ft__run_kernel(call->context, "loss_mean", FT__GROUP, "bWnif", each, call->output.value,
                   (size_t)1, count, divisor == 0, (float)divisor);
}

static void ft__cl_entropy_forward(const ft__call *call)
{
    bool hard = ft__is(call->node, FT__CLASSES);
    size_t classes = (size_t)call->input[0].shape.size[call->input[0].shape.rank - 1];
    size_t count = ft__count(&call->input[0]) / classes;
    cl_mem each = ft__device_scratch(call->context, FT__SCRATCH_SUMS, 2 * count * sizeof(float));
    bool groups = hard && classes >= FT__GROUP;
    ft__launch l = ft__start(call->context, groups ? "cross_entropy_group_forward"
                             : hard ? "cross_entropy_forward" : "soft_cross_entropy_forward");
    ft__args(&l, "vvWbnn", &call->input[0], &call->input[1], call->saved,
             ft__count(&call->input[0]), each, count, classes);
    if (hard) ft__args(&l, "f", call->node->options.loss.label_smoothing);
    ft__launch_kernel(&l, groups ? count * FT__GROUP : count);
    ft__cl_loss_mean(call, each, count, hard ? 0 : count);
}

/* What every number of the gradient needs: how many labels count, or each row's sum of targets. */
static cl_mem ft__cl_entropy_sums(const ft__call *call, bool hard, size_t rows, size_t classes)
{
    cl_mem sums = ft__device_scratch(call->context, FT__SCRATCH_SUMS, rows * sizeof(float));
    ft__launch l = ft__start(call->context, hard ? "count_labels" : "target_sums");
    ft__args(&l, "vbn", &call->input[1], sums, rows);
    if (!hard) ft__args(&l, "n", classes);
    ft__launch_kernel(&l, hard ? FT__GROUP : rows);
    return sums;
}

static void ft__cl_entropy_backward(const ft__call *call)
{
    bool hard = ft__is(call->node, FT__CLASSES);
    size_t classes = (size_t)call->input[0].shape.size[call->input[0].shape.rank - 1];
    size_t count = ft__count(&call->input[0]);
    float *dx = ft__started(call, 0);
    cl_mem sums;
    ft__launch l;
    if (!dx) return;
    sums = ft__cl_entropy_sums(call, hard, count / classes, classes);
    l = ft__start(call->context, hard ? "cross_entropy_backward" : "soft_cross_entropy_backward");
    ft__args(&l, "RvRAbnn", call->saved, count, &call->input[1], call->output.gradient, (size_t)1,
             dx, count, sums, count / classes, classes);
    if (hard) ft__args(&l, "f", call->node->options.loss.label_smoothing);
    ft__launch_kernel(&l, count);
}

static int ft__classes_below(const ft__call *call)
{
    const ft_shape *x = &call->input[0].shape;
    return x->size[x->rank - 1];
}

FT__DEVICE_ROW_OF(cross_entropy, entropy, NULL, NULL, ft__classes_below, "8x10 i8")
FT__DEVICE_ROW(soft_cross_entropy, entropy, "8x10 8x10")

/* A loss of elements in kernels.cl, with its options. */
typedef struct ft__cl_elements {
    int kind;
    float a, b;
} ft__cl_elements;

static ft__cl_elements ft__cl_elements_of(const ft__call *call)
{
    static const int ops[] = {FT__OP_mse, FT__OP_binary_cross_entropy, FT__OP_l1, FT__OP_smooth_l1,
                              FT__OP_huber, FT__OP_sigmoid_focal}; /* as in kernels.cl */
    const ft__field *fields = ft__rows[call->node->op]->fields;
    const ft_loss_options *o = &call->node->options.loss;
    ft__cl_elements e = {0, 0, 0};
    while (ops[e.kind] != call->node->op) e.kind += 1;
    if (fields == ft__smooth_l1_fields) e.a = ft__or_default(o->beta, 1);
    if (fields == ft__huber_fields) e.a = ft__or_default(o->delta, 1);
    if (fields != ft__focal_fields) return e;
    e.a = ft__or_default(o->gamma, 2);
    e.b = ft__or_default(o->alpha, 0.25f);
    return e;
}

static void ft__cl_pair_loss_forward(const ft__call *call)
{
    size_t count = ft__count(&call->input[0]), block = 256, blocks = ft__blocks_of(count, block);
    cl_mem each = ft__device_scratch(call->context, FT__SCRATCH_SUMS, blocks * sizeof(float));
    ft__cl_elements e = ft__cl_elements_of(call);
    ft__run_kernel(call->context, "pair_loss_forward", blocks, "vvbnniff", &call->input[0],
                   &call->input[1], each, count, block, e.kind, e.a, e.b);
    ft__cl_loss_mean(call, each, blocks, count);
}

static void ft__cl_pair_loss_backward(const ft__call *call)
{
    size_t count = ft__count(&call->input[0]);
    ft__cl_elements e = ft__cl_elements_of(call);
    bool of_difference = ft__is(call->node, FT__REGRESSION); /* x - t: t has a gradient too */
    float *dx = ft__started(call, 0), *dt = of_difference ? ft__started(call, 1) : NULL;
    ft__run_kernel(call->context, "pair_loss_backward", count, "vvRAAniffi", &call->input[0],
                   &call->input[1], call->output.gradient, (size_t)1, dx, count, dt, count, count,
                   e.kind, e.a, e.b, (dx ? 1 : 0) + (dt ? 2 : 0));
}

FT__DEVICE_ROW(binary_cross_entropy, pair_loss, "8x10 8x10")
FT__DEVICE_ROW(mse, pair_loss, "8x10 8x10")
FT__DEVICE_ROW(l1, pair_loss, "8x10 8x10")
FT__DEVICE_ROW(smooth_l1, pair_loss, "8x10 8x10")
FT__DEVICE_ROW(huber, pair_loss, "8x10 8x10")
FT__DEVICE_ROW(sigmoid_focal, pair_loss, "8x10 8x10")

/* The last arguments of a loss of labels: rows, classes, whether it is hinge, and its option. */
static void ft__arg_label_loss(ft__launch *l, const ft__call *call, size_t rows)
{
    const ft_loss_options *o = &call->node->options.loss;
    bool hinge = ft__rows[call->node->op]->fields == ft__hinge_fields;
    ft__args(l, "nnif", rows, ft__count(&call->input[0]) / rows, hinge,
             hinge ? ft__or_default(o->margin, 1) : ft__or_default(o->gamma, 2));
}

static void ft__cl_label_loss_forward(const ft__call *call)
{
    size_t rows = ft__count(&call->input[1]);
    cl_mem each = ft__device_scratch(call->context, FT__SCRATCH_SUMS, 2 * rows * sizeof(float));
    ft__launch l = ft__start(call->context, "label_loss_forward");
    ft__args(&l, "vvb", &call->input[0], &call->input[1], each);
    ft__arg_label_loss(&l, call, rows);
    ft__launch_kernel(&l, rows);
    ft__cl_loss_mean(call, each, rows, 0);
}

static void ft__cl_label_loss_backward(const ft__call *call)
{
    size_t rows = ft__count(&call->input[1]), count = ft__count(&call->input[0]);
    float *dx = ft__started(call, 0);
    cl_mem counted;
    ft__launch l;
    if (!dx) return;
    counted = ft__cl_entropy_sums(call, true, rows, count / rows);
    l = ft__start(call->context, "label_loss_backward");
    ft__args(&l, "vvRAb", &call->input[0], &call->input[1], call->output.gradient, (size_t)1, dx,
             count, counted);
    ft__arg_label_loss(&l, call, rows);
    ft__launch_kernel(&l, rows);
}

FT__DEVICE_ROW_OF(focal, label_loss, NULL, NULL, ft__classes_below, "8x10 i8")
FT__DEVICE_ROW_OF(hinge, label_loss, NULL, NULL, ft__classes_below, "8x10 i8")

/* ---- The gradients' norm ---- */

/* The number of partial sums for so many squares; each adds every parts-th number. */
static size_t ft__squares_parts(size_t count)
{
    size_t parts = ft__blocks_of(count, 64);
    return parts < 1024 ? parts : 1024;
}

static void ft__device_squares(ft__context *c, const float *x, size_t count, cl_mem sums,
                               size_t at, size_t parts)
{
    ft__run_kernel(c, "squares", parts, "Rbnnn", x, count, sums, count, parts, at);
}
FT__NO_KERNELS(linear_cross_entropy)
FT__NO_KERNELS(ctc_loss)
#endif /* FINETUNE_OPENCL */
