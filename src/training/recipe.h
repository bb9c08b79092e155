#pragma once
#include "interface/types.h"
#include "platform/context.h"
#include "basics/strings.h"
#include "nodes/nodes.h"
#include "nodes/names.h"
#include "nodes/storage.h"
#include "operators/adding.h"
#include "operators/rows.h"
#include "devices/device.h"
#include "graph/plan.h"
#include "graph/settings.h"
#include "graph/adapters.h"
#include "networks/text.h"
#include "data/augmentation.h"
#include "data/sources.h"
#include "training/prefix_cache.h"
#include "training/fit.h"

/* =============================================================================================
   [SECTION] training/recipe: The default recipe
   A new head on frozen features is fast, hard to overfit, and often enough. A held-back fifth of
   the training data shows whether it is ("trial"). Then the head is trained on all data ("head")
   and, if the trial left too many errors, all layers after it ("all"). The head comes first, so
   that its random start does not spoil the features (Kumar et al. 2022). None of this sees the data
   that the result is scored on.
   ============================================================================================= */
enum { FT__TRIAL, FT__HEAD, FT__ALL, FT__STAGES };
static const char *const ft__stage_names[] = {"trial", "head", "all"};

typedef struct ft__recipe {
    ft_model *m;
    ft_data *data;
    ft_finetune_options o;
    ft_finetune_result result;
    ft_task task;
    int start;              /* the stage to begin with */
    bool keeps_head;        /* the model had a head for these classes before */
    float *head[2];         /* its weight and bias before the trial */
    ft_fit_options all;     /* of the last stage */
    double enough;          /* share right in the trial: then the head is enough */
    bool deeper;            /* after the trial: train the layers below the head too */
    ft__cache features;     /* of the frozen network: for the trial, then for the head */
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

/* A model that was trained for these classes before keeps its head. */
static ft_status ft__recipe_head(ft__recipe *r)
{
    ft_model *m = r->m;
    int count = ft_data_classes(r->data);
    r->keeps_head = ft__same_classes(m, r->data);
    if (r->keeps_head) return m->context.status;
    if (r->task == FT_TASK_TOKENS
        && (ft__classifies_samples(m) || !ft__find_node(m, "lengths").id)) {
        if (ft__to_token_classifier(m, count) != FT_OK) return m->context.status;
    } else if (ft__replace_head(m, count) != FT_OK) return m->context.status;
    return ft__take_class_names(m, r->data);
}

/* Freezes all but the head. */
static void ft__freeze_to_head(ft_model *m)
{
    ft__node *head = ft__head(m);
    int i;
    ft__set_frozen(m, "*", true);
    for (i = 1; head && i < head->input_count; ++i)
        m->nodes[head->inputs[i] - 1].frozen = false;
}

/* Copies the head's weights and bias, or restores them, which undoes the trial: training of a model
   that had a head for these classes continues from that head. */
static void ft__keep_head(ft__recipe *r, bool back)
{
    ft_model *m = r->m;
    ft__node *head = ft__head(m);
    int i;
    ft__host_takes_weights(&m->context, back);
    for (i = 1; head && i < head->input_count && i < 3; ++i) {
        ft__node *node = &m->nodes[head->inputs[i] - 1];
        size_t count = ft__node_count_at(node, ft__one);
        if (ft__own_float32(m, node, true) != FT_OK) return; /* it will be trained */
        if (!back) r->head[i - 1] = (float *)ft__allocate(&m->context, count, sizeof(float));
        if (!r->head[i - 1]) continue;
        memcpy(back ? node->value : r->head[i - 1], back ? r->head[i - 1] : node->value,
               count * sizeof(float));
        if (back) ft__release(&m->context, r->head[i - 1]);
        if (back) r->head[i - 1] = NULL;
    }
    if (back) m->weights_version += 1;
}

/* Pictures of most things may be shifted a little. Only the user knows whether they may be mirrored
   (a photo may, a letter or a traffic sign may not). */
static void ft__recipe_augmentation(ft_data *data, ft_augmentation wanted)
{
    ft_augmentation *to = ft__data_augmentation(data);
    const char *fault;
    if (!to || ft__augments(to)) return;
    if (wanted.shift == 0) wanted.shift = 0.1f;
    if (wanted.shift < 0) wanted.shift = 0;
    fault = ft__augmentation_fault(&wanted);
    if (fault) ft__fail(&data->model->context, FT_INVALID, "augmentation: %s", fault);
    else *to = wanted;
}

static ft_fit_options ft__recipe_options(const ft__recipe *r, int stage)
{
    ft_fit_options o;
    int samples = ft_data_count(r->data);
    memset(&o, 0, sizeof o);
    o.stage = ft__stage_names[stage];
    o.checkpoint = r->o.checkpoint;
    o.checkpoint_steps = r->o.checkpoint_steps;
    o.progress = r->o.progress;
    o.progress_user = r->o.progress_user;
    o.optimizer.weight_decay = 0.01f;
    o.balanced = r->o.balanced;
    if (stage != FT__ALL) {
        o.epochs = 30;
        o.batch_size = 32;
        o.optimizer.learning_rate = 2e-3f;
        o.hold_back = stage == FT__TRIAL ? 0.2f : 0.0f;
    } else {
        /* Small sets need more epochs for the same number of steps. */
        o.epochs = samples < 300 ? 60 : samples < 1000 ? 40 : samples < 5000 ? 30 : 15;
        o.batch_size = samples < 300 ? 16 : 32;
        o.optimizer.learning_rate = 2e-3f;
        o.schedule = FT_ONE_CYCLE;
        o.augment = ft__has_views(r->data);
    }
    if (r->o.epochs > 0) o.epochs = r->o.epochs;
    if (r->o.batch_size > 0) o.batch_size = r->o.batch_size;
    if (r->o.learning_rate > 0 && (stage != FT__HEAD || !r->deeper))
        o.optimizer.learning_rate = r->o.learning_rate;
    return o;
}

/* Only the stage that a checkpoint names continues from it; later stages start new. */
static bool ft__recipe_stage(ft__recipe *r, int stage)
{
    ft_model *m = r->m;
    if (stage == FT__ALL && ft__has_adapters(m)) ft__freeze_to_adapters(m);
    else if (stage == FT__ALL) ft__set_frozen(m, "*", false);
    else {
        ft__freeze_to_head(m);
        ft__store_frozen(m, r->o.frozen_type);
    }
    r->result.fit = ft__fit_run(m, r->data,
                                stage == FT__ALL ? r->all : ft__recipe_options(r, stage),
                                r->result.choice, stage == r->start,
                                stage == FT__ALL ? NULL : &r->features);
    return ft__ok(&m->context) && !r->result.fit.stopped;
}

static void ft__recipe_choose(ft__recipe *r)
{
    const ft_fit_result *trial = &r->result.fit;
    double right = trial->held_back_accuracy;
    r->deeper = trial->held_back_total > 0 && right < r->enough;
    if (trial->held_back_total == 0)
        snprintf(r->result.choice, sizeof r->result.choice, "head only: there are too few samples"
                 " to hold any back and check whether training more than %s head helps",
                 r->keeps_head ? "the" : "a new");
    else snprintf(r->result.choice, sizeof r->result.choice,
             "%s: %s head on frozen features got %.1f %% of %d held-back %s right%s",
             !r->deeper ? "head only" : ft__has_adapters(r->m) ? "adapters and head" : "all layers",
             r->keeps_head ? "the model's own" : "a new",
             100 * right, trial->held_back_total, ft__data_samples(r->data),
             !r->deeper ? "" : ft__has_adapters(r->m) ? ", so the adapters are trained too"
             : ", so the layers below are trained too");
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
    ft__store_frozen(r->m, r->o.frozen_type);
    if (!ft__ok(&r->m->context)) return;
    r->result.fit = ft__fit_run(r->m, r->data, o, r->result.choice, true, NULL);
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

/* Runs the stages in order, from the one that a checkpoint names. */
static void ft__recipe_stages(ft__recipe *r)
{
    r->start = ft__recipe_resume(r);
    if (r->start == FT__TRIAL) {
        bool tried;
        ft__keep_head(r, false);
        tried = ft__recipe_stage(r, FT__TRIAL);
        if (tried) ft__recipe_choose(r);
        ft__keep_head(r, tried || !ft__ok(&r->m->context));
        if (!tried) return;
        ft__log(&r->m->context, "%s", r->result.choice);
    } else r->deeper = strncmp(r->result.choice, "head only", 9) != 0;
    if (r->start <= FT__HEAD && !ft__recipe_stage(r, FT__HEAD)) return;
    ft__cache_release(&r->m->context, &r->features);
    if (r->deeper) ft__recipe_stage(r, FT__ALL);
}
