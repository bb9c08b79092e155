#pragma once
#include "interface/types.h"
#include "interface/training_types.h"
#include "platform/context.h"
#include "nodes/nodes.h"
#include "operators/table.h"

/* A chunk of a parameter, and the sum of its gradient's squares. */
typedef struct ft__update_part { ft__node *node; size_t from, to; double squares; }
    ft__update_part;

/* =============================================================================================
   [SECTION] optimizers/options: Options of optimisers
   ============================================================================================= */
struct ft__optimizer {
    ft_optimizer_options options;
    uint64_t updates;           /* made so far */
    struct ft__update_part *parts; /* all trained parameters, in chunks */
    int part_count, part_capacity;
    uint64_t looked_at;         /* graph version + 1 whose embeddings were checked */
};

static bool ft__is_trained(const ft__node *node)
{
    return ft__is_parameter(node) && !node->frozen && node->gradient;
}

static ft_optimizer_options ft__optimizer_defaults(ft_optimizer_options o)
{
    if (o.learning_rate == 0) o.learning_rate = o.optimizer == FT_SGD ? 1e-2f : 1e-3f;
    if (o.beta1 == 0) o.beta1 = 0.9f;
    if (o.beta2 == 0) o.beta2 = 0.999f;
    if (o.eps == 0) o.eps = 1e-8f;
    return o;
}

/* Checks options as given, before the defaults are filled in. */
static ft_status ft__optimizer_check(ft__context *c, const char *call,
                                     const ft_optimizer_options *o)
{
    bool sgd = o->optimizer == FT_SGD;
    const ft__field_use uses[] = {
        {"momentum", o->momentum != 0, sgd, "FT_SGD"},
        {"nesterov", o->nesterov, sgd && o->momentum != 0, "FT_SGD with momentum"},
        {"beta1", o->beta1 != 0, !sgd, "FT_ADAMW and FT_ADAM"},
        {"beta2", o->beta2 != 0, !sgd, "FT_ADAMW and FT_ADAM"},
        {"eps", o->eps != 0, !sgd, "FT_ADAMW and FT_ADAM"}};
    return ft__check_uses(c, call, uses, sizeof uses / sizeof uses[0]);
}
