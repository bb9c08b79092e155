#pragma once
#include "interface/types.h"
#include "interface/operators.h"
#include "interface/training_types.h"
#include "platform/context.h"
#include "basics/numbers.h"
#include "basics/random.h"
#include "basics/files.h"
#include "kernels/stored.h"
#include "kernels/rotary.h"
#include "nodes/nodes.h"
#include "nodes/sharing.h"
#include "nodes/storage.h"
#include "operators/table.h"
#include "operators/adding.h"
#include "operators/rows.h"
#include "devices/device.h"
#include "graph/plan.h"
#include "graph/forward_backward.h"
#include "graph/adapters.h"
#include "graph/building.h"
#include "graph/losses.h"
#include "data/augmentation.h"
#include "data/sources.h"
#include "data/tasks.h"
#include "data/loader.h"
#include "training/metrics.h"
#include "training/measures.h"
#include "training/paired.h"
#include "training/outcomes.h"
#include "training/prefix_cache.h"
#include "training/resume.h"
#include "training/run_checkpoints.h"
#include "training/evaluate.h"
#include "training/calibration.h"
#include "training/recipe.h"
#include "training/recipe_text.h"
#include "public/models.h"
#include "public/running.h"
#include "public/sharing.h"
#include "public/sweep_state.h"

/* =============================================================================================
   [SECTION] public/sweep: Which settings are best: successive halving
   Each run is one of ft_finetune with options.freeze, in a copy of the model. It stops after a
   rung's epochs and later continues from its checkpoint, so that the settings that go on have the
   same weights as if each had been trained alone. The winner's last run is the model's own.
   ============================================================================================= */

/* ---- A copy of the model ---- */

/* Gives a copied node numbers of its own. */
static void ft__copy_value(ft_model *run, ft__node *node, const ft__node *from)
{
    ft__context *c = &run->context;
    size_t bytes, rows = (size_t)node->shape.size[0];
    if (!node->borrowed) return;
    node->borrowed = false;
    node->loaded = from->loaded;
    node->transposed = from->transposed;
    node->value = NULL;
    memset(&node->stored, 0, sizeof node->stored);
    if (ft__is_stored(from)) {
        void *at = ft__allocate(c, bytes = ft__stored_bytes(&from->stored, rows), 1);
        float *scale = from->stored.scale
            ? (float *)ft__allocate(c, rows, sizeof *scale) : NULL;
        if (at) memcpy(at, from->stored.at, bytes);
        if (scale) memcpy(scale, from->stored.scale, rows * sizeof *scale);
        if (at) node->stored = from->stored;
        if (at) node->stored.at = at;
        node->stored.scale = scale;
    } else if (from->value) {
        bytes = ft__node_count_at(from, ft__one) * sizeof(float);
        node->value = (float *)ft__allocate(c, bytes, 1);
        if (node->value) memcpy(node->value, from->value, bytes);
    }
}

/* A second model as this one, with another seed; NULL with an error. */
static ft_model *ft__copy_model(ft_model *m, uint64_t seed)
{
    ft__context *c = &m->context;
    ft_desc desc = c->desc;
    ft_model *run;
    int i;
    if (!ft__ok(c)) return NULL;
    desc.seed = seed;
    if (desc.memory_budget) desc.memory_budget = ft__room(c) + 1; /* 0 would be no limit */
    ft__host_takes_weights(c, false);
    run = ft_create(desc);
    if (!run) {
        ft__fail(c, FT_MEMORY, "ft_sweep: no memory for a second model");
        return NULL;
    }
    while (ft__ok(&run->context) && run->node_count < m->node_count) ft__share_node(run, m);
    for (i = 0; i < run->node_count; ++i) ft__copy_value(run, &run->nodes[i], &m->nodes[i]);
    if (ft__ok(&run->context)) ft__share_settings(run, m);
    if (ft__ok(&run->context)) return run;
    ft__fail(c, run->context.status, "ft_sweep: %s", run->context.text);
    ft_destroy(run);
    return NULL;
}

/* ---- One run ---- */

static bool ft__sweep_is_over(const ft__sweep *s)
{
    return s->o.seconds > 0 && !s->ends && ft__sweep_seconds(s) >= s->o.seconds;
}

static bool ft__sweep_progress(void *user, const ft_progress *p)
{
    ft__sweep *s = (ft__sweep *)user;
    const ft_finetune_options *o = &s->o.finetune;
    if (o->progress && !o->progress(o->progress_user, p)) s->stopped = true;
    else if (ft__sweep_is_over(s)) s->late = true;
    return !s->stopped && !s->late;
}

/* The path of a run's checkpoint, in memory that the caller releases. */
static char *ft__sweep_checkpoint(const ft__sweep *s, int setting, int seed)
{
    size_t size = strlen(s->path) + 32;
    char *path = (char *)ft__allocate(&s->m->context, size, 1);
    if (path) snprintf(path, size, "%s.%d-%d", s->path, s->grid[setting], seed);
    return path;
}

static void ft__sweep_remove(const ft__sweep *s, int setting)
{
    const ft_files *files = &s->m->context.desc.files;
    int seed;
    for (seed = 0; seed < s->seeds; ++seed) {
        char *path = ft__sweep_checkpoint(s, setting, seed);
        if (path && ft__file_exists(&s->m->context, path)) files->remove(files->user, path);
        ft__release(&s->m->context, path);
    }
}

/* The options of a run, without a checkpoint. */
static ft_finetune_options ft__sweep_options(ft__sweep *s, const ft_sweep_row *row)
{
    ft_finetune_options o = s->o.finetune;
    const ft_augmentation *own = ft__data_augmentation(s->data);
    if (row->learning_rate > 0) o.learning_rate = row->learning_rate;
    o.freeze = row->freeze ? row->freeze : "";
    if (row->loss && *row->loss) o.loss = row->loss;
    if (row->optimizer) o.optimizer = row->optimizer;
    o.epochs = s->epochs;
    o.progress = ft__sweep_progress;
    o.progress_user = s;
    if (own && ft__augments(own)) /* since the first run, which had them */
        memset(&o.augmentation, 0, sizeof o.augmentation);
    return o;
}

/* Trains a setting in a model as the sweep's was. */
static ft_fit_result ft__sweep_fit(ft__sweep *s, ft_model *run, const ft_sweep_row *row,
                                   ft_finetune_options o, ft__lent *lent)
{
    const char *where = s->o.where ? s->o.where : "*";
    ft_activation_options plain;
    memset(&plain, 0, sizeof plain);
    if (row->activation && *row->activation
        && ft_swap_activations(run, where, row->activation, plain) == 0)
        ft__fail(&run->context, FT_INVALID, "activations: no activation of the network is called"
                 " %.100s", where);
    return ft__finetune(run, s->data, o, lent).fit;
}

/* Trains it to the end of a rung. */
static ft_fit_result ft__sweep_train(ft__sweep *s, ft_model *run, int setting, int seed, int rung)
{
    ft_fit_result result;
    ft_finetune_options o;
    ft_sweep_row row;
    char *path = ft__sweep_checkpoint(s, setting, seed);
    memset(&row, 0, sizeof row);
    memset(&result, 0, sizeof result);
    ft__sweep_choices(s, setting, &row);
    o = ft__sweep_options(s, &row);
    o.checkpoint = path;
    s->lent.until = s->at[rung];
    if (path) result = ft__sweep_fit(s, run, &row, o, &s->lent);
    if (result.stopped && ft__ok(&run->context) && !s->stopped && !s->late)
        ft__keep_weights(run, true); /* those of the best epoch so far, as at the end */
    ft__release(&s->m->context, path);
    return result;
}

/* Adds the scores of the batch that was just run to those of the samples in held[], from `next` on,
   and its losses to `sum`. */
static void ft__sweep_batch(const ft__batch *batch, const ft__outcomes *of, const int *held,
                            int *next, float *score, double *sum)
{
    int i, k;
    for (i = 0; i < of->samples; ++i) {
        const double *values = of->values + (size_t)i * (size_t)of->columns;
        double error = 0, p;
        int best = 0;
        while (held[*next] != batch->index[i]) *next += 1;
        for (k = 0; k < of->columns; ++k) {
            double off = of->labels ? 0 : values[k] - of->targets[(size_t)i
                                                                  * (size_t)of->columns
                                                                  + (size_t)k];
            error += off * off / of->columns;
            if (values[k] > values[best]) best = k;
        }
        score[*next] = (float)error;
        if (!of->labels) continue;
        score[*next] = best == of->labels[i] ? 1.0f : 0.0f;
        p = values[of->labels[i]];
        *sum -= ft__log_double(p > DBL_EPSILON ? p : DBL_EPSILON);
    }
}

/* Scores a run on what its seed held back. */
static void ft__sweep_score(ft__sweep *s, ft_model *run, int setting, int seed, int rung)
{
    ft__context *c = &run->context;
    const int *held = s->held + (size_t)seed * (size_t)s->most;
    float *score = ft__sweep_scores(s, setting, seed, rung);
    int count = s->held_count[seed], next = 0, read = 0, i;
    const ft__batch *batch;
    ft__outcomes of;
    double sum = 0;
    ft__pass pass = ft__pass_begin(run, s->data, 0, ft__outcomes_bytes(run, 32), false, false);
    for (i = 0; i < count; ++i) score[i] = -1;
    ft__outcomes_start(run, &of, 32);
    if (pass.loader) ft__loader_start(pass.loader, held, NULL, count);
    while ((batch = ft__pass_next(&pass, 0)) != NULL) {
        of.samples = 0;
        ft__collect_batch(&pass, batch->count, &of);
        if (of.samples < batch->count)
            ft__fail(c, FT_INVALID, "ft_sweep: a held-back sample has no label");
        ft__outcomes_soften(run, &of);
        if (ft__ok(c)) ft__sweep_batch(batch, &of, held, &next, score, &sum);
        read += batch->count;
    }
    ft__pass_end(&pass);
    ft__outcomes_free(c, &of);
    ft__sweep_run_of(s, setting, seed)->loss[rung] = (float)(sum / (read > 0 ? read : 1));
}

/* Keeps the outputs of frozen layers for the next run of the group, unless they are in a file. */
static void ft__sweep_lend(ft__sweep *s, ft__context *from, ft__context *to)
{
    ft__cache *cache = &s->lent.cache;
    if (from->device || cache->on_disk || cache->keys || !cache->on) {
        ft__cache_release(from, cache);
        return;
    }
    ft__hand_over(from, to, cache->nodes);
    ft__hand_over(from, to, cache->record);
    ft__hand_over(from, to, cache->values);
    ft__hand_over(from, to, cache->steps);
    ft__hand_over(from, to, cache->start);
}

/* Takes what a run of this group left. */
static void ft__sweep_borrow(ft__sweep *s, ft__context *to, int group)
{
    if (s->group != group) ft__cache_release(&s->m->context, &s->lent.cache);
    s->group = group;
    if (s->lent.cache.on) ft__sweep_lend(s, &s->m->context, to);
}

/* What is wrong with a run is an error of the sweep, unless it is its numbers. */
static bool ft__sweep_check(ft__sweep *s, ft_model *run, const ft_sweep_row *row)
{
    char name[400];
    if (run->context.status == FT_NOT_FINITE) return false;
    if (!ft__ok(&run->context))
        ft__fail(&s->m->context, run->context.status, "ft_sweep: %s: %s",
                 ft__sweep_name(row, name, sizeof name), run->context.text);
    return true;
}

/* A setting with one seed, to the end of a rung. */
static void ft__sweep_step(ft__sweep *s, int setting, int seed, int rung)
{
    ft__context *c = &s->m->context;
    ft__sweep_run *r = ft__sweep_run_of(s, setting, seed);
    double start = ft__clock(c);
    ft_model *run = r->failed ? NULL : ft__copy_model(s->m, c->desc.seed + (uint64_t)seed);
    ft_sweep_row row;
    char name[400];
    if (run) {
        memset(&row, 0, sizeof row);
        ft__sweep_choices(s, setting, &row);
        ft__log(c, "sweep: %s, seed %llu, to epoch %d", ft__sweep_name(&row, name, sizeof name),
                (unsigned long long)run->context.desc.seed, s->at[rung]);
        s->data->model = run;
        ft__sweep_borrow(s, &run->context, ft__sweep_group(s, setting));
        ft__sweep_train(s, run, setting, seed, rung);
        if (ft__ok(&run->context) && !s->stopped && !s->late)
            ft__sweep_score(s, run, setting, seed, rung);
        s->data->model = s->m;
        ft__sweep_lend(s, &run->context, c);
        r->failed = !ft__sweep_check(s, run, &row);
        if (run->context.bytes_peak > r->memory) r->memory = run->context.bytes_peak;
        ft_destroy(run);
    }
    r->seconds += ft__clock(c) - start;
    if (!ft__ok(c) || s->stopped || s->late) return;
    if (r->failed) {
        memset(ft__sweep_scores(s, setting, seed, rung), 0, (size_t)s->width * sizeof(float));
        r->loss[rung] = 0;
    }
    r->rungs = rung + 1;
    /* A disk may take longer than a short run. Without this run's scores the sweep makes them again
       from its checkpoint. */
    if (!c->desc.clock || ft__clock(c) - s->written > 5) ft__sweep_write(s);
}

/* ---- The rungs ---- */

/* Puts a setting that finished a rung at its place among the `held` best that did, of which there
   may be `most`, and removes the checkpoint of the one that is too many. With few comparisons: each
   reads all scores of two settings. Returns how many there are now. */
static int ft__sweep_place(ft__sweep *s, int rung, int *best, int held, int most, int setting)
{
    ft__sweep_ranks ranks;
    int low = 0, high = held;
    ranks.s = s;
    ranks.rungs = rung + 1;
    while (low < high) {
        int middle = (low + high) / 2;
        if (ft__sweep_better(&ranks, setting, best[middle])) high = middle;
        else low = middle + 1;
    }
    if (held == most) ft__sweep_remove(s, low == most ? setting : best[most - 1]);
    else held += 1;
    if (low == most) return held;
    memmove(best + low + 1, best + low, (size_t)(held - low - 1) * sizeof *best);
    best[low] = setting;
    return held;
}

/* Removes the checkpoints of those that finished a rung behind the first `count`. */
static void ft__sweep_prune(ft__sweep *s, int rung, int count)
{
    int i;
    ft__sweep_sort(s, rung + 1, s->order);
    for (i = count; i < s->settings && ft__sweep_depth(s, s->order[i]) > rung; ++i)
        ft__sweep_remove(s, s->order[i]);
}

/* The seconds that a setting took for each of its epochs. */
static double ft__sweep_pace(const ft__sweep *s, int setting, int rung)
{
    double seconds = 0;
    int seed;
    for (seed = 0; seed < s->seeds; ++seed)
        seconds += ft__sweep_run_of(s, setting, seed)->seconds;
    return seconds / s->at[rung];
}

/* How many settings go on after a rung: the best third, or fewer if the time does not suffice for
   them to the next cut and for the best one to the end. */
static int ft__sweep_keep(ft__sweep *s, int rung)
{
    int most = (s->kept[rung] + s->o.cut - 1) / s->o.cut, more = s->at[rung + 1] - s->at[rung], i;
    double left = s->o.seconds - ft__sweep_seconds(s), pace;
    ft__sweep_sort(s, rung + 1, s->order);
    if (s->o.seconds <= 0) return most;
    for (i = 0; i < most; ++i) {
        pace = ft__sweep_pace(s, s->order[i], rung);
        left -= i > 0 ? pace * more : pace * (s->epochs - s->at[rung]);
        if (left < 0) break;
    }
    return i > 0 ? i : 1;
}

static void ft__sweep_rung(ft__sweep *s, int rung)
{
    int count = s->kept[rung], last = rung + 1 == s->rungs, held = 0, i, seed;
    int go_on = last ? 1 : (count + s->o.cut - 1) / s->o.cut;
    ft__sweep_sort(s, rung, s->order);
    memcpy(s->alive, s->order, (size_t)count * sizeof *s->alive);
    for (i = 0; i < count; ++i) {
        for (seed = 0; seed < s->seeds; ++seed) {
            if (ft__sweep_run_of(s, s->alive[i], seed)->rungs > rung) continue;
            s->late = ft__sweep_is_over(s);
            if (!s->late) ft__sweep_step(s, s->alive[i], seed, rung);
            if (!ft__ok(&s->m->context) || s->stopped || s->late) return;
        }
        held = ft__sweep_place(s, rung, s->order, held, go_on, s->alive[i]);
    }
    if (!last && s->kept[rung + 1] == 0) {
        s->kept[rung + 1] = ft__sweep_keep(s, rung);
        ft__sweep_prune(s, rung, s->kept[rung + 1]);
    }
    ft__sweep_write(s);
}

/* ---- How many epochs the time suffices for ---- */
enum { FT__PROBED = 3, FT__MOST_EPOCHS = 30 };

typedef struct ft__probe {
    ft__sweep *s;
    double last, least;     /* the clock after the last step; the shortest step */
    int steps, batch;       /* made; samples of one */
} ft__probe;

static bool ft__probe_progress(void *user, const ft_progress *p)
{
    ft__probe *probe = (ft__probe *)user;
    const ft_finetune_options *o = &probe->s->o.finetune;
    double now = ft__clock(&probe->s->m->context);
    if (o->progress && !o->progress(o->progress_user, p)) probe->s->stopped = true;
    if (p->epoch_done || probe->s->stopped) return false;
    /* The first step prepares the others, and counts only if there is no other. */
    if (probe->steps < 2 || now - probe->last < probe->least) probe->least = now - probe->last;
    if (p->batch > probe->batch) probe->batch = p->batch;
    probe->last = now;
    probe->steps += 1;
    return probe->steps < FT__PROBED;
}

/* The seconds of an epoch, from a few steps with nothing in a cache. A tenth more is for measuring
   what is held back. */
static double ft__sweep_probe(ft__sweep *s, int setting)
{
    ft__context *c = &s->m->context;
    int samples = ft_data_count(s->data) - s->held_count[0];
    ft_model *run = ft__copy_model(s->m, c->desc.seed);
    ft_finetune_options o;
    ft_sweep_row row;
    ft__probe probe;
    ft__lent lent;
    memset(&lent, 0, sizeof lent);
    memset(&probe, 0, sizeof probe);
    memset(&row, 0, sizeof row);
    if (!run) return 0;
    lent.no_cache = true;
    probe.s = s;
    probe.last = ft__clock(c);
    ft__sweep_choices(s, setting, &row);
    o = ft__sweep_options(s, &row);
    o.epochs = 1;
    o.progress = ft__probe_progress;
    o.progress_user = &probe;
    s->data->model = run;
    ft__sweep_fit(s, run, &row, o, &lent);
    s->data->model = s->m;
    ft__sweep_check(s, run, &row);
    ft_destroy(run);
    return 1.1 * probe.least * samples / ft__at_least_one(probe.batch);
}

/* Sets the epochs: as many as most of the time suffices for. */
static ft_status ft__sweep_choose_epochs(ft__sweep *s)
{
    ft__context *c = &s->m->context;
    double seconds = 0, one = 0, left;
    ft_sweep_row row, last;
    int i;
    for (i = 0; i < s->settings && ft__ok(c) && !s->stopped && !ft__sweep_is_over(s); ++i) {
        ft__sweep_choices(s, i, &row);
        if (i == 0 || row.freeze != last.freeze || row.activation != last.activation)
            one = ft__sweep_probe(s, i);
        last = row;
        seconds += one / s->settings;
    }
    left = 0.8 * (s->o.seconds - ft__sweep_seconds(s));
    for (s->epochs = 1; s->epochs < FT__MOST_EPOCHS; s->epochs += 1)
        if (ft__sweep_work(s->settings, s->o.cut, s->epochs + 1) * s->seeds * seconds > left)
            break;
    if (ft__ok(c) && !s->stopped)
        ft__log(c, "sweep: an epoch takes about %.3g seconds, so the best settings are trained for"
                " %d", seconds, s->epochs);
    return c->status;
}

/* ---- The table ---- */

/* Of the samples that seeds held back: a setting's mean score after a rung or, with another
   setting, the sum of the differences from it. x [samples] gets them, `times` is room; returns how
   many. */
static int ft__sweep_each(const ft__sweep *s, int setting, int other, int rung, double *x,
                          int *times)
{
    int samples = ft_data_count(s->data), count = 0, seed, i;
    for (i = 0; i < samples; ++i) x[i] = times[i] = 0;
    for (seed = 0; seed < s->seeds; ++seed) {
        const int *held = s->held + (size_t)seed * (size_t)s->most;
        const float *a = ft__sweep_scores(s, setting, seed, rung);
        const float *b = ft__sweep_scores(s, other < 0 ? setting : other, seed, rung);
        for (i = 0; i < s->held_count[seed]; ++i) {
            if (a[i] < 0 || b[i] < 0) continue;
            x[held[i]] += (double)a[i] - (other < 0 ? 0 : (double)b[i]);
            times[held[i]] += 1;
        }
    }
    for (i = 0; i < samples; ++i)
        if (times[i] > 0) x[count++] = other < 0 ? x[i] / times[i] : x[i];
    return count;
}

/* A setting's row, but for its place among all and what Holm makes of its p. */
static void ft__sweep_row(const ft__sweep *s, int setting, int winner, double *x, int *times,
                          ft_sweep_row *row)
{
    ft__context *c = &s->m->context;
    int depth = ft__sweep_depth(s, setting), count, seed;
    double loss;
    memset(row, 0, sizeof *row);
    ft__sweep_choices(s, setting, row);
    row->p = 1;
    for (seed = 0; seed < s->seeds; ++seed) {
        const ft__sweep_run *run = ft__sweep_run_of(s, setting, seed);
        row->seconds += run->seconds;
        if (run->memory > row->memory) row->memory = run->memory;
    }
    row->failed = ft__sweep_failed(s, setting);
    if (depth == 0) return;
    row->epochs = s->at[depth - 1];
    row->value = row->low = row->high = ft__sweep_value(s, setting, depth - 1, &loss);
    row->best = ft__sweep_value(s, winner, depth - 1, &loss);
    count = ft__sweep_each(s, setting, -1, depth - 1, x, times);
    if (s->regression) ft__mean_interval(c, x, count, &row->low, &row->high);
    else ft__wilson((int)(row->value * count + 0.5), count, &row->low, &row->high);
    if (setting == winner || row->failed) return;
    count = ft__sweep_each(s, winner, setting, depth - 1, x, times);
    row->p = ft__sign_flip(c, x, count);
}

/* Whether a row has a p of its own. */
static bool ft__sweep_is_compared(const ft_sweep_row *row)
{
    return row->place > 1 && row->epochs > 0 && !row->failed;
}

static void ft__sweep_adjust(ft_sweep_row *rows, int count, double *p, int *order)
{
    int compared = 0, i;
    for (i = 0; i < count; ++i)
        if (ft__sweep_is_compared(&rows[i])) p[compared++] = rows[i].p;
    ft__holm(p, compared, order);
    for (compared = i = 0; i < count; ++i) {
        if (ft__sweep_is_compared(&rows[i])) rows[i].p = p[compared++];
        rows[i].differs = rows[i].failed || rows[i].p < 0.05;
    }
}

/* Fills the result with the winner, which is first in order[], and tells the caller all rows. */
static void ft__sweep_tell(ft__sweep *s, ft_sweep_result *r)
{
    ft__context *c = &s->m->context;
    size_t samples = (size_t)ft_data_count(s->data), most = (size_t)s->settings + samples;
    ft_sweep_row *rows = (ft_sweep_row *)ft__allocate(c, (size_t)s->settings, sizeof *rows);
    double *x = (double *)ft__allocate(c, most, sizeof *x);
    int *times = (int *)ft__allocate(c, most, sizeof *times), winner = s->order[0], i;
    char name[400];
    for (i = 0; ft__ok(c) && i < s->settings; ++i) {
        ft__sweep_row(s, s->order[i], winner, x, times, &rows[i]);
        rows[i].place = i + 1;
    }
    if (ft__ok(c)) {
        r->samples = ft__sweep_each(s, winner, -1, ft__sweep_depth(s, winner) - 1, x, times);
        ft__sweep_adjust(rows, s->settings, x, times);
        r->winner = rows[0];
        for (i = 1; i < s->settings; ++i) {
            bool as_long = rows[i].epochs == rows[0].epochs;
            r->equal += as_long && !rows[i].differs;
            r->undecided += !as_long && !rows[i].differs;
        }
        ft__sweep_name(&rows[0], name, sizeof name);
        snprintf(r->choice, sizeof r->choice, "%.130s%s; of %d others, %d trained as long and"
                 " %d dropped earlier may be as good: no difference beyond noise", name,
                 strlen(name) > 130 ? "..." : "", s->settings - 1, r->equal, r->undecided);
    }
    for (i = 0; ft__ok(c) && s->o.row && i < s->settings; ++i) s->o.row(s->o.row_user, &rows[i]);
    ft__release(c, times);
    ft__release(c, x);
    ft__release(c, rows);
}

/* ---- The sweep ---- */

/* What must be the same to continue, besides the order of the settings. */
static uint64_t ft__sweep_key(const ft__sweep *s)
{
    const ft_sweep_options *o = &s->o;
    const ft_finetune_options *f = &o->finetune;
    const ft_model *m = s->m;
    const double numbers[] = {
        (double)o->seeds, (double)o->draws, (double)o->cut, (double)f->epochs,
        (double)f->batch_size, (double)f->learning_rate, (double)f->balanced,
        (double)f->frozen_type, (double)f->task, (double)f->most_steps, (double)f->hold_back,
        (double)f->patience, (double)f->metric, (double)f->balanced_sampling, (double)f->mixup,
        (double)f->cutmix, (double)f->accumulate, (double)f->ema, (double)f->swa,
        (double)ft_data_count(s->data), (double)ft_data_classes(s->data)};
    uint64_t hash = ft__hash_bytes(m->context.desc.seed, numbers, sizeof numbers);
    ft_sweep_row row;
    char name[400];
    int i;
    for (i = 0; i < s->settings; ++i) {
        ft__sweep_choices(s, i, &row);
        ft__sweep_name(&row, name, sizeof name);
        hash = ft__hash_text(hash, name);
    }
    for (i = 0; i < 4; ++i) {
        const char *text = i == 0 ? f->loss : i == 1 ? f->optimizer : i == 2 ? f->schedule
                         : o->where;
        hash = ft__hash_text(ft__hash_number(hash, i), text);
    }
    hash = ft__key(hash, ft__augmentation_hash(&f->augmentation), 0, 0);
    for (i = 0; i < ft_data_count(s->data); ++i)
        hash = ft__hash_text(ft__hash_number(hash, ft_data_label(s->data, i)),
                             ft_data_name(s->data, i));
    for (i = 0; i < m->node_count; ++i) {
        const ft__node *node = &m->nodes[i];
        hash = ft__hash_text(ft__hash_number(hash, node->op), node->name);
        if (ft__is_weight(node) && (node->value || ft__is_stored(node)))
            hash = ft__hash_value(hash, node);
    }
    return hash;
}

/* What a sweep sets itself, or has no use for. */
static ft_status ft__sweep_check_options(const ft__sweep *s)
{
    ft__context *c = &s->m->context;
    const ft_sweep_options *o = &s->o;
    const ft_finetune_options *f = &o->finetune;
    const char *const no = "runs that a sweep does not make";
    const ft__field_use uses[] = {
        {"where", o->where != NULL, o->activation_count > 0, "activations"},
        {"finetune.learning_rate", f->learning_rate != 0, o->learning_rate_count == 0,
         "a sweep without learning_rates"},
        {"finetune.loss", f->loss != NULL, o->loss_count == 0, "a sweep without losses"},
        {"finetune.optimizer", f->optimizer != NULL, o->optimizer_count == 0,
         "a sweep without optimizers"},
        {"finetune.freeze", f->freeze != NULL, false, "ft_finetune: here freeze is a list"},
        {"finetune.checkpoint", f->checkpoint != NULL, false, "ft_finetune: here it is path"},
        {"finetune.checkpoint_steps", f->checkpoint_steps != 0, false, no},
        {"finetune.head_only", f->head_only, false, no},
        {"finetune.find_rate", f->find_rate, false, no},
        {"finetune.curve", f->curve != NULL, false, no},
        {"finetune.teacher", f->teacher != NULL, false, no},
        {"seconds", o->seconds != 0, c->desc.clock != NULL, "a model with ft_desc.clock"}};
    const struct { const char *name; const void *list; int count; } lists[] = {
        {"learning_rates", o->learning_rates, o->learning_rate_count},
        {"freeze", o->freeze, o->freeze_count},
        {"activations", o->activations, o->activation_count},
        {"losses", o->losses, o->loss_count}, {"optimizers", o->optimizers, o->optimizer_count}};
    int i, k;
    for (i = 0; i < 5; ++i) {
        if (lists[i].count < 0 || (lists[i].count > 0) != (lists[i].list != NULL))
            return ft__fail(c, FT_INVALID, "ft_sweep: %s is %s, but its count is %d", lists[i].name,
                            lists[i].list ? "given" : "NULL", lists[i].count);
        for (k = 0; i > 0 && k < lists[i].count; ++k)
            if (!((const char *const *)lists[i].list)[k])
                return ft__fail(c, FT_INVALID, "ft_sweep: %s[%d] is NULL", lists[i].name, k);
    }
    for (k = 0; k < o->learning_rate_count; ++k)
        if (!ft__not_negative(o->learning_rates[k]) || o->learning_rates[k] == 0)
            return ft__fail(c, FT_INVALID, "ft_sweep: learning_rates[%d] is %g; it must be above 0"
                            " and finite", k, (double)o->learning_rates[k]);
    if (o->seeds < 1 || o->seeds > 100 || o->draws < 0 || o->cut < 1 || o->cut > 1000
        || !(o->seconds >= 0 && o->seconds <= 1e9) || f->epochs < 0)
        return ft__fail(c, FT_INVALID, "ft_sweep: %d seeds, %d draws, a cut of %d, %g seconds, %d"
                        " epochs: seeds must be at most 100, the cut at most 1000, none negative",
                        o->seeds, o->draws, o->cut, o->seconds, f->epochs);
    return ft__check_uses(c, "ft_sweep", uses, sizeof uses / sizeof uses[0]);
}

/* What a run would refuse, before the first one. */
static ft_status ft__sweep_check_names(const ft__sweep *s)
{
    ft__context *c = &s->m->context;
    const ft_sweep_options *o = &s->o;
    ft_activation_options plain;
    char text[400];
    int i;
    memset(&plain, 0, sizeof plain);
    for (i = 0; i < o->optimizer_count && ft__ok(c); ++i)
        ft__recipe_check_name(c, "optimizer", o->optimizers[i], ft__optimizer_name);
    for (i = 0; i < o->loss_count && ft__ok(c); ++i)
        if (*o->losses[i]) ft__loss_named(s->m, o->losses[i]);
    for (i = 0; i < o->activation_count && ft__ok(c); ++i)
        if (*o->activations[i]) ft__activation_of(s->m, o->activations[i], &plain);
    /* A model whose output is the vector of a text gets its head only in a run. */
    for (i = 0; i < o->freeze_count && s->m->output.id != s->m->text_vector.id; ++i)
        if (ft__unmatched(s->m, o->freeze[i], ft__can_freeze, text, sizeof text))
            ft__fail(c, FT_INVALID, "ft_sweep: freeze: %s", text);
    return c->status;
}

/* Whether this network can be swept: what it learns must be measured sample by sample. */
static ft_status ft__sweep_check_model(ft__sweep *s)
{
    ft_model *m = s->m;
    ft__context *c = &m->context;
    ft_task task = ft__task_on(c, "ft_sweep", s->data, s->o.finetune.task);
    ft_finetune_options o;
    if (ft__ok(c) && task != FT_TASK_CLASSIFICATION && task != FT_TASK_REGRESSION)
        ft__fail(c, FT_UNSUPPORTED, "ft_sweep: it is for a class or a number of each sample; the"
                 " task is %s", ft_task_name(task));
    s->regression = task == FT_TASK_REGRESSION;
    if (ft__has_adapters(m))
        ft__fail(c, FT_UNSUPPORTED, "ft_sweep: the network has adapters (ft_lora)");
    if (c->desc.arena)
        ft__fail(c, FT_UNSUPPORTED, "ft_sweep: a second model needs memory besides ft_desc.arena");
    if (s->data->model != m)
        ft__fail(c, FT_INVALID, "the data belongs to another model: create it with this model");
    if (m->in_use) ft__fail(c, FT_INVALID, "ft_sweep: called inside a callback of another call");
    ft__refuse_any_shared(m, "ft_sweep");
    if (!ft__ok(c) || ft__sweep_check_names(s) != FT_OK) return c->status;
    o = s->o.finetune;
    o.freeze = ""; /* as each run has */
    return ft__recipe_check(m, s->data, &o);
}

/* All combinations, or those that the seed draws, in their order. */
static ft_status ft__sweep_grid(ft__sweep *s)
{
    ft__context *c = &s->m->context;
    const ft_sweep_options *o = &s->o;
    const int counts[] = {o->learning_rate_count, o->freeze_count, o->activation_count,
                          o->loss_count, o->optimizer_count};
    int all = 1, i, k, *drawn;
    for (i = 0; i < 5; ++i) {
        if (counts[i] > FT__MOST_SETTINGS / all)
            return ft__fail(c, FT_INVALID, "ft_sweep: more than %d settings",
                            (int)FT__MOST_SETTINGS);
        all *= ft__at_least_one(counts[i]);
    }
    s->settings = o->draws > 0 && o->draws < all ? o->draws : all;
    s->grid = (int *)ft__allocate(c, (size_t)all, sizeof *s->grid);
    s->order = (int *)ft__allocate(c, (size_t)all, sizeof *s->order);
    s->alive = (int *)ft__allocate(c, (size_t)all, sizeof *s->alive);
    drawn = (int *)ft__allocate(c, (size_t)all, sizeof *drawn);
    if (ft__ok(c)) ft__shuffle(drawn, all, ft__key(c->desc.seed, 0, 0, FT__USE_SWEEP));
    if (ft__ok(c))
        for (i = 0; i < s->settings; ++i) s->order[drawn[i]] = 1;
    for (i = k = 0; ft__ok(c) && i < all; ++i)
        if (s->order[i]) s->grid[k++] = i;
    ft__release(c, drawn);
    return c->status;
}

/* The samples that each seed holds back. */
static ft_status ft__sweep_held(ft__sweep *s)
{
    ft__context *c = &s->m->context;
    int samples = ft_data_count(s->data), seed, i;
    int *part = (int *)ft__allocate(c, (size_t)samples + 1, sizeof *part);
    s->most = samples;
    s->held_count = (int *)ft__allocate(c, (size_t)s->seeds, sizeof *s->held_count);
    s->held = (int *)ft__allocate(c, (size_t)s->seeds * (size_t)samples, sizeof *s->held);
    s->runs = (ft__sweep_run *)ft__allocate(c, (size_t)s->settings * (size_t)s->seeds,
                                            sizeof *s->runs);
    for (seed = 0; ft__ok(c) && seed < s->seeds; ++seed) {
        int *held = s->held + (size_t)seed * (size_t)samples, *count = &s->held_count[seed];
        memset(part, 0, (size_t)samples * sizeof *part);
        ft__split(s->data, s->o.finetune.hold_back, c->desc.seed + (uint64_t)seed, part);
        for (i = 0; i < samples; ++i)
            if (part[i]) held[(*count)++] = i;
        if (*count > s->width) s->width = *count;
        if (ft__ok(c) && *count < FT__LEAST_HELD_BACK)
            ft__fail(c, FT_INVALID, "ft_sweep: of %d %s only %d can be held back, too few (%d are"
                     " needed) to choose by", samples, ft__data_samples(s->data), *count,
                     (int)FT__LEAST_HELD_BACK);
    }
    ft__release(c, part);
    return c->status;
}

/* Trains the settings, as far as the time suffices. */
static ft_status ft__sweep_all(ft__sweep *s)
{
    ft__context *c = &s->m->context;
    int rung, i;
    s->start = ft__clock(c);
    ft__host_takes_weights(c, false);
    s->key = ft__sweep_key(s);
    if (ft__sweep_read(s) != FT_OK) return c->status;
    if (!s->scores) {
        s->epochs = s->o.finetune.epochs > 0 ? s->o.finetune.epochs : 9;
        if (s->o.finetune.epochs == 0 && s->o.seconds > 0) ft__sweep_choose_epochs(s);
        if (s->stopped || !ft__ok(c) || ft__sweep_room(s) != FT_OK) return c->status;
        for (i = 0; i < s->settings; ++i) ft__sweep_remove(s, i); /* of another sweep */
        ft__sweep_write(s); /* with the epochs that were chosen */
    }
    for (rung = 0; rung < s->rungs && ft__ok(c) && !s->stopped && !s->late; ++rung)
        ft__sweep_rung(s, rung);
    return c->status;
}

/* Makes the winner's run with the first seed that of the model, and removes the checkpoints. */
static void ft__sweep_end(ft__sweep *s, ft_sweep_result *r)
{
    ft__context *c = &s->m->context;
    int depth, winner, i;
    char name[400];
    ft__sweep_sort(s, s->rungs, s->order);
    winner = s->order[0];
    depth = ft__sweep_depth(s, winner);
    if (depth == 0)
        ft__fail(c, FT_INVALID, "ft_sweep: the %g seconds were over before a setting was trained",
                 s->o.seconds);
    else if (ft__sweep_failed(s, winner))
        ft__fail(c, FT_NOT_FINITE, "ft_sweep: no setting could be trained: all losses or weights"
                 " became infinite (smaller learning rates may help)");
    ft__sweep_tell(s, r);
    if (!ft__ok(c)) return;
    r->settings = s->settings;
    r->epochs = s->epochs;
    r->regression = s->regression;
    r->timed_out = s->late;
    ft__log(c, "sweep: the best: %s", ft__sweep_name(&r->winner, name, sizeof name));
    s->late = false;
    s->ends = true;
    ft__cache_release(c, &s->lent.cache);
    r->fit = ft__sweep_train(s, s->m, winner, 0, depth - 1);
    ft__cache_release(c, &s->lent.cache);
    r->stopped = s->stopped;
    for (i = 0; ft__ok(c) && !s->stopped && i < s->settings; ++i) ft__sweep_remove(s, i);
    if (ft__ok(c) && !s->stopped) r->fit.stopped = false;
}

static void ft__sweep_free(ft__sweep *s)
{
    ft__context *c = &s->m->context;
    ft__cache_release(c, &s->lent.cache);
    ft__release(c, s->scores);
    ft__release(c, s->runs);
    ft__release(c, s->held);
    ft__release(c, s->held_count);
    ft__release(c, s->alive);
    ft__release(c, s->order);
    ft__release(c, s->grid);
}

ft_sweep_result ft_sweep(ft_model *m, ft_data *data, const char *path, ft_sweep_options options)
{
    ft_sweep_result r;
    ft__sweep s;
    memset(&r, 0, sizeof r);
    memset(&s, 0, sizeof s);
    if (!FT__HAS(m, TRAINING) || !FT__HAS(m, DATA) || !FT__HAS(m, SURGERY) || !FT__HAS(m, SAVING)
        || !ft__usable(m) || !ft__given(&m->context, data, "ft_sweep: the data")
        || !ft__given(&m->context, path, "ft_sweep: the path")) return r;
    if (options.seeds == 0) options.seeds = 1;
    if (options.cut == 0) options.cut = 3;
    if (options.finetune.hold_back == 0) options.finetune.hold_back = 0.2f;
    if (!options.finetune.schedule) options.finetune.schedule = "cosine";
    s.m = m;
    s.data = data;
    s.path = path;
    s.o = options;
    s.seeds = options.seeds;
    s.group = -1;
    if (ft__sweep_check_options(&s) == FT_OK && ft__sweep_check_model(&s) == FT_OK
        && ft__sweep_grid(&s) == FT_OK && ft__sweep_held(&s) == FT_OK
        && ft__sweep_all(&s) == FT_OK) {
        r.stopped = s.stopped;
        if (!s.stopped) ft__sweep_end(&s, &r);
        r.seconds = ft__sweep_seconds(&s);
    }
    ft__sweep_free(&s);
    return r;
}
