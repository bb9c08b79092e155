#pragma once
#include "interface/requirements.h"
#include "interface/types.h"
#include "interface/operators.h"
#include "platform/families.h"
#include "platform/context.h"
#include "basics/strings.h"
#include "nodes/nodes.h"
#include "nodes/names.h"
#include "nodes/initialisers.h"
#include "operators/table.h"

/* =============================================================================================
   [SECTION] operators/adding: Adding nodes
   What every function that builds a node stands on, and the parameters of layers. The functions
   themselves, ft_conv2d and so on, follow the rows of their operators.
   ============================================================================================= */
/* ---- Names and patterns without a match ---- */

/* Suggests a name among the nodes that count: " (the nearest name is ...)", or "" if none is near.
   The name of a layer means its parameters: the pattern with a star. */
static void ft__nearest_name(const ft_model *m, const char *pattern, const char *end,
                             bool (*counts)(const ft__node *), char *text, size_t size)
{
    int best = (int)(end - pattern) / 3 + 1, i; /* more than that is another name */
    size_t bytes = (size_t)(end - pattern);
    text[0] = 0;
    for (i = 0; i < m->node_count; ++i) {
        const ft__node *node = &m->nodes[i];
        int distance;
        if (!counts(node)) continue;
        if (strncmp(node->name, pattern, bytes) == 0 && node->name[bytes] == '.') {
            snprintf(text, size, " (\"%.*s*\" would match %.150s)", (int)bytes, pattern,
                     node->name);
            return;
        }
        distance = ft__glob_distance(pattern, end, node->name);
        if (distance > best || (distance == best && text[0])) continue;
        best = distance;
        snprintf(text, size, " (the nearest name is %.150s)", node->name);
    }
}

/* Finds the first of the comma-separated patterns that matches no node that counts; false if each
   has a match. A star alone means "all that there is", which may be nothing. */
static bool ft__unmatched(const ft_model *m, const char *patterns, bool (*counts)(const ft__node *),
                          char *text, size_t size)
{
    char nearest[200];
    while (patterns && *patterns) {
        const char *end = patterns;
        int i;
        while (*end && *end != ',') ++end;
        for (i = 0; i < m->node_count; ++i)
            if (counts(&m->nodes[i]) && ft__glob_one(patterns, end, m->nodes[i].name)) break;
        if (i == m->node_count && end > patterns && !(end == patterns + 1 && *patterns == '*')) {
            ft__nearest_name(m, patterns, end, counts, nearest, sizeof nearest);
            snprintf(text, size, "\"%.*s\" matches no name%s",
                     (int)(end - patterns > 100 ? 100 : end - patterns), patterns, nearest);
            return true;
        }
        patterns = *end ? end + 1 : end;
    }
    return false;
}

/* Only logs it: a pattern may be meant for several networks, some of which do not match it. */
static void ft__say_unmatched(ft_model *m, const char *call, const char *patterns,
                              bool (*counts)(const ft__node *))
{
    char text[400];
    if (ft__usable(m) && m->node_count > 0
        && ft__unmatched(m, patterns, counts, text, sizeof text))
        ft__log(&m->context, "%s: %s", call, text);
}

/* Why a node may be {0}: ft_find did not find its name. */
static const char *ft__why_none(const ft_model *m, ft_node node, char text[400])
{
    char nearest[200];
    text[0] = 0;
    if (node.id || !m->not_found[0]) return text;
    ft__nearest_name(m, m->not_found, m->not_found + strlen(m->not_found), ft__is_any, nearest,
                     sizeof nearest);
    snprintf(text, 400, ": ft_find found no node named \"%s\"%s", m->not_found, nearest);
    return text;
}

/* Runs a node's shape rule on the shapes that its inputs have now. */
static ft_status ft__infer_shape(ft_model *m, ft__node *node, const ft__row *row)
{
    ft__context *c = &m->context;
    ft__tensor few[8], *input = few;
    ft_status status;
    int i;
    if (!row->shape) return c->status; /* a leaf */
    if (node->input_count > 8)
        input = (ft__tensor *)ft__allocate(c, (size_t)node->input_count, sizeof *input);
    if (!input) return c->status;
    memset(few, 0, sizeof few);
    for (i = 0; i < node->input_count; ++i) {
        const ft__node *from = &m->nodes[node->inputs[i] - 1];
        memset(&input[i], 0, sizeof input[i]);
        input[i].shape = from->shape;
        input[i].type = from->type;
    }
    status = row->shape(c, node, input, node->input_count, &node->shape);
    if (FT__HAS_ARITHMETIC && row->flags & FT__INTEGERS) node->type = FT_I32;
    if (input != few) ft__release(c, input);
    return status;
}

static bool ft__grow_nodes(ft_model *m)
{
    int capacity = m->node_capacity ? 2 * m->node_capacity : 64;
    ft__node *nodes;
    int *order;
    if (m->node_count < m->node_capacity) return true;
    nodes = (ft__node *)ft__grow(&m->context, m->nodes, (size_t)m->node_count, (size_t)capacity,
                                 sizeof *nodes);
    if (!nodes) return false;
    m->nodes = nodes;
    order = (int *)ft__grow(&m->context, m->order, (size_t)m->node_count, (size_t)capacity,
                            sizeof *order);
    if (!order) return false;
    m->order = order;
    if (!ft__grow_names(m, capacity)) return false;
    m->node_capacity = capacity;
    return true;
}

/* Appends a node; {0} with an error if its inputs do not fit or its name is taken. `options`: the
   operator's member of ft__options, of so many bytes; NULL: zeros. */
static ft_node ft__add_node(ft_model *m, const ft__row *row, const char *name,
                            const ft_node *inputs, int count, const void *options, size_t bytes)
{
    ft__context *c;
    ft_node result = {0};
    ft__node *node;
    char made_up[32], why[400];
    int i;
    if (!ft__usable(m)) return result;
    c = &m->context;
    if (count < 0) ft__fail(c, FT_INVALID, "%s: %d inputs: the number must not be negative",
                            name ? name : "a layer", count);
    if (count > 0 && !ft__given(c, inputs, "the list of a layer's inputs")) return result;
    if (!ft__ok(c)) return result;
    if (!name || !*name) {
        snprintf(made_up, sizeof made_up, "%s_%d", row->name, m->node_count + 1);
        name = made_up;
    }
    if (ft__find_node(m, name).id) {
        ft__fail(c, FT_INVALID, "%s: the network already has a node of this name", name);
        return result;
    }
    for (i = 0; i < count; ++i) {
        const ft__node *input = ft__get_node(m, inputs[i]);
        if (input && ft__is_any(input)) continue;
        ft__fail(c, FT_INVALID, "%s: input %d is not a node of this model%s", name, i + 1,
                 ft__why_none(m, inputs[i], why));
        return result;
    }
    if (!ft__grow_nodes(m)) return result;
    node = &m->nodes[m->node_count];
    memset(node, 0, sizeof *node);
    node->op = row->op;
    node->name = ft__copy_text(c, name);
    node->inputs = (int *)ft__allocate(c, (size_t)count + 1, sizeof *node->inputs);
    if (options) memcpy(&node->options, options, bytes);
    node->learning_rate_factor = 1.0f;
    node->weight_decay = -1.0f;
    if (ft__ok(c)) {
        for (i = 0; i < count; ++i) node->inputs[i] = inputs[i].id;
        node->input_count = count;
        ft__infer_shape(m, node, row);
    }
    if (!ft__ok(c)) {
        ft__release(c, node->name);
        ft__release(c, node->inputs);
        memset(node, 0, sizeof *node);
        return result;
    }
    m->order[m->node_count] = m->node_count + 1;
    result.id = ++m->node_count;
    ft__list_node(m, result.id);
    m->version += 1;
    return result;
}

/* The row of this kind in a list that ends with NULL; NULL with an error if there is none. `what`:
   "reduction", ... */
static const ft__row *ft__row_of_kind(ft_model *m, const char *kind, const ft__row *const *rows,
                                      const char *what)
{
    char known[300] = "", argument[80];
    int i;
    snprintf(argument, sizeof argument, "the kind of the %s", what);
    if (!ft__usable(m) || !ft__given(&m->context, kind, argument)) return NULL;
    for (i = 0; rows[i]; ++i)
        if (strcmp(rows[i]->name, kind) == 0) return rows[i];
    for (i = 0; rows[i]; ++i) ft__add_name(known, sizeof known, rows[i]->name);
    ft__fail(&m->context, FT_INVALID, "%s: unknown %s; it must be one of %s", kind, what, known);
    return NULL;
}

ft_node ft_input(ft_model *m, const char *name, ft_input_options options)
{
    ft_node node = ft__add_node(m, &ft__row_input, name, NULL, 0, NULL, 0);
    ft__node *made = ft__get_node(m, node);
    int d;
    if (!made) return node;
    made->type = options.type;
    made->shape.rank = 1;
    made->shape.size[0] = FT_BATCH;
    for (d = 0; d < FINETUNE_MAX_RANK - 1 && options.size[d] != 0; ++d) {
        if (options.size[d] < 0 && options.size[d] != FT_LENGTH)
            ft__fail(&m->context, FT_INVALID, "%s: size %d is negative", name, options.size[d]);
        made->shape.size[made->shape.rank++] = options.size[d];
    }
    if (options.type != FT_F32 && options.type != FT_I32)
        ft__fail(&m->context, FT_INVALID, "%s: the type of an input must be FT_F32 or FT_I32",
                 name);
    return node;
}

/* Removes a leaf that was added last, and whose values could not be made. */
static ft_node ft__drop_leaf(ft_model *m, ft__node *made)
{
    ft_node none = {0};
    ft__unlist_node(m, m->node_count--);
    ft__release(&m->context, made->value);
    ft__release(&m->context, made->inputs);
    ft__release(&m->context, made->name);
    memset(made, 0, sizeof *made);
    return none;
}

/* One rule for every parameter: its memory, initial values and fans. */
ft_node ft_parameter(ft_model *m, const char *name, ft_parameter_options options)
{
    ft__context *c = m ? &m->context : NULL;
    ft_node node = ft__add_node(m, options.buffer ? &ft__row_buffer : &ft__row_parameter, name,
                                NULL, 0, NULL, 0);
    ft__node *made = ft__get_node(m, node);
    size_t count;
    if (!made) return node;
    while (made->shape.rank < FINETUNE_MAX_RANK && options.size[made->shape.rank] > 0) {
        made->shape.size[made->shape.rank] = options.size[made->shape.rank];
        made->shape.rank += 1;
    }
    count = ft__shape_count(&made->shape);
    if (count == 0 || made->shape.rank == 0)
        ft__fail(c, FT_INVALID, "%s: a parameter needs sizes above 0 that fit into memory", name);
    if ((unsigned)options.initialiser > FT_INIT_QUARTER || options.fan_in < 0
        || options.fan_out < 0)
        ft__fail(c, FT_INVALID, "%s: initialiser %d, fan_in %d, fan_out %d: the first must be"
                 " FT_INIT_DEFAULT to FT_INIT_QUARTER, the others not negative", name,
                 (int)options.initialiser, options.fan_in, options.fan_out);
    if (options.transposed && made->shape.rank != 2)
        ft__fail(c, FT_INVALID, "%s: transposed needs two sizes", name);
    if (!m->memory_follows || !ft__may_be_stored(made))
        made->value = (float *)ft__allocate(c, count, sizeof(float));
    made->initialiser = options.initialiser;
    made->fan_in = options.fan_in;
    made->fan_out = options.fan_out;
    made->transposed = options.transposed;
    if (ft__ok(c) && !m->values_follow) ft__initialise_node(m, made);
    return ft__ok(c) ? node : ft__drop_leaf(m, made);
}

ft_node ft_constant(ft_model *m, const char *name, int rank, const int *size, const float *values)
{
    ft__context *c = m ? &m->context : NULL;
    ft_node node = ft__add_node(m, &ft__row_constant, name, NULL, 0, NULL, 0);
    ft__node *made = ft__get_node(m, node);
    size_t count;
    int d;
    if (!made) return node;
    made->frozen = true;
    if (rank < 0 || rank > FINETUNE_MAX_RANK || (rank > 0 && !size) || !values) {
        ft__fail(c, FT_INVALID, "%s: a constant needs values, and 0 to %d sizes", made->name,
                 FINETUNE_MAX_RANK);
        return ft__drop_leaf(m, made);
    }
    made->shape.rank = rank ? rank : 1;
    made->shape.size[0] = 1;
    for (d = 0; d < rank; ++d) made->shape.size[d] = size[d] > 0 ? size[d] : 0;
    count = ft__shape_count(&made->shape);
    if (count == 0)
        ft__fail(c, FT_INVALID, "%s: a constant needs sizes above 0 that fit into memory",
                 made->name);
    made->value = ft__ok(c) ? (float *)ft__allocate(c, count, sizeof(float)) : NULL;
    if (!made->value) return ft__drop_leaf(m, made);
    memcpy(made->value, values, count * sizeof *values);
    return node;
}

static ft_node ft__layer_parameter(ft_model *m, const char *layer, const char *part,
                                   ft_parameter_options options)
{
    char name[512];
    ft_node none = {0};
    if (!ft__usable(m)) return none;
    if (!layer || !*layer) {
        ft__fail(&m->context, FT_INVALID, "a layer with parameters needs a name");
        return none;
    }
    snprintf(name, sizeof name, "%s.%s", layer, part);
    return ft_parameter(m, name, options);
}

/* The size of a node along a dimension; 0 with an error when it has no such dimension. */
static int ft__size_of(ft_model *m, const char *name, ft_node x, int dimension)
{
    const ft__node *node = ft__get_node(m, x);
    char why[400];
    if (!node)
        ft__fail(&m->context, FT_INVALID, "%s: its input is not a node of this model%s", name,
                 ft__why_none(m, x, why));
    if (node && dimension < 0) dimension += node->shape.rank;
    if (node && dimension >= 0 && dimension < node->shape.rank && node->shape.size[dimension] > 0)
        return node->shape.size[dimension];
    ft__fail(&m->context, FT_SHAPE, "%s: its input has no dimension %d of known size", name,
             dimension);
    return 0;
}

/* Appends a layer's weight and bias, given or made here, to its inputs, after x. */
static int ft__weight_inputs(ft_model *m, const char *name, ft_node *inputs, ft_node weight,
                             ft_node bias, bool no_bias, ft_parameter_options options)
{
    ft_parameter_options bias_options;
    memset(&bias_options, 0, sizeof bias_options);
    bias_options.size[0] = options.size[0];
    bias_options.fan_in = options.fan_in;
    bias_options.fan_out = options.fan_out;
    inputs[1] = weight.id ? weight : ft__layer_parameter(m, name, "weight", options);
    if (no_bias) return 2;
    inputs[2] = bias.id ? bias : ft__layer_parameter(m, name, "bias", bias_options);
    return 3;
}

/* A norm's weight, initially ones, and bias, zeros, as inputs after x. */
static bool ft__affine_inputs(ft_model *m, const char *name, ft_node *inputs, int size)
{
    ft_parameter_options p;
    memset(&p, 0, sizeof p);
    if (!ft__usable(m)) return false;
    p.size[0] = size;
    p.initialiser = FT_INIT_ONES;
    inputs[1] = ft__layer_parameter(m, name, "weight", p);
    p.initialiser = FT_INIT_ZEROS;
    inputs[2] = ft__layer_parameter(m, name, "bias", p);
    return ft__usable(m);
}

static int ft__pair(const int pair[2], int i, int otherwise)
{
    int value = i == 1 && pair[1] == 0 ? pair[0] : pair[i];
    return value == 0 ? otherwise : value;
}

static ft_node ft__add_simple(ft_model *m, const ft__row *row, const char *name, ft_node x)
{
    return ft__add_node(m, row, name, &x, 1, NULL, 0);
}

static ft_node ft__add_pair(ft_model *m, const ft__row *row, const char *name, ft_node a,
                            ft_node b, const void *options, size_t bytes)
{
    ft_node inputs[2];
    inputs[0] = a;
    inputs[1] = b;
    return ft__add_node(m, row, name, inputs, 2, options, bytes);
}
