#pragma once
#include "interface/types.h"
#include "interface/training_types.h"
#include "platform/context.h"
#include "basics/numbers.h"
#include "basics/strings.h"
#include "basics/json.h"
#include "optimizers/options.h"
#include "optimizers/schedules.h"
#include "training/prefix_cache.h"

/* =============================================================================================
   [SECTION] training/fit_rates: Fit: the learning rate of each update
   ============================================================================================= */
/* Updates of an epoch, each of `accumulate` batches, but for the last. */
static int ft__fit_epoch_updates(const ft__fit *f)
{
    return (f->steps + f->o.accumulate - 1) / f->o.accumulate;
}

/* Updates of the run: of all epochs, or as many as most_steps. */
static int ft__fit_total(const ft__fit *f)
{
    int64_t all = (int64_t)f->o.epochs * ft__fit_epoch_updates(f);
    return f->o.most_steps > 0 && f->o.most_steps < all ? f->o.most_steps : (int)all;
}

/* Epochs of the run, the last of which may be cut short. */
static int ft__fit_epochs(const ft__fit *f)
{
    return f->steps > 0 ? (ft__fit_total(f) - 1) / ft__fit_epoch_updates(f) + 1 : f->o.epochs;
}

/* Batches of this epoch: fewer than in others, if most_steps ends it or pairs are left out. */
static int ft__fit_steps(const ft__fit *f)
{
    int64_t left = ft__fit_total(f) - (int64_t)f->at.epoch * ft__fit_epoch_updates(f);
    int steps = (f->epoch_count + f->o.batch_size - 1) / f->o.batch_size;
    if (steps > f->steps) steps = f->steps;
    return left * f->o.accumulate < steps ? (int)left * f->o.accumulate : steps;
}

/* Whether the step's batch is the last before an update. */
static bool ft__fit_updates(const ft__fit *f)
{
    return (f->at.step + 1) % f->o.accumulate == 0 || f->at.step + 1 == ft__fit_steps(f);
}

/* The factor of the caller's schedule. */
static double ft__fit_called_factor(const ft__fit *f, int step, int steps)
{
    float factor = f->o.factor(f->o.factor_user, step, steps);
    if (ft__not_negative(factor)) return (double)factor;
    ft__fail(&f->m->context, FT_INVALID, "ft_fit: the schedule's factor of step %d is %g; it must"
             " be finite and not negative", step, (double)factor);
    return 0;
}

/* The update that the step's gradients are for, from 0. */
static int ft__fit_update_number(const ft__fit *f)
{
    return f->at.epoch * ft__fit_epoch_updates(f) + f->at.step / f->o.accumulate;
}

/* Updates of the warm-up. */
static int ft__fit_warmup(const ft__fit *f)
{
    return (int)(f->o.warmup_epochs * (float)ft__fit_epoch_updates(f) + 0.5f);
}

static float ft__fit_rate(const ft__fit *f)
{
    int updates = ft__fit_epoch_updates(f), steps = ft__fit_total(f);
    int step = ft__fit_update_number(f), warmup = ft__fit_warmup(f);
    double factor = f->o.factor && step >= warmup
        ? ft__fit_called_factor(f, step - warmup, steps - warmup)
        : ft__schedule(f->o.schedule, step, steps, f->o.step_epochs * updates, (double)f->o.gamma,
                       warmup);
    if (f->o.schedule == FT_PLATEAU)
        factor *= ft__power((double)f->o.gamma, (uint64_t)f->at.plateau.cuts);
    return (float)((double)f->o.optimizer.learning_rate * factor);
}

/* What one-cycle moves besides the rate: beta1, or momentum where there is one; NULL: nothing.
   NAdam has a schedule of its own for beta1. */
static float *ft__cycled_momentum(const ft_fit_options *o, ft_optimizer_options *p)
{
    int has = ft__optimizer_row_of(p)->has;
    if (o->schedule != FT_ONE_CYCLE || o->fixed_momentum || p->optimizer == FT_NADAM) return NULL;
    if (has & FT__BETAS) return &p->beta1;
    return (has & FT__MOMENTUM) && p->momentum != 0 ? &p->momentum : NULL;
}

/* Sets it for the step: from 0.95 to 0.85 while the rate rises, then back, as OneCycleLR does. */
static void ft__fit_cycle_momentum(const ft__fit *f)
{
    float *momentum = ft__cycled_momentum(&f->o, &f->m->optimizer->options);
    int step = ft__fit_update_number(f) - ft__fit_warmup(f);
    int steps = ft__fit_total(f) - ft__fit_warmup(f);
    if (!momentum) return;
    *momentum = step < 0 ? 0.95f : (float)ft__one_cycle(step, steps < 1 ? 1 : steps, 0.95, 0.85,
                                                        0.95);
}

/* ---- The state of FT_PLATEAU in a checkpoint ---- */

static void ft__write_plateau(ft__text *text, const ft__plateau *p)
{
    int64_t bits;
    memcpy(&bits, &p->best, sizeof bits);
    if (p->seen > 0)
        ft__text_add(text, ",\"plateau\":[%lld,%d,%d,%d]", (long long)bits, p->seen, p->waited,
                     p->cuts);
}

static void ft__checkpoint_plateau(const ft__fit *f, const ft__json *json, ft__plateau *p)
{
    int list = ft__json_member(json, 0, "plateau"), i;
    int64_t numbers[4] = {0, 0, 0, 0};
    bool read = true;
    if (list < 0) return; /* no epoch was over */
    for (i = 0; i < 4; ++i)
        read = ft__json_int(json, ft__json_element(json, list, i), &numbers[i]) && read
            && (i == 0 || (numbers[i] >= 0 && numbers[i] <= INT_MAX));
    memcpy(&p->best, &numbers[0], sizeof p->best);
    p->seen = (int)numbers[1];
    p->waited = (int)numbers[2];
    p->cuts = (int)numbers[3];
    if (!read || !(p->best - p->best == 0))
        ft__fail(&f->m->context, FT_FORMAT, "%s: damaged checkpoint: \"plateau\" is not a state",
                 f->o.checkpoint);
}
