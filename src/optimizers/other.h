#pragma once
#include "interface/training_types.h"
#include "platform/system.h"
#include "platform/context.h"
#include "basics/numbers.h"
#include "kernels/levels.h"
#include "nodes/nodes.h"
#include "optimizers/adam.h"

/* =============================================================================================
   [SECTION] optimizers/other: RMSprop, Adagrad, NAdam, RAdam and Lion: the step of one parameter
   As PyTorch has them. Where they differ only by constants they are one function.
   ============================================================================================= */
#if defined(__GNUC__) && !defined(__clang__) && !defined(FINETUNE_NO_SIMD)
#pragma GCC push_options
#pragma GCC optimize("O3", "fp-contract=fast")
#endif

/* RMSprop: v = alpha v + (1 - alpha) g^2; Adagrad: v += g^2. The step is g / (sqrt(v) + eps), with
   momentum buffer = momentum * buffer + that. */
FT__INLINE void ft__update_squares_body(const ft__update *u, size_t from, size_t to)
{
    const ft_optimizer_options *o = &u->optimizer->options;
    float *FT__RESTRICT p = u->node->value, *FT__RESTRICT v = u->node->moment1;
    float *FT__RESTRICT buffer = u->node->moment2, *FT__RESTRICT gradient = u->node->gradient;
    bool sums = o->optimizer == FT_ADAGRAD;
    float kept = sums ? 1 : o->alpha, added = sums ? 1 : 1 - o->alpha;
    size_t i;
    for (i = from; i < to; ++i) {
        float g = gradient[i] * u->gradient_scale + u->weight_decay * p[i];
        v[i] = kept * v[i] + added * g * g;
        g /= sqrtf(v[i]) + o->eps;
        if (buffer) g = buffer[i] = o->momentum * buffer[i] + g;
        p[i] -= u->learning_rate * g;
        gradient[i] = 0;
    }
}

/* NAdam and RAdam: Adam's moments, and p -= rate * (a m + b g) / (c sqrt(v) + eps). */
FT__INLINE void ft__update_nadam_body(const ft__update *u, size_t from, size_t to)
{
    const ft_optimizer_options *o = &u->optimizer->options;
    float *FT__RESTRICT p = u->node->value, *FT__RESTRICT m = u->node->moment1;
    float *FT__RESTRICT v = u->node->moment2, *FT__RESTRICT gradient = u->node->gradient;
    float beta1 = o->beta1, beta2 = o->beta2, a = u->of_moment, b = u->of_gradient, c = u->of_root;
    size_t i;
    for (i = from; i < to; ++i) {
        float g = gradient[i] * u->gradient_scale + u->weight_decay * p[i];
        m[i] = beta1 * m[i] + (1 - beta1) * g;
        v[i] = beta2 * v[i] + (1 - beta2) * g * g;
        p[i] -= u->learning_rate * (a * m[i] + b * g) / (c * sqrtf(v[i]) + u->eps);
        gradient[i] = 0;
    }
}

/* p = p (1 - rate decay) - rate sign(beta1 m + (1 - beta1) g); m = beta2 m + (1 - beta2) g */
FT__INLINE void ft__update_lion_body(const ft__update *u, size_t from, size_t to)
{
    const ft_optimizer_options *o = &u->optimizer->options;
    float *FT__RESTRICT p = u->node->value, *FT__RESTRICT m = u->node->moment1;
    float *FT__RESTRICT gradient = u->node->gradient, beta1 = o->beta1, beta2 = o->beta2;
    float decay = 1 - u->learning_rate * u->weight_decay;
    size_t i;
    for (i = from; i < to; ++i) {
        float g = gradient[i] * u->gradient_scale, way = beta1 * m[i] + (1 - beta1) * g;
        float step = way > 0 ? u->learning_rate : way < 0 ? -u->learning_rate : 0;
        p[i] = p[i] * decay - step;
        m[i] = beta2 * m[i] + (1 - beta2) * g;
        gradient[i] = 0;
    }
}

FT__LEVELS(ft__update_squares, (const ft__update *u, size_t from, size_t to),
           ft__update_squares_body(u, from, to))
FT__LEVELS(ft__update_nadam, (const ft__update *u, size_t from, size_t to),
           ft__update_nadam_body(u, from, to))
FT__LEVELS(ft__update_lion, (const ft__update *u, size_t from, size_t to),
           ft__update_lion_body(u, from, to))

#if defined(__GNUC__) && !defined(__clang__) && !defined(FINETUNE_NO_SIMD)
#pragma GCC pop_options
#endif

/* NAdam's momentum in step t, which grows to beta1: PyTorch's momentum_decay is 4e-3. */
static double ft__nadam_momentum(double beta1, uint64_t t)
{
    const double shrinks = 0.9998367253526753; /* 0.96^(4e-3) */
    return beta1 * (1 - 0.5 * ft__power(shrinks, t));
}

/* The product of the momentum of all steps up to t: one more factor than before, or, where steps
   were skipped (a checkpoint), all of them in the same order. */
static double ft__nadam_product(ft__optimizer *o, uint64_t t)
{
    uint64_t i;
    if (o->product_of + 1 != t) o->product_of = 0;
    if (o->product_of == 0) o->product = 1;
    for (i = o->product_of + 1; i <= t; ++i)
        o->product *= ft__nadam_momentum((double)o->options.beta1, i);
    o->product_of = t;
    return o->product;
}

/* The variance of few steps is unreliable: RAdam then goes by the first moment alone. */
static void ft__radam_constants(const ft__optimizer *o, ft__update *u)
{
    double beta2 = (double)o->options.beta2, past = ft__power(beta2, o->updates);
    double most = 2 / (1 - beta2) - 1, length = most - 2 * (double)o->updates * past / (1 - past);
    double rect = length > 5 ? (length - 4) * (length - 2) * most
        / ((most - 4) * (most - 2) * length) : 0;
    u->of_gradient = 0;
    u->of_moment = 1 / u->correction1;
    u->of_root = length > 5;
    u->eps = length > 5 ? o->options.eps : 1;
    if (length > 5) u->of_moment = (float)(sqrt(rect * (1 - past)) / (double)u->correction1);
}

/* Fills in what is constant over the numbers of an update. */
static void ft__update_constants(ft__optimizer *o, ft__update *u)
{
    double beta1 = (double)o->options.beta1, product, now, next;
    u->eps = o->options.eps;
    if (o->options.optimizer == FT_RADAM) ft__radam_constants(o, u);
    if (o->options.optimizer != FT_NADAM) return;
    product = ft__nadam_product(o, o->updates);
    now = ft__nadam_momentum(beta1, o->updates);
    next = ft__nadam_momentum(beta1, o->updates + 1);
    u->of_moment = (float)(next / (1 - product * next));
    u->of_gradient = (float)((1 - now) / (1 - product));
    u->of_root = 1 / u->correction2;
}
