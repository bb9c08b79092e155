#pragma once
#include "interface/types.h"
#include "interface/operators.h"
#include "platform/families.h"
#include "platform/system.h"
#include "platform/context.h"
#include "basics/numbers.h"
#include "basics/threads.h"
#include "kernels/levels.h"
#include "kernels/batch_norm.h"
#include "nodes/nodes.h"
#include "operators/table.h"
#include "operators/adding.h"
#include "operators/common.h"
#include "operators/activations.h"

/* =============================================================================================
   [SECTION] operators/batch_norm: Batch normalisation
   Batch norm (Ioffe and Szegedy 2015) as in PyTorch: x [N, C] or [N, C, H, W]; inputs x, weight,
   bias, running_mean, running_var; in memory x is [rows, C] either way. In training each channel is
   normalised by the batch's mean and biased variance, and the running statistics move towards the
   batch's mean and unbiased variance:
       y = (x - mean) * scale + bias, scale = weight / sqrt(var + eps)
   Backward in training, over the n values of a channel, with h = (x - mean) / sqrt(var + eps):
       dx = scale * (dy - sum(dy) / n - h * sum(dy h) / n), dweight = sum(dy h), dbias = sum(dy)
   and in evaluation form, where mean and variance are constants, dx = scale * dy.
   ============================================================================================= */
static const ft__field ft__batch_norm_fields[] = {
    FT__FLOAT(ft_batch_norm_options, eps), FT__FLOAT(ft_batch_norm_options, momentum),
    FT__NO_MORE_FIELDS};

static ft_status ft__batch_norm_shape(ft__context *c, const ft__node *node,
                                      const ft__tensor *input, int input_count, ft_shape *output)
{
    const ft_shape *x = &input[0].shape;
    char text[80];
    int i;
    *output = *x;
    if (x->rank != 2 && x->rank != 4)
        return ft__fail(c, FT_SHAPE, "%s: expected an input [N, C] or [N, C, H, W], not %s",
                        node->name, ft__shape_text(x, text));
    for (i = 1; i < 5; ++i)
        if (input[i].shape.rank != 1 || input[i].shape.size[0] != x->size[1])
            return ft__fail(c, FT_SHAPE, "%s: input has %d channels, but parameter %d is %s",
                            node->name, x->size[1], i, ft__shape_text(&input[i].shape, text));
    if (!ft__not_negative(node->options.batch_norm.eps) || !(node->options.batch_norm.momentum >= 0)
        || node->options.batch_norm.momentum > 1)
        return ft__fail(c, FT_INVALID, "%s: eps is %g and must be 0 or more; momentum is %g and"
                        " must be 0 to 1", node->name, (double)node->options.batch_norm.eps,
                        (double)node->options.batch_norm.momentum);
    return ft__want_numbers(c, node, input, input_count);
}

/* ---- Statistics: first of blocks of rows, which fit a thread's cache; then the blocks are
   combined in order, in double (Chan, Golub and LeVeque 1979) ---- */
#define FT__NORM_BLOCK ((size_t)8192) /* numbers per block */

typedef struct ft__norm_size { size_t rows, channels, block, blocks; } ft__norm_size;

static ft__norm_size ft__norm_size_of(const ft__tensor *x)
{
    ft__norm_size s;
    s.channels = (size_t)x->shape.size[1];
    s.rows = ft__count(x) / s.channels;
    s.block = FT__NORM_BLOCK / s.channels;
    if (s.block < 16) s.block = 16;
    s.blocks = (s.rows + s.block - 1) / s.block;
    return s;
}

/* Kept from forward: mean and 1 / sqrt(var + eps) of each channel. Scratch: two numbers per block
   and channel, and the factors and addends of the last pass. */
static void ft__batch_norm_costs(const ft__call *call, ft__costs *costs)
{
    ft__norm_size s = ft__norm_size_of(&call->input[0]);
    costs->saved = 2 * s.channels * sizeof(float);
    costs->workspace = (2 * s.blocks + 3) * s.channels * sizeof(float);
    costs->multiply_adds = ft__count(&call->output);
}

typedef struct ft__norm_run { const ft__call *call; ft__norm_size s; float *sums, *pass; }
    ft__norm_run;

static ft__norm_run ft__norm_start(const ft__call *call)
{
    ft__norm_run run;
    run.call = call;
    run.s = ft__norm_size_of(&call->input[0]);
    run.sums = call->workspace;
    run.pass = run.sums + 2 * run.s.blocks * run.s.channels;
    return run;
}

#if defined(__GNUC__) && !defined(__clang__) && !defined(FINETUNE_NO_SIMD)
#pragma GCC push_options
#pragma GCC optimize("O3", "fp-contract=fast")
#endif

/* Totals over the blocks, for 16 channels at once: a single channel would wait for its own sums and
   divisions. */
#define FT__NORM_AT_ONCE ((size_t)16)
typedef struct ft__norm_totals { double first[16], second[16]; } ft__norm_totals;

/* Combines the next block's mean and sum of squares with those of the `count` rows before it. */
FT__INLINE void ft__norm_join(ft__norm_totals *to, const float *mean, const float *squares,
                              double count, double more, size_t channels)
{
    size_t l;
    for (l = 0; l < channels; ++l) {
        double apart = (double)mean[l] - to->first[l];
        to->second[l] += (double)squares[l] + apart * apart * count * more / (count + more);
        to->first[l] += apart * more / (count + more);
    }
}

/* Mean and biased variance of the channels from `at` on. */
FT__INLINE void ft__norm_statistics_body(const ft__norm_run *run, size_t at, ft__norm_totals *to)
{
    const ft__norm_size *s = &run->s;
    size_t some = s->channels - at, i, l;
    ft__norm_totals sum;
    double count = 0;
    memset(&sum, 0, sizeof sum);
    for (i = 0; i < s->blocks; ++i) {
        const float *block = run->sums + 2 * i * s->channels + at;
        size_t begin = i * s->block;
        double more = (double)(s->rows - begin < s->block ? s->rows - begin : s->block);
        if (some >= 16) ft__norm_join(&sum, block, block + s->channels, count, more, 16);
        else ft__norm_join(&sum, block, block + s->channels, count, more, some);
        count += more;
    }
    for (l = 0; l < FT__NORM_AT_ONCE; ++l) {
        to->first[l] = sum.first[l];
        to->second[l] = sum.second[l] / count;
    }
}

/* Sums of dy and of dy h of the channels from `at` on. */
FT__INLINE void ft__norm_sums_body(const ft__norm_run *run, size_t at, ft__norm_totals *to)
{
    size_t channels = run->s.channels, some = channels - at, i, l;
    ft__norm_totals sum;
    memset(&sum, 0, sizeof sum);
    for (i = 0; i < run->s.blocks; ++i) {
        const float *first = run->sums + 2 * i * channels + at, *second = first + channels;
        const float *inverse = (const float *)run->call->saved + channels + at;
        for (l = 0; some >= 16 && l < 16; ++l) {
            sum.first[l] += (double)first[l];
            sum.second[l] += (double)second[l] * (double)inverse[l];
        }
        for (l = 0; some < 16 && l < some; ++l) {
            sum.first[l] += (double)first[l];
            sum.second[l] += (double)second[l] * (double)inverse[l];
        }
    }
    *to = sum;
}

FT__LEVELS(ft__norm_statistics, (const ft__norm_run *run, size_t at, ft__norm_totals *to),
           ft__norm_statistics_body(run, at, to))
FT__LEVELS(ft__norm_sums, (const ft__norm_run *run, size_t at, ft__norm_totals *to),
           ft__norm_sums_body(run, at, to))

#if defined(__GNUC__) && !defined(__clang__) && !defined(FINETUNE_NO_SIMD)
#pragma GCC pop_options
#endif

static ft__norm_pass ft__norm_pass_of(const ft__norm_run *run, int index)
{
    const ft__call *call = run->call;
    size_t row = (size_t)index * run->s.block, at = row * run->s.channels;
    ft__norm_pass p;
    memset(&p, 0, sizeof p);
    p.channels = run->s.channels;
    p.count = run->s.rows - row < run->s.block ? run->s.rows - row : run->s.block;
    p.x = call->input[0].value + at;
    p.first = run->sums + 2 * (size_t)index * run->s.channels;
    p.second = p.first + run->s.channels;
    p.bias = call->input[2].value;
    if (!ft__is_clamp(call->fused, &p.low, &p.high)) p.low = -FLT_MAX;
    if (p.high > FLT_MAX) p.high = FLT_MAX;
    return p;
}

/* The first of two passes runs from the end, where the numbers written last are still in the cache;
   the second runs from the beginning, where the first ended. */
static void ft__norm_statistics_block(void *context, int index)
{
    const ft__norm_run *run = (const ft__norm_run *)context;
    ft__norm_pass p = ft__norm_pass_of(run, (int)run->s.blocks - 1 - index);
    ft__norm_block(run->call->context->simd, &p);
}

/* Moves the running statistics, but only by finite ones: a batch that diverged must not spoil them.
   One value has no variance: running_var then stays. */
static void ft__move_running(const ft__call *call, size_t channel, double mean, double variance,
                             double count)
{
    float momentum = call->node->options.batch_norm.momentum;
    float *running_mean = call->input[3].value + channel;
    float *running_var = call->input[4].value + channel;
    if (momentum == 0) momentum = 0.1f;
    if (call->again || !(fabs(mean) < 1e30) || !(variance < 1e30)) return;
    *running_mean = (1 - momentum) * *running_mean + momentum * (float)mean;
    if (count > 1) *running_var = (1 - momentum) * *running_var
        + momentum * (float)(variance * count / (count - 1));
}

static void ft__batch_norm_apply_block(void *context, int index)
{
    const ft__norm_run *run = (const ft__norm_run *)context;
    ft__norm_pass p = ft__norm_pass_of(run, index);
    size_t at = (size_t)(p.x - run->call->input[0].value);
    bool clamp;
    p.mean = run->pass;
    p.a = p.mean + p.channels;
    p.b = p.a + p.channels;
    p.out = run->call->output.value + at;
    clamp = ft__is_clamp(run->call->fused, &p.low, &p.high);
    if (!clamp) p.low = -p.high; /* infinity */
    ft__norm_apply(run->call->context->simd, &p);
    if (run->call->fused && !clamp)
        ft__activate(run->call, p.out, p.count * p.channels);
}

static void ft__batch_norm_forward(const ft__call *call)
{
    ft__norm_run run = ft__norm_start(call);
    float eps = ft__eps_of(call->node->options.batch_norm.eps), *saved = (float *)call->saved;
    size_t channels = run.s.channels, c;
    ft__norm_totals totals;
    bool training = FT__HAS_TRAINING && call->training;
    if (training && !call->restore)
        ft__parallel(call->context, (int)run.s.blocks, ft__norm_statistics_block, &run);
    for (c = 0; c < channels && call->restore; ++c) {
        run.pass[c] = saved[c];
        run.pass[channels + c] = saved[channels + c] * call->input[1].value[c];
        run.pass[2 * channels + c] = call->input[2].value[c];
    }
    for (c = 0; c < channels && !call->restore; ++c) {
        double mean = (double)call->input[3].value[c], variance = (double)call->input[4].value[c];
        float inverse;
        if (training) {
            if (c % FT__NORM_AT_ONCE == 0)
                ft__norm_statistics[call->context->simd](&run, c, &totals);
            mean = totals.first[c % FT__NORM_AT_ONCE];
            variance = totals.second[c % FT__NORM_AT_ONCE];
            ft__move_running(call, c, mean, variance, (double)run.s.rows);
        }
        inverse = (float)(1 / sqrt(variance + (double)eps));
        if (saved) {
            saved[c] = (float)mean;
            saved[channels + c] = inverse;
        }
        run.pass[c] = (float)mean;
        run.pass[channels + c] = inverse * call->input[1].value[c];
        run.pass[2 * channels + c] = call->input[2].value[c];
    }
    ft__parallel(call->context, (int)run.s.blocks, ft__batch_norm_apply_block, &run);
}

static void ft__batch_norm_sums_block(void *context, int index)
{
    const ft__norm_run *run = (const ft__norm_run *)context;
    ft__norm_pass p = ft__norm_pass_of(run, (int)run->s.blocks - 1 - index);
    p.dy = run->call->output.gradient + (p.x - run->call->input[0].value);
    p.mean = (const float *)run->call->saved;
    p.a = run->pass;
    ft__norm_products(run->call->context->simd, &p);
}

static void ft__batch_norm_back_block(void *context, int index)
{
    const ft__norm_run *run = (const ft__norm_run *)context;
    ft__norm_pass p = ft__norm_pass_of(run, index);
    size_t at = (size_t)(p.x - run->call->input[0].value);
    p.dy = run->call->output.gradient + at;
    p.mean = (const float *)run->call->saved;
    p.a = run->pass;
    p.b = p.a + p.channels;
    p.c = p.b + p.channels;
    p.out = run->call->input[0].gradient + at;
    p.fresh = run->call->input[0].fresh;
    ft__norm_back(run->call->context->simd, &p);
}

static void ft__batch_norm_backward(const ft__call *call)
{
    ft__norm_run run = ft__norm_start(call);
    const float *saved = (const float *)call->saved;
    size_t channels = run.s.channels, c;
    double count = (double)run.s.rows;
    ft__norm_totals totals;
    for (c = 0; c < channels; ++c) run.pass[c] = saved[channels + c] * call->input[1].value[c];
    ft__parallel(call->context, (int)run.s.blocks, ft__batch_norm_sums_block, &run);
    for (c = 0; c < channels; ++c) {
        float inverse = saved[channels + c], scale = inverse * call->input[1].value[c];
        double sum, sum_h;
        if (c % FT__NORM_AT_ONCE == 0) ft__norm_sums[call->context->simd](&run, c, &totals);
        sum = totals.first[c % FT__NORM_AT_ONCE];
        sum_h = totals.second[c % FT__NORM_AT_ONCE];
        if (call->input[1].gradient) call->input[1].gradient[c] += (float)sum_h;
        if (call->input[2].gradient) call->input[2].gradient[c] += (float)sum;
        run.pass[channels + c] = call->training ? -scale * inverse * (float)(sum_h / count) : 0;
        run.pass[2 * channels + c] = call->training ? -scale * (float)(sum / count) : 0;
    }
    if (call->input[0].gradient)
        ft__parallel(call->context, (int)run.s.blocks, ft__batch_norm_back_block, &run);
}

/* In files: `batch_norm` | x, weight, bias, buffers running_mean and running_var, all [C] | `eps`
   1e-5, `momentum` 0.1 */
static const ft__row ft__row_batch_norm = {
    FT__NAMED(batch_norm), 5, 5, FT__LAYER | FT__IN_PLACE | FT__MASKS | FT__RESTORES | FT__WEIGHTS
        | FT__STATISTICS | FT__CHANNELS_LAST,
    ft__batch_norm_shape, ft__batch_norm_forward, FT__BACKWARD(ft__batch_norm_backward),
    ft__batch_norm_costs, ft__batch_norm_fields, NULL};

ft_node ft_batch_norm(ft_model *m, const char *name, ft_node x, ft_batch_norm_options options)
{
    static const char *const parts[] = {"weight", "bias", "running_mean", "running_var"};
    ft_node inputs[5], none = {0};
    ft_parameter_options p;
    int i;
    if (!ft__usable(m) || !FT__HAS(m, CONVOLUTION)) return none;
    memset(&p, 0, sizeof p);
    p.size[0] = ft__size_of(m, name, x, 1);
    inputs[0] = x;
    for (i = 0; i < 4; ++i) {
        p.initialiser = i == 0 || i == 3 ? FT_INIT_ONES : FT_INIT_ZEROS;
        p.buffer = i >= 2;
        inputs[i + 1] = ft__layer_parameter(m, name, parts[i], p);
    }
    return ft__add_node(m, &ft__row_batch_norm, name, inputs, 5, &options, sizeof options);
}
