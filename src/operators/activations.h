#pragma once
#include "interface/operators.h"
#include "platform/families.h"
#include "platform/system.h"
#include "basics/threads.h"
#include "kernels/elementary.h"
#include "kernels/levels.h"
#include "kernels/lanes.h"
#include "kernels/convolution.h"
#include "nodes/nodes.h"
#include "operators/table.h"
#include "operators/common.h"

/* =============================================================================================
   [SECTION] operators/activations: Activations
   One function and one derivative each; a macro makes the loops. Derivatives are written in terms
   of the output y where that is possible, so that x need not be kept.
   ============================================================================================= */
static const ft__field ft__activation_fields[] = {
    FT__FLOAT(ft_activation_options, slope), FT__FLOAT(ft_activation_options, alpha),
    FT__INT(ft_activation_options, axis), FT__BOOL(ft_activation_options, tanh_approximation),
    FT__NOT_KEPT(ft_activation_options, per_channel) FT__NO_MORE_FIELDS};

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
    const ft__options *o = &call->node->options;
    size_t at = (size_t)index * FT__CHUNK, count = ft__count(&call->output) - at;
    int simd = call->context->simd;
    if (count > FT__CHUNK) count = FT__CHUNK;
    if (!run->slopes)
        run->values(simd, o, call->input[0].value + at, call->output.value + at, count);
    else
        run->slopes(simd, o, run->at + at, call->output.gradient + at,
                    call->input[0].gradient + at, count, !call->input[0].fresh);
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

static void ft__activation_backward(const ft__call *call, ft__activation_slopes slopes,
                                    uint64_t flags)
{
    ft__activation_run run;
    if (!call->input[0].gradient) return;
    run.call = call;
    run.values = NULL;
    run.slopes = slopes;
    run.at = flags & FT__READS_X ? call->input[0].value : call->output.value;
    ft__parallel(call->context, ft__chunks(ft__count(&call->output)), ft__activation_chunk, &run);
}

#if defined(__clang__)
#define FT__SEPARATE _Pragma("clang fp contract(off)")
#else
#define FT__SEPARATE
#endif
#if defined(__GNUC__) && !defined(__clang__) && !defined(FINETUNE_NO_SIMD)
#pragma GCC push_options
#pragma GCC optimize("O3", "fp-contract=off")
#endif

/* Makes NAME_values and NAME_slopes from two expressions: F in x, and D = dy/dx in x or y (the same
   variable twice: the row says which one is kept). `a` is the option that some have. There is one
   for each instruction set, with the same bits: nothing is fused. Of 2^20 numbers on one core of an
   EPYC, for AVX-512 and without: gelu 1.3 and 4.2 ms, backward 1.9 and 29; silu 0.7 and 2.2, 0.9
   and 13. */
#define FT__ACTIVATION_LOOPS(name, option, F, D)                                                  \
    static float ft__##name##_option(const ft__options *o)                                        \
    {                                                                                             \
        (void)o;                                                                                  \
        return option;                                                                            \
    }                                                                                             \
    FT__INLINE void ft__##name##_values_body(const ft__options *o, const float *from, float *to,  \
                                             size_t count)                                        \
    {                                                                                             \
        FT__SEPARATE                                                                              \
        float a = ft__##name##_option(o), lanes[FT__LANES], out[FT__LANES];                       \
        size_t at;                                                                                \
        int i;                                                                                    \
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
    FT__INLINE void ft__##name##_slopes_body(const ft__options *o, const float *kept,             \
                                             const float *dy, float *dx, size_t count, bool add)  \
    {                                                                                             \
        FT__SEPARATE                                                                              \
        float a = ft__##name##_option(o), lanes[FT__LANES], slope[FT__LANES];                     \
        float sum[FT__LANES], before[FT__LANES] = {0};                                            \
        size_t at;                                                                                \
        int i;                                                                                    \
        (void)a;                                                                                  \
        for (at = 0; at < count; at += FT__LANES) {                                               \
            ft__load_lanes(lanes, kept + at, count - at);                                         \
            ft__load_lanes(slope, dy + at, count - at);                                           \
            if (add) ft__load_lanes(before, dx + at, count - at);                                 \
            for (i = 0; i < FT__LANES; ++i) {                                                     \
                float x = lanes[i], y = x;                                                        \
                (void)y;                                                                          \
                sum[i] = before[i] + slope[i] * (D);                                              \
            }                                                                                     \
            ft__store_lanes(dx + at, sum, count - at);                                            \
        }                                                                                         \
    }                                                                                             \
    FT__LEVELS(ft__##name##_values_of,                                                            \
               (const ft__options *o, const float *from, float *to, size_t count),                \
               ft__##name##_values_body(o, from, to, count))                                      \
    FT__LEVELS(ft__##name##_slopes_of,                                                            \
               (const ft__options *o, const float *kept, const float *dy, float *dx, size_t count,\
                bool add),                                                                        \
               ft__##name##_slopes_body(o, kept, dy, dx, count, add))                             \
    static void ft__##name##_values(int simd, const ft__options *o, const float *from, float *to, \
                                    size_t count)                                                 \
    {                                                                                             \
        ft__##name##_values_of[simd](o, from, to, count);                                         \
    }                                                                                             \
    static void ft__##name##_slopes(int simd, const ft__options *o, const float *kept,            \
                                    const float *dy, float *dx, size_t count, bool add)           \
    {                                                                                             \
        ft__##name##_slopes_of[simd](o, kept, dy, dx, count, add);                                \
    }

/* Makes the operator of NAME_values and NAME_slopes, and its row. */
#define FT__ELEMENTWISE_ROW(name, flags, fields, activation)                                      \
    static void ft__##name##_forward(const ft__call *call)                                        \
    {                                                                                             \
        ft__activation_forward(call, ft__##name##_values);                                        \
    }                                                                                             \
    static void ft__##name##_backward(const ft__call *call)                                       \
    {                                                                                             \
        ft__activation_backward(call, ft__##name##_slopes, flags);                                \
    }                                                                                             \
    static const ft__row ft__row_##name = {                                                       \
        FT__NAMED(name), 1, 1, flags,                                                             \
        ft__same_shape, ft__##name##_forward, FT__BACKWARD(ft__##name##_backward), NULL, fields,  \
        activation};

/* The same for one that layers can apply, with NAME_option. */
#define FT__ACTIVATION_ROW(name, flags, fields, high)                                             \
    static const ft__activation ft__##name##_activation = {ft__##name##_values,                   \
                                                           FT__BACKWARD(ft__##name##_slopes),     \
                                                           ft__##name##_option, high};            \
    FT__ELEMENTWISE_ROW(name, flags, fields, &ft__##name##_activation)

#define FT__ACTIVATION(name, flags, fields, option, F, D)                                         \
    FT__ACTIVATION_LOOPS(name, option, F, D)                                                      \
    FT__ACTIVATION_ROW(name, flags, fields, 0)

/* GELU (Hendrycks and Gimpel 2016): x * Phi(x), where Phi is the normal distribution function; or
   the paper's approximation by tanh(sqrt(2/pi) (x + 0.044715 x^3)). The derivatives follow from the
   product rule; their bell-curve term is 0 beyond 20, and would be inf * 0 for a huge x. */
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

/* relu and relu6 only clamp, which kernels do while the numbers are in registers. */
/* In files: the other activations | x | */
FT__ACTIVATION_LOOPS(relu, 0, ft__choose(x < 0, 0.0f, x), ft__choose(y <= 0, 0.0f, 1.0f))
FT__ACTIVATION_ROW(relu, FT__OF_Y, ft__no_fields, (float)HUGE_VAL)

FT__ACTIVATION_LOOPS(relu6, 0, ft__choose(x > 6, 6.0f, ft__choose(x < 0, 0.0f, x)),
                     ft__choose(y <= 0, 0.0f, ft__choose(y >= 6, 0.0f, 1.0f)))
FT__ACTIVATION_ROW(relu6, FT__OF_Y, ft__no_fields, 6.0f)

FT__ACTIVATION(sigmoid, FT__OF_Y | FT__BY_SIGMOID, ft__no_fields, 0, ft__sigmoid(x),
               y * (1.0f - y))
FT__ACTIVATION(tanh, FT__OF_Y, ft__no_fields, 0, ft__tanh(x), 1.0f - y * y)
/* In files: `leaky_relu`, `elu`, `celu`, `gelu`, `softmax`, `log_softmax`, `softmin`, `glu` | x |
   `slope` 0.01 (leaky_relu), `alpha` 1 (elu, celu), `tanh_approximation` false (gelu), `axis` 0:
   the last, 1: channels (softmax, log_softmax, softmin, glu) */
FT__ACTIVATION(leaky_relu, FT__OF_X, ft__activation_fields,
               o->activation.slope != 0 ? o->activation.slope : 0.01f,
               ft__choose(x > 0, x, a * x), ft__choose(x > 0, 1.0f, a))
FT__ACTIVATION(elu, FT__OF_X, ft__activation_fields,
               o->activation.alpha != 0 ? o->activation.alpha : 1.0f,
               ft__choose(x > 0, x, a * ft__expm1(x)), ft__choose(x > 0, 1.0f, a * ft__exp(x)))
FT__ACTIVATION(softplus, FT__OF_X | FT__BY_SIGMOID, ft__no_fields, 0, ft__softplus(x),
               ft__sigmoid(x))
FT__ACTIVATION(softsign, FT__OF_X, ft__no_fields, 0, x / (1.0f + ft__absolute(x)),
               ft__softsign_slope(x))
FT__ACTIVATION(silu, FT__OF_X, ft__no_fields, 0, x * ft__sigmoid(x), ft__silu_slope(x))

/* Mish (Misra 2019): x * tanh(softplus(x)). */
FT__INLINE float ft__mish_slope(float x)
{
    float t = ft__tanh(ft__softplus(x));
    return t + x * (1.0f - t * t) * ft__sigmoid(x);
}

FT__ACTIVATION(mish, FT__OF_X, ft__no_fields, 0, x * ft__tanh(ft__softplus(x)), ft__mish_slope(x))

FT__ACTIVATION_LOOPS(gelu_erf, 0, 0.5f * x * (1.0f + ft__erf(0.707106781f * x)),
                     ft__gelu_erf_slope(x))
FT__ACTIVATION_LOOPS(gelu_tanh, 0, 0.5f * x * (1.0f + ft__gelu_tanh(x)), ft__gelu_tanh_slope(x))

static void ft__gelu_values(int simd, const ft__options *o, const float *from, float *to,
                            size_t count)
{
    if (o->activation.tanh_approximation) ft__gelu_tanh_values(simd, o, from, to, count);
    else ft__gelu_erf_values(simd, o, from, to, count);
}

static void ft__gelu_slopes(int simd, const ft__options *o, const float *kept, const float *dy,
                            float *dx, size_t count, bool add)
{
    if (o->activation.tanh_approximation) ft__gelu_tanh_slopes(simd, o, kept, dy, dx, count, add);
    else ft__gelu_erf_slopes(simd, o, kept, dy, dx, count, add);
}

static float ft__gelu_option(const ft__options *o)
{
    return o->activation.tanh_approximation ? 1.0f : 0.0f;
}

FT__ACTIVATION_ROW(gelu, FT__OF_X, ft__activation_fields, 0)

#if defined(__GNUC__) && !defined(__clang__) && !defined(FINETUNE_NO_SIMD)
#pragma GCC pop_options
#endif

/* Applies the activation that a layer fuses to values, in place. */
static void ft__activate(const ft__call *call, float *values, size_t count)
{
    call->fused->activation->values(call->context->simd, call->fused_options, values, values,
                                    count);
}

/* Whether the activation, or NULL, only clamps. */
static bool ft__is_clamp(const ft__row *row, float *low, float *high)
{
    bool clamps = row && row->activation->high > 0;
    *low = 0;
    *high = clamps ? row->activation->high : (float)HUGE_VAL;
    return clamps;
}

/* Backward of an activation that a layer applied: replaces the gradient of its output by that of
   its input, in place. */
static void ft__activation_back_chunk(void *context, int index)
{
    const ft__call *call = (const ft__call *)context;
    const ft__options *o = call->fused_options;
    size_t at = (size_t)index * FT__CHUNK, count = ft__count(&call->output) - at;
    const float *y = call->output.value + at;
    float *dy = call->output.gradient + at, low, high;
    if (count > FT__CHUNK) count = FT__CHUNK;
    if (ft__is_clamp(call->fused, &low, &high))
        ft__clamp_back[call->context->simd](y, dy, count, high < FLT_MAX, high);
    else call->fused->activation->slopes(call->context->simd, o, y, dy, dy, count, false);
}

static void ft__activation_back(const ft__call *call)
{
    ft__parallel(call->context, ft__chunks(ft__count(&call->output)), ft__activation_back_chunk,
                 (void *)(uintptr_t)call);
}
