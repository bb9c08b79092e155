#pragma once
#include "interface/types.h"
#include "interface/training_types.h"
#include "platform/families.h"
#include "platform/context.h"
#include "basics/random.h"
#include "basics/strings.h"
#include "nodes/nodes.h"
#include "nodes/sharing.h"
#include "nodes/storage.h"
#include "nodes/initialisers.h"
#include "operators/table.h"
#include "operators/adding.h"
#include "operators/activations.h"
#include "operators/rows.h"
#include "optimizers/embedding_rows.h"
#include "devices/device.h"
#include "graph/layout.h"

/* =============================================================================================
   [SECTION] graph/plan: Graph: nodes and plan
   Nodes can be added in any order; m->order is the order of execution. For one purpose (evaluation
   or training) and a largest batch, a plan fixes which operators run, in which form, and where each
   value is in memory: nothing is allocated in a step.

   Inference form, if nothing trainable comes before: batch norm is folded into the convolution or
   linear layer before it, the activation after that is fused, and no value is kept longer than its
   last reader. Evaluation runs everything in this form, training the frozen prefix.
   ============================================================================================= */
typedef struct ft__step {   /* one call of an operator */
    int id;                 /* the node whose operator is called */
    int output;             /* the value that it computes: id's, or the last fused node's */
    bool copies;            /* no operator is called: it copies id's value to the other layout */
    int through;            /* a permute, to whose value the result is written at once; 0: none */
    int norm;               /* batch norm folded into it; 0: none */
    int activation;         /* activation applied to the result; 0: none */
    float *weight, *bias;   /* the folded ones */
    bool typed;             /* its weight lies in another type: nothing is prepared, and the batch
                               norm's factors are multiplied where it is read: */
    float *fold;            /* [output channels] */
    float *prepared;        /* weights in the form that the operator uses; NULL: it prepares none */
    bool each_run;          /* both are made in each run, to save memory: folded weights in one
                               place for all such steps, prepared ones by the operator */
    uint64_t prepared_for;  /* the version of the weights that both were made from */
    bool lent;              /* ft_share: both are those of all models on these weights */
    bool trained;           /* runs in each step of training; see ft__mark_trained */
    int part;               /* of the trained steps; see graph/memory */
    bool again;             /* its value is dropped after forward and recomputed for backward */
    int alone;              /* again: 0: with its part; else just before backward of step `alone` -
                               1, by an operator that restores */
    int restores, next_restored; /* a list of the steps whose `alone` is this one: 1 + the index of
                                    the first and, for each, of the next; 0: none */
    int moment_again, moment_back; /* of that and of backward; of forward: its index */
    float *values[2];       /* again: its value, the first and the second time */
    void *saved[2];
    bool weighed;           /* weights of samples count in it: see ft__mark_weighed */
    bool for_output;        /* needed for the model's output (else only for the loss) */
    bool once;              /* its value follows from weights alone: it stays, ... */
    uint64_t made_for;      /* ... from this version of them, plus 1; 0: it is still to be made */
} ft__step;

/* A block of memory and the moments, first to last, at which it is in use; see ft__place. */
typedef struct ft__block { size_t bytes, offset; int first, last; void **pointer; } ft__block;

struct ft__plan {
    bool training;
    ft__extent most;        /* the largest run */
    uint64_t version;       /* m->version that it was made for */
    ft__step *steps;
    int step_count;
    int first_trained;      /* the steps before this one are the frozen prefix */
    int node_count;         /* of the model; values have a node's id, and after these come ... */
    int *copied;            /* ... the copies in another layout, each of the node copied[...] */
    ft__node copy;          /* whose operator copies them */
    float **values;         /* per value, [id - 1]; leaves keep theirs in the node */
    float **gradients;
    void **saved;
    int *last_reader;       /* per value: the last trained step that reads it and passes a gradient
                               on to it; -1: none */
    int *shares;            /* per value: the one whose memory its gradient uses */
    int *shared_until;      /* per value: the last moment of those gradients, but for its own */
    int *readers, *reader_end; /* while it is made: the steps that read each value, one value after
                                  the other, and where each one's end */
    char *trained;          /* per value: FT__LEARNS, FT__DRAWN; 0: of the frozen prefix */
    char *read_later;       /* per node: FT__VALUE, FT__GRADIENT: stays in memory after a run */
    ft__tensor *inputs;     /* scratch for one call */
    void *memory, *workspace, *weights; /* `weights`: folded and prepared ones */
    size_t memory_bytes, workspace_bytes, weight_bytes;
    size_t widen_at;        /* in the workspace: weights in other types, converted for operators
                               without FT__READS_TYPES */
    size_t memory_whole;    /* memory_bytes if nothing were recomputed */
    int parts;              /* of the trained steps, to save memory; 0: nothing is recomputed */
    bool gives_up;          /* the other plan is released before this one is allocated */
    size_t room;            /* that the budget leaves for memory_bytes */
    size_t beside, taken;   /* bytes that the model holds besides, and that the plan holds */
};

static size_t ft__node_count_at(const ft__node *node, ft__extent extent)
{
    ft_shape shape = ft__with_extent(node->shape, extent);
    return ft__shape_count(&shape);
}

/* Whether a value has this size in some direction: FT_BATCH or FT_LENGTH. */
static bool ft__has_size(const ft__node *node, int size)
{
    int d = 0;
    while (d < node->shape.rank && node->shape.size[d] != size) ++d;
    return d < node->shape.rank;
}

static bool ft__has_length(const ft__node *node) { return ft__has_size(node, FT_LENGTH); }

static ft__extent ft__extent_of(const ft_model *m, int batch)
{
    ft__extent extent;
    extent.batch = batch > 0 ? batch : 1;
    extent.length = m->length;
    return extent;
}

static bool ft__holds(ft__extent room, ft__extent extent)
{
    return room.batch >= extent.batch && room.length >= extent.length;
}

static ft__extent ft__larger(ft__extent a, ft__extent b)
{
    if (a.batch < b.batch) a.batch = b.batch;
    if (a.length < b.length) a.length = b.length;
    return a;
}

/* Whether two nodes have the same number of elements in every run. */
static bool ft__same_count(const ft__node *a, const ft__node *b)
{
    static const ft__extent extents[] = {{1, 1}, {2, 1}, {1, 2}};
    int i;
    for (i = 0; i < 3; ++i)
        if (ft__node_count_at(a, extents[i]) != ft__node_count_at(b, extents[i])) return false;
    return true;
}

/* Whether an operator that works in place may write the gradient of x over that of its output y. An
   x that is broadcast from another rank may lie otherwise in memory. */
static bool ft__may_share(const ft__node *node, const ft__node *x, const ft__node *y)
{
    return ft__same_count(x, y)
        && (!ft__is(node, FT__BROADCASTS) || x->shape.rank == y->shape.rank);
}

/* A batch norm runs in evaluation form, even in training, if its weight and bias or its statistics
   are frozen: a frozen layer whose statistics drift is not frozen. */
static bool ft__norm_frozen(const ft_model *m, const ft__node *norm)
{
    return (m->nodes[norm->inputs[1] - 1].frozen && m->nodes[norm->inputs[2] - 1].frozen)
        || m->nodes[norm->inputs[3] - 1].frozen;
}

/* Releases the optimiser's state of a node. */
static void ft__release_moments(ft__context *c, ft__node *node)
{
    ft__release(c, node->moment1);
    ft__release(c, node->moment2);
    ft__resting_release(c, node->resting);
    node->moment1 = node->moment2 = NULL;
    node->resting = NULL;
}

static void ft__release_training(ft__context *c, ft__node *node)
{
    ft__release(c, node->gradient);
    ft__release(c, node->kept);
    ft__release(c, node->average);
    ft__release(c, node->start);
    ft__release_moments(c, node);
    node->gradient = node->kept = node->average = node->start = NULL;
}

static void ft__release_node(ft__context *c, ft__node *node)
{
    ft__release(c, node->name);
    ft__release(c, node->inputs);
    ft__release_value(c, node);
    ft__release_training(c, node);
    memset(node, 0, sizeof *node);
}

/* ---- Surgery and freezing ---- */

/* Recomputes the shapes after a change, in the order of execution. The values of the last run are
   given up: they may have had others. */
static ft_status ft__infer_all(ft_model *m)
{
    int at;
    for (at = 0; ft__ok(&m->context) && at < m->node_count; ++at)
        if (ft__is_any(&m->nodes[m->order[at] - 1]))
            ft__infer_shape(m, &m->nodes[m->order[at] - 1],
                            ft__rows[m->nodes[m->order[at] - 1].op]);
    if (ft__ok(&m->context)) m->last_run = NULL;
    m->version += 1;
    return m->context.status;
}

/* Parameters, buffers and dropout can be frozen; freezing drops gradient and optimiser state. */
static int ft__set_frozen(ft_model *m, const char *glob, bool frozen)
{
    int i, count = 0;
    if (!ft__usable(m)) return 0;
    ft__catch_up_all(m);
    for (i = 0; ft__ok(&m->context) && i < m->node_count; ++i) {
        ft__node *node = &m->nodes[i];
        if (!ft__can_freeze(node) || !ft__glob(glob, node->name)) continue;
        node->frozen = frozen;
        if (frozen) ft__release_training(&m->context, node);
        count += 1;
    }
    m->version += 1;
    return count;
}

/* A buffer also counts as frozen if its batch norm runs in evaluation form. */
static bool ft__node_is_frozen(const ft_model *m, const ft__node *node)
{
    int id = (int)(node - m->nodes) + 1, i;
    if (node->frozen || !ft__is_buffer(node)) return node->frozen;
    for (i = 0; i < m->node_count; ++i) {
        const ft__node *norm = &m->nodes[i];
        if (ft__is(norm, FT__STATISTICS) && (norm->inputs[3] == id || norm->inputs[4] == id))
            return ft__norm_frozen(m, norm);
    }
    return false;
}

/* A hash of the names and bytes of all that is frozen. */
static ft_digest ft__digest(ft_model *m)
{
    ft_digest digest = {0, 0};
    int i;
    if (!m) return digest;
    ft__host_takes_weights(&m->context, false);
    for (i = 0; i < m->node_count; ++i) {
        const ft__node *node = &m->nodes[i];
        if (!ft__is_weight(node) || !ft__node_is_frozen(m, node)) continue;
        digest.frozen = ft__hash_bytes(digest.frozen, node->name, strlen(node->name));
        digest.frozen = ft__hash_value(digest.frozen, node);
        digest.tensors += 1;
    }
    return digest;
}

/* Whether a node is the sum of layers that are alike, each with its bias: of several heads. */
static bool ft__sums_heads(const ft_model *m, const ft__node *node)
{
    int i;
    for (i = 0; i < node->input_count; ++i) {
        const ft__node *layer = &m->nodes[node->inputs[i] - 1];
        if (!ft__is(layer, FT__CAN_BE_HEAD) || layer->input_count != 3) return false;
    }
    return ft__is(node, FT__BROADCASTS) && node->input_count > 1;
}

/* The last layer before the output that can have another number of outputs; of several whose sum is
   the output, number `which`. NULL: there are no more. */
static ft__node *ft__numbered_head(ft_model *m, int which)
{
    ft__node *node = ft__get_node(m, m->output);
    while (node && !ft__is(node, FT__CAN_BE_HEAD)) {
        if (ft__sums_heads(m, node))
            return which < node->input_count ? &m->nodes[node->inputs[which] - 1] : NULL;
        node = node->input_count ? &m->nodes[node->inputs[0] - 1] : NULL;
    }
    return which == 0 ? node : NULL;
}

static ft__node *ft__head(ft_model *m) { return ft__numbered_head(m, 0); }

static bool ft__is_head(ft_model *m, const ft__node *layer)
{
    const ft__node *head;
    int k;
    for (k = 0; (head = ft__numbered_head(m, k)) != NULL; ++k)
        if (head == layer) return true;
    return false;
}

/* Freezes or unfreezes weights and biases of the heads. */
static void ft__freeze_heads(ft_model *m, bool frozen)
{
    const ft__node *head;
    int i, k;
    for (k = 0; (head = ft__numbered_head(m, k)) != NULL; ++k)
        for (i = 1; i < head->input_count; ++i) m->nodes[head->inputs[i] - 1].frozen = frozen;
}

/* Gives a parameter another first size and fresh values; its node, id and name stay. */
static ft_status ft__resize_parameter(ft_model *m, ft__node *node, int size)
{
    ft__context *c = &m->context;
    ft_shape shape = node->shape;
    float *value;
    shape.size[0] = size;
    value = (float *)ft__allocate(c, ft__shape_count(&shape), sizeof(float));
    if (!value) return c->status;
    ft__release_value(c, node);
    ft__release_training(c, node);
    node->value = value;
    node->shape = shape;
    if (node->fan_out) node->fan_out = size;
    node->frozen = false;
    ft__initialise_node(m, node);
    return c->status;
}

static void ft__release_class_names(ft_model *m)
{
    int i;
    for (i = 0; m->class_names && i < m->class_count; ++i)
        ft__release(&m->context, m->class_names[i]);
    ft__release(&m->context, m->class_names);
    m->class_names = NULL;
    m->class_count = 0;
}

/* Whether another operator reads a layer's weight, as an embedding does. */
static bool ft__is_tied(const ft_model *m, const ft__node *layer)
{
    int i, j;
    for (i = 0; i < m->node_count; ++i)
        for (j = 0; &m->nodes[i] != layer && j < m->nodes[i].input_count; ++j)
            if (layer->input_count > 1 && m->nodes[i].inputs[j] == layer->inputs[1]) return true;
    return false;
}

static ft_status ft__replace_head(ft_model *m, int classes)
{
    ft__node *head;
    int i, k;
    if (!ft__usable(m)) return ft__status_of(m);
    head = ft__head(m);
    if (!head)
        return ft__fail(&m->context, FT_INVALID, "no linear layer leads to the output: there is no"
                        " head to replace");
    if (classes < 1)
        return ft__fail(&m->context, FT_INVALID, "%s: a head of %d classes: at least 1 is expected",
                        head->name, classes);
    if (ft__is_tied(m, head))
        return ft__fail(&m->context, FT_INVALID, "%s: its weight is the embedding's too, so that it"
                        " cannot have another size: ft_language_model_to_classifier gives the"
                        " network a new head", head->name);
    for (k = 0; (head = ft__numbered_head(m, k)) != NULL; ++k)
        for (i = 1; i < head->input_count; ++i)
            if (ft__refuse_shared(m, &m->nodes[head->inputs[i] - 1], "ft_replace_head") != FT_OK)
                return m->context.status;
    for (k = 0; (head = ft__numbered_head(m, k)) != NULL; ++k)
        for (i = 1; i < head->input_count; ++i)
            ft__resize_parameter(m, &m->nodes[head->inputs[i] - 1], classes);
    ft__release_class_names(m); /* they were the old head's */
    m->weights_version += 1;
    return ft__infer_all(m);
}

/* ---- Which operators run, and in which form ---- */

static void ft__plan_free(ft__context *c, ft__plan *plan)
{
    if (!plan) return;
    ft__release(c, plan->workspace);
    ft__release(c, plan->memory);
    ft__release(c, plan->weights);
    ft__release(c, plan->inputs);
    ft__release(c, plan->read_later);
    ft__release(c, plan->trained);
    ft__release(c, plan->reader_end);
    ft__release(c, plan->readers);
    ft__release(c, plan->last_reader);
    ft__release(c, plan->shared_until);
    ft__release(c, plan->shares);
    ft__release(c, plan->saved);
    ft__release(c, plan->gradients);
    ft__release(c, plan->values);
    ft__release(c, plan->copied);
    ft__release(c, plan->steps);
    ft__release(c, plan);
}

/* Whether a weight lies in another type when the plan runs: what is trained does not. */
static bool ft__stays_stored(const ft__node *node, bool training)
{
    return ft__is_stored(node) && (node->frozen || !training);
}

enum { FT__VALUE = 1, FT__GRADIENT = 2 };

/* Whether a value, a node's unless it is a copy, must stay in memory after a run. */
static bool ft__stays(const ft_model *m, int id)
{
    return id <= m->node_count
        && (id == m->output.id || id == m->loss.id || ft__is_kept(m, id));
}

static bool ft__wants_gradient(const ft_model *m, const ft__plan *plan, int id)
{
    return plan->training && id <= m->node_count && m->nodes[id - 1].want_gradient;
}

/* The node of a value, or that of which it is a copy. */
static const ft__node *ft__node_of(const ft_model *m, const ft__plan *plan, int value)
{
    if (value > plan->node_count) value = plan->copied[value - plan->node_count - 1];
    return &m->nodes[value - 1];
}

/* The number of values: nodes and copies. */
static int ft__value_count(const ft_model *m, const ft__plan *plan)
{
    return plan->node_count + m->copies;
}

/* The node whose operator a step calls. */
static const ft__node *ft__node_of_step(const ft_model *m, const ft__plan *plan,
                                        const ft__step *step)
{
    return step->copies ? &plan->copy : &m->nodes[step->id - 1];
}

/* The value that a step reads as its input number `i`; that of a view is its source. */
static int ft__input_of(const ft_model *m, const ft__plan *plan, const ft__step *step, int i)
{
    const ft__node *node = &m->nodes[step->id - 1];
    int id = step->copies ? step->id : node->inputs[i];
    const ft__layout *layout = &m->nodes[id - 1].layout;
    if (!step->copies && ft__reads_copy(m, node, i)) return plan->node_count + layout->copy;
    return layout->source ? layout->source : id;
}

enum { FT__FOR_OUTPUT = 1, FT__FOR_LOSS = 2, FT__OF_COPY = 2 };

/* Marks what a target needs, walking the order of execution backwards. The marks of a node's copy
   are FT__OF_COPY bits above its own. */
static void ft__mark_needed(const ft_model *m, int target, char mark, char *needed)
{
    int at, i;
    if (!target) return;
    needed[target - 1] = (char)(needed[target - 1] | mark);
    for (at = m->node_count - 1; at >= 0; --at) {
        const ft__node *node = &m->nodes[m->order[at] - 1];
        if (!(needed[m->order[at] - 1] & mark)) continue;
        for (i = 0; i < node->input_count; ++i) {
            int input = node->inputs[i] - 1, copy = ft__reads_copy(m, node, i) ? mark : 0;
            needed[input] = (char)(needed[input] | mark | copy << FT__OF_COPY);
        }
    }
}

/* Marks what the nodes of ft_keep, and the text vector, need. Such a node is computed whenever the
   output is, if it reads no other inputs than the output does; else in runs for the loss. */
static void ft__mark_kept(ft_model *m, char *needed)
{
    ft__context *c = &m->context;
    int id, i;
    for (id = 1; id <= m->node_count; ++id) {
        char mark = FT__FOR_OUTPUT, *own;
        if (!ft__is_kept(m, id)) continue;
        own = (char *)ft__allocate(c, (size_t)m->node_count, 1);
        if (!own) return;
        ft__mark_needed(m, id, FT__FOR_LOSS, own);
        for (i = 0; i < m->node_count; ++i)
            if (own[i] && ft__is_input(&m->nodes[i]) && !(needed[i] & FT__FOR_OUTPUT))
                mark = FT__FOR_LOSS;
        ft__release(c, own);
        ft__mark_needed(m, id, mark, needed);
    }
}

/* Per node the one needed node that reads it; 0: none does, -1: it is read more than once. */
static void ft__sole_readers(const ft_model *m, const char *needed, int *sole)
{
    int i, j;
    for (i = 0; i < m->node_count; ++i)
        for (j = 0; needed[i] && j < m->nodes[i].input_count; ++j) {
            int input = m->nodes[i].inputs[j] - 1;
            sole[input] = sole[input] ? -1 : i + 1;
        }
}

/* The only node that reads this one; 0: there are more, or none. */
static int ft__only_reader(const ft_model *m, const int *sole, int id)
{
    if (ft__stays(m, id) || m->nodes[id - 1].want_gradient || sole[id - 1] < 0) return 0;
    return sole[id - 1];
}

/* Whether a step's own backward handles the activation that it applied. */
static bool ft__masks(const ft_model *m, const ft__step *step)
{
    const ft__row *row = step->activation ? ft__rows[m->nodes[step->activation - 1].op] : NULL;
    float low, high;
    return ft__is(&m->nodes[step->id - 1], FT__MASKS) && ft__is_clamp(row, &low, &high);
}

/* Whether a step's operator can write its result to the value of a permute, its only reader. */
static bool ft__writes_through(const ft_model *m, const ft__step *step, int next)
{
    const ft__node *permute = next ? &m->nodes[next - 1] : NULL;
    return permute && ft__is(&m->nodes[step->id - 1], FT__STRIDED) && ft__is(permute, FT__PERMUTES)
        && !permute->layout.source && !ft__is_channels_last(permute)
        && ft__is_strided(permute->shape.rank, permute->options.permute.axes);
}

/* Whether a batch norm can be folded into an operator: its weight and bias are not computed. */
static bool ft__can_fold(const ft_model *m, const ft__node *node)
{
    bool folds = ft__is(node, FT__FOLDS);
    int i;
    for (i = 1; i < node->input_count; ++i)
        folds = folds && ft__is_weight(&m->nodes[node->inputs[i] - 1]);
    return folds;
}

/* Fuses the step's only readers into it: a batch norm, if nothing is trained, and an activation; or
   a permute. If an activation's gradient is wanted it is not fused, since backward would replace
   the gradient. */
static void ft__fuse(const ft_model *m, const ft__plan *plan, const int *sole, ft__step *step)
{
    const ft__node *node = &m->nodes[step->id - 1];
    bool trained = plan->trained[step->id - 1] != 0;
    int next = ft__only_reader(m, sole, step->output);
    if (ft__writes_through(m, step, next)) step->through = step->output = next;
    if (!ft__is(node, FT__FUSES)) return;
    if (next && !trained && ft__can_fold(m, node)
        && ft__is(&m->nodes[next - 1], FT__STATISTICS) && !plan->trained[next - 1]
        && m->nodes[next - 1].inputs[0] == step->output) {
        step->norm = step->output = next;
        next = ft__only_reader(m, sole, step->output);
    }
    if (!next || !ft__rows[m->nodes[next - 1].op]->activation || m->nodes[next - 1].want_gradient)
        return;
    if (trained ? ft__is(&m->nodes[next - 1], FT__READS_Y) : !plan->trained[next - 1])
        step->activation = step->output = next; /* in training only the output is kept */
}

/* Whether a node's operator reads a weight in the type that it is stored in. */
static bool ft__reads_typed(const ft_model *m, const ft__plan *plan, int id)
{
    const ft__node *node = &m->nodes[id - 1];
    int i;
    for (i = 1; ft__is(node, FT__READS_TYPES) && i < node->input_count; ++i)
        if (ft__stays_stored(&m->nodes[node->inputs[i] - 1], plan->training)) return true;
    return false;
}

/* Appends a step for a node's operator, or to copy its value to the other layout. */
static ft__step *ft__add_step(ft__plan *plan, int id, int output, char needed)
{
    ft__step *step = &plan->steps[plan->step_count++];
    memset(step, 0, sizeof *step);
    step->id = id;
    step->output = output;
    step->copies = output != id;
    step->trained = plan->trained[output - 1] != 0;
    step->for_output = (needed & FT__FOR_OUTPUT) != 0;
    return step;
}

static void ft__add_steps(const ft_model *m, ft__plan *plan, const char *needed, const int *sole,
                          char *done, bool trained)
{
    int at;
    for (at = 0; at < m->node_count; ++at) {
        int id = m->order[at], copy = plan->node_count + m->nodes[id - 1].layout.copy;
        if (needed[id - 1] && !done[id - 1] && !ft__is_leaf(&m->nodes[id - 1])
            && !m->nodes[id - 1].layout.source && (plan->trained[id - 1] != 0) == trained) {
            ft__step *step = ft__add_step(plan, id, id, needed[id - 1]);
            step->typed = ft__reads_typed(m, plan, id);
            ft__fuse(m, plan, sole, step);
            done[step->id - 1] = done[step->output - 1] = 1;
            if (step->norm) done[step->norm - 1] = 1;
            step->for_output = (needed[step->output - 1] & FT__FOR_OUTPUT) != 0;
        }
        if (needed[id - 1] >> FT__OF_COPY && (plan->trained[copy - 1] != 0) == trained)
            ft__add_step(plan, id, copy, (char)(needed[id - 1] >> FT__OF_COPY));
    }
}

/* Whether a value stays until weights are loaded or set: it follows from constants and weights
   alone, in training from frozen ones. What is not trained is in evaluation form, so nothing is
   random. What the user's own operators give may change. */
static bool ft__is_fixed(const ft_model *m, const ft__plan *plan, const ft__step *step,
                         const char *fixed)
{
    const ft__node *node = ft__node_of_step(m, plan, step);
    const ft__node *norm = step->norm ? &m->nodes[step->norm - 1] : NULL;
    const ft_shape *shape = &ft__node_of(m, plan, step->output)->shape;
    int i;
    for (i = 0; i < node->input_count; ++i)
        if (!fixed[ft__input_of(m, plan, step, i) - 1]) return false;
    for (i = 1; norm && i < norm->input_count; ++i)
        if (!fixed[norm->inputs[i] - 1]) return false;
    for (i = 0; i < shape->rank; ++i)
        if (shape->size[i] < 0) return false;
    return !step->trained && node->input_count > 0 && !ft__is(node, FT__CALLBACKS);
}

static void ft__mark_once(ft_model *m, ft__plan *plan)
{
    char *fixed = (char *)ft__allocate(&m->context, (size_t)ft__value_count(m, plan), 1);
    int i;
    for (i = 0; fixed && i < m->node_count; ++i)
        fixed[i] = ft__is_weight(&m->nodes[i]) && (!plan->training || m->nodes[i].frozen);
    for (i = 0; fixed && i < plan->step_count; ++i) {
        ft__step *step = &plan->steps[i];
        step->once = ft__is_fixed(m, plan, step, fixed);
        fixed[step->output - 1] = step->once;
    }
    ft__release(&m->context, fixed);
}

/* Whether training does without the output: the loss makes logits itself, and those of all labels
   at once may take more memory than the rest of the network. */
static bool ft__leaves_output(const ft_model *m, const ft__plan *plan)
{
    return plan->training && !m->context.device && m->loss.id && m->loss.id != m->output.id
        && ft__is(&m->nodes[m->loss.id - 1], FT__OWN_LOGITS);
}

enum { FT__LEARNS = 1, FT__DRAWN = 2 };

/* Marks what differs from step to step of training: FT__LEARNS: it depends on something trainable,
   or on what a gradient is wanted of, and backward runs through it; FT__DRAWN: on an active
   dropout, with other numbers each time, though nothing before it may be trained. */
static void ft__mark_trained(const ft_model *m, char *marks)
{
    int at, i;
    for (at = 0; at < m->node_count; ++at) {
        const ft__node *node = &m->nodes[m->order[at] - 1];
        int mark = ft__is_parameter(node) && !node->frozen ? FT__LEARNS : 0;
        if (ft__is_random(node) && !node->frozen) mark |= FT__DRAWN;
        for (i = 0; i < node->input_count; ++i) {
            mark |= marks[node->inputs[i] - 1];
            if (m->nodes[node->inputs[i] - 1].want_gradient) mark |= FT__LEARNS;
        }
        marks[m->order[at] - 1] = (char)mark;
    }
}

/* Dropout acts where something trainable comes before it: without, the same numbers come from the
   frozen prefix in each epoch, and can be kept. For those who choose what is frozen themselves. */
static void ft__freeze_first_dropouts(ft_model *m)
{
    char *marks = (char *)ft__allocate(&m->context, (size_t)m->node_count, 1);
    int i;
    if (marks) ft__mark_trained(m, marks);
    for (i = 0; marks && i < m->node_count; ++i)
        if (ft__is_random(&m->nodes[i])) m->nodes[i].frozen = !(marks[i] & FT__LEARNS);
    ft__release(&m->context, marks);
    m->version += 1;
}

/* Marks the nodes in which weights of samples count: those that make numbers of the loss of values
   of samples, such as the two means whose sum is ft_distillation. Returns false if there are none,
   or if one of them cannot. */
static bool ft__mark_weighed(const ft_model *m, char *marks)
{
    enum { OF_LOSS = 1, WEIGHED = 2 };
    bool some = false;
    int at, i;
    if (m->loss.id) marks[m->loss.id - 1] = OF_LOSS;
    for (at = m->node_count - 1; at >= 0; --at) {
        const ft__node *node = &m->nodes[m->order[at] - 1];
        char *mark = &marks[m->order[at] - 1];
        bool samples = false;
        if (!*mark) continue;
        for (i = 0; i < node->input_count; ++i)
            samples = samples || ft__has_size(&m->nodes[node->inputs[i] - 1], FT_BATCH);
        for (i = 0; i < node->input_count && !samples; ++i) marks[node->inputs[i] - 1] = OF_LOSS;
        *mark = samples ? WEIGHED : 0;
        if (!samples) continue;
        some = true;
        if (!ft__is(node, FT__WEIGHS) || m->nodes[node->inputs[0] - 1].shape.size[0] != FT_BATCH)
            return false;
    }
    return some;
}

/* Whether backward runs through the step that makes a value. */
static bool ft__learns(const ft__plan *plan, int value)
{
    return (plan->trained[value - 1] & FT__LEARNS) != 0;
}

static bool ft__plan_learns(const ft__plan *plan)
{
    int i = plan->first_trained;
    while (i < plan->step_count && !ft__learns(plan, plan->steps[i].output)) ++i;
    return i < plan->step_count;
}

/* Lists the steps: first the frozen prefix, then what differs from step to step. A fused step
   takes the place of its first node and reads only that node's inputs: so the order still holds. A
   value is copied to the other layout at the place of its node. */
static void ft__plan_steps(ft_model *m, ft__plan *plan)
{
    ft__context *c = &m->context;
    char *needed = (char *)ft__allocate(c, (size_t)m->node_count, 1);
    char *done = (char *)ft__allocate(c, (size_t)m->node_count, 1);
    int *sole = (int *)ft__allocate(c, (size_t)m->node_count, sizeof *sole), at;
    if (needed && done && sole) {
        if (!ft__leaves_output(m, plan))
            ft__mark_needed(m, m->output.id, FT__FOR_OUTPUT, needed);
        ft__mark_kept(m, needed);
        ft__mark_needed(m, m->loss.id, FT__FOR_LOSS, needed);
        ft__sole_readers(m, needed, sole);
        if (FT__HAS_TRAINING && plan->training) ft__mark_trained(m, plan->trained);
        for (at = 0; at < m->node_count; ++at) {
            int copy = m->nodes[at].layout.copy;
            if (!copy) continue;
            plan->copied[copy - 1] = at + 1;
            plan->trained[plan->node_count + copy - 1] = (char)(plan->trained[at]
                | (ft__wants_gradient(m, plan, at + 1) ? FT__LEARNS : 0));
        }
        ft__add_steps(m, plan, needed, sole, done, false);
        plan->first_trained = plan->step_count;
        ft__add_steps(m, plan, needed, sole, done, true);
        ft__mark_once(m, plan);
        memset(done, 0, (size_t)m->node_count);
        if (FT__HAS_TRAINING) ft__mark_weighed(m, done);
        for (at = 0; at < plan->step_count; ++at)
            plan->steps[at].weighed = !plan->steps[at].copies && done[plan->steps[at].id - 1] != 0;
    }
    ft__release(c, sole);
    ft__release(c, done);
    ft__release(c, needed);
}

/* Whether a step's backward adds to gradients: its operator has one, and its output a gradient. */
static bool ft__passes_gradient(const ft_model *m, const ft__plan *plan, const ft__step *step)
{
    return ft__learns(plan, step->output) && ft__rows[ft__node_of_step(m, plan, step)->op]->backward
        && (step->output == m->loss.id || plan->last_reader[step->output - 1] >= 0);
}

/* For each value the last of the trained steps that reads it and passes a gradient on; -1: none. */
static void ft__plan_last_readers(const ft_model *m, ft__plan *plan)
{
    int i, j;
    for (i = 0; i < ft__value_count(m, plan); ++i) plan->last_reader[i] = -1;
    for (i = plan->step_count - 1; i >= plan->first_trained; --i) {
        const ft__step *step = &plan->steps[i];
        if (!ft__passes_gradient(m, plan, step)) continue;
        for (j = 0; j < ft__node_of_step(m, plan, step)->input_count; ++j) {
            int id = ft__input_of(m, plan, step, j);
            if (plan->last_reader[id - 1] < 0) plan->last_reader[id - 1] = i;
        }
    }
}
