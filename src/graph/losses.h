#pragma once
#include "interface/types.h"
#include "interface/operators.h"
#include "platform/context.h"
#include "basics/numbers.h"
#include "basics/strings.h"
#include "nodes/nodes.h"
#include "nodes/names.h"
#include "nodes/sharing.h"
#include "nodes/storage.h"
#include "operators/table.h"
#include "operators/adding.h"
#include "operators/arithmetic.h"
#include "operators/elementwise.h"
#include "operators/reduce.h"
#include "operators/losses.h"
#include "operators/more_losses.h"
#include "operators/embedding.h"
#include "operators/ctc_loss.h"
#include "operators/rows.h"
#include "devices/device.h"
#include "graph/plan.h"
#include "graph/forward_backward.h"
#include "graph/settings.h"
#include "graph/surgery.h"
#include "graph/building.h"

/* =============================================================================================
   [SECTION] graph/losses: Losses by their names
   Those that are no operators are written from nodes. The loss of a network that is there already
   is exchanged for another of the same labels or numbers.
   ============================================================================================= */
static ft_node ft__affine_of(ft_model *m, ft_node x, float scale, float shift)
{
    return ft__named_affine(m, NULL, x, scale, shift);
}

/* The sum of each row [N, D] -> [N]. */
static ft_node ft__row_sums(ft_model *m, ft_node x)
{
    return ft__reduce_axis(m, "sum", NULL, x, -1, false);
}

static ft_node ft__minus(ft_model *m, ft_node a, ft_node b)
{
    return ft_binary(m, "sub", NULL, a, b);
}

/* ---- Of two nodes ---- */

/* The mean over rows of the sum of t (log(t) - log_softmax(x)); 0 log(0) is 0. */
static ft_node ft__kl_divergence(ft_model *m, const char *name, ft_node x, ft_node t,
                                 const ft_loss_options *o)
{
    ft_node least = ft__at_least(m, NULL, t, FLT_MIN), log_t = ft__unary_of(m, "log", NULL, least);
    ft_node off = ft__minus(m, log_t, ft__named_activation(m, "log_softmax", NULL, x));
    (void)o;
    return ft__mean_of(m, name, ft__row_sums(m, ft_mul(m, NULL, t, off)));
}

/* The sums over all dimensions but 1. */
static ft_node ft__channel_sums(ft_model *m, ft_node x)
{
    const ft__node *node = ft__get_node(m, x);
    int rank = node ? node->shape.rank : 0, d;
    ft_reduce_options o;
    memset(&o, 0, sizeof o);
    for (d = 0; d < rank; ++d)
        if (d != 1) o.axes[o.count++] = d;
    return ft_reduce(m, "sum", NULL, x, o);
}

static ft_node ft__dice(ft_model *m, const char *name, ft_node x, ft_node t,
                        const ft_loss_options *o)
{
    float smooth = ft__or_default(o->smooth, 1);
    ft_node p = ft__named_activation(m, "sigmoid", NULL, x);
    ft_node both = ft__affine_of(m, ft__channel_sums(m, ft_mul(m, NULL, p, t)), 2, smooth);
    ft_node all = ft__affine_of(m, ft__channel_sums(m, ft_add(m, NULL, p, t)), 1, smooth);
    both = ft_binary(m, "div", NULL, both, all);
    return ft__mean_of(m, name, ft__affine_of(m, both, -1, 1));
}

/* The mean of w t softplus(-x) + (1 - t) softplus(x). */
static ft_node ft__positive_entropy(ft_model *m, const char *name, ft_node x, ft_node t,
                                    const ft_loss_options *o)
{
    ft_node yes = ft__named_activation(m, "softplus", NULL, ft__unary_of(m, "neg", NULL, x));
    ft_node no = ft__named_activation(m, "softplus", NULL, x);
    if (!o->positive_weight.id) return ft_binary_cross_entropy(m, name, x, t);
    yes = ft_mul(m, NULL, ft_mul(m, NULL, yes, o->positive_weight), t);
    no = ft_mul(m, NULL, no, ft__affine_of(m, t, -1, 1));
    return ft__mean_of(m, name, ft_add(m, NULL, yes, no));
}

static ft_node ft__ctc_node(ft_model *m, const char *name, ft_node x, ft_node t,
                            const ft_loss_options *o)
{
    return ft_ctc_loss(m, name, x, t, *o);
}

typedef ft_node (*ft__loss_builder)(ft_model *m, const char *name, ft_node x, ft_node t,
                                    const ft_loss_options *o);

/* What a kind of loss compares x with. */
typedef enum ft__loss_of { FT__OF_LABELS, FT__OF_TARGETS, FT__OF_SEQUENCES } ft__loss_of;

typedef struct ft__loss_kind {
    const char *name;
    ft__loss_of of;
    const ft__row *row;         /* the operator that it is; or NULL, ... */
    ft__loss_builder build;     /* ... and what makes it from nodes */
} ft__loss_kind;

static const ft__loss_kind ft__loss_kinds[] = {
    {"cross_entropy", FT__OF_LABELS, &ft__row_cross_entropy, NULL},
    {"focal", FT__OF_LABELS, &ft__row_focal, NULL},
    {"hinge", FT__OF_LABELS, &ft__row_hinge, NULL},
    {"soft_cross_entropy", FT__OF_TARGETS, &ft__row_soft_cross_entropy, NULL},
    {"kl_divergence", FT__OF_TARGETS, NULL, ft__kl_divergence},
    {"binary_cross_entropy", FT__OF_TARGETS, &ft__row_binary_cross_entropy, ft__positive_entropy},
    {"sigmoid_focal", FT__OF_TARGETS, &ft__row_sigmoid_focal, NULL},
    {"dice", FT__OF_TARGETS, NULL, ft__dice},
    {"mse", FT__OF_TARGETS, &ft__row_mse, NULL},
    {"l1", FT__OF_TARGETS, &ft__row_l1, NULL},
    {"smooth_l1", FT__OF_TARGETS, &ft__row_smooth_l1, NULL},
    {"huber", FT__OF_TARGETS, &ft__row_huber, NULL}, {"ctc", FT__OF_SEQUENCES, NULL, ft__ctc_node}};
enum { FT__LOSS_KINDS = sizeof ft__loss_kinds / sizeof ft__loss_kinds[0] };

/* ---- Options: each number belongs to some kinds ---- */

#define FT__LOSS_OPTION(name, kinds) {#name, offsetof(ft_loss_options, name), kinds}
static const struct { const char *name; size_t offset; const char *kinds; } ft__loss_options[] = {
    FT__LOSS_OPTION(label_smoothing, "cross_entropy"), FT__LOSS_OPTION(beta, "smooth_l1"),
    FT__LOSS_OPTION(delta, "huber"), FT__LOSS_OPTION(gamma, "focal,sigmoid_focal"),
    FT__LOSS_OPTION(alpha, "sigmoid_focal,distillation"),
    FT__LOSS_OPTION(margin, "hinge,cosine,contrastive,triplet"), FT__LOSS_OPTION(smooth, "dice"),
    FT__LOSS_OPTION(temperature, "distillation")};

/* FT_INVALID for an option that the kind does not have, or that makes no sense. */
static bool ft__check_loss_options(ft_model *m, const char *kind, const ft_loss_options *o)
{
    size_t i;
    for (i = 0; ft__usable(m) && i < sizeof ft__loss_options / sizeof ft__loss_options[0]; ++i) {
        const char *name = ft__loss_options[i].name;
        bool may_be_negative = strcmp(name, "alpha") == 0 && strcmp(kind, "sigmoid_focal") == 0;
        float value;
        memcpy(&value, (const char *)o + ft__loss_options[i].offset, sizeof value);
        if (value == 0) continue;
        if (!ft__glob(ft__loss_options[i].kinds, kind))
            ft__fail(&m->context, FT_INVALID, "%s: this loss has no %s", kind, name);
        if (!ft__is_finite(value) || (value < 0 && !may_be_negative))
            ft__fail(&m->context, FT_INVALID, "%s: %s is %g; it must be finite%s", kind, name,
                     (double)value, may_be_negative ? "" : " and not negative");
    }
    if (ft__usable(m) && o->positive_weight.id && strcmp(kind, "binary_cross_entropy") != 0)
        ft__fail(&m->context, FT_INVALID, "%s: this loss has no positive_weight", kind);
    if (ft__usable(m) && (o->blank || o->zero_infinity || o->lengths.id)
        && strcmp(kind, "ctc") != 0)
        ft__fail(&m->context, FT_INVALID, "%s: this loss has no %s", kind, o->blank ? "blank"
                 : o->zero_infinity ? "zero_infinity" : "lengths");
    return ft__usable(m);
}

/* The kind of this name; NULL with an error. */
static const ft__loss_kind *ft__loss_named(ft_model *m, const char *kind)
{
    char known[300] = "";
    int i;
    if (!ft__usable(m) || !ft__given(&m->context, kind, "the kind of the loss")) return NULL;
    for (i = 0; i < FT__LOSS_KINDS; ++i)
        if (strcmp(ft__loss_kinds[i].name, kind) == 0) return &ft__loss_kinds[i];
    for (i = 0; i < FT__LOSS_KINDS; ++i) ft__add_name(known, sizeof known, ft__loss_kinds[i].name);
    ft__fail(&m->context, FT_INVALID, "%s: unknown loss; it must be one of %s", kind, known);
    return NULL;
}

static ft_node ft__build_loss(ft_model *m, const ft__loss_kind *kind, const char *name, ft_node x,
                              ft_node target, const ft_loss_options *o)
{
    if (kind->row && !o->positive_weight.id)
        return ft__add_pair(m, kind->row, name, x, target, o, sizeof *o);
    return kind->build(m, name, x, target, o);
}

ft_node ft_loss_by_kind(ft_model *m, const char *kind, const char *name, ft_node x, ft_node target,
                        ft_loss_options options)
{
    const ft__loss_kind *found;
    ft_node none = {0};
    if (!FT__HAS(m, ARITHMETIC)) return none;
    found = ft__loss_named(m, kind);
    if (!found || !ft__check_loss_options(m, kind, &options)) return none;
    return ft__build_loss(m, found, name, x, target, &options);
}

/* ---- Of vectors ---- */

/* |a - b + 1e-6| of each row, PyTorch's pairwise_distance. */
static ft_node ft__distance(ft_model *m, ft_node a, ft_node b)
{
    ft_node d = ft__affine_of(m, ft__minus(m, a, b), 1, 1e-6f);
    return ft__unary_of(m, "sqrt", NULL, ft__row_sums(m, ft_mul(m, NULL, d, d)));
}

static ft_node ft__cosine_of(ft_model *m, ft_node a, ft_node b)
{
    ft_node aa = ft__affine_of(m, ft__row_sums(m, ft_mul(m, NULL, a, a)), 1, 1e-12f);
    ft_node bb = ft__affine_of(m, ft__row_sums(m, ft_mul(m, NULL, b, b)), 1, 1e-12f);
    ft_node size = ft__unary_of(m, "sqrt", NULL, ft_mul(m, NULL, aa, bb));
    return ft_binary(m, "div", NULL, ft__row_sums(m, ft_mul(m, NULL, a, b)), size);
}

static ft_node ft__cosine_loss(ft_model *m, const char *name, ft_node a, ft_node b, ft_node c,
                               float margin)
{
    ft_node cosine = ft__cosine_of(m, a, b), same = ft__affine_of(m, cosine, -1, 1);
    ft_node other = ft__named_activation(m, "relu", NULL, ft__affine_of(m, cosine, 1, -margin));
    ft_node is_same = ft__affine_of(m, c, 1, 1); /* 2 or 0 */
    return ft__mean_of(m, name, ft_where(m, NULL, is_same, same, other));
}

static ft_node ft__contrastive_loss(ft_model *m, const char *name, ft_node a, ft_node b, ft_node c,
                                    float margin)
{
    ft_node d = ft__distance(m, a, b);
    ft_node apart = ft__named_activation(m, "relu", NULL, ft__affine_of(m, d, -1, margin));
    ft_node same = ft_mul(m, NULL, c, ft_mul(m, NULL, d, d));
    apart = ft_mul(m, NULL, ft__affine_of(m, c, -1, 1), ft_mul(m, NULL, apart, apart));
    return ft__mean_of(m, name, ft__affine_of(m, ft_add(m, NULL, same, apart), 0.5f, 0));
}

static ft_node ft__triplet_loss(ft_model *m, const char *name, ft_node a, ft_node b, ft_node c,
                                float margin)
{
    ft_node off = ft__minus(m, ft__distance(m, a, b), ft__distance(m, a, c));
    off = ft__named_activation(m, "relu", NULL, ft__affine_of(m, off, 1, margin));
    return ft__mean_of(m, name, off);
}

/* Whether a node has this rank; else an error. */
static bool ft__check_rank(ft_model *m, const char *what, ft_node x, int rank, const char *wanted)
{
    char text[80];
    const ft__node *node;
    if (!ft__check_node(m, x, what)) return false;
    node = ft__get_node(m, x);
    if (node->shape.rank == rank) return true;
    ft__fail(&m->context, FT_SHAPE, "%s: %.200s is %s; it must be %s", what, node->name,
             ft__shape_text(&node->shape, text), wanted);
    return false;
}

ft_node ft_embedding_loss(ft_model *m, const char *kind, const char *name, ft_node a, ft_node b,
                          ft_node c, ft_loss_options options)
{
    float margin = ft__or_default(options.margin, 1);
    ft_node none = {0};
    bool triplet;
    if (!FT__HAS(m, ARITHMETIC) || !ft__usable(m)
        || !ft__given(&m->context, kind, "the kind of the loss")) return none;
    triplet = strcmp(kind, "triplet") == 0;
    if (!triplet && strcmp(kind, "cosine") != 0 && strcmp(kind, "contrastive") != 0) {
        ft__fail(&m->context, FT_INVALID, "%s: unknown loss of vectors; it must be one of cosine,"
                 " contrastive, triplet", kind);
        return none;
    }
    if (!ft__check_loss_options(m, kind, &options) || !ft__check_rank(m, kind, a, 2, "[N, D]")
        || !ft__check_rank(m, kind, b, 2, "[N, D]")
        || !ft__check_rank(m, kind, c, triplet ? 2 : 1, triplet ? "[N, D]" : "[N]")) return none;
    if (triplet) return ft__triplet_loss(m, name, a, b, c, margin);
    if (strcmp(kind, "cosine") == 0) return ft__cosine_loss(m, name, a, b, c, options.margin);
    return ft__contrastive_loss(m, name, a, b, c, margin);
}

ft_node ft_distillation(ft_model *m, const char *name, ft_node logits, ft_node teacher,
                        ft_node labels, ft_loss_options options)
{
    float t = ft__or_default(options.temperature, 2), alpha = ft__or_default(options.alpha, 0.5f);
    ft_loss_options none_set;
    ft_node none = {0}, soft, hard;
    memset(&none_set, 0, sizeof none_set);
    if (!FT__HAS(m, ARITHMETIC) || !ft__check_loss_options(m, "distillation", &options)
        || !ft__check_rank(m, "distillation", logits, 2, "[N, classes]")
        || !ft__check_rank(m, "distillation", teacher, 2, "[N, classes]")) return none;
    if (alpha > 1) {
        ft__fail(&m->context, FT_INVALID, "distillation: alpha is %g; it must be 0 to 1",
                 (double)alpha);
        return none;
    }
    soft = ft__named_activation(m, "softmax", NULL, ft__affine_of(m, teacher, 1 / t, 0));
    soft = ft__unary_of(m, "detach", NULL, soft);
    soft = ft__kl_divergence(m, NULL, ft__affine_of(m, logits, 1 / t, 0), soft, &none_set);
    if (alpha == 1) return ft__named_affine(m, name, soft, t * t, 0);
    hard = ft_cross_entropy(m, NULL, logits, labels, none_set);
    return ft_add(m, name, ft__affine_of(m, hard, 1 - alpha, 0),
                  ft__affine_of(m, soft, alpha * t * t, 0));
}

/* ---- The loss of a network that is there ---- */

/* Labels as targets, one-hot: row c of the unit matrix. */
static ft_node ft__one_hot(ft_model *m, ft_node labels)
{
    int classes = ft__output_classes(m), size[2], i;
    float *ones = (float *)ft__allocate(&m->context, (size_t)classes * (size_t)classes,
                                        sizeof *ones);
    ft_embedding_options o;
    ft_node none = {0}, y;
    if (!ones) return none;
    for (i = 0; i < classes; ++i) ones[i * classes + i] = 1;
    size[0] = size[1] = classes;
    memset(&o, 0, sizeof o);
    o.weight = ft_constant(m, NULL, 2, size, ones);
    y = ft_embedding(m, NULL, labels, classes, classes, o);
    ft__release(&m->context, ones);
    return y;
}

/* Gives a node another name. */
static void ft__rename(ft_model *m, ft_node node, char *name)
{
    ft__unlist_node(m, node.id);
    ft__release(&m->context, m->nodes[node.id - 1].name);
    m->nodes[node.id - 1].name = name;
    ft__list_node(m, node.id);
}

/* What a new loss of this kind compares the output with: the input "target", if there is one, or
   the labels of the loss; {0} with an error. */
static ft_node ft__new_target(ft_model *m, const ft__loss_kind *kind)
{
    static const char *const of[] = {"labels", "targets for each sample",
                                     "labels [N, S] of steps [N, T, classes]"};
    const ft__node *labels = ft__labels_of(m), *output = &m->nodes[m->output.id - 1];
    ft_node target = ft__find_node(m, "target"), none = {0};
    ft_node of_labels = ft__find_node(m, labels ? labels->name : "labels");
    if (kind->of == FT__OF_LABELS && of_labels.id) return of_labels;
    if (kind->of == FT__OF_SEQUENCES && of_labels.id && output->shape.rank == 3
        && m->nodes[of_labels.id - 1].shape.rank == 2) return of_labels;
    if (kind->of == FT__OF_TARGETS && target.id) return target;
    if (kind->of == FT__OF_TARGETS && of_labels.id && output->shape.rank == 2)
        return ft__one_hot(m, of_labels);
    ft__fail(&m->context, FT_INVALID, "ft_set_loss_kind: %s is a loss of %s, which the network"
             " does not read", kind->name, of[kind->of]);
    return none;
}

/* Makes a node the loss in place of the old one, whose name it takes. */
static ft_status ft__exchange_loss(ft_model *m, ft_node made)
{
    char *name = NULL;
    if (made.id)
        name = ft__copy_text(&m->context, m->loss.id ? m->nodes[m->loss.id - 1].name : "loss");
    if (!name) return m->context.status;
    if (m->loss.id) ft__replace(m, m->loss, made);
    else ft_set_loss(m, made);
    if (ft__ok(&m->context)) ft__rename(m, made, name);
    else ft__release(&m->context, name);
    return m->context.status;
}

/* Whether a loss can be put on the output; else an error. */
static bool ft__takes_loss(ft_model *m, const char *call)
{
    const ft__node *loss = ft__get_node(m, m->loss);
    if (ft__output_classes(m) && !(loss && ft__is(loss, FT__OWN_LOGITS))) return true;
    ft__fail(&m->context, FT_UNSUPPORTED, "%s: %s", call, loss && ft__output_classes(m)
             ? "the loss of a language model makes its logits itself"
             : "the network has no output [N, classes] or [N, L, classes]");
    return false;
}

ft_status ft_set_loss_kind(ft_model *m, const char *kind, ft_loss_options options)
{
    const ft__loss_kind *found;
    ft_node target;
    if (!FT__HAS(m, ARITHMETIC) || !FT__HAS(m, SURGERY)) return ft__status_of(m);
    found = ft__loss_named(m, kind);
    if (!found || !ft__check_loss_options(m, kind, &options)
        || !ft__takes_loss(m, "ft_set_loss_kind")) return ft__status_of(m);
    target = ft__new_target(m, found);
    if (!target.id) return m->context.status;
    if (found->of == FT__OF_SEQUENCES && !options.lengths.id
        && m->nodes[m->output.id - 1].shape.size[1] == FT_LENGTH)
        options.lengths = ft__find_node(m, "lengths");
    return ft__exchange_loss(m, ft__build_loss(m, found, NULL, m->output, target, &options));
}

/* ---- A teacher: another network beside this one, on the same inputs ---- */

/* The node of `m` that stands for a weight of the teacher: a constant of its values, so that
   nothing unfreezes it. */
static ft_node ft__teacher_weight(ft_model *m, ft_model *teacher, int id, const char *name)
{
    ft__node *node = &teacher->nodes[id - 1];
    ft_node none = {0};
    ft__host_takes_weights(&teacher->context, false);
    if (ft__own_float32(teacher, node, true) != FT_OK) {
        ft__fail(&m->context, FT_MEMORY, "ft_set_teacher: %.200s cannot be made float32",
                 node->name);
        return none;
    }
    return ft_constant(m, name, node->shape.rank, node->shape.size, node->value);
}

/* The same of any node; those of its inputs are in `of`. Dropout is left out. */
static ft_node ft__teacher_node(ft_model *m, ft_model *teacher, int id, const int *of)
{
    const ft__node *node = &teacher->nodes[id - 1];
    ft__options options = node->options;
    ft_node inputs[FT__COPIED_INPUTS], made = {0};
    char name[512];
    int i;
    snprintf(name, sizeof name, "teacher.%.500s", node->name);
    if (ft__is_input(node)) {
        made = ft__find_node(m, node->name);
        if (!made.id || !ft__is_input(&m->nodes[made.id - 1]))
            ft__fail(&m->context, FT_INVALID, "ft_set_teacher: the teacher reads %.200s, which the"
                     " network does not", node->name);
        return made;
    }
    if (ft__is_weight(node)) return ft__teacher_weight(m, teacher, id, name);
    if (!ft__can_copy(node)) {
        ft__fail(&m->context, FT_UNSUPPORTED, "ft_set_teacher: %.200s keeps a state or is of"
                 " ft_custom", node->name);
        return made;
    }
    for (i = 0; i < node->input_count; ++i) inputs[i].id = of[node->inputs[i] - 1];
    if (ft__is(node, FT__NOISE)) return inputs[0];
    if (ft__is(node, FT__ATTENDS)) options.attention.dropout = 0;
    return ft__add_node(m, ft__rows[node->op], name, inputs, node->input_count, &options,
                        sizeof options);
}

/* Adds all that the teacher's output is computed from; returns that output. */
static ft_node ft__add_teacher(ft_model *m, ft_model *teacher)
{
    ft__context *c = &m->context;
    int count = teacher->node_count, at;
    char *marked = (char *)ft__allocate(c, (size_t)count + 1, 1);
    int *of = (int *)ft__allocate(c, (size_t)count + 1, sizeof *of);
    ft_node output = {0};
    if (ft__ok(c)) ft__mark_needed(teacher, teacher->output.id, 1, marked);
    for (at = 0; ft__ok(c) && at < count; ++at) {
        int id = teacher->order[at];
        if (marked[id - 1]) of[id - 1] = ft__teacher_node(m, teacher, id, of).id;
    }
    if (ft__ok(c)) output.id = of[teacher->output.id - 1];
    ft__release(c, of);
    ft__release(c, marked);
    return output;
}

/* Whether the two networks see the same and give the same classes; else an error. */
static bool ft__suits_teacher(ft_model *m, const ft_model *teacher)
{
    int classes = ft__output_classes(m), i;
    bool same = ft__output_classes(teacher) == classes
        && m->nodes[m->output.id - 1].shape.rank == 2;
    for (i = 0; same && i < m->class_count && i < teacher->class_count; ++i)
        same = strcmp(m->class_names[i], teacher->class_names[i]) == 0;
    if (!same)
        ft__fail(&m->context, FT_INVALID, "ft_set_teacher: the teacher must give [N, classes] with"
                 " the network's %d classes", classes);
    else if (memcmp(&m->preprocessing, &teacher->preprocessing, sizeof m->preprocessing) != 0)
        ft__fail(&m->context, FT_INVALID, "ft_set_teacher: the teacher sees pictures of another"
                 " size, mean or std");
    return ft__ok(&m->context);
}

ft_status ft_set_teacher(ft_model *m, ft_model *teacher, ft_loss_options options)
{
    const ft__node *labels;
    ft_node output, of_labels;
    if (!FT__HAS(m, ARITHMETIC) || !FT__HAS(m, SURGERY) || !ft__usable(m)
        || !ft__given(&m->context, teacher, "ft_set_teacher: the teacher")
        || ft__refuse_any_shared(m, "ft_set_teacher") != FT_OK
        || !ft__check_loss_options(m, "distillation", &options)
        || !ft__takes_loss(m, "ft_set_teacher")) return ft__status_of(m);
    if (teacher == m || !ft__ok(&teacher->context) || !teacher->output.id)
        return ft__fail(&m->context, FT_INVALID, "ft_set_teacher: the teacher must be another"
                        " network, with an output and without an error");
    labels = ft__labels_of(m);
    if (!labels)
        return ft__fail(&m->context, FT_INVALID, "ft_set_teacher: the network's loss reads no"
                        " labels");
    of_labels = ft__find_node(m, labels->name);
    if (!ft__suits_teacher(m, teacher)) return m->context.status;
    output = ft__add_teacher(m, teacher);
    if (!output.id) return m->context.status;
    return ft__exchange_loss(m, ft_distillation(m, NULL, m->output, output, of_labels, options));
}

/* Before a head gets another size: a loss that compares it with one-hot rows, as many as the old
   classes, becomes cross-entropy. */
static ft_status ft__forget_one_hot(ft_model *m)
{
    const ft__node *labels = m->loss.id ? ft__labels_of(m) : NULL;
    ft_loss_options none;
    int i;
    memset(&none, 0, sizeof none);
    for (i = 0; labels && i < m->node_count; ++i) {
        const ft__node *node = &m->nodes[i];
        if (ft__is_any(node) && ft__is(node, FT__LOOKS_UP)
            && &m->nodes[node->inputs[0] - 1] == labels)
            return ft_set_loss_kind(m, "cross_entropy", none);
    }
    return m->context.status;
}
