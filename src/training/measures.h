#pragma once
#include "interface/training_types.h"
#include "platform/context.h"
#include "basics/random.h"
#include "basics/sorting.h"
#include "kernels/rotary.h"
#include "training/correlation.h"
#include "training/metrics.h"

/* =============================================================================================
   [SECTION] training/measures: Metrics as scikit-learn defines them, with intervals
   Each sample has a weight: 1, or how often a resample of the bootstrap drew it. What no draw
   changes, the samples in order of their probabilities above all, is computed once.
   ============================================================================================= */
static const char *const ft__metric_names[] = {
    "auto", "loss", "entity_f1", "accuracy", "top5", "precision_macro", "precision_micro",
    "precision_weighted", "recall_macro", "recall_micro", "recall_weighted", "f1_macro",
    "f1_micro", "f1_weighted", "roc_auc", "average_precision", "kappa", "mcc",
    "calibration_error", "log_loss", "mae", "rmse", "r2", "pearson", "spearman"};

const char *ft_metric_name(ft_metric metric)
{
    return (unsigned)metric < FT_METRIC_COUNT ? ft__metric_names[metric] : "";
}

/* What was predicted of each sample, and what is true. Of classes: values [samples][columns] are
   probabilities, labels [samples]. Of numbers: values and targets [samples][columns]. */
typedef struct ft__outcomes {
    int samples, columns;
    double *values, *targets;
    int *labels;            /* NULL: numbers */
} ft__outcomes;

typedef struct ft__measured { /* of one draw of the samples */
    bool known[FT_METRIC_COUNT];
    double value[FT_METRIC_COUNT];
} ft__measured;

typedef struct ft__measuring {
    const ft__outcomes *of;
    double *weight;         /* [samples] */
    double *sums;           /* [3][columns]: weights of the samples of a class that were guessed
                               right, that were guessed to be of it, that are of it */
    double *ranks;          /* [2][samples], of one number */
    int *order;             /* [columns][samples], by falling probability; of one number
                               [2][samples]: by rising output and target */
    int *guess;             /* [samples] */
    unsigned char *in_top5; /* [samples] */
} ft__measuring;

static void ft__know(ft__measured *to, ft_metric metric, bool known, double value)
{
    to->known[metric] = known;
    to->value[metric] = known ? value : 0;
}

/* ---- Guesses ---- */

/* The averages of one number of each class, `part` by `whole`: of all classes that occur, of all
   samples, and of classes by their samples. */
static void ft__know_averages(const ft__measuring *g, ft__measured *to, ft_metric macro,
                              double of_guessed, double of_labelled)
{
    int classes = g->of->columns, c;
    const double *right = g->sums, *guessed = right + classes, *labelled = guessed + classes;
    double sum = 0, weighted = 0, occur = 0, all = 0, hits = 0;
    for (c = 0; c < classes; ++c) {
        double whole = of_guessed * guessed[c] + of_labelled * labelled[c];
        double share = whole > 0 ? right[c] / whole : 0;
        occur += guessed[c] > 0 || labelled[c] > 0;
        sum += share;
        weighted += labelled[c] * share;
        all += labelled[c];
        hits += right[c];
    }
    ft__know(to, macro, all > 0, sum / occur);
    ft__know(to, (ft_metric)(macro + 1), all > 0, hits / all);
    ft__know(to, (ft_metric)(macro + 2), all > 0, weighted / all);
}

/* Agreement beyond chance, from the sums: Cohen's kappa, and Matthews' correlation, which is 0 if
   all labels, or all guesses, are of one class. */
static void ft__know_agreement(const ft__measuring *g, ft__measured *to)
{
    int classes = g->of->columns, c;
    const double *right = g->sums, *guessed = right + classes, *labelled = guessed + classes;
    double all = 0, hits = 0, both = 0, guesses = 0, labels = 0, spread;
    for (c = 0; c < classes; ++c) {
        all += labelled[c];
        hits += right[c];
        both += guessed[c] * labelled[c];
        guesses += guessed[c] * guessed[c];
        labels += labelled[c] * labelled[c];
    }
    ft__know(to, FT_METRIC_ACCURACY, all > 0, hits / all);
    ft__know(to, FT_METRIC_KAPPA, all * all > both, (hits * all - both) / (all * all - both));
    spread = (all * all - guesses) * (all * all - labels);
    ft__know(to, FT_METRIC_MCC, all > 0, spread > 0 ? (hits * all - both) / sqrt(spread) : 0);
}

enum { FT__BINS = 15 };

/* What the probabilities are worth: the bins' errors, and the logarithm of the label's. */
static void ft__know_calibration(const ft__measuring *g, ft__measured *to)
{
    const ft__outcomes *of = g->of;
    const double least = 2.220446049250313e-16;
    double sure[FT__BINS] = {0}, hits[FT__BINS] = {0}, all = 0, loss = 0, top = 0, error = 0;
    int i, bin;
    for (i = 0; i < of->samples; ++i) {
        const double *row = of->values + (size_t)i * (size_t)of->columns;
        double p = row[g->guess[i]], label = row[of->labels[i]];
        for (bin = 0; bin < FT__BINS - 1 && p > (bin + 1) / (double)FT__BINS; ++bin) {}
        sure[bin] += g->weight[i] * p;
        hits[bin] += g->guess[i] == of->labels[i] ? g->weight[i] : 0;
        label = label < least ? least : label > 1 - least ? 1 - least : label;
        if (g->weight[i] > 0) loss -= g->weight[i] * ft__log_double(label);
        top += g->weight[i] * g->in_top5[i];
        all += g->weight[i];
    }
    for (bin = 0; bin < FT__BINS; ++bin) error += fabs(hits[bin] - sure[bin]);
    ft__know(to, FT_METRIC_CALIBRATION_ERROR, all > 0, error / all);
    ft__know(to, FT_METRIC_LOG_LOSS, all > 0, loss / all);
    ft__know(to, FT_METRIC_TOP5, all > 0 && of->columns > 5, top / all);
}

/* ---- Rankings ---- */

/* Goes down the probabilities of class c; samples with equal ones are one threshold. The area under
   the curve of true by false positives is, by trapezoids, the share of pairs in the right order. */
static void ft__rank_class(const ft__measuring *g, int c, double *area, double *precision,
                           double *positives, double *negatives)
{
    const ft__outcomes *of = g->of;
    const int *order = g->order + (size_t)c * (size_t)of->samples;
    double above = 0, below = 0; /* the positives and negatives so far */
    int i = 0, first;
    *area = *precision = 0;
    while (i < of->samples) {
        double p = of->values[(size_t)order[i] * (size_t)of->columns + (size_t)c], yes = 0, no = 0;
        for (first = i; i < of->samples; ++i) {
            int s = order[i];
            if (i > first && of->values[(size_t)s * (size_t)of->columns + (size_t)c] != p) break;
            if (of->labels[s] == c) yes += g->weight[s];
            else no += g->weight[s];
        }
        *area += no * (above + yes / 2);
        above += yes;
        below += no;
        if (yes > 0) *precision += yes * above / (above + below);
    }
    *positives = above;
    *negatives = below;
}

static void ft__know_rankings(const ft__measuring *g, ft__measured *to)
{
    int classes = g->of->columns, c;
    double areas = 0, precisions = 0, area, precision, yes, no;
    int with_area = 0, with_precision = 0;
    for (c = classes == 2 ? 1 : 0; c < classes; ++c) {
        ft__rank_class(g, c, &area, &precision, &yes, &no);
        if (yes > 0 && no > 0) areas += area / (yes * no);
        if (yes > 0) precisions += precision / yes;
        with_area += yes > 0 && no > 0;
        with_precision += yes > 0;
    }
    ft__know(to, FT_METRIC_ROC_AUC, with_area > 0, areas / with_area);
    ft__know(to, FT_METRIC_AVERAGE_PRECISION, with_precision > 0, precisions / with_precision);
}

static void ft__measure_classes(const ft__measuring *g, ft__measured *to)
{
    const ft__outcomes *of = g->of;
    double *right = g->sums, *guessed = right + of->columns, *labelled = guessed + of->columns;
    int i;
    memset(right, 0, 3 * (size_t)of->columns * sizeof *right);
    for (i = 0; i < of->samples; ++i) {
        if (g->guess[i] == of->labels[i]) right[g->guess[i]] += g->weight[i];
        guessed[g->guess[i]] += g->weight[i];
        labelled[of->labels[i]] += g->weight[i];
    }
    ft__know_averages(g, to, FT_METRIC_PRECISION_MACRO, 1, 0);
    ft__know_averages(g, to, FT_METRIC_RECALL_MACRO, 0, 1);
    ft__know_averages(g, to, FT_METRIC_F1_MACRO, 0.5, 0.5);
    ft__know_agreement(g, to);
    ft__know_calibration(g, to);
    ft__know_rankings(g, to);
}

/* ---- Numbers ---- */

static void ft__know_correlations(const ft__measuring *g, ft__measured *to)
{
    const ft__outcomes *of = g->of;
    double *second = g->ranks + of->samples, r = 0;
    bool known = ft__weighted_pearson(of->values, of->targets, g->weight, of->samples, &r);
    ft__know(to, FT_METRIC_PEARSON, known, r);
    ft__ranks(of->values, g->weight, of->samples, g->order, g->ranks);
    ft__ranks(of->targets, g->weight, of->samples, g->order + of->samples, second);
    known = ft__weighted_pearson(g->ranks, second, g->weight, of->samples, &r);
    ft__know(to, FT_METRIC_SPEARMAN, known, r);
}

static void ft__measure_numbers(const ft__measuring *g, ft__measured *to)
{
    const ft__outcomes *of = g->of;
    double mae = 0, rmse = 0, r2 = 0, all;
    int k, i;
    for (k = 0; k < of->columns; ++k) {
        double mean = 0, spread = 0, square = 0, absolute = 0;
        for (i = 0, all = 0; i < of->samples; ++i) {
            size_t at = (size_t)i * (size_t)of->columns + (size_t)k;
            double off = of->values[at] - of->targets[at];
            all += g->weight[i];
            mean += g->weight[i] * of->targets[at];
            absolute += g->weight[i] * fabs(off);
            square += g->weight[i] * off * off;
        }
        mean /= all;
        for (i = 0; i < of->samples; ++i) {
            double off = of->targets[(size_t)i * (size_t)of->columns + (size_t)k] - mean;
            spread += g->weight[i] * off * off;
        }
        mae += absolute / all / of->columns;
        rmse += sqrt(square / all) / of->columns;
        r2 += (spread > 0 ? 1 - square / spread : square > 0 ? 0 : 1) / of->columns;
    }
    ft__know(to, FT_METRIC_MAE, true, mae);
    ft__know(to, FT_METRIC_RMSE, true, rmse);
    ft__know(to, FT_METRIC_R2, of->samples > 1, r2);
    if (of->columns == 1) ft__know_correlations(g, to);
}

static void ft__measure_once(const ft__measuring *g, ft__measured *to)
{
    memset(to, 0, sizeof *to);
    if (g->of->labels) ft__measure_classes(g, to);
    else ft__measure_numbers(g, to);
}

/* ---- What the draws share ---- */

typedef struct ft__column { const double *values; int columns, column; } ft__column;

static bool ft__column_above(const void *context, int a, int b)
{
    const ft__column *of = (const ft__column *)context;
    double x = of->values[(size_t)a * (size_t)of->columns + (size_t)of->column];
    double y = of->values[(size_t)b * (size_t)of->columns + (size_t)of->column];
    return x != y ? x > y : a < b;
}

/* The guess of a sample is the first of the most probable classes. */
static void ft__measuring_guess(ft__measuring *g)
{
    int classes = g->of->columns, i, c;
    for (i = 0; i < g->of->samples; ++i) {
        const double *row = g->of->values + (size_t)i * (size_t)classes;
        int label = g->of->labels[i], before = 0, best = 0;
        for (c = 0; c < classes; ++c) {
            if (row[c] > row[best]) best = c;
            before += row[c] > row[label] || (row[c] == row[label] && c > label);
        }
        g->guess[i] = best;
        g->in_top5[i] = before < 5;
    }
}

static size_t ft__measuring_bytes(bool classes, int samples, int columns)
{
    size_t n = (size_t)samples, k = (size_t)columns;
    size_t orders = classes ? k : columns == 1 ? 2 : 0;
    size_t bytes = n * sizeof(double) + 3 * k * sizeof(double) + orders * n * sizeof(int)
        + n * (sizeof(int) + 1) + (columns == 1 ? 2 * n * sizeof(double) : 0) + 8 * FT__ALIGNMENT;
    return bytes + 1000 * (FT_METRIC_COUNT * sizeof(double) + sizeof(int));
}

static void ft__measuring_free(ft__context *c, ft__measuring *g)
{
    ft__release(c, g->in_top5);
    ft__release(c, g->guess);
    ft__release(c, g->order);
    ft__release(c, g->ranks);
    ft__release(c, g->sums);
    ft__release(c, g->weight);
}

static bool ft__measuring_start(ft__context *c, ft__measuring *g, const ft__outcomes *of)
{
    size_t n = (size_t)of->samples, orders = 0;
    ft__column column;
    int i;
    memset(g, 0, sizeof *g);
    g->of = of;
    if (of->labels) orders = (size_t)of->columns;
    else if (of->columns == 1) orders = 2;
    g->weight = (double *)ft__allocate(c, n, sizeof *g->weight);
    g->sums = (double *)ft__allocate(c, 3 * (size_t)of->columns, sizeof *g->sums);
    if (!of->labels && orders) g->ranks = (double *)ft__allocate(c, 2 * n, sizeof *g->ranks);
    if (orders) g->order = (int *)ft__allocate(c, orders * n, sizeof *g->order);
    if (of->labels) g->guess = (int *)ft__allocate(c, n, sizeof *g->guess);
    if (of->labels) g->in_top5 = (unsigned char *)ft__allocate(c, n, 1);
    if (!ft__ok(c)) return false;
    for (i = 0; i < of->samples; ++i) g->weight[i] = 1;
    column.values = of->values;
    column.columns = of->columns;
    if (of->labels) ft__measuring_guess(g);
    for (column.column = 0; of->labels && column.column < of->columns; ++column.column)
        ft__sort_order(g->order + (size_t)column.column * n, of->samples, ft__column_above,
                       &column);
    if (g->ranks) ft__sort_order(g->order, of->samples, ft__lower_number, of->values);
    if (g->ranks) ft__sort_order(g->order + n, of->samples, ft__lower_number, of->targets);
    return true;
}

/* ---- Intervals ---- */

/* The value that a share of the sorted ones is below, between two of them by its distance, as
   NumPy's percentile. */
static double ft__quantile(const double *values, const int *order, int count, double share)
{
    double place = share * (count - 1);
    int low = (int)place, high = low + 1 < count ? low + 1 : low;
    return values[order[low]] + (place - low) * (values[order[high]] - values[order[low]]);
}

static void ft__draw_again(const ft__measuring *g, int draw)
{
    uint64_t key = ft__key(0, (uint64_t)draw, 0, FT__USE_BOOTSTRAP);
    uint64_t count = (uint64_t)g->of->samples, i;
    memset(g->weight, 0, (size_t)count * sizeof *g->weight);
    for (i = 0; i < count; ++i) g->weight[ft__random(key, i) % count] += 1;
}

/* Fills the intervals of all metrics that are known; draws for which one is not do not count. */
static void ft__bootstrap(ft__context *c, ft__measuring *g, ft_metrics *to)
{
    size_t draws = (size_t)to->resamples;
    double *values = (double *)ft__allocate(c, draws * FT_METRIC_COUNT, sizeof *values);
    int *order = (int *)ft__allocate(c, draws, sizeof *order), known[FT_METRIC_COUNT] = {0}, k, d;
    ft__measured drawn;
    for (d = 0; values && order && d < to->resamples; ++d) {
        ft__draw_again(g, d);
        ft__measure_once(g, &drawn);
        for (k = 0; k < FT_METRIC_COUNT; ++k)
            if (drawn.known[k]) values[(size_t)k * draws + (size_t)known[k]++] = drawn.value[k];
    }
    for (k = 0; values && order && k < FT_METRIC_COUNT; ++k) {
        const double *of = values + (size_t)k * draws;
        ft_measure *m = &to->of[k];
        if (!m->known) continue;
        m->low = m->high = m->value;
        if (known[k] == 0) continue;
        ft__sort_order(order, known[k], ft__lower_number, of);
        if (ft__quantile(of, order, known[k], 0.025) < m->low)
            m->low = ft__quantile(of, order, known[k], 0.025);
        if (ft__quantile(of, order, known[k], 0.975) > m->high)
            m->high = ft__quantile(of, order, known[k], 0.975);
    }
    ft__release(c, order);
    ft__release(c, values);
}

/* Wilson's interval, where the metric is a share of the samples. */
static void ft__wilson_measure(ft_measure *m, int samples)
{
    if (m->known) ft__wilson((int)(m->value * samples + 0.5), samples, &m->low, &m->high);
}

/* Lower is better. */
static bool ft__is_error(ft_metric metric)
{
    return metric == FT_METRIC_LOSS || metric == FT_METRIC_CALIBRATION_ERROR
        || metric == FT_METRIC_LOG_LOSS || metric == FT_METRIC_MAE || metric == FT_METRIC_RMSE;
}

static const double ft__undefined_rank = -DBL_MAX;

/* A number that is higher, the better this metric of the samples is. */
static double ft__measure_rank(ft__context *c, const ft__outcomes *of, ft_metric metric)
{
    ft__measuring g;
    ft__measured once;
    once.known[metric] = false;
    if (of->samples > 0 && ft__measuring_start(c, &g, of)) ft__measure_once(&g, &once);
    if (of->samples > 0) ft__measuring_free(c, &g);
    if (!once.known[metric]) return ft__undefined_rank;
    return ft__is_error(metric) ? -once.value[metric] : once.value[metric];
}

/* All metrics of these samples. */
static void ft__measure(ft__context *c, const ft__outcomes *of, ft_metrics *to)
{
    ft__measuring g;
    ft__measured once;
    double work = (double)of->samples * of->columns;
    int k;
    memset(to, 0, sizeof *to);
    to->samples = of->samples;
    if (of->samples < 1) return;
    to->resamples = work <= 1e6 ? 1000 : work >= 1e7 ? 100 : (int)(1e9 / work);
    if (ft__measuring_start(c, &g, of)) {
        ft__measure_once(&g, &once);
        for (k = 0; k < FT_METRIC_COUNT; ++k) {
            to->of[k].known = once.known[k];
            to->of[k].value = once.value[k];
        }
        ft__bootstrap(c, &g, to);
        ft__wilson_measure(&to->of[FT_METRIC_ACCURACY], of->samples);
        ft__wilson_measure(&to->of[FT_METRIC_TOP5], of->samples);
        ft__wilson_measure(&to->of[FT_METRIC_PRECISION_MICRO], of->samples);
        ft__wilson_measure(&to->of[FT_METRIC_RECALL_MICRO], of->samples);
        ft__wilson_measure(&to->of[FT_METRIC_F1_MICRO], of->samples);
    }
    ft__measuring_free(c, &g);
}
