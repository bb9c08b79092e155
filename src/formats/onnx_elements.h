#pragma once
#include "interface/types.h"
#include "platform/families.h"
#include "basics/strings.h"
#include "formats/onnx_file.h"
#include "formats/onnx_values.h"
#include "formats/onnx_making.h"
#include "formats/onnx_counting.h"

/* =============================================================================================
   [SECTION] formats/onnx_elements: ONNX operators of single numbers
   Each function maps one node whose first input is a node of our network. It returns NULL, or why
   the node cannot be mapped.
   ============================================================================================= */
#if FT__HAS_ONNX
static const char *const ft__onnx_not_known = "its shape does not follow from the inputs' shapes";
static const char *const ft__onnx_needs_node = "an input that is computed from constants alone is"
    " not supported";

/* Input `i`, if it is a node of our network. */
static ft__onnx_value *ft__onnx_node_in(ft__onnx *x, const ft__onnx_node *n, int i)
{
    ft__onnx_value *v = ft__onnx_input(x, n, i);
    return v && v->kind == FT__ONNX_NODE ? v : NULL;
}

static const char *ft__onnx_name_of(ft__onnx *x, const ft__onnx_node *n)
{
    ft__onnx_value *y = ft__onnx_output(x, n, 0);
    return y ? y->name : n->name;
}

/* Identity, Dropout in evaluation, Cast of floats: the input itself. */
static const char *ft__onnx_alias(ft__onnx *x, const ft__onnx_node *n)
{
    ft__onnx_value *v = ft__onnx_node_in(x, n, 0);
    if (!v) return ft__onnx_needs_node;
    return ft__onnx_is_made(x, n, 0, v->made, v);
}

/* Whole numbers are floats in our network, so only a cast that rounds is missed. */
static const char *ft__onnx_cast(ft__onnx *x, const ft__onnx_node *n)
{
    ft__onnx_value *v = ft__onnx_node_in(x, n, 0), *y = ft__onnx_output(x, n, 0);
    ft__onnx_value *rows = ft__onnx_input(x, n, 0);
    int type = (int)ft__onnx_int(n, "to", 0), zero, made;
    const char *fault;
    if (y && rows && (rows->kind == FT__ONNX_POSITIONS || rows->kind == FT__ONNX_ROW)
        && ft__onnx_is_float(type)) {
        ft__onnx_fold_view(y, rows, rows);
        return NULL;
    }
    if (!v || !y) return ft__onnx_needs_node;
    if (type == FT__ONNX_BOOL && v->type != FT__ONNX_BOOL) {
        zero = ft__onnx_make_number(x, ft__onnx_name(x, y->name, ".zero"), 0);
        made = ft__onnx_make_two(x, "not_equal", y->name, v->made, zero, NULL);
        fault = ft__onnx_is_made(x, n, 0, made, v);
    } else if (!ft__onnx_is_float(type) && ft__onnx_is_float(v->type))
        return "numbers that are rounded have no gradient";
    else fault = ft__onnx_alias(x, n);
    if (!fault) y->type = type;
    return fault;
}

/* ---- Activations and other functions of one number ---- */

typedef struct ft__onnx_activation {
    const char *onnx, *op;
    const char *attribute, *field; /* a number that it depends on; NULL: none */
    float otherwise;
} ft__onnx_activation;

static const ft__onnx_activation ft__onnx_activations[] = {
    {"Relu", "relu", NULL, NULL, 0}, {"Sigmoid", "sigmoid", NULL, NULL, 0},
    {"Tanh", "tanh", NULL, NULL, 0}, {"Softplus", "softplus", NULL, NULL, 0},
    {"Softsign", "softsign", NULL, NULL, 0}, {"Mish", "mish", NULL, NULL, 0},
    {"HardSwish", "hardswish", NULL, NULL, 0}, {"Exp", "exp", NULL, NULL, 0},
    {"Log", "log", NULL, NULL, 0}, {"Sqrt", "sqrt", NULL, NULL, 0}, {"Abs", "abs", NULL, NULL, 0},
    {"Neg", "neg", NULL, NULL, 0}, {"Erf", "erf", NULL, NULL, 0}, {"Selu", "selu", NULL, NULL, 0},
    {"Floor", "floor", NULL, NULL, 0}, {"Ceil", "ceil", NULL, NULL, 0},
    {"Round", "round", NULL, NULL, 0}, {"Sign", "sign", NULL, NULL, 0},
    {"LeakyRelu", "leaky_relu", "alpha", "slope", 0.01f}, {"Elu", "elu", "alpha", "alpha", 1},
    {"Celu", "celu", "alpha", "alpha", 1},
    {"ThresholdedRelu", "threshold", "alpha", "threshold", 1}};

static const char *ft__onnx_activate(ft__onnx *x, const ft__onnx_node *n)
{
    ft__onnx_value *v = ft__onnx_node_in(x, n, 0);
    ft__text fields = ft__onnx_fields(x);
    const ft__onnx_activation *row = ft__onnx_activations;
    if (!v) return ft__onnx_needs_node;
    while (strcmp(row->onnx, n->op) != 0) ++row;
    if (strcmp(n->op, "Selu") == 0
        && (fabs((double)ft__onnx_float(n, "alpha", 1.67326319f) - 1.67326319) > 1e-5
            || fabs((double)ft__onnx_float(n, "gamma", 1.05070102f) - 1.05070102) > 1e-5))
        return "other factors than those of SELU are not supported";
    if (row->field)
        ft__onnx_add_number(&fields, row->field,
                            (double)ft__onnx_float(n, row->attribute, row->otherwise));
    return ft__onnx_is_made(x, n, 0, ft__onnx_make_one(x, row->op, ft__onnx_name_of(x, n), v->made,
                                                       &fields), v);
}

static int ft__onnx_make_clamp(ft__onnx *x, const char *name, int made, double low, double high)
{
    ft__text fields = ft__onnx_fields(x);
    ft__onnx_add_number(&fields, "min", low);
    ft__onnx_add_number(&fields, "max", high);
    return ft__onnx_make_one(x, "clamp", name, made, &fields);
}

static const char *ft__onnx_hard_sigmoid(ft__onnx *x, const ft__onnx_node *n)
{
    ft__onnx_value *v = ft__onnx_node_in(x, n, 0);
    double alpha = (double)ft__onnx_float(n, "alpha", 0.2f);
    double beta = (double)ft__onnx_float(n, "beta", 0.5f);
    const char *name = ft__onnx_name_of(x, n);
    int made;
    if (!v) return ft__onnx_needs_node;
    if (fabs(alpha - 1.0 / 6) < 1e-6 && fabs(beta - 0.5) < 1e-6)
        made = ft__onnx_make_one(x, "hardsigmoid", name, v->made, NULL);
    else {
        made = ft__onnx_make_affine(x, ft__onnx_name(x, name, ".line"), v->made, alpha, beta);
        made = ft__onnx_make_clamp(x, name, made, 0, 1);
    }
    return ft__onnx_is_made(x, n, 0, made, v);
}

static const char *ft__onnx_clip(ft__onnx *x, const ft__onnx_node *n)
{
    ft__onnx_value *v = ft__onnx_node_in(x, n, 0), *low = ft__onnx_input(x, n, 1);
    ft__onnx_value *high = ft__onnx_input(x, n, 2);
    double from = -HUGE_VAL, to = HUGE_VAL;
    const char *name = ft__onnx_name_of(x, n);
    bool zero, six;
    if (!v) return ft__onnx_needs_node;
    if (ft__onnx_attribute_of(n, "min")) from = (double)ft__onnx_float(n, "min", 0);
    if (ft__onnx_attribute_of(n, "max")) to = (double)ft__onnx_float(n, "max", 0);
    if ((low && !ft__onnx_is_number(x, low, &from)) || (high && !ft__onnx_is_number(x, high, &to)))
        return "limits that are not constants are not supported";
    zero = !(from < 0 || from > 0);
    six = !(to < 6 || to > 6);
    if (zero && six)
        return ft__onnx_is_made(x, n, 0, ft__onnx_make_one(x, "relu6", name, v->made, NULL), v);
    if (zero && to > DBL_MAX)
        return ft__onnx_is_made(x, n, 0, ft__onnx_make_one(x, "relu", name, v->made, NULL), v);
    return ft__onnx_is_made(x, n, 0, ft__onnx_make_clamp(x, name, v->made, from, to), v);
}

static const char *ft__onnx_gelu(ft__onnx *x, const ft__onnx_node *n)
{
    ft__onnx_value *v = ft__onnx_node_in(x, n, 0);
    ft__text fields = ft__onnx_fields(x);
    if (!v) return ft__onnx_needs_node;
    ft__onnx_add_flag(&fields, "tanh_approximation",
                      strcmp(ft__onnx_text(n, "approximate", "none"), "tanh") == 0);
    return ft__onnx_is_made(x, n, 0, ft__onnx_make_one(x, "gelu", ft__onnx_name_of(x, n), v->made,
                                                       &fields), v);
}

static const char *ft__onnx_not(ft__onnx *x, const ft__onnx_node *n)
{
    ft__onnx_value *v = ft__onnx_node_in(x, n, 0);
    if (!v) return ft__onnx_needs_node;
    return ft__onnx_is_made(x, n, 0, ft__onnx_make_affine(x, ft__onnx_name_of(x, n), v->made, -1,
                                                          1), v);
}

static const char *ft__onnx_reciprocal(ft__onnx *x, const ft__onnx_node *n)
{
    ft__onnx_value *v = ft__onnx_node_in(x, n, 0);
    const char *name = ft__onnx_name_of(x, n);
    int one;
    if (!v) return ft__onnx_needs_node;
    one = ft__onnx_make_number(x, ft__onnx_name(x, name, ".one"), 1);
    return ft__onnx_is_made(x, n, 0, ft__onnx_make_two(x, "div", name, one, v->made, NULL), v);
}

/* Before opset 13 the axes from `axis` on were one. */
static const char *ft__onnx_softmax(ft__onnx *x, const ft__onnx_node *n)
{
    ft__onnx_value *v = ft__onnx_node_in(x, n, 0);
    int axis, own, d;
    ft__text fields = ft__onnx_fields(x);
    ft__onnx_number sizes[FT__ONNX_RANK + 1];
    if (!v) return ft__onnx_needs_node;
    axis = ft__onnx_axis((double)ft__onnx_int(n, "axis", x->opset < 13 ? 1 : -1), v->rank);
    if (axis < 0) return "has no such axis";
    for (d = axis + 1; d < v->rank && x->opset < 13; ++d)
        if (!ft__onnx_is(v->size[d], 1)) return "over several axes is not supported";
    own = ft__onnx_own_axis(v, axis);
    if (own == 0) return "over the batch is not supported";
    if (own != ft__onnx_own(v, sizes) - 1 && own != 1)
        return "is supported over the last axis and over the one after the batch";
    if (own != ft__onnx_own(v, sizes) - 1) ft__onnx_add_int(&fields, "axis", 1);
    return ft__onnx_is_made(x, n, 0, ft__onnx_make_one(
        x, strcmp(n->op, "Softmax") == 0 ? "softmax" : "log_softmax", ft__onnx_name_of(x, n),
        v->made, &fields), v);
}

/* ---- Arithmetic of two ---- */

static const char *const ft__onnx_pairs[][2] = {
    {"Add", "add"}, {"Sub", "sub"}, {"Mul", "mul"}, {"Div", "div"}, {"Max", "maximum"},
    {"Min", "minimum"}, {"And", "mul"}, {"Or", "maximum"}, {"Equal", "equal"}, {"Less", "less"},
    {"LessOrEqual", "less_equal"}, {"Greater", "greater"}, {"GreaterOrEqual", "greater_equal"},
    {"Sum", "add"}, {"Mean", "add"}, {"Xor", "not_equal"}, {"Pow", "power"},
    {NULL, NULL}};

static const char *ft__onnx_pair_named(const char *op)
{
    int i;
    for (i = 0; ft__onnx_pairs[i][0]; ++i)
        if (strcmp(ft__onnx_pairs[i][0], op) == 0) return ft__onnx_pairs[i][1];
    return NULL;
}

static bool ft__onnx_compares(const char *op)
{
    return strcmp(op, "Equal") == 0 || strcmp(op, "Xor") == 0 || strstr(op, "Less")
        || strstr(op, "Greater");
}

/* A node with axes of 1 in front, so that it has so many. */
static const char *ft__onnx_promote(ft__onnx *x, ft__onnx_value *v, int rank, const char *name)
{
    ft__onnx_value shape = *v;
    int more = rank - v->rank, d;
    if (more <= 0) return NULL;
    for (d = v->rank - 1; d >= 0; --d) shape.size[d + more] = v->size[d];
    for (d = 0; d < more; ++d) shape.size[d] = ft__onnx_known(1);
    shape.rank = rank;
    shape.batch = v->batch + more;
    if (ft__onnx_is_merged(v)) return "a batch of several axes is not supported here";
    v->made = ft__onnx_make_shape(x, name, v->made, v, &shape);
    *v = shape;
    return v->made < 0 ? ft__onnx_not_known : NULL;
}

/* A constant as an operand of a node of shape y: its axes in the node's order. Many numbers of an
   initialiser are trained, unless they are applied to an input as it is. */
static int ft__onnx_operand(ft__onnx *x, ft__onnx_value *v, const ft__onnx_value *y, bool trains,
                            const char *name)
{
    int size[FT__ONNX_RANK + 1], rank = 0, d, skip = y->rank - v->rank, first, raw;
    double number;
    if (v->kind == FT__ONNX_NODE) return v->made;
    if (ft__onnx_is_number(x, v, &number)) return ft__onnx_make_number(x, name, number);
    size[rank++] = 1;
    if (ft__onnx_is_merged(y)) size[rank++] = 1;
    for (d = 0; d < y->rank; ++d) {
        ft__onnx_number s = d < skip ? ft__onnx_known(1) : v->size[d - skip];
        if (d == y->batch && !ft__onnx_is(s, 1)) return -1;
        if (d != y->batch) size[rank++] = ft__onnx_size(s);
    }
    raw = v->tensor >= 0 ? x->tensors[v->tensor].rank : 1;
    for (first = 0; first < rank - 1 && size[first] == 1 && rank - first > raw; ++first) {}
    if (v->tensor >= 0 && !v->turned && trains && ft__onnx_is_float(v->type))
        return ft__onnx_weight(x, v, "parameter", size + first, rank - first);
    if (!ft__onnx_is_float(v->type)) v->type = FT__ONNX_F32;
    return ft__onnx_weight(x, v, "constant", size + first, rank - first);
}

/* Repeats numbers of the first node where neither it nor another operand has as many as y: a
   constant that is one number is no operand of their size. */
static int ft__onnx_reach(ft__onnx *x, const ft__onnx_node *n, ft__onnx_value *v, int count,
                          const ft__onnx_value *y, const char *name)
{
    ft__onnx_value to = *y;
    double number;
    int i, d, node = -1;
    for (i = count - 1; i >= 0; --i) {
        ft__onnx_value *in = ft__onnx_input(x, n, i);
        if (v[i].kind == FT__ONNX_NODE) node = i;
        if (v[i].kind != FT__ONNX_NODE && ft__onnx_is_number(x, in, &number)) continue;
        for (d = 0; d < v[i].rank; ++d) {
            int at = y->rank - v[i].rank + d;
            if (ft__onnx_equal(v[i].size[d], y->size[at])) to.size[at] = ft__onnx_known(1);
        }
    }
    return node < 0 ? -1 : ft__onnx_make_stretched(x, name, v[node].made, &v[node], &to);
}

/* The shape of the result of inputs that are broadcast to each other. NULL, or what is wrong. */
static const char *ft__onnx_meet(ft__onnx *x, const ft__onnx_node *n, ft__onnx_value *v, int count,
                                 ft__onnx_value *y)
{
    int i, d, from_end = -1;
    const char *fault = NULL, *name = ft__onnx_name_of(x, n);
    if (!ft__onnx_broadcast(x, n, y)) return "its inputs cannot be broadcast to each other";
    for (i = 0; i < count && !fault; ++i) {
        static const char *const ends[] = {".a", ".b", ".c"};
        if (v[i].kind != FT__ONNX_NODE) continue;
        if (from_end >= 0 && v[i].rank - v[i].batch != from_end)
            return "inputs with the batch at different axes are not supported";
        from_end = v[i].rank - v[i].batch;
        fault = ft__onnx_promote(x, &v[i], y->rank, ft__onnx_name(x, name, ends[i % 3]));
    }
    if (from_end < 0 && !fault) return ft__onnx_needs_node;
    y->batch = y->rank - from_end;
    for (i = 0; i < count && !fault; ++i)
        for (d = 0; v[i].kind == FT__ONNX_NODE && d < v[i].rank; ++d)
            if (d == y->batch && !ft__onnx_equal(v[i].size[d], y->size[d]))
                fault = "inputs with different batches are not supported";
    for (i = 0; i < count && !fault; ++i) {
        if (v[i].kind != FT__ONNX_NODE) continue;
        v[i].made = ft__onnx_reach(x, n, v, count, y, ft__onnx_name(x, name, ".whole"));
        return v[i].made < 0 ? ft__onnx_not_known : NULL;
    }
    return fault;
}

/* A bias that is added to a layer without one. */
static int ft__onnx_as_bias(ft__onnx *x, const ft__onnx_value *v, ft__onnx_value *c,
                            const char *name)
{
    ft__onnx_made *layer = &x->made[v->made];
    bool picture = strcmp(layer->op, "conv2d") == 0 || strcmp(layer->op, "conv1d") == 0;
    int channel = picture ? 1 : v->rank - 1, skip = v->rank - c->rank, d, inputs[3];
    if ((!picture && strcmp(layer->op, "linear") != 0) || layer->count != 2 || v->uses != 1
        || skip < 0 || channel == v->batch || (c->tensor < 0 && !c->numbers)) return -1;
    for (d = 0; d < c->rank; ++d)
        if (d + skip == channel ? !ft__onnx_equal(c->size[d], v->size[channel])
                                : !ft__onnx_is(c->size[d], 1)) return -1;
    if (channel < skip) return -1;
    inputs[0] = layer->inputs[0];
    inputs[1] = layer->inputs[1];
    inputs[2] = ft__onnx_vector(x, c, "parameter");
    if (inputs[2] < 0) return -1;
    d = ft__onnx_make(x, x->made[v->made].op, name, inputs, 3, NULL);
    if (d >= 0) x->made[d].fields = x->made[v->made].fields;
    return d;
}

/* What a node repeats, or a number is the limit of: a maximum, a sum. */
static int ft__onnx_before_repeats(const ft__onnx *x, int made)
{
    for (;;) {
        const ft__onnx_made *m = &x->made[made];
        if (strcmp(m->op, "reshape") == 0 || strcmp(m->op, "tile") == 0) made = m->inputs[0];
        else if (strcmp(m->op, "maximum") == 0 && m->count == 2
                 && ft__onnx_is_op(x, m->inputs[0], "constant")) made = m->inputs[1];
        else return made;
    }
}

/* Whether a constant is the infinite number that a maximum or minimum never is. */
static bool ft__onnx_is_no_limit(ft__onnx *x, const char *op, ft__onnx_value *v)
{
    double k = v->kind == FT__ONNX_CONSTANT && ft__onnx_count(v) == 1 && ft__onnx_numbers(x, v)
        ? v->numbers[0].k : 0;
    return strcmp(op, "maximum") == 0 ? k < -DBL_MAX : strcmp(op, "minimum") == 0 && k > DBL_MAX;
}

/* exp(z) over its sum along the last axis, as JAX writes a softmax, maybe of z = v - the maximum of
   v; -1: it is none. */
static int ft__onnx_as_softmax(ft__onnx *x, const char *name, int a, int b, int rank)
{
    int sum = ft__onnx_before_repeats(x, b), z, largest;
    char axes[40];
    snprintf(axes, sizeof axes, ",\"axes\":[%d],", rank - 1);
    if (!ft__onnx_is_op(x, a, "exp") || !ft__onnx_is_op(x, sum, "sum")
        || x->made[sum].inputs[0] != a
        || strncmp(x->made[sum].fields, axes, strlen(axes)) != 0) return -1;
    z = x->made[a].inputs[0];
    if (ft__onnx_is_op(x, z, "sub")) {
        largest = ft__onnx_before_repeats(x, x->made[z].inputs[1]);
        if (ft__onnx_is_op(x, largest, "amax")
            && x->made[largest].inputs[0] == x->made[z].inputs[0]
            && strncmp(x->made[largest].fields, axes, strlen(axes)) == 0)
            z = x->made[z].inputs[0];
    }
    return ft__onnx_make_one(x, "softmax", name, z, NULL);
}

/* A node and one number, without an operand; -1: it is another operator. */
static int ft__onnx_with_number(ft__onnx *x, const char *op, const char *name, int made, double k,
                                bool number_first)
{
    if (strcmp(op, "add") == 0) return ft__onnx_make_affine(x, name, made, 1, k);
    if (strcmp(op, "mul") == 0) return ft__onnx_make_affine(x, name, made, k, 0);
    if (strcmp(op, "sub") == 0)
        return ft__onnx_make_affine(x, name, made, number_first ? -1 : 1, number_first ? k : -k);
    if (strcmp(op, "div") == 0 && !number_first && (k < 0 || k > 0))
        return ft__onnx_make_affine(x, name, made, 1 / k, 0);
    return -1;
}

static bool ft__onnx_is_raw_input(const ft__onnx *x, int made)
{
    return ft__onnx_is_op(x, made, "input");
}

/* A sequence plus a row of a table for each step. */
static const char *ft__onnx_positions(ft__onnx *x, const ft__onnx_node *n, ft__onnx_value *rows,
                                      ft__onnx_value *v)
{
    ft__onnx_value *table = &x->values[rows->made];
    int size[2], made;
    ft__text fields = ft__onnx_fields(x);
    if (!v || strcmp(n->op, "Add") != 0 || v->rank != 3 || v->batch != 0 || ft__onnx_is_merged(v)
        || ft__onnx_size(v->size[1]) != FT_LENGTH
        || !ft__onnx_equal(v->size[2], table->size[1]))
        return "rows of a table by the step are supported if they are added to [N, L, features]";
    size[0] = ft__onnx_size(table->size[0]);
    size[1] = ft__onnx_size(table->size[1]);
    made = ft__onnx_weight(x, table, "parameter", size, 2);
    ft__onnx_add_int(&fields, "first", (int)rows->numbers[0].k);
    return ft__onnx_is_made(x, n, 0, ft__onnx_make_two(x, "add_positions", ft__onnx_name_of(x, n),
                                                       v->made, made, &fields), v);
}

/* A sequence and one row of a table at each step. */
static const char *ft__onnx_with_row(ft__onnx *x, const ft__onnx_node *n, int row)
{
    ft__onnx_value *v = ft__onnx_node_in(x, n, 1 - row), *table = ft__onnx_input(x, n, row);
    int a, b;
    if (!v || v->rank != table->rank || v->batch != 0
        || !ft__onnx_equal(v->size[v->rank - 1], table->size[table->rank - 1]))
        return "a row of a table is supported beside [N, L, features]";
    a = row ? v->made : table->made;
    b = row ? table->made : v->made;
    return ft__onnx_is_made(x, n, 0, ft__onnx_make_two(x, ft__onnx_pair_named(n->op),
                                                       ft__onnx_name_of(x, n), a, b, NULL), v);
}

static const char *ft__onnx_pair(ft__onnx *x, const ft__onnx_node *n)
{
    const char *op = ft__onnx_pair_named(n->op), *name = ft__onnx_name_of(x, n), *fault;
    ft__onnx_value v[2], y, *constant;
    int node, made = -1, operands[2], i;
    double k;
    ft__onnx_node changed;
    if (n->input_count != 2 || !ft__onnx_input(x, n, 0) || !ft__onnx_input(x, n, 1))
        return "is supported with two inputs";
    n = ft__onnx_with_counted(x, n, name, &changed);
    for (i = 0; i < 2; ++i)
        if (ft__onnx_input(x, n, i)->kind == FT__ONNX_ROW) return ft__onnx_with_row(x, n, i);
        else if (ft__onnx_input(x, n, i)->kind == FT__ONNX_POSITIONS)
            return ft__onnx_positions(x, n, ft__onnx_input(x, n, i), ft__onnx_node_in(x, n, 1 - i));
    memset(&y, 0, sizeof y);
    for (i = 0; i < 2; ++i) v[i] = *ft__onnx_input(x, n, i);
    node = v[0].kind == FT__ONNX_NODE ? 0 : 1;
    fault = ft__onnx_meet(x, n, v, 2, &y);
    if (fault) return fault;
    y.type = ft__onnx_compares(n->op) ? FT__ONNX_BOOL : v[node].type;
    constant = ft__onnx_input(x, n, 1 - node);
    if (constant->kind == FT__ONNX_CONSTANT) {
        if (ft__onnx_is_no_limit(x, op, constant)) made = v[node].made;
        if (made < 0 && ft__onnx_is_number(x, constant, &k) && y.rank == v[node].rank)
            made = ft__onnx_with_number(x, op, name, v[node].made, k, node == 1);
        if (made < 0 && strcmp(op, "add") == 0)
            made = ft__onnx_as_bias(x, ft__onnx_input(x, n, node), constant, name);
    }
    if (strcmp(op, "div") == 0 && v[0].kind == FT__ONNX_NODE && v[1].kind == FT__ONNX_NODE
        && y.batch == 0 && !ft__onnx_is_merged(&y))
        made = ft__onnx_as_softmax(x, name, v[0].made, v[1].made, y.rank);
    for (i = 0; made < 0 && i < 2; ++i) {
        operands[i] = i == node ? v[i].made
            : ft__onnx_operand(x, ft__onnx_input(x, n, i)->kind == FT__ONNX_NODE ? &v[i]
                               : ft__onnx_input(x, n, i), &y,
                               !ft__onnx_is_raw_input(x, v[node].made),
                               ft__onnx_name(x, name, ".number"));
        if (operands[i] < 0) return "its constant cannot be written as a weight";
    }
    if (made < 0) made = ft__onnx_make_two(x, op, name, operands[0], operands[1], NULL);
    return ft__onnx_is_made(x, n, 0, made, &y);
}

/* Max, Min, Sum and Mean of any number of inputs: one after the other, nodes first. */
static const char *ft__onnx_many(ft__onnx *x, const ft__onnx_node *n)
{
    ft__onnx_node pair = *n;
    const char *fault = NULL, *name = ft__onnx_name_of(x, n);
    bool mean = strcmp(n->op, "Mean") == 0;
    int inputs[2] = {-1, -1}, output = -1, done = 0, constants, i, made;
    pair.inputs = inputs;
    pair.outputs = &output;
    pair.input_count = 2;
    for (constants = 0; constants < 2; ++constants)
        for (i = 0; i < n->input_count && !fault; ++i) {
            if (!ft__onnx_input(x, n, i)) return "lacks an input";
            if ((ft__onnx_input(x, n, i)->kind == FT__ONNX_CONSTANT) != (constants == 1)) continue;
            inputs[done > 0] = n->inputs[i];
            if (done++ == 0) continue;
            output = n->outputs[0];
            if (mean || done < n->input_count)
                output = ft__onnx_add_value(x, ft__onnx_name(x, name, done == 2 ? ".2" : ".sum"));
            if (output < 0) return NULL;
            fault = ft__onnx_pair(x, &pair);
            inputs[0] = output;
            name = x->values[output].name;
        }
    if (fault || (output == n->outputs[0] && done > 1)) return fault;
    pair.input_count = 1;
    if (!mean || done < 2) return ft__onnx_node_in(x, &pair, 0) ? ft__onnx_is_made(
        x, n, 0, x->values[inputs[0]].made, &x->values[inputs[0]]) : ft__onnx_needs_node;
    made = ft__onnx_make_affine(x, ft__onnx_name_of(x, n), x->values[output].made, 1.0 / done, 0);
    return ft__onnx_is_made(x, n, 0, made, &x->values[output]);
}

static const char *ft__onnx_where(ft__onnx *x, const ft__onnx_node *n)
{
    static const char *const ends[] = {".condition", ".if", ".else"};
    const char *name = ft__onnx_name_of(x, n), *fault;
    ft__onnx_value v[3], y;
    ft__onnx_node changed;
    int operands[3], i;
    for (i = 0; i < 3; ++i)
        if (!ft__onnx_input(x, n, i)) return "needs three inputs";
    memset(&y, 0, sizeof y);
    i = ft__onnx_input(x, n, 0)->producer; /* "0 where it is NaN", which a softmax is not */
    if (i >= 0 && strcmp(x->nodes[i].op, "IsNaN") == 0 && x->nodes[i].inputs[0] == n->inputs[2]
        && ft__onnx_node_in(x, n, 2))
        return ft__onnx_is_made(x, n, 0, ft__onnx_node_in(x, n, 2)->made,
                                ft__onnx_node_in(x, n, 2));
    n = ft__onnx_with_counted(x, n, name, &changed);
    for (i = 0; i < 3; ++i) v[i] = *ft__onnx_input(x, n, i);
    fault = ft__onnx_meet(x, n, v, 3, &y);
    if (fault) return fault;
    for (i = 0; i < 3; ++i) {
        ft__onnx_value *in = ft__onnx_input(x, n, i);
        operands[i] = ft__onnx_operand(x, in->kind == FT__ONNX_NODE ? &v[i] : in, &y, false,
                                       ft__onnx_name(x, name, ends[i]));
        if (operands[i] < 0) return "its constant cannot be written as a weight";
    }
    y.type = v[1].type;
    return ft__onnx_is_made(x, n, 0, ft__onnx_make(x, "where", name, operands, 3, NULL), &y);
}

static const char *ft__onnx_is_nan(ft__onnx *x, const ft__onnx_node *n)
{
    ft__onnx_value *v = ft__onnx_node_in(x, n, 0), y;
    if (!v) return ft__onnx_needs_node;
    y = *v;
    y.type = FT__ONNX_BOOL;
    return ft__onnx_is_made(x, n, 0, ft__onnx_make_two(x, "not_equal", ft__onnx_name_of(x, n),
                                                       v->made, v->made, NULL), &y);
}

static const char *ft__onnx_pow(ft__onnx *x, const ft__onnx_node *n)
{
    ft__onnx_value *v = ft__onnx_node_in(x, n, 0);
    ft__text fields = ft__onnx_fields(x);
    double exponent;
    if (!v) return ft__onnx_needs_node;
    if (!ft__onnx_is_number(x, ft__onnx_input(x, n, 1), &exponent)) return ft__onnx_pair(x, n);
    if (exponent >= 2 && exponent <= 2)
        return ft__onnx_is_made(x, n, 0, ft__onnx_make_two(x, "mul", ft__onnx_name_of(x, n),
                                                           v->made, v->made, NULL), v);
    ft__onnx_add_number(&fields, "exponent", exponent);
    return ft__onnx_is_made(x, n, 0, ft__onnx_make_one(x, "pow", ft__onnx_name_of(x, n), v->made,
                                                       &fields), v);
}
#endif
