#pragma once
#include "interface/operators.h"
#include "platform/context.h"
#include "nodes/nodes.h"
#include "operators/positions.h"
#include "operators/attention.h"
#include "devices/device.h"
#include "devices/opencl_memory.h"
#include "devices/opencl_kernels.h"
#include "devices/opencl_operators.h"
#include "devices/opencl_shapes.h"
#include "devices/opencl_sequences.h"

/* =============================================================================================
   [SECTION] devices/opencl_attention: OpenCL: attention
   ============================================================================================= */
#ifdef FINETUNE_OPENCL
typedef struct ft__kernel_attention { /* kernels.cl's struct attention, field by field */
    cl_int queries, keys, heads, shared, width, wide, causal, padded, all_queries, packed,
        documents;
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
    k.padded = a->lengths != NULL;
    k.all_queries = o->all_queries;
    k.packed = ft__is_packed(a->call->input, a->call->input_count);
    k.documents = a->positions != NULL;
    k.scale = a->scale;
    return k;
}

/* The arguments that all kernels begin with: q, k, v, lengths and positions. */
static ft__launch ft__cl_attention_start(const ft__attention *a, const char *name)
{
    ft__launch l = ft__start(a->call->context, name);
    ft__args(&l, "vvvRR", a->part[0], a->part[1], a->part[2],
             a->lengths ? a->lengths->value : NULL, a->samples,
             a->positions ? a->positions->value : NULL, a->samples * a->queries);
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
    const ft__tensor *q = a.part[0], *k = a.part[1], *v = a.part[2];
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

/* Dropout is left to the processor. */
static bool ft__attention_fits(const ft__call *call, int form)
{
    return form == call->context->device->usual_form
        && !(call->training && !call->node->frozen && call->node->options.attention.dropout > 0);
}

FT__DEVICE_ROW_OF(attention, attention, ft__attention_fits, NULL, NULL,
                  "8x12x64 8x12x64 8x12x64 heads=4 causal=1")

static void ft__cl_rotary_run(const ft__call *call, const float *from, float *to, bool back,
                              bool add)
{
    ft__rotary r = ft__rotary_of(call);
    size_t count = ft__count(&call->output);
    ft__run_kernel(call->context, "rotary", count, "RmnRnnnnifi", from, count, to, count,
                   add ? FT__READ | FT__WRITE : FT__WRITE, count, call->saved,
                   2 * r.pairs * r.angles, r.angles, r.pairs, r.heads * r.width, r.width,
                   call->node->options.rotary.interleaved, back ? -1.0 : 1.0, add);
}

/* The host makes the table, so that its angles are the same. */
static void ft__cl_rotary_forward(const ft__call *call)
{
    ft__context *c = call->context;
    if (call->input_count > 1)
        ft__to_host(c, call->input[1].value, ft__count(&call->input[1]) * sizeof(float));
    if (!ft__ok(c)) return;
    ft__rotary_table(call);
    ft__host_wrote(c, call->saved);
    ft__cl_rotary_run(call, call->input[0].value, call->output.value, false, false);
}

static void ft__cl_rotary_backward(const ft__call *call)
{
    if (call->input[0].gradient)
        ft__cl_rotary_run(call, call->output.gradient, call->input[0].gradient, true,
                          !call->input[0].fresh);
}

FT__DEVICE_ROW(rotary, rotary, "8x12x64 heads=4")

static const float *ft__given_positions(const ft__call *call)
{
    return call->input_count > 2 ? call->input[2].value : NULL;
}

static void ft__cl_add_positions_forward(const ft__call *call)
{
    const ft__tensor *x = &call->input[0], *weight = &call->input[1];
    size_t count = ft__count(x), width = (size_t)x->shape.size[2];
    ft__run_kernel(call->context, "add_positions", count, "vvRynnnnii", x, weight,
                   ft__given_positions(call), count / width, &call->output, count, width,
                   (size_t)x->shape.size[1], (size_t)weight->shape.size[0],
                   call->node->options.add_positions.first, call->input_count > 2);
}

static void ft__cl_add_positions_backward(const ft__call *call)
{
    const ft__tensor *x = &call->input[0], *weight = &call->input[1];
    size_t count = ft__count(x), width = (size_t)x->shape.size[2];
    float *dweight = ft__started(call, 1);
    ft__grid grid;
    int d;
    if (dweight)
        ft__run_kernel(call->context, "add_positions_weight", ft__count(weight), "dRAnnnnii",
                       &call->output, ft__given_positions(call), count / width, dweight,
                       ft__count(weight), ft__count(weight), width, (size_t)x->shape.size[1],
                       count / width, call->node->options.add_positions.first,
                       call->input_count > 2);
    if (!x->gradient || x->gradient == call->output.gradient) return;
    for (d = 0; d < 6; ++d) grid.size[d] = grid.step[d] = 1;
    grid.size[5] = (cl_int)count;
    ft__cl_permute(call->context, &grid, call->output.gradient, x->gradient, count, false,
                   !x->fresh);
}

static int ft__positions_below(const ft__call *call) { return call->input[1].shape.size[0]; }

FT__DEVICE_ROW_OF(add_positions, add_positions, NULL, NULL, ft__positions_below, "8x12x64 12x64")
#endif /* FINETUNE_OPENCL */
