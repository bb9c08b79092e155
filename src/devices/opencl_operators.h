#pragma once
#include "interface/types.h"
#include "platform/context.h"
#include "kernels/convolution.h"
#include "kernels/winograd.h"
#include "nodes/nodes.h"
#include "operators/table.h"
#include "operators/common.h"
#include "operators/more_activations.h"
#include "operators/convolution.h"
#include "operators/conv2d_rows.h"
#include "operators/rows.h"
#include "devices/opencl_library.h"
#include "devices/opencl_memory.h"
#include "devices/opencl_kernels.h"

/* =============================================================================================
   [SECTION] devices/opencl_operators: OpenCL: operators
   The operators of operators/, with the same inputs, options, results and layout. Each function
   launches kernels of kernels.cl and waits for nothing.
   ============================================================================================= */
#ifdef FINETUNE_OPENCL
static size_t ft__blocks_of(size_t count, size_t block) { return (count + block - 1) / block; }

/* For kernels that only add: a fresh gradient is set to zero first. */
static float *ft__started(const ft__call *call, int i)
{
    const ft__tensor *t = &call->input[i];
    if (t->gradient && t->fresh) ft__cl_fill(call->context, t->gradient, ft__count(t), 0);
    return t->gradient;
}

/* The buffer of a tensor's numbers. */
static cl_mem ft__cl_numbers(ft__context *c, const float *host, size_t count, int access)
{
    return ft__on_device(c, host, count * sizeof(float), access);
}

static cl_mem ft__cl_value(ft__context *c, const ft__tensor *t)
{
    return ft__cl_numbers(c, t->value, ft__count(t), FT__READ);
}

static cl_mem ft__cl_output_gradient(const ft__call *call)
{
    return ft__cl_numbers(call->context, call->output.gradient, ft__count(&call->output), FT__READ);
}

static cl_mem ft__cl_gradient(ft__context *c, const ft__tensor *t)
{
    return ft__cl_numbers(c, t->gradient, ft__count(t), t->fresh ? FT__WRITE
                                                                 : FT__READ | FT__WRITE);
}

/* ---- Activations ---- */

/* An activation's number in kernels.cl; -1: it is NULL. */
static int ft__kernel_activation(const ft__row *row)
{
#define FT__CL_NUMBER(name, value, slope) {FT__OP_##name, FT__CL_##name},
    static const int numbers[][2] = {FINETUNE_ACTIVATIONS(FT__CL_NUMBER)};
    int i;
    for (i = 0; row && i < FT__CL_ACTIVATION_COUNT; ++i)
        if (numbers[i][0] == row->op) return numbers[i][1];
    return -1;
}

/* Its one option. */
static float ft__kernel_option(const ft__row *row, const ft__options *options)
{
    return row ? row->activation->option(options) : 0;
}

static void ft__cl_activation_forward(const ft__call *call)
{
    size_t count = ft__count(&call->output);
    ft__run_kernel(call->context, "activation_forward", count, "vynif", &call->input[0],
                   &call->output, count, ft__kernel_activation(ft__rows[call->node->op]),
                   ft__kernel_option(ft__rows[call->node->op], &call->node->options));
}

static void ft__cl_slopes(const ft__call *call, const ft__row *row, const ft__options *options,
                          const ft__tensor *kept, float *dx, bool fresh)
{
    size_t count = ft__count(&call->output);
    ft__run_kernel(call->context, "activation_backward", count, "vdmnifi", kept, &call->output, dx,
                   count, fresh && dx != call->output.gradient ? FT__WRITE : FT__READ | FT__WRITE,
                   count, ft__kernel_activation(row), ft__kernel_option(row, options), fresh);
}

static void ft__cl_activation_backward(const ft__call *call)
{
    const ft__row *row = ft__rows[call->node->op];
    bool of_y = (row->flags & FT__READS_Y) != 0;
    if (call->input[0].gradient)
        ft__cl_slopes(call, row, &call->node->options, of_y ? &call->output : &call->input[0],
                      call->input[0].gradient, call->input[0].fresh);
}

#define FT__CL_ACTIVATION_ROW(name, value, slope) FT__DEVICE_ROW(name, activation, "8x64x32x32")
FINETUNE_ACTIVATIONS(FT__CL_ACTIVATION_ROW)
#undef FINETUNE_ACTIVATIONS

/* Whether a line of numbers gets a work-group of FT__GROUP items, not one item. Processor time of
   4096 lines of 512, one item then groups, in ms on PoCL 3.1 and on Intel's runtime: softmax
   forward 16.4 to 17.1, 9.8 to 2.3, backward 2.5 to 3.6, 18.5 to 2.4; layer_norm forward 6.2 to
   5.4, 8.0 to 1.9, its input's gradient 5.2 to 5.6, 16.5 to 2.0. No GPU was measured. */
static bool ft__by_groups(const ft__axis *a) { return a->inner == 1 && a->size >= FT__GROUP; }

/* Of softmax, log_softmax and softmin, by the node's operator. */
static void ft__cl_softmax_run(const ft__call *call, bool backward)
{
    static const char *const names[2][2] = {{"softmax_forward", "softmax_group_forward"},
                                            {"softmax_backward", "softmax_group_backward"}};
    ft_shape shape = ft__memory_shape(&call->output);
    int axis = ft__memory_axis(&call->output, ft__axis_of(call->node, shape.rank));
    ft__axis a = ft__split_axis(&shape, axis);
    bool groups = ft__by_groups(&a), logarithm = call->node->op == FT__OP_log_softmax;
    float sign = call->node->op == FT__OP_softmin ? -1.0f : 1.0f;
    size_t lines = a.outer * a.inner;
    float *dx = backward ? ft__started(call, 0) : NULL;
    ft__launch l = ft__start(call->context, names[backward][groups]);
    if (backward && !dx) return;
    if (backward) ft__args(&l, "vdA", &call->output, &call->output, dx, ft__count(&call->output));
    else ft__args(&l, "vy", &call->input[0], &call->output);
    if (groups) ft__args(&l, "nif", a.size, logarithm, sign);
    else ft__args(&l, "nnnif", lines, a.size, a.inner, logarithm, sign);
    ft__launch_kernel(&l, groups ? lines * FT__GROUP : lines);
}

static void ft__cl_softmax_forward(const ft__call *call) { ft__cl_softmax_run(call, false); }
static void ft__cl_softmax_backward(const ft__call *call) { ft__cl_softmax_run(call, true); }

FT__DEVICE_ROW(softmax, softmax, "8x10")
FT__DEVICE_ROW(log_softmax, softmax, "8x10")
FT__DEVICE_ROW(softmin, softmax, "8x10")

/* ---- glu and prelu ---- */

static void ft__cl_glu_forward(const ft__call *call)
{
    ft__axis a = ft__glu_axis(call);
    size_t count = ft__count(&call->output);
    ft__run_kernel(call->context, "glu_forward", count, "vynn", &call->input[0], &call->output,
                   count, a.size * a.inner);
}

static void ft__cl_glu_backward(const ft__call *call)
{
    ft__axis a = ft__glu_axis(call);
    size_t count = ft__count(&call->output);
    if (call->input[0].gradient)
        ft__run_kernel(call->context, "glu_backward", count, "vdgnni", &call->input[0],
                       &call->output, &call->input[0], count, a.size * a.inner,
                       call->input[0].fresh);
}

FT__DEVICE_ROW(glu, glu, "8x64x32x32 axis=1")

static void ft__cl_prelu_forward(const ft__call *call)
{
    ft__axis a = ft__prelu_axis(call);
    size_t count = ft__count(&call->output);
    ft__run_kernel(call->context, "prelu_forward", count, "vvynnn", &call->input[0],
                   &call->input[1], &call->output, count, a.size, a.inner);
}

static void ft__cl_prelu_weight(const ft__call *call, const ft__axis *a)
{
    size_t parts = ft__blocks_of(a->outer * a->inner, 64);
    float *dw = ft__started(call, 1);
    cl_mem sums;
    if (parts > 1024) parts = 1024;
    sums = ft__device_scratch(call->context, FT__SCRATCH_SUMS, a->size * parts * sizeof(float));
    ft__run_kernel(call->context, "prelu_weight", a->size * parts, "vdbnnnn", &call->input[0],
                   &call->output, sums, a->outer, a->size, a->inner, parts);
    ft__run_kernel(call->context, "prelu_weight_end", a->size, "bAnn", sums, dw, a->size, a->size,
                   parts);
}

static void ft__cl_prelu_backward(const ft__call *call)
{
    ft__axis a = ft__prelu_axis(call);
    const ft__tensor *x = &call->input[0];
    size_t count = ft__count(x);
    bool writes = x->fresh && x->gradient != call->output.gradient;
    if (call->input[1].gradient) ft__cl_prelu_weight(call, &a);
    if (x->gradient)
        ft__run_kernel(call->context, "prelu_backward", count, "vvdmnnni", x, &call->input[1],
                       &call->output, x->gradient, count, writes ? FT__WRITE : FT__READ | FT__WRITE,
                       count, a.size, a.inner, x->fresh);
}

FT__DEVICE_ROW(prelu, prelu, "8x64x32x32 64")

static void ft__cl_dropout_run(const ft__call *call, const float *from, float *to, bool add)
{
    float p = call->node->options.dropout.probability;
    size_t count = ft__count(&call->output);
    bool identity = !call->training || call->node->frozen;
    bool locked = call->node->options.dropout.locked;
    bool whole = call->node->options.dropout.per_sample;
    const ft_shape *shape = &call->output.shape;
    size_t each = locked && shape->rank > 2 ? (size_t)shape->size[2] : 1;
    size_t sample = whole ? count / (size_t)shape->size[0]
                          : locked && shape->rank > 1 ? (size_t)shape->size[1] * each : 1;
    ft__launch l = ft__start(call->context, "dropout");
    if (p == 0) p = 0.5f;
    ft__args(&l, "Rmnsffnni", from, count, to, count, add ? FT__READ | FT__WRITE : FT__WRITE, count,
             &call->random, sizeof call->random, identity ? -1.0f : p,
             identity ? 1.0f : p < 1 ? 1.0f / (1.0f - p) : 0.0f, sample, each, add);
    ft__launch_kernel(&l, count);
}

static void ft__cl_dropout_forward(const ft__call *call)
{
    ft__cl_dropout_run(call, call->input[0].value, call->output.value, false);
}

static void ft__cl_dropout_backward(const ft__call *call)
{
    if (call->input[0].gradient)
        ft__cl_dropout_run(call, call->output.gradient, call->input[0].gradient,
                           !call->input[0].fresh);
}

FT__DEVICE_ROW(dropout, dropout, "8x64x32x32")

/* ---- Convolution and linear ---- */

typedef struct ft__gather { /* kernels.cl's struct gather, field by field */
    cl_int pictures, rows_y, rows_x, in_y, in_x, taps_y, taps_x, mul_y, mul_x, off_y, off_x;
    cl_int tap_y, tap_x, div_y, div_x, in_pixel, channels, out_pixel, n, wide;
    cl_int groups, has_bias, add, op, in_at, out_at;
    cl_float a;
} ft__gather;

/* Forward: rows are the output's pixels, which gather from the input. */
static ft__gather ft__gather_forward(const ft__conv *c)
{
    ft__gather g;
    memset(&g, 0, sizeof g);
    g.pictures = (cl_int)c->batch;
    g.rows_y = c->out_height;
    g.rows_x = c->out_width;
    g.in_y = c->height;
    g.in_x = c->width;
    g.taps_y = c->kernel[0];
    g.taps_x = c->kernel[1];
    g.mul_y = c->stride[0];
    g.mul_x = c->stride[1];
    g.off_y = -c->top;
    g.off_x = -c->left;
    g.tap_y = c->dilation[0];
    g.tap_x = c->dilation[1];
    g.div_y = g.div_x = 1;
    g.groups = (cl_int)c->groups;
    g.in_pixel = g.groups * c->channels;
    g.channels = c->channels;
    g.out_pixel = g.groups * c->outputs;
    g.n = c->outputs;
    g.wide = (g.n + 15) / 16 * 16;
    g.op = -1;
    return g;
}

/* The input's gradient: rows are the input's pixels, which gather from the output's gradient. */
static ft__gather ft__gather_input(const ft__conv *c)
{
    ft__gather g = ft__gather_forward(c);
    g.rows_y = c->height;
    g.rows_x = c->width;
    g.in_y = c->out_height;
    g.in_x = c->out_width;
    g.mul_y = g.mul_x = 1;
    g.off_y = c->top;
    g.off_x = c->left;
    g.tap_y = -c->dilation[0];
    g.tap_x = -c->dilation[1];
    g.div_y = c->stride[0];
    g.div_x = c->stride[1];
    g.in_pixel = g.groups * c->outputs;
    g.channels = c->outputs;
    g.out_pixel = g.groups * c->channels;
    g.n = c->channels;
    g.wide = (g.n + 15) / 16 * 16;
    return g;
}

static size_t ft__gather_rows(const ft__gather *g)
{
    return (size_t)g->pictures * (size_t)g->rows_y * (size_t)g->rows_x;
}

/* weight [O][C][t] as the right matrix [group][t, c][n]; backward swaps n and c. */
static cl_mem ft__cl_pack(ft__context *context, const ft__tensor *weight, const ft__gather *g,
                          bool backward)
{
    size_t taps = (size_t)g->taps_y * (size_t)g->taps_x, n = (size_t)g->n;
    size_t channels = (size_t)g->channels, groups = (size_t)g->groups;
    size_t count = groups * taps * channels * (size_t)g->wide;
    cl_mem packed;
    if (backward && taps == 1 && g->wide == g->n) /* it has this layout already */
        return ft__on_device(context, weight->value, count * sizeof(float), FT__READ);
    packed = ft__device_scratch(context, FT__SCRATCH_PACKED, count * sizeof(float));
    ft__run_kernel(context, "pack_weight", count, "vbnnnnnnnn", weight, packed, groups, taps,
                   channels, n, (size_t)g->wide, n * channels * taps,
                   backward ? taps : channels * taps, backward ? n * taps : taps);
    return packed;
}

/* The form of a product by our kernels: large tiles read each matrix by whole fours, on the left of
   `channels` numbers per pixel, on the right of `n`. */
static int ft__own_form(const ft__device *d, const ft__gather *g, int n)
{
    int form = d->form == FT__FORM_WINOGRAD && !d->place.is_processor ? FT__FORM_BLOCK : d->form;
    if (form == FT__FORM_BLOCK || form == FT__FORM_TENSOR)
        return g->channels % 4 == 0 && n % 4 == 0 && g->in_at % 4 == 0 && g->out_at % 4 == 0
            ? form : d->usual_form;
    return form == FT__FORM_CLBLAST || form == FT__FORM_WINOGRAD ? d->usual_form : form;
}

/* The name of a product's kernel: one that gathers, or one for the weight's gradient. */
static const char *ft__product_kernel(const ft__device *d, int form, bool weight)
{
    static const char *const names[2][FT__FORM_COUNT] = {
        {"gather_plain", "gather_tiled", "gather_wide", NULL, "gather_block", "gather_tf32"},
        {"weight_plain", "weight_tiled", "weight_wide", NULL, "weight_block", "weight_tf32"}
    };
    if (form == FT__FORM_TENSOR && d->tensor == FT__TENSOR_BF16)
        return weight ? "weight_bf16" : "gather_bf16";
    return names[weight][form];
}

/* Runs a gathering product in the form that suits the device. */
static void ft__cl_gather(ft__context *context, const ft__gather *g, int form, cl_mem in,
                          cl_mem packed, const float *bias, cl_mem out)
{
    size_t n = (size_t)g->n, rows = ft__gather_rows(g), groups = (size_t)g->groups;
    ft__launch l = ft__start(context, ft__product_kernel(context->device, form, false));
    ft__args(&l, "bbRbs", in, packed, bias, bias ? n * groups : 1, out, g, sizeof *g);
    if (form == FT__FORM_PLAIN) ft__go_grid(&l, n, rows, groups, 16, 4);
    else if (form == FT__FORM_TILED) ft__go_tiles(&l, n, rows, 1, groups);
    else if (form != FT__FORM_WIDE)
        ft__go_grid(&l, ft__blocks_of(n, 128) * 256, ft__blocks_of(rows, 128), groups, 256, 1);
    else ft__go_grid(&l, ft__blocks_of(n, 16), ft__blocks_of(rows, 8), groups, 1, 1);
}

/* The number of slices into which the rows of a weight's gradient are cut: enough to keep a device
   busy, few enough that their sums stay small. */
static size_t ft__slices_of(size_t rows, size_t count, size_t *slice_rows)
{
    size_t slices = ft__blocks_of(rows, 256), most = ((size_t)1 << 22) / count + 1;
    if (slices > 64) slices = 64;
    if (slices > most) slices = most;
    *slice_rows = ft__blocks_of(rows, slices);
    return ft__blocks_of(rows, *slice_rows);
}

static size_t ft__cl_slices(size_t rows, size_t count)
{
    size_t slice_rows;
    return ft__slices_of(rows, count, &slice_rows);
}

static void ft__cl_weight_sum(ft__context *context, cl_mem partial, float *to, size_t count,
                              size_t slices, size_t taps, size_t channels, size_t n)
{
    ft__run_kernel(context, "weight_sum", count, "bAnnnnn", partial, to, count, count, slices, taps,
                   channels, n);
}

/* Adds the gradient to `to`; g as forward. */
static void ft__cl_weight_gradient(ft__context *context, const ft__gather *g, cl_mem in, cl_mem dy,
                                   float *to)
{
    int form = ft__own_form(context->device, g, g->n);
    size_t taps = (size_t)g->taps_y * (size_t)g->taps_x, channels = (size_t)g->channels;
    size_t n = (size_t)g->n, count = (size_t)g->groups * n * channels * taps, slice_rows;
    size_t slices = ft__slices_of(ft__gather_rows(g), count, &slice_rows);
    size_t z = slices * (size_t)g->groups;
    cl_mem partial = ft__device_scratch(context, FT__SCRATCH_SUMS, slices * count * sizeof(float));
    ft__launch l = ft__start(context, ft__product_kernel(context->device, form, true));
    ft__args(&l, "bbbsn", in, dy, partial, g, sizeof *g, slice_rows);
    if (form == FT__FORM_PLAIN) ft__go_grid(&l, n, taps * channels, z, 16, 4);
    else if (form == FT__FORM_TILED) ft__go_tiles(&l, n, channels, taps, z);
    else if (form != FT__FORM_WIDE)
        ft__go_grid(&l, ft__blocks_of(n, 128) * 256, ft__blocks_of(taps * channels, 128), z, 256,
                    1);
    else ft__go_grid(&l, ft__blocks_of(n, 16), taps * ft__blocks_of(channels, 8), z, 1, 1);
    ft__cl_weight_sum(context, partial, to, count, slices, taps, channels, n);
}

/* Into how many blocks of how many rows a sum over rows is cut. */
static size_t ft__row_blocks(size_t rows, size_t *block)
{
    *block = ft__blocks_of(rows, 128) > 512 ? ft__blocks_of(rows, 512) : 128;
    return ft__blocks_of(rows, *block);
}

/* Adds the sums of blocks, partial[first + block][n], to `to`. */
static void ft__cl_sum_blocks(ft__context *context, cl_mem partial, size_t first, size_t blocks,
                              size_t n, float *to)
{
    ft__run_kernel(context, "column_sums_end", n, "bAnnn", partial, to, n, first, blocks, n);
}

/* A bias's gradient: adds the column sums of dy [rows, n], which begins at `at`, to `to`. */
static void ft__cl_bias_gradient(ft__context *context, cl_mem dy, size_t at, size_t rows, size_t n,
                                 float *to)
{
    size_t block, blocks = ft__row_blocks(rows, &block);
    cl_mem partial = ft__device_scratch(context, FT__SCRATCH_SUMS, blocks * n * sizeof(float));
    ft__launch l = ft__start(context, "column_sums");
    ft__args(&l, "bbnnnn", dy, partial, at, rows, n, block);
    ft__go_grid(&l, n, blocks, 1, 64, 1);
    ft__cl_sum_blocks(context, partial, 0, blocks, n, to);
}

static void ft__cl_depthwise(const ft__call *call, const ft__gather *g, bool backward)
{
    const ft__tensor *bias = !backward && call->input_count > 2 ? &call->input[2] : NULL;
    ft__launch l = ft__start(call->context, backward ? "depthwise_input" : "depthwise_forward");
    if (backward)
        ft__args(&l, "dvgs", &call->output, &call->input[1], &call->input[0], g, sizeof *g);
    else
        ft__args(&l, "vvRys", &call->input[0], &call->input[1], bias ? bias->value : NULL,
                 (size_t)g->out_pixel, &call->output, g, sizeof *g);
    ft__go_grid(&l, (size_t)g->out_pixel, ft__gather_rows(g), 1, 16, 4);
}

static void ft__cl_depthwise_weight(const ft__call *call, const ft__conv *c)
{
    ft__gather g = ft__gather_forward(c);
    size_t rows = ft__gather_rows(&g), count = ft__count(&call->input[1]), slice_rows;
    size_t slices = ft__slices_of(rows, count, &slice_rows), outputs = (size_t)g.out_pixel;
    size_t taps = (size_t)g.taps_y * (size_t)g.taps_x;
    cl_mem partial = ft__device_scratch(call->context, FT__SCRATCH_SUMS,
                                        slices * count * sizeof(float));
    ft__launch l = ft__start(call->context, "depthwise_weight");
    ft__args(&l, "vdbsn", &call->input[0], &call->output, partial, &g, sizeof g, slice_rows);
    ft__go_grid(&l, outputs, taps, slices, 64, 1);
    ft__cl_weight_sum(call->context, partial, ft__started(call, 1), count, slices, taps, 1,
                      outputs);
}

/* ---- CLBlast: if each row reads one pixel, this is a plain matrix product ---- */

static bool ft__conv_is_product(const ft__conv *c)
{
    return c->groups == 1 && c->kernel[0] == 1 && c->kernel[1] == 1 && c->stride[0] == 1
        && c->stride[1] == 1 && c->out_height == c->height && c->out_width == c->width;
}

/* A matrix in a buffer, row by row; transposed: the product uses its transpose. */
typedef struct ft__cl_matrix { cl_mem buffer; size_t at; bool transposed; } ft__cl_matrix;

static ft__cl_matrix ft__cl_matrix_of(cl_mem buffer, size_t at, bool transposed)
{
    ft__cl_matrix matrix;
    matrix.buffer = buffer;
    matrix.at = at;
    matrix.transposed = transposed;
    return matrix;
}

/* out [m, n] = or += a [m, k] times b [k, n]; transposed ones are stored as [k, m], [n, k]. */
static void ft__cl_gemm(ft__context *c, ft__cl_matrix a, ft__cl_matrix b, ft__cl_matrix out,
                        size_t m, size_t n, size_t k, bool add)
{
    int code;
    if (!ft__ok(c)) return;
    code = c->device->gemm(FT__CLBLAST_ROWS, a.transposed ? FT__CLBLAST_TRANSPOSED
                           : FT__CLBLAST_PLAIN, b.transposed ? FT__CLBLAST_TRANSPOSED
                           : FT__CLBLAST_PLAIN, m, n, k, 1, a.buffer, a.at, a.transposed ? m : k,
                           b.buffer, b.at, b.transposed ? k : n, add ? 1.0f : 0.0f, out.buffer,
                           out.at, n, &c->device->queue, NULL);
    if (code != 0) ft__fail(c, FT_DEVICE, "%s: CLBlast's Sgemm failed (%d)", c->device->name, code);
}

static void ft__clblast_forward(const ft__call *call, const ft__conv *c)
{
    size_t n = (size_t)c->outputs, k = (size_t)c->channels, count = ft__count(&call->output);
    bool bias = call->input_count > 2;
    ft__cl_matrix x = ft__cl_matrix_of(ft__cl_value(call->context, &call->input[0]), 0, false);
    ft__cl_matrix w = ft__cl_matrix_of(ft__cl_value(call->context, &call->input[1]), 0, true), y;
    y = ft__cl_matrix_of(ft__cl_numbers(call->context, call->output.value, count, FT__WRITE), 0,
                         false);
    ft__cl_gemm(call->context, x, w, y, count / n, n, k, false);
    if (!bias && !call->fused) return;
    ft__run_kernel(call->context, "bias_activation", count, "Rbnniif",
                   bias ? call->input[2].value : NULL, n, y.buffer, count, n, bias,
                   ft__kernel_activation(call->fused),
                   ft__kernel_option(call->fused, call->fused_options));
}

/* Products of rows, by CLBlast or our own kernels: x [rows, in] and y [rows, out] may begin inside
   a buffer, and `size` gives the rest. y = x weight^T */
static void ft__cl_rows_forward(ft__context *c, const ft__conv *size, ft__cl_matrix x,
                                const ft__tensor *weight, ft__cl_matrix y)
{
    ft__gather g = ft__gather_forward(size);
    g.in_at = (cl_int)x.at;
    g.out_at = (cl_int)y.at;
    if (c->device->form == FT__FORM_CLBLAST)
        ft__cl_gemm(c, x, ft__cl_matrix_of(ft__cl_value(c, weight), 0, true), y,
                    ft__gather_rows(&g), (size_t)size->outputs, (size_t)size->channels, false);
    else ft__cl_gather(c, &g, ft__own_form(c->device, &g, g.wide), x.buffer,
                       ft__cl_pack(c, weight, &g, false), NULL, y.buffer);
}

/* dx = or += dy weight */
static void ft__cl_rows_input(ft__context *c, const ft__conv *size, ft__cl_matrix dy,
                              const ft__tensor *weight, cl_mem dx, bool add)
{
    ft__gather g = ft__gather_input(size);
    g.in_at = (cl_int)dy.at;
    g.add = add;
    if (c->device->form == FT__FORM_CLBLAST)
        ft__cl_gemm(c, dy, ft__cl_matrix_of(ft__cl_value(c, weight), 0, false),
                    ft__cl_matrix_of(dx, 0, false), ft__gather_rows(&g), (size_t)size->channels,
                    (size_t)size->outputs, add);
    else ft__cl_gather(c, &g, ft__own_form(c->device, &g, g.wide), dy.buffer,
                       ft__cl_pack(c, weight, &g, true), NULL, dx);
}

/* dweight += dy^T x */
static void ft__cl_rows_weight(ft__context *c, const ft__conv *size, ft__cl_matrix x,
                               ft__cl_matrix dy, float *dweight)
{
    size_t n = (size_t)size->outputs, k = (size_t)size->channels;
    ft__gather g = ft__gather_forward(size);
    g.in_at = (cl_int)x.at;
    g.out_at = (cl_int)dy.at;
    dy.transposed = true;
    if (c->device->form == FT__FORM_CLBLAST)
        ft__cl_gemm(c, dy, x, ft__cl_matrix_of(ft__cl_numbers(c, dweight, n * k, FT__READ
                    | FT__WRITE), 0, false), n, k, ft__gather_rows(&g), true);
    else ft__cl_weight_gradient(c, &g, x.buffer, dy.buffer, dweight);
}

static void ft__clblast_backward(const ft__call *call, const ft__conv *c)
{
    const ft__tensor *x = &call->input[0];
    ft__context *context = call->context;
    ft__cl_matrix dy = ft__cl_matrix_of(ft__cl_output_gradient(call), 0, false);
    size_t n = (size_t)c->outputs;
    if (call->input[1].gradient)
        ft__cl_rows_weight(context, c, ft__cl_matrix_of(ft__cl_value(context, x), 0, false), dy,
                           ft__started(call, 1));
    if (call->input_count > 2 && call->input[2].gradient)
        ft__cl_bias_gradient(context, dy.buffer, 0, ft__count(&call->output) / n, n,
                             ft__started(call, 2));
    if (x->gradient)
        ft__cl_rows_input(context, c, dy, &call->input[1], ft__cl_gradient(context, x), !x->fresh);
}

/* ---- In Winograd's form ---- */

typedef struct ft__winograd_device { /* kernels.cl's struct winograd, field by field */
    cl_int height, width, out_height, out_width, top, left, channels, n;
    cl_int across, down, first, count, has_bias, add, op;
    cl_float a;
} ft__winograd_device;

/* The most numbers of transformed inputs, or outputs, of the tiles computed at a time. */
#define FT__WINOGRAD_DEVICE_MOST ((size_t)1 << 26)

/* The padding of the gradient's convolution, 2 - top and so on, must not be negative. */
static bool ft__winograd_suits(const ft__conv *c)
{
    return c->kernel[0] == 3 && c->kernel[1] == 3 && c->stride[0] == 1 && c->stride[1] == 1
        && c->dilation[0] == 1 && c->dilation[1] == 1 && c->groups == 1 && c->top <= 2
        && c->left <= 2;
}

/* Forward, or the input's gradient, which is a convolution of dy. */
static ft__winograd_device ft__winograd_direction(const ft__conv *c, bool backward)
{
    ft__winograd_device w;
    memset(&w, 0, sizeof w);
    w.height = backward ? c->out_height : c->height;
    w.width = backward ? c->out_width : c->width;
    w.out_height = backward ? c->height : c->out_height;
    w.out_width = backward ? c->width : c->out_width;
    w.top = backward ? 2 - c->top : c->top;
    w.left = backward ? 2 - c->left : c->left;
    w.channels = backward ? c->outputs : c->channels;
    w.n = backward ? c->channels : c->outputs;
    w.across = (w.out_width + 3) / 4;
    w.down = (w.out_height + 3) / 4;
    w.op = -1;
    return w;
}

/* The 36 products: one group each, one pixel per tile. */
static ft__gather ft__winograd_gather(const ft__winograd_device *w)
{
    ft__gather g;
    memset(&g, 0, sizeof g);
    g.rows_y = g.rows_x = g.in_y = g.in_x = g.taps_y = g.taps_x = g.mul_y = g.mul_x = 1;
    g.div_y = g.div_x = 1;
    g.pictures = w->count;
    g.groups = FT__TILE_INPUTS;
    g.channels = w->channels;
    g.in_pixel = g.groups * g.channels;
    g.n = w->n;
    g.out_pixel = g.groups * g.n;
    g.wide = (g.n + 15) / 16 * 16;
    g.op = -1;
    return g;
}

static cl_mem ft__winograd_pack(const ft__call *call, const ft__winograd_device *w, bool backward)
{
    size_t channels = (size_t)w->channels, n = (size_t)w->n, wide = (n + 15) / 16 * 16;
    cl_mem packed = ft__device_scratch(call->context, FT__SCRATCH_PACKED, FT__TILE_INPUTS
                                       * channels * wide * sizeof(float));
    ft__run_kernel(call->context, "winograd_weight", channels * wide, "vbnnnnni", &call->input[1],
                   packed, channels, n, wide, backward ? 9 : 9 * channels, backward ? 9 * n : 9,
                   backward);
    return packed;
}

/* Transforms inputs to v or, with `back`, m to outputs. */
static void ft__winograd_transform(const ft__call *call, bool back, cl_mem from, const float *bias,
                                   cl_mem to, const ft__winograd_device *w)
{
    ft__launch l = ft__start(call->context, back ? "winograd_output" : "winograd_input");
    if (back) ft__args(&l, "bRbs", from, bias, (size_t)w->n, to, w, sizeof *w);
    else ft__args(&l, "bbs", from, to, w, sizeof *w);
    ft__launch_kernel(&l, (size_t)w->count * (size_t)(back ? w->n : w->channels));
}

/* Computes all tiles of `out` from `in`, as many at a time as the scratch memory holds. */
static void ft__winograd_run_device(const ft__call *call, ft__winograd_device w, size_t batch,
                                    cl_mem in, cl_mem packed, const float *bias, cl_mem out)
{
    ft__context *c = call->context;
    size_t tiles = batch * (size_t)w.across * (size_t)w.down, channels = (size_t)w.channels;
    size_t n = (size_t)w.n, larger = channels > n ? channels : n, first;
    size_t most = FT__WINOGRAD_DEVICE_MOST / (FT__TILE_INPUTS * larger) + 1;
    size_t chunk = tiles < most ? tiles : most;
    cl_mem v = ft__device_scratch(c, FT__SCRATCH_INPUTS,
                                  chunk * FT__TILE_INPUTS * channels * sizeof(float));
    cl_mem m = ft__device_scratch(c, FT__SCRATCH_SUMS,
                                  chunk * FT__TILE_INPUTS * n * sizeof(float));
    for (first = 0; first < tiles && ft__ok(c); first += chunk) {
        ft__gather g;
        w.first = (cl_int)first;
        w.count = (cl_int)(tiles - first < chunk ? tiles - first : chunk);
        g = ft__winograd_gather(&w);
        ft__winograd_transform(call, false, in, NULL, v, &w);
        ft__cl_gather(c, &g, ft__own_form(c->device, &g, g.wide), v, packed, NULL, m);
        ft__winograd_transform(call, true, m, bias, out, &w);
    }
}

static void ft__cl_winograd_forward(const ft__call *call, const ft__conv *c)
{
    ft__winograd_device w = ft__winograd_direction(c, false);
    const float *bias = call->input_count > 2 ? call->input[2].value : NULL;
    cl_mem x = ft__cl_value(call->context, &call->input[0]);
    cl_mem y = ft__cl_numbers(call->context, call->output.value, ft__count(&call->output),
                              FT__WRITE);
    w.has_bias = bias != NULL;
    w.op = ft__kernel_activation(call->fused);
    if (call->fused) w.a = call->fused->activation->option(call->fused_options);
    ft__winograd_run_device(call, w, c->batch, x, ft__winograd_pack(call, &w, false), bias, y);
}

static void ft__cl_winograd_input(const ft__call *call, const ft__conv *c)
{
    const ft__tensor *x = &call->input[0];
    ft__winograd_device w = ft__winograd_direction(c, true);
    cl_mem dx = ft__cl_gradient(call->context, x);
    w.add = !x->fresh;
    ft__winograd_run_device(call, w, c->batch, ft__cl_output_gradient(call),
                            ft__winograd_pack(call, &w, true), NULL, dx);
}

static void ft__cl_conv_forward(const ft__call *call, const ft__conv *c)
{
    ft__context *context = call->context;
    ft__gather g = ft__gather_forward(c);
    const float *bias = call->input_count > 2 ? call->input[2].value : NULL;
    if (call->context->device->form == FT__FORM_CLBLAST && ft__conv_is_product(c)) {
        ft__clblast_forward(call, c);
        return;
    }
    if (call->context->device->form == FT__FORM_WINOGRAD && ft__winograd_suits(c)) {
        ft__cl_winograd_forward(call, c);
        return;
    }
    g.has_bias = bias != NULL;
    g.op = ft__kernel_activation(call->fused);
    if (call->fused) g.a = call->fused->activation->option(call->fused_options);
    if (ft__conv_is_depthwise(c)) ft__cl_depthwise(call, &g, false);
    else ft__cl_gather(context, &g, ft__own_form(context->device, &g, g.wide),
                       ft__cl_value(context, &call->input[0]),
                       ft__cl_pack(context, &call->input[1], &g, false), bias,
                       ft__cl_numbers(context, call->output.value, ft__count(&call->output),
                                      FT__WRITE));
}

static void ft__cl_conv_backward(const ft__call *call, const ft__conv *c)
{
    ft__context *context = call->context;
    ft__gather g = ft__gather_input(c), forward = ft__gather_forward(c);
    cl_mem dy = ft__cl_output_gradient(call);
    size_t n = c->groups * (size_t)c->outputs;
    if (call->context->device->form == FT__FORM_CLBLAST && ft__conv_is_product(c)) {
        ft__clblast_backward(call, c);
        return;
    }
    g.add = !call->input[0].fresh;
    if (call->input[1].gradient && ft__conv_is_depthwise(c)) ft__cl_depthwise_weight(call, c);
    else if (call->input[1].gradient)
        ft__cl_weight_gradient(context, &forward, ft__cl_value(context, &call->input[0]), dy,
                               ft__started(call, 1));
    if (call->input_count > 2 && call->input[2].gradient)
        ft__cl_bias_gradient(context, dy, 0, ft__count(&call->output) / n, n,
                             ft__started(call, 2));
    if (!call->input[0].gradient) return;
    if (ft__conv_is_depthwise(c)) ft__cl_depthwise(call, &g, true);
    else if (context->device->form == FT__FORM_WINOGRAD && ft__winograd_suits(c))
        ft__cl_winograd_input(call, c);
    else ft__cl_gather(context, &g, ft__own_form(context->device, &g, g.wide), dy,
                       ft__cl_pack(context, &call->input[1], &g, true), NULL,
                       ft__cl_gradient(context, &call->input[0]));
}

static void ft__cl_conv2d_forward(const ft__call *call)
{
    ft__conv c = ft__conv_of_call(call);
    ft__cl_conv_forward(call, &c);
}

static void ft__cl_conv2d_backward(const ft__call *call)
{
    ft__conv c = ft__conv_of_call(call);
    ft__cl_conv_backward(call, &c);
}

/* The forms that a convolution, or a linear layer as one, can run in. */
static bool ft__conv_fits(const ft__call *call, const ft__conv *c, int form)
{
    const ft__device *d = call->context->device;
    if (form == d->usual_form || form == FT__FORM_PLAIN) return true;
    if (form == FT__FORM_WINOGRAD) return c->channels >= 16 && ft__winograd_suits(c);
    if (form == FT__FORM_BLOCK || form == FT__FORM_TENSOR)
        return (form == FT__FORM_TENSOR ? d->tensor != FT__TENSOR_NONE : !d->place.is_processor)
            && c->channels % 4 == 0 && c->outputs % 4 == 0;
    return form == FT__FORM_CLBLAST && d->gemm && ft__conv_is_product(c);
}

static bool ft__conv2d_fits(const ft__call *call, int form)
{
    ft__conv c = ft__conv_of_call(call);
    return ft__conv_fits(call, &c, form);
}

FT__DEVICE_ROW_OF(conv2d, conv2d, ft__conv2d_fits, ft__conv_of_call, NULL,
                  "8x64x32x32 64x64x3x3 64 padding=1; 8x64x32x32 64x64x1x1 64 relu;"
                  " 8x64x32x32 64x1x3x3 64 padding=1 groups=64")
#endif /* FINETUNE_OPENCL */
