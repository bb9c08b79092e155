#pragma once
#include "interface/types.h"
#include "interface/training_types.h"
#include "platform/context.h"
#include "basics/random.h"
#include "basics/strings.h"
#include "basics/json.h"
#include "nodes/nodes.h"
#include "operators/table.h"
#include "optimizers/options.h"
#include "optimizers/schedules.h"
#include "devices/device.h"
#include "graph/plan.h"
#include "graph/forward_backward.h"
#include "graph/update.h"
#include "graph/settings.h"
#include "formats/model_files.h"
#include "data/sources.h"
#include "data/loader.h"
#include "training/metrics.h"
#include "training/measures.h"
#include "training/outcomes.h"
#include "training/entities.h"
#include "training/prefix_cache.h"
#include "training/resume.h"
#include "training/sample_weights.h"
#include "training/fit_metric.h"
#include "training/norm_momenta.h"
#include "training/fit_rates.h"
#include "training/averages.h"
#include "training/run_checkpoints.h"
#include "training/mixing.h"
#include "training/distinct_batches.h"

/* =============================================================================================
   [SECTION] training/fit: Fit: the loop over steps and epochs
   Batches from the loader or the cache, and the loop over steps and epochs.
   ============================================================================================= */

/* ---- Batches ---- */

/* Notes the sample in this row of the batch, and its weight. */
static void ft__fit_weigh(ft__fit *f, int row, int sample)
{
    const ft_source *source = &f->data->source;
    if (f->weights) f->weights[row] = source->weight ? source->weight(source->user, sample) : 1.0f;
    if (f->batch_samples) f->batch_samples[row] = sample;
}

/* Puts the next batch of a list of samples into the plan, from the loader or the cache; returns its
   number of samples, -1 at the end of the list. `*at` counts the samples used so far. */
static int ft__fit_batch(ft__fit *f, const int *samples, const int *views, int count, int *at)
{
    const ft__batch *batch;
    int size = f->o.batch_size, from = *at, i, filled = 0;
    if (from >= count || !ft__ok(&f->m->context)) return -1;
    if (count - from < size) size = count - from;
    *at = from + size;
    if (f->cache.on) {
        ft__cache_set_length(f, samples + from, views + from, size);
        for (i = from; i < from + size; ++i) {
            size_t row = ft__cache_row(f, samples[i], views[i]);
            if (!f->cache.record[row]) continue;
            ft__fit_weigh(f, filled, samples[i]);
            ft__cache_get(f, row, filled++);
        }
        ft__cache_got(f, filled);
        return filled;
    }
    batch = ft__loader_next(f->loader);
    if (!batch) return -1;
    if (batch->count > 0) {
        if (f->mixing.on) ft__mix_batch(f, batch);
        ft__feed_batch(f->m, f->loader, batch);
        ft__run_forward(f->m, f->plan, 0, f->plan->first_trained, batch->count, 0);
    }
    filled = batch->count;
    for (i = 0; i < filled; ++i) ft__fit_weigh(f, i, batch->index[i]);
    ft__loader_release(f->loader);
    return filled;
}

static void ft__fit_start(ft__fit *f, const int *samples, const int *views, int from, int count)
{
    if (!f->cache.on && from < count)
        ft__loader_start(f->loader, samples + from, views + from, count - from);
}

/* Draws the order and the views of an epoch. */
static void ft__fit_order(ft__fit *f, int epoch)
{
    const ft_source *source = &f->data->source;
    uint64_t seed = f->m->context.desc.seed;
    uint64_t key = ft__key(seed, (uint64_t)epoch, 0, FT__USE_ORDER);
    int i;
    if (source->streams == 0) ft__shuffle(f->order, f->train_count, key);
    else for (i = 0; i < f->train_count; ++i) f->order[i] = i;
    if (f->starts) ft__balanced_order(f, epoch);
    else for (i = 0; i < f->train_count; ++i) f->order[i] = f->train[f->order[i]];
    ft__bucket(source, f->order, f->train_count, f->o.batch_size,
               ft__key(seed, (uint64_t)epoch, 1, FT__USE_ORDER), f->work);
    ft__fit_distinct(f);
    for (i = 0; i < f->train_count; ++i) {
        f->views[i] = !f->o.augment ? 0 : f->cache.on ? 1 + epoch % f->cache.views : 1 + epoch;
    }
    if (f->starts && f->o.augment) ft__other_views(f, epoch);
}

/* ---- The loop ---- */

/* Measures the held-back samples, in the same batches in each epoch, so that a run that was killed
   sees the same; order[] is free after an epoch. */
static ft__score ft__fit_measure(ft__fit *f)
{
    ft__score score = {0, 0, 0, false, 0, 0, 0};
    ft__entities entities;
    int at = 0, batch, count, i;
    memset(&entities, 0, sizeof entities);
    entities.tags = f->tags;
    f->outcomes.samples = 0;
    for (i = 0; i < f->held_count; ++i) f->views[i] = 0;
    memcpy(f->order, f->held, (size_t)f->held_count * sizeof *f->order);
    ft__bucket(&f->data->source, f->order, f->held_count, f->o.batch_size, 0, f->work);
    count = ft__held_distinct(f);
    ft__fit_start(f, f->order, f->views, 0, count);
    while ((batch = ft__fit_batch(f, f->order, f->views, count, &at)) >= 0) {
        if (batch == 0) continue;
        f->m->batch = batch;
        ft__run_forward(f->m, f->plan, f->plan->first_trained, f->plan->step_count, batch,
                        FT__EVALUATING);
        ft__score_batch(f->m, f->plan, batch, ft__read_loss(f->m, f->plan), NULL, &score);
        if (f->outcomes.values) ft__outcomes_add(f->m, f->plan, batch, &f->outcomes);
        for (i = 0; f->tags && i < batch; ++i)
            ft__entities_sample(f->m, f->plan, f->data, i, f->batch_samples[i], &entities);
    }
    score.rank = ft__fit_rank(f, &score, &entities);
    return score;
}

static void ft__fit_report(ft__fit *f, int step, int batch, float rate, bool epoch_done)
{
    ft_progress p;
    const ft__score *score = epoch_done ? &f->at.last : &f->at.score;
    memset(&p, 0, sizeof p);
    if (!f->o.progress || f->stopped) return;
    p.epoch = epoch_done ? f->at.epoch - 1 : f->at.epoch;
    p.epochs = ft__fit_epochs(f);
    p.step = step;
    p.steps = epoch_done ? step : ft__fit_steps(f);
    p.batch = batch;
    p.stage = f->o.stage;
    p.loss = score->total ? score->loss / (double)score->total : 0;
    p.accuracy = ft__accuracy(f->m, score);
    p.learning_rate = rate;
    p.step_loss = epoch_done || batch == 0 ? 0 : f->step_loss;
    p.epoch_done = epoch_done;
    p.held_back_accuracy = p.held_back_loss = -1;
    if (epoch_done && f->at.held.total > 0) {
        p.held_back_accuracy = ft__accuracy(f->m, &f->at.held);
        p.held_back_loss = f->at.held.loss / (double)f->at.held.total;
        p.metric = f->metric;
        p.held_back_metric = ft__fit_metric(f, &f->at.held);
    }
    if (!f->o.progress(f->o.progress_user, &p)) f->stopped = true;
}

/* Waits for the results of the last step on a device, if they are still to come, then counts and
   reports them, which on the CPU happens at once. */
static void ft__fit_catch_up(ft__fit *f)
{
    ft__sent_step was = f->sent;
    ft__score *score = &f->at.score;
    ft__report news;
    int counted;
    f->sent.on = false;
    if (!was.on) return;
    news = ft__read_report(f->m, was.turn, was.number, was.rate);
    if (!ft__ok(&f->m->context)) return;
    counted = was.has_labels ? news.counted : was.batch;
    score->loss += (double)news.loss * counted;
    score->correct += news.right;
    score->total += counted;
    f->step_loss = (double)news.loss;
    if (!f->stopped) ft__fit_report(f, was.step, was.batch, was.rate, false);
}

/* Adds the batch's gradients: with several batches for an update as much of them as their sum is
   divided by later, so that it is the gradient of the mean over all their samples. */
static void ft__fit_backward(ft__fit *f, int batch)
{
    double weight = f->o.accumulate > 1 ? ft__batch_weight(f, batch) : 1;
    if (f->o.accumulate > 1) f->m->optimizer->gathered += weight;
    ft__run_backward(f->m, f->plan, batch, (float)weight);
}

/* Queues a step on a device and requests its results. Then waits for the results of the previous
   step, while this one runs. So a step is reported when the next one has begun. */
static void ft__fit_send(ft__fit *f, int batch, float rate)
{
    ft_model *m = f->m;
    const ft__node *output = &m->nodes[m->output.id - 1];
    ft__scored scored;
    ft__sent_step now;
    bool waits;
    memset(&now, 0, sizeof now);
    memset(&scored, 0, sizeof scored);
    scored.loss = f->plan->values[m->loss.id - 1];
    scored.rows = ft__scored_rows(m, batch);
    if (scored.rows > 0) {
        scored.output = f->plan->values[m->output.id - 1];
        scored.classes = (size_t)output->shape.size[output->shape.rank - 1];
        scored.labels = ft__labels_of(m)->value;
    }
    now.on = true;
    now.batch = batch;
    now.step = f->at.step + 1;
    now.turn = 1 - f->sent.turn;
    now.has_labels = scored.rows > 0;
    now.rate = rate;
    now.number = m->step;
    ft__fit_backward(f, batch);
    ft__send_update(m, rate, &scored, ft__fit_updates(f));
    if (ft__fit_updates(f) && f->o.ema > 0) ft__average_weights(f);
    waits = !ft__backend_of(&m->context)->report_ask(&m->context, now.turn);
    ft__fit_catch_up(f);
    f->sent = now;
    if (waits) ft__fit_catch_up(f);
}

/* Updates the weights, if this step ends with an update, and their average. */
static void ft__fit_update(ft__fit *f, float rate)
{
    if (ft__fit_updates(f) && ft__optimizer_step(f->m, rate) == FT_OK && f->o.ema > 0)
        ft__average_weights(f);
}

/* One step of training on the `batch` samples in the plan. */
static void ft__fit_step(ft__fit *f, int batch)
{
    ft_model *m = f->m;
    float rate = ft__fit_rate(f), loss;
    ft__fit_cycle_momentum(f);
    m->batch = batch;
    m->sample_weights = f->weights;
    m->class_weights = f->class_weights;
    m->other_share = (float)f->mixing.other;
    m->step += 1;
    m->last_run = f->plan;
    ft__run_forward(m, f->plan, f->plan->first_trained, f->plan->step_count, batch, 0);
    if (ft__backend_of(&m->context)->guard) {
        ft__fit_send(f, batch, rate);
        return;
    }
    loss = ft__read_loss(m, f->plan);
    if (!ft__usable(m)) return;
    ft__score_batch(m, f->plan, batch, loss, NULL, &f->at.score);
    f->step_loss = (double)loss;
    ft__fit_backward(f, batch);
    ft__fit_update(f, rate);
    if (ft__ok(&m->context)) ft__fit_report(f, f->at.step + 1, batch, rate, false);
}

/* A step none of whose samples could be read. */
static void ft__fit_skip(ft__fit *f)
{
    float rate = ft__fit_rate(f);
    ft__fit_catch_up(f);
    if (f->m->optimizer->gathered > 0) ft__fit_update(f, rate);
    if (ft__ok(&f->m->context)) ft__fit_report(f, f->at.step + 1, 0, rate, false);
}

/* Beyond 1e15 the square of a product of two weights, as in a variance, overflows a float. Such
   weights are as good as infinite, even if the batch that is checked does not show it. */
static bool ft__all_usable(const ft__node *node)
{
    float most = ft__is_parameter(node) ? 1e15f : FLT_MAX;
    size_t count = ft__node_count_at(node, ft__one), i;
    for (i = 0; i < count; ++i)
        if (!(node->value[i] >= -most && node->value[i] <= most)) return false;
    return true;
}

/* An update may ruin the weights, and in training batch norm hides what evaluation shows. So the
   weights and the loss of a batch are checked before they count as a good epoch's. Held-back
   samples are measured anyway; streams are not checked, since their state would change. */
static ft_status ft__fit_check(ft__fit *f)
{
    ft_model *m = f->m;
    int count = f->epoch_count < f->o.batch_size ? f->epoch_count : f->o.batch_size, at = 0, i;
    ft__host_takes_weights(&m->context, false);
    for (i = 0; i < m->node_count; ++i)
        if (ft__changes(m, &m->nodes[i]) && !ft__all_usable(&m->nodes[i]))
            return ft__fail(&m->context, FT_NOT_FINITE, "epoch %d: %s has numbers that are not"
                            " finite, or almost too large (a smaller learning rate may help)",
                            f->at.epoch, m->nodes[i].name);
    if (f->held_count > 0 || f->data->source.streams > 0) return m->context.status;
    ft__fit_start(f, f->order, f->views, 0, count);
    count = ft__fit_batch(f, f->order, f->views, count, &at);
    if (count < 1) return m->context.status;
    m->batch = count;
    ft__run_forward(m, f->plan, f->plan->first_trained, f->plan->step_count, count,
                    FT__EVALUATING);
    ft__read_loss(m, f->plan);
    return m->context.status;
}

/* The statistics of trained batch norms become those of the training samples with the averaged
   weights, which no step has run. */
static void ft__fit_renew_statistics(ft__fit *f)
{
    ft_model *m = f->m;
    int at = 0, batch, batches = 0;
    float *own;
    if (f->data->source.streams > 0) return;
    own = (float *)ft__allocate(&m->context, (size_t)m->node_count + 1, sizeof *own);
    if (own && ft__keep_momenta(m, "*", own) > 0) {
        ft__fit_start(f, f->order, f->views, 0, f->epoch_count);
        while ((batch = ft__fit_batch(f, f->order, f->views, f->epoch_count, &at)) >= 0) {
            if (batch < 2) continue; /* one has no variance */
            ft__set_momenta(m, own, ++batches);
            m->batch = batch;
            ft__run_forward(m, f->plan, f->plan->first_trained, f->plan->step_count, batch, 0);
        }
        ft__set_momenta(m, own, 0);
    }
    ft__release(&m->context, own);
}

/* What is measured and kept after an epoch: the averages, if there are any. */
static void ft__fit_take_averages(ft__fit *f)
{
    int epochs = ft__fit_epochs(f);
    if (f->o.swa && f->at.epoch >= epochs - (epochs + 3) / 4) ft__average_weights(f);
    ft__exchange_averages(f);
    if (f->o.swa && f->at.averaged > 0) ft__fit_renew_statistics(f);
}

/* After the last step of an epoch: measures, keeps the weights, and decides whether to continue. */
static void ft__fit_epoch_done(ft__fit *f)
{
    ft__place_in_run *at = &f->at;
    const ft__score *watched;
    at->last = at->score;
    memset(&at->score, 0, sizeof at->score);
    ft__fit_take_averages(f);
    if (ft__fit_check(f) != FT_OK) return;
    if (f->held_count > 0) at->held = ft__fit_measure(f);
    if (!ft__ok(&f->m->context)) return;
    watched = f->held_count > 0 ? &at->held : &at->last;
    if (f->o.schedule == FT_PLATEAU && watched->total > 0)
        ft__plateau_step(&at->plateau, watched->loss / (double)watched->total, f->o.step_epochs);
    if (f->held_count > 0 && ft__better(&at->held, &at->best)) {
        at->best = at->held;
        at->best_epoch = at->epoch;
        ft__keep_weights(f->m, false);
    } else if (!f->o.best) ft__keep_weights(f->m, false);
    ft__exchange_averages(f);
    at->epoch += 1;
    at->step = 0;
    if ((int64_t)at->epoch * ft__fit_epoch_updates(f) >= ft__fit_total(f)) at->done = true;
    if (f->o.patience > 0 && f->held_count > 0 && at->epoch - 1 - at->best_epoch >= f->o.patience)
        at->done = true;
}

/* Whether a checkpoint is due within an epoch: after every checkpoint_steps steps, or at the first
   update after them. */
static bool ft__fit_is_due(const ft__fit *f)
{
    int every = f->o.checkpoint_steps, step = f->at.step;
    return f->o.checkpoint && every > 0 && step < ft__fit_steps(f) && step % f->o.accumulate == 0
        && step / every > (step - f->o.accumulate) / every;
}

static void ft__fit_epoch(ft__fit *f)
{
    int at = f->at.step * f->o.batch_size, steps, batch;
    ft__fit_order(f, f->at.epoch);
    steps = ft__fit_steps(f);
    if (f->at.step == 0) ft_reset_state(f->m, "*");
    ft__fit_start(f, f->order, f->views, at, f->epoch_count);
    while (f->at.step < steps && ft__ok(&f->m->context)
           && !(f->stopped && f->at.step % f->o.accumulate == 0)) {
        ft__draw_mixing(f);
        batch = ft__fit_batch(f, f->order, f->views, f->epoch_count, &at);
        if (batch < 0) break;
        if (batch > 0) ft__fit_step(f, batch);
        else ft__fit_skip(f);
        f->m->sample_weights = f->m->class_weights = NULL; /* what is measured has no weights, */
        f->m->other_share = 0; /* and is not mixed */
        if (!ft__ok(&f->m->context)) return;
        f->at.step += 1;
        if (!ft__fit_is_due(f)) continue;
        ft__fit_catch_up(f);
        ft__checkpoint_write(f);
    }
    f->mixing.on = false; /* batches from here on are measured */
    ft__fit_catch_up(f);
    if (f->stopped || !ft__ok(&f->m->context)) return;
    ft__fit_epoch_done(f);
    if (ft__ok(&f->m->context)) ft__fit_report(f, steps, 0, 0, true);
    if (!f->at.done && f->until > 0 && f->at.epoch >= f->until) f->stopped = true;
    /* With the cache an epoch is faster than a checkpoint: write one only at the end. */
    if (f->o.checkpoint && ft__ok(&f->m->context) && !f->stopped && (f->at.done || !f->cache.on))
        ft__checkpoint_write(f);
}

/* Writes the metadata on the training: no time, path or number of threads. */
static void ft__fit_describe(ft__fit *f)
{
    const ft_optimizer_options *p = &f->o.optimizer;
    ft__context *c = &f->m->context;
    ft__text text;
    memset(&text, 0, sizeof text);
    text.context = c;
    if (!ft__ok(c)) return;
    ft__text_add(&text, "{\"stage\":");
    ft__json_add_text(&text, f->o.stage);
    ft__text_add(&text, ",\"samples\":%d,\"epochs\":%d,\"batch_size\":%d,\"optimizer\":\"%s\","
                 "\"schedule\":\"%s\",\"seed\":%llu", f->train_count, f->at.epoch,
                 f->o.batch_size, ft__optimizer_row_of(p)->name, f->o.factor ? "own"
                 : ft__schedule_names[f->o.schedule],
                 (unsigned long long)c->desc.seed);
    ft__text_add(&text, ",\"learning_rate\":");
    ft__json_add_float(&text, p->learning_rate);
    ft__text_add(&text, ",\"weight_decay\":");
    ft__json_add_float(&text, p->weight_decay);
    if (f->o.most_steps > 0) ft__text_add(&text, ",\"most_steps\":%d", f->o.most_steps);
    ft__text_add(&text, ",\"augmented\":%s}", f->o.augment ? "true" : "false");
    ft__release(c, f->m->training);
    f->m->training = text.letters;
}

/* Of the means of the weights before the fit and those that were kept, takes the one that is best
   on the held-back samples. */
static void ft__fit_average_start(ft__fit *f)
{
    const int parts = 10;
    int part, chosen = parts;
    for (part = parts - 1; part >= 0 && ft__ok(&f->m->context); --part) {
        ft__score score;
        ft__average_start(f->m, (float)part / (float)parts);
        score = ft__fit_measure(f);
        if (!ft__ok(&f->m->context) || !ft__better(&score, &f->at.best)) continue;
        f->at.best = score;
        chosen = part;
    }
    ft__average_start(f->m, (float)chosen / (float)parts);
    f->result.end_share = (double)chosen / parts;
    ft__log(&f->m->context, "%s: the weights are %.1f of those at the end and %.1f of those at the"
            " start, best on %d held-back %s", f->o.stage, f->result.end_share,
            1 - f->result.end_share, f->held_count, ft__data_samples(f->data));
}

static void ft__fit_finish(ft__fit *f)
{
    ft__context *c = &f->m->context;
    ft_fit_result *r = &f->result;
    const ft__score *held = f->o.best ? &f->at.best : &f->at.held;
    if (f->o.best && f->at.done && f->at.best.total > 0) ft__keep_weights(f->m, true);
    r->end_share = 1;
    if (f->o.average_start && f->at.done && !f->stopped && f->at.best.total > 0)
        ft__fit_average_start(f);
    r->epochs = f->at.epoch;
    r->best_epoch = f->at.best.total > 0 ? f->at.best_epoch : -1;
    r->loss = f->at.last.total ? f->at.last.loss / (double)f->at.last.total : 0;
    r->accuracy = ft__accuracy(f->m, &f->at.last);
    r->held_back_loss = held->total ? held->loss / (double)held->total : -1;
    r->held_back_accuracy = held->total ? ft__accuracy(f->m, held) : -1;
    if (held->total) r->metric = f->metric;
    if (held->total) r->held_back_metric = ft__fit_metric(f, held);
    r->held_back_correct = (int)held->correct;
    r->held_back_total = (int)held->total;
    r->after = ft__digest(f->m);
    if (r->after.frozen != r->before.frozen)
        ft__fail(c, FT_INVALID, "frozen weights were changed during training: this is a bug of the"
                 " library");
    r->stopped = f->stopped;
    if (f->stopped && f->o.checkpoint) ft__checkpoint_write(f);
    else ft__fit_describe(f);
    /* If the numbers were not finite or a device failed, prediction continues with the weights of
       the last good epoch. */
    if (c->status == FT_NOT_FINITE || ft__device_lost(c)) ft__keep_weights(f->m, true);
    else if (!(f->o.best && f->at.done)) ft__exchange_averages(f);
    ft__averages_allocate(f->m, false);
    ft__keep_start(f->m, false);
}

/* Memory that a run needs besides the plan: kept weights, and batches loaded ahead. */
static size_t ft__fit_reserve(const ft__fit *f)
{
    const ft_model *m = f->m;
    size_t bytes = ft__loader_bytes(m, f->data, f->o.batch_size);
    bool averages = f->o.ema > 0 || f->o.swa;
    int i;
    if (f->outcomes.values)
        bytes += ft__measuring_bytes(f->outcomes.labels != NULL, f->held_count,
                                     f->outcomes.columns);
    for (i = 0; i < m->node_count; ++i) {
        const ft__node *node = &m->nodes[i];
        size_t copies = (size_t)(averages + f->o.average_start + !node->kept);
        if (ft__changes(m, node))
            bytes += copies * (ft__node_count_at(node, ft__one) * sizeof(float)
                               + 2 * FT__ALIGNMENT);
    }
    return bytes;
}

/* Checks the options as given, before the defaults: each must have an effect. */
static ft_status ft__fit_check_uses(ft__context *c, const ft_data *data, const ft_fit_options *o)
{
    bool held = o->hold_back != 0, cuts = o->schedule == FT_STEP || o->schedule == FT_PLATEAU;
    bool cycles = o->schedule == FT_WARM_RESTARTS, power = o->schedule == FT_POLYNOMIAL;
    ft_optimizer_options optimizer = o->optimizer;
    const ft__field_use uses[] = {
        {"step_epochs", o->step_epochs > 0, cuts || cycles,
         "FT_STEP, FT_WARM_RESTARTS and FT_PLATEAU"},
        {"gamma", o->gamma > 0, cuts || cycles || power,
         "FT_STEP, FT_WARM_RESTARTS, FT_POLYNOMIAL and FT_PLATEAU"},
        {"fixed_momentum", o->fixed_momentum, o->schedule == FT_ONE_CYCLE, "FT_ONE_CYCLE"},
        {"optimizer.beta1", o->optimizer.beta1 != 0,
         ft__cycled_momentum(o, &optimizer) != &optimizer.beta1,
         "a run with fixed_momentum: FT_ONE_CYCLE sets it"},
        {"swa", o->swa, o->ema == 0, "a run without ema"},
        {"schedule", o->schedule != FT_CONSTANT, !o->factor, "a run without factor"},
        {"best", o->best, held, "held-back samples (hold_back)"},
        {"average_start", o->average_start, o->best, "`best`"},
        {"patience", o->patience > 0, held, "held-back samples (hold_back)"},
        {"metric", o->metric != FT_METRIC_AUTO, held, "held-back samples (hold_back)"},
        {"views", o->views > 0, o->augment && !o->no_cache, "augment without no_cache"},
        {"cache_bytes", o->cache_bytes > 0, !o->no_cache, "a cache, but no_cache is set"},
        {"checkpoint_steps", o->checkpoint_steps > 0, o->checkpoint != NULL, "checkpoint"},
        {"class_weight_count", o->class_weight_count != 0, o->class_weights != NULL,
         "class_weights"},
        {"balanced", o->balanced, o->class_weights == NULL, "a run without class_weights"},
        {"balanced_sampling", o->balanced_sampling, !o->balanced,
         "a run without `balanced`, which does the same in the loss"},
        {"batch_size", o->batch_size > 0, ft__takes_batch_size(data, o->batch_size),
         ft__samples_apart}};
    if (o->augment && !ft__has_views(data))
        ft__log(c, "ft_fit: augment has no effect here: the data has no augmented views");
    ft__optimizer_check(c, "ft_fit: optimizer", &o->optimizer);
    return ft__check_uses(c, "ft_fit", uses, sizeof uses / sizeof uses[0]);
}

static ft_status ft__fit_check_options(const ft__fit *f)
{
    ft__context *c = &f->m->context;
    const ft_fit_options *o = &f->o;
    const struct { const char *name; double value; } numbers[] = {
        {"epochs", (double)o->epochs}, {"batch_size", (double)o->batch_size},
        {"patience", (double)o->patience}, {"views", (double)o->views},
        {"checkpoint_steps", (double)o->checkpoint_steps},
        {"step_epochs", (double)o->step_epochs}, {"gamma", (double)o->gamma},
        {"warmup_epochs", (double)o->warmup_epochs}, {"accumulate", (double)o->accumulate},
        {"most_steps", (double)o->most_steps}};
    size_t i;
    if (ft__data_check_network(f->m, f->data, "ft_fit") != FT_OK) return c->status;
    if ((unsigned)o->schedule >= FT__SCHEDULES)
        return ft__fail(c, FT_INVALID, "ft_fit: schedule is %d; it must be FT_CONSTANT to"
                        " FT_PLATEAU", (int)o->schedule);
    if (o->schedule == FT_WARM_RESTARTS && !(o->gamma >= 1))
        return ft__fail(c, FT_INVALID, "ft_fit: gamma is %g; of FT_WARM_RESTARTS it must be at"
                        " least 1", (double)o->gamma);
    if (!(o->ema >= 0 && o->ema < 1))
        return ft__fail(c, FT_INVALID, "ft_fit: ema is %g; it must be at least 0 and below 1",
                        (double)o->ema);
    if (!(o->hold_back >= 0 && o->hold_back < 1))
        return ft__fail(c, FT_INVALID, "ft_fit: hold_back is %g; it must be at least 0 and below 1",
                        (double)o->hold_back);
    for (i = 0; i < sizeof numbers / sizeof *numbers; ++i)
        if (!(numbers[i].value >= 0 && numbers[i].value <= FLT_MAX))
            return ft__fail(c, FT_INVALID, "ft_fit: %s is %g; it must be finite and not negative",
                            numbers[i].name, numbers[i].value);
    if (!(o->warmup_epochs <= 1e6f))
        return ft__fail(c, FT_INVALID, "ft_fit: warmup_epochs is %g; it must be at most 1e6",
                        (double)o->warmup_epochs);
    if (f->data->source.streams > 0 && o->hold_back > 0)
        return ft__fail(c, FT_INVALID, "ft_fit: hold_back does not work with text streams: evaluate"
                        " on another text");
    return c->status;
}

/* Prepares everything that the loop needs, in the order in which it can fail. */
static ft_status ft__fit_prepare(ft__fit *f)
{
    ft_model *m = f->m;
    ft__context *c = &m->context;
    if (!ft__given(c, f->data, "ft_fit: the data") || ft__ready(m, true) != FT_OK
        || ft__check_classes(m, f->data) != FT_OK || ft__fit_check_options(f) != FT_OK
        || ft__fit_samples(f) != FT_OK || ft__fit_weights(f) != FT_OK
        || ft__fit_balanced(f) != FT_OK || ft__fit_mixes(f) != FT_OK || ft__fit_texts(f) != FT_OK
        || ft__fit_classes(m, f->data) != FT_OK || ft__fit_choose_metric(f) != FT_OK)
        return c->status;
    ft__set_longest(m, f->data);
    ft__set_optimizer(m, f->o.optimizer);
    m->reserve = ft__fit_reserve(f);
    f->plan = ft__begin(m, f->o.batch_size, true);
    m->reserve = 0;
    if (!f->plan) return c->status;
    m->in_use = f->plan;
    if (!ft__plan_learns(f->plan))
        return ft__fail(c, FT_INVALID, "nothing to train: all parameters are frozen");
    m->last_run = f->plan;
    f->result.before = ft__digest(m);
    m->temperature = 0; /* it was fitted to other weights */
    f->at.best_epoch = -1;
    if (ft__backend_of(c)->report_reset) ft__backend_of(c)->report_reset(c);
    ft__optimizer_prepare(m);
    ft__zero_gradients(m);
    ft__keep_weights(m, false);
    ft__averages_allocate(m, f->o.ema > 0 || f->o.swa);
    ft__keep_start(m, f->o.average_start);
    f->settings = ft__fit_settings(f);
    if (f->o.checkpoint && ft__check_describable(f->m, f->o.checkpoint) == FT_OK)
        f->data_state = ft__data_state_of(f);
    if (f->o.checkpoint && f->resume) ft__checkpoint_read(f);
    if (!f->at.done && f->until > 0 && f->at.epoch >= f->until)
        f->stopped = true; /* it was there before */
    if ((f->at.done && !f->o.average_start) || f->stopped || !ft__ok(c)) return c->status;
    if (f->cache.on && f->until == 0) return c->status; /* lent, already filled */
    if (!f->cache.on) ft__cache_plan(f);
    ft__cache_fill(f);
    return f->cache.on || f->loader ? c->status : ft__fit_loader(f);
}

/* `lent` outlives the run; NULL: the run has a cache of its own. */
static ft_fit_result ft__fit_run(ft_model *m, ft_data *data, ft_fit_options options,
                                 const char *note, bool resume, ft__lent *lent)
{
    ft__context *c = m ? &m->context : NULL;
    ft__fit f;
    int length;
    ft__plan *in_use;
    memset(&f, 0, sizeof f);
    if (!ft__usable(m)) return f.result;
    in_use = m->in_use;
    f.m = m;
    f.data = data;
    f.note = note;
    f.resume = resume;
    if (lent) f.cache = lent->cache;
    if (lent) f.until = lent->until;
    if (data) ft__fit_check_uses(c, data, &options);
    f.o = ft__fit_defaults(options);
    if (lent && lent->no_cache) f.o.no_cache = true;
    if (data && data->source.streams > 0) f.o.batch_size = data->source.streams;
    length = m->length;
    if (ft__fit_prepare(&f) == FT_OK) {
        while (!f.at.done && !f.stopped && ft__ok(c)) ft__fit_epoch(&f);
        ft__fit_finish(&f);
    }
    m->fed_from = NULL;
    m->in_use = in_use;
    m->length = length; /* until here it was the last batch's */
    m->backward_done = true;
    ft__loader_destroy(f.loader);
    if (lent) lent->cache = f.cache;
    else ft__cache_release(c, &f.cache);
    ft__release(c, f.starts);
    ft__release(c, f.grouped);
    ft__release(c, f.mixing_spare);
    ft__release(c, f.texts);
    ft__release(c, f.weights);
    ft__release(c, f.class_weights);
    ft__release(c, f.batch_samples);
    ft__release(c, f.tags);
    ft__outcomes_free(c, &f.outcomes);
    ft__release(c, f.work);
    ft__release(c, f.views);
    ft__release(c, f.order);
    ft__release(c, f.held);
    ft__release(c, f.train);
    return f.result;
}
