#pragma once
#include "interface/requirements.h"
#include "interface/types.h"
#include "platform/families.h"
#include "platform/context.h"
#include "basics/strings.h"
#include "basics/json.h"
#include "nodes/nodes.h"
#include "nodes/names.h"
#include "nodes/storage.h"
#include "nodes/initialisers.h"
#include "operators/table.h"
#include "operators/adding.h"
#include "operators/rows.h"
#include "graph/plan.h"
#include "graph/settings.h"
#include "formats/readers.h"
#include "formats/tensor_files.h"
/* =============================================================================================
   [SECTION] formats/graphs: Networks described in JSON
   The graph, class names and preprocessing, as model files hold them and people write them:
   docs/networks.md says what stands where. It may also come from someone hostile.
   Nodes are written in the order of execution, so that a file's bytes depend on the network, not on
   the order in which it was built.
   ============================================================================================= */
enum { FT__FILE_FORMAT = 1 };

/* ---- Writing ---- */

/* FT_BATCH and FT_LENGTH are written as "N" and "L". */
static void ft__write_sizes(ft__text *text, const char *key, const int *sizes, int count)
{
    int i;
    ft__text_add(text, ",\"%s\":[", key);
    for (i = 0; i < count; ++i) {
        if (i) ft__text_add(text, ",");
        if (sizes[i] >= 0) ft__text_add(text, "%d", sizes[i]);
        else ft__text_add(text, sizes[i] == FT_LENGTH ? "\"L\"" : "\"N\"");
    }
    ft__text_add(text, "]");
}

static void ft__write_number(ft__text *text, float number)
{
    if (number != number) ft__text_add(text, "\"nan\"");
    else if (number > FLT_MAX || number < -FLT_MAX)
        ft__text_add(text, number > 0 ? "\"inf\"" : "\"-inf\"");
    else ft__json_add_float(text, number);
}

/* One number, true or false, or a list of them. */
static void ft__write_field(ft__text *text, const ft__field *field, const ft__options *options)
{
    const char *at = (const char *)options + field->offset;
    int i, integer;
    float number;
    bool yes;
    ft__text_add(text, ",\"%s\":%s", field->name, field->count > 1 ? "[" : "");
    for (i = 0; i < field->count; ++i) {
        if (i) ft__text_add(text, ",");
        if (field->kind == 'i') {
            memcpy(&integer, at + (size_t)i * sizeof integer, sizeof integer);
            ft__text_add(text, "%d", integer);
        } else if (field->kind == 'f') {
            memcpy(&number, at + (size_t)i * sizeof number, sizeof number);
            ft__write_number(text, number);
        } else {
            memcpy(&yes, at + (size_t)i * sizeof yes, sizeof yes);
            ft__text_add(text, yes ? "true" : "false");
        }
    }
    if (field->count > 1) ft__text_add(text, "]");
}

static const char *const ft__initialiser_names[] = {
    "default", "kaiming_uniform", "kaiming_normal", "xavier_uniform", "zeros", "ones",
    "quarter"};

static void ft__write_values(ft__text *text, const ft__node *constant)
{
    size_t count = ft__shape_count(&constant->shape), i;
    for (i = 0; i < count; ++i) {
        ft__text_add(text, i ? "," : ",\"values\":[");
        ft__write_number(text, constant->value[i]);
    }
    ft__text_add(text, "]");
}

/* `values`: those of constants too, which model files have as tensors. */
static void ft__write_node(const ft_model *m, ft__text *text, const ft__node *node, bool values)
{
    const ft__field *field = ft__rows[node->op]->fields;
    int i;
    ft__text_add(text, "{\"op\":\"%s\",\"name\":", ft__rows[node->op]->name);
    ft__json_add_text(text, node->name);
    if (ft__is_leaf(node)) {
        if (ft__is_input(node)) ft__text_add(text, ",\"type\":\"%s\"",
                                                   ft__type_names[node->type]);
        ft__write_sizes(text, "shape", node->shape.size, node->shape.rank);
    }
    if (values && ft__is_constant(node)) ft__write_values(text, node);
    if (node->frozen) ft__text_add(text, ",\"frozen\":true");
    if (node->transposed) ft__text_add(text, ",\"transposed\":true");
    if (node->initialiser)
        ft__text_add(text, ",\"initialiser\":\"%s\"", ft__initialiser_names[node->initialiser]);
    if (node->fan_in || node->fan_out) ft__text_add(text, ",\"fan\":[%d,%d]", node->fan_in,
                                                    node->fan_out);
    for (i = 0; i < node->input_count; ++i) {
        ft__text_add(text, i ? "," : ",\"inputs\":[");
        ft__json_add_text(text, m->nodes[node->inputs[i] - 1].name);
    }
    if (i > 0) ft__text_add(text, "]");
    for (; field->name; ++field) ft__write_field(text, field, &node->options);
    ft__text_add(text, "}");
}

/* ---- The names of the classes: a list of texts ---- */

static void ft__add_classes(const ft_model *m, ft__text *text)
{
    int i;
    for (i = 0; i < m->class_count; ++i) {
        ft__text_add(text, i ? "," : "[");
        ft__json_add_text(text, m->class_names[i]);
    }
    ft__text_add(text, "]");
}

/* Names the classes after a list that is not empty; false: one of them is no text. */
static bool ft__set_classes(ft_model *m, const ft__json *json, int list)
{
    int count = ft__json_count(json, list), i, k = 0;
    const char **names = (const char **)ft__allocate(&m->context, (size_t)count + 1, sizeof *names);
    bool texts = true;
    for (i = list + 1; names && i < json->values[list].next; i = json->values[i].next) {
        names[k] = ft__json_string(json, i);
        texts = texts && names[k] != NULL;
        k += 1;
    }
    if (names && texts) ft_set_class_names(m, count, names);
    ft__release(&m->context, (void *)(uintptr_t)names);
    return texts;
}

static void ft__write_preprocessing(ft__text *text, const ft_preprocessing *p)
{
    int i;
    ft__text_add(text, ",\n\"preprocessing\":{\"width\":%d,\"height\":%d,\"channels\":%d,"
                 "\"resize\":%d,\"mean\":[", p->width, p->height, p->channels, p->resize);
    for (i = 0; i < 4; ++i) {
        if (i) ft__text_add(text, ",");
        ft__json_add_float(text, p->mean[i]);
    }
    ft__text_add(text, "],\"std\":[");
    for (i = 0; i < 4; ++i) {
        if (i) ft__text_add(text, ",");
        ft__json_add_float(text, p->std[i]);
    }
    ft__text_add(text, "]%s%s}", p->bicubic ? ",\"bicubic\":true" : "",
                 p->stretch ? ",\"stretch\":true" : "");
}

static void ft__write_named(const ft_model *m, ft__text *text, const char *key, ft_node node)
{
    const ft__node *named = ft__get_node(m, node);
    if (!named) return;
    ft__text_add(text, ",\n\"%s\":", key);
    ft__json_add_text(text, named->name);
}

/* Returns the network's description in JSON (docs/networks.md), a node in each line, for the caller
   to release; NULL with an error. `values`: as in ft__write_node. */
static char *ft__graph_text(ft_model *m, bool values)
{
    ft__context *c = &m->context;
    ft__text text;
    int at;
    bool first = true;
    memset(&text, 0, sizeof text);
    text.context = c;
    ft__text_add(&text, "{\"format\":%d,\"version\":\"%s\",\"architecture\":", FT__FILE_FORMAT,
                 FINETUNE_VERSION);
    ft__json_add_text(&text, m->architecture);
    ft__text_add(&text, ",\"keras_initialisers\":%s,\n\"nodes\":[", m->keras_initialisers
                                                                  ? "true" : "false");
    for (at = 0; at < m->node_count; ++at) {
        const ft__node *node = &m->nodes[m->order[at] - 1];
        if (!node->op) continue;
        ft__text_add(&text, first ? "\n" : ",\n");
        ft__write_node(m, &text, node, values);
        first = false;
    }
    ft__text_add(&text, "]");
    if (m->max_length) ft__text_add(&text, ",\n\"max_length\":%d", m->max_length);
    if (m->pairs) ft__text_add(&text, ",\n\"pairs\":true");
    if (ft_temperature(m) < 1 || ft_temperature(m) > 1) {
        ft__text_add(&text, ",\n\"temperature\":");
        ft__json_add_float(&text, m->temperature);
    }
    ft__write_named(m, &text, "output", m->output);
    ft__write_named(m, &text, "loss", m->loss);
    ft__write_named(m, &text, "text_vector", m->text_vector);
    if (m->vector_options.normalize) ft__text_add(&text, ",\"normalize\":true");
    if (m->class_count) ft__text_add(&text, ",\n\"classes\":");
    if (m->class_count) ft__add_classes(m, &text);
    if (m->preprocessing.width > 0) ft__write_preprocessing(&text, &m->preprocessing);
    ft__text_add(&text, "}");
    if (ft__ok(c)) return text.letters;
    ft__release(c, text.letters);
    return NULL;
}

/* ---- Reading: every number is checked, and a field that is not known is an error, for it would
   have no effect ---- */

typedef struct ft__graph_reader {
    ft_model *m;
    ft_file *file;          /* that has the weights; NULL: they are drawn, or loaded later */
    const char *path;
    ft__json *json;
    int *ids;               /* of the nodes made so far, by their number in the description */
    int count;
} ft__graph_reader;

static ft_status ft__graph_fault(ft__graph_reader *r, const char *where, const char *what)
{
    return ft__fail(&r->m->context, FT_FORMAT, "%s: the network's description: %.200s: %s", r->path,
                    where, what);
}

/* `where`: the node, or "the network". */
static ft_status ft__field_fault(ft__graph_reader *r, const char *where, const char *field,
                                 const char *expected)
{
    return ft__fail(&r->m->context, FT_FORMAT, "%s: the network's description: %.200s: %.60s must"
                    " be %s", r->path, where, field, expected);
}

/* Fails if an object has a field that is neither in `known`, which ends with NULL, nor among those
   of an operator. */
static void ft__check_keys(ft__graph_reader *r, int object, const char *where,
                           const char *const *known, const ft__field *fields)
{
    const ft__json_value *values = r->json->values;
    const ft__field *field;
    char text[600];
    int i, k, at = 0;
    for (i = object + 1; object >= 0 && i < values[object].next; i = values[i].next) {
        for (k = 0; known[k] && strcmp(known[k], values[i].key) != 0; ++k) {}
        for (field = fields; field->name && strcmp(field->name, values[i].key) != 0; ++field) {}
        if (!known[k] && !field->name) break;
    }
    if (object < 0 || i >= values[object].next) return;
    for (k = 0; known[k] && at < (int)sizeof text; ++k)
        at += snprintf(text + at, sizeof text - (size_t)at, "%s%s", k ? ", " : "", known[k]);
    for (field = fields; field->name && at < (int)sizeof text; ++field)
        at += snprintf(text + at, sizeof text - (size_t)at, ", %s", field->name);
    ft__fail(&r->m->context, FT_FORMAT, "%s: the network's description: %.200s: unknown field"
             " \"%.60s\"; it must be one of %s", r->path, where, values[i].key, text);
}

/* Reads up to `most` sizes of a list, "N" and "L" as FT_BATCH and FT_LENGTH; returns their count,
   or -1 if it is not such a list. */
static int ft__read_sizes(const ft__graph_reader *r, int list, int *sizes, int most)
{
    int count = ft__json_count(r->json, list), i, at;
    int64_t number = 0;
    if (!ft__json_at(r->json, list, 'a') || count > most) return -1;
    for (i = 0, at = list + 1; i < count; ++i, at = r->json->values[at].next) {
        const char *letter = ft__json_string(r->json, at);
        if (letter && strcmp(letter, "N") == 0) number = FT_BATCH;
        else if (letter && strcmp(letter, "L") == 0) number = FT_LENGTH;
        else if (!ft__json_int(r->json, at, &number)) return -1;
        if (number < INT_MIN || number > INT_MAX) return -1;
        sizes[i] = (int)number;
    }
    return count;
}

/* A number, or "inf", "-inf" or "nan". */
static bool ft__read_number(const ft__json *j, int value, double *number)
{
    const char *text = ft__json_string(j, value);
    if (text && (strcmp(text, "inf") == 0 || strcmp(text, "-inf") == 0
                 || strcmp(text, "nan") == 0)) {
        *number = strtod(text, NULL);
        return true;
    }
    return ft__json_double(j, value, number);
}

/* One element of a field. `true` and `false`, or 1 and 0, if it is a bool. */
static bool ft__read_element_of(const ft__json *j, int value, char kind, void *to)
{
    double number = ft__json_true(j, value);
    bool is_bool = ft__json_at(j, value, 't') || ft__json_at(j, value, 'f');
    int64_t whole;
    if (kind == 'f') {
        float single;
        if (!ft__read_number(j, value, &number)) return false;
        single = (float)number;
        memcpy(to, &single, sizeof single);
    } else if (kind == 'i') {
        int integer;
        if (!ft__json_int(j, value, &whole) || whole < -1000000000 || whole > 1000000000)
            return false;
        integer = (int)whole;
        memcpy(to, &integer, sizeof integer);
    } else {
        bool yes;
        if (!is_bool && (!ft__json_double(j, value, &number) || (number != 0 && number != 1)))
            return false;
        yes = number != 0;
        memcpy(to, &yes, sizeof yes);
    }
    return true;
}

static void ft__read_field(ft__graph_reader *r, int node, const char *name,
                           const ft__field *field, ft__options *options)
{
    int value = ft__json_member(r->json, node, field->name), i, at;
    size_t size = field->kind == 'i' ? sizeof(int) : field->kind == 'f' ? sizeof(float)
                                                                         : sizeof(bool);
    bool list = ft__json_at(r->json, value, 'a') != NULL;
    int count = list ? ft__json_count(r->json, value) : 1;
    bool right = count == field->count /* or a number for each dimension that there is: */
        || (field->count == FINETUNE_MAX_RANK && list && count < field->count);
    char expected[80];
    if (value < 0) return; /* the default */
    for (i = 0, at = list ? value + 1 : value; right && i < count;
         ++i, at = r->json->values[at].next)
        right = ft__read_element_of(r->json, at, field->kind,
                                    (char *)options + field->offset + (size_t)i * size);
    if (right) return;
    if (field->count > 1)
        snprintf(expected, sizeof expected, "a list of %s%d %s",
                 field->count == FINETUNE_MAX_RANK ? "up to " : "", field->count,
                 field->kind == 'f' ? "numbers" : "whole numbers");
    else snprintf(expected, sizeof expected, "%s", field->kind == 'f' ? "a number"
                  : field->kind == 'i' ? "a whole number" : "true or false");
    ft__field_fault(r, name, field->name, expected);
}

/* "default", "zeros", ... or its number. */
static void ft__read_initialiser(ft__graph_reader *r, int node, ft__node *to)
{
    int value = ft__json_member(r->json, node, "initialiser"), fans[2] = {0, 0}, i;
    int fan = ft__json_member(r->json, node, "fan");
    const char *named = ft__json_string(r->json, value);
    int64_t number = -1;
    ft__json_int(r->json, value, &number);
    for (i = 0; named && i <= FT_INIT_QUARTER; ++i)
        if (strcmp(named, ft__initialiser_names[i]) == 0) number = i;
    if (value >= 0 && (number < FT_INIT_DEFAULT || number > FT_INIT_QUARTER))
        ft__field_fault(r, to->name, "initialiser", "default, kaiming_uniform, kaiming_normal,"
                        " xavier_uniform, zeros or ones");
    else if (value >= 0) to->initialiser = (ft_initialiser)number;
    if (fan >= 0 && (ft__read_sizes(r, fan, fans, 2) != 2 || fans[0] < 0 || fans[1] < 0))
        ft__field_fault(r, to->name, "fan", "a list of 2 whole numbers, fan_in and fan_out");
    to->fan_in = fans[0];
    to->fan_out = fans[1];
}

/* The values of a constant. Without them it has none until a file of weights is loaded. */
static void ft__read_values(ft__graph_reader *r, int node, ft__node *to)
{
    int list = ft__json_member(r->json, node, "values"), at, count = ft__json_count(r->json, list);
    size_t i, all = ft__shape_count(&to->shape);
    double number = 0;
    if (list < 0 && r->m->values_follow) return;
    if ((size_t)count != all || all == 0) {
        ft__field_fault(r, to->name, "values", "as many numbers as its shape has");
        return;
    }
    to->value = (float *)ft__allocate(&r->m->context, all, sizeof(float));
    for (i = 0, at = list + 1; to->value && i < all; ++i, at = r->json->values[at].next) {
        if (!ft__read_number(r->json, at, &number))
            ft__field_fault(r, to->name, "values", "numbers");
        to->value[i] = (float)number;
    }
}

static ft_status ft__read_shape(ft__graph_reader *r, int node, ft__node *leaf)
{
    ft_shape *shape = &leaf->shape;
    int d;
    shape->rank = ft__read_sizes(r, ft__json_member(r->json, node, "shape"), shape->size,
                                 FINETUNE_MAX_RANK);
    for (d = 0; d < shape->rank; ++d)
        if (shape->size[d] < 1 && !(d == 0 && ft__has_rows(leaf))
            && !(ft__is_input(leaf) && shape->size[d] == FT_LENGTH))
            shape->rank = -1;
    if (shape->rank < 1) {
        shape->rank = 0;
        return ft__field_fault(r, leaf->name, "shape", ft__has_rows(leaf)
                               ? "a list of sizes: \"N\" first, then numbers above 0 or \"L\""
                               : "a list of up to 6 whole numbers above 0");
    }
    if (ft__has_rows(leaf)) shape->size[0] = FT_BATCH;
    return FT_OK;
}

/* Allocates a weight if the file of weights really has it, or without one draws its values. */
static void ft__make_weight(ft__graph_reader *r, int node, ft__node *leaf)
{
    ft__context *c = &r->m->context;
    ft_tensor_info info;
    ft_shape shape;
    int index = r->file ? ft_file_find(r->file, leaf->name) : -1;
    if (ft__is_constant(leaf) && index < 0) ft__read_values(r, node, leaf);
    if (leaf->value || (ft__is_constant(leaf) && !r->file)) return;
    if (r->file && index < 0) {
        ft__fail(c, FT_FORMAT, "%s: the weight %.200s is missing%s", r->path, leaf->name,
                 ft_file_count(r->file) ? "" : ": the file has none; allow_missing"
                 " (--allow-missing) draws them");
        return;
    }
    if (r->file) {
        info = ft_file_tensor(r->file, index);
        if (info.type == FT_OTHER)
            ft__graph_fault(r, leaf->name, "its tensor cannot be read as numbers");
        shape = ft__shape_in_file(leaf, info.type);
        if (!ft__same_sizes(&info.shape, &shape))
            ft__graph_fault(r, leaf->name, "its tensor has another shape");
    }
    if (!ft__ok(c)) return;
    if (!r->m->memory_follows || !ft__may_be_stored(leaf))
        leaf->value = (float *)ft__allocate(c, ft__node_count_at(leaf, ft__one), sizeof(float));
    if (leaf->value && !r->m->values_follow) ft__initialise_node(r->m, leaf);
}

static ft_node ft__read_leaf(ft__graph_reader *r, int node, int op, const char *name)
{
    static const char *const known[] = {"op", "name", "type", "shape", "frozen", "initialiser",
                                        "fan", "values", "transposed", NULL};
    ft_node made = ft__add_node(r->m, ft__rows[op], name, NULL, 0, NULL, 0), none = {0};
    ft__node *leaf = ft__get_node(r->m, made);
    int value = ft__json_member(r->json, node, "type");
    const char *type = ft__json_string(r->json, value);
    if (!leaf) return none;
    ft__check_keys(r, node, name, known, ft__no_fields);
    if (value >= 0 && (!type || (strcmp(type, ft__type_names[FT_F32]) != 0
                                 && strcmp(type, ft__type_names[FT_I32]) != 0)))
        ft__field_fault(r, name, "type", "\"F32\" or \"I32\"");
    else if (type && ft__is_input(leaf)) leaf->type = (ft_type)ft__type_named(type);
    ft__read_initialiser(r, node, leaf);
    leaf->transposed = ft__json_true(r->json, ft__json_member(r->json, node, "transposed"));
    if (ft__read_shape(r, node, leaf) == FT_OK && leaf->transposed
        && (leaf->shape.rank != 2 || !ft__is_parameter(leaf)))
        ft__field_fault(r, name, "transposed", "of a parameter of two sizes");
    if (ft__ok(&r->m->context) && !ft__has_rows(leaf) && ft__ok(&r->m->context))
        ft__make_weight(r, node, leaf);
    return ft__ok(&r->m->context) ? made : none;
}

/* The node that a name or a number means; {0}: none. */
static ft_node ft__read_reference(const ft__graph_reader *r, int value)
{
    const char *name = ft__json_string(r->json, value);
    ft_node node = {0};
    int64_t number;
    if (name) return ft__find_node(r->m, name);
    if (ft__json_int(r->json, value, &number) && number >= 0 && number < r->count)
        node.id = r->ids[number];
    return node;
}

static void ft__input_fault(ft__graph_reader *r, const char *name, int value, int i)
{
    char text[400];
    snprintf(text, sizeof text, "input %d, \"%.200s\", is no node before it", i + 1,
             ft__json_string(r->json, value) ? ft__json_string(r->json, value) : "(a number)");
    ft__graph_fault(r, name, text);
}

static ft_node ft__read_operator(ft__graph_reader *r, int node, int op, const char *name)
{
    static const char *const known[] = {"op", "name", "inputs", "frozen", NULL};
    const ft__row *row = ft__rows[op];
    const ft__field *field = row->fields;
    int list = ft__json_member(r->json, node, "inputs"), count = ft__json_count(r->json, list);
    int i, at;
    ft_node *inputs, made = {0};
    ft__options options;
    char expected[80];
    memset(&options, 0, sizeof options);
    if (row->forward) /* else it is left out (operators/rows), which its shape rule says */
        ft__check_keys(r, node, name, known, field);
    for (; field->name; ++field) ft__read_field(r, node, name, field, &options);
    if (!ft__json_at(r->json, list, 'a') || count < row->least_inputs || count > row->most_inputs) {
        if (row->most_inputs == INT_MAX) snprintf(expected, sizeof expected, "at least");
        else snprintf(expected, sizeof expected, "%d to", row->least_inputs);
        snprintf(expected + strlen(expected), sizeof expected - strlen(expected),
                 " %d names of nodes, but there are %d", row->most_inputs == INT_MAX
                 ? row->least_inputs : row->most_inputs, count);
        ft__field_fault(r, name, "inputs", expected);
        return made;
    }
    inputs = (ft_node *)ft__allocate(&r->m->context, (size_t)count + 1, sizeof *inputs);
    for (i = 0, at = list + 1; inputs && i < count; ++i, at = r->json->values[at].next) {
        inputs[i] = ft__read_reference(r, at);
        if (!inputs[i].id) ft__input_fault(r, name, at, i);
    }
    if (inputs) made = ft__add_node(r->m, row, name, inputs, count, &options, sizeof options);
    ft__release(&r->m->context, inputs);
    return made;
}

static ft_status ft__read_node(ft__graph_reader *r, int node)
{
    const char *op_name = ft__json_string(r->json, ft__json_member(r->json, node, "op"));
    const char *name = ft__json_string(r->json, ft__json_member(r->json, node, "name"));
    int op = op_name ? ft__op_named(op_name) : FT__OP_none;
    char where[40];
    ft_node made;
    ft__node *added;
    snprintf(where, sizeof where, "node %d", r->count + 1);
    if (!name || !*name) return ft__field_fault(r, where, "name", "a text that is not empty");
    if (op == FT__OP_none) {
        char text[120];
        snprintf(text, sizeof text, "the name of an operator, which \"%.60s\" is not",
                 op_name ? op_name : "");
        return ft__field_fault(r, name, "op", text);
    }
    made = ft__rows[op]->flags & FT__LEAF ? ft__read_leaf(r, node, op, name)
                                          : ft__read_operator(r, node, op, name);
    added = ft__get_node(r->m, made);
    if (!added) return r->m->context.status;
    added->frozen = ft__json_true(r->json, ft__json_member(r->json, node, "frozen"));
    r->ids[r->count++] = made.id;
    return r->m->context.status;
}

static void ft__read_preprocessing(ft__graph_reader *r, int value)
{
    static const char *const known[] = {"width", "height", "channels", "resize", "mean", "std",
                                        "bicubic", "stretch", NULL};
    static const char where[] = "preprocessing";
    ft_preprocessing p;
    int64_t number;
    double share;
    int i, at, k;
    int *to[4];
    if (value < 0) return;
    memset(&p, 0, sizeof p);
    to[0] = &p.width;
    to[1] = &p.height;
    to[2] = &p.channels;
    to[3] = &p.resize;
    ft__check_keys(r, value, where, known, ft__no_fields);
    for (i = 0; i < 4; ++i) {
        at = ft__json_member(r->json, value, known[i]);
        if (ft__json_int(r->json, at, &number) && number >= 0 && number <= (i == 2 ? 4 : 65535))
            *to[i] = (int)number;
        else if (at >= 0 || i < 3)
            ft__field_fault(r, where, known[i], i == 2 ? "a whole number from 1 to 4"
                                                       : "a whole number from 0 to 65535");
    }
    for (k = 0; k < 2; ++k) {
        int list = ft__json_member(r->json, value, known[4 + k]);
        int count = ft__json_count(r->json, list);
        if (list >= 0 && (count > 4 || !ft__json_at(r->json, list, 'a'))) count = -1;
        for (i = 0, at = list + 1; i < count; ++i, at = r->json->values[at].next) {
            if (!ft__json_double(r->json, at, &share)) count = -1;
            else (k ? p.std : p.mean)[i] = (float)share;
        }
        if (count < 0) ft__field_fault(r, where, known[4 + k], "a list of up to 4 numbers");
    }
    for (k = 0; k < 2; ++k) {
        at = ft__json_member(r->json, value, known[6 + k]);
        if (at >= 0 && !ft__json_at(r->json, at, 't') && !ft__json_at(r->json, at, 'f'))
            ft__field_fault(r, where, known[6 + k], "true or false");
        *(k ? &p.stretch : &p.bicubic) = ft__json_true(r->json, at);
    }
    if (p.width > 0) ft_set_preprocessing(r->m, p);
}

/* The node that the description names as output, loss or text vector; if it is -1 or missing, there
   is none. */
static ft_node ft__read_result(ft__graph_reader *r, const char *key)
{
    int value = ft__json_member(r->json, 0, key);
    ft_node node = ft__read_reference(r, value), none = {0};
    int64_t number = 0;
    if (value < 0 || (ft__json_int(r->json, value, &number) && number == -1)) return none;
    if (!node.id) ft__field_fault(r, "the network", key, "the name of a node");
    else if (!ft__is_leaf(&r->m->nodes[node.id - 1])) return node;
    else ft__fail(&r->m->context, FT_FORMAT, "%s: the network's description: the %s is %.200s,"
                  " which is an input or a weight, not the result of an operator", r->path, key,
                  r->m->nodes[node.id - 1].name);
    return none;
}

static void ft__read_classes(ft__graph_reader *r, int list)
{
    if (list >= 0 && !ft__json_at(r->json, list, 'a'))
        ft__field_fault(r, "the network", "classes", "a list of names");
    if (ft__json_count(r->json, list) == 0 || !ft__ok(&r->m->context)) return;
    if (!ft__set_classes(r->m, r->json, list))
        ft__field_fault(r, "the network", "classes", "a list of names");
}

/* Another format than this version's, or no description at all. */
static ft_status ft__check_format(ft__graph_reader *r)
{
    static const char *const known[] = {
        "format", "version", "architecture", "keras_initialisers", "nodes", "max_length", "pairs",
        "output", "loss", "text_vector", "normalize", "classes", "preprocessing",
        FT__HAS_DATA ? "temperature" : NULL, NULL}; /* elsewhere it would have no effect */
    ft__context *c = &r->m->context;
    int64_t format = FT__FILE_FORMAT;
    int value = ft__json_member(r->json, 0, "format");
    if (value >= 0 && (!ft__json_int(r->json, value, &format) || format != FT__FILE_FORMAT))
        return ft__fail(c, FT_FORMAT, "%s: a model file of format %lld, but this version reads"
                        " format %d", r->path, (long long)format, FT__FILE_FORMAT);
    if (!ft__json_at(r->json, ft__json_member(r->json, 0, "nodes"), 'a'))
        return ft__fail(c, FT_FORMAT, "%s: not a network's description, which has a list \"nodes\""
                        " (docs/networks.md)", r->path);
    ft__check_keys(r, 0, "the network", known, ft__no_fields);
    return c->status;
}

static ft_status ft__read_temperature(ft__graph_reader *r)
{
    int field = ft__json_member(r->json, 0, "temperature");
    double value = 0;
    if (field < 0) return r->m->context.status;
    if (!ft__json_double(r->json, field, &value) || !(value > 0 && value <= (double)FLT_MAX))
        return ft__field_fault(r, "the network", "temperature", "a number above 0");
    return ft_set_temperature(r->m, (float)value);
}

static ft_status ft__read_graph(ft__graph_reader *r)
{
    ft_model *m = r->m;
    ft__context *c = &m->context;
    int nodes = ft__json_member(r->json, 0, "nodes"), count = ft__json_count(r->json, nodes), i;
    int longest = ft__json_member(r->json, 0, "max_length");
    const char *architecture = ft__json_string(r->json,
                                               ft__json_member(r->json, 0, "architecture"));
    int64_t max_length = 0;
    ft_node output, loss, vector;
    ft_text_vector_options vectors;
    if (ft__check_format(r) != FT_OK) return c->status;
    m->keras_initialisers = ft__json_true(r->json, ft__json_member(r->json, 0,
                                                                   "keras_initialisers"));
    r->ids = (int *)ft__allocate(c, (size_t)count + 1, sizeof *r->ids);
    for (i = nodes + 1; ft__ok(c) && i < r->json->values[nodes].next;
         i = r->json->values[i].next) ft__read_node(r, i);
    if (!ft__ok(c)) return c->status;
    output = ft__read_result(r, "output");
    loss = ft__read_result(r, "loss");
    vector = ft__read_result(r, "text_vector");
    vectors.normalize = ft__json_true(r->json, ft__json_member(r->json, 0, "normalize"));
    if (output.id) ft_set_output(m, output);
    if (loss.id) ft_set_loss(m, loss);
    if (vector.id) ft_set_text_vector(m, vector, vectors);
    if (architecture) ft__set_architecture(m, architecture);
    ft__read_preprocessing(r, ft__json_member(r->json, 0, "preprocessing"));
    if (longest >= 0 && (!ft__json_int(r->json, longest, &max_length) || max_length < 1
                         || max_length > INT_MAX))
        return ft__field_fault(r, "the network", "max_length", "a whole number above 0");
    if (longest >= 0) m->max_length = (int)max_length;
    m->pairs = ft__json_true(r->json, ft__json_member(r->json, 0, "pairs"));
    ft__read_classes(r, ft__json_member(r->json, 0, "classes"));
    return FT__HAS_DATA ? ft__read_temperature(r) : c->status;
}

/* Builds the network of a description. `file`: has its weights, which are loaded afterwards; NULL:
   they are drawn, or with values_follow follow. */
static ft_status ft__load_graph(ft_model *m, const char *text, ft_file *file, const char *path)
{
    ft__context *c = &m->context;
    ft__graph_reader r;
    size_t fault = 0;
    memset(&r, 0, sizeof r);
    r.m = m;
    r.file = file;
    r.path = path;
    r.json = ft__json_parse_at(c, text, strlen(text), &fault);
    if (r.json) ft__read_graph(&r);
    else ft__fail(c, FT_FORMAT, "%s: the network's description is not JSON at offset %zu", path,
                  fault);
    ft__release(c, r.ids);
    ft__json_free(c, r.json);
    return c->status;
}
