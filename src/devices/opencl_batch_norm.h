#pragma once
#include "interface/types.h"
#include "platform/context.h"
#include "nodes/nodes.h"
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
    ft__arg_value(&l, &call->input[0]);
    ft__arg_buffer(&l, blocks);
    ft__arg_int(&l, s.rows);
    ft__arg_int(&l, s.channels);
    ft__arg_int(&l, s.block);
    ft__go_grid(&l, s.channels, s.blocks, 1, 64, 1);
}

static void ft__cl_norm_statistics(const ft__call *call, cl_mem blocks)
{
    ft__norm_size s = ft__norm_size_of(&call->input[0]);
    const ft_batch_norm_options *o = &call->node->options.batch_norm;
    int access = call->training ? FT__READ | FT__WRITE : FT__READ;
    ft__launch l = ft__start(call->context, "norm_statistics");
    ft__arg_buffer(&l, blocks);
    ft__arg_memory(&l, call->saved, 2 * s.channels, FT__WRITE);
    ft__arg_memory(&l, call->input[3].value, s.channels, access);
    ft__arg_memory(&l, call->input[4].value, s.channels, access);
    ft__arg_int(&l, s.rows);
    ft__arg_int(&l, s.channels);
    ft__arg_int(&l, s.block);
    ft__arg_int(&l, call->training);
    ft__arg_float(&l, o->momentum != 0 ? o->momentum : 0.1f);
    ft__arg_float(&l, o->eps != 0 ? o->eps : 1e-5f);
    ft__launch_kernel(&l, s.channels);
}

/* The arguments shared by the passes over the numbers. */
static void ft__arg_norm(ft__launch *l, const ft__call *call, bool backward)
{
    size_t channels = (size_t)call->input[0].shape.size[1];
    ft__arg_value(l, &call->input[0]);
    if (backward)
        ft__arg_memory(l, call->output.gradient, ft__count(&call->output), FT__READ);
    ft__arg_memory(l, call->saved, 2 * channels, FT__READ);
    ft__arg_value(l, &call->input[1]);
    ft__arg_value(l, &call->input[2]);
}

static void ft__cl_batch_norm_forward(const ft__call *call)
{
    size_t count = ft__count(&call->output);
    cl_mem blocks = ft__device_scratch(call->context, FT__SCRATCH_SUMS, ft__norm_room(call));
    ft__launch l;
    if (call->training) ft__cl_norm_blocks(call, blocks);
    ft__cl_norm_statistics(call, blocks);
    l = ft__start(call->context, "norm_apply");
    ft__arg_norm(&l, call, false);
    ft__arg_memory(&l, call->output.value, count, FT__WRITE);
    ft__arg_int(&l, count);
    ft__arg_int(&l, (size_t)call->input[0].shape.size[1]);
    ft__arg_activation(&l, call->fused, call->fused_options);
    ft__launch_kernel(&l, count);
}

static void ft__cl_norm_totals(const ft__call *call, cl_mem blocks, cl_mem terms)
{
    ft__norm_size s = ft__norm_size_of(&call->input[0]);
    float *dweight = ft__started(call, 1), *dbias = ft__started(call, 2);
    ft__launch l = ft__start(call->context, "norm_totals");
    ft__arg_buffer(&l, blocks);
    ft__arg_memory(&l, call->saved, 2 * s.channels, FT__READ);
    ft__arg_value(&l, &call->input[1]);
    ft__arg_memory(&l, dweight, s.channels, FT__READ | FT__WRITE);
    ft__arg_memory(&l, dbias, s.channels, FT__READ | FT__WRITE);
    ft__arg_buffer(&l, terms);
    ft__arg_int(&l, s.rows);
    ft__arg_int(&l, s.channels);
    ft__arg_int(&l, s.blocks);
    ft__arg_int(&l, call->training);
    ft__arg_int(&l, (dweight ? 1u : 0u) + (dbias ? 2u : 0u));
    ft__launch_kernel(&l, s.channels);
}

static void ft__cl_batch_norm_backward(const ft__call *call)
{
    ft__context *c = call->context;
    ft__norm_size s = ft__norm_size_of(&call->input[0]);
    size_t count = ft__count(&call->output), op = (size_t)ft__kernel_activation(call->fused);
    cl_mem blocks = ft__device_scratch(c, FT__SCRATCH_SUMS, ft__norm_room(call));
    cl_mem terms = ft__device_scratch(c, FT__SCRATCH_TERMS, 2 * s.channels * sizeof(float));
    ft__launch l = ft__start(c, "norm_sums");
    ft__arg_norm(&l, call, true);
    ft__arg_buffer(&l, blocks);
    ft__arg_int(&l, s.rows);
    ft__arg_int(&l, s.channels);
    ft__arg_int(&l, s.block);
    ft__arg_int(&l, op);
    ft__go_grid(&l, s.channels, s.blocks, 1, 64, 1);
    ft__cl_norm_totals(call, blocks, terms);
    if (!call->input[0].gradient) return;
    l = ft__start(c, "norm_back");
    ft__arg_norm(&l, call, true);
    ft__arg_buffer(&l, terms);
    ft__arg_gradient(&l, &call->input[0]);
    ft__arg_int(&l, count);
    ft__arg_int(&l, s.channels);
    ft__arg_int(&l, op);
    ft__arg_int(&l, call->input[0].fresh);
    ft__launch_kernel(&l, count);
}

FT__DEVICE_ROW(batch_norm, batch_norm)
#endif /* FINETUNE_OPENCL */
