#pragma once
#include "interface/types.h"
#include "interface/training_types.h"
#include "platform/families.h"
#include "platform/context.h"
#include "basics/numbers.h"
#include "basics/strings.h"
#include "kernels/elementary.h"
#include "nodes/nodes.h"
#include "operators/table.h"
#include "operators/rows.h"
#include "devices/device.h"
#include "graph/plan.h"
#include "graph/forward_backward.h"
#include "graph/settings.h"
#include "data/augmentation.h"
#include "data/sources.h"
#include "data/loader.h"
#include "training/metrics.h"
#include "training/measures.h"
#include "training/outcomes.h"
#include "training/entities.h"

/* =============================================================================================
   [SECTION] training/evaluate: Evaluate and predict
   ============================================================================================= */

/* What logits are multiplied by, before they become probabilities: 1 by the temperature. */
static float ft__softening(const ft_model *m)
{
    return FT__HAS_DATA && m->temperature > 0 ? 1 / m->temperature : 1;
}

/* A pass over all samples of the data, batches of similar length together. */
typedef struct ft__pass {
    ft_model *m;
    ft__plan *plan, *in_use;    /* in_use: that of a run around this one */
    ft__loader *loader;         /* NULL: there was an error */
    int *order;                 /* [samples], and twice as many behind for ft__bucket */
    int steps;                  /* of the plan, that ft__pass_next runs: all, or fewer */
    int length;
} ft__pass;

/* `size`: samples of a batch, 32 if it is 0, at most all; `more`: bytes that the caller needs
   besides; `for_output`: nothing is fed but what the output reads; `training`: in the form of
   training. */
static ft__pass ft__pass_begin(ft_model *m, ft_data *data, int size, size_t more, bool for_output,
                               bool training)
{
    int count = ft_data_count(data), i;
    ft__pass p;
    if (size == 0) size = 32;
    if (size > count) size = count;
    p.m = m;
    p.length = ft_length(m);
    ft__set_longest(m, data);
    m->reserve = ft__loader_bytes(m, data, size) + 3 * (size_t)count * sizeof *p.order
        + FT__ALIGNMENT + more;
    p.plan = ft__begin(m, size, training);
    p.steps = p.plan ? p.plan->step_count : 0;
    m->reserve = 0;
    p.in_use = m->in_use;
    m->in_use = p.plan;
    ft__data_prepare(data);
    p.order = (int *)ft__allocate(&m->context, 3 * (size_t)count, sizeof *p.order);
    p.loader = p.plan && p.order ? ft__loader_create(m, data, size, for_output ? p.plan : NULL)
                                 : NULL;
    for (i = 0; p.loader && i < count; ++i) p.order[i] = i;
    if (p.loader) ft__bucket(&data->source, p.order, count, size, 0, p.order + count);
    return p;
}

/* Runs the next batch of those that the loader was started with; NULL: there is none, or an error.
   A batch none of whose samples could be read is left out. */
static const ft__batch *ft__pass_next(ft__pass *p, int flags)
{
    ft_model *m = p->m;
    const ft__batch *batch;
    while (ft__ok(&m->context) && (batch = ft__loader_next(p->loader)) != NULL) {
        if (batch->count == 0) continue;
        ft__feed_batch(m, p->loader, batch);
        m->last_run = p->plan;
        ft__run_forward(m, p->plan, 0, p->steps, batch->count, flags);
        return batch;
    }
    return NULL;
}

static void ft__pass_end(ft__pass *p)
{
    p->m->fed_from = NULL;
    p->m->in_use = p->in_use;
    p->m->length = p->length; /* until here it was the last batch's */
    ft__loader_destroy(p->loader);
    ft__release(&p->m->context, p->order);
}

/* e^(rate (logit - largest)): a class's share, before it is divided by those of all. */
static double ft__share_of(float logit, float largest, float rate)
{
    return (double)ft__exp((logit - largest) * rate);
}

/* 1 / (1 + e^(-rate logit)): a class's share beside that of 0. */
static float ft__own_probability(float logit, float rate)
{
    float larger = logit > 0 ? logit : 0;
    double share = ft__share_of(logit, larger, rate);
    return (float)(share / (share + ft__share_of(0, larger, rate)));
}

/* Calls options.sample with the prediction for each sample of the batch that was just run. */
static void ft__tell_samples(ft_model *m, const ft__plan *plan, const ft__batch *batch,
                             const ft_evaluate_options *o)
{
    const ft__node *output = ft__get_node(m, m->output), *labels = ft__labels_of(m);
    const float *logits = m->output.id ? plan->values[m->output.id - 1] : NULL;
    bool apart = ft__classes_apart(m);
    int classes, i, k;
    if (!o->sample || !logits || output->shape.rank != 2 || !labels) return;
    classes = output->shape.size[1];
    for (i = 0; i < batch->count; ++i, logits += classes) {
        ft_sample_result result;
        double sum = 0;
        result.index = batch->index[i];
        result.label = ((const int32_t *)(const void *)labels->value)[i];
        result.guess = ft__argmax(logits, classes);
        for (k = 0; k < classes; ++k)
            sum += ft__share_of(logits[k], logits[result.guess], ft__softening(m));
        result.probability = apart ? ft__own_probability(logits[result.guess], ft__softening(m))
                                   : (float)(1 / sum);
        o->sample(o->sample_user, &result);
    }
}

/* ---- A picture and its mirror image ---- */

/* The step of the plan that computes the output; -1: a later one reads more than the output, inputs
   and parameters, and could not be run again on another output. */
static int ft__step_of_output(const ft_model *m, const ft__plan *plan)
{
    int step, i, j;
    for (step = plan->step_count - 1; step >= 0; --step)
        if (plan->steps[step].output == m->output.id) break;
    for (i = step + 1; step >= 0 && i < plan->step_count; ++i) {
        const ft__node *node = ft__node_of_step(m, plan, &plan->steps[i]);
        for (j = 0; j < node->input_count; ++j)
            if (node->inputs[j] != m->output.id && !ft__is_leaf(&m->nodes[node->inputs[j] - 1]))
                return -1;
    }
    return step;
}

/* The outputs for all samples, mirrored: [samples][classes], to be released; NULL with an error. */
static float *ft__mirrored_outputs(ft__pass *pass)
{
    ft_model *m = pass->m;
    ft__context *c = &m->context;
    int count = ft_data_count(pass->loader->data), i;
    size_t classes = (size_t)ft__output_classes(m);
    float *outputs = (float *)ft__allocate(c, (size_t)count * classes, sizeof *outputs);
    int *views = (int *)ft__allocate(c, (size_t)count, sizeof *views);
    const ft__batch *batch;
    for (i = 0; views && i < count; ++i) views[i] = FT__MIRRORED;
    if (ft__ok(c)) ft__loader_start(pass->loader, pass->order, views, count);
    while ((batch = ft__pass_next(pass, FT__ONLY_OUTPUT)) != NULL) {
        const float *value = pass->plan->values[m->output.id - 1];
        ft__to_host(c, value, (size_t)batch->count * classes * sizeof *value);
        for (i = 0; i < batch->count; ++i)
            memcpy(outputs + (size_t)batch->index[i] * classes, value + (size_t)i * classes,
                   classes * sizeof *value);
    }
    ft__release(c, views);
    if (ft__ok(c)) return outputs;
    ft__release(c, outputs);
    return NULL;
}

/* Makes the output of the batch that was just run its mean with that of the mirrored pictures. */
static void ft__average_mirrored(ft__pass *pass, const ft__batch *batch, const float *mirrored)
{
    ft_model *m = pass->m;
    float *value = pass->plan->values[m->output.id - 1];
    size_t classes = (size_t)ft__output_classes(m), k;
    size_t bytes = (size_t)batch->count * classes * sizeof *value;
    int i;
    ft__to_host(&m->context, value, bytes);
    for (i = 0; i < batch->count; ++i)
        for (k = 0; k < classes; ++k) {
            float *at = value + (size_t)i * classes + k;
            *at = 0.5f * (*at + mirrored[(size_t)batch->index[i] * classes + k]);
        }
    ft__host_fed(&m->context, value, bytes);
}

/* Runs all samples; returns how many could be read. */
static int ft__evaluate_samples(ft__pass *pass, const ft_evaluate_options *o, ft__score *score,
                                ft__regression *regression, ft__entities *entities,
                                ft__outcomes *outcomes)
{
    ft_model *m = pass->m;
    ft__plan *plan = pass->plan;
    const ft_data *data = pass->loader->data;
    const ft__batch *batch;
    int read = 0, i;
    float *mirrored = NULL;
    if (o->mirrored && ft__step_of_output(m, plan) < 0)
        ft__fail(&m->context, FT_INVALID, "ft_evaluate: mirrored: the loss reads more than the"
                 " output and labels");
    else if (o->mirrored) mirrored = ft__mirrored_outputs(pass);
    if (!ft__ok(&m->context)) return 0;
    ft_reset_state(m, "*");
    ft__loader_start(pass->loader, pass->order, NULL, ft_data_count(data));
    while ((batch = ft__pass_next(pass, 0)) != NULL) {
        read += batch->count;
        if (mirrored) {
            ft__average_mirrored(pass, batch, mirrored);
            ft__run_forward(m, plan, ft__step_of_output(m, plan) + 1, plan->step_count,
                            batch->count, 0); /* what reads it, again */
        }
        ft__score_batch(m, plan, batch->count, ft__read_loss(m, plan), o->confusion, score);
        ft__regression_add(m, plan, batch->count, regression);
        if (outcomes->values) ft__outcomes_add(m, plan, batch->count, outcomes);
        for (i = 0; entities->tags && i < batch->count; ++i)
            ft__entities_sample(m, plan, data, i, batch->index[i], entities);
        ft__tell_samples(m, plan, batch, o);
    }
    ft__release(&m->context, mirrored);
    return read;
}

static ft_status ft__evaluate_check(ft_model *m, const ft_data *data,
                                    const ft_evaluate_options *o)
{
    ft__context *c = &m->context;
    size_t classes = (size_t)ft_class_count(m);
    const ft__field_use uses[] = {
        {"confusion", o->confusion != NULL, classes > 0, "a model that predicts classes"},
        {"confusion_count", o->confusion_count > 0, o->confusion != NULL, "confusion"},
        {"sample", o->sample != NULL, ft__classifies_samples(m), "a model that predicts a class of"
         " each sample"},
        {"mirrored", o->mirrored, ft__classifies_samples(m) && ft__data_augmentation(data),
         "pictures with a class each"},
        {"metrics", o->metrics != NULL, ft__has_outcomes(m), "a model that predicts a class, or"
         " numbers, of each sample"},
        {"batch_size", o->batch_size > 0, ft__takes_batch_size(data, o->batch_size),
         ft__samples_apart}};
    if (ft__check_uses(c, "ft_evaluate", uses, sizeof uses / sizeof uses[0]) != FT_OK
        || ft__data_check_network(m, data, "ft_evaluate") != FT_OK) return c->status;
    if (o->batch_size < 0)
        return ft__fail(c, FT_INVALID, "ft_evaluate: batch_size is %d; it must not be negative",
                        o->batch_size);
    if (o->confusion && o->confusion_count != classes * classes)
        return ft__fail(c, FT_SHAPE, "ft_evaluate: confusion_count is %zu, but confusion needs %zu"
                        " numbers: the model's %zu classes, squared", o->confusion_count,
                        classes * classes, classes);
    return c->status;
}

/* Says that a classifier learnt nothing yet: it finds no entity, or gives all samples one class. */
static void ft__tell_constant(ft_model *m, const ft__score *score, const ft_evaluation *e)
{
    enum { FEW = 10 };
    static const char advice[] = "train for more epochs, or with another learning rate";
    int classes = ft_class_count(m);
    char number[12];
    if (!ft__ok(&m->context)) return;
    if (e->entities) {
        if (e->entities_predicted == 0 && e->entities_total > 0)
            ft__log(&m->context, "no entity was found, of %d in the data: %s", e->entities_total,
                    advice);
    } else if (score->guess > 0 && score->label < 0 && e->total >= FEW && score->guess <= classes)
        ft__log(&m->context, "all %d predictions are %.100s, although the data has other classes"
                " too: %s", e->total, ft__name_or_number(ft_class_name(m, score->guess - 1),
                                                         score->guess - 1, number), advice);
}

static ft_evaluation ft__evaluate(ft_model *m, ft_data *data, ft_evaluate_options options)
{
    ft__context *c = m ? &m->context : NULL;
    int size = options.batch_size, count, read = 0;
    ft_evaluation e;
    ft__score score = {0, 0, 0, false, 0, 0, 0};
    ft__regression regression;
    ft__entities entities;
    ft__outcomes outcomes;
    ft__pass pass;
    memset(&e, 0, sizeof e);
    memset(&entities, 0, sizeof entities);
    memset(&outcomes, 0, sizeof outcomes);
    if (options.metrics) memset(options.metrics, 0, sizeof *options.metrics);
    if (!ft__usable(m) || !ft__given(c, data, "ft_evaluate: the data")
        || ft__ready(m, true) != FT_OK || ft__check_classes(m, data) != FT_OK
        || ft__evaluate_check(m, data, &options) != FT_OK)
        return e;
    count = ft_data_count(data);
    if (data->source.streams > 0) size = data->source.streams;
    if (options.confusion)
        memset(options.confusion, 0, options.confusion_count * sizeof *options.confusion);
    pass = ft__pass_begin(m, data, size, ft__regression_bytes(m, count)
                          + (options.metrics ? ft__outcomes_bytes(m, count) : 0), false, false);
    ft__regression_start(m, &regression, count);
    if (options.metrics) ft__outcomes_start(m, &outcomes, count);
    if (ft__scored_rows(m, 1)) entities.tags = ft__model_tags(m);
    if (pass.loader)
        read = ft__evaluate_samples(&pass, &options, &score, &regression, &entities, &outcomes);
    ft__pass_end(&pass);
    e.correct = (int)score.correct;
    e.total = (int)score.total;
    e.skipped = ft__data_skipped(data) + count - read;
    e.accuracy = e.low = e.high = ft__accuracy(m, &score);
    e.loss = score.total ? score.loss / (double)score.total : 0;
    if (ft__scored_rows(m, 1)) ft__wilson(e.correct, e.total, &e.low, &e.high);
    ft__regression_end(m, &regression, &e);
    ft__entities_end(&entities, &e);
    ft__tell_constant(m, &score, &e);
    if (options.metrics && ft__ok(c)) {
        ft__outcomes_soften(m, &outcomes);
        ft__measure(c, &outcomes, options.metrics);
    }
    ft__outcomes_free(c, &outcomes);
    ft__release(c, entities.tags);
    return e;
}

/* Computes probabilities from one row of logits, by softmax or, for classes that are learnt each on
   its own, by sigmoid, and returns the best `count`, best first; of equal ones the lower class
   first. If the output is probabilities already (a softmax), it uses those. */
static int ft__best_classes(ft_model *m, const float *logits, ft_prediction *best, int count)
{
    int classes = ft_class_count(m), i, j, found = 0;
    bool probabilities = ft__is(&m->nodes[m->output.id - 1], FT__PROBABILITIES);
    bool apart = ft__classes_apart(m);
    float largest = classes > 0 ? logits[ft__argmax(logits, classes)] : 0, rate = ft__softening(m);
    double sum = 0;
    for (i = 0; i < classes; ++i) sum += ft__share_of(logits[i], largest, rate);
    if (classes > 0 && !(sum <= (double)classes)) {
        ft__fail(&m->context, FT_NOT_FINITE, "%s: no class has a finite output",
                 m->nodes[m->output.id - 1].name);
        return 0;
    }
    for (i = 0; i < classes; ++i) {
        ft_prediction p;
        p.class_index = i;
        p.probability = probabilities ? logits[i]
            : apart ? ft__own_probability(logits[i], rate)
            : (float)(ft__share_of(logits[i], largest, rate) / sum);
        for (j = found; j > 0 && best[j - 1].probability < p.probability; --j)
            if (j < count) best[j] = best[j - 1];
        if (j < count) best[j] = p;
        if (found < count) found += 1;
    }
    return found;
}

/* Checks that there is room for predictions and a network that can make them. */
static bool ft__can_predict(ft_model *m, const ft_prediction *best, int count, const char *call)
{
    ft__context *c;
    if (!ft__usable(m)) return false;
    c = &m->context;
    if (!best || count < 1)
        ft__fail(c, FT_INVALID, "%s: best is %s and count is %d: there must be room for at least 1"
                 " prediction", call, best ? "given" : "NULL", count);
    else if (!m->output.id)
        ft__fail(c, FT_INVALID, "%s: the model has no output: load or build a network first", call);
    else if (ft__predicts_number(m))
        ft__fail(c, FT_INVALID, "%s: the model gives a number, not classes: use ft_run_text or"
                 " ft_run", call);
    else if (!ft__classifies_samples(m))
        ft__fail(c, FT_INVALID, "%s: the output \"%.100s\" is not [N, classes]: use ft_run or"
                 " ft_run_text to get its numbers", call, m->nodes[m->output.id - 1].name);
    return ft__ok(c);
}

/* Runs on one picture, and releases it; its logits stay in the plan. */
static int ft__predict_picture(ft_model *m, ft__plan *plan, float *picture, ft_prediction *best,
                               int count, const char *call)
{
    if (ft__ok(&m->context))
        ft__fill_input(m, &m->nodes[ft__main_input(m, plan, call).id - 1], picture, 1);
    ft__release(&m->context, picture);
    if (!ft__usable(m)) return 0;
    m->last_run = plan;
    ft__run_forward(m, plan, 0, plan->step_count, 1, FT__ONLY_OUTPUT);
    if (ft__check_output(m, plan, 1, call) != FT_OK) return 0;
    return ft__best_classes(m, plan->values[m->output.id - 1], best, count);
}

/* Returns the plan, and memory for one picture in the input's shape, [C, H, W]; NULL with an
   error. */
static ft__plan *ft__begin_picture(ft_model *m, float **picture, const ft_prediction *best,
                                   int count, const char *call)
{
    ft__context *c;
    ft__plan *plan;
    ft_node node;
    const ft_preprocessing *p;
    if (!ft__can_predict(m, best, count, call)) return NULL;
    plan = ft__begin(m, 1, false);
    if (!plan) return NULL;
    c = &m->context;
    p = &m->preprocessing;
    node = ft__main_input(m, plan, call);
    if (!node.id) return NULL;
    if (p->width < 1 || m->nodes[node.id - 1].type != FT_F32
        || ft__node_count_at(&m->nodes[node.id - 1], ft__one)
           != (size_t)p->width * (size_t)p->height * (size_t)p->channels) {
        ft__fail(c, FT_INVALID, "%s: the model's input is not a picture, or not of the size given"
                 " to ft_set_preprocessing", call);
        return NULL;
    }
    *picture = (float *)ft__allocate(c, ft__node_count_at(&m->nodes[node.id - 1], ft__one),
                                     sizeof **picture);
    return *picture ? plan : NULL;
}

/* Runs all samples for the output alone; returns how many could be read. */
static int ft__predict_samples(ft__pass *pass, ft_prediction *best, int count, bool mirrored)
{
    ft_model *m = pass->m;
    const ft__batch *batch;
    int read = 0, i, classes = ft_class_count(m);
    float *others = mirrored ? ft__mirrored_outputs(pass) : NULL;
    if (!ft__ok(&m->context)) return 0;
    ft_reset_state(m, "*");
    ft__loader_start(pass->loader, pass->order, NULL, ft_data_count(pass->loader->data));
    while ((batch = ft__pass_next(pass, FT__ONLY_OUTPUT)) != NULL) {
        if (others) ft__average_mirrored(pass, batch, others);
        if (ft__check_output(m, pass->plan, batch->count, "ft_predict_data") != FT_OK) break;
        for (i = 0; i < batch->count; ++i)
            ft__best_classes(m, pass->plan->values[m->output.id - 1]
                                    + (size_t)i * (size_t)classes,
                             best + (size_t)batch->index[i] * (size_t)count, count);
        read += batch->count;
    }
    ft__release(&m->context, others);
    return ft__ok(&m->context) ? read : 0;
}

static bool ft__can_predict_data(ft_model *m, const ft_data *data, const ft_prediction *best,
                                 int count, const ft_predict_options *o)
{
    const char *call = "ft_predict_data";
    const ft__field_use use = {"mirrored", o->mirrored, data && ft__data_augmentation(data),
                               "pictures"};
    if (!ft__can_predict(m, best, count, call) || !ft__given(&m->context, data, "ft_predict_data:"
                                                             " the data")) return false;
    if (data->model != m)
        ft__fail(&m->context, FT_INVALID, "%s: the data belongs to another model: create it with"
                 " this model", call);
    if (data->source.streams > 0)
        ft__fail(&m->context, FT_INVALID, "%s: text streams have no samples to classify", call);
    if (o->batch_size < 0)
        ft__fail(&m->context, FT_INVALID, "%s: batch_size is %d; it must not be negative", call,
                 o->batch_size);
    return ft__check_uses(&m->context, call, &use, 1) == FT_OK
        && ft__check_words(m, data) == FT_OK;
}

static int ft__predict_data(ft_model *m, ft_data *data, ft_prediction *best, int count,
                            ft_predict_options options)
{
    int samples = ft_data_count(data), read = 0;
    ft__pass pass;
    size_t k;
    if (!ft__can_predict_data(m, data, best, count, &options)) return 0;
    for (k = 0; k < (size_t)samples * (size_t)count; ++k) {
        best[k].class_index = -1;
        best[k].probability = 0;
    }
    pass = ft__pass_begin(m, data, options.batch_size, 0, true, false);
    if (pass.loader) read = ft__predict_samples(&pass, best, count, options.mirrored);
    ft__pass_end(&pass);
    return read;
}
