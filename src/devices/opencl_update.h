#pragma once
#include "interface/types.h"
#include "interface/training_types.h"
#include "platform/context.h"
#include "nodes/nodes.h"
#include "optimizers/options.h"
#include "optimizers/adam.h"
#include "devices/device.h"
#include "devices/opencl_memory.h"
#include "devices/opencl_kernels.h"
#include "devices/opencl_losses.h"

/* =============================================================================================
   [SECTION] devices/opencl_update: OpenCL: a step's report, and the update of the weights
   ============================================================================================= */
#ifdef FINETUNE_OPENCL
/* Sums the squares of all gradients in parts; returns the number of parts. */
static size_t ft__cl_all_squares(ft_model *m, cl_mem *sums)
{
    size_t parts = 0, at = 0, count, blocks;
    int i;
    for (i = 0; i < m->node_count; ++i)
        if (ft__is_trained(&m->nodes[i]))
            parts += ft__squares_parts(ft__shape_count(&m->nodes[i].shape));
    *sums = ft__device_scratch(&m->context, FT__SCRATCH_SQUARES, parts * sizeof(float));
    for (i = 0; i < m->node_count && *sums; ++i) {
        if (!ft__is_trained(&m->nodes[i])) continue;
        count = ft__shape_count(&m->nodes[i].shape);
        blocks = ft__squares_parts(count);
        ft__device_squares(&m->context, m->nodes[i].gradient, count, *sums, at, blocks);
        at += blocks;
    }
    return parts;
}

/* Finds on the device which labels the output got right. */
static cl_mem ft__cl_hits(ft__context *c, const ft__scored *s)
{
    cl_mem hits = ft__device_scratch(c, FT__SCRATCH_HITS, s->rows * sizeof(cl_int));
    ft__run_kernel(c, "score_rows", s->rows, "RRbnn", s->output, s->rows * s->classes, s->labels,
                   s->rows, hits, s->rows, s->classes);
    return hits;
}

/* Makes the step's report, which decides whether its update happens. */
static void ft__cl_guard(ft_model *m, const ft__scored *s)
{
    ft__context *c = &m->context;
    cl_mem sums = NULL, hits = s->rows > 0 ? ft__cl_hits(c, s) : NULL;
    size_t parts = ft__cl_all_squares(m, &sums);
    ft__launch l = ft__start(c, "step_guard");
    if (!ft__ok(c)) return;
    ft__args(&l, "bnRifbnb", sums, parts, s->loss, (size_t)1, s->loss != NULL,
             m->optimizer->options.clip_norm, hits ? hits : c->device->none, hits ? s->rows : 0,
             c->device->news);
    ft__go_grid(&l, 256, 1, 1, 256, 1);
}

static void ft__cl_update(ft_model *m, const ft__update *update)
{
    const ft_optimizer_options *o = &update->optimizer->options;
    bool decoupled = o->optimizer == FT_ADAMW;
    int i;
    for (i = 0; i < m->node_count; ++i) {
        ft__node *node = &m->nodes[i];
        size_t count = ft__shape_count(&node->shape);
        float rate = update->learning_rate * node->learning_rate_factor;
        float decay = node->weight_decay >= 0 ? node->weight_decay : update->weight_decay;
        ft__launch l;
        if (!ft__is_trained(node)) continue;
        l = ft__start(&m->context, o->optimizer == FT_SGD ? "update_sgd" : "update_adam");
        ft__args(&l, "AAA", node->value, count, node->gradient, count, node->moment1, count);
        if (o->optimizer != FT_SGD)
            ft__args(&l, "A", node->moment2, count);
        ft__args(&l, "nf", count, o->optimizer == FT_SGD ? rate : rate / update->correction1);
        if (o->optimizer != FT_SGD) ft__args(&l, "f", decoupled ? 1 - rate * decay : 1);
        ft__args(&l, "ff", decoupled ? 0 : decay, o->optimizer == FT_SGD ? o->momentum : o->beta1);
        if (o->optimizer == FT_SGD) ft__args(&l, "i", o->nesterov);
        else {
            ft__args(&l, "fff", o->beta2, o->eps, update->correction2);
        }
        ft__args(&l, "b", m->context.device->news);
        ft__launch_kernel(&l, count);
    }
}
#endif /* FINETUNE_OPENCL */
