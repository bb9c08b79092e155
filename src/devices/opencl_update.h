#pragma once
#include "interface/types.h"
#include "interface/training_types.h"
#include "platform/context.h"
#include "nodes/nodes.h"
#include "optimizers/options.h"
#include "optimizers/adam.h"
#include "optimizers/adafactor.h"
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
    ft__args(&l, "bnRiff", sums, parts, s->loss, (size_t)1, s->loss != NULL,
             m->optimizer->options.clip_norm, ft__gathered_scale(m->optimizer));
    ft__args(&l, "bnb", hits ? hits : c->device->none, hits ? s->rows : 0, c->device->news);
    ft__go_grid(&l, 256, 1, 1, 256, 1);
}

/* Each adds a kernel's arguments after weights and gradient; `u` has the parameter's own rate and
   decay. */
static void ft__cl_update_sgd(ft__launch *l, const ft__update *u, size_t count)
{
    ft__args(l, "Anff", u->node->moment1, count, count, u->learning_rate, u->weight_decay);
    ft__args(l, "fi", u->optimizer->options.momentum, u->optimizer->options.nesterov);
}

static void ft__cl_update_adam(ft__launch *l, const ft__update *u, size_t count)
{
    const ft_optimizer_options *o = &u->optimizer->options;
    bool decoupled = o->optimizer == FT_ADAMW;
    ft__args(l, "AAnf", u->node->moment1, count, u->node->moment2, count, count,
             u->learning_rate / u->correction1);
    ft__args(l, "ff", decoupled ? 1 - u->learning_rate * u->weight_decay : 1,
             decoupled ? 0 : u->weight_decay);
    ft__args(l, "ffff", o->beta1, o->beta2, o->eps, u->correction2);
}

static void ft__cl_update_squares(ft__launch *l, const ft__update *u, size_t count)
{
    const ft_optimizer_options *o = &u->optimizer->options;
    bool sums = o->optimizer == FT_ADAGRAD;
    ft__args(l, "AAnff", u->node->moment1, count, u->node->moment2, count, count,
             u->learning_rate, u->weight_decay);
    ft__args(l, "ffff", sums ? 1 : o->alpha, sums ? 1 : 1 - o->alpha, o->momentum, o->eps);
}

static void ft__cl_update_nadam(ft__launch *l, const ft__update *u, size_t count)
{
    const ft_optimizer_options *o = &u->optimizer->options;
    ft__args(l, "AAnff", u->node->moment1, count, u->node->moment2, count, count,
             u->learning_rate, u->weight_decay);
    ft__args(l, "ffffff", o->beta1, o->beta2, u->of_moment, u->of_gradient, u->of_root, u->eps);
}

static void ft__cl_update_lion(ft__launch *l, const ft__update *u, size_t count)
{
    const ft_optimizer_options *o = &u->optimizer->options;
    ft__args(l, "Anff", u->node->moment1, count, count, u->learning_rate,
             1 - u->learning_rate * u->weight_decay);
    ft__args(l, "ff", o->beta1, o->beta2);
}

/* Adafactor's is several kernels, for its sums over rows, over columns and over all numbers. */
static void ft__cl_adafactor(ft__context *c, const ft__update *u)
{
    ft__factors f = ft__factors_of(u);
    ft__node *node = u->node;
    cl_mem news = c->device->news, means, sums;
    size_t parts = ft__squares_parts(f.count), rows = f.matrices * f.rows;
    size_t columns = f.matrices * f.columns;
    float *of_row = node->moment1, *of_column = node->moment2;
    means = ft__device_scratch(c, FT__SCRATCH_SUMS, f.matrices * sizeof(float));
    sums = ft__device_scratch(c, FT__SCRATCH_SQUARES, (2 * parts + 1) * sizeof(float));
    ft__run_kernel(c, "adafactor_columns", columns, "RAnnnfb", node->gradient, f.count, of_column,
                   columns, columns, f.rows, f.columns, f.share, news);
    if (of_row) {
        ft__run_kernel(c, "adafactor_rows", rows, "RAnnfb", node->gradient, f.count, of_row, rows,
                       rows, f.columns, f.share, news);
        ft__run_kernel(c, "adafactor_means", f.matrices, "Rbnnf", of_row, rows, means, f.matrices,
                       f.rows, FT__ADAFACTOR_LEAST);
    }
    ft__run_kernel(c, "adafactor_scale", f.count, "ARRbnnnifb", node->gradient, f.count, of_row,
                   rows, of_column, columns, means, f.count, f.rows, f.columns, of_row == NULL,
                   FT__ADAFACTOR_LEAST, news);
    ft__device_squares(c, node->value, f.count, sums, 0, parts);
    ft__device_squares(c, node->gradient, f.count, sums, parts, parts);
    ft__run_kernel(c, "adafactor_size", 1, "bnnf", sums, parts, f.count, f.most);
    ft__run_kernel(c, "update_adafactor", f.count, "AAbnnfb", node->value, f.count, node->gradient,
                   f.count, sums, 2 * parts, f.count, f.decay, news);
}

typedef struct ft__cl_update_row {
    const char *kernel;
    void (*args)(ft__launch *l, const ft__update *u, size_t count);
} ft__cl_update_row;

static const ft__cl_update_row ft__cl_updates[FT__OPTIMIZERS] = { /* in the order of ft_optimizer */
    {"update_adam", ft__cl_update_adam}, {"update_adam", ft__cl_update_adam},
    {"update_sgd", ft__cl_update_sgd}, {"update_squares", ft__cl_update_squares},
    {"update_squares", ft__cl_update_squares}, {"update_nadam", ft__cl_update_nadam},
    {"update_nadam", ft__cl_update_nadam}, {"update_lion", ft__cl_update_lion},
    {NULL, NULL}};

static void ft__cl_update(ft_model *m, const ft__update *update)
{
    const ft__cl_update_row *row = &ft__cl_updates[update->optimizer->options.optimizer];
    int i;
    for (i = 0; i < m->node_count; ++i) {
        ft__update u = ft__update_for(update, &m->nodes[i]);
        size_t count = ft__shape_count(&u.node->shape);
        ft__launch l;
        if (!ft__is_trained(u.node)) continue;
        if (!row->kernel) {
            ft__cl_adafactor(&m->context, &u);
            continue;
        }
        l = ft__start(&m->context, row->kernel);
        ft__args(&l, "AA", u.node->value, count, u.node->gradient, count);
        row->args(&l, &u, count);
        ft__args(&l, "b", m->context.device->news);
        ft__launch_kernel(&l, count);
    }
}
#endif /* FINETUNE_OPENCL */
