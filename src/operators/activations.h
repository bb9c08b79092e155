#pragma once
#include "interface/types.h"
#include "platform/context.h"
#include "basics/random.h"
#include "basics/threads.h"
#include "kernels/elementary.h"
#include "kernels/convolution.h"
#include "kernels/recurrent.h"
#include "nodes/nodes.h"
#include "operators/table.h"

/* =============================================================================================
   [SECTION] operators/activations: Activations
   One function and one derivative each; a macro makes the loops. Derivatives are written in terms
   of the output y where that is possible, so that x need not be kept.
   ============================================================================================= */
static const ft__field ft__activation_fields[] = {
    {"slope", offsetof(ft_activation_options, slope), 1, 'f'},
    {"alpha", offsetof(ft_activation_options, alpha), 1, 'f'},
    {"axis", offsetof(ft_activation_options, axis), 1, 'i'},
    {"tanh_approximation", offsetof(ft_activation_options, tanh_approximation), 1, 'b'},
    {NULL, 0, 0, 0}};
static const ft__field ft__dropout_fields[] = {
    {"probability", offsetof(ft_dropout_options, probability), 1, 'f'},
    {"locked", offsetof(ft_dropout_options, locked), 1, 'b'}, {NULL, 0, 0, 0}};

/* Also flags "this input is not of numbers": labels cannot be computed with. */
static ft_status ft__want_numbers(ft__context *c, const ft__node *node, const ft__tensor *input,
                                  int count)
{
    int i;
    for (i = 0; i < count; ++i)
        if (input[i].type != FT_F32)
            return ft__fail(c, FT_SHAPE, "%s: input %d holds %s, not F32", node->name, i + 1,
                            ft__type_names[input[i].type]);
    return FT_OK;
}

static ft_status ft__same_shape(ft__context *c, const ft__node *node, const ft__tensor *input,
                                int input_count, ft_shape *output)
{
    float p = node->options.dropout.probability;
    *output = input[0].shape;
    if (node->op == FT__OP_dropout && node->options.dropout.locked
        && (output->rank < 2 || output->rank > 3))
        return ft__fail(c, FT_SHAPE, "%s: locked dropout wants [N, L, C] or a weight [V, E]",
                        node->name);
    if (node->op == FT__OP_dropout && !(p >= 0 && p <= 1))
        return ft__fail(c, FT_INVALID, "%s: a probability of %g, wants 0 to 1", node->name,
                        (double)p);
    return ft__want_numbers(c, node, input, input_count);
}

#define FT__CHUNK ((size_t)1 << 14) /* elements that one index of a parallel loop takes */

static int ft__chunks(size_t count) { return (int)((count + FT__CHUNK - 1) / FT__CHUNK); }

/* Loops run over so many numbers at a time, copied aside: compilers make vector code of loops of a
   known length over memory that cannot overlap, even with -O2. What is left at the end goes the
   same way, so that a number's bits do not depend on its place. */
#define FT__LANES 32

FT__INLINE void ft__load_lanes(float *lanes, const float *from, size_t count)
{
    if (count >= FT__LANES) memcpy(lanes, from, FT__LANES * sizeof *lanes);
    else {
        memset(lanes, 0, FT__LANES * sizeof *lanes);
        memcpy(lanes, from, count * sizeof *lanes);
    }
}

FT__INLINE void ft__store_lanes(float *to, const float *lanes, size_t count)
{
    if (count >= FT__LANES) memcpy(to, lanes, FT__LANES * sizeof *lanes);
    else memcpy(to, lanes, count * sizeof *lanes);
}

/* to = F(from), and dx = or += dy * D(at), where `at` is x or y; from and to, dy and dx may be the
   same. */
typedef void (*ft__activation_values)(const ft_activation_options *o, const float *from, float *to,
                                      size_t count);
typedef void (*ft__activation_slopes)(const ft_activation_options *o, const float *at,
                                      const float *dy, float *dx, size_t count, bool add);

typedef struct ft__activation_run {
    const ft__call *call;
    ft__activation_values values;
    ft__activation_slopes slopes; /* NULL: forward */
    const float *at;
} ft__activation_run;

static void ft__activation_chunk(void *context, int index)
{
    const ft__activation_run *run = (const ft__activation_run *)context;
    const ft__call *call = run->call;
    const ft_activation_options *o = &call->node->options.activation;
    size_t at = (size_t)index * FT__CHUNK, count = ft__count(&call->output) - at;
    if (count > FT__CHUNK) count = FT__CHUNK;
    if (!run->slopes)
        run->values(o, call->input[0].value + at, call->output.value + at, count);
    else
        run->slopes(o, run->at + at, call->output.gradient + at, call->input[0].gradient + at,
                    count, !call->input[0].fresh);
}

static void ft__activation_forward(const ft__call *call, ft__activation_values values)
{
    ft__activation_run run;
    run.call = call;
    run.values = values;
    run.slopes = NULL;
    run.at = NULL;
    ft__parallel(call->context, ft__chunks(ft__count(&call->output)), ft__activation_chunk, &run);
}

static void ft__activation_backward(const ft__call *call, ft__activation_slopes slopes, int reads)
{
    ft__activation_run run;
    if (!call->input[0].gradient) return;
    run.call = call;
    run.values = NULL;
    run.slopes = slopes;
    run.at = reads == FT__READS_X ? call->input[0].value : call->output.value;
    ft__parallel(call->context, ft__chunks(ft__count(&call->output)), ft__activation_chunk, &run);
}

/* Makes NAME_values and NAME_slopes from two expressions: F of x, and D, dy/dx, of x or y (the same
   variable twice: the table's row says which one is kept). `a` is the option that some have. */
#define FT__ACTIVATION_LOOPS(name, option, F, D)                                                  \
    static void ft__##name##_values(const ft_activation_options *o, const float *from, float *to, \
                                    size_t count)                                                 \
    {                                                                                             \
        float a = option, lanes[FT__LANES], out[FT__LANES];                                       \
        size_t at;                                                                                \
        int i;                                                                                    \
        (void)o;                                                                                  \
        (void)a;                                                                                  \
        for (at = 0; at < count; at += FT__LANES) {                                               \
            ft__load_lanes(lanes, from + at, count - at);                                         \
            for (i = 0; i < FT__LANES; ++i) {                                                     \
                float x = lanes[i];                                                               \
                out[i] = F;                                                                       \
            }                                                                                     \
            ft__store_lanes(to + at, out, count - at);                                            \
        }                                                                                         \
    }                                                                                             \
    static void ft__##name##_slopes(const ft_activation_options *o, const float *kept,            \
                                    const float *dy, float *dx, size_t count, bool add)           \
    {                                                                                             \
        float a = option, lanes[FT__LANES], slope[FT__LANES], sum[FT__LANES] = {0};               \
        size_t at;                                                                                \
        int i;                                                                                    \
        (void)o;                                                                                  \
        (void)a;                                                                                  \
        for (at = 0; at < count; at += FT__LANES) {                                               \
            ft__load_lanes(lanes, kept + at, count - at);                                         \
            ft__load_lanes(slope, dy + at, count - at);                                           \
            if (add) ft__load_lanes(sum, dx + at, count - at);                                    \
            for (i = 0; i < FT__LANES; ++i) {                                                     \
                float x = lanes[i], y = x;                                                        \
                (void)y;                                                                          \
                sum[i] = (add ? sum[i] : 0) + slope[i] * (D);                                     \
            }                                                                                     \
            ft__store_lanes(dx + at, sum, count - at);                                            \
        }                                                                                         \
    }

#define FT__ACTIVATION(name, reads)                                                               \
    static void ft__##name##_forward(const ft__call *call)                                        \
    {                                                                                             \
        ft__activation_forward(call, ft__##name##_values);                                        \
    }                                                                                             \
    static void ft__##name##_backward(const ft__call *call)                                       \
    {                                                                                             \
        ft__activation_backward(call, ft__##name##_slopes, reads);                                \
    }

/* GELU (Hendrycks and Gimpel 2016): x * Phi(x), Phi the normal distribution's; or the paper's
   approximation by tanh(sqrt(2/pi) (x + 0.044715 x^3)). The derivatives by the product rule; what
   belongs to the bell curve in them is 0 beyond 20, and would be inf * 0 for a huge x. */
FT__INLINE float ft__gelu_tanh(float x)
{
    return ft__tanh(0.797884561f * (x + 0.044715f * x * x * x));
}

FT__INLINE float ft__gelu_erf_slope(float x)
{
    float bound = ft__choose(ft__absolute(x) > 20.0f, 20.0f, x);
    return 0.5f * (1.0f + ft__erf(0.707106781f * x))
        + bound * 0.398942280f * ft__exp(-0.5f * bound * bound);
}

FT__INLINE float ft__gelu_tanh_slope(float x)
{
    float t = ft__gelu_tanh(x), bound = ft__choose(ft__absolute(x) > 20.0f, 20.0f, x);
    return 0.5f * (1.0f + t)
        + 0.5f * bound * (1.0f - t * t) * 0.797884561f * (1.0f + 0.134145f * bound * bound);
}

FT__INLINE float ft__silu_slope(float x)
{
    float s = ft__sigmoid(x);
    return s * (1.0f + x * (1.0f - s));
}

FT__INLINE float ft__softsign_slope(float x)
{
    float s = 1.0f + ft__absolute(x);
    return 1.0f / (s * s);
}

FT__ACTIVATION_LOOPS(sigmoid, 0, ft__sigmoid(x), y * (1.0f - y))
FT__ACTIVATION_LOOPS(tanh, 0, ft__tanh(x), 1.0f - y * y)
FT__ACTIVATION_LOOPS(relu, 0, ft__choose(x < 0, 0.0f, x), ft__choose(y <= 0, 0.0f, 1.0f))
FT__ACTIVATION_LOOPS(relu6, 0, ft__choose(x > 6, 6.0f, ft__choose(x < 0, 0.0f, x)),
                     ft__choose(y <= 0, 0.0f, ft__choose(y >= 6, 0.0f, 1.0f)))
FT__ACTIVATION_LOOPS(leaky_relu, o->slope != 0 ? o->slope : 0.01f, ft__choose(x > 0, x, a * x),
                     ft__choose(x > 0, 1.0f, a))
FT__ACTIVATION_LOOPS(elu, o->alpha != 0 ? o->alpha : 1.0f, ft__choose(x > 0, x, a * ft__expm1(x)),
                     ft__choose(x > 0, 1.0f, a * ft__exp(x)))
FT__ACTIVATION_LOOPS(softplus, 0, ft__softplus(x), ft__sigmoid(x))
FT__ACTIVATION_LOOPS(softsign, 0, x / (1.0f + ft__absolute(x)), ft__softsign_slope(x))
FT__ACTIVATION_LOOPS(gelu_erf, 0, 0.5f * x * (1.0f + ft__erf(0.707106781f * x)),
                     ft__gelu_erf_slope(x))
FT__ACTIVATION_LOOPS(gelu_tanh, 0, 0.5f * x * (1.0f + ft__gelu_tanh(x)), ft__gelu_tanh_slope(x))
FT__ACTIVATION_LOOPS(silu, 0, x * ft__sigmoid(x), ft__silu_slope(x))

static void ft__gelu_values(const ft_activation_options *o, const float *from, float *to,
                            size_t count)
{
    if (o->tanh_approximation) ft__gelu_tanh_values(o, from, to, count);
    else ft__gelu_erf_values(o, from, to, count);
}

static void ft__gelu_slopes(const ft_activation_options *o, const float *kept, const float *dy,
                            float *dx, size_t count, bool add)
{
    if (o->tanh_approximation) ft__gelu_tanh_slopes(o, kept, dy, dx, count, add);
    else ft__gelu_erf_slopes(o, kept, dy, dx, count, add);
}

FT__ACTIVATION(sigmoid, FT__READS_Y)
FT__ACTIVATION(tanh, FT__READS_Y)
FT__ACTIVATION(relu, FT__READS_Y)
FT__ACTIVATION(relu6, FT__READS_Y)
FT__ACTIVATION(leaky_relu, FT__READS_X)
FT__ACTIVATION(elu, FT__READS_X)
FT__ACTIVATION(softplus, FT__READS_X)
FT__ACTIVATION(softsign, FT__READS_X)
FT__ACTIVATION(gelu, FT__READS_X)
FT__ACTIVATION(silu, FT__READS_X)

/* The activations that a convolution or linear layer applies to its own output. */
static bool ft__can_fuse(int op) { return op >= FT__OP_sigmoid && op <= FT__OP_silu; }

static void ft__activate(int op, const ft__options *options, float *values, size_t count)
{
    const ft_activation_options *o = &options->activation;
    switch (op) {
#define FT__ACTIVATE(name) case FT__OP_##name: ft__##name##_values(o, values, values, count); break;
    FT__ACTIVATE(sigmoid) FT__ACTIVATE(tanh) FT__ACTIVATE(relu) FT__ACTIVATE(relu6)
    FT__ACTIVATE(leaky_relu) FT__ACTIVATE(elu) FT__ACTIVATE(softplus) FT__ACTIVATE(softsign)
    FT__ACTIVATE(gelu) FT__ACTIVATE(silu)
    default: break;
    }
}

/* Whether it only keeps numbers within bounds, which kernels do while those are in registers. */
static bool ft__is_clamp(int op, float *low, float *high)
{
    *low = 0;
    *high = op == FT__OP_relu6 ? 6.0f : (float)HUGE_VAL;
    return op == FT__OP_relu || op == FT__OP_relu6;
}

/* Whether a layer that is trained may apply it: then only the output is kept. */
static bool ft__can_fuse_trained(int op) { return op >= FT__OP_sigmoid && op <= FT__OP_relu6; }

/* Backward of an activation that a layer applied: its output's gradient becomes that of what the
   activation got, in place. */
static void ft__activation_back_chunk(void *context, int index)
{
    const ft__call *call = (const ft__call *)context;
    const ft_activation_options *o = &call->fused_options->activation;
    size_t at = (size_t)index * FT__CHUNK, count = ft__count(&call->output) - at;
    const float *y = call->output.value + at;
    float *dy = call->output.gradient + at;
    if (count > FT__CHUNK) count = FT__CHUNK;
    switch (call->fused) {
    case FT__OP_sigmoid: ft__sigmoid_slopes(o, y, dy, dy, count, false); break;
    case FT__OP_tanh: ft__tanh_slopes(o, y, dy, dy, count, false); break;
    case FT__OP_relu: ft__clamp_back[call->context->simd](y, dy, count, false, 0); break;
    default: ft__clamp_back[call->context->simd](y, dy, count, true, 6); break;
    }
}

static void ft__activation_back(const ft__call *call)
{
    ft__parallel(call->context, ft__chunks(ft__count(&call->output)), ft__activation_back_chunk,
                 (void *)(uintptr_t)call);
}

/* ---- Softmax over one axis: the tensor as [outer, axis, inner] ---- */
typedef struct ft__axis { size_t outer, size, inner; } ft__axis;

static int ft__axis_of(const ft__node *node, int rank)
{
    int axis = node->options.activation.axis;
    return axis == 0 ? rank - 1 : axis < 0 ? axis + rank : axis;
}

/* The sizes of a tensor in the order in which they lie in memory; where an axis stands there. */
static int ft__memory_axis(const ft__tensor *t, int axis)
{
    static const int place[4] = {0, 3, 1, 2}; /* N, C, H, W in [N, H, W, C] */
    return t->channels_last && axis < 4 ? place[axis] : axis;
}

static ft_shape ft__memory_shape(const ft__tensor *t)
{
    ft_shape shape = t->shape;
    int d;
    for (d = 0; d < shape.rank; ++d) shape.size[ft__memory_axis(t, d)] = t->shape.size[d];
    return shape;
}

static ft__axis ft__split_axis(const ft_shape *shape, int axis)
{
    ft__axis a = {1, 1, 1};
    int d;
    for (d = 0; d < shape->rank; ++d) {
        size_t size = (size_t)shape->size[d];
        if (d < axis) a.outer *= size;
        else if (d == axis) a.size = size;
        else a.inner *= size;
    }
    return a;
}

static ft_status ft__softmax_shape(ft__context *c, const ft__node *node, const ft__tensor *input,
                                   int input_count, ft_shape *output)
{
    int axis = ft__axis_of(node, input[0].shape.rank);
    *output = input[0].shape;
    if (axis < 1 || axis >= input[0].shape.rank)
        return ft__fail(c, FT_SHAPE, "%s: axis %d of %d dimensions", node->name, axis,
                        input[0].shape.rank);
    return ft__want_numbers(c, node, input, input_count);
}

#if defined(__GNUC__) && !defined(__clang__) && !defined(FINETUNE_NO_SIMD)
#pragma GCC push_options /* not fused: the bits are the same at each level */
#pragma GCC optimize("O3", "fp-contract=off")
#endif

/* The largest of a line. NaN is passed over unless it stands first. */
FT__INLINE float ft__largest_body(const float *x, size_t count)
{
    float lanes[FT__LANES], largest;
    size_t at, i;
    for (i = 0; i < FT__LANES; ++i) lanes[i] = x[0];
    for (at = 0; at + FT__LANES <= count; at += FT__LANES)
        for (i = 0; i < FT__LANES; ++i)
            lanes[i] = ft__choose(x[at + i] > lanes[i], x[at + i], lanes[i]);
    for (largest = lanes[0], i = 1; i < FT__LANES; ++i)
        if (lanes[i] > largest) largest = lanes[i];
    for (; at < count; ++at)
        if (x[at] > largest) largest = x[at];
    return largest;
}

/* y = e^(x - max) / sum, or its logarithm x - max - log(sum): the largest exponent is 0. The sum is
   a double, so that it stays good for many classes. */
FT__INLINE void ft__softmax_body(const float *x, float *y, size_t count, bool logarithm)
{
    float largest = ft__largest_body(x, count), all;
    double sum = 0;
    size_t i;
    FT__TURNS_APART for (i = 0; i < count; ++i) y[i] = ft__exp(x[i] - largest);
    for (i = 0; i < count; ++i) sum += (double)y[i];
    all = logarithm ? ft__ln((float)sum) : (float)sum;
    if (logarithm) FT__TURNS_APART for (i = 0; i < count; ++i) y[i] = (x[i] - largest) - all;
    else FT__TURNS_APART for (i = 0; i < count; ++i) y[i] = y[i] / all;
}

FT__INLINE void ft__exp_body(float *y, size_t count)
{
    size_t i;
    FT__TURNS_APART for (i = 0; i < count; ++i) y[i] = ft__exp(y[i]);
}

/* dx += scale (p - share) */
FT__INLINE void ft__add_probabilities_body(const float *p, float scale, float share, size_t count,
                                           float *dx)
{
    size_t i;
    FT__TURNS_APART for (i = 0; i < count; ++i) dx[i] += scale * (p[i] - share);
}

FT__LEVELS(ft__find_largest, (const float *x, size_t count, float *to),
           *to = ft__largest_body(x, count))
FT__LEVELS(ft__softmax, (const float *x, float *y, size_t count, bool logarithm),
           ft__softmax_body(x, y, count, logarithm))
FT__LEVELS(ft__exp_line, (float *y, size_t count), ft__exp_body(y, count))
FT__LEVELS(ft__add_probabilities,
           (const float *p, float scale, float share, size_t count, float *dx),
           ft__add_probabilities_body(p, scale, share, count, dx))

#if defined(__GNUC__) && !defined(__clang__) && !defined(FINETUNE_NO_SIMD)
#pragma GCC pop_options
#endif

/* The same for numbers that are `stride` apart: the oracle of ft__softmax. */
static void ft__softmax_line(const float *x, float *y, size_t count, size_t stride, bool logarithm)
{
    float largest = x[0], all;
    double sum = 0;
    size_t i;
    for (i = 1; i < count; ++i)
        largest = ft__choose(x[i * stride] > largest, x[i * stride], largest);
    for (i = 0; i < count; ++i) y[i * stride] = ft__exp(x[i * stride] - largest);
    for (i = 0; i < count; ++i) sum += (double)y[i * stride];
    all = logarithm ? ft__ln((float)sum) : (float)sum;
    for (i = 0; i < count; ++i)
        y[i * stride] = logarithm ? (x[i * stride] - largest) - all : y[i * stride] / all;
}

/* softmax: dx = y (dy - sum(dy y)); log_softmax: dx = dy - e^y sum(dy). */
static void ft__softmax_line_backward(const float *y, const float *dy, float *dx, size_t count,
                                      size_t stride, bool logarithm)
{
    double total = 0;
    float sum;
    size_t i;
    for (i = 0; i < count; ++i)
        total += (double)dy[i * stride] * (logarithm ? 1.0 : (double)y[i * stride]);
    sum = (float)total;
    for (i = 0; i < count; ++i) {
        size_t j = i * stride;
        dx[j] += logarithm ? dy[j] - ft__exp(y[j]) * sum : y[j] * (dy[j] - sum);
    }
}

typedef struct ft__softmax_job {
    const ft__call *call;
    ft__axis axis;
    size_t lines;           /* of one index of the parallel loop */
    bool logarithm, backward;
} ft__softmax_job;

static void ft__softmax_chunk(void *context, int index)
{
    const ft__softmax_job *job = (const ft__softmax_job *)context;
    const ft__call *call = job->call;
    size_t line = (size_t)index * job->lines, end = line + job->lines;
    if (end > job->axis.outer * job->axis.inner) end = job->axis.outer * job->axis.inner;
    for (; line < end; ++line) {
        size_t at = line / job->axis.inner * job->axis.size * job->axis.inner
            + line % job->axis.inner;
        if (job->backward)
            ft__softmax_line_backward(call->output.value + at, call->output.gradient + at,
                                      call->input[0].gradient + at, job->axis.size,
                                      job->axis.inner, job->logarithm);
        else if (job->axis.inner == 1)
            ft__softmax[call->context->simd](call->input[0].value + at, call->output.value + at,
                                             job->axis.size, job->logarithm);
        else
            ft__softmax_line(call->input[0].value + at, call->output.value + at, job->axis.size,
                             job->axis.inner, job->logarithm);
    }
}

static void ft__softmax_run(const ft__call *call, bool logarithm, bool backward)
{
    ft_shape shape = ft__memory_shape(&call->output);
    ft__softmax_job job;
    size_t lines;
    job.call = call;
    job.axis = ft__split_axis(&shape, ft__memory_axis(&call->output,
                                                      ft__axis_of(call->node, shape.rank)));
    job.lines = job.axis.size < FT__CHUNK ? FT__CHUNK / job.axis.size : 1;
    job.logarithm = logarithm;
    job.backward = backward;
    lines = job.axis.outer * job.axis.inner;
    if (backward && !call->input[0].gradient) return;
    ft__parallel(call->context, (int)((lines + job.lines - 1) / job.lines), ft__softmax_chunk,
                 &job);
}

static void ft__softmax_forward(const ft__call *call) { ft__softmax_run(call, false, false); }
static void ft__softmax_backward(const ft__call *call) { ft__softmax_run(call, false, true); }
static void ft__log_softmax_forward(const ft__call *call) { ft__softmax_run(call, true, false); }
static void ft__log_softmax_backward(const ft__call *call) { ft__softmax_run(call, true, true); }

/* ---- Dropout (Srivastava et al. 2014), scaled in training as PyTorch does. The mask is a function
   of the step's key and the position, so backward draws it again instead of keeping it. ---- */
static void ft__dropout_run(const ft__call *call, int index, bool backward)
{
    float p = call->node->options.dropout.probability, scale;
    bool identity = !call->training || call->node->frozen;
    bool locked = call->node->options.dropout.locked;
    size_t i = (size_t)index * FT__CHUNK, end = ft__count(&call->output), which;
    size_t each = call->output.shape.rank > 2 ? (size_t)call->output.shape.size[2] : 1;
    size_t sample = call->output.shape.rank > 1 ? (size_t)call->output.shape.size[1] * each : 1;
    if (p == 0) p = 0.5f;
    scale = p < 1 ? 1.0f / (1.0f - p) : 0.0f;
    if (end - i > FT__CHUNK) end = i + FT__CHUNK;
    for (; i < end; ++i) {
        float factor;
        which = locked ? i / sample * each + i % each : i;
        factor = identity ? 1.0f : ft__choose(ft__uniform(call->random, which) < p, 0.0f, scale);
        if (backward) call->input[0].gradient[i] += call->output.gradient[i] * factor;
        else call->output.value[i] = call->input[0].value[i] * factor;
    }
}

static void ft__dropout_forward_chunk(void *context, int index)
{
    ft__dropout_run((const ft__call *)context, index, false);
}

static void ft__dropout_backward_chunk(void *context, int index)
{
    ft__dropout_run((const ft__call *)context, index, true);
}

static void ft__dropout_forward(const ft__call *call)
{
    ft__parallel(call->context, ft__chunks(ft__count(&call->output)), ft__dropout_forward_chunk,
                 (void *)(uintptr_t)call);
}

static void ft__dropout_backward(const ft__call *call)
{
    if (call->input[0].gradient)
        ft__parallel(call->context, ft__chunks(ft__count(&call->output)),
                     ft__dropout_backward_chunk, (void *)(uintptr_t)call);
}
