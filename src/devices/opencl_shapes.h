#pragma once
#include "interface/requirements.h"
#include "interface/types.h"
#include "interface/operators.h"
#include "platform/context.h"
#include "nodes/nodes.h"
#include "operators/table.h"
#include "operators/common.h"
#include "operators/more_activations.h"
#include "operators/pooling.h"
#include "operators/arithmetic.h"
#include "operators/reduce.h"
#include "operators/pad_and_slice.h"
#include "operators/rows.h"
#include "devices/opencl_memory.h"
#include "devices/opencl_kernels.h"
#include "devices/opencl_operators.h"

/* =============================================================================================
   [SECTION] devices/opencl_shapes: OpenCL: pooling, shapes, arithmetic
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
    ft__args(&l, "vy", &call->input[0], &call->output);
    if (largest) ft__args(&l, "W", call->saved, count);
    ft__args(&l, "s", &p, sizeof p);
    ft__launch_kernel(&l, count);
}

static void ft__cl_pool_backward(const ft__call *call, bool largest)
{
    ft__pool_sizes p = ft__pool_sizes_of(call);
    ft__launch l = ft__start(call->context, "pool_backward");
    if (!call->input[0].gradient) return;
    ft__args(&l, "dRgsi", &call->output, largest ? call->saved : NULL, ft__count(&call->output),
             &call->input[0], &p, sizeof p, largest);
    ft__launch_kernel(&l, ft__count(&call->input[0]));
}

static void ft__cl_max_pool_forward(const ft__call *call) { ft__cl_pool_forward(call, true); }
static void ft__cl_max_pool_backward(const ft__call *call) { ft__cl_pool_backward(call, true); }

FT__DEVICE_ROW(max_pool2d, max_pool, "8x64x32x32 kernel=3 stride=2")
FT__DEVICE_ROW(global_max_pool, max_pool, "8x64x15x15")
static void ft__cl_avg_pool_forward(const ft__call *call) { ft__cl_pool_forward(call, false); }
static void ft__cl_avg_pool_backward(const ft__call *call) { ft__cl_pool_backward(call, false); }

FT__DEVICE_ROW(avg_pool2d, avg_pool, "8x64x32x32 kernel=3 stride=2")
FT__DEVICE_ROW(global_avg_pool, avg_pool, "8x64x15x15")

/* ---- Shapes ---- */

static void ft__cl_reshape_run(const ft__call *call, bool backward)
{
    const ft__tensor *x = &call->input[0], *y = &call->output;
    const ft__tensor *from = backward ? y : x, *to = backward ? x : y;
    size_t count = ft__count(y), i;
    bool add = backward && !x->fresh;
    ft__launch l = ft__start(call->context, "reshape");
    if (backward && !x->gradient) return;
    ft__args(&l, "Rmnn", backward ? y->gradient : x->value, count,
             backward ? x->gradient : y->value, count, add ? FT__READ | FT__WRITE : FT__WRITE,
             count, count / (size_t)x->shape.size[0]);
    for (i = 0; i < 2; ++i) {
        const ft__tensor *t = i ? to : from;
        ft__args(&l, "nn",
                 t->channels_last ? (size_t)t->shape.size[2] * (size_t)t->shape.size[3] : count,
                 t->channels_last ? (size_t)t->shape.size[1] : 1);
    }
    ft__args(&l, "i", add);
    ft__launch_kernel(&l, count);
}

static void ft__cl_reshape_forward(const ft__call *call) { ft__cl_reshape_run(call, false); }
static void ft__cl_reshape_backward(const ft__call *call) { ft__cl_reshape_run(call, true); }

FT__DEVICE_ROW(flatten, reshape, "8x64x15x15")
FT__DEVICE_ROW(reshape, reshape, "8x64x15x15 rank=2 size=64,225")

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
        if (!backward || x->gradient) {
            ft__run_kernel(call->context, "copy_blocks", ft__count(x), "Rmnnnnnni",
                           backward ? call->output.gradient : x->value,
                           backward ? total : ft__count(x),
                           backward ? x->gradient : call->output.value,
                           backward ? ft__count(x) : total, add ? FT__READ | FT__WRITE : FT__WRITE,
                           ft__count(x), block, backward ? step : block, backward ? offset : 0,
                           backward ? block : step, backward ? 0 : offset, add);
        }
        offset += block;
    }
}

static void ft__cl_concat_forward(const ft__call *call) { ft__cl_concat_run(call, false); }
static void ft__cl_concat_backward(const ft__call *call) { ft__cl_concat_run(call, true); }

FT__DEVICE_ROW(concat, concat, "8x64x32x32 8x64x32x32 axis=1")

typedef struct ft__kernel_embedding { cl_int inner[6], outer[6], start[6], step[6]; }
    ft__kernel_embedding;

static void ft__cl_embed(const ft__call *call, const ft__placement *e, bool to_large,
                         const float *from, size_t from_count, float *to, size_t to_count,
                         bool add, bool partly)
{
    size_t count = ft__shape_count(&e->inner);
    ft__kernel_embedding k;
    int d;
    for (d = 0; d < 6; ++d) {
        k.inner[d] = d < e->inner.rank ? e->inner.size[d] : 1;
        k.outer[d] = d < e->inner.rank ? e->outer.size[d] : 1;
        k.start[d] = d < e->inner.rank ? e->start[d] : 0;
        k.step[d] = d < e->inner.rank ? e->step[d] : 1;
    }
    if (partly && !add) ft__cl_fill(call->context, to, to_count, 0);
    ft__run_kernel(call->context, "embed", count, "Rmnsii", from, from_count, to, to_count,
                   add || partly ? FT__READ | FT__WRITE : FT__WRITE, count, &k, sizeof k, to_large,
                   add);
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

/* Borders of other numbers than zeros are left to the processor. */
static bool ft__pad_fits(const ft__call *call, int form)
{
    return form == call->context->device->usual_form && ft__pads_zeros(call);
}

FT__DEVICE_ROW_OF(pad, pad, ft__pad_fits, NULL, NULL, "8x64x32x32 before=0,1 after=0,1")

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

FT__DEVICE_ROW(slice, slice, "8x66x32x32 stop=0,64")

/* ---- Arithmetic of several tensors ---- */

typedef struct ft__grid { cl_int size[6], step[6]; } ft__grid;

static ft__grid ft__grid_of_strides(const ft__strides *s)
{
    ft__grid grid;
    int d;
    for (d = 0; d < 6; ++d) {
        grid.size[d] = d < s->rank ? (cl_int)s->size[d] : 1;
        grid.step[d] = d < s->rank ? (cl_int)s->step[d] : 0;
    }
    return grid;
}

/* The output's sizes, and an input's stride along each; a first size of 0 if the input lies in
   memory as the output does. */
static ft__grid ft__grid_of(const ft__call *call, int input)
{
    ft__strides s = ft__broadcast_strides(&call->output, &call->input[input]);
    ft__grid grid = ft__grid_of_strides(&s);
    bool repeated;
    if (ft__broadcast_stretch(&s, &repeated) == ft__count(&call->output) && !repeated)
        grid.size[0] = 0;
    return grid;
}

static void ft__arg_terms(ft__launch *l, const ft__call *call)
{
    int i;
    for (i = 0; i < call->input_count; ++i) ft__args(l, "v", &call->input[i]);
}

static void ft__arg_grids(ft__launch *l, const ft__call *call)
{
    int i;
    for (i = 0; i < call->input_count; ++i) {
        ft__grid grid = ft__grid_of(call, i);
        ft__args(l, "s", &grid, sizeof grid);
    }
}

/* The operator's number in kernels.cl. */
static size_t ft__kernel_pair(const ft__call *call)
{
#define FT__CL_PAIR_NUMBER(name, value, da, db) FT__OP_##name,
    static const int pairs[] = {FINETUNE_PAIRS(FT__CL_PAIR_NUMBER)};
    size_t i = 0;
    while (pairs[i] != call->node->op) ++i;
    return i;
}

static void ft__cl_pair_forward(const ft__call *call)
{
    size_t count = ft__count(&call->output);
    ft__launch l = ft__start(call->context, "pair_forward");
    ft__arg_terms(&l, call);
    ft__args(&l, "yn", &call->output, count);
    ft__arg_grids(&l, call);
    ft__args(&l, "nif", ft__kernel_pair(call), ft__kernel_activation(call->fused),
             ft__kernel_option(call->fused, call->fused_options));
    ft__launch_kernel(&l, count);
}

/* The gradient of one input, of which each number may be used `repeats` times. where needs only its
   condition for it. */
static void ft__cl_terms_gradient(const ft__call *call, const char *kernel, int input)
{
    const ft__tensor *x = &call->input[input];
    size_t count = ft__count(x), repeats = ft__count(&call->output) / count;
    ft__launch l;
    if (!x->gradient || x->gradient == call->output.gradient) return; /* it is there already */
    l = ft__start(call->context, kernel);
    if (call->input_count == 2) ft__arg_terms(&l, call);
    else ft__args(&l, "v", &call->input[0]);
    ft__args(&l, "dgn", &call->output, x, count);
    ft__arg_grids(&l, call);
    ft__args(&l, "nn", (size_t)input, repeats);
    if (call->input_count == 2) ft__args(&l, "n", ft__kernel_pair(call));
    ft__args(&l, "i", x->fresh);
    ft__launch_kernel(&l, count);
}

static void ft__cl_pair_backward(const ft__call *call)
{
    ft__cl_terms_gradient(call, "pair_backward", 0);
    ft__cl_terms_gradient(call, "pair_backward", 1);
}

static void ft__cl_where_forward(const ft__call *call)
{
    size_t count = ft__count(&call->output);
    ft__launch l = ft__start(call->context, "where_forward");
    ft__arg_terms(&l, call);
    ft__args(&l, "yn", &call->output, count);
    ft__arg_grids(&l, call);
    ft__launch_kernel(&l, count);
}

static void ft__cl_where_backward(const ft__call *call)
{
    ft__cl_terms_gradient(call, "where_backward", 1);
    ft__cl_terms_gradient(call, "where_backward", 2);
}

#define FT__CL_PAIR_ROW(name, value, da, db)                                                      \
    static const ft__device_row ft__cl_row_##name = {ft__cl_pair_forward, ft__cl_pair_backward,   \
                                                     NULL, NULL, NULL,                            \
                                                     "8x64x16x16 8x64x16x16"};
FINETUNE_PAIRS(FT__CL_PAIR_ROW)
#undef FINETUNE_PAIRS
FT__DEVICE_ROW(where, where, "8x64 8x64 8x64")

/* ---- Functions of one tensor ---- */

/* The operator's number in kernels.cl, and its options: the first two fields of its row, or
   hardtanh's bounds. */
static void ft__arg_unary(ft__launch *l, const ft__call *call)
{
#define FT__CL_UNARY_NUMBER(name, value, slope) FT__OP_##name,
    static const int unaries[] = {FINETUNE_UNARIES(FT__CL_UNARY_NUMBER)};
    const ft__field *field = ft__rows[call->node->op]->fields;
    float options[2] = {0, 0};
    size_t number = 0;
    int i;
    while (unaries[number] != call->node->op) ++number;
    for (i = 0; i < 2 && field[i].name; ++i)
        memcpy(&options[i], (const char *)&call->node->options + field[i].offset,
               sizeof options[i]);
    if (ft__rows[call->node->op]->fields == ft__hardtanh_fields) {
        options[0] = ft__hardtanh_low(&call->node->options);
        options[1] = ft__hardtanh_high(&call->node->options);
    }
    ft__args(l, "nff", number, options[0], options[1]);
}

static void ft__cl_unary_forward(const ft__call *call)
{
    size_t count = ft__count(&call->output);
    ft__launch l = ft__start(call->context, "unary_forward");
    ft__args(&l, "vyn", &call->input[0], &call->output, count);
    ft__arg_unary(&l, call);
    ft__launch_kernel(&l, count);
}

static void ft__cl_unary_backward(const ft__call *call)
{
    const ft__tensor *x = &call->input[0];
    size_t count = ft__count(x);
    bool in_place = x->gradient == call->output.gradient;
    bool of_x = ft__is(call->node, FT__READS_X);
    ft__launch l = ft__start(call->context, "unary_backward");
    if (!x->gradient) return;
    ft__args(&l, "vRmn", of_x ? x : &call->output, call->output.gradient, count, x->gradient, count,
             x->fresh && !in_place ? FT__WRITE : FT__READ | FT__WRITE, count);
    ft__arg_unary(&l, call);
    ft__args(&l, "i", x->fresh);
    ft__launch_kernel(&l, count);
}

#define FT__CL_UNARY_ROW(name, value, slope)                                                      \
    FT__DEVICE_ROW(name, unary, "8x64 exponent=3 scale=2 max=1")
FINETUNE_UNARIES(FT__CL_UNARY_ROW)
#undef FINETUNE_UNARIES

/* ---- mean, sum, amax ---- */

enum { FT__SUM_OF = 0, FT__LARGEST_OF = 1, FT__TIES_OF = 2 }; /* as in kernels.cl */

/* Reduces to `to`, each result divided by `divisor`: in parts of 1,024 numbers, which are put
   together after that. */
static void ft__cl_reduce(const ft__call *call, int how, size_t divisor, cl_mem to)
{
    ft__context *c = call->context;
    ft__reduction r = ft__reduction_of(call);
    ft__grid stay = ft__grid_of_strides(&r.stay), gone = ft__grid_of_strides(&r.gone);
    size_t count = ft__count(&call->output), length = 1024, parts = ft__blocks_of(r.count, length);
    cl_mem partial = ft__device_scratch(c, FT__SCRATCH_SUMS, count * parts * sizeof(float));
    ft__run_kernel(c, "reduce_parts", count * parts, "vRbnssnnnn", &call->input[0],
                   how == FT__TIES_OF ? call->output.value : NULL, count, partial, count * parts,
                   &stay, sizeof stay, &gone, sizeof gone, r.count, parts, length, (size_t)how);
    ft__run_kernel(c, "reduce_end", count, "bbnnfn", partial, to, count, parts, (float)divisor,
                   (size_t)how);
}

/* How many numbers of x make one of y. */
static size_t ft__reduced_count(const ft__call *call)
{
    return ft__count(&call->input[0]) / ft__count(&call->output);
}

static void ft__cl_reduce_forward(const ft__call *call, int how, size_t divisor)
{
    ft__cl_reduce(call, how, divisor, ft__cl_numbers(call->context, call->output.value,
                                                     ft__count(&call->output), FT__WRITE));
}

/* The sizes of x in memory, and the steps in y of the number that each belongs to. */
static ft__strides ft__reduction_back(const ft__call *call)
{
    const ft__tensor *x = &call->input[0];
    unsigned axes = ft__reduced_axes(call->node, x->shape.rank);
    size_t steps[FINETUNE_MAX_RANK];
    ft__strides s;
    int d, from = 0;
    memset(&s, 0, sizeof s);
    s.rank = x->shape.rank;
    ft__memory_steps(&call->output, steps);
    for (d = 0; d < s.rank; ++d) {
        int at = ft__memory_axis(x, d);
        bool gone = axes >> d & 1;
        s.size[at] = (size_t)x->shape.size[d];
        if (!gone) s.step[at] = steps[from];
        from += !gone || call->node->options.reduce.keep;
    }
    return s;
}

static void ft__cl_reduce_backward(const ft__call *call, bool largest, size_t divisor)
{
    const ft__tensor *x = &call->input[0];
    ft__strides back = ft__reduction_back(call);
    ft__grid grid = ft__grid_of_strides(&back);
    size_t count = ft__count(x), results = ft__count(&call->output);
    cl_mem ties;
    if (!x->gradient) return;
    ties = ft__device_scratch(call->context, FT__SCRATCH_TERMS, results * sizeof(float));
    if (largest) ft__cl_reduce(call, FT__TIES_OF, 1, ties);
    ft__run_kernel(call->context, "reduce_backward", count, "RRbRgnsfii", largest ? x->value : NULL,
                   count, largest ? call->output.value : NULL, results, ties, call->output.gradient,
                   results, x, count, &grid, sizeof grid, (float)divisor, largest, x->fresh);
}

static void ft__cl_mean_forward(const ft__call *call)
{
    ft__cl_reduce_forward(call, FT__SUM_OF, ft__reduced_count(call));
}

static void ft__cl_mean_backward(const ft__call *call)
{
    ft__cl_reduce_backward(call, false, ft__reduced_count(call));
}

static void ft__cl_sum_forward(const ft__call *call) { ft__cl_reduce_forward(call, FT__SUM_OF, 1); }
static void ft__cl_sum_backward(const ft__call *call) { ft__cl_reduce_backward(call, false, 1); }

static void ft__cl_amax_forward(const ft__call *call)
{
    ft__cl_reduce_forward(call, FT__LARGEST_OF, 1);
}

static void ft__cl_amax_backward(const ft__call *call) { ft__cl_reduce_backward(call, true, 1); }

FT__DEVICE_ROW(mean, mean, "8x64 axes=-1 count=1 keep=1")
FT__DEVICE_ROW(sum, sum, "8x64 axes=-1 count=1 keep=1")
FT__DEVICE_ROW(amax, amax, "8x64 axes=-1 count=1 keep=1")

FT__NO_KERNELS(custom)
FT__NO_KERNELS(resize)
FT__NO_KERNELS(conv_transpose2d)
FT__NO_KERNELS(amin)
FT__NO_KERNELS(prod)
FT__NO_KERNELS(norm)
FT__NO_KERNELS(logsumexp)
FT__NO_KERNELS(tile)
FT__NO_KERNELS(to_i32)
FT__NO_KERNELS(to_f32)
FT__NO_KERNELS(cumsum)
FT__NO_KERNELS(topk)
FT__NO_KERNELS(token_counts)
#endif /* FINETUNE_OPENCL */
