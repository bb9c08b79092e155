#pragma once
#include "interface/types.h"
#include "interface/operators.h"
#include "platform/context.h"
#include "nodes/nodes.h"
#include "nodes/names.h"
#include "operators/table.h"
#include "operators/adding.h"
#include "operators/dropout.h"
#include "operators/concat.h"
#include "operators/pad_and_slice.h"
#include "operators/step_pool.h"
#include "operators/recurrent.h"

/* =============================================================================================
   [SECTION] operators/recurrent_layers: Stacks of recurrent layers
   ft_lstm, ft_gru and ft_rnn: layers, directions, states that are given or carried, and dropout.
   ============================================================================================= */
/* A state of the model: one row per sample, initially zero. */
static ft_node ft__carried_state(ft_model *m, const char *layer, const char *part, int number,
                                 int features)
{
    char name[512];
    ft_node node;
    ft__node *made;
    snprintf(name, sizeof name, "%s.%s_l%d", layer, part, number);
    node = ft__add_node(m, &ft__row_state, name, NULL, 0, NULL, 0);
    made = ft__get_node(m, node);
    if (!made) return node;
    made->shape.rank = 2;
    made->shape.size[0] = FT_BATCH;
    made->shape.size[1] = features;
    return node;
}

/* Dropout of a layer's input or weight, as a separate node. */
static ft_node ft__recurrent_dropout(ft_model *m, const char *layer, const char *part,
                                     const char *suffix, ft_node x, float probability, bool locked)
{
    char name[512];
    ft_dropout_options drop;
    if (probability == 0) return x;
    memset(&drop, 0, sizeof drop);
    drop.probability = probability;
    drop.locked = locked;
    snprintf(name, sizeof name, "%s.%s%s", layer, part, suffix);
    return ft_dropout(m, name, x, drop);
}

/* Puts the weights and biases of one layer after inputs[0]; returns the number of inputs. */
static int ft__recurrent_parameters(ft_model *m, const char *name, int layer, int gates, int in,
                                    int hidden, const ft_recurrent_options *options,
                                    ft_node *inputs)
{
    static const char *const parts[] = {"weight_ih", "weight_hh", "bias_ih", "bias_hh"};
    int count = 1, d, which;
    char part[64], suffix[32];
    ft_parameter_options p;
    for (d = 0; d < (options->bidirectional ? 2 : 1); ++d)
        for (which = 0; which < (options->no_bias ? 2 : 4); ++which) {
            memset(&p, 0, sizeof p);
            p.size[0] = gates * hidden;
            if (which < 2) p.size[1] = which ? hidden : in;
            p.fan_in = hidden; /* PyTorch's bound is 1 / sqrt(hidden) for all of them */
            snprintf(suffix, sizeof suffix, "_l%d%s", layer, d ? "_reverse" : "");
            snprintf(part, sizeof part, "%s%s", parts[which], suffix);
            inputs[count] = ft__layer_parameter(m, name, part, p);
            if (which == 1)
                inputs[count] = ft__recurrent_dropout(m, name, "weight_drop", suffix,
                                                      inputs[count], options->weight_drop, false);
            count += 1;
        }
    return count;
}

/* The initial state of a layer: carried by the model, or a slice of the caller's node. */
static ft_node ft__first_state(ft_model *m, const char *name, int layer, int features, bool cell,
                               const ft_recurrent_options *options)
{
    ft_node given = cell ? options->cell : options->hidden;
    ft_slice_options part;
    char slice[512];
    if (options->carry)
        return ft__carried_state(m, name, cell ? "cell" : "hidden", layer, features);
    if (!options->layers || options->layers == 1) return given;
    memset(&part, 0, sizeof part);
    part.start[1] = layer * features;
    part.stop[1] = (layer + 1) * features;
    snprintf(slice, sizeof slice, "%s.first_%s_l%d", name, cell ? "cell" : "hidden", layer);
    return ft_slice(m, slice, given, part);
}

/* A half of [N, L, hidden states and cells]: the first if `from` is 0, else from `from` on. */
static ft_node ft__states_part(ft_model *m, const char *name, ft_node both, int from)
{
    ft_slice_options part;
    memset(&part, 0, sizeof part);
    part.start[2] = from;
    part.stop[2] = from ? 0 : ft__size_of(m, name, both, -1) / 2;
    return ft_slice(m, name, both, part);
}

enum { FT__MOST_RECURRENT = 1000 }; /* layers of one stack */

static ft_node ft__recurrent_layer(ft_model *m, const ft__row *row, const char *name, ft_node x,
                                   int layer, int hidden,
                                   const ft_recurrent_options *options)
{
    int gates = ft__gate_count(row->op), count;
    int layers = options->layers ? options->layers : 1;
    int features = hidden * (options->bidirectional ? 2 : 1);
    ft_node inputs[12], none = {0};
    ft__recurrent_options o;
    char below[512], both[544], suffix[32];
    memset(&o, 0, sizeof o);
    snprintf(suffix, sizeof suffix, "_l%d", layer);
    snprintf(below, sizeof below, "%s%s", name, suffix);
    inputs[0] = layer == 0 ? x : ft__recurrent_dropout(m, name, "dropout", suffix, x,
                                                       options->dropout, options->locked);
    count = ft__recurrent_parameters(m, name, layer, gates, ft__size_of(m, name, x, -1), hidden,
                                     options, inputs);
    o.hidden = hidden;
    o.bidirectional = options->bidirectional;
    o.no_bias = options->no_bias;
    o.relu = options->relu && gates == 1;
    o.reset_before = options->reset_before && gates == 3;
    o.carry = options->carry;
    o.lengths = options->lengths.id != 0;
    o.initial = options->carry || options->hidden.id != 0;
    o.cells = options->final_states && ft__has_cells(row->op);
    if (o.lengths) inputs[count++] = options->lengths;
    if (o.initial)
        inputs[count++] = ft__first_state(m, name, layer, features, false, options);
    if (o.initial && ft__has_cells(row->op))
        inputs[count++] = ft__first_state(m, name, layer, features, true, options);
    if (!ft__usable(m)) return none;
    if (layer == layers - 1) snprintf(below, sizeof below, "%s", name);
    if (!o.cells) return ft__add_node(m, row, below, inputs, count, &o, sizeof o);
    snprintf(both, sizeof both, "%s.states", below);
    x = ft__add_node(m, row, both, inputs, count, &o, sizeof o);
    snprintf(both, sizeof both, "%s.cells", below);
    ft__states_part(m, both, x, features);
    return ft__states_part(m, below, x, 0);
}

/* The final state that PyTorch returns beside the output: the states after each sample's last real
   step, of all layers side by side. */
static void ft__final_state(ft_model *m, const char *name, int layers, bool cell,
                            const ft_recurrent_options *options)
{
    ft_node x[FT__MOST_RECURRENT];
    ft_step_pool_options last;
    char to[512], from[512];
    int layer;
    memset(&last, 0, sizeof last);
    last.bidirectional = options->bidirectional;
    for (layer = 0; ft__ok(&m->context) && layer < layers; ++layer) {
        char suffix[32] = "";
        if (layers > 1) snprintf(suffix, sizeof suffix, "_l%d", layer);
        snprintf(to, sizeof to, "%s.%s%s", name, cell ? "c_n" : "h_n", suffix);
        if (layer == layers - 1) suffix[0] = 0; /* the last layer has the plain name */
        snprintf(from, sizeof from, "%s%s%s", name, suffix, cell ? ".cells" : "");
        x[layer] = ft_step_pool(m, to, ft__find_node(m, from), options->lengths, last);
    }
    snprintf(to, sizeof to, "%s.%s", name, cell ? "c_n" : "h_n");
    if (layers > 1) ft_concat(m, to, layers, x, 1);
}

static ft_node ft__recurrent_stack(ft_model *m, const ft__row *row, const char *name, ft_node x,
                                   int hidden, ft_recurrent_options options)
{
    int layers = options.layers ? options.layers : 1, layer;
    bool cells = ft__has_cells(row->op);
    ft_node none = {0};
    if (!ft__usable(m)) return none;
    if (hidden < 1 || hidden > 1 << 24 || layers < 1 || layers > FT__MOST_RECURRENT)
        ft__fail(&m->context, FT_INVALID, "%s: %d layers with a hidden size of %d are not"
                 " supported", name, layers, hidden);
    if (options.carry && (options.bidirectional || options.hidden.id || options.cell.id))
        ft__fail(&m->context, FT_INVALID, "%s: carry cannot be combined with bidirectional or with"
                 " a first state", name);
    if (cells ? (options.hidden.id != 0) != (options.cell.id != 0) : options.cell.id)
        ft__fail(&m->context, FT_INVALID, "%s: an LSTM needs both a first hidden state and a first"
                 " cell, or neither; other layers have no cell", name);
    for (layer = 0; ft__ok(&m->context) && layer < layers; ++layer)
        x = ft__recurrent_layer(m, row, name, x, layer, hidden, &options);
    if (options.final_states) ft__final_state(m, name, layers, false, &options);
    if (options.final_states && cells) ft__final_state(m, name, layers, true, &options);
    return ft__ok(&m->context) ? x : none;
}

ft_node ft_lstm(ft_model *m, const char *name, ft_node x, int hidden, ft_recurrent_options options)
{
    ft_node none = {0};
    if (!FT__HAS(m, RECURRENT)) return none;
    return ft__recurrent_stack(m, &ft__row_lstm, name, x, hidden, options);
}

ft_node ft_gru(ft_model *m, const char *name, ft_node x, int hidden, ft_recurrent_options options)
{
    ft_node none = {0};
    if (!FT__HAS(m, RECURRENT)) return none;
    return ft__recurrent_stack(m, &ft__row_gru, name, x, hidden, options);
}

ft_node ft_rnn(ft_model *m, const char *name, ft_node x, int hidden, ft_recurrent_options options)
{
    ft_node none = {0};
    if (!FT__HAS(m, RECURRENT)) return none;
    return ft__recurrent_stack(m, &ft__row_rnn, name, x, hidden, options);
}
