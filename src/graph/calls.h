#pragma once
#include "interface/types.h"
#include "platform/context.h"
#include "basics/random.h"
#include "kernels/stored.h"
#include "nodes/nodes.h"
#include "nodes/storage.h"
#include "operators/table.h"
#include "operators/rows.h"
#include "graph/layout.h"
#include "graph/plan.h"

/* =============================================================================================
   [SECTION] graph/calls: Graph: the call of a step
   What an operator's function gets: sizes of the run, values and gradients by pointer, and weights
   in the type that they are stored in, or converted before.
   ============================================================================================= */
/* What a step's operator sees of its inputs. */
static void ft__fill_inputs(const ft_model *m, const ft__plan *plan, const ft__step *step,
                            ft__extent extent, bool backward)
{
    const ft__node *node = ft__node_of_step(m, plan, step);
    int i;
    for (i = 0; i < node->input_count; ++i) {
        int id = ft__input_of(m, plan, step, i);
        const ft__node *from = &m->nodes[(step->copies ? step->id : node->inputs[i]) - 1];
        const ft__node *holder = ft__node_of(m, plan, id); /* not `from` if that is a view */
        bool leaf = id <= plan->node_count && ft__is_leaf(holder);
        ft__tensor *input = &plan->inputs[i];
        input->shape = ft__with_extent(from->shape, extent);
        input->type = from->type;
        input->channels_last = step->copies ? ft__is_channels_last(from)
                                            : ft__reads_last(m, node, i);
        input->order = from->layout.strided ? from->layout.order : NULL;
        input->fresh = false;
        input->value = leaf ? holder->value : plan->values[id - 1];
        memset(&input->typed, 0, sizeof input->typed);
        if (leaf) input->typed = holder->stored;
        input->gradient = !backward ? NULL : leaf && ft__is_parameter(holder)
            ? holder->gradient : plan->gradients[id - 1];
    }
}

/* What a run that continues texts tells the operators that look at the steps before. */
static void ft__see_past(const ft_model *m, ft__call *call)
{
    const ft__decoding *d = m->decoding;
    if (!d || !ft__is(call->node, FT__AFTER_PAST)) return;
    call->past = d->past;
    call->room = d->room;
    call->kept = d->kept ? d->kept[call->node - m->nodes] : NULL;
    call->workspace = d->workspace;
}

/* The call of a step, for a batch; value pointers are filled in if they are known. */
static ft__call ft__make_call(ft_model *m, const ft__plan *plan, const ft__step *step,
                              ft__extent extent, bool backward)
{
    const ft__node *node = ft__node_of_step(m, plan, step);
    const ft__node *output = ft__node_of(m, plan, step->output);
    ft__call call;
    memset(&call, 0, sizeof call);
    ft__fill_inputs(m, plan, step, extent, backward);
    call.input_count = node->input_count;
    if (step->weight) plan->inputs[1].value = step->weight;
    if (step->fold) plan->inputs[1].typed.fold = step->fold;
    if (step->bias) {
        ft__tensor *bias = &plan->inputs[2];
        memset(bias, 0, sizeof *bias);
        bias->shape.rank = 1;
        bias->shape.size[0] = plan->inputs[1].shape.size[0];
        bias->value = step->bias;
        call.input_count = 3;
    }
    call.context = &m->context;
    call.node = node;
    call.input = plan->inputs;
    call.output.shape = ft__with_extent(output->shape, extent);
    call.output.channels_last = ft__is_channels_last(output) != step->copies;
    if (step->through) {
        call.output.shape = ft__with_extent(node->shape, extent);
        call.output.order = output->options.permute.axes;
    }
    call.output.value = plan->values[step->output - 1];
    call.output.gradient = backward ? plan->gradients[step->output - 1] : NULL;
    call.saved = plan->saved[step->id - 1];
    call.workspace = (float *)plan->workspace;
    call.prepared = step->prepared;
    call.training = step->trained
        && !(ft__is(node, FT__STATISTICS) && ft__norm_frozen(m, node));
    call.random = ft__key(m->context.desc.seed, m->step, (uint64_t)step->id, FT__USE_DROPOUT);
    call.length = extent.length;
    ft__see_past(m, &call);
    if (step->weighed) call.sample_weights = m->sample_weights;
    if (step->id == m->loss.id) {
        call.class_weights = m->class_weights;
        call.other_share = m->other_share;
    }
    if (step->activation) {
        call.fused = ft__rows[m->nodes[step->activation - 1].op];
        call.fused_options = &m->nodes[step->activation - 1].options;
    }
    return call;
}

/* The memory that an operator needs for a batch; touches no values. */
static ft__costs ft__costs_of(ft_model *m, const ft__node *node, ft__extent extent,
                              bool training)
{
    ft__tensor few[16], *input = few;
    ft__costs costs = {0, 0, 0, 0, 0};
    ft__call call;
    int i;
    if (!ft__rows[node->op]->costs) return costs;
    if (node->input_count > 16)
        input = (ft__tensor *)ft__allocate(&m->context, (size_t)node->input_count, sizeof *input);
    if (!input) return costs;
    memset(&call, 0, sizeof call);
    memset(few, 0, sizeof few);
    for (i = 0; i < node->input_count; ++i) {
        input[i].shape = ft__with_extent(m->nodes[node->inputs[i] - 1].shape, extent);
        input[i].type = m->nodes[node->inputs[i] - 1].type;
    }
    call.context = &m->context;
    call.node = node;
    call.input = input;
    call.input_count = node->input_count;
    call.output.shape = ft__with_extent(node->shape, extent);
    call.training = training;
    ft__see_past(m, &call);
    ft__rows[node->op]->costs(&call, &costs);
    if (input != few) ft__release(&m->context, input);
    if (m->context.device) costs.prepared = 0; /* a device reads weights as they are */
    return costs;
}

static size_t ft__round_up(size_t bytes)
{
    return (bytes + FT__DEVICE_ALIGNMENT - 1) / FT__DEVICE_ALIGNMENT * FT__DEVICE_ALIGNMENT;
}

/* The weight in another type that a step's input is, or is a view of; NULL: there is none. */
static const ft__node *ft__typed_input(const ft_model *m, const ft__plan *plan,
                                       const ft__step *step, int i)
{
    int id = ft__input_of(m, plan, step, i);
    const ft__node *holder = id > plan->node_count ? NULL : &m->nodes[id - 1];
    return holder && ft__stays_stored(holder, plan->training) ? holder : NULL;
}

/* Whether it is converted to float32 before the step's operator runs. */
static bool ft__is_widened(const ft_model *m, const ft__plan *plan, const ft__step *step, int i)
{
    const ft__node *node = &m->nodes[step->id - 1];
    if (!ft__typed_input(m, plan, step, i)) return false;
    return step->copies || i == 0 || !ft__is(node, FT__READS_TYPES)
        || !ft__is_stored(&m->nodes[node->inputs[i] - 1]);
}

static size_t ft__widened_bytes(const ft_model *m, const ft__plan *plan, const ft__step *step)
{
    int count = ft__node_of_step(m, plan, step)->input_count, i;
    size_t bytes = 0;
    for (i = 0; i < count; ++i)
        if (ft__is_widened(m, plan, step, i))
            bytes += ft__round_up(ft__node_count_at(ft__typed_input(m, plan, step, i), ft__one)
                                  * sizeof(float));
    return bytes;
}

/* Converts the inputs in other types that the step's operator cannot read. */
static void ft__widen_inputs(ft_model *m, const ft__plan *plan, const ft__step *step)
{
    char *to = (char *)plan->workspace + plan->widen_at;
    int count = ft__node_of_step(m, plan, step)->input_count, i;
    for (i = 0; i < count; ++i) {
        ft__tensor *input = &plan->inputs[i];
        size_t numbers;
        if (!ft__is_widened(m, plan, step, i)) continue;
        numbers = ft__node_count_at(ft__typed_input(m, plan, step, i), ft__one);
        input->value = (float *)(void *)to;
        ft__read_stored_run(&m->context, &input->typed, 0, numbers, input->value);
        memset(&input->typed, 0, sizeof input->typed);
        to += ft__round_up(numbers * sizeof(float));
    }
}
