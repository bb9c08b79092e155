#pragma once
#include "interface/requirements.h"
#include "platform/families.h"
#include "basics/strings.h"
#include "basics/json.h"
#include "formats/keras_nodes.h"
#include "formats/keras_layers.h"
/* =============================================================================================
   [SECTION] formats/keras_sequences: Keras' networks: sequences, merges, scaling of inputs
   As formats/keras_layers.
   ============================================================================================= */
#if FT__HAS_KERAS
static int ft__keras_embedding(ft__keras *g, const int *inputs, int count)
{
    const ft__keras_value *v = ft__keras_at(g, inputs[0]);
    int size[2], two[2], y;
    (void)count;
    if (ft__keras_flag(g, "mask_zero", false))
        return ft__keras_refuse(g, "mask_zero: a mask of the steps whose id is 0");
    if (v->input < 0 || v->rank > 2)
        return ft__keras_refuse(g, "ids that are no input of one or two dimensions");
    ((ft__keras_input *)g->inputs.at)[v->input].ids = true;
    size[0] = ft__keras_int(g, "input_dim", 1, 0);
    size[1] = ft__keras_int(g, "output_dim", 1, 0);
    if (size[0] < 1 || size[1] < 1) return -1;
    two[0] = inputs[0];
    two[1] = ft__keras_weight_of(g, ".weight", 2, size, 0, 0);
    y = ft__keras_node(g, "embedding", "", two, 2);
    if (y >= 0) ft__keras_at(g, y)->size[ft__keras_at(g, y)->rank++] = size[1];
    return y;
}

/* ---- Recurrent layers. Gates are in PyTorch's order in our weights: formats/keras_files ---- */

typedef struct ft__keras_cell { const char *class_name, *op; int gates; } ft__keras_cell;

static const ft__keras_cell ft__keras_cells[] = {
    {"LSTM", "lstm", 4}, {"GRU", "gru", 3}, {"SimpleRNN", "rnn", 1}};

static const ft__keras_cell *ft__keras_cell_of(const char *class_name)
{
    size_t i;
    for (i = 0; class_name && i < sizeof ft__keras_cells / sizeof ft__keras_cells[0]; ++i)
        if (!strcmp(ft__keras_cells[i].class_name, class_name)) return &ft__keras_cells[i];
    return NULL;
}

/* Whether a cell is a GRU whose reset gate is before the product; it has one bias. */
static bool ft__keras_resets_before(const ft__keras *g, const ft__keras_cell *cell)
{
    return cell->gates == 3 && !ft__keras_flag(g, "reset_after", !g->old);
}

/* What of the config our cells cannot do; true: nothing. */
static bool ft__keras_cell_fits(ft__keras *g, const ft__keras_cell *cell)
{
    const char *activation = ft__keras_activation_name(g, "activation");
    const char *gates = ft__keras_activation_name(g, "recurrent_activation");
    int before = g->refused_count;
    bool relu = cell->gates == 1 && !strcmp(activation, "relu");
    if (strcmp(activation, "tanh") != 0 && !relu)
        ft__keras_refuse(g, "activation %.60s", activation);
    if (cell->gates > 1 && strcmp(gates, "sigmoid") != 0)
        ft__keras_refuse(g, "recurrent_activation %.60s", gates);
    if (ft__keras_number(g, "recurrent_dropout", 0) != 0)
        ft__keras_refuse(g, "recurrent_dropout");
    if (ft__keras_flag(g, "return_state", false)) ft__keras_refuse(g, "return_state");
    if (ft__keras_flag(g, "stateful", false)) ft__keras_refuse(g, "stateful");
    return g->refused_count == before;
}

/* The weights of one direction after inputs[*count]. Of one bias of Keras' the second one of ours
   is a constant. */
static void ft__keras_cell_weights(ft__keras *g, const ft__keras_cell *cell, int in, int units,
                                   bool bias, const char *direction, int *inputs, int *count)
{
    int rows = cell->gates * units, size[2];
    char name[40];
    size[0] = rows;
    size[1] = in;
    snprintf(name, sizeof name, ".weight_ih_l0%s", direction);
    inputs[(*count)++] = ft__keras_weight_of(g, name, 2, size, in, rows);
    size[1] = units;
    snprintf(name, sizeof name, ".weight_hh_l0%s", direction);
    inputs[(*count)++] = ft__keras_weight_of(g, name, 2, size, units, rows);
    if (!bias) return;
    snprintf(name, sizeof name, ".bias_ih_l0%s", direction);
    inputs[(*count)++] = ft__keras_weight_of(g, name, 1, &rows, units, rows);
    snprintf(name, sizeof name, ".bias_hh_l0%s", direction);
    inputs[(*count)++] = cell->gates == 3 && !ft__keras_resets_before(g, cell)
        ? ft__keras_weight_of(g, name, 1, &rows, units, rows) : ft__keras_filled(g, name, rows, 0);
}

/* One or two directions over x [N, L, in]: the node of all steps. */
static int ft__keras_recur(ft__keras *g, const ft__keras_cell *cell, int x, bool both,
                           const char *suffix)
{
    int units = ft__keras_int(g, "units", 1, 0), inputs[9], count = 1, y, dropped;
    bool bias = ft__keras_flag(g, "use_bias", true);
    double dropout = ft__keras_number(g, "dropout", 0);
    if (!ft__keras_cell_fits(g, cell) || units < 1) return -1;
    if (ft__keras_at(g, x)->rank != 3) return ft__keras_refuse(g, "an input that is no sequence");
    x = ft__keras_turn(g, x, false);
    if (dropout != 0) { /* one mask for all steps */
        if (both) return ft__keras_refuse(g, "dropout of its inputs in two directions");
        dropped = ft__keras_begin(g, "dropout", ".dropout", &x, 1);
        ft__keras_float_text(g, "probability", dropout);
        ft__text_add(&g->text, ",\"locked\":true}");
        x = dropped;
    }
    if (x < 0) return x;
    inputs[0] = x;
    ft__keras_cell_weights(g, cell, ft__keras_last(g, x), units, bias, "", inputs, &count);
    if (both) ft__keras_cell_weights(g, cell, ft__keras_last(g, x), units, bias, "_reverse", inputs,
                                     &count);
    for (y = 1; y < count; ++y)
        if (inputs[y] < 0) return -1;
    y = ft__keras_begin(g, cell->op, suffix, inputs, count);
    ft__text_add(&g->text, ",\"hidden\":%d%s%s", units, both ? ",\"bidirectional\":true" : "",
                 bias ? "" : ",\"no_bias\":true");
    if (cell->gates == 1 && !strcmp(ft__keras_activation_name(g, "activation"), "relu"))
        ft__text_add(&g->text, ",\"relu\":true");
    if (ft__keras_resets_before(g, cell)) ft__text_add(&g->text, ",\"reset_before\":true");
    ft__keras_end(g);
    if (y >= 0) ft__keras_at(g, y)->size[2] = units * (both ? 2 : 1);
    return y;
}

/* The last step [N, C]; of two directions, of each its own last one. */
static int ft__keras_last_step(ft__keras *g, int x, bool both, const char *suffix)
{
    int y = ft__keras_begin(g, "step_pool", suffix, &x, 1);
    if (y < 0) return y;
    ft__text_add(&g->text, "%s}", both ? ",\"bidirectional\":true" : "");
    ft__keras_at(g, y)->rank = 2;
    ft__keras_at(g, y)->size[1] = ft__keras_last(g, x);
    return y;
}

static int ft__keras_recurrent(ft__keras *g, const int *inputs, int count)
{
    bool all = ft__keras_flag(g, "return_sequences", false);
    int y;
    (void)count;
    if (ft__keras_flag(g, "go_backwards", false)) return ft__keras_refuse(g, "go_backwards");
    y = ft__keras_recur(g, ft__keras_cell_of(g->class_name), inputs[0], false, all ? "" : ".steps");
    return y < 0 || all ? y : ft__keras_last_step(g, y, false, "");
}

/* The two halves of x's features, merged as Bidirectional's merge_mode says. */
static int ft__keras_merge_halves(ft__keras *g, int x, const char *mode)
{
    static const char *const names[] = {".forward", ".backward"};
    int features = ft__keras_last(g, x) / 2, rank = ft__keras_at(g, x)->rank, half[2], i, d, y;
    bool mean = !strcmp(mode, "ave");
    if (!mean && strcmp(mode, "sum") != 0 && strcmp(mode, "mul") != 0)
        return ft__keras_refuse(g, "merge_mode %.40s", mode);
    for (i = 0; i < 2; ++i) {
        int start[3] = {0, 0, 0}, stop[3] = {0, 0, 0};
        half[i] = ft__keras_begin(g, "slice", names[i], &x, 1);
        if (half[i] < 0) return -1;
        d = rank - 1;
        start[d] = i * features;
        stop[d] = i ? 0 : features;
        ft__json_add_ints(&g->text, "start", start, rank);
        ft__json_add_ints(&g->text, "stop", stop, rank);
        ft__keras_end(g);
        ft__keras_at(g, half[i])->size[d] = features;
    }
    y = ft__keras_node(g, !strcmp(mode, "mul") ? "mul" : "add", mean ? ".sum" : "", half, 2);
    if (!mean || y < 0) return y;
    y = ft__keras_begin(g, "affine", "", &y, 1);
    ft__text_add(&g->text, ",\"scale\":0.5}");
    return y;
}

/* The config of the layer inside a wrapper; -1 with a refusal. */
static int ft__keras_inner(ft__keras *g, const char *field, const char **class_name)
{
    int inner = ft__keras_field(g, field);
    *class_name = ft__json_string(g->json, ft__json_member(g->json, inner, "class_name"));
    inner = ft__json_member(g->json, inner, "config");
    if (*class_name && ft__json_at(g->json, inner, 'o')) return inner;
    return ft__keras_refuse(g, "has no %s", field);
}

static int ft__keras_bidirectional(ft__keras *g, const int *inputs, int count)
{
    const char *mode = ft__keras_word(g, "merge_mode", ""), *class_name, *backward;
    const ft__keras_cell *cell;
    int outer = g->config, inner = ft__keras_inner(g, "layer", &class_name), x, other;
    bool all, plain = !strcmp(mode, "concat"), before;
    (void)count;
    cell = ft__keras_cell_of(class_name);
    if (inner < 0) return -1;
    if (!cell) return ft__keras_refuse(g, "a layer %.60s", class_name);
    if (ft__keras_field(g, "backward_layer") >= 0) { /* Keras 3 always writes it */
        other = ft__keras_inner(g, "backward_layer", &backward);
        g->config = other;
        if (other >= 0 && (ft__keras_cell_of(backward) != cell
                           || ft__keras_int(g, "units", 1, 0) < 1))
            return ft__keras_refuse(g, "a backward_layer of another kind");
        x = other < 0 ? 0 : ft__keras_int(g, "units", 1, 0);
        before = other >= 0 && ft__keras_resets_before(g, cell);
        g->config = inner;
        if (other >= 0 && before != ft__keras_resets_before(g, cell)) {
            g->config = outer;
            return ft__keras_refuse(g, "a backward_layer with another reset_after");
        }
        if (x != ft__keras_int(g, "units", 1, 0)) {
            g->config = outer;
            return ft__keras_refuse(g, "a backward_layer of another size");
        }
    }
    g->config = inner;
    all = ft__keras_flag(g, "return_sequences", false);
    x = ft__keras_recur(g, cell, inputs[0], true, all && plain ? "" : ".steps");
    g->config = outer;
    if (x >= 0 && !all) x = ft__keras_last_step(g, x, true, plain ? "" : ".last");
    return x < 0 || plain ? x : ft__keras_merge_halves(g, x, mode);
}

/* ---- Attention ---- */

/* Its inputs are query, value and, if it is not the value, key. */
static int ft__keras_attention(ft__keras *g, const int *inputs, int count)
{
    static const char *const parts[] = {".query", ".key", ".value"};
    int heads = ft__keras_int(g, "num_heads", 1, 0), key = ft__keras_int(g, "key_dim", 1, 0);
    int value = ft__keras_int(g, "value_dim", 1, key), out, three[3], i, y;
    int from[3], causal = ft__json_member(g->json, g->call_options, "use_causal_mask");
    int axes = ft__keras_field(g, "attention_axes"), axis = 1;
    bool list = ft__json_at(g->json, axes, 'a') != NULL;
    bool bias = ft__keras_flag(g, "use_bias", true);
    double dropout = ft__keras_number(g, "dropout", 0);
    if (heads < 1 || key < 1 || heads > (1 << 24) / key || heads > (1 << 24) / value) return -1;
    if (axes >= 0 && (ft__json_count(g->json, axes) > 1
                      || !ft__keras_whole(g, list ? axes + 1 : axes, 1, &axis) || axis != 1))
        return ft__keras_refuse(g, "attention_axes other than 1");
    if (count < 2 || ft__keras_at(g, inputs[0])->rank != 3)
        return ft__keras_refuse(g, "its query, value and key must be sequences");
    from[0] = inputs[0];
    from[2] = inputs[1];
    from[1] = count > 2 ? inputs[2] : inputs[1];
    if (ft__json_true(g->json, causal)
        && ft__keras_at(g, from[0])->size[1] != ft__keras_at(g, from[2])->size[1])
        return ft__keras_refuse(g, "use_causal_mask with more keys than queries, or fewer");
    out = ft__keras_last(g, inputs[0]);
    if (ft__keras_field(g, "output_shape") >= 0) { /* a number, or a list of it */
        int shape = ft__keras_field(g, "output_shape");
        if (ft__json_count(g->json, shape) == 1) shape = shape + 1;
        if (!ft__keras_whole(g, shape, 1, &out)) return ft__keras_refuse(g, "its output_shape");
    }
    for (i = 0; i < 3; ++i)
        three[i] = ft__keras_linear(g, from[i], heads * (i == 2 ? value : key), parts[i], parts[i],
                                    bias);
    if (three[0] < 0 || three[1] < 0 || three[2] < 0) return -1;
    y = ft__keras_begin(g, "attention", ".attention", three, 3);
    ft__text_add(&g->text, ",\"heads\":%d%s", heads, ft__json_true(g->json, causal)
                                                     ? ",\"causal\":true" : "");
    if (dropout != 0) ft__keras_float_text(g, "dropout", dropout);
    ft__keras_end(g);
    if (y < 0) return y;
    ft__keras_at(g, y)->size[2] = heads * value;
    return ft__keras_linear(g, y, out, ".output", "", bias);
}

/* ---- Merges ---- */

/* All inputs with the channels where the first has them. */
static bool ft__keras_alike(ft__keras *g, const int *inputs, int count, int *alike)
{
    int i, rank = ft__keras_at(g, inputs[0])->rank;
    bool first = ft__keras_at(g, inputs[0])->first;
    for (i = 0; i < count; ++i) {
        if (ft__keras_at(g, inputs[i])->rank != rank) {
            ft__keras_refuse(g, "inputs of %d and %d dimensions", rank,
                             ft__keras_at(g, inputs[i])->rank);
            return false;
        }
        first = first || ft__keras_at(g, inputs[i])->first;
    }
    for (i = 0; i < count; ++i)
        if ((alike[i] = ft__keras_turn(g, inputs[i], first)) < 0) return false;
    return true;
}

static const char *ft__keras_merge_op(const char *class_name)
{
    static const char *const ops[][2] = {
        {"Add", "add"}, {"Subtract", "sub"}, {"Multiply", "mul"}, {"Average", "add"},
        {"Maximum", "maximum"}, {"Minimum", "minimum"}};
    size_t i;
    for (i = 0; i < sizeof ops / sizeof ops[0]; ++i)
        if (!strcmp(ops[i][0], class_name)) return ops[i][1];
    return NULL;
}

/* Of more than two inputs one after the other; sizes of 1 are repeated. */
static int ft__keras_merge(ft__keras *g, const int *inputs, int count)
{
    const char *op = ft__keras_merge_op(g->class_name);
    bool mean = !strcmp(g->class_name, "Average");
    int alike[FT__KERAS_MOST_INPUTS], two[2], i, d, y;
    char suffix[24];
    if (count < 2) return ft__keras_refuse(g, "one input");
    if (!ft__keras_alike(g, inputs, count, alike)) return -1;
    two[0] = alike[0];
    for (i = 1; i < count; ++i) {
        two[1] = alike[i];
        suffix[0] = 0;
        if (i + 1 < count || mean) snprintf(suffix, sizeof suffix, ".%d", i);
        y = ft__keras_node(g, op, suffix, two, 2);
        if (y < 0) return y;
        for (d = 1; d < ft__keras_at(g, y)->rank; ++d) {
            int *size = &ft__keras_at(g, y)->size[d], other = ft__keras_at(g, two[1])->size[d];
            if (*size == 1) *size = other;
            else if (other != 1 && other != *size)
                return ft__keras_refuse(g, "sizes %d and %d", *size, other);
        }
        two[0] = y;
    }
    if (!mean) return two[0];
    y = ft__keras_begin(g, "affine", "", two, 1);
    ft__keras_float_text(g, "scale", 1.0 / count);
    ft__keras_end(g);
    return y;
}

static int ft__keras_concatenate(ft__keras *g, const int *inputs, int count)
{
    int alike[FT__KERAS_MOST_INPUTS], axis = -1, field = ft__keras_field(g, "axis"), rank;
    int i, d, sum = 0, y;
    if (count < 2) return ft__keras_refuse(g, "one input");
    if (!ft__keras_alike(g, inputs, count, alike)) return -1;
    rank = ft__keras_at(g, alike[0])->rank;
    if (field >= 0 && !ft__keras_whole(g, field, -rank, &axis)) axis = 0;
    if (axis < 0) axis += rank;
    if (axis < 1 || axis >= rank) return ft__keras_refuse(g, "axis %d", axis);
    for (i = 0; i < count; ++i)
        for (d = 1; d < rank; ++d) {
            int size = ft__keras_at(g, alike[i])->size[d];
            if (d != axis && size != ft__keras_at(g, alike[0])->size[d])
                return ft__keras_refuse(g, "its inputs differ in another axis");
            if (d == axis && (size < 1 || sum > (1 << 28) - size))
                return ft__keras_refuse(g, "the size of its axis is open");
            sum += d == axis ? size : 0;
        }
    y = ft__keras_begin(g, "concat", "", alike, count);
    if (y < 0) return y;
    if (ft__keras_at(g, y)->first) d = axis == rank - 1 ? 1 : axis + 1;
    else d = axis;
    ft__text_add(&g->text, ",\"axis\":%d}", d);
    ft__keras_at(g, y)->size[axis] = sum;
    return y;
}

/* ---- Scaling of inputs ---- */

/* The sizes of a leaf of `count` numbers, one for each channel of x or one for all, lying as x
   does. Returns its rank. */
static int ft__keras_channel_sizes(const ft__keras *g, int x, int count, int *size)
{
    int rank = ft__keras_at(g, x)->first ? ft__keras_at(g, x)->rank - 1 : 1, d;
    size[0] = count;
    for (d = 1; d < rank; ++d) size[d] = 1;
    return rank;
}

/* A constant of numbers of a field, one for each channel, lying as x does; -1 with a refusal. */
static int ft__keras_channels(ft__keras *g, const char *field, const char *suffix, int x)
{
    int list = ft__keras_field(g, field), channels = ft__keras_last(g, x), i, at, value;
    int size[FINETUNE_MAX_RANK], rank;
    double number;
    bool made;
    while (ft__json_at(g->json, list, 'a') && ft__json_count(g->json, list) == 1
           && ft__json_at(g->json, list + 1, 'a')) list = list + 1; /* [[[a, b, c]]] */
    if (ft__json_count(g->json, list) != channels && ft__json_count(g->json, list) != 1)
        return ft__keras_refuse(g, "%s must be a number for each channel", field);
    rank = ft__keras_channel_sizes(g, x, ft__json_count(g->json, list), size);
    value = ft__keras_leaf(g, "constant", suffix, rank, size, &made);
    for (i = 0, at = list + 1; made && i < size[0]; ++i, at = g->json->values[at].next) {
        if (!ft__json_double(g->json, at, &number))
            return ft__keras_refuse(g, "%s must be numbers", field);
        ft__text_add(&g->text, "%s", i ? "," : ",\"values\":[");
        ft__json_add_float(&g->text, (float)number);
    }
    if (made) ft__text_add(&g->text, "]}");
    return value;
}

/* x * scale + offset, numbers or lists of one for each channel. */
static int ft__keras_rescaling(ft__keras *g, const int *inputs, int count)
{
    bool lists = ft__json_at(g->json, ft__keras_field(g, "scale"), 'a')
        || ft__json_at(g->json, ft__keras_field(g, "offset"), 'a');
    int two[2], y;
    (void)count;
    if (!lists) {
        double scale = ft__keras_number(g, "scale", 1);
        y = ft__keras_begin(g, "affine", "", inputs, 1);
        if (scale == 0) return ft__keras_refuse(g, "a scale of 0");
        ft__keras_float_text(g, "scale", scale);
        ft__keras_float_text(g, "shift", ft__keras_number(g, "offset", 0));
        ft__keras_end(g);
        return y;
    }
    two[0] = inputs[0];
    if (ft__json_at(g->json, ft__keras_field(g, "scale"), 'a')) {
        two[1] = ft__keras_channels(g, "scale", ".scale", inputs[0]);
        y = two[1] < 0 ? -1 : ft__keras_node(g, "mul", ".scaled", two, 2);
    } else {
        y = ft__keras_begin(g, "affine", ".scaled", inputs, 1);
        ft__keras_float_text(g, "scale", ft__keras_number(g, "scale", 1));
        ft__keras_end(g);
    }
    if (y < 0) return y;
    two[0] = y;
    if (ft__json_at(g->json, ft__keras_field(g, "offset"), 'a')) {
        two[1] = ft__keras_channels(g, "offset", ".offset", inputs[0]);
        return two[1] < 0 ? -1 : ft__keras_node(g, "add", "", two, 2);
    }
    y = ft__keras_begin(g, "affine", "", two, 1);
    ft__text_add(&g->text, ",\"scale\":1");
    ft__keras_float_text(g, "shift", ft__keras_number(g, "offset", 0));
    ft__keras_end(g);
    return y;
}

/* (x - mean) / max(sqrt(variance), 1e-7), the statistics from the config or, where that has none,
   the file: ".mean" and ".variance". */
static int ft__keras_normalization(ft__keras *g, const int *inputs, int count)
{
    int x = inputs[0], two[2], size[FINETUNE_MAX_RANK], rank, mean, variance;
    (void)count;
    if (ft__keras_flag(g, "invert", false)) return ft__keras_refuse(g, "invert");
    if (!ft__keras_axis_is_last(g, x)) return -1;
    if (ft__json_at(g->json, ft__keras_field(g, "mean"), 'a')) {
        mean = ft__keras_channels(g, "mean", ".mean", x);
        variance = ft__keras_channels(g, "variance", ".variance", x);
    } else {
        if (ft__keras_field(g, "mean") >= 0) return ft__keras_refuse(g, "a mean of all channels");
        rank = ft__keras_channel_sizes(g, x, ft__keras_last(g, x), size);
        mean = ft__keras_buffer(g, ".mean", rank, size);
        variance = ft__keras_buffer(g, ".variance", rank, size);
    }
    if (mean < 0 || variance < 0) return -1;
    two[0] = x;
    two[1] = mean;
    x = ft__keras_node(g, "sub", ".centred", two, 2);
    variance = ft__keras_node(g, "sqrt", ".sqrt", &variance, 1);
    variance = variance < 0 ? -1 : ft__keras_begin(g, "clamp", ".deviation", &variance, 1);
    ft__text_add(&g->text, ",\"min\":1e-7,\"max\":\"inf\"}");
    if (x < 0 || variance < 0) return -1;
    two[0] = x;
    two[1] = variance;
    return ft__keras_node(g, "div", "", two, 2);
}
#endif
