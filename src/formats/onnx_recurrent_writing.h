#pragma once
#include "interface/types.h"
#include "interface/operators.h"
#include "platform/families.h"
#include "nodes/nodes.h"
#include "operators/table.h"
#include "operators/recurrent.h"
#include "operators/rows.h"
#include "formats/onnx_file.h"
#include "formats/onnx_writing.h"
#include "formats/onnx_layers_writing.h"
#include "formats/onnx_attention_writing.h"
/* =============================================================================================
   [SECTION] formats/onnx_recurrent_writing: Recurrent layers and pooling over steps for ONNX
   Functions as in formats/onnx_elements_writing. ONNX has [L, N, C] where we have [N, L, C], one
   tensor for both directions, and the gates in another order: the weights stay as they are, and the
   graph cuts and joins them, which those who run it do once. Layouts: see formats/onnx_recurrent.
   ============================================================================================= */
#if FT__HAS_ONNX
/* Where ONNX's gates are among PyTorch's: iofc of ifgo, zrh of rzn. */
static const int ft__out_lstm_gates[] = {0, 3, 1, 2}, ft__out_gru_gates[] = {1, 0, 2};

/* ---- The LSTM's cells: ONNX has the last ones alone ---- */

static bool ft__out_gives_cells(const ft__node *node)
{
    return ft__is(node, FT__RECURRENT) && node->options.recurrent.cells;
}

/* The LSTM whose cells a node takes from its output, [hidden states, cells]; NULL: it is none. */
static const ft__node *ft__out_cells_of(const ft__onnx_out *o, const ft__node *node)
{
    const ft__node *x = ft__out_input(o, node, 0);
    if (node->op != FT__OP_slice || !ft__out_gives_cells(x)
        || node->options.slice.start[2] != x->shape.size[2] / 2) return NULL;
    return x;
}

/* The input that has the lengths of a recurrent layer, or of a pooling; its id, 0: none. */
static int ft__out_lengths_id(const ft__node *node)
{
    const ft__recurrent_options *a = &node->options.recurrent;
    if (node->op == FT__OP_step_pool) return node->input_count > 1 ? node->inputs[1] : 0;
    if (!a->lengths) return 0;
    return node->inputs[1 + (a->bidirectional ? 2 : 1) * (a->no_bias ? 2 : 4)];
}

/* Whether all that reads the cells takes the last real ones. */
static bool ft__out_only_last(const ft__onnx_out *o, const ft__node *cells)
{
    const ft__node *lstm = ft__out_cells_of(o, cells);
    int i, k;
    if (o->m->output.id == (int)(cells - o->m->nodes) + 1) return false;
    for (i = 0; i < o->m->node_count; ++i) {
        const ft__node *reader = &o->m->nodes[i];
        for (k = 0; o->needed[i] && k < reader->input_count; ++k)
            if (reader->inputs[k] == (int)(cells - o->m->nodes) + 1
                && (reader->op != FT__OP_step_pool
                    || reader->options.step_pool.kind != FT_POOL_LAST
                    || reader->options.step_pool.bidirectional
                        != lstm->options.recurrent.bidirectional
                    || ft__out_lengths_id(reader) != ft__out_lengths_id(lstm))) return false;
    }
    return true;
}

/* A slice; of an LSTM with cells: its hidden states, or the cells, which have no value here. */
static const char *ft__out_sliced(ft__onnx_out *o, const ft__node *node, const char *op)
{
    const ft__node *x = ft__out_input(o, node, 0);
    const ft_slice_options *a = &node->options.slice;
    bool states = ft__out_gives_cells(x) && !a->start[1] && !a->start[2] && a->step[1] < 2
        && a->step[2] < 2 && a->stop[2] == x->shape.size[2] / 2;
    if (states) return ft__out_alias(o, node, ft__out_x(o, node, 0));
    if (!ft__out_gives_cells(x)) return ft__out_slice(o, node, op);
    if (!ft__out_cells_of(o, node) || !ft__out_only_last(o, node))
        return "ONNX's LSTM gives the cells of the last step alone";
    return ft__out_alias(o, node, "");
}

/* ---- Recurrent layers ---- */

/* y [N, D H]: the last states x [D, N, H]. */
static void ft__out_states(ft__onnx_out *o, const ft__node *node, const char *y, const char *x,
                           const char *what)
{
    const ft__recurrent_options *a = &node->options.recurrent;
    int size[2];
    x = ft__out_permute(o, ft__out_name(o, node, what), x, 1, 0, 2, -1);
    size[0] = 0;
    size[1] = (a->bidirectional ? 2 : 1) * a->hidden;
    ft__out_2(o, "Reshape", y, x, ft__out_list(o, size, 2));
}

static const char *ft__out_first_states(ft__onnx_out *o, const ft__node *node, int i, bool cell)
{
    const ft__recurrent_options *a = &node->options.recurrent;
    int size[3];
    const char *y;
    size[0] = 0;
    size[1] = a->bidirectional ? 2 : 1;
    size[2] = a->hidden;
    y = ft__out_2(o, "Reshape", ft__out_name(o, node, cell ? "cell_rows" : "hidden_rows"),
                  ft__out_x(o, node, i), ft__out_list(o, size, 3));
    return ft__out_permute(o, ft__out_name(o, node, cell ? "cell" : "hidden"), y, 1, 0, 2, -1);
}

/* A weight or bias, input `i`, with its gates in ONNX's order. */
static const char *ft__out_gates(ft__onnx_out *o, const ft__node *node, int i)
{
    const int *order = node->op == FT__OP_lstm ? ft__out_lstm_gates : ft__out_gru_gates;
    const char *name = ft__out_input(o, node, i)->name, *gates[4], *y;
    int count = ft__gate_count(node->op), hidden = node->options.recurrent.hidden, g;
    char text[1024];
    if (count == 1) return ft__out_x(o, node, i);
    snprintf(text, sizeof text, "%.900s/gates%d", name, count);
    if (ft__out_made(o, text)) return ft__out_made(o, text);
    for (g = 0; g < count; ++g) {
        snprintf(text, sizeof text, "%.900s/gate%d", name, g);
        gates[g] = ft__out_cut(o, ft__out_unused(o, text), ft__out_x(o, node, i), 0,
                               (int64_t)order[g] * hidden, (int64_t)(order[g] + 1) * hidden);
    }
    snprintf(text, sizeof text, "%.900s/gates%d", name, count);
    y = ft__out_unused(o, text);
    ft__out_int(o, "axis", 0);
    ft__out_node(o, "Concat", gates, count, &y, 1);
    return y;
}

/* W (0) or R (1) [D, G H, ..], or B (2) [D, 2 G H], of the weights after x. */
static const char *ft__out_cell_weight(ft__onnx_out *o, const ft__node *node, int which)
{
    static const char *const names[] = {"W", "R", "B"}, *const ends[2][3] = {{"W0", "R0", "B0"},
        {"W1", "R1", "B1"}};
    const ft__recurrent_options *a = &node->options.recurrent;
    int directions = a->bidirectional ? 2 : 1, each = a->no_bias ? 2 : 4, d;
    const char *y[2], *pair[2], *both, *all = ft__out_name(o, node, names[which]);
    for (d = 0; d < directions; ++d) {
        int at = 1 + d * each + which;
        pair[0] = ft__out_gates(o, node, at);
        if (which == 2) {
            pair[1] = ft__out_gates(o, node, at + 1);
            both = ft__out_name(o, node, d ? "biases1" : "biases0");
            ft__out_int(o, "axis", 0);
            ft__out_node(o, "Concat", pair, 2, &both, 1);
            pair[0] = both;
        }
        y[d] = ft__out_unsqueeze(o, directions > 1 ? ft__out_name(o, node, ends[d][which]) : all,
                                 pair[0], 0);
    }
    if (directions == 1) return all;
    ft__out_int(o, "axis", 0);
    ft__out_node(o, "Concat", y, 2, &all, 1);
    return all;
}

static const char *ft__out_recurrent(ft__onnx_out *o, const ft__node *node, const char *op)
{
    const ft__recurrent_options *a = &node->options.recurrent;
    int directions = a->bidirectional ? 2 : 1, size[3], at = ft__out_lengths_id(node) ? 1 : 0;
    bool cells = a->cells || (a->carry && ft__has_cells(node->op));
    const char *x[7], *y[3];
    char name[1024];
    memset(x, 0, sizeof x);
    x[0] = ft__out_permute(o, ft__out_name(o, node, "x"), ft__out_x(o, node, 0), 1, 0, 2, -1);
    x[1] = ft__out_cell_weight(o, node, 0);
    x[2] = ft__out_cell_weight(o, node, 1);
    if (!a->no_bias) x[3] = ft__out_cell_weight(o, node, 2);
    at += 1 + directions * (a->no_bias ? 2 : 4); /* the first input after weights and lengths */
    if (a->lengths) {
        snprintf(name, sizeof name, "%.900s/int32", ft__out_input(o, node, at - 1)->name);
        x[4] = ft__out_made(o, name);
        if (!x[4])
            x[4] = ft__out_cast(o, ft__out_unused(o, name), ft__out_x(o, node, at - 1),
                                FT__ONNX_I32);
    }
    if (a->initial) x[5] = ft__out_first_states(o, node, at, false);
    if (a->initial && ft__has_cells(node->op)) x[6] = ft__out_first_states(o, node, at + 1, true);
    y[0] = ft__out_name(o, node, "Y");
    y[1] = a->carry ? ft__out_name(o, node, "Y_h") : "";
    y[2] = cells ? ft__out_name(o, node, "Y_c") : "";
    ft__out_int(o, "hidden_size", a->hidden);
    if (a->bidirectional) ft__out_text(o, "direction", "bidirectional");
    if (a->relu) ft__out_texts(o, "activations", "Relu", directions);
    if (node->op == FT__OP_gru) ft__out_int(o, "linear_before_reset", !a->reset_before);
    ft__out_node(o, op, x, 7, y, cells ? 3 : a->carry ? 2 : 1);
    if (a->cells)
        ft__out_states(o, node, ft__out_name(o, node, "last_cells"), y[2], "last_cells_rows");
    if (a->carry)
        ft__out_states(o, node, ft__out_name(o, ft__out_input(o, node, at), "next"), y[1],
                       "next_hidden");
    if (a->carry && cells)
        ft__out_states(o, node, ft__out_name(o, ft__out_input(o, node, at + 1), "next"), y[2],
                       "next_cell");
    y[0] = ft__out_permute(o, ft__out_name(o, node, "steps"), y[0], 2, 0, 1, 3);
    size[0] = size[1] = 0;
    size[2] = directions * a->hidden;
    ft__out_2(o, "Reshape", node->name, y[0], ft__out_list(o, size, 3));
    return NULL;
}

/* ---- Pooling over steps ---- */

/* 1 for a sample that has a real step, else 0: [N, 1]. */
static const char *ft__out_has_steps(ft__onnx_out *o, const ft__node *node)
{
    char name[1024];
    snprintf(name, sizeof name, "%.900s/any", ft__out_input(o, node, 1)->name);
    return ft__out_as_number(o, ft__out_shared(o, name, "Greater", ft__out_lengths(o, node, 1, 2),
                                               ft__out_whole(o, 0)));
}

/* How many steps of input 0 are real: input 1, but at most as many as there are. [N, 1]. */
static const char *ft__out_real_count(ft__onnx_out *o, const ft__node *node)
{
    return ft__out_2(o, "Min", ft__out_name(o, node, "most"), ft__out_lengths(o, node, 1, 2),
                     ft__out_size(o, ft__out_input(o, node, 0)->shape.size[1]));
}

/* x [N, L, C] at the first step, or the last real one. */
static const char *ft__out_at_step(ft__onnx_out *o, const ft__node *node, const char *y, bool last)
{
    const char *place;
    char name[1024], number[16];
    if (!last || node->input_count < 2) {
        place = ft__out_whole(o, last ? -1 : 0);
        ft__out_int(o, "axis", 1);
        return ft__out_2(o, "Gather", y, ft__out_x(o, node, 0), place);
    }
    snprintf(name, sizeof name, "%.900s/last/%s", ft__out_input(o, node, 1)->name,
             ft__out_size_text(ft__out_input(o, node, 0)->shape.size[1], number));
    place = ft__out_made(o, name);
    if (!place) { /* less 1, at least 0 */
        place = ft__out_real_count(o, node);
        place = ft__out_2(o, "Sub", ft__out_name(o, node, "before"), place, ft__out_whole(o, 1));
        place = ft__out_2(o, "Max", ft__out_unused(o, name), place, ft__out_whole(o, 0));
    }
    ft__out_int(o, "batch_dims", 1);
    return ft__out_2(o, "GatherND", y, ft__out_x(o, node, 0), place);
}

/* The mean or maximum of the real steps; the maximum of none is the lowest number. */
static const char *ft__out_over_steps(ft__onnx_out *o, const ft__node *node, const char *y,
                                      bool mean)
{
    int axis = 1;
    const char *x = ft__out_x(o, node, 0), *real, *count, *steps;
    if (node->input_count > 1) {
        real = ft__out_real_steps(o, node, 1, ft__out_input(o, node, 0)->shape.size[1]);
        if (!mean) x = ft__out_3(o, "Where", ft__out_name(o, node, "real"), real, x,
                                 ft__out_number(o, -FLT_MAX));
        else x = ft__out_2(o, "Mul", ft__out_name(o, node, "real"), x,
                           ft__out_as_number(o, real));
    }
    if (mean && node->input_count > 1) {
        count = ft__out_real_count(o, node);
        count = ft__out_2(o, "Max", ft__out_name(o, node, "least"), count, ft__out_whole(o, 1));
        count = ft__out_as_number(o, count);
        steps = ft__out_one(o, axis);
        ft__out_int(o, "keepdims", 0);
        x = ft__out_2(o, "ReduceSum", ft__out_name(o, node, "sum"), x, steps);
        return ft__out_2(o, "Div", y, x, count);
    }
    ft__out_ints(o, "axes", &axis, 1);
    ft__out_int(o, "keepdims", 0);
    return ft__out_1(o, mean ? "ReduceMean" : "ReduceMax", y, x);
}

/* The last, mean, largest or first of the real steps; zeros if there is none. */
static const char *ft__out_step_pool(ft__onnx_out *o, const ft__node *node, const char *op)
{
    const ft_step_pool_options *a = &node->options.step_pool;
    const ft__node *x = ft__out_input(o, node, 0), *lstm = ft__out_cells_of(o, x);
    int features = node->shape.size[1];
    bool zeros = node->input_count > 1 && a->kind != FT_POOL_MEAN;
    const char *y = zeros ? ft__out_name(o, node, "any") : node->name, *halves[2];
    char name[1024];
    (void)op;
    if (lstm) {
        snprintf(name, sizeof name, "%.900s/last_cells", lstm->name);
        return ft__out_alias(o, node, ft__out_made(o, name));
    }
    if (a->kind == FT_POOL_LAST && a->bidirectional) {
        halves[0] = ft__out_at_step(o, node, ft__out_name(o, node, "last"), true);
        halves[1] = ft__out_at_step(o, node, ft__out_name(o, node, "first"), false);
        halves[0] = ft__out_cut(o, ft__out_name(o, node, "forward"), halves[0], 1, 0, features / 2);
        halves[1] = ft__out_cut(o, ft__out_name(o, node, "reverse"), halves[1], 1, features / 2,
                                features);
        ft__out_int(o, "axis", 1);
        ft__out_node(o, "Concat", halves, 2, &y, 1);
    } else if (a->kind == FT_POOL_LAST || a->kind == FT_POOL_FIRST)
        ft__out_at_step(o, node, y, a->kind == FT_POOL_LAST);
    else ft__out_over_steps(o, node, y, a->kind == FT_POOL_MEAN);
    if (zeros) ft__out_2(o, "Mul", node->name, y, ft__out_has_steps(o, node));
    return NULL;
}

/* The sum over the real steps of 1 at the token's place and 0 elsewhere. */
static const char *ft__out_token_counts(ft__onnx_out *o, const ft__node *node, const char *op)
{
    static const float numbers[] = {0, 1};
    int two = 2;
    const char *x, *axis = ft__out_one(o, 1);
    x = ft__out_3(o, op, ft__out_name(o, node, "places"), ft__out_x(o, node, 0),
                  ft__out_whole(o, node->options.token_counts.words),
                  ft__out_floats(o, ft__out_name(o, node, "off_on"), numbers, &two, 1));
    if (node->input_count > 1)
        x = ft__out_2(o, "Mul", ft__out_name(o, node, "real"), x, ft__out_as_number(
            o, ft__out_real_steps(o, node, 1, ft__out_input(o, node, 0)->shape.size[1])));
    ft__out_int(o, "keepdims", 0);
    ft__out_2(o, "ReduceSum", node->name, x, axis);
    return NULL;
}
#endif
