#pragma once
#include "interface/types.h"
#include "interface/training_types.h"
#include "platform/context.h"
#include "basics/numbers.h"
#include "nodes/nodes.h"
#include "operators/table.h"
#include "operators/losses.h"
#include "operators/rows.h"
#include "graph/plan.h"
#include "graph/forward_backward.h"
#include "data/sources.h"
#include "training/metrics.h"
#include "training/prefix_cache.h"

/* =============================================================================================
   [SECTION] training/sample_weights: Weights of samples and classes
   The training loss as a weighted mean. What is measured has no weights.
   ============================================================================================= */
/* How many classes the loss's logits have, if it takes labels of classes; else 0. */
static int ft__loss_classes(const ft_model *m)
{
    const ft__node *loss = &m->nodes[m->loss.id - 1];
    return ft__is(loss, FT__CLASSES) && ft__scored_rows(m, 1) ? ft__classes_of(m, loss) : 0;
}

/* Fills class weights that give each class of the training samples the same share. */
static void ft__balance(ft__fit *f)
{
    int classes = f->o.class_weight_count, with = 0, i;
    float least = FLT_MAX, most = 0;
    for (i = 0; i < f->train_count; ++i) {
        int label = ft_data_label(f->data, f->train[i]);
        if (label >= 0 && label < classes) f->class_weights[label] += 1; /* exact to 2^24 */
    }
    for (i = 0; i < classes; ++i) with += f->class_weights[i] > 0;
    for (i = 0; i < classes; ++i) {
        float *w = &f->class_weights[i];
        if (*w > 0) *w = (float)((double)f->train_count / ((double)with * (double)*w));
        if (*w > 0 && *w < least) least = *w;
        if (*w > most) most = *w;
    }
    ft__log(&f->m->context, "balanced: the weights of the %d classes are %.3g to %.3g", with,
            (double)least, (double)most);
}

static void ft__fit_class_weights(ft__fit *f)
{
    ft__context *c = &f->m->context;
    ft_fit_options *o = &f->o;
    int classes = ft__loss_classes(f->m), i;
    if (!classes || (o->balanced && (!f->data->source.label || !f->data->source.classes))) {
        ft__fail(c, FT_INVALID, "ft_fit: %s: the loss or the data has no labels of classes",
                 o->balanced ? "balanced" : "class_weights");
        return;
    }
    if (o->class_weights && o->class_weight_count != classes) {
        ft__fail(c, FT_SHAPE, "ft_fit: class_weight_count is %d, but the loss has %d classes",
                 o->class_weight_count, classes);
        return;
    }
    o->class_weight_count = classes;
    f->class_weights = (float *)ft__allocate(c, (size_t)classes, sizeof *f->class_weights);
    if (!f->class_weights) return;
    if (o->balanced) ft__balance(f);
    else memcpy(f->class_weights, o->class_weights, (size_t)classes * sizeof *f->class_weights);
    for (i = 0; i < classes; ++i)
        if (!ft__not_negative(f->class_weights[i]))
            ft__fail(c, FT_INVALID, "ft_fit: class_weights[%d] is %g; it must be finite and not"
                     " negative", i, (double)f->class_weights[i]);
}

/* Prepares the weights of the options and of the data, if there are any. */
static ft_status ft__fit_weights(ft__fit *f)
{
    ft_model *m = f->m;
    ft__context *c = &m->context;
    const ft_source *source = &f->data->source;
    int i;
    if (!source->weight && !f->o.class_weights && !f->o.balanced) return c->status;
    if (ft__check_weighs(m, "ft_fit") != FT_OK) return c->status;
    if (f->o.class_weights || f->o.balanced) ft__fit_class_weights(f);
    for (i = 0; source->weight && i < source->count && ft__ok(c); ++i) {
        float weight = source->weight(source->user, i);
        if (!ft__not_negative(weight))
            ft__fail(c, FT_INVALID, "ft_fit: sample %d has the weight %g; it must be finite and not"
                     " negative", i, (double)weight);
    }
    if (source->weight)
        f->weights = (float *)ft__allocate(c, (size_t)f->o.batch_size, sizeof *f->weights);
    return c->status;
}

/* What the loss of the batch in the plan was divided by: its samples, or the labels that count, or
   the sum of their weights. A loss of other operators is taken as the mean over the samples. */
static double ft__batch_weight(const ft__fit *f, int batch)
{
    const ft_model *m = f->m;
    const ft__node *loss = &m->nodes[m->loss.id - 1], *labels;
    size_t count, i;
    double sum = 0;
    bool classes = ft__is(loss, FT__CLASSES) && loss->input_count > 1;
    labels = classes ? &m->nodes[loss->inputs[1] - 1] : NULL;
    count = labels ? ft__node_count_at(labels, ft__extent_of(m, batch)) : (size_t)batch;
    for (i = 0; i < count; ++i) {
        const float *weights = m->sample_weights;
        double weight = weights ? (double)weights[i / (count / (size_t)batch)] : 1;
        int label = labels ? ((const int32_t *)(const void *)labels->value)[i] : 0;
        if (labels && ft__is_ignored(label)) continue;
        if (labels && f->class_weights && ft__is_class(label, (size_t)f->o.class_weight_count))
            weight *= (double)f->class_weights[label];
        sum += weight;
    }
    return sum;
}
