#pragma once
#include "interface/requirements.h"
#include "interface/types.h"
#include "interface/operators.h"
#include "platform/context.h"
#include "kernels/transpose.h"
#include "kernels/convolution.h"
#include "nodes/nodes.h"
#include "operators/common.h"
#include "operators/conv1d.h"
#include "operators/linear.h"
#include "operators/layer_norm.h"
#include "operators/group_norm.h"
#include "operators/matmul.h"
#include "devices/opencl_library.h"
#include "devices/opencl_memory.h"
#include "devices/opencl_kernels.h"
#include "devices/opencl_operators.h"
#include "devices/opencl_shapes.h"

/* =============================================================================================
   [SECTION] devices/opencl_sequences: OpenCL: operators on sequences
   Each has the formulas of operators/ and the same layout in memory.
   ============================================================================================= */
#ifdef FINETUNE_OPENCL
/* ---- permute, gather, layer_norm, matmul, conv1d ---- */

/* Copies `from` at the places of a grid to `to`; backward, the reverse. */
static void ft__cl_permute(ft__context *c, const ft__grid *grid, const float *from, float *to,
                           size_t count, bool backward, bool add)
{
    ft__run_kernel(c, "permute", count, "Rmnsii", from, count, to, count,
                   add ? FT__READ | FT__WRITE : FT__WRITE, count, grid, sizeof *grid, backward,
                   add);
}

static ft__grid ft__permute_grid(const ft__call *call)
{
    const ft__tensor *x = &call->input[0], *y = &call->output;
    size_t steps[FINETUNE_MAX_RANK];
    ft__grid grid;
    int d;
    ft__memory_steps(x, steps);
    for (d = 0; d < 6; ++d) grid.size[d] = 1, grid.step[d] = 0;
    for (d = 0; d < y->shape.rank; ++d) {
        int at = ft__memory_axis(y, d);
        grid.size[at] = y->shape.size[d];
        grid.step[at] = (cl_int)steps[call->node->options.permute.axes[d]];
    }
    return grid;
}

static void ft__cl_permute_forward(const ft__call *call)
{
    ft__grid grid = ft__permute_grid(call);
    ft__cl_permute(call->context, &grid, call->input[0].value, call->output.value,
                   ft__count(&call->output), false, false);
}

static void ft__cl_permute_backward(const ft__call *call)
{
    ft__grid grid = ft__permute_grid(call);
    if (call->input[0].gradient)
        ft__cl_permute(call->context, &grid, call->output.gradient, call->input[0].gradient,
                       ft__count(&call->output), true, !call->input[0].fresh);
}

FT__DEVICE_ROW(permute, permute, "8x64x225 axes=0,2,1")

typedef struct ft__kernel_gathering {
    cl_int size[6], x[6], y[6], index[6], axis, limit, many;
} ft__kernel_gathering;

static ft__kernel_gathering ft__gathering_of(const ft__call *call, bool backward)
{
    const ft__tensor *x = &call->input[0], *y = &call->output, *index = &call->input[1];
    size_t of_x[FINETUNE_MAX_RANK], of_y[FINETUNE_MAX_RANK], of_index[FINETUNE_MAX_RANK];
    ft__kernel_gathering g;
    int d;
    memset(&g, 0, sizeof g);
    ft__memory_steps(x, of_x);
    ft__memory_steps(y, of_y);
    ft__memory_steps(index, of_index);
    for (d = 0; d < 6; ++d) g.size[d] = 1;
    for (d = 0; d < x->shape.rank; ++d) {
        g.size[d] = backward ? x->shape.size[d] : y->shape.size[d];
        g.x[d] = (cl_int)of_x[d];
        g.y[d] = (cl_int)of_y[d];
        if (d < index->shape.rank) g.index[d] = (cl_int)of_index[d];
    }
    g.axis = call->node->options.concat.axis;
    g.limit = x->shape.size[g.axis];
    g.many = index->shape.size[g.axis];
    return g;
}

static void ft__cl_gather_along_forward(const ft__call *call)
{
    ft__kernel_gathering g = ft__gathering_of(call, false);
    size_t count = ft__count(&call->output);
    ft__run_kernel(call->context, "gather_along_forward", count, "vvyns", &call->input[0],
                   &call->input[1], &call->output, count, &g, sizeof g);
}

static void ft__cl_gather_along_backward(const ft__call *call)
{
    ft__kernel_gathering g = ft__gathering_of(call, true);
    size_t count = ft__count(&call->input[0]);
    if (!call->input[0].gradient) return;
    ft__run_kernel(call->context, "gather_along_backward", count, "vdgnsi", &call->input[1],
                   &call->output, &call->input[0], count, &g, sizeof g, call->input[0].fresh);
}

static int ft__places_below(const ft__call *call)
{
    return call->input[0].shape.size[call->node->options.concat.axis];
}

/* One list for all samples is left to the processor. */
static bool ft__gather_fits(const ft__call *call, int form)
{
    return form == call->context->device->usual_form && call->input[1].shape.rank > 1;
}

FT__DEVICE_ROW_OF(gather, gather_along, ft__gather_fits, NULL, ft__places_below,
                  "8x225x225 i8x8 axis=1")

static void ft__cl_layer_norm_forward(const ft__call *call)
{
    ft__axis a = ft__layer_norm_rows(call);
    bool groups = ft__by_groups(&a);
    ft__launch l = ft__start(call->context, groups ? "layer_norm_group_forward"
                             : "layer_norm_forward");
    ft__args(&l, "vvRyW", &call->input[0], &call->input[1],
             ft__is_centred(call) ? call->input[2].value : NULL, a.size, &call->output,
             call->saved, 2 * a.outer);
    if (!groups) ft__args(&l, "n", a.outer);
    ft__args(&l, "nfi", a.size, ft__row_eps(call), ft__is_centred(call));
    ft__launch_kernel(&l, groups ? a.outer * FT__GROUP : a.outer);
}

static void ft__cl_layer_norm_input(const ft__call *call)
{
    ft__axis a = ft__layer_norm_rows(call);
    bool groups = ft__by_groups(&a);
    ft__launch l = ft__start(call->context, groups ? "layer_norm_group_input"
                             : "layer_norm_input");
    ft__args(&l, "vvRdg", &call->input[0], &call->input[1], call->saved, 2 * a.outer,
             &call->output, &call->input[0]);
    if (!groups) ft__args(&l, "n", a.outer);
    ft__args(&l, "nii", a.size, call->input[0].fresh, ft__is_centred(call));
    ft__launch_kernel(&l, groups ? a.outer * FT__GROUP : a.outer);
}

/* Sums within blocks of rows, then over the blocks: no chain of sums is longer than a block. */
static void ft__cl_layer_norm_weight(const ft__call *call)
{
    ft__axis a = ft__layer_norm_rows(call);
    size_t block, blocks = ft__row_blocks(a.outer, &block);
    float *dweight = ft__started(call, 1);
    float *dbias = ft__is_centred(call) ? ft__started(call, 2) : NULL;
    cl_mem partial;
    ft__launch l;
    if (!dweight && !dbias) return;
    partial = ft__device_scratch(call->context, FT__SCRATCH_SUMS,
                                 2 * blocks * a.size * sizeof(float));
    l = ft__start(call->context, "layer_norm_weight");
    ft__args(&l, "vRdbnnn", &call->input[0], call->saved, 2 * a.outer, &call->output, partial,
             a.outer, a.size, block);
    ft__go_grid(&l, a.size, blocks, 1, FT__GROUP, 1);
    if (dweight) ft__cl_sum_blocks(call->context, partial, 0, blocks, a.size, dweight);
    if (dbias) ft__cl_sum_blocks(call->context, partial, blocks, blocks, a.size, dbias);
}

static void ft__cl_layer_norm_backward(const ft__call *call)
{
    if (call->input[0].gradient) ft__cl_layer_norm_input(call);
    ft__cl_layer_norm_weight(call);
}

FT__DEVICE_ROW(layer_norm, layer_norm, "8x225x64 64 64")
FT__DEVICE_ROW(rms_norm, layer_norm, "8x12x64 64")

typedef struct ft__norm_groups { /* kernels.cl's struct norm_groups, field by field */
    cl_int samples, channels, places, groups, each, last, affine;
} ft__norm_groups;

static ft__norm_groups ft__norm_groups_of(const ft__call *call, const ft__groups *of)
{
    ft__norm_groups g;
    g.samples = (cl_int)of->samples;
    g.channels = (cl_int)of->channels;
    g.places = (cl_int)of->places;
    g.groups = (cl_int)of->count;
    g.each = (cl_int)of->each;
    g.last = of->channels_last;
    g.affine = call->input_count > 1;
    return g;
}

static const float *ft__affine(const ft__call *call, int input)
{
    return call->input_count > 1 ? call->input[input].value : NULL;
}

static void ft__cl_group_norm_forward(const ft__call *call)
{
    ft__groups g = ft__groups_of(call);
    ft__norm_groups sizes = ft__norm_groups_of(call, &g);
    size_t groups = g.samples * g.count;
    ft__run_kernel(call->context, "group_norm_forward", groups * FT__GROUP, "vRRyWsf",
                   &call->input[0], ft__affine(call, 1), g.channels, ft__affine(call, 2),
                   g.channels, &call->output, call->saved, 2 * groups, &sizes, sizeof sizes,
                   ft__eps_of(call->node->options.group_norm.eps));
}

static void ft__cl_group_norm_backward(const ft__call *call)
{
    ft__groups g = ft__groups_of(call);
    ft__norm_groups sizes = ft__norm_groups_of(call, &g);
    size_t groups = g.samples * g.count;
    bool affine = call->input_count > 1;
    float *dweight = affine ? ft__started(call, 1) : NULL;
    float *dbias = affine ? ft__started(call, 2) : NULL;
    if (call->input[0].gradient)
        ft__run_kernel(call->context, "group_norm_input", groups * FT__GROUP, "vRRdgsi",
                       &call->input[0], ft__affine(call, 1), g.channels, call->saved, 2 * groups,
                       &call->output, &call->input[0], &sizes, sizeof sizes,
                       call->input[0].fresh);
    if (dweight || dbias)
        ft__run_kernel(call->context, "group_norm_weight", g.channels * FT__GROUP, "vRdAAsi",
                       &call->input[0], call->saved, 2 * groups, &call->output, dweight,
                       g.channels, dbias, g.channels, &sizes, sizeof sizes,
                       (dweight ? 1 : 0) + (dbias ? 2 : 0));
}

FT__DEVICE_ROW(group_norm, group_norm, "8x64x32x32 64 64")

typedef struct ft__kernel_matrix { cl_int outer, inner, row, column; } ft__kernel_matrix;
typedef struct ft__kernel_product {
    cl_int m, n, k, inner;
    ft__kernel_matrix a, b, out;
} ft__kernel_product;

/* The strides of a tensor's matrices, or of their transposes. The dimensions between the first and
   the last two count as one, `inner`: a tensor stored in another order has just one of them. */
static ft__kernel_matrix ft__kernel_matrix_of(const ft__tensor *t, bool transposed)
{
    size_t steps[FINETUNE_MAX_RANK];
    int last = t->shape.rank - 1;
    ft__kernel_matrix x;
    ft__memory_steps(t, steps);
    x.outer = (cl_int)steps[0];
    x.inner = last >= 3 ? (cl_int)steps[last - 2] : 0;
    x.row = (cl_int)steps[transposed ? last : last - 1];
    x.column = (cl_int)steps[transposed ? last - 1 : last];
    return x;
}

static ft__kernel_matrix ft__kernel_flip(ft__kernel_matrix x)
{
    cl_int row = x.row;
    x.row = x.column;
    x.column = row;
    return x;
}

/* The leading dimension for CLBlast: `step` is the distance of rows, or of columns if a column is
   contiguous (transposed). A matrix of one column is both, and its rows may be too close. */
static bool ft__lies_transposed(const ft__kernel_matrix *x, int columns, size_t *step)
{
    bool transposed = x->column != 1 || x->row < columns;
    *step = (size_t)(transposed ? x->column : x->row);
    return transposed;
}

/* Whether each matrix follows the one before. */
static bool ft__matmul_in_order(const ft__call *call)
{
    return !call->input[0].order && !call->input[1].order && !call->output.order;
}

/* All products in one call of CLBlast: each matrix follows the one before, as the tensors are in
   order. It writes rows only: a transposed out is computed as B^T A^T. On PoCL 16 products
   of [128, 64] and [64, 128] take 4.5 ms, by the kernel 18.6. */
static void ft__clblast_matmul(ft__context *c, ft__kernel_product p, cl_mem a, cl_mem b, cl_mem out,
                               size_t count, bool add)
{
    size_t a_step, b_step, out_step;
    bool a_transposed, b_transposed;
    int code;
    if (ft__lies_transposed(&p.out, p.n, &out_step)) {
        ft__kernel_product turned = p;
        cl_mem left = a;
        turned.m = p.n;
        turned.n = p.m;
        turned.a = ft__kernel_flip(p.b);
        turned.b = ft__kernel_flip(p.a);
        p = turned;
        a = b;
        b = left;
    }
    a_transposed = ft__lies_transposed(&p.a, p.k, &a_step);
    b_transposed = ft__lies_transposed(&p.b, p.n, &b_step);
    if (!ft__ok(c)) return;
    code = c->device->gemms(FT__CLBLAST_ROWS, a_transposed ? FT__CLBLAST_TRANSPOSED
                            : FT__CLBLAST_PLAIN, b_transposed ? FT__CLBLAST_TRANSPOSED
                            : FT__CLBLAST_PLAIN, (size_t)p.m, (size_t)p.n, (size_t)p.k, 1, a, 0,
                            a_step, (size_t)p.m * (size_t)p.k, b, 0, b_step,
                            (size_t)p.k * (size_t)p.n, add ? 1.0f : 0.0f, out, 0, out_step,
                            (size_t)p.m * (size_t)p.n, count, &c->device->queue, NULL);
    if (code != 0)
        ft__fail(c, FT_DEVICE, "%s: CLBlast's SgemmStridedBatched failed (%d)", c->device->name,
                 code);
}

static void ft__cl_matmul(const ft__call *call, const ft__kernel_product *p, const float *a,
                          size_t a_count, const float *b, size_t b_count, float *out,
                          size_t out_count, bool add)
{
    ft__context *c = call->context;
    size_t count = ft__matmul_start(call).count;
    int access = add ? FT__READ | FT__WRITE : FT__WRITE;
    ft__launch l;
    if (c->device->form == FT__FORM_CLBLAST && c->device->gemms && ft__matmul_in_order(call)) {
        ft__clblast_matmul(c, *p, ft__cl_numbers(c, a, a_count, FT__READ),
                           ft__cl_numbers(c, b, b_count, FT__READ),
                           ft__cl_numbers(c, out, out_count, access), count, add);
        return;
    }
    l = ft__start(c, "matmul");
    ft__args(&l, "RRmsi", a, a_count, b, b_count, out, out_count, access, p, sizeof *p, add);
    ft__go_grid(&l, (size_t)p->n, (size_t)p->m, count, 16, 16);
}

/* y = A B; the matrices are A [m, k], B [k, p] and y [m, p] in any layout. */
static ft__kernel_product ft__kernel_product_of(const ft__call *call)
{
    const ft_matmul_options *o = &call->node->options.matmul;
    ft__matmul_run run = ft__matmul_start(call);
    ft__kernel_product p;
    p.m = (cl_int)run.m;
    p.n = (cl_int)run.p;
    p.k = (cl_int)run.k;
    p.inner = (cl_int)(run.count / (size_t)call->output.shape.size[0]);
    p.a = ft__kernel_matrix_of(&call->input[0], o->transpose_a);
    p.b = ft__kernel_matrix_of(&call->input[1], o->transpose_b);
    p.out = ft__kernel_matrix_of(&call->output, false);
    return p;
}

static void ft__cl_matmul_forward(const ft__call *call)
{
    ft__kernel_product p = ft__kernel_product_of(call);
    ft__cl_matmul(call, &p, call->input[0].value, ft__count(&call->input[0]),
                  call->input[1].value, ft__count(&call->input[1]), call->output.value,
                  ft__count(&call->output), false);
}

static void ft__cl_matmul_backward(const ft__call *call)
{
    const ft__tensor *a = &call->input[0], *b = &call->input[1];
    ft__kernel_product y = ft__kernel_product_of(call), p = y;
    size_t count = ft__count(&call->output);
    p.a = y.out; /* dA [m, k] = dY [m, p] B^T */
    p.b = ft__kernel_flip(y.b);
    p.out = y.a;
    p.n = y.k;
    p.k = y.n;
    if (a->gradient)
        ft__cl_matmul(call, &p, call->output.gradient, count, b->value, ft__count(b), a->gradient,
                      ft__count(a), !a->fresh);
    p.a = ft__kernel_flip(y.a); /* dB [k, p] = A^T dY */
    p.b = y.out;
    p.out = y.b;
    p.m = y.k;
    p.n = y.n;
    p.k = y.m;
    if (b->gradient)
        ft__cl_matmul(call, &p, a->value, ft__count(a), call->output.gradient, count, b->gradient,
                      ft__count(b), !b->fresh);
}

static bool ft__matmul_fits(const ft__call *call, int form)
{
    const ft__device *d = call->context->device;
    if (form == FT__FORM_CLBLAST) return d->gemms && ft__matmul_in_order(call);
    return form == d->usual_form;
}

FT__DEVICE_ROW_OF(matmul, matmul, ft__matmul_fits, NULL, NULL, "8x225x64 8x225x64 transpose_b=1")

/* Transposes [N, C, L] to [N, L, C], or back; L may be H and W. */
static void ft__cl_transpose(ft__context *c, const ft_shape *shape, int direction,
                             const float *from, float *to, bool add)
{
    bool last = direction == FT__TO_LAST;
    ft__grid grid;
    int d, channels = shape->size[1], length = shape->size[2];
    if (shape->rank == 4) length *= shape->size[3];
    for (d = 0; d < 6; ++d) grid.size[d] = 1, grid.step[d] = 0;
    grid.size[0] = shape->size[0];
    grid.size[1] = last ? length : channels;
    grid.size[2] = last ? channels : length;
    grid.step[0] = channels * length;
    grid.step[1] = 1;
    grid.step[2] = last ? length : channels;
    ft__cl_permute(c, &grid, from, to, ft__shape_count(shape), false, add);
}

static void ft__cl_conv1d_forward(const ft__call *call)
{
    ft__tensor input[3];
    ft__call flat = ft__conv1d_as_conv2d(call, input);
    ft__cl_transpose(call->context, &call->input[0].shape, FT__TO_LAST, call->input[0].value,
                     input[0].value, false);
    ft__cl_conv2d_forward(&flat);
    ft__cl_transpose(call->context, &call->output.shape, FT__TO_FIRST, flat.output.value,
                     call->output.value, false);
}

static void ft__cl_conv1d_backward(const ft__call *call)
{
    ft__tensor input[3];
    ft__call flat = ft__conv1d_as_conv2d(call, input);
    ft__cl_transpose(call->context, &call->input[0].shape, FT__TO_LAST, call->input[0].value,
                     input[0].value, false);
    ft__cl_transpose(call->context, &call->output.shape, FT__TO_LAST, call->output.gradient,
                     flat.output.gradient, false);
    ft__cl_conv2d_backward(&flat);
    if (call->input[0].gradient)
        ft__cl_transpose(call->context, &call->input[0].shape, FT__TO_FIRST, input[0].gradient,
                         call->input[0].gradient, !call->input[0].fresh);
}

FT__DEVICE_ROW(conv1d, conv1d, "8x64x225 64x64x3 64 padding=0,1,0,1")

/* ---- linear ---- */

static void ft__cl_linear_forward(const ft__call *call)
{
    ft__conv size = ft__linear_size(call);
    ft__cl_conv_forward(call, &size);
}

static void ft__cl_linear_backward(const ft__call *call)
{
    ft__conv size = ft__linear_size(call);
    ft__cl_conv_backward(call, &size);
}

static bool ft__linear_fits(const ft__call *call, int form)
{
    ft__conv c = ft__linear_size(call);
    return ft__conv_fits(call, &c, form);
}

FT__DEVICE_ROW_OF(linear, linear, ft__linear_fits, ft__linear_size, NULL,
                  "8x1800 64x1800 64; 8x64 10x64 10 relu")

/* ---- embedding, step_pool ---- */

static void ft__cl_embedding_forward(const ft__call *call)
{
    size_t count = ft__count(&call->output);
    ft__run_kernel(call->context, "embedding_forward", count, "vvynnn", &call->input[0],
                   &call->input[1], &call->output, count, (size_t)call->input[1].shape.size[0],
                   (size_t)call->input[1].shape.size[1]);
}

#define FT__EMBEDDING_BLOCK ((size_t)64) /* places whose gradients are summed together */

static void ft__cl_embedding_backward(const ft__call *call)
{
    const ft_embedding_options *o = &call->node->options.embedding;
    const ft__tensor *ids = &call->input[0], *weight = &call->input[1];
    size_t places = ft__count(ids), each = (size_t)weight->shape.size[1];
    float *dweight = ft__started(call, 1);
    cl_mem links, sums;
    if (!dweight) return;
    links = ft__device_scratch(call->context, FT__SCRATCH_STEP, 3 * places * sizeof(cl_int));
    sums = ft__device_scratch(call->context, FT__SCRATCH_SUMS, places * each * sizeof(float));
    ft__run_kernel(call->context, "embedding_links", places, "vbnnnn", ids, links, places,
                   FT__EMBEDDING_BLOCK, (size_t)weight->shape.size[0],
                   o->padded ? (size_t)o->padding_index : (size_t)-1);
    ft__run_kernel(call->context, "embedding_sums", places * each, "bbbnn", links,
                   ft__cl_output_gradient(call), sums, places, each);
    ft__run_kernel(call->context, "embedding_backward", places * each, "vbbAnn", ids, links, sums,
                   dweight, ft__count(weight), places, each);
}

static int ft__words_below(const ft__call *call) { return call->input[1].shape.size[0]; }

FT__DEVICE_ROW_OF(embedding, embedding, NULL, NULL, ft__words_below, "i8x12 1000x64")

typedef struct ft__kernel_step_pool { cl_int steps, features, kind, bidirectional, has_lengths; }
    ft__kernel_step_pool;

static void ft__cl_step_pool_run(const ft__call *call, bool backward)
{
    const ft_step_pool_options *o = &call->node->options.step_pool;
    const ft__tensor *x = &call->input[0], *lengths = call->input_count > 1 ? &call->input[1]
                                                                            : NULL;
    const float *real = lengths ? lengths->value : NULL;
    const void *where = o->kind == FT_POOL_MAX ? call->saved : NULL;
    size_t count = ft__count(&call->output), samples = (size_t)x->shape.size[0];
    ft__kernel_step_pool p;
    p.steps = x->shape.size[1];
    p.features = x->shape.size[2];
    p.kind = (cl_int)o->kind;
    p.bidirectional = o->bidirectional;
    p.has_lengths = lengths != NULL;
    if (!backward)
        ft__run_kernel(call->context, "step_pool_forward", count, "vRyWns", x, real, samples,
                       &call->output, where, count, count, &p, sizeof p);
    else if (x->gradient)
        ft__run_kernel(call->context, "step_pool_backward", ft__count(x), "dRRgnsi", &call->output,
                       real, samples, where, count, x, ft__count(x), &p, sizeof p, x->fresh);
}

static void ft__cl_step_pool_forward(const ft__call *call) { ft__cl_step_pool_run(call, false); }
static void ft__cl_step_pool_backward(const ft__call *call) { ft__cl_step_pool_run(call, true); }

FT__DEVICE_ROW(step_pool, step_pool, "8x12x64 kind=1")
#endif /* FINETUNE_OPENCL */
