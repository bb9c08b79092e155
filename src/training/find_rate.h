#pragma once
#include "interface/types.h"
#include "interface/training_types.h"
#include "platform/context.h"
#include "basics/numbers.h"
#include "nodes/nodes.h"
#include "operators/table.h"
#include "devices/device.h"
#include "graph/plan.h"
#include "training/prefix_cache.h"
#include "training/averages.h"
#include "training/fit.h"

/* =============================================================================================
   [SECTION] training/find_rate: Finding a learning rate
   A fit of a few steps whose rate grows exponentially (Smith 2017), after which all is as before.
   ============================================================================================= */

/* ---- What such a fit changes, and puts back ---- */
typedef struct ft__node_before {
    float *value;           /* a copy of what training changes; else NULL */
    size_t numbers;
    float *moment1, *moment2; /* taken aside */
    ft__resting *resting;
} ft__node_before;

typedef struct ft__before {
    ft__node_before *nodes; /* [node_count] */
    ft__optimizer *optimizer;
    int moments;
    char *training;
    uint64_t step;
} ft__before;

/* Numbers of a node that a fit changes; 0: none. */
static size_t ft__touched_numbers(const ft_model *m, const ft__node *node)
{
    if (!node->value) return 0;
    if (ft__is_state(node)) return ft__node_count_at(node, node->capacity);
    return ft__changes(m, node) ? ft__node_count_at(node, ft__one) : 0;
}

/* Copies the values, and takes the optimiser and its state aside. */
static ft_status ft__set_aside(ft_model *m, ft__before *before)
{
    ft__context *c = &m->context;
    int i;
    memset(before, 0, sizeof *before);
    ft__host_takes_weights(c, false);
    before->nodes = (ft__node_before *)ft__allocate(c, (size_t)m->node_count + 1,
                                                    sizeof *before->nodes);
    for (i = 0; ft__ok(c) && i < m->node_count; ++i) {
        ft__node_before *b = &before->nodes[i];
        b->numbers = ft__touched_numbers(m, &m->nodes[i]);
        if (b->numbers > 0) b->value = (float *)ft__allocate(c, b->numbers, sizeof(float));
        if (b->value) memcpy(b->value, m->nodes[i].value, b->numbers * sizeof(float));
    }
    if (!ft__ok(c)) {
        for (i = 0; before->nodes && i < m->node_count; ++i)
            ft__release(c, before->nodes[i].value);
        ft__release(c, before->nodes);
        return c->status;
    }
    before->optimizer = m->optimizer;
    before->moments = m->moments;
    before->training = m->training;
    before->step = m->step;
    m->optimizer = NULL;
    m->training = NULL;
    for (i = 0; i < m->node_count; ++i) {
        ft__node *node = &m->nodes[i];
        before->nodes[i].moment1 = node->moment1;
        before->nodes[i].moment2 = node->moment2;
        before->nodes[i].resting = node->resting;
        node->moment1 = node->moment2 = NULL;
        node->resting = NULL;
    }
    return c->status;
}

static void ft__put_back(ft_model *m, ft__before *before)
{
    ft__context *c = &m->context;
    int i;
    ft__host_takes_weights(c, true);
    for (i = 0; i < m->node_count; ++i) {
        ft__node *node = &m->nodes[i];
        ft__node_before *b = &before->nodes[i];
        if (ft__is_state(node) && node->value) /* it may be larger now, or new */
            memset(node->value, 0, ft__touched_numbers(m, node) * sizeof(float));
        if (b->value) memcpy(node->value, b->value, b->numbers * sizeof(float));
        ft__release(c, b->value);
        ft__release_moments(c, node);
        node->moment1 = b->moment1;
        node->moment2 = b->moment2;
        node->resting = b->resting;
    }
    if (m->optimizer) ft__release(c, m->optimizer->parts);
    ft__release(c, m->optimizer);
    ft__release(c, m->training);
    ft__release(c, before->nodes);
    m->optimizer = before->optimizer;
    m->moments = before->moments;
    m->training = before->training;
    m->step = before->step;
    m->gradients_wait = false;
    m->weights_version += 1;
    m->trained_version += 1;
}

/* ---- The search ---- */
enum { FT__LEAST_FALL = 4 }; /* steps of a stretch in which the loss falls */

typedef struct ft__finder {
    ft_find_options o;
    ft_fit_options fit;     /* as the caller gave it */
    float *rate, *loss, *smoothed; /* [steps] */
    int count, steps;
    double mean, share;     /* of the losses, the later the more; and what the first has left */
    double least;           /* of the means so far */
    bool diverged, stopped;
} ft__finder;

static float ft__finder_factor(void *user, int step, int steps)
{
    const ft__finder *f = (const ft__finder *)user;
    int updates = f->steps / (f->fit.accumulate > 1 ? f->fit.accumulate : 1);
    (void)steps;
    return (float)ft__any_power((double)f->o.to / (double)f->o.from,
                                (double)step / (updates > 1 ? updates - 1 : 1));
}

/* Notes a step's loss; the mean of the losses forgets a tenth at each step, without a bias to 0. */
static bool ft__finder_note(void *user, const ft_progress *p)
{
    ft__finder *f = (ft__finder *)user;
    if (f->fit.progress && !f->fit.progress(f->fit.progress_user, p)) {
        f->stopped = true;
        return false;
    }
    if (p->preparing || p->epoch_done || p->batch == 0) return true;
    if (f->count == f->steps) return false;
    f->rate[f->count] = p->learning_rate;
    f->loss[f->count] = (float)p->step_loss;
    f->share *= 0.9;
    f->mean = 0.9 * f->mean + 0.1 * p->step_loss;
    if (f->count == 0 || f->mean / (1 - f->share) < f->least) f->least = f->mean / (1 - f->share);
    f->diverged = f->mean / (1 - f->share) > 4 * f->least;
    f->count += 1;
    return f->count < f->steps && !f->diverged;
}

/* The mean over nine steps about each: a mean of those before it would lag, and show a fall at
   rates several times too large. */
static void ft__smooth(const float *x, int count, float *y)
{
    int i, j, reach;
    for (i = 0; i < count; ++i) {
        double sum = 0;
        reach = i < count - 1 - i ? i : count - 1 - i;
        if (reach > 4) reach = 4;
        for (j = i - reach; j <= i + reach; ++j) sum += (double)x[j];
        y[i] = (float)(sum / (2 * reach + 1));
    }
}

/* The rate of steepest descent, by the logarithm of the rate, in the longest stretch of steps that
   never lie above one before them: each step belongs to the longest falling sequence that ends
   there. `run` [count] is for the lengths of these. Returns 0 if the loss does not fall. */
static float ft__steepest(const float *rate, const float *y, int count, int *run)
{
    int i, j, last = 0, first, best = -1;
    float steepest = 0;
    for (i = 0; i < count; ++i) {
        for (run[i] = 1, j = 0; j < i; ++j)
            if (y[i] < y[j] && run[i] < run[j] + 1) run[i] = run[j] + 1;
        if (run[i] > run[last]) last = i;
    }
    if (count == 0 || run[last] < FT__LEAST_FALL) return 0;
    first = last - run[last] + 1;
    for (i = first > 2 ? first : 2; i <= last && i + 2 < count; ++i) {
        float slope = y[i + 2] - y[i - 2];
        if (best >= 0 && slope >= steepest) continue;
        steepest = slope;
        best = i;
    }
    return best >= 0 && steepest < 0 ? rate[best] : 0;
}

/* The options of the fit that searches. */
static ft_fit_options ft__finder_fit(ft__finder *f)
{
    ft_fit_options o = f->fit;
    if (o.epochs < f->steps) o.epochs = f->steps; /* each has a step; it is stopped before */
    if (o.augment && !o.no_cache && o.views == 0 && f->fit.epochs > 0 && f->fit.epochs < 8)
        o.views = f->fit.epochs;
    o.optimizer.learning_rate = f->o.from;
    o.schedule = FT_CONSTANT;
    o.fixed_momentum = false;
    o.step_epochs = o.patience = o.checkpoint_steps = o.most_steps = 0;
    o.metric = FT_METRIC_AUTO;
    o.gamma = o.warmup_epochs = o.hold_back = o.ema = 0;
    o.best = o.swa = false;
    o.checkpoint = NULL;
    o.stage = "rate";
    o.factor = ft__finder_factor;
    o.progress = ft__finder_note;
    o.factor_user = o.progress_user = f;
    return o;
}

static void ft__finder_run(ft_model *m, ft_data *data, ft__finder *f, ft__lent *lent)
{
    ft__context *c = &m->context;
    ft__before before;
    if (ft__set_aside(m, &before) != FT_OK) return;
    ft__fit_run(m, data, ft__finder_fit(f), "", false, lent);
    if (c->status == FT_NOT_FINITE && f->count > 0) { /* the end of the search */
        c->status = FT_OK;
        c->text[0] = 0;
        f->diverged = true;
    }
    ft__put_back(m, &before);
}

static ft_status ft__finder_check(ft_model *m, ft_find_options *o, ft_optimizer optimizer)
{
    bool sgd = optimizer == FT_SGD;
    if (o->steps == 0) o->steps = 100;
    if (o->from == 0) o->from = sgd ? 1e-6f : 1e-7f;
    if (o->to == 0) o->to = sgd ? 10.0f : 1.0f;
    if (o->steps < 10 || o->steps > 100000)
        return ft__fail(&m->context, FT_INVALID, "ft_find_learning_rate: steps is %d; it must be 10"
                        " to 100000", o->steps);
    if (!(o->from > 0 && o->to > o->from && o->to <= FLT_MAX))
        return ft__fail(&m->context, FT_INVALID, "ft_find_learning_rate: from %g to %g: they must"
                        " be above 0, finite, and the second the larger", (double)o->from,
                        (double)o->to);
    return m->context.status;
}

/* `stage` and `lent` as of a fit of the recipe. Returns -1 if the search was stopped. */
static float ft__find_rate(ft_model *m, ft_data *data, ft_fit_options fit, ft_find_options options,
                           const char *stage, ft__lent *lent)
{
    ft__context *c = &m->context;
    ft_rate_curve curve;
    ft__finder f;
    int *run;
    memset(&f, 0, sizeof f);
    memset(&curve, 0, sizeof curve);
    if (ft__finder_check(m, &options, fit.optimizer.optimizer) != FT_OK) return 0;
    f.o = options;
    f.fit = fit;
    f.share = 1;
    f.steps = options.steps * (fit.accumulate > 1 ? fit.accumulate : 1);
    f.rate = (float *)ft__allocate(c, (size_t)f.steps, sizeof(float));
    f.loss = (float *)ft__allocate(c, (size_t)f.steps, sizeof(float));
    f.smoothed = (float *)ft__allocate(c, (size_t)f.steps, sizeof(float));
    run = (int *)ft__allocate(c, (size_t)f.steps, sizeof *run);
    if (ft__ok(c)) ft__finder_run(m, data, &f, lent);
    if (ft__ok(c) && !f.stopped) {
        curve.stage = stage;
        curve.count = f.count;
        curve.rate = f.rate;
        curve.loss = f.loss;
        curve.smoothed = f.smoothed;
        curve.diverged = f.diverged;
        ft__smooth(f.loss, f.count, f.smoothed);
        curve.learning_rate = ft__steepest(f.rate, f.smoothed, f.count, run);
        if (curve.learning_rate == 0)
            ft__log(c, "no learning rate was found: the loss did not fall in %d steps with rates"
                    " from %g to %g", f.count, (double)options.from, (double)options.to);
        if (options.curve) options.curve(options.curve_user, &curve);
    }
    ft__release(c, run);
    ft__release(c, f.smoothed);
    ft__release(c, f.loss);
    ft__release(c, f.rate);
    return f.stopped ? -1 : curve.learning_rate;
}
