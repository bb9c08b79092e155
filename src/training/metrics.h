#pragma once
#include "interface/types.h"
#include "interface/training_types.h"
#include "platform/context.h"
#include "kernels/softmax.h"
#include "nodes/nodes.h"
#include "operators/losses.h"
#include "devices/device.h"
#include "graph/layout.h"
#include "graph/plan.h"
#include "graph/forward_backward.h"
#include "graph/settings.h"
#include "graph/adapters.h"
#include "data/sources.h"
#include "data/tasks.h"
#include "training/correlation.h"

/* =============================================================================================
   [SECTION] training/metrics: Metrics
   ============================================================================================= */

/* Wilson 1927: the interval that contains the true share with 95 % confidence, from `correct` of
   `total`. Unlike the usual plus-or-minus it stays within [0, 1] and is right for small sets. */
static void ft__wilson(int correct, int total, double *low, double *high)
{
    const double z = 1.959963984540054; /* the normal distribution's 97.5 % quantile */
    double n = total, p, middle, half;
    *low = 0;
    *high = 1;
    if (total < 1) return;
    p = correct / n;
    middle = (p + z * z / (2 * n)) / (1 + z * z / n);
    half = z * sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / (1 + z * z / n);
    *low = middle - half > 0 ? middle - half : 0;
    *high = middle + half < 1 ? middle + half : 1;
}

/* ft__argmax with vectors: finds the maximum first, then its index. */
static int ft__guess(const ft__context *c, const float *scores, int count)
{
    float largest;
    int i = 0;
    ft__find_largest[c->simd](scores, (size_t)count, &largest);
    while (i + 1 < count && scores[i] != largest) ++i;
    return scores[i] == largest ? i : 0; /* no maximum with NaN: the first */
}

/* Sums over samples, for the report of an epoch or an evaluation. */
typedef struct ft__score {
    double loss;
    int64_t correct, total;
    bool unseen;            /* there were no outputs to compare (ft__leaves_output) */
    int guess, label;       /* the first of each, plus 1; of classes. -1: there were others too */
    double rank;            /* of held-back samples, by the metric that is followed: the higher, the
                               better */
} ft__score;

/* Notes one more of some classes: whether all are the same. */
static void ft__note_class(int *noted, int one)
{
    if (*noted == 0) *noted = one + 1;
    else if (*noted != one + 1) *noted = -1;
}

/* The number of labels that a batch of the output is compared with; 0: there are none. */
static size_t ft__scored_rows(const ft_model *m, int batch)
{
    const ft__node *output = m->output.id ? &m->nodes[m->output.id - 1] : NULL;
    const ft__node *labels = ft__labels_of(m);
    if (!labels || !output || output->shape.rank < 2
        || output->shape.size[output->shape.rank - 1] < 1) return 0;
    return ft__node_count_at(labels, ft__extent_of(m, batch));
}

/* The share of correct predictions; -1: the loss has no class labels, or kept no logits. */
static double ft__accuracy(const ft_model *m, const ft__score *score)
{
    if (!ft__scored_rows(m, 1) || score->unseen) return -1;
    return score->total > 0 ? (double)score->correct / (double)score->total : 0;
}

/* ---- Regression ---- */
typedef struct ft__regression { /* of `columns` numbers of each sample */
    size_t columns;         /* 0: not a regression */
    double count;
    double *mean, *spread, *error; /* [columns]: the targets' mean, their summed squared distances
                               from it (Welford 1962), and the summed squared errors */
    double *outputs, *targets;  /* [samples] of one column, for the correlations; else NULL */
    int samples;
} ft__regression;

/* Numbers of a sample. */
static size_t ft__regression_columns(const ft_model *m)
{
    const ft__node *targets = ft__targets_of(m);
    return targets ? ft__node_count_at(targets, ft__one) : 0;
}

static size_t ft__regression_bytes(const ft_model *m, int samples)
{
    size_t columns = ft__regression_columns(m), each = 4 * sizeof(double) + 3 * sizeof(int);
    if (!columns) return 0;
    return 3 * columns * sizeof(double) + 6 * FT__ALIGNMENT
        + (columns == 1 ? (size_t)samples * each : 0);
}

static void ft__regression_start(ft_model *m, ft__regression *r, int samples)
{
    const ft__node *targets = ft__targets_of(m);
    memset(r, 0, sizeof *r);
    if (!targets) return;
    r->columns = ft__node_count_at(targets, ft__one);
    r->mean = (double *)ft__allocate(&m->context, 3 * r->columns, sizeof(double));
    r->spread = r->mean ? r->mean + r->columns : NULL;
    r->error = r->mean ? r->spread + r->columns : NULL;
    if (r->columns == 1) r->outputs = (double *)ft__allocate(&m->context, (size_t)samples,
                                                             sizeof(double));
    if (r->outputs)
        r->targets = (double *)ft__allocate(&m->context, (size_t)samples, sizeof(double));
    if (!r->mean || (r->outputs && !r->targets)) r->columns = 0;
}

/* Pearson's and Spearman's (that of the ranks) correlations of outputs and targets. */
static void ft__correlate(ft__context *c, ft__regression *r, ft_evaluation *e)
{
    if (!r->targets || !ft__ok(c)) return;
    e->pearson = ft__pearson(r->outputs, r->targets, r->samples);
    e->spearman = ft__spearman(c, r->outputs, r->targets, r->samples);
}

/* Adds a batch that was just run. */
static void ft__regression_add(const ft_model *m, const ft__plan *plan, int batch,
                               ft__regression *r)
{
    const ft__node *targets = r->columns ? ft__targets_of(m) : NULL;
    const ft__node *outputs = ft__get_node(m, m->output);
    size_t k;
    int i;
    for (i = 0; targets && i < batch; ++i) {
        const float *target = targets->value + (size_t)i * r->columns;
        const float *output = plan->values[m->output.id - 1] + (size_t)i * r->columns;
        r->count += 1;
        if (r->targets) {
            r->targets[r->samples] = (double)*target;
            r->outputs[r->samples++] = (double)*output;
        }
        for (k = 0; k < r->columns; ++k) {
            double t = (double)target[ft__place_in_sample(targets, k)], off = t - r->mean[k];
            double wrong = (double)output[ft__place_in_sample(outputs, k)] - t;
            r->mean[k] += off / r->count;
            r->spread[k] += off * (t - r->mean[k]);
            r->error[k] += wrong * wrong;
        }
    }
}

static void ft__regression_end(ft_model *m, ft__regression *r, ft_evaluation *e)
{
    size_t k;
    e->regression = r->columns > 0;
    for (k = 0; k < r->columns && r->count > 0; ++k) {
        double part = 1 / (double)r->columns;
        e->mse += part * r->error[k] / r->count;
        e->r2 += part * (r->spread[k] > 0 ? 1 - r->error[k] / r->spread[k]
                                          : r->error[k] > 0 ? 0 : 1);
    }
    ft__correlate(&m->context, r, e);
    ft__release(&m->context, r->targets);
    ft__release(&m->context, r->outputs);
    ft__release(&m->context, r->mean);
}

/* Adds a batch that was just run: its mean loss times the labels that count, and how many of them
   the output got right. Without labels each sample counts. */
static void ft__score_batch(ft_model *m, const ft__plan *plan, int batch, float loss,
                            int *confusion, ft__score *score)
{
    const ft__node *output = ft__get_node(m, m->output);
    const float *logits = m->output.id ? plan->values[m->output.id - 1] : NULL;
    const int32_t *labels = NULL;
    size_t count = ft__scored_rows(m, batch), i;
    int classes, counted = 0;
    if (logits)
        ft__to_host(&m->context, logits,
                    ft__node_count_at(output, ft__extent_of(m, batch)) * sizeof(float));
    if (count) labels = (const int32_t *)(const void *)ft__labels_of(m)->value;
    classes = output ? output->shape.size[output->shape.rank - 1] : 0;
    for (i = 0; i < count; ++i) {
        int label = labels[i], guess;
        if (ft__is_ignored(label)) continue;
        counted += 1;
        score->unseen = score->unseen || !logits;
        if (!logits) continue;
        guess = ft__guess(&m->context, logits + i * (size_t)classes, classes);
        if (guess == label) score->correct += 1;
        ft__note_class(&score->guess, guess);
        ft__note_class(&score->label, label);
        if (confusion && label >= 0 && label < classes) confusion[label * classes + guess] += 1;
    }
    if (count == 0) counted = batch;
    score->loss += (double)loss * counted;
    score->total += counted;
}

/* The embedding must have a row for each piece of the data's tokeniser. */
static ft_status ft__check_words(ft_model *m, const ft_data *data)
{
    int words = ft__word_count(m);
    if (words == 0 || data->pieces <= words) return m->context.status;
    return ft__fail(&m->context, FT_SHAPE, "the tokeniser has %d pieces, but the embedding has %d"
                    " rows: set ft_network_options.words", data->pieces, words);
}

/* Data and model must have the same number of classes. */
static ft_status ft__check_classes(ft_model *m, const ft_data *data)
{
    bool counts = ft__classifies_samples(m) || ft_data_task(data) == FT_TASK_TOKENS;
    int has = ft_data_classes(data);
    if (data->model != m)
        return ft__fail(&m->context, FT_INVALID, "the data belongs to another model: create it with"
                        " this model");
    if (ft__check_words(m, data) != FT_OK || !counts || has == 0) return m->context.status;
    if (has > ft__output_classes(m))
        return ft__fail(&m->context, FT_SHAPE, "the data has %d classes, but the network's output"
                        " has %d: call ft_replace_head", has, ft__output_classes(m));
    return FT_OK;
}
