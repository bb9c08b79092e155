#pragma once
#include "interface/types.h"
#include "interface/operators.h"
#include "interface/training_types.h"
#include "platform/context.h"
#include "basics/strings.h"
#include "basics/json.h"
#include "nodes/nodes.h"
#include "nodes/names.h"
#include "nodes/storage.h"
#include "operators/table.h"
#include "operators/adding.h"
#include "operators/linear.h"
#include "operators/rows.h"
#include "optimizers/options.h"
#include "optimizers/schedules.h"
#include "devices/device.h"
#include "graph/plan.h"
#include "graph/settings.h"
#include "graph/groups.h"
#include "graph/adapters.h"
#include "graph/losses.h"
#include "formats/tensor_files.h"
#include "networks/text.h"
#include "networks/regression.h"
#include "data/augmentation.h"
#include "data/sources.h"
#include "training/metrics.h"
#include "training/prefix_cache.h"
#include "training/run_checkpoints.h"
#include "training/fit.h"
#include "training/find_rate.h"
#include "training/class_means.h"

/* =============================================================================================
   [SECTION] training/recipe: The default recipe
   A new head on frozen features is fast, hard to overfit, and often enough. A held-back fifth of
   the training data shows whether it is ("trial"); of too few samples that would be chance. Then
   the head is trained on all data ("head") and, if the trial left too many errors, all layers after
   it ("all"). The head comes first, so that its random start does not spoil the features (Kumar et
   al. 2022). None of this sees the data that the result is scored on.
   Of a transformer all layers are trained as in BEiT and MAE (Bao et al. 2022, He et al. 2022): a
   rate that rises over the first tenth of the steps, then falls to 0, and that is smaller by a
   factor of 0.75 with each layer below the head; no decay of biases, norms, tokens and positions.
   ============================================================================================= */
enum { FT__TRIAL, FT__HEAD, FT__BLOCK, FT__ALL, FT__STAGES };
/* With fewer samples held back one more wrong answer changes the choice, whatever the network is
   worth: the head alone is trained, as with few samples it is least likely to overfit. */
enum { FT__LEAST_HELD_BACK = 10 };
static const char *const ft__stage_names[] = {"trial", "head", "block", "all"};

enum { FT__HEAD_WEIGHTS = 8 };

typedef struct ft__recipe {
    ft_model *m;
    ft_data *data;
    ft_finetune_options o;
    ft_finetune_result result;
    ft_task task;
    int start;              /* the stage to begin with */
    bool keeps_head;        /* the model had a head for these classes before */
    float *head[FT__HEAD_WEIGHTS]; /* its weight and bias before the trial; of two heads, both */
    ft_fit_options all;     /* of the last stage */
    double enough;          /* share right in the trial: then the head is enough */
    bool deeper;            /* after the trial: train the layers below the head too */
    ft__lent features;      /* of the frozen network: for the trial, then for the head */
    ft__lent *lent;         /* to the last stage, by ft_sweep; or NULL */
} ft__recipe;

static bool ft__same_classes(const ft_model *m, const ft_data *data)
{
    int count = ft_data_classes(data), i;
    char number[12];
    if (m->class_count != count || ft_class_count(m) != count) return false;
    for (i = 0; i < count; ++i)
        if (strcmp(m->class_names[i], ft__name_or_number(ft_data_class_name(data, i), i, number)))
            return false;
    return true;
}

/* A model that gives a number keeps its head and unit; another gets a head in the data's unit. */
static ft_status ft__recipe_number(ft__recipe *r)
{
    ft_model *m = r->m;
    int count = ft_data_count(r->data), i;
    double mean = 0, spread = 0;
    r->keeps_head = ft__predicts_number(m);
    if (r->keeps_head) return m->context.status;
    for (i = 0; i < count; ++i)
        mean += (double)r->data->features.number(r->data->source.user, i) / count;
    for (i = 0; i < count; ++i) {
        double off = (double)r->data->features.number(r->data->source.user, i) - mean;
        spread += off * off / count;
    }
    return ft__to_regression(m, mean, spread > 0 ? sqrt(spread) : 1);
}

/* A model whose output is the vector of a text gets a head on it. */
static void ft__add_text_head(ft_model *m, int classes)
{
    ft_linear_options none;
    memset(&none, 0, sizeof none);
    if (m->output.id && m->output.id == m->text_vector.id)
        ft__text_end(m, ft_linear(m, "classifier", m->output, classes, none), false);
}

/* A model that was trained for these classes before keeps its head. */
static ft_status ft__recipe_head(ft__recipe *r)
{
    ft_model *m = r->m;
    int count = ft_data_classes(r->data);
    if (r->task == FT_TASK_REGRESSION) return ft__recipe_number(r);
    if (ft__predicts_number(m)) {
        if (ft__from_regression(m, count) != FT_OK) return m->context.status;
        return ft__take_class_names(m, r->data);
    }
    r->keeps_head = ft__same_classes(m, r->data);
    if (r->keeps_head || ft__forget_one_hot(m) != FT_OK) return m->context.status;
    if (r->task == FT_TASK_TOKENS
        && (ft__classifies_samples(m) || !ft__find_node(m, "lengths").id)) {
        if (ft__to_token_classifier(m, count) != FT_OK) return m->context.status;
    } else if (ft__replace_head(m, count) != FT_OK) return m->context.status;
    return ft__take_class_names(m, r->data);
}

/* Freezes all but the head. */
static void ft__freeze_to_head(ft_model *m)
{
    ft__set_frozen(m, "*", true);
    ft__freeze_heads(m, false);
}

/* Copies the head's weights and bias, or restores them, which undoes the trial: training of a model
   that had a head for these classes continues from that head. */
static void ft__keep_head(ft__recipe *r, bool back)
{
    ft_model *m = r->m;
    const ft__node *head;
    int i, k, which = 0;
    ft__host_takes_weights(&m->context, back);
    for (k = 0; (head = ft__numbered_head(m, k)) != NULL; ++k)
        for (i = 1; i < head->input_count && which < FT__HEAD_WEIGHTS; ++i, ++which) {
            ft__node *node = &m->nodes[head->inputs[i] - 1];
            float **kept = &r->head[which];
            size_t count = ft__node_count_at(node, ft__one);
            if (ft__own_float32(m, node, true) != FT_OK) return; /* it will be trained */
            if (!back) *kept = (float *)ft__allocate(&m->context, count, sizeof(float));
            if (!*kept) continue;
            memcpy(back ? node->value : *kept, back ? *kept : node->value, count * sizeof(float));
            if (back) ft__release(&m->context, *kept);
            if (back) *kept = NULL;
        }
    if (back) m->weights_version += 1;
}

/* ---- The learning rates of a transformer's layers ---- */

static bool ft__is_transformer(const ft_model *m)
{
    int i;
    for (i = 0; i < m->node_count; ++i)
        if (ft__is(&m->nodes[i], FT__ATTENDS)) return true;
    return false;
}

/* Has the user set rates for layers? */
static bool ft__has_own_rates(const ft_model *m)
{
    int i;
    for (i = 0; i < m->node_count; ++i)
        if (ft__is_parameter(&m->nodes[i]) && m->nodes[i].learning_rate_factor != 1) return true;
    return false;
}

/* Biases and norms, and a transformer's tokens and positions, [1, rows, features], have no weight
   decay but their own. */
static void ft__decay_matrices(ft_model *m)
{
    int i;
    for (i = 0; i < m->node_count; ++i) {
        ft__node *node = &m->nodes[i];
        if (ft__is_parameter(node) && node->weight_decay < 0
            && (node->shape.rank < 2 || (node->shape.rank == 3 && node->shape.size[0] == 1)))
            node->weight_decay = 0;
    }
}

/* Pictures of most things may be shifted a little. Only the user knows whether they may be mirrored
   (a photo may, a letter or a traffic sign may not). */
static void ft__recipe_augmentation(ft_data *data, ft_augmentation wanted)
{
    const ft_augmentation *own = ft__data_augmentation(data);
    const char *fault;
    if (!own || ft__augments(own)) return;
    if (wanted.shift == 0 && !wanted.policy) wanted.shift = 0.1f; /* a policy shifts, too */
    if (wanted.shift < 0) wanted.shift = 0;
    fault = ft__augmentation_fault(&wanted);
    if (fault) ft__fail(&data->model->context, FT_INVALID, "augmentation: %s", fault);
    else data->features.augment(data->source.user, &wanted);
}

/* Gradients of a regression have the square of the output's unit. */
static void ft__recipe_unit(const ft__recipe *r, ft_fit_options *o)
{
    double unit = ft__output_unit(r->m);
    if (r->task != FT_TASK_REGRESSION) return;
    o->optimizer.clip_norm *= (float)(unit * unit);
    o->optimizer.eps = (float)(1e-8 * unit * unit);
}

/* A tenth of the run, over which a rate rises: in epochs, as ft_fit_options.warmup_epochs. */
static float ft__warm_up(const ft__recipe *r, const ft_fit_options *o)
{
    int samples = ft_data_count(r->data), streams = r->data->source.streams;
    int size = streams > 0 ? streams : o->batch_size, steps = (samples + size - 1) / size;
    float epochs = (float)o->epochs, most = (float)o->most_steps / (float)(steps > 0 ? steps : 1);
    return 0.1f * (o->most_steps > 0 && most < epochs ? most : epochs);
}

/* What the stages of all recipes have in common: the caller's options, above all. Where samples are
   held back, each stage after the trial ends with its best epoch. */
static ft_fit_options ft__recipe_common(const ft__recipe *r, int stage)
{
    ft_fit_options o;
    memset(&o, 0, sizeof o);
    o.stage = ft__stage_names[stage];
    o.checkpoint = r->o.checkpoint;
    o.checkpoint_steps = r->o.checkpoint_steps;
    o.progress = r->o.progress;
    o.progress_user = r->o.progress_user;
    o.optimizer.weight_decay = 0.01f;
    o.balanced = r->o.balanced;
    o.balanced_sampling = r->o.balanced_sampling;
    o.most_steps = r->o.most_steps;
    o.accumulate = r->o.accumulate;
    if (stage == FT__TRIAL) return o;
    o.hold_back = r->o.hold_back;
    o.best = r->o.hold_back > 0;
    o.patience = r->o.patience;
    o.metric = r->o.metric;
    o.ema = r->o.ema;
    o.swa = r->o.swa;
    return o;
}

static ft_fit_options ft__recipe_options(const ft__recipe *r, int stage)
{
    ft_fit_options o = ft__recipe_common(r, stage);
    int samples = ft_data_count(r->data);
    if (stage < FT__BLOCK) {
        o.epochs = 30;
        o.batch_size = 32;
        o.optimizer.learning_rate = 2e-3f;
        if (stage == FT__TRIAL) o.hold_back = 0.2f;
        /* A head that fits few texts too closely leaves the layers below little to learn: of sst2's
           few_2 then 71.8 % are right instead of 73.6. */
        if (r->data->source.length) {
            o.epochs = samples < 1000 ? 20 : 10;
            o.schedule = FT_LINEAR;
            o.optimizer.learning_rate = samples < 1000 ? 2e-3f : 1e-3f;
        }
    } else {
        /* Small sets need more epochs for the same number of steps. */
        o.epochs = samples < 300 ? 60 : samples < 1000 ? 40 : samples < 5000 ? 30 : 15;
        o.batch_size = samples < 300 ? 16 : 32;
        o.optimizer.learning_rate = 2e-3f;
        o.schedule = FT_ONE_CYCLE;
        o.augment = ft__has_views(r->data);
        o.mixup = r->o.mixup;
        o.cutmix = r->o.cutmix;
    }
    o.average_start = stage == FT__ALL && r->o.average_start;
    if (stage >= FT__BLOCK && ft__is_transformer(r->m)) {
        o.epochs = samples < 1000 ? 6 : 4;
        o.batch_size = samples < 1000 ? 16 : 32;
        o.optimizer.learning_rate = ft__has_adapters(r->m) ? 1e-3f : 1e-4f;
        o.optimizer.weight_decay = 0.05f;
        o.schedule = FT_COSINE;
    }
    if (r->o.epochs > 0) o.epochs = r->o.epochs;
    if (r->o.batch_size > 0) o.batch_size = r->o.batch_size;
    if (r->o.learning_rate > 0 && (stage != FT__HEAD || !r->deeper))
        o.optimizer.learning_rate = r->o.learning_rate;
    ft__recipe_unit(r, &o);
    if (o.schedule == FT_COSINE) o.warmup_epochs = ft__warm_up(r, &o);
    return o;
}

/* ---- What the caller chose instead of the recipe ---- */

static const char *ft__optimizer_name(int i)
{
    return i < FT__OPTIMIZERS ? ft__optimizers[i].name : NULL;
}

static const char *ft__schedule_name(int i)
{
    return i < FT__SCHEDULES ? ft__schedule_names[i] : NULL;
}

/* The place of a name among those of a list, which ends with NULL; -1: it is not there. */
static int ft__place_of(const char *name, const char *(*list)(int))
{
    int i;
    for (i = 0; list(i); ++i)
        if (strcmp(list(i), name) == 0) return i;
    return -1;
}

static ft_status ft__recipe_check_name(ft__context *c, const char *option, const char *name,
                                       const char *(*list)(int))
{
    char text[200];
    size_t length = 0;
    int i;
    if (!name || ft__place_of(name, list) >= 0) return c->status;
    for (i = 0; list(i); ++i)
        length += (size_t)snprintf(text + length, sizeof text - length, "%s%s", i ? ", " : "",
                                   list(i));
    return ft__fail(c, FT_INVALID, "ft_finetune: %s %.60s: it must be one of %s", option, name,
                    text);
}

/* Another optimiser, whose rate is to its default as the recipe's is to AdamW's. */
static void ft__recipe_optimizer(const ft__recipe *r, ft_optimizer_options *p)
{
    const ft__optimizer_row *row;
    bool own = r->o.learning_rate > 0 && p->learning_rate == r->o.learning_rate;
    p->optimizer = (ft_optimizer)ft__place_of(r->o.optimizer, ft__optimizer_name);
    row = ft__optimizer_row_of(p);
    if (!own) p->learning_rate *= row->learning_rate / ft__optimizers[FT_ADAMW].learning_rate;
    if (!(row->has & FT__EPS)) p->eps = 0;
    if (p->optimizer == FT_SGD) p->momentum = 0.9f;
}

/* The rate with which the checkpoint's run of this stage began; 0: there is no such run. */
static float ft__recipe_found_before(const ft__recipe *r, const ft_fit_options *o)
{
    ft_file *file;
    ft__json *json;
    double rate = 0;
    const char *stage;
    if (!o->checkpoint || !ft__checkpoint_open(r->m, o->checkpoint, &file, &json)) return 0;
    stage = ft__json_string(json, ft__json_member(json, 0, "stage"));
    if (stage && strcmp(stage, o->stage) == 0)
        ft__json_double(json, ft__json_member(json, ft__json_member(json, 0, "options"),
                                              "learning_rate"), &rate);
    ft__json_free(&r->m->context, json);
    ft_file_close(file);
    return (float)rate;
}

/* Runs a stage. */
static void ft__recipe_fit(ft__recipe *r, ft_fit_options o, bool resume, ft__lent *lent)
{
    ft_find_options find;
    float found = 0;
    memset(&find, 0, sizeof find);
    if (r->o.optimizer) ft__recipe_optimizer(r, &o.optimizer);
    if (r->o.schedule)
        o.schedule = (ft_schedule)ft__place_of(r->o.schedule, ft__schedule_name);
    /* The recipe's rates were measured so. */
    o.fixed_momentum = o.schedule == FT_ONE_CYCLE;
    find.curve = r->o.curve;
    find.curve_user = r->o.curve_user;
    if (r->o.find_rate && resume) found = ft__recipe_found_before(r, &o);
    if (r->o.find_rate && found == 0) {
        found = ft__find_rate(r->m, r->data, o, find, o.stage, lent);
        if (found > 0) ft__log(&r->m->context, "%s: learning rate %.3g", o.stage, (double)found);
    }
    if (found > 0) o.optimizer.learning_rate = found;
    if (found < 0) { /* stopped: the run begins with the search again */
        memset(&r->result.fit, 0, sizeof r->result.fit);
        r->result.fit.stopped = true;
    } else if (ft__ok(&r->m->context))
        r->result.fit = ft__fit_run(r->m, r->data, o, r->result.choice, resume, lent);
}

/* Trains all that is not frozen, as the last stage does. */
static void ft__recipe_last(ft__recipe *r, ft_fit_options o, bool resume)
{
    ft_model *m = r->m;
    bool looks = ft__is_transformer(m) && !r->data->source.length; /* at pictures */
    bool decays = looks && !ft__has_adapters(m) && !ft__has_own_rates(m);
    int i;
    if (looks) ft__decay_matrices(m);
    if (decays) ft_decay_layers(m, 0.75f);
    ft__recipe_fit(r, o, resume, r->lent);
    for (i = 0; decays && i < m->node_count; ++i) m->nodes[i].learning_rate_factor = 1;
}

/* The result of a fit without steps, before it is known. */
static void ft__recipe_no_steps(ft__recipe *r)
{
    ft_fit_result *fit = &r->result.fit;
    memset(fit, 0, sizeof *fit);
    fit->best_epoch = -1;
    fit->held_back_loss = fit->held_back_accuracy = -1;
    fit->end_share = 1;
    fit->before = ft__digest(r->m);
}

static void ft__recipe_score_held(ft__recipe *r, const int *held, int count)
{
    ft_fit_result *fit = &r->result.fit;
    ft__score score;
    if (!ft__ok(&r->m->context) || count == 0) return;
    score = ft__score_samples(r->m, r->data, held, count, 0);
    fit->held_back_correct = (int)score.correct;
    fit->held_back_total = (int)score.total;
    fit->held_back_accuracy = ft__accuracy(r->m, &score);
    if (score.total > 0) fit->held_back_loss = score.loss / (double)score.total;
}

/* Lists the share of the samples that is held back, and the others. Returns the number of these. */
static int ft__recipe_parts(const ft__recipe *r, float share, int *train, int *held,
                            int *held_count)
{
    int count = ft_data_count(r->data), trained = 0, i, k;
    *held_count = held && share > 0 ? ft_data_held_back(r->data, share, held, count) : 0;
    for (i = k = 0; train && i < count; ++i) {
        if (k < *held_count && held[k] == i) k += 1;
        else train[trained++] = i;
    }
    return trained;
}

/* Sets the head to class means, in the trial or in the head's stage. */
static void ft__recipe_means(ft__recipe *r, int stage)
{
    ft_model *m = r->m;
    ft_fit_result *fit = &r->result.fit;
    int count = ft_data_count(r->data), held_count, trained;
    int *held = (int *)ft__allocate(&m->context, (size_t)count, sizeof *held);
    int *train = (int *)ft__allocate(&m->context, (size_t)count, sizeof *train);
    ft__score score;
    ft__recipe_no_steps(r);
    trained = ft__recipe_parts(r, ft__recipe_options(r, stage).hold_back, train, held, &held_count);
    memset(&score, 0, sizeof score);
    if (ft__ok(&m->context)) score = ft__head_of_means(m, r->data, train, trained);
    fit->after = ft__digest(m);
    fit->accuracy = ft__accuracy(m, &score);
    fit->loss = score.total > 0 ? score.loss / (double)score.total : 0;
    if (ft__ok(&m->context))
        ft__log(&m->context, "%s: class means; left out one at a time, %d of %d %s are right",
                ft__stage_names[stage], (int)score.correct, (int)score.total,
                ft__data_samples(r->data));
    ft__recipe_score_held(r, held, held_count);
    ft__release(&m->context, train);
    ft__release(&m->context, held);
}

/* Only the stage that a checkpoint names continues from it; later stages start new. */
static bool ft__recipe_stage(ft__recipe *r, int stage)
{
    ft_model *m = r->m;
    ft_fit_options o;
    if (stage == FT__ALL && ft__has_adapters(m)) ft__freeze_to_adapters(m);
    else if (stage == FT__ALL) ft__set_frozen(m, "*", false);
    else if (stage == FT__BLOCK) ft__freeze_to_last_block(m);
    else {
        ft__freeze_to_head(m);
        ft__store_frozen(m, r->o.frozen_type);
    }
    o = stage == FT__ALL ? r->all : ft__recipe_options(r, stage);
    if (stage >= FT__BLOCK) ft__recipe_last(r, o, stage == r->start);
    else if (r->o.class_means) ft__recipe_means(r, stage);
    else ft__recipe_fit(r, o, stage == r->start, &r->features);
    return ft__ok(&m->context) && !r->result.fit.stopped;
}

/* Adds to the choice how long the last stage trains, and with which rate. */
static void ft__recipe_say(ft__recipe *r, const ft_fit_options *o)
{
    char *end = strchr(r->result.choice, 0);
    size_t left = sizeof r->result.choice - (size_t)(end - r->result.choice);
    ft_optimizer_options optimizer = o->optimizer;
    char rate[40] = "found by a range test";
    if (r->o.class_means && !r->deeper) {
        snprintf(end, left, "; its weights are the classes' mean features");
        return;
    }
    if (r->o.optimizer) ft__recipe_optimizer(r, &optimizer);
    if (!r->o.find_rate) snprintf(rate, sizeof rate, "%g", (double)optimizer.learning_rate);
    snprintf(end, left, "; %d epoch%s, learning rate %s", o->epochs, o->epochs == 1 ? "" : "s",
             rate);
}

/* The same of the last stage that was chosen. */
static void ft__recipe_say_last(ft__recipe *r)
{
    ft_fit_options last = r->deeper ? r->all : ft__recipe_options(r, FT__HEAD);
    ft__recipe_say(r, &last);
}

/* What a choice begins with: what is trained. */
static const char *ft__recipe_depth(const ft__recipe *r)
{
    return !r->deeper ? "head only" : ft__has_adapters(r->m) ? "adapters and head" : "all layers";
}

/* What a choice ends with if pictures are mirrored, too. */
static const char ft__mirrored_too[] = ", mirrored too";

/* Lets pictures be mirrored in the stages to come. */
static void ft__recipe_mirror(ft__recipe *r)
{
    ft_augmentation a = *ft__data_augmentation(r->data);
    a.flip = true;
    r->data->features.augment(r->data->source.user, &a);
}

/* Are held-back pictures that are mirrored right as often as they are without? The head of the
   trial has not seen mirrored ones. Then a mirrored picture is one of its class. */
static bool ft__recipe_may_mirror(ft__recipe *r)
{
    ft_model *m = r->m;
    int count = ft_data_count(r->data);
    int *held = (int *)ft__allocate(&m->context, (size_t)count, sizeof *held);
    ft__score plain, mirrored;
    memset(&plain, 0, sizeof plain);
    memset(&mirrored, 0, sizeof mirrored);
    if (held) {
        count = ft_data_held_back(r->data, ft__recipe_options(r, FT__TRIAL).hold_back, held, count);
        plain = ft__score_samples(m, r->data, held, count, 0);
        mirrored = ft__score_samples(m, r->data, held, count, FT__MIRRORED);
    }
    ft__release(&m->context, held);
    if (!ft__ok(&m->context)) return false;
    ft__log(&m->context, "mirrored, %lld of %lld held-back %s are right, as they are %lld: they are"
            " %s", (long long)mirrored.correct, (long long)mirrored.total,
            ft__data_samples(r->data), (long long)plain.correct,
            mirrored.correct >= plain.correct ? "mirrored in training" : "not mirrored");
    return mirrored.correct >= plain.correct;
}

static void ft__recipe_choose(ft__recipe *r)
{
    const ft_fit_result *trial = &r->result.fit;
    double right = trial->held_back_accuracy;
    r->deeper = right < r->enough;
    snprintf(r->result.choice, sizeof r->result.choice,
             "%s: %s head on frozen features got %.1f %% of %d held-back %s right%s",
             ft__recipe_depth(r),
             r->keeps_head ? "the model's own" : "a new",
             100 * right, trial->held_back_total, ft__data_samples(r->data),
             !r->deeper ? "" : ft__has_adapters(r->m) ? ", so the adapters are trained too"
             : ", so the layers below are trained too");
    if (r->deeper && r->o.find_flip && ft__recipe_may_mirror(r)) {
        size_t length = strlen(r->result.choice);
        snprintf(r->result.choice + length, sizeof r->result.choice - length, "%s",
                 ft__mirrored_too);
        ft__recipe_mirror(r);
    }
    ft__recipe_say_last(r);
}

/* If options.freeze is given, there is nothing to choose. */
static void ft__recipe_frozen(ft__recipe *r, ft_fit_options o)
{
    char text[400];
    int count;
    if (ft__unmatched(r->m, r->o.freeze, ft__can_freeze, text, sizeof text))
        ft__fail(&r->m->context, FT_INVALID, "freeze: %s", text);
    ft__set_frozen(r->m, "*", false);
    count = ft__set_frozen(r->m, r->o.freeze, true);
    snprintf(r->result.choice, sizeof r->result.choice, "as requested: %.100s frozen (%d tensors)",
             *r->o.freeze ? r->o.freeze : "nothing", count);
    ft__recipe_say(r, &o);
    ft__store_frozen(r->m, r->o.frozen_type);
    if (ft__ok(&r->m->context)) ft__recipe_last(r, o, true);
}

/* Finds the stage to start with in the checkpoint, whose note is the choice. */
static int ft__recipe_resume(ft__recipe *r)
{
    char stage[32];
    int i;
    if (!r->o.checkpoint || !ft__checkpoint_peek(r->m, r->o.checkpoint, stage, sizeof stage,
                                                 r->result.choice, sizeof r->result.choice))
        return FT__TRIAL;
    for (i = FT__TRIAL; i < FT__STAGES; ++i)
        if (strcmp(stage, ft__stage_names[i]) == 0) return i;
    return FT__TRIAL;
}

/* Does the caller say how the head is to be trained? */
static bool ft__recipe_is_told(const ft_finetune_options *o)
{
    return o->epochs > 0 || o->batch_size > 0 || o->learning_rate > 0 || o->most_steps > 0
        || o->hold_back > 0 || o->balanced || o->balanced_sampling || o->loss || o->optimizer
        || o->schedule || o->accumulate > 0 || o->ema > 0 || o->swa || o->find_rate || o->teacher;
}

/* Are there too few samples for a trial? Then the choice is made without one: the head alone, and
   the adapters if there are any, as someone asked for them. A new head is not trained on so few
   pictures, but set to class means, unless the caller says how to train it: from
   resnet18_imagenet, of 50 pictures of ants_bees/train that were held back, with three draws of 5
   and three of 20 pictures a class, 139 and 143 of 150 were right, and 132 and 137 with a trained
   head, in none of the six draws more (bench/recipes.tsv). */
static bool ft__recipe_untried(ft__recipe *r)
{
    int held = ft_data_held_back(r->data, ft__recipe_options(r, FT__TRIAL).hold_back, NULL, 0);
    if (held >= FT__LEAST_HELD_BACK || !ft__ok(&r->m->context)) return false;
    if (ft__data_augmentation(r->data) && !r->keeps_head && ft__can_be_means(r->m)
        && r->task == FT_TASK_CLASSIFICATION && !ft__recipe_is_told(&r->o)) r->o.class_means = true;
    r->deeper = ft__has_adapters(r->m);
    snprintf(r->result.choice, sizeof r->result.choice, "%s: of %d %s only %d can be held back, too"
             " few (%d are needed) to check whether training more than %s head helps",
             ft__recipe_depth(r), ft_data_count(r->data), ft__data_samples(r->data), held,
             (int)FT__LEAST_HELD_BACK, r->keeps_head ? "the" : "a new");
    ft__recipe_say_last(r);
    ft__log(&r->m->context, "%s", r->result.choice);
    return true;
}

/* With options.head_only there is nothing to choose either. */
static void ft__recipe_head_only(ft__recipe *r)
{
    snprintf(r->result.choice, sizeof r->result.choice, "as requested: the head only");
    ft__recipe_say_last(r);
    r->start = FT__HEAD;
    ft__recipe_stage(r, FT__HEAD);
    ft__cache_release(&r->m->context, &r->features.cache);
}

/* Runs the stages in order, from the one that a checkpoint names. */
static void ft__recipe_stages(ft__recipe *r)
{
    r->start = ft__recipe_resume(r);
    if (r->start == FT__TRIAL && ft__recipe_untried(r)) r->start = FT__HEAD;
    else if (r->start == FT__TRIAL) {
        bool tried;
        ft__keep_head(r, false);
        tried = ft__recipe_stage(r, FT__TRIAL);
        if (tried) ft__recipe_choose(r);
        ft__keep_head(r, tried || !ft__ok(&r->m->context));
        if (!tried) return;
        ft__log(&r->m->context, "%s", r->result.choice);
    } else {
        r->deeper = strncmp(r->result.choice, "head only", 9) != 0;
        if (strstr(r->result.choice, ft__mirrored_too)) ft__recipe_mirror(r);
    }
    if (r->start <= FT__HEAD && !ft__recipe_stage(r, FT__HEAD)) return;
    ft__cache_release(&r->m->context, &r->features.cache);
    if (r->deeper && r->o.last_block && r->start <= FT__BLOCK && !ft__recipe_stage(r, FT__BLOCK))
        return;
    if (r->deeper) ft__recipe_stage(r, FT__ALL);
}
