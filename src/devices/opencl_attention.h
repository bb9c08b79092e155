#pragma once
#include "interface/types.h"
#include "nodes/nodes.h"
#include "operators/attention.h"
#include "devices/opencl_memory.h"
#include "devices/opencl_kernels.h"

/* =============================================================================================
   [SECTION] devices/opencl_attention: OpenCL: attention
   ============================================================================================= */
#ifdef FINETUNE_OPENCL
typedef struct ft__kernel_attention { /* kernels.cl's struct attention, field by field */
    cl_int queries, keys, heads, shared, width, wide, causal, padded, all_queries;
    cl_float scale;
} ft__kernel_attention;

static ft__kernel_attention ft__kernel_attention_of(const ft__attention *a)
{
    const ft_attention_options *o = &a->call->node->options.attention;
    ft__kernel_attention k;
    k.queries = (cl_int)a->queries;
    k.keys = (cl_int)a->keys;
    k.heads = (cl_int)a->heads;
    k.shared = (cl_int)a->shared;
    k.width = (cl_int)a->width;
    k.wide = (cl_int)a->value_width;
    k.causal = o->causal;
    k.padded = a->call->input_count > 3;
    k.all_queries = o->all_queries;
    k.scale = a->scale;
    return k;
}

/* The arguments that all kernels begin with: q, k, v and lengths. */
static ft__launch ft__cl_attention_start(const ft__attention *a, const char *name)
{
    const ft__tensor *x = a->call->input;
    ft__launch l = ft__start(a->call->context, name);
    ft__args(&l, "vvvR", &x[0], &x[1], &x[2], a->call->input_count > 3 ? x[3].value : NULL,
             a->samples);
    return l;
}

static void ft__cl_attention_forward(const ft__call *call)
{
    ft__attention a = ft__attention_of(call);
    ft__kernel_attention sizes = ft__kernel_attention_of(&a);
    size_t rows = a.samples * a.heads * a.queries;
    ft__launch l = ft__cl_attention_start(&a, "attention_forward");
    ft__args(&l, "yWs", &call->output, call->saved, rows, &sizes, sizeof sizes);
    ft__go_grid(&l, 16, a.queries, a.samples * a.heads, 16, 16);
}

static void ft__cl_attention_backward(const ft__call *call)
{
    ft__attention a = ft__attention_of(call);
    ft__kernel_attention sizes = ft__kernel_attention_of(&a);
    size_t rows = a.samples * a.heads * a.queries;
    const ft__tensor *q = &call->input[0], *k = &call->input[1], *v = &call->input[2];
    cl_mem mean = ft__device_scratch(call->context, FT__SCRATCH_SUMS, rows * sizeof(float));
    ft__launch l;
    ft__run_kernel(call->context, "attention_mean", rows, "vdbns", &call->output, &call->output,
                   mean, rows, &sizes, sizeof sizes);
    if (k->gradient || v->gradient) {
        l = ft__cl_attention_start(&a, "attention_keys");
        ft__args(&l, "dRbggsii", &call->output, call->saved, rows, mean, k, v, &sizes,
                 sizeof sizes, (k->gradient ? 1 : 0) + (v->gradient ? 2 : 0),
                 (k->gradient && k->fresh ? 1 : 0) + (v->gradient && v->fresh ? 2 : 0));
        ft__go_grid(&l, 16, a.keys, a.samples * a.heads / a.shared, 16, 16);
    }
    if (!q->gradient) return;
    l = ft__cl_attention_start(&a, "attention_queries");
    ft__args(&l, "dRbgsi", &call->output, call->saved, rows, mean, q, &sizes, sizeof sizes,
             q->fresh);
    ft__go_grid(&l, 16, a.queries, a.samples * a.heads, 16, 16);
}

FT__DEVICE_ROW(attention, attention)
#endif /* FINETUNE_OPENCL */
