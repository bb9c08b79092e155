#pragma once
#include "platform/families.h"
#include "basics/strings.h"
#include "basics/json.h"
#include "formats/onnx_file.h"
#include "formats/onnx_values.h"
#include "formats/onnx_making.h"
#include "formats/onnx_elements.h"

/* =============================================================================================
   [SECTION] formats/onnx_recurrent: LSTM, GRU and RNN of ONNX
   X [T, N, I], or [N, T, I] with layout 1; W [D, G H, I], R [D, G H, H] and B [D, 2 G H], whose
   gates stand in another order than PyTorch's: iofc instead of ifgo, zrh instead of rzn. A GRU is
   PyTorch's with linear_before_reset 1. Y is [T, D, N, H], the last states Y_h and Y_c are
   [D, N, H].
   ============================================================================================= */
#if FT__HAS_ONNX

typedef struct ft__onnx_cell {
    const char *onnx, *op, *activations, *twice; /* for both directions */
    int gates, order[4];    /* order[g]: the place in ONNX of PyTorch's gate g */
} ft__onnx_cell;

static const ft__onnx_cell ft__onnx_cells[] = {
    {"LSTM", "lstm", "Sigmoid,Tanh,Tanh", "Sigmoid,Tanh,Tanh,Sigmoid,Tanh,Tanh", 4, {0, 2, 3, 1}},
    {"GRU", "gru", "Sigmoid,Tanh", "Sigmoid,Tanh,Sigmoid,Tanh", 3, {1, 0, 2, 0}},
    {"RNN", "rnn", "Tanh", "Tanh,Tanh", 1, {0, 0, 0, 0}},
    {"RNN", "rnn", "Relu", "Relu,Relu", 1, {0, 0, 0, 0}}};

/* The row of the table for a node's activations; NULL: they are others. */
static const ft__onnx_cell *ft__onnx_cell_of(const ft__onnx_node *n)
{
    const char *activations = ft__onnx_text(n, "activations", "");
    size_t i;
    for (i = 0; i < sizeof ft__onnx_cells / sizeof *ft__onnx_cells; ++i) {
        const ft__onnx_cell *cell = &ft__onnx_cells[i];
        if (strcmp(cell->onnx, n->op) == 0
            && (!*activations || strcmp(activations, cell->activations) == 0
                || strcmp(activations, cell->twice) == 0)) return cell;
    }
    return NULL;
}

/* The weight or bias [gates * hidden, columns] of a direction, in PyTorch's order: rows from
   `first` on of a tensor [D, rows, columns]. -1: it cannot be. */
static int ft__onnx_gate_weight(ft__onnx *x, const char *name, ft__onnx_value *v,
                                const ft__onnx_cell *cell, int direction, int first, int hidden)
{
    int rows = cell->gates * hidden, size[2], rank = v->rank - 1, g;
    int64_t columns = rank > 1 ? (int64_t)v->size[2].k : 1, all = (int64_t)v->size[1].k, i;
    ft__onnx_value shape, *to;
    memset(&shape, 0, sizeof shape);
    shape.rank = rank;
    shape.size[0] = ft__onnx_known(rows);
    shape.size[1] = ft__onnx_known((double)columns);
    to = ft__onnx_new_constant(x, name, &shape);
    if (!to) return -1;
    for (g = 0; g < cell->gates; ++g)
        for (i = 0; i < hidden * columns; ++i)
            to->numbers[g * hidden * columns + i]
                = ft__onnx_at(v, (direction * all + first + cell->order[g] * hidden) * columns + i);
    size[0] = rows;
    size[1] = (int)columns;
    return ft__onnx_weight(x, to, "parameter", size, rank);
}

/* All weights of a node, after its first input; returns how many inputs there are then, 0: they
   cannot be read. */
static int ft__onnx_cell_weights(ft__onnx *x, const ft__onnx_node *n, const ft__onnx_cell *cell,
                                 int directions, int hidden, int *inputs)
{
    static const char *const names[2][4] = {
        {".weight_ih_l0", ".weight_hh_l0", ".bias_ih_l0", ".bias_hh_l0"},
        {".weight_ih_l0_reverse", ".weight_hh_l0_reverse", ".bias_ih_l0_reverse",
         ".bias_hh_l0_reverse"}};
    const char *name = *n->name ? n->name : ft__onnx_name_of(x, n);
    bool biased = n->input_count > 3 && n->inputs[3] >= 0;
    int count = 1, d, k, w, values[3];
    for (w = 0; w < 3; ++w) {
        ft__onnx_value *v = ft__onnx_input(x, n, 1 + w);
        values[w] = v && (w < 2 || biased) ? n->inputs[1 + w] : -1;
        if (values[w] < 0 && w < 2) return 0;
        if (values[w] < 0) continue;
        if (v->rank != (w < 2 ? 3 : 2) || !ft__onnx_is(v->size[0], directions)
            || !ft__onnx_is(v->size[1], (double)hidden * cell->gates * (w < 2 ? 1 : 2))
            || (w == 1 && !ft__onnx_is(v->size[2], hidden)) || !ft__onnx_numbers(x, v)) return 0;
    }
    for (d = 0; d < directions; ++d)
        for (k = 0; k < (biased ? 4 : 2); ++k) {
            w = k < 2 ? k : 2;
            inputs[count] = ft__onnx_gate_weight(x, ft__onnx_name(x, name, names[d][k]),
                                                 &x->values[values[w]], cell, d,
                                                 k == 3 ? cell->gates * hidden : 0, hidden);
            if (inputs[count++] < 0) return 0;
        }
    return count;
}

/* The states to start from, [D, N, H], after the other inputs: zeros are the default. NULL, or why
   they cannot be mapped. */
static const char *ft__onnx_cell_states(ft__onnx *x, const ft__onnx_node *n, int directions,
                                        int hidden, bool cells, int *inputs, int *count)
{
    int i, given = 0;
    for (i = 5; i < 7; ++i) {
        ft__onnx_value *v = ft__onnx_input(x, n, i), flat;
        double number;
        if (!v || (ft__onnx_is_run(x, v, 0, &number) && !(number < 0 || number > 0))) continue;
        if (v->kind != FT__ONNX_NODE || v->rank != 3 || v->batch != 1 || ft__onnx_is_merged(v))
            return "first states are supported if they are zero, or follow from an input";
        flat = *v;
        flat.rank = 2;
        flat.batch = 0;
        flat.size[0] = v->size[1];
        flat.size[1] = ft__onnx_known((double)directions * hidden);
        inputs[(*count)++] = ft__onnx_make_shape(x, ft__onnx_name(x, ft__onnx_name_of(x, n), i == 5
                                                                  ? ".hidden" : ".cell"),
                                                 v->made, v, &flat);
        given += 1;
    }
    return given == 0 || given == 1 + cells ? NULL : "needs both first states, or none";
}

/* The cell after one step of an LSTM, from its inputs: its gates once more, i, f, g and o.
   c' = sigmoid(f) c + sigmoid(i) tanh(g), [N, H]. */
static int ft__onnx_make_cell(ft__onnx *x, const char *name, const ft__onnx_value *v,
                              const int *inputs, bool biased, bool initial, int hidden)
{
    static const char *const ends[] = {".i", ".f", ".g"};
    int part[3], gates, states, k, made;
    ft__onnx_value flat = *v;
    flat.rank = 2;
    flat.size[0] = v->size[v->batch];
    flat.size[1] = v->size[2];
    flat.batch = 0;
    gates = ft__onnx_make_shape(x, ft__onnx_name(x, name, ".step"), inputs[0], v, &flat);
    gates = ft__onnx_make_two(x, "linear", ft__onnx_name(x, name, ".new"), gates, inputs[1], NULL);
    states = biased ? 5 : 3;
    if (biased)
        for (k = 3; k < 5; ++k)
            gates = ft__onnx_make_two(x, "add", ft__onnx_name(x, name, k < 4 ? ".b" : ".bb"), gates,
                                      inputs[k], NULL);
    if (initial) {
        made = ft__onnx_make_two(x, "linear", ft__onnx_name(x, name, ".old"), inputs[states],
                                 inputs[2], NULL);
        gates = ft__onnx_make_two(x, "add", ft__onnx_name(x, name, ".gates"), gates, made, NULL);
    }
    for (k = 0; k < 3; ++k) {
        int start[2] = {0, 0}, stop[2] = {0, 0};
        ft__text fields = ft__onnx_fields(x);
        start[1] = k * hidden;
        stop[1] = (k + 1) * hidden;
        ft__json_add_ints(&fields, "start", start, 2);
        ft__json_add_ints(&fields, "stop", stop, 2);
        part[k] = ft__onnx_make_one(x, "slice", ft__onnx_name(x, name, ends[k]), gates, &fields);
        part[k] = ft__onnx_make_one(x, k < 2 ? "sigmoid" : "tanh",
                                    ft__onnx_name(x, ft__onnx_name(x, name, ends[k]), ".open"),
                                    part[k], NULL);
    }
    made = ft__onnx_make_two(x, "mul", ft__onnx_name(x, name, ".added"), part[0], part[2], NULL);
    if (!initial) return made;
    part[1] = ft__onnx_make_two(x, "mul", ft__onnx_name(x, name, ".kept"), part[1],
                                inputs[states + 1], NULL);
    return ft__onnx_make_two(x, "add", ft__onnx_name(x, name, ".sum"), part[1], made, NULL);
}

/* What cannot be mapped of a node, whatever its inputs are; NULL: nothing. */
static const char *ft__onnx_cell_fault(ft__onnx *x, const ft__onnx_node *n,
                                       const ft__onnx_cell *cell)
{
    ft__onnx_value *last_cell = ft__onnx_output(x, n, 2), *v = ft__onnx_node_in(x, n, 0);
    if (!cell) return "has other activations than PyTorch's";
    if (ft__onnx_attribute_of(n, "clip") || ft__onnx_int(n, "input_forget", 0))
        return "clip and input_forget are not supported";
    if (strcmp(ft__onnx_text(n, "direction", "forward"), "reverse") == 0)
        return "of the reverse direction alone is not supported";
    if (n->input_count > 4 && n->inputs[4] >= 0) return "sequence_lens are not supported";
    if (n->input_count > 7 && n->inputs[7] >= 0) return "peepholes are not supported";
    if (last_cell && last_cell->uses
        && (!v || v->rank != 3 || !ft__onnx_is(v->size[ft__onnx_int(n, "layout", 0) != 0], 1)
            || strcmp(ft__onnx_text(n, "direction", "forward"), "forward") != 0))
        return "its last cell is supported after one step, in one direction";
    return NULL;
}

static const char *ft__onnx_recurrent(ft__onnx *x, const ft__onnx_node *n)
{
    const ft__onnx_cell *cell = ft__onnx_cell_of(n);
    ft__onnx_value *v = ft__onnx_node_in(x, n, 0), y, last, flat;
    bool both = strcmp(ft__onnx_text(n, "direction", "forward"), "bidirectional") == 0;
    int hidden = (int)ft__onnx_int(n, "hidden_size", 0), directions = 1 + both, inputs[16], count;
    int made, pooled, batch = ft__onnx_int(n, "layout", 0) ? 0 : 1, before;
    const char *fault = ft__onnx_cell_fault(x, n, cell), *name = ft__onnx_name_of(x, n);
    ft__text fields = ft__onnx_fields(x), pool = ft__onnx_fields(x);
    if (fault) return fault;
    if (!v) return ft__onnx_needs_node;
    if (v->rank != 3 || v->batch != batch || ft__onnx_is_merged(v) || hidden < 1
        || hidden > 1 << 24) return "needs an input [steps, N, features]";
    inputs[0] = v->made;
    count = before = ft__onnx_cell_weights(x, n, cell, directions, hidden, inputs);
    if (!count) return "its weights cannot be read";
    fault = ft__onnx_cell_states(x, n, directions, hidden, cell->gates == 4, inputs, &count);
    if (fault) return fault;
    ft__onnx_add_int(&fields, "hidden", hidden);
    ft__onnx_add_flag(&fields, "bidirectional", both);
    ft__onnx_add_flag(&fields, "no_bias", before == 1 + 2 * directions);
    ft__onnx_add_flag(&fields, "initial", count > before);
    ft__onnx_add_flag(&fields, "relu", strcmp(cell->activations, "Relu") == 0);
    ft__onnx_add_flag(&fields, "reset_before", cell->gates == 3
                                               && !ft__onnx_int(n, "linear_before_reset", 0));
    made = ft__onnx_make(x, cell->op, ft__onnx_name(x, name, ".steps"), inputs, count, &fields);
    flat = *v; /* [T, N, D H] */
    flat.size[2] = ft__onnx_known((double)directions * hidden);
    y = flat;
    y.rank = 4; /* [T, D, N, H], or [N, T, D, H] */
    y.size[0] = v->size[0];
    y.size[1] = batch ? ft__onnx_known(directions) : v->size[1];
    y.size[2] = batch ? v->size[1] : ft__onnx_known(directions);
    y.size[3] = ft__onnx_known(hidden);
    y.batch = batch ? 2 : 0;
    fault = ft__onnx_is_made(x, n, 0, ft__onnx_make_shape(x, name, made, &flat, &y), &y);
    last = y; /* [D, N, H], or [N, D, H] */
    last.rank = 3;
    last.size[1 - batch] = ft__onnx_known(directions);
    last.size[batch] = v->size[batch];
    last.size[2] = ft__onnx_known(hidden);
    last.batch = batch;
    flat.rank = 2;
    flat.size[0] = v->size[batch];
    flat.size[1] = ft__onnx_known((double)directions * hidden);
    flat.batch = 0;
    if (!fault && n->output_count > 2 && n->outputs[2] >= 0 && x->values[n->outputs[2]].uses) {
        const char *end = x->values[n->outputs[2]].name;
        int kept = ft__onnx_make_cell(x, end, v, inputs, before == 5, count > before, hidden);
        fault = ft__onnx_is_made(x, n, 2, ft__onnx_make_shape(x, end, kept, &flat, &last), &last);
    }
    if (fault || n->output_count < 2 || n->outputs[1] < 0) return fault;
    ft__onnx_add_int(&pool, "kind", 0);
    ft__onnx_add_flag(&pool, "bidirectional", both);
    name = x->values[n->outputs[1]].name;
    pooled = ft__onnx_make_one(x, "step_pool", ft__onnx_name(x, name, ".last"), made, &pool);
    return ft__onnx_is_made(x, n, 1, ft__onnx_make_shape(x, name, pooled, &flat, &last), &last);
}
#endif
