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
    double product;             /* NAdam: of its momentum over the first `product_of` updates */
    uint64_t product_of;
    double gathered;        /* weight of the batches whose gradients the next update divides by it;
                               0: it takes their sum as it is */
};

/* What an optimiser has: options, and how its weight decay acts. */
enum {
    FT__BETAS = 1, FT__EPS = 2, FT__MOMENTUM = 4, FT__NESTEROV = 8, FT__ALPHA = 16,
    FT__DECOUPLED = 32,     /* decay shrinks the weight; else it is added to the gradient */
    FT__IS_ADAM = 64        /* the step of optimizers/adam */
};
typedef struct ft__optimizer_row {
    const char *name;       /* as in PyTorch, in small letters */
    float learning_rate, beta2, eps; /* defaults */
    int moments;            /* numbers of state for each weight, one more with momentum */
    int has;
} ft__optimizer_row;

static const ft__optimizer_row ft__optimizers[] = { /* in the order of ft_optimizer */
    {"adamw", 1e-3f, 0.999f, 1e-8f, 2, FT__BETAS | FT__EPS | FT__DECOUPLED | FT__IS_ADAM},
    {"adam", 1e-3f, 0.999f, 1e-8f, 2, FT__BETAS | FT__EPS | FT__IS_ADAM},
    {"sgd", 1e-2f, 0.999f, 1e-8f, 0, FT__MOMENTUM | FT__NESTEROV},
    {"rmsprop", 1e-2f, 0.999f, 1e-8f, 1, FT__MOMENTUM | FT__ALPHA | FT__EPS},
    {"adagrad", 1e-2f, 0.999f, 1e-10f, 1, FT__EPS},
    {"nadam", 2e-3f, 0.999f, 1e-8f, 2, FT__BETAS | FT__EPS},
    {"radam", 1e-3f, 0.999f, 1e-8f, 2, FT__BETAS | FT__EPS},
    {"lion", 1e-4f, 0.99f, 1e-8f, 1, FT__BETAS | FT__DECOUPLED},
    {"adafactor", 1e-2f, 0.999f, 1e-8f, 2, FT__DECOUPLED}};
enum { FT__OPTIMIZERS = sizeof ft__optimizers / sizeof ft__optimizers[0] };

static const ft__optimizer_row *ft__optimizer_row_of(const ft_optimizer_options *o)
{
    return &ft__optimizers[(unsigned)o->optimizer < FT__OPTIMIZERS ? o->optimizer : FT_ADAMW];
}

static bool ft__is_adam(const ft_optimizer_options *o)
{
    return ft__optimizer_row_of(o)->has & FT__IS_ADAM;
}

/* The factor on the gradients of the next update, before they are clipped. */
static float ft__gathered_scale(const ft__optimizer *o)
{
    return o->gathered > 0 ? (float)(1 / o->gathered) : 1;
}

static bool ft__is_trained(const ft__node *node)
{
    return ft__is_parameter(node) && !node->frozen && node->gradient;
}

static ft_optimizer_options ft__optimizer_defaults(ft_optimizer_options o)
{
    const ft__optimizer_row *row = ft__optimizer_row_of(&o);
    if (o.learning_rate == 0) o.learning_rate = row->learning_rate;
    if (o.beta1 == 0) o.beta1 = 0.9f;
    if (o.beta2 == 0) o.beta2 = row->beta2;
    if (o.eps == 0) o.eps = row->eps;
    if (o.alpha == 0 && (row->has & FT__ALPHA)) o.alpha = 0.99f;
    return o;
}

/* Checks options as given, before the defaults are filled in. */
static ft_status ft__optimizer_check(ft__context *c, const char *call,
                                     const ft_optimizer_options *o)
{
    static const char adams[] = "FT_ADAMW, FT_ADAM, FT_NADAM, FT_RADAM and FT_LION";
    int has = ft__optimizer_row_of(o)->has;
    const ft__field_use uses[] = {
        {"momentum", o->momentum != 0, (has & FT__MOMENTUM) != 0, "FT_SGD and FT_RMSPROP"},
        {"nesterov", o->nesterov, (has & FT__NESTEROV) && o->momentum != 0, "FT_SGD with momentum"},
        {"beta1", o->beta1 != 0, (has & FT__BETAS) != 0, adams},
        {"beta2", o->beta2 != 0, (has & FT__BETAS) != 0, adams},
        {"eps", o->eps != 0, (has & FT__EPS) != 0,
         "FT_ADAMW, FT_ADAM, FT_RMSPROP, FT_ADAGRAD, FT_NADAM and FT_RADAM"},
        {"alpha", o->alpha != 0, (has & FT__ALPHA) != 0, "FT_RMSPROP"}};
    return ft__check_uses(c, call, uses, sizeof uses / sizeof uses[0]);
}

/* ---- State ----
   Each parameter has up to two tensors of state, its moments. Those of m->optimizer, or AdamW's. */

/* The shape of one of a parameter's moments; false: it has none. All have the parameter's shape but
   Adafactor's: of a matrix, in the last two dimensions, the first is [rows, 1] and the second
   [1, columns]; a vector has the second alone. */
static bool ft__moment_shape(const ft_model *m, const ft__node *node, int which, ft_shape *shape)
{
    int rank = node->shape.rank;
    *shape = node->shape;
    if (!m->optimizer) return true;
    if (which >= m->moments) return false;
    if (m->optimizer->options.optimizer != FT_ADAFACTOR) return true;
    if (rank < 2) return which == 1;
    shape->size[which == 0 ? rank - 1 : rank - 2] = 1;
    return true;
}

/* The numbers of a moment; 0: there is none. */
static size_t ft__moment_numbers(const ft_model *m, const ft__node *node, int which)
{
    ft_shape shape;
    return ft__moment_shape(m, node, which, &shape) ? ft__shape_count(&shape) : 0;
}

static float **ft__moment_of(ft__node *node, int which)
{
    return which == 0 ? &node->moment1 : &node->moment2;
}
