#pragma once
#include "interface/types.h"
#include "platform/context.h"
#include "nodes/nodes.h"
#include "operators/common.h"
#include "operators/pooling.h"
#include "operators/arithmetic.h"
#include "operators/pad_and_slice.h"
#include "devices/opencl_memory.h"
#include "devices/opencl_kernels.h"
#include "devices/opencl_operators.h"

/* =============================================================================================
   [SECTION] devices/opencl_shapes: OpenCL: pooling, shapes, add and mul
   ============================================================================================= */
#ifdef FINETUNE_OPENCL
/* ---- Pooling ---- */

typedef struct ft__pool_sizes { /* kernels.cl's struct pool, field by field */
    cl_int pictures, channels, in_y, in_x, out_y, out_x, kernel_y, kernel_x, stride_y, stride_x;
    cl_int top, left, bottom, right, inside, fresh;
} ft__pool_sizes;

static ft__pool_sizes ft__pool_sizes_of(const ft__call *call)
{
    const ft_pool2d_options *o = &call->node->options.pool2d;
    const int *x = call->input[0].shape.size;
    ft__pool_sizes p;
    memset(&p, 0, sizeof p);
    p.pictures = x[0];
    p.channels = x[1];
    p.in_y = p.kernel_y = p.stride_y = x[2]; /* a global pool is one window */
    p.in_x = p.kernel_x = p.stride_x = x[3];
    p.out_y = p.out_x = 1;
    p.fresh = call->input[0].fresh;
    if (o->kernel[0]) {
        ft__window h = ft__pool_window(o, &call->input[0].shape, 0);
        ft__window w = ft__pool_window(o, &call->input[0].shape, 1);
        p.out_y = h.out;
        p.out_x = w.out;
        p.kernel_y = h.kernel;
        p.kernel_x = w.kernel;
        p.stride_y = h.stride;
        p.stride_x = w.stride;
        p.top = h.before;
        p.left = w.before;
        p.bottom = h.after;
        p.right = w.after;
        p.inside = o->exclude_padding || o->same;
    }
    return p;
}

static void ft__cl_pool_forward(const ft__call *call, bool largest)
{
    ft__pool_sizes p = ft__pool_sizes_of(call);
    size_t count = ft__count(&call->output);
    ft__launch l = ft__start(call->context, largest ? "max_pool_forward" : "avg_pool_forward");
    ft__arg_value(&l, &call->input[0]);
    ft__arg_memory(&l, call->output.value, count, FT__WRITE);
    if (largest) ft__arg_memory(&l, call->saved, count, FT__WRITE);
    ft__arg(&l, &p, sizeof p);
    ft__launch_kernel(&l, count);
}

static void ft__cl_pool_backward(const ft__call *call, bool largest)
{
    ft__pool_sizes p = ft__pool_sizes_of(call);
    ft__launch l = ft__start(call->context, "pool_backward");
    if (!call->input[0].gradient) return;
    ft__arg_memory(&l, call->output.gradient, ft__count(&call->output), FT__READ);
    ft__arg_memory(&l, largest ? call->saved : NULL, ft__count(&call->output), FT__READ);
    ft__arg_gradient(&l, &call->input[0]);
    ft__arg(&l, &p, sizeof p);
    ft__arg_int(&l, largest);
    ft__launch_kernel(&l, ft__count(&call->input[0]));
}

static void ft__cl_max_pool_forward(const ft__call *call) { ft__cl_pool_forward(call, true); }
static void ft__cl_max_pool_backward(const ft__call *call) { ft__cl_pool_backward(call, true); }

FT__DEVICE_ROW(max_pool2d, max_pool)
FT__DEVICE_ROW(global_max_pool, max_pool)
static void ft__cl_avg_pool_forward(const ft__call *call) { ft__cl_pool_forward(call, false); }
static void ft__cl_avg_pool_backward(const ft__call *call) { ft__cl_pool_backward(call, false); }

FT__DEVICE_ROW(avg_pool2d, avg_pool)
FT__DEVICE_ROW(global_avg_pool, avg_pool)

/* ---- Shapes ---- */

static void ft__cl_reshape_run(const ft__call *call, bool backward)
{
    const ft__tensor *x = &call->input[0], *y = &call->output;
    const ft__tensor *from = backward ? y : x, *to = backward ? x : y;
    size_t count = ft__count(y), i;
    bool add = backward && !x->fresh;
    ft__launch l = ft__start(call->context, "reshape");
    if (backward && !x->gradient) return;
    ft__arg_memory(&l, backward ? y->gradient : x->value, count, FT__READ);
    ft__arg_memory(&l, backward ? x->gradient : y->value, count,
                   add ? FT__READ | FT__WRITE : FT__WRITE);
    ft__arg_int(&l, count);
    ft__arg_int(&l, count / (size_t)x->shape.size[0]);
    for (i = 0; i < 2; ++i) {
        const ft__tensor *t = i ? to : from;
        ft__arg_int(&l, t->channels_last ? (size_t)t->shape.size[2] * (size_t)t->shape.size[3]
                                          : count);
        ft__arg_int(&l, t->channels_last ? (size_t)t->shape.size[1] : 1);
    }
    ft__arg_int(&l, add);
    ft__launch_kernel(&l, count);
}

static void ft__cl_reshape_forward(const ft__call *call) { ft__cl_reshape_run(call, false); }
static void ft__cl_reshape_backward(const ft__call *call) { ft__cl_reshape_run(call, true); }

FT__DEVICE_ROW(flatten, reshape)
FT__DEVICE_ROW(reshape, reshape)

static void ft__cl_concat_run(const ft__call *call, bool backward)
{
    int axis = ft__memory_axis(&call->output, call->node->options.concat.axis), i;
    ft_shape shape = ft__memory_shape(&call->output);
    ft__axis whole = ft__split_axis(&shape, axis);
    size_t offset = 0, total = ft__count(&call->output);
    for (i = 0; i < call->input_count; ++i) {
        const ft__tensor *x = &call->input[i];
        ft_shape part = ft__memory_shape(x);
        size_t block = (size_t)part.size[axis] * whole.inner, step = whole.size * whole.inner;
        bool add = backward && !x->fresh;
        ft__launch l;
        if (!backward || x->gradient) {
            l = ft__start(call->context, "copy_blocks");
            ft__arg_memory(&l, backward ? call->output.gradient : x->value,
                           backward ? total : ft__count(x), FT__READ);
            ft__arg_memory(&l, backward ? x->gradient : call->output.value,
                           backward ? ft__count(x) : total,
                           add ? FT__READ | FT__WRITE : FT__WRITE);
            ft__arg_int(&l, ft__count(x));
            ft__arg_int(&l, block);
            ft__arg_int(&l, backward ? step : block);
            ft__arg_int(&l, backward ? offset : 0);
            ft__arg_int(&l, backward ? block : step);
            ft__arg_int(&l, backward ? 0 : offset);
            ft__arg_int(&l, add);
            ft__launch_kernel(&l, ft__count(x));
        }
        offset += block;
    }
}

static void ft__cl_concat_forward(const ft__call *call) { ft__cl_concat_run(call, false); }
static void ft__cl_concat_backward(const ft__call *call) { ft__cl_concat_run(call, true); }

FT__DEVICE_ROW(concat, concat)

typedef struct ft__kernel_embedding { cl_int inner[6], outer[6], start[6], step[6]; }
    ft__kernel_embedding;

static void ft__cl_embed(const ft__call *call, const ft__placement *e, bool to_large,
                         const float *from, size_t from_count, float *to, size_t to_count,
                         bool add, bool partly)
{
    size_t count = ft__shape_count(&e->inner);
    ft__kernel_embedding k;
    ft__launch l;
    int d;
    for (d = 0; d < 6; ++d) {
        k.inner[d] = d < e->inner.rank ? e->inner.size[d] : 1;
        k.outer[d] = d < e->inner.rank ? e->outer.size[d] : 1;
        k.start[d] = d < e->inner.rank ? e->start[d] : 0;
        k.step[d] = d < e->inner.rank ? e->step[d] : 1;
    }
    if (partly && !add) ft__device_fill(call->context, to, to_count, 0);
    l = ft__start(call->context, "embed");
    ft__arg_memory(&l, from, from_count, FT__READ);
    ft__arg_memory(&l, to, to_count, add || partly ? FT__READ | FT__WRITE : FT__WRITE);
    ft__arg_int(&l, count);
    ft__arg(&l, &k, sizeof k);
    ft__arg_int(&l, to_large);
    ft__arg_int(&l, add);
    ft__launch_kernel(&l, count);
}

/* Pad and slice, forward and backward: of x and y one is the smaller and one the larger tensor. */
static void ft__cl_embed_run(const ft__call *call, const ft__placement *e, bool x_is_small,
                             bool backward)
{
    const ft__tensor *x = &call->input[0], *y = &call->output;
    bool to_large = x_is_small != backward;
    if (backward && !x->gradient) return;
    if (backward) ft__cl_embed(call, e, to_large, y->gradient, ft__count(y), x->gradient,
                               ft__count(x), !x->fresh, to_large);
    else ft__cl_embed(call, e, to_large, x->value, ft__count(x), y->value, ft__count(y), false,
                      to_large);
}

static void ft__cl_pad_forward(const ft__call *call)
{
    ft__placement e = ft__pad_embedding(call);
    ft__cl_embed_run(call, &e, true, false);
}

static void ft__cl_pad_backward(const ft__call *call)
{
    ft__placement e = ft__pad_embedding(call);
    ft__cl_embed_run(call, &e, true, true);
}

FT__DEVICE_ROW(pad, pad)

static void ft__cl_slice_forward(const ft__call *call)
{
    ft__placement e = ft__slice_embedding(call);
    ft__cl_embed_run(call, &e, false, false);
}

static void ft__cl_slice_backward(const ft__call *call)
{
    ft__placement e = ft__slice_embedding(call);
    ft__cl_embed_run(call, &e, false, true);
}

FT__DEVICE_ROW(slice, slice)

/* ---- add and mul ---- */

typedef struct ft__grid { cl_int size[6], step[6]; } ft__grid;

static ft__grid ft__grid_of(const ft__call *call)
{
    ft__strides s = ft__broadcast_strides(&call->input[0], &call->input[1]);
    ft__grid grid;
    int d;
    for (d = 0; d < 6; ++d) {
        grid.size[d] = d < s.rank ? (cl_int)s.size[d] : 1;
        grid.step[d] = d < s.rank ? (cl_int)s.step[d] : 0;
    }
    return grid;
}

static void ft__cl_broadcast_forward(const ft__call *call, bool product)
{
    ft__grid grid = ft__grid_of(call);
    size_t count = ft__count(&call->output);
    ft__launch l = ft__start(call->context, "broadcast_forward");
    ft__arg_value(&l, &call->input[0]);
    ft__arg_value(&l, &call->input[1]);
    ft__arg_memory(&l, call->output.value, count, FT__WRITE);
    ft__arg_int(&l, count);
    ft__arg(&l, &grid, sizeof grid);
    ft__arg_int(&l, product);
    ft__arg_activation(&l, call->fused, call->fused_options);
    ft__launch_kernel(&l, count);
}

static void ft__cl_broadcast_left(const ft__call *call, bool product)
{
    ft__grid grid = ft__grid_of(call);
    float *da = call->input[0].gradient;
    size_t count = ft__count(&call->output);
    ft__launch l;
    if (!da || da == call->output.gradient) return; /* the gradient is there already */
    l = ft__start(call->context, "broadcast_left");
    ft__arg_memory(&l, product ? call->input[1].value : NULL, ft__count(&call->input[1]),
                   FT__READ);
    ft__arg_memory(&l, call->output.gradient, count, FT__READ);
    ft__arg_gradient(&l, &call->input[0]);
    ft__arg_int(&l, count);
    ft__arg(&l, &grid, sizeof grid);
    ft__arg_int(&l, product);
    ft__arg_int(&l, call->input[0].fresh);
    ft__launch_kernel(&l, count);
}

static void ft__cl_broadcast_backward(const ft__call *call, bool product)
{
    ft__grid grid = ft__grid_of(call);
    size_t count = ft__count(&call->output), count_b = ft__count(&call->input[1]);
    ft__launch l;
    ft__cl_broadcast_left(call, product);
    if (!call->input[1].gradient) return;
    l = ft__start(call->context, "broadcast_right");
    ft__arg_memory(&l, product ? call->input[0].value : NULL, count, FT__READ);
    ft__arg_memory(&l, call->output.gradient, count, FT__READ);
    ft__arg_gradient(&l, &call->input[1]);
    ft__arg_int(&l, count_b);
    ft__arg(&l, &grid, sizeof grid);
    ft__arg_int(&l, count / count_b);
    ft__arg_int(&l, product);
    ft__arg_int(&l, call->input[1].fresh);
    ft__launch_kernel(&l, count_b);
}

static void ft__cl_add_forward(const ft__call *call) { ft__cl_broadcast_forward(call, false); }
static void ft__cl_add_backward(const ft__call *call) { ft__cl_broadcast_backward(call, false); }
static void ft__cl_mul_forward(const ft__call *call) { ft__cl_broadcast_forward(call, true); }
static void ft__cl_mul_backward(const ft__call *call) { ft__cl_broadcast_backward(call, true); }

FT__DEVICE_ROW(add, add)
FT__DEVICE_ROW(mul, mul)

#endif /* FINETUNE_OPENCL */
