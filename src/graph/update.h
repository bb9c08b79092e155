#pragma once
#include "interface/types.h"
#include "interface/training_types.h"
#include "platform/families.h"
#include "platform/system.h"
#include "platform/context.h"
#include "basics/numbers.h"
#include "basics/threads.h"
#include "kernels/gemm.h"
#include "nodes/nodes.h"
#include "optimizers/options.h"
#include "optimizers/adam.h"
#include "optimizers/other.h"
#include "optimizers/adafactor.h"
#include "optimizers/embedding_rows.h"
#include "devices/device.h"
#include "graph/plan.h"
#include "graph/memory.h"
#include "graph/forward_backward.h"

/* =============================================================================================
   [SECTION] graph/update: Graph: an update of the weights
   What is frozen has no gradient, no optimiser state and no weight decay.
   ============================================================================================= */
/* Starts a new optimiser: no momentum, no updates made. */
static ft_status ft__set_optimizer(ft_model *m, ft_optimizer_options options)
{
    ft__context *c = &m->context;
    int i;
    if (!ft__ok(c)) return c->status;
    if ((unsigned)options.optimizer >= FT__OPTIMIZERS)
        return ft__fail(c, FT_INVALID, "optimizer %d: it must be FT_ADAMW to FT_ADAFACTOR",
                        (int)options.optimizer);
    if (!ft__not_negative(options.learning_rate) || !ft__not_negative(options.momentum)
        || !ft__not_negative(options.weight_decay)
        || !(options.beta1 >= 0 && options.beta1 < 1 && options.beta2 >= 0 && options.beta2 < 1))
        return ft__fail(c, FT_INVALID, "learning rate %g, momentum %g, weight decay %g, betas %g"
                        " and %g: each must be finite and not negative, betas below 1",
                        (double)options.learning_rate, (double)options.momentum,
                        (double)options.weight_decay, (double)options.beta1, (double)options.beta2);
    if (!ft__not_negative(options.eps) || !ft__not_negative(options.clip_norm))
        return ft__fail(c, FT_INVALID, "eps %g, clip_norm %g: each must be finite and not negative",
                        (double)options.eps, (double)options.clip_norm);
    if (!(options.alpha >= 0 && options.alpha < 1))
        return ft__fail(c, FT_INVALID, "alpha %g: it must be at least 0 and below 1",
                        (double)options.alpha);
    ft__catch_up_all(m);
    if (!m->optimizer) m->optimizer = (ft__optimizer *)ft__allocate(c, 1, sizeof *m->optimizer);
    if (!m->optimizer) return c->status;
    m->optimizer->options = ft__optimizer_defaults(options);
    m->moments = ft__optimizer_row_of(&options)->moments + (options.momentum != 0);
    m->optimizer->updates = m->optimizer->product_of = 0;
    m->optimizer->gathered = 0;
    for (i = 0; i < m->node_count; ++i) ft__release_moments(c, &m->nodes[i]);
    m->optimizer->looked_at = 0;
    return c->status;
}

/* ---- Embeddings whose unused rows rest (optimizers/embedding_rows) ---- */

/* Plain SGD and Adagrad move nothing without a gradient. Adam does, but those updates can be
   applied later, unless weight decay is part of the gradient. The others visit all rows. */
static bool ft__optimizer_lets_rest(const ft__optimizer *o, const ft__node *node)
{
    float decay = node->weight_decay >= 0 ? node->weight_decay : o->options.weight_decay;
    if (ft__is_adam(&o->options)) return o->options.optimizer == FT_ADAMW || decay == 0;
    if (o->options.optimizer == FT_SGD) return o->options.momentum == 0 && decay == 0;
    return o->options.optimizer == FT_ADAGRAD && decay == 0;
}

/* A new list does not know which rows have gradients that wait: if any wait, it lists all rows. */
static void ft__begin_resting(ft_model *m, ft__node *node)
{
    const ft__optimizer *o = m->optimizer;
    ft__resting *r = ft__resting_make(&m->context, node->shape.size[0], node->shape.size[1]);
    int row;
    node->resting = r;
    for (row = 0; r && m->gradients_wait && row < r->words; ++row) {
        r->is_used[row] = 1;
        r->used[r->used_count++] = row;
    }
    if (!r) return;
    r->moves = ft__is_adam(&o->options);
    r->beta2 = o->options.beta2;
}

static void ft__resting_prepare(ft_model *m, int id)
{
    ft__optimizer *o = m->optimizer;
    ft__node *node = &m->nodes[id - 1];
    bool looked = o->looked_at == m->version + 1;
    bool may = !m->context.device && ft__optimizer_lets_rest(o, node)
        && (looked ? node->resting != NULL : ft__rows_can_rest(m, id));
    int row;
    if (!may && node->resting) {
        ft__catch_up(&m->context, node, NULL, 0);
        ft__resting_release(&m->context, node->resting);
        node->resting = NULL;
    }
    if (may && !node->resting) ft__begin_resting(m, node);
    if (!node->resting) return;
    node->resting->version = m->version;
    if (node->resting->updates == (uint32_t)o->updates) return;
    node->resting->updates = (uint32_t)o->updates; /* from a checkpoint, where no row lags */
    for (row = 0; row < node->resting->words; ++row)
        node->resting->done[row] = node->resting->updates;
}

/* Lists all trained parameters, in chunks for the threads. */
static ft_status ft__optimizer_parts(ft_model *m)
{
    ft__context *c = &m->context;
    ft__optimizer *o = m->optimizer;
    size_t from, wanted = 0;
    int i;
    for (i = 0; i < m->node_count; ++i)
        if (ft__is_trained(&m->nodes[i]) && !m->nodes[i].resting)
            wanted += ft__node_count_at(&m->nodes[i], ft__one) / FT__UPDATE_CHUNK + 1;
    if (wanted > (size_t)o->part_capacity) {
        ft__release(c, o->parts);
        o->parts = (ft__update_part *)ft__allocate(c, wanted, sizeof *o->parts);
        o->part_capacity = o->parts ? (int)wanted : 0;
        if (!o->parts) return c->status;
    }
    o->part_count = 0;
    for (i = 0; i < m->node_count; ++i) {
        size_t count = ft__node_count_at(&m->nodes[i], ft__one);
        if (!ft__is_trained(&m->nodes[i]) || m->nodes[i].resting) continue;
        for (from = 0; from < count; from += FT__UPDATE_CHUNK) {
            ft__update_part *part = &o->parts[o->part_count++];
            part->node = &m->nodes[i];
            part->from = from;
            part->to = count - from < FT__UPDATE_CHUNK ? count : from + FT__UPDATE_CHUNK;
        }
    }
    return c->status;
}

/* Allocates the optimiser's state for all trained parameters, before the first step. */
static ft_status ft__optimizer_prepare(ft_model *m)
{
    ft__context *c = &m->context;
    ft__optimizer *o = m->optimizer;
    int i;
    if (!o || !ft__ok(c)) return c->status;
    for (i = 0; i < m->node_count; ++i) {
        ft__node *node = &m->nodes[i];
        int which;
        if (!ft__is_trained(node)) continue;
        for (which = 0; which < 2; ++which) {
            float **moment = ft__moment_of(node, which);
            size_t count = ft__moment_numbers(m, node, which);
            if (!*moment && count > 0) *moment = (float *)ft__allocate(c, count, sizeof(float));
        }
        if (ft__ok(c) && node->shape.rank == 2) ft__resting_prepare(m, i + 1);
    }
    o->looked_at = m->version + 1;
    return ft__ok(c) ? ft__optimizer_parts(m) : c->status;
}

/* The norm of all gradients together; not finite if any of them is not. */
static void ft__squares_slot(void *context, int slot)
{
    ft_model *m = (ft_model *)context;
    size_t i;
    int share;
    FT__PIECES(i, share, &m->context, slot, (size_t)m->optimizer->part_count)
        ft__squares[m->context.simd](&m->optimizer->parts[i]);
}

typedef struct ft__update_job { ft_model *m; ft__update u; } ft__update_job;

static int ft__used_chunks(const ft__node *node)
{
    return (node->resting->used_count + FT__REST_ROWS - 1) / FT__REST_ROWS;
}

static void ft__squares_of_rows(void *context, int index)
{
    const ft__update_job *job = (const ft__update_job *)context;
    ft__node *node = job->u.node;
    ft__resting *r = node->resting;
    int i = index * FT__REST_ROWS, end = i + FT__REST_ROWS;
    r->squares[index] = 0;
    for (; i < end && i < r->used_count; ++i) {
        ft__update_part part;
        part.node = node;
        part.from = (size_t)r->used[i] * (size_t)r->features;
        part.to = part.from + (size_t)r->features;
        ft__squares[job->m->context.simd](&part);
        r->squares[index] += part.squares;
    }
}

static double ft__gradient_norm(ft_model *m)
{
    ft__update_job job;
    double sum = 0;
    int i, chunk;
    memset(&job, 0, sizeof job);
    job.m = m;
    ft__parallel_slots(&m->context, ft__squares_slot, m);
    for (i = 0; i < m->optimizer->part_count; ++i) sum += m->optimizer->parts[i].squares;
    for (i = 0; i < m->node_count; ++i) {
        job.u.node = &m->nodes[i];
        if (!job.u.node->resting) continue;
        ft__parallel(&m->context, ft__used_chunks(job.u.node), ft__squares_of_rows, &job);
        for (chunk = 0; chunk < ft__used_chunks(job.u.node); ++chunk)
            sum += job.u.node->resting->squares[chunk];
    }
    return sqrt(sum);
}

static void ft__update_numbers(const ft_model *m, const ft__update *u, size_t from, size_t to)
{
    int simd = m->context.simd;
    switch (u->optimizer->options.optimizer) {
    case FT_SGD: ft__update_sgd[simd](u, from, to); return;
    case FT_RMSPROP: case FT_ADAGRAD: ft__update_squares[simd](u, from, to); return;
    case FT_NADAM: case FT_RADAM: ft__update_nadam[simd](u, from, to); return;
    case FT_LION: ft__update_lion[simd](u, from, to); return;
    default: break; /* Adam; Adafactor's steps are of whole parameters */
    }
#ifdef FT__X86
    if (FT__HAS_AVX512 && simd == FT__SIMD_AVX512) from = ft__adam_avx512(u, from, to);
    if (simd >= FT__SIMD_AVX2) from = ft__adam_avx2(u, from, to);
    if (simd == FT__SIMD_SSE2) from = ft__adam_sse2(u, from, to);
#endif
    ft__update_adam[simd](u, from, to);
}

/* A thread gets the same part each time, so that what it writes here is in its cache when it writes
   it again; in quarters, so that a few chunks are shared evenly. */
static void ft__update_slot(void *context, int slot)
{
    const ft__update_job *job = (const ft__update_job *)context;
    size_t quarter = FT__UPDATE_CHUNK / 4, i;
    int share;
    FT__PIECES(i, share, &job->m->context, slot, 4 * (size_t)job->m->optimizer->part_count) {
        const ft__update_part *part = &job->m->optimizer->parts[i / 4];
        ft__update u = ft__update_for(&job->u, part->node);
        size_t from = part->from + i % 4 * quarter;
        if (from < part->to)
            ft__update_numbers(job->m, &u, from,
                               part->to - from < quarter ? part->to : from + quarter);
    }
}

static void ft__update_of_rows(void *context, int index)
{
    const ft__update_job *job = (const ft__update_job *)context;
    ft__resting *r = job->u.node->resting;
    int i = index * FT__REST_ROWS, end = i + FT__REST_ROWS;
    for (; i < end && i < r->used_count; ++i) {
        size_t from = (size_t)r->used[i] * (size_t)r->features;
        ft__update_numbers(job->m, &job->u, from, from + (size_t)r->features);
        r->done[r->used[i]] = r->updates + 1;
    }
}

/* Reports that gradients are not finite; the weights are unchanged. */
static ft_status ft__gradients_failed(ft_model *m, uint64_t step, float learning_rate)
{
    return ft__fail(&m->context, FT_NOT_FINITE, "step %llu: the gradients are not finite; the"
                    " weights were not changed (a smaller learning rate than %g, or clip_norm, may"
                    " help)", (unsigned long long)step, (double)learning_rate);
}

/* Updates the rows with a gradient, and records what the step does to the others. */
static void ft__update_resting(ft_model *m, const ft__update *all, ft__node *node)
{
    ft__resting *r = node->resting;
    const ft_optimizer_options *o = &m->optimizer->options;
    ft__missed_update *past = &r->past[r->updates % FT__PAST];
    ft__update_job job;
    job.m = m;
    job.u = ft__update_for(all, node);
    if (r->updates % FT__PAST == 0) ft__catch_up(&m->context, node, NULL, 0);
    past->step = job.u.learning_rate / job.u.correction1 * job.u.correction2;
    past->eps = o->eps * job.u.correction2;
    past->beta1 = o->beta1;
    past->decay = o->optimizer == FT_ADAMW ? 1 - job.u.learning_rate * job.u.weight_decay : 1;
    ft__parallel(&m->context, ft__used_chunks(node), ft__update_of_rows, &job);
    ft__forget_used(r);
    r->updates += 1;
}

/* Adafactor's update of a parameter: it needs sums over all of its numbers. */
static void ft__update_whole(void *context, int index)
{
    const ft__update_job *job = (const ft__update_job *)context;
    ft__update u = ft__update_for(&job->u, &job->m->nodes[index]);
    if (ft__is_trained(u.node)) ft__update_adafactor(&u);
}

/* The constants of the next update. */
static ft__update ft__next_update(ft_model *m, float learning_rate)
{
    ft__optimizer *o = m->optimizer;
    ft__update u;
    memset(&u, 0, sizeof u);
    o->updates += 1;
    u.optimizer = o;
    u.gradient_scale = ft__gathered_scale(o);
    o->gathered = 0;
    u.correction1 = (float)(1 - ft__power((double)o->options.beta1, o->updates));
    u.correction2 = (float)sqrt(1 - ft__power((double)o->options.beta2, o->updates));
    u.learning_rate = learning_rate;
    u.weight_decay = o->options.weight_decay;
    ft__update_constants(o, &u);
    m->gradients_wait = false;
    m->trained_version += 1;
    return u;
}

/* Queues an update on a device, which makes it if all is finite; or, without `updates`, only the
   report of a batch whose gradients wait for others. */
static ft_status ft__send_update(ft_model *m, float learning_rate, const ft__scored *scored,
                                 bool updates)
{
    const ft__backend *device = ft__backend_of(&m->context);
    ft__update u;
    if (ft__optimizer_prepare(m) != FT_OK) return m->context.status;
    device->guard(m, scored);
    if (!ft__ok(&m->context) || !updates) return m->context.status;
    u = ft__next_update(m, learning_rate);
    device->update(m, &u);
    return m->context.status;
}

/* Waits for a step's report. If something was wrong with it, that is the error: then no update has
   happened since. */
static ft__report ft__read_report(ft_model *m, int turn, uint64_t step, float learning_rate)
{
    const ft__backend *device = ft__backend_of(&m->context);
    ft__report news = device->report_get(&m->context, turn);
    if (!ft__ok(&m->context) || !news.wrong) return news;
    device->report_reset(&m->context);
    if (m->optimizer->updates > 0) m->optimizer->updates -= 1;
    if (news.wrong == FT__LOSS_IS_WRONG) ft__loss_failed(m, step);
    else ft__gradients_failed(m, step, learning_rate);
    return news;
}

/* The update on a device. */
static ft_status ft__device_step(ft_model *m, float learning_rate)
{
    ft__scored nothing;
    memset(&nothing, 0, sizeof nothing);
    if (ft__send_update(m, learning_rate, &nothing, true) != FT_OK) return m->context.status;
    ft__backend_of(&m->context)->report_ask(&m->context, 0);
    ft__read_report(m, 0, m->step, learning_rate);
    return m->context.status;
}

/* Refuses gradients that are not finite, so that the weights stay as good as they were. */
static ft_status ft__optimizer_step(ft_model *m, float learning_rate)
{
    ft__context *c = &m->context;
    float clip, scale;
    ft__update_job job;
    double norm;
    int i;
    if (ft__backend_of(c)->guard) return ft__device_step(m, learning_rate);
    if (ft__optimizer_prepare(m) != FT_OK) return c->status;
    scale = ft__gathered_scale(m->optimizer);
    norm = ft__gradient_norm(m) * (double)scale;
    if (!(norm <= 3e38)) {
        ft__zero_gradients(m);
        return ft__gradients_failed(m, m->step, learning_rate);
    }
    job.m = m;
    job.u = ft__next_update(m, learning_rate);
    clip = m->optimizer->options.clip_norm;
    if (clip > 0 && (double)clip / (norm + 1e-6) < 1)
        job.u.gradient_scale = scale * (float)((double)clip / (norm + 1e-6));
    if (m->optimizer->options.optimizer != FT_ADAFACTOR)
        ft__parallel_slots(c, ft__update_slot, &job);
    else ft__parallel(c, m->node_count, ft__update_whole, &job);
    for (i = 0; i < m->node_count; ++i)
        if (m->nodes[i].resting) ft__update_resting(m, &job.u, &m->nodes[i]);
    return c->status;
}
