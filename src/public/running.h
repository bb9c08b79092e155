#pragma once
#include "interface/types.h"
#include "interface/operators.h"
#include "interface/training_types.h"
#include "platform/families.h"
#include "platform/context.h"
#include "basics/numbers.h"
#include "basics/strings.h"
#include "basics/files.h"
#include "kernels/stored.h"
#include "nodes/nodes.h"
#include "nodes/sharing.h"
#include "nodes/storage.h"
#include "nodes/initialisers.h"
#include "operators/table.h"
#include "operators/adding.h"
#include "operators/rows.h"
#include "optimizers/options.h"
#include "optimizers/schedules.h"
#include "optimizers/embedding_rows.h"
#include "devices/device.h"
#include "graph/plan.h"
#include "graph/calls.h"
#include "graph/memory.h"
#include "graph/forward_backward.h"
#include "graph/update.h"
#include "graph/settings.h"
#include "graph/surgery.h"
#include "graph/building.h"
#include "graph/losses.h"
#include "data/image_files.h"
#include "data/sources.h"
#include "training/fit.h"
#include "training/find_rate.h"
#include "training/evaluate.h"
#include "training/calibration.h"
#include "training/recipe_text.h"
#include "training/generate.h"
#include "training/embed.h"
#include "training/predict_words.h"

/* =============================================================================================
   [SECTION] public/running: Public functions: looking, adjusting, running
   ============================================================================================= */
/* ---- Which nodes matter ---- */

int ft_node_count(const ft_model *m) { return m ? m->node_count : 0; }

const char *ft_node_name(const ft_model *m, ft_node node)
{
    const ft__node *found = ft__get_node(m, node);
    return found ? found->name : "";
}

const char *ft_node_operator(const ft_model *m, ft_node node)
{
    const ft__node *found = ft__get_node(m, node);
    return found ? ft__rows[found->op]->name : "";
}

ft_shape ft_node_shape(const ft_model *m, ft_node node)
{
    const ft__node *found = ft__get_node(m, node);
    ft_shape none;
    memset(&none, 0, sizeof none);
    return found ? found->shape : none;
}

int ft_node_inputs(const ft_model *m, ft_node node, ft_node *inputs, int most)
{
    const ft__node *found = ft__get_node(m, node);
    int i;
    if (!found) return 0;
    for (i = 0; inputs && i < found->input_count && i < most; ++i) inputs[i].id = found->inputs[i];
    return found->input_count;
}

bool ft_node_frozen(const ft_model *m, ft_node node)
{
    const ft__node *found = ft__get_node(m, node);
    return found && ft__node_is_frozen(m, found);
}

uint64_t ft_node_multiply_adds(const ft_model *m, ft_node node)
{
    const ft__node *found = ft__get_node(m, node);
    ft_model *unchanged = (ft_model *)(uintptr_t)m;
    return found ? ft__costs_of(unchanged, found, ft__one, false).multiply_adds : 0;
}

ft_time ft_node_time(const ft_model *m, ft_node node)
{
    ft_time none = {0, 0};
    const ft__node *found = ft__get_node(m, node);
    return found ? found->time : none;
}

const char *ft_architecture(const ft_model *m)
{
    return m && m->architecture ? m->architecture : "";
}

/* Whether the last run computed this node. */
static bool ft__was_run(const ft_model *m, const ft__plan *plan, int id)
{
    int i;
    for (i = m->ran_from; i < plan->step_count; ++i)
        if (plan->steps[i].output == id) return m->ran_loss || plan->steps[i].for_output;
    return false;
}

/* The memory that holds a node's value now, and its size; NULL with an error. */
static float *ft__value_of(ft_model *m, ft_node node, const char *call, ft__extent *size)
{
    const ft__node *found;
    ft__plan *plan;
    if (!ft__check_node(m, node, call)) return NULL;
    plan = m->last_run;
    found = &m->nodes[node.id - 1];
    *size = ft__extent_of(m, m->batch);
    if (ft__is_input(found) && found->fed.batch > 0) *size = found->fed;
    if (ft__is_weight(found)) return found->value;
    if (ft__has_rows(found) && found->value && ft__holds(found->capacity, *size))
        return found->value;
    if (ft__has_rows(found)) {
        ft__fail(&m->context, FT_INVALID, "%s: %s: nothing was fed to it yet", call, found->name);
        return NULL;
    }
    *size = m->ran;
    if (plan && !m->ran_loss && node.id == m->loss.id && node.id != m->output.id) {
        ft__fail(&m->context, FT_INVALID, "%s: %s: the last run computed no loss: its labels were"
                 " not fed", call, found->name);
        return NULL;
    }
    if (plan && node.id <= plan->node_count && (plan->read_later[node.id - 1] & FT__VALUE)
        && ft__was_run(m, plan, node.id)) return plan->values[node.id - 1];
    ft__fail(&m->context, FT_INVALID, !plan || !found->keep_value
             ? "%s: only parameters, inputs, the output and the loss keep their values after a run,"
               " and nodes of ft_keep; there must have been one since the last ft_feed"
             : "%s: was not computed in the last run: ft_keep came after it, it reads an input that"
               " was not fed, or ft_fit had the outputs of frozen layers in its cache",
             found->name);
    return NULL;
}

static ft_status ft__check_count(ft_model *m, ft_node node, size_t count, ft__extent size)
{
    size_t want = ft__node_count_at(&m->nodes[node.id - 1], size);
    if (count == want) return ft__status_of(m);
    return ft__fail(&m->context, FT_SHAPE, "%s: has %zu numbers, not %zu",
                    ft_node_name(m, node), want, count);
}

ft_status ft_get(ft_model *m, ft_node node, float *to, size_t count)
{
    ft__extent size;
    const float *value;
    if (ft__get_node(m, node) && ft__is_stored(ft__get_node(m, node))) {
        if (!ft__usable(m) || ft__check_count(m, node, count, ft__one) != FT_OK
            || !ft__given(&m->context, to, "ft_get: to")) return ft__status_of(m);
        ft__read_stored_run(&m->context, &m->nodes[node.id - 1].stored, 0, count, to);
        return FT_OK;
    }
    value = ft__value_of(m, node, "ft_get", &size);
    if (!value || ft__check_count(m, node, count, size) != FT_OK
        || !ft__given(&m->context, to, "ft_get: to")) return ft__status_of(m);
    ft__catch_up(&m->context, &m->nodes[node.id - 1], NULL, 0);
    ft__read_value(m, &m->nodes[node.id - 1], value, size, to);
    return FT_OK;
}

ft_status ft_set(ft_model *m, ft_node node, const float *from, size_t count)
{
    ft__extent size = ft__one;
    ft__node *found = ft__get_node(m, node);
    bool rows = found && ft__has_rows(found), weight = found && ft__is_weight(found);
    float *value = rows || weight ? NULL : ft__value_of(m, node, "ft_set", &size);
    ft_type type = weight ? ft__value_type(found) : FT_F32;
    if (rows) size = ft__extent_of(m, m->batch);
    if (!ft__usable(m) || (!rows && !weight && !value)
        || ft__check_count(m, node, count, size) != FT_OK
        || !ft__given(&m->context, from, "ft_set: from")) return ft__status_of(m);
    if (weight && ft__own_float32(m, found, false) != FT_OK) return ft__status_of(m);
    if (weight) value = found->value;
    if (rows) {
        if (ft__plan_leaves(m, size, false) != FT_OK) return ft__status_of(m);
        ft__fill_input(m, &m->nodes[node.id - 1], from, size.batch);
    } else {
        if (ft__refuse_shared(m, &m->nodes[node.id - 1], "ft_set") != FT_OK)
            return m->context.status;
        ft__host_takes_weights(&m->context, true);
        memcpy(value, from, count * sizeof *from);
        if (weight) ft__store(m, found, type);
    }
    m->weights_version += 1;
    return ft__status_of(m);
}

/* Why a node has no gradient; for a layer names its first parameter. */
static ft_status ft__no_gradient(ft_model *m, const ft__node *node)
{
    char layer[300] = "";
    size_t bytes = strlen(node->name);
    int i;
    if (ft__is_parameter(node))
        return ft__fail(&m->context, FT_INVALID, "%s: has no gradient: %s", node->name, node->frozen
                        ? "it is frozen (ft_unfreeze)"
                        : "no training step was run (ft_forward, ft_backward)");
    for (i = m->node_count - 1; i >= 0; --i) {
        const ft__node *other = &m->nodes[i];
        if (ft__is_parameter(other) && strncmp(other->name, node->name, bytes) == 0
            && other->name[bytes] == '.')
            snprintf(layer, sizeof layer, "; the layer has the parameter \"%.200s\"", other->name);
    }
    return ft__fail(&m->context, FT_INVALID, "%s: has no gradient: it is not a parameter%s, nor"
                    " asked for with ft_want_gradient", node->name, layer);
}

ft_status ft_get_gradient(ft_model *m, ft_node node, float *to, size_t count)
{
    const ft__node *found;
    const float *gradient;
    ft__extent size = ft__one;
    if (!FT__HAS(m, TRAINING) || !ft__check_node(m, node, "ft_get_gradient"))
        return ft__status_of(m);
    found = &m->nodes[node.id - 1];
    gradient = found->gradient;
    if (found->want_gradient) {
        const ft__plan *plan = m->last_run;
        if (!plan || !m->backward_done || node.id > plan->node_count
            || !(plan->read_later[node.id - 1] & FT__GRADIENT))
            return ft__fail(&m->context, FT_INVALID, "%s: has no gradient yet: call ft_forward(m,"
                            " true) and ft_backward after ft_want_gradient and ft_feed",
                            found->name);
        gradient = plan->gradients[node.id - 1];
        size = m->ran;
        if (!gradient)
            return ft__fail(&m->context, FT_INVALID, "%s: has no gradient: the loss does not depend"
                            " on it", found->name);
    }
    if (!gradient) return ft__no_gradient(m, found);
    if (ft__check_count(m, node, count, size) != FT_OK
        || !ft__given(&m->context, to, "ft_get_gradient: to")) return ft__status_of(m);
    ft__read_value(m, found, gradient, size, to);
    return FT_OK;
}

ft_status ft_keep(ft_model *m, ft_node node)
{
    if (!ft__check_node(m, node, "ft_keep")) return ft__status_of(m);
    if (ft__is_leaf(&m->nodes[node.id - 1]))
        return ft__fail(&m->context, FT_INVALID, "ft_keep: %s has no effect here: parameters and"
                        " inputs keep their values anyway", m->nodes[node.id - 1].name);
    m->version += !m->nodes[node.id - 1].keep_value;
    m->nodes[node.id - 1].keep_value = true;
    return FT_OK;
}

ft_status ft_want_gradient(ft_model *m, ft_node node)
{
    const ft__node *found;
    if (!FT__HAS(m, TRAINING) || !ft__check_node(m, node, "ft_want_gradient"))
        return ft__status_of(m);
    found = &m->nodes[node.id - 1];
    if (ft__is_weight(found) || found->type != FT_F32)
        return ft__fail(&m->context, FT_INVALID, "ft_want_gradient: %s has %s", found->name,
                        found->type != FT_F32 ? "no gradient: it holds integers"
                        : "a gradient if it is trained (ft_unfreeze), else none");
    m->version += !found->want_gradient;
    m->nodes[node.id - 1].want_gradient = true;
    return FT_OK;
}

ft_status ft_forget(ft_model *m, ft_node node)
{
    ft__node *found;
    if (!ft__check_node(m, node, "ft_forget")) return ft__status_of(m);
    found = &m->nodes[node.id - 1];
    m->version += found->keep_value || found->want_gradient;
    found->keep_value = found->want_gradient = false;
    return FT_OK;
}

ft_plan_bytes ft_plan(ft_model *m, int batch_size, bool training)
{
    ft_plan_bytes bytes;
    ft__plan *plan;
    int i;
    memset(&bytes, 0, sizeof bytes);
    if (training && !FT__HAS(m, TRAINING)) return bytes;
    if (ft__ready(m, training) != FT_OK) return bytes;
    if (batch_size < 1) {
        ft__fail(&m->context, FT_INVALID, "ft_plan: a batch of %d samples: at least 1 is expected",
                 batch_size);
        return bytes;
    }
    plan = ft__plan_make(m, ft__extent_of(m, batch_size), training, true);
    if (!plan) return bytes;
    for (i = 0; i < m->node_count; ++i) {
        const ft__node *node = &m->nodes[i];
        size_t each = ft__node_count_at(node, plan->most) * sizeof(float);
        if (ft__has_rows(node)) bytes.activations += each;
        if (!ft__is_weight(node)) continue;
        if (ft__stays_stored(node, training)) each = ft__value_bytes(node);
        if (node->mapping && !(training && !node->frozen)) bytes.mapped += each;
        else if (!node->borrowed) bytes.parameters += each;
        if (!training || !ft__is_parameter(node) || node->frozen) continue;
        bytes.gradients += each;
        bytes.optimizer += (ft__moment_numbers(m, node, 0) + ft__moment_numbers(m, node, 1))
            * sizeof(float);
        if (ft__rows_can_rest(m, i + 1))
            bytes.optimizer += ft__resting_bytes((size_t)node->shape.size[0]);
    }
    bytes.activations += plan->memory_bytes;
    bytes.workspace = plan->workspace_bytes + plan->weight_bytes;
    if (m->context.device)
        bytes.device = plan->memory_bytes + plan->weight_bytes + ft__device_besides(m, plan);
    bytes.total = ft__plan_total(m, plan);
    bytes.other = bytes.total - bytes.parameters - bytes.gradients - bytes.optimizer
        - bytes.activations - bytes.workspace - bytes.device;
    if (plan->memory_bytes > plan->room) ft__plan_refuse(m, plan, plan->room);
    ft__plan_free(&m->context, plan);
    return bytes;
}

/* ---- Adjusting it ---- */

int ft_freeze(ft_model *m, const char *glob)
{
    ft__say_unmatched(m, "ft_freeze", glob, ft__can_freeze);
    return ft__set_frozen(m, glob, true);
}

int ft_unfreeze(ft_model *m, const char *glob)
{
    ft__say_unmatched(m, "ft_unfreeze", glob, ft__can_freeze);
    return ft__set_frozen(m, glob, false);
}

int ft_set_type(ft_model *m, const char *glob, ft_type type)
{
    int i, count = 0;
    if (!ft__usable(m)) return 0;
    ft__say_unmatched(m, "ft_set_type", glob, ft__is_parameter);
    ft__check_type(m, "ft_set_type", type);
    for (i = 0; ft__ok(&m->context) && i < m->node_count; ++i) {
        ft__node *node = &m->nodes[i];
        if (!ft__is_parameter(node) || !ft__glob(glob, node->name)) continue;
        count += 1;
        if (!ft__may_be_stored(node)) continue;
        if (type != FT_F32 && !node->frozen)
            ft__fail(&m->context, FT_INVALID, "ft_set_type: %s is trained, which needs F32, not"
                     " %s: freeze it first (ft_freeze)", node->name, ft__type_names[type]);
        ft__store(m, node, type);
    }
    return count;
}

ft_type ft_node_type(const ft_model *m, ft_node node)
{
    const ft__node *found = ft__get_node(m, node);
    return !found || !ft__is_any(found) ? FT_OTHER : ft__value_type(found);
}

ft_digest ft_frozen_digest(ft_model *m) { return ft__digest(m); }

ft_status ft_replace_head(ft_model *m, int classes)
{
    return FT__HAS(m, SURGERY) ? ft__replace_head(m, classes) : ft__status_of(m);
}

static bool ft__has_activation(const ft__node *node) { return ft__is(node, FT__BY_KIND); }

/* What an activation was before it was swapped. */
typedef struct ft__swapped {
    int id, op, input_count;
    int *inputs;            /* NULL: they stay */
    ft__options options;
} ft__swapped;

/* Changes one activation; its slopes, the second input, come and go with it. */
static void ft__swap_activation(ft_model *m, int id, const ft__row *row, const ft__options *o,
                                ft__swapped *was)
{
    ft__node *node = &m->nodes[id - 1];
    ft_node x = {node->inputs[0]}, slopes = {0};
    bool wants = row->least_inputs > 1;
    int *inputs;
    was->id = id;
    was->op = node->op;
    was->options = node->options;
    was->input_count = node->input_count;
    if (wants != (node->input_count > 1)) {
        if (ft__refuse_any_shared(m, "ft_swap_activations") != FT_OK) return;
        if (wants)
            slopes = ft__slopes_parameter(m, node->name, x, o->activation.per_channel);
        inputs = (int *)ft__allocate(&m->context, 3, sizeof *inputs);
        if (!ft__ok(&m->context)) return;
        node = &m->nodes[id - 1]; /* the nodes may have moved */
        inputs[0] = x.id;
        inputs[1] = slopes.id;
        was->inputs = node->inputs;
        node->inputs = inputs;
        node->input_count = wants ? 2 : 1;
    }
    node->op = row->op;
    node->options = *o;
}

/* Ends a swap: the old slopes go or, with an error, all becomes what it was. */
static void ft__swap_end(ft_model *m, const ft__swapped *was, int count, const ft__rewiring *before,
                         int nodes)
{
    int i;
    for (i = 0; i < count; ++i) {
        ft__node *node = &m->nodes[was[i].id - 1];
        int *unread = was[i].inputs;
        if (!ft__ok(&m->context)) {
            node->op = was[i].op;
            node->options = was[i].options;
            node->input_count = was[i].input_count;
            if (unread) unread = node->inputs;
            if (unread) node->inputs = was[i].inputs;
        } else if (unread && was[i].input_count > 1) ft__remove_unread(m, unread[1]);
        ft__release(&m->context, unread);
    }
    if (ft__ok(&m->context)) return;
    ft__remove_last_nodes(m, nodes);
    for (i = 0; i < nodes; ++i) m->nodes[i].shape = before->shapes[i];
    memcpy(m->order, before->order, (size_t)nodes * sizeof *m->order);
}

int ft_swap_activations(ft_model *m, const char *glob, const char *kind,
                        ft_activation_options options)
{
    const ft__row *row;
    ft__options o;
    ft__rewiring before;
    ft__swapped *was;
    int id, count = 0, nodes, classes;
    if (!ft__usable(m) || !FT__HAS(m, SURGERY)) return 0;
    classes = ft_class_count(m);
    ft__say_unmatched(m, "ft_swap_activations", glob, ft__has_activation);
    memset(&o, 0, sizeof o);
    o.activation = options;
    row = ft__activation_of(m, kind, &options);
    nodes = m->node_count;
    if (!row) return 0;
    was = (ft__swapped *)ft__allocate(&m->context, (size_t)nodes + 1, sizeof *was);
    if (ft__rewiring_make(m, &before)) {
        for (id = 1; ft__ok(&m->context) && id <= nodes; ++id)
            if (ft__is(&m->nodes[id - 1], FT__BY_KIND) && ft__glob(glob, m->nodes[id - 1].name))
                ft__swap_activation(m, id, row, &o, &was[count++]);
        if (ft__ok(&m->context) && ft__sort_nodes(m)) ft__infer_all(m);
        ft__swap_end(m, was, count, &before, nodes);
        if (ft__ok(&m->context) && classes != ft_class_count(m)) ft__release_class_names(m);
        m->version += 1;
    }
    ft__rewiring_free(&m->context, &before);
    ft__release(&m->context, was);
    return ft__ok(&m->context) ? count : 0;
}

/* Sets the factor or the decay of every matching parameter. */
static int ft__set_rule(ft_model *m, const char *glob, const float *factor, const float *decay)
{
    int i, count = 0;
    for (i = 0; ft__usable(m) && i < m->node_count; ++i) {
        ft__node *node = &m->nodes[i];
        if (!ft__is_parameter(node) || !ft__glob(glob, node->name)) continue;
        if (factor) node->learning_rate_factor = *factor;
        if (decay) node->weight_decay = *decay;
        count += 1;
    }
    return count;
}

int ft_scale_learning_rate(ft_model *m, const char *glob, float factor)
{
    if (!FT__HAS(m, TRAINING)) return 0;
    if (ft__usable(m) && !ft__not_negative(factor))
        ft__fail(&m->context, FT_INVALID, "ft_scale_learning_rate: factor is %g; it must be finite"
                 " and not negative", (double)factor);
    ft__say_unmatched(m, "ft_scale_learning_rate", glob, ft__is_parameter);
    return ft__set_rule(m, glob, &factor, NULL);
}

int ft_set_weight_decay(ft_model *m, const char *glob, float weight_decay)
{
    if (!FT__HAS(m, TRAINING)) return 0;
    if (ft__usable(m) && !ft__is_finite(weight_decay))
        ft__fail(&m->context, FT_INVALID, "ft_set_weight_decay: %g: it must be finite",
                 (double)weight_decay);
    ft__say_unmatched(m, "ft_set_weight_decay", glob, ft__is_parameter);
    return ft__set_rule(m, glob, NULL, &weight_decay);
}

int ft_initialise(ft_model *m, const char *glob, ft_initialiser initialiser)
{
    int i, count = 0;
    if (!ft__usable(m)) return 0;
    if ((unsigned)initialiser > FT_INIT_QUARTER) {
        ft__fail(&m->context, FT_INVALID, "ft_initialise: initialiser %d: it must be"
                 " FT_INIT_DEFAULT to FT_INIT_QUARTER", (int)initialiser);
        return 0;
    }
    ft__say_unmatched(m, "ft_initialise", glob, ft__is_weight);
    ft__host_takes_weights(&m->context, true);
    for (i = 0; ft__ok(&m->context) && i < m->node_count; ++i) {
        ft__node *node = &m->nodes[i];
        ft_type type = ft__value_type(node);
        if (!ft__is_weight(node) || ft__is_constant(node)
            || !ft__glob(glob, node->name)) continue;
        if (ft__refuse_shared(m, node, "ft_initialise") != FT_OK) break;
        if (initialiser != FT_INIT_DEFAULT && ft__is_parameter(node))
            node->initialiser = initialiser; /* not of a buffer: a running variance starts at 1 */
        ft__initialise_node(m, node);
        ft__store(m, node, type);
        count += 1;
    }
    m->weights_version += 1;
    return count;
}

/* ---- Training by hand ---- */

ft_status ft_set_optimizer(ft_model *m, ft_optimizer_options options)
{
    if (!ft__usable(m) || !FT__HAS(m, TRAINING)) return ft__status_of(m);
    ft__optimizer_check(&m->context, "ft_set_optimizer", &options);
    if (options.learning_rate > 0)
        ft__log(&m->context, "ft_set_optimizer: learning_rate %g has no effect: ft_update is given"
                " one at each step", (double)options.learning_rate);
    return ft__set_optimizer(m, options);
}

ft_status ft_feed(ft_model *m, ft_node input, const void *values, int batch)
{
    if (!ft__check_node(m, input, "ft_feed")) return ft__status_of(m);
    if (!ft__is_input(&m->nodes[input.id - 1]))
        return ft__fail(&m->context, FT_INVALID, "%s: is not an input",
                        m->nodes[input.id - 1].name);
    if (batch < 1)
        return ft__fail(&m->context, FT_INVALID, "%s: a batch of %d samples: at least 1 is"
                        " expected", ft_node_name(m, input), batch);
    if (!ft__given(&m->context, values, "ft_feed: values")) return ft__status_of(m);
    if (ft__plan_leaves(m, ft__extent_of(m, batch), false) != FT_OK) return ft__status_of(m);
    ft__fill_input(m, &m->nodes[input.id - 1], values, batch);
    m->batch = batch;
    return FT_OK;
}

ft_status ft_feed_weights(ft_model *m, const float *weights, int batch)
{
    ft__context *c;
    int i;
    if (!ft__usable(m) || !FT__HAS(m, TRAINING)) return ft__status_of(m);
    c = &m->context;
    if (weights && (batch < 1 || ft__check_weighs(m, "ft_feed_weights") != FT_OK))
        return ft__fail(c, FT_INVALID, "ft_feed_weights: a batch of %d samples: at least 1 is"
                        " expected", batch);
    for (i = 0; weights && i < batch; ++i)
        if (!ft__not_negative(weights[i]))
            return ft__fail(c, FT_INVALID, "ft_feed_weights: weights[%d] is %g; it must be finite"
                            " and not negative", i, (double)weights[i]);
    if (!weights || batch > m->fed_weight_count) {
        ft__release(c, m->fed_weights);
        m->fed_weights = weights ? (float *)ft__allocate(c, (size_t)batch, sizeof *weights) : NULL;
    }
    m->fed_weight_count = m->fed_weights ? batch : 0;
    if (m->fed_weights) memcpy(m->fed_weights, weights, (size_t)batch * sizeof *weights);
    return c->status;
}

float ft_forward(ft_model *m, bool training)
{
    ft__plan *plan;
    bool with_loss;
    if (!ft__usable(m) || (training && !FT__HAS(m, TRAINING))) return 0;
    if (ft__ready(m, training) == FT_OK && m->batch < 1)
        ft__fail(&m->context, FT_INVALID, "no input was fed: call ft_feed");
    plan = ft__begin(m, m->batch, training);
    with_loss = plan && (training || !m->output.id || ft__loss_is_fed(m, plan));
    if (!plan || ft__check_inputs(m, plan, with_loss) != FT_OK) return 0;
    if (with_loss && m->fed_weights && m->fed_weight_count != m->batch) {
        ft__fail(&m->context, FT_SHAPE, "ft_feed_weights was given %d weights, but the batch has %d"
                 " samples", m->fed_weight_count, m->batch);
        return 0;
    }
    if (training) m->step += 1;
    m->last_run = plan;
    m->sample_weights = m->fed_weights;
    ft__run_forward(m, plan, 0, plan->step_count, m->batch, with_loss ? 0 : FT__ONLY_OUTPUT);
    m->sample_weights = NULL;
    if (!training && m->output.id) ft__check_output(m, plan, m->batch, "ft_forward");
    return m->loss.id && with_loss && ft__ok(&m->context) ? ft__read_loss(m, plan) : 0;
}

ft_status ft_backward(ft_model *m)
{
    ft__plan *plan;
    if (!ft__usable(m) || !FT__HAS(m, TRAINING)) return ft__status_of(m);
    plan = m->last_run;
    if (!plan || !plan->training || m->backward_done)
        return ft__fail(&m->context, FT_INVALID, "ft_backward must be called after ft_forward(m,"
                        " true), and only once: its gradients replace the values");
    if (!ft__plan_learns(plan))
        return ft__fail(&m->context, FT_INVALID, "nothing to train: all parameters are frozen");
    m->sample_weights = m->fed_weights;
    ft__run_backward(m, plan, m->batch, 1);
    m->sample_weights = NULL;
    return FT_OK;
}

ft_status ft_update(ft_model *m, float learning_rate)
{
    ft_optimizer_options defaults;
    memset(&defaults, 0, sizeof defaults);
    if (!FT__HAS(m, TRAINING)) return ft__status_of(m);
    if (ft__usable(m) && !m->optimizer) ft__set_optimizer(m, defaults);
    if (!ft__usable(m)) return ft__status_of(m);
    if (!ft__not_negative(learning_rate))
        return ft__fail(&m->context, FT_INVALID, "ft_update: learning_rate is %g; it must be finite"
                        " and not negative", (double)learning_rate);
    if (ft__refuse_training(m) != FT_OK) return m->context.status;
    if (!m->gradients_wait)
        return ft__fail(&m->context, FT_INVALID, "ft_update must be called after ft_backward");
    return ft__optimizer_step(m, learning_rate);
}

float ft_schedule_factor(ft_schedule schedule, int step, int steps, int step_size, float gamma,
                         int warmup)
{
    return (float)ft__schedule(schedule, step, steps, step_size, (double)gamma, warmup);
}

/* ---- Training ---- */

ft_fit_result ft_fit(ft_model *m, ft_data *data, ft_fit_options options)
{
    ft_fit_result none;
    memset(&none, 0, sizeof none);
    if (!FT__HAS(m, TRAINING) || !FT__HAS(m, DATA)) return none;
    return ft__fit_run(m, data, options, "", true, NULL);
}

float ft_find_learning_rate(ft_model *m, ft_data *data, ft_fit_options fit,
                            ft_find_options options)
{
    float rate;
    if (!FT__HAS(m, TRAINING) || !FT__HAS(m, DATA) || !ft__usable(m)) return 0;
    if (!ft__given(&m->context, data, "ft_find_learning_rate: the data")) return 0;
    rate = ft__find_rate(m, data, fit, options, "rate", NULL);
    return rate > 0 ? rate : 0;
}

ft_finetune_result ft_finetune(ft_model *m, ft_data *data, ft_finetune_options options)
{
    ft_finetune_result r;
    ft_loss_options plain;
    memset(&r, 0, sizeof r);
    memset(&plain, 0, sizeof plain);
    if (!FT__HAS(m, TRAINING) || !FT__HAS(m, DATA)) return r;
    if (ft__usable(m) && ft__refuse_any_shared(m, "ft_finetune") != FT_OK) return r;
    r = ft__finetune(m, data, options, NULL);
    if (options.teacher && ft__usable(m) && !r.fit.stopped)
        ft_set_loss_kind(m, "cross_entropy", plain);
    return r;
}

/* ---- Prediction ---- */

int ft_predict_text(ft_model *m, const char *text, size_t bytes, ft_prediction *best, int count)
{
    ft__said_text said = {"ft_predict_text", text, bytes, NULL, 0};
    return FT__HAS(m, TEXT) ? ft__predict_text(m, &said, best, count) : 0;
}

int ft_predict_pair(ft_model *m, const char *first, size_t first_bytes, const char *second,
                    size_t second_bytes, ft_prediction *best, int count)
{
    ft__said_text said = {"ft_predict_pair", first, first_bytes, second, second_bytes};
    if (!FT__HAS(m, TEXT) || !ft__usable(m)
        || !ft__given(&m->context, second, "ft_predict_pair: the second text")) return 0;
    return ft__predict_text(m, &said, best, count);
}

ft_status ft_run_text(ft_model *m, const char *text, size_t bytes, const char *second,
                      size_t second_bytes, float *output, size_t count)
{
    ft__said_text said = {"ft_run_text", text, bytes, second, second_bytes};
    return FT__HAS(m, TEXT) ? ft__run_text(m, &said, output, count) : ft__status_of(m);
}

int ft_predict_entities(ft_model *m, const char *text, size_t bytes, ft_entity *entities, int most)
{
    return FT__HAS(m, TEXT) ? ft__predict_entities(m, text, bytes, entities, most) : 0;
}

int ft_predict_words(ft_model *m, const char *const *words, int count, ft_prediction *best)
{
    return FT__HAS(m, TEXT) ? ft__predict_words(m, words, count, best) : 0;
}

int ft_predict_data(ft_model *m, ft_data *data, ft_prediction *best, int count,
                    ft_predict_options options)
{
    return FT__HAS(m, DATA) ? ft__predict_data(m, data, best, count, options) : 0;
}

int ft_embed_texts(ft_model *m, const char *const *texts, int count, float *vectors,
                   size_t numbers, ft_embed_options options)
{
    return FT__HAS(m, TEXT) && FT__HAS(m, DATA)
        ? ft__embed_texts(m, texts, count, vectors, numbers, options) : 0;
}

int ft_generate(ft_model *m, ft_generate_options options)
{
    return FT__HAS(m, TEXT) ? ft__generate(m, options) : 0;
}

/* Checks the arguments of ft_run and ft_run_lengths; returns NULL with an error. */
static ft__plan *ft__begin_run(ft_model *m, const void *values, const int *lengths, int batch,
                               const float *output, size_t count, const char *call)
{
    ft__context *c;
    ft__plan *plan;
    size_t want;
    int i;
    if (!ft__usable(m)) return NULL;
    c = &m->context;
    if (!ft__given(c, values, "ft_run: values") || !ft__given(c, output, "ft_run: output"))
        return NULL;
    plan = ft__begin(m, batch, false);
    if (!plan || !ft__main_input(m, plan, call).id) return NULL;
    want = ft__node_count_at(&m->nodes[m->output.id - 1], ft__extent_of(m, batch));
    if (count != want)
        ft__fail(c, FT_SHAPE, "%s: the output of %d samples has %zu numbers, not count = %zu", call,
                 batch, want, count);
    if (lengths && !ft__lengths_input(m))
        ft__fail(c, FT_INVALID, "%s: lengths have no effect here: the network has no input"
                 " \"lengths\", I32 [N]", call);
    for (i = 0; lengths && i < batch; ++i)
        if (lengths[i] < 0 || lengths[i] > m->length)
            ft__fail(c, FT_INVALID, "%s: lengths[%d] is %d; it must be 0 to %d, the steps that"
                     " ft_set_length says", call, i, lengths[i], m->length);
    return ft__ok(c) ? plan : NULL;
}

ft_status ft_run_lengths(ft_model *m, const void *values, const int *lengths, int batch,
                         float *output, size_t count)
{
    const char *call = lengths ? "ft_run_lengths" : "ft_run";
    ft__plan *plan = ft__begin_run(m, values, lengths, batch, output, count, call);
    ft__node *padded;
    int i;
    if (!plan) return ft__status_of(m);
    ft__fill_input(m, &m->nodes[ft__main_input(m, plan, call).id - 1], values, batch);
    padded = ft__lengths_input(m);
    for (i = 0; padded && i < batch; ++i)
        ((int32_t *)(void *)padded->value)[i] = lengths ? lengths[i] : m->length;
    if (padded) ft__is_fed(m, padded, batch);
    ft__fill_types(m, NULL, batch);
    m->batch = batch;
    m->last_run = plan;
    ft__run_forward(m, plan, 0, plan->step_count, batch, FT__ONLY_OUTPUT);
    if (ft__check_output(m, plan, batch, call) != FT_OK) return ft__status_of(m);
    ft__read_value(m, &m->nodes[m->output.id - 1], plan->values[m->output.id - 1],
                   ft__extent_of(m, batch), output);
    return ft__status_of(m);
}

ft_status ft_run(ft_model *m, const void *values, int batch, float *output, size_t count)
{
    return ft_run_lengths(m, values, NULL, batch, output, count);
}

int ft_predict_memory(ft_model *m, const void *bytes, size_t count_of_bytes, ft_prediction *best,
                      int count)
{
    float *picture;
    ft__plan *plan;
    if (!FT__HAS(m, IMAGES)) return 0;
    plan = ft__begin_picture(m, &picture, best, count, "ft_predict_memory");
    if (!plan) return 0;
    ft__given(&m->context, bytes, "ft_predict_memory: bytes");
    ft__encoded_to_input(&m->context, &m->preprocessing, bytes, count_of_bytes, "the picture",
                         picture);
    return ft__predict_picture(m, plan, picture, best, count, "ft_predict_memory");
}

int ft_predict_file(ft_model *m, const char *path, ft_prediction *best, int count)
{
    float *picture;
    ft__plan *plan;
    unsigned char *bytes;
    size_t size = 0;
    if (!FT__HAS(m, IMAGES)) return 0;
    plan = ft__begin_picture(m, &picture, best, count, "ft_predict_file");
    if (!plan) return 0;
    bytes = ft__given(&m->context, path, "ft_predict_file: the path")
        ? ft__read_file(&m->context, path, &size) : NULL;
    if (bytes) ft__encoded_to_input(&m->context, &m->preprocessing, bytes, size, path, picture);
    ft__release(&m->context, bytes);
    return ft__predict_picture(m, plan, picture, best, count, "ft_predict_file");
}

int ft_predict_pixels(ft_model *m, const uint8_t *pixels, int width, int height, int channels,
                      ft_prediction *best, int count)
{
    float *picture;
    ft__plan *plan = ft__begin_picture(m, &picture, best, count, "ft_predict_pixels");
    if (!plan) return 0;
    ft__pixels_to_input(&m->context, &m->preprocessing, pixels, width, height, channels,
                        "the pixels", picture);
    return ft__predict_picture(m, plan, picture, best, count, "ft_predict_pixels");
}

ft_calibration ft_calibrate(ft_model *m, ft_data *data, ft_calibrate_options options)
{
    ft_calibration none;
    memset(&none, 0, sizeof none);
    return FT__HAS(m, DATA) ? ft__calibrate(m, data, options) : none;
}

ft_evaluation ft_evaluate(ft_model *m, ft_data *data, ft_evaluate_options options)
{
    ft_evaluation none;
    memset(&none, 0, sizeof none);
    if (!FT__HAS(m, DATA)) return none;
    if (FT__HAS_TEXT && ft__usable(m) && ft__has_pairs(data))
        return ft__evaluate_pairs(m, data, options);
    return ft__evaluate(m, data, options);
}
