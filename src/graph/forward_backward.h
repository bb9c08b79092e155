#pragma once
#include "interface/types.h"
#include "platform/families.h"
#include "platform/context.h"
#include "basics/numbers.h"
#include "kernels/stored.h"
#include "kernels/transpose.h"
#include "nodes/nodes.h"
#include "nodes/names.h"
#include "nodes/sharing.h"
#include "nodes/storage.h"
#include "operators/table.h"
#include "operators/common.h"
#include "operators/losses.h"
#include "operators/rows.h"
#include "optimizers/embedding_rows.h"
#include "devices/device.h"
#include "graph/layout.h"
#include "graph/plan.h"
#include "graph/calls.h"
#include "graph/memory.h"

/* =============================================================================================
   [SECTION] graph/forward_backward: Graph: forward and backward
   ============================================================================================= */

static double ft__clock(const ft__context *c)
{
    return c->desc.clock ? c->desc.clock(c->desc.clock_user) : 0;
}

/* Folds y = (x - mean) / sqrt(var + eps) * gamma + beta into the weight and bias before it:
   weight' = weight * s, bias' = (bias - mean) * s + beta, s = gamma / sqrt(var + eps). Of a weight
   in another type only s is kept, for those who read it. */
static void ft__fold(const ft_model *m, const ft__step *step)
{
    const ft__node *node = &m->nodes[step->id - 1], *norm = &m->nodes[step->norm - 1];
    const ft__node *weight = &m->nodes[node->inputs[1] - 1];
    const float *bias = node->input_count > 2 ? m->nodes[node->inputs[2] - 1].value : NULL;
    const float *gamma = m->nodes[norm->inputs[1] - 1].value;
    const float *beta = m->nodes[norm->inputs[2] - 1].value;
    const float *mean = m->nodes[norm->inputs[3] - 1].value;
    const float *var = m->nodes[norm->inputs[4] - 1].value;
    float eps = ft__eps_of(norm->options.batch_norm.eps);
    size_t channels = (size_t)weight->shape.size[0], i, each;
    size_t per_channel = ft__node_count_at(weight, ft__one) / channels;
    for (i = 0; i < channels; ++i) {
        float scale = gamma[i] / sqrtf(var[i] + eps);
        step->bias[i] = ((bias ? bias[i] : 0.0f) - mean[i]) * scale + beta[i];
        if (step->fold) step->fold[i] = scale;
        else {
            const float *from = weight->value + i * per_channel;
            float *to = step->weight + i * per_channel;
            for (each = 0; each < per_channel; ++each) to[each] = from[each] * scale;
        }
    }
}

/* The version of the weights from which a step's folded and prepared ones are made: training
   changes those that are not frozen; loading, surgery and the like may change any. */
static uint64_t ft__weights_of_step(const ft_model *m, const ft__step *step)
{
    const ft__node *node = &m->nodes[step->id - 1];
    bool moving = false;
    int input;
    for (input = 1; input < node->input_count; ++input) /* except inputs that are fed */
        moving = moving || !(ft__has_rows(&m->nodes[node->inputs[input] - 1])
                             || m->nodes[node->inputs[input] - 1].frozen);
    if (step->norm) {
        const ft__node *norm = &m->nodes[step->norm - 1];
        int i;
        if (node->input_count > 2 && !m->nodes[node->inputs[2] - 1].frozen) moving = true;
        for (i = 1; i < 5; ++i)
            if (!m->nodes[norm->inputs[i] - 1].frozen) moving = true;
        if (ft__norm_frozen(m, norm) && m->nodes[node->inputs[1] - 1].frozen) moving = false;
    }
    return (m->weights_version << 32) + (moving ? m->trained_version & 0xffffffff : 0);
}

enum { FT__ONLY_OUTPUT = 1, FT__EVALUATING = 2 };

/* Decides whether a step's weights must be prepared in this call, and folds a batch norm into them.
   Not those that are lent, which were prepared before: other threads read them. */
static bool ft__prepare_step(ft_model *m, ft__step *step, ft__call *call)
{
    uint64_t now;
    if ((!step->weight && !step->prepared && !step->fold)
        || (step->lent && ft__shares_weights(m))) return false;
    now = ft__weights_of_step(m, step);
    call->prepare = step->each_run || step->prepared_for != now;
    if (call->prepare && step->norm) {
        ft__host_takes_weights(&m->context, false);
        ft__fold(m, step);
        if (step->weight) ft__host_wrote(&m->context, step->weight);
        ft__host_wrote(&m->context, step->bias);
    }
    step->prepared_for = now;
    return call->prepare;
}

/* Selects the first or second value of a step that runs again. */
static void ft__use_values(ft__plan *plan, const ft__step *step, int time)
{
    plan->values[step->output - 1] = step->values[time];
    if (!step->alone) plan->saved[step->id - 1] = step->saved[time];
}

static void ft__run_step_again(ft_model *m, ft__plan *plan, ft__step *step, int batch)
{
    ft__call call;
    ft__use_values(plan, step, 1);
    call = ft__make_call(m, plan, step, ft__extent_of(m, batch), false);
    call.again = true;
    call.restore = step->alone != 0;
    ft__widen_inputs(m, plan, step);
    ft__run_operator(&call, false);
}

/* Before backward of step `end`: recomputes the part's dropped values, if it is the last of its
   part, and then those that are recomputed alone. */
static void ft__run_again(ft_model *m, ft__plan *plan, int end, int batch)
{
    bool last = end + 1 == plan->step_count || plan->steps[end + 1].part != plan->steps[end].part;
    int first = end, i;
    while (last && first > plan->first_trained
           && plan->steps[first - 1].part == plan->steps[end].part) first -= 1;
    for (i = first; last && i <= end; ++i)
        if (plan->steps[i].again && !plan->steps[i].alone)
            ft__run_step_again(m, plan, &plan->steps[i], batch);
    for (i = plan->steps[end].restores; i; i = plan->steps[i - 1].next_restored)
        ft__run_step_again(m, plan, &plan->steps[i - 1], batch);
}

/* Before a run: catches up all rows, as any operator may read any row; but in a training step of
   the same graph each embedding catches up only the rows that it reads. */
static void ft__catch_up_before(ft_model *m, bool in_steps)
{
    int i;
    for (i = 0; i < m->node_count; ++i) {
        const ft__resting *r = m->nodes[i].resting;
        if (r && !(in_steps && r->version == m->version))
            ft__catch_up(&m->context, &m->nodes[i], NULL, 0);
    }
}

/* The version + 1 of the weights from which values are computed once. */
static uint64_t ft__weights_of_once(const ft_model *m, const ft__plan *plan)
{
    return (m->weights_version << 32) + (plan->training ? 0 : m->trained_version & 0xffffffff) + 1;
}

/* Runs steps [from, to) forward on `batch` samples: without the loss if there are no labels, and in
   evaluation form if a plan for training is used to measure. */
static void ft__run_forward(ft_model *m, ft__plan *plan, int from, int to, int batch, int how)
{
    bool in_steps = plan->training && !(how & FT__EVALUATING);
    int i;
    m->backward_done = false;
    m->ran = ft__extent_of(m, batch);
    m->ran_loss = !(how & FT__ONLY_OUTPUT);
    m->ran_from = from;
    m->runs += 1;
    if (in_steps) m->trained_version += 1; /* statistics change */
    ft__catch_up_before(m, in_steps);
    for (i = from; i < to; ++i) {
        ft__step *step = &plan->steps[i];
        ft__call call;
        double start;
        if ((how & FT__ONLY_OUTPUT) && !step->for_output) continue;
        if (step->once && step->made_for == ft__weights_of_once(m, plan)) continue;
        if (step->again) ft__use_values(plan, step, 0);
        call = ft__make_call(m, plan, step, ft__extent_of(m, batch), false);
        if (how & FT__EVALUATING) call.training = false;
        ft__widen_inputs(m, plan, step);
        start = ft__clock(&m->context);
        ft__prepare_step(m, step, &call);
        if (in_steps && ft__is(call.node, FT__LOOKS_UP))
            ft__catch_up(&m->context, &m->nodes[m->nodes[step->id - 1].inputs[1] - 1],
                         ft__integers(&call.input[0]), ft__count(&call.input[0]));
        ft__run_operator(&call, false);
        step->made_for = ft__ok(&m->context) ? ft__weights_of_once(m, plan) : 0;
        m->nodes[step->id - 1].time.forward += ft__clock(&m->context) - start;
    }
}

/* Whether an operator's backward on the processor writes an input's gradient if it is fresh. A
   layer adds to the gradients of its weights, which other operators may have written. */
static bool ft__writes_gradient(const ft__node *node, int input)
{
    return ft__is(node, input == 0 ? FT__WRITES : FT__WRITES_ALL);
}

/* Backward runs from the end, so the last reader is the first to add to a gradient: it may write it
   instead, else the gradient is set to zero before. The update zeroes those of parameters. */
static void ft__fresh_gradients(ft_model *m, const ft__plan *plan, int at, int batch, bool runs,
                                bool on_device)
{
    const ft__step *step = &plan->steps[at];
    const ft__node *node = ft__node_of_step(m, plan, step);
    int i, j;
    for (i = 0; i < node->input_count; ++i) {
        int id = ft__input_of(m, plan, step, i);
        bool twice = false;
        if (!plan->gradients[id - 1] || plan->last_reader[id - 1] != at) continue;
        for (j = 0; j < node->input_count; ++j)
            twice = twice || (j != i && ft__input_of(m, plan, step, j) == id);
        if (runs && !twice && (on_device || ft__writes_gradient(node, i)))
            plan->inputs[i].fresh = true;
        else ft__set_numbers(&m->context, plan->gradients[id - 1],
                             ft__node_count_at(ft__node_of(m, plan, id), ft__extent_of(m, batch)),
                             0);
    }
}

/* Forgets the gradients that no update has used. */
static void ft__zero_gradients(ft_model *m)
{
    int i;
    for (i = 0; i < m->node_count; ++i) ft__forget_used(m->nodes[i].resting);
    for (i = 0; m->gradients_wait && i < m->node_count; ++i)
        if (m->nodes[i].gradient)
            ft__set_numbers(&m->context, m->nodes[i].gradient,
                            ft__node_count_at(&m->nodes[i], ft__one), 0);
    m->gradients_wait = false;
}

static void ft__run_backward(ft_model *m, ft__plan *plan, int batch, float scale)
{
    int i;
    m->gradients_wait = m->backward_done = true;
    if (!plan->gradients[m->loss.id - 1]) return; /* nothing that is trained leads to the loss */
    ft__set_numbers(&m->context, plan->gradients[m->loss.id - 1], 1, scale);
    for (i = plan->step_count - 1; i >= plan->first_trained; --i) {
        const ft__step *step = &plan->steps[i];
        ft__operator backward = ft__rows[ft__node_of_step(m, plan, step)->op]->backward;
        double start = ft__clock(&m->context);
        ft__call call;
        bool runs;
        ft__run_again(m, plan, i, batch);
        call = ft__make_call(m, plan, step, ft__extent_of(m, batch), true);
        ft__widen_inputs(m, plan, step);
        runs = call.output.gradient && backward;
        ft__fresh_gradients(m, plan, i, batch, runs, runs && ft__runs_on_device(&call));
        if (runs && step->activation && !ft__masks(m, step)) ft__run_activation_back(&call);
        if (runs) ft__run_operator(&call, true);
        if (runs && ft__is(call.node, FT__LOOKS_UP))
            ft__use_rows(m->nodes[m->nodes[step->id - 1].inputs[1] - 1].resting,
                         ft__integers(&call.input[0]), ft__count(&call.input[0]));
        m->nodes[step->id - 1].time.backward += ft__clock(&m->context) - start;
    }
}

/* Whether the output depends on an input. */
static bool ft__output_reads(const ft_model *m, const ft__plan *plan, int id)
{
    int i, j;
    for (i = 0; i < plan->step_count; ++i) {
        const ft__step *step = &plan->steps[i];
        const ft__node *node = ft__node_of_step(m, plan, step);
        for (j = 0; step->for_output && j < node->input_count; ++j)
            if (ft__input_of(m, plan, step, j) == id) return true;
    }
    return id == m->output.id;
}

/* The input "lengths", of the real steps, or NULL. */
static ft__node *ft__lengths_input(const ft_model *m)
{
    ft__node *node = ft__get_node(m, ft__find_node(m, "lengths"));
    return node && ft__is_input(node) && node->type == FT_I32 && node->shape.rank == 1
        ? node : NULL;
}

/* The input "types", of the tokens of pairs, or NULL. */
static ft__node *ft__types_input(const ft_model *m)
{
    ft__node *node = ft__get_node(m, ft__find_node(m, "types"));
    return node && ft__is_input(node) && node->type == FT_I32 && node->shape.rank == 2
        && ft__has_length(node) ? node : NULL;
}

/* The one input for a picture, a text or ft_run's values. If the output depends on another input
   besides it, "lengths" and "types", which would have to be fed too: {0} with an error. */
static ft_node ft__main_input(ft_model *m, const ft__plan *plan, const char *call)
{
    const ft__node *lengths = ft__lengths_input(m), *types = ft__types_input(m);
    ft_node found = {0}, none = {0};
    int i;
    for (i = 0; m->output.id && i < m->node_count; ++i) {
        if (!ft__is_input(&m->nodes[i]) || &m->nodes[i] == lengths || &m->nodes[i] == types
            || !ft__output_reads(m, plan, i + 1)) continue;
        if (found.id) {
            ft__fail(&m->context, FT_INVALID, "%s feeds one input, but the output depends on"
                     " \"%.100s\" and \"%.100s\": feed both with ft_feed, call ft_forward(m,"
                     " false), and read the output with ft_get", call,
                     m->nodes[found.id - 1].name, m->nodes[i].name);
            return none;
        }
        found.id = i + 1;
    }
    if (m->output.id && ft__is_leaf(&m->nodes[m->output.id - 1])) found.id = 0;
    if (!found.id)
        ft__fail(&m->context, FT_INVALID, "%s: the model has no output (ft_set_output) that depends"
                 " on an input", call);
    return found;
}

/* After an input was written: the last run had other values, and maybe another size. */
static void ft__is_fed(ft_model *m, ft__node *node, int batch)
{
    node->fed = ft__extent_of(m, batch);
    node->fed_before = m->runs;
    m->fed_from = NULL;
    m->last_run = NULL;
    ft__host_fed(&m->context, node->value,
                 ft__node_count_at(node, node->fed) * sizeof(float));
}

/* Copies values in the order that users see, [N, C, H, W], to the order in memory. */
static void ft__fill_input(ft_model *m, ft__node *node, const void *values, int batch)
{
    ft_shape shape = ft__with_extent(node->shape, ft__extent_of(m, batch));
    ft__choose_layouts(m);
    if (ft__is_channels_last(node))
        ft__transpose(&m->context, &shape, FT__TO_LAST, (const float *)values, node->value, false);
    else memcpy(node->value, values, ft__shape_count(&shape) * sizeof(float));
    ft__is_fed(m, node, batch);
}

/* Fills the input "types", if there is one. NULL: all are 0, as of single texts. */
static void ft__fill_types(ft_model *m, const int32_t *types, int batch)
{
    ft__node *node = ft__types_input(m);
    if (!node) return;
    if (types) {
        ft__fill_input(m, node, types, batch);
        return;
    }
    memset(node->value, 0, ft__node_count_at(node, ft__extent_of(m, batch)) * sizeof(float));
    ft__is_fed(m, node, batch);
}

static void ft__read_value(ft_model *m, const ft__node *node, const float *value,
                           ft__extent size, float *to)
{
    ft_shape shape = ft__with_extent(node->shape, size);
    ft__to_host(&m->context, value, ft__shape_count(&shape) * sizeof(float));
    if (ft__is_channels_last(node))
        ft__transpose(&m->context, &shape, FT__TO_FIRST, value, to, false);
    else memcpy(to, value, ft__shape_count(&shape) * sizeof(float));
}

/* Checks everything that a run needs, so that the operators need not. */
static ft_status ft__ready(ft_model *m, bool with_loss)
{
    ft__context *c;
    if (!ft__usable(m)) return ft__status_of(m);
    c = &m->context;
    if (with_loss && !m->loss.id)
        return ft__fail(c, FT_INVALID, "the model has no loss: call ft_set_loss");
    if (!m->output.id && !m->loss.id)
        return ft__fail(c, FT_INVALID, "the model has no output: load or build a network first");
    return FT_OK;
}

/* Whether an input holds values for a run of this size. */
static bool ft__fits_run(const ft_model *m, const ft__node *input)
{
    return input->fed.batch == m->batch
        && (!ft__has_length(input) || input->fed.length == m->length);
}

/* Whether the loss can be computed: the inputs that only it reads, the labels, were fed for a run
   of this size. An input fed since the last run is for this one: an error if it does not fit. */
static bool ft__loss_is_fed(const ft_model *m, const ft__plan *plan)
{
    int i, j;
    for (i = 0; i < plan->step_count; ++i) {
        const ft__step *step = &plan->steps[i];
        const ft__node *node = ft__node_of_step(m, plan, step);
        for (j = 0; !step->for_output && j < node->input_count; ++j) {
            const ft__node *input = ft__node_of(m, plan, ft__input_of(m, plan, step, j));
            if (!ft__is_input(input) || ft__fits_run(m, input)) continue;
            if (input->fed.batch == 0 || input->fed_before != m->runs) return false;
        }
    }
    return true;
}

/* Inputs that are fed one by one may have different batches, or may not have been fed. */
static ft_status ft__check_fed(ft_model *m, const ft__node *input)
{
    ft__context *c = &m->context;
    const char *other = "the last run";
    int i;
    if (input->fed.batch == 0)
        return ft__fail(c, FT_INVALID, "%s: nothing was fed to this input: call ft_feed",
                        input->name);
    for (i = 0; i < m->node_count; ++i)
        if (ft__is_input(&m->nodes[i]) && m->nodes[i].fed.batch == m->batch)
            other = m->nodes[i].name;
    if (input->fed.batch != m->batch)
        return ft__fail(c, FT_SHAPE, "the inputs of a run must have the same batch: %s has %d"
                        " samples, %s has %d", input->name, input->fed.batch, other, m->batch);
    if (ft__has_length(input) && input->fed.length != m->length)
        return ft__fail(c, FT_SHAPE, "%s: was fed with %d steps, but ft_set_length says %d: feed it"
                        " after ft_set_length", input->name, input->fed.length, m->length);
    return c->status;
}

static ft_status ft__check_inputs(ft_model *m, const ft__plan *plan, bool with_loss)
{
    int i, j;
    for (i = 0; i < plan->step_count; ++i) {
        const ft__step *step = &plan->steps[i];
        const ft__node *node = ft__node_of_step(m, plan, step);
        if (!with_loss && !step->for_output) continue;
        for (j = 0; j < node->input_count; ++j) {
            const ft__node *input = ft__node_of(m, plan, ft__input_of(m, plan, step, j));
            if (ft__is_input(input) && ft__check_fed(m, input) != FT_OK) break;
        }
    }
    return m->context.status;
}

/* How many numbers of a weight are NaN or, unless it is a buffer, infinite. */
static size_t ft__count_bad(const ft_model *m, const ft__node *node, size_t count)
{
    ft__stored s = ft__stored_of(node);
    float piece[256];
    size_t at, some, k, bad = 0;
    for (at = 0; at < count; at += some) {
        const float *x = node->value ? node->value + at : piece;
        some = ft__min_size(sizeof piece / sizeof *piece, count - at);
        if (!node->value) ft__read_stored_run(&m->context, &s, at, some, piece);
        for (k = 0; k < some; ++k)
            bad += ft__is_buffer(node) ? x[k] != x[k] : !(x[k] >= -FLT_MAX && x[k] <= FLT_MAX);
    }
    return bad;
}

/* NaN in weights may vanish on the way to the output (relu makes it 0), so weights are checked
   before a run, once after each change; those that training changes, when it is over. A buffer may
   hold infinite numbers, as a mask does. */
static ft_status ft__check_weights(ft_model *m, bool training)
{
    bool look = m->finite[0] != m->version + 1 || m->finite[1] != m->weights_version + 1
        || (!training && !m->context.device && m->finite[2] != m->trained_version + 1);
    int i;
    for (i = 0; look && i < m->node_count; ++i) {
        const ft__node *node = &m->nodes[i];
        size_t count = ft__is_weight(node) ? ft__node_count_at(node, ft__one) : 0, bad;
        bad = count ? ft__count_bad(m, node, count) : 0;
        if (bad)
            return ft__fail(&m->context, FT_NOT_FINITE, "%s: %zu of its %zu numbers are NaN or"
                            " infinite: the file that they were loaded from is damaged, or the"
                            " training failed", node->name, bad, count);
    }
    m->finite[0] = m->version + 1;
    m->finite[1] = m->weights_version + 1;
    m->finite[2] = m->trained_version + 1;
    return m->context.status;
}

/* An error if training would change a weight that is shared. */
static ft_status ft__refuse_training(ft_model *m)
{
    int i, count = ft__shares_weights(m) ? m->node_count : 0;
    for (i = 0; ft__ok(&m->context) && i < count; ++i)
        if (ft__is_weight(&m->nodes[i]) && !ft__node_is_frozen(m, &m->nodes[i]))
            ft__refuse_shared(m, &m->nodes[i], "training");
    return m->context.status;
}

/* An error if the loss does not take weights of samples. */
static ft_status ft__check_weighs(ft_model *m, const char *call)
{
    ft__context *c = &m->context;
    char *marks = (char *)ft__allocate(c, (size_t)m->node_count + 1, 1);
    if (marks && !ft__mark_weighed(m, marks))
        ft__fail(c, FT_INVALID, "%s: weights need a loss over the batch's samples, such as"
                 " ft_cross_entropy, ft_mse, or means and sums of ft_reduce", call);
    ft__release(c, marks);
    return c->status;
}

/* Makes room for `batch` samples in the inputs and the plan; values may then be written. */
static ft__plan *ft__begin(ft_model *m, int batch, bool training)
{
    if (batch < 1) {
        ft__fail(&m->context, FT_INVALID, "a batch of %d samples: at least 1 is expected", batch);
        return NULL;
    }
    if (ft__ready(m, training) != FT_OK || ft__check_weights(m, training) != FT_OK
        || (training && ft__refuse_training(m) != FT_OK)) return NULL;
    m->batch = batch;
    return ft__plan_for(m, ft__extent_of(m, batch), training);
}

/* The number of words of the embedding that reads an input, or 0. */
static int ft__words_of(const ft_model *m, const ft__node *input)
{
    int i, id = (int)(input - m->nodes) + 1;
    for (i = 0; i < m->node_count; ++i)
        if (ft__is(&m->nodes[i], FT__LOOKS_UP) && m->nodes[i].inputs[0] == id)
            return m->nodes[m->nodes[i].inputs[1] - 1].shape.size[0];
    return 0;
}

/* The labels of classes that a node of the loss is computed from, but the output is not; 0: there
   are none near: a loss has few nodes, `left` at most. */
static int ft__labels_below(const ft_model *m, int id, int *left)
{
    const ft__node *node = &m->nodes[id - 1];
    int i, found = 0;
    if ((*left)-- <= 0) return 0;
    if (ft__is(node, FT__CLASSES))
        return id == m->loss.id || node->inputs[0] == m->output.id ? node->inputs[1] : 0;
    if (id == m->output.id) return 0;
    if (ft__is(node, FT__LOOKS_UP) && ft__is_constant(&m->nodes[node->inputs[1] - 1]))
        return node->inputs[0]; /* one row for each class: ft_set_loss_kind makes it */
    for (i = 0; !found && i < node->input_count; ++i)
        found = ft__labels_below(m, node->inputs[i], left);
    return found;
}

/* The class labels that the loss reads; NULL: it reads none. */
static const ft__node *ft__labels_of(const ft_model *m)
{
    int left = 64, id = m->loss.id ? ft__labels_below(m, m->loss.id, &left) : 0;
    return id && ft__is_input(&m->nodes[id - 1]) ? &m->nodes[id - 1] : NULL;
}

/* Whether a node of the loss reads the output by a sigmoid; of `left` nodes at most. */
static bool ft__reads_by_sigmoid(const ft_model *m, int id, int *left)
{
    const ft__node *node = &m->nodes[id - 1];
    bool found = false;
    int i;
    if (id == m->output.id || (*left)-- <= 0) return false;
    for (i = 0; !found && i < node->input_count; ++i)
        found = node->inputs[i] == m->output.id
            ? ft__is(node, FT__BY_SIGMOID)
            : FT__HAS_ARITHMETIC && ft__reads_by_sigmoid(m, node->inputs[i], left);
    return found;
}

/* Whether the loss learns each class on its own: its probability is then the sigmoid of its logit,
   and those of all classes need not add up to 1. */
static bool ft__classes_apart(const ft_model *m)
{
    int left = 64;
    return m->loss.id && m->output.id
        && ft__reads_by_sigmoid(m, m->loss.id, &left);
}

/* The number of classes of a loss of labels: of its weight's rows, or else of its logits. */
static int ft__classes_of(const ft_model *m, const ft__node *loss)
{
    bool itself = ft__is(loss, FT__CLASSES); /* else one that is made of several nodes */
    const ft_shape *logits = &m->nodes[(itself ? loss->inputs[0] : m->output.id) - 1].shape;
    return itself && loss->input_count > 2 ? m->nodes[loss->inputs[2] - 1].shape.size[0]
                                           : logits->size[logits->rank - 1];
}

/* Finds a fault in what was fed to an input, and its index `at`: a number that is not finite, a
   label that is no class of the loss that reads it, or an id that is no word. */
static bool ft__find_fault(const ft_model *m, const ft__node *input, size_t *at)
{
    const ft__node *loss = m->loss.id ? &m->nodes[m->loss.id - 1] : NULL;
    const int32_t *labels = (const int32_t *)(const void *)input->value;
    bool is_label = loss && ft__labels_of(m) == input;
    size_t count = input->fed.batch > 0 ? ft__node_count_at(input, input->fed) : 0, i;
    int classes = is_label ? ft__classes_of(m, loss) : 0;
    int words = input->type == FT_I32 && !is_label ? ft__words_of(m, input) : 0;
    if (!input->value || (input->type != FT_F32 && !is_label && !words)) return false;
    for (i = 0; i < count; ++i) {
        *at = i;
        if (words && (labels[i] < -1 || labels[i] >= words)) return true;
        if (words) continue;
        if (is_label && (labels[i] < 0 ? !ft__is_ignored(labels[i])
                                       : labels[i] >= classes)) return true;
        if (!is_label && !(fabs((double)input->value[i]) <= (double)FLT_MAX)) return true;
    }
    return false;
}

/* Whether the data make a run's numbers not finite, and which sample does: then no learning rate
   helps. Called after the loss, or what frozen layers made, was not finite. */
static bool ft__blame_data(const ft_model *m, char *text, size_t size)
{
    size_t at = 0, each;
    int i, sample;
    for (i = 0; i < m->node_count; ++i) {
        const ft__node *input = &m->nodes[i];
        const ft_source *from = m->fed_from;
        const char *name = NULL;
        char number[40];
        if (!ft__is_input(input) || !ft__find_fault(m, input, &at)) continue;
        each = ft__node_count_at(input, input->fed) / (size_t)input->fed.batch;
        sample = (int)(at / each);
        if (from) sample = m->fed_samples[sample];
        if (from && from->name) name = from->name(from->user, sample);
        if (input->type == FT_I32)
            snprintf(number, sizeof number, "%d, not a %s",
                     ((const int *)(const void *)input->value)[at],
                     ft__words_of(m, input) ? "word" : "class");
        else snprintf(number, sizeof number, "%g", (double)input->value[at]);
        snprintf(text, size, "the data is wrong: \"%.60s\" of sample %d%s%s%.100s%s is %s",
                 input->name, sample, from ? "" : " of the batch", name && *name ? " (" : "",
                 name ? name : "", name && *name ? ")" : "", number);
        return true;
    }
    return false;
}

/* After a run for the output alone: it must be finite, except for -infinity, the logit of a class
   that is ruled out. */
static ft_status ft__check_output(ft_model *m, const ft__plan *plan, int batch, const char *call)
{
    const ft__node *output = &m->nodes[m->output.id - 1];
    const float *value = plan->values[m->output.id - 1];
    size_t count = ft__node_count_at(output, ft__extent_of(m, batch)), i;
    char text[300];
    if (ft__is_leaf(output) || !ft__ok(&m->context)) return m->context.status;
    ft__to_host(&m->context, value, count * sizeof *value);
    for (i = 0; i < count && value[i] <= FLT_MAX; ++i) {}
    if (i == count) return m->context.status;
    if (!ft__blame_data(m, text, sizeof text))
        snprintf(text, sizeof text, "the input or the weights are far too large");
    return ft__fail(&m->context, FT_NOT_FINITE, "%s: the output \"%.100s\" of sample %zu is %g: %s",
                    call, output->name,
                    count < (size_t)batch ? (size_t)0 : i / (count / (size_t)batch),
                    (double)value[i], text);
}

static ft_status ft__loss_failed(ft_model *m, uint64_t step)
{
    char text[300];
    if (ft__blame_data(m, text, sizeof text))
        return ft__fail(&m->context, FT_NOT_FINITE, "step %llu: the loss is not finite: %s",
                        (unsigned long long)step, text);
    return ft__fail(&m->context, FT_NOT_FINITE, "step %llu: the loss is not finite (a smaller"
                    " learning rate may help; or is there a label that is not a class?)",
                    (unsigned long long)step);
}

/* The value of the loss in the last run; an error if it is not finite. */
static float ft__read_loss(ft_model *m, const ft__plan *plan)
{
    float loss;
    ft__to_host(&m->context, plan->values[m->loss.id - 1], sizeof loss);
    loss = plan->values[m->loss.id - 1][0];
    if (!(fabs((double)loss) <= 3e38)) ft__loss_failed(m, m->step);
    return loss;
}
