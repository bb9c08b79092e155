#pragma once
#include "interface/types.h"
#include "platform/context.h"
#include "nodes/nodes.h"
#include "nodes/storage.h"
#include "operators/rows.h"
#include "devices/device.h"
#include "graph/plan.h"
#include "graph/forward_backward.h"
#include "graph/settings.h"
#include "data/sources.h"
#include "data/loader.h"
#include "training/metrics.h"
#include "training/measures.h"
#include "training/outcomes.h"
#include "training/evaluate.h"
#include "training/calibration.h"

/* =============================================================================================
   [SECTION] training/class_means: A head of class means, and chosen samples
   Nearest centred class mean, accurate with few pictures (Wang et al. 2019, "SimpleShot"): a
   sample's features minus their mean over the classes, divided by their length, are compared with
   the mean of each class's by the cosine. That is a linear layer: the length of the sample's vector
   does not change which cosine is the largest, so with c the mean over the classes and m_k class
   k's mean, of length 1, logit k = scale * (x - c) . m_k.
   ============================================================================================= */
typedef struct ft__class_means {
    int classes, features, samples; /* samples: that were read */
    float *x;               /* [samples][features]: as they are, then centred and of length 1 */
    int *label;             /* [samples] */
    double *centre;         /* [features] */
    double *sum;            /* [classes][features]: of the vectors in x */
    int *count;             /* [classes] */
    double length;          /* of the centred vectors, in the mean */
} ft__class_means;

/* ---- Chosen samples ---- */

/* Measures these samples in one view, as ft_evaluate does. */
static ft__score ft__score_samples(ft_model *m, ft_data *data, const int *samples, int count,
                                   int view)
{
    ft__score score = {0, 0, 0, false, 0, 0, 0};
    const ft__batch *batch;
    int *views = (int *)ft__allocate(&m->context, (size_t)count + 1, sizeof *views), i;
    ft__pass pass = ft__pass_begin(m, data, 0, 0, false, false);
    for (i = 0; views && i < count; ++i) views[i] = view;
    if (views && pass.loader) {
        ft_reset_state(m, "*");
        ft__loader_start(pass.loader, samples, views, count);
        while ((batch = ft__pass_next(&pass, 0)) != NULL)
            ft__score_batch(m, pass.plan, batch->count, ft__read_loss(m, pass.plan), NULL, &score);
    }
    ft__pass_end(&pass);
    ft__release(&m->context, views);
    return score;
}

/* ---- Features ---- */

static void ft__class_means_free(ft__context *c, ft__class_means *of)
{
    ft__release(c, of->count);
    ft__release(c, of->sum);
    ft__release(c, of->centre);
    ft__release(c, of->label);
    ft__release(c, of->x);
}

/* Can the head be one of class means? One layer with a bias. */
static bool ft__can_be_means(ft_model *m)
{
    const ft__node *head = ft__head(m);
    return head && head->input_count == 3 && !ft__numbered_head(m, 1) && ft__output_classes(m) > 1;
}

/* Makes room for the features of `samples` samples, as the head reads them. */
static ft_status ft__class_means_start(ft_model *m, ft__class_means *of, int samples)
{
    ft__context *c = &m->context;
    const ft__node *head = ft__head(m);
    size_t n = (size_t)samples, weights;
    memset(of, 0, sizeof *of);
    of->classes = ft__output_classes(m);
    if (!ft__can_be_means(m))
        return ft__fail(c, FT_INVALID, "class_means: the network's head must be one layer with a"
                        " bias");
    weights = ft__node_count_at(&m->nodes[head->inputs[1] - 1], ft__one);
    of->features = (int)(weights / (size_t)of->classes);
    if (ft__node_count_at(&m->nodes[head->inputs[0] - 1], ft__extent_of(m, 1))
        != (size_t)of->features)
        return ft__fail(c, FT_INVALID, "class_means: %s reads more than one vector of %d numbers"
                        " for each sample", head->name, of->features);
    of->x = (float *)ft__allocate(c, n * (size_t)of->features, sizeof *of->x);
    of->label = (int *)ft__allocate(c, n, sizeof *of->label);
    of->centre = (double *)ft__allocate(c, (size_t)of->features, sizeof *of->centre);
    of->sum = (double *)ft__allocate(c, weights, sizeof *of->sum);
    of->count = (int *)ft__allocate(c, (size_t)of->classes, sizeof *of->count);
    return c->status;
}

/* The step of the plan that computes the head. */
static int ft__step_of_head(ft_model *m, const ft__plan *plan)
{
    int id = (int)(ft__head(m) - m->nodes) + 1, i;
    for (i = 0; i < plan->step_count; ++i)
        if (plan->steps[i].id == id && !plan->steps[i].copies) return i;
    return plan->step_count - 1;
}

/* Runs these samples up to the head, and copies what it reads. */
static void ft__collect_features(ft_model *m, ft_data *data, const int *samples, int count,
                                 ft__class_means *of)
{
    ft__pass pass = ft__pass_begin(m, data, 0, 0, true, false);
    const ft__batch *batch;
    int id, i;
    if (pass.loader) {
        pass.steps = ft__step_of_head(m, pass.plan);
        ft__loader_start(pass.loader, samples, NULL, count);
    }
    while ((batch = ft__pass_next(&pass, 0)) != NULL) {
        size_t row = (size_t)of->features;
        const ft__node *node;
        const float *value;
        id = ft__input_of(m, pass.plan, &pass.plan->steps[pass.steps], 0);
        node = ft__node_of(m, pass.plan, id);
        value = ft__is_leaf(node) && id <= pass.plan->node_count ? node->value
                                                                : pass.plan->values[id - 1];
        ft__to_host(&m->context, value, (size_t)batch->count * row * sizeof *value);
        for (i = 0; i < batch->count; ++i) {
            int label = ft_data_label(data, batch->index[i]);
            if (label < 0 || label >= of->classes) continue;
            memcpy(of->x + (size_t)of->samples * row, value + (size_t)i * row,
                   row * sizeof *value);
            of->label[of->samples++] = label;
        }
    }
    ft__pass_end(&pass);
}

/* ---- Means ---- */

/* Adds the vectors in x to the sums of their classes. */
static void ft__sum_classes(ft__class_means *of)
{
    size_t features = (size_t)of->features, f;
    int i;
    memset(of->sum, 0, (size_t)of->classes * features * sizeof *of->sum);
    memset(of->count, 0, (size_t)of->classes * sizeof *of->count);
    for (i = 0; i < of->samples; ++i) {
        double *sum = of->sum + (size_t)of->label[i] * features;
        for (f = 0; f < features; ++f) sum[f] += (double)of->x[(size_t)i * features + f];
        of->count[of->label[i]] += 1;
    }
}

/* Centres the vectors at the mean of the classes' means, and divides them by their lengths. */
static void ft__centre_features(ft__class_means *of)
{
    size_t features = (size_t)of->features, f;
    int k, i, seen = 0;
    ft__sum_classes(of);
    for (k = 0; k < of->classes; ++k) seen += of->count[k] > 0;
    for (k = 0; k < of->classes; ++k)
        for (f = 0; of->count[k] > 0 && f < features; ++f)
            of->centre[f] += of->sum[(size_t)k * features + f] / of->count[k] / seen;
    for (i = 0; i < of->samples; ++i) {
        float *x = of->x + (size_t)i * features;
        double squares = 0;
        for (f = 0; f < features; ++f) {
            x[f] = (float)((double)x[f] - of->centre[f]);
            squares += (double)x[f] * (double)x[f];
        }
        for (f = 0; squares > 0 && f < features; ++f) x[f] = (float)((double)x[f] / sqrt(squares));
        of->length += sqrt(squares) / of->samples;
    }
    ft__sum_classes(of);
}

/* The cosine of a vector of length 1 with a sum of such, without `left_out` if that is not NULL. */
static double ft__cosine_with(const float *x, const double *sum, const float *left_out,
                              size_t features)
{
    double product = 0, squares = 0;
    size_t f;
    for (f = 0; f < features; ++f) {
        double s = sum[f] - (left_out ? (double)left_out[f] : 0);
        product += s * (double)x[f];
        squares += s * s;
    }
    return squares > 0 ? product / sqrt(squares) : 0;
}

/* Compares each sample with the means of its class without it and of the others; returns how many
   have the right one. Classes of one sample have no such mean: their samples are left out. */
static int ft__leave_one_out(const ft__class_means *of, ft__outcomes *to)
{
    size_t features = (size_t)of->features;
    int i, k, right = 0;
    for (i = 0; i < of->samples; ++i) {
        const float *x = of->x + (size_t)i * features;
        double *row = to->values + (size_t)to->samples * (size_t)of->classes;
        int label = of->label[i], best = 0;
        if (of->count[label] < 2) continue;
        for (k = 0; k < of->classes; ++k) {
            row[k] = of->count[k] == 0 ? -1
                : ft__cosine_with(x, of->sum + (size_t)k * features, k == label ? x : NULL,
                                  features);
            if (row[k] > row[best]) best = k;
        }
        right += best == label;
        to->labels[to->samples++] = label;
    }
    return right;
}

/* Sets weight and bias of the head: scale / (mean length) * (x - centre) . (a class's mean, of
   length 1). A class without samples gets the smallest cosine. */
static void ft__set_means(ft_model *m, const ft__class_means *of, double scale)
{
    const ft__node *head = ft__head(m);
    ft__node *weight = &m->nodes[head->inputs[1] - 1], *bias = &m->nodes[head->inputs[2] - 1];
    size_t features = (size_t)of->features, f;
    double rate = of->length > 0 ? scale / of->length : scale;
    int k;
    ft__host_takes_weights(&m->context, true);
    if (ft__own_float32(m, weight, true) != FT_OK || ft__own_float32(m, bias, true) != FT_OK)
        return;
    for (k = 0; k < of->classes; ++k) {
        const double *sum = of->sum + (size_t)k * features;
        double squares = 0, middle = 0;
        for (f = 0; f < features; ++f) squares += sum[f] * sum[f];
        for (f = 0; f < features; ++f) {
            double w = squares > 0 ? rate * sum[f] / sqrt(squares) : 0;
            weight->value[(size_t)k * features + f] = (float)w;
            middle += w * of->centre[f];
        }
        bias->value[k] = (float)(of->count[k] > 0 ? -middle : -scale);
    }
    m->weights_version += 1;
}

/* The sum of -log(the label's probability) at this scale; row [classes] is room. */
static double ft__loss_of_cosines(const ft__outcomes *of, double scale, double *row)
{
    double sum = 0;
    int i;
    for (i = 0; i < of->samples; ++i) {
        ft__softmax_row(of->values + (size_t)i * (size_t)of->columns, of->columns, scale, row);
        sum -= log(row[of->labels[i]]);
    }
    return sum;
}

/* Sets the head to the class means of these samples. The scale is the one whose probabilities fit
   best when each sample is left out of its class's mean; 10, if there is none. Returns the score of
   the samples so left out. */
static ft__score ft__head_of_means(ft_model *m, ft_data *data, const int *samples, int count)
{
    ft__score score = {0, 0, 0, false, 0, 0, 0};
    ft__context *c = &m->context;
    ft__class_means of;
    ft__outcomes cosines;
    double *row, scale = 0;
    memset(&cosines, 0, sizeof cosines);
    if (ft__class_means_start(m, &of, count) == FT_OK
        && ft__outcomes_start(m, &cosines, count) == FT_OK) {
        row = (double *)ft__allocate(c, (size_t)of.classes, sizeof *row);
        ft__collect_features(m, data, samples, count, &of);
        if (ft__ok(c)) {
            ft__centre_features(&of);
            score.correct = ft__leave_one_out(&of, &cosines);
            score.total = cosines.samples;
            if (score.total > 0) scale = ft__best_softening(&cosines, row);
            if (!(scale > 0)) scale = 10;
            score.loss = ft__loss_of_cosines(&cosines, scale, row);
            ft__set_means(m, &of, scale);
        }
        ft__release(c, row);
    }
    ft__outcomes_free(c, &cosines);
    ft__class_means_free(c, &of);
    return score;
}
