#pragma once
#include "interface/types.h"
#include "platform/context.h"
#include "nodes/nodes.h"
#include "operators/table.h"
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

static void ft__cl_pair_loss_forward(const ft__call *call)
{
    size_t count = ft__count(&call->input[0]), block = 256, blocks = ft__blocks_of(count, block);
    cl_mem each = ft__device_scratch(call->context, FT__SCRATCH_SUMS, blocks * sizeof(float));
    ft__run_kernel(call->context, "pair_loss_forward", blocks, "vvbnni", &call->input[0],
                   &call->input[1], each, count, block, !ft__is(call->node, FT__REGRESSION));
    ft__cl_loss_mean(call, each, blocks, count);
}

static void ft__cl_pair_loss_backward(const ft__call *call)
{
    size_t count = ft__count(&call->input[0]);
    bool binary = !ft__is(call->node, FT__REGRESSION);
    float *dx = ft__started(call, 0), *dt = binary ? NULL : ft__started(call, 1);
    ft__run_kernel(call->context, "pair_loss_backward", count, "vvRAAnii", &call->input[0],
                   &call->input[1], call->output.gradient, (size_t)1, dx, count, dt, count, count,
                   binary, (dx ? 1 : 0) + (dt ? 2 : 0));
}

FT__DEVICE_ROW(binary_cross_entropy, pair_loss, "8x10 8x10")
FT__DEVICE_ROW(mse, pair_loss, "8x10 8x10")

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
static const ft__device_row ft__cl_row_linear_cross_entropy = {NULL, NULL, NULL, NULL, NULL, NULL};
#endif /* FINETUNE_OPENCL */
