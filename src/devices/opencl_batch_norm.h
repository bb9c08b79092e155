#pragma once
#include "interface/operators.h"
#include "platform/context.h"
#include "nodes/nodes.h"
#include "operators/common.h"
#include "operators/batch_norm.h"
#include "devices/opencl_memory.h"
#include "devices/opencl_kernels.h"
#include "devices/opencl_operators.h"

/* =============================================================================================
   [SECTION] devices/opencl_batch_norm: OpenCL: batch norm
   Statistics are sums of blocks of rows, added in a second kernel.
   ============================================================================================= */
#ifdef FINETUNE_OPENCL
static size_t ft__norm_room(const ft__call *call)
{
    ft__norm_size s = ft__norm_size_of(&call->input[0]);
    return 2 * s.blocks * s.channels * sizeof(float);
}

static void ft__cl_norm_blocks(const ft__call *call, cl_mem blocks)
{
    ft__norm_size s = ft__norm_size_of(&call->input[0]);
    ft__launch l = ft__start(call->context, "norm_block");
    ft__args(&l, "vbnnn", &call->input[0], blocks, s.rows, s.channels, s.block);
    ft__go_grid(&l, s.channels, s.blocks, 1, 64, 1);
}

static void ft__cl_norm_statistics(const ft__call *call, cl_mem blocks)
{
    ft__norm_size s = ft__norm_size_of(&call->input[0]);
    const ft_batch_norm_options *o = &call->node->options.batch_norm;
    int access = call->training ? FT__READ | FT__WRITE : FT__READ;
    ft__run_kernel(call->context, "norm_statistics", s.channels, "bWmmnnniff", blocks, call->saved,
                   2 * s.channels, call->input[3].value, s.channels, access, call->input[4].value,
                   s.channels, access, s.rows, s.channels, s.block, call->training,
                   o->momentum != 0 ? o->momentum : 0.1f, ft__eps_of(o->eps));
}

static void ft__cl_batch_norm_forward(const ft__call *call)
{
    size_t count = ft__count(&call->output);
    cl_mem blocks = ft__device_scratch(call->context, FT__SCRATCH_SUMS, ft__norm_room(call));
    if (call->training) ft__cl_norm_blocks(call, blocks);
    ft__cl_norm_statistics(call, blocks);
    ft__run_kernel(call->context, "norm_apply", count, "vRvvynnif", &call->input[0], call->saved,
                   2 * (size_t)call->input[0].shape.size[1], &call->input[1], &call->input[2],
                   &call->output, count, (size_t)call->input[0].shape.size[1],
                   ft__kernel_activation(call->fused),
                   ft__kernel_option(call->fused, call->fused_options));
}

static void ft__cl_norm_totals(const ft__call *call, cl_mem blocks, cl_mem terms)
{
    ft__norm_size s = ft__norm_size_of(&call->input[0]);
    float *dweight = ft__started(call, 1), *dbias = ft__started(call, 2);
    ft__run_kernel(call->context, "norm_totals", s.channels, "bRvAAbnnnii", blocks, call->saved,
                   2 * s.channels, &call->input[1], dweight, s.channels, dbias, s.channels, terms,
                   s.rows, s.channels, s.blocks, call->training,
                   (dweight ? 1 : 0) + (dbias ? 2 : 0));
}

static void ft__cl_batch_norm_backward(const ft__call *call)
{
    ft__context *c = call->context;
    ft__norm_size s = ft__norm_size_of(&call->input[0]);
    size_t count = ft__count(&call->output), op = (size_t)ft__kernel_activation(call->fused);
    cl_mem blocks = ft__device_scratch(c, FT__SCRATCH_SUMS, ft__norm_room(call));
    cl_mem terms = ft__device_scratch(c, FT__SCRATCH_TERMS, 2 * s.channels * sizeof(float));
    ft__launch l = ft__start(c, "norm_sums");
    ft__args(&l, "vRRvvbnnnn", &call->input[0], call->output.gradient, ft__count(&call->output),
             call->saved, 2 * (size_t)call->input[0].shape.size[1], &call->input[1],
             &call->input[2], blocks, s.rows, s.channels, s.block, op);
    ft__go_grid(&l, s.channels, s.blocks, 1, 64, 1);
    ft__cl_norm_totals(call, blocks, terms);
    if (!call->input[0].gradient) return;
    ft__run_kernel(c, "norm_back", count, "vRRvvbgnnni", &call->input[0], call->output.gradient,
                   ft__count(&call->output), call->saved, 2 * (size_t)call->input[0].shape.size[1],
                   &call->input[1], &call->input[2], terms, &call->input[0], count, s.channels, op,
                   call->input[0].fresh);
}

FT__DEVICE_ROW(batch_norm, batch_norm, "8x64x32x32 64 64 64 64; 8x64x32x32 64 64 64 64 relu")
#endif /* FINETUNE_OPENCL */
