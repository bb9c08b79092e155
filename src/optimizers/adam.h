#pragma once
#include "interface/training_types.h"
#include "platform/system.h"
#include "platform/context.h"
#include "kernels/gemm.h"
#include "kernels/levels.h"
#include "kernels/convolution.h"
#include "nodes/nodes.h"
#include "optimizers/options.h"

/* =============================================================================================
   [SECTION] optimizers/adam: Adam, AdamW and SGD: the step of one parameter
   ============================================================================================= */
/* Everything that the update of one parameter needs; constant over its elements. */
typedef struct ft__update {
    const ft__optimizer *optimizer;
    ft__node *node;
    float learning_rate, weight_decay, gradient_scale;
    float correction1, correction2; /* Adam's: 1 - beta1^t, sqrt(1 - beta2^t) */
    float of_moment, of_gradient, of_root, eps; /* of optimizers/other */
} ft__update;

/* The update of one parameter, with its own rate and decay. */
static ft__update ft__update_for(const ft__update *all, ft__node *node)
{
    ft__update u = *all;
    u.node = node;
    u.learning_rate *= node->learning_rate_factor;
    if (node->weight_decay >= 0) u.weight_decay = node->weight_decay;
    return u;
}

#if defined(__GNUC__) && !defined(__clang__) && !defined(FINETUNE_NO_SIMD)
#pragma GCC push_options
#pragma GCC optimize("O3", "fp-contract=fast")
#endif

/* Updates also set the gradient to zero for the next step. SGD as in PyTorch: buffer = momentum *
   buffer + g, p -= lr * buffer (Nesterov: g + momentum * buffer); weight decay is added to g.
   Sutskever et al. 2013 in the form that PyTorch documents. */
FT__INLINE void ft__update_sgd_body(const ft__update *u, size_t from, size_t to)
{
    float *p = u->node->value, *buffer = u->node->moment1;
    float momentum = u->optimizer->options.momentum;
    bool nesterov = u->optimizer->options.nesterov;
    size_t i;
    for (i = from; i < to; ++i) {
        float g = u->node->gradient[i] * u->gradient_scale + u->weight_decay * p[i];
        if (momentum != 0) {
            buffer[i] = momentum * buffer[i] + g;
            g = nesterov ? g + momentum * buffer[i] : buffer[i];
        }
        p[i] -= u->learning_rate * g;
        u->node->gradient[i] = 0;
    }
}

/* Adam (Kingma and Ba 2015) and AdamW (Loshchilov and Hutter 2019), which differ in where weight
   decay acts: on the gradient, or on the weight itself. */
FT__INLINE void ft__update_adam_body(const ft__update *u, size_t from, size_t to)
{
    const ft_optimizer_options *o = &u->optimizer->options;
    float *FT__RESTRICT p = u->node->value, *FT__RESTRICT m = u->node->moment1;
    float *FT__RESTRICT v = u->node->moment2, *FT__RESTRICT gradient = u->node->gradient;
    float beta1 = o->beta1, beta2 = o->beta2, eps = o->eps, scale = u->gradient_scale;
    float correction2 = u->correction2;
    float decay_weight = o->optimizer == FT_ADAMW ? 1 - u->learning_rate * u->weight_decay : 1;
    float decay_gradient = o->optimizer == FT_ADAMW ? 0 : u->weight_decay;
    float step = u->learning_rate / u->correction1 * correction2, tiny = eps * correction2;
    size_t i;
    for (i = from; i < to; ++i) {
        float g = gradient[i] * scale + decay_gradient * p[i];
        m[i] = beta1 * m[i] + (1 - beta1) * g;
        v[i] = beta2 * v[i] + (1 - beta2) * g * g;
        p[i] = p[i] * decay_weight - step * m[i] / (sqrtf(v[i]) + tiny); /* one division */
        gradient[i] = 0;
    }
}

/* The same with vectors; returns the index of the first number left. Against the scalar form an
   MLP's step, most of which was this, takes 0.63 of the time; the Keras CNN's 0.91 (AVX-512). */
#define FT__ADAM(name, attributes, tile, lanes)                                                   \
    attributes static size_t name(const ft__update *u, size_t i, size_t to)                       \
    {                                                                                             \
        FT__FUSED                                                                                 \
        const ft_optimizer_options *o = &u->optimizer->options;                                   \
        float *p = u->node->value, *m = u->node->moment1, *v = u->node->moment2;                  \
        float *gradient = u->node->gradient, beta1 = o->beta1, beta2 = o->beta2;                  \
        float scale = u->gradient_scale, correction2 = u->correction2;                            \
        bool decoupled = o->optimizer == FT_ADAMW;                                                \
        float decay_weight = decoupled ? 1 - u->learning_rate * u->weight_decay : 1;              \
        float decay_gradient = decoupled ? 0 : u->weight_decay;                                   \
        float step = u->learning_rate / u->correction1 * correction2;                             \
        float tiny = o->eps * correction2;                                                       \
        tile##_vector zero = {0};                                                                 \
        for (; i + lanes <= to; i += lanes) {                                                     \
            tile##_vector w = *(const tile##_loose *)(const void *)(p + i);                       \
            tile##_vector first = *(const tile##_loose *)(const void *)(m + i);                   \
            tile##_vector second = *(const tile##_loose *)(const void *)(v + i);                  \
            tile##_vector g = *(const tile##_loose *)(const void *)(gradient + i) * scale         \
                + decay_gradient * w;                                                             \
            first = beta1 * first + (1 - beta1) * g;                                              \
            second = beta2 * second + (1 - beta2) * g * g;                                        \
            w = w * decay_weight;                                                                 \
            FT__ROUNDED(w);                                                                       \
            *(tile##_loose *)(void *)(p + i)                                                      \
                = w - step * first / (tile##_root(second) + tiny);                               \
            *(tile##_loose *)(void *)(m + i) = first;                                             \
            *(tile##_loose *)(void *)(v + i) = second;                                            \
            *(tile##_loose *)(void *)(gradient + i) = zero;                                       \
        }                                                                                         \
        return i;                                                                                 \
    }
#ifdef FT__X86
FT__ADAM(ft__adam_sse2, __attribute__((target("sse2"))), ft__tile_sse2, 4)
FT__ADAM(ft__adam_avx2, __attribute__((target("avx2,fma"))), ft__tile_avx2, 8)
FT__ADAM(ft__adam_avx512, __attribute__((target("avx512f"))), ft__tile_avx512, 16)
#endif

/* The sum of squares of a chunk, in double. */
FT__INLINE void ft__squares_body(ft__update_part *part)
{
    double lanes[16] = {0}, sum = 0;
    const float *g = part->node->gradient;
    size_t i = part->from, l;
    for (; i + 16 <= part->to; i += 16)
        for (l = 0; l < 16; ++l) lanes[l] += (double)g[i + l] * (double)g[i + l];
    for (; i < part->to; ++i) lanes[0] += (double)g[i] * (double)g[i];
    for (l = 0; l < 16; ++l) sum += lanes[l];
    part->squares = sum;
}

FT__LEVELS(ft__update_sgd, (const ft__update *u, size_t from, size_t to),
           ft__update_sgd_body(u, from, to))
FT__LEVELS(ft__update_adam, (const ft__update *u, size_t from, size_t to),
           ft__update_adam_body(u, from, to))
FT__LEVELS(ft__squares, (ft__update_part *part), ft__squares_body(part))

#if defined(__GNUC__) && !defined(__clang__) && !defined(FINETUNE_NO_SIMD)
#pragma GCC pop_options
#endif
