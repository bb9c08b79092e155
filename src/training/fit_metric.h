#pragma once
#include "interface/types.h"
#include "interface/training_types.h"
#include "platform/context.h"
#include "graph/settings.h"
#include "training/metrics.h"
#include "training/measures.h"
#include "training/outcomes.h"
#include "training/entities.h"
#include "training/prefix_cache.h"

/* =============================================================================================
   [SECTION] training/fit_metric: The metric that the best epoch follows
   ============================================================================================= */
/* Which metric is followed: the task's own, or the one that was asked for. */
static ft_metric ft__own_metric(const ft_model *m, const ft__tag *tags)
{
    if (!ft__scored_rows(m, 1)) return FT_METRIC_LOSS; /* no labels, as in a regression */
    if (tags) return FT_METRIC_ENTITY_F1;
    return ft__classifies_samples(m) || ft__classifies_steps(m) ? FT_METRIC_ACCURACY
                                                                : FT_METRIC_LOSS;
}

static ft_status ft__fit_choose_metric(ft__fit *f)
{
    ft_model *m = f->m;
    ft__context *c = &m->context;
    ft_metric wanted = f->o.metric;
    bool numbers = ft__regression_columns(m) > 0, fits;
    if ((unsigned)wanted >= FT_METRIC_COUNT)
        return ft__fail(c, FT_INVALID, "ft_fit: metric is %d; it must be one of ft_metric",
                        (int)wanted);
    if (f->held_count == 0) return c->status;
    if (ft__scored_rows(m, 1) && (wanted == FT_METRIC_AUTO || wanted == FT_METRIC_ENTITY_F1))
        f->tags = ft__model_tags(m);
    f->metric = wanted != FT_METRIC_AUTO ? wanted : ft__own_metric(m, f->tags);
    if (f->metric == FT_METRIC_LOSS) return c->status;
    if (f->metric == FT_METRIC_ACCURACY) fits = ft__scored_rows(m, 1) > 0;
    else if (f->metric == FT_METRIC_ENTITY_F1) fits = f->tags != NULL;
    else fits = ft__has_outcomes(m) && numbers == (f->metric >= FT_METRIC_MAE);
    if (!fits && ft__ok(c))
        ft__fail(c, FT_INVALID, "ft_fit: metric %s is not defined for what this network predicts:"
                 " %s", ft_metric_name(f->metric),
                 numbers ? "numbers" : ft__classifies_samples(m) ? "a class of each sample"
                                                                 : "classes of steps");
    if (f->tags)
        f->batch_samples = (int *)ft__allocate(c, (size_t)f->o.batch_size, sizeof(int));
    else if (ft__ok(c) && f->metric != FT_METRIC_ACCURACY)
        ft__outcomes_start(m, &f->outcomes, f->held_count);
    return c->status;
}

/* The held-back samples' metric, as a number that is higher, the better it is. */
static double ft__fit_rank(ft__fit *f, const ft__score *score, const ft__entities *entities)
{
    if (f->metric == FT_METRIC_LOSS) return 0; /* of equal ranks the lower loss is better */
    if (f->metric == FT_METRIC_ACCURACY) return (double)score->correct;
    if (f->metric == FT_METRIC_ENTITY_F1)
        return ft__share(2 * entities->correct, entities->predicted + entities->total);
    ft__outcomes_soften(f->m, &f->outcomes);
    return ft__measure_rank(&f->m->context, &f->outcomes, f->metric);
}

/* The metric itself, from its rank. */
static double ft__fit_metric(const ft__fit *f, const ft__score *score)
{
    if (f->metric == FT_METRIC_LOSS) return score->loss / (double)score->total;
    if (f->metric == FT_METRIC_ACCURACY) return ft__accuracy(f->m, score);
    if (score->rank <= ft__undefined_rank) return (double)NAN;
    return ft__is_error(f->metric) ? -score->rank : score->rank;
}

static bool ft__better(const ft__score *a, const ft__score *b)
{
    if (b->total == 0) return true;
    if (a->rank > b->rank || a->rank < b->rank) return a->rank > b->rank;
    return a->loss < b->loss;
}
