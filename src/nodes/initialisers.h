#pragma once
#include "interface/types.h"
#include "platform/context.h"
#include "basics/random.h"
#include "kernels/elementary.h"
#include "nodes/nodes.h"
#include "nodes/storage.h"

/* =============================================================================================
   [SECTION] nodes/initialisers: Initialisers
   The values of a parameter are a function of (seed, its name, index): they depend neither on the
   order in which a network is built nor on its other nodes.
   ============================================================================================= */

/* A normal variate by Marsaglia's polar method: pairs of uniforms until one falls into the unit
   circle. Each index has its own 32 tries; all fail once in 10^21. */
static float ft__normal(uint64_t key, uint64_t index)
{
    int try_number;
    for (try_number = 0; try_number < 32; ++try_number) {
        uint64_t at = (index * 32 + (uint64_t)try_number) * 2;
        float u = 2 * ft__uniform(key, at) - 1, v = 2 * ft__uniform(key, at + 1) - 1;
        float s = u * u + v * v;
        if (s > 0 && s < 1) return u * sqrtf(-2 * ft__ln(s) / s);
    }
    return 0;
}

static void ft__fans(const ft__node *node, float *in, float *out)
{
    float area = 1;
    int d;
    for (d = 2; d < node->shape.rank; ++d) area *= (float)node->shape.size[d];
    *in = node->fan_in ? (float)node->fan_in
        : (float)node->shape.size[node->shape.rank > 1 ? 1 : 0] * area;
    *out = node->fan_out ? (float)node->fan_out : (float)node->shape.size[0] * area;
}

/* PyTorch draws weights and biases from U(-b, b), b = 1 / sqrt(fan_in), which is kaiming_uniform
   with a = sqrt(5). Keras draws weights as Glorot and Bengio 2010 and sets biases to zero. */
static ft_initialiser ft__initialiser_of(const ft_model *m, const ft__node *node)
{
    if (node->initialiser != FT_INIT_DEFAULT) return node->initialiser;
    if (!m->keras_initialisers) return FT_INIT_KAIMING_UNIFORM;
    return node->shape.rank < 2 ? FT_INIT_ZEROS : FT_INIT_XAVIER_UNIFORM;
}

static void ft__initialise_node(ft_model *m, ft__node *node)
{
    size_t count = ft__shape_count(&node->shape), i;
    uint64_t name = ft__hash_bytes(0, node->name, strlen(node->name));
    uint64_t key = ft__key(m->context.desc.seed, name, 0, FT__USE_INITIALISE);
    ft_initialiser how = ft__initialiser_of(m, node);
    float in, out, bound;
    if (ft__own_float32(m, node, false) != FT_OK) return;
    ft__fans(node, &in, &out);
    bound = how == FT_INIT_KAIMING_UNIFORM ? 1 / sqrtf(in)
        : how == FT_INIT_XAVIER_UNIFORM ? sqrtf(6 / (in + out)) : sqrtf(2 / out);
    for (i = 0; node->value && i < count; ++i) {
        if (how >= FT_INIT_ZEROS)
            node->value[i] = how == FT_INIT_ZEROS ? 0.0f : how == FT_INIT_ONES ? 1.0f : 0.25f;
        else if (how == FT_INIT_KAIMING_NORMAL) node->value[i] = bound * ft__normal(key, i);
        else node->value[i] = bound * (2 * ft__uniform(key, i) - 1);
    }
}
