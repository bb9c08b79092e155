#pragma once
#include "interface/types.h"
#include "platform/system.h"
#include "platform/context.h"
#include "nodes/nodes.h"

/* =============================================================================================
   [SECTION] nodes/sharing: Weights of several models
   ft_share makes a model whose weights are another's: that of the first model, which lends them.
   While there are shares, nobody may write them, so that threads read them without locks. Weights
   that were folded or packed for evaluation are lent too.
   ============================================================================================= */
typedef struct ft__prepared { /* of one step: see ft__step */
    int id, norm;
    float *weight, *bias, *prepared;
} ft__prepared;

struct ft__sharing {
    int shares;             /* models on these weights, besides the first */
    bool ended;             /* ft_destroy was called for the first: the last share ends it */
    void *weights;          /* the memory of `steps` */
    ft__prepared *steps;
    int step_count;
#ifndef FINETUNE_NO_THREADS
    pthread_mutex_t mutex;  /* protects `shares` and `ended` */
#endif
};

static void ft__sharing_lock(ft__sharing *s, bool lock)
{
#ifndef FINETUNE_NO_THREADS
    if (lock) pthread_mutex_lock(&s->mutex);
    else pthread_mutex_unlock(&s->mutex);
#else
    (void)s;
    (void)lock;
#endif
}

/* Counts `more` new shares; returns how many there are then. */
static int ft__count_shares(ft__sharing *s, int more)
{
    int count;
    if (!s) return 0;
    ft__sharing_lock(s, true);
    count = s->shares += more;
    ft__sharing_lock(s, false);
    return count;
}

/* Whether other models use the weights of this one, or it uses another's. */
static bool ft__shares_weights(const ft_model *m)
{
    return m->owner || ft__count_shares(m->sharing, 0) > 0;
}

/* Whether a change of this weight would reach another model. */
static bool ft__is_shared(const ft_model *m, const ft__node *node)
{
    return node->borrowed || (node->lent && ft__count_shares(m->sharing, 0) > 0);
}

/* An error if the weight must not change. */
static ft_status ft__refuse_shared(ft_model *m, const ft__node *node, const char *call)
{
    if (!ft__is_shared(m, node)) return m->context.status;
    return ft__fail(&m->context, FT_INVALID, "%s: %s cannot change: it is shared with %s", call,
                    node->name, m->owner ? "the model that ft_share was called for"
                                         : "models made by ft_share: destroy them first");
}

/* The same for all nodes. */
static ft_status ft__refuse_any_shared(ft_model *m, const char *call)
{
    int i, count = ft__shares_weights(m) ? m->node_count : 0;
    for (i = 0; ft__ok(&m->context) && i < count; ++i) ft__refuse_shared(m, &m->nodes[i], call);
    return m->context.status;
}

/* What is lent for this step; NULL: nothing. */
static const ft__prepared *ft__lent_for(const ft_model *m, int id, int norm)
{
    const ft__sharing *s = m->sharing;
    int i;
    for (i = 0; s && i < s->step_count; ++i)
        if (s->steps[i].id == id && s->steps[i].norm == norm) return &s->steps[i];
    return NULL;
}

/* Of the first model, when it ends or before new shares. No plan may use it. */
static void ft__sharing_empty(ft__context *c, ft__sharing *s)
{
    ft__release(c, s->steps);
    ft__release(c, s->weights);
    s->steps = NULL;
    s->weights = NULL;
    s->step_count = 0;
}

static void ft__sharing_free(ft__context *c, ft__sharing *s)
{
    if (!s) return;
    ft__sharing_empty(c, s);
#ifndef FINETUNE_NO_THREADS
    pthread_mutex_destroy(&s->mutex);
#endif
    ft__release(c, s);
}

static ft__sharing *ft__sharing_make(ft__context *c)
{
    ft__sharing *s = (ft__sharing *)ft__allocate(c, 1, sizeof *s);
#ifndef FINETUNE_NO_THREADS
    if (s) pthread_mutex_init(&s->mutex, NULL);
#endif
    return s;
}
