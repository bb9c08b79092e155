#pragma once
#include "interface/types.h"
#include "platform/context.h"
#include "basics/numbers.h"
#include "basics/strings.h"
#include "kernels/stored.h"
#include "nodes/nodes.h"
#include "nodes/names.h"
#include "nodes/storage.h"
#include "operators/table.h"
#include "operators/adding.h"
#include "operators/rows.h"
#include "devices/device.h"
#include "graph/plan.h"

/* =============================================================================================
   [SECTION] graph/settings: Graph: output, loss, classes, length and state
   What a model knows about its nodes; the parts that build and read networks set it.
   ============================================================================================= */
/* A failed lookup may be a question or a typo: the name is kept, so that the error where the {0} is
   used can suggest the nearest one. Callers cannot see that change of the model. */
ft_node ft_find(const ft_model *m, const char *name)
{
    ft_node node = ft__find_node(m, name ? name : "");
    ft_model *noted = (ft_model *)(uintptr_t)m;
    if (m && !node.id)
        snprintf(noted->not_found, sizeof noted->not_found, "%.99s", name ? name : "NULL");
    return node;
}

static bool ft__check_node(ft_model *m, ft_node node, const char *what)
{
    char why[400];
    if (!ft__usable(m)) return false;
    if (ft__get_node(m, node) && ft__is_any(ft__get_node(m, node))) return true;
    ft__fail(&m->context, FT_INVALID, "%s: node %d is not a node of this model%s", what, node.id,
             ft__why_none(m, node, why));
    return false;
}

/* Output and loss must be computed by a run: a tensor that no operator makes is not. */
static bool ft__check_computed(ft_model *m, ft_node node, const char *what)
{
    const ft__node *named;
    if (!ft__check_node(m, node, what)) return false;
    named = ft__get_node(m, node);
    if (!ft__is_leaf(named)) return true;
    ft__fail(&m->context, FT_INVALID, "%s: %.200s is %s, not the result of an operator", what,
             named->name, ft__is_weight(named) ? "a weight" : ft__is_state(named) ? "a state"
             : "an input");
    return false;
}

void ft_set_output(ft_model *m, ft_node logits)
{
    if (!ft__check_computed(m, logits, "ft_set_output")) return;
    m->output = logits;
    m->version += 1;
}

void ft_set_loss(ft_model *m, ft_node loss)
{
    const ft__extent two = {2, 2};
    if (!ft__check_computed(m, loss, "ft_set_loss")) return;
    if (ft__node_count_at(&m->nodes[loss.id - 1], two) != 1) {
        ft__fail(&m->context, FT_SHAPE, "%s: a loss must be one number",
                 m->nodes[loss.id - 1].name);
        return;
    }
    m->loss = loss;
    m->version += 1;
}

void ft_set_text_vector(ft_model *m, ft_node vector, ft_text_vector_options options)
{
    const ft_shape *shape;
    if (!ft__check_computed(m, vector, "ft_set_text_vector")) return;
    shape = &m->nodes[vector.id - 1].shape;
    if (shape->rank != 2 || shape->size[0] != FT_BATCH || shape->size[1] < 1) {
        char text[80];
        ft__fail(&m->context, FT_SHAPE, "ft_set_text_vector: %.200s is %s; it must be [N,"
                 " features]", m->nodes[vector.id - 1].name, ft__shape_text(shape, text));
        return;
    }
    m->version += m->text_vector.id != vector.id;
    m->text_vector = vector;
    m->vector_options = options;
}

ft_node ft_text_vector(const ft_model *m)
{
    ft_node none = {0};
    return m ? m->text_vector : none;
}

ft_node ft_output(const ft_model *m)
{
    ft_node none = {0};
    return m ? m->output : none;
}

ft_node ft_loss(const ft_model *m)
{
    ft_node none = {0};
    return m ? m->loss : none;
}

void ft_set_preprocessing(ft_model *m, ft_preprocessing preprocessing)
{
    int i;
    if (!ft__usable(m)) return;
    for (i = 0; i < preprocessing.channels && i < 4; ++i)
        if (!(preprocessing.std[i] > 0 && preprocessing.std[i] <= FLT_MAX)
            || !ft__is_finite(preprocessing.mean[i])) {
            ft__fail(&m->context, FT_INVALID, "preprocessing: channel %d has mean %g and std %g:"
                     " mean must be finite, std finite and above 0", i,
                     (double)preprocessing.mean[i], (double)preprocessing.std[i]);
            return;
        }
    m->preprocessing = preprocessing;
}

ft_preprocessing ft_get_preprocessing(const ft_model *m)
{
    ft_preprocessing none;
    memset(&none, 0, sizeof none);
    return m ? m->preprocessing : none;
}

/* The targets, if the loss is of the differences of the output and an input; else NULL. */
static const ft__node *ft__targets_of(const ft_model *m)
{
    const ft__node *loss = ft__get_node(m, m->loss), *targets = NULL;
    int i;
    if (!loss || !ft__is(loss, FT__REGRESSION) || !m->output.id) return NULL;
    for (i = 0; i < 2; ++i)
        if (loss->inputs[i] == m->output.id) targets = &m->nodes[loss->inputs[1 - i] - 1];
    return targets && ft__is_input(targets) && !ft__has_length(targets) ? targets : NULL;
}

/* Whether the output is one number that is learnt, not the score of a class. */
static bool ft__predicts_number(const ft_model *m)
{
    const ft__node *targets = m ? ft__targets_of(m) : NULL;
    return targets && targets->shape.rank == 2 && targets->shape.size[1] == 1;
}

/* How many classes each sample, or each step of it, has a score for; 0: neither. */
static int ft__output_classes(const ft_model *m)
{
    const ft__node *output = m ? ft__get_node(m, m->output) : NULL;
    int rank = output ? output->shape.rank : 0;
    return (rank == 2 || rank == 3) && output->shape.size[rank - 1] > 0
        ? output->shape.size[rank - 1] : 0;
}

/* Whether each sample has a class, or each step: a language model's tokens have no class names. */
static bool ft__classifies_samples(const ft_model *m)
{
    return ft__output_classes(m) > 0 && m->nodes[m->output.id - 1].shape.rank == 2
        && !ft__predicts_number(m)
        && m->output.id != m->text_vector.id; /* the features of a vector are no classes */
}

static bool ft__classifies_steps(const ft_model *m)
{
    return ft__output_classes(m) > 0 && m->nodes[m->output.id - 1].shape.rank == 3
        && m->class_count == ft__output_classes(m);
}

void ft_set_class_names(ft_model *m, int count, const char *const *names)
{
    ft__context *c;
    char number[12];
    int i;
    if (!ft__usable(m)) return;
    c = &m->context;
    if (count < 0 || (count > 0 && !names)) {
        ft__fail(c, FT_INVALID, "ft_set_class_names: the number of names is %d%s", count,
                 names ? "; it must not be negative" : ", but names is NULL");
        return;
    }
    if (count > 0 && ft__output_classes(m) > 0 && count != ft__output_classes(m)) {
        ft__fail(c, FT_INVALID, "ft_set_class_names: %d names for the output's %d classes", count,
                 ft__output_classes(m));
        return;
    }
    ft__release_class_names(m);
    m->class_names = (char **)ft__allocate(c, (size_t)count + 1, sizeof *m->class_names);
    for (i = 0; ft__ok(c) && i < count; ++i) {
        m->class_names[i] = ft__copy_name(c, ft__name_or_number(names[i], i, number));
        if (m->class_names[i]) m->class_count = i + 1;
    }
}

const char *ft_class_name(const ft_model *m, int index)
{
    return m && index >= 0 && index < m->class_count ? m->class_names[index] : NULL;
}

int ft_class_count(const ft_model *m)
{
    return ft__classifies_samples(m) || ft__classifies_steps(m) ? ft__output_classes(m) : 0;
}

/* ---- Types of frozen weights ---- */

static ft_status ft__check_type(ft_model *m, const char *what, ft_type type)
{
    if ((unsigned)type >= FT_TYPE_COUNT || !ft__stored_kind_of(type))
        return ft__fail(&m->context, FT_INVALID, "%s: %s: it must be FT_F32, FT_F16, FT_BF16 or"
                        " FT_I8", what, (unsigned)type < FT_TYPE_COUNT ? ft__type_names[type]
                        : "not a type");
    if (m->context.device && type != FT_F32)
        return ft__fail(&m->context, FT_UNSUPPORTED, "%s: weights on a device are float32", what);
    return m->context.status;
}

/* Stores all that is frozen in this type; FT_F32: it stays as it is. */
static void ft__store_frozen(ft_model *m, ft_type type)
{
    int i;
    for (i = 0; type != FT_F32 && i < m->node_count; ++i)
        if (ft__may_be_stored(&m->nodes[i]) && m->nodes[i].frozen)
            ft__store(m, &m->nodes[i], type);
}

/* ---- Length and state ---- */

ft_status ft_set_length(ft_model *m, int length)
{
    if (!ft__usable(m)) return ft__status_of(m);
    if (length < 1)
        return ft__fail(&m->context, FT_INVALID, "ft_set_length: %d steps: at least 1 is expected",
                        length);
    if (m->length != length) m->last_run = NULL; /* its values have another shape */
    m->length = length;
    return FT_OK;
}

int ft_length(const ft_model *m) { return m ? m->length : 1; }

ft_status ft_set_max_length(ft_model *m, int tokens)
{
    if (!m || !ft__ok(&m->context)) return m ? m->context.status : FT_INVALID;
    if (tokens < 1)
        return ft__fail(&m->context, FT_INVALID, "ft_set_max_length: %d tokens: at least 1 is"
                        " expected", tokens);
    m->max_length = tokens;
    return FT_OK;
}

ft_status ft_set_temperature(ft_model *m, float temperature)
{
    if (!ft__usable(m)) return ft__status_of(m);
    if (!(temperature > 0 && temperature <= FLT_MAX))
        return ft__fail(&m->context, FT_INVALID, "ft_set_temperature: %g; it must be finite and"
                        " above 0", (double)temperature);
    m->temperature = temperature;
    return FT_OK;
}

float ft_temperature(const ft_model *m) { return m && m->temperature > 0 ? m->temperature : 1; }

int ft_max_length(const ft_model *m) { return m && m->max_length > 0 ? m->max_length : 512; }

int ft_reset_state(ft_model *m, const char *glob)
{
    int i, count = 0;
    ft__say_unmatched(m, "ft_reset_state", glob, ft__is_state);
    for (i = 0; ft__usable(m) && i < m->node_count; ++i) {
        ft__node *node = &m->nodes[i];
        if (!ft__is_state(node) || !ft__glob(glob, node->name)) continue;
        count += 1;
        if (!node->value) continue;
        memset(node->value, 0, ft__node_count_at(node, node->capacity) * sizeof(float));
        ft__host_wrote(&m->context, node->value);
    }
    return count;
}
