#pragma once
#include "interface/types.h"
#include "platform/context.h"
#include "basics/strings.h"
#include "nodes/nodes.h"
#include "nodes/names.h"
#include "nodes/sharing.h"
#include "operators/table.h"
#include "operators/adding.h"
#include "optimizers/embedding_rows.h"
#include "devices/device.h"
#include "graph/plan.h"
#include "graph/calls.h"
#include "graph/forward_backward.h"
#include "graph/settings.h"
#include "public/models.h"

/* =============================================================================================
   [SECTION] public/sharing: Public functions: several models on the same weights
   ============================================================================================= */

/* Runs one operator whose weights are not prepared yet, for that alone: what it computes is not
   used, and states stay as they are. */
static void ft__prepare_now(ft_model *m, ft__plan *plan, ft__step *step)
{
    ft__call call = ft__make_call(m, plan, step, ft__extent_of(m, 1), false);
    call.again = true;
    if (ft__prepare_step(m, step, &call)) ft__run_operator(&call, false);
}

/* A copy of the states, or back. */
static void ft__save_states(ft_model *m, float *copy, bool back)
{
    int i;
    for (i = 0; i < m->node_count; ++i) {
        const ft__node *node = &m->nodes[i];
        size_t count = ft__is_state(node) && node->value
            ? ft__node_count_at(node, node->capacity) : 0;
        if (count)
            memcpy(back ? node->value : copy, back ? copy : node->value, count * sizeof *copy);
        copy += count;
    }
}

/* Prepares the weights of every step of the evaluation plan. */
static ft__plan *ft__prepare_all(ft_model *m)
{
    ft__context *c = &m->context;
    int batch = m->batch, i;
    ft__plan *plan = ft__begin(m, 1, false);
    size_t count = 1;
    float *states;
    m->batch = batch;
    m->last_run = NULL; /* its values are overwritten */
    for (i = 0; plan && i < m->node_count; ++i)
        if (ft__is_state(&m->nodes[i]))
            count += ft__node_count_at(&m->nodes[i], m->nodes[i].capacity);
    states = plan ? (float *)ft__allocate(c, count, sizeof *states) : NULL;
    if (!states) return NULL;
    ft__save_states(m, states, false);
    for (i = 0; i < plan->step_count; ++i)
        if ((plan->steps[i].weight || plan->steps[i].prepared) && !plan->steps[i].each_run)
            ft__prepare_now(m, plan, &plan->steps[i]);
    ft__save_states(m, states, true);
    ft__release(c, states);
    return ft__ok(c) ? plan : NULL;
}

/* Moves the plan's prepared weights to where all models find them. */
static void ft__lend(ft_model *m, ft__plan *plan)
{
    ft__sharing *s = m->sharing;
    int i;
    s->steps = (ft__prepared *)ft__allocate(&m->context, (size_t)plan->step_count + 1,
                                            sizeof *s->steps);
    if (!s->steps) return;
    for (i = 0; i < plan->step_count; ++i) {
        ft__step *step = &plan->steps[i];
        ft__prepared *lent = &s->steps[s->step_count];
        if ((!step->weight && !step->prepared) || step->each_run) continue;
        lent->id = step->id;
        lent->norm = step->norm;
        lent->weight = step->weight;
        lent->bias = step->bias;
        lent->prepared = step->prepared;
        step->lent = true;
        s->step_count += 1;
    }
    s->weights = plan->weights;
    plan->weights = NULL;
    plan->taken -= plan->weight_bytes + FT__ALIGNMENT;
    for (i = 0; i < m->node_count; ++i) m->nodes[i].lent = ft__is_weight(&m->nodes[i]);
}

/* Makes everything that shares read, once for all of them. */
static ft_status ft__lend_weights(ft_model *m)
{
    ft__context *c = &m->context;
    ft__plan *plan;
    if (ft__count_shares(m->sharing, 0) > 0) return c->status;
    if (m->sharing) { /* of shares that have ended; the weights may have changed since */
        ft__plan_free(c, m->plans[0]);
        ft__plan_free(c, m->plans[1]);
        m->plans[0] = m->plans[1] = m->last_run = NULL;
        ft__sharing_empty(c, m->sharing);
    } else m->sharing = ft__sharing_make(c);
    ft__catch_up_all(m);
    plan = ft__ok(c) ? ft__prepare_all(m) : NULL;
    if (plan) ft__lend(m, plan);
    return c->status;
}

/* Adds the next node of the first model, its weights without a copy. */
static void ft__share_node(ft_model *s, const ft_model *m)
{
    ft__context *c = &s->context;
    const ft__node *from = &m->nodes[s->node_count];
    ft__node *node;
    if (!ft__grow_nodes(s)) return;
    node = &s->nodes[s->node_count];
    memset(node, 0, sizeof *node);
    node->op = from->op;
    node->type = from->type;
    node->shape = from->shape;
    node->options = from->options;
    node->input_count = from->input_count;
    node->frozen = from->frozen;
    node->keep_value = from->keep_value;
    node->initialiser = from->initialiser;
    node->fan_in = from->fan_in;
    node->fan_out = from->fan_out;
    node->learning_rate_factor = from->learning_rate_factor;
    node->weight_decay = from->weight_decay;
    node->borrowed = ft__is_weight(from);
    if (node->borrowed) {
        node->value = from->value;
        node->stored = from->stored;
    }
    if (from->name) node->name = ft__copy_text(c, from->name);
    node->inputs = (int *)ft__allocate(c, (size_t)from->input_count + 1, sizeof *node->inputs);
    if (node->inputs && from->input_count)
        memcpy(node->inputs, from->inputs, (size_t)from->input_count * sizeof *node->inputs);
    s->order[s->node_count] = m->order[s->node_count];
    s->node_count += 1;
    if (ft__ok(c) && node->name) ft__list_node(s, s->node_count);
}

/* Copies what a model is besides its nodes. */
static void ft__share_settings(ft_model *s, const ft_model *m)
{
    s->output = m->output;
    s->loss = m->loss;
    s->text_vector = m->text_vector;
    s->vector_options = m->vector_options;
    s->preprocessing = m->preprocessing;
    s->keras_initialisers = m->keras_initialisers;
    s->length = m->length;
    s->max_length = m->max_length;
    s->pairs = m->pairs;
    s->temperature = m->temperature;
    s->version = m->version;
    s->weights_version = m->weights_version;
    s->trained_version = m->trained_version;
    s->step = m->step;
    memcpy(s->finite, m->finite, sizeof s->finite);
    ft__set_architecture(s, m->architecture);
    if (m->training) s->training = ft__copy_text(&s->context, m->training);
    s->notes.context = &s->context;
    if (m->notes.count) ft__text_add_bytes(&s->notes, m->notes.letters, m->notes.count);
    s->note_count = m->note_count;
    if (m->class_names)
        ft_set_class_names(s, m->class_count, (const char *const *)m->class_names);
    if (m->tokenizer_text) ft__take_tokenizer(s, m->tokenizer_text, "ft_share");
}

/* The bits, and what is prepared, depend on these two. */
static void ft__share_kernels(ft_model *s, const ft_model *m, const ft_desc *desc)
{
    if (!desc->simd) s->context.simd = m->context.simd;
    if (!desc->precision) s->context.precision = m->context.precision;
    if (s->context.simd != m->context.simd || s->context.precision != m->context.precision)
        ft__fail(&s->context, FT_INVALID, "simd and precision must be the model's own, or NULL");
    if (s->context.device)
        ft__fail(&s->context, FT_UNSUPPORTED, "device %s: weights are shared on the CPU only",
                 desc->device);
}

ft_model *ft_share(ft_model *m, ft_desc desc)
{
    ft__context *c;
    ft_model *s;
    if (!ft__usable(m) || !FT__HAS(m, SHARING)) return NULL;
    c = &m->context;
    if (m->owner)
        ft__fail(c, FT_INVALID, "ft_share: this model is a share itself: call it for the model that"
                 " it was made of");
    if (m->in_use) ft__fail(c, FT_INVALID, "ft_share: called inside a callback of another call");
    if (m->context.device)
        ft__fail(c, FT_UNSUPPORTED, "ft_share: weights are shared on the CPU only, not on %s",
                 c->desc.device);
    if (m->node_count == 0)
        ft__fail(c, FT_INVALID, "ft_share: the model is empty: load or build a network first");
    if (!ft__ok(c) || ft__ready(m, false) != FT_OK || ft__lend_weights(m) != FT_OK) return NULL;
    s = ft_create(desc);
    if (!s) {
        ft__fail(c, FT_MEMORY, "ft_share: no memory for a model");
        return NULL;
    }
    ft__share_kernels(s, m, &desc);
    s->owner = m;
    s->sharing = m->sharing;
    ft__count_shares(m->sharing, 1);
    while (ft__ok(&s->context) && s->node_count < m->node_count) ft__share_node(s, m);
    if (ft__ok(&s->context)) ft__share_settings(s, m);
    if (ft__ok(&s->context)) return s;
    ft__fail(c, s->context.status, "ft_share: %s", s->context.text);
    ft_destroy(s);
    return NULL;
}
